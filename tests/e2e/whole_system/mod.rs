//! The whole deployment on one machine: GitLab, the load balancer, three replicas, CodeCommit, and Prometheus.
//!
//! ```text
//!  gitlab 10.20.1.10 ─┐ office ┌ balancer ┐ pods ┌ a b c (d) ┐       ┌ world: CodeCommit 52.119.196.66
//!  visitor 198.51.… ──┴────────┘ HAProxy  └──────┴ dns, prom ┴ nat ──┴        a hostile host
//! ```
//!
//! Each is a host of its own (network namespaces). GitLab has no route but the one to the balancer, which forwards
//! nothing; the pods' only way out is the NAT gateway. Configuration, list and alerts are the files of k8s/, but for
//! addresses and times. Each test builds its own system, so that no test depends on another.
//!
//! A push is, for this system: a tunnel, two requests, silence while the server works. A push that is *held* is silent
//! until the test releases it: the server's pre-receive hook waits.

pub(crate) mod gitlab;
pub(crate) mod network;
mod parts;
mod system;

use std::sync::Arc;
use std::time::Instant;

use rustix::process::Signal;
use serde_json::json;

use self::gitlab::Push;
use self::network::Host;
use self::parts::Replica;
use self::system::{BALANCER, CODECOMMIT, HOSTILE, INSIDE, PODS, PROXY, System};
use crate::git_server::{HELLO, HOST, SECOND_HOST};
use crate::support::{Record, until};
use crate::tool::Ran;

fn assert_hello(ran: &Ran) {
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), HELLO), "{ran:?}");
}

fn assert_refused(ran: &Ran, status: u16) {
    assert!(ran.stderr.contains(&format!("CONNECT tunnel failed, response {status}")), "{ran:?}");
}

#[test]
fn a_mirror_passes_and_is_recorded_with_gitlabs_own_address() {
    let system = System::start();
    let stored = system.server.create("mirror");
    let source = system.gitlab.repository("source", 6 << 20);
    let url = system.server.url("mirror");
    let pushed = Ran::of(system.gitlab.git(&source).args(["push", "--quiet", "--mirror", &url]));
    assert_eq!(pushed.code, Some(0), "{pushed:?}");
    let refs = |repository| Ran::ok(system.gitlab.git(repository).args(["for-each-ref"]));
    assert_eq!(refs(&source), refs(&stored));
    Ran::ok(system.gitlab.git(&stored).args(["fsck", "--full", "--strict"]));

    let carrier = until("the tunnel's record", || {
        system.replicas.iter().find(|replica| !replica.records("close").is_empty())
    });
    let open = &carrier.records("open")[0];
    open.assert_has(&json!({
        "policy": "gitaly", "target": format!("{HOST}:443"), "sni": HOST, "rule": HOST, "instance": carrier.name(),
        "upstream": format!("{CODECOMMIT}:443"),
    }));
    assert!(open.text("rule_source").contains("allowlist.txt:2"), "{open:?}");
    assert!(open.text("client").starts_with("10.20.1.10:"), "GitLab and not the balancer: {open:?}");
    assert!(open.text("peer").starts_with("10.20.2.5:"), "{open:?}");
    assert!(carrier.records("close")[0].number("sent") > 6 << 20, "{carrier:?}");
    assert_eq!(system.server.peers(), [open.text("upstream_local")], "one connection, the one on record");
    // Prometheus reports the same bytes.
    let bytes = "sum(egressd_bytes_total{direction=\"sent\"})";
    until("the push in Prometheus", || system.prometheus.query(bytes).filter(|sent| *sent > 6e6));
    assert!(!system.dns.was_asked("cluster.local"), "the search domains of resolv.conf are not used");
}

