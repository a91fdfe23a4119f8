//! What parses and is validated but does not work yet. When a feature comes, its line here goes.

use super::file::{AllowFile, AllowFilesFile, ConfigFile, Key};
use super::finding::{Place, Report};
use super::typed::At;

/// Where a feature is used.
type Uses = fn(&ConfigFile) -> Vec<Place>;

/// Each with the name under which the refusal tells it.
const UNSUPPORTED: &[(&str, Uses)] = &[
    ("`verify_certificate`", |file| {
        // `false` is what happens without it.
        let wanted = |key: &Key<bool>| place(key).filter(|_| value(key) == Some(&true));
        options(file, |rule| wanted(&rule.verify_certificate), |file| wanted(&file.verify_certificate))
    }),
    ("`upstream_proxy`", |file| place(&file.upstream_proxy).into_iter().collect()),
    ("`certificates.roots` other than `system`", |file| {
        let roots = value(&file.certificates).and_then(|certificates| certificates.roots.as_ref());
        roots
            .filter(|roots| roots.value.as_ref().is_some_and(|path| &*path.0 != "system"))
            .map(|at| at.place)
            .into_iter()
            .collect()
    }),
    ("`access_log.format` other than `json`", |file| {
        let format = value(&file.access_log).and_then(|log| log.format.as_ref());
        format
            .filter(|format| {
                format.value.as_ref().is_some_and(|text| &*text.0 == "squid" || text.0.contains('%'))
            })
            .map(|at| at.place)
            .into_iter()
            .collect()
    }),
];

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

fn place<T>(key: &Key<T>) -> Option<Place> {
    key.as_ref().map(|at| at.place)
}

fn items<T>(list: &Option<At<Vec<At<T>>>>) -> impl Iterator<Item = &T> {
    value(list).into_iter().flatten().filter_map(|at| at.value.as_ref())
}

fn options(
    file: &ConfigFile,
    rule: impl Fn(&super::file::FullRuleFile) -> Option<Place>,
    allow_file: impl Fn(&super::file::FullAllowFile) -> Option<Place>,
) -> Vec<Place> {
    let mut places = Vec::new();
    for policy in items(&file.policies) {
        places.extend(items(&policy.allow).filter_map(|allow| match allow {
            AllowFile::Full(full) => rule(full),
            AllowFile::Rule(_) => None,
        }));
        places.extend(items(&policy.allow_files).filter_map(|files| match files {
            AllowFilesFile::Full(full) => allow_file(full),
            AllowFilesFile::File(_) => None,
        }));
    }
    places
}
