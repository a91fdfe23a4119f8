//! Checks every interleaving of reserving and releasing places in the access log's queue.
//!
//! The module under test is compiled here a second time, with loom's atomics instead of the standard library's.

use loom::sync::Arc;
use loom::thread;

mod sync {
    pub(super) use loom::sync::atomic::{AtomicUsize, Ordering};
}

#[path = "../src/telemetry/reservations.rs"]
mod reservations;

use reservations::Reservations;

#[test]
fn places_are_never_overbooked_and_all_come_back() {
    loom::model(|| {
        let places = Arc::new(Reservations::new(3));
        let workers: Vec<_> = (0..2)
            .map(|_| {
                let places = Arc::clone(&places);
                thread::spawn(move || {
                    // A tunnel's two places; then the writer releases one and the drop of the tunnel releases the other.
                    let got = places.take(2, 0);
                    assert!(places.taken() <= places.limit());
                    if got {
                        places.give_back(1);
                        places.give_back(1);
                    }
                    got
                })
            })
            .collect();
        let got = workers.into_iter().filter_map(|worker| worker.join().ok()).filter(|got| *got).count();
        assert!(got >= 1, "one of two gets through, whatever the order");
        assert_eq!(places.taken(), 0);
    });
}

#[test]
fn a_reservation_fails_only_when_the_places_are_taken() {
    loom::model(|| {
        let places = Arc::new(Reservations::new(2));
        let other = Arc::clone(&places);
        let worker = thread::spawn(move || other.take(1, 0));
        let here = places.take(1, 0);
        let there = worker.join().unwrap_or(false);
        assert!(here && there, "two places for two, with no spurious refusal");
        assert!(!places.take(1, 0));
    });
}

#[test]
fn a_lowered_limit_holds_for_later_reservations() {
    loom::model(|| {
        let places = Arc::new(Reservations::new(2));
        let other = Arc::clone(&places);
        let worker = thread::spawn(move || other.set_limit(1));
        let early = places.take(1, 0);
        let _ = worker.join();
        assert!(early);
        assert!(!places.take(1, 0));
        assert!(!places.take(0, 1));
        places.give_back(1);
        assert!(places.take(1, 0));
    });
}
