//! Sizes and windows, written as the configuration takes them: `500MiB`, `5GiB/24h`.

use std::fmt;
use std::time::Duration;

use crate::rules::UploadBudget;

/// Units of a size, in bytes, largest first.
pub(crate) const SIZE_UNITS: [(&str, u64); 7] = [
    ("GiB", 1 << 30),
    ("GB", 1_000_000_000),
    ("MiB", 1 << 20),
    ("MB", 1_000_000),
    ("KiB", 1 << 10),
    ("KB", 1_000),
    ("B", 1),
];

/// Units of a duration, in milliseconds, largest first.
pub(crate) const DURATION_UNITS: [(&str, u64); 5] =
    [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

const DAY: Duration = Duration::from_secs(86_400);

/// A number of bytes, in the largest unit of which it is a whole number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Size(pub u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Size(bytes) = *self;
        let whole = SIZE_UNITS.iter().find(|(_, unit)| bytes >= *unit && bytes.is_multiple_of(*unit));
        let (name, unit) = whole.unwrap_or(&("B", 1));
        write!(f, "{}{name}", bytes / unit)
    }
}

impl fmt::Display for UploadBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/", Size(self.bytes))?;
        // Nobody writes a day as 1d, and everybody two as 2d.
        if self.window == DAY {
            return f.write_str("24h");
        }
        let mut left = self.window.as_millis();
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    /// What stands beside a rule, read and written.
    fn written(option: &str) -> String {
        let text = format!("policies: [{{name: p, allow: [{{to: a.example, {option}}}]}}]");
        let loaded = config::load_str("c", &text, |_| Ok(Vec::new())).expect("a configuration");
        let rule = loaded.config.policies.rules().next().expect("a rule");
        let options = rule.options().expect("has some");
        match (options.upload_limit, options.upload_budget) {
            (Some(bytes), None) => format!("upload_limit: {}", Size(bytes)),
            (None, Some(budget)) => format!("upload_budget: {budget}"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn it_is_shown_as_it_was_written() {
        for text in ["500MiB", "1KiB", "5GB", "1500KB", "1B", "1025B", "1536MiB"] {
            assert_eq!(written(&format!("upload_limit: {text}")), format!("upload_limit: {text}"));
        }
        for text in ["5GiB/24h", "100B/1m", "1GiB/2d", "1MB/1h30m", "7KB/1m1s1ms"] {
            assert_eq!(written(&format!("upload_budget: {text}")), format!("upload_budget: {text}"));
        }
        for (text, shown) in [("1024KiB", "1MiB"), ("2000", "2KB"), ("3000MB", "3GB")] {
            assert_eq!(written(&format!("upload_limit: {text}")), format!("upload_limit: {shown}"));
        }
        assert_eq!(written("upload_budget: 1B/36h"), "upload_budget: 1B/1d12h");
        assert_eq!(Size(0).to_string(), "0B");
    }
}
