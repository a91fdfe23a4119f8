//! What a person sees who writes a configuration: every error of every broken file, word for word; and that what
//! ships loads.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use egressd::config::{self, Finding};
use proptest::prelude::*;
use serde_json::Value;

const BROKEN: &str = "tests/config/broken";

/// Loads `name` of the directory of broken files as its users would from inside that directory.
fn load(name: &str) -> Result<config::Loaded, Vec<Finding>> {
    let read = |path: &Path| std::fs::read(Path::new(BROKEN).join(path));
    let content = std::fs::read(Path::new(BROKEN).join(name)).expect("listed just now");
    config::load_bytes(name, &content, read)
}

fn yaml_files(directory: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).expect("the directory is in the repository");
    let mut files: Vec<PathBuf> = entries
        .map(|entry| entry.expect("readable").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .collect();
    files.sort();
    files
}

/// `NAME.yaml` must be refused with the lines of `NAME.expected`. With UPDATE_EXPECTED=1 they are written instead: read
/// the difference before you commit it.
#[test]
fn every_broken_file_is_told_all_its_errors_with_their_places() {
    let files = yaml_files(BROKEN);
    assert!(files.len() >= 40, "{} files", files.len());
    let update = std::env::var_os("UPDATE_EXPECTED").is_some();
    let mut wrong = String::new();
    for path in files {
        let name = path.file_name().and_then(|name| name.to_str()).expect("named in ASCII");
        let findings = match load(name) {
            Err(findings) => findings,
            Ok(_) => panic!("{name} loads"),
        };
        let got: String = findings.iter().map(|finding| format!("{finding}\n")).collect();
        let expected = path.with_extension("expected");
        if update {
            std::fs::write(&expected, &got).expect("the tree is writable");
        }
        let want = std::fs::read_to_string(&expected).unwrap_or_default();
        if got != want {
            wrong += &difference(name, &want, &got);
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

/// The lines that only one side has.
fn difference(name: &str, want: &str, got: &str) -> String {
    let gone = want
        .lines()
        .filter(|line| !got.lines().any(|other| other == *line))
        .map(|line| format!("- {line}\n"));
    let new = got
        .lines()
        .filter(|line| !want.lines().any(|other| other == *line))
        .map(|line| format!("+ {line}\n"));
    let lines: String = gone.chain(new).collect();
    format!("{name}: {}\n{lines}", if lines.is_empty() { "same lines, other order" } else { "" })
}

#[test]
fn the_embedded_default_loads_and_warns_of_its_one_wide_rule() {
    let loaded = config::load(None).expect("the default loads");
    assert!(loaded.config.files.is_empty(), "it names none");
    let told: Vec<String> = loaded.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].starts_with("default:32:9: warning: `*.amazonaws.com` reaches "), "{told:?}");
    assert!(told[0].contains("`git-codecommit.*.amazonaws.com`"), "it says what to write instead: {told:?}");
}

#[test]
fn every_example_loads_and_warns_only_of_what_it_shows_on_purpose() {
    let examples = yaml_files("config/examples");
    assert!(examples.len() >= 4);
    for path in examples {
        let loaded =
            config::load(Some(&path)).unwrap_or_else(|findings| panic!("{}: {findings:?}", path.display()));
        let told: Vec<String> = loaded.warnings.iter().map(ToString::to_string).collect();
        let on_purpose: &[&str] = match path.file_name().and_then(|name| name.to_str()) {
            // A Squid list taken over as it is, plain HTTP included.
            Some("plain-http-mirror.yaml") => {
                &["config/examples/plain-http-mirror.txt:2:1: warning: `.example.com` is wide, and for http"]
            }
            _ => &[],
        };
        assert_eq!(told.len(), on_purpose.len(), "{told:?}");
        assert!(told.iter().zip(on_purpose).all(|(told, want)| told.starts_with(want)), "{told:?}");
    }
}

#[test]
fn a_named_configuration_that_is_missing_is_refused() {
    let findings = config::load(Some(Path::new("no/such.yaml"))).expect_err("there is none");
    let told: Vec<String> = findings.iter().map(ToString::to_string).collect();
    assert_eq!(told, ["no/such.yaml:1:1: error: cannot read it: there is no such file"]);
}

/// Pieces that go together more often than random bytes do.
fn yaml_like() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        Just("policies:\n  - ".to_owned()),
        Just("allow: [".to_owned()),
        Just("allow_files: [f, {file: f, schemes: [http]}]".to_owned()),
        Just("name: p\n    ".to_owned()),
        Just("to: ".to_owned()),
        Just("listeners: [{address: ".to_owned()),
        Just("dns: {hosts: {".to_owned()),
        Just("tunnel: {idle_timeout: ".to_owned()),
        "[\\[\\]{}:,&*!|>'\"%@#~\\-? \n\t]{1,4}",
        "[a-z0-9.*/:]{1,12}",
        "\\PC{0,6}",
    ];
    prop::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat().into_bytes())
}

