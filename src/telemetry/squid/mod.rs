//! The access log as Squid writes it: its native format, and any `logformat`.
//!
//! There are lines only for ends, as in Squid: an `open` and a `progress` have none. For the same traffic they are
//! Squid's, byte for byte, except where the client really got something else: statuses of failures (502 where Squid
//! says 503) and the sizes of replies, which have different heads here. A refusal's media type is given as Squid's
//! `text/html`, although ours is plain text, so that programs that read such logs see refusals in the form they know.
//!
//! Every value is printable ASCII when it is written, whatever was sent and however it is quoted, and a line is
//! shorter than [`LINE_BOUND`]; the text around the codes is the operator's own. Not here: the language
//! ([`crate::words::logformat`]).

use std::fmt::Display;
use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use jiff::tz::TimeZone;

use super::access_log::Format;
use super::record::{
    Cause, Event, LINE_BOUND, LoggedTarget, NoteWriter, Record, scheme, without_password, without_query,
};
use crate::rules::HostSet;
use crate::wire::head::Version;
use crate::words::logformat::{Code, Logformat, NATIVE, Piece, Quoting, What};
use crate::words::outcome::{Class, Ending, Reason};
use crate::words::target::Target;

/// Longest value of an untrusted peer, in bytes before quoting.
const LONGEST_VALUE: usize = 2048;
/// The end of a value that was cut.
const CUT_MARK: &[u8] = b"...";

/// `format: squid`, or a `logformat`.
#[derive(Debug)]
pub struct Squid {
    format: Logformat,
    zone: TimeZone,
    /// Whether upstreams are a parent proxy, and of which targets they are not.
    parent: Option<Arc<HostSet>>,
    /// Lines written since the start, in whatever format: a reload brings another format, and the count goes on.
    lines: Arc<AtomicU64>,
}

impl Squid {
    /// Writes lines of `format`. `parent`: connections go through a parent proxy, save those to these
    /// targets. `lines`: counts the lines (`%sn`).
    pub fn new(format: Logformat, parent: Option<Arc<HostSet>>, lines: Arc<AtomicU64>) -> Self {
        Squid { format, zone: TimeZone::system(), parent, lines }
    }

    /// Squid's own format.
    pub fn native(parent: Option<Arc<HostSet>>, lines: Arc<AtomicU64>) -> Self {
        // The tests of `logformat` parse it.
        let format = Logformat::parse(NATIVE).unwrap_or(Logformat { pieces: Vec::new() });
        Squid::new(format, parent, lines)
    }
}

impl Format for Squid {
    fn write(&self, record: &Record<'_>, out: &mut Vec<u8>) {
        if matches!(record.event, Event::Open | Event::Progress) {
            return;
        }
        let number = self.lines.fetch_add(1, Ordering::Relaxed);
        let start = out.len();
        for piece in &self.format.pieces {
            match piece {
                // The operator's own text, without control characters.
                Piece::Literal(text) => out.extend_from_slice(text.as_bytes()),
                Piece::Code(code) => {
                    let at = out.len();
                    let line = Line { record, code, number, squid: self };
                    line.write(out);
                    fit(out, at, code);
                }
            }
        }
        if out.len() - start >= LINE_BOUND - 1 {
            out.truncate(start + LINE_BOUND - 2 - CUT_MARK.len());
            out.extend_from_slice(CUT_MARK);
        }
        out.push(b'\n');
    }
}

/// Cuts and pads what was written from `at` on.
fn fit(out: &mut Vec<u8>, at: usize, code: &Code) {
    if let Some(longest) = code.longest
        && out.len() > at + longest
    {
        let whole = whole_escapes(out.get(at..at + longest).unwrap_or_default());
        out.truncate(at + whole);
    }
    let pad = (at + code.width).saturating_sub(out.len());
    if pad == 0 {
        return;
    }
    let digits = out.get(at..).is_some_and(|text| text.iter().all(u8::is_ascii_digit));
    let zeros = code.zero && !code.left && code.what.is_number() && digits;
    out.resize(out.len() + pad, if zeros { b'0' } else { b' ' });
    if let (false, Some(field)) = (code.left, out.get_mut(at..)) {
        field.rotate_right(pad);
    }
}

