//! Which way a change of a rule goes: whether it allows more.

/// The direction in which a change of an option goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shift {
    /// It allows more.
    Wider,
    /// It allows less.
    Narrower,
    /// It is unclear whether it allows more or less.
    Unclear,
    /// Neither: a text for people.
    Noted,
}
