//! The queue between the workers and the log's writer thread.
//!
//! Lines are stored one after the other in one buffer, which the writer takes whole and gives back empty. A record
//! costs its worker one copy of less than a kilobyte under a lock, and no allocation and no system call as long as the
//! writer is awake. The lock is held for that copy, or by the writer to swap two buffers: some 100 ns. So a lock-free
//! ring would gain nothing at the 20,000 lines a second that two cores can cause. What *is* lock-free is the
//! reservation ([`super::reservations`]) and the check whether the log works, which every request needs.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::reservations::Reservations;
use crate::config::Seal;
use crate::transport::held::{HeldBytes, Kind};

/// A monotonic clock: the time since some start. A parameter, so that tests need not wait.
pub type Clock = Arc<dyn Fn() -> Duration + Send + Sync>;

/// Bytes of one call of `write`, as whole lines: a pipe's usual size, so that places are freed as the reader reads and
/// not only after a whole burst.
pub(super) const WRITE_BYTES: usize = 64 * 1024;
/// While it lingers, the writer is woken early once this much waits: its two buffers then stay small in a burst.
const WAKE_BYTES: usize = 256 * 1024;
/// A buffer that grows may be twice as large as what is in it.
const CAPACITY: usize = 2;
/// A buffer that grew beyond this in a burst is freed.
const KEEP_BYTES: usize = 512 * 1024;

/// Lines and when they were queued.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) bytes: Vec<u8>,
    pub(super) lines: Vec<Line>,
}

#[derive(Clone, Copy)]
pub(super) struct Line {
    /// Where it ends in the batch's bytes.
    pub(super) end: usize,
    /// Its bytes in the queue, which a seal adds to; 0 for the line of a seal, which never was there.
    pub(super) queued: usize,
    pub(super) queued_at: Duration,
}

impl Batch {
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.lines.clear();
        if self.bytes.capacity() > KEEP_BYTES {
            *self = Batch::default();
        }
    }
}

/// What the writer is doing, as far as a worker with a new line must know.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Writer {
    /// Writing, or about to look again by itself: it needs no wake-up.
    Awake,
    /// Waits a moment for more lines to come.
    Lingering,
    /// Sleeps until it is woken.
    Parked,
    /// Ended; later lines are lost.
    Gone,
}

/// What workers and writer share under the lock.
struct UnderLock {
    filling: Batch,
    /// The writer holds a batch, and with it the oldest line.
    in_hand: bool,
    writer: Writer,
    stop: bool,
    abandon: bool,
    reopen: bool,
    sealing: Option<Seal>,
    /// The writer has ended: what it left is left.
    ended: bool,
}

/// What the writer does next.
pub(super) enum Next {
    /// Write the batch.
    Write,
    /// Open the output again.
    Reopen,
    /// It is time for a seal, and nothing waits to be written.
    Seal,
    /// Seal with another key, or at another pace.
    Sealing(Seal),
    /// Everything is written, and it was asked to end. No other record is taken.
    End,
}

/// Why a pause ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Woken {
    /// It is time.
    Elapsed,
    /// The output must be opened again.
    Reopen,
    /// Nothing waits for the rest any more.
    Abandon,
}

pub(super) struct Queue {
    state: Mutex<UnderLock>,
    wake: Condvar,
    ended: Condvar,
    pub(super) places: Reservations,
    clock: Clock,
    held: Arc<HeldBytes>,
    /// Microseconds plus one of the oldest line that is not on the output; 0: there is none.
    oldest: AtomicU64,
    /// The same for the first failure since the output last worked.
    failed_since: AtomicU64,
    gone: AtomicBool,
    queued: AtomicUsize,
    queued_bytes: AtomicUsize,
    written: AtomicU64,
    lost: AtomicU64,
    wakeups: AtomicU64,
}

impl Queue {
    pub(super) fn new(places: usize, clock: Clock, held: Arc<HeldBytes>) -> Self {
        Queue {
            state: Mutex::new(UnderLock {
                filling: Batch::default(),
                in_hand: false,
                writer: Writer::Awake,
                stop: false,
                abandon: false,
                reopen: false,
                sealing: None,
                ended: false,
            }),
            wake: Condvar::new(),
            ended: Condvar::new(),
            places: Reservations::new(places),
            clock,
            held,
            oldest: AtomicU64::new(0),
            failed_since: AtomicU64::new(0),
            gone: AtomicBool::new(false),
            queued: AtomicUsize::new(0),
            queued_bytes: AtomicUsize::new(0),
            written: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            wakeups: AtomicU64::new(0),
        }
    }