/// How much of a field that was cut has only whole escapes. Half an escape would swallow the text after the field, for
/// example a closing quote. Squid cuts them.
fn whole_escapes(field: &[u8]) -> usize {
    let mut at = 0;
    while let Some(byte) = field.get(at) {
        let length = match (byte, field.get(at + 1)) {
            (b'\\', Some(b'x')) => 4,
            (b'\\', _) => 2,
            (b'%', _) => 3,
            _ => 1,
        };
        if at + length > field.len() {
            break;
        }
        at += length;
    }
    at
}

/// One code of one line.
struct Line<'l> {
    record: &'l Record<'l>,
    code: &'l Code,
    number: u64,
    squid: &'l Squid,
}

impl Line<'_> {
    fn is_by_parent(&self) -> bool {
        let is_spared = |except: &HostSet| self.target().is_some_and(|target| except.contains(&target.host));
        self.squid.parent.as_deref().is_some_and(|except| !is_spared(except))
    }

    fn write(&self, out: &mut Vec<u8>) {
        let record = self.record;
        let time = record.time;
        let client = record.client.map(SocketAddr::from);
        match &self.code.what {
            What::Percent => out.push(b'%'),
            What::ClientAddress => shown(out, client.map(|address| address.ip())),
            What::ClientPort => shown(out, client.map(|address| address.port())),
            What::ServerAddress => shown(out, record.upstream.map(|address| address.ip())),
            What::ServerPort => shown(out, record.upstream.map(|address| address.port())),
            What::ServerName => shown(out, record.upstream.and(self.target()).map(|target| &target.host)),
            What::LocalAddress => shown(out, record.upstream_local.map(|address| address.ip())),
            What::LocalPort => shown(out, record.upstream_local.map(|address| address.port())),
            What::Seconds => shown(out, Some(time.as_second())),
            What::Milliseconds => shown(out, Some(time.subsec_millisecond())),
            What::Time(moment) => shown(out, moment.write(time, &self.squid.zone).ok()),
            What::Started => {
                let took = record.duration.and_then(|took| jiff::SignedDuration::try_from(took).ok());
                let began = took.and_then(|took| time.checked_sub(took).ok()).unwrap_or(time);
                let _ = write!(out, "{}.{:03}", began.as_second(), began.subsec_millisecond());
            }
            What::Duration => shown(out, Some(record.duration.map_or(0, |took| took.as_millis()))),
            What::Dns => shown(out, record.dns.map(|took| took.as_millis())),
            What::Identity => {
                self.text(out, record.identity.map(|name| name.strip_prefix("user:").unwrap_or(name)))
            }
            What::Login => self.text(out, record.identity.and_then(|name| name.strip_prefix("user:"))),
            What::Nobody => out.push(b'-'),
            What::Status => shown(out, Some(record.status.unwrap_or(0))),
            What::SquidStatus => out.extend_from_slice(squid_status(record).as_bytes()),
            What::Hierarchy => out.extend_from_slice(match record.upstream {
                None => b"HIER_NONE",
                Some(_) if self.is_by_parent() => b"FIRSTUP_PARENT",
                Some(_) => b"HIER_DIRECT",
            }),
            What::MediaType => self.value(out, media_type(record)),
            What::Method => self.value(out, Some(record.method.map_or(&b"NONE"[..], |method| method.0))),
            What::Uri => self.uri(out),
            What::Scheme => {
                let scheme = match record.target {
                    Some(LoggedTarget::Http { tls, .. }) => Some(scheme(tls)),
                    _ => None,
                };
                self.text(out, scheme);
            }
            What::Host => shown(out, self.target().map(|target| &target.host)),
            What::Port => shown(out, self.target().map(|target| target.port)),
            What::Path => self.value(
                out,
                match record.target {
                    Some(LoggedTarget::Http { path, .. }) => Some(without_query(path.0)),
                    _ => None,
                },
            ),
            What::Version => out.extend_from_slice(match record.version {
                Some(Version::Http10) => b"1.0",
                Some(Version::Http11) => b"1.1",
                None => b"-",
            }),
            What::ReplySize => {
                let sizes = record.received.unwrap_or(0).saturating_add(record.reply.unwrap_or(0));
                shown(out, Some(sizes));
            }
            What::UserAgent => self.value(out, record.user_agent.map(|raw| raw.0)),
            What::Sni => self.value(out, record.sni.map(|raw| raw.0)),
            What::Reason => self.text(out, record.reason.map(Cause::as_str)),
            What::Id => shown(out, Some(record.id.as_hyphenated())),
            What::Sequence => shown(out, Some(self.number)),
            What::Note(note) => record.write_note(*note, &mut NoteOf { line: self, out }),
        }
    }

    fn target(&self) -> Option<&Target> {
        match self.record.target {
            Some(LoggedTarget::Connect(target) | LoggedTarget::Http { target, .. }) => Some(target),
            Some(LoggedTarget::Malformed(_)) | None => None,
        }
    }

    /// A URL's characters are its own quoting, so without any quoting they are written as they came.
    fn uri(&self, out: &mut Vec<u8>) {
        let quoting = if self.code.quoting == Quoting::None { Quoting::Raw } else { self.code.quoting };
        match self.record.target {
            Some(LoggedTarget::Connect(target)) => shown(out, Some(target)),
            Some(LoggedTarget::Http { target, path, query, tls }) => {
                let _ = write!(out, "{}://{}", scheme(tls), target.host);
                if target.port.get() != if tls { 443 } else { 80 } {
                    let _ = write!(out, ":{}", target.port);
                }
                push(out, without_query(path.0), quoting, true);
                if query {
                    out.push(b'?');
                }
            }
            Some(LoggedTarget::Malformed(raw)) if !raw.0.is_empty() => {
                let (before, masked, after) = without_password(without_query(raw.0));
                push(out, before, quoting, true);
                if masked {
                    out.extend_from_slice(b"***");
                }
                push(out, after, quoting, true);
            }
            Some(LoggedTarget::Malformed(_)) | None => out.extend_from_slice(match self.record.status {
                Some(431) => b"error:request-too-large",
                Some(400 | 405) => b"error:invalid-request",
                _ => b"error:transaction-end-before-headers",
            }),
        }
    }

    fn text(&self, out: &mut Vec<u8>, text: Option<&str>) {
        self.value(out, text.map(str::as_bytes));
    }

    fn value(&self, out: &mut Vec<u8>, bytes: Option<&[u8]>) {
        match bytes {
            None | Some(b"") => out.push(b'-'),
            Some(bytes) => push(out, bytes, self.code.quoting, false),
        }
    }
}

