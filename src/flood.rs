//! How many of the records that strangers can cause without end are written: the counting alone, of one listener.
//!
//! Of one reason at most [`MOST`] records are written at once in [`WINDOW`]; what comes beyond is counted, and held to be
//! told at its end. Not here: the records (`refusals`).

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::client::{ClientAddr, PeerAddr};
use crate::outcome::Reason;

/// For so long records are counted.
pub(crate) const WINDOW: Duration = Duration::from_secs(1);
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

/// What strangers caused at one listener.
#[derive(Debug, Default)]
pub(crate) struct Flood([Mutex<Window>; REASONS.len()]);

/// The refusals of one listener for one reason.
#[derive(Debug, Default)]
struct Window {
    began: Option<Instant>,
    written: u32,
    held: Option<Held>,
}

/// What is not written yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Held {
    /// The last one.
    pub(crate) who: Who,
    /// How many came before it.
    pub(crate) before: u64,
}

/// What to do about one refusal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
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

impl Flood {
    /// Counts one. None: `reason` is none of the bounded ones.
    pub(crate) fn add(&self, reason: Reason, who: Who) -> Option<Verdict> {
        self.window(reason).map(|mut window| window.add(who, Instant::now()))
    }

    /// What is held for `reason`, to be written now.
    pub(crate) fn take(&self, reason: Reason) -> Option<Held> {
        self.window(reason)?.held.take()
    }

    fn window(&self, reason: Reason) -> Option<MutexGuard<'_, Window>> {
        let index = REASONS.iter().position(|known| *known == reason)?;
        // Plain numbers: a panic elsewhere leaves them as true as they were.
        self.0.get(index).map(|window| window.lock().unwrap_or_else(PoisonError::into_inner))
    }
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
        let flood = Flood::default();
        for reason in Reason::ALL {
            let closes = crate::outcome::Refusal::Closed == reason.refusal() && reason.status().is_none();
            let repeats = matches!(reason, Reason::AuthFailed | Reason::ClientRateLimited);
            assert_eq!(flood.window(*reason).is_some(), closes || repeats, "{reason}");
        }
    }
}
