//! The one thread that verifies passwords, and the short queue before it.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::io;
use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use thiserror::Error;
use tokio::sync::oneshot;

use super::cache::{Cache, Tag};
use crate::config::users::{Scratch, Unable, Users};
use crate::wire::basic_auth::Credentials;
use crate::words::outcome::Reason;

/// The thread's nice value: at 10 it gets a tenth of the CPU time of an async thread that wants the same CPU.
const NICENESS: i32 = 10;
/// The longest rest after wrong passwords; if more is owed, every client waits for it.
const MAX_REST: Duration = Duration::from_secs(2);
/// How long a client that sent a wrong password waits behind the others.
const SUSPECT_FOR: Duration = Duration::from_secs(60);
/// How often it is looked whether one that waits is one of them still.
const LOOK: Duration = Duration::from_secs(1);
/// How many such clients are remembered; later ones count as new.
const SUSPECTS: usize = 4096;

/// The bounds of a [`PasswordVerifier`].
#[derive(Clone, Copy, Debug)]
pub struct PasswordLimits {
    /// How many pairs may wait, including the one that is being verified.
    pub queue: usize,
    /// How many of them one client address may have, so that one client does not take all places.
    pub queue_per_client: usize,
    /// How many right pairs are remembered.
    pub right: usize,
    /// And for how long: during this time the pair costs nothing.
    pub right_for: Duration,
    /// How many wrong pairs are remembered, separately: guesses do not push out the right ones.
    pub wrong: usize,
    /// And for how long.
    pub wrong_for: Duration,
    /// After a wrong password, clients that sent one wait so many times as long as it took. While a hash uses up a quota of CPU, nobody
    /// else is served: the others must have most of the time.
    pub suspects_wait: u32,
}

impl Default for PasswordLimits {
    /// 32 pairs at bcrypt cost 12 are about 8 s of hashing, and as much rest if they are wrong; 8,192 remembered pairs
    /// are about 1 MiB.
    fn default() -> Self {
        PasswordLimits {
            queue: 32,
            queue_per_client: 4,
            right: 4096,
            right_for: Duration::from_secs(600),
            wrong: 4096,
            wrong_for: Duration::from_secs(60),
            suspects_wait: 1,
        }
    }
}

impl PasswordLimits {
    /// The same where the processor's time has a quota.
    pub fn under_quota() -> Self {
        PasswordLimits { suspects_wait: 7, ..PasswordLimits::default() }
    }
}

/// The verdict on a pair of user and password.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PasswordCheck {
    /// The user is known, and this is the password.
    Right,
    /// The user is not known, or the password is wrong; even the time does not show which.
    Wrong,
    /// The password is longer than its hash can verify ([`Users::cannot_verify`]); an unknown user has this answer too.
    TooLong,
}

/// Too many pairs wait, or there is no memory for the hash: a later try may succeed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error("too many passwords wait to be verified")]
pub struct Busy;

impl Busy {
    /// A 429 with `Retry-After`.
    pub fn reason(self) -> Reason {
        Reason::ClientRateLimited
    }
}

/// Verifies passwords, one at a time, off the async threads. One for the whole process; the users are an argument.
pub struct PasswordVerifier {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<QueueState>,
    work: Condvar,
    /// Random, of this process.
    key: hmac::Key,
    limits: PasswordLimits,
    verifications: AtomicU64,
}

struct QueueState {
    queue: VecDeque<Job>,
    /// The requests that wait for a pair that is queued or being verified.
    waiting: HashMap<Tag, Vec<oneshot::Sender<Result<PasswordCheck, Busy>>>>,
    /// Queued or being verified, by client.
    by_client: HashMap<IpAddr, usize>,
    right: Cache,
    wrong: Cache,
    /// Clients whose last password was wrong, and until when they have to wait behind the others.
    suspects: HashMap<IpAddr, Instant>,
    /// Until then the thread leaves the CPU to others.
    rests_until: Instant,
    /// Until then it does so for clients whose last password was wrong.
    suspects_wait_until: Instant,
    closed: bool,
}