/// Where a note is written.
struct NoteOf<'n> {
    line: &'n Line<'n>,
    out: &'n mut Vec<u8>,
}

impl NoteWriter for NoteOf<'_> {
    fn text(&mut self, value: Option<&[u8]>) {
        self.line.value(self.out, value);
    }

    fn plain(&mut self, value: Option<impl Display>) {
        shown(self.out, value);
    }
}

/// A value that needs no quoting, or `-`.
fn shown(out: &mut Vec<u8>, value: Option<impl Display>) {
    match value {
        // Writing into a Vec cannot fail.
        Some(value) => drop(write!(out, "{value}")),
        None => out.push(b'-'),
    }
}

/// `one_word`: a space is quoted too.
fn push(out: &mut Vec<u8>, bytes: &[u8], quoting: Quoting, one_word: bool) {
    let (whole, cut) = match bytes.get(..LONGEST_VALUE) {
        Some(start) if bytes.len() > LONGEST_VALUE => (start, true),
        _ => (bytes, false),
    };
    for &byte in whole {
        match (quoting, byte) {
            (_, b' ') if one_word => out.extend_from_slice(b"%20"),
            (Quoting::Quotes, b'\r') | (Quoting::Brackets, b'\r') => out.extend_from_slice(b"\\r"),
            (Quoting::Quotes, b'\n') | (Quoting::Brackets, b'\n') => out.extend_from_slice(b"\\n"),
            (Quoting::Quotes, b'\t') => out.extend_from_slice(b"\\t"),
            (Quoting::Quotes, b'"' | b'\\') => out.extend_from_slice(&[b'\\', byte]),
            (Quoting::Quotes, b' '..=b'~') => out.push(byte),
            (Quoting::Quotes, _) => drop(write!(out, "\\x{byte:02x}")),
            (Quoting::Brackets, b'\\') => out.extend_from_slice(b"\\\\"),
            (Quoting::Brackets, b'%' | b'[' | b']') => drop(write!(out, "%{byte:02x}")),
            (Quoting::Brackets | Quoting::Raw, b' '..=b'~') => out.push(byte),
            (Quoting::Brackets, _) => drop(write!(out, "%{byte:02x}")),
            (Quoting::None, b'%') => out.push(byte),
            (Quoting::None | Quoting::Url, b'%' | b' ' | b'"' | b'#' | b'\'' | b'<' | b'>' | b'[' | b']') => {
                drop(write!(out, "%{byte:02X}"));
            }
            (Quoting::None | Quoting::Url, b'\\' | b'^' | b'`' | b'{' | b'|' | b'}' | b'~') => {
                drop(write!(out, "%{byte:02X}"));
            }
            (Quoting::None | Quoting::Url, b'!'..=b'}') => out.push(byte),
            (Quoting::None | Quoting::Url | Quoting::Raw, _) => drop(write!(out, "%{byte:02X}")),
        }
    }
    if cut {
        out.extend_from_slice(CUT_MARK);
    }
}

