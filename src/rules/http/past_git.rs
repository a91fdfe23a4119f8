//! Entries that let git's requests pass unseen, beside one about Git: by method and path alone.

use super::super::path::PathPattern;
use super::requests::{Entry, Requests};

/// Where a push goes to, below the repository.
const PUSH: &str = "/git-receive-pack";
/// Repositories that stand for all, where an entry names none.
const REPOSITORIES: [&str; 4] = ["/x", "/x/y", "/x/y/z", "/v1/repos/x"];

impl Requests {
    /// The first entry, from 1, by whose paths a push to a repository of the entries about Git passes unseen.
    pub fn lets_git_past(&self) -> Option<usize> {
        let pushes: Vec<String> = self.entries().iter().flat_map(pushes).collect();
        self.first_plain(|paths| {
            paths.iter().any(|path| names_push(path) || pushes.iter().any(|push| path.matches(push)))
        })
    }

    /// The first entry, from 1, by whose paths a push to any repository passes unseen, be it one of which no entry speaks.
    pub fn may_let_git_past(&self) -> Option<usize> {
        self.first_plain(|paths| paths.iter().any(|path| names_push(path) || path.as_str().ends_with("**")))
    }

    fn first_plain(&self, is_past: impl Fn(&[PathPattern]) -> bool) -> Option<usize> {
        let entries = self.entries();
        let is_plain = |entry: &Entry| {
            entry.git.is_none()
                && entry.allows_method("POST")
                && entry.paths.as_ref().is_none_or(|paths| is_past(paths))
        };
        entries.iter().position(is_plain).filter(|_| self.asks_git()).map(|at| at + 1)
    }
}

fn names_push(path: &PathPattern) -> bool {
    path.as_str().ends_with(PUSH)
}

/// Pushes to repositories of an entry about Git: one for each pattern.
fn pushes(entry: &Entry) -> Vec<String> {
    let Some(git) = &entry.git else { return Vec::new() };
    match &git.repositories {
        None => REPOSITORIES.iter().map(|repository| format!("{repository}{PUSH}")).collect(),
        Some(patterns) => {
            let parsed = patterns.iter().filter_map(|pattern| PathPattern::parse(pattern.as_str()).ok());
            parsed.map(|pattern| format!("{}{PUSH}", pattern.example())).collect()
        }
    }
}
