//! The sockets that a service manager passes (socket activation, sd_listen_fds(3)): listeners and the admin listener, by their names.
//!
//! A passed socket is used as it is and must be what the configuration says: where it listens is what an operator reads in the file.
//! Whatever listener has no socket binds its address itself. Not here: how a socket is bound ([`crate::transport::socket`]).
//!
//! Descriptors have only numbers here, and only `unsafe` code can own what has a number: `listenfd` does. It also takes `LISTEN_FDS`
//! and `LISTEN_PID` out of the environment.

use std::env;
use std::fmt;
use std::net::{SocketAddr, TcpListener};

use listenfd::ListenFd;
use rustix::net::ipproto;
use rustix::net::sockopt::{socket_acceptconn, socket_protocol};

use crate::config::Config;
use crate::words::quote::quoted;

/// The name of the admin listener's socket.
const ADMIN: &str = "admin";
/// What a socket is called whose manager passes no names.
const UNNAMED: &str = "unknown";
/// More than any configuration has listeners.
const MOST: usize = 1_000;

/// The sockets that were passed to this process; none if it was started otherwise.
#[derive(Debug, Default)]
pub struct Passed(Vec<(String, TcpListener)>);

/// What is wrong with them, all of it: each with what to write instead.
#[derive(Debug)]
pub struct Misfits(pub Vec<String>);

impl fmt::Display for Misfits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("; "))
    }
}

/// The sockets, each where it belongs.
#[derive(Debug)]
pub(crate) struct Assigned {
    /// One for each listener, in the order of the file; `None`: it binds its address.
    pub(crate) listeners: Vec<Option<TcpListener>>,
    /// The same for the admin listener.
    pub(crate) admin: Option<TcpListener>,
}

impl Passed {
    /// Takes them from the environment. To be called once, before there is another thread: the environment changes.
    ///
    /// # Errors
    /// [`Misfits`]: what was passed is no TCP socket that listens, or its name is missing.
    pub fn take() -> Result<Self, Misfits> {
        let variable = |name| env::var_os(name).map(|value| value.to_string_lossy().into_owned());
        let own = std::process::id().to_string();
        let (Some(count), Some(pid)) = (variable("LISTEN_FDS"), variable("LISTEN_PID")) else {
            return Ok(Passed::default());
        };
        // They were passed to another process, which has left its environment to this one.
        if pid != own {
            return Ok(Passed::default());
        }
        let names = names(&count, variable("LISTEN_FDNAMES").as_deref())?;
        let mut descriptors = ListenFd::from_env();
        let (mut sockets, mut misfits) = (Vec::new(), Vec::new());
        for (index, name) in names.into_iter().enumerate() {
            match descriptors.take_tcp_listener(index) {
                Ok(Some(socket)) => match unfit(&socket) {
                    None => sockets.push((name, socket)),
                    Some(why) => misfits.push(format!("the passed socket {} {why}", quoted(&name))),
                },
                Ok(None) => misfits.push(format!("the passed socket {} is missing", quoted(&name))),
                Err(error) => misfits.push(format!(
                    "the passed socket {} is not TCP ({error}): write `ListenStream=ADDRESS:PORT` in its socket unit",
                    quoted(&name)
                )),
            }
        }
        if misfits.is_empty() { Ok(Passed(sockets)) } else { Err(Misfits(misfits)) }
    }

