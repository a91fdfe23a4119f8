//! The client's side of an inspected tunnel: what its hello must be, and what it says of the certificate that it is shown.

use std::sync::Arc;

use rustls::client::Resumption;
use serde_json::json;

use crate::support::{End, Origin, Wire, client_hello, head_of, until};
use crate::world::{HOST, Tls, World, get};

#[test]
fn the_hello_must_name_the_host_in_report_mode_too() {
    let world = World::new();
    let site = world.site();
    let text = World::config(site.port(), "");
    let report = text.replace("  - name: test\n", "  - name: test\n    mode: report\n");
    for config in [text, report] {
        let proxy = world.start(&config);
        let authority = format!("{HOST}:{}", site.port());
        for (hello, alert, reason) in [
            (client_hello(Some("b.test")), Some(112), "sni_mismatch"),
            (client_hello(None), Some(112), "no_sni"),
            (b"GET / HTTP/1.1\r\n\r\n".to_vec(), None, "not_tls"),
            (b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00".to_vec(), Some(50), "client_hello_malformed"),
        ] {
            let mut tunnel = proxy.tunnel(&authority);
            let client = tunnel.local().to_string();
            tunnel.send(hello);
            let told = alert.map_or(Vec::new(), |alert| vec![21, 3, 3, 0, 2, 2, alert]);
            assert_eq!(tunnel.read_to_end(), (told, End::Fin), "{reason}");
            let record = proxy.record(|r| r["client"] == client.as_str() && r["event"] == "deny");
            record.assert_has(
                &json!({"reason": reason, "decision": "deny", "status": 200, "method": "CONNECT"}),
            );
        }
    }
    assert_eq!(site.got().len(), 0);
}

#[test]
fn a_client_that_offers_http2_alone_gets_the_alert_that_says_so() {
    let world = World::new();
    let site = world.site();
    let proxy = world.egressd(&site, "");
    let authority = format!("{HOST}:{}", site.port());
    for (offered, passes) in
        [(&["h2"][..], false), (&["h2", "http/1.1"], true), (&["http/1.1"], true), (&["http/1.0"], false)]
    {
        let mut tls = Tls::trusting(Some(&world.inspection));
        tls.config.alpn_protocols = offered.iter().map(|name| name.as_bytes().to_vec()).collect();
        let result = tls.handshake(proxy.tunnel(&authority), HOST);
        match (result, passes) {
            (Ok(mut wire), true) => {
                assert_eq!(wire.stream().conn.alpn_protocol(), Some(&b"http/1.1"[..]));
                wire.send(get(site.port(), "/"));
                assert_eq!(wire.read_reply().status, 200);
            }
            (Err(error), false) => {
                assert!(error.to_string().contains("NoApplicationProtocol"), "{offered:?}: {error}");
            }
            (other, _) => panic!("{offered:?}: {:?}", other.map(drop)),
        }
    }
    until("both refusals", || {
        (proxy.records().iter().filter(|r| r["reason"] == "http1_not_offered").count() == 2).then_some(())
    });
    let refused = proxy.record(|record| record["reason"] == "http1_not_offered");
    refused.assert_has(
        &json!({"event": "deny", "decision": "deny", "status": 200, "sni": HOST, "method": "CONNECT"}),
    );
}

#[test]
fn a_client_that_does_not_trust_the_authority_is_recorded_each_time_and_told_of_once() {
    let world = World::new();
    let site = world.site();
    let proxy = world.egressd(&site, "");
    let authority = format!("{HOST}:{}", site.port());
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        for _ in 0..2 {
            let result = Tls::of(None, version).handshake(proxy.tunnel(&authority), HOST);
            let error = result.map(drop).expect_err("it trusts nobody");
            assert!(error.to_string().contains("UnknownIssuer"), "{error}");
        }
    }
    until("four refusals", || {
        (proxy.records().iter().filter(|r| r["reason"] == "inspection_distrusted").count() == 4).then_some(())
    });
    let record = proxy.record(|record| record["reason"] == "inspection_distrusted");
    record.assert_has(
        &json!({"event": "deny", "decision": "deny", "status": 200, "sni": HOST, "ending": null}),
    );
    proxy.says("seems not to trust the inspection authority");
    let ended = proxy.stop();
    assert_eq!(ended.stderr.matches("seems not to trust").count(), 1, "{}", ended.stderr);
    assert!(ended.stderr.contains("install") || ended.stderr.contains("Install"), "{}", ended.stderr);
    assert_eq!(site.got().len(), 0);
    assert!(ended.records.iter().all(|record| record["event"] != "open"), "nothing was opened");
}

