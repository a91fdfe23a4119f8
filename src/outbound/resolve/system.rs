//! `/etc/hosts` and `/etc/resolv.conf`, followed when they change.
//!
//! Only the `nameserver` lines of resolv.conf are read: names are absolute, so `search`, `domain` and `ndots` mean
//! nothing here, and a line that a parser cannot read does not stop name resolution. The files are checked on use, at most
//! once in [`SystemFiles::poll`]: no watcher, no task. Both are small local files, so they are read in place.

use std::collections::HashMap;
use std::fs::{self, Metadata};
use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::words::target::Name;

/// Most bytes of a file that are read.
const MAX_FILE: u64 = 4 << 20;
/// Most servers taken from resolv.conf: as many as the C library takes (resolv.conf(5), MAXNS).
const MAX_SERVERS: usize = 3;
/// A file changed less than this before it was read may have changed again within one tick of its clock.
const RACY: Duration = Duration::from_secs(3);

/// Where the system keeps names and name servers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SystemFiles {
    /// resolv.conf(5).
    pub resolv_conf: PathBuf,
    /// hosts(5).
    pub hosts: PathBuf,
    /// The port of the servers in resolv.conf, which cannot name one.
    pub port: u16,
    /// The files are checked at most once in this time.
    pub poll: Duration,
}

impl Default for SystemFiles {
    fn default() -> Self {
        SystemFiles {
            resolv_conf: PathBuf::from("/etc/resolv.conf"),
            hosts: PathBuf::from("/etc/hosts"),
            port: 53,
            poll: Duration::from_secs(2),
        }
    }
}

pub(super) type Hosts = HashMap<Name, Arc<[IpAddr]>>;

/// One file: its path and its state when it was last read.
pub(super) struct Followed {
    path: PathBuf,
    stamp: Option<Stamp>,
    content: Vec<u8>,
}

#[derive(PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    length: u64,
    modified: Option<SystemTime>,
    racy: bool,
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        let modified = metadata.modified().ok();
        let age = modified.and_then(|modified| SystemTime::now().duration_since(modified).ok());
        Stamp {
            device: metadata.dev(),
            inode: metadata.ino(),
            length: metadata.len(),
            modified,
            racy: age.is_none_or(|age| age < RACY),
        }
    }
}

impl Followed {
    pub(super) fn new(path: &Path) -> Self {
        Followed { path: path.to_owned(), stamp: None, content: Vec::new() }
    }

    /// The content if it differs from that of the last call; None where nothing changed or the file cannot be read
    /// (then what was read before stays valid).
    pub(super) fn changed(&mut self) -> Option<&[u8]> {
        match self.read() {
            Ok(true) => Some(&self.content),
            Ok(false) => None,
            Err(error) => {
                // Logged once for each loss of the file, not at each check.
                if self.stamp.take().is_some() {
                    tracing::warn!(file = %self.path.display(), %error, "cannot read; keeping what was read before");
                }
                None
            }
        }
    }

    fn read(&mut self) -> io::Result<bool> {
        let metadata = fs::metadata(&self.path)?;
        let stamp = Stamp::of(&metadata);
        if !stamp.racy && self.stamp.as_ref() == Some(&stamp) {
            return Ok(false);
        }
        let mut content = Vec::new();
        fs::File::open(&self.path)?.take(MAX_FILE).read_to_end(&mut content)?;
        let is_first = self.stamp.is_none();
        self.stamp = Some(stamp);
        if !is_first && content == self.content {
            return Ok(false);
        }
        self.content = content;
        Ok(true)
    }
}

/// The `nameserver` addresses of resolv.conf(5), in order.
pub(super) fn nameservers(content: &[u8]) -> Vec<IpAddr> {
    let text = String::from_utf8_lossy(content);
    text.lines()
        .filter_map(|line| {
            let mut words = line.split_ascii_whitespace();
            (words.next() == Some("nameserver")).then(|| words.next()).flatten()
        })
        .filter_map(|word| {
            IpAddr::from_str(word)
                .inspect_err(|_| tracing::warn!(nameserver = word, "resolv.conf: not an IP address, ignored"))
                .ok()
        })
        .take(MAX_SERVERS)
        .collect()
}

