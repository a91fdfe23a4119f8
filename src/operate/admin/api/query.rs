//! What a query of the JSON asks for, and the bounds of every answer.

use std::fmt;

use jiff::SignedDuration;

use crate::telemetry::record::Cause;
use crate::wire::query::decoded;
use crate::words::outcome::Reason;

/// Items in a list if the query sets no limit.
pub(super) const LIMIT: usize = 500;
/// Items of a list at most: 2,000 tunnels are about 1 MB.
pub(super) const MOST: usize = 2_000;
/// The largest number of days.
const DAYS: usize = 3_650;
/// The largest offset: more than there can be of anything here.
const FARTHEST: usize = 1_000_000;
/// Bytes kept of a text that a client or the configuration wrote and that has no bound of its own.
const LONGEST: usize = 512;

/// Which answer is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::operate::admin) enum Endpoint {
    Status,
    Tunnels,
    Decisions,
    Allowed,
    Policy,
}

impl Endpoint {
    pub(in crate::operate::admin) fn of(path: &str) -> Option<Self> {
        Some(match path {
            "/api/status" => Endpoint::Status,
            "/api/tunnels" => Endpoint::Tunnels,
            "/api/decisions" => Endpoint::Decisions,
            "/api/allowed" => Endpoint::Allowed,
            "/api/policy" => Endpoint::Policy,
            _ => return None,
        })
    }

    fn parameters(self) -> &'static [&'static str] {
        match self {
            Endpoint::Status => &[],
            Endpoint::Tunnels => &["limit", "filter", "sort", "order"],
            Endpoint::Decisions => {
                &["limit", "offset", "filter", "kind", "reason", "policy", "client", "domain", "per_domain"]
            }
            Endpoint::Allowed => &["limit", "filter"],
            Endpoint::Policy => &["limit", "filter", "unused"],
        }
    }
}

/// What the query asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::operate::admin) struct Query {
    pub(super) limit: usize,
    /// In lower case; empty: everything.
    pub(super) filter: String,
    pub(super) sort: TunnelOrder,
    pub(super) descending: bool,
    /// Of rules: those that were not used for this long.
    pub(super) unused: Option<SignedDuration>,
    pub(super) refused: Sieve,
}

/// Which refusals are asked for, and in which order.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(super) struct Sieve {
    /// How many come before the first one.
    pub(super) offset: usize,
    pub(super) kind: Option<&'static str>,
    pub(super) reason: Option<&'static str>,
    pub(super) policy: Option<String>,
    pub(super) client: Option<String>,
    /// One domain alone.
    pub(super) domain: Option<String>,
    /// Put together by domain; with at most so many of each, if all do not fit into `limit`.
    pub(super) per_domain: Option<usize>,
}

/// What may have happened to a request on the page: `deny`, `error`, or `would_deny` of report mode.
pub(super) const KINDS: [&str; 3] = ["deny", "would_deny", "error"];

/// What is wrong with a query, and what to write instead.
#[derive(PartialEq, Eq, Debug)]
pub(in crate::operate::admin) struct QueryError(String);

impl fmt::Display for QueryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Query {
    /// Reads `limit=10&filter=git`.
    pub(in crate::operate::admin) fn parse(text: &str, asked: Endpoint) -> Result<Self, QueryError> {
        let mut query = Query {
            limit: LIMIT,
            filter: String::new(),
            sort: TunnelOrder::Age,
            descending: true,
            unused: None,
            refused: Sieve::default(),
        };
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            if !asked.parameters().contains(&name) {
                let known = asked.parameters().join(", ");
                return Err(QueryError(match known.as_str() {
                    "" => "this path has no parameters".to_owned(),
                    known => format!("unknown parameter: the known ones are {known}"),
                }));
            }
            let value =
                decoded(value).ok_or_else(|| QueryError(format!("{name}: not UTF-8 in %-encoding")))?;
            match name {
                "limit" => {
                    query.limit = number(name, &value, MOST)?;
                }
                "offset" => query.refused.offset = number(name, &value, FARTHEST)?,
                "per_domain" => query.refused.per_domain = Some(number(name, &value, MOST)?),
                "kind" => query.refused.kind = Some(word(name, &value, KINDS.into_iter())?),
                "reason" => {
                    let reasons = Reason::ALL.iter().map(|reason| reason.as_str());
                    let all = reasons.chain([Cause::ClientGone.as_str()]);
                    query.refused.reason = Some(word(name, &value, all)?);
                }
                "unused" => {
                    let days = i64::try_from(number(name, &value, DAYS)?).unwrap_or_default();
                    query.unused = Some(SignedDuration::from_hours(days * 24));
                }
                "policy" => query.refused.policy = Some(value),
                "client" => query.refused.client = Some(value),
                "domain" => query.refused.domain = Some(value),
                "filter" => query.filter = value.to_lowercase(),
                "sort" => {
                    query.sort = TunnelOrder::parse(&value).ok_or_else(|| {
                        QueryError(format!("sort: write one of {}", TunnelOrder::WORDS.join(", ")))
                    })?;
                }
                _ => {
                    query.descending = match value.as_str() {
                        "asc" => false,
                        "desc" => true,
                        _ => return Err(QueryError("order: write asc or desc".to_owned())),
                    };
                }
            }
        }
        Ok(query)
    }

    pub(super) fn takes(&self, texts: &[Option<&str>]) -> bool {
        self.filter.is_empty()
            || texts.iter().flatten().any(|text| text.to_lowercase().contains(&self.filter))
    }
}

