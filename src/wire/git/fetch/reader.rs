//! A body read line by line, in steps.

use super::super::FIXED_AGENT;
use super::super::capabilities::{self, Capabilities};
use super::super::pkt_line::{self, Packet, PacketError, chomped};
use super::super::version::ProtocolVersion;
use super::arguments::{
    Argument, FETCH, LS_REFS, MAX_ARGUMENTS, OBJECT_FORMAT, OBJECT_INFO, V0_HAVES, V0_NEEDS, Value,
    is_filter, is_name, is_number, is_of_archive, printable,
};
use super::told::{FetchError, FetchKind, FetchRequest};
use crate::words::git::{ObjectFormat, ObjectId, Operation};

/// How many bytes of a body one step reads: some 1,300 lines.
const STEP: usize = 64 * 1024;

/// Reads a whole body of upload-pack or upload-archive.
#[derive(Debug)]
pub struct FetchReader<'b> {
    rest: &'b [u8],
    stage: Stage,
    format: ObjectFormat,
    /// The fixed form, if it is asked for.
    out: Option<Vec<u8>>,
    /// Whether the last line ended with a line feed. Git's server takes it off; another might not.
    feed: bool,
    told: FetchRequest,
    /// Arguments that were there, of those that may be there once where the fixed form is asked for.
    once: Vec<&'b str>,
    /// How many lines of an archive there were.
    arguments: usize,
}

/// What comes next.
#[derive(Clone, Copy, Debug)]
enum Stage {
    /// The first line of `gitprotocol-v2`: a command.
    Command,
    /// Its capabilities, and after a delimiter these arguments.
    Capabilities(&'static [Argument]),
    Arguments(&'static [Argument]),
    /// The first line of `gitprotocol-pack`: a want, with what the client can do.
    First,
    /// Further wants and depths, to a flush.
    Needs,
    /// Haves, to `done`, to a flush or to the end.
    Haves,
    /// Some clients end it with a flush, too.
    AfterDone,
    /// Arguments of an archive.
    Archive,
    Done,
}

impl<'b> FetchReader<'b> {
    /// Only reads.
    pub fn new(body: &'b [u8], kind: FetchKind) -> Self {
        FetchReader::with(body, kind, None)
    }

    /// Writes it anew, too, as [`FetchRequest::fixed`] does.
    pub fn fixing(body: &'b [u8], kind: FetchKind) -> Self {
        FetchReader::with(body, kind, Some(Vec::with_capacity(body.len())))
    }

    fn with(rest: &'b [u8], kind: FetchKind, out: Option<Vec<u8>>) -> Self {
        let told = FetchRequest { operation: None, wants: 0, haves: 0 };
        let stage = match kind {
            FetchKind::Archive => Stage::Archive,
            FetchKind::Pack(ProtocolVersion::V2) => Stage::Command,
            FetchKind::Pack(_) => Stage::First,
        };
        let format = ObjectFormat::Sha1;
        let mut reader =
            FetchReader { rest, stage, format, out, feed: false, told, once: Vec::new(), arguments: 0 };
        // The probe.
        if rest == b"0000" && kind != FetchKind::Archive {
            reader.special(rest);
            reader.rest = b"";
            reader.stage = Stage::Done;
        }
        reader
    }

    /// Reads on, a bounded part of the body. Whether it is read whole.
    ///
    /// # Errors
    /// See [`FetchError`].
    pub fn step(&mut self) -> Result<bool, FetchError> {
        let until = self.rest.len().saturating_sub(STEP);
        while !self.is_whole() {
            if !self.rest.is_empty() && self.rest.len() <= until {
                return Ok(false);
            }
            self.line()?;
        }
        if self.rest.is_empty() { Ok(true) } else { Err(FetchError::After) }
    }

    /// What it says, and its fixed form if that was asked for.
    pub fn into_parts(self) -> (FetchRequest, Vec<u8>) {
        (self.told, self.out.unwrap_or_default())
    }

    fn is_whole(&self) -> bool {
        match self.stage {
            Stage::Done => true,
            Stage::Haves | Stage::AfterDone => self.rest.is_empty(),
            _ => false,
        }
    }

    fn line(&mut self) -> Result<(), FetchError> {
        match self.stage {
            Stage::Command => {
                let Some(line) = self.data()? else { return Err(FetchError::Command) };
                self.stage = Stage::Capabilities(self.command(line)?);
            }
            Stage::Capabilities(arguments) => match self.next()? {
                Packet::Data(line) => {
                    let line = self.chomped(line);
                    self.v2_capability(line)?;
                }
                Packet::Delimiter => {
                    self.special(b"0001");
                    self.stage = Stage::Arguments(arguments);
                }
                Packet::Flush => {
                    self.special(b"0000");
                    self.stage = Stage::Done;
                }
                Packet::ResponseEnd => return Err(FetchError::Special),
            },
            Stage::Arguments(arguments) => self.one_of(arguments, Stage::Done)?,
            Stage::First => {
                self.told.operation = Some(Operation::Fetch);
                let Some(first) = self.data()? else { return Err(FetchError::After) };
                self.first_want(first)?;
                self.stage = Stage::Needs;
            }
            Stage::Needs => self.one_of(&V0_NEEDS, Stage::Haves)?,
            Stage::Haves => self.one_of(&V0_HAVES, Stage::Done)?,
            Stage::AfterDone => {
                if self.data()?.is_some() {
                    return Err(FetchError::After);
                }
                self.stage = Stage::Done;
            }
            Stage::Archive => match self.data()? {
                Some(line) => self.of_archive(line)?,
                None => self.stage = Stage::Done,
            },
            Stage::Done => {}
        }
        Ok(())
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

    fn command(&mut self, line: &[u8]) -> Result<&'static [Argument], FetchError> {
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
        Ok(arguments)
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

    /// One line of `arguments`, or the flush after them, which `next` follows.
    fn one_of(&mut self, arguments: &'static [Argument], next: Stage) -> Result<(), FetchError> {
        let Some(line) = self.data()? else {
            self.stage = next;
            return Ok(());
        };
        self.argument(line, arguments)?;
        if line == b"done" && matches!(self.stage, Stage::Haves) {
            self.stage = Stage::AfterDone;
        }
        Ok(())
    }

    /// An argument of `git archive`.
    fn of_archive(&mut self, line: &[u8]) -> Result<(), FetchError> {
        let argument = printable(line.strip_prefix(b"argument ").ok_or(FetchError::Command)?)?;
        self.arguments += 1;
        if self.arguments > MAX_ARGUMENTS {
            return Err(FetchError::Arguments);
        }
        if self.out.is_some() && !is_of_archive(argument) {
            return Err(FetchError::Archive);
        }
        self.told.operation = Some(Operation::Fetch);
        self.keep(line)
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
