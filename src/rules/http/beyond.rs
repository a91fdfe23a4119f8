//! What an entry of `requests` lets through that others do not.
//!
//! That one entry allows all that another does is proven key by key: an entry is taken apart into one for each method, path,
//! operation of Git and repository. Where it cannot be proven, requests are made that the entry lets through; if the others let all of
//! these through too, it is unclear.

use super::super::git::Judged;
use super::super::path::PathPattern;
use super::recognised::Recognised;
use super::request::{HttpRequest, Upgrade};
use super::requests::{Entry, Requests};
use crate::words::aws::{AwsRequest, CredentialsError};
use crate::words::git::GitAsk;

/// An entry with more parts is not taken apart.
const MOST_PARTS: usize = 100_000;

/// What an entry lets through that others do not.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Beyond {
    Nothing,
    Perhaps,
    Something,
}

/// What `entry` lets through and `others` do not.
pub(super) fn beyond(entry: &Entry, others: &Requests) -> Beyond {
    let Some(parts) = parts(entry) else { return Beyond::Perhaps };
    parts.iter().map(|part| beyond_part(part, others)).max().unwrap_or(Beyond::Nothing)
}

fn beyond_part(part: &Entry, others: &Requests) -> Beyond {
    if others.entries().iter().any(|other| covers(other, part)) {
        return Beyond::Nothing;
    }
    let beyond = examples(part).iter().any(|example| match others.find("", &example.request()) {
        Err(_) => true,
        // A longer request of a fetch.
        Ok(matched) => match (&part.git, &matched.git) {
            (Some(own), Some(other)) => own.negotiation_limit > other.negotiation_limit,
            _ => false,
        },
    });
    if beyond { Beyond::Something } else { Beyond::Perhaps }
}

/// What an entry does to requests of Git beyond letting them through: whether they go out in a fixed form, and how long one may be.
pub(super) fn treatment(entry: &Entry) -> Option<(bool, u64)> {
    entry.git.as_ref().map(|git| (git.fixes_reads(), git.negotiation_limit))
}

/// Whether others let requests of `entry` through that then go out in another form.
pub(super) fn treated_otherwise(entry: &Entry, others: &Requests) -> bool {
    if entry.git.is_none() && !others.asks_git() {
        return false;
    }
    let Some(parts) = parts(entry) else { return true };
    let treated = |example: Example| {
        let found = others.find("", &example.request()).ok()?;
        others.entries().get(found.number.checked_sub(1)?).map(treatment)
    };
    let otherwise = |found: Option<Option<(bool, u64)>>| found.is_some_and(|found| found != treatment(entry));
    parts.iter().flat_map(examples).any(|example| otherwise(treated(example)))
}

/// One entry for each method, path, operation and repository. `None`: too many.
fn parts(entry: &Entry) -> Option<Vec<Entry>> {
    let mut parts = vec![entry.clone()];
    if let Some(git) = &entry.git {
        parts = git.parts().into_iter().map(|git| Entry { git: Some(git.into()), ..entry.clone() }).collect();
    }
    let methods = entry.methods.as_ref().map_or(1, |methods| methods.len());
    let paths = entry.paths.as_ref().map_or(1, |paths| paths.len());
    if parts.len().saturating_mul(methods).saturating_mul(paths) > MOST_PARTS {
        return None;
    }
    if let Some(methods) = &entry.methods {
        let one = |method: &str| Some([method.into()].into());
        let each = parts.iter().flat_map(|part| {
            methods.iter().map(move |method| Entry { methods: one(method), ..part.clone() })
        });
        parts = each.collect();
    }
    if let Some(paths) = &entry.paths {
        let one = |path: &PathPattern| Some([path.clone()].into());
        let each = parts
            .iter()
            .flat_map(|part| paths.iter().map(move |path| Entry { paths: one(path), ..part.clone() }));
        parts = each.collect();
    }
    Some(parts)
}

