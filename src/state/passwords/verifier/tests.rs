//! Most tests take the thread's steps themselves, so that the order of answers does not depend on time.

use std::pin::pin;
use std::task::{Context, Poll, Waker};

use super::*;
use crate::wire::basic_auth::credentials;

/// `user` has the password `right`, at the lowest cost.
fn users() -> Arc<Users> {
    users_of(&["user"])
}

fn users_of(names: &[&str]) -> Arc<Users> {
    let hash = bcrypt::hash_with_salt("right", 4, [7; 16]).unwrap();
    let text: String = names.iter().map(|name| format!("{name}:{hash}\n")).collect();
    Arc::new(Users::parse(text.as_bytes()).unwrap().0)
}

fn client(last: u8) -> IpAddr {
    IpAddr::from([192, 0, 2, last])
}

fn limits() -> PasswordLimits {
    PasswordLimits { queue: 4, queue_per_client: 2, ..PasswordLimits::default() }
}

type Answer = Result<PasswordCheck, Busy>;

/// An answer that is there without any work of the thread.
fn at_once(future: impl Future<Output = Answer>) -> Option<Answer> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(answer) => Some(answer),
        Poll::Pending => None,
    }
}

/// Asks; with `Later`, the place in the queue is held by what is returned.
fn ask(verifier: &PasswordVerifier, users: &Arc<Users>, from: u8, pair: (&str, &str)) -> CheckAnswer {
    verifier.shared.ask(users, client(from), &credentials(pair.0, pair.1))
}

fn later(asked: CheckAnswer) -> oneshot::Receiver<Answer> {
    match asked {
        CheckAnswer::Later(receiver) => receiver,
        CheckAnswer::Known(answer) => panic!("answered at once: {answer:?}"),
    }
}

fn known(asked: CheckAnswer) -> Answer {
    match asked {
        CheckAnswer::Known(answer) => answer,
        CheckAnswer::Later(_) => panic!("queued"),
    }
}

#[tokio::test]
async fn passwords_are_verified_on_the_thread() {
    let verifier = PasswordVerifier::start(PasswordLimits::default()).unwrap();
    let users = users();
    let cases = [
        ("user", "right", PasswordCheck::Right),
        ("user", "wrong", PasswordCheck::Wrong),
        ("nobody", "right", PasswordCheck::Wrong),
        ("user", "", PasswordCheck::Wrong),
    ];
    for (user, password, expected) in cases {
        let answer = verifier.verify(&users, client(1), &credentials(user, password)).await;
        assert_eq!(answer, Ok(expected), "{user} {password}");
    }
}

#[test]
fn a_pair_is_hashed_once_right_or_wrong() {
    let verifier = PasswordVerifier::new(limits()).unwrap();
    let users = users();
    for (pair, expected) in
        [(("user", "right"), PasswordCheck::Right), (("user", "wrong"), PasswordCheck::Wrong)]
    {
        let before = verifier.verifications();
        let answer = later(ask(&verifier, &users, 1, pair));
        assert!(verifier.shared.verify_next(&mut Scratch::default()));
        assert_eq!(answer.blocking_recv().unwrap(), Ok(expected));
        for from in 1..9 {
            let pair = credentials(pair.0, pair.1);
            let again = at_once(verifier.verify(&users, client(from), &pair));
            assert_eq!(again, Some(Ok(expected)));
        }
        assert_eq!(verifier.verifications(), before + 1);
    }
}

#[test]
fn an_unknown_user_costs_the_hashes_that_a_known_one_does() {
    let verifier = PasswordVerifier::new(limits()).unwrap();
    let users = users();
    let cost = |pair| {
        let before = verifier.verifications();
        let answer = later(ask(&verifier, &users, 1, pair));
        assert!(verifier.shared.verify_next(&mut Scratch::default()));
        assert_eq!(answer.blocking_recv().unwrap(), Ok(PasswordCheck::Wrong));
        let first = verifier.verifications() - before;
        assert_eq!(known(ask(&verifier, &users, 1, pair)), Ok(PasswordCheck::Wrong));
        (first, verifier.verifications() - before)
    };
    assert_eq!(cost(("user", "wrong")), (1, 1));
    assert_eq!(cost(("nobody", "wrong")), (1, 1));
}

