//! Policies: from the keys as typed to [`Policies`].
//!
//! Here it is decided which rule gets which options, from which file and line. Every rule of every file is read before
//! anything is refused. Not here: how a rule string is parsed ([`crate::rules::rule`]), and which files of policies there
//! are ([`super::include`]).

use std::path::Path;

use super::file::{AllowFile, AllowFilesFile, ModeFile, PolicyFile};
use super::finding::{Position, Report};
use super::keys::{List, items, required, value};
use super::list_file::{self, ListKind};
use super::named_files::NamedFiles;
use super::options::{FullSetFile, SchemeFile, private};
use super::places::{Places, Written};
use super::policy_clients::{clients, named, open_to_all};
use super::requests::EntryFile;
use super::rivals::{Candidate, Rivals};
use super::sets::{self, SetInUse};
use super::typed::At;
use super::values::{FilePath, Line};
use crate::rules::lint::Proofs;
use crate::rules::{
    ClientMatch, FileId, Mode, OptionsId, Origin, Policies, PolicyBuilder, RuleOptions, RuleText, Scheme,
    Schemes,
};
use crate::words::quote::quoted;

/// The policies that one file has, as typed.
pub(super) struct WrittenPolicies<'f> {
    pub(super) list: &'f List<PolicyFile>,
    /// For findings in the file.
    pub(super) report: Report<'f>,
    /// The file; None: the configuration itself.
    pub(super) file: Option<&'f Path>,
    /// Where something else begins behind them.
    pub(super) until: Position,
}

/// What was read of the policies.
pub(super) struct Read<'f> {
    /// In their order.
    pub(super) policies: Policies,
    pub(super) places: Places<'f>,
}

/// The policies, and where their rules are. `written` begins with the configuration itself. Rules that are wrong are reported and not
/// included.
pub(super) fn policies<'f>(
    written: &[WrittenPolicies<'f>],
    proofs: Proofs,
    files: &mut NamedFiles<'_>,
) -> Read<'f> {
    let mut rivals = Rivals::new(proofs);
    let mut policies = Vec::new();
    let mut found = Places::default();
    let mut typed = 0..;
    let all = written.iter().enumerate().flat_map(|(number, file)| {
        let list = value(file.list).map(Vec::as_slice).unwrap_or_default();
        let ends = list.iter().skip(1).map(|next| next.position).chain([file.until]);
        list.iter().zip(ends).map(move |(at, until)| (number, file, at, until))
    });
    for (number, WrittenPolicies { report, file, .. }, at, until) in all {
        files.now_in(*file);
        let Some(file) = &at.value else { continue };
        let typed = typed.next().unwrap_or_default();
        let Some(name) = required(report, &file.name, at.position, "name", "name: gitaly") else {
            // A policy without a name is not used, but its rules are still checked.
            read_policy("", file, (at.position, until), report, files);
            continue;
        };
        let text = name.value.as_ref().map_or("", |label| &label.0);
        let (builder, clients, mut inside) = read_policy(text, file, (at.position, until), report, files);
        let candidate = Candidate {
            file: number,
            name: text,
            named: name.position,
            around: at.position,
            clients_at: file.clients.as_ref().map(|clients| clients.position),
            clients: &clients,
            addresses: builder.addresses(),
        };
        rivals.add(&candidate, report);
        match builder.build() {
            Ok(policy) => {
                let number = policies.len();
                policies.push(policy);
                found
                    .requests
                    .extend(inside.requests.into_iter().map(|list| Written { policy: number, ..list }));
                found.rules.append(&mut inside.rules);
                found.in_error.append(&mut inside.in_error);
                found.lists_in_error.append(&mut inside.lists_in_error);
                let are_fine = file.clients.as_ref().is_none_or(|clients| {
                    !report.has_error_within(clients.position, next_key(file, clients.position, until))
                });
                found.policies.push((typed, are_fine && !report.is_misspelled(at.position, "clients")));
                found.sets.append(&mut inside.sets);
            }
            Err(error) => report.error(at.position, error.to_string()),
        }
    }
    files.now_in(None);
    Read { policies: Policies::new(policies), places: found }
}

