//! The decision checked against a second implementation, which follows docs/rules.md word for word: one rule after the
//! other, without indexes and without the program's own matching.

use std::cmp::Reverse;
use std::net::IpAddr;

use egressd::rules::{HostPattern, Mode, Policies};
use egressd::words::outcome::Reason;
use egressd::words::target::{Host, Method, Target};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use crate::{ask, client, now, policy, verdict};

/// Whether the text of a host pattern matches a host, by the table "Hosts" of docs/rules.md.
fn names(pattern: &str, host: &str) -> bool {
    if bare(pattern).parse::<ipnet::IpNet>().is_ok() || bare(pattern).parse::<IpAddr>().is_ok() {
        return false; // a name was asked for
    }
    let labels: Vec<&str> = host.split('.').collect();
    let wanted: Vec<&str> = pattern.split('.').collect();
    match pattern {
        _ if pattern.starts_with("*.") && !pattern[2..].contains('*') => {
            labels.len() >= wanted.len() && labels.ends_with(&wanted[1..])
        }
        _ if pattern.starts_with('.') => labels.len() >= wanted.len() - 1 && labels.ends_with(&wanted[1..]),
        _ => {
            labels.len() == wanted.len() && wanted.iter().zip(&labels).all(|(want, label)| fits(want, label))
        }
    }
}

/// `*` is one or more characters; this tries every length.
fn fits(pattern: &str, label: &str) -> bool {
    match pattern.chars().next() {
        None => label.is_empty(),
        Some('*') => (1..=label.len()).any(|taken| fits(&pattern[1..], &label[taken..])),
        Some(_) => !label.is_empty() && pattern[..1] == label[..1] && fits(&pattern[1..], &label[1..]),
    }
}

fn holds(pattern: &str, address: IpAddr) -> bool {
    let pattern = bare(pattern);
    match pattern.parse::<ipnet::IpNet>() {
        Ok(network) => network.contains(&address),
        Err(_) => pattern.parse() == Ok(address),
    }
}

/// The pattern without the brackets of IPv6.
fn bare(pattern: &str) -> String {
    pattern.replace(['[', ']'], "")
}

/// A line as the tests write it, split into its parts.
#[derive(Debug, Clone)]
struct Line {
    verb: &'static str,
    scheme: Option<&'static str>,
    host: &'static str,
    ports: Option<(u16, u16)>,
    expired: bool,
    looks: bool,
}

impl Line {
    fn text(&self) -> String {
        let scheme = self.scheme.map(|scheme| format!("{scheme}://")).unwrap_or_default();
        let ports = match self.ports {
            None => String::new(),
            Some((low, high)) if low == high => format!(":{low}"),
            Some((low, high)) => format!(":{low}-{high}"),
        };
        let until = if self.expired { " until 2020-01-01T00:00:00Z" } else { "" };
        let looks = if self.looks { " looks" } else { "" };
        format!("{} {scheme}{}{ports}{looks}{until}", self.verb, self.host)
    }

    fn names(&self, host: &Host) -> bool {
        match host {
            Host::Name(name) => names(self.host, name.as_str()),
            Host::Address(address) => holds(self.host, address.to_canonical()),
        }
    }

    fn schemes(&self) -> &[&'static str] {
        match (self.scheme, self.verb) {
            (Some("https"), _) => &["https"],
            (Some("http"), _) => &["http"],
            (Some(_), _) => &["tcp"],
            (None, "deny") => &["https", "http", "tcp"],
            (None, "both") => &["https", "http"],
            (None, "raw") => &["https", "tcp"],
            (None, _) => &["https"],
        }
    }

    fn port_fits(&self, scheme: &str, port: u16) -> bool {
        let (low, high) = match (self.ports, self.verb, scheme) {
            (Some(ports), _, _) => ports,
            (None, "deny", _) => (1, 65535),
            (None, _, "https") => (443, 443),
            (None, _, "http") => (80, 80),
            (None, _, _) => panic!("a tcp rule has a port"),
        };
        low <= port && port <= high
    }

