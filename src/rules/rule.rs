//! A rule as it is written: `[scheme://]host[:port]`.
//!
//! Rules are parsed strictly: parts that a URL may have and a rule may not (path, user information) are refused with
//! what to write instead. Not here: the host's grammar ([`pattern`](super::pattern)), the options of a rule
//! ([`options`](super::options)), and the defaults, which differ for `allow` and `deny` ([`builder`](super::builder)).

use std::fmt;

use super::pattern::{HostPattern, PatternError, PatternErrorKind, is_plain};
use crate::words::target::{Method, Port};

/// The longest rule text, in bytes: four times the longest name, for internationalised names, and space for the rest.
pub const MAX_RULE_TEXT: usize = 1100;

/// How a client may connect to a rule's host.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Scheme {
    /// CONNECT with TLS inside, whose SNI is the host; port 443 unless written.
    Https,
    /// A plain HTTP request in absolute form; port 80 unless written.
    Http,
    /// CONNECT with an opaque tunnel, whose content is not inspected; the port must be written.
    Tcp,
}

impl Scheme {
    /// Every scheme.
    pub const ALL: [Scheme; 3] = [Scheme::Https, Scheme::Http, Scheme::Tcp];

    /// The word before `://`.
    pub fn as_str(self) -> &'static str {
        match self {
            Scheme::Https => "https",
            Scheme::Http => "http",
            Scheme::Tcp => "tcp",
        }
    }

    /// The scheme of a word, in any case.
    pub fn parse(word: &str) -> Option<Self> {
        Scheme::ALL.into_iter().find(|scheme| scheme.as_str().eq_ignore_ascii_case(word))
    }

    /// The default port of an `allow` rule; `tcp` has none.
    pub fn default_port(self) -> Option<Port> {
        match self {
            Scheme::Https => Some(Port::HTTPS),
            Scheme::Http => Some(Port::HTTP),
            Scheme::Tcp => None,
        }
    }

    /// The method that a client uses for it.
    pub fn method(self) -> Method {
        match self {
            Scheme::Https | Scheme::Tcp => Method::Connect,
            Scheme::Http => Method::Http,
        }
    }

    /// The scheme of a request if no rule decides it: `http` for plain HTTP, `https` for a CONNECT to 443, and `tcp`
    /// for any other CONNECT.
    pub fn presumed(method: Method, port: Port) -> Self {
        match method {
            Method::Http => Scheme::Http,
            Method::Connect if port == Port::HTTPS => Scheme::Https,
            Method::Connect => Scheme::Tcp,
        }
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A set of schemes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Schemes(u8);

impl Schemes {
    /// Every scheme.
    pub const ALL: Schemes = Schemes(0b111);
    /// `https` alone: what an `allow` rule without a scheme means.
    pub const HTTPS: Schemes = Schemes(1 << Scheme::Https as u8);

    /// Whether `scheme` is in the set.
    pub fn contains(self, scheme: Scheme) -> bool {
        self.0 & (1 << scheme as u8) != 0
    }

    /// Whether the set is empty.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The schemes of the set, in the order of [`Scheme::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Scheme> {
        Scheme::ALL.into_iter().filter(move |scheme| self.contains(*scheme))
    }

    pub(super) fn bits(self) -> u8 {
        self.0
    }

    pub(super) fn from_bits(bits: u8) -> Self {
        Schemes(bits & Schemes::ALL.0)
    }
}

impl FromIterator<Scheme> for Schemes {
    fn from_iter<I: IntoIterator<Item = Scheme>>(schemes: I) -> Self {
        Schemes(schemes.into_iter().fold(0, |bits, scheme| bits | 1 << scheme as u8))
    }
}

impl From<Scheme> for Schemes {
    fn from(scheme: Scheme) -> Self {
        Schemes(1 << scheme as u8)
    }
}

impl fmt::Debug for Schemes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

/// One port or a range, both ends included; `low` is at most `high`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Ports {
    /// The first.
    pub low: Port,
    /// The last.
    pub high: Port,
}

impl Ports {
    /// Whether `port` is one of them.
    pub fn contains(self, port: Port) -> bool {
        self.low <= port && port <= self.high
    }

