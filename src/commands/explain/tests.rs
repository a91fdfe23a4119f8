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
    ask_in(CONFIG, target, from, lookup)
}

fn ask_in(config: &str, target: &str, from: &str, lookup: Option<Lookup<'_>>) -> Explanation {
    let loaded = config::load_str("c.yaml", config, |_| Ok(Vec::new())).expect("it is valid");
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
        ("ftp://user@git.example", Err("not one of https, http and tcp")),
        ("user@git.example", Err("a user is no part of it: write `git.example`")),
        (
            "https://user@git.example/a/b?c",
            Err("who asks is no part of it: write `https://git.example/a/b?c`"),
        ),
        ("git.example/path", Err("write `https://git.example/path`, or `git.example` for the tunnel alone")),
        ("git@git.example:a/b.git", Err("this is an address for ssh: write `tcp://git.example:22`")),
        ("ssh://git@git.example/b.git", Err("write `tcp://git.example:22`")),
        ("*.git.example", Err("a pattern is for many hosts: write one of them, as in `www.git.example`")),
        (".git.example", Err("write one of them, as in `www.git.example`")),
        ("10.0.0.0/8", Err("a network is for many hosts: write one address")),
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
fn what_nobody_looks_at_is_told() {
    for (target, told) in [
        ("https://git.example/a/b", true),
        ("https://git.example", false),
        ("https://git.example/", false),
        ("http://plain.example/x", false),
        ("tcp://raw.example:22", false),
        ("https://other.example/a/b", false),
    ] {
        let text = ask(target, "10.20.0.1", None).to_string();
        assert_eq!(text.contains("  not judged: the rule does not look into the tunnel: "), told, "{text}");
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

#[test]
fn a_tunnel_is_described_as_the_proxy_will_check_it() {
    for (target, scheme) in [
        ("https://git.example", "https: a TLS tunnel whose SNI must be git.example\n"),
        // Its ClientHello may name no host, and must not name another.
        ("52.119.186.57", "https: a TLS tunnel with no server name (SNI), because an address is none\n"),
        (
            "plain.example:80",
            "http: a tunnel of plain HTTP requests to plain.example:80, each of them judged; to ask about TLS, write \
             https://plain.example:80\n",
        ),
        ("http://plain.example", "http: a plain HTTP request\n"),
        ("raw.example:22", "tcp: an opaque tunnel, content not inspected\n"),
    ] {
        let config = CONFIG.replace("203.0.113.0/24", "52.119.186.0/24");
        let told = ask_in(&config, target, "10.20.0.1", None);
        assert!(told.to_string().contains(&format!("  scheme   {scheme}")), "{target}: {told}");
    }
}

/// The listeners, the identities that the client has proven, and the reason of the refusal.
#[test]
fn a_proof_that_every_listener_asks_for_comes_before_the_rules() {
    let hash = "$2b$12$GhvMmNVjRW29ulnudl.LbuAnUtN/LRfe1JsBm1Xu6LE3059z5Tr8m";
    let open = "{name: open, address: '127.0.0.1:1'}";
    let asks = "{name: asks, address: '127.0.0.1:2', basic_auth: {users_file: users}}";
    let mutual = "{name: mutual, address: '127.0.0.1:3', tls: {certificate: proxy.crt, key: proxy.key, client_ca: ca.crt}}";
    let rows: &[(&[&str], &[&str], Option<Reason>)] = &[
        (&[mutual], &[], Some(Reason::ClientCertificateInvalid)),
        (&[mutual], &["user:gitaly"], Some(Reason::ClientCertificateInvalid)),
        (&[mutual], &["dns:gitaly.corp"], None),
        (&[mutual, asks], &["user:gitaly"], None),
        (&[open], &[], None),
        (&[open, asks], &[], None),
        (&[asks], &[], Some(Reason::AuthRequired)),
        (&[asks], &["cn:gitaly"], Some(Reason::AuthRequired)),
        (&[asks], &["user:other"], Some(Reason::AuthFailed)),
        (&[asks], &["user:gitaly"], None),
    ];
    for (listeners, identities, reason) in rows {
        let text =
            format!("listeners: [{}]\npolicies: [{{name: p, allow: [git.example]}}]", listeners.join(", "));
        let users = format!("gitaly:{hash}\n");
        let read = |path: &std::path::Path| match path.to_str() {
            Some("users") => Ok(users.clone().into_bytes()),
            _ => std::fs::read(std::path::Path::new("tests/lint/files").join(path)),
        };
        let loaded = config::load_str("c.yaml", &text, read).expect(&text);
        let identities = identities.iter().map(|identity| Box::from(*identity)).collect();
        let client = client("127.0.0.1".parse().expect("an address"), identities, None);
        let asked = AskedTarget::parse("git.example").expect("a target");
        let mut told = explain(&loaded.config.policies, &asked, &client, Timestamp::UNIX_EPOCH, None);
        assert!(told.passes());
        told.with_unproven(unproven(&loaded.config.listeners, &client, None), |lacks| format!("add {lacks}"));
        assert_eq!((told.reason, told.passes()), (*reason, reason.is_none()), "{text} {client:?}");
        if reason.is_some() {
            assert!(told.policy.is_none() && told.permit.is_none(), "{told}");
            assert!(told.to_string().contains("the listener `"), "{told}");
        }
    }
}

/// What a connection was meant for, what it names, by which listener it comes; what is decided, and how.
#[test]
fn an_original_address_decides_what_it_decides_while_serving() {
    let text = "listeners: [{name: proxy, address: 127.0.0.1:1}, {name: led, address: 127.0.0.1:2, mode: transparent}]
policies:
  - name: p
    addresses_by_sni: true
    allow: [git.example, https://git.example:8443, http://web.example, tcp://52.119.186.57:22]
    deny: [203.0.113.66]
";
    let without = text.replace("    addresses_by_sni: true\n", "");
    let rows: &[(&str, &str, &str, &str, Option<Reason>)] = &[
        // The name decides, on the port that was meant.
        ("git.example", "203.0.113.7:443", "proxy", "git.example:443", None),
        ("https://git.example", "203.0.113.7:8443", "proxy", "git.example:8443", None),
        ("git.example", "203.0.113.7:22", "proxy", "git.example:22", Some(Reason::PortNotAllowed)),
        ("evil.example", "203.0.113.7:443", "proxy", "evil.example:443", Some(Reason::HostNotAllowed)),
        // A rule or a `deny` names the address.
        ("git.example", "52.119.186.57:22", "proxy", "52.119.186.57:22", None),
        ("git.example", "203.0.113.66:443", "proxy", "203.0.113.66:443", Some(Reason::HostDenied)),
        // Redirected: the name decides whatever the address is.
        ("git.example", "203.0.113.66:443", "led", "git.example:443", None),
        ("https://git.example", "[2001:db8::1]:8443", "led", "git.example:8443", None),
        ("http://web.example", "203.0.113.66:80", "led", "web.example:80", None),
        ("tcp://ignored.example:22", "52.119.186.57:22", "led", "52.119.186.57:22", None),
        ("tcp://ignored.example:22", "203.0.113.8:22", "led", "203.0.113.8:22", Some(Reason::HostNotAllowed)),
    ];
    for (target, original, listener, decided, reason) in rows {
        for (text, by_name) in [(text, true), (&without, false)] {
            let loaded = config::load_str("c.yaml", text, |_| Ok(Vec::new())).expect(text);
            let (policies, listeners) = (&loaded.config.policies, &loaded.config.listeners);
            let from = client("127.0.0.1".parse().expect("an address"), Vec::new(), None);
            let from = Client { listener: Some((*listener).into()), ..from };
            let original: SocketAddr = original.parse().expect("an address");
            let asked = AskedTarget::parse(target).expect("a target");
            let transparent = is_transparent(None, Some(listener), listeners);
            let now = Timestamp::UNIX_EPOCH;
            let judges = |address: &_| policies.judges_by_name(address, &from, now).is_some();
            let asked = asked.meant_for(original, transparent, judges).expect("such a connection");
            let told = explain(policies, &asked, &from, now, None);
            if !transparent && !by_name {
                assert_eq!(told.target.host.name(), None, "without the key the address decides");
                continue;
            }
            assert_eq!(
                (told.target.to_string().as_str(), told.reason),
                (*decided, *reason),
                "{target} {original}"
            );
            assert_eq!(told.to_json()["original"], original.to_string());
            assert!(told.to_string().contains(&format!("  original {original}: the ")), "{told}");
        }
    }
    let asked = AskedTarget::parse("http://web.example").expect("a target");
    assert!(asked.meant_for("203.0.113.7:80".parse().expect("an address"), false, |_| true).is_err());
}
