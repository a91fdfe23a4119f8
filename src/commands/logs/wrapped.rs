//! What container runtimes and log routers put around a line: CRI's fields in front (containerd, CRI-O), Docker's and Fluent Bit's
//! objects, journald's export in JSON; one around another, too.
//!
//! A line is never longer than what a runtime leaves in one piece, so pieces are not put together.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

/// Wrappings around each other: more than any router makes.
pub(in crate::commands) const DEEPEST: usize = 4;

/// Members in which a router keeps the line. The first that has an object is the line for those who read one alone.
pub(in crate::commands) const WRAPPERS: [&str; 4] = ["log_processed", "log", "message", "MESSAGE"];

/// The line without what CRI puts in front of it, `2026-03-01T12:00:00.123456789Z stdout F `, and whether it is of stderr, where
/// egressd writes its diagnostics.
pub(in crate::commands) fn of_stream(line: &[u8]) -> (bool, &[u8]) {
    if !line.first().is_some_and(u8::is_ascii_digit) {
        return (false, line);
    }
    of_cri(line).unwrap_or((false, line))
}

fn of_cri(line: &[u8]) -> Option<(bool, &[u8])> {
    let (time, rest) = word(line)?;
    let (stream, rest) = word(rest)?;
    let (tag, rest) = word(rest)?;
    // A line or a piece of one, which some routers take for a line.
    let is_one = time.get(10) == Some(&b'T')
        && matches!(stream, b"stdout" | b"stderr")
        && matches!(tag.first(), Some(b'F' | b'P'));
    is_one.then_some((stream == b"stderr", rest.trim_ascii()))
}

fn word(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = memchr::memchr(b' ', line)?;
    Some((line.get(..end)?, line.get(end + 1..)?))
}

/// Whether this is how Docker's lines begin. A router may keep the line in a member of that name beside what was in it.
pub(in crate::commands) fn is_docker(line: &[u8]) -> bool {
    line.starts_with(b"{\"log\":\"{")
}

#[derive(Deserialize)]
struct Around<'l> {
    #[serde(borrow)]
    log: Option<&'l RawValue>,
    #[serde(borrow)]
    message: Option<&'l RawValue>,
    #[serde(borrow, rename = "MESSAGE")]
    journal: Option<&'l RawValue>,
    #[serde(borrow)]
    log_processed: Option<&'l RawValue>,
    #[serde(borrow)]
    stream: Option<&'l RawValue>,
}

/// The objects inside of an object, as text or as they are, in the order of [`WRAPPERS`].
pub(in crate::commands) fn inside(line: &[u8]) -> impl Iterator<Item = Cow<'_, [u8]>> {
    around(line).into_iter().flat_map(|around| {
        let Around { log, message, journal, log_processed, stream: _ } = around;
        [log_processed, log, message, journal].into_iter().flatten().filter_map(|value| object(value.get()))
    })
}

/// Whether a line that is no record is a message of egressd's, or of another program, on stderr.
pub(in crate::commands) fn is_stderr(line: &[u8]) -> bool {
    around(line).and_then(|around| around.stream).is_some_and(|stream| {
        serde_json::from_str::<Cow<'_, str>>(stream.get()).is_ok_and(|stream| stream == "stderr")
    })
}

fn around(line: &[u8]) -> Option<Around<'_>> {
    if line.first() != Some(&b'{') {
        return None;
    }
    serde_json::from_slice(line).ok()
}

/// The object that this value is or has as text, also behind what CRI puts in front.
pub(in crate::commands) fn object(value: &str) -> Option<Cow<'_, [u8]>> {
    if value.starts_with('{') {
        return Some(Cow::Borrowed(value.as_bytes()));
    }
    let text = serde_json::from_str::<String>(value).ok()?;
    let (_, line) = of_stream(text.trim_ascii().as_bytes());
    line.starts_with(b"{").then(|| Cow::Owned(line.to_vec()))
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn each_wrapping_is_taken_off() {
        let line = r#"{"event":"open","target":"a\"b"}"#;
        let quoted = serde_json::to_string(&format!("{line}\n")).expect("text");
        let cri = format!("2026-03-01T12:00:00.123456789Z stdout F {line}");
        assert_eq!(of_stream(cri.as_bytes()), (false, line.as_bytes()));
        assert_eq!(of_stream(cri.replace(" F ", " P ").as_bytes()), (false, line.as_bytes()));
        assert_eq!(of_stream(cri.replace("stdout", "stderr").as_bytes()), (true, line.as_bytes()));
        assert_eq!(of_stream(line.as_bytes()), (false, line.as_bytes()));
        // A line of Squid begins with a digit, too.
        let squid =
            b"2022/08/31 07:12:14| 192.168.13.79 TCP_TUNNEL/200 46966 CONNECT a:443 - HIER_DIRECT/1.2.3.4 -";
        assert_eq!(of_stream(squid), (false, &squid[..]));
        let in_cri = Value::from(cri.as_str()).to_string();
        for around in [
            format!("{{\"log\":{quoted},\"stream\":\"stdout\",\"time\":\"2026-03-01T12:00:00Z\"}}"),
            format!("{{\"date\":1772366400.1,\"log\":{quoted},\"kubernetes\":{{\"pod_name\":\"x\"}}}}"),
            format!("{{\"date\":1772366400.1,\"message\":{line}}}"),
            format!("{{\"__CURSOR\":\"s\",\"MESSAGE\":{quoted}}}"),
            format!("{{\"log\":\"other\",\"log_processed\":{line}}}"),
            format!("{{\"date\":1772366400.1,\"log\":{in_cri}}}"),
        ] {
            let found: Vec<Cow<'_, [u8]>> = inside(around.as_bytes()).collect();
            assert_eq!(found, [Cow::Borrowed(line.as_bytes())], "{around}");
            assert!(!is_stderr(around.as_bytes()));
        }
        // Filebeat's `log` says where the line was.
        let filebeat = format!("{{\"log\":{{\"offset\":1}},\"message\":{quoted}}}");
        assert_eq!(inside(filebeat.as_bytes()).nth(1).as_deref(), Some(line.as_bytes()));
        assert!(is_stderr(br#"{"log":"started\n","stream":"stderr"}"#));
        assert!(is_docker(format!("{{\"log\":{quoted}}}").as_bytes()) && !is_docker(line.as_bytes()));
        for other in [line, "[]", r#"{"log":7}"#, r#"{"log":"text"}"#, "{"] {
            assert_eq!(inside(other.as_bytes()).count(), 0, "{other}");
        }
    }
}
