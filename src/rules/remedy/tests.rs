//! What is offered for a denial: by example, and that what is pasted lets exactly that request pass.

use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;

use super::written::doubts;
use super::*;
use crate::config;
use crate::rules::address;
use crate::rules::offer::{NO_TLS_SHOWN, clear_at_first};
use crate::words::client::Client;
use crate::words::target::Port;

fn load(text: &str) -> Policies {
    config::load_str("egressd.yaml", text, |_| Err(std::io::ErrorKind::NotFound.into()))
        .unwrap_or_else(|findings| panic!("{text}\n{findings:?}"))
        .config
        .policies
}

fn policies(rules: &str) -> Policies {
    load(&format!("policies:\n  - name: p\n{rules}"))
}

fn connect(authority: &str) -> Target {
    Target::connect(authority).expect(authority)
}

fn http(authority: &str) -> Target {
    Target::http(authority).expect(authority)
}

fn client() -> Client {
    Client::direct("10.0.0.0:1".parse().expect("an address"))
}

/// The remedy in the policy `p`; nothing is known of the tunnel.
fn remedy(policies: &Policies, reason: Reason, target: &Target) -> Remedy {
    policies.remedy(
        Denied { policy: Some("p"), reason, target, inside: Inside::Unknown, request: None },
        Timestamp::now(),
    )
}

const RULES: &str = "    allow: [a.example, 'https://b.example:8443', {to: old.example, expires: 2020-01-01}]
    deny: [evil.example]
";

#[test]
fn the_line_is_for_exactly_that_request() {
    let cases: &[(Target, &str)] = &[
        (connect("new.example:443"), "- https://new.example"),
        (connect("new.example:8443"), "- https://new.example:8443"),
        (connect("new.example:22"), "- tcp://new.example:22"),
        (connect("new.example:873"), "- tcp://new.example:873"),
        (connect("new.example:9999"), "- tcp://new.example:9999"),
        (connect("b.example:443"), "- https://b.example"),
        (http("new.example"), "- http://new.example"),
        (http("a.example:8080"), "- http://a.example:8080"),
        (connect("8.8.8.8:443"), "- tcp://8.8.8.8:443"),
        (connect("10.1.2.3:443"), "- {to: \"tcp://10.1.2.3:443\", private: [\"10.1.2.3/32\"]}"),
        (connect("[fd00::5]:443"), "- {to: \"tcp://[fd00::5]:443\", private: [\"fd00::5/128\"]}"),
    ];
    let now = Timestamp::now();
    let before = policies(RULES);
    for (target, line) in cases {
        let denial = before.decide(target, &client(), now).expect_err("not listed");
        let remedy = remedy(&before, denial.reason, target);
        assert_eq!(remedy.line().as_deref(), Some(*line), "{target}");
        assert_eq!(remedy.advice, Some(denial.advice.into()), "{target}");
    }
}

