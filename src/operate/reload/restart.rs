//! What a running server cannot change: the addresses that it is bound to, and the protocols of its sockets.
//!
//! A reload with such a change is refused whole: nobody asked for half a configuration. [`FIXED`] and
//! [`FIXED_OF_A_LISTENER`] list all such settings, apart from the list of listeners itself.

use std::path::Path;

use crate::config::{Config, Finding, Listener, Loaded, LogOutput, Position};
use crate::words::client::Protocol;
use crate::words::small_sort::SmallSort as _;

/// A setting by its key, and its value in a configuration; `None`: it is not set.
type Fixed<T> = (&'static str, fn(&T) -> Option<String>);

/// Settings that are fixed at start.
const FIXED: [Fixed<Config>; 6] = [
    ("admin.address", |config| Some(config.admin.address.to_string())),
    ("admin.proxy_protocol", |config| present(config.admin.proxy_protocol.as_ref())),
    ("access_log.output", |config| Some(output(&config.access_log.output))),
    ("access_log.seal", |config| present(config.access_log.seal.as_ref())),
    ("access_log.otlp", |config| present(config.access_log.otlp.as_ref())),
    ("shared_state", |config| present(config.shared_state.as_ref())),
];

/// Settings of each listener that are fixed at start. A listener is the same as long as its name is.
const FIXED_OF_A_LISTENER: [Fixed<Listener>; 6] = [
    ("address", |listener| Some(listener.address.to_string())),
    ("permissions", |listener| listener.address.permissions()),
    ("protocols", |listener| Some(protocols(listener)).filter(|_| !listener.protocols.transparent)),
    ("mode", |listener| Some(listener.mode().to_owned())),
    ("tls", |listener| present(listener.tls.as_ref())),
    ("proxy_protocol", |listener| present(listener.proxy_protocol.as_ref())),
];

/// Whether the setting is there is fixed; its details can change.
fn present<T>(setting: Option<T>) -> Option<String> {
    setting.map(|_| "present".to_owned())
}

/// Why `new`, read from `file`, cannot replace `old` without a restart: one finding for each setting, none if it can.
pub(super) fn needed(old: &Config, new: &Loaded, file: &Path) -> Vec<Finding> {
    let mut told = Told { file, findings: Vec::new() };
    for (key, said) in FIXED {
        told.compare(new.positions.of_key(key), &format!("`{key}`"), said(old), said(&new.config));
    }
    listeners(&old.listeners, new, &mut told);
    told.findings.small_sort();
    told.findings
}

fn listeners(old: &[Listener], new: &Loaded, told: &mut Told<'_>) {
    let Loaded { config: Config { listeners: new, .. }, positions, .. } = new;
    let list = positions.of_key("listeners");
    for gone in old.iter().filter(|listener| named(new, &listener.name).is_none()) {
        told.needs(list, &format!("the listener `{}` was removed", gone.name));
    }
    for (index, listener) in new.iter().enumerate() {
        let position = |key: &str| positions.of_key(&format!("listeners.{index}.{key}"));
        let name = &listener.name;
        let Some(before) = named(old, name) else {
            told.needs(position("address"), &format!("the listener `{name}` was added"));
            continue;
        };
        for (key, said) in FIXED_OF_A_LISTENER {
            told.compare(
                position(key),
                &format!("`{key}` of the listener `{name}`"),
                said(before),
                said(listener),
            );
        }
    }
    let order = |listeners: &[Listener]| -> Vec<_> {
        listeners.iter().map(|listener| listener.name.clone()).collect()
    };
    let (mut before, mut now) = (order(old), order(new));
    if before != now {
        before.small_sort();
        now.small_sort();
        if before == now {
            // A running listener finds its settings by their position in the list.
            told.needs(list, "the order of the listeners changed");
        }
    }
}

fn named<'l>(listeners: &'l [Listener], name: &str) -> Option<&'l Listener> {
    listeners.iter().find(|listener| *listener.name == *name)
}

fn protocols(listener: &Listener) -> String {
    let words: Vec<&str> = listener.protocols.iter().map(Protocol::as_str).collect();
    words.join(" ")
}

fn output(output: &LogOutput) -> String {
    match output {
        LogOutput::Stdout => "stdout".to_owned(),
        LogOutput::File(path) => path.display().to_string(),
    }
}

struct Told<'f> {
    file: &'f Path,
    findings: Vec<Finding>,
}

