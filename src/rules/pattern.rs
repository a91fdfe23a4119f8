//! The host of a rule: a name, everything under a name, a `*` inside a name, an address or a network.
//!
//! A pattern is parsed here, strictly, before any index uses it. What could only be a mistake is refused with what to
//! write instead, both under `allow` and under `deny`. Not here: schemes and ports ([`rule`](super::rule)), and which
//! of many patterns decides ([`search`](super::search)).

use std::borrow::Cow;
use std::fmt;
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

pub use super::label_pattern::LabelPattern;
pub(crate) use super::label_pattern::literal_suffix;
use super::public_suffix::spans_public_suffix;
use crate::words::target::{Host, MAX_NAME, Name, TargetError};

/// Which hosts a rule matches.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum HostPattern {
    /// `example.com`: that name.
    Exact(Name),
    /// `*.example.com`: names with one or more labels before it, not the name itself.
    Under(Name),
    /// `.example.com`: the name and all names under it (Squid's `dstdomain`).
    UnderOrSelf(Name),
    /// `git.*.example.com`, `ec2-*.example.com`: each `*` is one or more characters of exactly one label.
    Labels(LabelPattern),
    /// `203.0.113.9`, `[2001:db8::1]`: that address, if the target is written as an address. A network of one address
    /// becomes this.
    Address(IpAddr),
    /// `203.0.113.0/24`, `[2001:db8::]/32`: an address in that network, if the target is written as an address.
    Network(IpNet),
}

/// Why a text is not a host pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind}")]
pub struct PatternError {
    /// The position in the text, in bytes from its start.
    pub offset: usize,
    /// What is wrong there, and what to write instead.
    pub kind: PatternErrorKind,
}

/// What is wrong with a host pattern. The text says what to write instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PatternErrorKind {
    /// The text is empty.
    #[error("the host is missing: write a name, `*.name`, an address or a network")]
    Empty,
    /// `*` alone, or `.` alone.
    #[error("this matches every host: list the names, or write `*.name` for all names under one")]
    Everything,
    /// `**`.
    #[error(
        "`**` is not a valid pattern: write `*.name` for all names under a name, or one `*` for one or more \
         characters of one label"
    )]
    DoubleStar,
    /// The pattern ends in a label with `*`.
    #[error("the last label cannot have a `*`, because anyone can get such a name: write the full domain")]
    LastLabel,
    /// `*.com`, `.co.uk`, `git.*.com`.
    #[error(
        "this covers the public suffix `{0}`, under which anyone can get a name: write the full domain, as in \
         `*.example.{0}`"
    )]
    PublicSuffix(String),
    /// `*amazonaws.com`.
    #[error("this also matches `evil{0}`, which anyone can get: write `*.{0}` for the names under `{0}`")]
    NoBoundary(String),
    /// `10.0.*.*`.
    #[error("an address cannot contain a `*`: write a network, as in `10.0.0.0/16`")]
    StarInAddress,
    /// A character that is not allowed in a name.
    #[error("{0:?} is not accepted in a host: {1}")]
    Character(char, &'static str),
    /// Not a valid internationalised label (UTS #46).
    #[error("this is not a valid internationalised label: write its A-label (`xn--…`)")]
    Idn,
    /// `bü*.example`.
    #[error("a label cannot have both a `*` and characters outside ASCII: write the full label")]
    IdnStar,
    /// An IPv6 address without its brackets.
    #[error("an IPv6 address needs brackets: write `[{0}]`")]
    NoBrackets(Ipv6Addr),
    /// An invalid prefix length.
    #[error("the prefix length must be a number from 0 to {0}")]
    PrefixLength(u8),
    /// Bits set after the prefix.
    #[error("bits are set after the prefix: write `{0}` for the network, or only the address")]
    HostBits(String),
    /// An error that a target's host can have too.
    #[error(transparent)]
    Name(#[from] TargetError),
}

use PatternErrorKind as Kind;

impl PatternErrorKind {
    /// `a?.example`.
    pub(super) fn not_a_wildcard() -> Self {
        Kind::Character('?', instead_of('?'))
    }
}

fn fail<T>(offset: usize, kind: impl Into<Kind>) -> Result<T, PatternError> {
    Err(PatternError { offset, kind: kind.into() })
}

impl HostPattern {
    /// Parses the host of a rule. The result is canonical: lower case, one trailing dot removed, A-labels, IPv4-mapped
    /// IPv6 addresses as IPv4, a network of a single address as that address.
    ///
    /// # Errors
    /// [`PatternError`].
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        if text.is_empty() {
            return fail(0, Kind::Empty);
        }
        if is_plain(text) && !text.ends_with(|last: char| last.is_ascii_digit()) {
            return name(text); // an address ends in a digit; most lines of a long list return here
        }
        if let Some(rest) = text.strip_prefix('[') {
            return bracketed(rest);
        }
        if text.contains(':') {
            return bare_ipv6(text);
        }
        if let Some((address, length)) = text.split_once('/') {
            if let Ok(address) = Ipv4Addr::from_str(address) {
                return network(IpAddr::V4(address), length, text.len() - length.len());
            }
        } else if let Ok(address) = Ipv4Addr::from_str(text) {
            return Ok(HostPattern::Address(IpAddr::V4(address)));
        }
        name(text)
    }

    /// Whether the pattern matches `host`. Addresses are compared by what they reach: `[::ffff:203.0.113.9]` is
    /// `203.0.113.9`.
    pub fn matches(&self, host: &Host) -> bool {
        match (self, host) {
            (HostPattern::Exact(name), Host::Name(host)) => name == host,
            (HostPattern::Under(name), Host::Name(host)) => is_under(host.as_str(), name.as_str()),
            (HostPattern::UnderOrSelf(name), Host::Name(host)) => {
                name == host || is_under(host.as_str(), name.as_str())
            }
            (HostPattern::Labels(pattern), Host::Name(host)) => pattern.matches(host.as_str()),
            (HostPattern::Address(address), Host::Address(host)) => *address == host.to_canonical(),
            (HostPattern::Network(network), Host::Address(host)) => network.contains(&host.to_canonical()),
            (HostPattern::Address(_) | HostPattern::Network(_), Host::Name(_)) => false,
            (_, Host::Address(_)) => false,
        }
    }
}

