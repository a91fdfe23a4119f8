//! `requests` of a rule: entries, of which one must fit a request, and of it every key that is there.
//!
//! The first entry that fits, as written, is the one that counts. A request that asks for a WebSocket is fitted only by
//! entries that allow one, so an earlier entry without `upgrade` never hides a later one with it.

use std::sync::Arc;

use super::super::path::PathPattern;
use super::credentials::Credentials;
use super::misfit::{Distance, Misfit, Nearest};
use super::request::{HttpRequest, Upgrade};
use crate::rules::aws::AwsRule;
use crate::rules::git::{GitMisfit, GitObjection, GitRule};
use crate::words::aws::{Account, CredentialsError};
use crate::words::git::{Asks, Lfs};

/// Which requests a rule lets through.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Requests {
    entries: Box<[Entry]>,
    asks_git: bool,
    asks_aws: bool,
}

/// One entry of `requests`. A key that is left out fits any request, save `upgrade`.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Entry {
    /// Methods, as they are sent.
    pub methods: Option<Box<[Box<str>]>>,
    /// Paths.
    pub paths: Option<Box<[PathPattern]>>,
    /// Whether the connection may become a WebSocket.
    pub websocket: bool,
    /// What is sent in place of the client's credentials.
    pub credentials: Option<Arc<Credentials>>,
    /// What may be asked of Git repositories. Nothing else fits the entry then.
    pub git: Option<Arc<GitRule>>,
    /// By whose credentials a request may come to AWS. One without fits the entry no more then.
    pub aws: Option<Arc<AwsRule>>,
}

/// The entry that a request was let through by, and what follows from it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MatchedEntry {
    /// Its number in the list, from 1.
    pub number: usize,
    /// What is sent in place of the client's credentials.
    pub credentials: Option<Arc<Credentials>>,
    /// What it says about Git: the request is one of git's client then.
    pub git: Option<Arc<GitRule>>,
    /// The AWS account of the credentials that are sent, if the entry asks for one and it is known.
    pub account: Option<Account>,
}

impl Requests {
    /// Of at least one entry.
    pub fn new(entries: Vec<Entry>) -> Self {
        let asks_git = entries.iter().any(|entry| entry.git.is_some());
        let asks_aws = entries.iter().any(|entry| entry.aws.is_some());
        Requests { entries: entries.into(), asks_git, asks_aws }
    }

    /// The entries, as written.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Whether an entry has `git`: only then is it to be known what a request asks of Git.
    pub fn asks_git(&self) -> bool {
        self.asks_git
    }

    /// Whether an entry has `aws`: only then is it to be known by whose credentials a request comes.
    pub fn asks_aws(&self) -> bool {
        self.asks_aws
    }

    /// The first entry that fits `request` to `host`, whose path passed [`check`](super::super::check_path). The host, as a
    /// canonical name, tells where credentials are for that an entry sends.
    ///
    /// # Errors
    /// The entry that came nearest.
    pub fn find(&self, host: &str, request: &HttpRequest<'_>) -> Result<MatchedEntry, Nearest> {
        let matched = self.entries.iter().zip(1..).find_map(|(entry, number)| {
            let account = entry.fits(host, request)?;
            let (credentials, git) = (entry.credentials.clone(), entry.git.clone());
            Some(MatchedEntry { number, credentials, git, account })
        });
        matched.ok_or_else(|| self.nearest(host, request))
    }

    fn nearest(&self, host: &str, request: &HttpRequest<'_>) -> Nearest {
        let weighed = self.entries.iter().zip(1..).map(|(entry, number)| {
            let (misfit, distance, shared) = entry.misfit(host, request);
            ((distance, std::cmp::Reverse(shared), number), Nearest { number, misfit })
        });
        let nearest = weighed.min_by_key(|(order, _)| *order).map(|(_, nearest)| nearest);
        nearest.unwrap_or(Nearest { number: 0, misfit: Misfit::Both })
    }
}

