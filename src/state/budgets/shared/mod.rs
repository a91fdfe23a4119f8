//! Upload budgets that all replicas count together, in a store.
//!
//! An account has one key in the store, with what each replica has leased in each sixtieth of the window; one [`script`] does all that is done
//! to it, at once and on the server's clock. A replica leases bytes in blocks ([`crate::transport::purse`]) and tells what became of
//! them. [`client`] asks for all accounts over one connection for each server ([`link`]). It notices within two seconds that the server was
//! started again or is another, which is a new epoch, and tells everything that was used within the window, because the server may
//! have lost it. In the first [`script::SETTLE`] of an epoch the script grants nothing, so that every replica has told by then.
//!
//! So all replicas together never send more than the budget, as long as the store keeps what it acknowledged. What it lost and
//! no replica can tell any more, because it is dead or cut off for that long, is the one exception.

mod accounts;
mod client;
mod link;
#[cfg(test)]
mod model;
#[cfg(test)]
mod properties;
mod script;
mod settings;
mod standing;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use uuid::Uuid;

use crate::rules::UploadBudget;
use crate::transport::purse::Purse;
use crate::transport::purse::bank::Bank;
use crate::transport::purse::ledger::Terms;
use accounts::Place;
use client::Client;
pub use settings::Settings;
pub use standing::{Standing, Told};

/// The store, as the rest of the program sees it.
pub struct SharedBudgets {
    bank: Arc<Bank<Purse>>,
    settings: watch::Sender<Arc<Settings>>,
    standing: Arc<Standing>,
    stop: mpsc::Sender<oneshot::Sender<()>>,
}

impl SharedBudgets {
    /// Begins to ask the store, as far as there is something to ask.
    pub fn start(settings: Settings) -> Arc<Self> {
        let (_, random) = Uuid::now_v7().as_u64_pair();
        let (bank, errands) = Bank::new(random, settings.without_store());
        let standing = Arc::new(Standing::default());
        let (settings, followed) = watch::channel(Arc::new(settings));
        let (stop, stopping) = mpsc::channel(1);
        let client = Client::new(Arc::clone(&bank), errands, followed, Arc::clone(&standing));
        tokio::spawn(client.run(stopping));
        Arc::new(SharedBudgets { bank, settings, standing, stop })
    }

    /// Follows a reload.
    pub fn follow(&self, settings: Settings) {
        self.bank.follow(settings.without_store());
        self.settings.send_if_modified(|current| {
            let is_new = !current.is_like(&settings);
            if is_new {
                *current = Arc::new(settings);
            }
            is_new
        });
    }

    /// How it stands with the store.
    pub fn standing(&self) -> &Standing {
        &self.standing
    }

    /// The purse of an account.
    pub(super) fn purse(&self, account: &[&str], budget: UploadBudget) -> Arc<Purse> {
        let terms = Terms::new(budget.bytes, budget.window);
        Purse::new(Place::of(account).key(), terms, &self.bank)
    }

    /// Gives back what is leased and no longer needed, and ends. Waits at most so long.
    pub async fn finish(&self, patience: Duration) {
        let (done, is_done) = oneshot::channel();
        if self.stop.send(done).await.is_ok() {
            // Whatever it did not manage lapses.
            let _ = tokio::time::timeout(patience, is_done).await;
        }
    }
}

impl fmt::Debug for SharedBudgets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedBudgets").finish_non_exhaustive()
    }
}
