use proptest::prelude::*;

use super::super::rule::RuleText;
use super::super::{AddressSet, ClientMatch, Mode, OptionsId, Origin, PolicyBuilder, Schemes};
use super::*;
use crate::words::client::Client;
use crate::words::target::Target;

const NOW: &str = "2026-06-01T00:00:00Z";

fn at(moment: &str) -> Timestamp {
    moment.parse().expect("a moment")
}

/// One policy from lines: `allow RULE [OPTION…]`, `deny RULE`, `file RULE` (a line of an allow file). Options:
/// `expires=DAY`, `limit=BYTES`, `name=NAME`.
fn policy(lines: &[&str]) -> Policies {
    let private = ["10.0.0.0/8", "203.0.113.0/24", "2001:db8::/32"];
    let private = private.map(|network| network.parse().expect(network)).to_vec();
    let mut builder = PolicyBuilder::new("p", ClientMatch::default(), Mode::Enforce, private);
    let (config, list) = (builder.file("c"), builder.file("list"));
    for (line, number) in lines.iter().zip(1..) {
        let mut words = line.split(' ');
        let (kind, text) = (words.next().expect("a kind"), words.next().expect("a rule"));
        let mut options = RuleOptions::default();
        for (key, value) in words.filter_map(|word| word.split_once('=')) {
            match key {
                "expires" => options.expires = Some(at(&format!("{value}T00:00:00Z"))),
                "limit" => options.upload_limit = value.parse().ok(),
                _ => options.name = Some(value.into()),
            }
        }
        let id =
            if options == RuleOptions::default() { OptionsId::default() } else { builder.options(options) };
        let rule = RuleText::parse(text).expect("a rule");
        let inline = kind != "file";
        let origin = Origin { file: if inline { config } else { list }, line: number, inline, text };
        let added = match kind {
            "deny" => builder.deny(&rule, origin),
            _ => builder.allow(&rule, Schemes::HTTPS, origin, id),
        };
        added.expect("it fits");
    }
    Policies::new(vec![builder.build().expect("it builds")])
}

/// `LINE Kind` of every warning.
fn kinds(lines: &[&str]) -> Vec<String> {
    lint(&policy(lines), at(NOW)).iter().map(|lint| format!("{} {:?}", lint.line, lint.kind)).collect()
}

