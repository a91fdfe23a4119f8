//! From an address to the rules for it and for the networks that contain it.
//!
//! A sorted list, with a link from each network to the smallest network around it. The last network that begins at or
//! before the address is inside every network that contains the address. So one binary search and a walk outwards find
//! all of them, smallest first. An IPv4 network takes 12 bytes, an IPv6 network 24.

use std::net::IpAddr;

use ipnet::IpNet;

use super::store::{NONE, RuleId, Store};

/// The bits of an address, most significant first.
trait Bits: Copy + Ord {
    /// The address with all bits after the first `prefix` bits cleared.
    fn masked(self, prefix: u8) -> Self;
}

impl Bits for u32 {
    fn masked(self, prefix: u8) -> Self {
        match prefix {
            0 => 0,
            _ => self & (u32::MAX << (32 - u32::from(prefix.min(32)))),
        }
    }
}

/// An IPv6 address as two halves: a `u128` would align each entry to 16 bytes and make it 32 bytes long.
impl Bits for [u64; 2] {
    fn masked(self, prefix: u8) -> Self {
        let mask = |bits: u8| if bits == 0 { 0 } else { u64::MAX << (64 - u32::from(bits.min(64))) };
        let [high, low] = self;
        [high & mask(prefix.min(64)), low & mask(prefix.saturating_sub(64))]
    }
}

fn halves(address: std::net::Ipv6Addr) -> [u64; 2] {
    let bits = address.to_bits();
    [(bits >> 64) as u64, bits as u64]
}

/// A network, the first of its rules, and the network around it.
#[derive(Clone, Copy, Debug)]
struct Entry<A> {
    start: A,
    head: RuleId,
    /// The prefix length in the low 8 bits; above it the number of the network around this one, or [`OUTERMOST`].
    link: u32,
}

const _: () = assert!(size_of::<Entry<u32>>() == 12 && size_of::<Entry<[u64; 2]>>() == 24);

/// Fits in 24 bits; the builder's limit of a million rules keeps every number below it.
const OUTERMOST: u32 = 0xFF_FFFF;

impl<A: Bits> Entry<A> {
    fn prefix(&self) -> u8 {
        (self.link & 0xFF) as u8
    }

    fn around(&self) -> Option<usize> {
        let around = self.link >> 8;
        (around != OUTERMOST).then_some(around as usize)
    }

    fn holds(&self, address: A) -> bool {
        address.masked(self.prefix()) == self.start
    }
}

#[derive(Debug)]
struct Table<A> {
    entries: Vec<Entry<A>>,
    /// The start of every [`STRIDE`]th entry, so that the first steps of a search stay in the cache.
    samples: Box<[A]>,
}

/// A million IPv4 networks have 125 KB of samples, with six cache lines between two samples.
const STRIDE: usize = 32;

impl<A> Default for Table<A> {
    fn default() -> Self {
        Table { entries: Vec::new(), samples: Box::default() }
    }
}

impl<A: Bits> Table<A> {
    fn push(&mut self, start: A, prefix: u8, rule: RuleId) {
        self.entries.push(Entry { start, head: rule, link: OUTERMOST << 8 | u32::from(prefix) });
    }

