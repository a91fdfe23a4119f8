//! Holds suggestions to the decisions of the policies that the log is of.
//!
//! Requests are decided by real rules and written as a log; the suggestion is loaded, and decides in turn. Whatever it lets a
//! client reach, the log shows of that client; and what the log shows of it that a rule is the answer to, it lets it reach.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};

use jiff::Timestamp;
use proptest::prelude::*;

use super::tests::suggested;
use super::*;
use crate::config;
use crate::rules::{Denial, Permit, Policies};
use crate::telemetry::record::{Cause, Event, LoggedTarget, Record, new_id};
use crate::words::client::Client;
use crate::words::outcome::Decision;

/// Addresses of clients, in networks of their own and in the same ones.
const CLIENTS: &[&str] = &[
    "10.0.0.1",
    "10.0.0.2",
    "10.0.0.3",
    "10.0.0.130",
    "10.0.1.1",
    "10.0.1.2",
    "10.0.2.1",
    "10.1.0.1",
    "10.1.0.2",
    "2001:db8::1",
    "2001:db8::2",
    "192.0.2.1",
];
const IDENTITIES: &[Option<&str>] = &[None, Some("user:ci"), Some("dns:ci.corp.example"), Some("user:other")];
const PORTS: &[u16] = &[22, 80, 443, 873, 8080, 8443];
const HOSTS: &[&str] = &[
    "a.git.example",
    "b.git.example",
    "a.ci.example",
    "ci.example",
    "pkg.example",
    "a.deb.example",
    "plain.example",
    "evil.example",
    "new.example",
    "203.0.113.9",
    "203.0.113.10",
    "10.9.0.7",
    "[2606:2800::1]",
    "gitlab",
    GONE,
    ITSELF,
];
/// What no rule may ever be offered for: it could not work, or must not stand.
const NEVER: &[&str] = &[
    "169.254.169.254",
    "[fd00:ec2::254]",
    "metadata.google.internal",
    "127.0.0.1",
    "[::1]",
    "localhost",
    "kubernetes.default.svc",
];
/// A name that DNS does not know, and where egressd listens: only a request that got so far tells.
const GONE: &str = "gone.example";
const ITSELF: &str = "10.0.0.53";

/// The policies that the log is of. No rule is for what is in [`NEVER`], but patterns and report mode may be.
const POLICIES: &str = r#"
policies:
  - name: by identity
    clients: {networks: [10.0.0.0/8], identities: ["user:ci", "dns:ci.corp.example"]}
    allow: [.ci.example, "tcp://pkg.example:873", "http://*.deb.example", "https://new.example:8443"]
  - name: gitaly
    clients: {networks: [10.0.0.0/25]}
    allow:
      - "*.git.example"
      - tcp://*.git.example:22
      - http://plain.example:8080
      - {to: "tcp://10.9.0.0/16:22", private: [10.9.0.0/16]}
      - tcp://203.0.113.0/24:443
      - gone.example
  - name: trial
    clients: {networks: [10.1.0.0/24]}
    mode: report
    allow: [a.git.example]
    deny: [evil.example]
  - name: rest
    clients: {networks: [10.0.0.0/8, "2001:db8::/64"]}
    allow: [203.0.113.9, "http://*.git.example", .git.example, "tcp://new.example:1-65535"]
    allow_files: [{file: plain, schemes: [http, tcp]}]
    deny: ["*.evil.example"]
"#;

fn policies() -> Policies {
    let file = |_: &std::path::Path| Ok(b"pkg.example:8080\na.deb.example:80\n".to_vec());
    config::load_str("in-force.yaml", POLICIES, file).expect("it loads").config.policies
}

/// What a client does: the number of its address and identity, the target, and what it sends.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Asks {
    client: &'static str,
    identity: Option<&'static str>,
    host: &'static str,
    port: u16,
    sends: Sends,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Sends {
    /// TLS for the host inside a tunnel.
    Tls,
    /// Something else inside a tunnel.
    Other,
    /// Plain requests inside a tunnel.
    Carried,
    /// A plain request.
    Plain,
}

impl Asks {
    fn target(&self) -> Target {
        let authority = format!("{}:{}", self.host, self.port);
        let target = match self.sends {
            Sends::Plain => Target::http(&authority),
            Sends::Tls | Sends::Other | Sends::Carried => Target::connect(&authority),
        };
        target.expect("a target")
    }

