//! Case tables, and a comparison with the crate `proxy-header` on generated headers.
#![allow(clippy::indexing_slicing, reason = "the tests cut their own bytes")]

use std::net::SocketAddr;

use proptest::prelude::*;
use proxy_header::{ParseConfig, ProxiedAddress, ProxyHeader, Tlv};

use super::v2::{BAD_COMMAND, BAD_FAMILY};
use super::*;

fn header(len: usize, source: &str, destination: &str) -> Parsed {
    Parsed::Header(Header {
        len,
        source: Some(source.parse().unwrap()),
        destination: Some(destination.parse().unwrap()),
        vpc_endpoint: None,
    })
}

fn no_address(len: usize) -> Parsed {
    Parsed::Header(Header { len, source: None, destination: None, vpc_endpoint: None })
}

/// A v2 header with this command, family and body.
fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
    let len = u16::try_from(body.len()).unwrap().to_be_bytes();
    [v2::SIGNATURE.as_slice(), &[command, family], &len, body].concat()
}

fn field(kind: u8, value: &[u8]) -> Vec<u8> {
    [&[kind][..], &u16::try_from(value.len()).unwrap().to_be_bytes(), value].concat()
}

/// 198.51.100.7:4711 to 10.0.0.1:3128.
const IPV4: &[u8] = &[198, 51, 100, 7, 10, 0, 0, 1, 0x12, 0x67, 0x0c, 0x38];

fn with_fields(fields: &[u8]) -> Vec<u8> {
    v2(0x21, 0x11, &[IPV4, fields].concat())
}

/// The same with the right checksum in the CRC32C field at this place of the header.
fn sign(mut bytes: Vec<u8>, at: usize) -> Vec<u8> {
    let sum = v2::crc32c(bytes.iter().copied());
    bytes[at..at + 4].copy_from_slice(&sum.to_be_bytes());
    bytes
}

#[test]
fn a_v1_line_has_one_spelling() {
    let line_of = |len: usize| format!("PROXY UNKNOWN {}\r\n", "x".repeat(len - 16));
    let invalid = "a PROXY v1 line with a malformed field";
    let cases: &[(&str, Parsed)] = &[
        ("PROXY TCP4 198.51.100.7 10.0.0.1 4711 3128\r\n", header(44, "198.51.100.7:4711", "10.0.0.1:3128")),
        ("PROXY TCP4 0.0.0.0 255.255.255.255 0 65535\r\n", header(44, "0.0.0.0:0", "255.255.255.255:65535")),
        ("PROXY TCP6 2001:db8::7 ::1 4711 3128\r\n", header(38, "[2001:db8::7]:4711", "[::1]:3128")),
        ("PROXY TCP6 ::ffff:1.2.3.4 ::1 1 2\r\n", header(35, "[::ffff:1.2.3.4]:1", "[::1]:2")),
        ("PROXY UNKNOWN\r\n", no_address(15)),
        ("PROXY UNKNOWN ffff:f...f:ffff 1 anything at all\r\n", no_address(49)),
        ("PROXY TCP4 198.51.100.7 10.0.0.1 4711 65536\r\n", Parsed::Invalid(invalid)),
        ("PROXY TCP4 198.51.100.7 10.0.0.1 +4711 3128\r\n", Parsed::Invalid(invalid)),
        ("PROXY TCP4 198.51.100.7 10.0.0.1 04711 3128\r\n", Parsed::Invalid(invalid)),
        ("PROXY TCP4 198.51.100.7 10.0.0.1 -1 3128\r\n", Parsed::Invalid(invalid)),
        ("PROXY TCP4 198.51.100.07 10.0.0.1 4711 3128\r\n", Parsed::Invalid(invalid)),
        ("PROXY TCP4 198.51.100 10.0.0.1 4711 3128\r\n", Parsed::Invalid(invalid)),
        ("PROXY TCP4 ::1 10.0.0.1 4711 3128\r\n", Parsed::Invalid(invalid)),
        ("PROXY TCP6 198.51.100.7 10.0.0.1 4711 3128\r\n", Parsed::Invalid(invalid)),
        ("PROXY TCP6 fe80::1%eth0 ::1 4711 3128\r\n", Parsed::Invalid(invalid)),
        ("PROXY TCP6 [::1] ::1 4711 3128\r\n", Parsed::Invalid(invalid)),
        ("PROXY TCP4 198.51.100.7 10.0.0.1 4711\r\n", Parsed::Invalid(invalid)),
        ("PROXY TCP4 198.51.100.7 10.0.0.1 4711 3128 \r\n", Parsed::Invalid(invalid)),
        ("PROXY TCP4  198.51.100.7 10.0.0.1 4711 3128\r\n", Parsed::Invalid(invalid)),
        ("PROXY TCP4\t198.51.100.7 10.0.0.1 4711 3128\r\n", Parsed::Invalid(invalid)),
        ("PROXY TCP4 198.51.100.7 10.0.0.1 4711 3128 9\r\n", Parsed::Invalid(invalid)),
        ("PROXY TCP5 198.51.100.7 10.0.0.1 4711 3128\r\n", Parsed::Invalid(invalid)),
        ("PROXY tcp4 198.51.100.7 10.0.0.1 4711 3128\r\n", Parsed::Invalid(invalid)),
        ("PROXY UNKNOWNS\r\n", Parsed::Invalid(invalid)),
        ("PROXY TCP4 \u{1d7d9}.1.1.1 10.0.0.1 4711 3128\r\n", Parsed::Invalid(invalid)),
        ("PROXY \r\n", Parsed::Invalid(invalid)),
        ("PROXY UNKNOWN\n", Parsed::Invalid("a PROXY v1 line that does not end in CR and LF")),
        ("PROXY UNKNOWN\rX", Parsed::Invalid("a PROXY v1 line that does not end in CR and LF")),
        (&line_of(107), no_address(107)),
        (&line_of(108), Parsed::Invalid("a PROXY v1 line of more than 107 bytes")),
        ("CONNECT a.example:443 HTTP/1.1\r\n", Parsed::Invalid("no PROXY header")),
        ("proxy UNKNOWN\r\n", Parsed::Invalid("no PROXY header")),
        ("PROXYUNKNOWN\r\n", Parsed::Invalid("no PROXY header")),
        ("\u{16}\u{3}\u{1}", Parsed::Invalid("no PROXY header")),
    ];
    for (text, expected) in cases {
        assert_eq!(parse(text.as_bytes()), *expected, "{text:?}");
    }
}

