//! The rule that lets exactly one request pass, and whether one can: the only place that chooses its scheme and its `private`.
//!
//! The status page, `suggest` and the lint all ask here, so that they agree. For a tunnel the scheme has to be guessed
//! from the port, unless the tunnel has shown what it carries: an `https` rule for what is not TLS can never work, and a
//! `tcp` rule for what is TLS gives up the check of the server name. Not here: the policy that a request meets
//! ([`remedy`](super::remedy)), and the shortest list for a whole log ([`crate::commands::suggest`]).

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use super::address::{embedded_v4, prohibited};
use super::no_proxy::{NoProxy, no_proxy};
use super::options::RuleOptions;
use super::rule::{Ports, RuleText, Scheme};
use crate::words::target::{Host, Method, PROBE, Port, Target};

/// The scheme that is offered for a tunnel to port 80.
const TUNNEL_TO_80: Scheme = Scheme::Http;

/// Ports where the conversation begins in cleartext, even if TLS follows, with the protocol that is usual there.
const CLEAR_AT_FIRST: &[(u16, &str)] = &[
    (20, "FTP"),
    (21, "FTP"),
    (22, "SSH"),
    (23, "Telnet"),
    (25, "SMTP"),
    (43, "WHOIS"),
    (53, "DNS"),
    (80, "plain HTTP"),
    (88, "Kerberos"),
    (110, "POP3"),
    (119, "NNTP"),
    (139, "SMB"),
    (143, "IMAP"),
    (389, "LDAP"),
    (445, "SMB"),
    (587, "SMTP"),
    (873, "rsync"),
    (1433, "SQL Server"),
    (1521, "Oracle Database"),
    (1883, "MQTT"),
    (2049, "NFS"),
    (3306, "MySQL"),
    (3389, "RDP"),
    (3690, "Subversion"),
    (4222, "NATS"),
    (5222, "XMPP"),
    (5432, "PostgreSQL"),
    (5672, "AMQP"),
    (5900, "VNC"),
    (6379, "Redis"),
    (9418, "git"),
    (11211, "memcached"),
    (11371, "plain HTTP (HKP)"),
];

/// Those of them where plain HTTP is usual.
pub(super) const PLAIN_HTTP: &[u16] = &[80, 11371];

/// Ports where TLS comes first: HTTPS and its usual second ports, and the protocols of RFC 8314 and their like (SMTP,
/// NNTP, LDAP, DNS, FTP, Telnet, IMAP, POP3, Docker, XMPP, TURN, AMQP, WinRM, Kubernetes, syslog, IRC, MQTT).
const TLS_AT_FIRST: &[u16] = &[
    443, 465, 563, 636, 853, 989, 990, 992, 993, 994, 995, 2376, 3269, 4433, 4443, 5061, 5223, 5349, 5671,
    5986, 6443, 6514, 6697, 7443, 8443, 8883, 9443, 10250,
];

/// The protocol that begins in cleartext on `port`, if there is a usual one.
pub fn clear_at_first(port: Port) -> Option<&'static str> {
    CLEAR_AT_FIRST.iter().find(|(known, _)| *known == port.get()).map(|(_, protocol)| *protocol)
}

/// Whether TLS is usual from the first byte on `port`.
pub fn tls_at_first(port: Port) -> bool {
    TLS_AT_FIRST.contains(&port.get())
}

/// The same of all of them. A range is meant for many protocols, unless all of it is of this kind.
pub(super) fn all_tls_at_first(ports: Ports) -> bool {
    (ports.low.get()..=ports.high.get()).all(|port| Port::new(port).is_some_and(tls_at_first))
}

/// Whether a name says that its host serves SSH, on port 443 too: that is what some hosts are for.
pub(super) fn is_of_ssh(name: &str) -> bool {
    name.contains("ssh")
}

/// Whether a rule for this host alone needs a `description`: where TLS is usual, `check` takes a `tcp` rule for a mistake that nothing
/// explains. Not for an address, because TLS to one shows a name that an `https` rule would refuse.
pub fn needs_description(scheme: Scheme, host: &Host, ports: Ports) -> bool {
    let Host::Name(name) = host else { return false };
    scheme == Scheme::Tcp && all_tls_at_first(ports) && !is_of_ssh(name.as_str())
}

/// The `description` of a rule that needs one because of what was seen in tunnels to its host: other bytes than TLS, TLS without a
/// server name, or nothing at all.
pub const NO_TLS_SHOWN: &str = "tunnels to it were seen that showed no TLS for its name";

/// What a tunnel has shown of what it carries.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Inside {
    /// Nothing: it was refused before its first byte, or was not looked into.
    Unknown,
    /// TLS for the host of the CONNECT; for an address, TLS without a server name.
    Tls,
    /// Something else.
    Other,
}

