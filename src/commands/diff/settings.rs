//! Compares every key outside the policies, and says which changes let more out or in.
//!
//! A new key cannot be left out: the settings are taken apart field by field, so that the compiler asks for it, and files are
//! found by the places where they are named. What a change means is said beside each key; where it is not clear, it is
//! taken for wider ([`Opens::Perhaps`]). Not here: how two values of a key are compared ([`super::row`]), and policies
//! ([`super::rules`]).

use std::collections::BTreeSet;
use std::fmt::Display;
use std::time::Duration;

use super::change::{Change, Opens};
use super::row::{self, Row, Value};
use crate::config::{
    AccessLog, Admin, BasicAuth, Certificates, Config, DiagnosticsFormat, Dns, Http, Inspection, Limits,
    ListenAddress, Listener, Loaded, Log, LogFormat, LogLevel, LogOutput, OnLogFailure, Otlp, ProxyProtocol,
    Seal, SharedState, Shutdown, Tls, Tunnel, UpstreamProxy,
};
use crate::transport::purse::bank::OnFailure;
use crate::words::client::Protocol;
use crate::words::small_sort::{SmallCollect as _, SmallSort as _};
use crate::words::units::{Size, Span};

/// Passes every change to `tell`.
pub fn compare(old: &Loaded, new: &Loaded, mut tell: impl FnMut(Change)) {
    let names = names(&old.config.listeners, &new.config.listeners);
    let own: Vec<String> = old.config.listeners.iter().map(|listener| listener.name.to_string()).collect();
    row::compare(&rows(old, &own), &rows(new, &names), &mut tell);
}

/// The names under which the new listeners are compared. One whose name is new is taken for one whose name is gone: with the same
/// address, else the next.
fn names(old: &[Listener], new: &[Listener]) -> Vec<String> {
    let has = |listeners: &[Listener], name: &str| listeners.iter().any(|other| *other.name == *name);
    let mut gone: Vec<&Listener> = old.iter().filter(|listener| !has(new, &listener.name)).collect();
    let mut names: Vec<Option<String>> =
        new.iter().map(|listener| has(old, &listener.name).then(|| listener.name.to_string())).collect();
    for same_address in [true, false] {
        for (name, listener) in names.iter_mut().zip(new).filter(|(name, _)| name.is_none()) {
            let fits = |before: &&Listener| !same_address || before.address == listener.address;
            if let Some(at) = gone.iter().position(fits) {
                *name = Some(gone.remove(at).name.to_string());
            }
        }
    }
    let own =
        |(name, listener): (Option<String>, &Listener)| name.unwrap_or_else(|| listener.name.to_string());
    names.into_iter().zip(new).map(own).collect()
}

/// Gathers the rows of one part of the configuration.
struct Rows {
    part: String,
    rows: Vec<Row>,
}

impl Rows {
    fn at(part: impl Into<String>) -> Self {
        Rows { part: part.into(), rows: Vec::new() }
    }

    fn add(&mut self, key: &str, value: Value) {
        self.rows.push((format!("{}.{key}", self.part), value));
    }

    /// The part itself, which may be missing.
    fn there(&mut self, comes: Opens, goes: Opens) {
        let there = Value::There { comes, goes, other: Opens::No, shown: String::new(), exact: Vec::new() };
        self.rows.push((self.part.clone(), there));
    }

    fn either(&mut self, key: &str, value: impl Display) {
        self.add(key, Value::Either(value.to_string()));
    }

    fn unclear(&mut self, key: &str, value: impl Display) {
        self.add(key, Value::Unclear(value.to_string()));
    }

    /// A deadline: nothing is let through that was not before.
    fn time(&mut self, key: &str, time: Duration) {
        self.either(key, Span(time));
    }

    fn count(&mut self, key: &str, count: u64) {
        self.add(key, Value::AtMost(Some(count), count.to_string()));
    }
}

/// `listeners[proxy]`. A name cannot end its brackets: what comes after them is another key.
fn in_brackets(key: &str, name: &str) -> String {
    match name.contains(['[', ']', '"', '\\']) {
        true => format!("{key}[{name:?}]"),
        false => format!("{key}[{name}]"),
    }
}

