//! How many connections to targets may be kept for their clients' next plain requests. Each holds a descriptor, and no
//! request is in progress that would have a place for it.
//!
//! Without a place a connection is closed after the response instead: the next request then dials anew. So nothing is
//! refused, and one client may have most of the places but not all of them. Not here: which connection may be used again
//! ([`crate::session::http`]).

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The part of all places that is left to other clients.
const OTHERS: usize = 4;

/// The connections that are kept, by client.
#[derive(Debug, Default)]
pub struct KeptConnections(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    cap: usize,
    total: usize,
    clients: HashMap<IpAddr, usize>,
}

impl KeptConnections {
    /// Follows `limits.tunnels`. Connections that are kept stay.
    pub fn set_cap(&self, cap: usize) {
        self.lock().cap = cap;
    }

    /// A place for one connection of `client`; `None` if there is none.
    pub fn keep(self: &Arc<Self>, client: IpAddr) -> Option<KeptPlace> {
        let mut table = self.lock();
        let most = table.cap - table.cap / OTHERS;
        let held = table.clients.get(&client).copied().unwrap_or(0);
        if table.total >= table.cap || held >= most {
            return None;
        }
        table.total += 1;
        table.clients.insert(client, held + 1);
        Some(KeptPlace(Some((Arc::clone(self), client))))
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        // Plain counters: a panic elsewhere leaves them correct.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One kept connection; dropping it frees its place.
#[derive(Debug)]
#[must_use = "the place goes back when this is dropped"]
pub struct KeptPlace(Option<(Arc<KeptConnections>, IpAddr)>);

impl KeptPlace {
    /// For a request in a tunnel, which has a descriptor for its connection to the target already: nothing is counted.
    pub fn of_a_tunnel() -> Self {
        KeptPlace(None)
    }
}

impl Drop for KeptPlace {
    fn drop(&mut self) {
        let Some((kept, client)) = &self.0 else { return };
        let mut table = kept.lock();
        table.total -= 1;
        if let Some(held) = table.clients.get_mut(client) {
            *held -= 1;
            if *held == 0 {
                table.clients.remove(client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn client(last: u8) -> IpAddr {
        Ipv4Addr::new(10, 0, 0, last).into()
    }

    #[test]
    fn one_client_has_three_quarters_and_nothing_is_left_behind() {
        let kept = Arc::new(KeptConnections::default());
        assert!(kept.keep(client(1)).is_none(), "none before the limit is known");
        kept.set_cap(8);
        let first: Vec<_> = std::iter::from_fn(|| kept.keep(client(1))).collect();
        assert_eq!(first.len(), 6);
        let second: Vec<_> = std::iter::from_fn(|| kept.keep(client(2))).collect();
        assert_eq!(second.len(), 2);
        drop(first);
        kept.set_cap(1);
        assert!(kept.keep(client(3)).is_none(), "two are kept already");
        drop(second);
        assert!(kept.keep(client(3)).is_some());
        drop(KeptPlace::of_a_tunnel());
        let table = kept.lock();
        assert_eq!((table.total, table.clients.len()), (0, 0));
    }
}
