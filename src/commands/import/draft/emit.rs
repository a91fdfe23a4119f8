//! The text of egressd.yaml, with what each line comes from.

use std::collections::BTreeMap;

use super::Choices;
use super::rules::Policies;
use super::settings::{Settings, Value};
use crate::commands::import::notes::Place;

/// What a line of the text is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum What {
    /// A setting, by its path.
    Setting(&'static str),
    /// A listener, by its number.
    Listener(usize),
    /// A rule of a policy.
    Allow { policy: usize, text: String },
}

/// A text that is not checked yet.
#[derive(Debug, Default)]
pub(super) struct Draft {
    pub(super) text: String,
    lines: u32,
    what: BTreeMap<u32, (Option<What>, Option<Place>)>,
}

impl Draft {
    /// What a line is; the nearest above it that is known.
    pub(super) fn what(&self, line: u32) -> Option<&What> {
        self.what.range(..=line).next_back().and_then(|(_, (what, _))| what.as_ref())
    }

    /// The line of Squid's that a line comes from.
    pub(super) fn origin(&self, line: u32) -> Option<&Place> {
        self.what.get(&line).and_then(|(_, place)| place.as_ref())
    }

    fn line(&mut self, text: &str) {
        self.text.push_str(text);
        self.text.push('\n');
        self.lines += 1;
    }

    fn from(&mut self, text: &str, what: Option<What>, place: Option<&Place>) {
        self.line(text);
        self.what.insert(self.lines, (what, place.cloned()));
    }

    /// `key: value` of a section, with what it comes from behind it.
    fn value(&mut self, indent: usize, key: &str, path: &'static str, value: &Value) {
        let text = format!("{:indent$}{key}: {}  # {}", "", scalar(&value.text), shown(&value.place));
        self.from(&text, Some(What::Setting(path)), Some(&value.place));
    }
}

fn shown(place: &Place) -> String {
    let file: String = place.file.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
    format!("{file}:{}", place.line)
}

/// A scalar, quoted where YAML would read something else.
pub(super) fn scalar(text: &str) -> String {
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

fn list<T: std::fmt::Display>(items: &[T]) -> String {
    let items: Vec<String> = items.iter().map(|item| scalar(&item.to_string())).collect();
    format!("[{}]", items.join(", "))
}

/// Writes the whole file.
pub(super) fn yaml(main: &str, settings: &Settings, policies: &Policies, choices: Choices) -> Draft {
    let mut draft = Draft::default();
    let main: String = main.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
    draft.line(&format!("# By `egressd import squid` from {main}; the comments name its lines. What is lost or different now it told on stderr."));
    listeners(&mut draft, settings);
    if let Some(trusted) = settings
        .listeners
        .iter()
        .find(|listener| !listener.trusted.is_empty())
        .map(|listener| &listener.trusted)
    {
        draft.line("admin:");
        draft.line(&format!("  proxy_protocol: {{trusted: {}}}", list(trusted)));
    }
    draft.line("");
    written(&mut draft, policies, choices);
    sections(&mut draft, settings);
    draft
}

fn listeners(draft: &mut Draft, settings: &Settings) {
    if settings.listeners.is_empty() {
        return;
    }
    draft.line("listeners:");
    for (number, listener) in settings.listeners.iter().enumerate() {
        let what = Some(What::Listener(number));
        draft.from(
            &format!("  - name: {}  # {}", scalar(&listener.name), shown(&listener.place)),
            what.clone(),
            Some(&listener.place),
        );
        draft.from(
            &format!("    address: {}", scalar(&listener.address)),
            what.clone(),
            Some(&listener.place),
        );
        if !listener.trusted.is_empty() {
            draft.line(&format!("    proxy_protocol: {{trusted: {}}}", list(&listener.trusted)));
        }
        if let Some(tls) = &listener.tls {
            draft.from("    tls:", what.clone(), Some(&listener.place));
            draft.line(&format!("      certificate: {}", scalar(&tls.certificate)));
            draft.line(&format!("      key: {}", scalar(&tls.key)));
            for (key, file) in [("client_ca", &tls.client_ca), ("client_crl", &tls.client_crl)] {
                if let Some(file) = file {
                    draft.line(&format!("      {key}: {}", scalar(file)));
                }
            }
        }
        if let Some(users) = &settings.users_file {
            let text =
                format!("    basic_auth: {{users_file: {}}}  # {}", scalar(&users.text), shown(&users.place));
            draft.from(&text, Some(What::Setting("basic_auth")), Some(&users.place));
        }
    }
}

fn written(draft: &mut Draft, policies: &Policies, choices: Choices) {
    if policies.policies.is_empty() {
        return draft.from("policies: []", None, None);
    }
    draft.line("policies:");
    for (number, policy) in policies.policies.iter().enumerate() {
        draft.from(&format!("  - name: {}", scalar(&policy.name)), None, None);
        if choices.report {
            draft.line("    mode: report  # lets through and logs as would_deny; take it out to enforce");
        }
        draft.line("    clients:");
        draft.line(&format!("      networks: {}", list(&policy.networks)));
        if !policy.users.is_empty() {
            let users: Vec<String> = policy.users.iter().map(|user| format!("user:{user}")).collect();
            draft.line(&format!("      identities: {}", list(&users)));
        }
        let mut last: Option<&Place> = None;
        let heading = |draft: &mut Draft, place: &Place| {
            let text = format!("      # {}", shown(place));
            draft.line(&text);
        };
        if policy.allow.is_empty() && policy.files.is_empty() {
            draft.line("    allow: []");
        } else if !policy.allow.is_empty() {
            draft.line("    allow:");
        }
        for entry in &policy.allow {
            if last != Some(&entry.place) {
                heading(draft, &entry.place);
                last = Some(&entry.place);
            }
            let what = What::Allow { policy: number, text: entry.text.clone() };
            draft.from(&format!("      - {}", scalar(&entry.text)), Some(what), Some(&entry.place));
        }
        if !policy.files.is_empty() {
            draft.line("    allow_files:");
        }
        for file in &policy.files {
            let text = format!("      - file: {}  # {}", scalar(&file.path), shown(&file.place));
            draft.from(&text, None, Some(&file.place));
            draft.line(&format!("        schemes: {}", list(&file.schemes)));
        }
        if !policy.deny.is_empty() {
            draft.line("    deny:");
        }
        last = None;
        for entry in &policy.deny {
            if last != Some(&entry.place) {
                heading(draft, &entry.place);
                last = Some(&entry.place);
            }
            draft.from(&format!("      - {}", scalar(&entry.text)), None, Some(&entry.place));
        }
    }
}

/// A key of a section: its name, its path, and what it is to be.
type Key<'a> = (&'static str, &'static str, &'a Option<Value>);