#[test]
fn a_rule_without_effect_is_told_and_no_other() {
    let rows: &[(&[&str], &[&str])] = &[
        // By `deny`.
        (&["allow a.test", "deny a.test"], &["1 Denied"]),
        (&["allow a.x.test", "deny *.x.test"], &["1 Denied"]),
        (&["allow *.a.x.test", "deny .x.test"], &["1 Denied"]),
        (&["allow git.*.x.test", "deny *.x.test"], &["1 Denied"]),
        (&["allow git.*.x.test", "deny *.*.x.test"], &["1 Denied"]),
        (&["allow 10.1.0.0/16", "deny 10.0.0.0/8"], &["1 Denied"]),
        (&["allow 10.1.2.3", "deny 10.0.0.0/8"], &["1 Denied"]),
        (&["allow [2001:db8:1::]/48", "deny [2001:db8::]/32"], &["1 Denied"]),
        (&["allow a.test", "deny tcp://a.test"], &["1 Denied"]), // both mean every CONNECT
        (&["allow a.test", "deny http://a.test"], &[]),
        (&["allow a.test", "deny a.test:8443"], &[]),
        (&["allow .x.test", "deny *.x.test"], &[]), // x.test itself is left
        (&["allow 10.0.0.0/8", "deny 10.1.0.0/16"], &[]),
        (&["allow *.*.x.test", "deny git.*.x.test"], &[]),
        // By an earlier rule for the same host.
        (&["allow a.test", "allow a.test"], &["2 NeverDecides"]),
        (&["allow a.test", "allow A.test."], &["2 NeverDecides"]),
        (&["allow a.test", "allow https://a.test:443"], &["2 NeverDecides"]),
        (&["file a.test", "allow a.test"], &["1 NeverDecides"]), // inline before file
        (&["allow a.test", "allow a.test limit=5"], &["2 NeverDecides"]),
        (&["allow a.test limit=5", "allow a.test"], &["2 NeverDecides"]),
        (&["allow a.test", "allow tcp://a.test:443"], &["2 NeverDecides"]),
        (&["allow a.test", "allow http://a.test"], &[]),
        (&["allow a.test", "allow a.test:8443"], &[]),
        (&["allow .x.test", "allow *.x.test"], &["2 NeverDecides"]),
        (&["allow *.x.test", "allow .x.test"], &["1 AddsNothing"]), // the second is for x.test too
        (&["allow git.*.x.test", "allow git.*.x.test"], &["2 NeverDecides"]),
        (&["allow 10.0.0.0/8", "allow 10.0.0.0/8"], &["2 NeverDecides"]),
        (&["deny a.test", "deny a.test"], &["2 NeverDecides"]),
        // By a wider one that does the same.
        (&["allow a.x.test", "allow .x.test"], &["1 AddsNothing"]),
        (&["allow .x.test", "allow a.x.test"], &["2 AddsNothing"]),
        (&["allow x.test", "allow .x.test"], &["1 AddsNothing"]),
        (&["allow x.test", "allow *.x.test"], &[]),
        (&["allow *.a.x.test", "allow *.x.test"], &["1 AddsNothing"]),
        (&["allow git.*.x.test", "allow *.x.test"], &["1 AddsNothing"]),
        (&["allow git.a.x.test", "allow git.*.x.test"], &["1 AddsNothing"]),
        (&["allow 10.1.2.3", "allow 10.0.0.0/8"], &["1 AddsNothing"]),
        (&["allow a.test", "allow a.test:400-500"], &["1 AddsNothing"]),
        (&["allow a.x.test limit=5", "allow .x.test"], &[]), // its option is an effect
        (&["allow a.x.test name=a", "allow .x.test"], &[]),  // so is its name, in the metrics
        (&["allow a.x.test", "allow .x.test limit=5"], &[]),
        (&["allow a.x.test:8443", "allow .x.test"], &[]),
        // What would decide without it is not the widest, but the next.
        (&["allow a.b.x.test", "allow .b.x.test limit=5", "allow .x.test"], &[]),
        (&["allow git.*.x.test", "allow *.*.x.test limit=5", "allow .x.test"], &[]),
        (&["deny a.x.test", "deny .x.test"], &["1 AddsNothing"]),
        (&["deny a.test:22", "deny a.test"], &["1 AddsNothing"]),
        (&["deny a.test", "deny a.test:22"], &["2 AddsNothing"]),
        // By time.
        (&["allow a.test expires=2026-05-31"], &["1 Expired"]),
        (&["allow a.test expires=2026-06-01"], &["1 Expired"]), // from that moment on
        (&["allow a.test expires=2026-06-02"], &[]),
        (&["allow a.x.test expires=2027-01-01", "allow .x.test"], &["1 Outlived"]),
        (&["allow a.x.test expires=2027-01-01", "allow .x.test expires=2027-01-01"], &[]),
        (&["allow a.x.test expires=2027-01-01", "allow .x.test expires=2026-12-01"], &[]),
        (&["allow a.test expires=2026-01-01", "allow a.test"], &["1 Expired"]), // the second decides now
        (&["allow a.test expires=2027-01-01", "allow a.test"], &["1 Outlived"]),
        (&["allow a.test", "allow a.test expires=2027-01-01"], &["2 NeverDecides"]),
        // An http rule carries a CONNECT where no other rule allows it any more.
        (&["allow tcp://a.test:80 expires=2026-01-01", "allow http://a.test"], &["1 Expired"]),
        (&["allow tcp://a.test:80 expires=2027-01-01", "allow http://a.test"], &["1 Outlived"]),
        (&["allow a.test expires=2027-01-01", "allow http://a.test"], &[]), // on other ports
        (&["allow http://a.test expires=2027-01-01", "allow tcp://a.test:80"], &[]), // asked first before, too
        (&["allow http://a.test", "allow tcp://a.test:80"], &[]),
        (&["allow tcp://a.test:80", "allow http://a.test"], &[]),
        (&["allow http://a.test", "deny http://a.test"], &["1 Denied"]),
        (&["allow http://a.test", "deny tcp://a.test"], &[]), // plain requests are left
        (&["allow http://a.x.test", "allow http://.x.test"], &["1 AddsNothing", "2 Unguarded"]),
    ];
    for (lines, want) in rows {
        assert_eq!(kinds(lines), *want, "{lines:?}");
    }
}

