//! What a running server cannot change: what it is bound to, and what its sockets speak.
//!
//! A reload that changes it is refused whole: half a configuration in force would be nobody's.

use std::fmt::Display;
use std::path::Path;

use crate::config::{Config, Finding, FixedListener, Listener, Loaded, LogOutput, Place};

/// Why `new`, read from `file`, cannot replace `old` without a restart: a finding for each setting, none if it can.
pub(super) fn needed(old: &Config, new: &Loaded, file: &Path) -> Vec<Finding> {
    let mut told = Told { file, findings: Vec::new() };
    listeners(old, new, &mut told);
    let (Loaded { config, fixed, .. }, admin) = (new, &old.admin);
    if admin.address != config.admin.address {
        told.changed(fixed.admin_address, "`admin.address`", &admin.address, &config.admin.address);
    }
    let spoken = [admin, &config.admin].map(|admin| admin.proxy_protocol.is_some());
    told.presence(fixed.admin_proxy_protocol, "`admin.proxy_protocol`", spoken);
    if old.access_log.output != config.access_log.output {
        let [before, now] = [old, config].map(|config| output(&config.access_log.output));
        told.changed(fixed.output, "`access_log.output`", &before, &now);
    }
    told.findings.sort();
    told.findings
}

fn listeners(old: &Config, new: &Loaded, told: &mut Told<'_>) {
    let Loaded { config, fixed, .. } = new;
    let named =
        |listeners: &'_ [Listener], name: &str| listeners.iter().position(|other| &*other.name == name);
    for gone in old.listeners.iter().filter(|listener| named(&config.listeners, &listener.name).is_none()) {
        told.needs(fixed.listeners, &format!("the listener `{}` is gone", gone.name));
    }
    for (index, listener) in config.listeners.iter().enumerate() {
        let places = fixed.each.get(index);
        let place = |of: fn(&FixedListener) -> Place| places.map_or(fixed.listeners, of);
        let name = &listener.name;
        let Some(known) = named(&old.listeners, name) else {
            told.needs(place(|places| places.address), &format!("the listener `{name}` is new"));
            continue;
        };
        let Some(before) = old.listeners.get(known) else { continue };
        if before.address != listener.address {
            let what = format!("`address` of the listener `{name}`");
            told.changed(place(|places| places.address), &what, &before.address, &listener.address);
        }
        let what = format!("`tls` of the listener `{name}`");
        let spoken = [before, listener].map(|listener| listener.tls.is_some());
        told.presence(place(|places| places.tls), &what, spoken);
        let what = format!("`proxy_protocol` of the listener `{name}`");
        let spoken = [before, listener].map(|listener| listener.proxy_protocol.is_some());
        told.presence(place(|places| places.proxy_protocol), &what, spoken);
    }
    let order =
        |config: &Config| config.listeners.iter().map(|listener| listener.name.clone()).collect::<Vec<_>>();
    let (mut before, mut now) = (order(old), order(config));
    if before != now {
        before.sort();
        now.sort();
        if before == now {
            // A running listener knows its settings by their place in the list.
            told.needs(fixed.listeners, "the order of the listeners changed");
        }
    }
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
    fn changed(&mut self, place: Place, what: &str, before: &dyn Display, now: &dyn Display) {
        self.needs(place, &format!("{what} changed from {before} to {now}"));
    }

    /// `spoken`: before and now.
    fn presence(&mut self, place: Place, what: &str, spoken: [bool; 2]) {
        match spoken {
            [false, true] => self.needs(place, &format!("{what} is new")),
            [true, false] => self.needs(place, &format!("{what} is gone")),
            [true, true] | [false, false] => {}
        }
    }

    fn needs(&mut self, place: Place, what: &str) {
        let text = format!("{what}, which needs a restart: restart, or change it back");
        self.findings.push(Finding::error(self.file, place, &text));
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
                &["2:3: the listener `a` is gone", "2:14: the listener `127.0.0.1:1` is new"],
            ),
            ("  - {name: b, address: 127.0.0.1:2}\n", "", &["2:3: the listener `b` is gone"]),
            ("admin:", "  - {address: 127.0.0.1:9}\nadmin:", &["5:15: the listener `127.0.0.1:9` is new"]),
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
            let spoken = ProxyProtocol { trusted: vec![network.parse().expect("a network")] };
            loaded.config.listeners[1].proxy_protocol = Some(spoken.clone());
            loaded.config.admin.proxy_protocol = Some(spoken);
            loaded
        };
        let silent = load(BASE);
        let texts = |told: Vec<String>| -> Vec<String> {
            told.iter().map(|line| line.split_once(", which").expect("a refusal").0.to_owned()).collect()
        };
        assert_eq!(
            texts(told(&silent.config, &speaking("10.0.0.0/8"))),
            [
                "dir/egressd.yaml:4:5: error: `proxy_protocol` of the listener `b` is new",
                "dir/egressd.yaml:5:8: error: `admin.proxy_protocol` is new",
            ]
        );
        assert_eq!(
            texts(told(&speaking("10.0.0.0/8").config, &silent)),
            [
                "dir/egressd.yaml:4:5: error: `proxy_protocol` of the listener `b` is gone",
                "dir/egressd.yaml:5:8: error: `admin.proxy_protocol` is gone",
            ]
        );
        assert_eq!(told(&speaking("10.0.0.0/8").config, &speaking("10.1.0.0/16")), Vec::<String>::new());
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
