//! Which files a configuration was read from, in which folders it looked for some, and whether they have changed since.
//!
//! There are three checks, from quick to certain: the file's state as the kernel reports it (`stat`); for a file that
//! was written in the same moment as it was read, which the state cannot show, its content; and the content of every
//! file, for file systems whose `stat` does not show changes. Not here: the kernel's notifications of changes
//! ([`super::watch`]).

use crate::config::{self, Finding, Loaded, OnDisk, ReadFiles};
use crate::words::small_sort::SmallSort as _;
use std::cell::RefCell;
use std::ffi::OsString;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A change that is less than this before or after the reading may be in the same tick of the clock that stamps files.
/// Linux ticks every 1 to 10 ms.
const CLOCK_STEP: Duration = Duration::from_millis(20);

/// Every file that was read for a configuration, accepted or refused, and every folder that was looked into, with its state
/// just before.
#[derive(Debug, Default)]
pub struct Seen(Vec<Sight>);

#[derive(Debug)]
struct Sight {
    path: PathBuf,
    /// A folder, whose content are its names.
    folder: bool,
    /// When the state was taken.
    at: SystemTime,
    /// `None`: there was no such file.
    state: Option<FileState>,
    /// A digest of what was then read; `None`: it could not be read.
    content: Option<u64>,
}

/// Distinguishes one state of a file from another without reading it. The kernel sets the change time itself: an
/// editor that keeps the modification time is noticed all the same.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct FileState {
    device: u64,
    inode: u64,
    size: u64,
    /// Seconds and nanoseconds since the epoch.
    changed: (i64, i64),
    /// A pipe can be read only once.
    regular: bool,
}

/// Reads a configuration, and returns what was read for it.
pub fn load(file: Option<&Path>) -> (Result<Loaded, Vec<Finding>>, Seen) {
    let seen = RefCell::new(Seen::default());
    let loaded = config::load_by(file, &Recorded(&seen));
    (loaded, seen.into_inner())
}

/// The disk, with a record of what was read.
struct Recorded<'s>(&'s RefCell<Seen>);

impl ReadFiles for Recorded<'_> {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.0.borrow_mut().read(path)
    }

    fn names(&self, folder: &Path) -> io::Result<Vec<OsString>> {
        self.0.borrow_mut().names(folder)
    }
}

impl Seen {
    fn read(&mut self, path: &Path) -> io::Result<Vec<u8>> {
        // The state first: anything that changes later counts as a change.
        let (at, state) = (SystemTime::now(), FileState::of(path));
        let read = config::read_from_disk(path);
        if !self.paths().any(|known| known == path) {
            let content = read.as_deref().ok().map(digest);
            self.0.push(Sight { path: path.to_owned(), folder: false, at, state, content });
        }
        read
    }

    fn names(&mut self, folder: &Path) -> io::Result<Vec<OsString>> {
        let (at, state) = (SystemTime::now(), FileState::of(folder));
        let mut names = OnDisk.names(folder);
        if let Ok(names) = &mut names {
            // The order says nothing.
            names.small_sort();
        }
        if !self.folders().any(|known| known == folder) {
            let content = names.as_deref().ok().map(digest);
            self.0.push(Sight { path: folder.to_owned(), folder: true, at, state, content });
        }
        names
    }

    /// The files in the order of reading, each once.
    pub(super) fn paths(&self) -> impl Iterator<Item = &Path> {
        self.0.iter().filter(|sight| !sight.folder).map(|sight| &*sight.path)
    }

    /// The folders that were looked into, each once: a file that comes into one of them may be included.
    pub(super) fn folders(&self) -> impl Iterator<Item = &Path> {
        self.0.iter().filter(|sight| sight.folder).map(|sight| &*sight.path)
    }

    /// Whether any file differs from what was read, or may differ.
    pub(super) fn differ(&self) -> bool {
        self.0.iter().any(|sight| sight.is_doubtful() || FileState::of(&sight.path) != sight.state)
    }

    /// Whether any file's content differs from what was read. Reads all files.
    pub(super) fn contents_differ(&self) -> bool {
        let comparable = |sight: &&Sight| sight.folder || sight.state.is_none_or(|state| state.regular);
        self.0.iter().filter(comparable).any(|sight| sight.content_now() != sight.content)
    }
}

impl Sight {
    fn content_now(&self) -> Option<u64> {
        if !self.folder {
            return config::read_from_disk(&self.path).ok().as_deref().map(digest);
        }
        let mut names = OnDisk.names(&self.path).ok()?;
        names.small_sort();
        Some(digest(&*names))
    }

    /// Whether the file changed at about the time it was read, so that a second change may have left the same state. A
    /// change time far in the future comes from another machine's clock, and shows changes like any other.
    fn is_doubtful(&self) -> bool {
        let Some(FileState { changed: (seconds, nanoseconds), .. }) = self.state else { return false };
        let read = self.at.duration_since(UNIX_EPOCH).unwrap_or_default();
        let (Ok(seconds), Ok(nanoseconds)) = (u64::try_from(seconds), u32::try_from(nanoseconds)) else {
            return false;
        };
        read.abs_diff(Duration::new(seconds, nanoseconds)) <= CLOCK_STEP
    }
}

impl FileState {
    fn of(path: &Path) -> Option<Self> {
        let meta = std::fs::metadata(path).ok()?;
        let changed = (meta.ctime(), meta.ctime_nsec());
        let (device, inode, size) = (meta.dev(), meta.ino(), meta.size());
        Some(FileState { device, inode, size, changed, regular: meta.is_file() })
    }
}

