//! `upstream_proxy`: everything goes to the parent, but egressd still decides. The parent is another egressd, or a server
//! that answers as the test says.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;

use rustix::process::Signal;
use rustls::{ServerConnection, StreamOwned};
use serde_json::json;
use tempfile::TempDir;

use crate::support::{
    Authority, Egressd, End, Origin, any_port, client_hello, config, directory, head_of, own_loopback, run,
    until, write,
};

const HOST: &str = "a.test";
/// There is neither a name server nor a route at this address: a lookup through it fails.
const NO_DNS: &str = "dns: {servers: [\"127.0.0.1:1\"], timeout: 1s}\n";

fn by(parent: SocketAddr) -> String {
    format!("upstream_proxy: {{url: \"http://{parent}\"}}\n{NO_DNS}")
}

/// An egressd that knows where `HOST` is, and lets through what `rules` say.
fn parent(rules: &[&str]) -> Egressd {
    Egressd::start(&(config(rules) + &format!("dns: {{hosts: {{{HOST}: [127.0.0.1]}}}}\n")))
}

/// The same without `private`: only public addresses are open.
fn closed(text: &str) -> String {
    text.replace("    private: [127.0.0.0/8]\n", "")
}

fn connect(authority: &str) -> String {
    format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n")
}

/// A parent that answers the first request with `answer`, and then echoes.
fn answering(answer: &'static str) -> Origin {
    Origin::start(any_port(), move |mut conversation| {
        head_of(&mut conversation)?;
        conversation.write_all(answer.as_bytes())?;
        echo(conversation)
    })
}

fn echo(mut stream: impl Read + Write) -> io::Result<()> {
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer)? {
            0 => return Ok(()),
            count => stream.write_all(&buffer[..count])?,
        }
        stream.flush()?;
    }
}

fn with_credentials() -> TempDir {
    let directory = directory();
    write(&directory.path().join("parent.cred"), "egressd:s3cret-word\n");
    directory
}

#[test]
fn t47_a_tunnel_goes_through_the_parent_which_looks_the_name_up() {
    let origin = Origin::echo();
    let target = format!("{HOST}:{}", origin.port());
    let rule = format!("tcp://{target}");
    let parent = parent(&[&rule]);
    let proxy = Egressd::start(&(config(&[&rule]) + &by(parent.address())));
    let mut tunnel = proxy.tunnel(&target);
    tunnel.send("ping");
    assert_eq!(tunnel.read_exact(4), b"ping");
    tunnel.finish();
    assert_eq!(tunnel.read_to_end(), (Vec::new(), End::Fin), "a half-close passes through both");
    let closed = proxy.record(|r| r["event"] == "close");
    closed.assert_has(&json!({
        "target": target.as_str(), "upstream": parent.address().to_string(), "decision": "allow",
        "ending": "client_closed", "sent": 4, "received": 4,
    }));
    parent.record(|r| r["event"] == "close").assert_has(&json!({
        "target": target, "client": closed["upstream_local"], "user_agent": null,
    }));
}

#[test]
fn what_our_policy_denies_never_reaches_the_parent() {
    let parent = Origin::silent();
    let rules = ["tcp://*.example.com:22", "tcp://10.0.0.0/8:22", "tcp://169.254.169.254:80"];
    let text = closed(&config(&rules)) + &by(parent.address());
    let proxy = Egressd::start(&text);
    for (authority, reason) in [
        ("evil.test:22", "host_not_allowed"),
        ("x.example.com:23", "port_not_allowed"),
        // Only a literal address is known before the parent gets the request.
        ("10.1.2.3:22", "address_prohibited"),
        ("169.254.169.254:80", "address_prohibited"),
    ] {
        proxy.refuses(connect(authority), 403, reason).record.assert_has(&json!({"upstream": null}));
    }
    assert_eq!(parent.seen().len(), 0);
}

#[test]
fn t44_egressd_is_never_its_own_parent() {
    let address = SocketAddr::new(own_loopback().into(), 3128);
    let rules = ["tcp://a.example.com:22", &format!("tcp://{address}")];
    let text = config(&rules).replace("127.0.0.1:0}]", &format!("{address}}}]"));
    let itself = Egressd::start(&(text.clone() + &by(address)));
    itself.refuses(connect("a.example.com:22"), 502, "loop");
    drop(itself);
    // And it is not a target through another parent either.
    let parent = Origin::silent();
    let proxy = Egressd::start(&(text + &by(parent.address())));
    proxy.refuses(connect(&address.to_string()), 502, "loop");
    assert_eq!(parent.seen().len(), 0);
}

