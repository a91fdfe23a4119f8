//! A body that git compressed: it does so with a fetch of more than 1,024 bytes, and never with a push.

use std::io::{self, BufRead, ErrorKind, Read};

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

/// How many bytes one step takes at most, and how many it makes.
const STEP: usize = 64 * 1024;

/// Inflates a body in steps: a short one may be a thousand times as long once it is inflated, and the caller lets others have their
/// turn between two steps.
#[derive(Debug)]
pub struct Inflating<'b> {
    member: GzDecoder<Gate<'b>>,
    inflated: Vec<u8>,
    limit: usize,
}

/// A body of which so many bytes may be read for now. DEFLATE has blocks that stand for nothing: a bound of what a step makes would
/// not bound what it reads.
#[derive(Debug)]
struct Gate<'b> {
    rest: &'b [u8],
    open: usize,
}

impl<'b> Inflating<'b> {
    /// Of `body`, which is one gzip member and nothing more, to at most `limit` bytes. What the member's header says (a file name, a
    /// comment) is dropped.
    pub fn new(body: &'b [u8], limit: usize) -> Self {
        // Its header is read at once.
        let member = GzDecoder::new(Gate { rest: body, open: STEP });
        Inflating { member, inflated: Vec::new(), limit }
    }

    /// Goes on, for a bounded time. Whether the body is inflated whole.
    ///
    /// # Errors
    /// See [`InflateError`].
    pub fn step(&mut self) -> Result<bool, InflateError> {
        self.member.get_mut().open = STEP;
        // One byte more tells a body of the limit from a longer one.
        let most = self.limit.saturating_add(1).saturating_sub(self.inflated.len()).min(STEP);
        let part = u64::try_from(most).unwrap_or(u64::MAX);
        let ends = match (&mut self.member).take(part).read_to_end(&mut self.inflated) {
            Ok(read) => read < most,
            Err(error) if error.kind() == ErrorKind::WouldBlock => false,
            Err(_) => return Err(InflateError::Broken),
        };
        if self.inflated.len() > self.limit {
            return Err(InflateError::TooLong);
        }
        if ends && !self.member.get_ref().rest.is_empty() {
            return Err(InflateError::After);
        }
        Ok(ends)
    }

    /// What there is so far.
    pub fn into_inflated(self) -> Vec<u8> {
        self.inflated
    }
}

impl Read for Gate<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let mut there = self.fill_buf()?;
        let read = there.read(into)?;
        self.consume(read);
        Ok(read)
    }
}

impl BufRead for Gate<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        match (self.rest.is_empty(), self.open) {
            (false, 0) => Err(ErrorKind::WouldBlock.into()),
            (_, open) => Ok(self.rest.get(..open).unwrap_or(self.rest)),
        }
    }

    fn consume(&mut self, amount: usize) {
        self.rest = self.rest.get(amount..).unwrap_or_default();
        self.open = self.open.saturating_sub(amount);
    }
}

/// Inflates `body` as [`Inflating`] does, all at once.
///
/// # Errors
/// See [`InflateError`].
pub fn gzip(body: &[u8], limit: usize) -> Result<Vec<u8>, InflateError> {
    let mut inflating = Inflating::new(body, limit);
    while !inflating.step()? {}
    Ok(inflating.into_inflated())
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
        // Blocks that stand for nothing, many of them.
        let header = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];
        let empty = [&header[..], &[0, 0, 0, 0xff, 0xff].repeat(100_000)].concat();
        let mut inflating = Inflating::new(&empty, 100);
        for _ in 0..5 {
            assert_eq!(inflating.step(), Ok(false));
        }
        assert_eq!(gzip(&empty, 100), Err(InflateError::Broken));
        // A thousand times as long as it looks.
        assert_eq!(gzip(&packed(&vec![0; 10 << 20]), 1 << 20), Err(InflateError::TooLong));
    }

    #[test]
    fn a_step_makes_a_bounded_part() {
        let body = packed(&vec![b'0'; 10 * STEP]);
        let mut inflating = Inflating::new(&body, 10 * STEP);
        let mut made = 0;
        for steps in 1.. {
            let is_whole = inflating.step().unwrap();
            assert!(inflating.inflated.len() - made <= STEP, "step {steps}");
            made = inflating.inflated.len();
            if is_whole {
                break;
            }
        }
        assert_eq!(inflating.into_inflated(), vec![b'0'; 10 * STEP]);
    }
}
