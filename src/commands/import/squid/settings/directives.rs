//! The table of Squid's directives, with what each means for egressd.
//!
//! A directive that is carried over names its reader; one that is lost says what egressd does instead, at each of its
//! lines; one that is ignored says why, once for the whole configuration.

use std::collections::{BTreeMap, BTreeSet};

use self::Meaning::{Carried, Duration, Ignored, KeptBack, Lost, Together};
use self::Named::{Beginning, Exactly};
use super::super::files::Files;
use super::super::lexer::Line;
use super::reader::Reader;
use super::{dns, limits, parent, passwords};
use crate::commands::import::draft::{Draft, Setting};
use crate::commands::import::notes::{NoteKind, Notes};
use crate::config;

/// The directives of a row.
enum Named {
    Exactly(&'static str),
    /// All whose names begin so. The longest beginning wins.
    Beginning(&'static str),
}

/// What a directive means for egressd.
enum Meaning {
    /// Carried over, by a reader that looks at all of its lines together.
    Together,
    /// Carried over line by line.
    Carried(fn(&mut Reader<'_>, &Line)),
    /// A duration, carried over to these settings; each takes so many seconds at the most.
    Duration(&'static [(Setting, u64)]),
    /// It does something that egressd does not do.
    Lost(&'static str),
    /// The same; and where this is true of a line, something passes now that Squid kept back by it.
    KeptBack(fn(&Line) -> bool, &'static str),
    /// Nothing is lost with it, for this reason. Told once, with the other ignored directives.
    Ignored(&'static str),
}

const HOUR: u64 = 3_600;
const DAY: u64 = 24 * HOUR;

const CACHE: &str = "egressd has no cache";
const NEIGHBOURS: &str = "egressd asks no other caches";
const PAGES: &str = "egressd has no error pages";
const LOGS: &str = "egressd writes its logs in its own way";
const PROCESS: &str = "egressd is one process, which the system runs";
const HELPERS: &str = "egressd runs no helper programs";
const CONNECTIONS: &str = "egressd keeps connections in its own way";
const NAMES: &str = "egressd looks names up in its own way";
const REQUESTS: &str = "egressd reads requests and passes them on in its own, strict way";
const INTERCEPTION: &str = "what is redirected to egressd, the system's firewall says";
const OWN_ANSWER: &str = "egressd never dials the address that a redirected connection was for";
const TLS: &str = "egressd decrypts nothing";
const FTP: &str = "egressd speaks no FTP";
const STATE: &str = "egressd shows its state on its admin listener";
const INSIDE: &str = "it tunes the inside of Squid";

const REWRITTEN: &str = "requests are never rewritten, nor refused by a rewriting program";
const SCANNED: &str = "nothing is sent to a scanner (ICAP, eCAP): what it filtered is no longer filtered";
const ICAP: &str = "nothing is sent to a scanner (ICAP): what it filtered is no longer filtered";
const ECAP: &str = "nothing is sent to a scanner (eCAP): what it filtered is no longer filtered";
const NO_CACHE: &str = "there is no cache";
const UNMARKED: &str = "connections are not marked";
const UNTHROTTLED: &str = "bandwidth is not limited; see `upload_limit` and `upload_budget`";
const NEVER_REPLACED: &str = "headers are removed, never replaced";
const REPLIES: &str = "reply headers are passed on unchanged";
const NONE_ADDED: &str = "no headers are added";
const AS_WRITTEN: &str = "names are looked up as written; search domains are never tried";
const PATIENCE: &str =
    "`tunnel.connect_timeout` covers the whole way to a target, and `tunnel.idle_timeout` covers silence";
const KEPT_WITH_CLIENT: &str =
    "a connection to a target is kept no longer than the client's connection (`http.keepalive_timeout`)";
const USER: &str = "egressd runs as the user that starts it and needs no root (in the image: uid 65532)";

/// Every directive that is known, by its meaning.
const TABLE: &[(Named, Meaning)] = &[
    // Read elsewhere, all lines of a kind together.
    (Exactly("acl"), Together),
    (Exactly("http_access"), Together),
    (Exactly("ssl_bump"), Together),
    (Exactly("http_port"), Together),
    (Exactly("https_port"), Together),
    (Exactly("proxy_protocol_access"), Together),
    (Exactly("logformat"), Together),
    (Exactly("access_log"), Together),
    (Exactly("cache_access_log"), Together),
    (Exactly("request_header_access"), Together),
    (Exactly("header_access"), Together),
    (Exactly("never_direct"), Together),
    // Carried over, line by line.
    (Exactly("connect_timeout"), Duration(&[(Setting::ConnectTimeout, HOUR)])),
    (
        Exactly("read_timeout"),
        Duration(&[
            (Setting::IdleTimeout, 30 * DAY),
            (Setting::StallTimeout, HOUR),
            (Setting::ResponseTimeout, HOUR),
        ]),
    ),
    (Exactly("request_timeout"), Duration(&[(Setting::HeadTimeout, HOUR)])),
    (Exactly("client_idle_pconn_timeout"), Duration(&[(Setting::KeepaliveTimeout, HOUR)])),
    // Its name before Squid 3.2, which Squid still takes.
    (Exactly("persistent_request_timeout"), Duration(&[(Setting::KeepaliveTimeout, HOUR)])),
    (Exactly("client_lifetime"), Duration(&[(Setting::MaxLifetime, 365 * DAY)])),
    (Exactly("dns_timeout"), Duration(&[(Setting::DnsTimeout, 60)])),
    (Exactly("shutdown_lifetime"), Duration(&[(Setting::GracePeriod, DAY)])),
    (Exactly("client_ip_max_connections"), Carried(limits::connections)),
    (Exactly("request_header_max_size"), Carried(limits::head_bytes)),
    (Exactly("dns_nameservers"), Carried(dns::nameservers)),
    (Exactly("hosts_file"), Carried(dns::hosts_file)),
    (Exactly("cache_peer"), Carried(parent::peer)),
    (Exactly("cache_peer_access"), Together),
    (Exactly("cache_peer_domain"), Together),
    (Exactly("auth_param"), Carried(passwords::auth)),
    (Exactly("forwarded_for"), Carried(forwarded_for)),
    // Lost, and something may pass by that.
    (
        Exactly("miss_access"),
        KeptBack(
            not_for_all,
            "without a cache it is a second `http_access`, and egressd judges a request once",
        ),
    ),
    (Exactly("http_reply_access"), KeptBack(not_for_all, "egressd judges requests, not replies")),
    (Exactly("adapted_http_access"), KeptBack(not_for_all, "egressd judges a request once")),
    (
        Exactly("follow_x_forwarded_for"),
        KeptBack(
            allows,
            "X-Forwarded-For is never trusted: the client is the peer that connects, or the one named by a trusted load balancer's PROXY header (`proxy_protocol`); otherwise rules for clients apply to the balancer",
        ),
    ),
    (
        Exactly("request_body_max_size"),
        KeptBack(
            bounds,
            "a rule's `upload_limit` limits what a request or tunnel sends; add one where it is wanted",
        ),
    ),
    (Exactly("reply_body_max_size"), KeptBack(bounds, "what targets send is not limited")),
    (Exactly("url_rewrite_program"), KeptBack(always, REWRITTEN)),
    (Exactly("redirect_program"), KeptBack(always, REWRITTEN)),
    (Exactly("adaptation_access"), KeptBack(always, SCANNED)),
    (Exactly("icap_service"), KeptBack(always, ICAP)),
    (Exactly("ecap_service"), KeptBack(always, ECAP)),
    // Lost, and no request is decided otherwise.
    (Beginning("url_rewrite"), Lost(REWRITTEN)),
    (Beginning("adaptation_"), Lost(SCANNED)),
    (Beginning("icap_"), Lost(ICAP)),
    (Beginning("ecap_"), Lost(ECAP)),
    (Beginning("location_rewrite"), Lost("replies are never rewritten")),
    (Beginning("loadable_modules"), Lost("no modules are loaded")),
    (Beginning("store_id_program"), Lost(NO_CACHE)),
    (Beginning("send_hit"), Lost(NO_CACHE)),
    (Beginning("tcp_outgoing_address"), Lost("connections leave from the address that the system picks")),
    (Beginning("tcp_outgoing_tos"), Lost(UNMARKED)),
    (Beginning("tcp_outgoing_mark"), Lost(UNMARKED)),
    (Beginning("clientside_"), Lost(UNMARKED)),
    (Beginning("mark_client"), Lost(UNMARKED)),
    (Beginning("zph_"), Lost(UNMARKED)),
    (Beginning("delay_"), Lost(UNTHROTTLED)),
    (Beginning("client_delay"), Lost(UNTHROTTLED)),
    (Beginning("response_delay"), Lost("bandwidth is not limited")),
    (Beginning("request_header_replace"), Lost(NEVER_REPLACED)),
    (Beginning("header_replace"), Lost(NEVER_REPLACED)),
    (Beginning("request_header_add"), Lost(NONE_ADDED)),
    (Beginning("reply_header_access"), Lost(REPLIES)),
    (Beginning("reply_header_replace"), Lost(REPLIES)),
    (Beginning("reply_header_add"), Lost(NONE_ADDED)),
    (Beginning("always_direct"), Together),
    (Beginning("append_domain"), Lost(AS_WRITTEN)),
    (Beginning("dns_defnames"), Lost(AS_WRITTEN)),
    (
        Beginning("http_upgrade_request_protocols"),
        Lost("`Upgrade` is not passed on; WebSockets go through CONNECT"),
    ),
    (Beginning("note"), Lost("log records have no notes")),
    (Beginning("client_request_buffer"), Lost("the head of a request is bounded by `limits.head_bytes`")),
    (Exactly("forward_timeout"), Lost(PATIENCE)),
    (Exactly("peer_connect_timeout"), Lost(PATIENCE)),
    (
        Exactly("write_timeout"),
        Lost("`tunnel.idle_timeout` and `http.stall_timeout` (from `read_timeout`) cover both ways"),
    ),
    (
        Exactly("request_start_timeout"),
        Lost("`limits.head_timeout` (from `request_timeout`) begins with the connection"),
    ),
    (Exactly("server_idle_pconn_timeout"), Lost(KEPT_WITH_CLIENT)),
    (Exactly("pconn_timeout"), Lost(KEPT_WITH_CLIENT)),
    (
        Exactly("pconn_lifetime"),
        Lost("a kept connection has no longest life: each of its requests is judged by the rules in force"),
    ),
    (Exactly("dns_retransmit_interval"), Lost("`dns.timeout` covers all questions of a lookup together")),
    (Beginning("ident_"), Lost("clients are not asked who they are (ident, RFC 1413)")),
    (Exactly("ident_lookup_access"), Lost("clients are not asked who they are (ident, RFC 1413)")),
    (Exactly("cache_effective_user"), Lost(USER)),
    (Exactly("cache_effective_group"), Lost(USER)),
    // Ignored.
    (Beginning("cache"), Ignored(CACHE)),
    (Beginning("memory_"), Ignored(CACHE)),
    (Beginning("maximum_"), Ignored(CACHE)),
    (Beginning("minimum_"), Ignored(CACHE)),
    (Beginning("store_"), Ignored(CACHE)),
    (Beginning("refresh_"), Ignored(CACHE)),
    (Beginning("quick_abort"), Ignored(CACHE)),
    (Beginning("range_offset"), Ignored(CACHE)),
    (Beginning("negative_"), Ignored(CACHE)),
    (Beginning("read_ahead"), Ignored(CACHE)),
    (Beginning("swap"), Ignored(CACHE)),
    (Beginning("diskd_"), Ignored(CACHE)),
    (Beginning("unlinkd"), Ignored(CACHE)),
    (Beginning("collapsed_"), Ignored(CACHE)),
    (Beginning("offline_mode"), Ignored(CACHE)),
    (Beginning("vary_"), Ignored(CACHE)),
    (Beginning("external_refresh"), Ignored(CACHE)),
    (Beginning("update_headers"), Ignored(CACHE)),
    (Beginning("reload_into"), Ignored(CACHE)),
    (Beginning("max_stale"), Ignored(CACHE)),
    (Beginning("max_open_disk"), Ignored(CACHE)),
    (Beginning("esi_"), Ignored(CACHE)),
    (Beginning("paranoid_"), Ignored(CACHE)),
    (Beginning("icp_"), Ignored(NEIGHBOURS)),
    (Beginning("htcp_"), Ignored(NEIGHBOURS)),
    (Beginning("maximum_icp"), Ignored(NEIGHBOURS)),
    (Beginning("minimum_icp"), Ignored(NEIGHBOURS)),
    (Beginning("minimum_direct"), Ignored(NEIGHBOURS)),
    (Beginning("digest_"), Ignored(NEIGHBOURS)),
    (Beginning("netdb_"), Ignored(NEIGHBOURS)),
    (Beginning("neighbor_"), Ignored(NEIGHBOURS)),
    (Beginning("pinger"), Ignored(NEIGHBOURS)),
    (Beginning("announce_"), Ignored(NEIGHBOURS)),
    (Beginning("nonhierarchical_direct"), Ignored(NEIGHBOURS)),
    (Beginning("prefer_direct"), Ignored(NEIGHBOURS)),
    (Beginning("hierarchy_stoplist"), Ignored(NEIGHBOURS)),
    (Beginning("background_ping"), Ignored(NEIGHBOURS)),
    (Beginning("query_icmp"), Ignored(NEIGHBOURS)),
    (Beginning("test_reachability"), Ignored(NEIGHBOURS)),
    (Beginning("udp_"), Ignored(NEIGHBOURS)),
    (Beginning("mcast"), Ignored(NEIGHBOURS)),
    (Beginning("peer_"), Ignored(NEIGHBOURS)),
    (Beginning("dead_peer"), Ignored(NEIGHBOURS)),
    (Beginning("error_"), Ignored(PAGES)),
    (Beginning("err_"), Ignored(PAGES)),
    (Beginning("deny_info"), Ignored(PAGES)),
    (Beginning("icon"), Ignored(PAGES)),
    (Beginning("short_icon"), Ignored(PAGES)),
    (Beginning("global_internal"), Ignored(PAGES)),
    (Beginning("mime_table"), Ignored(PAGES)),
    (Beginning("httpd_suppress"), Ignored(PAGES)),
    (Beginning("email_err"), Ignored(PAGES)),
    (Beginning("cache_mgr"), Ignored(PAGES)),
    (Beginning("visible_hostname"), Ignored(PAGES)),
    (Beginning("cache_log"), Ignored(LOGS)),
    (Beginning("debug_options"), Ignored(LOGS)),
    (Beginning("logfile_"), Ignored(LOGS)),
    (Beginning("log_"), Ignored(LOGS)),
    (Beginning("strip_query"), Ignored(LOGS)),
    (Beginning("buffered_logs"), Ignored(LOGS)),
    (Beginning("client_netmask"), Ignored(LOGS)),
    (Beginning("forward_log"), Ignored(LOGS)),
    (Beginning("access_log_format"), Ignored(LOGS)),
    (Beginning("emulate_httpd"), Ignored(LOGS)),
    (Beginning("useragent_log"), Ignored(LOGS)),
    (Beginning("referer_log"), Ignored(LOGS)),
    (Beginning("acl_uses_indirect_client"), Ignored(LOGS)),
    (Beginning("coredump_dir"), Ignored(PROCESS)),
    (Beginning("pid_filename"), Ignored(PROCESS)),
    (Beginning("workers"), Ignored(PROCESS)),
    (Beginning("cpu_affinity"), Ignored(PROCESS)),
    (Beginning("max_filedesc"), Ignored(PROCESS)),
    (Beginning("umask"), Ignored(PROCESS)),
    (Beginning("shared_"), Ignored(PROCESS)),
    (Beginning("mail_"), Ignored(PROCESS)),
    (Beginning("chroot"), Ignored(PROCESS)),
    (Beginning("windows_"), Ignored(PROCESS)),
    (Beginning("sleep_after_fork"), Ignored(PROCESS)),
    (Beginning("hopeless"), Ignored(PROCESS)),
    (Beginning("shutdown"), Ignored(PROCESS)),
    (Beginning("service_name"), Ignored(PROCESS)),
    (Beginning("authenticate_"), Ignored(HELPERS)),
    (Beginning("external_acl_type"), Ignored(HELPERS)),
    (Beginning("auth_schemes"), Ignored(HELPERS)),
    (Beginning("credentialsttl"), Ignored(HELPERS)),
    (Beginning("client_persistent"), Ignored(CONNECTIONS)),
    (Beginning("server_persistent"), Ignored(CONNECTIONS)),
    (Beginning("happy_eyeballs"), Ignored(CONNECTIONS)),
    (Exactly("persistent_connection_after_error"), Ignored(CONNECTIONS)),
    (Beginning("detect_broken_pconn"), Ignored(CONNECTIONS)),
    (Beginning("server_pconn"), Ignored(CONNECTIONS)),
    (Beginning("client_pconn"), Ignored(CONNECTIONS)),
    (Beginning("pipeline_prefetch"), Ignored(CONNECTIONS)),
    (Beginning("half_closed"), Ignored(CONNECTIONS)),
    (Beginning("tcp_recv"), Ignored(CONNECTIONS)),
    (Beginning("accept_filter"), Ignored(CONNECTIONS)),
    (Beginning("connect_retries"), Ignored(CONNECTIONS)),
    (Beginning("retry_on"), Ignored(CONNECTIONS)),
    (Beginning("forward_max"), Ignored(CONNECTIONS)),
    (Beginning("maximum_single_addr"), Ignored(CONNECTIONS)),
    (Beginning("balance_on"), Ignored(CONNECTIONS)),
    (Beginning("qos_"), Ignored(CONNECTIONS)),
    (Beginning("as_whois"), Ignored(NAMES)),
    (Beginning("dns_testnames"), Ignored(NAMES)),
    (Beginning("fqdncache"), Ignored(NAMES)),
    (Beginning("ipcache"), Ignored(NAMES)),
    (Beginning("cache_dns"), Ignored(NAMES)),
    (Beginning("negative_dns"), Ignored(NAMES)),
    (Beginning("positive_"), Ignored(NAMES)),
    (Beginning("dns_v4_"), Ignored(NAMES)),
    (Beginning("dns_packet"), Ignored(NAMES)),
    (Beginning("dns_multicast"), Ignored(NAMES)),
    (Beginning("dns_retransmit"), Ignored(NAMES)),
    (Beginning("ignore_unknown"), Ignored(NAMES)),
    (Beginning("ignore_"), Ignored(REQUESTS)),
    (Beginning("via"), Ignored(REQUESTS)),
    (Beginning("broken_"), Ignored(REQUESTS)),
    (Beginning("chunked_request"), Ignored(REQUESTS)),
    (Beginning("extension_methods"), Ignored(REQUESTS)),
    (Beginning("ie_refresh"), Ignored(REQUESTS)),
    (Beginning("server_http11"), Ignored(REQUESTS)),
    (Beginning("upgrade_http"), Ignored(REQUESTS)),
    (Beginning("unique_hostname"), Ignored(REQUESTS)),
    (Beginning("hostname_aliases"), Ignored(REQUESTS)),
    (Beginning("check_hostnames"), Ignored(REQUESTS)),
    (Beginning("allow_underscore"), Ignored(REQUESTS)),
    (Beginning("uri_whitespace"), Ignored(REQUESTS)),
    (Beginning("relaxed_"), Ignored(REQUESTS)),
    (Beginning("request_entities"), Ignored(REQUESTS)),
    (Beginning("force_request"), Ignored(REQUESTS)),
    (Beginning("reply_header_max"), Ignored(REQUESTS)),
    (Beginning("wccp"), Ignored(INTERCEPTION)),
    (Beginning("tproxy_"), Ignored(INTERCEPTION)),
    (Beginning("host_verify"), Ignored(OWN_ANSWER)),
    (Beginning("client_dst_passthru"), Ignored(OWN_ANSWER)),
    (Beginning("spoof_"), Ignored(INTERCEPTION)),
    (Beginning("on_unsupported"), Ignored(INTERCEPTION)),
    (Beginning("tls_outgoing"), Ignored(TLS)),
    (Beginning("sslproxy_"), Ignored(TLS)),
    (Beginning("sslcrtd"), Ignored(TLS)),
    (Beginning("sslpassword"), Ignored(TLS)),
    (Beginning("ssl_unclean"), Ignored(TLS)),
    (Beginning("ssl_engine"), Ignored(TLS)),
    (Beginning("sslcrtvalidator"), Ignored(TLS)),
    (Beginning("ftp_"), Ignored(FTP)),
    (Beginning("wais_"), Ignored(FTP)),
    (Beginning("snmp_"), Ignored(STATE)),
    (Beginning("cachemgr"), Ignored(STATE)),
    (Beginning("stats_"), Ignored(STATE)),
    (Beginning("client_db"), Ignored(STATE)),
    (Beginning("memory_pools"), Ignored(INSIDE)),
    (Beginning("min_"), Ignored(INSIDE)),
    (Beginning("http_accel"), Ignored(INSIDE)),
    (Beginning("httpd_accel"), Ignored(INSIDE)),
    (Beginning("zero_buffers"), Ignored(INSIDE)),
    (Beginning("incoming_"), Ignored(INSIDE)),
    (Beginning("high_"), Ignored(INSIDE)),
    (Beginning("eui_"), Ignored(INSIDE)),
    (Beginning("configuration_includes"), Ignored(INSIDE)),
];

/// Reads line by line every directive but those that are read together. Returns the users of the password file.
pub(super) fn read(lines: &[Line], files: &Files, draft: &mut Draft, notes: &mut Notes) -> Vec<String> {
    let always_parent = parent::always(lines);
    let mut reader = Reader { files, always_parent, draft, users: Vec::new(), notes };
    let mut first: Option<&Line> = None;
    let mut ignored: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for line in lines {
        let (kind, why) = match meaning(&line.name) {
            Some(Together) => continue,
            Some(Carried(read)) => {
                read(&mut reader, line);
                continue;
            }
            Some(Duration(settings)) => {
                limits::time(&mut reader, line, settings);
                continue;
            }
            Some(Ignored(why)) => {
                first.get_or_insert(line);
                ignored.entry(*why).or_default().insert(&line.name);
                continue;
            }
            Some(Lost(why)) => (NoteKind::Lost, *why),
            Some(KeptBack(keeps_back, why)) => {
                (if keeps_back(line) { NoteKind::Wider } else { NoteKind::Lost }, *why)
            }
            // A directive of a newer Squid: its name says whether it may deny.
            None if !meant(&line.name).is_empty() => {
                let text = format!(
                    "{} is not carried over: egressd has nothing like it{}",
                    line.shown(),
                    meant(&line.name)
                );
                reader.tell(line, NoteKind::Lost, text);
                continue;
            }
            None if line.name.ends_with("_access") => (NoteKind::Wider, "egressd has nothing like it"),
            None => (NoteKind::Lost, "egressd has nothing like it"),
        };
        reader.tell(line, kind, format!("{} is not carried over: {why}", line.shown()));
    }
    if let Some(first) = first {
        let reasons: Vec<String> = ignored
            .iter()
            .map(|(why, names)| {
                let names: Vec<&str> = names.iter().copied().collect();
                format!("{} ({why})", names.join(", "))
            })
            .collect();
        reader.tell(first, NoteKind::Lost, format!("ignored here and below: {}", reasons.join("; ")));
    }
    reader.users
}

pub(super) fn is_known(name: &str) -> bool {
    // No directive has a colon; the keys of a YAML file do.
    !name.contains(':') && meaning(name).is_some()
}

pub(super) fn is_ignored(name: &str) -> bool {
    matches!(meaning(name), Some(Ignored(_)))
}

/// What a misspelled directive is meant to be.
fn meant(name: &str) -> String {
    let exact = TABLE.iter().filter_map(|(named, _)| match named {
        Exactly(name) => Some(*name),
        Beginning(_) => None,
    });
    let exact: Vec<&str> = exact.collect();
    config::nearest(name, &exact)
        .map_or_else(String::new, |near| format!("; did you mean `{near}`? Squid knows no `{name}` either"))
}

fn meaning(directive: &str) -> Option<&'static Meaning> {
    let length = |named: &Named| match named {
        Exactly(name) => (directive == *name).then_some(usize::MAX),
        Beginning(start) => directive.starts_with(start).then_some(start.len()),
    };
    let fitting = TABLE.iter().filter_map(|(named, meaning)| Some((length(named)?, meaning)));
    fitting.max_by_key(|(length, _)| *length).map(|(_, meaning)| meaning)
}

/// `allow all` alone keeps nothing back.
fn not_for_all(line: &Line) -> bool {
    !line.allows_all(0)
}

fn allows(line: &Line) -> bool {
    line.word(0) == Some("allow")
}

fn bounds(line: &Line) -> bool {
    !matches!(line.word(0).unwrap_or_default(), "0" | "none")
}

fn always(_: &Line) -> bool {
    true
}

fn forwarded_for(reader: &mut Reader<'_>, line: &Line) {
    if matches!(line.word(0), Some("on" | "transparent")) {
        reader.tell(
            line,
            NoteKind::Differs,
            "X-Forwarded-For is never sent on, so targets do not learn the client",
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_row_stands_twice_and_the_longest_beginning_wins() {
        let names: BTreeSet<&str> = TABLE
            .iter()
            .map(|(named, _)| match named {
                Exactly(name) | Beginning(name) => *name,
            })
            .collect();
        assert_eq!(names.len(), TABLE.len());
        assert!(matches!(meaning("cache_peer"), Some(Carried(_))));
        assert!(matches!(meaning("cache_mem"), Some(Ignored(CACHE))));
        assert!(matches!(meaning("cache_log"), Some(Ignored(LOGS))));
        assert!(matches!(meaning("icap_service"), Some(KeptBack(..))));
        assert!(matches!(meaning("icap_service_failure_limit"), Some(Lost(ICAP))));
        assert!(meaning("some_new_directive").is_none());
    }
}
