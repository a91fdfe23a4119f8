//! The hellos of transparent connections whose targets have not answered yet. One that comes again in that time has come back.
//!
//! A hello goes on as it came, and the random of each has 32 bytes: behind a balancer, it shows which connection of one replica the others
//! have sent on to it. Plain requests are here as well; of those, two may be equal ([`crate::session::http`]). Not here: loops that an address shows ([`crate::outbound::dial`]).

use std::collections::HashSet;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Those that are under way: as many as tunnels that are being opened and plain requests, which are limited.
#[derive(Debug, Default)]
pub struct Hellos {
    seed: RandomState,
    prints: Mutex<HashSet<u64>>,
}

/// One of them, until its target has answered.
#[derive(Debug)]
#[must_use = "it is under way as long as this lives"]
pub struct HelloUnderWay<'h> {
    hellos: &'h Hellos,
    print: u64,
}

impl Hellos {
    /// A hello goes on. `None`: the same is under way already.
    pub fn enter(&self, hello: &[u8]) -> Option<HelloUnderWay<'_>> {
        let print = self.seed.hash_one(hello);
        let is_new = self.lock().insert(print);
        // Not made where it is none: its drop takes the print away.
        is_new.then(|| HelloUnderWay { hellos: self, print })
    }

    /// What a request carries that this process has sent on. It says nothing to others.
    pub fn mark(&self) -> String {
        format!("{:016x}", self.seed.hash_one("the mark of this process"))
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<u64>> {
        // Nothing in here can panic half-way.
        self.prints.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for HelloUnderWay<'_> {
    fn drop(&mut self) {
        let mut prints = self.hellos.lock();
        prints.remove(&self.print);
        if prints.is_empty() {
            // After a flood, nothing of it stays.
            prints.shrink_to(64);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_hello_is_under_way_once() {
        let hellos = Hellos::default();
        let first = hellos.enter(b"one").expect("the first");
        let _other = hellos.enter(b"two").expect("another");
        assert!(hellos.enter(b"one").is_none());
        drop(first);
        assert!(hellos.enter(b"one").is_some());
    }
}
