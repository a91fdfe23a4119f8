use super::*;
use crate::config;
use crate::outbound::resolve::NoAnswer;

const CONFIG: &str = r#"
policies:
  - name: gitaly
    clients: {networks: [10.20.0.0/16]}
    allow:
      - {to: git.example, name: git, upload_limit: 1KiB, private: [10.9.0.0/16]}
      - http://plain.example
      - tcp://raw.example:22
      - 203.0.113.0/24
      - {to: old.example, expires: 2020-01-01}
    deny: [www.git.example, 203.0.113.9]
  - name: learning
    clients: {networks: [10.30.0.0/16]}
    mode: report
    allow: [git.example]
"#;

fn ask(target: &str, from: &str, lookup: Option<Lookup<'_>>) -> Explanation {
    let loaded = config::load_str("c.yaml", CONFIG, |_| Ok(Vec::new())).expect("it is valid");
    let client = client(from.parse().expect("an address"), Vec::new(), None);
    let asked = AskedTarget::parse(target).expect("a target");
    explain(
        &loaded.config.policies,
        &asked,
        &client,
        Timestamp::UNIX_EPOCH + jiff::SignedDuration::from_hours(500_000),
        lookup,
    )
}

#[test]
fn a_target_is_read_as_it_is_written() {
    type Want<'a> = Result<(Method, &'a str), &'a str>;
    let rows: &[(&str, Want<'_>)] = &[
        ("git.example", Ok((Method::Connect, "git.example:443"))),
        ("Git.Example.:8443", Ok((Method::Connect, "git.example:8443"))),
        ("https://git.example/a/b?c#d", Ok((Method::Connect, "git.example:443"))),
        ("http://git.example/a", Ok((Method::Http, "git.example:80"))),
        ("HTTP://git.example:8080", Ok((Method::Http, "git.example:8080"))),
        ("tcp://git.example:22", Ok((Method::Connect, "git.example:22"))),
        ("[2001:db8::1]:443", Ok((Method::Connect, "[2001:db8::1]:443"))),
        ("tcp://git.example", Err("needs its port")),
        ("http:/git.example", Err("write http://HOST")),
        ("tcp:/git.example:22", Err("write tcp://HOST:PORT")),
        ("ftp://git.example", Err("not one of https, http and tcp")),
        ("user@git.example", Err("user information")),
        ("git.example/path", Err("a character")),
        ("", Err("empty")),
        ("git.example:0", Err("port")),
        ("2001:db8::1", Err("brackets")),
    ];
    for (text, want) in rows {
        match (AskedTarget::parse(text), want) {
            (Ok(asked), Ok((method, target))) => {
                assert_eq!((asked.target.method, asked.target.to_string().as_str()), (*method, *target));
            }
            (Err(error), Err(want)) => assert!(error.to_string().contains(want), "{text}: {error}"),
            (got, _) => panic!("{text}: {got:?}"),
        }
    }
}

#[test]
fn each_verdict_names_its_rule_and_why() {
    let rows = [
        ("git.example", "10.20.0.1", "allow", "null", "git.example"),
        ("git.example:22", "10.20.0.1", "deny", "port_not_allowed", "null"),
        ("other.example", "10.20.0.1", "deny", "host_not_allowed", "null"),
        ("other.example", "10.30.0.1", "would_deny", "host_not_allowed", "null"),
        ("git.example", "192.168.0.1", "deny", "client_not_allowed", "null"),
        ("www.git.example", "10.20.0.1", "deny", "host_denied", "www.git.example"),
        ("old.example", "10.20.0.1", "deny", "rule_expired", "old.example"),
        ("http://plain.example/x", "10.20.0.1", "allow", "null", "http://plain.example"),
        ("http://git.example", "10.20.0.1", "deny", "scheme_not_allowed", "null"),
        ("plain.example:80", "10.20.0.1", "allow", "null", "http://plain.example"),
        ("plain.example:443", "10.20.0.1", "deny", "scheme_not_allowed", "null"),
        // What the tunnel would carry.
        ("https://plain.example:80", "10.20.0.1", "deny", "scheme_not_allowed", "http://plain.example"),
        ("tcp://plain.example:80", "10.20.0.1", "deny", "scheme_not_allowed", "http://plain.example"),
        ("tcp://raw.example:22", "10.20.0.1", "allow", "null", "tcp://raw.example:22"),
        ("raw.example:22", "10.20.0.1", "allow", "null", "tcp://raw.example:22"),
        // CONNECT would be answered 200, and then the bytes refused.
        ("tcp://git.example:443", "10.20.0.1", "deny", "not_tls", "git.example"),
        ("tcp://git.example:443", "10.30.0.1", "would_deny", "not_tls", "git.example"),
        ("203.0.113.9", "10.20.0.1", "deny", "host_denied", "203.0.113.9"),
    ];
    for (target, from, decision, reason, rule) in rows {
        let told = ask(target, from, None).to_json();
        let word = |key: &str| told[key].as_str().unwrap_or("null").to_owned();
        assert_eq!(
            (&*word("decision"), &*word("reason"), &*word("rule")),
            (decision, reason, rule),
            "{target}"
        );
    }
}

