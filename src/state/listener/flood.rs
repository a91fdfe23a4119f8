//! Counts refusals that an untrusted client can repeat without end, for one listener, and says which of them may be
//! written to the log.
//!
//! For one reason at most [`MOST`] records are written at once in [`WINDOW`]; further ones are counted, and reported
//! at its end. Refusals of a client that is known are bounded for each client, so that a noisy one does not hide the
//! first refusals of the others. That holds for [`CLIENTS`] clients at a time; beyond that, the rest share one bound.
//! Not here: the records, which [`crate::session::refuse::bounded`] writes.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::words::client::{ClientAddr, PeerAddr};
use crate::words::outcome::{Class, Reason};

/// How long records are counted together.
pub(crate) const WINDOW: Duration = Duration::from_secs(1);
/// Records that are written at once in a window: of one listener, one reason and, if clients are distinguished, one
/// client.
const MOST: u32 = 10;
/// Clients with a window of their own, of one listener and one reason: at most 2,560 records a second.
const CLIENTS: usize = 256;

/// The peer and the client that were refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Who {
    pub(crate) peer: PeerAddr,
    /// None if only a PROXY header would have named it.
    pub(crate) client: Option<ClientAddr>,
}

/// Which clients' refusals for one reason are bounded together.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Together {
    /// All clients: the client may be unknown.
    All,
    /// Each client separately: only a known client can cause them.
    EachClient,
}

/// The reasons with bounded records: connections that are closed before any request, and clients that get replies and
/// ask again and again, or guess. `None`: not bounded.
fn together(reason: Reason) -> Option<Together> {
    match reason.class() {
        Class::Connection => Some(Together::All),
        Class::Challenge | Class::Credentials | Class::Rate | Class::Limit => Some(Together::EachClient),
        Class::Form
        | Class::Client
        | Class::NotListed
        | Class::Expired
        | Class::Denied
        | Class::Request
        | Class::Upload
        | Class::Address
        | Class::NoTls
        | Class::ServerName
        | Class::Hello
        | Class::Inspection
        | Class::Certificate
        | Class::TargetNotTls
        | Class::ClientLimit
        | Class::Lookup
        | Class::Connect
        | Class::Upstream
        | Class::Resources
        | Class::Service => None,
    }
}

/// What untrusted clients caused at one listener, for each of the bounded reasons.
#[derive(Debug)]
pub(crate) struct Flood(Box<[(Reason, Mutex<Windows>)]>);

impl Default for Flood {
    fn default() -> Self {
        let bounded = Reason::ALL.iter().filter(|reason| together(**reason).is_some());
        Flood(bounded.map(|reason| (*reason, Mutex::default())).collect())
    }
}

/// The refusals of one listener for one reason.
#[derive(Debug, Default)]
struct Windows {
    by_client: HashMap<IpAddr, Window>,
    of_the_rest: Window,
}

/// The refusals that are bounded together.
#[derive(Debug, Default)]
struct Window {
    began: Option<Instant>,
    written: u32,
    held: Option<Held>,
}

/// Refusals that are not written yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Held {
    /// The last one.
    pub(crate) who: Who,
    /// How many came before it.
    pub(crate) before: u64,
}

/// Whose refusals are bounded together: those of one client, or (None) of all that have no window of their own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Bound(Option<IpAddr>);

/// What to do about the record of one refusal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum RefusalRecord {
    Write,
    /// The first one that is held back: it must be written when the window ends.
    Hold(Bound),
    Count,
}

impl Window {
    fn add(&mut self, who: Who, bound: Bound, now: Instant) -> RefusalRecord {
        if self.is_over(now) {
            self.began = Some(now);
            self.written = 0;
        }
        if self.written < MOST {
            self.written += 1;
            return RefusalRecord::Write;
        }
        match &mut self.held {
            Some(held) => {
                *held = Held { who, before: held.before.saturating_add(1) };
                RefusalRecord::Count
            }
            None => {
                self.held = Some(Held { who, before: 0 });
                RefusalRecord::Hold(bound)
            }
        }
    }

    fn is_over(&self, now: Instant) -> bool {
        self.began.is_none_or(|began| now.duration_since(began) >= WINDOW)
    }
}

impl Windows {
    /// `client`: the client whose window it is, if there is a place for one.
    fn add(&mut self, who: Who, client: Option<IpAddr>, now: Instant) -> RefusalRecord {
        let client = client.filter(|client| self.has_place(*client, now));
        let window = match client {
            Some(client) => self.by_client.entry(client).or_default(),
            None => &mut self.of_the_rest,
        };
        window.add(who, Bound(client), now)
    }

    fn has_place(&mut self, client: IpAddr, now: Instant) -> bool {
        if self.by_client.contains_key(&client) {
            return true;
        }
        if self.by_client.len() >= CLIENTS {
            // Held records will still be asked for.
            self.by_client.retain(|_, window| window.held.is_some() || !window.is_over(now));
        }
        self.by_client.len() < CLIENTS
    }

    fn take(&mut self, Bound(client): Bound) -> Option<Held> {
        match client {
            Some(client) => self.by_client.get_mut(&client)?.held.take(),
            None => self.of_the_rest.held.take(),
        }
    }
}

impl Flood {
    /// Counts one. `account` stands for the client wherever clients are counted. None: `reason` is not a bounded one.
    pub(crate) fn add(&self, reason: Reason, who: Who, account: Option<IpAddr>) -> Option<RefusalRecord> {
        let client = match together(reason)? {
            Together::All => None,
            Together::EachClient => account,
        };
        self.windows(reason).map(|mut windows| windows.add(who, client, Instant::now()))
    }

