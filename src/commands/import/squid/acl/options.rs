//! The options in front of a list's values, and the types that Squid has.

use super::super::lexer::Word;

/// The options of a line.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(super) struct Options {
    /// As Squid knows them: `-n`, `--consensus`.
    pub(super) names: Vec<&'static str>,
    /// The first that the type does not have: Squid refuses the line.
    pub(super) unknown: Option<String>,
    /// How many words they are.
    pub(super) words: usize,
}

impl Options {
    pub(super) fn has(&self, name: &str) -> bool {
        self.names.contains(&name)
    }

    /// Of two that undo each other, whether the first stands last.
    pub(super) fn ends_with(&self, name: &str, undone: &str) -> bool {
        self.names.iter().rev().find(|found| [name, undone].contains(*found)) == Some(&name)
    }
}

/// The options that a type has.
fn of(kind: &str) -> &'static [&'static str] {
    match kind {
        "dst" | "dstdomain" => &["-n"],
        "dstdom_regex" => &["-n", "-i", "+i"],
        "url_regex" | "urlpath_regex" | "proxy_auth" => &["-i", "+i"],
        "ssl::server_name" => &["--client-requested", "--server-provided", "--consensus"],
        "ssl::server_name_regex" => &["--client-requested", "--server-provided", "--consensus", "-i", "+i"],
        _ => &[],
    }
}

/// Reads the options at the beginning of these words: `-n`, `-ni` for `-n -i`, `--name`; `--` ends them.
pub(super) fn read(kind: &str, words: &[Word]) -> Options {
    let known = of(kind);
    let mut options = Options::default();
    for word in words.iter().take_while(|word| !word.quoted && word.text.starts_with(['-', '+'])) {
        options.words += 1;
        if word.text == "--" {
            break;
        }
        let name = word.text.split('=').next().unwrap_or_default();
        let names: Vec<String> = match name.strip_prefix(['-', '+']) {
            Some(letters) if !name.starts_with("--") && !letters.is_empty() => {
                let sign = if name.starts_with('-') { '-' } else { '+' };
                letters.chars().map(|letter| format!("{sign}{letter}")).collect()
            }
            _ => vec![name.to_owned()],
        };
        for name in names {
            match known.iter().find(|known| **known == name) {
                Some(known) => options.names.push(known),
                None => options.unknown = options.unknown.or(Some(name)),
            }
        }
    }
    options
}

/// Whether Squid has such a type.
pub(super) fn is_type(kind: &str) -> bool {
    TYPES.contains(&kind)
}

#[rustfmt::skip]
const TYPES: &[&str] = &[
    "adaptation_service", "all-of", "annotate_client", "annotate_transaction", "any-of", "arp", "at_step", "browser", "ca_cert",
    "client_connection_mark", "clientside_mark", "connections_encrypted", "dst", "dst_as", "dstdom_regex", "dstdomain", "eui64",
    "ext_user", "ext_user_regex", "external", "has", "hier_code", "http_status", "ident", "ident_regex", "localip", "localport",
    "max_user_ip", "maxconn", "method", "myip", "myport", "myportname", "note", "peername", "peername_regex", "port", "proto",
    "proxy_auth", "proxy_auth_regex", "random", "referer_regex", "rep_header", "rep_mime_type", "req_header", "req_mime_type",
    "server_cert_fingerprint", "snmp_community", "squid_error", "src", "src_as", "srcdom_regex", "srcdomain", "ssl::server_name",
    "ssl::server_name_regex", "ssl_error", "tag", "time", "transaction_initiator", "url_regex", "urllogin", "urlpath_regex",
    "user_cert",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_up_to_the_first_value() {
        let rows = [
            ("dstdomain", "-n example.com", "-n", None, 1),
            ("dstdom_regex", "-ni example -i", "-n -i", None, 1),
            ("dstdom_regex", "-i -- -n", "-i", None, 2),
            ("ssl::server_name", "--client-requested .example.com", "--client-requested", None, 1),
            ("dstdomain", "-i example.com", "", Some("-i"), 1),
            ("src", "-n 10.0.0.1", "", Some("-n"), 1),
            ("src", "- 10.0.0.1", "", Some("-"), 1),
            ("src", "10.0.0.1 -n", "", None, 0),
        ];
        for (kind, text, names, unknown, count) in rows {
            let words: Vec<Word> =
                text.split(' ').map(|word| Word { text: word.to_owned(), quoted: false }).collect();
            let found = read(kind, &words);
            assert_eq!(
                (found.names.join(" "), found.unknown.as_deref()),
                (names.to_owned(), unknown),
                "{text}"
            );
            assert_eq!(found.words, count, "{text}");
        }
    }
}