#[test]
fn the_stand_in_of_a_name_stays_the_same_and_is_not_everywhere_the_same() {
    let (verifier, other) =
        (PasswordVerifier::new(limits()).unwrap(), PasswordVerifier::new(limits()).unwrap());
    let users = users();
    let places = |verifier: &PasswordVerifier| -> Vec<usize> {
        (0..8).map(|number| verifier.shared.stand_in(&users, &format!("nobody{number}"))).collect()
    };
    assert_eq!(places(&verifier), places(&verifier));
    assert_ne!(places(&verifier), places(&other), "it hangs on the key of the process");
}

#[test]
fn the_queue_is_bounded_and_one_client_has_a_part_of_it() {
    let verifier = PasswordVerifier::new(limits()).unwrap();
    let users = users();
    let first = later(ask(&verifier, &users, 1, ("user", "a")));
    let _second = later(ask(&verifier, &users, 1, ("user", "b")));
    assert_eq!(known(ask(&verifier, &users, 1, ("user", "c"))), Err(Busy), "the client's part");
    let _third = later(ask(&verifier, &users, 2, ("user", "c")));
    let _fourth = later(ask(&verifier, &users, 3, ("user", "d")));
    assert_eq!(known(ask(&verifier, &users, 4, ("user", "e"))), Err(Busy), "the queue");
    assert_eq!(Busy.reason(), Reason::ClientRateLimited);

    assert!(verifier.shared.verify_next(&mut Scratch::default()));
    assert_eq!(first.blocking_recv().unwrap(), Ok(PasswordCheck::Wrong));
    let _fifth = later(ask(&verifier, &users, 1, ("user", "e")));
}

#[test]
fn the_same_pair_from_many_connections_takes_one_place_and_one_hash() {
    let verifier = PasswordVerifier::new(limits()).unwrap();
    let users = users();
    let answers: Vec<_> =
        (0..100).map(|from| later(ask(&verifier, &users, from, ("user", "right")))).collect();
    let _other = later(ask(&verifier, &users, 1, ("user", "wrong")));
    assert!(verifier.shared.verify_next(&mut Scratch::default()));
    for answer in answers {
        assert_eq!(answer.blocking_recv().unwrap(), Ok(PasswordCheck::Right));
    }
    assert_eq!(verifier.verifications(), 1);
}

#[test]
fn a_pair_that_nobody_waits_for_is_not_hashed_and_holds_no_place() {
    let verifier = PasswordVerifier::new(limits()).unwrap();
    let users = users();
    for number in 0..100 {
        drop(later(ask(&verifier, &users, 1, ("user", &format!("guess {number}")))));
    }
    let answer = later(ask(&verifier, &users, 1, ("user", "right")));
    assert!(verifier.shared.verify_next(&mut Scratch::default()));
    assert_eq!(answer.blocking_recv().unwrap(), Ok(PasswordCheck::Right));
    assert_eq!(verifier.verifications(), 1);
    let state = verifier.shared.lock();
    assert!(state.queue.is_empty() && state.waiting.is_empty() && state.by_client.is_empty());
}

#[test]
fn a_flood_of_guesses_pushes_out_no_right_pair() {
    let verifier = PasswordVerifier::new(PasswordLimits { wrong: 2, ..limits() }).unwrap();
    let users = users();
    let answer = later(ask(&verifier, &users, 1, ("user", "right")));
    assert!(verifier.shared.verify_next(&mut Scratch::default()));
    assert_eq!(answer.blocking_recv().unwrap(), Ok(PasswordCheck::Right));
    for number in 0..20 {
        let guess = later(ask(&verifier, &users, 2, ("user", &format!("guess {number}"))));
        assert!(verifier.shared.verify_next(&mut Scratch::default()));
        assert_eq!(guess.blocking_recv().unwrap(), Ok(PasswordCheck::Wrong));
    }
    assert_eq!(known(ask(&verifier, &users, 1, ("user", "right"))), Ok(PasswordCheck::Right));
}

