//! The way from bytes to a [`Config`]: read, parse, type, mean, lint; all findings at once.

use std::io;
use std::path::Path;

use jiff::Timestamp;

use super::Config;
use super::file::ConfigFile;
use super::finding::{Finding, Findings, Place, Report};
use super::fixed::Fixed;
use super::named_files::{NamedFiles, ReadFile, read_from_disk, reason};
use super::{meaning, rules, tree, typed};

/// The embedded default: `config/egressd.yaml`.
pub const DEFAULT: &str = include_str!("../../config/egressd.yaml");

/// What stands for a file name in findings and rules of the embedded default.
pub const DEFAULT_NAME: &str = "default";

/// A configuration that can be used.
#[derive(Debug)]
pub struct Loaded {
    /// Valid as a whole.
    pub config: Config,
    /// Where it says what a running server cannot change.
    pub fixed: Fixed,
    /// What is probably not meant; sorted by file, line, column. No errors among them.
    pub warnings: Vec<Finding>,
}

/// Loads a file, or the embedded default for None.
///
/// # Errors
/// Every finding, warnings included, sorted by file, line, column; at least one is an error. A missing, unreadable or
/// empty file is one, at 1:1.
pub fn load(path: Option<&Path>) -> Result<Loaded, Vec<Finding>> {
    load_by(path, &read_from_disk)
}

/// [`load`] with the caller's own way of reading, by which it learns every file that counts, those of a refused
/// configuration and those that are missing included.
///
/// # Errors
/// As [`load`].
pub fn load_by(
    path: Option<&Path>,
    read_file: &dyn Fn(&Path) -> io::Result<Vec<u8>>,
) -> Result<Loaded, Vec<Finding>> {
    let Some(path) = path else {
        return load_named(None, DEFAULT_NAME, DEFAULT.as_bytes(), read_file);
    };
    let name = path.display().to_string();
    match read_file(path) {
        Ok(content) => load_named(Some(path), &name, &content, read_file),
        Err(error) => {
            let findings = Findings::default();
            findings.of(&name).error(Place::START, format!("cannot read it: {}", reason(&error)));
            Err(findings.finish())
        }
    }
}

/// Loads a configuration from memory. `name` is its path, as shown, and what named files are relative to; `read_file`
/// gets the paths of those.
///
/// # Errors
/// As [`load`].
pub fn load_bytes(
    name: &str,
    content: &[u8],
    read_file: impl Fn(&Path) -> io::Result<Vec<u8>>,
) -> Result<Loaded, Vec<Finding>> {
    load_named(Some(Path::new(name)), name, content, &read_file)
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

fn load_named(
    path: Option<&Path>,
    name: &str,
    content: &[u8],
    read_file: ReadFile<'_>,
) -> Result<Loaded, Vec<Finding>> {
    let findings = Findings::default();
    let report = findings.of(name);
    let files = NamedFiles::new(path, content, read_file);
    let meant = mean(content, &report, files);
    let refused = findings.has_errors();
    let told = findings.finish();
    match meant {
        Some((config, fixed)) if !refused => Ok(Loaded { config, fixed, warnings: told }),
        _ => Err(told),
    }
}

fn mean(content: &[u8], report: &Report<'_>, files: NamedFiles<'_>) -> Option<(Config, Fixed)> {
    let text = text(content, report)?;
    if text.trim().is_empty() {
        report.error(Place::START, "the file is empty: `egressd config default` prints one to begin with");
        return None;
    }
    let root = tree::parse(text, report);
    if root.is_none() && report.has_errors() {
        return None;
    }
    // Comments alone are an empty configuration: the defaults, and nothing allowed.
    let file =
        root.as_ref().and_then(|root| typed::read::<ConfigFile>(root, report)).and_then(|file| file.value);
    if root.is_some() && file.is_none() {
        return None;
    }
    let file = file.unwrap_or_default();
    let (config, places) = meaning::config(&file, report, files);
    if !report.has_errors() {
        rules::lints(&config.policies, &places, Timestamp::now(), report);
    }
    Some((config, Fixed::of(&file)))
}

/// The content as text. A byte-order mark at the very start, as Windows editors write, is taken off.
pub(super) fn text<'c>(content: &'c [u8], report: &Report<'_>) -> Option<&'c str> {
    let content = content.strip_prefix(b"\xef\xbb\xbf").unwrap_or(content);
    let text = match std::str::from_utf8(content) {
        Ok(text) => text,
        Err(error) => {
            let place = place_of(content, error.valid_up_to());
            let hint = if content.starts_with(b"\xff\xfe") || content.starts_with(b"\xfe\xff") {
                "this is UTF-16: save the file as UTF-8"
            } else {
                "this byte is not UTF-8: save the file as UTF-8"
            };
            report.error(place, hint);
            return None;
        }
    };
    if let Some(offset) = text.find('\0') {
        report.error(place_of(content, offset), "a NUL byte: take it out, and save the file as UTF-8 text");
        return None;
    }
    Some(text)
}

/// Everything before `offset` is UTF-8.
fn place_of(content: &[u8], offset: usize) -> Place {
    let before = content.get(..offset).unwrap_or(content);
    let line = before.iter().filter(|byte| **byte == b'\n').count();
    let line_start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1);
    let column = String::from_utf8_lossy(before.get(line_start..).unwrap_or_default()).chars().count();
    Place { line: u32::try_from(line).unwrap_or(u32::MAX).saturating_add(1), column: 1 }.right(column)
}
