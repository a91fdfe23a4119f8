//! The file of `egressd test`: requests with expected verdicts. It is read with the machinery of the configuration, so
//! that every error has its position and all errors are reported at once.
//!
//! ```yaml
//! cases:
//!   - target: https://git-codecommit.eu-central-1.amazonaws.com
//!     expect: allow
//!   - {target: https://api.example/v1/x, method: POST, expect: deny, reason: request_not_allowed}
//!   - {target: https://git.example/a.git, git: push, ref: refs/heads/main, expect: deny, reason: ref_not_allowed}
//!   - {target: tcp://evil.example:22, client: 10.20.0.7, expect: deny, reason: host_not_allowed}
//! ```
//!
//! Not here: what a target is (the caller reads it), and whether a case passes ([`crate::commands::test`]).

use std::net::{IpAddr, SocketAddr};

use jiff::Timestamp;
use serde::Deserialize;

use super::finding::{Finding, Findings, Position, Report, nearest};
use super::keys::{Key, List, items, required, value};
use super::requests::{ChangeFile, OperationFile};
use super::text::text;
use super::values::{AccountNumber, Identity, Ip, Label, Line, MethodName, Moment, VpcEndpoint};
use super::{tree, typed};
use crate::words::aws::Account;
use crate::words::client::Protocol;
use crate::words::git::{Change, Operation, RefName};
use crate::words::outcome::{Decision, Reason};
use crate::words::quote::quoted;

/// One request and the verdict that is expected.
#[derive(Clone, PartialEq, Debug)]
pub struct Case<T> {
    /// Where it begins.
    pub position: Position,
    /// As written.
    pub text: Box<str>,
    /// What `text` asks for.
    pub target: T,
    /// The method of the request; `None`: not set.
    pub method: Option<Box<str>>,
    /// Its path; `None`: that of `target`, if it has one.
    pub path: Option<Box<str>>,
    /// What is done with the Git repository at the path.
    pub git: Option<Operation>,
    /// The refs that a push changes.
    pub refs: Vec<RefName>,
    /// What happens to them.
    pub ref_change: Change,
    /// The AWS account whose credentials the request has.
    pub aws_account: Option<Account>,
    /// The client's address; `None`: not set.
    pub client: Option<IpAddr>,
    /// The identities that the client has proven.
    pub identities: Vec<Box<str>>,
    /// The VPC endpoint that it came through.
    pub vpc_endpoint: Option<Box<str>>,
    /// What it speaks; `None`: not set.
    pub protocol: Option<Protocol>,
    /// The name of the listener that it came by; `None`: not set.
    pub listener: Option<Box<str>>,
    /// The address that its connection was meant for; `None`: not set.
    pub original: Option<SocketAddr>,
    /// When the request is made; `None`: now.
    pub time: Option<Timestamp>,
    /// What the target's name resolves to; `None`: it is not looked up.
    pub addresses: Option<Vec<IpAddr>>,
    /// The verdict.
    pub expect: Decision,
    /// The reason of a denial.
    pub reason: Option<Reason>,
    /// The name of the policy that decides.
    pub policy: Option<Box<str>>,
    /// The rule that decides: its name, its text, or its `file:line`.
    pub rule: Option<Box<str>>,
}

/// The file as typed.
#[derive(Debug, Default, Deserialize)]
struct CasesFile {
    cases: List<CaseFile>,
}

/// One case as typed.
#[derive(Debug, Deserialize)]
struct CaseFile {
    target: Key<Line>,
    method: Key<MethodName>,
    path: Key<Line>,
    git: Key<OperationFile>,
    r#ref: Key<Line>,
    refs: List<Line>,
    ref_change: Key<ChangeFile>,
    aws_account: Key<AccountNumber>,
    client: Key<Ip>,
    identities: List<Identity>,
    vpc_endpoint: Key<VpcEndpoint>,
    listener: Key<Label>,
    protocol: Key<Spoken>,
    original: Key<Line>,
    time: Key<Moment>,
    addresses: List<Ip>,
    expect: Key<Expect>,
    reason: Key<Line>,
    policy: Key<Label>,
    rule: Key<Line>,
}

/// What a client speaks.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Spoken {
    Http,
    Socks5,
    Transparent,
}

