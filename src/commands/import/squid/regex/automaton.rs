//! What a pattern fits: one text, every text of a kind, or none of it.
//!
//! A pattern becomes a deterministic automaton, so that a question about all names under `example.com` has an exact answer:
//! after every such name it is in one of a few states.

use std::collections::HashSet;
use std::hash::Hash;
use std::sync::Arc;

use regex_automata::dfa::{Automaton as _, StartKind, dense};
use regex_automata::nfa::thompson;
use regex_automata::util::primitives::StateID;
use regex_automata::util::start;
use regex_automata::{Anchored, MatchKind};
use regex_syntax::hir::Hir;

use super::super::truth::Truth;

/// Bytes of an automaton: thousands of states. A pattern that needs more is not followed.
const MAX_BYTES: usize = 2 << 20;

/// Where an automaton is after some text.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum State {
    /// It has found what it looks for: what follows changes nothing.
    Found,
    On(StateID),
}

/// The automaton of some patterns: it finds whether one of them fits somewhere in a text.
#[derive(Clone, Debug)]
pub(super) struct Automaton {
    dfa: Arc<dense::DFA<Vec<u32>>>,
    begin: State,
    /// After any labels with a dot behind each, of which there is at least one.
    under: Vec<State>,
    /// After one more byte, by the byte: most states meet there.
    under_byte: Vec<Vec<State>>,
}

/// How far a host name has been read.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum InName {
    Begin,
    /// At the beginning of a label behind another one.
    Label,
    /// In a label of digits so far: no host name ends with one.
    Digits,
    Letters,
}

impl InName {
    /// After one more byte of a host name; None: there is no such name.
    pub(super) fn after(self, byte: u8) -> Option<Self> {
        match (self, byte) {
            (InName::Begin | InName::Label, b'.') => None,
            (_, b'.') => Some(InName::Label),
            (InName::Letters, _) => Some(InName::Letters),
            (_, b'0'..=b'9') => Some(InName::Digits),
            _ => Some(InName::Letters),
        }
    }
}

/// The bytes of a host name.
pub(super) const NAME_BYTES: &[u8] = b"abcdefghijklmnopqrstuvwxyz0123456789-_.";

impl Automaton {
    /// None: it would be too large.
    pub(super) fn of(patterns: &[Hir]) -> Option<Self> {
        let config = thompson::Config::new().utf8(false).nfa_size_limit(Some(MAX_BYTES));
        let nfa = thompson::Compiler::new().configure(config).build_many_from_hir(patterns).ok()?;
        let config = dense::Config::new()
            .start_kind(StartKind::Unanchored)
            .match_kind(MatchKind::All)
            .accelerate(false)
            .dfa_size_limit(Some(MAX_BYTES))
            .determinize_size_limit(Some(4 * MAX_BYTES));
        let dfa = dense::Builder::new().configure(config).build_from_nfa(&nfa).ok()?;
        let begin = dfa.start_state(&start::Config::new().anchored(Anchored::No)).ok()?;
        let begin = if dfa.is_match_state(begin) { State::Found } else { State::On(begin) };
        let (under, under_byte) = (Vec::new(), Vec::new());
        let mut automaton = Automaton { dfa: Arc::new(dfa), begin, under, under_byte };
        automaton.under = automaton.names_until(&[begin], InName::Label);
        automaton.under_byte = (0..=u8::MAX)
            .map(|byte| {
                let states = if NAME_BYTES.contains(&byte) { automaton.under.as_slice() } else { &[] };
                met(states.iter().map(|state| automaton.step(*state, byte)).collect())
            })
            .collect();
        Some(automaton)
    }

    pub(super) fn begin(&self) -> State {
        self.begin
    }

    pub(super) fn step(&self, state: State, byte: u8) -> State {
        match state {
            State::Found => State::Found,
            State::On(state) => {
                let next = self.dfa.next_state(state, byte);
                if self.dfa.is_match_state(next) { State::Found } else { State::On(next) }
            }
        }
    }

    /// Whether a text that ends here fits.
    pub(super) fn ends(&self, state: State) -> bool {
        match state {
            State::Found => true,
            State::On(state) => self.dfa.is_match_state(self.dfa.next_eoi_state(state)),
        }
    }

    /// Where it is after a text.
    pub(super) fn after(&self, states: &[State], text: &str) -> Vec<State> {
        let mut states = states.to_vec();
        for byte in text.bytes() {
            for state in &mut states {
                *state = self.step(*state, byte);
            }
            states = met(states);
        }
        states
    }

    /// Where it is after every name under a name.
    pub(super) fn after_under(&self, name: &str) -> Vec<State> {
        let Some((first, rest)) =
            name.as_bytes().split_first().zip(name.get(1..)).map(|((first, _), rest)| (first, rest))
        else {
            return Vec::new();
        };
        self.after(self.under_byte.get(usize::from(*first)).map(Vec::as_slice).unwrap_or_default(), rest)
    }

    /// Whether it fits what ends in these states.
    pub(super) fn of_all(&self, states: &[State]) -> Truth {
        let fitting = states.iter().filter(|state| self.ends(**state)).count();
        match fitting {
            0 => Truth::No,
            _ if fitting == states.len() => Truth::Yes,
            _ => Truth::Maybe,
        }
    }

    /// The states after every name under any name, where it began in one of these: `a.`, `b.a.` and so on.
    pub(super) fn under_from(&self, from: &[State]) -> Vec<State> {
        self.names_until(from, InName::Label)
    }

    /// The states after every host name that began in one of these.
    pub(super) fn names_from(&self, from: &[State]) -> Vec<State> {
        self.names_until(from, InName::Letters)
    }

    fn names_until(&self, from: &[State], at: InName) -> Vec<State> {
        let begin = from.iter().map(|state| (*state, InName::Begin)).collect();
        let reached = reach(begin, |(state, name)| {
            let next = |byte: &u8| Some((self.step(state, *byte), name.after(*byte)?));
            NAME_BYTES.iter().filter_map(next).collect()
        });
        reached.into_iter().filter(|(_, name)| *name == at).map(|(state, _)| state).collect()
    }

    /// The states after all texts of these bytes, between so many of them.
    pub(super) fn runs(&self, from: &[State], bytes: &[u8], least: usize, most: Option<usize>) -> Vec<State> {
        // Beyond the most, or the least where there is no most, the number does not matter.
        let last = most.unwrap_or(least);
        let begin = from.iter().map(|state| (*state, 0)).collect();
        let reached = reach(begin, |(state, count)| {
            if count >= last && most.is_some() {
                return Vec::new();
            }
            bytes.iter().map(|byte| (self.step(state, *byte), (count + 1).min(last))).collect()
        });
        let mut seen = HashSet::new();
        let enough = reached.into_iter().filter(|(_, count)| *count >= least).map(|(state, _)| state);
        enough.filter(|state| seen.insert(*state)).collect()
    }
}

/// Each state once.
fn met(mut states: Vec<State>) -> Vec<State> {
    if states.len() > 1 {
        let mut seen = HashSet::with_capacity(states.len());
        states.retain(|state| seen.insert(*state));
    }
    states
}

/// Everything that is reached from there, the beginning included.
pub(super) fn reach<T: Copy + Eq + Hash>(begin: Vec<T>, next: impl Fn(T) -> Vec<T>) -> HashSet<T> {
    let mut reached: HashSet<T> = begin.iter().copied().collect();
    let mut waiting = begin;
    while let Some(one) = waiting.pop() {
        for other in next(one) {
            if reached.insert(other) {
                waiting.push(other);
            }
        }
    }
    reached
}
