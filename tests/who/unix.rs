//! A listener that is a socket in the file system: who may connect, what the record says, what is replaced and what is left alone.

use std::io::{Read, Write};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::Path;

use rustix::process::Signal;
use serde_json::json;

use crate::support::socks::ask;
use crate::support::{DEADLINE, Egressd, End, Origin, Wire, config, directory, run, until, write};
use crate::{connect_to, connections};

/// A configuration whose listener is a socket at this path, with these keys.
fn at(path: &Path, keys: &str, rules: &[&str]) -> String {
    let bare = "{name: proxy, address: 127.0.0.1:0}";
    let text = config(rules);
    assert!(text.contains(bare), "the listener of `config` looks otherwise now");
    text.replace(bare, &format!("{{name: proxy, address: \"unix:{}\"{keys}}}", path.display()))
}

fn dial(path: &Path) -> Wire<UnixStream> {
    let stream = UnixStream::connect(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    stream.set_read_timeout(Some(DEADLINE)).expect("not zero");
    stream.set_write_timeout(Some(DEADLINE)).expect("not zero");
    Wire::through(stream)
}

fn user() -> String {
    format!("uid:{}", rustix::process::getuid().as_raw())
}

fn mode(path: &Path) -> u32 {
    std::fs::symlink_metadata(path).expect("it is there").permissions().mode() & 0o777
}

#[test]
fn tunnels_requests_and_socks_go_through_it_and_the_record_says_who_connected() {
    let (origin, web) =
        (Origin::echo(), Origin::answering("HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n"));
    let directory = directory();
    let path = directory.path().join("proxy.sock");
    let rules = [format!("tcp://{}", origin.address()), format!("http://{}", web.address())];
    let rules: Vec<&str> = rules.iter().map(String::as_str).collect();
    let text = at(&path, ", protocols: [http, socks5]", &rules);
    let proxy = Egressd::start(&text);
    assert_eq!(mode(&path), 0o660, "user and group, where nothing is written");
    assert!(proxy.stderr().contains(&format!("listening on unix:{} (listener proxy)", path.display())));
    let to = origin.address().to_string();

    let mut wire = dial(&path);
    wire.send(connect_to(&to));
    assert_eq!(wire.read_head().status, 200);
    wire.send("ping");
    assert_eq!(wire.read_exact(4), b"ping");
    wire.stream().shutdown(std::net::Shutdown::Write).expect("it is open");
    assert_eq!(wire.read_to_end(), (Vec::new(), End::Fin), "a half-close passes through");
    proxy.record(|record| record["event"] == "close").assert_has(&json!({
        "peer": user(), "client": "127.0.0.1:0", "listener": "proxy", "protocol": "http", "ending": "client_closed", "sent": 4,
    }));

    let mut wire = dial(&path);
    assert_eq!(ask(&mut wire, &to), 0);
    wire.send("pong");
    assert_eq!(wire.read_exact(4), b"pong");
    drop(wire);
    proxy
        .record(|record| record["event"] == "close" && record["protocol"] == "socks5")
        .assert_has(&json!({"peer": user()}));

    let mut wire = dial(&path);
    wire.send(format!("GET http://{0}/x HTTP/1.1\r\nHost: {0}\r\n\r\n", web.address()));
    assert_eq!(wire.read_head().status, 204);
    proxy.record(|record| record["event"] == "http").assert_has(&json!({"peer": user(), "status": 204}));

    let mut wire = dial(&path);
    wire.send(connect_to("evil.test:443"));
    let reply = wire.read_reply();
    assert_eq!((reply.status, reply.reason()), (403, Some("host_not_allowed")));
    assert_eq!(wire.read_to_end(), (Vec::new(), End::Fin));
    assert_eq!(connections(&proxy, "accepted"), 4);
    let ended = proxy.stop();
    assert_eq!(ended.code, 0, "{}", ended.stderr);
}

/// More than any buffer holds, both ways at once, over a socket that is spliced as those of TCP are.
#[test]
fn bulk_goes_through_it_whole() {
    const BULK: usize = 24 * 1024 * 1024;
    let origin = Origin::echo();
    let directory = directory();
    let path = directory.path().join("proxy.sock");
    let text = at(&path, "", &[&format!("tcp://{}", origin.address())]);
    let proxy = Egressd::start(&text);
    let mut wire = dial(&path);
    wire.send(connect_to(&origin.address().to_string()));
    assert_eq!(wire.read_head().status, 200);
    let mut writer = wire.stream().try_clone().expect("a descriptor");
    let bytes: Vec<u8> = (0..BULK).map(|at| (at % 251) as u8).collect();
    let sent = bytes.clone();
    let writing = std::thread::spawn(move || {
        writer.write_all(&sent).expect("it is taken");
        writer.shutdown(std::net::Shutdown::Write).expect("it is open");
    });
    let mut back = Vec::new();
    wire.stream_mut().read_to_end(&mut back).expect("it comes");
    writing.join().expect("it ended");
    assert!(back == bytes, "{} of {BULK} bytes", back.len());
    proxy.record(|record| record["event"] == "close").assert_has(&json!({
        "sent": BULK, "received": BULK, "ending": "client_closed",
    }));
}

#[test]
fn a_stale_socket_is_replaced_and_that_of_another_is_not() {
    let directory = directory();
    let path = directory.path().join("proxy.sock");
    let text = at(&path, ", permissions: \"0600\"", &["a.example"]);
    let first = Egressd::start(&text);
    assert_eq!(mode(&path), 0o600);
    first.says("listening on unix:");
    // Of the same configuration, in its own directory: the path is the same.
    let refused = |why: &str| {
        let other = crate::support::directory();
        let file = other.path().join("egressd.yaml");
        write(&file, &text);
        let output = run(&["run", "--config", file.to_str().expect("ASCII")]);
        let told = String::from_utf8([output.stdout, output.stderr].concat()).expect("text");
        assert!(output.status.code() == Some(1) && told.contains(why), "{told}");
    };
    refused("another process listens there");
    let mut wire = dial(&path);
    wire.send(connect_to("b.example:443"));
    assert_eq!(wire.read_reply().status, 403, "the first one never noticed");

    first.signal(Signal::KILL);
    until("the kill", || UnixStream::connect(&path).is_err().then_some(()));
    assert!(std::fs::symlink_metadata(&path).expect("it stays").file_type().is_socket());
    let second = Egressd::start(&text);
    let mut wire = dial(&path);
    wire.send(connect_to("b.example:443"));
    assert_eq!(wire.read_reply().status, 403);
    assert_eq!(second.stop().code, 0);
    assert!(!path.exists(), "it is gone at the end");

    write(&path, "a file");
    refused("there is a file that is no socket");
    assert_eq!(crate::support::read(&path), "a file");
}

#[test]
fn only_those_who_may_write_to_it_may_connect() {
    // Without root nobody can become another user.
    if !rustix::process::getuid().is_root() {
        return;
    }
    let directory = directory();
    std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o755)).expect("ours");
    let path = directory.path().join("proxy.sock");
    let open = at(&path, ", permissions: \"0666\"", &["a.example"]);
    let closed = at(&path, "", &["a.example"]);
    for (text, may) in [(open, true), (closed, false)] {
        let proxy = Egressd::start(&text);
        let script = "import socket,sys\ns=socket.socket(socket.AF_UNIX)\ns.connect(sys.argv[1])\ns.sendall(b'CONNECT b.example:443 HTTP/1.1\\r\\nHost: b.example:443\\r\\n\\r\\n')\nprint(s.recv(12))";
        let output = std::process::Command::new("setpriv")
            .args(["--reuid=65534", "--regid=65534", "--clear-groups", "/usr/bin/python3", "-c", script])
            .arg(&path)
            .output()
            .expect("util-linux and Python are installed");
        assert_eq!(output.status.success(), may, "{output:?}");
        if may {
            proxy
                .record(|record| record["reason"] == "host_not_allowed")
                .assert_has(&json!({"peer": "uid:65534"}));
        }
        assert_eq!(proxy.stop().code, 0);
    }
}

