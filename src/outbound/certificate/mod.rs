//! `verify_certificate`: does the address that was dialled prove that it is the host of the CONNECT request? Asked after
//! the `200`, by [the gate](crate::session), once the client's hello has passed.
//!
//! egressd makes a TLS handshake of its own and checks what a careful client checks: a chain to a trusted authority, the
//! CONNECT host among the names, a validity that includes today, and the key. A verdict is kept for a while by host and
//! address. Callers that need the same verdict at the same time wait for one handshake, which is broken off when the last
//! of them leaves. How many handshakes there may be at once is shared out by client ([`places`](super::places)): a client
//! whose targets are silent is not felt by another. Nothing is said of a target that had no whole handshake.
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
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;

use crate::outbound::joined::{self, Joined};
use crate::outbound::places::{Interest, Places, Turn};
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

/// A handshake that begins at once ends earlier than its caller's time by this part of it. So the caller hears what the
/// target did, and the verdict is kept, before the caller leaves.
const LAST_WORD: u32 = 50;
/// Handshakes at once where nobody has set their number: what the smallest limit of descriptors allows.
const LEAST_HANDSHAKES: usize = 1;

/// Handshakes at once, of all verifiers: each holds a descriptor beside its tunnel's.
static HANDSHAKES: OnceLock<Arc<Places>> = OnceLock::new();
/// The number of the next handshake, of all verifiers.
static NEXT: AtomicU64 = AtomicU64::new(0);

/// Sets how many handshakes there may be at once. Called at the start, before any verifier is made; after that it changes
/// nothing.
pub fn set_handshakes(count: usize) {
    let _ = HANDSHAKES.set(Places::new(count.max(LEAST_HANDSHAKES)));
}

fn places() -> &'static Arc<Places> {
    HANDSHAKES.get_or_init(|| Places::new(LEAST_HANDSHAKES))
}

/// Asks for the place of one handshake of `client`'s own, among those that prove certificates. Both end with it.
pub(super) fn ask(client: IpAddr) -> (Interest, Turn) {
    let (places, number) = (places(), NEXT.fetch_add(1, Ordering::Relaxed));
    // The interest first: without an asker, the question would never have a place.
    (places.interest(number, client), places.queue(number))
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
    /// `certificate_invalid`; `upstream_not_tls` where the target did not answer in TLS; `local_resources` where there was
    /// no time for a whole handshake, because others had all the places.
    pub reason: Reason,
    /// For the log on stderr, never for the client.
    pub detail: Arc<str>,
}

impl Unverified {
    pub(super) fn invalid(detail: &str) -> Self {
        Unverified { reason: Reason::CertificateInvalid, detail: detail.into() }
    }

    pub(super) fn not_tls(detail: &str) -> Self {
        Unverified { reason: Reason::UpstreamNotTls, detail: detail.into() }
    }

