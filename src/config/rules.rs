//! Policies: from the keys as typed to [`Policies`].
//!
//! Rule strings are parsed by `policy`; here stands which rule gets which options, from which file and line. Every rule
//! of every file is read before anything is refused.

use ipnet::IpNet;
use jiff::Timestamp;

use super::allow_file;
use super::file::{
    AllowFile, AllowFilesFile, ClientsFile, FullAllowFile, FullRuleFile, ModeFile, PolicyFile, SchemeFile,
};
use super::finding::{Place, Report};
use super::keys::{Key, List, items, networks, private_networks, required, value};
use super::named_files::NamedFiles;
use super::typed::At;
use super::values::{Budget, FilePath, Label, Line, Moment, Network, Size};
use crate::rules::{
    ClientMatch, FileId, Mode, OptionsId, Origin, Policies, PolicyBuilder, RuleOptions, RuleText, Scheme,
    Schemes, lint,
};
use crate::words::quote::quoted;

/// The policies in their order, and where each rule of the configuration itself stands, in the order of
/// [`Policies::rules`]. What is wrong is told and left out.
pub(super) fn policies(
    list: &List<PolicyFile>,
    report: &Report<'_>,
    files: &mut NamedFiles<'_>,
) -> (Policies, Vec<Place>) {
    let written = value(list).map(Vec::as_slice).unwrap_or_default();
    match list {
        None => report.warning(Place::START, "`policies` is left out: every request is denied"),
        Some(at) if at.value.is_some() && written.is_empty() => {
            report.warning(at.place, "`policies` is empty: every request is denied");
        }
        Some(_) => {}
    }
    let mut seen: Vec<Seen<'_>> = Vec::new();
    let mut policies = Vec::new();
    let mut places = Vec::new();
    for at in written {
        let Some(file) = &at.value else { continue };
        let Some(name) = required(report, &file.name, at.place, "name", "name: gitaly") else {
            // Without a name nothing of it is used, but its rules are still checked.
            read_policy("", file, at.place, report, files);
            continue;
        };
        let text = name.value.as_ref().map_or("", |label| &label.0);
        if seen.iter().any(|other| other.name == text) {
            report
                .error(name.place, format!("another policy is called {}: write another name", quoted(text)));
        }
        let (builder, clients, inline) = read_policy(text, file, at.place, report, files);
        let earlier: Vec<(&str, &ClientMatch)> = seen.iter().map(|seen| (seen.name, &seen.clients)).collect();
        if let Some(why) = lint::unreachable(&earlier, &clients) {
            report.warning(at.place, format!("the policy {} never decides: {why}", quoted(text)));
        }
        seen.push(Seen { name: text, clients });
        match builder.build() {
            Ok(policy) => {
                policies.push(policy);
                places.extend(inline);
            }
            Err(error) => report.error(at.place, error.to_string()),
        }
    }
    (Policies::new(policies), places)
}

/// A policy that stands before the one that is read.
struct Seen<'f> {
    name: &'f str,
    clients: ClientMatch,
}

/// What is unwise about the rules of a configuration that is right otherwise. `places` as [`policies`] gave them.
pub(super) fn lints(policies: &Policies, places: &[Place], now: Timestamp, report: &Report<'_>) {
    for lint in lint::lint(policies, now) {
        let inline = lint.inline.and_then(|number| places.get(number)).copied();
        let place = inline.unwrap_or(Place { line: lint.line, column: 1 });
        report.of(&lint.file).warning(place, lint.text);
    }
}

