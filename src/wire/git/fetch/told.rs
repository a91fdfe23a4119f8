//! What a request to read says, and why one is refused.

use thiserror::Error;

use super::super::pkt_line::PacketError;
use super::super::version::ProtocolVersion;
use crate::words::git::Operation;

/// What a body asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FetchRequest {
    /// What it asks for: [`Operation::List`] for `ls-refs`, else [`Operation::Fetch`]. `None` for the probe `0000`, by which git
    /// finds out whether it may send more.
    pub operation: Option<Operation>,
    /// How many objects and refs are wanted.
    pub wants: usize,
    /// How many objects the client says that it has.
    pub haves: usize,
}

/// Why a body is refused. Quotes nothing from it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum FetchError {
    /// Not a line.
    #[error("{0}")]
    Packet(#[from] PacketError),
    /// The body ends too early.
    #[error("a body that ends before the request does")]
    Incomplete,
    /// Bytes that git's server would not read.
    #[error("a body that goes on after the request")]
    After,
    /// A special line where it does not belong.
    #[error("a special line where the protocol has none")]
    Special,
    /// Not what this version of the protocol begins with.
    #[error("a request that is not of the protocol version that `Git-Protocol` names")]
    Version,
    /// A command that does not exist, or a second one.
    #[error("a request without one of the commands ls-refs, fetch, object-info and bundle-uri")]
    Command,
    /// A `want`, `have`, `shallow` or `oid` without an id, or with more.
    #[error("a line that is not one id in lower case")]
    Id,
    /// Capabilities.
    #[error("{0}")]
    Capabilities(&'static str),
    /// Control characters, or not UTF-8.
    #[error("a line that is not printable text")]
    Text,
    /// An argument twice that a fetch needs once.
    #[error("an argument twice that may be there once")]
    Twice,
    /// A ref, where only what a fetch needs may go out.
    #[error("a ref that git could not have, or with a name of more than 255 bytes")]
    Name,
    /// A filter, where only what a fetch needs may go out.
    #[error("a filter other than blob:none, blob:limit=SIZE, tree:DEPTH and object:type=KIND")]
    Filter,
    /// More arguments of an archive than git's server takes.
    #[error("more than 64 arguments of `git archive`")]
    Arguments,
    /// An argument of an archive, where only what a fetch needs may go out.
    #[error(
        "an argument of `git archive` other than a format, a prefix, a level, a ref and paths without a `*`: where `fetch` is allowed \
         without `push`, others are refused"
    )]
    Archive,
    /// Something that is not known, where only what a fetch needs may go out.
    #[error(
        "a line that no fetch needs: where `fetch` is allowed without `push`, server options and unknown lines are refused"
    )]
    Unknown,
}

/// What a body is read as.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FetchKind {
    /// Of upload-pack, in this version of the protocol.
    Pack(ProtocolVersion),
    /// Of upload-archive: arguments of `git archive`.
    Archive,
}
