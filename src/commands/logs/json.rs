//! One line of JSON, by serde_json, which copies nothing of it.
//!
//! A scanner by hand stood here before and was not worth its 110 lines. Of a log of 200 MB, in CPU time, medians of three:
//! `suggest` read 582 MB/s with it and 515 MB/s with serde_json, `summary` 536 and 495 (`tests/long/read_logs 200`); the
//! parsing alone 1,460 and 1,000 MB/s. Wanted are 200. To build serde_json for speed and not for size changes nothing.

use memchr::memchr;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::entry::{Entry, Text};
use crate::telemetry::record::Event;

/// The members that are read. A text is taken as it stands, quotes and escapes included.
#[derive(Deserialize)]
struct Members<'l> {
    #[serde(borrow)]
    time: Option<&'l RawValue>,
    #[serde(borrow)]
    event: &'l RawValue,
    #[serde(borrow)]
    listener: Option<&'l RawValue>,
    #[serde(borrow)]
    client: Option<&'l RawValue>,
    #[serde(borrow)]
    identity: Option<&'l RawValue>,
    #[serde(borrow)]
    method: Option<&'l RawValue>,
    #[serde(borrow)]
    target: Option<&'l RawValue>,
    #[serde(borrow)]
    sni: Option<&'l RawValue>,
    #[serde(borrow)]
    policy: Option<&'l RawValue>,
    #[serde(borrow)]
    mode: Option<&'l RawValue>,
    #[serde(borrow)]
    rule: Option<&'l RawValue>,
    #[serde(borrow)]
    decision: Option<&'l RawValue>,
    #[serde(borrow)]
    reason: Option<&'l RawValue>,
    #[serde(borrow)]
    upstream: Option<&'l RawValue>,
    #[serde(borrow)]
    protocol: Option<&'l RawValue>,
    #[serde(borrow)]
    original: Option<&'l RawValue>,
    #[serde(borrow)]
    user_agent: Option<&'l RawValue>,
    #[serde(borrow)]
    tunnel: Option<&'l RawValue>,
    #[serde(borrow)]
    git: Option<&'l RawValue>,
    #[serde(borrow)]
    aws: Option<&'l RawValue>,
    #[serde(borrow)]
    status: Option<&'l RawValue>,
    #[serde(borrow)]
    sent: Option<&'l RawValue>,
    #[serde(borrow)]
    received: Option<&'l RawValue>,
    #[serde(borrow)]
    suppressed: Option<&'l RawValue>,
}

pub(super) fn parse(line: &str) -> Option<Entry<'_>> {
    let members: Members<'_> = serde_json::from_str(line).ok()?;
    Some(Entry {
        time: time(members.time)?,
        event: Some(event(Some(members.event))?),
        listener: text(members.listener)?,
        client: text(members.client)?,
        identity: text(members.identity)?,
        method: text(members.method)?,
        target: text(members.target)?,
        sni: text(members.sni)?,
        policy: text(members.policy)?,
        mode: text(members.mode)?,
        rule: text(members.rule)?,
        decision: text(members.decision)?,
        reason: text(members.reason)?,
        upstream: text(members.upstream)?,
        upstream_port: None,
        protocol: text(members.protocol)?,
        original: text(members.original)?,
        user_agent: text(members.user_agent)?,
        tunnel: text(members.tunnel)?,
        git: members.git.map(RawValue::get),
        aws: members.aws.map(RawValue::get),
        status: number(members.status)?,
        sent: number(members.sent)?,
        received: number(members.received)?,
        suppressed: number(members.suppressed)?.unwrap_or(0),
        brief: false,
        guessed: false,
    })
}

