//! Writes the suggestion as YAML: a whole configuration that `check` accepts, with comments on what was seen.

use std::fmt::Write as _;
use std::ops::RangeInclusive;

use jiff::Timestamp;

use super::{Clients, Kind, Missing, NoProxyWhy, Seen, Suggestion, Wanted, Why, inside, wide};
use crate::config::{self, Severity};
use crate::rules::offer::rule_text;
use crate::rules::{Ports, RuleOptions, Scheme};
use crate::telemetry::record::Cause;
use crate::words::counted::counted;
use crate::words::outcome::{Class, Reason};
use crate::words::target::{Host, Port};

/// Its file name in findings.
const NAME: &str = "suggested.yaml";

/// Stands above a `tcp` rule that is not based on an existing one: it opens more than a name.
const CAREFUL: &str = "CAREFUL: the next rule opens an opaque tunnel, content not inspected; no server name was seen in it. Keep it only if \
                       you know what it is for";

/// Stands above the policies if a rule inspects.
const AUTHORITY: &str = "inspection: {certificate: authority.crt, key: authority.key} # of `egressd ca new`: write the proxy's own files";

/// One rule to write: a host, and adjacent ports that were seen with it.
struct Line {
    kind: Kind,
    wanted: Wanted,
    last_port: u16,
    seen: Seen,
    /// For the requests inside its tunnels.
    entries: Vec<inside::Seen>,
    /// Tunnels beside them that a `tcp` rule let through.
    unopened: u64,
}

impl Suggestion {
    /// The configuration. `denied`: with rules for what was denied, too.
    pub fn to_yaml(self, denied: bool) -> String {
        let mut lines = self.lines();
        let without = lines.iter().filter(|line| !denied && line.kind == Kind::Denied).count();
        lines.retain(|line| denied || line.kind != Kind::Denied);
        for line in &mut lines {
            line.entries = line.seen.inside.entries(denied);
        }
        // For some names no rule can be written. Two rounds: the second leaves out those that the first found.
        let mut refused: Vec<String> = lines.iter().filter_map(without_entry).collect();
        lines.retain(|line| without_entry(line).is_none());
        let mut clients = Clients::default();
        for kind in [Kind::Passed, Kind::WouldDeny, Kind::Denied] {
            if let Some(others) = self.clients.get(kind as usize).filter(|_| denied || kind != Kind::Denied) {
                clients.merge(others);
            }
        }
        let (mut text, mut places) = self.render(&lines, &clients, without, &refused);
        for _ in 0..2 {
            let Err(findings) = config::load_str(NAME, &text, no_file) else { break };
            let errors = findings.iter().filter(|finding| finding.severity == Severity::Error);
            let wrong: Vec<(usize, String)> = errors
                .filter_map(|finding| {
                    let at = places.iter().position(|place| place.contains(&finding.line))?;
                    Some((at, finding.text.clone()))
                })
                .collect();
            if wrong.is_empty() {
                break;
            }
            let mut index = 0;
            lines.retain(|line| {
                let why = wrong.iter().find(|(at, _)| *at == index).map(|(_, why)| why);
                index += 1;
                if let Some(why) = why {
                    refused.push(format!("{}: {why}", rule(line)));
                }
                why.is_none()
            });
            (text, places) = self.render(&lines, &clients, without, &refused);
        }
        text
    }