    /// Gives each listener of `config` its socket.
    ///
    /// # Errors
    /// [`Misfits`]: a socket has a name that no listener has, or listens elsewhere than the configuration says.
    pub(crate) fn assign(self, config: &Config) -> Result<Assigned, Misfits> {
        let mut misfits = Vec::new();
        let mut assigned = Assigned { listeners: Vec::new(), admin: None };
        assigned.listeners.resize_with(config.listeners.len(), || None);
        for (name, socket) in self.0 {
            let mut places = config.listeners.iter().zip(&mut assigned.listeners);
            let listener = places.find(|(listener, _)| *listener.name == *name);
            let (place, what, address) = match (listener, name == ADMIN) {
                (Some(_), true) => {
                    misfits.push(
                        "a socket was passed by the name `admin`, which is the admin listener's, and a listener has the name as well: \
                         write another `name` for that listener, in the file and as FileDescriptorName= of its socket unit"
                            .to_owned(),
                    );
                    continue;
                }
                (None, true) => (&mut assigned.admin, "`admin.address`".to_owned(), config.admin.address),
                (Some((listener, place)), false) => {
                    let what = format!("`address` of the listener {}", quoted(&name));
                    let Some(address) = listener.address.ip() else {
                        misfits.push(format!(
                            "a TCP socket was passed by the name {}, and {what} is {}: egressd makes unix sockets itself: take the name out \
                             of the socket unit, or write its TCP address in the file",
                            quoted(&name),
                            listener.address
                        ));
                        continue;
                    };
                    (place, what, address)
                }
                (None, false) => {
                    misfits.push(unknown(&name, config));
                    continue;
                }
            };
            if place.is_some() {
                misfits.push(format!(
                    "two sockets were passed by the name {}, and a listener has one address: write a listener in the file, and a socket \
                     unit with its name, for each",
                    quoted(&name)
                ));
                continue;
            }
            match socket.local_addr() {
                Ok(bound) if is_at(address, bound) => *place = Some(socket),
                Ok(bound) => misfits.push(format!(
                    "the passed socket {} listens on {bound}, and {what} is {address}: write `{bound}` in the file, or in the socket unit \
                     `ListenStream=` and below it `ListenStream={address}`, and restart that unit",
                    quoted(&name)
                )),
                Err(error) => misfits.push(format!("the passed socket {}: {error}", quoted(&name))),
            }
        }
        if misfits.is_empty() { Ok(assigned) } else { Err(Misfits(misfits)) }
    }
}

/// The names of so many sockets.
fn names(count: &str, names: Option<&str>) -> Result<Vec<String>, Misfits> {
    let misfit = |text: String| Misfits(vec![text]);
    let count = match count.parse::<usize>() {
        Ok(count) if count <= MOST => count,
        _ => return Err(misfit(format!("LISTEN_FDS is {}, not a number up to {MOST}", quoted(count)))),
    };
    let names: Vec<String> = match names {
        Some(names) => names.split(':').map(str::to_owned).collect(),
        None => vec![UNNAMED.to_owned(); count],
    };
    if count > 0 && names.len() != count {
        let text = format!("LISTEN_FDNAMES has {} names, and {count} sockets were passed", names.len());
        return Err(misfit(text));
    }
    Ok(if count == 0 { Vec::new() } else { names })
}

/// Why this socket cannot be a listener's.
fn unfit(socket: &TcpListener) -> Option<String> {
    if socket_protocol(socket) != Ok(Some(ipproto::TCP)) {
        return Some("is not TCP: write `ListenStream=ADDRESS:PORT` in its socket unit".to_owned());
    }
    match socket_acceptconn(socket) {
        Ok(true) => None,
        Ok(false) => {
            Some("does not listen, it may be a connection: write `Accept=no` in its socket unit".to_owned())
        }
        Err(error) => Some(format!("cannot be used: {error}")),
    }
}

fn unknown(name: &str, config: &Config) -> String {
    let known: Vec<String> = config.listeners.iter().map(|listener| quoted(&listener.name)).collect();
    // Such a name stands for a listener without one, and a colon separates names.
    let unnamed = if config.listeners.iter().any(|listener| listener.name.contains(':')) {
        "; a listener without a `name` is called by its address, which cannot be passed as a name: give it one"
    } else {
        ""
    };
    format!(
        "a socket was passed by the name {}, which no listener has: they are {} and, for the admin listener, `admin`; write one of them \
         as FileDescriptorName= of the socket unit{unnamed}",
        quoted(name),
        known.join(", "),
    )
}

