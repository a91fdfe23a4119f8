//! Start, probes, the admin listener, and shutdown: what Kubernetes and the load balancer see.

use std::io::Write;
use std::net::TcpStream;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::thread::spawn;

use rustix::process::Signal;
use serde_json::json;

use crate::support::{DEADLINE, Egressd, End, Origin, Wire, any_port, config, directory, until};
use crate::tool::{Ran, tool};

fn tcp_rule(origin: &Origin) -> String {
    format!("tcp://127.0.0.1:{}", origin.port())
}

#[test]
fn a_transfer_under_way_is_finished_after_term() {
    const HALF: usize = 4 << 20;
    let (go_on, wait) = channel::<()>();
    let wait = Arc::new(Mutex::new(wait));
    // A server that stops in the middle of a response until the test lets it continue.
    let origin = Origin::start(any_port(), move |mut conversation| {
        let mut head = [0; 1024];
        let _ = std::io::Read::read(&mut conversation, &mut head)?;
        write!(conversation, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", 2 * HALF)?;
        conversation.write_all(&vec![b'a'; HALF])?;
        let _ = wait.lock().map(|wait| wait.recv());
        conversation.write_all(&vec![b'b'; HALF])
    });
    let proxy = Egressd::start(&config(&[&tcp_rule(&origin)]));
    let home = directory();
    let mut curl = tool("curl", home.path());
    curl.args(["--silent", "--show-error", "--proxytunnel", "--output"]).arg(home.path().join("body"));
    curl.arg("--proxy").arg(format!("http://{}", proxy.address()));
    curl.arg(format!("http://{}/", origin.address()));
    let transfer = spawn(move || Ran::of(&mut curl));

    let body = home.path().join("body");
    until("half the transfer", || (std::fs::metadata(&body).ok()?.len() >= HALF as u64 / 2).then_some(()));
    assert_eq!(proxy.metrics().count("egressd_tunnels_active", &[("policy", "test")]), 1);
    let bytes = proxy.metrics().count("egressd_bytes_total", &[("direction", "received")]);
    assert!(bytes >= HALF as u64 / 2, "the counter moves while bytes flow: {bytes}");
    let (address, admin) = (proxy.address(), proxy.admin());
    proxy.signal(Signal::TERM);
    until("/readyz to say 503", || (proxy.get("/readyz").status == 503).then_some(()));
    assert_eq!((proxy.get("/livez").status, proxy.get("/healthz").status), (200, 200), "draining is healthy");
    // /readyz changes first, so a request may still be served for a moment. Then no client is let in any more: the kernel
    // refuses it, or it is closed without a reply, or it gets a 503.
    until("the listener to close", || {
        let Ok(stream) = TcpStream::connect_timeout(&address, DEADLINE) else { return Some(()) };
        let mut late = Wire::over(stream);
        late.send("CONNECT not-listed.test:443 HTTP/1.1\r\nHost: not-listed.test:443\r\n\r\n");
        let (reply, _) = late.read_to_end();
        (reply.is_empty() || reply.starts_with(b"HTTP/1.1 503 ")).then_some(())
    });
    assert!(proxy.records().iter().all(|r| r["event"] != "close"), "the transfer is still under way");

    go_on.send(()).expect("the origin waits");
    let ran = transfer.join().expect("curl ran");
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let received = std::fs::read(&body).expect("curl wrote it");
    assert!(received[..HALF].iter().all(|b| *b == b'a') && received[HALF..].iter().all(|b| *b == b'b'));
    assert_eq!(received.len(), 2 * HALF);
    let ended = proxy.wait();
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    let close = ended.records.iter().find(|r| r["event"] == "close").expect("a close record");
    assert!(["client_closed", "upstream_closed"].contains(&close.text("ending")), "{close:?}");
    assert!(close.number("received") > 2 * HALF as u64);
    assert!(TcpStream::connect_timeout(&admin, DEADLINE).is_err(), "all is closed");
}

#[test]
fn the_grace_period_ends_what_is_left() {
    let origin = Origin::echo();
    let proxy = Egressd::start(&(config(&[&tcp_rule(&origin)]) + "shutdown: {grace_period: 1s}\n"));
    let mut tunnel = proxy.tunnel(&origin.address().to_string());
    tunnel.send("ping");
    assert_eq!(tunnel.read_exact(4), b"ping");
    let ended = proxy.stop();
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    let close = ended.records.iter().find(|r| r["event"] == "close").expect("a close record");
    close.assert_has(&json!({"ending": "drained", "sent": 4, "received": 4}));
}

#[test]
fn a_second_term_ends_at_once_and_still_writes_the_records() {
    let origin = Origin::echo();
    let proxy = Egressd::start(&(config(&[&tcp_rule(&origin)]) + "shutdown: {grace_period: 10m}\n"));
    let mut tunnel = proxy.tunnel(&origin.address().to_string());
    tunnel.send("ping");
    assert_eq!(tunnel.read_exact(4), b"ping");
    proxy.signal(Signal::TERM);
    until("/readyz to say 503", || (proxy.get("/readyz").status == 503).then_some(()));
    let ended = proxy.stop();
    let close = ended.records.iter().find(|r| r["event"] == "close").expect("a close record");
    assert_eq!(close["ending"], "drained");
}

#[test]
fn an_idle_egressd_does_not_wait_for_the_grace_period() {
    for signal in [Signal::TERM, Signal::INT] {
        let proxy = Egressd::start(&(config(&[]) + "shutdown: {grace_period: 10m}\n"));
        let idle = proxy.connect();
        proxy.signal(signal);
        // The grace period is far longer than the deadline of `wait`.
        assert_eq!(proxy.wait().code, 0, "{signal:?}");
        drop(idle);
    }
}

#[test]
fn a_probe_that_sends_nothing_is_counted_and_not_logged() {
    let origin = Origin::echo();
    let proxy = Egressd::start(&config(&[&tcp_rule(&origin)]));
    for _ in 0..3 {
        let mut probe = proxy.connect();
        probe.finish();
        let (bytes, _) = probe.read_to_end();
        assert!(bytes.is_empty(), "nobody asked: {}", String::from_utf8_lossy(&bytes));
    }
    // An NLB may also send a RST.
    for _ in 0..2 {
        proxy.connect().reset();
    }
    let probes = [("listener", "proxy"), ("result", "probe")];
    until("5 probes", || (proxy.metrics().count("egressd_connections_total", &probes) == 5).then_some(()));
    assert_eq!(proxy.metrics().count("egressd_requests_total", &[]), 0);
    let mut tunnel = proxy.tunnel(&origin.address().to_string());
    tunnel.finish();
    assert_eq!(tunnel.read_to_end(), (Vec::new(), End::Fin));
    let records = proxy.stop().records;
    assert_eq!(
        records.iter().map(|r| r.text("event")).collect::<Vec<_>>(),
        ["open", "close"],
        "only the tunnel"
    );
}

#[test]
fn a_tunnel_is_recorded_to_the_byte() {
    let origin = Origin::echo();
    let rule = tcp_rule(&origin);
    let proxy = Egressd::start(&config(&[&rule]));
    let mut tunnel = proxy.connect();
    let client = tunnel.local();
    let authority = origin.address();
    // The first bytes of the tunnel come together with the head: they are neither lost nor leaked.
    tunnel
        .send(format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\nUser-Agent: test\r\n\r\nearly"));
    let reply = tunnel.read_head();
    assert_eq!((reply.status, tunnel.read_exact(5)), (200, b"early".to_vec()));
    let megabyte = vec![7; 1 << 20];
    let mut sending = tunnel.second();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            sending.send(&megabyte);
            sending.finish();
        });
        let (back, end) = tunnel.read_to_end();
        assert!(back == megabyte && end == End::Fin, "{} bytes, {end:?}", back.len());
    });
    let seen = origin.wait_ended(0);
    assert_eq!(seen.bytes.len(), 5 + megabyte.len());
    let close = proxy.record(|r| r["event"] == "close");
    close.assert_has(&json!({
        "id": reply.id(), "client": client.to_string(), "peer": client.to_string(), "target": authority.to_string(),
        "rule": rule, "sni": null, "sent": seen.bytes.len(), "received": seen.bytes.len(), "ending": "client_closed",
        "upstream": authority.to_string(), "upstream_local": seen.peer.to_string(), "user_agent": "test",
    }));
}

