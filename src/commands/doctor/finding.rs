//! The line for one check: what was checked, how it is, what was seen.

use std::fmt;

/// The result of one check.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FindingState {
    /// As it should be.
    Fine,
    /// Not as it should be.
    Wrong,
    /// It could not be determined from here.
    Open,
}

/// One check and its result.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    /// The name of the check: one word.
    pub what: &'static str,
    /// Its result.
    pub state: FindingState,
    /// What was seen; if it is wrong, also the likely cause and what to do.
    pub text: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.state {
            FindingState::Fine => "ok",
            FindingState::Wrong => "WRONG",
            FindingState::Open => "open",
        };
        write!(f, "{state:<5}  {:<9} {}", self.what, self.text)
    }
}

/// A finding.
pub(super) fn finding(what: &'static str, state: FindingState, text: impl Into<String>) -> Finding {
    Finding { what, state, text: text.into() }
}
