//! What the registry promises.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use jiff::Timestamp;
use uuid::Uuid;

use super::registry::{Entry, SHARDS};
use super::*;
use crate::rules::{Scheme, Upgrade};
use crate::transport::cancel::Cancel;
use crate::transport::meter::Meter;
use crate::words::client::Client;
use crate::words::outcome::{Ending, Reason};
use crate::words::target::Target;

fn facts(policy: &Arc<str>, port: u16) -> TunnelFacts {
    let address: SocketAddr = format!("10.0.0.1:{port}").parse().expect("an address");
    TunnelFacts {
        id: Uuid::now_v7(),
        client: Arc::new(Client::direct(address)),
        proof: Arc::default(),
        target: Target::connect("git.example:443").expect("a target"),
        policy: Arc::clone(policy),
        rule: None,
        listener: "proxy".into(),
        upstream: "203.0.113.9:443".parse().expect("an address"),
        by_parent: false,
        scheme: Scheme::Https,
        inspected: false,
        started: Timestamp::now(),
    }
}

fn register(live: &Arc<Live>, policy: &Arc<str>, meter: &Arc<Meter>) -> LiveTunnel {
    match live.register(facts(policy, 1), Arc::clone(meter), Cancel::new(), live.generation()) {
        Registration::Current(guard) => guard,
        Registration::JudgeAgain(_) => panic!("nothing moved"),
    }
}

fn asked() -> Asked {
    let path = http::uri::PathAndQuery::from_static("/");
    Asked { method: http::Method::GET, path, upgrade: Upgrade::None, inspected: false, recognised: None }
}

fn exchange(live: &Arc<Live>, meter: &Arc<Meter>) -> LiveExchange {
    let facts = ExchangeFacts {
        client: Arc::new(Client::direct("10.0.0.1:5".parse().expect("an address"))),
        proof: Arc::default(),
        target: Target::http("mirror.example").expect("a target"),
        policy: "p".into(),
        by_parent: false,
        asks: asked(),
    };
    match live.register_exchange(facts, Arc::clone(meter), None, live.generation()) {
        Registration::Current(guard) => guard,
        Registration::JudgeAgain(_) => panic!("nothing moved"),
    }
}

fn usage(live: &Live, policy: &str) -> (usize, u64, u64) {
    let all = live.usage();
    let found: Vec<_> = all.iter().filter(|usage| &*usage.policy == policy).collect();
    assert!(found.len() <= 1, "one row a policy");
    found.first().map_or((0, 0, 0), |usage| (usage.tunnels, usage.sent, usage.received))
}

#[test]
fn a_tunnel_is_listed_until_its_guard_is_dropped_and_its_bytes_stay() {
    let live = Live::new();
    let policy: Arc<str> = "gitaly".into();
    let meter = Arc::new(Meter::default());
    let guard = register(&live, &policy, &meter);
    meter.add_sent(10);
    guard.show_sni("git.example".into());
    assert_eq!(usage(&live, "gitaly"), (1, 10, 0));
    let mut seen = Vec::new();
    live.for_each(|tunnel| seen.push(tunnel.sni().map(str::to_owned)));
    assert_eq!(seen, [Some("git.example".to_owned())]);
    meter.add_received(7);
    drop(guard);
    assert_eq!(live.tunnels(), 0);
    assert_eq!(usage(&live, "gitaly"), (0, 10, 7));
    meter.add_sent(1_000);
    assert_eq!(usage(&live, "gitaly"), (0, 10, 7), "folded once");
}

#[test]
fn exchanges_count_bytes_but_are_no_tunnels() {
    let live = Live::new();
    let meter = Arc::new(Meter::default());
    let exchange = exchange(&live, &meter);
    meter.add_received(5);
    assert_eq!((live.tunnels(), live.exchanges()), (0, 1));
    assert_eq!(usage(&live, "p"), (0, 0, 5));
    live.for_each(|_| panic!("no tunnel"));
    drop(exchange);
    assert_eq!(live.exchanges(), 0);
    assert_eq!(usage(&live, "p"), (0, 0, 5));
}

#[tokio::test]
async fn a_sweep_revokes_the_exchanges_that_it_is_told_to() {
    let live = Live::new();
    let (one, other) = (exchange(&live, &Arc::default()), exchange(&live, &Arc::default()));
    assert_eq!(one.exchange().judged_address(), None);
    let address = "203.0.113.9".parse().expect("an address");
    assert_eq!(one.reached(address), live.generation());
    let judge = |exchange: &Exchange| exchange.judged_address().map(|_| Reason::AddressProhibited);
    assert_eq!(live.revoke_exchanges_where(judge), 1);
    assert_eq!(live.revoke_exchanges_where(judge), 0, "once");
    assert_eq!(one.cancelled().await, Ending::PolicyRevoked);
    assert_eq!(one.exchange().revoked(), Some(Reason::AddressProhibited));
    assert_eq!(other.exchange().revoked(), None);
}

