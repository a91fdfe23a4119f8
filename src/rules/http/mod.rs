//! What a rule says about the HTTP requests on a connection that it allows: which may pass, and which fields are changed.
//!
//! [`request`] is a request as far as rules may judge it, [`recognised`] what it says beyond method and path,
//! [`requests`] the entries of `requests`, [`written`] how they are shown, [`misfit`] what of one
//! does not fit, [`offered`] one that would, [`past_git`] which let git pass unseen, [`edits`] the fields of `headers`, and [`credentials`] what is sent in place of the
//! client's own. Not here: which rule decides ([`decide`](super::decide)), and what a request gets that no entry fits
//! ([`http_request`](super::http_request)).

mod beyond;
mod changes;
mod credentials;
mod edits;
mod misfit;
mod offered;
mod past_git;
mod recognised;
mod request;
mod requests;
mod written;

pub(in crate::rules) use self::beyond::covers;
pub(in crate::rules) use self::changes::{edit_changes, request_changes};
pub use self::credentials::Credentials;
pub use self::edits::{HeaderEdits, SetField};
pub use self::misfit::{Misfit, Nearest};
pub use self::recognised::Recognised;
pub use self::request::{HttpRequest, Upgrade};
pub use self::requests::{Entry, MatchedEntry, Requests};
