//! Timeouts, names, the parent proxy, passwords; and every directive that egressd has nothing for.

use std::net::{IpAddr, SocketAddr};

use super::super::files::Files;
use super::super::lexer::Line;
use crate::commands::import::draft::{Draft, Setting, Value};
use crate::commands::import::notes::{Kind, Notes};
use crate::words::target::Name;

/// What has no meaning without a cache, a second process or an error page: said once, in one line.
const HARMLESS: &[&str] = &[
    "acl",
    "http_access",
    "http_port",
    "https_port",
    "logformat",
    "access_log",
    "cache_access_log",
    "request_header_access",
    "header_access",
    "proxy_protocol_access",
    "ssl_bump",
    "never_direct",
];

/// Beginnings of such names.
const WITHOUT_MEANING: &[&str] = &[
    "cache",
    "memory_",
    "maximum_",
    "minimum_",
    "store_",
    "refresh_",
    "icp_",
    "htcp_",
    "snmp_",
    "wccp",
    "digest_",
    "error_",
    "err_",
    "icon",
    "netdb_",
    "fqdncache",
    "ipcache",
    "quick_abort",
    "range_offset",
    "negative_",
    "positive_",
    "read_ahead",
    "swap",
    "coredump_dir",
    "pid_filename",
    "debug_options",
    "logfile_",
    "log_",
    "mime_table",
    "diskd_",
    "unlinkd",
    "pinger",
    "workers",
    "cpu_affinity",
    "max_filedesc",
    "visible_hostname",
    "unique_hostname",
    "hostname_aliases",
    "via",
    "httpd_suppress",
    "strip_query",
    "buffered_logs",
    "client_persistent",
    "server_persistent",
    "persistent_",
    "pconn_",
    "pipeline_prefetch",
    "half_closed",
    "ftp_",
    "announce_",
    "umask",
    "email_err",
    "deny_info",
    "shared_",
    "collapsed_",
    "offline_mode",
    "nonhierarchical_direct",
    "prefer_direct",
    "hierarchy_stoplist",
    "background_ping",
    "query_icmp",
    "test_reachability",
    "mail_",
    "chroot",
    "windows_",
    "check_hostnames",
    "allow_underscore",
    "eui_",
    "client_db",
    "uri_whitespace",
    "relaxed_",
    "vary_",
    "reload_into",
    "retry_on",
    "forward_max",
    "balance_on",
    "ignore_",
    "stats_",
    "dns_v4_first",
    "dns_packet",
    "dns_multicast",
    "dns_retransmit",
    "tls_outgoing",
    "sslproxy_",
    "sslcrtd",
    "sslpassword",
    "ssl_unclean",
    "ssl_engine",
    "sslcrtvalidator",
    "host_verify",
    "client_dst_passthru",
    "tcp_recv",
    "incoming_",
    "udp_",
    "mcast",
    "connect_retries",
    "high_",
    "max_stale",
    "minimum_expiry",
    "request_entities",
    "client_idle_pconn",
    "server_idle_pconn",
    "server_pconn",
    "client_pconn",
    "access_log_format",
    "emulate_httpd",
    "useragent_log",
    "referer_log",
    "accept_filter",
    "sleep_after_fork",
    "hopeless",
    "peer_",
    "dead_peer",
    "never_direct",
    "max_open_disk",
    "acl_uses_indirect_client",
    "delay_pool_uses",
    "log_uses",
    "force_request",
    "url_rewrite_c",
    "esi_",
    "qos_",
    "spoof_",
    "reply_header_max",
    "shutdown",
    "service_name",
    "configuration_includes",
    "on_unsupported",
    "paranoid_",
    "request_header_add_via",
    "authenticate_",
    "external_acl_type",
    "auth_schemes",
    "credentialsttl",
];

