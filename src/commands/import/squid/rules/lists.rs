//! Lists in files of their own that can stay files: an edit of one then takes effect without a further import.
//!
//! A file stays if egressd reads each of its lines as Squid does. A line that matches nothing in Squid and is a rule of egressd's is
//! denied beside the file. What egressd refuses would have to leave the file first: a short list is then written into
//! egressd.yaml, and of a long one those lines are told. Not here: who is allowed by a file ([`super::names`]), and the
//! networks of clients ([`super::client_files`]).

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::IpAddr;
use std::path::Path;

use super::super::access::Access;
use super::super::acl::AclTest;
use super::super::files::Files;
use super::super::hosts::{HostSet, parents};
use super::super::list_lines::{self, BYTE_ORDER_MARK};
use super::super::truth::Truth;
use crate::commands::import::draft::{DraftRule, ListFile};
use crate::commands::import::notes::{NoteKind, Notes, SourceLine};
use crate::rules::{HostPattern, RuleText, Scheme};
use crate::words::small_sort::SmallCollect as _;

/// A list of at most so many lines is written into egressd.yaml where it cannot stay a file.
const WRITTEN: usize = 500;
/// A longer list stays a file with at most so many lines that have to leave it, or that are denied beside it.
const ODD: usize = 500;
/// So many such lines are told one by one.
const TOLD: usize = 20;

/// What becomes of a file of hosts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Stay {
    /// It stays a file.
    File,
    /// Its lines are written into egressd.yaml.
    Written,
    /// Nothing of it is carried over.
    LeftOut,
}

/// A file of hosts.
#[derive(Debug)]
pub(super) struct HostList {
    pub(super) file: ListFile,
    /// As Squid's configuration names it.
    pub(super) source: String,
    pub(super) stay: Stay,
    /// What Squid and egressd both find in it: canonical names, each with whether what is under it is listed too.
    pub(super) names: Vec<(String, bool)>,
    pub(super) addresses: Vec<IpAddr>,
    /// Lines that match nothing in Squid, as rules that deny what egressd finds in them.
    pub(super) odd: Vec<DraftRule>,
    /// Of a rule that allows by it, and of one that denies by it.
    pub(super) allows: bool,
    pub(super) denies: bool,
    /// The names of the `acl`s that list it.
    pub(super) acls: BTreeSet<String>,
    told: Vec<(SourceLine, NoteKind, String)>,
}

/// All of them, and the lines that must leave them before egressd reads them.
#[derive(Default, Debug)]
pub(in crate::commands::import::squid) struct HostLists {
    pub(super) lists: Vec<HostList>,
    /// By the path that egressd.yaml names.
    leaving: HashMap<String, BTreeSet<u32>>,
}

impl HostLists {
    /// The files whose lists decide something: those that a line allows or denies by.
    pub(super) fn of(access: &Access<'_>, files: &Files) -> Self {
        let mut found: BTreeMap<usize, HostList> = BTreeMap::new();
        let mut numbers: HashMap<&str, usize> = HashMap::new();
        for rule in &access.rules {
            for (negated, name) in access.literals_of(rule) {
                let Some(acl) = access.acls.get(name) else { continue };
                if !matches!(acl.test, AclTest::Host(_)) || acl.kind.ends_with("_regex") {
                    continue;
                }
                for (place, path) in &acl.files {
                    if path.contains(char::is_control) {
                        continue;
                    }
                    let next = numbers.len();
                    let number = *numbers.entry(path).or_insert(next);
                    let list = found.entry(number).or_insert_with(|| HostList::new(files, place, path));
                    list.allows |= rule.allow && !negated;
                    list.denies |= !rule.allow && !negated;
                    list.acls.insert(name.to_owned());
                }
            }
        }
        let mut lists = HostLists::default();
        let hosts = Hosts::of(access);
        for mut list in found.into_values().filter(|list| list.allows || list.denies) {
            let Ok(content) = files.read(&list.source) else { continue };
            let read = Read::of(&content, &list.file.path);
            list.file.empty = content.iter().all(u8::is_ascii_whitespace);
            list.stay = read.stay(&hosts);
            if list.stay == Stay::File && !read.refused.is_empty() {
                let leaving = read.refused.iter().map(|(place, _)| place.line).small_collect();
                lists.leaving.insert(list.file.path.clone(), leaving);
            }
            list.told = list.told(&read, files, &hosts);
            (list.names, list.addresses, list.odd) = (read.names, read.addresses, read.odd);
            lists.lists.push(list);
        }
        lists
    }