impl Entry {
    /// Whether it allows the method.
    pub fn allows_method(&self, method: &str) -> bool {
        self.methods.as_ref().is_none_or(|methods| methods.iter().any(|allowed| **allowed == *method))
    }

    /// Whether it allows the path.
    pub fn allows_path(&self, path: &str) -> bool {
        self.paths.as_ref().is_none_or(|paths| paths.iter().any(|pattern| pattern.matches(path)))
    }

    /// `None`: it does not fit the request. Else the account of the credentials, if it asks for one and it is known.
    fn fits(&self, host: &str, request: &HttpRequest<'_>) -> Option<Option<Account>> {
        let by_head = self.allows_method(request.method)
            && self.allows_upgrade(request.upgrade)
            && self.allows_path(request.path)
            && self.judge_git(request).is_ok();
        if by_head { self.judge_aws(host, request).ok() } else { None }
    }

    /// What of `git` does not fit. Where the body decides and is not read yet, an entry fits that may fit then.
    fn judge_git(&self, request: &HttpRequest<'_>) -> Result<(), Misfit> {
        let Some(rule) = &self.git else { return Ok(()) };
        let ask = match request.recognised.map(|recognised| &recognised.git) {
            Some(Ok(ask)) => ask,
            Some(Err(why)) => return Err(Misfit::NotGit(Some(why.clone()))),
            None => return Err(Misfit::NotGit(None)),
        };
        if self.credentials.is_some() && ask.request.asks == Asks::Lfs(Lfs::Batch) {
            return Err(Misfit::Git(GitObjection {
                misfit: GitMisfit::Operation,
                text: "where the proxy sends credentials, large files are refused: the answer would give the client others"
                    .to_owned(),
            }));
        }
        let fits = match request.recognised.and_then(|recognised| recognised.judged.of(rule)) {
            Some(refused) => rule.fits_as(ask, refused),
            None => rule.fits(ask),
        };
        fits.map_err(Misfit::Git)
    }

    /// What of `aws` does not fit: of the client's credentials, or of those that are sent in their place.
    fn judge_aws(&self, host: &str, request: &HttpRequest<'_>) -> Result<Option<Account>, Misfit> {
        let Some(rule) = &self.aws else { return Ok(None) };
        let sent = request.recognised.map(|recognised| &recognised.aws);
        if let Some(credentials) = &self.credentials {
            // The service might take those of the body in place of ours.
            if let Some(Err(why)) = sent.filter(|sent| sent.as_ref().is_err_and(|why| why.is_in_the_body())) {
                return Err(Misfit::Credentials(*why));
            }
            let lent = credentials.lent_to(host).ok_or(Misfit::Credentials(CredentialsError::User))?;
            return rule.may(&lent).map_err(Misfit::Aws);
        }
        match sent {
            Some(Ok(aws)) => rule.may(aws).map_err(Misfit::Aws),
            Some(Err(why)) => Err(Misfit::Credentials(*why)),
            None => Err(Misfit::UnknownCredentials),
        }
    }

    fn allows_upgrade(&self, upgrade: Upgrade) -> bool {
        match upgrade {
            Upgrade::None => true,
            Upgrade::Websocket => self.websocket,
            Upgrade::Other => false,
        }
    }

