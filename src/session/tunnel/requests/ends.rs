//! The end of a tunnel of requests: its goodbye, and bytes that are relayed after its last request.

use std::future::Future;
use std::pin::Pin;

use bytes::{BufMut, BytesMut};
use tokio::io::AsyncWriteExt;
use tokio::time::{Instant, sleep_until};

use crate::session::request::Opened;
use crate::state::live::LiveTunnel;
use crate::transport::close;
use crate::transport::relay::{self, PROGRESS, Relay};
use crate::transport::stream::Transport;
use crate::wire::head::{Head, RequestTarget, Version};
use crate::words::outcome::Ending;

/// Reports the progress of a long tunnel while `serving` serves it. Pinned by the caller: an argument that is pinned here would be in
/// memory twice, for as long as the tunnel lasts.
pub(super) async fn with_progress<T>(
    mut serving: Pin<&mut impl Future<Output = T>>,
    opened: &Opened<'_>,
) -> T {
    let mut due = Instant::now() + PROGRESS;
    loop {
        tokio::select! {
            biased;
            end = &mut serving => return end,
            () = sleep_until(due) => {
                opened.progress();
                due += PROGRESS;
            }
        }
    }
}

/// Ends the TLS of a tunnel in which no request is under way: some clients wait for that, and report an error without it.
pub(super) async fn goodbye<S: Transport>(mut client: S, ending: Ending) {
    match ending {
        Ending::ClientReset | Ending::ClientLost | Ending::InternalError | Ending::MemoryLimit => {
            relay::part_client(client, ending);
        }
        _ => {
            // After a timeout or a failure the rest is the same: drop.
            let _ = tokio::time::timeout(close::LINGER_TIME, client.shutdown()).await;
        }
    }
}

/// Relays whatever comes, as a `tcp` rule would: in report mode, and after a `101`.
pub(super) async fn pass_anything<S: Transport + Send, U: Transport + Send>(
    mut client: S,
    mut upstream: U,
    mut relay: Relay<'static>,
    opened: &Opened<'_>,
    live: &LiveTunnel,
) -> Ending {
    let progress = || opened.progress();
    let (meter, cancel) = (live.meter(), live.cancel());
    let ending = relay.run_streams(&mut client, &mut upstream, meter, cancel, &progress).await;
    relay::part(client, upstream, ending).await;
    ending
}

/// The head for a target that is to see all of it but the fields for a proxy.
pub(super) fn as_it_came(head: &Head) -> BytesMut {
    let mut bytes = BytesMut::with_capacity(head.bytes);
    let path = match &head.target {
        RequestTarget::Absolute { path_and_query, .. } => path_and_query.as_str(),
        RequestTarget::Authority(_) => "/",
    };
    let version = match head.version {
        Version::Http10 => "HTTP/1.0",
        Version::Http11 => "HTTP/1.1",
    };
    for part in [head.method.as_str(), " ", path, " ", version, "\r\n"] {
        bytes.put_slice(part.as_bytes());
    }
    for (name, value) in &head.headers {
        if name.as_str().starts_with("proxy-") {
            continue;
        }
        for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
            bytes.put_slice(part);
        }
    }
    bytes.put_slice(b"\r\n");
    bytes
}
