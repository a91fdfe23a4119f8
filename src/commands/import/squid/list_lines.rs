//! The lines of a file that an `acl` names, as Squid reads them, and the values that match nothing.
//!
//! One line is one value, blanks inside it included, up to a blank that a `#` follows. What else looks like a comment, a second
//! name or a flag is part of the value, which then matches nothing. `tests/e2e` holds this to a real Squid. Not here: what a
//! value of a type means ([`super::acl`]).

use std::net::{IpAddr, Ipv6Addr};

use crate::words::target::{Host, Name};

/// What stands before the first value where an editor wrote a byte-order mark; to Squid it is part of that value.
pub(super) const BYTE_ORDER_MARK: char = '\u{feff}';

/// The blanks that Squid knows; any other is part of a value.
const BLANK: [char; 4] = [' ', '\t', '\r', '\n'];

/// Each value of a file, with its line. `words`: several on a line, as in a file that `parameters()` names.
pub(super) fn values(content: &[u8], words: bool) -> Vec<(u32, String)> {
    let mut values = Vec::new();
    for (line, number) in content.split(|byte| *byte == b'\n').zip(1_u32..) {
        let text = String::from_utf8_lossy(line);
        if words {
            values.extend(words_of(&text).map(|word| (number, word.to_owned())));
        } else if let Some(value) = value(&text)
            // A comment to everybody but Squid, to which it is a name that matches nothing.
            && !value.strip_prefix(BYTE_ORDER_MARK).is_some_and(|rest| rest.starts_with('#'))
        {
            values.push((number, value.to_owned()));
        }
    }
    values
}

/// The value of a line; None: it is blank, or a comment.
pub(super) fn value(line: &str) -> Option<&str> {
    // Squid's strings end at a NUL.
    let line = line.split('\0').next().unwrap_or_default().trim_matches(BLANK);
    let comment = line
        .match_indices('#')
        .map(|(at, _)| at)
        .find(|at| line.get(..*at).is_none_or(|before| before.is_empty() || before.ends_with(BLANK)));
    let value = comment.map_or(line, |at| line.get(..at).unwrap_or_default()).trim_end_matches(BLANK);
    (!value.is_empty()).then_some(value)
}

/// The words of a line, without the quotation marks around them.
fn words_of(line: &str) -> impl Iterator<Item = &str> {
    let line = line.split('\0').next().unwrap_or_default();
    line.split(BLANK)
        .filter(|word| !word.is_empty())
        .take_while(|word| !word.starts_with('#'))
        .map(|word| word.trim_matches(['"', '\'']))
}

/// Why a value of `dstdomain` matches no host that a client can ask for. None: it may match one.
pub(super) fn never_matches(value: &str) -> Option<String> {
    if value.starts_with(BYTE_ORDER_MARK) {
        return Some("Squid takes the byte-order mark before it as part of the name".to_owned());
    }
    if value.contains([' ', '\t']) {
        return Some("Squid takes the whole line as one name, blanks included".to_owned());
    }
    if value.contains('#') {
        return Some("Squid begins a comment only after a blank, so the `#` is part of the name".to_owned());
    }
    if value.ends_with('.') {
        return Some("Squid takes the dot off the host that is asked for, and not off its lists".to_owned());
    }
    if !value.is_ascii() {
        return Some("Squid compares it with the host's A-label (`xn--…`)".to_owned());
    }
    if value.parse::<Ipv6Addr>().is_ok() {
        return Some("in a host, an IPv6 address stands in brackets".to_owned());
    }
    if let Some(address) = address(value) {
        let written = Host::Address(address).to_string();
        return (!written.eq_ignore_ascii_case(value)).then(|| format!("the host is written `{written}`"));
    }
    let name = value.strip_prefix('.').unwrap_or(value);
    Name::parse(name).err().map(|error| error.to_string())
}

/// The address that a value of `dstdomain` is, if it is one.
pub(super) fn address(value: &str) -> Option<IpAddr> {
    match Host::parse(value) {
        Ok(Host::Address(address)) => Some(address),
        _ => value.parse::<IpAddr>().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_one_value() {
        let rows: &[(&str, Option<&str>)] = &[
            (".x.test", Some(".x.test")),
            (" \t.x.test\t\r", Some(".x.test")),
            ("x.test #off", Some("x.test")),
            ("x.test\t# a b", Some("x.test")),
            ("x.test#off", Some("x.test#off")),
            ("x.test#off #really", Some("x.test#off")),
            ("x.test b.test", Some("x.test b.test")),
            ("x.test b.test # c", Some("x.test b.test")),
            ("#x.test", None),
            (" # x.test", None),
            ("", None),
            ("\r", None),
            ("x.test\0b.test", Some("x.test")),
            ("\u{a0}x.test", Some("\u{a0}x.test")),
            ("\u{b}x.test", Some("\u{b}x.test")),
            ("\u{feff}x.test", Some("\u{feff}x.test")),
            ("\u{feff}# c", Some("\u{feff}# c")),
            ("-i x.test", Some("-i x.test")),
        ];
        for (line, want) in rows {
            assert_eq!(value(line), *want, "{line:?}");
        }
        assert_eq!(
            values(b"a.test \"b.test\" # c\n#d\n\ne.test\n", true),
            [(1, "a.test".to_owned()), (1, "b.test".to_owned()), (4, "e.test".to_owned())]
        );
        assert_eq!(values(b"a\nb c\r\n", false), [(1, "a".to_owned()), (2, "b c".to_owned())]);
    }

    #[test]
    fn what_matches_nothing_is_known() {
        for value in [
            "x.test",
            ".x.test",
            ".X.Test",
            "test",
            "203.0.113.9",
            "[2001:db8::1]",
            "[2001:DB8::1]",
            "_x.test",
        ] {
            assert_eq!(never_matches(value), None, "{value}");
        }
        for (value, why) in [
            ("x.test.", "the dot"),
            (".x.test.", "the dot"),
            ("x.test#off", "begins a comment"),
            ("x.test b.test", "blanks included"),
            ("\u{feff}x.test", "byte-order mark"),
            ("b\u{fc}cher.test", "A-label"),
            ("2001:db8::1", "brackets"),
            ("[2001:db8:0::1]", "`[2001:db8::1]`"),
            ("203.0.113.0/24", ""),
            ("*.x.test", ""),
            ("..x.test", ""),
            ("https://x.test", ""),
            ("x.test:443", ""),
            ("\"x.test\"", ""),
            (".", ""),
        ] {
            assert!(
                never_matches(value).is_some_and(|told| told.contains(why)),
                "{value}: {:?}",
                never_matches(value)
            );
        }
    }
}
