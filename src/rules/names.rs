//! From a host to the rules for it and for its suffixes: one hash table, with one lookup for each label.
//!
//! The hash runs over a name from its end, so that one pass gives the hash of every suffix at a label boundary; other
//! suffixes are never looked up. The hash needs no secret: the contents of the table come from the operator, and no
//! choice of host by a client makes a lookup longer than the table's longest run.

use super::store::NONE;

/// The suffixes at label boundaries, shortest first: for `a.b.c` those at 4, 2 and 0, each with its hash.
pub(super) fn suffixes(name: &str) -> impl Iterator<Item = (usize, u64)> {
    let bytes = name.as_bytes();
    let mut hash = 0;
    let mut end = bytes.len();
    std::iter::from_fn(move || {
        while let Some(at) = end.checked_sub(1) {
            hash = step(hash, bytes[at]);
            end = at;
            if at == 0 || bytes[at - 1] == b'.' {
                return Some((at, finish(hash)));
            }
        }
        None
    })
}

/// The hash of a whole name.
pub(super) fn hash(name: &str) -> u64 {
    finish(name.bytes().rev().fold(0, step))
}

const ODD: u64 = 0x9E37_79B9_7F4A_7C15; // 2^64 divided by the golden ratio

fn step(hash: u64, byte: u8) -> u64 {
    (hash.rotate_left(5) ^ u64::from(byte)).wrapping_mul(ODD)
}

/// Mixes every bit of the state into the bits that choose the slot and the tag.
fn finish(hash: u64) -> u64 {
    let hash = (hash ^ (hash >> 32)).wrapping_mul(ODD);
    hash ^ (hash >> 29)
}

/// Eight bytes. The tag nearly always shows whether the text is worth comparing.
#[derive(Clone, Copy, Debug)]
struct Slot {
    tag: u32,
    value: u32,
}

impl Slot {
    const FREE: Slot = Slot { tag: 0, value: NONE };
}

/// An open-addressing table from names to numbers, at most two thirds full; the names themselves are stored elsewhere.
#[derive(Debug, Default)]
pub(super) struct NameTable {
    slots: Box<[Slot]>,
}

impl NameTable {
    /// Room for `count` names.
    pub(super) fn with_room_for(count: usize) -> Self {
        if count == 0 {
            return NameTable::default();
        }
        let size = (count + count / 2 + 1).next_power_of_two();
        NameTable { slots: vec![Slot::FREE; size].into_boxed_slice() }
    }

    /// The slot of the name with this hash, or the free slot where it would be. `None` for a table without slots. There
    /// is always a free slot, because the table is never full.
    fn slot(&self, hash: u64, same: impl Fn(u32) -> bool) -> Option<usize> {
        let mask = self.slots.len().checked_sub(1)?;
        let (mut at, tag) = (hash as usize & mask, (hash >> 32) as u32);
        loop {
            let slot = self.slots[at];
            if slot.value == NONE || (slot.tag == tag && same(slot.value)) {
                return Some(at);
            }
            at = (at + 1) & mask;
        }
    }

    /// The number of the name with this hash; `same` compares the name.
    pub(super) fn find(&self, hash: u64, same: impl Fn(u32) -> bool) -> Option<u32> {
        let value = self.slots[self.slot(hash, same)?].value;
        (value != NONE).then_some(value)
    }

    /// Stores this number for the name, and returns the earlier one. The caller must not add more names than it
    /// reserved room for.
    pub(super) fn insert(&mut self, hash: u64, value: u32, same: impl Fn(u32) -> bool) -> Option<u32> {
        let at = self.slot(hash, same)?;
        let earlier = std::mem::replace(&mut self.slots[at], Slot { tag: (hash >> 32) as u32, value });
        (earlier.value != NONE).then_some(earlier.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suffixes_begin_at_labels_only() {
        let got: Vec<_> = suffixes("a.bc.d").collect();
        assert_eq!(got, [(5, hash("d")), (2, hash("bc.d")), (0, hash("a.bc.d"))]);
        assert_eq!(suffixes("x").count(), 1);
    }

    #[test]
    fn every_name_is_found_again_and_no_other() {
        let names: Vec<String> = (0..5000).map(|n| format!("host{n}.example{}.test", n % 7)).collect();
        let mut table = NameTable::with_room_for(names.len());
        for (value, name) in names.iter().enumerate() {
            assert_eq!(table.insert(hash(name), value as u32, |at| names[at as usize] == *name), None);
        }
        for (value, name) in names.iter().enumerate() {
            assert_eq!(
                table.find(hash(name), |at| names[at as usize] == *name),
                Some(value as u32),
                "{name}"
            );
        }
        assert_eq!(table.insert(hash(&names[7]), 9999, |at| names[at as usize] == names[7]), Some(7));
        assert_eq!(table.find(hash("other.test"), |at| names[at as usize] == "other.test"), None);
        assert_eq!(NameTable::default().find(hash("a"), |_| true), None);
    }
}
