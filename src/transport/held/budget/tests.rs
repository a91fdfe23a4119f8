//! A budget that is short.

use proptest::prelude::*;

use super::search::{SEARCH_PAUSE, SEARCH_PAUSE_AT_LIMIT};
use super::*;
use crate::transport::held::choose::STALLED;
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
    let many: Vec<Lease> = (3..=u8::MAX)
        .map(|last| Lease::new(&newcomer(&budget, last), Kind::Hello))
        .map_while(|mut lease| lease.try_grow(SMALL).then_some(lease))
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
    drop(lease);
    assert_eq!((budget.sum(), lock(&budget.drawn).all()), (0, 0));
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
    assert!(left * 50_000 <= limit / 2 * 7 / 8 && budget.ended() > 0, "{left}");
    budget.fits(0);
    assert_eq!(budget.in_force(), limit / 4, "it never goes to nothing");
    budget.fits(limit);
    assert_eq!(budget.in_force(), limit);
    // A reload brings the number that it had, and no memory.
    budget.fits(limit / 2);
    budget.set_limit(limit);
    assert_eq!((budget.in_force(), budget.limit()), (limit / 2, limit));
    budget.set_limit(limit / 4);
    assert_eq!(budget.in_force(), limit / 4);
}

/// Accounts of upload budgets, the log: nobody can be ended for them.
#[tokio::test(start_paused = true)]
async fn what_no_connection_holds_is_taken_from_what_they_share_and_never_all_of_it() {
    let limit = 10_000_000;
    let budget = HeldBytes::new(limit);
    let greedy = newcomer(&budget, 1);
    for (apart, of_connections) in
        [(0, limit), (4_000_000, 6_000_000), (9_000_000, limit / 4), (limit * 2, limit / 4)]
    {
        budget.charge(Kind::Budget, apart);
        assert_eq!(budget.in_force(), apart + of_connections);
        let mut lease = Lease::new(&greedy, Kind::Body);
        assert!(!lease.try_grow(of_connections * 9 / 10), "beyond the mark");
        assert!(lease.try_grow(of_connections * 8 / 10) && !budget.is_short(), "{budget:?}");
        drop(lease);
        budget.give_back(Kind::Budget, apart);
    }
    assert_eq!((budget.sum(), budget.in_force()), (0, limit));
}

/// Clients that hold all that there is are told from the one that comes, at whatever limit, and beside whatever is held by nobody.
#[test]
fn who_holds_much_is_known_by_it_whatever_is_left_for_connections() {
    let clock =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let of = |thousandths: u32| 10_000_000 / 1000 * thousandths as usize;
    let least = u32::try_from(1000 * HeldBytes::LEAST.0 / HeldBytes::LEAST.1).unwrap();
    // Of the limit: what nobody holds, what the process leaves, what the kernel takes in beyond it.
    let given = (0u32..700, least..=1000u32, 0u32..300, 1u8..6, 1usize..6);
    proptest!(|((apart, room, beyond, attackers, searches) in given)| {
        clock.block_on(async {
            let budget = HeldBytes::new(of(1000));
            budget.charge(Kind::Budget, of(apart));
            budget.fits(of(room));
            let held: Vec<(Arc<Holder>, Lease)> = (0..)
                .map(|n| newcomer(&budget, 1 + (n % u32::from(attackers)) as u8))
                .take_while(|_| budget.sum() < budget.in_force() + of(beyond))
                .map(|holder| (Arc::clone(&holder), Lease::of(&holder, Kind::Socket, 30_000)))
                .collect();
            for search in 0..searches {
                tokio::time::advance(Duration::from_millis(SEARCH_PAUSE)).await;
                for attacker in 1..=attackers {
                    let again = newcomer(&budget, attacker);
                    prop_assert!(again.is_heavy(), "{attacker} at search {search} {budget:?} {}", budget.in_force());
                    prop_assert!(!Lease::new(&again, Kind::Connection).try_grow(SMALL));
                }
                let quiet = newcomer(&budget, 200);
                prop_assert!(!quiet.is_heavy());
                prop_assert!(Lease::new(&quiet, Kind::Connection).try_grow(SMALL), "{search} {budget:?}");
                prop_assert_eq!(quiet.admitted(Duration::ZERO).await, Ok(()));
            }
            drop(held);
            prop_assert_eq!((budget.sum(), lock(&budget.drawn).all()), (of(apart), 0));
            Ok::<_, TestCaseError>(())
        })?;
    });
}

