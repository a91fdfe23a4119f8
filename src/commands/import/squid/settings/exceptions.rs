//! What Squid reaches without its parent: what `always_direct` allows, and what `cache_peer_access` denies the parent; or all but what it
//! allows the parent, where that is some lists of hosts and no more.
//!
//! Only lines of one plain list of names or addresses are carried over, and only those before a line that says anything else. What is
//! not carried over goes through the parent. Not here: the parent itself ([`super::parent`]).

use std::collections::BTreeSet;

use super::super::acl::{Acl, AclTest, Acls, Literal};
use super::super::files::Files;
use super::super::lexer::Line;
use super::super::routes;
use super::parent;
use crate::commands::import::draft::{Draft, Exception, ParentFor, Setting};
use crate::commands::import::notes::{NoteKind, Notes};
use crate::rules::HostPattern;
use crate::words::small_sort::SmallCollect as _;

/// At most so many hosts of one list.
const MOST: usize = 500;
/// So many hosts are told that only partly went through the parent.
const NAMED: usize = 6;
const EITHER: &str = "either all connections go through the parent (`upstream_proxy`), or none, save lists of names and networks";

/// Reads every `always_direct` and `cache_peer_access`, once the parent is known.
pub(super) fn read(lines: &[Line], acls: &Acls, draft: &mut Draft, notes: &mut Notes) {
    let parent = draft.get(Setting::UpstreamProxy).map(|parent| parent.place.clone());
    let named = lines.iter().find(|line| Some(&line.place) == parent.as_ref()).map(names).unwrap_or_default();
    let mut plain = true;
    for line in lines.iter().filter(|line| line.name == "always_direct") {
        let taken =
            plain && parent.is_some() && line.word(0) == Some("allow") && take(line, 1, acls, draft, notes);
        if !taken {
            // An exception behind a line that says something else would be one too many.
            plain = plain && line.word(0) != Some("deny");
            notes.tell(
                &line.place,
                NoteKind::Lost,
                format!("{} is not carried over: {EITHER}", line.shown()),
            );
        }
    }
    if parent.is_some()
        && let Some(some) = only_some(lines, &named, acls)
    {
        draft.parent_for = Some(some);
        return;
    }
    let several = lines.iter().filter(|line| routes::is_parent(line)).count() > 1;
    let mut plain = !parent::always(lines);
    for line in lines.iter().filter(|line| matches!(&*line.name, "cache_peer_access" | "cache_peer_domain")) {
        let of_parent = line.name == "cache_peer_access"
            && line.word(0).is_some_and(|peer| named.contains(&peer.to_owned()));
        let taken = plain && of_parent && line.word(1) == Some("deny") && take(line, 2, acls, draft, notes);
        if !taken {
            plain = plain && !of_parent;
            parent::access(line, several, notes);
        }
    }
}

/// Which hosts alone go through the parent: all that its lines allow, before one that denies all.
fn only_some(lines: &[Line], named: &[String], acls: &Acls) -> Option<ParentFor> {
    let is_one = lines.iter().filter(|line| routes::is_parent(line)).count() == 1;
    let access: Vec<&Line> = lines
        .iter()
        .filter(|line| matches!(&*line.name, "cache_peer_access" | "cache_peer_domain"))
        .filter(|line| line.word(0).is_some_and(|peer| named.contains(&peer.to_owned())))
        .collect();
    let denies_all =
        |line: &&Line| line.word(1) == Some("deny") && line.word(2) == Some("all") && line.words.len() == 3;
    let (rest, allowing) = match access.split_last() {
        Some((last, before)) if denies_all(last) => (Some(last.place.clone()), before),
        _ => (None, access.as_slice()),
    };
    let mut some = ParentFor { lines: Vec::new(), rest, lists: BTreeSet::new(), hosts: Vec::new() };
    for line in allowing {
        let acl = plain(line, 2, acls)
            .filter(|_| line.word(1) == Some("allow") && line.name == "cache_peer_access")?;
        some.lines.push(line.place.clone());
        some.lists.extend(acl.places.values().chain([&acl.place]).cloned());
        some.hosts.extend(hosts(acl)?);
    }
    // What is kept from going directly is among them, or there would be no way for it.
    let within = |host: &String| some.covers(host);
    let never = lines.iter().filter(|line| line.name == "never_direct");
    let known = never.into_iter().all(|line| {
        let hosts = plain(line, 1, acls).filter(|_| line.word(0) == Some("allow")).and_then(hosts);
        hosts.is_some_and(|hosts| hosts.iter().all(within))
    });
    (is_one && known && !some.hosts.is_empty()).then_some(some)
}

