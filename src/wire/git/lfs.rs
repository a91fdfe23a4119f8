//! What git-lfs asks in the body of `…/info/lfs/objects/batch`: whether objects are to be sent or fetched.
//!
//! Only the member `operation` says so, and servers read JSON in different ways: of a name that is there twice some take the
//! first, some the last, and those written in Go compare names without case. So every name is there once, in lower case.

use std::collections::HashSet;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::words::git::{ObjectFormat, ObjectId, Operation, RefName};

/// The longest body that is read: some 2,500 objects. git-lfs asks for 100 at a time. It is read at once, in a few milliseconds.
pub const MAX_BATCH: usize = 256 << 10;

/// The most names of one object: git-lfs writes five, servers' extensions a few more.
const MAX_NAMES: usize = 64;

/// What a batch asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Batch {
    /// [`Operation::Fetch`] for `download`, [`Operation::Push`] for `upload`.
    pub operation: Operation,
    /// The ref that it says it is about. Nothing holds the client to it.
    pub reference: Option<Box<str>>,
    /// How many objects it names.
    pub objects: usize,
}

/// Why a batch is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum BatchError {
    /// Longer than [`MAX_BATCH`].
    #[error("a batch of more than 256 KiB")]
    TooLong,
    /// Not JSON, a name twice or not in lower case, or not of the form that git-lfs documents.
    #[error("a batch that is not JSON as git-lfs writes it: each name once, in lower case")]
    Json,
    /// Neither `download` nor `upload`.
    #[error("a batch whose `operation` is neither `download` nor `upload`")]
    Operation,
}

/// Reads a whole body.
///
/// # Errors
/// See [`BatchError`].
pub fn read_batch(body: &[u8]) -> Result<Batch, BatchError> {
    if body.len() > MAX_BATCH {
        return Err(BatchError::TooLong);
    }
    let mut json = serde_json::Deserializer::from_slice(body);
    let read = Object::default().deserialize(&mut json).and_then(|read| json.end().map(|()| read));
    let read = read.map_err(|_| BatchError::Json)?;
    let operation = match read.operation.as_deref() {
        Some("download") => Operation::Fetch,
        Some("upload") => Operation::Push,
        _ => return Err(BatchError::Operation),
    };
    Ok(Batch { operation, reference: read.reference, objects: read.objects })
}