/// Whether a socket that is bound to `bound` is what `configured` asks for. Port 0 is any port.
fn is_at(configured: SocketAddr, bound: SocketAddr) -> bool {
    let scope = |address| match address {
        SocketAddr::V6(address) => address.scope_id(),
        SocketAddr::V4(_) => 0,
    };
    let same_port = configured.port() == 0 || configured.port() == bound.port();
    configured.ip() == bound.ip() && scope(configured) == scope(bound) && same_port
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    const TWO: &str = "listeners: [{name: web, address: 127.0.0.1:0}, {name: git, address: \"[::1]:0\"}]\n\
                       admin: {address: 127.0.0.1:0}\npolicies: []\n";

    fn config(text: &str) -> Config {
        config::load_str("c.yaml", text, |_| Ok(Vec::new())).expect(text).config
    }

    /// Passed by these names, each bound to this address.
    fn passed(sockets: &[(&str, &str)]) -> Passed {
        let bind = |address: &str| TcpListener::bind(address).expect(address);
        Passed(sockets.iter().map(|(name, address)| ((*name).to_owned(), bind(address))).collect())
    }

    fn misfits(config: &Config, sockets: &[(&str, &str)]) -> Vec<String> {
        passed(sockets).assign(config).map(drop).expect_err("something does not fit").0
    }

    #[test]
    fn sockets_go_where_their_names_say_and_the_rest_is_bound() {
        let config = config(TWO);
        let assigned =
            passed(&[("admin", "127.0.0.1:0"), ("git", "[::1]:0")]).assign(&config).expect("they fit");
        let places: Vec<bool> = assigned.listeners.iter().map(Option::is_some).collect();
        assert_eq!((places, assigned.admin.is_some()), (vec![false, true], true));
        let none = Passed::default().assign(&config).expect("nothing to fit");
        assert!(
            none.admin.is_none() && none.listeners.iter().all(Option::is_none) && none.listeners.len() == 2
        );
    }

    #[test]
    fn all_that_does_not_fit_is_told_at_once() {
        let told = misfits(
            &config(TWO),
            &[
                ("egressd.socket", "127.0.0.1:0"),
                ("web", "127.0.0.2:0"),
                ("git", "[::1]:0"),
                ("git", "[::1]:0"),
                ("admin", "[::1]:0"),
            ],
        );
        let begins = [
            "a socket was passed by the name `egressd.socket`, which no listener has: they are `web`, `git` and,",
            "the passed socket `web` listens on 127.0.0.2:",
            "two sockets were passed by the name `git`",
            "the passed socket `admin` listens on [::1]:",
        ];
        assert_eq!(told.len(), begins.len(), "{told:#?}");
        for (told, begin) in told.iter().zip(begins) {
            assert!(told.starts_with(begin), "{told}");
        }
        assert!(told[1].contains("and below it `ListenStream=127.0.0.1:0`"), "{}", told[1]);
    }

    #[test]
    fn a_listener_without_a_name_is_asked_to_have_one() {
        let config =
            config("listeners: [{address: 127.0.0.1:0}]\nadmin: {address: 127.0.0.1:0}\npolicies: []\n");
        let told = misfits(&config, &[("proxy", "127.0.0.1:0")]);
        assert!(told[0].contains("is called by its address"), "{told:?}");
    }

    #[test]
    fn the_name_of_the_admin_listener_is_nobody_elses() {
        let config = config(
            "listeners: [{name: admin, address: 127.0.0.1:0}]\nadmin: {address: 127.0.0.1:0}\npolicies: []\n",
        );
        let told = misfits(&config, &[("admin", "127.0.0.1:0")]);
        assert!(told[0].contains("write another `name`"), "{told:?}");
    }

    #[test]
    fn an_address_is_compared_whole() {
        for (configured, bound, same) in [
            ("127.0.0.1:3128", "127.0.0.1:3128", true),
            ("127.0.0.1:0", "127.0.0.1:3128", true),
            ("127.0.0.1:3128", "127.0.0.1:3129", false),
            ("0.0.0.0:3128", "127.0.0.1:3128", false),
            ("0.0.0.0:3128", "[::]:3128", false),
            ("[::]:3128", "[::]:3128", true),
            ("[fe80::1%2]:3128", "[fe80::1%3]:3128", false),
        ] {
            let address = |text: &str| text.parse().expect("an address");
            assert_eq!(is_at(address(configured), address(bound)), same, "{configured} {bound}");
        }
    }

    #[test]
    fn each_socket_has_a_name() {
        let told = |count, listed| names(count, listed).map_err(|misfits| misfits.0.concat());
        assert_eq!(told("2", Some("a:b")), Ok(vec!["a".to_owned(), "b".to_owned()]));
        assert_eq!(told("0", Some("")), Ok(Vec::new()));
        assert_eq!(told("1", None), Ok(vec!["unknown".to_owned()]));
        assert!(told("2", Some("a")).expect_err("too few").contains("1 names"));
        for count in ["-1", "x", "", "2000000000"] {
            assert!(told(count, None).expect_err(count).contains("not a number"), "{count}");
        }
    }
}
