//! The migration from Squid to egressd: the deployment's two files are imported; then the same 200 requests go to Squid and
//! to egressd, which give the same verdicts except where the import announced a difference.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::dns::Dnsmasq;
use crate::network::{Network, PUBLIC};
use crate::squid;
use crate::support::{Authority, Egressd, command, directory, read, until, write};
use crate::tool::{Daemon, Ran, isolate};

const DEPLOYMENT: &str = "tests/import/deployment/root/etc/squid";
/// Two addresses within `acl localnet src`, and one outside.
const CLIENTS: [&str; 3] = ["192.168.13.79", "192.168.200.7", "10.9.9.9"];
/// An address that is not in the hosts file, and whose PTR name is on the list.
const WITH_PTR: Ipv4Addr = Ipv4Addr::new(52, 119, 196, 67);
/// An internal address, like that of a VPC endpoint.
const INTERNAL: Ipv4Addr = Ipv4Addr::new(10, 1, 2, 3);
const SQUID: &str = "192.168.0.1:3128";
const EGRESSD: &str = "192.168.0.2:3128";
/// How many requests each of the two proxies gets.
const REQUESTS: usize = 200;

/// Names, and what they resolve to.
const HOSTS: [(&str, Ipv4Addr); 10] = [
    ("git-codecommit.ap-northeast-1.amazonaws.com", PUBLIC),
    ("amazonaws.com", PUBLIC),
    ("a.b.s3.amazonaws.com", PUBLIC),
    ("www.tis.co.jp", PUBLIC),
    ("tis.co.jp", PUBLIC),
    ("evilamazonaws.com", PUBLIC),
    ("amazonaws.com.evil.example", PUBLIC),
    ("www.google.com", PUBLIC),
    ("tis.co.jp.example", PUBLIC),
    ("vpce.amazonaws.com", INTERNAL),
];

/// How one request is made.
#[derive(Clone, Debug)]
struct Request {
    client: &'static str,
    url: String,
    /// The TLS handshake has another name than the CONNECT.
    sni: Option<&'static str>,
}

/// Why egressd may refuse what Squid lets through, and the words of the import that say so.
fn announced(request: &Request) -> Option<(&'static str, &'static str)> {
    let url = request.url.to_ascii_lowercase();
    let rest = url.split_once("://").map_or("", |(_, rest)| rest);
    let host = rest.split([':', '/']).next().unwrap_or_default();
    if host.parse::<IpAddr>().is_ok() {
        return Some(("a literal address with a PTR name", "egressd looks up no PTR names"));
    }
    if url.starts_with("http://") && rest.contains(":443/") {
        return Some(("a plain request to 443", "Squid also allowed a plain request to 443"));
    }
    if host == "vpce.amazonaws.com" {
        return Some(("a name that leads inside", "a name must lead to public addresses"));
    }
    request.sni.map(|_| ("another SNI than the CONNECT's host", "(SNI) must be the host of the CONNECT"))
}

/// Every kind of request for every host, repeated with variations, up to [`REQUESTS`].
fn requests() -> Vec<Request> {
    let literal = WITH_PTR.to_string();
    let hosts: Vec<String> = HOSTS.iter().map(|(name, _)| (*name).to_owned()).chain([literal]).collect();
    let mut all = Vec::new();
    for host in &hosts {
        for (scheme, port) in [
            ("https", 443),
            ("http", 80),
            ("http", 443),
            ("https", 80),
            ("https", 22),
            ("http", 22),
            ("https", 8443),
        ] {
            for client in CLIENTS {
                all.push(Request { client, url: format!("{scheme}://{host}:{port}/"), sni: None });
            }
        }
        for (scheme, port) in [("https", 443), ("http", 80)] {
            for client in CLIENTS {
                let upper = format!("{scheme}://{}:{port}/", host.to_ascii_uppercase());
                all.push(Request { client, url: upper, sni: None });
            }
        }
        if host.parse::<IpAddr>().is_err() {
            for client in CLIENTS {
                for sni in ["www.google.com", "attacker.s3.amazonaws.com"] {
                    all.push(Request { client, url: format!("https://{host}:443/"), sni: Some(sni) });
                }
            }
        }
    }
    assert!(all.len() >= REQUESTS, "{} requests", all.len());
    // Taken evenly from all of them.
    let count = all.len();
    (0..REQUESTS).filter_map(|number| all.get(number * count / REQUESTS).cloned()).collect()
}

