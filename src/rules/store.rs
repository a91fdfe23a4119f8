//! The rules of one policy in little memory: one shared text, and 32 bytes for each rule.
//!
//! Otherwise a million rules would be a million small strings, which take 70 ms to drop and twice the memory. Here a
//! rule is a number, and its contents are read from the arena. Not here: finding the rules for a host
//! ([`names`](super::names), [`labels`](super::labels), [`networks`](super::networks)).

use super::label_pattern::literal_characters;
use super::pattern::HostPattern;
use super::rule::{Ports, Schemes};
use crate::words::target::Port;

/// A rule's number in its policy: the order in which the rules were written.
pub(super) type RuleId = u32;

/// No rule: the end of a chain.
pub(super) const NONE: RuleId = RuleId::MAX;

/// The kind of host that a rule matches.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Exact,
    Under,
    UnderOrSelf,
    Labels,
    Address,
}

impl Kind {
    pub(super) fn of(pattern: &HostPattern) -> Self {
        match pattern {
            HostPattern::Exact(_) => Kind::Exact,
            HostPattern::Under(_) => Kind::Under,
            HostPattern::UnderOrSelf(_) => Kind::UnderOrSelf,
            HostPattern::Labels(_) => Kind::Labels,
            HostPattern::Address(_) | HostPattern::Network(_) => Kind::Address,
        }
    }

    /// The length of the mark before the name in the canonical text: `*.`, `.`.
    fn mark(self) -> usize {
        match self {
            Kind::Under => 2,
            Kind::UnderOrSelf => 1,
            Kind::Exact | Kind::Labels | Kind::Address => 0,
        }
    }
}

/// One rule. It has 32 bytes: 32 MB of the 110 MiB that a million rules may cost. It is aligned, so that reading one
/// rule reads one cache line.
#[derive(Clone, Copy, Debug)]
#[repr(align(32))]
pub(super) struct Rule {
    text_at: u32,
    /// In its file, from 1.
    pub(super) line: u32,
    /// The next rule for the same host, in the order of precedence; [`NONE`] at the end.
    pub(super) next: RuleId,
    pub(super) options: u32,
    text_len: u16,
    /// The distance from `text_at` to the canonical host, which is inside the text or directly after it.
    host_from: u16,
    /// 0: no port was written, so each scheme has its own port.
    low: u16,
    high: u16,
    pub(super) file: u16,
    host_len: u8,
    /// Bits 0–2 schemes, 3–5 kind, 6 inline, 7 deny.
    flags: u8,
}

const _: () = assert!(size_of::<Rule>() == 32);

const INLINE: u8 = 1 << 6;
const DENY: u8 = 1 << 7;

impl Rule {
    pub(super) fn kind(&self) -> Kind {
        match (self.flags >> 3) & 0b111 {
            0 => Kind::Exact,
            1 => Kind::Under,
            2 => Kind::UnderOrSelf,
            3 => Kind::Labels,
            _ => Kind::Address,
        }
    }

    pub(super) fn schemes(&self) -> Schemes {
        Schemes::from_bits(self.flags)
    }

    pub(super) fn is_deny(&self) -> bool {
        self.flags & DENY != 0
    }

    pub(super) fn is_inline(&self) -> bool {
        self.flags & INLINE != 0
    }

    /// The ports as written; `None` if each scheme has its own port.
    pub(super) fn ports(&self) -> Option<Ports> {
        Some(Ports { low: Port::new(self.low)?, high: Port::new(self.high)? })
    }

    /// The number of ports after the first one: a default port is as narrow as a written one. For `deny`, a missing
    /// port means any port.
    fn width(&self) -> u16 {
        match self.ports() {
            Some(_) => self.high.wrapping_sub(self.low),
            None if self.is_deny() => u16::MAX,
            None => 0,
        }
    }

    /// The order of rules with equally specific hosts: narrower ports first, then inline rules before rules of files.
    /// After it, the rule's number decides.
    fn rank(&self) -> (u16, bool) {
        (self.width(), !self.is_inline())
    }
}

/// The parts of a rule, before it is packed.
pub(super) struct NewRule<'a> {
    pub(super) text: &'a str,
    pub(super) host: &'a HostPattern,
    pub(super) schemes: Schemes,
    pub(super) ports: Option<Ports>,
    pub(super) file: u16,
    pub(super) line: u32,
    pub(super) inline: bool,
    pub(super) deny: bool,
    pub(super) options: u32,
}

/// The number of rules in one block of 64 KiB.
const BLOCK: usize = 1 << 11;

/// All rules of a policy, by number.
#[derive(Debug, Default)]
pub(super) struct Store {
    arena: String,
    /// In blocks of [`BLOCK`]: one growing list would be copied, and would be in memory twice during the copy.
    blocks: Vec<Vec<Rule>>,
    count: usize,
    /// Reused for canonical texts while the store is filled.
    canonical: String,
}

