//! The small languages inside the file: dates, addresses, networks and the URL of a proxy.
//!
//! Each is a pure function from text to a value, or to one sentence that says what to write instead. There is only one
//! accepted way to write a value, so that a reader never has to guess. Not here: sizes and durations
//! ([`crate::words::units`]), and which range a key allows ([`super::build`]).

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use ipnet::IpNet;
use jiff::Timestamp;

use crate::rules::HostPattern;
use crate::transport::unix::LONGEST_PATH;
use crate::words::quote::quoted;
use crate::words::target::{Host, Port, Target};

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
            "{} is not a date: write a day such as 2027-03-31 (from its start in UTC) or a time such as \
             2027-03-31T18:00:00Z (RFC 3339)",
            quoted(text)
        )
    })
}

/// Whether a text, with all its digits replaced by `0`, has the form of RFC 3339 §5.6. What the parser accepts beyond
/// that (a zone in brackets, a space, no seconds) is refused.
fn is_rfc3339(shape: &str) -> bool {
    let Some(rest) = shape.strip_prefix("0000-00-00T00:00:00") else { return false };
    let rest = match rest.strip_prefix('.') {
        Some(fraction) if fraction.starts_with('0') => fraction.trim_start_matches('0'),
        Some(_) => return false,
        None => rest,
    };
    matches!(rest, "Z" | "+00:00" | "-00:00")
}

/// A region of AWS, `eu-west-1`: one label of letters, hyphens and a number at the end. Names of hosts in the regions of China and
/// in isolated ones end otherwise, so none of these is accepted.
///
/// # Errors
/// What to write instead.
pub(super) fn region(text: &str) -> Result<Box<str>, String> {
    let parts: Vec<&str> = text.split('-').collect();
    let letters = |part: &&str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase());
    let is_region = match parts.as_slice() {
        [area, middle @ .., number] if !middle.is_empty() => {
            area.len() == 2
                && letters(area)
                && middle.iter().all(letters)
                && matches!(number.len(), 1 | 2)
                && number.bytes().all(|b| b.is_ascii_digit())
                && text.len() <= 32
        }
        _ => false,
    };
    if !is_region {
        return Err(format!("{} is not a region of AWS: write one such as eu-west-1", quoted(text)));
    }
    if parts.first() == Some(&"cn") || parts.iter().any(|part| part.starts_with("iso")) {
        return Err(format!(
            "{} is a region whose hosts have other names, which no set has: write them as rules",
            quoted(text)
        ));
    }
    Ok(text.into())
}

/// `*.corp.example`, `10.0.0.0/8`: the host of a rule, or a network.
///
/// # Errors
/// What to write instead.
pub(super) fn hosts(text: &str) -> Result<HostPattern, String> {
    // Networks are written everywhere else without the brackets that rules need.
    if text.contains('/')
        && !text.contains("://")
        && text.parse::<IpAddr>().is_err()
        && !text.starts_with('[')
    {
        return network(text).map(|network| match network.prefix_len() == network.max_prefix_len() {
            true => HostPattern::Address(network.addr()),
            false => HostPattern::Network(network),
        });
    }
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(HostPattern::Address(address.to_canonical()));
    }
    HostPattern::parse(text).map_err(|error| match text.contains("://") || text.matches(':').count() == 1 {
        true => {
            format!("{} has a scheme or a port: write the host alone, such as *.corp.example", quoted(text))
        }
        false => format!("{}: {error}", quoted(text)),
    })
}

