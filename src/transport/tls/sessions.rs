//! TLS sessions with targets, kept so that a second tunnel to a target costs no second verification.
//!
//! A resumed session shows no certificate. So a session is used no longer than [`KEPT`] after the handshake in which the
//! certificates were verified, and not beyond the end of any of them; sessions that follow from a resumed one inherit that
//! moment. The sessions of one name are used for that name alone. They belong to one set of authorities: a reload of those
//! makes another store. All of it is bounded: names, sessions of a name, and the certificates that each session keeps.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use rustls::NamedGroup;
use rustls::client::{ClientSessionStore, Tls12ClientSessionValue, Tls13ClientSessionValue};
use rustls::pki_types::{CertificateDer, ServerName};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use super::certificates::timestamp;

/// How long a verification holds at most.
const KEPT: Duration = Duration::from_secs(3600);
/// Most names. With [`TICKETS`] sessions each and certificates of 4 KiB, they take 4 MiB.
const NAMES: usize = 256;
/// Most TLS 1.3 sessions of a name: each is used once, by one tunnel.
const TICKETS: usize = 4;
/// A session keeps the certificates that were shown: where they are larger, none is kept.
const LARGEST_CHAIN: usize = 16 * 1024;

/// The sessions with all targets.
#[derive(Debug, Default)]
pub(super) struct Sessions(Mutex<HashMap<ServerName<'static>, Known>>);

/// What is known of one name.
#[derive(Debug, Default)]
struct Known {
    /// Until when sessions may be used. `None`: its first handshake is not over.
    until: Option<Timestamp>,
    group: Option<NamedGroup>,
    tls12: Option<Tls12ClientSessionValue>,
    tls13: VecDeque<Tls13ClientSessionValue>,
}

impl Known {
    fn is_usable(&self, now: Timestamp) -> bool {
        self.until.is_some_and(|until| now < until)
    }

    fn forget(&mut self) {
        self.tls12 = None;
        self.tls13.clear();
    }
}

impl Sessions {
    /// The certificates of `name`, which are `shown`, were verified just now.
    pub(super) fn verified(&self, name: &ServerName<'_>, shown: &[CertificateDer<'_>], now: Timestamp) {
        let bytes: usize = shown.iter().map(|certificate| certificate.len()).sum();
        let ends = shown.iter().filter_map(|certificate| {
            let (_, read) = X509Certificate::from_der(certificate).ok()?;
            Some(timestamp(read.validity().not_after))
        });
        let latest = now.checked_add(KEPT).unwrap_or(now);
        let until = if bytes > LARGEST_CHAIN { now } else { ends.min().unwrap_or(now).min(latest) };
        let mut names = self.lock();
        let known = of(&mut names, name);
        known.until = Some(until);
        if until <= now {
            known.forget();
        }
    }

    /// A panic under the lock leaves the table in a valid state.
    fn lock(&self) -> MutexGuard<'_, HashMap<ServerName<'static>, Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sessions_of<T>(&self, name: &ServerName<'_>, take: impl FnOnce(&mut Known) -> Option<T>) -> Option<T> {
        let mut names = self.lock();
        let known = names.get_mut(&name.to_owned())?;
        if !known.is_usable(Timestamp::now()) {
            known.forget();
            return None;
        }
        take(known)
    }
}

/// What is known of `name`. Where there are too many names, the one goes whose verification ends first.
fn of<'n>(names: &'n mut HashMap<ServerName<'static>, Known>, name: &ServerName<'_>) -> &'n mut Known {
    if names.len() >= NAMES && !names.contains_key(name) {
        let first = names.iter().min_by_key(|(_, known)| known.until).map(|(name, _)| name.clone());
        first.map(|first| names.remove(&first));
    }
    names.entry(name.to_owned()).or_default()
}

impl ClientSessionStore for Sessions {
    fn set_kx_hint(&self, name: ServerName<'static>, group: NamedGroup) {
        of(&mut self.lock(), &name).group = Some(group);
    }

    fn kx_hint(&self, name: &ServerName<'_>) -> Option<NamedGroup> {
        self.lock().get(&name.to_owned())?.group
    }

