//! The networks: a router with egressd, the targets and two name servers, and behind it the clients.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::dns::Dnsmasq;
use crate::git_server::{GitServer, HOST};
use crate::network::{Network, PUBLIC};
use crate::support::{Authority, Egressd, command, directory, read, until, write};
use crate::tool::{Daemon, Ran, isolate};

/// Where the server listens that speaks first.
pub(crate) const TCP: u16 = 2222;

/// The targets' other address. All are globally reachable according to the IANA registry; here they are on the router.
const PUBLIC_6: Ipv6Addr = Ipv6Addr::new(0x2600, 0x1f1e, 0, 0, 0, 0, 0, 0x43);
/// What clients are told by DNS: a server that nobody is to reach.
const TOLD: Ipv4Addr = Ipv4Addr::new(52, 119, 196, 67);
const TOLD_6: Ipv6Addr = Ipv6Addr::new(0x2600, 0x1f1e, 0, 0, 0, 0, 0, 0x44);
/// The router's address on the clients' side.
const ROUTER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
/// The user that egressd runs as.
const USER: &str = "65532";

/// How connections come to egressd.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Filter {
    /// nftables changes their address; egressd has no rights of its own.
    Redirect,
    /// nftables leaves their address; egressd has CAP_NET_ADMIN.
    Tproxy,
    /// DNS leads them.
    Dns,
    /// Those of the router's own programs are redirected, egressd's too.
    Own,
}

/// Everything.
#[derive(Debug)]
pub(crate) struct Router {
    pub(crate) proxy: Egressd,
    authority: Authority,
    network: Network,
    clients: String,
    pub(crate) git: GitServer,
    _daemons: (Daemon, Dnsmasq, Dnsmasq),
}

/// What the targets are beside the Git server: a page, an index for pip, a registry for npm, a TLS echo, and a server that speaks first.
/// It also notes who reaches the addresses that clients were told.
const SERVERS: &str = r#"
import asyncio, os, resource, ssl, sys
home, four, six, told, told6 = sys.argv[1:]
resource.setrlimit(resource.RLIMIT_NOFILE, (8192, 8192))
async def pages(reader, writer):
    while True:
        head = await reader.readuntil(b'\r\n\r\n')
        path = head.split(b' ')[1].split(b'?')[0].decode()
        file = home + '/www' + path + ('index' if path.endswith('/') else '')
        found = os.path.isfile(file)
        body = open(file, 'rb').read() if found else b'none\n'
        kind = 'text/html' if file.endswith('index') else 'application/json' if path.startswith('/-/') else 'application/octet-stream'
        writer.write(f'HTTP/1.1 {200 if found else 404} x\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n'.encode())
        if not head.startswith(b'HEAD'): writer.write(body)
        await writer.drain()
async def echo(reader, writer):
    while data := await reader.read(4096):
        writer.write(data); await writer.drain()
    writer.close()
async def first(reader, writer):
    writer.write(b'220 ready\r\n'); await echo(reader, writer)
async def misled(reader, writer):
    print(writer.get_extra_info('sockname'), file=open(home + '/misled', 'a'), flush=True)
    writer.close()
async def main():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(home + '/echo.pem')
    for address in (four, six):
        await asyncio.start_server(pages, address, 80)
        await asyncio.start_server(echo, address, 8443, ssl=context, backlog=4096)
        await asyncio.start_server(first, address, 2222)
    for address in (told, told6):
        for port in (80, 443, 8443, 2222): await asyncio.start_server(misled, address, port)
    open(home + '/serving', 'w').close()
    await asyncio.Event().wait()
asyncio.run(main())
"#;