    fn lock(&self) -> MutexGuard<'_, UnderLock> {
        // Nothing under this lock panics half-way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // --- the workers' side

    /// Queues a line whose place is taken; the place comes back once the line is written.
    pub(super) fn push(&self, line: &[u8]) {
        let now = (self.clock)();
        let mut state = self.lock();
        if state.writer == Writer::Gone {
            drop(state);
            self.places.give_back(1);
            self.count_lost(1);
            return;
        }
        let before = state.filling.bytes.len();
        state.filling.bytes.extend_from_slice(line);
        let end = state.filling.bytes.len();
        state.filling.lines.push(Line { end, queued: line.len(), queued_at: now });
        self.queued.fetch_add(1, Ordering::Relaxed);
        self.queued_bytes.fetch_add(line.len(), Ordering::Relaxed);
        self.held.charge(Kind::Log, line.len() * CAPACITY);
        if !state.in_hand && state.filling.lines.len() == 1 {
            self.oldest.store(stamp(now), Ordering::Relaxed);
        }
        let call = match state.writer {
            Writer::Parked => true,
            Writer::Lingering => before < WAKE_BYTES && end >= WAKE_BYTES,
            Writer::Awake | Writer::Gone => false,
        };
        if call {
            state.writer = Writer::Awake;
        }
        drop(state);
        if call {
            self.wake.notify_one();
        }
    }

    pub(super) fn count_lost(&self, lines: usize) {
        self.lost.fetch_add(lines as u64, Ordering::Relaxed);
    }

    /// How long the log has not been working: since its output failed, or since its oldest line had waited for
    /// `stale`.
    pub(super) fn unavailable_for(&self, stale: Duration) -> Option<Duration> {
        let (failed, oldest) =
            (self.failed_since.load(Ordering::Relaxed), self.oldest.load(Ordering::Relaxed));
        if self.gone.load(Ordering::Relaxed) {
            return Some(Duration::MAX);
        }
        if failed == 0 && oldest == 0 {
            // The usual case: no clock is read.
            return None;
        }
        let now = (self.clock)();
        let since = |stamp: u64| now.saturating_sub(Duration::from_micros(stamp.saturating_sub(1)));
        let failed = (failed != 0).then(|| since(failed));
        let stalled = (oldest != 0).then(|| since(oldest)).filter(|age| *age > stale).map(|age| age - stale);
        failed.max(stalled)
    }

    pub(super) fn queued(&self) -> usize {
        self.queued.load(Ordering::Relaxed)
    }

    pub(super) fn queued_bytes(&self) -> usize {
        self.queued_bytes.load(Ordering::Relaxed)
    }

    pub(super) fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    pub(super) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// How often the writer woke up so far.
    pub(super) fn wakeups(&self) -> u64 {
        self.wakeups.load(Ordering::Relaxed)
    }

    // --- the handle's side

    pub(super) fn ask_reopen(&self) {
        self.lock().reopen = true;
        self.wake.notify_one();
    }

    /// Asks the writer to seal so from now on.
    pub(super) fn ask_sealing(&self, seal: Seal) {
        self.lock().sealing = Some(seal);
        self.wake.notify_one();
    }

    /// Asks the writer to write what is queued and end.
    pub(super) fn ask_stop(&self) {
        self.lock().stop = true;
        self.wake.notify_one();
    }

    /// Waits until the writer ended, at most for `timeout`; then tells it to leave the rest. Returns whether it ended, and
    /// how many lines are left.
    pub(super) fn wait_ended(&self, timeout: Duration) -> (bool, usize) {
        let state = self.lock();
        let (mut state, _) = self
            .ended
            .wait_timeout_while(state, timeout, |state| !state.ended)
            .unwrap_or_else(PoisonError::into_inner);
        state.abandon = true;
        let ended = state.ended;
        drop(state);
        self.wake.notify_one();
        (ended, self.queued())
    }

    // --- the writer's side