    /// Tells what becomes of them; of a file that stays, if a policy names it. `kept`: those, by number.
    pub(super) fn tell(&self, kept: &HashSet<usize>, notes: &mut Notes) {
        for (number, list) in self.lists.iter().enumerate() {
            if list.stay != Stay::File || kept.contains(&number) {
                list.told.iter().for_each(|(place, kind, text)| notes.tell(place, *kind, text.clone()));
            }
        }
    }

    /// The content of a named file, without the lines that must leave it.
    pub(in crate::commands::import::squid) fn without_leaving(
        &self,
        path: &Path,
        content: Vec<u8>,
    ) -> Vec<u8> {
        let Some(leaving) = path.to_str().and_then(|path| self.leaving.get(path)) else { return content };
        let mut kept = Vec::with_capacity(content.len());
        for (line, number) in content.split_inclusive(|byte| *byte == b'\n').zip(1_u32..) {
            kept.extend_from_slice(if leaving.contains(&number) { b"#\n" } else { line });
        }
        kept
    }
}

impl HostList {
    fn new(files: &Files, place: &SourceLine, path: &str) -> Self {
        HostList {
            file: ListFile { place: place.clone(), path: files.written(path), empty: false },
            source: path.to_owned(),
            stay: Stay::LeftOut,
            names: Vec::new(),
            addresses: Vec::new(),
            odd: Vec::new(),
            allows: false,
            denies: false,
            acls: BTreeSet::new(),
            told: Vec::new(),
        }
    }

    /// What is to be told of what becomes of it.
    fn told(&self, read: &Read, files: &Files, hosts: &Hosts<'_>) -> Vec<(SourceLine, NoteKind, String)> {
        let ListFile { place, path, empty } = &self.file;
        let mut told = Vec::new();
        let mut tell = |kind, text| told.push((place.clone(), kind, text));
        if *empty {
            let text = format!(
                "`{path}` is empty, which egressd refuses: its line is a comment in egressd.yaml; write a comment into the file, and take the `#` away, before the file is used"
            );
            tell(NoteKind::Differs, text);
            return told;
        }
        match self.stay {
            Stay::File => {
                let text = if files.are_maps() {
                    format!(
                        "`{path}` stays a file: put this key beside egressd.yaml, in the same ConfigMap or one mounted there as a directory, not by subPath"
                    )
                } else {
                    format!(
                        "`{path}` stays a file, under this path; to move it, copy it beside egressd.yaml and write its base name"
                    )
                };
                tell(NoteKind::Differs, text);
                one_by_one(&read.refused, &mut told, |why| {
                    format!(
                        "egressd refuses this line ({why}): take it out of the file before egressd reads it"
                    )
                });
                let shared = if read.odd.iter().any(|rule| hosts.meet_rule(&rule.text)) {
                    "; what Squid allows there by other lines is denied too"
                } else {
                    ""
                };
                one_by_one(&read.why_odd, &mut told, |why| {
                    if self.allows {
                        format!(
                            "this line {why}, which is denied beside the file{shared}: take the line out of the file, and then out of `deny`"
                        )
                    } else {
                        format!("this line {why}, which is denied now{shared}: take the line out of the file")
                    }
                });
            }
            Stay::Written if self.allows => {
                let tail = "the file's other lines are written into egressd.yaml as they are now, and an edit of the file changes nothing: take this line out, and import again";
                one_by_one(&read.refused, &mut told, |why| {
                    format!("this line cannot stand in an allow file ({why}): {tail}")
                });
                one_by_one(&read.why_odd, &mut told, |why| format!("this line {why}: {tail}"));
            }
            Stay::LeftOut if self.allows => {
                let text = format!(
                    "`{path}` is left out: egressd reads {} of its lines otherwise than Squid, from line {} on; take them out, and import again",
                    read.refused.len() + read.odd.len(),
                    read.first_odd()
                );
                tell(NoteKind::Stricter, text);
            }
            // What denies is written out, which is told with the other files of which this is so.
            Stay::Written | Stay::LeftOut => {}
        }
        told
    }
}

