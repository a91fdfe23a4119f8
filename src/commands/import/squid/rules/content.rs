//! The rules of one policy: what the table allows, and the holes in it.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::super::access::Access;
use super::super::acl::{Acl, Asked};
use super::super::hosts::parents;
use super::super::ports::{Segments, shown};
use super::super::table::{Mentioned, Row, Table};
use super::addresses;
use super::lists::List;
use crate::commands::import::draft::{AllowFile, Rule};
use crate::commands::import::notes::{Kind, Notes, Place};
use crate::rules::RuleText;

/// Which ways and segments: `way * segments + segment`.
pub(super) type Bits = Vec<bool>;

/// What stands in one policy, and which of Squid's lines it comes from.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(super) struct Content {
    pub(super) allow: Vec<Rule>,
    pub(super) files: Vec<AllowFile>,
    pub(super) deny: Vec<Rule>,
    /// Rules of Squid's that allow tunnels, plain requests, and tunnels to other ports than 443.
    pub(super) connect: BTreeSet<usize>,
    pub(super) http: BTreeSet<usize>,
    pub(super) other_ports: BTreeSet<usize>,
    /// Those that deny where a name leads to a network.
    pub(super) unless: BTreeSet<usize>,
}

impl Content {
    /// It allows nothing.
    pub(super) fn is_empty(&self) -> bool {
        self.allow.is_empty() && self.files.is_empty()
    }
}

/// What holds under a name for all that no deeper name says.
#[derive(Clone)]
struct Above {
    granted: Bits,
    denied: Bits,
}

/// One policy while its rules are made.
pub(super) struct Making<'a, 'n> {
    pub(super) access: &'a Access<'a>,
    /// The lists that decide something.
    used: Vec<(&'a str, &'a Acl)>,
    pub(super) segments: &'a Segments,
    pub(super) content: Content,
    pub(super) notes: &'n mut Notes,
    /// Names under which something is allowed.
    above_allowed: HashSet<String>,
}

/// The rules for one class of clients.
pub(super) fn of<'a>(
    access: &'a Access<'a>,
    mentioned: &'a Mentioned,
    mut table: Table<'_>,
    lists: &[List],
    notes: &mut Notes,
) -> Content {
    let mut making = Making {
        access,
        used: access.used(),
        segments: &mentioned.segments,
        content: Content::default(),
        notes,
        above_allowed: HashSet::new(),
    };
    making.everything(&table.row(Asked::OtherNames));
    let mut in_file: HashMap<&str, (usize, bool)> = HashMap::new();
    let mut forced: Vec<Bits> = Vec::new();
    for (number, list) in lists.iter().enumerate() {
        forced.push(making.file(list, &mut table));
        for (name, below) in &list.names {
            let entry = in_file.entry(name).or_insert((number, *below));
            entry.1 |= below;
        }
    }
    for name in &mentioned.names {
        let rows = [table.row(Asked::Name(name)), table.row(Asked::Below(name))];
        if rows.iter().any(|row| row.allowed().next().is_some()) {
            making.above_allowed.extend(parents(name).map(str::to_owned));
        }
    }
    let nothing: Bits = vec![false; mentioned.segments.len() * 2];
    let mut above: HashMap<&str, Above> = HashMap::new();
    for name in &mentioned.names {
        let (itself, below) = (table.row(Asked::Name(name)), table.row(Asked::Below(name)));
        let inherited = parents(name).find_map(|parent| above.get(parent)).cloned();
        let inherited =
            inherited.unwrap_or_else(|| Above { granted: nothing.clone(), denied: nothing.clone() });
        let file = in_file
            .get(name.as_str())
            .and_then(|(number, below)| Some((forced.get(*number)?, *below, lists.get(*number)?)));
        let left = making.name(name, [&itself, &below], &inherited, file);
        above.insert(name, left);
    }
    addresses::add(&mut making, mentioned, &mut table);
    let mut content = making.content;
    content.allow.sort();
    content.allow.dedup();
    content.deny.sort();
    content.deny.dedup();
    content
}

impl Making<'_, '_> {
    pub(super) fn bits(&self, row: &Row) -> Bits {
        (0..self.segments.len() * 2).map(|index| row.get(index).is_some()).collect()
    }

    /// Hosts that nothing mentions: no rule of egressd's is for all of them.
    pub(super) fn everything(&mut self, row: &Row) {
        let rules: BTreeSet<usize> = row.allowed().map(|(_, by, _)| by).collect();
        for (index, ..) in row.allowed() {
            self.access.doubt(row.doubts(index));
        }
        for by in rules {
            let Some(rule) = self.access.rule(by) else { continue };
            let text = if by < self.access.rules.len() {
                format!(
                    "{} lets out every host that no line before it denies; egressd lets out only what is listed, so nothing of this is carried over: list the hosts (`mode: report` lets them through and logs them, and `egressd suggest` makes a list of the log)",
                    rule.shown
                )
            } else {
                "the last line denies, so Squid lets out whatever no line matches; egressd lets out only what is listed: list the hosts".to_owned()
            };
            self.notes.tell(&rule.place, Kind::Stricter, text);
        }
    }

