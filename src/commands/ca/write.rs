//! The files that are made, and their names. Not here: how they are written ([`crate::commands::new_files`]).

use std::path::Path;

use super::make::Made;
use crate::commands::new_files::{self, PUBLIC, SECRET};

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
    let mut files = vec![
        (AUTHORITY_KEY, made.authority.key.as_str(), SECRET),
        (AUTHORITY, &made.authority.certificate, SECRET),
    ];
    if let Some((root, _)) = &made.root {
        files.extend([(ROOT_KEY, root.key.as_str(), SECRET), (ROOT, &root.certificate, PUBLIC)]);
    }
    new_files::write(directory, &files)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, DirBuilder};
    use std::os::unix::fs::{DirBuilderExt, PermissionsExt};

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
