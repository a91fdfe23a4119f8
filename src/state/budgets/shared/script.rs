//! The script's text, its arguments and its answers: bytes alone.

use std::time::Duration;

use redis::{Cmd, Value};

use super::accounts::{mark, tag_of};
use crate::transport::purse::ledger::{Answer, Ask};

/// What the store does, at once.
pub(super) const TEXT: &str = include_str!("script.lua");

/// In the first time of an epoch nothing is granted: every replica that lives has told what it used by then.
pub(super) const SETTLE: Duration = Duration::from_secs(8);

/// What the store says in any case.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Said {
    /// The epoch.
    pub(super) epoch: String,
    /// The server's clock, which never runs back.
    pub(super) now: u64,
    /// How long it grants nothing yet.
    pub(super) settles: Duration,
    /// Its answer to a message.
    pub(super) reply: Reply,
}

/// What it says to a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Reply {
    /// There was none, or it was of another epoch.
    None,
    /// A later one came before it.
    Late,
    /// Its answer.
    Answer(Answer),
}

/// Asks for nothing but the epoch of the accounts with this tag.
pub(super) fn look(sha: &str, tag: usize) -> Cmd {
    let mut command = redis::cmd("EVALSHA");
    command.arg(sha).arg(1).arg(mark(tag)).arg(settle());
    command
}

/// One message of one holder.
pub(super) fn message(sha: &str, account: &str, epoch: &str, holder: u64, ask: &Ask) -> Cmd {
    let mut command = redis::cmd("EVALSHA");
    command.arg(sha).arg(2).arg(mark(tag_of(account))).arg(account);
    command.arg(settle()).arg(epoch).arg(format!("{holder:016x}")).arg(ask.number);
    command.arg(ask.terms.budget).arg(ask.terms.window).arg(ask.want);
    for claim in &ask.claims {
        command.arg(claim.ends).arg(claim.bytes);
    }
    command
}

fn settle() -> u64 {
    u64::try_from(SETTLE.as_millis()).unwrap_or(u64::MAX)
}

/// Reads an answer.
///
/// # Errors
/// The server's own words, or that it is none.
pub(super) fn read(value: &Value) -> Result<Said, String> {
    let list = match value {
        Value::Array(list) => list.as_slice(),
        Value::ServerError(error) => return Err(words(error)),
        _ => &[],
    };
    let said = |epoch: &Value, now: &Value, settles: &Value, reply| {
        let epoch = match epoch {
            Value::BulkString(bytes) => String::from_utf8(bytes.clone()).ok()?,
            _ => return None,
        };
        let settles = Duration::from_millis(number(settles)?);
        Some(Said { epoch, now: number(now)?, settles, reply })
    };
    let said = match list {
        [epoch, now, settles] => said(epoch, now, settles, Reply::None),
        [epoch, now, settles, _] => said(epoch, now, settles, Reply::Late),
        [epoch, now, settles, granted, ends, rest] => number(now).and_then(|at| {
            let answer =
                Answer { now: at, granted: number(granted)?, ends: number(ends)?, rest: number(rest)? };
            said(epoch, now, settles, Reply::Answer(answer))
        }),
        _ => None,
    };
    said.ok_or_else(|| "it answered what the script does not say".to_owned())
}

/// No number of the script is larger than a double counts to.
fn number(value: &Value) -> Option<u64> {
    match value {
        Value::Int(number) => u64::try_from(*number).ok().filter(|number| *number <= 1 << 53),
        _ => None,
    }
}

/// A server's error in one line.
pub(super) fn words(error: &redis::ServerError) -> String {
    let text = format!("{} {}", error.code(), error.details().unwrap_or_default());
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(200).collect();
    format!("it answered: {}", text.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_script_says_is_an_error() {
        let epoch = || Value::BulkString(b"run-1".to_vec());
        let good = [epoch(), Value::Int(5), Value::Int(0), Value::Int(1), Value::Int(9), Value::Int(7)];
        let said = read(&Value::Array(good.to_vec())).expect("it is one");
        assert_eq!(said.reply, Reply::Answer(Answer { now: 5, granted: 1, ends: 9, rest: 7 }));
        for bad in [
            Value::Nil,
            Value::Array(vec![]),
            Value::Array(vec![Value::Int(1), Value::Int(5), Value::Int(0)]),
            Value::Array(vec![epoch(), Value::Int(-5), Value::Int(0)]),
            Value::Array(vec![epoch(), Value::Int(i64::MAX), Value::Int(0)]),
            Value::Array(good[..5].to_vec()),
        ] {
            assert!(read(&bad).is_err(), "{bad:?}");
        }
    }
}
