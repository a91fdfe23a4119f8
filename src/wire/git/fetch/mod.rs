//! The body of a request to upload-pack or upload-archive, read whole: it is held under `negotiation_limit`.
//!
//! Whatever it asks for, it only reads. But it says things to the server: ids that need not exist, prefixes, options, names.
//! So it is counted for the record, and [`FetchRequest::fixed`] writes it anew where nothing shall go out but what a fetch needs.

use thiserror::Error;

use super::FIXED_AGENT;
use super::capabilities::{self, Capabilities};
use super::pkt_line::{self, Packet, PacketError, chomped};
use super::version::ProtocolVersion;
use crate::words::git::{ObjectFormat, ObjectId, Operation};

/// What a body asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FetchRequest {
    /// What it asks for: [`Operation::List`] for `ls-refs`, else [`Operation::Fetch`]. `None` for the probe `0000`, by which git
    /// finds out whether it may send more.
    pub operation: Option<Operation>,
    /// How many objects and refs are wanted.
    pub wants: usize,
    /// How many objects the client says that it has.
    pub haves: usize,
}

/// Why a body is refused. Quotes nothing from it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum FetchError {
    /// Not a line.
    #[error("{0}")]
    Packet(#[from] PacketError),
    /// The body ends too early.
    #[error("a body that ends before the request does")]
    Incomplete,
    /// Bytes that git's server would not read.
    #[error("a body that goes on after the request")]
    After,
    /// A special line where it does not belong.
    #[error("a special line where the protocol has none")]
    Special,
    /// Not what this version of the protocol begins with.
    #[error("a request that is not of the protocol version that `Git-Protocol` names")]
    Version,
    /// A command that does not exist, or a second one.
    #[error("a request without one of the commands ls-refs, fetch, object-info and bundle-uri")]
    Command,
    /// A `want`, `have`, `shallow` or `oid` without an id, or with more.
    #[error("a line that is not one id in lower case")]
    Id,
    /// Capabilities.
    #[error("{0}")]
    Capabilities(&'static str),
    /// Control characters, or not UTF-8.
    #[error("a line that is not printable text")]
    Text,
    /// An argument twice that a fetch needs once.
    #[error("an argument twice that may be there once")]
    Twice,
    /// A ref, where only what a fetch needs may go out.
    #[error("a ref that git could not have, or with a name of more than 255 bytes")]
    Name,
    /// A filter, where only what a fetch needs may go out.
    #[error("a filter other than blob:none, blob:limit=SIZE, tree:DEPTH and object:type=KIND")]
    Filter,
    /// Something that is not known, where only what a fetch needs may go out.
    #[error(
        "a line that no fetch needs: where `fetch` is allowed without `push`, server options and unknown lines are refused"
    )]
    Unknown,
}

impl FetchRequest {
    /// Reads a body of upload-pack.
    ///
    /// # Errors
    /// See [`FetchError`].
    pub fn read(body: &[u8], version: ProtocolVersion) -> Result<Self, FetchError> {
        Reader::new(body, None).upload_pack(version).map(|(told, _)| told)
    }

    /// Reads a body of upload-pack, and writes it in a form that says nothing of the client: agent and session are replaced,
    /// lengths written in one way. A server that gets it does the same as with the original.
    ///
    /// # Errors
    /// See [`FetchError`]; server options and lines that are not known are refused, too.
    pub fn fixed(body: &[u8], version: ProtocolVersion) -> Result<(Self, Vec<u8>), FetchError> {
        let out = Some(Vec::with_capacity(body.len()));
        let (told, out) = Reader::new(body, out).upload_pack(version)?;
        Ok((told, out.unwrap_or_default()))
    }

    /// Reads a body of upload-archive: arguments of `git archive`.
    ///
    /// # Errors
    /// See [`FetchError`].
    pub fn read_archive(body: &[u8]) -> Result<Self, FetchError> {
        let mut reader = Reader::new(body, None);
        while let Some(line) = reader.data()? {
            let argument = line.strip_prefix(b"argument ").ok_or(FetchError::Command)?;
            printable(argument)?;
            reader.told.operation = Some(Operation::Fetch);
        }
        reader.end().map(|(told, _)| told)
    }
}