#[test]
fn the_closest_rule_is_shown_and_did_not_decide() {
    let told = ask("git.example:22", "10.20.0.1", None);
    assert_eq!(told.rule, None);
    assert_eq!(told.nearest.as_ref().map(|rule| rule.source.to_string()).as_deref(), Some("c.yaml:6"));
    assert_eq!(
        told.to_string(),
        "denied: git.example:22: port_not_allowed\n\
            \x20 why      port 22: `git.example` allows 443\n\
            \x20 policy   gitaly (enforce)\n\
            \x20 nearest  `git.example` (c.yaml:6)\n\
            \x20 client   10.20.0.1\n"
    );
}

#[test]
fn the_notes_on_a_rule_are_found() {
    let loaded = config::load_str("c.yaml", CONFIG, |_| Ok(Vec::new())).expect("it is valid");
    let policies = &loaded.config.policies;
    let told = |target| {
        let told = ask(target, "10.20.0.1", None);
        told.rule_in(policies).map(|rule| notes(&rule)).unwrap_or_default()
    };
    assert_eq!(told("git.example"), [("name", "git".to_owned())]);
    assert_eq!(told("git.example:22"), [("name", "git".to_owned())], "of the closest one, too");
    assert_eq!(told("old.example"), [("expires", "2020-01-01T00:00:00Z".to_owned())]);
    assert_eq!(told("other.example"), []);
}

#[test]
fn looked_up_addresses_are_judged_one_by_one() {
    let mut answer = |name: &Name| {
        assert_eq!(name.as_str(), "git.example");
        Ok(vec![IpAddr::from([10, 9, 0, 1]), IpAddr::from([10, 8, 0, 1])])
    };
    let told = ask("git.example", "10.20.0.1", Some(&mut answer));
    assert_eq!(told.decision, Decision::Allow, "one address is enough");
    let verdicts: Vec<bool> = told.addresses.iter().map(|verdict| verdict.prohibited.is_none()).collect();
    assert_eq!(verdicts, [true, false], "the rule's `private` opens only the first");
    assert!(told.to_string().contains("options  upload_limit 1KiB, private 10.9.0.0/16"), "{told}");

    let rows: [(Result<Vec<IpAddr>, LookupError>, Reason); 4] = [
        (Ok(vec![IpAddr::from([127, 0, 0, 1])]), Reason::AddressProhibited),
        (Ok(Vec::new()), Reason::DnsNoAddress),
        (Err(LookupError::new(NoAnswer::NoSuchName, "no such name")), Reason::DnsNoSuchName),
        (Err(LookupError::timed_out("10.0.0.53:53")), Reason::DnsTimeout),
    ];
    for (answer, reason) in rows {
        // In every mode: report mode does not relax addresses.
        for from in ["10.20.0.1", "10.30.0.1"] {
            let told = ask("git.example", from, Some(&mut |_| answer.clone()));
            assert_eq!((told.decision, told.reason), (Decision::Deny, Some(reason)));
        }
    }
    let mut never =
        |_: &Name| -> Result<Vec<IpAddr>, LookupError> { panic!("a denied name is not looked up") };
    assert!(!ask("other.example", "10.20.0.1", Some(&mut never)).passes());
}

#[test]
fn without_a_client_one_of_the_first_policy_is_assumed() {
    let loaded = config::load_str("c.yaml", CONFIG, |_| Ok(Vec::new())).expect("it is valid");
    let (address, policy) = assumed_client(&loaded.config.policies);
    assert_eq!((address.to_string().as_str(), policy.as_deref()), ("10.20.0.1", Some("gitaly")));
    assert_eq!(assumed_client(&Policies::default()), (Ipv4Addr::LOCALHOST.into(), None));
}
