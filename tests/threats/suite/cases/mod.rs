//! The attacks, as bytes, by topic.

mod addresses;
mod framing;
mod names;
mod requests;
mod tls;

use super::case::Case;

/// All of them, in the order of the rows.
pub fn all() -> Vec<Case> {
    let mut all =
        [tls::cases(), names::cases(), addresses::cases(), framing::cases(), requests::cases()].concat();
    all.sort_by_key(|case| case.row);
    all
}

/// The cases of one row.
pub fn of_row(row: u8) -> Vec<Case> {
    all().into_iter().filter(|case| case.row == row).collect()
}
