//! The system itself: which hosts there are, what runs on each, and how they are connected.

use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;

use super::gitlab::{GitLab, Push};
use super::network::{Fabric, Host};
use super::parts::{Balancer, Prometheus, Replica, shipped};
use crate::dns::Dnsmasq;
use crate::git_server::{GitServer, HOST, SECOND_HOST};
use crate::support::{Authority, until, write};
use crate::tool::Ran;

pub(super) const CODECOMMIT: Ipv4Addr = Ipv4Addr::new(52, 119, 196, 66);
pub(super) const HOSTILE: Ipv4Addr = Ipv4Addr::new(93, 184, 215, 14);
pub(super) const BALANCER: Ipv4Addr = Ipv4Addr::new(10, 20, 1, 5);
const GITLAB: Ipv4Addr = Ipv4Addr::new(10, 20, 1, 10);
const NAME_SERVER: Ipv4Addr = Ipv4Addr::new(10, 20, 2, 2);
pub(super) const PROXY: &str = "http://10.20.1.5:3128";
pub(super) const PODS: [(&str, Ipv4Addr); 4] = [
    ("a", Ipv4Addr::new(10, 20, 2, 11)),
    ("b", Ipv4Addr::new(10, 20, 2, 12)),
    ("c", Ipv4Addr::new(10, 20, 2, 13)),
    // Empty at first: a rollout starts its first new pod here.
    ("d", Ipv4Addr::new(10, 20, 2, 14)),
];
/// Listed, and resolves to an internal address.
pub(super) const INSIDE: &str = "inside.example.org";

/// The whole system. The fields are in the order in which they are dropped.
pub(super) struct System {
    pub(super) replicas: Vec<Replica>,
    pub(super) prometheus: Prometheus,
    pub(super) balancer: Balancer,
    pub(super) dns: Dnsmasq,
    pub(super) server: GitServer,
    pub(super) gitlab: Arc<GitLab>,
    pub(super) visitor: Host,
    pub(super) hostile: Host,
    pub(super) pods: Vec<Arc<Host>>,
    // Hosts on which the parts above run.
    _hosts: Vec<Host>,
    pub(super) configuration: String,
    pub(super) allowlist: String,
    pub(super) fabric: Fabric,
}

impl System {
    pub(super) fn start() -> Self {
        let fabric = Fabric::new(&["office", "pods", "world"]);
        let nat = fabric.host(
            "nat",
            &[("pods", "10.20.2.1/24"), ("world", "52.119.196.1/24")],
            &format!("ip route add {HOSTILE} dev world\necho 1 >/proc/sys/net/ipv4/ip_forward\n"),
        );
        let route = "ip route add default via 52.119.196.1\n";
        let codecommit = fabric.host("server", &[("world", "52.119.196.66/24")], route);
        let hostile = fabric.host(
            "hostile",
            &[("world", &format!("{HOSTILE}/32"))],
            &format!("ip route add 52.119.196.1 dev world\n{route}"),
        );
        let gitlab = fabric.host("gitlab", &[("office", "10.20.1.10/24")], "");
        let visitor = fabric.host(
            "visitor",
            &[("office", "198.51.100.9/24")],
            "ip route add 10.20.1.0/24 dev office\n",
        );
        let between = fabric.host(
            "balancer",
            &[("office", "10.20.1.5/24"), ("pods", "10.20.2.5/24")],
            "ip route add 198.51.100.0/24 dev office\n",
        );
        let names = fabric.host("dns", &[("pods", &format!("{NAME_SERVER}/24"))], "");
        let monitoring = Arc::new(fabric.host("prometheus", &[("pods", "10.20.2.9/24")], ""));
        let pods: Vec<Arc<Host>> = PODS
            .iter()
            .map(|(name, address)| {
                let route = "ip route add default via 10.20.2.1\n";
                let pod = fabric.host(name, &[("pods", &format!("{address}/24"))], route);
                pod.resolve_by(NAME_SERVER);
                Arc::new(pod)
            })
            .collect();
        let targets: Vec<(&Host, Ipv4Addr)> =
            pods.iter().zip(PODS).map(|(pod, (_, address))| (&**pod, address)).collect();

        let authority = Authority::new();
        let server = GitServer::start_by(|p| codecommit.command(p), &authority, (CODECOMMIT, 443).into());
        let dns = Dnsmasq::start(
            |p| names.command(p),
            (NAME_SERVER, 53).into(),
            &[
                (HOST, &CODECOMMIT.to_string()),
                (SECOND_HOST, &CODECOMMIT.to_string()),
                ("evil.example", &HOSTILE.to_string()),
                (INSIDE, &GITLAB.to_string()),
            ],
        );
        let balancer = Balancer::start(&between, BALANCER, &targets);
        let prometheus = Prometheus::start(&monitoring, &targets);

        let configuration = configuration();
        let allowlist = format!("{}{INSIDE}\n", shipped("k8s/base/allowlist.txt"));
        assert!(allowlist.contains(&format!("\n{HOST}\n")), "another region is listed now");
        let replicas: Vec<Replica> =
            pods[..3].iter().map(|pod| Replica::start(pod, &configuration, &allowlist)).collect();
        for replica in &replicas {
            balancer.register(replica.name());
        }
        let gitlab = Arc::new(GitLab::new(gitlab, &authority, PROXY));
        System {
            replicas,
            prometheus,
            balancer,
            dns,
            server,
            gitlab,
            visitor,
            hostile,
            pods,
            _hosts: vec![between, names, codecommit, nat],
            configuration,
            allowlist,
            fabric,
        }
    }

