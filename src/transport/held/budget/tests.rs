//! A budget that is short.

use super::*;
use crate::transport::held::lease::Lease;

/// With a smaller limit, tunnels at their cost may be all that there is: then no byte that moves searches them anew.
#[tokio::test(start_paused = true)]
async fn at_the_limit_nothing_is_searched_for_a_moment_after_nothing_could_be_ended() {
    let budget = HeldBytes::new(1 << 20);
    let (moving, waiting) = (budget.enter(), budget.enter());
    let mut leases = [&moving, &waiting].map(|holder| Lease::of(holder, Kind::Relay, 50_000));
    moving.stays_open();
    waiting.stays_open();
    leases[0].set(40_000);
    budget.set_limit(60_000);
    leases[0].set(40_001);
    // From here on one could be ended.
    waiting.waits();
    tokio::time::advance(Duration::from_millis(SEARCH_PAUSE_AT_LIMIT - 1)).await;
    leases[0].set(40_002);
    assert_eq!(budget.ended(), 0);
    tokio::time::advance(Duration::from_millis(1)).await;
    leases[0].set(40_003);
    assert_eq!((budget.ended(), waiting.cancel().ending()), (1, Some(Ending::MemoryLimit)));
}

/// Two clients: one holds nearly all, the other one comes.
fn pressed(limit: usize) -> (Arc<HeldBytes>, Vec<(Arc<Holder>, Lease)>) {
    let budget = HeldBytes::new(limit);
    let held = (0..limit / 50_000)
        .map(|_| {
            let holder = budget.enter();
            holder.is_for([127, 0, 0, 1].into(), None);
            let lease = Lease::of(&holder, Kind::Body, 50_000);
            (holder, lease)
        })
        .collect();
    (budget, held)
}

#[tokio::test(start_paused = true)]
async fn who_holds_little_is_admitted_at_once_and_who_holds_much_waits() {
    let limit = 10_000_000;
    let (budget, held) = pressed(limit);
    let over = Lease::of(&held[0].0, Kind::Socket, limit / 2);
    assert!(budget.is_short() && budget.sum() > limit * 5 / 4, "{budget:?}");
    let (new, more) = (budget.enter(), budget.enter());
    tokio::time::advance(Duration::from_millis(SEARCH_PAUSE)).await;
    new.is_for([127, 0, 0, 2].into(), None);
    more.is_for([127, 0, 0, 1].into(), None);
    assert!(!new.is_heavy() && more.is_heavy());
    let begun = Instant::now();
    assert_eq!(new.admitted(Duration::from_secs(3)).await, Ok(()));
    let mut lease = Lease::new(&new, Kind::Hello);
    assert!(lease.try_grow(SMALL));
    // No more than what is set aside.
    let many: Vec<Lease> = std::iter::repeat_with(|| Lease::new(&budget.enter(), Kind::Hello))
        .map_while(|mut lease| lease.try_grow(SMALL).then_some(lease))
        .take(limit / SMALL)
        .collect();
    assert_eq!(many.len() + 1, limit / 16 / SMALL);
    drop((many, over));
    assert_eq!(begun.elapsed(), Duration::ZERO);
    assert_eq!(more.admitted(Duration::from_millis(100)).await, Err(NoRoom));
    // Its own connections end for it.
    let mut ending = tokio::task::JoinSet::new();
    for (holder, lease) in held {
        ending.spawn(async move {
            holder.given_up().await;
            drop(lease);
        });
    }
    assert_eq!(more.admitted(Duration::from_secs(3)).await, Ok(()));
    assert!(budget.ended() < 200, "{budget:?}");
    ending.shutdown().await;
    assert_eq!(budget.overdrawn.load(Ordering::Relaxed), SMALL);
    drop(lease);
    assert_eq!((budget.sum(), budget.overdrawn.load(Ordering::Relaxed)), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn what_the_process_needs_beside_it_is_taken_from_the_limit() {
    let limit = 10_000_000;
    let (budget, held) = pressed(limit * 3 / 4);
    budget.set_limit(limit);
    assert!(!budget.is_short());
    budget.fits(limit * 2);
    assert_eq!((budget.in_force(), budget.ended()), (limit, 0));
    tokio::time::advance(STALLED).await;
    budget.fits(limit / 2);
    assert_eq!((budget.in_force(), budget.limit()), (limit / 2, limit));
    let left = held.iter().filter(|(holder, _)| holder.cancel().ending().is_none()).count();
    assert!(left * 50_000 <= limit * 3 / 8 && budget.ended() > 0, "{left}");
    budget.fits(0);
    assert_eq!(budget.in_force(), limit / 4, "it never goes to nothing");
    budget.fits(limit);
    assert_eq!(budget.in_force(), limit);
}
