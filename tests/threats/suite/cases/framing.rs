//! Where one request ends and the next begins: lines, lengths, chunks, and what two readers could read differently.

use super::super::case::{Case, Expect, Harm, Step, case, connect, get, post};
use super::super::hello::{OK, naming};

pub(super) fn cases() -> Vec<Case> {
    [lengths(), chunks(), lines(), errors(), after_a_verdict(), methods()].concat()
}

fn bad(row: u8, what: impl Into<String>, bytes: impl AsRef<[u8]>) -> Case {
    case(row, what).send(bytes).refused(400, "bad_request")
}

/// A request that is seen as one only by a server that reads the request before it differently.
const SMUGGLED: &str = "GET /SMUGGLED HTTP/1.1\r\nHost: {OK}:{WEB}\r\n\r\n";

fn lengths() -> Vec<Case> {
    let with_smuggled = |fields: &str, body: &str| post(fields, format!("{body}{SMUGGLED}"));
    vec![
        bad(
            48,
            "Content-Length and Transfer-Encoding",
            with_smuggled("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"),
        ),
        bad(
            48,
            "Transfer-Encoding and Content-Length",
            with_smuggled("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", "0\r\n\r\n"),
        ),
        bad(48, "two equal Content-Length", post("Content-Length: 1\r\nContent-Length: 1\r\n", "a")),
        bad(
            48,
            "two different Content-Length",
            with_smuggled("Content-Length: 0\r\nContent-Length: 60\r\n", ""),
        ),
        bad(48, "a list of equal lengths", post("Content-Length: 1, 1\r\n", "a")),
        bad(48, "Content-Length: +5", post("Content-Length: +5\r\n", "hello")),
        bad(48, "Content-Length: 5 5", post("Content-Length: 5 5\r\n", "hello")),
        bad(48, "Content-Length: 05", post("Content-Length: 05\r\n", "hello")),
        bad(48, "Content-Length: 0x5", post("Content-Length: 0x5\r\n", "hello")),
        bad(48, "Content-Length: -1", post("Content-Length: -1\r\n", "hello")),
        bad(48, "Content-Length of 2^64", post("Content-Length: 18446744073709551616\r\n", "hello")),
        bad(48, "an empty Content-Length", post("Content-Length:\r\n", "hello")),
        bad(48, "Transfer-Encoding: Chunked", with_smuggled("Transfer-Encoding: Chunked\r\n", "0\r\n\r\n")),
        bad(48, "Transfer-Encoding: identity", with_smuggled("Transfer-Encoding: identity\r\n", "")),
        bad(48, "Transfer-Encoding: xchunked", with_smuggled("Transfer-Encoding: xchunked\r\n", "0\r\n\r\n")),
        bad(
            48,
            "Transfer-Encoding: chunked, identity",
            with_smuggled("Transfer-Encoding: chunked, identity\r\n", "0\r\n\r\n"),
        ),
        bad(
            48,
            "Transfer-Encoding: identity, chunked",
            with_smuggled("Transfer-Encoding: identity, chunked\r\n", "0\r\n\r\n"),
        ),
        bad(
            48,
            "Transfer-Encoding with a vertical tab",
            with_smuggled("Transfer-Encoding: \x0bchunked\r\n", "0\r\n\r\n"),
        ),
        bad(
            48,
            "Transfer-Encoding twice",
            with_smuggled("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"),
        ),
        bad(
            48,
            "Transfer-Encoding in HTTP/1.0",
            format!(
                "POST http://{{OK}}:{{WEB}}/ HTTP/1.0\r\nHost: {{OK}}:{{WEB}}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{SMUGGLED}"
            ),
        ),
        bad(
            48,
            "a GET with both",
            get("http://{OK}:{WEB}/", "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n"),
        ),
        // Each of these is one request, and the second one is judged on its own.
        case(48, "an honest body, and a request to another behind it")
            .send([post("Content-Length: 5\r\n", "hello"), get("http://{EVIL}:{WEB}/", "")].concat())
            .then(Step::Reply)
            .refused(403, "host_not_allowed")
            .harm(Harm::Elsewhere),
        bad(
            56,
            "CONNECT with Content-Length",
            "CONNECT {OK}:{TLS} HTTP/1.1\r\nHost: {OK}\r\nContent-Length: 5\r\n\r\nhello",
        ),
        bad(
            56,
            "CONNECT with Content-Length: 00",
            "CONNECT {OK}:{TLS} HTTP/1.1\r\nHost: {OK}\r\nContent-Length: 00\r\n\r\n",
        ),
        bad(
            56,
            "CONNECT with Content-Length: +0",
            "CONNECT {OK}:{TLS} HTTP/1.1\r\nHost: {OK}\r\nContent-Length: +0\r\n\r\n",
        ),
        bad(
            56,
            "CONNECT with a list of lengths",
            "CONNECT {OK}:{TLS} HTTP/1.1\r\nHost: {OK}\r\nContent-Length: 0, 0\r\n\r\n",
        ),
        bad(
            56,
            "CONNECT with two lengths of 0",
            "CONNECT {OK}:{TLS} HTTP/1.1\r\nHost: {OK}\r\nContent-Length: 0\r\nContent-Length: 0\r\n\r\n",
        ),
        bad(
            56,
            "CONNECT with Content-Length: 0 and Transfer-Encoding",
            "CONNECT {OK}:{TLS} HTTP/1.1\r\nHost: {OK}\r\nContent-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        ),
        // This says what is so anyway; what follows is the tunnel's.
        case(56, "CONNECT with Content-Length: 0")
            .send(
                [
                    &b"CONNECT {OK}:{TLS} HTTP/1.1\r\nHost: {OK}\r\nContent-Length: 0\r\n\r\n"[..],
                    &naming(OK.as_bytes()),
                ]
                .concat(),
            )
            .then(Step::Established)
            .passes(Expect::Flows),
        bad(
            56,
            "CONNECT with Transfer-Encoding",
            "CONNECT {OK}:{TLS} HTTP/1.1\r\nHost: {OK}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        ),
    ]
}

fn chunks() -> Vec<Case> {
    let chunked = |what: &str, body: &str| {
        case(49, what)
            .send(post("Transfer-Encoding: chunked\r\n", format!("{body}{SMUGGLED}")))
            .expect(Expect::Late(400, "bad_request"))
            .harm(Harm::Bytes(b"SMUGGLED".to_vec()))
    };
    vec![
        chunked("a size of 2^63", "7fffffffffffffff0\r\na"),
        chunked("a size of 2^64", "10000000000000000\r\na"),
        chunked("a size that wraps to 5", "ffffffffffffffff5\r\nhello\r\n0\r\n\r\n"),
        chunked("a negative size", "-1\r\na\r\n0\r\n\r\n"),
        chunked("a size with 0x", "0x5\r\nhello\r\n0\r\n\r\n"),
        chunked("a size with a plus", "+5\r\nhello\r\n0\r\n\r\n"),
        chunked("a space behind the size", "5 \r\nhello\r\n0\r\n\r\n"),
        chunked("a space before an extension", "5 ;x\r\nhello\r\n0\r\n\r\n"),
        chunked("a tab before the size", "\t5\r\nhello\r\n0\r\n\r\n"),
        chunked("no size", "\r\nhello\r\n0\r\n\r\n"),
        chunked("an LF for the size's line end", "5\nhello\r\n0\r\n\r\n"),
        chunked("an LF in an extension", "5;a\nb\r\nhello\r\n0\r\n\r\n"),
        chunked("a CR in an extension", "5;a\rb\r\nhello\r\n0\r\n\r\n"),
        chunked("a quoted LF in an extension", "5;a=\"\n\"\r\nhello\r\n0\r\n\r\n"),
        chunked("an LF behind the data", "5\r\nhello\n0\r\n\r\n"),
        chunked("data longer than its size", "4\r\nhello\r\n0\r\n\r\n"),
        chunked("an LF for the last line", "5\r\nhello\r\n0\r\n\n"),
        chunked("an LF in a trailer", "5\r\nhello\r\n0\r\nx: a\nb: c\r\n\r\n"),
        chunked("a trailer that is folded", "5\r\nhello\r\n0\r\nx: a\r\n b\r\n\r\n"),
        chunked("an extension of 64 KB", &format!("5;{}\r\nhello\r\n0\r\n\r\n", "a".repeat(65_536))),
        case(49, "an extension as it should be")
            .send(post("Transfer-Encoding: chunked\r\n", "5;a=\"b\"\r\nhello\r\n0\r\n\r\n"))
            .passes(Expect::Answers(200)),
        case(49, "a trailer that would decide")
            .send(post(
                "Transfer-Encoding: chunked\r\nTrailer: host\r\n",
                "5\r\nhello\r\n0\r\nHost: evil.test\r\n\r\n",
            ))
            .expect(Expect::Answers(200))
            .harm(Harm::Bytes(b"evil.test".to_vec())),
    ]
}

fn lines() -> Vec<Case> {
    let head = "CONNECT {OK}:{TLS} HTTP/1.1\r\nHost: {OK}\r\n";
    let plain = "GET http://{OK}:{WEB}/ HTTP/1.1\r\nHost: {OK}:{WEB}\r\n";
    let mut cases = vec![
        bad(50, "LF for every line end", "CONNECT {OK}:{TLS} HTTP/1.1\nHost: {OK}\n\n"),
        bad(50, "one LF for a line end", "CONNECT {OK}:{TLS} HTTP/1.1\r\nHost: {OK}\n\r\n"),
        bad(50, "CR for every line end", "CONNECT {OK}:{TLS} HTTP/1.1\rHost: {OK}\r\r"),
        bad(50, "an empty line first", format!("\r\n{head}\r\n")),
        bad(50, "an LF first", format!("\n{head}\r\n")),
        bad(50, "two spaces in the request line", "CONNECT  {OK}:{TLS} HTTP/1.1\r\nHost: {OK}\r\n\r\n"),
        bad(50, "a tab in the request line", "CONNECT\t{OK}:{TLS} HTTP/1.1\r\nHost: {OK}\r\n\r\n"),
        bad(50, "a space behind the version", "CONNECT {OK}:{TLS} HTTP/1.1 \r\nHost: {OK}\r\n\r\n"),
        bad(50, "HTTP/1.2", "CONNECT {OK}:{TLS} HTTP/1.2\r\nHost: {OK}\r\n\r\n"),
        bad(50, "HTTP/0.9", "GET http://{OK}:{WEB}/\r\n\r\n"),
        bad(50, "http/1.1", "CONNECT {OK}:{TLS} http/1.1\r\nHost: {OK}\r\n\r\n"),
    ];
    for (what, field) in [
        ("a folded field", "X: a\r\n b\r\n"),
        ("a folded field that hides one", "X: a\r\n Transfer-Encoding: chunked\r\n"),
        ("a bare CR in a value", "X: a\rb\r\n"),
        ("a bare CR that hides a field", "X: a\rTransfer-Encoding: chunked\r\n"),
        ("a bare LF that hides a field", "X: a\nTransfer-Encoding: chunked\r\n"),
        ("a space before the colon", "X : a\r\n"),
        ("a space before the colon of Transfer-Encoding", "Transfer-Encoding : chunked\r\n"),
        ("a space before the first name", " X: a\r\n"),
        ("no colon", "X\r\n"),
        ("no name", ": a\r\n"),
        ("a NUL in a value", "X: a\0b\r\n"),
        ("a control character in a name", "X\x01: a\r\n"),
        ("brackets in a name", "(X): a\r\n"),
    ] {
        cases.push(bad(50, format!("CONNECT with {what}"), format!("{head}{field}\r\n")));
        cases.push(bad(50, format!("GET with {what}"), format!("{plain}{field}\r\n")));
    }
    cases
}

/// The host is not allowed, and something else is wrong as well: the error must not let the request pass.
fn errors() -> Vec<Case> {
    let evil =
        |fields: &[u8]| [&b"CONNECT {EVIL}:{TLS} HTTP/1.1\r\nHost: {EVIL}\r\n"[..], fields, b"\r\n"].concat();
    vec![
        case(51, "0x80 in a field's value").send(evil(b"X: \x80\xff\r\n")).refused(403, "host_not_allowed"),
        bad(51, "0x80 in a field's name", evil(b"X\x80: a\r\n")),
        bad(51, "0x80 in Host", b"CONNECT {EVIL}:{TLS} HTTP/1.1\r\nHost: \x80\r\n\r\n"),
        case(51, "0x80 in an Authorization")
            .send(evil(b"Authorization: Basic \x80\r\n"))
            .refused(403, "host_not_allowed"),
        case(51, "CONNECT to nothing")
            .send("CONNECT  HTTP/1.1\r\nHost: {OK}\r\n\r\n")
            .refused(400, "bad_target"),
        bad(51, "CONNECT without a target", "CONNECT HTTP/1.1\r\nHost: {OK}\r\n\r\n"),
        case(51, "CONNECT to a path")
            .send("CONNECT / HTTP/1.1\r\nHost: {OK}\r\n\r\n")
            .refused(400, "bad_target"),
        case(51, "a method of 4 KB")
            .send(format!(
                "{} http://{{EVIL}}:{{WEB}}/ HTTP/1.1\r\nHost: {{EVIL}}:{{WEB}}\r\n\r\n",
                "A".repeat(4096)
            ))
            .refused(405, "method_not_allowed"),
        bad(51, "nothing but NULs", [0; 64]),
        bad(51, "TLS on a cleartext port", b"\x16\x03\x01\x00\x05hello"),
    ]
}

fn after_a_verdict() -> Vec<Case> {
    let ok = connect("{OK}");
    vec![
        case(55, "CONNECT behind a CONNECT that is denied")
            .send([connect("{EVIL}"), ok.clone()].concat())
            .refused(403, "host_not_allowed"),
        case(55, "a plain request behind a CONNECT that is denied")
            .send([connect("{EVIL}"), get("http://{OK}:{WEB}/", "")].concat())
            .refused(403, "host_not_allowed"),
        case(55, "CONNECT behind a plain request that is denied")
            .send([get("http://{EVIL}:{WEB}/", ""), ok.clone()].concat())
            .refused(403, "host_not_allowed"),
        bad(
            55,
            "CONNECT behind a head that is malformed",
            [b"CONNECT x\r\n\r\n".to_vec(), ok.clone()].concat(),
        ),
        case(55, "CONNECT to nowhere, then another")
            .send([connect("nx.amazonaws.com"), ok].concat())
            .refused(502, "dns_no_such_name"),
        case(58, "another host on the same connection")
            .send(get("http://{OK}:{WEB}/", ""))
            .then(Step::Reply)
            .send(get("http://{EVIL}:{WEB}/", ""))
            .refused(403, "host_not_allowed")
            .harm(Harm::Elsewhere),
        case(58, "another host right behind the first")
            .send([get("http://{OK}:{WEB}/", ""), get("http://{EVIL}:{WEB}/", "")].concat())
            .then(Step::Reply)
            .refused(403, "host_not_allowed")
            .harm(Harm::Elsewhere),
        case(58, "CONNECT behind a plain request")
            .send(get("http://{OK}:{WEB}/", ""))
            .then(Step::Reply)
            .send(connect("{EVIL}"))
            .refused(403, "host_not_allowed")
            .harm(Harm::Elsewhere),
        case(58, "another port on the same connection")
            .send(get("http://{OK}:{WEB}/", ""))
            .then(Step::Reply)
            .send(get("http://{OK}:{OTHER}/", ""))
            .refused(403, "port_not_allowed"),
    ]
    .into_iter()
    // The first request is correct; the case is about the second one.
    .map(|case| match (case.row, &case.harm) {
        (58, Harm::Reached) => case.harm(Harm::Elsewhere),
        _ => case,
    })
    .collect()
}

fn methods() -> Vec<Case> {
    let refused =
        |row, what: &str, bytes: &str| case(row, what).send(bytes).refused(405, "method_not_allowed");
    let frames = [
        &b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..],
        &[0, 0, 0, 4, 0, 0, 0, 0, 0],
        // Streams opened and reset at once.
        &[[0, 0, 1, 1, 4, 0, 0, 0, 1, 0x82], [0, 0, 4, 3, 0, 0, 0, 0, 1, 0]].concat().repeat(200),
    ]
    .concat();
    vec![
        refused(57, "TRACE", "TRACE http://{OK}:{WEB}/ HTTP/1.1\r\nHost: {OK}:{WEB}\r\n\r\n"),
        refused(
            57,
            "TRACE with Max-Forwards: 0",
            "TRACE http://{OK}:{WEB}/ HTTP/1.1\r\nHost: {OK}:{WEB}\r\nMax-Forwards: 0\r\n\r\n",
        ),
        refused(57, "trace in lower case", "trace http://{OK}:{WEB}/ HTTP/1.1\r\nHost: {OK}:{WEB}\r\n\r\n"),
        refused(57, "TRACK", "TRACK http://{OK}:{WEB}/ HTTP/1.1\r\nHost: {OK}:{WEB}\r\n\r\n"),
        refused(57, "OPTIONS *", "OPTIONS * HTTP/1.1\r\nHost: {OK}:{WEB}\r\n\r\n"),
        refused(
            57,
            "OPTIONS of a URI without a path",
            "OPTIONS http://{OK}:{WEB} HTTP/1.1\r\nHost: {OK}:{WEB}\r\n\r\n",
        ),
        refused(
            57,
            "OPTIONS with Max-Forwards: 0",
            "OPTIONS http://{OK}:{WEB}/ HTTP/1.1\r\nHost: {OK}:{WEB}\r\nMax-Forwards: 0\r\n\r\n",
        ),
        refused(57, "connect in lower case", "connect {OK}:{TLS} HTTP/1.1\r\nHost: {OK}\r\n\r\n"),
        bad(59, "the preface of HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
        bad(59, "the preface and rapid resets", frames),
        bad(59, ":path on CONNECT", "CONNECT {OK}:{TLS} HTTP/1.1\r\nHost: {OK}\r\n:path: /\r\n\r\n"),
        bad(
            59,
            ":protocol on CONNECT",
            "CONNECT {OK}:{TLS} HTTP/1.1\r\nHost: {OK}\r\n:protocol: websocket\r\n\r\n",
        ),
        bad(59, "CONNECT as HTTP/2.0", "CONNECT {OK}:{TLS} HTTP/2.0\r\nHost: {OK}\r\n\r\n"),
        case(59, "an upgrade to h2c")
            .send(get(
                "http://{OK}:{WEB}/",
                "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n",
            ))
            .expect(Expect::Answers(200))
            .harm(Harm::Bytes(b"h2c".to_vec())),
    ]
}
