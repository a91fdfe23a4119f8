//! `diff` knows every key of the schema: an edit of each is printed, and marked if it lets more out or in.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;

use egressd::commands::diff::{Change, Opens, rules, settings};
use egressd::config::{self, Loaded};
use serde_json::Value;

use crate::edits::{entry, keys, listener, policy, rule, set};

const ALICE: &str = "alice:$2y$10$TIKKMvFgyl8LJCFk0GiSSu3PdaXrU8mN0Wk3gRqEa7HbOYtRXL1lK\n";
const BOB: &str = "bob:$2y$10$TIKKMvFgyl8LJCFk0GiSSu3PdaXrU8mN0Wk3gRqEa7HbOYtRXL1lK\n";

/// The files of the edits below. A name with `2` has another content.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let name = path.to_str().unwrap_or_default();
    let on_disk = |name: &str| std::fs::read(Path::new("tests/lint/files").join(name));
    Ok(match name {
        "list" => b"a.example\n".to_vec(),
        "list2" => b"a.example\nb.example\n".to_vec(),
        "networks" => b"10.0.0.0/16\n".to_vec(),
        "networks2" => b"10.0.0.0/8\n".to_vec(),
        "users" => ALICE.into(),
        "users2" => format!("{ALICE}{BOB}").into_bytes(),
        "cred" => b"user:one\n".to_vec(),
        "cred2" => b"user:two\n".to_vec(),
        "token" => b"one\n".to_vec(),
        "token2" => b"two\n".to_vec(),
        "headers" => b"X-Tenant: one\n".to_vec(),
        "headers2" => b"X-Tenant: two\n".to_vec(),
        "team" => {
            b"policies: [{name: one, clients: {networks: [10.1.0.0/16]}, allow: [a.example]}]\n".to_vec()
        }
        "team2" => {
            b"policies: [{name: two, clients: {networks: [10.2.0.0/16]}, allow: [a.example]}]\n".to_vec()
        }
        "key.copy" => on_disk("authority.key")?,
        other => on_disk(other)?,
    })
}

fn load(text: &str) -> Loaded {
    config::load_str("c.yaml", text, read).unwrap_or_else(|findings| panic!("{text}: {findings:?}"))
}

fn changes(old: &str, new: &str) -> Vec<Change> {
    let (old, new) = (load(old), load(new));
    let mut told = Vec::new();
    settings::compare(&old, &new, |change| told.push(change));
    rules::compare(&old.config.policies, &new.config.policies, |change| told.push(change));
    told
}

const YES: Opens = Opens::Yes;
const PERHAPS: Opens = Opens::Perhaps;
const NO: Opens = Opens::No;

