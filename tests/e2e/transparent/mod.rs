//! Clients without one proxy variable, in a network of their own whose router runs egressd: nftables' REDIRECT and TPROXY, IPv4 and
//! IPv6, and DNS alone. What clients are told by DNS are always addresses of another server: nothing may reach that.

mod clients;
mod router;

use serde_json::json;

use crate::git_server::{HELLO, HOST};
use crate::support::{Record, until};
use crate::tool::Ran;
use router::{Filter, Router, TCP};

/// That no connection reached the server whose addresses the clients were told.
fn nothing_was_misled(router: &Router) {
    assert_eq!(router.misled(), "", "egressd dialled what clients asked for");
}

fn denied(record: &Record) -> bool {
    record["event"] == "deny" && record["reason"] == "host_not_allowed"
}

fn curl_reaches_by_both_families(router: &Router) {
    for family in ["-4", "-6"] {
        let ran = Ran::of(router.curl().args([family, &format!("https://{HOST}/hello")]));
        assert_eq!((ran.code, &*ran.stdout), (Some(0), HELLO), "{family} {ran:?}");
        let of_family = |record: &Record| {
            let is_v6 = record["original"].as_str().is_some_and(|original| original.starts_with('['));
            record["event"] == "close" && is_v6 == (family == "-6")
        };
        router.proxy.record(of_family).assert_has(&json!({
            "protocol": "transparent", "listener": "led", "target": format!("{HOST}:443"), "sni": HOST,
            "original": router.told(family, 443), "upstream": router.origin(443), "status": 200,
        }));
        let ran = Ran::of(router.curl().args([family, "https://evil.example.com/"]));
        assert_eq!(ran.code, Some(35), "{ran:?}");
        assert!(ran.stderr.contains("alert access denied"), "the alert says what it is: {}", ran.stderr);
        let ran =
            Ran::of(router.curl().args([family, "--write-out", "%{http_code}", "http://evil.example.com/"]));
        assert!(ran.stdout.ends_with("403") && ran.stdout.contains("host_not_allowed"), "{ran:?}");
        let ran = Ran::of(router.curl().args([family, "http://web.example.com/page"]));
        assert_eq!((ran.code, &*ran.stdout), (Some(0), "plain\n"), "{family} {ran:?}");
    }
    router.proxy.record(denied).assert_has(&json!({"upstream": null, "status": 403}));
    nothing_was_misled(router);
}

#[test]
fn nftables_redirects_both_families() {
    let router = Router::new(Filter::Redirect);
    curl_reaches_by_both_families(&router);
    router.proxy.says("connections that TPROXY leads here do not arrive, which needs CAP_NET_ADMIN");
}

#[test]
fn nftables_tproxies_both_families() {
    let router = Router::new(Filter::Tproxy);
    curl_reaches_by_both_families(&router);
    assert!(!router.proxy.stderr().contains("CAP_NET_ADMIN"), "{}", router.proxy.stderr());
}

#[test]
fn what_is_neither_tls_nor_http_goes_where_it_was_sent_if_a_rule_names_that() {
    for filter in [Filter::Redirect, Filter::Tproxy] {
        let router = Router::new(filter);
        let talk = |host: &str, said: &str| {
            let script = "import socket,sys\ns=socket.create_connection((sys.argv[1],int(sys.argv[2])),30)\ns.sendall(sys.argv[3].encode())\n\
                          print(s.recv(100).decode())";
            Ran::of(router.client("python3").args(["-c", script, host, &TCP.to_string(), said]))
        };
        // The server speaks first, and echoes.
        for host in [router.host("-4"), router.host("-6")] {
            for said in ["", "ping\n"] {
                let ran = talk(&host, said);
                assert!(ran.stdout.starts_with("220 ready"), "{host} {ran:?}");
            }
        }
        // An address that no rule names.
        let told = router.told_host("-4");
        assert_eq!(talk(&told, "ping\n").stdout, "\n", "closed without a byte");
        router
            .proxy
            .record(denied)
            .assert_has(&json!({"target": format!("{told}:{TCP}"), "protocol": "transparent"}));
        nothing_was_misled(&router);
    }
}