#[test]
fn where_no_line_is_the_answer_there_is_none() {
    let policies = policies(RULES);
    let now = Timestamp::now();
    for (reason, authority, advice) in [
        (Reason::HostDenied, "evil.example:443", "`evil.example` under `deny` matches"),
        (Reason::RuleExpired, "old.example:443", "expired at 2020-01-01"),
        (Reason::SniMismatch, "a.example:443", "must name the host"),
        (Reason::AddressProhibited, "a.example:443", "stderr shows the address"),
        (Reason::AddressProhibited, "169.254.169.254:443", "which no rule opens: the client's no_proxy must"),
        (
            Reason::HostNotAllowed,
            "169.254.170.2:80",
            "169.254.170.2 is a credential endpoint, which no rule opens",
        ),
        (Reason::HostNotAllowed, "[fd00:ec2::23]:80", "the client's no_proxy must name it"),
        (Reason::HostNotAllowed, "metadata.google.internal:80", "the client's no_proxy must name it"),
        (Reason::HostNotAllowed, "127.0.0.1:15000", "the client's own host"),
        (Reason::HostNotAllowed, "x.localhost:443", "must name .localhost"),
        (Reason::HostNotAllowed, "kubernetes.default.svc:443", "must name .svc"),
        (Reason::HostNotAllowed, "a.b.svc.cluster.local:443", "must name .cluster.local"),
        (Reason::HostNotAllowed, "gitlab:443", "has no dot"),
        (Reason::HostNotAllowed, "224.0.0.1:443", "no rule"),
        (Reason::DnsNoSuchName, "a.example:443", "DNS says that a.example does not exist"),
        (Reason::DnsTimeout, "kubernetes.default.svc:443", "must name .svc"),
        (Reason::Loop, "10.1.2.3:3128", "where egressd itself listens"),
    ] {
        let remedy = remedy(&policies, reason, &connect(authority));
        assert_eq!((remedy.line(), remedy.allowed_now), (None, false), "{authority}");
        assert!(remedy.advice.as_ref().is_some_and(|text| text.contains(advice)), "{authority}: {remedy:?}");
    }
    assert!(
        remedy(&policies, Reason::HostNotAllowed, &connect("a.example:443")).allowed_now,
        "fixed meanwhile"
    );
    assert_eq!(remedy(&policies, Reason::DnsTimeout, &connect("a.example:443")), Remedy::default());
    let target = &connect("a.example:443");
    let of = |policy, reason| {
        policies.remedy(Denied { policy, reason, target, inside: Inside::Unknown, request: None }, now)
    };
    let gone = of(Some("q"), Reason::HostNotAllowed);
    assert_eq!(gone.advice.as_deref(), Some("there is no policy `q` any more"));
    let stranger = of(None, Reason::ClientNotAllowed);
    assert!(stranger.advice.is_some_and(|text| text.contains("clients.networks")));
}

#[test]
fn a_rule_that_decides_already_is_replaced_and_its_options_stay() {
    let policies = policies(
        "    allow:
      - {to: 'a.example:80', upload_limit: 5MiB, verify_certificate: true}
      - {to: 'tcp://10.1.2.3:22', owner: o}
      - tcp://c.example:443
",
    );
    let plain = remedy(&policies, Reason::NotTls, &connect("a.example:80"));
    assert_eq!(plain.line().as_deref(), Some("- {to: \"tcp://a.example:80\", upload_limit: 5MiB}"));
    assert!(plain.first && plain.warnings.iter().any(|text| text.contains("in place of `a.example:80`")));
    let closed = remedy(&policies, Reason::AddressProhibited, &connect("10.1.2.3:22"));
    let line = "- {to: \"tcp://10.1.2.3:22\", owner: \"o\", private: [\"10.1.2.3/32\"]}";
    assert_eq!(closed.line().as_deref(), Some(line));
    assert!(remedy(&policies, Reason::NotTls, &connect("c.example:443")).allowed_now, "a tcp rule by now");
}

#[test]
fn what_a_rule_cannot_see_is_warned_of() {
    let policies = policies(RULES);
    for (reason, authority, warning) in [
        (Reason::HostNotAllowed, "new.example:22", "the content is not inspected"),
        (Reason::HostNotAllowed, "new.example:8443", "write tcp://new.example:8443 with a `description`"),
        (Reason::HostNotAllowed, "new.example:9999", "https://new.example:9999 is narrower"),
        (Reason::HostNotAllowed, "8.8.8.8:443", "a name is better"),
        (Reason::HostNotAllowed, "8.8.8.8:443", "https://8.8.8.8 is narrower"),
        (Reason::HostNotAllowed, "10.1.2.3:443", "not public"),
        (Reason::NotTls, "a.example:443", "the content is not inspected"),
    ] {
        let remedy = remedy(&policies, reason, &connect(authority));
        assert!(remedy.warnings.iter().any(|text| text.contains(warning)), "{authority}: {remedy:?}");
    }
    let plain = remedy(&policies, Reason::HostNotAllowed, &connect("new.example:443"));
    assert_eq!(plain.warnings, Vec::<String>::new());
}

