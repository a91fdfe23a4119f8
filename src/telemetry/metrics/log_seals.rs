//! How far the access log is sealed, read at the moment of the scrape: what Prometheus then keeps is a witness of the log.
//!
//! The hash of a seal is no label: each would be a series of its own. `/api/status` has it. Not here: the seals
//! ([`super::super::access_log`]).

use prometheus::core::{Collector, Desc};
use prometheus::proto::{MetricFamily, MetricType};

use super::super::access_log::AccessLog;
use super::at_scrape::Family;

/// Empty as long as the log is not sealed.
pub(super) struct LogSeals {
    log: AccessLog,
    boot: Family,
    sealed: Family,
}

impl LogSeals {
    pub(super) fn new(log: AccessLog) -> prometheus::Result<Self> {
        Ok(LogSeals {
            log,
            boot: Family::new(
                "egressd_log_boot_info",
                "The start of the program that the sealed records of the access log name, and the fingerprint of the key; always 1.",
                &["boot", "key"],
                MetricType::GAUGE,
            )?,
            sealed: Family::new(
                "egressd_log_sealed_seq",
                "The last record of the access log whose seal is written, by its number in this start of the program.",
                &["boot"],
                MetricType::GAUGE,
            )?,
        })
    }
}

impl Collector for LogSeals {
    fn desc(&self) -> Vec<&Desc> {
        vec![self.boot.desc(), self.sealed.desc()]
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let last = self.log.last_seal();
        let seq = last.iter().filter_map(|last| Some(([&*last.boot], last.records.checked_sub(1)? as f64)));
        vec![
            self.boot.collect(last.iter().map(|last| ([&*last.boot, &*last.key], 1.0))),
            self.sealed.collect(seq),
        ]
    }
}
