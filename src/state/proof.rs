//! What proved who a client is, and whether its listener would accept that now.
//!
//! A certificate is proven once in the handshake, a password once for each request; the connection, the tunnel or the
//! exchange outlives both. So what proved them is kept and asked again: the certificate before each request on the connection,
//! both when a request is decided and registered ([`crate::session::decide`]), and while it is served, after a reload and
//! when a certificate or a revocation list expires ([`crate::state::live::rejudge`]). Not here: what the policies do with an identity.

use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;

use crate::config::users::{HashPrint, Users};
use crate::config::{Config, Listener};
use crate::transport::tls::ClientChain;
use crate::words::outcome::Reason;

/// What proved who a client is.
#[derive(Clone, Debug, Default)]
pub struct Proof {
    /// The listener's position in [`Config::listeners`].
    listener: usize,
    /// The certificates that the connection showed.
    chain: Option<Arc<ClientChain>>,
    user: Option<ProvenUser>,
}

/// A user whose password was right.
#[derive(Clone, PartialEq, Eq, Debug)]
struct ProvenUser {
    name: Box<str>,
    /// Of the hash that the password was verified with.
    hash: HashPrint,
}

/// A proof that the listener no longer accepts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Lost {
    /// For the record.
    pub reason: Reason,
    /// A sentence for the client and the operator.
    pub why: Arc<str>,
}

impl Lost {
    fn new(reason: Reason, why: &str) -> Self {
        Lost { reason, why: why.into() }
    }
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

impl Proof {
    /// Of a connection that the listener at this position of [`Config::listeners`] accepted with these certificates.
    pub(crate) fn of_connection(listener: usize, chain: Option<Arc<ClientChain>>) -> Self {
        Proof { listener, chain, user: None }
    }

    /// The same with a user of `users` whose password was just verified. `None`: there is no such user.
    pub(crate) fn with_user(&self, users: &Users, name: &str) -> Option<Self> {
        let hash = users.print_of(name)?;
        Some(Proof { user: Some(ProvenUser { name: name.into(), hash }), ..self.clone() })
    }

    /// Whether both are about the same user with the same hash.
    /// Whether a password was proven.
    pub(crate) fn has_user(&self) -> bool {
        self.user.is_some()
    }

    pub(crate) fn has_same_user(&self, other: &Self) -> bool {
        self.user == other.user
    }

    /// When the verdict on it may change although the configuration does not.
    pub fn changes_at(&self) -> Option<Timestamp> {
        self.chain.as_ref().and_then(|chain| chain.changes_at())
    }

    /// Whether its listener accepts all of it by `config` at `now`.
    ///
    /// # Errors
    /// What it no longer accepts.
    pub fn still_accepted(&self, config: &Config, now: Timestamp) -> Result<(), Lost> {
        self.certificate_still_accepted(config, now)?;
        self.user_still_accepted(self.listener_in(config)?)
    }

    /// Whether its listener accepts the certificate of the connection, or that there is none.
    ///
    /// # Errors
    /// Why not.
    pub(crate) fn certificate_still_accepted(&self, config: &Config, now: Timestamp) -> Result<(), Lost> {
        let trust = self.listener_in(config)?.tls.as_ref().and_then(|tls| tls.server.clients());
        let lost = |why: &str| Err(Lost::new(Reason::ClientCertificateInvalid, why));
        match (trust, &self.chain) {
            (None, None) => Ok(()),
            (Some(trust), Some(chain)) => {
                trust.judge(chain, now).map_err(|why| Lost { reason: Reason::ClientCertificateInvalid, why })
            }
            (Some(_), None) => {
                lost("this listener requires a client certificate now: connect again with one")
            }
            (None, Some(_)) => lost(
                "this listener no longer verifies client certificates, so this one proves nothing: connect again",
            ),
        }
    }

    fn user_still_accepted(&self, listener: &Listener) -> Result<(), Lost> {
        let lost = |why: &str| Err(Lost::new(Reason::AuthFailed, why));
        match (&listener.basic_auth, &self.user) {
            (None, None) => Ok(()),
            (Some(auth), Some(user)) => match auth.users.print_of(&user.name) {
                Some(hash) if hash == user.hash => Ok(()),
                Some(_) => lost("the user's password was changed"),
                None => lost("the user was removed"),
            },
            (Some(_), None) => Err(Lost::new(Reason::AuthRequired, "this listener requires a password now")),
            (None, Some(_)) => lost("this listener no longer verifies passwords, so this one proves nothing"),
        }
    }

    fn listener_in<'c>(&self, config: &'c Config) -> Result<&'c Listener, Lost> {
        // A reload that changes the list of listeners is refused. If there were none here, nobody could accept the proof.
        config
            .listeners
            .get(self.listener)
            .ok_or_else(|| Lost::new(Reason::ClientNotAllowed, "the listener was removed"))
    }
}