#[test]
fn a_client_that_leaves_without_a_word_after_the_certificate_is_gone_with_a_hint() {
    let world = World::new();
    let site = world.site();
    let proxy = world.egressd(&site, "");
    // It verifies after the handshake, and closes.
    let tunnel = proxy.tunnel(&format!("{HOST}:{}", site.port()));
    let client = tunnel.local().to_string();
    drop(Tls::trusting(Some(&world.inspection)).handshake(tunnel, HOST).expect("a handshake"));
    proxy
        .record(|r| r["client"] == client.as_str())
        .assert_has(&json!({"event": "error", "reason": "client_gone"}));
    // It closes in the middle of it.
    let mut tunnel = proxy.tunnel(&format!("{HOST}:{}", site.port()));
    let client = tunnel.local().to_string();
    tunnel.send(client_hello(Some(HOST)));
    assert_eq!(tunnel.read_exact(1), [22]);
    drop(tunnel);
    proxy
        .record(|r| r["client"] == client.as_str())
        .assert_has(&json!({"event": "error", "reason": "client_gone"}));
    let ended = proxy.stop();
    assert_eq!(ended.stderr.matches("seems not to trust").count(), 1, "{}", ended.stderr);
}

/// As apt does on GnuTLS: the handshake ends with `close_notify`, which names no error.
#[test]
fn a_client_that_says_farewell_in_the_handshake_is_gone_with_a_hint() {
    let world = World::new();
    let site = world.site();
    let proxy = world.egressd(&site, "");
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let mut tunnel = proxy.tunnel(&format!("{HOST}:{}", site.port()));
        let client = tunnel.local().to_string();
        let name = HOST.try_into().expect("a name");
        let config = Arc::new(Tls::of(Some(&world.inspection), version).config);
        let mut tls = rustls::ClientConnection::new(config, name).expect("a client");
        let mut out = Vec::new();
        tls.write_tls(&mut out).expect("into memory");
        tunnel.send(std::mem::take(&mut out));
        // The server's hello: after it, TLS 1.3 encrypts the farewell.
        let mut record = tunnel.read_exact(5);
        let length = usize::from(u16::from_be_bytes([record[3], record[4]]));
        record.extend(tunnel.read_exact(length));
        tls.read_tls(&mut record.as_slice()).expect("from memory");
        tls.process_new_packets().expect("a hello");
        assert!(tls.is_handshaking());
        tls.send_close_notify();
        tls.write_tls(&mut out).expect("into memory");
        tunnel.send(out);
        proxy
            .record(|r| r["client"] == client.as_str())
            .assert_has(&json!({"event": "error", "reason": "client_gone", "sni": HOST}));
    }
    proxy.says("seems not to trust the inspection authority");
}

#[test]
fn what_came_with_the_connect_is_kept() {
    use std::io::Write as _;
    let world = World::new();
    let site = world.site();
    let proxy = world.egressd(&site, "");
    // The hello, in the packet of the CONNECT.
    let authority = format!("{HOST}:{}", site.port());
    let mut stream = world.inspection.client(HOST, proxy.connect());
    let mut first = format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n").into_bytes();
    stream.conn.write_tls(&mut first).expect("a Vec takes all");
    stream.sock.write_all(&first).expect("sent");
    let head = head_of(&mut stream.sock).expect("a reply");
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    let mut wire = Wire::through(stream);
    wire.send(get(site.port(), "/"));
    assert_eq!(wire.read_reply().status, 200);
}

