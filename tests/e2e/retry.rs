//! A server that refuses the key share of a client's first hello, and asks for another one with a HelloRetryRequest: egressd
//! follows this, judges the second hello like the first, and the handshake of every client finishes.

use std::io::{Read, Write};
use std::process::Command;

use serde_json::json;

use crate::git_server::{GitServer, HELLO, HOST};
use crate::support::{Authority, Egressd, config, directory, until, write};
use crate::tool::{Ran, tool};

/// No client sends a share of this group unasked, and every client supports it.
const GROUP: &str = "secp384r1";

#[test]
fn every_client_finishes_a_handshake_that_the_server_begins_anew() {
    let authority = Authority::new();
    let origin = GitServer::start_with_group(GROUP, &authority);
    origin.create("empty");
    let rule = format!("https://{HOST}{}", origin.port_suffix());
    let hosts = format!("dns: {{hosts: {{{HOST}: [{}]}}}}\n", origin.address().ip());
    let proxy = Egressd::start(&(config(&[&rule]) + &hosts));
    let home = directory();
    let ca = home.path().join("ca.pem");
    write(&ca, authority.pem());
    let (by, at) = (proxy.address().to_string(), origin.authority());

    let curl = || {
        let mut curl = tool("curl", home.path());
        curl.args(["--silent", "--show-error", "--proxy", &format!("http://{by}"), "--cacert"]).arg(&ca);
        curl.arg(format!("https://{at}/hello"));
        Ran::ok(&mut curl)
    };
    let git = || {
        let mut git = tool("git", home.path());
        git.arg("-c").arg(format!("http.sslCAInfo={}", ca.display()));
        git.arg("-c").arg(format!("http.proxy=http://{by}"));
        Ran::ok(git.args(["ls-remote", &origin.url("empty")]))
    };
    let openssl = || {
        let script = r#"printf 'GET /hello HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n' |
            openssl s_client -quiet -verify_return_error -CAfile "$1" -servername "$2" -proxy "$3" -connect "$4""#;
        let mut shell: Command = tool("sh", home.path());
        shell.args(["-c", script, "sh"]).arg(&ca).args([HOST, &by, &at]);
        Ran::ok(&mut shell)
    };
    let rustls = || {
        let mut stream = authority.client(HOST, proxy.tunnel(&at));
        stream
            .write_all(b"GET /hello HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            .expect("a handshake");
        let mut page = String::new();
        stream.read_to_string(&mut page).expect("a page");
        page
    };
    type Client<'c> = (&'static str, &'c dyn Fn() -> String, &'static str);
    let clients: [Client<'_>; 4] =
        [("curl", &curl, HELLO), ("git", &git, ""), ("openssl", &openssl, HELLO), ("rustls", &rustls, HELLO)];
    for (name, run, expected) in clients {
        let (seen, agreed) = (proxy.records().len(), origin.agreed().len());
        let said = run();
        assert!(said.contains(expected), "{name}: {said}");
        let agreed = until("nginx to log it", || {
            Some(origin.agreed().split_off(agreed)).filter(|all| !all.is_empty())
        });
        assert!(agreed.iter().all(|line| *line == format!("TLSv1.3 {GROUP}")), "{name}: {agreed:?}");
        let records = until("its close", || {
            Some(proxy.records().split_off(seen)).filter(|all| all.iter().any(|r| r["event"] == "close"))
        });
        for record in records {
            record.assert_has(&json!({"target": at, "sni": HOST, "decision": "allow", "reason": null}));
            assert!(record["event"] == "open" || record.number("received") > 500, "{name}: {record:?}");
        }
    }
}
