//! What the tests put around the log: an output and a clock that they control, and a format of one word.

use std::collections::VecDeque;
use std::fs::File;
use std::io::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex};

use super::super::super::record::Event;
use super::super::*;
use super::NEVER;

/// What the output does with a call; after the last act it fails, or accepts everything.
#[derive(Clone, Copy, Debug)]
pub(super) enum Act {
    Take(usize),
    Fail(io::ErrorKind),
    Panic,
}

#[derive(Default)]
pub(super) struct Stage {
    pub(super) acts: VecDeque<Act>,
    pub(super) blocked: bool,
    pub(super) failing: Option<io::ErrorKind>,
    pub(super) calls: u64,
    pub(super) text: Vec<u8>,
    /// The content of each rotated file; the current one is separate.
    pub(super) rotated: Vec<Vec<u8>>,
    pub(super) next_is_other: bool,
}

/// An output that the test controls.
#[derive(Clone, Default)]
pub(super) struct Scripted(Arc<(Mutex<Stage>, Condvar)>);

impl Scripted {
    pub(super) fn set<T>(&self, change: impl FnOnce(&mut Stage) -> T) -> T {
        let result = change(&mut self.0.0.lock().expect("lock"));
        self.0.1.notify_all();
        result
    }

    pub(super) fn wait(&self, what: &str, until: impl Fn(&Stage) -> bool) {
        let stage = self.0.0.lock().expect("lock");
        let (_stage, timeout) =
            self.0.1.wait_timeout_while(stage, NEVER, |stage| !until(stage)).expect("lock");
        assert!(!timeout.timed_out(), "{what}");
    }

    pub(super) fn text(&self) -> String {
        self.set(|stage| String::from_utf8(stage.text.clone()).expect("text"))
    }
}

impl Output for Scripted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.set(|stage| stage.calls += 1);
        let stage = self.0.0.lock().expect("lock");
        let mut stage = self.0.1.wait_while(stage, |stage| stage.blocked).expect("lock");
        let act = stage.acts.pop_front().or_else(|| stage.failing.map(Act::Fail));
        let result = match act.unwrap_or(Act::Take(usize::MAX)) {
            Act::Take(some) => {
                let taken = some.min(bytes.len());
                stage.text.extend_from_slice(&bytes[..taken]);
                Ok(taken)
            }
            Act::Fail(kind) => Err(kind.into()),
            Act::Panic => {
                drop(stage);
                panic!("an output with a bug");
            }
        };
        drop(stage);
        self.0.1.notify_all();
        result
    }

    fn reopen(&mut self) -> io::Result<Reopened> {
        self.set(|stage| {
            if !stage.next_is_other {
                return Ok(Reopened::Same);
            }
            let old = std::mem::take(&mut stage.text);
            stage.rotated.push(old);
            stage.failing = None;
            Ok(Reopened::Other)
        })
    }

    fn name(&self) -> String {
        "the stage".to_owned()
    }
}

pub(super) struct Descriptor(pub(super) File);

impl Output for Descriptor {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn name(&self) -> String {
        "a descriptor".to_owned()
    }
}

/// The record's listener as the whole line; other events than `open` have none.
pub(super) struct ListenerOnly;

impl Format for ListenerOnly {
    fn write(&self, record: &Record<'_>, out: &mut Vec<u8>) {
        if record.event == Event::Open {
            out.extend_from_slice(record.listener.as_bytes());
            out.push(b'\n');
        }
    }
}

/// A clock that the test moves.
#[derive(Clone, Default)]
pub(super) struct Hands(Arc<AtomicU64>);

impl Hands {
    pub(super) fn forward(&self, seconds: u64) {
        self.0.fetch_add(seconds, Ordering::SeqCst);
    }

    pub(super) fn now(&self) -> Duration {
        Duration::from_secs(self.0.load(Ordering::SeqCst))
    }
}
