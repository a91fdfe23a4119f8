//! The log's writer thread: takes batches of lines, writes them, and tries again when that fails.
//!
//! A separate thread and never a task: a write may block for as long as the reader likes.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::output::{Output, Reopened};
use super::queue::{Batch, Next, Queue, Woken};

/// Bytes of one call of `write`, as whole lines: a pipe's usual size, so that places are freed as the reader reads and
/// not only after a whole burst.
const WRITE_BYTES: usize = 64 * 1024;
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
pub(super) fn run(queue: Arc<Queue>, mut output: Box<dyn Output>, timing: Timing) {
    // Even if an output panics: the log is then unavailable, not silently gone.
    let _ended = Ended(Arc::clone(&queue));
    let mut batch = Batch::default();
    loop {
        match queue.next(&mut batch, timing.linger) {
            Next::Write => {
                if !write(&queue, output.as_mut(), &batch, timing) {
                    return;
                }
            }
            Next::Reopen => {
                reopen(output.as_mut());
            }
            Next::End => return,
        }
    }
}

struct Ended(Arc<Queue>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.writer_ended();
    }
}

/// Writes the batch, however long it takes. False if nothing waits for the rest any more.
fn write(queue: &Queue, output: &mut dyn Output, batch: &Batch, timing: Timing) -> bool {
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
                let whole = batch.lines.iter().skip(line).take_while(|l| l.end <= at).count();
                if whole > 0 {
                    let bytes = start_of(line + whole) - start_of(line);
                    line += whole;
                    if queue.has_failed() {
                        tracing::info!(output = output.name(), "the access log works again");
                    }
                    queue.done(whole, bytes, batch.lines.get(line));
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
