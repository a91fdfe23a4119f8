//! From the keys as typed to the configuration as meant: which keys are required, which values are valid, what
//! conflicts, and what the defaults are. Not here: policies ([`super::policies`]) and listeners ([`super::listeners`]).

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::{Component, Path};
use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;

use super::file::{
    AccessLogFile, ConfigFile, DnsFile, FormatFile, HttpFile, LevelFile, LimitsFile, LogFile, OnFailureFile,
    ShutdownFile, TunnelFile,
};
use super::finding::{Position, Report};
use super::keys::{HOUR, Key, SECOND, STEP, duration, items, section, value};
use super::named_files::{Done, NamedFiles};
use super::places::Places;
use super::policies::{Read, WrittenPolicies};
use super::settings::{
    AccessLog, Config, DiagnosticsFormat, Dns, Http, Limits, Listener, Log, LogFormat, LogLevel, LogOutput,
    OnLogFailure, Shutdown, Tunnel,
};
use super::tree::{self, Node};
use super::values::Length;
use super::{
    hosts_lint, identity_lint, inspection, listeners, otlp, own_address, policies, seal, shared_state,
    transparent_lint, upstream,
};
use crate::rules::{Mode, lint};
use crate::words::logformat::Logformat;
use crate::words::quote::quoted;
use crate::words::units::Span;

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(86_400);

/// The largest count that a limit accepts: far more than file descriptors and ports allow.
const MAX_COUNT: u64 = 10_000_000;

/// The configuration that `file` means. `written` has the policies of all files, and `root` says where its sections end. A wrong value is
/// reported and replaced by its default; the result must then not be used. What is said of one part because of another is said if the
/// other has no error. Also returns the places of the rules, from [`policies::policies`].
pub(super) fn config<'f>(
    file: &ConfigFile,
    written: &[WrittenPolicies<'f>],
    root: Option<&Node<'_>>,
    report: &Report<'_>,
    mut files: NamedFiles<'_>,
) -> (Config, Places<'f>) {
    let meaning = Meaning { report };
    let start = root.map_or(Position::START, |root| root.position);
    let proofs = listeners::proofs(&file.listeners);
    let listener_names = listeners::names(&file.listeners);
    let Read { policies, places } = policies::policies(written, proofs, &mut files);
    // Of what a section names, such as a file of users, errors are told while it is read.
    let section_is_fine = |from: Option<Position>, key: &str, before: usize| {
        let within = from.is_some_and(|from| report.has_error_within(from, tree::end_of(key, root)));
        report.errors() == before && !within && !report.is_misspelled(start, key)
    };
    let before = report.errors();
    let listeners = listeners::listeners(&file.listeners, report, &mut files);
    let written_at = file.listeners.as_ref().map(|at| at.position);
    let listeners_are_fine = section_is_fine(written_at, "listeners", before);
    identity_lint::unknown_listeners(written, listener_names.as_deref());
    if listeners_are_fine {
        identity_lint::lint(written, (&policies, &places.policies), &listeners);
    }
    let before = report.errors();
    let admin = listeners::admin(&file.admin, &listeners, report);
    let admin_is_fine = section_is_fine(file.admin.as_ref().map(|at| at.position), "admin", before);
    let upstream_proxy = upstream::proxy(&file.upstream_proxy, report, &mut files);
    if upstream_proxy.is_some() {
        upstream::tell_names_of_a_parent(written);
    }
    let certificates = upstream::certificates(&file.certificates, report, &mut files);
    let before = report.errors();
    let inspection = inspection::inspection(&file.inspection, report, &mut files);
    if section_is_fine(file.inspection.as_ref().map(|at| at.position), "inspection", before) {
        inspection::check_rules(&policies, &places, (&file.inspection, inspection.as_ref()), report);
    }
    let shared = shared_state::shared_state(&file.shared_state, report, &mut files);
    if !report.has_errors() {
        let balanced = listeners::balanced(&file.listeners, &file.admin);
        shared_state::lint(&policies, &file.shared_state, balanced, report);
    }
    let dns = meaning.dns(section(&file.dns, &DnsFile::default()));
    let tunnel = meaning.tunnel(section(&file.tunnel, &TunnelFile::default()));
    let limits = meaning.limits(section(&file.limits, &LimitsFile::default()));
    let http = meaning.http(section(&file.http, &HttpFile::default()));
    let access_log = {
        let report_mode = policies.iter().any(|policy| policy.mode() == Mode::Report);
        meaning.access_log(section(&file.access_log, &AccessLogFile::default()), &mut files, report_mode)
    };
    let log = log(section(&file.log, &LogFile::default()));
    let shutdown = meaning.shutdown(section(&file.shutdown, &ShutdownFile::default()));
    let Done { hash, files, named } = files.finish();
    if !report.has_errors() {
        let beside = transparent_lint::Beside {
            policies: &policies,
            places: &places.rules,
            dns: &dns,
            has_parent: upstream_proxy.is_some(),
        };
        transparent_lint::lint(&listeners, &beside, report);
    }
    let listeners: Vec<Listener> = listeners.into_iter().map(|(listener, _)| listener).collect();
    let mut own = Vec::new();
    if listeners_are_fine && admin_is_fine {
        own = own_address::own(&listeners, &admin);
        own_address::lint(&policies, &places.rules, &own, report);
    }
    if let Some(hosts) = value(&file.dns).and_then(|dns| value(&dns.hosts)) {
        hosts_lint::lint(&hosts.0, &policies, (&own, upstream_proxy.is_some()), report);
    }
    let config = Config {
        listeners,
        admin,
        policies,
        dns,
        upstream_proxy,
        certificates,
        inspection,
        shared_state: shared,
        tunnel,
        limits,
        http,
        access_log,
        log,
        shutdown,
        hash,
        files,
        named,
    };
    (config, places)
}

