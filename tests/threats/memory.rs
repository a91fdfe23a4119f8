//! The rows about memory: what clients make the proxy hold is bounded, and the bound is felt by those who hold, not by others.
//!
//! Each attack is held while a quiet client opens a tunnel. The attacks in full size, in a cgroup, are in `tests/long/abuse`.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use rustix::process::Signal;

use crate::check::ask;
use crate::suite::hello;
use crate::suite::world::World;
use crate::support::{Authority, DEADLINE, Egressd, Origin, Wire, any_port, directory, until, write};

/// So little that some sixty hellos fill it.
const MEMORY: &str = "limits: {memory: 4MiB, requests_per_second_per_client: 100000}\n";
const MEMORY_BYTES: f64 = 4.0 * 1024.0 * 1024.0;
/// A hello that names the allowed target, as large as one may be, without its last bytes.
fn most_of_a_hello() -> Vec<u8> {
    let mut whole = hello::with(vec![hello::sni(hello::OK), (21, vec![0; 65_000])]);
    whole.truncate(whole.len() - 6);
    whole
}

/// Allows the targets of the world, and the one of the quiet client.
fn text(world: &World, echo: &Origin) -> String {
    let rules = [
        format!("{}:{}", hello::OK, world.tls),
        format!("http://{}:{}", hello::OK, world.web),
        format!("{{to: \"tcp://{}\", private: [127.0.0.0/8]}}", echo.address()),
    ];
    world.config_allowing(&rules.each_ref().map(String::as_str)) + MEMORY
}

/// Without the answers of DNS, which are kept for their time.
fn held(proxy: &Egressd) -> f64 {
    let metrics = proxy.metrics();
    metrics.sum("egressd_held_bytes", &[]) - metrics.sum("egressd_held_bytes", &[("kind", "dns")])
}

/// A tunnel through which a byte comes back. `None`: it was closed without a reply.
fn tunnel(proxy: &Egressd, from: IpAddr, echo: &Origin) -> Option<()> {
    let mut wire = Wire::connect_from(from, proxy.address());
    wire.stream_mut().set_read_timeout(Some(DEADLINE)).expect("a socket");
    wire.send(ask(&echo.address().to_string()));
    if !matches!(wire.stream_mut().peek(&mut [0]), Ok(1)) {
        return None;
    }
    let reply = wire.read_head();
    assert_eq!(reply.status, 200, "{reply:?}\n{}", proxy.stderr());
    wire.send("!");
    assert_eq!(wire.read_exact(1), b"!");
    Some(())
}

/// While `attack` is held: a quiet client opens a tunnel at its first attempt; one from the attacker's address, as behind a balancer,
/// which is the same client, may have to come again, within its time; the limit holds; `/livez` answers; and what the attacker lost stands in the log. Then everything comes back.
fn withstands(proxy: Egressd, echo: &Origin, attack: Vec<Wire>, lost: impl Fn(&Egressd) -> bool) {
    until("memory to be short", || (held(&proxy) > MEMORY_BYTES / 2.0 || lost(&proxy)).then_some(()));
    tunnel(&proxy, [127, 0, 7, 7].into(), echo).expect("a quiet client is answered");
    until("a tunnel from the attacker's address", || tunnel(&proxy, [127, 0, 0, 1].into(), echo));
    assert_eq!(proxy.get("/livez").status, 200);
    until("the attacker to lose something", || lost(&proxy).then_some(()));
    // What the kernel has taken in is known a moment later.
    until("the limit to hold", || (held(&proxy) <= MEMORY_BYTES).then_some(()));
    drop(attack);
    until("all bytes to come back", || (held(&proxy) == 0.0).then_some(()));
    let ended = proxy.stop();
    assert_eq!(ended.code, 0);
    assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
}

/// Sends until nobody takes it.
fn flooding() -> Origin {
    Origin::start(any_port(), |mut conversation| {
        while conversation.write_all(&[7; 65_536]).is_ok() {}
        Ok(())
    })
}

