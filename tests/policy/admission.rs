//! Which clients a policy is for, what a permit contains, what a denial says, and which addresses may be dialled.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use egressd::rules::{
    ClientMatch, Ech, Entry, HeaderEdits, Mode, OptionsId, Origin, Permit, Policies, Policy, PolicyBuilder,
    Requests, RuleOptions, RuleText, Schemes, UploadBudget,
};
use egressd::words::client::Client;
use egressd::words::outcome::{Decision, Reason};

use crate::{NOW, ask, client, decide, now, policy};

fn nets(texts: &[&str]) -> Vec<ipnet::IpNet> {
    texts.iter().map(|text| text.parse().expect("a network")).collect()
}

fn boxed(texts: &[&str]) -> Vec<Box<str>> {
    texts.iter().map(|text| Box::from(*text)).collect()
}

/// A policy that allows `example.com`.
fn named(name: &str, clients: ClientMatch) -> Policy {
    let mut builder = PolicyBuilder::new(name, clients, Mode::Enforce, Vec::new());
    let file = builder.file("egressd.yaml");
    let rule = RuleText::parse("example.com").expect("a rule");
    let origin = Origin { file, line: 1, inline: true, text: "example.com" };
    builder.allow(&rule, Schemes::HTTPS, origin, OptionsId::default()).expect("room");
    builder.build().expect("a policy")
}

#[test]
fn the_first_policy_whose_clients_fit_decides() {
    let policies = Policies::new(vec![
        named("id", ClientMatch { identities: boxed(&["cn:gitaly", "user:git"]), ..ClientMatch::default() }),
        named("vpc", ClientMatch { vpc_endpoints: boxed(&["vpce-0abc"]), ..ClientMatch::default() }),
        named(
            "both",
            ClientMatch {
                networks: nets(&["192.0.2.0/24"]),
                identities: boxed(&["cn:a"]),
                vpc_endpoints: boxed(&["vpce-1"]),
                ..ClientMatch::default()
            },
        ),
        named("ten", ClientMatch { networks: nets(&["10.0.0.0/8"]), ..ClientMatch::default() }),
        named("nobody", ClientMatch { networks: Vec::new(), ..ClientMatch::default() }),
    ]);
    /// Address, identities, VPC endpoint, and the policy that decides.
    type Row<'a> = (&'a str, &'a [&'a str], Option<&'a str>, Option<&'a str>);
    let rows: &[Row<'_>] = &[
        ("10.1.2.3", &["cn:gitaly"], None, Some("id")),
        ("10.1.2.3", &["dns:x", "user:git"], None, Some("id")),
        ("10.1.2.3", &["user:cn:gitaly"], None, Some("ten")),
        ("10.1.2.3", &[], Some("vpce-0abc"), Some("vpc")),
        ("10.1.2.3", &[], Some("vpce-0ab"), Some("ten")),
        ("10.1.2.3", &[], None, Some("ten")),
        ("::ffff:10.1.2.3", &[], None, Some("ten")),
        ("192.168.1.1", &[], None, None),
        ("192.168.1.1", &["cn:gitaly"], None, Some("id")),
        ("192.0.2.1", &["cn:a"], None, None),
        ("192.0.2.1", &["cn:a"], Some("vpce-1"), Some("both")),
        ("203.0.113.9", &["cn:gitaly"], Some("vpce-0abc"), None),
    ];
    for (address, identities, endpoint, want) in rows {
        let address: IpAddr = address.parse().expect("an address");
        let client = Client {
            identities: boxed(identities),
            vpc_endpoint: endpoint.map(Box::from),
            ..Client::direct(SocketAddr::new(address, 1))
        };
        let decided = policies.decide(&ask("CONNECT example.com:443"), &client, now());
        match (&decided, want) {
            (Ok(permit), Some(want)) => assert_eq!(&*permit.policy, *want, "{address} {identities:?}"),
            (Err(denial), None) => assert_eq!(
                (denial.reason, denial.policy.as_ref()),
                (Reason::ClientNotAllowed, None),
                "{address} {identities:?}"
            ),
            _ => panic!("{address} {identities:?} {endpoint:?}: {decided:?}"),
        }
    }
}

