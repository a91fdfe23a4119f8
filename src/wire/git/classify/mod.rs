//! What a request asks of a Git server, by its method, its path and its query as they were sent.
//!
//! Git's own server decodes the path and each name and value of the query, lets the last of several `service` win, treats HEAD as
//! GET, and also serves the files of a repository one by one (the "dumb" protocol), which other servers let clients write by
//! WebDAV. Here a request is exactly what git's client or git-lfs writes, or it is refused.

use thiserror::Error;

use crate::words::aws::codecommit_region;
use crate::words::git::{Asks, GitRequest, Lfs, Repository, RepositoryError, Service};

/// Why a request is not one that git's client writes. Quotes nothing from it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum NotGit {
    /// Method and path do not belong together.
    #[error("a method that git's client does not use for this path")]
    Method,
    /// Anything but `?service=NAME` on discovery, or any query elsewhere.
    #[error(
        "a query that git's client does not write: `?service=git-upload-pack` and its like on `/info/refs`, none elsewhere"
    )]
    Query,
    /// Discovery without a service, and the files of a repository.
    #[error("git's dumb protocol, which is not supported")]
    Dumb,
    /// Methods of WebDAV.
    #[error("WebDAV, which is not supported")]
    WebDav,
    /// The path before what is asked.
    #[error("{0}")]
    Repository(RepositoryError),
    /// Nothing of the kind.
    #[error("no request of git's client or of git-lfs")]
    Other,
}

/// What is asked for at `host`, which is a canonical name: on CodeCommit's hosts `X.git` is not the repository `X`, save for
/// large files, for which git-lfs appends the `.git` itself.
///
/// # Errors
/// See [`NotGit`].
pub fn classify_for(host: &str, method: &str, path: &str, query: Option<&str>) -> Result<GitRequest, NotGit> {
    if codecommit_region(host).is_none() {
        return classify(method, path, query, true);
    }
    let request = classify(method, path, query, false)?;
    match request.repository.as_str().strip_prefix("/v1/repos/") {
        Some(name) if is_codecommit_name(name) => Ok(request),
        _ => Err(NotGit::Repository(RepositoryError(
            "a path that is none of CodeCommit: /v1/repos/NAME, of 1 to 100 letters, digits, `.`, `_` and `-`",
        ))),
    }
}

/// CodeCommit's names of repositories (its user guide, "Quotas").
fn is_codecommit_name(name: &str) -> bool {
    (1..=100).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
}

/// What is asked for. `path` is without the query, never decoded; `query` is what follows the first `?`, if there is one.
/// `suffix`: whether the server opens `X` and `X.git` alike.
///
/// # Errors
/// See [`NotGit`].
pub fn classify(method: &str, path: &str, query: Option<&str>, suffix: bool) -> Result<GitRequest, NotGit> {
    if matches!(method, "PROPFIND" | "PROPPATCH" | "MKCOL" | "COPY" | "MOVE" | "LOCK" | "UNLOCK" | "DELETE") {
        return Err(NotGit::WebDav);
    }
    if let Some(repository) = path.strip_suffix("/info/refs") {
        let service = discovery(method, query)?;
        return request(repository, suffix, Asks::Discovery(service));
    }
    for service in Service::ALL {
        let Some(repository) = path.strip_suffix(service.as_str()).and_then(|rest| rest.strip_suffix('/'))
        else {
            continue;
        };
        if method != "POST" {
            return Err(NotGit::Method);
        }
        if query.is_some() {
            return Err(NotGit::Query);
        }
        return request(repository, suffix, Asks::Rpc(service));
    }
    if let Some((repository, rest)) = path.rsplit_once("/info/lfs/") {
        let lfs = lfs(method, rest, query)?;
        return request(repository, true, Asks::Lfs(lfs));
    }
    // GitLab keeps the objects beside the repository.
    if let Some((repository, rest)) = path.rsplit_once("/gitlab-lfs/objects/") {
        let lfs = stored(method, rest, query)?;
        return request(repository, true, Asks::Lfs(lfs));
    }
    Err(if is_dumb(path) { NotGit::Dumb } else { NotGit::Other })
}

