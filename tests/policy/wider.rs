//! What `diff` calls wider, held against what the rules decide: whatever the new policies let through that the old ones did
//! not, some line of `diff` is marked.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use egressd::commands::diff::{Opens, rules};
use egressd::rules::{
    ClientMatch, Denial, Entry, Mode, OptionValue, Origin, Permit, Policies, Policy, PolicyBuilder, Requests,
    RuleOptions, RuleText, Scheme, Schemes, Shift,
};
use egressd::words::client::Client;
use egressd::words::target::Target;
use ipnet::IpNet;
use jiff::Timestamp;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use crate::{ask, now};

/// Made from few labels, so that rules often match the same hosts.
const HOSTS: [&str; 17] = [
    "a.test",
    "b.test",
    "a.b.test",
    "b.a.test",
    "*.test",
    ".test",
    "*.a.test",
    ".b.test",
    "*.b.test",
    "a.*.test",
    "a*.b.test",
    "*a.b.test",
    "a*.test",
    "192.0.2.1",
    "192.0.2.0/24",
    "192.0.2.0/31",
    "[2001:db8::]/32",
];

#[derive(Clone, Debug)]
struct Line {
    verb: &'static str,
    scheme: Option<&'static str>,
    host: &'static str,
    ports: Option<(u16, u16)>,
    options: &'static [&'static str],
}

/// What may stand beside a rule; several of them together, too.
const OPTIONS: [&[&str]; 12] = [
    &[],
    &[],
    &[],
    &["limit 10"],
    &["limit 20"],
    &["until 2020-01-01T00:00:00Z"],
    &["until 2030-01-01T00:00:00Z"],
    &["verify"],
    &["looks"],
    &["looks", "until 2020-01-01T00:00:00Z"],
    &["looks", "limit 10"],
    &["private 10.9.0.0/16"],
];

fn options(of: &Line) -> RuleOptions {
    let mut options = RuleOptions::default();
    for option in of.options {
        let (key, value) = option.split_once(' ').unwrap_or((option, ""));
        match key {
            "limit" => options.upload_limit = value.parse().ok(),
            "until" => options.expires = value.parse().ok(),
            "verify" => options.verify_certificate = true,
            "private" => options.private = vec![value.parse().expect("a network")],
            "looks" => {
                options.inspect = true;
                options.requests = Some(Arc::new(Requests::new(vec![Entry::default()])));
            }
            _ => panic!("{option}"),
        }
    }
    options
}

#[derive(Clone, Debug)]
struct Written {
    name: &'static str,
    networks: Vec<&'static str>,
    identities: Vec<&'static str>,
    endpoints: Vec<&'static str>,
    listeners: Vec<&'static str>,
    mode: Mode,
    private: Vec<&'static str>,
    lines: Vec<Line>,
}

fn networks(texts: &[&str]) -> Vec<IpNet> {
    texts.iter().map(|text| text.parse().expect("a network")).collect()
}

fn boxed(texts: &[&str]) -> Vec<Box<str>> {
    texts.iter().map(|text| (*text).into()).collect()
}

