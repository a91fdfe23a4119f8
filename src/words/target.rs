//! What a client asks for: a host and a port, in canonical form.
//!
//! A [`Host`] is canonical by construction: lower case, one trailing dot removed, A-labels only, nothing ever decoded.
//! Everything that is compared with a rule, an SNI or a DNS answer is parsed here, so that two spellings of one name
//! cannot be judged differently. Not here: which hosts are allowed ([`crate::rules`]), and how a request line is parsed
//! ([`crate::wire::head`]).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU16;
use std::str::FromStr;
use std::sync::Arc;

/// The target that `doctor` requests when it wants a refusal, and that `suggest` ignores: a name that nobody can have
/// (RFC 6761, 6.4) and that no rule matches.
pub const PROBE: &str = "egressd-doctor.invalid";

/// How the `User-Agent` of what `doctor` requests begins, so that `suggest` can leave it out.
pub const DOCTOR: &str = "egressd-doctor/";

/// How it ends where `doctor` asks to be refused: nobody needs a rule for that.
pub const EXPECTS_REFUSAL: &str = " (expects a refusal)";

/// Whether a `User-Agent` says that its client asks to be refused.
pub fn expects_refusal(user_agent: &[u8]) -> bool {
    user_agent.starts_with(DOCTOR.as_bytes()) && user_agent.ends_with(EXPECTS_REFUSAL.as_bytes())
}

/// The longest name without its trailing dot, in bytes (RFC 1035 §2.3.4: 255 on the wire).
pub const MAX_NAME: usize = 253;
/// The longest label, in bytes (RFC 1035 §2.3.4).
pub const MAX_LABEL: usize = 63;

/// Why a text is not a valid host or port. The text is for a person: it says what is wrong, and does not repeat the
/// input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// There is no host.
    #[error("the host is empty")]
    EmptyHost,
    /// Longer than [`MAX_NAME`].
    #[error("the host name is longer than 253 characters")]
    NameTooLong,
    /// A label longer than [`MAX_LABEL`].
    #[error("a label of the host name is longer than 63 characters")]
    LabelTooLong,
    /// Two dots in a row, a leading dot, or more than one trailing dot.
    #[error("the host name has an empty label")]
    EmptyLabel,
    /// A label that begins or ends with `-` (RFC 1123 §2.1).
    #[error("a label of the host name begins or ends with a hyphen")]
    Hyphen,
    /// A character other than letters, digits, `-`, `_` and `.`; nothing is decoded.
    #[error(
        "the host has a character that is not a letter, digit, '-', '_' or '.'; write an internationalised name as its A-label (xn--…)"
    )]
    Character,
    /// The last label is a number, but the host is not a dotted quad: resolvers would read it as an IPv4 address.
    #[error("the host looks like an IPv4 address, but is not four decimal numbers from 0 to 255")]
    IpSpelling,
    /// Brackets around something other than an IPv6 address, or an IPv6 address without brackets.
    #[error("brackets are only for an IPv6 address, and an IPv6 address needs them")]
    Brackets,
    /// `%` in an IPv6 literal.
    #[error("an IPv6 address with a zone is not accepted: remove the `%` and what follows it")]
    Zone,
    /// `user@host`.
    #[error("user information ('@') is not accepted in a target")]
    UserInfo,
    /// CONNECT needs `host:port`.
    #[error("the port is missing: write host:port")]
    PortMissing,
    /// Not decimal digits without a leading zero, from 1 to 65535.
    #[error("the port is not a decimal number from 1 to 65535 without a leading zero")]
    Port,
}

/// A DNS name in canonical form: ASCII letters, digits, `-`, `_`; lower case; no trailing dot; at least one
/// label; the last label is not numeric. RFC 1123 §2.1 with the underscore that AWS and others use.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(Arc<str>);

