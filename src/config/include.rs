//! The files of policies that a configuration includes: `include: [policies.d/*.yaml]`.
//!
//! A pattern has wildcards in any part of the path; each part is looked up in the folders that the parts before it found.
//! The files are read in the order of their paths, compared part by part, whichever pattern found them. They have
//! policies and nothing else, so a team that may edit its file changes no listener, no log and no limit. Not here: what
//! the policies mean, and whether two files are for the same clients ([`super::policies`]).

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use globset::{GlobBuilder, GlobMatcher};

use super::file::{IncludedFile, PolicyFile};
use super::finding::{Position, Report, nearest};
use super::keys::List;
use super::named_files::NamedFiles;
use super::placeholders;
use super::text::text;
use super::tree::{self, Kind, Node};
use super::typed::{self, At};
use super::values::FilePath;
use crate::words::io_error::reason;
use crate::words::quote::quoted;

/// The number of files that one configuration includes: far more than an organisation has teams. A pattern that is wider
/// than meant must not read a whole disk.
const MAX_FILES: usize = 1_000;

/// One file of policies.
pub(super) struct Included<'r> {
    /// What paths in it are relative to its directory by.
    pub(super) path: PathBuf,
    /// For findings in it.
    pub(super) report: Report<'r>,
    pub(super) policies: List<PolicyFile>,
}

/// Reads every file that `list` names, in their order. What is wrong is reported: a pattern without a match in the
/// configuration itself, whose report is `report`, and the rest in the file.
pub(super) fn read<'r>(
    list: &List<FilePath>,
    report: &Report<'r>,
    files: &mut NamedFiles<'_>,
) -> Vec<Included<'r>> {
    let mut found: BTreeMap<PathBuf, Position> = BTreeMap::new();
    for at in list.as_ref().and_then(|at| at.value.as_ref()).into_iter().flatten() {
        let Some(pattern) = at.value.as_ref().map(|path| &*path.0) else { continue };
        match matching(pattern, files) {
            Ok(paths) => paths.into_iter().for_each(|path| _ = found.entry(path).or_insert(at.position)),
            Err(error) => report.error(at.position, format!("{}: {error}", quoted(pattern))),
        }
    }
    if let Some((path, position)) = found.iter().nth(MAX_FILES) {
        let text = format!(
            "more than {MAX_FILES} files are included, {} is the next: write narrower patterns, or put policies of several \
             files into one",
            quoted(&path.display().to_string())
        );
        report.error(*position, text);
    }
    let mut included = Vec::new();
    for (path, position) in found.into_iter().take(MAX_FILES) {
        let path = path.as_path();
        if files.is_configuration(path) {
            let text = "the configuration would include itself: put the files of policies into a folder of their own, such as \
                        `policies.d`";
            report.error(position, text);
            continue;
        }
        let Some(content) = files.read_included(path, position, report) else { continue };
        let path = files.path_from_start(path);
        let of_file = report.of(&path.display().to_string());
        let policies = parse(&content, &of_file, report.file());
        included.push(Included { path, report: of_file, policies });
    }
    included
}

/// The files that a pattern names, relative to the configuration's directory.
fn matching(pattern: &str, files: &NamedFiles<'_>) -> Result<Vec<PathBuf>, String> {
    if pattern.ends_with('/') {
        return Err(format!("this names a folder: write the files in it, such as {pattern}*.yaml"));
    }
    let root = if pattern.starts_with('/') { "/" } else { "" };
    let mut found = vec![PathBuf::from(root)];
    // From the first wildcard on, each part is looked for, and what has no such part is passed over.
    let mut looked = false;
    for part in pattern.split('/').filter(|part| !matches!(*part, "" | ".")) {
        let wild = part.contains(['*', '?', '[', '{']);
        if !wild && !looked {
            found.iter_mut().for_each(|path| path.push(part));
            continue;
        }
        if part == ".." {
            return Err("`..` after a wildcard leads out of what was found: write it before".to_owned());
        }
        let matcher = matcher(part)?;
        let mut next = Vec::new();
        for folder in &found {
            let mut names: Vec<OsString> = match files.names(folder) {
                Ok(names) => names,
                Err(error) if looked && is_no_folder(&error) => continue,
                Err(error) => return Err(format!("cannot read the folder: {}", reason(&error))),
            };
            let shows = |name: &OsString| part.starts_with('.') || !name.as_encoded_bytes().starts_with(b".");
            names.retain(|name| shows(name) && matcher.is_match(Path::new(name)));
            next.extend(names.into_iter().map(|name| folder.join(name)));
        }
        (found, looked) = (next, true);
    }
    if found.is_empty() {
        return Err("no file has such a path: correct the pattern, or remove it. A name that begins with a dot needs a pattern \
                    that begins with one"
            .to_owned());
    }
    Ok(found)
}

fn is_no_folder(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotADirectory | io::ErrorKind::NotFound)
}

