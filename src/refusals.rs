//! What strangers can cause without end, in the log at a bounded rate: connections that were closed before any request,
//! wrong passwords, requests beyond a client's rate.
//!
//! Whoever may not even speak to us costs a line for each connection, and could fill the log with them. So of one listener
//! and one reason at most [`MOST`] records are written at once in [`WINDOW`]; what comes beyond is counted, and told at its
//! end by one more record, whose `suppressed` says how many like it were left out. The metrics count every one. Not
//! here: what is refused (`entrance`, `proxy`).

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use uuid::Uuid;

use crate::client::{ClientAddr, PeerAddr};
use crate::listener::Listener;
use crate::outcome::{Decision, Reason};
use crate::recent::{Asking, Refusal};
use crate::shared::Shared;
use crate::telemetry::record::{Cause, Event, Record, new_id};

/// For so long records are counted.
const WINDOW: Duration = Duration::from_secs(1);
/// Records that are written at once in a window: of one listener and one reason.
const MOST: u32 = 10;

/// The reasons whose records are bounded: those for which a connection is closed before any request, and those for which a
/// client is answered that asks on and on, or guesses.
const REASONS: [Reason; 6] = [
    Reason::PeerNotTrusted,
    Reason::ProxyHeaderInvalid,
    Reason::TlsHandshakeFailed,
    Reason::ClientCertificateInvalid,
    Reason::AuthFailed,
    Reason::ClientRateLimited,
];

/// Who was refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Who {
    pub(crate) peer: PeerAddr,
    /// None where only a PROXY header would have told.
    pub(crate) client: Option<ClientAddr>,
}

/// The refusals of one listener.
#[derive(Debug, Default)]
pub(crate) struct Refusals([Mutex<Window>; REASONS.len()]);

/// The refusals of one listener for one reason.
#[derive(Debug, Default)]
struct Window {
    began: Option<Instant>,
    written: u32,
    held: Option<Held>,
}

/// What is not written yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Held {
    /// The last one.
    who: Who,
    /// How many came before it.
    before: u64,
}

/// What to do about one refusal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Verdict {
    Write,
    /// The first that is held back: what is held is to be written when the window ends.
    Hold,
    Count,
}

impl Window {
    fn add(&mut self, who: Who, now: Instant) -> Verdict {
        if self.began.is_none_or(|began| now.duration_since(began) >= WINDOW) {
            self.began = Some(now);
            self.written = 0;
        }
        if self.written < MOST {
            self.written += 1;
            return Verdict::Write;
        }
        match &mut self.held {
            Some(held) => {
                *held = Held { who, before: held.before.saturating_add(1) };
                Verdict::Count
            }
            None => {
                self.held = Some(Held { who, before: 0 });
                Verdict::Hold
            }
        }
    }
}

impl Refusals {
    fn window(&self, reason: Reason) -> Option<MutexGuard<'_, Window>> {
        let index = REASONS.iter().position(|known| *known == reason)?;
        // Plain numbers: a panic elsewhere leaves them as true as they were.
        self.0.get(index).map(|window| window.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Records that a connection was closed for `reason`, before any request. `why` is for the diagnostics: it says more than
/// the reason does, and comes with the record alone.
pub(crate) fn record(
    listener: &Arc<Listener>,
    shared: &Arc<Shared>,
    reason: Reason,
    who: Who,
    why: &dyn fmt::Display,
) {
    if has_place(listener, shared, reason, who) {
        let id = write(listener, shared, reason, who, None);
        tracing::info!(%id, "listener {}: {} refused, {reason}: {why}", listener.name, who.peer);
    }
}

/// Whether a request that is refused for `reason` may have its record: always, where the reason is none of the bounded
/// ones. Where not, it is counted here, and told at the window's end.
pub(crate) fn has_place(listener: &Arc<Listener>, shared: &Arc<Shared>, reason: Reason, who: Who) -> bool {
    shared.recent.note(&Refusal {
        at: Timestamp::now(),
        id: Uuid::nil(),
        listener: &listener.name,
        policy: None,
        rule: None,
        decision: Some(Decision::Deny),
        cause: reason.into(),
        asked: Asking::Nothing,
        client: Some(who.client.map_or(who.peer.ip(), ClientAddr::ip)),
        identity: None,
        sni: None,
    });
    let verdict = listener.refusals.window(reason).map(|mut window| window.add(who, Instant::now()));
    match verdict {
        None | Some(Verdict::Write) => true,
        Some(Verdict::Count) => false,
        Some(Verdict::Hold) => {
            let (listener, shared) = (Arc::clone(listener), Arc::clone(shared));
            let tracker = shared.drain.connections().clone();
            tracker.spawn(async move {
                // At the end there is no time to wait, and the number must not be lost.
                let _ = tokio::time::timeout(WINDOW, shared.drain.closed()).await;
                let held = listener.refusals.window(reason).and_then(|mut window| window.held.take());
                if let Some(Held { who, before }) = held {
                    write(&listener, &shared, reason, who, Some(before));
                }
            });
            false
        }
    }
}

fn write(listener: &Listener, shared: &Shared, reason: Reason, who: Who, suppressed: Option<u64>) -> Uuid {
    let config = shared.current.load().hash.short();
    let (id, cause) = (new_id(), Cause::Refused(reason));
    let mut record = Record::new(Event::of(cause), Timestamp::now(), id, &listener.name);
    record.client = who.client;
    record.peer = Some(who.peer);
    record.decision = reason.is_denial().then_some(Decision::Deny);
    record.reason = Some(cause);
    record.status = reason.status();
    record.config = Some(config);
    record.instance = Some(&shared.instance);
    record.suppressed = suppressed;
    shared.log.spare().write(&record);
    id
}

#[cfg(test)]
mod tests {
    use super::*;

    fn who(port: u16) -> Who {
        Who { peer: PeerAddr::new(([10, 0, 0, 1], port).into()), client: None }
    }

    #[test]
    fn ten_a_second_are_written_and_the_rest_is_told_by_the_last() {
        let start = Instant::now();
        let mut window = Window::default();
        for port in 0..10 {
            assert_eq!(window.add(who(port), start), Verdict::Write, "{port}");
        }
        assert_eq!(window.add(who(10), start), Verdict::Hold);
        for port in 11..100 {
            assert_eq!(window.add(who(port), start + WINDOW / 2), Verdict::Count, "{port}");
        }
        assert_eq!(window.held, Some(Held { who: who(99), before: 89 }));

        // In the next second what is held stays until it is written; nothing of it is lost.
        assert_eq!(window.add(who(100), start + WINDOW), Verdict::Write);
        assert_eq!(window.held.take().map(|held| held.before), Some(89));
        for port in 101..110 {
            assert_eq!(window.add(who(port), start + WINDOW), Verdict::Write, "{port}");
        }
        assert_eq!(window.add(who(110), start + WINDOW), Verdict::Hold);
    }

    #[test]
    fn each_reason_that_a_stranger_can_repeat_has_a_window_of_its_own() {
        let refusals = Refusals::default();
        for reason in Reason::ALL {
            let closes = crate::outcome::Refusal::Closed == reason.refusal() && reason.status().is_none();
            let repeats = matches!(reason, Reason::AuthFailed | Reason::ClientRateLimited);
            assert_eq!(refusals.window(*reason).is_some(), closes || repeats, "{reason}");
        }
    }
}
