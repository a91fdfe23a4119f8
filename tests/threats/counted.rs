//! The rows about memory, from the other side: what clients make the proxy hold is counted as what it costs. For each kind of what
//! can be held, at its worst input, the memory of the process grows by no more than the budget says.
//!
//! The budget counts a client's connection and a tunnel with what the kernel has for their sockets, which is not in the process:
//! so what is small is counted as more than it costs here. What is large must be counted as what it is.

use std::io::{Read, Write};
use std::net::SocketAddr;

use crate::check::ask;
use crate::git_bodies::{NEW, line, updates};
use crate::inspected_world::{HOST, World};
use crate::support::{
    Authority, Egressd, Origin, TlsStream, Wire, any_port, config, directory, read, until, write,
};

/// So many are held when the memory is looked at first: by then there is what all of them share.
const FIRST: usize = 20;
/// So many more are held when it is looked at again.
const MORE: usize = 150;
/// The part of what the process grew by that must have been counted. Less than all of it: an allocator keeps some for itself.
const COUNTED: f64 = 0.9;
/// Room for all of them, and no rate that would refuse one.
const LIMITS: &str = "limits: {memory: 1GiB, requests_per_second_per_client: 100000}\n";

/// Memory of the process.
fn resident(proxy: &Egressd) -> f64 {
    let status = read(std::path::Path::new(&format!("/proc/{}/status", proxy.pid())));
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a process has memory");
    line.trim().trim_end_matches(" kB").parse::<f64>().expect("a number") * 1024.0
}

fn held(proxy: &Egressd) -> f64 {
    proxy.metrics().sum("egressd_held_bytes", &[])
}

/// Opens some by `open`, and waits until `arrived` says that this many are held; then many more, and compares.
fn is_counted<T>(what: &str, proxy: &Egressd, mut open: impl FnMut() -> T, arrived: impl Fn(usize) -> bool) {
    let mut all: Vec<T> = Vec::new();
    let mut hold = |count| {
        all.extend((0..count).map(|_| open()));
        let total = all.len();
        until("all of them to be held", || arrived(total).then_some(()));
    };
    hold(FIRST);
    let before = (held(proxy), resident(proxy));
    hold(MORE);
    let counted = (held(proxy) - before.0) / MORE as f64 / 1024.0;
    let grown = (resident(proxy) - before.1) / MORE as f64 / 1024.0;
    eprintln!("{what}: {counted:.1} KiB counted, {grown:.1} KiB of memory each");
    assert!(counted >= COUNTED * grown, "{what}: {counted:.1} KiB counted, {grown:.1} KiB of memory each");
}

/// Reads each connection to its end, and answers none.
fn silent() -> Origin {
    Origin::silent()
}

/// An egressd that allows requests to `origin` and tunnels to it.
fn start(origin: &Origin) -> Egressd {
    let to = origin.address();
    Egressd::start(&(config(&[&format!("http://{to}")]) + LIMITS))
}

/// Everything that reached `origin` on its connections: how many have got `wanted` bytes.
fn reached(origin: &Origin, wanted: usize) -> usize {
    origin.seen().iter().filter(|seen| seen.bytes.len() >= wanted).count()
}

fn sends(proxy: &Egressd, bytes: &[u8]) -> Wire {
    let mut wire = proxy.connect();
    wire.send(bytes);
    wire
}

const LONG: usize = 15_500;

fn long() -> String {
    "a".repeat(LONG)
}

/// So many fields as a head may have, of different names: each costs a place in the map of fields, and two allocations.
fn many_fields() -> String {
    (0..95).map(|at| format!("a{at}: b\r\n")).collect()
}

