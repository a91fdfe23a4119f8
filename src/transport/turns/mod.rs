//! Turns at work that keeps a worker busy, such as a handshake or a tunnel full of bytes: a few at a time, and by client.
//!
//! A runtime serves what is ready in the order in which it became so. Hundreds of handshakes that are ready at once would all come before a
//! byte of an open tunnel, which wants a hundredth of the time of one; and each step of opening one would wait for them anew. Here they wait
//! in a line of their own: as many as there are workers have their turn, and a turn ends only after everything else that is ready had its own,
//! with what the kernel has reported meanwhile. In the line, clients come one after the other, each with what it asked first: a client that
//! asks once does not wait behind another's hundreds.
//!
//! Nobody keeps a turn while it waits for its peer. A turn begins later where it would use up the processor's quota ([`pace`]).

mod pace;
#[cfg(test)]
pub(crate) mod tests;

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker, ready};

use tokio::time::{Sleep, sleep};

pub use pace::{has_quota, keep_to};

/// Of all whose bytes flow: tunnels, and bodies of plain HTTP.
pub static FLOWING: LazyLock<Arc<Turns>> = LazyLock::new(Turns::new);

/// Who takes turns: clients as memory is counted for them ([`Holder::shares_with`](super::held::Holder::shares_with)).
pub type Account = u64;

/// The line, and how many have their turn.
#[derive(Debug)]
pub struct Turns {
    most: usize,
    /// Works for which what they waited for has come, and which have not been polled since: each will want a turn.
    due: AtomicUsize,
    state: Mutex<State>,
}

#[derive(Default, Debug)]
struct State {
    /// How many have their turn.
    taken: usize,
    /// Clients with somebody in line, each once.
    clients: VecDeque<Account>,
    /// Who is in line, by client. Those that have left are skipped when their turn comes.
    waiting: HashMap<Account, VecDeque<Arc<Ticket>>>,
}

/// A place in line.
#[derive(Debug)]
struct Ticket {
    /// Its turn has come. Changed under the lock of the line.
    is_granted: AtomicBool,
    /// Nobody waits for it any more. The same.
    is_gone: AtomicBool,
    task: Mutex<Waker>,
}

impl Turns {
    /// As many at a time as there are workers.
    pub fn new() -> Arc<Self> {
        Turns::of(std::thread::available_parallelism().map_or(1, usize::from))
    }

    /// How many have their turn at a time.
    pub fn at_once(&self) -> usize {
        self.most
    }

    fn of(most: usize) -> Arc<Self> {
        Arc::new(Turns { most, due: AtomicUsize::new(0), state: Mutex::default() })
    }

    /// Does `work` in turns, each from one wait for its peer to the next.
    pub fn take<F: Future + Unpin>(self: &Arc<Self>, client: Account, work: F) -> InTurns<F> {
        let due = Arc::new(Due {
            turns: Arc::clone(self),
            stage: AtomicU8::new(Due::NOT),
            task: Mutex::new(Waker::noop().clone()),
        });
        due.comes();
        InTurns { turn: Turn::of(self, client), due, work, done: None }
    }

    /// Gives it its turn at once, or puts it in line.
    fn ask(&self, client: Account, ticket: &Arc<Ticket>) {
        let mut state = lock(&self.state);
        if state.taken < self.most {
            state.taken += 1;
            ticket.is_granted.store(true, Ordering::Release);
            return;
        }
        let State { clients, waiting, .. } = &mut *state;
        let line = waiting.entry(client).or_insert_with(|| {
            clients.push_back(client);
            VecDeque::new()
        });
        line.push_back(Arc::clone(ticket));
    }

    /// Whether anybody waits for a turn, or will want one as soon as a worker comes to it.
    fn has_others(&self) -> bool {
        self.due.load(Ordering::Acquire) > 0 || !lock(&self.state).clients.is_empty()
    }

    /// The turn of `ticket` is over, if it had one: the next client's has come.
    fn give_back(&self, ticket: &Ticket, is_gone: bool) {
        let mut state = lock(&self.state);
        ticket.is_gone.store(is_gone, Ordering::Relaxed);
        if !ticket.is_granted.swap(false, Ordering::AcqRel) {
            return;
        }
        let next = state.next();
        match &next {
            Some(next) => next.is_granted.store(true, Ordering::Release),
            None => state.taken -= 1,
        }
        drop(state);
        if let Some(next) = next {
            lock(&next.task).wake_by_ref();
        }
    }
}

impl State {
    /// Whose turn it is, if anybody waits.
    fn next(&mut self) -> Option<Arc<Ticket>> {
        while let Some(client) = self.clients.pop_front() {
            let Some(line) = self.waiting.get_mut(&client) else { continue };
            let next =
                std::iter::from_fn(|| line.pop_front()).find(|next| !next.is_gone.load(Ordering::Relaxed));
            if line.is_empty() {
                self.waiting.remove(&client);
            } else {
                self.clients.push_back(client);
            }
            if next.is_some() {
                return next;
            }
        }
        None
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    /// It wants none.
    Out,
    InLine,
    /// It had its turn, which it keeps until the others had theirs.
    Had,
}

/// One that takes turns. Dropping it gives its turn back.
#[derive(Debug)]
pub struct Turn {
    turns: Arc<Turns>,
    client: Account,
    ticket: Arc<Ticket>,
    stage: Stage,
    /// Its turn has come, and begins when this is over.
    pause: Option<Pin<Box<Sleep>>>,
}

impl Turn {
    /// It wants none yet.
    pub fn of(turns: &Arc<Turns>, client: Account) -> Self {
        let (is_granted, is_gone, task) = (false.into(), false.into(), Mutex::new(Waker::noop().clone()));
        let ticket = Arc::new(Ticket { is_granted, is_gone, task });
        Turn { turns: Arc::clone(turns), client, ticket, stage: Stage::Out, pause: None }
    }