#[test]
fn a_refusal_by_the_parent_is_distinguished_from_a_failing_target() {
    for (answer, status, reason) in [
        ("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n", 502, "upstream_proxy_refused"),
        ("HTTP/1.1 407 Who\r\nProxy-Authenticate: Basic\r\n\r\n", 502, "upstream_proxy_refused"),
        ("HTTP/1.1 503 Unavailable\r\n\r\n", 502, "upstream_proxy_refused"),
        ("220 mail.corp ESMTP\r\n\r\n", 502, "upstream_bad_response"),
    ] {
        let parent = answering(answer);
        let proxy = Egressd::start(&(config(&["a.example.com"]) + &by(parent.address())));
        let refused = proxy.refuses(connect("a.example.com:443"), status, reason);
        assert!(refused.reply.body.contains("the parent proxy"), "{}", refused.reply.body);
        refused.record.assert_has(&json!({"upstream": parent.address().to_string()}));
        let told = format!("the parent proxy {}: ", parent.address());
        until("the detail on stderr", || proxy.stderr().contains(&told).then_some(()));
    }
}

#[test]
fn a_parent_that_cannot_be_reached_has_the_reason_of_its_failure() {
    let silent = Origin::silent();
    let at = |host: &str, port: u16| format!("upstream_proxy: {{url: \"http://{host}:{port}\"}}\n{NO_DNS}");
    for (parent, status, reason) in [
        (at("127.0.0.1", 1), 502, "connect_refused"),
        (at("proxy.invalid", 3128), 502, "dns_no_such_name"),
        (at("127.0.0.1", silent.port()) + "tunnel: {connect_timeout: 300ms}\n", 504, "connect_timeout"),
    ] {
        let proxy = Egressd::start(&(config(&["a.example.com", "http://a.example.com"]) + &parent));
        let refused = proxy.refuses(connect("a.example.com:443"), status, reason);
        assert!(refused.reply.body.contains("the parent proxy"), "{}", refused.reply.body);
        if reason != "connect_timeout" {
            let get = "GET http://a.example.com/ HTTP/1.1\r\nHost: a.example.com\r\n\r\n";
            let refused = proxy.refuses(get, status, reason);
            assert!(refused.reply.body.contains("the parent proxy"), "{}", refused.reply.body);
        }
    }
}

#[test]
fn t54_what_the_target_says_with_the_parents_200_reaches_the_client() {
    let parent = answering("HTTP/1.1 200 OK\r\n\r\nSSH-2.0-target\r\n");
    let proxy = Egressd::start(&(config(&["tcp://a.example.com:22"]) + &by(parent.address())));
    let mut tunnel = proxy.tunnel("a.example.com:22");
    assert_eq!(tunnel.read_exact(16), b"SSH-2.0-target\r\n");
    tunnel.send("SSH-2.0-client\r\n");
    assert_eq!(tunnel.read_exact(16), b"SSH-2.0-client\r\n");
}

#[test]
fn t61_the_parent_hears_our_credentials_and_never_the_clients() {
    let parent = Origin::start(any_port(), |mut conversation| {
        let request = head_of(&mut conversation)?;
        if request.starts_with("CONNECT ") {
            conversation.write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
            return echo(conversation);
        }
        conversation.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")?;
        echo(conversation)
    });
    let keys = format!(
        "upstream_proxy: {{url: \"http://{}\", credentials_file: parent.cred}}\n{NO_DNS}log: {{level: trace}}\n",
        parent.address()
    );
    let rules = ["tcp://a.example.com:22", "http://a.example.com:8080"];
    let proxy = Egressd::start_in(with_credentials(), &(config(&rules) + &keys));
    let ours = "Proxy-Authorization: Basic ZWdyZXNzZDpzM2NyZXQtd29yZA==";

    let mut wire = proxy.connect();
    wire.send(
        "CONNECT a.example.com:22 HTTP/1.1\r\nHost: a\r\nProxy-Authorization: Basic Y2xpZW50OnB3\r\n\r\n",
    );
    assert_eq!(wire.read_head().status, 200);
    drop(wire);
    let asked = String::from_utf8(parent.wait_ended(0).bytes).expect("ASCII");
    assert_eq!(
        asked,
        format!("CONNECT a.example.com:22 HTTP/1.1\r\nHost: a.example.com:22\r\n{ours}\r\n\r\n")
    );

    // A plain request is forwarded as it is, to a parent that allows CONNECT only to port 443.
    let mut wire = proxy.connect();
    wire.send(
        "GET http://a.example.com:8080/p?q HTTP/1.1\r\nHost: a.example.com:8080\r\nUser-Agent: x\r\nVia: 1.1 inner\r\n\
         Proxy-Authorization: Basic Y2xpZW50OnB3\r\nAccept: */*\r\n\r\n",
    );
    let reply = wire.read_reply();
    assert_eq!((reply.status, reply.body.as_str()), (200, "ok"));
    drop(wire);
    let asked = String::from_utf8(parent.wait_ended(1).bytes).expect("ASCII");
    let (first, fields) = asked.trim_end().split_once("\r\n").expect("a request");
    assert_eq!(first, "GET http://a.example.com:8080/p?q HTTP/1.1");
    let mut fields: Vec<String> = fields.split("\r\n").map(str::to_ascii_lowercase).collect();
    fields.sort();
    assert_eq!(fields, ["accept: */*", "host: a.example.com:8080", &ours.to_ascii_lowercase()]);

    proxy.record(|r| r["event"] == "http").assert_has(&json!({"upstream": parent.address().to_string()}));
    let ended = proxy.stop();
    let records = format!("{:?}", ended.records);
    for said in [&ended.stderr, &records] {
        assert!(!said.contains("s3cret-word") && !said.contains("ZWdyZXNzZDpz"), "{said}");
    }
}