fn read_policy(
    name: &str,
    file: &PolicyFile,
    around: Place,
    report: &Report<'_>,
    files: &mut NamedFiles<'_>,
) -> (PolicyBuilder, ClientMatch, Vec<Place>) {
    let clients = clients(&file.clients, report);
    let mode = match value(&file.mode) {
        None | Some(ModeFile::Enforce) => Mode::Enforce,
        Some(ModeFile::Report) => Mode::Report,
    };
    let builder = PolicyBuilder::new(name, clients.clone(), mode, private(&file.private, report));
    let mut reading = Reading { builder, report, rules: 0, inline: Vec::new() };
    let inline = reading.builder.file(report.file());
    let plain = reading.builder.options(RuleOptions::default());
    for (allow, place) in items(&file.allow) {
        match allow {
            AllowFile::Rule(rule) => {
                reading.allow(rule, inline, plain, Schemes::HTTPS);
            }
            AllowFile::Full(full) => {
                let to = required(report, &full.to, place, "to", "to: git-codecommit.*.amazonaws.com");
                let options = full.options().read(report);
                let options = reading.builder.options(options);
                if let Some(rule) = to {
                    let schemes = reading.allow(rule, inline, options, Schemes::HTTPS);
                    verifiable(&full.verify_certificate, schemes, report);
                }
            }
        }
    }
    for (allow_file, place) in items(&file.allow_files) {
        match allow_file {
            AllowFilesFile::File(path) => reading.file(path, plain, Schemes::HTTPS, files),
            AllowFilesFile::Full(full) => {
                let path = required(report, &full.file, place, "file", "file: allowlist.txt");
                let schemes = schemes(&full.schemes, report);
                verifiable(&full.verify_certificate, Some(schemes), report);
                let options = full.options().read(report);
                let options = reading.builder.options(options);
                if let Some(path) = path {
                    reading.file(path, options, schemes, files);
                }
            }
        }
    }
    for at in value(&file.deny).into_iter().flatten() {
        reading.deny(at, inline);
    }
    if reading.rules == 0 && !report.has_errors() {
        report
            .warning(around, format!("the policy {} allows nothing: it denies every request", quoted(name)));
    }
    (reading.builder, clients, reading.inline)
}

/// One policy while its rules are read.
struct Reading<'r> {
    builder: PolicyBuilder,
    report: &'r Report<'r>,
    /// Of `allow` and the allow files.
    rules: usize,
    /// Where the rules of `allow` and `deny` stand.
    inline: Vec<Place>,
}