impl Entry {
    /// Whether it lets all through that `other` does. `false`: that is not certain.
    pub fn covers(&self, other: &Entry) -> bool {
        covers(self, other)
    }
}

/// Whether `other` lets all through that `part` does. `false`: that is not certain.
pub(in crate::rules) fn covers(other: &Entry, part: &Entry) -> bool {
    let methods = match (&other.methods, &part.methods) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(_), Some(methods)) => methods.iter().all(|method| other.allows_method(method)),
    };
    // Every path that passes begins with `/`.
    let is_all = |pattern: &PathPattern| pattern.as_str() == "/**";
    let paths = match (&other.paths, &part.paths) {
        (None, _) => true,
        (Some(others), None) => others.iter().any(is_all),
        (Some(others), Some(paths)) => paths.iter().all(|path| others.iter().any(|other| other.covers(path))),
    };
    let git = match (&other.git, &part.git) {
        (None, _) => true,
        (Some(_), None) => false,
        // Where credentials are sent, large files are refused.
        (Some(_), Some(_)) if other.credentials.is_some() && part.credentials.is_none() => false,
        (Some(other), Some(part)) => other.covers(part),
    };
    let lends = |entry: &Entry| entry.aws.is_some() && entry.credentials.is_some();
    let aws = match (&other.aws, &part.aws) {
        (None, _) => true,
        (Some(_), None) => false,
        // The credentials that are sent are judged, not the client's.
        (Some(_), Some(_)) if lends(other) || lends(part) => {
            other.aws == part.aws && other.credentials == part.credentials
        }
        (Some(other), Some(part)) => other.covers(part),
    };
    methods && paths && git && aws && (other.websocket || !part.websocket)
}

/// A request that is made up.
#[derive(Debug)]
struct Example {
    method: String,
    path: String,
    upgrade: Upgrade,
    recognised: Recognised,
}

impl Example {
    fn request(&self) -> HttpRequest<'_> {
        HttpRequest {
            method: &self.method,
            path: &self.path,
            query: None,
            upgrade: self.upgrade,
            inspected: true,
            recognised: Some(&self.recognised),
        }
    }
}

/// Requests that `part` lets through, and that another entry lets through by chance alone.
fn examples(part: &Entry) -> Vec<Example> {
    let method = part.methods.iter().flatten().next().map_or("~EXAMPLE~", |method| &**method);
    let path = part.paths.iter().flatten().next();
    let path = path.map_or_else(|| "/~example~/~example~".to_owned(), PathPattern::example);
    let asks: Vec<(String, String, Result<GitAsk, Box<str>>)> = match &part.git {
        None => vec![(method.to_owned(), path, Err("no request of git's client".into()))],
        Some(git) => {
            let examples = git.examples().into_iter().map(|(own_method, own_path, ask)| {
                let fits = part.allows_method(own_method) && part.allows_path(&own_path);
                let (method, path) =
                    if fits { (own_method.to_owned(), own_path) } else { (method.to_owned(), path.clone()) };
                (method, path, Ok(ask))
            });
            examples.collect()
        }
    };
    let signed: Vec<Result<AwsRequest, CredentialsError>> = match &part.aws {
        None => vec![Err(CredentialsError::None)],
        Some(_) if part.credentials.is_some() => vec![Err(CredentialsError::None)],
        Some(aws) => aws.examples().into_iter().map(Ok).collect(),
    };
    let upgrade = if part.websocket { Upgrade::Websocket } else { Upgrade::None };
    let both = asks.iter().flat_map(|ask| signed.iter().map(move |aws| (ask, aws)));
    let examples = both.map(|((method, path, git), aws)| Example {
        method: method.clone(),
        path: path.clone(),
        upgrade,
        recognised: Recognised { git: git.clone(), aws: aws.clone(), judged: Judged::default() },
    });
    // One that its own entry would refuse tells nothing.
    let own = Requests::new(vec![part.clone()]);
    examples.filter(|example| own.find("", &example.request()).is_ok()).collect()
}