#[test]
fn t72_a_request_is_counted_as_often_as_it_is_kept() {
    let long = long();
    let rows = [
        ("a small request", "GET", "/".to_owned(), String::new()),
        ("a long path", "GET", format!("/{long}"), String::new()),
        ("a long query", "GET", format!("/?{long}"), String::new()),
        ("a long User-Agent", "GET", "/".to_owned(), format!("User-Agent: {long}\r\n")),
        ("a long field", "GET", "/".to_owned(), format!("X: {long}\r\n")),
        ("many fields", "GET", "/".to_owned(), many_fields()),
        ("the same field", "GET", "/".to_owned(), "a: b\r\n".repeat(95)),
        (
            "a long path with a body",
            "POST",
            format!("/{}", &long[100..]),
            "Content-Length: 9\r\n\r\nx".to_owned(),
        ),
    ];
    for (what, method, path, rest) in &rows {
        let origin = silent();
        let (proxy, to) = (start(&origin), origin.address());
        let end = if rest.ends_with('x') { "" } else { "\r\n" };
        let request = format!("{method} http://{to}{path} HTTP/1.1\r\nHost: {to}\r\n{rest}{end}");
        is_counted(what, &proxy, || sends(&proxy, request.as_bytes()), |count| reached(&origin, 20) >= count);
    }
}

#[test]
fn t72_a_request_in_a_tunnel_is_counted_as_often_as_it_is_kept() {
    for (what, path, rest) in
        [("a long path", long(), String::new()), ("many fields", String::new(), many_fields())]
    {
        let origin = silent();
        let (proxy, to) = (start(&origin), origin.address());
        let request = format!("GET /{path} HTTP/1.1\r\nHost: {to}\r\n{rest}\r\n");
        let open = || {
            let mut wire = proxy.tunnel(&to.to_string());
            wire.send(&request);
            wire
        };
        is_counted(&format!("{what} in a tunnel"), &proxy, open, |count| reached(&origin, 20) >= count);
    }
}

/// Answers each head on a connection.
fn answering(with: String) -> Origin {
    Origin::start(any_port(), move |mut conversation| {
        let (mut head, mut byte) = (Vec::new(), [0]);
        while conversation.read(&mut byte)? > 0 {
            head.push(byte[0]);
            if head.ends_with(b"\r\n\r\n") {
                conversation.write_all(with.as_bytes())?;
                head.clear();
            }
        }
        Ok(())
    })
}

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

#[test]
fn t72_a_connection_that_waits_for_its_next_request_is_counted_with_what_is_left_of_the_last_one() {
    let long_head = format!("HTTP/1.1 200 OK\r\nX: {}\r\nContent-Length: 0\r\n\r\n", "a".repeat(60_000));
    let rows = [
        ("a small one kept", "/".to_owned(), OK.to_owned()),
        ("a long path kept", format!("/{}", long()), OK.to_owned()),
        ("a long head of a response kept", "/".to_owned(), long_head),
    ];
    for (what, path, answer) in rows {
        let origin = answering(answer);
        let (proxy, to) = (start(&origin), origin.address());
        let request = format!("GET http://{to}{path} HTTP/1.1\r\nHost: {to}\r\n\r\n");
        let open = || {
            let mut wire = sends(&proxy, request.as_bytes());
            assert_eq!(wire.read_head().status, 200);
            wire
        };
        is_counted(what, &proxy, open, |count| reached(&origin, 20) >= count);
    }
}

#[test]
fn t72_what_a_tunnel_keeps_of_its_head_is_counted() {
    let echo = Origin::echo();
    let to = echo.address();
    let proxy = Egressd::start(&(config(&[&format!("tcp://{to}")]) + LIMITS));
    for (what, field) in [
        ("a tunnel", String::new()),
        ("a tunnel with a long User-Agent", format!("User-Agent: {}\r\n", long())),
    ] {
        let request = format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n{field}\r\n");
        let open = || {
            let mut wire = sends(&proxy, request.as_bytes());
            assert_eq!(wire.read_head().status, 200);
            wire
        };
        is_counted(what, &proxy, open, |_| true);
    }
}

/// What was read in bulk, and whose last bytes wait for more: they must not keep the whole of it.
#[test]
fn t72_what_is_read_and_not_whole_is_counted() {
    let origin = silent();
    let (proxy, to) = (start(&origin), origin.address());
    let chunks = [format!("{:x}\r\n", 60_000), "a".repeat(60_000), "\r\n1".to_owned()].concat();
    let trailers = ["0\r\n".to_owned(), format!("{}: b\r\n", "a".repeat(80)).repeat(90)].concat();
    for (what, body) in [("a chunk's size", chunks), ("trailers", trailers)] {
        let request =
            format!("POST http://{to}/ HTTP/1.1\r\nHost: {to}\r\nTransfer-Encoding: chunked\r\n\r\n{body}");
        let before = origin.seen().len();
        let arrives = |count| reached(&origin, 60).saturating_sub(before) >= count;
        is_counted(what, &proxy, || sends(&proxy, request.as_bytes()), arrives);
    }
    drop(proxy);
    let proxy = start(&origin);
    let half = format!("GET http://{to}/ HTTP/1.1\r\nHost: {to}\r\nX: {}", long());
    let heads = || proxy.metrics().sum("egressd_held_bytes", &[("kind", "head")]);
    let arrives = |count| heads() >= (count * LONG) as f64;
    is_counted("half a head", &proxy, || sends(&proxy, half.as_bytes()), arrives);
}