/// The same request in one form, with nothing in it that no download needs: the members that git-lfs writes, in its order. `None`:
/// there are others, or one of them has another form.
pub fn fixed(body: &[u8]) -> Option<Vec<u8>> {
    let batch: FixedBatch = serde_json::from_slice(body).ok()?;
    let word = |word: &str| {
        (1..=32).contains(&word.len())
            && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
    };
    let id = |oid: &str| ObjectId::read(oid.as_bytes(), ObjectFormat::Sha256).is_some();
    let reference = batch.reference.as_ref();
    let passes = batch.operation == "download"
        && batch.transfers.iter().flatten().all(|transfer| word(transfer))
        && batch.transfers.as_ref().is_none_or(|transfers| transfers.len() <= 8)
        && reference.is_none_or(|reference| {
            RefName::new(reference.name.as_bytes()).is_ok() && reference.name.len() <= 255
        })
        && batch.objects.iter().all(|object| id(&object.oid))
        && batch.hash_algo.as_ref().is_none_or(|name| name == "sha256");
    if passes { serde_json::to_vec(&batch).ok() } else { None }
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct FixedBatch {
    operation: String,
    objects: Vec<FixedObject>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    transfers: Option<Vec<String>>,
    #[serde(default, rename = "ref", skip_serializing_if = "Option::is_none")]
    reference: Option<FixedReference>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hash_algo: Option<String>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct FixedObject {
    oid: String,
    size: u64,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct FixedReference {
    name: String,
}

/// The outermost object.
#[derive(Default)]
struct Object {
    operation: Option<Box<str>>,
    reference: Option<Box<str>>,
    objects: usize,
}

/// Any value, each of whose names is there once; how many elements it has, if it is a list.
struct Strict;

/// The object under `ref`: its `name`.
struct Reference;

/// A name that is written in one way.
struct Names(HashSet<Box<str>>);

impl Names {
    fn once<'de, A: MapAccess<'de>>(&mut self, map: &mut A) -> Result<Option<Box<str>>, A::Error> {
        let Some(name) = map.next_key::<Box<str>>()? else { return Ok(None) };
        // Go folds letters beyond ASCII, too: `ſ` is its `s`.
        if !name.bytes().all(|byte| byte.is_ascii_graphic() && !byte.is_ascii_uppercase()) {
            return Err(A::Error::custom("a name that is not in lower case"));
        }
        if self.0.len() == MAX_NAMES || !self.0.insert(name.clone()) {
            return Err(A::Error::custom("a name twice, or too many"));
        }
        Ok(Some(name))
    }
}

impl<'de> DeserializeSeed<'de> for Object {
    type Value = Object;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Object, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Object {
    type Value = Object;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Object, A::Error> {
        let mut names = Names(HashSet::new());
        while let Some(name) = names.once(&mut map)? {
            match &*name {
                "operation" => self.operation = Some(map.next_value()?),
                "ref" => self.reference = map.next_value_seed(Reference)?,
                "objects" => self.objects = map.next_value_seed(Strict)?,
                _ => drop(map.next_value_seed(Strict)?),
            }
        }
        Ok(self)
    }
}

impl<'de> DeserializeSeed<'de> for Reference {
    type Value = Option<Box<str>>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Reference {
    type Value = Option<Box<str>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object or null")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let (mut names, mut found) = (Names(HashSet::new()), None);
        while let Some(name) = names.once(&mut map)? {
            if &*name == "name" {
                found = Some(map.next_value()?);
            } else {
                map.next_value_seed(Strict)?;
            }
        }
        Ok(found)
    }
}

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = usize;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<usize, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = usize;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<usize, A::Error> {
        let mut names = Names(HashSet::new());
        while names.once(&mut map)?.is_some() {
            map.next_value_seed(Strict)?;
        }
        Ok(0)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<usize, A::Error> {
        let mut count = 0;
        while list.next_element_seed(Strict)?.is_some() {
            count += 1;
        }
        Ok(count)
    }

    fn visit_bool<E>(self, _: bool) -> Result<usize, E> {
        Ok(0)
    }

    fn visit_i64<E>(self, _: i64) -> Result<usize, E> {
        Ok(0)
    }

    fn visit_u64<E>(self, _: u64) -> Result<usize, E> {
        Ok(0)
    }

    fn visit_f64<E>(self, _: f64) -> Result<usize, E> {
        Ok(0)
    }

    fn visit_str<E>(self, _: &str) -> Result<usize, E> {
        Ok(0)
    }

    fn visit_unit<E>(self) -> Result<usize, E> {
        Ok(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_operation_decides_and_is_written_in_one_way() {
        let upload = r#"{"operation":"upload","transfers":["basic"],"ref":{"name":"refs/heads/main"},
            "objects":[{"oid":"12","size":3},{"oid":"13","size":4}],"hash_algo":"sha256"}"#;
        let want =
            Batch { operation: Operation::Push, reference: Some("refs/heads/main".into()), objects: 2 };
        assert_eq!(read_batch(upload.as_bytes()), Ok(want));
        let rows = [
            (r#"{"operation":"download","objects":[]}"#, Ok(Operation::Fetch)),
            (r#"{"operation":"download","ref":null,"new":{"a":[1.5,true,null,-1]}}"#, Ok(Operation::Fetch)),
            (r#"{"oper\u0061tion":"upload"}"#, Ok(Operation::Push)),
            (r#"{"operation":"uplo\u0061d"}"#, Ok(Operation::Push)),
            (r#"{"operation":"Upload"}"#, Err(BatchError::Operation)),
            (r#"{"operation":"delete"}"#, Err(BatchError::Operation)),
            (r#"{}"#, Err(BatchError::Operation)),
            (r#"{"operation":"download","operation":"upload"}"#, Err(BatchError::Json)),
            (r#"{"operation":"download","oper\u0061tion":"upload"}"#, Err(BatchError::Json)),
            (r#"{"operation":"download","Operation":"upload"}"#, Err(BatchError::Json)),
            (r#"{"operation":"download","hash_algo":1,"haſh":2}"#, Err(BatchError::Json)),
            (r#"{"operation":"download","objects":[{"oid":"1","oid":"2"}]}"#, Err(BatchError::Json)),
            (r#"{"operation":"download","ref":{"name":"a","name":"b"}}"#, Err(BatchError::Json)),
            (r#"{"operation":"download","ref":"a"}"#, Err(BatchError::Json)),
            (r#"{"operation":["download"]}"#, Err(BatchError::Json)),
            (r#"{"operation":null}"#, Err(BatchError::Json)),
            (r#"{"operation":"download"} {"operation":"upload"}"#, Err(BatchError::Json)),
            (r#"[{"operation":"download"}]"#, Err(BatchError::Json)),
            ("\u{feff}{\"operation\":\"download\"}", Err(BatchError::Json)),
            (r#"{"operation":"download""#, Err(BatchError::Json)),
            ("", Err(BatchError::Json)),
        ];
        for (body, want) in rows {
            assert_eq!(read_batch(body.as_bytes()).map(|batch| batch.operation), want, "{body}");
        }
        let names = |count| (1..count).map(|n| format!(r#""n{n}":1,"#)).collect::<String>();
        let many =
            |count| read_batch(format!(r#"{{{}"operation":"upload"}}"#, names(count)).as_bytes()).map(drop);
        assert_eq!((many(MAX_NAMES), many(MAX_NAMES + 1)), (Ok(()), Err(BatchError::Json)));
        assert_eq!(read_batch(&vec![b' '; MAX_BATCH + 1]), Err(BatchError::TooLong));
        let deep = format!(r#"{{"operation":"download","x":{}}}"#, "[".repeat(MAX_BATCH - 100));
        assert_eq!(read_batch(deep.as_bytes()), Err(BatchError::Json), "the depth is bounded");
    }

    #[test]
    fn the_fixed_form_has_what_a_download_needs_and_nothing_else() {
        let oid = "ab".repeat(32);
        let whole = format!(
            r#"{{ "operation" : "download", "objects":[{{"size":7,"oid":"{oid}"}}],"transfers":["basic","lfs-standalone-file"],
            "ref":{{"name":"refs/heads/main"}},"hash_algo":"sha256"}}"#
        );
        let want = format!(
            r#"{{"operation":"download","objects":[{{"oid":"{oid}","size":7}}],"transfers":["basic","lfs-standalone-file"],"ref":{{"name":"refs/heads/main"}},"hash_algo":"sha256"}}"#
        );
        assert_eq!(fixed(whole.as_bytes()).map(String::from_utf8), Some(Ok(want)));
        for (from, to) in [
            (r#""operation" :"#, r#""x":"secret","operation" :"#),
            ("\"size\":7", "\"size\":7,\"x\":\"secret\""),
            ("\"basic\"", "\"SECRET\""),
            ("refs/heads/main", "refs/heads/a secret"),
            ("sha256", "secret"),
            (oid.as_str(), "secret"),
            ("download", "upload"),
        ] {
            let body = whole.replacen(from, to, 1);
            assert_ne!(body, whole);
            assert_eq!(fixed(body.as_bytes()), None, "{body}");
        }
    }
}
