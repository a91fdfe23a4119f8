//! TLS: from clients to the proxy itself (the certificate it shows, the certificates it asks for, the handshake), and from
//! egressd to upstreams ([`client`]).
//!
//! [`ServerTls`] is made from the files of one listener, and makes handshakes. TLS 1.2 and 1.3 only, by rustls on
//! aws-lc-rs. A valid client certificate gives typed identities ([`identity`]). [`sentences`] says what went wrong in either.
//!
//! Not here: reading the files and swapping them on reload ([`crate::operate::reload`]), deadlines (an argument), and what
//! policies do with an identity.

mod anchors;
pub mod authorities;
pub mod bulk;
mod certificates;
mod chain;
pub mod client;
mod files;
mod identity;
pub mod mint;
pub mod origin;
mod provider;
mod records;
mod revocation;
pub mod sentences;
mod server;
mod sessions;
mod signature;
mod trust;
mod verified;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use jiff::Timestamp;
use rustls::{AlertDescription, InvalidMessage};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

pub use chain::{ClientChain, Unaccepted};
pub use files::{FileProblem, PemFile, TlsPem};
pub use identity::{is_common_name, is_spiffe};
pub use records::Records;
pub use server::{Loaded, ServerTls};
pub use trust::ClientTrust;

use crate::transport::held::Lease;
use crate::transport::prefixed::Prefixed;
use crate::transport::tls::sentences::Holder;
use crate::wire::first_bytes::{Spoken, spoken};
use crate::wire::head::{Place, RefusedHead, cut_short};
use crate::words::outcome::Reason;

/// Size of the first read: most ClientHellos fit, one with a post-quantum key share, too.
const FIRST_READ: usize = 2 * 1024;
/// The memory of one client's TLS while nothing is under way: `tests/long/side_by_side` prints it.
pub const STATE: usize = 9 * 1024;
/// The plaintext of one record (RFC 8446 section 5.1).
const RECORD: usize = 16 * 1024;
/// Most bytes that are encrypted ahead of the socket inside an inspected tunnel: the piece of a body, and what frames it.
pub const AHEAD: usize = 2 * RECORD + 256;
/// What an identity takes in addition to its text.
const IDENTITY: usize = 48;
/// Most bytes of the certificates that a client shows: TLS keeps all of them as long as the connection. One with a key of RSA 4096
/// has some 2 KiB, so eight fit; TLS itself allows 64 KiB.
const MAX_CHAIN: usize = 16 << 10;

/// A client whose TLS handshake is complete, with a valid certificate where one is required.
#[derive(Debug)]
pub struct Accepted<S> {
    /// What the client sends, decrypted. Boxed: it has more than a kilobyte, and futures that hold it are moved.
    pub stream: Box<TlsStream<Prefixed<S>>>,
    /// What its certificate proves, each beginning with its kind. Empty where no certificate is asked for.
    pub identities: Vec<Box<str>>,
    /// The certificates that prove them, to be judged again. `None` where no certificate is asked for.
    pub chain: Option<ClientChain>,
}

/// A handshake that failed.
#[derive(Debug)]
pub struct Failure<S> {
    /// Why.
    pub error: HandshakeError,
    /// The connection, on which an alert may have been written: a client reads it only if the close waits for it.
    /// `None` after the deadline.
    pub stream: Option<S>,
}

/// Why a handshake failed.
#[derive(Debug, Error)]
pub enum HandshakeError {
    /// The peer left without a byte, as a probe does. It is counted, not logged.
    #[error("closed without a byte")]
    Silent,
    /// The handshake did not end in time.
    #[error("the TLS handshake did not end in time")]
    Timeout,
    /// The client spoke HTTP without TLS. It can be told so in clear, and nothing was written yet.
    #[error("the client spoke HTTP without TLS: its proxy URL must begin with https://")]
    PlainHttp(Box<RefusedHead>),
    /// The handshake failed for another reason than the client's certificate.
    #[error("{0}")]
    Failed(String),
    /// The client showed no certificate, or one that is not valid.
    #[error("{0}")]
    ClientCertificate(String),
}

impl HandshakeError {
    /// The reason for log and metric; `None` for a probe, which is not a refusal.
    pub fn reason(&self) -> Option<Reason> {
        match self {
            HandshakeError::Silent => None,
            HandshakeError::Timeout | HandshakeError::PlainHttp(_) | HandshakeError::Failed(_) => {
                Some(Reason::TlsHandshakeFailed)
            }
            HandshakeError::ClientCertificate(_) => Some(Reason::ClientCertificateInvalid),
        }
    }
}

