//! What `src` and `dst` list: the addresses that Squid finds in them.
//!
//! Up to version 6, Squid keeps the values of a list apart: one that overlaps an earlier one is ignored, even where it is the wider
//! of the two. Version 7 joins them. Where the versions differ, an address is [`Truth::Maybe`] in the list.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Subnets, Ipv6Subnets};

use super::truth::Truth;
use crate::words::small_sort::SmallSort as _;

/// IPv4 addresses as Squid holds them: inside IPv6.
const MAPPED: (u128, u128) = (0xffff_0000_0000, 0xffff_ffff_ffff);
const EVERYTHING: (u128, u128) = (0, u128::MAX);

/// A list while its values are read, and after.
#[derive(Clone, Default, Debug)]
pub(super) struct AddressList {
    /// Values that do not overlap, by their first address, with their last one and as they are written.
    kept: BTreeMap<u128, (u128, String)>,
    /// What some version of Squid finds beyond that; ranges that do not touch.
    joined: BTreeMap<u128, u128>,
}

/// Why a value is not what it looks like.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum OddValue {
    /// It overlaps this earlier value, which is not the whole of it.
    Overlaps(String),
    /// Its prefix of 0 makes it this single address.
    Single(IpAddr),
    /// Only version 7 takes `ipv4` and `ipv6` for the whole of a family.
    Family,
    /// It is a name, which Squid looks up when it starts.
    Name,
    /// It cannot be read.
    Unreadable,
}

impl AddressList {
    /// The list of these values, of which each is read as Squid reads it.
    pub(super) fn of(values: &[&str]) -> Self {
        let mut list = AddressList::default();
        for value in values {
            let _ = list.add(value);
        }
        list
    }

    /// Adds a value. What is odd about it is to be told; with [`OddValue::Name`] and [`OddValue::Unreadable`] nothing is added.
    pub(super) fn add(&mut self, value: &str) -> Result<(), OddValue> {
        match value {
            "all"
            | "0/0"
            | "0.0.0.0/0"
            | "0.0.0.0/0.0.0.0"
            | "0.0.0.0-255.255.255.255"
            | "0.0.0.0-0.0.0.0/0" => self.insert(EVERYTHING, value),
            "ipv4" => {
                let _ = self.insert((0, 0), value);
                self.join(MAPPED);
                Err(OddValue::Family)
            }
            "ipv6" => {
                for (first, prefix) in UNICAST {
                    let first = u128::from(*first) << 112;
                    let _ = self.insert((first, first | !mask(*prefix)), value);
                }
                self.join((0, MAPPED.0 - 1));
                self.join((MAPPED.1 + 1, u128::MAX));
                Err(OddValue::Family)
            }
            _ if value.eq_ignore_ascii_case("localhost") => {
                let one = number(Ipv4Addr::LOCALHOST.into());
                self.insert((one, one), value)?;
                self.insert((1, 1), value)
            }
            _ => {
                let (range, odd) = read(value)?;
                self.insert(range, value)?;
                odd.map_or(Ok(()), Err)
            }
        }
    }

    fn insert(&mut self, range: (u128, u128), value: &str) -> Result<(), OddValue> {
        self.join(range);
        let overlapped = self.kept.range(..=range.1).next_back().filter(|(_, (last, _))| *last >= range.0);
        match overlapped {
            None => {
                self.kept.insert(range.0, (range.1, value.to_owned()));
                Ok(())
            }
            Some((first, (last, _))) if *first <= range.0 && *last >= range.1 => Ok(()),
            Some((_, (_, earlier))) => Err(OddValue::Overlaps(earlier.clone())),
        }
    }

    fn join(&mut self, (mut first, mut last): (u128, u128)) {
        let touching: Vec<(u128, u128)> = self
            .joined
            .range(..=last.saturating_add(1))
            .rev()
            .map(|(low, high)| (*low, *high))
            .take_while(|(_, high)| high.saturating_add(1) >= first)
            .collect();
        for (low, high) in touching {
            self.joined.remove(&low);
            first = first.min(low);
            last = last.max(high);
        }
        self.joined.insert(first, last);
    }

    /// Whether every address is in it.
    pub(super) fn everything(&self) -> Truth {
        match (self.kept.get(&0), self.joined.get(&0)) {
            (Some((u128::MAX, _)), _) => Truth::Yes,
            (_, Some(&u128::MAX)) => Truth::Maybe,
            _ => Truth::No,
        }
    }