/// From so many connections, what is sent is sent as far as the proxy takes it.
fn attack_at(proxy: SocketAddr, count: u8, mut with: impl FnMut(&mut Wire)) -> Vec<Wire> {
    (0..count)
        .map(|at| {
            let from = if at % 2 == 0 { [127, 0, 0, 1] } else { [127, 0, 7, 1] };
            let mut wire = Wire::connect_from(from.into(), proxy);
            wire.stream_mut().set_write_timeout(Some(Duration::from_secs(2))).expect("a socket");
            with(&mut wire);
            wire
        })
        .collect()
}

/// Sends what is taken; the proxy may end the connection meanwhile, or stop reading it.
fn press(wire: &mut Wire, bytes: &[u8]) {
    let stream: &mut TcpStream = wire.stream_mut();
    let _ = stream.write_all(bytes);
}

fn is_recorded(proxy: &Egressd, reason: &str) -> bool {
    proxy.records().iter().any(|record| record["reason"] == reason)
}

#[test]
fn t71_half_hellos_make_room_for_a_quiet_client() {
    let (world, echo) = (World::on_loopback(), Origin::echo());
    let proxy = Egressd::start(&text(&world, &echo));
    let (authority, half) = (format!("{}:{}", hello::OK, world.tls), most_of_a_hello());
    let attack = attack_at(proxy.address(), 150, |wire| {
        press(wire, ask(&authority).as_bytes());
        press(wire, &half);
    });
    withstands(proxy, &echo, attack, |proxy| is_recorded(proxy, "limit_reached"));
}

#[test]
fn t71_half_hellos_at_a_tls_listener_make_room_too() {
    let (world, echo) = (World::on_loopback(), Origin::echo());
    let (directory, authority) = (directory(), Authority::new());
    let own = authority.issue(&["localhost"]);
    write(&directory.path().join("tls.crt"), &own.pem);
    write(&directory.path().join("tls.key"), &own.key_pem);
    let tls = "listeners: [{name: proxy, address: 127.0.0.1:0}, {name: tls, address: 127.0.0.1:0, \
               tls: {certificate: tls.crt, key: tls.key}}]\n";
    let text = text(&world, &echo);
    let text = text.lines().map(|line| if line.starts_with("listeners:") { tls.trim_end() } else { line });
    let proxy = Egressd::start_in(directory, &text.collect::<Vec<_>>().join("\n"));
    let half = most_of_a_hello();
    let address = proxy.listener("tls");
    let attack = attack_at(address, 150, |wire| press(wire, &half));
    withstands(proxy, &echo, attack, |proxy| is_recorded(proxy, "limit_reached"));
}

#[test]
fn t72_half_heads_make_room_for_a_quiet_client() {
    let (world, echo) = (World::on_loopback(), Origin::echo());
    // Where reading is paused when the attackers leave, a head ends with its deadline, which is before that of this test.
    let text = text(&world, &echo).replace("limits: {", "limits: {head_bytes: 256KiB, head_timeout: 20s, ");
    let proxy = Egressd::start(&text);
    let half = [b"GET http://x/ HTTP/1.1\r\nHost: x\r\nX: ".to_vec(), vec![b'a'; 200_000]].concat();
    let attack = attack_at(proxy.address(), 60, |wire| press(wire, &half));
    withstands(proxy, &echo, attack, |proxy| is_recorded(proxy, "limit_reached"));
}

#[test]
fn t72_half_heads_inside_tunnels_make_room_too() {
    let (world, echo) = (World::on_loopback(), Origin::echo());
    let text = text(&world, &echo).replace("limits: {", "limits: {head_bytes: 256KiB, head_timeout: 20s, ");
    let proxy = Egressd::start(&text);
    let authority = format!("{}:{}", hello::OK, world.web);
    let head = format!("GET / HTTP/1.1\r\nHost: {authority}\r\nX: ");
    let half = [head.into_bytes(), vec![b'a'; 200_000]].concat();
    let attack = attack_at(proxy.address(), 60, |wire| {
        press(wire, ask(&authority).as_bytes());
        press(wire, &half);
    });
    withstands(proxy, &echo, attack, |proxy| {
        is_recorded(proxy, "limit_reached")
            && proxy.records().iter().any(|record| record["ending"] == "memory_limit")
    });
}

