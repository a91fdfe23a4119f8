//! What the access log promises, with an output that the test controls, and with real descriptors.

mod sealed;
mod stage;

use std::fs::File;
use std::io::Read;
use std::path::Path;

use jiff::Timestamp;
use proptest::prelude::*;
use uuid::Uuid;

use super::super::record::Event;
use super::*;
use stage::{Act, Descriptor, Hands, ListenerOnly, Scripted};

/// Long enough that only a bug reaches it.
const NEVER: Duration = Duration::from_secs(20);

fn options(places: usize, on_failure: OnLogFailure, hands: &Hands) -> Options {
    let hands = hands.clone();
    Options {
        places,
        bytes: 64 * 1024,
        timing: Timing { linger: Duration::from_millis(1), retry: Duration::from_millis(1) },
        clock: Arc::new(move || hands.now()),
        ..Options::new(0, on_failure)
    }
}

fn start(places: usize, on_failure: OnLogFailure) -> (AccessLog, WriterHandle, Scripted, Hands) {
    let (output, hands) = (Scripted::default(), Hands::default());
    let options = options(places, on_failure, &hands);
    let (log, handle) =
        AccessLog::start(Box::new(output.clone()), Box::new(ListenerOnly), options).expect("started");
    (log, handle, output, hands)
}

fn line(text: &str) -> Record<'_> {
    Record::new(Event::Open, Timestamp::UNIX_EPOCH, Uuid::nil(), text)
}

fn say(log: &AccessLog, text: &str) {
    log.reserve().expect("available").write(&line(text));
}

/// Written, lost, queued.
fn counts(log: &AccessLog) -> (u64, u64, usize) {
    let counts = log.counts();
    (counts.written, counts.lost, counts.queued)
}

/// Polls what has no condition variable to wait for.
fn eventually(what: &str, until: impl Fn() -> bool) {
    let deadline = Instant::now() + NEVER;
    while !until() {
        assert!(Instant::now() < deadline, "{what}");
        thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_place_dropped_unused_is_given_back() {
    let (log, _handle, _output, _) = start(2, OnLogFailure::Deny);
    let first = log.reserve().expect("room");
    let second = log.reserve().expect("room");
    assert_eq!(log.reserve().err(), Some(LogUnavailable));
    assert!(!log.is_available());
    drop(first);
    let again = log.reserve().expect("came back");
    drop((second, again));
    assert!(log.is_available());
    assert_eq!(log.0.queue.places.taken(), 0);
}

#[test]
fn a_place_is_taken_until_its_line_is_on_the_output() {
    let (log, handle, output, _) = start(1, OnLogFailure::Deny);
    output.set(|stage| stage.blocked = true);
    say(&log, "one");
    output.wait("in write", |stage| stage.calls == 1);
    assert!(log.reserve().is_err());
    assert_eq!(counts(&log), (0, 0, 1));
    output.set(|stage| stage.blocked = false);
    eventually("written", || log.reserve().is_ok());
    assert_eq!(counts(&log), (1, 0, 0));
    assert_eq!(handle.finish(NEVER), Finished::Flushed);
}

#[test]
fn an_event_that_the_format_leaves_out_gives_its_place_back() {
    let (log, handle, output, _) = start(1, OnLogFailure::Deny);
    for _ in 0..3 {
        log.reserve().expect("room").write(&Record { event: Event::Progress, ..line("x") });
    }
    say(&log, "one");
    assert_eq!(handle.finish(NEVER), Finished::Flushed);
    assert_eq!(output.text(), "one\n");
}

#[test]
fn every_record_of_every_thread_is_there_once_and_in_order() {
    const THREADS: usize = 4;
    const RECORDS: usize = 25_000;
    let output = Scripted::default();
    let options = Options { places: 2_000, ..Options::new(0, OnLogFailure::Deny) };
    let linger = options.timing.linger;
    let (log, handle) =
        AccessLog::start(Box::new(output.clone()), Box::new(ListenerOnly), options).expect("started");
    let began = Instant::now();
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let log = &log;
            scope.spawn(move || {
                for number in 0..RECORDS {
                    let place = loop {
                        match log.reserve() {
                            Ok(place) => break place,
                            Err(LogUnavailable) => thread::yield_now(),
                        }
                    };
                    place.write(&line(&format!("{thread} {number}")));
                }
            });
        }
    });
    assert_eq!(handle.finish(NEVER), Finished::Flushed);
    let lingers = began.elapsed().as_nanos() / linger.as_nanos();
    let mut next = [0; THREADS];
    for record in output.text().lines() {
        let (thread, number) = record.split_once(' ').expect("two numbers");
        let thread: usize = thread.parse().expect("a number");
        assert_eq!(number.parse(), Ok(next[thread]));
        next[thread] += 1;
    }
    assert_eq!(next, [RECORDS; THREADS]);
    assert_eq!(counts(&log), ((THREADS * RECORDS) as u64, 0, 0));
    assert_eq!(log.0.queue.places.taken(), 0);
    // No wake-up for each record: by the clock, and now and then because much is waiting. Measured: 100,000 records in
    // half a second, some 50 wake-ups.
    let wakeups = u128::from(log.counts().wakeups);
    let bytes = output.text().len() as u128;
    assert!(wakeups <= lingers + bytes / (64 * 1024) + 10, "{wakeups} in {lingers} lingers");
}