/// `10.0.0.0/8`, `fc00::/7`: no bits set after the prefix.
///
/// # Errors
/// What to write instead, with the correct network if it can be guessed.
pub(super) fn network(text: &str) -> Result<IpNet, String> {
    if let Ok(address) = text.parse::<IpAddr>() {
        let prefix = if address.is_ipv4() { 32 } else { 128 };
        return Err(format!(
            "{} is an address, not a network: write {address}/{prefix} for this one address",
            quoted(text)
        ));
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
        // IPv4-mapped addresses are unwrapped before they are compared, so this network would never match.
        return Err(format!("{} is IPv4 inside IPv6: write {v4}/{}", quoted(text), v6.prefix_len() - 96));
    }
    if network.addr() != network.network() {
        let (right, address) = (network.trunc(), network.addr());
        return Err(format!(
            "{} has bits set after its prefix: write {right}, or {address}/{} for this one address",
            quoted(text),
            network.max_prefix_len()
        ));
    }
    Ok(network)
}

/// A line of a file of networks: a network, or an address, which is the network of that one address.
///
/// # Errors
/// What to write instead.
pub(crate) fn network_line(text: &str) -> Result<IpNet, String> {
    match text.parse::<IpAddr>() {
        Ok(address) => Ok(IpNet::from(address.to_canonical())),
        Err(_) => network(text),
    }
}

/// Stricter than ipnet, which accepts `010.0.0.0/8`: is that 8 or 10?
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

/// Where a listener is, as written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Listen {
    Ip(SocketAddr),
    Unix(PathBuf),
}

/// As written; the name of a listener that has none.
impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Listen::Ip(address) => address.fmt(f),
            Listen::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// `0.0.0.0:3128`, or `unix:/run/egressd/proxy.sock`.
///
/// # Errors
/// What to write instead.
pub(super) fn listen_at(text: &str) -> Result<Listen, String> {
    let Some(path) = text.strip_prefix("unix:") else {
        if text.starts_with('/') {
            return Err(format!("{} is a path: write unix:{text}", quoted(text)));
        }
        return socket_address(text).map(Listen::Ip);
    };
    let shown = quoted(text);
    // Relative to the configuration it would be another place for each tool that reads this.
    if !path.starts_with('/') || path.ends_with('/') {
        return Err(format!("{shown} has no absolute path: write one such as unix:/run/egressd/proxy.sock"));
    }
    if path.contains(char::is_control) {
        return Err(format!("{shown} has a control character in its path: write another path"));
    }
    if path.len() > LONGEST_PATH {
        return Err(format!(
            "{shown}: the path is longer than {LONGEST_PATH} bytes, the most that Linux takes: write a shorter one"
        ));
    }
    Ok(Listen::Unix(path.into()))
}

/// `0660`: the nine bits of user, group and others.
///
/// # Errors
/// What to write instead.
pub(super) fn file_mode(text: &str) -> Result<u32, String> {
    let digits = if text.len() == 4 { text.strip_prefix('0').unwrap_or("") } else { text };
    let is_octal = digits.len() == 3 && digits.bytes().all(|digit| (b'0'..=b'7').contains(&digit));
    match u32::from_str_radix(digits, 8) {
        Ok(mode) if is_octal => Ok(mode),
        _ => Err(format!(
            "{} are no permissions: write octal digits in quotes, such as \"0660\"",
            quoted(text)
        )),
    }
}

/// A DNS server: an address, with port 53 if it has none.
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

/// The parts of a parent proxy's URL.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct ProxyUrl {
    pub(super) tls: bool,
    pub(super) host: Host,
    pub(super) port: Port,
}

/// `http://host:port` or `https://host:port`, with nothing else in it.
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
            "the URL cannot contain credentials: put USER:PASSWORD into the file that `credentials_file` names"
                .to_owned(),
        );
    }
    let authority = rest.strip_suffix('/').unwrap_or(rest);
    if authority.contains(['/', '?', '#']) {
        return Err(format!("{} has a path, which the URL of a proxy cannot have: {shape}", quoted(text)));
    }
    match Target::connect(authority) {
        Ok(Target { host, port, .. }) => Ok(ProxyUrl { tls, host, port }),
        Err(error) => Err(format!("{} is not the URL of a proxy: {error}; {shape}", quoted(text))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words::test_rows::{check, told};

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
