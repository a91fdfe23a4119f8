//! The password of one request: asked for, verified, and turned into an identity.
//!
//! Each request proves its identity: an earlier right password on the same connection does not count. Nothing here
//! shows a password. The name of a user that was not proven is not shown either, because people sometimes type a
//! password there. Not here: the hashes and the thread that compares them ([`crate::state::passwords`]), the bytes of
//! the 407 ([`crate::session::refuse::reply`]).

use std::time::Duration;

use bytes::BytesMut;
use http::header::PROXY_AUTHORIZATION;

use crate::config::BasicAuth;
use crate::session::refuse::Refused;
use crate::state::passwords::{Busy, PasswordCheck};
use crate::state::proof::Proof;
use crate::state::shared::Shared;
use crate::transport::client_stream::ClientStream;
use crate::transport::held::Lease;
use crate::transport::held::read::read;
use crate::wire::auth_scheme::AuthScheme;
use crate::wire::basic_auth::{BasicError, Credentials, parse_basic};
use crate::wire::head::Head;
use crate::words::client::Client;
use crate::words::outcome::Reason;

/// For the queue and the hash together. With the default queue of 32 the last request waits for 16 s of hashing at
/// bcrypt cost 12; a client that waits longer than this for a proxy has given up.
const VERIFY_TIMEOUT: Duration = Duration::from_secs(10);
/// What a client is told whose password is longer than bcrypt can verify.
const TOO_LONG: &str = "a password of more than 72 bytes cannot be verified with a bcrypt hash: use a shorter one, or a hash of \
                        argon2id in the users file";
/// Bytes that a client may send ahead while its password is verified.
const READ_AHEAD: usize = 16 * 1024;

/// A client with a right password.
#[derive(Debug)]
pub(crate) struct Proven {
    pub(crate) client: Client,
    pub(crate) proof: Proof,
}

/// Why a request has no identity.
#[derive(Debug)]
pub(crate) enum Unproven {
    /// The client gets a reply.
    Refused(Refused),
    /// The client left while its password was verified.
    Gone,
}

impl From<Reason> for Unproven {
    fn from(reason: Reason) -> Self {
        Unproven::Refused(reason.into())
    }
}

/// The client of the connection, with the identity of the user whose password is in `head`, and `connected`'s proof with its own. What the client sends
/// meanwhile goes to `buffer`; if the client leaves, its password is removed from the queue.
pub(crate) async fn prove(
    head: &Head,
    basic_auth: &BasicAuth,
    (connected, proof): (&Client, &Proof),
    stream: &mut ClientStream,
    (buffer, lease): (&mut BytesMut, &mut Lease),
    shared: &Shared,
) -> Result<Proven, Unproven> {
    let credentials = credentials(head)?;
    verify(&credentials, basic_auth, (connected, proof), stream, (buffer, lease), shared).await
}

/// The same for credentials that came in another way.
pub(crate) async fn verify(
    credentials: &Credentials,
    basic_auth: &BasicAuth,
    (connected, proof): (&Client, &Proof),
    stream: &mut ClientStream,
    (buffer, lease): (&mut BytesMut, &mut Lease),
    shared: &Shared,
) -> Result<Proven, Unproven> {
    let address = shared.current.load().limits.client(connected.address);
    let verify = shared.passwords.verify(&basic_auth.users, address, credentials);
    let mut verify = std::pin::pin!(tokio::time::timeout(VERIFY_TIMEOUT, verify));
    let verdict = loop {
        tokio::select! {
            biased;
            verdict = &mut verify => break verdict.unwrap_or(Err(Busy)),
            () = shared.drain.ended() => return Err(Reason::Draining.into()),
            read = read(stream, buffer, lease), if buffer.len() < READ_AHEAD => match read {
                Ok(1..) => {}
                Ok(0) | Err(_) => return Err(Unproven::Gone),
            },
        }
    };
    match verdict {
        Ok(PasswordCheck::Right) => {
            let mut client = connected.clone();
            client.identities.push(credentials.identity());
            // A password is right only for a user of these users.
            let proof = proof.with_user(&basic_auth.users, &credentials.user).ok_or(Reason::AuthFailed)?;
            Ok(Proven { client, proof })
        }
        Ok(PasswordCheck::TooLong) => {
            if basic_auth.users.is_first_too_long() {
                tracing::warn!(
                    "{} was refused: {TOO_LONG} (said once for each version of the file)",
                    connected.address.ip()
                );
            }
            Err(Unproven::Refused(Refused::new(Reason::AuthFailed, TOO_LONG)))
        }
        Ok(PasswordCheck::Wrong) => Err(Reason::AuthFailed.into()),
        Err(busy) => {
            let advice = format!("{busy}: try again");
            Err(Unproven::Refused(Refused::new(busy.reason(), advice)))
        }
    }
}

/// The scheme of the credentials in `head`, if it has any.
pub(crate) fn scheme(head: &Head) -> Option<AuthScheme> {
    head.headers.get(PROXY_AUTHORIZATION).map(|value| AuthScheme::of(value.as_bytes()))
}

/// The gate lets at most one field of credentials pass.
fn credentials(head: &Head) -> Result<Credentials, Unproven> {
    let Some(value) = head.headers.get(PROXY_AUTHORIZATION) else {
        return Err(Reason::AuthRequired.into());
    };
    parse_basic(value.as_bytes()).map_err(|error| match error {
        BasicError::OtherScheme(scheme) => {
            let advice = match scheme {
                AuthScheme::Other => {
                    "credentials of an unknown scheme are not accepted: use Basic".to_owned()
                }
                known => format!("credentials of the scheme {} are not accepted: use Basic", known.as_str()),
            };
            Unproven::Refused(Refused::new(Reason::AuthRequired, advice))
        }
        BasicError::Malformed(why) => Unproven::Refused(Refused::new(Reason::AuthFailed, why)),
    })
}
