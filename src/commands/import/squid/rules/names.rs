//! Rules for names: what the table allows them, the holes in that, and the lists that stay files.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::super::acl::{Acl, AskedHost};
use super::super::hosts::parents;
use super::super::ports::shown;
use super::super::table::{Mentioned, VerdictRow, VerdictTable};
use super::content::Gathering;
use super::lists::HostList;
use super::reach::{Above, Reach};
use crate::commands::import::draft::AllowFile;
use crate::commands::import::notes::{NoteKind, SourceLine};
use crate::rules::RuleText;

/// Adds what the table says of names.
pub(super) fn add(
    gathering: &mut Gathering<'_, '_>,
    mentioned: &Mentioned,
    table: &mut VerdictTable<'_>,
    lists: &[HostList],
) {
    let mut in_file: HashMap<&str, (usize, bool)> = HashMap::new();
    let mut forced: Vec<Reach> = Vec::new();
    for (number, list) in lists.iter().enumerate() {
        forced.push(file(gathering, list, table));
        for (name, below) in &list.names {
            let entry = in_file.entry(name).or_insert((number, *below));
            entry.1 |= below;
        }
    }
    let mut above_allowed: HashSet<&str> = HashSet::new();
    for name in &mentioned.names {
        let rows = [table.row(AskedHost::Name(name)), table.row(AskedHost::Below(name))];
        if rows.iter().any(|row| row.allowed().next().is_some()) {
            above_allowed.extend(parents(name));
        }
    }
    let mut names = Names { used: gathering.access.used(), gathering, above_allowed };
    let mut above: HashMap<&str, Above> = HashMap::new();
    for name in &mentioned.names {
        let (itself, below) = (table.row(AskedHost::Name(name)), table.row(AskedHost::Below(name)));
        let inherited = parents(name).find_map(|parent| above.get(parent)).cloned();
        let inherited = inherited.unwrap_or_else(|| Above::nothing(&mentioned.segments));
        let file = in_file
            .get(name.as_str())
            .and_then(|(number, below)| Some((forced.get(*number)?, *below, lists.get(*number)?)));
        let left = names.name(name, [&itself, &below], &inherited, file);
        above.insert(name, left);
    }
}

/// Takes a list in as a file: the ways it is for, at the scheme's own port.
fn file(gathering: &mut Gathering<'_, '_>, list: &HostList, table: &mut VerdictTable<'_>) -> Reach {
    let count = gathering.segments.len();
    let own = [gathering.segments.of(443), count + gathering.segments.of(80)];
    let mut forced = Reach::nothing(gathering.segments);
    for (name, below) in &list.names {
        let mut rows = vec![table.row(AskedHost::Name(name))];
        rows.extend(below.then(|| table.row(AskedHost::Below(name))));
        for index in own {
            if rows.iter().any(|row| row.get(index).is_some()) {
                forced.add(index);
            }
        }
    }
    let schemes: Vec<&'static str> = ["https", "http"]
        .into_iter()
        .zip(own)
        .filter(|(_, index)| forced.has(*index))
        .map(|(scheme, _)| scheme)
        .collect();
    if !schemes.is_empty() {
        gathering.content.files.push(AllowFile {
            place: list.place.clone(),
            path: list.path.clone(),
            schemes,
        });
    }
    forced
}

/// The names of one policy while their rules are gathered.
struct Names<'g, 'a, 'n> {
    gathering: &'g mut Gathering<'a, 'n>,
    /// The lists that decide something.
    used: Vec<(&'a str, &'a Acl)>,
    /// Names under which something is allowed.
    above_allowed: HashSet<&'g str>,
}

