//! Requests inside an inspected tunnel: where they go, what is refused, what is recorded and counted.

use serde_json::json;

use crate::support::{End, Origin, head_of, until};
use crate::world::{Got, HOST, Site, World, get};

#[test]
fn requests_go_over_the_connection_that_was_opened_before_the_200_and_each_is_recorded() {
    let world = World::new();
    let site = world.site();
    let proxy = world.egressd(&site, "");
    let (port, authority) = (site.port(), format!("{HOST}:{}", site.port()));
    let mut wire = world.inside(&proxy, port);
    assert_eq!(site.got().len(), 0, "the handshake is over, and nothing was asked");
    for path in ["/a?secret=1", "/b"] {
        wire.send(get(port, path));
        let reply = wire.read_reply();
        assert_eq!((reply.status, reply.body.as_str()), (200, "ok"));
    }
    wire.send(format!("POST /c HTTP/1.1\r\nHost: {authority}\r\nContent-Length: 3\r\n\r\nabc"));
    assert_eq!(wire.read_reply().status, 200);
    let got = site.got();
    let lines: Vec<&str> = got.iter().map(|got| got.head.lines().next().expect("a line")).collect();
    assert_eq!(lines, ["GET /a?secret=1 HTTP/1.1", "GET /b HTTP/1.1", "POST /c HTTP/1.1"]);
    assert_eq!(got[2].body, b"abc");
    assert!(got.iter().all(|got| got.connection == 0), "one connection serves them all: {got:?}");
    assert!(got.iter().all(|got| got.field("host") == Some(&authority)), "{got:?}");
    drop(wire);
    let close = proxy.record(|record| record["event"] == "close");
    close.assert_has(&json!({
        "method": "CONNECT", "target": authority, "sni": HOST, "decision": "allow", "reason": null, "tunnel": null,
        "status": 200, "ending": "client_closed",
    }));
    let ended = proxy.stop();
    let records = ended.records;
    let events: Vec<&str> = records.iter().map(|record| record.text("event")).collect();
    assert_eq!(events, ["open", "request", "request", "open", "request", "close"], "{records:?}");
    let requests: Vec<_> = records.iter().filter(|record| record["event"] == "request").collect();
    for (record, path) in requests.iter().zip(["/a", "/b", "/c"]) {
        record.assert_has(&json!({
            "target": format!("https://{authority}{path}"), "tunnel": close["id"], "status": 200, "decision": "allow",
            "reason": null, "sni": null,
        }));
    }
    let sum = |field| requests.iter().map(|record| record.number(field)).sum::<u64>();
    assert_eq!((close.number("sent"), close.number("received")), (sum("sent"), sum("received")));
}

#[test]
fn a_default_port_needs_not_be_written_and_another_host_or_scheme_is_a_mismatch() {
    let world = World::new();
    let site = world.site();
    let proxy = world.egressd(&site, "");
    let port = site.port();
    for (line, host) in [
        ("GET / HTTP/1.1", "evil.test".to_owned()),
        // The default port is 443, whatever scheme the client thinks of.
        ("GET / HTTP/1.1", HOST.to_owned()),
        ("GET / HTTP/1.1", format!("{HOST}:80")),
        ("GET https://evil.test/ HTTP/1.1", format!("{HOST}:{port}")),
        (&*format!("GET http://{HOST}:{port}/ HTTP/1.1"), format!("{HOST}:{port}")),
    ] {
        let mut wire = world.inside(&proxy, port);
        wire.send(format!(
            "{line}\r\nHost: {host}\r\n\r\nGET /second HTTP/1.1\r\nHost: {HOST}:{port}\r\n\r\n"
        ));
        proxy.refused(wire, 421, "host_mismatch");
    }
    assert_eq!(site.got().len(), 0);
    let mut wire = world.inside(&proxy, port);
    wire.send(format!("GET https://A.test.:{port}/x HTTP/1.1\r\nHost: A.TEST:{port}\r\n\r\n"));
    assert_eq!(wire.read_reply().status, 200);
    assert!(site.got()[0].head.starts_with("GET /x HTTP/1.1\r\n"), "{:?}", site.got());
    assert_eq!(site.got()[0].field("host"), Some(&*format!("{HOST}:{port}")), "as it is written canonically");
}

