//! What is set aside, beyond the limit, for clients that hold little.
//!
//! Clients that hold much cannot keep them out by being over the limit, which what the kernel takes in makes them from time to time; nor can one
//! that holds little with many connections ([`super::drawn`]). It is drawn for a moment: as soon as all that is held is within the limit
//! again it is an ordinary part of that, because otherwise tunnels that stay open would use it up.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{HeldBytes, Holder, SMALL, part};
use crate::transport::held::choose::Account;
use crate::transport::held::kind::Kind;
use crate::transport::held::seats::lock;

impl HeldBytes {
    /// All that is held is within the limit, with what was drawn.
    pub(super) fn settle(&self, holders: &[Arc<Holder>]) {
        holders.iter().for_each(|holder| holder.repays(usize::MAX));
    }
}

impl Holder {
    /// Takes `bytes` of what is set aside, if its client may.
    pub(super) fn overdraw(&self, kind: Kind, bytes: usize) -> bool {
        let most = part(self.budget.limit(), HeldBytes::LIGHT);
        let mut drawn = lock(&self.budget.drawn);
        let may = drawn.draw(self.account(), bytes, most, SMALL);
        if may {
            self.overdrawn.fetch_add(bytes, Ordering::Relaxed);
            self.budget.ledger.charge(kind.place(), bytes);
            // It is settled once there is room.
            self.budget.short.notify_one();
        }
        may
    }

    /// Of what it has drawn, so much goes back.
    pub(super) fn repays(&self, bytes: usize) {
        if self.overdrawn.load(Ordering::Relaxed) == 0 {
            return;
        }
        let mut drawn = lock(&self.budget.drawn);
        let back = self.overdrawn.load(Ordering::Relaxed).min(bytes);
        self.overdrawn.fetch_sub(back, Ordering::Relaxed);
        drawn.give_back(self.account(), back);
    }

    /// It is this account's from now on, with what it has drawn.
    pub(super) fn belongs_to(&self, account: Account) {
        // Under the lock: what it draws and repays meanwhile is of one of the two.
        let mut drawn = lock(&self.budget.drawn);
        let before = Account(self.account.swap(account.0, Ordering::Relaxed));
        drawn.moves(self.overdrawn.load(Ordering::Relaxed), before, account);
    }
}
