//! An entry of `allow` that names a set: which version, and with which parameters.

use jiff::Timestamp;

use super::super::finding::{Place, Position, Report, nearest};
use super::super::keys::{Key, required, value};
use super::super::options::FullSetFile;
use super::shipped::{Parameter, RuleSet, find, names, versions};
use crate::words::quote::quoted;

/// After this, in seconds, the hosts of a service have probably changed: a year.
const OLD: i64 = 365 * 86_400;

/// A set that a policy uses.
#[derive(Debug)]
pub(in super::super) struct SetInUse {
    /// Where its entry is.
    pub(in super::super) place: Place,
    pub(in super::super) set: RuleSet,
}

/// The set that an entry names, and its rules with their lines and the entry's parameters; None if anything is wrong, which is
/// reported. The entry begins at `around`.
pub(in super::super) fn named(
    entry: &FullSetFile,
    around: Position,
    report: &Report<'_>,
) -> Option<(RuleSet, Vec<(u32, String)>)> {
    let at = required(report, &entry.set, around, "set", "set: aws-codecommit")?;
    let name = &*at.value.as_ref()?.0;
    let known = versions(name);
    let Some(newest) = known.last() else {
        let help = match nearest(name, &names()) {
            Some(meant) => format!("did you mean {meant}?"),
            None => "`egressd sets` lists those that are shipped".to_owned(),
        };
        report.error(at.position, format!("there is no rule set {}; {help}", quoted(name)));
        return None;
    };
    let set = match &entry.version {
        None if report.is_misspelled(around, "version") => None,
        None => {
            let text = format!(
                "`version` is missing: write `version: {newest}`, the newest of the set {}. An entry names its version so \
                 that an upgrade of egressd opens nothing",
                quoted(name)
            );
            report.error(around, text);
            None
        }
        Some(at) => {
            let version = &*at.value.as_ref()?.0;
            let set = find(name, version);
            if set.is_none() {
                let text = format!(
                    "the set {} has no version {}: write {}",
                    quoted(name),
                    quoted(version),
                    known.join(" or ")
                );
                report.error(at.position, text);
            }
            set
        }
    };
    let set = set?;
    let values = parameters(&set, entry, around, report)?;
    let rules = set.rules.iter().map(|rule| {
        let text = values.iter().fold(rule.rule.to_owned(), |text, (parameter, value)| {
            text.replace(&format!("{{{}}}", parameter.key()), value)
        });
        (rule.line, text)
    });
    let rules = rules.collect();
    Some((set, rules))
}

/// The values of the parameters, which are of a grammar without dots and wildcards: they choose a host and widen nothing.
fn parameters(
    set: &RuleSet,
    entry: &FullSetFile,
    around: Position,
    report: &Report<'_>,
) -> Option<Vec<(Parameter, String)>> {
    let mut values = Vec::new();
    let mut complete = true;
    for parameter in Parameter::ALL {
        let (written, value) = match parameter {
            Parameter::Region => {
                (written(&entry.region), value(&entry.region).map(|region| region.0.to_string()))
            }
            Parameter::Account => {
                (written(&entry.account), value(&entry.account).map(|account| account.0.as_str().to_owned()))
            }
        };
        let (key, takes) = (parameter.key(), set.parameters.contains(&parameter));
        match (written, value) {
            (None, _) if takes => {
                complete = false;
                if !report.is_misspelled(around, key) {
                    let text = format!(
                        "the set `{}` needs its `{key}`: write `{key}: {}`",
                        set.name,
                        parameter.example()
                    );
                    report.error(around, text);
                }
            }
            (Some(position), _) if !takes => {
                complete = false;
                report.error(position, format!("the set `{}` has no `{key}`: remove it", set.name));
            }
            (Some(_), Some(value)) => values.push((parameter, value)),
            // What is wrong with it was reported.
            (Some(_), None) => complete = false,
            (None, _) => {}
        }
    }
    complete.then_some(values)
}

fn written<T>(key: &Key<T>) -> Option<Position> {
    key.as_ref().map(|at| at.position)
}

/// Warns of each set whose hosts were collected more than a year before `now`.
pub(in super::super) fn tell_old(sets: &[SetInUse], now: Timestamp, report: &Report<'_>) {
    for SetInUse { place, set } in sets {
        if now.duration_since(set.read).as_secs() <= OLD {
            continue;
        }
        let newer = match versions(set.name).last().filter(|newest| **newest != set.version) {
            Some(newest) => format!(
                "`egressd sets {} {newest}` shows the newest version, and `egressd diff` what it changes for you",
                set.name
            ),
            None => "this egressd has no newer one; a newer egressd may".to_owned(),
        };
        report.of(&place.file).warning(
            place.position,
            format!("the set `{}` is of {}, which is more than a year old: {newer}", set.id(), set.date),
        );
    }
}