    fn by(&self) -> Client {
        let address: IpAddr = self.client.parse().expect("an address");
        let mut client = Client::direct(SocketAddr::new(address, 40_000));
        client.identities.extend(self.identity.map(Box::from));
        client
    }

    /// What the proxy made of it.
    fn served(&self, policies: &Policies) -> Served {
        let target = self.target();
        let permit = match policies.decide(&target, &self.by(), Timestamp::UNIX_EPOCH) {
            Ok(permit) => permit,
            Err(denial) => return Served::Refused(denial),
        };
        let reason = match (&target.host, self.host) {
            (_, ITSELF) => Some(Reason::Loop),
            (_, GONE) => Some(Reason::DnsNoSuchName),
            (Host::Address(address), _) if policies.admit(&permit, *address).is_err() => {
                Some(Reason::AddressProhibited)
            }
            (Host::Name(_), host) if NEVER.contains(&host) => Some(Reason::DnsNoSuchName),
            _ if permit.decision == Decision::WouldDeny => None,
            _ => match (permit.scheme, self.sends) {
                (Scheme::Https, Sends::Other | Sends::Carried) => Some(Reason::NotTls),
                (Scheme::Http, Sends::Tls | Sends::Other) => Some(Reason::SchemeNotAllowed),
                _ => None,
            },
        };
        match reason {
            Some(reason) => Served::Failed(permit, reason),
            None => Served::Passed(permit),
        }
    }
}

enum Served {
    Passed(Permit),
    Failed(Permit, Reason),
    Refused(Denial),
}

/// The lines of the log, as the proxy writes them.
fn written(asks: &Asks, served: &Served, log: &mut Vec<u8>) {
    let (target, client) = (asks.target(), asks.by());
    let (permit, reason) = match served {
        Served::Passed(permit) => (Some(permit), permit.reason),
        Served::Failed(permit, reason) => (Some(permit), Some(*reason)),
        Served::Refused(denial) => (None, Some(denial.reason)),
    };
    let passed = matches!(served, Served::Passed(_));
    let event = match (passed, asks.sends, reason) {
        (true, Sends::Plain, _) => Event::Http,
        (true, ..) => Event::Open,
        (false, _, reason) => reason.map_or(Event::Error, |reason| Event::of(Cause::Refused(reason))),
    };
    let decision = match event {
        Event::Deny => Some(Decision::Deny),
        _ => permit.map(|permit| permit.decision),
    };
    // The hello is read by an `https` rule, and in report mode where the port is its own.
    let reads = permit.is_some_and(|permit| permit.scheme == Scheme::Https);
    let sni =
        (reads && asks.sends == Sends::Tls && matches!(target.host, Host::Name(_))).then_some(asks.host);
    let logged = match asks.sends {
        Sends::Plain => LoggedTarget::Http { target: &target, path: "/x".into(), query: false, tls: false },
        Sends::Tls | Sends::Other | Sends::Carried => LoggedTarget::Connect(&target),
    };
    let policy = match served {
        Served::Passed(permit) | Served::Failed(permit, _) => Some(&permit.policy),
        Served::Refused(denial) => denial.policy.as_ref(),
    };
    let record = Record {
        client: Some(client.address),
        identity: client.identity(),
        method: Some(if asks.sends == Sends::Plain { "GET" } else { "CONNECT" }.into()),
        target: Some(logged),
        sni: sni.map(Into::into),
        policy: policy.map(|policy| &**policy),
        mode: permit.map(|permit| permit.mode),
        rule: permit.and_then(|permit| permit.rule.as_ref()).map(|rule| &*rule.text),
        decision,
        reason: reason.map(Cause::Refused),
        ..Record::new(event, Timestamp::UNIX_EPOCH, new_id(), "proxy")
    };
    record.write_json(log);
    let is_carried =
        permit.is_some_and(|permit| permit.scheme == Scheme::Http) && asks.sends == Sends::Carried;
    if passed && is_carried {
        let inner = LoggedTarget::Http { target: &target, path: "/y".into(), query: false, tls: false };
        let inner = Record {
            event: Event::Request,
            method: Some("GET".into()),
            target: Some(inner),
            tunnel: Some(new_id()),
            ..record.clone()
        };
        inner.write_json(log);
    }
}

