//! The client of the store: one task that connects, asks for the purses that are queued, and tells what has to be told.
//!
//! A purse that waits for an answer when the connection fails is asked again over the next one. If the store does not answer for as long as
//! `patience` allows, its purses fail, and with them what waits for bytes. Not here: what is said ([`super::script`]),
//! and over which connection ([`super::link`]).

use std::collections::HashMap;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use redis::{Cmd, Value};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout};

use super::accounts::{TAGS, tag_of};
use super::link::Link;
use super::script::{self, Reply, Said};
use super::settings::Settings;
use super::standing::Standing;
use crate::transport::purse::Purse;
use crate::transport::purse::bank::{Bank, Errand, OnFailure};
use crate::transport::purse::ledger::{Ask, Clock};

/// The time for a link, over all that has to be asked for it.
const OPEN: Duration = Duration::from_secs(20);
/// The time for an answer. After it the connection counts as broken.
const ANSWER: Duration = Duration::from_secs(6);
/// How often the server is looked at, so that a new epoch is noticed although nobody asks.
const LOOK: Duration = Duration::from_secs(2);
/// How often purses are looked at: what lapsed, what is no longer used.
const SWEEP: Duration = Duration::from_secs(1);
/// A lease from which nobody took anything for so long is given back.
const IDLE: Duration = Duration::from_secs(5);
/// Time between two attempts to connect: the first, and the longest.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));
/// Messages in one batch.
const BATCH: usize = 512;
/// Last messages of purses that are gone, while nothing can be sent. More of them lapse.
const MAX_LAST: usize = 4096;

/// How long uploads wait for a store that does not answer.
fn patience(on_failure: OnFailure) -> Duration {
    match on_failure {
        OnFailure::Deny => Duration::from_secs(10),
        OnFailure::Local => Duration::from_secs(2),
    }
}

/// What ends a phase of the client.
enum End {
    /// The connection is of no use any more: why.
    Broken(String),
    /// The settings are others.
    Settings,
    /// The program ends.
    Stop(oneshot::Sender<()>),
}

/// Something that is sent in a batch.
enum Item {
    Look(usize),
    Ask { purse: Arc<Purse>, give_back: bool },
    Last { account: Box<str>, holder: u64, last: Ask },
}

/// What is under way, in the order of its answers.
enum Sent {
    Look(usize),
    Ask { purse: Arc<Purse>, number: u64, wants: bool },
    Last,
}

type Answers = Result<Vec<Value>, String>;

/// The client.
pub(super) struct Client {
    bank: Arc<Bank<Purse>>,
    errands: UnboundedReceiver<Errand<Purse>>,
    settings: watch::Receiver<Arc<Settings>>,
    standing: Arc<Standing>,
    /// By tag; `None`: not known yet.
    epochs: [Option<String>; TAGS],
    /// The server's clock, by tag.
    clocks: [Option<Clock>; TAGS],
    /// What waits until it can be sent.
    waiting: Vec<Item>,
    /// Since when the store does not answer.
    down: Instant,
}

impl Client {
    pub(super) fn new(
        bank: Arc<Bank<Purse>>,
        errands: UnboundedReceiver<Errand<Purse>>,
        settings: watch::Receiver<Arc<Settings>>,
        standing: Arc<Standing>,
    ) -> Self {
        let (epochs, clocks) = (std::array::from_fn(|_| None), [None; TAGS]);
        Client {
            bank,
            errands,
            settings,
            standing,
            epochs,
            clocks,
            waiting: Vec::new(),
            down: Instant::now(),
        }
    }

    /// Runs until the program ends.
    pub(super) async fn run(mut self, mut stopping: mpsc::Receiver<oneshot::Sender<()>>) {
        let mut backoff = BACKOFF.0;
        loop {
            let settings = Arc::clone(&self.settings.borrow_and_update());
            let opened = if settings.is_needed || self.bank.is_used() {
                self.while_down(&mut stopping, timeout(OPEN, Box::pin(Link::open(&settings)))).await
            } else {
                self.standing.idle();
                self.until_needed(&mut stopping).await
            };
            let end = match opened {
                Ok(Some(link)) => {
                    for doubt in &link.doubts {
                        tracing::warn!("shared_state: {doubt}");
                    }
                    let at = link.at();
                    let (end, answered) = Box::pin(self.serve(link, &at, &mut stopping)).await;
                    if answered {
                        (backoff, self.down) = (BACKOFF.0, Instant::now());
                    }
                    end
                }
                Ok(None) => End::Settings,
                Err(end) => end,
            };
            match end {
                End::Settings => backoff = BACKOFF.0,
                End::Stop(done) => {
                    // Nobody waits for this but the end of the program.
                    let _ = done.send(());
                    return;
                }
                End::Broken(why) => {
                    self.standing.down(&why);
                    let pause = sleep_until(Instant::now() + backoff);
                    backoff = (backoff * 2).min(BACKOFF.1);
                    let pause = async {
                        pause.await;
                        Ok::<Result<(), String>, ()>(Ok(()))
                    };
                    if let Err(End::Stop(done)) = self.while_down(&mut stopping, pause).await {
                        let _ = done.send(());
                        return;
                    }
                }
            }
        }
    }

