//! TLS sessions with targets, kept so that a second tunnel to a target costs no second verification.
//!
//! A resumed session shows no certificate. So each session carries its [`Verification`]: it is used no longer than [`KEPT`] after
//! the handshake in which its certificates were verified, and not beyond the end of any of them. What a later handshake verifies
//! moves that moment for the sessions of that handshake alone. A session that follows from a resumed one inherits its moment,
//! whenever it arrives. The sessions of one name and port are used for these alone. They belong to one set of authorities: a
//! reload of those makes another store. All of it is bounded: names, sessions of a name, the size of a ticket, and all bytes.

use std::collections::{HashMap, VecDeque};
use std::fmt::{self, Debug, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
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
/// Most names.
const NAMES: usize = 256;
/// Most TLS 1.3 sessions of a name: each is used once, by one tunnel.
const TICKETS: usize = 4;
/// A session keeps the certificates that were shown: where they are larger, none is kept.
const LARGEST_CHAIN: usize = 16 * 1024;
/// A target chooses the size of its tickets, up to 64 KiB: a larger one than this is not kept.
const LARGEST_TICKET: usize = 4 * 1024;
/// Most bytes of tickets and certificates.
const BYTES: usize = 4 * 1024 * 1024;

/// The sessions with all targets.
#[derive(Debug)]
pub(super) struct Sessions<S = Tls12ClientSessionValue, T = Tls13ClientSessionValue>(
    Mutex<HashMap<Target, Known<S, T>>>,
);

/// The name that is verified, and the port.
type Target = (ServerName<'static>, u16);

/// What was verified in the handshake from which a session comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Verification {
    /// Until when its sessions may be used.
    until: Timestamp,
    /// The size of the certificates.
    bytes: usize,
}

/// A session that may be used for some time.
#[derive(Debug, Clone)]
struct Kept<V> {
    session: V,
    of: Verification,
    ticket: usize,
}

/// What is known of one target.
#[derive(Debug)]
struct Known<S, T> {
    group: Option<NamedGroup>,
    tls12: Option<Kept<S>>,
    tls13: VecDeque<Kept<T>>,
}

impl<S, T> Default for Known<S, T> {
    fn default() -> Self {
        Known { group: None, tls12: None, tls13: VecDeque::new() }
    }
}

impl<S, T> Known<S, T> {
    /// Each session's last moment, and its size.
    fn each(&self) -> impl Iterator<Item = (Timestamp, usize)> {
        let tls12 = self.tls12.iter().map(|kept| (kept.of.until, kept.of.bytes + kept.ticket));
        tls12.chain(self.tls13.iter().map(|kept| (kept.of.until, kept.of.bytes + kept.ticket)))
    }

    /// `None`: there is no session.
    fn last(&self) -> Option<Timestamp> {
        self.each().map(|(until, _)| until).max()
    }

    fn bytes(&self) -> usize {
        self.each().map(|(_, bytes)| bytes).sum()
    }

    fn forget_expired(&mut self, now: Timestamp) {
        self.tls12.take_if(|kept| kept.of.until <= now);
        self.tls13.retain(|kept| now < kept.of.until);
    }
}

impl<S, T> Default for Sessions<S, T> {
    fn default() -> Self {
        Sessions(Mutex::default())
    }
}

impl<S: Clone, T> Sessions<S, T> {
    /// The sessions for one connection to `name` at `port`.
    pub(super) fn connection(self: &Arc<Self>, name: ServerName<'static>, port: u16) -> Connection<S, T> {
        let state = State { offered: None, verification: None, tls12: None, tls13: VecDeque::new() };
        Connection { all: Arc::clone(self), target: (name, port), state: Mutex::new(state) }
    }

    /// Changes what is known of `target`. Where that is too much with all the rest, others go: those first whose sessions end
    /// first.
    fn change(&self, target: &Target, change: impl FnOnce(&mut Known<S, T>)) {
        let mut all = lock(&self.0);
        if !all.contains_key(target) {
            while all.len() >= NAMES && remove_first(&mut all, target) {}
        }
        change(all.entry(target.clone()).or_default());
        while all.values().map(Known::bytes).sum::<usize>() > BYTES && remove_first(&mut all, target) {}
    }

    fn take<V>(
        &self,
        target: &Target,
        now: Timestamp,
        take: impl FnOnce(&mut Known<S, T>) -> Option<V>,
    ) -> Option<V> {
        let mut all = lock(&self.0);
        let known = all.get_mut(target)?;
        known.forget_expired(now);
        take(known)
    }
}

/// Removes the target whose sessions end first, but not `kept`.
fn remove_first<S, T>(all: &mut HashMap<Target, Known<S, T>>, kept: &Target) -> bool {
    let others = all.iter().filter(|(target, _)| *target != kept);
    let first = others.min_by_key(|(_, known)| known.last()).map(|(target, _)| target.clone());
    first.is_some_and(|first| all.remove(&first).is_some())
}

/// A panic under a lock of this file leaves a valid state.
fn lock<V>(mutex: &Mutex<V>) -> MutexGuard<'_, V> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The sessions as one connection sees them: what it receives, now or later, has the verification of its own handshake.
#[derive(Debug)]
pub(super) struct Connection<S = Tls12ClientSessionValue, T = Tls13ClientSessionValue> {
    all: Arc<Sessions<S, T>>,
    target: Target,
    state: Mutex<State<S, T>>,
}

#[derive(Debug)]
struct State<S, T> {
    /// Of the session that was offered to the target.
    offered: Option<Verification>,
    /// `None`: the handshake is not over. What arrives meanwhile waits here.
    verification: Option<Verification>,
    tls12: Option<(S, usize)>,
    tls13: VecDeque<(T, usize)>,
}

impl<S: Clone, T> Connection<S, T> {
    /// The handshake is over, and the certificates, which are `shown`, were verified in it just now.
    pub(super) fn verified(&self, shown: &[CertificateDer<'_>], now: Timestamp) {
        let bytes: usize = shown.iter().map(|certificate| certificate.len()).sum();
        let ends = shown.iter().map(|certificate| {
            X509Certificate::from_der(certificate)
                .map_or(now, |(_, read)| timestamp(read.validity().not_after))
        });
        let latest = now.checked_add(KEPT).unwrap_or(now);
        let until = if bytes > LARGEST_CHAIN { now } else { ends.min().unwrap_or(now).min(latest) };
        self.holds(Verification { until, bytes }, now);
    }

    /// The handshake is over, and it resumed the session that was offered.
    pub(super) fn resumed(&self, now: Timestamp) {
        let offered = lock(&self.state).offered;
        self.holds(offered.unwrap_or(Verification { until: now, bytes: 0 }), now);
    }

    fn holds(&self, verification: Verification, now: Timestamp) {
        let (tls12, tls13) = {
            let mut state = lock(&self.state);
            state.verification = Some(verification);
            (state.tls12.take(), std::mem::take(&mut state.tls13))
        };
        if let Some((session, ticket)) = tls12 {
            self.keep_tls12(session, ticket, now);
        }
        for (session, ticket) in tls13 {
            self.keep_tls13(session, ticket, now);
        }
    }

    fn keep_tls12(&self, session: S, ticket: usize, now: Timestamp) {
        if ticket > LARGEST_TICKET {
            return;
        }
        let mut state = lock(&self.state);
        match state.verification {
            None => state.tls12 = Some((session, ticket)),
            Some(of) if now < of.until => {
                self.all.change(&self.target, |known| known.tls12 = Some(Kept { session, of, ticket }));
            }
            Some(_) => {}
        }
    }

    fn keep_tls13(&self, session: T, ticket: usize, now: Timestamp) {
        if ticket > LARGEST_TICKET {
            return;
        }
        let mut state = lock(&self.state);
        match state.verification {
            None => push(&mut state.tls13, (session, ticket)),
            Some(of) if now < of.until => {
                self.all.change(&self.target, |known| push(&mut known.tls13, Kept { session, of, ticket }));
            }
            Some(_) => {}
        }
    }

    fn offer_tls12(&self, now: Timestamp) -> Option<S> {
        self.offer(self.all.take(&self.target, now, |known| known.tls12.clone()))
    }

    fn offer_tls13(&self, now: Timestamp) -> Option<T> {
        self.offer(self.all.take(&self.target, now, |known| known.tls13.pop_back()))
    }

    fn offer<V>(&self, kept: Option<Kept<V>>) -> Option<V> {
        let Kept { session, of, .. } = kept?;
        // One is offered at a time. Were there two, the one that ends first would count.
        let offered = &mut lock(&self.state).offered;
        *offered = Some(offered.map_or(of, |before| if before.until < of.until { before } else { of }));
        Some(session)
    }
}

fn push<V>(sessions: &mut VecDeque<V>, session: V) {
    sessions.push_back(session);
    if sessions.len() > TICKETS {
        sessions.pop_front();
    }
}

/// The target is always the connection's own: the names that rustls gives are those that it was started with.
impl ClientSessionStore for Connection {
    fn set_kx_hint(&self, _: ServerName<'static>, group: NamedGroup) {
        self.all.change(&self.target, |known| known.group = Some(group));
    }

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        lock(&self.all.0).get(&self.target)?.group
    }

    fn set_tls12_session(&self, _: ServerName<'static>, session: Tls12ClientSessionValue) {
        let ticket = size(&session);
        self.keep_tls12(session, ticket, Timestamp::now());
    }

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.offer_tls12(Timestamp::now())
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {
        if let Some(known) = lock(&self.all.0).get_mut(&self.target) {
            known.tls12 = None;
        }
    }

    fn insert_tls13_ticket(&self, _: ServerName<'static>, session: Tls13ClientSessionValue) {
        let ticket = size(&session);
        self.keep_tls13(session, ticket, Timestamp::now());
    }

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.offer_tls13(Timestamp::now())
    }
}