impl Spoken {
    fn protocol(self) -> Protocol {
        match self {
            Spoken::Http => Protocol::Http,
            Spoken::Socks5 => Protocol::Socks5,
            Spoken::Transparent => Protocol::Transparent,
        }
    }
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Expect {
    Allow,
    Deny,
    WouldDeny,
}

/// Reads a file of cases. `name` is its path, as shown; `target` reads what a case asks for, and says what is wrong.
///
/// # Errors
/// Every finding, sorted by line and column. A file without cases is an error, because it would test nothing.
pub fn load_cases<T>(
    name: &str,
    content: &[u8],
    target: impl Fn(&str) -> Result<T, String>,
) -> Result<Vec<Case<T>>, Vec<Finding>> {
    let findings = Findings::default();
    let report = findings.of(name);
    let cases = read(content, &report, target);
    if !findings.has_errors() && cases.is_empty() {
        report.error(
            Position::START,
            "there are no cases: write `cases:` and at least one `- target: …` under it",
        );
    }
    if findings.has_errors() { Err(findings.finish()) } else { Ok(cases) }
}

fn read<T>(content: &[u8], report: &Report<'_>, target: impl Fn(&str) -> Result<T, String>) -> Vec<Case<T>> {
    let root = text(content, report).and_then(|text| tree::parse(text, report));
    let file = root.as_ref().and_then(|root| typed::read::<CasesFile>(root, report)).and_then(|at| at.value);
    let file = file.unwrap_or_default();
    items(&file.cases).filter_map(|(case, position)| case.read(position, report, &target)).collect()
}

impl CaseFile {
    fn read<T>(
        &self,
        position: Position,
        report: &Report<'_>,
        target: impl Fn(&str) -> Result<T, String>,
    ) -> Option<Case<T>> {
        let written = required(report, &self.target, position, "target", "target: https://git.example.com");
        let expect = required(report, &self.expect, position, "expect", "expect: allow");
        let target = written.and_then(|at| {
            let text = &*at.value.as_ref()?.0;
            let asked = target(text);
            asked.map_err(|error| report.error(at.position, format!("{}: {error}", quoted(text)))).ok()
        });
        let expect = expect.and_then(|at| at.value).map(|expect| match expect {
            Expect::Allow => Decision::Allow,
            Expect::Deny => Decision::Deny,
            Expect::WouldDeny => Decision::WouldDeny,
        });
        let reason = self.reason(expect, report);
        let git = value(&self.git).map(|word| word.operation());
        let refs = self.refs(git, report);
        if let (Some(at), Some(text)) = (&self.git, written.and_then(|at| at.value.as_ref())) {
            let (scheme, rest) = text.0.split_once("://").unwrap_or(("", ""));
            if scheme == "tcp" || (self.path.is_none() && !rest.contains('/')) {
                let text =
                    "`git` needs the repository as the path: write `target: https://HOST/v1/repos/NAME`";
                report.error(at.position, text);
            }
        }
        Some(Case {
            position,
            text: written?.value.as_ref()?.0.clone(),
            target: target?,
            method: value(&self.method).map(|method| method.0.clone()),
            path: self.path(report),
            git,
            refs,
            ref_change: value(&self.ref_change).map_or(Change::Update, |word| word.change()),
            aws_account: value(&self.aws_account).map(|account| account.0),
            client: value(&self.client).map(|ip| ip.0),
            identities: items(&self.identities).map(|(identity, _)| identity.0.clone()).collect(),
            vpc_endpoint: value(&self.vpc_endpoint).map(|endpoint| endpoint.0.clone()),
            protocol: value(&self.protocol).map(|spoken| spoken.protocol()),
            original: self.original(report),
            listener: value(&self.listener).map(|listener| listener.0.clone()),
            time: value(&self.time).map(|moment| moment.0),
            addresses: self.addresses.as_ref().map(|_| items(&self.addresses).map(|(ip, _)| ip.0).collect()),
            expect: expect?,
            reason,
            policy: value(&self.policy).map(|name| name.0.clone()),
            rule: value(&self.rule).map(|rule| rule.0.clone()),
        })
    }

    /// `ref` is one of them.
    fn refs(&self, git: Option<Operation>, report: &Report<'_>) -> Vec<RefName> {
        let one = self.r#ref.as_ref().filter(|at| at.value.is_some());
        let all = one.into_iter().chain(value(&self.refs).into_iter().flatten());
        let change = self.ref_change.as_ref().map(|at| at.position);
        let first = all.clone().map(|at| at.position).chain(change).next();
        if let (Some(position), true) = (first, git != Some(Operation::Push)) {
            report.error(position, "refs are changed by pushes: write `git: push` beside it, or remove it");
        }
        let names = all.filter_map(|at| {
            let text = &*at.value.as_ref()?.0;
            let name = RefName::new(text.as_bytes());
            name.map_err(|why| report.error(at.position, format!("{}: no ref has {why}", quoted(text)))).ok()
        });
        names.collect()
    }

    fn original(&self, report: &Report<'_>) -> Option<SocketAddr> {
        let at = self.original.as_ref()?;
        let text = &*at.value.as_ref()?.0;
        let wrong = |_| {
            report.error(
                at.position,
                format!("{} is no address with a port: write one such as \"203.0.113.9:443\"", quoted(text)),
            );
        };
        text.parse().map_err(wrong).ok()
    }

