//! Sizes, durations and budgets, read and written in the form of the configuration: `500MiB`, `1h30m`, `5GiB/24h`.
//!
//! Only one way to write a value is accepted, so that a reader never has to guess a unit. Not here: which range a key
//! allows ([`crate::config`]).

use std::fmt;
use std::time::Duration;

use super::quote::quoted;

/// Units of a size, in bytes, largest first.
const SIZE_UNITS: [(&str, u64); 7] = [
    ("GiB", 1 << 30),
    ("GB", 1_000_000_000),
    ("MiB", 1 << 20),
    ("MB", 1_000_000),
    ("KiB", 1 << 10),
    ("KB", 1_000),
    ("B", 1),
];

/// Units of a duration, in milliseconds, largest first.
const DURATION_UNITS: [(&str, u64); 5] =
    [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

const DAY: Duration = Duration::from_secs(86_400);

/// A number of bytes, shown in the largest unit that gives a whole number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Size(pub u64);

/// A duration, to the millisecond, shown with each unit that it contains, largest first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Span(pub Duration);

/// How much a client may upload under one rule in a sliding window.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct UploadBudget {
    /// The maximum number of bytes …
    pub bytes: u64,
    /// … within this time.
    pub window: Duration,
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Size(bytes) = *self;
        let whole = SIZE_UNITS.iter().find(|(_, unit)| bytes >= *unit && bytes.is_multiple_of(*unit));
        let (name, unit) = whole.unwrap_or(&("B", 1));
        write!(f, "{}{name}", bytes / unit)
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // People write one day as 24h, but two days as 2d.
        if self.0 == DAY {
            return f.write_str("24h");
        }
        let mut left = self.0.as_millis();
        if left == 0 {
            return f.write_str("0s");
        }
        for (name, unit) in DURATION_UNITS {
            let unit = u128::from(unit);
            if left >= unit {
                write!(f, "{}{name}", left / unit)?;
                left %= unit;
            }
        }
        Ok(())
    }
}

impl fmt::Display for UploadBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", Size(self.bytes), Span(self.window))
    }
}

/// `500ms`, `10s`, `5m`, `1h30m`, `30d`: whole numbers with units, largest first, each unit once.
///
/// # Errors
/// What to write instead.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(format!("{} has no unit: write {text}s for seconds", quoted(text)));
    }
    duration_millis(text).map(Duration::from_millis).ok_or_else(|| {
        let text = quoted(text);
        format!(
            "{text} is not a duration: write whole numbers with the units d, h, m, s, ms, largest first, such as 10s, 5m or 1h30m"
        )
    })
}

fn duration_millis(text: &str) -> Option<u64> {
    let (mut rest, mut units, mut total) = (text, DURATION_UNITS.as_slice(), 0_u64);
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let (number, after) = rest.split_at(rest.bytes().take_while(u8::is_ascii_digit).count());
        let (unit, after) = after.split_at(after.bytes().take_while(u8::is_ascii_alphabetic).count());
        let index = units.iter().position(|(name, _)| *name == unit)?;
        let millis = units.get(index)?.1;
        total = total.checked_add(number.parse::<u64>().ok()?.checked_mul(millis)?)?;
        units = units.get(index + 1..)?;
        rest = after;
    }
    Some(total)
}

/// `16KiB`, `50MB`, `16384` (bytes), in bytes.
///
/// # Errors
/// What to write instead.
pub(crate) fn size(text: &str) -> Result<u64, String> {
    let (number, unit) = text.split_at(text.bytes().take_while(u8::is_ascii_digit).count());
    let known = SIZE_UNITS.iter().find(|(name, _)| *name == unit || (unit.is_empty() && *name == "B"));
    if let (false, Some((_, bytes))) = (number.is_empty(), known) {
        let size = number.parse::<u64>().ok().and_then(|number| number.checked_mul(*bytes));
        return size.ok_or_else(|| format!("{} is too large: write a size under 16 EiB", quoted(text)));
    }
    let meant = match unit.trim().to_ascii_lowercase().as_str() {
        "k" | "kb" | "kib" => Some("KiB"),
        "m" | "mb" | "mib" => Some("MiB"),
        "g" | "gb" | "gib" => Some("GiB"),
        _ => None,
    };
    Err(match meant {
        Some(meant) if !number.is_empty() => {
            format!(
                "{} is not a size: write {number}{meant}, or {number}{}",
                quoted(text),
                meant.replace('i', "")
            )
        }
        _ => format!(
            "{} is not a size: write a whole number with B, KB, MB, GB, KiB, MiB or GiB, such as 16KiB",
            quoted(text)
        ),
    })
}

