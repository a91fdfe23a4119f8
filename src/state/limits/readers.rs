//! Whose long requests to Git are inflated and read: of each client one at a time.
//!
//! Such work is done in short steps, between which everything else has its turn. But a client that sends a thousand of them would
//! have a thousand steps between two of another's. So a client waits for its own, and for nobody else's. Not here: the work itself
//! ([`session::http`](crate::session::http)), and how much is held meanwhile ([`held`](crate::transport::held)).

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Clients that read, or wait for their turn.
#[derive(Debug, Default)]
pub struct Readers(Mutex<HashMap<IpAddr, Line>>);

/// Those of one client.
#[derive(Debug)]
struct Line {
    turn: Arc<Semaphore>,
    /// How many are in it.
    length: usize,
}

/// It is its client's turn, until this is dropped.
#[derive(Debug)]
#[must_use = "the turn ends when this is dropped"]
pub struct Turn {
    _turn: Option<OwnedSemaphorePermit>,
    _place: InLine,
}

/// A place in the line of a client.
#[derive(Debug)]
struct InLine {
    readers: Arc<Readers>,
    client: IpAddr,
}

impl Readers {
    /// Waits until no other request of `client` is read. Those that wait have their turn in the order in which they came.
    pub async fn turn(self: &Arc<Self>, client: IpAddr) -> Turn {
        let turn = {
            let mut lines = self.lock();
            let line =
                lines.entry(client).or_insert_with(|| Line { turn: Arc::new(Semaphore::new(1)), length: 0 });
            line.length += 1;
            Arc::clone(&line.turn)
        };
        let place = InLine { readers: Arc::clone(self), client };
        // It is never closed.
        Turn { _turn: turn.acquire_owned().await.ok(), _place: place }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, Line>> {
        // Plain counters: a panic elsewhere leaves them correct.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for InLine {
    fn drop(&mut self) {
        let mut lines = self.readers.lock();
        if let Some(line) = lines.get_mut(&self.client) {
            line.length -= 1;
            if line.length == 0 {
                lines.remove(&self.client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::ready;
    use std::net::Ipv4Addr;

    use super::*;

    #[tokio::test]
    async fn a_client_waits_for_its_own_alone_and_nothing_is_left_behind() {
        let readers = Arc::new(Readers::default());
        let [one, other] = [1, 2].map(|last| IpAddr::from(Ipv4Addr::new(10, 0, 0, last)));
        let first = readers.turn(one).await;
        let mut second = Box::pin(readers.turn(one));
        tokio::select! {
            biased;
            _ = &mut second => panic!("two at a time"),
            () = ready(()) => {}
        }
        drop(readers.turn(other).await);
        // One that is given up leaves the line.
        drop(Box::pin(readers.turn(one)));
        drop(first);
        drop(second.await);
        assert!(readers.lock().is_empty());
    }
}