#[test]
fn nothing_else_gets_out_by_any_path() {
    let system = System::start();
    let through = |arguments: &[&str]| {
        let mut all = vec!["--proxy", PROXY];
        all.extend(arguments);
        system.gitlab.curl(&all)
    };
    assert_refused(&through(&["https://evil.example/"]), 403);
    assert_refused(&through(&[&format!("https://{HOSTILE}/")]), 403);
    assert_refused(&through(&[&format!("https://{HOST}.evil.example/")]), 403);
    assert_refused(&through(&[&format!("https://{INSIDE}/")]), 403);
    assert_refused(&through(&[&format!("https://{HOST}:22/")]), 403);
    let plain = through(&["--write-out", "%{http_code}", "--output", "/dev/null", "http://evil.example/"]);
    assert_eq!(plain.stdout, "403", "{plain:?}");
    // CONNECT to the listed host, and another name in the ClientHello.
    let fronted =
        through(&["--connect-to", &format!("evil.example:443:{HOST}:443"), "https://evil.example/"]);
    assert_eq!(fronted.code, Some(35), "a TLS alert: {fronted:?}");
    let refused: Vec<String> = until("seven refusals on record", || {
        let mut reasons: Vec<String> = system
            .replicas
            .iter()
            .flat_map(|replica| replica.records("deny"))
            .map(|record| record.text("reason").to_owned())
            .collect();
        reasons.sort();
        (reasons.len() == 7).then_some(reasons)
    });
    assert_eq!(
        refused,
        [
            "address_prohibited",
            "host_not_allowed",
            "host_not_allowed",
            "host_not_allowed",
            "host_not_allowed",
            "port_not_allowed",
            "sni_mismatch",
        ]
    );
    assert!(!system.dns.was_asked("evil.example"), "what is denied never reaches DNS");
    assert!(system.server.peers().is_empty(), "not a request came to the server");

    // A host that is not a client of the policy is refused as that, by its own address and not by the balancer's.
    let stranger = system.visitor.curl(&["--proxy", PROXY, &format!("https://{HOST}/hello")]);
    assert_refused(&stranger, 403);
    let denied = until("the stranger's record", || {
        system.replicas.iter().flat_map(|r| r.records("deny")).find(|r| r["reason"] == "client_not_allowed")
    });
    assert!(denied.text("client").starts_with("198.51.100.9:"), "{denied:?}");

    // There is no way around the proxy, not even for a user who may set routes.
    let direct = |host: &Host| {
        let targets = [(HOST, CODECOMMIT), ("evil.example", HOSTILE)];
        targets.map(|(name, address)| {
            let resolve = format!("{name}:443:{address}");
            let url = format!("https://{name}/");
            host.curl(&["--noproxy", "*", "--connect-timeout", "1", "--resolve", &resolve, &url]).code
        })
    };
    assert_eq!(direct(system.gitlab.host()), [Some(7); 2], "no route");
    Ran::ok(system.visitor.command("ip").args(["route", "add", "default", "via", &BALANCER.to_string()]));
    assert_eq!(direct(&system.visitor), [Some(28); 2], "a route, and nobody who forwards");
    assert_eq!(system.hostile.segments_received(), 0, "not a segment reached the hostile host");
    // Proves that the counter counts: from a pod there is a route to the hostile host, which egressd does not use.
    let way = system.pods[3].curl(&["--connect-timeout", "2", &format!("https://{HOSTILE}/")]);
    assert_eq!(way.code, Some(7), "refused by the hostile host itself: {way:?}");
    assert!(system.hostile.segments_received() > 0);
}

#[test]
fn an_edit_of_the_list_takes_effect_everywhere_without_a_restart() {
    let system = System::start();
    let before: Vec<u32> = system.replicas.iter().map(|replica| replica.proxy.pid()).collect();
    let (held, carrier) = system.held_push();
    for _ in 0..3 {
        assert_refused(&system.hello(SECOND_HOST), 403);
    }
    let old = system.replicas[0].configuration();
    let wider = format!("{}{SECOND_HOST}\n", system.allowlist);
    for replica in &system.replicas {
        replica.edit(&system.configuration, &wider);
    }
    for replica in &system.replicas {
        until("the edit to be in force", || (replica.configuration() != old).then_some(()));
    }
    // Round robin: more than one request for each replica.
    for _ in 0..6 {
        assert_hello(&system.hello(SECOND_HOST));
    }
    let new = system.replicas[0].configuration();
    until("the new configuration on all three in Prometheus", || {
        let have_it = format!("count(egressd_config_info{{sha256=\"{new}\"}})");
        system.prometheus.query(&have_it).filter(|replicas| *replicas == 3.0)
    });

    // The host of the held push is removed from the list: its tunnel ends, and nothing new goes there.
    assert!(held.is_held(), "the first edit did not touch it");
    let without = wider.replace(&format!("{HOST}\n"), "# taken out\n");
    // On its replica last: git's HTTP library may ask again at once, and must not reach a replica that still has the old list.
    let others =
        || system.replicas.iter().enumerate().filter(|(at, _)| *at != carrier).map(|(_, replica)| replica);
    for replica in others() {
        replica.edit(&system.configuration, &without);
    }
    for replica in others() {
        until("the edit to be in force", || (replica.configuration() != new).then_some(()));
    }
    system.replicas[carrier].edit(&system.configuration, &without);
    let revoked = until("the held push's tunnel to end", || {
        system.replicas[carrier].records("close").into_iter().find(|r| r["ending"] == "policy_revoked")
    });
    assert_eq!(revoked["target"], format!("{HOST}:443"));
    assert!(!held.let_go().ok(), "a push that was cut off is told to be so");
    for replica in &system.replicas {
        until("the edit to be in force", || (replica.configuration() != new).then_some(()));
    }
    for _ in 0..3 {
        assert_refused(&system.hello(HOST), 403);
        assert_hello(&system.hello(SECOND_HOST));
    }
    let after: Vec<u32> = system.replicas.iter().map(|replica| replica.proxy.pid()).collect();
    assert_eq!(before, after);
    assert!(system.replicas.iter().all(|replica| replica.ask("/readyz").0 == "200"), "the same processes");
}

