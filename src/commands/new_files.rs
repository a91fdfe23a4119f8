//! Writes files with new keys: for their owner alone from the first moment, but for what is public; all of them or none, and over
//! nothing.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::words::io_error::reason;

/// The mode of a file for its owner alone.
pub(super) const SECRET: u32 = 0o600;
/// The mode of a file for every user: clients run as other users, and a copy keeps its mode.
pub(super) const PUBLIC: u32 = 0o644;

/// Writes files, by name, content and mode, into `directory`, which is made if it is not there.
///
/// # Errors
/// A sentence. Nothing of it is then left behind.
pub(super) fn write(directory: &Path, files: &[(&str, &str, u32)]) -> Result<(), String> {
    let there: Vec<&str> = files
        .iter()
        .map(|(name, ..)| *name)
        .filter(|name| directory.join(name).symlink_metadata().is_ok())
        .collect();
    if !there.is_empty() {
        return Err(format!(
            "{} has {} already, and nothing is overwritten: write another directory, or move them away",
            directory.display(),
            there.join(", ")
        ));
    }
    let is_new = match DirBuilder::new().mode(0o700).create(directory) {
        Ok(()) => true,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && directory.is_dir() => false,
        Err(error) => return Err(format!("cannot make {}: {}", directory.display(), reason(&error))),
    };
    if !is_new {
        is_for_few(directory)?;
    }
    let mut written: Vec<PathBuf> = Vec::new();
    for (name, content, mode) in files {
        let path = directory.join(name);
        if let Err(error) = create(&path, content, *mode, &mut written) {
            // What cannot be taken back stays: there is no more to do.
            written.iter().for_each(|path| drop(fs::remove_file(path)));
            if is_new {
                drop(fs::remove_dir(directory));
            }
            return Err(format!("cannot write {}: {}", path.display(), reason(&error)));
        }
    }
    // The names of the files are in the directory.
    fs::File::open(directory)
        .and_then(|opened| opened.sync_all())
        .map_err(|error| format!("cannot write {}: {}", directory.display(), reason(&error)))
}

/// A user that may write a directory may replace the files that are written now.
fn is_for_few(directory: &Path) -> Result<(), String> {
    let shown = directory.display();
    let failed = |error: io::Error| format!("cannot look at {shown}: {}", reason(&error));
    // With a slash at its end, the name of a link would be followed.
    let bare: PathBuf = directory.components().collect();
    if bare.symlink_metadata().map_err(failed)?.is_symlink() {
        let leads = fs::canonicalize(directory).map_err(failed)?;
        return Err(format!(
            "{shown} is a symbolic link to {}, and keys are not written through one: write `--out {}` if that is meant",
            leads.display(),
            leads.display()
        ));
    }
    let mode = fs::metadata(directory).map_err(failed)?.permissions().mode() & 0o7777;
    // Where the sticky bit is set, as in /tmp, only the owner of a file can replace it.
    if mode & 0o022 != 0 && mode & 0o1000 == 0 {
        return Err(format!(
            "other users may write {shown} (mode {mode:04o}), and could put files of theirs in place of these: \
             write another directory, or `chmod go-w {shown}`"
        ));
    }
    Ok(())
}

/// A new file, noted in `written` as soon as it is there.
fn create(path: &Path, content: &str, mode: u32, written: &mut Vec<PathBuf>) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    written.push(path.to_owned());
    // Whatever the umask took away.
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    file.write_all(content.as_bytes())?;
    file.sync_all()
}