/// Whether `host` is `name` with one or more labels before it.
fn is_under(host: &str, name: &str) -> bool {
    host.strip_suffix(name).is_some_and(|labels| labels.len() > 1 && labels.ends_with('.'))
}

impl HostPattern {
    /// Appends the canonical text, as `Display` does, but faster for names, of which there may be a million.
    pub(super) fn append_to(&self, text: &mut String) {
        let (mark, name) = match self {
            HostPattern::Exact(name) => ("", name.as_str()),
            HostPattern::Under(name) => ("*.", name.as_str()),
            HostPattern::UnderOrSelf(name) => (".", name.as_str()),
            HostPattern::Labels(pattern) => ("", pattern.as_str()),
            HostPattern::Address(_) | HostPattern::Network(_) => {
                // Writing to a String does not fail.
                let _ = write!(text, "{self}");
                return;
            }
        };
        text.push_str(mark);
        text.push_str(name);
    }
}

/// The canonical text; parsing it gives the same pattern.
impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HostPattern::Exact(name) => name.fmt(f),
            HostPattern::Under(name) => write!(f, "*.{name}"),
            HostPattern::UnderOrSelf(name) => write!(f, ".{name}"),
            HostPattern::Labels(pattern) => pattern.fmt(f),
            HostPattern::Address(IpAddr::V4(address)) => address.fmt(f),
            HostPattern::Address(IpAddr::V6(address)) => write!(f, "[{address}]"),
            HostPattern::Network(IpNet::V4(network)) => network.fmt(f),
            HostPattern::Network(IpNet::V6(network)) => {
                write!(f, "[{}]/{}", network.addr(), network.prefix_len())
            }
        }
    }
}

// Addresses.

/// What follows a `[`: `2001:db8::1]`, `2001:db8::]/32`, `2001:db8::/32]`.
fn bracketed(rest: &str) -> Result<HostPattern, PatternError> {
    let Some((inner, after)) = rest.split_once(']') else {
        return fail(0, TargetError::Brackets);
    };
    if let Some(zone) = inner.find('%') {
        return fail(1 + zone, TargetError::Zone);
    }
    let (address, inner_length) = match inner.split_once('/') {
        Some((address, length)) => (address, Some(length)),
        None => (inner, None),
    };
    let Ok(address) = Ipv6Addr::from_str(address) else {
        return fail(1, TargetError::Brackets);
    };
    let address = IpAddr::V6(address);
    match (inner_length, after.strip_prefix('/')) {
        (None, None) if after.is_empty() => Ok(HostPattern::Address(address.to_canonical())),
        (Some(length), None) if after.is_empty() => network(address, length, 1 + inner.len() - length.len()),
        (None, Some(length)) => network(address, length, 1 + inner.len() + 2),
        _ => fail(1 + inner.len() + 1, TargetError::Brackets),
    }
}

