//! HTTP requests: [`exchange`] decides and registers each one, [`onward`] dials for it and records it, [`forward`] moves its bytes, and
//! [`changes`] says what a rule changes in them, [`round`] whether one has been here before. [`recognise`] reads what a request asks of Git and AWS, [`git`] what its body
//! says of that.

pub(crate) mod after;
pub(crate) mod changes;
pub mod exchange;
pub mod forward;
mod git;
mod git_fields;
pub(crate) mod lent;
mod onward;
mod recognise;
mod round;
mod under_way;
pub(crate) mod wanted;
