//! The access log: no record is lost, and none delays a request.
//!
//! A request that will have something to record takes a [`RecordPlace`] first, before the dial; writing into a place
//! then neither blocks nor fails. A separate thread writes the lines to the output. If the output fails, or the oldest
//! line has waited too long, no more places are given, so that new requests are refused with `log_unavailable` until
//! it works again. Not here: the lines ([`super::record`] and the formats), the queue itself ([`super::queue`]), the
//! writing ([`super::writer`]), and sealing ([`super::seal`]).
//!
//! Memory: at most [`Options::bytes`] are queued when a place is given, and each place that is held adds at most one
//! line of less than 16 KiB.

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, ArcSwapOption};

pub use super::line::{Ecs, Format, Json, Ocsf};
use super::otlp::{OtlpCounts, Outbox};
pub use super::output::{Output, Reopened, file, stdout};
pub use super::queue::Clock;
use super::queue::Queue;
use super::record::Record;
use super::seal::Sealer;
pub use super::seal::{LastSeal, Sealing};
use super::writer;
pub use super::writer::Timing;
pub use crate::config::OnLogFailure;
use crate::config::Seal;
use crate::transport::held::HeldBytes;

/// If more bytes are queued, no more places are given.
const MOST_BYTES: usize = 16 * 1024 * 1024;

/// No place: the request must be refused with `log_unavailable`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the access log cannot be written")]
pub struct LogUnavailable;

/// Bounds and times of the log.
#[derive(Clone)]
pub struct Options {
    /// Records that may be promised or waiting. Every live tunnel holds one for its closing, so there must be as many
    /// as tunnels may live, and some thousand for other records in progress.
    pub places: usize,
    /// If more bytes are queued, no more places are given.
    pub bytes: usize,
    /// Deny, or continue.
    pub on_failure: OnLogFailure,
    /// How long a line may wait before the log counts as unavailable.
    pub stale: Duration,
    /// The writer's own.
    pub timing: Timing,
    /// Measures the age of lines.
    pub clock: Clock,
    /// Where what is queued counts as held.
    pub held: Arc<HeldBytes>,
    /// How the log is sealed, if it is.
    pub sealing: Option<Sealing>,
    /// Takes a copy of each record, whatever becomes of the line.
    pub copies: Option<Outbox>,
}

impl Options {
    /// For `tunnels` live tunnels; a line is late after 5 s, and there is a second between two tries.
    pub fn new(tunnels: usize, on_failure: OnLogFailure) -> Self {
        let start = Instant::now();
        Options {
            places: Self::places_for(tunnels),
            bytes: MOST_BYTES,
            on_failure,
            stale: Duration::from_secs(5),
            timing: Timing { linger: Duration::from_millis(5), retry: Duration::from_secs(1) },
            clock: Arc::new(move || start.elapsed()),
            held: HeldBytes::unlimited(),
            sealing: None,
            copies: None,
        }
    }

    /// One place for the closing of each tunnel, and 8,192 for other records in progress.
    pub fn places_for(tunnels: usize) -> usize {
        tunnels.saturating_add(8192)
    }
}

/// The counts of records so far.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct LogCounts {
    /// Written to the output.
    pub written: u64,
    /// Will never be written: no room with `on_failure: continue`, or the program ended first.
    pub lost: u64,
    /// Waiting.
    pub queued: usize,
    /// How often the writer thread woke up: far less often than records come, unless something is wrong with it.
    pub wakeups: u64,
}

/// The log, for code that has something to record. Cheap to clone.
#[derive(Clone)]
pub struct AccessLog(Arc<Shared>);

struct Shared {
    queue: Arc<Queue>,
    format: Arc<ArcSwap<Box<dyn Format>>>,
    /// The seal that was written last, of a sealed log.
    last_seal: Arc<ArcSwapOption<LastSeal>>,
    /// How the log is sealed now; fixed is only whether it is.
    seal: Mutex<Option<Seal>>,
    /// Lines of Squid's formats since the start; see [`AccessLog::lines`].
    lines: Arc<AtomicU64>,
    /// Whether requests go on without records while the log cannot be written.
    continues: AtomicBool,
    stale: Duration,
    bytes: AtomicUsize,
    copies: Option<Outbox>,
}

