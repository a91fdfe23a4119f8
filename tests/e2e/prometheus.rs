//! A real Prometheus with three replicas: its linter on a live scrape, the tests of the alerts, and every query of dashboard
//! and alerts through its API.

use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Stdio;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{
    Authority, DEADLINE, Egressd, Origin, Wire, config, directory, own_loopback, read, until, write,
};
use crate::tool::{Daemon, Ran, isolate, tool};

const RULE: &str = "k8s/components/monitoring/prometheusrule.yaml";
const DASHBOARD: &str = "k8s/components/monitoring/dashboard.json";

struct Prometheus {
    address: SocketAddr,
    daemon: Daemon,
    _home: TempDir,
}

impl Prometheus {
    fn start(replicas: &[Egressd]) -> Self {
        let home = directory();
        let targets: Vec<Value> = replicas
            .iter()
            .zip(["a", "b", "c"])
            .map(|(replica, pod)| {
                // Labels as a PodMonitor sets them.
                json!({"targets": [replica.admin().to_string()], "labels": {"namespace": "egressd", "pod": pod}})
            })
            .collect();
        let config = json!({
            "global": {"scrape_interval": "500ms", "scrape_timeout": "500ms"},
            "scrape_configs": [{"job_name": "egressd", "static_configs": targets}],
        });
        write(&home.path().join("prometheus.yml"), config.to_string());
        let address = SocketAddr::from((own_loopback(), 9090));
        let mut command = tool("prometheus", home.path());
        command.arg(format!("--config.file={}", home.path().join("prometheus.yml").display()));
        command.arg(format!("--storage.tsdb.path={}", home.path().join("data").display()));
        command.arg(format!("--web.listen-address={address}")).arg("--log.level=error").stdout(Stdio::null());
        let mut prometheus = Prometheus { address, daemon: Daemon::start(&mut command), _home: home };
        until("Prometheus", || {
            prometheus.daemon.assert_alive();
            TcpStream::connect_timeout(&address, DEADLINE).ok()?;
            (prometheus.get("/-/ready").0 == 200).then_some(())
        });
        prometheus
    }

