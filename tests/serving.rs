//! What holds while egressd serves and when it stops, as seen from outside: a slow or silent peer blocks nothing else, and
//! everything that had begun is in the log.

mod support;

use std::io::{Read, Write};
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::Signal;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use socket2::{Domain, Socket, Type};
use support::{
    Authority, Egressd, End, Names, Origin, Says, Wire, any_port, client_hello, config, directory, until,
    write,
};

#[test]
fn an_upload_that_is_cut_is_recorded_with_what_went_out() {
    let origin = Origin::silent();
    let rule = format!("{{to: \"http://{}\", upload_limit: 100KiB}}", origin.address());
    let proxy = Egressd::start(&config(&[&rule]));
    let mut wire = proxy.connect();
    let target = origin.address();
    wire.send(format!(
        "POST http://{target}/ HTTP/1.1\r\nHost: {target}\r\nTransfer-Encoding: chunked\r\n\r\n10000\r\n"
    ));
    wire.send(vec![b'a'; 0x10000]);
    wire.send("\r\n10000\r\n");
    wire.send(vec![b'a'; 0x10000]);
    let opened = proxy.record(|record| record["event"] == "open");
    assert_eq!(opened["upstream"], target.to_string());
    let last = proxy.record(|record| record["id"] == opened["id"] && record["event"] != "open");
    assert!(last.number("sent") >= 0x10000, "{last:?}");
}