    /// Whether a network is in it, without what [`AddressList::networks`] names inside that network.
    pub(super) fn has(&self, network: &IpNet) -> Truth {
        let range = range(network);
        if self.keeps(range) {
            return Truth::Yes;
        }
        let joined = self.joined.range(..=range.0).next_back().is_some_and(|(_, high)| *high >= range.1);
        if joined { Truth::Maybe } else { Truth::No }
    }

    /// Whether every version finds all of a range.
    fn keeps(&self, (first, last): (u128, u128)) -> bool {
        let mut end = match self.kept.range(..=first).next_back() {
            Some((_, (end, _))) if *end >= first => *end,
            _ => return false,
        };
        while end < last {
            match self.kept.get(&(end + 1)) {
                Some((next, _)) => end = *next,
                None => return false,
            }
        }
        true
    }

    /// The networks that are in it in every version of Squid.
    pub(super) fn certain(&self) -> Vec<IpNet> {
        self.kept.iter().flat_map(|(first, (last, _))| pieces((*first, *last))).collect()
    }

    /// The networks that it is made of, those that are `Maybe` in it too.
    pub(super) fn networks(&self) -> Vec<IpNet> {
        let kept = self.kept.iter().map(|(first, (last, _))| (*first, *last));
        let joined = self.joined.iter().map(|(first, last)| (*first, *last));
        let doubtful = joined.filter(|range| !self.keeps(*range));
        let mut networks: Vec<IpNet> = kept.chain(doubtful).flat_map(pieces).collect();
        networks.small_sort();
        networks.dedup();
        networks
    }
}

/// What `ipv6` stands for up to version 6: the first 16 bits, and the prefix.
const UNICAST: &[(u16, u32)] = &[
    (0x1000, 4),
    (0x2000, 3),
    (0x4000, 2),
    (0x8000, 2),
    (0xc000, 3),
    (0xe000, 4),
    (0xfc00, 7),
    (0xfe80, 10),
];

/// The networks of a range.
fn pieces((first, last): (u128, u128)) -> Vec<IpNet> {
    let (low, high) = (first.max(MAPPED.0), last.min(MAPPED.1));
    let mut networks = Vec::new();
    if low <= high {
        let ip = |number: u128| Ipv4Addr::from(u32::try_from(number - MAPPED.0).unwrap_or(u32::MAX));
        networks.extend(Ipv4Subnets::new(ip(low), ip(high), 0).map(IpNet::V4));
    }
    let mut six = |first: u128, last: u128| {
        networks.extend(Ipv6Subnets::new(first.into(), last.into(), 0).map(IpNet::V6));
    };
    // No client and no target is an IPv4 address inside IPv6: those are IPv4. So they may stay in a range around them.
    match (first < MAPPED.0, last > MAPPED.1) {
        (true, true) => six(first, last),
        (true, false) => six(first, last.min(MAPPED.0 - 1)),
        (false, true) => six(first.max(MAPPED.1 + 1), last),
        (false, false) => {}
    }
    networks
}

fn range(network: &IpNet) -> (u128, u128) {
    match network {
        IpNet::V4(network) => (number(network.network().into()), number(network.broadcast().into())),
        IpNet::V6(network) => (network.network().into(), network.broadcast().into()),
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => MAPPED.0 | u128::from(u32::from(address)),
        IpAddr::V6(address) => address.into(),
    }
}

fn address(number: u128) -> IpAddr {
    IpAddr::V6(Ipv6Addr::from(number)).to_canonical()
}

/// The bits of a prefix.
fn mask(prefix: u32) -> u128 {
    u128::MAX.checked_shl(128 - prefix).unwrap_or(0)
}

/// An address, a network with a prefix or a mask, or a range, with or without them. Squid takes what follows a whole value
/// for nothing, such as `#office` in `10.0.0.0/8#office`.
fn read(value: &str) -> Result<((u128, u128), Option<OddValue>), OddValue> {
    let four = |byte: u8| byte.is_ascii_digit() || byte == b'.';
    let six = |byte: u8| byte.is_ascii_hexdigit() || byte == b':';
    if let Some(parts) = parts(value, four, four) {
        let prefix = match parts.mask {
            None => 32,
            Some(mask) => match mask.parse::<u32>() {
                Ok(prefix) => prefix,
                // Squid counts the bits in front, and forgets those behind a gap.
                Err(_) => {
                    u32::from(mask.parse::<Ipv4Addr>().map_err(|_| OddValue::Unreadable)?).leading_ones()
                }
            },
        };
        let ip = |text: &str| text.parse::<Ipv4Addr>().map(IpAddr::V4).map_err(|_| OddValue::Unreadable);
        return spread(ip(parts.first)?, parts.last.map(ip).transpose()?, prefix, 32);
    }
    if let Some(parts) = parts(value, six, |byte| byte.is_ascii_digit()) {
        let prefix = match parts.mask {
            None => 128,
            Some(mask) => mask.parse::<u32>().map_err(|_| OddValue::Unreadable)?,
        };
        let ip = |text: &str| text.parse::<Ipv6Addr>().map(IpAddr::V6).map_err(|_| OddValue::Unreadable);
        return spread(ip(parts.first)?, parts.last.map(ip).transpose()?, prefix, 128);
    }
    if let Ok(address) = value.parse::<IpAddr>() {
        return Ok(((number(address), number(address)), None));
    }
    let name = value.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'))
        && value.bytes().any(|byte| byte.is_ascii_alphabetic());
    Err(if name { OddValue::Name } else { OddValue::Unreadable })
}