/// Squid's name for the outcome.
fn squid_status(record: &Record<'_>) -> &'static str {
    let plain = matches!(record.target, Some(LoggedTarget::Http { .. }));
    match (record.event, record.reason) {
        (Event::Close | Event::Open | Event::Progress, _) => "TCP_TUNNEL",
        (Event::Http | Event::Request, _) => match record.ending {
            Some(Ending::ClientClosed | Ending::ClientReset | Ending::ClientLost) => "TCP_MISS_ABORTED",
            _ => "TCP_MISS",
        },
        (Event::Deny, _) => match record.status {
            // Squid refuses a malformed head before any of its rules.
            None | Some(400 | 405 | 408 | 431) => "NONE_NONE",
            Some(_) => "TCP_DENIED",
        },
        (Event::Error, Some(Cause::ClientGone)) if plain => "TCP_MISS_ABORTED",
        (Event::Error, Some(Cause::Refused(reason))) => squid_status_of_error(reason, plain),
        (Event::Error, Some(Cause::ClientGone) | None) => "NONE_NONE",
    }
}

/// For Squid, a plain request that failed on the way to its target is a miss.
fn squid_status_of_error(reason: Reason, plain: bool) -> &'static str {
    match reason.class() {
        Class::Rate | Class::ClientLimit => "TCP_DENIED",
        Class::Lookup | Class::Connect | Class::Upstream if plain => "TCP_MISS",
        Class::Lookup
        | Class::Connect
        | Class::Upstream
        | Class::Limit
        | Class::Resources
        | Class::Service
        | Class::Connection
        | Class::Form
        | Class::Challenge
        | Class::Credentials
        | Class::Client
        | Class::NotListed
        | Class::Expired
        | Class::Denied
        | Class::Request
        | Class::Upload
        | Class::Address
        | Class::NoTls
        | Class::ServerName
        | Class::Hello
        | Class::Inspection
        | Class::Certificate
        | Class::TargetNotTls => "NONE_NONE",
    }
}

/// Without its parameters. Squid's error pages are `text/html`, except if the answer to a CONNECT fails.
fn media_type<'r>(record: &Record<'r>) -> Option<&'r [u8]> {
    let connect = matches!(record.target, Some(LoggedTarget::Connect(_)));
    match record.event {
        Event::Http | Event::Request => {
            let kind = record.content_type?.0;
            kind.split(|byte| *byte == b';').next().map(<[u8]>::trim_ascii)
        }
        Event::Deny if record.status.is_some_and(|status| status != 200) => Some(b"text/html"),
        Event::Error if record.status.is_some() && !connect => Some(b"text/html"),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
