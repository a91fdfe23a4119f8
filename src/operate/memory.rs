//! How much memory there is, and how much of it may be held for peers.
//!
//! The cgroup's limit counts, of either version and of every group above ours, as far as it can be seen; without one, the
//! machine's memory. Not here: what is held ([`crate::transport::held`]).

use std::time::Duration;

use crate::config::Config;
use crate::inbound::accept::CONNECTION;
use crate::operate::cgroup;
use crate::rules::RuleView;
use crate::session::tunnel::OPEN;
use crate::state::budgets::ACCOUNT;
use crate::transport::held::HeldBytes;
use crate::transport::tls;

/// What a rule costs beside its text: `tests/long/million_rules`.
const RULE: u64 = 96;
/// What the leaves of inspected tunnels may take; `cargo bench --bench mint`.
const LEAVES: u64 = 16 << 20;
/// The part of the limit that tunnels may take by being open; the rest is for what they hold.
const OPEN_SHARE: (u64, u64) = (5, 8);
/// The part of the limit that accounts of upload budgets may take: nothing can be ended for them, so the rest is what all connections
/// have.
const ACCOUNTS_SHARE: usize = 2;
/// Less would carry nothing.
const LEAST: u64 = 1 << 20;

/// The part of the group's memory up to which more may be held. The rest is for what comes between two looks, which on a fraction of a
/// processor are 100 ms apart: some 25 MiB of 256 (`tests/long/abuse --beside`).
const FULL: (u64, u64) = (7, 8);
/// How often it is looked at, and while much is held.
const WATCH: Duration = Duration::from_secs(1);
const WATCH_PRESSED: Duration = Duration::from_millis(50);

/// `limits.memory`, or what is left of the available memory.
pub fn limit(config: &Config) -> usize {
    let limit = limit_of(config, available());
    usize::try_from(limit).unwrap_or(usize::MAX)
}

fn limit_of(config: &Config, available: u64) -> u64 {
    config.limits.memory.unwrap_or_else(|| share_of(available, loaded(config), hashing(config)))
}

/// 6/10 of what `available` leaves beside twice the loaded configuration, because a reload holds the old one and the new one, and
/// beside the hash of a password, which is verified while clients are waiting for memory, too.
fn share_of(available: u64, loaded: u64, hashing: u64) -> u64 {
    let beside = loaded.saturating_mul(2).saturating_add(hashing);
    (available.saturating_sub(beside) / 10 * 6).max(LEAST)
}

/// What the most expensive hash of a password takes: one is verified at a time ([`crate::state::passwords`]).
fn hashing(config: &Config) -> u64 {
    let users = config.listeners.iter().filter_map(|listener| listener.basic_auth.as_ref());
    users.map(|auth| auth.users.hashing()).max().unwrap_or(0)
}

/// What the configuration takes in memory, nearly.
fn loaded(config: &Config) -> u64 {
    let rules: u64 = config.policies.rules().map(|rule| rule.text().len() as u64 + RULE).sum();
    rules + if config.inspection.is_some() { LEAVES } else { 0 }
}

/// How many tunnels `limit` carries that only are open.
pub fn tunnels(limit: usize, config: &Config) -> usize {
    let has_tls = config.listeners.iter().any(|listener| listener.tls.is_some());
    let cost = CONNECTION + OPEN + if has_tls { tls::STATE } else { 0 };
    let (of, parts) = OPEN_SHARE;
    let open = limit as u64 / parts * of / cost as u64;
    usize::try_from(open).unwrap_or(usize::MAX).max(1)
}

/// What to tell an operator if `limit` carries fewer tunnels than the `wanted` number.
pub fn reduced_limit(limit: usize, config: &Config) -> Option<String> {
    let (tunnels, wanted) = (tunnels(limit, config), config.limits.tunnels);
    (tunnels < wanted).then(|| {
        let mib = limit >> 20;
        let way = match config.limits.memory {
            Some(_) => "raise limits.memory",
            None => "give the container more memory, or write limits.memory",
        };
        format!(
            "tunnel limit reduced to {tunnels}: {mib} MiB for held bytes is too little for limits.tunnels ({wanted}); {way}"
        )
    })
}

