//! Configurations that load but look wrong: each doubtful setting gets a warning with its place.

use egressd::config::{self, Finding};
use std::io;
use std::path::Path;
use std::time::Duration;

use crate::meaning::lists;

#[test]
fn doubtful_configurations_load_with_warnings() {
    let rows = [
        ("policies: []\n", "1:11: warning: `policies` is empty: every request is denied"),
        (
            "policies: [{name: p, allow: []}]\n",
            "1:12: warning: the policy `p` allows nothing: it denies every request",
        ),
        ("policies: [{name: p, deny: [a.example]}]\n", "1:12: warning: the policy `p` allows nothing"),
        (
            "policies: [{name: p, allow: [a.example]}]\nshutdown: {grace_period: 0s}\n",
            "2:26: warning: a `grace_period` of 0s",
        ),
        (
            "policies: [{name: p, allow: [a.example]}]\nlimits: {tunnels: 5, tunnels_per_client: 6}\n",
            "2:42: warning: `tunnels_per_client` is larger",
        ),
        (
            "policies: [{name: p, allow: [a.example]}]\nhttp: {remove_request_headers: [Via, via]}\n",
            "2:38: warning: `via` is listed twice: remove one of them",
        ),
    ];
    for (text, want) in rows {
        let loaded =
            config::load_str("c.yaml", text, lists).unwrap_or_else(|findings| panic!("{findings:?}"));
        let told: Vec<String> = loaded.warnings.iter().map(ToString::to_string).collect();
        assert_eq!(told.len(), 1, "{text}: {told:?}");
        assert!(told[0].starts_with(&format!("c.yaml:{want}")), "{text}: {told:?}");
    }
}

#[test]
fn a_policy_in_report_mode_is_not_said_to_deny() {
    for policy in ["", ", allow: []", ", deny: [a.example]", ", deny_files: [listed.txt]"] {
        let text = format!("policies: [{{name: p, mode: report{policy}}}]\n");
        let loaded = config::load_str("c.yaml", &text, |_| Ok(b"a.example\n".to_vec()));
        let told = loaded.unwrap_or_else(|findings| panic!("{findings:?}")).warnings;
        assert!(told.is_empty(), "{text}: {told:?}");
        let enforced = text.replace("report", "enforce");
        let loaded = config::load_str("c.yaml", &enforced, |_| Ok(b"a.example\n".to_vec()));
        let told = loaded.unwrap_or_else(|findings| panic!("{findings:?}")).warnings;
        assert!(told.len() == 1 && told[0].text.contains("denies every request"), "{enforced}: {told:?}");
    }
}

#[test]
fn a_log_that_nothing_keeps_is_told() {
    for (output, is_kept) in [
        ("/dev/null", false),
        ("//dev/./null", false),
        ("/var/log/../../dev/null", false),
        ("/dev/zero", false),
        ("/dev/full", false),
        ("/dev/urandom", false),
        ("/dev/tty1", false),
        ("/dev/pts/0", false),
        ("/dev/stdout", true),
        ("/dev/fd/1", true),
        ("/dev/shm/access.log", true),
        ("/proc/self/fd/1", true),
        ("/var/log/egressd/null", true),
        ("dev/null", true),
        ("stdout", true),
    ] {
        let text = format!("policies: [{{name: p, allow: [a.example]}}]\naccess_log: {{output: {output}}}\n");
        let loaded = config::load_str("/etc/egressd/c.yaml", &text, |_| Ok(Vec::new()));
        let told = loaded.unwrap_or_else(|findings| panic!("{findings:?}")).warnings;
        let told: Vec<String> = told.iter().map(ToString::to_string).collect();
        let want = "c.yaml:2:22: warning: `";
        assert_eq!(told.is_empty(), is_kept, "{output}: {told:?}");
        assert!(
            is_kept || (told[0].contains(want) && told[0].contains("keeps nothing")),
            "{output}: {told:?}"
        );
    }
}

/// A listener with every way of identifying a client, and the files that it names.
fn who(policies: &str) -> Result<config::Loaded, Vec<Finding>> {
    let mut params = rcgen::CertificateParams::new(vec!["proxy.corp".to_owned()]).expect("a name");
    params.is_ca = rcgen::IsCa::NoCa;
    let key = rcgen::KeyPair::generate().expect("a key");
    let certificate = params.self_signed(&key).expect("a certificate").pem();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca = params.self_signed(&key).expect("a certificate").pem();
    let text = format!(
        "listeners:\n  - name: who\n    address: 0.0.0.0:3128\n    proxy_protocol: {{trusted: [10.0.0.0/8, \"fc00::/7\"]}}\n    \
         tls: {{certificate: tls.crt, key: tls.key, client_ca: ca.crt, handshake_timeout: 3s}}\n    \
         basic_auth: {{users_file: users}}\n{policies}"
    );
    config::load_str("c.yaml", &text, move |path: &Path| match path.to_str() {
        Some("tls.crt") => Ok(certificate.clone().into_bytes()),
        Some("tls.key") => Ok(key.serialize_pem().into_bytes()),
        Some("ca.crt") => Ok(ca.clone().into_bytes()),
        Some("users") => {
            Ok(b"gitaly:$2y$10$TIKKMvFgyl8LJCFk0GiSSu3PdaXrU8mN0Wk3gRqEa7HbOYtRXL1lK\n".to_vec())
        }
        _ => Err(io::Error::from(io::ErrorKind::NotFound)),
    })
}