/// Room is made for a client that holds little and is gone by then, and those that end for it take their time.
#[tokio::test(start_paused = true)]
async fn who_holds_much_is_known_by_it_while_what_was_ended_has_not_left_yet() {
    let limit: usize = 10_000_000;
    let budget = HeldBytes::new(limit);
    let held: Vec<(Arc<Holder>, Lease)> = (0..limit / 50_000)
        .map(|n| newcomer(&budget, 1 + (n % 3) as u8))
        .map(|holder| (Arc::clone(&holder), Lease::of(&holder, Kind::Body, 50_000)))
        .collect();
    tokio::time::advance(Duration::from_millis(SEARCH_PAUSE)).await;
    let mut lease = Lease::new(&newcomer(&budget, 9), Kind::Body);
    assert!(timeout(LOOK_AGAIN * 2, lease.grow(2 * SMALL)).await.is_err());
    let left: usize = held
        .iter()
        .filter(|(holder, _)| holder.cancel().ending().is_none())
        .map(|(_, lease)| lease.bytes())
        .sum();
    assert!(left <= limit / 4 * 3 && budget.sum() == limit, "{left} {budget:?}");
    for search in 0..3 {
        tokio::time::advance(Duration::from_millis(SEARCH_PAUSE)).await;
        for attacker in 1..=3 {
            assert!(newcomer(&budget, attacker).is_heavy(), "{attacker} at search {search}");
        }
    }
}

/// Connections of a client that holds little, as many as it likes, and the first one of another client.
#[tokio::test(start_paused = true)]
async fn no_client_draws_all_that_is_set_aside() {
    let limit = 100_000_000;
    let (budget, _held) = pressed(limit);
    let mut all = Vec::new();
    for client in 2..20 {
        let many: Vec<Lease> =
            std::iter::repeat_with(|| Lease::new(&newcomer(&budget, client), Kind::Connection))
                .map_while(|mut lease| lease.try_grow(6_000).then_some(lease))
                .collect();
        assert!(!many.is_empty() && many.len() * 6_000 <= limit / 16 / 8, "{client}: {}", many.len());
        assert!(Lease::new(&newcomer(&budget, client + 1), Kind::Connection).try_grow(SMALL), "{client}");
        all.push(many);
    }
}

