//! SOCKS5 (RFC 1928) and its passwords (RFC 1929): what a client's three messages say, and the bytes of the answers.
//!
//! Each message is read from the beginning of what has come; what follows it belongs to the next one, or to the tunnel. A name and an
//! address become the same canonical target that a CONNECT has. Not here: the connection and its deadline
//! ([`crate::inbound::socks5`]), and which refusal has which code ([`crate::session::refuse::socks`]).
#![warn(clippy::indexing_slicing)]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use http::Method;

use crate::words::target::{self, Host, Port, Target, TargetError};

/// The first byte of a client's first message, and of its request.
pub const VERSION: u8 = 5;
/// The first byte of a client that speaks SOCKS4.
pub const VERSION_4: u8 = 4;
/// The longest message, in bytes: user and password.
pub const LONGEST: usize = 3 + 255 + 255;

/// The answer to a client whose methods are not those of the listener, before the connection is closed.
pub const NO_METHOD: [u8; 2] = [VERSION, 0xff];
/// No password is asked for.
pub const NO_PASSWORD: [u8; 2] = [VERSION, 0];
/// A password is asked for.
pub const PASSWORD: [u8; 2] = [VERSION, 2];
/// The password is right, or nobody looks at it.
pub const LOGGED_IN: [u8; 2] = [1, 0];
/// It is not.
pub const NOT_LOGGED_IN: [u8; 2] = [1, 1];
/// How SOCKS4 refuses.
pub const REFUSED_4: [u8; 8] = [0, 0x5b, 0, 0, 0, 0, 0, 0];

/// Most bytes of a malformed name that are kept for the log.
pub const LONGEST_NAME: usize = 255;

/// What the bytes of a connection are so far.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Parsed<T> {
    /// The beginning of a message, which has at least so many bytes in total.
    NeedMore(usize),
    /// A message, and how many bytes it has.
    Message(T, usize),
    /// No message: one sentence about it.
    Malformed(&'static str),
    /// A request for a kind of address that RFC 1928 does not know: nobody can tell where it ends.
    AddressType,
}

/// The methods of proving an identity that a client offers, as far as they are known here.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Methods {
    /// None at all.
    pub no_password: bool,
    /// User and password.
    pub password: bool,
}

/// A user and a password, as they came. `Debug` shows neither: people type passwords in the place of names.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    /// The name; may be empty.
    pub user: Box<[u8]>,
    /// The password; may be empty.
    pub password: Box<[u8]>,
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Login(…)")
    }
}

/// What a client asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Asked {
    /// What is to happen.
    pub command: Command,
    /// Where.
    pub target: Result<Target, Unfit>,
}

/// What a client wants.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Command {
    /// A connection to the target.
    Connect,
    /// A connection from it.
    Bind,
    /// Datagrams.
    UdpAssociate,
    /// A command that RFC 1928 does not know.
    Unknown(u8),
}

impl Command {
    /// The word in the log, where HTTP has a method.
    pub fn method(self) -> Option<Method> {
        match self {
            Command::Connect => Some(Method::CONNECT),
            Command::Bind => Method::from_bytes(b"BIND").ok(),
            Command::UdpAssociate => Method::from_bytes(b"UDP_ASSOCIATE").ok(),
            Command::Unknown(_) => None,
        }
    }
}

/// A target that is none.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Unfit {
    /// What is wrong with it.
    pub error: TargetError,
    /// Its name or address with its port, as it came.
    pub raw: Box<[u8]>,
}

/// The first message: which methods the client offers.
pub fn greeting(bytes: &[u8]) -> Parsed<Methods> {
    match bytes.first() {
        None | Some(&VERSION) => {}
        Some(&VERSION_4) => {
            return Parsed::Malformed(
                "the client speaks SOCKS4, which has no names: use socks5h:// in the proxy URL",
            );
        }
        Some(_) => return Parsed::Malformed("the first byte is not the version of SOCKS5"),
    }
    let Some(count) = bytes.get(1).map(|count| usize::from(*count)) else { return Parsed::NeedMore(2) };
    if count == 0 {
        return Parsed::Malformed("the client offers no method, not even that of no password");
    }
    let Some(methods) = bytes.get(2..2 + count) else { return Parsed::NeedMore(2 + count) };
    let methods = Methods { no_password: methods.contains(&0), password: methods.contains(&2) };
    Parsed::Message(methods, 2 + count)
}

