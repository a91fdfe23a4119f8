//! What a push does to a ref.

use std::fmt;

use super::ref_name::RefName;

/// What happens to a ref.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Change {
    /// It is new: the old id is zero. A server refuses this for a ref that exists.
    Create,
    /// It exists, and points elsewhere then. Whether its history is rewritten cannot be seen here.
    Update,
    /// It goes: the new id is zero.
    Delete,
}

/// The hash of a repository, which decides how long its ids are.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub enum ObjectFormat {
    /// 40 hexadecimal digits.
    #[default]
    Sha1,
    /// 64 hexadecimal digits.
    Sha256,
}

/// The id of an object. Not zero: that stands for no object.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ObjectId {
    bytes: [u8; 32],
    format: ObjectFormat,
}

/// One change of one ref.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RefChange {
    /// The ref.
    pub name: RefName,
    ids: Ids,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Ids {
    Create(ObjectId),
    Update(ObjectId, ObjectId),
    Delete(ObjectId),
}

impl Change {
    /// All of them.
    pub const ALL: [Change; 3] = [Change::Create, Change::Update, Change::Delete];

    /// The word of the configuration, the log and the metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Change::Create => "create",
            Change::Update => "update",
            Change::Delete => "delete",
        }
    }

    /// The change with this word.
    pub fn named(word: &str) -> Option<Self> {
        Change::ALL.into_iter().find(|change| change.as_str() == word)
    }
}

impl ObjectFormat {
    /// The value of `object-format`.
    pub fn as_str(self) -> &'static str {
        match self {
            ObjectFormat::Sha1 => "sha1",
            ObjectFormat::Sha256 => "sha256",
        }
    }

    /// The number of hexadecimal digits of an id.
    pub fn digits(self) -> usize {
        match self {
            ObjectFormat::Sha1 => 40,
            ObjectFormat::Sha256 => 64,
        }
    }
}

impl ObjectId {
    /// Reads an id in lower case: `Some(None)` is the zero id, `None` is no id of this format.
    pub(crate) fn read(hex: &[u8], format: ObjectFormat) -> Option<Option<Self>> {
        if hex.len() != format.digits() {
            return None;
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(hex.chunks_exact(2)) {
            let &[high, low] = pair else { return None };
            *byte = digit(high)? << 4 | digit(low)?;
        }
        Some((bytes != [0; 32]).then_some(ObjectId { bytes, format }))
    }
}

fn digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    }
}

impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.bytes.iter().take(self.format.digits() / 2).try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl RefChange {
    /// `None`: both ids are zero, which changes nothing.
    pub(crate) fn new(name: RefName, old: Option<ObjectId>, new: Option<ObjectId>) -> Option<Self> {
        let ids = match (old, new) {
            (None, None) => return None,
            (None, Some(new)) => Ids::Create(new),
            (Some(old), None) => Ids::Delete(old),
            (Some(old), Some(new)) => Ids::Update(old, new),
        };
        Some(RefChange { name, ids })
    }

    /// A change of this kind, with ids that are made up: rules say nothing about them.
    pub(crate) fn made_up(change: Change, name: &RefName) -> Option<Self> {
        let id = |digit: u8| ObjectId::read(&[digit; 40], ObjectFormat::Sha1).flatten();
        let (old, new) = match change {
            Change::Create => (None, id(b'2')),
            Change::Update => (id(b'1'), id(b'2')),
            Change::Delete => (id(b'1'), None),
        };
        RefChange::new(name.clone(), old, new)
    }

    /// What happens to the ref.
    pub fn change(&self) -> Change {
        match self.ids {
            Ids::Create(_) => Change::Create,
            Ids::Update(..) => Change::Update,
            Ids::Delete(_) => Change::Delete,
        }
    }

    /// What the client believes that the ref points to; `None`: it is created.
    pub fn old(&self) -> Option<ObjectId> {
        match self.ids {
            Ids::Create(_) => None,
            Ids::Update(old, _) | Ids::Delete(old) => Some(old),
        }
    }

    /// What the ref shall point to; `None`: it is deleted.
    pub fn new_id(&self) -> Option<ObjectId> {
        match self.ids {
            Ids::Delete(_) => None,
            Ids::Update(_, new) | Ids::Create(new) => Some(new),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_has_one_spelling() {
        let read = |hex: &str, format| ObjectId::read(hex.as_bytes(), format);
        let sha1 = "0123456789abcdef0123456789abcdef01234567";
        assert_eq!(read(sha1, ObjectFormat::Sha1).unwrap().unwrap().to_string(), sha1);
        let sha256 = sha1.to_owned() + "89abcdef0123456789abcdef";
        assert_eq!(read(&sha256, ObjectFormat::Sha256).unwrap().unwrap().to_string(), sha256);
        assert_eq!(read(&"0".repeat(40), ObjectFormat::Sha1), Some(None));
        assert_eq!(read(&"0".repeat(64), ObjectFormat::Sha256), Some(None));
        // Another length, upper case, no digits.
        for bad in [&sha256[..], &sha1[1..], &sha1.to_uppercase(), &sha1.replace('0', "g"), ""] {
            assert_eq!(read(bad, ObjectFormat::Sha1), None, "{bad}");
        }
        assert_eq!(read(sha1, ObjectFormat::Sha256), None);
    }
}
