//! The scene of the pictures in docs/images: a morning with GitLab, a new client, and a policy in report mode.
//!
//! `EGRESSD_SCREENSHOTS=DIRECTORY cargo test --test e2e the_pictures` makes them.

use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::{
    assert_readable, height, open, picture, place, point, raise_descriptor_limit, refused_from, window,
};
use crate::browser::Browser;
use crate::support::{Egressd, Origin, Wire, until};

fn scene(origin: &Origin) -> Egressd {
    let port = origin.port();
    let text = format!(
        "listeners: [{{name: proxy, address: 127.0.0.1:0}}]
admin: {{address: 127.0.0.1:0}}
policies:
  - name: gitaly
    clients: {{networks: [127.0.4.0/24]}}
    private: [127.0.0.0/8]
    allow:
      - {{to: 'tcp://git.mirror.example:{port}', name: mirror, owner: platform@corp.example, ticket: SEC-1204}}
      - {{to: 'https://git-codecommit.*.amazonaws.com', name: codecommit, owner: platform@corp.example}}
      - {{to: sentry.example, expires: 2026-12-05, owner: web@corp.example, ticket: SEC-1311}}
      - registry.example
    deny: ['https://*.s3.amazonaws.com']
  - name: runners
    clients: {{networks: [127.0.6.0/24]}}
    private: [127.0.0.0/8]
    mode: report
    allow:
      - 'tcp://proxy.golang.example:{port}'
dns:
  timeout: 2s
  servers: [127.0.0.1:1]
  hosts:
    git.mirror.example: [127.0.0.1]
    proxy.golang.example: [127.0.0.1]
    static.crates.example: [127.0.0.1]
    index.crates.example: [127.0.0.1]
limits: {{tunnels: 2000, requests_per_second_per_client: 100000}}
"
    );
    Egressd::start(&text)
}

fn tunnel(proxy: &Egressd, client: [u8; 4], authority: &str) -> Wire {
    let mut wire = Wire::connect_from(IpAddr::from(client), proxy.address());
    wire.send(format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n"));
    assert_eq!(wire.read_head().status, 200, "{authority}");
    wire
}

#[test]
fn the_pictures_of_the_documentation() {
    raise_descriptor_limit();
    let origin = Origin::echo();
    let proxy = scene(&origin);
    let port = origin.port();
    let mut tunnels = Vec::new();
    for (client, host, count) in
        [(11, "git.mirror.example", 14), (12, "git.mirror.example", 9), (13, "git.mirror.example", 3)]
    {
        tunnels.extend((0..count).map(|_| tunnel(&proxy, [127, 0, 4, client], &format!("{host}:{port}"))));
    }
    for (client, host, count) in [
        (21, "proxy.golang.example", 22),
        (21, "static.crates.example", 3),
        (22, "proxy.golang.example", 6),
        (22, "index.crates.example", 2),
        (23, "static.crates.example", 1),
    ] {
        tunnels.extend((0..count).map(|_| tunnel(&proxy, [127, 0, 6, client], &format!("{host}:{port}"))));
    }
    for (index, tunnel) in tunnels.iter_mut().enumerate() {
        let bytes = vec![b'x'; 700 * (index % 9 + 1)];
        tunnel.send(&bytes);
        tunnel.read_exact(bytes.len());
    }
    tunnels.truncate(31);
    let ask = |asks: &[([u8; 4], &str, usize)]| {
        for (client, authority, count) in asks {
            (0..*count).for_each(|_| refused_from(&proxy, *client, authority));
        }
    };
    ask(&[
        ([127, 0, 4, 11], "git-codecommit.eu-central-1.amazonaws.com:22", 3),
        ([127, 0, 4, 12], "backups.s3.eu-central-1.amazonaws.com:443", 1),
        ([127, 0, 4, 12], "backups.s3.amazonaws.com:443", 5),
        ([127, 0, 4, 13], "169.254.169.254:80", 6),
        ([127, 0, 4, 14], "10.1.2.3:443", 8),
        ([127, 0, 4, 12], "<script>alert(1)</script>:443", 1),
        ([127, 0, 9, 9], "registry.example:443", 1),
    ]);
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| traffic(&proxy, tunnels, port, &over));
        // For a picture, some minutes in the plots.
        if std::env::var_os("EGRESSD_SCREENSHOTS").is_some() {
            std::thread::sleep(Duration::from_secs(200));
        }
        ask(&[
            ([127, 0, 4, 12], "kubernetes.default.svc:443", 2),
            ([127, 0, 4, 12], "www.registry.example:443", 7),
            ([127, 0, 4, 11], "github.com:22", 4),
            ([127, 0, 4, 11], "api.github.com:443", 4),
            ([127, 0, 4, 13], "github.com:443", 18),
        ]);
        let shown = std::panic::catch_unwind(AssertUnwindSafe(|| show(&proxy)));
        over.store(true, Ordering::Relaxed);
        if let Err(panic) = shown {
            std::panic::resume_unwind(panic);
        }
    });
}