    /// Writes down by which rules a row is allowed.
    pub(super) fn seen(&mut self, row: &Row) {
        let count = self.segments.len();
        for (index, by, unless) in row.allowed() {
            self.content.unless.extend(unless);
            if index >= count {
                self.content.http.insert(by);
                continue;
            }
            self.content.connect.insert(by);
            if index != self.segments.of(443) {
                self.content.other_ports.insert(by);
            }
        }
    }

    /// Takes a list in as a file: the ways it is for, at the scheme's own port.
    fn file(&mut self, list: &List, table: &mut Table<'_>) -> Bits {
        let count = self.segments.len();
        let own = [self.segments.of(443), count + self.segments.of(80)];
        let mut forced: Bits = vec![false; count * 2];
        for (name, below) in &list.names {
            let mut rows = vec![table.row(Asked::Name(name))];
            rows.extend(below.then(|| table.row(Asked::Below(name))));
            for index in own {
                if let (true, Some(bit)) =
                    (rows.iter().any(|row| row.get(index).is_some()), forced.get_mut(index))
                {
                    *bit = true;
                }
            }
        }
        let schemes: Vec<&'static str> = ["https", "http"]
            .into_iter()
            .zip(own)
            .filter(|(_, index)| forced.get(*index) == Some(&true))
            .map(|(scheme, _)| scheme)
            .collect();
        if !schemes.is_empty() {
            self.content.files.push(AllowFile {
                place: list.place.clone(),
                path: list.path.clone(),
                schemes,
            });
        }
        forced
    }

    /// One name, and what is under it and not mentioned. Returns what holds for deeper names.
    fn name(
        &mut self,
        name: &str,
        rows: [&Row; 2],
        inherited: &Above,
        file: Option<(&Bits, bool, &List)>,
    ) -> Above {
        let [mut itself, mut below] = rows.map(|row| self.bits(row));
        for row in rows {
            self.seen(row);
        }
        let suffix = format!(".{name}");
        if let (true, Err(error)) = (below.contains(&true), RuleText::parse(&suffix)) {
            self.lost(rows[1], &below, &format!("`{suffix}` is not carried over: {error}"));
            below.fill(false);
        }
        let forced = file.filter(|(forced, _, _)| forced.contains(&true));
        let (grant_itself, grant_below) = match forced {
            Some((forced, with_below, list)) => {
                let grant_below = if with_below { forced.clone() } else { vec![false; forced.len()] };
                self.other_ports(rows, [&itself, &below], [forced, &grant_below], inherited, list);
                for (wanted, granted) in [(&mut itself, forced), (&mut below, &grant_below)] {
                    for ((bit, granted), above) in wanted.iter_mut().zip(granted).zip(&inherited.granted) {
                        *bit &= *granted || *above;
                    }
                }
                (forced.clone(), grant_below)
            }
            None => {
                let missing = |bits: &Bits| -> Bits {
                    bits.iter().zip(&inherited.granted).map(|(bit, above)| *bit && !above).collect()
                };
                let place = self.place_of(name, rows);
                let (one, all) = (missing(&itself), missing(&below));
                self.pair(name, &one, &all, &place, true);
                (itself.clone(), below.clone())
            }
        };
        let covered = |granted: &Bits| -> Bits {
            granted.iter().zip(&inherited.granted).map(|(one, two)| *one || *two).collect()
        };
        let (covered_itself, covered_below) = (covered(&grant_itself), covered(&grant_below));
        let holes = |covered: &Bits, allowed: &Bits| -> Bits {
            covered
                .iter()
                .zip(allowed)
                .zip(&inherited.denied)
                .map(|((covered, allowed), denied)| *covered && !allowed && !denied)
                .collect()
        };
        let (hole, holes_below) = (holes(&covered_itself, &itself), holes(&covered_below, &below));
        let place = self.place_of(name, rows);
        let nothing = !itself.contains(&true) && !below.contains(&true) && !self.above_allowed.contains(name);
        if nothing && hole == holes_below && hole.contains(&true) {
            let whole: Bits = vec![true; hole.len()];
            self.pair(name, &whole, &whole, &place, false);
        } else {
            self.pair(name, &hole, &holes_below, &place, false);
        }
        for (row, allowed) in rows.into_iter().zip([&itself, &below]) {
            let lost: Bits =
                allowed.iter().zip(&inherited.denied).map(|(allowed, denied)| *allowed && *denied).collect();
            self.lost(row, &lost, &format!("`{name}` stays denied, as what stands above it is: in egressd `deny` wins over every `allow`"));
        }
        Above {
            granted: covered_below,
            denied: inherited.denied.iter().zip(&holes_below).map(|(one, two)| *one || *two).collect(),
        }
    }

