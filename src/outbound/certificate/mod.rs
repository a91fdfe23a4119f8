//! `verify_certificate`: does the address that was dialled prove that it is the host of the CONNECT request? Asked after
//! the `200`, by [the gate](crate::session), once the client's hello has passed.
//!
//! egressd makes a TLS handshake of its own and checks what a careful client checks: a chain to a trusted authority, the
//! CONNECT host among the names, a validity that includes today, and the key. A verdict is kept for a while by host and
//! address. A caller that needs a verdict which another caller is just finding out waits for that one.
//!
//! The client's own handshake is a separate one. A server that can distinguish the two may show the client another
//! certificate, and the client has to check that one. What this rules out is an address that cannot prove to be the host
//! at all. Not checked: revocation. Not supported: targets that demand a client certificate in TLS 1.2. Not here: where the
//! connection for the handshake is made ([`route`](super::route)).

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;

use crate::transport::tls::authorities::Roots;
use crate::transport::tls::client::{TrustError, client_config, server_name};
use crate::transport::tls::sentences::{self, Holder};
use crate::words::outcome::Reason;
use crate::words::target::{Host, Port};

/// How long a proof is kept. A certificate that expires meanwhile is noticed that much later.
const PROOF_KEPT: Duration = Duration::from_secs(5 * 60);
/// How long a refusal is kept that is due to what the target showed.
const REFUSAL_KEPT: Duration = Duration::from_secs(30);
/// How long a refusal is kept that is due to a target that did not answer: it may answer soon.
const SILENCE_KEPT: Duration = Duration::from_secs(1);
/// Most verdicts that are kept. One takes some 250 bytes.
const MAX_KEPT: usize = 4096;

/// Handshakes at once: each holds a descriptor beside its tunnel's. Until the machine's limit is known: what the smallest
/// limit allows.
static HANDSHAKES: Semaphore = Semaphore::const_new(2);

/// Sets how many handshakes there may be at once. Called at the start, before any is made.
pub fn set_handshakes(count: usize) {
    HANDSHAKES.add_permits(count.saturating_sub(HANDSHAKES.available_permits()));
}

/// What is to be proven: that this host is at this address.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Claim {
    /// The CONNECT host.
    pub host: Host,
    /// The target's port.
    pub port: Port,
    /// What was dialled: the target's address, or the parent's.
    pub upstream: SocketAddr,
}

/// The claim was not proven.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Unverified {
    /// `certificate_invalid`, or `upstream_not_tls` where the target did not answer in TLS.
    pub reason: Reason,
    /// For the log on stderr, never for the client.
    pub detail: Arc<str>,
}

impl Unverified {
    fn invalid(detail: &str) -> Self {
        Unverified { reason: Reason::CertificateInvalid, detail: detail.into() }
    }

    fn not_tls(detail: &str) -> Self {
        Unverified { reason: Reason::UpstreamNotTls, detail: detail.into() }
    }
}

/// The result of a handshake, and how long it is kept.
type HandshakeOutcome = (Result<(), Unverified>, Duration);
/// The verdict on one claim: locked while a caller finds it out.
type Entry = tokio::sync::Mutex<Option<Kept>>;

#[derive(Debug)]
struct Kept {
    verdict: Result<(), Unverified>,
    until: Instant,
}

/// Proves claims, and remembers the verdicts.
pub struct CertificateVerifier {
    connector: TlsConnector,
    /// Most verdicts that are kept.
    cap: usize,
    kept: Mutex<HashMap<Claim, Arc<Entry>>>,
}

impl CertificateVerifier {
    /// Trusts `roots`.
    ///
    /// # Errors
    /// [`TrustError`].
    pub fn new(roots: &Roots) -> Result<Self, TrustError> {
        let mut config = client_config(None, roots)?;
        // A resumed session shows no certificate.
        config.resumption = Resumption::disabled();
        Ok(CertificateVerifier {
            connector: TlsConnector::from(Arc::new(config)),
            cap: MAX_KEPT,
            kept: Mutex::default(),
        })
    }

