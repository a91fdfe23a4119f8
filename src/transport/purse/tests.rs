use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{advance, timeout};

use super::bank::{Errand, WithoutStore};
use super::ledger::Claim;
use super::*;

const TERMS: Terms = Terms { budget: 1 << 20, window: 3_600_000 };
const MINUTE: u64 = 60_000;

fn bank(on_failure: OnFailure, replicas: u32) -> (Arc<Bank<Purse>>, UnboundedReceiver<Errand<Purse>>) {
    Bank::new(7, WithoutStore { on_failure, replicas })
}

fn purse(bank: &Arc<Bank<Purse>>) -> Arc<Purse> {
    Purse::new("account".into(), TERMS, bank)
}

fn asked(queue: &mut UnboundedReceiver<Errand<Purse>>) -> Option<Arc<Purse>> {
    match queue.try_recv() {
        Ok(Errand::Ask(purse)) => Some(purse),
        _ => None,
    }
}

async fn takes(purse: &Arc<Purse>, bytes: u64) -> Result<u64, Reason> {
    poll_fn(|cx| purse.poll_take(cx, (bytes, bytes))).await.map(|taken| taken.bytes)
}

fn grant(purse: &Purse, number: u64, granted: u64, rest: u64) {
    purse.answered(number, Answer { now: 0, granted, ends: MINUTE, rest });
}

#[tokio::test(start_paused = true)]
async fn who_wants_bytes_waits_for_one_question_and_is_woken_by_its_answer() {
    let (bank, mut queue) = bank(OnFailure::Deny, 1);
    let purse = purse(&bank);
    let waits = {
        let purse = Arc::clone(&purse);
        tokio::spawn(async move { takes(&purse, 100).await })
    };
    tokio::task::yield_now().await;
    let other = {
        let purse = Arc::clone(&purse);
        tokio::spawn(async move { takes(&purse, 5000).await })
    };
    tokio::task::yield_now().await;
    assert!(asked(&mut queue).is_some());
    assert!(asked(&mut queue).is_none(), "two wait for one question");
    let ask = purse.message(false, None);
    assert!(ask.want >= 5000, "{ask:?}");
    grant(&purse, ask.number, 6000, 1 << 19);
    assert_eq!(waits.await.unwrap(), Ok(100));
    assert_eq!(other.await.unwrap(), Ok(5000));
    // Nearly used up: the next block is asked for before anything waits.
    assert!(asked(&mut queue).is_some());
    assert_eq!(takes(&purse, 900).await, Ok(900));
}

#[tokio::test(start_paused = true)]
async fn what_is_used_up_is_refused_at_once_and_asked_again_after_a_second() {
    let (bank, mut queue) = bank(OnFailure::Deny, 1);
    let purse = purse(&bank);
    assert!(purse.take(1).is_none());
    let asked_for = asked(&mut queue).expect("a question");
    grant(&purse, asked_for.message(false, None).number, 0, 0);
    assert_eq!(takes(&purse, 1).await, Err(Reason::UploadBudget));
    assert!(asked(&mut queue).is_none(), "nobody asks again so soon");
    advance(Duration::from_millis(HOLDS)).await;
    assert!(timeout(Duration::from_millis(10), takes(&purse, 1)).await.is_err());
    assert!(asked(&mut queue).is_some());
}

#[tokio::test(start_paused = true)]
async fn a_lease_is_used_without_the_store_and_is_over_with_its_step() {
    let (bank, mut queue) = bank(OnFailure::Deny, 1);
    let purse = purse(&bank);
    assert!(purse.take(1).is_none());
    asked(&mut queue).expect("a question");
    grant(&purse, purse.message(false, None).number, 500, 0);
    purse.failed();
    assert_eq!(takes(&purse, 200).await, Ok(200), "what is leased is there");
    assert_eq!(takes(&purse, 301).await, Err(Reason::SharedStateUnavailable));
    advance(Duration::from_millis(MINUTE - 1)).await;
    assert_eq!(takes(&purse, 100).await, Ok(100));
    advance(Duration::from_millis(1)).await;
    purse.failed();
    assert_eq!(takes(&purse, 1).await, Err(Reason::SharedStateUnavailable), "the rest lapsed");
    let told = purse.message(false, None);
    assert_eq!(told.claims, [Claim { ends: MINUTE, bytes: 300 }]);
}

