//! The atomics of `places`, by a name of their own: its loom test puts loom's in their place.

pub(super) use std::sync::atomic::{AtomicUsize, Ordering};
