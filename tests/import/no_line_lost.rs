//! No line is lost without a word: each line of a random configuration is carried over, which shows in the result, or it is named on
//! stderr.
//!
//! Carried over is what makes a difference: the result is another one where a comment stands in the line's place.

use std::collections::BTreeSet;

use egressd::commands::import::squid::{self, Choices, Files, Imported};
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

/// Lists, each used or not.
const LISTS: &[&str] = &[
    "acl lan src 10.0.0.0/8",
    "acl office src 10.1.0.0/16 2001:db8::/32",
    "acl wl dstdomain .debian.org registry.example",
    "acl wl2 dstdomain -n .npmjs.example",
    "acl banned dstdomain ads.debian.org",
    "acl night time 22:00-06:00",
    "acl path urlpath_regex -i \\.exe$",
    "acl url url_regex -i torrent",
    "acl re dstdom_regex ^ads\\.",
    "acl cc dstdom_regex ^git\\.example\\.com$",
    "acl auth proxy_auth REQUIRED",
    "acl alice proxy_auth alice",
    "acl group external ldap staff",
    "acl agent browser -i curl",
    "acl tls port 443",
    "acl web port 80 443",
    "acl CONNECT method CONNECT",
    "acl ms maxconn 10",
    "acl two any-of wl cc",
    "acl both all-of wl tls",
    "acl step1 at_step SslBump1",
    "acl sni ssl::server_name .debian.org",
    "acl net dst 52.0.0.0/8",
];
/// Those that egressd has nothing for.
const NOTHING_FOR: &[&str] = &["night", "auth", "group", "agent"];
/// Everything else, good and bad.
const SETTINGS: &[&str] = &[
    "auth_param basic children 5",
    "auth_param basic realm proxy",
    "auth_param negotiate program /usr/lib/squid/negotiate_kerberos_auth",
    "http_port 3128",
    "http_port 127.0.0.1:8080 accel vhost",
    "http_port 3129 intercept disable-pmtu-discovery=transparent",
    "http_port proxy.example:3130 name=p tcpkeepalive=60,30,3",
    "http_port",
    "https_port 3131",
    "ftp_port 2121",
    "ssl_bump peek step1",
    "ssl_bump splice sni",
    "ssl_bump terminate all",
    "connect_timeout 10 seconds",
    "connect_timeout 20 seconds",
    "read_timeout soon",
    "client_lifetime 1 day",
    "client_ip_max_connections many",
    "client_ip_max_connections 20",
    "request_header_max_size 64 KB",
    "request_header_max_size big",
    "shutdown_lifetime 5 seconds",
    "hosts_file /etc/hosts",
    "hosts_file none",
    "dns_nameservers 10.0.0.2",
    "dns_nameservers 10.0.0.3 resolver.example",
    "dns_nameservers resolver.example",
    "forwarded_for delete",
    "forwarded_for on",
    "via off",
    "cache_mem 64 MB",
    "refresh_pattern . 0 20% 4320",
    "cache_peer parent.example parent 3128 0 no-query",
    "cache_peer other.example parent 3128 0 no-query",
    "cache_peer sibling.example sibling 3128 3130",
    "cache_peer short",
    "cache_peer_access parent.example deny wl",
    "never_direct allow all",
    "never_direct deny wl",
    "always_direct allow wl",
    "logformat mine %>a %rm %ru",
    "logformat yours %>a",
    "access_log stdio:/var/log/squid/access.log mine",
    "access_log none",
    "access_log",
    "request_header_access User-Agent deny all",
    "request_header_access User-Agent allow all",
    "request_header_access Referer deny wl",
    "request_header_access X-Forwarded-For deny all",
    "request_header_access Cookie",
    "header_access Via deny all",
    "proxy_protocol_access allow lan",
    "proxy_protocol_access deny all",
    "reply_body_max_size 10 MB",
    "miss_access allow all",
    "miss_access deny wl",
    "note a b",
    "http_acess allow wl",
    "deny_all please",
    "http_access permit wl",
    "http_access allow",
    "acl lonely",
    "acl odd nonsense x",
    "cachemgr_passwd x all",
    "configuration_includes_quoted_values off",
];

