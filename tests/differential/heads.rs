//! Generates odd heads: nearly correct requests, each with a few of the things on which HTTP parsers disagree. The same seed
//! gives the same heads, so that a failure can be reproduced.

use crate::support::Numbers;

/// Makes heads.
#[derive(Debug)]
pub(crate) struct Heads {
    numbers: Numbers,
    /// The scheme of the URIs that name the authority; the other one is odd.
    scheme: Scheme,
}

/// How the requests reach egressd.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Scheme {
    /// At its port.
    Http,
    /// In inspected tunnels.
    Https,
}

/// One request as a client sends it.
#[derive(Debug)]
pub(crate) struct OddRequest {
    /// The whole request, as bytes.
    pub(crate) bytes: Vec<u8>,
    /// The content that its body has, if the request is let through.
    pub(crate) body: Vec<u8>,
}

const METHODS: &[&str] = &[
    "GET",
    "GET",
    "POST",
    "POST",
    "PUT",
    "OPTIONS",
    "DELETE",
    "PATCH",
    "PROPFIND",
    "X-ODD",
    "get",
    "M!#$%&'*+-.^_`|~",
];

/// Request targets; `AT` stands for the authority.
const TARGETS: &[&str] = &[
    "http://AT/",
    "http://AT/a/b.git/info/refs?service=git-upload-pack",
    "HTTP://AT/a%2f..%2fb",
    "http://AT?q",
    "http://AT",
    "http://AT/%00%0d%0a",
    "http://AT/../x/./y",
    "http://AT/a;b=c?d=[e]|{f}",
    "http://AT/http://other.test/",
    "http://AT/?a=http://other.test/%20HTTP/1.1",
    "http://AT/a\\b",
    "http://AT/*",
];
const ODD_TARGETS: &[&str] = &[
    "/",
    "*",
    "http://u@AT/",
    "http://AT/#f",
    "http://AT/ x",
    "http://AT/\u{e9}",
    "http://AT /",
    "http:///",
    "https://AT/",
    "http://AT\t/",
    "//AT/",
    "http://AT:/",
    "AT",
    "http://other.test@AT/",
];

/// Fields that a request may have.
const FIELDS: &[&str] = &[
    "Accept: */*",
    "accept-encoding:gzip",
    "X-Empty:",
    "X-Spaces: \t a  b \t ",
    "X-Obs: \u{e9}\u{ff}\u{85}",
    "X-Colon: a: b:c",
    "X-Quote: \"a\\\"b\"",
    "X_Under: 1",
    "x-dup: 1",
    "X-Dup: 2",
    "Connection: keep-alive, X-Dup",
    "Connection: close",
    "Proxy-Connection: keep-alive",
    "Keep-Alive: timeout=5",
    "TE: trailers, gzip;q=0.5",
    "Trailer: X-Sum",
    "Upgrade: h2c, websocket",
    "HTTP2-Settings: AAMAAABk",
    "Expect: 100-continue",
    "Via: 1.1 inner",
    "X-Forwarded-For: 127.0.0.1",
    "Forwarded: for=127.0.0.1",
    "Proxy-Authorization: Basic eDp5",
    "Authorization: Basic eDp5",
    "Content-Encoding: chunked",
    "X-Transfer-Encoding: chunked",
    "Transfer-Encoding-X: chunked",
    "Content-Length-X: 3",
    "X-Long: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "Range: bytes=0-",
    "Cookie: a=b; c=\"d\"",
    "Host-Override: other.test",
    "X-Original-URL: /admin",
];
/// Fields that no request should have: each is refused or harmless.
const ODD_FIELDS: &[&str] = &[
    " X-Fold: 1",
    "\tfolded",
    "X-Space : 1",
    "X-Tab\t: 1",
    "X-Nul: a\0b",
    "X-Cr: a\rb",
    "X-Vt: a\u{b}b",
    "No-Colon",
    ": no name",
    "X-\u{e9}: 1",
    "X(Paren): 1",
    "Host: other.test",
    "HOST: AT",
    "Content-Length: 3",
    "Content-Length: +3",
    "Content-Length: 3, 3",
    "Content-Length: 0x3",
    "Content-Length: 03",
    "Content-Length: -1",
    "Content-Length: 3 4",
    "Content-Length:",
    "Content-Length\u{a0}: 3",
    "Transfer-Encoding: chunked",
    "Transfer-Encoding: Chunked",
    "Transfer-Encoding: chunked, identity",
    "Transfer-Encoding: identity, chunked",
    "Transfer-Encoding: \"chunked\"",
    "Transfer-Encoding: x\u{b}chunked",
    "Transfer-Encoding : chunked",
    "Transfer-Encoding: chunked;a=b",
    "Transfer\u{2d}Encoding: gzip",
    "Connection: content-length",
    "Connection: transfer-encoding, host",
    "Expect: 200-ok",
    "GET /smuggled HTTP/1.1",
];
const LINE_ENDS: &[&str] = &["\n", "\r", "\r\r\n", "\n\r", "\r\n ", " \r\n", "\0\r\n"];
const VERSIONS: &[&str] =
    &["HTTP/1.0", "HTTP/1.2", "HTTP/2.0", "http/1.1", "HTTP/01.1", "HTTP/1.1 ", "HTTP/1.1\t", ""];

