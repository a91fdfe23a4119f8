//! `upstream_proxy.except`: targets that are reached without the parent, looked up and checked as if there were none.

use std::io::{Read, Write};

use serde_json::json;

use crate::support::{Egressd, Origin, Record, any_port, config, directory, run, until, write};

fn connect(authority: &str) -> String {
    format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n")
}

/// A parent that counts the connections it gets, and a proxy behind it with these exceptions.
fn except(rules: &[&str], except: &str) -> (Egressd, Origin) {
    let parent = Origin::silent();
    let hosts = "dns: {hosts: {a.corp.test: [127.0.0.1], b.corp.test: [10.9.9.9], corp.test: [127.0.0.1]}}\n";
    let text = config(rules)
        + &format!("upstream_proxy: {{url: \"http://{}\", except: {except}}}\n{hosts}", parent.address());
    (Egressd::start(&text), parent)
}

#[test]
fn an_exception_is_reached_directly_and_the_parent_never_hears_of_it() {
    let origin = Origin::echo();
    let (port, address) = (origin.port(), origin.address());
    let plain = Origin::answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    let rules = [
        format!("tcp://*.corp.test:{port}"),
        format!("tcp://127.0.0.1:{port}"),
        format!("http://a.corp.test:{}", plain.port()),
        format!("tcp://evil.corp.test.example:{port}"),
    ];
    let rules: Vec<&str> = rules.iter().map(String::as_str).collect();
    let (proxy, parent) = except(&rules, "[\"*.corp.test\", 127.0.0.0/8]");
    for target in [format!("a.corp.test:{port}"), address.to_string()] {
        let mut tunnel = proxy.tunnel(&target);
        tunnel.send("ping");
        assert_eq!(tunnel.read_exact(4), b"ping");
        tunnel.finish();
        proxy.record(|r| r["event"] == "close" && r["target"] == *target).assert_has(&json!({
            "upstream": address.to_string(), "decision": "allow",
        }));
    }
    let mut wire = proxy.connect();
    let target = format!("a.corp.test:{}", plain.port());
    wire.send(format!("GET http://{target}/x HTTP/1.1\r\nHost: {target}\r\nConnection: close\r\n\r\n"));
    assert_eq!(wire.read_head().status, 200);
    let request = String::from_utf8(plain.wait_ended(0).bytes).expect("text");
    assert!(request.starts_with("GET /x HTTP/1.1\r\n"), "as to an origin: {request}");
    assert_eq!(parent.seen().len(), 0, "the parent never hears of it");
}

#[test]
fn t38_the_addresses_of_an_exception_are_checked_and_it_never_falls_back_to_the_parent() {
    let (proxy, parent) = except(
        &["tcp://*.corp.test:22", "tcp://10.0.0.0/8:22", "tcp://.corp.test:23"],
        "[\"*.corp.test\", 10.0.0.0/8]",
    );
    // Not in `private`: a parent would have been asked for the name.
    proxy.refuses(connect("b.corp.test:22"), 403, "address_prohibited");
    proxy.refuses(connect("10.9.9.9:22"), 403, "address_prohibited");
    assert_eq!(parent.seen().len(), 0);
    // The name above is no exception: it goes to the parent.
    let mut wire = proxy.connect();
    wire.send(connect("corp.test:23"));
    until("the parent to be asked", || (!parent.seen().is_empty()).then_some(()));
}

#[test]
fn a_log_in_the_format_of_squid_names_the_parent_of_those_alone_that_go_by_it() {
    let origin = Origin::echo();
    let parent = Origin::saying("HTTP/1.1 200 OK\r\n\r\n");
    let rules = [format!("tcp://*.corp.test:{}", origin.port()), "tcp://b.example.com:22".to_owned()];
    let rules: Vec<&str> = rules.iter().map(String::as_str).collect();
    let text = config(&rules)
        + &format!("upstream_proxy: {{url: \"http://{}\", except: [\"*.corp.test\"]}}\n", parent.address())
        + "dns: {hosts: {a.corp.test: [127.0.0.1]}}\naccess_log: {format: squid}\n";
    let proxy = Egressd::start(&text);
    for target in [format!("a.corp.test:{}", origin.port()), "b.example.com:22".to_owned()] {
        let mut tunnel = proxy.tunnel(&target);
        tunnel.finish();
        tunnel.read_to_end();
    }
    until("both lines", || (proxy.log().lines().count() == 2).then_some(()));
    let line = |of: &str| proxy.log().lines().find(|line| line.contains(of)).expect(of).to_owned();
    assert!(line("a.corp.test").contains("HIER_DIRECT/127.0.0.1"), "{}", proxy.log());
    assert!(line("b.example.com").contains("FIRSTUP_PARENT/127.0.0.1"), "{}", proxy.log());
}

