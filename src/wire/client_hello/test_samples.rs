//! ClientHellos for tests: captured from real clients, made by rustls on the spot, and built by hand.

use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, ClientConnection, RootCertStore};

/// The server name of every captured hello that has one.
pub(crate) const NAME: &str = "git-codecommit.us-east-1.amazonaws.com";

/// Every hello that is known to be good: its client, its bytes, its server name.
pub(crate) fn real() -> Vec<(&'static str, Vec<u8>, Option<&'static str>)> {
    macro_rules! captured {
        ($($file:literal => $sni:expr,)*) => {
            vec![$(($file, include_bytes!(
                concat!("../../../tests/testdata/client_hello/", $file)).to_vec(), $sni),)*]
        };
    }
    let mut all = captured![
        "curl.bin" => Some(NAME),
        "git.bin" => Some(NAME), // over GnuTLS
        "git-openssl.bin" => Some(NAME),
        "go.bin" => Some(NAME), // with X25519MLKEM768
        "java.bin" => Some(NAME),
        "node.bin" => Some(NAME),
        "openssl.bin" => Some(NAME),
        "openssl-dot.bin" => Some(NAME), // for `NAME.`
        "openssl-tls12.bin" => Some(NAME),
        "openssl-no-sni.bin" => None,
        "python.bin" => Some(NAME),
        "rustls.bin" => Some(NAME), // with X25519MLKEM768
    ];
    all.push(("rustls as it is today", post_quantum(), Some(NAME)));
    all
}

/// rustls with a post-quantum key share: too long for one packet.
pub(crate) fn post_quantum() -> Vec<u8> {
    let provider = rustls::crypto::CryptoProvider {
        kx_groups: vec![aws_lc_rs::kx_group::X25519MLKEM768, aws_lc_rs::kx_group::X25519],
        ..aws_lc_rs::default_provider()
    };
    let config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    let mut connection = ClientConnection::new(Arc::new(config), NAME.try_into().unwrap()).unwrap();
    let mut bytes = Vec::new();
    connection.write_tls(&mut bytes).unwrap();
    assert!(bytes.len() > 1400, "not post-quantum: {} bytes", bytes.len());
    bytes
}

/// The handshake message of `bytes`, without record headers.
pub(crate) fn unwrap_records(mut bytes: &[u8]) -> Vec<u8> {
    let mut message = Vec::new();
    while let Some((header, rest)) = bytes.split_first_chunk::<5>() {
        let (part, rest) = rest.split_at(usize::from(u16::from_be_bytes([header[3], header[4]])));
        message.extend_from_slice(part);
        bytes = rest;
    }
    message
}

/// `message` in records of at most `size` bytes.
pub(crate) fn records(message: &[u8], size: usize) -> Vec<u8> {
    message
        .chunks(size)
        .flat_map(|part| {
            let length = u16::try_from(part.len()).unwrap().to_be_bytes();
            [&[22, 3, 1], &length[..], part].concat()
        })
        .collect()
}

/// `length` in two bytes, then the bytes.
pub(crate) fn vector16(bytes: &[u8]) -> Vec<u8> {
    [&u16::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat()
}

/// The data of a server_name extension with these entries.
pub(crate) fn server_names(entries: &[(u8, &[u8])]) -> Vec<u8> {
    let list: Vec<u8> =
        entries.iter().flat_map(|(kind, name)| [&[*kind][..], &vector16(name)].concat()).collect();
    vector16(&list)
}

/// A handshake message with these extensions and nothing odd.
pub(crate) fn hello(extensions: &[(u16, Vec<u8>)]) -> Vec<u8> {
    let list: Vec<u8> = extensions
        .iter()
        .flat_map(|(kind, data)| [&kind.to_be_bytes()[..], &vector16(data)].concat())
        .collect();
    message(&[prefix(), vector16(&list)].concat())
}

/// A hello's body up to its extensions.
pub(crate) fn prefix() -> Vec<u8> {
    [&[3, 3][..], &[7; 32], &[0], &[0, 2, 0x13, 0x01], &[1, 0]].concat()
}

/// `body` as a ClientHello message.
pub(crate) fn message(body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).unwrap().to_be_bytes();
    [&[1, length[1], length[2], length[3]], body].concat()
}

/// A hello in one record that names `name`.
pub(crate) fn naming(name: &[u8]) -> Vec<u8> {
    records(&hello(&[(0, server_names(&[(0, name)])), signature_algorithms()]), 1 << 14)
}

/// An extension without which rustls refuses a hello.
pub(crate) fn signature_algorithms() -> (u16, Vec<u8>) {
    (13, vec![0, 2, 4, 3])
}
