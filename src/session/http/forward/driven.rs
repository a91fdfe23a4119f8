//! hyper's side of a connection to a target, which goes on within the task of its client.
//!
//! A task of its own would have to be woken for each head and each piece of a body, and would wake the client's in turn: with
//! several workers mostly on another thread, which costs more than the piece itself. So what uses the connection drives it:
//! an exchange while it lasts, and the wait for the client's next head, so that a target that closes in between is noticed.
//! [`at_once`] spares the task the detour over the scheduler when one half of an exchange wakes the other. The caller pins what goes
//! on: an argument that an `async fn` pins itself is in memory twice.

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use tokio::task::coop;

use crate::transport::turns::come_again;

/// So often in a row what wakes itself is polled again; then other tasks have their turn.
const TURNS: usize = 32;

/// hyper's future of a connection. It ends with the connection, whose errors come back through its sender; dropping it ends
/// the connection in any state.
pub(super) struct Driven {
    /// `None` once it has ended.
    connection: Option<Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>>,
    woken: Woken,
    /// Of what goes on together with it.
    other: Woken,
}

impl Driven {
    pub(super) fn new(connection: impl Future<Output = hyper::Result<()>> + Send + 'static) -> Self {
        Driven { connection: Some(Box::pin(connection)), woken: Woken::new(), other: Woken::new() }
    }

    /// Goes on as far as it can without waiting, if it was woken.
    pub(super) fn go_on(&mut self, cx: &Context<'_>) {
        self.woken.wakes(cx.waker());
        self.turn();
    }

    fn turn(&mut self) {
        if self.woken.take()
            && let Some(connection) = &mut self.connection
            && connection.as_mut().poll(&mut self.woken.context()).is_ready()
        {
            self.connection = None;
        }
    }

    /// Whether it goes on. What ended is closed.
    pub(super) fn is_open(&self) -> bool {
        self.connection.is_some()
    }

    /// Goes on for as long as `future` does. When one wakes the other, that has its turn at once, as long as they `may_go_on`; and
    /// neither is polled for what only concerns the other.
    pub(super) async fn during<F: Future>(
        &mut self,
        mut future: Pin<&mut F>,
        may_go_on: impl Fn() -> bool,
    ) -> F::Output {
        self.other.again();
        poll_fn(|cx| {
            self.woken.wakes(cx.waker());
            self.other.wakes(cx.waker());
            let (polled, again) = in_turns(&may_go_on, || {
                self.woken.begin();
                self.other.begin();
                self.turn();
                let polled = match self.other.take() {
                    true => future.as_mut().poll(&mut self.other.context()),
                    false => Poll::Pending,
                };
                (polled, self.woken.end() | self.other.end())
            });
            if again {
                cx.waker().wake_by_ref();
            }
            polled
        })
        .await
    }
}

impl fmt::Debug for Driven {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driven").field("is_open", &self.is_open()).finish()
    }
}

/// Polls `future` again at once if it was woken while it was polled, as its parts do that pass something on to each other, as long as
/// it `may_go_on`. Woken from outside, it wakes its task as any future does.
pub(super) async fn at_once<F: Future>(mut future: Pin<&mut F>, may_go_on: impl Fn() -> bool) -> F::Output {
    let woken = Woken::new();
    poll_fn(|cx| {
        woken.wakes(cx.waker());
        let (polled, again) = in_turns(&may_go_on, || {
            woken.begin();
            // What woke it before this sees the future polled after this.
            woken.take();
            (future.as_mut().poll(&mut woken.context()), woken.end())
        });
        if again {
            come_again(cx);
        }
        polled
    })
    .await
}

/// Polls by `turn` until that is ready, or says that it was not woken meanwhile; at most [`TURNS`] times, and as long as it `may_go_on`. Whether
/// the task has to come again.
fn in_turns<T>(may_go_on: impl Fn() -> bool, mut turn: impl FnMut() -> (Poll<T>, bool)) -> (Poll<T>, bool) {
    for _ in 0..TURNS {
        let (polled, again) = turn();
        if polled.is_ready() || !again {
            return (polled, false);
        }
        // Without a budget nothing would be ready.
        if !may_go_on() || !coop::has_budget_remaining() {
            break;
        }
    }
    (Poll::Pending, true)
}

/// Notes that a future was woken. Its task is woken only if that is not about to look by itself.
struct Woken {
    flags: Arc<Flags>,
    waker: Waker,
}

struct Flags {
    task: Mutex<Option<Waker>>,
    /// Its task looks at `again` when this ends.
    is_turn: AtomicBool,
    again: AtomicBool,
}

impl Woken {
    /// As good as woken: no future was polled yet.
    fn new() -> Self {
        let flags =
            Flags { task: Mutex::default(), is_turn: AtomicBool::new(false), again: AtomicBool::new(true) };
        let flags = Arc::new(flags);
        Woken { waker: Waker::from(Arc::clone(&flags)), flags }
    }

    fn wakes(&self, task: &Waker) {
        let mut held = self.flags.task.lock().unwrap_or_else(PoisonError::into_inner);
        if !held.as_ref().is_some_and(|held| held.will_wake(task)) {
            *held = Some(task.clone());
        }
    }

    fn context(&self) -> Context<'_> {
        Context::from_waker(&self.waker)
    }

    /// It is to be polled.
    fn again(&self) {
        self.flags.again.store(true, SeqCst);
    }

    /// Whether it was woken, once.
    fn take(&self) -> bool {
        self.flags.again.swap(false, SeqCst)
    }

    fn begin(&self) {
        self.flags.is_turn.store(true, SeqCst);
    }

    /// Whether it was woken and not polled since. Who wakes it notes that first and then looks whose turn it is, and here it is the
    /// other way round: so one of both sees the other, and nothing is lost.
    fn end(&self) -> bool {
        self.flags.is_turn.store(false, SeqCst);
        self.flags.again.load(SeqCst)
    }
}

