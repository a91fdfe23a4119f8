//! Networks that hold more than was meant: anybody's addresses among clients, and whole private ranges among targets.
//!
//! Several networks may together be such a one. Not here: rules for networks ([`super::lint`]).

use ipnet::IpNet;

use super::super::address::all_prohibited;
use super::super::address_set::AddressSet;

/// Whether a network is public and larger than what most owners have: a /16 of IPv4, a /32 of IPv6.
pub(super) fn is_wide(network: &IpNet) -> bool {
    let least = match network {
        IpNet::V4(_) => 16,
        IpNet::V6(_) => 32,
    };
    network.prefix_len() < least && all_prohibited(network, &[]).is_none()
}

/// The largest of the networks, put together where they touch, that has addresses of anybody. `None`: there is none.
pub fn open_to_strangers(networks: &[IpNet]) -> Option<IpNet> {
    IpNet::aggregate(&networks.to_vec()).into_iter().filter(is_wide).min_by_key(IpNet::prefix_len)
}

/// Ranges that whole companies share, each with where it is from.
const PRIVATE: [(&str, &str); 6] = [
    ("10.0.0.0/8", "RFC 1918"),
    ("172.16.0.0/12", "RFC 1918"),
    ("192.168.0.0/16", "RFC 1918"),
    ("100.64.0.0/10", "RFC 6598"),
    ("fc00::/7", "RFC 4193"),
    ("fd00::/8", "RFC 4193"),
];

/// The warning about networks under `private` that together have a whole private range, with the first one that has all of it
/// alone.
pub fn whole_private(networks: &[IpNet]) -> Option<(Option<IpNet>, String)> {
    let set = AddressSet::of(networks);
    let mut ranges = PRIVATE.iter().filter_map(|(text, of)| Some((text.parse::<IpNet>().ok()?, of)));
    let (range, of) = ranges.find(|(range, _)| set.holds(range))?;
    let alone = networks.iter().copied().find(|network| network.contains(&range));
    let text = format!(
        "{range} is a whole private range ({of}): each internal address that a listed name leads to, or is made to lead to, can be \
         reached; write the networks of the targets alone, such as the subnet of the endpoint"
    );
    Some((alone, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nets(text: &str) -> Vec<IpNet> {
        text.split_whitespace().map(|text| text.parse().expect("a network")).collect()
    }

    #[test]
    fn networks_that_together_are_everybody_are_found() {
        let rows = [
            ("0.0.0.0/0", Some("0.0.0.0/0")),
            ("::/0", Some("::/0")),
            ("10.0.0.0/8 0.0.0.0/1 128.0.0.0/1", Some("0.0.0.0/0")),
            // All but multicast and above.
            ("0.0.0.0/1 128.0.0.0/2 192.0.0.0/3", Some("0.0.0.0/1")),
            ("2000::/3", Some("2000::/3")),
            ("8.0.0.0/9 8.128.0.0/9", Some("8.0.0.0/8")),
            ("0.0.0.0/5", Some("0.0.0.0/5")),
            ("10.0.0.0/8 172.16.0.0/12 192.168.0.0/16 100.64.0.0/10 127.0.0.0/8 fc00::/7", None),
            ("203.0.113.0/24 198.51.0.0/16 2001:db8::/32", None),
            ("", None),
        ];
        for (networks, want) in rows {
            let found = open_to_strangers(&nets(networks)).map(|net| net.to_string());
            assert_eq!(found.as_deref(), want, "{networks}");
        }
    }

    #[test]
    fn a_whole_private_range_is_found_in_pieces_too() {
        let rows = [
            ("10.0.0.0/8", Some((Some("10.0.0.0/8"), "10.0.0.0/8"))),
            ("10.0.0.0/9 10.128.0.0/9", Some((None, "10.0.0.0/8"))),
            ("192.0.2.0/24 172.16.0.0/12", Some((Some("172.16.0.0/12"), "172.16.0.0/12"))),
            ("192.168.0.0/15", Some((Some("192.168.0.0/15"), "192.168.0.0/16"))),
            ("fd00::/8", Some((Some("fd00::/8"), "fd00::/8"))),
            ("10.0.0.0/9 172.16.0.0/13 192.168.0.0/17 100.64.0.0/11 fd00::/16", None),
        ];
        for (networks, want) in rows {
            let found = whole_private(&nets(networks));
            let got = found.as_ref().map(|(alone, text)| {
                (alone.map(|net| net.to_string()), text.split(' ').next().unwrap_or_default())
            });
            let want = want.map(|(alone, range)| (alone.map(str::to_owned), range));
            assert_eq!(got, want, "{networks}");
        }
    }
}