#[test]
fn a_policy_may_be_for_those_who_come_by_one_listener() {
    let policies = Policies::new(vec![
        named("b or c", ClientMatch { listeners: boxed(&["b", "c"]), ..ClientMatch::default() }),
        named(
            "b, proven",
            ClientMatch {
                networks: nets(&["192.0.2.0/24"]),
                identities: boxed(&["cn:a"]),
                listeners: boxed(&["b"]),
                ..ClientMatch::default()
            },
        ),
    ]);
    /// Address, identity, listener, and the policy that decides, or the end of the advice.
    type Row<'a> = ([u8; 4], Option<&'a str>, Option<&'a str>, Result<&'a str, &'a str>);
    let rows: &[Row<'_>] = &[
        ([10, 0, 0, 1], None, Some("b"), Ok("b or c")),
        ([10, 0, 0, 1], None, Some("c"), Ok("b or c")),
        ([10, 0, 0, 1], None, Some("a"), Err("come by the listener `b` or `c`, and this one came by `a`")),
        ([10, 0, 0, 1], None, Some("B"), Err("and this one came by `B`")),
        ([10, 0, 0, 1], None, None, Err("its clients come by the listener `b` or `c`")),
        ([192, 0, 2, 1], Some("cn:a"), Some("b"), Ok("b, proven")),
        ([192, 0, 2, 1], Some("cn:a"), Some("c"), Err("come by the listener `b`, and this one came by `c`")),
        ([192, 0, 2, 1], None, Some("b"), Err("need an identity, and this one has proven none")),
        ([203, 0, 113, 1], None, Some("b"), Err("no policy matches clients at 203.0.113.1")),
    ];
    for (address, identity, listener, want) in rows {
        let client = Client {
            identities: boxed(identity.as_slice()),
            listener: listener.map(Into::into),
            ..Client::direct((*address, 1).into())
        };
        let decided = policies.decide(&ask("CONNECT example.com:443"), &client, now());
        match (&decided, want) {
            (Ok(permit), Ok(policy)) => assert_eq!(&*permit.policy, *policy, "{address:?} {listener:?}"),
            (Err(denial), Err(advice)) => {
                assert_eq!(denial.reason, Reason::ClientNotAllowed);
                assert!(denial.advice.ends_with(advice), "{address:?} {listener:?}: {}", denial.advice);
            }
            _ => panic!("{address:?} {identity:?} {listener:?}: {decided:?}"),
        }
        let may = listener.is_some_and(|listener| policies.may_match((*address).into(), listener));
        assert!(may || decided.is_err(), "{address:?} {listener:?}");
    }
    assert!(
        policies.may_match([192, 0, 2, 1].into(), "b") && !policies.may_match([192, 0, 2, 1].into(), "c")
    );
}

#[test]
fn report_mode_does_not_relax_the_client() {
    let policies = Policies::new(vec![policy(&[], Mode::Report)]);
    let stranger = Client::direct(SocketAddr::from(([203, 0, 113, 1], 1)));
    let denial = policies.decide(&ask("CONNECT a.test:443"), &stranger, now()).expect_err("a stranger");
    assert_eq!(denial.reason, Reason::ClientNotAllowed);
    assert_eq!(&*denial.advice, "no policy matches clients at 203.0.113.1");
}

#[test]
fn without_networks_a_policy_is_for_private_addresses() {
    let own = ClientMatch::default();
    let holds =
        |address: &str| own.networks.iter().any(|net| net.contains(&address.parse::<IpAddr>().expect("ip")));
    for inside in ["127.0.0.1", "::1", "10.1.1.1", "172.31.0.1", "192.168.0.1", "100.64.0.1", "fd00::1"] {
        assert!(holds(inside), "{inside}");
    }
    for outside in ["172.32.0.1", "100.128.0.1", "8.8.8.8", "fe80::1", "2001:db8::1", "169.254.1.1"] {
        assert!(!holds(outside), "{outside}");
    }
}