impl Inside {
    /// What is known of a tunnel that only report mode let pass, by the server name in its record. Report mode reads the
    /// ClientHello where the tunnel should be TLS by its port. `None`: the ClientHello names another host.
    pub fn in_report_mode(target: &Target, sni: Option<&str>) -> Option<Inside> {
        let read = Scheme::presumed(target.method, target.port) == Scheme::Https;
        match (&target.host, sni) {
            (Host::Name(name), Some(sni)) => {
                let same = sni.strip_suffix('.').unwrap_or(sni).eq_ignore_ascii_case(name.as_str());
                same.then_some(Inside::Tls)
            }
            (Host::Name(_), None) if read => Some(Inside::Other),
            (Host::Address(_), Some(_)) => Some(Inside::Other),
            (_, None) => Some(Inside::Unknown),
        }
    }
}

/// A rule for exactly one host, port and scheme.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Offer {
    /// The scheme.
    pub scheme: Scheme,
    /// The host; an IPv4-mapped address is IPv4.
    pub host: Host,
    /// The port.
    pub port: Port,
    /// Non-public addresses that the rule has to open, for a host that is an address.
    pub private: Vec<IpNet>,
    /// Whether the scheme is certain: it is that of the request, or the tunnel has shown what it carries.
    pub certain: bool,
}

/// Why no rule is offered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum NoOffer {
    /// The client's `no_proxy` should name the target.
    NoProxy(NoProxy),
    /// No rule can open the address, by its name in the registry.
    Closed(IpAddr, &'static str),
    /// `doctor` asks for it, or lets a client ask.
    Probe,
    /// The host cannot be written as a rule.
    Unwritable(String),
}

impl fmt::Display for NoOffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NoOffer::NoProxy(no_proxy) => no_proxy.fmt(f),
            NoOffer::Closed(address, why) => write!(f, "no rule can open {address} ({why})"),
            NoOffer::Probe => write!(
                f,
                "`egressd doctor` asks for {PROBE} to be refused: nobody has that name, and no rule is needed"
            ),
            NoOffer::Unwritable(why) => write!(f, "no rule can be written for it: {why}"),
        }
    }
}

/// The rule that lets `target` pass. `listed`: a rule of the policy names the host, so its operator wants it to be
/// reached by the proxy. `opened`: the networks that the policy opens for every rule.
///
/// # Errors
/// Why there is none.
pub fn offer(target: &Target, inside: Inside, listed: bool, opened: &[IpNet]) -> Result<Offer, NoOffer> {
    if target.host.name().is_some_and(|name| name.as_str() == PROBE) {
        return Err(NoOffer::Probe);
    }
    if let Some(found) = no_proxy(&target.host)
        && (found.why.is_certain() || !listed)
    {
        return Err(NoOffer::NoProxy(found));
    }
    let (host, private) = match &target.host {
        Host::Name(_) => (target.host.clone(), Vec::new()),
        Host::Address(address) => {
            let address = address.to_canonical();
            let private = to_open(address, opened).map_err(|why| NoOffer::Closed(address, why))?;
            (Host::Address(address), private)
        }
    };
    let scheme = scheme_of(target, inside);
    let certain = target.method == Method::Http || inside != Inside::Unknown;
    let offer = Offer { scheme, host, port: target.port, private, certain };
    RuleText::parse(&offer.rule()).map_err(|error| NoOffer::Unwritable(error.to_string()))?;
    Ok(offer)
}

fn scheme_of(target: &Target, inside: Inside) -> Scheme {
    match (target.method, inside, &target.host) {
        (Method::Http, ..) => Scheme::Http,
        (Method::Connect, Inside::Tls, _) => Scheme::Https,
        (Method::Connect, Inside::Other, _) => Scheme::Tcp,
        (Method::Connect, Inside::Unknown, _) if target.port == Port::HTTP => TUNNEL_TO_80,
        // A client that looked the name up itself shows that name in its hello, and not the address.
        (Method::Connect, Inside::Unknown, Host::Address(_)) => Scheme::Tcp,
        (Method::Connect, Inside::Unknown, Host::Name(_)) => {
            if tls_at_first(target.port) {
                Scheme::Https
            } else {
                Scheme::Tcp
            }
        }
    }
}

/// The networks that have to be opened for `address` beside `opened`; empty for a public one.
///
/// # Errors
/// Why nothing opens it, by its name in the registry.
pub(super) fn to_open(address: IpAddr, opened: &[IpNet]) -> Result<Vec<IpNet>, &'static str> {
    let Some(why) = prohibited(address, opened) else { return Ok(Vec::new()) };
    // A tunnel's address needs both: the block, and the IPv4 address inside.
    let inside: Vec<IpAddr> = match address {
        IpAddr::V4(_) => Vec::new(),
        IpAddr::V6(address) => embedded_v4(address).map(IpAddr::V4).collect(),
    };
    let alone = vec![IpNet::from(address)];
    let all: Vec<IpNet> = std::iter::once(address).chain(inside).map(IpNet::from).collect();
    let opens = |networks: &Vec<IpNet>| {
        let with: Vec<IpNet> = networks.iter().chain(opened).copied().collect();
        prohibited(address, &with).is_none()
    };
    [alone, all].into_iter().find(opens).ok_or(why)
}

impl Offer {
    /// `scheme://host`, with the port unless it is the scheme's own.
    pub fn rule(&self) -> String {
        rule_text(self.scheme, &self.host, self.port.into())
    }
}