/// The first of these lines one by one, and how many there are beyond.
fn one_by_one(
    lines: &[(SourceLine, String)],
    told: &mut Vec<(SourceLine, NoteKind, String)>,
    text: impl Fn(&str) -> String,
) {
    for (place, about) in lines.iter().take(TOLD) {
        told.push((place.clone(), NoteKind::Stricter, text(about)));
    }
    if let Some((place, about)) = lines.get(TOLD) {
        let more = lines.len() - TOLD;
        let text = format!("from here on, {more} such lines: {}", text(about));
        told.push((place.clone(), NoteKind::Stricter, text));
    }
}

/// A file as both programs read it.
#[derive(Default)]
struct Read {
    lines: usize,
    names: Vec<(String, bool)>,
    addresses: Vec<IpAddr>,
    /// Lines that egressd refuses, each with why.
    refused: Vec<(SourceLine, String)>,
    odd: Vec<DraftRule>,
    /// Why each of these matches nothing in Squid.
    why_odd: Vec<(SourceLine, String)>,
    patterns: Vec<HostPattern>,
}

/// What egressd finds in a line.
enum LineIs {
    Blank,
    Same(HostPattern),
    Odd(RuleText, String),
    Refused(String),
}

impl Read {
    fn of(content: &[u8], path: &str) -> Self {
        let file: std::sync::Arc<str> = path.into();
        let mut read = Read::default();
        for (line, number) in content.split(|byte| *byte == b'\n').zip(1_u32..) {
            let place = || SourceLine { file: std::sync::Arc::clone(&file), line: number };
            match line_is(line, number == 1) {
                LineIs::Blank => continue,
                LineIs::Same(HostPattern::Exact(name)) => read.names.push((name.as_str().to_owned(), false)),
                LineIs::Same(HostPattern::UnderOrSelf(name)) => {
                    read.names.push((name.as_str().to_owned(), true))
                }
                LineIs::Same(HostPattern::Address(address)) => read.addresses.push(address),
                LineIs::Same(_) => read.refused.push((place(), "it means something else there".to_owned())),
                LineIs::Odd(rule, why) => {
                    read.why_odd.push((
                        place(),
                        format!("matches nothing in Squid ({why}), and egressd reads `{rule}`"),
                    ));
                    read.odd.push(DraftRule { place: place(), text: rule.to_string(), private: None });
                    read.patterns.push(rule.host);
                }
                LineIs::Refused(why) => read.refused.push((place(), why)),
            }
            read.lines += 1;
        }
        read
    }

    /// Whether it stays a file.
    fn stay(&self, hosts: &Hosts<'_>) -> Stay {
        let meets = self.patterns.iter().any(|pattern| hosts.meet(pattern));
        match self.lines {
            0..=WRITTEN if self.refused.is_empty() && !meets => Stay::File,
            0..=WRITTEN => Stay::Written,
            _ if self.refused.len() + self.odd.len() > ODD => Stay::LeftOut,
            _ => Stay::File,
        }
    }

    fn first_odd(&self) -> u32 {
        let odd = self.odd.iter().map(|rule| rule.place.line);
        self.refused.iter().map(|(place, _)| place.line).chain(odd).min().unwrap_or(1)
    }
}

/// Reads one line as egressd does, and as Squid does.
fn line_is(line: &[u8], first: bool) -> LineIs {
    let Ok(text) = std::str::from_utf8(line) else { return LineIs::Refused("it is not UTF-8".to_owned()) };
    if text.contains('\0') {
        return LineIs::Refused("it holds a NUL byte".to_owned());
    }
    let own = if first { text.trim_start_matches(BYTE_ORDER_MARK) } else { text };
    let entry = own.split_once('#').map_or(own, |(entry, _)| entry).trim_matches([' ', '\t', '\r']);
    if entry.is_empty() {
        return LineIs::Blank;
    }
    if entry.contains([' ', '\t']) {
        return LineIs::Refused("it has a space in it".to_owned());
    }
    let rule = match RuleText::parse(entry) {
        Ok(rule) => rule,
        Err(error) => return LineIs::Refused(error.to_string()),
    };
    if rule.scheme == Some(Scheme::Tcp) && rule.ports.is_none() {
        return LineIs::Refused("a tcp rule needs its port".to_owned());
    }
    let value = list_lines::value(text).unwrap_or_default();
    let why = list_lines::never_matches(value)
        .or_else(|| (value != entry).then(|| format!("it is `{value}` there")));
    match (&rule.host, why) {
        (HostPattern::Exact(_) | HostPattern::UnderOrSelf(_) | HostPattern::Address(_), None)
            if rule.scheme.is_none() && rule.ports.is_none() =>
        {
            LineIs::Same(rule.host)
        }
        (_, why) => LineIs::Odd(rule, why.unwrap_or_else(|| "it is no name there".to_owned())),
    }
}

