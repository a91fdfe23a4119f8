//! Many reloads under traffic: no tunnel is lost, and one configuration alone judges each request.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use rustix::process::Signal;
use serde_json::json;

use crate::support::{Egressd, End, Origin, Record, Wire, write};
use crate::{connect_for_id, in_force, last_reload_successful, ping, reloaded, short, tunnels_to};

/// The number of reloads; `tests/long/reloads` has a thousand and more.
fn reloads() -> usize {
    std::env::var("EGRESSD_TEST_RELOADS").map_or(60, |number| number.parse().expect("a number of reloads"))
}

/// Replaces the file as editors and the kubelet do: a reader sees either the whole old file or the whole new one.
fn put(proxy: &Egressd, text: &str) {
    write(&proxy.file("new"), text);
    fs::rename(proxy.file("new"), proxy.file("egressd.yaml")).expect("renamed");
}

/// A drop signals the end.
struct Over<'d>(&'d AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[test]
fn reload_after_reload_loses_no_tunnel_and_every_request_is_judged_by_one_configuration() {
    let (kept, even, odd) = (Origin::echo(), Origin::echo(), Origin::echo());
    // Alternately: each of the two allows what the other denies, and both allow `kept`.
    let texts = [&even, &odd]
        .map(|origin| tunnels_to(&[&kept, origin]) + "limits: {requests_per_second_per_client: 1000000}\n");
    let proxy = Egressd::start(&texts[0]);
    let first = in_force(&proxy);
    let second = reloaded(&proxy, || put(&proxy, &texts[1]));
    let mut held: Vec<Wire> = (0..8).map(|_| proxy.tunnel(&kept.address().to_string())).collect();
    let done = AtomicBool::new(false);
    let begun = Instant::now();
    let (pings, answers) = thread::scope(|scope| {
        let moving: Vec<_> = held
            .chunks_mut(4)
            .map(|tunnels| {
                scope.spawn(|| {
                    let mut pings = 0;
                    while !done.load(Ordering::SeqCst) {
                        tunnels.iter_mut().for_each(ping);
                        pings += tunnels.len() as u64;
                    }
                    pings
                })
            })
            .collect();
        let asking = [&even, &odd].map(|origin| {
            let (proxy, done) = (&proxy, &done);
            scope.spawn(move || {
                let authority = origin.address().to_string();
                let mut answers = Vec::new();
                while !done.load(Ordering::SeqCst) {
                    answers.push((origin.port(), connect_for_id(proxy, &authority)));
                }
                answers
            })
        });
        // The other threads end even if this thread fails.
        let _over = Over(&done);
        for round in 0..reloads() {
            let hash = reloaded(&proxy, || {
                put(&proxy, &texts[round % 2]);
                // In turn: egressd notices the change itself, once no more changes come; or a HUP asks for the reload.
                if round % 4 >= 2 {
                    proxy.signal(Signal::HUP);
                }
            });
            assert_eq!(hash, [&first, &second][round % 2].as_str());
        }
        done.store(true, Ordering::SeqCst);
        let pings: u64 = moving.into_iter().map(|moving| moving.join().expect("not one is lost")).sum();
        (pings, asking.map(|asking| asking.join().expect("all are answered")).concat())
    });
    println!(
        "{} reloads in {:.1} s, {} requests, {pings} round trips",
        reloads(),
        begun.elapsed().as_secs_f64(),
        answers.len()
    );
    assert!(last_reload_successful(&proxy));

    for tunnel in &mut held {
        ping(tunnel);
        tunnel.finish();
        assert_eq!(tunnel.read_to_end(), (Vec::new(), End::Fin));
    }
    let ended = proxy.stop();
    assert_eq!(ended.code, 0);
    let mut records: HashMap<&str, Vec<&Record>> = HashMap::new();
    for record in &ended.records {
        records.entry(record.text("id")).or_default().push(record);
    }
    let mut verdicts = BTreeMap::<(bool, u16), usize>::new();
    for (port, (status, id)) in &answers {
        let told = &records[id.as_str()];
        let config = told[0].text("config");
        let is_even = *port == even.port();
        assert!(config == short(&first) || config == short(&second), "{config}");
        // Whichever configuration it was, it alone decided.
        let allowed = (config == short(&first)) == is_even;
        assert_eq!(*status, if allowed { 200 } else { 403 }, "{told:?}");
        if allowed {
            let [open, close] = told.as_slice() else { panic!("an open and a close: {told:?}") };
            open.assert_has(&json!({"event": "open", "decision": "allow", "config": config}));
            close.assert_has(&json!({"event": "close", "config": config}));
            let ending = close.text("ending");
            assert!(["client_closed", "policy_revoked"].contains(&ending), "{close:?}");
        } else {
            let [denied] = told.as_slice() else { panic!("one record: {told:?}") };
            denied.assert_has(&json!({"event": "deny", "reason": "port_not_allowed"}));
        }
        *verdicts.entry((is_even, *status)).or_default() += 1;
    }
    assert_eq!(verdicts.len(), 4, "both were allowed, and both denied: {verdicts:?}");
    let closed: Vec<&Record> = ended
        .records
        .iter()
        .filter(|r| r["event"] == "close" && r["upstream"] == kept.address().to_string())
        .collect();
    assert_eq!(closed.len(), 8);
    assert!(closed.iter().all(|close| close["ending"] == "client_closed"), "{closed:?}");
    assert_eq!(closed.iter().map(|close| close.number("received")).sum::<u64>(), 4 * (pings + 8));
    assert_eq!(ended.records.len(), records.values().map(Vec::len).sum::<usize>());
    assert_eq!(records.len(), answers.len() + 8, "nothing but what was asked");
}
