//! SOCKS5: a greeting, a password where the listener asks for one, and one request, which is a CONNECT like that of HTTP. It passes
//! [`admit`], and goes to [`tunnel`], by the same decision, limits and gate.
//!
//! The order of the checks is that of [`http1`](super::http1), save that the password comes before the request, and so before its form.
//! All messages together have the time of one request head; the look at the password has its own. Not here: what the bytes mean
//! ([`crate::wire::socks5`]), and the code that stands for a reason ([`crate::session::refuse::socks`]).

use std::sync::Arc;

use bytes::{Buf, BytesMut};
use jiff::Timestamp;
use tokio::io::AsyncWriteExt;
use tokio::time::{Instant, timeout_at};

use crate::config::BasicAuth;
use crate::session::admit;
use crate::session::authenticate::{self, Unproven};
use crate::session::refuse::{Refused, refuse, refuse_with};
use crate::session::request::{Asks, Request};
use crate::session::tunnel::{self, Established};
use crate::state::listener::Listener;
use crate::state::proof::Proof;
use crate::state::shared::{Shared, Snapshot};
use crate::transport::client_stream::ClientStream;
use crate::transport::held::read::Buffered;
use crate::transport::held::{Holder, Lease};
use crate::wire::basic_auth::Credentials;
use crate::wire::socks5::{
    self, Asked, Code, Command, LOGGED_IN, Login, Methods, NO_METHOD, NO_PASSWORD, NOT_LOGGED_IN, PASSWORD,
    Parsed, REFUSED_4, Unfit, VERSION, VERSION_4, answer,
};
use crate::words::client::{Client, Protocol};
use crate::words::outcome::{Class, Reason};

/// Serves one connection until its request is refused or becomes a tunnel. All messages have until `deadline`; `early` is not empty.
pub(crate) async fn serve<'s>(
    stream: ClientStream,
    early: BytesMut,
    lease: Lease,
    (client, proof): (Client, Arc<Proof>),
    deadline: Instant,
    listener: &'s Arc<Listener>,
    shared: &'s Arc<Shared>,
) -> Option<Established<'s>> {
    listener.accepted(client.peer);
    let holder = Arc::clone(lease.holder());
    holder.moves();
    let held = Buffered { bytes: early, lease };
    let who = (Arc::new(client), proof);
    let talk = Talk { stream, held, who, deadline, holder, listener, shared };
    talk.greeted().await?.logged_in().await?.asked().await
}

/// The connection, between two messages.
struct Talk<'s> {
    stream: ClientStream,
    /// What has come and was not read yet.
    held: Buffered,
    who: (Arc<Client>, Arc<Proof>),
    deadline: Instant,
    holder: Arc<Holder>,
    listener: &'s Arc<Listener>,
    shared: &'s Arc<Shared>,
}

/// The next is a password, or none: then it is the request.
struct Greeted<'s> {
    talk: Talk<'s>,
    asks: bool,
    /// Who may have it; None: nobody looks at it.
    basic_auth: Option<BasicAuth>,
}

/// What ends the talk before there is a request.
enum Broken {
    Refused(Refused),
    /// A request for a kind of address that nobody knows.
    AddressType,
    Gone,
}

impl From<Reason> for Broken {
    fn from(reason: Reason) -> Self {
        Broken::Refused(reason.into())
    }
}

impl<'s> Talk<'s> {
    /// Reads one message.
    async fn read<T>(&mut self, parse: impl Fn(&[u8]) -> Parsed<T>) -> Result<T, Broken> {
        loop {
            match parse(&self.held.bytes) {
                Parsed::Message(message, length) => {
                    self.held.bytes.advance(length);
                    self.held.tidy();
                    return Ok(message);
                }
                Parsed::Malformed(why) => return Err(Broken::Refused(Refused::new(Reason::BadRequest, why))),
                Parsed::AddressType => return Err(Broken::AddressType),
                Parsed::NeedMore(_) => {}
            }
            let read = tokio::select! {
                biased;
                read = timeout_at(self.deadline, self.held.read_from(&mut self.stream)) => read,
                () = self.shared.drain.ended() => return Err(Reason::Draining.into()),
                () = self.holder.given_up() => return Err(Broken::Refused(admit::short_of_memory())),
            };
            match read {
                Ok(Ok(1..)) => {}
                Ok(Ok(0) | Err(_)) => return Err(Broken::Gone),
                Err(_) => {
                    let why = "the messages of SOCKS5 did not arrive in time";
                    return Err(Broken::Refused(Refused::new(Reason::HeadTimeout, why)));
                }
            }
        }
    }

