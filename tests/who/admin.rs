//! The admin listener behind a balancer: a header is read if it comes, and it is not required.

use crate::balancer::{v1, v2};
use crate::support::{Egressd, Reply, Wire, config};

fn start(trusted: &str) -> Egressd {
    let bare = "admin: {address: 127.0.0.1:0}";
    let admin = format!(
        "admin: {{address: 127.0.0.1:0, networks: [127.0.0.0/8, 192.0.2.0/24], proxy_protocol: {{trusted: [{trusted}]}}}}"
    );
    let text = config(&["a.example"]);
    assert!(text.contains(bare), "the admin listener of `config` looks otherwise now");
    Egressd::start(&text.replace(bare, &admin))
}

fn get(proxy: &Egressd, header: &[u8], path: &str) -> Reply {
    let mut wire = Wire::connect(proxy.admin());
    wire.send(
        [header, format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes()].concat(),
    );
    wire.read_reply()
}

#[test]
fn the_client_of_a_header_is_the_one_that_asks() {
    let proxy = start("127.0.0.0/8");
    let known = v1("192.0.2.9");
    let stranger = v2([198, 51, 100, 9], &[]);
    let local = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";
    let cases: [(&[u8], &str, u16); 8] = [
        // The kubelet and Prometheus send none.
        (b"", "/healthz", 200),
        (b"", "/metrics", 200),
        (&known, "/metrics", 200),
        (&stranger, "/metrics", 403),
        (&stranger, "/healthz", 200),
        (&stranger, "/readyz", 200),
        (local, "/healthz", 200),
        (local, "/metrics", 200),
    ];
    for (header, path, status) in cases {
        assert_eq!(get(&proxy, header, path).status, status, "{path} after {header:?}");
    }
}

#[test]
fn a_malformed_header_is_closed() {
    let proxy = start("127.0.0.0/8");
    for header in ["PROXY TCP4 a b 1 2\r\n", "PROXY UNKNOWN\r\nPROXY UNKNOWN\r\n"] {
        let mut wire = Wire::connect(proxy.admin());
        wire.send(format!("{header}GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"));
        crate::assert_closed_without_a_word(wire);
    }
}

#[test]
fn nobody_else_can_claim_to_be_another() {
    let proxy = start("192.0.2.0/24");
    // The header is not HTTP, and this test expects exactly that.
    assert_eq!(get(&proxy, &v1("127.0.0.1"), "/metrics").status, 400);
    assert_eq!(get(&proxy, b"", "/metrics").status, 200);
}