#[test]
fn http_and_tcp_are_told_where_the_hosts_are_not_listed() {
    let rows: &[(&[&str], &[&str])] = &[
        (&["allow http://a.test", "allow tcp://a.test:22", "allow tcp://10.0.0.1:22"], &[]),
        (&["allow http://*.x.test"], &["1 Unguarded"]),
        (&["allow http://.x.test"], &["1 Unguarded"]),
        (&["allow tcp://git.*.x.test:22"], &["1 Unguarded"]),
        (&["allow tcp://10.0.0.0/8:22"], &["1 Unguarded"]),
        (&["allow 10.0.0.0/8", "allow *.x.test"], &[]),
        (&["deny http://*.x.test"], &[]),
        (&["allow http://*.x.test", "deny *.x.test"], &["1 Denied"]), // it reaches nothing
    ];
    for (lines, want) in rows {
        assert_eq!(kinds(lines), *want, "{lines:?}");
    }
}

#[test]
fn of_one_kind_a_few_are_told_and_the_rest_is_counted() {
    let count = TOLD_OF_A_KIND + 5;
    let lines: Vec<String> = (0..count).map(|n| format!("allow a{n}.x.test")).collect();
    let mut lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    lines.push("allow .x.test");
    let told = lint(&policy(&lines), at(NOW));
    assert_eq!(told.len(), TOLD_OF_A_KIND + 1);
    let last = told.last().expect("there are some");
    assert_eq!(last.text, "from here on: 5 more rules that add nothing to a wider one");
    assert_eq!(last.line as usize, TOLD_OF_A_KIND + 1);
    lines.drain(..4);
    let told = lint(&policy(&lines), at(NOW));
    assert_eq!(told.len(), TOLD_OF_A_KIND + 1, "one more is told as itself");
    assert!(told.iter().all(|lint| lint.text.contains("adds nothing")));
}

#[test]
fn inline_rules_are_numbered_past_the_lines_of_files() {
    let told =
        lint(&policy(&["allow a.test", "file b.test", "file b.test", "deny c.test", "deny c.test"]), at(NOW));
    let places: Vec<_> = told.iter().map(|lint| (&*lint.file, lint.line, lint.inline)).collect();
    assert_eq!(places, [("list", 3, None), ("c", 5, Some(2))]);
}

/// What would be quadratic with a careless walk grows with the list: equal lines, one host on many ports, networks, and names under
/// each other.
#[test]
fn a_long_list_is_linted_by_comparisons_that_grow_with_it() {
    const LINES: usize = 4_000;
    let lists: [fn(usize) -> String; 5] = [
        |n| format!("file h{n}.example.test"),
        |_| "file same.test".to_owned(),
        |n| format!("file one.test:{}", n % 60_000 + 1),
        |n| format!("file 10.{}.{}.{}", n >> 16 & 255, n >> 8 & 255, n & 255),
        |n| format!("file .{}test", "a.".repeat(n % 40 + 1)),
    ];
    for (number, list) in lists.iter().enumerate() {
        let compared = |count: usize| {
            let lines: Vec<String> = (0..count).map(list).collect();
            let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
            let policies = policy(&lines);
            let told = lint(&policies, at(NOW));
            assert!(told.len() <= TOLD_OF_A_KIND + 1);
            let policy = policies.iter().next().expect("one policy");
            let mut neighbours = Neighbours::default();
            let compared = policy.store.ids().map(|id| {
                neighbours.effect(policy, id, at(NOW));
                neighbours.compared()
            });
            compared.sum::<usize>()
        };
        let (once, twice) = (compared(LINES), compared(2 * LINES));
        assert!(once >= LINES, "list {number}: each rule is among what it is compared with");
        // Quadratic work would be four times as much.
        assert!(twice <= 2 * once + once / 10, "list {number}: {once}, then {twice}");
    }
}

fn clients(networks: &[&str], identities: &[&str]) -> ClientMatch {
    ClientMatch {
        networks: networks.iter().map(|network| network.parse().expect("a network")).collect(),
        identities: identities.iter().map(|identity| (*identity).into()).collect(),
        ..ClientMatch::default()
    }
}

