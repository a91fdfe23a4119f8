//! What the %-encoding of a query stands for.
//!
//! Nothing that is decoded here is ever sent on. Not here: paths, which are matched as they were sent.

/// `%41+b` as `A b`. `None`: a `%` without two hexadecimal digits, or what it gives is not UTF-8.
pub fn decoded(text: &str) -> Option<String> {
    let (bytes, is_whole) = bytes(text);
    String::from_utf8(bytes).ok().filter(|_| is_whole)
}

/// The same for texts that must be compared whatever they are. What is malformed stays as it is.
pub fn decoded_leniently(text: &str) -> String {
    String::from_utf8_lossy(&bytes(text).0).into_owned()
}

/// The bytes, and whether every `%` had its two digits.
fn bytes(text: &str) -> (Vec<u8>, bool) {
    let (mut bytes, mut is_whole) = (Vec::with_capacity(text.len()), true);
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        bytes.push(match first {
            b'+' => b' ',
            b'%' => match hexadecimal(after) {
                Some((value, after)) => {
                    rest = after;
                    value
                }
                None => {
                    is_whole = false;
                    first
                }
            },
            other => other,
        });
    }
    (bytes, is_whole)
}

/// The value of two digits, and what follows them.
fn hexadecimal(text: &[u8]) -> Option<(u8, &[u8])> {
    let (&[high, low], after) = text.split_first_chunk()?;
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    Some((digit(high)? << 4 | digit(low)?, after))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_decoded_if_it_can_be_and_compared_in_any_case() {
        for (text, want, leniently) in [
            ("a", Some("a"), "a"),
            ("%61%2B+", Some("a+ "), "a+ "),
            ("%c3%A9", Some("é"), "é"),
            ("%", None, "%"),
            ("%6", None, "%6"),
            ("%zz", None, "%zz"),
            ("%+1", None, "% 1"),
            ("%é", None, "%é"),
            ("%ff", None, "\u{fffd}"),
        ] {
            assert_eq!(decoded(text).as_deref(), want, "{text}");
            assert_eq!(decoded_leniently(text), leniently, "{text}");
        }
    }
}
