//! Where the axes of a plot have their marks: at numbers that a person would choose.

use jiff::Timestamp;
use jiff::tz::Offset;

/// Most steps from zero to the top of a plot.
const STEPS: u64 = 4;
/// Most marks below a plot.
const MARKS: i64 = 8;

const MINUTE: i64 = 60;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;
/// The first Monday since 1970 is its fifth day: weeks begin there.
const MONDAY: i64 = 4 * DAY;

/// The marks from zero up to the first that is at least `most`: 1, 2 or 5 times a power of ten.
pub(super) fn numbers(most: u64) -> Vec<u64> {
    let tens = std::iter::successors(Some(1_u64), |ten| ten.checked_mul(10));
    marks(most, tens.flat_map(|ten| [1, 2, 5].into_iter().filter_map(move |times| ten.checked_mul(times))))
}

/// The same for bytes: a power of two.
pub(super) fn sizes(most: u64) -> Vec<u64> {
    marks(most, (0..64).map(|power| 1_u64 << power))
}

fn marks(most: u64, mut steps: impl Iterator<Item = u64>) -> Vec<u64> {
    let most = most.max(1);
    let step = steps.find(|step| most.div_ceil(*step) <= STEPS).unwrap_or(most);
    (0..=most.div_ceil(step)).map(|number| number.saturating_mul(step)).collect()
}

/// The marks of the time from `start` on, for `span` seconds: each moment with its text, UTC.
pub(super) fn times(start: i64, span: i64) -> Vec<(i64, String)> {
    let weeks = std::iter::successors(Some(7 * DAY), |weeks| weeks.checked_mul(2));
    let short = [1, 2, 5, 10, 15, 30].map(|minutes| minutes * MINUTE);
    let middle = [1, 2, 3, 6, 12, 24, 48].map(|hours| hours * HOUR);
    let step =
        short.into_iter().chain(middle).chain(weeks).find(|step| span / step < MARKS).unwrap_or(span.max(1));
    let from = if step > 2 * DAY { MONDAY } else { 0 };
    let after = (start - from).rem_euclid(step);
    let first = if after == 0 { start } else { start.saturating_add(step - after) };
    let end = start.saturating_add(span);
    let moments = std::iter::successors(Some(first), |at| at.checked_add(step)).take_while(|at| *at <= end);
    moments.filter_map(|at| Some((at, text(at, step)?))).collect()
}

/// The day, or on the day the hour.
fn text(at: i64, step: i64) -> Option<String> {
    let at = Offset::UTC.to_datetime(Timestamp::from_second(at).ok()?);
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let month = MONTHS.get(usize::try_from(at.month()).ok()?.checked_sub(1)?)?;
    let is_midnight = at.hour() == 0 && at.minute() == 0;
    Some(match () {
        () if step >= 365 * DAY => format!("{month} {}", at.year()),
        () if step >= DAY || is_midnight => format!("{month} {}", at.day()),
        () => format!("{:02}:{:02}", at.hour(), at.minute()),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn marks_are_at_numbers_that_a_person_would_choose() {
        let rows: [(u64, &[u64]); 7] = [
            (0, &[0, 1]),
            (1, &[0, 1]),
            (3, &[0, 1, 2, 3]),
            (7, &[0, 2, 4, 6, 8]),
            (90, &[0, 50, 100]),
            (180, &[0, 50, 100, 150, 200]),
            (4_001, &[0, 2_000, 4_000, 6_000]),
        ];
        for (most, want) in rows {
            assert_eq!(numbers(most), want, "{most}");
        }
        assert_eq!(sizes(3 << 20), [0, 1 << 20, 2 << 20, 3 << 20]);
        assert_eq!(sizes(1_500), [0, 512, 1_024, 1_536]);
    }

    #[test]
    fn times_are_at_hours_days_and_weeks() {
        let at = |text: &str| text.parse::<Timestamp>().expect(text).as_second();
        let texts = |start: &str, span: i64| -> Vec<String> {
            times(at(start), span).into_iter().map(|(_, text)| text).collect()
        };
        assert_eq!(
            texts("2026-03-01T12:03:00Z", 7 * MINUTE),
            ["12:03", "12:04", "12:05", "12:06", "12:07", "12:08", "12:09", "12:10"]
        );
        assert_eq!(
            texts("2026-03-01T20:10:00Z", 6 * HOUR),
            ["21:00", "22:00", "23:00", "Mar 2", "01:00", "02:00"]
        );
        assert_eq!(
            texts("2026-03-01T01:00:00Z", 3 * DAY),
            ["12:00", "Mar 2", "12:00", "Mar 3", "12:00", "Mar 4"]
        );
        assert_eq!(texts("2026-03-01T00:00:00Z", 30 * DAY), ["Mar 2", "Mar 9", "Mar 16", "Mar 23", "Mar 30"]);
    }

    proptest! {
        #[test]
        fn marks_are_few_and_cover_everything(most in any::<u64>(), start in 0..4_000_000_000_i64, span in 60..1_000_000_000_i64) {
            for marks in [numbers(most), sizes(most)] {
                prop_assert!((2..=STEPS as usize + 1).contains(&marks.len()), "{marks:?}");
                prop_assert!(marks.last() >= Some(&most) && marks.is_sorted());
            }
            let times = times(start, span);
            prop_assert!(times.len() <= MARKS as usize + 1, "{times:?}");
            prop_assert!(times.iter().all(|(at, _)| (start..=start + span).contains(at)));
        }
    }
}
