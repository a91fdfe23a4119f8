//! Records on their way to the receiver, with a bound: one that finds no room is dropped and counted.
//!
//! A worker copies its record under a lock, as for the log's own queue, and goes on. Not here: the sending ([`super::export`]).

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::message::Line;
use crate::telemetry::record::Record;
use crate::transport::held::{HeldBytes, Kind};

/// Most bytes that wait, the batch that is being sent included.
const MOST_BYTES: usize = 8 * 1024 * 1024;
/// A part of `limits.memory`, if that is less.
const SHARE: usize = 32;
/// What a record takes beside its line: its place in the queue, and its allocation.
const BESIDE: usize = 64;
/// Records of one batch at most, and bytes of their lines: collectors take 4 MiB and more.
const BATCH: usize = 512;
const BATCH_BYTES: usize = 512 * 1024;

/// What became of records so far.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct OtlpCounts {
    /// The receiver has them.
    pub exported: u64,
    /// There was no room.
    pub dropped: u64,
    /// The receiver does not want them, or what is there is no receiver.
    pub rejected: u64,
    /// The program ended first.
    pub lost: u64,
}

/// Takes records. Cheap to clone.
#[derive(Clone)]
pub struct Outbox(Arc<Inner>);

struct Inner {
    state: Mutex<State>,
    wake: Notify,
    /// What the receiver is made of may be another now.
    reloaded: Notify,
    most: AtomicUsize,
    held: Arc<HeldBytes>,
    exported: AtomicU64,
    dropped: AtomicU64,
    rejected: AtomicU64,
    lost: AtomicU64,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Line>,
    /// Of those that wait, and of the batch that is being sent.
    bytes: usize,
    /// Nothing comes any more that is worth waiting for.
    closed: bool,
}

/// Records that are sent together. What is not told of them when it is dropped is lost.
pub(super) struct Batch {
    outbox: Outbox,
    pub(super) lines: Arc<[Line]>,
    bytes: usize,
    told: bool,
}

thread_local! {
    static LINE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

impl Outbox {
    /// With room for a part of `memory`, which is what `held` may hold.
    pub fn new(held: Arc<HeldBytes>, memory: usize) -> Self {
        let outbox = Outbox(Arc::new(Inner {
            state: Mutex::default(),
            wake: Notify::new(),
            reloaded: Notify::new(),
            most: AtomicUsize::new(0),
            held,
            exported: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            rejected: AtomicU64::new(0),
            lost: AtomicU64::new(0),
        }));
        outbox.set_memory(memory);
        outbox
    }

    /// Follows `limits.memory`.
    pub fn set_memory(&self, memory: usize) {
        self.0.most.store((memory / SHARE).min(MOST_BYTES), Ordering::Relaxed);
    }

    /// Another configuration is in force: what is sent, or waits to be sent again, goes where that says.
    pub fn reload(&self) {
        self.0.reloaded.notify_one();
    }

    /// Until another configuration is in force.
    pub(super) async fn reloaded(&self) {
        self.0.reloaded.notified().await;
    }

    /// Takes a copy of the record, or drops it.
    pub fn offer(&self, record: &Record<'_>) {
        LINE.with_borrow_mut(|json| {
            json.clear();
            record.write_json(json);
            self.push(Line::new(record, json.trim_ascii_end()));
        });
    }

    fn push(&self, line: Line) {
        let inner = &*self.0;
        let bytes = cost(&line);
        let mut state = self.lock();
        if state.closed {
            inner.lost.fetch_add(1, Ordering::Relaxed);
            return;
        }
        if state.bytes + bytes > inner.most.load(Ordering::Relaxed) {
            drop(state);
            if inner.dropped.fetch_add(1, Ordering::Relaxed) == 0 {
                tracing::warn!(
                    "the OTLP receiver takes fewer records than there are: some are dropped (egressd_otlp_records_total)"
                );
            }
            return;
        }
        state.bytes += bytes;
        state.waiting.push_back(line);
        let waiting = state.waiting.len();
        inner.held.charge(Kind::Otlp, bytes);
        drop(state);
        if waiting == 1 || waiting == BATCH {
            inner.wake.notify_one();
        }
    }

    /// What became of records so far.
    pub fn counts(&self) -> OtlpCounts {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let Inner { exported, dropped, rejected, lost, .. } = &*self.0;
        OtlpCounts { exported: of(exported), dropped: of(dropped), rejected: of(rejected), lost: of(lost) }
    }

    /// No batch waits to become larger any more.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.0.wake.notify_waiters();
        self.0.wake.notify_one();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// Until it is closed.
    pub(super) async fn closed(&self) {
        loop {
            let woken = self.0.wake.notified();
            if self.is_closed() {
                return;
            }
            woken.await;
        }
    }

    /// Whatever is left is lost.
    pub(super) fn abandon(&self) {
        self.close();
        let mut state = self.lock();
        let left = std::mem::take(&mut state.waiting);
        let bytes: usize = left.iter().map(cost).sum();
        state.bytes -= bytes;
        drop(state);
        self.0.held.give_back(Kind::Otlp, bytes);
        self.0.lost.fetch_add(left.len() as u64, Ordering::Relaxed);
    }

    /// The next batch: it is full, or its first record has waited for `linger`. None: it is closed, and nothing is left.
    pub(super) async fn next(&self, linger: Duration) -> Option<Batch> {
        loop {
            let woken = self.0.wake.notified();
            let (waiting, closed) = {
                let state = self.lock();
                (state.waiting.len(), state.closed)
            };
            match (waiting, closed) {
                (0, true) => return None,
                (0, false) => woken.await,
                (waiting, closed) => {
                    if !closed && waiting < BATCH {
                        // Woken early by a full batch and by the end.
                        let _ = tokio::time::timeout(linger, self.full_or_closed()).await;
                    }
                    return Some(self.take());
                }
            }
        }
    }

    async fn full_or_closed(&self) {
        loop {
            let woken = self.0.wake.notified();
            {
                let state = self.lock();
                if state.closed || state.waiting.len() >= BATCH {
                    return;
                }
            }
            woken.await;
        }
    }

    fn take(&self) -> Batch {
        let mut state = self.lock();
        let (mut count, mut bytes) = (0, 0);
        for line in state.waiting.iter().take(BATCH) {
            if count > 0 && bytes + cost(line) > BATCH_BYTES {
                break;
            }
            (count, bytes) = (count + 1, bytes + cost(line));
        }
        let lines = state.waiting.drain(..count).collect();
        Batch { outbox: self.clone(), lines, bytes, told: false }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing under this lock panics half-way.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn cost(line: &Line) -> usize {
    line.json.len() + BESIDE
}

impl Batch {
    /// The receiver has them, except so many that it does not want.
    pub(super) fn exported(mut self, rejected: u64) {
        let all = self.lines.len() as u64;
        let rejected = rejected.min(all);
        self.outbox.0.exported.fetch_add(all - rejected, Ordering::Relaxed);
        self.outbox.0.rejected.fetch_add(rejected, Ordering::Relaxed);
        self.told = true;
    }

    /// The receiver does not want them.
    pub(super) fn rejected(mut self) {
        self.outbox.0.rejected.fetch_add(self.lines.len() as u64, Ordering::Relaxed);
        self.told = true;
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        self.outbox.lock().bytes -= self.bytes;
        self.outbox.0.held.give_back(Kind::Otlp, self.bytes);
        if !self.told {
            self.outbox.0.lost.fetch_add(self.lines.len() as u64, Ordering::Relaxed);
        }
    }
}

impl fmt::Debug for Outbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbox").field("counts", &self.counts()).finish_non_exhaustive()
    }
}
