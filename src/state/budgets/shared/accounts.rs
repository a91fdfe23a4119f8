//! Where an account is in the store: its key, and the mark beside it.
//!
//! A key says nothing of client or rule: it is a hash. The part in braces decides in a cluster on which node a key is, so that an account and
//! the mark with the server's epoch are together; a few of them spread over the nodes.

use sha2::{Digest, Sha256};

/// How many marks there are.
pub(super) const TAGS: usize = 32;

/// An account's place.
pub(super) struct Place {
    tag: usize,
    hash: [u8; 16],
}

impl Place {
    /// Of the account with this name, in parts.
    pub(super) fn of(name: &[&str]) -> Self {
        let mut hasher = Sha256::new();
        for part in name {
            hasher.update((part.len() as u64).to_be_bytes());
            hasher.update(part.as_bytes());
        }
        let digest = hasher.finalize();
        let mut hash = [0; 16];
        hash.copy_from_slice(digest.get(..16).unwrap_or(&[0; 16]));
        Place { tag: usize::from(hash[0]) % TAGS, hash }
    }

    /// Its key.
    pub(super) fn key(&self) -> Box<str> {
        format!("{}:{:032x}", mark(self.tag), u128::from_be_bytes(self.hash)).into()
    }
}

/// The key of a mark.
pub(super) fn mark(tag: usize) -> String {
    format!("egressd:{{{tag:02}}}")
}

/// The tag of an account's key.
pub(super) fn tag_of(key: &str) -> usize {
    let tag = key.split_once('{').and_then(|(_, rest)| rest.split_once('}')).map(|(tag, _)| tag);
    tag.and_then(|tag| tag.parse().ok()).filter(|tag| *tag < TAGS).unwrap_or(0)
}

/// The slot of a tag in a cluster: CRC-16/XMODEM of what is in the braces, as its specification says.
pub(super) fn slot(tag: usize) -> u16 {
    let crc = format!("{tag:02}").bytes().fold(0u16, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(byte) << 8), |crc, _| {
            if crc & 0x8000 != 0 { (crc << 1) ^ 0x1021 } else { crc << 1 }
        })
    });
    crc % 16_384
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_cannot_be_moved_and_the_key_is_with_its_mark() {
        let key = |parts: &[&str]| Place::of(parts).key();
        assert_eq!(key(&["10.0.0.1", "p", "a.example"]), key(&["10.0.0.1", "p", "a.example"]));
        assert_ne!(key(&["10.0.0.1", "p", "a.example"]), key(&["10.0.0.1", "pa", ".example"]));
        let key = key(&["10.0.0.1", "p", "a.example"]);
        assert!(key.starts_with(&mark(tag_of(&key))), "{key}");
        assert!(!key.contains("10.0.0.1"), "{key}");
    }

    #[test]
    fn slots_are_those_of_redis() {
        // `redis-cli cluster keyslot 00`, and so on.
        assert_eq!([slot(0), slot(1), slot(17), slot(31)], [13_254, 9_191, 12_304, 14_004]);
    }
}
