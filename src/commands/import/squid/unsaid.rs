//! The last word: a line of which nothing is told so far, and from which nothing in egressd.yaml comes, is told here.

use std::collections::{BTreeMap, HashSet};

use super::access::Access;
use super::lexer::Line;
use super::list::key;
use super::settings::is_ignored;
use crate::commands::import::notes::{NoteKind, Notes};

/// So many lines are told with their first.
const NUMBERED: usize = 40;

/// Tells of each such line; those of one directive together, at the first.
pub(super) fn tell(lines: &[Line], access: &Access<'_>, yaml: &str, notes: &mut Notes) {
    let used: HashSet<&str> = access.used().into_iter().map(|(key, _)| key).collect();
    let trusting: HashSet<String> = lines
        .iter()
        .filter(|line| matches!(line.name.as_str(), "proxy_protocol_access" | "ssl_bump"))
        .flat_map(|line| line.from(1).map(|word| key(word.trim_start_matches('!'))).collect::<Vec<_>>())
        .collect();
    let written: HashSet<&str> =
        yaml.lines().filter_map(|line| line.rsplit_once("# ").map(|(_, place)| place)).collect();
    let formats: HashSet<&str> = lines
        .iter()
        .filter(|line| line.name == "access_log")
        .flat_map(|line| line.from(1).map(|word| word.strip_prefix("logformat=").unwrap_or(word)))
        .collect();
    let mut unsaid: BTreeMap<(&str, &str), Vec<&Line>> = BTreeMap::new();
    for line in lines {
        let place = format!("{}:{}", line.place.file, line.place.line);
        let counts = match line.name.as_str() {
            // Each of these lines is told, or has a part in a verdict.
            "http_access" => true,
            "acl" => line.word(0).is_some_and(|name| {
                let key = key(name);
                used.contains(key.as_str()) || trusting.contains(&key)
            }),
            // Several lines make one value, or another line holds the place of this one.
            "proxy_protocol_access" => yaml.contains("proxy_protocol:"),
            "request_header_access" | "header_access" => {
                let headers =
                    yaml.lines().find(|text| text.trim_start().starts_with("remove_request_headers:"));
                let removes = |name: &str| headers.is_some_and(|text| text.contains(name));
                line.word(1) == Some("deny") && line.word(0).is_some_and(removes)
            }
            "dns_nameservers" => {
                let servers = yaml.lines().find(|text| text.trim_start().starts_with("servers:"));
                line.from(0).any(|word| servers.is_some_and(|text| text.contains(word)))
            }
            "logformat" => formats.contains(line.word(0).unwrap_or_default()),
            "ssl_bump" => {
                let deciding = access.bump_deciding.borrow();
                let mut rules = access.bump.rules.iter().enumerate();
                rules.any(|(number, rule)| rule.place == line.place && deciding.contains(&number))
            }
            name => is_ignored(name),
        };
        if !counts && !written.contains(place.as_str()) && !notes.tell_of(&line.place) {
            unsaid.entry((&line.place.file, &line.name)).or_default().push(line);
        }
    }
    for ((_, name), lines) in unsaid {
        let Some((first, more)) = lines.split_first() else { continue };
        let mut text = first.shown();
        if !more.is_empty() {
            let numbers: Vec<String> =
                more.iter().take(NUMBERED).map(|line| line.place.line.to_string()).collect();
            let beyond = if more.len() > NUMBERED { ", and further ones" } else { "" };
            let are = if more.len() == 1 { "line" } else { "lines" };
            text = format!("{text}, and the `{name}` of {are} {}{beyond}", numbers.join(", "));
        }
        notes.tell(
            &first.place,
            NoteKind::Lost,
            format!("{text}: nothing in egressd.yaml comes from this: {}", why(name)),
        );
    }
}

/// Why lines of a directive come to nothing.
fn why(name: &str) -> &'static str {
    match name {
        "acl" => "no line of `http_access` or `ssl_bump` uses the list",
        "auth_param" => "egressd runs no helpers, and says itself what a browser shows",
        "forwarded_for" => "X-Forwarded-For is never sent on",
        "hosts_file" => "egressd reads /etc/hosts too",
        "request_header_access" | "header_access" => {
            "the header is never sent on or always is, an earlier line decides on it, or no plain HTTP is allowed"
        }
        "never_direct" => {
            "what it keeps from going directly goes through the parent, as what may go both ways does"
        }
        "logformat" => "no access log is written in this format",
        "ssl_bump" => {
            "egressd always reads the ClientHello first and opens no tunnel, or no tunnel comes to this line"
        }
        "proxy_protocol_access" => "an earlier line decides, or no port wants the header",
        "cache_peer" => "it names no parent and port",
        "dns_nameservers" | "dns_timeout" | "connect_timeout" | "read_timeout" | "request_timeout"
        | "client_lifetime" | "shutdown_lifetime" => {
            "it has no value that egressd takes, or another line sets the same"
        }
        _ => "it has no value that egressd takes, another line sets the same, or it is the default",
    }
}
