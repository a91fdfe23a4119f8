//! A number with the word that fits it, in messages for people.

use std::fmt;

/// `number` with the word that fits it: `1 tunnel`, `2 tunnels`.
pub fn counted<N: fmt::Display + Copy + TryInto<u64>>(number: N, one: &str, more: &str) -> String {
    let is_one = number.try_into().is_ok_and(|number| number == 1);
    format!("{number} {}", if is_one { one } else { more })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_has_its_word() {
        for (number, want) in [(0, "0 tunnels"), (1, "1 tunnel"), (2, "2 tunnels")] {
            assert_eq!(counted(number, "tunnel", "tunnels"), want);
            assert_eq!(counted(number as u64, "tunnel", "tunnels"), want);
        }
    }
}
