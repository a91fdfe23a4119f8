//! The outputs, read back by the rules of their readers.

use std::process::Command;

use clap::ValueEnum as _;
use proptest::prelude::*;
use serde_json::Value;

use super::formats::Format;
use super::variables::{ProxyUrl, Settings, Trust, Variable};
use super::{Exceptions, ruby};

fn settings(via: &str, no_proxy: &[&str], credentials: Option<(&str, &str)>, root: Option<&str>) -> Settings {
    let credentials = credentials.map(|(user, password)| (user.to_owned(), password.to_owned()));
    let proxy = ProxyUrl::parse(via, credentials).expect("a URL");
    let added: Vec<String> = no_proxy.iter().map(ToString::to_string).collect();
    let exceptions = Exceptions::new(&proxy.host, &added).expect("entries");
    let trust = root.map(|root| Trust { root: root.to_owned(), bundle: format!("{root}.all") });
    Settings { proxy, exceptions, trust }
}

fn value(settings: &Settings, name: &str) -> Option<String> {
    settings.all().into_iter().find(|variable| variable.name == name).map(|variable| variable.value)
}

#[test]
fn both_letter_cases_name_the_proxy_and_what_needs_none() {
    let plain =
        settings("http://egressd.corp.example:3128", &["gitlab.corp.example", "*.corp.example"], None, None);
    for name in ["http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"] {
        assert_eq!(value(&plain, name).as_deref(), Some("http://egressd.corp.example:3128"), "{name}");
    }
    let list = "localhost,127.0.0.1,::1,[::1],169.254.169.254,169.254.170.2,169.254.170.23,\
                fd00:ec2::254,[fd00:ec2::254],fd00:ec2::23,[fd00:ec2::23],metadata.google.internal,.svc,.cluster.local,\
                egressd.corp.example,gitlab.corp.example,.corp.example";
    for name in ["no_proxy", "NO_PROXY"] {
        assert_eq!(value(&plain, name).as_deref(), Some(list), "{name}");
    }
    assert_eq!(value(&plain, "NODE_USE_ENV_PROXY").as_deref(), Some("1"));
    assert_eq!(value(&plain, "SSL_CERT_FILE"), None, "nothing inspects");
}

#[test]
fn a_socket_is_named_by_its_path() {
    let url = "socks5h://localhost/run/egressd/proxy.sock";
    let socket = settings(url, &[], None, None);
    for name in ["https_proxy", "ALL_PROXY"] {
        assert_eq!(value(&socket, name).as_deref(), Some(url), "{name}");
    }
    for name in ["JAVA_TOOL_OPTIONS", "GIT_SSH_COMMAND", "NODE_USE_ENV_PROXY"] {
        assert_eq!(value(&socket, name), None, "{name} cannot name it");
    }
    let user = settings(url, &[], Some(("git", "a/b")), None);
    let want = "socks5h://git:a%2Fb@localhost/run/egressd/proxy.sock";
    assert_eq!(value(&user, "https_proxy").as_deref(), Some(want));
    assert_eq!(user.proxy.url_without_password(), url);
    let by_http = ProxyUrl::parse("unix:/run/egressd/proxy.sock", None).expect("a socket");
    assert_eq!(by_http.url(), "unix:/run/egressd/proxy.sock");
    for wrong in ["unix:run/x", "unix:/run/a b", "socks5h://localhost/run/%2e", "unix:/run/x?y"] {
        let told = ProxyUrl::parse(wrong, None).expect_err(wrong);
        assert!(told.contains("write an absolute one"), "{told}");
    }
}

#[test]
fn clients_of_socks_leave_names_to_the_proxy() {
    let socks = settings("socks5h://egressd.corp.example:1080", &[".corp.example"], None, None);
    for name in ["http_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"] {
        assert_eq!(value(&socks, name).as_deref(), Some("socks5h://egressd.corp.example:1080"), "{name}");
    }
    let java = value(&socks, "JAVA_TOOL_OPTIONS").expect("in the clear");
    assert!(
        java.starts_with("-DsocksProxyHost=egressd.corp.example -DsocksProxyPort=1080 -DsocksNonProxyHosts="),
        "{java}"
    );
    let ssh = value(&socks, "GIT_SSH_COMMAND").expect("in the clear");
    assert!(ssh.contains("exec nc -X 5 -x egressd.corp.example:1080 %h %p"), "{ssh}");
    assert_eq!(value(&socks, "NODE_USE_ENV_PROXY"), None);
    let told = ProxyUrl::parse("socks5://egressd.corp.example:1080", None).expect_err("it sends addresses");
    assert!(told.contains("write socks5h://"), "{told}");
    let plain = settings("http://egressd.corp.example:3128", &[], None, None);
    assert_eq!(value(&plain, "all_proxy"), None);
}

