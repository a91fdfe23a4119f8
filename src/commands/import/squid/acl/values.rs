//! The values of lists, as Squid writes them, and why lists of some types have none that egressd could use.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

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
        "myport" | "myportname" | "localport" | "localip" => {
            "a policy holds for its clients on every listener"
        }
        "random" => "egressd always decides the same request in the same way",
        _ => return format!("egressd has nothing for the type `{kind}`"),
    };
    why.to_owned()
}

/// The networks of an address, a network with a prefix or a mask, a range of addresses, or `all`.
pub(super) fn addresses(value: &str) -> Option<Vec<IpNet>> {
    if value == "all" {
        return Some(vec![v4(Ipv4Addr::UNSPECIFIED, 0), v6(Ipv6Addr::UNSPECIFIED, 0)]);
    }
    if value == "ipv4" {
        return Some(vec![v4(Ipv4Addr::UNSPECIFIED, 0)]);
    }
    if value == "ipv6" {
        return Some(vec![v6(Ipv6Addr::UNSPECIFIED, 0)]);
    }
    let (address, mask) = match value.split_once('/') {
        Some((address, mask)) => (address, Some(mask)),
        None => (value, None),
    };
    let ip = |text: &str| text.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().ok();
    if let Some((low, high)) = address.split_once('-') {
        let whole = mask.is_none_or(|mask| matches!(mask, "32" | "128" | "255.255.255.255"));
        return match (ip(low)?, ip(high)?) {
            (IpAddr::V4(low), IpAddr::V4(high)) if whole && low <= high => {
                Some(ipnet::Ipv4Subnets::new(low, high, 0).map(IpNet::V4).collect())
            }
            (IpAddr::V6(low), IpAddr::V6(high)) if whole && low <= high => {
                Some(ipnet::Ipv6Subnets::new(low, high, 0).map(IpNet::V6).collect())
            }
            _ => None,
        };
    }
    let address = ip(address)?;
    let prefix = match mask {
        None => return Some(vec![IpNet::from(address)]),
        Some(mask) => match mask.parse::<u8>() {
            Ok(prefix) => prefix,
            Err(_) => ipnet::ip_mask_to_prefix(mask.parse::<IpAddr>().ok()?).ok()?,
        },
    };
    IpNet::new(address, prefix).ok().map(|network| vec![network.trunc()])
}

pub(super) fn v4(address: Ipv4Addr, prefix: u8) -> IpNet {
    IpNet::V4(Ipv4Net::new_assert(address, prefix))
}

pub(super) fn v6(address: Ipv6Addr, prefix: u8) -> IpNet {
    IpNet::V6(Ipv6Net::new_assert(address, prefix))
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
    fn addresses_are_read_as_squid_writes_them() {
        let rows: &[(&str, &[&str])] = &[
            ("10.0.0.1", &["10.0.0.1/32"]),
            ("10.0.0.0/8", &["10.0.0.0/8"]),
            ("192.168.0.0/255.255.0.0", &["192.168.0.0/16"]),
            ("10.1.2.3/8", &["10.0.0.0/8"]),
            ("10.0.0.4-10.0.0.7", &["10.0.0.4/30"]),
            ("10.0.0.4-10.0.0.8/32", &["10.0.0.4/30", "10.0.0.8/32"]),
            ("fc00::/7", &["fc00::/7"]),
            ("[::1]", &["::1/128"]),
            ("all", &["0.0.0.0/0", "::/0"]),
        ];
        for (text, want) in rows {
            let got: Vec<String> =
                addresses(text).into_iter().flatten().map(|network| network.to_string()).collect();
            assert_eq!(got, *want, "{text}");
        }
        for text in ["proxy.example.com", "10.0.0.9-10.0.0.1", "10.0.0.0/255.0.255.0", "10.0.0.0/33", ""] {
            assert_eq!(addresses(text), None, "{text}");
        }
    }

    #[test]
    fn ports_are_numbers_and_ranges() {
        assert_eq!(range("443"), Some((443, 443)));
        assert_eq!(range("1025-65535"), Some((1025, 65_535)));
        assert_eq!(range("10-1"), None);
        assert_eq!(range("http"), None);
    }
}
