//! Which clients did not accept the certificate of an inspected tunnel: each is told of once a day for each host.
//!
//! A client that lacks the authority tries again and again, and the line on stderr that says what to install where is of use once.
//! The records are all written; only the line is bounded.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::words::target::Host;

/// Most pairs that are remembered. While there are so many, no other is told of.
const MOST: usize = 1024;
/// How long a pair is remembered.
const REMEMBERED: Duration = Duration::from_secs(24 * 3600);

/// The pairs that were told of, and when.
#[derive(Debug, Default)]
pub struct Distrusts(Mutex<HashMap<(IpAddr, Host), Instant>>);

impl Distrusts {
    /// Whether to tell that `client` does not accept a certificate for `host`.
    pub(crate) fn is_new(&self, client: IpAddr, host: &Host) -> bool {
        let now = Instant::now();
        // Plain values: a panic elsewhere leaves them correct.
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let pair = (client, host.clone());
        if told.get(&pair).is_some_and(|at| now.duration_since(*at) < REMEMBERED) {
            return false;
        }
        if told.len() >= MOST {
            told.retain(|_, at| now.duration_since(*at) < REMEMBERED);
        }
        told.len() < MOST && told.insert(pair, now).is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(number: usize) -> Host {
        Host::parse(&format!("h{number}.test")).expect("a name")
    }

    #[tokio::test(start_paused = true)]
    async fn a_pair_is_told_of_once_a_day_and_the_table_is_bounded() {
        let (distrusts, client) = (Distrusts::default(), IpAddr::from([10, 0, 0, 1]));
        assert!(distrusts.is_new(client, &host(0)));
        assert!(!distrusts.is_new(client, &host(0)));
        assert!(distrusts.is_new(IpAddr::from([10, 0, 0, 2]), &host(0)));
        for number in 1..MOST - 1 {
            assert!(distrusts.is_new(client, &host(number)), "{number}");
        }
        assert!(!distrusts.is_new(client, &host(MOST)));
        tokio::time::advance(REMEMBERED).await;
        assert!(distrusts.is_new(client, &host(MOST)));
        assert!(distrusts.is_new(client, &host(0)));
    }
}
