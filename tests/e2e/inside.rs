//! Real clients that send plain requests through a CONNECT: curl, Python's and Node's HTTP clients, and a WebSocket handshake.

use serde_json::json;

use crate::packages::{Scene, Way};
use crate::support::{Record, until, write};
use crate::tool::Ran;

impl Scene {
    /// The records of the requests inside tunnels, once there are so many.
    fn inner(&self, count: usize) -> Vec<Record> {
        until("the records of the requests", || {
            let records = self.proxy.records();
            let inner: Vec<Record> = records.into_iter().filter(|r| r["event"] == "request").collect();
            (inner.len() == count).then_some(inner)
        })
    }

    /// How many tunnels were opened.
    fn tunnels(&self) -> usize {
        self.proxy.records().iter().filter(|r| r["event"] == "open" && r["method"] == "CONNECT").count()
    }
}

#[test]
fn curl_fetches_many_files_and_a_large_one_through_one_tunnel() {
    let scene = Scene::new();
    for number in 0..20 {
        write(&scene.www(&format!("many/{number}")), format!("file {number}\n").repeat(1_000));
    }
    let large: Vec<u8> = (0..5_000_000_u32).map(|at| (at % 251) as u8).collect();
    write(&scene.www("large"), &large);
    let mut curl = scene.tool("curl");
    curl.args(["--silent", "--show-error", "--fail", "--proxytunnel", "--proxy", &scene.proxy_url()]);
    curl.args(["--output", "-", &scene.url(Way::Plain, "/many/[0-19]")]);
    curl.args(["--output", "got", &scene.url(Way::Plain, "/large")]);
    let expected: String = (0..20).map(|number| format!("file {number}\n").repeat(1_000)).collect();
    assert_eq!(Ran::ok(&mut curl), expected);
    let got = std::fs::read(scene.home("got")).expect("downloaded");
    assert!(got == large, "the same bytes");
    for record in scene.inner(21) {
        record.assert_has(&json!({"method": "GET", "status": 200, "decision": "allow", "ending": null}));
        assert!(record.text("user_agent").starts_with("curl/"));
    }
    assert_eq!(scene.tunnels(), 1);
    scene.assert_nothing_was_refused();
}

#[test]
fn curl_uploads_through_a_tunnel_and_shows_what_refuses_it() {
    let scene = Scene::new();
    let curl = |arguments: &[&str]| {
        let mut curl = scene.tool("curl");
        curl.args(["--silent", "--show-error", "--proxytunnel", "--proxy", &scene.proxy_url()]);
        curl.args(["--write-out", " %{http_connect} %{response_code}"]).args(arguments);
        Ran::of(&mut curl).stdout
    };
    write(&scene.home("body"), "a".repeat(300_000));
    // nginx answers a POST to a file with 405, whatever is in it.
    let url = scene.url(Way::Plain, "/hello");
    for arguments in [
        &["--data-binary", "@body"][..],
        &["--data-binary", "@body", "--header", "Transfer-Encoding: chunked"],
        &["--data-binary", "@body", "--header", "Expect: 100-continue"],
    ] {
        let told = curl(&[arguments, &[&url]].concat());
        assert!(told.ends_with(" 200 405"), "{arguments:?}: {told}");
    }
    assert!(curl(&["--head", &url]).ends_with(" 200 200"));
    assert!(curl(&["--http1.0", &url]).ends_with("hello\n 200 200"));
    scene.inner(5);
    let told = curl(&["--header", "Host: other.test", &url]);
    assert!(told.starts_with("egressd: host_mismatch: ") && told.ends_with(" 200 421"), "{told}");
    let told = curl(&["--header", "Connection: Upgrade", "--header", "Upgrade: websocket", &url]);
    assert!(told.starts_with("egressd: upgrade_not_allowed: ") && told.ends_with(" 200 403"), "{told}");
}