    /// Sorted by kind and name; adjacent ports are joined.
    fn lines(&self) -> Vec<Line> {
        let mut lines: Vec<Line> = self
            .seen
            .iter()
            .filter_map(|(wanted, seen)| {
                let last_port = wanted.port.get();
                let (wanted, seen) = (wanted.clone(), seen.clone());
                Some(Line { kind: seen.kind()?, wanted, last_port, seen, entries: Vec::new(), unopened: 0 })
            })
            .collect();
        // A `tcp` rule also allows what an `https` rule does, and of two rules for one host and port only one would decide.
        let place =
            |line: &Line| (name(&line.wanted.host), line.wanted.port, line.wanted.scheme != Scheme::Tcp);
        lines.sort_by_cached_key(place);
        lines.dedup_by(|https, tcp| {
            let same = https.wanted.host == tcp.wanted.host && https.wanted.port == tcp.wanted.port;
            let merge = same && tcp.wanted.scheme == Scheme::Tcp && https.wanted.scheme == Scheme::Https;
            if merge {
                // A client that sends something else through a tunnel that passes as TLS must not widen its rule, and beside
                // a rule that inspects none may pass a tunnel unopened.
                if tcp.kind == Kind::Denied && https.kind != Kind::Denied || https.seen.inside.is_inspected()
                {
                    tcp.wanted.scheme = Scheme::Https;
                }
                if https.seen.inside.is_inspected() {
                    tcp.unopened = tcp.seen.passed;
                }
                tcp.seen.merge(&https.seen);
                tcp.seen.inside = std::mem::take(&mut https.seen.inside);
                tcp.kind = tcp.kind.min(https.kind);
            }
            merge
        });
        let place = |line: &Line| {
            (line.kind, reversed(&line.wanted.host), line.wanted.scheme.as_str(), line.wanted.port)
        };
        lines.sort_by_cached_key(place);
        lines.dedup_by(|next, row| {
            let (one, other) = (&row.wanted, &next.wanted);
            let same = one.scheme == other.scheme && one.host == other.host && row.kind == next.kind;
            let is_plain = |seen: &Seen| seen.addresses.is_empty() && !seen.inside.is_inspected();
            let plain = is_plain(&row.seen) && is_plain(&next.seen);
            let joined = same && plain && row.last_port.checked_add(1) == Some(other.port.get());
            if joined {
                row.last_port = next.last_port;
                row.seen.merge(&next.seen);
            }
            joined
        });
        lines
    }

    /// The text, and the lines of each rule in it.
    fn render(
        &self,
        lines: &[Line],
        who: &Clients,
        without: usize,
        refused: &[String],
    ) -> (String, Vec<RangeInclusive<u32>>) {
        let mut out = String::new();
        self.head(&mut out);
        if lines.iter().any(|line| !line.entries.is_empty()) {
            let _ = writeln!(out, "{AUTHORITY}");
        }
        out.push_str("policies:\n  - name: suggested\n");
        clients(who, &mut out);
        let mut places = Vec::new();
        if lines.is_empty() {
            out.push_str("    allow: []\n");
        } else {
            out.push_str("    allow:\n");
        }
        let mut kind = None;
        let mut at = out.matches('\n').count() as u32;
        for line in lines {
            if kind != Some(line.kind) {
                kind = Some(line.kind);
                let title = title(line.kind, "names");
                let _ = writeln!(out, "      # {title}");
                at += 1;
            }
            if line.wanted.scheme == Scheme::Tcp && line.kind != Kind::Passed {
                let _ = writeln!(out, "      # {CAREFUL}");
                at += 1;
            }
            let first = at + 1;
            at += rule_lines(line, &mut out);
            places.push(first..=at);
        }
        self.tail(&mut out, lines, without, refused);
        self.no_proxy(&mut out);
        (out, places)
    }

    /// What no rule is for: the entries that the clients' `no_proxy` lacks.
    fn no_proxy(&self, out: &mut String) {
        // A name that DNS did not know for a while and that was reached otherwise is not a matter of `no_proxy`.
        let reached = |missing: &Missing| {
            missing.found.why == NoProxyWhy::Unknown
                && self
                    .seen
                    .iter()
                    .any(|(wanted, seen)| wanted.host == *missing.found.host() && seen.passed > 0)
        };
        let mut missing: Vec<&Missing> = self.missing.values().filter(|missing| !reached(missing)).collect();
        if missing.is_empty() {
            return;
        }
        missing.sort_by(|one, other| {
            (one.found.why, &one.found.entry).cmp(&(other.found.why, &other.found.entry))
        });
        out.push_str("# for the clients' no_proxy: no rule is the answer to these requests\n");
        for Missing { found, count, clients, more_clients } in &missing {
            let more = if *more_clients { ", …" } else { "" };
            let who: Vec<String> = clients.iter().map(ToString::to_string).collect();
            let from = if who.is_empty() { String::new() } else { format!(" from {}{more}", who.join(", ")) };
            let _ = writeln!(out, "#   {}: {count}x{from}: {found}", found.entry);
        }
        let certain = missing.iter().filter(|missing| missing.found.why != NoProxyWhy::Unknown);
        let entries: Vec<&str> = certain.map(|missing| &*missing.found.entry).collect();
        if !entries.is_empty() {
            let _ = writeln!(out, "#   no_proxy={}", entries.join(","));
        }
        if self.not_kept_missing > 0 {
            let _ = writeln!(
                out,
                "#   INCOMPLETE: {} would need other entries",
                counted(self.not_kept_missing, "request", "requests")
            );
        }
    }

