//! Small random access configurations and random requests: what Squid would refuse, the imported policies refuse, too. If
//! they refuse more, the import announced this at a line that took part in the verdict.
//!
//! Squid is here an interpreter of a few lines, written from Squid's documentation and independently of the import.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use egressd::commands::import::squid::{self, Choices, Files, Note, NoteKind};
use egressd::config;
use egressd::rules::{Denial, Permit, Scheme};
use egressd::words::client::Client;
use egressd::words::target::{Host, Method, Target};
use proptest::prelude::*;
use proptest::sample::select;

/// Each list: its name, and its `acl` line.
const LISTS: &[(&str, &str)] = &[
    ("one", "src 10.1.2.3"),
    ("team", "src 10.1.0.0/16 10.9.0.0-10.9.0.255"),
    ("corp", "src 10.0.0.0/8"),
    ("all", "src all"),
    ("a", "dstdomain .a.test"),
    ("ba", "dstdomain .b.a.test"),
    ("cba", "dstdomain c.b.a.test"),
    ("mixed", "dstdomain a.test x.test .y.test"),
    ("literal", "dstdomain -n 52.119.196.66 x.test"),
    ("under", r"dstdom_regex -n \.a\.test$"),
    ("loose", r"dstdom_regex -n a\.test$"),
    ("odd", r"dstdom_regex -n ^c.*test$"),
    ("tls", "port 443"),
    ("web", "port 80 443"),
    ("high", "port 8000-9000"),
    ("CONNECT", "method CONNECT"),
    ("get", "method GET"),
    ("plain", "proto HTTP"),
    ("wide", "dst 52.119.196.0/24"),
    ("narrow", "dst 52.119.196.66"),
    ("hours", "time 09:00-17:00"),
    ("alice", "proxy_auth alice"),
    ("anybody", "proxy_auth REQUIRED"),
    ("people", "myportname people"),
    ("second", "myportname 3129 people-of-nobody"),
    ("entry", "localport 3129-3130"),
    ("either", "any-of cba tls"),
    ("by", "any-of second cba"),
    ("both", "all-of a tls"),
    // Files, whose lines are in tests/import/root.
    ("hosts", r#"dstdomain -n "/etc/squid/random/hosts""#),
    ("blocked", r#"dstdomain -n "/etc/squid/random/blocked""#),
    ("none", r#"dstdomain -n "/etc/squid/random/none""#),
    ("team_file", r#"src "/etc/squid/random/team""#),
    ("one_file", r#"src "/etc/squid/random/one""#),
    ("nobody", r#"src "/etc/squid/random/none""#),
];

const NAMES: &[&str] = &[
    "a.test",
    "b.a.test",
    "c.b.a.test",
    "d.c.b.a.test",
    "z.a.test",
    "eva.test",
    "x.test",
    "q.y.test",
    "other.test",
];
const ADDRESSES: &[&str] = &["52.119.196.66", "52.119.196.67", "8.8.8.8"];
const CLIENTS: &[&str] = &["10.1.2.3", "10.1.9.9", "10.9.0.7", "10.200.0.1", "192.0.2.1"];
const METHODS: &[&str] = &["CONNECT", "GET", "POST"];
const PORTS: &[u16] = &[443, 80, 8080, 22];

/// The ports by which clients come: the line, the number, and what comes by it.
const DOORS: &[(&str, u16, Comes)] = &[
    ("http_port 3128 name=people", 3128, Comes::Asking),
    ("http_port 3129", 3129, Comes::Asking),
    ("http_port 3130 name=balanced require-proxy-header", 3130, Comes::Balanced),
    ("http_port 3131 intercept", 3131, Comes::Http),
    ("https_port 3132 tproxy ssl-bump cert=/etc/squid/p.pem name=people", 3132, Comes::Tls),
];

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Comes {
    /// Requests to a proxy.
    Asking,
    /// The same, through a balancer that says to which port.
    Balanced,
    /// Plain HTTP that was redirected.
    Http,
    /// TLS that was redirected.
    Tls,
}

#[derive(Clone, Debug)]
struct Rule {
    allow: bool,
    literals: Vec<(bool, &'static str)>,
}

#[derive(Clone, Debug)]
struct Request {
    client: IpAddr,
    user: Option<&'static str>,
    method: &'static str,
    host: &'static str,
    port: u16,
    /// What the host resolves to.
    answer: IpAddr,
    office_hours: bool,
    /// Of [`DOORS`].
    door: usize,
    /// What a balancer says.
    said: u16,
}

impl Request {
    fn comes(&self) -> Comes {
        DOORS[self.door].2
    }

    fn is_redirected(&self) -> bool {
        matches!(self.comes(), Comes::Http | Comes::Tls)
    }
}

/// What else a configuration says.
#[derive(Clone, Default, Debug)]
struct Setup {
    /// Squid asks for passwords.
    asked: bool,
    /// How many of [`DOORS`] there are. None: Squid's port is not written.
    doors: usize,
    parent: bool,
    always: Vec<Rule>,
    never: Vec<Rule>,
    peer: Vec<Rule>,
}

impl Setup {
    fn lines(&self) -> String {
        let mut text = head();
        if !self.asked {
            text = format!("# no passwords\n{}", text.split_once('\n').expect("lines").1);
        }
        for (line, ..) in &DOORS[..self.doors] {
            text += &format!("{line}\n");
        }
        text += "acl balancer src 192.0.2.0/24\nproxy_protocol_access allow balancer\n";
        if self.parent {
            text += "cache_peer parent.example parent 3128 0 no-query name=up\n";
        }
        for (directive, rules) in [
            ("always_direct", &self.always),
            ("never_direct", &self.never),
            ("cache_peer_access up", &self.peer),
        ] {
            text += &rules.iter().map(|rule| format!("{directive} {}\n", written(rule))).collect::<String>();
        }
        text
    }

    /// Whether Squid has no way for it.
    fn strands(&self, request: &Request) -> bool {
        let allows = |rules: &[Rule]| squid_list(rules, request).0;
        let always = !self.always.is_empty() && allows(&self.always);
        let never = !self.never.is_empty() && allows(&self.never);
        let parent = self.parent && (self.peer.is_empty() || allows(&self.peer));
        never && !always && !parent
    }

    /// Squid's verdict on what comes by the request's port, and the number of the rule that made it.
    fn squid(&self, rules: &[Rule], request: &Request) -> (bool, usize) {
        let (allowed, by) = squid_list(rules, request);
        let taken = match (request.comes(), request.method) {
            (Comes::Http, method) => method != "CONNECT",
            (Comes::Tls, "CONNECT") => {
                let address = Request { host: text_of(request.answer), ..request.clone() };
                let meant = if request.host.parse::<IpAddr>().is_ok() { request } else { &address };
                squid_list(rules, meant).0 && !self.strands(meant)
            }
            (Comes::Tls, _) => false,
            (Comes::Asking | Comes::Balanced, _) => true,
        };
        (allowed && taken && !self.strands(request), by)
    }
}

/// One of [`ADDRESSES`].
fn text_of(address: IpAddr) -> &'static str {
    let text = address.to_string();
    ADDRESSES.iter().find(|one| **one == text).expect("an answer")
}

fn written(rule: &Rule) -> String {
    let literals: Vec<String> = rule
        .literals
        .iter()
        .map(|(negated, list)| format!("{}{list}", if *negated { "!" } else { "" }))
        .collect();
    format!("{} {}", if rule.allow { "allow" } else { "deny" }, literals.join(" "))
}

/// Squid's verdict, and the number of the rule that made it.
fn squid_list(rules: &[Rule], request: &Request) -> (bool, usize) {
    for (number, rule) in rules.iter().enumerate() {
        let mut matches = true;
        for (negated, list) in &rule.literals {
            match holds(list, request) {
                None => return (false, number), // 407
                Some(holds) => matches = holds != *negated,
            }
            if !matches {
                break;
            }
        }
        if matches {
            return (rule.allow, number);
        }
    }
    (rules.last().is_some_and(|rule| !rule.allow), rules.len())
}

/// None: a password has to be asked for first.
fn holds(list: &str, request: &Request) -> Option<bool> {
    let address = |text: &str| request.host == text;
    let name = request.host.parse::<IpAddr>().is_err();
    let under = |suffix: &str| {
        name && request.host.strip_suffix(suffix).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    };
    let destination = request.host.parse().unwrap_or(request.answer);
    let octets = match request.client {
        IpAddr::V4(ip) => ip.octets(),
        IpAddr::V6(_) => unreachable!("clients are IPv4 here"),
    };
    Some(match list {
        "one" => octets == [10, 1, 2, 3],
        "team" => octets[..2] == [10, 1] || octets[..3] == [10, 9, 0],
        "corp" => octets[0] == 10,
        "all" => true,
        "a" => under("a.test"),
        "ba" => under("b.a.test"),
        "cba" => address("c.b.a.test"),
        "mixed" => address("a.test") || address("x.test") || under("y.test"),
        "literal" => address("52.119.196.66") || address("x.test"),
        "under" => request.host.ends_with(".a.test"),
        "loose" => request.host.ends_with("a.test"),
        "odd" => request.host.starts_with('c') && request.host.ends_with("test"),
        "tls" => request.port == 443,
        "web" => [80, 443].contains(&request.port),
        "high" => (8000..=9000).contains(&request.port),
        "CONNECT" => request.method == "CONNECT",
        "get" => request.method == "GET",
        "plain" => request.method != "CONNECT",
        "wide" => destination.to_string().starts_with("52.119.196."),
        "narrow" => destination.to_string() == "52.119.196.66",
        "hours" => request.office_hours,
        // Nobody is asked who does not know of a proxy.
        "alice" | "anybody" if request.is_redirected() => false,
        "alice" => request.user? == "alice",
        "anybody" => request.user.map(|_| true)?,
        "people" => DOORS[request.door].0.contains("name=people"),
        "second" => DOORS[request.door].1 == 3129,
        "entry" => {
            let port = match request.comes() {
                Comes::Asking => DOORS[request.door].1,
                Comes::Balanced => request.said,
                Comes::Http | Comes::Tls => request.port,
            };
            (3129..=3130).contains(&port)
        }
        "by" => holds("second", request)? || holds("cba", request)?,
        "either" => holds("cba", request)? || holds("tls", request)?,
        "both" => holds("a", request)? && holds("tls", request)?,
        "hosts" => under("b.a.test") || address("52.119.196.66"),
        "blocked" => address("z.a.test") || under("x.test"),
        "none" | "nobody" => false,
        "team_file" => holds("team", request)?,
        "one_file" => holds("one", request)?,
        other => panic!("no list {other}"),
    })
}

/// The lines before the first rule.
fn head() -> String {
    let lists = LISTS.iter().filter(|(name, _)| *name != "all");
    let lists: String = lists.map(|(name, line)| format!("acl {name} {line}\n")).collect();
    format!("auth_param basic program /usr/lib/squid/basic_ncsa_auth /etc/squid/passwd\n{lists}")
}

fn rules() -> impl Strategy<Value = Vec<Rule>> {
    let lists: Vec<&'static str> = LISTS.iter().map(|(name, _)| *name).collect();
    let literals = proptest::collection::vec((prop::bool::weighted(0.2), select(lists)), 1..4);
    let rule = (prop::bool::weighted(0.6), literals).prop_map(|(allow, literals)| Rule { allow, literals });
    proptest::collection::vec(rule, 1..7)
}

fn request() -> impl Strategy<Value = Request> {
    let hosts: Vec<&'static str> = NAMES.iter().chain(ADDRESSES).copied().collect();
    let answers: Vec<IpAddr> = ADDRESSES.iter().map(|text| text.parse().expect("an address")).collect();
    let clients: Vec<IpAddr> = CLIENTS.iter().map(|text| text.parse().expect("an address")).collect();
    (
        select(clients),
        select(vec![None, Some("alice"), Some("bob")]),
        select(METHODS),
        select(hosts),
        select(PORTS),
        select(answers),
        any::<bool>(),
        (0..DOORS.len(), select(vec![3128_u16, 3129])),
    )
        .prop_map(|(client, user, method, host, port, answer, office_hours, (door, said))| Request {
            client,
            user,
            method,
            host,
            port,
            answer,
            office_hours,
            door,
            said,
        })
}

/// Lines of `always_direct` and the like. None of them asks for a password.
fn routes() -> impl Strategy<Value = Vec<Rule>> {
    let asks = |rule: &Rule| rule.literals.iter().any(|(_, list)| matches!(*list, "alice" | "anybody"));
    rules().prop_map(move |mut rules| {
        rules.retain(|rule| !asks(rule));
        rules.truncate(2);
        rules
    })
}

fn setup() -> impl Strategy<Value = Setup> {
    let some = |weight| prop::option::weighted(weight, routes());
    let doors = select(vec![0, 2, 2, 3, DOORS.len()]);
    (any::<bool>(), doors, any::<bool>(), some(0.3), some(0.4), some(0.3)).prop_map(
        |(asked, doors, parent, always, never, peer)| Setup {
            asked,
            doors,
            parent,
            always: always.unwrap_or_default(),
            never: never.unwrap_or_default(),
            peer: peer.filter(|_| parent).unwrap_or_default(),
        },
    )
}

/// Whether it is a CONNECT that lets nothing pass but plain requests to the same host and port: for Squid, it is those that
/// must be allowed.
fn carries_requests(permit: &Result<Permit, Denial>) -> bool {
    permit.as_ref().is_ok_and(|permit| permit.method == Method::Connect && permit.scheme == Scheme::Http)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(crate::property_cases(300)))]

    #[test]
    fn what_squid_refuses_is_refused_and_what_is_refused_beyond_is_announced(
        rules in rules(),
        requests in proptest::collection::vec(request(), 60),
        setup in setup(),
    ) {
        compare(&rules, requests, &setup)?;
    }
}

fn compare(
    rules: &[Rule],
    requests: impl IntoIterator<Item = Request>,
    setup: &Setup,
) -> Result<(), TestCaseError> {
    let mut text = setup.lines();
    let first = text.lines().count() + 1;
    text += &rules.iter().map(|rule| format!("http_access {}\n", written(rule))).collect::<String>();
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("squid.conf");
    std::fs::write(&file, &text).expect("writable");
    let imported = squid::squid(
        &Files::on_disk(Some("tests/import/root".into())),
        &file.display().to_string(),
        Choices::default(),
    )
    .map_err(TestCaseError::fail)?;
    let read = |path: &Path| std::fs::read(path);
    let loaded = config::load_str("egressd.yaml", &imported.yaml, read).expect("the import checked it");
    let stricter = imported.notes.iter().filter(|note| note.kind == NoteKind::Stricter);
    let (own, of_files): (Vec<&Note>, Vec<&Note>) = stricter.partition(|note| Path::new(&*note.file) == file);
    let own: BTreeSet<usize> =
        own.iter().map(|note| usize::try_from(note.line).expect("a line number")).collect();
    for mut request in requests {
        if setup.doors > 0 {
            request.door %= setup.doors;
        } else {
            // Squid has a port anyway, which is one of its own.
            request.door = 0;
        }
        let redirected = request.is_redirected();
        if !setup.asked || redirected {
            request.user = None;
        } else if request.user.is_none() {
            continue; // The listener asks, which is told.
        }
        let authority = format!("{}:{}", request.host, request.port);
        let target = match request.method {
            "CONNECT" => Target::connect(&authority),
            _ => Target::http(&authority),
        }
        .expect("a target");
        let mut client = Client::direct((request.client, 4711).into());
        let by_port = |listener: &&config::Listener| {
            listener.address.ip().is_some_and(|address| address.port() == DOORS[request.door].1)
        };
        client.listener =
            loaded.config.listeners.iter().find(by_port).map(|listener| Arc::clone(&listener.name));
        prop_assert!(client.listener.is_some(), "{}", imported.yaml);
        client.identities = request.user.iter().map(|user| format!("user:{user}").into()).collect();
        let address = match target.host {
            Host::Address(address) => address,
            Host::Name(_) => request.answer,
        };
        let policies = &loaded.config.policies;
        let permit = policies.decide(&target, &client, jiff::Timestamp::now());
        let carried = carries_requests(&permit);
        let passes = permit.is_ok_and(|permit| policies.admit(&permit, address).is_ok());
        // What is redirected and is TLS never becomes plain requests.
        let passes = passes && !(carried && redirected);
        let request = if carried && !redirected { Request { method: "POST", ..request } } else { request };
        let (allowed, by) = setup.squid(rules, &request);
        prop_assert!(
            allowed || !passes,
            "wider: {request:?}\n{text}\n{}\n{:#?}",
            imported.yaml,
            imported.notes
        );
        if allowed && !passes {
            // At the rule that allowed it, at a rule before it, at a list that one of them uses, or at the line of its file that is
            // about this host.
            let went_by = &rules[..=by.min(rules.len() - 1)];
            let lists: Vec<(&str, usize)> = went_by
                .iter()
                .flat_map(|rule| &rule.literals)
                .flat_map(|(_, list)| {
                    text.lines().zip(1..).filter(move |(line, _)| line.starts_with(&format!("acl {list} ")))
                })
                .collect();
            let names = std::iter::successors(Some(request.host), |name| Some(name.split_once('.')?.1));
            let names: Vec<String> =
                names.filter(|name| name.contains('.')).map(|name| format!("{name}`")).collect();
            let in_file = lists.iter().filter_map(|(line, _)| line.split('"').nth(1)).any(|list| {
                of_files.iter().any(|note| {
                    note.file.ends_with(list) && names.iter().any(|name| note.text.contains(name))
                })
            });
            let mut lines = (first..first + went_by.len()).chain(lists.iter().map(|(_, number)| *number));
            let announced = in_file || lines.any(|line| own.contains(&line));
            prop_assert!(
                announced,
                "not announced: {request:?}\n{text}\n{}\n{:#?}",
                imported.yaml,
                imported.notes
            );
        }
    }
    Ok(())
}

/// Every request that the lists tell apart, from clients without a password.
fn every_request() -> impl Iterator<Item = Request> {
    let address = |text: &str| text.parse::<IpAddr>().expect("an address");
    let mut requests = Vec::new();
    for client in CLIENTS {
        for method in METHODS {
            for host in NAMES.iter().chain(ADDRESSES) {
                for port in PORTS {
                    for answer in ADDRESSES {
                        for office_hours in [true, false] {
                            let (client, answer) = (address(client), address(answer));
                            requests.push(Request {
                                client,
                                user: None,
                                method,
                                host,
                                port: *port,
                                answer,
                                office_hours,
                                door: 0,
                                said: 3128,
                            });
                        }
                    }
                }
            }
        }
    }
    requests.into_iter()
}

/// A line that egressd cannot evaluate may be the one by which Squid lets a request through that a later line lets through, too.
/// Where egressd refuses it for another cause, this is told at both.
#[test]
fn what_is_refused_is_told_at_an_earlier_line_that_may_have_allowed_it() {
    for lines in [
        // A name that leads to an address of a list of another kind.
        &["allow hosts under get", "allow under"],
        &["allow under get", "allow hosts", "allow under"],
        // A name that leads to what a later line denies.
        &["allow literal get", "allow literal", "deny wide", "allow under"],
        &["allow a hours", "allow a", "deny narrow", "allow mixed"],
        // A name under one that is denied.
        &["allow cba get", "deny ba !cba", "allow a"],
        // A line that lets every host out, and a list after it.
        &["allow get", "allow all", "allow hosts"],
    ] as [&[&str]; 6]
    {
        let rules: Vec<Rule> = lines.iter().map(|line| parsed(line)).collect();
        compare(&rules, every_request(), &Setup::default())
            .unwrap_or_else(|error| panic!("{lines:?}: {error}"));
    }
}

/// `allow a !b` as a rule.
fn parsed(line: &str) -> Rule {
    let mut words = line.split(' ');
    let allow = words.next() == Some("allow");
    let known = |name: &str| LISTS.iter().map(|(list, _)| *list).find(|list| *list == name).expect("a list");
    let literals = words.map(|word| match word.strip_prefix('!') {
        Some(name) => (true, known(name)),
        None => (false, known(word)),
    });
    Rule { allow, literals: literals.collect() }
}

/// Where nothing has to fail closed, the verdicts are equal: otherwise an import that denies all would pass the test above.
#[test]
fn what_egressd_can_express_is_imported_exactly() {
    let rules = [
        "http_access deny !web",
        "http_access deny CONNECT !tls",
        "http_access deny one",
        "http_access deny ba",
        "http_access allow team a",
        "http_access allow corp mixed",
        "http_access deny all",
    ];
    let parsed: Vec<Rule> =
        rules.iter().map(|line| parsed(line.trim_start_matches("http_access "))).collect();
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("squid.conf");
    std::fs::write(
        &file,
        head().lines().skip(1).chain(rules).map(|line| format!("{line}\n")).collect::<String>(),
    )
    .expect("writable");
    let imported = squid::squid(
        &Files::on_disk(Some("tests/import/root".into())),
        &file.display().to_string(),
        Choices::default(),
    )
    .expect("imported");
    let config = config::load_str("egressd.yaml", &imported.yaml, |path: &Path| std::fs::read(path))
        .expect("loads")
        .config;
    let (mut allowed, mut denied) = (0, 0);
    for client in CLIENTS {
        for method in ["CONNECT", "GET"] {
            for host in NAMES {
                for port in PORTS.iter().copied() {
                    let request = Request {
                        client: client.parse().expect("an address"),
                        user: None,
                        method,
                        host,
                        port,
                        answer: "8.8.8.8".parse().expect("an address"),
                        office_hours: true,
                        door: 0,
                        said: 3128,
                    };
                    let authority = format!("{host}:{port}");
                    let target = if method == "CONNECT" {
                        Target::connect(&authority)
                    } else {
                        Target::http(&authority)
                    };
                    let client = Client::direct((request.client, 4711).into());
                    let permit =
                        config.policies.decide(&target.expect("a target"), &client, jiff::Timestamp::now());
                    let passes = permit.is_ok();
                    let request = if carries_requests(&permit) {
                        Request { method: "GET", ..request }
                    } else {
                        request
                    };
                    assert_eq!(passes, squid_list(&parsed, &request).0, "{request:?}\n{}", imported.yaml);
                    *(if passes { &mut allowed } else { &mut denied }) += 1;
                }
            }
        }
    }
    assert!(allowed >= 30 && denied >= 100, "{allowed} allowed, {denied} denied");
}

/// The same for the port that clients come by.
#[test]
fn what_ports_tell_apart_listeners_do() {
    let rules: Vec<Rule> = [
        "deny !web",
        "deny CONNECT !tls",
        "deny !plain !CONNECT",
        "allow people a",
        "deny people",
        "allow second mixed",
        "allow entry cba",
        "deny all",
    ]
    .iter()
    .map(|line| parsed(line))
    .collect();
    let setup = Setup { doors: 2, ..Setup::default() };
    let text = setup.lines()
        + &rules.iter().map(|rule| format!("http_access {}\n", written(rule))).collect::<String>();
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("squid.conf");
    std::fs::write(&file, text).expect("writable");
    let files = Files::on_disk(Some("tests/import/root".into()));
    let imported = squid::squid(&files, &file.display().to_string(), Choices::default()).expect("imported");
    let read = |path: &Path| std::fs::read(path);
    let config = config::load_str("egressd.yaml", &imported.yaml, read).expect("loads").config;
    let (mut allowed, mut denied) = (0, 0);
    for (door, name) in ["people", "proxy"].into_iter().enumerate() {
        for request in every_request().filter(|request| request.host.parse::<IpAddr>().is_err()) {
            let request = Request { door, ..request };
            let authority = format!("{}:{}", request.host, request.port);
            let target = if request.method == "CONNECT" {
                Target::connect(&authority)
            } else {
                Target::http(&authority)
            };
            let mut client = Client::direct((request.client, 4711).into());
            client.listener = Some(name.into());
            let permit = config.policies.decide(&target.expect("a target"), &client, jiff::Timestamp::now());
            let passes = permit.is_ok();
            let request =
                if carries_requests(&permit) { Request { method: "GET", ..request } } else { request };
            assert_eq!(passes, setup.squid(&rules, &request).0, "{request:?}\n{}", imported.yaml);
            *(if passes { &mut allowed } else { &mut denied }) += 1;
        }
    }
    assert!(allowed >= 30 && denied >= 100, "{allowed} allowed, {denied} denied");
}

/// `-i` makes upper and lower case one, so that a list that denies `Mallory` denies the user mallory too.
#[test]
fn a_user_who_is_denied_in_any_case_stays_denied() {
    let directory = tempfile::tempdir().expect("a directory");
    let at = |name: &str| directory.path().join(name);
    let hash = "$2b$12$abcdefghijklmnopqrstuuWqjUVZZ0Wd1YVqS7O4rJbTzAqVvT1iK";
    std::fs::write(at("users"), format!("mallory:{hash}\ngit:{hash}\n")).expect("writable");
    let text = format!(
        "http_port 3128\nauth_param basic program /usr/lib/squid/basic_ncsa_auth {}\nacl bad proxy_auth -i Mallory\n\
         acl known proxy_auth REQUIRED\nacl good dstdomain www.example.com\nhttp_access deny bad\n\
         http_access allow known good\nhttp_access deny all\n",
        at("users").display()
    );
    std::fs::write(at("squid.conf"), text).expect("writable");
    let files = egressd::commands::import::squid::Files::on_disk(None);
    let main = at("squid.conf").display().to_string();
    let imported = egressd::commands::import::squid::squid(
        &files,
        &main,
        egressd::commands::import::squid::Choices::default(),
    )
    .expect("imported");
    let allowing: Vec<&str> =
        imported.yaml.split("  - name: ").filter(|part| part.contains("www.example.com")).collect();
    assert!(allowing.iter().any(|part| !part.contains("identities:")), "{}", imported.yaml);
    let denied = imported.yaml.find("user:mallory").expect("a policy of its own");
    assert!(denied < imported.yaml.find("www.example.com").expect("listed"), "{}", imported.yaml);
    assert!(!allowing.iter().any(|part| part.contains("user:mallory")), "{}", imported.yaml);
}
