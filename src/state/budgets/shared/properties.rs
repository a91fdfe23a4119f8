//! The algebra of leases, as a property: some replicas, a store, and whatever a network, a crash and an operator can do to them. However it
//! goes, nobody sends more than the budget within a window, save what a dead replica used and the store lost.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use super::model::{Data, Message, Reply, Store, Told};
use crate::transport::purse::ledger::{Answer, Ask, Clock, Ledger, Terms};

const TERMS: Terms = Terms { budget: 1000, window: 60_000 };
const SETTLE: u64 = 8_000;
const START: u64 = 1_700_000_000_000;

#[derive(Clone, Debug)]
enum Event {
    /// A replica asks, is answered at once, and uses a part of it.
    Draw { replica: Index, want: u64, unused: u64 },
    /// A replica asks for bytes.
    Ask { replica: Index, want: u64 },
    /// It gives back what it has left.
    GiveBack(Index),
    /// A message arrives, in any order.
    Arrives(Index),
    /// Its answer arrives.
    Answered(Index),
    /// The answer is lost.
    Lost(Index),
    /// A replica waits no longer. Its message may still arrive.
    Abandoned(Index),
    /// A tunnel takes bytes, and puts some back.
    Use { replica: Index, want: u64, unused: u64 },
    /// A replica ends without a word, and another starts.
    Killed(Index),
    /// Time passes.
    Wait(u64),
    /// The store's data is written down.
    Saved,
    /// The store starts again, with everything, and with its clock set forward by so much.
    Restarted(u64),
    /// It starts again with what was saved, or fails over to a server that has no more than that, and whose clock is so far ahead.
    FellBack(u64),
    /// It starts again with nothing, and with its clock set forward by so much.
    Emptied(u64),
    /// Somebody sets the server's clock back.
    SetBack(u64),
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let index = any::<Index>;
    let event = prop_oneof![
        20 => (index(), 1..1500u64, prop_oneof![Just(0), 0..300u64])
            .prop_map(|(replica, want, unused)| Event::Draw { replica, want, unused }),
        8 => (index(), 1..400u64).prop_map(|(replica, want)| Event::Ask { replica, want }),
        2 => index().prop_map(Event::GiveBack),
        12 => index().prop_map(Event::Arrives),
        12 => index().prop_map(Event::Answered),
        1 => index().prop_map(Event::Lost),
        2 => index().prop_map(Event::Abandoned),
        12 => (index(), 1..300u64, 0..100u64)
            .prop_map(|(replica, want, unused)| Event::Use { replica, want, unused }),
        1 => index().prop_map(Event::Killed),
        6 => prop_oneof![4 => 0..400u64, 2 => 400..5_000u64, 2 => 5_000..70_000u64, 2 => 58_500..61_000u64].prop_map(Event::Wait),
        1 => Just(Event::Saved),
        1 => ahead().prop_map(Event::Restarted),
        1 => ahead().prop_map(Event::FellBack),
        1 => ahead().prop_map(Event::Emptied),
        1 => (0..200_000u64).prop_map(Event::SetBack),
    ];
    vec(event, 1..250)
}

/// By how much the clock of the next server is ahead.
fn ahead() -> impl Strategy<Value = u64> {
    prop_oneof![2 => Just(0), 1 => 0..200_000u64]
}

struct Replica {
    name: String,
    ledger: Ledger,
    epoch: String,
    /// The number of the message that it waits for, and when it was sent.
    waits: Option<(u64, u64)>,
    /// What was sent, when.
    sent: Vec<(u64, u64)>,
    /// It has not noticed yet that the store was started again.
    behind: bool,
}

struct World {
    now: u64,
    store: Store,
    saved: Data,
    replicas: Vec<Replica>,
    /// What dead ones sent, when, and until when they had told nothing.
    dead: Vec<(u64, u64, u64)>,
    /// When the store last lost something, or its clock was set forward, so that it forgot something too early.
    lost: Option<u64>,
    messages: Vec<(String, Message, u64)>,
    answers: Vec<(String, u64, Reply, u64)>,
    names: u32,
    runs: u32,
    /// When the replicas have noticed that at the latest.
    noticed: Option<u64>,
}

