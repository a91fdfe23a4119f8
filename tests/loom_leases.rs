//! Checks every interleaving of taking, charging and giving back held bytes.
//!
//! The module under test is compiled here a second time, with loom's atomics instead of the standard library's.

use loom::sync::Arc;
use loom::thread;

mod sync {
    pub(super) use loom::sync::atomic::{AtomicUsize, Ordering};
}

#[path = "../src/transport/held/ledger.rs"]
mod ledger;

use ledger::Ledger;

const HEAD: usize = 0;
const BODY: usize = 1;

#[test]
fn leases_never_exceed_the_limit_and_all_come_back() {
    loom::model(|| {
        let held = Arc::new(Ledger::<2>::new(10));
        let workers: Vec<_> = [(HEAD, 6), (BODY, 5)]
            .into_iter()
            .map(|(kind, bytes)| {
                let held = Arc::clone(&held);
                thread::spawn(move || {
                    let got = held.take(kind, bytes, held.limit());
                    assert!(held.sum() <= held.limit());
                    if got {
                        // Some has left, then the rest.
                        held.give_back(kind, 2);
                        held.give_back(kind, bytes - 2);
                    }
                    got
                })
            })
            .collect();
        let got = workers.into_iter().filter_map(|worker| worker.join().ok()).filter(|got| *got).count();
        assert!(got >= 1, "one of two gets through, whatever the order");
        assert_eq!((held.sum(), held.of(HEAD), held.of(BODY)), (0, 0, 0));
    });
}

#[test]
fn a_lease_fails_only_where_there_is_no_room() {
    loom::model(|| {
        let held = Arc::new(Ledger::<2>::new(10));
        let other = Arc::clone(&held);
        let worker = thread::spawn(move || other.take(HEAD, 4, 10));
        let here = held.take(BODY, 4, 8);
        let there = worker.join().unwrap_or(false);
        assert!(here && there, "room for both, with no spurious refusal");
        assert!(!held.take(HEAD, 1, 8), "what is large stops at its own mark");
        assert!(held.take(HEAD, 2, 10));
        assert!(!held.take(HEAD, 1, 10));
        assert!(!held.take(HEAD, usize::MAX, usize::MAX), "no number wraps");
    });
}

#[test]
fn what_is_charged_counts_beyond_the_limit_and_comes_back() {
    loom::model(|| {
        let held = Arc::new(Ledger::<2>::new(10));
        let other = Arc::clone(&held);
        let worker = thread::spawn(move || {
            // The kernel holds it already: nobody was asked.
            assert!(other.charge(BODY, 8) >= 8);
            other.give_back(BODY, 8);
        });
        let got = held.take(HEAD, 6, 10);
        if got {
            held.give_back(HEAD, 6);
        }
        let _ = worker.join();
        assert_eq!((held.sum(), held.of(HEAD), held.of(BODY)), (0, 0, 0));
    });
}

#[test]
fn a_lowered_limit_holds_for_later_leases() {
    loom::model(|| {
        let held = Arc::new(Ledger::<2>::new(10));
        let other = Arc::clone(&held);
        let worker = thread::spawn(move || other.set_limit(4));
        let early = held.take(HEAD, 6, held.limit());
        let _ = worker.join();
        assert!(!held.take(HEAD, 1, held.limit()) || !early);
        if early {
            held.give_back(HEAD, 6);
        }
        assert!(held.take(BODY, 3, held.limit()));
    });
}
