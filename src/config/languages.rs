//! The small languages inside the file: durations, sizes, budgets, dates, addresses and networks.
//!
//! Each is a pure function from text to value, or to one sentence that says what to write instead. One way to write a
//! thing is accepted, so that a reader never has to guess a unit. Not here: which range a key allows (`meaning`).

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ipnet::IpNet;
use jiff::Timestamp;

use super::finding::quoted;
use crate::words::target::{Host, Port, Target};
use crate::words::units::{DURATION_UNITS, SIZE_UNITS};

/// `500ms`, `10s`, `5m`, `1h30m`, `30d`: whole numbers with units, largest first, each unit once.
///
/// # Errors
/// What to write instead.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(format!("{} has no unit: write {text}s if seconds are meant", quoted(text)));
    }
    duration_millis(text).map(Duration::from_millis).ok_or_else(|| {
        let text = quoted(text);
        format!(
            "{text} is not a duration: write whole numbers with the units d, h, m, s, ms, largest first, such as 10s, 5m or 1h30m"
        )
    })
}

fn duration_millis(text: &str) -> Option<u64> {
    let (mut rest, mut units, mut total) = (text, DURATION_UNITS.as_slice(), 0_u64);
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let (number, after) = rest.split_at(rest.bytes().take_while(u8::is_ascii_digit).count());
        let (unit, after) = after.split_at(after.bytes().take_while(u8::is_ascii_alphabetic).count());
        let index = units.iter().position(|(name, _)| *name == unit)?;
        let millis = units.get(index)?.1;
        total = total.checked_add(number.parse::<u64>().ok()?.checked_mul(millis)?)?;
        units = units.get(index + 1..)?;
        rest = after;
    }
    Some(total)
}

/// `16KiB`, `50MB`, `16384` (bytes), in bytes.
///
/// # Errors
/// What to write instead.
pub(super) fn size(text: &str) -> Result<u64, String> {
    let (number, unit) = text.split_at(text.bytes().take_while(u8::is_ascii_digit).count());
    let known = SIZE_UNITS.iter().find(|(name, _)| *name == unit || (unit.is_empty() && *name == "B"));
    if let (false, Some((_, bytes))) = (number.is_empty(), known) {
        let size = number.parse::<u64>().ok().and_then(|number| number.checked_mul(*bytes));
        return size.ok_or_else(|| format!("{} is too large: no size is over 16 EiB", quoted(text)));
    }
    let meant = match unit.trim().to_ascii_lowercase().as_str() {
        "k" | "kb" | "kib" => Some("KiB"),
        "m" | "mb" | "mib" => Some("MiB"),
        "g" | "gb" | "gib" => Some("GiB"),
        _ => None,
    };
    Err(match meant {
        Some(meant) if !number.is_empty() => {
            format!(
                "{} is not a size: write {number}{meant}, or {number}{}",
                quoted(text),
                meant.replace('i', "")
            )
        }
        _ => format!(
            "{} is not a size: write a whole number with B, KB, MB, GB, KiB, MiB or GiB, such as 16KiB",
            quoted(text)
        ),
    })
}

/// `5GiB/24h`: bytes in a sliding window of one minute to 31 days.
///
/// # Errors
/// What to write instead.
pub(super) fn budget(text: &str) -> Result<(u64, Duration), String> {
    const MIN: Duration = Duration::from_secs(60);
    const MAX: Duration = Duration::from_secs(31 * 86_400);
    let Some((bytes, window)) = text.split_once('/') else {
        return Err(format!(
            "{} is not a budget: write a size, a slash and a duration, such as 5GiB/24h",
            quoted(text)
        ));
    };
    let (bytes, window) = (size(bytes)?, duration(window)?);
    if bytes == 0 {
        return Err(
            "a budget of 0 bytes lets nothing through: write at least 1B, or deny the host".to_owned()
        );
    }
    if !(MIN..=MAX).contains(&window) {
        return Err("the window of a budget is from 1m to 31d: write 5GiB/24h, say".to_owned());
    }
    Ok((bytes, window))
}

/// `2027-03-31` (the first moment of that day in UTC), or an RFC 3339 date-time with its offset.
///
/// # Errors
/// What to write instead.
pub(super) fn moment(text: &str) -> Result<Timestamp, String> {
    let shape: String = text.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    let parsed = if shape == "0000-00-00" {
        format!("{text}T00:00:00Z").parse::<Timestamp>().ok()
    } else if is_rfc3339(&shape) {
        text.parse::<Timestamp>().ok()
    } else {
        None
    };
    parsed.ok_or_else(|| {
        format!(
            "{} is not a date: write 2027-03-31 (from that day on, UTC) or 2027-03-31T18:00:00Z (RFC 3339)",
            quoted(text)
        )
    })
}

