//! Why a sweep ends a tunnel or an exchange: its ending, and the reason that its record gives.

use crate::state::proof::Lost;
use crate::words::outcome::{Ending, Reason};

/// What is no longer allowed, or no longer proven.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Revoked {
    /// `policy_revoked` or `identity_revoked`.
    pub ending: Ending,
    /// Why a request would be refused now.
    pub reason: Reason,
}

/// The rules, or an address.
impl From<Reason> for Revoked {
    fn from(reason: Reason) -> Self {
        Revoked { ending: Ending::PolicyRevoked, reason }
    }
}

/// The identity.
impl From<&Lost> for Revoked {
    fn from(lost: &Lost) -> Self {
        Revoked { ending: Ending::IdentityRevoked, reason: lost.reason }
    }
}
