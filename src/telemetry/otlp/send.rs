//! One request to the receiver, over a connection that is kept for the next.
//!
//! The connection is made by the same dialling code as a target's: names are looked up by egressd's own resolver, and addresses raced.
//! Not here: deadlines, and what is done about an error ([`super::export`]).

use std::net::{IpAddr, Ipv4Addr};

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, HOST, USER_AGENT};
use http::{HeaderValue, Method, Request};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use tokio_util::task::AbortOnDropHandle;

use super::answer::Answer;
use super::receiver::Receiver;
use crate::outbound::dial::{DialLimits, OwnAddresses, dial};
use crate::outbound::resolve::Resolver;
use crate::rules::address::Admitted;
use crate::transport::target_stream::UpstreamStream;
use crate::transport::tls::sentences::{self, Holder};

/// Most bytes of an answer. It has a sentence at most.
const ANSWER: usize = 64 * 1024;
/// What hyper buffers of an answer's head.
const BUFFER: usize = 16 * 1024;
/// The account that questions to DNS are charged to: no client has this address.
const ACCOUNT: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// A connection that may serve another request.
pub(super) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    /// Dropping it ends the connection.
    _driven: AbortOnDropHandle<()>,
}

/// Sends `body`. `kept` is the connection of the last request, and the one for the next.
pub(super) async fn send(
    kept: &mut Option<Connection>,
    receiver: &Receiver,
    resolver: &Resolver,
    own: &OwnAddresses,
    body: Bytes,
) -> Result<Answer, String> {
    if let Some(mut connection) = kept.take()
        && connection.sender.ready().await.is_ok()
    {
        // A server may close what is idle at any time. What crosses that is sent again at once, over a new connection.
        match exchange(&mut connection, receiver, body.clone()).await {
            Ok((answer, reusable)) => {
                *kept = reusable.then_some(connection);
                return Ok(answer);
            }
            Err(Failed::Unanswered(_)) => {}
            Err(Failed::Broken(why)) => return Err(why),
        }
    }
    let mut connection = connect(receiver, resolver, own).await?;
    match exchange(&mut connection, receiver, body).await {
        Ok((answer, reusable)) => {
            *kept = reusable.then_some(connection);
            Ok(answer)
        }
        Err(Failed::Unanswered(why) | Failed::Broken(why)) => Err(why),
    }
}

enum Failed {
    /// The connection ended before a byte of an answer.
    Unanswered(String),
    /// What came is no answer, or not all of one.
    Broken(String),
}

async fn connect(receiver: &Receiver, resolver: &Resolver, own: &OwnAddresses) -> Result<Connection, String> {
    let limits = DialLimits { dns_timeout: receiver.timeout, connect_timeout: receiver.timeout };
    let admit = |address| Ok(Admitted::next_hop(address));
    let dialled =
        dial(resolver, ACCOUNT, &receiver.at, admit, own, limits).await.map_err(|error| error.detail)?;
    let stream = match (dialled.stream, &receiver.tls) {
        (UpstreamStream::Bare(stream), Some((connector, name))) => {
            let secured = Box::pin(connector.connect(name.clone(), stream)).await.map_err(|error| {
                format!("the TLS handshake failed: {}", sentences::of_io(&error, Holder::Server))
            })?;
            UpstreamStream::Tls(Box::new(secured))
        }
        (stream, _) => stream,
    };
    let handshake = http1::Builder::new().max_buf_size(BUFFER).handshake(TokioIo::new(stream));
    let (sender, connection) = Box::pin(handshake).await.map_err(|error| error.to_string())?;
    let driven = tokio::spawn(async move {
        // Its error is that of the request.
        let _ = connection.await;
    });
    Ok(Connection { sender, _driven: AbortOnDropHandle::new(driven) })
}

async fn exchange(
    connection: &mut Connection,
    receiver: &Receiver,
    body: Bytes,
) -> Result<(Answer, bool), Failed> {
    let mut request = Request::new(Full::new(body));
    *request.method_mut() = Method::POST;
    *request.uri_mut() =
        receiver.path.parse().map_err(|_| Failed::Broken("its path is not valid".to_owned()))?;
    let headers = request.headers_mut();
    headers.extend(receiver.headers.clone());
    let host = HeaderValue::try_from(receiver.at.to_string())
        .map_err(|_| Failed::Broken("its host is not valid".to_owned()))?;
    headers.insert(HOST, host);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
    headers.insert(USER_AGENT, HeaderValue::from_static(concat!("egressd/", env!("CARGO_PKG_VERSION"))));
    if receiver.gzip {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    let response = connection.sender.send_request(request).await.map_err(|error| {
        let why = format!("the request failed: {error}");
        let unanswered = error.is_incomplete_message() || error.is_canceled() || error.is_closed();
        if unanswered { Failed::Unanswered(why) } else { Failed::Broken(why) }
    })?;
    let (head, body) = response.into_parts();
    let (body, reusable) = match Limited::new(body, ANSWER).collect().await {
        Ok(body) => (body.to_bytes(), true),
        // What a success says at length is not read; a body that breaks off leaves the status.
        Err(_) => (Bytes::new(), false),
    };
    Ok((Answer::read(head.status, &head.headers, &body, Timestamp::now()), reusable))
}