/// The matcher of one part of a path.
fn matcher(part: &str) -> Result<GlobMatcher, String> {
    if part.contains("**") {
        return Err("`**` is no wildcard here: write `*`, which is any name, once for each folder".to_owned());
    }
    match GlobBuilder::new(part).literal_separator(true).backslash_escape(false).build() {
        Ok(glob) => Ok(glob.compile_matcher()),
        Err(error) => Err(format!("not a pattern: {}; write `*` for any characters of a name", error.kind())),
    }
}

/// The policies of one file. `configuration` is the name of the file that includes it.
fn parse(content: &[u8], report: &Report<'_>, configuration: &str) -> List<PolicyFile> {
    let text = text(content, report)?;
    let nothing = |position| report.warning(position, "the file has no policies: remove it, or write some");
    let Some(mut root) = tree::parse(text, report) else {
        if text.lines().map(str::trim).all(|line| line.is_empty() || line.starts_with('#')) {
            nothing(Position::START);
        }
        return None;
    };
    placeholders::tell(&root, report);
    refuse_other_keys(&mut root, report, configuration);
    let file = typed::read::<IncludedFile>(&root, report).and_then(|at| at.value)?;
    let is_empty = |at: &At<Vec<_>>| at.value.as_ref().is_some_and(Vec::is_empty);
    match &file.policies {
        None if !report.is_misspelled(root.position, "policies") => nothing(root.position),
        Some(at) if is_empty(at) => nothing(at.position),
        _ => {}
    }
    file.policies
}

