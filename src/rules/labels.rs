//! From a host to the patterns with a `*` inside that match it.
//!
//! There is one bucket of patterns for each literal suffix (`amazonaws.com` of `ec2-*.amazonaws.com`), so that a host
//! is compared only with patterns of its own domains. In a bucket a `globset` finds all candidates at once. globset is
//! made for paths, where `*` may be empty and does not cross `/`. So dots become slashes, `*` becomes `?*`, and a
//! candidate counts only if [`super::label_pattern`] agrees.

use globset::{Candidate, GlobBuilder, GlobSet, GlobSetBuilder};

use super::label_pattern::{literal_suffix, matches};
use super::names::{NameTable, hash};
use super::store::{RuleId, Store};
use crate::words::target::MAX_NAME;

/// The patterns with one literal suffix.
#[derive(Debug)]
struct Bucket {
    suffix: Box<str>,
    /// Matches what comes before the suffix.
    heads: GlobSet,
    /// By number in `heads`: the pattern's place in the order of all patterns of the policy, and its rule.
    rules: Box<[Hit]>,
}

/// A pattern that matches: its place in the order of precedence, and its rule.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Hit {
    place: u16,
    pub(super) rule: RuleId,
}

/// All patterns of a policy.
#[derive(Debug, Default)]
pub(super) struct Labels {
    table: NameTable,
    buckets: Vec<Bucket>,
}

impl Labels {
    /// `ids` in the order of precedence, at most [`super::MAX_PATTERNS`].
    pub(super) fn build(ids: &[RuleId], store: &Store) -> Result<Self, globset::Error> {
        let mut labels = Labels { table: NameTable::with_room_for(ids.len()), buckets: Vec::new() };
        let mut building: Vec<(GlobSetBuilder, Vec<Hit>)> = Vec::new();
        for (place, &rule) in (0..=u16::MAX).zip(ids) {
            let pattern = store.host(rule);
            let suffix = literal_suffix(pattern);
            let Labels { table, buckets } = &mut labels;
            let hash = hash(suffix);
            let found = table.find(hash, |at| &*buckets[at as usize].suffix == suffix);
            let at = found.unwrap_or(buckets.len() as u32);
            if found.is_none() {
                table.insert(hash, at, |_| false);
                buckets.push(Bucket {
                    suffix: suffix.into(),
                    heads: GlobSet::empty(),
                    rules: Box::default(),
                });
                building.push((GlobSetBuilder::new(), Vec::new()));
            }
            let (globs, hits) = &mut building[at as usize];
            let head = pattern.strip_suffix(suffix).unwrap_or(pattern).trim_end_matches('.');
            let glob = head.replace('*', "?*").replace('.', "/");
            globs.add(GlobBuilder::new(&glob).literal_separator(true).build()?);
            hits.push(Hit { place, rule });
        }
        for (bucket, (globs, hits)) in labels.buckets.iter_mut().zip(building) {
            bucket.heads = globs.build()?;
            bucket.rules = hits.into_boxed_slice();
        }
        Ok(labels)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.buckets.is_empty()
    }

    /// Adds to `hits` the patterns that match `name`, of those whose literal suffix begins at `start`.
    pub(super) fn find(&self, name: &str, start: usize, hash: u64, store: &Store, hits: &mut Vec<Hit>) {
        let Some((bucket, head)) = self.bucket(name, start, hash) else { return };
        let mut slashed = [0; MAX_NAME];
        let Some(slashed) = slashed.get_mut(..head.len()) else { return };
        for (to, from) in slashed.iter_mut().zip(head.bytes()) {
            *to = if from == b'.' { b'/' } else { from };
        }
        let candidates = bucket.heads.matches_candidate(&Candidate::from_bytes(&*slashed));
        let rules = candidates.into_iter().filter_map(|at| bucket.rules.get(at));
        hits.extend(rules.filter(|hit| matches(store.host(hit.rule), name)));
    }

    /// The first rules of the patterns whose literal suffix begins at `start`, to explain why none matched.
    pub(super) fn near(&self, name: &str, start: usize, hash: u64) -> impl Iterator<Item = RuleId> {
        self.bucket(name, start, hash)
            .into_iter()
            .flat_map(|(bucket, _)| bucket.rules.iter().map(|hit| hit.rule))
    }

    /// Every pattern's rule.
    pub(super) fn rules(&self) -> impl Iterator<Item = RuleId> {
        self.buckets.iter().flat_map(|bucket| bucket.rules.iter().map(|hit| hit.rule))
    }

    fn bucket<'a>(&self, name: &'a str, start: usize, hash: u64) -> Option<(&Bucket, &'a str)> {
        let head = name.get(..start.checked_sub(1)?)?;
        let suffix = name.get(start..)?;
        let at = self.table.find(hash, |at| &*self.buckets[at as usize].suffix == suffix)?;
        Some((&self.buckets[at as usize], head))
    }
}
