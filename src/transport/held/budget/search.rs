//! Makes room: searches all holders for those that end.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::sleep;

use super::{HeldBytes, Holder, part};
use crate::transport::held::choose::{Accounts, Need, STALLED, choose};
use crate::transport::held::seats::lock;
use crate::words::outcome::Ending;

/// After a search, nothing is searched for so many milliseconds: it would be searched for with every read, and those that were
/// chosen need a moment to give back what they hold.
pub(super) const SEARCH_PAUSE: u64 = 50;
/// The same at the limit, or while a client waits that holds little.
pub(super) const SEARCH_PAUSE_AT_LIMIT: u64 = 20;
/// So many end with one search if only clients wait that hold much already: a client that is ended comes again at once, and a burst of
/// them would take the processor from all others. More than begin meanwhile ([`super::pace`]).
const FEW: usize = 4;

impl HeldBytes {
    /// Ends connections until no more than [`HeldBytes::CALM`] will be held, if more than [`HeldBytes::HIGH`] is. One at a
    /// time searches; the others need not wait for it.
    pub(super) fn make_room(&self) {
        let sum = self.sum();
        if sum < self.mark(Self::HIGH) {
            return;
        }
        let is_full = sum >= self.in_force();
        let Ok(mut last) = self.search.try_lock() else { return };
        let now = self.now();
        let is_urgent = is_full || self.waiting.has_light();
        let pause = if is_urgent { SEARCH_PAUSE_AT_LIMIT } else { SEARCH_PAUSE };
        if last.is_some_and(|at| now < at + pause) {
            return;
        }
        // For those that hold much, no more than what is needed.
        let down_to = self.mark(if is_full && !self.waiting.has_light() { Self::HIGH } else { Self::CALM });
        let holders = self.holders();
        if !is_full {
            self.settle(&holders);
        }
        let mut needed = self.sum().saturating_sub(down_to);
        let mut all = Vec::with_capacity(holders.len());
        let mut holdings = Vec::with_capacity(holders.len());
        let mut endable = Vec::with_capacity(holders.len());
        for holder in &holders {
            let holding = holder.holding(now);
            all.push(holding);
            if holder.cancel.ending().is_some() {
                // It is on its way out.
                needed = needed.saturating_sub(holding.bytes);
            } else {
                holdings.push(holding);
                endable.push(holder);
            }
        }
        let waiting = self.waiting.wants();
        let need = Need {
            limit: part(self.for_connections(), Self::CALM),
            bytes: needed,
            // At the limit there is no time to wait for who moves.
            patience: if is_full { Duration::ZERO } else { STALLED },
            most: if is_urgent || !self.pace.has_others(now) { usize::MAX } else { FEW },
        };
        let accounts = Accounts::new(&all, &waiting, need.limit);
        // Before it is open, an identity may still come that makes it another account.
        if holdings.iter().any(|holding| holding.kept > 0 && accounts.is_light(holding.account)) {
            self.pace.sees_another(now);
        }
        for (holder, holding) in endable.iter().zip(&holdings) {
            holder.is_heavy.store(!accounts.is_light(holding.account), Ordering::Relaxed);
        }
        let chosen = choose(&holdings, &waiting, &accounts, need);
        *lock(&self.accounts) = accounts;
        *last = Some(now);
        if !chosen.is_empty() {
            self.pace.ends(now);
        }
        for place in chosen {
            if let Some(holder) = endable.get(place) {
                holder.cancel.cancel(Ending::MemoryLimit);
                self.ended.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Goes on making room while memory is short: what is held may have come before it could be ended. Never ready, and asleep
    /// while there is room.
    pub async fn keep(&self) {
        loop {
            self.short.notified().await;
            while self.is_short() {
                self.make_room();
                sleep(Duration::from_millis(SEARCH_PAUSE)).await;
            }
            if !lock(&self.drawn).is_empty() {
                self.settle(&self.holders());
            }
        }
    }

    /// All that there are. They are dropped by the caller without a lock: the last reference leaves its list.
    fn holders(&self) -> Vec<Arc<Holder>> {
        let mut holders = Vec::new();
        for shard in &self.shards {
            holders.extend(lock(shard).all());
        }
        holders
    }
}
