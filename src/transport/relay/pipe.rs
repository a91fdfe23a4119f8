//! A bounded pool of pipes for `splice(2)`.
//!
//! Pipes are charged to the uid, also across containers that share it. Without capabilities a uid gets 64 MiB of pipe
//! buffers, and beyond that pipes of 8 KiB, which are slower than copying. So the pool makes a few large ones, then small
//! ones, then none, and relies only on `F_GETPIPE_SZ`. Not here: moving bytes ([`relay`](super)), which copies where it
//! gets no pipe.

use std::os::fd::OwnedFd;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::pipe::{PipeFlags, fcntl_getpipe_size, fcntl_setpipe_size, pipe_with};

/// What a pipe holds by default, and the smallest size that is worth splicing through.
const SMALL: usize = 64 * 1024;
/// The largest size of an unprivileged pipe (`/proc/sys/fs/pipe-max-size`).
const LARGE: usize = 1024 * 1024;
/// How long no pipe is asked for after the kernel refused one: until then copying is cheaper than asking at every burst.
const RETRY: Duration = Duration::from_secs(1);

/// Both ends of a pipe, non-blocking.
#[derive(Debug)]
struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
    capacity: usize,
    large: bool,
}

/// Pipes, made on demand and reused, at most as many as [`Sizes`] says.
#[derive(Debug)]
pub(crate) struct Pool {
    sizes: Sizes,
    state: Mutex<Pipes>,
}

/// How many pipes of each size a pool may have made at one time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    /// Of 1 MiB.
    pub(crate) large: usize,
    /// Of 64 KiB.
    pub(crate) small: usize,
}

#[derive(Debug)]
struct Pipes {
    idle_large: Vec<Pipe>,
    idle_small: Vec<Pipe>,
    /// Pipes that were made and not closed, including idle ones.
    large: usize,
    small: usize,
    refused: Option<Instant>,
}

impl Pool {
    /// The pool of the whole program: 32 MiB of large pipes and 16 MiB of small ones, out of the 64 MiB that a uid has.
    pub(crate) fn shared() -> &'static Pool {
        static SHARED: Pool = Pool::new(Sizes { large: 32, small: 256 });
        &SHARED
    }

    pub(crate) const fn new(sizes: Sizes) -> Self {
        let state =
            Pipes { idle_large: Vec::new(), idle_small: Vec::new(), large: 0, small: 0, refused: None };
        Pool { sizes, state: Mutex::new(state) }
    }

    /// An empty pipe of at least 64 KiB, the larger the better; `None` when all are in use or the kernel gives none.
    pub(crate) fn lease(&self) -> Option<Lease<'_>> {
        let large = {
            let mut state = self.lock();
            if let Some(pipe) = state.idle_large.pop().or_else(|| state.idle_small.pop()) {
                return Some(Lease { pool: self, pipe: Some(pipe), held: 0 });
            }
            if state.refused.is_some_and(|since| since.elapsed() < RETRY) {
                return None;
            }
            // Counted before it is made, so that the lock is not held across system calls.
            if state.large < self.sizes.large {
                state.large += 1;
                true
            } else if state.small < self.sizes.small {
                state.small += 1;
                false
            } else {
                return None;
            }
        };
        let made = make(large);
        if made.is_none() {
            let mut state = self.lock();
            *state.count(large) -= 1;
            state.refused = Some(Instant::now());
        }
        Some(Lease { pool: self, pipe: Some(made?), held: 0 })
    }

    fn lock(&self) -> MutexGuard<'_, Pipes> {
        // Counters and a stack of pipes are valid after each line that changes them.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pipes {
    fn count(&mut self, large: bool) -> &mut usize {
        if large { &mut self.large } else { &mut self.small }
    }
}

