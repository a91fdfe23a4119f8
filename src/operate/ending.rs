//! The end: stops accepting, waits for what is open, and ends what is left when the time is up.
//!
//! Not here: the log's last records, which [`super::server`] waits for.

use std::time::Duration;

use tokio::sync::mpsc::Receiver;
use tokio::task::JoinHandle;

use crate::config::Shutdown;
use crate::operate::phrases::spoken;
use crate::operate::systemd::Manager;
use crate::state::shared::Shared;
use crate::words::counted::counted;
use crate::words::outcome::Ending;

/// How long tunnels that were ended by the shutdown may take to write their records.
const LAST_RECORDS: Duration = Duration::from_secs(2);
/// How long a connection that was accepted may take to send its request, if its listener's socket stays open in other hands. Nobody else
/// can serve it.
const HAND_OVER: Duration = Duration::from_secs(2);
/// Beyond all that: the log's last records.
const SLACK: Duration = Duration::from_secs(10);
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

/// Whose the listening sockets are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sockets {
    /// Ours alone: the kernel refuses clients as soon as they are closed.
    Own,
    /// At least one is the service manager's as well: clients wait in it for the next process.
    Passed,
}

/// Stops accepting, waits for open tunnels, then ends them. A second TERM skips the wait.
pub(super) async fn drain(
    signals: &mut Receiver<Signal>,
    shared: &Shared,
    sockets: Sockets,
    mut accepting: Vec<JoinHandle<()>>,
    manager: &Manager,
) {
    let settings = shared.current.load().shutdown.clone();
    let longest = settings.delay + HAND_OVER + settings.grace_period + LAST_RECORDS + SLACK;
    manager.stopping(longest, "shutting down");
    shared.drain.go();
    if !settings.delay.is_zero() {
        tracing::info!("shutting down: accepting for {} more", spoken(settings.delay));
    }
    tokio::select! {
        () = patiently(shared, (sockets, &mut accepting), &settings, manager) => {}
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

async fn patiently(
    shared: &Shared,
    (sockets, accepting): (Sockets, &mut Vec<JoinHandle<()>>),
    settings: &Shutdown,
    manager: &Manager,
) {
    let Shutdown { delay, grace_period } = *settings;
    tokio::time::sleep(delay).await;
    if sockets == Sockets::Passed {
        hand_over(shared, accepting).await;
    }
    let said = match shared.live.tunnels() {
        0 => "draining: no open tunnels".to_owned(),
        open => {
            let tunnels = counted(open, "open tunnel has", "open tunnels have");
            format!("draining: {tunnels} up to {}", spoken(grace_period))
        }
    };
    tracing::info!("{said}");
    manager.draining(said);
    shared.drain.close();
    // Over when the last connection has ended, or when the time is up.
    let _ = tokio::time::timeout(grace_period, shared.drain.connections().wait()).await;
}

/// Accepts no more, and lets each connection that was accepted send its request: it is served like any other.
async fn hand_over(shared: &Shared, accepting: &mut Vec<JoinHandle<()>>) {
    shared.drain.hand_over();
    let asked = async {
        // One that was accepted just now is no connection's task before the listener has ended.
        while let Some(listener) = accepting.last_mut() {
            let _ = listener.await;
            accepting.pop();
        }
        // A tunnel has sent it.
        while shared.drain.connections().len() > shared.live.tunnels() {
            tokio::time::sleep(SWEEP).await;
        }
    };
    let _ = tokio::time::timeout(HAND_OVER, asked).await;
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
