//! The fields of requests that a rule sets and removes: `headers`.

use http::{HeaderMap, HeaderName, HeaderValue};

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
