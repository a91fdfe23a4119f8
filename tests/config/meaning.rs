//! What the keys mean, both set and left out, and what the hash covers.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use egressd::config;
use egressd::words::client::Client;
use egressd::words::outcome::Reason;
use egressd::words::target::Target;
use jiff::Timestamp;

/// A configuration with every key once.
pub(crate) const CONFIGURED: &str = r#"
listeners:
  - {name: proxy, address: 127.0.0.1:3128}
  - {address: "[::1]:3128"}
admin: {address: 127.0.0.1:9180, networks: []}
policies:
  - name: gitaly
    clients: {networks: [10.0.0.0/8], networks_files: [lists/offices.txt]}
    private: [10.1.0.0/16]
    allow:
      - a.example
      - to: http://b.example:8080
        name: b
        expires: 2027-03-31
        upload_limit: 1KiB
        private: [10.2.0.0/16]
    allow_files: [lists/a.txt, {file: lists/b.txt, schemes: [https, http], owner: me}]
    deny: [x.a.example]
    deny_files: [lists/blocked.txt]
dns: {servers: ["::1"], hosts: {Git.test: [127.0.0.1, "::1"]}, timeout: 1500ms}
tunnel: {connect_timeout: 1s, client_hello_timeout: 2s, idle_timeout: 3s, max_lifetime: 1h30m, tcp_user_timeout: 4s}
limits: {tunnels: 5, tunnels_per_client: 4, requests_per_second_per_client: 3, head_bytes: 8KiB, head_timeout: 2s, memory: 64MiB, ipv6_prefix: 64, budget_accounts: 9}
http: {remove_request_headers: [], keepalive_timeout: 90s, response_timeout: 1s, stall_timeout: 2s}
access_log: {output: logs/access.json, on_failure: continue}
log: {level: trace, format: json}
shutdown: {delay: 10s, grace_period: 5m}
"#;

/// The files that the configuration names.
pub(crate) fn lists(path: &Path) -> io::Result<Vec<u8>> {
    match path.to_str() {
        Some("etc/lists/a.txt") => Ok(b"\xef\xbb\xbf# Squid's\r\n.c.example\r\n".to_vec()),
        Some("etc/lists/b.txt") => Ok(b"d.example\ntcp://e.example:22 # with a scheme of its own\n".to_vec()),
        Some("etc/lists/offices.txt") => {
            Ok(b"# Offices\r\n192.0.2.0/24 # Berlin\r\n198.51.100.7\r\n\t2001:db8::/32\r\n2001:db8:1::7\r\n"
                .to_vec())
        }
        Some("etc/lists/blocked.txt") => {
            Ok(b"# Blocked\n.y.c.example\nhttp://d.example:8080\n203.0.113.0/24\n".to_vec())
        }
        _ => Err(io::Error::from(io::ErrorKind::NotFound)),
    }
}

#[test]
fn every_key_means_what_it_says() {
    let config = config::load_str("etc/egressd.yaml", CONFIGURED, lists).expect("it is valid").config;
    let seconds = Duration::from_secs;
    let listeners: Vec<String> =
        config.listeners.iter().map(|listener| format!("{} {}", listener.name, listener.address)).collect();
    assert_eq!(
        listeners,
        ["proxy 127.0.0.1:3128", "[::1]:3128 [::1]:3128"],
        "a name left out is the address"
    );
    assert_eq!(config.admin.address.to_string(), "127.0.0.1:9180");
    assert!(config.admin.networks.is_empty(), "an empty list lets nobody in");
    assert_eq!(config.dns.servers, ["[::1]:53".parse().expect("an address")]);
    let hosts: Vec<String> = config.dns.hosts.iter().map(|(name, ips)| format!("{name} {ips:?}")).collect();
    assert_eq!(hosts, ["git.test [127.0.0.1, ::1]"], "names are canonical");
    assert_eq!(config.dns.timeout, Duration::from_millis(1500));
    assert_eq!(
        config.tunnel,
        config::Tunnel {
            connect_timeout: seconds(1),
            client_hello_timeout: seconds(2),
            idle_timeout: seconds(3),
            max_lifetime: Some(seconds(5400)),
            tcp_user_timeout: Some(seconds(4)),
        }
    );
    assert_eq!(
        config.limits,
        config::Limits {
            tunnels: 5,
            tunnels_per_client: 4,
            requests_per_second_per_client: 3,
            head_bytes: 8192,
            memory: Some(64 << 20),
            ipv6_prefix: 64,
            head_timeout: seconds(2),
            budget_accounts: 9,
        }
    );
    assert_eq!(
        config.http,
        config::Http {
            remove_request_headers: Vec::new(),
            keepalive_timeout: seconds(90),
            response_timeout: seconds(1),
            stall_timeout: seconds(2)
        }
    );
    assert_eq!(
        config.access_log,
        config::AccessLog {
            output: config::LogOutput::File(PathBuf::from("etc/logs/access.json")),
            format: config::LogFormat::Json,
            on_failure: config::OnLogFailure::Continue,
            seal: None,
            otlp: None,
        },
        "relative to the configuration"
    );
    let log = config::Log { level: config::LogLevel::Trace, format: config::DiagnosticsFormat::Json };
    assert_eq!(config.log, log);
    assert_eq!(config.shutdown, config::Shutdown { delay: seconds(10), grace_period: seconds(300) });
    let files: Vec<_> = config.files.iter().filter_map(|path| path.to_str()).collect();
    assert_eq!(
        files,
        [
            "etc/egressd.yaml",
            "etc/lists/offices.txt",
            "etc/lists/a.txt",
            "etc/lists/b.txt",
            "etc/lists/blocked.txt"
        ]
    );
}

