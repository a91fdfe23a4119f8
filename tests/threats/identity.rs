//! The rows about identities that were proven once: on a connection that stays open, a certificate is revoked or expires.

use std::io::{Read, Write};

use jiff::Timestamp;
use rustix::process::Signal;
use serde_json::json;

use crate::check::ask;
use crate::support::{
    Authority, Egressd, Issued, Origin, TlsStream, Wire, any_port, config, directory, run, until, write,
};

const NAME: &str = "proxy.test";

/// An egressd that wants client certificates, and an origin that everyone may reach.
struct Guarded {
    authority: Authority,
    echo: Origin,
    web: Origin,
    proxy: Egressd,
}

/// Answers every head.
fn web() -> Origin {
    Origin::start(any_port(), |mut conversation| {
        let (mut head, mut byte) = (Vec::new(), [0]);
        while conversation.read(&mut byte)? > 0 {
            head.push(byte[0]);
            if head.ends_with(b"\r\n\r\n") {
                conversation.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")?;
                head.clear();
            }
        }
        Ok(())
    })
}

impl Guarded {
    /// With these revocation lists.
    fn start(authority: Authority, lists: &str) -> Self {
        let (echo, web) = (Origin::echo(), web());
        let directory = directory();
        let own = authority.issue(&[NAME]);
        let files = [
            ("ca.crt", authority.pem()),
            ("ca.crl", lists),
            ("tls.crt", &own.pem),
            ("tls.key", &own.key_pem),
        ];
        for (name, text) in files {
            write(&directory.path().join(name), text);
        }
        let tls = "tls: {certificate: tls.crt, key: tls.key, client_ca: ca.crt, client_crl: ca.crl}";
        let rules = [format!("tcp://{}", echo.address()), format!("http://127.0.0.1:{}", web.port())];
        let text = config(&rules.each_ref().map(String::as_str)).replace(
            "{name: proxy, address: 127.0.0.1:0}",
            &format!("{{name: proxy, address: 127.0.0.1:0, {tls}}}"),
        );
        assert!(text.contains("client_crl"), "the listener of `config` looks otherwise now");
        let proxy = Egressd::start_in(directory, &text);
        Guarded { authority, echo, web, proxy }
    }

    fn client(&self, own: &Issued) -> Wire<TlsStream> {
        Wire::through(self.authority.client_as(NAME, self.proxy.connect(), Some(own)))
    }

    fn tunnel(&self, own: &Issued) -> Wire<TlsStream> {
        let mut wire = self.client(own);
        wire.send(ask(&self.echo.address().to_string()));
        assert_eq!(wire.read_head().status, 200);
        wire
    }

    /// A connection on which one request was served and the next one has begun.
    fn waiting(&self, own: &Issued) -> Wire<TlsStream> {
        let mut wire = self.client(own);
        let to = self.web.address();
        wire.send(format!("GET http://{to}/ HTTP/1.1\r\nHost: {to}\r\n\r\n"));
        assert_eq!(wire.read_reply().body, "ok");
        wire.send("CONNECT ");
        wire
    }

    /// Nothing that the certificate proved is served any more.
    fn assert_shut_out(&self, own: &Issued, mut tunnel: Wire<TlsStream>, mut waiting: Wire<TlsStream>) {
        assert!(tunnel.read_to_end().0.is_empty());
        self.proxy
            .record(|record| record["event"] == "close")
            .assert_has(&json!({"ending": "identity_revoked", "reason": "client_certificate_invalid"}));
        let target = self.echo.address();
        waiting.send(format!("{target} HTTP/1.1\r\nHost: {target}\r\n\r\n"));
        assert!(waiting.read_to_end().0.is_empty(), "served");
        self.proxy
            .record(|record| record["event"] == "deny" && record["method"] == "CONNECT")
            .assert_has(&json!({"reason": "client_certificate_invalid", "target": target.to_string()}));
        assert_eq!(self.echo.seen().len(), 1, "the target of the tunnel heard of nothing else");
        self.assert_refused(own);
    }

