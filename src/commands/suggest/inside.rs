//! The requests that were seen inside the tunnels to one target, and the entries of `requests` for them.
//!
//! Paths are kept by method, so that no method is allowed on a path on which it was not seen; patterns with the same methods
//! are then one entry. Requests that a rule let through, that only report mode let through and that were denied are kept
//! apart: what a client asked for in vain widens no entry but its own.

use std::collections::{BTreeMap, BTreeSet};

use super::git::{Git, Unknown};
use super::kind::Kind;
use super::paths::{DEEPEST, Paths};
use crate::commands::logs::LoggedGit;
use crate::rules::{Entry, PathPattern};
use crate::words::small_sort::SmallCollect as _;

/// Most methods of one kind that are told apart; further ones count as any method.
const METHODS: usize = 16;
/// Most patterns of one kind in a rule: a person reads them. A rule may have 1,000 paths, and there are three kinds.
const PATTERNS: usize = 100;
/// Nodes of paths that are kept of requests that were let through; half as many of each other kind.
pub(super) const ROOM: usize = 200_000;

/// Requests inside tunnels to one target.
#[derive(Clone, Default, Debug)]
pub(super) struct Inside {
    /// There was a request, of whatever kind.
    pub(super) inspected: bool,
    /// Those that an entry can be for, by kind.
    seen: [BTreeMap<Asked, Paths>; 3],
    /// Those to Git, where the log tells.
    git: Git,
}

/// What a request is besides its path; `None` as a method: any.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Asked {
    websocket: bool,
    method: Option<Box<str>>,
}

/// What the patterns of one entry have in common: the methods, and whether they are for a WebSocket.
type Same<'s> = (BTreeSet<Option<&'s str>>, bool);

/// One entry to write.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) kind: Kind,
    pub(super) entry: Entry,
    pub(super) count: u64,
    pub(super) unknown: Unknown,
}

impl Inside {
    /// Adds a request whose path passed [`check_path`](crate::rules::check_path), or was cut by the log. `false`: there is
    /// no place for it.
    pub(super) fn add(
        &mut self,
        kind: Kind,
        (method, path): (&str, &str),
        websocket: bool,
        room: &mut usize,
    ) -> bool {
        self.inspected = true;
        let Some(seen) = self.seen.get_mut(kind as usize) else { return false };
        let mut asked = Asked { websocket, method: Some(method.into()).filter(|_| may_be_written(method)) };
        if !seen.contains_key(&asked) && (seen.len() >= METHODS || asked.method.is_none()) {
            // That a client makes up methods is no reason to offer any method.
            if kind == Kind::Denied {
                return false;
            }
            asked.method = None;
        }
        seen.entry(asked).or_default().add(path, room);
        true
    }

    /// Adds a request to Git.
    pub(super) fn add_git(&mut self, kind: Kind, git: &LoggedGit, room: &mut usize) -> bool {
        self.inspected = true;
        self.git.add(kind, git, room)
    }

    /// The first kind of which there is a request.
    pub(super) fn kind(&self) -> Option<Kind> {
        let kinds = [Kind::Passed, Kind::WouldDeny, Kind::Denied];
        let of_paths =
            kinds.into_iter().zip(&self.seen).find(|(_, seen)| !seen.is_empty()).map(|(kind, _)| kind);
        match (of_paths, self.git.kind()) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        }
    }

    /// Whether tunnels to the target were inspected.
    pub(super) fn is_inspected(&self) -> bool {
        self.inspected
    }

    /// The entries, by kind. A pattern that an earlier kind's entries cover is left out.
    pub(super) fn entries(&self, denied: bool) -> Vec<Seen> {
        let mut all: Vec<Seen> = Vec::new();
        for (kind, seen) in [Kind::Passed, Kind::WouldDeny, Kind::Denied].into_iter().zip(&self.seen) {
            if kind == Kind::Denied && !denied {
                continue;
            }
            for (entry, count, unknown) in self.git.entries(kind) {
                if !all.iter().any(|seen| seen.entry.covers(&entry)) {
                    all.push(Seen { kind, entry, count, unknown });
                }
            }
            let of_kind = of_kind(seen, &all, kind);
            all.extend(of_kind);
        }
        all
    }
}

/// The entries of one kind, beside those that are already written.
fn of_kind(seen: &BTreeMap<Asked, Paths>, written: &[Seen], kind: Kind) -> Vec<Seen> {
    let mut by_pattern: BTreeMap<(bool, String), BTreeMap<Option<&str>, u64>> = BTreeMap::new();
    for deepest in (0..=DEEPEST).rev() {
        by_pattern.clear();
        for (asked, paths) in seen {
            for (pattern, count) in paths.patterns(deepest) {
                let methods = by_pattern.entry((asked.websocket, pattern)).or_default();
                *methods.entry(asked.method.as_deref()).or_default() += count;
            }
        }
        if by_pattern.len() <= PATTERNS {
            break;
        }
    }
    let mut by_methods: BTreeMap<Same<'_>, (Vec<PathPattern>, u64)> = BTreeMap::new();
    for ((websocket, pattern), mut methods) in by_pattern {
        // Made of segments that passed the check of paths.
        let Ok(pattern) = PathPattern::parse(&pattern) else { continue };
        methods.retain(|method, _| {
            !written.iter().any(|seen| covers(&seen.entry, *method, websocket, &pattern))
        });
        if !methods.is_empty() {
            let count: u64 = methods.values().sum();
            let (patterns, sum) =
                by_methods.entry((methods.into_keys().small_collect(), websocket)).or_default();
            patterns.push(pattern);
            *sum += count;
        }
    }
    let entry = |((methods, websocket), (paths, count)): (Same<'_>, (Vec<_>, u64))| {
        // One `None` among them: any method.
        let methods: Option<Box<[Box<str>]>> =
            methods.into_iter().map(|method| method.map(Box::from)).collect();
        let entry =
            Entry { methods, paths: Some(paths.into()), websocket, credentials: None, ..Entry::default() };
        Seen { kind, entry, count, unknown: Unknown::default() }
    };
    by_methods.into_iter().map(entry).collect()
}

