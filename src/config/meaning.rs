//! From the keys as typed to the configuration as meant: what is required, which values fit, what conflicts, and what
//! stands in for a key that is left out. Policies are in `rules`.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::file::{
    AccessLogFile, AdminFile, BasicAuthFile, ConfigFile, DnsFile, FormatFile, HttpFile, Key, LevelFile,
    LimitsFile, List, ListenerFile, LogFile, OnFailureFile, ProxyProtocolFile, ShutdownFile, TlsFile,
    TunnelFile,
};
use super::finding::{Place, Report, quoted};
use super::named_files::NamedFiles;
use super::typed::At;
use super::values::{FilePath, Length, Network};
use super::{
    AccessLog, Admin, BasicAuth, Config, DiagnosticsFormat, Dns, Http, Limits, Listener, Log, LogFormat,
    LogLevel, LogOutput, OnLogFailure, ProxyProtocol, Shutdown, Tls, Tunnel, rules, upstream,
};

const LISTENER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 3128);
const ADMIN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 9180);

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);

/// What a deadline on a stranger's next step may be: shorter than a round trip breaks, longer than an hour is none.
const STEP: RangeInclusive<Duration> = Duration::from_millis(10)..=HOUR;

/// Largest count that a limit takes: far over what descriptors and ports carry.
const MAX_COUNT: u64 = 10_000_000;

/// The configuration that `file` means. Where something is wrong it is told, and stands here as its default: the result
/// is then not to be used. Beside it, where the rules stand, as [`rules::policies`] gives it.
pub(super) fn config(
    file: &ConfigFile,
    report: &Report<'_>,
    mut files: NamedFiles<'_>,
) -> (Config, Vec<Place>) {
    let meaning = Meaning { report };
    let (policies, places) = rules::policies(&file.policies, report, &mut files);
    let listeners = meaning.listeners(&file.listeners, &mut files);
    let admin = meaning.admin(&file.admin, &listeners);
    let upstream_proxy = upstream::proxy(&file.upstream_proxy, report, &mut files);
    let certificates = upstream::certificates(&file.certificates, report, &mut files);
    let dns = meaning.dns(section(&file.dns, &DnsFile::default()));
    let tunnel = meaning.tunnel(section(&file.tunnel, &TunnelFile::default()));
    let limits = meaning.limits(section(&file.limits, &LimitsFile::default()));
    let http = meaning.http(section(&file.http, &HttpFile::default()));
    let access_log = meaning.access_log(section(&file.access_log, &AccessLogFile::default()), &files);
    let log = log(section(&file.log, &LogFile::default()));
    let shutdown = meaning.shutdown(section(&file.shutdown, &ShutdownFile::default()));
    let (hash, files) = files.finish();
    let config = Config {
        listeners: listeners.into_iter().map(|(listener, _)| listener).collect(),
        admin,
        policies,
        dns,
        upstream_proxy,
        certificates,
        tunnel,
        limits,
        http,
        access_log,
        log,
        shutdown,
        hash,
        files,
    };
    (config, places)
}

/// The value that was written, and is right.
pub(super) fn value<T>(key: &Key<T>) -> Option<&T> {
    key.as_ref().and_then(|at| at.value.as_ref())
}

fn section<'f, T>(key: &'f Key<T>, left_out: &'f T) -> &'f T {
    value(key).unwrap_or(left_out)
}

/// The items that are right.
pub(super) fn items<T>(list: &List<T>) -> impl Iterator<Item = (&T, Place)> {
    value(list).into_iter().flatten().filter_map(|at| at.value.as_ref().map(|value| (value, at.place)))
}

/// The networks that were written; None where the key is left out.
pub(super) fn networks(list: &List<Network>) -> Option<Vec<IpNet>> {
    list.as_ref().map(|_| items(list).map(|(network, _)| network.0).collect())
}

/// Loopback, RFC 1918, RFC 6598 (carrier-grade NAT, which EKS uses for pods) and RFC 4193 (unique local).
pub(super) fn private_networks() -> Vec<IpNet> {
    let v4 = |a, b, prefix| IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(a, b, 0, 0), prefix));
    vec![
        v4(127, 0, 8),
        v4(10, 0, 8),
        v4(172, 16, 12),
        v4(192, 168, 16),
        v4(100, 64, 10),
        IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::LOCALHOST, 128)),
        IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0), 7)),
    ]
}

