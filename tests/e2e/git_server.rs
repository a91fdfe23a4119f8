//! A Git server that looks like CodeCommit from outside: HTTPS, a password, `/v1/repos/NAME`. It is nginx with
//! git-http-backend behind fcgiwrap. In addition to the repositories it serves `/hello`, without a password.

use std::fs::create_dir_all;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use crate::support::{Authority, directory, own_loopback, read, until, write};
use crate::tool::{Daemon, Ran, here, isolate, tool};

/// A name that the certificate is for.
pub(crate) const HOST: &str = "git-codecommit.ap-northeast-1.amazonaws.com";
/// Another that it is for.
pub(crate) const SECOND_HOST: &str = "git-codecommit.us-west-2.amazonaws.com";
/// A user who may push, and the password.
pub(crate) const CREDENTIALS: (&str, &str) = ("mirror-at-123456789012", "s3cretPassw0rd");
/// How many pushes and clones can run at a time; others wait.
const SERVED_AT_ONCE: usize = 6;
/// What `/hello` answers.
pub(crate) const HELLO: &str = "hello from the origin\n";

/// The running server.
#[derive(Debug)]
pub(crate) struct GitServer {
    address: SocketAddr,
    // In the order in which they are dropped.
    _nginx: Daemon,
    _fcgiwraps: Vec<Daemon>,
    directory: TempDir,
}

impl GitServer {
    /// Starts on its own loopback address, at port 443 if the test is allowed to use it.
    pub(crate) fn start(authority: &Authority) -> Self {
        GitServer::start_taking("", authority)
    }

    /// The same, with this group as the only one for the key exchange. If the client sends no share of it, the server asks for
    /// one with a HelloRetryRequest (RFC 8446 §4.1.4).
    pub(crate) fn start_with_group(group: &str, authority: &Authority) -> Self {
        GitServer::start_taking(&format!("ssl_protocols TLSv1.3; ssl_ecdh_curve {group};"), authority)
    }

    fn start_taking(groups: &str, authority: &Authority) -> Self {
        let mut address = SocketAddr::new(own_loopback().into(), 443);
        if TcpListener::bind(address).is_err() {
            // Not root. No other process uses this address, so nothing takes the port before nginx does.
            address.set_port(0);
            address = TcpListener::bind(address).and_then(|free| free.local_addr()).expect("a free port");
        }
        let server = GitServer::start_with(here, authority, address, groups);
        until("nginx to accept", || TcpStream::connect_timeout(&address, Duration::from_secs(1)).ok());
        server
    }

    /// Starts on this address. `launch` makes the command for a program, possibly one that runs it in another network namespace.
    pub(crate) fn start_by(
        launch: impl Fn(&str) -> Command,
        authority: &Authority,
        address: SocketAddr,
    ) -> Self {
        GitServer::start_with(launch, authority, address, "")
    }

    fn start_with(
        launch: impl Fn(&str) -> Command,
        authority: &Authority,
        address: SocketAddr,
        groups: &str,
    ) -> Self {
        let directory = directory();
        let root = directory.path();
        // In its own namespace an unprivileged user is root, too.
        let as_root = Ran::ok(launch("id").arg("-u")).trim() == "0";
        let certificate = authority.issue(&[HOST, SECOND_HOST]);
        write(&root.join("tls.crt"), &certificate.pem);
        write(&root.join("tls.key"), &certificate.key_pem);
        write(&root.join("users"), format!("{}:{{PLAIN}}{}\n", CREDENTIALS.0, CREDENTIALS.1));
        create_dir_all(root.join("repositories/v1/repos")).expect("a directory");
        write(&root.join("nginx.conf"), nginx_conf(root, address, as_root, groups));

        // Each process serves one request at a time and has no children: with `-c` it would fork children that outlive it.
        let fcgiwraps = (0..SERVED_AT_ONCE)
            .map(|index| {
                let socket = root.join(format!("cgi-{index}.sock"));
                let mut fcgiwrap = launch("fcgiwrap");
                fcgiwrap.arg("-s").arg(format!("unix:{}", socket.display()));
                isolate(&mut fcgiwrap, root);
                let mut fcgiwrap = Daemon::start(&mut fcgiwrap);
                until("fcgiwrap's socket", || {
                    fcgiwrap.assert_alive();
                    socket.exists().then_some(())
                });
                fcgiwrap
            })
            .collect();

        let mut nginx = launch("nginx");
        nginx.arg("-e").arg(root.join("error.log")).arg("-c").arg(root.join("nginx.conf"));
        isolate(&mut nginx, root);
        let mut nginx = Daemon::start(&mut nginx);
        until("nginx's pid file", || {
            nginx.assert_alive();
            root.join("nginx.pid").exists().then_some(())
        });
        GitServer { address, _nginx: nginx, _fcgiwraps: fcgiwraps, directory }
    }