fn covers(entry: &Entry, method: Option<&str>, websocket: bool, pattern: &PathPattern) -> bool {
    entry.git.is_none()
        && method.map_or(entry.methods.is_none(), |method| entry.allows_method(method))
        && (entry.websocket || !websocket)
        && entry.paths.as_ref().is_none_or(|paths| paths.iter().any(|wider| wider.covers(pattern)))
}

/// Whether `methods` may name it: a rule's methods are written in upper case, and are short.
fn may_be_written(method: &str) -> bool {
    let token = |byte: u8| {
        byte.is_ascii_graphic() && !byte.is_ascii_lowercase() && !b"\"(),/:;<=>?@[\\]{}".contains(&byte)
    };
    (1..=32).contains(&method.len()) && method.bytes().all(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(requests: &[(Kind, &str, &str, bool)], denied: bool) -> Vec<String> {
        let (mut inside, mut room) = (Inside::default(), 10_000);
        for (kind, method, path, websocket) in requests {
            inside.add(*kind, (method, path), *websocket, &mut room);
        }
        let shown = inside.entries(denied).into_iter();
        shown.map(|seen| format!("{:?} {} {}", seen.kind, seen.count, seen.entry)).collect()
    }

    #[test]
    fn paths_with_the_same_methods_are_one_entry_and_no_method_is_allowed_where_it_was_not_seen() {
        let (passed, would) = (Kind::Passed, Kind::WouldDeny);
        let seen = [
            (passed, "GET", "/a", false),
            (passed, "GET", "/b", false),
            (passed, "GET", "/c", false),
            (passed, "HEAD", "/c", false),
            (passed, "POST", "/a/x", false),
            (passed, "GET", "/live", true),
            (passed, "brew", "/pot", false),
            (would, "POST", "/a/x", false),
            (would, "PUT", "/a/x", false),
            (Kind::Denied, "PUT", "/a/x", false),
            (Kind::Denied, "DELETE", "/a", false),
            (Kind::Denied, "delete", "/a", false),
        ];
        let want = [
            r#"Passed 1 {paths: ["/pot"]}"#,
            r#"Passed 2 {methods: [GET], paths: ["/a", "/b"]}"#,
            r#"Passed 1 {methods: [GET], paths: ["/live"], upgrade: [websocket]}"#,
            r#"Passed 2 {methods: [GET, HEAD], paths: ["/c"]}"#,
            r#"Passed 1 {methods: [POST], paths: ["/a/x"]}"#,
            r#"WouldDeny 1 {methods: [PUT], paths: ["/a/x"]}"#,
            r#"Denied 1 {methods: [DELETE], paths: ["/a"]}"#,
        ];
        assert_eq!(entries(&seen, true), want);
        assert_eq!(entries(&seen, false), want[..6]);
    }

    #[test]
    fn what_was_denied_widens_nothing_else_and_a_rule_stays_short() {
        let paths: Vec<String> = (0..200).map(|number| format!("/v1/{number}")).collect();
        let denied = paths.iter().map(|path| (Kind::Denied, "GET", &**path, false));
        let seen: Vec<_> = denied.chain([(Kind::Passed, "GET", "/v1/7", false)]).collect();
        let want = [
            r#"Passed 1 {methods: [GET], paths: ["/v1/7"]}"#,
            r#"Denied 200 {methods: [GET], paths: ["/v1/**"]}"#,
        ];
        assert_eq!(entries(&seen, true), want);
        let paths: Vec<String> = (0..1_000)
            .map(|number| format!("/{}/{}/{}", number / 100, number / 10 % 10, number % 10))
            .collect();
        let seen: Vec<_> = paths.iter().map(|path| (Kind::Passed, "GET", &**path, false)).collect();
        let [entry] = &entries(&seen, true)[..] else { panic!("one entry") };
        assert_eq!((entry.matches("/**").count(), &entry[..12]), (100, "Passed 1000 "), "{entry}");
        let methods: Vec<String> = (0..=METHODS).map(|number| format!("M{number}")).collect();
        let of = |kind| methods.iter().map(|method| (kind, &**method, "/", false)).collect::<Vec<_>>();
        assert_eq!(entries(&of(Kind::Denied), true).len(), 1);
        assert!(entries(&of(Kind::Passed), true).contains(&r#"Passed 17 {paths: ["/"]}"#.to_owned()));
        assert_eq!(entries(&of(Kind::Denied), true)[0].matches('M').count(), METHODS);
    }
}