impl World {
    fn new() -> Self {
        let store = Store { clock: START, run: "0000".to_owned(), settle: SETTLE, ..Store::default() };
        let mut world = World {
            now: 0,
            store,
            saved: Data::default(),
            replicas: Vec::new(),
            dead: Vec::new(),
            lost: None,
            messages: Vec::new(),
            answers: Vec::new(),
            names: 0,
            runs: 0,
            noticed: None,
        };
        for _ in 0..3 {
            world.start();
        }
        world.pass(SETTLE);
        world
    }

    fn start(&mut self) {
        let epoch = self.store.run("a", None).id;
        self.names += 1;
        let name = format!("r{}", self.names);
        let ledger = Ledger::default();
        let replica = Replica { name, ledger, epoch, waits: None, sent: Vec::new(), behind: false };
        self.replicas.push(replica);
    }

    fn pass(&mut self, millis: u64) {
        // Before a new epoch has settled, every replica that lives has told what it used.
        if let Some(noticed) = self.noticed
            && self.now + millis >= noticed
        {
            for at in 0..self.replicas.len() {
                self.notice(at);
            }
            self.noticed = None;
        }
        self.now += millis;
        self.store.clock += millis;
    }

    fn notice(&mut self, at: usize) {
        let replica = &mut self.replicas[at];
        if !std::mem::take(&mut replica.behind) {
            return;
        }
        if replica.waits.take().is_some() {
            replica.ledger.unanswered();
        }
        let hello = self.store.run("a", None);
        if hello.id != replica.epoch {
            replica.ledger.lapse(self.now);
            replica.ledger.epoch_ended(Clock { store: hello.now, sent: self.now }, TERMS);
            replica.epoch = hello.id;
        }
        let ask = replica.ledger.ask(TERMS, 0);
        replica.waits = Some((ask.number, self.now));
        let reply = self.store.run("a", Some(&message(replica, &ask)));
        receive(replica, self.now, ask.number, &reply, self.now);
    }

    fn restart(&mut self, data: Option<Data>, ahead: u64) {
        self.runs += 1;
        self.store.run = format!("{:04}", self.runs);
        self.store.clock += ahead;
        if data.is_some() || ahead > 0 {
            self.lost = Some(self.now);
        }
        if let Some(data) = data {
            self.store.data = data;
        }
        // Somebody is first.
        self.store.run("a", None);
        for replica in &mut self.replicas {
            replica.behind = true;
        }
        self.noticed = Some(self.now + SETTLE);
    }

    fn happens(&mut self, event: Event) {
        let (now, replicas) = (self.now, self.replicas.len());
        match event {
            Event::Ask { replica, want } => self.ask(replica.index(replicas), want),
            Event::Draw { replica, want, unused } => {
                let at = replica.index(replicas);
                if self.replicas[at].waits.is_none() {
                    self.ask(at, want);
                    self.arrive(self.messages.len() - 1);
                    self.answer(self.answers.len() - 1);
                    let replica = &mut self.replicas[at];
                    replica.ledger.lapse(now);
                    let taken = replica.ledger.take(replica.ledger.left().saturating_sub(unused));
                    replica.sent.push((now, taken.bytes));
                }
            }
            Event::GiveBack(replica) => {
                let at = replica.index(replicas);
                if self.replicas[at].waits.is_none() {
                    self.replicas[at].ledger.drop_lease();
                    self.ask(at, 0);
                }
            }
            Event::Arrives(which) if !self.messages.is_empty() => {
                self.arrive(which.index(self.messages.len()));
            }
            Event::Answered(which) if !self.answers.is_empty() => {
                self.answer(which.index(self.answers.len()));
            }
            Event::Lost(which) if !self.answers.is_empty() => {
                self.answers.remove(which.index(self.answers.len()));
            }
            Event::Abandoned(replica) => {
                let replica = &mut self.replicas[replica.index(replicas)];
                if replica.waits.take().is_some() {
                    replica.ledger.unanswered();
                }
            }
            Event::Use { replica, want, unused } => {
                let replica = &mut self.replicas[replica.index(replicas)];
                replica.ledger.lapse(now);
                let taken = replica.ledger.take(want);
                let unused = unused.min(taken.bytes);
                replica.ledger.put_back(taken, unused);
                replica.sent.push((now, taken.bytes - unused));
            }
            Event::Killed(replica) => {
                let replica = self.replicas.remove(replica.index(replicas));
                // What it could not tell any more.
                let until = if replica.behind { now } else { self.lost.unwrap_or(0) };
                self.dead.extend(replica.sent.iter().map(|(at, bytes)| (*at, *bytes, until)));
                self.start();
            }
            Event::Wait(millis) => self.pass(millis),
            Event::Saved => self.saved = self.store.data.clone(),
            Event::Restarted(ahead) => self.restart(None, ahead),
            Event::FellBack(ahead) => self.restart(Some(self.saved.clone()), ahead),
            Event::Emptied(ahead) => self.restart(Some(Data::default()), ahead),
            Event::SetBack(millis) => self.store.clock -= millis,
            Event::Arrives(_) | Event::Answered(_) | Event::Lost(_) => {}
        }
    }

