//! The JSON behind the status page: `/api/status`, `/api/tunnels`, `/api/decisions`, `/api/policy`.
//!
//! Each answer is bounded: lists have a `total` and are cut to `limit`. Everything is made off the workers, from
//! snapshots and in chunks, so that no tunnel notices. Strings are as they are; whoever shows them escapes them.

mod decisions;
mod policy;
mod status;
mod tunnels;

use std::fmt;

use serde::Serialize;

use crate::state::shared::Shared;

/// Items of a list where nothing else is asked for.
const LIMIT: usize = 500;
/// Items of a list at most: 2,000 tunnels are about 1 MB.
const MOST: usize = 2_000;
/// Bytes of a text that a client or the configuration wrote and that has no bound of its own.
const LONGEST: usize = 512;

/// Which of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Asked {
    Status,
    Tunnels,
    Decisions,
    Policy,
}

impl Asked {
    pub(super) fn of(path: &str) -> Option<Self> {
        Some(match path {
            "/api/status" => Asked::Status,
            "/api/tunnels" => Asked::Tunnels,
            "/api/decisions" => Asked::Decisions,
            "/api/policy" => Asked::Policy,
            _ => return None,
        })
    }

    fn parameters(self) -> &'static [&'static str] {
        match self {
            Asked::Status => &[],
            Asked::Tunnels => &["limit", "filter", "sort", "order"],
            Asked::Decisions => &["limit"],
            Asked::Policy => &["limit", "filter"],
        }
    }
}

/// What the query asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Query {
    limit: usize,
    /// In lower case; empty: everything.
    filter: String,
    sort: tunnels::Sort,
    descending: bool,
}

/// What is wrong with a query, and what to write instead.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct Wrong(String);

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Query {
    /// Reads `limit=10&filter=git`.
    pub(super) fn parse(text: &str, asked: Asked) -> Result<Self, Wrong> {
        let mut query =
            Query { limit: LIMIT, filter: String::new(), sort: tunnels::Sort::Age, descending: true };
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            if !asked.parameters().contains(&name) {
                let known = asked.parameters().join(", ");
                return Err(Wrong(match known.as_str() {
                    "" => "there are no parameters here".to_owned(),
                    known => format!("unknown parameter: there are {known}"),
                }));
            }
            let value = decoded(value).ok_or_else(|| Wrong(format!("{name}: not UTF-8 in %-encoding")))?;
            match name {
                "limit" => {
                    query.limit = value
                        .parse()
                        .ok()
                        .filter(|limit| *limit <= MOST)
                        .ok_or_else(|| Wrong(format!("limit: write a number from 0 to {MOST}")))?;
                }
                "filter" => query.filter = value.to_lowercase(),
                "sort" => {
                    query.sort = tunnels::Sort::parse(&value).ok_or_else(|| {
                        Wrong(format!("sort: write one of {}", tunnels::Sort::WORDS.join(", ")))
                    })?;
                }
                _ => {
                    query.descending = match value.as_str() {
                        "asc" => false,
                        "desc" => true,
                        _ => return Err(Wrong("order: write asc or desc".to_owned())),
                    };
                }
            }
        }
        Ok(query)
    }

    fn takes(&self, texts: &[Option<&str>]) -> bool {
        self.filter.is_empty()
            || texts.iter().flatten().any(|text| text.to_lowercase().contains(&self.filter))
    }
}

/// `%41+b` as `A b`; None where it is no UTF-8 or broken.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let (high, low) = (char::from(rest.next()?), char::from(rest.next()?));
                u8::try_from(high.to_digit(16)? * 16 + low.to_digit(16)?).ok()?
            }
            other => other,
        });
    }
    String::from_utf8(bytes).ok()
}

/// The body. May take a while: not for a worker.
pub(super) fn answer(asked: Asked, query: &Query, shared: &Shared) -> Vec<u8> {
    match asked {
        Asked::Status => body(&status::of(shared)),
        Asked::Tunnels => body(&tunnels::of(query, &shared.live)),
        Asked::Decisions => body(&decisions::of(query, shared)),
        Asked::Policy => body(&policy::of(query, shared)),
    }
}

fn body(answer: &impl Serialize) -> Vec<u8> {
    // Maps with keys that are no text would fail, and there are none.
    let mut body = serde_json::to_vec(answer).unwrap_or_default();
    body.push(b'\n');
    body
}

/// A text, cut to [`LONGEST`] bytes with a mark.
fn cut(text: &str) -> String {
    if text.len() <= LONGEST {
        return text.to_owned();
    }
    let end = (0..=LONGEST).rev().find(|at| text.is_char_boundary(*at)).unwrap_or_default();
    format!("{}…", text.get(..end).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_read_or_told_what_to_write() {
        let parse = |text| Query::parse(text, Asked::Tunnels);
        let query = parse("limit=7&filter=Git+%C3%A9&sort=bytes&order=asc").expect("right");
        assert_eq!((query.limit, query.filter.as_str(), query.descending), (7, "git é", false));
        assert_eq!(query.sort, tunnels::Sort::Bytes);
        assert_eq!(parse("").expect("nothing").limit, LIMIT);
        for (text, wrong) in [
            ("limit=2001", "limit: write a number from 0 to 2000"),
            ("limit=-1", "limit: write a number from 0 to 2000"),
            ("limit", "limit: write a number from 0 to 2000"),
            ("filter=%ff", "filter: not UTF-8 in %-encoding"),
            ("filter=%4", "filter: not UTF-8 in %-encoding"),
            ("filter=%+4", "filter: not UTF-8 in %-encoding"),
            ("order=up", "order: write asc or desc"),
            ("verbose=1", "unknown parameter: there are limit, filter, sort, order"),
        ] {
            assert_eq!(parse(text).expect_err(text).to_string(), wrong);
        }
        assert!(parse("sort=x").expect_err("none").to_string().starts_with("sort: write one of age, "));
        assert_eq!(
            Query::parse("a=1", Asked::Status).expect_err("none").to_string(),
            "there are no parameters here"
        );
    }

    #[test]
    fn a_long_text_is_cut_at_a_character() {
        assert_eq!(cut("short"), "short");
        let text = cut(&"é".repeat(1_000));
        assert!(text.ends_with("é…") && text.len() <= LONGEST + 3);
    }
}