/// For each key an edit of it, and whether it must be marked. The path of an allow file's option is that of a rule's.
fn edit(key: &str) -> Option<(String, String, Opens)> {
    let of_file =
        key.strip_prefix("policies[].allow_files[].").filter(|key| !matches!(*key, "file" | "schemes"));
    if let Some(option) = of_file {
        let (old, new, opens) = edit(&format!("policies[].allow[].{option}"))?;
        let file = |text: String| text.replace("allow: [{to: a.example,", "allow_files: [{file: list,");
        return Some((file(old), file(new), opens));
    }
    let tls = "certificate: proxy.crt, key: proxy.key";
    Some(match key {
        "listeners[].name" => keys(
            "listeners: [{name: a, address: '127.0.0.1:3128'}]",
            "listeners: [{name: b, address: '127.0.0.1:3128'}]",
            NO,
        ),
        "listeners[].address" => {
            keys("listeners: [{address: '127.0.0.1:3128'}]", "listeners: [{address: '0.0.0.0:3128'}]", YES)
        }
        "listeners[].permissions" => keys(
            "listeners: [{name: a, address: 'unix:/run/a.sock', permissions: '0600'}]",
            "listeners: [{name: a, address: 'unix:/run/a.sock', permissions: '0660'}]",
            YES,
        ),
        "listeners[].protocols" => keys(
            "listeners: [{address: '10.0.0.1:3128'}]",
            "listeners: [{address: '10.0.0.1:3128', protocols: [http, socks5]}]",
            YES,
        ),
        "listeners[].mode" => keys(
            "listeners: [{address: '10.0.0.1:3128'}]",
            "listeners: [{address: '10.0.0.1:3128', mode: transparent}]",
            PERHAPS,
        ),
        "listeners[].proxy_protocol.trusted" => listener(
            "proxy_protocol: {trusted: [10.0.0.0/16]}",
            "proxy_protocol: {trusted: [10.0.0.0/8]}",
            YES,
        ),
        "listeners[].tls.certificate" => {
            listener(&format!("tls: {{{tls}}}"), "tls: {certificate: future.crt, key: proxy.key}", NO)
        }
        "listeners[].tls.key" => listener(
            "tls: {certificate: authority-free.crt, key: authority.key}",
            "tls: {certificate: authority-free.crt, key: key.copy}",
            NO,
        ),
        "listeners[].tls.client_ca" => listener(
            &format!("tls: {{{tls}, client_ca: ca.crt}}"),
            &format!("tls: {{{tls}, client_ca: leaf-and-ca.pem}}"),
            PERHAPS,
        ),
        "listeners[].tls.client_crl" => listener(
            &format!("tls: {{{tls}, client_ca: ca.crt, client_crl: old.crl}}"),
            &format!("tls: {{{tls}, client_ca: ca.crt}}"),
            YES,
        ),
        "listeners[].tls.handshake_timeout" => {
            listener(&format!("tls: {{{tls}}}"), &format!("tls: {{{tls}, handshake_timeout: 3s}}"), NO)
        }
        "listeners[].basic_auth.users_file" => {
            listener("basic_auth: {users_file: users}", "basic_auth: {users_file: users2}", YES)
        }
        "admin.address" => keys("admin: {address: '127.0.0.1:9180'}", "admin: {}", YES),
        "admin.networks" => keys("admin: {networks: [10.0.0.0/16]}", "admin: {networks: [10.0.0.0/8]}", YES),
        "admin.hosts" => keys("admin: {}", "admin: {hosts: [status.example]}", YES),
        "admin.proxy_protocol.trusted" => keys(
            "admin: {proxy_protocol: {trusted: [10.0.0.0/8]}}",
            "admin: {proxy_protocol: {trusted: [10.0.0.0/8, 192.0.2.0/24]}}",
            YES,
        ),
        // Another name alone opens nothing.
        "policies[].name" => {
            keys("policies: [{name: p, allow: [a.example]}]", "policies: [{name: q, allow: [a.example]}]", NO)
        }
        "policies[].clients.networks" => policy(
            "clients: {networks: [10.0.0.0/16]}, allow: [a.example]",
            "clients: {networks: [10.0.0.0/8]}, allow: [a.example]",
            YES,
        ),
        "policies[].clients.networks_files" => policy(
            "clients: {networks_files: [networks]}, allow: [a.example]",
            "clients: {networks_files: [networks2]}, allow: [a.example]",
            YES,
        ),
        "policies[].clients.identities" => policy(
            "clients: {identities: ['user:a']}, allow: [a.example]",
            "clients: {identities: ['user:a', 'user:b']}, allow: [a.example]",
            YES,
        ),
        "policies[].clients.vpc_endpoints" => {
            policy("clients: {vpc_endpoints: [vpce-0a]}, allow: [a.example]", "allow: [a.example]", YES)
        }
        "policies[].clients.listeners" => {
            policy("clients: {listeners: ['0.0.0.0:3128']}, allow: [a.example]", "allow: [a.example]", YES)
        }
        "policies[].mode" => policy("allow: [a.example]", "mode: report, allow: [a.example]", YES),
        "policies[].addresses_by_sni" => {
            policy("allow: [a.example]", "addresses_by_sni: true, allow: [a.example]", YES)
        }
        "policies[].private" => {
            policy("allow: [a.example]", "private: [10.0.0.0/16], allow: [a.example]", YES)
        }
        "policies[].allow" => policy("allow: [a.example]", "allow: [a.example, b.example]", YES),
        "policies[].allow_files" | "policies[].allow_files[].file" => {
            policy("allow_files: [list]", "allow_files: [{file: list2}]", YES)
        }
        "policies[].allow_files[].schemes" => policy(
            "allow_files: [{file: list, schemes: [https]}]",
            "allow_files: [{file: list, schemes: [https, http]}]",
            YES,
        ),
        "policies[].deny" => policy("allow: [.a.example], deny: [b.a.example]", "allow: [.a.example]", YES),
        "policies[].deny_files" => {
            policy("allow: [.a.example], deny_files: [list2]", "allow: [.a.example], deny_files: [list]", YES)
        }
        "policies[].allow[].to" => keys(
            "policies: [{name: p, allow: [{to: a.example}]}]",
            "policies: [{name: p, allow: [{to: b.example}]}]",
            YES,
        ),
        "include" => keys("include: [team]", "include: [team, team2]", YES),
        "policies[].allow[].set" => {
            set("set: aws-sts, region: eu-west-1", "set: aws-codecommit, region: eu-west-1", YES)
        }
        // One version of each set is shipped. Two are compared next to the sets.
        "policies[].allow[].version" => {
            let (_, new, opens) = set("", "set: aws-sts, region: eu-west-1", YES);
            (
                "policies: [{name: p, allow: [b.example]}]\n".to_owned(),
                new.replace("allow: [", "allow: [b.example, "),
                opens,
            )
        }
        "policies[].allow[].region" => {
            set("set: aws-sts, region: eu-west-1", "set: aws-sts, region: eu-west-2", YES)
        }
        "policies[].allow[].account" => set(
            "set: aws-ecr, region: eu-west-1, account: '123456789012'",
            "set: aws-ecr, region: eu-west-1, account: '123456789013'",
            YES,
        ),
        "policies[].allow[].name" => rule("name: a", "name: b", NO),
        "policies[].allow[].owner" => rule("owner: a", "owner: b", NO),
        "policies[].allow[].ticket" => rule("ticket: a", "ticket: b", NO),
        "policies[].allow[].description" => rule("description: a", "description: b", NO),
        "policies[].allow[].expires" => rule("expires: 2098-01-01", "expires: 2099-01-01", YES),
        "policies[].allow[].private" => rule("private: [10.0.0.0/16]", "private: [10.0.0.0/15]", YES),
        "policies[].allow[].upload_limit" => rule("upload_limit: 1KiB", "upload_limit: 2KiB", YES),
        "policies[].allow[].upload_budget" => rule("upload_budget: 1KiB/1h", "upload_budget: 2KiB/1h", YES),
        "policies[].allow[].verify_certificate" => {
            rule("verify_certificate: true", "verify_certificate: false", YES)
        }
        "policies[].allow[].inspect" => rule("inspect: true", "inspect: false", YES),
        "policies[].allow[].ech" => rule("ech: deny", "ech: allow", YES),
        "policies[].allow[].requests[].methods" => entry("methods: [GET]", "methods: [GET, PUT]", YES),
        "policies[].allow[].requests[].paths" => entry("paths: [/a]", "paths: [/a, /b]", YES),
        "policies[].allow[].requests[].upgrade" => {
            entry("paths: [/a]", "paths: [/a], upgrade: [websocket]", YES)
        }
        "policies[].allow[].requests[].git" => entry("git: [fetch]", "git: [fetch, push]", YES),
        "policies[].allow[].requests[].repositories" => {
            entry("git: [fetch], repositories: [/a]", "git: [fetch], repositories: [/a, /b]", YES)
        }
        "policies[].allow[].requests[].refs" => {
            entry("git: [push], refs: [refs/heads/a]", "git: [push], refs: [refs/heads/a, refs/heads/b]", YES)
        }
        "policies[].allow[].requests[].ref_changes" => {
            entry("git: [push], ref_changes: [create]", "git: [push], ref_changes: [create, delete]", YES)
        }
        "policies[].allow[].requests[].negotiation_limit" => {
            entry("git: [fetch], negotiation_limit: 16KiB", "git: [fetch], negotiation_limit: 32KiB", YES)
        }
        "policies[].allow[].requests[].aws.accounts" => entry(
            "aws: {accounts: ['123456789012']}",
            "aws: {accounts: ['123456789012', '210987654321']}",
            YES,
        ),
        "policies[].allow[].requests[].aws.services" => {
            entry("aws: {services: [codecommit]}", "aws: {services: [codecommit, s3]}", YES)
        }
        "policies[].allow[].requests[].aws.regions" => {
            entry("aws: {regions: [eu-central-1]}", "aws: {regions: [eu-central-1, eu-west-1]}", YES)
        }
        "policies[].allow[].requests[].aws.key_accounts" => entry(
            "aws: {accounts: ['123456789012']}",
            "aws: {accounts: ['123456789012'], key_accounts: {AKIAIOSFODNN7EXAMPLE: '123456789012'}}",
            YES,
        ),
        "policies[].allow[].requests[].credentials_file" => {
            entry("credentials_file: cred", "credentials_file: cred2", PERHAPS)
        }
        "policies[].allow[].headers.set" => {
            rule("headers: {set: {X-Tenant: a}}", "headers: {set: {X-Tenant: b}}", PERHAPS)
        }
        "policies[].allow[].headers.set_files" => {
            rule("headers: {set_files: {X-Token: token}}", "headers: {set_files: {X-Token: token2}}", PERHAPS)
        }
        "policies[].allow[].headers.remove" => {
            rule("headers: {remove: [Cookie, X-A]}", "headers: {remove: [Cookie]}", YES)
        }
        "dns.servers" => keys("dns: {}", "dns: {servers: [192.0.2.53]}", PERHAPS),
        "dns.hosts" => {
            keys("dns: {hosts: {a.test: [192.0.2.1]}}", "dns: {hosts: {a.test: [192.0.2.2]}}", PERHAPS)
        }
        "dns.timeout" => keys("dns: {}", "dns: {timeout: 9s}", NO),
        "upstream_proxy.url" => keys("dns: {}", "upstream_proxy: {url: 'http://proxy.corp:3128'}", YES),
        "upstream_proxy.credentials_file" => keys(
            "upstream_proxy: {url: 'https://proxy.corp:3128', credentials_file: cred}",
            "upstream_proxy: {url: 'https://proxy.corp:3128', credentials_file: cred2}",
            PERHAPS,
        ),
        "upstream_proxy.ca" => keys(
            "upstream_proxy: {url: 'https://proxy.corp:3128', ca: ca.crt}",
            "upstream_proxy: {url: 'https://proxy.corp:3128'}",
            PERHAPS,
        ),
        "upstream_proxy.except" => keys(
            "upstream_proxy: {url: 'http://proxy.corp:3128', except: ['*.corp.example']}",
            "upstream_proxy: {url: 'http://proxy.corp:3128', except: ['*.corp.example', 10.0.0.0/8]}",
            PERHAPS,
        ),
        "certificates.roots" => {
            keys("certificates: {roots: system}", "certificates: {roots: ca.crt}", PERHAPS)
        }
        "inspection.certificate" => keys(
            "inspection: {certificate: authority-free.crt, key: authority.key}",
            "inspection: {certificate: authority.crt, key: authority.key}",
            NO,
        ),
        "inspection.key" => keys(
            "inspection: {certificate: authority-free.crt, key: authority.key}",
            "inspection: {certificate: authority-free.crt, key: key.copy}",
            NO,
        ),
        "inspection.leaf_lifetime" => keys(
            "inspection: {certificate: authority-free.crt, key: authority.key}",
            "inspection: {certificate: authority-free.crt, key: authority.key, leaf_lifetime: 2h}",
            NO,
        ),
        "tunnel.connect_timeout" => keys("dns: {}", "tunnel: {connect_timeout: 9s}", NO),
        "tunnel.client_hello_timeout" => keys("dns: {}", "tunnel: {client_hello_timeout: 9s}", NO),
        "tunnel.idle_timeout" => keys("dns: {}", "tunnel: {idle_timeout: 2h}", NO),
        "tunnel.max_lifetime" => keys("tunnel: {max_lifetime: 9h}", "tunnel: {}", YES),
        "tunnel.tcp_user_timeout" => keys("dns: {}", "tunnel: {tcp_user_timeout: 9s}", NO),
        "limits.tunnels" => keys("dns: {}", "limits: {tunnels: 20000}", YES),
        "limits.tunnels_per_client" => keys("dns: {}", "limits: {tunnels_per_client: 2000}", YES),
        "limits.requests_per_second_per_client" => {
            keys("dns: {}", "limits: {requests_per_second_per_client: 300}", YES)
        }
        "limits.head_bytes" => keys("dns: {}", "limits: {head_bytes: 32KiB}", YES),
        "limits.head_timeout" => keys("dns: {}", "limits: {head_timeout: 9s}", NO),
        "limits.memory" => keys("dns: {}", "limits: {memory: 99MiB}", PERHAPS),
        "limits.ipv6_prefix" => keys("limits: {ipv6_prefix: 64}", "limits: {}", YES),
        "limits.budget_accounts" => keys("dns: {}", "limits: {budget_accounts: 99999}", YES),
        "shared_state.url" => keys(
            "shared_state: {url: 'redis://127.0.0.1'}",
            "shared_state: {url: 'redis://127.0.0.2'}",
            PERHAPS,
        ),
        "shared_state.credentials_file" => keys(
            "shared_state: {url: 'redis://127.0.0.1', credentials_file: cred}",
            "shared_state: {url: 'redis://127.0.0.1', credentials_file: cred2}",
            PERHAPS,
        ),
        "shared_state.ca" => keys(
            "shared_state: {url: 'rediss://127.0.0.1', ca: ca.crt}",
            "shared_state: {url: 'rediss://127.0.0.1'}",
            PERHAPS,
        ),
        "shared_state.on_failure" => keys(
            "shared_state: {url: 'redis://127.0.0.1', replicas: 2}",
            "shared_state: {url: 'redis://127.0.0.1', replicas: 2, on_failure: local}",
            YES,
        ),
        "shared_state.replicas" => keys(
            "shared_state: {url: 'redis://127.0.0.1', replicas: 3}",
            "shared_state: {url: 'redis://127.0.0.1', replicas: 2}",
            PERHAPS,
        ),
        "http.remove_request_headers" => keys("dns: {}", "http: {remove_request_headers: [Referer]}", YES),
        "http.response_timeout" => keys("dns: {}", "http: {response_timeout: 9s}", NO),
        "http.keepalive_timeout" => keys("dns: {}", "http: {keepalive_timeout: 9s}", NO),
        "http.stall_timeout" => keys("dns: {}", "http: {stall_timeout: 9s}", NO),
        "access_log.output" => keys("dns: {}", "access_log: {output: access.log}", PERHAPS),
        "access_log.format" => keys("dns: {}", "access_log: {format: squid}", NO),
        "access_log.otlp.endpoint" => keys(
            "access_log: {otlp: {endpoint: 'http://127.0.0.1:4318'}}",
            "access_log: {otlp: {endpoint: 'https://collector:4318'}}",
            PERHAPS,
        ),
        "access_log.otlp.headers_file" => keys(
            "access_log: {otlp: {headers_file: headers}}",
            "access_log: {otlp: {headers_file: headers2}}",
            NO,
        ),
        "access_log.on_failure" => keys("dns: {}", "access_log: {on_failure: continue}", YES),
        "access_log.seal.key" => {
            keys("access_log: {seal: {key: seal.key}}", "access_log: {seal: {key: seal2.key}}", NO)
        }
        "access_log.seal.every" => {
            keys("access_log: {seal: {key: seal.key}}", "access_log: {seal: {key: seal.key, every: 9s}}", NO)
        }
        "log.level" => keys("dns: {}", "log: {level: debug}", NO),
        "log.format" => keys("dns: {}", "log: {format: json}", NO),
        "shutdown.delay" => keys("dns: {}", "shutdown: {delay: 9s}", NO),
        "shutdown.grace_period" => keys("dns: {}", "shutdown: {grace_period: 9s}", NO),
        _ => return None,
    })
}