/// Warns if no file has a policy. The keys of the configuration itself begin at `start`.
pub(super) fn tell_if_there_are_none(written: &[WrittenPolicies<'_>], start: Position) {
    if written.iter().any(|file| value(file.list).is_some_and(|list| !list.is_empty())) {
        return;
    }
    let Some(WrittenPolicies { list, report, .. }) = written.first() else { return };
    match list {
        None if report.is_misspelled(start, "policies") => {}
        None => report.warning(Position::START, "`policies` is missing: every request is denied"),
        Some(at) if at.value.is_some() => {
            report.warning(at.position, "`policies` is empty: every request is denied");
        }
        Some(_) => {}
    }
}

/// A warning for each policy in report mode: it must not be forgotten that nothing is denied.
pub(super) fn tell_report_mode(written: &[WrittenPolicies<'_>], report: &Report<'_>) {
    let all = written.iter().flat_map(|file| items(file.list).map(move |(policy, _)| (policy, file)));
    for (policy, file) in all {
        let report = report.of(file.report.file());
        if let (Some(At { value: Some(ModeFile::Report), position, .. }), Some(name)) =
            (&policy.mode, value(&policy.name))
        {
            report.warning(
                *position,
                format!(
                    "policy `{}` is in report mode: it lets out every host, and only records what it would deny. Write `mode: \
                     enforce` when its list is complete",
                    name.0
                ),
            );
        }
    }
}

/// Where the next key of the policy begins behind `from`; at the latest, the policy ends at `until`.
fn next_key(file: &PolicyFile, from: Position, until: Position) -> Position {
    let at = [
        file.clients.as_ref().map(|at| at.position),
        file.mode.as_ref().map(|at| at.position),
        file.private.as_ref().map(|at| at.position),
        file.addresses_by_sni.as_ref().map(|at| at.position),
        file.allow.as_ref().map(|at| at.position),
        file.allow_files.as_ref().map(|at| at.position),
        file.deny.as_ref().map(|at| at.position),
        file.deny_files.as_ref().map(|at| at.position),
    ];
    at.into_iter().flatten().filter(|at| *at > from).min().unwrap_or(until)
}

/// The items of a list that are valid, each with where it begins and where the next one does.
fn spans<'f, T>(
    list: &'f List<T>,
    file: &PolicyFile,
    until: Position,
) -> impl Iterator<Item = (&'f T, Span)> {
    let end = list.as_ref().map_or(until, |at| next_key(file, at.position, until));
    let all = value(list).map(Vec::as_slice).unwrap_or_default();
    let ends = all.iter().skip(1).map(|next| next.position).chain([end]);
    all.iter().zip(ends).filter_map(|(at, end)| Some((at.value.as_ref()?, (at.position, end))))
}

/// From here, and up to there.
type Span = (Position, Position);

fn read_policy<'f>(
    name: &str,
    file: &'f PolicyFile,
    (around, until): Span,
    report: &Report<'_>,
    files: &mut NamedFiles<'_>,
) -> (PolicyBuilder, ClientMatch, Places<'f>) {
    let before = report.errors();
    let clients = clients(&file.clients, report, files);
    let mode = match value(&file.mode) {
        None | Some(ModeFile::Enforce) => Mode::Enforce,
        Some(ModeFile::Report) => Mode::Report,
    };
    if mode == Mode::Report {
        open_to_all(&clients, value(&file.clients), around, report);
    }
    let builder = PolicyBuilder::new(name, clients.clone(), mode, private(&file.private, report))
        .judging_addresses_by_sni(value(&file.addresses_by_sni).copied().unwrap_or(false));
    let mut reading = Reading { builder, report, rules: 0, found: Places::default() };
    let inline = reading.builder.inline(report.file());
    let plain = reading.builder.options(RuleOptions::default());
    // After the policy's own rules, so that these come first where both match a host.
    let mut sets = Vec::new();
    let mut lists: Vec<Box<str>> = Vec::new();
    for (allow, span) in spans(&file.allow, file, until) {
        let (position, _) = span;
        match allow {
            AllowFile::Set(set) => {
                sets.push((set, span));
                continue;
            }
            AllowFile::Rule(rule) => {
                reading.allow(rule, inline, plain, Schemes::HTTPS);
            }
            AllowFile::Full(full) => {
                let to = required(report, &full.to, position, "to", "to: git-codecommit.*.amazonaws.com");
                let rule = to.and_then(|at| RuleText::parse(&at.value.as_ref()?.0).ok());
                let schemes =
                    rule.as_ref().and_then(|rule| rule.scheme).map_or(Schemes::HTTPS, Schemes::from);
                let options = full.options(schemes, report, files);
                let misplaced = rule.and_then(|rule| options.misplaced(&rule.host, schemes));
                let options = reading.options(options, full.requests());
                if let Some(rule) = to {
                    let schemes = reading.allow(rule, inline, options, Schemes::HTTPS);
                    if let Some(schemes) = schemes {
                        full.check(schemes, report);
                    }
                    if let Some((key, text)) = misplaced {
                        report.error(full.position_of(key).unwrap_or(rule.position), text);
                    }
                }
            }
        }
        reading.note(span);
    }
    for (set, span) in sets {
        reading.set(set, span.0, files);
        reading.note(span);
    }
    for (allow_file, span) in spans(&file.allow_files, file, until) {
        let position = span.0;
        let list = match allow_file {
            AllowFilesFile::File(path) => {
                reading.allow_file(path, (plain, &RuleOptions::default()), Schemes::HTTPS, files)
            }
            AllowFilesFile::Full(full) => {
                let path = required(report, &full.file, position, "file", "file: allowlist.txt");
                let schemes = schemes(&full.schemes, report);
                full.check(schemes, report);
                let given = full.options(schemes, report, files);
                let options = reading.options(given.clone(), full.requests());
                path.and_then(|path| reading.allow_file(path, (options, &given), schemes, files))
            }
        };
        if report.has_error_within(span.0, span.1) {
            reading.found.lists_in_error.extend(list.clone());
        }
        lists.extend(list);
    }
    for at in value(&file.deny).into_iter().flatten() {
        reading.deny(at, inline);
    }
    for at in value(&file.deny_files).into_iter().flatten() {
        reading.deny_file(at, files);
    }
    reading.note((around, around));
    let opens_unknown = report.is_misspelled(around, "private")
        || file
            .private
            .as_ref()
            .is_some_and(|list| report.has_error_within(list.position, next_key(file, list.position, until)));
    if opens_unknown {
        // What a rule opens follows from it.
        reading.found.in_error.fill(true);
        reading.found.lists_in_error.extend(lists);
    }
    // In report mode it lets out everything, which is told.
    let is_fine = report.errors() == before && !report.has_error_within(around, until);
    if reading.rules == 0 && mode == Mode::Enforce && is_fine {
        report
            .warning(around, format!("the policy {} allows nothing: it denies every request", quoted(name)));
    }
    (reading.builder, clients, reading.found)
}

