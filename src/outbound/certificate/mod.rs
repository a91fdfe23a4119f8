//! `verify_certificate`: does the address that was dialled prove that it is the host of the CONNECT request? Asked after
//! the `200`, by [the gate](crate::session), once the client's hello has passed.
//!
//! egressd makes a TLS handshake of its own and checks what a careful client checks: a chain to a trusted authority, the
//! CONNECT host among the names, a validity that includes today, and the key. A verdict is kept for a while by host and
//! address. Callers that need the same verdict at the same time wait for one handshake, which is broken off when the last
//! of them leaves.
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
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;

use crate::outbound::joined::{self, Joined};
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

/// What is said to a caller about a claim.
type Verdict = Result<(), Unverified>;
/// The result of a handshake, and how long it is kept.
type HandshakeOutcome = (Verdict, Duration);
/// A handshake under way. It ends when the last that holds it drops it.
type Probe = Joined<Verdict>;

/// What is known of one claim.
#[derive(Debug)]
enum Slot {
    Known(Kept),
    /// A caller is finding out; the number is the probe's.
    Probing(u64, Weak<Probe>),
}

#[derive(Debug)]
struct Kept {
    verdict: Verdict,
    until: Instant,
}

#[derive(Default)]
struct Slots {
    by_claim: HashMap<Claim, Slot>,
    next: u64,
}

/// Proves claims, and remembers the verdicts.
pub struct CertificateVerifier {
    connector: TlsConnector,
    /// Most verdicts that are kept.
    cap: usize,
    slots: Mutex<Slots>,
}

impl CertificateVerifier {
    /// Trusts `roots`.
    ///
    /// # Errors
    /// [`TrustError`].
    pub fn new(roots: &Roots) -> Result<Arc<Self>, TrustError> {
        CertificateVerifier::with_cap(roots, MAX_KEPT)
    }

    fn with_cap(roots: &Roots, cap: usize) -> Result<Arc<Self>, TrustError> {
        let mut config = client_config(None, roots)?;
        // A resumed session shows no certificate.
        config.resumption = Resumption::disabled();
        let connector = TlsConnector::from(Arc::new(config));
        Ok(Arc::new(CertificateVerifier { connector, cap, slots: Mutex::default() }))
    }

    /// Whether `claim` is true. `connect` makes a new connection to the address of the claim; it is not polled where the
    /// verdict is known, or where another caller is finding out: its handshake is this caller's too. All of it ends
    /// within `timeout`. If the future is dropped, and no other caller waits, the handshake is broken off.
    ///
    /// # Errors
    /// [`Unverified`].
    pub async fn verify<S>(
        self: &Arc<Self>,
        claim: &Claim,
        timeout: Duration,
        connect: impl Future<Output = Result<S, String>> + Send + 'static,
    ) -> Verdict
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let probe = match self.look_up(claim) {
            Found::Known(verdict) => return verdict,
            Found::Probing(probe) => probe,
            Found::Ours(number, probe, result) => {
                let (verifier, claim) = (Arc::clone(self), claim.clone());
                probe.begin(Box::pin(async move {
                    let deadline = Instant::now() + timeout;
                    let found = timeout_at(deadline, Box::pin(verifier.find_out(&claim, connect))).await;
                    let (verdict, good_for) = found.unwrap_or_else(|_elapsed| {
                        (Err(Unverified::not_tls("the TLS handshake did not end in time")), SILENCE_KEPT)
                    });
                    verifier.keep(&claim, number, &verdict, good_for);
                    result.send_replace(Some(verdict));
                }));
                probe
            }
        };
        // No longer than the probe, which began no later.
        let verdict = probe.wait().await;
        verdict.unwrap_or_else(|| Err(Unverified::not_tls("the handshake with the target was given up")))
    }

    /// What is known of a claim. Where the table is full of claims that are being proven, the new one is not in it.
    fn look_up(&self, claim: &Claim) -> Found {
        let now = Instant::now();
        let mut slots = self.lock();
        match slots.by_claim.get(claim) {
            Some(Slot::Known(kept)) if now < kept.until => return Found::Known(kept.verdict.clone()),
            Some(Slot::Probing(_, probe)) => {
                // Without the last that waited, it is about to end.
                if let Some(probe) = probe.upgrade() {
                    return Found::Probing(probe);
                }
            }
            Some(Slot::Known(_)) | None => {}
        }
        if slots.by_claim.len() >= self.cap && !slots.by_claim.contains_key(claim) {
            make_room(&mut slots.by_claim, self.cap, now);
        }
        let (probe, result) = Joined::new();
        let number = slots.next;
        slots.next += 1;
        if slots.by_claim.len() < self.cap || slots.by_claim.contains_key(claim) {
            slots.by_claim.insert(claim.clone(), Slot::Probing(number, Arc::downgrade(&probe)));
        }
        Found::Ours(number, probe, result)
    }

    fn keep(&self, claim: &Claim, number: u64, verdict: &Verdict, good_for: Duration) {
        let mut slots = self.lock();
        if let Some(slot) = slots.by_claim.get_mut(claim)
            && matches!(slot, Slot::Probing(of, _) if *of == number)
        {
            *slot = Slot::Known(Kept { verdict: verdict.clone(), until: Instant::now() + good_for });
        }
    }

    async fn find_out<S>(
        &self,
        claim: &Claim,
        connect: impl Future<Output = Result<S, String>>,
    ) -> HandshakeOutcome
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let Some(name) = server_name(&claim.host) else {
            return (Err(Unverified::invalid("no certificate can name this host")), REFUSAL_KEPT);
        };
        // Never closed, so this waits for a permit, within the caller's deadline.
        let _permit = HANDSHAKES.acquire().await.ok();
        match connect.await {
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

    /// A panic under the lock leaves the table in a valid state.
    fn lock(&self) -> MutexGuard<'_, Slots> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

enum Found {
    Known(Verdict),
    Probing(Arc<Probe>),
    /// The caller has to begin the probe of this number.
    Ours(u64, Arc<Probe>, joined::Result<Verdict>),
}

impl fmt::Debug for CertificateVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CertificateVerifier").finish_non_exhaustive()
    }
}

/// Forgets what is out of date; if nothing is, the verdict that expires first.
fn make_room(by_claim: &mut HashMap<Claim, Slot>, cap: usize, now: Instant) {
    by_claim.retain(|_, slot| match slot {
        Slot::Known(kept) => kept.until > now,
        Slot::Probing(_, probe) => probe.strong_count() > 0,
    });
    if by_claim.len() < cap {
        return;
    }
    let known = by_claim.iter().filter_map(|(claim, slot)| match slot {
        Slot::Known(kept) => Some((kept.until, claim)),
        Slot::Probing(..) => None,
    });
    if let Some(claim) = known.min_by_key(|(until, _)| *until).map(|(_, claim)| claim.clone()) {
        by_claim.remove(&claim);
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