/// RFC 3339 §5.6 on a text whose digits are all `0`: what the parser takes beyond it (a zone in brackets, a space, no
/// seconds) is refused.
fn is_rfc3339(shape: &str) -> bool {
    let Some(rest) = shape.strip_prefix("0000-00-00T00:00:00") else { return false };
    let rest = match rest.strip_prefix('.') {
        Some(fraction) if fraction.starts_with('0') => fraction.trim_start_matches('0'),
        Some(_) => return false,
        None => rest,
    };
    matches!(rest, "Z" | "+00:00" | "-00:00")
}

/// `10.0.0.0/8`, `fc00::/7`: no bits set right of the prefix.
///
/// # Errors
/// What to write instead, with the right network where one can be guessed.
pub(super) fn network(text: &str) -> Result<IpNet, String> {
    if let Ok(address) = text.parse::<IpAddr>() {
        let prefix = if address.is_ipv4() { 32 } else { 128 };
        return Err(format!("{} is an address: write {address}/{prefix} for it alone", quoted(text)));
    }
    let Some(network) = parse_network(text) else {
        return Err(format!(
            "{} is not a network: write an address and a prefix length, such as 10.0.0.0/8",
            quoted(text)
        ));
    };
    if let IpNet::V6(v6) = network
        && v6.prefix_len() >= 96
        && let Some(v4) = v6.network().to_ipv4_mapped()
    {
        // Addresses are unwrapped before they are compared, so this one would never match.
        return Err(format!("{} is IPv4 inside IPv6: write {v4}/{}", quoted(text), v6.prefix_len() - 96));
    }
    if network.addr() != network.network() {
        let (right, address) = (network.trunc(), network.addr());
        return Err(format!(
            "{} has bits set right of its prefix: write {right}, or {address}/{} for that one address",
            quoted(text),
            network.max_prefix_len()
        ));
    }
    Ok(network)
}

/// Stricter than ipnet, which takes `010.0.0.0/8`: is that 8 or 10?
fn parse_network(text: &str) -> Option<IpNet> {
    let (address, prefix) = text.split_once('/')?;
    let plain = prefix.bytes().all(|b| b.is_ascii_digit()) && (prefix == "0" || !prefix.starts_with('0'));
    IpNet::new(address.parse().ok()?, prefix.parse().ok().filter(|_| plain)?).ok()
}

/// An IP address, IPv6 without brackets.
///
/// # Errors
/// What to write instead.
pub(super) fn ip(text: &str) -> Result<IpAddr, String> {
    text.parse()
        .map_err(|_| format!("{} is not an IP address: write one such as 127.0.0.1 or ::1", quoted(text)))
}

/// `0.0.0.0:3128`, `[::]:3128`: what a listener binds. Port 0 is any free port.
///
/// # Errors
/// What to write instead.
pub(super) fn socket_address(text: &str) -> Result<SocketAddr, String> {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Ok(address);
    }
    let shown = quoted(text);
    if let Ok(port) = text.strip_prefix(':').or(text.strip_prefix("*:")).unwrap_or(text).parse::<u16>() {
        return Err(format!(
            "{shown} has no address: write 0.0.0.0:{port} for every IPv4 address of the machine"
        ));
    }
    match text.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
        Ok(address) => Err(format!("{shown} has no port: write {}", SocketAddr::new(address, 3128))),
        Err(_) => Err(format!(
            "{shown} is not an IP address with a port: write one such as 0.0.0.0:3128 or [::]:3128"
        )),
    }
}

/// A DNS server: an address, with port 53 where it has none.
///
/// # Errors
/// What to write instead.
pub(super) fn dns_server(text: &str) -> Result<SocketAddr, String> {
    let address = text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, 53));
    match address.or_else(|_| text.parse::<SocketAddr>()) {
        Ok(server) if server.port() != 0 && !server.ip().is_unspecified() => Ok(server),
        _ => Err(format!("{} is not a DNS server: write its IP address, or address:port", quoted(text))),
    }
}

/// A parent proxy's URL, taken apart.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct ProxyUrl {
    pub(super) tls: bool,
    pub(super) host: Host,
    pub(super) port: Port,
}