#[test]
fn the_admin_listener_answers_what_kubernetes_and_prometheus_ask() {
    let proxy = Egressd::start(&config(&["https://ok.test"]));
    for (path, status) in
        [("/livez", 200), ("/readyz", 200), ("/healthz", 200), ("/metrics", 200), ("/nothing", 404)]
    {
        assert_eq!(proxy.get(path).status, status, "{path}");
    }
    let metrics = proxy.get("/metrics");
    assert!(
        metrics.header("content-type").is_some_and(|v| v.starts_with("text/plain; version=0.0.4")),
        "{metrics:?}"
    );
    for line in metrics.body.lines().filter(|line| !line.starts_with('#')) {
        assert!(
            line.starts_with("egressd_") || line.starts_with("process_"),
            "a metric with another's name: {line}"
        );
    }
    let metrics = proxy.metrics();
    for name in ["egressd_build_info", "egressd_config_info", "process_resident_memory_bytes"] {
        assert!(metrics.has(name), "{name}");
    }
    assert_eq!(metrics.count("egressd_config_last_reload_successful", &[]), 1);

    // Nothing there changes anything.
    let mut wire = Wire::connect(proxy.admin());
    wire.send("POST /livez HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    assert_eq!(wire.read_reply().status, 405);

    // And none of it can be reached on the proxy's port, nor through the proxy.
    proxy.refuses("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", 400, "bad_target");
    let admin = proxy.admin();
    proxy.refuses(
        format!("GET http://{admin}/metrics HTTP/1.1\r\nHost: {admin}\r\n\r\n"),
        403,
        "host_not_allowed",
    );
}