/// How many accounts of upload budgets there may be, if `limit` carries no more.
pub fn accounts(limit: usize, config: &Config) -> usize {
    config.limits.budget_accounts.min((limit / ACCOUNTS_SHARE / ACCOUNT).max(1))
}

/// What to tell an operator if `limit` carries fewer accounts than the number that is configured, and a rule needs them.
pub fn reduced_accounts(limit: usize, config: &Config) -> Option<String> {
    let (accounts, wanted) = (accounts(limit, config), config.limits.budget_accounts);
    let needs = |rule: RuleView<'_>| rule.options().is_some_and(|options| options.upload_budget.is_some());
    (accounts < wanted && config.policies.rules().any(needs)).then(|| {
        let mib = limit >> 20;
        format!(
            "accounts of upload budgets reduced to {accounts}: they may take half of the {mib} MiB for held bytes (limits.memory), which is too \
             little for limits.budget_accounts ({wanted}); give egressd more memory, or write {accounts} in limits.budget_accounts"
        )
    })
}

/// What to tell an operator if `limits.memory` is more than there is, or leaves no room to verify a password: the kernel would end
/// the program before egressd refuses anything.
pub fn beyond(config: &Config) -> Option<String> {
    let available = available();
    told_beyond(limit_of(config, available), hashing(config), available)
}

fn told_beyond(limit: u64, hashing: u64, available: u64) -> Option<String> {
    let mib = |bytes: u64| bytes >> 20;
    if limit > available {
        return Some(format!(
            "limits.memory is {} MiB, and this container or machine has {} MiB: the kernel would kill egressd before it \
             refuses anything. Write less, or remove limits.memory: egressd then takes 6/10 of what there is",
            mib(limit),
            mib(available)
        ));
    }
    (limit.saturating_add(hashing) > available).then(|| {
        format!(
            "an argon2 hash of a users file takes {} MiB while its password is verified, {} MiB are for held bytes \
             (limits.memory), and this container or machine has {} MiB: the kernel may kill egressd when a client logs in. Use hashes \
             with m=19456, write less in limits.memory, or give the container more memory",
            mib(hashing),
            mib(limit),
            mib(available)
        )
    })
}

/// The memory of this process's cgroup, or of the machine if that is less.
fn available() -> u64 {
    let machine = rustix::system::sysinfo();
    let machine = (machine.totalram as u64).saturating_mul(u64::from(machine.mem_unit));
    group().map_or(machine, |group| group.limit.min(machine))
}

/// The cgroup whose limit counts for this process.
fn group() -> Option<Group> {
    tightest(cgroup::groups("memory"))
}

/// Keeps what is held within what the cgroup has left, and never returns. What is held is counted as it comes, and a part of the
/// limit is set aside for the rest: the heap that keeps what was freed, hashes of passwords, tables, two configurations, and
/// what the kernel took in since somebody looked. Several of these at once may be more than was set aside, and the kernel's
/// killer asks for no reason: so what the group really uses is looked at, too, and the limit gives way in time.
pub async fn watch(held: &HeldBytes) {
    let Some(group) = group() else { return };
    let mut before = u64::MAX;
    loop {
        let is_pressed = held.is_pressed();
        tokio::time::sleep(if is_pressed { WATCH_PRESSED } else { WATCH }).await;
        let holds = held.sum() as u64;
        // Without these files the limit alone has to do.
        let Some(used) = group.used() else { return held.fits(usize::MAX) };
        let room = room(group.limit, used, holds, if is_pressed { before } else { u64::MAX });
        held.fits(usize::try_from(room).unwrap_or(usize::MAX));
        before = used;
    }
}

/// How much may be held in a group with this limit that uses so much, of which so much is held, and that used so much `before`. What has come
/// since then comes once more before somebody looks again: what the kernel takes in asks nobody.
fn room(limit: u64, used: u64, holds: u64, before: u64) -> u64 {
    let (of, parts) = FULL;
    let (beside, comes) = (used.saturating_sub(holds), used.saturating_sub(before));
    (limit / parts * of).saturating_sub(beside).saturating_sub(comes)
}

/// A cgroup with a limit of memory.
#[derive(PartialEq, Eq, Debug)]
struct Group {
    limit: u64,
    group: cgroup::Group,
}

