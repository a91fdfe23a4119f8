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
        let meant = meant_duration(text);
        let text = quoted(text);
        if let Some(meant) = meant {
            return format!("{text} is not a duration: write {meant}");
        }
        format!(
            "{text} is not a duration: write whole numbers with the units d, h, m, s, ms, largest first, such as 10s, 5m or 1h30m"
        )
    })
}

/// What `10 sec`, `5min`, `1.5h` or `10S` should be. A capital M may be months, so it is left open.
fn meant_duration(text: &str) -> Option<Span> {
    let (number, unit) = split_decimal(text)?;
    let unit = match unit {
        "M" => return None,
        unit => unit.to_ascii_lowercase(),
    };
    let unit = match unit.as_str() {
        "d" | "day" | "days" => "d",
        "h" | "hr" | "hrs" | "hour" | "hours" => "h",
        "m" | "min" | "mins" | "minute" | "minutes" => "m",
        "s" | "sec" | "secs" | "second" | "seconds" => "s",
        "ms" | "msec" | "millis" | "millisecond" | "milliseconds" => "ms",
        _ => return None,
    };
    let (_, millis) = DURATION_UNITS.into_iter().find(|(name, _)| *name == unit)?;
    number.times(millis).map(|millis| Span(Duration::from_millis(millis)))
}

/// A number with at most nine digits after the point.
struct Decimal {
    digits: u64,
    /// What the digits are divided by.
    by: u64,
}

impl Decimal {
    /// The product, if it is whole.
    fn times(&self, unit: u64) -> Option<u64> {
        let product = u128::from(self.digits) * u128::from(unit);
        let by = u128::from(self.by);
        product.is_multiple_of(by).then(|| u64::try_from(product / by).ok()).flatten()
    }
}

/// `1.5 GiB`: the number, and what follows it.
fn split_decimal(text: &str) -> Option<(Decimal, &str)> {
    let (number, unit) = text.split_at(text.bytes().take_while(|b| b.is_ascii_digit() || *b == b'.').count());
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() || part.len() > 9 || part.contains('.') {
        return None;
    }
    let by = 10_u64.checked_pow(u32::try_from(part.len()).ok()?)?;
    Some((Decimal { digits: format!("{whole}{part}").parse().ok()?, by }, unit.trim()))
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
    Err(match meant_size(text) {
        Some((meant, None)) => format!("{} is not a size: write {meant}", quoted(text)),
        Some((meant, Some(other))) => format!("{} is not a size: write {meant}, or {other}", quoted(text)),
        None if text.starts_with('-') => {
            format!("{} is less than nothing: write a size such as 16KiB", quoted(text))
        }
        None => format!(
            "{} is not a size: write a whole number with B, KB, MB, GB, KiB, MiB or GiB, such as 16KiB",
            quoted(text)
        ),
    })
}

/// What `50M`, `256Mi` (as Kubernetes writes it), `1.5GiB` or `16 kib` should be; two where it can be read in two ways.
fn meant_size(text: &str) -> Option<(Size, Option<Size>)> {
    let (number, unit) = split_decimal(text)?;
    let unit = unit.to_ascii_lowercase();
    let (letter, rest) = unit.split_at_checked(1).unwrap_or(("b", ""));
    let power = ["b", "k", "m", "g", "t", "p"].iter().position(|known| *known == letter)?;
    let power = u32::try_from(power).ok()?;
    let binary = number.times(1024_u64.checked_pow(power)?).map(Size);
    let decimal = number.times(1000_u64.checked_pow(power)?).map(Size);
    match rest {
        "i" | "ib" => Some((binary?, None)),
        // Most who write it so mean the other one: the container's memory, a file.
        "" | "b" if power > 0 => Some((binary?, decimal)),
        "" | "yte" | "ytes" if power == 0 => Some((binary?, None)),
        _ => None,
    }
}

/// Whether it is a whole number below 0.
pub(crate) fn is_negative(text: &str) -> bool {
    text.strip_prefix('-').is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit()))
}

