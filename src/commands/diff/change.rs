//! One change: what it is, and whether it lets more out or in.

use std::fmt;

/// What kind of change it is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Effect {
    /// Only the new configuration has it.
    Added,
    /// Only the old one has it.
    Gone,
    /// It matches more than before, or restricts less.
    Widened,
    /// It matches less than before, or restricts more.
    Narrowed,
    /// Both, or it is unclear which.
    Changed,
    /// Only a note for people changed.
    Noted,
}

impl Effect {
    /// Every effect.
    pub const ALL: [Effect; 6] =
        [Effect::Added, Effect::Gone, Effect::Widened, Effect::Narrowed, Effect::Changed, Effect::Noted];

    /// The word that is printed.
    pub fn as_str(self) -> &'static str {
        match self {
            Effect::Added => "added",
            Effect::Gone => "gone",
            Effect::Widened => "widened",
            Effect::Narrowed => "narrowed",
            Effect::Changed => "changed",
            Effect::Noted => "noted",
        }
    }

    fn with(self, other: Effect) -> Effect {
        match (self, other) {
            (one, other) if one == other => one,
            (Effect::Noted, other) | (other, Effect::Noted) => other,
            _ => Effect::Changed,
        }
    }
}

/// Whether more gets out, or more clients get in, because of a change.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub enum Opens {
    /// Nothing that was refused before.
    #[default]
    No,
    /// It depends on what `diff` does not weigh: on the other rules, on requests, on what a file or a server says.
    Perhaps,
    /// More.
    Yes,
}

impl Opens {
    /// The mark of the line, with what separates it from the rest.
    fn mark(self) -> &'static str {
        match self {
            Opens::No => "",
            Opens::Perhaps => "wider?: ",
            Opens::Yes => "wider: ",
        }
    }
}

/// What a change is a change of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Part {
    /// A policy or a rule.
    Rules,
    /// Another key of the configuration.
    Settings,
}

/// One change. Shown as one line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Change {
    /// What it is a change of.
    pub part: Part,
    /// The policy's name, or the key.
    pub of: Box<str>,
    /// What kind of change.
    pub effect: Effect,
    /// Whether it lets more out or in.
    pub opens: Opens,
    /// The policy, or the rule with its place; empty for a key.
    pub what: String,
    /// What changed in it, as `key old → new`.
    pub details: Vec<String>,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = match self.effect {
            Effect::Added => '+',
            Effect::Gone => '-',
            _ => '~',
        };
        write!(f, "{sign} {}{}: {}", self.opens.mark(), self.of, self.effect.as_str())?;
        if !self.what.is_empty() {
            write!(f, ": {}", self.what)?;
        }
        if !self.details.is_empty() {
            write!(f, ": {}", self.details.join("; "))?;
        }
        Ok(())
    }
}

/// What has changed in one policy, rule or key.
#[derive(Default)]
pub(super) struct Details {
    pub(super) effect: Option<Effect>,
    pub(super) opens: Opens,
    pub(super) lines: Vec<String>,
}

impl Details {
    pub(super) fn add(&mut self, effect: Effect, opens: Opens, line: String) {
        self.effect = Some(self.effect.map_or(effect, |before| before.with(effect)));
        self.opens = self.opens.max(opens);
        self.lines.push(line);
    }

    /// The change, if there is one.
    pub(super) fn change(self, part: Part, of: &str, what: String) -> Option<Change> {
        let effect = self.effect?;
        Some(Change { part, of: of.into(), effect, opens: self.opens, what, details: self.lines })
    }
}
