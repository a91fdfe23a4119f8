//! The fields of a request: which host is meant, what must not go out, what must not come back, what must not be logged raw.

use super::super::case::{Case, Expect, Harm, Step, case, connect, connect_to, get, get_with_host};
use super::super::hello;

const OK_URI: &str = "http://{OK}:{WEB}/";

pub(super) fn cases() -> Vec<Case> {
    [hosts(), magic(), hop_by_hop(), words_back(), too_large(), pretending()].concat()
}

fn bad(row: u8, what: impl Into<String>, bytes: impl AsRef<[u8]>) -> Case {
    case(row, what).send(bytes).refused(400, "bad_request")
}

fn leaks(needle: &str) -> Harm {
    Harm::Bytes(needle.as_bytes().to_vec())
}

fn hosts() -> Vec<Case> {
    let mismatch = |what, host: &str| bad(3, what, get_with_host(OK_URI, host, "")).harm(leaks("evil.test"));
    let connect_with = |fields: &str| format!("CONNECT {{OK}}:{{TLS}} HTTP/1.1\r\n{fields}\r\n");
    let get_with = |fields: &str| format!("GET {OK_URI} HTTP/1.1\r\n{fields}\r\n");
    let mut cases = vec![
        mismatch("Host names another", "evil.test"),
        mismatch("Host names another on the same port", "evil.test:{WEB}"),
        mismatch("Host names a host under another", "{OK}.evil.test:{WEB}"),
        bad(3, "Host names another port", get_with_host(OK_URI, "{OK}:1", "")),
        bad(3, "Host has a user", get_with_host(OK_URI, "evil.test@{OK}:{WEB}", "")),
        case(3, "no Host in HTTP/1.0: the URI's is sent")
            .send(format!("GET {OK_URI} HTTP/1.0\r\n\r\n"))
            .passes(Expect::Answers(200)),
        case(5, "Host names another")
            .send("CONNECT {OK}:{TLS} HTTP/1.1\r\nHost: {EVIL}:{TLS}\r\n\r\n")
            .then(Step::Established)
            .send(hello::real(hello::OK))
            .expect(Expect::Flows)
            .harm(Harm::Elsewhere),
        case(5, "Host names what is allowed, the target does not")
            .send("CONNECT {EVIL}:{TLS} HTTP/1.1\r\nHost: {OK}:{TLS}\r\n\r\n")
            .refused(403, "host_not_allowed"),
        bad(5, "Host is malformed", connect_with("Host: a b\r\n")),
    ];
    for (what, fields) in [
        ("no Host", ""),
        ("an empty Host", "Host:\r\n"),
        ("two Host", "Host: {OK}:{WEB}\r\nHost: {OK}:{WEB}\r\n"),
        ("two Host that differ", "Host: {OK}:{WEB}\r\nHost: {EVIL}:{WEB}\r\n"),
        ("two Host, one in lower case", "Host: {OK}:{WEB}\r\nhost: {EVIL}:{WEB}\r\n"),
        ("a list for Host", "Host: {OK}:{WEB}, {EVIL}:{WEB}\r\n"),
        ("a path in Host", "Host: {OK}:{WEB}/x\r\n"),
        ("a URI for Host", "Host: http://{OK}:{WEB}\r\n"),
    ] {
        cases.push(bad(4, format!("GET with {what}"), get_with(fields)));
        cases.push(bad(4, format!("CONNECT with {what}"), connect_with(fields)));
    }
    cases
}