#[test]
fn t72_tunnels_that_are_not_read_make_room() {
    let (world, echo) = (World::on_loopback(), Origin::echo());
    let flood = flooding();
    let rule = format!("      - {{to: \"tcp://{}\", private: [127.0.0.0/8]}}\n", flood.address());
    let proxy =
        Egressd::start(&text(&world, &echo).replacen("    allow:\n", &format!("    allow:\n{rule}"), 1));
    let authority = flood.address().to_string();
    let attack = attack_at(proxy.address(), 60, |wire| press(wire, ask(&authority).as_bytes()));
    withstands(proxy, &echo, attack, |proxy| {
        proxy.records().iter().any(|record| record["ending"] == "memory_limit")
    });
}

#[test]
fn t72_responses_that_are_not_read_and_uploads_that_stall_make_room() {
    for upload in [false, true] {
        let (world, echo) = (World::on_loopback(), Origin::echo());
        let stuck = Origin::start(any_port(), move |mut conversation| {
            let _ = conversation.read(&mut [0; 64])?;
            if upload {
                // Nothing of the body is read, for longer than anything is waited for.
                std::thread::sleep(Duration::from_secs(45));
                return Ok(());
            }
            let _ = conversation.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n");
            while conversation.write_all(&[7; 65_536]).is_ok() {}
            Ok(())
        });
        let rule = format!("      - {{to: \"http://{}\", private: [127.0.0.0/8]}}\n", stuck.address());
        let text = text(&world, &echo).replacen("    allow:\n", &format!("    allow:\n{rule}"), 1);
        let proxy = Egressd::start(&text);
        let to = stuck.address();
        let request = match upload {
            true => format!("POST http://{to}/ HTTP/1.1\r\nHost: {to}\r\nContent-Length: 1000000000\r\n\r\n"),
            false => format!("GET http://{to}/ HTTP/1.1\r\nHost: {to}\r\n\r\n"),
        };
        let attack = attack_at(proxy.address(), 60, |wire| {
            press(wire, request.as_bytes());
            if upload {
                press(wire, &[7; 1 << 20]);
                // At its end it is reset. An orderly close behind what the proxy does not read would be seen by nobody.
                socket2::SockRef::from(&*wire.stream_mut())
                    .set_linger(Some(Duration::ZERO))
                    .expect("SO_LINGER");
            }
        });
        withstands(proxy, &echo, attack, |proxy| {
            let records = proxy.records();
            records.iter().any(|r| r["ending"] == "memory_limit" || r["reason"] == "limit_reached")
        });
    }
}

/// What a client may do.
#[derive(Clone, Copy, Debug)]
enum Move {
    Open(Asks),
    /// Of the connection at this place: all that there are, modulo.
    Send(usize, u16),
    Read(usize, u16),
    Finish(usize),
    Reset(usize),
    Close(usize),
    Reload,
}

/// What a new connection asks for.
#[derive(Clone, Copy, Debug)]
enum Asks {
    Nothing,
    HalfHead,
    HalfHello,
    WholeHello,
    Echo,
    Flood,
    Get,
    Post,
    Chunks,
    Pipelined,
    InsideHead,
    InsideGets,
    InsidePost,
    Denied,
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    use Asks::*;
    let outside =
        [Nothing, HalfHead, HalfHello, WholeHello, Echo, Flood, Get, Post, Chunks, Pipelined, Denied];
    let asks = [&outside[..], &[InsideHead, InsideGets, InsidePost]].concat();
    let asks = proptest::sample::select(asks);
    let one = prop_oneof![
        6 => asks.prop_map(Move::Open),
        4 => (any::<usize>(), any::<u16>()).prop_map(|(at, bytes)| Move::Send(at, bytes)),
        4 => (any::<usize>(), any::<u16>()).prop_map(|(at, bytes)| Move::Read(at, bytes)),
        1 => any::<usize>().prop_map(Move::Finish),
        1 => any::<usize>().prop_map(Move::Reset),
        1 => any::<usize>().prop_map(Move::Close),
        1 => Just(Move::Reload),
    ];
    proptest::collection::vec(one, 40..160)
}

