//! What the access log says about one event.
//!
//! [`Record`] and its fields are one table ([`fields`]), which [`table`] reads; [`event`], [`target`] and [`recognised`] have its
//! words. [`ecs`] and [`ocsf`] write it in the words of others, [`sealed`] and [`seal_head`] have what a sealed log adds. Not here: how lines reach the output ([`super::access_log`]), and how values are escaped ([`super::json`]).

mod ecs;
mod event;
mod fields;
mod members;
mod ocsf;
mod recognised;
mod schema;
#[cfg(test)]
mod schema_tests;
mod seal_head;
mod sealed;
mod table;
mod target;
#[cfg(test)]
pub(crate) mod test_records;
#[cfg(test)]
mod tests;

use uuid::Uuid;

pub use ecs::{ECS, ECS_VERSION};
pub use event::{Cause, Event};
pub use fields::{FIELDS, Record};
pub use members::{Schema, tells};
pub use ocsf::{OCSF, OCSF_VERSION};
pub use recognised::{LoggedAws, LoggedGit, Negotiated, PushOptions};
pub(super) use seal_head::write_seal_head;
pub(super) use sealed::write_place;
pub(super) use table::NoteWriter;
pub use table::{Field, LINE_BOUND};
pub use target::{LoggedTarget, Raw, without_secrets};
pub(super) use target::{scheme, without_password, without_query};

/// A new request's id: UUIDv7 (RFC 9562 §5.7), so that ids sort by time.
pub fn new_id() -> Uuid {
    Uuid::now_v7()
}