#[test]
fn a_client_that_holds_admin_connections_keeps_no_other_prober_out() {
    let proxy = Egressd::start(&config(&[]));
    let admin = proxy.admin();
    let held: Vec<Wire> = (0..100)
        .map(|_| {
            let mut wire = Wire::connect(admin);
            wire.send("GET /livez HT");
            wire
        })
        .collect();
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    let other: SocketAddr = "127.0.9.9:0".parse().expect("an address");
    socket.bind(&other.into()).expect("loopback is ours");
    socket.connect(&admin.into()).expect("it listens");
    let mut prober = Wire::over(socket.into());
    prober.send("GET /livez HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(prober.read_reply().status, 200);
    drop(held);
}

#[test]
fn a_second_term_ends_a_request_that_still_waits_for_dns() {
    let silent = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let dns = silent.local_addr().expect("bound");
    let text = format!("{}dns: {{servers: [\"{dns}\"], timeout: 1m}}\n", config(&["slow.test"]));
    let proxy = Egressd::start(&text);
    let mut wire = proxy.connect();
    wire.send("CONNECT slow.test:443 HTTP/1.1\r\nHost: slow.test:443\r\n\r\n");
    // The question has been sent.
    let mut question = [0; 512];
    until("the question to DNS", || {
        silent.set_nonblocking(true).expect("a socket");
        silent.recv(&mut question).ok()
    });
    proxy.signal(Signal::TERM);
    until("the drain to begin", || proxy.stderr().contains("draining").then_some(()));
    proxy.signal(Signal::TERM);
    let reply = wire.read_reply();
    assert_eq!((reply.status, reply.reason()), (503, Some("draining")));
    let ended = proxy.wait();
    assert_eq!(ended.code, 0);
    let [record] = &ended.records[..] else { panic!("one record: {:?}", ended.records) };
    assert_eq!(record["event"], "error");
    assert_eq!(record["reason"], "draining");
}

/// A name whose name server never answers, so that egressd is busy with it until its client leaves.
fn asks_for_a_name_that_is_not_answered() -> (UdpSocket, Egressd, Wire) {
    let silent = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let dns = silent.local_addr().expect("bound");
    let text = format!("{}dns: {{servers: [\"{dns}\"], timeout: 1m}}\n", config(&["slow.test"]));
    let proxy = Egressd::start(&text);
    let mut wire = proxy.connect();
    wire.send("CONNECT slow.test:443 HTTP/1.1\r\nHost: slow.test:443\r\n\r\n");
    silent.set_nonblocking(true).expect("a socket");
    until("the question to DNS", || silent.recv(&mut [0; 512]).ok());
    (silent, proxy, wire)
}

#[test]
fn a_client_that_leaves_before_the_target_answers_is_noticed_at_once() {
    for reset in [false, true] {
        let (_dns, proxy, wire) = asks_for_a_name_that_is_not_answered();
        let client = wire.local();
        match reset {
            true => wire.reset(),
            false => drop(wire),
        }
        let record = proxy.record(|record| record["event"] == "error");
        assert_eq!(record["reason"], "client_gone", "{record:?}");
        assert_eq!(record["client"], client.to_string());
        assert_eq!(proxy.metrics().count("egressd_requests_total", &[("reason", "client_gone")]), 1);
    }
}

#[test]
fn bytes_before_the_200_are_kept_and_the_fin_is_passed_on() {
    let origin = Origin::echo();
    let proxy = Egressd::start(&config(&[&format!("tcp://127.0.0.1:{}", origin.port())]));
    let mut wire = proxy.connect();
    let target = origin.address();
    wire.send(format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\nearly"));
    wire.finish();
    assert_eq!(wire.read_head().status, 200);
    assert_eq!(wire.read_to_end(), (b"early".to_vec(), End::Fin));
    assert_eq!(origin.wait_ended(0).bytes, b"early");
}

#[test]
fn a_client_that_half_closes_before_the_target_answers_is_not_taken_for_gone() {
    let origin = Origin::echo();
    let (release, released) = std::sync::mpsc::channel::<()>();
    let released = std::sync::Mutex::new(released);
    let names = Names::start(any_port(), move |_, _| {
        // Once `release` is dropped, every question is answered.
        let _ = released.lock().expect("no panic").recv();
        Says::Addresses(vec![[127, 0, 0, 1].into()])
    });
    let rule = format!("tcp://slow.test:{}", origin.port());
    let proxy = Egressd::start(&format!("{}dns: {{servers: [\"{}\"]}}\n", config(&[&rule]), names.address()));
    let mut wire = proxy.connect();
    let target = format!("slow.test:{}", origin.port());
    wire.send(format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\nearly"));
    wire.finish();
    until("the question to DNS", || (!names.asked().is_empty()).then_some(()));
    drop(release);
    assert_eq!(wire.read_head().status, 200);
    assert_eq!(wire.read_to_end(), (b"early".to_vec(), End::Fin));
}

#[test]
fn bytes_of_a_client_before_the_target_answers_are_read_only_up_to_a_bound() {
    let (_dns, proxy, wire) = asks_for_a_name_that_is_not_answered();
    let mut stream = wire.into_stream();
    // If egressd reads no more, nothing is accepted beyond what the sockets hold, which may be about 10 MiB. A pause that is
    // too short only makes this test weaker.
    stream.set_write_timeout(Some(Duration::from_millis(500))).expect("a socket");
    let chunk = vec![7; 64 * 1024];
    let taken: usize = std::iter::from_fn(|| stream.write(&chunk).ok()).take(1024).sum();
    assert!(taken < 32 * 1024 * 1024, "{taken} bytes");
    drop(proxy);
}

#[test]
fn a_target_that_resets_instead_of_answering_the_hello_resets_its_client() {
    let origin = Origin::start(any_port(), |mut conversation| {
        conversation.read_exact(&mut [0])?;
        conversation.reset()
    });
    let proxy = Egressd::start(&config(&[&format!("https://127.0.0.1:{}", origin.port())]));
    let mut tunnel = proxy.tunnel(&origin.address().to_string());
    tunnel.send(client_hello(None));
    assert_eq!(tunnel.read_to_end(), (Vec::new(), End::Reset));
    let close = proxy.record(|record| record["event"] == "close");
    assert_eq!(close["ending"], "upstream_reset");
}

#[test]
fn a_tunnel_s_verdict_is_counted_while_it_is_open() {
    let origin = Origin::echo();
    let proxy = Egressd::start(&config(&[&format!("tcp://127.0.0.1:{}", origin.port())]));
    let mut tunnel = proxy.tunnel(&origin.address().to_string());
    tunnel.send("ping");
    tunnel.read_exact(4);
    let counted = || proxy.metrics().count("egressd_requests_total", &[("decision", "allow")]);
    assert_eq!(counted(), 1);
    tunnel.finish();
    proxy.record(|record| record["event"] == "close");
    assert_eq!(counted(), 1, "once");
}

/// Whether a client whose handshake was in progress when the listeners closed got a 503.
fn gets_a_503_in_the_middle_of_a_handshake() -> bool {
    let (authority, files) = (Authority::new(), directory());
    let issued = authority.issue(&["proxy.test"]);
    write(&files.path().join("tls.crt"), &issued.pem);
    write(&files.path().join("tls.key"), &issued.key_pem);
    let text = config(&["listed.test"]).replace(
        "{name: proxy, address: 127.0.0.1:0}",
        "{name: proxy, address: 127.0.0.1:0, tls: {certificate: tls.crt, key: tls.key}}",
    );
    let proxy = Egressd::start_in(files, &text);
    let mut roots = RootCertStore::empty();
    roots.add(authority.der().clone()).expect("well-formed");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider knows them")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = "proxy.test".try_into().expect("a name");
    let mut tls = ClientConnection::new(Arc::new(client), name).expect("a client");
    let mut hello = Vec::new();
    tls.write_tls(&mut hello).expect("a Vec takes all");
    let mut wire = proxy.connect();
    let (first, rest) = hello.split_at(hello.len() / 2);
    wire.send(first);
    proxy.signal(Signal::TERM);
    until("the drain to begin", || proxy.stderr().contains("draining").then_some(()));
    wire.send(rest);
    let mut stream = StreamOwned::new(tls, wire.into_stream());
    let asked = stream.write_all(b"CONNECT listed.test:443 HTTP/1.1\r\nHost: listed.test:443\r\n\r\n");
    let mut reply = Vec::new();
    let read = stream.read_to_end(&mut reply);
    let told = reply.starts_with(b"HTTP/1.1 503 ");
    let ended = proxy.wait();
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    if told {
        assert!(asked.is_ok() && read.is_ok());
        assert!(ended.records.iter().any(|record| record["reason"] == "draining"), "{:?}", ended.records);
    }
    told
}

#[test]
fn a_drain_does_not_cut_a_handshake_that_is_under_way() {
    // The handshake has two seconds; on a busy machine even that may be too short.
    assert!((0..5).any(|_| gets_a_503_in_the_middle_of_a_handshake()));
}

#[test]
fn a_command_whose_reader_has_left_ends_quietly() {
    for arguments in [&["config", "default"][..], &["config", "schema"], &["completions", "bash"], &["check"]]
    {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let child = support::command()
            .args(arguments)
            .stdout(writer)
            .stderr(std::process::Stdio::piped())
            .spawn()
            .expect("egressd starts");
        let ended = child.wait_with_output().expect("our child");
        assert_eq!(ended.status.code(), Some(0), "{arguments:?}: {ended:?}");
        assert_eq!(String::from_utf8_lossy(&ended.stderr), "", "{arguments:?}");
    }
}

#[test]
fn a_log_that_cannot_be_opened_is_told_with_its_place() {
    let directory = directory();
    let file = directory.path().join("egressd.yaml");
    let log = directory.path().join("none/access.log");
    write(&file, format!("{}access_log:\n  output: {}\n", config(&["a.example"]), log.display()));
    let output = support::run(&["run", "--config", file.to_str().expect("ASCII")]);
    let told = String::from_utf8_lossy(&output.stderr);
    let want = format!(
        "{}:9:11: cannot open the access log, {} (access_log.output): there is no such file: make its directory first",
        file.display(),
        log.display()
    );
    assert!(output.status.code() == Some(1) && told.contains(&want), "{told}");
}