/// One client's moves, and at the end it leaves.
fn play(proxy: &Egressd, moves: &[Move], opening: impl Fn(Asks) -> Vec<u8>) {
    let mut wires: Vec<Wire> = Vec::new();
    for step in moves {
        let count = wires.len();
        match *step {
            Move::Open(asks) => {
                let mut wire = proxy.connect();
                let stream = wire.stream_mut();
                stream.set_write_timeout(Some(Duration::from_millis(20))).expect("a socket");
                stream.set_read_timeout(Some(Duration::from_millis(20))).expect("a socket");
                press(&mut wire, &opening(asks));
                wires.push(wire);
            }
            Move::Reload => proxy.signal(Signal::HUP),
            Move::Send(..) | Move::Read(..) | Move::Finish(_) | Move::Reset(_) | Move::Close(_)
                if count == 0 => {}
            Move::Send(at, bytes) => press(&mut wires[at % count], &vec![b'a'; bytes.into()]),
            Move::Read(at, bytes) => {
                let _ = wires[at % count].stream_mut().read(&mut vec![0; usize::from(bytes) + 1]);
            }
            Move::Finish(at) => {
                let _ = wires[at % count].stream_mut().shutdown(std::net::Shutdown::Write);
            }
            Move::Reset(at) => wires.swap_remove(at % count).reset(),
            Move::Close(at) => drop(wires.swap_remove(at % count)),
        }
    }
}

/// Every lease comes back, whatever is opened, stalled, reset, reloaded, ended for want of memory, and in whatever order.
#[test]
fn t72_all_bytes_come_back_after_any_order_of_moves() {
    let (world, echo, flood) = (World::on_loopback(), Origin::echo(), flooding());
    let web = Origin::start(any_port(), |mut conversation| {
        let _ = conversation.read(&mut [0; 512])?;
        conversation.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 300000\r\n\r\n")?;
        conversation.write_all(&[7; 300_000])?;
        Ok(())
    });
    let mut more = String::new();
    for (scheme, origin) in [("tcp", &flood), ("http", &web)] {
        let to = origin.address();
        more += &format!("      - {{to: \"{scheme}://{to}\", private: [127.0.0.0/8]}}\n");
    }
    let text = text(&world, &echo).replacen("    allow:\n", &format!("    allow:\n{more}"), 1);
    let proxy = Egressd::start(&text);
    let (secure, half, to) = (format!("{}:{}", hello::OK, world.tls), most_of_a_hello(), web.address());
    let plain = |method: &str, rest: &str| {
        format!("{method} http://{to}/ HTTP/1.1\r\nHost: {to}\r\n{rest}\r\n").into_bytes()
    };
    let opening = |asks| match asks {
        Asks::Nothing => Vec::new(),
        Asks::HalfHead => [b"GET http://x/ HTTP/1.1\r\nX: ".to_vec(), vec![b'a'; 10_000]].concat(),
        Asks::HalfHello => [ask(&secure).into_bytes(), half.clone()].concat(),
        Asks::WholeHello => [ask(&secure).into_bytes(), hello::real(hello::OK)].concat(),
        Asks::Echo => ask(&echo.address().to_string()).into_bytes(),
        Asks::Flood => ask(&flood.address().to_string()).into_bytes(),
        Asks::Get => plain("GET", ""),
        Asks::Post => plain("POST", "Content-Length: 400000\r\n"),
        Asks::Chunks => [plain("POST", "Transfer-Encoding: chunked\r\n"), b"fffff\r\n".to_vec()].concat(),
        Asks::Pipelined => plain("GET", "").repeat(40),
        Asks::InsideHead => [ask(&to.to_string()).into_bytes(), plain("GET", "X: ")].concat(),
        Asks::InsideGets => [ask(&to.to_string()).into_bytes(), plain("GET", "").repeat(3)].concat(),
        Asks::InsidePost => {
            [ask(&to.to_string()).into_bytes(), plain("POST", "Content-Length: 400000\r\n")].concat()
        }
        Asks::Denied => ask("evil.example:443").into_bytes(),
    };
    let mut runner =
        TestRunner::new(ProptestConfig { cases: 12, max_shrink_iters: 20, ..ProptestConfig::default() });
    let played = runner.run(&moves(), |moves| {
        play(&proxy, &moves, opening);
        until("all bytes to come back", || (held(&proxy) == 0.0).then_some(()));
        Ok(())
    });
    played.unwrap_or_else(|error| panic!("{error}\n{}", proxy.get("/metrics").body));
    let ended = proxy.stop();
    assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
}
