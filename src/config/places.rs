//! Where in the files of policies the things are that warnings about rules speak of, and these warnings.
//!
//! Not here: what is warned of ([`crate::rules::lint`]).

use std::sync::Arc;

use jiff::Timestamp;

use super::finding::{Place, Position, Report};
use super::keys::List;
use super::requests::{EntryFile, entry_position};
use super::sets::{self, SetInUse};
use crate::rules::lint::{self, LintKind, Within};
use crate::rules::{OptionsId, Policies};

/// The places of what was read of the policies.
#[derive(Default)]
pub(super) struct Places<'f> {
    /// Of each rule in the files of policies, in the order of [`Policies::rules`]; of a rule of a set, the entry that names the set.
    pub(super) rules: Vec<Place>,
    /// Of each set.
    pub(super) sets: Vec<SetInUse>,
    /// Of the entries of each `requests`.
    pub(super) requests: Vec<Written<'f>>,
    /// Of each of `rules`, whether there is an error in its entry: then what is said of it may follow from that.
    pub(super) in_error: Vec<bool>,
    /// Lists of rules of which the same is true, by their names.
    pub(super) lists_in_error: Vec<Box<str>>,
    /// Of each policy in [`Policies::iter`], which one of those that are typed it is, and whether its `clients` have no error.
    pub(super) policies: Vec<(usize, bool)>,
}

/// The `requests` of a rule, of a set or of an allow file, as typed.
pub(super) struct Written<'f> {
    /// The policy, by its number in [`Policies::iter`].
    pub(super) policy: usize,
    pub(super) options: OptionsId,
    pub(super) list: &'f List<EntryFile>,
    /// The file that it is in.
    pub(super) file: Arc<str>,
}

impl Places<'_> {
    fn within(&self, within: &Within) -> Option<(&str, Position)> {
        let is_meant =
            |written: &&Written<'_>| written.policy == within.policy && written.options == within.options;
        let written = self.requests.iter().find(is_meant)?;
        Some((&written.file, entry_position(written.list, within.entry, within.place)?))
    }
}

/// What is told of a rule because of another one: neither may be in error.
const OF_TWO: [LintKind; 5] =
    [LintKind::NeverDecides, LintKind::AddsNothing, LintKind::Outlived, LintKind::Unseen, LintKind::Beside];

/// Warns of unwise rules and old sets. What may only follow from an error is not told: it is found when the error is gone.
pub(super) fn lints(policies: &Policies, places: &Places<'_>, now: Timestamp, report: &Report<'_>) {
    sets::tell_old(&places.sets, now, report);
    let any = places.in_error.contains(&true) || !places.lists_in_error.is_empty();
    for lint in lint::lint(policies, now) {
        let in_error = match lint.inline {
            Some(inline) => places.in_error.get(inline).copied().unwrap_or(false),
            None => places.lists_in_error.contains(&lint.file),
        };
        if in_error || (any && OF_TWO.contains(&lint.kind)) {
            continue;
        }
        let entry = lint.within.as_ref().and_then(|within| places.within(within));
        let inline = || {
            let place = places.rules.get(lint.inline?)?;
            Some((&*place.file, place.position))
        };
        let of_list = (&*lint.file, Position { line: lint.line, column: 1 });
        let (file, position) = entry.or_else(inline).unwrap_or(of_list);
        let report = report.of(file);
        match lint.kind.is_error() {
            true => report.error(position, lint.text),
            false => report.warning(position, lint.text),
        }
    }
}
