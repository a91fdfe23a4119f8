//! Who has a turn, and when: polled by hand, and by a runtime.

use std::future::poll_fn;

use proptest::prelude::*;
use tokio::io::AsyncReadExt;
use tokio::task::JoinSet;

use super::*;

/// All turns of [`FLOWING`]; nobody else takes all of them meanwhile.
pub(crate) struct AllTaken {
    turns: Vec<Turn>,
    _alone: tokio::sync::MutexGuard<'static, ()>,
}

impl AllTaken {
    /// Nobody has one any more, and nobody takes all of them.
    pub(crate) fn give_back(&mut self) {
        self.turns.clear();
    }
}

pub(crate) async fn all_taken() -> AllTaken {
    static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
    let alone = ALONE.lock().await;
    let mut turns: Vec<Turn> = (0..FLOWING.most as u64).map(|other| Turn::of(&FLOWING, other)).collect();
    for turn in &mut turns {
        poll_fn(|cx| turn.poll(cx)).await;
    }
    AllTaken { turns, _alone: alone }
}

/// Whether somebody of this client is in line.
pub(crate) fn is_in_line(client: Account) -> bool {
    let state = lock(&FLOWING.state);
    let line = state.waiting.get(&client).into_iter().flatten();
    line.into_iter().any(|ticket| !ticket.is_gone.load(Ordering::Relaxed))
}

/// Needs so many turns, and counts them; each time it is woken at once, as by bytes that are there already.
fn work(mut turns: usize, done: Arc<AtomicUsize>) -> impl Future<Output = usize> + Unpin {
    poll_fn(move |cx| {
        let before = done.fetch_add(1, Ordering::Relaxed);
        turns -= 1;
        cx.waker().wake_by_ref();
        if turns == 0 { Poll::Ready(before) } else { Poll::Pending }
    })
}

/// Whatever is ready goes on first.
async fn others() {
    let mut had = false;
    poll_fn(|cx| {
        cx.waker().wake_by_ref();
        if std::mem::replace(&mut had, true) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

#[tokio::test]
async fn who_asks_once_waits_for_nobodys_hundreds() {
    let (turns, done) = (Turns::of(1), Arc::new(AtomicUsize::new(0)));
    let mut many = JoinSet::new();
    for _ in 0..500 {
        many.spawn(turns.take(1, work(3, Arc::clone(&done))));
    }
    // All are in line, and what else is ready has its turn between any two of them.
    others().await;
    let other = tokio::spawn({
        let done = Arc::clone(&done);
        async move {
            for _ in 0..50 {
                let before = done.load(Ordering::Relaxed);
                others().await;
                assert!(done.load(Ordering::Relaxed) - before <= 2);
            }
        }
    });
    other.await.unwrap();
    let before = done.load(Ordering::Relaxed);
    let last = turns.take(2, work(3, Arc::clone(&done))).await;
    assert!(last - before < 10, "{before} {last}");
    many.join_all().await;
    assert_eq!(done.load(Ordering::Relaxed), 501 * 3);
    assert_eq!(lock(&turns.state).taken, 0);
}

/// A task that wakes itself would come sixty times before the kernel is asked.
#[tokio::test]
async fn what_the_kernel_has_comes_before_the_next_turn() {
    let (mut near, far) = tokio::net::UnixStream::pair().unwrap();
    let (turns, done) = (Turns::of(1), Arc::new(AtomicUsize::new(0)));
    let mut many = JoinSet::new();
    for client in 0..3 {
        let (mut turn, done) = (Turn::of(&turns, client), Arc::clone(&done));
        many.spawn(poll_fn(move |cx| {
            ready!(turn.poll(cx));
            done.fetch_add(1, Ordering::Relaxed);
            turn.had(cx);
            Poll::<()>::Pending
        }));
    }
    others().await;
    for _ in 0..20 {
        let reading = tokio::spawn({
            let done = Arc::clone(&done);
            async move {
                near.read_u8().await.unwrap();
                (near, done.load(Ordering::Relaxed))
            }
        });
        others().await;
        let before = done.load(Ordering::Relaxed);
        far.try_write(b"x").unwrap();
        let seen;
        (near, seen) = reading.await.unwrap();
        assert!(seen - before <= 4, "{before} {seen}");
    }
    many.abort_all();
}

/// Counts how often it is woken.
#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn a_task_is_woken_for_the_end_of_its_turn_only_where_others_wait() {
    let turns = Turns::of(1);
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(Arc::clone(&woken));
    let cx = &mut Context::from_waker(&waker);
    let at_once = || turns.take(1, Box::pin(async {}));
    assert!(Pin::new(&mut at_once()).poll(cx).is_ready());
    assert_eq!((woken.0.load(Ordering::Relaxed), lock(&turns.state).taken), (0, 0));
    // Another has the turn, and a third one waits for it.
    let (mut first, mut third) = (Turn::of(&turns, 2), at_once());
    assert!(first.poll(cx).is_ready() && Pin::new(&mut third).poll(cx).is_pending());
    assert!(first.used(cx), "it is woken when the others had theirs");
    assert_eq!(woken.0.load(Ordering::Relaxed), 1);
    assert!(Pin::new(&mut third).poll(cx).is_pending(), "until then it has its turn");
    first.over();
    assert!(Pin::new(&mut third).poll(cx).is_ready());
    assert_eq!(lock(&turns.state).taken, 0);
}

#[tokio::test]
async fn who_waits_for_its_peer_has_no_turn() {
    let turns = Turns::of(1);
    let (tell, mut told) = tokio::sync::oneshot::channel::<()>();
    let mut silent = Box::pin(turns.take(1, Box::pin(async move { (&mut told).await.is_ok() })));
    for _ in 0..3 {
        assert!(poll_fn(|cx| Poll::Ready(silent.as_mut().poll(cx).is_pending())).await);
    }
    assert_eq!(lock(&turns.state).taken, 0);
    tell.send(()).unwrap();
    assert!(silent.await);
}

proptest! {
    /// Whatever is polled, woken and dropped in whatever order: no turn is lost, and none is had by more than there are.
    #[test]
    fn no_turn_is_lost(most in 1usize..3, steps in prop::collection::vec((0usize..8, 0u8..4), 0..200)) {
        let (turns, done) = (Turns::of(most), Arc::new(AtomicUsize::new(0)));
        let mut all: Vec<Option<_>> = (0..8).map(|_| None).collect();
        let cx = &mut Context::from_waker(Waker::noop());
        for (place, step) in steps {
            let one = &mut all[place];
            match step {
                0 => *one = Some(turns.take(place as u64 % 3, work(2, Arc::clone(&done)))),
                1 => *one = None,
                _ => {
                    if let Some(some) = one && Pin::new(some).poll(cx).is_ready() {
                        *one = None;
                    }
                }
            }
            let had = all.iter().flatten().filter(|one| one.turn.ticket.is_granted.load(Ordering::Relaxed)).count();
            prop_assert_eq!(lock(&turns.state).taken, had);
            prop_assert!(had <= most);
        }
        // Who is left gets through, in any order.
        for _ in 0..100 {
            for one in &mut all {
                if let Some(some) = one && Pin::new(some).poll(cx).is_ready() {
                    *one = None;
                }
            }
        }
        prop_assert!(all.iter().all(Option::is_none));
        let state = lock(&turns.state);
        prop_assert!(state.taken == 0 && state.clients.is_empty() && state.waiting.is_empty(), "{:?}", state);
    }
}