fn build(written: &Written) -> Policy {
    let clients = ClientMatch {
        networks: networks(&written.networks),
        files: Vec::new(),
        identities: boxed(&written.identities),
        vpc_endpoints: boxed(&written.endpoints),
        listeners: boxed(&written.listeners),
    };
    let mut builder = PolicyBuilder::new(written.name, clients, written.mode, networks(&written.private));
    let config = builder.file("egressd.yaml");
    let listed = builder.file("allowlist.txt");
    for (line, of) in (1..).zip(&written.lines) {
        let scheme = of.scheme.map(|scheme| format!("{scheme}://")).unwrap_or_default();
        let ports = of.ports.map(|(low, high)| format!(":{low}-{high}")).unwrap_or_default();
        let text = format!("{scheme}{}{ports}", of.host);
        let rule = RuleText::parse(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
        let options = builder.options(options(of));
        let (inline, in_file) = (true, false);
        let origin = |file, inline| Origin { file, line, inline, text: &text };
        let added = match of.verb {
            "allow" => builder.allow(&rule, Schemes::HTTPS, origin(config, inline), options),
            "file" => builder.allow(&rule, Schemes::HTTPS, origin(listed, in_file), options),
            "both" => {
                let both = Schemes::from_iter([Scheme::Https, Scheme::Http]);
                builder.allow(&rule, both, origin(listed, in_file), options)
            }
            "raw" => {
                let raw = Schemes::from_iter([Scheme::Https, Scheme::Tcp]);
                builder.allow(&rule, raw, origin(listed, in_file), options)
            }
            _ => builder.deny(&rule, origin(config, inline)),
        };
        added.unwrap_or_else(|error| panic!("{text}: {error}"));
    }
    builder.build().expect("a policy")
}

fn line() -> impl Strategy<Value = Line> {
    let verb = select(vec!["allow", "allow", "allow", "file", "both", "raw", "deny"]);
    let scheme = select(vec![None, None, None, Some("https"), Some("http"), Some("tcp")]);
    let ports =
        select(vec![None, None, None, Some((443, 443)), Some((80, 80)), Some((22, 443)), Some((1, 65535))]);
    (verb, scheme, select(HOSTS.to_vec()), ports, select(OPTIONS.to_vec())).prop_map(
        |(verb, scheme, host, ports, options)| {
            let tcp = scheme == Some("tcp") || (scheme.is_none() && verb == "raw");
            let ports = if tcp && verb != "deny" { ports.or(Some((22, 22))) } else { ports };
            Line { verb, scheme, host, ports, options }
        },
    )
}

fn clients() -> impl Strategy<Value = Vec<&'static str>> {
    let all = ["10.0.0.0/8", "10.0.0.0/9", "10.128.0.0/9", "10.1.0.0/16", "192.168.0.0/16"];
    select(vec![
        vec![all[0]],
        vec![all[0]],
        vec![all[1]],
        vec![all[2]],
        vec![all[1], all[2]],
        vec![all[3], all[4]],
    ])
}

fn written(name: &'static str) -> impl Strategy<Value = Written> {
    let identities = select(vec![vec![], vec![], vec!["user:a"], vec!["user:a", "user:b"], vec!["user:b"]]);
    let endpoints = select(vec![vec![], vec![], vec![], vec!["vpce-0a"], vec!["vpce-0b"]]);
    let listeners = select(vec![vec![], vec![], vec![], vec!["a"], vec!["b"], vec!["a", "b"]]);
    let mode = select(vec![Mode::Enforce, Mode::Enforce, Mode::Enforce, Mode::Enforce, Mode::Report]);
    let private = select(vec![vec![], vec![], vec!["10.9.0.0/17"], vec!["10.9.0.0/17", "10.9.128.0/17"]]);
    (clients(), identities, endpoints, listeners, mode, private, vec(line(), 0..6)).prop_map(
        move |(networks, identities, endpoints, listeners, mode, private, lines)| Written {
            name,
            networks,
            identities,
            endpoints,
            listeners,
            mode,
            private,
            lines,
        },
    )
}