    /// The scheme by which the rule fits the request, if the rule matches the host. `carried`: an `http` rule is asked
    /// whether it carries a CONNECT.
    fn scheme_for(&self, target: &Target, carried: bool) -> Option<&'static str> {
        let ways: &[&str] = match (target.method, target.port.get()) {
            (Method::Http, _) => &["http"],
            (Method::Connect, _) if carried => &["http"],
            (Method::Connect, 443) => &["https", "tcp"],
            (Method::Connect, _) => &["tcp", "https"],
        };
        let port = target.port.get();
        let mut fitting = ways.iter().filter(|way| self.schemes().contains(way) && self.port_fits(way, port));
        fitting.next().copied()
    }

    /// Whether it matches the request, and would look at it.
    fn sees(&self, target: &Target, carried: bool) -> bool {
        self.looks && self.scheme_for(target, carried).is_some_and(|scheme| scheme != "tcp")
    }

    /// Smaller is more specific.
    fn rank(&self, line: usize) -> impl Ord {
        let address = bare(self.host).parse::<ipnet::IpNet>().ok().map(|net| net.prefix_len());
        let literal = bare(self.host).parse::<IpAddr>().is_ok();
        let suffix =
            self.host.starts_with('.') || (self.host.starts_with("*.") && !self.host[2..].contains('*'));
        let (class, length) = match address {
            Some(prefix) => (2, usize::from(prefix)),
            None if literal => (0, 0),
            None if suffix => (2, self.host.trim_start_matches(['*', '.']).len()),
            None if self.host.contains('*') => (1, self.host.chars().filter(|c| *c != '*').count()),
            None => (0, 0),
        };
        let width = match (self.ports, self.verb) {
            (Some((low, high)), _) => high - low,
            (None, "deny") => u16::MAX,
            (None, _) => 0,
        };
        let in_file = !matches!(self.verb, "allow" | "deny");
        (class, Reverse(length), width, in_file, line)
    }
}

/// "Which rule decides" in docs/rules.md: any matching `deny`; otherwise, of the matching `allow` rules, only the most specific.
/// For CONNECT, `http` rules are asked after all others, and only then is a `deny` of `http://` asked.
fn oracle(lines: &[Line], target: &Target) -> (Option<Reason>, Option<usize>, Option<&'static str>) {
    let named = || (1..).zip(lines).filter(|(_, line)| line.names(&target.host));
    let best = |rules: Vec<(usize, &Line)>| {
        rules.into_iter().min_by(|(a, x), (b, y)| x.rank(*a).cmp(&y.rank(*b))).map(|(number, _)| number)
    };
    let deny = |carried: bool| {
        let denies = |line: &Line| line.verb == "deny" && line.scheme_for(target, carried).is_some();
        best(named().filter(|(_, line)| denies(line)).collect())
    };
    let allows = || named().filter(|(_, line)| line.verb != "deny");
    let is_connect = target.method == Method::Connect;
    // Where a rule that looks matches, expired or not, no other counts.
    let is_seen =
        allows().any(|(_, line)| line.sees(target, false) || (is_connect && line.sees(target, true)));
    let fitting = |expired: bool, carried: bool| {
        let fits = |line: &Line| {
            line.expired == expired
                && line.scheme_for(target, carried).is_some()
                && (!is_seen || line.sees(target, carried))
        };
        best(allows().filter(|(_, line)| fits(line)).collect())
    };
    if let Some(number) = deny(false) {
        return (Some(Reason::HostDenied), Some(number), None);
    }
    if let Some(number) = fitting(false, false) {
        return (None, Some(number), lines[number - 1].scheme_for(target, false));
    }
    if is_connect && let Some(number) = fitting(false, true) {
        return match deny(true) {
            Some(deny) => (Some(Reason::HostDenied), Some(deny), None),
            None => (None, Some(number), Some("http")),
        };
    }
    if let Some(number) = fitting(true, false).or(fitting(true, is_connect)) {
        return (Some(Reason::RuleExpired), Some(number), None);
    }
    let port = target.port.get();
    let way = |line: &Line| {
        line.schemes().iter().any(|scheme| (*scheme == "http") == (target.method == Method::Http))
    };
    let on_port = |line: &Line| line.schemes().iter().any(|scheme| line.port_fits(scheme, port));
    let live = || allows().map(|(_, line)| line).filter(|line| !line.expired);
    let reason = if live().any(|line| on_port(line) && !way(line)) {
        Reason::SchemeNotAllowed
    } else if live().any(way) {
        Reason::PortNotAllowed
    } else if live().next().is_some() {
        Reason::SchemeNotAllowed
    } else {
        Reason::HostNotAllowed
    };
    (Some(reason), None, None)
}

/// Made from few labels, so that rules often match hosts.
const HOSTS: [&str; 32] = [
    "a.test",
    "b.test",
    "a.b.test",
    "b.a.test",
    "a.a.b.test",
    "*.test",
    ".test",
    "*.a.test",
    ".a.test",
    "*.b.test",
    ".b.test",
    "*.a.b.test",
    ".a.b.test",
    "a.*.test",
    "*.*.test",
    "a*.test",
    "*a.b.test",
    "a*a.test",
    "*b.*.test",
    "a.*b.test",
    "a*.b.test",
    "*ab*.test",
    "*.a.*.test",
    "192.0.2.1",
    "192.0.2.0/24",
    "192.0.2.0/31",
    "192.0.0.0/16",
    "0.0.0.0/0",
    "[2001:db8::1]",
    "[2001:db8::]/32",
    "[2001:db8::]/64",
    "[2001:db8::]/127",
];

