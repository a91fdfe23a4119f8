//! What parses and is validated but does not work yet. When a feature comes, its line here goes.

use super::file::{ConfigFile, Key, ListenerFile, PolicyFile};
use super::finding::{Place, Report};
use super::typed::At;

/// Where a feature is used.
type Uses = fn(&ConfigFile) -> Vec<Place>;

/// Each with the name under which the refusal tells it.
const UNSUPPORTED: &[(&str, Uses)] = &[
    ("`listeners[].proxy_protocol`", |file| listeners(file, |listener| place(&listener.proxy_protocol))),
    ("`listeners[].tls`", |file| listeners(file, |listener| place(&listener.tls))),
    ("`listeners[].basic_auth`", |file| listeners(file, |listener| place(&listener.basic_auth))),
    ("`admin.proxy_protocol`", |file| {
        value(&file.admin).and_then(|admin| place(&admin.proxy_protocol)).into_iter().collect()
    }),
    ("`policies[].clients.identities`", |file| {
        policies(file, |policy| value(&policy.clients).and_then(|clients| place(&clients.identities)))
    }),
    ("`policies[].clients.vpc_endpoints`", |file| {
        policies(file, |policy| value(&policy.clients).and_then(|clients| place(&clients.vpc_endpoints)))
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

fn listeners(file: &ConfigFile, find: impl Fn(&ListenerFile) -> Option<Place>) -> Vec<Place> {
    items(&file.listeners).filter_map(find).collect()
}

fn policies(file: &ConfigFile, find: impl Fn(&PolicyFile) -> Option<Place>) -> Vec<Place> {
    items(&file.policies).filter_map(find).collect()
}
