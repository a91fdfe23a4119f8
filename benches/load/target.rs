//! The target's end of a tunnel, and the two hellos that are exchanged with it.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicU64, Ordering};

/// What stands at the other end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target {
    pub(crate) hello: bool,
    pub(crate) bulk: bool,
    pub(crate) down: bool,
}

impl Target {
    pub(crate) fn serve(self, mut stream: TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        if self.hello {
            let mut header = [0; 5];
            stream.read_exact(&mut header)?;
            let mut hello = vec![0; usize::from(u16::from_be_bytes([header[3], header[4]]))];
            stream.read_exact(&mut hello)?;
            stream.write_all(&SERVER_HELLO)?;
        }
        if !self.bulk {
            let mut byte = [0; 64];
            loop {
                match stream.read(&mut byte)? {
                    0 => return Ok(()),
                    read => stream.write_all(&byte[..read])?,
                }
            }
        }
        let mut length = [0; 8];
        stream.read_exact(&mut length)?;
        let mut left = u64::from_be_bytes(length);
        let mut block = vec![7; 256 * 1024];
        while left > 0 {
            let part = left.min(block.len() as u64) as usize;
            if self.down {
                stream.write_all(&block[..part])?;
                left -= part as u64;
            } else {
                left -= stream.read(&mut block[..part])? as u64;
            }
        }
        stream.write_all(b"!")?;
        // Waits for the client's FIN, so that TIME_WAIT is never on this side.
        stream.read(&mut [0]).map(drop)
    }
}

/// The beginning of a ServerHello: one handshake record, which is enough for a proxy that wants to see TLS.
pub(crate) const SERVER_HELLO: [u8; 5 + 42] = {
    let mut bytes = [0; 47];
    let head = [22, 3, 3, 0, 42, 2, 0, 0, 38, 3, 3];
    let mut at = 0;
    while at < head.len() {
        bytes[at] = head[at];
        at += 1;
    }
    bytes[45] = 0x13;
    bytes[46] = 0x01;
    bytes
};

/// The smallest well-formed ClientHello (RFC 8446 §4.1.2) with a server name. Each has another random, as those of real clients do.
pub(crate) fn client_hello(name: &str) -> Vec<u8> {
    let length = u16::try_from(name.len()).expect("a host name");
    let mut extension = vec![0, 0];
    for part in [length + 5, length + 3] {
        extension.extend(part.to_be_bytes());
    }
    extension.push(0);
    extension.extend(length.to_be_bytes());
    extension.extend(name.as_bytes());
    let mut body = vec![3, 3];
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    body.extend(NUMBER.fetch_add(1, Ordering::Relaxed).to_be_bytes());
    body.extend([5; 24]);
    body.extend([0, 0, 2, 0x13, 0x01, 1, 0]);
    body.extend((extension.len() as u16).to_be_bytes());
    body.extend(extension);
    let mut message = vec![1, 0];
    message.extend((body.len() as u16).to_be_bytes());
    message.extend(body);
    let mut record = vec![22, 3, 1];
    record.extend((message.len() as u16).to_be_bytes());
    record.extend(message);
    record
}