#[test]
fn a_v2_header_is_what_its_lengths_say() {
    let ipv6 = [[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7], [0; 16]].concat();
    let ipv6 = [ipv6, vec![0x12, 0x67, 0x0c, 0x38]].concat();
    let cases: &[(&str, Vec<u8>, Parsed)] = &[
        ("IPv4", v2(0x21, 0x11, IPV4), header(28, "198.51.100.7:4711", "10.0.0.1:3128")),
        ("IPv6", v2(0x21, 0x21, &ipv6), header(52, "[2001:db8::7]:4711", "[::]:3128")),
        ("a unix socket", v2(0x21, 0x31, &[b'/'; 216]), no_address(232)),
        ("no family", v2(0x21, 0x00, b""), no_address(16)),
        ("LOCAL", v2(0x20, 0x00, b""), no_address(16)),
        ("LOCAL's block is discarded", v2(0x20, 0x11, IPV4), no_address(28)),
        ("LOCAL's family too", v2(0x20, 0xff, &[0xff; 4096]), no_address(4112)),
        ("LOCAL with too little", v2(0x20, 0x11, b"\x01"), no_address(17)),
        ("UDP", v2(0x21, 0x12, IPV4), BAD_FAMILY),
        ("no transport", v2(0x21, 0x10, IPV4), BAD_FAMILY),
        ("an unknown family", v2(0x21, 0x41, IPV4), BAD_FAMILY),
        ("version 1", v2(0x11, 0x11, IPV4), BAD_COMMAND),
        ("version 3", v2(0x31, 0x11, IPV4), BAD_COMMAND),
        ("an unknown command", v2(0x22, 0x11, IPV4), BAD_COMMAND),
    ];
    for (name, bytes, expected) in cases {
        assert_eq!(parse(bytes), *expected, "{name}");
    }
}

#[test]
fn a_length_that_lies_is_refused() {
    for (family, len) in [(0x11, 0), (0x11, 11), (0x21, 12), (0x21, 35), (0x31, 215)] {
        let parsed = parse(&v2(0x21, family, &vec![0; len]));
        assert_eq!(
            parsed,
            Parsed::Invalid("a PROXY v2 header too short for its addresses"),
            "{family} {len}"
        );
    }
    // Too long is refused at the sixteenth byte, not after waiting for the rest.
    let promise = [v2::SIGNATURE.as_slice(), &[0x21, 0x11, 0x10, 0x01]].concat();
    assert_eq!(parse(&promise), Parsed::Invalid("a PROXY v2 header of more than 4,096 bytes"));
    // One byte more in the length than in the fields: a field begins and does not end.
    assert_eq!(parse(&with_fields(&[0x04])), Parsed::Invalid("a PROXY v2 field longer than its header"));
    // One byte less: the last byte would belong to what follows.
    let mut short = with_fields(&field(0x04, b"xyz"));
    short[15] -= 1;
    assert_eq!(parse(&short), Parsed::Invalid("a PROXY v2 field longer than its header"));
}