struct Job {
    tag: Tag,
    client: IpAddr,
    /// A client whose last password was not wrong waits for the same pair.
    is_trusted: bool,
    users: Arc<Users>,
    credentials: Credentials,
}

impl PasswordVerifier {
    /// Starts the thread.
    ///
    /// # Errors
    /// If the system provides no thread or no random key.
    pub fn start(limits: PasswordLimits) -> io::Result<Self> {
        let verifier = PasswordVerifier::new(limits)?;
        let shared = Arc::clone(&verifier.shared);
        thread::Builder::new().name("passwords".to_owned()).spawn(move || {
            // On Linux this affects only the calling thread. If it fails, the work is done all the same.
            let _ = rustix::process::nice(NICENESS);
            let mut scratch = Scratch::default();
            while shared.verify_next(&mut scratch) {}
        })?;
        Ok(verifier)
    }

    fn new(limits: PasswordLimits) -> io::Result<Self> {
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new())
            .map_err(|_| io::Error::other("no random numbers for a key"))?;
        let state = QueueState {
            queue: VecDeque::new(),
            waiting: HashMap::new(),
            by_client: HashMap::new(),
            right: Cache::new(limits.right, limits.right_for),
            wrong: Cache::new(limits.wrong, limits.wrong_for),
            suspects: HashMap::new(),
            rests_until: Instant::now(),
            suspects_wait_until: Instant::now(),
            closed: false,
        };
        let shared = Shared {
            state: Mutex::new(state),
            work: Condvar::new(),
            key,
            limits,
            verifications: AtomicU64::new(0),
        };
        Ok(PasswordVerifier { shared: Arc::new(shared) })
    }

    /// Whether this is a user of `users` with its password. A pair that was recently verified by the same content of
    /// the users file is answered at once; the same pair from many connections is verified once. `client` is the
    /// address that asks. There is no deadline here; dropping the future takes the pair out of the queue.
    ///
    /// # Errors
    /// [`Busy`] if the queue, or the client's part of it, is full.
    pub async fn verify(
        &self,
        users: &Arc<Users>,
        client: IpAddr,
        credentials: &Credentials,
    ) -> Result<PasswordCheck, Busy> {
        match self.shared.ask(users, client, credentials) {
            CheckAnswer::Known(answer) => answer,
            // The sender is dropped unused if the verifier is dropped.
            CheckAnswer::Later(answer) => answer.await.unwrap_or(Err(Busy)),
        }
    }

    /// How many passwords were hashed since the start.
    #[cfg(test)]
    pub(super) fn verifications(&self) -> u64 {
        self.shared.verifications.load(Ordering::Relaxed)
    }
}

impl Drop for PasswordVerifier {
    /// Ends the thread after the current password, without waiting for it.
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.closed = true;
        state.queue.clear();
        state.waiting.clear();
        drop(state);
        self.shared.work.notify_all();
    }
}

impl fmt::Debug for PasswordVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PasswordVerifier").field("limits", &self.shared.limits).finish_non_exhaustive()
    }
}

enum CheckAnswer {
    Known(Result<PasswordCheck, Busy>),
    Later(oneshot::Receiver<Result<PasswordCheck, Busy>>),
}