/// The keys that have no keys in them, as `listeners[].tls.key`.
fn leaves(root: &Value) -> BTreeSet<String> {
    fn walk(schema: &Value, root: &Value, path: &str, into: &mut BTreeSet<String>) -> bool {
        if let Some(pointer) = schema["$ref"].as_str().and_then(|text| text.strip_prefix('#')) {
            return walk(root.pointer(pointer).expect("it points somewhere"), root, path, into);
        }
        let mut has_keys = false;
        for word in ["anyOf", "oneOf"] {
            for one in schema[word].as_array().into_iter().flatten() {
                has_keys |= walk(one, root, path, into);
            }
        }
        for (key, inner) in schema["properties"].as_object().into_iter().flatten() {
            has_keys = true;
            let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            let may_be_text = |one: &Value| one["type"] == "string";
            let either =
                inner["items"]["$ref"].as_str().and_then(|text| root.pointer(text.strip_prefix('#')?));
            let alone = either
                .is_some_and(|one| one["anyOf"].as_array().is_some_and(|all| all.iter().any(may_be_text)));
            if !walk(inner, root, &path, into) || alone {
                into.insert(path);
            }
        }
        if schema["items"].is_object() {
            has_keys |= walk(&schema["items"], root, &format!("{path}[]"), into);
        }
        has_keys
    }
    let mut found = BTreeSet::new();
    walk(root, root, "", &mut found);
    found
}

