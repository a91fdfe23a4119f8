//! What the machine provides: descriptors and processors.

use std::io;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::operate::cgroup::{Group, groups};

/// Descriptors that nothing else may use: the places of the admin listener (64), and standard streams, listeners, the
/// runtime's own, the log, and the files of a reload. So the admin listener answers, records are written and a reload
/// works when everything else is taken.
const RESERVED: u64 = 128;
/// For so many tunnels that may be open there may be one connection that has not sent a request yet, and one connection
/// to a target that is kept for a client's next plain request.
const WAITING_SHARE: u64 = 8;
/// The least number of connections without a request.
const WAITING_LEAST: u64 = 16;
/// Connections of clients that no policy can match.
const STRANGERS: u64 = 64;
const STRANGER_SHARE: u64 = 32;
/// Connections of clients that have few, when others have all the rest.
const LAST: u64 = 64;
const LAST_SHARE: u64 = 32;
/// Connections of balancers that have not named their client yet, and as many that had to make room and are about to close.
const UNNAMED: u64 = 256;
const UNNAMED_SHARE: u64 = 32;
/// Questions to name servers, and the sockets that one may hold: it is sent again from another port, twice.
const QUESTIONS: u64 = 256;
const QUESTION_SHARE: u64 = 64;
const QUESTION_SOCKETS: u64 = 3;
/// Handshakes that prove a target's certificate.
const PROOFS: u64 = 128;
const PROOF_SHARE: u64 = 64;
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
    /// Connections to targets that are kept for a client's next plain request.
    pub kept: usize,
    /// Connections of clients that no policy can match, in addition.
    pub strangers: usize,
    /// Connections of clients that have few, in addition.
    pub last: usize,
    /// Connections of balancers that have not named their client yet, in addition.
    pub unnamed: usize,
    /// Connections that dials may try in addition to their first one.
    pub attempts: usize,
    /// Questions to name servers at once.
    pub questions: usize,
    /// Handshakes at once that prove a target's certificate.
    pub proofs: usize,
}

impl Share {
    /// Lowers the `wanted` number of tunnels to what `descriptors` allow.
    pub fn of(descriptors: u64, wanted: usize) -> Share {
        let part = |share: u64, most: u64| (descriptors / share).clamp(1, most);
        let (attempts, strangers) = (part(ATTEMPT_SHARE, ATTEMPTS), part(STRANGER_SHARE, STRANGERS));
        let (questions, proofs) = (part(QUESTION_SHARE, QUESTIONS), part(PROOF_SHARE, PROOFS));
        let (last, unnamed) = (part(LAST_SHARE, LAST), part(UNNAMED_SHARE, UNNAMED));
        let others = pipes(descriptors)
            + attempts
            + strangers
            // Each may become a tunnel, which has two.
            + 2 * last
            + unnamed
            + questions * QUESTION_SOCKETS
            + proofs;
        let free = descriptors.saturating_sub(RESERVED + others + WAITING_LEAST);
        // A tunnel costs 2, and 1/WAITING_SHARE of a waiting connection and of a kept one, which cost 1 each.
        let allowed = free * WAITING_SHARE / (2 * WAITING_SHARE + 2);
        let count = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
        let tunnels = wanted.min(count(allowed)).max(1);
        let waiting = tunnels / WAITING_SHARE as usize;
        Share {
            tunnels,
            connections: tunnels + waiting.max(WAITING_LEAST as usize),
            kept: waiting.max(1),
            strangers: count(strangers),
            last: count(last),
            unnamed: count(unnamed / 2).max(1),
            attempts: count(attempts),
            questions: count(questions),
            proofs: count(proofs),
        }
    }
}

/// The descriptors of the pipes that bulk transfers may borrow.
fn pipes(descriptors: u64) -> u64 {
    (descriptors / PIPE_SHARE).min(2 * PIPES)
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

/// How much time of processors the process may use in a period, and the period. `None`: as much as there is.
pub fn quota() -> Option<(Duration, Duration)> {
    least_quota(&groups("cpu"))
}

fn least_quota(groups: &[Group]) -> Option<(Duration, Duration)> {
    // `max` in version 2, and -1 in version 1, are no quota.
    let micros =
        |text: &str| text.trim().parse().ok().filter(|micros| *micros > 0).map(Duration::from_micros);
    let quotas = groups.iter().filter_map(|group| {
        let (quota, period) = if group.is_v2 {
            let both = group.read("cpu.max")?;
            let (quota, period) = both.trim().split_once(' ')?;
            (micros(quota)?, micros(period)?)
        } else {
            (micros(&group.read("cpu.cfs_quota_us")?)?, micros(&group.read("cpu.cfs_period_us")?)?)
        };
        Some((quota, period))
    });
    quotas.min_by(|(quota, period), (other, of)| {
        (quota.as_micros() * of.as_micros()).cmp(&(other.as_micros() * period.as_micros()))
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn tunnels_are_lowered_to_what_descriptors_allow() {
        // (descriptors, wanted) -> tunnels
        for (descriptors, wanted, tunnels) in [
            (65_535, 10_000, 10_000),
            (20_000, 10_000, 7_857),
            (1_024, 10_000, 263),
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
            let used = share.connections
                + share.tunnels
                + share.kept
                + share.strangers
                + 2 * share.last
                + 2 * share.unnamed
                + share.attempts
                + share.proofs
                + share.questions * QUESTION_SOCKETS as usize;
            assert!(used as u64 + pipes(descriptors) + RESERVED <= descriptors, "{descriptors}: {share:?}");
        }
    }

    #[test]
    fn the_least_quota_of_all_groups_counts_in_both_versions() {
        let root = tempfile::tempdir().expect("a directory");
        let group = |name: &str, is_v2: bool, files: &[(&str, &str)]| {
            let path = root.path().join(name);
            fs::create_dir_all(&path).expect("a directory");
            for (file, text) in files {
                fs::write(path.join(file), text).expect("a file");
            }
            Group { path, is_v2 }
        };
        let v1 = |name, quota, period| {
            group(name, false, &[("cpu.cfs_quota_us", quota), ("cpu.cfs_period_us", period)])
        };
        let v2 = |name, max| group(name, true, &[("cpu.max", max)]);
        let none = || group("none", true, &[]);
        for (groups, expected) in [
            (vec![], None),
            (vec![none(), v2("a", "max 100000\n")], None),
            (vec![v1("b", "-1\n", "100000\n")], None),
            (vec![v2("c", "25000 100000\n"), v2("d", "max 100000\n")], Some((25, 100))),
            (vec![v1("e", "400000\n", "100000\n"), v1("f", "10000\n", "50000\n")], Some((10, 50))),
            (vec![v2("g", "10000 20000\n"), none(), v2("h", "40000 100000\n")], Some((40, 100))),
        ] {
            let millis = |(quota, period)| (Duration::from_millis(quota), Duration::from_millis(period));
            assert_eq!(least_quota(&groups), expected.map(millis), "{groups:?}");
        }
    }
}