    /// In the handshake, with the reason for it.
    fn assert_refused(&self, own: &Issued) {
        let mut stream = self.authority.client_as(NAME, self.proxy.connect(), Some(own));
        let peer = stream.sock.local_addr().expect("connected").to_string();
        let _ = stream.write_all(ask("a.example:443").as_bytes());
        let error = stream.read_to_end(&mut Vec::new()).expect_err("a fatal alert");
        assert!(error.to_string().contains("fatal alert"), "{error}");
        self.proxy
            .record(|record| record["peer"] == peer.as_str())
            .assert_has(&json!({"event": "deny", "reason": "client_certificate_invalid", "status": null}));
    }
}

#[test]
fn t73_a_certificate_revoked_while_its_connection_is_open_opens_nothing_more() {
    let authority = Authority::new();
    let list = authority.crl(&[]);
    let guarded = Guarded::start(authority, &list);
    let (gone, stays) =
        (guarded.authority.issue_client(7, "gone", None), guarded.authority.issue_client(8, "stays", None));
    let (tunnel, waiting) = (guarded.tunnel(&gone), guarded.waiting(&gone));
    write(&guarded.proxy.file("ca.crl"), guarded.authority.crl(&[7]));
    guarded.proxy.signal(Signal::HUP);
    guarded.proxy.says("is in force; 1 tunnel or exchange ended");
    guarded.assert_shut_out(&gone, tunnel, waiting);
    guarded.tunnel(&stays);
}

#[test]
fn t74_a_certificate_that_expires_while_its_connection_is_open_opens_nothing_more() {
    let authority = Authority::new();
    let list = authority.crl(&[]);
    let guarded = Guarded::start(authority, &list);
    // Long enough for two handshakes on a busy machine: if not, the test fails, and does not pass wrongly.
    let last = Timestamp::now().as_second() + 5;
    let own = guarded.authority.issue_client_until("short", last);
    let (tunnel, waiting) = (guarded.tunnel(&own), guarded.waiting(&own));
    until("the certificate to expire", || (Timestamp::now().as_second() > last).then_some(()));
    guarded.assert_shut_out(&own, tunnel, waiting);
}

#[test]
fn t75_of_two_revocation_lists_the_newer_counts_and_one_that_cannot_be_relied_on_is_refused() {
    let authority = Authority::new();
    let (old, new) = (authority.crl_of_year(&[], 2024), authority.crl_of_year(&[7], 2025));
    let gone = authority.issue_client(7, "gone", None);
    let mut authority = Some(authority);
    for lists in [format!("{old}{new}"), format!("{new}{old}")] {
        let guarded = Guarded::start(authority.take().expect("given back"), &lists);
        guarded.assert_refused(&gone);
        guarded.proxy.says("is not used: list ");
        authority = Some(guarded.authority);
    }
    // From the future, or of a stranger with the CA's name: refused with its place, alone or beside a good one.
    let authority = authority.expect("given back");
    let (future, forged) = (authority.crl_of_year(&[], 2999), authority.namesake().crl(&[]));
    let directory = directory();
    let own = authority.issue(&[NAME]);
    for (name, text) in [("ca.crt", authority.pem()), ("tls.crt", &own.pem), ("tls.key", &own.key_pem)] {
        write(&directory.path().join(name), text);
    }
    let file = directory.path().join("egressd.yaml");
    write(
        &file,
        "listeners: [{address: 127.0.0.1:0, tls: {certificate: tls.crt, key: tls.key, client_ca: ca.crt, client_crl: ca.crl}}]\n",
    );
    for (bad, why) in [(&future, "it is from the future"), (&forged, "its signature does not verify")] {
        for (lists, line) in [(bad.clone(), 1), (format!("{old}{bad}"), 1 + old.lines().count())] {
            write(&directory.path().join("ca.crl"), lists);
            let output = run(&["check", "--config", file.to_str().expect("ASCII")]);
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            assert_eq!(output.status.code(), Some(78), "{text}");
            assert!(text.contains(&format!("ca.crl:{line}:1: error: ")) && text.contains(why), "{text}");
        }
    }
}
