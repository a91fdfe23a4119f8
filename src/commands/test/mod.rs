//! Checks expected verdicts against a configuration, for `egressd test`.
//!
//! Each case is decided as `egressd explain` would, and compared with what it expects. Not here: how cases are
//! written ([`crate::config::load_cases`]).

mod arguments;

pub(crate) use arguments::Test;
use std::fmt;
use std::net::IpAddr;

use crate::commands::explain::{
    AskedGit, AskedTarget, Explanation, Lookup, assumed_client, assumed_listener, client, explain,
    is_transparent, listener_named, spoken_by, unproven,
};
use crate::config::{self, Finding, Listener};
use crate::outbound::resolve::LookupError;
use crate::rules::Policies;
use crate::words::client::{Client, Protocol};
use crate::words::outcome::Decision;
use jiff::Timestamp;

/// A case that can be run.
pub type Case = config::Case<AskedTarget>;

/// Reads a file of cases; `name` is its path, as shown.
///
/// # Errors
/// Every finding, with its place.
pub fn load(name: &str, content: &[u8]) -> Result<Vec<Case>, Vec<Finding>> {
    config::load_cases(name, content, |text| AskedTarget::parse(text).map_err(|error| error.to_string()))
}

/// A case whose result is not the expected one. Shown as one line without its file and line number.
#[derive(Debug)]
pub struct Failure<'c> {
    /// The case.
    pub case: &'c Case,
    /// The actual result.
    pub got: Explanation,
    /// Why the case cannot be judged: it names a listener that is not there, or a protocol that is not spoken.
    pub unknown: Option<String>,
}

/// Runs the cases; `now` is the time of those that set none. A client that proves nothing to `listeners` that all ask for a proof is
/// refused. Returns the failures, in order.
pub fn run<'c>(
    policies: &Policies,
    listeners: &[Listener],
    cases: &'c [Case],
    now: Timestamp,
) -> Vec<Failure<'c>> {
    let (assumed, _) = assumed_client(policies);
    let assumed_by = assumed_listener(policies, listeners);
    let failure = |case: &'c Case| {
        let listener = match case.listener.as_deref() {
            None => Ok(assumed_by.clone()),
            Some(name) => listener_named(name, listeners).map(Some),
        };
        let (listener, unknown) = match listener {
            Ok(listener) => (listener, None),
            Err(why) => (None, Some(why)),
        };
        let spoken =
            case.protocol.map_or(Ok(()), |protocol| spoken_by(protocol, listener.as_deref(), listeners));
        let unknown = unknown.or(spoken.err());
        let from = client(case.client.unwrap_or(assumed), case.identities.clone(), case.vpc_endpoint.clone());
        let from = Client { listener, ..from };
        let mut answer =
            |_: &_| -> Result<Vec<IpAddr>, LookupError> { Ok(case.addresses.clone().unwrap_or_default()) };
        let lookup: Option<Lookup<'_>> = if case.addresses.is_some() { Some(&mut answer) } else { None };
        let asked = case
            .target
            .clone()
            .spoken(case.protocol.unwrap_or(Protocol::Http))
            .asking(case.method.as_deref(), case.path.as_deref());
        let git = case.git.map(|operation| AskedGit {
            operation,
            refs: case.refs.clone(),
            change: case.ref_change,
        });
        let asked = asked.doing(git, case.aws_account).unwrap_or_else(|_| case.target.clone());
        let now = case.time.unwrap_or(now);
        let transparent = is_transparent(case.protocol, from.listener.as_deref(), listeners);
        let by_name = |address: &_| policies.judges_by_name(address, &from, now).is_some();
        let meant = match case.original {
            None => Ok(asked),
            Some(original) => asked.meant_for(original, transparent, by_name),
        };
        let (asked, unknown) = match meant {
            Ok(asked) => (asked, unknown),
            Err(why) => (case.target.clone(), unknown.or(Some(why.to_owned()))),
        };
        let mut got = explain(policies, &asked, &from, now, lookup);
        got.with_unproven(unproven(listeners, &from, case.protocol), |lacks| {
            format!("add `identities: [\"{lacks}\"]`")
        });
        (unknown.is_some() || !holds(case, &got)).then_some(Failure { case, got, unknown })
    };
    cases.iter().filter_map(failure).collect()
}

fn holds(case: &Case, got: &Explanation) -> bool {
    case.expect == got.decision
        && case.reason.is_none_or(|reason| got.reason == Some(reason))
        && case.policy.as_deref().is_none_or(|policy| got.policy.as_deref() == Some(policy))
        && case.rule.as_deref().is_none_or(|rule| {
            got.rule.as_ref().is_some_and(|got| {
                *got.text == *rule || *got.label == *rule || got.source.to_string() == *rule
            })
        })
}