/// One policy while its rules are read.
struct Reading<'r, 'f> {
    builder: PolicyBuilder,
    report: &'r Report<'r>,
    /// The number of rules in `allow` and the allow files.
    rules: usize,
    /// The places of the rules of `allow` and `deny`, of the sets, and of entries of `requests`.
    found: Places<'f>,
}

impl<'f> Reading<'_, 'f> {
    /// Notes for the rules that an entry brought whether there is an error in it.
    fn note(&mut self, (from, until): Span) {
        let is_in_error = self.report.has_error_within(from, until);
        self.found.in_error.resize(self.found.rules.len(), is_in_error);
    }

    /// Options, and where their `requests` are written.
    fn options(&mut self, options: RuleOptions, requests: &'f List<EntryFile>) -> OptionsId {
        let options = self.builder.options(options);
        if requests.is_some() {
            // The policy's number is not known yet.
            let file = self.report.file().into();
            self.found.requests.push(Written { policy: 0, options, list: requests, file });
        }
        options
    }

    /// Returns the schemes that the rule allows, or None if it is wrong.
    fn allow(
        &mut self,
        at: &At<Line>,
        file: FileId,
        options: OptionsId,
        left_out: Schemes,
    ) -> Option<Schemes> {
        let text = &*at.value.as_ref()?.0;
        let rule = self.parse(at, text)?;
        let schemes = rule.scheme.map_or(left_out, Schemes::from);
        let origin = Origin { file, line: at.position.line, inline: true, text };
        match self.builder.allow(&rule, schemes, origin, options) {
            Ok(()) => {
                self.rules += 1;
                self.found.rules.push(self.report.place(at.position));
                Some(schemes)
            }
            Err(error) => {
                self.report.error(at.position, format!("{}: {error}", quoted(text)));
                None
            }
        }
    }

    /// Adds every rule of a set, with the options that are written beside it. The entry begins at `around`.
    fn set(&mut self, entry: &'f FullSetFile, around: Position, files: &mut NamedFiles<'_>) {
        let named = sets::named(entry, around, self.report);
        let lines = named.iter().flat_map(|(_, lines)| lines);
        let rules: Vec<_> = lines.map(|(line, text)| (*line, text, RuleText::parse(text))).collect();
        let scheme = |rule: &RuleText| rule.scheme.unwrap_or(Scheme::Https);
        let all: Schemes = rules.iter().filter_map(|(.., rule)| rule.as_ref().ok().map(scheme)).collect();
        let all = if all.is_empty() { Schemes::HTTPS } else { all };
        entry.check(all, self.report);
        let given = entry.options(all, self.report, files);
        let Some((set, _)) = &named else { return };
        let file = self.builder.set(&format!("set:{}", set.id()));
        let options = self.options(given.clone(), entry.requests());
        for (line, text, rule) in rules {
            let added = rule.map_err(|error| (around, error.to_string())).and_then(|rule| {
                let schemes = Schemes::from(scheme(&rule));
                if let Some((key, why)) = given.misplaced(&rule.host, schemes) {
                    return Err((entry.position_of(key).unwrap_or(around), why.to_owned()));
                }
                let origin = Origin { file, line, inline: true, text };
                let added = self.builder.allow(&rule, schemes, origin, options);
                added.map_err(|error| (around, error.to_string()))
            });
            match added {
                Ok(()) => {
                    self.rules += 1;
                    self.found.rules.push(self.report.place(around));
                }
                Err((position, why)) => {
                    let text = format!("{why} (line {line} of the set `{}` is {})", set.id(), quoted(text));
                    self.report.error(position, text);
                }
            }
        }
        if let Some((set, _)) = named {
            self.found.sets.push(SetInUse { place: self.report.place(around), set });
        }
    }

    fn deny(&mut self, at: &At<Line>, file: FileId) {
        let Some(text) = at.value.as_ref().map(|line| &*line.0) else { return };
        let Some(rule) = self.parse(at, text) else { return };
        let origin = Origin { file, line: at.position.line, inline: true, text };
        match self.builder.deny(&rule, origin) {
            Ok(()) => self.found.rules.push(self.report.place(at.position)),
            Err(error) => self.report.error(at.position, format!("{}: {error}", quoted(text))),
        }
    }

    fn parse(&self, at: &At<Line>, text: &str) -> Option<RuleText> {
        match RuleText::parse(text) {
            Ok(rule) => Some(rule),
            Err(error) => {
                self.report.error(at.inside(text, error.offset), format!("{}: {error}", quoted(text)));
                None
            }
        }
    }

    /// Reads every line of an allow file, and returns its name. `left_out` is what a line without a scheme means.
    fn allow_file(
        &mut self,
        at: &At<FilePath>,
        (options, given): (OptionsId, &RuleOptions),
        left_out: Schemes,
        files: &mut NamedFiles<'_>,
    ) -> Option<Box<str>> {
        let (content, report) = named(at, files, self.report)?;
        let file = self.builder.file(report.file());
        let builder = &mut self.builder;
        self.rules += rules(&content, ListKind::Allow, &report, |rule, line, text| {
            let schemes = rule.scheme.map_or(left_out, Schemes::from);
            if let Some((_, misplaced)) = given.misplaced(&rule.host, schemes) {
                return Err(misplaced.to_owned());
            }
            let origin = Origin { file, line, inline: false, text };
            builder.allow(rule, schemes, origin, options).map_err(|error| error.to_string())
        });
        Some(report.file().into())
    }

    /// Reads every line of a deny file.
    fn deny_file(&mut self, at: &At<FilePath>, files: &mut NamedFiles<'_>) {
        let Some((content, report)) = named(at, files, self.report) else { return };
        let file = self.builder.deny_file(report.file());
        let builder = &mut self.builder;
        rules(&content, ListKind::Deny, &report, |rule, line, text| {
            let origin = Origin { file, line, inline: false, text };
            builder.deny(rule, origin).map_err(|error| error.to_string())
        });
    }
}