impl ServerTls {
    /// Makes the handshake on `stream`. `early` is what was read from it before, after a PROXY header: the client's first
    /// bytes. `timeout` is for the whole handshake. `lease` has [`STATE`] bytes; it covers what
    /// the client has sent, too, until the handshake is over.
    ///
    /// # Errors
    /// See [`HandshakeError`]. Its text is for the log; the client already got an alert, except one that speaks plain HTTP,
    /// which would not read it.
    pub async fn accept<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        mut stream: S,
        mut early: BytesMut,
        timeout: Duration,
        lease: Lease,
    ) -> Result<Accepted<S>, Failure<S>> {
        let budget = Arc::clone(lease.holder().budget());
        // Before the certificates are judged: what ends meanwhile is judged again.
        let began = Timestamp::now();
        let acceptor = TlsAcceptor::from(self.config());
        // Boxed: the state of a handshake has kilobytes, and the future that awaits it lives longer.
        let handshake = Box::pin(async move {
            let spoken = first_bytes(&mut stream, &mut early).await;
            if spoken == Some(Spoken::Http) {
                let what = "plain HTTP at a TLS listener";
                let head = cut_short(Reason::TlsHandshakeFailed, what, &early, &Place::Proxy);
                return Err(Failure { error: HandshakeError::PlainHttp(head), stream: Some(stream) });
            }
            match acceptor.accept(Prefixed::counted(stream, early, lease)).into_fallible().await {
                Ok(stream) => Ok(Box::new(stream)),
                Err((error, stream)) => {
                    let error = tell(&error, stream.has_given(), spoken);
                    Err(Failure { error, stream: Some(stream.into_inner()) })
                }
            }
        });
        let mut stream = match tokio::time::timeout(timeout, handshake).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(failure)) => return Err(failure),
            Err(_) => return Err(Failure { error: HandshakeError::Timeout, stream: None }),
        };
        let (below, session) = stream.get_mut();
        below.settle(STATE);
        // More would only wait for clients that do not read: one record is written at a time.
        session.set_buffer_limit(Some(RECORD));
        // A certificate that is here was verified: without `client_ca` none is asked for.
        let shown = stream.get_ref().1.peer_certificates().zip(self.clients());
        let Some((shown, trust)) = shown else {
            return Ok(Accepted { stream, identities: Vec::new(), chain: None });
        };
        let read = match shown.first() {
            Some(_) if shown.iter().map(|certificate| certificate.len()).sum::<usize>() > MAX_CHAIN => {
                Err("the client's certificate came with too many others: more than 16 KiB")
            }
            Some(own) => identity::identities(own),
            None => Err("the client showed no certificate"),
        };
        match read {
            Ok(identities) => {
                let names: usize = identities.iter().map(|name| name.len() + IDENTITY).sum();
                let kept = chain::memory_of(shown) + names;
                let chain = Some(trust.accepted(shown, began, &budget));
                stream.get_mut().0.settle(STATE + kept);
                Ok(Accepted { stream, identities, chain })
            }
            Err(why) => Err(Failure {
                error: HandshakeError::ClientCertificate(why.to_owned()),
                stream: Some(stream.into_inner().0.into_inner()),
            }),
        }
    }
}

/// Reads into `early` until the bytes tell what the client speaks: at most 33 are waited for, and a ClientHello tells it by its
/// first. `None`: the client left before, which the handshake will see, too.
async fn first_bytes<S: AsyncRead + Unpin>(stream: &mut S, early: &mut BytesMut) -> Option<Spoken> {
    loop {
        if let Some(spoken) = spoken(early) {
            return Some(spoken);
        }
        early.reserve(FIRST_READ);
        match stream.read_buf(early).await {
            Ok(1..) => {}
            Ok(0) | Err(_) => return None,
        }
    }
}

/// Says what rustls found, for the operator of the client.
fn tell(error: &io::Error, received: bool, spoken: Option<Spoken>) -> HandshakeError {
    use rustls::Error;
    let Some(found) = sentences::inside(error) else {
        return match received {
            false => HandshakeError::Silent,
            true => HandshakeError::Failed(format!(
                "the connection ended in the TLS handshake: {}",
                sentences::of_io(error, Holder::Client)
            )),
        };
    };
    match found {
        about @ (Error::NoCertificatesPresented
        | Error::InvalidCertificate(_)
        // A list that only a handshake can check: its CA is one that the client showed.
        | Error::InvalidCertRevocationList(_)) => HandshakeError::ClientCertificate(sentences::of_client(about)),
        Error::InvalidMessage(InvalidMessage::InvalidContentType) => HandshakeError::Failed(match spoken {
            Some(Spoken::Socks) => {
                "the client spoke SOCKS: its proxy URL must begin with https://, and not with socks"
                    .to_owned()
            }
            Some(Spoken::Ssh) => "the client spoke SSH: this listener is an HTTP proxy within TLS".to_owned(),
            Some(Spoken::ProxyHeader) => {
                "the first bytes are a PROXY header, and this listener has no proxy_protocol: \
                 add it with the balancer's networks, or let the balancer send no header"
                    .to_owned()
            }
            Some(Spoken::Tls | Spoken::Http | Spoken::Other) | None => {
                "the client did not speak TLS: its proxy URL must begin with https://".to_owned()
            }
        }),
        Error::AlertReceived(
            alert @ (AlertDescription::UnknownCA
            | AlertDescription::BadCertificate
            | AlertDescription::CertificateUnknown
            | AlertDescription::CertificateExpired),
        ) => HandshakeError::Failed(format!(
            "the client does not trust this listener's certificate: it sent the alert {}",
            sentences::alert_name(*alert)
        )),
        other => HandshakeError::Failed(format!(
            "the TLS handshake failed: {}",
            sentences::of_error(other, Holder::Client)
        )),
    }
}

#[cfg(test)]
mod tests;