impl fmt::Display for Failure<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Failure { case, got, unknown } = self;
        if let Some(unknown) = unknown {
            return write!(f, "`{}`: {unknown}", case.text);
        }
        write!(f, "`{}`: expected {}", case.text, case.expect.as_str())?;
        if let Some(reason) = case.reason {
            write!(f, " {reason}")?;
        }
        if let Some(policy) = &case.policy {
            write!(f, " by policy {policy}")?;
        }
        if let Some(rule) = &case.rule {
            write!(f, " by rule {rule}")?;
        }
        write!(f, ", got {}", got.decision.as_str())?;
        if let Some(reason) = got.reason {
            write!(f, " {reason}")?;
        }
        if let Some(policy) = &got.policy {
            write!(f, " by policy {policy}")?;
        }
        if let Some(rule) = &got.rule {
            write!(f, " by rule `{}` ({})", rule.text, rule.source)?;
        }
        match &got.advice {
            Some(advice) if got.decision != Decision::Allow => write!(f, ": {advice}"),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::test_files::{self, INSPECTION};

    const CONFIG: &str = r#"
policies:
  - name: gitaly
    clients: {networks: [10.20.0.0/16]}
    allow:
      - {to: git.example, name: git, expires: 2027-03-31, private: [10.9.0.0/16]}
      - {to: api.example, requests: [{methods: [GET], paths: [/v1/**]}, {methods: [POST], paths: [/v1/x]}]}
      - {to: "http://api.example", requests: [{methods: [GET], paths: [/]}]}
      - "*.wide.example"
    deny: [evil.wide.example]
"#;

    const CASES: &str = r#"
cases:
  - {target: git.example, time: 2027-03-30, expect: allow, policy: gitaly, rule: git}
  - {target: git.example, time: 2027-03-30, expect: allow, rule: "c.yaml:6"}
  - {target: git.example, time: 2027-03-31, expect: deny, reason: rule_expired}
  - {target: git.example, time: 2027-03-30, addresses: [10.9.0.1], expect: allow}
  - {target: git.example, time: 2027-03-30, addresses: [10.8.0.1], expect: deny, reason: address_prohibited}
  - {target: evil.wide.example, expect: deny, reason: host_denied, rule: evil.wide.example}
  - {target: a.wide.example, client: 10.30.0.1, expect: deny, reason: client_not_allowed}
  - {target: "https://api.example/v1/a?b=c", expect: allow}
  - {target: "https://api.example/v1/x", method: POST, expect: allow, rule: api.example}
  - {target: api.example, method: POST, path: /v1/y, expect: deny, reason: request_not_allowed, rule: api.example}
  - {target: "https://api.example/v1/a/../b", expect: deny, reason: bad_target}
  - {target: "http://api.example", expect: allow}
  - {target: "http://api.example/x", expect: deny, reason: request_not_allowed}
  - {target: "https://api.example", expect: allow}
  - {target: "https://api.example/v2", expect: allow}
  - {target: evil.wide.example, expect: allow}
  - {target: a.wide.example, expect: allow, rule: git}
  - {target: other.example, expect: deny, reason: host_denied}
"#;

    #[test]
    fn a_case_holds_if_everything_that_it_names_is_so() {
        let loaded = config::load_str("c.yaml", &format!("{CONFIG}{INSPECTION}"), test_files::read)
            .expect("it is valid");
        let cases = load("t.yaml", CASES.as_bytes()).expect("they are valid");
        let now = "2026-01-01T00:00:00Z".parse().expect("a moment");
        let failures = run(&loaded.config.policies, &loaded.config.listeners, &cases, now);
        let told: Vec<String> =
            failures.iter().map(|failure| format!("{} {failure}", failure.case.position.line)).collect();
        assert_eq!(
            told,
            [
                "17 `https://api.example/v2`: expected allow, got deny request_not_allowed by policy gitaly by rule `api.example` \
                 (c.yaml:7): entry 1 of `requests` of `api.example` allows GET of /v1/**, not of this path; to allow it, add \
                 `- {methods: [GET], paths: [\"/v2\"]}` under `requests` of the rule",
                "18 `evil.wide.example`: expected allow, got deny host_denied by policy gitaly by rule `evil.wide.example` \
                 (c.yaml:10): `evil.wide.example` under `deny` matches evil.wide.example:443",
                "19 `a.wide.example`: expected allow by rule git, got allow by policy gitaly by rule `*.wide.example` \
                 (c.yaml:9)",
                "20 `other.example`: expected deny host_denied, got deny host_not_allowed by policy gitaly: no rule of \
                 policy `gitaly` names other.example",
            ]
        );
    }

    #[test]
    fn a_case_may_say_what_its_connection_was_meant_for() {
        let config = "listeners: [{name: a, address: 0.0.0.0:3128}, {name: b, address: 0.0.0.0:3129, mode: transparent}]\npolicies:\n  - \
                      {name: p, addresses_by_sni: true, allow: [a.example], deny: [203.0.113.66]}\n";
        let cases = "cases:\n  - {target: a.example, original: \"203.0.113.66:443\", expect: deny, reason: host_denied}\n  - {target: \
                     a.example, original: \"203.0.113.7:443\", expect: allow}\n  - {target: a.example, original: \"203.0.113.66:443\", \
                     protocol: transparent, expect: allow}\n  - {target: a.example, original: \"203.0.113.66:443\", listener: b, expect: \
                     allow}\n  - {target: a.example, original: \"203.0.113.7:22\", listener: b, expect: allow}\n  - {target: \
                     \"http://a.example\", original: \"203.0.113.7:80\", expect: deny}\n  - {target: a.example, listener: a, protocol: \
                     transparent, expect: deny}\n";
        let loaded = config::load_str("c.yaml", config, |_| Err(std::io::ErrorKind::NotFound.into()))
            .expect("it is valid");
        let cases = load("t.yaml", cases.as_bytes()).expect("they are valid");
        let failures = run(&loaded.config.policies, &loaded.config.listeners, &cases, Timestamp::now());
        let told: Vec<String> = failures.iter().map(ToString::to_string).collect();
        assert_eq!(
            told,
            [
                "`a.example`: expected allow, got deny port_not_allowed by policy p: port 22: `a.example` allows 443",
                "`http://a.example`: a plain request to a proxy names its host itself: leave the original address out",
                "`a.example`: the listener `a` does not speak transparent: write `mode: transparent` there",
            ]
        );
        let wrong = load("t.yaml", b"cases:\n  - {target: a.example, original: a.example, expect: deny}\n");
        let told =
            wrong.expect_err("no address").iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
        assert!(told.contains("is no address with a port: write one such as"), "{told}");
    }

    #[test]
    fn a_case_may_say_by_which_listener_the_client_comes() {
        let config = "listeners: [{name: a, address: 0.0.0.0:3128}, {name: b, address: 0.0.0.0:3129}]\npolicies:\n  - {name: p, clients: \
                      {listeners: [b]}, allow: [a.example]}\n";
        let cases = "cases:\n  - {target: a.example, expect: allow}\n  - {target: a.example, listener: b, expect: allow}\n  - {target: \
                     a.example, listener: a, expect: deny, reason: client_not_allowed}\n  - {target: a.example, listener: a, expect: \
                     allow}\n  - {target: a.example, listener: c, expect: deny}\n";
        let loaded = config::load_str("c.yaml", config, |_| Err(std::io::ErrorKind::NotFound.into()))
            .expect("it is valid");
        let cases = load("t.yaml", cases.as_bytes()).expect("they are valid");
        let failures = run(&loaded.config.policies, &loaded.config.listeners, &cases, Timestamp::now());
        let told: Vec<String> = failures.iter().map(ToString::to_string).collect();
        assert_eq!(
            told,
            [
                "`a.example`: expected allow, got deny client_not_allowed: the networks of policy `p` contain 127.0.0.1, but its \
                 clients come by the listener `b`, and this one came by `a`",
                "`a.example`: no listener is called `c`: write one of `a`, `b`",
            ]
        );
    }

    #[test]
    fn where_a_password_is_asked_for_a_case_without_a_user_is_refused() {
        let hash = "$2b$12$GhvMmNVjRW29ulnudl.LbuAnUtN/LRfe1JsBm1Xu6LE3059z5Tr8m";
        let config = "listeners: [{address: 0.0.0.0:3128, basic_auth: {users_file: users}}]\npolicies:\n  - {name: p, clients: \
                      {identities: ['user:gitaly']}, allow: [a.example]}\n  - {name: rest, allow: [b.example]}\n";
        let cases = "cases:\n  - {target: b.example, expect: deny, reason: auth_required}\n  - {target: a.example, identities: \
                     ['user:gitaly'], expect: allow}\n  - {target: a.example, identities: ['user:other'], expect: deny, reason: \
                     auth_failed}\n  - {target: b.example, expect: allow}\n";
        let users = format!("gitaly:{hash}\n");
        let loaded =
            config::load_str("c.yaml", config, |_| Ok(users.clone().into_bytes())).expect("it is valid");
        let cases = load("t.yaml", cases.as_bytes()).expect("they are valid");
        let failures = run(&loaded.config.policies, &loaded.config.listeners, &cases, Timestamp::now());
        let told: Vec<String> = failures.iter().map(ToString::to_string).collect();
        assert_eq!(
            told,
            [
                "`b.example`: expected allow, got deny auth_required: the listener `0.0.0.0:3128` asks for a password first: add \
                 `identities: [\"user:NAME\"]`"
            ]
        );
    }
}