impl Group {
    /// Bytes in use that the kernel cannot drop, with the buffers of sockets.
    fn used(&self) -> Option<u64> {
        let number = |file: &str| self.group.read(file)?.trim().parse::<u64>().ok();
        let stat = self.group.read("memory.stat")?;
        let of = |name: &str| {
            let line = stat.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            line?.trim().parse::<u64>().ok()
        };
        match self.group.is_v2 {
            true => Some(number("memory.current")?.saturating_sub(of("inactive_file")?)),
            false => {
                let used = number("memory.usage_in_bytes")?.saturating_sub(of("total_inactive_file")?);
                Some(used.saturating_add(number("memory.kmem.tcp.usage_in_bytes").unwrap_or(0)))
            }
        }
    }
}

/// The group with the least limit.
fn tightest(groups: Vec<cgroup::Group>) -> Option<Group> {
    let limits = groups.into_iter().filter_map(|group| {
        // `max` in version 2; in version 1, no limit is a number beyond any machine.
        let file = if group.is_v2 { "memory.max" } else { "memory.limit_in_bytes" };
        Some(Group { limit: group.read(file)?.trim().parse().ok()?, group })
    });
    limits.min_by_key(|group| group.limit)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;
    use crate::config;

    const MIB: u64 = 1 << 20;

    /// Files below a new root, and their contents.
    fn limit_of(files: &[(&str, &str)], cgroup: &str, mountinfo: &str) -> Option<u64> {
        let root = tempfile::tempdir().expect("a directory");
        for (file, text) in files {
            let file = root.path().join(file);
            fs::create_dir_all(file.parent().expect("a parent")).expect("directories");
            fs::write(file, text).expect("a file");
        }
        tightest(cgroup::groups_in("memory", cgroup, mountinfo, root.path())).map(|group| group.limit)
    }

    #[test]
    fn the_limit_of_the_cgroup_is_found_in_both_versions() {
        let v2 = "35 25 0:30 / /sys/fs/cgroup ro,nosuid - cgroup2 cgroup rw\n";
        let v1 = "40 30 0:33 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n\
                  41 30 0:34 /docker/ab /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n";
        let (max, limit) = ("memory.max", "sys/fs/cgroup/memory/memory.limit_in_bytes");
        let at = |group: &str, text: &'static str| (format!("sys/fs/cgroup/{group}{max}"), text);
        // In a container with a namespace of its own, and in one of systemd's units: the groups above count, too.
        for (files, cgroup, expected) in [
            (vec![at("", "268435456\n")], "0::/", Some(256 * MIB)),
            (vec![at("", "max\n")], "0::/", None),
            (vec![at("a/b/", "max\n"), at("a/", "1048576\n"), at("", "max\n")], "0::/a/b", Some(MIB)),
            (vec![at("a/b/", "1048576\n"), at("a/", "4194304\n")], "0::/a/b", Some(MIB)),
            (vec![], "0::/a/b", None),
            (vec![], "", None),
        ] {
            let files: Vec<(&str, &str)> = files.iter().map(|(file, text)| (&**file, *text)).collect();
            assert_eq!(limit_of(&files, cgroup, v2), expected, "{files:?}");
        }
        let of_v1 = |text| limit_of(&[(limit, text)], "5:cpu:/docker/ab\n4:memory:/docker/ab\n0::/\n", v1);
        assert_eq!(of_v1("268435456\n"), Some(256 * MIB));
        assert_eq!(of_v1("9223372036854771712\n"), Some(9_223_372_036_854_771_712));
        // The path of the host, which the container does not see.
        let above = [(limit, "268435456\n")];
        assert_eq!(limit_of(&above, "4:memory:/kubepods/x\n", v1), Some(256 * MIB));
    }

    #[test]
    fn six_tenths_of_what_two_configurations_and_a_password_leave() {
        assert_eq!(share_of(256 * MIB, 0, 0) / MIB, 153);
        assert_eq!(share_of(256 * MIB, 100 * MIB, 0) / MIB, 33);
        assert_eq!(share_of(256 * MIB, 100 * MIB, 19 * MIB) / MIB, 22);
        assert_eq!(share_of(256 * MIB, 0, 256 * MIB), LEAST);
        assert_eq!(share_of(256 * MIB, 200 * MIB, 0), LEAST);
        assert!(available() > MIB);
    }

    #[test]
    fn what_the_group_has_left_may_be_held_without_what_comes_before_the_next_look() {
        for (used, holds, before, left) in [
            (60, 40, u64::MAX, 204),
            (60, 40, 100, 204),
            (200, 120, 200, 144),
            (200, 120, 170, 114),
            // What it may become is held, too.
            (100, 120, 100, 224),
            (250, 20, 250, 0),
        ] {
            let before = before.saturating_mul(MIB);
            assert_eq!(
                room(256 * MIB, used * MIB, holds * MIB, before) / MIB,
                left,
                "{used} {holds} {before}"
            );
        }
    }

    #[test]
    fn accounts_of_upload_budgets_take_no_more_than_half_of_the_limit() {
        let config = |text: &str| {
            let missing = |_: &Path| Err(std::io::ErrorKind::NotFound.into());
            config::load_str("test.yaml", text, missing).expect("it is valid").config
        };
        let with = |limits: &str| {
            let rule = "{to: a.example, upload_budget: 1GiB/24h}";
            config(&format!("{limits}policies: [{{name: p, allow: [{rule}]}}]"))
        };
        let (few, many) = (with(""), with("limits: {budget_accounts: 10000000}\n"));
        for (mib, of_few, of_many) in [(153, 32_768, 44_564), (64, 18_641, 18_641), (1, 291, 291)] {
            let limit = mib << 20;
            assert_eq!((accounts(limit, &few), accounts(limit, &many)), (of_few, of_many), "{mib}");
        }
        let told = reduced_accounts(64 << 20, &few).expect("there are fewer");
        assert!(told.starts_with("accounts of upload budgets reduced to 18641: "), "{told}");
        assert_eq!(reduced_accounts(153 << 20, &few), None);
        let without = config("policies: [{name: p, allow: [a.example]}]");
        assert_eq!(reduced_accounts(64 << 20, &without), None, "nobody needs one");
    }

    #[test]
    fn what_a_group_uses_is_without_the_files_that_can_be_dropped_and_with_the_buffers_of_sockets() {
        let v1 = [
            ("memory.usage_in_bytes", "1000\n"),
            ("memory.stat", "cache 300\ninactive_file 1\ntotal_inactive_file 200\n"),
            ("memory.kmem.tcp.usage_in_bytes", "50\n"),
        ];
        let v2 = [("memory.current", "1000\n"), ("memory.stat", "anon 700\ninactive_file 200\nsock 50\n")];
        for (files, is_v2, expected) in [
            (&v1[..], false, Some(850)),
            (&v1[..2], false, Some(800)),
            (&v2[..], true, Some(800)),
            (&v2[..1], true, None),
        ] {
            let path = tempfile::tempdir().expect("a directory");
            for (file, text) in files {
                fs::write(path.path().join(file), text).expect("a file");
            }
            let group = cgroup::Group { path: path.path().to_owned(), is_v2 };
            let group = Group { limit: 2000, group };
            assert_eq!(group.used(), expected, "{files:?}");
        }
    }

    #[test]
    fn more_memory_than_there_is_is_told() {
        assert_eq!(told_beyond(256 * MIB, 0, 256 * MIB), None);
        let told = told_beyond(300 << 30, 0, 24 << 30).expect("it is more");
        assert!(
            told.starts_with("limits.memory is 307200 MiB, and this container or machine has 24576 MiB: "),
            "{told}"
        );
        // The default leaves room for a hash, unless the hash is all that there is.
        for (hash, is_told) in [(19 * MIB, false), (200 * MIB, false), (256 * MIB, true)] {
            let told = told_beyond(share_of(256 * MIB, 0, hash), hash, 256 * MIB);
            assert_eq!(told.is_some(), is_told, "{hash} {told:?}");
        }
        let told = told_beyond(250 * MIB, 19 * MIB, 256 * MIB).expect("both together are more");
        assert!(told.starts_with("an argon2 hash of a users file takes 19 MiB while "), "{told}");
    }
}