fn set<T: ToString>(items: impl IntoIterator<Item = T>) -> BTreeSet<String> {
    items.into_iter().map(|item| item.to_string()).small_collect()
}

/// All keys of a configuration; `names` are those of its listeners.
fn rows(loaded: &Loaded, names: &[String]) -> Vec<Row> {
    // Each field by name, here and below: a new one must be compared, or be listed as not a key.
    let Config {
        listeners,
        admin,
        policies: _, // by `rules`
        dns,
        upstream_proxy,
        certificates,
        inspection,
        shared_state,
        tunnel,
        limits,
        http,
        access_log,
        log,
        shutdown,
        hash: _,
        files: _,
        named: _, // below
    } = &loaded.config;
    let mut rows = Vec::new();
    for (listener, name) in listeners.iter().zip(names) {
        rows.extend(of_listener(listener, name, proves(loaded)));
    }
    rows.extend(of_admin(admin));
    rows.extend(of_dns(dns));
    rows.extend(upstream_proxy.iter().flat_map(of_parent));
    rows.extend(of_certificates(certificates));
    rows.extend(inspection.iter().flat_map(of_inspection));
    rows.extend(shared_state.iter().flat_map(of_shared_state));
    rows.extend(of_tunnel(tunnel));
    rows.extend(of_limits(limits));
    rows.extend(of_http(http));
    rows.extend(of_access_log(access_log));
    rows.extend(of_log(*log));
    rows.extend(of_shutdown(shutdown));
    rows.extend(of_files(loaded, names));
    rows
}

/// What it means that a listener asks for passwords or certificates: fewer clients get in, but those who do may be the ones that a policy
/// is for which nobody reached before.
fn proves(loaded: &Loaded) -> Opens {
    let mut policies = loaded.config.policies.iter();
    match policies.any(|policy| !policy.clients().identities.is_empty()) {
        true => Opens::Perhaps,
        false => Opens::No,
    }
}

fn of_listener(listener: &Listener, compared_as: &str, proves: Opens) -> Vec<Row> {
    let Listener { name, address, protocols, proxy_protocol, tls, basic_auth } = listener;
    let mut rows = Rows::at(in_brackets("listeners", compared_as));
    rows.there(Opens::Yes, Opens::No);
    rows.either("name", name);
    match address {
        ListenAddress::Ip(address) => rows.add("address", Value::Socket(*address)),
        ListenAddress::Unix { .. } => rows.unclear("address", address),
    }
    if let ListenAddress::Unix { permissions, .. } = address {
        // Each bit, by who it is for.
        let bits = ["others", "group", "user"].into_iter().enumerate().flat_map(|(class, who)| {
            let of = permissions >> (3 * class);
            ["execute", "write", "read"]
                .into_iter()
                .enumerate()
                .filter(move |(bit, _)| of >> bit & 1 == 1)
                .map(move |(_, what)| format!("{who}:{what}"))
        });
        rows.add("permissions", Value::Opens(set(bits)));
    }
    if protocols.transparent {
        // Clients that could not use the proxy may come by it, and those that could no longer.
        rows.unclear("mode", listener.mode());
    } else {
        rows.add("protocols", Value::Opens(set(protocols.iter().map(Protocol::as_str))));
    }
    let inside = proxy_protocol.iter().flat_map(|it| of_proxy_protocol(it, &rows.part)).collect::<Vec<_>>();
    rows.rows.extend(inside);
    if let Some(Tls { server, handshake_timeout }) = tls {
        let mut inside = Rows::at(format!("{}.tls", rows.part));
        // What it shows and whom it accepts is in files.
        let comes = if server.verifies_clients() { proves } else { Opens::No };
        inside.there(comes, Opens::Yes);
        inside.time("handshake_timeout", *handshake_timeout);
        rows.rows.extend(inside.rows);
    }
    if let Some(BasicAuth { users }) = basic_auth {
        let mut inside = Rows::at(format!("{}.basic_auth", rows.part));
        inside.there(proves, Opens::Yes);
        let mut names: Vec<&str> = users.names().collect();
        names.small_sort();
        for name in names {
            let exact = format!("{:?}", users.print_of(name)).into_bytes();
            // Another password: somebody may know it who did not know the old one.
            let (comes, goes, other) = (Opens::Yes, Opens::No, Opens::Perhaps);
            let value = Value::There { comes, goes, other, shown: "a password".to_owned(), exact };
            inside.add(&in_brackets("users", name), value);
        }
        rows.rows.extend(inside.rows);
    }
    rows.rows
}