/// A user who connects and says what it gets: the head of the answer to a CONNECT, then what comes back for `ping`.
fn as_nobody(path: &Path, to: &str) -> String {
    let script = "import socket,sys\ns=socket.socket(socket.AF_UNIX)\ns.connect(sys.argv[1])\ns.sendall(f'CONNECT {sys.argv[2]} HTTP/1.1\\r\\nHost: {sys.argv[2]}\\r\\n\\r\\n'.encode())\nhead=s.recv(4096).decode()\nprint(head.split(chr(13))[0])\nif ' 200 ' in head:\n s.sendall(b'ping')\n print(s.recv(4).decode())";
    let output = std::process::Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups", "/usr/bin/python3", "-c", script])
        .args([path.as_os_str(), to.as_ref()])
        .output()
        .expect("util-linux and Python are installed");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("text")
}

/// Users of one machine share its address, and nothing else.
#[test]
fn one_user_neither_takes_the_places_of_another_nor_its_budget() {
    if !rustix::process::getuid().is_root() {
        return;
    }
    let origin = Origin::echo();
    let directory = directory();
    std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o755)).expect("ours");
    let path = directory.path().join("proxy.sock");
    let to = origin.address().to_string();
    let rule = format!("{{to: \"tcp://{to}\", upload_budget: 6B/1h}}");
    // Whatever stands for an IPv6 network does not stand for all users.
    let limits = "limits: {tunnels_per_client: 1, ipv6_prefix: 32}\n";
    let proxy = Egressd::start(&(at(&path, ", permissions: \"0666\"", &[&rule]) + limits));
    let mut first = dial(&path);
    first.send(connect_to(&to));
    assert_eq!(first.read_head().status, 200);
    first.send("ping");
    assert_eq!(first.read_exact(4), b"ping");
    let mut second = dial(&path);
    second.send(connect_to(&to));
    assert_eq!(second.read_reply().reason(), Some("client_limit_reached"));
    // Of the budget of the first 2 bytes are left.
    assert!(as_nobody(&path, &to).ends_with("\nping\n"));
    first.send("pong");
    let _ = first.read_to_end();
    proxy
        .record(|record| record["ending"] == "upload_limit")
        .assert_has(&json!({"peer": user(), "client": "127.0.0.1:0", "sent": 6}));
    proxy
        .record(|record| record["event"] == "close" && record["peer"] == "uid:65534")
        .assert_has(&json!({"client": "127.0.0.1:0", "sent": 4}));
    let metrics = proxy.metrics();
    assert_eq!(metrics.count("egressd_requests_total", &[("reason", "client_limit_reached")]), 1);
}