    /// `443` or `8000-8010`.
    fn parse(text: &str, offset: usize) -> Result<Self, RuleError> {
        let fail = |at: usize, kind| Err(RuleError { offset: offset + at, kind });
        if text.is_empty() {
            return fail(0, RuleErrorKind::PortEmpty);
        }
        if text == "*" {
            return fail(0, RuleErrorKind::PortStar);
        }
        if let Some(comma) = text.find(',') {
            return fail(comma, RuleErrorKind::PortList);
        }
        let (low, high) = text.split_once('-').unwrap_or((text, text));
        let high_at = text.len() - high.len();
        let Ok(low) = Port::parse(low) else { return fail(0, RuleErrorKind::Port) };
        let Ok(high) = Port::parse(high) else { return fail(high_at, RuleErrorKind::Port) };
        if low > high {
            return fail(high_at, RuleErrorKind::PortOrder(Ports { low: high, high: low }));
        }
        Ok(Ports { low, high })
    }
}

impl From<Port> for Ports {
    fn from(port: Port) -> Self {
        Ports { low: port, high: port }
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.low == self.high { self.low.fmt(f) } else { write!(f, "{}-{}", self.low, self.high) }
    }
}

/// A rule as written, without any defaults.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct RuleText {
    /// As written.
    pub scheme: Option<Scheme>,
    /// Canonical.
    pub host: HostPattern,
    /// As written.
    pub ports: Option<Ports>,
}

/// Why a text is not a rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind}")]
pub struct RuleError {
    /// The position in the text, in bytes from its start.
    pub offset: usize,
    /// What is wrong there, and what to write instead.
    pub kind: RuleErrorKind,
}

/// What is wrong with a rule. The text says what to write instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RuleErrorKind {
    /// The text is empty.
    #[error("the rule is empty: write `host`, `host:port` or `scheme://host:port`")]
    Empty,
    /// Longer than [`MAX_RULE_TEXT`].
    #[error("the rule is longer than {MAX_RULE_TEXT} bytes, which no valid rule is: write one rule per line")]
    TooLong,
    /// A space, inside the rule or around it.
    #[error("a rule has no spaces: write one rule per line")]
    Space,
    /// A control character.
    #[error("a control character ({0:?}) is not accepted in a rule: remove it")]
    Control(char),
    /// `ftp://…`.
    #[error("the scheme is unknown: write https, http or tcp")]
    Scheme,
    /// `//host`.
    #[error("the scheme is missing before `//`: write `https://`, `http://` or `tcp://`, or only the host")]
    SchemeEmpty,
    /// `user@host`.
    #[error("a rule has no user information: write only what follows the `@`")]
    UserInfo,
    /// `https://host/path`.
    #[error("a rule has no path, query or fragment: write `{0}`")]
    Path(String),
    /// `host:`.
    #[error("the port is missing after `:`: write a port, or remove the `:`")]
    PortEmpty,
    /// Not a port.
    #[error(
        "the port is not valid: write a number from 1 to 65535 without a leading zero, or a range such as \
         `8000-8010`"
    )]
    Port,
    /// `8010-8000`.
    #[error("the range ends before it begins: write `{0}`")]
    PortOrder(Ports),
    /// `host:*`.
    #[error("`*` is not a valid port: write `1-65535` for every port")]
    PortStar,
    /// `host:80,443`.
    #[error("a rule has one port or one range: write one rule for each port")]
    PortList,
    /// The host is wrong.
    #[error(transparent)]
    Host(PatternErrorKind),
}