/// A trusted peer may claim any client's address; without it, a balancer's own address is the client's.
fn of_proxy_protocol(it: &ProxyProtocol, around: &str) -> Vec<Row> {
    let ProxyProtocol { trusted } = it;
    let mut rows = Rows::at(format!("{around}.proxy_protocol"));
    rows.there(Opens::Yes, Opens::Perhaps);
    rows.add("trusted", Value::Networks(trusted.clone(), Opens::No));
    rows.rows
}

fn of_admin(admin: &Admin) -> Vec<Row> {
    let Admin { address, networks, hosts, proxy_protocol } = admin;
    let mut rows = Rows::at("admin");
    rows.add("address", Value::Socket(*address));
    rows.add("networks", Value::Networks(networks.clone(), Opens::No));
    rows.add("hosts", Value::Opens(set(hosts)));
    rows.rows.extend(proxy_protocol.iter().flat_map(|it| of_proxy_protocol(it, "admin")));
    rows.rows
}

/// Another answer for a listed name is another host.
fn of_dns(dns: &Dns) -> Vec<Row> {
    let Dns { servers, hosts, timeout } = dns;
    let mut rows = Rows::at("dns");
    let servers: Vec<String> = servers.iter().map(ToString::to_string).collect();
    rows.unclear("servers", if servers.is_empty() { "of the system".to_owned() } else { servers.join(" ") });
    for (name, addresses) in hosts {
        let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
        rows.unclear(&format!("hosts[{name}]"), addresses.join(" "));
    }
    rows.time("timeout", *timeout);
    rows.rows
}

/// A parent resolves names: `private`, `deny` of networks and `dns` no longer limit what a name leads to.
fn of_parent(parent: &UpstreamProxy) -> Vec<Row> {
    let UpstreamProxy { tls, host, port, credentials: _, ca: _, except } = parent; // two of them are files
    let mut rows = Rows::at("upstream_proxy");
    rows.there(Opens::Yes, Opens::Perhaps);
    let scheme = if *tls { "https" } else { "http" };
    rows.unclear("url", format_args!("{scheme}://{host}:{port}"));
    // The parent refuses what egressd does not, and the other way round.
    let except: Vec<String> = except.iter().map(ToString::to_string).collect();
    rows.unclear("except", if except.is_empty() { "none".to_owned() } else { except.join(" ") });
    rows.rows
}

fn of_certificates(certificates: &Certificates) -> Vec<Row> {
    let Certificates { roots: _ } = certificates; // a file, or the system's
    Vec::new()
}

/// It opens nothing by itself, and the rules that need it are compared as rules.
fn of_inspection(inspection: &Inspection) -> Vec<Row> {
    let Inspection { minter } = inspection; // its certificate and key are files
    let mut rows = Rows::at("inspection");
    rows.there(Opens::No, Opens::No);
    rows.time("leaf_lifetime", minter.lifetime());
    rows.rows
}

/// Without it, each replica grants every budget again.
fn of_shared_state(shared_state: &SharedState) -> Vec<Row> {
    let SharedState { url, credentials: _, ca: _, on_failure, replicas } = shared_state; // two of them are files
    let mut rows = Rows::at("shared_state");
    rows.there(Opens::No, Opens::Yes);
    // Another store has counted nothing yet.
    rows.unclear("url", url);
    let (amount, shown) = match on_failure {
        OnFailure::Deny => (0, "deny"),
        OnFailure::Local => (1, "local"),
    };
    rows.add("on_failure", Value::AtMost(Some(amount), shown.to_owned()));
    match replicas {
        // More replicas have smaller parts.
        Some(count) => rows.unclear("replicas", count),
        None => rows.unclear("replicas", "not said"),
    }
    rows.rows
}