    fn head(&self, out: &mut String) {
        let _ = write!(out, "# {}", counted(self.requests, "recorded request", "recorded requests"));
        if let (Some(first), Some(last)) = (self.first, self.last) {
            let _ = write!(out, ", {} to {}", moment(first), moment(last));
        }
        if self.inside > 0 {
            let _ = write!(out, "; inside tunnels {}", counted(self.inside, "request", "requests"));
        }
        out.push_str(". Exact names only; read it before you use it.\n");
    }

    fn tail(&self, out: &mut String, lines: &[Line], without: usize, refused: &[String]) {
        if without > 0 {
            let _ =
                writeln!(out, "# {} left out", counted(without, "denied target is", "denied targets are"));
        }
        let names = lines.iter().filter_map(|line| match &line.wanted.host {
            Host::Name(name) => Some(name.as_str()),
            Host::Address(_) => None,
        });
        for told in wide::patterns(names) {
            let _ = writeln!(out, "# {told}");
        }
        for told in refused {
            let _ = writeln!(out, "# no rule can be written for {told}");
        }
        if !self.left_out.is_empty() {
            out.push_str("# left out, because no rule for the target would have let it through:\n");
        }
        for (cause, left) in &self.left_out {
            let _ = write!(out, "#   {}x {cause}: {}", left.count, hint(left.why));
            if !left.examples.is_empty() {
                let _ = write!(out, "; {}", left.examples.join(", "));
            }
            out.push('\n');
        }
        if self.not_kept_inside > 0 {
            let _ = writeln!(
                out,
                "# INCOMPLETE: {} inside tunnels that no entry was written for",
                counted(self.not_kept_inside, "denied request", "denied requests")
            );
        }
        let beyond: u64 = self.not_kept.iter().sum();
        if beyond > 0 {
            let [passed, would_deny, denied] = self.not_kept;
            let _ = writeln!(
                out,
                "# INCOMPLETE: the log has more distinct targets than are kept; of the requests to the others, {passed} were \
                 let through, {would_deny} would be denied, {denied} were denied"
            );
        }
    }
}

fn clients(who: &Clients, out: &mut String) {
    let networks: Vec<String> = who.networks().iter().map(|network| format!("\"{network}\"")).collect();
    if networks.is_empty() {
        out.push_str("    # the log names no client: without `clients`, every client with a private address is allowed\n");
        return;
    }
    let more = if who.more { "; there were MORE clients than are listed" } else { "" };
    let _ = writeln!(
        out,
        "    # only the clients in the log: an address, or the /24 of several (IPv6: the /64){more}. Replace them with your clients' subnets"
    );
    let _ = writeln!(out, "    clients: {{networks: [{}]}}", networks.join(", "));
}

fn no_file(_: &std::path::Path) -> std::io::Result<Vec<u8>> {
    Err(std::io::ErrorKind::NotFound.into())
}

fn rule(line: &Line) -> String {
    let Wanted { scheme, host, port } = &line.wanted;
    let high = Port::new(line.last_port).unwrap_or(*port);
    let text = rule_text(*scheme, host, Ports { low: *port, high });
    match text.strip_prefix("https://") {
        Some(host) if high == *port && *port == Port::HTTPS => host.to_owned(),
        _ => text,
    }
}

