//! For what can be recorded, over all reasons: no rule is offered that could not work or must not stand.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use proptest::prelude::*;

use super::*;
use crate::config;
use crate::rules::address::never;
use crate::rules::no_proxy::no_proxy;
use crate::words::client::Client;
use crate::words::outcome::Decision;
use crate::words::target::Host;

fn load(mode: &str, rules: &[String]) -> Policies {
    let allow: String = rules.iter().map(|rule| format!("      - {rule}\n")).collect();
    let text = format!(
        "policies:\n  - name: p\n    mode: {mode}\n    private: [10.0.0.0/8, 127.0.0.0/8, 'fd00::/8']\n    allow:\n      - listed.example\n{allow}"
    );
    config::load_str("c.yaml", &text, |_| Err(std::io::ErrorKind::NotFound.into()))
        .unwrap_or_else(|findings| panic!("{text}\n{findings:?}"))
        .config
        .policies
}

/// Hosts of every kind: what no rule opens, in each of its spellings, and what one may.
const HOSTS: &[&str] = &[
    "169.254.169.254",
    "169.254.170.2",
    "169.254.170.23",
    "169.254.169.253",
    "100.100.100.200",
    "168.63.129.16",
    "[fd00:ec2::254]",
    "[fd00:ec2::23]",
    "[::ffff:169.254.169.254]",
    "[64:ff9b::a9fe:a9fe]",
    "[2002:a9fe:a9fe::]",
    "metadata.google.internal",
    "metadata.goog",
    "127.0.0.1",
    "127.9.8.7",
    "0.0.0.0",
    "[::1]",
    "[::]",
    "[::ffff:127.0.0.1]",
    "localhost",
    "a.localhost",
    "224.0.0.1",
    "255.255.255.255",
    "[ff02::1]",
    "new.example",
    "listed.example",
    "gitlab",
    "kubernetes.default.svc",
    "8.8.8.8",
    "10.1.2.3",
    "[2606:4700::1]",
];

fn target(host: &str, port: u16, plain: bool) -> Target {
    let authority = format!("{host}:{port}");
    if plain { Target::http(&authority) } else { Target::connect(&authority) }.expect(host)
}

/// A rule for exactly this host, of each form that `check` takes.
fn rules_for(host: &str) -> &'static [String] {
    static RULES: LazyLock<BTreeMap<&str, Vec<String>>> =
        LazyLock::new(|| HOSTS.iter().map(|host| (*host, valid_rules(host))).collect());
    RULES.get(host).map_or(&[], Vec::as_slice)
}

fn valid_rules(host: &str) -> Vec<String> {
    let all = [
        format!("https://{host}"),
        format!("http://{host}"),
        format!("tcp://{host}:1-65535"),
        format!("{{to: \"http://{host}\", requests: [{{methods: [GET], paths: [/ok]}}]}}"),
    ];
    let is_valid = |rule: &String| {
        let text = format!("policies: [{{name: p, allow: [{rule}]}}]");
        config::load_str("c.yaml", &text, |_| Err(std::io::ErrorKind::NotFound.into())).is_ok()
    };
    all.into_iter().filter(is_valid).collect()
}

/// Reasons after which a rule for a name is no answer, because the name led nowhere.
fn led_nowhere(reason: Reason) -> bool {
    use Reason::*;
    [DnsNoSuchName, DnsNoAddress, DnsFailed, DnsTimeout, Loop].contains(&reason)
}