/// `FIRST-LAST/MASK`, `FIRST-LAST`, `FIRST/MASK`.
struct Parts<'a> {
    first: &'a str,
    last: Option<&'a str>,
    mask: Option<&'a str>,
}

fn parts(value: &str, is_ip: impl Fn(u8) -> bool, is_mask: impl Fn(u8) -> bool) -> Option<Parts<'_>> {
    let (first, rest) = span(value, &is_ip)?;
    if let Some(rest) = rest.strip_prefix('-') {
        let (last, rest) = span(rest, &is_ip)?;
        let mask = rest.strip_prefix('/').and_then(|rest| span(rest, &is_mask)).map(|(mask, _)| mask);
        return Some(Parts { first, last: Some(last), mask });
    }
    let rest = rest.strip_prefix('/').filter(|rest| !rest.is_empty())?;
    Some(Parts { first, last: None, mask: span(rest, &is_mask).map(|(mask, _)| mask) })
}

/// The bytes at the beginning that are `wanted`, at least one, and what follows.
fn span(text: &str, wanted: impl Fn(u8) -> bool) -> Option<(&str, &str)> {
    let end = text.bytes().position(|byte| !wanted(byte)).unwrap_or(text.len());
    text.split_at_checked(end).filter(|(found, _)| !found.is_empty())
}