#[test]
fn a_client_that_comes_again_resumes_and_a_session_is_of_no_use_for_another_name() {
    let world = World::new();
    let (one, other) = (world.site(), crate::world::Site::ok(&world.targets.issue(&["b.test"])));
    let rules = [(HOST, one.port()), ("b.test", other.port())]
        .map(|(host, port)| format!("{{to: \"https://{host}:{port}\", inspect: true}}"));
    let proxy = world.start(&(crate::support::config(&[&rules[0], &rules[1]]) + &World::rest()));
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let mut tls = Tls::of(Some(&world.inspection), version);
        tls.config.resumption = Resumption::in_memory_sessions(8);
        let ask = |tls: &Tls, host: &str, port: u16| {
            let mut wire = tls.handshake(proxy.tunnel(&format!("{host}:{port}")), host).expect("a handshake");
            wire.send(format!("GET / HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n"));
            assert_eq!(wire.read_reply().status, 200);
            wire.stream().conn.handshake_kind() == Some(rustls::HandshakeKind::Resumed)
        };
        assert!(!ask(&tls, HOST, one.port()));
        assert!(ask(&tls, HOST, one.port()), "{version:?}");
        assert!(!ask(&tls, "b.test", other.port()));
        // A client that offers the sessions of one name for another.
        let confused = Arc::new(Confused::default());
        tls.config.resumption = Resumption::store(Arc::<Confused>::clone(&confused));
        assert!(!ask(&tls, HOST, one.port()));
        assert!(!ask(&tls, "b.test", other.port()), "{version:?}");
        assert!(confused.offered.load(std::sync::atomic::Ordering::SeqCst) > 0, "it did offer one");
    }
}

/// Keeps sessions, and gives those of one name for any.
#[derive(Debug, Default)]
struct Confused {
    tls12: std::sync::Mutex<Option<rustls::client::Tls12ClientSessionValue>>,
    tls13: std::sync::Mutex<Vec<rustls::client::Tls13ClientSessionValue>>,
    offered: std::sync::atomic::AtomicUsize,
}

impl Confused {
    fn counted<T>(&self, session: Option<T>) -> Option<T> {
        let count = usize::from(session.is_some());
        self.offered.fetch_add(count, std::sync::atomic::Ordering::SeqCst);
        session
    }
}

impl rustls::client::ClientSessionStore for Confused {
    fn set_kx_hint(&self, _: rustls::pki_types::ServerName<'static>, _: rustls::NamedGroup) {}

    fn kx_hint(&self, _: &rustls::pki_types::ServerName<'_>) -> Option<rustls::NamedGroup> {
        None
    }

    fn set_tls12_session(
        &self,
        _: rustls::pki_types::ServerName<'static>,
        session: rustls::client::Tls12ClientSessionValue,
    ) {
        *self.tls12.lock().expect("no panic") = Some(session);
    }

    fn tls12_session(
        &self,
        _: &rustls::pki_types::ServerName<'_>,
    ) -> Option<rustls::client::Tls12ClientSessionValue> {
        self.counted(self.tls12.lock().expect("no panic").clone())
    }

    fn remove_tls12_session(&self, _: &rustls::pki_types::ServerName<'static>) {}

    fn insert_tls13_ticket(
        &self,
        _: rustls::pki_types::ServerName<'static>,
        session: rustls::client::Tls13ClientSessionValue,
    ) {
        self.tls13.lock().expect("no panic").push(session);
    }

    fn take_tls13_ticket(
        &self,
        _: &rustls::pki_types::ServerName<'static>,
    ) -> Option<rustls::client::Tls13ClientSessionValue> {
        self.counted(self.tls13.lock().expect("no panic").pop())
    }
}

#[test]
fn a_silent_client_is_left_at_the_hello_timeout_and_one_that_stops_in_its_handshake_too() {
    let world = World::new();
    let site = world.site();
    let proxy = world.start(&(World::config(site.port(), "") + "tunnel: {client_hello_timeout: 300ms}\n"));
    let authority = format!("{HOST}:{}", site.port());
    let mut silent = proxy.tunnel(&authority);
    assert_eq!(silent.read_to_end(), (Vec::new(), End::Fin));
    proxy.record(|record| record["reason"] == "client_hello_timeout");
    let mut stopping = proxy.tunnel(&authority);
    stopping.send(client_hello(Some(HOST)));
    stopping.read_to_end();
    proxy
        .record(|record| record["reason"] == "tls_handshake_failed")
        .assert_has(&json!({"event": "deny", "status": 200}));
    let _unused: Option<Origin> = None;
}