/// Directives that do something, which egressd does not do.
const LOST: &[(&str, &str)] = &[
    (
        "follow_x_forwarded_for",
        "X-Forwarded-For is never believed: the client is who connects, or whom a PROXY header of a trusted balancer names (`proxy_protocol`); else rules for clients mean the balancer",
    ),
    ("tcp_outgoing_address", "connections leave from the address that the system picks"),
    ("tcp_outgoing_tos", "connections are not marked"),
    ("tcp_outgoing_mark", "connections are not marked"),
    ("clientside_", "connections are not marked"),
    ("url_rewrite", "requests are never rewritten, nor refused by a program that does"),
    ("store_id_program", "there is no cache"),
    ("redirect_program", "requests are never rewritten, nor refused by a program that does"),
    ("location_rewrite", "replies are never rewritten"),
    ("adaptation_", "nothing is sent to a scanner (ICAP, eCAP): what it filtered is not filtered"),
    ("icap_", "nothing is sent to a scanner (ICAP): what it filtered is not filtered"),
    ("ecap_", "nothing is sent to a scanner (eCAP): what it filtered is not filtered"),
    ("loadable_modules", "no modules are loaded"),
    ("delay_", "bandwidth is not limited; see `upload_limit` and `upload_budget`"),
    ("client_delay", "bandwidth is not limited; see `upload_limit` and `upload_budget`"),
    ("response_delay", "bandwidth is not limited"),
    (
        "request_body_max_size",
        "a rule's `upload_limit` bounds what a request or tunnel sends; write one where it is wanted",
    ),
    ("reply_body_max_size", "what targets send is not bounded"),
    ("http_reply_access", "replies are not judged: the request was"),
    ("miss_access", "without a cache it is a second `http_access`, and requests are judged once"),
    ("adapted_http_access", "there is no second judgement of a request"),
    ("reply_header_access", "fields of replies are passed on as they are"),
    ("request_header_replace", "fields are taken out, never replaced"),
    ("header_replace", "fields are taken out, never replaced"),
    ("reply_header_replace", "fields of replies are passed on as they are"),
    ("request_header_add", "no fields are added"),
    ("reply_header_add", "no fields are added"),
    ("always_direct", "either all connections go through the parent (`upstream_proxy`), or none"),
    ("append_domain", "a name is looked up as it is written: search domains are never tried"),
    ("dns_defnames", "a name is looked up as it is written: search domains are never tried"),
    ("http_upgrade_request_protocols", "`Upgrade` is not passed on; WebSockets go through CONNECT"),
    ("send_hit", "there is no cache"),
    ("note", "records have no notes"),
    ("client_request_buffer", "the head of a request is bounded by `limits.head_bytes`"),
];

