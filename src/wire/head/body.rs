//! Follows a request body through the bytes of a connection, so that the next head begins where this body ends.
//!
//! The grammar of chunked coding (RFC 9112 §7.1) is read strictly: CRLF only, no white space around sizes or extensions,
//! checked arithmetic, bounded extensions and trailers. There is no recursion: one state, one byte at a time. Nothing is
//! stored; the caller keeps or drops the bytes.

use super::fields::is_token_byte;
use super::framing::MAX_BODY;
use super::request::{Framing, MAX_FIELDS};

/// Most hexadecimal digits of a chunk's size, including leading zeros.
const MAX_SIZE_DIGITS: u32 = 16;
/// Most bytes of extensions of one chunk. Signed uploads use 85.
const MAX_EXTENSION: u32 = 256;
/// Most bytes of extensions in one body: small chunks with long extensions would cost a lot for little content.
const MAX_EXTENSIONS: u32 = 16 * 1024;
/// Most bytes of a trailer section, which may have as many fields as a head.
const MAX_TRAILERS: u32 = 8 * 1024;

/// What is wrong with a chunked body. One line, safe to send.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BodyError {
    /// Not hexadecimal digits, or more than 16 of them.
    #[error("a chunk of the body does not begin with its size in hexadecimal")]
    Size,
    /// One chunk, or all together, are larger than 2^63-1.
    #[error("the chunks of the body are larger than 2^63-1 bytes")]
    TooLarge,
    /// A chunk extension that is not `;name`, `;name=token` or `;name="text"` without white space.
    #[error("a chunk extension is not well-formed, or has white space around it")]
    Extension,
    /// The extensions of one chunk, or of all together, are too long.
    #[error("the chunk extensions are too long")]
    ExtensionsTooLong,
    /// Anything but CRLF where a line ends.
    #[error("a line of the chunked body does not end with CRLF")]
    LineEnd,
    /// The chunk's bytes are not followed by CRLF: its size is wrong.
    #[error("a chunk is longer than its size says")]
    DataEnd,
    /// A trailer that is not a field.
    #[error("a trailer of the body is not a well-formed field")]
    Trailer,
    /// More than 8 KiB, or more fields than a head may have.
    #[error("the trailers of the body are too long")]
    TrailersTooLong,
}

/// What the next bytes of a connection are. The number is how many, from the front; never 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Piece {
    /// Chunk sizes, extensions and line ends.
    Framing(usize),
    /// Content.
    Data(usize),
    /// The trailer section, with the empty line that ends it.
    Trailers(usize),
}

impl Piece {
    /// The number of bytes.
    pub fn len(self) -> usize {
        match self {
            Piece::Framing(length) | Piece::Data(length) | Piece::Trailers(length) => length,
        }
    }

    /// Always false; it is here because `len` is.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum BodyState {
    /// Content by length: how many bytes are left.
    Length(u64),
    /// Before or within a chunk's size: digits so far, size so far.
    Size(u32, u64),
    ExtensionNameStart,
    ExtensionName,
    ExtensionValueStart,
    ExtensionToken,
    ExtensionQuoted,
    ExtensionQuotedPair,
    ExtensionQuotedEnd,
    SizeLf,
    /// Content of a chunk: how many bytes are left.
    Data(u64),
    DataCr,
    DataLf,
    TrailerStart,
    TrailerName,
    TrailerValue,
    TrailerLf,
    EndLf,
    Done,
}

/// Follows one body, byte by byte: see [the module](self).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BodyFollower {
    state: BodyState,
    /// The size of the chunk whose size line is being read.
    chunk: u64,
    /// Content announced so far, over all chunks.
    total: u64,
    /// Bytes of extensions of this chunk.
    extension: u32,
    /// Bytes of extensions so far.
    extensions: u32,
    /// Bytes of trailers so far.
    trailers: u32,
    /// Fields of trailers so far.
    trailer_fields: usize,
}

impl BodyFollower {
    /// At the first byte after the head.
    pub fn new(framing: Framing) -> Self {
        let state = match framing {
            Framing::None | Framing::Length(0) => BodyState::Done,
            Framing::Length(length) => BodyState::Length(length),
            Framing::Chunked => BodyState::Size(0, 0),
        };
        BodyFollower {
            state,
            chunk: 0,
            total: 0,
            extension: 0,
            extensions: 0,
            trailers: 0,
            trailer_fields: 0,
        }
    }

    /// Whether the body has ended: the next byte belongs to another request.
    pub fn is_done(&self) -> bool {
        self.state == BodyState::Done
    }

    /// The next piece of the body at the front of `bytes`: as many bytes as are of one kind. `None` where `bytes` is empty
    /// or the body has ended.
    ///
    /// # Errors
    /// [`BodyError`], after which the position in the stream is lost.
    pub fn step(&mut self, bytes: &[u8]) -> Result<Option<Piece>, BodyError> {
        if bytes.is_empty() || self.is_done() {
            return Ok(None);
        }
        match self.state {
            BodyState::Length(left) => {
                let taken = take(bytes, left);
                self.state = match left - taken {
                    0 => BodyState::Done,
                    left => BodyState::Length(left),
                };
                return Ok(Some(Piece::Data(taken as usize)));
            }
            BodyState::Data(left) => {
                let taken = take(bytes, left);
                self.state = match left - taken {
                    0 => BodyState::DataCr,
                    left => BodyState::Data(left),
                };
                return Ok(Some(Piece::Data(taken as usize)));
            }
            _ => {}
        }
        let in_trailers = self.is_in_trailers();
        let mut length = 0;
        for &byte in bytes {
            self.state = self.next(byte)?;
            length += 1;
            if matches!(self.state, BodyState::Data(_) | BodyState::Done)
                || self.is_in_trailers() != in_trailers
            {
                break;
            }
        }
        Ok(Some(if in_trailers { Piece::Trailers(length) } else { Piece::Framing(length) }))
    }

