//! The store that counts the upload budgets of all replicas together.
//!
//! Its files are read here, and their contents are part of the configuration. Not here: what a URL may say
//! ([`crate::words::store_url`]), and how the store is asked ([`crate::state::budgets`]).

use super::file::{OnStoreFailureFile, SharedStateFile};
use super::finding::{Position, Report};
use super::keys::{Key, required, value};
use super::named_files::NamedFiles;
use super::secret_files::{Secret, tell_of_readers, user_password};
use super::upstream::{Credentials, authorities, read};
use crate::rules::Policies;
use crate::transport::purse::bank::OnFailure;
use crate::transport::tls::authorities::Authorities;
use crate::words::store_url::StoreUrl;

/// The most replicas that may be named.
const MAX_REPLICAS: u64 = 10_000;

/// The store of upload budgets.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SharedState {
    /// Where it is.
    pub url: StoreUrl,
    /// The credentials that it requires.
    pub credentials: Option<Credentials>,
    /// CA bundle that verifies it; None: [`Certificates::roots`](super::Certificates::roots). Only with TLS.
    pub ca: Option<Authorities>,
    /// What becomes of uploads with a budget while it does not answer.
    pub on_failure: OnFailure,
    /// How many replicas share it; None: it is not said.
    pub replicas: Option<u32>,
}

/// The store that `key` means.
pub(super) fn shared_state(
    key: &Key<SharedStateFile>,
    report: &Report<'_>,
    files: &mut NamedFiles<'_>,
) -> Option<SharedState> {
    let at = key.as_ref()?;
    let file = at.value.as_ref()?;
    let url = required(report, &file.url, at.position, "url", "url: \"rediss://valkey:6379/0\"");
    let credentials = file.credentials_file.as_ref().and_then(|at| {
        let content = read(at, report, files)?;
        tell_of_readers(Secret::Store, (files, &at.value.as_ref()?.0), at.position, report);
        let line = user_password(&content).map(Credentials::new);
        line.map_err(|text| report.error(at.position, text)).ok()
    });
    let ca = file.ca.as_ref().and_then(|at| authorities(at, report, files));
    let on_failure = match value(&file.on_failure) {
        None | Some(OnStoreFailureFile::Deny) => OnFailure::Deny,
        Some(OnStoreFailureFile::Local) => OnFailure::Local,
    };
    let replicas = file.replicas.as_ref().and_then(|at| Some((at.position, at.value?)));
    if let Some((position, count)) = replicas.filter(|(_, count)| !(1..=MAX_REPLICAS).contains(count)) {
        report.error(position, format!("`replicas` must be from 1 to {MAX_REPLICAS}, not {count}"));
    }
    if let (Some(at), OnFailure::Local, None) = (&file.on_failure, on_failure, replicas) {
        report.warning(
            at.position,
            "`on_failure: local` without `replicas`: while the store does not answer, each replica sends up to the whole \
             budget; write how many replicas there are",
        );
    }
    let url_at = url?;
    let url = &url_at.value.as_ref()?.0;
    if let (Some(ca), false) = (&file.ca, url.tls) {
        report.error(ca.position, "`ca` needs TLS: write rediss:// in `url`, or remove `ca`");
    }
    if !url.tls && !url.is_local() {
        let what =
            if file.credentials_file.is_some() { "the password and the budgets" } else { "the budgets" };
        report.warning(
            url_at.position,
            format!(
                "{what} go to the store in cleartext, and who is in between can change them: write rediss:// in `url`"
            ),
        );
    }
    let replicas = replicas.and_then(|(_, count)| u32::try_from(count).ok());
    Some(SharedState { url: url.clone(), credentials, ca, on_failure, replicas })
}

/// `balanced`: where it is said that a balancer stands before egressd. Warns of budgets that each replica counts by itself where there is probably more than one, and of a store that nothing uses.
pub(super) fn lint(
    policies: &Policies,
    key: &Key<SharedStateFile>,
    balanced: Option<Position>,
    report: &Report<'_>,
) {
    match (key, policies.has_budgets()) {
        (None, true) => {
            if let Some(position) = balanced {
                report.warning(
                    position,
                    "a balancer stands before this, so there is probably more than one replica, and each counts every \
                     `upload_budget` by itself: write `shared_state`, and they count together",
                );
            }
        }
        (Some(at), false) => report.warning(
            at.position,
            "no rule has an `upload_budget`, so nothing is sent to the store: write one, or remove `shared_state`",
        ),
        _ => {}
    }
}
