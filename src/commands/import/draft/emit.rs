//! The text of a draft, with what each line writes and what it comes from.

use std::collections::BTreeMap;

use super::{
    AllowFile, Draft, DraftListener, DraftPolicy, DraftRule, Exception, ListFile, Setting, SettingValue,
};
use crate::commands::import::notes::SourceLine;

/// The part of a draft that a line of the text writes, where it can be left out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum DraftPart {
    Setting(Setting),
    DnsServers,
    /// A listener, by its number.
    Listener(usize),
    /// A rule that allows, and its policy by number.
    Allow {
        policy: usize,
        text: String,
    },
}

/// A text that is not checked yet.
#[derive(Debug, Default)]
pub(super) struct Emitted {
    pub(super) text: String,
    lines: u32,
    parts: BTreeMap<u32, (Option<DraftPart>, Option<SourceLine>)>,
}

/// The sections that hold settings, in their order.
const SECTIONS: [&str; 7] = ["dns", "upstream_proxy", "tunnel", "limits", "http", "access_log", "shutdown"];

/// Where egressd listens if no port of the other proxy's is carried over.
pub(super) const LOOPBACK: &str = "127.0.0.1:3128";
/// At most so many lines are written as comments.
const HELD_BACK: usize = 400;

/// Writes the whole file.
pub(super) fn emit(draft: &Draft) -> Emitted {
    let mut out = Emitted::default();
    out.line(&format!(
        "# By {}; the comments name its lines. stderr lists what was lost or changed its meaning.",
        printable(&draft.origin)
    ));
    if !draft.listeners.is_empty() {
        out.line("listeners:");
    } else if let Some(place) = &draft.ports {
        // Without a listener egressd takes one on every address.
        out.line("listeners:");
        let own = DraftListener {
            place: place.clone(),
            name: "proxy".to_owned(),
            address: LOOPBACK.to_owned(),
            transparent: false,
            trusted: Vec::new(),
            tls: None,
        };
        out.listener(usize::MAX, &own, draft.get(Setting::UsersFile));
    } else if let Some(users) = draft.get(Setting::UsersFile) {
        out.line("listeners:");
        let own = DraftListener {
            place: users.place.clone(),
            name: "proxy".to_owned(),
            address: "[::]:3128".to_owned(),
            transparent: false,
            trusted: Vec::new(),
            tls: None,
        };
        out.listener(usize::MAX, &own, Some(users));
    }
    for (number, listener) in draft.listeners.iter().enumerate() {
        out.listener(number, listener, draft.get(Setting::UsersFile));
    }
    if let Some(listener) = draft.listeners.iter().find(|listener| !listener.trusted.is_empty()) {
        out.line("admin:");
        out.line(&format!("  proxy_protocol: {{trusted: {}}}", list(&listener.trusted)));
    }
    out.line("");
    if draft.policies.is_empty() {
        out.part("policies: []", None, None);
    } else {
        out.line("policies:");
    }
    for (number, policy) in draft.policies.iter().enumerate() {
        out.policy(number, policy, draft.report, draft.asks(policy));
    }
    out.held_back(draft);
    let mut begun = false;
    for name in SECTIONS {
        let settings = draft.settings.iter().filter(|(setting, _)| setting.key().0 == name);
        let settings: Vec<(&Setting, &SettingValue)> = settings.collect();
        let lists = match name {
            "dns" => draft.dns_servers.is_some() || !draft.dns_hosts.is_empty(),
            "http" => draft.removed_headers.is_some(),
            _ => false,
        };
        if settings.is_empty() && !lists {
            continue;
        }
        if !std::mem::replace(&mut begun, true) {
            out.line("");
        }
        out.line(&format!("{name}:"));
        match name {
            "dns" => out.dns_lists(draft),
            "http" => out.removed_headers(draft),
            _ => {}
        }
        for (setting, value) in settings {
            let (_, key) = setting.key();
            let text = format!("  {key}: {}  # {}", scalar(&value.text), shown(&value.place));
            out.part(&text, Some(DraftPart::Setting(*setting)), Some(&value.place));
        }
        if name == "upstream_proxy" {
            out.except(draft);
        }
    }
    out
}

impl Emitted {
    /// The part that a line writes: that of the nearest line above it that is known.
    pub(super) fn part_at(&self, line: u32) -> Option<&DraftPart> {
        self.parts.range(..=line).next_back().and_then(|(_, (part, _))| part.as_ref())
    }

    /// What a line comes from.
    pub(super) fn origin(&self, line: u32) -> Option<&SourceLine> {
        self.parts.get(&line).and_then(|(_, place)| place.as_ref())
    }

