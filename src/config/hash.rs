//! The hash that identifies a configuration in the log, in metrics and across replicas.

use std::fmt;

/// SHA-256 over the configuration's text and then, in the order of reading, the name (as written) and the text of every
/// file it names. The configuration's own path is not included: the same files give the same hash on every replica.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ConfigHash(pub(super) [u8; 32]);

impl ConfigHash {
    /// The first 12 hex digits: the log's `config`.
    pub fn short(&self) -> ShortHash {
        let [a, b, c, d, e, f, ..] = self.0;
        ShortHash([a, b, c, d, e, f])
    }
}

/// The first six bytes of a [`ConfigHash`]; shown as 12 hex digits. Every request stores one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ShortHash(pub [u8; 6]);

impl fmt::Display for ShortHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Display for ConfigHash {
    /// 64 hex digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ConfigHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
