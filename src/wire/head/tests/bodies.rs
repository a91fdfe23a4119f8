//! What the reader of bodies promises: as tables, and compared with hyper.

use proptest::prelude::*;

use super::against_hyper::seen_by_hyper;
use super::block_on;
use crate::wire::head::{BodyError, BodyFollower, Framing, Piece};

fn follow(framing: Framing, bytes: &[u8]) -> Result<(usize, bool), BodyError> {
    let mut follower = BodyFollower::new(framing);
    let taken = advance(&mut follower, bytes)?;
    Ok((taken, follower.is_done()))
}

/// How many of `bytes`, from the front, belong to the body: all of them, unless the body ends in them.
fn advance(follower: &mut BodyFollower, bytes: &[u8]) -> Result<usize, BodyError> {
    let mut taken = 0;
    while let Some(piece) = follower.step(&bytes[taken..])? {
        taken += piece.len();
    }
    Ok(taken)
}

#[test]
fn a_body_ends_where_its_framing_says() {
    for (framing, bytes, taken, done) in [
        (Framing::None, &b"GET"[..], 0, true),
        (Framing::Length(0), b"GET", 0, true),
        (Framing::Length(3), b"abcGET", 3, true),
        (Framing::Length(3), b"ab", 2, false),
        (Framing::Chunked, b"0\r\n\r\nGET", 5, true),
        (Framing::Chunked, b"3\r\nabc\r\n0\r\n\r\nGET", 13, true),
        (Framing::Chunked, b"00000000000000a\r\n0123456789\r\n0\r\n\r\n", 34, true),
        (Framing::Chunked, b"aB\r\nx", 5, false),
        (Framing::Chunked, b"0\r\n", 3, false),
        (Framing::Chunked, b"1;a;b=c;d=\"e;\\\"f\";g\r\nx\r\n0;z\r\n\r\nGET", 31, true),
        (Framing::Chunked, b"0\r\nA: b\r\nC:\r\n\r\nGET", 15, true),
        (Framing::Chunked, b"0\r\nA: \xe9\tb\r\n\r\n", 13, true),
    ] {
        assert_eq!(follow(framing, bytes), Ok((taken, done)), "{:?}", String::from_utf8_lossy(bytes));
    }
}

/// t49
#[test]
fn t49_chunk_tricks_are_refused() {
    use BodyError::*;
    for (bytes, error) in [
        (&b"\r\n"[..], Size),
        (b";a\r\n", Size),
        (b"g\r\n", Size),
        (b"-1\r\n", Size),
        (b"+1\r\n", Size),
        (b"0x1\r\n", Size),
        (b" 1\r\n", Size),
        (b"1_0\r\n", Size),
        (b"00000000000000001\r\n", Size),
        (b"8000000000000000\r\n", TooLarge),
        (b"ffffffffffffffff\r\n", TooLarge),
        (b"1 \r\n", Extension),
        (b"5 ;\r\n", Extension),
        (b"5; a\r\n", Extension),
        (b"5;\r\n", Extension),
        (b"5;;a\r\n", Extension),
        (b"5;a=\r\n", Extension),
        (b"5;a =b\r\n", Extension),
        (b"5;a=b c\r\n", Extension),
        (b"5;a=\"b\r\n", Extension),
        (b"5;a=\"b\"c\r\n", Extension),
        (b"5;a\n", Extension),
        (b"5;a=\"\n\"\r\n", Extension),
        (b"5;\x80\r\n", Extension),
        (b"1\n", LineEnd),
        (b"1\rx", LineEnd),
        (b"1;a\rx", LineEnd),
        (b"1\r\nab", DataEnd),
        (b"1\r\na\n", DataEnd),
        (b"1\r\na\rb", LineEnd),
        (b"0\r\n\n", Trailer),
        (b"0\r\n\r\r", LineEnd),
        (b"0\r\nA\r\n", Trailer),
        (b"0\r\nA : b\r\n", Trailer),
        (b"0\r\n b: c\r\n", Trailer),
        (b"0\r\nA: b\r\n c\r\n", Trailer),
        (b"0\r\nA: b\n", LineEnd),
        (b"0\r\nA: b\rc", LineEnd),
        (b"0\r\nA: \0\r\n", Trailer),
        (b"0\r\nGET http://ok.test/ HTTP/1.1\r\n", Trailer),
    ] {
        assert_eq!(follow(Framing::Chunked, bytes), Err(error), "{:?}", String::from_utf8_lossy(bytes));
    }
    let after_a_chunk = b"1\r\na\r\n7fffffffffffffff\r\n";
    assert_eq!(follow(Framing::Chunked, after_a_chunk), Err(TooLarge));
    assert!(follow(Framing::Chunked, b"7fffffffffffffff\r\n").is_ok());
}