fn discovery(method: &str, query: Option<&str>) -> Result<Service, NotGit> {
    if method != "GET" {
        return Err(NotGit::Method);
    }
    let query = query.ok_or(NotGit::Dumb)?;
    let name = query.strip_prefix("service=").ok_or(NotGit::Query)?;
    Service::ALL.into_iter().find(|service| service.as_str() == name).ok_or(NotGit::Query)
}

fn request(repository: &str, suffix: bool, asks: Asks) -> Result<GitRequest, NotGit> {
    let repository = repository_at(repository, suffix).map_err(NotGit::Repository)?;
    Ok(GitRequest { repository, asks })
}

fn repository_at(path: &str, suffix: bool) -> Result<Repository, RepositoryError> {
    // A `/` that a client left at the end of its URL would make two: `X//info/refs` is no path of one repository.
    if path.ends_with('/') {
        return Err(RepositoryError("a path with a name that is empty"));
    }
    // Two servers answer at one host: what is below the one's paths is not a repository of the other.
    if [path, "/"].concat().contains("/info/lfs/") {
        return Err(RepositoryError("a repository below `/info/lfs`"));
    }
    Repository::new(path, suffix)
}

/// `rest` follows `/info/lfs/` (git-lfs `docs/api`).
fn lfs(method: &str, rest: &str, query: Option<&str>) -> Result<Lfs, NotGit> {
    if let Some(object) = rest.strip_prefix("objects/")
        && object != "batch"
    {
        return stored(method, object, query);
    }
    let (lfs, methods): (Lfs, &[&str]) = match rest {
        "objects/batch" => (Lfs::Batch, &["POST"]),
        "locks" => (Lfs::Locks, &["GET", "POST"]),
        "locks/verify" => (Lfs::Locks, &["POST"]),
        // Where an uploaded object is confirmed.
        "verify" => (Lfs::Upload, &["POST"]),
        _ => {
            let id = rest.strip_prefix("locks/").and_then(|rest| rest.strip_suffix("/unlock"));
            if !id.is_some_and(is_lock) {
                return Err(NotGit::Other);
            }
            (Lfs::Locks, &["POST"])
        }
    };
    if !methods.contains(&method) {
        return Err(NotGit::Method);
    }
    match query {
        None => Ok(lfs),
        // The list of locks is searched by path, id, ref and cursor.
        Some(_) if rest == "locks" && method == "GET" => Ok(lfs),
        Some(_) => Err(NotGit::Query),
    }
}

/// `OID` or `OID/SIZE`: an object itself.
fn stored(method: &str, object: &str, query: Option<&str>) -> Result<Lfs, NotGit> {
    let (id, size) = match object.split_once('/') {
        Some((id, size)) => (id, Some(size)),
        None => (object, None),
    };
    let is_id = id.len() == 64 && id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let is_size =
        size.is_none_or(|size| (1..=20).contains(&size.len()) && size.bytes().all(|b| b.is_ascii_digit()));
    if !is_id || !is_size {
        return Err(NotGit::Other);
    }
    let lfs = match method {
        "GET" => Lfs::Download,
        "PUT" => Lfs::Upload,
        _ => return Err(NotGit::Method),
    };
    if query.is_some() { Err(NotGit::Query) } else { Ok(lfs) }
}

fn is_lock(id: &str) -> bool {
    (1..=128).contains(&id.len())
        && id.bytes().all(|byte| matches!(byte, b'-' | b'_') || byte.is_ascii_alphanumeric())
}

/// Files that git's server hands out one by one (git `http-backend.c`, `services`).
fn is_dumb(path: &str) -> bool {
    path.ends_with("/HEAD") || path.contains("/objects/")
}

#[cfg(test)]
mod tests;
