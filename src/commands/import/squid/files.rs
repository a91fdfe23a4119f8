//! Where the files of a Squid configuration are: on disk, below a root into which they were copied, or in ConfigMaps.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use globset::GlobBuilder;

use super::configmap;
use crate::words::small_sort::SmallSort as _;

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
    Maps { files: BTreeMap<String, Vec<u8>>, places: Places },
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
        let (files, main) = configmap::read(yaml)?;
        let places = Places::of(&files, &main);
        Ok((Files(FileSource::Maps { files, places }), main))
    }

    /// The path under which egressd.yaml names a file that Squid's configuration names `path`.
    pub(super) fn written(&self, path: &str) -> String {
        match &self.0 {
            FileSource::Disk { root: Some(root) } if path.starts_with('/') => {
                root.join(path.trim_start_matches('/')).display().to_string()
            }
            FileSource::Disk { .. } => path.to_owned(),
            FileSource::Maps { .. } => base(path).to_owned(),
        }
    }

    /// Whether the files come out of ConfigMaps.
    pub(super) fn are_maps(&self) -> bool {
        matches!(self.0, FileSource::Maps { .. })
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
            FileSource::Maps { files, .. } => {
                let base = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
                let missing = || io::Error::new(io::ErrorKind::NotFound, "no ConfigMap has such a key");
                files.get(base).cloned().ok_or_else(missing)
            }
        }
    }

    /// The files that an `include` names, sorted; the pattern itself where it is none. `within`: the files that are being
    /// read, of which no key of a ConfigMap lies where the pattern looks.
    pub(super) fn matching(&self, pattern: &str, within: &[Arc<str>]) -> Vec<String> {
        if !pattern.contains(['*', '?', '[']) {
            return vec![pattern.to_owned()];
        }
        let last = base(pattern);
        let glob = GlobBuilder::new(last).literal_separator(true).build();
        let Ok(matcher) = glob.map(|glob| glob.compile_matcher()) else { return Vec::new() };
        let directory = pattern.strip_suffix(last).unwrap_or_default();
        let mut names: Vec<String> = match &self.0 {
            FileSource::Maps { files, places } => {
                let reading = |key: &str| within.iter().any(|file| base(file) == key);
                files
                    .keys()
                    .filter(|key| !reading(key) && places.may_be_in(key, directory))
                    .cloned()
                    .collect()
            }
            FileSource::Disk { .. } => {
                let written = self.written(if directory.is_empty() { "./" } else { directory });
                let entries = std::fs::read_dir(written).into_iter().flatten().flatten();
                entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
            }
        };
        names.retain(|name| !name.starts_with('.') && matcher.is_match(name));
        names.small_sort();
        names.into_iter().map(|name| format!("{directory}{name}")).collect()
    }
}

/// In which directories keys of ConfigMaps lie, as far as the configuration tells: a key alone has none.
#[derive(Debug)]
struct Places(BTreeMap<String, BTreeSet<String>>);

impl Places {
    /// Looks at every path that is written in any of the files.
    fn of(files: &BTreeMap<String, Vec<u8>>, main: &str) -> Self {
        let mut places: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for content in files.values() {
            let text = String::from_utf8_lossy(content);
            let lines = text.lines().filter(|line| !line.trim_start().starts_with('#'));
            for word in lines.flat_map(|line| line.split([' ', '\t', '\r', '"', '\'', '(', ')', '=', ':'])) {
                let Some(directory) = word.strip_suffix(base(word)).filter(|_| word.starts_with('/')) else {
                    continue;
                };
                if files.contains_key(base(word)) {
                    places.entry(base(word).to_owned()).or_default().insert(directory.to_owned());
                }
            }
        }
        // Squid's own configuration is not among those that it includes.
        places.entry(main.to_owned()).or_default();
        Places(places)
    }

    /// Whether a key may be a file of this directory: nothing says that it lies elsewhere.
    fn may_be_in(&self, key: &str, directory: &str) -> bool {
        self.0.get(key).is_none_or(|places| places.contains(directory))
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

    /// A key of a ConfigMap has no directory. What is being read, and what is named in another one, is not in this one.
    #[test]
    fn a_pattern_takes_the_keys_that_may_lie_in_its_directory() {
        let maps = |data: &[(&str, &str)]| {
            let data: serde_json::Map<String, serde_json::Value> =
                data.iter().map(|(key, text)| ((*key).to_owned(), (*text).into())).collect();
            let maps = serde_json::json!({"kind": "ConfigMap", "data": data});
            Files::in_config_maps(&maps.to_string()).expect("ConfigMaps").0
        };
        let include = "include /etc/squid/conf.d/*.conf\n";
        let files = maps(&[("squid.conf", include), ("10-a.conf", ""), ("list", "")]);
        assert_eq!(files.matching("/etc/squid/conf.d/*.conf", &[]), ["/etc/squid/conf.d/10-a.conf"]);
        let both = format!("include /etc/squid/base.conf\n# include /etc/squid/10-a.conf\n{include}");
        let files =
            maps(&[("squid.conf", &both), ("10-a.conf", ""), ("base.conf", ""), (".hidden.conf", "")]);
        assert_eq!(files.matching("/etc/squid/conf.d/*.conf", &[]), ["/etc/squid/conf.d/10-a.conf"]);
        assert_eq!(files.matching("/etc/squid/ba*.conf", &[]), ["/etc/squid/base.conf"]);
        assert_eq!(files.matching("/etc/squid/base.conf", &[]), ["/etc/squid/base.conf"]);
        let reading = ["/etc/squid/conf.d/10-a.conf".into()];
        let files =
            maps(&[("squid.conf", include), ("10-a.conf", "include /etc/squid/more.d/*\n"), ("20-b", "")]);
        assert_eq!(files.matching("/etc/squid/more.d/*", &reading), ["/etc/squid/more.d/20-b"]);
    }
}
