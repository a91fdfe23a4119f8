//! The table of accounts: bounded, and shared out by client.
//!
//! An account whose bytes have all left the window, and that no tunnel uses, is removed. If the table is full of others,
//! the client that has most gives one up, as long as it has at least two more than the client that needs one: two of its
//! accounts are merged into one, its rest. What was sent by the rules of either then counts for all of them, so nobody
//! ever sends more than its budget. A client that has as many as any other merges its own. So one client cannot fill the
//! table, whatever its list is.
//!
//! As many clients as there are places can. Then one account that no tunnel uses is given up for a client that has none: of those that
//! are looked at, the one from which least was sent. Nobody knows any more whose it was, so each client that comes new to its rule begins
//! with the most that was sent from any that was given up: again nobody sends more than its budget, and a fleet keeps nobody out.
//!
//! Merged are those whose bytes leave the window soonest. A rule without an account of its own gets one as soon as there
//! is room and no tunnel sends from the rest any more. As long as its client has a rest, that counts in addition, because
//! the rule may have been merged into it.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::telemetry::metrics::BudgetAccounts;
use crate::transport::account::{Account, GivenUp};
use crate::transport::held::{HeldBytes, Kind};
use crate::transport::purse::Purse;

/// What an account costs in this table, and at most by itself, beside the text of its rule: `tests/long/abuse budget_accounts`.
pub const ACCOUNT: usize = 1_800;
/// What its purse costs: the steps of a window in which it told the store of something.
const PURSE: usize = 4_000;
/// Accounts that are looked at with each new one, whether they can be removed: more than one, so that the table does not
/// grow while there is something to remove.
const LOOKS: usize = 4;
/// The same before a client is refused or accounts are merged.
const LOOKS_IF_FULL: usize = 1024;
/// An account that a tunnel uses and that has counted nothing is looked at again so much later, in milliseconds.
const PAUSE: u64 = 1000;
/// Accounts of which one is given up. More of them: less was sent from it, and the search takes longer.
const CANDIDATES: usize = 32;

/// Whose uploads are counted, and by which rule: the policy's name and the rule's text.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) client: IpAddr,
    pub(super) policy: Arc<str>,
    pub(super) rule: Box<str>,
}

pub(super) struct Table {
    most: usize,
    epoch: Instant,
    entries: HashMap<u64, Entry>,
    /// The entries that are not a client's rest.
    accounts: HashMap<Arc<Key>, u64>,
    clients: HashMap<IpAddr, OfClient>,
    /// By how many each client has.
    by_count: BTreeSet<(usize, IpAddr)>,
    /// By when each is looked at next; never before its bytes have left the window.
    due: BTreeSet<(u64, u64)>,
    /// The same for each client, without its rest.
    due_of_client: BTreeSet<(IpAddr, u64, u64)>,
    next: u64,
    merged: u64,
    /// By policy and rule, what is known of the accounts that were given up.
    given_up: HashMap<(Arc<str>, Box<str>), GivenUp>,
    /// Where among those that are due the last search for one ended.
    searched: (u64, u64),
    /// Counts what the accounts cost: clients make them.
    held: Arc<HeldBytes>,
}

struct Entry {
    client: IpAddr,
    /// `None`: the client's rest.
    key: Option<Arc<Key>>,
    account: Arc<Account>,
    /// What is leased for it, where replicas count together.
    purse: Option<Arc<Purse>>,
    due: u64,
}

impl Entry {
    fn cost(&self) -> usize {
        cost(self.key.as_deref()) + if self.purse.is_some() { PURSE } else { 0 }
    }
}

#[derive(Default)]
struct OfClient {
    count: usize,
    rest: Option<u64>,
}

impl Table {
    pub(super) fn new(most: usize, epoch: Instant, held: Arc<HeldBytes>) -> Self {
        Table {
            most,
            epoch,
            entries: HashMap::new(),
            accounts: HashMap::new(),
            clients: HashMap::new(),
            by_count: BTreeSet::new(),
            due: BTreeSet::new(),
            due_of_client: BTreeSet::new(),
            next: 0,
            merged: 0,
            given_up: HashMap::new(),
            searched: (0, 0),
            held,
        }
    }

    pub(super) fn set_most(&mut self, most: usize) {
        self.most = most;
    }

    pub(super) fn accounts(&self) -> BudgetAccounts {
        BudgetAccounts { used: self.entries.len(), most: self.most, merged: self.merged, store_up: None }
    }

    /// The account of a client and a rule, which counts over `window`. `None`: there is no place.
    pub(super) fn account(&mut self, key: Key, window: Duration) -> Option<Arc<Account>> {
        let known = self.accounts.get(&key).and_then(|id| self.entries.get(id));
        let (account, unused) = match known {
            Some(entry) => (Arc::clone(&entry.account), Arc::strong_count(&entry.account) == 1),
            None => (self.new_account(key)?, false),
        };
        // Under the table's lock: nobody removes it before it counts for so long.
        account.keep_for(window, unused);
        Some(account)
    }

