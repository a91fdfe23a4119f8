//! Turns leave a part of the processor's quota to what takes none.
//!
//! A control group that has used up its quota of a period stands still until the next one begins: with a quarter of a processor for 75 of
//! 100 ms. What takes turns can use up any quota, and then everybody who comes waits so long, however short what he asks for is. So a turn
//! begins only while the program has used less than the quota without that part. A turn waits for no longer than
//! [`AHEAD`]. What others use in that time makes the next turn wait for no more than [`AGAIN`]: other work must not stop turns, nor make
//! thousands of short ones wait for so long each.

use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// The part of the quota that is left, and no more of a period than that: a new tunnel costs a millisecond.
const LEFT: u32 = 4;
const LEFT_OF_PERIOD: u32 = 10;
/// So much of a quiet time may be used later, and so long a turn waits at most.
const AHEAD: Duration = Duration::from_millis(20);
/// What was used while a turn waited counts for the next one, but for no more than this.
const AGAIN: Duration = Duration::from_millis(2);

/// Of the program; none without a quota.
static PACE: OnceLock<Pace> = OnceLock::new();

/// All turns keep to this: so much time of processors in each period. Said once, at the start.
pub fn keep_to(quota: Duration, period: Duration) {
    let _ = PACE.set(Pace::new(quota, period));
}

/// Whether there is a quota to keep to.
pub fn has_quota() -> bool {
    PACE.get().is_some()
}

/// For how long a turn has to wait that is about to begin.
pub(super) fn pause() -> Option<Duration> {
    PACE.get()?.pause(Instant::now(), used())
}

/// A turn begins after its pause.
pub(super) fn paused() {
    if let Some(pace) = PACE.get() {
        pace.left(AGAIN, Instant::now(), used());
    }
}

/// The time of processors that the program has used.
fn used() -> Duration {
    let used = clock_gettime(ClockId::ProcessCPUTime);
    let (seconds, nanoseconds) = (u64::try_from(used.tv_sec), u32::try_from(used.tv_nsec));
    Duration::new(seconds.unwrap_or_default(), nanoseconds.unwrap_or_default())
}

#[derive(Debug)]
struct Pace {
    /// Seconds of processors in a second.
    rate: f64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// When it was asked last, and what the program had used by then.
    seen: Option<(Instant, Duration)>,
    /// Seconds of processors that may be used now; what is below zero was too much.
    left: f64,
}

impl Pace {
    fn new(quota: Duration, period: Duration) -> Self {
        let left = (quota / LEFT).min(period / LEFT_OF_PERIOD);
        let rate = quota.saturating_sub(left).as_secs_f64() / period.as_secs_f64();
        Pace { rate, state: Mutex::default() }
    }

    fn pause(&self, now: Instant, used: Duration) -> Option<Duration> {
        let left = self.left(AHEAD, now, used);
        if left >= 0.0 {
            return None;
        }
        Duration::try_from_secs_f64(-left / self.rate).ok()
    }

    /// What is left now. If more than that was used, what takes longer than `most` to come again is forgotten.
    fn left(&self, most: Duration, now: Instant, used: Duration) -> f64 {
        // Plain numbers: a panic elsewhere leaves them correct.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (at, before) = state.seen.unwrap_or((now, used));
        let passed = now.saturating_duration_since(at).as_secs_f64();
        let spent = used.saturating_sub(before).as_secs_f64();
        let (least, ahead) = (-self.rate * most.as_secs_f64(), self.rate * AHEAD.as_secs_f64());
        state.left = (state.left + passed * self.rate - spent).clamp(least, ahead);
        state.seen = Some((now, used));
        state.left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PERIOD: Duration = Duration::from_millis(100);

    /// What is used in `periods` periods by turns that each cost `turn`, while others use `others` of each period.
    fn used(pace: &Pace, periods: u32, turn: Duration, others: Duration) -> Duration {
        let begun = Instant::now();
        let (mut now, mut used, mut in_turns) = (Duration::ZERO, Duration::ZERO, Duration::ZERO);
        while now < PERIOD * periods {
            let others = |passed: Duration| others.mul_f64(passed.as_secs_f64() / PERIOD.as_secs_f64());
            if let Some(pause) = pace.pause(begun + now, used) {
                assert!(pause <= AHEAD + Duration::from_micros(1), "{pause:?}");
                // Timers are late.
                let pause = pause + Duration::from_millis(1);
                now += pause;
                used += others(pause);
                pace.left(AGAIN, begun + now, used);
            }
            now += turn;
            used += turn + others(turn);
            in_turns += turn;
        }
        in_turns
    }

    #[test]
    fn turns_use_what_the_quota_has_without_the_part_that_is_left() {
        let millis = Duration::from_millis;
        for (quota, others, least, most) in [
            // A quarter of a processor, of which a quarter is left.
            (25, 0, 175, 192),
            (25, 10, 80, 92),
            // Others use more than all of it: turns still come, and short ones soon.
            (25, 40, 60, 90),
            // One processor, and two, of which a tenth of a period is left.
            (100, 0, 880, 915),
            (200, 0, 990, 1010),
        ] {
            let pace = Pace::new(millis(quota), PERIOD);
            let in_turns = used(&pace, 10, Duration::from_micros(500), millis(others));
            assert!((millis(least)..=millis(most)).contains(&in_turns), "{quota} {others}: {in_turns:?}");
        }
    }

    #[test]
    fn after_a_quiet_time_no_more_than_the_quota_is_used_at_once() {
        let pace = Pace::new(Duration::from_millis(25), PERIOD);
        let begun = Instant::now();
        assert_eq!(pace.pause(begun, Duration::ZERO), None);
        let mut used = Duration::ZERO;
        while pace.pause(begun + PERIOD * 100, used).is_none() {
            used += Duration::from_micros(100);
        }
        assert!(used <= Duration::from_millis(4), "{used:?}");
    }
}
