//! Attacks inside inspected tunnels: another host by any of the names that a request has, another path by another spelling.

use crate::inspected_world::{HOST, Site, Tls, World};
use crate::support::{Egressd, End, client_hello, config};

/// An egressd that inspects two hosts of one target, which has a certificate for both.
struct Scene {
    world: World,
    site: Site,
    proxy: Egressd,
}

impl Scene {
    fn new(options: &str) -> Self {
        let world = World::new();
        let site = Site::ok(&world.targets.issue(&[HOST, "b.test"]));
        let rules = [HOST, "b.test"]
            .map(|host| format!("{{to: \"https://{host}:{}\", inspect: true{options}}}", site.port()));
        let proxy = world.start(&(config(&[&rules[0], &rules[1]]) + &World::rest()));
        Scene { world, site, proxy }
    }

    /// Sends this inside a tunnel to `HOST`, with `PORT` filled in, and expects a refusal.
    fn refuses(&self, request: &str, status: u16, reason: &str) {
        let mut wire = self.world.inside(&self.proxy, self.site.port());
        wire.send(request.replace("PORT", &self.site.port().to_string()));
        self.proxy.refused(wire, status, reason);
    }
}

#[test]
fn t80_one_name_stands_in_connect_sni_uri_and_host() {
    let scene = Scene::new("");
    let port = scene.site.port();
    let authority = format!("{HOST}:{port}");
    // The ClientHello, however good the request would be.
    for name in ["b.test", "evil.test", "a.test.evil.test"] {
        let mut tunnel = scene.proxy.tunnel(&authority);
        tunnel.send(client_hello(Some(name)));
        assert_eq!(tunnel.read_to_end(), (vec![21, 3, 3, 0, 2, 2, 112], End::Fin), "{name}");
    }
    // Fronting: the other name is allowed, and the same target serves it.
    for host in [
        "b.test:PORT",
        "evil.test:PORT",
        "a.test:1",
        "a.test:PORT.evil.test",
        "127.0.0.1:PORT",
        "a.test",
        "[::1]:PORT",
    ] {
        let reason = if host.ends_with("evil.test") && host.contains("PORT.") {
            (400, "bad_request")
        } else {
            (421, "host_mismatch")
        };
        scene.refuses(&format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"), reason.0, reason.1);
    }
    for uri in [
        "https://b.test:PORT/",
        "https://evil.test/",
        "http://a.test:PORT/",
        "https://a.test/",
        "ftp://a.test:PORT/",
    ] {
        scene.refuses(&format!("GET {uri} HTTP/1.1\r\nHost: a.test:PORT\r\n\r\n"), 421, "host_mismatch");
        scene.refuses(&format!("GET {uri} HTTP/1.0\r\n\r\n"), 421, "host_mismatch");
    }
    for (request, status, reason) in [
        ("GET https://u:p@a.test:PORT/ HTTP/1.1\r\nHost: a.test:PORT\r\n\r\n", 400, "bad_target"),
        ("GET https://a.test:PORT/ HTTP/1.1\r\nHost: b.test:PORT\r\n\r\n", 421, "host_mismatch"),
        ("GET https://b.test:PORT/ HTTP/1.1\r\nHost: a.test:PORT\r\n\r\n", 421, "host_mismatch"),
        ("GET / HTTP/1.1\r\nHost: a.test:PORT\r\nHost: b.test:PORT\r\n\r\n", 400, "bad_request"),
        ("GET / HTTP/1.1\r\nHost: a.test:PORT, b.test:PORT\r\n\r\n", 400, "bad_request"),
        ("GET / HTTP/1.1\r\nHost: a.test:PORT\r\n Host: b.test:PORT\r\n\r\n", 400, "bad_request"),
        ("GET / HTTP/1.1\r\nHost : b.test:PORT\r\nHost: a.test:PORT\r\n\r\n", 400, "bad_request"),
        ("GET / HTTP/1.1\r\n\r\n", 400, "bad_request"),
        ("GET / HTTP/1.1\r\nHost:\r\n\r\n", 400, "bad_request"),
        ("CONNECT b.test:PORT HTTP/1.1\r\nHost: a.test:PORT\r\n\r\n", 405, "method_not_allowed"),
        // Smuggled behind the first one.
        (
            "POST / HTTP/1.1\r\nHost: a.test:PORT\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET / HTTP/1.1\r\nHost: b.test\r\n\r\n",
            400,
            "bad_request",
        ),
    ] {
        scene.refuses(request, status, reason);
    }
    assert_eq!(scene.site.got().len(), 0, "nothing arrived");
    // A good request, then one to the other host behind it.
    let mut wire = scene.world.inside(&scene.proxy, port);
    wire.send(format!("GET /good HTTP/1.1\r\nHost: {authority}\r\nX-Forwarded-Host: b.test\r\nForwarded: host=b.test\r\n\r\nGET / HTTP/1.1\r\nHost: b.test:{port}\r\n\r\n"));
    assert_eq!(wire.read_reply().status, 200);
    scene.proxy.refused(wire, 421, "host_mismatch");
    let got = scene.site.got();
    assert_eq!(got.len(), 1);
    assert!(!got[0].head.contains("b.test"), "{}", got[0].head);
    // A leaf for the other name is never shown in this tunnel: a client that asks for it gets the alert above, whatever it trusts.
    let error =
        Tls::trusting(Some(&scene.world.inspection)).handshake(scene.proxy.tunnel(&authority), "b.test");
    assert!(error.map(drop).is_err());
}

/// Spellings of a path that programs read in more than one way, or that servers decode: each would be `/v1/…` or would leave it.
const SPELLINGS: [&str; 32] = [
    "/%76%31/a",
    "/v%31/a",
    "/v1/%61",
    "/v1/%2e%2e/admin",
    "/v1/%2E%2E/admin",
    "/v1/.%2e/admin",
    "/v1/../admin",
    "/v1/./a",
    "/v1/a/..",
    "/v1/.",
    "/v1/..",
    "/v1/..;/admin",
    "/v1/a;b",
    "/v1;x/a",
    "/v1//a",
    "//v1/a",
    "//b.test/v1/a",
    "/v1/a%2Fb",
    "/v1%2Fa",
    "/v1/a%2fb",
    "/v1/a%5Cb",
    "/v1/a\\b",
    "\\v1\\a",
    "/v1/..\\admin",
    "/v1/a%00",
    "/v1/a%0d%0aX:%20y",
    "/v1/%252e%252e/admin",
    "/v1/%c0%ae%c0%ae/admin",
    "/v1/a%",
    "/v1/a%zz",
    "/v1/a#b",
    "/v1/\u{ff0e}\u{ff0e}/admin",
];

#[test]
fn t81_a_path_of_more_than_one_reading_is_refused_and_never_made_normal() {
    let scene = Scene::new(", requests: [{methods: [GET], paths: [\"/v1/**\"]}]");
    let port = scene.site.port();
    for path in SPELLINGS {
        for form in [path.to_owned(), format!("https://{HOST}:PORT{path}")] {
            let mut wire = scene.world.inside(&scene.proxy, port);
            let request = format!("GET {form} HTTP/1.1\r\nHost: {HOST}:PORT\r\n\r\n")
                .replace("PORT", &port.to_string());
            wire.send(request);
            let reply = wire.read_reply();
            assert!([400, 403, 421].contains(&reply.status), "{form}: {reply:?}");
            let reason = reply.reason().expect("a refusal");
            assert!(
                ["bad_target", "request_not_allowed", "host_mismatch"].contains(&reason),
                "{form}: {reason}"
            );
            assert_eq!(wire.read_to_end(), (Vec::new(), End::Fin), "{form}");
        }
    }
    assert_eq!(scene.site.got().len(), 0, "{:?}", scene.site.got());
    // What passes arrives as it was sent, byte for byte.
    for path in
        ["/v1/a", "/v1/a%20b", "/v1/%E2%82%AC", "/v1/A.b-c_d~e", "/v1/a?b=%2F..%2F&c=//;d", "/v1/a:b@c,d=e+f"]
    {
        let mut wire = scene.world.inside(&scene.proxy, port);
        wire.send(format!("GET {path} HTTP/1.1\r\nHost: {HOST}:{port}\r\n\r\n"));
        assert_eq!(wire.read_reply().status, 200, "{path}");
        let got = scene.site.got().pop().expect("one");
        assert!(got.head.starts_with(&format!("GET {path} HTTP/1.1\r\n")), "{path}: {}", got.head);
    }
}