fn of_tunnel(tunnel: &Tunnel) -> Vec<Row> {
    let Tunnel { connect_timeout, client_hello_timeout, idle_timeout, max_lifetime, tcp_user_timeout } =
        tunnel;
    let mut rows = Rows::at("tunnel");
    rows.time("connect_timeout", *connect_timeout);
    rows.time("client_hello_timeout", *client_hello_timeout);
    rows.time("idle_timeout", *idle_timeout);
    let millis = |time: &Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let shown = |time: &Option<Duration>| time.map_or("none".to_owned(), |time| Span(time).to_string());
    // What was allowed once stays allowed so long.
    rows.add("max_lifetime", Value::AtMost(max_lifetime.as_ref().map(millis), shown(max_lifetime)));
    rows.either("tcp_user_timeout", shown(tcp_user_timeout));
    rows.rows
}

/// What is above a limit is refused.
fn of_limits(limits: &Limits) -> Vec<Row> {
    let Limits {
        tunnels,
        tunnels_per_client,
        requests_per_second_per_client,
        head_bytes,
        head_timeout,
        memory,
        ipv6_prefix,
        budget_accounts,
    } = limits;
    let mut rows = Rows::at("limits");
    rows.count("tunnels", *tunnels as u64);
    rows.count("tunnels_per_client", *tunnels_per_client as u64);
    rows.count("requests_per_second_per_client", u64::from(*requests_per_second_per_client));
    rows.add("head_bytes", Value::AtMost(Some(*head_bytes as u64), Size(*head_bytes as u64).to_string()));
    rows.time("head_timeout", *head_timeout);
    // A part of what the system gives may be more or less.
    match memory {
        Some(memory) => rows.add("memory", Value::AtMost(Some(*memory), Size(*memory).to_string())),
        None => rows.unclear("memory", "by the system"),
    }
    rows.count("ipv6_prefix", u64::from(*ipv6_prefix));
    rows.count("budget_accounts", *budget_accounts as u64);
    rows.rows
}

fn of_http(http: &Http) -> Vec<Row> {
    let Http { remove_request_headers, keepalive_timeout, response_timeout, stall_timeout } = http;
    let mut rows = Rows::at("http");
    rows.add("remove_request_headers", Value::Closes(set(remove_request_headers)));
    rows.time("keepalive_timeout", *keepalive_timeout);
    rows.time("response_timeout", *response_timeout);
    rows.time("stall_timeout", *stall_timeout);
    rows.rows
}

fn of_access_log(access_log: &AccessLog) -> Vec<Row> {
    let AccessLog { output, format, on_failure, seal, otlp } = access_log;
    let mut rows = Rows::at("access_log");
    // Who watches the records may see them no more, and others may.
    let shown = match output {
        LogOutput::Stdout => "stdout".to_owned(),
        LogOutput::File(path) => path.display().to_string(),
    };
    rows.add("output", Value::Unclear(shown));
    let (shown, exact) = match format {
        LogFormat::Json => ("json", String::new()),
        LogFormat::Ecs => ("ecs", String::new()),
        LogFormat::Ocsf => ("ocsf", String::new()),
        LogFormat::Squid => ("squid", String::new()),
        LogFormat::Custom(custom) => ("a logformat", format!("{custom:?}")),
    };
    let (shown, exact) = (shown.to_owned(), format!("{shown} {exact}").into_bytes());
    let (comes, goes, other) = (Opens::No, Opens::No, Opens::No);
    rows.add("format", Value::There { comes, goes, other, shown, exact });
    // Traffic without a record.
    let (amount, shown) = match on_failure {
        OnLogFailure::Deny => (0, "deny"),
        OnLogFailure::Continue => (1, "continue"),
    };
    rows.add("on_failure", Value::AtMost(Some(amount), shown.to_owned()));
    // Its key is a file.
    if let Some(Seal { key: _, every }) = seal {
        let mut sealed = Rows::at("access_log.seal");
        sealed.there(Opens::No, Opens::No);
        sealed.time("every", *every);
        rows.rows.extend(sealed.rows);
    }
    rows.rows.extend(otlp.iter().flat_map(of_otlp));
    rows.rows
}

