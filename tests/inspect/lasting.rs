//! What ends inspected tunnels and the requests in them, and what bounds them: reloads, expiry, limits, deadlines, a drain; what is told to
//! a client that waits for `100 Continue`.

use std::io::{Read, Write};
use std::sync::Mutex;
use std::sync::mpsc;

use rustix::process::Signal;
use serde_json::json;

use crate::support::{Egressd, End, Origin, head_of, until, write};
use crate::world::{Got, HOST, Inner, Site, World, get};

/// Begins each answer, and finishes it when the test says so.
fn halting(world: &World) -> (Site, mpsc::Sender<()>) {
    let (go, goes) = mpsc::channel();
    let goes = Mutex::new(goes);
    let issued = world.targets.issue(&[HOST]);
    let site = Site::serving(issued.server_config(), move |_: &Got, stream: &mut Inner| {
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhalf")?;
        stream.flush()?;
        let _ = goes.lock().expect("no panic").recv();
        stream.write_all(b"half")?;
        stream.flush()?;
        Ok(true)
    });
    (site, go)
}

fn reload(proxy: &Egressd, text: &str) {
    let before = proxy.stderr().matches("is in force").count();
    write(&proxy.file("egressd.yaml"), text);
    proxy.signal(Signal::HUP);
    until("the reload", || (proxy.stderr().matches("is in force").count() > before).then_some(()));
}

const REQUESTS: &str = ", requests: [{paths: [\"/a\", \"/b\"]}]";

#[test]
fn a_reload_judges_the_next_request_and_the_one_under_way() {
    let world = World::new();
    let (site, go) = halting(&world);
    let text = World::config(site.port(), REQUESTS);
    let proxy = world.start(&text);
    let mut first = world.inside(&proxy, site.port());
    let mut second = world.inside(&proxy, site.port());
    for (wire, path) in [(&mut first, "/a"), (&mut second, "/b")] {
        wire.send(get(site.port(), path));
        assert_eq!(wire.read_head().status, 200);
        assert_eq!(wire.read_exact(4), b"half");
    }
    reload(&proxy, &text.replace("\"/a\", ", ""));
    // The first is no longer allowed, in the middle of its answer: it must not look complete. The second never notices.
    assert_eq!(first.read_to_end(), (Vec::new(), End::Reset));
    proxy.record(|record| record["event"] == "request").assert_has(&json!({
        "ending": "policy_revoked", "reason": "request_not_allowed", "target": format!("https://{HOST}:{}/a", site.port()),
    }));
    go.send(()).expect("it waits");
    go.send(()).expect("it waits");
    assert_eq!(second.read_exact(4), b"half");
    second.send(get(site.port(), "/a"));
    proxy.refused(second, 403, "request_not_allowed");
}

#[test]
fn an_opaque_tunnel_whose_rule_now_inspects_ends_in_every_mode() {
    let world = World::new();
    let site = world.site();
    let inspecting = World::config(site.port(), "");
    for mode in ["enforce", "report"] {
        let inspecting =
            inspecting.replace("  - name: test\n", &format!("  - name: test\n    mode: {mode}\n"));
        let opaque = inspecting.replace(", inspect: true", "");
        let proxy = world.start(&opaque);
        let tunnel = proxy.tunnel(&format!("{HOST}:{}", site.port()));
        let mut stream = world.targets.client(HOST, tunnel);
        stream.write_all(get(site.port(), "/").as_bytes()).expect("the tunnel stands");
        let mut some = [0; 8];
        stream.read_exact(&mut some).expect("an answer");
        reload(&proxy, &inspecting);
        proxy.record(|record| record["event"] == "close").assert_has(&json!({"ending": "policy_revoked"}));
    }
}