impl Reading<'_> {
    /// Returns the schemes that the rule allows, None where it is wrong.
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
        let origin = Origin { file, line: at.place.line, inline: true, text };
        match self.builder.allow(&rule, schemes, origin, options) {
            Ok(()) => {
                self.rules += 1;
                self.inline.push(at.place);
                Some(schemes)
            }
            Err(error) => {
                self.report.error(at.place, format!("{}: {error}", quoted(text)));
                None
            }
        }
    }

    fn deny(&mut self, at: &At<Line>, file: FileId) {
        let Some(text) = at.value.as_ref().map(|line| &*line.0) else { return };
        let Some(rule) = self.parse(at, text) else { return };
        let origin = Origin { file, line: at.place.line, inline: true, text };
        match self.builder.deny(&rule, origin) {
            Ok(()) => self.inline.push(at.place),
            Err(error) => self.report.error(at.place, format!("{}: {error}", quoted(text))),
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

    /// Every line of an allow file. `left_out`: what a line without a scheme means.
    fn file(&mut self, at: &At<FilePath>, options: OptionsId, left_out: Schemes, files: &mut NamedFiles<'_>) {
        let Some(name) = at.value.as_ref().map(|path| &*path.0) else { return };
        let Some(content) = files.read(name, at.place, self.report) else { return };
        let path = files.path(name).display().to_string();
        let report = self.report.of(&path);
        let file = self.builder.file(report.file());
        let builder = &mut self.builder;
        let rules = allow_file::read(&content, &report, |place, text| {
            let rule = match RuleText::parse(text) {
                Ok(rule) => rule,
                Err(error) => {
                    let before = text.get(..error.offset).map_or(0, |before| before.chars().count());
                    return report.error(place.right(before), format!("{}: {error}", quoted(text)));
                }
            };
            let schemes = rule.scheme.map_or(left_out, Schemes::from);
            let origin = Origin { file, line: place.line, inline: false, text };
            if let Err(error) = builder.allow(&rule, schemes, origin, options) {
                report.error(place, format!("{}: {error}", quoted(text)));
            }
        });
        self.rules += rules;
    }
}

fn clients(key: &Key<ClientsFile>, report: &Report<'_>) -> ClientMatch {
    let left_out = ClientsFile::default();
    let file = value(key).unwrap_or(&left_out);
    not_empty("networks", &file.networks, report);
    not_empty("identities", &file.identities, report);
    not_empty("vpc_endpoints", &file.vpc_endpoints, report);
    ClientMatch {
        networks: networks(&file.networks).unwrap_or_else(private_networks),
        identities: items(&file.identities).map(|(identity, _)| identity.0.clone()).collect(),
        vpc_endpoints: items(&file.vpc_endpoints).map(|(endpoint, _)| endpoint.0.clone()).collect(),
    }
}

/// An empty kind would fit nobody when read strictly, and everybody when read as "not asked": neither is guessed.
fn not_empty<T>(name: &str, list: &List<T>, report: &Report<'_>) {
    if let Some(at) = list
        && at.value.as_ref().is_some_and(Vec::is_empty)
    {
        report.error(
            at.place,
            format!("`{name}` is empty and fits no client: write at least one, or take the key out"),
        );
    }
}

fn private(list: &List<Network>, report: &Report<'_>) -> Vec<IpNet> {
    for (network, place) in items(list) {
        if network.0.prefix_len() == 0 {
            report.warning(
                place,
                format!(
                    "{} opens every internal address: write the network that is meant",
                    quoted(&network.0.to_string())
                ),
            );
        } else if let Some(doubt) = lint::private_network(&network.0) {
            report.warning(place, doubt);
        }
    }
    networks(list).unwrap_or_default()
}

fn schemes(list: &List<SchemeFile>, report: &Report<'_>) -> Schemes {
    if let Some(at) = list
        && at.value.as_ref().is_some_and(Vec::is_empty)
    {
        report.error(at.place, "`schemes` is empty: write https, http or tcp, or take the key out for https");
    }
    let mut schemes: Vec<Scheme> = Vec::new();
    for (scheme, place) in items(list) {
        let scheme = match scheme {
            SchemeFile::Https => Scheme::Https,
            SchemeFile::Http => Scheme::Http,
            SchemeFile::Tcp => Scheme::Tcp,
        };
        if schemes.contains(&scheme) {
            report.warning(place, format!("`{scheme}` stands in the list twice"));
        }
        schemes.push(scheme);
    }
    if schemes.is_empty() { Schemes::HTTPS } else { schemes.into_iter().collect() }
}

/// Only an `https` rule has a certificate to verify.
fn verifiable(key: &Key<bool>, schemes: Option<Schemes>, report: &Report<'_>) {
    if let (Some(at), Some(schemes)) = (key, schemes)
        && at.value == Some(true)
        && !schemes.contains(Scheme::Https)
    {
        report.error(at.place, "`verify_certificate` needs an https rule: write https://, or take it out");
    }
}

/// The options that a rule and an allow file have in common.
struct OptionKeys<'f> {
    name: &'f Key<Label>,
    description: &'f Key<Line>,
    owner: &'f Key<Line>,
    ticket: &'f Key<Line>,
    expires: &'f Key<Moment>,
    private: &'f List<Network>,
    upload_limit: &'f Key<Size>,
    upload_budget: &'f Key<Budget>,
    verify_certificate: &'f Key<bool>,
}

/// The same keys of both types.
macro_rules! option_keys {
    ($file:expr) => {
        OptionKeys {
            name: &$file.name,
            description: &$file.description,
            owner: &$file.owner,
            ticket: &$file.ticket,
            expires: &$file.expires,
            private: &$file.private,
            upload_limit: &$file.upload_limit,
            upload_budget: &$file.upload_budget,
            verify_certificate: &$file.verify_certificate,
        }
    };
}

impl FullRuleFile {
    fn options(&self) -> OptionKeys<'_> {
        option_keys!(self)
    }
}

impl FullAllowFile {
    fn options(&self) -> OptionKeys<'_> {
        option_keys!(self)
    }
}

impl OptionKeys<'_> {
    fn read(&self, report: &Report<'_>) -> RuleOptions {
        if let Some(at) = self.upload_limit
            && at.value.as_ref().is_some_and(|size| size.0 == 0)
        {
            report.error(
                at.place,
                "an `upload_limit` of 0 lets nothing through: write at least 1B, or deny the host",
            );
        }
        let text = |key: &Key<Line>| value(key).map(|line| line.0.clone());
        RuleOptions {
            name: value(self.name).map(|label| label.0.clone()),
            description: text(self.description),
            owner: text(self.owner),
            ticket: text(self.ticket),
            expires: value(self.expires).map(|moment| moment.0),
            private: private(self.private, report),
            upload_limit: value(self.upload_limit).map(|size| size.0),
            upload_budget: value(self.upload_budget).map(|budget| budget.0),
            verify_certificate: value(self.verify_certificate).copied().unwrap_or(false),
        }
    }
}
