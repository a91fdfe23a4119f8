//! Where lines go: standard output, or a file that is appended to.
//!
//! Not here: when to write, and what to do about an error ([`super::writer`]).

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags};

/// Takes lines. Called only by the writer thread; a call may block for any time.
pub trait Output: Send {
    /// Takes some of `bytes` and returns how many, as [`Write::write`] does.
    ///
    /// # Errors
    /// The output's error. Then none of `bytes` was taken.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize>;

    /// Opens the output again by its name, if it has one. On an error the old one stays.
    ///
    /// # Errors
    /// As for opening a file.
    fn reopen(&mut self) -> io::Result<Reopened> {
        Ok(Reopened::Same)
    }

    /// For the diagnostics.
    fn name(&self) -> String;
}

/// What [`Output::reopen`] found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reopened {
    /// The same file, or nothing that can be opened again.
    Same,
    /// A different file: a line that was half written to the old one must be written again whole.
    Other,
}

/// Standard output, blocking. `O_NONBLOCK` is never set: the open file description is shared with the parent process,
/// and often with stderr, and EAGAIN would then hit programs that do not expect it.
pub fn stdout() -> io::Result<Box<dyn Output>> {
    // A separate descriptor: std's stdout has a lock and a line buffer in front.
    let descriptor = io::stdout().as_fd().try_clone_to_owned()?;
    Ok(Box::new(Stdout(File::from(descriptor))))
}

struct Stdout(File);

impl Output for Stdout {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn name(&self) -> String {
        "standard output".to_owned()
    }
}

/// A file by name: created with mode 0640 if it is missing, appended to, opened again by [`Output::reopen`] (a
/// rotation renames it first). A named pipe works while something reads it.
///
/// # Errors
/// As for opening a file; `ENXIO` for a named pipe that nothing reads.
pub fn file(path: &Path) -> io::Result<Box<dyn Output>> {
    Ok(Box::new(Appended { file: open(path)?, path: path.to_owned() }))
}

struct Appended {
    file: File,
    path: PathBuf,
}

impl Output for Appended {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn reopen(&mut self) -> io::Result<Reopened> {
        let new = open(&self.path)?;
        let (old, now) = (rustix::fs::fstat(&self.file)?, rustix::fs::fstat(&new)?);
        self.file = new;
        let same = (old.st_dev, old.st_ino) == (now.st_dev, now.st_ino);
        Ok(if same { Reopened::Same } else { Reopened::Other })
    }

    fn name(&self) -> String {
        self.path.display().to_string()
    }
}

fn open(path: &Path) -> io::Result<File> {
    // O_NONBLOCK only for opening, so that a named pipe without a reader is an error now instead of a hang.
    let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOCTTY;
    let descriptor = rustix::fs::open(path, flags | OFlags::NONBLOCK, Mode::from_raw_mode(0o640))?;
    rustix::fs::fcntl_setfl(&descriptor, OFlags::APPEND)?;
    let mut file = File::from(descriptor);
    let stat = rustix::fs::fstat(&file)?;
    if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile && ends_in_half_a_line(path) {
        // A kill in the middle of a write left it; without this, our first record would be appended to it. If the
        // newline cannot be written, neither can the record after it, and that error is reported there.
        let _ = file.write(b"\n");
    }
    Ok(file)
}

/// False if it is unknown: a log directory may allow appending but not reading.
fn ends_in_half_a_line(path: &Path) -> bool {
    let last = || -> io::Result<u8> {
        let mut file = File::open(path)?;
        file.seek(SeekFrom::End(-1))?;
        let mut byte = [0];
        file.read_exact(&mut byte)?;
        Ok(byte[0])
    };
    last().is_ok_and(|byte| byte != b'\n')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_appended_to_and_opened_again_after_a_rotation() {
        let directory = tempfile::tempdir().expect("a directory");
        let (path, rotated) = (directory.path().join("access.log"), directory.path().join("access.log.1"));
        std::fs::write(&path, "old\n").expect("written");
        let mut output = file(&path).expect("opened");
        assert_eq!(output.write(b"one\n").expect("written"), 4);
        assert_eq!(output.reopen().expect("opened"), Reopened::Same);
        std::fs::rename(&path, &rotated).expect("renamed");
        assert_eq!(output.write(b"two\n").expect("written"), 4);
        assert_eq!(output.reopen().expect("opened"), Reopened::Other);
        assert_eq!(output.write(b"three\n").expect("written"), 6);
        assert_eq!(std::fs::read_to_string(&rotated).expect("read"), "old\none\ntwo\n");
        assert_eq!(std::fs::read_to_string(&path).expect("read"), "three\n");
        assert_eq!(output.name(), path.display().to_string());
    }

    #[test]
    fn a_failed_reopening_keeps_the_old_file() {
        let directory = tempfile::tempdir().expect("a directory");
        let (inner, moved) = (directory.path().join("logs"), directory.path().join("moved"));
        std::fs::create_dir(&inner).expect("made");
        let mut output = file(&inner.join("access.log")).expect("opened");
        std::fs::rename(&inner, &moved).expect("renamed");
        assert!(output.reopen().is_err());
        output.write(b"kept\n").expect("written");
        assert_eq!(std::fs::read_to_string(moved.join("access.log")).expect("read"), "kept\n");
    }

    #[test]
    fn half_a_line_of_a_killed_run_is_ended_first() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("access.log");
        std::fs::write(&path, "{\"whole\":1}\n{\"ha").expect("written");
        file(&path).expect("opened").write(b"{}\n").expect("written");
        assert_eq!(std::fs::read_to_string(&path).expect("read"), "{\"whole\":1}\n{\"ha\n{}\n");
    }

    #[test]
    fn a_named_pipe_without_a_reader_is_an_error_and_no_hang() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("pipe");
        rustix::fs::mknodat(rustix::fs::CWD, &path, FileType::Fifo, Mode::from_raw_mode(0o600), 0)
            .expect("made");
        assert!(file(&path).is_err());
    }

    #[test]
    fn standard_output_stays_blocking() {
        let before = rustix::fs::fcntl_getfl(io::stdout()).expect("flags");
        let mut output = stdout().expect("cloned");
        assert_eq!(output.reopen().expect("nothing to open"), Reopened::Same);
        assert_eq!(rustix::fs::fcntl_getfl(io::stdout()).expect("flags"), before);
    }
}
