//! What would allow a denied request: the narrowest rule, and where to write it.
//!
//! The rule is for exactly the requested host and port, and is proposed only if a rule is the answer: for a `deny` rule
//! or an expired rule, its owner has to decide. The policy in force decides, not the one that denied, so that the
//! answer says if the list was fixed in the meantime. Not here: the shortest list for a whole log
//! ([`crate::commands::suggest`]).

use ipnet::IpNet;
use jiff::Timestamp;

use super::address;
use super::builder::{Origin, PolicyBuilder};
use super::lint;
use super::options::RuleOptions;
use super::rule::{RuleText, Scheme, Schemes};
use super::{ClientMatch, Mode, Policies, Policy};
use crate::words::outcome::{Class, Decision, Reason};
use crate::words::target::{Host, Method, Port, Target};

/// Ports where the conversation begins in cleartext, even if TLS follows: FTP, SSH, telnet, SMTP, POP3, IMAP, LDAP,
/// submission, MySQL, PostgreSQL, Redis, git. On other ports an `https` rule is proposed first, because it is narrower.
const CLEAR_AT_FIRST: &[u16] = &[21, 22, 23, 25, 110, 143, 389, 587, 3306, 5432, 6379, 9418];

/// What to do about one denial.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Remedy {
    /// The policy in force allows it now.
    pub allowed_now: bool,
    /// What to write under `allow`; none if no rule is the answer.
    pub rule: Option<String>,
    /// The options that the rule needs, as in a YAML flow mapping: `private: ["10.1.2.3/32"]`.
    pub options: Option<String>,
    /// One line that a person can act on; none if the reason says enough.
    pub advice: Option<String>,
    /// What to consider before the rule is added: what `check` would warn of, and what the rule cannot check.
    pub warnings: Vec<String>,
}

impl Remedy {
    fn told(advice: String) -> Self {
        Remedy { advice: Some(advice), ..Remedy::default() }
    }

    /// The line to paste into a YAML list.
    pub fn line(&self) -> Option<String> {
        let rule = self.rule.as_ref()?;
        Some(match &self.options {
            None => format!("- {rule}"),
            Some(options) => format!("- {{to: \"{rule}\", {options}}}"),
        })
    }
}

impl Policies {
    /// What would allow `target`, which was denied for `reason` under `policy`.
    pub fn remedy(&self, policy: Option<&str>, reason: Reason, target: &Target, now: Timestamp) -> Remedy {
        let Some(name) = policy else { return without_policy(reason) };
        let Some(policy) = self.iter().find(|policy| **policy.name() == *name) else {
            return Remedy::told(format!("there is no policy `{name}` any more"));
        };
        match reason.class() {
            Class::NotListed | Class::Expired | Class::Denied => by_rules(policy, target, now),
            Class::NoTls => {
                let mut remedy = rule(policy, target, Scheme::Tcp);
                remedy.advice = Some(
                    "the traffic there is not TLS from its first byte; only a tcp rule allows that"
                        .to_owned(),
                );
                remedy
            }
            Class::Address => match &target.host {
                Host::Address(address) => match address::never(*address) {
                    Some(what) => Remedy::told(format!("no rule can open {address} ({what})")),
                    None => rule(policy, target, scheme_for(target)),
                },
                Host::Name(name) => Remedy::told(format!(
                    "stderr shows the address that {name} resolves to, with the request's id: if clients should \
                     reach it, add its network to `private` of the rule"
                )),
            },
            Class::ServerName => Remedy::told(
                "the ClientHello must name the host of the CONNECT: check the client; no rule can allow this"
                    .to_owned(),
            ),
            Class::Connection
            | Class::Form
            | Class::Challenge
            | Class::Credentials
            | Class::Client
            | Class::Upload
            | Class::Hello
            | Class::Certificate
            | Class::TargetNotTls
            | Class::Rate
            | Class::ClientLimit
            | Class::Limit
            | Class::Lookup
            | Class::Connect
            | Class::Upstream
            | Class::Resources
            | Class::Service => Remedy::default(),
        }
    }
}

/// The remedy if no policy decided.
fn without_policy(reason: Reason) -> Remedy {
    match reason.class() {
        Class::Client => Remedy::told(
            "add the client's network to `clients.networks` of a policy, if it should have access".to_owned(),
        ),
        Class::Connection
        | Class::Form
        | Class::Challenge
        | Class::Credentials
        | Class::NotListed
        | Class::Expired
        | Class::Denied
        | Class::Upload
        | Class::Address
        | Class::NoTls
        | Class::ServerName
        | Class::Hello
        | Class::Certificate
        | Class::TargetNotTls
        | Class::Rate
        | Class::ClientLimit
        | Class::Limit
        | Class::Lookup
        | Class::Connect
        | Class::Upstream
        | Class::Resources
        | Class::Service => Remedy::default(),
    }
}

