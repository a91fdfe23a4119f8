//! What runs on the hosts: a replica with its ConfigMap, HAProxy as the NLB, Prometheus with the alerts that ship.

use std::fs::{create_dir, rename};
use std::io::{Read, Write};
use std::net::Ipv4Addr;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::{Value, json};

use super::network::Host;
use crate::support::{Egressd, Metrics, Record, command, directory, read, until, write};
use crate::tool::{Daemon, isolate};

/// A file of the project.
pub(super) fn shipped(path: &str) -> String {
    read(&Path::new(env!("CARGO_MANIFEST_DIR")).join(path))
}

/// One pod of egressd: the program, and its ConfigMap as the kubelet mounts it.
#[derive(Debug)]
pub(super) struct Replica {
    pub(super) pod: Arc<Host>,
    pub(super) proxy: Egressd,
    edition: AtomicU32,
}

impl Replica {
    /// Starts egressd in the pod and waits until it is ready.
    pub(super) fn start(pod: &Arc<Host>, configuration: &str, allowlist: &str) -> Self {
        let directory = directory();
        let root = directory.path();
        for name in ["egressd.yaml", "allowlist.txt"] {
            symlink(format!("..data/{name}"), root.join(name)).expect("a link");
        }
        swap(root, 0, &[("egressd.yaml", configuration), ("allowlist.txt", allowlist)]);
        // Like the image: no arguments, only this variable.
        let mut run = pod.command(command().get_program().to_str().expect("a path in UTF-8"));
        run.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        run.env("EGRESSD_CONFIG", root.join("egressd.yaml"));
        let proxy = Egressd::spawn(directory, run);
        let replica = Replica { pod: Arc::clone(pod), proxy, edition: AtomicU32::new(1) };
        until("a replica to be ready", || (replica.ask("/readyz").0 == "200").then_some(()));
        replica
    }

    pub(super) fn name(&self) -> &'static str {
        self.pod.name()
    }

    /// A changed ConfigMap arrives: the kubelet writes all files again and swaps one link.
    pub(super) fn edit(&self, configuration: &str, allowlist: &str) {
        let edition = self.edition.fetch_add(1, Ordering::Relaxed);
        swap(
            self.proxy.directory(),
            edition,
            &[("egressd.yaml", configuration), ("allowlist.txt", allowlist)],
        );
    }

    /// Status and body of a path on its admin listener.
    pub(super) fn ask(&self, path: &str) -> (String, String) {
        let url = format!("http://127.0.0.1:9180{path}");
        let ran = self.pod.curl(&["--write-out", "\n%{http_code}", &url]);
        let (body, status) = ran.stdout.rsplit_once('\n').unwrap_or(("", ""));
        (status.to_owned(), body.to_owned())
    }

    pub(super) fn metrics(&self) -> Metrics {
        let (status, body) = self.ask("/metrics");
        assert_eq!(status, "200");
        Metrics::parse(&body)
    }

    /// The hash of the configuration in force.
    pub(super) fn configuration(&self) -> String {
        let metrics = self.metrics();
        let hashes = metrics.label_values("egressd_config_info", "sha256");
        assert_eq!(hashes.len(), 1, "{hashes:?}");
        hashes[0].to_owned()
    }

    /// Its records of this event.
    pub(super) fn records(&self, event: &str) -> Vec<Record> {
        self.proxy.records().into_iter().filter(|r| r["event"] == event).collect()
    }

    /// Tunnels that have opened and not closed.
    pub(super) fn open_tunnels(&self) -> usize {
        // In this order, so that a tunnel that closes in between is not counted wrongly.
        let closed = self.records("close").len();
        self.records("open").len() - closed
    }
}

fn swap(root: &Path, edition: u32, files: &[(&str, &str)]) {
    let data = format!("..{edition}");
    create_dir(root.join(&data)).expect("a directory");
    for (name, text) in files {
        write(&root.join(&data).join(name), text);
    }
    symlink(&data, root.join("..data_tmp")).expect("a link");
    rename(root.join("..data_tmp"), root.join("..data")).expect("swapped");
}

