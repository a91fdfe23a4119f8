//! Squid's configuration as logical lines: comments removed, continuations joined, `include` followed, `if` evaluated.
//!
//! As in Squid's own reader, a blank line and a line that begins with `#` are skipped, even within a continued
//! line; a word that begins with `#` ends a line. Not here: what a directive means.

use std::borrow::Cow;
use std::sync::Arc;

use super::files::Files;
pub(super) use super::quotes::Word;
use super::quotes::{self, words};
use crate::commands::import::notes::{NoteKind, Notes, SourceLine};
use crate::words::io_error::reason;

/// Nested includes, as in Squid.
const MAX_DEPTH: usize = 16;
/// Logical lines of a whole configuration.
const MAX_LINES: usize = 1_000_000;
const SERVICE: &str = "${service_name}";
/// What Squid replaces in every line, with its value and where that comes from.
const MACROS: &[(&str, &str, &str)] = &[
    (SERVICE, "squid", "which it is unless Squid is started with `-n`"),
    ("${process_name}", "squid", "the name of Squid's only process; with `workers` each has its own"),
    ("${process_number}", "1", "the number of Squid's only process; with `workers` each has its own"),
];
/// At most so many missing files are told one by one.
const MISSING_TOLD: usize = 8;

/// One directive.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Line {
    pub(super) place: SourceLine,
    /// In lower case.
    pub(super) name: String,
    pub(super) words: Vec<Word>,
    /// What follows the name, as written.
    pub(super) rest: String,
    /// It is under an `if` that only the running Squid can evaluate.
    pub(super) doubtful: bool,
}

impl Line {
    /// The text of a word.
    pub(super) fn word(&self, number: usize) -> Option<&str> {
        self.words.get(number).map(|word| word.text.as_str())
    }

    /// The text of a word that does not stand in quotes.
    pub(super) fn bare(&self, number: usize) -> Option<&str> {
        self.words.get(number).filter(|word| !word.quoted).map(|word| word.text.as_str())
    }

    /// The texts of the words from this number on.
    pub(super) fn from(&self, number: usize) -> impl Iterator<Item = &str> {
        self.words.iter().skip(number).map(|word| word.text.as_str())
    }

    /// Whether its words from this number on are `allow all` and nothing else.
    pub(super) fn allows_all(&self, from: usize) -> bool {
        self.word(from) == Some("allow") && self.word(from + 1) == Some("all") && self.words.len() == from + 2
    }

    /// As it could be quoted in a note.
    pub(super) fn shown(&self) -> String {
        let text = format!("{} {}", self.name, self.rest);
        match text.char_indices().nth(100) {
            Some((end, _)) => format!("`{}…`", text.get(..end).unwrap_or_default()),
            None => format!("`{}`", text.trim_end()),
        }
    }
}

/// Reads `main` and all that it includes.
///
/// # Errors
/// `main` cannot be read; an included file is missing (Squid does not start without it, so it matters); or
/// there are more lines than are read.
pub(super) fn read(
    files: &Files,
    main: &str,
    skip_missing: bool,
    notes: &mut Notes,
) -> Result<Vec<Line>, String> {
    read_up_to(MAX_LINES, files, main, skip_missing, notes)
}

fn read_up_to(
    most: usize,
    files: &Files,
    main: &str,
    skip_missing: bool,
    notes: &mut Notes,
) -> Result<Vec<Line>, String> {
    // Below the root as Squid knew it, or as it is named on the command line.
    let content = files.read(main).or_else(|_| files.read_written(std::path::Path::new(main)));
    let content = content.map_err(|error| format!("cannot read {main}: {}", reason(&error)))?;
    let (lines, missing, within) = (Vec::new(), Vec::new(), Vec::new());
    let mut reader = Reader {
        files,
        notes,
        most,
        skip_missing,
        read: 0,
        quoted_values: false,
        within,
        lines,
        missing,
        full: None,
    };
    reader.file(main, &content, false);
    if let Some(SourceLine { file, line }) = reader.full {
        return Err(format!(
            "{file}:{line}: there are more than {most} lines in all, and the rest is not read: nothing is carried over, because the rest may deny"
        ));
    }
    if !reader.missing.is_empty() {
        let more = reader.missing.len().saturating_sub(MISSING_TOLD);
        reader.missing.truncate(MISSING_TOLD);
        let more = if more > 0 { format!("; and {more} more") } else { String::new() };
        return Err(format!(
            "{}{more}: nothing is carried over, because a missing file may deny. Provide it (--root DIR, its ConfigMap), or treat it as empty with --skip-missing",
            reader.missing.join("; ")
        ));
    }
    if reader.read == 0 {
        return Err(format!(
            "{main} has no Squid directive, such as `http_access`: name a squid.conf, or `-` for ConfigMaps on stdin"
        ));
    }
    Ok(reader.lines)
}

