//! How long a client's connection is kept between two requests, and what the client is told of it.

use std::time::Duration;

/// How much longer a connection is held than its client was told: a request that is sent at the last moment is on its way for
/// as long as a packet takes, and once more if the packet is lost.
const MOST_MARGIN: u64 = 5;

/// The time between two requests on one connection: `http.keepalive_timeout`, one second at least.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KeepAlive(Duration);

impl KeepAlive {
    /// For this setting.
    pub fn new(timeout: Duration) -> Self {
        KeepAlive(timeout)
    }

    /// Seconds for `Keep-Alive: timeout=N`: a little less than [`KeepAlive::held`], and 1 at least, because 0 would say that the
    /// connection is not kept.
    pub fn announced(self) -> u64 {
        let seconds = self.0.as_secs();
        seconds.saturating_sub((seconds / 6).clamp(1, MOST_MARGIN)).max(1)
    }

    /// How long the connection is held.
    pub fn held(self) -> Duration {
        self.0.max(Duration::from_secs(self.announced()) + Duration::from_millis(500))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_told_a_little_less_than_the_time_for_which_its_connection_is_held() {
        for (setting, announced, held) in [
            (1000, 1, 1500),
            (1200, 1, 1500),
            (1999, 1, 1999),
            (2000, 1, 2000),
            (5000, 4, 5000),
            (10_000, 9, 10_000),
            (30_000, 25, 30_000),
            (60_000, 55, 60_000),
            (3_600_000, 3595, 3_600_000),
        ] {
            let keep = KeepAlive::new(Duration::from_millis(setting));
            assert_eq!(
                (keep.announced(), keep.held()),
                (announced, Duration::from_millis(held)),
                "{setting} ms"
            );
        }
        for setting in 1000..100_000 {
            let keep = KeepAlive::new(Duration::from_millis(setting));
            assert!(keep.announced() >= 1 && keep.held() >= Duration::from_millis(setting), "{setting} ms");
            assert!(keep.held() >= Duration::from_millis(keep.announced() * 1000 + 500), "{setting} ms");
        }
    }
}
