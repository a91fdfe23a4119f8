//! What a sweep says of the identities that it found lost: whose, why, and how many tunnels and exchanges ended.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::state::proof::Lost;
use crate::words::client::Client;
use crate::words::counted::counted;
use crate::words::outcome::Reason;
use crate::words::quote::quoted;

/// Identities that are logged by name; the others are counted.
const NAMED: usize = 5;

/// The identities that one sweep found lost.
#[derive(Debug, Default)]
pub(super) struct LostIdentities(BTreeMap<(Box<str>, Arc<str>), usize>);

impl LostIdentities {
    /// One more tunnel or exchange of `client` ends.
    pub(super) fn note(&mut self, client: &Client, lost: &Lost) {
        let mut identities = client.identities.iter().map(AsRef::as_ref);
        let identity: Option<&str> = match lost.reason {
            Reason::AuthFailed => identities.find(|identity: &&str| identity.starts_with("user:")),
            _ => identities.next(),
        };
        let named = identity.map_or_else(|| client.address.ip().to_string().into(), Box::from);
        *self.0.entry((named, Arc::clone(&lost.why))).or_default() += 1;
    }

    /// Logs them.
    pub(super) fn tell(&self) {
        for ((identity, why), ended) in self.0.iter().take(NAMED) {
            let ended = counted(*ended, "tunnel or exchange", "tunnels and exchanges");
            tracing::warn!("{}: {why}; {ended} ended", quoted(identity));
        }
        if let Some(more) = self.0.len().checked_sub(NAMED).filter(|more| *more > 0) {
            tracing::warn!("{} no longer proven", counted(more, "more identity is", "more identities are"));
        }
    }
}