#[test]
fn another_users_file_is_another_question_and_the_same_content_is_not() {
    let verifier = PasswordVerifier::new(limits()).unwrap();
    let answer = later(ask(&verifier, &users(), 1, ("user", "right")));
    assert!(verifier.shared.verify_next(&mut Scratch::default()));
    assert_eq!(answer.blocking_recv().unwrap(), Ok(PasswordCheck::Right));
    assert_eq!(known(ask(&verifier, &users(), 1, ("user", "right"))), Ok(PasswordCheck::Right));

    let answer = later(ask(&verifier, &users_of(&["other"]), 1, ("user", "right")));
    assert!(verifier.shared.verify_next(&mut Scratch::default()));
    assert_eq!(answer.blocking_recv().unwrap(), Ok(PasswordCheck::Wrong), "the user was taken out");
}

#[test]
fn what_is_remembered_expires() {
    let none = Duration::ZERO;
    let verifier =
        PasswordVerifier::new(PasswordLimits { right_for: none, wrong_for: none, ..limits() }).unwrap();
    let users = users();
    for password in ["right", "right", "wrong", "wrong"] {
        let answer = later(ask(&verifier, &users, 1, ("user", password)));
        assert!(verifier.shared.verify_next(&mut Scratch::default()));
        answer.blocking_recv().unwrap().unwrap();
    }
    assert_eq!(verifier.verifications(), 4);
}

#[test]
fn pairs_that_read_the_same_without_the_cut_are_two() {
    let verifier = PasswordVerifier::new(limits()).unwrap();
    let users = users();
    let tag = |user, password| verifier.shared.tag(&users, &credentials(user, password));
    assert!(tag("ab", "c") != tag("a", "bc"));
    assert!(tag("a", "b") == tag("a", "b"));
}

#[test]
fn it_rests_after_a_wrong_password_and_not_after_a_right_one() {
    let verifier = PasswordVerifier::new(limits()).unwrap();
    let users = users();
    let rests_until = || verifier.shared.lock().rests_until;
    let before = rests_until();
    let _right = later(ask(&verifier, &users, 1, ("user", "right")));
    assert!(verifier.shared.verify_next(&mut Scratch::default()));
    assert_eq!(rests_until(), before);
    let _wrong = later(ask(&verifier, &users, 1, ("user", "wrong")));
    assert!(verifier.shared.verify_next(&mut Scratch::default()));
    assert!(rests_until() > before);

    // A client with a wrong password waits for the end of the rest.
    let _again = later(ask(&verifier, &users, 1, ("user", "another guess")));
    let end = rests_until();
    assert!(verifier.shared.verify_next(&mut Scratch::default()));
    assert!(Instant::now() >= end);
}

#[test]
fn under_a_quota_who_was_wrong_waits_seven_times_as_long_as_it_took() {
    let verifier = PasswordVerifier::new(PasswordLimits::under_quota()).unwrap();
    let users = users();
    let _guess = later(ask(&verifier, &users, 1, ("user", "guess")));
    let take = |of_suspects| verifier.shared.lock().take(Instant::now(), Duration::ZERO, of_suspects);
    let job = take(Duration::ZERO).unwrap();
    for (took, waits) in [(100, 700), (5000, 14_000)] {
        let before = Instant::now();
        verifier.shared.answer(&job, Ok(PasswordCheck::Wrong), Duration::from_millis(took));
        let until = verifier.shared.lock().suspects_wait_until;
        let waits = Duration::from_millis(waits);
        assert!((before + waits..=Instant::now() + waits).contains(&until));
    }
    // It waits, and others do not.
    let _again = later(ask(&verifier, &users, 1, ("user", "again")));
    assert!(take(Duration::from_millis(1)).is_none());
    let _other = later(ask(&verifier, &users, 2, ("user", "right")));
    assert_eq!(take(Duration::from_secs(14)).unwrap().client, client(2));
    assert!(take(Duration::from_millis(1)).is_none());
    // Nor does one that has the same pair.
    let _same = later(ask(&verifier, &users, 3, ("user", "again")));
    assert_eq!(take(Duration::from_secs(14)).unwrap().client, client(1));
}