/// A network needs no brackets, because the `/` ends its address. An address needs them, because its last group could
/// be a port.
fn bare_ipv6(text: &str) -> Result<HostPattern, PatternError> {
    if let Some((address, length)) = text.split_once('/')
        && let Ok(address) = Ipv6Addr::from_str(address)
    {
        if length.contains(':') {
            return fail(0, Kind::NoBrackets(address)); // a port follows
        }
        return network(IpAddr::V6(address), length, text.len() - length.len());
    }
    match Ipv6Addr::from_str(text) {
        Ok(address) => fail(0, Kind::NoBrackets(address)),
        Err(_) => fail(0, TargetError::Brackets),
    }
}

fn network(address: IpAddr, length: &str, offset: usize) -> Result<HostPattern, PatternError> {
    let most = if address.is_ipv4() { 32 } else { 128 };
    let digits = !length.is_empty() && length.len() <= 3 && length.bytes().all(|byte| byte.is_ascii_digit());
    let plain = digits && (length == "0" || !length.starts_with('0'));
    let length = match length.parse::<u8>() {
        Ok(length) if plain && length <= most => length,
        _ => return fail(offset, Kind::PrefixLength(most)),
    };
    let Ok(network) = IpNet::new(address, length) else {
        return fail(offset, Kind::PrefixLength(most));
    };
    let network = canonical_network(network);
    if network.addr() != network.network() {
        let trunc = HostPattern::Network(network.trunc()).to_string();
        return fail(0, Kind::HostBits(trunc));
    }
    if network.prefix_len() == network.max_prefix_len() {
        return Ok(HostPattern::Address(network.addr()));
    }
    Ok(HostPattern::Network(network))
}

/// `::ffff:203.0.113.0/120` is `203.0.113.0/24`: the addresses in it are unmapped before they are compared.
fn canonical_network(network: IpNet) -> IpNet {
    let IpNet::V6(v6) = network else { return network };
    let mapped = v6.addr().to_ipv4_mapped().zip(v6.prefix_len().checked_sub(96));
    match mapped.map(|(address, length)| Ipv4Net::new(address, length)) {
        Some(Ok(v4)) => IpNet::V4(v4),
        _ => IpNet::V6(v6),
    }
}

// Names.

fn name(text: &str) -> Result<HostPattern, PatternError> {
    if !is_plain(text)
        && let Some((offset, character)) = text
            .char_indices()
            .find(|(_, c)| c.is_ascii() && !c.is_ascii_alphanumeric() && !is_mark(*c as u8))
    {
        return fail(offset, Kind::Character(character, instead_of(character)));
    }
    if let Some(offset) = text.as_bytes().windows(2).position(|pair| pair == b"**") {
        return fail(offset, Kind::DoubleStar);
    }
    let bare = text.strip_suffix('.').unwrap_or(text);
    if matches!(bare, "" | "*" | ".") {
        return fail(0, Kind::Everything);
    }
    let ascii = to_ascii(bare)?;
    if ascii.contains('*') && looks_like_address(&ascii) {
        return fail(0, Kind::StarInAddress);
    }
    if let Some(base) = ascii.strip_prefix("*.").filter(|base| !base.contains('*')) {
        let base = under(base, 2, text)?;
        return Ok(HostPattern::Under(base));
    }
    if let Some(base) = ascii.strip_prefix('.') {
        if base.contains('*') {
            return fail(0, TargetError::EmptyLabel);
        }
        let base = under(base, 1, text)?;
        return Ok(HostPattern::UnderOrSelf(base));
    }
    if ascii.contains('*') {
        // Offsets in the A-labels are not offsets in the text.
        let place = |offset| if text.is_ascii() { offset } else { 0 };
        return labels(&ascii)
            .map(HostPattern::Labels)
            .map_err(|PatternError { offset, kind }| PatternError { offset: place(offset), kind });
    }
    checked_name(&ascii, 0, text).map(HostPattern::Exact)
}

/// The name of `*.name` and `.name`. It must leave room for a label before it, and must not be a public suffix.
fn under(base: &str, skip: usize, text: &str) -> Result<Name, PatternError> {
    if base.len() + 2 > MAX_NAME {
        return fail(0, TargetError::NameTooLong);
    }
    let base = checked_name(base, skip, text)?;
    if spans_public_suffix(base.as_str()) {
        return fail(0, Kind::PublicSuffix(base.to_string()));
    }
    Ok(base)
}