    fn line(&mut self, text: &str) {
        self.text.push_str(text);
        self.text.push('\n');
        self.lines += 1;
    }

    /// A line that writes a part, or ends the one above it.
    fn part(&mut self, text: &str, part: Option<DraftPart>, place: Option<&SourceLine>) {
        self.line(text);
        self.parts.insert(self.lines, (part, place.cloned()));
    }

    fn listener(&mut self, number: usize, listener: &DraftListener, users: Option<&SettingValue>) {
        let place = Some(&listener.place);
        let text = format!("  - name: {}  # {}", scalar(&listener.name), shown(&listener.place));
        self.part(&text, Some(DraftPart::Listener(number)), place);
        let text = format!("    address: {}", scalar(&listener.address));
        self.part(&text, Some(DraftPart::Listener(number)), place);
        if listener.transparent {
            self.part("    mode: transparent", Some(DraftPart::Listener(number)), place);
        }
        if !listener.trusted.is_empty() {
            self.line(&format!("    proxy_protocol: {{trusted: {}}}", list(&listener.trusted)));
        }
        if let Some(tls) = &listener.tls {
            self.part("    tls:", Some(DraftPart::Listener(number)), place);
            self.line(&format!("      certificate: {}", scalar(&tls.certificate)));
            self.line(&format!("      key: {}", scalar(&tls.key)));
            for (key, file) in [("client_ca", &tls.client_ca), ("client_crl", &tls.client_crl)] {
                if let Some(file) = file {
                    self.line(&format!("      {key}: {}", scalar(file)));
                }
            }
        }
        if let Some(users) = users.filter(|_| !listener.transparent) {
            let text =
                format!("    basic_auth: {{users_file: {}}}  # {}", scalar(&users.text), shown(&users.place));
            self.part(&text, Some(DraftPart::Setting(Setting::UsersFile)), Some(&users.place));
        }
    }

    /// What other lines hold back, as comments.
    fn held_back(&mut self, draft: &Draft) {
        if draft.held_back.is_empty() {
            return;
        }
        self.part("", None, None);
        self.line(
            "# Not in force: without the lines named here, which fail closed, there would be these policies.",
        );
        for (place, text) in &draft.held_by {
            self.line(&format!("# {}: {}", shown(place), printable(text)));
        }
        let mut text = Emitted::default();
        text.line("policies:");
        for (number, policy) in draft.held_back.iter().enumerate() {
            text.policy(number, policy, draft.report, draft.asks(policy));
        }
        let mut lines = text.text.lines();
        for line in lines.by_ref().take(HELD_BACK) {
            self.line(&format!("#   {line}"));
        }
        match lines.count() {
            0 => {}
            more => self.line(&format!("#   … and {more} more lines")),
        }
    }

    fn policy(&mut self, number: usize, policy: &DraftPolicy, report: bool, asked: bool) {
        self.part(&format!("  - name: {}", scalar(&policy.name)), None, None);
        if asked && policy.users.is_empty() {
            self.line("    # For every user of the listeners' `basic_auth`; without that, for every client.");
        }
        if report && policy.shut {
            self.line("    # Not in report mode: no line lets these clients out.");
        } else if report {
            self.line("    mode: report  # lets through and logs as would_deny; take it out to enforce");
        }
        self.line("    clients:");
        if !policy.networks.is_empty() || policy.networks_files.iter().all(|file| file.empty) {
            self.line(&format!("      networks: {}", list(&policy.networks)));
        }
        self.list_files("      ", "networks_files", &policy.networks_files);
        if !policy.users.is_empty() {
            let users: Vec<String> = policy.users.iter().map(|user| format!("user:{user}")).collect();
            self.line(&format!("      identities: {}", list(&users)));
        }
        if !policy.listeners.is_empty() {
            self.line(&format!("      listeners: {}", list(&policy.listeners)));
        }
        if policy.allow.is_empty() && policy.files.iter().all(|file| file.list.empty) {
            self.line("    allow: []");
        }
        self.rules("allow", &policy.allow, |text| {
            Some(DraftPart::Allow { policy: number, text: text.to_owned() })
        });
        let key = if policy.files.iter().all(|file| file.list.empty) { "    # " } else { "    " };
        if !policy.files.is_empty() {
            self.line(&format!("{key}allow_files:"));
        }
        for AllowFile { list: file, schemes } in &policy.files {
            let mark = if file.empty { "# " } else { "" };
            let text = format!("      {mark}- file: {}  # {}", scalar(&file.path), shown(&file.place));
            self.part(&text, None, Some(&file.place));
            self.line(&format!("      {mark}  schemes: {}", list(schemes)));
        }
        self.rules("deny", &policy.deny, |_| None);
        self.list_files("    ", "deny_files", &policy.deny_files);
    }

