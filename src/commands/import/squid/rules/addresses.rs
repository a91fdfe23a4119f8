//! Rules for addresses: those that are written as the target, and networks that no name may lead to.

use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;

use ipnet::IpNet;

use super::super::acl::AskedHost;
use super::super::table::{VerdictRow, VerdictTable};
use super::content::{Gathering, PolicyContent};
use super::index::{Index, NetworkEntry};
use super::lists::Stay;
use super::of_class::OfClass;
use super::reach::{Above, Reach};
use crate::commands::import::draft::DraftRule;
use crate::commands::import::notes::NoteKind;
use crate::rules::HostPattern;
use crate::rules::address::holds_private;
use crate::words::small_sort::SmallCollect as _;

/// Adds what the table says of addresses.
pub(super) fn add(
    gathering: &mut Gathering<'_, '_>,
    index: &Index<'_>,
    table: &mut VerdictTable<'_>,
    files: &OfClass<'_>,
) {
    let closed = led_to(gathering, index, table);
    // Wider networks come first.
    let mut above: HashMap<usize, Above> = HashMap::new();
    let mut quiet = vec![false; index.groups];
    for (number, entry) in index.networks.iter().enumerate() {
        if quiet.get(entry.group) == Some(&true) {
            continue;
        }
        let network = &entry.network;
        let row = table.row(AskedHost::Network(*network));
        if network.prefix_len() == 0 {
            gathering.everything(&row);
            above.insert(number, Above::nothing(gathering.segments));
            continue;
        }
        let inherited = entry.parent.and_then(|parent| above.get(&parent)).cloned();
        let inherited = inherited.unwrap_or_else(|| Above::nothing(gathering.segments));
        let (left, said) = one(gathering, index, entry, &row, &inherited, files, &closed);
        if network.prefix_len() < network.max_prefix_len() {
            above.insert(number, left);
        } else if let Some(quiet) = quiet.get_mut(entry.group) {
            *quiet = !said;
        }
    }
}

/// One network. Returns what holds for those inside it, and whether something was said that is about it alone.
fn one(
    gathering: &mut Gathering<'_, '_>,
    index: &Index<'_>,
    entry: &NetworkEntry,
    row: &VerdictRow,
    inherited: &Above,
    files: &OfClass<'_>,
    closed: &[IpNet],
) -> (Above, bool) {
    let network = &entry.network;
    // Squid let these addresses through, and nothing else opens them.
    let private = holds_private(network);
    gathering.seen(row);
    let mut allowed = gathering.allowed(row);
    let Above { granted, denied } = inherited;
    let [allow, deny] = index.files_of_network(entry);
    let (mut by_file, mut written) = (Reach::nothing(gathering.segments), Reach::nothing(gathering.segments));
    let mut any = false;
    for (number, _) in allow {
        let Some((list, forced)) = files.allowing(*number) else { continue };
        any = true;
        match list.stay {
            Stay::File if !private => by_file = by_file.or(forced),
            // A line of a file opens nothing: a rule of its own does.
            Stay::File | Stay::Written => written = written.or(&forced.and(&allowed)),
            Stay::LeftOut => {}
        }
    }
    let missing = if any {
        let grants = by_file.or(&written);
        for (list, forced) in allow.iter().filter_map(|(number, _)| files.allowing(*number)) {
            gathering.other_ports(&[(row, &allowed, &grants)], granted, list, forced);
        }
        allowed = allowed.and(&grants.or(granted));
        written.without(&by_file).without(granted)
    } else {
        allowed.without(granted)
    };
    let covered = granted.or(&by_file);
    let mut hole = covered.without(&allowed).without(denied);
    if files.denied(deny).is_some() {
        hole = Reach::nothing(gathering.segments); // the file says so already
    }
    let by_above = allowed.and(denied);
    let left = Above { granted: granted.or(&allowed), denied: denied.or(&hole) };
    let by = row.allowed().next().map_or(usize::MAX, |(_, by, _)| by);
    let place = gathering.rule_place(by);
    let host = host(network);
    gathering.write_opened(&host, &missing, &place, true, private.then_some(*network));
    gathering.write(&host, &hole, &place, false);
    gathering.lost(
        row,
        &by_above,
        &format!(
            "`{host}` stays denied, as what stands above it is: in egressd `deny` wins over every `allow`"
        ),
    );
    if !hole.is_empty() {
        let PolicyContent { connect, http, perhaps, .. } = &gathering.content;
        let rules: BTreeSet<usize> = connect.iter().chain(http).chain(perhaps).copied().small_collect();
        for by in rules {
            let text = format!(
                "a name of this line that leads to `{host}` is denied now: in egressd a `deny` of an address also holds for the names that lead to it"
            );
            let place = gathering.rule_place(by);
            gathering.notes.tell(&place, NoteKind::Stricter, text);
        }
    }
    let shut = closed.iter().any(|closed| closed.contains(network)) && !allowed.is_empty();
    if shut {
        gathering.lost(
            row,
            &allowed,
            &format!("`{host}` stays denied, because it is in a network that a line with `dst` denies"),
        );
    }
    let said = shut || !(missing.is_empty() && hole.is_empty() && by_above.is_empty());
    (left, said)
}

/// Denies the networks that no name may lead to; returns them.
fn led_to(gathering: &mut Gathering<'_, '_>, index: &Index<'_>, table: &mut VerdictTable<'_>) -> Vec<IpNet> {
    let mut rows: Vec<Rc<VerdictRow>> = Vec::new();
    let mut seen = vec![false; index.groups];
    for entry in &index.names {
        if seen.get_mut(entry.group).is_some_and(|seen| !std::mem::replace(seen, true)) {
            rows.push(table.row(AskedHost::Name(entry.name)));
            rows.push(table.row(AskedHost::Below(entry.name)));
        }
    }
    // Files without names have such lines too.
    let mut unless = gathering.content.unless.clone();
    unless.extend(rows.iter().flat_map(|row| row.allowed()).flat_map(|(_, _, unless)| unless.to_vec()));
    let mut closed: Vec<IpNet> = Vec::new();
    for number in unless {
        let networks: Vec<IpNet> = gathering.access.networks(number).to_vec();
        let place = gathering.rule_place(number);
        let entries = networks.iter().map(|network| DraftRule {
            place: place.clone(),
            text: host(&network.trunc()),
            private: None,
        });
        gathering.content.deny.extend(entries);
        closed.extend(networks);
        let earlier: BTreeSet<usize> = rows
            .iter()
            .flat_map(|row| row.allowed().map(|(index, by, unless)| (row.doubts(index), by, unless)))
            .filter(|(_, _, unless)| !unless.contains(&number))
            .flat_map(|(doubts, by, _)| doubts.iter().map(|(rule, _)| *rule).chain([by]))
            .small_collect();
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
