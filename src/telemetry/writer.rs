//! The log's writer thread: takes batches of lines, writes them, and tries again when that fails.
//!
//! A separate thread and never a task: a write may block for as long as the reader likes.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::output::{Output, Reopened};
use super::queue::{Batch, Line, Next, Queue, WRITE_BYTES, Woken};
use super::seal::Sealer;

/// Another process made the output non-blocking, and it is full.
const FULL_PAUSE: Duration = Duration::from_millis(10);
/// Between two tries while the program waits to exit.
const LAST_PAUSE: Duration = Duration::from_millis(50);

/// The writer's waits.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// After a write, how long to gather lines for the next one: at most 200 wake-ups a second under any load, and a
    /// kill loses no more than what came in that time.
    pub linger: Duration,
    /// Between two tries on an output that fails.
    pub retry: Duration,
}

/// Runs until it is asked to stop and everything is written, or until nothing waits for the rest any more.
pub(super) fn run(
    queue: Arc<Queue>,
    mut output: Box<dyn Output>,
    timing: Timing,
    mut sealer: Option<Sealer>,
) {
    // Even if an output panics: the log is then unavailable, not silently gone.
    let _ended = Ended(Arc::clone(&queue));
    let output = output.as_mut();
    let mut batch = Batch::default();
    // The first seal says that the program started: of a kill before the second one, that much is proved.
    let mut goes_on = write_seal(&queue, output, sealer.as_mut(), Sealer::seal, timing);
    while goes_on {
        let due = sealer.as_ref().map(Sealer::due);
        goes_on = match queue.next(&mut batch, timing.linger, due) {
            Next::Write => match &mut sealer {
                None => write(&queue, output, &batch, None, timing),
                Some(sealer) => write_sealed(&queue, output, &batch, sealer, timing),
            },
            Next::Reopen => {
                reopen(output);
                true
            }
            Next::Seal => write_seal(&queue, output, sealer.as_mut(), Sealer::seal, timing),
            Next::Sealing(seal) => {
                let hand_over = |sealer: &mut Sealer, lost, to: &mut Batch| sealer.hand_over(seal, lost, to);
                write_seal(&queue, output, sealer.as_mut(), hand_over, timing)
            }
            Next::End => {
                write_seal(&queue, output, sealer.as_mut(), Sealer::end, timing);
                false
            }
        };
    }
}

/// Writes the seal that `make` makes, if the log is sealed. False if nothing waits for the rest any more.
fn write_seal(
    queue: &Queue,
    output: &mut dyn Output,
    sealer: Option<&mut Sealer>,
    make: impl FnOnce(&mut Sealer, u64, &mut Batch),
    timing: Timing,
) -> bool {
    let Some(sealer) = sealer else { return true };
    let mut seals = Batch::default();
    make(sealer, queue.lost(), &mut seals);
    let written = write(queue, output, &seals, None, timing);
    if written {
        sealer.is_on_output();
    }
    written
}

/// Writes the batch with seals, as much at a time as one call of `write` takes: so little is there twice.
fn write_sealed(
    queue: &Queue,
    output: &mut dyn Output,
    batch: &Batch,
    sealer: &mut Sealer,
    timing: Timing,
) -> bool {
    let (mut from, mut part) = (0, Batch::default());
    while from < batch.lines.len() {
        part.clear();
        from = sealer.take(batch, from, queue.lost(), &mut part);
        if !write(queue, output, &part, batch.lines.get(from), timing) {
            return false;
        }
        sealer.is_on_output();
    }
    true
}

struct Ended(Arc<Queue>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.writer_ended();
    }
}

/// Writes the batch, however long it takes; `rest` is the line that waits behind it, if the writer knows one. False if nothing
/// waits for the rest any more.
fn write(queue: &Queue, output: &mut dyn Output, batch: &Batch, rest: Option<&Line>, timing: Timing) -> bool {
    // `at` is the position of the output, which after a short write is inside of line `line`.
    let (mut at, mut line) = (0, 0);
    let start_of =
        |line: usize| line.checked_sub(1).and_then(|before| batch.lines.get(before)).map_or(0, |l| l.end);
    while let Some(first) = batch.lines.get(line) {
        let chunk =
            batch.lines.iter().skip(line).map(|l| l.end).take_while(|end| end - at <= WRITE_BYTES).last();
        let chunk = batch.bytes.get(at..chunk.unwrap_or(first.end)).unwrap_or_default();
        let pause = match output.write(chunk) {
            Ok(taken) if taken > 0 => {
                at += taken;
                let whole = batch.lines.iter().skip(line).take_while(|l| l.end <= at);
                // The lines, those of them that are records, and their bytes in the queue.
                let (whole, records, bytes) = whole.fold((0, 0, 0), |(whole, records, bytes), line| {
                    (whole + 1, records + usize::from(line.queued > 0), bytes + line.queued)
                });
                if whole > 0 {
                    line += whole;
                    if queue.has_failed() {
                        tracing::info!(output = output.name(), "the access log works again");
                    }
                    queue.done(records, bytes, batch.lines.get(line).or(rest));
                }
                continue;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            // Not a failure: it is full. If it stays so, the age of the oldest line shows it.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => FULL_PAUSE,
            failure => {
                let error = failure.err().unwrap_or_else(|| io::ErrorKind::WriteZero.into());
                if queue.failed() {
                    tracing::error!(
                        output = output.name(),
                        %error,
                        "the access log cannot be written; trying again every second"
                    );
                }
                if queue.stopping() { timing.retry.min(LAST_PAUSE) } else { timing.retry }
            }
        };
        match queue.pause(pause) {
            Woken::Elapsed => {}
            Woken::Reopen => {
                if reopen(output) == Reopened::Other {
                    at = start_of(line);
                }
            }
            Woken::Abandon => return false,
        }
    }
    true
}

fn reopen(output: &mut dyn Output) -> Reopened {
    output.reopen().unwrap_or_else(|error| {
        tracing::error!(output = output.name(), %error, "the access log cannot be reopened; the old file stays");
        Reopened::Same
    })
}