#[test]
fn a_short_write_is_resumed_where_it_stopped() {
    let (log, handle, output, _) = start(10, OnLogFailure::Deny);
    let acts = [Act::Take(2), Act::Fail(io::ErrorKind::Interrupted), Act::Take(5), Act::Take(1)];
    output.set(|stage| stage.acts = acts.into());
    for text in ["one", "two", "three"] {
        say(&log, text);
    }
    assert_eq!(handle.finish(NEVER), Finished::Flushed);
    assert_eq!(output.text(), "one\ntwo\nthree\n");
}

#[test]
fn a_full_disk_refuses_at_once_and_comes_back_by_itself() {
    let (log, handle, output, hands) = start(10, OnLogFailure::Deny);
    output.set(|stage| {
        stage.acts = [Act::Take(2)].into();
        stage.failing = Some(io::ErrorKind::StorageFull);
    });
    let close = log.reserve().expect("available");
    say(&log, "one");
    output.wait("short, then refused", |stage| stage.text == b"on" && stage.calls >= 2);
    eventually("failed", || !log.is_available());
    assert_eq!(log.reserve().err(), Some(LogUnavailable));
    assert_eq!(log.unavailable_for(), Some(Duration::ZERO));
    hands.forward(7);
    assert_eq!(log.unavailable_for(), Some(Duration::from_secs(7)), "what /readyz asks");
    // A tunnel that ends now has held its place since its dial.
    close.write(&line("close"));
    log.spare().write(&line("refusal"));
    output.set(|stage| stage.failing = None);
    eventually("works again", || log.is_available());
    assert_eq!(log.unavailable_for(), None);
    say(&log, "two");
    assert_eq!(handle.finish(NEVER), Finished::Flushed);
    assert_eq!(output.text(), "one\nclose\nrefusal\ntwo\n");
    assert_eq!(counts(&log), (4, 0, 0));
}

#[test]
fn a_full_nonblocking_pipe_is_slow_not_broken() {
    let (log, handle, output, _) = start(10, OnLogFailure::Deny);
    output.set(|stage| stage.acts = [Act::Fail(io::ErrorKind::WouldBlock), Act::Take(1)].into());
    say(&log, "one");
    output.wait("asked", |stage| stage.calls >= 1);
    assert!(log.is_available());
    assert_eq!(handle.finish(NEVER), Finished::Flushed);
    assert_eq!(output.text(), "one\n");
}

#[test]
fn an_output_that_takes_nothing_counts_as_failing() {
    let (log, handle, output, _) = start(10, OnLogFailure::Deny);
    output.set(|stage| stage.acts = std::iter::repeat_n(Act::Take(0), 1_000_000).collect());
    say(&log, "one");
    eventually("failed", || !log.is_available());
    output.set(|stage| stage.acts.clear());
    assert_eq!(handle.finish(NEVER), Finished::Flushed);
    assert_eq!(output.text(), "one\n");
}

#[test]
fn a_reader_that_stands_still_for_5_s_refuses_new_requests_until_it_reads() {
    let (log, handle, output, hands) = start(10, OnLogFailure::Deny);
    output.set(|stage| stage.blocked = true);
    say(&log, "one");
    output.wait("in write", |stage| stage.calls == 1);
    hands.forward(5);
    assert!(log.is_available(), "5 s is not more than 5 s");
    say(&log, "two");
    hands.forward(3);
    assert!(!log.is_available());
    assert_eq!(log.unavailable_for(), Some(Duration::from_secs(3)));
    assert!(log.reserve().is_err());
    hands.forward(3);
    output.set(|stage| stage.blocked = false);
    // `two` is 6 s old by now: it, too, has to be out.
    eventually("reads again", || log.is_available());
    assert_eq!(output.text(), "one\ntwo\n");
    assert_eq!(handle.finish(NEVER), Finished::Flushed);
}