#[test]
fn limits_of_the_upload_are_those_of_the_request_and_of_the_tunnel() {
    let world = World::new();
    let site = world.site();
    let proxy = world.egressd(&site, ", upload_limit: 2KiB");
    let post = |length: usize| {
        let body = "a".repeat(length);
        format!("POST / HTTP/1.1\r\nHost: {HOST}:{}\r\nContent-Length: {length}\r\n\r\n{body}", site.port())
    };
    // A length that is known to be larger: not one byte of it leaves.
    let mut wire = world.inside(&proxy, site.port());
    wire.send(post(4096));
    proxy.refused(wire, 413, "upload_limit");
    assert_eq!(site.got().len(), 0);
    // Together they are larger.
    let mut wire = world.inside(&proxy, site.port());
    wire.send(post(1000));
    assert_eq!(wire.read_reply().status, 200);
    wire.send(post(1000));
    proxy.refused(wire, 413, "upload_limit");
    assert_eq!(site.got().len(), 1);
    // A body of unknown length.
    let mut wire = world.inside(&proxy, site.port());
    let chunks = format!("1000\r\n{}\r\n", "a".repeat(4096));
    wire.send(format!(
        "POST / HTTP/1.1\r\nHost: {HOST}:{}\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}",
        site.port()
    ));
    proxy.refused(wire, 413, "upload_limit");
    // And the budget of the client, over tunnels.
    let proxy = world.egressd(&site, ", upload_budget: 2KiB/1h");
    let mut wire = world.inside(&proxy, site.port());
    wire.send(post(1000));
    assert_eq!(wire.read_reply().status, 200);
    let mut wire = world.inside(&proxy, site.port());
    wire.send(post(1000));
    proxy.refused(wire, 403, "upload_budget");
}

#[test]
fn a_body_is_waited_for_until_the_head_is_judged_and_the_100_is_the_targets() {
    let world = World::new();
    let issued = world.targets.issue(&[HOST]);
    // Reads the head alone, says 100, then reads the body.
    let site = Origin::tls(issued.server_config(), |mut stream| {
        let head = head_of(&mut stream)?;
        assert!(head.to_ascii_lowercase().contains("100-continue"), "it is passed on");
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        stream.flush()?;
        let mut body = [0; 3];
        stream.read_exact(&mut body)?;
        stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n")?;
        stream.flush()?;
        std::io::copy(&mut stream.sock, &mut std::io::sink()).map(drop)
    });
    let proxy = world.start(&World::config(site.port(), ", requests: [{paths: [\"/a\"]}]"));
    let head = |path: &str| {
        format!(
            "PUT {path} HTTP/1.1\r\nHost: {HOST}:{}\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n",
            site.port()
        )
    };
    let mut wire = world.inside(&proxy, site.port());
    wire.send(head("/a"));
    assert_eq!(wire.read_head().status, 100);
    wire.send("abc");
    assert_eq!(wire.read_head().status, 204);
    // What is refused by its head gets no 100, and no body is read.
    let mut wire = world.inside(&proxy, site.port());
    wire.send(head("/b"));
    proxy.refused(wire, 403, "request_not_allowed");
}

#[test]
fn a_target_that_does_not_answer_is_given_up() {
    let world = World::new();
    let issued = world.targets.issue(&[HOST]);
    let (_keep, waits) = mpsc::channel::<()>();
    let waits = Mutex::new(waits);
    let site = Site::serving(issued.server_config(), move |_, _| {
        let _ = waits.lock().expect("no panic").recv();
        Ok(false)
    });
    let proxy = world.start(&(World::config(site.port(), "") + "http: {response_timeout: 300ms}\n"));
    let mut wire = world.inside(&proxy, site.port());
    wire.send(get(site.port(), "/"));
    proxy.refused(wire, 504, "upstream_timeout");
}

#[test]
fn a_drain_lets_the_request_under_way_finish_and_tells_goodbye() {
    let world = World::new();
    let (site, go) = halting(&world);
    let proxy = world.egressd(&site, "");
    let mut busy = world.inside(&proxy, site.port());
    busy.send(get(site.port(), "/"));
    assert_eq!(busy.read_head().status, 200);
    assert_eq!(busy.read_exact(4), b"half");
    let mut idle = world.inside(&proxy, site.port());
    proxy.signal(Signal::TERM);
    // One that has not asked for anything is not waited for.
    assert_eq!(idle.read_to_end(), (Vec::new(), End::Fin));
    go.send(()).expect("it waits");
    assert_eq!(busy.read_exact(4), b"half");
    assert_eq!(busy.read_to_end(), (Vec::new(), End::Fin));
    let ended = proxy.wait();
    assert_eq!(ended.code, 0);
    let requests = ended.records.iter().filter(|record| record["event"] == "request");
    assert!(requests.into_iter().all(|record| record["ending"].is_null()), "{:?}", ended.records);
}

