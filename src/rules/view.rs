//! The rules of a policy as others see them: lint, diff, the status page, expiry metrics, the log.

use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;

use super::options::RuleOptions;
use super::pattern::HostPattern;
use super::policy::{File, Options, Policy};
use super::rule::{Ports, Schemes};
use super::store::{Rule, RuleId};

/// One rule of one policy. Borrows from the policy; making one costs nothing.
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

    /// Whether it stands under `deny`.
    pub fn is_deny(&self) -> bool {
        self.rule.is_deny()
    }

    /// Whether it stands in the configuration itself, not in an allow file.
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

    /// The file it stands in, as it was named.
    pub fn file(&self) -> &'a str {
        self.file_entry().map_or("", |file| &file.path)
    }

    /// Its line there, from 1.
    pub fn line(&self) -> u32 {
        self.rule.line
    }

    /// The canonical host as text, which is what equal hosts have in common.
    pub fn canonical_host(&self) -> &'a str {
        self.policy.store.host(self.id)
    }

    /// The host, parsed anew. `None` never happens: the canonical text is one that was parsed.
    pub fn host(&self) -> Option<HostPattern> {
        HostPattern::parse(self.canonical_host()).ok()
    }

    /// The schemes it is for, with what it left out filled in.
    pub fn schemes(&self) -> Schemes {
        self.rule.schemes()
    }

    /// As written; `None`: of an `allow` rule each scheme's own port, of a `deny` rule any.
    pub fn ports(&self) -> Option<Ports> {
        self.rule.ports()
    }

    /// What stands beside it, or beside its file.
    pub fn options(&self) -> Option<&'a RuleOptions> {
        self.options_entry().map(|options| &options.given)
    }

    /// From when on it no longer allows.
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

/// A rule as log, metrics and replies name it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MatchedRule {
    /// As written.
    pub text: Arc<str>,
    /// For metrics: its name, else its text; for a line of an allow file without a name, the file's base name.
    pub label: Arc<str>,
    /// Where it stands.
    pub source: RuleSource,
}

/// Where a rule stands; shown as `file:line`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RuleSource {
    /// As it was named. Shared with the policy: every tunnel keeps one.
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

    /// What log, metrics and replies say of a rule.
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
