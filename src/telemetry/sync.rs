//! The atomics of [`super::reservations`], under their own names: its loom test uses loom's atomics instead.

pub(super) use std::sync::atomic::{AtomicUsize, Ordering};
