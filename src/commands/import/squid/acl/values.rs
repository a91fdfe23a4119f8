//! The values of lists, as Squid writes them, and why lists of some types have none that egressd could use.

use super::super::truth::Truth;

/// `GET`, `CONNECT`; `HTTP`.
pub(super) fn way(kind: &str, value: &str, connect: &mut Truth, http: &mut Truth) -> Option<()> {
    let value = value.to_ascii_uppercase();
    match (kind, value.as_str()) {
        ("method", "CONNECT") => *connect = Truth::Yes,
        // None of these is served; a note tells of PURGE.
        ("method", "TRACE" | "PURGE" | "ICP_QUERY" | "HTCP_CLR" | "NONE") => {}
        ("method", _) => *http = (*http).max(Truth::Maybe),
        // To Squid, CONNECT has no protocol.
        ("proto", "NONE") => *connect = Truth::Yes,
        ("proto", "HTTP") => *http = Truth::Yes,
        _ => {}
    }
    Some(())
}

/// Why lists of a type are not carried over.
pub(super) fn lost_type(kind: &str) -> String {
    let why = match kind {
        "time" => "egressd has no rules by time of day (a rule may have `expires`)",
        "external" => "egressd runs no helper programs",
        "url_regex" | "urlpath_regex" | "urllogin" => "egressd decides on host and port, never on a path",
        "src_as" | "dst_as" => "egressd does not know AS numbers",
        "srcdomain" | "srcdom_regex" => {
            "egressd never looks up a client's PTR name: write the client's networks"
        }
        "proxy_auth_regex" => "egressd knows users by name",
        "ident" | "ident_regex" => "egressd does not ask an ident server",
        "arp" | "eui64" => "egressd does not see hardware addresses",
        "browser" | "referer_regex" | "req_header" | "req_mime_type" => {
            "egressd does not decide by what a request says about itself"
        }
        "localip" | "myip" => "a policy holds for its clients at every address of a listener",
        "random" => "egressd always decides the same request in the same way",
        _ => return format!("egressd has nothing for the type `{kind}`"),
    };
    why.to_owned()
}

/// `443` or `1025-65535`.
pub(super) fn range(value: &str) -> Option<(u16, u16)> {
    let (low, high) = value.split_once('-').unwrap_or((value, value));
    let (low, high) = (low.parse::<u16>().ok()?, high.parse::<u16>().ok()?);
    (low <= high).then_some((low, high))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_numbers_and_ranges() {
        assert_eq!(range("443"), Some((443, 443)));
        assert_eq!(range("1025-65535"), Some((1025, 65_535)));
        assert_eq!(range("10-1"), None);
        assert_eq!(range("http"), None);
    }
}