/// Good enough to notice an edit: the people who write these files have no reason to make a collision.
fn digest<T: Hash + ?Sized>(content: &T) -> u64 {
    let mut hasher = DefaultHasher::new();
    content.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use tempfile::TempDir;

    use super::*;

    /// As if the file had been read long after it was written.
    fn settled(mut seen: Seen) -> Seen {
        for sight in &mut seen.0 {
            sight.at += Duration::from_secs(60);
        }
        seen
    }

    fn seen(path: &Path) -> Seen {
        let mut seen = Seen::default();
        let _ = seen.read(path);
        seen
    }

    #[test]
    fn each_way_of_changing_a_file_is_seen() {
        type Change = fn(&Path);
        let rows: &[(&str, bool, Change)] = &[
            ("nothing", false, |_| {}),
            ("read again", false, |file| drop(fs::read(file))),
            ("longer", true, |file| fs::write(file, "longer than it was").expect("written")),
            ("emptied", true, |file| fs::write(file, "").expect("written")),
            ("gone", true, |file| fs::remove_file(file).expect("removed")),
            ("renamed over", true, |file| {
                let new = file.with_extension("new");
                fs::write(&new, "text").expect("written");
                fs::rename(new, file).expect("renamed");
            }),
            ("same size and modification time", true, |file| {
                let modified = fs::metadata(file).and_then(|meta| meta.modified()).expect("a time");
                // A tick of the clock that stamps files lies between: the state was taken as if a minute ago, so
                // only the stamp can tell.
                let before = fs::metadata(file).map(|meta| (meta.ctime(), meta.ctime_nsec())).expect("there");
                while fs::metadata(file).map(|meta| (meta.ctime(), meta.ctime_nsec())).expect("there")
                    == before
                {
                    fs::write(file, "TEXT").expect("written");
                }
                fs::File::options()
                    .write(true)
                    .open(file)
                    .and_then(|file| file.set_modified(modified))
                    .expect("set");
            }),
        ];
        for (what, differs, change) in rows {
            let directory = TempDir::new().expect("a directory");
            let file = directory.path().join("file");
            fs::write(&file, "text").expect("written");
            let seen = settled(seen(&file));
            change(&file);
            assert_eq!(seen.differ(), *differs, "{what}");
        }
    }

    #[test]
    fn a_missing_file_is_seen_when_it_comes() {
        let directory = TempDir::new().expect("a directory");
        let file = directory.path().join("file");
        let seen = seen(&file);
        assert!(!seen.differ() && !seen.contents_differ());
        fs::write(&file, "text").expect("written");
        assert!(seen.differ() && seen.contents_differ());
    }

    #[test]
    fn a_file_written_in_the_moment_it_was_read_is_looked_at_again() {
        let directory = TempDir::new().expect("a directory");
        let file = directory.path().join("file");
        fs::write(&file, "text").expect("written");
        let mut seen = seen(&file);
        let changed = seen.0[0].state.map(|state| state.changed).expect("there");
        let stamp = UNIX_EPOCH + Duration::new(changed.0 as u64, changed.1 as u32);
        let second = Duration::from_secs(1);
        for (at, doubtful) in
            [(stamp, true), (stamp + CLOCK_STEP, true), (stamp + second, false), (stamp - second, false)]
        {
            seen.0[0].at = at;
            assert_eq!(seen.differ(), doubtful);
        }
    }

    #[test]
    fn another_target_of_a_link_is_another_file() {
        let directory = TempDir::new().expect("a directory");
        let [one, two, link] = ["one", "two", "link"].map(|name| directory.path().join(name));
        fs::write(&one, "text").expect("written");
        fs::write(&two, "TEXT").expect("written");
        symlink(&one, &link).expect("linked");
        let seen = settled(seen(&link));
        assert!(!seen.differ());
        fs::remove_file(&link).and_then(|()| symlink(&two, &link)).expect("linked");
        assert!(seen.differ() && seen.contents_differ());
    }

    #[test]
    fn contents_are_compared_where_states_say_nothing_and_pipes_are_left_alone() {
        let directory = TempDir::new().expect("a directory");
        let file = directory.path().join("file");
        fs::write(&file, "text").expect("written");
        let mut seen = seen(&file);
        assert!(!seen.contents_differ());
        fs::write(&file, "TEXT").expect("written");
        seen.0[0].state = FileState::of(&file);
        assert!(seen.contents_differ());
        seen.0[0].state.as_mut().expect("there").regular = false;
        assert!(!seen.contents_differ());
    }

    #[test]
    fn what_a_refused_configuration_names_is_told_too() {
        let directory = TempDir::new().expect("a directory");
        let path = |name: &str| directory.path().join(name);
        fs::write(path("list"), "a.example\n").expect("written");
        let text = "policies: [{name: p, allow_files: [list, missing, list], mode: wrong}]";
        fs::write(path("egressd.yaml"), text).expect("written");
        let (loaded, seen) = load(Some(&path("egressd.yaml")));
        assert!(loaded.is_err());
        assert_eq!(seen.paths().collect::<Vec<_>>(), [path("egressd.yaml"), path("list"), path("missing")]);
        let (loaded, seen) = load(None);
        assert!(loaded.is_ok() && seen.paths().next().is_none() && !seen.differ());
    }
}
