//! Git over HTTP (`gitprotocol-http`, `gitprotocol-pack`, `gitprotocol-v2`): what a client asks, and refusals that it prints.
//!
//! [`classify()`] tells what a request asks by its method, path and query. The body of a push begins with a list of commands
//! ([`PushReader`]); that of a fetch is one request ([`FetchRequest`]), perhaps compressed ([`inflate`]). [`lfs`] reads what
//! clients ask about large files, and [`refusal`] writes the answers by which git tells its user why.
//!
//! All of it is stricter than git's server: what git would read in two ways, or reads beyond its documents, is refused. The
//! words are in [`words::git`](crate::words::git), who may do what in [`rules::git`](crate::rules::git).

mod capabilities;
mod classify;
mod fetch;
pub mod inflate;
pub mod lfs;
pub mod pkt_line;
mod push;
pub mod refusal;
#[cfg(test)]
mod test_bodies;
mod version;

pub use self::capabilities::{Capabilities, SideBand};
pub use self::classify::{NotGit, classify, classify_for};
pub use self::fetch::{FetchError, FetchKind, FetchReader, FetchRequest};
pub use self::push::{
    After, ListError, MAX_CHANGES, MAX_LIST, MAX_OPTION_BYTES, MAX_OPTIONS, Progress, PushList, PushReader,
};
pub use self::version::ProtocolVersion;

/// What stands in place of the client's own version where nothing that it writes shall go out.
pub const FIXED_AGENT: &str = "git/2.47.0-egressd";
