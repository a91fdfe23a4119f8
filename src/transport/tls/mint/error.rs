//! Why there is no leaf.

use jiff::Timestamp;
use thiserror::Error;

/// Why there is no leaf for a name.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum MintError {
    /// The name constraints of the authority do not permit the name.
    #[error("the inspection authority may not sign for this name: its name constraints do not permit it")]
    NotPermitted,
    /// The authority has expired.
    #[error("the inspection authority expired at {0}")]
    Expired(Timestamp),
    /// The authority is not valid yet.
    #[error("the inspection authority is not valid before {0}")]
    NotYetValid(Timestamp),
    /// The key did not sign.
    #[error("the key of the inspection authority did not sign")]
    Signature,
    /// No random numbers.
    #[error("the system gave no random numbers")]
    Random,
}
