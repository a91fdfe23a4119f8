//! Untrusted bytes in the access log: a record is one line of printable ASCII, within its bound, and JSON with one meaning.

use egressd::commands::logs::{Entry, Text};
use egressd::telemetry::record::{Event, LINE_BOUND, LoggedTarget, Raw, Record};
use egressd::words::outcome::Reason;
use jiff::Timestamp;
use uuid::Uuid;

/// The input is method, target, SNI and `User-Agent` as they were sent, separated by `0x1e` bytes.
pub fn check(bytes: &[u8]) {
    let mut parts = bytes.split(|byte| *byte == 0x1e);
    let mut next = || parts.next().map(Raw);
    let mut record = Record::new(Event::Deny, Timestamp::UNIX_EPOCH, Uuid::nil(), "proxy");
    record.method = next();
    record.target = next().map(LoggedTarget::Malformed);
    record.sni = next();
    record.user_agent = next();
    record.reason = Some(Reason::BadTarget.into());
    let mut line = Vec::new();
    record.write_json(&mut line);
    let (end, text) = line.split_last().expect("not empty");
    assert_eq!(*end, b'\n');
    assert!(text.iter().all(|byte| (b' '..=b'~').contains(byte)), "not printable");
    assert!(line.len() <= LINE_BOUND, "{} bytes", line.len());
    let read: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(text).expect("an object");
    assert_eq!(read["reason"], "bad_target");
    assert_eq!(read["method"].is_null(), record.method.is_none());
    assert_eq!(read["user_agent"].is_null(), record.user_agent.is_none());
    // In the words of a schema it is one line too, and says the same.
    let ours = Entry::parse(text).expect("a record");
    let before = [ours.method, ours.target, ours.sni, ours.user_agent].map(said);
    for write in [Record::write_ecs, Record::write_ocsf] {
        let mut line = Vec::new();
        write(&record, &mut line);
        let text = line.strip_suffix(b"\n").expect("a line");
        assert!(text.iter().all(|byte| (b' '..=b'~').contains(byte)), "not printable");
        assert!(line.len() < LINE_BOUND, "{} bytes", line.len());
        let entry = Entry::parse(text).expect("a record");
        let now = [entry.method, entry.target, entry.sni, entry.user_agent].map(said);
        for (before, now) in before.iter().zip(now) {
            // A long value may be cut earlier.
            let begins = now.as_deref().map(|now| now.trim_end_matches('…'));
            let same = *before == now
                || begins.zip(before.as_deref()).is_some_and(|(now, before)| before.starts_with(now));
            assert!(same, "{before:?} {now:?}");
        }
    }
    // The log's own reader understands it correctly.
    let entry = Entry::parse(text).expect("a record");
    assert_eq!(entry.event, Some(Event::Deny));
    for (name, ours) in [("method", entry.method), ("target", entry.target), ("sni", entry.sni)] {
        assert_eq!(ours.map(|ours| ours.decoded().into_owned()).as_deref(), read[name].as_str(), "{name}");
    }
}

fn said(text: Option<Text<'_>>) -> Option<String> {
    text.map(|text| text.decoded().into_owned())
}
