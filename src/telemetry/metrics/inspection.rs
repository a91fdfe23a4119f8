//! The authority for inspection, and what it signs.

use jiff::Timestamp;
use prometheus::core::Collector;
use prometheus::{GaugeVec, IntCounterVec, Opts};

use crate::transport::tls::mint::Origin;

/// What inspected tunnels show to clients, in numbers.
#[derive(Clone)]
pub struct Inspection {
    leaves: IntCounterVec,
    /// Without a label: a series only while there is an authority.
    authority: GaugeVec,
}

impl Inspection {
    pub(super) fn new() -> prometheus::Result<Self> {
        Ok(Inspection {
            leaves: IntCounterVec::new(
                Opts::new(
                    "egressd_leaf_certificates_total",
                    "Certificates of one name that clients of inspected tunnels were shown, by whether they were made for it.",
                ),
                &["result"],
            )?,
            authority: GaugeVec::new(
                Opts::new(
                    "egressd_authority_expires_timestamp_seconds",
                    "When the authority for inspection expires, in seconds since the epoch.",
                ),
                &[],
            )?,
        })
    }

    pub(super) fn collectors(&self) -> [Box<dyn Collector>; 2] {
        [Box::new(self.leaves.clone()), Box::new(self.authority.clone())]
    }
}

impl Inspection {
    /// A client is shown a leaf.
    pub fn leaf(&self, origin: Origin) {
        self.leaves.with_label_values(&[origin.as_str()]).inc();
    }

    /// The authority of the configuration that was put in force expires then; `None`: there is none.
    pub fn authority_expires(&self, expires: Option<Timestamp>) {
        let Inspection { leaves, authority } = self;
        match expires {
            Some(expires) => {
                authority.with_label_values(&[] as &[&str]).set(expires.as_second() as f64);
                for origin in Origin::ALL {
                    leaves.with_label_values(&[origin.as_str()]);
                }
            }
            // An error only says that there was none.
            None => drop(authority.remove_label_values(&[] as &[&str])),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{metrics, value};
    use super::*;

    #[test]
    fn the_authority_has_a_series_while_there_is_one_and_leaves_are_counted_by_origin() {
        let (metrics, ..) = metrics();
        let expires = "egressd_authority_expires_timestamp_seconds";
        let read = |series: &str| value(&metrics.render().expect("rendered"), series);
        assert_eq!(read(expires), None);
        metrics.inspection.authority_expires(Some(Timestamp::from_second(1_900_000_000).expect("a moment")));
        assert_eq!(read(expires), Some(1_900_000_000.0));
        assert_eq!(read(r#"egressd_leaf_certificates_total{result="cached"}"#), Some(0.0));
        metrics.inspection.leaf(Origin::Minted);
        metrics.inspection.leaf(Origin::Cached);
        metrics.inspection.leaf(Origin::Cached);
        assert_eq!(read(r#"egressd_leaf_certificates_total{result="minted"}"#), Some(1.0));
        assert_eq!(read(r#"egressd_leaf_certificates_total{result="cached"}"#), Some(2.0));
        metrics.inspection.authority_expires(None);
        assert_eq!(read(expires), None);
    }
}
