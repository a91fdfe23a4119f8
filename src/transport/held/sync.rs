//! The atomics that [`super::ledger`] uses. A module of their own, so that its loom test can put loom's in their place.

pub(super) use std::sync::atomic::{AtomicUsize, Ordering};
