//! The way from bytes to a [`Config`]: read, parse, type, mean, lint, with all findings at once.

use std::io;
use std::path::Path;

use jiff::Timestamp;

use super::file::ConfigFile;
use super::finding::{Finding, Findings, Position, Report};
use super::key_positions::Positions;
use super::named_files::{ByFunction, NamedFiles, OnDisk, ReadFiles};
use super::policies::WrittenPolicies;
use super::settings::Config;
use super::text::text;
use super::{build, include, placeholders, places, policies, tree, typed};
use crate::words::io_error::reason;
use crate::words::small_sort::SmallSort as _;

/// The embedded default: `config/egressd.yaml`.
pub const DEFAULT: &str = include_str!("../../config/egressd.yaml");

/// The name of the embedded default in findings and rules, instead of a file name.
pub const DEFAULT_NAME: &str = "default";

/// A configuration that can be used.
#[derive(Debug)]
pub struct Loaded {
    /// Valid as a whole.
    pub config: Config,
    /// The positions of its keys: a running server may find settings that it cannot change.
    pub positions: Positions,
    /// What is probably not meant, sorted by file, line, column. It contains no errors.
    pub warnings: Vec<Finding>,
}

/// Loads a file, or the embedded default for None.
///
/// # Errors
/// Every finding, warnings included, sorted by file, line, column; at least one is an error. A missing, unreadable or
/// empty file is an error at 1:1.
pub fn load(path: Option<&Path>) -> Result<Loaded, Vec<Finding>> {
    load_by(path, &OnDisk)
}

/// [`load`] with the caller's own way of reading, so that the caller learns every file that matters, including the
/// files of a refused configuration and missing files, and every folder in which it looks for files.
///
/// # Errors
/// As [`load`].
pub fn load_by(path: Option<&Path>, reader: &dyn ReadFiles) -> Result<Loaded, Vec<Finding>> {
    let now = Timestamp::now();
    let Some(path) = path else {
        return load_named(None, (DEFAULT_NAME, DEFAULT.as_bytes()), reader, now).0;
    };
    let name = path.display().to_string();
    match reader.read(path) {
        Ok(content) => {
            let (loaded, reporting) = load_named(Some(path), (&name, &content), reader, now);
            let with = |mut findings: Vec<Finding>| {
                findings.extend(reporting);
                findings.small_sort_by(|a, b| (&a.file, a.line, a.column).cmp(&(&b.file, b.line, b.column)));
                findings
            };
            match loaded {
                Ok(loaded) => Ok(Loaded { warnings: with(loaded.warnings), ..loaded }),
                Err(told) => Err(with(told)),
            }
        }
        Err(error) => {
            let findings = Findings::default();
            findings.of(&name).error(Position::START, format!("cannot read the file: {}", reason(&error)));
            Err(findings.finish())
        }
    }
}

/// Loads a configuration from memory. `name` is its path, as shown; named files are relative to it. `read_file` gets
/// the paths of the named files; there are no folders, so `include` has only paths without wildcards. The text is not in force anywhere, so nothing is told of policies in report mode: `import`, which makes
/// such policies when it is asked for them, says that by itself.
///
/// # Errors
/// As [`load`].
pub fn load_bytes(
    name: &str,
    content: &[u8],
    read_file: impl Fn(&Path) -> io::Result<Vec<u8>>,
) -> Result<Loaded, Vec<Finding>> {
    let reader = ByFunction(read_file);
    load_named(Some(Path::new(name)), (name, content), &reader, Timestamp::now()).0
}

/// The warnings of a valid configuration at a moment: some depend on the clock.
#[cfg(test)]
pub(crate) fn warnings_at(name: &str, text: &str, now: Timestamp) -> Vec<String> {
    let reader = ByFunction(|_: &Path| Err(io::ErrorKind::NotFound.into()));
    let (loaded, _) = load_named(Some(Path::new(name)), (name, text.as_bytes()), &reader, now);
    let warnings = loaded.unwrap_or_else(|findings| panic!("{findings:?}")).warnings;
    warnings.iter().map(ToString::to_string).collect()
}

/// [`load_bytes`] for text.
///
/// # Errors
/// As [`load`].
pub fn load_str(
    name: &str,
    text: &str,
    read_file: impl Fn(&Path) -> io::Result<Vec<u8>>,
) -> Result<Loaded, Vec<Finding>> {
    load_bytes(name, text.as_bytes(), read_file)
}

/// What was loaded, and a warning for each policy in report mode, also where it is refused. `now` is only for warnings.
fn load_named(
    path: Option<&Path>,
    (name, content): (&str, &[u8]),
    reader: &dyn ReadFiles,
    now: Timestamp,
) -> (Result<Loaded, Vec<Finding>>, Vec<Finding>) {
    let findings = Findings::default();
    let report = findings.of(name);
    let files = NamedFiles::new(path, content, reader);
    let reporting = Findings::default();
    let meant = mean(content, &report, &reporting.of(name), files, now);
    let refused = findings.has_errors();
    let told = findings.finish();
    let loaded = match meant {
        Some((config, positions)) if !refused => Ok(Loaded { config, positions, warnings: told }),
        _ => Err(told),
    };
    (loaded, reporting.finish())
}

fn mean(
    content: &[u8],
    report: &Report<'_>,
    reporting: &Report<'_>,
    mut files: NamedFiles<'_>,
    now: Timestamp,
) -> Option<(Config, Positions)> {
    let text = text(content, report)?;
    if text.trim().is_empty() {
        report.error(Position::START, "the file is empty: `egressd config default` prints one to start from");
        return None;
    }
    let root = tree::parse(text, report);
    if root.is_none() && report.has_errors() {
        return None;
    }
    if let Some(root) = &root {
        placeholders::tell(root, report);
    }
    // A file with only comments is an empty configuration: it has the defaults and allows nothing.
    let file =
        root.as_ref().and_then(|root| typed::read::<ConfigFile>(root, report)).and_then(|file| file.value);
    if root.is_some() && file.is_none() {
        return None;
    }
    let file = file.unwrap_or_default();
    let start = root.as_ref().map_or(Position::START, |root| root.position);
    let before = report.errors();
    let included = include::read(&file.include, report, &mut files);
    let are_included = report.errors() == before;
    let mut written = vec![WrittenPolicies {
        list: &file.policies,
        report: report.clone(),
        file: None,
        until: tree::end_of("policies", root.as_ref()),
    }];
    written.extend(included.iter().map(|included| WrittenPolicies {
        list: &included.policies,
        report: included.report.clone(),
        file: Some(&included.path),
        until: Position::END,
    }));
    // Where no file could be included, the error says enough.
    if file.include.as_ref().is_none_or(|list| list.value.is_some() && are_included) {
        policies::tell_if_there_are_none(&written, start);
    }
    let (config, places) = build::config(&file, &written, root.as_ref(), report, files);
    places::lints(&config.policies, &places, now, report);
    policies::tell_report_mode(&written, reporting);
    Some((config, Positions::of(report.file(), root.as_ref())))
}