    /// Waits until there is something to ask.
    async fn until_needed<T>(
        &mut self,
        stopping: &mut mpsc::Receiver<oneshot::Sender<()>>,
    ) -> Result<Option<T>, End> {
        self.down = Instant::now();
        tokio::select! {
            Some(done) = stopping.recv() => Err(End::Stop(done)),
            Ok(()) = self.settings.changed() => Ok(None),
            Some(errand) = self.errands.recv() => {
                self.take_in(errand);
                Ok(None)
            }
        }
    }

    /// Does `work` while there is no connection; the questions that come meanwhile wait, or fail.
    async fn while_down<T, E>(
        &mut self,
        stopping: &mut mpsc::Receiver<oneshot::Sender<()>>,
        work: impl Future<Output = Result<Result<T, String>, E>>,
    ) -> Result<Option<T>, End> {
        let mut work = pin!(work);
        loop {
            let patience = patience(self.bank.terms().on_failure);
            let spent = self.down.elapsed() >= patience;
            if spent {
                self.fail_waiting();
            }
            tokio::select! {
                Some(done) = stopping.recv() => return Err(End::Stop(done)),
                Ok(()) = self.settings.changed() => return Err(End::Settings),
                done = &mut work => return match done {
                    Ok(Ok(done)) => Ok(Some(done)),
                    Ok(Err(why)) => Err(End::Broken(why)),
                    Err(_) => Err(End::Broken("there was no answer in time".to_owned())),
                },
                Some(errand) = self.errands.recv() => self.take_in(errand),
                () = sleep_until(self.down + patience), if !spent => {}
            }
        }
    }

    fn take_in(&mut self, errand: Errand<Purse>) {
        match errand {
            Errand::Ask(purse) => self.waiting.push(Item::Ask { purse, give_back: false }),
            Errand::Close { account, holder, last } => {
                if self.waiting.len() < MAX_LAST {
                    self.waiting.push(Item::Last { account, holder, last });
                }
            }
        }
    }

    fn fail_waiting(&mut self) {
        self.waiting.retain(|item| match item {
            Item::Ask { purse, .. } => {
                purse.failed();
                false
            }
            Item::Last { .. } => true,
            Item::Look(_) => false,
        });
    }

    /// Serves over one link. Whether the store has answered, too.
    async fn serve(
        &mut self,
        link: Link,
        at: &str,
        stopping: &mut mpsc::Receiver<oneshot::Sender<()>>,
    ) -> (End, bool) {
        let mut serving = Serving {
            link,
            jobs: JoinSet::new(),
            sent: HashMap::new(),
            settling: Vec::new(),
            fresh: [false; TAGS],
            answered: false,
        };
        let end = self.converse(&mut serving, at, stopping).await;
        // What was under way may have arrived or not: it is asked again.
        serving.jobs.abort_all();
        let under_way = serving.sent.drain().flat_map(|(_, sent)| sent);
        let settling = serving.settling.drain(..).map(|(_, purse)| purse);
        let purses: Vec<Arc<Purse>> = under_way
            .filter_map(|sent| match sent {
                Sent::Ask { purse, .. } => Some(purse),
                Sent::Look(_) | Sent::Last => None,
            })
            .chain(settling)
            .collect();
        for purse in purses {
            purse.again();
            self.waiting.push(Item::Ask { purse, give_back: false });
        }
        (end, serving.answered)
    }