#[test]
fn rules_keep_their_options_and_where_they_stand() {
    let config = config::load_str("etc/egressd.yaml", CONFIGURED, lists).expect("it is valid").config;
    let rules: Vec<String> = config
        .policies
        .rules()
        .map(|rule| {
            let schemes: Vec<&str> = rule.schemes().iter().map(|scheme| scheme.as_str()).collect();
            let kind = if rule.is_deny() { "deny" } else { "allow" };
            let options = rule.options();
            format!(
                "{kind} {} [{}] {}:{} {:?} {:?} {:?}",
                rule.text(),
                schemes.join(" "),
                rule.file(),
                rule.line(),
                options.and_then(|options| options.name.as_deref()),
                options.and_then(|options| options.owner.as_deref()),
                options.and_then(|options| options.upload_limit),
            )
        })
        .collect();
    let mut rules: Vec<&str> = rules.iter().map(String::as_str).collect();
    rules.sort_unstable();
    assert_eq!(
        rules,
        [
            "allow .c.example [https] etc/lists/a.txt:2 None None None",
            "allow a.example [https] etc/egressd.yaml:11 None None None",
            "allow d.example [https http] etc/lists/b.txt:1 None Some(\"me\") None",
            "allow http://b.example:8080 [http] etc/egressd.yaml:12 Some(\"b\") None Some(1024)",
            "allow tcp://e.example:22 [tcp] etc/lists/b.txt:2 None Some(\"me\") None",
            "deny .y.c.example [https http tcp] etc/lists/blocked.txt:2 None None None",
            "deny 203.0.113.0/24 [https http tcp] etc/lists/blocked.txt:4 None None None",
            "deny http://d.example:8080 [http] etc/lists/blocked.txt:3 None None None",
            "deny x.a.example [https http tcp] etc/egressd.yaml:18 None None None",
        ]
    );
}

/// Any option of a rule may stand beside `file`: every line has it, and lines without a scheme have `schemes`.
#[test]
fn options_of_an_allow_file_hold_for_each_of_its_lines() {
    let text = "policies:\n- name: p\n  allow_files:\n  - {file: lists/b.txt, schemes: [https, http], name: n, private: \
                [10.0.0.0/8], upload_limit: 1KiB, upload_budget: 1GiB/24h, verify_certificate: true, expires: 2099-01-01}\n";
    let config = config::load_str("etc/egressd.yaml", text, lists).expect("it is valid").config;
    let client = Client::direct(([10, 0, 0, 1], 1).into());
    for target in [
        Target::connect("d.example:443").expect("a target"),
        Target::http("d.example:80").expect("a target"),
        Target::connect("e.example:22").expect("a target"),
    ] {
        let permit = config.policies.decide(&target, &client, Timestamp::UNIX_EPOCH).expect("allowed");
        assert_eq!(permit.upload_limit, Some(1024), "{target}");
        assert_eq!(*permit.private, ["10.0.0.0/8".parse().expect("a network")], "{target}");
        assert_eq!(permit.rule.as_ref().map(|rule| &*rule.label), Some("n"), "{target}");
        let expired = config.policies.decide(&target, &client, Timestamp::MAX).expect_err("expired");
        assert_eq!(expired.reason, Reason::RuleExpired, "{target}");
    }
    let verified: Vec<bool> = config
        .policies
        .rules()
        .filter_map(|rule| rule.options())
        .map(|options| options.verify_certificate)
        .collect();
    assert_eq!(verified, [true, true]);
}