/// Reads every directive that has no module of its own.
pub(super) fn read(lines: &[Line], files: &Files, draft: &mut Draft, notes: &mut Notes) -> Vec<String> {
    let mut users: Vec<String> = Vec::new();
    let mut without: Vec<&Line> = Vec::new();
    let always_parent = lines.iter().any(|line| {
        line.name == "never_direct" && line.word(0) == Some("allow") && line.word(1) == Some("all")
    });
    for line in lines {
        if known(line, files, always_parent, draft, &mut users, notes)
            || HARMLESS.contains(&line.name.as_str())
        {
            continue;
        }
        // Longer names first: `request_header_add` is not `request_`.
        if let Some((_, why)) =
            LOST.iter().filter(|(start, _)| line.name.starts_with(start)).max_by_key(|(start, _)| start.len())
        {
            let kind = if keeps_back(line) { Kind::Wider } else { Kind::Lost };
            notes.tell(&line.place, kind, format!("{} is not carried over: {why}", line.shown()));
        } else if WITHOUT_MEANING.iter().any(|start| line.name.starts_with(start)) {
            without.push(line);
        } else {
            // What no Squid that was looked at knows: its name says whether it may deny.
            let kind = if line.name.ends_with("_access") { Kind::Wider } else { Kind::Lost };
            notes.tell(
                &line.place,
                kind,
                format!("{} is not carried over: egressd has nothing like it", line.shown()),
            );
        }
    }
    if let Some(first) = without.first() {
        let mut names: Vec<&str> = without.iter().map(|line| line.name.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        notes.tell(
            &first.place,
            Kind::Lost,
            format!("here and further on, without a meaning for egressd and left out: {}", names.join(", ")),
        );
    }
    users
}

/// Whether something passes without this line that Squid kept back by it.
fn keeps_back(line: &Line) -> bool {
    let first = line.word(0).unwrap_or_default();
    let of_all = |from: usize| {
        line.word(from) == Some("allow") && line.word(from + 1) == Some("all") && line.words.len() == from + 2
    };
    match line.name.as_str() {
        "http_reply_access" | "adapted_http_access" | "miss_access" => !of_all(0),
        "cache_peer_access" => !of_all(1),
        "follow_x_forwarded_for" => first == "allow",
        "request_body_max_size" | "reply_body_max_size" => !matches!(first, "0" | "none"),
        "url_rewrite_program"
        | "redirect_program"
        | "adaptation_access"
        | "icap_service"
        | "ecap_service" => true,
        _ => false,
    }
}

fn known(
    line: &Line,
    files: &Files,
    always_parent: bool,
    draft: &mut Draft,
    users: &mut Vec<String>,
    notes: &mut Notes,
) -> bool {
    let value = |text: String| Some(Value { place: line.place.clone(), text });
    match line.name.as_str() {
        "connect_timeout" => draft.set(Setting::ConnectTimeout, time(line, 3_600, notes)),
        "read_timeout" => {
            draft.set(Setting::IdleTimeout, time(line, 30 * 86_400, notes));
            draft.set(Setting::StallTimeout, time(line, 3_600, &mut Notes::default()));
            draft.set(Setting::ResponseTimeout, draft.get(Setting::StallTimeout).cloned());
        }
        "request_timeout" => draft.set(Setting::HeadTimeout, time(line, 3_600, notes)),
        "client_lifetime" => draft.set(Setting::MaxLifetime, time(line, 365 * 86_400, notes)),
        "dns_timeout" => draft.set(Setting::DnsTimeout, time(line, 60, notes)),
        "shutdown_lifetime" => draft.set(Setting::GracePeriod, time(line, 86_400, notes)),
        "forward_timeout"
        | "peer_connect_timeout"
        | "write_timeout"
        | "request_start_timeout"
        | "dns_retransmit_interval" => {
            notes.tell(&line.place, Kind::Lost, format!("{}: `tunnel.connect_timeout` is for the whole way to a target, and `idle_timeout` for silence", line.shown()));
        }
        "client_ip_max_connections" => {
            let most = line.word(0).and_then(|word| word.parse::<u64>().ok()).filter(|most| *most > 0);
            draft.set(Setting::TunnelsPerClient, most.and_then(|most| value(most.to_string())));
        }
        "request_header_max_size" => draft.set(Setting::HeadBytes, size(line)),
        "dns_nameservers" => {
            let servers: Vec<String> = line.words.iter().filter_map(|word| server(&word.text)).collect();
            if servers.is_empty() {
                notes.tell(&line.place, Kind::Lost, format!("{}: no address of a name server", line.shown()));
            } else {
                let all = draft.dns_servers.get_or_insert_with(|| (line.place.clone(), Vec::new()));
                all.1.extend(servers);
            }
        }
        "hosts_file" => hosts_file(line, files, draft, notes),
        "forwarded_for" => {
            if matches!(line.word(0), Some("on" | "transparent")) {
                notes.tell(
                    &line.place,
                    Kind::Differs,
                    "no target learns who asked: X-Forwarded-For is never sent on",
                );
            }
        }
        "cache_peer" => peer(line, always_parent, draft, notes),
        "cache_peer_access" | "cache_peer_domain" => {
            notes.tell(
                &line.place,
                // What no parent may take goes nowhere in Squid, if it may not go directly.
                if always_parent && keeps_back(line) { Kind::Wider } else { Kind::Lost },
                format!("{}: everything goes through the one parent", line.shown()),
            );
        }
        "auth_param" => auth(line, files, draft, users, notes),
        "cache_effective_user" | "cache_effective_group" => {
            notes.tell(
                &line.place,
                Kind::Lost,
                "it runs as whoever starts it: needs no root and changes to nobody (the image: uid 65532)",
            );
        }
        _ => return false,
    }
    true
}

/// `15 minutes`, `1 day`, `30` (seconds), to the second. `most`: what egressd takes.
fn time(line: &Line, most: u64, notes: &mut Notes) -> Option<Value> {
    let number: f64 = line.word(0)?.parse().ok()?;
    let unit = line.word(1).unwrap_or("seconds").to_ascii_lowercase();
    let seconds = match unit.trim_end_matches('s') {
        "second" => 1.0,
        "minute" => 60.0,
        "hour" => 3_600.0,
        "day" => 86_400.0,
        "week" => 7.0 * 86_400.0,
        "fortnight" => 14.0 * 86_400.0,
        "month" => 30.0 * 86_400.0,
        "year" => 365.0 * 86_400.0,
        "millisecond" => 0.001,
        _ => return None,
    };
    let total = (number * seconds).round();
    if !(1.0..1e12).contains(&total) {
        notes.tell(
            &line.place,
            Kind::Lost,
            format!("{} is not carried over: it has no such time", line.shown()),
        );
        return None;
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "bounded just above")]
    let total = total as u64;
    if total > most {
        notes.tell(
            &line.place,
            Kind::Differs,
            format!("{}: the longest that egressd takes here is {}", line.shown(), shown(most)),
        );
    }
    Some(Value { place: line.place.clone(), text: shown(total.min(most)) })
}