/// The reasons that report mode can leave behind: those of the rules, which it let pass, and those of what came then.
fn may_follow_report_mode(reason: Reason) -> bool {
    !matches!(
        reason.class(),
        Class::Connection | Class::Form | Class::Challenge | Class::Credentials | Class::Client
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn no_rule_is_offered_that_could_not_work_or_must_not_stand(
        host in prop::sample::select(HOSTS),
        port in prop::sample::select(vec![22_u16, 80, 443, 3128, 8443, 9180]),
        plain in any::<bool>(),
        mode in prop::sample::select(vec!["enforce", "report"]),
        listed in prop::option::of(any::<prop::sample::Index>()),
        reason in prop::sample::select(Reason::ALL),
        would_deny in any::<bool>(),
        sni in prop::option::of(prop::sample::select(vec!["new.example", "other.example"])),
        request in prop::option::of((prop::sample::select(vec!["GET", "PUT"]), prop::sample::select(vec!["/ok", "/new"]), any::<bool>())),
    ) {
        let target = target(host, port, plain);
        let rules = rules_for(host);
        let rules: Vec<String> = listed.filter(|_| !rules.is_empty()).map(|index| index.get(rules).clone()).into_iter().collect();
        let before = load(mode, &rules);
        let would_deny = would_deny && may_follow_report_mode(reason);
        let request = request.map(|(method, path, within)| DeniedRequest { method, path, within, offered: None });
        let recorded = Recorded { policy: Some("p"), reason, would_deny, target: &target, sni, request };
        let now = Timestamp::now();
        let remedy = before.remedy_of_record(recorded, now);
        let Some(line) = remedy.line() else { return Ok(()) };

        // It must not stand: credential endpoints, loopback.
        let certain = no_proxy(&target.host).filter(|found| found.why.is_certain());
        prop_assert!(certain.is_none(), "{target} {reason}: {line}");
        if let Host::Address(address) = target.host {
            prop_assert!(never(address).is_none() && !address.is_multicast(), "{target} {reason}: {line}");
        }
        // It could not work: DNS did not know the name, or it leads to egressd itself, or to a closed address.
        prop_assert!(!led_nowhere(reason), "{target} {reason}: {line}");
        if let (Host::Name(_), Class::Address) = (&target.host, reason.class()) {
            prop_assert!(false, "{target} {reason}: {line}");
        }
        // And it works: the rules let the request pass with it.
        if remedy.entry.is_none() {
            let mut after = rules.clone();
            after.insert(if remedy.first { 0 } else { after.len() }, line.strip_prefix("- ").expect("an entry").to_owned());
            let after = load("enforce", &after);
            let client = Client::direct("10.0.0.0:1".parse().expect("an address"));
            let permit = after.decide(&target, &client, now);
            let carried = permit.as_ref().is_ok_and(|permit| permit.decision == Decision::Allow)
                // A plain request inside a tunnel, for which the tunnel's rule was asked.
                || request.map_or(reason == Reason::UpgradeNotAllowed, |request| request.within);
            prop_assert!(carried, "{target} {reason} {mode}: {line} in {rules:?}: {permit:?}");
            if let (Host::Address(address), Ok(permit)) = (&target.host, &permit) {
                prop_assert!(after.admit(permit, *address).is_ok(), "{target} {reason}: {line}");
            }
        }
    }
}

/// The same for every reason at every host, without chance, for those that must get nothing whatever happens.
#[test]
fn for_no_reason_is_a_rule_offered_for_an_endpoint_or_for_loopback() {
    let now = Timestamp::now();
    let certain =
        |host: &&&str| no_proxy(&target(host, 80, false).host).is_some_and(|found| found.why.is_certain());
    let hosts: Vec<_> = HOSTS.iter().filter(certain).collect();
    assert!(hosts.len() > 15, "{hosts:?}");
    for host in hosts {
        for rules in rules_for(host).iter().map(|rule| vec![rule.clone()]).chain([Vec::new()]) {
            for (mode, would_deny) in [("enforce", false), ("report", false), ("report", true)] {
                let policies = load(mode, &rules);
                for (reason, plain) in
                    Reason::ALL.iter().flat_map(|reason| [(*reason, false), (*reason, true)])
                {
                    let target = target(host, 80, plain);
                    for request in [
                        None,
                        Some(DeniedRequest { method: "GET", path: "/new", within: !plain, offered: None }),
                    ] {
                        let recorded = Recorded {
                            policy: Some("p"),
                            reason,
                            would_deny,
                            target: &target,
                            sni: None,
                            request,
                        };
                        let remedy = policies.remedy_of_record(recorded, now);
                        assert_eq!(remedy.line(), None, "{target} {reason} {mode} {rules:?}");
                    }
                }
            }
        }
    }
}

#[test]
fn what_failed_behind_report_mode_is_offered_only_what_could_work() {
    let policies = load("report", &[]);
    let plain = Target::http("8.8.8.8:22").expect("a target");
    let too_long = Recorded {
        policy: Some("p"),
        reason: Reason::RequestNotAllowed,
        would_deny: false,
        target: &plain,
        sni: None,
        request: None,
    };
    let remedy = policies.remedy_of_record(too_long, Timestamp::now());
    assert_eq!(remedy.line(), None, "no rule for a tunnel, after a plain request");
    let looking = load(
        "enforce",
        &["{to: \"http://new.example\", requests: [{methods: [GET], paths: [/ok]}]}".to_owned()],
    );
    let silent = Target::connect("new.example:80").expect("a target");
    let recorded = Recorded {
        policy: Some("p"),
        reason: Reason::ClientHelloTimeout,
        would_deny: false,
        target: &silent,
        sni: None,
        request: None,
    };
    let remedy = looking.remedy_of_record(recorded, Timestamp::now());
    assert_eq!(remedy.line(), None, "no tcp rule that undoes one that looks at requests");
    assert!(remedy.advice.is_some_and(|told| told.contains("looks at each request")));
    let rows = [
        ("new.example:443", Reason::ConnectRefused, Some("- https://new.example")),
        ("new.example:443", Reason::ClientLimitReached, Some("- https://new.example")),
        ("new.example:443", Reason::DnsNoSuchName, None),
        ("new.example:443", Reason::DnsTimeout, None),
        ("new.example:443", Reason::AddressProhibited, None),
        ("new.example:443", Reason::Loop, None),
        ("11.1.2.3:443", Reason::ConnectTimeout, Some("- tcp://11.1.2.3:443")),
        (
            "192.168.1.2:443",
            Reason::AddressProhibited,
            Some("- {to: \"tcp://192.168.1.2:443\", private: [\"192.168.1.2/32\"]}"),
        ),
    ];
    for (authority, reason, line) in rows {
        let target = Target::connect(authority).expect(authority);
        let recorded = Recorded {
            policy: Some("p"),
            reason,
            would_deny: true,
            target: &target,
            sni: None,
            request: None,
        };
        let remedy = policies.remedy_of_record(recorded, Timestamp::now());
        assert_eq!(remedy.line().as_deref(), line, "{authority} {reason}");
        if let (None, Reason::DnsNoSuchName) = (line, reason) {
            assert!(remedy.advice.is_some_and(|told| told.contains("no_proxy must name it")));
        }
    }
}