impl Shared {
    /// No panic is possible between two changes of the state: nothing in between can panic.
    fn lock(&self) -> MutexGuard<'_, QueueState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ask(&self, users: &Arc<Users>, client: IpAddr, credentials: &Credentials) -> CheckAnswer {
        let Credentials { user, password } = credentials;
        // Nothing is hashed, so that it takes no place in the queue.
        if users.cannot_verify(user, password.as_bytes(), self.stand_in(users, user)) {
            return CheckAnswer::Known(Ok(PasswordCheck::TooLong));
        }
        let tag = self.tag(users, credentials);
        let now = Instant::now();
        let mut state = self.lock();
        if state.right.contains(&tag, now) {
            return CheckAnswer::Known(Ok(PasswordCheck::Right));
        }
        if state.wrong.contains(&tag, now) {
            return CheckAnswer::Known(Ok(PasswordCheck::Wrong));
        }
        let (sender, receiver) = oneshot::channel();
        if let Some(waiting) = state.waiting.get_mut(&tag) {
            waiting.retain(|sender| !sender.is_closed());
            waiting.push(sender);
            if !state.is_suspect(client, now)
                && let Some(job) = state.queue.iter_mut().find(|job| job.tag == tag)
            {
                job.is_trusted = true;
                self.work.notify_one();
            }
            return CheckAnswer::Later(receiver);
        }
        // Pairs whose clients have left take no place.
        state.drop_abandoned();
        let of_client = state.by_client.get(&client).copied().unwrap_or(0);
        if of_client >= self.limits.queue_per_client {
            return CheckAnswer::Known(Err(Busy));
        }
        if state.waiting.len() >= self.limits.queue && !state.make_room(client, now) {
            return CheckAnswer::Known(Err(Busy));
        }
        state.by_client.insert(client, of_client + 1);
        state.waiting.insert(tag, vec![sender]);
        state.queue.push_back(Job {
            tag,
            client,
            is_trusted: false,
            users: Arc::clone(users),
            credentials: credentials.clone(),
        });
        drop(state);
        self.work.notify_one();
        CheckAnswer::Later(receiver)
    }

    /// Waits for a pair, verifies it and answers. `false` at the end.
    fn verify_next(&self, scratch: &mut Scratch) -> bool {
        let Some(job) = self.next() else { return false };
        let began = Instant::now();
        self.verifications.fetch_add(1, Ordering::Relaxed);
        let user = &job.credentials.user;
        let stand_in = self.stand_in(&job.users, user);
        // A bug in a hash function must not end the thread, and with it every later answer.
        let checked = catch_unwind(AssertUnwindSafe(|| {
            job.users.check(user, job.credentials.password.as_bytes(), stand_in, scratch)
        }))
        .unwrap_or(Err(Unable));
        let answer = match checked {
            Ok(true) => Ok(PasswordCheck::Right),
            Ok(false) => Ok(PasswordCheck::Wrong),
            Err(Unable) => Err(Busy),
        };
        self.answer(&job, answer, began.elapsed());
        true
    }

    fn next(&self) -> Option<Job> {
        let mut state = self.lock();
        loop {
            if state.closed {
                return None;
            }
            state.drop_abandoned();
            let now = Instant::now();
            let rest = state.rests_until.saturating_duration_since(now);
            let of_suspects = rest.max(state.suspects_wait_until.saturating_duration_since(now));
            if let Some(job) = state.take(now, rest, of_suspects) {
                return Some(job);
            }
            // Who waits is no suspect any more after a while.
            let pause = if state.first(now).is_some() { rest } else { of_suspects.min(LOOK) };
            state = if state.queue.is_empty() {
                self.work.wait(state).unwrap_or_else(PoisonError::into_inner)
            } else {
                self.work.wait_timeout(state, pause).unwrap_or_else(PoisonError::into_inner).0
            };
        }
    }

    /// `took` is wall-clock time, so that throttling makes the rest longer.
    fn answer(&self, job: &Job, answer: Result<PasswordCheck, Busy>, took: Duration) {
        let now = Instant::now();
        let mut state = self.lock();
        match answer {
            Ok(PasswordCheck::Right) => {
                state.right.insert(job.tag, now);
                state.suspects.remove(&job.client);
            }
            Ok(PasswordCheck::Wrong | PasswordCheck::TooLong) => {
                state.wrong.insert(job.tag, now);
                state.suspect(job.client, now);
                // Niceness does not help if a CPU quota is the limit: then the thread leaves half of it to the others
                // while it gets wrong passwords, and nearly all of it while the same clients send them.
                let rest = took.min(MAX_REST);
                state.rests_until = state.rests_until.max(now) + rest;
                state.suspects_wait_until =
                    state.suspects_wait_until.max(now + rest * self.limits.suspects_wait);
            }
            Err(Busy) => {}
        }
        state.leave(job.client);
        for sender in state.waiting.remove(&job.tag).unwrap_or_default() {
            // A receiver that is gone needs no answer.
            let _ = sender.send(answer);
        }
    }

    /// The MAC of the pair and of the file that verifies it: with another file, the answer may differ.
    fn tag(&self, users: &Users, credentials: &Credentials) -> Tag {
        let mut mac = hmac::Context::with_key(&self.key);
        mac.update(b"pair");
        mac.update(users.digest());
        // The length keeps `ab` and `c` apart from `a` and `bc`.
        mac.update(&credentials.user.len().to_be_bytes());
        mac.update(credentials.user.as_bytes());
        mac.update(credentials.password.as_bytes());
        Tag::new(mac_bytes(&mac.sign()))
    }

    fn stand_in(&self, users: &Users, user: &str) -> usize {
        let mut mac = hmac::Context::with_key(&self.key);
        mac.update(b"user");
        mac.update(users.digest());
        mac.update(user.as_bytes());
        let [a, b, c, d, ..] = mac_bytes(&mac.sign());
        usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(0)
    }
}

