//! Who went where: what was allowed since the start, by client and target, for the status page.
//!
//! The log has each request; this has each pair of a client and a target once. It is bounded, whatever clients send:
//! [`BYTES`] for all, and a share for each client ([`super::by_client`]). Requests inside a tunnel are not counted: the
//! tunnel is. Not here: what was refused ([`super::recent`]), and the numbers by rule ([`crate::telemetry::metrics`]).

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;

use super::by_client::{ByClient, Rank, Remembered};
use crate::words::target::{Host, Port, Target};

/// Bytes of all pairs: some 3,000 of them.
pub const BYTES: usize = 1024 * 1024;
/// Bytes kept of an identity.
const LONGEST: usize = 128;

/// One request that reached its target.
#[derive(Clone, Copy, Debug)]
pub struct Passage<'a> {
    /// When.
    pub at: Timestamp,
    /// The client.
    pub client: IpAddr,
    /// The address that stands for it where clients are counted: whose share it takes.
    pub account: IpAddr,
    /// The identity that the client proved.
    pub identity: Option<&'a str>,
    /// What it asked for.
    pub target: &'a Target,
    /// Only report mode let it pass.
    pub by_report_mode: bool,
}

/// A client and a target.
#[derive(Clone, Debug)]
pub struct Pair {
    /// The client.
    pub client: IpAddr,
    /// The identity that it proved last.
    pub identity: Option<Box<str>>,
    /// The target's host.
    pub host: Host,
    /// The target's port.
    pub port: Port,
    /// How often.
    pub count: u64,
    /// How often only report mode let it pass.
    pub by_report_mode: u64,
    /// The last time.
    pub last: Timestamp,
}

/// The pairs. One for the whole program.
#[derive(Debug, Default)]
pub struct Allowed(Mutex<Table>);

#[derive(Debug)]
struct Table {
    hasher: RandomState,
    pairs: ByClient<Pair>,
}

impl Default for Table {
    fn default() -> Self {
        Table { hasher: RandomState::new(), pairs: ByClient::new(BYTES) }
    }
}

impl Allowed {
    /// Counts one request.
    pub fn note(&self, passage: &Passage<'_>) {
        // Plain values: a panic elsewhere leaves them correct.
        self.0.lock().unwrap_or_else(PoisonError::into_inner).note(passage);
    }

    /// All pairs, in no order.
    pub fn pairs(&self) -> Vec<Arc<Pair>> {
        let pairs = self.0.lock().unwrap_or_else(PoisonError::into_inner).pairs.snapshot();
        pairs.into_iter().map(|(_, pair)| pair).collect()
    }
}

impl Table {
    fn note(&mut self, passage: &Passage<'_>) {
        let Passage { at, client, account, identity, target, by_report_mode } = *passage;
        let hash = self.hasher.hash_one((client, &target.host, target.port));
        let identity =
            identity.map(|text| text.get(..LONGEST).unwrap_or(text)).filter(|text| text.len() <= LONGEST);
        let is_same =
            |pair: &Pair| pair.client == client && pair.host == target.host && pair.port == target.port;
        if !self.pairs.get(hash).is_some_and(is_same) {
            let pair = Pair {
                client,
                identity: identity.map(Into::into),
                host: target.host.clone(),
                port: target.port,
                count: 0,
                by_report_mode: 0,
                last: at,
            };
            self.pairs.insert(hash, Some(account), pair);
        }
        self.pairs.change(hash, |pair| {
            pair.count = pair.count.saturating_add(1);
            pair.by_report_mode = pair.by_report_mode.saturating_add(by_report_mode.into());
            pair.last = pair.last.max(at);
            if pair.identity.as_deref() != identity {
                pair.identity = identity.map(Into::into);
            }
        });
    }
}

impl Remembered for Pair {
    fn rank(&self) -> Rank {
        (self.count, self.last)
    }

    fn bytes(&self) -> usize {
        let host = match &self.host {
            Host::Name(name) => name.as_str().len() + 16,
            Host::Address(_) => 0,
        };
        size_of::<Self>() + host + self.identity.as_ref().map_or(0, |text| text.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(allowed: &Allowed, second: i64, client: [u8; 4], target: &str, by_report_mode: bool) {
        let target = Target::connect(target).expect(target);
        allowed.note(&Passage {
            at: Timestamp::from_second(second).expect("a moment"),
            client: client.into(),
            account: client.into(),
            identity: Some("user:a"),
            target: &target,
            by_report_mode,
        });
    }

    #[test]
    fn a_client_and_a_target_are_one_pair() {
        let allowed = Allowed::default();
        note(&allowed, 1, [10, 0, 0, 1], "a.test:443", false);
        note(&allowed, 2, [10, 0, 0, 1], "A.test.:443", true);
        note(&allowed, 3, [10, 0, 0, 1], "a.test:22", false);
        note(&allowed, 4, [10, 0, 0, 2], "a.test:443", false);
        let mut pairs = allowed.pairs();
        pairs.sort_by_key(|pair| pair.last);
        let told: Vec<_> =
            pairs.iter().map(|pair| (pair.last.as_second(), pair.count, pair.by_report_mode)).collect();
        assert_eq!(told, [(2, 2, 1), (3, 1, 0), (4, 1, 0)]);
        assert_eq!(pairs[0].identity.as_deref(), Some("user:a"));
    }

    #[test]
    fn a_client_that_reaches_thousands_pushes_out_its_own() {
        let allowed = Allowed::default();
        for number in 0..10 {
            note(&allowed, 1, [10, 0, 0, 1], &format!("kept{number}.test:443"), false);
        }
        for number in 0..20_000 {
            note(&allowed, 2, [10, 0, 0, 2], &format!("n{number}.test:443"), false);
        }
        let pairs = allowed.pairs();
        assert!((2_000..10_000).contains(&pairs.len()), "{}", pairs.len());
        assert_eq!(pairs.iter().filter(|pair| pair.client == IpAddr::from([10, 0, 0, 1])).count(), 10);
    }
}
