//! Makes the certificates that clients of inspected tunnels see: a leaf for one name, signed by the authority that they
//! trust.
//!
//! [`Authority`] is what signs; [`Minter`] keeps what was made, and gives the settings of a handshake for a name. Not here:
//! the handshake itself, and whether a tunnel is inspected.

mod authority;
mod cache;
mod checks;
mod constraints;
mod der;
mod error;
mod leaf;

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::{ClientHello, NoServerSessionStorage, ProducesTickets, ResolvesServerCert};
use rustls::sign::{CertifiedKey, SigningKey};
use rustls::{ServerConfig, version};

pub use authority::{Authority, LoadedAuthority};
pub use constraints::Constraints;
pub(crate) use constraints::{IDENTIFIER as NAME_CONSTRAINTS, of_hosts as constraints_of};
pub use error::MintError;
pub(crate) use leaf::random_serial;

use self::cache::Cache;
use self::leaf::PublicKey;
use crate::transport::tls::provider::provider;
use crate::words::target::Name;

/// Most leaves that are kept.
const MOST: usize = 10_000;

/// Where a leaf came from, for the metric.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Origin {
    /// It was made for this call.
    Minted,
    /// It was there, or another call was making it.
    Cached,
}

impl Origin {
    /// Both.
    pub const ALL: [Origin; 2] = [Origin::Minted, Origin::Cached];

    /// As the metric's label has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Origin::Minted => "minted",
            Origin::Cached => "cached",
        }
    }
}

/// The settings of a handshake with a client, for one name.
#[derive(Clone, Debug)]
pub struct Leaf {
    /// TLS 1.2 and 1.3, ALPN `http/1.1`, no client certificate, no early data. It shows the leaf to a ClientHello with this
    /// name as its SNI, and to no other.
    pub config: Arc<ServerConfig>,
    /// Whether it was made now.
    pub origin: Origin,
}

/// An authority, and the leaves that it has signed. One for a configuration; a reload with the same authority keeps it.
pub struct Minter {
    authority: Authority,
    lifetime: Duration,
    public_key: PublicKey,
    shown: Arc<Shown>,
    template: ServerConfig,
    kept: Cache<Kept>,
}

/// What every leaf of a minter shares.
struct Shown {
    /// The key of all leaves. One is enough: anyone who can read it in memory can read the authority's there, too.
    key: Arc<dyn SigningKey>,
    chain: Arc<[CertificateDer<'static>]>,
}

struct Kept {
    config: Arc<ServerConfig>,
    not_before: Timestamp,
    renew: Timestamp,
}

impl Minter {
    /// `lifetime` is that of leaves.
    ///
    /// # Errors
    /// No key can be made, or rustls refuses the settings: a sentence.
    pub fn new(authority: Authority, lifetime: Duration) -> Result<Self, String> {
        let provider = provider();
        let key = leaf_key(&provider)?;
        let public_key =
            key.public_key().map(|info| PublicKey::new(&info)).ok_or("the leaves' key has no public part")?;
        let shown = Arc::new(Shown { key, chain: Arc::clone(&authority.chain) });
        let mut template = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&version::TLS13, &version::TLS12])
            .map_err(|error| error.to_string())?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(Nobody));
        template.ignore_client_order = true;
        template.alpn_protocols = vec![b"http/1.1".to_vec()];
        // Sessions are in tickets alone: nothing is kept for a client. One goes with each handshake: a client that resumes gets the
        // next.
        template.send_tls13_tickets = 1;
        template.session_storage = Arc::new(NoServerSessionStorage {});
        template.ticketer = Ticketer::new().map_err(|error| error.to_string())?;
        Ok(Minter { authority, lifetime, public_key, shown, template, kept: Cache::new(MOST) })
    }

    /// What signs.
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// How long a leaf is valid.
    pub fn lifetime(&self) -> Duration {
        self.lifetime
    }

    /// Whether leaves of the other would be the same but for their keys: then its cache is as good.
    pub fn is_like(&self, other: &Minter) -> bool {
        self.authority.is_same(&other.authority) && self.lifetime == other.lifetime
    }

    /// Whether there would be a leaf for `name` now: to be asked before a client is promised a tunnel.
    ///
    /// # Errors
    /// As [`Minter::leaf`].
    pub fn may_mint(&self, name: &Name) -> Result<(), MintError> {
        leaf::may_mint(&self.authority, name, Timestamp::now())
    }

    /// The settings that show the leaf of `name`, which is made if there is none: once, however many callers want it.
    /// `client` is the account that it is charged to.
    ///
    /// # Errors
    /// [`MintError`].
    pub async fn leaf(&self, name: &Name, client: IpAddr) -> Result<Leaf, MintError> {
        self.leaf_at(name, client, Timestamp::now()).await
    }

    async fn leaf_at(&self, name: &Name, client: IpAddr, now: Timestamp) -> Result<Leaf, MintError> {
        let is_good = |kept: &Kept| kept.not_before <= now && now < kept.renew;
        let slot = match self.kept.get(name, is_good) {
            Some(slot) => slot,
            None => {
                // A name that gets no leaf takes no place.
                leaf::may_mint(&self.authority, name, now)?;
                self.kept.get_or_insert(name, client, is_good)
            }
        };
        let mut origin = Origin::Cached;
        let kept = slot
            .get_or_try_init(async || {
                origin = Origin::Minted;
                self.mint(name, now)
            })
            .await?;
        Ok(Leaf { config: Arc::clone(&kept.config), origin })
    }

    fn mint(&self, name: &Name, now: Timestamp) -> Result<Kept, MintError> {
        let lifetime = SignedDuration::try_from(self.lifetime).unwrap_or(SignedDuration::MAX);
        let leaf = leaf::mint(&self.authority, &self.public_key, name, lifetime, now)?;
        let mut config = self.template.clone();
        config.cert_resolver = Arc::new(ForOneName {
            name: name.clone(),
            leaf: leaf.certificate,
            shown: Arc::clone(&self.shown),
        });
        config.ticketer =
            Arc::new(TicketsOfOneName { name: name.clone(), all: Arc::clone(&self.template.ticketer) });
        // Where the authority's end is the leaf's, a new leaf would have the same.
        let renew = match leaf.not_after < self.authority.expires() {
            true => leaf.not_after - lifetime / 3,
            false => leaf.not_after,
        };
        Ok(Kept { config: Arc::new(config), not_before: leaf.not_before, renew })
    }
}