#[test]
fn a_rollout_of_all_three_under_continuous_pushes_fails_no_push() {
    let mut system = System::start();
    let (held, carrier) = system.held_push();
    let mut held = Some(held);
    let pushes = system.gitlab.push_on_and_on(3, &system.server);
    let mut free = Arc::clone(&system.pods[3]);
    // First the replica with the held push: it has to wait for the push.
    system.replicas.swap(0, carrier);
    for _ in 0..3 {
        // maxSurge 1, maxUnavailable 0, and the readiness gate: first a new pod must get traffic from the balancer.
        let new = Replica::start(&free, &system.configuration, &system.allowlist);
        system.balancer.register(new.name());
        system.replicas.push(new);

        let old = system.replicas.remove(0);
        until("the old one to have carried pushes", || (old.records("close").len() >= 2).then_some(()));
        old.proxy.signal(Signal::TERM);
        until("/readyz to say 503", || (old.ask("/readyz").0 == "503").then_some(()));
        // The balancer does not know yet and still sends requests: they are served.
        let opened = old.records("open").len();
        until("a new tunnel through the one that ends", || {
            assert_hello(&system.hello(HOST));
            (old.records("open").len() > opened).then_some(())
        });
        assert_eq!(system.balancer.state(old.name()), ("UP".to_owned(), "L7OK".to_owned()));
        system.balancer.deregister(old.name());

        if let Some(held) = held.take() {
            until("the listener to close", || {
                let refused = old.pod.curl(&["http://127.0.0.1:3128/"]);
                (refused.code == Some(7)).then_some(())
            });
            // It waits for the held push, and the balancer sees a healthy target all the time: an NLB resets the
            // connections of an unhealthy target.
            assert!(held.is_held() && old.open_tunnels() >= 1);
            assert_eq!(old.ask("/healthz").0, "200");
            assert_eq!(system.balancer.state(old.name()), ("DRAIN".to_owned(), "L7OK".to_owned()));
            assert!(!system.balancer.log().contains("is DOWN"), "{}", system.balancer.log());
            let push = held.let_go();
            assert!(push.ok(), "the push that was under way at TERM: {push:?}");
        }
        free = Arc::clone(&old.pod);
        let ended = old.proxy.wait();
        assert_eq!(ended.code, 0, "{}", ended.stderr);
        let text = |record: &Record, field: &str| record[field].as_str().map(str::to_owned);
        let bad: Vec<_> = ended
            .records
            .iter()
            .filter(|r| r["event"] == "error" || text(r, "ending").as_deref() == Some("drained"))
            .collect();
        assert!(bad.is_empty(), "{bad:?}");
        let of = |event: &str| ended.records.iter().filter(|r| r["event"] == event).count();
        assert_eq!(of("open"), of("close"), "every tunnel came to its end");
        system.balancer.forget(free.name());
    }
    for replica in &system.replicas {
        until("each new one to carry pushes", || (replica.records("close").len() >= 2).then_some(()));
    }
    let pushes = pushes.finish();
    let failed: Vec<&Push> = pushes.iter().filter(|push| !push.ok()).collect();
    assert!(failed.is_empty(), "of {} pushes: {failed:?}", pushes.len());
    println!("{} pushes, none failed", pushes.len());
}

