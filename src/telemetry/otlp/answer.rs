//! What the answer of a receiver means for the records that were sent (OTLP 1.x, "OTLP/HTTP Response").

use std::time::Duration;

use http::{HeaderMap, StatusCode, header};
use jiff::Timestamp;
use jiff::fmt::rfc2822;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceResponse;
use prost::Message;

use crate::words::quote::shown;

/// Longest wait that a receiver can ask for.
const LONGEST: Duration = Duration::from_secs(600);
/// Characters of a receiver's own words that are repeated.
const SAID: usize = 200;

/// What became of a request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Answer {
    /// The receiver has the records, except so many; and what it says of that.
    Accepted { rejected: u64, said: Option<String> },
    /// It has none of them, and would not take them later either.
    Refused(String),
    /// It may take them later: after this time, if it says so.
    Later { after: Option<Duration>, why: String },
}

impl Answer {
    pub(super) fn read(status: StatusCode, headers: &HeaderMap, body: &[u8], now: Timestamp) -> Self {
        match status {
            status if status.is_success() => accepted(status, body),
            StatusCode::TOO_MANY_REQUESTS
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT => Answer::Later {
                after: headers.get(header::RETRY_AFTER).and_then(|after| wait(after.to_str().ok()?, now)),
                why: format!("it answered {}", status.as_u16()),
            },
            status => Answer::Refused(format!("it answered {}", status.as_u16())),
        }
    }
}

fn accepted(status: StatusCode, body: &[u8]) -> Answer {
    let Ok(response) = ExportLogsServiceResponse::decode(body) else {
        return Answer::Refused(format!(
            "it answered {} with something else than OTLP: is another server there?",
            status.as_u16()
        ));
    };
    let partial = response.partial_success.unwrap_or_default();
    let said = Some(partial.error_message).filter(|said| !said.is_empty());
    Answer::Accepted {
        rejected: u64::try_from(partial.rejected_log_records).unwrap_or(0),
        said: said.map(|said| shown(&said.chars().take(SAID).collect::<String>())),
    }
}

/// RFC 9110 §10.2.3: seconds, or a date.
fn wait(value: &str, now: Timestamp) -> Option<Duration> {
    let wait = match value.trim().parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let then = rfc2822::DateTimeParser::new().parse_timestamp(value.trim()).ok()?;
            Duration::try_from(then.duration_since(now)).unwrap_or(Duration::ZERO)
        }
    };
    Some(wait.min(LONGEST))
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsPartialSuccess;

    use super::*;

    fn read(status: u16, retry_after: Option<&str>, body: &[u8]) -> Answer {
        let mut headers = HeaderMap::new();
        if let Some(after) = retry_after {
            headers.insert(header::RETRY_AFTER, after.parse().expect("a value"));
        }
        let now = "2026-03-01T12:00:00Z".parse().expect("a time");
        Answer::read(StatusCode::from_u16(status).expect("a status"), &headers, body, now)
    }

    #[test]
    fn only_four_statuses_are_tried_again() {
        for status in 100..600 {
            let again = matches!(read(status, None, b""), Answer::Later { .. });
            assert_eq!(again, matches!(status, 429 | 502 | 503 | 504), "{status}");
        }
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let rows = [
            ("7", Some(7)),
            ("0", Some(0)),
            ("Sun, 01 Mar 2026 12:01:00 GMT", Some(60)),
            ("Sun, 01 Mar 2026 11:00:00 GMT", Some(0)),
            ("99999999", Some(600)),
            ("soon", None),
            ("-1", None),
        ];
        for (value, want) in rows {
            let Answer::Later { after, .. } = read(503, Some(value), b"") else { panic!("{value}") };
            assert_eq!(after, want.map(Duration::from_secs), "{value}");
        }
    }

    #[test]
    fn a_success_says_what_was_not_taken_and_garbage_is_none() {
        assert_eq!(read(200, None, b""), Answer::Accepted { rejected: 0, said: None });
        let partial = |rejected_log_records, error_message: &str| {
            let partial =
                ExportLogsPartialSuccess { rejected_log_records, error_message: error_message.to_owned() };
            ExportLogsServiceResponse { partial_success: Some(partial) }.encode_to_vec()
        };
        let answer = read(200, None, &partial(3, "too\u{1b}[2J old"));
        let Answer::Accepted { rejected: 3, said: Some(said) } = answer else { panic!("{answer:?}") };
        assert!(!said.contains('\u{1b}'), "{said}");
        assert_eq!(read(200, None, &partial(-1, "")), Answer::Accepted { rejected: 0, said: None });
        assert!(
            matches!(read(200, None, b"<html>"), Answer::Refused(why) if why.contains("something else than OTLP"))
        );
    }
}