/// The hosts that Squid's lists hold for certain.
struct Hosts<'a> {
    sets: Vec<&'a HostSet>,
    /// The names above any of them; few files need it.
    above: OnceCell<HashSet<&'a str>>,
}

impl<'a> Hosts<'a> {
    fn of(access: &'a Access<'a>) -> Self {
        let sets = access.used().into_iter().filter_map(|(_, acl)| match &acl.test {
            AclTest::Host(hosts) => Some(hosts),
            _ => None,
        });
        Hosts { sets: sets.collect(), above: OnceCell::new() }
    }

    /// Whether a list may hold a host of this pattern, so that a rule that denies it takes something away.
    fn meet(&self, pattern: &HostPattern) -> bool {
        let any = |holds: &dyn Fn(&HostSet) -> Truth| self.sets.iter().any(|set| holds(set) == Truth::Yes);
        match pattern {
            HostPattern::Exact(name) => any(&|set| set.has(name.as_str())),
            HostPattern::Under(name) | HostPattern::UnderOrSelf(name) => {
                let above = self
                    .above
                    .get_or_init(|| self.sets.iter().flat_map(|set| set.names()).flat_map(parents).collect());
                let name = name.as_str();
                any(&|set| set.has(name).max(set.has_below(name))) || above.contains(name)
            }
            _ => true,
        }
    }

    /// The same for a rule.
    fn meet_rule(&self, rule: &str) -> bool {
        RuleText::parse(rule).map_or(true, |rule| self.meet(&rule.host))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What each line is: `=` the same in both, `!` refused by egressd, `~` odd, with what egressd reads.
    fn shown(line: &str) -> String {
        match line_is(line.as_bytes(), true) {
            LineIs::Blank => String::new(),
            LineIs::Same(host) => format!("= {host}"),
            LineIs::Odd(rule, _) => format!("~ {rule}"),
            LineIs::Refused(_) => "!".to_owned(),
        }
    }

    /// Every kind of line that the two could read differently; `tests/e2e` asks Squid the same.
    #[test]
    fn lines_are_the_same_or_odd_or_refused() {
        let rows = [
            ("", ""),
            ("# .x.test", ""),
            ("\t#.x.test", ""),
            ("\u{feff}# .x.test", ""),
            (".x.test", "= .x.test"),
            (" x.test\t\r", "= x.test"),
            (".X.Test", "= .x.test"),
            ("x.test # .b.test", "= x.test"),
            ("_x.test", "= _x.test"),
            ("test", "= test"),
            ("203.0.113.9", "= 203.0.113.9"),
            ("[2001:DB8::1]", "= [2001:db8::1]"),
            (".x.test.", "~ .x.test"),
            ("x.test.", "~ x.test"),
            (".x.test#off", "~ .x.test"),
            ("\u{feff}.x.test", "~ .x.test"),
            ("b\u{fc}cher.test", "~ xn--bcher-kva.test"),
            ("*.x.test", "~ *.x.test"),
            ("a*.x.test", "~ a*.x.test"),
            ("https://x.test", "~ https://x.test"),
            ("x.test:8443", "~ x.test:8443"),
            ("203.0.113.0/24", "~ 203.0.113.0/24"),
            ("[2001:db8:0::1]", "~ [2001:db8::1]"),
            ("tcp://x.test:22", "~ tcp://x.test:22"),
            ("tcp://x.test", "!"),
            ("x.test b.test", "!"),
            ("-i x.test", "!"),
            ("-i", "!"),
            ("\"x.test\"", "!"),
            ("'x.test'", "!"),
            ("x.test,b.test", "!"),
            ("http://x.test/", "!"),
            ("..x.test", "!"),
            (".", "!"),
            ("*", "!"),
            (".test.com.", "~ .test.com"),
            (".co.uk", "!"),
            ("2001:db8::1", "!"),
            ("x.test\0b.test", "!"),
            ("\u{a0}x.test", "!"),
            ("\u{b}x.test", "!"),
        ];
        for (line, want) in rows {
            assert_eq!(shown(line), want, "{line:?}");
        }
        assert!(matches!(line_is(b"x.test # \xe9", true), LineIs::Refused(_)), "egressd reads UTF-8 alone");
    }
}