    async fn converse(
        &mut self,
        serving: &mut Serving,
        at: &str,
        stopping: &mut mpsc::Receiver<oneshot::Sender<()>>,
    ) -> End {
        // Nothing else is asked before it is known whose epoch it is.
        let mut batch: Vec<Item> = (0..TAGS).map(Item::Look).collect();
        let (mut look, mut sweep) = (interval(LOOK), interval(SWEEP));
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        look.reset();
        let mut errands = Vec::new();
        loop {
            self.send(serving, &mut batch);
            if serving.knows_all() {
                batch.append(&mut self.waiting);
                self.send(serving, &mut batch);
            }
            let settled = serving.settling.iter().map(|(at, _)| *at).min();
            tokio::select! {
                Some(done) = stopping.recv() => {
                    // It gets what time there is; what it does not manage lapses.
                    self.give_back(serving).await;
                    return End::Stop(done);
                }
                Ok(()) = self.settings.changed() => return End::Settings,
                Some(job) = serving.jobs.join_next_with_id() => {
                    if let Err(why) = self.receive(serving, job) {
                        return End::Broken(why);
                    }
                    if serving.answered && serving.knows_all() {
                        self.standing.up(at);
                    }
                }
                count = self.errands.recv_many(&mut errands, BATCH) => {
                    if count == 0 {
                        return End::Settings;
                    }
                    errands.drain(..).for_each(|errand| self.take_in(errand));
                }
                _ = look.tick() => batch.extend((0..TAGS).map(Item::Look)),
                _ = sweep.tick() => batch.extend(self.due()),
                () = sleep_until(settled.unwrap_or_else(Instant::now)), if settled.is_some() => {
                    let now = Instant::now();
                    let over = serving.settling.extract_if(.., |(at, _)| *at <= now);
                    batch.extend(over.map(|(_, purse)| Item::Ask { purse, give_back: false }));
                }
            }
        }
    }

    /// Purses of which the store has to hear although nothing asks.
    fn due(&self) -> Vec<Item> {
        let clock = |purse: &Purse| self.clocks.get(tag_of(&purse.account)).copied().flatten();
        let due = self.bank.purses().into_iter().filter(|purse| purse.falls_due(IDLE, clock(purse)));
        due.map(|purse| Item::Ask { give_back: purse.is_idle(IDLE), purse }).collect()
    }

    /// Sends what can be sent; what cannot waits.
    fn send(&mut self, serving: &mut Serving, batch: &mut Vec<Item>) {
        let mut by_node: HashMap<usize, (Vec<Cmd>, Vec<Sent>)> = HashMap::new();
        for item in batch.drain(..) {
            let tag = match &item {
                Item::Look(tag) => *tag,
                Item::Ask { purse, .. } => tag_of(&purse.account),
                Item::Last { account, .. } => tag_of(account),
            };
            let number = serving.link.number_of(tag);
            let (Some(node), Some(epoch)) = (serving.link.nodes().get(number), self.epochs.get(tag)) else {
                continue;
            };
            let (commands, sent) = by_node.entry(number).or_default();
            match (item, epoch) {
                (Item::Look(tag), _) => {
                    commands.push(script::look(&node.sha, tag));
                    sent.push(Sent::Look(tag));
                }
                (Item::Ask { purse, give_back }, Some(epoch)) => {
                    let clock = self.clocks.get(tag).copied().flatten();
                    let ask = purse.message(give_back, clock);
                    commands.push(script::message(&node.sha, &purse.account, epoch, purse.holder, &ask));
                    sent.push(Sent::Ask { purse, number: ask.number, wants: ask.want > 0 });
                }
                (Item::Last { account, holder, last }, Some(epoch)) => {
                    commands.push(script::message(&node.sha, &account, epoch, holder, &last));
                    sent.push(Sent::Last);
                }
                (item, None) => self.waiting.push(item),
            }
            if commands.len() >= BATCH {
                let (commands, sent) = (std::mem::take(commands), std::mem::take(sent));
                serving.begin(number, commands, sent, self.bank.now());
            }
        }
        for (number, (commands, sent)) in by_node {
            serving.begin(number, commands, sent, self.bank.now());
        }
    }