#[test]
fn plain_requests_go_through_the_parent_and_share_its_connection() {
    let origin = Origin::start(any_port(), |mut conversation| {
        loop {
            head_of(&mut conversation)?;
            conversation.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")?;
        }
    });
    let rule = format!("http://{HOST}:{}", origin.port());
    let parent = parent(&[&rule]);
    let proxy = Egressd::start(&(config(&[&rule]) + &by(parent.address())));
    let mut wire = proxy.connect();
    for _ in 0..3 {
        wire.send(format!("GET {rule}/x HTTP/1.1\r\nHost: {HOST}:{}\r\n\r\n", origin.port()));
        assert_eq!(wire.read_reply().body, "hello");
    }
    assert_eq!(origin.seen().len(), 1);
    let clients: Vec<_> = parent.records().iter().map(|record| record["client"].clone()).collect();
    assert!(clients.windows(2).all(|pair| pair[0] == pair[1]), "one connection to the parent: {clients:?}");
}

#[test]
fn plain_requests_inside_a_tunnel_go_to_a_parent_as_plain_requests() {
    let parent = Origin::start(any_port(), |mut conversation| {
        loop {
            let head = head_of(&mut conversation)?;
            let status = if head.starts_with("CONNECT") { "403 No" } else { "200 OK" };
            write!(conversation, "HTTP/1.1 {status}\r\nContent-Length: 5\r\n\r\nhello")?;
        }
    });
    // As a parent that allows CONNECT to port 443 alone.
    let proxy = Egressd::start(&(config(&["http://a.example.com"]) + &by(parent.address())));
    let mut wire = proxy.tunnel("a.example.com:80");
    for form in ["/x", "http://a.example.com/x"] {
        wire.send(format!("GET {form} HTTP/1.1\r\nHost: a.example.com\r\n\r\n"));
        assert_eq!(wire.read_reply().body, "hello");
    }
    assert_eq!(parent.seen().len(), 1);
    let asked = String::from_utf8(parent.seen()[0].bytes.clone()).expect("ASCII");
    assert_eq!(asked.matches("GET http://a.example.com/x HTTP/1.1\r\n").count(), 2, "{asked}");
    proxy.record(|r| r["event"] == "request").assert_has(&json!({"upstream": parent.address().to_string()}));
    wire.send("GET / HTTP/1.1\r\nHost: b.example.com\r\n\r\n");
    proxy.refused(wire, 421, "host_mismatch");
}

