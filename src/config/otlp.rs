//! Where a copy of the access log goes: an OTLP receiver, and the headers that it wants.
//!
//! The headers' file is read here, so that the checked bytes are the bytes that are sent, and a reload picks up a changed file. Not
//! here: what the environment says ([`crate::telemetry::otlp`]).

use std::fmt;

use http::{HeaderMap, HeaderName, HeaderValue};

use super::file::OtlpFile;
use super::finding::Report;
use super::keys::{Key, value};
use super::named_files::NamedFiles;
use super::otlp_endpoint::OtlpEndpoint;
use super::secret_files::{Secret, tell_of_readers};
use crate::rules::lint;

/// Headers at most: some receivers want a token and a tenant.
const MOST_HEADERS: usize = 32;
/// Bytes of the headers' file at most.
const MOST_BYTES: usize = 32 << 10;
/// Headers that belong to the request itself.
const OURS: [&str; 14] = [
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "host",
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
];

/// A copy of the records for an OTLP receiver.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Otlp {
    /// Where; None: where the environment says.
    pub endpoint: Option<OtlpEndpoint>,
    /// Sent with each request; those of the environment too, unless they have the same name.
    pub headers: OtlpHeaders,
}

/// Headers of requests. Not shown by `Debug`.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct OtlpHeaders(pub HeaderMap);

impl fmt::Debug for OtlpHeaders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OtlpHeaders({})", self.0.len())
    }
}

/// A header that may be sent, by name and value. An error never shows the value.
pub fn otlp_header(name: &str, value: &str) -> Result<(HeaderName, HeaderValue), String> {
    let name = HeaderName::try_from(name).map_err(|_| "the name is not that of a header".to_owned())?;
    if OURS.contains(&name.as_str()) {
        return Err(format!("egressd sets {name} itself"));
    }
    let mut value =
        HeaderValue::from_str(value).map_err(|_| format!("{name} has a value that no header can have"))?;
    value.set_sensitive(true);
    Ok((name, value))
}

/// What `key` means.
pub(super) fn otlp(key: &Key<OtlpFile>, report: &Report<'_>, files: &mut NamedFiles<'_>) -> Option<Otlp> {
    let file = key.as_ref()?.value.as_ref()?;
    let endpoint = value(&file.endpoint).map(|url| url.0.clone());
    let in_clear = endpoint.as_ref().filter(|endpoint| !endpoint.tls && !endpoint.is_loopback());
    if let (Some(at), Some(_)) = (&file.endpoint, in_clear) {
        report.warning(
            at.position,
            "the records are sent in cleartext: who asked for what, and when; write https:// in `endpoint`, or send them to a \
             collector on this machine",
        );
    }
    let confusable = endpoint.as_ref().and_then(|endpoint| lint::confusable(endpoint.host.name()?.as_str()));
    if let (Some(at), Some(found)) = (&file.endpoint, confusable) {
        report.warning(at.position, format!("the host {found}"));
    }
    let headers = file.headers_file.as_ref().and_then(|at| {
        let name = &at.value.as_ref()?.0;
        let content = files.read(name, at.position, report)?;
        tell_of_readers(Secret::OtlpHeaders, (files, name), at.position, report);
        if in_clear.is_some() {
            report.warning(at.position, "the headers are sent in cleartext: write https:// in `endpoint`");
        }
        headers(&content).map_err(|text| report.error(at.position, text)).ok()
    });
    Some(Otlp { endpoint, headers: headers.unwrap_or_default() })
}

/// One header a line. An error never shows a byte of the content.
fn headers(content: &[u8]) -> Result<OtlpHeaders, String> {
    let example = "write one header a line, `Name: value`";
    if content.len() > MOST_BYTES {
        return Err(format!("the file is larger than {MOST_BYTES} bytes: {example}"));
    }
    let text = std::str::from_utf8(content).map_err(|_| format!("the file is not UTF-8 text: {example}"))?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut headers = HeaderMap::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let Some((name, value)) = line.split_once(':') else {
            return Err(format!("line {number} of the file has no colon: {example}"));
        };
        let (name, value) = otlp_header(name.trim(), value.trim())
            .map_err(|wrong| format!("line {number} of the file: {wrong}: {example}"))?;
        if headers.insert(name.clone(), value).is_some() {
            return Err(format!("line {number} of the file: {name} stands there twice: remove one"));
        }
    }
    if headers.len() > MOST_HEADERS {
        return Err(format!("the file has more than {MOST_HEADERS} headers: remove some"));
    }
    Ok(OtlpHeaders(headers))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_lines_and_no_error_shows_a_value() {
        let good =
            headers(b"# who we are\nAuthorization: Bearer s3cret\r\n\nx-tenant:  a: b \n").expect("headers");
        assert_eq!(good.0["authorization"], "Bearer s3cret");
        assert_eq!(good.0["x-tenant"], "a: b");
        assert!(!format!("{good:?}").contains("s3cret") && good.0["authorization"].is_sensitive());
        let many: String = (0..33).map(|number| format!("x-{number}: s3cret\n")).collect();
        let rows: [(&[u8], &str); 8] = [
            (b"s3cret", "line 1 of the file has no colon"),
            (b"a: b\n\xff: s3cret", "not UTF-8"),
            (b"a b: s3cret", "line 1 of the file: the name is not that of a header"),
            (b"ok: 1\nContent-Length: s3cret", "line 2 of the file: egressd sets content-length itself"),
            (b"a: s3cret\0", "line 1 of the file: a has a value that no header can have"),
            (b"a: s3cret\nA: s3cret", "line 2 of the file: a stands there twice"),
            (many.as_bytes(), "more than 32 headers"),
            (&[b'#'; MOST_BYTES + 1], "larger than 32768 bytes"),
        ];
        for (content, want) in rows {
            let wrong = headers(content).expect_err(want);
            assert!(wrong.contains(want) && !wrong.contains("s3cret"), "{wrong}");
        }
    }
}