struct Reader<'b> {
    rest: &'b [u8],
    format: ObjectFormat,
    /// The fixed form, if it is asked for.
    out: Option<Vec<u8>>,
    /// Whether the last line ended with a line feed. Git's server takes it off; another might not.
    feed: bool,
    told: FetchRequest,
    /// Arguments that were there, of those that may be there once where the fixed form is asked for.
    once: Vec<&'b str>,
}

impl<'b> Reader<'b> {
    fn new(rest: &'b [u8], out: Option<Vec<u8>>) -> Self {
        let told = FetchRequest { operation: None, wants: 0, haves: 0 };
        Reader { rest, format: ObjectFormat::Sha1, out, feed: false, told, once: Vec::new() }
    }

    fn next(&mut self) -> Result<Packet<'b>, FetchError> {
        let (packet, length) = pkt_line::next(self.rest)?.ok_or(FetchError::Incomplete)?;
        self.rest = self.rest.get(length..).unwrap_or_default();
        Ok(packet)
    }

    /// The next line, without its line feed; `None` at a flush, which is written.
    fn data(&mut self) -> Result<Option<&'b [u8]>, FetchError> {
        match self.next()? {
            Packet::Data(line) => Ok(Some(self.chomped(line))),
            Packet::Flush => {
                self.special(b"0000");
                Ok(None)
            }
            Packet::Delimiter | Packet::ResponseEnd => Err(FetchError::Special),
        }
    }

    fn special(&mut self, line: &[u8]) {
        if let Some(out) = &mut self.out {
            out.extend_from_slice(line);
        }
    }

    fn chomped(&mut self, line: &'b [u8]) -> &'b [u8] {
        let chomped = chomped(line);
        self.feed = chomped.len() < line.len();
        chomped
    }

    /// Writes a line as the last one ended that was read.
    fn keep(&mut self, line: &[u8]) -> Result<(), FetchError> {
        let Some(out) = &mut self.out else { return Ok(()) };
        let end: &[u8] = if self.feed { b"\n" } else { b"" };
        // A longer agent in place of a shorter one may be too much.
        if line.len() + end.len() > pkt_line::MAX_LINE - 4 {
            return Err(PacketError::TooLong.into());
        }
        pkt_line::write(out, &[line, end]);
        Ok(())
    }

    fn end(self) -> Result<(FetchRequest, Option<Vec<u8>>), FetchError> {
        if self.rest.is_empty() { Ok((self.told, self.out)) } else { Err(FetchError::After) }
    }

    fn upload_pack(
        mut self,
        version: ProtocolVersion,
    ) -> Result<(FetchRequest, Option<Vec<u8>>), FetchError> {
        if self.rest == b"0000" {
            self.special(b"0000");
            self.rest = b"";
            return self.end();
        }
        if version == ProtocolVersion::V2 { self.v2() } else { self.v0() }
    }

    /// `gitprotocol-v2`: a command, capabilities, and after a delimiter the command's arguments.
    fn v2(mut self) -> Result<(FetchRequest, Option<Vec<u8>>), FetchError> {
        let Some(line) = self.data()? else { return Err(FetchError::Command) };
        let command = line.strip_prefix(b"command=").ok_or(FetchError::Version)?;
        let arguments: &[Argument] = match command {
            b"ls-refs" => &LS_REFS,
            b"fetch" => &FETCH,
            b"object-info" => &OBJECT_INFO,
            b"bundle-uri" => &[],
            _ => return Err(FetchError::Command),
        };
        self.told.operation = Some(if command == b"ls-refs" { Operation::List } else { Operation::Fetch });
        self.keep(line)?;
        loop {
            match self.next()? {
                Packet::Data(line) => {
                    let line = self.chomped(line);
                    self.v2_capability(line)?;
                }
                Packet::Delimiter => {
                    self.special(b"0001");
                    break;
                }
                Packet::Flush => {
                    self.special(b"0000");
                    return self.end();
                }
                Packet::ResponseEnd => return Err(FetchError::Special),
            }
        }
        while let Some(line) = self.data()? {
            self.argument(line, arguments)?;
        }
        self.end()
    }

    fn v2_capability(&mut self, line: &[u8]) -> Result<(), FetchError> {
        let line = printable(line)?;
        let name = line.split_once('=').map_or(line, |(name, _)| name);
        match name {
            "command" => Err(FetchError::Command),
            "object-format" => {
                self.format = match line {
                    "object-format=sha1" => ObjectFormat::Sha1,
                    "object-format=sha256" => ObjectFormat::Sha256,
                    _ => return Err(FetchError::Capabilities(OBJECT_FORMAT)),
                };
                self.keep(line.as_bytes())
            }
            "agent" if self.out.is_some() => self.keep(format!("agent={FIXED_AGENT}").as_bytes()),
            "session-id" if self.out.is_some() => Ok(()),
            _ if self.out.is_some() => Err(FetchError::Unknown),
            _ => Ok(()),
        }
    }

    /// One line of `arguments`.
    fn argument(&mut self, line: &'b [u8], arguments: &[Argument]) -> Result<(), FetchError> {
        let text = printable(line)?;
        let (name, value) = match text.split_once(' ') {
            Some((name, value)) => (name, Some(value)),
            None => (text, None),
        };
        let known = arguments.iter().find(|argument| argument.0 == name);
        match (known.map(|argument| argument.1), value) {
            (Some(Value::Id), Some(id)) => self.id(id.as_bytes())?,
            (Some(Value::Number), Some(number)) if is_number(number) => {}
            (Some(Value::Ref), Some(value)) if !value.is_empty() => {
                if self.out.is_some() && !is_name(value) {
                    return Err(FetchError::Name);
                }
            }
            (Some(Value::Filter), Some(value)) if !value.is_empty() => {
                if self.out.is_some() && !is_filter(value) {
                    return Err(FetchError::Filter);
                }
            }
            // It asks for answers from another host.
            (Some(Value::Uris), Some(value)) if !value.is_empty() && self.out.is_none() => {}
            (Some(Value::None), None) => {}
            (Some(Value::Id), _) => return Err(FetchError::Id),
            (None, _) if self.out.is_none() => {}
            _ => return Err(FetchError::Unknown),
        }
        let often =
            ["want", "want-ref", "oid", "have", "shallow", "ref-prefix", "deepen-not"].contains(&name);
        if self.out.is_some() && !often {
            if self.once.contains(&name) {
                return Err(FetchError::Twice);
            }
            self.once.push(name);
        }
        match name {
            "want" | "want-ref" | "oid" => self.told.wants += 1,
            "have" => self.told.haves += 1,
            _ => {}
        }
        self.keep(line)
    }

    fn id(&self, id: &[u8]) -> Result<(), FetchError> {
        ObjectId::read(id, self.format).map(drop).ok_or(FetchError::Id)
    }

    /// `gitprotocol-pack`: wants and depths, a flush, haves, and `done` or a flush.
    fn v0(mut self) -> Result<(FetchRequest, Option<Vec<u8>>), FetchError> {
        self.told.operation = Some(Operation::Fetch);
        let Some(first) = self.data()? else { return Err(FetchError::After) };
        self.first_want(first)?;
        while let Some(line) = self.data()? {
            self.argument(line, &V0_NEEDS)?;
        }
        while !self.rest.is_empty() {
            let Some(line) = self.data()? else { break };
            self.argument(line, &V0_HAVES)?;
            if line == b"done" {
                // Some clients end it with a flush, too.
                if !self.rest.is_empty() && self.data()?.is_some() {
                    return Err(FetchError::After);
                }
                break;
            }
        }
        self.end()
    }

    fn first_want(&mut self, line: &[u8]) -> Result<(), FetchError> {
        let rest = line.strip_prefix(b"want ").ok_or(FetchError::Version)?;
        let end = rest.iter().position(|byte| *byte == b' ').unwrap_or(rest.len());
        let (id, words) = rest.split_at(end);
        self.format = Capabilities::read(words).map_err(FetchError::Capabilities)?.format;
        self.id(id)?;
        self.told.wants += 1;
        let words = if self.out.is_some() {
            capabilities::fixed(words).ok_or(FetchError::Unknown)?
        } else {
            Vec::new()
        };
        let space: &[u8] = if words.is_empty() { b"" } else { b" " };
        self.keep(&[b"want ", id, space, &words].concat())
    }
}