#[test]
fn a_denial_says_which_rule_came_nearest_and_why_it_did_not_fit() {
    let rows: &[(&[&str], &str, &str)] = &[
        (&["allow *.amazonaws.com"], "CONNECT s3.amazonaws.com:22", "port 22: `*.amazonaws.com` allows 443"),
        (&["allow e.test:1-9"], "CONNECT e.test:10", "port 10: `e.test:1-9` allows 1-9"),
        (&["allow e.test"], "GET e.test", "a plain HTTP request: `e.test` allows https on 443"),
        (&["allow e.test"], "GET e.test:8080", "a plain HTTP request: `e.test` allows https on 443"),
        (&["allow http://e.test"], "CONNECT e.test:443", "CONNECT: `http://e.test` allows http on 80"),
        (&["allow http://e.test"], "CONNECT e.test:81", "CONNECT: `http://e.test` allows http on 80"),
        (&["both e.test"], "CONNECT e.test:81", "port 81: `e.test` allows 443 and 80"),
        (&["deny e.test"], "CONNECT E.test.:443", "`e.test` under `deny` matches e.test:443"),
        (
            &["allow e.test until 2027-01-01T00:00:00Z"],
            "CONNECT e.test:443",
            "`e.test` would allow e.test:443, but expired at 2027-01-01T00:00:00Z",
        ),
        (
            &["allow e.test until 2027-01-01T00:00:00Z"],
            "CONNECT e.test:22",
            "`e.test` names e.test, but expired at 2027-01-01T00:00:00Z",
        ),
        (
            &["allow *.e.test"],
            "CONNECT e.test:443",
            "`*.e.test` is for names under e.test, not for e.test itself: `.e.test` matches both",
        ),
        (&["allow e.test"], "CONNECT www.e.test:443", "`e.test` is for e.test only, not for names under it"),
        (
            &["allow g.*.e.test"],
            "CONNECT g.a.b.e.test:443",
            "`g.*.e.test`: each `*` stands for exactly one label, and g.a.b.e.test has more",
        ),
        (&["allow e.test"], "CONNECT other.test:443", "no rule of policy `test` names other.test"),
        (
            &["allow e.test"],
            "CONNECT 203.0.113.9:443",
            "no rule of policy `test` lists the address 203.0.113.9, and rules for names match only names: if the client was given a name, the client looked the name up itself; make it send the name to the proxy (docs/clients.md, \"Clients that send addresses\"; for grpc-go the target passthrough:///HOST:PORT)",
        ),
        (&["deny e.test"], "CONNECT other.test:443", "policy `test` has no `allow` rules"),
    ];
    for (lines, request, want) in rows {
        let denial = decide(lines, Mode::Enforce, request).expect_err(request);
        assert_eq!(&*denial.advice, *want, "{lines:?} {request}");
    }
}

#[test]
fn a_denial_says_which_one_property_the_client_lacks() {
    let by = |clients| {
        Policies::new(vec![named("p", clients)]).decide(&ask("CONNECT example.com:443"), &client(), now())
    };
    let identity =
        by(ClientMatch { identities: boxed(&["cn:x"]), ..ClientMatch::default() }).expect_err("no identity");
    assert!(
        identity.advice.ends_with("its clients need an identity, and this one has proven none"),
        "{}",
        identity.advice
    );
    let vpc = by(ClientMatch { vpc_endpoints: boxed(&["vpce-1"]), ..ClientMatch::default() })
        .expect_err("no endpoint");
    assert!(
        vpc.advice.ends_with("its clients need a VPC endpoint, and this one came through none"),
        "{}",
        vpc.advice
    );
}