impl Name {
    /// Makes `text` canonical. One trailing dot is removed; a second one is an error.
    ///
    /// # Errors
    /// [`TargetError`] if `text` is not a name; an IPv4 address is [`TargetError::IpSpelling`] here.
    pub fn parse(text: &str) -> Result<Self, TargetError> {
        let text = text.strip_suffix('.').unwrap_or(text);
        if text.is_empty() {
            return Err(TargetError::EmptyHost);
        }
        if !text.bytes().all(is_name_byte) {
            return Err(TargetError::Character);
        }
        if text.len() > MAX_NAME {
            return Err(TargetError::NameTooLong);
        }
        for label in text.split('.') {
            check_label(label)?;
        }
        if text.rsplit('.').next().is_some_and(is_numeric_label) {
            return Err(TargetError::IpSpelling);
        }
        // Nearly all are lower case already: those are copied once.
        Ok(Name(match text.bytes().any(|byte| byte.is_ascii_uppercase()) {
            true => text.to_ascii_lowercase().into(),
            false => text.into(),
        }))
    }

    /// The canonical text, shared with this name, because a tunnel stores it in several places.
    pub fn shared(&self) -> Arc<str> {
        Arc::clone(&self.0)
    }

    /// The canonical text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.')
}

fn check_label(label: &str) -> Result<(), TargetError> {
    if label.is_empty() {
        return Err(TargetError::EmptyLabel);
    }
    if label.len() > MAX_LABEL {
        return Err(TargetError::LabelTooLong);
    }
    if label.starts_with('-') || label.ends_with('-') {
        return Err(TargetError::Hyphen);
    }
    Ok(())
}

/// Whether getaddrinfo and the WHATWG URL rules would treat a name that ends in `label` as an IPv4 address.
fn is_numeric_label(label: &str) -> bool {
    let hex = label.strip_prefix("0x").or_else(|| label.strip_prefix("0X"));
    match hex {
        Some(digits) => digits.bytes().all(|b| b.is_ascii_hexdigit()),
        None => label.bytes().all(|b| b.is_ascii_digit()),
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// The host of a target: a name to resolve, or an address as it was written.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Host {
    /// A name.
    Name(Name),
    /// An IPv4 dotted quad or a bracketed IPv6 address; never the result of a lookup.
    Address(IpAddr),
}

impl Host {
    /// The name, if it is one.
    pub fn name(&self) -> Option<&Name> {
        match self {
            Host::Name(name) => Some(name),
            Host::Address(_) => None,
        }
    }

    /// Makes the host of a target canonical: a name, a dotted quad, or an IPv6 address in brackets.
    ///
    /// # Errors
    /// [`TargetError`]. Nothing is guessed: forms that only some resolvers accept (`127.1`, `0x7f.1`) are refused.
    pub fn parse(text: &str) -> Result<Self, TargetError> {
        if let Some(rest) = text.strip_prefix('[') {
            let inner = rest.strip_suffix(']').ok_or(TargetError::Brackets)?;
            if inner.contains('%') {
                return Err(TargetError::Zone);
            }
            let address = Ipv6Addr::from_str(inner).map_err(|_| TargetError::Brackets)?;
            return Ok(Host::Address(IpAddr::V6(address)));
        }
        if text.contains('@') {
            return Err(TargetError::UserInfo);
        }
        if text.contains([':', ']']) {
            return Err(TargetError::Brackets);
        }
        // Only the strict dotted quad: `Ipv4Addr::from_str` refuses leading zeros, hex, octal and fewer parts.
        if let Ok(address) = Ipv4Addr::from_str(text) {
            return Ok(Host::Address(IpAddr::V4(address)));
        }
        Name::parse(text).map(Host::Name)
    }
}

impl fmt::Display for Host {
    /// As in a target: IPv6 in brackets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Host::Name(name) => name.fmt(f),
            Host::Address(IpAddr::V4(address)) => address.fmt(f),
            Host::Address(IpAddr::V6(address)) => write!(f, "[{address}]"),
        }
    }
}

/// A TCP port from 1 to 65535.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Port(NonZeroU16);