/// Whether a line that is no record is a seal of the log, in whatever schema.
pub(super) fn is_seal(line: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Seal<'l> {
        #[serde(borrow)]
        seal: Option<&'l RawValue>,
        #[serde(borrow)]
        signature: Option<&'l RawValue>,
        #[serde(borrow)]
        egressd: Option<&'l RawValue>,
        #[serde(borrow)]
        unmapped: Option<&'l RawValue>,
    }
    impl Seal<'_> {
        fn is_one(&self) -> bool {
            self.seal.is_some() && self.signature.is_some()
        }
    }
    let of = |text: &[u8]| serde_json::from_slice::<Seal<'_>>(text).is_ok_and(|seal| seal.is_one());
    let Some(b'{') = line.first() else { return false };
    serde_json::from_slice::<Seal<'_>>(line).is_ok_and(|seal| {
        let mut groups = [seal.egressd, seal.unmapped].into_iter().flatten();
        seal.is_one() || groups.any(|group| of(group.get().as_bytes()))
    })
}

/// A string or null; the outer None: it is neither.
pub(super) fn text(value: Option<&RawValue>) -> Option<Option<Text<'_>>> {
    let Some(value) = value else { return Some(None) };
    let raw = value.get().strip_prefix('"')?.strip_suffix('"')?;
    Some(Some(Text { raw, escaped: memchr(b'\\', raw.as_bytes()).is_some() }))
}

/// The event of this word.
pub(super) fn event(value: Option<&RawValue>) -> Option<Event> {
    let word = text(value)??;
    Event::ALL.iter().copied().find(|event| word.is(event.as_str()))
}

/// The seconds of a time, if it is one; the outer None: it is neither a string nor null.
pub(super) fn time(value: Option<&RawValue>) -> Option<Option<i64>> {
    Some(text(value)?.and_then(|text| seconds(&text.decoded())))
}

/// A whole number that has room, or null; the outer None: it is neither.
pub(super) fn number(value: Option<&RawValue>) -> Option<Option<u64>> {
    let Some(value) = value else { return Some(None) };
    let text = value.get();
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit());
    let number = if is_plain { text.parse().ok() } else { whole(text) };
    number.map(Some)
}

/// A whole number as JSON may spell it: `200.0`, `2E+2`, `-0`.
fn whole(text: &str) -> Option<u64> {
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (is_negative, mantissa) =
        mantissa.strip_prefix('-').map_or((false, mantissa), |mantissa| (true, mantissa));
    let (before, after) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = [before, after].concat();
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let significant = digits.trim_end_matches('0');
    if significant.is_empty() {
        return Some(0);
    }
    let zeros = i64::try_from(digits.len() - significant.len()).ok()?;
    let power =
        exponent.parse::<i64>().ok()?.checked_add(zeros)?.checked_sub(i64::try_from(after.len()).ok()?)?;
    // A negative one is no whole number: `significant` does not end in a zero.
    let scale = 10_u64.checked_pow(u32::try_from(power).ok()?)?;
    if is_negative { None } else { significant.parse::<u64>().ok()?.checked_mul(scale) }
}

/// The seconds of `2026-01-31T23:59:59…Z`, by the calendar alone: a parser of every RFC 3339 form would cost more than
/// all the rest of a line.
pub(in crate::commands) fn seconds(text: &str) -> Option<i64> {
    let bytes = text.as_bytes();
    let number = |from: usize, to: usize| {
        let digits = bytes.get(from..to)?;
        digits
            .iter()
            .try_fold(0_i64, |sum, byte| byte.is_ascii_digit().then(|| sum * 10 + i64::from(byte - b'0')))
    };
    let marks = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')];
    let shaped = marks.iter().all(|(at, mark)| bytes.get(*at) == Some(mark)) && text.ends_with('Z');
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    let fits = (1970..=9999).contains(&year)
        && (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && (0..24).contains(&hour)
        && (0..60).contains(&minute)
        && (0..=60).contains(&second);
    (shaped && fits).then(|| days(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second)
}

/// Days from 1970-01-01 in the Gregorian calendar: years begin in March, so that the leap day is their last.
pub(super) fn days(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leaps = year / 4 - year / 100 + year / 400;
    year * 365 + leaps + (month * 153 + 2) / 5 + day - 1 - 719_468
}
