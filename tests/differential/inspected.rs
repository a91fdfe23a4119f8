//! The same requests through inspected tunnels: a strict origin inside TLS, and an egressd that opens it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::heads::OddRequest;
use super::readers::Seen;
use super::strict_origin::{self, LIMITS};
use super::support::{Authority, Egressd, Origin, TlsStream, Wire, config, directory, write};

/// The name of the origin.
pub(crate) const HOST: &str = "odd.test";

/// What came on each connection of the origin, inside its TLS.
type Connections = Arc<Mutex<Vec<Vec<u8>>>>;

/// An egressd that inspects the tunnels to one origin.
pub(crate) struct Inspected {
    proxy: Egressd,
    /// The strict origin, if it is the origin.
    _origin: Option<Origin>,
    read: Connections,
    inspection: Authority,
    /// Host and port of the origin.
    pub(crate) authority: String,
}

impl Inspected {
    /// With a strict origin.
    pub(crate) fn start() -> Self {
        let read = Connections::default();
        let targets = Authority::new();
        let all = Arc::clone(&read);
        let origin = Origin::tls(targets.issue(&[HOST]).server_config(), move |stream| {
            let lock = || all.lock().unwrap_or_else(PoisonError::into_inner);
            let mine = {
                let mut all = lock();
                all.push(Vec::new());
                all.len() - 1
            };
            strict_origin::answer(stream, |bytes| lock()[mine].extend_from_slice(bytes))
        });
        let port = origin.port();
        Inspected { _origin: Some(origin), read, ..Inspected::before(&targets, "127.0.0.1", port) }
    }

    /// With an origin at this address that shows a certificate of `targets`.
    pub(crate) fn before(targets: &Authority, address: &str, port: u16) -> Self {
        let (home, inspection) = (directory(), Authority::new());
        write(&home.path().join("roots.pem"), targets.pem());
        write(&home.path().join("ca.crt"), inspection.pem());
        write(&home.path().join("ca.key"), inspection.key_pem());
        let text = config(&[&format!("{{to: \"https://{HOST}:{port}\", inspect: true}}")])
            + LIMITS
            + "certificates: {roots: roots.pem}\ninspection: {certificate: ca.crt, key: ca.key}\n"
            + &format!("dns: {{hosts: {{{HOST}: [{address}]}}}}\n");
        let proxy = Egressd::start_in(home, &text);
        let (read, authority) = (Connections::default(), format!("{HOST}:{port}"));
        Inspected { proxy, _origin: None, read, inspection, authority }
    }

    /// Sends the requests, each in its own tunnel: the status of the first reply to each.
    pub(crate) fn ask_all(&self, requests: &[OddRequest]) -> Vec<u16> {
        let connect = || -> Wire<TlsStream> {
            Wire::through(self.inspection.client(HOST, self.proxy.tunnel(&self.authority)))
        };
        strict_origin::ask_each(connect, requests)
    }

    /// [`strict_origin::arrived`], inside the origin's TLS.
    pub(crate) fn arrived(&self, requests: &[OddRequest], statuses: &[u16]) -> BTreeMap<usize, Seen> {
        let read = self.read.lock().unwrap_or_else(PoisonError::into_inner).clone();
        strict_origin::arrived_at(&self.authority, read.into_iter(), requests, statuses)
    }
}
