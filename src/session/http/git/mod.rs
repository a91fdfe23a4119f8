//! Requests to Git whose body decides what they are.
//!
//! [`ahead`] reads as much of the body as is needed to judge the request: of a push the list of commands before its first byte goes
//! on, of anything else all of it. [`answer`] refuses in a way that git prints, and asks for credentials. [`git_fields`](super::git_fields) are those that
//! go on. Not here: what the bytes mean ([`wire::git`](crate::wire::git)), and what is allowed
//! ([`rules::git`](crate::rules::git)).

pub(super) mod ahead;
pub(super) mod answer;
mod beginning;
mod drain;
pub(super) mod steps;