#[test]
fn a_listener_has_its_files_with_it_and_the_watch_knows_them() {
    let policies = "policies: [{name: p, clients: {identities: [\"dns:Gitaly.Corp\", \"user:gitaly\"], \
                    vpc_endpoints: [vpce-0abc]}, allow: [a.example]}]\n";
    let loaded = who(policies).unwrap_or_else(|findings| panic!("{findings:?}"));
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    let config = loaded.config;
    let [listener] = &config.listeners[..] else { panic!("{:?}", config.listeners) };
    let trusts = |peer: &str| {
        let proxies = listener.proxy_protocol.as_ref().expect("spoken");
        proxies.trusts(peer.parse().expect("an address"))
    };
    assert!(trusts("10.1.2.3") && trusts("fd00::1") && !trusts("192.0.2.1"));
    let tls = listener.tls.as_ref().expect("spoken");
    assert!(tls.server.verifies_clients());
    assert_eq!(tls.handshake_timeout, Duration::from_secs(3));
    let users = &listener.basic_auth.as_ref().expect("asked for").users;
    assert!(users.has("gitaly") && !users.has("backup"));
    let files: Vec<_> = config.files.iter().filter_map(|path| path.to_str()).collect();
    assert_eq!(files, ["c.yaml", "tls.crt", "tls.key", "ca.crt", "users"]);
    let identities: Vec<_> = config.policies.iter().flat_map(|p| p.clients().identities.clone()).collect();
    assert_eq!(
        identities,
        ["dns:gitaly.corp".into(), Box::<str>::from("user:gitaly")],
        "as certificates say it"
    );
}

#[test]
fn a_policy_for_clients_that_no_listener_can_identify_gets_a_warning() {
    let policies = "policies: [{name: p, clients: {identities: [\"user:nobody\"]}, allow: [a.example]}]\n";
    let told = |loaded: Result<config::Loaded, Vec<Finding>>| -> Vec<String> {
        let loaded = loaded.unwrap_or_else(|findings| panic!("{findings:?}"));
        loaded.warnings.iter().map(ToString::to_string).collect()
    };
    assert_eq!(
        told(who(policies)),
        [
            "c.yaml:7:45: warning: no client can have the identity `user:nobody`: no users file has this user, so the policy `p` \
          never decides"
        ]
    );
    let text = "policies:\n- name: p\n  clients:\n    identities: [\"user:a\", \"cn:b\", \"dns:c.example\", \"spiffe://d\"]\n    \
                vpc_endpoints: [vpce-0abc]\n  allow: [a.example]\n";
    let certificates = "no listener asks for client certificates (`tls` with `client_ca`)";
    assert_eq!(
        told(config::load_str("c.yaml", text, lists)),
        [
            "c.yaml:4:18: warning: no client can have the identity `user:a`: no listener asks for passwords \
             (`basic_auth`)".to_owned(),
            format!("c.yaml:4:28: warning: no client can have the identity `cn:b`: {certificates}"),
            format!("c.yaml:4:36: warning: no client can have the identity `dns:c.example`: {certificates}"),
            format!("c.yaml:4:53: warning: no client can have the identity `spiffe://d`: {certificates}"),
            "c.yaml:5:21: warning: no client can come through `vpce-0abc`: a load balancer sends the endpoint in its \
             PROXY v2 header, and no listener has `proxy_protocol`, so the policy `p` never decides"
                .to_owned(),
        ]
    );
}

#[test]
fn a_policy_whose_listeners_cannot_identify_its_clients_gets_a_warning() {
    let listeners = "listeners: [{name: open, address: 127.0.0.1:1}, {name: asks, address: 127.0.0.1:2, basic_auth: {users_file: \
                     users}}]\n";
    // The clients of a policy, and the warnings.
    let rows: [(&str, &[&str]); 4] = [
        ("{listeners: [asks], identities: ['user:gitaly']}", &[]),
        ("{listeners: [open, asks], identities: ['user:gitaly']}", &[]),
        (
            "{listeners: [open], identities: ['user:gitaly']}",
            &[
                "2:64: warning: no client can have the identity `user:gitaly`: none of its `listeners` asks for passwords \
               (`basic_auth`), so the policy `p` never decides",
            ],
        ),
        (
            "{listeners: [open], vpc_endpoints: [vpce-0a]}",
            &[
                "2:67: warning: no client can come through `vpce-0a`: a load balancer sends the endpoint in its PROXY v2 header, and \
               none of its `listeners` has `proxy_protocol`, so the policy `p` never decides",
            ],
        ),
    ];
    for (clients, want) in rows {
        let text = format!("{listeners}policies: [{{name: p, clients: {clients}, allow: [a.example]}}]\n");
        let users = "gitaly:$2y$10$TIKKMvFgyl8LJCFk0GiSSu3PdaXrU8mN0Wk3gRqEa7HbOYtRXL1lK\n";
        let loaded = config::load_str("c.yaml", &text, |_| Ok(users.as_bytes().to_vec()));
        let loaded = loaded.unwrap_or_else(|findings| panic!("{findings:?}"));
        let told: Vec<String> = loaded.warnings.iter().map(ToString::to_string).collect();
        let want: Vec<String> = want.iter().map(|line| format!("c.yaml:{line}")).collect();
        assert_eq!(told, want, "{clients}");
    }
}

