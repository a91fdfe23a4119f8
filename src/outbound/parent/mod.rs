//! The parent proxy: TLS to it where it wants that, and a tunnel through it (RFC 9110 §9.3.6).
//!
//! [`Parent::secure`] makes the connection to it ready, [`Parent::connect`] asks it for a tunnel. Only the head
//! of its answer is read, so that what the target sends right after it stays in the connection.
//! Not here: where the parent is dialled ([`route`](super::route)), and plain requests, which go to it in absolute-form
//! ([`crate::session::http::forward`]).

#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::config::UpstreamProxy;
use crate::rules::HostSet;
use crate::transport::target_stream::UpstreamStream;
use crate::transport::tls::authorities::Roots;
use crate::transport::tls::client::{TrustError, client_config, server_name};
use crate::transport::tls::sentences::{self, Holder};
use crate::words::outcome::Reason;
use crate::words::target::{Host, Method, Target};

/// Longest head of an answer to CONNECT.
const MAX_HEAD: usize = 16 * 1024;
/// Fields of such a head at most.
const MAX_FIELDS: usize = 64;
/// Most interim answers (1xx) that are skipped.
const MAX_INTERIM: usize = 8;
/// What is said of an answer that is none.
const MALFORMED: &str = "did not answer in well-formed HTTP/1";
/// Bytes that one peek looks at.
const PEEK: usize = 2048;

/// A parent proxy, and what is needed to use it.
pub struct Parent {
    at: Target,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    authorization: Option<HeaderValue>,
    /// Targets that are reached without it.
    except: Arc<HostSet>,
}

/// Why the parent cannot be used, or made no tunnel.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ParentError {
    /// `upstream_proxy_refused` where it refused, else `upstream_bad_response`.
    pub reason: Reason,
    /// For the log on stderr, never for the client.
    pub detail: String,
}

impl ParentError {
    fn bad(detail: impl Into<String>) -> Self {
        ParentError { reason: Reason::UpstreamBadResponse, detail: detail.into() }
    }

    fn refused(detail: impl Into<String>) -> Self {
        ParentError { reason: Reason::UpstreamProxyRefused, detail: detail.into() }
    }
}

impl From<io::Error> for ParentError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => ParentError::bad("closed the connection before it answered"),
            _ => ParentError::bad(format!(
                "the connection failed before it answered: {}",
                sentences::of_io(&error, Holder::Server)
            )),
        }
    }
}

impl Parent {
    /// The parent of the configuration; `roots` verify an https parent that has no `ca`.
    ///
    /// # Errors
    /// [`TrustError`].
    pub fn new(settings: &UpstreamProxy, roots: &Roots) -> Result<Self, TrustError> {
        let tls = match settings.tls {
            false => None,
            true => {
                let mut config = client_config(settings.ca.as_ref(), roots)?;
                // What is spoken to it, so that a parent that knows HTTP/2 does not choose that.
                config.alpn_protocols = vec![b"http/1.1".to_vec()];
                let name = server_name(&settings.host).ok_or_else(|| {
                    TrustError::Settings(format!("no certificate can name the parent {}", settings.host))
                })?;
                Some((TlsConnector::from(Arc::new(config)), name))
            }
        };
        let authorization = settings.credentials.as_ref().and_then(|credentials| {
            let text = format!("Basic {}", STANDARD.encode(credentials.as_str()));
            // Base64 is visible ASCII, so this does not fail.
            let mut value = HeaderValue::try_from(text).ok()?;
            value.set_sensitive(true);
            Some(value)
        });
        let at = Target { host: settings.host.clone(), port: settings.port, method: Method::Connect };
        Ok(Parent { at, tls, authorization, except: Arc::clone(&settings.except) })
    }

    /// Its address.
    pub fn at(&self) -> &Target {
        &self.at
    }

    /// Whether `host` is reached without it.
    pub fn spares(&self, host: &Host) -> bool {
        self.except.contains(host)
    }

    /// The `Proxy-Authorization` to send to it.
    pub fn authorization(&self) -> Option<&HeaderValue> {
        self.authorization.as_ref()
    }

    /// Makes a new connection to it ready for HTTP: with TLS, where it wants that.
    ///
    /// # Errors
    /// The TLS handshake fails, or the certificate is not that of the parent.
    pub async fn secure(&self, stream: TcpStream) -> Result<UpstreamStream, ParentError> {
        let Some((connector, name)) = &self.tls else { return Ok(UpstreamStream::Bare(stream)) };
        match Box::pin(connector.connect(name.clone(), stream)).await {
            Ok(stream) => Ok(UpstreamStream::Tls(Box::new(stream))),
            Err(error) => {
                let why = sentences::of_io(&error, Holder::Server);
                Err(ParentError::bad(format!("the TLS handshake failed: {why}")))
            }
        }
    }