struct Argument(&'static str, Value);

#[derive(Clone, Copy)]
enum Value {
    None,
    Id,
    Number,
    /// A ref, or what refs begin with.
    Ref,
    Filter,
    Uris,
}

const LS_REFS: [Argument; 4] = [
    Argument("peel", Value::None),
    Argument("symrefs", Value::None),
    Argument("unborn", Value::None),
    Argument("ref-prefix", Value::Ref),
];

const FETCH: [Argument; 17] = [
    Argument("want", Value::Id),
    Argument("want-ref", Value::Ref),
    Argument("have", Value::Id),
    Argument("done", Value::None),
    Argument("wait-for-done", Value::None),
    Argument("thin-pack", Value::None),
    Argument("no-progress", Value::None),
    Argument("include-tag", Value::None),
    Argument("ofs-delta", Value::None),
    Argument("sideband-all", Value::None),
    Argument("shallow", Value::Id),
    Argument("deepen", Value::Number),
    Argument("deepen-relative", Value::None),
    Argument("deepen-since", Value::Number),
    Argument("deepen-not", Value::Ref),
    Argument("filter", Value::Filter),
    Argument("packfile-uris", Value::Uris),
];

const OBJECT_INFO: [Argument; 2] = [Argument("size", Value::None), Argument("oid", Value::Id)];

const V0_NEEDS: [Argument; 6] = [
    Argument("want", Value::Id),
    Argument("shallow", Value::Id),
    Argument("deepen", Value::Number),
    Argument("deepen-since", Value::Number),
    Argument("deepen-not", Value::Ref),
    Argument("filter", Value::Filter),
];

const V0_HAVES: [Argument; 2] = [Argument("have", Value::Id), Argument("done", Value::None)];

const OBJECT_FORMAT: &str = "an `object-format` that is neither sha1 nor sha256";

/// Written in one way, and no larger than a depth, or a second since 1970, is.
fn is_number(text: &str) -> bool {
    (1..=10).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_digit())
        && (text == "0" || !text.starts_with('0'))
}