#[test]
fn fields_are_read_strictly() {
    let vpce = |id: &[u8]| field(0xEA, &[&[1], id].concat());
    let endpoint = "a PROXY v2 VPC endpoint id with other bytes than letters, digits and hyphens";
    type Expected = Result<Option<&'static str>, &'static str>;
    let cases: &[(Vec<u8>, Expected)] = &[
        (vec![], Ok(None)),
        (vpce(b"vpce-08d2bf15fac5001c9"), Ok(Some("vpce-08d2bf15fac5001c9"))),
        ([field(0x04, &[0; 40]), vpce(b"vpce-0a")].concat(), Ok(Some("vpce-0a"))),
        ([vpce(b"vpce-0a"), field(0x20, b"\x01\0\0\0\0")].concat(), Ok(Some("vpce-0a"))),
        (field(0xEA, b"\x02anything"), Ok(None)),
        (field(0xE0, b"custom"), Ok(None)),
        (field(0x05, &[0; 128]), Ok(None)),
        (field(0x05, &[0; 129]), Err("a PROXY v2 unique id of more than 128 bytes")),
        (field(0xEA, b""), Err("a PROXY v2 AWS field without a subtype")),
        (vpce(b""), Err("a PROXY v2 VPC endpoint id of a wrong length")),
        (vpce(&[b'a'; 65]), Err("a PROXY v2 VPC endpoint id of a wrong length")),
        (vpce("vpce-ä".as_bytes()), Err(endpoint)),
        (vpce(b"vpce-0a\n"), Err(endpoint)),
        (vpce(b"vpce 0a"), Err(endpoint)),
        ([vpce(b"vpce-0a"), vpce(b"vpce-0b")].concat(), Err("a PROXY v2 header with two VPC endpoint ids")),
        (vec![0x04, 0, 1], Err("a PROXY v2 field longer than its header")),
        (vec![0x04, 0], Err("a PROXY v2 field longer than its header")),
        (field(0x03, &[0; 3]), Err("a PROXY v2 checksum of a wrong length")),
        (field(0x03, &[0; 4]), Err("a PROXY v2 header with a wrong checksum")),
    ];
    for (fields, expected) in cases {
        let actual = match parse(&with_fields(fields)) {
            Parsed::Header(header) => Ok(header.vpc_endpoint),
            Parsed::Invalid(why) => Err(why),
            more => panic!("{more:?}"),
        };
        assert_eq!(actual, expected.map(|id| id.map(Box::from)), "{fields:?}");
    }
}

#[test]
fn the_checksum_is_verified_wherever_it_stands() {
    // The check value of CRC-32C.
    assert_eq!(v2::crc32c("123456789".bytes()), 0xE306_9283);
    let first = sign(with_fields(&[field(0x03, &[0; 4]), field(0x04, b"padding")].concat()), 31);
    let last = sign(with_fields(&[field(0x04, b"padding"), field(0x03, &[0; 4])].concat()), 41);
    for good in [first, last] {
        assert!(matches!(parse(&good), Parsed::Header(_)));
        for at in 16..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            // The type of the checksum becomes 0x02: then there is none to verify.
            assert!(!matches!(parse(&bad), Parsed::Header(_)) || bad[at] == 0x02, "bit flipped at {at}");
        }
    }
    let twice = with_fields(&[field(0x03, &[0; 4]), field(0x03, &[0; 4])].concat());
    assert!(matches!(parse(&sign(twice, 31)), Parsed::Invalid(_)));
}

#[test]
fn there_is_one_header() {
    let both = [b"PROXY TCP4 198.51.100.7 10.0.0.1 4711 3128\r\n".to_vec(), v2(0x21, 0x11, IPV4)];
    for first in &both {
        for second in &both {
            let parsed = parse(&[first.as_slice(), second].concat());
            assert_eq!(parsed, Parsed::Invalid("more than one PROXY header"));
        }
    }
}