#[test]
fn pythons_client_keeps_its_tunnel() {
    let scene = Scene::new();
    let script = format!(
        "import http.client\n\
         proxy, target = {:?}, {:?}\n\
         c = http.client.HTTPConnection(*proxy.rsplit(':', 1))\n\
         c.set_tunnel(target.rsplit(':', 1)[0], int(target.rsplit(':', 1)[1]))\n\
         for _ in range(3):\n    \
             c.request('GET', '/hello')\n    \
             r = c.getresponse()\n    \
             print(r.status, r.read().decode().strip())\n\
         c.request('POST', '/hello', body=b'a' * 100000)\n\
         print(c.getresponse().status)\n",
        scene.proxy.address().to_string(),
        scene.url(Way::Plain, "").strip_prefix("http://").expect("a URL"),
    );
    let told = Ran::ok(scene.tool("python3").args(["-c", &script]));
    assert_eq!(told, "200 hello\n200 hello\n200 hello\n405\n");
    scene.inner(4);
    assert_eq!(scene.tunnels(), 1);
    scene.assert_nothing_was_refused();
}

/// Its `fetch` where that knows the proxy of the environment (from version 24 on), else its HTTP client over a CONNECT of its
/// own, as the packages for proxies do.
#[test]
fn node_sends_its_requests_through_a_tunnel() {
    let scene = Scene::new();
    let script = "
        const http = require('http');
        const [proxy, url] = process.argv.slice(-2);
        const target = new URL(url).host;
        async function byFetch() {
            for (let i = 0; i < 3; i++) console.log((await (await fetch(url)).text()).trim());
        }
        function byConnect() {
            const asked = http.request({ ...address(proxy), method: 'CONNECT', path: target, headers: { Host: target } });
            asked.on('connect', (reply, socket) => {
                if (reply.statusCode !== 200) throw new Error(String(reply.statusCode));
                const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
                agent.createConnection = () => socket;
                const next = (left) => left === 0 ? socket.end() : http.get(url, { agent }, (r) => {
                    let body = '';
                    r.on('data', (d) => body += d).on('end', () => { console.log(body.trim()); next(left - 1); });
                });
                next(3);
            }).end();
        }
        const address = (text) => ({ host: text.split(':')[0], port: text.split(':')[1] });
        Number(process.versions.node.split('.')[0]) >= 24 ? byFetch() : byConnect();
    ";
    let mut node = scene.tool("node");
    node.env("NODE_USE_ENV_PROXY", "1").env("http_proxy", scene.proxy_url());
    node.args(["-e", script, "--", &scene.proxy.address().to_string(), &scene.url(Way::Plain, "/hello")]);
    assert_eq!(Ran::ok(&mut node), "hello\nhello\nhello\n");
    for record in scene.inner(3) {
        record.assert_has(&json!({"method": "GET", "status": 200}));
    }
    // `fetch` may open a second one before the first is free again.
    assert!(scene.tunnels() < 3, "{} tunnels for three requests", scene.tunnels());
    scene.assert_nothing_was_refused();
}

/// As WebSocket libraries begin on `ws://`: CONNECT, then the handshake. The refusal names what allows it, and that rule does.
#[test]
fn a_websocket_handshake_is_told_which_rule_it_needs() {
    let scene = Scene::new();
    let script = format!(
        "import socket\n\
         proxy, target = {:?}, {:?}\n\
         s = socket.create_connection(proxy.rsplit(':', 1))\n\
         s.sendall(f'CONNECT {{target}} HTTP/1.1\\r\\nHost: {{target}}\\r\\n\\r\\n'.encode())\n\
         print(s.recv(4096).split(b'\\r\\n')[0].decode())\n\
         s.sendall((f'GET /chat HTTP/1.1\\r\\nHost: {{target}}\\r\\nUpgrade: websocket\\r\\nConnection: Upgrade\\r\\n'\n    \
             'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\\r\\nSec-WebSocket-Version: 13\\r\\n\\r\\n').encode())\n\
         print(s.makefile().read())\n",
        scene.proxy.address().to_string(),
        scene.url(Way::Plain, "").strip_prefix("http://").expect("a URL"),
    );
    let told = Ran::ok(scene.tool("python3").args(["-c", &script]));
    assert!(told.contains("200") && told.contains("403"), "{told}");
    let write = "add `- {upgrade: [websocket]}` under `requests` of the rule";
    assert!(told.contains("upgrade_not_allowed") && told.contains(write), "{told}");
}