    pub(super) fn no_place(detail: &str) -> Self {
        Unverified { reason: Reason::LocalResources, detail: detail.into() }
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

type Slots = HashMap<Claim, Slot>;

/// Proves claims, and remembers the verdicts.
pub struct CertificateVerifier {
    connector: TlsConnector,
    /// Most verdicts that are kept.
    cap: usize,
    places: Arc<Places>,
    slots: Mutex<Slots>,
}

impl CertificateVerifier {
    /// Trusts `roots`.
    ///
    /// # Errors
    /// [`TrustError`].
    pub fn new(roots: &Roots) -> Result<Arc<Self>, TrustError> {
        CertificateVerifier::with(roots, MAX_KEPT, places())
    }

    fn with(roots: &Roots, cap: usize, places: &Arc<Places>) -> Result<Arc<Self>, TrustError> {
        let mut config = client_config(None, roots)?;
        // A resumed session shows no certificate.
        config.resumption = Resumption::disabled();
        let connector = TlsConnector::from(Arc::new(config));
        Ok(Arc::new(CertificateVerifier {
            connector,
            cap,
            places: Arc::clone(places),
            slots: Mutex::default(),
        }))
    }

    /// Whether `claim` is true, for `client`: the account that the handshake is charged to. `connect` makes a new
    /// connection to the address of the claim; it is not called where the verdict is known, or where another caller is
    /// finding out: its handshake is this caller's too. It is called again where the handshake was broken off for another
    /// client's. All of it ends within `timeout`. If the future is dropped, and no other caller waits, the handshake is
    /// broken off.
    ///
    /// # Errors
    /// [`Unverified`].
    pub async fn verify<S, C>(
        self: &Arc<Self>,
        claim: &Claim,
        client: IpAddr,
        timeout: Duration,
        connect: impl Fn() -> C + Send + Sync + 'static,
    ) -> Verdict
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        C: Future<Output = Result<S, String>> + Send,
    {
        let deadline = Instant::now() + timeout;
        let asker = match self.look_up(claim) {
            Found::Known(verdict) => return verdict,
            Found::Probing(number, probe) => self.asker(number, probe, client),
            Found::Ours(number, probe, result) => {
                // Before the work begins: without an asker, it would never have a place.
                let asker = self.asker(number, probe, client);
                let (verifier, claim) = (Arc::clone(self), claim.clone());
                asker.probe.begin(Box::pin(async move {
                    let (verdict, good_for) = verifier.find_out(&claim, number, timeout, connect).await;
                    verifier.keep(&claim, number, &verdict, good_for);
                    result.send_replace(Some(verdict));
                }));
                asker
            }
        };
        match timeout_at(deadline, asker.probe.wait()).await {
            Ok(Some(verdict)) => verdict,
            Ok(None) => Err(Unverified::not_tls("the handshake with the target was given up")),
            Err(_elapsed) => Err(asker.out_of_time()),
        }
    }

    fn asker(&self, number: u64, probe: Arc<Probe>, client: IpAddr) -> Asker {
        Asker { interest: self.places.interest(number, client), probe }
    }

    /// What is known of a claim. Where the table is full of claims that are being proven, the new one is not in it.
    fn look_up(&self, claim: &Claim) -> Found {
        let now = Instant::now();
        let mut slots = self.lock();
        match slots.get(claim) {
            Some(Slot::Known(kept)) if now < kept.until => return Found::Known(kept.verdict.clone()),
            Some(Slot::Probing(number, probe)) => {
                // Without the last that waited, it is about to end.
                if let Some(probe) = probe.upgrade() {
                    return Found::Probing(*number, probe);
                }
            }
            Some(Slot::Known(_)) | None => {}
        }
        if slots.len() >= self.cap && !slots.contains_key(claim) {
            make_room(&mut slots, self.cap, now);
        }
        let (probe, result) = Joined::new();
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        if slots.len() < self.cap || slots.contains_key(claim) {
            slots.insert(claim.clone(), Slot::Probing(number, Arc::downgrade(&probe)));
        }
        Found::Ours(number, probe, result)
    }

    fn keep(&self, claim: &Claim, number: u64, verdict: &Verdict, good_for: Duration) {
        let mut slots = self.lock();
        if let Some(slot) = slots.get_mut(claim)
            && matches!(slot, Slot::Probing(of, _) if *of == number)
        {
            *slot = Slot::Known(Kept { verdict: verdict.clone(), until: Instant::now() + good_for });
        }
    }

    /// Makes the handshake as soon as there is a place, and again if the place is lost meanwhile. The time that a target
    /// has begins with the place.
    async fn find_out<S, C>(
        &self,
        claim: &Claim,
        number: u64,
        timeout: Duration,
        connect: impl Fn() -> C,
    ) -> HandshakeOutcome
    where
        S: AsyncRead + AsyncWrite + Unpin,
        C: Future<Output = Result<S, String>>,
    {
        let Some(name) = server_name(&claim.host) else {
            return (Err(Unverified::invalid("no certificate can name this host")), REFUSAL_KEPT);
        };
        let turn = self.places.queue(number);
        loop {
            turn.granted().await;
            let deadline = Instant::now() + (timeout - timeout / LAST_WORD);
            let found = Box::pin(async {
                match connect().await {
                    Ok(stream) => self.handshake(name.clone(), stream).await,
                    Err(detail) => {
                        let detail = format!("no second connection to the target: {detail}");
                        (Err(Unverified::not_tls(&detail)), SILENCE_KEPT)
                    }
                }
            });
            tokio::select! {
                biased;
                // Before `revoked`: a verdict that is there is not asked for again.
                found = timeout_at(deadline, found) => return found.unwrap_or_else(|_elapsed| {
                    (Err(Unverified::not_tls("the TLS handshake did not end in time")), SILENCE_KEPT)
                }),
                () = turn.revoked() => {}
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

/// One caller that waits for a handshake, which ends with the last of them.
struct Asker {
    // Dropped first: what ends then no longer wants a place.
    interest: Interest,
    probe: Arc<Probe>,
}

impl Asker {
    /// What is said where there was no time for a whole handshake. It says nothing of the target, so it is not kept.
    fn out_of_time(&self) -> Unverified {
        Unverified::no_place(match self.interest.is_on_the_wire() {
            true => {
                "the handshake began too late to be finished: others, of this client or of many, had all the places"
            }
            false => "no handshake began in time: others, of this client or of many, had all the places",
        })
    }
}

enum Found {
    Known(Verdict),
    Probing(u64, Arc<Probe>),
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
    let (unverified, kept) = found(error);
    (Err(unverified), kept)
}

/// The same, and for how long it holds.
pub(super) fn found(error: &io::Error) -> (Unverified, Duration) {
    use rustls::Error;
    let Some(found) = sentences::inside(error) else {
        let detail =
            format!("the connection ended in the TLS handshake: {}", sentences::of_io(error, Holder::Server));
        return (Unverified::not_tls(&detail), SILENCE_KEPT);
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
    (unverified, REFUSAL_KEPT)
}