#[test]
fn a_policy_behind_others_for_all_its_clients_is_unreachable() {
    let all = clients(&["10.0.0.0/8"], &[]);
    let low = clients(&["10.0.0.0/9"], &[]);
    let high = clients(&["10.128.0.0/9"], &[]);
    let user = clients(&["10.0.0.0/8"], &["user:a"]);
    // Earlier policies, this one's clients, who covers it.
    type Row<'a> = (&'a [(&'a str, &'a ClientMatch)], &'a ClientMatch, Option<&'a str>);
    let rows: [Row<'_>; 7] = [
        (&[], &all, None),
        (&[("all", &all)], &low, Some("`all` comes before it")),
        (&[("low", &low)], &all, None),
        (&[("low", &low), ("high", &high)], &all, Some("`low`, `high` come before it and together")),
        (&[("user", &user)], &all, None),
        (&[("user", &user)], &user, Some("`user` comes before it")),
        (&[("all", &all)], &user, Some("`all` comes before it")),
    ];
    for (earlier, later, want) in rows {
        let earlier: Vec<Rival<'_>> = earlier
            .iter()
            .map(|(name, clients)| Rival::new(name, clients, AddressSet::of(&clients.networks)))
            .collect();
        let got = unreachable(&earlier, later, &AddressSet::of(&later.networks), &[]);
        assert_eq!(got.is_some(), want.is_some(), "{earlier:?} {later:?}: {got:?}");
        assert!(got.unwrap_or_default().starts_with(want.unwrap_or_default()));
    }
}

/// A listener that asks for the passwords of these users; `~`: it asks for none; `cert`: it verifies certificates; `vpce`: it
/// learns endpoints; `@NAME`: its name.
fn entrance(text: &str) -> Entrance {
    let mut entrance = Entrance { users: Some(Default::default()), ..Entrance::default() };
    for word in text.split_whitespace() {
        match word {
            "~" => entrance.users = None,
            "cert" => entrance.certificates = true,
            "vpce" => entrance.endpoints = true,
            word if word.starts_with('@') => entrance.name = word.trim_start_matches('@').into(),
            user => {
                entrance.users.get_or_insert_default().insert(format!("user:{user}").into());
            }
        }
    }
    entrance
}

#[test]
fn a_policy_behind_others_at_each_of_its_listeners_is_unreachable() {
    let by = |listeners: &[&str]| {
        let mut clients = clients(&["10.0.0.0/8"], &[]);
        clients.listeners = listeners.iter().map(|listener| (*listener).into()).collect();
        clients
    };
    let (any, a, b, both) = (by(&[]), by(&["a"]), by(&["b"]), by(&["a", "b"]));
    let all = ["~ @a", "~ @b"];
    // Earlier policies, this one's clients, the listeners, whether nobody reaches it.
    type Row<'a> = (&'a [&'a ClientMatch], &'a ClientMatch, &'a [&'a str], bool);
    let rows: [Row<'_>; 10] = [
        (&[&any], &a, &[], true),
        (&[&a], &any, &[], false),
        (&[&a], &b, &[], false),
        (&[&both], &a, &[], true),
        (&[&a, &b], &both, &[], true),
        (&[&a], &both, &[], false),
        // There may be a third listener, if nothing is known of them.
        (&[&a, &b], &any, &[], false),
        (&[&a, &b], &any, &all, true),
        (&[&a], &any, &all, false),
        (&[&a], &any, &["~ @a"], true),
    ];
    for (earlier, later, listeners, want) in rows {
        let entrances: Vec<Entrance> = listeners.iter().map(|text| entrance(text)).collect();
        let rivals = earlier.iter().map(|one| Rival::new("p", one, AddressSet::of(&one.networks)));
        let rivals: Vec<Rival<'_>> = rivals.collect();
        let got = unreachable(&rivals, later, &AddressSet::of(&later.networks), &entrances);
        assert_eq!(got.is_some(), want, "{earlier:?} {later:?} {listeners:?}: {got:?}");
        let rival = rivals.first().expect("one").shares_clients(
            later,
            &AddressSet::of(&later.networks),
            Proofs::Both,
        );
        let is = |clients: &ClientMatch, name: &str| clients.listeners.iter().map(|one| &**one).eq([name]);
        let apart = is(earlier[0], "a") && is(later, "b");
        assert_eq!(rival, !apart, "{earlier:?} {later:?}");
    }
}

