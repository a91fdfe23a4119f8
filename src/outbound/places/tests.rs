//! The sharing out, by itself and with a clock: who waits, who is asked again, and that nobody feels another.

use std::net::Ipv4Addr;
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use super::*;

fn client(last: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, 0, 0, last))
}

/// One question of one client.
fn ask(places: &Arc<Places>, question: u64, last: u8) -> (Interest, Turn) {
    (places.interest(question, client(last)), places.queue(question))
}

fn on_the_wire(asked: &[(Interest, Turn)]) -> Vec<bool> {
    asked.iter().map(|(interest, _)| interest.is_on_the_wire()).collect()
}

#[test]
fn a_client_alone_has_every_place_and_its_own_questions_wait_for_each_other() {
    let places = Places::new(4);
    let mut asked: Vec<_> = (0..6).map(|question| ask(&places, question, 1)).collect();
    assert_eq!(on_the_wire(&asked), [true, true, true, true, false, false]);
    asked.remove(0);
    assert_eq!(on_the_wire(&asked), [true, true, true, true, false]);
}

#[test]
fn a_second_client_has_its_half_at_once_and_the_longest_on_the_wire_go_back() {
    let places = Places::new(4);
    let first: Vec<_> = (0..6).map(|question| ask(&places, question, 1)).collect();
    let mut second: Vec<_> = (10..13).map(|question| ask(&places, question, 2)).collect();
    assert_eq!(on_the_wire(&second), [true, true, false]);
    assert_eq!(on_the_wire(&first), [false, false, true, true, false, false]);
    // Another client waits: a place that comes back goes to the one that holds fewer.
    second.remove(0);
    assert_eq!(on_the_wire(&second), [true, true]);
    second.clear();
    // Then the first client's own queue, in the order in which the questions came or went back.
    assert_eq!(on_the_wire(&first), [false, false, true, true, true, true]);
}

#[test]
fn a_question_counts_for_the_asker_that_holds_fewest_and_is_not_asked_again_for_that() {
    let places = Places::new(2);
    let first = [ask(&places, 0, 1), ask(&places, 1, 1)];
    let second = places.interest(0, client(2));
    // The third client needs a place. The oldest question is the second client's as well, and is charged to it.
    let third = ask(&places, 2, 3);
    assert!(!third.0.is_on_the_wire(), "both places are then held by one client each");
    assert_eq!(on_the_wire(&first), [true, true]);
    // The second leaves: the first is charged again, and gives one up.
    drop(second);
    assert!(third.0.is_on_the_wire());
    assert_eq!(on_the_wire(&first), [false, true]);
}

#[test]
fn whoever_asks_the_same_question_brings_it_onto_the_wire() {
    let places = Places::new(2);
    let first: Vec<_> = (0..5).map(|question| ask(&places, question, 1)).collect();
    assert_eq!(on_the_wire(&first), [true, true, false, false, false]);
    let second = places.interest(4, client(2));
    assert_eq!(on_the_wire(&first), [false, true, false, false, true]);
    drop(second);
    assert_eq!(on_the_wire(&first), [false, true, false, false, true], "it goes on for the first");
}

#[test]
fn nothing_is_left_of_questions_that_are_over() {
    let places = Places::new(1);
    let (interest, turn) = ask(&places, 0, 1);
    let waits = ask(&places, 1, 2);
    drop(turn);
    let late = places.interest(0, client(3));
    drop((interest, late, waits));
    let state = places.lock();
    assert_eq!((state.free, state.questions.len(), state.clients.len()), (1, 0, 0));
    assert!(state.waiting.is_empty() && state.holding.is_empty());
}

#[derive(Clone, Debug)]
enum Step {
    /// A client asks a question, alone or with others.
    Ask { client: u8, question: u64 },
    /// Of those that wait, this one leaves.
    Leave(prop::sample::Index),
    /// Of the questions, this one is answered.
    Answer(prop::sample::Index),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let ask = (0..6u8, 0..40u64).prop_map(|(client, question)| Step::Ask { client, question });
    let any = any::<prop::sample::Index>;
    let step = prop_oneof![6 => ask, 2 => any().prop_map(Step::Leave), 1 => any().prop_map(Step::Answer)];
    vec(step, 1..200)
}

