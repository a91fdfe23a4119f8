//! The body of one whole ClientHello (RFC 8446 §4.1.2, RFC 5246 §7.4.1.2) down to its server name (RFC 6066 §3).
//!
//! Every length must fit exactly. The content of what does not affect the server name is not checked.

use super::refused::{RefusedHello, printable};
use crate::words::outcome::Reason;
use crate::words::target::Name;

const SERVER_NAME: u16 = 0;
/// RFC 7301.
const ALPN: u16 = 16;
const PRE_SHARED_KEY: u16 = 41;
/// The extensions that hide a name: encrypted_client_hello of RFC 9849 §5, whose outer form and whose inner form, which only a server
/// should see, have the same number; what its drafts had; and before them encrypted_server_name. Servers that still know an old one
/// would serve the hidden name.
fn hides_a_name(extension: u16) -> bool {
    matches!(extension, 0xfe08..=0xfe0d | 0xff02 | 0xffce)
}
const HOST_NAME: u8 = 0;
const MAX_SESSION_ID: usize = 32;
const NULL_COMPRESSION: u8 = 0;

/// What the body of a ClientHello says.
pub(super) struct Body {
    /// The canonical server name; `None` where it names none.
    pub(super) sni: Option<Name>,
    /// Whether it has encrypted_client_hello, or what came before it.
    pub(super) ech: bool,
    /// Whether it may be answered by a server that speaks HTTP/1.1 alone.
    pub(super) http1: bool,
}

/// Reads a ClientHello without its handshake header.
///
/// # Errors
/// [`Reason::ClientHelloMalformed`].
pub(super) fn read(hello: &[u8]) -> Result<Body, RefusedHello> {
    let Extensions { server_name, ech, alpn } = extensions(hello).ok_or_else(RefusedHello::malformed)?;
    let sni = match server_name {
        None => None,
        Some(data) => Some(canonical(host_name(data).ok_or_else(RefusedHello::malformed)?)?),
    };
    Ok(Body { sni, ech, http1: alpn.is_none_or(offers_http1) })
}

/// What is looked for among the extensions.
#[derive(Default)]
struct Extensions<'a> {
    /// The data of server_name.
    server_name: Option<&'a [u8]>,
    ech: bool,
    /// The data of application_layer_protocol_negotiation.
    alpn: Option<&'a [u8]>,
}

/// `None` is a malformed hello.
fn extensions(hello: &[u8]) -> Option<Extensions<'_>> {
    let mut hello = Cursor(hello);
    if hello.u8()? != 3 {
        return None;
    }
    hello.take(1)?; // the minor version: any
    hello.take(32)?; // the random
    if hello.vector8()?.0.len() > MAX_SESSION_ID {
        return None;
    }
    let suites = hello.vector16()?.0;
    if suites.is_empty() || !suites.len().is_multiple_of(2) {
        return None;
    }
    if !hello.vector8()?.0.contains(&NULL_COMPRESSION) {
        return None;
    }
    if hello.0.is_empty() {
        return Some(Extensions::default()); // before TLS 1.3 there may be no extensions at all
    }
    let mut list = hello.vector16()?;
    if !hello.0.is_empty() {
        return None;
    }
    let mut kinds = Vec::with_capacity(32);
    let mut found = Extensions::default();
    while !list.0.is_empty() {
        let kind = list.u16()?;
        let data = list.vector16()?.0;
        kinds.push(kind);
        match kind {
            SERVER_NAME => found.server_name = Some(data),
            ALPN => found.alpn = Some(data),
            kind if hides_a_name(kind) => found.ech = true,
            _ => {}
        }
        // RFC 8446 §4.2.11: the binder covers everything before it, so nothing may follow.
        if kind == PRE_SHARED_KEY && !list.0.is_empty() {
            return None;
        }
    }
    // No extension twice (RFC 8446 §4.2). Sorted, because thousands fit in a hello, and comparing each with each would let
    // a peer cause too much work.
    kinds.sort_unstable();
    kinds.is_sorted_by(|a, b| a < b).then_some(found)
}

/// Whether a list of protocols has `http/1.1`. One that cannot be read has none: a server refuses such a hello.
fn offers_http1(data: &[u8]) -> bool {
    let mut list = Cursor(data).vector16().unwrap_or(Cursor(&[]));
    std::iter::from_fn(|| list.vector8()).any(|name| name.0 == b"http/1.1")
}

/// Exactly one entry of kind host_name that fills the list.
fn host_name(data: &[u8]) -> Option<&[u8]> {
    let mut data = Cursor(data);
    let mut list = data.vector16()?;
    let kind = list.u8()?;
    let name = list.vector16()?.0;
    (data.0.is_empty() && list.0.is_empty() && kind == HOST_NAME && !name.is_empty()).then_some(name)
}

/// The canonical form is the CONNECT host's: lower case, and one trailing dot is taken off, which RFC 6066 §3 forbids and some
/// clients (Node, Netty) send all the same for `https://host./`. [`Name`] accepts no second dot, no IPv4 or IPv6 address, no
/// NUL and no empty label.
fn canonical(bytes: &[u8]) -> Result<Name, RefusedHello> {
    std::str::from_utf8(bytes)
        .ok()
        .and_then(|text| Name::parse(text).ok())
        .ok_or_else(|| RefusedHello { reason: Reason::ClientHelloMalformed, offered: Some(printable(bytes)) })
}

/// The bytes that are left to read. Every read is bounded by them; `None` is the end.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (part, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(part)
    }

    fn u8(&mut self) -> Option<u8> {
        let (&first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(first)
    }

    fn u16(&mut self) -> Option<u16> {
        let (&pair, rest) = self.0.split_first_chunk::<2>()?;
        self.0 = rest;
        Some(u16::from_be_bytes(pair))
    }

    fn vector8(&mut self) -> Option<Cursor<'a>> {
        let length = self.u8()?;
        self.take(usize::from(length)).map(Cursor)
    }

    fn vector16(&mut self) -> Option<Cursor<'a>> {
        let length = self.u16()?;
        self.take(usize::from(length)).map(Cursor)
    }
}