#[test]
fn java_gets_the_same_exceptions_in_its_own_spelling() {
    let added = ["10.0.0.0/8", "192.168.4.0/22", "10.1.2.3", ".corp.example", "localhost"];
    let options = value(&settings("http://[fd00::7]:3128", &added, None, None), "JAVA_TOOL_OPTIONS");
    let options = options.expect("for a proxy in the clear");
    let properties: Vec<&str> = options.split(' ').collect();
    assert_eq!(
        properties,
        [
            "-Dhttp.proxyHost=fd00::7",
            "-Dhttp.proxyPort=3128",
            "-Dhttps.proxyHost=fd00::7",
            "-Dhttps.proxyPort=3128",
            "-Dhttp.nonProxyHosts=localhost|*.localhost|127.*|[::1]|169.254.169.254|169.254.170.2|169.254.170.23|\
             [fd00:ec2::254]|[fd00:ec2::23]|metadata.google.internal|*.metadata.google.internal|*.svc|*.cluster.local|\
             [fd00::7]|10.*|10.1.2.3|*.corp.example",
        ]
    );
    let exceptions = settings("http://p:1", &added, None, None).exceptions;
    assert_eq!(exceptions.untold(), ["192.168.4.0/22"], "which Java cannot be told of");
}

#[test]
fn an_entry_that_clients_would_read_in_different_ways_is_refused_with_what_to_write() {
    for (entry, words) in [
        ("*", "every host"),
        ("", "no host"),
        ("a.example:8080", "write the host alone"),
        ("10.0.0.0/40", "10.0.0.0/8"),
        ("a b", "not a letter"),
        ("a|b", "not a letter"),
        ("git-*.corp", "write `.corp.example`"),
        ("https://gitlab.example.com/", "write `gitlab.example.com`"),
        ("http://10.0.0.7:8080/x", "write `10.0.0.7`"),
        ("gitlab.example.com/x", "write `gitlab.example.com`"),
        ("git@gitlab.example.com:a/b.git", "write `gitlab.example.com`"),
        ("me@gitlab.example.com", "write `gitlab.example.com`"),
        ("x/y/z", "write `x`"),
        ("*.a.*", "write `.corp.example`"),
        ("$(id)", "not a letter"),
        ("10.1", "four decimal numbers"),
    ] {
        let proxy = ProxyUrl::parse("http://p:1", None).expect("a URL");
        let told = Exceptions::new(&proxy.host, &[entry.to_owned()]).expect_err(entry);
        assert!(told.starts_with("--no-proxy: ") && told.contains(words), "{told}");
    }
}

#[test]
fn a_proxy_that_is_no_url_is_told_with_the_url_to_write() {
    for (url, words) in [
        ("p.example:3128", "`p.example:3128` has no scheme: write http://p.example:3128"),
        ("p.example", "`p.example` has no scheme: write http://p.example:PORT"),
        ("//p.example:3128", "has no scheme: write http://PROXY:PORT"),
        ("http://p.example", "the port is missing: write http://p.example:PORT"),
        ("https://p.example/", "the port is missing: write https://p.example:PORT"),
        ("http://p.example/x", "the port is missing: write http://p.example:PORT"),
        ("http://p.example:3128/x", "a proxy's URL ends with its port: write http://p.example:3128"),
        ("http://p.example:3128?x", "a proxy's URL ends with its port: write http://p.example:3128"),
        ("http://p.example:0", "is not a valid proxy: the port is not"),
        ("ftp://p.example:3128", "begins with http://, https:// or socks5h://"),
    ] {
        let told = ProxyUrl::parse(url, None).expect_err(url);
        assert!(told.starts_with("--via: ") && told.contains(words), "{told}");
    }
}