#[test]
fn what_no_entry_allows_is_refused_inside_the_tls_and_a_request_behind_it_is_not_run() {
    let world = World::new();
    let site = world.site();
    let proxy = world.egressd(&site, ", requests: [{methods: [GET], paths: [\"/v1/**\"]}]");
    let port = site.port();
    let mut wire = world.inside(&proxy, port);
    wire.send(get(port, "/v1/a"));
    assert_eq!(wire.read_reply().status, 200);
    wire.send(get(port, "/v2/a") + &get(port, "/v1/b"));
    let refused = proxy.refused(wire, 403, "request_not_allowed");
    refused.record.assert_has(&json!({
        "method": "GET", "target": format!("https://{HOST}:{port}/v2/a"), "decision": "deny", "status": 403,
    }));
    assert_eq!(refused.record["tunnel"], proxy.record(|record| record["event"] == "close")["id"]);
    for (request, status, reason) in [
        (get(port, "/v1/%76"), 400, "bad_target"),
        (get(port, "/v1/../v2"), 400, "bad_target"),
        (get(port, "/v1//a"), 400, "bad_target"),
        (get(port, "/v1/a;b"), 400, "bad_target"),
        (get(port, "/v1/a%2Fb"), 400, "bad_target"),
        (get(port, "/v1/a").replace("GET", "DELETE"), 403, "request_not_allowed"),
        (get(port, "/v1/a").replace("GET", "get"), 403, "request_not_allowed"),
        (
            get(port, "/v1/a").replace("\r\n\r\n", "\r\nContent-Length: 1\r\n\r\na"),
            403,
            "request_not_allowed",
        ),
        (format!("CONNECT {HOST}:{port} HTTP/1.1\r\nHost: {HOST}:{port}\r\n\r\n"), 405, "method_not_allowed"),
        (format!("OPTIONS * HTTP/1.1\r\nHost: {HOST}:{port}\r\n\r\n"), 405, "method_not_allowed"),
        (get(port, "/v1/a").replace("GET", "TRACE"), 405, "method_not_allowed"),
    ] {
        let mut wire = world.inside(&proxy, port);
        wire.send(&request);
        proxy.refused(wire, status, reason);
    }
    assert_eq!(site.got().iter().filter(|got| got.head.contains("/v1/a")).count(), 1, "{:?}", site.got());
    assert_eq!(site.got().len(), 1);
    let metrics = proxy.metrics();
    let of = |reason| metrics.count("egressd_inspected_requests_total", &[("reason", reason)]);
    assert_eq!((of("request_not_allowed"), of("bad_target"), of("method_not_allowed")), (4, 5, 3));
    assert_eq!(
        metrics.count("egressd_requests_total", &[("decision", "deny")]),
        0,
        "inner requests are counted apart"
    );
}