#[test]
fn whoever_was_not_wrong_comes_first_and_does_not_wait_for_the_rest() {
    let verifier = PasswordVerifier::new(PasswordLimits { queue_per_client: 4, ..limits() }).unwrap();
    let users = users();
    let _wrong = later(ask(&verifier, &users, 1, ("user", "wrong")));
    assert!(verifier.shared.verify_next(&mut Scratch::default()));
    let _guesses = ["a", "b", "c"].map(|guess| later(ask(&verifier, &users, 1, ("user", guess))));
    let right = later(ask(&verifier, &users, 2, ("user", "right")));
    let rest = |rest: Duration| verifier.shared.lock().rests_until = Instant::now() + rest;
    rest(MAX_REST - Duration::from_millis(1));
    assert!(verifier.shared.verify_next(&mut Scratch::default()));
    assert_eq!(right.blocking_recv().unwrap(), Ok(PasswordCheck::Right));
    assert_eq!(verifier.verifications(), 2, "the guesses still wait");

    let take = |owed| verifier.shared.lock().take(Instant::now(), owed, owed).map(|job| job.client);
    let _new = later(ask(&verifier, &users, 3, ("user", "new")));
    assert_eq!(take(MAX_REST), None, "too much is owed for anybody");
    assert_eq!(take(MAX_REST / 2), Some(client(3)));
    assert_eq!(take(MAX_REST / 2), None, "who was wrong waits");
    assert_eq!(take(Duration::ZERO), Some(client(1)));
}

#[test]
fn who_guessed_gives_the_place_in_a_full_queue_to_who_did_not() {
    let verifier = PasswordVerifier::new(limits()).unwrap();
    let users = users();
    for from in 1..=4 {
        verifier.shared.lock().suspect(client(from), Instant::now());
    }
    let mut guesses: Vec<_> =
        (1..=4).map(|from| later(ask(&verifier, &users, from, ("user", &format!("guess {from}"))))).collect();
    assert_eq!(known(ask(&verifier, &users, 1, ("user", "again"))), Err(Busy), "no better than the others");
    let right = later(ask(&verifier, &users, 9, ("user", "right")));
    assert_eq!(guesses.pop().unwrap().blocking_recv().unwrap(), Err(Busy), "the last one");
    assert_eq!(verifier.shared.lock().by_client.get(&client(4)), None, "its place is given back");
    assert!(verifier.shared.verify_next(&mut Scratch::default()));
    assert_eq!(right.blocking_recv().unwrap(), Ok(PasswordCheck::Right));
    assert_eq!(verifier.verifications(), 1);

    // Clients that did not guess keep their places.
    let verifier = PasswordVerifier::new(limits()).unwrap();
    let _waiting: Vec<_> =
        (1..=4).map(|from| later(ask(&verifier, &users, from, ("user", &format!("{from}"))))).collect();
    assert_eq!(known(ask(&verifier, &users, 9, ("user", "right"))), Err(Busy));
}

#[test]
fn a_right_password_clears_a_client_and_suspects_are_bounded() {
    let verifier = PasswordVerifier::new(limits()).unwrap();
    let users = users();
    for password in ["wrong", "right"] {
        let answer = later(ask(&verifier, &users, 1, ("user", password)));
        assert!(verifier.shared.verify_next(&mut Scratch::default()));
        answer.blocking_recv().unwrap().unwrap();
        let is_suspect = verifier.shared.lock().suspects.contains_key(&client(1));
        assert_eq!(is_suspect, password == "wrong");
    }
    let mut state = verifier.shared.lock();
    let (start, many) = (Instant::now(), u32::try_from(2 * SUSPECTS).unwrap());
    for number in 0..many {
        state.suspect(IpAddr::from(number.to_be_bytes()), start);
    }
    assert_eq!(state.suspects.len(), SUSPECTS);
    state.suspect(client(9), start + SUSPECT_FOR);
    assert_eq!(state.suspects.keys().collect::<Vec<_>>(), [&client(9)]);
}

#[test]
fn whoever_waits_when_the_verifier_goes_is_told() {
    let verifier = PasswordVerifier::new(limits()).unwrap();
    let shared = Arc::clone(&verifier.shared);
    let answer = later(ask(&verifier, &users(), 1, ("user", "right")));
    drop(verifier);
    assert!(answer.blocking_recv().is_err());
    assert!(!shared.verify_next(&mut Scratch::default()));
}

#[test]
fn no_key_and_no_password_is_shown() {
    let verifier = PasswordVerifier::new(limits()).unwrap();
    let _waits = later(ask(&verifier, &users(), 1, ("user", "sesame")));
    let shown = format!("{verifier:?}");
    assert!(
        shown.starts_with("PasswordVerifier { limits: PasswordLimits {") && !shown.contains("sesame"),
        "{shown}"
    );
}
