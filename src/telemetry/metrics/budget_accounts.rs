//! How full the table of upload budgets is, read at the moment of the scrape.
//!
//! Not here: the table ([`crate::state::budgets`] has it, and passes itself in).

use std::sync::Arc;

use prometheus::core::{Collector, Desc};
use prometheus::proto::{MetricFamily, MetricType};

use super::Metrics;
use super::at_scrape::Family;

/// How full the table is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BudgetAccounts {
    /// Accounts now.
    pub used: usize,
    /// Most accounts: `limits.budget_accounts`.
    pub most: usize,
    /// Accounts that were merged with others of their client since start, because the table was full.
    pub merged: u64,
    /// Whether the store of shared budgets answers; `None`: it is not asked.
    pub store_up: Option<bool>,
}

/// The source of the numbers at each scrape.
pub trait BudgetSource: Send + Sync {
    /// The numbers now.
    fn accounts(&self) -> BudgetAccounts;
}

impl Metrics {
    /// Shows how full the table of upload budgets is. Called once, at the start.
    ///
    /// # Errors
    /// As [`Metrics::new`].
    pub fn show_budgets(&self, source: Arc<impl BudgetSource + 'static>) -> prometheus::Result<()> {
        self.registry.register(Box::new(OfBudgets::new(source)?))
    }
}

struct OfBudgets {
    source: Arc<dyn BudgetSource>,
    used: Family,
    most: Family,
    merged: Family,
    store_up: Family,
}

impl OfBudgets {
    fn new(source: Arc<dyn BudgetSource>) -> prometheus::Result<Self> {
        use MetricType::{COUNTER, GAUGE};
        Ok(OfBudgets {
            source,
            used: Family::new(
                "egressd_upload_budget_accounts",
                "Accounts of upload budgets: clients and rules whose uploads count now.",
                &[],
                GAUGE,
            )?,
            most: Family::new(
                "egressd_upload_budget_accounts_limit",
                "Most accounts of upload budgets: limits.budget_accounts, or what half of limits.memory carries.",
                &[],
                GAUGE,
            )?,
            merged: Family::new(
                "egressd_upload_budget_accounts_merged_total",
                "Accounts of upload budgets that were merged with others of their client, or given up for another client, because the table was full.",
                &[],
                COUNTER,
            )?,
            store_up: Family::new(
                "egressd_shared_state_up",
                "Whether the store of shared_state answers; absent while nothing is asked of it.",
                &[],
                GAUGE,
            )?,
        })
    }
}

impl Collector for OfBudgets {
    fn desc(&self) -> Vec<&Desc> {
        vec![self.used.desc(), self.most.desc(), self.merged.desc(), self.store_up.desc()]
    }

    // Counters are whole numbers that Prometheus reads as floating point: exact to 2^53.
    fn collect(&self) -> Vec<MetricFamily> {
        let BudgetAccounts { used, most, merged, store_up } = self.source.accounts();
        vec![
            self.used.collect([([], used as f64)]),
            self.most.collect([([], most as f64)]),
            self.merged.collect([([], merged as f64)]),
            self.store_up.collect(store_up.map(|up| ([], if up { 1.0 } else { 0.0 }))),
        ]
    }
}