#[test]
fn what_check_would_warn_of_is_warned_of() {
    assert!(
        doubts("*.amazonaws.com", &RuleOptions::default()).iter().any(|text| text.contains("S3 buckets"))
    );
    assert_eq!(doubts("https://git.example.com", &RuleOptions::default()), Vec::<String>::new());
}

#[test]
fn report_mode_asks_for_the_same_line_and_takes_what_the_tunnel_showed() {
    let policies = policies("    mode: report\n    allow: [a.example]\n");
    let line = |authority: &str, inside| {
        let (target, reason) = (connect(authority), Reason::HostNotAllowed);
        let denied = Denied { policy: Some("p"), reason, target: &target, inside, request: None };
        policies.remedy(denied, Timestamp::now()).line().unwrap_or_default()
    };
    assert_eq!(line("new.example:443", Inside::Tls), "- https://new.example");
    let described = format!("- {{to: \"tcp://new.example:443\", description: \"{NO_TLS_SHOWN}\"}}");
    assert_eq!(line("new.example:443", Inside::Other), described);
    assert_eq!(line("new.example:9999", Inside::Tls), "- https://new.example:9999");
}

/// What a client sends through its tunnel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Speaks {
    /// TLS that names the host of the CONNECT; to an address, TLS without a name.
    Tls,
    /// TLS to an address, with the name that the client looked up itself.
    TlsWithName,
    /// Plain HTTP.
    Http,
    /// Something else, such as SSH.
    Other,
}

/// How a request ends before its bytes flow.
#[derive(Clone, PartialEq, Debug)]
enum End {
    Passes(Box<crate::rules::Permit>),
    Refused(Reason, Inside),
}

/// The same steps as serving: the decision, the check of a literal address, and the hello.
fn ask(policies: &Policies, target: &Target, speaks: Speaks) -> End {
    let permit = match policies.decide(target, &client(), Timestamp::now()) {
        Err(denial) => return End::Refused(denial.reason, Inside::Unknown),
        Ok(permit) => permit,
    };
    if let Host::Address(address) = target.host
        && policies.admit(&permit, address).is_err()
    {
        return End::Refused(Reason::AddressProhibited, Inside::Unknown);
    }
    let by_hello = match (target.method, permit.scheme, speaks) {
        (Method::Http, ..) | (Method::Connect, Scheme::Tcp, _) => None,
        (Method::Connect, Scheme::Https, Speaks::Tls) => None,
        (Method::Connect, Scheme::Https, Speaks::TlsWithName) => Some(Reason::SniMismatch),
        (Method::Connect, Scheme::Https, Speaks::Http | Speaks::Other) => Some(Reason::NotTls),
        (Method::Connect, Scheme::Http, Speaks::Http) => None,
        (Method::Connect, Scheme::Http, Speaks::Tls | Speaks::TlsWithName) => Some(Reason::SchemeNotAllowed),
        (Method::Connect, Scheme::Http, Speaks::Other) => Some(Reason::BadRequest),
    };
    let sni = match (&target.host, speaks, permit.scheme) {
        (Host::Name(name), Speaks::Tls, Scheme::Https) => Some(name.as_str().to_owned()),
        (_, Speaks::TlsWithName, Scheme::Https) => Some("looked.up.example".to_owned()),
        _ => None,
    };
    match (permit.reason, by_hello) {
        (Some(reason), _) => match Inside::in_report_mode(target, sni.as_deref()) {
            Some(inside) => End::Refused(reason, inside),
            None => End::Refused(Reason::SniMismatch, Inside::Unknown),
        },
        (None, Some(reason)) => End::Refused(reason, Inside::Unknown),
        (None, None) => End::Passes(Box::new(permit)),
    }
}

