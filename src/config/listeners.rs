//! Where clients connect and how egressd knows who they are: addresses, the PROXY protocol, TLS, passwords. Also the
//! admin listener, whose address must not conflict with theirs.
//!
//! Certificates, keys, revocation lists and users files are read here, so that the checked bytes are the bytes that are
//! used and hashed. Not here: what they mean ([`crate::transport::tls`], [`super::users`]).

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;

use super::file::{
    AdminFile, BasicAuthFile, ListenerFile, ListenerModeFile, ProtocolFile, ProxyProtocolFile, TlsFile,
};
use super::finding::{Position, Report};
use super::keys::{
    Key, List, SECOND, STEP, duration, items, networks, position_of, private_networks, required, section,
    value,
};
use super::languages::Listen;
use super::named_files::NamedFiles;
use super::secret_files::{Secret, tell_of_readers};
use super::settings::{Admin, BasicAuth, ListenAddress, Listener, Protocols, ProxyProtocol, Tls};
use super::typed::At;
use super::users::{LineProblem, Users};
use super::values::{FileMode, FilePath, ListenAt};
use crate::rules::lint::{Proofs, open_to_strangers};
use crate::transport::tls::{FileProblem, Loaded, PemFile, ServerTls, TlsPem};
use crate::words::quote::quoted;

const LISTENER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 3128);
/// User and group may connect.
const PERMISSIONS: u32 = 0o660;
const ADMIN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 9180);

/// A named file could not be read, which was reported.
struct Unread;

/// The listeners, each with the position of its address.
pub(super) fn listeners(
    list: &List<ListenerFile>,
    report: &Report<'_>,
    files: &mut NamedFiles<'_>,
) -> Vec<(Listener, Position)> {
    let Some(list) = list else {
        let name = LISTENER.to_string().into();
        let listener = Listener {
            name,
            address: ListenAddress::Ip(LISTENER),
            protocols: Protocols::HTTP,
            proxy_protocol: None,
            tls: None,
            basic_auth: None,
        };
        return vec![(listener, Position::START)];
    };
    let reading = Reading { report };
    let mut listeners: Vec<(Listener, Position)> = Vec::new();
    for at in list.value.iter().flatten() {
        if let Some(file) = &at.value
            && let Some(listener) = reading.listener(file, at.position, &listeners, files)
        {
            listeners.push(listener);
        }
    }
    if list.value.as_ref().is_some_and(Vec::is_empty) {
        report.error(
            list.position,
            "`listeners` is empty: write at least one, or remove the key to listen on 0.0.0.0:3128",
        );
    }
    listeners
}

/// The names of the listeners, of those too that are wrong otherwise. None: one of them cannot be known.
pub(super) fn names(list: &List<ListenerFile>) -> Option<Vec<String>> {
    let Some(at) = list else { return Some(vec![LISTENER.to_string()]) };
    let name = |at: &At<ListenerFile>| {
        let file = at.value.as_ref()?;
        match &file.name {
            Some(name) => name.value.as_ref().map(|name| name.0.to_string()),
            None => value(&file.address).map(|address| address.0.to_string()),
        }
    };
    at.value.as_ref()?.iter().map(name).collect()
}

/// Whether some listener asks its clients for a certificate and for a password.
pub(super) fn proofs(list: &List<ListenerFile>) -> Proofs {
    let asks_for_both = |listener: &ListenerFile| {
        listener.basic_auth.is_some() && value(&listener.tls).is_some_and(|tls| tls.client_ca.is_some())
    };
    if items(list).any(|(listener, _)| asks_for_both(listener)) { Proofs::Both } else { Proofs::Either }
}

/// Where it is said that a balancer stands before egressd.
pub(super) fn balanced(list: &List<ListenerFile>, admin: &Key<AdminFile>) -> Option<Position> {
    let of_listeners = items(list).filter_map(|(listener, _)| listener.proxy_protocol.as_ref());
    let of_admin = value(admin).and_then(|admin| admin.proxy_protocol.as_ref());
    of_listeners.chain(of_admin).map(|at| at.position).next()
}