#[test]
fn an_idle_tunnel_is_closed_as_a_kept_connection_is() {
    let world = World::new();
    let site = world.site();
    let proxy = world.start(&(World::config(site.port(), "") + "http: {keepalive_timeout: 1s}\n"));
    for asks in [false, true] {
        let mut wire = world.inside(&proxy, site.port());
        if asks {
            wire.send(get(site.port(), "/"));
            assert_eq!(wire.read_reply().status, 200);
        }
        assert_eq!(wire.read_to_end(), (Vec::new(), End::Fin));
    }
    until("both to be recorded", || {
        let idle = |record: &&crate::support::Record| record["ending"] == "idle_timeout";
        (proxy.records().iter().filter(idle).count() == 2).then_some(())
    });
}

#[test]
fn a_post_over_a_connection_that_the_target_just_closed_is_not_sent_twice() {
    let world = World::new();
    let issued = world.targets.issue(&[HOST]);
    // Answers the first request, and reads the second one without an answer.
    let site = Site::serving(issued.server_config(), |got, stream| {
        if got.head.starts_with("POST") {
            return Ok(false);
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")?;
        stream.flush()?;
        Ok(true)
    });
    let proxy = world.egressd(&site, "");
    let mut wire = world.inside(&proxy, site.port());
    wire.send(get(site.port(), "/"));
    assert_eq!(wire.read_reply().status, 200);
    wire.send(format!("POST / HTTP/1.1\r\nHost: {HOST}:{}\r\nContent-Length: 3\r\n\r\nabc", site.port()));
    // As without a proxy: the connection ends before an answer, and whether to ask again is the client's to say.
    assert_eq!(wire.read_to_end(), (Vec::new(), End::Reset));
    let record = proxy.record(|record| record["event"] == "request" && record["method"] == "POST");
    record.assert_has(&json!({"status": null, "ending": "upstream_closed"}));
    assert_eq!(site.got().iter().filter(|got| got.head.starts_with("POST")).count(), 1);
}

#[test]
fn every_lease_comes_back() {
    let world = World::new();
    let site = world.site();
    let proxy = world.egressd(&site, "");
    let held = || {
        let metrics = proxy.metrics();
        ["tls", "head", "hello", "body", "relay", "connection"]
            .map(|kind| metrics.count("egressd_held_bytes", &[("kind", kind)]))
            .iter()
            .sum::<u64>()
    };
    let before = held();
    let mut open: Vec<_> = (0..8).map(|_| world.inside(&proxy, site.port())).collect();
    for wire in &mut open {
        wire.send(get(site.port(), "/"));
        assert_eq!(wire.read_reply().status, 200);
    }
    let during = held();
    assert!(during >= before + 8 * 30 * 1024, "two TLS states, a target's connection: {before} {during}");
    drop(open);
    until("all to be given back", || (held() <= before + 64 * 1024).then_some(()));
}

#[test]
fn report_mode_lets_pass_what_the_rules_refuse_and_not_another_host() {
    let world = World::new();
    let site = world.site();
    let text = World::config(site.port(), REQUESTS)
        .replace("  - name: test\n", "  - name: test\n    mode: report\n");
    let proxy = world.start(&text);
    let mut wire = world.inside(&proxy, site.port());
    for path in ["/a", "/no"] {
        wire.send(get(site.port(), path));
        assert_eq!(wire.read_reply().status, 200, "{path}");
    }
    let told = |path: &str| {
        let target = format!("https://{HOST}:{}{path}", site.port());
        proxy.record(|record| record["event"] == "request" && record["target"] == target.as_str())
    };
    told("/a").assert_has(&json!({"decision": "allow", "reason": null, "mode": "report"}));
    told("/no").assert_has(&json!({"decision": "would_deny", "reason": "request_not_allowed"}));
    wire.send(format!("GET / HTTP/1.1\r\nHost: b.test:{}\r\n\r\n", site.port()));
    proxy.refused(wire, 421, "host_mismatch");
    let mut wire = world.inside(&proxy, site.port());
    wire.send(get(site.port(), "/a/../b"));
    proxy.refused(wire, 400, "bad_target");
}
