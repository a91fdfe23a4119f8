//! Requests to Git as bytes: lists of commands, requests to fetch, and credentials.

use std::io::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// An id.
pub(crate) const OLD: &str = "1111111111111111111111111111111111111111";
/// Another.
pub(crate) const NEW: &str = "2222222222222222222222222222222222222222";
/// What git says that it can.
pub(crate) const ABLE: &str = " report-status side-band-64k agent=git/2.39.5";

/// One line.
pub(crate) fn line(text: impl AsRef<[u8]>) -> Vec<u8> {
    let text = text.as_ref();
    [format!("{:04x}", text.len() + 4).as_bytes(), text].concat()
}

/// The list of a push that updates these refs, by git's own form.
pub(crate) fn updates(refs: &[&str]) -> Vec<u8> {
    let commands: Vec<(&str, &str, &str)> = refs.iter().map(|name| (OLD, NEW, *name)).collect();
    list(ABLE, &commands)
}

/// The list of a push.
pub(crate) fn list(capabilities: &str, commands: &[(&str, &str, &str)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (at, (old, new, name)) in commands.iter().enumerate() {
        let words = if at == 0 { format!("\0{capabilities}") } else { String::new() };
        out.extend(line(format!("{old} {new} {name}{words}")));
    }
    out.extend(b"0000");
    out
}

/// A request of protocol v2 for one object, with one that the client has.
pub(crate) fn fetch() -> Vec<u8> {
    [
        line("command=fetch"),
        line("agent=git/secret"),
        line("object-format=sha1"),
        b"0001".to_vec(),
        line("thin-pack"),
        line(format!("want {OLD}\n")),
        line(format!("have {NEW}\n")),
        line("done\n"),
        b"0000".to_vec(),
    ]
    .concat()
}

/// The body in one gzip member.
pub(crate) fn zipped(body: &[u8]) -> Vec<u8> {
    let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    writer.write_all(body).expect("into memory");
    writer.finish().expect("into memory")
}

/// In chunks of so many bytes.
pub(crate) fn chunked(body: &[u8], size: usize) -> Vec<u8> {
    let mut out = Vec::new();
    for piece in body.chunks(size) {
        out.extend(format!("{:x}\r\n", piece.len()).as_bytes());
        out.extend(piece);
        out.extend(b"\r\n");
    }
    out.extend(b"0\r\n\r\n");
    out
}

/// The content of a chunked body.
pub(crate) fn unchunked(mut body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    loop {
        let end = body.windows(2).position(|pair| pair == b"\r\n").expect("a size");
        let size = usize::from_str_radix(std::str::from_utf8(&body[..end]).expect("ASCII"), 16).expect("hex");
        if size == 0 {
            return out;
        }
        out.extend(&body[end + 2..end + 2 + size]);
        body = &body[end + 2 + size + 2..];
    }
}

/// The field `Authorization`, with its end.
pub(crate) fn basic(user: &str) -> String {
    format!("Authorization: Basic {}\r\n", STANDARD.encode(format!("{user}:secret")))
}
