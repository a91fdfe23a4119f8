//! The result of a case, seen from outside and in the same way for any proxy.

use std::net::IpAddr;

use super::case::{Case, Harm, Step};
use super::drive::Said;
use super::hello;
use super::origin_reads::is_one_clean_request;
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

/// Whether `bytes` contain `needle`, ignoring the case of ASCII letters.
fn contains(bytes: &[u8], needle: &[u8]) -> bool {
    bytes.windows(needle.len().max(1)).any(|window| window.eq_ignore_ascii_case(needle))
}

/// The result of a case, in a word or two. Two rows of the table are the same if these results are.
pub fn verdict(case: &Case, world: &World, said: &Said, news: &News, log: &[u8]) -> String {
    if harmed(case, world, said, news, log) {
        return match case.harm {
            Harm::Asked(_) => "asked of DNS",
            // The client got a target's answer, although it should have got nothing.
            Harm::Told(_) if !news.reached.is_empty() => "forwarded",
            Harm::Told(_) => "told back",
            Harm::Logged(_) => "logged raw",
            Harm::Served => "served",
            Harm::Reached if repaired(world, news) => "rewritten",
            _ => "forwarded",
        }
        .to_owned();
    }
    let arrived = news.reached.iter().any(|seen| !seen.bytes.is_empty());
    let status = said.status();
    if matches!(case.harm, Harm::None) {
        let answered = arrived && (status.is_some_and(|status| status < 400) || !said.tail.is_empty());
        return if answered { "passed".to_owned() } else { format!("broken{}", with_space(status)) };
    }
    match (status, said.end) {
        (Some(status @ 400..), _) => format!("refused {status}"),
        _ if arrived && is_plain(case) => "rewritten".to_owned(),
        _ if arrived => "passed harmless".to_owned(),
        // The tunnel is open, and the client that asked for it has it.
        (Some(200), _) if !case.steps.iter().any(|step| matches!(step, Step::Established)) => {
            "accepted".to_owned()
        }
        _ if said.tail.starts_with(&[21, 3]) => "alert".to_owned(),
        (_, Some(_)) => "closed".to_owned(),
        (_, None) => "left open".to_owned(),
    }
}

/// What arrived is correct, and it arrived where it should.
fn repaired(world: &World, news: &News) -> bool {
    news.reached.iter().all(|seen| {
        let is_place = world.is_ok(seen.local.ip()) && seen.local.port() == world.web;
        is_place && is_one_clean_request(&seen.bytes, hello::OK, world.web)
    })
}

fn is_plain(case: &Case) -> bool {
    !matches!(case.steps.first(), Some(Step::Send(bytes)) if bytes.starts_with(b"CONNECT "))
}

fn with_space(status: Option<u16>) -> String {
    status.map_or_else(String::new, |status| format!(" {status}"))
}