#[test]
fn the_queue_is_bounded_in_bytes_too() {
    let (log, handle, output, _) = start(100, OnLogFailure::Deny);
    output.set(|stage| stage.blocked = true);
    let long = "x".repeat(40 * 1024);
    say(&log, &long);
    say(&log, &long);
    assert!(log.reserve().is_err(), "64 KiB in this test");
    assert!(!log.is_available());
    output.set(|stage| stage.blocked = false);
    eventually("room", || log.is_available());
    assert_eq!(handle.finish(NEVER), Finished::Flushed);
}

#[test]
fn traffic_preferred_to_records_passes_and_the_lost_ones_are_counted() {
    let (log, handle, output, hands) = start(2, OnLogFailure::Continue);
    output.set(|stage| stage.failing = Some(io::ErrorKind::BrokenPipe));
    say(&log, "one");
    eventually("failed", || !log.is_available());
    hands.forward(60);
    let open = log.reserve().expect("never refused");
    let close = log.reserve().expect("never refused");
    open.write(&line("two"));
    close.write(&line("three"));
    say(&log, "four");
    assert_eq!(counts(&log), (0, 2, 2));
    output.set(|stage| stage.failing = None);
    eventually("works again", || log.is_available());
    assert_eq!(handle.finish(NEVER), Finished::Flushed);
    assert_eq!(output.text().lines().count(), 2);
    assert_eq!(counts(&log), (2, 2, 0));
}

#[test]
fn a_flood_of_refusals_leaves_a_quarter_of_the_places() {
    let (log, _handle, output, _) = start(8, OnLogFailure::Deny);
    output.set(|stage| stage.blocked = true);
    for _ in 0..100 {
        log.spare().write(&line("refused"));
    }
    assert_eq!(counts(&log), (0, 94, 6));
    let left = [log.reserve(), log.reserve(), log.reserve()].map(|place| place.is_ok());
    assert_eq!(left, [true, true, false]);
    output.set(|stage| stage.blocked = false);
}

#[test]
fn a_reload_can_move_the_number_of_places() {
    let (log, _handle, _output, _) = start(1, OnLogFailure::Deny);
    let first = log.reserve().expect("room");
    assert!(log.reserve().is_err());
    log.set_places(2);
    let second = log.reserve().expect("room");
    log.set_places(1);
    drop(first);
    assert!(log.reserve().is_err(), "one place, and it is taken");
    drop(second);
    assert!(log.reserve().is_ok());
}

#[test]
fn a_rotation_loses_and_doubles_nothing() {
    let (log, handle, output, _) = start(100, OnLogFailure::Deny);
    output.set(|stage| stage.next_is_other = true);
    say(&log, "one");
    output.wait("written", |stage| stage.text == b"one\n");
    log.reopen();
    output.wait("reopened", |stage| stage.rotated.len() == 1);
    say(&log, "two");
    assert_eq!(handle.finish(NEVER), Finished::Flushed);
    assert_eq!(output.set(|stage| stage.rotated.clone()), [b"one\n"]);
    assert_eq!(output.text(), "two\n");
}

#[test]
fn a_line_half_written_to_a_full_disk_is_written_whole_to_the_next_file() {
    let (log, handle, output, _) = start(100, OnLogFailure::Deny);
    output.set(|stage| {
        stage.next_is_other = true;
        stage.acts = [Act::Take(2)].into();
        stage.failing = Some(io::ErrorKind::StorageFull);
    });
    say(&log, "one");
    output.wait("half", |stage| stage.text == b"on" && stage.calls >= 2);
    log.reopen();
    assert_eq!(handle.finish(NEVER), Finished::Flushed);
    assert_eq!(output.set(|stage| stage.rotated.clone()), [b"on"]);
    assert_eq!(output.text(), "one\n");
}

#[test]
fn exit_waits_for_the_queue_but_never_for_a_stuck_writer() {
    let (log, handle, output, _) = start(10, OnLogFailure::Deny);
    output.set(|stage| stage.blocked = true);
    say(&log, "one");
    say(&log, "two");
    let began = Instant::now();
    assert_eq!(handle.finish(Duration::from_millis(50)), Finished::Abandoned(2));
    assert!(began.elapsed() < NEVER / 2);
    output.set(|stage| stage.blocked = false);
}

#[test]
fn a_record_after_the_end_is_counted_as_lost() {
    let (log, handle, output, _) = start(10, OnLogFailure::Deny);
    let place = log.reserve().expect("room");
    assert_eq!(handle.finish(NEVER), Finished::Flushed);
    place.write(&line("late"));
    assert_eq!(counts(&log), (0, 1, 0));
    assert!(log.reserve().is_err());
    assert_eq!(output.text(), "");
}

