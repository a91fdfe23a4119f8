//! Sorting where the size of the program counts and time does not: one copy of the sort for all types.
//!
//! The standard library's sort is compiled anew for each type and each comparison, about 6.5 KB every time, and once more wherever a
//! `BTreeMap` or a `BTreeSet` is collected, which sorts first. Of 0.7 MB of sorts in the program, most were in commands, in the reading of
//! the configuration and in the admin page (`nm --size-sort` on a binary that is not stripped). [`SmallSort`] sorts the places of the
//! items, by one copy of the same algorithm, and then swaps the items to their places: this takes 8 bytes for each item, and each comparison
//! is called through a pointer. [`SmallCollect`] inserts item by item. What a request waits for, and what sorts a million rules, has the
//! standard library's sort.

use std::cmp::Ordering;
use std::mem;

/// Like the sorts of slices: stable, and by as many comparisons.
pub(crate) trait SmallSort<T> {
    /// Like `sort_by`.
    fn small_sort_by(&mut self, compare: impl FnMut(&T, &T) -> Ordering);

    /// Like `sort`.
    fn small_sort(&mut self)
    where
        T: Ord;

    /// Like `sort_by_key`.
    fn small_sort_by_key<K: Ord>(&mut self, key: impl FnMut(&T) -> K);

    /// Like `sort_by_cached_key`: asks once for the key of each item.
    fn small_sort_by_cached_key<K: Ord>(&mut self, key: impl FnMut(&T) -> K);
}

impl<T> SmallSort<T> for [T] {
    fn small_sort_by(&mut self, mut compare: impl FnMut(&T, &T) -> Ordering) {
        // `order` asks for places below the number of items alone.
        let places = order(self.len(), &mut |one, other| compare(&self[one], &self[other]));
        arrange(places, &mut |one, other| self.swap(one, other));
    }

    fn small_sort(&mut self)
    where
        T: Ord,
    {
        self.small_sort_by(T::cmp);
    }

    fn small_sort_by_key<K: Ord>(&mut self, mut key: impl FnMut(&T) -> K) {
        self.small_sort_by(|one, other| key(one).cmp(&key(other)));
    }

    fn small_sort_by_cached_key<K: Ord>(&mut self, key: impl FnMut(&T) -> K) {
        let keys: Vec<K> = self.iter().map(key).collect();
        let places = order(keys.len(), &mut |one, other| keys[one].cmp(&keys[other]));
        arrange(places, &mut |one, other| self.swap(one, other));
    }
}

/// Like `collect`, for a `BTreeMap`, a `BTreeSet` or a JSON object.
pub(crate) trait SmallCollect: Iterator + Sized {
    /// Inserts one item after the other: of equal keys, the last one's value stays.
    fn small_collect<C: Default + Extend<Self::Item>>(self) -> C {
        let mut all = C::default();
        all.extend(self);
        all
    }
}

impl<I: Iterator> SmallCollect for I {}

/// For each place, where the item is that belongs there.
#[inline(never)]
fn order(len: usize, compare: &mut dyn FnMut(usize, usize) -> Ordering) -> Vec<usize> {
    let mut places: Vec<usize> = (0..len).collect();
    places.sort_by(|one, other| compare(*one, *other));
    places
}

/// Brings each item to its place by at most as many swaps as there are items: each circle of items that take each other's places is walked
/// once.
#[inline(never)]
fn arrange(mut places: Vec<usize>, swap: &mut dyn FnMut(usize, usize)) {
    for begin in 0..places.len() {
        let mut at = begin;
        loop {
            let from = mem::replace(&mut places[at], at);
            if from == begin {
                break;
            }
            swap(at, from);
            at = from;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;

    // The second half of each item says where it stood, and no comparison looks at it.
    fn items(keys: Vec<u8>) -> Vec<(u8, usize)> {
        keys.into_iter().zip(0..).collect()
    }

    proptest! {
        /// Few keys, so that many are equal, and each length that the standard library treats in another way.
        #[test]
        fn the_order_is_that_of_the_standard_library(keys in prop::collection::vec(0_u8..20, 0..300)) {
            let (mut ours, mut theirs) = (items(keys.clone()), items(keys));
            ours.small_sort_by_key(|(key, _)| *key);
            theirs.sort_by_key(|(key, _)| *key);
            prop_assert_eq!(&ours, &theirs);

            ours.small_sort_by(|(one, _), (other, _)| other.cmp(one));
            theirs.sort_by(|(one, _), (other, _)| other.cmp(one));
            prop_assert_eq!(&ours, &theirs);

            ours.small_sort_by_cached_key(|(key, _)| key.to_string());
            theirs.sort_by_cached_key(|(key, _)| key.to_string());
            prop_assert_eq!(&ours, &theirs);

            ours.small_sort();
            theirs.sort();
            prop_assert_eq!(ours, theirs);
        }

        /// Items that own memory are swapped, not copied.
        #[test]
        fn owned_items_are_sorted(mut names in prop::collection::vec("[a-c]{0,3}", 0..100)) {
            let mut theirs = names.clone();
            names.small_sort();
            theirs.sort();
            prop_assert_eq!(names, theirs);
        }
    }

    proptest! {
        #[test]
        fn the_same_is_collected(pairs in prop::collection::vec((0_u8..20, 0_u8..20), 0..100)) {
            let ours: BTreeMap<u8, u8> = pairs.iter().copied().small_collect();
            prop_assert_eq!(ours, pairs.iter().copied().collect());
            let ours: BTreeSet<(u8, u8)> = pairs.iter().copied().small_collect();
            prop_assert_eq!(ours, pairs.iter().copied().collect());
        }
    }

    #[test]
    fn a_cached_key_is_asked_for_once() {
        let mut asked = 0;
        let mut items: Vec<u32> = (0..100).rev().collect();
        items.small_sort_by_cached_key(|item| {
            asked += 1;
            *item
        });
        assert_eq!(asked, 100);
        assert!(items.is_sorted());
    }

    #[test]
    fn no_item_is_swapped_twice_to_its_place() {
        for len in [0, 1, 2, 3, 100] {
            let mut swaps = 0;
            let turned = (0..len).map(|place| (place + 1) % len.max(1)).collect();
            arrange(turned, &mut |_, _| swaps += 1);
            assert_eq!(swaps, len.saturating_sub(1), "{len}");
        }
    }
}
