//! Lists in files of their own that can stay files: an edit of one then takes effect without a further import.

use std::collections::HashSet;

use super::super::access::Access;
use super::super::acl::AclTest;
use super::super::files::Files;
use crate::commands::import::notes::{NoteKind, Notes, SourceLine};
use crate::rules::{HostPattern, RuleText};

/// A file of hosts, each line of which is a rule of egressd's too.
#[derive(Debug)]
pub(super) struct HostList {
    pub(super) place: SourceLine,
    /// As egressd.yaml names it.
    pub(super) path: String,
    /// Canonical names, each with whether what is under it is listed too.
    pub(super) names: Vec<(String, bool)>,
}

/// The files by which something is allowed.
pub(super) fn of(access: &Access<'_>, files: &Files, notes: &mut Notes) -> Vec<HostList> {
    let mut lists: Vec<HostList> = Vec::new();
    let mut seen: HashSet<&str> = HashSet::new();
    let positive = access.rules.iter().filter(|rule| rule.allow).flat_map(|rule| &rule.literals);
    for literal in positive.filter(|literal| !literal.negated) {
        let Some(acl) = access.acls.get(&literal.acl) else { continue };
        if !matches!(acl.test, AclTest::Host(_)) || acl.kind == "dstdom_regex" {
            continue;
        }
        for (place, path) in &acl.files {
            if path.contains(char::is_control) || !seen.insert(path) {
                continue;
            }
            let Ok(content) = files.read(path) else { continue };
            let written = files.written(path);
            match read(&content) {
                Ok(names) if names.is_empty() => {}
                Ok(names) => {
                    let text = if files.are_maps() {
                        format!(
                            "`{written}` stays a file: put this key beside egressd.yaml, in the same ConfigMap or one mounted there as a directory, not by subPath"
                        )
                    } else {
                        format!(
                            "`{written}` stays a file, under this path; to move it, copy it beside egressd.yaml and write its base name"
                        )
                    };
                    notes.tell(place, NoteKind::Differs, text);
                    lists.push(HostList { place: place.clone(), path: written, names });
                }
                Err((line, why)) => {
                    let file = SourceLine { file: written.clone().into(), line };
                    let text = format!(
                        "this line cannot stand in an allow file ({why}): the file's other lines are written into egressd.yaml"
                    );
                    notes.tell(&file, NoteKind::Stricter, text);
                }
            }
        }
    }
    lists
}

/// The names of a file, or the first line that egressd would refuse there.
fn read(content: &[u8]) -> Result<Vec<(String, bool)>, (u32, String)> {
    // A comment may hold what Squid passes over and an allow file may not.
    let line_at = |end: usize| {
        let before = content.get(..end).unwrap_or_default().iter().filter(|byte| **byte == b'\n').count();
        u32::try_from(before + 1).unwrap_or(u32::MAX)
    };
    let text = std::str::from_utf8(content)
        .map_err(|error| (line_at(error.valid_up_to()), "it is not UTF-8".to_owned()))?;
    if let Some(at) = text.find('\0') {
        return Err((line_at(at), "it holds a NUL byte".to_owned()));
    }
    let mut names = Vec::new();
    for (line, number) in text.trim_start_matches('\u{feff}').lines().zip(1_u32..) {
        let rule = line.split_once('#').map_or(line, |(rule, _)| rule).trim();
        if rule.is_empty() {
            continue;
        }
        let parsed = RuleText::parse(rule).map_err(|error| (number, error.to_string()))?;
        match parsed.host {
            HostPattern::Exact(name) => names.push((name.to_string(), false)),
            HostPattern::UnderOrSelf(name) => names.push((name.to_string(), true)),
            _ => return Err((number, "it means something else there".to_owned())),
        }
        if parsed.scheme.is_some() || parsed.ports.is_some() {
            return Err((number, "it means something else there".to_owned()));
        }
    }
    Ok(names)
}
