//! `explain` and the server decide by the same code: for a thousand generated requests, both give the same answer.

mod support;

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use egressd::commands::explain::{AskedTarget, client, explain};
use egressd::config;
use egressd::words::outcome::Decision;
use jiff::Timestamp;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, TestRng, TestRunner};
use support::{Egressd, Record, Wire};

const REQUESTS: u32 = 1000;
/// Every name resolves to this: loopback, where nothing listens.
const NOWHERE: &str = "127.77.0.1";
const NAMES: &[&str] = &[
    "ok.test",
    "www.ok.test",
    "a.b.ok.test",
    "evilok.test",
    "ok.test.evil.test",
    "git-codecommit.eu-west-1.aws.test",
    "git-codecommit.eu.west.aws.test",
    "aws.test",
    "old.test",
    "denied.ok.test",
    "inner.test",
    "other.test",
];
const CLIENTS: &[&str] = &["127.0.1.1", "127.0.2.2", "127.0.3.3"];

fn configuration() -> String {
    let hosts: Vec<String> = NAMES.iter().map(|name| format!("{name}: [{NOWHERE}]")).collect();
    format!(
        "listeners: [{{name: proxy, address: 127.0.0.1:0}}]
admin: {{address: 127.0.0.1:0}}
limits: {{requests_per_second_per_client: 100000}}
dns: {{hosts: {{{}}}, servers: [\"127.0.0.1:9\"]}}
policies:
  - name: enforced
    clients: {{networks: [127.0.1.0/24]}}
    allow:
      - {{to: \"*.ok.test\", private: [127.0.0.0/8]}}
      - {{to: ok.test:8443, private: [127.0.0.0/8]}}
      - {{to: \"http://.ok.test\", private: [127.0.0.0/8]}}
      - {{to: \"git-codecommit.*.aws.test\", private: [127.77.0.0/16], name: codecommit}}
      - {{to: \"tcp://aws.test:22-25\", private: [127.0.0.0/8]}}
      - {{to: old.test, expires: 2020-01-01, private: [127.0.0.0/8]}}
      - inner.test
      - {{to: \"tcp://127.77.0.0/24:443\", private: [127.77.0.0/24]}}
    deny: [denied.ok.test, \"http://www.ok.test\", 127.77.0.9]
  - name: reported
    clients: {{networks: [127.0.2.0/24]}}
    mode: report
    private: [127.77.0.0/16]
    allow: [\"*.ok.test\", \"http://aws.test:8080\"]
    deny: [www.ok.test]
",
        hosts.join(", ")
    )
}

/// Client, whether it is plain HTTP, host, port.
fn request() -> impl Strategy<Value = (&'static str, bool, String, u16)> {
    let literals = select(vec!["127.77.0.1", "127.77.0.9", "127.78.0.1", "203.0.113.7", "[::1]"]);
    let host = prop_oneof![
        6 => (select(NAMES), any::<bool>(), any::<bool>()).prop_map(|(name, upper, dot)| {
            let name = if upper { name.to_ascii_uppercase() } else { name.to_owned() };
            if dot { name + "." } else { name }
        }),
        1 => literals.prop_map(str::to_owned),
    ];
    (select(CLIENTS), prop::bool::weighted(0.3), host, select(vec![443, 80, 22, 25, 26, 8080, 8443]))
}

#[test]
fn explain_agrees_with_the_server_on_a_thousand_requests() {
    let proxy = Egressd::start(&configuration());
    let file = proxy.file("egressd.yaml");
    let loaded = config::load(Some(Path::new(&file))).expect("the server took it");
    let address = proxy.address();

    let config = Config { cases: REQUESTS, failure_persistence: None, ..Config::default() };
    let rng = TestRng::deterministic_rng(config.rng_algorithm);
    let mut runner = TestRunner::new_with_rng(config, rng);
    let strategy = request();
    let mut answered = Vec::new();
    for _ in 0..REQUESTS {
        let (from, plain, host, port) = strategy.new_tree(&mut runner).expect("no filter").current();
        let mut wire = Wire::connect_from(from.parse().expect("an address"), address);
        let authority = format!("{host}:{port}");
        let asked = if plain {
            wire.send(format!("GET http://{authority}/ HTTP/1.1\r\nHost: {authority}\r\n\r\n"));
            format!("http://{authority}")
        } else {
            wire.send(format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n"));
            authority
        };
        answered.push((from, asked, wire.read_reply()));
    }
    let records: HashMap<String, Record> =
        proxy.stop().records.into_iter().map(|record| (record.text("id").to_owned(), record)).collect();
    assert_eq!(records.len(), answered.len(), "one record for each");

    let mut seen = BTreeMap::<String, u32>::new();
    for (from, asked, reply) in answered {
        let record = &records[reply.id()];
        let mut lookup = |_: &_| Ok(vec![NOWHERE.parse().expect("an address")]);
        let told = explain(
            &loaded.config.policies,
            &AskedTarget::parse(&asked).expect("a target"),
            &client(from.parse().expect("an address"), Vec::new(), None),
            Timestamp::now(),
            Some(&mut lookup),
        );
        let what = format!("{asked} from {from}: {told:?}\n{record:?}");
        assert_eq!(record["decision"], told.decision.as_str(), "{what}");
        assert_eq!(record["policy"].as_str(), told.policy.as_deref(), "{what}");
        assert_eq!(record["rule"].as_str(), told.rule.as_ref().map(|rule| &*rule.text), "{what}");
        assert_eq!(
            record["rule_source"].as_str(),
            told.rule.as_ref().map(|rule| rule.source.to_string()).as_deref(),
            "{what}"
        );
        if told.decision == Decision::Deny {
            assert_eq!(record["reason"].as_str(), told.reason.map(|reason| reason.as_str()), "{what}");
            assert_eq!(reply.reason(), told.reason.map(|reason| reason.as_str()), "{what}");
        } else {
            // Allowed; whether it then connects depends on whether anything listens there.
            assert_eq!(reply.reason(), Some("connect_refused"), "{what}");
        }
        *seen.entry(format!("{} {:?}", told.decision.as_str(), told.reason)).or_default() += 1;
    }
    // The generator reaches every kind of verdict that the rules can give.
    for kind in [
        "allow None",
        "deny Some(ClientNotAllowed)",
        "deny Some(HostNotAllowed)",
        "deny Some(HostDenied)",
        "deny Some(PortNotAllowed)",
        "deny Some(SchemeNotAllowed)",
        "deny Some(RuleExpired)",
        "deny Some(AddressProhibited)",
        "would_deny Some(HostNotAllowed)",
        "would_deny Some(HostDenied)",
    ] {
        assert!(seen.contains_key(kind), "{kind} was never generated: {seen:#?}");
    }
}