/// The value of a key that must be there; `example` is what to write.
pub(super) fn required<'f, T>(
    report: &Report<'_>,
    key: &'f Key<T>,
    around: Place,
    name: &str,
    example: &str,
) -> Option<&'f At<T>> {
    if key.is_none() {
        report.error(around, format!("`{name}` is missing: write `{example}`"));
    }
    key.as_ref().filter(|at| at.value.is_some())
}

/// As the file writes durations.
fn shown(duration: Duration) -> String {
    let (seconds, millis) = (duration.as_secs(), duration.subsec_millis());
    match (seconds, millis) {
        (0, millis) if millis > 0 => format!("{millis}ms"),
        (seconds, 0) if seconds > 0 && seconds % 86_400 == 0 => format!("{}d", seconds / 86_400),
        (seconds, 0) if seconds > 0 && seconds % 3_600 == 0 => format!("{}h", seconds / 3_600),
        (seconds, 0) if seconds > 0 && seconds % 60 == 0 => format!("{}m", seconds / 60),
        (seconds, 0) => format!("{seconds}s"),
        (seconds, millis) => format!("{seconds}s{millis}ms"),
    }
}

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
        let Some((at, length)) = key.as_ref().and_then(|at| Some((at, at.value.as_ref()?))) else {
            return left_out;
        };
        if !fits.contains(&length.0) {
            let (from, to) = (shown(*fits.start()), shown(*fits.end()));
            self.report.error(at.place, format!("`{name}` is from {from} to {to}, not {}", shown(length.0)));
        }
        length.0
    }

    fn count(&self, key: &Key<u64>, name: &str, left_out: u64, most: u64) -> u64 {
        let Some((at, count)) = key.as_ref().and_then(|at| Some((at, at.value?))) else { return left_out };
        if !(1..=most).contains(&count) {
            self.report.error(at.place, format!("`{name}` is from 1 to {most}, not {count}"));
        }
        count
    }

    /// A file that must exist and hold something; its content is read by whoever needs it.
    fn named(&self, at: &At<FilePath>, files: &mut NamedFiles<'_>) -> std::path::PathBuf {
        let name = at.value.as_ref().map_or("", |path| &path.0);
        files.read(name, at.place, self.report);
        files.path(name)
    }

    fn optional(&self, key: &Key<FilePath>, files: &mut NamedFiles<'_>) -> Option<std::path::PathBuf> {
        key.as_ref().filter(|at| at.value.is_some()).map(|at| self.named(at, files))
    }

    fn listeners(&self, list: &List<ListenerFile>, files: &mut NamedFiles<'_>) -> Vec<(Listener, Place)> {
        let Some(list) = list else {
            let name = LISTENER.to_string().into();
            let listener =
                Listener { name, address: LISTENER, proxy_protocol: None, tls: None, basic_auth: None };
            return vec![(listener, Place::START)];
        };
        let mut listeners: Vec<(Listener, Place)> = Vec::new();
        for at in list.value.iter().flatten() {
            if let Some(file) = &at.value
                && let Some(listener) = self.listener(file, at.place, &listeners, files)
            {
                listeners.push(listener);
            }
        }
        if list.value.as_ref().is_some_and(Vec::is_empty) {
            self.report.error(
                list.place,
                "`listeners` is empty: write at least one, or take the key out to listen on 0.0.0.0:3128",
            );
        }
        listeners
    }

    fn listener(
        &self,
        file: &ListenerFile,
        around: Place,
        others: &[(Listener, Place)],
        files: &mut NamedFiles<'_>,
    ) -> Option<(Listener, Place)> {
        let proxy_protocol = self.proxy_protocol(&file.proxy_protocol);
        let tls = file.tls.as_ref().and_then(|at| self.tls(at, files));
        let basic_auth = file.basic_auth.as_ref().and_then(|at| self.basic_auth(at, files));
        let at = required(self.report, &file.address, around, "address", "address: 0.0.0.0:3128")?;
        let address = at.value.as_ref()?.0;
        if let Some((other, _)) = others.iter().find(|(other, _)| conflicts(other.address, address)) {
            self.report.error(
                at.place,
                format!("the listener `{}` already takes {}: write another port", other.name, other.address),
            );
        }
        let name: Arc<str> = match value(&file.name) {
            Some(name) => (&*name.0).into(),
            None => address.to_string().into(),
        };
        if others.iter().any(|(other, _)| other.name == name) {
            let place = file.name.as_ref().map_or(around, |at| at.place);
            self.report
                .error(place, format!("another listener is called {}: write another name", quoted(&name)));
        }
        Some((Listener { name, address, proxy_protocol, tls, basic_auth }, at.place))
    }

    fn proxy_protocol(&self, key: &Key<ProxyProtocolFile>) -> Option<ProxyProtocol> {
        let at = key.as_ref()?;
        let file = at.value.as_ref()?;
        required(self.report, &file.trusted, at.place, "trusted", "trusted: [10.0.0.0/8]")?;
        let trusted = networks(&file.trusted)?;
        if value(&file.trusted).is_some_and(Vec::is_empty) {
            self.report.error(
                at.place,
                "`trusted` is empty, so every connection would be closed: write the networks of the load balancer",
            );
        }
        Some(ProxyProtocol { trusted })
    }

    fn tls(&self, at: &At<TlsFile>, files: &mut NamedFiles<'_>) -> Option<Tls> {
        let file = at.value.as_ref()?;
        let certificate =
            required(self.report, &file.certificate, at.place, "certificate", "certificate: tls.crt");
        let key = required(self.report, &file.key, at.place, "key", "key: tls.key");
        let certificate = certificate.map(|at| self.named(at, files));
        let key = key.map(|at| self.named(at, files));
        if let (Some(crl), None) = (&file.client_crl, &file.client_ca) {
            self.report
                .error(crl.place, "`client_crl` without `client_ca` revokes nothing: write `client_ca` too");
        }
        let client_ca = self.optional(&file.client_ca, files);
        let client_crl = self.optional(&file.client_crl, files);
        let handshake_timeout =
            self.duration(&file.handshake_timeout, "handshake_timeout", 10 * SECOND, STEP);
        Some(Tls { certificate: certificate?, key: key?, client_ca, client_crl, handshake_timeout })
    }

    fn basic_auth(&self, at: &At<BasicAuthFile>, files: &mut NamedFiles<'_>) -> Option<BasicAuth> {
        let file = at.value.as_ref()?;
        let users =
            required(self.report, &file.users_file, at.place, "users_file", "users_file: users.htpasswd")?;
        Some(BasicAuth { users_file: self.named(users, files) })
    }

    fn admin(&self, key: &Key<AdminFile>, listeners: &[(Listener, Place)]) -> Admin {
        let left_out = AdminFile::default();
        let file = section(key, &left_out);
        let address = value(&file.address).map_or(ADMIN, |socket| socket.0);
        if let Some((listener, place)) =
            listeners.iter().find(|(listener, _)| conflicts(listener.address, address))
        {
            // Where the admin's address is left out, the listener's is the one that stands in the file.
            let place = file.address.as_ref().map_or(*place, |at| at.place);
            self.report.error(
                place,
                format!(
                    "the listener `{}` and `admin` both want {address}: write another port",
                    listener.name
                ),
            );
        }
        Admin {
            address,
            networks: networks(&file.networks).unwrap_or_else(private_networks),
            proxy_protocol: self.proxy_protocol(&file.proxy_protocol),
        }
    }

    fn dns(&self, file: &DnsFile) -> Dns {
        if let Some(at) = &file.servers
            && at.value.as_ref().is_some_and(Vec::is_empty)
        {
            self.report.error(at.place, "`servers` is empty: take the key out to use /etc/resolv.conf");
        }
        let mut hosts: BTreeMap<_, Vec<IpAddr>> = BTreeMap::new();
        for (name, addresses) in value(&file.hosts).map(|hosts| hosts.0.as_slice()).unwrap_or_default() {
            let listed: Vec<IpAddr> =
                addresses.value.iter().flatten().filter_map(|at| at.value.as_ref()).map(|ip| ip.0).collect();
            if addresses.value.as_ref().is_some_and(Vec::is_empty) {
                self.report
                    .error(addresses.place, "a name without an address: write one, or take the name out");
            }
            if let Some(canonical) = name.value.as_ref().map(|host| &host.0)
                && hosts.insert(canonical.clone(), listed).is_some()
            {
                let text =
                    format!("`{canonical}` stands here again in another spelling: take one of them out");
                self.report.error(name.place, text);
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
                let (lifetime, idle) = (shown(lifetime), shown(idle_timeout));
                self.report.warning(
                    at.place,
                    format!("`max_lifetime` {lifetime} is shorter than `idle_timeout` {idle}, which then never ends a tunnel"),
                );
            }
            lifetime
        });
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
        }
    }

    fn limits(&self, file: &LimitsFile) -> Limits {
        const HEAD: RangeInclusive<u64> = 1 << 10..=1 << 20;
        let head_bytes = value(&file.head_bytes).map_or(16 << 10, |size| size.0);
        if let (Some(at), false) = (&file.head_bytes, HEAD.contains(&head_bytes)) {
            self.report.error(at.place, format!("`head_bytes` is from 1KiB to 1MiB, not {head_bytes} bytes"));
        }
        let tunnels = self.count(&file.tunnels, "tunnels", 10_000, MAX_COUNT);
        let per_client = self.count(&file.tunnels_per_client, "tunnels_per_client", 1_000, MAX_COUNT);
        if let (Some(at), true) = (&file.tunnels_per_client, tunnels > 0 && per_client > tunnels) {
            self.report.warning(
                at.place,
                format!(
                    "`tunnels_per_client` is larger than `tunnels` ({tunnels}): one client can take them all"
                ),
            );
        }
        let rate = self.count(
            &file.requests_per_second_per_client,
            "requests_per_second_per_client",
            200,
            1_000_000,
        );
        Limits {
            tunnels: usize::try_from(tunnels).unwrap_or(usize::MAX),
            tunnels_per_client: usize::try_from(per_client).unwrap_or(usize::MAX),
            requests_per_second_per_client: u32::try_from(rate).unwrap_or(u32::MAX),
            head_bytes: usize::try_from(head_bytes).unwrap_or(usize::MAX),
            head_timeout: self.duration(&file.head_timeout, "head_timeout", 10 * SECOND, STEP),
        }
    }

    fn http(&self, file: &HttpFile) -> Http {
        let remove_request_headers = match &file.remove_request_headers {
            None => vec![http::header::USER_AGENT, http::header::REFERER],
            list => {
                let mut names: Vec<HeaderName> = Vec::new();
                for (header, place) in items(list) {
                    if names.contains(&header.0) {
                        self.report.warning(place, format!("`{}` stands in the list twice", header.0));
                    } else {
                        names.push(header.0.clone());
                    }
                }
                names
            }
        };
        Http {
            remove_request_headers,
            response_timeout: self.duration(&file.response_timeout, "response_timeout", MINUTE, STEP),
            stall_timeout: self.duration(&file.stall_timeout, "stall_timeout", MINUTE, STEP),
        }
    }

    fn access_log(&self, file: &AccessLogFile, files: &NamedFiles<'_>) -> AccessLog {
        let output = match value(&file.output).map(|path| &*path.0) {
            None | Some("stdout") => LogOutput::Stdout,
            Some(path) => LogOutput::File(files.path(path)),
        };
        if let (Some(at), true) =
            (&file.output, matches!(&output, LogOutput::File(path) if path.ends_with("stderr")))
        {
            self.report
                .error(at.place, "stderr carries the diagnostics: write `stdout`, or the path of a file");
        }
        let format = match value(&file.format).map(|text| &*text.0) {
            None | Some("json") => LogFormat::Json,
            Some("squid") => LogFormat::Squid,
            Some(text) => LogFormat::Custom(text.into()),
        };
        if let (Some(at), LogFormat::Custom(text)) = (&file.format, &format)
            && !text.contains('%')
        {
            let text = quoted(text);
            self.report
                .error(at.place, format!("{text} is not a format: write json, squid, or a Squid logformat"));
        }
        let on_failure = match value(&file.on_failure) {
            None | Some(OnFailureFile::Deny) => OnLogFailure::Deny,
            Some(OnFailureFile::Continue) => OnLogFailure::Continue,
        };
        AccessLog { output, format, on_failure }
    }

    fn shutdown(&self, file: &ShutdownFile) -> Shutdown {
        let delay = self.duration(&file.delay, "delay", Duration::ZERO, Duration::ZERO..=HOUR);
        let grace_period = self.duration(&file.grace_period, "grace_period", MINUTE, Duration::ZERO..=DAY);
        if let (Some(at), true) = (&file.grace_period, grace_period.is_zero()) {
            self.report.warning(at.place, "a `grace_period` of 0s cuts every open tunnel on TERM");
        }
        Shutdown { delay, grace_period }
    }
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

/// Whether the second bind would fail: one port, and one address or a wildcard that covers the other. Port 0 is a
/// fresh one each time.
fn conflicts(a: SocketAddr, b: SocketAddr) -> bool {
    let covers =
        |wide: IpAddr, ip: IpAddr| wide == ip || (wide.is_unspecified() && wide.is_ipv4() == ip.is_ipv4());
    a.port() == b.port() && a.port() != 0 && (covers(a.ip(), b.ip()) || covers(b.ip(), a.ip()))
}