/// Rules with options: the exact rule, the wide rule and the rules of the file have different ones.
fn with_options() -> Policies {
    let mut builder =
        PolicyBuilder::new("opt", ClientMatch::default(), Mode::Enforce, nets(&["10.9.0.0/16"]));
    let config = builder.file("/etc/egressd/egressd.yaml");
    let list = builder.file("/etc/egressd/lists/white.txt");
    let budget = UploadBudget { bytes: 5, window: Duration::from_secs(60) };
    let exact = builder.options(RuleOptions {
        name: Some("codecommit".into()),
        owner: Some("platform@example.com".into()),
        ticket: Some("SEC-1".into()),
        description: Some("mirror".into()),
        expires: Some("2028-01-01T00:00:00Z".parse().expect("a moment")),
        private: nets(&["10.1.0.0/16"]),
        upload_limit: Some(500),
        upload_budget: Some(budget),
        verify_certificate: true,
        inspect: true,
        requests: Some(Arc::new(Requests::new(vec![Entry::default()]))),
        headers: Some(Arc::new(HeaderEdits::default())),
        ech: Ech::Deny,
    });
    let of_file = builder.options(RuleOptions { upload_limit: Some(7), ..RuleOptions::default() });
    let rows = [
        ("git.example.com", exact, config, 3, true),
        ("*.example.com", OptionsId::default(), config, 4, true),
        ("a.test", of_file, list, 1, false),
        ("b.test", of_file, list, 2, false),
    ];
    for (text, options, file, line, inline) in rows {
        let rule = RuleText::parse(text).expect("a rule");
        builder.allow(&rule, Schemes::HTTPS, Origin { file, line, inline, text }, options).expect("room");
    }
    let rule = RuleText::parse("198.51.100.0/24:443").expect("a rule");
    let text = "198.51.100.0/24:443";
    builder.deny(&rule, Origin { file: config, line: 9, inline: true, text }).expect("room");
    Policies::new(vec![builder.build().expect("a policy")])
}

fn permit(policies: &Policies, request: &str) -> Permit {
    policies.decide(&ask(request), &client(), now()).expect(request)
}

#[test]
fn options_are_those_of_the_deciding_rule_alone() {
    let policies = with_options();
    let exact = permit(&policies, "CONNECT git.example.com:443");
    assert_eq!(exact.decision, Decision::Allow);
    assert_eq!((exact.upload_limit, exact.verify_certificate, exact.ech), (Some(500), true, Ech::Deny));
    assert_eq!(exact.upload_budget.map(|budget| budget.bytes), Some(5));
    assert_eq!(*exact.private, nets(&["10.1.0.0/16", "10.9.0.0/16"]));
    assert!(exact.inspect && exact.requests.is_some() && exact.headers.is_some());
    let wide = permit(&policies, "CONNECT x.example.com:443");
    assert_eq!((wide.upload_limit, wide.upload_budget, wide.verify_certificate), (None, None, false));
    assert!(!wide.inspect && wide.requests.is_none() && wide.headers.is_none());
    assert_eq!(*wide.private, nets(&["10.9.0.0/16"]));
    assert_eq!(permit(&policies, "CONNECT b.test:443").upload_limit, Some(7));
}

#[test]
fn a_rule_is_known_by_name_else_text_and_a_file_by_its_base_name() {
    let policies = with_options();
    let rows = [
        ("CONNECT git.example.com:443", "git.example.com", "codecommit", "/etc/egressd/egressd.yaml:3"),
        ("CONNECT x.example.com:443", "*.example.com", "*.example.com", "/etc/egressd/egressd.yaml:4"),
        ("CONNECT b.test:443", "b.test", "white.txt", "/etc/egressd/lists/white.txt:2"),
    ];
    for (request, text, label, source) in rows {
        let rule = permit(&policies, request).rule.expect("a rule");
        assert_eq!((&*rule.text, &*rule.label, rule.source.to_string().as_str()), (text, label, source));
    }
}

#[test]
fn every_rule_can_be_seen() {
    let policies = with_options();
    let rules: Vec<_> = policies.rules().collect();
    let texts: Vec<_> = rules.iter().map(|rule| rule.text()).collect();
    assert_eq!(texts, ["git.example.com", "*.example.com", "a.test", "b.test", "198.51.100.0/24:443"]);
    let [first, _, listed, _, deny] = rules.as_slice() else { panic!("five rules") };
    let options = first.options().expect("has some");
    let texts = [&options.name, &options.owner, &options.ticket, &options.description];
    let texts = texts.map(|text| text.as_deref().unwrap_or_default());
    assert_eq!(texts, ["codecommit", "platform@example.com", "SEC-1", "mirror"]);
    assert_eq!(first.expires(), policies.next_expiry(now()));
    assert!(policies.next_expiry("2028-01-01T00:00:00Z".parse().expect("a moment")).is_none());
    assert_eq!(
        (listed.label(), listed.file(), listed.line()),
        ("white.txt", "/etc/egressd/lists/white.txt", 1)
    );
    assert!(!listed.is_inline() && listed.schemes() == Schemes::HTTPS && listed.ports().is_none());
    assert!(deny.is_deny() && deny.schemes() == Schemes::ALL);
    assert_eq!(deny.host().map(|host| host.to_string()).as_deref(), Some("198.51.100.0/24"));
    assert_eq!(deny.canonical_host(), "198.51.100.0/24");
    assert_eq!(&**deny.policy().name(), "opt");
}