#[test]
fn an_exchange_decided_before_a_reload_is_told_so() {
    let live = Live::new();
    let decided = live.generation();
    let guard = exchange(&live, &Arc::default());
    live.advance();
    // The sweep may have passed before this was visible.
    assert_ne!(guard.reached("203.0.113.9".parse().expect("an address")), decided);
    let facts = ExchangeFacts {
        client: Arc::clone(&guard.exchange().facts.client),
        proof: Arc::default(),
        target: guard.exchange().facts.target.clone(),
        policy: "p".into(),
        by_parent: false,
        asks: asked(),
    };
    let late = live.register_exchange(facts, Arc::default(), None, decided);
    assert!(matches!(late, Registration::JudgeAgain(_)));
}

#[test]
fn slots_are_used_again_and_the_memory_of_a_burst_goes() {
    let live = Live::new();
    let policy: Arc<str> = "p".into();
    let meter = Arc::new(Meter::default());
    let mut guards: Vec<_> = (0..1_000).map(|_| register(&live, &policy, &meter)).collect();
    guards.truncate(500);
    guards.extend((0..500).map(|_| register(&live, &policy, &meter)));
    let slots: usize = live.shards.iter().map(|shard| shard.lock().expect("lock").slots.len()).sum();
    assert!(slots <= 1_000 + SHARDS, "{slots}");
    let mut seen = 0;
    live.for_each(|_| seen += 1);
    assert_eq!(seen, 1_000);
    drop(guards);
    let slots: usize = live.shards.iter().map(|shard| shard.lock().expect("lock").slots.capacity()).sum();
    assert_eq!(slots, 0);
}

#[test]
fn only_the_chosen_are_cancelled_and_only_once() {
    let live = Live::new();
    let (old, new): (Arc<str>, Arc<str>) = ("old".into(), "new".into());
    let meter = Arc::new(Meter::default());
    let guards: Vec<_> =
        (0..200).map(|n| register(&live, if n % 2 == 0 { &old } else { &new }, &meter)).collect();
    let revoke = |live: &Live| live.cancel_where(Ending::PolicyRevoked, |t| &*t.facts.policy == "old");
    assert_eq!(revoke(&live), 100);
    assert_eq!(revoke(&live), 0, "already told");
    assert_eq!(live.cancel_where(Ending::Drained, |_| true), 100);
    for guard in &guards {
        let want =
            if &*guard.tunnel().facts.policy == "old" { Ending::PolicyRevoked } else { Ending::Drained };
        assert_eq!(guard.cancel().ending(), Some(want));
    }
}

#[test]
fn only_the_revoked_end_and_know_why() {
    let live = Live::new();
    let policy: Arc<str> = "p".into();
    let meter = Arc::new(Meter::default());
    let guards: Vec<_> = (0..100).map(|_| register(&live, &policy, &meter)).collect();
    let ended = &guards[7];
    ended.tunnel().cancel(Ending::Drained);
    for (number, guard) in guards.iter().enumerate() {
        guard.show_sni(if number % 2 == 0 { "even.example" } else { "odd.example" }.into());
    }
    let judge = |tunnel: &Tunnel| (tunnel.sni() == Some("odd.example")).then_some(Reason::RuleExpired);
    assert_eq!(live.revoke_where(judge), 49);
    assert_eq!(live.revoke_where(judge), 0, "already told");
    assert_eq!((ended.cancel().ending(), ended.tunnel().revoked()), (Some(Ending::Drained), None));
    let told = |guard: &LiveTunnel| (guard.cancel().ending(), guard.tunnel().revoked());
    assert_eq!(told(&guards[1]), (Some(Ending::PolicyRevoked), Some(Reason::RuleExpired)));
    assert_eq!(told(&guards[2]), (None, None));
}

#[test]
fn a_registration_decided_by_an_older_policy_is_judged_again() {
    let live = Live::new();
    let policy: Arc<str> = "p".into();
    let decided = live.generation();
    live.advance();
    let late = live.register(facts(&policy, 1), Arc::default(), Cancel::new(), decided);
    assert!(matches!(late, Registration::JudgeAgain(_)));
    let fresh = live.register(facts(&policy, 1), Arc::default(), Cancel::new(), live.generation());
    assert!(matches!(fresh, Registration::Current(_)));
}