proptest! {
    #[test]
    fn no_bytes_make_loading_panic(
        content in prop_oneof![prop::collection::vec(any::<u8>(), 0..200), yaml_like()],
        allow_file in prop_oneof![prop::collection::vec(any::<u8>(), 0..100), yaml_like()],
    ) {
        let read = |path: &Path| match path.to_str() {
            Some("f") => Ok(allow_file.clone()),
            _ => Err(io::Error::from(io::ErrorKind::NotFound)),
        };
        let (loaded, findings) = match config::load_bytes("c.yaml", &content, read) {
            Ok(loaded) => (true, loaded.warnings),
            Err(findings) => (false, findings),
        };
        let refused = findings.iter().any(|finding| finding.severity == config::Severity::Error);
        prop_assert_eq!(loaded, !refused, "refused with an error, or not at all");
        for finding in &findings {
            prop_assert!(!finding.to_string().contains(char::is_control), "{finding:?}");
            prop_assert!(finding.line >= 1 && finding.column >= 1);
        }
    }
}

const CONFIGURED: &str = r#"
listeners:
  - {name: proxy, address: 127.0.0.1:3128}
  - {address: "[::1]:3128"}
admin: {address: 127.0.0.1:9180, networks: []}
policies:
  - name: gitaly
    clients: {networks: [10.0.0.0/8]}
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
dns: {servers: ["::1"], hosts: {Git.test: [127.0.0.1, "::1"]}, timeout: 1500ms}
tunnel: {connect_timeout: 1s, client_hello_timeout: 2s, idle_timeout: 3s, max_lifetime: 1h30m, tcp_user_timeout: 4s}
limits: {tunnels: 5, tunnels_per_client: 4, requests_per_second_per_client: 3, head_bytes: 8KiB, head_timeout: 2s}
http: {remove_request_headers: [], response_timeout: 1s, stall_timeout: 2s}
access_log: {output: logs/access.json, on_failure: continue}
log: {level: trace, format: json}
shutdown: {delay: 10s, grace_period: 5m}
"#;

fn lists(path: &Path) -> io::Result<Vec<u8>> {
    match path.to_str() {
        Some("etc/lists/a.txt") => Ok(b"\xef\xbb\xbf# Squid's\r\n.c.example\r\n".to_vec()),
        Some("etc/lists/b.txt") => Ok(b"d.example\ntcp://e.example:22 # with a scheme of its own\n".to_vec()),
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
            head_timeout: seconds(2),
        }
    );
    assert_eq!(
        config.http,
        config::Http {
            remove_request_headers: Vec::new(),
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
        },
        "relative to the configuration"
    );
    let log = config::Log { level: config::LogLevel::Trace, format: config::DiagnosticsFormat::Json };
    assert_eq!(config.log, log);
    assert_eq!(config.shutdown, config::Shutdown { delay: seconds(10), grace_period: seconds(300) });
    let files: Vec<_> = config.files.iter().filter_map(|path| path.to_str()).collect();
    assert_eq!(files, ["etc/egressd.yaml", "etc/lists/a.txt", "etc/lists/b.txt"]);
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
                rule.name(),
                rule.owner(),
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
            "deny x.a.example [https http tcp] etc/egressd.yaml:18 None None None",
        ]
    );
}