impl Port {
    /// 443.
    pub const HTTPS: Port = Port(NonZeroU16::new(443).expect("443 is not zero"));
    /// 80.
    pub const HTTP: Port = Port(NonZeroU16::new(80).expect("80 is not zero"));

    /// None for 0.
    pub fn new(number: u16) -> Option<Self> {
        NonZeroU16::new(number).map(Port)
    }

    /// Decimal digits, no sign, no leading zero, 1 to 65535.
    ///
    /// # Errors
    /// [`TargetError::Port`].
    pub fn parse(text: &str) -> Result<Self, TargetError> {
        let plain = !text.is_empty()
            && text.len() <= 5
            && !text.starts_with('0')
            && text.bytes().all(|b| b.is_ascii_digit());
        if !plain {
            return Err(TargetError::Port);
        }
        text.parse::<u16>().ok().and_then(Port::new).ok_or(TargetError::Port)
    }

    /// The number.
    pub fn get(self) -> u16 {
        self.0.get()
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How the client makes the request: its *kind*, which a rule's scheme must match.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Method {
    /// `CONNECT host:port`: a tunnel, by an `https` or a `tcp` rule.
    Connect,
    /// An absolute-form `http://` request, by an `http` rule.
    Http,
}

/// A canonical target, with the method of its request.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Target {
    /// CONNECT, or plain HTTP.
    pub method: Method,
    /// Canonical.
    pub host: Host,
    /// As written, or 80 if an `http://` URI has none.
    pub port: Port,
}

impl Target {
    /// The authority-form of CONNECT (RFC 9112 §3.2.3): `host:port`, both required.
    ///
    /// # Errors
    /// [`TargetError`].
    pub fn connect(authority: &str) -> Result<Self, TargetError> {
        if authority.contains('@') {
            return Err(TargetError::UserInfo);
        }
        let (host, port) = split_port(authority)?;
        let port = port.ok_or(TargetError::PortMissing)?;
        Ok(Target { method: Method::Connect, host: Host::parse(host)?, port: Port::parse(port)? })
    }

    /// The authority of an absolute `http://` URI (RFC 3986 §3.2): the port may be missing, and is then 80.
    ///
    /// # Errors
    /// [`TargetError`].
    pub fn http(authority: &str) -> Result<Self, TargetError> {
        Target::of_uri(authority, Port::HTTP)
    }

    /// The authority of a URI or of a `Host` field: a port that is missing is `default`.
    ///
    /// # Errors
    /// [`TargetError`].
    pub fn of_uri(authority: &str, default: Port) -> Result<Self, TargetError> {
        if authority.contains('@') {
            return Err(TargetError::UserInfo);
        }
        let (host, port) = split_port(authority)?;
        let port = port.map_or(Ok(default), Port::parse)?;
        Ok(Target { method: Method::Http, host: Host::parse(host)?, port })
    }
}