#[test]
fn bodies_stream_both_ways_and_the_trailers_come_with_them() {
    let world = World::new();
    let site = Site::serving(world.targets.issue(&[HOST]).server_config(), |got, stream| {
        use std::io::Write as _;
        assert!(got.head.to_ascii_lowercase().contains("transfer-encoding: chunked"), "{}", got.head);
        stream.write_all(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")?;
        stream.write_all(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n3\r\nabc\r\n",
        )?;
        stream.write_all(b"0\r\nX-Sum: 1\r\nAlt-Svc: h3\r\n\r\n")?;
        stream.flush()?;
        Ok(true)
    });
    let proxy = world.egressd(&site, "");
    let mut wire = world.inside(&proxy, site.port());
    wire.send(format!(
        "PUT /a HTTP/1.1\r\nHost: {HOST}:{}\r\nTransfer-Encoding: chunked\r\nTrailer: X-Up\r\n\r\n5\r\nhello\r\n0\r\nX-Up: 2\r\n\r\n",
        site.port()
    ));
    let hints = wire.read_head();
    assert_eq!((hints.status, hints.header("link")), (103, Some("</a>")));
    assert_eq!(wire.read_head().status, 200);
    let rest = wire.read_exact(b"3\r\nabc\r\n0\r\nx-sum: 1\r\n\r\n".len());
    assert_eq!(String::from_utf8_lossy(&rest), "3\r\nabc\r\n0\r\nx-sum: 1\r\n\r\n");
    let Got { body, .. } = site.got().remove(0);
    assert_eq!(String::from_utf8_lossy(&body).to_ascii_lowercase(), "5\r\nhello\r\n0\r\nx-up: 2\r\n\r\n");
}

#[test]
fn a_hundred_mebibytes_go_up_while_as_many_come_down() {
    use std::io::{Read as _, Write as _};
    const SIZE: usize = 100 << 20;
    let world = World::new();
    let site = Origin::tls(world.targets.issue(&[HOST]).server_config(), |mut stream| {
        head_of(&mut stream)?;
        write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\n\r\n")?;
        let mut buffer = vec![0; 64 << 10];
        let mut left = SIZE;
        while left > 0 {
            let read = stream.read(&mut buffer)?;
            assert!(read > 0, "cut off");
            stream.write_all(&buffer[..read])?;
            left -= read;
        }
        stream.flush()
    });
    let proxy = world.start(&World::config(site.port(), ""));
    let mut wire = world.inside(&proxy, site.port());
    wire.send(format!(
        "POST /echo HTTP/1.1\r\nHost: {HOST}:{}\r\nContent-Length: {SIZE}\r\n\r\n",
        site.port()
    ));
    let piece: Vec<u8> = (0..64 << 10).map(|at: usize| (at % 251) as u8).collect();
    let mut sent = 0;
    let mut read = 0;
    let mut head = false;
    while read < SIZE {
        if sent < SIZE {
            wire.send(&piece);
            sent += piece.len();
        }
        if !head {
            assert_eq!(wire.read_head().status, 200);
            head = true;
        }
        let got = wire.read_exact(piece.len());
        assert!(got == piece, "at {read}");
        read += got.len();
    }
    drop(wire);
    let request = proxy.record(|record| record["event"] == "request");
    assert!(request.number("sent") > SIZE as u64 && request.number("received") > SIZE as u64, "{request:?}");
}

#[test]
fn an_answer_that_the_target_cuts_off_does_not_look_complete() {
    let world = World::new();
    // Without a length and without a goodbye: RFC 9112 section 9.8.
    let site = Site::serving(world.targets.issue(&[HOST]).server_config(), |got, stream| {
        use std::io::Write as _;
        let framing = if got.head.starts_with("GET /length") { "Content-Length: 10\r\n" } else { "" };
        write!(stream, "HTTP/1.1 200 OK\r\n{framing}Connection: close\r\n\r\nhalf")?;
        stream.flush()?;
        stream.sock.finish()?;
        Err(std::io::Error::other("no close_notify"))
    });
    let proxy = world.egressd(&site, "");
    for (path, version) in [("/", "1.1"), ("/", "1.0"), ("/length", "1.1")] {
        let mut wire = world.inside(&proxy, site.port());
        wire.send(format!("GET {path} HTTP/{version}\r\nHost: {HOST}:{}\r\n\r\n", site.port()));
        assert_eq!(wire.read_head().status, 200);
        let (body, end) = wire.read_to_end();
        assert!(!body.ends_with(b"0\r\n\r\n"), "{}", String::from_utf8_lossy(&body));
        assert_eq!(end, End::Reset, "{path} {version}");
    }
    until("three records of broken answers", || {
        let broken = |record: &&crate::support::Record| {
            record["event"] == "request" && record["ending"] == "upstream_closed"
        };
        (proxy.records().iter().filter(broken).count() == 3).then_some(())
    });
}

#[test]
fn a_client_is_told_goodbye_in_tls_whoever_ends() {
    let world = World::new();
    let site = Site::start(world.targets.issue(&[HOST]).server_config(), |_| {
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok".to_vec()
    });
    let proxy = world.egressd(&site, "");
    // The client says that it is the last request; it says goodbye itself; it sends nothing more.
    let mut wire = world.inside(&proxy, site.port());
    wire.send(get(site.port(), "/").replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n"));
    assert_eq!(wire.read_reply().status, 200);
    assert_eq!(wire.read_to_end(), (Vec::new(), End::Fin));

    let mut wire = world.inside(&proxy, site.port());
    wire.send(get(site.port(), "/"));
    assert_eq!(wire.read_reply().status, 200);
    wire.stream_mut().conn.send_close_notify();
    wire.send("");
    assert_eq!(wire.read_to_end(), (Vec::new(), End::Fin));
}

#[test]
fn a_target_that_closes_before_the_first_request_costs_the_client_nothing() {
    use std::io::Write as _;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    let world = World::new();
    let config = world.targets.issue(&[HOST]).server_config();
    let (connections, closed) = (AtomicUsize::new(0), Arc::new(AtomicUsize::new(0)));
    let origin = Origin::tls(config, {
        let closed = Arc::clone(&closed);
        move |mut stream| {
            let first = connections.fetch_add(1, Ordering::SeqCst) == 0;
            while stream.conn.is_handshaking() {
                stream.conn.complete_io(&mut stream.sock)?;
            }
            if !first {
                head_of(&mut stream)?;
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")?;
                stream.flush()?;
                return std::io::copy(&mut stream, &mut std::io::sink()).map(drop);
            }
            stream.conn.send_close_notify();
            stream.flush()?;
            stream.sock.finish()?;
            closed.fetch_add(1, Ordering::SeqCst);
            std::io::copy(&mut stream.sock, &mut std::io::sink()).map(drop)
        }
    });
    let proxy = world.start(&World::config(origin.port(), ""));
    let mut wire = world.inside(&proxy, origin.port());
    until("the target to close", || (closed.load(Ordering::SeqCst) == 1).then_some(()));
    wire.send(get(origin.port(), "/"));
    assert_eq!(wire.read_reply().status, 200);
}

#[test]
fn a_target_that_closes_between_two_requests_costs_the_client_nothing_but_a_cheap_handshake() {
    let world = World::new();
    let site = Site::serving(world.targets.issue(&[HOST]).server_config(), |_, stream| {
        use std::io::Write as _;
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")?;
        stream.flush()?;
        Ok(false)
    });
    let proxy = world.egressd(&site, "");
    let mut wire = world.inside(&proxy, site.port());
    for path in ["/1", "/2", "/3"] {
        wire.send(get(site.port(), path));
        assert_eq!(wire.read_reply().status, 200, "{path}");
    }
    let got = site.got();
    assert_eq!(got.iter().map(|got| got.connection).collect::<Vec<_>>(), [0, 1, 2]);
    assert!(got[1].resumed && got[2].resumed, "{got:?}");
}