impl Router {
    pub(crate) fn new(filter: Filter) -> Self {
        let addresses = format!(
            "ip address add {PUBLIC}/32 dev lo; ip address add {TOLD}/32 dev lo; ip address add {PUBLIC_6}/128 dev lo nodad; \
             ip address add {TOLD_6}/128 dev lo nodad; \
             setpriv --pdeathsig TERM unshare --net sleep infinity & client=$!; \
             until [ \"$(readlink /proc/$client/ns/net)\" != \"$(readlink /proc/$$/ns/net)\" ]; do sleep 0.05; done; \
             echo $client >\"$HOME/clients\"; \
             ip link add r0 type veth peer name c0 netns $client; \
             ip address add {ROUTER}/24 dev r0; ip address add fd77::1/64 dev r0 nodad; ip link set r0 up; \
             nsenter --target $client --net sh -ec 'ip link set lo up; ip address add 10.77.0.2/24 dev c0; \
             ip address add fd77::2/64 dev c0 nodad; ip link set c0 up; ip route add default via {ROUTER}; \
             ip -6 route add default via fd77::1'; \
             echo 1 >/proc/sys/net/ipv4/ip_forward; "
        );
        let network = Network::with(&format!("nameserver {ROUTER}\n"), &(addresses + rules(filter)));
        let launch = |program: &str| network.command(program);
        let clients = read(&network.home().join("clients")).trim().to_owned();
        let authority = Authority::new();
        let git = GitServer::start_by(launch, &authority, SocketAddr::new(PUBLIC.into(), 443));
        let echo = authority.issue(&["echo.example.com"]);
        write(&network.home().join("echo.pem"), echo.pem.clone() + &echo.key_pem);
        write(&network.home().join("ca.pem"), authority.pem());
        let www = network.home().join("www");
        std::fs::create_dir_all(&www).expect("a directory");
        write(&www.join("page"), "plain\n");
        let mut servers = launch("python3");
        servers.args(["-c", SERVERS]).arg(network.home());
        servers.args([PUBLIC.to_string(), PUBLIC_6.to_string(), TOLD.to_string(), TOLD_6.to_string()]);
        let mut servers = Daemon::start(&mut servers);
        until("the targets", || {
            servers.assert_alive();
            network.home().join("serving").exists().then_some(())
        });
        let names = [HOST, "web.example.com", "echo.example.com"];
        let real = format!("{PUBLIC},{PUBLIC_6}");
        let mut of_egressd: Vec<(&str, &str)> = names.iter().map(|name| (*name, &*real)).collect();
        // Only the Git server has no address of IPv6.
        of_egressd[0].1 = "52.119.196.66";
        of_egressd.push(("back.example.com", "10.77.0.1"));
        let told = if filter == Filter::Dns { ROUTER.to_string() } else { format!("{TOLD},{TOLD_6}") };
        let mut of_clients: Vec<(&str, &str)> = names.iter().map(|name| (*name, &*told)).collect();
        of_clients.extend([("evil.example.com", &*told), ("back.example.com", &*told)]);
        let truth = Dnsmasq::start(launch, SocketAddr::new([127, 0, 0, 1].into(), 53), &of_egressd);
        let tale = Dnsmasq::start(launch, SocketAddr::new(ROUTER.into(), 53), &of_clients);
        let proxy = egressd(&network, filter);
        Router { proxy, authority, network, clients, git, _daemons: (servers, truth, tale) }
    }

    /// A program of a client: nothing tells it of a proxy.
    pub(crate) fn client(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.clients, "--net", "--mount", "--", program]);
        isolate(&mut command, self.network.home());
        command
    }

    pub(crate) fn curl(&self) -> Command {
        let mut curl = self.client("curl");
        curl.args(["--silent", "--show-error", "--max-time", "30", "--cacert"]).arg(self.authority_file());
        curl
    }

    /// The same on the router.
    pub(crate) fn curl_here(&self) -> Command {
        let mut curl = self.network.command("curl");
        curl.args(["--silent", "--show-error", "--max-time", "30", "--cacert"]).arg(self.authority_file());
        curl
    }

    pub(crate) fn home(&self) -> &Path {
        self.network.home()
    }

    pub(crate) fn authority(&self) -> &Authority {
        &self.authority
    }

    pub(crate) fn authority_file(&self) -> PathBuf {
        self.network.home().join("ca.pem")
    }

    /// The process of egressd itself.
    pub(crate) fn pid(&self) -> u32 {
        // nsenter and setpriv have become it.
        self.proxy.pid()
    }

    /// Who reached what clients were told.
    pub(crate) fn misled(&self) -> String {
        std::fs::read_to_string(self.network.home().join("misled")).unwrap_or_default()
    }

    /// What a target has in egressd's DNS.
    pub(crate) fn origin(&self, port: u16) -> String {
        SocketAddr::new(PUBLIC.into(), port).to_string()
    }

    /// The targets' address of a family, as programs take it.
    pub(crate) fn host(&self, family: &str) -> String {
        if family == "-4" { PUBLIC.to_string() } else { PUBLIC_6.to_string() }
    }

    /// What clients are told.
    pub(crate) fn told_host(&self, family: &str) -> String {
        if family == "-4" { TOLD.to_string() } else { TOLD_6.to_string() }
    }

    /// The same with a port, as the log has it.
    pub(crate) fn told(&self, family: &str, port: u16) -> String {
        let address: std::net::IpAddr = self.told_host(family).parse().expect("an address");
        SocketAddr::new(address, port).to_string()
    }

    /// Corrects the rule of [`Filter::Own`].
    pub(crate) fn leave_out_egressd(&self) {
        let rule = format!("insert rule inet egressd output meta skuid {USER} accept");
        Ran::ok(self.network.command("nft").arg(rule));
    }
}