struct Reader<'a> {
    files: &'a Files,
    notes: &'a mut Notes,
    /// At most so many lines are read.
    most: usize,
    /// Missing files are treated as empty.
    skip_missing: bool,
    /// Lines read so far, `if` and `include` lines too: files that include each other many times could be read for ever.
    read: usize,
    /// What stands in quotes is a value.
    quoted_values: bool,
    /// The file that is being read, after those that include it.
    within: Vec<Arc<str>>,
    lines: Vec<Line>,
    /// What is missing, with its place.
    missing: Vec<String>,
    /// The line at which there were too many.
    full: Option<SourceLine>,
}

/// A line of the file, as part of a logical one.
struct Piece {
    /// Where it begins there, in bytes.
    from: usize,
    line: u32,
    /// The characters before its first word.
    before: usize,
}

/// One `if`.
#[derive(Clone, Copy)]
enum Branch {
    /// This branch counts.
    Taken,
    /// It does not.
    Passed,
    /// Only the running Squid knows.
    Doubtful,
}

impl Reader<'_> {
    fn file(&mut self, name: &str, content: &[u8], doubtful: bool) {
        let file: Arc<str> = name.into();
        self.within.push(Arc::clone(&file));
        self.lines_of(&file, content, doubtful);
        self.within.pop();
    }

    fn lines_of(&mut self, file: &Arc<str>, content: &[u8], doubtful: bool) {
        let text = String::from_utf8_lossy(content);
        let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
        let mut branches: Vec<Branch> = Vec::new();
        let mut joined = String::new();
        let mut pieces: Vec<Piece> = Vec::new();
        let mut begun = 0;
        for (whole, number) in text.lines().zip(1_u32..) {
            let physical = whole.trim_start();
            if physical.is_empty() || physical.starts_with('#') {
                continue;
            }
            if joined.is_empty() {
                begun = number;
                pieces.clear();
            }
            let before = whole.chars().count() - physical.chars().count();
            pieces.push(Piece { from: joined.len(), line: number, before });
            joined.push_str(physical);
            if joined.ends_with('\\') {
                joined.pop();
                continue;
            }
            let place = SourceLine { file: Arc::clone(file), line: begun };
            let line = std::mem::take(&mut joined);
            self.stray_quote(file, line.trim_end(), &pieces);
            self.line(place, line.trim_end(), &mut branches, doubtful);
            if self.full.is_some() {
                return;
            }
        }
        if !joined.is_empty() {
            let place = SourceLine { file: Arc::clone(file), line: begun };
            self.line(place, joined.trim_end(), &mut branches, doubtful);
        }
    }

    fn line(&mut self, place: SourceLine, text: &str, branches: &mut Vec<Branch>, doubtful: bool) {
        if self.read == self.most {
            self.full.get_or_insert(place);
            return;
        }
        self.read += 1;
        let text = self.with_macros(&place, text);
        let (name, rest) = text.split_once(char::is_whitespace).unwrap_or((&text, ""));
        let rest = rest.trim();
        match name {
            "if" => {
                let branch = condition(rest);
                if matches!(branch, Branch::Doubtful) {
                    let text = format!(
                        "only the running Squid can evaluate `if {rest}`: what it allows is not carried over, what it denies is"
                    );
                    self.notes.tell(&place, NoteKind::Stricter, text);
                }
                return branches.push(branch);
            }
            "else" => {
                if let Some(branch) = branches.last_mut() {
                    *branch = match branch {
                        Branch::Taken => Branch::Passed,
                        Branch::Passed => Branch::Taken,
                        Branch::Doubtful => Branch::Doubtful,
                    };
                }
                return;
            }
            "endif" => {
                branches.pop();
                return;
            }
            _ => {}
        }
        if branches.iter().any(|branch| matches!(branch, Branch::Passed)) {
            return;
        }
        let doubtful = doubtful || branches.iter().any(|branch| matches!(branch, Branch::Doubtful));
        if name == "include" {
            return self.include(&place, rest, doubtful);
        }
        let name = name.to_ascii_lowercase();
        let mut words = words(rest);
        if name == "configuration_includes_quoted_values" {
            self.quoted_values = rest == "on";
        }
        if self.quoted_values {
            words.iter_mut().for_each(|word| word.quoted = false);
        }
        self.lines.push(Line { place, name, words, rest: rest.to_owned(), doubtful });
    }

    /// Tells of a quotation mark that is probably not meant as Squid takes it, with its line and column.
    fn stray_quote(&mut self, file: &Arc<str>, text: &str, pieces: &[Piece]) {
        let (name, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
        let Some((at, why)) = quotes::stray(&name.to_ascii_lowercase(), rest, self.quoted_values) else {
            return;
        };
        let at = name.len() + 1 + at;
        let Some(piece) = pieces.iter().rev().find(|piece| piece.from <= at) else { return };
        let column = 1 + piece.before + text.get(piece.from..at).map_or(0, |before| before.chars().count());
        let place = SourceLine { file: Arc::clone(file), line: piece.line };
        self.notes.tell(&place, NoteKind::Advice, format!("column {column}: {why}"));
    }

    /// The line, with what Squid writes for its macros: what they are of one Squid without options. Only the running Squid
    /// knows which of its processes it is, so conditions keep them.
    fn with_macros<'l>(&mut self, place: &SourceLine, text: &'l str) -> Cow<'l, str> {
        let is_condition = text.split_whitespace().next() == Some("if");
        let mut text = Cow::Borrowed(text);
        for (name, value, why) in MACROS {
            if !text.contains(name) || (is_condition && *name != SERVICE) {
                continue;
            }
            text = text.replace(name, value).into();
            let told = format!("`{name}` is taken for `{value}`, {why}");
            self.notes.tell(place, NoteKind::Differs, told);
        }
        text
    }

    fn include(&mut self, place: &SourceLine, patterns: &str, doubtful: bool) {
        if self.within.len() > MAX_DEPTH {
            return self.lack(place, "includes are nested too deep, and this one is not followed".to_owned());
        }
        for pattern in words(patterns) {
            let paths = self.files.matching(&pattern.text, &self.within);
            if paths.is_empty() {
                self.lack(place, format!("no file matches `{}`", pattern.text));
            }
            for path in paths {
                if self.within.iter().any(|file| **file == *path) {
                    self.lack(place, format!("`{path}` is being read already: it includes itself"));
                    continue;
                }
                match self.files.read(&path) {
                    Ok(content) => self.file(&path, &content, doubtful),
                    Err(error) => self.lack(place, format!("cannot read `{path}`: {}", reason(&error))),
                }
                if self.full.is_some() {
                    return;
                }
            }
        }
    }

    fn lack(&mut self, place: &SourceLine, what: String) {
        if self.skip_missing {
            let text = format!("{what}: it is treated as empty, so what it would deny is allowed");
            self.notes.tell(place, NoteKind::Wider, text);
        } else {
            self.missing.push(format!("{}:{}: {what}", place.file, place.line));
        }
    }
}