/// The server that the C library uses where resolv.conf names none.
pub(super) const LOCAL_SERVER: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// hosts(5): an address, then names; `#` begins a comment. A name on several lines has all their addresses.
pub(super) fn hosts(content: &[u8]) -> Hosts {
    let text = String::from_utf8_lossy(content);
    let mut lists: HashMap<Name, Vec<IpAddr>> = HashMap::new();
    for line in text.trim_start_matches('\u{feff}').lines() {
        let line = line.split_once('#').map_or(line, |(before, _)| before);
        let mut words = line.split_ascii_whitespace();
        let Some(address) = words.next().and_then(|word| IpAddr::from_str(word).ok()) else { continue };
        for name in words.filter_map(|word| Name::parse(word).ok()) {
            let list = lists.entry(name).or_default();
            if !list.contains(&address) {
                list.push(address);
            }
        }
    }
    lists.into_iter().map(|(name, list)| (name, Arc::from(list))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_nameserver_lines_of_resolv_conf_count() {
        let rows: &[(&str, &[&str])] = &[
            ("nameserver 10.0.0.10\n", &["10.0.0.10"]),
            (
                "search a.svc.cluster.local svc.cluster.local\nnameserver 10.0.0.10\noptions ndots:5\n",
                &["10.0.0.10"],
            ),
            ("  nameserver\t10.0.0.10   # trailing\r\nnameserver fd00::10", &["10.0.0.10", "fd00::10"]),
            ("#nameserver 10.0.0.9\n;nameserver 10.0.0.8\nnameservers 10.0.0.7\n", &[]),
            ("nameserver nonsense\nnameserver\nnameserver 10.0.0.10", &["10.0.0.10"]),
            ("search --\nsearch bad..name\n\u{0}\u{ff}\nnameserver 10.0.0.10", &["10.0.0.10"]),
            (
                "nameserver 1.1.1.1\nnameserver 1.1.1.2\nnameserver 1.1.1.3\nnameserver 1.1.1.4",
                &["1.1.1.1", "1.1.1.2", "1.1.1.3"],
            ),
            ("", &[]),
        ];
        for (content, want) in rows {
            let got: Vec<String> = nameservers(content.as_bytes()).iter().map(IpAddr::to_string).collect();
            assert_eq!(got, *want, "{content:?}");
        }
    }

    #[test]
    fn hosts_are_canonical_names_with_all_their_addresses() {
        let read = hosts(
            b"\xef\xbb\xbf127.0.0.1 localhost\n# comment\n10.0.0.1\tGit.Test. git # git2\n10.0.0.2 git.test\n\
              ::1 localhost ip6-localhost\nnonsense x.test\n10.0.0.1 git.test -bad- y.test\r\n",
        );
        let addresses = |name: &str| -> Vec<String> {
            read.get(&Name::parse(name).unwrap())
                .into_iter()
                .flat_map(|list| list.iter())
                .map(IpAddr::to_string)
                .collect()
        };
        assert_eq!(addresses("localhost"), ["127.0.0.1", "::1"]);
        assert_eq!(addresses("git.test"), ["10.0.0.1", "10.0.0.2"]);
        assert_eq!(addresses("git"), ["10.0.0.1"]);
        assert_eq!(addresses("y.test"), ["10.0.0.1"]);
        assert_eq!(addresses("git2"), [""; 0]);
        assert_eq!(addresses("x.test"), [""; 0]);
    }

    #[test]
    fn each_change_of_a_file_is_seen_once() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("hosts");
        let mut followed = Followed::new(&path);
        assert_eq!(followed.changed(), None, "not there yet");
        fs::write(&path, "one").unwrap();
        assert_eq!(followed.changed(), Some(&b"one"[..]));
        assert_eq!(followed.changed(), None);
        fs::write(&path, "two").unwrap();
        assert_eq!(followed.changed(), Some(&b"two"[..]), "same length, same tick of the clock");
        fs::remove_file(&path).unwrap();
        assert_eq!(followed.changed(), None);
        fs::write(directory.path().join("new"), "three").unwrap();
        fs::rename(directory.path().join("new"), &path).unwrap();
        assert_eq!(followed.changed(), Some(&b"three"[..]), "replaced by a rename");
    }

    #[test]
    fn an_old_file_is_not_read_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("hosts");
        fs::write(&path, "one").unwrap();
        let old = SystemTime::now() - Duration::from_secs(60);
        fs::File::open(&path).unwrap().set_modified(old).unwrap();
        let mut followed = Followed::new(&path);
        assert_eq!(followed.changed(), Some(&b"one"[..]));
        // Changed without a change of its stamp: only a read could show it, and there is none.
        fs::write(&path, "two").unwrap();
        fs::File::open(&path).unwrap().set_modified(old).unwrap();
        assert_eq!(followed.changed(), None);
    }
}