    /// Whether `claim` is true. `connect` makes a new connection to the address of the claim; it is called at most
    /// once, and not at all where the verdict is known. All of it ends within `timeout`.
    ///
    /// # Errors
    /// [`Unverified`].
    pub async fn verify<S, C>(&self, claim: &Claim, timeout: Duration, connect: C) -> Result<(), Unverified>
    where
        S: AsyncRead + AsyncWrite + Unpin,
        C: AsyncFnOnce() -> Result<S, String>,
    {
        let deadline = Instant::now() + timeout;
        let entry = self.entry(claim);
        // The caller that holds the lock leaves a verdict. If it was dropped instead, the next caller finds out.
        let Ok(mut known) = timeout_at(deadline, entry.lock()).await else {
            return Err(Unverified::not_tls("no handshake with the target ended in time"));
        };
        if let Some(kept) = known.as_ref().filter(|kept| Instant::now() < kept.until) {
            return kept.verdict.clone();
        }
        let found = timeout_at(deadline, Box::pin(self.find_out(claim, connect))).await;
        let (verdict, good_for) = found.unwrap_or_else(|_elapsed| {
            (Err(Unverified::not_tls("the TLS handshake did not end in time")), SILENCE_KEPT)
        });
        *known = Some(Kept { verdict: verdict.clone(), until: Instant::now() + good_for });
        verdict
    }

    async fn find_out<S, C>(&self, claim: &Claim, connect: C) -> HandshakeOutcome
    where
        S: AsyncRead + AsyncWrite + Unpin,
        C: AsyncFnOnce() -> Result<S, String>,
    {
        let Some(name) = server_name(&claim.host) else {
            return (Err(Unverified::invalid("no certificate can name this host")), REFUSAL_KEPT);
        };
        // Never closed, so this waits for a permit, within the caller's deadline.
        let _permit = HANDSHAKES.acquire().await.ok();
        match connect().await {
            Ok(stream) => self.handshake(name, stream).await,
            Err(detail) => {
                let detail = format!("no second connection to the target: {detail}");
                (Err(Unverified::not_tls(&detail)), SILENCE_KEPT)
            }
        }
    }

    async fn handshake<S>(&self, name: ServerName<'static>, stream: S) -> HandshakeOutcome
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        match self.connector.connect(name, stream).await {
            Ok(mut stream) => {
                // So that a server that counts broken handshakes does not count this one.
                let _ = stream.shutdown().await;
                (Ok(()), PROOF_KEPT)
            }
            Err(error) => tell(&error),
        }
    }

    /// The entry of a claim. Where the table is full of claims that are being proven, an entry outside the table.
    fn entry(&self, claim: &Claim) -> Arc<Entry> {
        let mut kept = self.lock();
        if let Some(entry) = kept.get(claim) {
            return Arc::clone(entry);
        }
        if kept.len() >= self.cap {
            make_room(&mut kept, self.cap);
        }
        let entry = Arc::new(Entry::default());
        if kept.len() < self.cap {
            kept.insert(claim.clone(), Arc::clone(&entry));
        }
        entry
    }

    /// A panic under the lock leaves the map in a valid state.
    fn lock(&self) -> MutexGuard<'_, HashMap<Claim, Arc<Entry>>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for CertificateVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CertificateVerifier").finish_non_exhaustive()
    }
}

/// Forgets what is out of date; if nothing is, the verdict that expires first.
fn make_room(kept: &mut HashMap<Claim, Arc<Entry>>, cap: usize) {
    let now = Instant::now();
    // More than one reference: a caller is finding out, and others wait for it.
    let until = |entry: &Arc<Entry>| match Arc::strong_count(entry) {
        1 => entry.try_lock().ok().map(|kept| kept.as_ref().map_or(now, |kept| kept.until)),
        _ => None,
    };
    kept.retain(|_, entry| until(entry).is_none_or(|until| until > now));
    if kept.len() >= cap {
        let next = kept.iter().filter_map(|(claim, entry)| Some((until(entry)?, claim)));
        if let Some(claim) = next.min_by_key(|(until, _)| *until).map(|(_, claim)| claim.clone()) {
            kept.remove(&claim);
        }
    }
}

/// What a handshake that failed says of the target.
fn tell(error: &io::Error) -> HandshakeOutcome {
    use rustls::Error;
    let Some(found) = sentences::inside(error) else {
        let detail =
            format!("the connection ended in the TLS handshake: {}", sentences::of_io(error, Holder::Server));
        return (Err(Unverified::not_tls(&detail)), SILENCE_KEPT);
    };
    let unverified = match found {
        Error::InvalidCertificate(why) => {
            let why = sentences::of_certificate(why, Holder::Server);
            Unverified::invalid(&format!("the target's certificate is not valid: {why}"))
        }
        Error::InvalidMessage(_) => Unverified::not_tls("the target's answer is not TLS"),
        other => {
            let why = sentences::of_error(other, Holder::Server);
            Unverified::invalid(&format!("the TLS handshake failed: {why}"))
        }
    };
    (Err(unverified), REFUSAL_KEPT)
}
