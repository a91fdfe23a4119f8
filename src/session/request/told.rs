//! What the client of a request is told of its refusal, or would be told in enforce mode: kept for the status page.

use crate::rules::Denial;
use crate::session::request::Request;
use crate::words::outcome::Reason;

impl Request<'_> {
    /// What its client is told, which says more than method and path where something was recognised in it.
    pub(crate) fn told_why(&mut self, advice: &str, denial: Option<&Denial>) {
        let facts = self.facts_mut();
        if facts.seen.is_some() {
            facts.told = Some((advice.into(), denial.and_then(|denial| denial.entry.clone())));
        }
    }

    /// Report mode lets this request pass although it cannot be changed as the rule says. `advice` is what enforce mode would answer.
    pub(crate) fn would_deny_change(&mut self, reason: Reason, advice: &str) {
        if self.facts().reason.is_none() {
            self.told_why(advice, None);
        }
        self.would_deny(reason);
    }
}