    /// Waits for work. `batch` is passed in empty and comes back full; `linger` is how long to wait for more lines, so
    /// that many are written at once; `seal` is when a seal is due although no line comes.
    pub(super) fn next(&self, batch: &mut Batch, linger: Duration, seal: Option<Instant>) -> Next {
        batch.clear();
        let mut until = Instant::now() + linger;
        let mut state = self.lock();
        state.in_hand = false;
        self.set_oldest(state.filling.lines.first());
        loop {
            if state.reopen {
                state.reopen = false;
                return Next::Reopen;
            }
            if let Some(seal) = state.sealing.take() {
                return Next::Sealing(seal);
            }
            let waiting = state.filling.bytes.len();
            let rest = until.saturating_duration_since(Instant::now());
            if waiting > 0 && (state.stop || rest.is_zero() || waiting >= WAKE_BYTES) {
                std::mem::swap(batch, &mut state.filling);
                state.in_hand = true;
                state.writer = Writer::Awake;
                return Next::Write;
            }
            if state.stop {
                self.close(&mut state);
                return Next::End;
            }
            if waiting == 0 && rest.is_zero() {
                let until_seal = seal.map(|due| due.saturating_duration_since(Instant::now()));
                if until_seal.is_some_and(|rest| rest.is_zero()) {
                    return Next::Seal;
                }
                state.writer = Writer::Parked;
                state = match until_seal {
                    None => self.wake.wait(state).unwrap_or_else(PoisonError::into_inner),
                    Some(rest) => {
                        self.wake.wait_timeout(state, rest).unwrap_or_else(PoisonError::into_inner).0
                    }
                };
                // The first line after a rest goes out at once; lingering comes after it.
                until = Instant::now();
            } else {
                state.writer = Writer::Lingering;
                (state, _) = self.wake.wait_timeout(state, rest).unwrap_or_else(PoisonError::into_inner);
            }
            state.writer = Writer::Awake;
            self.wakeups.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Sleeps while the output fails; new lines do not wake it.
    pub(super) fn pause(&self, time: Duration) -> Woken {
        let state = self.lock();
        let (mut state, _) = self
            .wake
            .wait_timeout_while(state, time, |state| !state.reopen && !state.abandon)
            .unwrap_or_else(PoisonError::into_inner);
        self.wakeups.fetch_add(1, Ordering::Relaxed);
        if state.abandon {
            return Woken::Abandon;
        }
        if std::mem::take(&mut state.reopen) { Woken::Reopen } else { Woken::Elapsed }
    }

    /// `lines` lines of `bytes` bytes reached the output; `next` is the oldest now, if the batch has more.
    pub(super) fn done(&self, lines: usize, bytes: usize, next: Option<&Line>) {
        self.failed_since.store(0, Ordering::Relaxed);
        if next.is_some() {
            // If it has no more, the queue may hold the oldest: `next` looks under the lock.
            self.set_oldest(next);
        }
        self.queued.fetch_sub(lines, Ordering::Relaxed);
        self.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.held.give_back(Kind::Log, bytes * CAPACITY);
        self.written.fetch_add(lines as u64, Ordering::Relaxed);
        self.places.give_back(lines);
    }

    /// The output failed. Returns whether it worked before.
    pub(super) fn failed(&self) -> bool {
        let now = stamp((self.clock)());
        self.failed_since.compare_exchange(0, now, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    pub(super) fn has_failed(&self) -> bool {
        self.failed_since.load(Ordering::Relaxed) != 0
    }

    pub(super) fn stopping(&self) -> bool {
        self.lock().stop
    }

    /// The writer ends, whatever is left: from now on the log is permanently unavailable.
    pub(super) fn writer_ended(&self) {
        let mut state = self.lock();
        self.close(&mut state);
        state.ended = true;
        self.ended.notify_all();
    }

    /// Takes no more lines.
    fn close(&self, state: &mut UnderLock) {
        if state.writer != Writer::Gone {
            state.writer = Writer::Gone;
            self.count_lost(self.queued());
            self.gone.store(true, Ordering::Relaxed);
        }
    }

    fn set_oldest(&self, line: Option<&Line>) {
        self.oldest.store(line.map_or(0, |line| stamp(line.queued_at)), Ordering::Relaxed);
    }
}

fn stamp(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX - 1) + 1
}