    /// What a file's lines were allowed beside the schemes' own ports.
    fn other_ports(
        &mut self,
        rows: [&Row; 2],
        allowed: [&Bits; 2],
        granted: [&Bits; 2],
        inherited: &Above,
        list: &List,
    ) {
        let mut rules: BTreeSet<usize> = BTreeSet::new();
        let count = self.segments.len();
        let mut lost: Bits = vec![false; count * 2];
        for ((row, allowed), granted) in rows.into_iter().zip(allowed).zip(granted) {
            for (index, bit) in lost.iter_mut().enumerate() {
                let is = |bits: &Bits| bits.get(index) == Some(&true);
                if is(allowed) && !is(granted) && !is(&inherited.granted) {
                    *bit = true;
                    rules.extend(row.get(index).map(|(by, _)| by));
                }
            }
        }
        let ports = |from: usize| {
            let ranges = self.segments.ranges(|segment| lost.get(from + segment) == Some(&true));
            ranges.into_iter().map(shown).collect::<Vec<_>>().join(", ")
        };
        let what: Vec<String> = [("a tunnel to", ports(0)), ("a plain request to", ports(count))]
            .into_iter()
            .filter(|(_, ports)| !ports.is_empty())
            .map(|(what, ports)| format!("{what} {ports}"))
            .collect();
        for by in rules {
            let Some(rule) = self.access.rule(by) else { continue };
            let text = format!(
                "the lines of `{}` are for a tunnel to 443 and a plain request to 80 now; Squid also allowed {}: where that is needed add rules with that port, such as http://host:8080",
                list.path,
                what.join(" and ")
            );
            self.notes.tell(&rule.place, Kind::Stricter, text);
        }
    }

    /// `.name` for a way that both have on the same ports, else `name` and `*.name`.
    fn pair(&mut self, name: &str, itself: &Bits, below: &Bits, place: &Place, allow: bool) {
        let count = self.segments.len();
        let way =
            |bits: &Bits, way: usize| bits.iter().skip(way * count).take(count).copied().collect::<Bits>();
        let same = [0, 1].map(|number| way(itself, number) == way(below, number));
        let part = |bits: &Bits, wanted: bool| -> Bits {
            let is = |index: usize| same.get(index / count) == Some(&wanted);
            bits.iter().enumerate().map(|(index, bit)| *bit && is(index)).collect()
        };
        let rules = [
            (format!(".{name}"), part(itself, true)),
            (name.to_owned(), part(itself, false)),
            (format!("*.{name}"), part(below, false)),
        ];
        for (host, bits) in rules {
            self.write(&host, &bits, place, allow);
        }
    }

    /// The rules for one host.
    pub(super) fn write(&mut self, host: &str, bits: &Bits, place: &Place, allow: bool) {
        let count = self.segments.len();
        if !bits.contains(&true) {
            return;
        }
        let mut texts = Vec::new();
        if !allow && !bits.contains(&false) {
            texts.push(host.to_owned());
        } else {
            for (scheme, own, from) in [("https", 443, 0), ("http", 80, count)] {
                for range in self.segments.ranges(|segment| bits.get(from + segment) == Some(&true)) {
                    texts.push(match (allow, range) {
                        (true, (443, 443)) if own == 443 => host.to_owned(),
                        (true, (80, 80)) if own == 80 => format!("http://{host}"),
                        (false, (1, 65_535)) => format!("{scheme}://{host}"),
                        _ => format!("{scheme}://{host}:{}", shown(range)),
                    });
                }
            }
        }
        let into = if allow { &mut self.content.allow } else { &mut self.content.deny };
        into.extend(texts.into_iter().map(|text| Rule { place: place.clone(), text }));
    }

    /// Where a name is listed, else the rule that decides on it.
    fn place_of(&self, name: &str, rows: [&Row; 2]) -> Place {
        let listed = self.used.iter().find_map(|(_, acl)| acl.places.get(name).cloned());
        listed.unwrap_or_else(|| {
            let by = rows.iter().find_map(|row| row.allowed().next()).map_or(usize::MAX, |(_, by, _)| by);
            self.rule_place(by)
        })
    }

    pub(super) fn rule_place(&self, by: usize) -> Place {
        self.access
            .rule(by)
            .map_or_else(|| Place { file: "squid.conf".into(), line: 1 }, |rule| rule.place.clone())
    }

    /// Tells at each rule of Squid's what it allowed and is denied now.
    pub(super) fn lost(&mut self, row: &Row, lost: &Bits, text: &str) {
        let rules: BTreeSet<usize> = row
            .allowed()
            .filter(|(index, _, _)| lost.get(*index) == Some(&true))
            .map(|(_, by, _)| by)
            .collect();
        for (index, ..) in row.allowed().filter(|(index, ..)| lost.get(*index) == Some(&true)) {
            self.access.doubt(row.doubts(index));
        }
        for by in rules {
            let place = self.rule_place(by);
            self.notes.tell(&place, Kind::Stricter, text);
        }
    }
}
