//! Reads files and directories of the host, and keeps apart what is not there from what could not be read.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::words::io_error::reason;

/// Most bytes of a file that are read.
const MOST: u64 = 1 << 20;

/// Something that is there, perhaps, and could not be read.
#[derive(Debug)]
pub(super) struct Unread {
    path: PathBuf,
    error: io::Error,
}

impl Unread {
    pub(super) fn new(path: &Path, error: io::Error) -> Self {
        Unread { path: path.to_owned(), error }
    }

    /// What could not be read, and what to do about it: `run` is the command to run as root.
    pub(super) fn told(&self, run: &str) -> String {
        let text = format!("{} could not be read ({})", self.path.display(), reason(&self.error));
        match self.error.kind() {
            io::ErrorKind::PermissionDenied => format!("{text}: run it as root: sudo {run}"),
            _ => text,
        }
    }
}

/// Whether an error says that there is nothing at the path.
pub(super) fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// The text of a file, of which no more than [`MOST`] is read. None: there is none.
///
/// # Errors
/// It could not be read.
pub(super) fn text(path: &Path) -> Result<Option<String>, Unread> {
    let mut bytes = Vec::new();
    match File::open(path).and_then(|file| file.take(MOST).read_to_end(&mut bytes)) {
        Ok(_) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(error) if is_missing(&error) => Ok(None),
        Err(error) => Err(Unread::new(path, error)),
    }
}