#[test]
fn a_thousand_connections_at_once() {
    let router = Router::new(Filter::Redirect);
    let script = r#"
import asyncio, resource, ssl, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (8192, 8192))
async def main():
    context = ssl.create_default_context(cafile=sys.argv[1])
    gate = asyncio.Semaphore(100)
    async def one():
        async with gate:
            reader, writer = await asyncio.open_connection('echo.example.com', 8443, ssl=context)
        writer.write(b'ping')
        return reader, writer, await reader.readexactly(4)
    done = await asyncio.gather(*(one() for _ in range(1000)))
    print(sum(said == b'ping' for _, _, said in done), flush=True)
    sys.stdin.readline()
    print(sum([await again(reader, writer) for reader, writer, _ in done]))
async def again(reader, writer):
    writer.write(b'more')
    return await reader.readexactly(4) == b'more'
asyncio.run(main())
"#;
    let mut python = router.client("python3");
    python.args(["-c", script]).arg(router.authority_file());
    let (mut asking, mut said) = clients::Talk::start(python);
    assert_eq!(said.line(), "1000", "all are open");
    let status = crate::support::read(std::path::Path::new(&format!("/proc/{}/status", router.pid())));
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a line");
    let kib: u64 = resident.trim().trim_end_matches(" kB").trim().parse().expect("a number");
    println!("resident with 1,000 transparent tunnels: {kib} KiB");
    assert!(kib < 128 * 1024, "{kib} KiB");
    asking.line("");
    assert_eq!(said.line(), "1000", "all of them still carry bytes");
    drop((asking, said));
    until("all records", || {
        let closed = router.proxy.records().iter().filter(|record| record["event"] == "close").count();
        (closed == 1000).then_some(())
    });
    nothing_was_misled(&router);
}

/// Without a filter: DNS tells clients the address of egressd, which asks another DNS.
#[test]
fn dns_alone_leads_clients_here() {
    let router = Router::new(Filter::Dns);
    let ran = Ran::of(router.curl().args(["-4", &format!("https://{HOST}/hello")]));
    assert_eq!((ran.code, &*ran.stdout), (Some(0), HELLO), "{ran:?}");
    router.proxy.record(|record| record["event"] == "close").assert_has(&json!({
        "target": format!("{HOST}:443"), "original": null, "upstream": router.origin(443),
    }));
    // A name that egressd's own DNS, too, leads to egressd.
    let ran = Ran::of(router.curl().args(["-4", "https://back.example.com/"]));
    assert_eq!(ran.code, Some(35), "{ran:?}");
    router
        .proxy
        .record(|record| record["reason"] == "loop")
        .assert_has(&json!({"target": "back.example.com:443"}));
}

/// The rule on a machine whose own programs are redirected has to leave egressd out; if it does not, that is told.
#[test]
fn t95_what_a_filter_leads_back_to_egressd_is_a_loop() {
    let router = Router::new(Filter::Own);
    let ask = || {
        Ran::of(
            router
                .curl_here()
                .args(["-4", "--resolve"])
                .arg(format!("{HOST}:443:{}", router.told_host("-4")))
                .arg(format!("https://{HOST}/hello")),
        )
    };
    let ran = ask();
    assert_ne!(ran.code, Some(0), "{ran:?}");
    until("a record of the loop", || {
        router.proxy.records().iter().any(|record| record["reason"] == "loop").then_some(())
    });
    let loops = router.proxy.records().iter().filter(|record| record["reason"] == "loop").count();
    assert_eq!(loops, 1, "it went round once: {:?}", router.proxy.records());
    router.leave_out_egressd();
    let ran = ask();
    assert_eq!((ran.code, &*ran.stdout), (Some(0), HELLO), "{ran:?}");
    nothing_was_misled(&router);
}
