//! Keeps answers for as long as they are valid, and asks a question once however many callers wait.
//!
//! There is one slot for each name and family. Either a caller is asking, and all others wait for the same answer, or an
//! answer is kept until its time is over. The cache is bounded, and shared out by client: when it is full, expired answers
//! go first, then answers of the clients that have most, those that expire soonest first. So a client that asks for many
//! names pushes out its own. Not here: asking, and how long an answer is valid ([`query`](super::query)).
//!
//! It is hand-written and not moka, which `cargo bench --bench dns_cache` holds to the same contract: a kept answer takes 80 ns
//! here and 250 ns there, a new name in a full cache 1.2 and 2.0 µs, two threads get 3.5 and 2.6 million answers a second, 10,000
//! entries take 1.9 and 4.8 MB. With moka the released program is a quarter of a MB larger, and the shares by client would still
//! have to be written.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::time::Instant;

use super::answer::{Answer, Family};
use crate::outbound::joined::{self, Joined};
use crate::words::target::Name;

/// RFC 9520 §3.2: failures are kept for at least one second, longer when they repeat.
const FAILURE: Duration = Duration::from_secs(1);
/// The longest time for which a failure is kept: a server that recovers is asked again within it.
const FAILURE_MAX: Duration = Duration::from_secs(5);

/// How long an answer is kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Keep {
    /// By its TTL, or the SOA's for a negative answer. Zero: only for the callers that wait now.
    For(Duration),
    /// A failure to get an answer: 1 s, doubled with each in a row up to 5 s.
    Failure,
}

/// A question under way. It ends when the last that holds it drops it.
pub(super) type Waiting = Arc<Joined<Answer>>;

pub(super) enum Claim {
    /// A kept answer.
    Known(Answer),
    /// Another caller is asking already; the number is the question's.
    Asked(u64, Waiting),
    /// The caller has to begin the question.
    Ours(Ticket, Waiting),
}

enum Slot {
    Asking { waiting: Weak<Joined<Answer>>, ticket: u64 },
    Kept(Kept),
}

struct Kept {
    answer: Answer,
    until: Instant,
    failures: u32,
    /// The client that it is charged to.
    owner: IpAddr,
}

#[derive(Default)]
struct Slots {
    by_family: [OfFamily; 2],
    next_ticket: u64,
}

#[derive(Default)]
struct OfFamily {
    slots: HashMap<Name, Slot>,
    kept: Counts,
}

pub(super) struct Cache {
    slots: Mutex<Slots>,
    /// Kept answers for each family.
    capacity: usize,
}

impl Cache {
    pub(super) fn new(capacity: usize) -> Arc<Self> {
        Arc::new(Cache { slots: Mutex::default(), capacity: capacity.max(1) })
    }

    /// How many answers are kept, and questions asked.
    pub(super) fn kept(&self) -> usize {
        self.lock().by_family.iter().map(|family| family.slots.len()).sum()
    }

    /// What `client` has to do for an answer.
    pub(super) fn claim(self: &Arc<Self>, name: &Name, family: Family, client: IpAddr) -> Claim {
        let now = Instant::now();
        let mut slots = self.lock();
        let Slots { by_family, next_ticket } = &mut *slots;
        let of_family = &mut by_family[family as usize];
        let mut earlier_failures = 0;
        match of_family.slots.get_mut(name) {
            Some(Slot::Kept(kept)) if now < kept.until => {
                of_family.kept.share(kept, client);
                return Claim::Known(kept.answer.clone());
            }
            Some(Slot::Kept(kept)) => earlier_failures = kept.failures,
            Some(Slot::Asking { waiting, ticket }) => {
                // Without the last that waited, it is about to end.
                if let Some(waiting) = waiting.upgrade() {
                    return Claim::Asked(*ticket, waiting);
                }
            }
            None => {}
        }
        let (waiting, result) = Joined::new();
        let number = *next_ticket;
        *next_ticket += 1;
        of_family.put(name.clone(), Slot::Asking { waiting: Arc::downgrade(&waiting), ticket: number });
        let ticket = Ticket {
            cache: self.clone(),
            name: name.clone(),
            family,
            number,
            client,
            earlier_failures,
            result,
        };
        Claim::Ours(ticket, waiting)
    }