/// Who asked for what leaves the machine by it, and nobody can tell who reads it there.
fn of_otlp(otlp: &Otlp) -> Vec<Row> {
    let Otlp { endpoint, headers: _ } = otlp; // a file
    let mut rows = Rows::at("access_log.otlp");
    rows.there(Opens::Perhaps, Opens::No);
    let endpoint = endpoint.as_ref().map_or("of the environment".to_owned(), ToString::to_string);
    rows.unclear("endpoint", endpoint);
    rows.rows
}

fn of_log(log: Log) -> Vec<Row> {
    let Log { level, format } = log;
    let mut rows = Rows::at("log");
    rows.either(
        "level",
        match level {
            LogLevel::Error => "error",
            LogLevel::Warn => "warn",
            LogLevel::Info => "info",
            LogLevel::Debug => "debug",
            LogLevel::Trace => "trace",
        },
    );
    rows.either(
        "format",
        match format {
            DiagnosticsFormat::Text => "text",
            DiagnosticsFormat::Json => "json",
        },
    );
    rows.rows
}

fn of_shutdown(shutdown: &Shutdown) -> Vec<Row> {
    let Shutdown { delay, grace_period } = shutdown;
    let mut rows = Rows::at("shutdown");
    rows.time("delay", *delay);
    rows.time("grace_period", *grace_period);
    rows.rows
}

/// The files that keys outside the policies name, by what is in them.
fn of_files(loaded: &Loaded, names: &[String]) -> Vec<Row> {
    let Loaded { config, positions, .. } = loaded;
    let mut rows = Vec::new();
    for file in config.named.iter().filter(|file| *file.of == *positions.file()) {
        let key =
            positions.iter().find(|(key, position)| *position == file.position && is_value(key, positions));
        let Some((key, _)) = key else { continue }; // of a policy
        if key.split('.').next() == Some("include") {
            continue; // a file of policies, which are compared by themselves
        }
        let (comes, goes, other) = match key.rsplit_once('.').map_or(key, |(_, last)| last) {
            // What a listener or an authority shows, and as whom records are sent. A listener's users are compared by name and
            // password.
            "certificate" | "key" | "users_file" | "headers_file" => (Opens::No, Opens::No, Opens::No),
            // Whose certificates are accepted.
            "client_ca" => (proves(loaded), Opens::Yes, Opens::Perhaps),
            "client_crl" => (Opens::No, Opens::Yes, Opens::Perhaps),
            // Whom egressd trusts, and as whom it comes to a parent. So is what is not known here.
            _ => (Opens::Perhaps, Opens::Perhaps, Opens::Perhaps),
        };
        let (shown, exact) = (file.name.to_string(), file.print.to_vec());
        rows.push((compared_as(key, names), Value::There { comes, goes, other, shown, exact }));
    }
    rows
}

/// Whether nothing is inside of the key's value: `a.b` begins where `a` does if it is the first in it.
fn is_value(key: &str, positions: &crate::config::Positions) -> bool {
    !positions.iter().any(|(other, _)| other.strip_prefix(key).is_some_and(|rest| rest.starts_with('.')))
}

/// `listeners.0.tls.key` as `listeners[NAME].tls.key`.
fn compared_as(key: &str, names: &[String]) -> String {
    let of_listener = || {
        let (index, rest) = key.strip_prefix("listeners.")?.split_once('.')?;
        let name = names.get(index.parse::<usize>().ok()?)?;
        Some(format!("{}.{rest}", in_brackets("listeners", name)))
    };
    of_listener().unwrap_or_else(|| key.to_owned())
}
