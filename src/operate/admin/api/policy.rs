//! `/api/policy`: the policies in force and their rules.

use jiff::Timestamp;
use serde::Serialize;

use super::{Query, cut};
use crate::rules::{Policy, RuleView};
use crate::state::shared::Shared;

#[derive(Serialize)]
pub(super) struct Policies {
    sha256: String,
    since: Timestamp,
    policies: Vec<Shown>,
    /// Rules there are, of all policies.
    total: usize,
    /// Of these, those that the filter takes.
    matching: usize,
    rules: Vec<Rule>,
}

#[derive(Serialize)]
struct Shown {
    name: String,
    mode: &'static str,
    networks: Vec<String>,
    identities: Vec<String>,
    vpc_endpoints: Vec<String>,
    private: Vec<String>,
    rules: usize,
}

#[derive(Serialize)]
pub(super) struct Rule {
    policy: String,
    /// `allow` or `deny`.
    list: &'static str,
    rule: String,
    /// Its label in the metrics.
    label: String,
    source: String,
    name: Option<String>,
    description: Option<String>,
    owner: Option<String>,
    ticket: Option<String>,
    pub(super) expires: Option<Timestamp>,
    private: Vec<String>,
    upload_limit: Option<u64>,
    upload_budget: Option<String>,
    verify_certificate: bool,
}

pub(super) fn of(query: &Query, shared: &Shared) -> Policies {
    let in_force = shared.current.in_force();
    let policies = &in_force.config.policies;
    let (mut total, mut matching, mut rules) = (0, 0, Vec::new());
    for rule in policies.rules() {
        total += 1;
        let texts = [
            Some(rule.text()),
            Some(&**rule.policy().name()),
            Some(rule.file()),
            rule.name(),
            rule.owner(),
            rule.ticket(),
            rule.description(),
        ];
        if query.takes(&texts) {
            matching += 1;
            if rules.len() < query.limit {
                rules.push(Rule::of(rule));
            }
        }
    }
    Policies {
        sha256: in_force.config.hash.to_string(),
        since: in_force.since,
        policies: policies.iter().map(shown).collect(),
        total,
        matching,
        rules,
    }
}

fn shown(policy: &Policy) -> Shown {
    let clients = policy.clients();
    let texts = |texts: &[Box<str>]| texts.iter().map(|text| cut(text)).collect();
    Shown {
        name: policy.name().to_string(),
        mode: policy.mode().as_str(),
        networks: clients.networks.iter().map(ToString::to_string).collect(),
        identities: texts(&clients.identities),
        vpc_endpoints: texts(&clients.vpc_endpoints),
        private: policy.private().iter().map(ToString::to_string).collect(),
        rules: policy.rule_count(),
    }
}

impl Rule {
    pub(super) fn of(rule: RuleView<'_>) -> Self {
        let options = rule.options();
        let private = options.map(|options| options.private.iter().map(ToString::to_string).collect());
        Rule {
            policy: rule.policy().name().to_string(),
            list: if rule.is_deny() { "deny" } else { "allow" },
            rule: cut(rule.text()),
            label: cut(rule.label()),
            source: format!("{}:{}", rule.file(), rule.line()),
            name: rule.name().map(cut),
            description: rule.description().map(cut),
            owner: rule.owner().map(cut),
            ticket: rule.ticket().map(cut),
            expires: rule.expires(),
            private: private.unwrap_or_default(),
            upload_limit: options.and_then(|options| options.upload_limit),
            upload_budget: options.and_then(|options| options.upload_budget).map(|budget| budget.to_string()),
            verify_certificate: options.is_some_and(|options| options.verify_certificate),
        }
    }
}
