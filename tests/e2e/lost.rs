//! A target that disappears without a FIN or RST: TCP gives up, and the log says so.

use std::net::SocketAddr;

use serde_json::json;

use crate::default_config::PROXY;
use crate::git_server::{CREDENTIALS, GitServer};
use crate::network::{Network, PUBLIC};
use crate::support::{Authority, Egressd, directory, until, write};
use crate::tool::{Daemon, Ran, isolate};

#[test]
fn a_target_that_vanishes_in_the_middle_of_an_upload_is_lost() {
    // Three retransmissions take some seconds; by default Linux makes fifteen, which take some minutes.
    vanishes("echo 3 >/proc/sys/net/ipv4/tcp_retries2", "");
}

#[test]
fn the_user_timeout_gives_a_vanished_target_up_before_the_retransmissions_do() {
    // So many retransmissions that they would take a quarter of an hour.
    vanishes("echo 15 >/proc/sys/net/ipv4/tcp_retries2", "tunnel: {tcp_user_timeout: 2s}\n");
}

/// In a network that `command` sets up, with an egressd that has these `settings`.
fn vanishes(command: &str, settings: &str) {
    let commands = format!("ip address add {PUBLIC}/32 dev lo; {command}");
    let network = Network::with("nameserver 127.0.0.1\n", &commands);
    let launch = |program: &str| network.command(program);
    let address = SocketAddr::new(PUBLIC.into(), 443);
    let _origin = GitServer::start_by(launch, &Authority::new(), address);
    let files = directory();
    let file = files.path().join("egressd.yaml");
    write(&file, format!("{settings}policies: [{{name: test, allow: [\"tcp://{address}\"]}}]\n"));
    let mut egressd = launch(crate::support::command().get_program().to_str().expect("a path in UTF-8"));
    isolate(&mut egressd, files.path());
    egressd.arg("run").arg("--config").arg(&file);
    let proxy = Egressd::spawn(files, egressd);
    until("egressd to serve", || proxy.stderr().contains("listening on").then_some(()));

    let mut curl = launch("curl");
    curl.args([
        "--silent",
        "--insecure",
        "--proxy",
        PROXY,
        "--limit-rate",
        "200k",
        "--upload-file",
        "/dev/zero",
    ]);
    curl.args(["--user", &format!("{}:{}", CREDENTIALS.0, CREDENTIALS.1)]);
    curl.arg(format!("https://{address}/v1/repos/x"));
    let _upload = Daemon::start(&mut curl);
    proxy.record(|record| record["event"] == "open");
    until("the upload to be under way", || {
        let page = Ran::of(launch("curl").args(["--silent", "http://127.0.0.1:9180/metrics"])).stdout;
        let sent = |line: &&str| line.starts_with("egressd_bytes_total{") && line.contains("\"sent\"");
        let line = page.lines().find(sent)?;
        (line.rsplit(' ').next()?.parse::<f64>().ok()? > 100_000.0).then_some(())
    });
    Ran::ok(launch("ip").args(["address", "del", &format!("{PUBLIC}/32"), "dev", "lo"]));
    let close = proxy.record(|record| record["event"] == "close");
    close.assert_has(
        &json!({"ending": "upstream_lost", "decision": "allow", "upstream": address.to_string()}),
    );
}
