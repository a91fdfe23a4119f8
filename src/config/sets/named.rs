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
        // As findings and `rule_source` name a set, and as people name a version elsewhere.
        let text = match name.split_once(['@', ':', '/', '=', ' ']) {
            Some((set, version)) if !versions(set).is_empty() => {
                let known = versions(set);
                let version = known.iter().find(|known| **known == version.trim()).or(known.last());
                format!(
                    "{} names the version, too, which has a key of its own: write `set: {set}` and `version: {}`",
                    quoted(name),
                    version.copied().unwrap_or_default()
                )
            }
            _ => format!("there is no rule set {}; {}", quoted(name), did_you_mean(name)),
        };
        report.error(at.position, text);
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

/// Words for a service by which its set is not called: its tool, its language, or its owner.
const OTHER_WORDS: &[(&str, &[&str])] = &[
    ("apt", &["debian", "ubuntu"]),
    ("bundler", &["rubygems"]),
    ("cargo", &["crates"]),
    ("crates.io", &["crates"]),
    ("docker", &["docker-hub"]),
    ("docker.io", &["docker-hub"]),
    ("gem", &["rubygems"]),
    ("github.com", &["github-git"]),
    ("gitlab.com", &["gitlab-com"]),
    ("golang", &["go-modules"]),
    ("gradle", &["maven-central"]),
    ("java", &["maven-central"]),
    ("node", &["npm"]),
    ("pip", &["pypi"]),
    ("python", &["pypi"]),
    ("quay.io", &["quay"]),
    ("ruby", &["rubygems"]),
    ("rust", &["crates"]),
    ("yarn", &["npm"]),
];

/// The sets that `word` probably means.
fn meant(word: &str) -> Vec<&'static str> {
    let names = names();
    let word = word.trim().to_lowercase().replace(['_', ' '], "-");
    if let Some((_, sets)) = OTHER_WORDS.iter().find(|(known, _)| *known == word) {
        return sets.to_vec();
    }
    if let Some(near) = nearest(&word, &names) {
        return vec![near];
    }
    // A part of the name: `codecommit`, `github`, `aws`.
    let has = |name: &&str| name.split('-').any(|part| part == word);
    names.into_iter().filter(has).collect()
}

/// `did you mean npm?`, or where the sets are listed.
pub fn did_you_mean(word: &str) -> String {
    match meant(word).as_slice() {
        [] => "`egressd sets` lists those that are shipped".to_owned(),
        sets => format!("did you mean {}?", sets.join(" or ")),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_nearly_one_finds_the_set() {
        for (word, want) in [
            ("dockerhub", "docker-hub"),
            ("Docker Hub", "docker-hub"),
            ("docker_hub", "docker-hub"),
            ("codecommit", "aws-codecommit"),
            ("github", "github-git"),
            ("gitlab", "gitlab-com or gitlab-duo"),
            ("aws", "aws-codecommit or aws-ecr or aws-sts"),
            ("ecr", "aws-ecr"),
            ("nmp", ""),
            ("npmm", "npm"),
            ("maven", "maven-central"),
            ("pip", "pypi"),
            ("apt", "debian or ubuntu"),
            ("nothing-like-it", ""),
        ] {
            assert_eq!(meant(word).join(" or "), want, "{word}");
        }
        let known = names();
        let others = OTHER_WORDS.iter().flat_map(|(_, sets)| *sets);
        assert!(others.into_iter().all(|set| known.contains(set)), "each is shipped");
        assert!(OTHER_WORDS.iter().all(|(word, _)| !known.contains(word)));
    }
}