fn mac_bytes(tag: &hmac::Tag) -> [u8; 32] {
    let mut bytes = [0; 32];
    // HMAC-SHA256 gives 32 bytes.
    for (to, from) in bytes.iter_mut().zip(tag.as_ref()) {
        *to = *from;
    }
    bytes
}

impl QueueState {
    /// The next pair, while `rest` is still owed, and `of_suspects` by clients with a recent wrong password. One without comes first, and
    /// need not wait for the rest: a client that guesses must not keep the others out. It waits only if too much rest is owed, which
    /// takes many clients that guess.
    fn take(&mut self, now: Instant, rest: Duration, of_suspects: Duration) -> Option<Job> {
        let place = match self.first(now) {
            Some(place) if rest < MAX_REST => place,
            None if of_suspects.is_zero() => 0,
            _ => return None,
        };
        self.queue.remove(place)
    }

    /// The first pair of a client without a recent wrong password.
    fn first(&self, now: Instant) -> Option<usize> {
        self.queue.iter().position(|job| !self.is_of_suspects(job, now))
    }

    /// Whether only clients with a recent wrong password wait for it.
    fn is_of_suspects(&self, job: &Job, now: Instant) -> bool {
        !job.is_trusted && self.is_suspect(job.client, now)
    }

    /// Whether this client recently sent a wrong password.
    fn is_suspect(&self, client: IpAddr, now: Instant) -> bool {
        self.suspects.get(&client).is_some_and(|until| *until > now)
    }

    /// If the queue is full, a client without a recent wrong password gets the place of the last one that has one.
    /// Otherwise many clients that guess could together keep the others out.
    fn make_room(&mut self, client: IpAddr, now: Instant) -> bool {
        if self.is_suspect(client, now) {
            return false;
        }
        let Some(place) = self.queue.iter().rposition(|job| self.is_of_suspects(job, now)) else {
            return false;
        };
        let Some(job) = self.queue.remove(place) else { return false };
        self.leave(job.client);
        for sender in self.waiting.remove(&job.tag).unwrap_or_default() {
            let _ = sender.send(Err(Busy));
        }
        true
    }

    fn suspect(&mut self, client: IpAddr, now: Instant) {
        if self.suspects.len() >= SUSPECTS {
            self.suspects.retain(|_, until| *until > now);
        }
        if self.suspects.len() < SUSPECTS || self.suspects.contains_key(&client) {
            self.suspects.insert(client, now + SUSPECT_FOR);
        }
    }

    /// Takes out pairs that no client waits for any more: a client that leaves early must not cost us a hash.
    fn drop_abandoned(&mut self) {
        let QueueState { queue, waiting, .. } = self;
        let mut left = Vec::new();
        queue.retain(|job| {
            let is_wanted =
                waiting.get(&job.tag).is_some_and(|waiting| waiting.iter().any(|sender| !sender.is_closed()));
            if !is_wanted {
                waiting.remove(&job.tag);
                left.push(job.client);
            }
            is_wanted
        });
        for client in left {
            self.leave(client);
        }
    }

    fn leave(&mut self, client: IpAddr) {
        if let Some(count) = self.by_client.get_mut(&client) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.by_client.remove(&client);
            }
        }
    }
}

#[cfg(test)]
mod tests;