    fn arrive(&mut self, at: usize) {
        let (name, message, at) = self.messages.remove(at);
        let reply = self.store.run("a", Some(&message));
        self.answers.push((name, message.number, reply, at));
    }

    fn answer(&mut self, at: usize) {
        let (name, number, reply, at) = self.answers.remove(at);
        if let Some(replica) = self.replicas.iter_mut().find(|replica| replica.name == name) {
            receive(replica, self.now, number, &reply, at);
        }
    }

    fn ask(&mut self, at: usize, want: u64) {
        let replica = &mut self.replicas[at];
        if replica.waits.is_some() {
            return;
        }
        replica.ledger.lapse(self.now);
        let ask = replica.ledger.ask(TERMS, want);
        replica.waits = Some((ask.number, self.now));
        self.messages.push((replica.name.clone(), message(replica, &ask), self.now));
    }

    /// What was sent within the window that ends now; and of it what a dead replica sent before the store lost something.
    fn sent(&self) -> (u64, u64) {
        let within = |at: u64| at + TERMS.window > self.now;
        let live = self.replicas.iter().flat_map(|replica| &replica.sent).filter(|(at, _)| within(*at));
        let live: u64 = live.map(|(_, bytes)| bytes).sum();
        let dead = || self.dead.iter().filter(|(at, ..)| within(*at));
        let lost = self.lost.unwrap_or(0);
        let excused = dead().filter(|(at, _, until)| self.lost.is_some() && *at <= lost.max(*until));
        let excused = excused.map(|(_, bytes, _)| bytes).sum();
        (live + dead().map(|(_, bytes, _)| bytes).sum::<u64>(), excused)
    }
}

fn message(replica: &Replica, ask: &Ask) -> Message {
    Message {
        epoch: replica.epoch.clone(),
        holder: replica.name.clone(),
        number: ask.number,
        budget: ask.terms.budget,
        window: ask.terms.window,
        want: ask.want,
        claims: ask.claims.iter().map(|claim| (claim.ends, claim.bytes)).collect(),
    }
}