#[test]
fn an_edit_of_each_key_is_told() {
    let keys = leaves(&config::schema());
    assert!(keys.len() > 100 && keys.contains("listeners[].tls.key"), "{keys:#?}");
    let mut wrong = Vec::new();
    for key in &keys {
        let Some((old, new, opens)) = edit(key) else {
            wrong.push(format!("{key}: say in `edit` what a change of it means"));
            continue;
        };
        let told = changes(&old, &new);
        let marked = told.iter().map(|change| change.opens).max();
        if marked != Some(opens) {
            let lines: Vec<String> = told.iter().map(ToString::to_string).collect();
            wrong.push(format!("{key}: {marked:?}, not {opens:?}: {lines:#?}"));
        }
        assert_eq!(changes(&old, &old), [], "{key}");
        assert_eq!(changes(&new, &new), [], "{key}");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The other way round, what was wider is not: only what is neither, or is not clear, is marked both ways or not at all.
#[test]
fn an_edit_that_is_taken_back_is_not_wider() {
    let mut wrong = Vec::new();
    for key in leaves(&config::schema()) {
        // Another host, policy or content of a file is more and less.
        let both = [
            "policies[].allow[].to",
            "policies[].allow[].set",
            "policies[].allow[].region",
            "policies[].allow[].account",
            "listeners[].tls.client_crl",
        ];
        let Some((old, new, Opens::Yes)) = edit(&key) else { continue };
        if both.contains(&key.as_str()) {
            continue;
        }
        let told = changes(&new, &old);
        if told.is_empty() || told.iter().any(|change| change.opens != NO) {
            let lines: Vec<String> = told.iter().map(ToString::to_string).collect();
            wrong.push(format!("{key}: {lines:#?}"));
        }
    }
    // Without a parent, egressd connects by itself. A fetch is answered otherwise beside a push, and with another limit.
    let unclear = [
        "upstream_proxy.url:",
        "upstream_proxy.except:",
        "].requests[].git:",
        "].requests[].negotiation_limit:",
    ];
    wrong.retain(|line| !unclear.iter().any(|key| line.contains(key)));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_change_of_a_key_says_what_it_was() {
    let rows = [
        (
            "admin: {networks: [10.0.0.0/8]}",
            "admin: {networks: [10.0.0.0/8, 0.0.0.0/0]}",
            "~ wider: admin.networks: widened: +0.0.0.0/0",
        ),
        (
            "dns: {}",
            "upstream_proxy: {url: 'http://proxy.corp:3128', credentials_file: cred}",
            "+ wider: upstream_proxy: added: url http://proxy.corp:3128; except none; credentials_file cred",
        ),
        ("limits: {tunnels: 9000}", "limits: {tunnels: 8000}", "~ limits.tunnels: narrowed: 9000 → 8000"),
        (
            "listeners: [{name: a, address: '10.0.0.1:3128'}]",
            "listeners: [{name: a, address: '0.0.0.0:3128'}]",
            "~ wider: listeners[a].address: widened: 10.0.0.1:3128 → 0.0.0.0:3128",
        ),
        (
            "listeners: [{name: a, address: '10.0.0.1:3128', basic_auth: {users_file: users}}]",
            "listeners: [{name: a, address: '10.0.0.1:3128'}]",
            "- wider: listeners[a].basic_auth: gone: users[alice] a password; users_file users",
        ),
        (
            "dns: {}",
            "access_log: {on_failure: continue}",
            "~ wider: access_log.on_failure: widened: deny → continue",
        ),
        (
            "dns: {}",
            "access_log: {otlp: {endpoint: 'https://collector:4318'}}",
            "+ wider?: access_log.otlp: added: endpoint https://collector:4318",
        ),
        ("dns: {hosts: {a.test: [192.0.2.1]}}", "dns: {}", "- wider?: dns.hosts[a.test]: gone: 192.0.2.1"),
        (
            "certificates: {roots: ca.crt}",
            "certificates: {roots: authority-free.crt}",
            "~ wider?: certificates.roots: changed: ca.crt → authority-free.crt",
        ),
        // What is left out means the default.
        (
            "admin: {}",
            "admin: {address: '0.0.0.0:9180'}\nlimits: {tunnels: 10000}\nlisteners: [{address: '0.0.0.0:3128'}]",
            "",
        ),
    ];
    for (old, new, want) in rows {
        let told: Vec<String> = changes(old, new).iter().map(ToString::to_string).collect();
        assert_eq!(told.join("\n"), want, "{old} | {new}");
    }
}

/// Passwords let fewer clients in, but make a policy for identities one that somebody reaches.
#[test]
fn what_proves_identities_may_open_the_policies_for_them() {
    let policies = "policies: [{name: named, clients: {identities: ['user:alice']}, allow: ['*.a.example']}, \
                    {name: all, allow: [a.example]}]\n";
    let unnamed = "policies: [{name: all, allow: [a.example]}]\n";
    let open = "listeners: [{name: l, address: '127.0.0.1:3128'}]\n";
    let with = |more: &str| open.replace("3128'", &format!("3128', {more}"));
    let tls = "tls: {certificate: proxy.crt, key: proxy.key}";
    let verifying = "tls: {certificate: proxy.crt, key: proxy.key, client_ca: ca.crt}";
    let rows = [
        (open.to_owned(), with("basic_auth: {users_file: users}"), policies, PERHAPS),
        (open.to_owned(), with("basic_auth: {users_file: users}"), unnamed, NO),
        (open.to_owned(), with(tls), policies, NO),
        (open.to_owned(), with(verifying), policies, PERHAPS),
        (with(tls), with(verifying), policies, PERHAPS),
        (with(tls), with(verifying), unnamed, NO),
    ];
    for (old, new, policies, want) in rows {
        let told = changes(&format!("{old}{policies}"), &format!("{new}{policies}"));
        assert_eq!(told.iter().map(|change| change.opens).max(), Some(want), "{old} | {new}: {told:?}");
    }
}