/// Parses every line of a file of rules, and hands it to `add` with its line number and its text. Returns how many
/// there are.
fn rules(
    content: &[u8],
    kind: ListKind,
    report: &Report<'_>,
    mut add: impl FnMut(&RuleText, u32, &str) -> Result<(), String>,
) -> usize {
    list_file::read(content, kind, report, |position, text| {
        let rule = match RuleText::parse(text) {
            Ok(rule) => rule,
            Err(error) => {
                let before = text.get(..error.offset).map_or(0, |before| before.chars().count());
                return report.error(position.right(before), format!("{}: {error}", quoted(text)));
            }
        };
        if let Err(error) = add(&rule, position.line, text) {
            report.error(position, format!("{}: {error}", quoted(text)));
        }
    })
}

fn schemes(list: &List<SchemeFile>, report: &Report<'_>) -> Schemes {
    if let Some(at) = list
        && at.value.as_ref().is_some_and(Vec::is_empty)
    {
        report.error(
            at.position,
            "`schemes` is empty: write https, http or tcp, or remove the key, which means https",
        );
    }
    let mut schemes: Vec<Scheme> = Vec::new();
    for (scheme, position) in items(list) {
        let scheme = match scheme {
            SchemeFile::Https => Scheme::Https,
            SchemeFile::Http => Scheme::Http,
            SchemeFile::Tcp => Scheme::Tcp,
        };
        if schemes.contains(&scheme) {
            report.warning(position, format!("`{scheme}` is listed twice: remove one of them"));
        }
        schemes.push(scheme);
    }
    if schemes.is_empty() { Schemes::HTTPS } else { schemes.into_iter().collect() }
}
