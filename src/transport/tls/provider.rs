//! The cryptography of every handshake: aws-lc-rs, AES with 128 bits first.
//!
//! rustls would put AES with 256 bits first. Its suites hash with SHA-384, for which processors have no instructions: a handshake costs
//! some 40 µs more, for a margin that no attack has asked for. Go, BoringSSL and AWS's own servers prefer 128 bits as well. A peer that
//! offers 256 bits alone gets them.

use std::sync::Arc;

use rustls::CipherSuite;
use rustls::crypto::{CryptoProvider, aws_lc_rs};

use crate::words::small_sort::SmallSort as _;

/// What handshakes of egressd offer, and choose from, in this order.
pub(super) fn provider() -> Arc<CryptoProvider> {
    let mut provider = aws_lc_rs::default_provider();
    // Stable: what has the same place keeps its order.
    provider.cipher_suites.small_sort_by_key(|suite| place(suite.suite()));
    Arc::new(provider)
}

fn place(suite: CipherSuite) -> u8 {
    match suite {
        CipherSuite::TLS13_AES_128_GCM_SHA256 => 0,
        CipherSuite::TLS13_AES_256_GCM_SHA384 => 1,
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256 => 2,
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
        | CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 => 3,
        _ => 4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aes_128_comes_first_and_nothing_is_left_out() {
        let ours: Vec<_> = provider().cipher_suites.iter().map(|suite| suite.suite()).collect();
        let mut all: Vec<_> =
            aws_lc_rs::default_provider().cipher_suites.iter().map(|suite| suite.suite()).collect();
        assert_eq!(ours[0], CipherSuite::TLS13_AES_128_GCM_SHA256);
        let first_tls12 = ours.iter().position(|suite| place(*suite) > 2).expect("TLS 1.2 is there");
        assert_eq!(first_tls12, 3, "{ours:?}");
        assert!(ours[3..5].iter().all(|suite| place(*suite) == 3), "{ours:?}");
        let mut sorted = ours;
        sorted.sort_by_key(|suite| u16::from(*suite));
        all.sort_by_key(|suite| u16::from(*suite));
        assert_eq!(sorted, all);
    }
}
