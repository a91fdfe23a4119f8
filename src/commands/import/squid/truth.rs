//! Three-valued truth: whether an ACL matches a request, does not, or cannot be known without Squid.

use std::ops::Not;

/// Whether something is so. In order: of several that must all hold the least counts, of alternatives the greatest.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub(super) enum Truth {
    /// It is not.
    No,
    /// egressd cannot know.
    Maybe,
    /// It is.
    Yes,
}

impl From<bool> for Truth {
    fn from(fact: bool) -> Self {
        if fact { Truth::Yes } else { Truth::No }
    }
}

impl Not for Truth {
    type Output = Self;

    fn not(self) -> Self {
        match self {
            Truth::No => Truth::Yes,
            Truth::Maybe => Truth::Maybe,
            Truth::Yes => Truth::No,
        }
    }
}