impl fmt::Debug for Minter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Minter")
            .field("authority", &self.authority)
            .field("lifetime", &self.lifetime)
            .finish_non_exhaustive()
    }
}

fn leaf_key(provider: &CryptoProvider) -> Result<Arc<dyn SigningKey>, String> {
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
    let unusable = "no P-256 key can be made";
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).map_err(|_| unusable)?;
    let der = pair.to_pkcs8v1().map_err(|_| unusable)?;
    let der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(der.as_ref().to_vec()));
    provider.key_provider.load_private_key(der).map_err(|_| unusable.to_owned())
}

/// Shows nothing: a template's.
#[derive(Debug)]
struct Nobody;

impl ResolvesServerCert for Nobody {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        None
    }
}

/// Shows a leaf for its name alone.
struct ForOneName {
    name: Name,
    leaf: CertificateDer<'static>,
    shown: Arc<Shown>,
}

impl ResolvesServerCert for ForOneName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        if Name::parse(hello.server_name()?).ok()? != self.name {
            return None;
        }
        // Made for each handshake, so that a kept leaf does not keep a copy of the authority's certificates.
        let chain = std::iter::once(&self.leaf).chain(&*self.shown.chain).cloned().collect();
        Some(Arc::new(CertifiedKey::new(chain, Arc::clone(&self.shown.key))))
    }
}

impl fmt::Debug for ForOneName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ForOneName").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Tickets that are good for one name: the name is in them. rustls compares the SNI, too.
#[derive(Debug)]
struct TicketsOfOneName {
    name: Name,
    all: Arc<dyn ProducesTickets>,
}

impl ProducesTickets for TicketsOfOneName {
    fn enabled(&self) -> bool {
        self.all.enabled()
    }

    fn lifetime(&self) -> u32 {
        self.all.lifetime()
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        // No name has a NUL.
        self.all.encrypt(&[self.name.as_str().as_bytes(), &[0], plain].concat())
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        let plain = self.all.decrypt(ticket)?;
        let rest = plain.strip_prefix(self.name.as_str().as_bytes())?.strip_prefix(&[0])?;
        Some(rest.to_vec())
    }
}

#[cfg(test)]
mod tests;