fn labels(ascii: &str) -> Result<LabelPattern, PatternError> {
    let lower = ascii.to_ascii_lowercase();
    let pattern = match LabelPattern::new(&lower) {
        Ok(pattern) => pattern,
        Err((offset, error)) => return fail(offset, error),
    };
    let suffix = literal_suffix(pattern.as_str());
    if suffix.is_empty() {
        return fail(ascii.rfind('.').map_or(0, |dot| dot + 1), Kind::LastLabel);
    }
    // The suffix must be a valid name, so that a numeric last label is refused here too.
    checked_name(suffix, ascii.len() - suffix.len(), ascii)?;
    if spans_public_suffix(suffix) {
        let before = pattern.as_str().strip_suffix(suffix).and_then(|head| head.strip_suffix('.'));
        let name = before.and_then(|head| head.strip_prefix('*')).filter(|rest| !rest.contains(['*', '.']));
        return match name {
            Some(name) if !name.starts_with('-') => fail(0, Kind::NoBoundary(format!("{name}.{suffix}"))),
            _ => fail(0, Kind::PublicSuffix(suffix.to_owned())),
        };
    }
    Ok(pattern)
}

/// `Name::parse` with the offset of the label that is wrong. `offset` is where `ascii` begins in `text`; it is used
/// only if both have the same bytes.
fn checked_name(ascii: &str, offset: usize, text: &str) -> Result<Name, PatternError> {
    // One trailing dot is already removed. A second one is an empty label and must not be removed.
    if ascii.ends_with('.') || ascii.is_empty() {
        return fail(offset + ascii.len().saturating_sub(1), TargetError::EmptyLabel);
    }
    Name::parse(ascii).or_else(|error| {
        let mut at = 0;
        for label in ascii.split('.') {
            let wrong = match error {
                TargetError::EmptyLabel => label.is_empty(),
                TargetError::LabelTooLong => label.len() > crate::words::target::MAX_LABEL,
                TargetError::Hyphen => label.starts_with('-') || label.ends_with('-'),
                _ => false,
            };
            if wrong {
                break;
            }
            at += label.len() + 1;
        }
        let at = if at > ascii.len() || !text.is_ascii() { 0 } else { offset + at };
        fail(at, error)
    })
}

/// `10.0.*.*`: a text of only numbers and stars is meant as addresses.
fn looks_like_address(ascii: &str) -> bool {
    ascii.bytes().any(|byte| byte.is_ascii_digit())
        && ascii.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b'*'))
}

/// Whether a text has only characters that names and patterns of names can have.
pub(super) fn is_plain(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric() || is_mark(byte))
}

fn is_mark(byte: u8) -> bool {
    matches!(byte, b'-' | b'_' | b'.' | b'*')
}

fn instead_of(character: char) -> &'static str {
    match character {
        '/' => "a rule has no path, and only an IP address has a prefix length",
        '?' => "the only wildcard is `*`, which stands for one or more characters of a label",
        '{' | '}' | ',' | ';' => "write one rule for each name",
        '^' | '$' | '\\' | '(' | ')' | '[' | ']' | '|' | '+' => {
            "rules are not regular expressions; write the name, or `*.name`"
        }
        '!' | '~' => "to exclude a host, write it under `deny`",
        '@' => "a rule has no user information",
        '%' => "percent-encoding is not decoded; write the name itself",
        '#' => "a comment begins after a space",
        '\'' | '"' | '`' => "write the name without quotes",
        ' ' | '\t' => "write one rule per line, without spaces",
        _ => "a name has letters, digits, '-', '_' and '.'",
    }
}

/// Converts each label outside ASCII to its A-label (UTS #46), and leaves the others unchanged. It works label by
/// label, so that no mapping can add a dot or a `*`: U+3002 and U+FF0A are refused.
fn to_ascii(text: &str) -> Result<Cow<'_, str>, PatternError> {
    if text.is_ascii() {
        return Ok(Cow::Borrowed(text));
    }
    let mut ascii = String::with_capacity(text.len());
    let mut offset = 0;
    for (index, label) in text.split('.').enumerate() {
        if index > 0 {
            ascii.push('.');
        }
        if label.is_ascii() {
            ascii.push_str(label);
        } else if label.contains('*') {
            return fail(offset, Kind::IdnStar);
        } else {
            match idna::domain_to_ascii(label) {
                // For example, U+02DC maps to a space and a tilde, which are not allowed in a name.
                Ok(converted) if converted.starts_with("xn--") && is_letters_digits_hyphens(&converted) => {
                    ascii.push_str(&converted);
                }
                _ => return fail(offset, Kind::Idn),
            }
        }
        offset += label.len() + 1;
    }
    Ok(Cow::Owned(ascii))
}

fn is_letters_digits_hyphens(label: &str) -> bool {
    label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

/// The network of a pattern for addresses; an address is a network of one.
pub(super) fn network_of(pattern: &HostPattern) -> Option<IpNet> {
    match pattern {
        HostPattern::Address(IpAddr::V4(address)) => Some(IpNet::V4(Ipv4Net::from(*address))),
        HostPattern::Address(IpAddr::V6(address)) => Some(IpNet::V6(Ipv6Net::from(*address))),
        HostPattern::Network(network) => Some(*network),
        _ => None,
    }
}