    /// The question that is under way.
    pub(super) fn asked(&self, name: &Name, family: Family) -> Option<(u64, Waiting)> {
        match self.lock().by_family[family as usize].slots.get(name)? {
            Slot::Asking { waiting, ticket } => Some((*ticket, waiting.upgrade()?)),
            Slot::Kept(_) => None,
        }
    }

    /// Forgets every answer and every question under way: the servers have changed. Callers that wait still get theirs.
    pub(super) fn forget(&self) {
        self.lock().by_family = Default::default();
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.lock().by_family.iter().map(|of_family| of_family.slots.len()).sum()
    }

    fn lock(&self) -> MutexGuard<'_, Slots> {
        // Nothing panics under the lock, and every state in between is valid.
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The duty to answer a question. If it is dropped without an answer, the slot is free for the next caller.
pub(super) struct Ticket {
    cache: Arc<Cache>,
    name: Name,
    family: Family,
    number: u64,
    client: IpAddr,
    earlier_failures: u32,
    result: joined::Result<Answer>,
}

impl Ticket {
    pub(super) fn name(&self) -> &Name {
        &self.name
    }

    pub(super) fn family(&self) -> Family {
        self.family
    }

    /// The question's.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// Keeps the answer and gives it to all that wait.
    pub(super) fn answer(self, answer: Answer, keep: Keep) {
        let (duration, failures) = match keep {
            Keep::For(duration) => (duration, 0),
            Keep::Failure => {
                let doubled = FAILURE.saturating_mul(1 << self.earlier_failures.min(8));
                (doubled.min(FAILURE_MAX), self.earlier_failures.saturating_add(1))
            }
        };
        if !duration.is_zero() {
            let now = Instant::now();
            let kept = Kept { answer: answer.clone(), until: now + duration, failures, owner: self.client };
            let mut slots = self.cache.lock();
            let family = &mut slots.by_family[self.family as usize];
            // Not after `forget`: the answer came from the previous servers.
            if self.holds(family) {
                family.put(self.name.clone(), Slot::Kept(kept));
                family.shrink(self.cache.capacity, now);
            }
        }
        self.result.send_replace(Some(answer));
    }

    fn holds(&self, family: &OfFamily) -> bool {
        matches!(family.slots.get(&self.name), Some(Slot::Asking { ticket, .. }) if *ticket == self.number)
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut slots = self.cache.lock();
        let family = &mut slots.by_family[self.family as usize];
        if self.holds(family) {
            family.slots.remove(&self.name);
        }
    }
}

impl OfFamily {
    fn put(&mut self, name: Name, slot: Slot) {
        if let Slot::Kept(kept) = &slot {
            self.kept.more(kept.owner);
        }
        if let Some(Slot::Kept(before)) = self.slots.insert(name, slot) {
            self.kept.fewer(before.owner);
        }
    }

    /// Frees a quarter of the capacity at a time, so that in a stream of new names each one costs little.
    fn shrink(&mut self, capacity: usize, now: Instant) {
        if self.slots.len() <= capacity {
            return;
        }
        let OfFamily { slots, kept: counts } = self;
        slots.retain(|_, slot| match slot {
            Slot::Kept(kept) if kept.until <= now => {
                counts.fewer(kept.owner);
                false
            }
            Slot::Kept(_) | Slot::Asking { .. } => true,
        });
        let room = capacity - capacity / 4;
        let most = level(counts.0.values().copied().collect(), room);
        // Where many clients have equally many, not all of them give up one.
        let mut to_go = counts.0.values().sum::<usize>().saturating_sub(room);
        // What each client that has more gives up: its answers that expire soonest.
        let mut over: HashMap<IpAddr, (usize, Vec<Instant>)> = counts
            .0
            .iter()
            .filter(|(_, count)| **count > most)
            .map(|(client, count)| (*client, (count - most, Vec::with_capacity(*count))))
            .collect();
        for slot in slots.values() {
            if let Slot::Kept(kept) = slot
                && let Some((_, ends)) = over.get_mut(&kept.owner)
            {
                ends.push(kept.until);
            }
        }
        let mut last_to_go: HashMap<IpAddr, (Instant, usize)> = HashMap::new();
        for (client, (surplus, mut ends)) in over {
            if surplus == 0 || surplus > ends.len() {
                continue;
            }
            let (_, last, _) = ends.select_nth_unstable(surplus - 1);
            last_to_go.insert(client, (*last, surplus));
        }
        slots.retain(|_, slot| {
            let Slot::Kept(kept) = slot else { return true };
            match last_to_go.get_mut(&kept.owner) {
                Some((last, surplus)) if kept.until <= *last && *surplus > 0 && to_go > 0 => {
                    *surplus -= 1;
                    to_go -= 1;
                    counts.fewer(kept.owner);
                    false
                }
                _ => true,
            }
        });
    }
}

/// The most answers that a client may keep, so that all together keep no more than `room`.
fn level(mut counts: Vec<usize>, room: usize) -> usize {
    counts.sort_unstable();
    let mut left = room;
    for (before, count) in counts.iter().enumerate() {
        let share = left / (counts.len() - before);
        if *count > share {
            return share;
        }
        left -= count;
    }
    usize::MAX
}

/// How many answers are kept for each client; no client has none.
#[derive(Default)]
struct Counts(HashMap<IpAddr, usize>);

impl Counts {
    fn of(&self, client: IpAddr) -> usize {
        self.0.get(&client).copied().unwrap_or_default()
    }

