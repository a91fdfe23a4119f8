//! The lines of Git's protocols (`gitprotocol-common`, "pkt-line Format"): four hexadecimal digits of length, then the rest.

use thiserror::Error;

/// The longest line, with its four digits of length.
pub const MAX_LINE: usize = 65_520;
/// The digits of length.
const PREFIX: usize = 4;

/// One line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Packet<'b> {
    /// A line, without its length; perhaps empty.
    Data(&'b [u8]),
    /// `0000`
    Flush,
    /// `0001`, of protocol v2
    Delimiter,
    /// `0002`, of protocol v2
    ResponseEnd,
}

/// Why bytes are not a line.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum PacketError {
    /// Git reads digits of either case, and nothing else: no sign, no space.
    #[error("a length that is not four hexadecimal digits")]
    Length,
    /// `0003`: too short for its own length, and no special line.
    #[error("a line of length 3")]
    Three,
    /// More than [`MAX_LINE`].
    #[error("a line of more than 65,520 bytes")]
    TooLong,
}

/// The first line of `bytes`, with the number of bytes that it takes there; `None` if more bytes are needed. Nothing is held:
/// the caller holds at most [`MAX_LINE`] for a line that is not whole yet.
///
/// # Errors
/// See [`PacketError`]. They come as soon as the first digit that is wrong is there.
pub fn next(bytes: &[u8]) -> Result<Option<(Packet<'_>, usize)>, PacketError> {
    let prefix = bytes.get(..PREFIX).unwrap_or(bytes);
    let mut length = 0;
    for byte in prefix {
        let digit = char::from(*byte).to_digit(16).ok_or(PacketError::Length)?;
        length = length * 16 + digit as usize;
    }
    if prefix.len() < PREFIX {
        return Ok(None);
    }
    let packet = match length {
        0 => Packet::Flush,
        1 => Packet::Delimiter,
        2 => Packet::ResponseEnd,
        3 => return Err(PacketError::Three),
        length if length > MAX_LINE => return Err(PacketError::TooLong),
        length => {
            let Some(data) = bytes.get(PREFIX..length) else { return Ok(None) };
            return Ok(Some((Packet::Data(data), length)));
        }
    };
    Ok(Some((packet, PREFIX)))
}

/// Appends a line to `out`.
///
/// # Panics
/// If `data` is longer than a line can be: it is what egressd itself writes.
pub(crate) fn write(out: &mut Vec<u8>, data: &[&[u8]]) {
    let length = PREFIX + data.iter().map(|part| part.len()).sum::<usize>();
    assert!(length <= MAX_LINE, "a line of {length} bytes");
    out.extend_from_slice(format!("{length:04x}").as_bytes());
    data.iter().for_each(|part| out.extend_from_slice(part));
}

/// Appends `0000`.
pub(crate) fn flush(out: &mut Vec<u8>) {
    out.extend_from_slice(b"0000");
}

/// Without the line feed that git writes at the end of most lines, and takes off one of.
pub(crate) fn chomped(data: &[u8]) -> &[u8] {
    data.strip_suffix(b"\n").unwrap_or(data)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_as_soon_as_it_is_whole() {
        type Row<'a> = (&'a [u8], Result<Option<(Packet<'a>, usize)>, PacketError>);
        let rows: &[Row<'_>] = &[
            (b"", Ok(None)),
            (b"0", Ok(None)),
            (b"000", Ok(None)),
            (b"0000", Ok(Some((Packet::Flush, 4)))),
            (b"0001rest", Ok(Some((Packet::Delimiter, 4)))),
            (b"0002", Ok(Some((Packet::ResponseEnd, 4)))),
            (b"0003", Err(PacketError::Three)),
            (b"0004", Ok(Some((Packet::Data(b""), 4)))),
            (b"0006a", Ok(None)),
            (b"0006a\n", Ok(Some((Packet::Data(b"a\n"), 6)))),
            (b"000ahellox", Ok(Some((Packet::Data(b"hellox"), 10)))),
            (b"000Ahellox0000", Ok(Some((Packet::Data(b"hellox"), 10)))),
            (b"fff0", Ok(None)),
            (b"fff1", Err(PacketError::TooLong)),
            (b"FFFF", Err(PacketError::TooLong)),
            (b"g", Err(PacketError::Length)),
            (b"+006a\n", Err(PacketError::Length)),
            (b" 006a\n", Err(PacketError::Length)),
            (b"0x06a\n", Err(PacketError::Length)),
            (b"00-6", Err(PacketError::Length)),
            (b"000\xb2", Err(PacketError::Length)),
        ];
        for (bytes, want) in rows {
            assert_eq!(next(bytes), *want, "{}", String::from_utf8_lossy(bytes));
        }
        let longest = [b"fff0", &[b'x'; MAX_LINE - 4][..]].concat();
        assert!(matches!(next(&longest), Ok(Some((Packet::Data(data), MAX_LINE))) if data.len() == 65_516));
    }

    #[test]
    fn what_is_written_is_read_back() {
        let mut out = Vec::new();
        write(&mut out, &[b"want ", b"x\n"]);
        flush(&mut out);
        assert_eq!(out, b"000bwant x\n0000");
        assert_eq!(next(&out), Ok(Some((Packet::Data(b"want x\n"), 11))));
        assert_eq!(chomped(b"want x\n"), b"want x");
        assert_eq!(chomped(b"want x\n\n"), b"want x\n");
        assert_eq!(chomped(b"x"), b"x");
    }
}
