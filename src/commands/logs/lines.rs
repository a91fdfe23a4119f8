//! Splits bytes into lines: in blocks, from files, pipes and gzip, whatever the lines contain.

use std::io::{self, BufRead, BufReader, Chain, Cursor, Read};

use flate2::read::MultiGzDecoder;
use memchr::memchr;

/// Longest line that is read: four times the longest that the log writes.
pub(super) const MAX_LINE: usize = 64 << 10;
/// Bytes that are read at once.
const BLOCK: usize = 256 << 10;

/// How a log ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::commands) enum End {
    /// As it should.
    Whole,
    /// It is packed, and its end is missing.
    BrokenOff,
}

/// Reads one log to its end and passes the number of each line, from 1, and the line, without space around it. Empty lines are left
/// out; `None` is a line that is too long. A log packed with gzip is unpacked, as far as it goes.
///
/// # Errors
/// Errors of the input.
pub(in crate::commands) fn lines(
    mut input: impl Read,
    mut each: impl FnMut(u64, Option<&[u8]>),
) -> io::Result<End> {
    let mut start = [0; 2];
    let mut got = 0;
    while let Some(room) = start.get_mut(got..).filter(|room| !room.is_empty()) {
        match input.read(room) {
            Ok(0) => break,
            Ok(read) => got += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let begin = start.get(..got).unwrap_or_default().to_vec();
    let packed = begin == *b"\x1f\x8b";
    let whole: Chain<Cursor<Vec<u8>>, _> = Cursor::new(begin).chain(input);
    if !packed {
        return split(whole, &mut each).map(|()| End::Whole);
    }
    match split(MultiGzDecoder::new(whole), &mut each) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(End::BrokenOff),
        done => done.map(|()| End::Whole),
    }
}

fn split(input: impl Read, each: &mut impl FnMut(u64, Option<&[u8]>)) -> io::Result<()> {
    let mut input = BufReader::with_capacity(BLOCK, input);
    // The beginning of a line whose end is in the next block.
    let mut begun: Vec<u8> = Vec::new();
    let mut too_long = false;
    let mut number = 0_u64;
    let mut line = |number: u64, line: Option<&[u8]>| {
        let Some(line) = line.map(<[u8]>::trim_ascii) else { return each(number, None) };
        if !line.is_empty() {
            each(number, Some(line).filter(|line| line.len() <= MAX_LINE));
        }
    };
    loop {
        let block = match input.fill_buf() {
            Ok(block) => block,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        if block.is_empty() {
            break;
        }
        let mut rest = block;
        while let Some(end) = memchr(b'\n', rest) {
            let (piece, after) = rest.split_at(end);
            rest = after.get(1..).unwrap_or_default();
            number += 1;
            if begun.is_empty() && !too_long {
                line(number, Some(piece));
                continue;
            }
            if too_long || begun.len() + piece.len() > MAX_LINE {
                line(number, None);
            } else {
                begun.extend_from_slice(piece);
                line(number, Some(&begun));
            }
            begun.clear();
            too_long = false;
        }
        if begun.len() + rest.len() > MAX_LINE {
            too_long = true;
            begun.clear();
        } else if !too_long {
            begun.extend_from_slice(rest);
        }
        let used = block.len();
        input.consume(used);
    }
    // A log that is still being written, or was cut, may end within a line.
    if too_long {
        line(number + 1, None);
    } else {
        line(number + 1, Some(&begun));
    }
    Ok(())
}
