//! Sockets that are passed: used if they are what the file says, refused with words otherwise.

#![expect(clippy::disallowed_methods, reason = "clients of the proxy")]

use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;

use rustix::process::Signal;

use crate::support::{Egressd, Origin, Wire, any_port, config, directory, until, write};
use crate::{Given, start};

/// Two listeners and the admin listener at these addresses; all tunnels to this origin.
fn two(web: SocketAddr, git: SocketAddr, admin: SocketAddr, origin: &Origin) -> String {
    format!(
        "listeners: [{{name: web, address: \"{web}\"}}, {{name: git, address: \"{git}\"}}]\nadmin: {{address: \"{admin}\"}}\n\
         policies: [{{name: p, private: [127.0.0.0/8], allow: [\"tcp://{}\"]}}]\n",
        origin.address()
    )
}

fn bound() -> (TcpListener, SocketAddr) {
    let socket = TcpListener::bind(any_port()).expect("bound");
    let address = socket.local_addr().expect("bound");
    (socket, address)
}

fn given<'g>(sockets: &[(&'g str, &'g dyn AsFd)]) -> Given<'g> {
    Given { sockets: sockets.to_vec(), ..Given::default() }
}

fn tunnels(address: SocketAddr, origin: &Origin) {
    let mut wire = Wire::connect(address);
    wire.send(format!("CONNECT {0} HTTP/1.1\r\nHost: {0}\r\n\r\nping", origin.address()));
    assert_eq!(wire.read_head().status, 200);
    assert_eq!(wire.read_exact(4), b"ping");
}

/// What is told of a start that is refused, with exit code 78.
fn refused(yaml: &str, sockets: &[(&str, &dyn AsFd)]) -> String {
    let ended = start(directory(), yaml, &given(sockets)).wait();
    assert_eq!(ended.code, 78, "{}", ended.stderr);
    assert!(!ended.stderr.contains("listening on"), "{}", ended.stderr);
    ended.stderr
}

#[test]
fn two_listeners_and_the_admin_serve_on_what_was_passed_and_a_reload_keeps_it() {
    let origin = Origin::echo();
    let ((web, at_web), (git, at_git), (admin, at_admin)) = (bound(), bound(), bound());
    let yaml = two(at_web, at_git, at_admin, &origin);
    let egressd = start(directory(), &yaml, &given(&[("git", &git), ("admin", &admin), ("web", &web)]));
    assert_eq!(
        (egressd.listener("web"), egressd.listener("git"), egressd.admin()),
        (at_web, at_git, at_admin)
    );
    until("it to be ready", || (egressd.get("/readyz").status == 200).then_some(()));
    tunnels(at_web, &origin);
    tunnels(at_git, &origin);
    let by = |listener: &str| egressd.record(|r| r["event"] == "open" && r["listener"] == listener);
    by("web");
    by("git");

    write(&egressd.file("egressd.yaml"), yaml.replace("name: p", "name: q"));
    egressd.says("is in force; ");
    tunnels(at_web, &origin);
    tunnels(at_git, &origin);
    assert_eq!(egressd.get("/readyz").status, 200);

    assert_eq!(egressd.stop().code, 0);
    // Still the manager's: the next client waits there, and is not refused.
    drop(TcpStream::connect(at_web).expect("it waits"));
}

#[test]
fn nothing_of_it_would_be_another_programs() {
    let (web, at_web) = bound();
    let yaml = config(&[]).replacen("127.0.0.1:0", &at_web.to_string(), 1);
    let egressd = start(directory(), &yaml, &given(&[("proxy", &web)]));
    until("it to be ready", || (egressd.get("/readyz").status == 200).then_some(()));
    let process = std::path::PathBuf::from(format!("/proc/{}", egressd.pid()));
    let mut sockets = 0;
    for entry in std::fs::read_dir(process.join("fd")).expect("it runs") {
        let entry = entry.expect("readable");
        // Whatever started the test may have left files open for all below it.
        let is_socket =
            std::fs::read_link(entry.path()).is_ok_and(|to| to.to_string_lossy().starts_with("socket:"));
        let info = std::fs::read_to_string(process.join("fdinfo").join(entry.file_name()));
        // One may have been closed meanwhile.
        let Some(info) = info.ok().filter(|_| is_socket) else { continue };
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).expect("flags").trim();
        let flags = u32::from_str_radix(flags, 8).expect("octal");
        // O_CLOEXEC
        assert!(flags & 0o2_000_000 != 0, "the socket {} would be inherited", entry.file_name().display());
        sockets += 1;
    }
    assert!(sockets >= 2, "the listener and the admin listener");
}

