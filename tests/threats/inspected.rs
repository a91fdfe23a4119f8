//! Attacks inside inspected tunnels: another host by any of the names that a request has, another path by another spelling; and the
//! cases of plain HTTP again, sent inside the TLS.

use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::check::UNHURRIED;
use crate::inside::{Form, hold_inside, inside, replaced};
use crate::inspected_world::{HOST, Site, Tls, World};
use crate::suite::case::{Case, Expect, Harm, Step};
use crate::suite::drive::Said;
use crate::suite::verdict::harmed;
use crate::suite::{cases, hello, world};
use crate::support::{Authority, DEADLINE, Egressd, End, client_hello, config, directory, write};

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
const SPELLINGS: [&str; 36] = [
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
    "/v1/..%20/admin",
    "/v1/%20../admin",
    "/v1/..%C2%A0/admin",
    "/v1/%20/admin",
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

/// A port that speaks plain HTTP. Behind it, each connection is a tunnel to the allowed host with the client's TLS in it, so that
/// a case is sent as it is on the proxy's own port.
struct Front {
    address: SocketAddr,
    _running: tokio::runtime::Runtime,
}

impl Front {
    fn start(proxy: SocketAddr, authority: String, inspection: &Authority) -> Self {
        let running = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("threads");
        let listener = running.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).expect("a port");
        let address = listener.local_addr().expect("bound");
        let connector = tokio_rustls::TlsConnector::from(Arc::new(Tls::trusting(Some(inspection)).config));
        running.spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                tokio::spawn(carry(near, proxy, authority.clone(), connector.clone()));
            }
        });
        Front { address, _running: running }
    }
}

async fn carry(
    mut near: tokio::net::TcpStream,
    proxy: SocketAddr,
    authority: String,
    connector: tokio_rustls::TlsConnector,
) -> std::io::Result<()> {
    let far = std::net::TcpStream::connect_timeout(&proxy, DEADLINE)?;
    far.set_nodelay(true)?;
    far.set_nonblocking(true)?;
    let mut far = tokio::net::TcpStream::from_std(far)?;
    far.write_all(format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n").as_bytes()).await?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(far.read_u8().await?);
    }
    assert!(head.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&head));
    let name = ServerName::try_from(hello::OK).expect("a name");
    let (mut from, mut to) = tokio::io::split(connector.connect(name, far).await?);
    let (mut read, mut write) = near.split();
    // What cannot be sent any more ends nothing: the answer to it may be there already.
    let up = async {
        let _ = tokio::io::copy(&mut read, &mut to).await;
        let _ = to.shutdown().await;
    };
    let down = async {
        tokio::io::copy(&mut from, &mut write).await?;
        write.shutdown().await
    };
    tokio::join!(up, down).1
}

/// The case as it is sent inside an inspected tunnel to `{OK}:{TLS}`.
fn inspected(case: &Case, form: Form) -> Option<Case> {
    // What these ask for is right inside.
    if ["plain HTTP to the port of TLS", "GET of an https URI"].contains(&case.what.as_str()) {
        return None;
    }
    let plain = inside(case, form)?;
    let written = |bytes: &Vec<u8>| {
        let bytes = replaced(bytes, b"{OK}:{WEB}", b"{OK}:{TLS}");
        replaced(&bytes, b"http://", b"https://")
    };
    // Without the CONNECT and its reply, which are the front's.
    let steps = plain.steps.iter().skip(2).map(|step| match step {
        Step::Send(bytes) => Step::Send(written(bytes)),
        Step::Trickle(bytes, size) => Step::Trickle(written(bytes), *size),
        other => other.clone(),
    });
    let steps: Vec<Step> = steps.collect();
    let expect = match plain.expect {
        // Any scheme but https is another target.
        Expect::Reply(403, "scheme_not_allowed") => Expect::Reply(421, "host_mismatch"),
        Expect::Reply(400, "bad_target") if case.what == "http: without its slashes" => {
            Expect::Reply(421, "host_mismatch")
        }
        // Whatever the rule says of requests, a path of more than one reading is refused.
        Expect::Answers(_) if has_odd_path(&steps) => Expect::Reply(400, "bad_target"),
        other => other,
    };
    Some(Case { steps, expect, ..plain })
}

fn has_odd_path(steps: &[Step]) -> bool {
    let Some(Step::Send(bytes) | Step::Trickle(bytes, _)) = steps.first() else { return false };
    let target = String::from_utf8_lossy(bytes).split(' ').nth(1).unwrap_or_default().to_owned();
    let path = target
        .split_once("://")
        .map_or(target.as_str(), |(_, rest)| rest.split_once('/').map_or("", |(_, path)| path));
    let path = path.trim_start_matches('/').split('?').next().unwrap_or_default().to_owned();
    target.starts_with("//")
        || ["//", "/.", "%2f", "%2e", ";", "\\"].iter().any(|odd| path.to_ascii_lowercase().contains(odd))
}

/// What an attack would have done, by what came out of the TLS at the target.
fn harmed_inside(case: &Case, world: &world::World, said: &Said, news: &world::News, log: &[u8]) -> bool {
    let contains = |needle: &[u8]| {
        news.inside.windows(needle.len().max(1)).any(|window| window.eq_ignore_ascii_case(needle))
    };
    match &case.harm {
        Harm::Reached => {
            !news.inside.is_empty() || news.reached.iter().any(|seen| !world.is_ok(seen.local.ip()))
        }
        Harm::Bytes(needle) => contains(&world.fill(needle)),
        Harm::Served => said.status().is_some_and(|status| status < 400) && news.inside.is_empty(),
        _ => harmed(case, world, said, news, log),
    }
}

#[test]
fn t48_t49_t50_a_request_inside_an_inspected_tunnel_is_judged_as_outside() {
    let world = world::World::on_loopback();
    let inspection = Authority::new();
    let directory = directory();
    write(&directory.path().join("roots.pem"), world.authority.pem());
    write(&directory.path().join("ca.crt"), inspection.pem());
    write(&directory.path().join("ca.key"), inspection.key_pem());
    let authority = format!("{}:{}", hello::OK, world.tls);
    let text = world.config_allowing(&[&format!("{{to: \"https://{authority}\", inspect: true}}")])
        + UNHURRIED
        + "certificates: {roots: roots.pem}\ninspection: {certificate: ca.crt, key: ca.key}\n";
    let proxy = Egressd::start_in(directory, &text);
    let front = Front::start(proxy.address(), authority, &inspection);
    let mut failed = Vec::new();
    let mut tried = 0;
    for form in [Form::Absolute, Form::Origin] {
        for case in cases::all().iter().filter_map(|case| inspected(case, form)) {
            tried += 1;
            if catch_unwind(AssertUnwindSafe(|| {
                hold_inside(&case, &world, &proxy, front.address, harmed_inside)
            }))
            .is_err()
            {
                failed.push(format!("row {}: {} ({form:?})", case.row, case.what));
            }
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
    assert!(tried > 200, "only {tried} cases");
    let ended = proxy.stop();
    assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
}