fn number(name: &str, value: &str, most: usize) -> Result<usize, QueryError> {
    let number = value.parse().ok().filter(|number| *number <= most);
    number.ok_or_else(|| QueryError(format!("{name}: write a number from 0 to {most}")))
}

fn word(
    name: &str,
    value: &str,
    mut known: impl Iterator<Item = &'static str> + Clone,
) -> Result<&'static str, QueryError> {
    let all = known.clone();
    let found = known.find(|word| *word == value);
    found.ok_or_else(|| QueryError(format!("{name}: write one of {}", all.collect::<Vec<_>>().join(", "))))
}

/// The order of tunnels.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum TunnelOrder {
    Age,
    Sent,
    Received,
    Bytes,
    Client,
    Identity,
    Target,
    Policy,
}

impl TunnelOrder {
    pub(super) const WORDS: [&str; 8] =
        ["age", "sent", "received", "bytes", "client", "identity", "target", "policy"];

    pub(super) fn parse(word: &str) -> Option<Self> {
        use TunnelOrder::*;
        let all = [Age, Sent, Received, Bytes, Client, Identity, Target, Policy];
        TunnelOrder::WORDS.iter().zip(all).find(|(known, _)| **known == word).map(|(_, sort)| sort)
    }
}

/// A text, cut to [`LONGEST`] bytes with a mark.
pub(super) fn cut(text: &str) -> String {
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
        let parse = |text| Query::parse(text, Endpoint::Tunnels);
        let query = parse("limit=7&filter=Git+%C3%A9&sort=bytes&order=asc").expect("right");
        assert_eq!((query.limit, query.filter.as_str(), query.descending), (7, "git é", false));
        assert_eq!(query.sort, TunnelOrder::Bytes);
        assert_eq!(parse("").expect("nothing").limit, LIMIT);
        for (text, wrong) in [
            ("limit=2001", "limit: write a number from 0 to 2000"),
            ("limit=-1", "limit: write a number from 0 to 2000"),
            ("limit", "limit: write a number from 0 to 2000"),
            ("filter=%ff", "filter: not UTF-8 in %-encoding"),
            ("filter=%4", "filter: not UTF-8 in %-encoding"),
            ("filter=%+4", "filter: not UTF-8 in %-encoding"),
            ("order=up", "order: write asc or desc"),
            ("verbose=1", "unknown parameter: the known ones are limit, filter, sort, order"),
        ] {
            assert_eq!(parse(text).expect_err(text).to_string(), wrong);
        }
        let parse_refused = |text| Query::parse(text, Endpoint::Decisions);
        let sieve =
            parse_refused("offset=40&kind=error&reason=loop&per_domain=3&domain=a.test").expect("right");
        assert_eq!(
            (sieve.refused.offset, sieve.refused.kind, sieve.refused.reason),
            (40, Some("error"), Some("loop"))
        );
        assert_eq!((sieve.refused.per_domain, sieve.refused.domain.as_deref()), (Some(3), Some("a.test")));
        for (text, wrong) in [
            ("offset=x", "offset: write a number from 0 to 1000000"),
            ("per_domain=2001", "per_domain: write a number from 0 to 2000"),
            ("kind=denied", "kind: write one of deny, would_deny, error"),
        ] {
            assert_eq!(parse_refused(text).expect_err(text).to_string(), wrong);
        }
        let told = parse_refused("reason=none").expect_err("no reason").to_string();
        assert!(
            told.starts_with("reason: write one of bad_request, ") && told.ends_with(", client_gone"),
            "{told}"
        );
        assert!(parse("sort=x").expect_err("none").to_string().starts_with("sort: write one of age, "));
        assert_eq!(
            Query::parse("a=1", Endpoint::Status).expect_err("none").to_string(),
            "this path has no parameters"
        );
    }

    #[test]
    fn a_long_text_is_cut_at_a_character() {
        assert_eq!(cut("short"), "short");
        let text = cut(&"é".repeat(1_000));
        assert!(text.ends_with("é…") && text.len() <= LONGEST + 3);
    }
}