impl Names<'_, '_, '_> {
    /// One name, and what is under it and not mentioned. Returns what holds for deeper names.
    fn name(
        &mut self,
        name: &str,
        rows: [&VerdictRow; 2],
        inherited: &Above,
        file: Option<(&Reach, bool, &HostList)>,
    ) -> Above {
        let [mut itself, mut below] = rows.map(|row| self.gathering.allowed(row));
        for row in rows {
            self.gathering.seen(row);
        }
        let suffix = format!(".{name}");
        if let (false, Err(error)) = (below.is_empty(), RuleText::parse(&suffix)) {
            self.gathering.lost(rows[1], &below, &format!("`{suffix}` is not carried over: {error}"));
            below = Reach::nothing(self.gathering.segments);
        }
        let place = self.place_of(name, rows);
        let (grant_itself, grant_below) = match file.filter(|(forced, _, _)| !forced.is_empty()) {
            Some((forced, with_below, list)) => {
                let grant_below =
                    if with_below { forced.clone() } else { Reach::nothing(self.gathering.segments) };
                self.other_ports(rows, [&itself, &below], [forced, &grant_below], inherited, list);
                itself = itself.and(&forced.or(&inherited.granted));
                below = below.and(&grant_below.or(&inherited.granted));
                (forced.clone(), grant_below)
            }
            None => {
                let missing = [&itself, &below].map(|allowed| allowed.without(&inherited.granted));
                self.pair(name, &missing, &place, true);
                (itself.clone(), below.clone())
            }
        };
        let covered = [grant_itself, grant_below].map(|granted| granted.or(&inherited.granted));
        let [hole, hole_below] = [(&covered[0], &itself), (&covered[1], &below)]
            .map(|(covered, allowed)| covered.without(allowed).without(&inherited.denied));
        let nothing = itself.is_empty() && below.is_empty() && !self.above_allowed.contains(name);
        let denied = inherited.denied.or(&hole_below);
        if nothing && hole == hole_below && !hole.is_empty() {
            self.pair(name, &[hole.whole(), hole.whole()], &place, false);
        } else {
            self.pair(name, &[hole, hole_below], &place, false);
        }
        for (row, allowed) in rows.into_iter().zip([&itself, &below]) {
            let lost = allowed.and(&inherited.denied);
            self.gathering.lost(row, &lost, &format!("`{name}` stays denied, as what stands above it is: in egressd `deny` wins over every `allow`"));
        }
        let [_, granted] = covered;
        Above { granted, denied }
    }

    /// What a file's lines were allowed beside the schemes' own ports.
    fn other_ports(
        &mut self,
        rows: [&VerdictRow; 2],
        allowed: [&Reach; 2],
        granted: [&Reach; 2],
        inherited: &Above,
        list: &HostList,
    ) {
        let mut rules: BTreeSet<usize> = BTreeSet::new();
        let count = self.gathering.segments.len();
        let mut lost = Reach::nothing(self.gathering.segments);
        for ((row, allowed), granted) in rows.into_iter().zip(allowed).zip(granted) {
            let beyond = allowed.without(granted).without(&inherited.granted);
            let by = row.allowed().filter(|(index, _, _)| beyond.has(*index)).map(|(_, by, _)| by);
            rules.extend(by);
            lost = lost.or(&beyond);
        }
        let ports = |from: usize| {
            let ranges = self.gathering.segments.ranges(|segment| lost.has(from + segment));
            ranges.into_iter().map(shown).collect::<Vec<_>>().join(", ")
        };
        let what: Vec<String> = [("a tunnel to", ports(0)), ("a plain request to", ports(count))]
            .into_iter()
            .filter(|(_, ports)| !ports.is_empty())
            .map(|(what, ports)| format!("{what} {ports}"))
            .collect();
        for by in rules {
            let Some(rule) = self.gathering.access.rule(by) else { continue };
            let text = format!(
                "the lines of `{}` are for a tunnel to 443 and a plain request to 80 now; Squid also allowed {}: where that is needed add rules with that port, such as http://host:8080",
                list.path,
                what.join(" and ")
            );
            self.gathering.notes.tell(&rule.place, NoteKind::Stricter, text);
        }
    }

    /// `.name` for a way that both have on the same ports, else `name` and `*.name`.
    fn pair(&mut self, name: &str, [itself, below]: &[Reach; 2], place: &SourceLine, allow: bool) {
        let count = self.gathering.segments.len();
        let ways = [0, 1].map(|way| itself.way(way) == below.way(way));
        let same = |index: usize| ways.get(index / count) == Some(&true);
        let rules = [
            (format!(".{name}"), itself.filter(same)),
            (name.to_owned(), itself.filter(|index| !same(index))),
            (format!("*.{name}"), below.filter(|index| !same(index))),
        ];
        for (host, reach) in rules {
            self.gathering.write(&host, &reach, place, allow);
        }
    }

    /// Where a name is listed, else the rule that decides on it.
    fn place_of(&self, name: &str, rows: [&VerdictRow; 2]) -> SourceLine {
        let listed = self.used.iter().find_map(|(_, acl)| acl.places.get(name).cloned());
        listed.unwrap_or_else(|| {
            let by = rows.iter().find_map(|row| row.allowed().next()).map_or(usize::MAX, |(_, by, _)| by);
            self.gathering.rule_place(by)
        })
    }
}
