//! Asks for a tunnel in SOCKS5 (RFC 1928), with a password by RFC 1929.

use std::io;

use super::reply::{Connected, Reply};
use crate::wire::socks5::{Code, LOGGED_IN, NO_METHOD, NO_PASSWORD, PASSWORD, VERSION};
use crate::words::target::{Host, Target};

/// What the proxy answers. `credentials`: `USER:PASSWORD`.
///
/// # Errors
/// It is no proxy of this kind, or not reached.
pub(super) fn ask(
    connected: &mut Connected,
    target: &Target,
    credentials: Option<&str>,
) -> io::Result<Reply> {
    let greeting: &[u8] = if credentials.is_some() { &[VERSION, 2, 0, 2] } else { &[VERSION, 1, 0] };
    let method = say(connected, greeting)?;
    match method {
        NO_PASSWORD => {}
        PASSWORD => {
            let (user, password) = credentials.and_then(|line| line.split_once(':')).unwrap_or_default();
            let login = [&[1][..], &counted(user)?, &counted(password)?].concat();
            if say(connected, &login)? != LOGGED_IN {
                return Ok(Reply::brief(connected, 407, "that user or password are wrong"));
            }
        }
        NO_METHOD => return Ok(Reply::brief(connected, 407, "no method of these")),
        _ => return Err(malformed()),
    }
    let host = match &target.host {
        Host::Name(name) => [&[3][..], &counted(name.as_str())?].concat(),
        Host::Address(std::net::IpAddr::V4(address)) => [&[1][..], &address.octets()].concat(),
        Host::Address(std::net::IpAddr::V6(address)) => [&[4][..], &address.octets()].concat(),
    };
    let request = [&[VERSION, 1, 0][..], &host, &target.port.get().to_be_bytes()].concat();
    connected.stream.write_all(&request)?;
    connected.stream.flush()?;
    let [version, code, _, kind] = read(connected)?;
    // The address that the proxy bound, which means nothing here.
    let rest = match kind {
        1 => 4,
        4 => 16,
        3 => usize::from(read::<1>(connected)?[0]),
        _ => return Err(malformed()),
    };
    connected.stream.read_exact(&mut vec![0; rest + 2])?;
    if version != VERSION {
        return Err(malformed());
    }
    Ok(Reply::brief(connected, status(code), format!("reply code {code}")))
}

/// The status that comes nearest to a code.
fn status(code: u8) -> u16 {
    match code {
        code if code == Code::Succeeded as u8 => 200,
        code if code == Code::NotAllowed as u8 => 403,
        code if code == Code::CommandNotSupported as u8 => 405,
        code if code == Code::AddressTypeNotSupported as u8 => 400,
        // Not reached: network, host, port; the last one is that its time was over.
        3..=6 => 502,
        _ => 500,
    }
}

fn say(connected: &mut Connected, bytes: &[u8]) -> io::Result<[u8; 2]> {
    connected.stream.write_all(bytes)?;
    connected.stream.flush()?;
    read(connected)
}

fn read<const LENGTH: usize>(connected: &mut Connected) -> io::Result<[u8; LENGTH]> {
    let mut bytes = [0; LENGTH];
    match connected.stream.read_exact(&mut bytes) {
        Ok(()) => Ok(bytes),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(io::Error::new(
            error.kind(),
            "the connection was closed without a reply: this client is not trusted there (a listener with `proxy_protocol` accepts \
             connections only from its balancers), or it speaks something else",
        )),
        Err(error) => Err(error),
    }
}

fn malformed() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        "this is not a SOCKS5 proxy: `protocols: [http, socks5]` makes a listener of egressd one",
    )
}

fn counted(text: &str) -> io::Result<Vec<u8>> {
    let length = u8::try_from(text.len()).map_err(|_| {
        io::Error::new(io::ErrorKind::InvalidInput, "longer than 255 bytes, which SOCKS5 has no room for")
    })?;
    Ok([&[length][..], text.as_bytes()].concat())
}