/// What stays the same for a request if the policy changes only for another one. A denied request may be denied for
/// another reason: a rule names its host now.
fn verdict(policies: &Policies, target: &Target) -> Option<(Decision, Scheme, Option<String>, Vec<String>)> {
    let permit = policies.decide(target, &client(), Timestamp::now()).ok()?;
    let options = permit.options().map(|(key, value)| format!("{key} {value}")).collect();
    let rule = permit.rule.as_ref().map(|rule| rule.text.to_string());
    let scheme = if permit.decision == Decision::Allow { permit.scheme } else { Scheme::Tcp };
    Some((permit.decision, scheme, rule, options))
}

fn policy_text(mode: &str, private: &str, allow: &[String], deny: &[String]) -> String {
    let mut text = format!("policies:\n  - name: p\n    mode: {mode}\n    private: [{private}]\n");
    for (key, rules) in [("allow", allow), ("deny", deny)] {
        if rules.is_empty() {
            text += &format!("    {key}: []\n");
        } else {
            text += &format!("    {key}:\n");
            rules.iter().for_each(|rule| text += &format!("      {rule}\n"));
        }
    }
    text
}

const HOSTS: &[&str] = &[
    "a.example",
    "b.a.example",
    "x.test",
    "gitlab",
    "kubernetes.default.svc",
    "localhost",
    "metadata.google.internal",
    "8.8.8.8",
    "10.1.2.3",
    "[fd00::5]",
    "[2606:4700::1]",
    "[::ffff:10.1.2.3]",
    "[2002:a01:203::]",
    "[64:ff9b::a01:203]",
    "169.254.170.2",
    "127.0.0.1",
    "224.0.0.1",
];
const PORTS: &[u16] = &[22, 25, 80, 443, 873, 3306, 5432, 6379, 8080, 8443, 9999];

fn any_target() -> impl Strategy<Value = Target> {
    (prop::sample::select(HOSTS), prop::sample::select(PORTS), any::<bool>()).prop_map(
        |(host, port, plain)| {
            let authority = format!("{host}:{port}");
            if plain { http(&authority) } else { connect(&authority) }
        },
    )
}

/// Every other rule is for the host that will be asked for.
fn any_rule(near: &Host) -> impl Strategy<Value = String> + use<> {
    let pattern = prop_oneof![
        2 => Just(near.to_string()),
        1 => prop::sample::select(HOSTS).prop_map(str::to_owned),
        1 =>
        prop::sample::select(vec![
            "*.a.example",
            ".example.org",
            ".a.example",
            "*.x.test",
            "10.0.0.0/8",
            "fd00::/8"
        ])
        .prop_map(str::to_owned),
    ];
    let scheme = prop::sample::select(vec!["", "https://", "http://", "tcp://"]);
    let port = prop_oneof![
        Just(String::new()),
        prop::sample::select(PORTS).prop_map(|port| format!(":{port}")),
        Just(":1-1024".to_owned()),
    ];
    let options = prop::sample::select(vec![
        "",
        ", upload_limit: 5MiB",
        ", expires: 2020-01-01",
        ", private: [10.0.0.0/8]",
        ", owner: o",
    ]);
    (scheme, pattern, port, options).prop_map(|(scheme, pattern, port, options)| {
        let port = if scheme == "tcp://" && port.is_empty() { ":443".to_owned() } else { port };
        // A network of IPv6 has its brackets around the address, with or without a port.
        let pattern = if pattern == "fd00::/8" { "[fd00::]/8".to_owned() } else { pattern };
        format!("- {{to: \"{scheme}{pattern}{port}\"{options}}}")
    })
}

fn any_speech(target: &Target) -> BoxedStrategy<Speaks> {
    let by_name = matches!(target.host, Host::Name(_));
    let tls = if by_name { vec![Speaks::Tls] } else { vec![Speaks::Tls, Speaks::TlsWithName] };
    let speeches = match target.port.get() {
        443 | 8443 => tls,
        80 => vec![Speaks::Http],
        port if clear_at_first(Port::new(port).expect("not 0")).is_some() => vec![Speaks::Other],
        _ => [tls, vec![Speaks::Other, Speaks::Http]].concat(),
    };
    prop::sample::select(speeches).boxed()
}

