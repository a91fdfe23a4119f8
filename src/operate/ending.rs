//! The end: stops accepting, waits for what is open, and ends what is left when the time is up.
//!
//! Not here: the log's last records, which [`super::server`] waits for.

use std::time::Duration;

use tokio::sync::mpsc::Receiver;
use tokio::task::JoinHandle;

use crate::operate::phrases::spoken;
use crate::state::shared::Shared;
use crate::words::counted::counted;
use crate::words::outcome::Ending;

/// How long tunnels that were ended by the shutdown may take to write their records.
const LAST_RECORDS: Duration = Duration::from_secs(2);
/// Time between two searches for tunnels to end.
const SWEEP: Duration = Duration::from_millis(50);

/// What a running server can be told from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Drain; a second one ends at once.
    Terminate,
    /// Reload the configuration and reopen log files.
    HangUp,
}

/// Stops accepting, waits for open tunnels, then ends them. A second TERM skips the wait.
pub(super) async fn drain(signals: &mut Receiver<Signal>, shared: &Shared, accepting: Vec<JoinHandle<()>>) {
    let settings = shared.current.load().shutdown.clone();
    shared.drain.go();
    if !settings.delay.is_zero() {
        tracing::info!("shutting down: accepting for {} more", spoken(settings.delay));
    }
    tokio::select! {
        () = patiently(shared, settings.delay, settings.grace_period) => {}
        () = terminated_again(signals, shared) => tracing::warn!("second request to shut down: ending at once"),
    }
    shared.drain.end();
    for listener in accepting {
        // A listener that panicked has closed its socket as well.
        let _ = listener.await;
    }
    let mut ended = 0;
    let over = async {
        loop {
            // Again and again: a tunnel that was still dialling when the drain began registers only now.
            ended += shared.live.cancel_where(Ending::Drained, |_| true);
            let all = shared.drain.connections().wait();
            if tokio::time::timeout(SWEEP, all).await.is_ok() {
                return;
            }
        }
    };
    let in_time = tokio::time::timeout(LAST_RECORDS, over).await.is_ok();
    if ended > 0 {
        tracing::warn!("the shutdown ended {}", counted(ended, "open tunnel", "open tunnels"));
    }
    if !in_time {
        let connections = counted(shared.drain.connections().len(), "connection", "connections");
        tracing::error!("{connections} did not end in time");
    }
}

async fn patiently(shared: &Shared, delay: Duration, grace_period: Duration) {
    tokio::time::sleep(delay).await;
    match shared.live.tunnels() {
        0 => tracing::info!("draining: no open tunnels"),
        open => {
            let tunnels = counted(open, "open tunnel has", "open tunnels have");
            tracing::info!("draining: {tunnels} up to {}", spoken(grace_period));
        }
    }
    shared.drain.close();
    // Over when the last connection has ended, or when the time is up.
    let _ = tokio::time::timeout(grace_period, shared.drain.connections().wait()).await;
}

async fn terminated_again(signals: &mut Receiver<Signal>, shared: &Shared) {
    loop {
        match signals.recv().await {
            Some(Signal::Terminate) => return,
            Some(Signal::HangUp) => shared.log.reopen(),
            None => std::future::pending().await,
        }
    }
}
