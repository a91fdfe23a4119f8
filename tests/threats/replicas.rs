//! Two replicas behind one balancer, to which DNS leads clients and, by mistake, the replicas too: what goes round, and where it ends.

use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Barrier;

use crate::support::{Egressd, Origin, Reply, Wire, any_port, client_hello, head_of, own_loopback, until};
use crate::transparent::{ACCESS_DENIED, alert, header, meaning, transparent};
use crate::ways::pump;

/// The replicas, by turns.
struct Replicas {
    /// The balancer's address, to which `led.test` leads.
    at: SocketAddr,
    both: [Egressd; 2],
}

impl Replicas {
    /// `rule` has PORT for the balancer's.
    fn start(rule: &str) -> Self {
        let balancer = TcpListener::bind((own_loopback(), 0)).expect("a port");
        let at = balancer.local_addr().expect("bound");
        let text = transparent(&[&rule.replace("PORT", &at.port().to_string())], "")
            .replace("hosts: {", &format!("hosts: {{led.test: [{}], ", at.ip()));
        let both = [Egressd::start(&text), Egressd::start(&text)];
        let addresses = [both[0].address(), both[1].address()];
        std::thread::spawn(move || {
            for (number, client) in balancer.incoming().map_while(Result::ok).enumerate() {
                #[expect(clippy::disallowed_methods, reason = "a client of the proxy")]
                let line = TcpStream::connect(addresses[number % 2]);
                std::thread::spawn(move || {
                    let mut line = line?;
                    line.write_all(&header(at))?;
                    pump(client, line)
                });
            }
        });
        Replicas { at, both }
    }

    /// How many records of each have this.
    fn count(&self, field: &str, value: &str) -> [usize; 2] {
        let of = |proxy: &Egressd| proxy.records().iter().filter(|record| record[field] == value).count();
        [of(&self.both[0]), of(&self.both[1])]
    }

    fn one_loop(&self) {
        until("one record of a loop", || {
            (self.count("reason", "loop").iter().sum::<usize>() == 1).then_some(())
        });
    }
}

#[test]
fn t95_what_a_balancer_sends_from_one_replica_to_the_other_ends_where_it_was_before() {
    let replicas = Replicas::start("https://led.test:PORT");
    let mut wire = Wire::connect(replicas.at);
    wire.send(client_hello(Some("led.test")));
    assert_eq!(wire.read_to_end().0, alert(ACCESS_DENIED), "the alert of the replica that knows the hello");
    replicas.one_loop();
    assert_eq!(replicas.count("event", "open"), [1, 1], "each has sent it on once");
}

fn goes_round(replicas: &Replicas, request: &str) -> Reply {
    let mut wire = Wire::connect(replicas.at);
    wire.send(request.replace("HOST", &format!("led.test:{}", replicas.at.port())));
    let reply = wire.read_reply();
    replicas.one_loop();
    // The first time nothing shows that it will come back, the second time it may be another client's, and the third time is refused.
    until("each replica's two requests that went on", || {
        (replicas.count("event", "http") == [2, 2]).then_some(())
    });
    reply
}

#[test]
fn t95_a_plain_request_that_a_balancer_sends_round_ends_where_it_was_before() {
    let replicas = Replicas::start("http://led.test:PORT");
    let reply = goes_round(&replicas, "GET /x?y HTTP/1.1\r\nHost: HOST\r\nCDN-Loop: cdn.example;v=1\r\n\r\n");
    assert_eq!(reply.status, 502);
    assert!(reply.body.contains("loop: this request has been here before"), "{reply:?}");
    // With a body, which is passed on while it comes.
    let replicas = Replicas::start("http://led.test:PORT");
    let body = "POST /x HTTP/1.1\r\nHost: HOST\r\nContent-Length: 4\r\n\r\nping";
    assert_eq!(goes_round(&replicas, body).status, 502);
}

#[test]
fn t95_a_rule_that_takes_fields_out_lets_nothing_go_round() {
    let rule = "{to: \"http://led.test:PORT\", headers: {remove: [CDN-Loop]}}";
    let reply = goes_round(&Replicas::start(rule), "GET /x HTTP/1.1\r\nHost: HOST\r\n\r\n");
    assert_eq!(reply.status, 502);
}

/// Equal requests of different clients are no loop. The first goes on as it came; the others have a mark that means nothing to their target.
#[test]
fn t95_equal_requests_at_the_same_time_are_served() {
    let together = Barrier::new(3);
    let web = Origin::start(any_port(), move |mut stream| {
        head_of(&mut stream)?;
        together.wait();
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    });
    let proxy = Egressd::start(&transparent(&[&format!("http://a.test:{}", web.port())], ""));
    let mut wires: Vec<Wire> = (0..3).map(|_| meaning(&proxy, web.address())).collect();
    for wire in &mut wires {
        wire.send(format!("GET / HTTP/1.1\r\nHost: a.test:{}\r\nCDN-Loop: cdn.example\r\n\r\n", web.port()));
    }
    for wire in &mut wires {
        assert_eq!(wire.read_reply().status, 200);
    }
    let heads: Vec<String> =
        web.seen().iter().map(|seen| String::from_utf8_lossy(&seen.bytes).into_owned()).collect();
    let marks = |head: &String| head.lines().filter(|line| line.starts_with("cdn-loop: ")).count();
    let mut all: Vec<usize> = heads.iter().map(marks).collect();
    all.sort_unstable();
    assert_eq!(all, [1, 2, 2], "{heads:?}");
    let mut written =
        heads.iter().flat_map(|head| head.lines()).filter_map(|line| line.strip_prefix("cdn-loop: "));
    let own = written.find(|mark| *mark != "cdn.example").expect("two have it");
    // A client that writes the mark itself is refused, and alone.
    let mut wire = meaning(&proxy, web.address());
    wire.send(format!("GET / HTTP/1.1\r\nHost: a.test:{}\r\nCDN-Loop: x, {own};v=1\r\n\r\n", web.port()));
    proxy.refused(wire, 502, "loop");
}