/// Paths and names for which some proxies serve pages of their own.
fn magic() -> Vec<Case> {
    let served = |what: &str, bytes: Vec<u8>, status, reason| {
        case(45, what).send(bytes).refused(status, reason).harm(Harm::Served)
    };
    vec![
        served(
            "the admin listener's metrics",
            get("http://127.0.0.1:9180/metrics", ""),
            403,
            "host_not_allowed",
        ),
        served("a port of this host", get("http://localhost:9090/", ""), 403, "host_not_allowed"),
        served("metrics of the proxy's port", get("/metrics", ""), 400, "bad_target"),
        served("Squid's manager, origin-form", get("/squid-internal-mgr/info", ""), 400, "bad_target"),
        served(
            "Squid's manager by its old scheme",
            get("cache_object://localhost/info", ""),
            400,
            "bad_target",
        ),
        served(
            "Squid's manager by its host name",
            get("http://unknown:3128/squid-internal-mgr/info", ""),
            403,
            "host_not_allowed",
        ),
        served("Squid's icons", get("/squid-internal-static/icons/SN.png", ""), 400, "bad_target"),
        served("tinyproxy's statistics", get("http://tinyp.roxy/", ""), 403, "host_not_allowed"),
        case(45, "PURGE is a method like any other")
            .send("PURGE http://{OK}:{WEB}/ HTTP/1.1\r\nHost: {OK}:{WEB}\r\n\r\n")
            .expect(Expect::Answers(200))
            .harm(Harm::Served),
        case(45, "Squid's manager under an allowed host is that host's affair")
            .send(get("http://{OK}:{WEB}/squid-internal-mgr/info", ""))
            .expect(Expect::Answers(200))
            .harm(Harm::Served),
    ]
}