    /// Waits for the next turn. If it is ready, [`Turn::had`] or [`Turn::unused`] says what became of it.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.over();
        lock(&self.ticket.task).clone_from(cx.waker());
        if self.stage == Stage::Out {
            self.turns.ask(self.client, &self.ticket);
            self.stage = Stage::InLine;
        }
        if !self.ticket.is_granted.load(Ordering::Acquire) {
            return Poll::Pending;
        }
        if self.pause.is_none() {
            self.pause = pace::pause().map(|pause| Box::pin(sleep(pause)));
        }
        if let Some(pause) = &mut self.pause {
            ready!(pause.as_mut().poll(cx));
            self.pause = None;
            pace::paused();
        }
        Poll::Ready(())
    }

    /// It was used: it ends when everything else that is ready now had its turn, for which the task is woken again.
    pub fn had(&mut self, cx: &mut Context<'_>) {
        self.stage = Stage::Had;
        come_again(cx);
    }

    /// The same where nobody else wants one: it ends at once. Whether it goes on.
    ///
    /// A task that is woken for the end of its turn alone costs a processor more than a short turn does: another worker is woken to take it.
    fn used(&mut self, cx: &mut Context<'_>) -> bool {
        let goes_on = self.turns.has_others();
        if goes_on {
            self.had(cx);
        } else {
            self.unused();
        }
        goes_on
    }

    /// There was nothing to do.
    pub fn unused(&mut self) {
        self.stage = Stage::Had;
        self.over();
    }

    /// Ends a turn that was used.
    fn over(&mut self) {
        if self.stage == Stage::Had {
            self.stage = Stage::Out;
            self.turns.give_back(&self.ticket, false);
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if self.stage != Stage::Out {
            self.turns.give_back(&self.ticket, true);
        }
    }
}

/// Wakes the task when everything else that is ready has had its turn. A task that wakes itself comes again before the runtime has asked
/// the kernel what else is ready, which it does after some sixty tasks.
pub fn come_again(cx: &mut Context<'_>) {
    // With its first poll it leaves the waker with the runtime, for after that.
    let _ = pin!(tokio::task::yield_now()).poll(cx);
}

/// Whether what it is waiting for has come.
#[derive(Debug)]
struct Due {
    turns: Arc<Turns>,
    stage: AtomicU8,
    task: Mutex<Waker>,
}

impl Due {
    const NOT: u8 = 0;
    const DUE: u8 = 1;
    /// The work was dropped. Its waker may live on.
    const GONE: u8 = 2;

    fn comes(&self) {
        if self.stage.compare_exchange(Due::NOT, Due::DUE, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
            self.turns.due.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// Whether it had come.
    fn is_seen(&self) -> bool {
        let was =
            self.stage.compare_exchange(Due::DUE, Due::NOT, Ordering::AcqRel, Ordering::Relaxed).is_ok();
        if was {
            self.turns.due.fetch_sub(1, Ordering::AcqRel);
        }
        was
    }
}

impl Wake for Due {
    fn wake(self: Arc<Self>) {
        self.comes();
        lock(&self.task).wake_by_ref();
    }
}

impl<F: Future> Drop for InTurns<F> {
    fn drop(&mut self) {
        if self.due.stage.swap(Due::GONE, Ordering::AcqRel) == Due::DUE {
            self.due.turns.due.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

/// Work that is done in turns. Dropping it gives its turn back.
#[must_use = "a future does nothing unless it is awaited"]
pub struct InTurns<F: Future> {
    turn: Turn,
    due: Arc<Due>,
    work: F,
    done: Option<F::Output>,
}

impl<F: Future + Unpin> Future for InTurns<F>
where
    F::Output: Unpin,
{
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = &mut *self;
        this.turn.over();
        if let Some(output) = this.done.take() {
            return Poll::Ready(output);
        }
        lock(&this.due.task).clone_from(cx.waker());
        // From here on it is in line, where it counts as well.
        if this.turn.stage == Stage::Out && !this.due.is_seen() {
            return Poll::Pending;
        }
        ready!(this.turn.poll(cx));
        // What has come meanwhile is seen by this turn.
        this.due.is_seen();
        let waker = Waker::from(Arc::clone(&this.due));
        let polled = Pin::new(&mut this.work).poll(&mut Context::from_waker(&waker));
        if !this.turn.used(cx) {
            return polled;
        }
        if let Poll::Ready(output) = polled {
            this.done = Some(output);
        }
        Poll::Pending
    }
}

/// Plain values: a panic elsewhere leaves them correct.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
