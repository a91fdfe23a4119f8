//! Reads a line of Squid, in its native format or in that of the deployment that egressd replaces. They differ only in the
//! time.
//!
//! `… client Ss/Hs size method url user hierarchy/address type`: from the client on, both are the same eight words. A line
//! of Squid stands for a whole request, and says less: only that it was denied, not why, and a user without a kind.

use super::entry::{Entry, Text};
use super::json::days;
use crate::telemetry::record::{Cause, Event};
use crate::words::outcome::{Decision, Reason};

pub(super) fn parse(line: &str) -> Option<Entry<'_>> {
    let mut words = [""; 16];
    let mut count = 0;
    for word in line.split_ascii_whitespace() {
        *words.get_mut(count)? = word;
        count += 1;
    }
    let first = count.checked_sub(8)?;
    let [client, outcome, size, method, url, user, hierarchy, _type] = words.get(first..count)? else {
        return None;
    };
    let (status, code) = outcome.split_once('/')?;
    let known = status.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_');
    if !known || code.len() != 3 || !code.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let connect = *method == "CONNECT";
    let denied = status.contains("DENIED");
    let failed = code == "000" || code.starts_with('5') && (connect || status.starts_with("NONE"));
    let event = match (denied, failed) {
        (true, _) => Event::Deny,
        (false, true) => Event::Error,
        // Refused for its form, before any rule.
        (false, false) if status.starts_with("NONE") && code.starts_with('4') => Event::Deny,
        (false, false) if connect => Event::Open,
        (false, false) => Event::Http,
    };
    let reason = match (event, denied, code) {
        (Event::Deny, true, "407") => Some(Cause::Refused(Reason::AuthFailed)),
        (Event::Deny, true, _) => Some(Cause::Refused(Reason::HostNotAllowed)),
        (Event::Deny, false, _) => Some(Cause::Refused(Reason::BadRequest)),
        (Event::Error, ..) if code == "000" => Some(Cause::ClientGone),
        (Event::Error, ..) => Some(Cause::Refused(Reason::ConnectRefused)),
        _ => None,
    };
    let decision = match event {
        Event::Deny => Decision::Deny,
        _ => Decision::Allow,
    };
    let text = |raw| Text { raw, escaped: false };
    let address = hierarchy.split_once('/').map_or("-", |(_, address)| address);
    Some(Entry {
        time: time(words.get(..first)?),
        event: Some(event),
        client: Some(text(*client)),
        identity: Some(*user).filter(|user| *user != "-").map(text),
        method: Some(text(*method)),
        target: Some(text(*url)),
        decision: Some(text(decision.as_str())),
        reason: reason.map(Cause::as_str).map(text),
        // Without a port, so that it is not mistaken for the address that was dialled.
        upstream: Some(address).filter(|address| *address != "-").map(text),
        received: matches!(event, Event::Open | Event::Http).then(|| size.parse().ok()).flatten(),
        brief: true,
        guessed: match reason {
            Some(Cause::Refused(reason)) => matches!(reason, Reason::HostNotAllowed | Reason::ConnectRefused),
            Some(Cause::ClientGone) | None => false,
        },
        ..Entry::default()
    })
}

fn time(words: &[&str]) -> Option<i64> {
    let [first, second] = words else { return None };
    // 1661929934.034   1234
    if let Some((seconds, _)) = first.split_once('.') {
        return seconds.parse().ok();
    }
    // 2022/08/31 07:12:14|
    let three = |text: &str, between| -> Option<(i64, i64, i64)> {
        let mut parts = text.split(between).map(|part| part.parse::<u16>().ok().map(i64::from));
        Some((parts.next()??, parts.next()??, parts.next()??))
    };
    let (year, month, day) = three(first, '/').filter(|(_, month, _)| (1..=12).contains(month))?;
    let (hour, minute, second) = three(second.trim_end_matches('|'), ':')?;
    Some(days(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second)
}
