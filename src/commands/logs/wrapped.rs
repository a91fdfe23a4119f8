//! What container runtimes and log routers put around a line: CRI's fields in front (containerd, CRI-O), Docker's and Fluent Bit's
//! objects, journald's export in JSON.
//!
//! A line is never longer than what a runtime leaves in one piece, so pieces are not put together.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

/// The line without what CRI puts in front of it: `2026-03-01T12:00:00.123456789Z stdout F `. None: it is of the other stream,
/// where egressd writes its diagnostics.
pub(in crate::commands) fn of_stream(line: &[u8]) -> Option<&[u8]> {
    if !line.first().is_some_and(u8::is_ascii_digit) {
        return Some(line);
    }
    match of_cri(line) {
        Some((b"stderr", _)) => None,
        Some((_, line)) => Some(line),
        None => Some(line),
    }
}

/// The stream and the line.
fn of_cri(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let (time, rest) = word(line)?;
    let (stream, rest) = word(rest)?;
    let (tag, rest) = word(rest)?;
    let is_one =
        time.get(10) == Some(&b'T') && matches!(stream, b"stdout" | b"stderr") && tag.starts_with(b"F");
    is_one.then_some((stream, rest))
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
}

/// The object inside of an object: as text, or as it is. None: there is none.
pub(in crate::commands) fn inside(line: &[u8]) -> Option<Cow<'_, [u8]>> {
    if line.first() != Some(&b'{') {
        return None;
    }
    let around: Around<'_> = serde_json::from_slice(line).ok()?;
    let value = around.log_processed.or(around.log).or(around.message).or(around.journal)?.get();
    if value.starts_with('{') {
        return Some(Cow::Borrowed(value.as_bytes()));
    }
    let text: Cow<'_, str> = Cow::Owned(serde_json::from_str::<String>(value).ok()?);
    let text = text.trim();
    text.starts_with('{').then(|| Cow::Owned(text.as_bytes().to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_wrapping_is_taken_off() {
        let line = r#"{"event":"open","target":"a\"b"}"#;
        let quoted = serde_json::to_string(&format!("{line}\n")).expect("text");
        let cri = format!("2026-03-01T12:00:00.123456789Z stdout F {line}");
        assert_eq!(of_stream(cri.as_bytes()), Some(line.as_bytes()));
        assert_eq!(of_stream(cri.replace("stdout", "stderr").as_bytes()), None);
        assert_eq!(of_stream(line.as_bytes()), Some(line.as_bytes()));
        // A line of Squid begins with a digit, too.
        let squid =
            b"2022/08/31 07:12:14| 192.168.13.79 TCP_TUNNEL/200 46966 CONNECT a:443 - HIER_DIRECT/1.2.3.4 -";
        assert_eq!(of_stream(squid), Some(&squid[..]));
        for around in [
            format!("{{\"log\":{quoted},\"stream\":\"stdout\",\"time\":\"2026-03-01T12:00:00Z\"}}"),
            format!("{{\"date\":1772366400.1,\"log\":{quoted},\"kubernetes\":{{\"pod_name\":\"x\"}}}}"),
            format!("{{\"date\":1772366400.1,\"message\":{line}}}"),
            format!("{{\"__CURSOR\":\"s\",\"MESSAGE\":{quoted}}}"),
            format!("{{\"log\":\"other\",\"log_processed\":{line}}}"),
        ] {
            assert_eq!(inside(around.as_bytes()).as_deref(), Some(line.as_bytes()), "{around}");
        }
        assert!(is_docker(format!("{{\"log\":{quoted}}}").as_bytes()) && !is_docker(line.as_bytes()));
        for other in [line, "[]", r#"{"log":7}"#, r#"{"log":"text"}"#, "{"] {
            assert_eq!(inside(other.as_bytes()), None, "{other}");
        }
    }
}