/// A client may show certificates that have nothing to do with its own.
#[test]
fn t71_the_certificates_of_a_client_are_counted_as_long_as_they_are_kept() {
    let (authority, strangers) = (Authority::new(), Authority::new());
    let echo = Origin::echo();
    let directory = directory();
    let own = authority.issue(&["proxy.test"]);
    for (name, text) in [("ca.crt", authority.pem()), ("tls.crt", &own.pem), ("tls.key", &own.key_pem)] {
        write(&directory.path().join(name), text);
    }
    let tls = "tls: {certificate: tls.crt, key: tls.key, client_ca: ca.crt}";
    let text = config(&[&format!("tcp://{}", echo.address())]) + LIMITS;
    let text = text.replace(
        "{name: proxy, address: 127.0.0.1:0}",
        &format!("{{name: proxy, address: 127.0.0.1:0, {tls}}}"),
    );
    let proxy = Egressd::start_in(directory, &text);
    let client = authority.issue_client(1, "one", None);
    // Almost as much as is accepted.
    let names: Vec<String> = (0..195).map(|at| format!("{at}.{}.test", "a".repeat(60))).collect();
    let others = strangers.issue(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let to: SocketAddr = echo.address();
    let open = || -> Wire<TlsStream> {
        let shown = client.shown_with(&[&others]);
        let mut wire = Wire::through(authority.client_as("proxy.test", proxy.connect(), Some(&shown)));
        wire.send(ask(&to.to_string()));
        assert_eq!(wire.read_head().status, 200);
        wire
    };
    is_counted("a client's certificates", &proxy, open, |_| true);
}

/// What decides a request to Git is held before it goes on: a list of commands while it is read, and what was made of it as long as
/// the push is under way; a request to fetch while it is read.
#[test]
fn t72_what_decides_a_request_to_git_is_counted_as_it_is_held() {
    let names: Vec<String> = (0..1_000).map(|at| format!("refs/heads/branch-{at}")).collect();
    let list = updates(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let unfinished = &list[..list.len() - 4];
    let have = line(format!("have {NEW}\n"));
    let fetch = [line(format!("want {NEW}\n")), b"0000".to_vec(), have.repeat(4_000)].concat();
    let rows: [(&str, &str, &[u8]); 3] = [
        ("half a list", "git-receive-pack", unfinished),
        ("a push under way", "git-receive-pack", &list),
        ("half a fetch", "git-upload-pack", &fetch),
    ];
    for (what, service, body) in rows {
        let world = World::new();
        let site = world.site();
        let config = World::config(site.port(), ", requests: [{git: [fetch, push]}]");
        let proxy = world.start(&(config + LIMITS));
        let head = format!(
            "POST /own/{service} HTTP/1.1\r\nHost: {HOST}:{}\r\nContent-Type: application/x-{service}-request\r\n\
             Content-Length: {}\r\n\r\n",
            site.port(),
            body.len() + 4
        );
        let request = [head.as_bytes(), body].concat();
        let open = || {
            let mut wire = world.inside(&proxy, site.port());
            wire.send(&request);
            wire
        };
        let bodies = || proxy.metrics().sum("egressd_held_bytes", &[("kind", "body")]);
        let begun = || proxy.log().matches("\"event\":\"open\"").count();
        let arrived = |count: usize| match what {
            // That of the tunnel, and that of the push.
            "a push under way" => begun() >= 2 * count,
            _ => bodies() >= (count * body.len()) as f64,
        };
        is_counted(what, &proxy, open, arrived);
    }
}
