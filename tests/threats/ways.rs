//! The cases of the suite that open a tunnel, sent by the other ways in: what they say in HTTP a shim says in SOCKS5, or to a unix
//! socket. The gate, the rules, the address checks and the records are the same.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::thread::{scope, spawn};

use crate::check::UNHURRIED;
use crate::suite::case::{Case, Expect, Step};
use crate::suite::cases;
use crate::suite::drive::{Patience, drive};
use crate::suite::verdict::harmed;
use crate::suite::world::World;
use crate::support::socks::{greeting, request};
use crate::support::{Egressd, End, Origin, Record, config, directory, head_of, read, until, write};

/// How the shim reaches egressd.
#[derive(Clone)]
enum Way {
    Socks(SocketAddr),
    Unix(PathBuf),
}

/// A connection to egressd; closing one side of it is passed on.
pub(crate) trait Line: Read + Write + Send + Sized + 'static {
    fn again(&self) -> io::Result<Self>;
    fn close(&self, how: Shutdown);
}

impl Line for TcpStream {
    fn again(&self) -> io::Result<Self> {
        self.try_clone()
    }

    fn close(&self, how: Shutdown) {
        let _ = self.shutdown(how);
    }
}

impl Line for UnixStream {
    fn again(&self) -> io::Result<Self> {
        self.try_clone()
    }

    fn close(&self, how: Shutdown) {
        let _ = self.shutdown(how);
    }
}

/// Both ways, until both sides have closed theirs.
pub(crate) fn pump(client: TcpStream, proxy: impl Line) -> io::Result<()> {
    let (mut from, mut to) = (client.try_clone()?, proxy.again()?);
    let up = spawn(move || {
        let _ = io::copy(&mut from, &mut to);
        to.close(Shutdown::Write);
    });
    let (mut from, mut to) = (proxy, client);
    let _ = io::copy(&mut from, &mut to);
    let _ = to.shutdown(Shutdown::Write);
    let _ = up.join();
    Ok(())
}