    /// Starts a push that is silent until the test releases it. Also the number of the replica with its tunnel.
    pub(super) fn held_push(&self) -> (HeldPush, usize) {
        let stored = self.server.create("held");
        let release = stored.join("go");
        let hook = stored.join("hooks/pre-receive");
        // A test that fails removes the directory, and this file with it.
        let wait = format!(
            "until [ -e {0} ] || [ ! -e {1} ]; do sleep 0.05; done",
            release.display(),
            hook.display()
        );
        write(&hook, format!("#!/bin/sh\ntouch {}.waits\n{wait}\n", release.display()));
        std::fs::set_permissions(&hook, PermissionsExt::from_mode(0o755)).expect("its mode");
        let push = self.gitlab.push_once("held", &self.server.url("held"));
        until("the push to be held", || stored.join("go.waits").exists().then_some(()));
        let carrier = self.replicas.iter().position(|replica| replica.open_tunnels() == 1);
        (HeldPush { push, release }, carrier.expect("one replica has the tunnel"))
    }

    /// Fetches the origin's page under this name through the balancer; any replica may serve it.
    pub(super) fn hello(&self, host: &str) -> Ran {
        self.gitlab.curl(&["--proxy", PROXY, &format!("https://{host}/hello")])
    }

    pub(super) fn replica(&self, name: &str) -> &Replica {
        self.replicas.iter().find(|replica| replica.name() == name).expect("it runs")
    }
}

pub(super) struct HeldPush {
    push: JoinHandle<Push>,
    release: PathBuf,
}

impl HeldPush {
    pub(super) fn is_held(&self) -> bool {
        !self.push.is_finished()
    }

    pub(super) fn let_go(self) -> Push {
        write(&self.release, "");
        self.push.join().expect("git ran")
    }
}

/// What k8s/components/proxy-protocol ships, with this balancer's address and with times that fit a test.
fn configuration() -> String {
    let mut text = shipped("k8s/components/proxy-protocol/egressd.yaml");
    for (theirs, ours) in [
        ("[10.20.100.0/24, 10.20.101.0/24, 10.20.102.0/24]", "[10.20.2.5/32]"),
        ("delay: 30s", "delay: 3s"),
        ("grace_period: 5m", "grace_period: 25s"),
    ] {
        assert!(text.contains(theirs), "no {theirs} any more");
        text = text.replace(theirs, ours);
    }
    text
}
