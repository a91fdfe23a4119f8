//! How the target of a tunnel is reached, and for what: for a tunnel's bytes, for plain requests, or over TLS that is verified
//! before the client gets its `200`.

use std::sync::Arc;

use crate::outbound::certificate::Unverified;
use crate::outbound::dial::{DialLimits, Dialled};
use crate::outbound::route::{Dialling, Route};
use crate::rules::{Mode, Permit, Scheme};
use crate::session::decide::{Decided, Wanted};
use crate::session::http::lent::Carries;
use crate::session::refuse::Refused;
use crate::session::request::Request;
use crate::session::tunnel::gate::HANDSHAKE;
use crate::state::shared::Shared;
use crate::transport::held::{Holder, Kind, Lease};
use crate::transport::target_stream::UpstreamStream;
use crate::transport::tls::mint::Minter;
use crate::words::outcome::Reason;
use crate::words::target::Target;

impl Carries {
    /// In report mode whatever the client sends may have to flow, unless the tunnel is inspected.
    pub(super) fn by(permit: &Permit) -> Self {
        match (permit.scheme, permit.mode) {
            (Scheme::Https, _) if permit.inspect => Carries::Tls,
            (Scheme::Http, Mode::Enforce) => Carries::Requests,
            (Scheme::Http | Scheme::Https | Scheme::Tcp, _) => Carries::Anything,
        }
    }
}

/// What signs for the target. Asked before anything is dialled.
pub(super) fn minter(target: &Target, decided: &Decided) -> Result<Arc<Minter>, Refused> {
    let refused = |why: String| Refused::new(Reason::InternalError, why);
    let Some(inspection) = &decided.snapshot.config.inspection else {
        return Err(refused("the rule inspects, and there is no `inspection`".to_owned()));
    };
    let Some(name) = target.host.name() else {
        return Err(refused("an address cannot be inspected: write its name".to_owned()));
    };
    inspection.minter.may_mint(name).map_err(|error| refused(error.to_string()))?;
    Ok(Arc::clone(&inspection.minter))
}

/// A connection to the target, by what `decided` says. For a tunnel that is inspected, its TLS is open.
pub(super) async fn dial(
    wanted: Wanted<'_>,
    decided: &Decided,
    carries: Carries,
    request: &mut Request<'_>,
    shared: &Shared,
    holder: &Arc<Holder>,
) -> Result<(Arc<Route>, Dialled), Refused> {
    let config = &decided.snapshot.config;
    let client = request.account(config);
    let limits =
        DialLimits { dns_timeout: config.dns.timeout, connect_timeout: config.tunnel.connect_timeout };
    let (route, resolver) = (shared.route(), shared.resolver());
    let dialling = Dialling { resolver: &resolver, client, own: &shared.own, limits };
    let admit = |address| decided.admit(address);
    let dialled = match carries {
        Carries::Requests => route.plain(dialling, wanted.target, admit).await,
        Carries::Anything | Carries::Tls => route.tunnel(dialling, wanted.target, admit).await,
    };
    let mut dialled =
        request.dialled(dialled).map_err(|reason| Refused::on_the_way(reason, &route, wanted.target))?;
    if carries == Carries::Tls {
        let of_handshake = Lease::of(holder, Kind::Tls, HANDSHAKE);
        let (stream, timeout) = (dialled.stream, config.tunnel.connect_timeout);
        let opening = route.inspect(wanted.target, stream, dialled.address, client, timeout);
        let opened = shared.handshakes.take(holder.shares_with(), Box::pin(opening)).await;
        drop(of_handshake);
        dialled.stream = opened.map_err(|unverified| unproven(&unverified, wanted.target, request))?;
    }
    Ok((route, dialled))
}

/// The target of an inspected tunnel did not prove its name.
fn unproven(unverified: &Unverified, target: &Target, request: &Request<'_>) -> Refused {
    let Unverified { reason, detail } = unverified;
    tracing::info!(id = %request.id(), "{reason}: {target}: {detail}");
    match reason {
        // Of what the target showed: nothing of ours is in it.
        Reason::CertificateInvalid => Refused::new(*reason, detail.as_ref()),
        _ => (*reason).into(),
    }
}

/// How many TLS connections lead to a target.
pub(super) fn tls_layers(upstream: &UpstreamStream) -> usize {
    match upstream {
        UpstreamStream::Bare(_) => 0,
        UpstreamStream::Tls(_) => 1,
        UpstreamStream::Inspected(stream) => 1 + tls_layers(stream.get_ref().0),
    }
}
