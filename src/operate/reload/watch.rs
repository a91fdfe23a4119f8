//! Notifications from the kernel that a file may have changed.
//!
//! Directories are watched, not files: a file that is renamed over another is a different file. A path may go through
//! symbolic links, and in a Kubernetes volume it does: `egressd.yaml` → `..data/egressd.yaml`, `..data` →
//! `..2026_01_31…`, and an update replaces only `..data`. So the directory of every link on the path is watched as
//! well, and the path is followed anew after each change. If the kernel cannot notify (a network file system, no more
//! watches), [`super::files`] notices changes by looking. Of a folder in which a configuration looks for files, every name
//! counts: a new file is read like an edited one.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use notify::event::{AccessKind, AccessMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};

use super::wakeups::Wakeups;
use crate::words::small_sort::SmallCollect as _;

/// The kernel follows as many links in one path.
const MAX_LINKS: usize = 40;

/// Rings the wakeups when the kernel reports that one of the followed files may have changed.
pub(super) struct Watch {
    watcher: Option<RecommendedWatcher>,
    heard: Arc<Mutex<Heard>>,
    /// In which any name counts.
    folders: Vec<PathBuf>,
    directories: BTreeMap<PathBuf, Identity>,
    /// Directories that could not be watched; each is logged once.
    deaf: BTreeSet<PathBuf>,
}

/// A directory that was removed and made anew is a different one, and the watch of the old one does not report its
/// changes. The inode number alone is not enough: it is soon reused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Identity {
    device: u64,
    inode: u64,
    /// If the file system records it.
    born: Option<SystemTime>,
}

impl Identity {
    fn of(directory: &Path) -> Option<Self> {
        let meta = fs::metadata(directory).ok()?;
        Some(Identity { device: meta.dev(), inode: meta.ino(), born: meta.created().ok() })
    }
}

/// Which events are relevant: other files in a directory may change often.
#[derive(Debug, Default)]
struct Heard {
    names: HashSet<OsString>,
    directories: HashSet<PathBuf>,
    /// Those of the directories in which any name counts that does not begin with a dot, as those of editors do.
    folders: HashSet<PathBuf>,
}

impl Heard {
    fn means_something(&self, event: &Event) -> bool {
        // Reading a file is an event too, and our own reading must not wake us. The end of writing shows that a file
        // is complete.
        let read =
            matches!(event.kind, EventKind::Access(kind) if kind != AccessKind::Close(AccessMode::Write));
        let ours = |path: &PathBuf| {
            let shows = |name: &OsStr| {
                !name.as_encoded_bytes().starts_with(b".")
                    && path.parent().is_some_and(|folder| self.folders.contains(folder))
            };
            path.file_name().is_some_and(|name| self.names.contains(name) || shows(name))
                || self.directories.contains(path)
        };
        event.need_rescan() || (!read && event.paths.iter().any(ours))
    }
}

