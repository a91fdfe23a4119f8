//! TLS to the target of an inspected tunnel, on the connection that was dialled for it, before the client gets its `200`.
//!
//! What is checked is what [`super::certificate`] checks for `verify_certificate`: a chain to a trusted authority,
//! the CONNECT host among the names, a validity that includes today. Here it is checked in the handshake that the tunnel then
//! uses. A resumed session repeats no check; it is used for as long as [`crate::transport::tls::origin`] allows. Handshakes at once are shared out
//! by client, together with those of `verify_certificate` ([`places`](super::places)): where one has to give its place up, it
//! begins again on another connection to the same address.
//!
//! Not checked: revocation. Not supported: targets that demand a client certificate, and targets that speak HTTP/2 alone.

use std::net::IpAddr;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::certificate::{self, Unverified};
use crate::transport::target_stream::UpstreamStream;
use crate::transport::tls::authorities::Roots;
use crate::transport::tls::client::{TrustError, server_name};
use crate::transport::tls::origin::{Handshaken, OriginTls};
use crate::transport::tls::sentences;
use crate::words::target::Target;

/// A handshake that had less than this part of its time says nothing of its target.
const WHOLE: u32 = 2;

/// What is said of a target that wants a certificate of its client.
pub const WANTS_CERTIFICATE: &str = "the target asks for a client certificate, which an inspected tunnel cannot show: let this \
                                     host pass without `inspect`";

/// TLS to targets.
#[derive(Debug)]
pub struct Origins(OriginTls);

impl Origins {
    /// Trusts `roots`.
    ///
    /// # Errors
    /// [`TrustError`].
    pub fn new(roots: &Roots) -> Result<Self, TrustError> {
        OriginTls::new(roots).map(Origins)
    }

    /// TLS to `target` over `stream`, for `client`: the account that the handshake is charged to. `again` makes another
    /// connection to the same place. All of it ends within `timeout`.
    ///
    /// # Errors
    /// [`Unverified`].
    pub async fn open<C>(
        &self,
        target: &Target,
        client: IpAddr,
        timeout: Duration,
        stream: UpstreamStream,
        again: impl Fn() -> C,
    ) -> Result<UpstreamStream, Unverified>
    where
        C: Future<Output = Result<UpstreamStream, String>>,
    {
        let Some(name) = server_name(&target.host) else {
            return Err(Unverified::invalid("no certificate can name this host"));
        };
        let deadline = Instant::now() + timeout;
        let (interest, turn) = certificate::ask(client);
        let mut began = None;
        let opening = async {
            let mut first = Some(stream);
            loop {
                turn.granted().await;
                began = Some(Instant::now());
                let handshake = Box::pin(async {
                    let stream = match first.take() {
                        Some(stream) => stream,
                        None => again().await.map_err(|detail| {
                            Unverified::not_tls(&format!("no second connection to the target: {detail}"))
                        })?,
                    };
                    told(self.0.handshake(name.clone(), target.port.get(), stream).await)
                });
                tokio::select! {
                    biased;
                    opened = handshake => return opened,
                    () = turn.revoked() => {}
                }
            }
        };
        let opened = timeout_at(deadline, opening).await;
        drop(interest);
        opened.unwrap_or_else(|_elapsed| {
            let had = began.map_or(Duration::ZERO, |began| began.elapsed());
            match had >= timeout / WHOLE {
                true => Err(Unverified::not_tls("the TLS handshake did not end in time")),
                false => Err(Unverified::no_place(
                    "the handshake began too late to be finished: others, of this client or of many, had all the places",
                )),
            }
        })
    }
}

fn told(handshaken: Handshaken) -> Result<UpstreamStream, Unverified> {
    let Handshaken { result, asked } = handshaken;
    result.map_err(|error| {
        // Where its own certificate was accepted, what it refuses is that there is none of ours.
        let refuses = matches!(sentences::inside(&error), None | Some(rustls::Error::AlertReceived(_)));
        match asked && refuses {
            true => Unverified::invalid(WANTS_CERTIFICATE),
            false => certificate::found(&error).0,
        }
    })
}
