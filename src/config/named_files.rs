//! The files that a configuration names. Each is read once for every time it is named, hashed, and remembered for the
//! file watch.

use std::ffi::OsString;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::finding::{Position, Report};
use super::hash::ConfigHash;
use crate::words::io_error::reason;
use crate::words::quote::quoted;

/// The largest file that is read: a million rules are about 40 MB. A named pipe or a device must not fill the memory.
const MAX_BYTES: u64 = 256 << 20;

/// Where files come from: the disk, or, for tests and [`crate::commands::import`], a function.
pub trait ReadFiles {
    /// The content of a file.
    ///
    /// # Errors
    /// The operating system's error, or a file that is too large.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;

    /// The names in a folder, in any order.
    ///
    /// # Errors
    /// The operating system's error.
    fn names(&self, folder: &Path) -> io::Result<Vec<OsString>>;

    /// Whether the files are where the configuration says, so that who may read them there matters.
    fn is_in_place(&self) -> bool {
        true
    }
}

/// The disk.
#[derive(Clone, Copy, Debug)]
pub struct OnDisk;

impl ReadFiles for OnDisk {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        read_from_disk(path)
    }

    fn names(&self, folder: &Path) -> io::Result<Vec<OsString>> {
        std::fs::read_dir(folder)?.map(|entry| Ok(entry?.file_name())).collect()
    }
}

/// A function that reads files; it knows no folders.
pub(super) struct ByFunction<F>(pub(super) F);

impl<F: Fn(&Path) -> io::Result<Vec<u8>>> ReadFiles for ByFunction<F> {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        (self.0)(path)
    }

    fn names(&self, _: &Path) -> io::Result<Vec<OsString>> {
        Err(io::Error::new(io::ErrorKind::Unsupported, "there are no folders here"))
    }

    fn is_in_place(&self) -> bool {
        false
    }
}

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
    /// The configuration itself; None if it is embedded.
    configuration: Option<PathBuf>,
    /// What relative paths are relative to: the directory of the file that is being read.
    directory: PathBuf,
    reader: &'a dyn ReadFiles,
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
    pub(super) fn new(configuration: Option<&Path>, content: &[u8], reader: &'a dyn ReadFiles) -> Self {
        let mut files = NamedFiles {
            configuration: configuration.map(Path::to_owned),
            directory: directory_of(configuration),
            reader,
            files: configuration.map(Path::to_owned).into_iter().collect(),
            named: Vec::new(),
            hash: Sha256::new(),
        };
        files.add_to_hash(content);
        files
    }

    /// Whether the files are where the configuration says, so that who may read them there matters.
    pub(super) fn are_in_place(&self) -> bool {
        self.reader.is_in_place()
    }

    /// From now on, what is named stands in this file, and relative paths are relative to its directory. None: in the
    /// configuration itself.
    pub(super) fn now_in(&mut self, file: Option<&Path>) {
        self.directory = directory_of(file.or(self.configuration.as_deref()));
    }

    /// `name` relative to the directory of the file that names it.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// A path relative to the configuration's directory.
    pub(super) fn path_from_start(&self, path: &Path) -> PathBuf {
        directory_of(self.configuration.as_deref()).join(path)
    }

    /// Whether a path, relative to the configuration's directory, is that of the configuration itself.
    pub(super) fn is_configuration(&self, path: &Path) -> bool {
        self.configuration.as_deref() == Some(self.path_from_start(path).as_path())
    }

    /// The names in a folder, whose path is relative to the configuration's directory.
    pub(super) fn names(&self, folder: &Path) -> io::Result<Vec<OsString>> {
        let folder = self.path_from_start(folder);
        self.reader.names(if folder.as_os_str().is_empty() { Path::new(".") } else { &folder })
    }

    /// The content of an included file; as [`NamedFiles::read`].
    pub(super) fn read_included(
        &mut self,
        path: &Path,
        position: Position,
        report: &Report<'_>,
    ) -> Option<Vec<u8>> {
        self.now_in(None);
        self.read(&path.to_string_lossy(), position, report)
    }

    /// The content of a file named at `position`; None if the file is missing, unreadable or empty, which is reported.
    pub(super) fn read(&mut self, name: &str, position: Position, report: &Report<'_>) -> Option<Vec<u8>> {
        let path = self.path(name);
        let content = self.reader.read(&path);
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
                let whose = match directory_of(self.configuration.as_deref()) == self.directory {
                    true => "the configuration's directory",
                    false => "the directory of the file that names it",
                };
                report.error(
                    position,
                    format!("cannot read {shown}: {error}; a relative path is relative to {whose}"),
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

fn directory_of(file: Option<&Path>) -> PathBuf {
    file.and_then(Path::parent).unwrap_or(Path::new("")).to_owned()
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