/// `http://host:port` or `https://host:port`: nothing else in it.
///
/// # Errors
/// What to write instead.
pub(super) fn proxy_url(text: &str) -> Result<ProxyUrl, String> {
    let shape = "write http://HOST:PORT or https://HOST:PORT";
    let (tls, rest) = match (text.strip_prefix("http://"), text.strip_prefix("https://")) {
        (Some(rest), _) => (false, rest),
        (_, Some(rest)) => (true, rest),
        _ => return Err(format!("{} is not the URL of a proxy: {shape}", quoted(text))),
    };
    if rest.contains('@') {
        // The text may hold a password: it is not quoted.
        return Err(
            "credentials do not stand in the URL: put USER:PASSWORD into `credentials_file`".to_owned()
        );
    }
    let authority = rest.strip_suffix('/').unwrap_or(rest);
    if authority.contains(['/', '?', '#']) {
        return Err(format!("{} has a path, and a proxy has none: {shape}", quoted(text)));
    }
    match Target::connect(authority) {
        Ok(Target { host, port, .. }) => Ok(ProxyUrl { tls, host, port }),
        Err(error) => Err(format!("{} is not the URL of a proxy: {error}; {shape}", quoted(text))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told<T>(result: Result<T, String>, show: impl Fn(T) -> String) -> String {
        match result {
            Ok(value) => show(value),
            Err(text) => format!("error: {text}"),
        }
    }

    /// `want` in full, or an error that contains `want` after `error:`.
    fn check<T>(rows: &[(&str, &str)], parse: fn(&str) -> Result<T, String>, show: impl Fn(T) -> String) {
        for (text, want) in rows {
            let got = told(parse(text), &show);
            match want.strip_prefix("error: ") {
                Some(part) => assert!(got.starts_with("error: ") && got.contains(part), "{text:?}: {got}"),
                None => assert_eq!(got, *want, "{text:?}"),
            }
        }
    }

    #[test]
    fn durations_are_whole_numbers_with_units_largest_first() {
        check(
            &[
                ("0s", "0"),
                ("500ms", "500"),
                ("10s", "10000"),
                ("5m", "300000"),
                ("90m", "5400000"),
                ("1h30m", "5400000"),
                ("1d2h3m4s5ms", "93784005"),
                ("10", "error: write 10s"),
                ("", "error: not a duration"),
                ("s", "error: not a duration"),
                ("10 s", "error: not a duration"),
                ("10S", "error: not a duration"),
                ("1.5h", "error: not a duration"),
                ("-1s", "error: not a duration"),
                ("30m1h", "error: largest first"),
                ("1s1s", "error: not a duration"),
                ("10sec", "error: not a duration"),
                ("99999999999999999999s", "error: not a duration"),
                ("18446744073709551615d", "error: not a duration"),
            ],
            duration,
            |d| d.as_millis().to_string(),
        );
    }

    #[test]
    fn sizes_are_whole_numbers_with_one_unit() {
        check(
            &[
                ("0", "0"),
                ("16384", "16384"),
                ("16384B", "16384"),
                ("16KiB", "16384"),
                ("16KB", "16000"),
                ("50MiB", "52428800"),
                ("1GiB", "1073741824"),
                ("50M", "error: write 50MiB, or 50MB"),
                ("16kib", "error: write 16KiB, or 16KB"),
                ("16 KiB", "error: write 16KiB"),
                ("KiB", "error: such as 16KiB"),
                ("1.5GiB", "error: a whole number"),
                ("-1", "error: a whole number"),
                ("", "error: a whole number"),
                ("99999999999999999999", "error: too large"),
                ("18446744073709551615GiB", "error: too large"),
            ],
            size,
            |bytes| bytes.to_string(),
        );
    }

    #[test]
    fn a_budget_is_a_size_over_a_window() {
        check(
            &[
                ("5GiB/24h", "5368709120/86400"),
                ("1B/1m", "1/60"),
                ("5GiB", "error: such as 5GiB/24h"),
                ("5GiB/day", "error: not a duration"),
                ("5G/24h", "error: write 5GiB"),
                ("0B/24h", "error: at least 1B"),
                ("1GiB/1s", "error: from 1m to 31d"),
                ("1GiB/32d", "error: from 1m to 31d"),
            ],
            budget,
            |(bytes, window)| format!("{bytes}/{}", window.as_secs()),
        );
    }

    #[test]
    fn an_expiry_is_a_day_in_utc_or_an_rfc_3339_moment() {
        check(
            &[
                ("2027-03-31", "2027-03-31T00:00:00Z"),
                ("2027-03-31T18:30:00Z", "2027-03-31T18:30:00Z"),
                ("2027-03-31T18:30:00.5Z", "2027-03-31T18:30:00.5Z"),
                ("2027-03-31T18:30:00+09:00", "2027-03-31T09:30:00Z"),
                ("2027-02-30", "error: not a date"),
                ("2027-3-31", "error: not a date"),
                ("31.03.2027", "error: not a date"),
                ("20270331", "error: not a date"),
                ("2027-03-31T18:30:00", "error: not a date"),
                ("2027-03-31 18:30:00Z", "error: not a date"),
                ("2027-03-31T18:30Z", "error: not a date"),
                ("2027-03-31T18:30:00Z[UTC]", "error: not a date"),
                ("2027-03-31T25:00:00Z", "error: not a date"),
                ("never", "error: not a date"),
            ],
            moment,
            |moment| moment.to_string(),
        );
    }

    #[test]
    fn a_network_has_no_bits_right_of_its_prefix() {
        check(
            &[
                ("10.0.0.0/8", "10.0.0.0/8"),
                ("10.1.2.3/32", "10.1.2.3/32"),
                ("FC00::/7", "fc00::/7"),
                ("0.0.0.0/0", "0.0.0.0/0"),
                ("10.1.2.3/8", "error: write 10.0.0.0/8, or 10.1.2.3/32"),
                ("fd00::1/8", "error: write fd00::/8, or fd00::1/128"),
                ("10.1.2.3", "error: write 10.1.2.3/32"),
                ("::1", "error: write ::1/128"),
                ("::ffff:10.0.0.0/104", "error: write 10.0.0.0/8"),
                ("10.0.0.0/33", "error: not a network"),
                ("10.0.0.0/255.0.0.0", "error: not a network"),
                ("10/8", "error: not a network"),
                ("010.0.0.0/8", "error: not a network"),
                ("corp", "error: such as 10.0.0.0/8"),
            ],
            network,
            |network| network.to_string(),
        );
    }

    #[test]
    fn a_listener_address_is_an_ip_address_and_a_port() {
        check(
            &[
                ("0.0.0.0:3128", "0.0.0.0:3128"),
                ("[::]:3128", "[::]:3128"),
                ("127.0.0.1:0", "127.0.0.1:0"),
                ("3128", "error: write 0.0.0.0:3128"),
                (":3128", "error: write 0.0.0.0:3128"),
                ("*:3128", "error: write 0.0.0.0:3128"),
                ("10.0.0.1", "error: write 10.0.0.1:3128"),
                ("::1", "error: write [::1]:3128"),
                ("[::1]", "error: write [::1]:3128"),
                ("localhost:3128", "error: not an IP address"),
                ("0.0.0.0:65536", "error: not an IP address"),
            ],
            socket_address,
            |address| address.to_string(),
        );
        check(&[("::1", "::1"), ("[::1]", "error: not an IP address"), ("1.2.3", "error: not")], ip, |ip| {
            ip.to_string()
        });
    }

    #[test]
    fn a_dns_server_is_an_address_with_port_53_unless_written() {
        check(
            &[
                ("169.254.169.253", "169.254.169.253:53"),
                ("fd00:ec2::253", "[fd00:ec2::253]:53"),
                ("127.0.0.1:5353", "127.0.0.1:5353"),
                ("[::1]:5353", "[::1]:5353"),
                ("0.0.0.0", "error: not a DNS server"),
                ("127.0.0.1:0", "error: not a DNS server"),
                ("dns.example", "error: not a DNS server"),
            ],
            dns_server,
            |server| server.to_string(),
        );
    }

    #[test]
    fn a_parent_proxy_is_a_scheme_a_host_and_a_port() {
        check(
            &[
                ("http://proxy.corp:3128", "false proxy.corp 3128"),
                ("https://Proxy.corp:3128/", "true proxy.corp 3128"),
                ("http://[::1]:3128", "false [::1] 3128"),
                ("http://proxy.corp", "error: the port is missing"),
                ("proxy.corp:3128", "error: write http://HOST:PORT"),
                ("socks5://proxy.corp:1080", "error: write http://HOST:PORT"),
                ("http://proxy.corp:3128/path", "error: write http://HOST:PORT"),
                ("http://u:secret@proxy.corp:3128", "error: credentials_file"),
            ],
            proxy_url,
            |url| format!("{} {} {}", url.tls, url.host, url.port),
        );
        assert!(!told(proxy_url("http://u:secret@p:1"), |_| String::new()).contains("secret"));
    }
}