fn line() -> impl Strategy<Value = Line> {
    let verb = select(vec!["allow", "allow", "file", "both", "raw", "deny"]);
    let scheme = select(vec![None, None, Some("https"), Some("http"), Some("tcp")]);
    let ports = select(vec![None, None, Some((443, 443)), Some((80, 80)), Some((22, 443)), Some((1, 65535))]);
    let odds = (proptest::bool::weighted(0.2), proptest::bool::weighted(0.2));
    (verb, scheme, select(HOSTS.to_vec()), ports, odds).prop_map(
        |(verb, scheme, host, ports, (expired, looks))| {
            let tcp = scheme == Some("tcp") || (scheme.is_none() && verb == "raw");
            let ports = if tcp && verb != "deny" { ports.or(Some((22, 22))) } else { ports };
            let allows = verb != "deny";
            Line { verb, scheme, host, ports, expired: expired && allows, looks: looks && allows }
        },
    )
}

fn request() -> impl Strategy<Value = String> {
    let label = select(vec!["a", "b", "ab", "ba", "aba", "x", "aab"]);
    let name = vec(label, 0..4).prop_map(|labels| [labels.as_slice(), &["test"]].concat().join("."));
    let address = select(vec!["192.0.2.1", "192.0.2.9", "192.0.9.9", "9.9.9.9", "[::ffff:192.0.2.1]"]);
    let v6 = select(vec!["[2001:db8::1]", "[2001:db8::9]", "[2001:db8:9::]", "[2001:db9::]"]);
    let host = prop_oneof![6 => name, 1 => address.prop_map(str::to_owned), 1 => v6.prop_map(str::to_owned)];
    let port = select(vec![443, 443, 80, 22, 8443]);
    (select(vec!["CONNECT", "CONNECT", "GET"]), host, port)
        .prop_map(|(way, host, port)| format!("{way} {host}:{port}"))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn the_index_decides_as_the_documented_order_does(
        lines in vec(line(), 0..24),
        requests in vec(request(), 20),
    ) {
        let texts: Vec<String> = lines.iter().map(Line::text).collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let policies = Policies::new(vec![policy(&texts, Mode::Enforce)]);
        for request in &requests {
            let target = ask(request);
            let decided = policies.decide(&target, &client(), now());
            let got = verdict(&decided);
            let by = |line: usize| format!(" by {line}");
            let want = match oracle(&lines, &target) {
                (None, line, scheme) => format!("{}{}", scheme.unwrap_or("?"), line.map(by).unwrap_or_default()),
                (Some(reason), line, _) => format!("{reason}{}", line.map(by).unwrap_or_default()),
            };
            let got = got.split(" near ").next().unwrap_or_default();
            prop_assert_eq!(got, want, "{} by {:#?}", request, texts);
        }
    }

    #[test]
    fn one_pattern_names_what_the_table_says(pattern in select(HOSTS.to_vec()), request in request()) {
        let host = ask(&request).host;
        let parsed = HostPattern::parse(pattern).expect(pattern);
        let want = match &host {
            Host::Name(name) => names(pattern, name.as_str()),
            Host::Address(address) => holds(pattern, address.to_canonical()),
        };
        prop_assert_eq!(parsed.matches(&host), want, "{} {}", pattern, host);
    }

    /// For any host: if it is allowed, it is a listed name, or it ends in a listed suffix that begins at a dot.
    #[test]
    fn no_host_outside_a_listed_label_boundary_is_allowed(
        before in "[a-z0-9_.-]{0,12}",
        listed in select(vec!["amazonaws.com", "example.co.uk", "git.test", "a.git.test"]),
        after in select(vec!["", "", "", ".", ".evil.test", "x", "-", ".com", ".amazonaws.com"]),
        cut in 0_usize..3,
    ) {
        let listed = &listed[cut.min(listed.len() - 1)..];
        let Ok(target) = Target::connect(&format!("{before}{listed}{after}:443")) else { return Ok(()) };
        let policies = Policies::new(vec![policy(
            &["allow *.amazonaws.com", "allow .example.co.uk", "allow a.git.test", "allow s*.git.test"],
            Mode::Enforce,
        )]);
        let host = target.host.to_string();
        let one_label = |rest: &str| host.strip_suffix(rest).is_some_and(|label| !label.contains('.'));
        let inside = host.ends_with(".amazonaws.com")
            || host == "example.co.uk"
            || host.ends_with(".example.co.uk")
            || host == "a.git.test"
            || (host.starts_with('s') && one_label(".git.test") && host.len() > "s.git.test".len());
        prop_assert_eq!(policies.decide(&target, &client(), now()).is_ok(), inside, "{}", host);
    }

    /// Parsing ends for any text, and what it accepts means the same when written canonically.
    #[test]
    fn any_text_is_a_rule_or_an_error_with_its_place(text in "\\PC{0,24}|[a-z*.:/\\[\\]0-9-]{0,24}") {
        match egressd::rules::RuleText::parse(&text) {
            Ok(rule) => prop_assert_eq!(egressd::rules::RuleText::parse(&rule.to_string()), Ok(rule), "{}", text),
            Err(error) => prop_assert!(error.offset <= text.len(), "{} {:?}", text, error),
        }
    }
}