#[tokio::test(start_paused = true)]
async fn without_the_store_local_grants_a_share_of_what_was_left() {
    let (bank, mut queue) = bank(OnFailure::Local, 4);
    let purse = purse(&bank);
    purse.failed();
    // Nothing was ever heard: a quarter of the budget.
    assert_eq!(takes(&purse, TERMS.budget / 4 + 1).await, Err(Reason::UploadBudget));
    assert_eq!(takes(&purse, 1000).await, Ok(1000));
    assert!(purse.take(1).is_some());
    asked(&mut queue);
    // Once the store is there, it is told; and what it says is left counts from then on.
    let clock = Clock { store: 5_000_000, sent: bank.now() };
    let told = purse.message(false, Some(clock));
    assert_eq!(told.claims.iter().map(|claim| claim.bytes).sum::<u64>(), 1001);
    assert!(told.claims.iter().all(|claim| claim.ends >= 5_000_000));
    purse.answered(told.number, Answer { now: 5_000_000, granted: 0, ends: 5_040_000, rest: 4000 });
    purse.failed();
    assert_eq!(takes(&purse, 1001).await, Err(Reason::UploadBudget));
    assert_eq!(takes(&purse, 1000).await, Ok(1000));
    // After a window all of that has left it.
    advance(Duration::from_millis(TERMS.longest())).await;
    purse.failed();
    assert_eq!(takes(&purse, TERMS.budget / 4).await, Ok(TERMS.budget / 4));
}

#[tokio::test(start_paused = true)]
async fn a_store_whose_leases_are_over_when_they_come_counts_as_too_slow() {
    let (bank, mut queue) = bank(OnFailure::Deny, 1);
    let purse = purse(&bank);
    let waits = {
        let purse = Arc::clone(&purse);
        tokio::spawn(async move { takes(&purse, 1).await })
    };
    for _ in 0..IN_VAIN {
        tokio::task::yield_now().await;
        let purse = asked(&mut queue).expect("it is asked again");
        let number = purse.message(false, None).number;
        advance(Duration::from_millis(MINUTE)).await;
        grant(&purse, number, 100, 1000);
    }
    assert_eq!(waits.await.unwrap(), Err(Reason::SharedStateUnavailable));
}

#[tokio::test(start_paused = true)]
async fn blocks_grow_while_they_are_used_up_at_once_however_slow_the_store_is() {
    let (bank, mut queue) = bank(OnFailure::Deny, 1);
    let purse = purse(&bank);
    let mut blocks = Vec::new();
    assert!(purse.take(1).is_none());
    for _ in 0..4 {
        let ask = asked(&mut queue).expect("a question").message(false, None);
        blocks.push(ask.want);
        advance(Duration::from_secs(4)).await;
        grant(&purse, ask.number, ask.want, 1 << 19);
        purse.take(ask.want).expect("it is there");
    }
    assert_eq!(blocks, [4096, 8192, 16_384, 16_384], "at most a 64th");
    advance(Duration::from_secs(4)).await;
    assert!(asked(&mut queue).is_some_and(|purse| purse.message(false, None).want == 16_384));
}

#[tokio::test(start_paused = true)]
async fn a_purse_that_is_gone_says_what_it_used() {
    let (bank, mut queue) = bank(OnFailure::Deny, 1);
    let purse = purse(&bank);
    assert!(purse.take(1).is_none());
    drop(asked(&mut queue));
    grant(&purse, purse.message(false, None).number, 500, 0);
    let taken = purse.take(200).unwrap();
    purse.put_back(taken, 50);
    let holder = purse.holder;
    drop(purse);
    let Ok(Errand::Close { holder: of, last, .. }) = queue.try_recv() else { panic!("it says nothing") };
    assert_eq!((of, last.want, last.claims.len()), (holder, 0, 1));
    assert_eq!(last.claims[0].bytes, 150);
    assert!(!bank.is_used());
}

#[tokio::test(start_paused = true)]
async fn what_is_idle_or_over_falls_due_once() {
    let (bank, mut queue) = bank(OnFailure::Deny, 1);
    let purse = purse(&bank);
    let idle = Duration::from_secs(5);
    assert!(!purse.falls_due(idle, None), "it has nothing");
    assert!(purse.take(1).is_none());
    asked(&mut queue).expect("a question");
    grant(&purse, purse.message(false, None).number, 500, 1000);
    purse.take(400).unwrap();
    asked(&mut queue);
    grant(&purse, purse.message(false, None).number, 0, 1000);
    assert!(!purse.falls_due(idle, None), "it was just used");
    advance(idle).await;
    assert!(purse.falls_due(idle, None));
    assert!(!purse.falls_due(idle, None), "it is under way");
    let told = purse.message(true, None);
    assert_eq!((told.want, told.claims[0].bytes), (0, 400));
    grant(&purse, told.number, 0, 1100);
    assert!(!purse.falls_due(idle, None));
}
