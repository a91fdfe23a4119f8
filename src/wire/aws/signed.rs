//! Which fields of a request an AWS signature covers (Signature Version 4 and 4A): what it covers must reach the target as it was
//! sent.
//!
//! The list is in the `Authorization` field (`SignedHeaders=host;x-amz-date`) or, of a presigned URL, in the query
//! (`X-Amz-SignedHeaders`). Read leniently, unlike [`super::read`], because it is asked of every request that is changed, whatever
//! signed it: what cannot be read covers everything. Not here: the signature itself, which is the target's to check.

use crate::wire::query::decoded_leniently;

/// What signatures of a request cover.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Signed {
    /// Names of fields, in lower case.
    names: Vec<Box<str>>,
    /// A list could not be read.
    everything: bool,
}

/// What the value of `Authorization` begins with, in both versions.
const SCHEME: &[u8] = b"AWS4-";

impl Signed {
    /// By the values of the `Authorization` fields and the raw query.
    pub fn of<'v>(authorization: impl Iterator<Item = &'v [u8]>, query: Option<&str>) -> Self {
        let mut signed = Signed::default();
        for value in authorization {
            let value = value.trim_ascii();
            if value.get(..SCHEME.len()).is_none_or(|start| !start.eq_ignore_ascii_case(SCHEME)) {
                continue;
            }
            let value = String::from_utf8_lossy(value);
            let mut lists = value.split([',', ' ']).filter_map(|part| {
                let (name, list) = part.trim().split_once('=')?;
                name.eq_ignore_ascii_case("SignedHeaders").then_some(list)
            });
            match lists.next() {
                Some(list) => signed.add(list),
                None => signed.everything = true,
            }
            lists.for_each(|list| signed.add(list));
        }
        for pair in query.unwrap_or_default().split('&') {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            if decoded_leniently(name).eq_ignore_ascii_case("x-amz-signedheaders") {
                signed.add(&decoded_leniently(value));
            }
        }
        signed
    }

    fn add(&mut self, list: &str) {
        self.names.extend(list.split(';').map(|name| name.trim().to_ascii_lowercase().into_boxed_str()));
    }

    /// Whether the field `name`, in lower case, is covered.
    pub fn covers(&self, name: &str) -> bool {
        self.everything || self.lists(name)
    }

    /// Whether there is a signature that covers the body: that of a version 4 covers its hash, unless the client says otherwise,
    /// which is not looked at here.
    pub fn covers_body(&self) -> bool {
        self.everything || !self.names.is_empty()
    }

    /// Whether a list that could be read names the field.
    pub fn lists(&self, name: &str) -> bool {
        self.names.iter().any(|signed| **signed == *name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_covers_the_fields_that_it_lists() {
        let header = "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request, \
                      SignedHeaders=host;range;X-Amz-Date, Signature=fe5f80";
        let asymmetric = "AWS4-ECDSA-P256-SHA256 Credential=A/20130524/s3/aws4_request,SignedHeaders=host;range,Signature=30";
        let query = "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-SignedHeaders=host%3Brange&X-Amz-Signature=a";
        let folded = "a=b&x-amz-signed%48eaders=range";
        let rows: &[(&[&str], Option<&str>, bool, bool)] = &[
            // What covers `range`, what covers `cookie`.
            (&[header], None, true, false),
            (&[asymmetric], None, true, false),
            (&["aws4-hmac-sha256 signedheaders=RANGE"], None, true, false),
            (&["Basic a2V5", header], None, true, false),
            (&["AWS4-HMAC-SHA256 Credential=a"], None, true, true),
            (&[], Some(query), true, false),
            (&[], Some(folded), true, false),
            (&["Basic SignedHeaders=range"], Some("a=range"), false, false),
            (&[], None, false, false),
        ];
        for (authorization, query, range, cookie) in rows {
            let signed = Signed::of(authorization.iter().map(|value| value.as_bytes()), *query);
            let told = (signed.covers("range"), signed.covers("cookie"));
            assert_eq!(told, (*range, *cookie), "{authorization:?} {query:?}");
        }
    }
}
