//! The files that a configuration names. Each is read once for every time it is named, hashed, and remembered for the
//! file watch.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::finding::{Position, Report};
use super::hash::ConfigHash;
use crate::words::io_error::reason;
use crate::words::quote::quoted;

/// The largest file that is read: a million rules are about 40 MB. A named pipe or a device must not fill the memory.
const MAX_BYTES: u64 = 256 << 20;

/// How a file is read; tests and [`crate::commands::import`] pass their own function.
pub(super) type ReadFile<'a> = &'a dyn Fn(&Path) -> io::Result<Vec<u8>>;

/// A file that a configuration names: where, under which name, and what is in it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NamedFile {
    /// The file that names it, as findings show it.
    pub of: Box<str>,
    /// The place of the name there.
    pub position: Position,
    /// As written.
    pub name: Box<str>,
    /// SHA-256 of the content.
    pub print: [u8; 32],
}

/// Reads, hashes and remembers.
pub(super) struct NamedFiles<'a> {
    /// What relative paths are relative to.
    directory: PathBuf,
    read_file: ReadFile<'a>,
    files: Vec<PathBuf>,
    named: Vec<NamedFile>,
    hash: Sha256,
}

/// What is known of the files in the end.
pub(super) struct Done {
    /// Over everything read.
    pub(super) hash: ConfigHash,
    /// Each once, in the order of reading.
    pub(super) files: Vec<PathBuf>,
    /// Each for every time it is named.
    pub(super) named: Vec<NamedFile>,
}

impl<'a> NamedFiles<'a> {
    /// `configuration` is the path as given, or None for the embedded configuration. `content` is its text, which is
    /// hashed first.
    pub(super) fn new(configuration: Option<&Path>, content: &[u8], read_file: ReadFile<'a>) -> Self {
        let directory = configuration.and_then(Path::parent).unwrap_or(Path::new("")).to_owned();
        let mut files = NamedFiles {
            directory,
            read_file,
            files: configuration.map(Path::to_owned).into_iter().collect(),
            named: Vec::new(),
            hash: Sha256::new(),
        };
        files.add_to_hash(content);
        files
    }

    /// `name` relative to the configuration's directory.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// The content of a file named at `position`; None if the file is missing, unreadable or empty, which is reported.
    pub(super) fn read(&mut self, name: &str, position: Position, report: &Report<'_>) -> Option<Vec<u8>> {
        let path = self.path(name);
        let content = (self.read_file)(&path);
        if !self.files.contains(&path) {
            self.files.push(path.clone());
        }
        let shown = quoted(&path.display().to_string());
        match content {
            Ok(content) if content.iter().all(u8::is_ascii_whitespace) => {
                report.error(
                    position,
                    format!("the file {shown} is empty: add content to it, or remove it here"),
                );
                None
            }
            Ok(content) => {
                let (of, print) = (report.file().into(), Sha256::digest(&content).into());
                self.named.push(NamedFile { of, position, name: name.into(), print });
                self.add_to_hash(name.as_bytes());
                self.add_to_hash(&content);
                Some(content)
            }
            Err(error) => {
                let error = reason(&error);
                report.error(
                    position,
                    format!("cannot read {shown}: {error}; a relative path is relative to the configuration's directory"),
                );
                None
            }
        }
    }

    /// The length goes first, so that the same bytes split in two ways give two hashes.
    fn add_to_hash(&mut self, bytes: &[u8]) {
        self.hash.update((bytes.len() as u64).to_be_bytes());
        self.hash.update(bytes);
    }

    /// What was read.
    pub(super) fn finish(self) -> Done {
        Done { hash: ConfigHash(self.hash.finalize().into()), files: self.files, named: self.named }
    }
}

/// Reads a file from disk, of at most 256 MiB.
///
/// # Errors
/// The operating system's error, or a file that is larger.
pub fn read_from_disk(path: &Path) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    std::fs::File::open(path)?.take(MAX_BYTES + 1).read_to_end(&mut content)?;
    if content.len() as u64 > MAX_BYTES {
        return Err(io::Error::other("it is larger than 256 MiB"));
    }
    Ok(content)
}