/// Nobody but its group may connect, and not even its own user may ask whether somebody listens.
#[test]
fn a_stale_socket_that_is_closed_to_its_own_user_is_replaced_too() {
    if !rustix::process::getuid().is_root() {
        return;
    }
    let directory = directory();
    let own = |file: &Path| std::os::unix::fs::chown(file, Some(65534), Some(65534)).expect("we are root");
    let binary = directory.path().join("egressd");
    std::fs::copy(crate::support::command().get_program(), &binary).expect("a program");
    let path = directory.path().join("proxy.sock");
    let file = directory.path().join("egressd.yaml");
    write(&file, at(&path, ", permissions: \"0060\"", &["a.example"]));
    for place in [directory.path(), &binary, &file] {
        own(place);
    }
    let start = |directory: tempfile::TempDir| {
        let mut command = std::process::Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all"]);
        command.arg(&binary).arg("run").arg("--config").arg(&file).env_clear();
        Egressd::spawn(directory, command)
    };
    let first = start(crate::support::directory());
    first.says("listening on unix:");
    assert_eq!(mode(&path), 0o060);
    let second = start(crate::support::directory());
    let ended = second.wait();
    assert!(ended.code == 1 && ended.stderr.contains("another process listens there"), "{}", ended.stderr);
    assert_eq!(mode(&path), 0o060, "as it was");
    drop(UnixStream::connect(&path).expect("it still listens"));
    first.signal(Signal::KILL);
    until("the kill", || UnixStream::connect(&path).is_err().then_some(()));
    assert!(path.exists(), "as a kill leaves it");
    let third = start(crate::support::directory());
    third.says("listening on unix:");
    drop(UnixStream::connect(&path).expect("it listens"));
    third.signal(Signal::KILL);
    until("the kill", || UnixStream::connect(&path).is_err().then_some(()));
    // Of somebody else nobody can tell.
    std::os::unix::fs::chown(&path, Some(1), Some(1)).expect("we are root");
    let ended = start(crate::support::directory()).wait();
    assert!(
        ended.code == 1 && ended.stderr.contains("cannot tell whether a process listens"),
        "{}",
        ended.stderr
    );
    assert!(path.exists());
}