#[test]
fn in_report_mode_whatever_such_a_tunnel_carries_goes_through_a_tunnel_of_the_parent() {
    let origin = Origin::echo();
    let target = format!("{HOST}:{}", origin.port());
    let parent = parent(&[&format!("tcp://{target}")]);
    let text = config(&[&format!("http://{target}")])
        .replace("  - name: test\n", "  - name: test\n    mode: report\n");
    let proxy = Egressd::start(&(text + &by(parent.address())));
    let hello = client_hello(Some(HOST));
    let mut tunnel = proxy.tunnel(&target);
    tunnel.send(&hello);
    assert_eq!(tunnel.read_exact(hello.len()), hello);
    proxy.record(|r| r["event"] == "open").assert_has(&json!({
        "decision": "would_deny", "reason": "scheme_not_allowed", "sni": HOST,
    }));
    // The request for an upgrade, as the origin echoes it.
    let mut tunnel = proxy.tunnel(&target);
    tunnel.send(format!("GET /x HTTP/1.1\r\nHost: {target}\r\nUpgrade: websocket\r\n\r\n"));
    let echoed = String::from_utf8(tunnel.read_exact(24)).expect("ASCII");
    assert!(echoed.starts_with("GET /x HTTP/1.1\r\nhost: "), "{echoed}");
    // A request is a plain request to the parent, whose rule is for tunnels.
    let mut tunnel = proxy.tunnel(&target);
    tunnel.send(format!("GET /x HTTP/1.1\r\nHost: {target}\r\n\r\n"));
    assert_eq!(tunnel.read_reply().status, 403);
    parent.record(|r| r["method"] == "GET").assert_has(&json!({"reason": "scheme_not_allowed"}));
}

#[test]
fn a_parent_that_wants_other_credentials_for_a_plain_request_is_reported_as_such() {
    let parent = answering("HTTP/1.1 407 Who\r\nProxy-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n");
    let proxy = Egressd::start(&(config(&["http://a.example.com"]) + &by(parent.address())));
    let get = "GET http://a.example.com/ HTTP/1.1\r\nHost: a.example.com\r\n\r\n";
    let refused = proxy.refuses(get, 502, "upstream_proxy_refused");
    assert_eq!(refused.reply.header("proxy-authenticate"), None, "the client is not asked for it");
}

/// A TLS parent that answers 200 and echoes what comes through the tunnel.
fn tls_parent(authority: &Authority) -> Origin {
    let tls = authority.issue(&["proxy.corp"]).server_config();
    Origin::start(any_port(), move |conversation| {
        let tls = ServerConnection::new(Arc::clone(&tls)).map_err(io::Error::other)?;
        let mut stream = StreamOwned::new(tls, conversation);
        let request = head_of(&mut stream)?;
        let answer: &[u8] = match request.starts_with("CONNECT a.example.com:22 ") {
            true => b"HTTP/1.1 200 OK\r\n\r\nearly",
            false => b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nplain",
        };
        stream.write_all(answer)?;
        stream.flush()?;
        echo(stream)
    })
}

#[test]
fn an_https_parent_gets_tls_and_must_prove_itself() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let parent = tls_parent(&authority);
    let keys = format!(
        "upstream_proxy: {{url: \"https://proxy.corp:{}\", ca: ca.pem}}\ndns: {{hosts: {{proxy.corp: [127.0.0.1]}}}}\n",
        parent.port()
    );
    let text = config(&["tcp://a.example.com:22", "http://a.example.com"]) + &keys;
    let directory = directory();
    write(&directory.path().join("ca.pem"), authority.pem());
    let proxy = Egressd::start_in(directory, &text);
    let mut tunnel = proxy.tunnel("a.example.com:22");
    let megabyte: Vec<u8> = (0..1_000_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    assert_eq!(tunnel.read_exact(5), b"early");
    let mut sending = tunnel.second();
    let sent = megabyte.clone();
    let sender = std::thread::spawn(move || sending.send(&sent));
    assert!(tunnel.read_exact(megabyte.len()) == megabyte, "every byte, in order");
    sender.join().expect("sent");
    drop(tunnel);
    proxy.record(|r| r["event"] == "close").assert_has(&json!({"sent": 1_000_000, "received": 1_000_005}));
    let mut wire = proxy.connect();
    wire.send("GET http://a.example.com/ HTTP/1.1\r\nHost: a.example.com\r\n\r\n");
    assert_eq!(wire.read_reply().body, "plain");

    // A parent with another authority's certificate gets nothing.
    let hash = |proxy: &Egressd| proxy.metrics().label_values("egressd_config_info", "sha256").join(",");
    let before = hash(&proxy);
    write(&proxy.file("ca.pem"), stranger.pem());
    proxy.signal(Signal::HUP);
    until("the reload", || (hash(&proxy) != before).then_some(()));
    proxy.refuses(connect("a.example.com:22"), 502, "upstream_bad_response");
    until("the detail on stderr", || proxy.stderr().contains("the TLS handshake failed").then_some(()));
}

