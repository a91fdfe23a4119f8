//! The accounts of upload budgets: one for each client address and rule (the policy's name and the rule's text) with an
//! `upload_budget`, in this replica alone.
//!
//! An account outlives tunnels and reloads: what was sent before an edit still counts after it. How many accounts
//! there may be is `limits.budget_accounts`, shared out by client: [`table`] says how. What cannot be counted cannot be
//! limited, so a client that finds no place is refused; that is so only where as many other clients have one. Not here:
//! what an account contains ([`crate::transport::account`]), and how a tunnel uses it ([`crate::transport::allowance`]).

mod table;
#[cfg(test)]
mod tests;

use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use crate::rules::{Permit, UploadBudget};
use crate::telemetry::metrics::{BudgetAccounts, BudgetSource};
use crate::transport::allowance::Allowance;
use crate::transport::held::HeldBytes;
use crate::words::outcome::Reason;
use table::{Key, Table};

/// Accounts that are merged at once where the table has become smaller: requests wait meanwhile.
const LOT: usize = 256;

/// All accounts.
pub struct Budgets {
    table: Mutex<Table>,
}

impl Budgets {
    /// No accounts, and room for `most`. What they cost is held.
    pub fn new(most: usize, held: &Arc<HeldBytes>) -> Arc<Self> {
        Arc::new(Budgets { table: Mutex::new(Table::new(most, Instant::now(), Arc::clone(held))) })
    }

    /// Follows `limits.budget_accounts`. Where there are more accounts, they are merged as for a newcomer.
    pub fn set_most(&self, most: usize) {
        self.table().set_most(most);
        while self.table().shrink(LOT) {}
    }

    /// What `client` may send under `permit`, in one tunnel or request.
    ///
    /// # Errors
    /// [`Reason::UploadBudget`] if nothing is left; [`Reason::BudgetTableFull`] if there is no place for an account, or if
    /// nothing is left because accounts of this client were merged.
    pub fn open(&self, client: IpAddr, permit: &Permit) -> Result<Allowance, Reason> {
        let Some(UploadBudget { bytes, window }) = permit.upload_budget else {
            return Ok(Allowance::limited(permit.upload_limit));
        };
        // In report mode the rule of a permit may be the `deny` rule that enforce mode applies: one account for
        // everything it would have denied.
        let rule = permit.rule.as_ref().map_or("", |rule| &rule.text);
        let key = Key { client, policy: Arc::clone(&permit.policy), rule: rule.into() };
        let account = self.table().account(key, window).ok_or(Reason::BudgetTableFull)?;
        Allowance::on(account, bytes, window, permit.upload_limit)
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        // Nothing panics under the lock.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl BudgetSource for Budgets {
    fn accounts(&self) -> BudgetAccounts {
        self.table().accounts()
    }
}

impl fmt::Debug for Budgets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Budgets").finish_non_exhaustive()
    }
}
