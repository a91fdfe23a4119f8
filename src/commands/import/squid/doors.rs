//! The ports by which clients come, as Squid's lists know them: `myportname`, `localport`.
//!
//! Not here: the listener that becomes of one ([`super::settings`]).

use super::asked::Takes;
use super::list::AclTest;
use super::truth::Truth;

/// A port that becomes a listener.
#[derive(Clone, Debug)]
pub(super) struct Door {
    /// The listener's name.
    pub(super) listener: String,
    /// As `myportname` knows it.
    pub(super) name: String,
    /// As `localport` knows it; None: it is another one for each connection, which was redirected or comes through a balancer.
    pub(super) port: Option<u16>,
    pub(super) takes: Takes,
}

impl Door {
    /// Whether a list is true of every client that comes by it. None: the list is about something else.
    pub(super) fn is_in(&self, test: &AclTest) -> Option<Truth> {
        let AclTest::Door { names, ports } = test else { return None };
        if names.contains(&self.name) {
            return Some(Truth::Yes);
        }
        Some(match self.port {
            Some(port) => Truth::from(ports.iter().any(|(low, high)| (*low..=*high).contains(&port))),
            None if ports.is_empty() => Truth::No,
            None => Truth::Maybe,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_known_by_its_name_and_by_its_number() {
        let door = |name: &str, port| Door {
            listener: String::new(),
            name: name.to_owned(),
            port,
            takes: Takes::Requests,
        };
        let names = |names: &[&str]| AclTest::Door {
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            ports: Vec::new(),
        };
        let ports = |ports: &[(u16, u16)]| AclTest::Door { names: Default::default(), ports: ports.to_vec() };
        let rows = [
            (door("3128", Some(3128)), names(&["3128"]), Truth::Yes),
            // It is called what was written, and case counts.
            (door("10.0.0.1:3128", Some(3128)), names(&["3128"]), Truth::No),
            (door("People", Some(3128)), names(&["people"]), Truth::No),
            (door("People", Some(3128)), ports(&[(80, 80), (3000, 4000)]), Truth::Yes),
            (door("People", Some(3128)), ports(&[(80, 80)]), Truth::No),
            (door("People", None), ports(&[(80, 80)]), Truth::Maybe),
            (door("People", None), names(&["x"]), Truth::No),
        ];
        for (door, test, want) in rows {
            assert_eq!(door.is_in(&test), Some(want), "{door:?} {test:?}");
        }
        assert_eq!(door("x", None).is_in(&AclTest::Always(Truth::Yes)), None);
    }
}
