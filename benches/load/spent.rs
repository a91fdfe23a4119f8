//! What a process spends and holds, by /proc.
#![allow(dead_code, reason = "compiled into every load generator, and each uses its own part of it")]

use std::time::Duration;
use std::{fs, io};

/// The CPU time of all threads of a process and of the processes that it started, by the scheduler's nanosecond clock: Squid lets helpers
/// make its certificates.
pub(crate) fn cpu_of(pid: u32) -> io::Result<Duration> {
    let mut nanoseconds = 0;
    for pid in with_children(pid)? {
        // A process or a thread may end between the listing and the reading.
        let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { continue };
        for task in tasks {
            let Ok(text) = fs::read_to_string(task?.path().join("schedstat")) else { continue };
            nanoseconds += text.split(' ').next().and_then(|first| first.parse::<u64>().ok()).unwrap_or(0);
        }
    }
    Ok(Duration::from_nanos(nanoseconds))
}

/// A process, the processes that it started, and theirs.
fn with_children(pid: u32) -> io::Result<Vec<u32>> {
    // A process's line has its parent's number second after the name, which stands in parentheses and may have any others inside.
    let parent = |stat: &str| stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse::<u32>().ok();
    let mut running = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let entry = entry?;
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
        running.extend(parent(&stat).map(|parent| (pid, parent)));
    }
    let mut family = vec![pid];
    let mut looked = 0;
    while let Some(&parent) = family.get(looked) {
        family.extend(running.iter().filter(|(_, of)| *of == parent).map(|(pid, _)| *pid));
        looked += 1;
    }
    Ok(family)
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