/// Reads keys, and reports what is wrong with them.
struct Meaning<'r> {
    report: &'r Report<'r>,
}

impl Meaning<'_> {
    fn duration(
        &self,
        key: &Key<Length>,
        name: &str,
        left_out: Duration,
        fits: RangeInclusive<Duration>,
    ) -> Duration {
        duration(self.report, key, name, left_out, fits)
    }

    fn count(&self, key: &Key<u64>, name: &str, left_out: u64, most: u64) -> u64 {
        let Some((at, count)) = key.as_ref().and_then(|at| Some((at, at.value?))) else { return left_out };
        if !(1..=most).contains(&count) {
            self.report.error(at.position, format!("`{name}` must be from 1 to {most}, not {count}"));
        }
        count
    }

    fn dns(&self, file: &DnsFile) -> Dns {
        if let Some(at) = &file.servers
            && at.value.as_ref().is_some_and(Vec::is_empty)
        {
            self.report.error(
                at.position,
                "`servers` is empty: write at least one, or remove the key to use /etc/resolv.conf",
            );
        }
        let mut hosts: BTreeMap<_, Vec<IpAddr>> = BTreeMap::new();
        for (name, addresses) in value(&file.hosts).map(|hosts| hosts.0.as_slice()).unwrap_or_default() {
            let all = addresses.value.as_ref().map(|addresses| &addresses.0);
            let listed: Vec<IpAddr> =
                all.into_iter().flatten().filter_map(|at| at.value.as_ref()).map(|ip| ip.0).collect();
            if all.is_some_and(Vec::is_empty) {
                self.report.error(
                    addresses.position,
                    "this name has no address: write at least one, or remove the name",
                );
            }
            if let Some(found) = name.value.as_ref().and_then(|host| lint::confusable(host.0.as_str())) {
                self.report.warning(name.position, format!("the name {found}"));
            }
            if let Some(canonical) = name.value.as_ref().map(|host| &host.0)
                && hosts.insert(canonical.clone(), listed).is_some()
            {
                let text =
                    format!("`{canonical}` is listed twice, in different spellings: remove one of them");
                self.report.error(name.position, text);
            }
        }
        Dns {
            servers: items(&file.servers).map(|(server, _)| server.0).collect(),
            hosts,
            timeout: self.duration(&file.timeout, "timeout", 5 * SECOND, Duration::from_millis(10)..=MINUTE),
        }
    }

    fn tunnel(&self, file: &TunnelFile) -> Tunnel {
        let idle_timeout = self.duration(&file.idle_timeout, "idle_timeout", HOUR, SECOND..=30 * DAY);
        let max_lifetime = file.max_lifetime.as_ref().filter(|at| at.value.is_some()).map(|at| {
            let lifetime = self.duration(&file.max_lifetime, "max_lifetime", HOUR, SECOND..=365 * DAY);
            if lifetime < idle_timeout {
                let (lifetime, idle) = (Span(lifetime), Span(idle_timeout));
                self.report.warning(
                    at.position,
                    format!(
                        "`max_lifetime` {lifetime} is shorter than `idle_timeout` {idle}, so `idle_timeout` never \
                         ends a tunnel: write a shorter `idle_timeout`"
                    ),
                );
            }
            lifetime
        });
        let tcp_user_timeout = file
            .tcp_user_timeout
            .as_ref()
            .filter(|at| at.value.is_some())
            .map(|_| self.duration(&file.tcp_user_timeout, "tcp_user_timeout", HOUR, SECOND..=HOUR));
        Tunnel {
            connect_timeout: self.duration(&file.connect_timeout, "connect_timeout", 10 * SECOND, STEP),
            client_hello_timeout: self.duration(
                &file.client_hello_timeout,
                "client_hello_timeout",
                10 * SECOND,
                STEP,
            ),
            idle_timeout,
            max_lifetime,
            tcp_user_timeout,
        }
    }

    fn limits(&self, file: &LimitsFile) -> Limits {
        const HEAD: RangeInclusive<u64> = 1 << 10..=1 << 20;
        let head_bytes = value(&file.head_bytes).map_or(16 << 10, |size| size.0);
        if let (Some(at), false) = (&file.head_bytes, HEAD.contains(&head_bytes)) {
            self.report.error(
                at.position,
                format!("`head_bytes` must be from 1KiB to 1MiB, not {head_bytes} bytes"),
            );
        }
        let tunnels = self.count(&file.tunnels, "tunnels", 10_000, MAX_COUNT);
        let per_client = self.count(&file.tunnels_per_client, "tunnels_per_client", 1_000, MAX_COUNT);
        if let (Some(at), true) = (&file.tunnels_per_client, tunnels > 0 && per_client > tunnels) {
            self.report.warning(
                at.position,
                format!(
                    "`tunnels_per_client` is larger than `tunnels` ({tunnels}): one client can use all of them; \
                     write a smaller number"
                ),
            );
        }
        let rate = self.count(
            &file.requests_per_second_per_client,
            "requests_per_second_per_client",
            200,
            1_000_000,
        );
        let budget_accounts = self.count(&file.budget_accounts, "budget_accounts", 32_768, MAX_COUNT);
        Limits {
            tunnels: usize::try_from(tunnels).unwrap_or(usize::MAX),
            tunnels_per_client: usize::try_from(per_client).unwrap_or(usize::MAX),
            requests_per_second_per_client: u32::try_from(rate).unwrap_or(u32::MAX),
            head_bytes: usize::try_from(head_bytes).unwrap_or(usize::MAX),
            head_timeout: self.duration(&file.head_timeout, "head_timeout", 10 * SECOND, STEP),
            memory: self.memory(file),
            ipv6_prefix: self.ipv6_prefix(file),
            budget_accounts: usize::try_from(budget_accounts).unwrap_or(usize::MAX),
        }
    }

    fn memory(&self, file: &LimitsFile) -> Option<u64> {
        // Less would not carry one large head and its answer.
        const LEAST: u64 = 1 << 20;
        let memory = value(&file.memory).map(|size| size.0)?;
        if let (Some(at), true) = (&file.memory, memory < LEAST) {
            self.report.error(
                at.position,
                format!("`memory` must be at least 1MiB, not {memory} bytes: each tunnel needs some 12KiB"),
            );
        }
        Some(memory)
    }

    fn ipv6_prefix(&self, file: &LimitsFile) -> u8 {
        const PREFIX: RangeInclusive<u64> = 32..=128;
        let Some((at, prefix)) = file.ipv6_prefix.as_ref().and_then(|at| Some((at, at.value?))) else {
            return 128;
        };
        if !PREFIX.contains(&prefix) {
            self.report.error(at.position, format!("`ipv6_prefix` must be from 32 to 128, not {prefix}"));
        }
        u8::try_from(prefix).unwrap_or(128)
    }

    fn http(&self, file: &HttpFile) -> Http {
        let remove_request_headers = match &file.remove_request_headers {
            None => vec![http::header::USER_AGENT, http::header::REFERER],
            list => {
                let mut names: Vec<HeaderName> = Vec::new();
                for (header, position) in items(list) {
                    if names.contains(&header.0) {
                        self.report
                            .warning(position, format!("`{}` is listed twice: remove one of them", header.0));
                    } else {
                        names.push(header.0.clone());
                    }
                }
                names
            }
        };
        Http {
            remove_request_headers,
            keepalive_timeout: self.duration(
                &file.keepalive_timeout,
                "keepalive_timeout",
                MINUTE,
                SECOND..=HOUR,
            ),
            response_timeout: self.duration(&file.response_timeout, "response_timeout", MINUTE, STEP),
            stall_timeout: self.duration(&file.stall_timeout, "stall_timeout", MINUTE, STEP),
        }
    }

    fn access_log(&self, file: &AccessLogFile, files: &mut NamedFiles<'_>, report_mode: bool) -> AccessLog {
        let output = match value(&file.output).map(|path| &*path.0) {
            None | Some("stdout") => LogOutput::Stdout,
            Some(path) => LogOutput::File(files.path(path)),
        };
        if let (Some(at), true) =
            (&file.output, matches!(&output, LogOutput::File(path) if path.ends_with("stderr")))
        {
            self.report
                .error(at.position, "stderr is for the diagnostics: write `stdout`, or the path of a file");
        }
        if let (Some(at), LogOutput::File(path)) = (&file.output, &output)
            && is_bit_bucket(path)
        {
            self.report.warning(
                at.position,
                format!(
                    "{} keeps nothing that is written to it, so requests pass without a record: write `stdout`, or the path of a \
                     file",
                    quoted(&path.display().to_string())
                ),
            );
        }
        let position = file.format.as_ref().map_or(Position::START, |at| at.position);
        let format = match value(&file.format).map(|text| &*text.0) {
            None | Some("json") => LogFormat::Json,
            Some("ecs") => LogFormat::Ecs,
            Some("ocsf") => LogFormat::Ocsf,
            Some("squid") => LogFormat::Squid,
            Some(text) => self.logformat(position, text),
        };
        if !format.has_every_event() {
            self.report.warning(
                position,
                "Squid's formats have only closing records: a tunnel is logged when it ends, and never if a kill \
                 cuts it off; json, ecs and ocsf also have `open` and `progress` records",
            );
            if report_mode {
                self.report.warning(
                    position,
                    "a policy has `mode: report`: from a log in Squid's formats, `egressd suggest` and `egressd \
                     diff` cannot know which requests passed only because of it; remove `format` until the rules are \
                     enforced",
                );
            }
        }
        let on_failure = match value(&file.on_failure) {
            None | Some(OnFailureFile::Deny) => OnLogFailure::Deny,
            Some(OnFailureFile::Continue) => OnLogFailure::Continue,
        };
        if let (Some(at), OnLogFailure::Continue) = (&file.on_failure, on_failure) {
            self.report.warning(
                at.position,
                "with `on_failure: continue` traffic goes out without a record while the log cannot be written, as on a full disk: \
                 write `deny`, or remove the key",
            );
        }
        let seal = seal::seal(&file.seal, &format, self.report, files);
        let otlp = otlp::otlp(&file.otlp, self.report, files);
        AccessLog { output, format, on_failure, seal, otlp }
    }

    fn logformat(&self, position: Position, text: &str) -> LogFormat {
        if text.contains('%') {
            match Logformat::parse(text) {
                Ok(format) => return LogFormat::Custom(Arc::new(format)),
                Err(error) => self.report.error(position, error.to_string()),
            }
        } else {
            let text = quoted(text);
            let advice = "write json, ecs, ocsf, squid, or a Squid logformat";
            self.report.error(position, format!("{text} is not a format: {advice}"));
        }
        LogFormat::Json
    }

    fn shutdown(&self, file: &ShutdownFile) -> Shutdown {
        let delay = self.duration(&file.delay, "delay", Duration::ZERO, Duration::ZERO..=HOUR);
        let grace_period = self.duration(&file.grace_period, "grace_period", MINUTE, Duration::ZERO..=DAY);
        if let (Some(at), true) = (&file.grace_period, grace_period.is_zero()) {
            self.report.warning(
                at.position,
                "a `grace_period` of 0s closes every open tunnel at once on TERM: write a longer one, such as 60s",
            );
        }
        Shutdown { delay, grace_period }
    }
}

/// Whether a path names a device, which keeps nothing, and neither an open descriptor nor memory that is shared. No file is looked at: the
/// path is that of another machine.
fn is_bit_bucket(path: &Path) -> bool {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.components() {
        match part {
            Component::Normal(part) => parts.push(part.to_str().unwrap_or_default()),
            Component::ParentDir => _ = parts.pop(),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    let is_kept = matches!(parts.get(1), Some(&("stdout" | "stderr" | "fd" | "shm")));
    path.is_absolute() && parts.first() == Some(&"dev") && parts.len() > 1 && !is_kept
}

fn log(file: &LogFile) -> Log {
    let level = match value(&file.level) {
        Some(LevelFile::Error) => LogLevel::Error,
        Some(LevelFile::Warn) => LogLevel::Warn,
        None | Some(LevelFile::Info) => LogLevel::Info,
        Some(LevelFile::Debug) => LogLevel::Debug,
        Some(LevelFile::Trace) => LogLevel::Trace,
    };
    let format = match value(&file.format) {
        None | Some(FormatFile::Text) => DiagnosticsFormat::Text,
        Some(FormatFile::Json) => DiagnosticsFormat::Json,
    };
    Log { level, format }
}
