//! What Squid reaches without its parent: what `always_direct` allows, and what `cache_peer_access` denies the parent.
//!
//! Only lines of one plain list of names or addresses are carried over, and only those before a line that says anything else. What is
//! not carried over goes through the parent. Not here: the parent itself ([`super::parent`]).

use super::super::acl::{Acl, AclTest, Acls, Literal};
use super::super::lexer::Line;
use super::parent;
use crate::commands::import::draft::{Draft, Exception, Setting};
use crate::commands::import::notes::{NoteKind, Notes};
use crate::rules::HostPattern;

/// At most so many hosts of one list.
const MOST: usize = 500;
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
    let always = parent::always(lines);
    let mut plain = !always;
    for line in lines.iter().filter(|line| matches!(&*line.name, "cache_peer_access" | "cache_peer_domain")) {
        let of_parent = line.name == "cache_peer_access"
            && line.word(0).is_some_and(|peer| named.contains(&peer.to_owned()));
        let taken = plain && of_parent && line.word(1) == Some("deny") && take(line, 2, acls, draft, notes);
        if !taken {
            plain = plain && !of_parent;
            parent::access(line, always, notes);
        }
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
    let lists = acl.places.values().chain([&acl.place]).cloned().collect();
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