impl Watch {
    pub(super) fn new(wakeups: Arc<Wakeups>) -> Self {
        let heard = Arc::new(Mutex::new(Heard::default()));
        let for_watcher = Arc::clone(&heard);
        let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            // After an error, anything may have happened.
            if event.is_err() || event.is_ok_and(|event| lock(&for_watcher).means_something(&event)) {
                wakeups.changed();
            }
        });
        let watcher = watcher
            .inspect_err(|error| {
                tracing::warn!(
                    "the kernel cannot report changed files; looking at them regularly instead: {error}"
                )
            })
            .ok();
        Watch { watcher, heard, folders: Vec::new(), directories: BTreeMap::new(), deaf: BTreeSet::new() }
    }

    /// The folders in which any name counts, from the next [`Watch::follow`] on.
    pub(super) fn look_into<'p>(&mut self, folders: impl Iterator<Item = &'p Path>) {
        self.folders = folders.map(Path::to_owned).collect();
    }

    /// Watches exactly the directories on the current paths of `files`. Returns whether one of them is new: earlier
    /// changes in it went unnoticed.
    pub(super) fn follow<'p>(&mut self, files: impl Iterator<Item = &'p Path>) -> bool {
        let Some(watcher) = &mut self.watcher else { return false };
        let folders: HashSet<PathBuf> =
            self.folders.iter().filter_map(|folder| fs::canonicalize(folder).ok()).collect();
        let ways = files.flat_map(way).chain(self.folders.iter().flat_map(|folder| way(folder)));
        let entries: BTreeSet<PathBuf> = ways.small_collect();
        let directory = |entry: &PathBuf| {
            let directory = entry.parent()?;
            Some((directory.to_owned(), Identity::of(directory)?))
        };
        let own = |folder: &PathBuf| Some((folder.clone(), Identity::of(folder)?));
        let wanted: BTreeMap<PathBuf, Identity> =
            entries.iter().filter_map(directory).chain(folders.iter().filter_map(own)).small_collect();
        let names = entries.iter().filter_map(|entry| entry.file_name().map(ToOwned::to_owned)).collect();
        *lock(&self.heard) = Heard { names, directories: wanted.keys().cloned().collect(), folders };

        for (directory, identity) in &self.directories {
            if wanted.get(directory) != Some(identity) {
                // If the directory is gone, so is its watch.
                let _ = watcher.unwatch(directory);
            }
        }
        let mut kept = BTreeMap::new();
        let mut new = false;
        for (directory, identity) in wanted {
            if self.directories.get(&directory) == Some(&identity) {
                kept.insert(directory, identity);
                continue;
            }
            match watcher.watch(&directory, RecursiveMode::NonRecursive) {
                Ok(()) => {
                    new = true;
                    self.deaf.remove(&directory);
                    kept.insert(directory, identity);
                }
                Err(error) => {
                    if self.deaf.insert(directory.clone()) {
                        let directory = directory.display();
                        tracing::warn!(
                            "the kernel cannot report changes in {directory}; looking at it regularly instead: {error}"
                        );
                    }
                }
            }
        }
        self.directories = kept;
        new
    }
}

/// Nothing panics under the lock.
fn lock(heard: &Mutex<Heard>) -> MutexGuard<'_, Heard> {
    heard.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Every directory entry on the path to `file` that may later point elsewhere: each symbolic link and the file itself,
/// absolute and with no link before the last component. If the path ends early, the entry that is missing.
fn way(file: &Path) -> Vec<PathBuf> {
    let mut entries = Vec::new();
    // Without a current directory, a relative path points nowhere, and is not followed.
    let Ok(absolute) = std::path::absolute(file) else { return entries };
    let mut ahead = components(&absolute);
    let mut at = PathBuf::from("/");
    let mut links = 0;
    while let Some(name) = ahead.pop() {
        if name == ".." {
            at.pop();
            continue;
        }
        let entry = at.join(name);
        match fs::read_link(&entry) {
            Ok(target) => {
                links += 1;
                entries.push(entry);
                if links == MAX_LINKS {
                    break;
                }
                if target.is_absolute() {
                    at = PathBuf::from("/");
                }
                ahead.extend(components(&target));
            }
            Err(error) => {
                let missing = error.kind() == ErrorKind::NotFound;
                if ahead.is_empty() || missing {
                    entries.push(entry.clone());
                }
                if missing {
                    break;
                }
                at = entry;
            }
        }
    }
    entries
}

