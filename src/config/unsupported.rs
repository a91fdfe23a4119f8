//! What parses and is validated but does not work yet. When a feature comes, its line here goes.

use super::file::{ConfigFile, Key};
use super::finding::{Place, Report};

/// Where a feature is used.
type Uses = fn(&ConfigFile) -> Vec<Place>;

/// Each with the name under which the refusal tells it.
const UNSUPPORTED: &[(&str, Uses)] = &[("`access_log.format` other than `json`", |file| {
    let format = value(&file.access_log).and_then(|log| log.format.as_ref());
    format
        .filter(|format| {
            format.value.as_ref().is_some_and(|text| &*text.0 == "squid" || text.0.contains('%'))
        })
        .map(|at| at.place)
        .into_iter()
        .collect()
})];

/// Refuses what does not work yet: a key that is silently without effect would be a hole.
pub(super) fn refuse(file: &ConfigFile, report: &Report<'_>) {
    for (name, uses) in UNSUPPORTED {
        for place in uses(file) {
            report.error(place, format!("{name} is not supported yet: take it out"));
        }
    }
}

fn value<T>(key: &Key<T>) -> Option<&T> {
    key.as_ref().and_then(|at| at.value.as_ref())
}
