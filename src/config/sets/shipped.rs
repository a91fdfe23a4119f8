//! The sets that are shipped, and how a file of one is read.

use jiff::Timestamp;

use super::super::languages::moment;

/// Which versions each set has, oldest first. A version that was released stays as it is: `tests.rs` holds its hash.
macro_rules! shipped {
    ($($name:literal: $($version:literal),+;)*) => {
        /// Name, version and text.
        const SHIPPED: &[(&str, &str, &str)] = &[$($(
            ($name, $version, include_str!(concat!("data/", $name, "/", $version, ".txt"))),
        )+)*];
    };
}

shipped! {
    "alpine": "2026-11";
    "aws-codecommit": "2026-11";
    "aws-ecr": "2026-11";
    "aws-sts": "2026-11";
    "crates": "2026-11";
    "debian": "2026-11";
    "docker-hub": "2026-11";
    "ghcr": "2026-11";
    "github-git": "2026-11";
    "gitlab-com": "2026-11";
    "gitlab-duo": "2026-11";
    "go-modules": "2026-11";
    "maven-central": "2026-11";
    "npm": "2026-11";
    "pypi": "2026-11";
    "quay": "2026-11";
    "rubygems": "2026-11";
    "ubuntu": "2026-11";
}

/// A set with two versions, for tests of what another version does.
#[cfg(test)]
const FOR_TESTS: &[(&str, &str, &str)] = &[
    (
        "for-tests",
        "2024-01",
        "title: Of tests\ndate: 2024-01-31\n\na.example https://a.example/\nb.example https://a.example/\n",
    ),
    (
        "for-tests",
        "2025-06",
        "title: Of tests\ndate: 2025-06-01\n\na.example https://a.example/\nhttp://c.example https://a.example/\n",
    ),
];
#[cfg(not(test))]
const FOR_TESTS: &[(&str, &str, &str)] = &[];

/// One version of a set.
#[derive(Clone, Debug)]
pub struct RuleSet {
    /// Its name.
    pub name: &'static str,
    /// Its version: a year and a month.
    pub version: &'static str,
    /// What it is for, in a few words.
    pub title: &'static str,
    /// The day on which its hosts were collected.
    pub date: &'static str,
    /// The start of that day in UTC.
    pub read: Timestamp,
    /// What the entry must give, beside the version.
    pub parameters: Vec<Parameter>,
    /// What to know before it is used.
    pub notes: Vec<&'static str>,
    /// At least one.
    pub rules: Vec<SetRule>,
}

/// One rule of a set.
#[derive(Clone, Copy, Debug)]
pub struct SetRule {
    /// Its line in the file, from 1, which `rule_source` names.
    pub line: u32,
    /// The rule, with `{region}` where a parameter goes.
    pub rule: &'static str,
    /// The vendor's page that names the host.
    pub page: &'static str,
    /// The host is one bucket at a storage service that has buckets of others too.
    pub storage: bool,
}

/// What a set can be told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Parameter {
    /// A region of AWS.
    Region,
    /// An account of AWS.
    Account,
}

impl Parameter {
    /// Every parameter.
    pub const ALL: [Parameter; 2] = [Parameter::Region, Parameter::Account];

    /// Its key beside `set`.
    pub fn key(self) -> &'static str {
        match self {
            Parameter::Region => "region",
            Parameter::Account => "account",
        }
    }

    /// A value, as YAML writes it.
    pub fn example(self) -> &'static str {
        match self {
            Parameter::Region => "eu-west-1",
            Parameter::Account => "\"123456789012\"",
        }
    }
}

impl RuleSet {
    /// `NAME@VERSION`.
    pub fn id(&self) -> String {
        format!("{}@{}", self.name, self.version)
    }

    /// The entry under `allow` that uses it, with examples of its parameters.
    pub fn entry(&self) -> Vec<String> {
        let given = [("set", self.name), ("version", self.version)];
        let parameters = self.parameters.iter().map(|parameter| (parameter.key(), parameter.example()));
        let keys = given.into_iter().chain(parameters).enumerate();
        keys.map(|(at, (key, value))| format!("{}{key}: {value}", if at == 0 { "- " } else { "  " }))
            .collect()
    }
}

fn all() -> impl DoubleEndedIterator<Item = &'static (&'static str, &'static str, &'static str)> {
    SHIPPED.iter().chain(FOR_TESTS)
}

/// The names of the sets, sorted.
pub fn names() -> Vec<&'static str> {
    let mut names: Vec<&str> = SHIPPED.iter().map(|(name, ..)| *name).collect();
    names.dedup();
    names
}

/// The versions of a set, oldest first; none if there is no such set.
pub fn versions(name: &str) -> Vec<&'static str> {
    all().filter(|(of, ..)| *of == name).map(|(_, version, _)| *version).collect()
}

/// A version of a set. `None`: there is none such.
pub fn find(name: &str, version: &str) -> Option<RuleSet> {
    let (name, version, text) = all().find(|(of, number, _)| *of == name && *number == version)?;
    // Every file that is shipped can be read: tests hold that.
    parse(name, version, text).ok()
}

/// Reads the file of one version.
///
/// # Errors
/// One sentence, with the line.
pub(super) fn parse(
    name: &'static str,
    version: &'static str,
    text: &'static str,
) -> Result<RuleSet, String> {
    let (mut title, mut date, mut parameters, mut notes, mut rules) =
        (None, None, Vec::new(), Vec::new(), Vec::new());
    let mut in_head = true;
    for (line, number) in text.lines().zip(1..) {
        let wrong = |what: &str| Err(format!("{name}/{version}.txt:{number}: {what}"));
        match (line.split_once(": "), in_head) {
            _ if line.is_empty() && in_head => in_head = false,
            (Some(("title", value)), true) => title = Some(value),
            (Some(("date", value)), true) => date = Some(value),
            (Some(("note", value)), true) => notes.push(value),
            (Some(("parameters", value)), true) => {
                for key in value.split(", ") {
                    match Parameter::ALL.into_iter().find(|parameter| parameter.key() == key) {
                        Some(parameter) => parameters.push(parameter),
                        None => return wrong("an unknown parameter"),
                    }
                }
            }
            (_, true) => return wrong("an unknown key"),
            (_, false) => match line.split(' ').collect::<Vec<_>>().as_slice() {
                [rule, page] => rules.push(SetRule { line: number, rule, page, storage: false }),
                [rule, page, "storage"] => rules.push(SetRule { line: number, rule, page, storage: true }),
                _ => return wrong("not a rule and a page"),
            },
        }
    }
    let (Some(title), Some(date), false) = (title, date, rules.is_empty()) else {
        return Err(format!("{name}/{version}.txt: `title`, `date` or every rule is missing"));
    };
    let read = moment(date)?;
    Ok(RuleSet { name, version, title, date, read, parameters, notes, rules })
}
