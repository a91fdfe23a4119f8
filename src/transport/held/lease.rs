//! Bytes that one connection holds of one kind.

use std::fmt;
use std::sync::Arc;

use super::budget::Holder;
use super::kind::Kind;

/// Bytes that one connection holds of one kind. Dropping it gives them back.
#[must_use = "the bytes go back when this is dropped"]
pub struct Lease {
    holder: Arc<Holder>,
    kind: Kind,
    bytes: usize,
}

impl Lease {
    /// Of nothing yet.
    pub fn new(holder: &Arc<Holder>, kind: Kind) -> Self {
        Lease { holder: Arc::clone(holder), kind, bytes: 0 }
    }

    /// In a budget without a limit, for code that is used without one.
    pub fn alone() -> Self {
        Lease::new(&Holder::alone(), Kind::Head)
    }

    /// Of bytes that are held already, or that cannot be refused.
    pub fn of(holder: &Arc<Holder>, kind: Kind, bytes: usize) -> Self {
        let mut lease = Lease::new(holder, kind);
        lease.set(bytes);
        lease
    }

    /// The holder.
    pub fn holder(&self) -> &Arc<Holder> {
        &self.holder
    }

    /// How many bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// What it is of has become another kind.
    pub fn becomes(&mut self, kind: Kind) {
        let bytes = self.bytes;
        self.set(0);
        self.kind = kind;
        self.set(bytes);
    }

    /// Makes it `bytes`, at once: what is held already is counted, whatever the limit says.
    pub fn set(&mut self, bytes: usize) {
        self.holder.holds(self.kind, self.bytes, bytes);
        self.bytes = bytes;
    }

    /// Makes it at least `bytes`, if there is room.
    #[must_use]
    pub fn try_grow(&mut self, bytes: usize) -> bool {
        let more = bytes.saturating_sub(self.bytes);
        let grown = more == 0 || self.holder.take(self.kind, more);
        if grown {
            self.bytes = self.bytes.max(bytes);
        }
        grown
    }

    /// Ready at once unless memory is short. Then it waits until there is room for `bytes`, and has them.
    pub async fn may_grow(&mut self, bytes: usize) {
        if self.holder.budget().is_short() {
            self.grow(bytes).await;
        }
    }

    /// Makes it at least `bytes`, and waits until there is room: the caller has a deadline, and watches
    /// [`Holder::given_up`].
    pub async fn grow(&mut self, bytes: usize) {
        if !self.try_grow(bytes) {
            // Boxed: it is rare, and futures that hold this one wait in thousands.
            Box::pin(self.holder.wait_for(self.kind, bytes.saturating_sub(self.bytes))).await;
            self.bytes = self.bytes.max(bytes);
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.set(0);
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease").field("kind", &self.kind).field("bytes", &self.bytes).finish_non_exhaustive()
    }
}
