//! By which ways and on which ports a host is reached: sets of segments of ports, for tunnels and for plain requests.

use super::super::ports::Segments;
use super::super::table::{VerdictRow, WAYS};

/// A set of ways and segments; each has the number `way * segments + segment`, as in a [`VerdictRow`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Reach(Vec<bool>);

impl Reach {
    /// Nothing of what these segments allow for.
    pub(super) fn nothing(segments: &Segments) -> Self {
        Reach(vec![false; segments.len() * WAYS.len()])
    }

    /// What a row allows.
    pub(super) fn allowed(row: &VerdictRow, segments: &Segments) -> Self {
        Reach((0..segments.len() * WAYS.len()).map(|index| row.get(index).is_some()).collect())
    }

    pub(super) fn has(&self, index: usize) -> bool {
        self.0.get(index) == Some(&true)
    }

    pub(super) fn add(&mut self, index: usize) {
        if let Some(bit) = self.0.get_mut(index) {
            *bit = true;
        }
    }

    /// Nothing is in it.
    pub(super) fn is_empty(&self) -> bool {
        !self.0.contains(&true)
    }

    /// Everything is in it.
    pub(super) fn is_whole(&self) -> bool {
        !self.0.contains(&false)
    }

    /// Everything.
    pub(super) fn whole(&self) -> Self {
        Reach(vec![true; self.0.len()])
    }

    /// What is in one or the other.
    pub(super) fn or(&self, other: &Self) -> Self {
        self.with(other, |one, two| one || two)
    }

    /// What is in both.
    pub(super) fn and(&self, other: &Self) -> Self {
        self.with(other, |one, two| one && two)
    }

    /// What is in it and not in the other.
    pub(super) fn without(&self, other: &Self) -> Self {
        self.with(other, |one, two| one && !two)
    }

    /// The numbers in it that are `wanted`.
    pub(super) fn filter(&self, wanted: impl Fn(usize) -> bool) -> Self {
        Reach(self.0.iter().enumerate().map(|(index, bit)| *bit && wanted(index)).collect())
    }

    /// The segments of one way, 0 or 1.
    pub(super) fn way(&self, way: usize) -> &[bool] {
        let count = self.0.len() / WAYS.len();
        self.0.get(way * count..(way + 1) * count).unwrap_or_default()
    }

    fn with(&self, other: &Self, both: impl Fn(bool, bool) -> bool) -> Self {
        Reach(self.0.iter().zip(&other.0).map(|(one, two)| both(*one, *two)).collect())
    }
}

/// What holds under a network or a name for all that no narrower one says.
#[derive(Clone, Debug)]
pub(super) struct Above {
    pub(super) granted: Reach,
    pub(super) denied: Reach,
}

impl Above {
    /// Nothing is said.
    pub(super) fn nothing(segments: &Segments) -> Self {
        Above { granted: Reach::nothing(segments), denied: Reach::nothing(segments) }
    }
}
