//! The stages of a shutdown, for everything that must know them.
//!
//! Serving → going (TERM came; still accepting, because a load balancer still sends) → handed over (no new connections, because
//! the holder of the listening sockets keeps them for the next process; what was accepted is served) → closed (no new
//! connections, no new requests; open tunnels go on) → all ended. Not here: ending what is still open, which
//! [`crate::operate::ending`] does.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio_util::sync::{CancellationToken, WaitForCancellationFuture};
use tokio_util::task::TaskTracker;

/// Shared by listeners, connections and the admin page.
#[derive(Debug, Default)]
pub struct Drain {
    going: AtomicBool,
    handed_over: CancellationToken,
    closed: CancellationToken,
    ended: CancellationToken,
    connections: TaskTracker,
}

impl Drain {
    /// TERM came: `/readyz` answers 503, nothing else changes.
    pub fn go(&self) {
        self.going.store(true, Ordering::Relaxed);
    }

    /// Whether TERM came.
    pub fn is_going(&self) -> bool {
        self.going.load(Ordering::Relaxed)
    }

    /// Listeners stop accepting. Only for sockets that others hold as well: in theirs, clients wait for the next process.
    pub fn hand_over(&self) {
        self.go();
        self.handed_over.cancel();
    }

    /// Ready once no more connections are accepted: [`Drain::hand_over`] or [`Drain::close`] was called.
    pub fn over(&self) -> WaitForCancellationFuture<'_> {
        self.handed_over.cancelled()
    }

    /// Listeners close, and clients that have not sent a request are no longer waited for.
    pub fn close(&self) {
        self.hand_over();
        self.closed.cancel();
        self.connections.close();
    }

    /// Whether new requests are refused.
    pub fn is_closed(&self) -> bool {
        self.closed.is_cancelled()
    }

    /// Ready once [`Drain::close`] was called.
    pub fn closed(&self) -> WaitForCancellationFuture<'_> {
        self.closed.cancelled()
    }

    /// Ready this long after [`Drain::close`] was called, and at the latest with [`Drain::end`].
    pub async fn closed_for(&self, time: Duration) {
        self.closed().await;
        let _ = tokio::time::timeout(time, self.ended()).await;
    }

    /// The time is over: everything that is still open ends.
    pub fn end(&self) {
        self.close();
        self.ended.cancel();
    }

    /// Ready once [`Drain::end`] was called.
    pub fn ended(&self) -> WaitForCancellationFuture<'_> {
        self.ended.cancelled()
    }

    /// Where connections are spawned, so that a drain can wait for them.
    pub fn connections(&self) -> &TaskTracker {
        &self.connections
    }
}
