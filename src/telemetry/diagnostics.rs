//! egressd's own messages: to standard error, through a thread that loses a message rather than delay anything.
//!
//! stderr is usually read by the same container shim as the access log. If that stalls, a direct write would freeze
//! every worker that has something to log. Not here: the access log, which loses nothing.

use std::fmt::{self, Write as _};
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use tracing::{Event, Subscriber};
#[cfg(test)]
use tracing_appender::non_blocking::ErrorCounter;
use tracing_appender::non_blocking::{NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::format::{DefaultFields, Format, Full, Json, Writer};
use tracing_subscriber::fmt::time::SystemTime;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, MakeWriter};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::reload;

use crate::config::{DiagnosticsFormat, Log, LogLevel};

/// The most lines that may wait for stderr.
const LINES: usize = 4096;

/// Keep it until the end of the program: dropping it writes the waiting messages, for at most a second.
#[must_use = "messages are lost once this is dropped"]
pub struct Diagnostics {
    _guard: WorkerGuard,
    /// Messages lost because stderr stalled.
    #[cfg(test)]
    lost: ErrorCounter,
}

/// Sends this program's messages to stderr, as `log` configures.
///
/// # Errors
/// If messages already go elsewhere.
pub fn start(log: Log) -> io::Result<Diagnostics> {
    let (subscriber, diagnostics, control) = subscriber(log, io::stderr());
    tracing::subscriber::set_global_default(subscriber).map_err(io::Error::other)?;
    // The only one: a second start has failed above.
    let _ = CONTROL.set(control);
    Ok(diagnostics)
}

/// From now on messages follow `log`. Nothing happens if they were never [`start`]ed.
pub fn follow(log: Log) {
    if let Some(control) = CONTROL.get() {
        control.follow(log);
    }
}

/// In addition to tracing's own subscriber, which is one for the process as well.
static CONTROL: OnceLock<Control> = OnceLock::new();

/// What a reload of `log` changes.
struct Control {
    level: Box<dyn Fn(LevelFilter) + Send + Sync>,
    json: Arc<AtomicBool>,
}

impl Control {
    fn follow(&self, log: Log) {
        (self.level)(level(log.level));
        self.json.store(log.format == DiagnosticsFormat::Json, Ordering::Relaxed);
    }
}

fn level(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    }
}

fn subscriber(
    log: Log,
    output: impl Write + Send + 'static,
) -> (Box<dyn Subscriber + Send + Sync>, Diagnostics, Control) {
    let (writer, guard) = NonBlockingBuilder::default()
        .lossy(true)
        .buffered_lines_limit(LINES)
        .thread_name("diagnostics")
        .finish(output);
    let diagnostics = Diagnostics {
        _guard: guard,
        #[cfg(test)]
        lost: writer.error_counter(),
    };
    let json = Arc::new(AtomicBool::new(log.format == DiagnosticsFormat::Json));
    let messages =
        tracing_subscriber::fmt::layer().with_ansi(false).with_writer(Plain(writer)).event_format(Either {
            json: Arc::clone(&json),
            as_text: Format::default().with_target(false),
            // egressd has no spans, whose fields are formatted as text.
            as_json: Format::default()
                .json()
                .flatten_event(true)
                .with_current_span(false)
                .with_span_list(false),
        });
    let (filter, handle) = reload::Layer::new(level(log.level));
    let level = move |level| {
        // Fails only if the subscriber is gone, and its messages with it.
        let _ = handle.reload(level);
    };
    let subscriber = tracing_subscriber::registry().with(messages).with(filter);
    (Box::new(subscriber), diagnostics, Control { level: Box::new(level), json })
}

/// Text or JSON, as currently configured.
struct Either {
    json: Arc<AtomicBool>,
    as_text: Format<Full, SystemTime>,
    as_json: Format<Json, SystemTime>,
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> FormatEvent<S, DefaultFields> for Either {
    fn format_event(
        &self,
        context: &FmtContext<'_, S, DefaultFields>,
        writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        if self.json.load(Ordering::Relaxed) {
            self.as_json.format_event(context, writer, event)
        } else {
            self.as_text.format_event(context, writer, event)
        }
    }
}

/// Makes a message one line of plain text, whatever it contains: a host name in an error comes from an untrusted
/// client.
struct Plain(NonBlocking);

impl<'a> MakeWriter<'a> for Plain {
    type Writer = PlainWriter;