/// HAProxy as the NLB of k8s/components/proxy-protocol: PROXY v2 to the listener, and health checks of /healthz on the admin
/// port that have the header, too. Like an NLB it tries no second target if the first does not answer. The test tells it
/// which targets to use, as the AWS Load Balancer Controller tells the NLB: a pod that is ready, until it ends.
#[derive(Debug)]
pub(super) struct Balancer {
    _haproxy: Daemon,
    socket: PathBuf,
    log: PathBuf,
}

impl Balancer {
    /// Starts in front of these pods; it does not send to any of them yet.
    pub(super) fn start(host: &Host, address: Ipv4Addr, pods: &[(&Host, Ipv4Addr)]) -> Self {
        let (file, socket, log) =
            (host.home().join("haproxy.cfg"), host.home().join("admin.sock"), host.home().join("log"));
        let servers: String = pods
            .iter()
            .map(|(pod, address)| format!(" server {} {address}:3128 disabled\n", pod.name()))
            .collect();
        write(
            &file,
            format!(
                "global\n stats socket {} mode 600 level admin\n\
                 defaults\n mode tcp\n retries 0\n timeout connect 3s\n timeout client 1h\n timeout server 1h\n\
                 frontend proxy\n bind {address}:3128\n default_backend replicas\n\
                 backend replicas\n balance roundrobin\n timeout check 2s\n\
                 \x20option httpchk GET /healthz\n http-check expect status 200\n\
                 \x20default-server send-proxy-v2 check check-send-proxy port 9180 inter 300ms rise 2 fall 3\n{servers}",
                socket.display()
            ),
        );
        let mut haproxy = host.command("haproxy");
        haproxy.args(["-db", "-f"]).arg(&file);
        haproxy.stderr(std::fs::File::create(&log).expect("a file"));
        let mut haproxy = Daemon::start(&mut haproxy);
        until("HAProxy", || {
            haproxy.assert_alive();
            UnixStream::connect(&socket).ok()
        });
        Balancer { _haproxy: haproxy, socket, log }
    }

    /// Registers the target, and waits until its checks have passed.
    pub(super) fn register(&self, name: &str) {
        self.tell(&format!("set server replicas/{name} state ready"));
        self.until(name, "UP", "L7OK");
    }

    /// Deregisters the target: nothing new goes there, open connections stay.
    pub(super) fn deregister(&self, name: &str) {
        self.tell(&format!("set server replicas/{name} state drain"));
    }

    /// Removes the target: its pod is gone.
    pub(super) fn forget(&self, name: &str) {
        self.tell(&format!("set server replicas/{name} state maint"));
    }

    /// Waits until the target's state and the result of its last check begin with these texts.
    pub(super) fn until(&self, name: &str, state: &str, check: &str) {
        until(&format!("{name} to be {state} {check} at the balancer"), || {
            let now = self.state(name);
            (now.0.starts_with(state) && now.1.starts_with(check)).then_some(())
        });
    }

    /// The target's state and the result of its last check.
    pub(super) fn state(&self, name: &str) -> (String, String) {
        let table = self.tell("show stat");
        let mut lines = table.lines();
        let names: Vec<&str> = lines.next().expect("a heading").trim_start_matches("# ").split(',').collect();
        let column = |name: &str| names.iter().position(|n| *n == name).expect("a column");
        let (server, status, check) = (column("svname"), column("status"), column("check_status"));
        lines
            .map(|line| line.split(',').collect::<Vec<_>>())
            .find(|fields| fields.get(server) == Some(&name))
            // `* L7OK` is a check in progress, with the result of the one before.
            .map(|fields| (fields[status].to_owned(), fields[check].trim_start_matches("* ").to_owned()))
            .unwrap_or_else(|| panic!("no server {name} in {table}"))
    }

    /// What it logs about its targets: one that fails its checks is a line with DOWN.
    pub(super) fn log(&self) -> String {
        read(&self.log)
    }

