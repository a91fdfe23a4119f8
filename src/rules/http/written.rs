//! Entries as the configuration writes them, in one line, and as JSON.

use std::fmt;

use serde_json::Value;

use self::Written::{Keys, Number, Texts, Words};
use super::requests::{Entry, Requests};
use crate::rules::aws::AwsRule;
use crate::rules::git::{GitRule, NEGOTIATION_LIMIT};
use crate::words::git::Change;
use crate::words::small_sort::SmallCollect as _;
use crate::words::units::Size;

/// The value of a key.
enum Written {
    /// Words, without quotes unless YAML would read something else.
    Words(Vec<String>),
    /// Texts, in quotes.
    Texts(Vec<String>),
    /// One text, in quotes.
    Text(String),
    /// A number of bytes.
    Number(u64),
    /// Keys with values of their own.
    Keys(Vec<(String, Written)>),
}

impl Requests {
    /// For the admin API and `explain`: a list of the entries.
    pub fn to_json(&self) -> Value {
        self.entries().iter().map(|entry| Keys(entry.keys()).to_json()).collect()
    }
}

impl Entry {
    /// The keys that are set.
    fn keys(&self) -> Vec<(String, Written)> {
        let Entry { methods, paths, websocket, credentials, git, aws } = self;
        let mut keys = Vec::new();
        let mut add = |key: &str, value: Option<Written>| {
            keys.extend(value.map(|value| (key.to_owned(), value)));
        };
        add("methods", methods.as_ref().map(|methods| Words(all(methods))));
        add("paths", paths.as_ref().map(|paths| Texts(all(paths))));
        add("upgrade", websocket.then(|| Words(vec!["websocket".to_owned()])));
        if let Some(git) = git {
            git_keys(git, &mut add);
        }
        let file = credentials.as_ref().map(|credentials| credentials.file().to_owned());
        add("credentials_file", file.map(Written::Text));
        add("aws", aws.as_ref().map(|aws| Keys(aws_keys(aws))));
        keys
    }
}

/// What is left out means the same as what it stands for.
fn git_keys(rule: &GitRule, add: &mut impl FnMut(&str, Option<Written>)) {
    let operations = rule.operations().iter().map(|operation| operation.as_str().to_owned());
    add("git", Some(Words(operations.collect())));
    add("repositories", rule.repositories.as_ref().map(|patterns| Texts(all(patterns))));
    add("refs", rule.refs.as_ref().map(|patterns| Texts(all(patterns))));
    if *rule.changes != [Change::Create, Change::Update] {
        add(
            "ref_changes",
            Some(Words(rule.changes.iter().map(|change| change.as_str().to_owned()).collect())),
        );
    }
    let limit = Some(rule.negotiation_limit).filter(|limit| *limit != NEGOTIATION_LIMIT);
    add("negotiation_limit", limit.map(Number));
}

fn aws_keys(rule: &AwsRule) -> Vec<(String, Written)> {
    let mut keys = Vec::new();
    let mut add = |key: &str, value: Option<Written>| {
        keys.extend(value.map(|value| (key.to_owned(), value)));
    };
    add("accounts", rule.accounts.as_ref().map(|accounts| Texts(all(accounts))));
    add("services", rule.services.as_ref().map(|services| Words(all(services))));
    add("regions", rule.regions.as_ref().map(|regions| Words(all(regions))));
    let of =
        |(key, account): &(_, _)| (ToString::to_string(key), Written::Text(ToString::to_string(account)));
    let named = rule.key_accounts();
    add("key_accounts", (!named.is_empty()).then(|| Keys(named.iter().map(of).collect())));
    keys
}

fn all<T: ToString>(values: &[T]) -> Vec<String> {
    values.iter().map(ToString::to_string).collect()
}

impl Written {
    fn to_json(&self) -> Value {
        match self {
            Words(texts) | Texts(texts) => texts.iter().map(|text| Value::from(&**text)).collect(),
            Written::Text(text) => Value::from(&**text),
            Number(bytes) => Value::from(*bytes),
            Keys(keys) => {
                let keys = keys.iter().map(|(key, value)| (key.clone(), value.to_json()));
                Value::Object(keys.small_collect())
            }
        }
    }
}

/// JSON's strings are valid YAML.
impl fmt::Display for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Words(texts) => {
                write!(
                    f,
                    "[{}]",
                    texts.iter().map(|text| plain_or_quoted(text)).collect::<Vec<_>>().join(", ")
                )
            }
            Texts(texts) => {
                let texts: Vec<String> = texts.iter().map(|text| Value::from(&**text).to_string()).collect();
                write!(f, "[{}]", texts.join(", "))
            }
            Written::Text(text) => Value::from(&**text).fmt(f),
            Number(bytes) => Size(*bytes).fmt(f),
            Keys(keys) => {
                let keys: Vec<String> = keys.iter().map(|(key, value)| format!("{key}: {value}")).collect();
                write!(f, "{{{}}}", keys.join(", "))
            }
        }
    }
}

/// As the configuration writes it, in one line.
impl fmt::Display for Requests {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[")?;
        for (index, entry) in self.entries().iter().enumerate() {
            write!(f, "{}{entry}", if index == 0 { "" } else { ", " })?;
        }
        f.write_str("]")
    }
}

/// As the configuration writes it, in one line.
impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Keys(self.keys()).fmt(f)
    }
}

/// Words are written without quotes, as people write them, unless YAML would read something else.
fn plain_or_quoted(word: &str) -> String {
    // What YAML 1.1 or 1.2 reads as null or as a boolean.
    const WORDS: &[&str] = &["null", "true", "false", "yes", "no", "on", "off", "y", "n"];
    let plain = word.starts_with(|c: char| c.is_ascii_alphabetic())
        && !WORDS.iter().any(|other| word.eq_ignore_ascii_case(other))
        && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
    if plain { word.to_owned() } else { Value::from(word).to_string() }
}