/// The admin listener, whose address no other listener uses.
pub(super) fn admin(key: &Key<AdminFile>, listeners: &[(Listener, Position)], report: &Report<'_>) -> Admin {
    let left_out = AdminFile::default();
    let file = section(key, &left_out);
    let address = value(&file.address).map_or(ADMIN, |socket| socket.0);
    if let Some((listener, position)) = listeners
        .iter()
        .find(|(listener, _)| listener.address.ip().is_some_and(|own| conflicts(own, address)))
    {
        // If the admin's address is not set, only the listener's is in the file.
        let position = file.address.as_ref().map_or(*position, |at| at.position);
        report.error(
            position,
            format!("the listener `{}` and `admin` both use {address}: write another port", listener.name),
        );
    }
    let networks = networks(&file.networks).unwrap_or_else(private_networks);
    if let (Some(at), Some(open)) = (&file.networks, open_to_strangers(&networks)) {
        let whose = if open.prefix_len() == 0 { "is every address" } else { "has addresses of anybody" };
        report.warning(
            position_of(&file.networks, &open).unwrap_or(at.position),
            format!(
                "{open} {whose}: any client there that reaches {address} may read the rules, the recent refusals and the metrics; \
                 write the networks of those who watch egressd"
            ),
        );
    }
    Admin {
        address,
        networks,
        hosts: items(&file.hosts).map(|(name, _)| name.0.clone()).collect(),
        proxy_protocol: Reading { report }.proxy_protocol(&file.proxy_protocol),
    }
}

/// Reads listeners, and reports what is wrong with them.
struct Reading<'r> {
    report: &'r Report<'r>,
}

