//! Git over HTTP: the verdict on a push does not depend on how its bytes are split, what is written anew is read the same, and
//! serde_json never reads another operation in a batch than egressd.

use egressd::wire::git::pkt_line::{self, Packet};
use egressd::wire::git::{
    FetchKind, FetchReader, FetchRequest, Progress, ProtocolVersion, PushReader, classify, inflate, lfs,
    refusal,
};
use egressd::words::git::Operation;
use serde_json::Value;

/// Checks a body, as that of each kind of request; and once as the method, path and query of one.
pub fn check(bytes: &[u8]) {
    packets(bytes);
    push(bytes);
    for version in [ProtocolVersion::V0, ProtocolVersion::V2] {
        fetch(bytes, version);
    }
    if let Ok(inflated) = inflate::gzip(bytes, 1 << 16) {
        assert!(inflated.len() <= 1 << 16);
        fetch(&inflated, ProtocolVersion::V2);
    }
    archive(bytes);
    batch(bytes);
    if let Ok(line) = std::str::from_utf8(bytes) {
        request(line);
    }
}

fn packets(bytes: &[u8]) {
    let mut rest = bytes;
    while let Ok(Some((packet, length))) = pkt_line::next(rest) {
        assert!((4..=pkt_line::MAX_LINE).contains(&length) && length <= rest.len());
        if let Packet::Data(data) = packet {
            assert_eq!(data.len() + 4, length);
        }
        rest = rest.get(length..).expect("it is within");
    }
}

fn push(bytes: &[u8]) {
    let mut reader = PushReader::new();
    let whole = reader.read(bytes);
    let list = reader.into_list();
    let mut reader = PushReader::new();
    let mut cut = Ok(Progress::NeedMore);
    for end in 0..=bytes.len() {
        cut = reader.read(bytes.get(..end).expect("it is within"));
        if cut != Ok(Progress::NeedMore) {
            break;
        }
    }
    assert_eq!(cut, whole, "byte by byte");
    assert_eq!(reader.list(), &list, "byte by byte");
    if whole != Ok(Progress::Done) {
        return;
    }
    assert!(list.length <= bytes.len());
    let mut names: Vec<&str> = list.changes.iter().map(|change| change.name.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), list.changes.len(), "each ref once");
    for change in &list.changes {
        assert!(
            change.name.as_str().starts_with("refs/")
                && (change.old().is_some() || change.new_id().is_some())
        );
    }
    // An answer is always lines that can be read, to the last byte.
    let opening = refusal::push_opening(&list.capabilities, "reason: text").unwrap_or_default();
    let report = refusal::push_report(&list.capabilities, &list.changes, "reason", |_| true);
    for answer in [opening, report] {
        let mut rest = &*answer;
        while !rest.is_empty() {
            let (_, length) = pkt_line::next(rest).expect("lines").expect("whole lines");
            rest = rest.get(length..).expect("it is within");
        }
    }
}

fn fetch(bytes: &[u8], version: ProtocolVersion) {
    let read = FetchRequest::read(bytes, version);
    if let Ok((told, fixed)) = FetchRequest::fixed(bytes, version) {
        assert_eq!(read, Ok(told), "what has a fixed form is read");
        assert_eq!(
            FetchRequest::fixed(&fixed, version),
            Ok((told, fixed.clone())),
            "the fixed form is its own"
        );
    }
}

fn archive(bytes: &[u8]) {
    let fixed = |bytes: &[u8]| {
        let mut reader = FetchReader::fixing(bytes, FetchKind::Archive);
        while !reader.step().ok()? {}
        Some(reader.into_parts())
    };
    if let Some((told, out)) = fixed(bytes) {
        // 64 arguments, each a text or two of at most 255 bytes.
        assert!(out.len() <= 64 * 540 + 4, "{} bytes", out.len());
        assert_eq!(fixed(&out), Some((told, out)), "the fixed form is its own");
    }
}

fn batch(bytes: &[u8]) {
    let Ok(batch) = lfs::read_batch(bytes) else { return };
    let value: Value = serde_json::from_slice(bytes).expect("it is JSON");
    let operation = match batch.operation {
        Operation::Push => "upload",
        _ => "download",
    };
    assert_eq!(value.get("operation").and_then(Value::as_str), Some(operation));
}

fn request(line: &str) {
    let Some((method, target)) = line.split_once(' ') else { return };
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    };
    let Ok(read) = classify(method, path, query, true) else { return };
    assert!(["GET", "POST", "PUT"].contains(&method));
    let repository = read.repository.as_str();
    assert!(path.starts_with(repository) && repository.starts_with('/'), "{path} {repository}");
    for ambiguous in ["//", "/../", "/./", ";", "\\", "%2F", "%2f", "?", "#", " "] {
        assert!(!repository.contains(ambiguous), "{repository}");
    }
}