/// The same as Squid's native format has it, which knows of no policy, no rule and no name that was shown.
fn written_by_squid(asks: &Asks, served: &Served, log: &mut Vec<u8>) {
    let (method, url) = match asks.sends {
        Sends::Plain => ("GET", format!("http://{}:{}/x", asks.host, asks.port)),
        Sends::Tls | Sends::Other | Sends::Carried => ("CONNECT", format!("{}:{}", asks.host, asks.port)),
    };
    let (code, by) = match (served, asks.sends) {
        (Served::Refused(_), _) => ("TCP_DENIED/403", "HIER_NONE/-"),
        (Served::Failed(..), _) => ("NONE_NONE/503", "HIER_NONE/-"),
        (Served::Passed(_), Sends::Plain) => ("TCP_MISS/200", "HIER_DIRECT/203.0.113.1"),
        (Served::Passed(_), _) => ("TCP_TUNNEL/200", "HIER_DIRECT/203.0.113.1"),
    };
    let user = asks.identity.and_then(|identity| identity.strip_prefix("user:")).unwrap_or("-");
    let line = format!("1661929934.034 12 {} {code} 618 {method} {url} {user} {by} -\n", asks.client);
    log.extend(line.bytes());
}

fn any_asks() -> impl Strategy<Value = Asks> {
    let sends =
        prop::sample::select(vec![Sends::Tls, Sends::Tls, Sends::Other, Sends::Carried, Sends::Plain]);
    let host = prop_oneof![4 => prop::sample::select(HOSTS), 1 => prop::sample::select(NEVER)];
    let client = (prop::sample::select(CLIENTS), prop::sample::select(IDENTITIES));
    (client, host, prop::sample::select(PORTS), sends)
        .prop_map(|((client, identity), host, port, sends)| Asks { client, identity, host, port, sends })
}

