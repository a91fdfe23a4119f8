//! What the user of a real client is told of a refusal. Most clients show the status line of a refused CONNECT, and neither
//! its fields nor its body.

use std::path::Path;
use std::process::Command;

use crate::support::{Authority, Egressd, config, directory, until, write};
use crate::tool::{Ran, tool};

/// The client, its command line, and what it prints. `%P` is the proxy's address.
type Row = (&'static str, &'static [&'static str], &'static str);

const PYTHON: &str = "import sys, urllib.request as u\n\
    u.build_opener(u.ProxyHandler({'http': sys.argv[1], 'https': sys.argv[1]})).open(sys.argv[2], timeout=30)";
const HTTP_CLIENT: &str = "import http.client as h, sys\n\
    c = h.HTTPConnection(sys.argv[1]); c.set_tunnel('denied.test', 443); c.connect()";

const TLS: &str = "import ssl, socket, sys\n\
    h, p = sys.argv[1].split(':')\n\
    ssl.create_default_context().wrap_socket(socket.create_connection((h, int(p))), server_hostname='x')";

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

/// What a client that speaks plain HTTP to TLS, or TLS to cleartext, prints; and what the log's reader finds.
#[test]
fn a_client_at_the_wrong_kind_of_listener_is_told_which_kind_it_is() {
    let authority = Authority::new();
    let (files, home) = (directory(), directory());
    let issued = authority.issue(&["proxy.test"]);
    write(&files.path().join("tls.crt"), &issued.pem);
    write(&files.path().join("tls.key"), &issued.key_pem);
    let bare = "{name: proxy, address: 127.0.0.1:0}";
    let tls = "{name: proxy, address: 127.0.0.1:0, tls: {certificate: tls.crt, key: tls.key}}";
    let text = config(&["listed.test"]);
    assert!(text.contains(bare), "the listener of `config` looks otherwise now");
    let proxy = Egressd::start_in(files, &text.replace(bare, tls));
    let told = "egressd: tls_handshake_failed: this listener speaks TLS: use https:// in the proxy URL";
    let rows: [Row; 5] = [
        ("python3", &["-c", PYTHON, "http://%P", "https://listed.test/"], told),
        ("python3", &["-c", PYTHON, "http://%P", "http://listed.test/"], told),
        (
            "wget",
            &["--tries=1", "-e", "use_proxy=yes", "-e", "https_proxy=http://%P", "https://listed.test/"],
            told,
        ),
        (
            "wget",
            &["--tries=1", "-e", "use_proxy=yes", "-e", "http_proxy=http://%P", "http://listed.test/"],
            told,
        ),
        ("curl", &["-sSv", "-x", "http://%P", "https://listed.test/"], told),
    ];
    let asked = |proxy: &Egressd, rows: &[Row], reason: &str, cause: &str| {
        for (count, (program, arguments, shown)) in (1..).zip(rows) {
            let ran = run(home.path(), proxy, program, arguments);
            let said = format!("{}{}", ran.stdout, ran.stderr);
            assert!(said.contains(shown), "{program} {arguments:?} does not show {shown:?}: {said}");
            let records = until("its record", || Some(proxy.records()).filter(|all| all.len() >= count));
            let record = records.last().expect("not empty");
            assert_eq!((record.text("reason"), record.number("status")), (reason, 400), "{record:?}");
            until("the cause on stderr, with the id", || {
                proxy
                    .stderr()
                    .lines()
                    .any(|line| line.contains(record.text("id")) && line.contains(cause))
                    .then_some(())
            });
        }
    };
    asked(&proxy, &rows, "tls_handshake_failed", "its proxy URL must begin with https://");

    let proxy = Egressd::start(&text);
    let rows: [Row; 3] = [
        ("curl", &["-sS", "-x", "https://%P", "https://listed.test/"], "wrong version number"),
        ("python3", &["-c", TLS, "%P"], "WRONG_VERSION_NUMBER"),
        (
            "git",
            &["-c", "http.proxy=https://%P", "ls-remote", "https://listed.test/r"],
            "fatal: unable to access",
        ),
    ];
    asked(&proxy, &rows, "bad_request", "the client spoke TLS: use http:// in the proxy URL");
}