    fn more(&mut self, client: IpAddr) {
        *self.0.entry(client).or_default() += 1;
    }

    fn fewer(&mut self, client: IpAddr) {
        if let Some(count) = self.0.get_mut(&client) {
            *count -= 1;
            if *count == 0 {
                self.0.remove(&client);
            }
        }
    }

    /// An answer that `client` uses is charged to it if that has fewer than the client that is charged now: what many
    /// use is not pushed out by one of them.
    fn share(&mut self, kept: &mut Kept, client: IpAddr) {
        if kept.owner != client && self.of(client) + 1 < self.of(kept.owner) {
            self.fewer(kept.owner);
            self.more(client);
            kept.owner = client;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));

    fn name(text: &str) -> Name {
        Name::parse(text).unwrap()
    }

    fn ours(cache: &Arc<Cache>, text: &str) -> (Ticket, Waiting) {
        match cache.claim(&name(text), Family::V4, CLIENT) {
            Claim::Ours(ticket, waiting) => (ticket, waiting),
            _ => panic!("{text} is known or asked already"),
        }
    }

    fn fine() -> Answer {
        Ok(Arc::from([std::net::IpAddr::from([8, 8, 8, 8])]))
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_is_kept_for_its_time_and_no_longer() {
        let cache = Cache::new(10);
        ours(&cache, "a.test").0.answer(fine(), Keep::For(Duration::from_secs(60)));
        tokio::time::advance(Duration::from_millis(59_999)).await;
        assert!(matches!(cache.claim(&name("a.test"), Family::V4, CLIENT), Claim::Known(_)));
        assert!(
            matches!(cache.claim(&name("a.test"), Family::V6, CLIENT), Claim::Ours(..)),
            "families are apart"
        );
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(matches!(cache.claim(&name("a.test"), Family::V4, CLIENT), Claim::Ours(..)));
    }

    #[tokio::test(start_paused = true)]
    async fn failures_in_a_row_are_kept_for_1_2_4_5_5_seconds_and_an_answer_resets_that() {
        let cache = Cache::new(10);
        for seconds in [1, 2, 4, 5, 5] {
            ours(&cache, "a.test").0.answer(fine(), Keep::Failure);
            tokio::time::advance(Duration::from_millis(seconds * 1000 - 1)).await;
            assert!(
                matches!(cache.claim(&name("a.test"), Family::V4, CLIENT), Claim::Known(_)),
                "{seconds} s"
            );
            tokio::time::advance(Duration::from_millis(1)).await;
        }
        ours(&cache, "a.test").0.answer(fine(), Keep::For(Duration::from_secs(1)));
        tokio::time::advance(Duration::from_secs(1)).await;
        ours(&cache, "a.test").0.answer(fine(), Keep::Failure);
        tokio::time::advance(Duration::from_secs(1)).await;
        ours(&cache, "a.test");
    }

    #[tokio::test(start_paused = true)]
    async fn the_cache_is_bounded_and_what_expires_soonest_goes_first() {
        let cache = Cache::new(100);
        for number in 0..1000u64 {
            let (ticket, _) = ours(&cache, &format!("n{number}.test"));
            ticket.answer(fine(), Keep::For(Duration::from_secs(60 + number)));
            assert!(cache.len() <= 100);
        }
        assert!(matches!(cache.claim(&name("n999.test"), Family::V4, CLIENT), Claim::Known(_)));
        assert!(matches!(cache.claim(&name("n0.test"), Family::V4, CLIENT), Claim::Ours(..)));
    }

    fn keep(cache: &Arc<Cache>, text: &str, client: IpAddr, seconds: u64) {
        if let Claim::Ours(ticket, _waiting) = cache.claim(&name(text), Family::V4, client) {
            ticket.answer(fine(), Keep::For(Duration::from_secs(seconds)));
        }
    }

    fn knows(cache: &Arc<Cache>, text: &str, client: IpAddr) -> bool {
        matches!(cache.claim(&name(text), Family::V4, client), Claim::Known(_))
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_with_many_names_pushes_out_its_own() {
        let cache = Cache::new(100);
        let quiet = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2));
        // Asked for by the flooding client first, and used by the quiet one.
        keep(&cache, "both.test", CLIENT, 5);
        for number in 0..20 {
            keep(&cache, &format!("q{number}.test"), quiet, 5);
        }
        for number in 0..1000 {
            keep(&cache, &format!("n{number}.test"), CLIENT, 86_400);
            assert!(knows(&cache, "both.test", quiet), "after {number}");
            assert!(cache.len() <= 100);
        }
        for number in 0..20 {
            assert!(knows(&cache, &format!("q{number}.test"), quiet), "{number}");
        }
        let slots = cache.lock();
        let of_family = &slots.by_family[Family::V4 as usize];
        let counted = of_family.kept.0.values().sum::<usize>();
        assert_eq!((of_family.kept.of(quiet), counted), (21, of_family.slots.len()));
    }

