//! What a process spends and holds, by /proc.
#![allow(dead_code, reason = "compiled into every load generator, and each uses its own part of it")]

use std::time::Duration;
use std::{fs, io};

/// The CPU time of all threads, by the scheduler's nanosecond clock.
pub(crate) fn cpu_of(pid: u32) -> io::Result<Duration> {
    let mut nanoseconds = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        // A thread may end between the listing and the reading.
        let Ok(text) = fs::read_to_string(task?.path().join("schedstat")) else { continue };
        nanoseconds += text.split(' ').next().and_then(|first| first.parse::<u64>().ok()).unwrap_or(0);
    }
    Ok(Duration::from_nanos(nanoseconds))
}

/// KiB of resident memory that no file backs: code that is paged in meanwhile is not a cost of the tunnels.
pub(crate) fn resident(pid: u32) -> io::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let kib = |line: &str| line.strip_prefix("RssAnon:")?.trim().strip_suffix(" kB")?.trim().parse().ok();
    status.lines().find_map(kib).ok_or_else(|| io::Error::other("no RssAnon in /proc"))
}

pub(crate) fn open_descriptors(pid: u32) -> io::Result<usize> {
    Ok(fs::read_dir(format!("/proc/{pid}/fd"))?.count())
}
