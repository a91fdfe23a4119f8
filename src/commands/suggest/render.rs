//! Writes the suggestion as YAML: a whole configuration that `check` accepts, with comments on what was seen.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt::Write as _;
use std::ops::RangeInclusive;

use jiff::Timestamp;

use super::groups::{Gathering, Group};
use super::kind::Kind;
use super::lines::{Line, lines};
use super::seen::{Seen, Wanted};
use super::{Suggestion, inside, wide, yaml};
use crate::config::{self, Severity};
use crate::rules::Scheme;
use crate::rules::offer::tls_at_first;
use crate::words::counted::counted;
use crate::words::small_sort::SmallCollect as _;
use crate::words::target::Host;

/// Its file name in findings.
const NAME: &str = "suggested.yaml";

/// Networks that are written on one line.
const NETWORKS: usize = 6;

/// Stands above a `tcp` rule that is not based on an existing one: it opens more than a name.
const CAREFUL: &str = "CAREFUL: the next rule opens an opaque tunnel, content not inspected; no server name was seen in it. Keep it only if \
                       you know what it is for";

/// Stands above such a rule for an address where TLS is usual.
const BY_NAME: &str = "CAREFUL: the next rule opens an opaque tunnel to an address. Most clients that send one were given a name: make them \
                       send the name (docs/clients.md), and write that. Keep it only if the address itself is meant";

/// Stands above the policies if a rule inspects.
const AUTHORITY: &str = "inspection: {certificate: authority.crt, key: authority.key} # of `egressd ca new`: write the proxy's own files";

/// What is left to write below the policies.
#[derive(Default)]
struct Rest {
    /// Denied targets that are left out.
    without: usize,
    /// What no rule can be written for, and why.
    refused: BTreeSet<String>,
    /// Requests whose client the log does not name.
    nameless: u64,
    /// Clients that there was no policy for.
    beyond: usize,
}

/// In which lines of the text a rule is, by the number of its policy and its own.
type Places = Vec<(RangeInclusive<u32>, (usize, usize))>;

impl Suggestion {
    /// The configuration. `denied`: with rules for what was denied, too.
    pub fn to_yaml(mut self, denied: bool) -> String {
        self.take_dead_out();
        let mut rest = Rest::default();
        let mut groups = self.groups(denied, &mut rest);
        let (mut text, mut places) = self.render(&groups, &rest);
        // For some names no rule can be written. Two rounds: the second leaves out those that the first found.
        for _ in 0..2 {
            let Err(findings) = config::load_str(NAME, &text, no_file) else { break };
            let errors = findings.iter().filter(|finding| finding.severity == Severity::Error);
            let wrong: BTreeMap<(usize, usize), String> = errors
                .filter_map(|finding| {
                    let (_, at) = places.iter().find(|(place, _)| place.contains(&finding.line))?;
                    Some((*at, finding.text.clone()))
                })
                .small_collect();
            if wrong.is_empty() {
                break;
            }
            for ((group, line), why) in wrong.into_iter().rev() {
                let lines = groups.get_mut(group).map(|group| &mut group.lines);
                if let Some(lines) = lines.filter(|lines| line < lines.len()) {
                    rest.refused.insert(format!("{}: {why}", lines.remove(line).rule()));
                }
            }
            groups.retain(|group| !group.lines.is_empty());
            (text, places) = self.render(&groups, &rest);
        }
        text
    }

    /// The policies to write.
    fn groups(&self, denied: bool, rest: &mut Rest) -> Vec<Group> {
        let mut by_asker: BTreeMap<_, Vec<(&Wanted, &Seen)>> = BTreeMap::new();
        let mut without: HashSet<&Wanted> = HashSet::new();
        for ((who, wanted), seen) in &self.seen {
            by_asker.entry(*who).or_default().push((wanted, seen));
            if !denied && seen.kind() == Some(Kind::Denied) {
                without.insert(wanted);
            }
        }
        rest.without = without.len();
        let are_named = self.askers.are_named();
        let mut identities: BTreeMap<&str, bool> = BTreeMap::new();
        let mut gathering = Gathering::default();
        for (who, asker, policies) in self.askers.all() {
            let Some(seen) = by_asker.remove(&who) else { continue };
            let is_plain = |wanted: &Wanted| self.plain.contains(&(who, wanted.host.clone(), wanted.port));
            let mut lines = lines(seen.into_iter(), denied, is_plain);
            if let Some(identity) = asker.identity.as_deref()
                && !*identities.entry(identity).or_insert_with(|| is_identity(identity))
            {
                rest.refused.insert(format!("clients that the log calls {}", yaml::quoted(identity)));
                continue;
            }
            if are_named && asker.network.is_none() {
                rest.nameless += lines.iter().map(|line| requests(&line.seen)).sum::<u64>();
                continue;
            }
            rest.refused.extend(lines.iter().filter_map(Line::without_entry));
            lines.retain(|line| line.without_entry().is_none());
            gathering.add(asker, policies, lines);
        }
        let (groups, beyond) = gathering.groups();
        rest.beyond = beyond;
        groups
    }

