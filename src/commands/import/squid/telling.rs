//! What is told of the lines of `http_access` and `ssl_bump`: what fails closed, what decides nothing, and what stands in the way of
//! all that follows it.

use std::collections::BTreeSet;

use super::access::{Access, AccessRule};
use super::acl::{AclTest, Literal};
use super::truth::Truth;
use crate::commands::import::notes::{NoteKind, Notes};
use crate::words::small_sort::SmallCollect as _;

/// At most so many hosts are named that a line denies now.
const NAMED: usize = 6;
/// So many are kept to be counted.
const COUNTED: usize = 1_000;

fn denied_now(hosts: &BTreeSet<String>) -> String {
    let named: Vec<String> = hosts.iter().take(NAMED).map(|host| format!("`{host}`")).collect();
    let more = match hosts.len().saturating_sub(NAMED) {
        0 => String::new(),
        _ if hosts.len() >= COUNTED => " and many more".to_owned(),
        more => format!(" and {more} more"),
    };
    format!("; listed, and denied by that now: {}{more}", named.join(", "))
}

impl<'a> Access<'a> {
    /// Writes down that a line denies a listed host, and may not have done so in Squid.
    pub(super) fn denies_host(&self, number: usize, host: String) {
        let mut hosts = self.denied_hosts.borrow_mut();
        let hosts = hosts.entry(number).or_default();
        if hosts.len() < COUNTED {
            hosts.insert(host);
        }
    }

    /// Whether a list made a verdict stricter.
    fn is_doubted(&self, key: &str) -> bool {
        let (doubts, bump) = (self.doubts.borrow(), self.bump_doubts.borrow());
        let named = format!("`{key}`: ");
        let is = |why: &str| why.to_ascii_lowercase().contains(&named);
        doubts.iter().chain(bump.iter()).any(|(_, why)| is(why))
    }

    /// Tells what failed closed.
    pub(super) fn tell(&self, notes: &mut Notes) {
        for (key, acl) in self.used() {
            let doubted = self.is_doubted(key);
            for (place, kind, text) in acl.notes.iter().chain(acl.doubt_notes.iter().filter(|_| doubted)) {
                // What becomes of such a line of a file is told with the file.
                if *kind == NoteKind::Lost && place.file != acl.place.file && notes.tell_of(place) {
                    continue;
                }
                notes.tell(place, *kind, text.clone());
            }
        }
        for (number, why) in self.bump_doubts.borrow().iter() {
            let Some(rule) = self.bump.rules.get(*number) else { continue };
            let text =
                format!("{} lets less through than it did, because it fails closed: {why}", rule.shown);
            notes.tell(&rule.place, NoteKind::Stricter, text);
        }
        let hosts = self.denied_hosts.borrow();
        let mut named: BTreeSet<usize> = BTreeSet::new();
        for (number, why) in self.doubts.borrow().iter() {
            let Some(rule) = self.rules.get(*number) else { continue };
            let does = if rule.allow { "allows less" } else { "denies more" };
            let now = match hosts.get(number).filter(|_| named.insert(*number)) {
                Some(hosts) => denied_now(hosts),
                None => String::new(),
            };
            let text = format!("{} {does} than it did, because it fails closed: {why}{now}", rule.shown);
            notes.tell(&rule.place, NoteKind::Stricter, text);
        }
        self.routes.tell(notes);
    }

    /// Tells of each line that decides nothing, of which nothing is told so far: none is lost without a word.
    pub(super) fn tell_idle(&self, notes: &mut Notes) {
        let deciding = self.deciding.borrow();
        for (number, rule) in self.rules.iter().enumerate() {
            // What no line allows is denied: the last line needs no other, if it is known what it denies.
            let is_known = |literal: &Literal| {
                let asks = |test: &AclTest| self.unasked && matches!(test, AclTest::User { .. });
                self.acls.get(&literal.acl).is_some_and(|acl| acl.why.is_empty() && !asks(&acl.test))
            };
            let last = !rule.allow && number + 1 == self.rules.len() && rule.literals.iter().all(is_known);
            if last || deciding.contains(&number) || notes.tell_of(&rule.place) {
                continue;
            }
            let manages = |literal: &Literal| !literal.negated && literal.acl == "manager";
            let text = match self.unknown.borrow().get(&number) {
                Some(why) => format!(
                    "{} is not carried over: {why}; no other line's verdict is changed by that",
                    rule.shown
                ),
                None if rule.literals.iter().any(manages) => {
                    format!("{} decides nothing: egressd has no cache manager to ask for", rule.shown)
                }
                None => format!(
                    "{} {} nothing here: no request fits it, or the lines before it decide on each that does",
                    rule.shown,
                    if rule.allow { "allows" } else { "denies" }
                ),
            };
            notes.tell(&rule.place, NoteKind::Lost, text);
        }
    }

    /// The first line that denies what Squid may allow.
    pub(super) fn first_doubted(&self) -> Option<&AccessRule> {
        let doubts = self.doubts.borrow();
        let denies = |number: &usize| self.rules.get(*number).filter(|rule| !rule.allow);
        doubts.iter().find_map(|(number, _)| denies(number))
    }

    /// The lines that cannot be evaluated, whatever the host is, and that hold back what later lines allow.
    pub(super) fn blockers(&self) -> Vec<&AccessRule> {
        let doubted: BTreeSet<usize> = self.doubts.borrow().iter().map(|(number, _)| *number).small_collect();
        let rules = self.rules.iter().enumerate().filter(|(number, _)| doubted.contains(number));
        rules.map(|(_, rule)| rule).filter(|rule| self.may_block(rule)).collect()
    }

    /// These rules without any that cannot be evaluated, whatever the host is.
    pub(super) fn without_blockers(&self) -> Access<'a> {
        let rules = self.rules.iter().filter(|rule| !self.may_block(rule)).cloned().collect();
        Access {
            whole: self.whole.clone(),
            acls: self.acls,
            doors: self.doors.clone(),
            routes: self.routes.clone(),
            rules,
            default: self.default,
            bump: self.bump.clone(),
            connections: None,
            doubts: Default::default(),
            bump_doubts: Default::default(),
            backwards: Default::default(),
            unasked: self.unasked,
            exact_users: self.exact_users,
            deciding: Default::default(),
            unknown: Default::default(),
            bump_deciding: Default::default(),
            denied_hosts: Default::default(),
        }
    }

    fn may_block(&self, rule: &AccessRule) -> bool {
        let lists = self.literals_of(rule);
        let tests = || lists.iter().map(|(_, key)| self.acls.get(*key));
        let asks = self.unasked && tests().flatten().any(|acl| matches!(acl.test, AclTest::User { .. }));
        if rule.allow && !asks {
            return false;
        }
        let of_hosts =
            |test: &AclTest| matches!(test, AclTest::Host(_) | AclTest::Url(_) | AclTest::Destination { .. });
        let unknown = tests().any(|acl| {
            acl.is_none_or(|acl| {
                acl.partly
                    || matches!(acl.test, AclTest::Always(Truth::Maybe))
                    || matches!(
                        acl.test,
                        AclTest::Way { connect: Truth::Maybe, .. } | AclTest::Way { http: Truth::Maybe, .. }
                    )
            })
        });
        (asks || unknown || rule.doubtful) && !tests().flatten().any(|acl| of_hosts(&acl.test))
    }
}
