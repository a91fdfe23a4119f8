//! Takes the requests inside tunnels from a log.

use super::kind::{Kind, Why, reason, why};
use super::paths::CUT;
use super::seen::Wanted;
use super::{MOST, Suggestion};
use crate::commands::logs::{Entry as Line, Text};
use crate::rules::no_proxy::{Why as NoProxyWhy, no_proxy};
use crate::rules::{Scheme, check_path};
use crate::telemetry::record::Event;
use crate::words::outcome::{Decision, Reason};
use crate::words::target::Target;

impl Suggestion {
    /// Adds a request inside a tunnel. Of those in plain HTTP the tunnel's own line says all that a rule needs.
    pub(super) fn add_inside(&mut self, line: &Line<'_>) {
        let Some((target, path, tls)) = line.asked_inside() else {
            self.inside += 1;
            return self.leave_out(why(line).unwrap_or(Why::Failed(Reason::BadTarget.into())), None);
        };
        if !tls {
            return self.note_plain(line, target);
        }
        self.inside += 1;
        let is_plain = check_path(whole(&path)).is_ok();
        let by_endpoint =
            no_proxy(&target.host).is_some_and(|found| matches!(found.why, NoProxyWhy::Endpoint(_)));
        let wanted = Wanted::new(Scheme::Https, target.host.clone(), target.port);
        if line.asks_for_credentials() {
            // The request that follows says what is needed, and whether it passed.
            if let Some(seen) = self.place(line, Kind::Passed, wanted) {
                seen.inside.get_or_insert_default().inspected = true;
            }
            return;
        }
        let (Some(kind), true, false) = (kind(line), is_plain, by_endpoint) else {
            // No rule that lets its tunnels pass unopened is the answer either.
            if let Some(seen) = self.place(line, Kind::Passed, wanted) {
                seen.inside.get_or_insert_default().inspected = true;
            }
            return self.leave_out(why(line).unwrap_or(Why::Other), Some(&target));
        };
        let index = kind as usize;
        let mut room = self.room.get(index).copied().unwrap_or_default();
        let method = line.method.map(Text::decoded).unwrap_or_default();
        let Some(seen) = self.place(line, kind, wanted) else { return };
        let inside = seen.inside.get_or_insert_default();
        let is_kept = match line.git() {
            Some(git) => inside.add_git(kind, &git, &mut room),
            None => inside.add(kind, (&method, &path), line.switched(), &mut room),
        };
        seen.saw(line, target.port, &[]);
        if !is_kept {
            self.not_kept_inside += 1;
        }
        if let Some(left) = self.room.get_mut(index) {
            *left = room;
        }
    }

    /// A plain request inside a tunnel: whatever the text of its rule, it is an `http` rule.
    fn note_plain(&mut self, line: &Line<'_>, target: Target) {
        let Some(who) = self.askers.note(line, Kind::Passed) else { return };
        if self.plain.len() < MOST {
            self.plain.insert((who, target.host, target.port));
        }
    }
}

/// The path, or of one that the log cut the segments that are whole.
fn whole(path: &str) -> &str {
    let Some(before) = path.strip_suffix(CUT) else { return path };
    before.rfind('/').and_then(|at| before.get(..=at)).unwrap_or_default()
}

/// What an entry about Git can be for.
fn of_git(reason: Reason) -> bool {
    matches!(reason, Reason::GitNotAllowed | Reason::RefNotAllowed | Reason::AccountNotAllowed)
}

/// The kind of a request inside a tunnel that an entry of `requests` can be for.
fn kind(line: &Line<'_>) -> Option<Kind> {
    let switched = line.switched();
    match (line.event?, reason(line)) {
        (Event::Request, _) if line.decided(Decision::Allow) => Some(Kind::Passed),
        (Event::Request, Some(Reason::RequestNotAllowed)) => Some(Kind::WouldDeny),
        // Of one that was not switched nothing tells what it asked for.
        (Event::Request, Some(Reason::UpgradeNotAllowed)) if switched => Some(Kind::WouldDeny),
        (Event::Request, Some(reason)) if of_git(reason) && line.decided(Decision::WouldDeny) => {
            Some(Kind::WouldDeny)
        }
        (Event::Deny, Some(reason)) if of_git(reason) && line.git().is_some() => Some(Kind::Denied),
        (Event::Deny, Some(Reason::RequestNotAllowed)) => Some(Kind::Denied),
        _ => None,
    }
}
