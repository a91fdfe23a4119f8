//! What the machine provides: descriptors and processors.

use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors that are not sockets of tunnels: standard streams, listeners, the runtime's own, the log, DNS sockets,
/// and a reserve that keeps the admin listener answering when tunnels have taken the rest.
const RESERVED: u64 = 128;
/// For so many tunnels that may be open there may be one connection that has not sent a request yet.
const WAITING_SHARE: u64 = 8;
/// Pipes that bulk transfers may borrow, two descriptors each; if descriptors are few, bulk data is copied instead.
const PIPES: u64 = 288;
const PIPE_SHARE: u64 = 16;

/// Raises the soft limit of open descriptors to the hard one (Fargate: 1024 and 65535) and returns what is in force.
///
/// # Errors
/// The kernel's error from `setrlimit`; the limit is then unchanged.
pub fn raise_descriptor_limit() -> io::Result<u64> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?;
    }
    Ok(descriptor_limit())
}

/// The soft limit of open descriptors.
pub fn descriptor_limit() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// Connections that dials may try in addition to their first one; when they are used up, a dial tries one address
/// after the other.
const ATTEMPTS: u64 = 256;
const ATTEMPT_SHARE: u64 = 32;

/// How the descriptors are shared out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// Tunnels that may be open: two sockets each.
    pub tunnels: usize,
    /// Connections in total: those of the tunnels, and those that have not sent a request yet.
    pub connections: usize,
    /// Connections that dials may try in addition to their first one.
    pub attempts: usize,
}

impl Share {
    /// Lowers the `wanted` number of tunnels to what `descriptors` allow.
    pub fn of(descriptors: u64, wanted: usize) -> Share {
        let pipes = (descriptors / PIPE_SHARE).min(2 * PIPES);
        let attempts = (descriptors / ATTEMPT_SHARE).min(ATTEMPTS);
        let free = descriptors.saturating_sub(RESERVED + pipes + attempts);
        // A tunnel costs 2, and 1/WAITING_SHARE of a waiting connection, which costs 1.
        let allowed = free * WAITING_SHARE / (2 * WAITING_SHARE + 1);
        let tunnels = wanted.min(usize::try_from(allowed).unwrap_or(usize::MAX)).max(1);
        let waiting = tunnels / WAITING_SHARE as usize;
        let attempts = usize::try_from(attempts).unwrap_or(0);
        Share { tunnels, connections: tunnels + waiting.max(16), attempts }
    }
}

/// What to tell an operator if `descriptors` allow fewer tunnels than the `wanted` number.
pub fn reduced_limit(descriptors: u64, wanted: usize) -> Option<String> {
    let tunnels = Share::of(descriptors, wanted).tunnels;
    (tunnels < wanted).then(|| {
        format!(
            "tunnel limit reduced to {tunnels}: open-file limit {descriptors} is too low for limits.tunnels ({wanted}); \
             raise the hard limit"
        )
    })
}

/// Worker threads: the processors that the CPU quota grants, which is what the standard library counts on Linux
/// (cgroup v1 and v2, and the affinity mask).
pub fn workers() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tunnels_are_lowered_to_what_descriptors_allow() {
        // (descriptors, wanted) -> tunnels
        for (descriptors, wanted, tunnels) in [
            (65_535, 10_000, 10_000),
            (20_000, 10_000, 8_960),
            (1_024, 10_000, 376),
            (100, 10_000, 1),
            (u64::MAX / 16, 5, 5),
        ] {
            assert_eq!(Share::of(descriptors, wanted).tunnels, tunnels, "{descriptors} {wanted}");
        }
    }

    #[test]
    fn all_connections_together_leave_the_reserve() {
        for descriptors in [512u64, 1_024, 4_096, 20_000, 65_535] {
            let share = Share::of(descriptors, 1_000_000);
            let used = (share.connections + share.tunnels + share.attempts) as u64;
            let pipes = (descriptors / PIPE_SHARE).min(2 * PIPES);
            assert!(used + pipes + RESERVED <= descriptors, "{descriptors}: {share:?}");
        }
    }
}
