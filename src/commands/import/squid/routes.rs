//! Which way Squid could send a request: directly, to a parent, or nowhere (`always_direct`, `never_direct`, `cache_peer_access`).
//!
//! What went nowhere is denied. Not here: which way egressd takes ([`super::settings`]).

use std::cell::Cell;

use super::lexer::Line;
use super::list::Literal;
use super::truth::Truth;
use crate::commands::import::notes::{NoteKind, Notes, SourceLine};

/// Why a request is denied that may have gone nowhere.
pub(super) const NOWHERE: &str = "it is not known whether `never_direct` keeps such requests from going directly where no parent may take them (`cache_peer_access`)";

/// A line that allows or denies a way.
#[derive(Clone, Debug)]
struct RouteRule {
    allow: bool,
    literals: Vec<Literal>,
    doubtful: bool,
}

/// The ways.
#[derive(Clone, Default, Debug)]
pub(super) struct Routes {
    always: Vec<RouteRule>,
    never: Vec<RouteRule>,
    /// Of each parent who may use it; without a line, everybody.
    parents: Vec<Vec<RouteRule>>,
    /// The first line that keeps requests from going directly.
    place: Option<SourceLine>,
    /// Whether egressd has a parent.
    pub(super) has_parent: bool,
    /// Something went nowhere.
    stranded: Cell<bool>,
}

impl Routes {
    /// Reads the lines.
    pub(super) fn read(lines: &[Line]) -> Self {
        let rules = |name: &str, from: usize, of: &dyn Fn(&Line) -> bool| {
            lines
                .iter()
                .filter(|line| line.name == name && of(line))
                .filter_map(|line| one(line, from))
                .collect()
        };
        let all = |_: &Line| true;
        let parents = lines.iter().filter(|line| is_parent(line)).map(|parent| {
            let name = name(parent);
            let mut access: Vec<RouteRule> =
                rules("cache_peer_access", 1, &|line| line.word(0) == Some(name));
            if lines.iter().any(|line| line.name == "cache_peer_domain" && line.word(0) == Some(name)) {
                // Whom it is for is another question, which newer versions do not ask.
                access.insert(0, RouteRule { allow: false, literals: Vec::new(), doubtful: true });
            }
            access
        });
        Routes {
            always: rules("always_direct", 0, &all),
            never: rules("never_direct", 0, &all),
            parents: parents.collect(),
            place: lines.iter().find(|line| line.name == "never_direct").map(|line| line.place.clone()),
            has_parent: false,
            stranded: Cell::new(false),
        }
    }
}

fn one(line: &Line, from: usize) -> Option<RouteRule> {
    let literals = Literal::list(line, from + 1);
    let allow = match line.bare(from) {
        Some("allow") => true,
        Some("deny") => false,
        _ => return None,
    };
    (!literals.is_empty()).then_some(RouteRule { allow, literals, doubtful: line.doubtful })
}

/// Whether a line names a proxy that everything may be sent to.
pub(super) fn is_parent(line: &Line) -> bool {
    line.name == "cache_peer"
        && line.word(1) == Some("parent")
        && !line.from(4).any(|option| option == "originserver")
}

/// By what `cache_peer_access` calls it.
fn name(parent: &Line) -> &str {
    let given = parent.from(4).filter_map(|option| option.strip_prefix("name=")).last();
    given.or(parent.word(0)).unwrap_or_default()
}

impl Routes {
    /// The lists that decide whether a request has a way.
    pub(super) fn literals(&self) -> impl Iterator<Item = &Literal> {
        let rules = self.never.iter().chain(&self.always).chain(self.parents.iter().flatten());
        rules.filter(|_| !self.never.is_empty()).flat_map(|rule| &rule.literals)
    }

    /// Whether Squid had no way for a request, or egressd has none that Squid would have taken. `truth`: whether lists are true of it;
    /// with what is under an `if`.
    pub(super) fn is_stranded(&self, truth: impl Fn(&[Literal], bool) -> Truth) -> Truth {
        if self.never.is_empty() {
            return Truth::No;
        }
        let parents = || self.parents.iter().map(|rules| may(rules, &truth, Truth::Yes)).max();
        let parent = if self.has_parent { parents().unwrap_or(Truth::No) } else { Truth::No };
        let always = may(&self.always, &truth, Truth::No);
        let is = may(&self.never, &truth, Truth::No).min(!always).min(!parent);
        if is == Truth::Yes {
            self.stranded.set(true);
        }
        is
    }

    /// Tells that something is denied because it went nowhere.
    pub(super) fn tell(&self, notes: &mut Notes) {
        let Some(place) = self.place.as_ref().filter(|_| self.stranded.get()) else { return };
        let why = if self.has_parent { "no parent may take" } else { "there is no parent for" };
        let text = format!(
            "what is kept from going directly here, and what {why}, went nowhere, and is denied, whatever `http_access` says of it"
        );
        notes.tell(place, NoteKind::Differs, text);
    }
}

/// Whether the lines allow it; the first that fits decides. `without`: what holds where there is no line.
fn may(rules: &[RouteRule], truth: &impl Fn(&[Literal], bool) -> Truth, without: Truth) -> Truth {
    let Some(last) = rules.last() else { return without };
    let mut sofar: Option<Truth> = None;
    let mut add = |allow: bool| {
        let is = Truth::from(allow);
        let sum = sofar.map_or(is, |other| if other == is { is } else { Truth::Maybe });
        *sofar.insert(sum)
    };
    for rule in rules {
        match truth(&rule.literals, rule.doubtful) {
            Truth::No => {}
            Truth::Maybe => {
                add(rule.allow);
            }
            Truth::Yes => return add(rule.allow),
        }
    }
    add(!last.allow)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_that_fits_decides_and_the_last_says_what_holds_without_one() {
        let rule = |text: &str| RouteRule {
            allow: text.starts_with('+'),
            literals: vec![Literal::read(&text[1..])],
            doubtful: false,
        };
        // Lists are called after what they are.
        let truth = |literals: &[Literal], _: bool| match literals[0].acl.as_str() {
            "yes" => Truth::Yes,
            "no" => Truth::No,
            _ => Truth::Maybe,
        };
        let rows: [(&[&str], Truth); 9] = [
            (&[], Truth::No),
            (&["+yes"], Truth::Yes),
            (&["+no"], Truth::No),
            (&["-no"], Truth::Yes),
            (&["-yes", "+yes"], Truth::No),
            (&["+maybe", "-yes"], Truth::Maybe),
            (&["+maybe", "+yes"], Truth::Yes),
            (&["-maybe", "+no"], Truth::No),
            (&["+maybe"], Truth::Maybe),
        ];
        for (lines, want) in rows {
            let rules: Vec<RouteRule> = lines.iter().map(|line| rule(line)).collect();
            assert_eq!(may(&rules, &truth, Truth::No), want, "{lines:?}");
        }
        let routes = |never: &str, parents: &[&str], has_parent| Routes {
            never: vec![rule(never)],
            parents: parents.iter().map(|line| vec![rule(line)]).collect(),
            has_parent,
            ..Routes::default()
        };
        assert_eq!(routes("+yes", &[], false).is_stranded(truth), Truth::Yes);
        assert_eq!(routes("+yes", &["+yes"], true).is_stranded(truth), Truth::No);
        assert_eq!(routes("+yes", &["+yes"], false).is_stranded(truth), Truth::Yes);
        assert_eq!(routes("+yes", &["-yes", "+maybe"], true).is_stranded(truth), Truth::Maybe);
        assert_eq!(routes("+no", &["-yes"], true).is_stranded(truth), Truth::No);
    }
}
