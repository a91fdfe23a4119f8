//! Puts the files on disk: for their owner alone from the first moment, all but the root, which is public; all of them or none,
//! and over nothing.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::make::Made;
use crate::words::io_error::reason;

/// The names of the files.
pub(super) const ROOT: &str = "root.crt";
pub(super) const ROOT_KEY: &str = "root.key";
pub(super) const AUTHORITY: &str = "authority.crt";
pub(super) const AUTHORITY_KEY: &str = "authority.key";

/// Writes what was made into `directory`, which is made if it is not there.
///
/// # Errors
/// A sentence. Nothing of it is then left behind.
pub(super) fn write(directory: &Path, made: &Made) -> Result<(), String> {
    let mut files = vec![(AUTHORITY_KEY, &made.authority.key), (AUTHORITY, &made.authority.certificate)];
    if let Some((root, _)) = &made.root {
        files.extend([(ROOT_KEY, &root.key), (ROOT, &root.certificate)]);
    }
    let there: Vec<&str> = files
        .iter()
        .map(|(name, _)| *name)
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
    for (name, content) in files {
        let path = directory.join(name);
        // Clients run as other users, and a copy of the root keeps its mode.
        let mode = if name == ROOT { 0o644 } else { 0o600 };
        if let Err(error) = create(&path, content, mode, &mut written) {
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
    // Whatever the umask took away: of the root nothing is secret.
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    file.write_all(content.as_bytes())?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::super::make::Pair;
    use super::*;

    fn made() -> Made {
        let pair =
            |name: &str| Pair { certificate: format!("{name} certificate"), key: format!("{name} key") };
        let until = jiff::civil::date(2030, 1, 1);
        Made { root: Some((pair("root"), until)), authority: pair("authority"), authority_until: until }
    }

    fn names(directory: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn the_files_are_for_their_owner_alone_and_the_root_is_for_all() {
        let parent = tempfile::tempdir().unwrap();
        let directory = parent.path().join("ca");
        write(&directory, &made()).unwrap();
        assert_eq!(names(&directory), ["authority.crt", "authority.key", "root.crt", "root.key"]);
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&directory), 0o700);
        for name in names(&directory) {
            let want = if name == "root.crt" { 0o644 } else { 0o600 };
            assert_eq!(mode(&directory.join(&name)), want, "{name}");
        }
        assert_eq!(fs::read_to_string(directory.join("authority.key")).unwrap(), "authority key");
    }

    #[test]
    fn nothing_is_overwritten_and_nothing_is_left_half_done() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        fs::write(path.join("notes.txt"), "kept").unwrap();
        std::os::unix::fs::symlink("/nonexistent", path.join("root.crt")).unwrap();
        fs::write(path.join("authority.key"), "kept").unwrap();
        let error = write(path, &made()).unwrap_err();
        assert!(error.contains("has authority.key, root.crt already, and nothing is overwritten"), "{error}");
        assert_eq!(names(path), ["authority.key", "notes.txt", "root.crt"]);
        assert_eq!(fs::read_to_string(path.join("authority.key")).unwrap(), "kept");

        // A directory that is not there in one that is not there either.
        let error = write(&path.join("a/b"), &made()).unwrap_err();
        assert!(error.contains("a/b: there is no such"), "{error}");
        // A file where the directory should be.
        let error = write(&path.join("notes.txt"), &made()).unwrap_err();
        assert!(error.starts_with("cannot make "), "{error}");
    }

    #[test]
    fn a_directory_that_others_may_write_and_a_link_are_refused() {
        let parent = tempfile::tempdir().unwrap();
        let directory = parent.path().join("ca");
        fs::create_dir(&directory).unwrap();
        for (mode, refused) in [(0o777, true), (0o770, true), (0o702, true), (0o1777, false)] {
            fs::set_permissions(&directory, fs::Permissions::from_mode(mode)).unwrap();
            match (write(&directory, &made()), refused) {
                (Ok(()), false) => assert_eq!(names(&directory).len(), 4),
                (Err(error), true) => {
                    assert!(
                        error.contains(&format!("(mode {mode:04o})")) && error.contains("chmod go-w"),
                        "{error}"
                    );
                    assert!(names(&directory).is_empty());
                }
                (got, _) => panic!("{mode:o}: {got:?}"),
            }
        }
        let (other, link) = (parent.path().join("other"), parent.path().join("link"));
        DirBuilder::new().mode(0o700).create(&other).unwrap();
        std::os::unix::fs::symlink("other", &link).unwrap();
        for link in [link.clone(), link.join("")] {
            let error = write(&link, &made()).unwrap_err();
            assert!(
                error.contains("is a symbolic link to ") && error.contains("/other` if that is meant"),
                "{error}"
            );
        }
        assert!(names(&other).is_empty());
        // A link further up is no concern: `/tmp` is one on some systems.
        write(&parent.path().join("link/below"), &made()).unwrap();
    }
}