#[test]
fn squid_and_the_imported_configuration_give_the_same_verdicts_but_for_what_was_announced() {
    let network = Network::new();
    let launch = |program: &str| network.command(program);
    for address in
        [&CLIENTS[..], &["192.168.0.1", "192.168.0.2", &INTERNAL.to_string(), &WITH_PTR.to_string()]].concat()
    {
        Ran::ok(launch("ip").args(["address", "add", &format!("{address}/32"), "dev", "lo"]));
    }
    let authority = Authority::new();
    let _origin = Origin::start(&launch, &authority);
    // Squid looks up the PTR records of literal addresses, here.
    let _dns = Dnsmasq::start(
        launch,
        SocketAddr::from(([127, 0, 0, 1], 53)),
        &[("ec2.ap-northeast-1.amazonaws.com", &WITH_PTR.to_string())],
    );
    let files = Deployment::new();
    let (yaml, told) = files.import();
    let _squid = files.start_squid(&launch);
    let proxy = files.start_egressd(&launch, &yaml);

    let home = directory();
    write(&home.path().join("ca.pem"), authority.pem());
    let ask = |proxy: &str, request: &Request| passes(&launch, home.path(), proxy, request);
    let requests = requests();
    let mut verdicts: Vec<Option<(bool, bool)>> = vec![None; requests.len()];
    std::thread::scope(|scope| {
        for (requests, verdicts) in requests.chunks(50).zip(verdicts.chunks_mut(50)) {
            scope.spawn(move || {
                for (request, verdict) in requests.iter().zip(verdicts) {
                    *verdict = Some((ask(SQUID, request), ask(EGRESSD, request)));
                }
            });
        }
    });
    let mut different: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    let (mut both_allow, mut both_refuse) = (0, 0);
    for (request, verdict) in requests.iter().zip(&verdicts) {
        match verdict.expect("every request was sent") {
            (true, true) => both_allow += 1,
            (false, false) => both_refuse += 1,
            (true, false) => {
                let Some((what, line)) = announced(request) else {
                    panic!("Squid lets {request:?} through, egressd does not: {}", proxy.stderr())
                };
                assert!(
                    told.contains(line),
                    "{request:?} is refused now and {line:?} was not announced:\n{told}"
                );
                *different.entry((what, line)).or_default() += 1;
            }
            (false, true) => panic!("egressd lets {request:?} through, Squid does not"),
        }
    }
    let differing: usize = different.values().sum();
    println!(
        "{} requests: {} same verdicts ({both_allow} allowed, {both_refuse} refused by both), {differing} differing, each announced:",
        requests.len(),
        both_allow + both_refuse
    );
    for ((what, line), count) in &different {
        println!("  {count} of {what}: \"{line}\"");
    }
    assert_eq!((both_allow + both_refuse + differing, different.len()), (REQUESTS, 4), "{different:?}");
    assert!(both_allow >= 25 && both_refuse >= 80, "{both_allow} allowed, {both_refuse} refused");
}

/// Whether the origin answers through this proxy.
fn passes(launch: &impl Fn(&str) -> Command, home: &Path, proxy: &str, request: &Request) -> bool {
    let mut curl = launch("curl");
    isolate(&mut curl, home);
    // The certificate is for none of these names: this test does not check which server answers.
    curl.args([
        "--silent",
        "--insecure",
        "--max-time",
        "30",
        "--output",
        "/dev/null",
        "--write-out",
        "%{response_code}",
    ]);
    curl.args(["--interface", request.client, "--proxy", &format!("http://{proxy}")]);
    match request.sni {
        None => curl.arg(&request.url),
        Some(sni) => {
            let target = request.url.trim_start_matches("https://").trim_end_matches('/');
            curl.args(["--connect-to", &format!("{sni}:443:{target}"), &format!("https://{sni}/")])
        }
    };
    let ran = Ran::of(&mut curl);
    // 400 comes from the origin: plain HTTP on its TLS port.
    ran.code == Some(0) && matches!(&*ran.stdout, "200" | "400")
}

/// The deployment's two files; only their own paths, the listening addresses and the log paths are changed.
struct Deployment(TempDir);