    /// The purse of an account. One that was merged has none of its own: it gets one for as long as a tunnel uses it.
    pub(super) fn purse(&mut self, key: &Key, make: impl FnOnce() -> Arc<Purse>) -> Arc<Purse> {
        let Some(entry) = self.accounts.get(key).and_then(|id| self.entries.get_mut(id)) else {
            return make();
        };
        match &entry.purse {
            Some(purse) => Arc::clone(purse),
            None => {
                let purse = make();
                entry.purse = Some(Arc::clone(&purse));
                self.held.charge(Kind::Budget, PURSE);
                purse
            }
        }
    }

    /// Merges or gives up as many as `lot` accounts where there are too many. Whether there is more to do.
    pub(super) fn shrink(&mut self, lot: usize) -> bool {
        self.look(LOOKS_IF_FULL);
        for _ in 0..lot {
            if self.entries.len() <= self.most || !(self.give_up(0) || self.forget()) {
                return false;
            }
        }
        true
    }

    fn new_account(&mut self, key: Key) -> Option<Arc<Account>> {
        self.look(LOOKS);
        let client = key.client;
        let rest = self.rest(client);
        // The table's reference and this one. Another is a tunnel's, which may be one of this rule: what it still sends
        // counts there, and it would not see what is sent from a new account.
        if let Some(rest) = &rest
            && Arc::strong_count(rest) > 2
        {
            return Some(Arc::clone(rest));
        }
        if self.entries.len() >= self.most {
            self.look(LOOKS_IF_FULL);
        }
        let held = self.clients.get(&client).map_or(0, |of_client| of_client.count);
        while self.entries.len() >= self.most && self.give_up(held) {}
        while held == 0 && self.entries.len() >= self.most && self.forget() {}
        if self.entries.len() < self.most {
            let given_up = self.given_up(&key);
            let account = Arc::new(Account::after(self.epoch, rest.as_ref(), given_up));
            self.insert(client, Some(Arc::new(key)), Arc::clone(&account));
            return Some(account);
        }
        // Nobody has more: it has to do with what it has.
        if rest.is_none() && held > 0 {
            self.merge(client);
        }
        self.rest(client)
    }

    /// The account into which those of a client were merged.
    fn rest(&self, client: IpAddr) -> Option<Arc<Account>> {
        let id = self.clients.get(&client)?.rest?;
        self.entries.get(&id).map(|entry| Arc::clone(&entry.account))
    }

    /// Frees one entry of the client that has most, for a client that has `held`. Whether that is just.
    fn give_up(&mut self, held: usize) -> bool {
        let Some(&(count, client)) = self.by_count.last() else { return false };
        if count < held + 2 {
            return false;
        }
        if self.rest(client).is_none() {
            self.merge(client);
        }
        self.merge(client);
        true
    }

    /// What a client that comes new to this rule begins with.
    fn given_up(&self, key: &Key) -> GivenUp {
        // Nothing was given up in most tables.
        if self.given_up.is_empty() {
            return GivenUp::default();
        }
        self.given_up.get(&(Arc::clone(&key.policy), key.rule.clone())).copied().unwrap_or_default()
    }

    /// Frees the entry of a client that has no other and no tunnel from it, for one that has none. Whether there was one. Only so many are
    /// looked at, from where the last search ended: what tunnels use is not looked at again and again.
    fn forget(&mut self) -> bool {
        let mut candidates = Vec::with_capacity(CANDIDATES);
        let from = (std::ops::Bound::Excluded(self.searched), std::ops::Bound::Unbounded);
        let around = self.due.range(from).chain(self.due.range(..=self.searched)).take(LOOKS_IF_FULL);
        for &place in around {
            self.searched = place;
            let Some(entry) = self.entries.get(&place.1) else { continue };
            let alone = self.clients.get(&entry.client).is_some_and(|of_client| of_client.count == 1);
            if alone && entry.key.is_some() && Arc::strong_count(&entry.account) == 1 {
                candidates.push((entry.account.sent(), place.1));
                if candidates.len() == CANDIDATES {
                    break;
                }
            }
        }
        let Some(entry) = candidates.into_iter().min().and_then(|(_, id)| self.remove(id)) else {
            return false;
        };
        let Some(key) = entry.key else { return false };
        let now = self.now();
        let of_rule = (Arc::clone(&key.policy), key.rule.clone());
        if !self.given_up.contains_key(&of_rule) {
            // Rules that a reload took away.
            self.given_up.retain(|_, given_up| given_up.counts(now));
        }
        entry.account.give_up(self.given_up.entry(of_rule).or_default());
        self.merged += 1;
        true
    }

    /// Merges the account of `client` that is due first into its rest, which is made if there is none.
    fn merge(&mut self, client: IpAddr) {
        let first = self.due_of_client.range((client, 0, 0)..).next().filter(|(of, _, _)| *of == client);
        let Some(entry) = first.copied().and_then(|(_, _, id)| self.remove(id)) else { return };
        let rest = match self.rest(client) {
            Some(rest) => rest,
            None => {
                let rest = Arc::new(Account::new(self.epoch, None));
                self.insert(client, None, Arc::clone(&rest));
                rest
            }
        };
        entry.account.merge_into(&rest);
        self.merged += 1;
    }

