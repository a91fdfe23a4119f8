//! Networks with one address family, with a broken one, and with Kubernetes' resolv.conf. Each test has its own namespaces,
//! with dnsmasq as the name server, nginx as the target, curl as the client, and egressd on the embedded default.

use std::net::{Ipv6Addr, SocketAddr};

use serde_json::json;

use crate::default_config::{PROXY, curl, start};
use crate::dns::Dnsmasq;
use crate::git_server::{GitServer, HELLO, HOST};
use crate::network::{Network, PUBLIC};
use crate::support::{Authority, Egressd, Record, write};
use crate::tool::Ran;

/// Globally reachable according to the IANA registry; here it is on the namespace's loopback interface.
const PUBLIC_6: Ipv6Addr = Ipv6Addr::new(0x2600, 0x1f1e, 0, 0, 0, 0, 0, 0x43);

/// egressd, and a name that resolves to addresses of both families.
struct Ways {
    network: Network,
    proxy: Egressd,
    dns: Dnsmasq,
    _origin: GitServer,
}

impl Ways {
    /// The target listens at `origin`; the name server answers at `server`.
    fn new(resolv_conf: &str, commands: &str, origin: SocketAddr, server: SocketAddr) -> Self {
        let network = Network::with(resolv_conf, commands);
        let launch = |program: &str| network.command(program);
        let authority = Authority::new();
        let _origin = GitServer::start_by(launch, &authority, origin);
        let addresses = format!("{PUBLIC},{PUBLIC_6}");
        let dns = Dnsmasq::start(launch, server, &[(HOST, &addresses)]);
        write(&network.home().join("ca.pem"), authority.pem());
        let proxy = start(&launch, network.home());
        Ways { network, proxy, dns, _origin }
    }

    /// Fetches a page through egressd: the `open` record.
    fn reach(&self) -> Record {
        let launch = |program: &str| self.network.command(program);
        let mut curl = curl(&launch, self.network.home());
        let url = format!("https://{HOST}/hello");
        curl.arg("--cacert").arg(self.network.home().join("ca.pem")).args(["--proxy", PROXY, &url]);
        let before = self.proxy.records().len();
        let reached = Ran::of(&mut curl);
        assert_eq!((reached.code, reached.stdout.as_str()), (Some(0), HELLO), "{reached:?}");
        self.proxy.record(|_| self.proxy.records().len() > before);
        self.proxy
            .records()
            .into_iter()
            .skip(before)
            .find(|record| record["event"] == "open")
            .expect("opened")
    }
}

const LOCAL: &str = "nameserver 127.0.0.1\n";

fn at_53(server: impl Into<std::net::IpAddr>) -> SocketAddr {
    SocketAddr::new(server.into(), 53)
}

#[test]
fn without_ipv4_it_uses_ipv6() {
    // Only loopback has an IPv4 address; the name server is reached by IPv6, too.
    let commands = format!("ip address add {PUBLIC_6}/128 dev lo nodad");
    let origin = SocketAddr::new(PUBLIC_6.into(), 443);
    let server = at_53(Ipv6Addr::LOCALHOST);
    let ways = Ways::new("nameserver ::1\n", &commands, origin, server);
    ways.reach().assert_has(&json!({"upstream": origin.to_string()}));
}

#[test]
fn without_ipv6_it_uses_ipv4() {
    let commands =
        format!("ip address add {PUBLIC}/32 dev lo; echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6");
    let origin = SocketAddr::new(PUBLIC.into(), 443);
    let ways = Ways::new(LOCAL, &commands, origin, at_53([127, 0, 0, 1]));
    ways.reach().assert_has(&json!({"upstream": origin.to_string()}));
}

#[test]
fn with_a_broken_ipv6_path_it_uses_ipv4_within_300_ms() {
    // Packets to the IPv6 address are lost: neither an answer nor an error, as behind a broken router.
    let commands = format!(
        "ip address add {PUBLIC}/32 dev lo; ip address add {PUBLIC_6}/128 dev lo nodad; \
         ip6tables -A INPUT -p tcp -d {PUBLIC_6} -j DROP"
    );
    let origin = SocketAddr::new(PUBLIC.into(), 443);
    let ways = Ways::new(LOCAL, &commands, origin, at_53([127, 0, 0, 1]));
    // The promise is about what egressd adds; the best of several runs excludes what a busy machine adds.
    let took: Vec<f64> = (0..5)
        .map(|_| {
            let open = ways.reach();
            open.assert_has(&json!({"upstream": origin.to_string()}));
            open["connect_ms"].as_f64().expect("it connected")
        })
        .collect();
    println!("connect_ms with a broken IPv6 path: {took:?}");
    assert!(took.iter().all(|ms| *ms >= 240.0), "IPv6 is tried for a quarter of a second first: {took:?}");
    assert!(took.iter().any(|ms| *ms < 300.0), "{took:?}");
}

#[test]
fn t33_kubernetes_resolv_conf_costs_one_query_a_family() {
    let resolv_conf = "search egressd.svc.cluster.local svc.cluster.local cluster.local\n\
                       nameserver 127.0.0.1\noptions ndots:5\n";
    let commands = format!("ip address add {PUBLIC}/32 dev lo; ip address add {PUBLIC_6}/128 dev lo nodad");
    let origin = SocketAddr::new(PUBLIC.into(), 443);
    let ways = Ways::new(resolv_conf, &commands, origin, at_53([127, 0, 0, 1]));
    ways.reach();
    assert_eq!(ways.dns.asked(), [format!("A {HOST}"), format!("AAAA {HOST}")]);
}
