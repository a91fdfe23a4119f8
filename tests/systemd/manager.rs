//! What the manager hears, in which order.

use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use rustix::process::Signal;

use crate::support::{DEADLINE, Egressd, Origin, any_port, config, directory, until, write};
use crate::{Given, start};

/// The manager's ear.
struct Manager {
    socket: UnixDatagram,
    name: String,
}

impl Manager {
    fn at(address: &SocketAddr, name: String) -> Self {
        let socket = UnixDatagram::bind_addr(address).expect("bound");
        socket.set_read_timeout(Some(DEADLINE)).expect("not zero");
        Manager { socket, name }
    }

    fn in_directory(directory: &tempfile::TempDir) -> Self {
        let path = directory.path().join("notify");
        Manager::at(&SocketAddr::from_pathname(&path).expect("short"), path.display().to_string())
    }

    fn given(&self) -> Given<'static> {
        Given { variables: vec![("NOTIFY_SOCKET", self.name.clone())], ..Given::default() }
    }

    /// The next message, as the lines that it has.
    fn next(&self) -> Vec<String> {
        let mut buffer = [0; 8_192];
        let length = self.socket.recv(&mut buffer).expect("a message of egressd");
        let text = std::str::from_utf8(&buffer[..length]).expect("UTF-8");
        text.lines().map(str::to_owned).collect()
    }

    /// A reload, which is told by two messages: the text of the second.
    fn reload(&self) -> String {
        let message = self.next();
        let [reloading, at, _] = &message[..] else { panic!("three lines: {message:?}") };
        assert_eq!(reloading, "RELOADING=1");
        let micros: u64 = at.strip_prefix("MONOTONIC_USEC=").expect(at).parse().expect("microseconds");
        // The clock counts from the start of the machine.
        let up = std::fs::read_to_string("/proc/uptime").expect("Linux");
        let up: f64 = up.split('.').next().and_then(|seconds| seconds.parse().ok()).expect("seconds");
        assert!(micros > 0 && micros as f64 / 1e6 < up + 2.0, "{micros} {up}");
        self.ready()
    }

    /// The text that comes with READY.
    fn ready(&self) -> String {
        let message = self.next();
        let [ready, status] = &message[..] else { panic!("two lines: {message:?}") };
        assert_eq!(ready, "READY=1");
        status.strip_prefix("STATUS=").expect(status).to_owned()
    }

    /// Reloads until one says so; a file that is written may be read more than once.
    fn reload_that_says(&self, what: &str) {
        until(what, || self.reload().contains(what).then_some(()));
    }
}

/// `configuration … is in force`, of this one.
fn in_force(egressd: &Egressd) -> String {
    let info = egressd.get("/metrics").body;
    let hash = info.split("egressd_config_info{sha256=\"").nth(1).expect("the metric");
    format!("configuration {} is in force", &hash[..12])
}

#[test]
fn start_reload_refused_reload_and_drain_are_told_in_order() {
    let directory = directory();
    let manager = Manager::in_directory(&directory);
    let origin = Origin::echo();
    let rule = format!("tcp://127.0.0.1:{}", origin.port());
    let yaml = config(&[&rule]) + "shutdown: {grace_period: 10m}\n";
    let egressd = start(directory, &yaml, &manager.given());
    let ready = manager.ready();
    assert_eq!(egressd.get("/readyz").status, 200, "it serves when it says so");
    assert_eq!(ready, in_force(&egressd));

    egressd.signal(Signal::HUP);
    assert_eq!(manager.reload(), ready, "nothing has changed");
    write(&egressd.file("egressd.yaml"), yaml.replace("10m", "11m"));
    until("the new configuration", || {
        let told = manager.reload();
        (told != ready && told == in_force(&egressd)).then_some(())
    });
    let second = in_force(&egressd);
    write(&egressd.file("egressd.yaml"), yaml.replace("grace_period", "grace"));
    let place = egressd.file("egressd.yaml").display().to_string();
    manager.reload_that_says(&format!(
        "{second}; the changed one is refused: 1 finding, at {place}:8:12, which the log tells"
    ));
    write(&egressd.file("egressd.yaml"), yaml.replace("10m", "11m"));
    until("what is in force to be all", || (manager.reload() == second).then_some(()));

    let tunnel = egressd.tunnel(&origin.address().to_string());
    egressd.signal(Signal::TERM);
    let stopping = manager.next();
    let micros =
        stopping[1].strip_prefix("EXTEND_TIMEOUT_USEC=").and_then(|micros| micros.parse::<u64>().ok());
    assert!(micros.is_some_and(|micros| micros >= 11 * 60 * 1_000_000), "{stopping:?}");
    assert_eq!((&*stopping[0], &*stopping[2]), ("STOPPING=1", "STATUS=shutting down"));
    assert_eq!(manager.next(), ["STATUS=draining: 1 open tunnel has up to 11 min"]);
    // A change while it drains is no reload to the manager, whose message would come before the end.
    write(&egressd.file("egressd.yaml"), yaml.replace("10m", "12m"));
    let changed = || egressd.stderr().matches("is in force; 0 tunnels and exchanges ended").count() == 2;
    until("the last reload", || changed().then_some(()));
    drop(tunnel);
    assert_eq!(egressd.wait().code, 0);
    manager.socket.set_nonblocking(true).expect("it is open");
    assert!(manager.socket.recv(&mut [0; 64]).is_err(), "nothing else was told");
}

