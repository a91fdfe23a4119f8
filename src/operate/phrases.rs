//! Times in the messages on stderr: `3 s`.
//!
//! Not here: how the configuration writes them ([`crate::words::units`]).

use std::time::Duration;

/// A time in the units of prose, and in one unit as long as that reads well: `500 ms`, `60 s`, `1 h 30 min`.
pub(super) fn spoken(time: Duration) -> String {
    const UNITS: [(&str, u64); 3] = [("h", 3_600), ("min", 60), ("s", 1)];
    if time < Duration::from_secs(1) && !time.is_zero() {
        return format!("{} ms", time.as_millis());
    }
    if time < Duration::from_secs(120) {
        return format!("{} s", time.as_secs_f64());
    }
    let mut left = time.as_secs();
    let mut parts = Vec::new();
    for (unit, length) in UNITS {
        if left >= length {
            parts.push(format!("{} {unit}", left / length));
            left %= length;
        }
    }
    parts.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_plain_units() {
        for (milliseconds, want) in [
            (0, "0 s"),
            (500, "500 ms"),
            (1_500, "1.5 s"),
            (3_000, "3 s"),
            (60_000, "60 s"),
            (120_000, "2 min"),
            (5_400_000, "1 h 30 min"),
        ] {
            assert_eq!(spoken(Duration::from_millis(milliseconds)), want);
        }
    }
}