/// `5GiB/24h`: bytes in a sliding window of one minute to 31 days.
///
/// # Errors
/// What to write instead.
pub(crate) fn budget(text: &str) -> Result<UploadBudget, String> {
    const MIN: Duration = Duration::from_secs(60);
    const MAX: Duration = Duration::from_secs(31 * 86_400);
    let Some((bytes, window)) = text.split_once('/') else {
        return Err(format!(
            "{} is not a budget: write a size, a slash and a duration, such as 5GiB/24h",
            quoted(text)
        ));
    };
    let (bytes, window) = (size(bytes)?, duration(window)?);
    if bytes == 0 {
        return Err(
            "a budget of 0 bytes lets nothing through: write at least 1B, or deny the host".to_owned()
        );
    }
    if !(MIN..=MAX).contains(&window) {
        return Err("the window of a budget must be from 1m to 31d: write for example 5GiB/24h".to_owned());
    }
    Ok(UploadBudget { bytes, window })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words::test_rows::{check, told};

    #[test]
    fn durations_are_whole_numbers_with_units_largest_first() {
        check(
            &[
                ("0s", "0"),
                ("500ms", "500"),
                ("10s", "10000"),
                ("5m", "300000"),
                ("90m", "5400000"),
                ("1h30m", "5400000"),
                ("1d2h3m4s5ms", "93784005"),
                ("10", "error: write 10s"),
                ("", "error: not a duration"),
                ("s", "error: not a duration"),
                ("10 s", "error: not a duration"),
                ("10S", "error: not a duration"),
                ("1.5h", "error: not a duration"),
                ("-1s", "error: not a duration"),
                ("30m1h", "error: largest first"),
                ("1s1s", "error: not a duration"),
                ("10sec", "error: not a duration"),
                ("99999999999999999999s", "error: not a duration"),
                ("18446744073709551615d", "error: not a duration"),
            ],
            duration,
            |d| d.as_millis().to_string(),
        );
    }

    #[test]
    fn sizes_are_whole_numbers_with_one_unit() {
        check(
            &[
                ("0", "0"),
                ("16384", "16384"),
                ("16384B", "16384"),
                ("16KiB", "16384"),
                ("16KB", "16000"),
                ("50MiB", "52428800"),
                ("1GiB", "1073741824"),
                ("50M", "error: write 50MiB, or 50MB"),
                ("16kib", "error: write 16KiB, or 16KB"),
                ("16 KiB", "error: write 16KiB"),
                ("KiB", "error: such as 16KiB"),
                ("1.5GiB", "error: a whole number"),
                ("-1", "error: a whole number"),
                ("", "error: a whole number"),
                ("99999999999999999999", "error: too large"),
                ("18446744073709551615GiB", "error: too large"),
            ],
            size,
            |bytes| bytes.to_string(),
        );
    }

    #[test]
    fn a_budget_is_a_size_over_a_window() {
        check(
            &[
                ("5GiB/24h", "5368709120/86400"),
                ("1B/1m", "1/60"),
                ("5GiB", "error: such as 5GiB/24h"),
                ("5GiB/day", "error: not a duration"),
                ("5G/24h", "error: write 5GiB"),
                ("0B/24h", "error: at least 1B"),
                ("1GiB/1s", "error: from 1m to 31d"),
                ("1GiB/32d", "error: from 1m to 31d"),
            ],
            budget,
            |UploadBudget { bytes, window }| format!("{bytes}/{}", window.as_secs()),
        );
    }

    #[test]
    fn it_is_shown_as_it_was_written() {
        let sizes = ["500MiB", "1KiB", "5GB", "1500KB", "1B", "1025B", "1536MiB", "0B"];
        for text in sizes {
            assert_eq!(told(size(text), |bytes| Size(bytes).to_string()), text);
        }
        let spans = ["0s", "10ms", "24h", "2d", "30d", "1h30m", "1d12h", "1s500ms"];
        for text in spans {
            assert_eq!(told(duration(text), |span| Span(span).to_string()), text);
        }
        for text in ["5GiB/24h", "100B/1m", "1GiB/2d", "1MB/1h30m", "7KB/1m1s1ms"] {
            assert_eq!(told(budget(text), |budget| budget.to_string()), text);
        }
        for (text, shown) in [("1024KiB", "1MiB"), ("2000", "2KB"), ("3000MB", "3GB")] {
            assert_eq!(told(size(text), |bytes| Size(bytes).to_string()), shown);
        }
        assert_eq!(told(duration("90s"), |span| Span(span).to_string()), "1m30s");
        assert_eq!(told(budget("1B/36h"), |budget| budget.to_string()), "1B/1d12h");
    }
}
