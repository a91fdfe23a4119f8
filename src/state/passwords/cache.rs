//! Recently verified pairs: bounded, the oldest is forgotten first, keyed by a MAC.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use aws_lc_rs::constant_time::verify_slices_are_equal;

/// The MAC of a pair of user and password under a key of this process: without the key, a dump of the cache reveals no
/// password, and no outsider can choose where an entry is stored.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Tag {
    /// Where the entry is stored.
    place: [u8; 16],
    /// Confirms that it is this entry: compared in constant time.
    proof: [u8; 16],
}

impl Tag {
    pub(super) fn new(mac: [u8; 32]) -> Self {
        let (mut place, mut proof) = ([0; 16], [0; 16]);
        place.copy_from_slice(&mac[..16]);
        proof.copy_from_slice(&mac[16..]);
        Tag { place, proof }
    }
}

/// A set of tags, each kept for the same time.
pub(super) struct Cache {
    entries: HashMap<[u8; 16], ([u8; 16], Instant)>,
    /// By age, which is also the order of expiry.
    order: VecDeque<([u8; 16], Instant)>,
    most: usize,
    keep: Duration,
}

impl Cache {
    /// Holds `most` tags at most, each for `keep`.
    pub(super) fn new(most: usize, keep: Duration) -> Self {
        Cache { entries: HashMap::new(), order: VecDeque::new(), most, keep }
    }

    pub(super) fn contains(&mut self, tag: &Tag, now: Instant) -> bool {
        self.forget(now);
        self.entries
            .get(&tag.place)
            .is_some_and(|(proof, _)| verify_slices_are_equal(proof, &tag.proof).is_ok())
    }

    /// An entry that is there already starts anew.
    pub(super) fn insert(&mut self, tag: Tag, now: Instant) {
        self.forget(now);
        while self.order.len() >= self.most {
            if !self.drop_oldest() {
                return;
            }
        }
        let until = now + self.keep;
        self.entries.insert(tag.place, (tag.proof, until));
        self.order.push_back((tag.place, until));
    }

    fn forget(&mut self, now: Instant) {
        while self.order.front().is_some_and(|(_, until)| *until <= now) {
            self.drop_oldest();
        }
    }

    /// `false` if there is none.
    fn drop_oldest(&mut self) -> bool {
        let Some((place, until)) = self.order.pop_front() else {
            return false;
        };
        // An entry that was inserted again has a later end, and another position in the order.
        if self.entries.get(&place).is_some_and(|(_, end)| *end == until) {
            self.entries.remove(&place);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tag(number: u8) -> Tag {
        Tag::new([number; 32])
    }

    #[test]
    fn entries_last_their_time_and_the_oldest_goes_first() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut cache = Cache::new(2, Duration::from_secs(10));
        cache.insert(tag(1), start);
        assert!(cache.contains(&tag(1), after(9)));
        assert!(!cache.contains(&tag(1), after(10)));
        assert!(cache.entries.is_empty() && cache.order.is_empty());

        cache.insert(tag(1), after(20));
        cache.insert(tag(2), after(21));
        cache.insert(tag(3), after(22));
        assert_eq!([1, 2, 3].map(|number| cache.contains(&tag(number), after(22))), [false, true, true]);
        assert_eq!(cache.order.len(), 2);
    }

    #[test]
    fn an_entry_put_in_again_lives_on_when_its_first_life_ends() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut cache = Cache::new(3, Duration::from_secs(10));
        cache.insert(tag(1), start);
        cache.insert(tag(1), after(5));
        assert!(cache.contains(&tag(1), after(12)));
        assert!(!cache.contains(&tag(1), after(15)));
        assert!(cache.entries.is_empty() && cache.order.is_empty());
    }

    #[test]
    fn half_a_tag_is_no_tag() {
        let now = Instant::now();
        let mut cache = Cache::new(1, Duration::from_secs(10));
        cache.insert(tag(1), now);
        let forged = Tag { place: tag(1).place, proof: tag(2).proof };
        assert!(!cache.contains(&forged, now));
    }

    #[test]
    fn a_cache_of_nothing_keeps_nothing() {
        let now = Instant::now();
        let mut cache = Cache::new(0, Duration::from_secs(10));
        cache.insert(tag(1), now);
        assert!(!cache.contains(&tag(1), now));
    }
}
