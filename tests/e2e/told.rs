//! What the user of a real client is told of a refusal. Most clients show the status line of a refused CONNECT, and neither
//! its fields nor its body.

use std::path::Path;
use std::process::Command;

use crate::support::{Egressd, config, directory};
use crate::tool::{Ran, tool};

/// The client, its command line, and what it prints. `%P` is the proxy's address.
type Row = (&'static str, &'static [&'static str], &'static str);

const PYTHON: &str = "import sys, urllib.request as u\n\
    u.build_opener(u.ProxyHandler({'http': sys.argv[1], 'https': sys.argv[1]})).open(sys.argv[2], timeout=30)";
const HTTP_CLIENT: &str = "import http.client as h, sys\n\
    c = h.HTTPConnection(sys.argv[1]); c.set_tunnel('denied.test', 443); c.connect()";

fn run(home: &Path, proxy: &Egressd, program: &str, arguments: &[&str]) -> Ran {
    let mut command: Command = tool(program, home);
    let (address, port) = (proxy.address().to_string(), proxy.address().port().to_string());
    for argument in arguments {
        command.arg(argument.replace("%P", &address).replace("%p", &port));
    }
    Ran::of(&mut command)
}

#[test]
fn clients_that_show_the_status_line_alone_show_the_reason() {
    let proxy = Egressd::start(&config(&["listed.test"]));
    let home = directory();
    let denied = "403 egressd: host_not_allowed";
    let rows: [Row; 7] = [
        ("python3", &["-c", PYTHON, "http://%P", "https://denied.test/"], denied),
        ("python3", &["-c", PYTHON, "http://%P", "http://denied.test/"], "egressd: host_not_allowed"),
        ("python3", &["-c", HTTP_CLIENT, "%P"], denied),
        (
            "wget",
            &["--tries=1", "-e", "use_proxy=yes", "-e", "https_proxy=http://%P", "https://denied.test/"],
            "egressd: host_not_allowed",
        ),
        (
            "wget",
            &["--tries=1", "-e", "use_proxy=yes", "-e", "http_proxy=http://%P", "http://denied.test/"],
            "403: egressd: host_not_allowed",
        ),
        ("curl", &["-sSfv", "-x", "http://%P", "https://denied.test/"], denied),
        (
            "node",
            &[
                "-e",
                "const c = require('http').request({host: '127.0.0.1', port: %p, method: 'CONNECT', path: 'denied.test:443'}); \
            c.on('connect', r => { console.log(r.statusCode, r.statusMessage); process.exit() }); c.end()",
            ],
            denied,
        ),
    ];
    for (program, arguments, shown) in rows {
        let ran = run(home.path(), &proxy, program, arguments);
        let said = format!("{}{}", ran.stdout, ran.stderr);
        assert!(said.contains(shown), "{program} {arguments:?} does not show {shown:?}: {said}");
    }
    // git shows the number alone: the number tells the kind.
    let git = run(
        home.path(),
        &proxy,
        "git",
        &["-c", "http.proxy=http://%P", "ls-remote", "https://denied.test/r"],
    );
    assert!(git.stderr.contains("response 403"), "{}", git.stderr);
}
