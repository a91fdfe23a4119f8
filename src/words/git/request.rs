//! What a request asks of a Git server.

use std::fmt;
use std::sync::Arc;

use thiserror::Error;

use super::change::RefChange;

/// The kinds of work that a rule allows.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Operation {
    /// To see which refs there are.
    List,
    /// To read objects.
    Fetch,
    /// To change refs, and to store objects.
    Push,
}

/// A program of Git's server, as a client names it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Service {
    /// What fetches and clones ask.
    UploadPack,
    /// What pushes ask.
    ReceivePack,
    /// What `git archive --remote` asks.
    UploadArchive,
}

/// What is asked of the server for large files (git-lfs, `docs/api`).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Lfs {
    /// Where objects are to be fetched from or sent to; its body says which.
    Batch,
    /// Locks: who has them, to take one, to give one back.
    Locks,
    /// To read an object from a server that keeps them beside the repository.
    Download,
    /// To store an object there, or to say that it is stored.
    Upload,
}

/// What a request asks of a repository.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Asks {
    /// `GET …/info/refs?service=…`: what this service offers, which for protocol v0 are all refs.
    Discovery(Service),
    /// `POST …/git-…`: this service.
    Rpc(Service),
    /// Large files.
    Lfs(Lfs),
}

/// Which repository is asked for what. By method, path and query alone: the body is not read yet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GitRequest {
    /// The repository.
    pub repository: Repository,
    /// What is asked of it.
    pub asks: Asks,
}

/// A request with what its body says, as far as that is known.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GitAsk {
    /// By its head.
    pub request: GitRequest,
    /// By its body.
    pub content: Content,
}

/// What the body of a request says, where it decides.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Content {
    /// It is not read yet, or does not decide.
    Unread,
    /// Nothing: the probe by which git finds out whether it may send more.
    Probe,
    /// What the request is: of a fetch, and of a batch of large files.
    Does(Operation),
    /// What a push changes. Not empty.
    Changes(Arc<[RefChange]>),
}

/// The path of a repository on its host, in the one spelling that rules and the log use: without a `/` or `.git` at the
/// end. Compared byte by byte, case included.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Repository(Box<str>);

/// Why a path is not that of a repository.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error("{0}")]
pub struct RepositoryError(pub(crate) &'static str);

impl Operation {
    /// All of them.
    pub const ALL: [Operation; 3] = [Operation::List, Operation::Fetch, Operation::Push];

    /// The word of the configuration and the log.
    pub fn as_str(self) -> &'static str {
        match self {
            Operation::List => "list",
            Operation::Fetch => "fetch",
            Operation::Push => "push",
        }
    }

    /// The operation with this word.
    pub fn named(word: &str) -> Option<Self> {
        Operation::ALL.into_iter().find(|operation| operation.as_str() == word)
    }
}

impl Service {
    /// All of them.
    pub const ALL: [Service; 3] = [Service::UploadPack, Service::ReceivePack, Service::UploadArchive];

    /// The name in paths and in `service=`.
    pub fn as_str(self) -> &'static str {
        match self {
            Service::UploadPack => "git-upload-pack",
            Service::ReceivePack => "git-receive-pack",
            Service::UploadArchive => "git-upload-archive",
        }
    }

    /// The media type of a request's body.
    pub fn request_type(self) -> &'static str {
        match self {
            Service::UploadPack => "application/x-git-upload-pack-request",
            Service::ReceivePack => "application/x-git-receive-pack-request",
            Service::UploadArchive => "application/x-git-upload-archive-request",
        }
    }

    /// The media type of an answer.
    pub fn result_type(self) -> &'static str {
        match self {
            Service::UploadPack => "application/x-git-upload-pack-result",
            Service::ReceivePack => "application/x-git-receive-pack-result",
            Service::UploadArchive => "application/x-git-upload-archive-result",
        }
    }
}

impl GitRequest {
    /// What is asked for; `None`: the body says so. It is `list` or `fetch` for [`Service::UploadPack`], and `fetch` or
    /// `push` for [`Lfs::Batch`].
    pub fn operation(&self) -> Option<Operation> {
        match self.asks {
            // A client that asks what receive-pack offers is about to push.
            Asks::Discovery(Service::ReceivePack) | Asks::Rpc(Service::ReceivePack) => Some(Operation::Push),
            Asks::Discovery(_) => Some(Operation::List),
            Asks::Rpc(Service::UploadArchive) | Asks::Lfs(Lfs::Download) => Some(Operation::Fetch),
            Asks::Lfs(Lfs::Locks | Lfs::Upload) => Some(Operation::Push),
            Asks::Rpc(Service::UploadPack) | Asks::Lfs(Lfs::Batch) => None,
        }
    }
}

