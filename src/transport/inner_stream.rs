//! The client's side of an inspected tunnel: TLS inside the tunnel, with a certificate of our own for the target's name.
//!
//! [`InnerStream::accept`] makes the handshake. Its errors distinguish a client that does not trust the certificate from all
//! others: what such a client needs is the authority, and not a rule. Not here: the certificate, and what becomes of a failure
//! ([`crate::session::tunnel`]).

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::BytesMut;
use rustls::{AlertDescription, Error, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::transport::client_stream::ClientStream;
use crate::transport::held::Lease;
use crate::transport::prefixed::Prefixed;
use crate::transport::stream::Transport;
use crate::transport::tls::bulk::Bulk;
use crate::transport::tls::sentences::{self, Holder};
use crate::transport::tls::{AHEAD, STATE};

/// What a client speaks HTTP over inside a tunnel. Boxed: it has more than a kilobyte, and futures that hold it are moved.
#[derive(Debug)]
pub struct InnerStream(Box<TlsStream<Prefixed<ClientStream>>>, Bulk);

/// Why there is no TLS with the client.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum InnerFault {
    /// The client's alert says that it does not accept the certificate.
    Distrusted(String),
    /// The client left without an alert that says why.
    Left,
    /// Anything else, as a sentence.
    Failed(String),
}

impl InnerFault {
    /// What an error of the stream says about the client's handshake.
    pub fn of(error: &io::Error) -> Self {
        match sentences::inside(error) {
            Some(Error::AlertReceived(alert)) if is_of_distrust(*alert) => {
                InnerFault::Distrusted(sentences::alert_name(*alert))
            }
            // Not the name of an error, but a farewell (RFC 8446 §6.1): so does apt leave, which verifies within the handshake.
            Some(Error::AlertReceived(AlertDescription::CloseNotify | AlertDescription::UserCanceled)) => {
                InnerFault::Left
            }
            Some(found) => InnerFault::Failed(sentences::of_error(found, Holder::Client)),
            None => InnerFault::Left,
        }
    }
}

/// What clients send that cannot verify a certificate (RFC 8446 §6.2): without the authority, OpenSSL and Go say `unknown_ca` or
/// `bad_certificate`, Java and NSS `certificate_unknown` too.
fn is_of_distrust(alert: AlertDescription) -> bool {
    matches!(
        alert,
        AlertDescription::UnknownCA
            | AlertDescription::BadCertificate
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateRevoked
    )
}

impl InnerStream {
    /// Makes the handshake with what the client sent first, `early`. `lease` has [`STATE`] bytes; it covers what the client sends,
    /// too, until the handshake is over.
    ///
    /// # Errors
    /// Why there is none, and the client's connection: an alert was written to it, where one is due.
    pub async fn accept(
        client: ClientStream,
        early: BytesMut,
        config: Arc<ServerConfig>,
        lease: Lease,
    ) -> Result<Self, (InnerFault, ClientStream)> {
        let over = Prefixed::counted(client, early, lease);
        match TlsAcceptor::from(config).accept(over).into_fallible().await {
            Ok(mut stream) => {
                let (below, session) = stream.get_mut();
                below.settle(STATE);
                // More would only wait for clients that do not read.
                session.set_buffer_limit(Some(AHEAD));
                Ok(InnerStream(Box::new(stream), Bulk::default()))
            }
            Err((error, stream)) => Err((InnerFault::of(&error), stream.into_inner())),
        }
    }
}

impl Transport for InnerStream {
    fn socket(&self) -> &TcpStream {
        self.0.get_ref().0.get_ref().socket()
    }
}

impl AsyncRead for InnerStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let InnerStream(stream, bulk) = self.get_mut();
        bulk.read(stream, cx, buf)
    }
}

impl AsyncWrite for InnerStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().0).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().0).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_shutdown(cx)
    }
}