impl Told<'_> {
    fn compare(&mut self, position: Position, what: &str, before: Option<String>, now: Option<String>) {
        match (before, now) {
            (before, now) if before == now => {}
            (None, _) => self.needs(position, &format!("{what} was added")),
            (_, None) => self.needs(position, &format!("{what} was removed")),
            (Some(before), Some(now)) => {
                self.needs(position, &format!("{what} changed from {before} to {now}"));
            }
        }
    }

    fn needs(&mut self, position: Position, what: &str) {
        let text = format!("{what}, which needs a restart: restart, or change it back");
        self.findings.push(Finding::error(self.file, position, &text));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use crate::config::ProxyProtocol;

    const BASE: &str = "\
listeners:
  - name: a
    address: 127.0.0.1:1
  - {name: b, address: 127.0.0.1:2}
admin: {address: 127.0.0.1:3}
access_log: {output: log}
";

    fn load(text: &str) -> Loaded {
        config::load_str("dir/egressd.yaml", text, |_| Err(std::io::ErrorKind::NotFound.into())).expect(text)
    }

    fn told(old: &Config, new: &Loaded) -> Vec<String> {
        needed(old, new, Path::new("dir/egressd.yaml")).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_refusal_names_the_setting_and_its_place() {
        let rows: &[(&str, &str, &[&str])] = &[
            ("", "", &[]),
            (
                "127.0.0.1:1",
                "127.0.0.1:7",
                &["3:14: `address` of the listener `a` changed from 127.0.0.1:1 to 127.0.0.1:7"],
            ),
            (
                "name: a\n    address",
                "address",
                &["2:3: the listener `a` was removed", "2:14: the listener `127.0.0.1:1` was added"],
            ),
            ("  - {name: b, address: 127.0.0.1:2}\n", "", &["2:3: the listener `b` was removed"]),
            (
                "127.0.0.1:2}",
                "127.0.0.1:2, protocols: [http, socks5]}",
                &["4:48: `protocols` of the listener `b` changed from http to http socks5"],
            ),
            (
                "127.0.0.1:2}",
                "127.0.0.1:2, mode: transparent}",
                &[
                    "4:5: `protocols` of the listener `b` was removed",
                    "4:43: `mode` of the listener `b` changed from proxy to transparent",
                ],
            ),
            ("admin:", "  - {address: 127.0.0.1:9}\nadmin:", &["5:15: the listener `127.0.0.1:9` was added"]),
            (
                "127.0.0.1:3",
                "127.0.0.1:4",
                &["5:18: `admin.address` changed from 127.0.0.1:3 to 127.0.0.1:4"],
            ),
            (
                "admin: {address: 127.0.0.1:3}",
                "",
                &["1:1: `admin.address` changed from 127.0.0.1:3 to 0.0.0.0:9180"],
            ),
            ("output: log", "output: stdout", &["6:22: `access_log.output` changed from dir/log to stdout"]),
            (
                "{output: log}",
                "{on_failure: continue}",
                &["6:13: `access_log.output` changed from dir/log to stdout"],
            ),
            (
                "access_log: {output: log}\n",
                "limits: {tunnels: 5}",
                &["1:1: `access_log.output` changed from dir/log to stdout"],
            ),
        ];
        let old = load(BASE).config;
        for (what, by, want) in rows {
            let want: Vec<String> = want
                .iter()
                .map(|line| line.replacen(": ", ": error: ", 1))
                .map(|line| {
                    format!("dir/egressd.yaml:{line}, which needs a restart: restart, or change it back")
                })
                .collect();
            assert_eq!(told(&old, &load(&BASE.replacen(what, by, 1))), want, "{what:?} by {by:?}");
        }
    }

    #[test]
    fn whether_the_log_is_sealed_needs_a_restart_and_by_which_key_does_not() {
        let load = |seal: &str| {
            let text = format!("access_log: {{output: log{seal}}}\n");
            let read = |path: &Path| {
                std::fs::read(Path::new("tests/lint/files").join(path.file_name().expect("a name")))
            };
            config::load_str("dir/egressd.yaml", &text, read)
                .unwrap_or_else(|findings| panic!("{findings:?}"))
        };
        let (without, with) = (load(""), load(", seal: {key: seal.key}"));
        let other = load(", seal: {key: seal2.key, every: 1m}");
        assert_ne!(with.config.access_log.seal, other.config.access_log.seal);
        assert_eq!(told(&with.config, &other), [""; 0]);
        for (old, new, want) in [
            (&without, &with, "dir/egressd.yaml:1:33: error: `access_log.seal` was added"),
            (&with, &without, "dir/egressd.yaml:1:13: error: `access_log.seal` was removed"),
        ] {
            assert_eq!(
                told(&old.config, new),
                [format!("{want}, which needs a restart: restart, or change it back")]
            );
        }
    }

    #[test]
    fn another_order_of_listeners_needs_a_restart() {
        let swapped = "listeners: [{name: b, address: 127.0.0.1:2}, {name: a, address: 127.0.0.1:1}]\n\
                       admin: {address: 127.0.0.1:3}\naccess_log: {output: log}\n";
        let told = told(&load(BASE).config, &load(swapped));
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(
            told[0].starts_with("dir/egressd.yaml:1:12: error: the order of the listeners changed"),
            "{told:?}"
        );
    }

    #[test]
    fn whether_the_proxy_protocol_is_spoken_needs_a_restart_and_who_speaks_it_does_not() {
        let speaking = |network: &str| {
            let mut loaded = load(BASE);
            let present = ProxyProtocol { trusted: vec![network.parse().expect("a network")] };
            loaded.config.listeners[1].proxy_protocol = Some(present.clone());
            loaded.config.admin.proxy_protocol = Some(present);
            loaded
        };
        let silent = load(BASE);
        let texts = |told: Vec<String>| -> Vec<String> {
            told.iter().map(|line| line.split_once(", which").expect("a refusal").0.to_owned()).collect()
        };
        assert_eq!(
            texts(told(&silent.config, &speaking("10.0.0.0/8"))),
            [
                "dir/egressd.yaml:4:5: error: `proxy_protocol` of the listener `b` was added",
                "dir/egressd.yaml:5:8: error: `admin.proxy_protocol` was added",
            ]
        );
        assert_eq!(
            texts(told(&speaking("10.0.0.0/8").config, &silent)),
            [
                "dir/egressd.yaml:4:5: error: `proxy_protocol` of the listener `b` was removed",
                "dir/egressd.yaml:5:8: error: `admin.proxy_protocol` was removed",
            ]
        );
        assert_eq!(told(&speaking("10.0.0.0/8").config, &speaking("10.1.0.0/16")), Vec::<String>::new());
    }

    #[test]
    fn whether_records_are_copied_needs_a_restart_and_where_to_does_not() {
        let copied =
            |otlp: &str| load(&BASE.replace("{output: log}", &format!("{{output: log, otlp: {otlp}}}")));
        let texts = |old: &Config, new: &Loaded| -> Vec<String> {
            told(old, new)
                .iter()
                .map(|line| line.split_once(", which").expect("a refusal").0.to_owned())
                .collect()
        };
        let (none, local) = (load(BASE), copied("{endpoint: 'http://127.0.0.1:4318'}"));
        assert_eq!(
            texts(&none.config, &local),
            ["dir/egressd.yaml:6:33: error: `access_log.otlp` was added"]
        );
        assert_eq!(
            texts(&local.config, &none),
            ["dir/egressd.yaml:6:13: error: `access_log.otlp` was removed"]
        );
        let other = copied("{endpoint: 'https://collector:4318'}");
        assert_eq!(texts(&local.config, &other), Vec::<String>::new());
    }

    #[test]
    fn whether_budgets_are_shared_needs_a_restart_and_where_does_not() {
        let shared = |host: &str| load(&format!("{BASE}shared_state: {{url: \"redis://{host}/0\"}}\n"));
        let of = |old: &Loaded, new: &Loaded| told(&old.config, new);
        assert_eq!(
            of(&load(BASE), &shared("127.0.0.1")),
            [
                "dir/egressd.yaml:7:15: error: `shared_state` was added, which needs a restart: restart, or change it back"
            ]
        );
        assert_eq!(
            of(&shared("127.0.0.1"), &load(BASE)),
            [
                "dir/egressd.yaml:1:1: error: `shared_state` was removed, which needs a restart: restart, or change it back"
            ]
        );
        assert_eq!(of(&shared("127.0.0.1"), &shared("127.0.0.2")), Vec::<String>::new());
    }

    #[test]
    fn everything_else_can_change() {
        let other = "policies: [{name: p, allow: [a.example]}]\nadmin: {address: 127.0.0.1:3, networks: [10.0.0.0/8]}\n\
                     dns: {timeout: 1s}\ntunnel: {idle_timeout: 2h}\nlimits: {tunnels: 7, head_bytes: 4KiB}\n\
                     http: {stall_timeout: 9s}\naccess_log: {output: log, on_failure: continue}\n\
                     log: {level: debug, format: json}\nshutdown: {grace_period: 1s}\n";
        let listeners = BASE.split_once("admin").expect("it is there").0;
        assert_eq!(told(&load(BASE).config, &load(&format!("{listeners}{other}"))), Vec::<String>::new());
    }
}