#[test]
fn a_start_that_fails_is_told_and_is_never_ready() {
    let taken = TcpListener::bind(any_port()).expect("bound");
    let address = taken.local_addr().expect("bound").to_string();
    for (yaml, code, told) in [
        (
            "policies: [{allow: [a.test]}]\nno: such key\n".to_owned(),
            78,
            "the configuration is invalid".to_owned(),
        ),
        (
            config(&[]).replacen("127.0.0.1:0", &address, 1),
            1,
            format!("cannot listen on {address} (listener proxy): "),
        ),
    ] {
        let directory = directory();
        let manager = Manager::in_directory(&directory);
        let ended = start(directory, &yaml, &manager.given()).wait();
        assert_eq!(ended.code, code, "{}", ended.stderr);
        let message = manager.next();
        assert!(message.len() == 1 && message[0].starts_with(&format!("STATUS={told}")), "{message:?}");
        manager.socket.set_nonblocking(true).expect("it is open");
        assert!(manager.socket.recv(&mut [0; 64]).is_err(), "nothing else was told");
    }
}

#[test]
fn the_watchdog_hears_of_it_and_of_no_other_process() {
    let directory = directory();
    let name = format!("egressd-{}", directory.path().display());
    let manager = Manager::at(&SocketAddr::from_abstract_name(&name).expect("short"), format!("@{name}"));
    let mut given = manager.given();
    given.variables.push(("WATCHDOG_USEC", "200000".to_owned()));
    let egressd = start(directory, &config(&[]), &given);
    manager.ready();
    // A file that was just written may be read again meanwhile.
    for _ in 0..3 {
        until("a sign of life", || (manager.next() == ["WATCHDOG=1"]).then_some(()));
    }
    egressd.signal(Signal::TERM);
    // What was under way first.
    until("it to stop", || (manager.next()[0] == "STOPPING=1").then_some(()));
    assert_eq!(egressd.wait().code, 0);

    let directory = crate::support::directory();
    let manager = Manager::in_directory(&directory);
    let mut given = manager.given();
    given.variables.push(("WATCHDOG_USEC", "2000".to_owned()));
    given.variables.push(("WATCHDOG_PID", "1".to_owned()));
    let egressd = start(directory, &config(&[]), &given);
    manager.ready();
    egressd.signal(Signal::HUP);
    manager.reload();
}

#[test]
fn a_socket_that_is_not_there_or_cannot_be_keeps_nobody_from_serving() {
    for (name, told) in [
        ("/nonexistent/notify", "cannot write to NOTIFY_SOCKET, so the service manager knows less: "),
        (
            "vsock:2:9999",
            "NOTIFY_SOCKET is `vsock:2:9999`, which cannot be used: it begins with neither / nor @",
        ),
    ] {
        let given = Given { variables: vec![("NOTIFY_SOCKET", name.to_owned())], ..Given::default() };
        let egressd = start(directory(), &config(&[]), &given);
        egressd.says(told);
        until("it to be ready", || (egressd.get("/readyz").status == 200).then_some(()));
    }
}
