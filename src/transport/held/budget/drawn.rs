//! Who has drawn how much of what is set aside: no client so much that nothing is left for the next one.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use crate::transport::held::choose::Account;

/// One client may have this part of what is left.
const PART: usize = 8;

/// What is drawn, in all and by each.
#[derive(Default)]
pub(super) struct Drawn {
    all: usize,
    by: HashMap<Account, usize>,
}

impl Drawn {
    /// Whether `account` may draw so much of the `most` that there is, which it then has. It may have `small` in any case, and more if
    /// that is a small part of what others still find.
    pub(super) fn draw(&mut self, account: Account, bytes: usize, most: usize, small: usize) -> bool {
        let own = self.by.get(&account).copied().unwrap_or(0).saturating_add(bytes);
        let Some(left) = most.checked_sub(self.all.saturating_add(bytes)) else { return false };
        let may = own <= small.max(left / PART);
        if may {
            self.add(account, bytes);
        }
        may
    }

    pub(super) fn give_back(&mut self, account: Account, bytes: usize) {
        self.all = self.all.saturating_sub(bytes);
        if let Entry::Occupied(mut own) = self.by.entry(account) {
            *own.get_mut() = own.get().saturating_sub(bytes);
            if *own.get() == 0 {
                own.remove();
            }
        }
    }

    /// It is another account's.
    pub(super) fn moves(&mut self, bytes: usize, from: Account, to: Account) {
        if bytes > 0 {
            self.give_back(from, bytes);
            self.add(to, bytes);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.all == 0
    }

    fn add(&mut self, account: Account, bytes: usize) {
        self.all += bytes;
        *self.by.entry(account).or_default() += bytes;
    }

    #[cfg(test)]
    pub(super) fn all(&self) -> usize {
        assert_eq!(self.all, self.by.values().sum::<usize>());
        self.all
    }
}
