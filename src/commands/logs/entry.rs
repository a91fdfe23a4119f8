//! What a line of a log says, and what it stands for.
//!
//! Not here: how a line is read ([`super::line`]).

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};

use crate::telemetry::record::Event;
use crate::words::client::Protocol;
use crate::words::outcome::Decision;
use crate::words::target::{DOCTOR, PROBE, Target};

/// What one line says: the fields that the commands use.
#[derive(Clone, Copy, Default, Debug)]
pub struct Entry<'l> {
    /// Seconds since 1970.
    pub time: Option<i64>,
    /// What happened.
    pub event: Option<Event>,
    /// The listener that the client came by.
    pub listener: Option<Text<'l>>,
    /// The client's address and port; in Squid's lines, and those of other schemas, only the address.
    pub client: Option<Text<'l>>,
    /// The identity that the client proved.
    pub identity: Option<Text<'l>>,
    /// The method of the request.
    pub method: Option<Text<'l>>,
    /// The target as the log has it.
    pub target: Option<Text<'l>>,
    /// The server name in the ClientHello.
    pub sni: Option<Text<'l>>,
    /// The policy that decided.
    pub policy: Option<Text<'l>>,
    /// Its mode: `enforce` or `report`.
    pub mode: Option<Text<'l>>,
    /// The rule that decided.
    pub rule: Option<Text<'l>>,
    /// `allow`, `deny`, `would_deny`.
    pub decision: Option<Text<'l>>,
    /// Why it was, or would be, refused.
    pub reason: Option<Text<'l>>,
    /// The address that was dialled.
    pub upstream: Option<Text<'l>>,
    /// Its port, in lines that have it apart.
    pub(in crate::commands::logs) upstream_port: Option<u16>,
    /// What the client speaks to egressd.
    pub protocol: Option<Text<'l>>,
    /// The address that the connection was meant for, where something else decided.
    pub original: Option<Text<'l>>,
    /// The `User-Agent` of the request.
    pub user_agent: Option<Text<'l>>,
    /// Bytes from the client.
    pub sent: Option<u64>,
    /// Bytes to the client.
    pub received: Option<u64>,
    /// Of a request inside a tunnel: the tunnel's id.
    pub tunnel: Option<Text<'l>>,
    /// What was asked of a Git repository, as JSON: see [`Entry::git`](super::recognised).
    pub(in crate::commands::logs) git: Option<&'l str>,
    /// By whose credentials a request came to AWS, as JSON.
    pub(in crate::commands::logs) aws: Option<&'l str>,
    /// The status that the client saw.
    pub status: Option<u64>,
    /// How many other records like this one were left out before it.
    pub suppressed: u64,
    /// A line of Squid: it does not say how many bytes the client sent, and whether report mode let the request through.
    pub brief: bool,
    /// The reason is a guess: the line says only that the request was refused or failed.
    pub guessed: bool,
}

/// A JSON string of the line. A router may have spelled it in another way than egressd does, so nothing can be said of it but what
/// the decoded text says.
#[derive(Clone, Copy, Debug)]
pub struct Text<'l> {
    /// The inside of the string, as it is in the line.
    pub(in crate::commands::logs) raw: &'l str,
    pub(in crate::commands::logs) escaped: bool,
}

impl<'l> Text<'l> {
    /// The decoded text. An invalid escape stays as it is.
    pub fn decoded(self) -> Cow<'l, str> {
        if !self.escaped {
            return Cow::Borrowed(self.raw);
        }
        let quoted = format!("\"{}\"", self.raw);
        serde_json::from_str(&quoted).map_or(Cow::Borrowed(self.raw), Cow::Owned)
    }

    /// Whether it is this word.
    pub fn is(self, word: &str) -> bool {
        if self.escaped { self.decoded() == word } else { self.raw == word }
    }

    /// The text, if egressd writes it without an escape: its own words, addresses, canonical targets.
    pub fn plain(self) -> Option<Cow<'l, str>> {
        let text = self.decoded();
        let is_plain = |byte: u8| matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\';
        text.bytes().all(is_plain).then_some(text)
    }
}