/// The one list that a line names from this word on, if all of it is known.
fn plain<'a>(line: &Line, from: usize, acls: &'a Acls) -> Option<&'a Acl> {
    let literals = Literal::list(line, from);
    let [Literal { negated: false, acl, .. }] = literals.as_slice() else { return None };
    acls.get(acl).filter(|acl| !line.doubtful && !acl.partly)
}

/// Lets everything else that is allowed go directly, where only some hosts go through the parent.
pub(in crate::commands::import::squid) fn all_but(draft: &mut Draft, files: &Files, notes: &mut Notes) {
    let Some(some) = draft.parent_for.take() else { return };
    let Some(place) = some.lines.first().cloned() else { return };
    let mut others: BTreeSet<String> = BTreeSet::new();
    let mut through: BTreeSet<String> = BTreeSet::new();
    for host in draft.allowed_hosts(|path| files.read_written(path)) {
        let text = host.to_string();
        match some.meets(&host) {
            false if !matches!(host, HostPattern::Labels(_)) => drop(others.insert(text)),
            false => drop(through.insert(text)),
            true if some.covers(&text) => {}
            true => drop(through.insert(text)),
        }
    }
    if let Some(rest) = &some.rest {
        notes.tell(
            rest,
            NoteKind::Differs,
            "what the lines before it do not list goes directly, as it did (`upstream_proxy.except`)",
        );
    }
    for line in &some.lines {
        let text = "these go through the parent, and all other hosts that are allowed go directly, as they did (`upstream_proxy.except`): one that \
                    is added later goes through the parent until it is written there too";
        notes.tell(line, NoteKind::Differs, text);
    }
    if others.len() > MOST {
        let text = format!(
            "more than {MOST} other hosts are allowed, so everything goes through the parent: write what is to go directly under `upstream_proxy.except`"
        );
        return notes.tell(&place, NoteKind::Differs, text);
    }
    for host in through.iter().take(NAMED) {
        let text = format!(
            "`{host}` goes through the parent too: some of it did, and `except` has no exceptions of its own"
        );
        notes.tell(&place, NoteKind::Differs, text);
    }
    if !others.is_empty() {
        draft.except.push(Exception { line: place, lists: some.lists, hosts: others.into_iter().collect() });
    }
}

/// By which names the lines call the parent.
fn names(line: &Line) -> Vec<String> {
    let given = line.from(4).filter_map(|option| option.strip_prefix("name=")).map(str::to_owned);
    match given.last() {
        Some(name) => vec![name],
        None => line.word(0).map(str::to_owned).into_iter().collect(),
    }
}

/// Adds the hosts of the one list that the line names from this word on; false: they are not those of a plain list.
fn take(line: &Line, from: usize, acls: &Acls, draft: &mut Draft, notes: &mut Notes) -> bool {
    let literals = Literal::list(line, from);
    let [Literal { negated: false, acl, .. }] = literals.as_slice() else { return false };
    let Some(hosts) = acls.get(acl).filter(|acl| !line.doubtful && !acl.partly).and_then(hosts) else {
        return false;
    };
    let Some(acl) = acls.get(acl) else { return false };
    let is_address = matches!(acl.test, AclTest::Destination { .. });
    let lists = acl.places.values().chain([&acl.place]).cloned().small_collect();
    draft.except.push(Exception { line: line.place.clone(), lists, hosts });
    let text = match is_address {
        false => "these go directly now, as they did (`upstream_proxy.except`)",
        true => {
            "targets that are written as such an address go directly, as they did (`upstream_proxy.except`); a name that leads to one \
             goes through the parent, because none is looked up to choose the way"
        }
    };
    notes.tell(&line.place, NoteKind::Differs, format!("{}: {text}", line.shown()));
    true
}

/// The hosts of a list, as egressd writes them. None: it is another kind of list, or not wholly known.
fn hosts(acl: &Acl) -> Option<Vec<String>> {
    let hosts: Vec<String> = match &acl.test {
        AclTest::Host(hosts) if acl.kind == "dstdomain" => hosts.plain()?,
        AclTest::Destination { addresses, .. } => {
            addresses.certain().iter().map(ToString::to_string).collect()
        }
        _ => return None,
    };
    let is_host = |host: &String| {
        host.parse::<ipnet::IpNet>().is_ok()
            || HostPattern::parse(host).is_ok_and(|pattern| !matches!(pattern, HostPattern::Labels(_)))
    };
    (!hosts.is_empty() && hosts.len() <= MOST && hosts.iter().all(is_host)).then_some(hosts)
}