    fn make_writer(&'a self) -> PlainWriter {
        PlainWriter(self.0.clone())
    }
}

struct PlainWriter(NonBlocking);

impl Write for PlainWriter {
    /// Called once for each message, with its newline at the end.
    fn write(&mut self, message: &[u8]) -> io::Result<usize> {
        self.0.write_all(plain(message).as_bytes())?;
        Ok(message.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

fn plain(message: &[u8]) -> String {
    let text = String::from_utf8_lossy(message);
    let (text, end) = match text.strip_suffix('\n') {
        Some(text) => (text, "\n"),
        None => (&*text, ""),
    };
    let mut line = String::with_capacity(text.len() + 1);
    for character in text.chars() {
        if is_hostile(character) {
            // Writing into a String cannot fail.
            let _ = write!(line, "\\u{{{:x}}}", u32::from(character));
        } else {
            line.push(character);
        }
    }
    line + end
}

/// C0, DEL, C1, bidirectional controls and other invisible formatting, line and paragraph separators, tags.
fn is_hostile(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff0}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Condvar, Mutex, PoisonError};

    use super::*;

    #[derive(Clone, Default)]
    struct Stalled(Arc<(Mutex<Stderr>, Condvar)>);

    #[derive(Default)]
    struct Stderr {
        stalled: bool,
        text: Vec<u8>,
    }

    impl Stalled {
        fn stall(&self, stalled: bool) {
            self.0.0.lock().expect("lock").stalled = stalled;
            self.0.1.notify_all();
        }

        fn text(&self) -> String {
            String::from_utf8(self.0.0.lock().expect("lock").text.clone()).expect("text")
        }
    }

    impl Write for Stalled {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let state = self.0.0.lock().expect("lock");
            let mut state =
                self.0.1.wait_while(state, |state| state.stalled).unwrap_or_else(PoisonError::into_inner);
            state.text.extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    const TEXT: Log = Log { level: LogLevel::Info, format: DiagnosticsFormat::Text };
    const JSON: Log = Log { level: LogLevel::Info, format: DiagnosticsFormat::Json };

    fn said(log: Log, say: impl FnOnce(&Control)) -> String {
        let output = Stalled::default();
        let (subscriber, diagnostics, control) = subscriber(log, output.clone());
        tracing::subscriber::with_default(subscriber, || say(&control));
        drop(diagnostics);
        output.text()
    }

    #[test]
    fn t68_a_message_is_one_line_whatever_is_in_it() {
        let evil = "x\r\nERROR forged\u{1b}[31m\u{9b}\u{202e}\u{2028}é";
        for log in [TEXT, JSON] {
            let text = said(log, |_| tracing::warn!(host = %evil, "no such name: {evil}"));
            let body = text.strip_suffix('\n').expect("a line");
            assert!(!body.chars().any(is_hostile), "{body:?}");
            assert!(body.contains("no such name") && body.contains('é'), "{body}");
        }
    }

    #[test]
    fn the_level_holds_and_json_is_an_object_a_line() {
        let text = said(JSON, |_| {
            tracing::debug!("not this");
            tracing::info!(port = 3128, "listening");
        });
        let value: serde_json::Value = serde_json::from_str(&text).expect("one object");
        assert_eq!(
            (&value["level"], &value["message"], &value["port"]),
            (&"INFO".into(), &"listening".into(), &3128.into())
        );
        let errors = Log { level: LogLevel::Error, ..TEXT };
        assert!(said(errors, |_| tracing::warn!("x")).is_empty());
    }

    #[test]
    fn level_and_format_follow_a_reload() {
        let text = said(TEXT, |control| {
            tracing::debug!("not this");
            control.follow(Log { level: LogLevel::Debug, ..JSON });
            tracing::debug!("second");
            control.follow(Log { level: LogLevel::Warn, ..TEXT });
            tracing::info!("nor this");
            tracing::warn!("third");
        });
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 2, "{text}");
        let second: serde_json::Value = serde_json::from_str(lines[0]).expect("an object");
        assert_eq!(second["message"], "second");
        assert!(lines[1].ends_with("WARN third"), "{text}");
    }

    #[test]
    fn a_stalled_stderr_freezes_nobody_and_the_lost_are_counted() {
        let output = Stalled::default();
        output.stall(true);
        let (subscriber, diagnostics, _) = subscriber(TEXT, output.clone());
        tracing::subscriber::with_default(subscriber, || {
            // Ends only if no message waits.
            for number in 0..3 * LINES {
                tracing::info!(number, "x");
            }
        });
        assert!(diagnostics.lost.dropped_lines() >= LINES);
        output.stall(false);
        drop(diagnostics);
        assert!(output.text().lines().count() >= 1);
    }
}
