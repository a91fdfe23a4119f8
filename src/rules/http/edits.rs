//! The fields of requests that a rule sets and removes: `headers`.

use std::fmt;

use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Map, Value};

use crate::words::small_sort::SmallCollect as _;

/// What `headers` of a rule does to each request that it lets through.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct HeaderEdits {
    /// Fields that are removed.
    pub remove: Box<[HeaderName]>,
    /// Fields that take the place of all that the client sent of that name.
    pub set: Box<[SetField]>,
}

/// A field that is set.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SetField {
    /// Its name.
    pub name: HeaderName,
    /// Its value; of a file it is marked, so that nothing prints it.
    pub value: HeaderValue,
    /// The file that the value is from, as the configuration names it.
    pub file: Option<Box<str>>,
}

impl HeaderEdits {
    /// The names of all fields that are removed or replaced.
    pub fn names(&self) -> impl Iterator<Item = &HeaderName> {
        self.remove.iter().chain(self.set.iter().map(|field| &field.name))
    }

    /// Whether it sets `Authorization`: then the client's own credentials are taken out, and the target's 401 is not the
    /// client's.
    pub fn authorizes(&self) -> bool {
        self.set.iter().any(|field| field.name == http::header::AUTHORIZATION)
    }

    /// Changes the fields of a request.
    pub fn apply(&self, headers: &mut HeaderMap) {
        for name in &self.remove {
            headers.remove(name);
        }
        for field in &self.set {
            // Replaces all of that name.
            headers.insert(field.name.clone(), field.value.clone());
        }
    }
}

impl HeaderEdits {
    /// For the admin API and `explain`. Of a file only its name is shown.
    pub fn to_json(&self) -> Value {
        let fields = |fields: &mut dyn Iterator<Item = &SetField>| -> Value {
            let fields = fields.map(|field| (field.name.to_string(), Value::from(field.shown())));
            Value::Object(fields.small_collect())
        };
        let mut keys = Map::new();
        for (key, in_file) in [("set", false), ("set_files", true)] {
            let mut of_key = self.set.iter().filter(|field| field.file.is_some() == in_file).peekable();
            if of_key.peek().is_some() {
                keys.insert(key.to_owned(), fields(&mut of_key));
            }
        }
        if !self.remove.is_empty() {
            keys.insert(
                "remove".to_owned(),
                self.remove.iter().map(|name| Value::from(name.as_str())).collect(),
            );
        }
        Value::Object(keys)
    }
}

/// As the configuration writes it, in one line.
impl fmt::Display for HeaderEdits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fields = |in_file: bool| -> Option<String> {
            let fields = self.set.iter().filter(|field| field.file.is_some() == in_file);
            let fields =
                fields.map(|field| format!("{}: {}", quoted(field.name.as_str()), quoted(field.shown())));
            let fields: Vec<String> = fields.collect();
            (!fields.is_empty()).then(|| fields.join(", "))
        };
        let set = fields(false).map(|fields| format!("set: {{{fields}}}"));
        let set_files = fields(true).map(|fields| format!("set_files: {{{fields}}}"));
        let remove = (!self.remove.is_empty()).then(|| {
            let names: Vec<String> = self.remove.iter().map(|name| quoted(name.as_str())).collect();
            format!("remove: [{}]", names.join(", "))
        });
        let keys: Vec<String> = [set, set_files, remove].into_iter().flatten().collect();
        write!(f, "{{{}}}", keys.join(", "))
    }
}

impl SetField {
    /// What may be shown of it: its value, or the file that the value is in.
    pub fn shown(&self) -> &str {
        match &self.file {
            Some(file) => file,
            None => self.value.to_str().unwrap_or_default(),
        }
    }
}

/// JSON's strings are valid YAML.
fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_that_is_set_replaces_every_one_of_its_name() {
        let mut headers = HeaderMap::new();
        for (name, value) in [("x-tenant", "a"), ("x-tenant", "b"), ("cookie", "c"), ("accept", "d")] {
            headers.append(name, HeaderValue::from_static(value));
        }
        let edits = HeaderEdits {
            remove: [http::header::COOKIE].into(),
            set: [SetField {
                name: HeaderName::from_static("x-tenant"),
                value: HeaderValue::from_static("ours"),
                file: None,
            }]
            .into(),
        };
        edits.apply(&mut headers);
        let mut told: Vec<(&str, &[u8])> =
            headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
        told.sort_unstable();
        assert_eq!(told, [("accept", &b"d"[..]), ("x-tenant", b"ours")]);
    }
}
