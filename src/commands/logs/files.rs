//! Opens the access logs that a command line names, files and stdin, and shows the progress on a terminal.

use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::entry::Entry;
use super::read::Reader;
use crate::words::io_error::reason;
use crate::words::quote::shown;

/// Time between two updates of the progress bar.
const REDRAW: Duration = Duration::from_millis(200);

/// Opens `log`; `-` is stdin. Returns its name for messages, the input, and its size (0 for stdin).
pub(crate) fn open(log: &Path) -> io::Result<(String, Box<dyn Read>, u64)> {
    if log == Path::new("-") {
        return Ok(("-".to_owned(), Box::new(io::stdin().lock()), 0));
    }
    let named = |error: io::Error| {
        io::Error::other(format!("cannot read the log {}: {}", log.display(), reason(&error)))
    };
    let file = File::open(log).map_err(named)?;
    let metadata = file.metadata().map_err(named)?;
    if metadata.is_dir() {
        return Err(named(io::ErrorKind::IsADirectory.into()));
    }
    Ok((log.display().to_string(), Box::new(file), metadata.len()))
}

/// Reads all of `logs` and passes each record to `visit`. Shows a progress bar on stderr if that is a terminal, and at the
/// end reports lines that are not records.
///
/// # Errors
/// A log cannot be read, or there is no record in any of them.
pub(crate) fn read_all(logs: &[PathBuf], mut visit: impl FnMut(&Entry<'_>)) -> io::Result<Reader> {
    let mut reader = Reader::new();
    for_each(logs, |name, input| reader.read(name, input, &mut visit))?;
    report(&reader);
    if reader.records() == 0 {
        let names: Vec<String> = logs.iter().map(|log| shown(&log.display().to_string())).collect();
        return Err(io::Error::other(format!("no records in {}: is it an access log?", names.join(", "))));
    }
    Ok(reader)
}

/// Passes each of `logs` to `read`, with its name for messages, and shows a progress bar on stderr if that is a terminal.
///
/// # Errors
/// A log cannot be read.
pub(crate) fn for_each(
    logs: &[PathBuf],
    mut read: impl FnMut(&str, &mut dyn Read) -> io::Result<()>,
) -> io::Result<()> {
    let total =
        logs.iter().filter_map(|log| std::fs::metadata(log).ok()).map(|metadata| metadata.len()).sum();
    let mut bar = Bar::new(total);
    for log in logs {
        let (name, input, _) = open(log)?;
        let done = read(&name, &mut Counted { input, bar: &mut bar, name: &name });
        done.map_err(|error| io::Error::other(format!("cannot read the log {name}: {}", reason(&error))))?;
    }
    bar.clear();
    Ok(())
}

/// Reports what could not be read.
fn report(reader: &Reader) {
    if reader.malformed().count > 0 {
        eprintln!("egressd: {}", reader.malformed());
    }
    for name in reader.broken_off() {
        eprintln!("egressd: {} is packed, and its end is missing", name.escape_debug());
    }
}

struct Counted<'b> {
    input: Box<dyn Read>,
    bar: &'b mut Bar,
    name: &'b str,
}

impl Read for Counted<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.input.read(into)?;
        self.bar.moved(read, self.name);
        Ok(read)
    }
}

/// The progress bar.
struct Bar {
    shown: bool,
    total: u64,
    done: u64,
    started: Instant,
    drawn: Instant,
}

impl Bar {
    fn new(total: u64) -> Self {
        let now = Instant::now();
        Bar { shown: io::stderr().is_terminal(), total, done: 0, started: now, drawn: now }
    }

    fn moved(&mut self, bytes: usize, name: &str) {
        self.done += bytes as u64;
        if self.shown && self.drawn.elapsed() >= REDRAW {
            self.drawn = Instant::now();
            let line = self.line(name);
            // It is only a progress bar: an error does not matter.
            let _ = write!(io::stderr(), "\r\x1b[K{line}");
        }
    }

    fn line(&self, name: &str) -> String {
        const WIDTH: u64 = 24;
        let name: String = name.chars().filter(|character| !character.is_control()).take(40).collect();
        let read = self.done / 1_000_000;
        let speed = self.done as f64 / 1e6 / self.started.elapsed().as_secs_f64().max(0.001);
        let Some(share) = (self.done * 100).checked_div(self.total).map(|share| share.min(100)) else {
            return format!("{read} MB  {speed:.0} MB/s  {name}");
        };
        let full = share * WIDTH / 100;
        let bar = "█".repeat(full as usize) + &"░".repeat((WIDTH - full) as usize);
        format!("{bar} {share:3} %  {read} MB  {speed:.0} MB/s  {name}")
    }

    fn clear(&self) {
        if self.shown {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}