fn shown(seconds: u64) -> String {
    match seconds {
        whole if whole.is_multiple_of(86_400) => format!("{}d", whole / 86_400),
        whole if whole.is_multiple_of(3_600) => format!("{}h", whole / 3_600),
        whole if whole.is_multiple_of(60) => format!("{}m", whole / 60),
        seconds => format!("{seconds}s"),
    }
}

/// `64 KB`.
fn size(line: &Line) -> Option<Value> {
    let number: u64 = line.word(0)?.parse().ok()?;
    let bytes = match line.word(1).unwrap_or("bytes").to_ascii_lowercase().as_str() {
        "kb" => number.checked_mul(1024)?,
        "mb" => number.checked_mul(1024 * 1024)?,
        _ => number,
    };
    let text = match bytes.clamp(1024, 1 << 20) {
        whole if whole.is_multiple_of(1024) => format!("{}KiB", whole / 1024),
        bytes => format!("{bytes}B"),
    };
    Some(Value { place: line.place.clone(), text })
}

fn server(word: &str) -> Option<String> {
    let address = word.parse::<IpAddr>().map(|ip| ip.to_string());
    address.ok().or_else(|| word.parse::<SocketAddr>().ok().map(|address| address.to_string()))
}

fn hosts_file(line: &Line, files: &Files, draft: &mut Draft, notes: &mut Notes) {
    let Some(path) = line.word(0) else { return };
    if path == "/etc/hosts" {
        return; // egressd reads it too.
    }
    if path == "none" {
        return notes.tell(&line.place, Kind::Differs, "/etc/hosts is read");
    }
    let content = match files.read(path) {
        Ok(content) => content,
        Err(error) => {
            return notes.tell(
                &line.place,
                Kind::Lost,
                format!("cannot read `{}`: {error}; its names are not carried over", files.written(path)),
            );
        }
    };
    for entry in String::from_utf8_lossy(&content).lines() {
        let entry = entry.split_once('#').map_or(entry, |(entry, _)| entry);
        let mut words = entry.split_whitespace();
        let Some(Ok(address)) = words.next().map(str::parse::<IpAddr>) else { continue };
        for name in words.filter_map(|name| Name::parse(name).ok()) {
            draft.dns_hosts.entry(name.to_string()).or_default().push(address);
        }
    }
}

