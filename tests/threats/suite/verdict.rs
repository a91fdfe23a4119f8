//! What came of a case, seen from outside and whoever the proxy is.

use std::net::IpAddr;

use super::case::{Case, Harm};
use super::drive::Said;
use super::world::{News, World};

/// Whether the attack succeeded. `log` is what the proxy wrote meanwhile.
pub fn harmed(case: &Case, world: &World, said: &Said, news: &News, log: &[u8]) -> bool {
    let ok = |ip: IpAddr| world.is_ok(ip);
    match &case.harm {
        Harm::None => false,
        Harm::Reached => news.reached.iter().any(|seen| !seen.bytes.is_empty() || !ok(seen.local.ip())),
        Harm::Elsewhere => news.reached.iter().any(|seen| !ok(seen.local.ip())),
        Harm::Bytes(needle) => {
            let needle = world.fill(needle);
            news.reached.iter().any(|seen| contains(&seen.bytes, &needle))
        }
        Harm::Asked(part) => news.asked.iter().any(|question| question.name.contains(part.as_str())),
        Harm::Told(needle) => contains(&said.all(), &world.fill(needle)),
        Harm::Logged(needle) => log.windows(needle.len()).any(|window| window == needle),
        Harm::Served => {
            let succeeded = said.status().is_some_and(|status| status < 400);
            succeeded && news.reached.iter().all(|seen| seen.bytes.is_empty())
        }
        Harm::Inside(needle) => contains(&news.inside, needle),
    }
}

/// Whether `needle` is in there, whatever the case of its ASCII letters.
fn contains(bytes: &[u8], needle: &[u8]) -> bool {
    bytes.windows(needle.len().max(1)).any(|window| window.eq_ignore_ascii_case(needle))
}