impl Wake for Flags {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.again.store(true, SeqCst);
        if !self.is_turn.load(SeqCst) {
            let task = self.task.lock().unwrap_or_else(PoisonError::into_inner).clone();
            if let Some(task) = task {
                task.wake();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[derive(Default)]
    struct Counted(AtomicUsize);

    impl Wake for Counted {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, SeqCst);
        }
    }

    /// Polls `future` once, and says how often it woke its task.
    fn polled<F: Future>(future: Pin<&mut F>, counted: &Arc<Counted>) -> (Poll<F::Output>, usize) {
        let waker = Waker::from(Arc::clone(counted));
        let polled = future.poll(&mut Context::from_waker(&waker));
        (polled, counted.0.swap(0, SeqCst))
    }

    #[test]
    fn what_wakes_itself_goes_on_at_once_and_not_for_ever() {
        for (times, polls, wakes) in
            [(0, 1, 0), (3, 1, 0), (TURNS - 1, 1, 0), (TURNS, 2, 1), (3 * TURNS, 4, 3)]
        {
            let mut left = times;
            let counting_down = pin!(poll_fn(|cx| {
                if left == 0 {
                    return Poll::Ready(());
                }
                left -= 1;
                cx.waker().wake_by_ref();
                Poll::Pending
            }));
            let mut future = pin!(at_once(counting_down, || true));
            let counted = Arc::default();
            let mut woke = 0;
            for poll in 1..=polls {
                let (is_ready, wakes) = polled(future.as_mut(), &counted);
                assert_eq!(is_ready.is_ready(), poll == polls, "{times}: poll {poll}");
                woke += wakes;
            }
            assert_eq!(woke, wakes, "{times}");
        }
    }

    #[test]
    fn what_may_not_go_on_comes_again() {
        let left = AtomicUsize::new(3);
        let waking = pin!(poll_fn(|cx| {
            left.fetch_sub(1, SeqCst);
            cx.waker().wake_by_ref();
            Poll::<()>::Pending
        }));
        let mut future = pin!(at_once(waking, || left.load(SeqCst) > 0));
        assert_eq!(polled(future.as_mut(), &Arc::default()), (Poll::Pending, 1));
        assert_eq!(left.load(SeqCst), 0);
    }

    #[test]
    fn what_is_woken_from_outside_wakes_its_task_each_time() {
        let kept: Mutex<Option<Waker>> = Mutex::default();
        let keeping = pin!(poll_fn(|cx| {
            *kept.lock().expect("no panic") = Some(cx.waker().clone());
            Poll::<()>::Pending
        }));
        let mut future = pin!(at_once(keeping, || true));
        let counted = Arc::default();
        for _ in 0..3 {
            assert_eq!(polled(future.as_mut(), &counted), (Poll::Pending, 0));
            kept.lock().expect("no panic").take().expect("polled").wake();
            assert_eq!(counted.0.swap(0, SeqCst), 1);
        }
    }

    #[test]
    fn a_connection_and_what_uses_it_wake_each_other_and_not_their_task() {
        const TIMES: usize = 10;
        let (ask, mut asked) = tokio::sync::mpsc::channel(1);
        let (answer, mut answers) = tokio::sync::mpsc::channel(1);
        let (polls, polled_connection) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let count = |polls: &Arc<AtomicUsize>| {
            let polls = Arc::clone(polls);
            move || polls.fetch_add(1, SeqCst)
        };
        let mut driven = Driven::new(counting(count(&polled_connection), async move {
            while let Some(number) = asked.recv().await {
                answer.send(number).await.expect("used");
            }
            Ok(())
        }));
        {
            let asking = pin!(counting(count(&polls), async {
                for number in 0..TIMES {
                    ask.send(number).await.expect("open");
                    assert_eq!(answers.recv().await, Some(number));
                }
                // Waits for nothing more of the connection.
                std::future::pending::<()>().await;
            }));
            let mut using = pin!(driven.during(asking, || true));
            let counted = Arc::default();
            assert_eq!(polled(using.as_mut(), &counted), (Poll::Pending, 0));
            // A wake for nothing polls neither.
            let before = (polls.load(SeqCst), polled_connection.load(SeqCst));
            assert!(before.0 <= TIMES + 1 && before.1 <= TIMES + 1, "{before:?}");
            assert_eq!(polled(using.as_mut(), &counted), (Poll::Pending, 0));
            assert_eq!((polls.load(SeqCst), polled_connection.load(SeqCst)), before);
        }
        assert!(driven.is_open());
        drop(ask);
        driven.go_on(&Context::from_waker(Waker::noop()));
        assert!(!driven.is_open());
    }

    async fn counting<F: Future>(mut count: impl FnMut() -> usize, future: F) -> F::Output {
        let mut future = pin!(future);
        poll_fn(|cx| {
            count();
            future.as_mut().poll(cx)
        })
        .await
    }

    /// Wakes from another thread at any moment: none is lost, or this would never end.
    #[test]
    fn no_wake_is_lost_that_comes_from_another_thread() {
        const TIMES: usize = 20_000;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().expect("threads");
        let (to, mut from) = tokio::sync::mpsc::channel(1);
        let received = runtime.spawn(async move {
            let receiving = pin!(async move {
                let mut received = 0;
                while let Some(()) = from.recv().await {
                    received += 1;
                }
                received
            });
            at_once(receiving, || true).await
        });
        runtime.block_on(async {
            for _ in 0..TIMES {
                to.send(()).await.expect("received");
            }
            drop(to);
            assert_eq!(received.await.expect("no panic"), TIMES);
        });
    }
}