#[test]
fn a_killed_replica_breaks_only_its_own_pushes_and_its_log_is_complete() {
    let mut system = System::start();
    let (held, carrier) = system.held_push();
    let pushes = system.gitlab.push_on_and_on(3, &system.server);
    let victim = system.replicas.remove(carrier);
    until("it to carry pushes", || (victim.records("close").len() >= 2).then_some(()));
    victim.proxy.signal(Signal::KILL);
    let (name, pod) = (victim.name(), Arc::clone(&victim.pod));
    let ended = victim.proxy.wait();
    assert_eq!(ended.code, -9);
    let seen = system.server.peers();
    system.balancer.until(name, "DOWN", "L4CON");
    let noticed = Instant::now();
    pushes.wait_for_more(4);

    // Every connection from it that the server saw is on record, down to the last one. (Each line was a complete
    // record, otherwise it could not have been parsed.)
    let (_, address) = PODS.into_iter().find(|(pod, _)| *pod == name).expect("one of them");
    let prefix = format!("{address}:");
    let recorded: Vec<&str> =
        ended.records.iter().filter(|r| r["event"] == "open").map(|r| r.text("upstream_local")).collect();
    let its: Vec<&String> = seen.iter().filter(|peer| peer.starts_with(&prefix)).collect();
    assert!(
        its.len() >= 2 && its.iter().all(|peer| recorded.contains(&peer.as_str())),
        "{its:?} {recorded:?}"
    );
    until("Prometheus to miss it", || {
        system.prometheus.query("sum(up)").filter(|answering| *answering == 2.0)
    });

    // The kubelet starts the container again, with the same ConfigMap.
    let again = Replica::start(&pod, &system.configuration, &system.allowlist);
    system.balancer.until(name, "UP", "L7OK");
    until("it to carry pushes again", || (!again.records("close").is_empty()).then_some(()));
    // The push through it fails, unless git's HTTP library retries on another connection: it does this if the dead connection
    // was used before and had not begun to answer. Both are possible; the pushes that began later must succeed.
    let _ = held.let_go();
    let pushes = pushes.finish();
    let later: Vec<&Push> = pushes.iter().filter(|push| push.began > noticed).collect();
    assert!(later.len() >= 4 && later.iter().all(|push| push.ok()), "{later:?}");
}

#[test]
fn a_replica_whose_network_is_cut_harms_nobody_and_its_tunnels_go_on_afterwards() {
    let system = System::start();
    let (held, carrier) = system.held_push();
    let pushes = system.gitlab.push_on_and_on(3, &system.server);
    let cut = &system.replicas[carrier];
    system.fabric.cable(&cut.pod, "pods", "down");
    system.balancer.until(cut.name(), "DOWN", "L4");
    let noticed = Instant::now();
    pushes.wait_for_more(4);
    until("Prometheus to miss it", || {
        system.prometheus.query("sum(up)").filter(|answering| *answering == 2.0)
    });
    assert_eq!(cut.ask("/healthz").0, "200", "by itself it is well");
    assert!(held.is_held(), "the tunnel stands: nobody has told either end otherwise");

    system.fabric.cable(&cut.pod, "pods", "up");
    system.balancer.until(cut.name(), "UP", "L7OK");
    let push = held.let_go();
    assert!(push.ok(), "the push over the cut: {push:?}");
    let pushes = pushes.finish();
    let later: Vec<&Push> = pushes.iter().filter(|push| push.began > noticed).collect();
    assert!(later.len() >= 4 && later.iter().all(|push| push.ok()), "{later:?}");
}

#[test]
fn a_list_that_is_broken_on_one_replica_stays_out_of_force_there_and_the_alerts_fire() {
    let system = System::start();
    until("three replicas in Prometheus", || {
        system.prometheus.query("count(egressd_config_last_reload_successful == 1)").filter(|n| *n == 3.0)
    });
    until("no alert", || system.prometheus.firing().is_empty().then_some(()));
    let old = system.replica("b").configuration();
    let wider = format!("{}{SECOND_HOST}\n", system.allowlist);
    for replica in &system.replicas {
        let broken = format!("{wider}*\n");
        replica.edit(&system.configuration, if replica.name() == "b" { &broken } else { &wider });
    }
    until("both alerts", || {
        let firing = system.prometheus.firing();
        let expected = [("EgressdConfigDiffers", ""), ("EgressdConfigRefused", "b")]
            .map(|(a, p)| (a.to_owned(), p.to_owned()));
        (firing == expected).then_some(())
    });
    let b = system.replica("b");
    assert_eq!(b.metrics().count("egressd_config_last_reload_successful", &[]), 0);
    assert_eq!(b.configuration(), old);
    let lines = wider.lines().count() + 1;
    b.proxy.says(&format!("allowlist.txt:{lines}:1"));

    // It continues with the old list; the others have the new one.
    for name in ["a", "c"] {
        assert_ne!(system.replica(name).configuration(), old);
        system.balancer.deregister(name);
    }
    assert_hello(&system.hello(HOST));
    assert_refused(&system.hello(SECOND_HOST), 403);
    for name in ["a", "c"] {
        system.balancer.register(name);
    }
    system.balancer.deregister("b");
    assert_hello(&system.hello(SECOND_HOST));

    // With the list fixed, no alert fires.
    system.balancer.register("b");
    b.edit(&system.configuration, &wider);
    until("no alert", || system.prometheus.firing().is_empty().then_some(()));
    for _ in 0..6 {
        assert_hello(&system.hello(SECOND_HOST));
    }
}