/// What a ref may be called, or begin with (`git check-ref-format`), no longer than people call them.
fn is_name(text: &str) -> bool {
    const LONGEST: usize = 255;
    let never = |char: char| " ~^:?*[\\".contains(char);
    text.len() <= LONGEST
        && !text.contains(never)
        && !text.contains("..")
        && !text.contains("@{")
        && !text.contains("//")
}

/// A filter of a partial clone, without those that name an object by free text (`git rev-list --filter`).
fn is_filter(text: &str) -> bool {
    let size = |text: &str| is_number(text.strip_suffix(['k', 'm', 'g']).unwrap_or(text));
    match text.split_once(['=', ':']) {
        Some(("blob", "none")) => true,
        Some(("blob", limit)) => limit.strip_prefix("limit=").is_some_and(size),
        Some(("tree", depth)) => is_number(depth),
        Some(("object", kind)) => {
            matches!(kind, "type=commit" | "type=tree" | "type=blob" | "type=tag")
        }
        _ => false,
    }
}

fn printable(line: &[u8]) -> Result<&str, FetchError> {
    let text = std::str::from_utf8(line).map_err(|_| FetchError::Text)?;
    if text.is_empty() || text.contains(char::is_control) { Err(FetchError::Text) } else { Ok(text) }
}

#[cfg(test)]
mod tests;