    fn set_tls12_session(&self, name: ServerName<'static>, session: Tls12ClientSessionValue) {
        of(&mut self.lock(), &name).tls12 = Some(session);
    }

    fn tls12_session(&self, name: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.sessions_of(name, |known| known.tls12.clone())
    }

    fn remove_tls12_session(&self, name: &ServerName<'static>) {
        if let Some(known) = self.lock().get_mut(name) {
            known.tls12 = None;
        }
    }

    fn insert_tls13_ticket(&self, name: ServerName<'static>, session: Tls13ClientSessionValue) {
        let mut names = self.lock();
        let known = of(&mut names, &name);
        if known.until.is_some() && !known.is_usable(Timestamp::now()) {
            return;
        }
        known.tls13.push_back(session);
        if known.tls13.len() > TICKETS {
            known.tls13.pop_front();
        }
    }

    fn take_tls13_ticket(&self, name: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.sessions_of(name, |known| known.tls13.pop_back())
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;

    fn name(number: usize) -> ServerName<'static> {
        ServerName::try_from(format!("h{number}.test")).expect("a name")
    }

    fn certificate(change: impl FnOnce(&mut CertificateParams)) -> CertificateDer<'static> {
        let mut params = CertificateParams::new(["h.test".to_owned()]).expect("a name");
        change(&mut params);
        params.self_signed(&KeyPair::generate().expect("a key")).expect("a certificate").der().clone()
    }

    fn usable(sessions: &Sessions, of: usize, at: Timestamp) -> bool {
        sessions.lock().get(&name(of)).is_some_and(|known| known.is_usable(at))
    }

    #[test]
    fn a_verification_holds_for_an_hour_and_no_longer_than_any_certificate() {
        let (sessions, now) = (Sessions::default(), Timestamp::now());
        let minutes = |count: u64| now.checked_add(Duration::from_secs(60 * count)).expect("a moment");
        let long = certificate(|_| {});
        let in_half_an_hour = certificate(|params| {
            let end = u64::try_from(minutes(30).as_second()).expect("after 1970");
            params.not_after = date_time_ymd(1970, 1, 1) + Duration::from_secs(end);
        });
        sessions.verified(&name(1), std::slice::from_ref(&long), now);
        assert!(usable(&sessions, 1, now) && usable(&sessions, 1, minutes(59)));
        assert!(!usable(&sessions, 1, minutes(60)));
        sessions.verified(&name(2), &[long.clone(), in_half_an_hour], now);
        assert!(usable(&sessions, 2, minutes(29)) && !usable(&sessions, 2, minutes(30)));
        // Nothing that can be read, and more than is kept.
        sessions.verified(&name(3), &[CertificateDer::from(vec![0x30])], now);
        let many: Vec<_> = std::iter::repeat_n(long, 64).collect();
        sessions.verified(&name(4), &many, now);
        assert!(!usable(&sessions, 3, now) && !usable(&sessions, 4, now));
        assert!(!usable(&sessions, 5, now), "never verified");
    }

    #[test]
    fn the_number_of_names_is_bounded_and_the_oldest_verification_goes_first() {
        let (sessions, now) = (Sessions::default(), Timestamp::now());
        let shown = [certificate(|_| {})];
        for number in 0..NAMES + 10 {
            let at = now.checked_add(Duration::from_secs(number as u64)).expect("a moment");
            sessions.verified(&name(number), &shown, at);
        }
        assert_eq!(sessions.lock().len(), NAMES);
        assert!(
            !usable(&sessions, 9, now) && usable(&sessions, 10, now) && usable(&sessions, NAMES + 9, now)
        );
        // A name whose handshake is not over has no verification, and goes before all others.
        sessions.set_kx_hint(name(1000), NamedGroup::X25519);
        sessions.set_kx_hint(name(1001), NamedGroup::X25519);
        assert_eq!(
            (sessions.kx_hint(&name(1000)), sessions.kx_hint(&name(1001))),
            (None, Some(NamedGroup::X25519))
        );
        assert_eq!(sessions.lock().len(), NAMES);
    }
}
