//! Log lines read back: in any log, each line is a record or is counted as unreadable, and a record says what JSON says.

use egressd::commands::logs::{Entry, Reader};
use egressd::words::outcome::Decision;
use serde_json::Value;

/// The input is a log.
pub fn check(bytes: &[u8]) {
    let mut reader = Reader::new();
    let mut seen = 0;
    // Only a log compressed by gzip can be broken.
    let read = reader.read("log", bytes, |entry| {
        seen += 1;
        touch(entry);
    });
    if read.is_ok() && !bytes.starts_with(b"\x1f\x8b") {
        assert_eq!(reader.records(), seen);
        let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).count() as u64;
        assert!(reader.records() + reader.malformed().count <= lines.max(1), "more than {lines} lines");
    }
    for line in bytes.split(|byte| *byte == b'\n') {
        let (Some(entry), Ok(Value::Object(told))) = (Entry::parse(line), serde_json::from_slice(line))
        else {
            continue;
        };
        let text = String::from_utf8_lossy(line);
        for (name, ours) in
            [("method", entry.method), ("target", entry.target), ("sni", entry.sni), ("client", entry.client)]
        {
            // A member that is written twice, or with escapes in its name, has no single meaning.
            if text.matches(&format!("\"{name}\"")).count() == 1
                && !text.contains("\\u00")
                && let Some(Value::String(theirs)) = told.get(name)
            {
                assert_eq!(
                    ours.map(|ours| ours.decoded().into_owned()).as_deref(),
                    Some(theirs.as_str()),
                    "{name}"
                );
            }
        }
    }
}

fn touch(entry: &Entry<'_>) {
    let _ = (
        entry.stands(),
        entry.asked(),
        entry.client_ip(),
        entry.upstream_address(),
        entry.decided(Decision::Deny),
    );
    if let Some(target) = entry.asked() {
        assert!(!target.to_string().contains(char::is_control));
    }
}
