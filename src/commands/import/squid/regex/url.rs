//! What `url_regex` fits: `host:port` of a CONNECT, and `http://host:port/path` of a plain request, of which no path is known.

use super::super::asked::AskedHost;
use super::super::truth::Truth;
use super::automaton::{Automaton, State};
use super::{Patterns, addresses, names_in, parse};

/// The patterns of a list.
#[derive(Clone, Default, Debug)]
pub(in crate::commands::import::squid) struct UrlSet {
    patterns: Patterns,
    written: Vec<String>,
}

impl UrlSet {
    /// Adds a pattern: the names that are written in it. None: it is not understood.
    pub(in crate::commands::import::squid) fn add(
        &mut self,
        pattern: &str,
        folded: bool,
    ) -> Option<Vec<String>> {
        let part = parse::parse(pattern, folded)?;
        let hir = part.hir();
        Automaton::of(std::slice::from_ref(&hir))?;
        self.patterns.waiting.push(hir);
        let names: Vec<String> = names_in(&part).into_iter().collect();
        self.written.extend(names.iter().cloned());
        Some(names)
    }

    /// Everything is added: from here on there are answers.
    pub(in crate::commands::import::squid) fn seal(&mut self) {
        self.patterns.seal();
    }

    /// Every name that is mentioned.
    pub(in crate::commands::import::squid) fn names(&self) -> impl Iterator<Item = &str> {
        self.written.iter().map(String::as_str)
    }

    /// Whether one fits the requests for a host on these ports.
    pub(in crate::commands::import::squid) fn fits(
        &self,
        connect: bool,
        host: AskedHost<'_>,
        (low, high): (u16, u16),
    ) -> Truth {
        self.patterns.of(|automaton| {
            let begin = [automaton.begin()];
            let states = if connect { begin.to_vec() } else { automaton.after(&begin, "http://") };
            let states = hosts(automaton, &states, host);
            // A plain request to port 80 names no port.
            let states = match (connect, low, high) {
                (false, 80, 80) => states,
                _ if low == high => automaton.after(&states, &format!(":{low}")),
                _ => automaton.runs(&automaton.after(&states, ":"), b"0123456789", 1, Some(5)),
            };
            if connect {
                return states;
            }
            let every: Vec<u8> = (0x20..=0x7e).collect();
            automaton.runs(&automaton.after(&states, "/"), &every, 0, None)
        })
    }
}

fn hosts(automaton: &Automaton, from: &[State], host: AskedHost<'_>) -> Vec<State> {
    match host {
        AskedHost::Name(name) => automaton.after(from, name),
        AskedHost::Below(name) => automaton.after(&automaton.under_from(from), name),
        AskedHost::OtherNames => automaton.names_from(from),
        AskedHost::Network(network) => addresses(automaton, from, &network),
    }
}

#[cfg(test)]
mod tests {
    use ipnet::IpNet;

    use super::*;

    #[test]
    fn a_tunnel_has_no_path_and_a_plain_request_may_have_any() {
        use Truth::{Maybe, No, Yes};
        let rows = [
            (r"example\.com", Yes, Yes, Yes),
            (r"^http://a\.example\.com/", No, Yes, No),
            (r"^https?://", No, Yes, Yes),
            (r"^a\.example\.com:443$", Yes, No, No),
            (":443", Yes, Maybe, Maybe),
            (r"\.exe$", No, Maybe, Maybe),
            ("facebook", No, Maybe, Maybe),
            (":8080/", No, Maybe, Yes),
        ];
        for (pattern, tunnel, plain, other_port) in rows {
            let mut set = UrlSet::default();
            set.add(pattern, false).unwrap_or_else(|| panic!("{pattern}"));
            set.seal();
            let host = AskedHost::Name("a.example.com");
            let found = (
                set.fits(true, host, (443, 443)),
                set.fits(false, host, (80, 80)),
                set.fits(false, AskedHost::Name("www.example.com"), (8080, 8080)),
            );
            assert_eq!(found, (tunnel, plain, other_port), "{pattern}");
        }
        let mut set = UrlSet::default();
        assert_eq!(set.add(r"^10\.", false), Some(vec![]));
        set.seal();
        let network: IpNet = "10.0.0.0/8".parse().expect("a network");
        assert_eq!(set.fits(true, AskedHost::Network(network), (1, 65_535)), Yes);
    }
}
