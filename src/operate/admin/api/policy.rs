//! `/api/policy`: the policies in force and their rules, with how often each was used, and when last.

use std::collections::HashMap;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Map, Value};

use super::query::{Query, cut};
use crate::rules::{OptionValue, Policy, RuleOptions, RuleView};
use crate::state::shared::Shared;
use crate::telemetry::metrics::RuleUse;
use crate::words::small_sort::SmallCollect as _;

#[derive(Serialize)]
pub(super) struct Policies {
    sha256: String,
    since: Timestamp,
    now: Timestamp,
    /// When the program started: uses before are not known.
    started: Timestamp,
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
    /// `enforce`, or `report`, which lets out every host.
    mode: &'static str,
    networks: Vec<String>,
    networks_files: Vec<NetworksFile>,
    identities: Vec<String>,
    vpc_endpoints: Vec<String>,
    /// Names of listeners; none: any.
    listeners: Vec<String>,
    private: Vec<String>,
    addresses_by_sni: bool,
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
    /// Requests that it let through, or denied if it is a `deny` rule, those inside tunnels included. Rules with the same
    /// label are counted together.
    hits: u64,
    /// When it was last used; none if not since the start.
    last_used: Option<Timestamp>,
    #[serde(skip)]
    pub(super) expires: Option<Timestamp>,
    /// Each option under its key.
    #[serde(flatten)]
    options: Map<String, Value>,
}

/// By policy and label.
type Uses<'a> = HashMap<(&'a str, &'a str), &'a RuleUse>;

pub(super) fn of(query: &Query, shared: &Shared) -> Policies {
    let in_force = shared.current.in_force();
    let policies = &in_force.config.policies;
    let now = Timestamp::now();
    let used = shared.metrics.rules_used();
    let used: Uses<'_> = used.iter().map(|of| ((&*of.policy, &*of.rule), of)).collect();
    let (mut total, mut matching, mut rules) = (0, 0, Vec::new());
    for rule in policies.rules() {
        total += 1;
        let (hits, last_used) = uses(&used, rule);
        let is_unused = |days| last_used.is_none_or(|last| now.duration_since(last) > days);
        if !query.unused.is_none_or(is_unused) {
            continue;
        }
        let texts = [Some(rule.text()), Some(&**rule.policy().name()), Some(rule.file())];
        let mut options = rule.options().into_iter().flat_map(RuleOptions::entries);
        let noted = |value| matches!(value, OptionValue::Note(note) if query.takes(&[note]));
        if query.takes(&texts) || options.any(|(_, value)| noted(value)) {
            matching += 1;
            if rules.len() < query.limit {
                rules.push(Rule { hits, last_used, ..Rule::of(rule) });
            }
        }
    }
    Policies {
        sha256: in_force.config.hash.to_string(),
        since: in_force.since,
        now,
        started: shared.started,
        policies: policies.iter().map(shown).collect(),
        total,
        matching,
        rules,
    }
}

fn uses(used: &Uses<'_>, rule: RuleView<'_>) -> (u64, Option<Timestamp>) {
    let found = used.get(&(&**rule.policy().name(), rule.label()));
    found.map_or((0, None), |of| (of.requests.saturating_add(of.inside), of.last_used))
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
        listeners: texts(&clients.listeners),
        private: policy.private().iter().map(ToString::to_string).collect(),
        addresses_by_sni: policy.addresses_by_sni(),
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
            hits: 0,
            last_used: None,
            expires: rule.expires(),
            options: options.small_collect(),
        }
    }
}