impl Offer {
    /// The rule as an entry of a YAML list: with what it opens, it is a flow mapping.
    pub fn to_yaml(&self) -> String {
        let options = RuleOptions { private: self.private.clone(), ..RuleOptions::default() };
        entry(&self.rule(), &options.to_yaml())
    }
}

/// A rule with these options, which are written as YAML, as an entry of a list.
pub(super) fn entry(rule: &str, options: &str) -> String {
    if options.is_empty() { rule.to_owned() } else { format!("{{to: \"{rule}\", {options}}}") }
}

/// A rule with its scheme; the port is left out if it is the scheme's own.
pub fn rule_text(scheme: Scheme, host: &Host, ports: Ports) -> String {
    match scheme.default_port() {
        Some(port) if Ports::from(port) == ports => format!("{scheme}://{host}"),
        _ => format!("{scheme}://{host}:{ports}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_begins_either_in_cleartext_or_in_tls() {
        assert!(CLEAR_AT_FIRST.is_sorted_by_key(|(port, _)| *port));
        assert!(TLS_AT_FIRST.is_sorted());
        assert!(CLEAR_AT_FIRST.iter().all(|(port, _)| !TLS_AT_FIRST.contains(port)));
    }

    #[test]
    fn the_scheme_is_that_of_what_the_tunnel_carries_or_of_its_port() {
        use Inside::{Other, Tls, Unknown};
        let rows = [
            ("a.example:443", Unknown, "https://a.example"),
            ("a.example:8443", Unknown, "https://a.example:8443"),
            ("a.example:993", Unknown, "https://a.example:993"),
            ("a.example:22", Unknown, "tcp://a.example:22"),
            ("a.example:80", Unknown, "http://a.example"),
            ("a.example:873", Unknown, "tcp://a.example:873"),
            ("a.example:9999", Unknown, "tcp://a.example:9999"),
            ("a.example:9999", Tls, "https://a.example:9999"),
            ("a.example:80", Tls, "https://a.example:80"),
            ("a.example:443", Other, "tcp://a.example:443"),
            ("8.8.8.8:443", Unknown, "tcp://8.8.8.8:443"),
            ("8.8.8.8:443", Tls, "https://8.8.8.8"),
            ("[2606:4700::1]:443", Unknown, "tcp://[2606:4700::1]:443"),
            ("[::ffff:8.8.8.8]:22", Unknown, "tcp://8.8.8.8:22"),
        ];
        for (target, inside, want) in rows {
            let target = Target::connect(target).expect(target);
            let offer = offer(&target, inside, false, &[]).unwrap_or_else(|why| panic!("{target}: {why}"));
            assert_eq!(offer.rule(), want, "{target} {inside:?}");
        }
    }

    #[test]
    fn what_an_address_needs_is_opened_and_what_nothing_opens_is_not_offered() {
        let needs = |host: &str, opened: &[&str]| {
            let target = Target::connect(&format!("{host}:443")).expect(host);
            let opened: Vec<IpNet> = opened.iter().map(|text| text.parse().expect(text)).collect();
            match offer(&target, Inside::Unknown, false, &opened) {
                Ok(offer) => Ok(offer.private.iter().map(ToString::to_string).collect::<Vec<_>>()),
                Err(why) => Err(why.to_string()),
            }
        };
        assert_eq!(needs("8.8.8.8", &[]), Ok(vec![]));
        assert_eq!(needs("10.1.2.3", &[]), Ok(vec!["10.1.2.3/32".to_owned()]));
        assert_eq!(needs("10.1.2.3", &["10.0.0.0/8"]), Ok(vec![]));
        assert_eq!(needs("[::ffff:10.1.2.3]", &[]), Ok(vec!["10.1.2.3/32".to_owned()]));
        assert_eq!(needs("[fd00::5]", &[]), Ok(vec!["fd00::5/128".to_owned()]));
        assert_eq!(needs("[64:ff9b::a01:203]", &[]), Ok(vec!["64:ff9b::a01:203/128".to_owned()]));
        let both = vec!["2002:a01:203::/128".to_owned(), "10.1.2.3/32".to_owned()];
        assert_eq!(needs("[2002:a01:203::]", &[]), Ok(both), "6to4");
        for host in ["224.0.0.1", "255.255.255.255", "[ff02::1]"] {
            assert!(needs(host, &[]).is_err_and(|why| why.starts_with("no rule can open")), "{host}");
        }
        assert!(needs("169.254.169.254", &["169.254.0.0/16"]).is_err_and(|why| why.contains("no_proxy")));
    }

    #[test]
    fn a_name_that_the_policy_lists_is_meant_to_be_reached_by_the_proxy() {
        let target = Target::connect("gitlab:443").expect("a target");
        assert!(matches!(offer(&target, Inside::Unknown, false, &[]), Err(NoOffer::NoProxy(_))));
        assert!(offer(&target, Inside::Unknown, true, &[]).is_ok());
        let target = Target::connect("localhost:443").expect("a target");
        assert!(matches!(offer(&target, Inside::Unknown, true, &[]), Err(NoOffer::NoProxy(_))));
    }
}