#[test]
fn what_is_left_out_is_what_the_default_writes() {
    let left_out = config::load_str("c.yaml", "# nothing but this\n", lists).expect("comments are valid");
    let told: Vec<String> = left_out.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(told, ["c.yaml:1:1: warning: `policies` is left out: every request is denied"]);
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
fn doubts_are_warnings_and_do_not_refuse() {
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
            "2:38: warning: `via` stands in the list twice",
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

/// A listener with every way of knowing a client, and the files it names.
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
fn a_policy_for_nobody_whom_a_listener_can_know_is_told() {
    let policies = "policies: [{name: p, clients: {identities: [\"user:nobody\"]}, allow: [a.example]}]\n";
    let told = |loaded: Result<config::Loaded, Vec<Finding>>| -> Vec<String> {
        let loaded = loaded.unwrap_or_else(|findings| panic!("{findings:?}"));
        loaded.warnings.iter().map(ToString::to_string).collect()
    };
    assert_eq!(
        told(who(policies)),
        ["c.yaml:7:45: warning: no client can be `user:nobody`: the user stands in no users file"]
    );
    let text = "policies:\n- name: p\n  clients:\n    identities: [\"user:a\", \"cn:b\", \"dns:c.example\", \"spiffe://d\"]\n    \
                vpc_endpoints: [vpce-0abc]\n  allow: [a.example]\n";
    let certificates = "no listener asks for client certificates, by `tls` with `client_ca`";
    assert_eq!(
        told(config::load_str("c.yaml", text, lists)),
        [
            "c.yaml:4:18: warning: no client can be `user:a`: no listener asks for passwords, by `basic_auth`".to_owned(),
            format!("c.yaml:4:28: warning: no client can be `cn:b`: {certificates}"),
            format!("c.yaml:4:36: warning: no client can be `dns:c.example`: {certificates}"),
            format!("c.yaml:4:53: warning: no client can be `spiffe://d`: {certificates}"),
            "c.yaml:5:21: warning: no client can come by `vpce-0abc`: a load balancer tells the endpoint in its PROXY v2 \
             header, and no listener has `proxy_protocol`"
                .to_owned(),
        ]
    );
}

#[test]
fn what_lets_anybody_be_anybody_is_told() {
    let rows = [
        (
            "{address: 10.0.0.1:3128, basic_auth: {users_file: users}}",
            Some("2:40: warning: passwords come in clear: give the listener `tls` too"),
        ),
        ("{address: 127.0.0.1:3128, basic_auth: {users_file: users}}", None),
        (
            "{address: 10.0.0.1:3128, proxy_protocol: {trusted: [10.0.0.0/8, 0.0.0.0/0]}}",
            Some("2:67: warning: everybody is trusted, so anybody can claim any client's address"),
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
fn a_list_of_comments_alone_allows_nothing_and_is_told() {
    let text = "policies: [{name: p, allow_files: [list.txt]}]\n";
    let loaded = config::load_str("c.yaml", text, |_: &Path| Ok(b"# all gone\n".to_vec())).expect("valid");
    let told: Vec<String> = loaded.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        [
            "c.yaml:1:12: warning: the policy `p` allows nothing: it denies every request",
            "list.txt:1:1: warning: the file holds comments alone: it allows nothing",
        ]
    );
    assert_eq!(loaded.config.policies.rules().count(), 0);
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

/// A validator of the few words of JSON Schema that the schema uses; any other word fails the test, so that none is
/// passed over in silence.
fn validate(schema: &Value, root: &Value, value: &Value) -> Result<(), String> {
    let Value::Object(words) = schema else { return Ok(()) };
    for (word, wanted) in words {
        let fits = match word.as_str() {
            "$schema" | "$defs" | "title" | "description" | "examples" | "format" => true,
            // Tested where the text is parsed; the schema's patterns are for editors.
            "pattern" | "minLength" | "maxLength" => true,
            "$ref" => {
                let pointer = wanted.as_str().and_then(|text| text.strip_prefix('#')).unwrap_or_default();
                validate(root.pointer(pointer).ok_or("a dangling $ref")?, root, value).map(|()| true)?
            }
            "type" => {
                let fits = |kind: &Value| match kind.as_str() {
                    Some("object") => value.is_object(),
                    Some("array") => value.is_array(),
                    Some("string") => value.is_string(),
                    Some("integer") => value.is_u64(),
                    Some("boolean") => value.is_boolean(),
                    _ => false,
                };
                wanted.as_array().map_or_else(|| fits(wanted), |kinds| kinds.iter().any(fits))
            }
            "minimum" => value.as_u64().zip(wanted.as_u64()).is_none_or(|(value, least)| value >= least),
            "maximum" => value.as_u64().zip(wanted.as_u64()).is_none_or(|(value, most)| value <= most),
            "const" => value == wanted,
            "enum" => wanted.as_array().is_some_and(|values| values.contains(value)),
            "anyOf" | "oneOf" => {
                wanted.as_array().into_iter().flatten().any(|schema| validate(schema, root, value).is_ok())
            }
            "items" => {
                for item in value.as_array().into_iter().flatten() {
                    validate(wanted, root, item)?;
                }
                true
            }
            "required" => wanted
                .as_array()
                .into_iter()
                .flatten()
                .all(|key| key.as_str().is_some_and(|key| value.get(key).is_some())),
            "properties" | "additionalProperties" => true,
            other => return Err(format!("the schema uses `{other}`")),
        };
        if !fits {
            return Err(format!("{value} does not fit {word}: {wanted}"));
        }
    }
    for (key, inner) in value.as_object().into_iter().flatten() {
        let known = words.get("properties").and_then(|properties| properties.get(key));
        match known.or(words.get("additionalProperties")) {
            Some(Value::Bool(false)) => return Err(format!("unknown key {key}")),
            Some(schema) => validate(schema, root, inner).map_err(|error| format!("{key}: {error}"))?,
            None => {}
        }
    }
    Ok(())
}

fn yaml(text: &str) -> Value {
    serde_saphyr::from_str(text).expect("valid YAML")
}

#[test]
fn the_schema_accepts_what_ships_and_knows_every_key() {
    let schema = config::schema();
    let examples = yaml_files("config/examples");
    for path in examples.iter().map(PathBuf::as_path).chain([Path::new("config/egressd.yaml")]) {
        let text = std::fs::read_to_string(path).expect("readable");
        validate(&schema, &schema, &yaml(&text))
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
    validate(&schema, &schema, &yaml(CONFIGURED)).expect("every key is known");
    for wrong in [
        "listners: []",
        "listeners: [{name: proxy}]",
        "listeners: ",
        "policies: [{name: p, mode: off}]",
        "policies: [{name: p, allow: [{to: a.example, expire: 2027-03-31}]}]",
        "policies: [{name: p, allow_files: [{schemes: [https]}]}]",
        "limits: {tunnels: 0}",
        "tunnel: {idle_timeout: 10}",
    ] {
        assert!(validate(&schema, &schema, &yaml(wrong)).is_err(), "{wrong}");
    }
}

#[test]
fn the_schema_nowhere_accepts_a_key_without_a_value() {
    assert!(!config::schema().to_string().contains("null"));
}