#[test]
fn settings_that_let_clients_impersonate_others_get_a_warning() {
    let rows = [
        (
            "{address: 10.0.0.1:3128, basic_auth: {users_file: users}}",
            Some("2:40: warning: clients send passwords in cleartext: add `tls` to the listener"),
        ),
        ("{address: 127.0.0.1:3128, basic_auth: {users_file: users}}", None),
        (
            "{address: 10.0.0.1:3128, proxy_protocol: {trusted: [10.0.0.0/8, 0.0.0.0/0]}}",
            Some("2:67: warning: every peer is trusted, so any peer can claim any client's address"),
        ),
        ("{address: 10.0.0.1:3128, proxy_protocol: {trusted: [10.0.0.0/8]}}", None),
    ];
    for (listener, want) in rows {
        let text = format!("listeners:\n- {listener}\npolicies: [{{name: p, allow: [a.example]}}]\n");
        let read =
            |_: &Path| Ok(b"gitaly:$2y$10$TIKKMvFgyl8LJCFk0GiSSu3PdaXrU8mN0Wk3gRqEa7HbOYtRXL1lK\n".to_vec());
        let loaded =
            config::load_str("c.yaml", &text, read).unwrap_or_else(|findings| panic!("{findings:?}"));
        let told: Vec<String> = loaded.warnings.iter().map(ToString::to_string).collect();
        match want {
            Some(want) => {
                assert!(told.len() == 1 && told[0].starts_with(&format!("c.yaml:{want}")), "{told:?}");
            }
            None => assert!(told.is_empty(), "{told:?}"),
        }
    }
}

#[test]
fn a_deny_file_or_a_networks_file_with_only_comments_gets_a_warning() {
    let text = "policies: [{name: p, clients: {networks_files: [list.txt]}, allow: [a.example], deny_files: [list.txt]}]\n";
    let loaded = config::load_str("c.yaml", text, |_: &Path| Ok(b"# none yet\n".to_vec())).expect("valid");
    let told: Vec<String> = loaded.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        [
            "list.txt:1:1: warning: the file contains only comments: it denies nothing",
            "list.txt:1:1: warning: the file contains only comments: it matches no client",
        ]
    );
    let policy = loaded.config.policies.iter().next().expect("one policy");
    assert!(policy.clients().networks.is_empty(), "and not the private networks instead");
    assert_eq!(policy.rule_count(), 1);
}

/// Policies are compared with those before them by what their files list.
#[test]
fn a_policy_that_the_files_of_earlier_ones_leave_no_client_gets_a_warning() {
    let text = "policies:\n- {name: a, clients: {networks_files: [low]}, allow: [a.example]}\n\
                - {name: b, clients: {networks_files: [high]}, allow: [a.example]}\n\
                - {name: c, clients: {networks: [10.0.0.0/8]}, allow: [a.example]}\n";
    let load = |high: &'static str| {
        let read = move |path: &Path| match path.to_str() {
            Some("low") => Ok(b"10.0.0.0/9\n".to_vec()),
            _ => Ok(high.as_bytes().to_vec()),
        };
        let loaded = config::load_str("c.yaml", text, read).expect("valid");
        loaded.warnings.iter().map(ToString::to_string).collect::<Vec<String>>()
    };
    assert_eq!(load("10.128.0.0/10\n"), [""; 0]);
    assert_eq!(
        load("10.128.0.0/10\n10.192.0.0/10\n"),
        [
            "c.yaml:4:3: warning: the policy `c` never decides: `a`, `b` come before it and together match all of its \
          clients; move it up, or remove it"
        ]
    );
}

#[test]
fn a_list_with_only_comments_allows_nothing_and_gets_a_warning() {
    let text = "policies: [{name: p, allow_files: [list.txt]}]\n";
    let loaded = config::load_str("c.yaml", text, |_: &Path| Ok(b"# all gone\n".to_vec())).expect("valid");
    let told: Vec<String> = loaded.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        [
            "c.yaml:1:12: warning: the policy `p` allows nothing: it denies every request",
            "list.txt:1:1: warning: the file contains only comments: it allows nothing",
        ]
    );
    assert_eq!(loaded.config.policies.rules().count(), 0);
}
