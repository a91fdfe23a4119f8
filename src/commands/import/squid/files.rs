//! Where the files of a Squid configuration are: on disk, below a root into which they were copied, or in ConfigMaps.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use globset::GlobBuilder;

use super::configmap;

/// Largest file that is read, in bytes: several times a list of a million names.
const MAX_FILE: u64 = 256 << 20;

/// The files, by the paths that Squid's configuration names.
#[derive(Debug)]
pub struct Files(FileSource);

#[derive(Debug)]
enum FileSource {
    /// Absolute paths are below `root`.
    Disk { root: Option<PathBuf> },
    /// By base name, as a `subPath` mount names them.
    Maps(BTreeMap<String, Vec<u8>>),
}

impl Files {
    /// Files on disk; absolute paths in the configuration are below `root`.
    pub fn on_disk(root: Option<PathBuf>) -> Self {
        Files(FileSource::Disk { root })
    }

    /// The data of ConfigMaps as `kubectl get cm -o yaml` prints them, and the key that is Squid's configuration.
    ///
    /// # Errors
    /// One sentence.
    pub fn in_config_maps(yaml: &str) -> Result<(Self, String), String> {
        let (maps, main) = configmap::read(yaml)?;
        Ok((Files(FileSource::Maps(maps)), main))
    }

    /// The path under which egressd.yaml names a file that Squid's configuration names `path`.
    pub(super) fn written(&self, path: &str) -> String {
        match &self.0 {
            FileSource::Disk { root: Some(root) } if path.starts_with('/') => {
                root.join(path.trim_start_matches('/')).display().to_string()
            }
            FileSource::Disk { .. } => path.to_owned(),
            FileSource::Maps(_) => base(path).to_owned(),
        }
    }

    /// Whether the files come out of ConfigMaps.
    pub(super) fn are_maps(&self) -> bool {
        matches!(self.0, FileSource::Maps(_))
    }

    /// The file that Squid's configuration names `path`.
    pub(super) fn read(&self, path: &str) -> io::Result<Vec<u8>> {
        self.read_written(Path::new(&self.written(path)))
    }

    /// The file that egressd.yaml names `path`.
    pub(super) fn read_written(&self, path: &Path) -> io::Result<Vec<u8>> {
        match &self.0 {
            FileSource::Disk { .. } => {
                if std::fs::metadata(path)?.len() > MAX_FILE {
                    return Err(io::Error::other("the file is larger than 256 MiB"));
                }
                std::fs::read(path)
            }
            FileSource::Maps(maps) => {
                let base = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
                let missing = || io::Error::new(io::ErrorKind::NotFound, "no ConfigMap has such a key");
                maps.get(base).cloned().ok_or_else(missing)
            }
        }
    }

    /// The files that an `include` names, sorted; the pattern itself where it is none.
    pub(super) fn matching(&self, pattern: &str) -> Vec<String> {
        if !pattern.contains(['*', '?', '[']) {
            return vec![pattern.to_owned()];
        }
        let last = base(pattern);
        let glob = GlobBuilder::new(last).literal_separator(true).build();
        let Ok(matcher) = glob.map(|glob| glob.compile_matcher()) else { return Vec::new() };
        let directory = pattern.strip_suffix(last).unwrap_or_default();
        let mut names: Vec<String> = match &self.0 {
            FileSource::Maps(maps) => maps.keys().cloned().collect(),
            FileSource::Disk { .. } => {
                let written = self.written(if directory.is_empty() { "./" } else { directory });
                let entries = std::fs::read_dir(written).into_iter().flatten().flatten();
                entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
            }
        };
        names.retain(|name| !name.starts_with('.') && matcher.is_match(name));
        names.sort();
        names.into_iter().map(|name| format!("{directory}{name}")).collect()
    }
}

/// The last part of a path.
pub(super) fn base(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absolute_paths_are_below_the_root_and_relative_ones_are_not() {
        let files = Files::on_disk(Some("copied".into()));
        assert_eq!(files.written("/etc/squid/whitelist"), "copied/etc/squid/whitelist");
        assert_eq!(files.written("whitelist"), "whitelist");
        assert_eq!(Files::on_disk(None).written("/etc/squid/whitelist"), "/etc/squid/whitelist");
    }
}