/// An edit of one policy among several.
#[derive(Clone, Debug)]
enum Edit {
    Remove(usize, usize),
    Insert(usize, usize, Line),
    Options(usize, usize, &'static [&'static str]),
    Ports(usize, usize, Option<(u16, u16)>),
    Host(usize, usize, &'static str),
    /// To another place in the file.
    Move(usize, usize, usize),
    /// From the configuration to a file, or back.
    Verb(usize, usize, &'static str),
    Clients(usize, Vec<&'static str>),
    Identities(usize, Vec<&'static str>),
    Mode(usize, Mode),
    Private(usize, Vec<&'static str>),
    SwapPolicies(usize, usize),
    RemovePolicy(usize),
    AddPolicy(usize, Written),
    Replace(usize, Written),
}

fn edit() -> impl Strategy<Value = Edit> {
    let (policy, place) = (0..3_usize, 0..6_usize);
    let at = (policy.clone(), place.clone());
    let ports = select(vec![None, Some((443, 443)), Some((80, 80)), Some((22, 443)), Some((1, 65535))]);
    prop_oneof![
        3 => at.clone().prop_map(|(policy, place)| Edit::Remove(policy, place)),
        3 => (at.clone(), line()).prop_map(|((policy, place), line)| Edit::Insert(policy, place, line)),
        3 => (at.clone(), select(OPTIONS.to_vec()))
            .prop_map(|((policy, place), options)| Edit::Options(policy, place, options)),
        2 => (at.clone(), ports).prop_map(|((policy, place), ports)| Edit::Ports(policy, place, ports)),
        1 => (at.clone(), select(HOSTS.to_vec())).prop_map(|((policy, place), host)| Edit::Host(policy, place, host)),
        3 => (at.clone(), place).prop_map(|((policy, from), to)| Edit::Move(policy, from, to)),
        2 => (at, select(vec!["allow", "file", "both", "deny"]))
            .prop_map(|((policy, place), verb)| Edit::Verb(policy, place, verb)),
        2 => (policy.clone(), clients()).prop_map(|(policy, clients)| Edit::Clients(policy, clients)),
        1 => (policy.clone(), select(vec![vec![], vec!["user:a"], vec!["user:b"]]))
            .prop_map(|(policy, identities)| Edit::Identities(policy, identities)),
        1 => (policy.clone(), select(vec![Mode::Enforce, Mode::Report]))
            .prop_map(|(policy, mode)| Edit::Mode(policy, mode)),
        1 => (policy.clone(), select(vec![vec![], vec!["10.9.0.0/16"], vec!["10.9.0.0/17"]]))
            .prop_map(|(policy, private)| Edit::Private(policy, private)),
        2 => (policy.clone(), policy.clone()).prop_map(|(one, other)| Edit::SwapPolicies(one, other)),
        1 => policy.clone().prop_map(Edit::RemovePolicy),
        1 => (policy.clone(), written("new")).prop_map(|(policy, written)| Edit::AddPolicy(policy, written)),
        1 => (policy, written("p")).prop_map(|(policy, written)| Edit::Replace(policy, written)),
    ]
}

fn apply(policies: &mut Vec<Written>, edit: Edit) {
    let count = policies.len().max(1);
    let lines = |policies: &mut Vec<Written>, policy: usize, act: &dyn Fn(&mut Vec<Line>)| {
        if let Some(policy) = policies.get_mut(policy % count) {
            act(&mut policy.lines);
        }
    };
    let line = |policies: &mut Vec<Written>, policy: usize, place: usize, act: &dyn Fn(&mut Line)| {
        lines(policies, policy, &|lines| {
            let count = lines.len().max(1);
            if let Some(line) = lines.get_mut(place % count) {
                act(line);
                let tcp = line.scheme == Some("tcp") || (line.scheme.is_none() && line.verb == "raw");
                if tcp && line.verb != "deny" {
                    line.ports = line.ports.or(Some((22, 22)));
                }
            }
        });
    };
    match edit {
        Edit::Remove(policy, place) => lines(policies, policy, &|lines| {
            if !lines.is_empty() {
                lines.remove(place % lines.len());
            }
        }),
        Edit::Insert(policy, place, new) => lines(policies, policy, &|lines| {
            lines.insert(place % (lines.len() + 1), new.clone());
        }),
        Edit::Options(policy, place, options) => {
            line(policies, policy, place, &|line| line.options = options)
        }
        Edit::Ports(policy, place, ports) => line(policies, policy, place, &|line| line.ports = ports),
        Edit::Host(policy, place, host) => line(policies, policy, place, &|line| line.host = host),
        Edit::Verb(policy, place, verb) => line(policies, policy, place, &|line| line.verb = verb),
        Edit::Move(policy, from, to) => lines(policies, policy, &|lines| {
            if !lines.is_empty() {
                let line = lines.remove(from % lines.len());
                lines.insert(to % (lines.len() + 1), line);
            }
        }),
        Edit::SwapPolicies(one, other) if !policies.is_empty() => policies.swap(one % count, other % count),
        Edit::RemovePolicy(policy) if !policies.is_empty() => {
            policies.remove(policy % count);
        }
        Edit::AddPolicy(place, written) => policies.insert(place.min(policies.len()), written),
        Edit::SwapPolicies(..) | Edit::RemovePolicy(_) => {}
        Edit::Clients(policy, _)
        | Edit::Identities(policy, _)
        | Edit::Mode(policy, _)
        | Edit::Private(policy, _)
        | Edit::Replace(policy, _) => {
            let Some(of) = policies.get_mut(policy % count) else { return };
            match edit {
                Edit::Clients(_, networks) => of.networks = networks,
                Edit::Identities(_, identities) => of.identities = identities,
                Edit::Mode(_, mode) => of.mode = mode,
                Edit::Private(_, private) => of.private = private,
                Edit::Replace(_, written) => *of = Written { name: of.name, ..written },
                _ => unreachable!("matched above"),
            }
        }
    }
}

fn requests() -> Vec<Target> {
    let hosts = [
        "a.test",
        "b.test",
        "ab.test",
        "a.b.test",
        "b.a.test",
        "aba.b.test",
        "xa.b.test",
        "c.b.test",
        "a.c.test",
        "x.a.b.test",
        "192.0.2.1",
        "192.0.2.9",
        "[2001:db8::7]",
        "9.9.9.9",
    ];
    let ports = [443, 80, 22];
    let all = hosts.iter().flat_map(|host| ports.map(|port| format!("{host}:{port}")));
    all.flat_map(|to| [ask(&format!("CONNECT {to}")), ask(&format!("GET {to}"))]).collect()
}

fn asking() -> Vec<Client> {
    let client = |last: [u8; 3]| {
        let [b, c, d] = last;
        Client::direct(SocketAddr::from(([10, b, c, d], 4711)))
    };
    let named = |identity: &str| Client { identities: [identity.into()].into(), ..client([1, 0, 1]) };
    let through = |endpoint: &str| Client { vpc_endpoint: Some(endpoint.into()), ..client([200, 0, 1]) };
    let outside = Client::direct(SocketAddr::from(([192, 168, 0, 1], 4711)));
    let by = |listener: &str| Client { listener: Some(listener.into()), ..client([1, 0, 1]) };
    let known =
        [client([0, 0, 1]), client([1, 0, 1]), named("user:a"), named("user:b"), through("vpce-0a"), outside];
    known.into_iter().chain([by("a"), by("b")]).collect()
}

/// What the new decision lets through that the old one did not.
fn more(old: &Result<Permit, Denial>, new: &Result<Permit, Denial>) -> Option<String> {
    let new = new.as_ref().ok()?;
    let Ok(old) = old else { return Some("it was denied".to_owned()) };
    if old.scheme != new.scheme && old.scheme != Scheme::Tcp {
        return Some(format!("{} → {}", old.scheme, new.scheme));
    }
    let wider = |(old, new): (OptionValue<'_>, OptionValue<'_>)| {
        let changes = old.changes(&new);
        changes.into_iter().find(|(shift, _)| matches!(shift, Shift::Wider | Shift::Unclear))
    };
    old.options()
        .zip(new.options())
        .find_map(|((key, old), (_, new))| wider((old, new)).map(|(_, text)| format!("{key} {text}")))
}

fn wider(old: &Policies, new: &Policies, now: Timestamp) -> Option<String> {
    let addresses: [IpAddr; 3] = [[10, 9, 0, 1].into(), [10, 9, 200, 1].into(), [192, 0, 2, 1].into()];
    for target in requests() {
        for client in asking() {
            let (before, after) = (old.decide(&target, &client, now), new.decide(&target, &client, now));
            if let Some(how) = more(&before, &after) {
                return Some(format!("{target} by {client:?}: {how}"));
            }
            let (Ok(before), Ok(after)) = (before, after) else { continue };
            let admitted = |address: &&IpAddr| {
                new.admit(&after, **address).is_ok() && old.admit(&before, **address).is_err()
            };
            if let Some(address) = addresses.iter().find(admitted) {
                return Some(format!("{target} by {client:?}: at {address}"));
            }
        }
    }
    None
}

fn policies(written: &[Written]) -> Policies {
    Policies::new(written.iter().map(build).collect())
}

fn marked(old: &Policies, new: &Policies) -> (bool, Vec<String>) {
    let (mut lines, mut marked) = (Vec::new(), false);
    rules::compare(old, new, |change| {
        marked |= change.opens != Opens::No;
        lines.push(change.to_string());
    });
    (marked, lines)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn what_lets_more_through_is_marked(
        old in (written("p"), written("q"), written("r")),
        count in 1..=3_usize,
        edits in vec(edit(), 1..4),
    ) {
        let old: Vec<Written> = [old.0, old.1, old.2].into_iter().take(count).collect();
        let mut new = old.clone();
        for (number, edit) in edits.into_iter().enumerate() {
            // Two policies of one name cannot be loaded.
            if matches!(edit, Edit::AddPolicy(..)) && new.iter().any(|policy| policy.name == "new") {
                continue;
            }
            apply(&mut new, edit);
            prop_assert!(number < 4);
        }
        let (before, after) = (policies(&old), policies(&new));
        let (marked, lines) = marked(&before, &after);
        if !marked {
            for moment in [now(), "2031-01-01T00:00:00Z".parse().expect("a moment")] {
                let found = wider(&before, &after, moment);
                prop_assert!(found.is_none(), "{found:?}\n{lines:#?}\n{old:#?}\n{new:#?}");
            }
        }
    }

    /// Nothing is marked where nothing changed.
    #[test]
    fn what_is_the_same_is_not_told(old in (written("p"), written("q"), written("r"))) {
        let all = [old.0, old.1, old.2];
        let (marked, lines) = marked(&policies(&all), &policies(&all));
        prop_assert!(!marked && lines.is_empty(), "{lines:#?}");
    }
}

/// In report mode a rule that is gone takes its limits with it: what it decided passes without them.
#[test]
fn a_rule_that_is_gone_in_report_mode_leaves_its_requests_without_its_limits() {
    let of = |lines: &[Line], mode| {
        let written = Written {
            name: "p",
            networks: vec!["10.0.0.0/8"],
            identities: vec![],
            endpoints: vec![],
            listeners: vec![],
            mode,
            private: vec![],
            lines: lines.to_vec(),
        };
        policies(&[written])
    };
    let limited = Line { verb: "allow", scheme: None, host: "a.test", ports: None, options: &["limit 10"] };
    let plain = Line { options: &[], ..limited.clone() };
    for (line, mode, want) in
        [(&limited, Mode::Report, true), (&limited, Mode::Enforce, false), (&plain, Mode::Report, false)]
    {
        let (marked, lines) = marked(&of(std::slice::from_ref(line), mode), &of(&[], mode));
        assert_eq!(marked, want, "{mode:?} {lines:?}");
    }
}

/// Edits that tighten are not marked, or nobody would read the marks.
#[test]
fn what_tightens_is_not_marked() {
    let rows: &[(&[&str], &[&str])] = &[
        (&["allow a.test", "allow b.test"], &["allow a.test"]),
        (&["allow a.test"], &["allow a.test", "deny x.a.test"]),
        (&["allow *.test"], &["allow *.test", "allow a.test"]),
        (&["allow *.test"], &["allow a.test"]),
        (&["allow *.a.test"], &["allow b.a.test", "allow c.a.test:443"]),
        (&["allow .a.test"], &["allow *.a.test"]),
        (&["allow a.test:22-443"], &["allow a.test"]),
        (&["allow tcp://a.test:22-443"], &["allow tcp://a.test:22"]),
        (&["both a.test"], &["file a.test"]),
        (&["both a.test:8080"], &["allow a.test:8080"]),
        (&["allow a.test"], &["allow a.test until 2030-01-01T00:00:00Z"]),
        (&["allow a.test until 2030-01-01T00:00:00Z"], &["allow a.test until 2029-01-01T00:00:00Z"]),
        (&["allow a.test"], &["allow a.test looks"]),
        (&["allow a.test", "allow *.test"], &["allow *.test"]),
        (&["deny a.test", "deny b.a.test", "allow c.test"], &["deny .a.test", "allow c.test"]),
        (&["deny https://a.test:443", "allow c.test"], &["deny https://a.test", "allow c.test"]),
        (&["deny 192.0.2.1", "allow c.test"], &["deny 192.0.2.0/24", "allow c.test"]),
        (&["allow a.test", "file a.test", "allow b.test"], &["allow b.test", "file a.test", "allow a.test"]),
        (&["allow a*.b.test", "allow *a.b.test"], &["allow *a.b.test", "allow a*.b.test"]),
    ];
    for (old, new) in rows {
        let of = |lines: &[&str]| Policies::new(vec![crate::policy(lines, Mode::Enforce)]);
        let (marked, lines) = marked(&of(old), &of(new));
        assert!(!marked, "{old:?} → {new:?}: {lines:#?}");
    }
}
