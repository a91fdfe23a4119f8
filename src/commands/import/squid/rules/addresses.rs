//! Rules for addresses: those that are written as the target, and networks that no name may lead to.

use std::collections::BTreeSet;
use std::rc::Rc;

use ipnet::IpNet;

use super::super::acl::Asked;
use super::super::table::{Mentioned, Row, Table};
use super::content::{Bits, Making};
use crate::commands::import::draft::Rule;
use crate::commands::import::notes::Kind;
use crate::rules::HostPattern;

/// Adds what the table says of addresses.
pub(super) fn add(making: &mut Making<'_, '_>, mentioned: &Mentioned, table: &mut Table<'_>) {
    let closed = led_to(making, mentioned, table);
    let nothing: Bits = vec![false; making.segments.len() * 2];
    // Wider networks come first.
    let mut above: Vec<(IpNet, Bits, Bits)> = Vec::new();
    for network in &mentioned.networks {
        let row = table.row(Asked::Network(*network));
        if network.prefix_len() == 0 {
            making.everything(&row);
            above.push((*network, nothing.clone(), nothing.clone()));
            continue;
        }
        making.seen(&row);
        let allowed = making.bits(&row);
        let inherited = above.iter().rev().find(|(wider, _, _)| wider.contains(network));
        let (granted, denied) =
            inherited.map_or((&nothing, &nothing), |(_, granted, denied)| (granted, denied));
        let missing: Bits = allowed.iter().zip(granted).map(|(bit, above)| *bit && !above).collect();
        let hole: Bits = granted
            .iter()
            .zip(&allowed)
            .zip(denied)
            .map(|((granted, allowed), denied)| *granted && !allowed && !denied)
            .collect();
        let by_above: Bits =
            allowed.iter().zip(denied).map(|(allowed, denied)| *allowed && *denied).collect();
        let granted: Bits = granted.iter().zip(&allowed).map(|(one, two)| *one || *two).collect();
        let denied: Bits = denied.iter().zip(&hole).map(|(one, two)| *one || *two).collect();
        let by = row.allowed().next().map_or(usize::MAX, |(_, by, _)| by);
        let place = making.rule_place(by);
        let host = host(network);
        making.write(&host, &missing, &place, true);
        making.write(&host, &hole, &place, false);
        making.lost(
            &row,
            &by_above,
            &format!(
                "`{host}` stays denied, as what stands above it is: in egressd `deny` wins over every `allow`"
            ),
        );
        if hole.contains(&true) {
            let rules: BTreeSet<usize> =
                making.content.connect.union(&making.content.http).copied().collect();
            for by in rules {
                let text = format!(
                    "where a name of this line leads to `{host}`, it is denied now, because that address is: in egressd `deny` holds for both"
                );
                let place = making.rule_place(by);
                making.notes.tell(&place, Kind::Stricter, text);
            }
        }
        if closed.iter().any(|closed| closed.contains(network)) {
            making.lost(
                &row,
                &allowed,
                &format!("`{host}` stays denied, because it is in a network that a line with `dst` denies"),
            );
        }
        above.push((*network, granted, denied));
    }
}

/// Denies the networks that no name may lead to; returns them.
fn led_to(making: &mut Making<'_, '_>, mentioned: &Mentioned, table: &mut Table<'_>) -> Vec<IpNet> {
    let mut rows: Vec<(&str, Rc<Row>)> = Vec::new();
    for name in &mentioned.names {
        rows.push((name, table.row(Asked::Name(name))));
        rows.push((name, table.row(Asked::Below(name))));
    }
    let unless: BTreeSet<usize> =
        rows.iter().flat_map(|(_, row)| row.allowed()).flat_map(|(_, _, unless)| unless.to_vec()).collect();
    let mut closed: Vec<IpNet> = Vec::new();
    for number in unless {
        let networks: Vec<IpNet> = making.access.networks(number).to_vec();
        let place = making.rule_place(number);
        let entries =
            networks.iter().map(|network| Rule { place: place.clone(), text: host(&network.trunc()) });
        making.content.deny.extend(entries);
        closed.extend(networks);
        let earlier: BTreeSet<usize> = rows
            .iter()
            .flat_map(|(_, row)| row.allowed())
            .filter(|(_, _, unless)| !unless.contains(&number))
            .map(|(_, by, _)| by)
            .collect();
        for by in earlier {
            let text = format!(
                "where a name of this line leads to what line {} denies by `dst`, it is denied now: in egressd `deny` wins over every `allow`",
                place.line
            );
            let place = making.rule_place(by);
            making.notes.tell(&place, Kind::Stricter, text);
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