fn admit(policies: &Policies, permit: &Permit, address: &str) -> Result<IpAddr, &'static str> {
    let address = address.parse().expect("an address");
    policies.admit(permit, address).map(|admitted| admitted.ip()).map_err(|denial| denial.why)
}

#[test]
fn special_addresses_need_private_and_credential_endpoints_never_pass() {
    let policies = with_options();
    let exact = permit(&policies, "CONNECT git.example.com:443");
    let wide = permit(&policies, "CONNECT x.example.com:443");
    assert!(admit(&policies, &exact, "52.94.1.1").is_ok());
    assert!(admit(&policies, &exact, "10.1.2.3").is_ok());
    assert!(admit(&policies, &exact, "10.9.2.3").is_ok());
    assert!(admit(&policies, &exact, "10.2.2.3").is_err());
    assert!(admit(&policies, &wide, "10.1.2.3").is_err());
    assert!(admit(&policies, &wide, "10.9.2.3").is_ok());
    assert!(admit(&policies, &exact, "169.254.169.254").is_err());
}

#[test]
fn a_denied_network_also_matches_what_a_name_resolves_to() {
    const DENIED: Result<IpAddr, &str> = Err("denied by rule");
    let lines =
        &["allow *.e.test:1-65535", "allow http://*.e.test", "deny 52.0.0.0/24:443", "deny http://52.0.1.1"];
    let policies = Policies::new(vec![policy(lines, Mode::Enforce)]);
    let tls = permit(&policies, "CONNECT a.e.test:443");
    let other = permit(&policies, "CONNECT a.e.test:8443");
    let plain = permit(&policies, "GET a.e.test");
    assert_eq!(admit(&policies, &tls, "52.0.0.9"), DENIED);
    assert_eq!(admit(&policies, &tls, "::ffff:52.0.0.9"), DENIED);
    assert!(admit(&policies, &tls, "64:ff9b::52.0.0.9").is_err());
    assert!(admit(&policies, &tls, "2002:3400:9::1").is_err(), "6to4");
    assert!(admit(&policies, &other, "52.0.0.9").is_ok(), "another port");
    assert!(admit(&policies, &plain, "52.0.0.9").is_ok(), "another port");
    assert!(admit(&policies, &tls, "52.0.1.1").is_ok(), "another scheme");
    assert_eq!(admit(&policies, &plain, "52.0.1.1"), DENIED);
    assert!(admit(&policies, &tls, "52.0.2.1").is_ok());
    assert_eq!(
        admit(&Policies::new(Vec::new()), &tls, "52.0.2.1"),
        Err("the policy that allowed it is gone")
    );
}

#[test]
fn report_mode_relaxes_a_denied_literal_but_not_a_denied_answer() {
    let policies = Policies::new(vec![policy(&["deny 52.0.0.0/24"], Mode::Report)]);
    let literal = permit(&policies, "CONNECT 52.0.0.9:443");
    assert_eq!((literal.decision, literal.reason), (Decision::WouldDeny, Some(Reason::HostDenied)));
    assert!(admit(&policies, &literal, "52.0.0.9").is_ok());
    assert!(admit(&policies, &literal, "52.0.0.8").is_err());
    assert!(admit(&policies, &literal, "10.0.0.1").is_err(), "addresses deny in every mode");
    let name = permit(&policies, "CONNECT a.test:443");
    assert!(admit(&policies, &name, "52.0.0.9").is_err());
}

#[test]
fn the_clock_is_an_argument() {
    let policies = Policies::new(vec![policy(&[&format!("allow a.test until {NOW}")], Mode::Enforce)]);
    let at = |moment: &str| {
        let moment = moment.parse().expect("a moment");
        policies.decide(&ask("CONNECT a.test:443"), &client(), moment).is_ok()
    };
    assert!(at("2027-03-30T23:59:59.999Z"));
    assert!(!at(NOW));
}