    /// The text, and where its rules are.
    fn render(&self, groups: &[Group], rest: &Rest) -> (String, Places) {
        let mut out = Text::default();
        self.head(&mut out);
        let of_groups = || groups.iter().flat_map(|group| &group.lines);
        if of_groups().any(|line| !line.entries.is_empty()) {
            out.line(AUTHORITY);
        }
        let mut places = Vec::new();
        out.line("policies:");
        for (number, group) in groups.iter().enumerate() {
            clients(group, &mut out);
            out.line("    allow:");
            let mut kind = None;
            for (index, line) in group.lines.iter().enumerate() {
                if kind != Some(line.kind) {
                    kind = Some(line.kind);
                    out.line(&format!("      # {}", title(line.kind, "names")));
                }
                if let Some(careful) = careful(line) {
                    out.line(&format!("      # {careful}"));
                }
                let first = out.lines + 1;
                rule_lines(line, &mut out);
                places.push((first..=out.lines, (number, index)));
            }
        }
        if groups.is_empty() {
            out.line("  - name: suggested");
            out.line("    allow: []");
        }
        let mut out = out.text;
        self.tail(&mut out, of_groups(), rest);
        self.no_proxy(&mut out);
        (out, places)
    }

    fn head(&self, out: &mut Text) {
        let mut head = format!("# {}", counted(self.requests, "recorded request", "recorded requests"));
        if let (Some(first), Some(last)) = (self.first, self.last) {
            let _ = write!(head, ", {} to {}", moment(first), moment(last));
        }
        if self.inside > 0 {
            let _ = write!(head, "; inside tunnels {}", counted(self.inside, "request", "requests"));
        }
        head.push_str(". Exact names and exact clients only; read it before you use it.");
        out.line(&head);
    }

    fn tail<'l>(&self, out: &mut String, lines: impl Iterator<Item = &'l Line>, rest: &Rest) {
        if rest.without > 0 {
            let _ = writeln!(
                out,
                "# {} left out",
                counted(rest.without, "denied target is", "denied targets are")
            );
        }
        let names = lines.filter_map(|line| match &line.wanted.host {
            Host::Name(name) => Some(name.as_str()),
            Host::Address(_) => None,
        });
        for told in wide::patterns(names) {
            let _ = writeln!(out, "# {told}");
        }
        for told in &rest.refused {
            let _ = writeln!(out, "# no rule can be written for {told}");
        }
        if rest.nameless > 0 {
            let _ = writeln!(
                out,
                "# {} left out, because the log does not say which client sent them",
                counted(rest.nameless, "request is", "requests are")
            );
        }
        if rest.beyond > 0 {
            let _ = writeln!(
                out,
                "# INCOMPLETE: {} lists of their own that are not written; with `--networks` the clients of one network share a list",
                counted(rest.beyond, "more client has", "more clients have")
            );
        }
        self.left_out(out);
    }
}

/// Text that knows how many lines it has.
#[derive(Default)]
struct Text {
    text: String,
    lines: u32,
}

impl Text {
    fn line(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
        self.lines += 1;
    }
}

fn requests(seen: &Seen) -> u64 {
    seen.passed + seen.would_deny + seen.denied
}

/// Whether the configuration can name a client by it. A log may contain any text, or the beginning of one.
fn is_identity(identity: &str) -> bool {
    let identity = yaml::quoted(identity);
    let text =
        format!("policies: [{{name: suggested, clients: {{identities: [{identity}]}}, allow: [a.example]}}]");
    config::load_str(NAME, &text, no_file).is_ok()
}