fn hop_by_hop() -> Vec<Case> {
    let stripped = |row, what: &str, fields: &str, needle: &str| {
        case(row, what).send(get(OK_URI, fields)).expect(Expect::Answers(200)).harm(leaks(needle))
    };
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\n";
    vec![
        case(46, "a parent of the client's choice, CONNECT")
            .send("CONNECT {OK}:{TLS} HTTP/1.1\r\nHost: {OK}\r\nX-Upstream-Https-Proxy: http://{EVIL}:{WEB}\r\n\r\n")
            .then(Step::Established)
            .send(hello::real(hello::OK))
            .expect(Expect::Flows)
            .harm(Harm::Elsewhere),
        stripped(46, "a parent of the client's choice, plain", "X-Upstream-Https-Proxy: http://{EVIL}:{WEB}\r\n", "x-upstream-https-proxy"),
        bad(52, "Connection nominates Host", get(OK_URI, "Connection: Host\r\n")),
        bad(52, "Connection nominates Via", get(OK_URI, "Connection: close, Via\r\n")),
        bad(52, "Connection nominates Authorization", get(OK_URI, "Connection: authorization\r\nAuthorization: x\r\n")),
        bad(52, "Connection nominates Content-Length", b"POST http://{OK}:{WEB}/ HTTP/1.1\r\nHost: {OK}:{WEB}\r\nConnection: Content-Length\r\nContent-Length: 5\r\n\r\nhello"),
        bad(52, "Connection nominates Transfer-Encoding", b"POST http://{OK}:{WEB}/ HTTP/1.1\r\nHost: {OK}:{WEB}\r\nConnection: Transfer-Encoding\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        bad(52, "Connection nominates X-Forwarded-For", get(OK_URI, "Connection: X-Forwarded-For\r\n")),
        bad(52, "Proxy-Connection nominates Host", get(OK_URI, "Proxy-Connection: Host\r\n")),
        bad(52, "Connection is no list of tokens", get(OK_URI, "Connection: a b\r\n")),
        stripped(52, "a field that Connection nominates", "Connection: X-Hop\r\nX-Hop: leaks\r\n", "x-hop"),
        stripped(52, "a field that a second Connection nominates", "Connection: a\r\nConnection: X-Hop\r\nX-Hop: leaks\r\n", "x-hop"),
        stripped(52, "Keep-Alive", "Connection: Keep-Alive\r\nKeep-Alive: timeout=5\r\n", "timeout=5"),
        stripped(53, "Upgrade", upgrade, "websocket"),
        stripped(53, "Upgrade that Connection does not nominate", "Upgrade: websocket\r\n", "websocket"),
        case(53, "Upgrade, and a request to another right behind it")
            .send([get(OK_URI, upgrade), get("http://{EVIL}:{WEB}/", "")].concat())
            .then(Step::Reply)
            .refused(403, "host_not_allowed")
            .harm(Harm::Elsewhere),
        case(53, "a target that switches unasked")
            .send([get("http://switch.amazonaws.com:{WEB}/", upgrade), b"SMUGGLED".to_vec()].concat())
            .expect(Expect::Late(502, "upstream_bad_response"))
            .harm(leaks("SMUGGLED")),
        stripped(61, "Proxy-Authorization", "Proxy-Authorization: Basic c2VjcmV0\r\n", "c2VjcmV0"),
        stripped(61, "Proxy-Authentication-Info and its like", "Proxy-Foo: c2VjcmV0\r\n", "c2VjcmV0"),
        case(61, "Proxy-Authorization in the log")
            .send(get("http://{EVIL}:{WEB}/", "Proxy-Authorization: Basic c2VjcmV0\r\n"))
            .refused(403, "host_not_allowed")
            .harm(Harm::Logged(b"c2VjcmV0".to_vec())),
        case(61, "Proxy-Authorization on CONNECT")
            .send("CONNECT {OK}:{TLS} HTTP/1.1\r\nHost: {OK}\r\nProxy-Authorization: Basic c2VjcmV0\r\n\r\n")
            .then(Step::Established)
            .send(hello::real(hello::OK))
            .expect(Expect::Flows)
            .harm(leaks("c2VjcmV0")),
        bad(61, "Proxy-Authorization twice", get(OK_URI, "Proxy-Authorization: Basic YQ==\r\nProxy-Authorization: Basic Yg==\r\n")),
        stripped(70, "X-Forwarded-For", "X-Forwarded-For: 10.0.0.1\r\n", "10.0.0.1"),
        stripped(70, "ten thousand addresses in X-Forwarded-For", &format!("X-Forwarded-For: {}\r\n", "10.0.0.1, ".repeat(1_000)), "10.0.0.1"),
        stripped(70, "Forwarded", "Forwarded: for=10.0.0.1\r\n", "10.0.0.1"),
        stripped(70, "X-Real-IP", "X-Real-IP: 10.0.0.1\r\n", "10.0.0.1"),
        stripped(70, "Via", "Via: 1.1 inner.corp\r\n", "inner.corp"),
    ]
}

/// What a refusal repeats from the request.
fn words_back() -> Vec<Case> {
    let told = |what: &str, bytes: Vec<u8>, needle: &str, status, reason| {
        case(60, what).send(bytes).refused(status, reason).harm(Harm::Told(needle.as_bytes().to_vec()))
    };
    let evil = |fields: &str| get("http://{EVIL}:{WEB}/", fields);
    vec![
        told("a script for a host", connect_to("\"><script>alert(1)</script>:443"), "<script", 400, "bad_target"),
        told("a script in a path", get("http://{EVIL}:{WEB}/<script>alert(1)</script>", ""), "<script", 400, "bad_target"),
        told("a script in a path, as %3C", get("http://{EVIL}:{WEB}/%3Cscript%3E", ""), "script", 403, "host_not_allowed"),
        told("a script in a field", evil("X: <script>alert(1)</script>\r\n"), "<script", 403, "host_not_allowed"),
        told("a field as %0d%0a in the host", connect_to("a%0d%0aSet-Cookie:x=1:443"), "Set-Cookie", 400, "bad_target"),
        told("Authorization comes back", evil("Authorization: Basic c2VjcmV0\r\n"), "c2VjcmV0", 403, "host_not_allowed"),
        told("a cookie comes back", evil("Cookie: c2VjcmV0\r\n"), "c2VjcmV0", 403, "host_not_allowed"),
        told("a query comes back", get("http://{EVIL}:{WEB}/?token=c2VjcmV0", ""), "c2VjcmV0", 403, "host_not_allowed"),
        case(70, "an address that a refusal gives away")
            .send(connect("private.amazonaws.com"))
            .refused(403, "address_prohibited")
            .harm(Harm::Told(b"{PRIVATEIP}".to_vec())),
        case(70, "an address that a failed connection gives away")
            .send(get("http://nx.amazonaws.com:{WEB}/", ""))
            .refused(502, "dns_no_such_name")
            .harm(Harm::Told(b"127.0.0.1".to_vec())),
        case(68, "ESC and a line end in a server name")
            .tunnel(hello::OK, hello::naming(b"\x1b[2J\r\n{}.amazonaws.com"))
            .expect(Expect::Alert(50, "client_hello_malformed"))
            .harm(logged("\x1b")),
        case(68, "ESC in a host").send(connect("a\x1b[2J.test")).refused(400, "bad_request").harm(logged("\x1b")),
        case(68, "ESC in User-Agent").send(evil("User-Agent: \x1b]0;owned\x07\r\n")).refused(400, "bad_request").harm(logged("\x1b")),
        case(68, "C1 in User-Agent").send([&b"GET http://{EVIL}:{WEB}/ HTTP/1.1\r\nHost: {EVIL}:{WEB}\r\nUser-Agent: \xc2\x9b2J\r\n\r\n"[..]].concat())
            .refused(403, "host_not_allowed")
            .harm(logged("\u{9b}")),
        case(68, "bidi in User-Agent").send(evil("User-Agent: \u{202e}gol\r\n")).refused(403, "host_not_allowed").harm(logged("\u{202e}")),
        case(68, "bytes that are no UTF-8 in User-Agent").send([&b"GET http://{EVIL}:{WEB}/ HTTP/1.1\r\nHost: {EVIL}:{WEB}\r\nUser-Agent: \xff\xfe\r\n\r\n"[..]].concat())
            .refused(403, "host_not_allowed")
            .harm(Harm::Logged(vec![0xff])),
        case(68, "a quote and a field in User-Agent").send(evil("User-Agent: \",\"decision\":\"allow\r\n"))
            .refused(403, "host_not_allowed")
            .harm(logged("\",\"decision\":\"allow\"")),
        case(68, "a line as %0a in a path").send(get("http://{EVIL}:{WEB}/%0a1.1.1.1%20-%20ALLOWED", ""))
            .refused(403, "host_not_allowed")
            .harm(logged("\n1.1.1.1")),
    ]
}

fn logged(needle: &str) -> Harm {
    Harm::Logged(needle.as_bytes().to_vec())
}

fn too_large() -> Vec<Case> {
    let large = |what: &str, fields: String| {
        case(63, what).send(get("http://{EVIL}:{WEB}/", fields)).refused(431, "head_too_large")
    };
    vec![
        large("a field of 60 KB", format!("X: {}\r\n", "a".repeat(60_000))),
        large("a field of 1 MB", format!("X: {}\r\n", "a".repeat(1_000_000))),
        large("ten thousand fields", "X: a\r\n".repeat(10_000)),
        large("two hundred fields", "X: a\r\n".repeat(200)),
        case(63, "a target of 60 KB")
            .send(get(format!("http://{{EVIL}}:{{WEB}}/{}", "a".repeat(60_000)), ""))
            .refused(431, "head_too_large"),
    ]
}

/// A client that is not behind a balancer cannot claim to be another client.
fn pretending() -> Vec<Case> {
    let v2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x0a\0\0\x01\x0a\0\0\x02\0\x01\0\x02";
    vec![
        bad(
            70,
            "a PROXY header of version 1",
            [b"PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\n".to_vec(), connect("{OK}")].concat(),
        ),
        bad(70, "a PROXY header of version 2", [v2.to_vec(), connect("{OK}")].concat()),
    ]
}
