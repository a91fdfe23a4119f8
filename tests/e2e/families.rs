//! Networks with one family of addresses, with a broken one, and with Kubernetes' resolv.conf: in namespaces of the test's
//! own, with dnsmasq as the server, nginx as the target and curl as the client, on the embedded default.

use std::net::{Ipv6Addr, SocketAddr};

use serde_json::json;

use crate::default_config::{PROXY, curl, start};
use crate::dns::Dnsmasq;
use crate::git_server::{GitServer, HELLO, HOST};
use crate::network::{Network, PUBLIC};
use crate::support::{Authority, Egressd, Record, write};
use crate::tool::Ran;

/// Globally reachable by the registry, and here on the namespace's loopback interface.
const PUBLIC_6: Ipv6Addr = Ipv6Addr::new(0x2600, 0x1f1e, 0, 0, 0, 0, 0, 0x43);

/// egressd, and in front of it a name that leads to both families.
struct Ways {
    network: Network,
    proxy: Egressd,
    dns: Dnsmasq,
    _origin: GitServer,
}

impl Ways {
    /// The target listens at this address; the server is asked at this one.
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

    /// Fetches a page through egressd: the record of how it was opened.
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
fn where_there_is_no_ipv4_it_goes_by_ipv6() {
    // The only address of the other family is loopback's; the name server is reached by IPv6 as well.
    let commands = format!("ip address add {PUBLIC_6}/128 dev lo nodad");
    let origin = SocketAddr::new(PUBLIC_6.into(), 443);
    let server = at_53(Ipv6Addr::LOCALHOST);
    let ways = Ways::new("nameserver ::1\n", &commands, origin, server);
    ways.reach().assert_has(&json!({"upstream": origin.to_string()}));
}

#[test]
fn where_there_is_no_ipv6_it_goes_by_ipv4() {
    let commands =
        format!("ip address add {PUBLIC}/32 dev lo; echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6");
    let origin = SocketAddr::new(PUBLIC.into(), 443);
    let ways = Ways::new(LOCAL, &commands, origin, at_53([127, 0, 0, 1]));
    ways.reach().assert_has(&json!({"upstream": origin.to_string()}));
}

#[test]
fn where_the_way_by_ipv6_is_broken_it_goes_on_by_ipv4_within_300_ms() {
    // What is sent to the address of IPv6 is swallowed: neither an answer nor an error, as behind a broken router.
    let commands = format!(
        "ip address add {PUBLIC}/32 dev lo; ip address add {PUBLIC_6}/128 dev lo nodad; \
         ip6tables -A INPUT -p tcp -d {PUBLIC_6} -j DROP"
    );
    let origin = SocketAddr::new(PUBLIC.into(), 443);
    let ways = Ways::new(LOCAL, &commands, origin, at_53([127, 0, 0, 1]));
    // The promise is of what egressd adds; the best of several takes out what a busy machine adds.
    let took: Vec<f64> = (0..5)
        .map(|_| {
            let open = ways.reach();
            open.assert_has(&json!({"upstream": origin.to_string()}));
            open["connect_ms"].as_f64().expect("it connected")
        })
        .collect();
    println!("connect_ms over a broken way by IPv6: {took:?}");
    assert!(took.iter().all(|ms| *ms >= 240.0), "IPv6 has its quarter of a second: {took:?}");
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