/// The size of a session without its certificates, and a little more. rustls tells it in no other way than by [`Debug`], where a
/// ticket's byte is two characters. Not more is written than needed to know that it is too large.
fn size(session: &impl Debug) -> usize {
    struct Count(usize);
    impl Write for Count {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            self.0 += text.len();
            // The certificates come next: they are counted by themselves.
            if text == "server_cert_chain" || self.0 > 2 * LARGEST_TICKET + 2 {
                Err(fmt::Error)
            } else {
                Ok(())
            }
        }
    }
    let mut count = Count(0);
    let _ended_early = write!(count, "{session:?}");
    count.0 / 2
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;

    type Named = Sessions<&'static str, &'static str>;
    type One = Connection<&'static str, &'static str>;

    fn name(number: usize) -> ServerName<'static> {
        ServerName::try_from(format!("h{number}.test")).expect("a name")
    }

    fn certificate(change: impl FnOnce(&mut CertificateParams)) -> CertificateDer<'static> {
        let mut params = CertificateParams::new(["h.test".to_owned()]).expect("a name");
        change(&mut params);
        params.self_signed(&KeyPair::generate().expect("a key")).expect("a certificate").der().clone()
    }

    fn minutes(now: Timestamp, count: u64) -> Timestamp {
        now.checked_add(Duration::from_secs(60 * count)).expect("a moment")
    }

    /// A certificate that ends so many minutes later.
    fn ends(now: Timestamp, count: u64) -> CertificateDer<'static> {
        let end = u64::try_from(minutes(now, count).as_second()).expect("after 1970");
        certificate(|params| params.not_after = date_time_ymd(1970, 1, 1) + Duration::from_secs(end))
    }

    /// Begins a connection to a name.
    fn to(sessions: &Arc<Named>, number: usize) -> One {
        sessions.connection(name(number), 443)
    }

    /// Whether a session that comes from this handshake may be used then.
    fn usable(shown: &[CertificateDer<'_>], now: Timestamp, at: Timestamp) -> bool {
        let sessions = Arc::<Named>::default();
        let one = to(&sessions, 1);
        one.keep_tls12("tls12", 200, now);
        one.keep_tls13("tls13", 200, now);
        assert_eq!((one.offer_tls12(now), one.offer_tls13(now)), (None, None), "not verified yet");
        one.verified(shown, now);
        let two = to(&sessions, 1);
        let (tls12, tls13) = (two.offer_tls12(at), two.offer_tls13(at));
        assert_eq!(tls12.is_some(), tls13.is_some());
        tls13.is_some()
    }

    #[test]
    fn a_verification_holds_for_an_hour_and_no_longer_than_any_certificate() {
        let now = Timestamp::now();
        let long = certificate(|_| {});
        let one = std::slice::from_ref(&long);
        assert!(usable(one, now, now) && usable(one, now, minutes(now, 59)));
        assert!(!usable(one, now, minutes(now, 60)));
        let two = [long.clone(), ends(now, 30)];
        assert!(usable(&two, now, minutes(now, 29)) && !usable(&two, now, minutes(now, 30)));
        // Nothing that can be read, alone and beside what can; nothing; and more than is kept.
        let unread = CertificateDer::from(vec![0x30]);
        assert!(
            !usable(std::slice::from_ref(&unread), now, now) && !usable(&[long.clone(), unread], now, now)
        );
        assert!(!usable(&[], now, now));
        let many: Vec<_> = std::iter::repeat_n(long, 64).collect();
        assert!(!usable(&many, now, now));
    }

    #[test]
    fn a_later_verification_does_not_move_the_end_of_earlier_sessions() {
        let (sessions, now) = (Arc::<Named>::default(), Timestamp::now());
        let first = to(&sessions, 1);
        first.keep_tls13("first", 200, now);
        first.verified(&[ends(now, 30)], now);
        let second = to(&sessions, 1);
        second.keep_tls12("second", 200, now);
        second.verified(&[certificate(|_| {})], minutes(now, 20));
        // The first connection is open still, and gets one more ticket.
        first.keep_tls13("first, late", 200, minutes(now, 25));
        assert_eq!(to(&sessions, 1).offer_tls13(minutes(now, 29)), Some("first, late"));
        let later = to(&sessions, 1);
        assert_eq!(later.offer_tls13(minutes(now, 30)), None);
        assert_eq!(later.offer_tls12(minutes(now, 30)), Some("second"));
        // What arrives after the end is of no use.
        first.keep_tls13("first, too late", 200, minutes(now, 31));
        assert_eq!(later.offer_tls13(minutes(now, 31)), None);
    }

    #[test]
    fn a_session_that_follows_from_a_resumed_one_ends_with_it() {
        let (sessions, now) = (Arc::<Named>::default(), Timestamp::now());
        let first = to(&sessions, 1);
        first.verified(&[ends(now, 30)], now);
        first.keep_tls13("first", 200, now);
        let mut last = first;
        for minute in [10, 20, 29] {
            last = to(&sessions, 1);
            assert!(last.offer_tls13(minutes(now, minute)).is_some());
            last.keep_tls13("early", 200, minutes(now, minute));
            last.resumed(minutes(now, minute));
            last.keep_tls12("late", 200, minutes(now, minute));
        }
        let next = to(&sessions, 1);
        assert_eq!((next.offer_tls12(minutes(now, 30)), next.offer_tls13(minutes(now, 30))), (None, None));
        last.keep_tls13("too late", 200, minutes(now, 30));
        assert_eq!(next.offer_tls13(minutes(now, 30)), None);
        // What nobody offered cannot have been resumed.
        let next = to(&sessions, 1);
        next.resumed(now);
        next.keep_tls13("of nothing", 200, now);
        assert_eq!(next.offer_tls13(now), None);
        // What was offered and not taken says nothing of the handshake that took its place.
        last = to(&sessions, 2);
        last.verified(&[ends(now, 30)], now);
        last.keep_tls13("refused", 200, now);
        let next = to(&sessions, 2);
        assert_eq!(next.offer_tls13(now), Some("refused"));
        next.verified(&[certificate(|_| {})], now);
        next.keep_tls13("of the other", 200, now);
        assert_eq!(to(&sessions, 2).offer_tls13(minutes(now, 45)), Some("of the other"));
    }

    #[test]
    fn sessions_are_for_one_name_and_one_port() {
        let (sessions, now) = (Arc::<Named>::default(), Timestamp::now());
        let one = to(&sessions, 1);
        one.keep_tls13("one", 200, now);
        one.verified(&[certificate(|_| {})], now);
        assert_eq!(sessions.connection(name(1), 8443).offer_tls13(now), None);
        assert_eq!(sessions.connection(name(2), 443).offer_tls13(now), None);
        assert_eq!(to(&sessions, 1).offer_tls13(now), Some("one"));
    }

    #[test]
    fn names_tickets_and_bytes_are_bounded_and_the_sessions_that_end_first_go_first() {
        let (sessions, now) = (Arc::<Named>::default(), Timestamp::now());
        let small = [certificate(|_| {})];
        let fill = |number: usize, shown: &[CertificateDer<'_>], ticket: usize| {
            let one = to(&sessions, number);
            one.verified(shown, now.checked_add(Duration::from_secs(number as u64)).expect("a moment"));
            for _ in 0..TICKETS + 2 {
                one.keep_tls13("session", ticket, now);
            }
        };
        let has = |number: usize| {
            let count = |known: &Known<_, _>| known.tls13.len();
            lock(&sessions.0).get(&(name(number), 443)).map_or(0, count)
        };
        for number in 0..NAMES + 10 {
            fill(number, &small, 200);
        }
        assert_eq!(lock(&sessions.0).len(), NAMES);
        assert_eq!([has(9), has(10), has(NAMES + 9)], [0, TICKETS, TICKETS]);
        // A name without a session goes before all others.
        for number in [1000, 1001] {
            sessions.change(&(name(number), 443), |known| known.group = Some(NamedGroup::X25519));
        }
        assert!(!lock(&sessions.0).contains_key(&(name(1000), 443)) && has(11) == TICKETS);
        // Large ones.
        fill(2000, &small, LARGEST_TICKET + 1);
        assert_eq!(has(2000), 0);
        let large: Vec<_> = std::iter::repeat_n(small[0].clone(), LARGEST_CHAIN / small[0].len()).collect();
        for number in 3000..3000 + NAMES {
            fill(number, &large, LARGEST_TICKET);
        }
        let bytes: usize = lock(&sessions.0).values().map(Known::bytes).sum();
        assert!(bytes <= BYTES && bytes > BYTES / 2, "{bytes}");
        assert_eq!([has(NAMES + 9), has(3000), has(2999 + NAMES)], [0, 0, TICKETS]);
    }
}