    /// Writes an answer after which the client goes on. `None`: it does not read, or is gone.
    async fn tell(mut self, bytes: &[u8]) -> Option<Self> {
        let telling = async {
            self.stream.write_all(bytes).await?;
            self.stream.flush().await
        };
        if let Ok(Ok(())) = timeout_at(self.deadline, telling).await {
            return Some(self);
        }
        self.ends(Broken::Gone, &[]).await;
        None
    }

    fn request(&self, snapshot: &Snapshot, asks: Asks) -> Request<'s> {
        let (client, proof) = &self.who;
        let mut request = Request::new(self.shared, &snapshot.config, self.listener, (client, proof), asks);
        request.comes_by(Protocol::Socks5);
        request
    }

    /// Ends a talk in which no request came. `bytes`: how a refusal is told.
    async fn ends(mut self, broken: Broken, bytes: &[u8]) {
        let snapshot = self.shared.snapshot();
        let mut request = self.request(&snapshot, Asks::default());
        let (mut refused, bytes) = match broken {
            Broken::Gone => return request.gone(),
            Broken::Refused(refused) => (refused, bytes.to_vec()),
            Broken::AddressType => {
                let why = "the target is neither a name nor an address of IPv4 or IPv6";
                (Refused::new(Reason::BadTarget, why), answer(Code::AddressTypeNotSupported).into())
            }
        };
        self.held.take();
        // As for a malformed head: a client that sends such without end must not fill the log at any rate.
        let counted = admit::within_rate(&request, &snapshot.config, self.shared);
        match counted.and_then(|()| admit::recordable(&request)) {
            Ok(()) if refused.reason.class() == Class::Form => tracing::info!(
                id = %request.id(), "listener {}: {} refused, {}: {}",
                self.listener.name, self.who.0.peer, refused.reason, refused.advice
            ),
            Ok(()) => {}
            Err(reason) => refused = reason.into(),
        }
        if bytes.is_empty() {
            // It speaks something else, and HTTP is what most clients read.
            request.comes_by(Protocol::Http);
            return refuse(self.stream, request, refused, true).await;
        }
        refuse_with(self.stream, request, refused, &bytes).await;
    }

    /// Reads the greeting, and answers it.
    async fn greeted(mut self) -> Option<Greeted<'s>> {
        let version = self.held.bytes.first().copied();
        let Methods { no_password, password } = match self.read(socks5::greeting).await {
            Ok(methods) => methods,
            Err(broken) => {
                let (broken, bytes): (_, &[u8]) = match version {
                    Some(VERSION) => (broken, &NO_METHOD),
                    Some(VERSION_4) => (broken, &REFUSED_4),
                    _ => {
                        let why = "this listener speaks SOCKS5 alone: use socks5h:// in the proxy URL";
                        (Broken::Refused(Refused::new(Reason::BadRequest, why)), &[])
                    }
                };
                self.ends(broken, bytes).await;
                return None;
            }
        };
        let basic_auth = self.listener.settings(&self.shared.current.load()).basic_auth.clone();
        let asks = match (&basic_auth, no_password, password) {
            (Some(_), _, true) => true,
            (None, true, _) => false,
            // It insists on a password, which nobody looks at, as nobody looks at one in HTTP then.
            (None, false, true) => true,
            (Some(_), _, false) => {
                let why = "this listener asks for a user and a password, and the client offers none";
                self.ends(Broken::Refused(Refused::new(Reason::AuthRequired, why)), &NO_METHOD).await;
                return None;
            }
            (None, false, false) => {
                let why = "the client proves its identity by other means alone than a password";
                self.ends(Broken::Refused(Refused::new(Reason::BadRequest, why)), &NO_METHOD).await;
                return None;
            }
        };
        let talk = self.tell(if asks { &PASSWORD } else { &NO_PASSWORD }).await?;
        Some(Greeted { talk, asks, basic_auth })
    }

    /// The client has a password, and it is right. What it sends meanwhile is kept.
    async fn proven(
        &mut self,
        basic_auth: &BasicAuth,
        Login { user, password }: Login,
    ) -> Result<(), Broken> {
        // A password costs much more than the answer that nothing is served.
        if self.shared.drain.is_closed() {
            return Err(Reason::Draining.into());
        }
        if self.shared.log.reserve().is_err() {
            return Err(Reason::LogUnavailable.into());
        }
        let credentials = Credentials::of(&user, &password)
            .map_err(|why| Broken::Refused(Refused::new(Reason::AuthFailed, why)))?;
        let begun = Instant::now();
        let (connected, proof) = &self.who;
        let verified = authenticate::verify(
            &credentials,
            basic_auth,
            (connected, proof),
            &mut self.stream,
            (&mut self.held.bytes, &mut self.held.lease),
            self.shared,
        );
        match Box::pin(verified).await {
            Ok(proven) => {
                self.who = (Arc::new(proven.client), Arc::new(proven.proof));
                self.deadline += begun.elapsed();
                Ok(())
            }
            Err(Unproven::Gone) => Err(Broken::Gone),
            Err(Unproven::Refused(refused)) => Err(Broken::Refused(refused)),
        }
    }

    /// Reads the request, and brings it to the point where bytes may flow.
    async fn asked(mut self) -> Option<Established<'s>> {
        let Asked { command, target } = match self.read(socks5::request).await {
            Ok(asked) => asked,
            Err(broken) => {
                self.ends(broken, &answer(Code::GeneralFailure)).await;
                return None;
            }
        };
        // Taken now: a reload may have come since the greeting.
        let snapshot = self.shared.snapshot();
        let asks = Asks::of_tunnel(command.method(), target.as_ref().map_err(|unfit| &*unfit.raw));
        let request = self.request(&snapshot, asks);
        let config = &snapshot.config;
        let Talk { stream, held: Buffered { bytes, mut lease }, who, holder, listener, shared, .. } = self;
        lease.set(bytes.capacity());
        let misformed = match (command, &target) {
            (Command::Connect, Ok(_)) => None,
            (Command::Connect, Err(Unfit { error, .. })) => {
                Some(Refused::new(Reason::BadTarget, error.to_string()))
            }
            (Command::Bind | Command::UdpAssociate | Command::Unknown(_), _) => {
                let why = "of the commands of SOCKS5 CONNECT alone is served: neither BIND nor UDP ASSOCIATE";
                Some(Refused::new(Reason::MethodNotAllowed, why))
            }
        };
        if let Some(mut refused) = misformed {
            match admit::within_rate(&request, config, shared).and_then(|()| admit::recordable(&request)) {
                Ok(()) => tracing::info!(
                    id = %request.id(), "listener {}: {} refused, {}: {}",
                    listener.name, who.0.peer, refused.reason, refused.advice
                ),
                Err(reason) => refused = reason.into(),
            }
            refuse(stream, request, refused, true).await;
            return None;
        }
        let target = target.ok()?;
        let may = admit::able(&request, shared).map_err(Refused::from).and_then(|()| {
            // The handshake was before the last reload, or before the certificate expired.
            who.1.certificate_still_accepted(config, Timestamp::now()).map_err(Refused::from)?;
            // The last reload may have brought the question for a password.
            let lacks = listener.settings(config).basic_auth.is_some() && !who.1.has_user();
            if lacks { Err(Reason::AuthRequired.into()) } else { Ok(()) }
        });
        if let Err(refused) = may {
            refuse(stream, request, refused, true).await;
            return None;
        }
        let (client, _) = &who;
        holder.is_for(config.limits.client(client.address), client.identity());
        if admit::memory(&holder).await.is_err() {
            refuse(stream, request, admit::short_of_memory(), true).await;
            return None;
        }
        let slot = match admit::take_slot(&request, config, shared) {
            Ok(slot) => slot,
            Err(reason) => {
                refuse(stream, request, reason.into(), true).await;
                return None;
            }
        };
        let held = Buffered { bytes, lease };
        Box::pin(tunnel::establish(stream, held, target, request, slot, shared)).await
    }
}

impl<'s> Greeted<'s> {
    /// Reads the password, if there is to be one, and answers it.
    async fn logged_in(self) -> Option<Talk<'s>> {
        let Greeted { mut talk, asks, basic_auth } = self;
        if !asks {
            return Some(talk);
        }
        let proven = match talk.read(socks5::login).await {
            Ok(login) => match &basic_auth {
                Some(basic_auth) => talk.proven(basic_auth, login).await,
                None => Ok(()),
            },
            Err(broken) => Err(broken),
        };
        if let Err(broken) = proven {
            talk.ends(broken, &NOT_LOGGED_IN).await;
            return None;
        }
        talk.tell(&LOGGED_IN).await
    }
}