    /// Asks for a tunnel to `target`. Afterwards `stream` carries the tunnel's bytes and nothing else.
    ///
    /// # Errors
    /// What the parent answered instead.
    pub async fn connect(&self, stream: &mut UpstreamStream, target: &Target) -> Result<(), ParentError> {
        let mut request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n").into_bytes();
        if let Some(authorization) = &self.authorization {
            request.extend_from_slice(b"Proxy-Authorization: ");
            request.extend_from_slice(authorization.as_bytes());
            request.extend_from_slice(b"\r\n");
        }
        request.extend_from_slice(b"\r\n");
        stream.write_all(&request).await?;
        stream.flush().await?;
        for _ in 0..=MAX_INTERIM {
            let head = read_head(stream).await?;
            match read_answer(&head, self.authorization.is_some())? {
                Answer::Interim => {}
                Answer::Open => return Ok(()),
            }
        }
        Err(ParentError::bad(format!("sent more than {MAX_INTERIM} interim answers (1xx)")))
    }
}

impl fmt::Debug for Parent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parent")
            .field("at", &self.at)
            .field("tls", &self.tls.is_some())
            .finish_non_exhaustive()
    }
}

#[derive(Debug)]
enum Answer {
    /// 1xx: another follows.
    Interim,
    /// 2xx: the tunnel is open, whatever the head's fields say about a body.
    Open,
}

fn read_answer(head: &[u8], authorized: bool) -> Result<Answer, ParentError> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut response = httparse::Response::new(&mut fields);
    let code = match response.parse(head) {
        Ok(httparse::Status::Complete(_)) => response.code.unwrap_or_default(),
        Ok(httparse::Status::Partial) | Err(_) => {
            return Err(ParentError::bad(MALFORMED));
        }
    };
    match code {
        // No upgrade was requested.
        101 => Err(ParentError::bad("switched to another protocol, which was not requested")),
        100..=199 => Ok(Answer::Interim),
        200..=299 => Ok(Answer::Open),
        407 if authorized => {
            Err(ParentError::refused("answered 407: it refuses the credentials in `credentials_file`"))
        }
        407 => Err(ParentError::refused("answered 407: it wants credentials, see `credentials_file`")),
        code => Err(ParentError::refused(format!("answered {code}"))),
    }
}

/// Reads exactly one head.
async fn read_head(stream: &mut UpstreamStream) -> Result<Vec<u8>, ParentError> {
    let mut head = AnswerHead::default();
    loop {
        let ended = match stream {
            UpstreamStream::Bare(stream) => read_to_end_of_head(stream, &mut head).await?,
            // From memory: TLS has a whole record there.
            UpstreamStream::Tls(_) | UpstreamStream::Inspected(_) => head.push(stream.read_u8().await?)?,
        };
        if ended {
            return Ok(head.0);
        }
    }
}

/// Takes from the socket what belongs to the head: all that is there, or up to the end of the head. Nothing of the head that
/// was looked at may stay in the socket: the next peek would return at once, again and again.
async fn read_to_end_of_head(stream: &mut TcpStream, head: &mut AnswerHead) -> Result<bool, ParentError> {
    let mut ahead = vec![0; PEEK];
    let there = stream.peek(&mut ahead).await?;
    if there == 0 {
        return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
    }
    let (mut taken, mut ended) = (0, false);
    for byte in ahead.get(..there).unwrap_or_default() {
        ended = head.push(*byte)?;
        taken += 1;
        if ended {
            break;
        }
    }
    stream.read_exact(ahead.get_mut(..taken).unwrap_or_default()).await?;
    Ok(ended)
}

/// What an answer begins with.
const BEGIN: &[u8] = b"HTTP/1.";

/// A head as far as it has come. It is refused with the first byte that cannot be HTTP: its sender waits, and so
/// would egressd, until the time to connect is over. Lines may end with LF alone (RFC 9112 §2.2), as curl and Squid take
/// them from a parent: there is nobody whom another reading could deceive, since only the head is read here.
#[derive(Default)]
struct AnswerHead(Vec<u8>);

impl AnswerHead {
    /// Whether the head ends with this byte.
    fn push(&mut self, byte: u8) -> Result<bool, ParentError> {
        let malformed = || ParentError::bad(MALFORMED);
        let AnswerHead(head) = self;
        if head.len() >= MAX_HEAD {
            return Err(ParentError::bad(format!("the head of its answer is longer than {MAX_HEAD} bytes")));
        }
        let is_other_protocol = BEGIN.get(head.len()).is_some_and(|expected| byte != *expected);
        let is_lone_cr = head.last() == Some(&b'\r') && byte != b'\n';
        if is_other_protocol || is_lone_cr {
            return Err(malformed());
        }
        head.push(byte);
        if byte != b'\n' {
            return Ok(false);
        }
        // At most once for each field: one too many is an error.
        let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
        let parsed = httparse::Response::new(&mut fields).parse(head).map_err(|_| malformed())?;
        Ok(parsed.is_complete())
    }
}
