//! Every time that Squid 5.7 knows is carried over, or told with what egressd does instead.

use egressd::commands::import::squid::{self, Choices, Files, Imported};
use serde_json::json;

/// What becomes of a line.
enum Becomes {
    /// These lines of the configuration.
    Keys(&'static [&'static str]),
    /// A note that says this.
    Told(&'static str),
    /// Part of the one note about what is ignored, with this reason.
    Ignored(&'static str),
}

use Becomes::{Ignored, Keys, Told};

/// Each with a value that is not egressd's own. The rows of `squid.conf.documented` with a time, and the older names that Squid takes.
const TIMES: &[(&str, Becomes)] = &[
    ("client_idle_pconn_timeout 90 seconds", Keys(&["http:", "  keepalive_timeout: 90s"])),
    ("persistent_request_timeout 3 minutes", Keys(&["http:", "  keepalive_timeout: 3m"])),
    ("connect_timeout 7 seconds", Keys(&["tunnel:", "  connect_timeout: 7s"])),
    (
        "read_timeout 11 minutes",
        Keys(&["  idle_timeout: 11m", "  stall_timeout: 11m", "  response_timeout: 11m"]),
    ),
    ("request_timeout 21 seconds", Keys(&["limits:", "  head_timeout: 21s"])),
    ("client_lifetime 5 hours", Keys(&["  max_lifetime: 5h"])),
    ("dns_timeout 3 seconds", Keys(&["dns:", "  timeout: 3s"])),
    ("shutdown_lifetime 9 seconds", Keys(&["shutdown:", "  grace_period: 9s"])),
    ("server_idle_pconn_timeout 2 minutes", Told("no longer than the client's connection")),
    ("pconn_timeout 2 minutes", Told("no longer than the client's connection")),
    ("pconn_lifetime 1 hour", Told("judged by the rules in force")),
    ("forward_timeout 2 minutes", Told("covers the whole way to a target")),
    ("peer_connect_timeout 5 seconds", Told("covers the whole way to a target")),
    ("write_timeout 5 minutes", Told("`http.stall_timeout`")),
    ("request_start_timeout 1 minute", Told("`limits.head_timeout`")),
    ("dns_retransmit_interval 2 seconds", Told("`dns.timeout`")),
    ("ident_timeout 5 seconds", Told("not asked who they are")),
    ("url_rewrite_timeout 5 seconds on_timeout=bypass", Told("never rewritten")),
    ("icap_connect_timeout 5 seconds", Told("ICAP")),
    ("icap_io_timeout 5 seconds", Told("ICAP")),
    ("icap_service_revival_delay 5 seconds", Told("ICAP")),
    ("icap_default_options_ttl 5 seconds", Told("ICAP")),
    ("authenticate_cache_garbage_interval 1 hour", Ignored("no helper programs")),
    ("authenticate_ttl 1 hour", Ignored("no helper programs")),
    ("authenticate_ip_ttl 1 hour", Ignored("no helper programs")),
    ("sslproxy_session_ttl 300", Ignored("decrypts nothing")),
    ("ftp_client_idle_timeout 1 hour", Ignored("speaks no FTP")),
    ("happy_eyeballs_connect_timeout 250", Ignored("in its own way")),
    ("hopeless_kid_revival_delay 1 hour", Ignored("one process")),
    ("positive_dns_ttl 6 hours", Ignored("in its own way")),
    ("negative_dns_ttl 1 minute", Ignored("in its own way")),
    ("dead_peer_timeout 10 seconds", Ignored("no other caches")),
    ("icp_query_timeout 2000", Ignored("no other caches")),
    ("maximum_icp_query_timeout 2000", Ignored("no other caches")),
    ("minimum_icp_query_timeout 5", Ignored("no other caches")),
    ("mcast_icp_query_timeout 2000", Ignored("no other caches")),
    ("mcast_miss_ttl 5", Ignored("no other caches")),
    ("background_ping_rate 10 seconds", Ignored("no other caches")),
    ("max_stale 1 week", Ignored("no cache")),
    ("negative_ttl 1 minute", Ignored("no cache")),
    ("minimum_expiry_time 1 minute", Ignored("no cache")),
    ("digest_rebuild_period 30 minutes", Ignored("no other caches")),
    ("digest_rewrite_period 30 minutes", Ignored("no other caches")),
    ("happy_eyeballs_connect_gap 10", Ignored("in its own way")),
    ("minimum_direct_rtt 300", Ignored("no other caches")),
    ("icap_service_failure_limit 9 in 10 seconds", Told("ICAP")),
    ("high_response_time_warning 500", Ignored("inside of Squid")),
];

fn import(line: &str) -> Imported {
    let conf = format!("acl a dstdomain .a.example\nhttp_access allow a\nhttp_access deny all\n{line}\n");
    let maps = json!({"kind": "ConfigMap", "data": {"squid.conf": conf}});
    let (files, main) = Files::in_config_maps(&maps.to_string()).expect("a ConfigMap");
    squid::squid(&files, &main, Choices::default()).unwrap_or_else(|error| panic!("{line}: {error}"))
}

#[test]
fn every_time_of_squid_is_carried_over_or_told() {
    for (line, becomes) in TIMES {
        let name = line.split(' ').next().unwrap_or_default();
        let Imported { yaml, notes, .. } = import(line);
        let about: Vec<String> =
            notes.iter().map(ToString::to_string).filter(|note| note.contains(name)).collect();
        match becomes {
            Keys(keys) => {
                for key in *keys {
                    assert!(yaml.lines().any(|line| line.starts_with(key)), "{line}: no `{key}` in\n{yaml}");
                }
                assert!(about.is_empty(), "{line}: carried over, and told: {about:?}");
            }
            Told(why) => {
                let [note] = &about[..] else { panic!("{line}: {about:?}") };
                assert!(note.contains("is not carried over: ") && note.contains(why), "{line}: {note}");
            }
            Ignored(why) => {
                let [note] = &about[..] else { panic!("{line}: {about:?}") };
                assert!(note.contains("ignored here and below: ") && note.contains(why), "{line}: {note}");
            }
        }
    }
}