fn sections(draft: &mut Draft, settings: &Settings) {
    let mut begun = false;
    let mut section = |draft: &mut Draft, name: &str| {
        if !std::mem::replace(&mut begun, true) {
            draft.line("");
        }
        draft.line(&format!("{name}:"));
    };
    let dns = &settings.dns;
    if dns.servers.is_some() || !dns.hosts.is_empty() || dns.timeout.is_some() {
        section(draft, "dns");
        if let Some((place, servers)) = &dns.servers {
            let text = format!("  servers: {}  # {}", list(servers), shown(place));
            draft.from(&text, Some(What::Setting("dns.servers")), Some(place));
        }
        if !dns.hosts.is_empty() {
            draft.from("  hosts:", Some(What::Setting("dns.hosts")), None);
            for (name, addresses) in &dns.hosts {
                draft.line(&format!("    {}: {}", scalar(name), list(addresses)));
            }
        }
        if let Some(timeout) = &dns.timeout {
            draft.value(2, "timeout", "dns.timeout", timeout);
        }
    }
    if let Some(parent) = &settings.parent {
        section(draft, "upstream_proxy");
        draft.value(2, "url", "upstream_proxy", parent);
    }
    let groups: [(&str, &[Key<'_>]); 5] = [
        (
            "tunnel",
            &[
                ("connect_timeout", "tunnel.connect_timeout", &settings.connect_timeout),
                ("idle_timeout", "tunnel.idle_timeout", &settings.idle_timeout),
                ("max_lifetime", "tunnel.max_lifetime", &settings.max_lifetime),
            ],
        ),
        (
            "limits",
            &[
                ("tunnels_per_client", "limits.tunnels_per_client", &settings.tunnels_per_client),
                ("head_bytes", "limits.head_bytes", &settings.head_bytes),
                ("head_timeout", "limits.head_timeout", &settings.head_timeout),
            ],
        ),
        (
            "http",
            &[
                ("response_timeout", "http.response_timeout", &settings.response_timeout),
                ("stall_timeout", "http.stall_timeout", &settings.stall_timeout),
            ],
        ),
        (
            "access_log",
            &[
                ("output", "access_log.output", &settings.log.output),
                ("format", "access_log.format", &settings.log.format),
            ],
        ),
        ("shutdown", &[("grace_period", "shutdown.grace_period", &settings.grace_period)]),
    ];
    for (name, keys) in groups {
        let headers = settings.headers.as_ref().filter(|_| name == "http");
        if keys.iter().all(|(_, _, value)| value.is_none()) && headers.is_none() {
            continue;
        }
        section(draft, name);
        if let Some(headers) = headers {
            let text = format!("  remove_request_headers: {}", list(headers));
            draft.from(&text, Some(What::Setting("http.remove_request_headers")), None);
        }
        for (key, path, value) in keys {
            if let Some(value) = value {
                draft.value(2, key, path, value);
            }
        }
    }
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