#[test]
fn a_proxy_with_tls_or_a_password_gets_only_what_works() {
    let tls = settings("https://p.example:3129", &[], None, None);
    assert_eq!(value(&tls, "https_proxy").as_deref(), Some("https://p.example:3129"));
    assert!(value(&tls, "JAVA_TOOL_OPTIONS").is_none() && value(&tls, "GIT_SSH_COMMAND").is_none());
    let password = settings("http://p.example:3128", &[], Some(("git:aly", "p@ss:w/rd$'\" %")), None);
    let url = "http://git%3Aaly:p%40ss%3Aw%2Frd%24%27%22%20%25@p.example:3128";
    assert_eq!(value(&password, "http_proxy").as_deref(), Some(url));
    assert!(value(&password, "GIT_SSH_COMMAND").is_none());
    let java = value(&password, "JAVA_TOOL_OPTIONS").expect("in the clear");
    assert!(java.ends_with(" -Djdk.http.auth.tunneling.disabledSchemes="), "{java}");
}

#[test]
fn ssh_goes_direct_to_the_exceptions_alone() {
    let ssh =
        value(&settings("http://p.corp:3128", &[".corp", "10.1.0.0/16"], None, None), "GIT_SSH_COMMAND");
    let ssh = ssh.expect("in the clear");
    // What ssh hands to the shell.
    let command =
        ssh.strip_prefix("ssh -o \"ProxyCommand=").and_then(|rest| rest.strip_suffix('"')).expect(&ssh);
    for (host, direct) in [
        ("github.com", false),
        ("git.corp", true),
        ("corp", false),
        ("xcorp", false),
        ("localhost", true),
        ("127.0.0.1", true),
        ("10.1.2.3", true),
        ("10.2.2.3", false),
        ("a.b.svc", true),
        ("169.254.169.254", false),
    ] {
        let run = command.replace("%h", host).replace("%p", "22").replace("exec nc", "echo nc");
        let ran = Command::new("sh").args(["-c", &format!("exec {run}")]).output().expect("sh");
        let want = if direct {
            format!("nc {host} 22\n")
        } else {
            format!("nc -X connect -x p.corp:3128 {host} 22\n")
        };
        assert_eq!(String::from_utf8_lossy(&ran.stdout), want, "{ssh}");
    }
}

/// Every variable of an output, as the reader of that format gets it.
fn read_back(format: Format, text: &str) -> Vec<(String, String)> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let pair = |line: &str| line.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
    match format {
        Format::Shell => by_shell(text),
        Format::Dotenv => lines.filter_map(pair).map(|(name, value)| (name, by_dotenv(&value))).collect(),
        Format::Docker => lines.filter_map(pair).collect(),
        Format::Systemd => {
            let settings = lines.filter_map(|line| line.strip_prefix("Environment="));
            settings.filter_map(|setting| pair(&by_systemd(setting))).collect()
        }
        Format::Kubernetes => {
            let items = text.split("  - name: ").skip(1);
            let of = |item: &str| {
                let (name, value) = item.trim_end().split_once("\n    value: ").expect(item);
                (name.to_owned(), by_kubernetes(&json(value)))
            };
            items.map(of).collect()
        }
        Format::GitlabCi => {
            let (_, items) = text.split_once("variables:\n").expect(text);
            let mut found = Vec::new();
            let mut lines = items.lines().peekable();
            while let Some(line) = lines.next() {
                let (name, value) = line.trim_start().split_once(':').expect(line);
                if !value.is_empty() {
                    found.push((name.to_owned(), by_gitlab(&json(value.trim_start()))));
                    continue;
                }
                let value = lines.next().and_then(|line| line.strip_prefix("    value: ")).expect(text);
                assert_eq!(lines.next(), Some("    expand: false"), "{text}");
                found.push((name.to_owned(), json(value)));
            }
            found
        }
        Format::GitlabRb => {
            let hash = lines.filter_map(|line| line.trim().strip_suffix(',')?.split_once(" => "));
            hash.map(|(name, value)| (by_ruby(name), by_ruby(value))).collect()
        }
    }
}

fn json(text: &str) -> String {
    match serde_json::from_str(text) {
        Ok(Value::String(text)) => text,
        other => panic!("{text}: {other:?}"),
    }
}

/// A real shell, which must print nothing else.
fn by_shell(text: &str) -> Vec<(String, String)> {
    let names: Vec<&str> =
        text.lines().filter_map(|line| Some(line.strip_prefix("export ")?.split_once('=')?.0)).collect();
    let print: String = names.iter().map(|name| format!("printf '%s\\0' \"${name}\"\n")).collect();
    let ran = Command::new("sh").args(["-c", &(text.to_owned() + &print)]).output().expect("sh");
    assert!(ran.status.success() && ran.stderr.is_empty(), "{ran:?}");
    let printed = String::from_utf8(ran.stdout).expect("UTF-8");
    names
        .iter()
        .zip(printed.split('\0'))
        .map(|(name, value)| ((*name).to_owned(), value.to_owned()))
        .collect()
}

