//! A restart under load: if something holds the sockets for the next process, no client is refused.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{scope, sleep};
use std::time::Duration;

use crate::support::{Egressd, Origin, Wire, any_port, config, directory, until, write};
use crate::{Given, start_at};

const RESTARTS: usize = 3;
/// Between two connections of the client.
const PAUSE: Duration = Duration::from_millis(10);

/// Ends the load, whatever ends the test.
struct Load<'l>(&'l AtomicBool);

impl Drop for Load<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn starts(file: &Path, proxy: &TcpListener) -> Egressd {
    let given = Given { sockets: vec![("proxy", proxy as &dyn AsFd)], ..Given::default() };
    let egressd = start_at(directory(), file, &given);
    until("it to be ready", || (egressd.get("/readyz").status == 200).then_some(()));
    egressd
}

/// A connection, a tunnel, a round trip.
fn asks(proxy: SocketAddr, origin: SocketAddr) {
    let mut wire = Wire::connect(proxy);
    wire.send(format!("CONNECT {origin} HTTP/1.1\r\nHost: {origin}\r\n\r\nping"));
    let reply = wire.read_head();
    assert_eq!(reply.status, 200, "{reply:?}");
    assert_eq!(wire.read_exact(4), b"ping");
}

#[test]
fn no_client_is_refused_while_egressd_restarts() {
    let origin = Origin::echo();
    let proxy = TcpListener::bind(any_port()).expect("bound");
    let address = proxy.local_addr().expect("bound");
    let home = directory();
    let file = home.path().join("egressd.yaml");
    let rule = format!("tcp://{}", origin.address());
    write(&file, config(&[&rule]).replacen("127.0.0.1:0", &address.to_string(), 1));
    let target = origin.address();
    let (is_over, served) = (AtomicBool::new(false), AtomicUsize::new(0));
    scope(|all| {
        let load = Load(&is_over);
        // Ends when its last client has been served, and with a panic if one was not.
        let clients = all.spawn(|| {
            scope(|clients| {
                while !is_over.load(Ordering::Relaxed) {
                    clients.spawn(|| {
                        asks(address, target);
                        served.fetch_add(1, Ordering::Relaxed);
                    });
                    sleep(PAUSE);
                }
            });
        });
        let mut egressd = starts(&file, &proxy);
        for _ in 0..RESTARTS {
            let before = served.load(Ordering::Relaxed);
            until("clients that are served", || (served.load(Ordering::Relaxed) > before + 20).then_some(()));
            let ended = egressd.stop();
            assert_eq!(ended.code, 0, "{}", ended.stderr);
            egressd = starts(&file, &proxy);
        }
        drop(load);
        clients.join().expect("every client was served");
        assert_eq!(egressd.stop().code, 0);
    });
    assert!(served.into_inner() > RESTARTS * 20);
}
