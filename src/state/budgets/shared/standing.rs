//! How it stands with the store, for the metric, the status page and stderr.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How often a fault that goes on is told again on stderr.
const AGAIN: Duration = Duration::from_secs(60);

/// How it stands with the store.
#[derive(Debug, Default)]
pub struct Standing(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    up: Option<bool>,
    since: Option<Instant>,
    why: Option<Box<str>>,
    /// When and what was last told of it.
    told: Option<(Instant, Box<str>)>,
}

/// The same at one moment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Told {
    /// Whether it answers; `None`: it is not asked, because no rule has a budget.
    pub up: Option<bool>,
    /// For how long.
    pub since: Duration,
    /// Why it does not.
    pub why: Option<Box<str>>,
}

impl Standing {
    /// How it stands.
    pub fn told(&self) -> Told {
        let state = self.lock();
        let since = state.since.map_or(Duration::ZERO, |since| since.elapsed());
        Told { up: state.up, since, why: state.why.clone() }
    }

    /// Nothing is asked.
    pub(super) fn idle(&self) {
        *self.lock() = State::default();
    }

    /// It answers.
    pub(super) fn up(&self, at: &str) {
        let mut state = self.lock();
        if state.up != Some(true) {
            tracing::info!("shared_state: the store at {at} counts the upload budgets");
            *state = State { up: Some(true), since: Some(Instant::now()), ..State::default() };
        }
    }

    /// It does not answer.
    pub(super) fn down(&self, why: &str) {
        let (mut state, now) = (self.lock(), Instant::now());
        if state.up != Some(false) {
            (state.up, state.since) = (Some(false), Some(now));
        }
        let is_new = state.told.as_ref().is_none_or(|(at, text)| **text != *why || at.elapsed() >= AGAIN);
        if is_new {
            tracing::warn!("shared_state: the store cannot be asked: {why}");
            state.told = Some((now, why.into()));
        }
        state.why = Some(why.into());
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics under the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