/// `https` for `http`, and `http` for `https`, where a target begins with it.
fn other_scheme(line: &str) -> String {
    match (line.split_once(" https://"), line.split_once(" http://"), line.split_once(" HTTP://")) {
        (Some((method, rest)), ..) => format!("{method} http://{rest}"),
        (_, Some((method, rest)), _) => format!("{method} https://{rest}"),
        (_, _, Some((method, rest))) => format!("{method} HTTPS://{rest}"),
        _ => line.to_owned(),
    }
}

impl Heads {
    pub(crate) fn new(seed: u64, scheme: Scheme) -> Self {
        Heads { numbers: Numbers::from(seed), scheme }
    }

    fn below(&mut self, bound: usize) -> usize {
        self.numbers.below(bound)
    }

    /// True once in `times` calls, on average.
    fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    fn pick(&mut self, from: &[&'static str]) -> &'static str {
        self.numbers.one(from)
    }

    /// The next request, for a server at `authority`; the origin recognises the request by its `tag`.
    pub(crate) fn request(&mut self, authority: &str, tag: usize) -> OddRequest {
        let odd_target = self.once_in(12);
        let target = self.pick(if odd_target { ODD_TARGETS } else { TARGETS });
        let version = if self.once_in(15) { self.pick(VERSIONS) } else { "HTTP/1.1" };
        let mut lines = vec![format!("{} {target} {version}", self.pick(METHODS))];
        if !self.once_in(25) {
            lines.push("Host: AT".to_owned());
        }
        lines.push(format!("X-Tag: {tag}"));
        for _ in 0..self.below(5) {
            lines.push(self.pick(FIELDS).to_owned());
        }
        let (framing, mut body, mut sent) = self.body();
        if self.scheme == Scheme::Https {
            lines[0] = other_scheme(&lines[0]);
        }
        let is_framed = framing.is_some();
        lines.extend(framing);
        while self.once_in(5) {
            let (at, odd) = (1 + self.below(lines.len()), self.pick(ODD_FIELDS));
            lines.insert(at, odd.to_owned());
            // Alone these fields are correct, and then a body must follow.
            match odd {
                "Content-Length: 3" if !is_framed => (body, sent) = (b"abc".to_vec(), b"abc".to_vec()),
                "Transfer-Encoding: chunked" if !is_framed => {
                    (body, sent) = (Vec::new(), b"0\r\n\r\n".to_vec())
                }
                _ => {}
            }
        }
        lines.push(String::new());
        let mut text = String::new();
        for line in lines {
            text.push_str(&line.replace("AT", authority));
            text.push_str(if self.once_in(150) { self.pick(LINE_ENDS) } else { "\r\n" });
        }
        // Latin-1: every character is one byte.
        let mut bytes: Vec<u8> = text.chars().map(|c| c as u8).collect();
        if self.once_in(60) {
            bytes.splice(0..0, *b"\r\n");
        }
        bytes.extend_from_slice(&sent);
        OddRequest { bytes, body }
    }

    /// How a body is announced, its content, and how it is sent.
    fn body(&mut self) -> (Option<String>, Vec<u8>, Vec<u8>) {
        let smuggled = b"GET http://AT/smuggled HTTP/1.1\r\nX-Tag: 0\r\n\r\n".to_vec();
        match self.below(6) {
            0 => (Some("Content-Length: 3".to_owned()), b"abc".to_vec(), b"abc".to_vec()),
            1 => (Some(format!("Content-Length: {}", smuggled.len())), smuggled.clone(), smuggled),
            2 => (Some("Content-Length: 0".to_owned()), Vec::new(), Vec::new()),
            3 => {
                let sent = self.chunks(&smuggled);
                (Some("Transfer-Encoding: chunked".to_owned()), smuggled, sent)
            }
            _ => (None, Vec::new(), Vec::new()),
        }
    }

    fn chunks(&mut self, body: &[u8]) -> Vec<u8> {
        let mut sent = Vec::new();
        for chunk in body.chunks(1 + self.below(20)) {
            let size = match self.below(40) {
                0 => format!("{:X};ext=\"a;b\"", chunk.len()),
                1 => format!("000{:x};a=b;c", chunk.len()),
                2 => format!("0x{:x}", chunk.len()),
                3 => format!("{:x} ", chunk.len()),
                4 => format!("+{:x}", chunk.len()),
                5 => format!("{:x};\n", chunk.len()),
                _ => format!("{:x}", chunk.len()),
            };
            let end = if self.once_in(80) { "\n" } else { "\r\n" };
            sent.extend_from_slice(size.as_bytes());
            sent.extend_from_slice(b"\r\n");
            sent.extend_from_slice(chunk);
            sent.extend_from_slice(end.as_bytes());
        }
        let last = match self.below(8) {
            0 => "0\r\nX-Sum: 1\r\n\r\n",
            1 => "0\r\nContent-Length: 9\r\nHost: other.test\r\n\r\n",
            2 => "00;a\r\n\r\n",
            3 => "0\r\nX-Tag : 7\r\n\r\n",
            _ => "0\r\n\r\n",
        };
        sent.extend_from_slice(last.as_bytes());
        sent
    }
}