impl AccessLog {
    /// Starts the writer thread on `output`.
    ///
    /// # Errors
    /// If the thread cannot be started.
    pub fn start(
        output: Box<dyn Output>,
        format: Box<dyn Format>,
        options: Options,
    ) -> io::Result<(Self, WriterHandle)> {
        let queue = Arc::new(Queue::new(options.places, options.clock, options.held));
        let (for_writer, timing) = (Arc::clone(&queue), options.timing);
        let format = Arc::new(ArcSwap::from_pointee(format));
        let last_seal = Arc::default();
        let seal = Mutex::new(options.sealing.as_ref().map(|sealing| sealing.seal.clone()));
        let sealer =
            options.sealing.map(|sealing| Sealer::new(sealing, Arc::clone(&format), Arc::clone(&last_seal)));
        // No thread joins it: it may be stuck in `write` forever, and the exit must not wait for that.
        thread::Builder::new()
            .name("access-log".to_owned())
            .spawn(move || writer::run(for_writer, output, timing, sealer))?;
        let handle = WriterHandle { queue: Arc::clone(&queue) };
        let shared = Shared {
            queue,
            format,
            last_seal,
            seal,
            lines: Arc::default(),
            continues: AtomicBool::new(options.on_failure == OnLogFailure::Continue),
            stale: options.stale,
            bytes: AtomicUsize::new(options.bytes),
            copies: options.copies,
        };
        Ok((AccessLog(Arc::new(shared)), handle))
    }

    /// Takes a place for a later record.
    ///
    /// # Errors
    /// [`LogUnavailable`] while the output fails or stalls, or if the queue is full; never with
    /// [`OnLogFailure::Continue`].
    pub fn reserve(&self) -> Result<RecordPlace, LogUnavailable> {
        self.take().map(|hold| self.place(hold))
    }

    /// A place for a record that no request waits for: a `progress`, or the refusal with `log_unavailable` itself. It
    /// is given even while the output fails, from the queue's first three quarters; the record is written once the
    /// output works again, and counted as lost if there is no room for it.
    pub fn spare(&self) -> RecordPlace {
        let room = self.room(self.0.queue.places.limit() / 4);
        self.place(if room { Hold::Held } else { Hold::None })
    }

    /// Whether a request can be recorded now. With [`OnLogFailure::Continue`] true only while it really can.
    pub fn is_available(&self) -> bool {
        let queue = &self.0.queue;
        self.unavailable_for().is_none()
            && queue.places.taken() < queue.places.limit()
            && queue.queued_bytes() < self.0.bytes.load(Ordering::Relaxed)
    }

    /// How long the output has been failing or stalled, for `/readyz`. None while it works.
    pub fn unavailable_for(&self) -> Option<Duration> {
        self.0.queue.unavailable_for(self.0.stale)
    }

    /// The counts of records so far.
    pub fn counts(&self) -> LogCounts {
        let queue = &self.0.queue;
        LogCounts {
            written: queue.written(),
            lost: queue.lost(),
            queued: queue.queued(),
            wakeups: queue.wakeups(),
        }
    }

    /// Makes the writer thread open the output again by its name, soon; a failure is logged in the diagnostics and the
    /// old file stays.
    pub fn reopen(&self) {
        self.0.queue.ask_reopen();
    }

    /// Follows `limits.tunnels`; see [`Options::places_for`].
    pub fn set_places(&self, places: usize) {
        self.0.queue.places.set_limit(places);
    }

    /// What became of the copies; `None`: there are none.
    pub fn copies(&self) -> Option<OtlpCounts> {
        self.0.copies.as_ref().map(Outbox::counts)
    }

    /// Another configuration is in force, which the copies follow.
    pub fn reload_copies(&self) {
        if let Some(copies) = &self.0.copies {
            copies.reload();
        }
    }

    /// Follows `limits.memory`, of which the queue takes an eighth at most.
    pub fn set_memory(&self, limit: usize) {
        if let Some(copies) = &self.0.copies {
            copies.set_memory(limit);
        }
        self.0.bytes.store((limit / 8).min(MOST_BYTES), Ordering::Relaxed);
    }

    /// Follows `access_log.on_failure`.
    pub fn set_on_failure(&self, on_failure: OnLogFailure) {
        self.0.continues.store(on_failure == OnLogFailure::Continue, Ordering::Relaxed);
    }