/// With the parent it was not judged: a rule that closes the address ends the tunnel now.
#[test]
fn a_reload_judges_the_address_of_an_exception() {
    let origin = Origin::echo();
    let parent = Origin::silent();
    let text = config(&[&format!("tcp://a.corp.test:{}", origin.port())])
        + &format!("upstream_proxy: {{url: \"http://{}\", except: [a.corp.test]}}\n", parent.address())
        + "dns: {hosts: {a.corp.test: [127.0.0.1]}}\n";
    let proxy = Egressd::start(&text);
    let mut tunnel = proxy.tunnel(&format!("a.corp.test:{}", origin.port()));
    write(&proxy.file("egressd.yaml"), text.replace("    private: [127.0.0.0/8]\n", ""));
    assert_eq!(tunnel.read_to_end().0, b"");
    proxy.record(|r: &Record| r["ending"] == "policy_revoked");
}

#[test]
fn what_is_no_host_is_told_with_what_to_write() {
    let rows = [
        ("https://a.corp.example", "has a scheme or a port: write the host alone, such as *.corp.example"),
        ("a.corp.example:443", "has a scheme or a port: write the host alone, such as *.corp.example"),
        ("*", "this matches every host"),
        ("*.com", "this covers the public suffix `com`"),
        ("10.0.0.1/8", "has bits set after its prefix"),
        ("10.0.0.0/33", "is not a network"),
    ];
    let directory = directory();
    let file = directory.path().join("egressd.yaml");
    let check = |entry: &str| {
        let parent = format!("upstream_proxy: {{url: \"http://proxy.corp:3128\", except: [\"{entry}\"]}}\n");
        write(&file, format!("policies: [{{name: p, allow: [a.example]}}]\n{parent}"));
        let output = run(&["check", "--config", file.to_str().expect("ASCII")]);
        (output.status.code(), String::from_utf8([output.stdout, output.stderr].concat()).expect("text"))
    };
    for (entry, want) in rows {
        let (code, told) = check(entry);
        assert!(code == Some(78) && told.contains(want) && told.contains(":2:"), "{entry}: {told}");
    }
    for entry in [
        "a.corp.example",
        "*.corp",
        ".corp.example",
        "10.0.0.0/8",
        "fd00::/8",
        "[fd00::]/8",
        "10.0.0.1",
        "fd00::1",
    ] {
        let (code, told) = check(entry);
        assert!(code == Some(0) && told.contains("not under `except`"), "{entry}: {told}");
    }
}

/// Answers every request of a connection, and keeps the connection.
fn kept_origin() -> Origin {
    Origin::start(any_port(), |mut conversation| {
        let mut some = [0; 64 * 1024];
        loop {
            if conversation.read(&mut some)? == 0 {
                return Ok(());
            }
            // egressd sends a head in one piece, and here the body with it.
            conversation.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")?;
        }
    })
}

/// A reload takes an exception back while the body of a request is being read that decides what the request is. The connection that it
/// gets is the next request's only if that goes the same way: the parent's password is for the parent.
#[test]
fn what_the_parent_is_told_goes_to_no_target_that_was_an_exception_before() {
    let (origin, parent) = (kept_origin(), kept_origin());
    let target = format!("git.test:{}", origin.port());
    let text = |except: &str| {
        let rule = format!(
            "{{to: \"http://{target}\", requests: [{{git: [push], repositories: [/repo], refs: [refs/heads/main]}}]}}"
        );
        config(&[&rule])
            + &format!(
                "upstream_proxy: {{url: \"http://{}\", credentials_file: parent.cred{except}}}\ndns: {{hosts: {{git.test: [127.0.0.1]}}}}\n",
                parent.address()
            )
    };
    let directory = directory();
    write(&directory.path().join("parent.cred"), "user:the-parents-password\n");
    let proxy = Egressd::start_in(directory, &text(", except: [git.test]"));
    let (zero, one) = ("0".repeat(40), "1".repeat(40));
    let command = format!("{zero} {one} refs/heads/main\0 report-status");
    let body = format!("{:04x}{command}0000PACK", command.len() + 4);
    let mut wire = proxy.connect();
    wire.send(format!(
        "POST http://{target}/repo/git-receive-pack HTTP/1.1\r\nHost: {target}\r\n\
         Content-Type: application/x-git-receive-pack-request\r\nAccept: application/x-git-receive-pack-result\r\n\
         Content-Length: {}\r\n\r\n{}",
        body.len(),
        &body[..20]
    ));
    let held = || proxy.metrics().sum("egressd_held_bytes", &[("kind", "body")]);
    until("the body to be waited for", || (held() > 0.0).then_some(()));
    write(&proxy.file("egressd.yaml"), text(""));
    proxy.says("is in force");
    wire.send(&body[20..]);
    assert_eq!(wire.read_reply().status, 200);
    wire.send(format!(
        "GET http://{target}/repo/info/refs?service=git-receive-pack HTTP/1.1\r\nHost: {target}\r\n\r\n"
    ));
    assert_eq!(wire.read_reply().status, 200);
    let sent = |origin: &Origin| {
        let bytes: Vec<u8> = origin.seen().into_iter().flat_map(|seen| seen.bytes).collect();
        String::from_utf8_lossy(&bytes).to_ascii_lowercase()
    };
    assert!(!sent(&origin).contains("proxy-authorization"), "{}", sent(&origin));
    assert!(
        sent(&parent).contains("proxy-authorization") && sent(&parent).contains("info/refs"),
        "{}",
        sent(&parent)
    );
}