impl Repository {
    /// Reads the path of a repository as it stands in a request, never decoded.
    ///
    /// With `suffix`, `X.git` is the repository `X`, as on servers that open either. CodeCommit does not: there a path is
    /// one name alone.
    ///
    /// # Errors
    /// A path that servers read in more than one way, and one with no name.
    pub fn new(path: &str, suffix: bool) -> Result<Self, RepositoryError> {
        let path = path.strip_suffix('/').unwrap_or(path);
        let path = if suffix { path.strip_suffix(".git").unwrap_or(path) } else { path };
        let rest = path.strip_prefix('/').ok_or(RepositoryError("a path that does not begin with `/`"))?;
        for segment in rest.split('/') {
            check_segment(segment)?;
        }
        Ok(Repository(path.into()))
    }

    /// The path.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// One part of a path between two `/`. What is refused is what a server may read as another path.
pub(crate) fn check_segment(segment: &str) -> Result<(), RepositoryError> {
    if segment.is_empty() {
        return Err(RepositoryError("a path with a name that is empty"));
    }
    if matches!(segment, "." | "..") {
        return Err(RepositoryError("a path with a dot segment"));
    }
    if segment.eq_ignore_ascii_case(".git") {
        return Err(RepositoryError("a path that leads into `.git`: write the path above it"));
    }
    let mut bytes = segment.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {}
            b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b'=' | b':' | b'@' => {}
            b'%' => {
                let value = hex(bytes.next()).zip(hex(bytes.next())).map(|(high, low)| high << 4 | low);
                match value {
                    None => {
                        return Err(RepositoryError(
                            "a path with a `%` without two upper-case hexadecimal digits after it",
                        ));
                    }
                    Some(b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~') => {
                        return Err(RepositoryError("a path that encodes a character which needs none"));
                    }
                    Some(b'/' | b'\\' | b';' | b'%' | 0..=0x1f | 0x7f) => {
                        return Err(RepositoryError(
                            "a path that encodes `/`, `\\`, `;`, `%` or a control character",
                        ));
                    }
                    Some(_) => {}
                }
            }
            _ => return Err(RepositoryError("a path with a character that no path has")),
        }
    }
    Ok(())
}

/// An upper-case digit: `%c3` and `%C3` are the same to a server, so there is one spelling, that of RFC 3986 §2.1.
fn hex(byte: Option<u8>) -> Option<u8> {
    match byte? {
        byte @ b'0'..=b'9' => Some(byte - b'0'),
        byte @ b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repository_has_one_spelling() {
        let rows: &[(&str, bool, Result<&str, &str>)] = &[
            ("/v1/repos/x", true, Ok("/v1/repos/x")),
            ("/v1/repos/x", false, Ok("/v1/repos/x")),
            ("/a/x.git", true, Ok("/a/x")),
            ("/a/x/", true, Ok("/a/x")),
            ("/a/x.git/", true, Ok("/a/x")),
            // Git's server opens `x.git.git` and `x.git.git.git` by this, and not `x`.
            ("/a/x.git.git", true, Ok("/a/x.git")),
            ("/a/x.git", false, Ok("/a/x.git")),
            ("/a/x.GIT", true, Ok("/a/x.GIT")),
            ("/a%20b/x", true, Ok("/a%20b/x")),
            ("/x", true, Ok("/x")),
            ("/", true, Err("a path that does not begin with `/`")),
            ("", true, Err("a path that does not begin with `/`")),
            ("/.git", true, Err("a path with a name that is empty")),
            ("/a/.git", true, Err("a path with a name that is empty")),
            ("/a/.git", false, Err("a path that leads into `.git`: write the path above it")),
            ("/a/.git/modules/b", true, Err("a path that leads into `.git`: write the path above it")),
            ("/a//x", true, Err("a path with a name that is empty")),
            ("//x", true, Err("a path with a name that is empty")),
            ("/a/x//", true, Err("a path with a name that is empty")),
            ("/a/./x", true, Err("a path with a dot segment")),
            ("/a/../x", true, Err("a path with a dot segment")),
            ("/a/x;y", true, Err("a path with a character that no path has")),
            ("/a/x\\y", true, Err("a path with a character that no path has")),
            ("/a/x%2Fy", true, Err("a path that encodes `/`, `\\`, `;`, `%` or a control character")),
            ("/a/x%00", true, Err("a path that encodes `/`, `\\`, `;`, `%` or a control character")),
            ("/a/x%2525", true, Err("a path that encodes `/`, `\\`, `;`, `%` or a control character")),
            ("/a/%78", true, Err("a path that encodes a character which needs none")),
            ("/a/x%2Egit", true, Err("a path that encodes a character which needs none")),
            ("/a/x%2", true, Err("a path with a `%` without two upper-case hexadecimal digits after it")),
            ("/a/%c3%a9", true, Err("a path with a `%` without two upper-case hexadecimal digits after it")),
            ("/a/%C3%A9", true, Ok("/a/%C3%A9")),
            ("/a/x?y", true, Err("a path with a character that no path has")),
            ("/a/é", true, Err("a path with a character that no path has")),
        ];
        for (path, suffix, want) in rows {
            let read = Repository::new(path, *suffix);
            let read = read.as_ref().map(Repository::as_str).map_err(|error| error.0);
            assert_eq!(read, *want, "{path} {suffix}");
        }
    }
}