#[test]
fn extensions_and_trailers_are_bounded() {
    let chunk = |length: usize| format!("1;{}\r\nx\r\n", "e".repeat(length - 1)).into_bytes();
    assert!(follow(Framing::Chunked, &chunk(256)).is_ok());
    assert_eq!(follow(Framing::Chunked, &chunk(257)), Err(BodyError::ExtensionsTooLong));
    assert!(follow(Framing::Chunked, &chunk(256).repeat(64)).is_ok());
    assert_eq!(follow(Framing::Chunked, &chunk(256).repeat(65)), Err(BodyError::ExtensionsTooLong));
    // A trailer's name, colon, space and line end count as well.
    let trailer = |length: usize| format!("0\r\nA: {}\r\n", "b".repeat(length)).into_bytes();
    assert!(follow(Framing::Chunked, &trailer(8187)).is_ok());
    assert_eq!(follow(Framing::Chunked, &trailer(8188)), Err(BodyError::TrailersTooLong));
    let fields = |count: usize| format!("0\r\n{}\r\n", "a: b\r\n".repeat(count)).into_bytes();
    assert!(follow(Framing::Chunked, &fields(100)).is_ok_and(|(_, done)| done));
    assert_eq!(follow(Framing::Chunked, &fields(101)), Err(BodyError::TrailersTooLong));
}

#[test]
fn pieces_separate_content_from_framing() {
    let mut follower = BodyFollower::new(Framing::Chunked);
    let mut bytes = &b"3;a\r\nabc\r\n0\r\nT: u\r\n\r\nGET"[..];
    let mut pieces = Vec::new();
    while let Some(piece) = follower.step(bytes).expect("well-formed") {
        pieces.push(piece);
        bytes = &bytes[piece.len()..];
    }
    assert_eq!(pieces, [Piece::Framing(5), Piece::Data(3), Piece::Framing(5), Piece::Trailers(8)]);
    assert_eq!(bytes, b"GET");
}

/// Chunked bodies that are nearly right.
fn nearly_chunked() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop::sample::select(vec![
        "1\r\nx\r\n",
        "3\r\nabc\r\n",
        "0a\r\n0123456789\r\n",
        "1;a\r\nx\r\n",
        "1;a=\"b;\"\r\nx\r\n",
        "1 \r\nx\r\n",
        "1;\r\nx\r\n",
        "1\nx\n",
        "2\r\nx\r\n",
        "ff\r\n",
        "0\r\n\r\n",
        "0\r\nA: b\r\n\r\n",
        "0\r\n",
        "\r\n",
        "A: b\r\n",
        "GET http://ok.test/ HTTP/1.1\r\n\r\n",
    ]);
    prop::collection::vec(piece, 0..6)
        .prop_map(|pieces| [&pieces.concat(), "0\r\n\r\n"].concat().into_bytes())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2048))]

    #[test]
    fn no_bytes_make_it_panic_and_no_cut_changes_the_verdict(
        bytes in prop_oneof![prop::collection::vec(any::<u8>(), 0..80), nearly_chunked()], cut in any::<prop::sample::Index>(),
    ) {
        let whole = follow(Framing::Chunked, &bytes);
        let (first, second) = bytes.split_at(cut.index(bytes.len() + 1));
        let mut follower = BodyFollower::new(Framing::Chunked);
        let parts = advance(&mut follower, first)
            .and_then(|taken| Ok((taken + advance(&mut follower, second)?, follower.is_done())));
        prop_assert_eq!(parts, whole);
    }

    /// A body that is followed to its end is, to hyper, one whole body of the same content.
    #[test]
    fn what_is_followed_is_the_same_body_to_hyper(bytes in nearly_chunked()) {
        let Ok((taken, true)) = follow(Framing::Chunked, &bytes) else { return Ok(()) };
        let mut content = Vec::new();
        let (mut follower, mut rest) = (BodyFollower::new(Framing::Chunked), &bytes[..]);
        while let Ok(Some(piece)) = follower.step(rest) {
            if let Piece::Data(length) = piece {
                content.extend_from_slice(&rest[..length]);
            }
            rest = &rest[piece.len()..];
        }
        let request = [&b"POST http://ok.test/ HTTP/1.1\r\nHost: ok.test\r\nTransfer-Encoding: chunked\r\n\r\n"[..], &bytes[..taken]].concat();
        let seen = block_on(seen_by_hyper(&request));
        prop_assert_eq!(seen.len(), 1);
        prop_assert_eq!(&seen[0].1, &content);
    }
}