fn peer(line: &Line, always_parent: bool, draft: &mut Draft, notes: &mut Notes) {
    let (Some(host), Some(kind), Some(port)) = (line.word(0), line.word(1), line.word(2)) else { return };
    let has = |option: &str| line.words.iter().skip(4).any(|word| word.text == option);
    if kind != "parent" || has("originserver") {
        return notes.tell(
            &line.place,
            Kind::Lost,
            format!("{}: only a parent proxy is carried over", line.shown()),
        );
    }
    if draft.get(Setting::UpstreamProxy).is_some() {
        return notes.tell(
            &line.place,
            Kind::Lost,
            format!(
                "{}: there is one parent, and the first is it; put a balancer before several",
                line.shown()
            ),
        );
    }
    let tls = line.words.iter().skip(4).any(|word| matches!(word.text.as_str(), "ssl" | "tls"));
    let host = if host.parse::<std::net::Ipv6Addr>().is_ok() { format!("[{host}]") } else { host.to_owned() };
    let scheme = if tls { "https" } else { "http" };
    draft.set(
        Setting::UpstreamProxy,
        Some(Value { place: line.place.clone(), text: format!("{scheme}://{host}:{port}") }),
    );
    notes.tell(&line.place, Kind::Differs, "everything goes through the parent, which then looks names up: egressd cannot check the addresses that they lead to");
    if !always_parent {
        notes.tell(&line.place, Kind::Differs, "without `never_direct allow all` Squid went directly where it could, tunnels among it: take `upstream_proxy` out if that is wanted");
    }
    if line.words.iter().any(|word| word.text.starts_with("login=")) {
        notes.tell(&line.place, Kind::Differs, "the parent's password is not carried over: write USER:PASSWORD into a file, and its path under `upstream_proxy.credentials_file`");
    }
}

fn auth(line: &Line, files: &Files, draft: &mut Draft, users: &mut Vec<String>, notes: &mut Notes) {
    if line.word(0) != Some("basic") {
        return notes.tell(
            &line.place,
            Kind::Stricter,
            format!(
                "{} is not carried over: users are known by a basic password or a client certificate",
                line.shown()
            ),
        );
    }
    if line.word(1) != Some("program") {
        return; // How many helpers, what the prompt says, how long a verdict lasts.
    }
    let program = line.word(2).unwrap_or_default();
    let Some(path) = line
        .words
        .last()
        .map(|word| word.text.as_str())
        .filter(|path| program.ends_with("basic_ncsa_auth") && *path != program)
    else {
        return notes.tell(&line.place, Kind::Stricter, format!("{} is not carried over: passwords stand in an htpasswd file with bcrypt or argon2 (`htpasswd -B`)", line.shown()));
    };
    match files.read(path) {
        Ok(content) => {
            let content = String::from_utf8_lossy(&content);
            *users = content
                .lines()
                .filter_map(|line| line.split_once(':'))
                .map(|(user, _)| user.trim().to_owned())
                .filter(|user| !user.is_empty() && !user.starts_with('#') && !user.contains(char::is_control))
                .collect();
            draft.set(
                Setting::UsersFile,
                Some(Value { place: line.place.clone(), text: files.written(path) }),
            );
            notes.tell(&line.place, Kind::Differs, "every client of these listeners is asked for its password, also where Squid let it through before it asked");
        }
        Err(error) => {
            notes.tell(&line.place, Kind::Stricter, format!("cannot read `{}`: {error}; no password is asked for, and who is known by a password alone is denied", files.written(path)));
        }
    }
}