#[test]
fn the_hello_gate_and_verify_certificate_work_through_the_parent() {
    let authority = Authority::new();
    let origin = Origin::tls_echo(&authority.issue(&[HOST]));
    let target = format!("{HOST}:{}", origin.port());
    let parent = parent(&[&format!("tcp://{target}")]);
    let directory = directory();
    write(&directory.path().join("roots.pem"), authority.pem());
    let rule = format!("{{to: \"https://{target}\", verify_certificate: true}}");
    let text = config(&[&rule]) + "certificates: {roots: roots.pem}\n" + &by(parent.address());
    let proxy = Egressd::start_in(directory, &text);
    let mut tls = authority.client(HOST, proxy.tunnel(&target));
    tls.write_all(b"ping").expect("the tunnel stands");
    let mut answer = [0; 4];
    tls.read_exact(&mut answer).expect("an echo");
    assert_eq!(&answer, b"ping");
    assert_eq!(origin.seen().len(), 2, "the tunnel, and the proof, both by the parent");
    let mut tunnel = proxy.tunnel(&target);
    tunnel.send(crate::support::client_hello(Some("b.test")));
    assert_eq!(tunnel.read_to_end().0, [21, 3, 3, 0, 2, 2, 112]);
}

/// The operator sets the parent's address: it needs no rule, and no reload treats it as a target's address.
#[test]
fn a_reload_judges_a_tunnel_through_a_parent_by_its_target() {
    let parent = answering("HTTP/1.1 200 OK\r\n\r\n");
    let text = closed(&config(&["tcp://a.example.com:22", "tcp://b.example.com:22"])) + &by(parent.address());
    let proxy = Egressd::start(&text);
    let (mut kept, mut revoked) = (proxy.tunnel("a.example.com:22"), proxy.tunnel("b.example.com:22"));
    write(&proxy.file("egressd.yaml"), text.replace("      - \"tcp://b.example.com:22\"\n", ""));
    proxy.signal(Signal::HUP);
    assert_eq!(revoked.read_to_end().0, b"");
    proxy.record(|r| r["ending"] == "policy_revoked").assert_has(&json!({"target": "b.example.com:22"}));
    kept.send("ping");
    assert_eq!(kept.read_exact(4), b"ping");
}

#[test]
fn a_reload_may_change_the_route() {
    let origin = Origin::echo();
    let address = origin.address().to_string();
    let parent = answering("HTTP/1.1 200 OK\r\n\r\n");
    let direct = config(&[&format!("tcp://{address}")]);
    let proxy = Egressd::start(&direct);
    let mut first = proxy.tunnel(&address);
    first.send("ping");
    assert_eq!(first.read_exact(4), b"ping");
    assert_eq!((origin.seen().len(), parent.seen().len()), (1, 0));

    let hash = |proxy: &Egressd| proxy.metrics().label_values("egressd_config_info", "sha256").join(",");
    let before = hash(&proxy);
    write(&proxy.file("egressd.yaml"), direct + &by(parent.address()));
    proxy.signal(Signal::HUP);
    until("the reload", || (hash(&proxy) != before).then_some(()));
    proxy.tunnel(&address);
    assert_eq!((origin.seen().len(), parent.seen().len()), (1, 1));
    first.send("pong");
    assert_eq!(first.read_exact(4), b"pong", "an open tunnel never notices");
}

#[test]
fn check_says_what_a_parent_takes_away_and_what_is_wrong_with_its_files() {
    let directory = with_credentials();
    let file = directory.path().join("egressd.yaml");
    let check = |keys: &str| {
        write(
            &file,
            format!("policies: [{{name: p, allow: [a.example.com]}}]\nupstream_proxy: {{{keys}}}\n"),
        );
        let ran = run(&["check", "--config", file.to_str().expect("UTF-8")]);
        (ran.status.code(), String::from_utf8_lossy(&[ran.stdout, ran.stderr].concat()).into_owned())
    };
    let (code, said) = check("url: \"https://proxy.corp:3129\", credentials_file: parent.cred");
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("egressd.yaml:2:23: warning: the parent resolves names"), "{said}");
    assert!(!said.contains("s3cret"), "{said}");
    let (code, said) = check("url: \"http://proxy.corp:3128\", credentials_file: parent.cred");
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("warning: the password is sent to an http parent in cleartext"), "{said}");
    write(&directory.path().join("parent.cred"), "s3cret\n");
    let (code, said) =
        check("url: \"https://proxy.corp:3129\", credentials_file: parent.cred, ca: parent.cred");
    assert_eq!(code, Some(78), "{said}");
    assert!(said.contains("error: there is no USER: before the password"), "{said}");
    assert!(said.contains("error: the file holds no certificate in PEM form"), "{said}");
    assert!(!said.contains("s3cret"), "{said}");
}
