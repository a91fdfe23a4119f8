//! Answers of egressd's own to git: refusals that it prints, and the wish for credentials.
//!
//! Git shows nothing of an answer to a push or a fetch but of a 200 in its own form. The answer to a push comes early and in two
//! parts: its first line before the pack is thrown away, its report after that. The connection is not announced to close, and goes
//! on: else git would send the push once more.

use std::fmt::Write as _;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use super::ahead::Ahead;
use super::beginning::broken;
use super::drain::drain;
use super::steps;
use crate::session::http::after::After;
use crate::session::http::forward::{Connection, Finish};
use crate::session::http::under_way::UnderWay;
use crate::session::refuse::{self, Refused};
use crate::session::request::Request;
use crate::transport::close;
use crate::transport::held::{Kind, Lease};
use crate::transport::keep_alive::KeepAlive;
use crate::transport::stream::Transport;
use crate::wire::git::refusal;
use crate::wire::head::{Head, Version};
use crate::words::git::{Asks, RefChange, Service};
use crate::words::outcome::Ending;
use crate::words::target::Host;

/// Most bytes of a refused body that are read. Of a longer one the client sees the first line alone, and then a connection that
/// ends.
const MOST_DRAINED: u64 = 2 << 30;

/// What answers a refused request.
struct Parts {
    media_type: &'static str,
    /// At once.
    opening: Vec<u8>,
}

/// Refuses in the form that git prints, where it has one. `ahead` is what was read of the body, all of which is still in the client's
/// buffer or on its way. `stop` ends it from outside.
pub(in crate::session::http) async fn refuse<'s, S: Transport>(
    connection: Connection<'_, S>,
    head: &Head,
    request: Request<'s>,
    refused: Refused,
    ahead: &Ahead,
    patience: Duration,
    stop: impl Future<Output = Ending>,
) -> After<'s> {
    let (reason, denial) = (refused.reason, refused.denial.clone());
    let text = format!("{reason}: {} (request {})", refused.advice, request.id());
    // What is chunked cannot be read by HTTP/1.0.
    let parts = Some(ahead).filter(|_| head.version == Version::Http11).and_then(|ahead| parts(ahead, &text));
    let Some(Parts { media_type, opening }) = parts else { return After::Refuse(request, refused) };
    let mut first = format!(
        "HTTP/1.1 200 egressd: {reason}\r\nContent-Type: {media_type}\r\nCache-Control: no-cache\r\n\
         Transfer-Encoding: chunked\r\nX-Content-Type-Options: nosniff\r\nX-Request-Id: {}\r\n\
         Proxy-Status: egressd; error=http_request_denied; details=\"{reason}\"\r\n\r\n",
        request.id()
    )
    .into_bytes();
    chunk(&mut first, &opening);
    let closing = ahead.capabilities().zip(ahead.changes()).filter(|(_, changes)| !changes.is_empty());
    let Connection { stream, buffer, lease, .. } = connection;
    let holder = Arc::clone(lease.holder());
    // As the report is made: it and the lines that it is divided into.
    let report_bytes = closing.map_or(0, |(_, changes)| {
        changes.iter().map(|change| change.name.as_str().len() + 64).sum::<usize>() + 16
    });
    // The verdict comes first: the rest of the body may take long.
    refuse::record_printed(request, &refused, first.len() + report_bytes);
    let telling = async {
        write(stream, &first, patience).await?;
        if !drain(stream, (buffer, lease), head.framing, MOST_DRAINED, patience).await? {
            return Ok(false);
        }
        let mut last = Vec::new();
        let mut of_last = Lease::new(&holder, Kind::Body);
        if let Some((capabilities, changes)) = closing {
            of_last.set(3 * report_bytes);
            let mut blamed = steps::blamed(denial.as_deref(), changes).await.into_iter();
            let is_to_blame = |_: &RefChange| blamed.next().unwrap_or(true);
            chunk(&mut last, &refusal::push_report(capabilities, changes, reason.as_str(), is_to_blame));
        }
        last.extend_from_slice(b"0\r\n\r\n");
        write(stream, &last, patience).await.map(|()| true)
    };
    let told = tokio::select! {
        biased;
        ending = stop => Err(broken(ending)),
        told = telling => told,
    };
    match told {
        Ok(true) if head.keep_alive => After::NextHead,
        Ok(_) => After::Told,
        Err(Finish::Broken {
            ending: ending @ (Ending::ClientClosed | Ending::ClientReset | Ending::ClientLost),
            ..
        }) => After::Gone(ending),
        Err(Finish::Broken { ending, .. }) => After::Cut(ending),
        Err(_) => After::Told,
    }
}

fn parts(ahead: &Ahead, text: &str) -> Option<Parts> {
    let Some(Asks::Rpc(service)) = ahead.asks() else { return None };
    let opening = match service {
        // The probe is answered as the server would: git then sends the push, and prints why it is refused.
        Service::ReceivePack if ahead.is_probe() => Vec::new(),
        Service::ReceivePack => refusal::push_opening(ahead.capabilities()?, text)?,
        Service::UploadPack if ahead.is_probe() => Vec::new(),
        Service::UploadPack | Service::UploadArchive => refusal::fetch(text),
    };
    Some(Parts { media_type: service.result_type(), opening })
}

/// Asks for credentials: git asks without them at first, and its user only then. The request was not sent on, and is no denial.
pub(in crate::session::http) async fn ask_for_credentials<'s, S: Transport>(
    connection: Connection<'_, S>,
    request: Request<'s>,
    host: &Host,
    keep: Option<KeepAlive>,
    on: &UnderWay<'_>,
) -> After<'s> {
    let id = request.id();
    let body =
        format!("egressd: the rule for {host} wants credentials of AWS with every request (request {id})\n");
    let mut reply = format!(
        "HTTP/1.1 401 egressd: credentials_wanted\r\nWWW-Authenticate: Basic realm=\"{host}\"\r\n\
         Content-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\nX-Content-Type-Options: nosniff\r\n\
         X-Request-Id: {id}\r\n",
        body.len()
    );
    // Writing to a String cannot fail.
    let _ = match keep {
        Some(keep) => {
            write!(reply, "Connection: keep-alive\r\nKeep-Alive: timeout={}\r\n\r\n", keep.announced())
        }
        None => write!(reply, "Connection: close\r\n\r\n"),
    };
    reply.push_str(&body);
    on.told(reply.len());
    request.exchanged(Some(401), None, None, on.meter);
    match write(connection.stream, reply.as_bytes(), close::LINGER_TIME).await {
        Ok(()) if keep.is_some() => After::NextHead,
        _ => After::Close,
    }
}

async fn write<W: AsyncWrite + Unpin>(
    stream: &mut W,
    bytes: &[u8],
    patience: Duration,
) -> Result<(), Finish> {
    let writing = async {
        stream.write_all(bytes).await?;
        stream.flush().await
    };
    match timeout(patience, writing).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) => Err(broken(Ending::ClientReset)),
        Err(_elapsed) => Err(broken(Ending::IdleTimeout)),
    }
}

/// One chunk, unless it is empty: that would be the last one.
fn chunk(out: &mut Vec<u8>, bytes: &[u8]) {
    if !bytes.is_empty() {
        out.extend_from_slice(format!("{:x}\r\n", bytes.len()).as_bytes());
        out.extend_from_slice(bytes);
        out.extend_from_slice(b"\r\n");
    }
}
