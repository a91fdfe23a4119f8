//! `egressd healthcheck`: asks the admin listener of the running egressd whether it is ready.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use super::{CONFIGURATION_REFUSED, FAILED, FINE};
use crate::config;

/// A probe must not hang longer than the container runtime waits.
const TIMEOUT: Duration = Duration::from_secs(3);

pub(super) fn run(file: Option<&Path>) -> u8 {
    let loaded = match config::load(file) {
        Ok(loaded) => loaded,
        Err(findings) => {
            findings.iter().for_each(|finding| eprintln!("{finding}"));
            return CONFIGURATION_REFUSED;
        }
    };
    let address = reachable(loaded.config.admin.address);
    match ask(address) {
        Ok((status, _)) if status.starts_with("HTTP/1.1 200 ") => FINE,
        Ok((status, why)) => {
            eprintln!("egressd: not ready: {address} answered: {status}{}", told(&why));
            FAILED
        }
        Err(error) => {
            eprintln!("egressd: not ready: no answer from {address} (`admin.address`): {error}");
            FAILED
        }
    }
}

/// A wildcard address is for listening: the request goes to loopback.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// `: log_unavailable`, from the reply's body; whatever answers there, no more than a line of harmless characters.
fn told(body: &str) -> String {
    let line = body.lines().next().unwrap_or_default();
    let line: String = line.chars().take(100).collect();
    if line.is_empty() { line } else { format!(": {}", line.escape_debug()) }
}

/// The status line of `/readyz`, and the body.
fn ask(address: SocketAddr) -> std::io::Result<(String, String)> {
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut reply = Vec::new();
    stream.take(4096).read_to_end(&mut reply)?;
    let text = String::from_utf8_lossy(&reply);
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    Ok((head.lines().next().unwrap_or_default().trim_end().to_owned(), body.to_owned()))
}