/// The requests of one client to one host and port, in the way that they were asked (by CONNECT, or not), with the scheme of
/// the rule that let each pass; none: none did.
type Logged = HashMap<(&'static str, Option<&'static str>, &'static str, u16, bool), HashSet<Option<Scheme>>>;

/// Everything that any client might ask.
fn all_asks() -> impl Iterator<Item = Asks> {
    CLIENTS.iter().flat_map(|client| {
        IDENTITIES.iter().flat_map(move |identity| {
            HOSTS.iter().chain(NEVER).flat_map(move |host| {
                PORTS.iter().flat_map(move |port| {
                    [Sends::Tls, Sends::Plain].map(move |sends| Asks {
                        client,
                        identity: *identity,
                        host,
                        port: *port,
                        sends,
                    })
                })
            })
        })
    })
}

/// Returns how many pairs of a client and a request were compared.
fn compare(asks: &[Asks], squid: bool, denied: bool) -> Result<usize, TestCaseError> {
    let in_force = policies();
    let mut log = Vec::new();
    let mut logged = Logged::new();
    for asks in asks {
        let served = asks.served(&in_force);
        match squid {
            true => written_by_squid(asks, &served, &mut log),
            false => written(asks, &served, &mut log),
        }
        let by = match &served {
            Served::Passed(permit) if permit.decision == Decision::Allow && !squid => Some(permit.scheme),
            Served::Passed(_) => None,
            Served::Failed(_, Reason::NotTls | Reason::SchemeNotAllowed | Reason::AddressProhibited)
            | Served::Refused(_)
                if denied =>
            {
                None
            }
            Served::Failed(..) | Served::Refused(_) => continue,
        };
        let key = (asks.client, asks.identity, asks.host, asks.port, asks.sends != Sends::Plain);
        logged.entry(key).or_default().insert(by);
    }
    let text = suggested(std::str::from_utf8(&log).expect("ASCII"), denied);
    let suggested = config::load_str("s.yaml", &text, |_| Ok(Vec::new())).expect("checked").config.policies;
    for rule in suggested.rules() {
        prop_assert!(!NEVER.contains(&rule.canonical_host()), "{}\n{text}", rule.text());
    }
    // For what failed so, no rule is the answer, for any client.
    let is_dead = |asks: &&Asks| {
        matches!(asks.served(&in_force), Served::Failed(_, Reason::DnsNoSuchName | Reason::Loop)) && !squid
    };
    for dead in asks.iter().filter(is_dead) {
        for (client, identity) in
            CLIENTS.iter().flat_map(|client| IDENTITIES.iter().map(move |id| (client, id)))
        {
            let other = Asks { client, identity: *identity, ..*dead };
            let found = suggested.decide(&other.target(), &other.by(), Timestamp::UNIX_EPOCH);
            prop_assert!(found.is_err(), "{other:?}\n{text}");
        }
    }
    let mut pairs = 0;
    for asks in all_asks() {
        pairs += 1;
        let Ok(permit) = suggested.decide(&asks.target(), &asks.by(), Timestamp::UNIX_EPOCH) else {
            continue;
        };
        // A client that proves an identity may also come without it.
        let of =
            |identity, by_connect| logged.get(&(asks.client, identity, asks.host, asks.port, by_connect));
        let by = |by_connect| {
            [asks.identity, None].into_iter().filter_map(move |identity| of(identity, by_connect)).flatten()
        };
        let is_seen = match permit.scheme {
            Scheme::Https => by(true).next().is_some(),
            // Only a tcp rule opens as much, or the port has told what was not known.
            Scheme::Tcp => by(true).any(|by| matches!(by, None | Some(Scheme::Tcp))),
            // Plain requests, one by one or inside a tunnel.
            Scheme::Http => by(true).chain(by(false)).any(|by| matches!(by, None | Some(Scheme::Http))),
        };
        prop_assert!(is_seen, "{asks:?} by {}\n{text}", permit.scheme);
    }
    for asks in asks {
        let served = asks.served(&in_force);
        let is_offered = match &served {
            _ if NEVER.contains(&asks.host) => false,
            // Only the client's own network knows the name, and a `deny` rule is for its owner to decide.
            Served::Passed(permit) if permit.decision == Decision::WouldDeny && !squid => {
                permit.reason != Some(Reason::HostDenied) && asks.host != "gitlab"
            }
            Served::Passed(_) => true,
            // A rule is the answer to these, unless the name is one that only the client's own network knows.
            Served::Refused(denial) => {
                let by_rules = denial.reason == Reason::HostNotAllowed || squid;
                // Other lines of the log may say that the target is none.
                denied && by_rules && !["gitlab", GONE, ITSELF].contains(&asks.host)
            }
            Served::Failed(..) => false,
        };
        if !is_offered {
            continue;
        }
        let found = suggested.decide(&asks.target(), &asks.by(), Timestamp::UNIX_EPOCH);
        let passes = match (&served, &found) {
            (_, Err(_)) => false,
            (Served::Passed(permit), Ok(found)) if permit.decision == Decision::Allow && !squid => {
                match asks.sends {
                    Sends::Tls => matches!(found.scheme, Scheme::Https | Scheme::Tcp),
                    Sends::Other => found.scheme == Scheme::Tcp,
                    Sends::Carried => matches!(found.scheme, Scheme::Http | Scheme::Tcp),
                    Sends::Plain => found.scheme == Scheme::Http,
                }
            }
            _ => true,
        };
        prop_assert!(passes, "{asks:?}: {found:?}\n{text}");
    }
    Ok(pairs)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// Of at least 10,000 pairs of a client and a request a case.
    #[test]
    fn nothing_is_allowed_that_the_log_does_not_show_of_that_client_and_all_of_that_is(
        asks in proptest::collection::vec(any_asks(), 1..150), denied in any::<bool>(),
    ) {
        prop_assert!(compare(&asks, false, denied)? >= 10_000);
    }

    #[test]
    fn the_same_of_a_log_of_squid(
        asks in proptest::collection::vec(any_asks(), 1..150), denied in any::<bool>(),
    ) {
        // Squid knows names of users alone.
        let is_known = |asks: &Asks| asks.identity.is_none_or(|identity| identity.starts_with("user:"));
        let asks: Vec<Asks> = asks.into_iter().filter(is_known).collect();
        // It relays a tunnel whatever it carries, and does not know what egressd refuses to reach.
        prop_assume!(!asks.is_empty());
        prop_assert!(compare(&asks, true, denied)? >= 10_000);
    }
}