    fn path(&self, report: &Report<'_>) -> Option<Box<str>> {
        let at = self.path.as_ref()?;
        let path = &*at.value.as_ref()?.0;
        if !path.starts_with('/') || path.contains(['?', '#']) {
            report.error(
                at.position,
                format!("{} is not a path: write one that begins with `/`, without a query", quoted(path)),
            );
        }
        Some(path.into())
    }

    fn reason(&self, expect: Option<Decision>, report: &Report<'_>) -> Option<Reason> {
        let at = self.reason.as_ref()?;
        let word = &*at.value.as_ref()?.0;
        if expect == Some(Decision::Allow) {
            report.error(
                at.position,
                "`reason` is only valid with `expect: deny` or `expect: would_deny`; remove it",
            );
        }
        let known: Vec<&str> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
        let reason = Reason::from_word(word);
        if reason.is_none() {
            let help = match nearest(word, &known) {
                Some(meant) => format!("did you mean {meant}?"),
                None => "write one as `egressd explain` prints it, such as host_not_allowed".to_owned(),
            };
            report.error(at.position, format!("{} is not a known reason; {help}", quoted(word)));
        }
        reason
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<Vec<Case<String>>, Vec<String>> {
        let target = |text: &str| match text {
            "bad" => Err("it is bad".to_owned()),
            _ => Ok(text.to_owned()),
        };
        load_cases("t.yaml", text.as_bytes(), target)
            .map_err(|findings| findings.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_case_keeps_all_that_was_written() {
        let cases = load(
            "cases:\n  - {target: a.example, client: 10.0.0.1, identities: [\"user:a\"], vpc_endpoint: vpce-0a, time: \
             2027-03-31, addresses: [10.1.0.1], expect: would_deny, reason: host_denied, policy: p, rule: r}\n  - \
             target: b.example\n    expect: allow\n",
        )
        .expect("it is valid");
        let [first, second] = cases.as_slice() else { panic!("{cases:?}") };
        assert_eq!(first.position, Position { line: 2, column: 5 });
        assert_eq!((first.expect, first.reason), (Decision::WouldDeny, Some(Reason::HostDenied)));
        assert_eq!(first.time.map(|time| time.to_string()).as_deref(), Some("2027-03-31T00:00:00Z"));
        assert_eq!(first.addresses.as_deref(), Some(["10.1.0.1".parse().expect("an address")].as_slice()));
        assert_eq!((second.client, second.time, &second.addresses), (None, None, &None));
    }

    #[test]
    fn every_error_has_its_position() {
        let rows: &[(&str, &[&str])] = &[
            ("", &["1:1: error: there are no cases"]),
            ("cases: []\n", &["1:1: error: there are no cases"]),
            ("case: []\n", &["1:1: error: unknown key `case`; did you mean `cases`?"]),
            ("cases:\n  - {expect: allow}\n", &["2:5: error: `target` is missing"]),
            ("cases:\n  - {target: bad, expect: deny}\n", &["2:14: error: `bad`: it is bad"]),
            (
                "cases:\n  - {target: a}\n  - {target: a, expect: alow}\n",
                &[
                    "2:5: error: `expect` is missing",
                    "3:25: error: `expect`: unknown `alow`; did you mean allow?",
                ],
            ),
            (
                "cases:\n  - {target: a, expect: deny, reason: host_not_alowed}\n",
                &["2:39: error: `host_not_alowed` is not a known reason; did you mean host_not_allowed?"],
            ),
            (
                "cases:\n  - {target: a, expect: allow, reason: host_denied}\n",
                &["2:40: error: `reason` is only valid with `expect: deny`"],
            ),
            (
                "cases:\n  - {target: a, method: get, path: v1, expect: allow}\n",
                &[
                    "2:25: error: `method`: `get` is in lower case",
                    "2:36: error: `v1` is not a path: write one that begins with `/`",
                ],
            ),
            (
                "cases:\n  - {target: a, git: push, ref: main, expect: allow}\n  - {target: \"https://a/b\", git: fetch, refs: \
                 [refs/heads/a], expect: allow}\n  - {target: \"https://a/b\", aws_account: \"1\", expect: allow}\n",
                &[
                    "2:22: error: `git` needs the repository as the path",
                    "2:33: error: `main`: no ref has a name that does not begin with `refs/`",
                    "3:48: error: refs are changed by pushes",
                    "4:42: error: `aws_account`: `1` is not an account",
                ],
            ),
            ("cases: [\n", &["1:8: error: not valid YAML"]),
        ];
        for (text, want) in rows {
            let told = load(text).expect_err(text);
            assert_eq!(told.len(), want.len(), "{text}: {told:?}");
            for (told, want) in told.iter().zip(*want) {
                assert!(told.starts_with(&format!("t.yaml:{want}")), "{text}: {told}");
            }
        }
    }
}
