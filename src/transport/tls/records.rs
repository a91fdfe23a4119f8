//! Finds where TLS records end in what is written to a client over TLS: a tunnel's TLS inside the listener's.
//!
//! Each inner record gets an outer record of its own. That costs nothing where records are long, and some clients stall
//! without it. libcurl on GnuTLS, as in Debian's git, takes one inner record for each outer one and then waits for the
//! socket, which never wakes it when the rest came in the same outer record (also found with libcurl 7.88 behind HAProxy's
//! TLS; a whole `git clone` of two then hangs in a third of the cases).
//!
//! Bytes that are not TLS pass in pieces as they come. A wrong guess changes only the sizes of pieces, never a byte.

use crate::wire::tls_record::HEADER;

/// The longest payload of any version: RFC 5246 section 6.2.3 allows 2,048 bytes more than the plaintext's 16,384.
const MOST: usize = 16_384 + 2_048;

/// Follows the records of one direction.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Records {
    /// Bytes of the current record that are still to come.
    left: usize,
    /// The beginning of a header that came in parts.
    header: [u8; HEADER],
    have: usize,
}

impl Records {
    /// How many of the next bytes to write at once: all of `bytes`, or those up to the end of a record. 0 only where there
    /// are none.
    pub fn piece(self, bytes: &[u8]) -> usize {
        let mut ahead = self;
        match ahead.begin(bytes) {
            Some(left) => left.min(bytes.len()),
            None => bytes.len(),
        }
    }

    /// Notes that these bytes, at most a [`Records::piece`], were written.
    pub fn wrote(&mut self, bytes: &[u8]) {
        match self.begin(bytes) {
            Some(left) => {
                self.left = left.saturating_sub(bytes.len());
                self.have = 0;
            }
            None => self.left = 0,
        }
    }

    /// The bytes from here to the end of the record. `None`: its header is not whole yet, or there is no record.
    fn begin(&mut self, bytes: &[u8]) -> Option<usize> {
        if self.left > 0 {
            return Some(self.left);
        }
        let had = self.have;
        for (place, byte) in self.header.iter_mut().skip(had).zip(bytes) {
            *place = *byte;
            self.have += 1;
        }
        if self.have < HEADER {
            return None;
        }
        let [kind, major, minor, high, low] = self.header;
        let len = usize::from(u16::from_be_bytes([high, low]));
        if !matches!((kind, major, minor), (20..=24, 3, 0..=4)) || len > MOST {
            self.have = 0;
            return None;
        }
        Some(HEADER - had + len)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn record(kind: u8, len: usize) -> Vec<u8> {
        let length = u16::try_from(len).unwrap().to_be_bytes();
        [&[kind, 3, 3][..], &length, &vec![kind; len]].concat()
    }

    /// The sizes of the pieces in which reads of these sizes are written.
    fn pieces(bytes: &[u8], reads: &[usize]) -> Vec<usize> {
        let (mut records, mut pieces, mut rest) = (Records::default(), Vec::new(), bytes);
        for read in reads {
            let (mut now, later) = rest.split_at((*read).min(rest.len()));
            rest = later;
            while !now.is_empty() {
                let piece = records.piece(now);
                let (written, left) = now.split_at(piece);
                records.wrote(written);
                pieces.push(piece);
                now = left;
            }
        }
        pieces
    }

    #[test]
    fn each_record_is_a_piece() {
        let bytes = [record(22, 100), record(23, 0), record(23, 16_384), record(21, 2)].concat();
        assert_eq!(pieces(&bytes, &[1 << 20]), [105, 5, 16_389, 7]);
        assert_eq!(pieces(&bytes, &[50, 1 << 20]), [50, 55, 5, 16_389, 7]);
        // A header in parts.
        assert_eq!(pieces(&bytes, &[107, 1, 1, 1 << 20]), [105, 2, 1, 1, 1, 16_389, 7]);
    }

    #[test]
    fn bytes_that_are_not_tls_pass_as_they_come() {
        let text = b"HTTP/1.1 200 Connection established\r\n\r\n";
        assert_eq!(pieces(text, &[100]), [text.len()]);
        assert_eq!(pieces(text, &[3, 4, 100]), [3, 4, text.len() - 7]);
        // Too long for a record, another version, another type.
        for header in [[23, 3, 3, 0x48, 1], [23, 2, 0, 0, 1], [25, 3, 3, 0, 1]] {
            assert_eq!(pieces(&[&header[..], &[0; 100]].concat(), &[1000]), [105]);
        }
        // The reply to CONNECT comes before the tunnel's records.
        let mut records = Records::default();
        records.wrote(text);
        assert_eq!(records.piece(&[record(22, 9), record(23, 9)].concat()), 14);
    }

    proptest! {
        #[test]
        fn no_byte_is_left_and_no_piece_holds_two_records(
            lengths in proptest::collection::vec(0usize..300, 1..20), reads in proptest::collection::vec(1usize..400, 0..40),
        ) {
            let bytes: Vec<u8> = lengths.iter().flat_map(|len| record(23, *len)).collect();
            let mut ends = Vec::new();
            for len in &lengths {
                ends.push(ends.last().unwrap_or(&0) + HEADER + len);
            }
            let mut at = 0;
            for piece in pieces(&bytes, &[&reads[..], &[usize::MAX]].concat()) {
                prop_assert!(piece > 0);
                prop_assert!(!ends.iter().any(|end| (at + 1..at + piece).contains(end)), "{at} {piece} {ends:?}");
                at += piece;
            }
            prop_assert_eq!(at, bytes.len());
        }

        #[test]
        fn any_bytes_pass(bytes in proptest::collection::vec(any::<u8>(), 0..2000), reads in proptest::collection::vec(1usize..50, 0..40)) {
            let sum: usize = pieces(&bytes, &[&reads[..], &[usize::MAX]].concat()).iter().sum();
            prop_assert_eq!(sum, bytes.len());
        }
    }
}
