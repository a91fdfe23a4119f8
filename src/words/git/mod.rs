//! The words of Git: what a request asks for, the names of refs, object ids, and what a push changes.
//!
//! A value of these types was checked when it was made. Not here: how they are written in a request
//! ([`wire::git`](crate::wire::git)), and who may do what ([`rules::git`](crate::rules::git)).

mod change;
mod ref_name;
mod request;

pub use self::change::{Change, ObjectFormat, ObjectId, RefChange};
pub use self::ref_name::{MAX_REF_NAME, RefName, RefNameError};
pub use self::request::{
    Asks, Content, GitAsk, GitRequest, Lfs, Operation, Repository, RepositoryError, Service,
};
