//! What holds while egressd serves and when it stops, as seen from outside: nothing is held up by who does not move on,
//! and what had begun is in the log.

mod support;

use std::net::{SocketAddr, UdpSocket};

use rustix::process::Signal;
use socket2::{Domain, Socket, Type};
use support::{Egressd, Origin, Wire, config, until};

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
fn who_holds_admin_connections_keeps_no_other_prober_out() {
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
    // The question is out.
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