fn by_rules(policy: &Policy, target: &Target, now: Timestamp) -> Remedy {
    let (reason, advice) = match policy.decide(target, now) {
        Ok(permit) if permit.decision != Decision::WouldDeny => {
            return Remedy { allowed_now: true, ..Remedy::default() };
        }
        // Report mode permits it, but the same rule is missing.
        Ok(permit) => (permit.reason, None),
        Err(denial) => (Some(denial.reason), Some(denial.advice)),
    };
    let mut remedy = match reason.map(Reason::class) {
        Some(Class::Denied) => {
            Remedy::told("a `deny` rule matches it, and `deny` wins over every `allow`".to_owned())
        }
        Some(Class::Expired) => Remedy::told("renew `expires` of the rule, or remove that key".to_owned()),
        None
        | Some(
            Class::Connection
            | Class::Form
            | Class::Challenge
            | Class::Credentials
            | Class::Client
            | Class::NotListed
            | Class::Upload
            | Class::Address
            | Class::NoTls
            | Class::ServerName
            | Class::Hello
            | Class::Certificate
            | Class::TargetNotTls
            | Class::Rate
            | Class::ClientLimit
            | Class::Limit
            | Class::Lookup
            | Class::Connect
            | Class::Upstream
            | Class::Resources
            | Class::Service,
        ) => rule(policy, target, scheme_for(target)),
    };
    remedy.advice = advice.or(remedy.advice);
    remedy
}

fn scheme_for(target: &Target) -> Scheme {
    match target.method {
        Method::Http => Scheme::Http,
        Method::Connect if CLEAR_AT_FIRST.contains(&target.port.get()) => Scheme::Tcp,
        Method::Connect => Scheme::Https,
    }
}

/// The rule for only this host and port.
fn rule(policy: &Policy, target: &Target, scheme: Scheme) -> Remedy {
    let port = match scheme.default_port() {
        Some(port) if port == target.port => String::new(),
        _ => format!(":{}", target.port),
    };
    let text = format!("{scheme}://{}{port}", target.host);
    let mut warnings = doubts(&text);
    if scheme == Scheme::Tcp {
        warnings.push("tcp: the content is not inspected, whatever answers there".to_owned());
    }
    if scheme == Scheme::Http {
        warnings.push("http: the traffic can be read and changed on the way".to_owned());
    }
    if scheme == Scheme::Https && target.port != Port::HTTPS {
        warnings.push(format!(
            "https: the client must speak TLS from the first byte; if it does not, write tcp://{}:{}",
            target.host, target.port
        ));
    }
    let mut options = None;
    if let Host::Address(address) = target.host {
        warnings.push("an address does not show who answers there: a name is better".to_owned());
        if address::prohibited(address, policy.private()).is_some() {
            warnings.push("the address is not public, so the rule must open it with `private`".to_owned());
            let opened = RuleOptions { private: vec![IpNet::from(address)], ..RuleOptions::default() };
            options = Some(opened.to_yaml());
        }
    }
    Remedy { rule: Some(text), options, warnings, ..Remedy::default() }
}

