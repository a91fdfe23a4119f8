//! Who may have a question on the wire: the places are shared out by client, so that one client whose questions are not
//! answered is not felt by another. A question is one to name servers, or a handshake in which a target proves its name.
//!
//! A client alone may have every place. While another waits, nobody holds more than its share: a free place goes to the
//! client that holds fewest, of these to the one that has waited longest. If no place is free, the client that holds most
//! gives one up, as long as it holds at least two more: the question that has been on the wire longest goes back to the
//! queue. So a client that wants no more than its equal part never waits and never gives up.
//!
//! A question may have askers of several clients. Each of them can bring it onto the wire, and it is charged to one of
//! them: where that client would have to give it up, another that holds fewer takes it over. Not here: what is asked
//! ([`resolve`](super::resolve), [`certificate`](super::certificate)), and which callers wait for the same answer.

#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// The places, and who holds and wants them.
pub(super) struct Places {
    state: Mutex<State>,
}

/// One asker of a question; dropping it says that the asker no longer waits.
pub(super) struct Interest {
    places: Arc<Places>,
    question: u64,
    client: IpAddr,
}

/// One question in the queue or on the wire. Dropping it frees its place.
pub(super) struct Turn {
    places: Arc<Places>,
    question: u64,
    wake: Arc<Notify>,
}

struct State {
    free: usize,
    questions: HashMap<u64, Question>,
    /// Clients that have a question in the queue or on the wire.
    clients: HashMap<IpAddr, Client>,
    /// Clients with a question in the queue.
    waiting: BTreeSet<InLine>,
    /// Clients that hold places.
    holding: BTreeSet<Holder>,
    /// Counts what happens, instead of a clock: the order is all that matters.
    now: u64,
}

/// How many places a client holds, and since when its oldest question in the queue waits.
type InLine = (usize, u64, IpAddr);
/// How many places a client holds.
type Holder = (usize, IpAddr);

struct Question {
    /// How many askers there are of each client.
    askers: HashMap<IpAddr, usize>,
    standing: Standing,
    wake: Arc<Notify>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Standing {
    /// It does not want a place: not yet, or no longer.
    Idle,
    Waiting {
        since: u64,
    },
    OnTheWire {
        since: u64,
        charged: IpAddr,
    },
}

/// Questions of one client, each with the moment since when it is there.
#[derive(Default)]
struct Client {
    on_the_wire: BTreeSet<(u64, u64)>,
    waiting: BTreeSet<(u64, u64)>,
}

impl Places {
    pub(super) fn new(count: usize) -> Arc<Self> {
        let state = State {
            free: count,
            questions: HashMap::new(),
            clients: HashMap::new(),
            waiting: BTreeSet::new(),
            holding: BTreeSet::new(),
            now: 0,
        };
        Arc::new(Places { state: Mutex::new(state) })
    }

    /// From now on, `client` waits for the answer of `question`.
    pub(super) fn interest(self: &Arc<Self>, question: u64, client: IpAddr) -> Interest {
        let mut state = self.lock();
        let standing = {
            let question = state.question(question);
            *question.askers.entry(client).or_default() += 1;
            question.standing
        };
        if let Standing::Waiting { since } = standing {
            state.change(client, |client| client.waiting.insert((since, question)));
            state.share_out();
        }
        Interest { places: Arc::clone(self), question, client }
    }

    /// Puts `question` into the queues of all its askers.
    pub(super) fn queue(self: &Arc<Self>, question: u64) -> Turn {
        let mut state = self.lock();
        state.wait(question);
        state.share_out();
        let wake = Arc::clone(&state.question(question).wake);
        Turn { places: Arc::clone(self), question, wake }
    }

    #[cfg(test)]
    pub(super) fn free(&self) -> usize {
        self.lock().free
    }