    /// Sorts, chains the rules of equal networks, and links each network to the one around it. All in place: for a
    /// million IPv6 networks a copy would take 24 MB.
    fn build(&mut self, store: &mut Store) {
        let entries = &mut self.entries;
        entries.sort_unstable_by_key(|entry| (entry.start, entry.prefix(), entry.head));
        let (mut kept, mut from) = (0, 0);
        while let Some(&first) = entries.get(from) {
            let same = |entry: &Entry<A>| entry.start == first.start && entry.prefix() == first.prefix();
            let count = entries[from..].iter().take_while(|entry| same(entry)).count();
            let head = if count == 1 {
                first.head
            } else {
                let mut ids: Vec<RuleId> =
                    entries[from..from + count].iter().map(|entry| entry.head).collect();
                store.link(&mut ids)
            };
            entries[kept] = Entry { head, ..first };
            kept += 1;
            from += count;
        }
        entries.truncate(kept);
        entries.shrink_to_fit();
        let mut around: Vec<u32> = Vec::new();
        for at in 0..entries.len() {
            let entry = entries[at];
            while around.last().is_some_and(|&outer| !entries[outer as usize].holds(entry.start)) {
                around.pop();
            }
            let outer = around.last().copied().unwrap_or(OUTERMOST);
            entries[at].link = outer << 8 | u32::from(entry.prefix());
            around.push(at as u32);
        }
        self.samples = entries.iter().step_by(STRIDE).map(|entry| entry.start).collect();
    }

    /// The last network that begins at or before `address`.
    fn last_from(&self, address: A) -> Option<usize> {
        let block = self.samples.partition_point(|start| *start <= address).checked_sub(1)? * STRIDE;
        let entries = &self.entries[block..self.entries.len().min(block + STRIDE)];
        (block + entries.partition_point(|entry| entry.start <= address)).checked_sub(1)
    }

    /// The first rule of every network that contains `address`, the smallest network first.
    fn holding(&self, address: A) -> impl Iterator<Item = RuleId> {
        let last = self.last_from(address);
        std::iter::successors(last, |&at| self.entries[at].around())
            .map(|at| &self.entries[at])
            .filter(move |entry| entry.holds(address))
            .map(|entry| entry.head)
    }

    /// The first rule of every network that contains all of the network at `start`, the smallest first.
    fn around(&self, start: A, prefix: u8) -> impl Iterator<Item = RuleId> {
        // Of networks with the same start, the larger come first.
        let last = self
            .entries
            .partition_point(|entry| (entry.start, entry.prefix()) <= (start, prefix))
            .checked_sub(1);
        std::iter::successors(last, |&at| self.entries[at].around())
            .map(|at| &self.entries[at])
            .filter(move |entry| entry.prefix() <= prefix && entry.holds(start))
            .map(|entry| entry.head)
    }
}

/// The rules for addresses and networks.
#[derive(Debug, Default)]
pub(super) struct Networks {
    v4: Table<u32>,
    v6: Table<[u64; 2]>,
}

impl Networks {
    pub(super) fn push(&mut self, network: IpNet, rule: RuleId) {
        debug_assert_ne!(rule, NONE);
        match network {
            IpNet::V4(v4) => self.v4.push(v4.network().to_bits(), v4.prefix_len(), rule),
            IpNet::V6(v6) => self.v6.push(halves(v6.network()), v6.prefix_len(), rule),
        }
    }

    /// Call this after the last `push` and before the first lookup.
    pub(super) fn build(&mut self, store: &mut Store) {
        self.v4.build(store);
        self.v6.build(store);
    }

    /// The chains of rules for `address`, the smallest network first. The caller must unmap IPv4-mapped addresses.
    pub(super) fn holding(&self, address: IpAddr) -> impl Iterator<Item = RuleId> {
        let (v4, v6) = match address {
            IpAddr::V4(v4) => (Some(self.v4.holding(v4.to_bits())), None),
            IpAddr::V6(v6) => (None, Some(self.v6.holding(halves(v6)))),
        };
        v4.into_iter().flatten().chain(v6.into_iter().flatten())
    }

    /// The chains of rules for every network that contains all of `network`, itself included, the smallest first.
    pub(super) fn around(&self, network: IpNet) -> impl Iterator<Item = RuleId> {
        let prefix = network.prefix_len();
        let (v4, v6) = match network {
            IpNet::V4(v4) => (Some(self.v4.around(v4.network().to_bits(), prefix)), None),
            IpNet::V6(v6) => (None, Some(self.v6.around(halves(v6.network()), prefix))),
        };
        v4.into_iter().flatten().chain(v6.into_iter().flatten())
    }
}
