//! What stands in one policy, and how it is gathered: what names and addresses have in common.

use std::collections::BTreeSet;

use ipnet::IpNet;

use super::super::access::Access;
use super::super::ports::{Segments, shown};
use super::super::table::VerdictRow;
use super::lists::HostList;
use super::reach::Reach;
use crate::commands::import::draft::{AllowFile, DraftRule, ListFile};
use crate::commands::import::notes::{NoteKind, Notes, SourceLine};
use crate::words::small_sort::SmallCollect as _;

/// What stands in one policy, and which of Squid's lines it comes from.
#[derive(Clone, Default, Debug)]
pub(super) struct PolicyContent {
    pub(super) allow: Vec<DraftRule>,
    pub(super) files: Vec<AllowFile>,
    pub(super) deny: Vec<DraftRule>,
    pub(super) deny_files: Vec<ListFile>,
    /// Squid lets out hosts that nothing mentions; for report mode, also: hosts of which egressd cannot know.
    pub(super) open: bool,
    /// Rules of Squid's that allow tunnels, plain requests, and tunnels to other ports than 443.
    pub(super) connect: BTreeSet<usize>,
    pub(super) http: BTreeSet<usize>,
    pub(super) other_ports: BTreeSet<usize>,
    /// Rules before those that may have allowed the same.
    pub(super) perhaps: BTreeSet<usize>,
    /// Those that deny where a name leads to a network.
    pub(super) unless: BTreeSet<usize>,
}

impl PolicyContent {
    /// Whether two make the same policy, whichever lines of Squid's they come from.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        self.allow == other.allow
            && self.files == other.files
            && self.deny == other.deny
            && self.deny_files == other.deny_files
            // Only a policy that lists nothing is in report mode by what Squid lets out.
            && (self.open == other.open || !self.is_empty())
    }

    /// It allows nothing, now and after an edit of its files.
    pub(super) fn is_empty(&self) -> bool {
        self.allow.is_empty() && self.files.is_empty()
    }
}

/// One policy while its rules are gathered.
pub(super) struct Gathering<'a, 'n> {
    pub(super) access: &'a Access<'a>,
    pub(super) segments: &'a Segments,
    pub(super) report: bool,
    pub(super) content: PolicyContent,
    pub(super) notes: &'n mut Notes,
}

impl Gathering<'_, '_> {
    /// What a row allows.
    pub(super) fn allowed(&self, row: &VerdictRow) -> Reach {
        Reach::allowed(row, self.segments)
    }