    fn is_on_the_wire(&self, question: u64) -> bool {
        let state = self.lock();
        let standing = state.questions.get(&question).map(|question| question.standing);
        matches!(standing, Some(Standing::OnTheWire { .. }))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics under the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Interest {
    /// Whether the question has a place.
    pub(super) fn is_on_the_wire(&self) -> bool {
        self.places.is_on_the_wire(self.question)
    }
}

impl Turn {
    /// Waits until the question has a place.
    pub(super) async fn granted(&self) {
        self.until(true).await;
    }

    /// Waits until the question has lost its place to another client's.
    pub(super) async fn revoked(&self) {
        self.until(false).await;
    }

    async fn until(&self, granted: bool) {
        while self.places.is_on_the_wire(self.question) != granted {
            // A change that comes before this line is not missed: it leaves a permit.
            self.wake.notified().await;
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut state = self.places.lock();
        state.leave(self.question);
        state.forget_if_idle(self.question);
        state.share_out();
    }
}

impl Drop for Interest {
    fn drop(&mut self) {
        let mut state = self.places.lock();
        state.lose(self.question, self.client);
        state.forget_if_idle(self.question);
        state.share_out();
    }
}

impl State {
    fn question(&mut self, number: u64) -> &mut Question {
        self.questions.entry(number).or_insert_with(|| Question {
            askers: HashMap::new(),
            standing: Standing::Idle,
            wake: Arc::new(Notify::new()),
        })
    }

    fn tick(&mut self) -> u64 {
        self.now += 1;
        self.now
    }

    /// Changes a client, and its place in both orders.
    fn change<T>(&mut self, address: IpAddr, change: impl FnOnce(&mut Client) -> T) {
        let client = self.clients.entry(address).or_default();
        let before = client.ranks(address);
        change(client);
        let after = client.ranks(address);
        if client.is_idle() {
            self.clients.remove(&address);
        }
        if before.0 != after.0 {
            before.0.map(|rank| self.waiting.remove(&rank));
            self.waiting.extend(after.0);
        }
        if before.1 != after.1 {
            before.1.map(|rank| self.holding.remove(&rank));
            self.holding.extend(after.1);
        }
    }

    fn held(&self, client: IpAddr) -> usize {
        self.clients.get(&client).map_or(0, |client| client.on_the_wire.len())
    }

    /// Into the queues.
    fn wait(&mut self, number: u64) {
        let since = self.tick();
        let question = self.question(number);
        question.standing = Standing::Waiting { since };
        let askers: Vec<IpAddr> = question.askers.keys().copied().collect();
        for asker in askers {
            self.change(asker, |client| client.waiting.insert((since, number)));
        }
    }

    /// Out of the queues, or off the wire.
    fn leave(&mut self, number: u64) {
        let question = self.question(number);
        match std::mem::replace(&mut question.standing, Standing::Idle) {
            Standing::Idle => {}
            Standing::Waiting { since } => {
                let askers: Vec<IpAddr> = question.askers.keys().copied().collect();
                for asker in askers {
                    self.change(asker, |client| client.waiting.remove(&(since, number)));
                }
            }
            Standing::OnTheWire { since, charged } => {
                self.free += 1;
                self.change(charged, |client| client.on_the_wire.remove(&(since, number)));
            }
        }
    }

    /// One asker of `client` leaves.
    fn lose(&mut self, number: u64, client: IpAddr) {
        let question = self.question(number);
        let Some(askers) = question.askers.get_mut(&client) else { return };
        *askers -= 1;
        if *askers > 0 {
            return;
        }
        question.askers.remove(&client);
        match question.standing {
            Standing::Idle => {}
            Standing::Waiting { since } => {
                self.change(client, |client| client.waiting.remove(&(since, number)));
            }
            // Without another asker, it ends in a moment, and its place comes back with it.
            Standing::OnTheWire { since, charged } if charged == client => {
                if let Some(next) = self.holds_fewest(number) {
                    self.charge(number, since, charged, next);
                }
            }
            Standing::OnTheWire { .. } => {}
        }
    }

    /// Of the clients that ask a question, the one that holds the fewest places.
    fn holds_fewest(&self, number: u64) -> Option<IpAddr> {
        let askers = self.questions.get(&number)?.askers.keys();
        askers.copied().min_by_key(|asker| (self.held(*asker), *asker))
    }

    /// Another client is charged with a question on the wire.
    fn charge(&mut self, number: u64, since: u64, from: IpAddr, to: IpAddr) {
        self.question(number).standing = Standing::OnTheWire { since, charged: to };
        self.change(from, |client| client.on_the_wire.remove(&(since, number)));
        self.change(to, |client| client.on_the_wire.insert((since, number)));
    }

    /// Gives places to those that wait, until each has its share.
    fn share_out(&mut self) {
        while let Some(&(held, _, client)) = self.waiting.first() {
            if self.free == 0 && !self.make_room(held) {
                return;
            }
            // Room can also be made by charging another client, which may be the one that waits.
            if self.free > 0 {
                self.grant(client);
            }
        }
    }

    fn grant(&mut self, client: IpAddr) {
        let next = self.clients.get(&client).and_then(|client| client.waiting.first().copied());
        let Some((_, number)) = next else { return };
        self.leave(number);
        self.free -= 1;
        let since = self.tick();
        let question = self.question(number);
        question.standing = Standing::OnTheWire { since, charged: client };
        question.wake.notify_one();
        self.change(client, |client| client.on_the_wire.insert((since, number)));
    }

    /// Takes a place from the client that holds most, for one that holds `held`. Whether that is just.
    fn make_room(&mut self, held: usize) -> bool {
        let Some(&(most, client)) = self.holding.last() else { return false };
        if most <= held + 1 {
            return false;
        }
        let oldest = self.clients.get(&client).and_then(|client| client.on_the_wire.first().copied());
        let Some((since, number)) = oldest else { return false };
        match self.holds_fewest(number) {
            Some(other) if other != client && self.held(other) + 1 < most => {
                self.charge(number, since, client, other);
            }
            _ => {
                self.leave(number);
                self.wait(number);
                self.question(number).wake.notify_one();
            }
        }
        true
    }

    fn forget_if_idle(&mut self, number: u64) {
        if let Some(question) = self.questions.get(&number)
            && question.standing == Standing::Idle
            && question.askers.is_empty()
        {
            self.questions.remove(&number);
        }
    }
}

impl Client {
    fn is_idle(&self) -> bool {
        self.on_the_wire.is_empty() && self.waiting.is_empty()
    }

    /// Where it stands in [`State::waiting`] and [`State::holding`].
    fn ranks(&self, address: IpAddr) -> (Option<InLine>, Option<Holder>) {
        let held = self.on_the_wire.len();
        let waiting = self.waiting.first().map(|&(since, _)| (held, since, address));
        (waiting, (held > 0).then_some((held, address)))
    }
}