/// A tunnel that began beyond the limit and stays open.
#[tokio::test(start_paused = true)]
async fn what_is_set_aside_is_there_again_once_all_is_within_the_limit() {
    let limit = 10_000_000;
    let (budget, mut held) = pressed(limit);
    let holder = newcomer(&budget, 2);
    let mut open = Lease::new(&holder, Kind::Connection);
    assert!(open.try_grow(10_000));
    assert_eq!(lock(&budget.drawn).all(), 10_000);
    // It proves who it is.
    holder.is_for([127, 0, 0, 2].into(), Some("user:a"));
    assert_eq!(lock(&budget.drawn).all(), 10_000);
    let keeps = Arc::clone(&budget);
    let keeps = tokio::spawn(async move { keeps.keep().await });
    held.truncate(100);
    let settled = async {
        while lock(&budget.drawn).all() > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(Duration::from_secs(60), settled).await.expect("it is settled");
    assert_eq!(open.bytes(), 10_000);
    drop((open, held));
    keeps.abort();
    assert_eq!((budget.sum(), lock(&budget.drawn).all()), (0, 0));
}

/// Its holders stall, between the mark and the limit, and something has ended for want of room.
fn filled_by_one() -> (Arc<HeldBytes>, Vec<(Arc<Holder>, Lease)>) {
    let limit = 10_000_000;
    let (budget, held) = pressed(limit * 9 / 10);
    budget.set_limit(limit);
    (budget, held)
}

fn newcomer(budget: &Arc<HeldBytes>, last: u8) -> Arc<Holder> {
    let holder = budget.enter();
    holder.is_for([127, 0, 0, last].into(), None);
    holder
}

#[tokio::test(start_paused = true)]
async fn who_holds_much_begins_in_turns_while_something_ends_for_it_and_others_are_there() {
    let (budget, held) = filled_by_one();
    assert_eq!(newcomer(&budget, 1).turn(STALLED), Ok(None), "nothing has ended");
    tokio::time::advance(STALLED).await;
    assert_eq!(newcomer(&budget, 1).turn(STALLED), Ok(None), "nobody else is there");
    assert!(budget.ended() > 4, "{budget:?}");
    let ended = budget.ended();
    // A connection is nobody yet: an identity may come that makes it the same client.
    let other = newcomer(&budget, 2);
    assert_eq!(newcomer(&budget, 1).turn(STALLED), Ok(None), "it has not asked yet");
    other.may_begin();
    let begun = Instant::now();
    let turns: Vec<Instant> = std::iter::repeat_with(|| newcomer(&budget, 1).turn(STALLED))
        .map_while(|turn| turn.ok().map(|due| due.expect("it waits")))
        .take(1000)
        .collect();
    assert!((20..=100).contains(&turns.len()), "{}", turns.len());
    assert!(turns.is_sorted() && turns[0] == begun && turns.last().unwrap().duration_since(begun) <= STALLED);
    assert_eq!(newcomer(&budget, 2).turn(STALLED), Ok(None), "it holds little");
    // From here on not all at once: each would come again at once.
    let more: Vec<_> = std::iter::repeat_with(|| {
        let holder = newcomer(&budget, 1);
        let lease = Lease::of(&holder, Kind::Body, 50_000);
        (holder, lease)
    })
    .take(100)
    .collect();
    budget.set_limit(20_000_000);
    budget.fits(15_500_000);
    tokio::time::advance(STALLED).await;
    newcomer(&budget, 1);
    assert!((1..=4).contains(&(budget.ended() - ended)), "{budget:?}");
    drop((held, more));
    tokio::time::advance(Duration::from_secs(2)).await;
    assert_eq!(newcomer(&budget, 1).turn(STALLED), Ok(None), "nothing ends any more");
}

#[tokio::test(start_paused = true)]
async fn an_open_tunnel_of_another_client_is_somebody_else() {
    let (budget, _held) = filled_by_one();
    let other = newcomer(&budget, 2);
    let _lease = Lease::of(&other, Kind::Connection, 10_000);
    tokio::time::advance(STALLED).await;
    newcomer(&budget, 1);
    assert_eq!(newcomer(&budget, 1).turn(STALLED), Ok(None), "it may become another one");
    other.stays_open();
    tokio::time::advance(Duration::from_millis(search::SEARCH_PAUSE)).await;
    newcomer(&budget, 1);
    assert!(newcomer(&budget, 1).turn(STALLED).is_ok_and(|turn| turn.is_some()));
}

/// A client, all of whose connections stall: it is not kept out of its own part, whether others are there or not.
#[tokio::test(start_paused = true)]
async fn a_client_makes_progress_where_its_own_connections_stall() {
    for others in [false, true] {
        progresses(others).await;
    }
}

async fn progresses(others: bool) {
    let (budget, held) = filled_by_one();
    let mut ending = tokio::task::JoinSet::new();
    for (holder, lease) in held {
        ending.spawn(async move {
            holder.given_up().await;
            drop(lease);
        });
    }
    tokio::time::advance(STALLED).await;
    if others {
        newcomer(&budget, 2).may_begin();
    }
    let mut requests = tokio::task::JoinSet::new();
    for _ in 0..100 {
        let holder = newcomer(&budget, 1);
        requests.spawn(async move {
            let admitted = holder.admitted(Duration::from_secs(3)).await;
            // It becomes as large as the others.
            let lease = Lease::of(&holder, Kind::Body, 50_000);
            holder.given_up().await;
            drop(lease);
            admitted
        });
    }
    tokio::time::sleep(Duration::from_secs(10)).await;
    requests.abort_all();
    ending.abort_all();
    while requests.join_next().await.is_some() {}
    let ended = budget.ended();
    assert!(ended >= 80, "{ended}");
}