    fn is_in_trailers(&self) -> bool {
        use BodyState::*;
        matches!(self.state, TrailerStart | TrailerName | TrailerValue | TrailerLf | EndLf)
    }

    /// One byte of chunked framing.
    fn next(&mut self, byte: u8) -> Result<BodyState, BodyError> {
        use BodyState::*;
        Ok(match (self.state, byte) {
            (Size(digits, size), _) if byte.is_ascii_hexdigit() => self.digit(digits, size, byte)?,
            (Size(1.., size), b'\r' | b';') => {
                self.chunk = size;
                self.extension = 0;
                self.extend(byte, SizeLf)?
            }
            // White space after the size belongs to an extension, and is not accepted.
            (Size(1.., _), b' ' | b'\t') => return Err(BodyError::Extension),
            (Size(1.., _), b'\n') => return Err(BodyError::LineEnd),
            (Size(..), _) => return Err(BodyError::Size),

            (ExtensionName | ExtensionToken | ExtensionQuotedEnd, b'\r' | b';') => {
                self.extend(byte, SizeLf)?
            }
            (ExtensionName, b'=') => self.extend(byte, ExtensionValueStart)?,
            (ExtensionNameStart | ExtensionName, _) if is_token_byte(byte) => {
                self.extend(byte, ExtensionName)?
            }
            (ExtensionValueStart, b'"') => self.extend(byte, ExtensionQuoted)?,
            (ExtensionValueStart | ExtensionToken, _) if is_token_byte(byte) => {
                self.extend(byte, ExtensionToken)?
            }
            (ExtensionQuoted, b'"') => self.extend(byte, ExtensionQuotedEnd)?,
            (ExtensionQuoted, b'\\') => self.extend(byte, ExtensionQuotedPair)?,
            (ExtensionQuoted | ExtensionQuotedPair, b'\t' | b' '..=b'~') => {
                self.extend(byte, ExtensionQuoted)?
            }
            (
                ExtensionNameStart | ExtensionName | ExtensionValueStart | ExtensionToken | ExtensionQuoted
                | ExtensionQuotedPair | ExtensionQuotedEnd,
                _,
            ) => return Err(BodyError::Extension),

            (SizeLf, b'\n') if self.chunk == 0 => TrailerStart,
            (SizeLf, b'\n') => {
                self.total = self.total.checked_add(self.chunk).ok_or(BodyError::TooLarge)?;
                if self.total > MAX_BODY {
                    return Err(BodyError::TooLarge);
                }
                Data(self.chunk)
            }
            (DataCr, b'\r') => DataLf,
            (DataLf, b'\n') => Size(0, 0),
            (DataCr, _) => return Err(BodyError::DataEnd),
            (SizeLf | DataLf, _) => return Err(BodyError::LineEnd),

            (TrailerStart, b'\r') => EndLf,
            (EndLf, b'\n') => Done,
            (TrailerStart | TrailerName, _) if is_token_byte(byte) => self.trailer(TrailerName)?,
            (TrailerName, b':') => self.trailer(TrailerValue)?,
            (TrailerValue, b'\r') => self.trailer(TrailerLf)?,
            (TrailerValue, b'\t' | b' '..=b'~' | 0x80..) => self.trailer(TrailerValue)?,
            (TrailerLf, b'\n') => {
                self.trailer_fields += 1;
                if self.trailer_fields > MAX_FIELDS {
                    return Err(BodyError::TrailersTooLong);
                }
                self.trailer(TrailerStart)?
            }
            (EndLf | TrailerLf, _) | (TrailerValue, b'\n') => return Err(BodyError::LineEnd),
            (TrailerStart | TrailerName | TrailerValue, _) => return Err(BodyError::Trailer),

            // `step` takes content as a whole, and nothing after the end.
            (Length(_) | Data(_) | Done, _) => self.state,
        })
    }

    fn digit(&self, digits: u32, size: u64, byte: u8) -> Result<BodyState, BodyError> {
        if digits == MAX_SIZE_DIGITS {
            return Err(BodyError::Size);
        }
        let value = char::from(byte).to_digit(16).map_or(0, u64::from);
        let size =
            size.checked_mul(16).and_then(|size| size.checked_add(value)).ok_or(BodyError::TooLarge)?;
        match size > MAX_BODY {
            true => Err(BodyError::TooLarge),
            false => Ok(BodyState::Size(digits + 1, size)),
        }
    }

    /// One byte within or right after an extension: `\r` ends the line, `;` begins another extension.
    fn extend(&mut self, byte: u8, next: BodyState) -> Result<BodyState, BodyError> {
        if byte == b'\r' {
            return Ok(BodyState::SizeLf);
        }
        self.extension += 1;
        self.extensions += 1;
        if self.extension > MAX_EXTENSION || self.extensions > MAX_EXTENSIONS {
            return Err(BodyError::ExtensionsTooLong);
        }
        // Within quotes, `;` is text.
        match byte == b';' && next == BodyState::SizeLf {
            true => Ok(BodyState::ExtensionNameStart),
            false => Ok(next),
        }
    }

    fn trailer(&mut self, next: BodyState) -> Result<BodyState, BodyError> {
        self.trailers += 1;
        match self.trailers > MAX_TRAILERS {
            true => Err(BodyError::TrailersTooLong),
            false => Ok(next),
        }
    }
}

fn take(bytes: &[u8], left: u64) -> u64 {
    left.min(bytes.len() as u64)
}