impl Store {
    /// Packs a rule. `None`: the texts no longer fit into 4 GiB, or this one is too long for any rule.
    pub(super) fn push(&mut self, new: &NewRule<'_>) -> Option<RuleId> {
        let id = RuleId::try_from(self.count).ok().filter(|id| *id != NONE)?;
        let text_at = u32::try_from(self.arena.len()).ok()?;
        let text_len = u16::try_from(new.text.len()).ok()?;
        self.canonical.clear();
        new.host.append_to(&mut self.canonical);
        let host_len = u8::try_from(self.canonical.len()).ok()?;
        // The text nearly always contains its canonical host, directly after the scheme.
        let scheme = match new.text.starts_with(&self.canonical) {
            true => 0,
            false => new.text.find("://").map_or(0, |colon| colon + 3),
        };
        let inside = new.text.get(scheme..).is_some_and(|host| host.starts_with(&self.canonical));
        let host_from = if inside { u16::try_from(scheme).ok()? } else { text_len };
        let appended = if inside { 0 } else { self.canonical.len() };
        u32::try_from(self.arena.len() + new.text.len() + appended).ok()?;
        self.arena.push_str(new.text);
        if !inside {
            self.arena.push_str(&self.canonical);
        }
        let kind = match Kind::of(new.host) {
            Kind::Exact => 0,
            Kind::Under => 1,
            Kind::UnderOrSelf => 2,
            Kind::Labels => 3,
            Kind::Address => 4,
        };
        let marks = if new.inline { INLINE } else { 0 } | if new.deny { DENY } else { 0 };
        let rule = Rule {
            text_at,
            line: new.line,
            next: NONE,
            options: new.options,
            text_len,
            host_from,
            low: new.ports.map_or(0, |ports| ports.low.get()),
            high: new.ports.map_or(0, |ports| ports.high.get()),
            file: new.file,
            host_len,
            flags: new.schemes.bits() | kind << 3 | marks,
        };
        match self.blocks.last_mut().filter(|block| block.len() < BLOCK) {
            Some(block) => block.push(rule),
            None => {
                // The first block of a small policy stays small.
                let mut block = Vec::with_capacity(if self.blocks.is_empty() { 1 } else { BLOCK });
                block.push(rule);
                self.blocks.push(block);
            }
        }
        self.count += 1;
        Some(id)
    }

    /// Frees the memory that growth left unused.
    pub(super) fn shrink(&mut self) {
        self.arena.shrink_to_fit();
        self.canonical = String::new();
    }

    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// The numbers of all rules, in the order in which they were written.
    pub(super) fn ids(&self) -> std::ops::Range<RuleId> {
        // The count fits, because `push` gave the last rule a number.
        0..RuleId::try_from(self.count).unwrap_or(NONE)
    }

    pub(super) fn rule(&self, id: RuleId) -> &Rule {
        &self.blocks[id as usize / BLOCK][id as usize % BLOCK]
    }

    fn rule_mut(&mut self, id: RuleId) -> &mut Rule {
        &mut self.blocks[id as usize / BLOCK][id as usize % BLOCK]
    }

    /// The rule as written.
    pub(super) fn text(&self, id: RuleId) -> &str {
        let rule = self.rule(id);
        let at = rule.text_at as usize;
        &self.arena[at..at + usize::from(rule.text_len)]
    }

    /// The canonical host, as [`HostPattern`] shows it.
    pub(super) fn host(&self, id: RuleId) -> &str {
        let rule = self.rule(id);
        let at = rule.text_at as usize + usize::from(rule.host_from);
        &self.arena[at..at + usize::from(rule.host_len)]
    }

    /// The canonical name without `*.` or `.` before it.
    pub(super) fn name(&self, id: RuleId) -> &str {
        &self.host(id)[self.rule(id).kind().mark()..]
    }

    /// The rules of a chain from `head` on, in the order of precedence.
    pub(super) fn chain(&self, head: RuleId) -> impl Iterator<Item = (RuleId, &Rule)> {
        let first = (head != NONE).then_some(head);
        std::iter::successors(first, |&id| Some(self.rule(id).next).filter(|&next| next != NONE))
            .map(|id| (id, self.rule(id)))
    }

    /// Puts `id` before `head`; [`Store::sort_chain`] sorts the chain later.
    pub(super) fn prepend(&mut self, id: RuleId, head: RuleId) {
        self.rule_mut(id).next = head;
    }

    /// Links the rules in the order of precedence, and returns the first.
    pub(super) fn link(&mut self, ids: &mut [RuleId]) -> RuleId {
        ids.sort_unstable_by_key(|&id| (self.rule(id).rank(), id));
        let mut next = NONE;
        for &id in ids.iter().rev() {
            self.rule_mut(id).next = next;
            next = id;
        }
        next
    }

    /// Sorts the chain at `head` in the order of precedence, and returns its first rule.
    pub(super) fn sort_chain(&mut self, head: RuleId) -> RuleId {
        let mut ids: Vec<RuleId> = self.chain(head).map(|(id, _)| id).collect();
        self.link(&mut ids)
    }

    /// Sorts patterns with a `*` inside: more literal characters first, then in the order of rules with equal hosts.
    pub(super) fn sort_patterns(&self, ids: &mut [RuleId]) {
        ids.sort_by_key(|&id| {
            (std::cmp::Reverse(literal_characters(self.host(id))), self.rule(id).rank(), id)
        });
    }
}