/// One connection of the suite.
#[expect(clippy::disallowed_methods, reason = "a client of the proxy")]
fn carry(mut client: TcpStream, way: &Way) -> io::Result<()> {
    match way {
        Way::Unix(path) => pump(client, UnixStream::connect(path)?),
        Way::Socks(address) => {
            let head = head_of(&mut client)?;
            let target = head.split(' ').nth(1).unwrap_or_default().to_owned();
            let mut proxy = TcpStream::connect(address)?;
            proxy.write_all(&[greeting(&[0]), request(&target)].concat())?;
            let mut answer = [0; 12];
            proxy.read_exact(&mut answer)?;
            let status = if answer[3] == 0 { "200 ok" } else { "403 refused" };
            client.write_all(format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n").as_bytes())?;
            pump(client, proxy)
        }
    }
}

/// The target of a CONNECT with which the case begins and whose answer it waits for.
pub(crate) fn target(case: &Case, world: &World) -> Option<String> {
    let [Step::Send(bytes), Step::Established, ..] = case.steps.as_slice() else { return None };
    let head = String::from_utf8(world.fill(bytes)).ok()?;
    // Nothing behind it: what the shim writes comes first.
    let head = head.strip_suffix("\r\n\r\n").filter(|head| !head.contains("\r\n\r\n"))?;
    let (host, port) = head.strip_prefix("CONNECT ")?.split(' ').next()?.rsplit_once(':')?;
    let fits = port.parse::<u16>().is_ok() && !host.is_empty() && host.len() < 256;
    fits.then(|| format!("{host}:{port}"))
}

fn hold(way: &dyn Fn(&Egressd) -> Way, change: &dyn Fn(String) -> String) {
    let world = World::on_loopback();
    let proxy = Egressd::start(&change(world.config() + UNHURRIED));
    let way = way(&proxy);
    let shim = TcpListener::bind("127.0.0.1:0").expect("a port");
    let at = shim.local_addr().expect("bound");
    let mut held = 0;
    for case in cases::all().iter().filter(|case| target(case, &world).is_some()) {
        let (before, records, log) = (world.mark(), proxy.records().len(), proxy.log().len());
        let patience = if case.expect == Expect::Flows { Patience::Heard } else { Patience::Closed };
        let said = scope(|scope| {
            let carried = scope.spawn(|| {
                let (client, _) = shim.accept().expect("the suite connects");
                carry(client, &way)
            });
            let said =
                drive(at, case, &world, patience).unwrap_or_else(|error| panic!("{}: {error}", case.what));
            let _ = carried.join().expect("no panic");
            said
        });
        let news = world.settled(&before);
        let found = |record: &Record| {
            let reason = match case.expect {
                Expect::Reply(_, reason) | Expect::Alert(_, reason) | Expect::Close(reason) => reason,
                Expect::Flows => return record["event"] == "close",
                Expect::Late(..) | Expect::Answers(_) => return true,
            };
            // A name that no head of HTTP has is one that no target has.
            let is_form = |reason: &str| matches!(reason, "bad_request" | "bad_target");
            record["reason"] == reason || (is_form(reason) && record["reason"].as_str().is_some_and(is_form))
        };
        until(&case.what, || proxy.records().iter().skip(records).any(found).then_some(()));
        match case.expect {
            Expect::Alert(description, _) => {
                assert_eq!(
                    (&said.tail[..], said.end),
                    (&[21, 3, 3, 0, 2, 2, description][..], Some(End::Fin)),
                    "{}",
                    case.what
                );
            }
            Expect::Close(_) => assert!(said.tail.is_empty(), "{}: {said:?}", case.what),
            Expect::Reply(..) => assert!(news.reached.is_empty(), "{}: {news:?}", case.what),
            Expect::Flows => {
                let came_back = !said.tail.is_empty() || !said.inside.is_empty();
                assert!(came_back && !news.reached.is_empty(), "{}: {said:?}", case.what);
            }
            Expect::Late(..) | Expect::Answers(_) => {}
        }
        let harm = harmed(case, &world, &said, &news, &proxy.log().as_bytes()[log..]);
        assert_eq!(harm, case.unstoppable, "{}: said {said:?}; reached {news:?}", case.what);
        held += 1;
    }
    assert!(held >= 40, "only {held} cases open a tunnel");
    assert_eq!(proxy.stop().code, 0);
}

/// The same configuration with these keys for the listener, in the place of its address or after it.
pub(crate) fn with_listener(text: &str, keys: impl Fn(&str) -> String) -> String {
    let (before, rest) =
        text.split_once("listeners: [{name: proxy, address: ").expect("as the world writes it");
    let (address, after) = rest.split_once("}]").expect("as the world writes it");
    format!("{before}listeners: [{{name: proxy, {}}}]{after}", keys(address))
}

fn by_socks5(proxy: &Egressd) -> Way {
    Way::Socks(proxy.address())
}

fn speaking_socks5(text: String) -> String {
    with_listener(&text, |address| format!("address: {address}, protocols: [http, socks5]"))
}

/// What runs by a way, with a listener for it.
type Test = fn(&dyn Fn(&Egressd) -> Way, &dyn Fn(String) -> String);

/// Runs `test` at a unix socket.
fn by_socket(test: Test) {
    let directory = directory();
    let path = directory.path().join("proxy.sock");
    test(&|_| Way::Unix(path.clone()), &|text| {
        with_listener(&text, |_| format!("address: \"unix:{}\"", path.display()))
    });
}

#[test]
fn the_gate_holds_by_socks5() {
    hold(&by_socks5, &speaking_socks5);
}

#[test]
fn the_gate_holds_by_a_unix_socket() {
    by_socket(hold);
}

/// A tunnel by this way to an address that only echoes, once it has done so; none if it was refused, or ended before.
fn echoing(shim: &TcpListener, way: &Way, target: &str) -> Option<TcpStream> {
    let way = way.clone();
    #[expect(clippy::disallowed_methods, reason = "the client of the shim")]
    let mut client = TcpStream::connect(shim.local_addr().expect("bound")).expect("it listens");
    let (far, _) = shim.accept().expect("the client has connected");
    spawn(move || carry(far, &way));
    write!(client, "CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n").ok()?;
    let head = head_of(&mut client).ok()?;
    client.write_all(b"ping").ok()?;
    let mut said = [0; 4];
    (head.starts_with("HTTP/1.1 200") && client.read_exact(&mut said).is_ok()).then_some(client)
}

/// What refuses a tunnel and what ends one: a limit of the client, a rule that goes, a limit of uploads, the end of the program.
fn ends(way: &dyn Fn(&Egressd) -> Way, change: &dyn Fn(String) -> String) {
    let target = Origin::echo();
    let rule = format!("tcp://{}", target.address());
    let text = change(config(&[&rule]) + "limits: {tunnels_per_client: 1}\nshutdown: {grace_period: 1s}\n");
    let proxy = Egressd::start(&text);
    let (way, file) = (way(&proxy), proxy.file("egressd.yaml"));
    // It has the address that it was given: a file without one would be refused.
    let text = read(&file);
    let shim = TcpListener::bind("127.0.0.1:0").expect("a port");
    let open = || echoing(&shim, &way, &target.address().to_string());
    let first = open().expect("it is allowed");
    assert!(open().is_none(), "a client may have one");
    proxy.record(|record| record["reason"] == "client_limit_reached");
    // A rule that goes ends what it let through, and lets nothing through any more.
    write(&file, text.replace(&rule, "tcp://elsewhere.test:1"));
    proxy.record(|record| record["ending"] == "policy_revoked");
    assert!(open().is_none(), "no rule allows it");
    proxy.record(|record| record["reason"] == "host_not_allowed");
    drop(first);
    let limited = format!("{{to: \"{rule}\", upload_limit: 4KiB}}");
    write(&file, text.replace(&format!("\"{rule}\""), &limited));
    let mut limited = until("the limit of uploads to be in force", open);
    until("it to end the tunnel", || {
        let _ = limited.write_all(&[7; 1024]);
        proxy.records().iter().any(|record| record["ending"] == "upload_limit").then_some(())
    });
    let left = until("a place to be free again", open);
    let ended = proxy.stop();
    drop(left);
    assert_eq!(ended.code, 0);
    assert!(ended.records.iter().any(|record| record["ending"] == "drained"), "{:?}", ended.records);
}

#[test]
fn limits_reloads_and_the_drain_hold_by_socks5() {
    ends(&by_socks5, &speaking_socks5);
}

#[test]
fn limits_reloads_and_the_drain_hold_by_a_unix_socket() {
    by_socket(ends);
}