#[test]
fn a_policy_behind_others_for_each_of_its_identities_is_unreachable() {
    let all = clients(&["10.0.0.0/8"], &[]);
    let low = clients(&["10.0.0.0/9"], &[]);
    let a = clients(&["10.0.0.0/8"], &["user:a"]);
    let b = clients(&["10.0.0.0/8"], &["user:b"]);
    let both = clients(&["10.0.0.0/8"], &["user:a", "user:b"]);
    let certificate = clients(&["10.0.0.0/8"], &["cn:c"]);
    // Earlier policies, this one's clients, the listeners, whether nobody reaches it.
    type Row<'a> = (&'a [&'a ClientMatch], &'a ClientMatch, &'a [&'a str], bool);
    let rows: [Row<'_>; 10] = [
        (&[&a, &b], &both, &[], true),
        (&[&a], &both, &[], false),
        (&[&a], &both, &["a b"], false),
        (&[&a], &both, &["a c"], true),
        (&[&a], &both, &["a c", "~ cert"], true),
        (&[&low, &b], &both, &["a b"], false),
        (&[&low, &a, &b], &both, &["a b"], true),
        (&[&certificate], &both, &["a b cert"], false),
        // A user may be added to the file.
        (&[&a, &b], &all, &["a b"], false),
        (&[&certificate], &all, &["~ cert"], false),
    ];
    for (earlier, later, listeners, want) in rows {
        let entrances: Vec<Entrance> = listeners.iter().map(|text| entrance(text)).collect();
        let rivals = earlier.iter().map(|one| Rival::new("p", one, AddressSet::of(&one.networks)));
        let rivals: Vec<Rival<'_>> = rivals.collect();
        let got = unreachable(&rivals, later, &AddressSet::of(&later.networks), &entrances);
        assert_eq!(got.is_some(), want, "{earlier:?} {later:?} {listeners:?}: {got:?}");
    }
}

proptest! {
    /// Random policies, listeners and clients: a client that a listener may have is never decided by a policy of which it is said
    /// that none reaches it.
    #[test]
    fn no_client_reaches_a_policy_that_is_said_to_be_unreachable(
        policies in proptest::collection::vec(
            (
                prop::sample::subsequence(vec!["10.0.0.0/9", "10.128.0.0/9", "10.0.0.0/8", "192.0.2.0/24"], 1..=2),
                prop::sample::subsequence(vec!["user:a", "user:b", "cn:c"], 0..=2),
                prop::sample::subsequence(vec!["vpce-1", "vpce-2"], 0..=1),
                prop::sample::subsequence(vec!["0", "1"], 0..=2),
            ),
            1..6,
        ),
        listeners in proptest::collection::vec(prop::sample::subsequence(vec!["a", "b", "cert", "vpce", "~"], 0..=5), 1..3),
    ) {
        let built = policies.iter().enumerate().map(|(number, (networks, identities, endpoints, by))| {
            let mut clients = clients(networks, identities);
            clients.vpc_endpoints = endpoints.iter().map(|endpoint| (*endpoint).into()).collect();
            clients.listeners = by.iter().map(|listener| (*listener).into()).collect();
            PolicyBuilder::new(&number.to_string(), clients, Mode::Report, Vec::new()).build().expect("no rules")
        });
        let policies = Policies::new(built.collect());
        let entrances = listeners.iter().enumerate();
        let entrances: Vec<Entrance> =
            entrances.map(|(number, words)| entrance(&format!("{} @{number}", words.join(" ")))).collect();
        let reached = reached(&policies, &entrances);
        for entrance in &entrances {
            let users: Vec<Option<Box<str>>> = match &entrance.users {
                Some(users) => users.iter().cloned().map(Some).collect(),
                None => vec![None],
            };
            let endpoints = if entrance.endpoints { vec![None, Some("vpce-1"), Some("vpce-2")] } else { vec![None] };
            let names: &[Option<&str>] = if entrance.certificates { &[None, Some("cn:c"), Some("cn:d")] } else { &[None] };
            for address in ["10.1.0.1", "10.200.0.1", "192.0.2.1"] {
                for (user, endpoint, name) in users.iter().flat_map(|user| {
                    endpoints.iter().flat_map(move |endpoint| names.iter().map(move |name| (user, endpoint, name)))
                }) {
                    let mut client = Client::direct(format!("{address}:1").parse().expect("an address"));
                    client.identities = user.iter().cloned().chain(name.map(Box::from)).collect();
                    client.vpc_endpoint = endpoint.map(Into::into);
                    client.listener = Some(entrance.name.clone());
                    let target = Target::connect("a.example:443").expect("a target");
                    let Ok(permit) = policies.decide(&target, &client, at(NOW)) else { continue };
                    let number: usize = permit.policy.parse().expect("a number");
                    prop_assert!(reached[number], "{client:?} by {entrance:?}");
                }
            }
        }
    }
}

