//! What a client of SOCKS5 sends and reads, byte by byte.

use std::io::{Read, Write};
use std::net::IpAddr;

use super::Wire;

/// A greeting that offers these methods: 0 is none, 2 is user and password.
pub fn greeting(methods: &[u8]) -> Vec<u8> {
    let count = u8::try_from(methods.len()).expect("at most 255");
    [&[5, count], methods].concat()
}

/// A user and a password.
pub fn login(user: &str, password: &str) -> Vec<u8> {
    let field = |text: &str| [&[u8::try_from(text.len()).expect("at most 255")], text.as_bytes()].concat();
    [vec![1], field(user), field(password)].concat()
}

/// A request for `host:port`: an address as one, anything else as a name.
pub fn request(authority: &str) -> Vec<u8> {
    let (host, port) = authority.rsplit_once(':').expect("host:port");
    let port: u16 = port.parse().expect("a port");
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let host = match bare.parse() {
        Ok(IpAddr::V4(address)) => [&[1][..], &address.octets()].concat(),
        Ok(IpAddr::V6(address)) => [&[4][..], &address.octets()].concat(),
        Err(_) => [&[3, u8::try_from(host.len()).expect("at most 255")], host.as_bytes()].concat(),
    };
    [&[5, 1, 0][..], &host, &port.to_be_bytes()].concat()
}

/// The answer that a connection is there.
pub const GRANTED: [u8; 10] = [5, 0, 0, 1, 0, 0, 0, 0, 0, 0];

/// The answer with this code.
pub fn answer(code: u8) -> Vec<u8> {
    [&[5, code], &GRANTED[2..]].concat()
}

/// Asks for a tunnel without a password, and returns the code of the answer.
pub fn ask<S: Read + Write>(wire: &mut Wire<S>, authority: &str) -> u8 {
    wire.send(greeting(&[0]));
    assert_eq!(wire.read_exact(2), [5, 0]);
    wire.send(request(authority));
    let answer = wire.read_exact(10);
    assert_eq!((answer[0], &answer[2..]), (5, &GRANTED[2..]), "no address of ours is told");
    answer[1]
}