/// Writes the rule, and returns how many lines it takes.
fn rule_lines(line: &Line, out: &mut String) -> u32 {
    let rule = rule(line);
    let private = line.seen.addresses.iter().map(|ip| ipnet::IpNet::from(*ip)).collect();
    let options = RuleOptions { private, ..RuleOptions::default() }.to_yaml();
    let comment = comment(line);
    if line.entries.is_empty() {
        let _ = match options.is_empty() {
            true => writeln!(out, "      - \"{rule}\" # {comment}"),
            false => writeln!(out, "      - {{to: \"{rule}\", {options}}} # {comment}"),
        };
        return 1;
    }
    let before = out.len();
    let _ = writeln!(out, "      - to: \"{rule}\" # {comment}");
    if !options.is_empty() {
        let _ = writeln!(out, "        {options}");
    }
    out.push_str("        requests:\n");
    let mut kind = Kind::Passed;
    for inside::Seen { kind: of, entry, count, unknown } in &line.entries {
        if *of != kind {
            kind = *of;
            let _ = writeln!(out, "          # {}", title(kind, "paths"));
        }
        let word = match kind {
            Kind::Passed => "let through",
            Kind::WouldDeny => "would be denied",
            Kind::Denied => "denied",
        };
        let _ = writeln!(out, "          - {entry} # {count} {word}{}", unknown.told().collect::<String>());
    }
    out.get(before..).unwrap_or_default().matches('\n').count() as u32
}

/// What is said of a target whose tunnels were inspected, and of whose requests none is to pass.
fn without_entry(line: &Line) -> Option<String> {
    let none = line.entries.is_empty() && line.seen.inside.is_inspected();
    none.then(|| format!("{}: its tunnels were inspected, and no request inside passed", rule(line)))
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
    if !seen.clients.is_empty() {
        let clients: Vec<String> = seen.clients.iter().map(ToString::to_string).collect();
        let _ = write!(text, "; {}{}", clients.join(", "), if seen.more_clients { ", …" } else { "" });
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

fn name(host: &Host) -> String {
    host.to_string()
}

/// `com.example.www`: so the names of one domain are sorted together.
fn reversed(host: &Host) -> String {
    match host {
        Host::Name(name) => name.as_str().rsplit('.').collect::<Vec<_>>().join("."),
        Host::Address(_) => host.to_string(),
    }
}

/// What to do about requests that no rule would have let through.
fn hint(why: Why) -> &'static str {
    let reason = match why {
        Why::Doctor => return "`egressd doctor` requested it in order to be refused",
        Why::Failed(Cause::ClientGone) => return "the client left before the decision",
        Why::Other => return OTHER_CAUSE,
        Why::Failed(Cause::Refused(reason)) => reason,
    };
    match reason {
        Reason::HeadTimeout => return "the request's head did not come in time (limits.head_timeout)",
        Reason::HeadTooLarge => return "the request's head was too large (limits.head_bytes)",
        Reason::HostMismatch => return "a request inside the tunnel named another host: check the client",
        Reason::MethodNotAllowed => return "the proxy does not support this method",
        _ => {}
    }
    match reason.class() {
        Class::Denied => "a `deny` rule names it, and `deny` wins over `allow`",
        Class::Expired => "an expired rule names it: renew its `expires`, or remove that key",
        Class::Request => "a rule allows the connection, but not this request on it: see the reason",
        Class::Client => "no policy matches the client: see `clients`",
        Class::Address => {
            "the name resolves to an address that is not public: `private` allows such networks in a rule"
        }
        Class::ServerName => {
            "the ClientHello did not name the host that was requested: check the client first; if it requests an address, \
             it looked the name up itself and has to send the name (docs/clients.md)"
        }
        Class::NoTls | Class::Hello => {
            "the tunnel did not contain TLS for the host that was requested: check the client first"
        }
        Class::Challenge | Class::Credentials => "the client did not prove its identity",
        Class::Upload => "a rule allows it, but the client sent more than the rule allows",
        Class::Inspection => "a rule allows it, but the client cannot be inspected: see the reason",
        Class::Certificate => "a rule allows it, but the target's certificate was refused",
        Class::TargetNotTls => "a rule allows it, but the target did not answer in TLS",
        Class::Rate | Class::ClientLimit | Class::Limit => "a limit was reached: see `limits`",
        Class::Form => "the request was malformed",
        Class::Connection
        | Class::NotListed
        | Class::Lookup
        | Class::Connect
        | Class::Upstream
        | Class::Resources
        | Class::Service => OTHER_CAUSE,
    }
}

const OTHER_CAUSE: &str = "it failed for a cause other than the rules";