impl Reading<'_> {
    fn listener(
        &self,
        file: &ListenerFile,
        around: Position,
        others: &[(Listener, Position)],
        files: &mut NamedFiles<'_>,
    ) -> Option<(Listener, Position)> {
        let is_transparent = value(&file.mode) == Some(&ListenerModeFile::Transparent);
        let protocols = match is_transparent {
            true => self.transparent(file),
            false => self.protocols(&file.protocols),
        };
        let proxy_protocol = self.proxy_protocol(&file.proxy_protocol);
        let tls = file.tls.as_ref().and_then(|at| self.tls(at, files));
        let basic_auth = file.basic_auth.as_ref().and_then(|at| self.basic_auth(at, files));
        let at = required(self.report, &file.address, around, "address", "address: 0.0.0.0:3128")?;
        let address = self.address(&at.value.as_ref()?.0, &file.permissions);
        let same = |(other, _): &&(Listener, Position)| match (&other.address, &address) {
            (ListenAddress::Ip(one), ListenAddress::Ip(two)) => conflicts(*one, *two),
            (ListenAddress::Unix { path: one, .. }, ListenAddress::Unix { path: two, .. }) => one == two,
            _ => false,
        };
        if let Some((other, _)) = others.iter().find(same) {
            let another = if address.ip().is_some() { "port" } else { "path" };
            self.report.error(
                at.position,
                format!(
                    "the listener `{}` already uses {}: write another {another}",
                    other.name, other.address
                ),
            );
        }
        if let (ListenAddress::Unix { .. }, Some(proxies)) = (&address, &proxy_protocol)
            && !proxies.trusts(Ipv4Addr::LOCALHOST.into())
        {
            self.report.warning(
                file.proxy_protocol.as_ref().map_or(around, |at| at.position),
                "the peers of a unix socket count as 127.0.0.1, which is not under `trusted`, so every connection would be closed: \
                 write 127.0.0.1/32 there",
            );
        }
        let name: Arc<str> = match value(&file.name) {
            Some(name) => (&*name.0).into(),
            None => address.to_string().into(),
        };
        if others.iter().any(|(other, _)| other.name == name) {
            let position = file.name.as_ref().map_or(around, |at| at.position);
            self.report
                .error(position, format!("another listener is called {}: write another name", quoted(&name)));
        }
        if let (Some(passwords), None) = (&file.basic_auth, &file.tls)
            && address.ip().is_some_and(|address| !address.ip().is_loopback())
        {
            self.report.warning(
                passwords.position,
                "clients send passwords in cleartext: add `tls` to the listener, so that nobody on the network path \
                 can read them",
            );
        }
        Some((Listener { name, address, protocols, proxy_protocol, tls, basic_auth }, at.position))
    }

    /// The address, with the permissions of a unix socket.
    fn address(&self, at: &Listen, permissions: &Key<FileMode>) -> ListenAddress {
        let path = match at {
            Listen::Ip(address) => {
                if let Some(at) = permissions {
                    self.report.error(
                        at.position,
                        "`permissions` are those of a unix socket, and this listener has a port: remove the key",
                    );
                }
                return ListenAddress::Ip(*address);
            }
            Listen::Unix(path) => path.clone(),
        };
        let mode = value(permissions).map_or(PERMISSIONS, |mode| mode.0);
        if let Some(at) = permissions {
            if mode & 0o002 != 0 {
                self.report.warning(
                    at.position,
                    "every user of the machine that reaches the socket's directory may connect: write \"0660\", and give the group to \
                     the clients",
                );
            }
            if mode & 0o222 == 0 {
                self.report.warning(
                    at.position,
                    "nobody may connect, which takes the right to write: write \"0660\"",
                );
            }
        }
        ListenAddress::Unix { path, permissions: mode }
    }

    /// Tells of what cannot stand beside `mode: transparent`.
    fn transparent(&self, file: &ListenerFile) -> Protocols {
        let unix = |at: &&At<ListenAt>| matches!(at.value.as_ref().map(|at| &at.0), Some(Listen::Unix(_)));
        let wrong = [
            (
                file.tls.as_ref().map(|at| at.position),
                "a listener with `mode: transparent` has no `tls` of its own, because its clients speak TLS with their targets: remove the \
                 key, or the mode",
            ),
            (
                file.basic_auth.as_ref().map(|at| at.position),
                "the clients of a listener with `mode: transparent` know of no proxy that could ask for a password: remove the key, or \
                 the mode",
            ),
            (
                file.protocols.as_ref().map(|at| at.position),
                "`protocols` are what clients speak to a proxy, and those of `mode: transparent` know of none: remove the key, or the mode",
            ),
            (
                file.address.as_ref().filter(unix).map(|at| at.position),
                "no connection can be redirected to a unix socket: write an IP address and a port, or remove `mode: transparent`",
            ),
        ];
        for (position, text) in wrong {
            if let Some(position) = position {
                self.report.error(position, text);
            }
        }
        Protocols::TRANSPARENT
    }

    fn protocols(&self, list: &List<ProtocolFile>) -> Protocols {
        let Some(at) = list else { return Protocols::HTTP };
        if at.value.as_ref().is_some_and(Vec::is_empty) {
            self.report.error(
                at.position,
                "`protocols` is empty, so no client could speak to the listener: write [http], [socks5] or both",
            );
        }
        let mut protocols = Protocols { http: false, socks5: false, transparent: false };
        for (protocol, position) in items(list) {
            let (known, word) = match protocol {
                ProtocolFile::Http => (&mut protocols.http, "http"),
                ProtocolFile::Socks5 => (&mut protocols.socks5, "socks5"),
            };
            if std::mem::replace(known, true) {
                self.report.warning(position, format!("`{word}` is listed twice: remove one of them"));
            }
        }
        protocols
    }

    fn proxy_protocol(&self, key: &Key<ProxyProtocolFile>) -> Option<ProxyProtocol> {
        let at = key.as_ref()?;
        let file = at.value.as_ref()?;
        required(self.report, &file.trusted, at.position, "trusted", "trusted: [10.0.0.0/8]")?;
        let trusted = networks(&file.trusted)?;
        if value(&file.trusted).is_some_and(Vec::is_empty) {
            self.report.error(
                at.position,
                "`trusted` is empty, so every connection would be closed: write the networks of the load balancer",
            );
        }
        // In pieces, too.
        if let Some(open) = open_to_strangers(&trusted) {
            let whom = match open.prefix_len() {
                0 => "every peer is trusted, so any peer".to_owned(),
                _ => format!("{open} has addresses of anybody, and each peer there is trusted: it"),
            };
            self.report.warning(
                position_of(&file.trusted, &open).unwrap_or(at.position),
                format!(
                    "{whom} can claim any client's address: write only the networks of the load balancer"
                ),
            );
        }
        Some(ProxyProtocol { trusted })
    }

    fn tls(&self, at: &At<TlsFile>, files: &mut NamedFiles<'_>) -> Option<Tls> {
        let file = at.value.as_ref()?;
        let certificate =
            required(self.report, &file.certificate, at.position, "certificate", "certificate: tls.crt");
        let key = required(self.report, &file.key, at.position, "key", "key: tls.key");
        let certificate = certificate.and_then(|at| self.pem(at, files).ok());
        let key = key.and_then(|at| {
            let pem = self.pem(at, files).ok()?;
            tell_of_readers(Secret::ListenerKey, (files, &at.value.as_ref()?.0), at.position, self.report);
            Some(pem)
        });
        let crl_alone = file.client_crl.as_ref().filter(|_| file.client_ca.is_none());
        if let Some(crl) = crl_alone {
            self.report.error(
                crl.position,
                "`client_crl` without `client_ca` revokes nothing: write `client_ca` too",
            );
        }
        let client_ca = self.optional_pem(&file.client_ca, files);
        let client_crl = self.optional_pem(&file.client_crl, files);
        let handshake_timeout =
            duration(self.report, &file.handshake_timeout, "handshake_timeout", 10 * SECOND, STEP);
        let (certificate, key) = (certificate?, key?);
        // A file that could not be read is already reported, and must not be reported again as missing.
        let (Ok(client_ca), Ok(client_crl), None) = (client_ca, client_crl, crl_alone) else { return None };
        let server = self.server_tls(&TlsPem { certificate, key, client_ca, client_crl })?;
        Some(Tls { server, handshake_timeout })
    }

    fn server_tls(&self, pem: &TlsPem) -> Option<ServerTls> {
        let report = |problem: &FileProblem| self.of(&problem.file);
        let position = |problem: &FileProblem| Position { line: problem.line, column: 1 };
        match ServerTls::from_pem(pem, Timestamp::now()) {
            Ok(Loaded { tls, warnings }) => {
                for problem in warnings {
                    report(&problem).warning(position(&problem), problem.text);
                }
                Some(tls)
            }
            Err(problems) => {
                for problem in problems {
                    report(&problem).error(position(&problem), problem.text);
                }
                None
            }
        }
    }

    fn basic_auth(&self, at: &At<BasicAuthFile>, files: &mut NamedFiles<'_>) -> Option<BasicAuth> {
        let file = at.value.as_ref()?;
        let named =
            required(self.report, &file.users_file, at.position, "users_file", "users_file: users.htpasswd")?;
        let name = &named.value.as_ref()?.0;
        let content = files.read(name, named.position, self.report)?;
        tell_of_readers(Secret::Users, (files, name), named.position, self.report);
        let report = self.of(&files.path(name));
        let position = |problem: &LineProblem| Position { line: problem.line, column: 1 };
        match Users::parse(&content) {
            Ok((users, warnings)) => {
                for problem in warnings {
                    report.warning(position(&problem), problem.text);
                }
                Some(BasicAuth { users: Arc::new(users) })
            }
            Err(problems) => {
                for problem in problems {
                    report.error(position(&problem), problem.text);
                }
                None
            }
        }
    }

    fn pem(&self, at: &At<FilePath>, files: &mut NamedFiles<'_>) -> Result<PemFile, Unread> {
        let name = at.value.as_ref().map(|path| &*path.0).ok_or(Unread)?;
        let bytes = files.read(name, at.position, self.report).ok_or(Unread)?;
        Ok(PemFile { path: files.path(name), bytes })
    }

    fn optional_pem(
        &self,
        key: &Key<FilePath>,
        files: &mut NamedFiles<'_>,
    ) -> Result<Option<PemFile>, Unread> {
        key.as_ref().map(|at| self.pem(at, files)).transpose()
    }

    /// The report for the findings of a named file.
    fn of(&self, file: &Path) -> Report<'_> {
        self.report.of(&file.display().to_string())
    }
}

/// Whether the second bind would fail: the same port, and the same address or a wildcard that covers the other. Port 0
/// is a new port each time.
fn conflicts(a: SocketAddr, b: SocketAddr) -> bool {
    let covers =
        |wide: IpAddr, ip: IpAddr| wide == ip || (wide.is_unspecified() && wide.is_ipv4() == ip.is_ipv4());
    a.port() == b.port() && a.port() != 0 && (covers(a.ip(), b.ip()) || covers(b.ip(), a.ip()))
}
