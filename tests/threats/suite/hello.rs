//! ClientHellos built by hand, correct and incorrect ones.

#[allow(dead_code, clippy::unwrap_used, reason = "shared with the unit tests, which use all of it")]
#[path = "../../../src/wire/client_hello/test_samples.rs"]
mod samples;

pub(crate) use samples::NAME as OK;
pub(crate) use samples::{hello, message, naming, post_quantum, prefix, records, server_names, vector16};

/// The extension of encrypted_client_hello (RFC 9849).
pub const ECH: u16 = 0xfe0d;

/// One record with a hello that has these extensions, and those that every server needs.
pub fn with(mut extensions: Vec<(u16, Vec<u8>)>) -> Vec<u8> {
    extensions.push(samples::signature_algorithms());
    records(&hello(&extensions), 1 << 14)
}

/// A server_name extension with this name.
pub fn sni(name: impl AsRef<[u8]>) -> (u16, Vec<u8>) {
    (0, server_names(&[(0, name.as_ref())]))
}

/// A hello as rustls sends it, which a real server answers.
pub fn real(name: &str) -> Vec<u8> {
    crate::support::client_hello(Some(name))
}

/// A HelloRetryRequest (RFC 8446 §4.1.4): a ServerHello with a random of its own.
pub fn retry_request() -> Vec<u8> {
    const RANDOM: [u8; 32] = [
        0xcf, 0x21, 0xad, 0x74, 0xe5, 0x9a, 0x61, 0x11, 0xbe, 0x1d, 0x8c, 0x02, 0x1e, 0x65, 0xb8, 0x91, 0xc2,
        0xa2, 0x11, 0x16, 0x7a, 0xbb, 0x8c, 0x5e, 0x07, 0x9e, 0x09, 0xe2, 0xc8, 0xa8, 0x33, 0x9c,
    ];
    // No session id, TLS_AES_128_GCM_SHA256, no compression; supported_versions 1.3, key_share secp256r1.
    let extensions = [0, 43, 0, 2, 3, 4, 0, 51, 0, 2, 0, 23];
    let body = [&[3, 3][..], &RANDOM, &[0, 0x13, 0x01, 0], &vector16(&extensions)].concat();
    let mut message = message(&body);
    message[0] = 2;
    records(&message, 1 << 14)
}