    /// Hosts that nothing mentions: no rule of egressd's is for all of them.
    pub(super) fn everything(&mut self, row: &VerdictRow) {
        let rules: BTreeSet<usize> = row.allowed().map(|(_, by, _)| by).small_collect();
        self.content.open |= !rules.is_empty() || (self.report && row.is_perhaps_allowed());
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
                "the last line denies, so Squid lets out every request that no line matches; egressd lets out only what is listed: list the hosts".to_owned()
            };
            self.notes.tell(&rule.place, NoteKind::Stricter, text);
        }
    }

    /// Writes down by which rules a row is allowed.
    pub(super) fn seen(&mut self, row: &VerdictRow) {
        let count = self.segments.len();
        self.content.open |= self.report && row.is_perhaps_allowed();
        for (index, by, unless) in row.allowed() {
            self.content.unless.extend(unless);
            self.content.perhaps.extend(row.doubts(index).iter().map(|(rule, _)| *rule));
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

    /// The rules for one host.
    pub(super) fn write(&mut self, host: &str, reach: &Reach, place: &SourceLine, allow: bool) {
        self.write_opened(host, reach, place, allow, None);
    }

    /// The rules for one host, with the network that they open.
    pub(super) fn write_opened(
        &mut self,
        host: &str,
        reach: &Reach,
        place: &SourceLine,
        allow: bool,
        private: Option<IpNet>,
    ) {
        let count = self.segments.len();
        if reach.is_empty() {
            return;
        }
        let mut texts = Vec::new();
        if !allow && reach.is_whole() {
            texts.push(host.to_owned());
        } else {
            for (scheme, own, from) in [("https", 443, 0), ("http", 80, count)] {
                for range in self.segments.ranges(|segment| reach.has(from + segment)) {
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
        into.extend(texts.into_iter().map(|text| DraftRule { place: place.clone(), text, private }));
    }

    /// Tells what the lines of a file were allowed beside the schemes' own ports. `allowed` and `granted`: of each row.
    pub(super) fn other_ports(
        &mut self,
        rows: &[(&VerdictRow, &Reach, &Reach)],
        inherited: &Reach,
        list: &HostList,
        forced: &Reach,
    ) {
        let mut rules: BTreeSet<usize> = BTreeSet::new();
        let count = self.segments.len();
        let mut lost = Reach::nothing(self.segments);
        for (row, allowed, granted) in rows {
            let beyond = allowed.without(granted).without(inherited);
            for (index, by, _) in row.allowed().filter(|(index, _, _)| beyond.has(*index)) {
                rules.insert(by);
                // An earlier rule may have allowed it, too.
                self.access.doubt(row.doubts(index));
            }
            lost = lost.or(&beyond);
        }
        let ports = |from: usize| {
            let ranges = self.segments.ranges(|segment| lost.has(from + segment));
            ranges.into_iter().map(shown).collect::<Vec<_>>().join(", ")
        };
        let is_lost = |from: usize, port: u16| lost.has(from + self.segments.of(port));
        let first = |from: usize| self.segments.iter().find(|(at, _)| lost.has(from + at));
        let example = |from: usize, usual: u16| {
            let port = if is_lost(from, usual) { usual.to_string() } else { shown(first(from)?.1) };
            Some(format!("{}://host:{port}", if from == 0 { "https" } else { "http" }))
        };
        let examples: Vec<String> = [example(0, 8443), example(count, 8080)].into_iter().flatten().collect();
        let kept: Vec<&str> = [
            (self.segments.of(443), "a tunnel to 443"),
            (count + self.segments.of(80), "a plain request to 80"),
        ]
        .into_iter()
        .filter(|(index, _)| forced.has(*index))
        .map(|(_, what)| what)
        .collect();
        let kept = if kept.is_empty() { "nothing".to_owned() } else { kept.join(" and ") };
        let what: Vec<String> = [("a tunnel to", ports(0)), ("a plain request to", ports(count))]
            .into_iter()
            .filter(|(_, ports)| !ports.is_empty())
            .map(|(what, ports)| format!("{what} {ports}"))
            .collect();
        for by in rules {
            let Some(rule) = self.access.rule(by) else { continue };
            let text = format!(
                "the lines of `{}` are for {kept} now; Squid also allowed {}: where that is needed add rules with that port, such as {}",
                list.file.path,
                what.join(" and "),
                examples.join(" or ")
            );
            self.notes.tell(&rule.place, NoteKind::Stricter, text);
        }
    }

    pub(super) fn rule_place(&self, by: usize) -> SourceLine {
        self.access.rule(by).map_or_else(|| self.access.whole.clone(), |rule| rule.place.clone())
    }

    /// Tells at each rule of Squid's what it allowed and is denied now.
    pub(super) fn lost(&mut self, row: &VerdictRow, lost: &Reach, text: &str) {
        let rules: BTreeSet<usize> =
            row.allowed().filter(|(index, _, _)| lost.has(*index)).map(|(_, by, _)| by).small_collect();
        for (index, ..) in row.allowed().filter(|(index, ..)| lost.has(*index)) {
            self.access.doubt(row.doubts(index));
        }
        for by in rules {
            let place = self.rule_place(by);
            self.notes.tell(&place, NoteKind::Stricter, text);
        }
    }
}
