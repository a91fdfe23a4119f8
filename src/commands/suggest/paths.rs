//! The paths that were seen, as a tree by segments, and the shortest list of patterns for all of them.
//!
//! A path is written as it was seen. Where more than [`MANY`] names were seen below a path, `/**` is written in their place;
//! so the tree does not grow with the log, and the result does not depend on the order of its lines. A path that no exact
//! pattern can be written for (it is long, was cut, or contains `**`) counts below what is before it.

use std::collections::BTreeMap;

/// More names than this below one path are written as `/**`.
const MANY: usize = 10;
/// Segments, and bytes, that are kept of a path. A pattern has at most 1,024 bytes.
pub(super) const DEEPEST: usize = 16;
const LONGEST: usize = 512;
/// What the log writes at the end of a value that it cut.
pub(super) const CUT: char = '…';

/// Paths of one kind of request, with how often each was seen.
#[derive(Clone, Default, Debug)]
pub(super) struct Paths {
    root: Node,
}

#[derive(Clone, Default, Debug)]
struct Node {
    /// Requests to exactly this path.
    ends: u64,
    below: BTreeMap<Box<str>, Node>,
    /// Requests below it, once they are no longer told apart.
    any: Option<u64>,
}

impl Paths {
    /// Adds a path that begins with `/`. `room` is how many nodes may still be made for the whole log: without any, the
    /// path counts below what is already there.
    pub(super) fn add(&mut self, path: &str, room: &mut usize) {
        let (path, is_cut) = match path.strip_suffix(CUT) {
            Some(before) => (before, true),
            None => (path, false),
        };
        let (mut node, mut length) = (&mut self.root, 0);
        let mut segments = path.strip_prefix('/').unwrap_or(path).split('/').enumerate().peekable();
        while let Some((depth, segment)) = segments.next() {
            length += 1 + segment.len();
            let is_whole = !is_cut || segments.peek().is_some();
            let is_writable = is_whole && depth < DEEPEST && length <= LONGEST && !segment.contains("**");
            let is_known = node.below.contains_key(segment);
            let has_room = is_known || (node.below.len() < MANY && *room > 0);
            if node.any.is_some() || !is_writable || !has_room {
                node.fold(room);
                node.any = node.any.map(|count| count + 1);
                return;
            }
            if !is_known {
                *room -= 1;
            }
            node = node.below.entry(segment.into()).or_default();
        }
        node.ends += 1;
    }

    /// The patterns, each with its number of requests. What has more than `deepest` segments is written as `/**` below them.
    pub(super) fn patterns(&self, deepest: usize) -> Vec<(String, u64)> {
        let mut patterns = Vec::new();
        self.root.write(&mut String::new(), deepest, &mut patterns);
        patterns
    }
}

impl Node {
    /// What is below it is no longer told apart.
    fn fold(&mut self, room: &mut usize) {
        let (count, nodes) = self.sum_below();
        self.any = Some(count);
        self.below.clear();
        *room += nodes;
    }

    /// Requests and nodes below it.
    fn sum_below(&self) -> (u64, usize) {
        self.below.values().fold((self.any.unwrap_or(0), 0), |(count, nodes), node| {
            let (more, of_it) = node.sum_below();
            (count + node.ends + more, nodes + 1 + of_it)
        })
    }

    fn write(&self, path: &mut String, deepest: usize, patterns: &mut Vec<(String, u64)>) {
        if self.ends > 0 {
            patterns.push((path.clone(), self.ends));
        }
        if self.any.is_some() || deepest == 0 && !self.below.is_empty() {
            patterns.push((format!("{path}/**"), self.sum_below().0));
            return;
        }
        let length = path.len();
        for (segment, node) in &self.below {
            path.push('/');
            path.push_str(segment);
            node.write(path, deepest.saturating_sub(1), patterns);
            path.truncate(length);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::rules::PathPattern;

    fn patterns(paths: &[&str]) -> Vec<String> {
        let (mut all, mut room) = (Paths::default(), 1_000);
        paths.iter().for_each(|path| all.add(path, &mut room));
        all.patterns(DEEPEST).into_iter().map(|(pattern, count)| format!("{count} {pattern}")).collect()
    }

    #[test]
    fn paths_are_written_as_seen_and_many_of_one_place_as_all_of_it() {
        assert_eq!(patterns(&["/", "/a", "/a/", "/a", "/b/c"]), ["1 /", "2 /a", "1 /a/", "1 /b/c"]);
        let many: Vec<String> = (0..=MANY).map(|number| format!("/v1/{number}/x")).collect();
        let mut many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert_eq!(patterns(&many[1..]).len(), MANY);
        many.extend(["/v1", "/v1/", "/v2"]);
        assert_eq!(patterns(&many), ["1 /v1", "12 /v1/**", "1 /v2"]);
        many.reverse();
        assert_eq!(patterns(&many), ["1 /v1", "12 /v1/**", "1 /v2"], "whatever comes first");
    }

    #[test]
    fn a_path_that_cannot_be_written_counts_below_what_is_before_it() {
        assert_eq!(patterns(&["/a/b/lon…", "/a/b/c", "/a/d"]), ["2 /a/b/**", "1 /a/d"]);
        assert_eq!(patterns(&["/lon…"]), ["1 /**"]);
        assert_eq!(patterns(&["/a/x**y/z", "/a/x*y"]), ["2 /a/**"]);
        assert_eq!(patterns(&[&format!("/a/{}", "b".repeat(LONGEST))]), ["1 /a/**"]);
        let deep = "/a".repeat(5_000);
        assert_eq!(patterns(&[&deep]), [format!("1 {}/**", "/a".repeat(DEEPEST))]);
    }

    #[test]
    fn without_room_nothing_is_lost_and_nothing_grows() {
        let (mut all, mut room) = (Paths::default(), 4);
        for path in ["/a/b", "/a/c", "/a/d", "/a/e", "/f"] {
            all.add(path, &mut room);
        }
        let all = all.patterns(DEEPEST);
        let found: Vec<&str> = all.iter().map(|(pattern, _)| pattern.as_str()).collect();
        assert_eq!(found, ["/a/**", "/f"], "the place that was given back is used again");
        assert_eq!(all.iter().map(|(_, count)| count).sum::<u64>(), 5);
    }

    proptest! {
        #[test]
        fn every_path_fits_a_pattern_and_every_request_is_counted(
            paths in proptest::collection::vec("/([a-c*]{0,3}/){0,3}[a-z0-9]{0,2}", 0..60),
            room in 0_usize..40, deepest in 0..=DEEPEST,
        ) {
            let paths: Vec<&String> = paths.iter().filter(|path| crate::rules::check_path(path).is_ok()).collect();
            let (mut all, mut left) = (Paths::default(), room);
            paths.iter().for_each(|path| all.add(path, &mut left));
            prop_assert!(left <= room);
            let found = all.patterns(deepest);
            prop_assert_eq!(found.iter().map(|(_, count)| *count).sum::<u64>(), paths.len() as u64);
            let parsed: Result<Vec<_>, _> = found.iter().map(|(text, _)| PathPattern::parse(text)).collect();
            let parsed = parsed.map_err(|error| TestCaseError::fail(format!("{error}: {found:?}")))?;
            for path in paths {
                prop_assert!(parsed.iter().any(|pattern| pattern.matches(path)), "{path}: {found:?}");
            }
        }
    }
}