/// What a line stands for, so that each request counts once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stands {
    /// A request that passed: a tunnel that opened, a plain exchange that ended.
    Passed,
    /// A request that was refused, or failed.
    Refused,
    /// A tunnel that had passed, and was refused after its first ClientHello.
    Withdrawn,
    /// A request inside a tunnel that ended, however it did. The tunnel has lines of its own.
    Inside,
    /// More of a request that another line stands for.
    More,
}

impl Entry<'_> {
    /// Whether its connection became a WebSocket: nothing else is let through with that status.
    pub fn switched(&self) -> bool {
        self.status == Some(101)
    }

    /// Whether the line stands for a request.
    pub fn stands(&self) -> Stands {
        match self.event {
            Some(Event::Request | Event::Deny | Event::Error) if self.tunnel.is_some() => Stands::Inside,
            _ if self.tunnel.is_some() => Stands::More,
            Some(Event::Open) if self.is_connect() => Stands::Passed,
            Some(Event::Http) if !self.is_connect() => Stands::Passed,
            // After the first ClientHello: only then have bytes been counted.
            Some(Event::Deny) if self.is_connect() && self.sent.is_some() => Stands::Withdrawn,
            Some(Event::Deny | Event::Error) => Stands::Refused,
            _ => Stands::More,
        }
    }

    /// Whether a tunnel was requested.
    pub fn is_connect(&self) -> bool {
        self.method.is_some_and(|method| method.is("CONNECT"))
    }

    /// The target in canonical form. None: it is not valid, or there is none.
    pub fn asked(&self) -> Option<Target> {
        let text = self.target?.plain()?;
        if self.is_connect() {
            return Target::connect(&text).ok();
        }
        let authority = text.strip_prefix("http://")?.split(['/', '?', '#']).next()?;
        Target::http(authority).ok()
    }

    /// Whether `doctor` asked for it, or let a client ask; or a client did that sends its `User-Agent`.
    pub fn by_doctor(&self) -> bool {
        let is_probe = |target: &Target| target.host.name().is_some_and(|name| name.as_str() == PROBE);
        self.user_agent.is_some_and(|agent| agent.decoded().starts_with(DOCTOR))
            || (self.target.is_some_and(|target| target.decoded().contains(PROBE))
                && self.asked().as_ref().is_some_and(is_probe))
    }

    /// Target and path of a request inside a tunnel, and whether it came inside the tunnel's TLS. None: the target is not
    /// valid, or there is none.
    pub fn asked_inside(&self) -> Option<(Target, String, bool)> {
        let text = self.target?.decoded();
        let (scheme, rest) = text.split_once("://")?;
        let (authority, path) = rest.split_at(rest.find('/')?);
        let target = Target::connect(authority).ok()?;
        let path = path.to_owned();
        match scheme {
            "https" => Some((target, path, true)),
            "http" => Some((target, path, false)),
            _ => None,
        }
    }

    /// The client's address.
    pub fn client_ip(&self) -> Option<IpAddr> {
        let text = self.client?.plain()?;
        text.parse::<SocketAddr>().map(|address| address.ip()).or_else(|_| text.parse()).ok()
    }

    /// The address that a CONNECT named in whose place the name in the ClientHello decided.
    pub fn named_address(&self) -> Option<Target> {
        let is_transparent = self.protocol.is_some_and(|word| word.raw == Protocol::Transparent.as_str());
        Target::connect(&self.original?.plain()?).ok().filter(|_| !is_transparent && self.is_connect())
    }

    /// The address and port that were dialled.
    pub fn upstream_address(&self) -> Option<SocketAddr> {
        let text = self.upstream?.plain()?;
        match self.upstream_port {
            None => text.parse().ok(),
            Some(port) => Some(SocketAddr::new(text.parse().ok()?, port)),
        }
    }

    /// Whether this was the decision.
    pub fn decided(&self, decision: Decision) -> bool {
        self.decision.is_some_and(|word| word.is(decision.as_str()))
    }
}