    /// What is held for `reason`, to be written now.
    pub(crate) fn take(&self, reason: Reason, bound: Bound) -> Option<Held> {
        self.windows(reason)?.take(bound)
    }

    fn windows(&self, reason: Reason) -> Option<MutexGuard<'_, Windows>> {
        let (_, windows) = self.0.iter().find(|(bounded, _)| *bounded == reason)?;
        // Plain numbers: a panic elsewhere leaves them correct.
        Some(windows.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn who(port: u16) -> Who {
        Who { peer: PeerAddr::new(([10, 0, 0, 1], port).into()), client: None }
    }

    #[test]
    fn ten_a_second_are_written_and_the_rest_is_told_by_the_last() {
        let start = Instant::now();
        let mut window = Window::default();
        for port in 0..10 {
            assert_eq!(window.add(who(port), Bound(None), start), RefusalRecord::Write, "{port}");
        }
        assert_eq!(window.add(who(10), Bound(None), start), RefusalRecord::Hold(Bound(None)));
        for port in 11..100 {
            assert_eq!(
                window.add(who(port), Bound(None), start + WINDOW / 2),
                RefusalRecord::Count,
                "{port}"
            );
        }
        assert_eq!(window.held, Some(Held { who: who(99), before: 89 }));

        // In the next second the held records stay until they are written; none is lost.
        assert_eq!(window.add(who(100), Bound(None), start + WINDOW), RefusalRecord::Write);
        assert_eq!(window.held.take().map(|held| held.before), Some(89));
        for port in 101..110 {
            assert_eq!(window.add(who(port), Bound(None), start + WINDOW), RefusalRecord::Write, "{port}");
        }
        assert_eq!(window.add(who(110), Bound(None), start + WINDOW), RefusalRecord::Hold(Bound(None)));
    }

    #[test]
    fn each_reason_that_a_stranger_can_repeat_has_a_window_of_its_own() {
        let flood = Flood::default();
        let bounded: Vec<&str> = Reason::ALL
            .iter()
            .filter(|reason| flood.windows(**reason).is_some())
            .map(|reason| reason.as_str())
            .collect();
        let answered =
            ["auth_required", "auth_failed", "client_rate_limited", "limit_reached", "budget_table_full"];
        let closed = [
            "peer_not_trusted",
            "proxy_header_invalid",
            "tls_handshake_failed",
            "client_certificate_invalid",
        ];
        assert_eq!(bounded, [&answered[..], &closed[..]].concat());
    }

    fn client(number: usize) -> Option<IpAddr> {
        Some(IpAddr::from([10, 1, (number / 256) as u8, (number % 256) as u8]))
    }

    #[test]
    fn a_noisy_client_hides_no_other_and_the_table_is_bounded() {
        let start = Instant::now();
        let mut windows = Windows::default();
        for _ in 0..MOST {
            assert_eq!(windows.add(who(1), client(0), start), RefusalRecord::Write);
        }
        assert_eq!(windows.add(who(1), client(0), start), RefusalRecord::Hold(Bound(client(0))));
        assert_eq!(windows.add(who(1), client(0), start), RefusalRecord::Count);
        for other in 1..CLIENTS {
            assert_eq!(windows.add(who(2), client(other), start), RefusalRecord::Write, "{other}");
        }
        // A client that finds the table full shares a bound with all others in this situation.
        for beyond in 0..MOST as usize {
            assert_eq!(windows.add(who(3), client(CLIENTS + beyond), start), RefusalRecord::Write);
        }
        assert_eq!(windows.add(who(3), client(2 * CLIENTS), start), RefusalRecord::Hold(Bound(None)));
        assert_eq!(windows.by_client.len(), CLIENTS);

        // Their second is over, and one of them still has something to report.
        let later = start + WINDOW;
        assert_eq!(windows.add(who(4), client(3 * CLIENTS), later), RefusalRecord::Write);
        assert_eq!(windows.by_client.len(), 2);
        assert_eq!(windows.take(Bound(client(0))), Some(Held { who: who(1), before: 1 }));
        assert_eq!(windows.take(Bound(None)).map(|held| held.before), Some(0));
        assert_eq!(windows.take(Bound(client(1))), None);
    }

    #[test]
    fn clients_are_told_apart_where_the_reason_is_theirs() {
        let flood = Flood::default();
        let from = |address: &str| {
            let address = address.parse().expect(address);
            Who { peer: PeerAddr::new(address), client: Some(ClientAddr::new(address)) }
        };
        for &(reason, _) in &flood.0 {
            let by_client = together(reason) == Some(Together::EachClient);
            let add = |address: &str| {
                let who = from(address);
                flood.add(reason, who, who.client.map(ClientAddr::ip))
            };
            let own = |address: &str| Bound(by_client.then(|| address.parse().expect(address)));
            for _ in 0..MOST {
                assert_eq!(add("[2001:db8::1]:1"), Some(RefusalRecord::Write), "{reason}");
            }
            let held = add("[2001:db8::1]:1");
            assert_eq!(held, Some(RefusalRecord::Hold(own("2001:db8::1"))), "{reason}");
            assert_eq!(add("[2001:db8::1]:2"), Some(RefusalRecord::Count), "{reason}");
            let other = add("[2001:db8::2]:1");
            let want = if by_client { RefusalRecord::Write } else { RefusalRecord::Count };
            assert_eq!(other, Some(want), "{reason}");
        }
    }
}