    /// What counts the lines of a format that numbers them: one count since the start, which every new format goes on with.
    pub fn lines(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.0.lines)
    }

    /// The seal that was written last; none if the log is not sealed, or no seal is on the output yet.
    pub fn last_seal(&self) -> Option<Arc<LastSeal>> {
        self.0.last_seal.load_full()
    }

    /// Follows `access_log.seal`: another key seals from the next seal on, which is the last one of the old key and names
    /// the new one. Whether the log is sealed does not change.
    pub fn set_seal(&self, seal: Option<&Seal>) {
        let mut now = self.0.seal.lock().unwrap_or_else(PoisonError::into_inner);
        if let (Some(now), Some(seal)) = (now.as_mut(), seal)
            && now != seal
        {
            *now = seal.clone();
            self.0.queue.ask_sealing(seal.clone());
        }
    }

    /// Follows `access_log.format`: later records have the new format.
    pub fn set_format(&self, format: Box<dyn Format>) {
        self.0.format.store(Arc::new(format));
    }

    fn on_failure(&self) -> OnLogFailure {
        if self.0.continues.load(Ordering::Relaxed) { OnLogFailure::Continue } else { OnLogFailure::Deny }
    }

    fn take(&self) -> Result<Hold, LogUnavailable> {
        match self.on_failure() {
            OnLogFailure::Deny if self.unavailable_for().is_some() => Err(LogUnavailable),
            _ if self.room(0) => Ok(Hold::Held),
            OnLogFailure::Deny => Err(LogUnavailable),
            OnLogFailure::Continue => Ok(Hold::Later),
        }
    }

    fn room(&self, spare: usize) -> bool {
        self.0.queue.queued_bytes() < self.0.bytes.load(Ordering::Relaxed)
            && self.0.queue.places.take(1, spare)
    }

    fn place(&self, hold: Hold) -> RecordPlace {
        RecordPlace { log: self.clone(), hold }
    }
}

impl fmt::Debug for AccessLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessLog").field("counts", &self.counts()).finish_non_exhaustive()
    }
}

thread_local! {
    /// Lines are built here, outside the queue's lock and without an allocation.
    static LINE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// The right to write one record. Dropped unused it is given back.
#[must_use = "a place goes back when it is dropped"]
#[derive(Debug)]
pub struct RecordPlace {
    log: AccessLog,
    hold: Hold,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Hold {
    /// Taken.
    Held,
    /// There was no room, and traffic had priority over records: there may be room when it is written.
    Later,
    /// No room, or given back.
    None,
}

impl RecordPlace {
    /// Queues the record. Never blocks, never fails; if traffic has priority over records, it may be lost.
    pub fn write(mut self, record: &Record<'_>) {
        let shared = Arc::clone(&self.log.0);
        if let Some(copies) = &shared.copies {
            copies.offer(record);
        }
        LINE.with_borrow_mut(|line| {
            line.clear();
            shared.format.load().write(record, line);
            if line.is_empty() {
                return;
            }
            if self.hold == Hold::Held || (self.hold == Hold::Later && self.log.room(0)) {
                // The place now belongs to the line, and comes back once that is written.
                self.hold = Hold::None;
                shared.queue.push(line);
            } else {
                shared.queue.count_lost(1);
            }
        });
    }
}

impl Drop for RecordPlace {
    fn drop(&mut self) {
        if self.hold == Hold::Held {
            self.log.0.queue.places.give_back(1);
        }
    }
}

/// Ends the log at the end of the program.
#[must_use = "without `finish` the last records are not waited for"]
pub struct WriterHandle {
    queue: Arc<Queue>,
}

/// How the log ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Finished {
    /// Every record is on the output.
    Flushed,
    /// This many are not, or none but the last seal is not: the output failed or stalled until the deadline.
    Abandoned(usize),
}

impl WriterHandle {
    /// Writes what is queued and ends the writer; waits for that, at most `timeout`. Blocks: call it outside of the
    /// runtime. A writer that is stuck in `write` is left behind, and ends with the process.
    pub fn finish(self, timeout: Duration) -> Finished {
        self.queue.ask_stop();
        match self.queue.wait_ended(timeout) {
            (true, 0) => Finished::Flushed,
            (_, left) => Finished::Abandoned(left),
        }
    }
}

impl fmt::Debug for WriterHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WriterHandle").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