    /// What does not fit, how far the entry is from the request, and how many bytes of the path the nearest of its patterns begins
    /// with.
    ///
    /// Of several things the one that matters most is told: that the credentials are of someone else comes before what they were
    /// used for. That there are none yet comes last: git asks so at first.
    fn misfit(&self, host: &str, request: &HttpRequest<'_>) -> (Misfit, Distance, usize) {
        let head = match (self.allows_method(request.method), self.allows_path(request.path)) {
            (true, true) => None,
            (false, true) => Some(Misfit::Method),
            (true, false) => Some(Misfit::Path),
            (false, false) => Some(Misfit::Both),
        };
        let shared = |pattern: &PathPattern| {
            // All of it begins with `/`, and mostly no more.
            let (start, path) = (pattern.literal_start().as_bytes(), request.path.as_bytes());
            start.iter().zip(path).take_while(|(one, other)| one == other).count()
        };
        let shared = match head {
            Some(Misfit::Path | Misfit::Both) => self.paths.iter().flatten().map(shared).max().unwrap_or(0),
            _ => 0,
        };
        let (git, aws) = (self.judge_git(request).err(), self.judge_aws(host, request).err());
        let (none_yet, aws) = match aws {
            Some(Misfit::Credentials(CredentialsError::None)) => (aws, None),
            aws => (None, aws),
        };
        let all = [aws, git, head, none_yet];
        let distance = all.iter().flatten().map(Misfit::distance).max().unwrap_or(Distance::MIN);
        let told = all.into_iter().flatten().next().unwrap_or(Misfit::Upgrade);
        (told, distance, shared)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(methods: &[&str], paths: &[&str], websocket: bool) -> Entry {
        Entry {
            methods: (!methods.is_empty()).then(|| methods.iter().map(|method| (*method).into()).collect()),
            paths: (!paths.is_empty())
                .then(|| paths.iter().map(|path| PathPattern::parse(path).expect(path)).collect()),
            websocket,
            credentials: None,
            git: None,
            aws: None,
        }
    }

    #[test]
    fn a_method_that_is_a_word_of_yaml_is_quoted() {
        let shown = entry(&["GET", "M-SEARCH", "NULL", "True", "NO", "1X"], &[], false).to_string();
        assert_eq!(shown, r#"{methods: [GET, M-SEARCH, "NULL", "True", "NO", "1X"]}"#);
    }

    #[test]
    fn one_entry_must_fit_and_of_it_every_key() {
        let requests = Requests::new(vec![
            entry(&["GET", "HEAD"], &["/status", "/v1/**"], false),
            entry(&["POST"], &["/v1/*/items"], false),
            entry(&[], &["/live"], false),
            entry(&["GET"], &["/live", "/v1/**"], true),
        ]);
        let (none, ws, other) = (Upgrade::None, Upgrade::Websocket, Upgrade::Other);
        type Row<'a> = (&'a str, &'a str, Upgrade, Result<usize, (usize, Misfit)>);
        let rows: &[Row<'_>] = &[
            ("GET", "/status", none, Ok(1)),
            ("HEAD", "/v1/a/b", none, Ok(1)),
            ("POST", "/v1/a/items", none, Ok(2)),
            ("DELETE", "/live", none, Ok(3)),
            // Both fit: the first counts.
            ("GET", "/live", none, Ok(3)),
            // The first that fits has no `upgrade`: it does not hide the one that has.
            ("GET", "/live", ws, Ok(4)),
            ("GET", "/v1/a", ws, Ok(4)),
            ("GET", "/status", ws, Err((1, Misfit::Upgrade))),
            ("GET", "/live", other, Err((3, Misfit::Upgrade))),
            ("get", "/status", none, Err((1, Misfit::Method))),
            ("PUT", "/v1/a/items", none, Err((1, Misfit::Method))),
            ("POST", "/v1/a", none, Err((1, Misfit::Method))),
            ("GET", "/stat", none, Err((1, Misfit::Path))),
            ("POST", "/v2", none, Err((2, Misfit::Path))),
            ("PUT", "/liv", none, Err((3, Misfit::Path))),
            ("DELETE", "/x", none, Err((3, Misfit::Path))),
        ];
        for (method, path, upgrade, want) in rows {
            let request = HttpRequest {
                method,
                path,
                query: None,
                upgrade: *upgrade,
                inspected: true,
                recognised: None,
            };
            let found = requests.find("a.example", &request);
            let found = found.map(|entry| entry.number).map_err(|nearest| (nearest.number, nearest.misfit));
            assert_eq!(found, *want, "{method} {path} {upgrade:?}");
        }
    }
}
