//! Heads of responses as bytes.

use bytes::{BufMut, BytesMut};
use http::{HeaderMap, StatusCode};

/// Most bytes of a response head, and of what hyper reads ahead of the client.
pub(super) const RESPONSE_BUFFER: usize = 64 * 1024;

/// About the bytes of a head, as it came.
pub(super) fn size(headers: &HeaderMap) -> usize {
    let fields = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + ": \r\n".len());
    "HTTP/1.1 200 OK\r\n\r\n".len() + fields.sum::<usize>()
}

pub(super) fn write_head(status: StatusCode, reason: Option<&[u8]>, headers: &HeaderMap) -> BytesMut {
    let mut head = BytesMut::with_capacity(512);
    head.put_slice(b"HTTP/1.1 ");
    head.put_slice(status.as_str().as_bytes());
    head.put_u8(b' ');
    head.put_slice(reason.unwrap_or(status.canonical_reason().unwrap_or_default().as_bytes()));
    head.put_slice(b"\r\n");
    write_fields(&mut head, headers);
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