    /// What came back.
    fn receive(
        &mut self,
        serving: &mut Serving,
        job: Result<(Id, (Answers, u64)), JoinError>,
    ) -> Result<(), String> {
        let (id, (answers, asked)) = job.map_err(|_| "a bug ended a question".to_owned())?;
        let at = |serving: &Serving| serving.link.at();
        let values = match answers {
            Ok(values) => values,
            Err(why) => return Err(format!("{}: {why}", at(serving))),
        };
        let sent = serving.sent.remove(&id).unwrap_or_default();
        let mut trouble = None;
        for (sent, value) in sent.into_iter().zip(values) {
            let said = match script::read(&value) {
                Ok(said) => said,
                Err(why) => {
                    trouble = Some(format!("{}: {why}", at(serving)));
                    self.unanswered(sent);
                    continue;
                }
            };
            serving.answered = true;
            match sent {
                Sent::Look(tag) => self.looked(serving, tag, said, asked),
                Sent::Last => {}
                Sent::Ask { purse, number, wants } if !self.is_epoch(&purse, &said.epoch) => {
                    // Answers may overtake each other: this one is of the store as it was.
                    trouble = Some(format!("{}: it was started again, or is another", at(serving)));
                    self.unanswered(Sent::Ask { purse, number, wants });
                }
                Sent::Ask { purse, number, wants } => match said.reply {
                    Reply::Answer(answer) if answer.granted > 0 || !wants || said.settles.is_zero() => {
                        purse.answered(number, answer);
                    }
                    // Every replica has told by then what it used.
                    Reply::Answer(_) => {
                        purse.again();
                        serving.settling.push((Instant::now() + said.settles, purse));
                    }
                    Reply::Late | Reply::None => self.unanswered(Sent::Ask { purse, number, wants }),
                },
            }
        }
        trouble.map_or(Ok(()), Err)
    }

    fn is_epoch(&self, purse: &Purse, epoch: &str) -> bool {
        self.epochs.get(tag_of(&purse.account)).is_some_and(|known| known.as_deref() == Some(epoch))
    }

    /// It is asked again.
    fn unanswered(&mut self, sent: Sent) {
        if let Sent::Ask { purse, .. } = sent {
            purse.again();
            self.waiting.push(Item::Ask { purse, give_back: false });
        }
    }

    /// The server's epoch for the accounts with a tag.
    fn looked(&mut self, serving: &mut Serving, tag: usize, said: Said, sent: u64) {
        let clock = Clock { store: said.now, sent };
        if let Some(fresh) = serving.fresh.get_mut(tag) {
            *fresh = true;
        }
        if let Some(kept) = self.clocks.get_mut(tag) {
            *kept = Some(clock);
        }
        let Some(epoch) = self.epochs.get_mut(tag).filter(|epoch| epoch.as_ref() != Some(&said.epoch)) else {
            return;
        };
        if epoch.replace(said.epoch).is_some() {
            tracing::warn!(
                "shared_state: the store was started again, or is another: it is told what was sent, and grants nothing for {} s",
                said.settles.as_secs_f64().ceil()
            );
        }
        for purse in self.bank.purses() {
            if tag_of(&purse.account) == tag && purse.epoch_ended(clock) {
                self.waiting.push(Item::Ask { purse, give_back: false });
            }
        }
    }

    /// All leases, at the end of the program.
    async fn give_back(&mut self, serving: &mut Serving) {
        while let Some(job) = serving.jobs.join_next_with_id().await {
            if self.receive(serving, job).is_err() {
                return;
            }
        }
        let mut batch: Vec<Item> = std::mem::take(&mut self.waiting);
        batch.retain(|item| matches!(item, Item::Last { .. }));
        let purses = self.bank.purses().into_iter();
        batch.extend(purses.map(|purse| Item::Ask { purse, give_back: true }));
        self.send(serving, &mut batch);
        while serving.jobs.join_next().await.is_some() {}
    }
}

/// One link, and what is under way over it.
struct Serving {
    link: Link,
    jobs: JoinSet<(Answers, u64)>,
    sent: HashMap<Id, Vec<Sent>>,
    /// Purses for which nothing was granted yet, and when to ask again.
    settling: Vec<(Instant, Arc<Purse>)>,
    /// Tags whose epoch was seen over this link.
    fresh: [bool; TAGS],
    answered: bool,
}

impl Serving {
    /// `now`: by the bank's clock, before anything is sent.
    fn begin(&mut self, number: usize, commands: Vec<Cmd>, sent: Vec<Sent>, now: u64) {
        let Some(node) = self.link.nodes().get(number).cloned().filter(|_| !commands.is_empty()) else {
            return;
        };
        let job = self.jobs.spawn(async move {
            let answers = timeout(ANSWER, node.ask(commands)).await;
            (answers.unwrap_or_else(|_| Err("there was no answer in time".to_owned())), now)
        });
        self.sent.insert(job.id(), sent);
    }

    fn knows_all(&self) -> bool {
        self.fresh.iter().all(|fresh| *fresh)
    }
}
