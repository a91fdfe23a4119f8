//! The rules of a policy as other code reads them: lint, diff, the status page, expiry metrics, the log.

use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;

use super::options::RuleOptions;
use super::pattern::HostPattern;
use super::policy::{File, Options, Policy};
use super::rule::{Ports, Schemes};
use super::store::{Rule, RuleId};

/// One rule of one policy. It borrows from the policy and is free to make.
#[derive(Clone, Copy, Debug)]
pub struct RuleView<'a> {
    policy: &'a Policy,
    id: RuleId,
    rule: &'a Rule,
}

impl<'a> RuleView<'a> {
    /// Its policy.
    pub fn policy(&self) -> &'a Policy {
        self.policy
    }

    /// Whether it is a `deny` rule.
    pub fn is_deny(&self) -> bool {
        self.rule.is_deny()
    }

    /// Whether it is in the configuration itself or in a set that it names, not in an allow file.
    pub fn is_inline(&self) -> bool {
        self.rule.is_inline()
    }

    /// As written.
    pub fn text(&self) -> &'a str {
        self.policy.store.text(self.id)
    }

    /// Its metric label: its name, else its text; for a line of an allow file without a name, the file's base name.
    pub fn label(&self) -> &'a str {
        match self.options_entry().and_then(|options| options.name.as_deref()) {
            Some(name) => name,
            None if self.is_inline() => self.text(),
            None => self.file_entry().map_or(self.text(), |file| &file.label),
        }
    }

    /// The file that contains it, by the name that the configuration gives.
    pub fn file(&self) -> &'a str {
        self.file_entry().map_or("", |file| &file.path)
    }

    /// Its line in the file, from 1.
    pub fn line(&self) -> u32 {
        self.rule.line
    }

    /// The canonical host as text; it is the same for equal hosts.
    pub fn canonical_host(&self) -> &'a str {
        self.policy.store.host(self.id)
    }

    /// The host, parsed again. It is never `None`, because the canonical text comes from a pattern that was parsed.
    pub fn host(&self) -> Option<HostPattern> {
        HostPattern::parse(self.canonical_host()).ok()
    }

    /// Its schemes, with the default if the rule has none.
    pub fn schemes(&self) -> Schemes {
        self.rule.schemes()
    }

    /// The ports as written. `None` means each scheme's own port for an `allow` rule, and any port for a `deny` rule.
    pub fn ports(&self) -> Option<Ports> {
        self.rule.ports()
    }

    /// Its options, or those of its file.
    pub fn options(&self) -> Option<&'a RuleOptions> {
        self.options_entry().map(|options| &options.given)
    }

    /// The time from which it no longer matches.
    pub fn expires(&self) -> Option<Timestamp> {
        self.policy.expires(self.rule)
    }

    fn options_entry(&self) -> Option<&'a Options> {
        self.policy.options_of(self.id)
    }

    fn file_entry(&self) -> Option<&'a File> {
        self.policy.files.get(usize::from(self.rule.file))
    }
}

/// A rule as it is named in log, metrics and replies.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MatchedRule {
    /// As written.
    pub text: Arc<str>,
    /// The metric label: its name, else its text; for a line of an allow file without a name, the file's base name.
    pub label: Arc<str>,
    /// Its file and line.
    pub source: RuleSource,
}

/// The file and line of a rule; shown as `file:line`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RuleSource {
    /// The name that the configuration gives. Shared with the policy, because every tunnel keeps one.
    pub file: Arc<str>,
    /// From 1.
    pub line: u32,
}

impl fmt::Display for RuleSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

impl Policy {
    /// Every rule, as written.
    pub fn rules(&self) -> impl Iterator<Item = RuleView<'_>> {
        self.store.ids().map(|id| self.view(id))
    }

    pub(super) fn view(&self, id: RuleId) -> RuleView<'_> {
        RuleView { policy: self, id, rule: self.store.rule(id) }
    }

    /// How log, metrics and replies name a rule.
    pub(super) fn matched(&self, id: RuleId) -> MatchedRule {
        let view = self.view(id);
        let text: Arc<str> = view.text().into();
        let label = match view.options_entry().and_then(|options| options.name.as_ref()) {
            Some(name) => Arc::clone(name),
            None if view.is_inline() => Arc::clone(&text),
            None => view.file_entry().map_or_else(|| Arc::clone(&text), |file| Arc::clone(&file.label)),
        };
        let file = view.file_entry().map_or_else(|| "".into(), |file| Arc::clone(&file.path));
        MatchedRule { text, label, source: RuleSource { file, line: view.line() } }
    }
}
