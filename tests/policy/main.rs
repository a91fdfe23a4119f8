//! The rules, seen from outside: tables that read like docs/rules.md, and properties checked against a second, simple
//! implementation of docs/rules.md.

mod admission;
mod cases;
mod errors;
mod git;
mod precedence;
mod properties;
mod requests;
mod wider;

use std::net::SocketAddr;
use std::sync::Arc;

use egressd::rules::{
    ClientMatch, Denial, Entry, Mode, Origin, Permit, Policies, Policy, PolicyBuilder, Requests, RuleOptions,
    RuleText, Schemes,
};
use egressd::words::client::Client;
use egressd::words::target::Target;
use jiff::Timestamp;

/// The moment of every decision in these tests.
pub(crate) const NOW: &str = "2027-03-31T00:00:00Z";

pub(crate) fn now() -> Timestamp {
    NOW.parse().expect("a moment")
}

pub(crate) fn client() -> Client {
    Client::direct(SocketAddr::from(([10, 0, 0, 1], 4711)))
}

/// `CONNECT host:port`, or `GET host[:port]` for a plain request.
pub(crate) fn ask(text: &str) -> Target {
    match text.split_once(' ') {
        Some(("CONNECT", authority)) => Target::connect(authority),
        Some(("GET", authority)) => Target::http(authority),
        _ => panic!("{text}"),
    }
    .unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// A policy made of lines: `allow RULE` and `deny RULE` are in the configuration, `file RULE` is in an allow file, `both RULE`
/// in one with `schemes: [https, http]`, `raw RULE` in one with `[https, tcp]`; `until` is followed by the time at which an
/// `allow` rule expires, and before that `looks` stands for a rule that looks at each request.
pub(crate) fn policy(lines: &[&str], mode: Mode) -> Policy {
    let mut builder = PolicyBuilder::new("test", ClientMatch::default(), mode, Vec::new());
    let config = builder.file("egressd.yaml");
    let listed = builder.file("lists/allowlist.txt");
    for (line, written) in (1..).zip(lines) {
        let (verb, rest) = written.split_once(' ').unwrap_or_else(|| panic!("{written}"));
        let (text, expires) = match rest.split_once(" until ") {
            Some((text, moment)) => (text, Some(moment.parse().expect("a moment"))),
            None => (rest, None),
        };
        let (text, looks) = match text.strip_suffix(" looks") {
            Some(text) => (text, true),
            None => (text, false),
        };
        let rule = RuleText::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        // As `requests` of a rule for both schemes.
        let requests = looks.then(|| Arc::new(Requests::new(vec![Entry::default()])));
        let options =
            builder.options(RuleOptions { expires, inspect: looks, requests, ..RuleOptions::default() });
        let inline = Origin { file: config, line, inline: true, text };
        let in_file = Origin { file: listed, line, inline: false, text };
        use egressd::rules::Scheme::{Http, Https, Tcp};
        let added = match verb {
            "allow" => builder.allow(&rule, Schemes::HTTPS, inline, options),
            "file" => builder.allow(&rule, Schemes::HTTPS, in_file, options),
            "both" => builder.allow(&rule, Schemes::from_iter([Https, Http]), in_file, options),
            "raw" => builder.allow(&rule, Schemes::from_iter([Https, Tcp]), in_file, options),
            "deny" => builder.deny(&rule, inline),
            _ => panic!("{written}"),
        };
        added.unwrap_or_else(|error| panic!("{text}: {error}"));
    }
    builder.build().expect("a policy")
}

pub(crate) fn decide(lines: &[&str], mode: Mode, request: &str) -> Result<Permit, Denial> {
    Policies::new(vec![policy(lines, mode)]).decide(&ask(request), &client(), now())
}

/// `https by 2` (the line of the rule), `host_denied by 1`, `port_not_allowed near 1`, `host_not_allowed`; in report
/// mode `would host_not_allowed https`.
pub(crate) fn verdict(decided: &Result<Permit, Denial>) -> String {
    let line = |rule: &egressd::rules::MatchedRule| rule.source.line.to_string();
    match decided {
        Ok(permit) => {
            let by = permit.rule.as_ref().map(|rule| format!(" by {}", line(rule))).unwrap_or_default();
            match permit.reason {
                Some(reason) => format!("would {reason}{by} {}", permit.scheme),
                None => format!("{}{by}", permit.scheme),
            }
        }
        Err(denial) => {
            let word = if denial.decided_by().is_some() { "by" } else { "near" };
            let rule = denial.rule.as_ref().map(|rule| format!(" {word} {}", line(rule))).unwrap_or_default();
            format!("{}{rule}", denial.reason)
        }
    }
}

/// Every row: rules, request, verdict.
pub(crate) fn check(mode: Mode, rows: &[(&[&str], &str, &str)]) {
    let mut wrong = Vec::new();
    for (lines, request, want) in rows {
        let got = verdict(&decide(lines, mode, request));
        if got != *want {
            wrong.push(format!("{lines:?} {request}: {got}, not {want}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