#[test]
fn a_failing_output_at_exit_is_tried_until_the_deadline() {
    let (log, handle, output, _) = start(10, OnLogFailure::Deny);
    output.set(|stage| stage.failing = Some(io::ErrorKind::BrokenPipe));
    say(&log, "one");
    output.wait("tried", |stage| stage.calls >= 1);
    assert_eq!(handle.finish(Duration::from_millis(20)), Finished::Abandoned(1));
    eventually("the writer ended", || log.counts().lost == 1);
}

#[test]
fn a_writer_that_panics_makes_the_log_unavailable() {
    let (log, handle, output, _) = start(10, OnLogFailure::Deny);
    output.set(|stage| stage.acts = [Act::Panic].into());
    say(&log, "one");
    eventually("noticed", || !log.is_available());
    assert_eq!(log.unavailable_for(), Some(Duration::MAX));
    assert_eq!(handle.finish(NEVER), Finished::Abandoned(1));
}

#[test]
fn a_real_pipe_that_nobody_reads_stalls_the_log_and_loses_nothing() {
    let (reader, writer) = rustix::pipe::pipe().expect("a pipe");
    let hands = Hands::default();
    let options = Options { bytes: 1 << 20, ..options(100, OnLogFailure::Deny, &hands) };
    let output = Box::new(Descriptor(File::from(writer)));
    let (log, handle) = AccessLog::start(output, Box::new(ListenerOnly), options).expect("started");
    let long = "x".repeat(10_000);
    let mut said = 0;
    // 64 KiB fit into the pipe, and the writer then blocks.
    for _ in 0..20 {
        say(&log, &long);
        said += 1;
    }
    hands.forward(6);
    eventually("stalled", || !log.is_available());
    let all = thread::spawn(move || {
        let mut text = String::new();
        File::from(reader).read_to_string(&mut text).expect("read");
        text
    });
    eventually("works again", || log.is_available());
    say(&log, "last");
    said += 1;
    assert_eq!(handle.finish(NEVER), Finished::Flushed);
    // The writer thread ends and closes its end.
    let text = all.join().expect("read");
    assert_eq!(text.lines().count(), said);
    assert!(text.lines().rev().skip(1).all(|line| line == long) && text.ends_with("last\n"));
}

#[test]
fn a_closed_pipe_is_a_failing_output() {
    let (reader, writer) = rustix::pipe::pipe().expect("a pipe");
    drop(reader);
    let output = Box::new(Descriptor(File::from(writer)));
    let options = options(10, OnLogFailure::Deny, &Hands::default());
    let (log, handle) = AccessLog::start(output, Box::new(ListenerOnly), options).expect("started");
    say(&log, "one");
    eventually("EPIPE, and no signal", || !log.is_available());
    assert_eq!(handle.finish(Duration::from_millis(20)), Finished::Abandoned(1));
}

#[test]
fn a_real_full_device_is_a_failing_output() {
    let output = file(Path::new("/dev/full")).expect("opened");
    let options = options(10, OnLogFailure::Deny, &Hands::default());
    let (log, handle) = AccessLog::start(output, Box::new(ListenerOnly), options).expect("started");
    say(&log, "one");
    eventually("ENOSPC", || !log.is_available());
    assert_eq!(handle.finish(Duration::from_millis(20)), Finished::Abandoned(1));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// However an output cuts, fails and interrupts: in the end it has exactly the written records.
    #[test]
    fn whatever_the_output_does_the_lines_come_out_whole_and_once(
        acts in proptest::collection::vec(prop_oneof![
            4 => (1usize..40).prop_map(Act::Take),
            1 => Just(Act::Take(0)),
            1 => Just(Act::Fail(io::ErrorKind::StorageFull)),
            1 => Just(Act::Fail(io::ErrorKind::Interrupted)),
        ], 0..40),
        lengths in proptest::collection::vec(1usize..50, 1..40),
    ) {
        let (log, handle, output, _) = start(100, OnLogFailure::Continue);
        output.set(|stage| stage.acts = acts.into());
        let mut want = String::new();
        for (number, length) in lengths.iter().enumerate() {
            let text = format!("{number}{}", "-".repeat(*length));
            say(&log, &text);
            want += &text;
            want.push('\n');
        }
        prop_assert_eq!(handle.finish(NEVER), Finished::Flushed);
        prop_assert_eq!(output.text(), want);
        prop_assert_eq!(log.0.queue.places.taken(), 0);
    }
}