impl Deployment {
    fn new() -> Self {
        let directory = directory();
        let path = directory.path();
        // Squid switches to the user `proxy`, and writes here.
        std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o777)).expect("ours");
        let conf = read(&Path::new(DEPLOYMENT).join("squid.conf"));
        let conf = conf
            .replace("/etc/squid/whitelist", &path.join("whitelist").display().to_string())
            .replace("http_port 3128", &format!("http_port {SQUID}"))
            .replace("stdio:/dev/stdout", &format!("stdio:{}", path.join("access.log").display()))
            .replace("stdio:/dev/stderr", &format!("stdio:{}", path.join("cache.log").display()))
            .replace("/var/spool/squid", &path.display().to_string());
        let hosts: String = HOSTS.iter().map(|(name, address)| format!("{address} {name}\n")).collect();
        let conf =
            conf + &format!("hosts_file {}\ndns_nameservers 127.0.0.1\n", path.join("hosts").display());
        write(&path.join("squid.conf"), conf);
        write(&path.join("hosts"), hosts);
        write(&path.join("whitelist"), read(&Path::new(DEPLOYMENT).join("whitelist")));
        for file in ["squid.conf", "hosts", "whitelist"] {
            std::fs::set_permissions(path.join(file), std::os::unix::fs::PermissionsExt::from_mode(0o644))
                .expect("ours");
        }
        Deployment(directory)
    }

    /// What `egressd import squid` prints.
    fn import(&self) -> (String, String) {
        let imported = Ran::of(command().args(["import", "squid"]).arg(self.0.path().join("squid.conf")));
        assert_eq!(imported.code, Some(0), "{imported:?}");
        (imported.stdout, imported.stderr)
    }

    fn start_squid(&self, launch: &impl Fn(&str) -> Command) -> Daemon {
        let service = format!("moving{}", std::process::id());
        squid::start(launch, self.0.path(), &service).expect("Squid takes the configuration")
    }

    fn start_egressd(&self, launch: &impl Fn(&str) -> Command, yaml: &str) -> Egressd {
        let file = self.0.path().join("egressd.yaml");
        write(&file, yaml.replace(SQUID, EGRESSD));
        let own = directory();
        let mut egressd = launch(command().get_program().to_str().expect("a path in UTF-8"));
        isolate(&mut egressd, own.path());
        egressd.arg("run").arg("--config").arg(&file);
        let proxy = Egressd::spawn(own, egressd);
        until("egressd to listen", || proxy.stderr().contains(EGRESSD).then_some(()));
        proxy
    }
}

/// nginx on all three addresses: TLS on 443, plain HTTP on 80.
struct Origin {
    _nginx: Daemon,
    _directory: TempDir,
}

impl Origin {
    fn start(launch: &impl Fn(&str) -> Command, authority: &Authority) -> Self {
        let directory = directory();
        let home = directory.path().display();
        let certificate = authority.issue(&["origin.example"]);
        write(&directory.path().join("tls.crt"), &certificate.pem);
        write(&directory.path().join("tls.key"), &certificate.key_pem);
        let listen: String = [PUBLIC, INTERNAL, WITH_PTR]
            .iter()
            .map(|address| format!("listen {address}:443 ssl; listen {address}:80;\n"))
            .collect();
        let conf = format!(
            "daemon off; user root; worker_processes 1; pid {home}/nginx.pid; error_log {home}/error.log;\n\
             events {{ worker_connections 256; }}\n\
             http {{ access_log off; client_body_temp_path {home}/body; fastcgi_temp_path {home}/fastcgi;\n\
             proxy_temp_path {home}/proxy; scgi_temp_path {home}/scgi; uwsgi_temp_path {home}/uwsgi;\n\
             server {{ {listen} ssl_certificate {home}/tls.crt; ssl_certificate_key {home}/tls.key;\n\
             location / {{ return 200 \"origin\\n\"; }} }} }}\n"
        );
        write(&directory.path().join("nginx.conf"), conf);
        let mut nginx = launch("nginx");
        isolate(&mut nginx, directory.path());
        nginx
            .arg("-e")
            .arg(directory.path().join("error.log"))
            .arg("-c")
            .arg(directory.path().join("nginx.conf"));
        let mut nginx = Daemon::start(&mut nginx);
        until("nginx's pid file", || {
            nginx.assert_alive();
            directory.path().join("nginx.pid").exists().then_some(())
        });
        Origin { _nginx: nginx, _directory: directory }
    }
}