impl fmt::Display for Target {
    /// `host:port`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// Splits `host[:port]` at the colon that is not inside brackets.
///
/// # Errors
/// [`TargetError::Brackets`] if an IPv6 address has no brackets, or if something other than a port follows a bracket.
pub fn split_port(authority: &str) -> Result<(&str, Option<&str>), TargetError> {
    if authority.starts_with('[') {
        let end = authority.find(']').ok_or(TargetError::Brackets)?;
        let (host, rest) = authority.split_at(end + 1);
        return match rest.strip_prefix(':') {
            Some(port) => Ok((host, Some(port))),
            None if rest.is_empty() => Ok((host, None)),
            None => Err(TargetError::Brackets),
        };
    }
    match authority.split_once(':') {
        Some((_, port)) if port.contains(':') => Err(TargetError::Brackets),
        Some((host, port)) => Ok((host, Some(port))),
        None => Ok((authority, None)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_canonical_or_refused() {
        use TargetError::*;
        let long = "a".repeat(64);
        let rows: &[(&str, Result<&str, TargetError>)] = &[
            ("Example.COM", Ok("example.com")),
            ("example.com.", Ok("example.com")),
            ("_x.example.com", Ok("_x.example.com")),
            ("xn--bcher-kva.example", Ok("xn--bcher-kva.example")),
            ("203.0.113.9", Ok("203.0.113.9")),
            ("[2001:DB8::1]", Ok("[2001:db8::1]")),
            ("localhost", Ok("localhost")),
            ("a.0x", Err(IpSpelling)),
            ("", Err(EmptyHost)),
            (".", Err(EmptyHost)),
            ("example.com..", Err(EmptyLabel)),
            (".example.com", Err(EmptyLabel)),
            ("a..b", Err(EmptyLabel)),
            ("-a.example", Err(Hyphen)),
            ("a-.example", Err(Hyphen)),
            (long.as_str(), Err(LabelTooLong)),
            ("b\u{fc}cher.example", Err(Character)),
            ("a\u{3002}b", Err(Character)),
            ("evil\0.amazonaws.com", Err(Character)),
            ("%61.example", Err(Character)),
            ("2130706433", Err(IpSpelling)),
            ("0x7f.1", Err(IpSpelling)),
            ("0177.0.0.1", Err(IpSpelling)),
            ("127.1", Err(IpSpelling)),
            ("1.2.3.4.", Err(IpSpelling)),
            ("256.1.1.1", Err(IpSpelling)),
            ("[example.com]", Err(Brackets)),
            ("[203.0.113.9]", Err(Brackets)),
            ("[::1", Err(Brackets)),
            ("::1", Err(Brackets)),
            ("[fe80::1%25eth0]", Err(Zone)),
            ("user@example.com", Err(UserInfo)),
        ];
        for (text, want) in rows {
            let got = Host::parse(text).map(|host| host.to_string());
            assert_eq!(got.as_deref().map_err(|e| *e), *want, "{text:?}");
        }
    }

    #[test]
    fn a_name_ends_at_253_characters() {
        let label = "a".repeat(63);
        let longest = format!("{label}.{label}.{label}.{}", "a".repeat(61));
        assert_eq!(longest.len(), MAX_NAME);
        assert!(Host::parse(&longest).is_ok());
        assert!(Host::parse(&format!("{longest}.")).is_ok(), "the dot does not count");
        assert_eq!(Host::parse(&format!("{longest}a")), Err(TargetError::NameTooLong));
    }

    #[test]
    fn a_port_is_plain_decimal() {
        for (text, want) in [("1", Some(1)), ("443", Some(443)), ("65535", Some(65535))] {
            assert_eq!(Port::parse(text).ok().map(Port::get), want, "{text}");
        }
        for text in ["", "0", "65536", "00443", "+443", "443x", "-1", " 443", "4294967739", "99999"] {
            assert_eq!(Port::parse(text), Err(TargetError::Port), "{text:?}");
        }
    }

    #[test]
    fn a_connect_target_needs_its_port() {
        assert_eq!(Target::connect("ok.test"), Err(TargetError::PortMissing));
        assert_eq!(Target::connect("ok.test:"), Err(TargetError::Port));
        assert_eq!(Target::connect("/foo"), Err(TargetError::PortMissing));
        assert_eq!(Target::connect("[::1]x:443"), Err(TargetError::Brackets));
        assert_eq!(Target::connect("u@ok.test:443"), Err(TargetError::UserInfo));
        assert_eq!(Target::connect("OK.test.:443").map(|t| t.to_string()).as_deref(), Ok("ok.test:443"));
        assert_eq!(Target::http("ok.test").map(|t| t.to_string()).as_deref(), Ok("ok.test:80"));
        let https = |authority| Target::of_uri(authority, Port::HTTPS).map(|target| target.to_string());
        assert_eq!(https("OK.test").as_deref(), Ok("ok.test:443"));
        assert_eq!(https("ok.test:80").as_deref(), Ok("ok.test:80"));
    }
}
