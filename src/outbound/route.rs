//! The way to a permitted target: directly to an address that the policy admits, or through the parent proxy. For
//! `verify_certificate` the same way leads a second connection to the target ([`crate::outbound::certificate`]).
//!
//! With a parent, no target is looked up here, save those that are reached without it (`except`): these are looked up, checked and dialled
//! as if there were none, and never go to the parent. The parent does that, so it also has to check the addresses; only a target
//! that is itself an address is checked here. The operator named the parent, so it is dialled whatever its address is,
//! unless that is egressd itself.
//!
//! A plain request goes to a parent in absolute-form, not through a tunnel of its own: a parent commonly allows CONNECT
//! to port 443 alone.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use crate::config::{Certificates, Config, UpstreamProxy};
use crate::outbound::certificate::{CertificateVerifier, Claim, Unverified};
use crate::outbound::dial::{self, Denied, DialError, DialLimits, Dialled, OwnAddresses};
use crate::outbound::origin::Origins;
use crate::outbound::parent::{Parent, ParentError};
use crate::outbound::resolve::Resolver;
use crate::rules::address::{AddressDenial, Admitted};
use crate::transport::target_stream::UpstreamStream;
use crate::transport::tls::client::TrustError;
use crate::words::outcome::Reason;
use crate::words::target::{Host, Target};

/// The ways out of one configuration.
#[derive(Debug)]
pub struct Route {
    settings: Settings,
    parent: Option<Parent>,
    /// `None` where no rule asks for a proof.
    verifier: Option<Arc<CertificateVerifier>>,
    /// Made at once where a rule inspects. Where none does any more, a tunnel that was opened by one needs it for each further
    /// connection.
    origins: OnceLock<Origins>,
}

/// What a route is made of.
#[derive(PartialEq, Eq, Debug)]
struct Settings {
    upstream_proxy: Option<UpstreamProxy>,
    certificates: Certificates,
    verifies: bool,
    inspects: bool,
}

impl Settings {
    fn of(config: &Config) -> Self {
        Settings {
            upstream_proxy: config.upstream_proxy.clone(),
            certificates: config.certificates.clone(),
            verifies: config.policies.verify_certificates(),
            inspects: config.policies.inspects(),
        }
    }
}

/// What every dial needs.
#[derive(Clone, Copy, Debug)]
pub struct Dialling<'a> {
    /// Looks names up.
    pub resolver: &'a Resolver,
    /// The account that the questions are charged to.
    pub client: IpAddr,
    /// egressd's own addresses, which are never dialled.
    pub own: &'a OwnAddresses,
    /// The connect timeout covers everything: connections, handshakes with a parent, its answer.
    pub limits: DialLimits,
}

/// What a connection is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Use {
    Tunnel,
    PlainRequests,
}

impl Route {
    /// # Errors
    /// [`TrustError`] where a parent or a rule needs authorities and none can be loaded.
    pub fn new(config: &Config) -> Result<Self, TrustError> {
        let settings = Settings::of(config);
        let roots = &settings.certificates.roots;
        let parent = settings.upstream_proxy.as_ref().map(|parent| Parent::new(parent, roots)).transpose()?;
        let verifier = settings.verifies.then(|| CertificateVerifier::new(roots)).transpose()?;
        let origins = match settings.inspects {
            true => Origins::new(roots)?.into(),
            false => OnceLock::new(),
        };
        Ok(Route { settings, parent, verifier, origins })
    }

    /// Whether it is also the route of `config`: a reload that changes nothing here keeps the proofs.
    pub fn serves(&self, config: &Config) -> bool {
        self.settings == Settings::of(config)
    }

    /// The parent that leads to `target`; None: it is reached directly.
    pub fn parent(&self, target: &Target) -> Option<&Parent> {
        self.parent.as_ref().filter(|parent| !parent.spares(&target.host))
    }

    /// A connection for the bytes of a tunnel to `target`. `admit` is the policy's check.
    ///
    /// # Errors
    /// [`DialError`].
    pub async fn tunnel(
        &self,
        dialling: Dialling<'_>,
        target: &Target,
        admit: impl Fn(IpAddr) -> Result<Admitted, AddressDenial>,
    ) -> Result<Dialled, DialError> {
        self.reach(dialling, target, admit, Use::Tunnel).await
    }

    /// A connection for plain requests to `target`; where there is a parent, to the parent.
    ///
    /// # Errors
    /// [`DialError`].
    pub async fn plain(
        &self,
        dialling: Dialling<'_>,
        target: &Target,
        admit: impl Fn(IpAddr) -> Result<Admitted, AddressDenial>,
    ) -> Result<Dialled, DialError> {
        self.reach(dialling, target, admit, Use::PlainRequests).await
    }