/// The name of a policy and its clients.
fn clients(group: &Group, out: &mut Text) {
    out.line(&format!("  - name: {}", yaml::value(&group.name)));
    if !group.merged.is_empty() {
        let merged: Vec<String> = group.merged.iter().map(|policy| yaml::quoted(policy)).collect();
        out.line(&format!(
            "    # these clients are in the log under several policies: {}",
            merged.join(", ")
        ));
    }
    let networks: Vec<String> = group.networks.iter().map(|network| format!("\"{network}\"")).collect();
    let identities: Vec<String> = group.identities.iter().map(|identity| yaml::quoted(identity)).collect();
    if networks.is_empty() {
        out.line("    # the log names no client: without `networks`, every client with a private address is allowed");
        if !identities.is_empty() {
            out.line(&format!("    clients: {{identities: [{}]}}", identities.join(", ")));
        }
        return;
    }
    let mut rows = networks.chunks(NETWORKS).map(|some| some.join(", ")).peekable();
    let mut start = "    clients: {networks: [".to_owned();
    while let Some(row) = rows.next() {
        let end = match (rows.peek(), identities.is_empty()) {
            (Some(_), _) => ",".to_owned(),
            (None, true) => "]}".to_owned(),
            (None, false) => format!("], identities: [{}]}}", identities.join(", ")),
        };
        out.line(&format!("{start}{row}{end}"));
        start = "        ".to_owned();
    }
}

fn no_file(_: &std::path::Path) -> std::io::Result<Vec<u8>> {
    Err(std::io::ErrorKind::NotFound.into())
}

/// What stands above a rule that opens more than a name.
fn careful(line: &Line) -> Option<&'static str> {
    let Wanted { scheme, host, port, .. } = &line.wanted;
    // What a rule let through is as its operator wants it; of a tunnel through Squid only the port is known.
    let by_rule = line.kind == Kind::Passed && !line.seen.brief;
    match (scheme, host) {
        (Scheme::Tcp, Host::Address(_)) if tls_at_first(*port) && !by_rule => Some(BY_NAME),
        (Scheme::Tcp, _) if line.kind != Kind::Passed => Some(CAREFUL),
        _ => None,
    }
}

/// Writes the rule.
fn rule_lines(line: &Line, out: &mut Text) {
    let (rule, options, comment) = (line.rule(), line.options(), comment(line));
    if line.entries.is_empty() {
        return match options.is_empty() {
            true => out.line(&format!("      - \"{rule}\" # {comment}")),
            false => out.line(&format!("      - {{to: \"{rule}\", {options}}} # {comment}")),
        };
    }
    out.line(&format!("      - to: \"{rule}\" # {comment}"));
    if !options.is_empty() {
        out.line(&format!("        {options}"));
    }
    out.line("        requests:");
    let mut kind = Kind::Passed;
    for inside::Seen { kind: of, entry, count, unknown } in &line.entries {
        if *of != kind {
            kind = *of;
            out.line(&format!("          # {}", title(kind, "paths")));
        }
        let word = match kind {
            Kind::Passed => "let through",
            Kind::WouldDeny => "would be denied",
            Kind::Denied => "denied",
        };
        out.line(&format!("          - {entry} # {count} {word}{}", unknown.told().collect::<String>()));
    }
}

/// What stands above the first line of a kind. `names` is what clients chose.
fn title(kind: Kind, names: &str) -> String {
    match kind {
        Kind::Passed => "let through by a rule".to_owned(),
        Kind::WouldDeny => "let through only by report mode: enforce mode would have denied it".to_owned(),
        Kind::Denied => format!(
            "DENIED so far. Any client of the proxy may have chosen these {names}: keep a line only if you know why it \
             was requested"
        ),
    }
}

fn comment(line: &Line) -> String {
    let seen = &line.seen;
    let counts =
        [(seen.passed, "let through"), (seen.would_deny, "would be denied"), (seen.denied, "denied")];
    let counts: Vec<String> = counts
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, word)| format!("{count} {word}"))
        .collect();
    let mut text = match counts.is_empty() {
        true => "in tunnels without a line of their own".to_owned(),
        false => counts.join(", "),
    };
    if let Some(reason) = seen.reason.filter(|_| line.kind != Kind::Passed) {
        let _ = write!(text, " ({reason})");
    }
    if let (Some(first), Some(last)) = (seen.first, seen.last) {
        let _ = write!(text, "; {}", moment(first));
        if last > first {
            let _ = write!(text, " to {}", moment(last));
        }
    }
    if line.unopened > 0 {
        let _ = write!(text, "; {} by a tcp rule, unopened: what was in them is not listed", line.unopened);
    }
    if seen.more_addresses {
        text.push_str("; more non-public addresses than are listed");
    }
    text
}

fn moment(seconds: i64) -> String {
    Timestamp::from_second(seconds).map_or_else(|_| "?".to_owned(), |moment| moment.to_string())
}
