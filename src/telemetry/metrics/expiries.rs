//! When what the listeners read from files expires.

use std::sync::Arc;

use jiff::Timestamp;
use prometheus::core::Collector;
use prometheus::{GaugeVec, Opts};

/// The gauges of all listeners.
#[derive(Clone)]
pub struct Expiries {
    certificate: GaugeVec,
    client_crl: GaugeVec,
}

impl Expiries {
    pub(super) fn new() -> prometheus::Result<Self> {
        let gauge = |name, help| GaugeVec::new(Opts::new(name, help), &["listener"]);
        Ok(Expiries {
            certificate: gauge(
                "egressd_certificate_expires_timestamp_seconds",
                "When the listener's certificate expires, in seconds since the epoch.",
            )?,
            client_crl: gauge(
                "egressd_client_crl_expires_timestamp_seconds",
                "When the first revocation list of the listener's clients is due to be renewed, in seconds since the epoch.",
            )?,
        })
    }

    pub(super) fn collectors(&self) -> [Box<dyn Collector>; 2] {
        [Box::new(self.certificate.clone()), Box::new(self.client_crl.clone())]
    }

    /// A listener's certificate and its clients' revocation lists were loaded, and expire at these moments.
    pub fn set(&self, listener: &Arc<str>, certificate: Timestamp, client_crl: Option<Timestamp>) {
        let seconds = |moment: Timestamp| moment.as_second() as f64;
        self.certificate.with_label_values(&[listener]).set(seconds(certificate));
        match client_crl {
            Some(due) => self.client_crl.with_label_values(&[listener]).set(seconds(due)),
            // An error only says that there was none.
            None => drop(self.client_crl.remove_label_values(&[listener])),
        }
    }
}