    fn get(&self, path: &str) -> (u16, String) {
        let mut wire = Wire::connect(self.address);
        wire.send(format!("GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.address));
        let reply = wire.read_reply();
        (reply.status, reply.body)
    }

    /// The series that an expression gives now.
    ///
    /// # Errors
    /// What Prometheus says about a wrong expression.
    fn query(&self, expression: &str) -> Result<Vec<Value>, String> {
        let (status, body) = self.get(&format!("/api/v1/query?query={}", encoded(expression)));
        let mut answer: Value = serde_json::from_str(&body).map_err(|error| format!("{error}: {body}"))?;
        if status != 200 {
            return Err(body);
        }
        match answer["data"]["result"].take() {
            Value::Array(series) => Ok(series),
            other => Err(format!("no series but {other}")),
        }
    }
}

/// The text in %-encoding, for a query.
fn encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

fn alerts() -> Vec<Value> {
    let rule: Value = serde_saphyr::from_str(&read(Path::new(RULE))).expect("YAML");
    let groups = rule["spec"]["groups"].as_array().expect("groups").iter();
    groups.flat_map(|group| group["rules"].as_array().expect("rules").clone()).collect()
}

/// Each query of the dashboard with its panel.
fn dashboard_queries() -> Vec<(String, String)> {
    let dashboard: Value = serde_json::from_str(&read(Path::new(DASHBOARD))).expect("JSON");
    let mut queries = Vec::new();
    let mut add = |of: &Value, title: &Value| {
        let expression = of["expr"].as_str().unwrap_or_else(|| panic!("{title} has no query"));
        let expression = [("$__rate_interval", "1m"), ("$namespace", ".*"), ("$policy", ".*")]
            .iter()
            .fold(expression.to_owned(), |text, (name, value)| text.replace(name, value));
        assert!(!expression.contains('$'), "an unknown variable in {expression}");
        queries.push((title.as_str().expect("a title").to_owned(), expression));
    };
    for panel in dashboard["panels"].as_array().expect("panels") {
        if panel["type"] != "row" {
            for target in panel["targets"].as_array().expect("targets") {
                add(target, &panel["title"]);
            }
        }
    }
    for annotation in dashboard["annotations"]["list"].as_array().expect("annotations") {
        add(annotation, &annotation["name"]);
    }
    queries
}

/// Replicas with every kind of listener, rule and log that has its own series.
fn replicas(origin: &Origin, authority: &Authority) -> Vec<Egressd> {
    let (issued, list) = (authority.issue(&["127.0.0.1"]), authority.crl(&[]));
    ["one", "two", "three"]
        .iter()
        .map(|_| {
            let directory = directory();
            write(&directory.path().join("tls.crt"), &issued.pem);
            write(&directory.path().join("tls.key"), &issued.key_pem);
            write(&directory.path().join("ca.crt"), authority.pem());
            write(&directory.path().join("ca.crl"), &list);
            write(&directory.path().join("inspection.crt"), include_bytes!("../lint/files/authority.crt"));
            write(&directory.path().join("inspection.key"), include_bytes!("../lint/files/authority.key"));
            write(&directory.path().join("seal.key"), include_bytes!("../lint/files/seal.key"));
            // The password is "pw".
            write(
                &directory.path().join("users"),
                "gitaly:$2y$05$6TxDxf4gFGk0yHPZSRU0p.i.VlGKKZmP65vKWXcKNpHo7eEYWxZMS\n",
            );
            let text = config(&[
                &format!("{{to: \"tcp://127.0.0.1:{}\", name: echo, expires: 2100-01-01}}", origin.port()),
                "tcp://127.0.0.1:1",
                "tcp://192.168.0.1:443",
                "nobody.test",
                &format!("http://inside.test:{}", origin.port()),
            ])
            .replace(
                "listeners: [{name: proxy, address: 127.0.0.1:0}]",
                "listeners:\n  - {name: proxy, address: 127.0.0.1:0}\n  - {name: secret, address: 127.0.0.1:0, tls: {certificate: \
                 tls.crt, key: tls.key}}\n  - {name: mutual, address: 127.0.0.1:0, tls: {certificate: tls.crt, key: tls.key, \
                 client_ca: ca.crt, client_crl: ca.crl}}\n  - {name: known, address: 127.0.0.1:0, basic_auth: {users_file: users}}",
            ) + &format!(
                "  - name: trial\n    mode: report\n    clients: {{networks: [127.0.0.0/8]}}\n    private: [127.0.0.0/8]\n    allow: [\"tcp://127.0.0.1:{}\"]\n",
                origin.port()
            ) + "dns: {hosts: {nobody.test: [127.0.0.1], inside.test: [127.0.0.1]}}\n\
                inspection: {certificate: inspection.crt, key: inspection.key}\n\
                access_log: {output: access.log, seal: {key: seal.key, every: 1s}}\n";
            // The first policy is only for 127.0.0.1: the policy in report mode decides requests from elsewhere.
            let text = text.replacen("    private:", "    clients: {networks: [127.0.0.1/32]}\n    private:", 1);
            Egressd::start_in(directory, &text)
        })
        .collect()
}

/// Causes at least one of everything that is counted.
fn traffic(replica: &Egressd, origin: &Origin) {
    let authority = origin.address().to_string();
    let ask = |address: SocketAddr, request: String| {
        let mut wire = Wire::connect(address);
        wire.send(request);
        wire.read_to_end();
    };
    let connect = |target: &str| format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n");
    let mut tunnel = replica.tunnel(&authority);
    tunnel.send("ping");
    assert_eq!(tunnel.read_exact(4), b"ping");
    tunnel.finish();
    tunnel.read_to_end();
    for target in ["denied.test:443", "127.0.0.1:1", "192.168.0.1:443", "nobody.test:443"] {
        ask(replica.address(), connect(target));
    }
    // A request inside a tunnel.
    let mut inside = replica.tunnel(&format!("inside.test:{}", origin.port()));
    inside.send("GET / HTTP/1.1\r\nHost: other.test\r\n\r\n");
    inside.read_to_end();
    // A probe, and a client without its credentials.
    replica.connect().finish();
    ask(replica.listener("secret"), "no TLS\r\n\r\n".to_owned());
    let mut known = Wire::connect(replica.listener("known"));
    known.send(connect(&authority));
    assert_eq!(known.read_reply().status, 407);
    // Report mode: from another address of this machine.
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    socket.bind(&SocketAddr::from(([127, 0, 0, 2], 0)).into()).expect("a loopback address");
    socket.connect(&replica.address().into()).expect("the listener");
    let mut trial = Wire::over(socket.into());
    trial.send(connect("127.0.0.1:1"));
    trial.read_to_end();
}

#[test]
fn every_query_is_answered_by_a_prometheus_that_scrapes_three_replicas() {
    let origin = Origin::echo();
    let authority = Authority::new();
    let replicas = replicas(&origin, &authority);
    let prometheus = Prometheus::start(&replicas);
    until("three replicas to be up", || {
        (prometheus.query("sum(up)").ok()?.first()?["value"][1] == "3").then_some(())
    });
    for replica in &replicas {
        traffic(replica, &origin);
    }
    // Rates need two samples that both have all series, with changes between them.
    until("the requests to be scraped", || {
        let series = prometheus
            .query("min(count_over_time(egressd_requests_total{reason=\"host_not_allowed\"}[1m]))")
            .ok()?;
        series.first()?["value"][1].as_str()?.parse::<f64>().ok().filter(|count| *count >= 3.0)
    });
    let held: Vec<Wire> =
        replicas.iter().map(|replica| replica.tunnel(&origin.address().to_string())).collect();
    for replica in &replicas {
        traffic(replica, &origin);
    }
    until("what came then to be scraped", || {
        let series =
            prometheus.query("sum(increase(egressd_tunnels_total{ending=\"client_closed\"}[1m]))").ok()?;
        series.first()?["value"][1].as_str()?.parse::<f64>().ok().filter(|count| *count > 0.0)
    });

    for (title, expression) in dashboard_queries() {
        until(&format!("series of the panel {title:?} with values: {expression}"), || {
            let series = prometheus
                .query(&expression)
                .unwrap_or_else(|error| panic!("{title}: {expression}: {error}"));
            let is_told = |series: &Value| {
                let value = series["value"][1].as_str().unwrap_or_default();
                // Results that did not occur have no quantile.
                let quiet = value == "NaN" && expression.contains("histogram_quantile");
                quiet || value.parse::<f64>().is_ok_and(f64::is_finite)
            };
            // The annotation has samples only if a configuration has just changed.
            let some = !series.is_empty() || title.starts_with("A configuration");
            (some && series.iter().all(is_told)).then_some(())
        });
    }
    for alert in alerts() {
        let expression = alert["expr"].as_str().expect("an expression");
        let series = prometheus.query(expression).unwrap_or_else(|error| panic!("{expression}: {error}"));
        // Three healthy replicas: each saw too few denials for an alert. Unreachable targets cause an alert, and so does the policy in
        // report mode, if it stays there.
        if alert["alert"] == "EgressdReportMode" {
            assert_eq!(series.len(), 1, "{series:?}");
            assert_eq!(series[0]["metric"]["policy"], "trial");
        } else if alert["alert"] != "EgressdErrors" {
            assert_eq!(series, Vec::<Value>::new(), "{}", alert["alert"]);
        }
    }

    // Every documented name is there, with a sample, and the linter finds nothing.
    let mut missing: BTreeSet<String> = documented();
    for replica in &replicas {
        let scrape = replica.get("/metrics");
        let home = directory();
        let file = home.path().join("scrape");
        write(&file, &scrape.body);
        let mut promtool = tool("promtool", home.path());
        promtool.args(["check", "metrics"]).stdin(std::fs::File::open(&file).expect("just written"));
        let ran = Ran::of(&mut promtool);
        assert_eq!(
            (ran.code, ran.stdout.as_str(), ran.stderr.as_str()),
            (Some(0), "", ""),
            "promtool check metrics"
        );
        missing.retain(|name| {
            !["", "_count"].iter().any(|end| {
                scrape.body.lines().any(|line| {
                    line.strip_prefix(&format!("{name}{end}"))
                        .is_some_and(|rest| rest.starts_with(['{', ' ']))
                })
            })
        });
    }
    // Nobody pushed through them, no collector gets a copy of their records, and each counts budgets by itself.
    let unused = ["egressd_git_ref_changes_total", "egressd_otlp_records_total", "egressd_shared_state_up"]
        .map(str::to_owned);
    assert_eq!(missing, BTreeSet::from(unused), "in docs/metrics.md and in no scrape");
    for (name, label, values) in [
        ("egressd_requests_total", "decision", ["allow", "deny", "would_deny"].as_slice()),
        (
            "egressd_requests_total",
            "reason",
            &["", "host_not_allowed", "connect_refused", "address_prohibited"],
        ),
        ("egressd_connections_total", "result", &["accepted", "probe", "tls_failed"]),
        ("egressd_bytes_total", "direction", &["sent", "received"]),
    ] {
        let metrics = replicas[0].metrics();
        for value in values {
            assert!(metrics.sum(name, &[(label, value)]) > 0.0, "{name}{{{label}={value:?}}}");
        }
    }
    assert!(replicas[0].metrics().sum("egressd_auth_challenges_total", &[]) > 0.0);
    drop(held);
}

/// The names in the first column of the table in docs/metrics.md.
fn documented() -> BTreeSet<String> {
    let page = read(Path::new("docs/metrics.md"));
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `egressd_"));
    rows.map(|rest| format!("egressd_{}", rest.split('`').next().unwrap_or_default())).collect()
}

#[test]
fn each_alert_fires_on_what_it_is_for_and_on_nothing_less() {
    let home = directory();
    let rule: Value = serde_saphyr::from_str(&read(Path::new(RULE))).expect("YAML");
    // JSON is YAML.
    write(&home.path().join("rules.yaml"), rule["spec"].to_string());
    let cases = read(Path::new("tests/manifests/alerts.yaml"));
    write(&home.path().join("alerts.yaml"), &cases);
    for arguments in [["check", "rules", "rules.yaml"], ["test", "rules", "alerts.yaml"]] {
        let mut promtool = tool("promtool", home.path());
        promtool.args(arguments).current_dir(home.path());
        isolate(&mut promtool, home.path());
        let said = Ran::ok(&mut promtool);
        assert!(said.contains("SUCCESS"), "{said}");
    }

    let cases: Value = serde_saphyr::from_str(&cases).expect("YAML");
    let runbook = read(Path::new("docs/runbook.md"));
    let tests = cases["tests"].as_array().expect("tests").iter();
    let tests: Vec<&Value> =
        tests.flat_map(|test| test["alert_rule_test"].as_array().expect("cases")).collect();
    let mut explained = BTreeSet::new();
    for alert in alerts() {
        let name = alert["alert"].as_str().expect("a name");
        let of = |fires: bool| {
            tests.iter().any(|case| case["alertname"] == name && case.get("exp_alerts").is_some() == fires)
        };
        assert!(of(true) && of(false), "{name} needs a case where it fires and one where it does not");
        assert!(
            runbook.contains(&format!("\n## {name}\n\n**Meaning**: ")),
            "{name} has no section in docs/runbook.md"
        );
        explained.insert(name.to_owned());
    }
    let sections = runbook.lines().filter_map(|line| line.strip_prefix("## "));
    assert_eq!(sections.map(str::to_owned).collect::<BTreeSet<_>>(), explained, "sections without an alert");
}
