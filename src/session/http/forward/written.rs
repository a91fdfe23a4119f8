//! Heads of responses as bytes.

use std::fmt::Write;

use bytes::{BufMut, BytesMut};
use http::{HeaderMap, StatusCode};

use crate::transport::keep_alive::KeepAlive;

/// Most bytes of a response head, and of what hyper reads ahead of the client.
pub(super) const RESPONSE_BUFFER: usize = 64 * 1024;

/// About the bytes of a head, as it came.
pub(super) fn size(headers: &HeaderMap) -> usize {
    let fields = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + ": \r\n".len());
    "HTTP/1.1 200 OK\r\n\r\n".len() + fields.sum::<usize>()
}

/// The fields of a response that are ours: written as they are, because a map would make room for each of them.
pub(super) struct Own<'a> {
    /// A UUID.
    pub(super) request_id: &'a str,
    /// For how long the client's connection is kept; `None` closes it. Both fields are of this hop, and the option names the other field, as
    /// it has to (RFC 9110 §7.6.1).
    pub(super) keep: Option<KeepAlive>,
}

impl Own<'_> {
    fn write(&self, to: &mut BytesMut) {
        match self.keep {
            Some(keep) => {
                to.put_slice(b"connection: keep-alive\r\nkeep-alive: timeout=");
                // Into memory: it cannot fail.
                let _ = write!(to, "{}", keep.announced());
            }
            None => to.put_slice(b"connection: close"),
        }
        to.put_slice(b"\r\nx-request-id: ");
        to.put_slice(self.request_id.as_bytes());
        to.put_slice(b"\r\n");
    }
}

/// `headers` has none of the fields that are in `own`.
pub(super) fn write_head(
    status: StatusCode,
    reason: Option<&[u8]>,
    headers: &HeaderMap,
    own: Option<&Own<'_>>,
) -> BytesMut {
    let mut head = BytesMut::with_capacity(512);
    head.put_slice(b"HTTP/1.1 ");
    head.put_slice(status.as_str().as_bytes());
    head.put_u8(b' ');
    head.put_slice(reason.unwrap_or(status.canonical_reason().unwrap_or_default().as_bytes()));
    head.put_slice(b"\r\n");
    write_fields(&mut head, headers);
    if let Some(own) = own {
        own.write(&mut head);
    }
    head.put_slice(b"\r\n");
    head
}

pub(super) fn write_fields(to: &mut BytesMut, headers: &HeaderMap) {
    for (name, value) in headers {
        to.put_slice(name.as_str().as_bytes());
        to.put_slice(b": ");
        to.put_slice(value.as_bytes());
        to.put_slice(b"\r\n");
    }
}