/// `None` where the quota is used up or descriptors have run out.
fn make(large: bool) -> Option<Pipe> {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).ok()?;
    if large {
        // If that is refused, the pipe keeps its size, which is read next.
        let _ = fcntl_setpipe_size(&write, LARGE);
    }
    let capacity = fcntl_getpipe_size(&write).ok()?;
    (capacity >= SMALL).then_some(Pipe { read, write, capacity, large })
}

/// A pipe on loan. An empty one goes back to the pool; one with bytes in it is closed.
#[derive(Debug)]
pub(crate) struct Lease<'p> {
    pool: &'p Pool,
    /// Always there until the drop.
    pipe: Option<Pipe>,
    held: usize,
}

impl Lease<'_> {
    /// How many bytes it can hold.
    pub(crate) fn capacity(&self) -> usize {
        self.pipe.as_ref().map_or(0, |pipe| pipe.capacity)
    }

    /// How many bytes are in it.
    pub(crate) fn held(&self) -> usize {
        self.held
    }

    /// Fills the empty pipe with `splice(from, write end)`, which returns how many bytes came.
    pub(crate) fn fill(
        &mut self,
        splice: impl FnOnce(&OwnedFd) -> rustix::io::Result<usize>,
    ) -> rustix::io::Result<usize> {
        let pipe = self.pipe.as_ref().ok_or(rustix::io::Errno::BADF)?;
        let filled = splice(&pipe.write)?;
        self.held += filled;
        Ok(filled)
    }

    /// Empties it with `splice(read end, to)`, which returns how many bytes went.
    pub(crate) fn drain(
        &mut self,
        splice: impl FnOnce(&OwnedFd) -> rustix::io::Result<usize>,
    ) -> rustix::io::Result<usize> {
        let pipe = self.pipe.as_ref().ok_or(rustix::io::Errno::BADF)?;
        let drained = splice(&pipe.read)?;
        self.held = self.held.saturating_sub(drained);
        Ok(drained)
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        let Some(pipe) = self.pipe.take() else { return };
        let mut state = self.pool.lock();
        if self.held > 0 {
            *state.count(pipe.large) -= 1;
        } else if pipe.large {
            state.idle_large.push(pipe);
        } else {
            state.idle_small.push(pipe);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_pipes_first_then_small_ones_then_none() {
        let pool = Pool::new(Sizes { large: 2, small: 1 });
        let leases: Vec<_> = std::iter::from_fn(|| pool.lease()).collect();
        let capacities: Vec<_> = leases.iter().map(Lease::capacity).collect();
        assert_eq!(capacities, [LARGE, LARGE, SMALL]);
        drop(leases);
        let again: Vec<_> = std::iter::from_fn(|| pool.lease()).collect();
        assert_eq!(again.len(), 3);
    }

    #[test]
    fn an_empty_pipe_is_used_again_and_a_full_one_closed() {
        let pool = Pool::new(Sizes { large: 1, small: 0 });
        let first = pool.lease().unwrap();
        drop(first);
        assert_eq!(pool.lock().idle_large.len(), 1);

        let mut second = pool.lease().unwrap();
        assert_eq!(second.fill(|end| rustix::io::write(end, b"left")).unwrap(), 4);
        assert_eq!(second.held(), 4);
        drop(second);
        assert_eq!(pool.lock().idle_large.len(), 0);
        assert_eq!(pool.lock().large, 0);

        let mut third = pool.lease().unwrap();
        let mut buffer = [0; 8];
        third.fill(|end| rustix::io::write(end, b"gone")).unwrap();
        assert_eq!(third.drain(|end| rustix::io::read(end, &mut buffer)).unwrap(), 4);
        drop(third);
        assert_eq!(pool.lock().idle_large.len(), 1);
    }

    #[test]
    fn after_a_refusal_the_kernel_is_not_asked_again_at_once() {
        let pool = Pool::new(Sizes { large: 1, small: 1 });
        pool.lock().refused = Some(Instant::now());
        assert!(pool.lease().is_none());
        pool.lock().refused = Instant::now().checked_sub(RETRY);
        assert!(pool.lease().is_some());
    }
}
