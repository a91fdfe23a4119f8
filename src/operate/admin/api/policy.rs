//! `/api/policy`: the policies in force and their rules.

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Map, Value};

use super::query::{Query, cut};
use crate::rules::{OptionValue, Policy, RuleOptions, RuleView};
use crate::state::shared::Shared;

#[derive(Serialize)]
pub(super) struct Policies {
    sha256: String,
    since: Timestamp,
    policies: Vec<Shown>,
    /// How many rules there are, in all policies.
    total: usize,
    /// How many of them match the filter.
    matching: usize,
    rules: Vec<Rule>,
}

#[derive(Serialize)]
struct Shown {
    name: String,
    mode: &'static str,
    networks: Vec<String>,
    networks_files: Vec<NetworksFile>,
    identities: Vec<String>,
    vpc_endpoints: Vec<String>,
    private: Vec<String>,
    rules: usize,
}

/// A file of networks; it may list a million, so they are only counted here.
#[derive(Serialize)]
struct NetworksFile {
    file: String,
    networks: usize,
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
    #[serde(skip)]
    pub(super) expires: Option<Timestamp>,
    /// Each option under its key.
    #[serde(flatten)]
    options: Map<String, Value>,
}

pub(super) fn of(query: &Query, shared: &Shared) -> Policies {
    let in_force = shared.current.in_force();
    let policies = &in_force.config.policies;
    let (mut total, mut matching, mut rules) = (0, 0, Vec::new());
    for rule in policies.rules() {
        total += 1;
        let texts = [Some(rule.text()), Some(&**rule.policy().name()), Some(rule.file())];
        let mut options = rule.options().into_iter().flat_map(RuleOptions::entries);
        let noted = |value| matches!(value, OptionValue::Note(note) if query.takes(&[note]));
        if query.takes(&texts) || options.any(|(_, value)| noted(value)) {
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
        networks: clients.inline_networks().iter().map(ToString::to_string).collect(),
        networks_files: clients
            .files
            .iter()
            .map(|file| NetworksFile { file: cut(&file.path), networks: file.networks })
            .collect(),
        identities: texts(&clients.identities),
        vpc_endpoints: texts(&clients.vpc_endpoints),
        private: policy.private().iter().map(ToString::to_string).collect(),
        rules: policy.rule_count(),
    }
}

impl Rule {
    pub(super) fn of(rule: RuleView<'_>) -> Self {
        let none = RuleOptions::default();
        let options = rule.options().unwrap_or(&none).entries().map(|(key, value)| {
            let told = match value.to_json() {
                Value::String(text) => Value::String(cut(&text)),
                told => told,
            };
            (key.to_owned(), told)
        });
        Rule {
            policy: rule.policy().name().to_string(),
            list: if rule.is_deny() { "deny" } else { "allow" },
            rule: cut(rule.text()),
            label: cut(rule.label()),
            source: format!("{}:{}", rule.file(), rule.line()),
            expires: rule.expires(),
            options: options.collect(),
        }
    }
}
