//! The authority for inspection: its files are read here, so that the checked bytes are the bytes that are used and hashed; and
//! whether it fits the rules that inspect. Not here: what the files mean ([`crate::transport::tls::mint`]).

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::file::InspectionFile;
use super::finding::{Position, Report};
use super::keys::{HOUR, Key, duration, required};
use super::named_files::NamedFiles;
use super::places::Places;
use super::secret_files::{Secret, tell_of_readers};
use super::settings::Inspection;
use super::typed::At;
use super::values::FilePath;
use crate::rules::pattern::literal_suffix;
use crate::rules::{HostPattern, Policies};
use crate::transport::tls::mint::{Authority, LoadedAuthority, Minter};
use crate::transport::tls::{FileProblem, PemFile};
use crate::words::quote::quoted;

const DAY: Duration = Duration::from_secs(86_400);
/// Clients' clocks are not exact, and a leaf costs less than its handshake: neither less nor more would help.
const LIFETIME: RangeInclusive<Duration> = HOUR..=Duration::from_secs(7 * 86_400);

/// The authority that `key` means.
pub(super) fn inspection(
    key: &Key<InspectionFile>,
    report: &Report<'_>,
    files: &mut NamedFiles<'_>,
) -> Option<Inspection> {
    let at = key.as_ref()?;
    let file = at.value.as_ref()?;
    let certificate = required(report, &file.certificate, at.position, "certificate", "certificate: ca.crt");
    let key = required(report, &file.key, at.position, "key", "key: ca.key");
    let certificate = certificate.and_then(|at| pem(at, report, files));
    let key = key.and_then(|at| {
        let pem = pem(at, report, files)?;
        tell_of_readers(Secret::AuthorityKey, (files, &at.value.as_ref()?.0), at.position, report);
        Some(pem)
    });
    let lifetime = duration(report, &file.leaf_lifetime, "leaf_lifetime", DAY, LIFETIME);
    let (certificate, key) = (certificate?, key?);
    let tell = |problem: FileProblem, is_error: bool| {
        let report = report.of(&problem.file.display().to_string());
        let position = Position { line: problem.line, column: 1 };
        match is_error {
            true => report.error(position, problem.text),
            false => report.warning(position, problem.text),
        }
    };
    let LoadedAuthority { authority, warnings } = Authority::from_pem(&certificate, &key, Timestamp::now())
        .map_err(|problems| problems.into_iter().for_each(|problem| tell(problem, true)))
        .ok()?;
    warnings.into_iter().for_each(|problem| tell(problem, false));
    match Minter::new(authority, lifetime) {
        Ok(minter) => Some(Inspection { minter: Arc::new(minter) }),
        Err(why) => {
            report.error(at.position, format!("inspection cannot be set up: {why}"));
            None
        }
    }
}

/// Whether the authority is there for the rules that inspect, and may sign for what they match. `places` says where
/// the rules are.
pub(super) fn check_rules(
    policies: &Policies,
    places: &Places<'_>,
    (key, inspection): (&Key<InspectionFile>, Option<&Inspection>),
    report: &Report<'_>,
) {
    let mut inline = places.rules.iter().zip(&places.in_error);
    let mut inspects = false;
    for rule in policies.rules() {
        // Taken for every rule: the order is all that tells whose it is.
        let place = rule.is_inline().then(|| inline.next()).flatten();
        if !rule.options().is_some_and(|options| options.inspect) {
            continue;
        }
        inspects = true;
        // What is wrong with its entry comes first: it may be that it inspects.
        let is_in_error = match place {
            Some((_, is_in_error)) => *is_in_error,
            None => places.lists_in_error.iter().any(|list| **list == *rule.file()),
        };
        if is_in_error {
            continue;
        }
        let Some(host) = rule.host() else { continue };
        let authority = inspection.map(|inspection| inspection.minter.authority());
        if let Some(text) = wrong(&host, authority) {
            let (file, position) = match place {
                Some((place, _)) => (&*place.file, place.position),
                None => (rule.file(), Position { line: rule.line(), column: 1 }),
            };
            report.of(file).error(position, format!("{}: {text}", quoted(rule.text())));
        }
    }
    // A rule with an error may be one that inspects.
    if let (Some(at), false) = (key, inspects || report.has_errors()) {
        report.warning(
            at.position,
            "no rule inspects, so this authority signs nothing and its key lies here unused: give a rule `inspect: true`, or \
             remove `inspection`",
        );
    }
}

/// What keeps the authority from signing for what a rule matches.
fn wrong(host: &HostPattern, authority: Option<&Authority>) -> Option<String> {
    let (may, permit) = match host {
        HostPattern::Exact(name) => (authority.map(|authority| authority.may_sign_name(name)), name.as_str()),
        HostPattern::Under(base) => (below(authority, base.as_str(), false), base.as_str()),
        HostPattern::UnderOrSelf(base) => (below(authority, base.as_str(), true), base.as_str()),
        HostPattern::Labels(pattern) => {
            let domain = literal_suffix(pattern.as_str());
            return match below(authority, domain, false) {
                Some(true) => None,
                _ => Some(format!(
                    "the rule inspects, and name constraints have no such pattern: write a rule for each host, and make the \
                     authority with the same (`egressd ca new --permit HOST HOST … --out DIR`); or make one for {domain} and \
                     every name below"
                )),
            };
        }
        // An option out of place, which was told.
        HostPattern::Address(_) | HostPattern::Network(_) => return None,
    };
    match (may, host) {
        (Some(true), _) => None,
        (None, _) => Some(format!(
            "the rule inspects, and there is no `inspection`: `egressd ca new --permit {permit} --out DIR` makes an \
             authority, and says what to write"
        )),
        (Some(false), HostPattern::Exact(_)) => Some(format!(
            "the rule inspects, and the authority of `inspection` may not sign for {permit}, by its name constraints: make one \
             that may (`egressd ca new --permit {permit} …`), or let the rule not inspect"
        )),
        (Some(false), _) => Some(format!(
            "the rule inspects, and the authority of `inspection` may not sign for every name below {permit}, by its name \
             constraints: write a rule for each host that it may sign for, or make one for all (`egressd ca new --permit \
             {permit} …`)"
        )),
    }
}

fn below(authority: Option<&Authority>, base: &str, itself: bool) -> Option<bool> {
    authority.map(|authority| authority.constraints().permit_all_below(base, itself))
}

fn pem(at: &At<FilePath>, report: &Report<'_>, files: &mut NamedFiles<'_>) -> Option<PemFile> {
    let name = &*at.value.as_ref()?.0;
    let bytes = files.read(name, at.position, report)?;
    Some(PemFile { path: files.path(name), bytes })
}
