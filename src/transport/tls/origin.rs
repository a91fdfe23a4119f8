//! TLS to the target of an inspected tunnel: verified for the host, HTTP/1.1 alone, resumed where it may be.
//!
//! No certificate of our own is ever shown. A target that asks for one is noticed ([`Handshaken::asked`]): in TLS 1.3 it refuses
//! only after the handshake, and then with an alert. Not here: where the connection comes from, deadlines, and what a failure
//! means ([`crate::outbound::origin`]).

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::sync::Arc;

use jiff::Timestamp;
use rustls::client::{ResolvesClientCert, Resumption};
use rustls::pki_types::ServerName;
use rustls::sign::CertifiedKey;
use rustls::{AlertDescription, ClientConfig, Error, HandshakeKind, SignatureScheme};
use tokio_rustls::TlsConnector;

use super::authorities::Roots;
use super::client::{TrustError, remembering};
use super::sentences;
use super::sessions::{Connection, Sessions};
use super::{AHEAD, STATE};
use crate::transport::target_stream::UpstreamStream;

/// The memory of TLS with one target while nothing is under way.
pub const ORIGIN_STATE: usize = STATE;

/// The settings of all these handshakes by one set of authorities, and their sessions.
#[derive(Debug)]
pub struct OriginTls {
    config: ClientConfig,
    sessions: Arc<Sessions>,
}

/// A handshake that ended.
#[derive(Debug)]
pub struct Handshaken {
    /// The stream, or the error.
    pub result: io::Result<UpstreamStream>,
    /// Whether the target asked for a certificate of ours.
    pub asked: bool,
}

impl OriginTls {
    /// Trusts `roots`.
    ///
    /// # Errors
    /// [`TrustError`].
    pub fn new(roots: &Roots) -> Result<Self, TrustError> {
        let mut config = remembering(roots)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config.client_auth_cert_resolver = Arc::new(NoCertificate);
        // What is sent early can be replayed.
        config.enable_early_data = false;
        Ok(OriginTls { config, sessions: Arc::default() })
    }

    /// Makes the handshake with `name` at `port`. It has no deadline of its own.
    pub async fn handshake(&self, name: ServerName<'static>, port: u16, over: UpstreamStream) -> Handshaken {
        let mut asked = false;
        let sessions = Arc::new(self.sessions.connection(name.clone(), port));
        let mut config = self.config.clone();
        config.resumption = Resumption::store(Arc::<Connection>::clone(&sessions));
        let connector = TlsConnector::from(Arc::new(config));
        let result = {
            let mut connecting = pin!(connector.connect(name, over));
            poll_fn(|cx| {
                ASKED.set(false);
                let polled = connecting.as_mut().poll(cx);
                asked |= ASKED.take();
                polled
            })
            .await
        };
        let result = result.map(|mut stream| {
            let session = stream.get_mut().1;
            session.set_buffer_limit(Some(AHEAD));
            match session.handshake_kind() {
                Some(HandshakeKind::Resumed) => sessions.resumed(Timestamp::now()),
                _ => {
                    sessions.verified(session.peer_certificates().unwrap_or_default(), Timestamp::now());
                }
            }
            UpstreamStream::Inspected(Box::new(stream))
        });
        Handshaken { result, asked }
    }
}

thread_local! {
    /// Whether the target asked for a certificate, in the turn in which its messages are read.
    static ASKED: Cell<bool> = const { Cell::new(false) };
}

/// Gives no certificate to any target, and notes that one was asked for.
#[derive(Debug)]
struct NoCertificate;

impl ResolvesClientCert for NoCertificate {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        ASKED.set(true);
        None
    }

    fn has_certs(&self) -> bool {
        false
    }
}

/// Whether an error that came after the handshake says that the target wants a certificate of ours (RFC 8446 §4.4.2.4).
pub fn wants_certificate(error: &io::Error) -> bool {
    matches!(sentences::inside(error), Some(Error::AlertReceived(AlertDescription::CertificateRequired)))
}