/// Bytes in the open tunnels, new tunnels and refusals, until it is over.
fn traffic(proxy: &Egressd, mut tunnels: Vec<Wire>, port: u16, over: &AtomicBool) {
    let mut round: usize = 0;
    while !over.load(Ordering::Relaxed) {
        round += 1;
        for tunnel in &mut tunnels {
            let bytes = vec![b'x'; 900 + 400 * (round % 7)];
            tunnel.send(&bytes);
            tunnel.read_exact(bytes.len());
        }
        if round.is_multiple_of(20) {
            tunnels.push(tunnel(proxy, [127, 0, 4, 11], &format!("git.mirror.example:{port}")));
        }
        if round.is_multiple_of(70) {
            tunnels.truncate(26);
            refused_from(proxy, [127, 0, 4, 11], "github.com:22");
        }
        std::thread::sleep(Duration::from_millis(150));
    }
}

/// The directory of the test is no place to show.
const PLACES: &str = "const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT); \
    while (walk.nextNode()) if (walk.currentNode.data.includes('/tmp/')) \
    walk.currentNode.data = walk.currentNode.data.replaceAll(/\\/tmp\\/[^/]+\\//g, '/etc/egressd/')";

fn show(proxy: &Egressd) {
    let browser = Browser::start();
    window(&browser, 1280, 1000, "light");
    open(proxy, &browser);
    browser.wait("#plots .plot:nth-child(4) .now", |text| !text.starts_with("0 "));
    browser.wait("#refused-table", |text| text.contains("github.com:443"));
    browser.click("button.open[data-target='github.com:443']");
    browser.wait("#refused-table tr.detail", |text| text.contains("- https://github.com"));
    browser.run("window.scrollTo(0, 0)");
    let [left, top, width, tall] = place(&browser, "#plots .plot:nth-child(1) .frame");
    // Soon after the start there is no sample yet, and the first ones are at the edge.
    let mut from_edge = 60.0;
    until("the values under the pointer", || {
        point(&browser, left + width - from_edge, top + tall / 2.0);
        from_edge = if from_edge > 10.0 { from_edge - 5.0 } else { 60.0 };
        browser.text("#plots .plot:nth-child(1) .tip").contains("open ").then_some(())
    });
    assert_readable(&browser, "the scene");
    browser.run(PLACES);
    picture(&browser, "status-light");
    window(&browser, 1280, 1000, "dark");
    point(&browser, 5.0, 5.0);
    browser.click("#tab-allowed");
    browser.wait("#matrix", |text| text.contains("golang"));
    assert_readable(&browser, "who went where");
    browser.run(PLACES);
    picture(&browser, "status-dark");
    window(&browser, 390, 844, "light");
    browser.click("#tab-refused");
    until("the list", || (height(&browser) > 1_000).then_some(()));
    browser.run("window.scrollTo(0, document.getElementById('parts').offsetTop - 150)");
    assert_readable(&browser, "the scene on a phone");
    picture(&browser, "status-phone");
    assert_eq!(browser.console(), Vec::<String>::new());
}