    fn tell(&self, command: &str) -> String {
        let mut socket = UnixStream::connect(&self.socket).expect("HAProxy's socket");
        writeln!(socket, "{command}").expect("it listens");
        let mut answer = String::new();
        socket.read_to_string(&mut answer).expect("an answer");
        answer
    }
}

/// Prometheus, which scrapes each replica and has the alerts of k8s/components/monitoring.
///
/// The alerts are those of the file, with one difference: each `for`, the minutes for which a condition must hold before the
/// alert fires, is two seconds here. Scrapes and evaluations run every half second.
#[derive(Debug)]
pub(super) struct Prometheus {
    _daemon: Daemon,
    host: Arc<Host>,
}

impl Prometheus {
    pub(super) fn start(host: &Arc<Host>, pods: &[(&Host, Ipv4Addr)]) -> Self {
        let home = host.home();
        let rule: Value = serde_saphyr::from_str(&shipped("k8s/components/monitoring/prometheusrule.yaml"))
            .expect("PrometheusRule is YAML");
        let mut rules = rule["spec"].clone();
        let mut waits = 0;
        for group in rules["groups"].as_array_mut().expect("groups") {
            for rule in group["rules"].as_array_mut().expect("rules") {
                if rule.get("for").is_some() {
                    rule["for"] = json!("2s");
                    waits += 1;
                }
            }
        }
        assert!(waits >= 2, "the alerts look otherwise now");
        write(&home.join("rules.json"), rules.to_string());
        let targets: Vec<Value> = pods
            .iter()
            .map(|(pod, address)| {
                // Labels as a PodMonitor sets them.
                json!({"targets": [format!("{address}:9180")], "labels": {"namespace": "egressd", "pod": pod.name()}})
            })
            .collect();
        let config = json!({
            "global": {"scrape_interval": "500ms", "scrape_timeout": "500ms", "evaluation_interval": "500ms"},
            "rule_files": [home.join("rules.json")],
            "scrape_configs": [{"job_name": "egressd", "static_configs": targets}],
        });
        write(&home.join("prometheus.json"), config.to_string());
        let mut prometheus = host.command("prometheus");
        isolate(&mut prometheus, home);
        prometheus.arg(format!("--config.file={}", home.join("prometheus.json").display()));
        prometheus.arg(format!("--storage.tsdb.path={}", home.join("data").display()));
        prometheus.args(["--web.listen-address=127.0.0.1:9090", "--log.level=error"]);
        let mut daemon = Daemon::start(&mut prometheus);
        until("Prometheus", || {
            daemon.assert_alive();
            (host.curl(&["--fail", "http://127.0.0.1:9090/-/ready"]).code == Some(0)).then_some(())
        });
        Prometheus { _daemon: daemon, host: Arc::clone(host) }
    }

    /// The value of an expression that gives one series; `None` if it gives none.
    pub(super) fn query(&self, expression: &str) -> Option<f64> {
        let query = format!("query={expression}");
        let answer = self.get(&["--get", "--data-urlencode", &query, "http://127.0.0.1:9090/api/v1/query"]);
        answer["data"]["result"][0]["value"][1].as_str().map(|value| value.parse().expect("a number"))
    }

    /// The alerts that fire: the name of each and its pod.
    pub(super) fn firing(&self) -> Vec<(String, String)> {
        let answer = self.get(&["http://127.0.0.1:9090/api/v1/alerts"]);
        let alerts = answer["data"]["alerts"].as_array().expect("alerts");
        let label = |alert: &Value, name: &str| alert["labels"][name].as_str().unwrap_or_default().to_owned();
        let mut firing: Vec<_> = alerts
            .iter()
            .filter(|alert| alert["state"] == "firing")
            .map(|alert| (label(alert, "alertname"), label(alert, "pod")))
            .collect();
        firing.sort();
        firing
    }

    fn get(&self, arguments: &[&str]) -> Value {
        let ran = self.host.curl(arguments);
        assert_eq!(ran.code, Some(0), "{ran:?}");
        let answer: Value = serde_json::from_str(&ran.stdout).expect("JSON");
        assert_eq!(answer["status"], "success", "{answer}");
        answer
    }
}