/// Reports every key that belongs into the configuration itself, and takes it out. A misspelt `policies` stays.
fn refuse_other_keys(root: &mut Node<'_>, report: &Report<'_>, configuration: &str) {
    let Kind::Map(entries) = &mut root.kind else { return };
    entries.retain(|(key, _)| {
        let (Kind::Plain(name) | Kind::Quoted { text: name, .. }) = &key.kind else { return true };
        if nearest(name, &["policies"]).is_some() {
            return true;
        }
        let (name, configuration) = (quoted(name), quoted(configuration));
        let text = if name == "`include`" {
            format!("an included file includes none: name the files in {configuration}")
        } else {
            format!("{name} has no place in an included file, which has only `policies`: write it in {configuration}")
        };
        report.error(key.position, text);
        false
    });
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::super::finding::Findings;
    use super::super::named_files::ReadFiles;
    use super::*;

    /// A tree of files with these paths.
    struct Tree(BTreeSet<PathBuf>);

    impl Tree {
        fn of(paths: &[&str]) -> Self {
            Tree(paths.iter().map(PathBuf::from).collect())
        }
    }

    impl ReadFiles for Tree {
        fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
            match self.0.contains(path) {
                true => Ok(b"policies: [{name: p}]".to_vec()),
                false => Err(io::ErrorKind::NotFound.into()),
            }
        }

        fn names(&self, folder: &Path) -> io::Result<Vec<OsString>> {
            if self.0.contains(folder) {
                return Err(io::ErrorKind::NotADirectory.into());
            }
            let folder = if folder == Path::new(".") { Path::new("") } else { folder };
            let below = self.0.iter().filter_map(|path| path.strip_prefix(folder).ok()?.iter().next());
            let names: BTreeSet<OsString> = below.map(ToOwned::to_owned).collect();
            if names.is_empty() {
                Err(io::ErrorKind::NotFound.into())
            } else {
                Ok(names.into_iter().rev().collect())
            }
        }
    }

    /// The files that these patterns include, and the findings about them.
    fn included(main: &str, tree: &Tree, patterns: &[&str]) -> (Vec<String>, Vec<String>) {
        let findings = Findings::default();
        let report = findings.of(main);
        let mut files = NamedFiles::new(Some(Path::new(main)), b"", tree);
        let yaml = format!("{:?}", patterns);
        let root = tree::parse(&yaml, &report).expect("a list");
        let list = typed::read::<Vec<At<FilePath>>>(&root, &report);
        let read = read(&list, &report, &mut files);
        let paths = read.iter().map(|file| file.path.display().to_string()).collect();
        (paths, findings.finish().iter().map(ToString::to_string).collect())
    }

    const TREE: [&str; 12] = [
        "c/egressd.yaml",
        "c/policies.d/b.yaml",
        "c/policies.d/a.yaml",
        "c/policies.d/a.yml",
        "c/policies.d/..data/a.yaml",
        "c/policies.d/.a.yaml.swp",
        "c/policies.d/.hidden.yaml",
        "c/teams/one/egress.yaml",
        "c/teams/two/egress.yaml",
        "c/teams/three/other.yaml",
        "c/teams/README.md",
        "other/z.yaml",
    ];

    #[test]
    fn a_pattern_names_files_in_the_order_of_their_paths() {
        let tree = Tree::of(&TREE);
        let rows: &[(&[&str], &[&str])] = &[
            (&["policies.d/*.yaml"], &["c/policies.d/a.yaml", "c/policies.d/b.yaml"]),
            (&["policies.d/b.yaml", "policies.d/a.yaml"], &["c/policies.d/a.yaml", "c/policies.d/b.yaml"]),
            (
                &["policies.d/*.yaml", "./policies.d//a.*"],
                &["c/policies.d/a.yaml", "c/policies.d/a.yml", "c/policies.d/b.yaml"],
            ),
            (
                &["policies.d/?.{yaml,yml}"],
                &["c/policies.d/a.yaml", "c/policies.d/a.yml", "c/policies.d/b.yaml"],
            ),
            (&["policies.d/.h*"], &["c/policies.d/.hidden.yaml"]),
            (&["teams/*/egress.yaml"], &["c/teams/one/egress.yaml", "c/teams/two/egress.yaml"]),
            (&["teams/[a-o]*/*.yaml"], &["c/teams/one/egress.yaml"]),
            (&["../other/*.yaml", "policies.d/b*"], &["c/../other/z.yaml", "c/policies.d/b.yaml"]),
        ];
        for (patterns, want) in rows {
            let (mut got, told) = included("c/egressd.yaml", &tree, patterns);
            if patterns[0].starts_with("..") {
                // This tree does not know what `..` is.
                assert_eq!((got.len(), told.len()), (1, 1), "{told:?}");
                got.insert(0, want[0].to_string());
            } else {
                assert_eq!(told, [""; 0], "{patterns:?}");
            }
            assert_eq!(got, *want, "{patterns:?}");
        }
        let here = Tree::of(&["egressd.yaml", "team-b.yaml", "team-a.yaml"]);
        assert_eq!(included("egressd.yaml", &here, &["team-*.yaml"]).0, ["team-a.yaml", "team-b.yaml"]);
        assert_eq!(included("egressd.yaml", &here, &["/c/*"]).0, [""; 0]);
    }

    #[test]
    fn a_pattern_that_names_nothing_or_the_configuration_says_what_to_write() {
        let tree = Tree::of(&TREE);
        let rows = [
            ("policies.d/*.json", "c/egressd.yaml:1:2: error: `policies.d/*.json`: no file has such a path"),
            (
                "policies.d/",
                "c/egressd.yaml:1:2: error: `policies.d/`: this names a folder: write the files in it, such as policies.d/*.yaml",
            ),
            (
                "policies/*.yaml",
                "c/egressd.yaml:1:2: error: `policies/*.yaml`: cannot read the folder: there is no such file",
            ),
            ("teams/*/no.yaml", "c/egressd.yaml:1:2: error: `teams/*/no.yaml`: no file has such a path"),
            ("**/a.yaml", "c/egressd.yaml:1:2: error: `**/a.yaml`: `**` is no wildcard here"),
            ("teams/*/../a.yaml", "c/egressd.yaml:1:2: error: `teams/*/../a.yaml`: `..` after a wildcard"),
            ("policies.d/[a.yaml", "c/egressd.yaml:1:2: error: `policies.d/[a.yaml`: not a pattern: "),
            ("*.yaml", "c/egressd.yaml:1:2: error: the configuration would include itself"),
            ("egressd.yaml", "c/egressd.yaml:1:2: error: the configuration would include itself"),
            (
                "policies.d/none.yaml",
                "c/egressd.yaml:1:2: error: cannot read `c/policies.d/none.yaml`: there is no such file",
            ),
        ];
        for (pattern, want) in rows {
            let (got, told) = included("c/egressd.yaml", &tree, &[pattern]);
            assert_eq!(got, [""; 0], "{pattern}");
            assert_eq!(told.len(), 1, "{pattern}: {told:?}");
            assert!(told[0].starts_with(want), "{pattern}: {told:?}");
        }
    }

    #[test]
    fn a_pattern_that_is_too_wide_does_not_read_everything() {
        let paths: Vec<String> = (0..=MAX_FILES).map(|number| format!("d/{number:05}")).collect();
        let tree = Tree(paths.iter().map(PathBuf::from).collect());
        let (got, told) = included("egressd.yaml", &tree, &["d/*"]);
        assert_eq!(got.len(), MAX_FILES);
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(
            told[0].starts_with(
                "egressd.yaml:1:2: error: more than 1000 files are included, `d/01000` is the next"
            ),
            "{told:?}"
        );
    }

    proptest! {
        /// Whatever the patterns are: each file once, in order, and none that begins with a dot unless asked for.
        #[test]
        fn no_pattern_finds_a_file_twice_or_out_of_order(
            patterns in prop::collection::vec("[a-c*?./]{1,10}", 1..5),
            paths in prop::collection::btree_set("[a-c]{1,2}(/[.]?[a-c]{1,2}){0,2}", 1..12),
        ) {
            let tree = Tree(paths.iter().map(PathBuf::from).collect());
            let patterns: Vec<&str> = patterns.iter().map(String::as_str).collect();
            let (got, _) = included("main.yaml", &tree, &patterns);
            let paths: Vec<&Path> = got.iter().map(Path::new).collect();
            prop_assert!(paths.windows(2).all(|two| two[0] < two[1]), "{:?}", paths);
            let dotted = patterns.iter().any(|pattern| pattern.starts_with('.') || pattern.contains("/."));
            prop_assert!(dotted || !got.iter().any(|path| path.contains("/.")), "{:?}", got);
        }
    }
}
