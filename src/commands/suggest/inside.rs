//! The requests that were seen inside the tunnels to one target, and the entries of `requests` for them.
//!
//! Paths are kept by method, so that no method is allowed on a path on which it was not seen; patterns with the same methods
//! are then one entry. Requests that a rule let through, that only report mode let through and that were denied are kept
//! apart: what a client asked for in vain widens no entry but its own.

use std::collections::{BTreeMap, BTreeSet};

use super::paths::{CUT, DEEPEST, Paths};
use super::{Kind, Suggestion, Wanted, Why, reason, why};
use crate::commands::logs::{Entry as Line, Text};
use crate::rules::no_proxy::{Why as NoProxyWhy, no_proxy};
use crate::rules::{Entry, PathPattern, Scheme, check_path};
use crate::telemetry::record::Event;
use crate::words::outcome::{Decision, Reason};

/// Most methods of one kind that are told apart; further ones count as any method.
const METHODS: usize = 16;
/// Most patterns of one kind in a rule: a person reads them. A rule may have 1,000 paths, and there are three kinds.
const PATTERNS: usize = 100;
/// The status of a connection that became a WebSocket: nothing else is let through.
const SWITCHED: u64 = 101;
/// Nodes of paths that are kept of requests that were let through; half as many of each other kind.
pub(super) const ROOM: usize = 200_000;

/// Requests inside tunnels to one target.
#[derive(Clone, Default, Debug)]
pub(super) struct Inside {
    /// There was a request, of whatever kind.
    inspected: bool,
    /// Those that an entry can be for, by kind.
    seen: [BTreeMap<Asked, Paths>; 3],
}

/// What a request is besides its path; `None` as a method: any.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Asked {
    websocket: bool,
    method: Option<Box<str>>,
}

/// One entry to write.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) kind: Kind,
    pub(super) entry: Entry,
    pub(super) count: u64,
}

impl Suggestion {
    /// Adds a request inside a tunnel. Of those in plain HTTP the tunnel's own line says all that a rule needs.
    pub(super) fn add_inside(&mut self, line: &Line<'_>) {
        let Some((target, path, tls)) = line.asked_inside() else {
            self.inside += 1;
            return self.leave_out(why(line).unwrap_or(Why::Failed(Reason::BadTarget.into())), None);
        };
        if !tls {
            return;
        }
        self.inside += 1;
        let is_plain = check_path(whole(&path)).is_ok();
        let by_endpoint =
            no_proxy(&target.host).is_some_and(|found| matches!(found.why, NoProxyWhy::Endpoint(_)));
        let wanted = Wanted { scheme: Scheme::Https, host: target.host.clone(), port: target.port };
        let (Some(kind), true, false) = (kind(line), is_plain, by_endpoint) else {
            // No rule that lets its tunnels pass unopened is the answer either.
            if let Some(seen) = self.place(Kind::Passed, wanted) {
                seen.inside.inspected = true;
            }
            return self.leave_out(why(line).unwrap_or(Why::Other), Some(&target));
        };
        let index = kind as usize;
        let mut room = self.room.get(index).copied().unwrap_or_default();
        let method = line.method.map(Text::decoded).unwrap_or_default();
        let Some(seen) = self.place(kind, wanted) else { return };
        let is_kept = seen.inside.add(kind, (&method, &path), line.status == Some(SWITCHED), &mut room);
        seen.saw(line, target.port, &[]);
        self.saw_client(line, kind);
        if !is_kept {
            self.not_kept_inside += 1;
        }
        if let Some(left) = self.room.get_mut(index) {
            *left = room;
        }
    }
}

/// The path, or of one that the log cut the segments that are whole.
fn whole(path: &str) -> &str {
    let Some(before) = path.strip_suffix(CUT) else { return path };
    before.rfind('/').and_then(|at| before.get(..=at)).unwrap_or_default()
}

/// The kind of a request inside a tunnel that an entry of `requests` can be for.
fn kind(line: &Line<'_>) -> Option<Kind> {
    let switched = line.status == Some(SWITCHED);
    match (line.event?, reason(line)) {
        (Event::Request, _) if line.decided(Decision::Allow) => Some(Kind::Passed),
        (Event::Request, Some(Reason::RequestNotAllowed)) => Some(Kind::WouldDeny),
        // Of one that was not switched nothing tells what it asked for.
        (Event::Request, Some(Reason::UpgradeNotAllowed)) if switched => Some(Kind::WouldDeny),
        (Event::Deny, Some(Reason::RequestNotAllowed)) => Some(Kind::Denied),
        _ => None,
    }
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

    /// The first kind of which there is a request.
    pub(super) fn kind(&self) -> Option<Kind> {
        let kinds = [Kind::Passed, Kind::WouldDeny, Kind::Denied];
        kinds.into_iter().zip(&self.seen).find(|(_, seen)| !seen.is_empty()).map(|(kind, _)| kind)
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
    let mut by_methods: BTreeMap<(BTreeSet<Option<&str>>, bool), (Vec<PathPattern>, u64)> = BTreeMap::new();
    for ((websocket, pattern), mut methods) in by_pattern {
        // Made of segments that passed the check of paths.
        let Ok(pattern) = PathPattern::parse(&pattern) else { continue };
        methods.retain(|method, _| {
            !written.iter().any(|seen| covers(&seen.entry, *method, websocket, &pattern))
        });
        if !methods.is_empty() {
            let count: u64 = methods.values().sum();
            let (patterns, sum) = by_methods.entry((methods.into_keys().collect(), websocket)).or_default();
            patterns.push(pattern);
            *sum += count;
        }
    }
    let entry = |((methods, websocket), (paths, count)): ((BTreeSet<Option<&str>>, bool), (Vec<_>, u64))| {
        // One `None` among them: any method.
        let methods: Option<Box<[Box<str>]>> =
            methods.into_iter().map(|method| method.map(Box::from)).collect();
        let entry =
            Entry { methods, paths: Some(paths.into()), websocket, credentials: None, ..Entry::default() };
        Seen { kind, entry, count }
    };
    by_methods.into_iter().map(entry).collect()
}

fn covers(entry: &Entry, method: Option<&str>, websocket: bool, pattern: &PathPattern) -> bool {
    method.map_or(entry.methods.is_none(), |method| entry.allows_method(method))
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
