//! Rules for names: what the table allows them, the holes in that, and the lists that stay files.

use std::collections::HashMap;

use super::super::acl::{Acl, AskedHost};
use super::super::table::{VerdictRow, VerdictTable};
use super::content::Gathering;
use super::index::{Index, NameEntry};
use super::lists::Stay;
use super::of_class::OfClass;
use super::reach::{Above, Reach};
use crate::commands::import::notes::SourceLine;
use crate::rules::RuleText;

/// Adds what the table says of names.
pub(super) fn add(
    gathering: &mut Gathering<'_, '_>,
    index: &Index<'_>,
    table: &mut VerdictTable<'_>,
    files: &OfClass<'_>,
) {
    let above_allowed = above_allowed(index, table);
    let mut names = Names { used: gathering.access.used(), gathering, index, files };
    let mut above: HashMap<usize, Above> = HashMap::new();
    let others = table.row(AskedHost::OtherNames);
    let mut quiet = vec![false; index.groups];
    let mut perhaps: Vec<Vec<(usize, &str)>> = vec![Vec::new(); index.groups];
    for (number, entry) in index.names.iter().enumerate() {
        if quiet.get(entry.group) == Some(&true) {
            names.perhaps(entry.name, perhaps.get(entry.group).map(Vec::as_slice).unwrap_or_default());
            continue;
        }
        let (itself, below) =
            (table.row(AskedHost::Name(entry.name)), table.row(AskedHost::Below(entry.name)));
        let denied = names.denied_perhaps([&itself, &below], &others);
        names.perhaps(entry.name, &denied);
        if let Some(of_group) = perhaps.get_mut(entry.group) {
            *of_group = denied;
        }
        let nothing = Above::nothing(names.gathering.segments);
        let inherited = entry.parent.and_then(|parent| above.get(&parent)).cloned().unwrap_or(nothing);
        let within_allowed = above_allowed.get(number) == Some(&true);
        let (left, said) = names.name(entry, [&itself, &below], &inherited, within_allowed);
        if entry.has_inner {
            above.insert(number, left);
        } else if let Some(quiet) = quiet.get_mut(entry.group) {
            *quiet = !said;
        }
    }
}

/// Of each name, whether something is allowed under it.
fn above_allowed(index: &Index<'_>, table: &mut VerdictTable<'_>) -> Vec<bool> {
    let mut above = vec![false; index.names.len()];
    let mut groups: Vec<Option<bool>> = vec![None; index.groups];
    for entry in index.names.iter().rev() {
        let known = groups.get(entry.group).copied().flatten();
        let allowed = known.unwrap_or_else(|| {
            let mut rows =
                [table.row(AskedHost::Name(entry.name)), table.row(AskedHost::Below(entry.name))].into_iter();
            rows.any(|row| row.allowed().next().is_some())
        });
        if let Some(group) = groups.get_mut(entry.group) {
            *group = Some(allowed);
        }
        if !allowed {
            continue;
        }
        let mut parent = entry.parent;
        while let Some(number) = parent {
            match above.get_mut(number) {
                Some(marked) if !*marked => *marked = true,
                _ => break,
            }
            parent = index.names.get(number).and_then(|entry| entry.parent);
        }
    }
    above
}

/// The names of one policy while their rules are gathered.
struct Names<'g, 'a, 'n> {
    gathering: &'g mut Gathering<'a, 'n>,
    index: &'g Index<'g>,
    files: &'g OfClass<'g>,
    /// The lists that decide something.
    used: Vec<(&'a str, &'a Acl)>,
}