/// The names of `path`, the last one first.
fn components(path: &Path) -> Vec<OsString> {
    let names = path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some(OsString::from("..")),
        Component::CurDir | Component::RootDir | Component::Prefix(_) => None,
    });
    let mut names: Vec<OsString> = names.collect();
    names.reverse();
    names
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::time::Duration;

    use tempfile::TempDir;

    use super::*;

    /// Far longer than the kernel needs for a notification.
    const DEADLINE: Duration = Duration::from_secs(20);

    /// A directory whose own path has no links.
    fn directory() -> (TempDir, PathBuf) {
        let directory = TempDir::new().expect("a directory");
        let path = directory.path().canonicalize().expect("a path");
        (directory, path)
    }

    /// A volume as the kubelet writes it.
    fn volume(root: &Path, version: &str) {
        let version = Path::new(version);
        fs::create_dir(root.join(version)).expect("made");
        fs::write(root.join(version).join("file"), "text").expect("written");
        symlink(version, root.join("..data_tmp")).expect("linked");
        fs::rename(root.join("..data_tmp"), root.join("..data")).expect("renamed");
        if !root.join("file").is_symlink() {
            symlink("..data/file", root.join("file")).expect("linked");
        }
    }

    #[test]
    fn every_entry_that_may_lead_elsewhere_is_on_the_way() {
        let (_kept, root) = directory();
        fs::create_dir_all(root.join("a/b")).expect("made");
        fs::write(root.join("a/b/file"), "text").expect("written");
        volume(&root, "..1");
        symlink("a/b", root.join("link")).expect("linked");
        symlink(root.join("link/file"), root.join("absolute")).expect("linked");
        symlink("../a/b/file", root.join("a/up")).expect("linked");
        symlink("round", root.join("round")).expect("linked");
        symlink("..gone/file", root.join("dangling")).expect("linked");
        let rows: &[(&str, &[&str])] = &[
            ("a/b/file", &["a/b/file"]),
            ("a/./b/../b/file", &["a/b/file"]),
            ("file", &["file", "..data", "..1/file"]),
            ("link/file", &["link", "a/b/file"]),
            ("absolute", &["absolute", "link", "a/b/file"]),
            ("a/up", &["a/up", "a/b/file"]),
            ("missing", &["missing"]),
            ("missing/file", &["missing"]),
            ("dangling", &["dangling", "..gone"]),
        ];
        for (path, want) in rows {
            let want: Vec<PathBuf> = want.iter().map(|entry| root.join(entry)).collect();
            assert_eq!(way(&root.join(path)), want, "{path}");
        }
        assert_eq!(way(&root.join("round")).len(), MAX_LINKS);
        assert_eq!(way(Path::new("/")), Vec::<PathBuf>::new());
    }

    #[test]
    fn the_kernel_reports_each_way_of_changing_a_file() {
        type Change = fn(&Path);
        let rows: &[(&str, Change)] = &[
            ("overwritten", |root| fs::write(root.join("plain"), "other").expect("written")),
            ("renamed over", |root| {
                fs::write(root.join("new"), "text").expect("written");
                fs::rename(root.join("new"), root.join("plain")).expect("renamed");
            }),
            ("removed", |root| fs::remove_file(root.join("plain")).expect("removed")),
            ("come", |root| fs::write(root.join("missing"), "text").expect("written")),
            ("a volume swapped", |root| volume(root, "..2")),
            ("written in the version's own directory", |root| {
                fs::write(root.join("..1/file"), "other").expect("written");
            }),
        ];
        for (what, change) in rows {
            let (_kept, root) = directory();
            volume(&root, "..1");
            fs::write(root.join("plain"), "text").expect("written");
            let files = ["file", "plain", "missing"].map(|name| root.join(name));
            let wakeups = Arc::new(Wakeups::default());
            let mut watch = Watch::new(Arc::clone(&wakeups));
            assert!(watch.follow(files.iter().map(AsRef::as_ref)));
            assert!(!watch.follow(files.iter().map(AsRef::as_ref)), "nothing new");
            change(&root);
            assert!(wakeups.wait(DEADLINE).changed, "{what}");
        }
    }

    #[test]
    fn a_file_that_comes_into_a_folder_of_policies_is_reported() {
        type Change = fn(&Path);
        let rows: &[(&str, Change)] = &[
            ("come", |root| fs::write(root.join("policies.d/new.yaml"), "text").expect("written")),
            ("moved in", |root| {
                fs::write(root.join("new"), "text").expect("written");
                fs::rename(root.join("new"), root.join("policies.d/new.yaml")).expect("renamed");
            }),
            ("linked", |root| symlink("..data/new", root.join("policies.d/new.yaml")).expect("linked")),
            ("by another way", |root| fs::write(root.join("link/new.yaml"), "text").expect("written")),
            ("the folder gone", |root| fs::remove_dir(root.join("policies.d")).expect("removed")),
        ];
        for (what, change) in rows {
            let (_kept, root) = directory();
            fs::create_dir(root.join("policies.d")).expect("made");
            symlink("policies.d", root.join("link")).expect("linked");
            let folder = if *what == "come" { root.join("policies.d") } else { root.join("link") };
            let wakeups = Arc::new(Wakeups::default());
            let mut watch = Watch::new(Arc::clone(&wakeups));
            watch.look_into([&*folder].into_iter());
            assert!(watch.follow(std::iter::empty()));
            change(&root);
            assert!(wakeups.wait(DEADLINE).changed, "{what}");
        }
    }

    #[test]
    fn a_swapped_volume_is_followed_to_its_new_version() {
        let (_kept, root) = directory();
        volume(&root, "..1");
        let mut watch = Watch::new(Arc::default());
        let file = root.join("file");
        watch.follow([&*file].into_iter());
        assert_eq!(watch.directories.keys().collect::<Vec<_>>(), [&root, &root.join("..1")]);
        volume(&root, "..2");
        assert!(watch.follow([&*file].into_iter()));
        assert_eq!(watch.directories.keys().collect::<Vec<_>>(), [&root, &root.join("..2")]);
    }

    #[test]
    fn reading_and_other_files_mean_nothing() {
        let heard = Heard {
            names: HashSet::from(["file".into(), "..data".into()]),
            directories: HashSet::from(["/etc/egressd".into(), "/etc/egressd/policies.d".into()]),
            folders: HashSet::from(["/etc/egressd/policies.d".into()]),
        };
        let access = |kind| EventKind::Access(kind);
        let rows = [
            (EventKind::Any, "/etc/egressd/file", true),
            (EventKind::Any, "/etc/egressd/..data", true),
            (EventKind::Any, "/etc/egressd/other", false),
            (EventKind::Any, "/etc/egressd/policies.d/new.yaml", true),
            (EventKind::Any, "/etc/egressd/policies.d/.new.yaml.swp", false),
            (access(AccessKind::Open(AccessMode::Any)), "/etc/egressd/policies.d/new.yaml", false),
            (EventKind::Any, "/etc/egressd", true),
            (EventKind::Any, "/etc", false),
            (access(AccessKind::Open(AccessMode::Any)), "/etc/egressd/file", false),
            (access(AccessKind::Close(AccessMode::Read)), "/etc/egressd/file", false),
            (access(AccessKind::Close(AccessMode::Write)), "/etc/egressd/file", true),
            (access(AccessKind::Close(AccessMode::Write)), "/etc/egressd/other", false),
        ];
        for (kind, path, want) in rows {
            let event = Event::new(kind).add_path(path.into());
            assert_eq!(heard.means_something(&event), want, "{event:?}");
        }
        let lost = Event::new(EventKind::Other).set_flag(notify::event::Flag::Rescan);
        assert!(heard.means_something(&lost), "the kernel's queue ran over");
    }

    #[test]
    fn a_directory_that_goes_and_comes_back_is_watched_again() {
        let (_kept, root) = directory();
        let inside = root.join("inside");
        let file = inside.join("file");
        fs::create_dir(&inside).expect("made");
        fs::write(&file, "text").expect("written");
        let wakeups = Arc::new(Wakeups::default());
        let mut watch = Watch::new(Arc::clone(&wakeups));
        assert!(watch.follow([&*file].into_iter()));
        let first = watch.directories[&inside];

        fs::remove_dir_all(&inside).expect("removed");
        assert!(wakeups.wait(DEADLINE).changed, "gone");
        assert!(watch.follow([&*file].into_iter()), "waited for in the directory above");
        assert_eq!(watch.directories.keys().collect::<Vec<_>>(), [&root]);

        fs::create_dir(&inside).expect("made");
        assert!(watch.follow([&*file].into_iter()), "another directory of the same name");
        assert_ne!(watch.directories[&inside], first);
        // Events of the earlier steps may still come: at worst they are taken for the event of the writing.
        while wakeups.wait(Duration::from_millis(100)).changed {}
        fs::write(&file, "text").expect("written");
        assert!(wakeups.wait(DEADLINE).changed, "heard again");
    }
}
