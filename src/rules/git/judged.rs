//! Which change of a push each entry refuses first, found out in steps before the push is judged.
//!
//! A push has up to 4,000 changes, and the entries of a rule up to 1,000 patterns of refs. To compare each with each takes longer than a
//! worker may be kept from its other connections. So it is done ahead, a part at a time, and the decision, which is not divided, looks
//! the result up. A rule that came meanwhile is not in it: its entries are compared then.

use std::collections::HashMap;
use std::sync::Arc;

use super::GitRule;
use crate::words::git::{Content, GitAsk, RefChange};

/// Comparisons of one step: less than a millisecond.
const STEP: usize = 10_000;

/// What was found out about the changes of one push.
#[derive(Clone, Default, Debug)]
pub struct Judged {
    /// By the place of each rule in memory.
    refused: HashMap<usize, Option<usize>>,
    /// As long as they are held, nothing else is at those places.
    rules: Vec<Arc<GitRule>>,
}

/// It says nothing that the push and the rules do not.
impl PartialEq for Judged {
    fn eq(&self, _: &Judged) -> bool {
        true
    }
}

impl Eq for Judged {}

impl Judged {
    /// The number of the first change that the rule refuses, from 0, or that it refuses none; `None`: it is not known.
    pub fn of(&self, rule: &Arc<GitRule>) -> Option<Option<usize>> {
        self.refused.get(&place(rule)).copied()
    }
}

/// The work under way.
#[derive(Debug)]
pub struct Judging {
    changes: Arc<[RefChange]>,
    /// Those that are left, the next one last.
    left: Vec<Arc<GitRule>>,
    /// Of the next one so many changes are done.
    done: usize,
    judged: Judged,
}

impl Judging {
    /// Nothing is done yet. `rules` are those of the entries that may let it through. `None`: it changes nothing.
    pub fn new<'r>(ask: &GitAsk, rules: impl Iterator<Item = &'r Arc<GitRule>>) -> Option<Self> {
        let Content::Changes(changes) = &ask.content else { return None };
        let mut left: Vec<_> = rules.filter(|rule| rule.may(&ask.request).is_ok()).cloned().collect();
        left.reverse();
        Some(Judging { changes: Arc::clone(changes), left, done: 0, judged: Judged::default() })
    }

    /// Whether it takes many steps.
    pub fn is_long(&self) -> bool {
        let comparisons: usize = self.left.iter().map(|rule| rule.comparisons()).sum();
        comparisons.saturating_mul(self.changes.len()) > 10 * STEP
    }

    /// Does a part of it. `true`: all is done.
    pub fn step(&mut self) -> bool {
        let mut room = STEP;
        while let Some(rule) = self.left.last() {
            let each = rule.comparisons();
            let some = (room / each).max(1);
            let changes = self.changes.iter().enumerate().skip(self.done).take(some);
            let refused = changes.clone().find(|(_, change)| rule.may_change(change).is_err());
            let until = refused.map_or(self.done.saturating_add(some), |(at, _)| at + 1);
            room = room.saturating_sub((until - self.done).saturating_mul(each));
            self.done = until;
            if refused.is_some() || self.done >= self.changes.len() {
                self.judged.refused.insert(place(rule), refused.map(|(at, _)| at));
                self.judged.rules.extend(self.left.pop());
                self.done = 0;
            }
            if room < each {
                break;
            }
        }
        self.left.is_empty()
    }

    /// What was found out.
    pub fn into_judged(self) -> Judged {
        self.judged
    }
}

fn place(rule: &Arc<GitRule>) -> usize {
    Arc::as_ptr(rule).addr()
}

impl GitRule {
    /// How many changes are compared in one step.
    pub(in crate::rules) fn changes_in_a_step(&self) -> usize {
        (STEP / self.comparisons()).max(1)
    }

    /// How many comparisons one change takes at most.
    fn comparisons(&self) -> usize {
        1 + self.refs.as_ref().map_or(0, |patterns| patterns.len())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::RefPattern;
    use super::*;
    use crate::words::git::{Asks, Change, GitRequest, Operation, RefName, Repository, Service};

    fn push() -> GitRequest {
        GitRequest {
            repository: Repository::new("/own", true).unwrap(),
            asks: Asks::Rpc(Service::ReceivePack),
        }
    }

    proptest! {
        /// Whatever the changes and the rules are.
        #[test]
        fn what_is_found_out_in_steps_is_what_the_rule_says(
            names in prop::collection::vec("refs/heads/[ab]{1,3}", 1..200),
            rules in prop::collection::vec(prop::collection::vec("refs/heads/[ab]{0,2}\\*?[ab]{1,2}", 1..120), 1..8),
        ) {
            let changes: Arc<[RefChange]> = names.iter()
                .map(|name| RefChange::made_up(Change::Update, &RefName::new(name.as_bytes()).unwrap()).unwrap())
                .collect();
            let rules: Vec<Arc<GitRule>> = rules.iter().map(|patterns| {
                let mut rule = GitRule::new(&[Operation::Push]);
                rule.refs = Some(patterns.iter().filter_map(|text| RefPattern::parse(text).ok()).collect());
                Arc::new(rule)
            }).collect();
            let ask = GitAsk { request: push(), content: Content::Changes(Arc::clone(&changes)) };
            let mut judging = Judging::new(&ask, rules.iter()).expect("it changes something");
            let mut steps = 0;
            while !judging.step() {
                steps += 1;
                prop_assert!(steps < 1_000);
            }
            let judged = judging.into_judged();
            for rule in &rules {
                let first = changes.iter().position(|change| rule.may_change(change).is_err());
                prop_assert_eq!(judged.of(rule), Some(first));
                prop_assert_eq!(rule.fits_as(&ask, first), rule.fits(&ask));
            }
            prop_assert_eq!(judged.of(&Arc::new(GitRule::new(&[Operation::Push]))), None);
        }
    }
}
