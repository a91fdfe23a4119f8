//! `egressd` with no argument and no file: it starts with the embedded default, and says what it allows.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::Command;

use serde_json::json;

use crate::dns::Dnsmasq;
use crate::git_server::{GitServer, HELLO, HOST};
use crate::network::{self, Network, PUBLIC};
use crate::support::{Authority, Egressd, command, directory, until, write};
use crate::tool::{Ran, here, isolate};

pub(crate) const PROXY: &str = "http://127.0.0.1:3128";
const ADMIN: &str = "http://127.0.0.1:9180";

/// Starts `egressd` by `launch` and waits until it says that it is ready.
pub(crate) fn start(launch: &impl Fn(&str) -> Command, home: &Path) -> Egressd {
    let directory = directory();
    let mut egressd = launch(command().get_program().to_str().expect("a path in UTF-8"));
    isolate(&mut egressd, directory.path());
    egressd.env_remove("HOME");
    let proxy = Egressd::spawn(directory, egressd);
    until("egressd to be ready on port 9180", || {
        let ready = Ran::of(curl(launch, home).args(["--fail", &format!("{ADMIN}/readyz")]));
        (ready.code == Some(0)).then_some(())
    });
    proxy
}

pub(crate) fn curl(launch: &impl Fn(&str) -> Command, home: &Path) -> Command {
    let mut curl = launch("curl");
    isolate(&mut curl, home);
    curl.args(["--silent", "--show-error", "--max-time", "30"]);
    curl
}

/// Checks what it says; this holds wherever it runs.
fn check_what_it_says(proxy: &Egressd, launch: &impl Fn(&str) -> Command, home: &Path) {
    for words in [
        "listening on 0.0.0.0:3128 (listener proxy)",
        "admin on 0.0.0.0:9180",
        "*.amazonaws.com",
        "git-codecommit.*.amazonaws.com",
    ] {
        // A separate thread writes the diagnostics: they come a moment after the event.
        until(&format!("{words} on stderr"), || proxy.stderr().contains(words).then_some(()));
    }
    let denied = Ran::of(curl(launch, home).args(["--proxy", PROXY, "https://example.com/"]));
    assert!(denied.stderr.contains("CONNECT tunnel failed, response 403"), "{denied:?}");
    proxy.record(|r| r["event"] == "deny").assert_has(&json!({
        "listener": "proxy", "policy": "gitaly", "target": "example.com:443", "reason": "host_not_allowed",
    }));
    for path in ["/livez", "/readyz", "/healthz", "/metrics"] {
        Ran::ok(curl(launch, home).args(["--fail", &format!("{ADMIN}{path}")]));
    }
}

#[test]
fn without_arguments_it_serves_on_the_embedded_default() {
    if let Err(why) = network::allowed() {
        eprintln!("on the ports of this machine: {why}");
        return on_the_ports_of_this_machine();
    }
    let network = Network::new();
    let launch = |program: &str| network.command(program);
    let authority = Authority::new();
    let address = SocketAddr::new(PUBLIC.into(), 443);
    let origin = GitServer::start_by(launch, &authority, address);
    let dns = Dnsmasq::start(
        launch,
        SocketAddr::from(([127, 0, 0, 1], 53)),
        &[(HOST, &PUBLIC.to_string()), ("inside.ap-northeast-1.amazonaws.com", "10.1.2.3")],
    );
    write(&network.home().join("ca.pem"), authority.pem());
    let proxy = start(&launch, network.home());
    check_what_it_says(&proxy, &launch, network.home());
    assert!(!dns.was_asked("example.com"), "denied before any query");

    let through = |url: &str| {
        let mut curl = curl(&launch, network.home());
        Ran::of(curl.arg("--cacert").arg(network.home().join("ca.pem")).args(["--proxy", PROXY, url]))
    };
    let reached = through(&format!("https://{HOST}/hello"));
    assert_eq!((reached.code, reached.stdout.as_str()), (Some(0), HELLO), "{reached:?}");
    proxy.record(|r| r["event"] == "close").assert_has(&json!({
        "policy": "gitaly", "rule": "*.amazonaws.com", "target": format!("{HOST}:443"), "sni": HOST,
        "upstream": address.to_string(),
    }));
    assert_eq!(origin.peers().len(), 1);
    assert!(!dns.was_asked("cluster.local"), "the search domains of resolv.conf are not used");

    // Listed, but it resolves to an internal address.
    let inside = through("https://inside.ap-northeast-1.amazonaws.com/");
    assert!(inside.stderr.contains("CONNECT tunnel failed, response 403"), "{inside:?}");
    proxy.record(|r| r["reason"] == "address_prohibited");
    assert_eq!(proxy.stop().code, 0);
}

/// The same without the origin, which would need a public address of this machine.
fn on_the_ports_of_this_machine() {
    for port in [3128, 9180] {
        let free = TcpListener::bind(("0.0.0.0", port)).is_ok();
        assert!(free, "no namespaces here, and port {port}, which egressd takes by default, is not free");
    }
    let home = directory();
    let proxy = start(&here, home.path());
    check_what_it_says(&proxy, &here, home.path());
    assert_eq!(proxy.stop().code, 0);
}