    #[tokio::test(start_paused = true)]
    async fn many_clients_with_few_names_each_share_the_cache() {
        let cache = Cache::new(100);
        for number in 0..1000_u16 {
            let [high, low] = number.to_be_bytes();
            let client = IpAddr::V4(Ipv4Addr::new(10, 1, high, low));
            keep(&cache, &format!("n{number}.test"), client, 60);
            assert!(cache.len() <= 100);
            assert!(cache.len() >= usize::from(number).min(75), "{} after {number}", cache.len());
        }
    }

    #[test]
    fn the_level_leaves_as_much_as_there_is_room_for() {
        let rows: [(&[usize], usize, usize); 6] = [
            (&[], 75, usize::MAX),
            (&[100], 75, 75),
            (&[30, 30], 75, usize::MAX),
            (&[90, 20], 75, 55),
            (&[50, 50, 1], 75, 37),
            (&[1; 100], 75, 0),
        ];
        for (counts, room, want) in rows {
            assert_eq!(level(counts.to_vec(), room), want, "{counts:?}");
        }
    }

    #[tokio::test]
    async fn a_question_that_dies_wakes_its_waiters_and_frees_the_slot() {
        let cache = Cache::new(10);
        let (ticket, waiting) = ours(&cache, "a.test");
        let Claim::Asked(..) = cache.claim(&name("a.test"), Family::V4, CLIENT) else {
            panic!("asked twice")
        };
        drop(ticket);
        assert_eq!(waiting.wait().await, None);
        ours(&cache, "a.test");
    }

    #[tokio::test]
    async fn an_answer_of_the_previous_servers_is_delivered_and_not_kept() {
        let cache = Cache::new(10);
        let (old, waiting) = ours(&cache, "a.test");
        cache.forget();
        let (new, _waiting) = ours(&cache, "a.test");
        old.answer(fine(), Keep::For(Duration::from_secs(60)));
        assert_eq!(waiting.wait().await, Some(fine()));
        assert!(
            matches!(cache.claim(&name("a.test"), Family::V4, CLIENT), Claim::Asked(..)),
            "the new question stands"
        );
        new.answer(fine(), Keep::For(Duration::from_secs(60)));
        assert!(matches!(cache.claim(&name("a.test"), Family::V4, CLIENT), Claim::Known(_)));
    }
}
