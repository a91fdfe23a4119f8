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
use crate::support::{Egressd, End, Record, directory, head_of, until};

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

fn hold(way: impl Fn(&Egressd) -> Way, change: impl Fn(String) -> String) {
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

#[test]
fn the_gate_holds_by_socks5() {
    hold(
        |proxy| Way::Socks(proxy.address()),
        |text| with_listener(&text, |address| format!("address: {address}, protocols: [http, socks5]")),
    );
}

#[test]
fn the_gate_holds_by_a_unix_socket() {
    let directory = directory();
    let path = directory.path().join("proxy.sock");
    hold(
        |_| Way::Unix(path.clone()),
        |text| with_listener(&text, |_| format!("address: \"unix:{}\"", path.display())),
    );
}