impl RuleText {
    /// Parses `[scheme://]host[:port]`. A scheme may be in any case; nothing is trimmed.
    ///
    /// # Errors
    /// [`RuleError`].
    pub fn parse(text: &str) -> Result<Self, RuleError> {
        let fail = |offset: usize, kind| Err(RuleError { offset, kind });
        if text.is_empty() {
            return fail(0, RuleErrorKind::Empty);
        }
        if text.len() > MAX_RULE_TEXT {
            return fail(MAX_RULE_TEXT, RuleErrorKind::TooLong);
        }
        if is_plain(text) {
            // Only a host: most lines of a long list.
            let host = HostPattern::parse(text).map_err(|PatternError { offset, kind }| RuleError {
                offset,
                kind: RuleErrorKind::Host(kind),
            })?;
            return Ok(RuleText { scheme: None, host, ports: None });
        }
        if let Some((offset, character)) =
            text.char_indices().find(|(_, c)| c.is_whitespace() || c.is_control())
        {
            let space = matches!(character, ' ' | '\t') || !character.is_control();
            let kind = if space { RuleErrorKind::Space } else { RuleErrorKind::Control(character) };
            return fail(offset, kind);
        }
        let (scheme, rest) = match text.split_once("://") {
            Some((word, rest)) if !word.contains(['/', '?', '#', '@', '[']) => match Scheme::parse(word) {
                Some(scheme) => (Some(scheme), rest),
                None if word.is_empty() => return fail(0, RuleErrorKind::SchemeEmpty),
                None => return fail(0, RuleErrorKind::Scheme),
            },
            _ if text.starts_with("//") => return fail(0, RuleErrorKind::SchemeEmpty),
            _ => (None, text),
        };
        let start = text.len() - rest.len();
        let end = rest.find(['?', '#']).unwrap_or(rest.len());
        if let Some(at) = rest.get(..end).and_then(|rest| rest.find('@')) {
            return fail(start + at, RuleErrorKind::UserInfo);
        }
        let host_len = host_length(rest);
        let (host, after) = rest.split_at(host_len);
        let host_error = |error: PatternError| RuleError {
            offset: start + error.offset,
            kind: RuleErrorKind::Host(error.kind),
        };
        if let Some(slash) = after.find(['/', '?', '#']) {
            // An error in the host comes first: the advice for `*/x` must not be to write `*`.
            HostPattern::parse(host).map_err(host_error)?;
            let at = start + host_len + slash;
            if scheme.is_none() && after.starts_with('?') && after.contains('.') {
                // The name continues, so this `?` is not a query, but a wildcard of other list formats.
                let kind = PatternErrorKind::not_a_wildcard();
                return fail(at, RuleErrorKind::Host(kind));
            }
            return fail(at, RuleErrorKind::Path(text.get(..at).unwrap_or_default().to_owned()));
        }
        let pattern = HostPattern::parse(host).map_err(host_error)?;
        let ports = match after.strip_prefix(':') {
            Some(ports) => Some(Ports::parse(ports, start + host_len + 1)?),
            None => None,
        };
        Ok(RuleText { scheme, host: pattern, ports })
    }
}

/// The length of the host in `rest`, up to the port or the path. What follows begins with `:`, `/`, `?` or `#`, or is
/// empty. The `/` of a network belongs to the host.
fn host_length(rest: &str) -> usize {
    let address_end = match rest.strip_prefix('[') {
        Some(inner) => inner.find(']').map_or(rest.len(), |end| end + 2),
        // More than one colon outside brackets: an IPv6 address or network without them, whole.
        None if rest.split(['/', '?', '#']).next().is_some_and(|host| host.matches(':').count() > 1) => {
            return rest.len();
        }
        None => rest.find([':', '/', '?', '#']).unwrap_or(rest.len()),
    };
    let (host, after) = rest.split_at(address_end);
    let is_address = host.starts_with('[') || host.parse::<std::net::Ipv4Addr>().is_ok();
    match after.strip_prefix('/') {
        // `10.0.0.0/8`, but `10.0.0.0/` and `10.0.0.0/index.html` have a path.
        Some(length) if is_address && length.starts_with(|c: char| c.is_ascii_digit()) => {
            let length = length.find([':', '/', '?', '#']).unwrap_or(length.len());
            address_end + 1 + length
        }
        _ if host.starts_with('[') && !after.is_empty() && !after.starts_with([':', '/', '?', '#']) => {
            rest.len()
        }
        _ => address_end,
    }
}

/// The canonical text; parsing it gives the same rule.
impl fmt::Display for RuleText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(scheme) = self.scheme {
            write!(f, "{scheme}://")?;
        }
        self.host.fmt(f)?;
        match self.ports {
            Some(ports) => write!(f, ":{ports}"),
            None => Ok(()),
        }
    }
}