    /// Files with one entry a line. One that egressd would refuse is a comment, and so is the key where there is no other.
    fn list_files(&mut self, indent: &str, key: &str, files: &[ListFile]) {
        if files.is_empty() {
            return;
        }
        let mark = if files.iter().all(|file| file.empty) { "# " } else { "" };
        self.line(&format!("{indent}{mark}{key}:"));
        for file in files {
            let mark = if file.empty { "# " } else { "" };
            let text = format!("{indent}  {mark}- {}  # {}", scalar(&file.path), shown(&file.place));
            self.part(&text, None, Some(&file.place));
        }
    }

    /// Rules, below a comment for each line that they come from.
    fn rules(&mut self, key: &str, rules: &[DraftRule], part: impl Fn(&str) -> Option<DraftPart>) {
        if !rules.is_empty() {
            self.line(&format!("    {key}:"));
        }
        let mut last: Option<&SourceLine> = None;
        for rule in rules {
            if last.replace(&rule.place) != Some(&rule.place) {
                self.line(&format!("      # {}", shown(&rule.place)));
            }
            let text = match &rule.private {
                None => scalar(&rule.text),
                Some(network) => format!("{{to: {}, private: {}}}", in_braces(&rule.text), list(&[network])),
            };
            self.part(&format!("      - {text}"), part(&rule.text), Some(&rule.place));
        }
    }

    fn dns_lists(&mut self, draft: &Draft) {
        if let Some((place, servers)) = &draft.dns_servers {
            let text = format!("  servers: {}  # {}", list(servers), shown(place));
            self.part(&text, Some(DraftPart::DnsServers), Some(place));
        }
        if !draft.dns_hosts.is_empty() {
            self.part("  hosts:", None, None);
            for (name, addresses) in &draft.dns_hosts {
                self.line(&format!("    {}: {}", scalar(name), list(addresses)));
            }
        }
    }

    fn except(&mut self, draft: &Draft) {
        if draft.except.is_empty() {
            return;
        }
        self.part("  except:", None, None);
        let mut written: Vec<&String> = Vec::new();
        for Exception { line, lists, hosts } in &draft.except {
            for place in [line].into_iter().chain(lists) {
                self.part(&format!("    # {}", shown(place)), None, Some(place));
            }
            for host in hosts {
                if !written.contains(&host) {
                    self.part(&format!("    - {}", scalar(host)), None, Some(line));
                    written.push(host);
                }
            }
        }
    }

    fn removed_headers(&mut self, draft: &Draft) {
        if let Some(headers) = &draft.removed_headers {
            self.part(&format!("  remove_request_headers: {}", list(headers)), None, None);
        }
    }
}

fn shown(place: &SourceLine) -> String {
    format!("{}:{}", printable(&place.file), place.line)
}

fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

/// A scalar, quoted where YAML would read something else.
pub(in crate::commands::import) fn scalar(text: &str) -> String {
    let plain = text.starts_with(|c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '.'))
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '/' | ':'))
        && !text.ends_with(':')
        && !matches!(
            text.to_ascii_lowercase().as_str(),
            "null" | "true" | "false" | "yes" | "no" | "on" | "off" | "y" | "n"
        );
    // JSON's strings are YAML's double-quoted ones.
    if plain { text.to_owned() } else { serde_json::Value::from(text).to_string() }
}

/// A scalar within braces, where a comma or a bracket ends one.
fn in_braces(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn list<T: std::fmt::Display>(items: &[T]) -> String {
    let items: Vec<String> = items.iter().map(|item| scalar(&item.to_string())).collect();
    format!("[{}]", items.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scalar_is_quoted_where_yaml_would_read_something_else() {
        let rows = [
            ("example.com", "example.com"),
            (".example.com", ".example.com"),
            ("http://a.example:8000-8010", "http://a.example:8000-8010"),
            ("*.example.com", "\"*.example.com\""),
            ("[2001:db8::]/32", "\"[2001:db8::]/32\""),
            ("no", "\"no\""),
            ("a b", "\"a b\""),
            ("%>a \"x\" #1", "\"%>a \\\"x\\\" #1\""),
            ("", "\"\""),
        ];
        for (text, want) in rows {
            assert_eq!(scalar(text), want);
        }
    }
}