#[test]
fn networks_of_clients_come_from_files_too() {
    let networks = |clients: &str| -> Vec<String> {
        let text = format!("policies: [{{name: p, clients: {{{clients}}}, allow: [a.example]}}]\n");
        let config = config::load_str("etc/egressd.yaml", &text, lists).expect("it is valid").config;
        let policy = config.policies.iter().next().expect("one policy").clients().clone();
        policy.networks.iter().map(ToString::to_string).collect()
    };
    let offices = ["192.0.2.0/24", "198.51.100.7/32", "2001:db8::/32", "2001:db8:1::7/128"];
    let both = networks("networks: [10.0.0.0/8], networks_files: [lists/offices.txt]");
    assert_eq!((both[0].as_str(), &both[1..]), ("10.0.0.0/8", &offices.map(str::to_owned)[..]));
    let alone = networks("networks_files: [lists/offices.txt]");
    assert_eq!(alone, offices, "and not the private networks too");
    let twice = networks("networks_files: [lists/offices.txt, lists/offices.txt]");
    assert_eq!(twice.len(), 8);
}

#[test]
fn a_deny_file_wins_over_allow_and_is_named_by_file_and_line() {
    let config = config::load_str("etc/egressd.yaml", CONFIGURED, lists).expect("it is valid").config;
    let decide = |target: Target, client: [u8; 4]| {
        config.policies.decide(&target, &Client::direct((client, 1).into()), Timestamp::UNIX_EPOCH)
    };
    let connect = |authority: &str| Target::connect(authority).expect("a target");
    let http = |authority: &str| Target::http(authority).expect("a target");
    for (target, want) in [
        (connect("c.example:443"), None),
        (connect("z.c.example:443"), None),
        (connect("y.c.example:443"), Some("etc/lists/blocked.txt:2")),
        (connect("x.y.c.example:443"), Some("etc/lists/blocked.txt:2")),
        (connect("x.a.example:443"), Some("etc/egressd.yaml:18")),
        (http("d.example:80"), None),
        (http("d.example:8080"), Some("etc/lists/blocked.txt:3")),
    ] {
        let denial = decide(target.clone(), [192, 0, 2, 9]).err();
        let source = denial.as_ref().map(|denial| {
            assert_eq!(denial.reason, Reason::HostDenied, "{target}");
            let rule = denial.rule.as_ref().expect("a rule denies it");
            if rule.source.line < 18 {
                assert_eq!(&*rule.label, "blocked.txt", "all lines of a file have one label in the metrics");
            }
            rule.source.to_string()
        });
        assert_eq!(source.as_deref(), want, "{target}");
    }
    // Who is in no list of clients is nobody's.
    for (client, want) in [([10, 1, 2, 3], true), ([198, 51, 100, 7], true), ([198, 51, 100, 8], false)] {
        let denial = decide(connect("c.example:443"), client).err();
        assert_eq!(denial.is_none(), want, "{client:?}");
        assert_eq!(denial.map(|denial| denial.reason), (!want).then_some(Reason::ClientNotAllowed));
    }
}

#[test]
fn what_is_left_out_is_what_the_default_writes() {
    let left_out = config::load_str("c.yaml", "# nothing but this\n", lists).expect("comments are valid");
    let told: Vec<String> = left_out.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(told, ["c.yaml:1:1: warning: `policies` is missing: every request is denied"]);
    let (left_out, written) = (left_out.config, config::load(None).expect("the default loads").config);
    assert_eq!(left_out.admin, written.admin);
    assert_eq!(left_out.listeners[0].address, written.listeners[0].address);
    assert_eq!(left_out.dns, written.dns);
    assert_eq!(left_out.tunnel, written.tunnel);
    assert_eq!(left_out.limits, written.limits);
    assert_eq!(left_out.http, written.http);
    assert_eq!(left_out.access_log, written.access_log);
    assert_eq!(left_out.log, written.log);
    assert_eq!(left_out.shutdown, written.shutdown);
    assert_eq!(left_out.certificates, written.certificates);
    let networks = |config: &config::Config| -> Vec<_> {
        config.policies.iter().flat_map(|policy| policy.clients().networks.clone()).collect()
    };
    let bare =
        config::load_str("c.yaml", "policies: [{name: p, allow: [a.example]}]", lists).expect("valid").config;
    assert_eq!(networks(&bare), networks(&written));
}

#[test]
fn the_hash_changes_with_any_content_and_with_nothing_else() {
    let hash = |name: &str, text: &str, list: &'static [u8]| {
        let read = move |_: &Path| Ok(list.to_vec());
        config::load_str(name, text, read).expect("valid").config.hash
    };
    let text = "policies: [{name: p, allow_files: [a, b]}]\n";
    let first = hash("etc/c.yaml", text, b"a.example\n");
    assert_eq!(first, hash("other/d.yaml", text, b"a.example\n"), "where the file is mounted does not count");
    assert_ne!(first, hash("etc/c.yaml", &format!("{text}# a comment\n"), b"a.example\n"));
    assert_ne!(first, hash("etc/c.yaml", text, b"b.example\n"));
    assert_ne!(first, hash("etc/c.yaml", "policies: [{name: p, allow_files: [a, c]}]\n", b"a.example\n"));
    assert_eq!(first.to_string().len(), 64);
    assert_eq!(first.short().to_string(), first.to_string()[..12]);
}