    /// Looks at up to `looks` accounts that are due, and removes those whose bytes have left the window.
    fn look(&mut self, looks: usize) {
        let now = self.now();
        for _ in 0..looks {
            let Some(&(due, id)) = self.due.first() else { return };
            if due > now {
                return;
            }
            let Some(entry) = self.entries.get(&id) else { return };
            let until = entry.account.counts_until();
            // Nothing else can get a reference to it while the table is locked.
            if until.is_none() && Arc::strong_count(&entry.account) == 1 {
                self.remove(id);
            } else {
                self.set_due(id, until.unwrap_or(now).max(now + PAUSE));
            }
        }
    }

    fn set_due(&mut self, id: u64, due: u64) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        let before = std::mem::replace(&mut entry.due, due);
        self.due.remove(&(before, id));
        self.due.insert((due, id));
        if self.due_of_client.remove(&(entry.client, before, id)) {
            self.due_of_client.insert((entry.client, due, id));
        }
    }

    fn insert(&mut self, client: IpAddr, key: Option<Arc<Key>>, account: Arc<Account>) {
        let (id, due) = (self.next, self.now());
        self.next += 1;
        self.change(client, |of_client| {
            of_client.count += 1;
            if key.is_none() {
                of_client.rest = Some(id);
            }
        });
        if let Some(key) = &key {
            self.accounts.insert(Arc::clone(key), id);
            self.due_of_client.insert((client, due, id));
        }
        self.due.insert((due, id));
        self.held.charge(Kind::Budget, cost(key.as_deref()));
        self.entries.insert(id, Entry { client, key, account, purse: None, due });
    }

    fn remove(&mut self, id: u64) -> Option<Entry> {
        let entry = self.entries.remove(&id)?;
        self.held.give_back(Kind::Budget, entry.cost());
        self.due.remove(&(entry.due, id));
        self.change(entry.client, |of_client| {
            of_client.count -= 1;
            if entry.key.is_none() {
                of_client.rest = None;
            }
        });
        if let Some(key) = &entry.key {
            self.accounts.remove(key);
            self.due_of_client.remove(&(entry.client, entry.due, id));
        }
        if self.entries.len() < self.entries.capacity() / 4 {
            self.entries.shrink_to(self.entries.len() * 2);
            self.accounts.shrink_to(self.accounts.len() * 2);
            self.clients.shrink_to(self.clients.len() * 2);
        }
        Some(entry)
    }

    /// Changes what a client has, and its place by count.
    fn change(&mut self, client: IpAddr, change: impl FnOnce(&mut OfClient)) {
        let of_client = self.clients.entry(client).or_default();
        let before = of_client.count;
        change(of_client);
        let after = of_client.count;
        if after == 0 {
            self.clients.remove(&client);
        }
        self.by_count.remove(&(before, client));
        if after > 0 {
            self.by_count.insert((after, client));
        }
    }

    /// Milliseconds since the epoch.
    fn now(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

fn cost(key: Option<&Key>) -> usize {
    ACCOUNT + key.map_or(0, |key| key.rule.len())
}

#[cfg(test)]
impl Table {
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// How many accounts are not given up: tunnels use them, or they are a client's rest or one of several.
    pub(super) fn kept(&self) -> usize {
        let is_kept = |entry: &&Entry| {
            entry.key.is_none()
                || Arc::strong_count(&entry.account) > 1
                || self.clients[&entry.client].count > 1
        };
        self.entries.values().filter(is_kept).count()
    }

    /// What a client that comes new to the rule begins with.
    pub(super) fn begins_with(&self, policy: &str, rule: &str) -> u64 {
        let key = Key { client: IpAddr::from([0; 4]), policy: policy.into(), rule: rule.into() };
        Account::after(self.epoch, None, self.given_up(&key)).sent()
    }

    /// Panics if what is kept twice differs.
    pub(super) fn check(&self) {
        assert_eq!(self.due.len(), self.entries.len());
        let counts: BTreeSet<_> = self.clients.iter().map(|(client, of)| (of.count, *client)).collect();
        assert_eq!(counts, self.by_count);
        assert_eq!(counts.iter().map(|(count, _)| count).sum::<usize>(), self.entries.len());
        let costs: usize = self.entries.values().map(Entry::cost).sum();
        assert_eq!(self.held.of(Kind::Budget), costs);
        assert_eq!(self.due_of_client.len(), self.accounts.len());
        let rests = self.clients.values().filter(|of_client| of_client.rest.is_some()).count();
        assert_eq!(self.accounts.len() + rests, self.entries.len());
        for (id, entry) in &self.entries {
            assert!(self.due.contains(&(entry.due, *id)));
            match &entry.key {
                None => assert_eq!(self.clients[&entry.client].rest, Some(*id)),
                Some(key) => {
                    assert_eq!(self.accounts.get(key), Some(id));
                    assert!(self.due_of_client.contains(&(entry.client, entry.due, *id)));
                }
            }
        }
    }
}