    async fn reach(
        &self,
        dialling: Dialling<'_>,
        target: &Target,
        admit: impl Fn(IpAddr) -> Result<Admitted, AddressDenial>,
        intent: Use,
    ) -> Result<Dialled, DialError> {
        let Dialling { resolver, client, own, limits } = dialling;
        let Some(parent) = self.parent(target) else {
            return dial::dial(resolver, client, target, admit, own, limits).await;
        };
        if let Some(refused) = refused_literal(target, admit, own) {
            return Err(refused);
        }
        let admit = |address| Ok(Admitted::next_hop(address));
        let mut dialled = dial::dial(resolver, client, parent.at(), admit, own, limits)
            .await
            .map_err(|error| naming(parent, error))?;
        let begun = Instant::now();
        let deadline = begun + limits.connect_timeout.saturating_sub(dialled.connect);
        let agreed = timeout_at(deadline, Box::pin(agree(parent, dialled.stream, target, intent))).await;
        let connect = dialled.connect + begun.elapsed();
        let failed = |reason, detail| DialError {
            reason,
            dns: Some(dialled.dns),
            connect: Some(connect),
            upstream: Some(dialled.upstream),
            detail,
            denied: Denied::default(),
        };
        match agreed {
            Ok(Ok(stream)) => {
                dialled.stream = stream;
                dialled.connect = connect;
                Ok(dialled)
            }
            Ok(Err(ParentError { reason, detail })) => Err(naming(parent, failed(reason, detail))),
            Err(_elapsed) => {
                let detail = "no answer in time".to_owned();
                Err(naming(parent, failed(Reason::ConnectTimeout, detail)))
            }
        }
    }

    /// Whether the address that was dialled for a tunnel proves to be its target, for the account of `client`. For that, another connection is made the
    /// same way, within `timeout`, unless the verdict is known. If the future is dropped, that connection is broken off,
    /// unless another caller waits for the same.
    ///
    /// # Errors
    /// [`Unverified`].
    pub async fn verify(
        self: &Arc<Self>,
        target: &Target,
        dialled: Admitted,
        client: IpAddr,
        timeout: Duration,
    ) -> Result<(), Unverified> {
        let Some(verifier) = &self.verifier else {
            // A reload removed the last rule with `verify_certificate` while this tunnel was being opened by one.
            return Err(Unverified::invalid("no authorities are loaded"));
        };
        let port = self.parent(target).map_or(target.port, |parent| parent.at().port);
        let claim = Claim {
            host: target.host.clone(),
            port: target.port,
            upstream: SocketAddr::new(dialled.ip(), port.get()),
        };
        // Of its own: another caller may wait for it when this one has left.
        let (route, target) = (Arc::clone(self), target.clone());
        let connect = move || {
            let (route, target) = (Arc::clone(&route), target.clone());
            async move { route.again(&target, dialled, port.get()).await }
        };
        verifier.verify(&claim, client, timeout, connect).await
    }

    /// TLS to `target` over a connection that was made for a tunnel to it, for the account of `client`, within `timeout`. If the
    /// handshake has to begin again, it does so over another connection to the same address, `dialled`.
    ///
    /// # Errors
    /// [`Unverified`]: the target does not prove that it is the host. Nothing of the client was sent.
    pub async fn inspect(
        &self,
        target: &Target,
        stream: UpstreamStream,
        dialled: Admitted,
        client: IpAddr,
        timeout: Duration,
    ) -> Result<UpstreamStream, Unverified> {
        let origins = match self.origins.get() {
            Some(origins) => origins,
            None => {
                let made = Origins::new(&self.settings.certificates.roots);
                let made = made.map_err(|error| Unverified::invalid(&error.to_string()))?;
                self.origins.get_or_init(|| made)
            }
        };
        let port = self.parent(target).map_or(target.port, |parent| parent.at().port).get();
        let again = || async move { self.again(target, dialled, port).await };
        origins.open(target, client, timeout, stream, again).await
    }

    /// Another connection to where one was made before.
    async fn again(&self, target: &Target, dialled: Admitted, port: u16) -> Result<UpstreamStream, String> {
        let stream = dial::again(dialled, port).await.map_err(|error| error.to_string())?;
        let stream = UpstreamStream::Bare(stream);
        match self.parent(target) {
            None => Ok(stream),
            Some(parent) => agree(parent, stream, target, Use::Tunnel)
                .await
                .map_err(|error| format!("the parent proxy {}: {}", parent.at(), error.detail)),
        }
    }
}

/// Makes a new connection to the parent ready for use.
async fn agree(
    parent: &Parent,
    stream: UpstreamStream,
    target: &Target,
    intent: Use,
) -> Result<UpstreamStream, ParentError> {
    let mut stream = match stream {
        UpstreamStream::Bare(stream) => parent.secure(stream).await?,
        secured @ (UpstreamStream::Tls(_) | UpstreamStream::Inspected(_)) => secured,
    };
    if intent == Use::Tunnel {
        parent.connect(&mut stream, target).await?;
    }
    Ok(stream)
}

/// Why a target that is an address may not be reached. It is the only address that is known before the parent looks one
/// up.
fn refused_literal(
    target: &Target,
    admit: impl Fn(IpAddr) -> Result<Admitted, AddressDenial>,
    own: &OwnAddresses,
) -> Option<DialError> {
    let Host::Address(address) = target.host else { return None };
    let (reason, detail, denied) = if own.holds(SocketAddr::new(address, target.port.get())) {
        (Reason::Loop, format!("{target} is egressd itself"), Denied::default())
    } else {
        let denial = admit(address).err()?;
        (Reason::AddressProhibited, denial.to_string(), Denied { count: 1, first: vec![denial] })
    };
    Some(DialError { reason, dns: None, connect: None, upstream: None, detail, denied })
}

/// Names the parent, so that its failure is not taken for the target's in the log on stderr.
fn naming(parent: &Parent, error: DialError) -> DialError {
    DialError { detail: format!("the parent proxy {}: {}", parent.at(), error.detail), ..error }
}