/// What the packet filter is told.
fn rules(filter: Filter) -> &'static str {
    match filter {
        Filter::Redirect => {
            "nft 'table inet egressd { chain prerouting { type nat hook prerouting priority dstnat; \
             iifname \"r0\" tcp dport { 80, 443, 2222, 8443 } redirect to :3129; }; }'"
        }
        Filter::Tproxy => {
            "nft 'table inet egressd { chain prerouting { type filter hook prerouting priority mangle; \
             iifname \"r0\" meta nfproto ipv4 tcp dport { 80, 443, 2222, 8443 } tproxy ip to :3129 meta mark set 1 accept; \
             iifname \"r0\" meta nfproto ipv6 tcp dport { 80, 443, 2222, 8443 } tproxy ip6 to :3129 meta mark set 1 accept; }; }'; \
             for family in -4 -6; do ip $family rule add fwmark 1 lookup 100; ip $family route add local default dev lo table 100; done"
        }
        Filter::Dns => "true",
        Filter::Own => {
            "nft 'table inet egressd { chain output { type nat hook output priority -100; \
             tcp dport 443 redirect to :3129; }; }'"
        }
    }
}

fn egressd(network: &Network, filter: Filter) -> Egressd {
    let listener = if filter == Filter::Dns { "10.77.0.1:443" } else { "[::]:3129" };
    let text = format!(
        "listeners: [{{name: led, address: \"{listener}\", mode: transparent}}]
admin: {{address: 127.0.0.1:9180}}
dns: {{servers: [127.0.0.1]}}
limits: {{tunnels_per_client: 2000, requests_per_second_per_client: 10000}}
policies:
  - name: clients
    clients: {{networks: [10.77.0.0/24, \"fd77::/64\", 52.119.196.0/24]}}
    private: [10.77.0.0/24]
    allow:
      - {HOST}
      - back.example.com
      - echo.example.com:8443
      - http://web.example.com
      - tcp://{PUBLIC}:{TCP}
      - \"tcp://[{PUBLIC_6}]:{TCP}\"
"
    );
    let directory = directory();
    let file = directory.path().join("egressd.yaml");
    write(&file, text);
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(directory.path(), mode).expect("it is ours");
    let binary = command().get_program().to_owned();
    // Where everybody may read it.
    let runs = directory.path().join("egressd");
    let linked = std::fs::hard_link(&binary, &runs).or_else(|_| std::fs::copy(&binary, &runs).map(drop));
    linked.expect("the program");
    let mut egressd = match filter {
        Filter::Redirect | Filter::Own => {
            let mut setpriv = network.command("setpriv");
            setpriv.args(["--reuid", USER, "--regid", USER, "--clear-groups", "--inh-caps=-all"]).arg(&runs);
            setpriv
        }
        Filter::Tproxy | Filter::Dns => network.command(runs.to_str().expect("a path of ASCII")),
    };
    egressd.env_remove("HOME").arg("run").arg("--config").arg(&file);
    let proxy = Egressd::spawn(directory, egressd);
    proxy.listener("led");
    proxy
}