/// A request, what its client speaks, and some rules.
type Asked = (Target, Speaks, Vec<String>);

fn any_asked() -> impl Strategy<Value = Asked> {
    any_target().prop_flat_map(|target| {
        let rules = prop::collection::vec(any_rule(&target.host), 0..4);
        let speaks = any_speech(&target);
        (Just(target), speaks, rules)
    })
}

/// Whether a rule for `target` is the answer in a policy that has or has not a rule for its host.
fn may_be_offered(target: &Target, listed: bool) -> bool {
    match target.host {
        Host::Address(address) => {
            let open: Vec<ipnet::IpNet> = ["0.0.0.0/0", "::/0"].map(|all| all.parse().expect(all)).to_vec();
            address::prohibited(address, &open).is_none() && !address.is_loopback()
        }
        Host::Name(ref name) => match name.as_str() {
            "localhost" | "metadata.google.internal" => false,
            "gitlab" | "kubernetes.default.svc" => listed,
            _ => true,
        },
    }
}

/// Equal requests: an IPv4-mapped address is IPv4.
fn same(one: &Target, other: &Target) -> bool {
    let canonical = |host: &Host| match host {
        Host::Address(address) => Host::Address(address.to_canonical()),
        name => name.clone(),
    };
    one.method == other.method && one.port == other.port && canonical(&one.host) == canonical(&other.host)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    /// Paste the line, ask again: it passes, and every other request is decided as before.
    #[test]
    fn what_is_pasted_lets_exactly_that_request_pass(
        mode in prop::sample::select(vec!["enforce", "report"]),
        private in prop::sample::select(vec!["", "10.0.0.0/8"]),
        deny in prop::collection::vec(prop::sample::select(vec!["- b.a.example", "- .x.test", "- https://a.example", "- a.example:22", "- 8.0.0.0/8"]).prop_map(str::to_owned), 0..2),
        (target, speaks, allow) in any_asked(),
        others in prop::collection::vec(any_target(), 1..8),
    ) {
        let before_text = policy_text(mode, private, &allow, &deny);
        let before = load(&before_text);
        let End::Refused(reason, inside) = ask(&before, &target, speaks) else { return Ok(()) };
        if reason == Reason::SchemeNotAllowed && speaks == Speaks::TlsWithName && before.decide(&target, &client(), Timestamp::now()).is_ok() {
            // Its hello named a host: `remedy_for_own_lookup` comes first.
            return Ok(());
        }
        let denied = Denied { policy: Some("p"), reason, target: &target, inside, request: None };
        let remedy = before.remedy(denied, Timestamp::now());
        prop_assert!(!remedy.allowed_now, "{target} {reason}\n{before_text}");
        let found = before.iter().next().expect("a policy").search(&target, Timestamp::now());
        let by_rule = matches!(reason.class(), Class::NotListed | Class::NoTls | Class::Address);
        // For a `deny` rule, or an expired one, its owner has to decide.
        let owner = found.deny.is_some() || (found.allow.is_none() && found.expired.is_some());
        let offered = by_rule && !owner && may_be_offered(&target, found.names_host());
        prop_assert_eq!(remedy.line().is_some(), offered, "{} {} {:?}\n{}", target, reason, remedy, before_text);
        if let Err(denial) = before.decide(&target, &client(), Timestamp::now()) {
            // The reply says the same.
            let told = denial.advice_with_rule(&before, &target, Timestamp::now());
            let (policy, when) = (before.iter().next().expect("a policy").name(), match target.host {
                Host::Address(_) => "; only if it is to reach the address itself, write `",
                Host::Name(_) => "; to allow it, write `",
            });
            let told = told.split_once(when).map(|(_, rule)| {
                let rule = rule.strip_suffix(&format!("` under `allow` of policy `{policy}`")).expect("where to write it");
                format!("- {rule}")
            });
            prop_assert_eq!(&told, &remedy.line(), "{} {}", target, reason);
        }
        let Some(line) = remedy.line() else {
            let told = remedy.advice.is_some() || reason == Reason::BadRequest;
            prop_assert!(told, "{} {} {:?}", target, reason, remedy);
            return Ok(());
        };
        let mut pasted = allow;
        pasted.insert(if remedy.first { 0 } else { pasted.len() }, line.clone());
        let after = load(&policy_text(mode, private, &pasted, &deny));
        // A rule wanted TLS to this address without a name: only `private` was missing.
        let speaks = if reason.class() == Class::Address && speaks == Speaks::TlsWithName { Speaks::Tls } else { speaks };
        match ask(&after, &target, speaks) {
            End::Passes(permit) => prop_assert_eq!(permit.decision, Decision::Allow),
            // The address was refused first, and then what the tunnel carries: it takes a line for each.
            End::Refused(Reason::NotTls | Reason::BadRequest | Reason::SchemeNotAllowed, _)
                if reason.class() == Class::Address => {}
            End::Refused(again, _) => prop_assert!(false, "{target} {speaks:?}: {reason}, then {again}: {line}\n{before_text}"),
        }
        // An `http` rule is for plain requests and for the CONNECT that carries them.
        let is_meant = |other: &Target| match remedy.rule.as_deref().is_some_and(|rule| rule.starts_with("http://")) {
            true => same(&Target { method: target.method, ..other.clone() }, &target),
            false => same(other, &target),
        };
        for other in others.iter().filter(|other| !is_meant(other)) {
            prop_assert_eq!(verdict(&after, other), verdict(&before, other), "{} by {}\n{}", other, line, before_text);
        }
    }
}