/// The policy allows port 1 only while `allowed`: no tunnel may live on that was caught neither by the sweep nor by
/// its registration.
#[test]
fn no_tunnel_slips_between_a_reload_and_its_sweep() {
    for _ in 0..200 {
        let live = Live::new();
        let policy: Arc<str> = "p".into();
        let allowed = AtomicBool::new(true);
        let kept = thread::scope(|scope| {
            let workers: Vec<_> = (0..3)
                .map(|_| {
                    scope.spawn(|| {
                        let mut kept = Vec::new();
                        for _ in 0..20 {
                            let decided = live.generation();
                            if !allowed.load(Ordering::SeqCst) {
                                continue;
                            }
                            match live.register(facts(&policy, 1), Arc::default(), Cancel::new(), decided) {
                                Registration::Current(guard) => kept.push(guard),
                                Registration::JudgeAgain(guard) if allowed.load(Ordering::SeqCst) => {
                                    kept.push(guard);
                                }
                                Registration::JudgeAgain(_) => {}
                            }
                        }
                        kept
                    })
                })
                .collect();
            allowed.store(false, Ordering::SeqCst);
            live.advance();
            live.cancel_where(Ending::PolicyRevoked, |_| true);
            workers.into_iter().flat_map(|worker| worker.join().expect("no panic")).collect::<Vec<_>>()
        });
        assert!(kept.iter().all(|guard| guard.cancel().ending() == Some(Ending::PolicyRevoked)));
    }
}

/// Report mode allows what was shown only while the policy is `lenient`: no tunnel may live on if neither the sweep
/// nor the thread that showed it saw both.
#[test]
fn no_objection_slips_between_a_reload_and_its_sweep() {
    for _ in 0..200 {
        let live = Live::new();
        let policy: Arc<str> = "p".into();
        let lenient = AtomicBool::new(true);
        let guards: Vec<_> = (0..40).map(|_| register(&live, &policy, &Arc::default())).collect();
        thread::scope(|scope| {
            for guards in guards.chunks(20) {
                let lenient = &lenient;
                scope.spawn(move || {
                    for guard in guards {
                        guard.object(Reason::NoSni);
                        // As weak as what `current` promises.
                        if !lenient.load(Ordering::Acquire) {
                            guard.tunnel().revoke(Reason::NoSni);
                        }
                    }
                });
            }
            lenient.store(false, Ordering::Release);
            live.advance();
            live.revoke_where(Tunnel::objection);
        });
        assert!(guards.iter().all(|guard| guard.tunnel().revoked() == Some(Reason::NoSni)));
    }
}

#[test]
fn bytes_never_go_backwards_nor_count_twice_while_tunnels_come_and_go() {
    const WORKERS: u64 = 3;
    const TUNNELS: u64 = 2_000;
    let live = Live::new();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let scraper = scope.spawn(|| {
            let mut last = 0;
            loop {
                // At least once, however late this thread begins.
                let is_last = done.load(Ordering::SeqCst);
                let (_, sent, _) = usage(&live, "p");
                assert!(sent >= last, "{sent} after {last}");
                assert!(sent <= WORKERS * TUNNELS * 3);
                last = sent;
                if is_last {
                    break;
                }
            }
        });
        let workers: Vec<_> = (0..WORKERS)
            .map(|_| {
                scope.spawn(|| {
                    let policy: Arc<str> = "p".into();
                    for _ in 0..TUNNELS {
                        let meter = Arc::new(Meter::default());
                        let guard = register(&live, &policy, &meter);
                        meter.add_sent(1);
                        meter.add_sent(2);
                        drop(guard);
                    }
                })
            })
            .collect();
        workers.into_iter().for_each(|worker| worker.join().expect("no panic"));
        done.store(true, Ordering::SeqCst);
        scraper.join().expect("never backwards");
    });
    assert_eq!(usage(&live, "p"), (0, WORKERS * TUNNELS * 3, 0));
}

#[test]
fn closed_bytes_of_a_vanished_policy_are_forgotten() {
    let live = Live::new();
    for policy in ["kept", "gone"] {
        let meter = Arc::new(Meter::default());
        meter.add_sent(3);
        drop(register(&live, &policy.into(), &meter));
    }
    live.retain_policies(|policy| policy == "kept");
    assert_eq!(usage(&live, "kept"), (0, 3, 0));
    assert_eq!(usage(&live, "gone"), (0, 0, 0));
    assert_eq!(live.usage().len(), 1);
}

#[test]
fn an_idle_tunnel_costs_the_registry_little() {
    // Out of the 3.2 KiB that a whole idle tunnel may cost.
    assert!(size_of::<Tunnel>() <= 256, "{}", size_of::<Tunnel>());
    assert!(size_of::<Cancel>() <= 64, "{}", size_of::<Cancel>());
    assert!(size_of::<LiveTunnel>() <= 24, "{}", size_of::<LiveTunnel>());
    assert!(size_of::<Option<Entry>>() <= 32, "{}", size_of::<Option<Entry>>());
}