/// What `check` would warn of.
fn doubts(text: &str) -> Vec<String> {
    let Ok(parsed) = RuleText::parse(text) else { return Vec::new() };
    let mut builder = PolicyBuilder::new("", ClientMatch::default(), Mode::Enforce, Vec::new());
    let file = builder.file("");
    let origin = Origin { file, line: 1, inline: true, text };
    if builder.allow(&parsed, Schemes::HTTPS, origin, super::OptionsId::default()).is_err() {
        return Vec::new();
    }
    let Ok(policy) = builder.build() else { return Vec::new() };
    // Any time will do: a rule without `expires` does not depend on it.
    let found = lint::lint(&Policies::new(vec![policy]), Timestamp::UNIX_EPOCH);
    found.into_iter().map(|lint| lint.text).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use crate::words::client::Client;

    fn policies(rules: &str) -> Policies {
        let text = format!("policies:\n  - name: p\n{rules}");
        config::load_str("egressd.yaml", &text, |_| Err(std::io::ErrorKind::NotFound.into()))
            .unwrap_or_else(|findings| panic!("{text}\n{findings:?}"))
            .config
            .policies
    }

    fn connect(authority: &str) -> Target {
        Target::connect(authority).expect(authority)
    }

    const RULES: &str =
        "    allow: [a.example, 'https://b.example:8443', {to: old.example, expires: 2020-01-01}]
    deny: [evil.example]
";

    #[test]
    fn the_line_lets_exactly_that_request_pass() {
        let http = |authority| Target::http(authority).expect(authority);
        let cases: &[(Target, &str)] = &[
            (connect("new.example:443"), "- https://new.example"),
            (connect("new.example:8443"), "- https://new.example:8443"),
            (connect("new.example:22"), "- tcp://new.example:22"),
            (connect("b.example:443"), "- https://b.example"),
            (http("new.example"), "- http://new.example"),
            (http("a.example:8080"), "- http://a.example:8080"),
            (connect("8.8.8.8:443"), "- https://8.8.8.8"),
            (connect("10.1.2.3:443"), "- {to: \"https://10.1.2.3\", private: [\"10.1.2.3/32\"]}"),
            (connect("[fd00::5]:443"), "- {to: \"https://[fd00::5]\", private: [\"fd00::5/128\"]}"),
        ];
        let now = Timestamp::now();
        let client = Client::direct("10.0.0.1:1".parse().expect("an address"));
        let before = policies(RULES);
        for (target, line) in cases {
            let denial = before.decide(target, &client, now).expect_err("not listed");
            let remedy = before.remedy(Some("p"), denial.reason, target, now);
            assert_eq!(remedy.line().as_deref(), Some(*line), "{target}");
            assert_eq!(remedy.advice, Some(denial.advice), "{target}");
            let after = policies(&format!("    allow:\n      {line}\n"));
            let permit = after.decide(target, &client, now).unwrap_or_else(|denial| panic!("{denial:?}"));
            if let Host::Address(address) = target.host {
                after.admit(&permit, address).unwrap_or_else(|denial| panic!("{denial}"));
            }
        }
    }

    #[test]
    fn where_no_line_is_the_answer_there_is_none() {
        let policies = policies(RULES);
        let now = Timestamp::now();
        let remedy = |reason, authority: &str| policies.remedy(Some("p"), reason, &connect(authority), now);
        for (reason, authority, advice) in [
            (Reason::HostDenied, "evil.example:443", "`evil.example` under `deny` matches"),
            (Reason::RuleExpired, "old.example:443", "expired at 2020-01-01"),
            (Reason::SniMismatch, "a.example:443", "must name the host"),
            (Reason::AddressProhibited, "a.example:443", "stderr shows the address"),
            (Reason::AddressProhibited, "169.254.169.254:443", "no rule can open 169.254.169.254"),
        ] {
            let remedy = remedy(reason, authority);
            assert_eq!((remedy.line(), remedy.allowed_now), (None, false), "{authority}");
            assert!(remedy.advice.as_ref().is_some_and(|text| text.contains(advice)), "{remedy:?}");
        }
        assert!(remedy(Reason::HostNotAllowed, "a.example:443").allowed_now, "fixed meanwhile");
        assert_eq!(remedy(Reason::DnsTimeout, "a.example:443"), Remedy::default());
        let gone = policies.remedy(Some("q"), Reason::HostNotAllowed, &connect("a.example:443"), now);
        assert_eq!(gone.advice.as_deref(), Some("there is no policy `q` any more"));
        let stranger = policies.remedy(None, Reason::ClientNotAllowed, &connect("a.example:443"), now);
        assert!(stranger.advice.is_some_and(|text| text.contains("clients.networks")));
    }

    #[test]
    fn what_a_rule_cannot_see_is_warned_of() {
        let policies = policies(RULES);
        let now = Timestamp::now();
        for (reason, authority, warning) in [
            (Reason::HostNotAllowed, "new.example:22", "the content is not inspected"),
            (Reason::HostNotAllowed, "new.example:8443", "write tcp://new.example:8443"),
            (Reason::HostNotAllowed, "8.8.8.8:443", "a name is better"),
            (Reason::HostNotAllowed, "10.1.2.3:443", "not public"),
            (Reason::NotTls, "a.example:443", "the content is not inspected"),
        ] {
            let remedy = policies.remedy(Some("p"), reason, &connect(authority), now);
            assert!(remedy.warnings.iter().any(|text| text.contains(warning)), "{authority}: {remedy:?}");
        }
        let plain = policies.remedy(Some("p"), Reason::HostNotAllowed, &connect("new.example:443"), now);
        assert_eq!(plain.warnings, Vec::<String>::new());
    }

    #[test]
    fn what_check_would_warn_of_is_warned_of() {
        assert!(doubts("*.amazonaws.com").iter().any(|text| text.contains("S3 buckets")));
        assert_eq!(doubts("https://git.example.com"), Vec::<String>::new());
    }

    #[test]
    fn report_mode_asks_for_the_same_line() {
        let policies = policies("    mode: report\n    allow: [a.example]\n");
        let remedy =
            policies.remedy(Some("p"), Reason::HostNotAllowed, &connect("new.example:443"), Timestamp::now());
        assert_eq!(remedy.line().as_deref(), Some("- https://new.example"));
    }
}
