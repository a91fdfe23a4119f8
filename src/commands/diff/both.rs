//! The policies of both configurations, and which of the one is which of the other: by name, or where only the name is another one.

use std::collections::HashSet;

use crate::rules::{ClientMatch, Policies, Policy};

/// So many policies without a counterpart are held against each other.
const COMPARED: usize = 500;

/// Both configurations.
pub(super) struct Both<'p> {
    pub(super) old: &'p Policies,
    pub(super) new: &'p Policies,
    /// Old and new names.
    renamed: Vec<(&'p str, &'p str)>,
}

impl<'p> Both<'p> {
    pub(super) fn new(old: &'p Policies, new: &'p Policies) -> Self {
        let has = |all: &Policies, policy: &Policy| all.iter().any(|one| one.name() == policy.name());
        let mut gone: Vec<&'p Policy> = old.iter().filter(|policy| !has(new, policy)).collect();
        let added: Vec<&'p Policy> = new.iter().filter(|policy| !has(old, policy)).collect();
        let mut renamed = Vec::new();
        if gone.len() <= COMPARED && added.len() <= COMPARED {
            for after in added {
                // The one that has the most in common with it; the first of several.
                let alike = gone.iter().enumerate().map(|(at, before)| (alike(before, after), at));
                let best = alike.max_by_key(|(alike, at)| (*alike, std::cmp::Reverse(*at)));
                if let Some((_, at)) = best.filter(|(alike, _)| alike.is_some()) {
                    renamed.push((&**gone.remove(at).name(), &**after.name()));
                }
            }
        }
        Both { old, new, renamed }
    }

    /// What a policy of the old configuration has become.
    pub(super) fn now(&self, policy: &Policy) -> Option<&'p Policy> {
        let renamed = self.renamed.iter().find(|(before, _)| *before == &**policy.name());
        let name = renamed.map_or(&**policy.name(), |(_, after)| *after);
        self.new.iter().find(|now| **now.name() == *name)
    }

    /// What a policy of the new configuration was.
    pub(super) fn before(&self, policy: &Policy) -> Option<&'p Policy> {
        let renamed = self.renamed.iter().find(|(_, after)| *after == &**policy.name());
        let name = renamed.map_or(&**policy.name(), |(before, _)| *before);
        self.old.iter().find(|before| **before.name() == *name)
    }
}

/// Whether two policies are for the same clients and have rules in common, or none at all: then how many. What else differs is told as
/// an edit of the policy.
fn alike(before: &Policy, after: &Policy) -> Option<usize> {
    // Each field by name: a new one must be compared.
    let ClientMatch { networks: _, files: _, identities, vpc_endpoints, listeners } = before.clients();
    let same_clients = before.addresses().covers(after.addresses())
        && after.addresses().covers(before.addresses())
        && *identities == after.clients().identities
        && *vpc_endpoints == after.clients().vpc_endpoints
        && *listeners == after.clients().listeners;
    if !same_clients || before.mode() != after.mode() {
        return None;
    }
    let hosts = |policy: &'_ Policy| -> HashSet<(bool, String)> {
        policy.rules().map(|rule| (rule.is_deny(), rule.canonical_host().to_owned())).collect()
    };
    let (before, after) = (hosts(before), hosts(after));
    let common = before.intersection(&after).count();
    // With less in common it is another policy, which is told whole.
    (common * 2 >= before.len().max(after.len())).then_some(common)
}
