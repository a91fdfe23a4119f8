//! Records that untrusted clients can cause without end, logged at a bounded rate: connections that were closed before
//! any request, wrong passwords, passwords that are never sent, requests beyond a client's rate.
//!
//! A client that is not even allowed to talk to us costs a line for each connection, and could fill the log. So
//! [`crate::state::listener::flood`] says which records are written at once. At the window's end one more record
//! stands for the rest, and its `suppressed` says how many similar ones were not written. The metrics count every one.
//! Not here: what is refused, which is for the callers to decide.

use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use uuid::Uuid;

use crate::session::refuse::reply;
use crate::session::request::Asks;
use crate::state::listener::Listener;
use crate::state::listener::flood::{Held, RefusalRecord, WINDOW, Who};
use crate::state::recent::{Asking, Refusal};
use crate::state::shared::Shared;
use crate::telemetry::record::{Cause, Event, Record, new_id};
use crate::words::client::ClientAddr;
use crate::words::outcome::{Decision, Reason};

/// A connection that is refused before any request.
pub(crate) struct RefusedConnection<'a> {
    pub(crate) id: Uuid,
    pub(crate) reason: Reason,
    pub(crate) who: Who,
    /// For the diagnostics: it says more than the reason, and is written only together with the record.
    pub(crate) why: &'a dyn fmt::Display,
    /// What it asks for in clear, where the listener speaks TLS; the reply to it has a status.
    pub(crate) in_clear: Option<&'a Asks>,
}

/// Records that a connection was refused before any request.
pub(crate) fn record(listener: &Arc<Listener>, shared: &Arc<Shared>, refused: &RefusedConnection<'_>) {
    let &RefusedConnection { id, reason, who, why, in_clear } = refused;
    let has_place = has_place(listener, shared, reason, who);
    let client = who.client.unwrap_or_else(|| ClientAddr::of_peer(who.peer));
    shared.recent.note(&Refusal {
        at: Timestamp::now(),
        // The page names no record that is not there.
        id: if has_place { id } else { Uuid::nil() },
        listener: &listener.name,
        policy: None,
        rule: None,
        decision: reason.is_denial().then_some(Decision::Deny),
        cause: reason.into(),
        asked: Asking::Nothing,
        request: None,
        recognised: None,
        told: None,
        client: Some(client.ip()),
        account: Some(shared.current.load().limits.client(client)),
        identity: None,
        sni: None,
        auth_scheme: None,
        expected: false,
    });
    if has_place {
        write(listener, shared, (id, reason), who, in_clear, None, None);
        tracing::info!(%id, "listener {}: {} refused, {reason}: {why}", listener.name, who.peer);
    }
}

/// Whether a request that is refused for `reason` gets its record: always, if the reason is not one of the bounded
/// ones. Otherwise it is counted here, and reported at the window's end.
pub(crate) fn has_place(listener: &Arc<Listener>, shared: &Arc<Shared>, reason: Reason, who: Who) -> bool {
    let account = who.client.map(|client| shared.current.load().limits.client(client));
    match listener.flood.add(reason, who, account) {
        None | Some(RefusalRecord::Write) => true,
        Some(RefusalRecord::Count) => false,
        Some(RefusalRecord::Hold(bound)) => {
            let (listener, shared) = (Arc::clone(listener), Arc::clone(shared));
            let tracker = shared.drain.connections().clone();
            tracker.spawn(async move {
                // At the end of the program there is no time to wait, and the number must not be lost.
                let _ = tokio::time::timeout(WINDOW, shared.drain.closed()).await;
                let held = listener.flood.take(reason, bound);
                if let Some(Held { who, before }) = held {
                    write(
                        &listener,
                        &shared,
                        (new_id(), reason),
                        who,
                        None,
                        reply::status(reason),
                        Some(before),
                    );
                }
            });
            false
        }
    }
}

/// `status` is what the client was sent, if it was sent anything.
fn write(
    listener: &Listener,
    shared: &Shared,
    (id, reason): (Uuid, Reason),
    who: Who,
    in_clear: Option<&Asks>,
    status: Option<u16>,
    suppressed: Option<u64>,
) {
    let config = shared.current.load().hash.short();
    let cause = Cause::Refused(reason);
    let mut record = Record::new(Event::of(cause), Timestamp::now(), id, &listener.name);
    record.client = who.client;
    record.peer = Some(who.peer);
    record.decision = reason.is_denial().then_some(Decision::Deny);
    record.reason = Some(cause);
    record.status = status;
    if let Some(asks) = in_clear {
        record.method = asks.method.as_ref().map(|method| method.as_str().into());
        record.target = asks.logged_target(false);
        record.user_agent = asks.user_agent.as_deref().map(Into::into);
        record.status = Some(reply::IN_CLEAR_STATUS);
    }
    record.config = Some(config);
    record.instance = Some(&shared.instance);
    record.suppressed = suppressed;
    shared.log.spare().write(&record);
}