/// The whole number that `/64`, `64.0`, `32_768`, `0100`, `10k` or `1e4` means, in digits.
pub(crate) fn meant_number(text: &str) -> Option<String> {
    let text = text.trim();
    let plain = text.trim_start_matches('/').replace('_', "");
    let plain = plain.split_once('.').map_or(plain.as_str(), |(whole, part)| match part.trim_matches('0') {
        "" => whole,
        _ => "",
    });
    let (digits, zeros) = match plain.to_ascii_lowercase().as_str() {
        plain if plain.ends_with('k') => (plain.trim_end_matches('k').to_owned(), 3),
        plain => match plain.split_once('e') {
            Some((digits, zeros)) => {
                (digits.to_owned(), zeros.parse::<usize>().ok().filter(|zeros| *zeros < 10)?)
            }
            None => (plain.to_owned(), 0),
        },
    };
    let digits = digits.trim_start_matches('0');
    let is_number = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    let meant = format!("{digits}{}", "0".repeat(zeros));
    (is_number && meant.parse::<u32>().is_ok()).then_some(meant)
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
                ("10 s", "error: not a duration: write 10s"),
                ("10S", "error: write 10s"),
                ("1.5h", "error: write 1h30m"),
                ("5min", "error: write 5m"),
                ("90 Minutes", "error: write 1h30m"),
                ("2.5 days", "error: write 2d12h"),
                ("250msec", "error: write 250ms"),
                ("5M", "error: largest first"),
                ("0.0001s", "error: largest first"),
                ("none", "error: largest first"),
                ("-1s", "error: not a duration"),
                ("30m1h", "error: largest first"),
                ("1s1s", "error: not a duration"),
                ("10sec", "error: write 10s"),
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
                ("16kib", "error: write 16KiB"),
                ("16 KiB", "error: write 16KiB"),
                ("KiB", "error: such as 16KiB"),
                ("256Mi", "error: write 256MiB"),
                ("1Ti", "error: write 1024GiB"),
                ("2T", "error: write 2048GiB, or 2000GB"),
                ("1.5GiB", "error: write 1536MiB"),
                ("0.5 G", "error: write 512MiB, or 500MB"),
                ("10 bytes", "error: write 10B"),
                ("1.0000000001GiB", "error: a whole number"),
                ("0.3KiB", "error: a whole number"),
                ("5GiBs", "error: a whole number"),
                ("-1", "error: less than nothing: write a size such as 16KiB"),
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
    fn what_a_number_means_is_digits() {
        for (text, meant) in [
            ("/64", Some("64")),
            ("64.0", Some("64")),
            ("32_768", Some("32768")),
            ("0100", Some("100")),
            ("10k", Some("10000")),
            ("1e4", Some("10000")),
            (" 7 ", Some("7")),
            ("64.5", None),
            ("-1", None),
            ("1e99", None),
            ("99999999999", None),
            ("many", None),
            ("k", None),
            ("", None),
            ("0", None),
        ] {
            assert_eq!(meant_number(text).as_deref(), meant, "{text}");
        }
    }

    proptest::proptest! {
        /// Whatever is offered in place of a text can be written.
        #[test]
        fn what_an_error_says_to_write_is_accepted(
            text in "[0-9]{1,4}(\\.[0-9]{1,3})? ?([kKmMgGtTpP]?i?[bB]?|[dhms]|min|sec|hours?|Days|S|msec)"
        ) {
            for (read, told) in [
                (size(&text).map(drop), size(&text).err()),
                (duration(&text).map(drop), duration(&text).err()),
            ] {
                let Some(told) = told else { continue };
                let Some((_, meant)) = told.split_once("write ") else { continue };
                if !meant.starts_with(|first: char| first.is_ascii_digit()) || told.contains("for seconds") {
                    continue;
                }
                for meant in meant.split(", or ") {
                    proptest::prop_assert!(size(meant).is_ok() || duration(meant).is_ok(), "{text}: {told}");
                }
                proptest::prop_assert!(read.is_err());
            }
        }
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
