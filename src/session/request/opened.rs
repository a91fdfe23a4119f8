//! A tunnel that is open, from its first byte to its last record.

use std::sync::Arc;

use super::facts::Facts;
use crate::state::shared::Shared;
use crate::telemetry::access_log::RecordPlace;
use crate::telemetry::record::{Cause, Event, Record};
use crate::transport::meter::Meter;
use crate::words::outcome::{Decision, Ending, Reason};

/// A tunnel whose bytes flow. If it is dropped without an ending, it is recorded as ended by a bug in egressd.
#[derive(Debug)]
pub struct Opened<'s> {
    shared: &'s Shared,
    pub(super) facts: Box<Facts>,
    /// `None` once the last record is written.
    last: Option<RecordPlace>,
    meter: Arc<Meter>,
    counted: bool,
}

impl<'s> Opened<'s> {
    /// `last` is the place for its last record.
    pub(super) fn new(shared: &'s Shared, facts: Box<Facts>, last: RecordPlace, meter: Arc<Meter>) -> Self {
        Opened { shared, facts, last: Some(last), meter, counted: false }
    }
}

impl Opened<'_> {
    /// The verdict is final.
    pub fn decided(&mut self) {
        if !self.counted {
            self.counted = true;
            self.facts.count(self.shared);
        }
    }

    /// Report mode lets it pass although the gate refuses after the first hello.
    pub fn would_deny(&mut self, reason: Reason) {
        self.facts.decision = Some(Decision::WouldDeny);
        self.facts.reason.get_or_insert(Cause::Refused(reason));
    }

    /// The gate refuses after the first hello was sent: the record is a `deny` instead of a `close`.
    pub fn refuse(mut self, reason: Reason, offered: Option<Box<str>>) {
        let Some(place) = self.last.take() else { return };
        self.facts.decision = Some(Decision::Deny);
        self.facts.reason = Some(Cause::Refused(reason));
        if offered.is_some() {
            self.facts.sni = offered.map(Arc::from);
        }
        self.decided();
        place.write(&self.record(Event::Deny));
    }

    /// The last record; `revoked` is the reason, if the tunnel is no longer allowed or its identity no longer proven.
    pub fn close(mut self, ending: Ending, revoked: Option<Reason>) {
        self.decided();
        if let (Ending::PolicyRevoked | Ending::IdentityRevoked, Some(reason)) = (ending, revoked) {
            self.facts.reason = Some(Cause::Refused(reason));
        }
        self.closed(ending);
    }

    /// A record of a tunnel's life so far: if the process is killed, only the time since is lost.
    pub fn progress(&self) {
        self.facts.uses_its_rule(self.shared);
        self.shared.log.spare().write(&self.record(Event::Progress));
    }

    fn closed(&mut self, ending: Ending) {
        let Some(place) = self.last.take() else { return };
        self.decided();
        self.facts.uses_its_rule(self.shared);
        if let Some(policy) = &self.facts.policy {
            self.shared.metrics.tunnel_ended(policy, ending, self.facts.started.elapsed());
        }
        let mut record = self.record(Event::Close);
        record.ending = Some(ending);
        place.write(&record);
    }

    fn record(&self, event: Event) -> Record<'_> {
        let mut record = self.facts.record(self.shared, event);
        record.sent = Some(self.meter.sent());
        record.received = Some(self.meter.received());
        record
    }
}

impl Drop for Opened<'_> {
    fn drop(&mut self) {
        self.closed(Ending::InternalError);
    }
}