#[test]
fn a_private_network_that_holds_credentials_is_told() {
    let told = |network: &str| private_network(&network.parse().expect("a network")).unwrap_or_default();
    assert!(told("169.254.0.0/16").contains("169.254.169.254"));
    assert!(told("fd00::/8").contains("fd00:ec2::254"));
    assert_eq!(told("10.0.0.0/8"), "");
}

/// Lines for [`policy`], over few hosts, so that rules meet.
fn lines() -> impl Strategy<Value = Vec<String>> {
    let hosts = [
        "x.test",
        "a.x.test",
        "b.a.x.test",
        "*.x.test",
        ".x.test",
        "*.a.x.test",
        ".a.x.test",
        "b.*.x.test",
        "*.a.x.test",
        "*.*.x.test",
        "a*.x.test",
        "10.0.0.0/8",
        "10.1.0.0/16",
        "10.1.2.3",
    ];
    let ways = ["", "https://", "http://", "tcp://"];
    let ports = ["", ":443", ":22", ":80", ":1-1000"];
    let options = ["", "", " limit=5", " expires=2026-01-01", " expires=2027-01-01", " name=n"];
    let kinds = ["allow", "allow", "file", "deny"];
    let line = (0..kinds.len(), 0..ways.len(), 0..hosts.len(), 0..ports.len(), 0..options.len());
    let line = line.prop_map(move |(kind, way, host, port, option)| {
        let port = if ways[way] == "tcp://" && ports[port].is_empty() { ":22" } else { ports[port] };
        format!("{} {}{}{port}{}", kinds[kind], ways[way], hosts[host], options[option])
    });
    prop::collection::vec(line, 1..7)
}

/// What becomes of every request, now and when everything has expired: what a client and the log notice of it, save
/// which rule it was.
fn outcomes(lines: &[&str]) -> Vec<Option<(Scheme, Option<u64>)>> {
    let policies = policy(lines);
    let hosts =
        ["x.test", "a.x.test", "b.x.test", "b.a.x.test", "c.b.a.x.test", "10.1.2.3", "10.1.9.9", "10.9.9.9"];
    let client = Client::direct(([10, 0, 0, 1], 1).into());
    let mut outcomes = Vec::new();
    for (host, port) in hosts.iter().flat_map(|host| [443, 80, 22, 8443].map(|port| (host, port))) {
        let authority = format!("{host}:{port}");
        for target in [Target::connect(&authority), Target::http(&authority)] {
            for now in [NOW, "2028-01-01T00:00:00Z"] {
                let permit = policies.decide(&target.clone().expect("a target"), &client, at(now)).ok();
                outcomes.push(permit.map(|permit| (permit.scheme, permit.upload_limit)));
            }
        }
    }
    outcomes
}

proptest! {
    #[test]
    fn a_rule_that_is_told_to_have_no_effect_can_be_taken_out(lines in lines()) {
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let before = outcomes(&lines);
        for told in lint(&policy(&lines), at(NOW)) {
            if matches!(told.kind, LintKind::Denied | LintKind::NeverDecides | LintKind::AddsNothing) {
                let mut rest = lines.clone();
                rest.remove(told.line as usize - 1);
                prop_assert_eq!(&before, &outcomes(&rest), "{:?}", told);
            }
        }
    }
}