proptest! {
    /// Whatever comes in whatever order: no place is idle while a question waits, nobody that waits holds less than
    /// another by two or more, and all is counted.
    #[test]
    fn while_one_waits_nobody_holds_more_than_its_share(count in 1..12usize, steps in steps()) {
        let places = Places::new(count);
        let mut interests: Vec<(u64, Interest)> = Vec::new();
        let mut turns: HashMap<u64, Turn> = HashMap::new();
        for step in steps {
            match step {
                Step::Ask { client: last, question } => {
                    interests.push((question, places.interest(question, client(last))));
                    turns.entry(question).or_insert_with(|| places.queue(question));
                }
                Step::Leave(at) if !interests.is_empty() => {
                    let (question, interest) = interests.swap_remove(at.index(interests.len()));
                    drop(interest);
                    // A question dies with its last asker.
                    if !interests.iter().any(|(other, _)| *other == question) {
                        turns.remove(&question);
                    }
                }
                Step::Answer(at) if !turns.is_empty() => {
                    let question = *turns.keys().nth(at.index(turns.len())).unwrap();
                    turns.remove(&question);
                    interests.retain(|(other, _)| *other != question);
                }
                Step::Leave(_) | Step::Answer(_) => {}
            }
            let state = places.lock();
            let held: usize = state.clients.values().map(|client| client.on_the_wire.len()).sum();
            prop_assert_eq!(state.free + held, count);
            let most = state.clients.values().map(|client| client.on_the_wire.len()).max().unwrap_or(0);
            for client in state.clients.values().filter(|client| !client.waiting.is_empty()) {
                prop_assert_eq!(state.free, 0);
                prop_assert!(most <= client.on_the_wire.len() + 1, "{} and {most}", client.on_the_wire.len());
            }
            for (number, question) in &state.questions {
                let by: Vec<IpAddr> = state.clients.iter().filter(|(_, client)| {
                    client.on_the_wire.iter().any(|(_, on_the_wire)| on_the_wire == number)
                }).map(|(address, _)| *address).collect();
                match question.standing {
                    Standing::OnTheWire { charged, .. } => prop_assert_eq!(by, [charged]),
                    Standing::Idle | Standing::Waiting { .. } => prop_assert!(by.is_empty()),
                }
            }
        }
        turns.clear();
        interests.clear();
        let state = places.lock();
        prop_assert_eq!((state.free, state.questions.len(), state.clients.len()), (count, 0, 0));
    }
}

const TIMEOUT: Duration = Duration::from_secs(5);

/// Asks as the resolver does: from the beginning again where the place was lost. `takes`: None for a silent server.
/// The result is when it was answered.
async fn lookup(places: Arc<Places>, number: u64, of: u8, at: u64, takes: Option<u64>) -> Option<Duration> {
    let start = Instant::now();
    sleep(Duration::from_millis(at)).await;
    let (interest, turn) = (places.interest(number, client(of)), places.queue(number));
    let answered = async {
        loop {
            turn.granted().await;
            let answer = async {
                match takes {
                    Some(takes) => sleep(Duration::from_millis(takes)).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = answer => return,
                () = turn.revoked() => {}
            }
        }
    };
    let done = timeout_at(Instant::now() + TIMEOUT, answered).await.is_ok();
    drop((turn, interest));
    done.then(|| start.elapsed() - Duration::from_millis(at))
}

/// What one quiet client asks: when, and how long the answer takes.
fn quiet() -> impl Strategy<Value = Vec<(u64, u64)>> {
    vec((0..3_000u64, 1..300u64), 1..5)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Clients that want no more than their equal part are answered as if they were alone, whatever the others ask: to
    /// the millisecond, by a clock that moves only when all wait.
    #[test]
    fn a_client_within_its_share_does_not_feel_the_others(
        quiet in vec(quiet(), 1..4),
        flood in vec((0..3_000u64, prop_oneof![4 => Just(None), 1 => (1..2_000u64).prop_map(Some)]), 0..120),
        attackers in 1..4u8,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let late = runtime.block_on(async {
            // Room for four questions of each.
            let places = Places::new(4 * (quiet.len() + usize::from(attackers)));
            let mut numbers = 0..;
            let mut tasks = Vec::new();
            for (at, takes) in flood {
                let number = numbers.next().unwrap();
                let of = 100 + u8::try_from(number % u64::from(attackers)).unwrap();
                tokio::spawn(lookup(places.clone(), number, of, at, takes));
            }
            for (of, asks) in quiet.into_iter().enumerate() {
                for (at, takes) in asks {
                    let of = u8::try_from(of).unwrap();
                    let asked = lookup(places.clone(), numbers.next().unwrap(), of, at, Some(takes));
                    tasks.push((takes, tokio::spawn(asked)));
                }
            }
            let mut late = Vec::new();
            for (takes, task) in tasks {
                let took = task.await.unwrap();
                if took != Some(Duration::from_millis(takes)) {
                    late.push((takes, took));
                }
            }
            late
        });
        prop_assert_eq!(late, []);
    }
}

#[tokio::test(start_paused = true)]
async fn a_place_that_is_lost_is_told_and_the_next_one_too() {
    let places = Places::new(1);
    let (_first, turn) = ask(&places, 0, 1);
    turn.granted().await;
    let waiting = places.clone();
    let other = tokio::spawn(async move {
        let (_interest, turn) = ask(&waiting, 1, 2);
        turn.granted().await;
        Instant::now()
    });
    // One each is just: the other waits.
    sleep(Duration::from_secs(1)).await;
    assert!(!other.is_finished());
    let more = ask(&places, 2, 1);
    assert!(!more.0.is_on_the_wire());
    drop(turn);
    let granted = other.await.unwrap();
    more.1.granted().await;
    assert_eq!(granted, Instant::now());
    let _third = ask(&places, 3, 1);
    sleep_until(granted + Duration::from_secs(1)).await;
    assert!(more.0.is_on_the_wire(), "nobody else waits");
}
