//! The accounts of upload budgets: one for each client address and rule (the policy's name and the rule's text) with an
//! `upload_budget`. Each replica has its own; where there is a store, what they grant is leased from it ([`shared`]).
//!
//! An account outlives tunnels and reloads: what was sent before an edit still counts after it. How many accounts
//! there may be is `limits.budget_accounts`, shared out by client: [`table`] says how. What cannot be counted cannot be
//! limited, so a client that finds no place is refused; that is so only where as many other clients have one. Not here:
//! what an account contains ([`crate::transport::account`]), and how a tunnel uses it ([`crate::transport::allowance`]).

pub mod shared;
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
use crate::transport::purse::ledger::Terms;
use crate::words::outcome::Reason;
use shared::SharedBudgets;
pub use table::ACCOUNT;
use table::{Key, Table};

/// Accounts that are merged at once where the table has become smaller: requests wait meanwhile.
const LOT: usize = 256;

/// All accounts.
pub struct Budgets {
    table: Mutex<Table>,
    /// Where all replicas count together; `None`: this one counts alone.
    store: Option<Arc<SharedBudgets>>,
}

impl Budgets {
    /// No accounts, and room for `most`. What they cost is held.
    pub fn new(most: usize, held: &Arc<HeldBytes>) -> Arc<Self> {
        Budgets::with(most, held, None)
    }

    /// The same, where all replicas count together in `store`.
    pub fn with(most: usize, held: &Arc<HeldBytes>, store: Option<Arc<SharedBudgets>>) -> Arc<Self> {
        let table = Mutex::new(Table::new(most, Instant::now(), Arc::clone(held)));
        Arc::new(Budgets { table, store })
    }

    /// The store in which all replicas count together.
    pub fn store(&self) -> Option<&SharedBudgets> {
        self.store.as_deref()
    }

    /// Follows `limits.budget_accounts`. Where there are more accounts, they are merged as for a newcomer.
    pub fn set_most(&self, most: usize) {
        self.table().set_most(most);
        while self.table().shrink(LOT) {}
    }

    /// What `client` may send under `permit`, in one tunnel or request. Where replicas count together, waits until there is a
    /// lease.
    ///
    /// # Errors
    /// As [`open`](Self::open), and [`Reason::SharedStateUnavailable`] if the store cannot be asked.
    pub async fn afford(&self, client: IpAddr, permit: &Permit) -> Result<Allowance, Reason> {
        let mut allowance = self.open(client, permit)?;
        allowance.secure(1).await?;
        Ok(allowance)
    }

    /// What `client` may send under `permit`, in one tunnel or request, as far as this replica knows.
    ///
    /// # Errors
    /// [`Reason::UploadBudget`] if nothing is left; [`Reason::BudgetTableFull`] if there is no place for an account, or if
    /// nothing is left because accounts of this client were merged.
    pub fn open(&self, client: IpAddr, permit: &Permit) -> Result<Allowance, Reason> {
        let Some(budget @ UploadBudget { bytes, window }) = permit.upload_budget else {
            return Ok(Allowance::limited(permit.upload_limit));
        };
        // In report mode the rule of a permit may be the `deny` rule that enforce mode applies: one account for
        // everything it would have denied.
        let rule = permit.rule.as_ref().map_or("", |rule| &rule.text);
        let key = Key { client, policy: Arc::clone(&permit.policy), rule: rule.into() };
        let Some(store) = &self.store else {
            let account = self.table().account(key, window).ok_or(Reason::BudgetTableFull)?;
            return Allowance::on(account, bytes, window, permit.upload_limit);
        };
        let named = key.clone();
        let make = || store.purse(&[&client.to_string(), &named.policy, &named.rule], budget);
        let mut table = self.table();
        let account = table.account(key, window).ok_or(Reason::BudgetTableFull)?;
        let purse = table.purse(&named, make);
        drop(table);
        purse.follow(Terms::new(bytes, window));
        Ok(Allowance::on(account, bytes, window, permit.upload_limit)?.leased(purse))
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        // Nothing panics under the lock.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl BudgetSource for Budgets {
    fn accounts(&self) -> BudgetAccounts {
        let store_up = self.store().and_then(|store| store.standing().told().up);
        BudgetAccounts { store_up, ..self.table().accounts() }
    }
}

impl fmt::Debug for Budgets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Budgets").finish_non_exhaustive()
    }
}
