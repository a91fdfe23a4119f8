//! Where clients connect and how egressd knows who they are: addresses, the PROXY protocol, TLS, passwords. Also the
//! admin listener, whose address must not conflict with theirs.
//!
//! Certificates, keys, revocation lists and users files are read here, so that the checked bytes are the bytes that are
//! used and hashed. Not here: what they mean ([`crate::transport::tls`], [`super::users`]).

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;

use super::file::{AdminFile, BasicAuthFile, ListenerFile, ProxyProtocolFile, TlsFile};
use super::finding::{Position, Report};
use super::keys::{
    Key, List, SECOND, STEP, duration, items, networks, position_of, private_networks, required, section,
    value,
};
use super::named_files::NamedFiles;
use super::secret_files::{Secret, tell_of_readers};
use super::settings::{Admin, BasicAuth, Listener, ProxyProtocol, Tls};
use super::typed::At;
use super::users::{LineProblem, Users};
use super::values::FilePath;
use crate::rules::lint::{Proofs, open_to_strangers};
use crate::transport::tls::{FileProblem, Loaded, PemFile, ServerTls, TlsPem};
use crate::words::quote::quoted;

const LISTENER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 3128);
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
        let listener =
            Listener { name, address: LISTENER, proxy_protocol: None, tls: None, basic_auth: None };
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
    if let Some((listener, position)) =
        listeners.iter().find(|(listener, _)| conflicts(listener.address, address))
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
        let proxy_protocol = self.proxy_protocol(&file.proxy_protocol);
        let tls = file.tls.as_ref().and_then(|at| self.tls(at, files));
        let basic_auth = file.basic_auth.as_ref().and_then(|at| self.basic_auth(at, files));
        let at = required(self.report, &file.address, around, "address", "address: 0.0.0.0:3128")?;
        let address = at.value.as_ref()?.0;
        if let Some((other, _)) = others.iter().find(|(other, _)| conflicts(other.address, address)) {
            self.report.error(
                at.position,
                format!("the listener `{}` already uses {}: write another port", other.name, other.address),
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
            && !address.ip().is_loopback()
        {
            self.report.warning(
                passwords.position,
                "clients send passwords in cleartext: add `tls` to the listener, so that nobody on the network path \
                 can read them",
            );
        }
        Some((Listener { name, address, proxy_protocol, tls, basic_auth }, at.position))
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