/// What all readers of `.env` agree on: nothing is put in or taken out between single quotes.
fn by_dotenv(value: &str) -> String {
    let Some(inner) = value.strip_prefix('\'') else {
        assert!(!value.contains([' ', '#', '"', '\'', '\\', '$', '`']), "{value}");
        return value.to_owned();
    };
    let inner = inner.strip_suffix('\'').expect(value);
    assert!(!inner.contains(['\'', '\\']) && !inner.contains("${"), "{value}");
    inner.to_owned()
}

/// systemd.exec(5) and systemd.syntax(7): one word in double quotes, C escapes in it, then specifiers.
fn by_systemd(setting: &str) -> String {
    let mut characters =
        setting.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).expect(setting).chars();
    let mut word = String::new();
    while let Some(character) = characters.next() {
        match character {
            '\\' => word.push(characters.next().filter(|next| matches!(next, '\\' | '"')).expect(setting)),
            '"' => panic!("the word ends early: {setting}"),
            '%' => {
                assert_eq!(characters.next(), Some('%'), "a specifier: {setting}");
                word.push('%');
            }
            other => word.push(other),
        }
    }
    word
}

/// Kubernetes puts variables in for `$(NAME)`, and takes `$$` for `$`.
fn by_kubernetes(value: &str) -> String {
    let mut out = String::new();
    let mut rest = value;
    while let Some((before, after)) = rest.split_once('$') {
        out += before;
        if let Some(after) = after.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some((name, after)) = after.strip_prefix('(').and_then(|after| after.split_once(')')) {
            assert_eq!(name, "KUBERNETES_SERVICE_HOST", "{value}");
            out += "10.100.0.1";
            rest = after;
        } else {
            out.push('$');
            rest = after;
        }
    }
    out + rest
}

/// GitLab puts variables in for `$NAME`, `${NAME}` and `%NAME%` unless it is told not to.
fn by_gitlab(value: &str) -> String {
    assert!(!value.contains(['$', '%']), "GitLab would expand {value}");
    value.to_owned()
}

/// Between single quotes Ruby knows `\\` and `\'` alone.
fn by_ruby(text: &str) -> String {
    let inner = text.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\'')).expect(text);
    let mut out = String::new();
    let mut characters = inner.chars().peekable();
    while let Some(character) = characters.next() {
        assert_ne!(character, '\'', "the string ends early: {text}");
        match (character, characters.peek()) {
            ('\\', Some('\\' | '\'')) => out.extend(characters.next()),
            _ => out.push(character),
        }
    }
    out
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    /// A path may have any character but control characters; the password stands in the URL.
    #[test]
    fn every_format_gives_its_reader_exactly_the_values(
        root in r##"[ -~äß€]{0,6}[$\\'"`%# ({})]{0,3}[ -~]{1,6}"##,
        password in "[ -~äß€]{1,12}",
        with_password in any::<bool>(),
    ) {
        let credentials = with_password.then_some(("gitaly", password.as_str()));
        let settings = settings("http://proxy.example:3128", &["git.corp.example", "10.0.0.0/8"], credentials, Some(&root));
        for format in Format::value_variants() {
            let text = match format.print(&settings) {
                Ok(text) => text,
                // These two say so where their readers disagree.
                Err(why) => {
                    prop_assert!(why.starts_with("--for dotenv: ") || why.starts_with("--for docker: "), "{}", why);
                    continue;
                }
            };
            let wanted = if *format == Format::GitlabRb { settings.proxies() } else { settings.all() };
            let in_pod = |name: &str| *format == Format::Kubernetes && matches!(name, "no_proxy" | "NO_PROXY");
            let wanted: Vec<(String, String)> = wanted
                .into_iter()
                .map(|Variable { name, value }| {
                    (name.to_owned(), if in_pod(name) { value + ",10.100.0.1" } else { value })
                })
                .collect();
            prop_assert_eq!(read_back(*format, &text), wanted, "{:?}: {}", format, text);
        }
        prop_assert_eq!(by_ruby(&ruby(&root)), root);
    }
}
