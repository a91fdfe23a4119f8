//! What a request asks for, as the rules judge it.

use std::sync::Arc;

use http::HeaderValue;
use http::uri::PathAndQuery;

use crate::rules::{HttpRequest, Recognised, Upgrade};
use crate::session::decide::Wanted;
use crate::session::http::lent::Within;
use crate::state::live::Asked;
use crate::wire::head::{Head, RequestTarget};

/// What the head asks for.
pub(crate) fn wanted<'w>(head: &'w Head, within: Option<Within<'w>>) -> Wanted<'w> {
    wanted_with(head, upgrade_of(head), None, within)
}

/// What the head asks to make of the connection.
pub(super) fn upgrade_of(head: &Head) -> Upgrade {
    let upgrades = head.headers.get_all(http::header::UPGRADE).iter();
    Upgrade::of(upgrades.map(HeaderValue::as_bytes))
}

/// The same as [`wanted`] once the fields have left the head, with what was recognised in them.
pub(super) fn wanted_with<'w>(
    head: &'w Head,
    upgrade: Upgrade,
    recognised: Option<&'w Recognised>,
    within: Option<Within<'w>>,
) -> Wanted<'w> {
    let (path, query) = match &head.target {
        RequestTarget::Absolute { path_and_query, .. } => (path_and_query.path(), path_and_query.query()),
        RequestTarget::Authority(_) => ("", None),
    };
    let inspected = within.is_some_and(|within| within.is_inspected());
    let http = HttpRequest { method: head.method.as_str(), path, query, upgrade, inspected, recognised };
    let target = within.map_or(head.target.target(), |within| within.target);
    Wanted { target, http: Some(http) }
}

/// The same, as long as the exchange lasts.
pub(super) fn asked(
    head: &Head,
    http: Option<&HttpRequest<'_>>,
    recognised: Option<&Arc<Recognised>>,
) -> Asked {
    let path = match &head.target {
        RequestTarget::Absolute { path_and_query, .. } => path_and_query.clone(),
        RequestTarget::Authority(_) => PathAndQuery::from_static("/"),
    };
    Asked {
        method: head.method.clone(),
        path,
        upgrade: http.map(|http| http.upgrade).unwrap_or_default(),
        inspected: http.is_some_and(|http| http.inspected),
        recognised: recognised.cloned(),
    }
}
