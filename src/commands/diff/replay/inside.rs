//! Requests inside tunnels, judged by both configurations: by method and path, and by what the record says of Git and AWS.

use jiff::Timestamp;

use super::answer::{Answer, Turn};
use crate::commands::explain::recognised;
use crate::commands::logs::{Entry, Text};
use crate::rules::{HttpRequest, Permit, Policies, Recognised, Upgrade};
use crate::words::client::Client;
use crate::words::git::{Content, Operation, RefChange, RefName};
use crate::words::target::{Host, Target};

/// The longest path that is shown.
const SHOWN: usize = 200;

/// One such request.
pub(super) struct Inner {
    target: Target,
    method: String,
    path: String,
    query: Option<&'static str>,
    upgrade: Upgrade,
    inspected: bool,
    recognised: Recognised,
    /// Whether the record says what was asked of Git, and by whose account.
    knows: (bool, bool),
    /// Whether it is a push of which the record has not all refs.
    misses_refs: bool,
    /// Whether egressd asked for credentials in its place: the request that follows decides.
    comes_again: bool,
}

impl Inner {
    /// `None`: the target is not valid.
    pub(super) fn of(entry: &Entry<'_>) -> Option<Inner> {
        let (target, path, inspected) = entry.asked_inside()?;
        let method = entry.method.map(Text::decoded)?.into_owned();
        let upgrade = if entry.switched() { Upgrade::Websocket } else { Upgrade::None };
        let git = entry.git();
        // The query is not recorded: that of git's first request follows from what it asked.
        let query = match &git {
            Some(git) if path.ends_with("/info/refs") => match git.operation {
                Some(Operation::Push) => Some("service=git-receive-pack"),
                _ => Some("service=git-upload-pack"),
            },
            _ => None,
        };
        let content = match &git {
            Some(git) if !git.refs.is_empty() => {
                let changes = git.refs.iter().filter_map(|(name, happened)| {
                    RefChange::made_up(*happened, &RefName::new(name.as_bytes()).ok()?)
                });
                Content::Changes(changes.collect::<Vec<RefChange>>().into())
            }
            Some(git)
                if query.is_none() && git.operation.is_some_and(|operation| operation != Operation::Push) =>
            {
                git.operation.map_or(Content::Unread, Content::Does)
            }
            _ => Content::Unread,
        };
        let host = match &target.host {
            Host::Name(name) => name.as_str().to_owned(),
            Host::Address(_) => String::new(),
        };
        let misses_refs = git.as_ref().is_some_and(|git| {
            let judged = match &content {
                Content::Changes(changes) => changes.len() as u64,
                _ => 0,
            };
            git.operation == Some(Operation::Push) && git.ref_count > judged
        });
        let account = entry.account();
        let recognised = recognised(&host, (&method, &path, query), content, account);
        let comes_again = entry.asks_for_credentials();
        let knows = (git.is_some(), account.is_some());
        Some(Inner {
            target,
            method,
            path,
            query,
            upgrade,
            inspected,
            recognised,
            knows,
            misses_refs,
            comes_again,
        })
    }

    /// How both decide. `Err`: the record does not say what they ask for. `Ok(None)`: alike, or the tunnel's own line tells.
    pub(super) fn turn(
        &self,
        (old, new): (&Policies, &Policies),
        from: &Client,
        now: Timestamp,
    ) -> Result<Option<(Turn, Answer, Answer)>, ()> {
        if self.comes_again {
            return Ok(None);
        }
        let permits = [old, new].map(|policies| policies.decide(&self.target, from, now));
        let [Ok(old_permit), Ok(new_permit)] = permits else { return Ok(None) };
        let (old, new) = (self.answer(old, old_permit)?, self.answer(new, new_permit)?);
        let turn = match (&old, &new) {
            (Answer::Permit(_), Answer::Denial { .. }) => Turn::NewlyDenied,
            (Answer::Denial { .. }, Answer::Permit(_)) => Turn::NewlyAllowed,
            (Answer::Permit(old), Answer::Permit(new)) if old.decision != new.decision => Turn::Otherwise,
            _ => return Ok(None),
        };
        Ok(Some((turn, old, new)))
    }

    fn answer(&self, policies: &Policies, permit: Permit) -> Result<Answer, ()> {
        // Where nobody looks, it passes.
        if self.inspected && !permit.inspect {
            return Ok(Answer::Permit(Box::new(permit)));
        }
        let (asks_git, asks_aws) = permit
            .requests
            .as_ref()
            .map_or((false, false), |requests| (requests.asks_git(), requests.asks_aws()));
        let of_git = self.path.ends_with("/info/refs") && !self.knows.0;
        let lends = permit.requests.as_ref().is_some_and(|requests| {
            requests.entries().iter().any(|entry| entry.aws.is_some() && entry.credentials.is_some())
        });
        if (asks_git && of_git) || (asks_aws && !self.knows.1 && !lends) {
            return Err(());
        }
        let request = HttpRequest {
            method: &self.method,
            path: &self.path,
            query: self.query,
            upgrade: self.upgrade,
            inspected: self.inspected,
            recognised: Some(&self.recognised),
        };
        Ok(match policies.decide_request(permit, &self.target, &request) {
            // The refs that the record lacks may be such as are refused.
            Ok(_) if asks_git && self.misses_refs => return Err(()),
            Ok(permit) => Answer::Permit(Box::new(permit)),
            Err(denial) => Answer::Denial { reason: denial.reason, why: denial.advice.into() },
        })
    }

    /// Its target, and what is shown of it.
    pub(super) fn shown(self) -> (Target, Box<str>) {
        let path: String = self.path.chars().take(SHOWN).collect();
        let cut = if path.len() < self.path.len() { "…" } else { "" };
        (self.target, format!("{} {path}{cut}", self.method).into())
    }
}