    /// The address at which it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// `:PORT` if it is not 443: what a rule or a URL has after the host.
    pub(crate) fn port_suffix(&self) -> String {
        if self.address.port() == 443 { String::new() } else { format!(":{}", self.address.port()) }
    }

    /// `HOST:PORT`: the log's `target`.
    pub(crate) fn authority(&self) -> String {
        format!("{HOST}:{}", self.address.port())
    }

    /// Creates an empty repository: its path on disk.
    pub(crate) fn create(&self, name: &str) -> PathBuf {
        let path = self.directory.path().join("repositories/v1/repos").join(name);
        let home = self.directory.path();
        Ran::ok(tool("git", home).args(["init", "--quiet", "--bare"]).arg(&path));
        Ran::ok(tool("git", home).arg("-C").arg(&path).args(["config", "http.receivepack", "true"]));
        path
    }

    /// A repository's URL with the credentials, as GitLab stores it for a mirror.
    pub(crate) fn url(&self, name: &str) -> String {
        let (user, password) = CREDENTIALS;
        format!("https://{user}:{password}@{HOST}{}/v1/repos/{name}", self.port_suffix())
    }

    /// The TLS version and the group of each request.
    pub(crate) fn agreed(&self) -> Vec<String> {
        let log = read(&self.directory.path().join("access.log"));
        log.lines().filter_map(|line| Some(line.splitn(4, ' ').nth(3)?.to_owned())).collect()
    }

    /// The addresses from which requests came: the log's `upstream_local`.
    pub(crate) fn peers(&self) -> Vec<String> {
        let log = read(&self.directory.path().join("access.log"));
        let mut peers: Vec<String> =
            log.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect();
        peers.sort();
        peers.dedup();
        peers
    }
}

fn nginx_conf(root: &Path, address: SocketAddr, as_root: bool, groups: &str) -> String {
    let home = root.display();
    let exec_path = Ran::ok(tool("git", root).arg("--exec-path"));
    let backend = format!("{}/git-http-backend", exec_path.trim());
    assert!(Path::new(&backend).exists(), "no {backend}");
    let backends: String = (0..SERVED_AT_ONCE)
        .map(|index| format!("server unix:{home}/cgi-{index}.sock max_fails=0;"))
        .collect();
    // Started as root, it would otherwise run its workers as `nobody`, which may not enter the directory.
    let user = if as_root { "user root;" } else { "" };
    format!(
        r#"
daemon off;
{user}
worker_processes 1;
pid {home}/nginx.pid;
error_log {home}/error.log;
events {{ worker_connections 256; }}
http {{
    log_format peers '$remote_addr:$remote_port $request_method $status $ssl_protocol $ssl_curve';
    access_log {home}/access.log peers;
    client_body_temp_path {home}/body;
    fastcgi_temp_path {home}/fastcgi;
    proxy_temp_path {home}/proxy;
    scgi_temp_path {home}/scgi;
    uwsgi_temp_path {home}/uwsgi;
    client_max_body_size 0;
    upstream git {{
        least_conn;
        {backends}
    }}
    server {{
        listen {address} ssl;
        ssl_certificate {home}/tls.crt;
        ssl_certificate_key {home}/tls.key;
        {groups}
        location = /hello {{
            default_type text/plain;
            return 200 "{HELLO}";
        }}
        location /v1/repos/ {{
            auth_basic "test";
            auth_basic_user_file {home}/users;
            fastcgi_pass git;
            fastcgi_read_timeout 120s;
            fastcgi_param SCRIPT_FILENAME {backend};
            fastcgi_param GIT_PROJECT_ROOT {home}/repositories;
            fastcgi_param GIT_HTTP_EXPORT_ALL "";
            fastcgi_param PATH_INFO $uri;
            fastcgi_param REMOTE_USER $remote_user;
            fastcgi_param REMOTE_ADDR $remote_addr;
            fastcgi_param REQUEST_METHOD $request_method;
            fastcgi_param QUERY_STRING $query_string;
            fastcgi_param CONTENT_TYPE $content_type;
            fastcgi_param CONTENT_LENGTH $content_length;
            fastcgi_param HTTP_CONTENT_ENCODING $http_content_encoding;
        }}
    }}
}}
"#
    )
}
