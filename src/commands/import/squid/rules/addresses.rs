//! Rules for addresses: those that are written as the target, and networks that no name may lead to.

use std::collections::BTreeSet;
use std::rc::Rc;

use ipnet::IpNet;

use super::super::acl::AskedHost;
use super::super::table::{Mentioned, VerdictRow, VerdictTable};
use super::content::Gathering;
use super::reach::Above;
use crate::commands::import::draft::DraftRule;
use crate::commands::import::notes::NoteKind;
use crate::rules::HostPattern;

/// Adds what the table says of addresses.
pub(super) fn add(gathering: &mut Gathering<'_, '_>, mentioned: &Mentioned, table: &mut VerdictTable<'_>) {
    let closed = led_to(gathering, mentioned, table);
    // Wider networks come first.
    let mut above: Vec<(IpNet, Above)> = Vec::new();
    for network in &mentioned.networks {
        let row = table.row(AskedHost::Network(*network));
        if network.prefix_len() == 0 {
            gathering.everything(&row);
            above.push((*network, Above::nothing(&mentioned.segments)));
            continue;
        }
        gathering.seen(&row);
        let allowed = gathering.allowed(&row);
        let inherited = above.iter().rev().find(|(wider, _)| wider.contains(network));
        let Above { granted, denied } =
            inherited.map_or_else(|| Above::nothing(&mentioned.segments), |(_, inherited)| inherited.clone());
        let missing = allowed.without(&granted);
        let hole = granted.without(&allowed).without(&denied);
        let by_above = allowed.and(&denied);
        let left = Above { granted: granted.or(&allowed), denied: denied.or(&hole) };
        let by = row.allowed().next().map_or(usize::MAX, |(_, by, _)| by);
        let place = gathering.rule_place(by);
        let host = host(network);
        gathering.write(&host, &missing, &place, true);
        gathering.write(&host, &hole, &place, false);
        gathering.lost(
            &row,
            &by_above,
            &format!(
                "`{host}` stays denied, as what stands above it is: in egressd `deny` wins over every `allow`"
            ),
        );
        if !hole.is_empty() {
            let rules: BTreeSet<usize> =
                gathering.content.connect.union(&gathering.content.http).copied().collect();
            for by in rules {
                let text = format!(
                    "a name of this line that leads to `{host}` is denied now: in egressd a `deny` of an address also holds for the names that lead to it"
                );
                let place = gathering.rule_place(by);
                gathering.notes.tell(&place, NoteKind::Stricter, text);
            }
        }
        if closed.iter().any(|closed| closed.contains(network)) {
            gathering.lost(
                &row,
                &allowed,
                &format!("`{host}` stays denied, because it is in a network that a line with `dst` denies"),
            );
        }
        above.push((*network, left));
    }
}

/// Denies the networks that no name may lead to; returns them.
fn led_to(
    gathering: &mut Gathering<'_, '_>,
    mentioned: &Mentioned,
    table: &mut VerdictTable<'_>,
) -> Vec<IpNet> {
    let mut rows: Vec<(&str, Rc<VerdictRow>)> = Vec::new();
    for name in &mentioned.names {
        rows.push((name, table.row(AskedHost::Name(name))));
        rows.push((name, table.row(AskedHost::Below(name))));
    }
    let unless: BTreeSet<usize> =
        rows.iter().flat_map(|(_, row)| row.allowed()).flat_map(|(_, _, unless)| unless.to_vec()).collect();
    let mut closed: Vec<IpNet> = Vec::new();
    for number in unless {
        let networks: Vec<IpNet> = gathering.access.networks(number).to_vec();
        let place = gathering.rule_place(number);
        let entries =
            networks.iter().map(|network| DraftRule { place: place.clone(), text: host(&network.trunc()) });
        gathering.content.deny.extend(entries);
        closed.extend(networks);
        let earlier: BTreeSet<usize> = rows
            .iter()
            .flat_map(|(_, row)| row.allowed())
            .filter(|(_, _, unless)| !unless.contains(&number))
            .map(|(_, by, _)| by)
            .collect();
        for by in earlier {
            let text = format!(
                "a name of this line that leads to what line {} denies by `dst` is denied now: in egressd `deny` wins over every `allow`",
                place.line
            );
            let place = gathering.rule_place(by);
            gathering.notes.tell(&place, NoteKind::Stricter, text);
        }
    }
    closed
}

/// A network as rules write it.
fn host(network: &IpNet) -> String {
    if network.prefix_len() == network.max_prefix_len() {
        return HostPattern::Address(network.addr()).to_string();
    }
    HostPattern::Network(*network).to_string()
}