/// The second message, of a client that was asked for a password.
pub fn login(bytes: &[u8]) -> Parsed<Login> {
    if bytes.first().is_some_and(|version| *version != 1) {
        return Parsed::Malformed("the client was asked for a password and sent something else");
    }
    let (user, end) = match counted(bytes, 1) {
        Ok(field) => field,
        Err(least) => return Parsed::NeedMore(least + 1),
    };
    let (password, end) = match counted(bytes, end) {
        Ok(field) => field,
        Err(least) => return Parsed::NeedMore(least),
    };
    Parsed::Message(Login { user: user.into(), password: password.into() }, end)
}

/// The last message: what the client asks for.
pub fn request(bytes: &[u8]) -> Parsed<Asked> {
    if bytes.first().is_some_and(|version| *version != VERSION) {
        return Parsed::Malformed("the request does not begin with the version of SOCKS5");
    }
    if bytes.get(2).is_some_and(|reserved| *reserved != 0) {
        return Parsed::Malformed("the reserved byte of the request is not zero");
    }
    let (Some(command), Some(kind)) = (bytes.get(1), bytes.get(3)) else { return Parsed::NeedMore(4) };
    let command = match command {
        1 => Command::Connect,
        2 => Command::Bind,
        3 => Command::UdpAssociate,
        other => Command::Unknown(*other),
    };
    let (host, end) = match kind {
        1 => match fixed::<4>(bytes) {
            Ok((octets, end)) => (Ok(Host::Address(Ipv4Addr::from(octets).into())), end),
            Err(least) => return Parsed::NeedMore(least),
        },
        4 => match fixed::<16>(bytes) {
            Ok((octets, end)) => (Ok(Host::Address(IpAddr::V6(Ipv6Addr::from(octets)))), end),
            Err(least) => return Parsed::NeedMore(least),
        },
        3 => match counted(bytes, 4) {
            Ok((name, end)) => (host(name).map_err(|error| (error, name)), end),
            Err(least) => return Parsed::NeedMore(least + 2),
        },
        _ => return Parsed::AddressType,
    };
    let Some(&[high, low]) = bytes.get(end..end + 2) else { return Parsed::NeedMore(end + 2) };
    let number = u16::from_be_bytes([high, low]);
    let unfit =
        |error, name: &[u8]| Unfit { error, raw: [name, format!(":{number}").as_bytes()].concat().into() };
    let target = match (host, Port::new(number)) {
        (Ok(host), Some(port)) => Ok(Target { method: target::Method::Connect, host, port }),
        (Ok(host), None) => Err(unfit(TargetError::Port, host.to_string().as_bytes())),
        (Err((error, name)), _) => Err(unfit(error, name)),
    };
    Parsed::Message(Asked { command, target }, end + 2)
}

/// The host of a name. An address in this place is written as in a URL without brackets: only the dotted quad has no other.
fn host(name: &[u8]) -> Result<Host, TargetError> {
    let text = std::str::from_utf8(name).map_err(|_| TargetError::Character)?;
    if text.contains(['[', ']']) {
        return Err(TargetError::Character);
    }
    Host::parse(text)
}

/// A field behind a byte that has its length, and where it ends. `Err`: how many bytes there must be, at least.
fn counted(bytes: &[u8], at: usize) -> Result<(&[u8], usize), usize> {
    let length = bytes.get(at).map(|length| usize::from(*length)).ok_or(at + 1)?;
    let end = at + 1 + length;
    bytes.get(at + 1..end).map(|field| (field, end)).ok_or(end)
}

/// An address behind the byte that has its kind. `Err`: how many bytes there must be, with the port.
fn fixed<const LENGTH: usize>(bytes: &[u8]) -> Result<([u8; LENGTH], usize), usize> {
    let end = 4 + LENGTH;
    let field = bytes.get(4..end).and_then(|field| field.try_into().ok());
    field.map(|field| (field, end)).ok_or(end + 2)
}

/// The answer to a request. No address of ours is told: clients of CONNECT have no use for it.
pub fn answer(code: Code) -> [u8; 10] {
    [VERSION, code as u8, 0, 1, 0, 0, 0, 0, 0, 0]
}

/// How a request went (RFC 1928, section 6).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Code {
    /// The connection is there.
    Succeeded = 0,
    /// A failure of another kind.
    GeneralFailure = 1,
    /// The rules do not allow it.
    NotAllowed = 2,
    /// No way leads to the target's network.
    NetworkUnreachable = 3,
    /// The target is not found, or does not answer.
    HostUnreachable = 4,
    /// The target refused.
    ConnectionRefused = 5,
    /// Something other than CONNECT was asked for.
    CommandNotSupported = 7,
    /// The target is written in an unknown way.
    AddressTypeNotSupported = 8,
}

#[cfg(test)]
mod tests;