fn receive(replica: &mut Replica, now: u64, number: u64, reply: &Reply, at: u64) {
    if replica.waits.is_none_or(|(waits, _)| waits != number) {
        return;
    }
    replica.waits = None;
    match reply.answer {
        Told::Granted(granted, ends, rest) if reply.id == replica.epoch => {
            replica.ledger.answered(Answer { now: reply.now, granted, ends, rest }, at);
        }
        _ => replica.ledger.unanswered(),
    }
    if reply.id != replica.epoch {
        replica.ledger.lapse(now);
        replica.ledger.epoch_ended(Clock { store: reply.now, sent: at }, TERMS);
        replica.epoch = reply.id.clone();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn replicas_together_never_send_more_than_the_budget(events in events()) {
        let mut world = World::new();
        for event in events {
            let shown = format!("{event:?}");
            world.happens(event);
            let (sent, excused) = world.sent();
            prop_assert!(sent <= TERMS.budget + excused, "{sent} sent, {excused} excused, after {shown}");
        }
    }
}

/// A replica asks, and uses all that it gets.
fn sends(world: &mut World, at: usize, want: u64) {
    world.ask(at, want);
    world.arrive(0);
    world.answer(0);
    let replica = &mut world.replicas[at];
    let left = replica.ledger.left();
    replica.ledger.take(left);
    replica.sent.push((world.now, left));
}

#[test]
fn what_was_sent_by_a_clock_that_is_gone_counts_by_the_next_one() {
    for ahead in [0, 100_000] {
        let mut world = World::new();
        // The store writes down what time it is.
        sends(&mut world, 2, 0);
        world.happens(Event::Saved);
        // By this clock nothing was sent yet …
        world.happens(Event::SetBack(100_000));
        world.happens(Event::Emptied(0));
        world.pass(SETTLE);
        sends(&mut world, 0, 600);
        // … and by this one it is out of the window.
        world.happens(Event::FellBack(ahead));
        world.pass(SETTLE);
        sends(&mut world, 1, 1000);
        assert_eq!(world.sent(), (1000, 0), "{ahead}");
        if ahead > 0 {
            // A clock that does not stand still forgets it in time, and not later than a step after that.
            world.pass(TERMS.window - SETTLE - 1);
            sends(&mut world, 1, 1000);
            assert_eq!(world.sent(), (1000, 0));
            world.pass(TERMS.step() + 1);
            sends(&mut world, 1, 1000);
            assert_eq!(world.sent(), (1000, 0));
        }
    }
}

#[test]
fn a_store_that_kept_its_data_counts_nothing_twice() {
    for ahead in [0, 1, 999, 5_000] {
        let mut world = World::new();
        sends(&mut world, 0, 600);
        world.happens(Event::Restarted(ahead));
        world.pass(SETTLE);
        sends(&mut world, 1, 1000);
        assert_eq!(world.sent().0, 1000, "{ahead}");
    }
}

#[test]
fn what_is_refused_was_used_or_is_leased_and_what_is_given_back_is_for_the_others() {
    let mut world = World::new();
    let asks = |world: &mut World, at: usize, want: u64| {
        world.ask(at, want);
        world.arrive(0);
        world.answer(0);
        world.replicas[at].ledger.left()
    };
    let mut granted = 0;
    for round in 0..40 {
        granted += asks(&mut world, round % 3, 30);
        world.replicas[round % 3].ledger.take(30);
    }
    assert_eq!(granted, TERMS.budget, "all of it, and not a byte more");
    let taken = world.replicas[0].ledger.take(0);
    world.replicas[0].ledger.put_back(taken, 100);
    world.replicas[0].ledger.drop_lease();
    assert_eq!(asks(&mut world, 0, 0), 0);
    assert_eq!(asks(&mut world, 1, 500), 100);
}

#[test]
fn an_edit_to_a_shorter_window_forgets_nothing_that_the_longer_one_counts() {
    const HOUR: u64 = 3_600_000;
    let mut store = Store { clock: START, run: "0000".to_owned(), settle: 0, ..Store::default() };
    let mut number = 0;
    let mut asks = |clock: u64, holder: &str, window: u64, want: u64| {
        store.clock = clock;
        number += 1;
        let epoch = store.run("a", None).id;
        let (holder, claims) = (holder.to_owned(), Vec::new());
        let message = Message { epoch, holder, number, budget: 1000, window, want, claims };
        match store.run("a", Some(&message)).answer {
            Told::Granted(granted, ..) => granted,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(asks(START, "x", 24 * HOUR, 600), 600);
    // The step of that is not over yet, so it counts in any window.
    assert_eq!(asks(START + 60_000, "y", 60_000, 1000), 400);
    assert_eq!(asks(START + HOUR, "y", 60_000, 100), 100);
    assert_eq!(asks(START + 5 * HOUR, "x", 24 * HOUR, 1000), 0);
    // The minutes count in the day by its steps.
    assert_eq!(asks(START + 24 * HOUR + HOUR / 2, "x", 24 * HOUR, 1000), 900);
    assert_eq!(asks(START + 26 * HOUR, "x", 24 * HOUR, 1000), 100);
}
