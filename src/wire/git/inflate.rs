//! A body that git compressed: it does so with a fetch of more than 1,024 bytes, and never with a push.

use std::io::Read as _;

use flate2::bufread::GzDecoder;
use thiserror::Error;

/// Why a compressed body is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum InflateError {
    /// More than the bound, once inflated.
    #[error("a body that is longer than the limit once it is inflated")]
    TooLong,
    /// Not gzip (RFC 1952), or cut off, or with a wrong checksum.
    #[error("a body that is not whole gzip")]
    Broken,
    /// Bytes after the first member: git's server does not read them, others would.
    #[error("a body with bytes after the end of its gzip")]
    After,
}

/// What one byte of DEFLATE can stand for at most: 258 bytes take two bits.
const RATIO: usize = 1032;

/// How much [`gzip`] takes at most for a body of so many bytes: the memory grows by doubling.
pub fn takes_at_most(body: usize, limit: usize) -> usize {
    body.saturating_mul(RATIO).min(limit).saturating_add(64).saturating_mul(2)
}

/// Inflates `body`, which is one gzip member and nothing more, to at most `limit` bytes. What the member's header says (a file
/// name, a comment) is dropped.
///
/// # Errors
/// See [`InflateError`].
pub fn gzip(body: &[u8], limit: usize) -> Result<Vec<u8>, InflateError> {
    let mut member = GzDecoder::new(body);
    let mut inflated = Vec::new();
    // One byte more tells a body of the limit from a longer one.
    let most = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    (&mut member).take(most).read_to_end(&mut inflated).map_err(|_| InflateError::Broken)?;
    if inflated.len() > limit {
        return Err(InflateError::TooLong);
    }
    if !member.into_inner().is_empty() {
        return Err(InflateError::After);
    }
    Ok(inflated)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::{Compression, GzBuilder};

    use super::*;

    fn packed(bytes: &[u8]) -> Vec<u8> {
        let mut out =
            GzBuilder::new().filename("data").comment("data").write(Vec::new(), Compression::best());
        out.write_all(bytes).unwrap();
        out.finish().unwrap()
    }

    #[test]
    fn what_it_takes_follows_what_there_is_and_never_passes_the_limit() {
        for length in [0, 1, 1_000, 100_000, 5 << 20] {
            let body = packed(&vec![b'0'; length]);
            let whole = gzip(&body, 64 << 20).unwrap();
            assert!(whole.capacity() <= takes_at_most(body.len(), 64 << 20), "{length}");
            assert!(takes_at_most(body.len(), 64 << 20) <= 2 * (RATIO * body.len() + 64), "{length}");
            assert!(takes_at_most(body.len(), length) <= 2 * (length + 64), "{length}");
        }
    }

    #[test]
    fn one_member_is_inflated_and_nothing_may_follow_it() {
        let body = packed(b"0032want 0000");
        assert_eq!(gzip(&body, 100).as_deref(), Ok(&b"0032want 0000"[..]));
        assert_eq!(gzip(&body, 13).as_deref(), Ok(&b"0032want 0000"[..]));
        assert_eq!(gzip(&body, 12), Err(InflateError::TooLong));
        assert_eq!(gzip(&packed(b""), 0).as_deref(), Ok(&b""[..]));
        assert_eq!(gzip(&[&body[..], b"\0"].concat(), 100), Err(InflateError::After));
        assert_eq!(gzip(&[&body[..], &body].concat(), 100), Err(InflateError::After));
        for end in 0..body.len() {
            assert_eq!(gzip(&body[..end], 100), Err(InflateError::Broken), "cut at {end}");
        }
        // Each byte of what is compressed, of the checksum and of the length.
        let start = body.len() - 8;
        for at in start..body.len() {
            let mut body = body.clone();
            body[at] ^= 1;
            assert_eq!(gzip(&body, 100), Err(InflateError::Broken), "changed at {at}");
        }
        assert_eq!(gzip(b"0032want 0000", 100), Err(InflateError::Broken));
        // A thousand times as long as it looks.
        assert_eq!(gzip(&packed(&vec![0; 10 << 20]), 1 << 20), Err(InflateError::TooLong));
    }
}