impl Names<'_, '_, '_> {
    /// By which lines a name, and what is under it, is denied that Squid may allow, at the scheme's own port; each with what stands
    /// before the name. Not those that deny `others` for the same cause: what they deny is no list.
    fn denied_perhaps(&self, rows: [&VerdictRow; 2], others: &VerdictRow) -> Vec<(usize, &'static str)> {
        let segments = self.gathering.segments;
        let own = [segments.of(443), segments.len() + segments.of(80)];
        let [itself, below] = rows.map(|row| {
            own.map(|index| row.denied_by(index).filter(|by| others.denied_by(index) != Some(*by)))
        });
        let befores = [[".", "", "*."], ["http://.", "http://", "http://*."]];
        let mut found = Vec::new();
        for (way, [both, alone, under]) in befores.into_iter().enumerate() {
            // What holds for tunnels is not said of plain requests again.
            let of = |of_row: [Option<usize>; 2]| {
                let by = of_row.get(way).copied().flatten();
                by.filter(|by| way == 0 || of_row.first() != Some(&Some(*by)))
            };
            match (of(itself), of(below)) {
                (Some(by), Some(also)) if by == also => found.push((by, both)),
                (by, also) => {
                    found.extend(by.map(|by| (by, alone)));
                    found.extend(also.map(|by| (by, under)));
                }
            }
        }
        found
    }

    fn perhaps(&self, name: &str, denied: &[(usize, &str)]) {
        for (by, before) in denied {
            self.gathering.access.denies_host(*by, format!("{before}{name}"));
        }
    }

    /// One name, and what is under it and not mentioned. Returns what holds for deeper names, and whether something was said
    /// that is about this name alone.
    fn name(
        &mut self,
        entry: &NameEntry<'_>,
        rows: [&VerdictRow; 2],
        inherited: &Above,
        within_allowed: bool,
    ) -> (Above, bool) {
        let name = entry.name;
        let mut said = false;
        let [mut itself, mut below] = rows.map(|row| self.gathering.allowed(row));
        for row in rows {
            self.gathering.seen(row);
        }
        let suffix = format!(".{name}");
        if let (false, Err(error)) = (below.is_empty(), RuleText::parse(&suffix)) {
            self.gathering.lost(rows[1], &below, &format!("`{suffix}` is not carried over: {error}"));
            below = Reach::nothing(self.gathering.segments);
            said = true;
        }
        let place = self.place_of(name, rows);
        let (grant_itself, grant_below) = match self.by_files(entry, [&itself, &below]) {
            Some((grants, written)) => {
                let [grant_itself, grant_below] = &grants;
                let of_rows = [(rows[0], &itself, grant_itself), (rows[1], &below, grant_below)];
                for (number, _) in self.index.files_of_name(entry)[0] {
                    if let Some((list, forced)) = self.files.allowing(*number) {
                        self.gathering.other_ports(&of_rows, &inherited.granted, list, forced);
                    }
                }
                let missing = [&written[0], &written[1]].map(|written| written.without(&inherited.granted));
                said |= self.pair(name, &missing, &place, true);
                itself = itself.and(&grants[0].or(&inherited.granted));
                below = below.and(&grants[1].or(&inherited.granted));
                let [grant_itself, grant_below] = grants;
                (grant_itself, grant_below)
            }
            None => {
                let missing = [&itself, &below].map(|allowed| allowed.without(&inherited.granted));
                said |= self.pair(name, &missing, &place, true);
                (itself.clone(), below.clone())
            }
        };
        let covered = [grant_itself, grant_below].map(|granted| granted.or(&inherited.granted));
        let [mut hole, mut hole_below] = [(&covered[0], &itself), (&covered[1], &below)]
            .map(|(covered, allowed)| covered.without(allowed).without(&inherited.denied));
        let mut denied = inherited.denied.or(&hole_below);
        if let Some(with_below) = self.files.denied(self.index.files_of_name(entry)[1]) {
            // The file says so already.
            hole = Reach::nothing(self.gathering.segments);
            if with_below {
                denied = hole.whole();
                hole_below = hole.clone();
            }
        }
        let nothing = itself.is_empty() && below.is_empty() && !within_allowed;
        if nothing && hole == hole_below && !hole.is_empty() {
            said |= self.pair(name, &[hole.whole(), hole.whole()], &place, false);
        } else {
            said |= self.pair(name, &[hole, hole_below], &place, false);
        }
        for (row, allowed) in rows.into_iter().zip([&itself, &below]) {
            let lost = allowed.and(&inherited.denied);
            said |= !lost.is_empty();
            self.gathering.lost(row, &lost, &format!("`{name}` stays denied, as what stands above it is: in egressd `deny` wins over every `allow`"));
        }
        let [_, granted] = covered;
        (Above { granted, denied }, said)
    }

    /// What files grant the name and what is under it, and of that what is to be written. None: no file is about it.
    fn by_files(
        &self,
        entry: &NameEntry<'_>,
        [itself, below]: [&Reach; 2],
    ) -> Option<([Reach; 2], [Reach; 2])> {
        let [allow, _] = self.index.files_of_name(entry);
        let nothing = || Reach::nothing(self.gathering.segments);
        let (mut grants, mut written) = ([nothing(), nothing()], [nothing(), nothing()]);
        let mut any = false;
        for (number, with_below) in allow {
            let Some((list, forced)) = self.files.allowing(*number) else { continue };
            any = true;
            let of_list = [forced.clone(), if *with_below { forced.clone() } else { nothing() }];
            match list.stay {
                Stay::File => {
                    grants = [grants[0].or(&of_list[0]), grants[1].or(&of_list[1])];
                }
                Stay::Written => {
                    let held = [of_list[0].and(itself), of_list[1].and(below)];
                    written = [written[0].or(&held[0]), written[1].or(&held[1])];
                }
                Stay::LeftOut => {}
            }
        }
        let written = [written[0].without(&grants[0]), written[1].without(&grants[1])];
        let grants = [grants[0].or(&written[0]), grants[1].or(&written[1])];
        any.then_some((grants, written))
    }

    /// `.name` for a way that both have on the same ports, else `name` and `*.name`. Returns whether something is written.
    fn pair(&mut self, name: &str, [itself, below]: &[Reach; 2], place: &SourceLine, allow: bool) -> bool {
        if itself.is_empty() && below.is_empty() {
            return false;
        }
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
        true
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