#[test]
fn the_property_meets_each_kind_of_refusal() {
    // The generator is worth nothing if it makes only one kind. Seen over a fixed seed.
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut seen = BTreeSet::new();
    for _ in 0..3_000 {
        let (target, speaks, allow) = any_asked().new_tree(&mut runner).expect("a value").current();
        if let End::Refused(reason, _) = ask(&load(&policy_text("enforce", "", &allow, &[])), &target, speaks)
        {
            seen.insert(reason);
        }
    }
    use Reason::*;
    for reason in [
        HostNotAllowed,
        PortNotAllowed,
        SchemeNotAllowed,
        RuleExpired,
        AddressProhibited,
        NotTls,
        SniMismatch,
    ] {
        assert!(seen.contains(&reason), "{reason}: {seen:?}");
    }
}

/// Report mode looks at the hello of a CONNECT to port 443 that no rule lists.
#[test]
fn a_client_that_showed_the_name_is_offered_no_rule_for_the_address() {
    let policies = policies("    mode: report\n    allow: [a.example]\n");
    let now = Timestamp::now();
    let of = |authority, sni| policies.remedy_for_own_lookup(Some("p"), &connect(authority), sni, now);
    for (authority, sni, then) in [
        ("203.0.113.7:443", "a.example", "; a rule allows that name"),
        ("203.0.113.7:443", "A.example", "; a rule allows that name"),
        ("[2001:db8::7]:443", "b.example", "; the name needs a rule then"),
        ("203.0.113.7:8443", "a.example", "; the name needs a rule then"),
    ] {
        let remedy = of(authority, Some(sni)).expect(authority);
        assert_eq!((remedy.line(), remedy.allowed_now), (None, false));
        let advice = remedy.advice.expect("advice");
        assert!(
            advice.starts_with("the client looked the name up itself, ") && advice.ends_with(then),
            "{advice}"
        );
    }
    for (authority, sni) in [
        ("203.0.113.7:443", None),
        ("203.0.113.7:443", Some("203.0.113.7")),
        ("a.example:443", Some("b.example")),
    ] {
        assert_eq!(of(authority, sni), None, "{authority} {sni:?}");
    }
}