/// The addresses that Squid finds in a network or in a range of networks.
fn spread(
    first: IpAddr,
    last: Option<IpAddr>,
    prefix: u32,
    whole: u32,
) -> Result<((u128, u128), Option<OddValue>), OddValue> {
    if prefix > whole {
        return Err(OddValue::Unreadable);
    }
    // A prefix of 0 is no mask at all to Squid.
    let mask = if prefix == 0 { u128::MAX } else { mask(prefix + 128 - whole) };
    let low = number(first) & mask;
    let high = last.map_or(low, |last| number(last) & mask);
    let none = high == 0 || high == MAPPED.0;
    // A range that ends before it begins is its beginning alone.
    let high = if none || high < low { low } else { high };
    let odd = (prefix == 0).then(|| OddValue::Single(address(low)));
    Ok(((low, high | !mask), odd))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLIENTS: &[&str] = &[
        "10.1.2.3",
        "10.0.0.65",
        "10.0.0.4",
        "10.0.0.5",
        "10.0.0.9",
        "10.2.0.1",
        "10.3.0.1",
        "192.168.1.5",
        "127.0.0.1",
        "127.0.0.2",
        "8.0.0.1",
        "::1",
        "::5",
        "1000::1",
        "2001:db8::20",
        "2001:db8:1::1",
        "f000::1",
        "fd00::5",
    ];

    /// The clients in a list: all, or after `?` those that only some versions find.
    fn found(values: &str) -> String {
        let mut list = AddressList::default();
        for value in values.split(' ') {
            let _ = list.add(value);
        }
        // As the policies see it: the narrowest network around the client says whether the client is in.
        let networks = list.networks();
        let of = |client: &str| {
            let client: IpAddr = client.parse().expect("an address");
            let around = networks.iter().filter(|network| network.contains(&client));
            around.max_by_key(|network| network.prefix_len()).map_or(Truth::No, |network| list.has(network))
        };
        let those = |truth: Truth| -> Vec<&str> {
            CLIENTS.iter().copied().filter(|client| of(client) == truth).collect()
        };
        let (yes, maybe) = (those(Truth::Yes), those(Truth::Maybe));
        let text = if yes.len() == CLIENTS.len() { "all".to_owned() } else { yes.join(" ") };
        if maybe.is_empty() { text } else { format!("{text} ? {}", maybe.join(" ")) }
    }

    /// Each row as Squid 5.7 answered it, of two versions where a `?` stands.
    #[test]
    fn an_address_is_in_a_list_if_squid_finds_it_there() {
        let tens = "10.1.2.3 10.0.0.65 10.0.0.4 10.0.0.5 10.0.0.9 10.2.0.1 10.3.0.1";
        let four = format!("{tens} 192.168.1.5 127.0.0.1 127.0.0.2 8.0.0.1");
        let rows: &[(&str, &str)] = &[
            ("all", "all"),
            ("0/0", "all"),
            ("0.0.0.0/0", "all"),
            ("0.0.0.0/0.0.0.0", "all"),
            ("0.0.0.0-255.255.255.255", "all"),
            ("0.0.0.0-0.0.0.0/0", "all"),
            ("::/0", ""),
            ("10.0.0.0/0", ""),
            ("0.0.0.0/00", ""),
            ("10.0.0.4/0.0.0.0", "10.0.0.4"),
            ("10.0.0.0/255.0.255.0", tens),
            ("10.0.0.0/255.0.0.0", tens),
            ("10.1.2.3/8", tens),
            ("10.0.0.0/8#office", tens),
            ("10.0.0.0/8x", tens),
            ("10.0.0.4/x", "10.0.0.4"),
            ("10.0.0.4-10.0.0.5junk", "10.0.0.4 10.0.0.5"),
            ("::/64", &format!("{four} ::1 ::5")),
            ("::/3", &format!("{four} ::1 ::5 1000::1")),
            ("::ffff:0:0/96", &four),
            ("::ffff:10.0.0.4", "10.0.0.4"),
            ("::1-::5", "::1 ::5"),
            ("localhost", "127.0.0.1 ::1"),
            ("10.0.0.0-10.2.0.0/16", "10.1.2.3 10.0.0.65 10.0.0.4 10.0.0.5 10.0.0.9 10.2.0.1"),
            ("10.0.0.4-10.0.0.9/24", "10.0.0.65 10.0.0.4 10.0.0.5 10.0.0.9"),
            ("10.0.0.9-10.0.0.4", "10.0.0.9"),
            ("10.0.0.9-0.0.0.0", "10.0.0.9"),
            ("10.0.0.0/8 10.0.0.64/26", tens),
            ("10.0.0.64/26 10.0.0.0/8", "10.0.0.65 ? 10.1.2.3 10.0.0.4 10.0.0.5 10.0.0.9 10.2.0.1 10.3.0.1"),
            (
                "192.168.1.5 10.0.0.65 10.0.0.0/8 10.2.0.1",
                "10.0.0.65 10.2.0.1 192.168.1.5 ? 10.1.2.3 10.0.0.4 10.0.0.5 10.0.0.9 10.3.0.1",
            ),
            (
                "10.0.0.4-10.0.0.9 10.0.0.5-10.2.0.1",
                "10.0.0.4 10.0.0.5 10.0.0.9 ? 10.1.2.3 10.0.0.65 10.2.0.1",
            ),
            (
                "10.0.0.5-10.2.0.1 10.0.0.0-10.0.0.9",
                "10.1.2.3 10.0.0.65 10.0.0.5 10.0.0.9 10.2.0.1 ? 10.0.0.4",
            ),
            ("2001:db8::20 2001:db8::/32", "2001:db8::20 ? 2001:db8:1::1"),
            ("ipv6", "1000::1 2001:db8::20 2001:db8:1::1 fd00::5 ? ::1 ::5 f000::1"),
            ("ipv4", &format!(" ? {four}")),
            ("10.0.0.4/33", ""),
            ("[::1]", ""),
            ("10.0.0.4/", ""),
            ("010.0.0.0/8", ""),
        ];
        for (values, want) in rows {
            assert_eq!(found(values), *want, "{values}");
        }
        let list = AddressList::of(&["10.0.0.4", "all"]);
        assert_eq!((list.everything(), AddressList::of(&["0/0"]).everything()), (Truth::Maybe, Truth::Yes));
    }

    #[test]
    fn what_is_odd_about_a_value_is_said() {
        let mut list = AddressList::of(&["10.0.0.64/26"]);
        let rows = [
            ("10.0.0.0/8", Err(OddValue::Overlaps("10.0.0.64/26".to_owned()))),
            ("10.0.0.65", Ok(())),
            ("::/0", Err(OddValue::Single(IpAddr::V6(Ipv6Addr::UNSPECIFIED)))),
            ("proxy.example.com", Err(OddValue::Name)),
            ("10.0.0.4/33", Err(OddValue::Unreadable)),
            ("ALL", Err(OddValue::Name)),
            ("ipv4", Err(OddValue::Family)),
        ];
        for (value, want) in rows {
            assert_eq!(list.add(value), want, "{value}");
        }
    }
}