fn import(text: &str) -> Imported {
    let maps = serde_json::json!({"kind": "ConfigMap", "data": {"squid.conf": text}});
    let (files, main) = Files::in_config_maps(&maps.to_string()).expect("ConfigMaps");
    squid::squid(&files, &main, Choices::default()).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

/// The numbers of the lines that stderr names: each note's own, and those that a note says it is about too.
fn named(imported: &Imported) -> BTreeSet<usize> {
    let mut named = BTreeSet::new();
    for note in &imported.notes {
        named.insert(usize::try_from(note.line).expect("a number of a line"));
        let Some((_, more)) = note.text.split_once("`, and the `") else { continue };
        let Some((_, more)) = more.split_once("line") else { continue };
        let numbers = more.split(':').next().unwrap_or_default();
        named.extend(
            numbers.split(|c: char| !c.is_ascii_digit()).filter_map(|number| number.parse::<usize>().ok()),
        );
    }
    named
}

/// The directives that are told together.
fn ignored(imported: &Imported) -> BTreeSet<String> {
    let notes = imported.notes.iter().filter_map(|note| note.text.strip_prefix("ignored here and below: "));
    notes.flat_map(|text| text.split([',', ';', ' ']).map(str::to_owned).collect::<Vec<_>>()).collect()
}

/// What the text says, without the numbers and the words of the lines that its comments name.
fn said(imported: &Imported) -> Vec<String> {
    imported
        .yaml
        .lines()
        .map(|line| line.split('#').next().unwrap_or_default().trim_end().to_owned())
        .collect()
}

fn rules() -> impl Strategy<Value = Vec<String>> {
    let names: Vec<&'static str> = LISTS
        .iter()
        .filter_map(|line| line.split(' ').nth(1))
        .chain(["all", "manager", "localhost"])
        .collect();
    let literals = proptest::collection::vec((prop::bool::weighted(0.15), select(names)), 1..4);
    let rule = (prop::bool::weighted(0.6), literals).prop_map(|(allow, literals)| {
        let literals: Vec<String> = literals
            .into_iter()
            .map(|(negated, name)| format!("{}{name}", if negated { "!" } else { "" }))
            .collect();
        format!("http_access {} {}", if allow { "allow" } else { "deny" }, literals.join(" "))
    });
    proptest::collection::vec(rule, 1..8)
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 200, ..ProptestConfig::with_cases(crate::property_cases(24)) })]

    #[test]
    fn each_line_is_carried_over_or_named(
        lists in subsequence(LISTS, 0..=LISTS.len()),
        settings in subsequence(SETTINGS, 0..=12),
        rules in rules(),
        last in any::<bool>(),
    ) {
        let mut lines: Vec<String> = lists.into_iter().chain(settings).map(str::to_owned).collect();
        lines.extend(rules);
        if last {
            lines.push("http_access deny all".to_owned());
        }
        let text = |lines: &[String]| lines.iter().map(|line| format!("{line}\n")).collect::<String>();
        let imported = import(&text(&lines));
        let (named, ignored, said) = (named(&imported), ignored(&imported), self::said(&imported));
        for (index, line) in lines.iter().enumerate() {
            let mut words = line.split(' ');
            let directive = words.next().expect("a line has a name");
            if named.contains(&(index + 1)) || ignored.contains(directive) {
                continue;
            }
            // A list is part of the rules that use it, which are looked at for themselves.
            let name = words.next().unwrap_or_default();
            let uses = |other: &String| {
                !other.starts_with("acl ") || other.contains("any-of") || other.contains("all-of")
            };
            let refers = |other: &String| {
                let mut words = other.split(' ').skip(1);
                uses(other) && other != line && words.any(|word| word.trim_start_matches('!') == name)
            };
            if directive == "acl" && lines.iter().any(refers) {
                continue;
            }
            let mut without = lines.clone();
            // Squid reads the file all the same.
            without[index] = format!("# {line}");
            let other = import(&text(&without));
            if self::said(&other) != said {
                continue;
            }
            // A rule that takes part in a verdict may be one of several that lead to the same: without what stands before it, it
            // shows.
            if directive == "http_access" && shows(&lines, index) {
                continue;
            }
            // Whatever a line denies stays denied, which `never_wider` holds: of those that egressd has nothing for it is told.
            let lists: Vec<&str> = line.split(' ').skip(2).map(|word| word.trim_start_matches('!')).collect();
            if directive == "http_access" && name == "deny" && !lists.iter().any(|list| NOTHING_FOR.contains(list)) {
                continue;
            }
            if directive == "ssl_bump" && name != "peek" {
                continue; // It has a part in verdicts that are the same by another line.
            }
            prop_assert!(
                false,
                "line {} is lost without a word: {line}\n{}\n{}\n{:#?}",
                index + 1,
                text(&lines),
                imported.yaml,
                imported.notes
            );
        }
    }
}

/// Whether a rule makes a difference where one of the others is not there.
fn shows(lines: &[String], index: usize) -> bool {
    let text = |lines: &[String]| lines.iter().map(|line| format!("{line}\n")).collect::<String>();
    let others = (0..lines.len()).filter(|other| *other != index && lines[*other].starts_with("http_access"));
    others.into_iter().any(|other| {
        let mut without = lines.to_vec();
        without[other] = format!("# {}", lines[other]);
        let with_it = said(&import(&text(&without)));
        without[index] = format!("# {}", lines[index]);
        said(&import(&text(&without))) != with_it
    })
}