/// `true`, `false`, or a comparison of two numbers.
fn condition(text: &str) -> Branch {
    let verdict = match text {
        "true" => Some(true),
        "false" => Some(false),
        _ => text.split_once('=').and_then(|(left, right)| {
            let number = |text: &str| text.trim().parse::<i64>().ok();
            Some(number(left)? == number(right)?)
        }),
    };
    match verdict {
        Some(true) => Branch::Taken,
        Some(false) => Branch::Passed,
        None => Branch::Doubtful,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<String> {
        let (files, main) = Files::in_config_maps(&format!(
            "kind: ConfigMap\ndata:\n  squid.conf: {}\n  more.conf: \"acl b src 10.0.0.2\\n\"\n",
            serde_json::Value::from(text)
        ))
        .expect("ConfigMaps");
        let mut notes = Notes::default();
        let lines = read(&files, &main, true, &mut notes).expect("readable");
        let shown = |line: &Line| {
            let words: Vec<&str> = line.words.iter().map(|word| word.text.as_str()).collect();
            format!(
                "{}{} {} {}",
                line.place.line,
                if line.doubtful { "?" } else { "" },
                line.name,
                words.join("|")
            )
        };
        let told = notes.finish();
        lines.iter().map(shown).chain(told.iter().map(ToString::to_string)).collect()
    }

    #[test]
    fn lines_are_read_as_squid_reads_them() {
        let rows: &[(&str, &[&str])] = &[
            ("# c\n\nhttp_port 3128 # why\n", &["3 http_port 3128"]),
            ("acl a src \\\n  10.0.0.1 \\\n# between\n\n  10.0.0.2\n", &["1 acl a|src|10.0.0.1|10.0.0.2"]),
            ("acl a dstdomain \"/etc/squid/with space\"\r\n", &["1 acl a|dstdomain|/etc/squid/with space"]),
            ("HTTP_port 1\n", &["1 http_port 1"]),
            ("a 1 \\", &["1 a 1"]),
            ("if true\na 1\nelse\na 2\nendif\nb 3\n", &["2 a 1", "6 b 3"]),
            ("if 1 = 2\na 1\nelse\na 2\nendif\n", &["4 a 2"]),
            ("include /etc/squid/mor*.conf\na 1\n", &["1 acl b|src|10.0.0.2", "2 a 1"]),
            (
                "a /x/${service_name}/${process_number}\n",
                &[
                    "1 a /x/squid/1",
                    "squid.conf:1: `${service_name}` is taken for `squid`, which it is unless Squid is started with `-n`",
                    "squid.conf:1: `${process_number}` is taken for `1`, the number of Squid's only process; with `workers` \
                     each has its own",
                ],
            ),
        ];
        for (text, want) in rows {
            assert_eq!(lines(text), *want, "{text:?}");
        }
    }

    #[test]
    fn what_only_the_running_squid_knows_is_told() {
        let told = lines("if ${process_number} = 1\na 1\nendif\ninclude /none.conf\n");
        assert_eq!(told[0], "2? a 1");
        assert!(
            told[1]
                .starts_with("squid.conf:1: only the running Squid can evaluate `if ${process_number} = 1`"),
            "{told:?}"
        );
        assert!(told[2].starts_with("squid.conf:4: WIDER: cannot read `/none.conf`"), "{told:?}");
        let told = lines("include /none/*.txt\n");
        assert!(told[0].starts_with("squid.conf:1: WIDER: no file matches `/none/*.txt`"), "{told:?}");
        assert!(told[0].ends_with("what it would deny is allowed"), "{told:?}");
    }

    /// `squid.conf` and `more.conf`, as they are read.
    fn refused(most: usize, text: &str, more: &str) -> Result<usize, String> {
        let maps = serde_json::json!({"kind": "ConfigMap", "data": {"squid.conf": text, "more.conf": more}});
        let (files, main) = Files::in_config_maps(&maps.to_string()).expect("ConfigMaps");
        let mut notes = Notes::default();
        read_up_to(most, &files, &main, false, &mut notes).map(|lines| lines.len())
    }

    #[test]
    fn what_is_not_whole_is_refused() {
        let missing = (1..=10).map(|n| format!("a 1\ninclude /etc/none{n}.conf\n")).collect::<String>();
        let error = refused(100, &missing, "").expect_err("not whole");
        assert!(error.starts_with("squid.conf:2: cannot read `/etc/none1.conf`: "), "{error}");
        assert!(error.contains("squid.conf:16: ") && !error.contains("squid.conf:18: "), "{error}");
        assert!(error.contains("; and 2 more: ") && error.contains("--skip-missing"), "{error}");
        assert_eq!(refused(100, "if false\ninclude /none\nendif\na 1\n", ""), Ok(1), "it is not looked for");
        let error = refused(100, "include more.conf\n", "include more.conf\n").expect_err("without end");
        assert!(error.starts_with("more.conf:1: `"), "{error}");
        assert!(error.contains("more.conf` is being read already: it includes itself"), "{error}");
    }

    #[test]
    fn a_chain_of_includes_may_be_sixteen_deep_and_a_tree_of_them_ends() {
        // Each includes the next one so many times.
        let chain = |length: usize, times: usize| {
            let include = |n: usize| format!("include f{n}.conf\n").repeat(times);
            let mut data = serde_json::Map::new();
            data.insert("squid.conf".to_owned(), include(1).into());
            for n in 1..length {
                data.insert(format!("f{n}.conf"), include(n + 1).into());
            }
            data.insert(format!("f{length}.conf"), "a 1\n".into());
            let maps = serde_json::json!({"kind": "ConfigMap", "data": data});
            let (files, main) = Files::in_config_maps(&maps.to_string()).expect("ConfigMaps");
            let mut notes = Notes::default();
            read_up_to(100, &files, &main, false, &mut notes).map(|lines| lines.len())
        };
        assert_eq!(chain(16, 1), Ok(1));
        let error = chain(17, 1).expect_err("too deep");
        assert!(error.starts_with("f16.conf:1: includes are nested too deep"), "{error}");
        assert_eq!(chain(3, 3), Ok(27));
        let error = chain(16, 2).expect_err("65,536 times the last one");
        assert!(error.contains("there are more than 100 lines"), "{error}");
    }

    #[test]
    fn more_lines_than_are_read_are_refused_where_they_begin() {
        assert_eq!(refused(3, "a 1\nb 2\nc 3\n", ""), Ok(3));
        let error = refused(3, "a 1\n\nb 2\nc 3\nd 4\ne 5\n", "").expect_err("too many");
        assert!(error.starts_with("squid.conf:5: there are more than 3 lines"), "{error}");
        let error = refused(3, "a 1\ninclude more.conf\n", "b 2\nc 3\nd 4\ne 5\n").expect_err("too many");
        assert!(error.starts_with("more.conf:2: there are more than 3 lines"), "{error}");
        let error = refused(3, "a 1\nb 2\nc 3\nd \\", "").expect_err("too many");
        assert!(error.starts_with("squid.conf:4: "), "{error}");
    }
}