#[test]
fn its_keys_are_checked() {
    let directory = directory();
    let file = directory.path().join("egressd.yaml");
    let long = format!("unix:/{}", "a".repeat(107));
    let rows = [
        ("address: \"unix:/run/a.sock\"".to_owned(), Some(0), ""),
        ("address: \"unix:/run/a.sock\", permissions: \"0660\"".to_owned(), Some(0), ""),
        ("address: \"unix:/run/a.sock\", permissions: \"660\"".to_owned(), Some(0), ""),
        // Taken as it is written, not as a number.
        ("address: \"unix:/run/a.sock\", permissions: 0660".to_owned(), Some(0), ""),
        ("address: \"unix:/run/a.sock\", permissions: \"0888\"".to_owned(), Some(78), "are no permissions"),
        ("address: \"unix:/run/a.sock\", permissions: \"01660\"".to_owned(), Some(78), "are no permissions"),
        (
            "address: \"unix:/run/a.sock\", permissions: \"0666\"".to_owned(),
            Some(0),
            "every user of the machine",
        ),
        ("address: \"unix:/run/a.sock\", permissions: \"0440\"".to_owned(), Some(0), "nobody may connect"),
        (
            "address: 127.0.0.1:1, permissions: \"0660\"".to_owned(),
            Some(78),
            "`permissions` are those of a unix socket",
        ),
        ("address: \"unix:a.sock\"".to_owned(), Some(78), "has no absolute path"),
        ("address: /run/a.sock".to_owned(), Some(78), "is a path: write unix:/run/a.sock"),
        (format!("address: \"{long}\""), Some(78), "longer than 107 bytes"),
        (
            "address: \"unix:/run/a.sock\", proxy_protocol: {trusted: [10.0.0.0/8]}".to_owned(),
            Some(0),
            "count as 127.0.0.1, which is not under `trusted`",
        ),
    ];
    for (keys, code, want) in rows {
        write(&file, format!("listeners: [{{{keys}}}]\npolicies: [{{name: p, allow: [a.example]}}]\n"));
        let output = run(&["check", "--config", file.to_str().expect("ASCII")]);
        let told = String::from_utf8([output.stdout, output.stderr].concat()).expect("text");
        assert!(output.status.code() == code && told.contains(want), "{keys}: {told}");
    }
    let same =
        "listeners: [{name: a, address: \"unix:/run/a.sock\"}, {name: b, address: \"unix:/run/a.sock\"}]\n";
    write(&file, format!("{same}policies: [{{name: p, allow: [a.example]}}]\n"));
    let output = run(&["check", "--config", file.to_str().expect("ASCII")]);
    let told = String::from_utf8([output.stdout, output.stderr].concat()).expect("text");
    assert!(told.contains("the listener `a` already uses unix:/run/a.sock: write another path"), "{told}");
}