#[test]
fn what_has_no_socket_binds_its_address() {
    let (web, at_web) = bound();
    let origin = Origin::echo();
    let yaml = two(at_web, any_port(), any_port(), &origin);
    let egressd = start(directory(), &yaml, &given(&[("web", &web)]));
    assert_eq!(egressd.listener("web"), at_web);
    tunnels(egressd.listener("git"), &origin);
    assert_eq!(egressd.get("/readyz").status, 200);
}

#[test]
fn a_socket_that_is_not_what_the_file_says_is_refused_with_words() {
    let ((other, at_other), (web, at_web)) = (bound(), bound());
    let origin = Origin::echo();
    let yaml = two(at_web, any_port(), any_port(), &origin);

    let told = refused(&yaml, &[("web", &other), ("proxy", &web)]);
    let address = format!(
        "the passed socket `web` listens on {at_other}, and `address` of the listener `web` is {at_web}: write"
    );
    assert!(told.contains(&address), "{told}");
    assert!(
        told.contains(
            "a socket was passed by the name `proxy`, which no listener has: they are `web`, `git`"
        ),
        "{told}"
    );

    let elsewhere = TcpListener::bind("127.0.0.2:0").expect("bound");
    let told = refused(&yaml, &[("admin", &elsewhere)]);
    let address = format!(
        "the passed socket `admin` listens on {}, and `admin.address` is 127.0.0.1:0",
        elsewhere.local_addr().expect("bound")
    );
    assert!(told.contains(&address), "{told}");
}

#[test]
fn what_is_no_tcp_socket_that_listens_is_refused_with_words() {
    let origin = Origin::echo();
    let ((web, at_web), home) = (bound(), directory());
    let yaml = two(at_web, any_port(), any_port(), &origin);
    let datagram = UdpSocket::bind(any_port()).expect("bound");
    let local = UnixListener::bind(home.path().join("socket")).expect("bound");
    let file = std::fs::File::create(home.path().join("file")).expect("created");
    let connection = TcpStream::connect(at_web).expect("connected");
    let idle = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    for (socket, why) in [
        (&datagram as &dyn AsFd, "the passed socket `web` is not TCP ("),
        (&local, "the passed socket `web` is not TCP ("),
        (&file, "the passed socket `web` is not TCP ("),
        (&connection, "the passed socket `web` does not listen, it may be a connection: write `Accept=no`"),
        (&idle, "the passed socket `web` does not listen"),
    ] {
        let told = refused(&yaml, &[("web", socket)]);
        assert!(told.contains(why), "{told}");
    }
    drop(web);
}

#[test]
fn sockets_that_are_another_processs_are_not_taken() {
    let (web, at_web) = bound();
    let origin = Origin::echo();
    let yaml = two(any_port(), any_port(), any_port(), &origin);
    let given = Given { variables: vec![("LISTEN_PID", "1".to_owned())], ..given(&[("nobody", &web)]) };
    let egressd = start(directory(), &yaml, &given);
    assert_ne!(egressd.listener("web"), at_web);
    assert_eq!(egressd.stop().code, 0);
}

#[test]
fn a_connection_that_was_accepted_before_the_end_is_served() {
    let origin = Origin::echo();
    let (proxy, at_proxy) = bound();
    let rule = format!("tcp://{}", origin.address());
    let yaml = config(&[&rule]).replacen("127.0.0.1:0", &at_proxy.to_string(), 1);
    let egressd = start(directory(), &yaml, &given(&[("proxy", &proxy)]));
    until("it to be ready", || (egressd.get("/readyz").status == 200).then_some(()));
    let mut begun = begin(&egressd, &origin);
    egressd.signal(Signal::TERM);
    until("the drain", || (egressd.get("/readyz").status == 503).then_some(()));
    begun.send("\r\n\r\nping");
    assert_eq!(begun.read_head().status, 200);
    assert_eq!(begun.read_exact(4), b"ping");
    begun.finish();
    assert_eq!(egressd.wait().code, 0);
}

/// A connection that egressd has accepted, as its memory shows, and whose head is not complete.
fn begin(egressd: &Egressd, origin: &Origin) -> Wire {
    let mut wire = Wire::connect(egressd.address());
    wire.send(format!("CONNECT {0} HTTP/1.1\r\nHost: {0}", origin.address()));
    let held = || egressd.metrics().count("egressd_held_bytes", &[("kind", "head")]) > 0;
    until("the beginning of its head", || held().then_some(()));
    wire
}