/// One of every kind.
fn valid_headers() -> Vec<Vec<u8>> {
    vec![
        b"PROXY TCP4 198.51.100.7 10.0.0.1 4711 3128\r\n".to_vec(),
        b"PROXY TCP6 2001:db8::7 ::1 4711 3128\r\n".to_vec(),
        b"PROXY UNKNOWN\r\n".to_vec(),
        b"PROXY UNKNOWN and more\r\n".to_vec(),
        v2(0x21, 0x11, IPV4),
        v2(0x21, 0x21, &[7; 36]),
        v2(0x20, 0x00, b""),
        v2(0x21, 0x31, &[0; 216]),
        sign(with_fields(&[field(0x03, &[0; 4]), field(0xEA, b"\x01vpce-0a")].concat()), 31),
    ]
}

#[test]
fn every_truncation_needs_more_and_never_more_than_the_header() {
    for header in valid_headers() {
        for len in 0..header.len() {
            match parse(&header[..len]) {
                Parsed::NeedMore(least) => assert!(len < least && least <= header.len(), "{len} {least}"),
                other => panic!("{other:?} at {len} of {header:?}"),
            }
        }
    }
}

fn any_pair() -> impl Strategy<Value = (SocketAddr, SocketAddr)> {
    let v4 = any::<([u8; 4], u16)>().prop_map(SocketAddr::from);
    let v6 = any::<([u8; 16], u16)>().prop_map(SocketAddr::from);
    prop_oneof![(v4.clone(), v4), (v6.clone(), v6)]
}

proptest! {
    #[test]
    fn headers_written_by_proxy_header_are_read_as_it_reads_them(
        pair in proptest::option::of(any_pair()),
        custom in proptest::collection::vec((0xE0u8..=0xE9, proptest::collection::vec(any::<u8>(), 0..40)), 0..4),
        endpoint in proptest::option::of("[a-z0-9-]{1,40}"),
        version_1: bool,
        after in proptest::collection::vec(any::<u8>(), 0..8),
    ) {
        let address = pair.map(|(source, destination)| ProxiedAddress::stream(source, destination));
        let mut bytes = Vec::new();
        let mut expected = None;
        if version_1 {
            ProxyHeader::with_tlvs(address, []).encode_v1(&mut bytes).unwrap();
        } else {
            let aws = endpoint.as_ref().map(|id| Tlv::Custom(0xEA, format!("\u{1}{id}").into_bytes().into()));
            let custom = custom.into_iter().map(|(kind, value)| Tlv::Custom(kind, value.into()));
            ProxyHeader::with_tlvs(address, custom.chain(aws)).encode_v2(&mut bytes).unwrap();
            // Without an address it writes LOCAL, whose fields are discarded.
            expected = endpoint.filter(|_| pair.is_some());
        }
        let len = bytes.len();
        bytes.extend(after);
        let (theirs, their_len) = ProxyHeader::parse(&bytes, ParseConfig::default()).unwrap();
        prop_assert_eq!(their_len, len);
        prop_assert_eq!(parse(&bytes), Parsed::Header(Header {
            len,
            source: theirs.proxied_address().map(|address| address.source),
            destination: theirs.proxied_address().map(|address| address.destination),
            vpc_endpoint: expected.map(String::into_boxed_str),
        }));
    }

    #[test]
    fn what_is_read_here_is_read_the_same_by_proxy_header(
        command in 0x1fu8..=0x22, family: u8, body in proptest::collection::vec(any::<u8>(), 0..80), lie in -2i32..=2,
    ) {
        let mut bytes = v2(command, family & 0x33, &body);
        let claimed = u16::try_from((i32::try_from(body.len()).unwrap() + lie).max(0)).unwrap();
        bytes[14..16].copy_from_slice(&claimed.to_be_bytes());
        let ours = parse(&bytes);
        let theirs = ProxyHeader::parse(&bytes, ParseConfig::default());
        if let Parsed::Header(header) = ours {
            // Ours is the stricter one, except for LOCAL, where `proxy-protocol.txt` says to discard the family.
            if command != 0x20 {
                let (theirs, len) = theirs.unwrap();
                prop_assert_eq!(len, header.len);
                prop_assert_eq!(theirs.proxied_address().map(|address| address.source), header.source);
                prop_assert!(theirs.tlvs().count() == 0 || header.len > 16);
            }
            prop_assert!(header.len <= bytes.len() && header.len <= MAX_HEADER);
        }
    }

    #[test]
    fn no_bytes_panic(start in 0usize..3, bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let start = [&b""[..], v1::SIGNATURE, v2::SIGNATURE.as_slice()][start];
        match parse(&[start, &bytes].concat()) {
            Parsed::NeedMore(least) => prop_assert!(least > start.len() + bytes.len() && least <= MAX_HEADER),
            Parsed::Header(header) => prop_assert!(header.len <= start.len() + bytes.len()),
            Parsed::Invalid(_) => {}
        }
    }
}
