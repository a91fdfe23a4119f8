//! What a ClientHello must look like, and that its segments never matter.

use super::refused::MAX_OFFERED;
use super::test_samples::*;
use super::*;
use crate::words::outcome::Reason;

fn read(bytes: &[u8]) -> Progress {
    ClientHelloReader::new().read(bytes)
}

fn read_by(bytes: &[u8], segment: usize) -> Progress {
    let mut reader = ClientHelloReader::new();
    let mut ends = (segment..bytes.len()).step_by(segment).chain([bytes.len()]);
    ends.find_map(|end| Some(reader.read(&bytes[..end])).filter(|p| *p != Progress::NeedMore))
        .unwrap_or(Progress::NeedMore)
}

fn named(sni: Option<&str>, length: usize) -> Progress {
    let sni = sni.map(|name| Name::parse(name).unwrap());
    Progress::Hello(Hello { sni, ech: false, http1: true, length })
}

fn malformed(offered: Option<&str>) -> Progress {
    Progress::Refuse(RefusedHello { reason: Reason::ClientHelloMalformed, offered: offered.map(Into::into) })
}

fn not_tls() -> Progress {
    Progress::Refuse(RefusedHello::not_tls())
}

#[test]
fn t09_every_real_hello_reads_the_same_however_its_segments_are_cut() {
    for (client, bytes, sni) in real() {
        let whole = named(sni, bytes.len());
        assert_eq!(read(&bytes), whole, "{client}");
        for cut in 1..bytes.len() {
            let mut reader = ClientHelloReader::new();
            assert_eq!(reader.read(&bytes[..cut]), Progress::NeedMore, "{client} cut at {cut}");
            assert_eq!(reader.read(&bytes), whole, "{client} cut at {cut}");
        }
        for segment in [1, 2, 3, 5, 7, 64] {
            assert_eq!(read_by(&bytes, segment), whole, "{client} in segments of {segment}");
        }
    }
}

#[test]
fn t10_every_real_hello_reads_the_same_at_every_record_size_up_to_the_cap() {
    for (client, bytes, sni) in real() {
        let message = unwrap_records(&bytes);
        for size in 1..=message.len() {
            let cut = records(&message, size);
            let expected = match message.len().div_ceil(size) <= MAX_RECORDS {
                true => named(sni, cut.len()),
                false => malformed(None),
            };
            assert_eq!(read(&cut), expected, "{client} in records of {size}");
            assert_eq!(read_by(&cut, 3), expected, "{client} in records of {size}, segments of 3");
        }
    }
}

#[test]
fn t10_records_are_handshake_records_with_something_in_them() {
    let message = unwrap_records(&naming(b"a.example"));
    let (first, second) = message.split_at(20);
    let two = |header: [u8; 3], part: &[u8]| [&records(first, 20)[..], &header, &vector16(part)].concat();
    assert_eq!(read(&two([22, 3, 3], second)), named(Some("a.example"), message.len() + 10));
    for (what, bytes) in [
        ("an empty record", two([22, 3, 3], &[])),
        ("change_cipher_spec in the middle", two([20, 3, 3], &[1])),
        ("another major version", two([22, 2, 3], second)),
        ("more after the hello in its record", two([22, 3, 3], &[second, b"x"].concat())),
    ] {
        assert_eq!(read(&bytes), malformed(None), "{what}");
    }
    assert_eq!(read(&[22, 3, 1, 0, 0]), malformed(None), "an empty first record");
    assert_eq!(read(&[22, 3, 1, 0x40, 1]), malformed(None), "a record longer than 2^14");
    assert_eq!(read(&[22, 3, 1, 0x40, 0]), Progress::NeedMore, "a record of 2^14");
}

#[test]
fn bytes_after_the_hello_are_left_alone() {
    let hello = naming(b"a.example");
    let with_early_data = [&hello[..], &[20, 3, 3, 0, 1, 1], &[23, 3, 3, 0, 2, 0, 0]].concat();
    assert_eq!(read(&with_early_data), named(Some("a.example"), hello.len()));
}

#[test]
fn a_hello_is_bounded_in_bytes_before_they_come() {
    assert_eq!(read(&[22, 3, 1, 1, 0, 1, 0, 0xff, 0xff]), Progress::NeedMore);
    assert_eq!(read(&[22, 3, 1, 1, 0, 1, 1, 0, 0]), malformed(None));
    let padding = MAX_HELLO - prefix().len() - 2 - (4 + 14) - 4;
    let largest = hello(&[(0, server_names(&[(0, b"a.example")])), (21, vec![0; padding])]);
    assert_eq!(largest.len(), HANDSHAKE_HEADER + MAX_HELLO);
    let sent = records(&largest, 1 << 14);
    assert_eq!(read(&sent), named(Some("a.example"), sent.len()));
}

#[test]
fn t12_t13_bytes_that_are_not_tls_are_refused_at_once() {
    let rows: &[&[u8]] = &[
        b"S",        // SSH-2.0-
        b"G",        // GET
        &[0x80],     // SSLv2: 80 2e 01 …
        &[0],        // nothing in particular
        &[23],       // application data first
        &[21],       // an alert first
        &[22, b'S'], // not 3.x
        &[22, 2],
    ];
    for row in rows {
        assert_eq!(read(row), not_tls(), "{row:?}");
        assert_eq!(read_by(row, 1), not_tls(), "{row:?}");
    }
    assert_eq!(read(&[]), Progress::NeedMore);
}

#[test]
fn the_versions_of_record_and_hello_are_not_judged_beyond_their_major_number() {
    let message = unwrap_records(&naming(b"a.example"));
    for record in 0..=4 {
        for legacy in 0..=4 {
            let mut message = message.clone();
            message[5] = legacy;
            let mut bytes = records(&message, 1 << 14);
            bytes[2] = record;
            assert_eq!(read(&bytes), named(Some("a.example"), bytes.len()), "{record} {legacy}");
        }
    }
    let mut other = message.clone();
    other[4] = 2;
    assert_eq!(read(&records(&other, 1 << 14)), malformed(None));
    for kind in [0, 2, 4, 11, 254] {
        let mut other = message.clone();
        other[0] = kind;
        assert_eq!(read(&records(&other, 1)), malformed(None), "handshake type {kind}");
    }
}

#[test]
fn t08_a_server_name_is_made_canonical_as_the_connect_host_is() {
    let rows: &[(&[u8], Option<&str>)] = &[
        (b"a.example", Some("a.example")),
        (b"GIT-codecommit.Us-East-1.AmazonAWS.com", Some("git-codecommit.us-east-1.amazonaws.com")),
        (b"_x.example", Some("_x.example")),
        (b"xn--bcher-kva.example", Some("xn--bcher-kva.example")),
        (b"localhost", Some("localhost")),
        (b"a.example.", Some("a.example")),
        (b"LOCALHOST.", Some("localhost")),
        (b"a.example..", None),
        (b"a.example...", None),
        (b".", None),
        (b"..", None),
        (b"192.0.2.1.", None),
        (b"a.example\0.", None),
        (b"a.example. ", None),
        (b".a.example", None),
        (b"a..example", None),
        (b"a.example\0", None),
        (b"evil\0.amazonaws.com", None),
        (b" a.example", None),
        (b"a.example\n", None),
        (b"*.example", None),
        (b"a.example:443", None),
        (b"%61.example", None),
        ("bücher.example".as_bytes(), None),
        (b"\xff\xfe", None),
        (b"192.0.2.1", None),
        (b"0x7f.1", None),
        (b"2130706433", None),
        (b"::1", None),
        (b"[::1]", None),
        (b"-a.example", None),
    ];
    for (offered, name) in rows {
        let bytes = naming(offered);
        let shown = offered.escape_ascii().to_string();
        let expected = match name {
            Some(name) => named(Some(name), bytes.len()),
            None => malformed(Some(&shown)),
        };
        assert_eq!(read(&bytes), expected, "{shown}");
    }
}

#[test]
fn what_is_kept_of_a_refused_name_is_printable_and_short() {
    let Progress::Refuse(refused) =
        read(&naming(&[b"\x1b[31m\xe2\x80\xae\r\n".as_slice(), &[b'a'; 5000]].concat()))
    else {
        panic!("passed");
    };
    let offered = refused.offered.unwrap();
    assert!(offered.starts_with("\\x1b[31m\\xe2\\x80\\xae\\r\\naaaa"), "{offered}");
    assert_eq!(offered.chars().count(), MAX_OFFERED + 1);
    assert!(offered.ends_with('…'));
}

#[test]
fn t07_t08_there_is_one_name_or_none() {
    let a: (u8, &[u8]) = (0, b"a.example");
    let data = |entries| server_names(entries);
    type Row = (&'static str, Vec<(u16, Vec<u8>)>, Option<Option<&'static str>>);
    let rows: Vec<Row> = vec![
        ("one name", vec![(0, data(&[a]))], Some(Some("a.example"))),
        ("no extension of the kind", vec![(10, vec![])], Some(None)),
        ("no extension at all", vec![], Some(None)),
        ("two names", vec![(0, data(&[a, (0, b"b.example")]))], None),
        ("the same name twice", vec![(0, data(&[a, a]))], None),
        ("a name of another kind after it", vec![(0, data(&[a, (1, b"x")]))], None),
        ("a name of another kind alone", vec![(0, data(&[(1, b"a.example")]))], None),
        ("an empty name", vec![(0, data(&[(0, b"")]))], None),
        ("an empty list", vec![(0, data(&[]))], None),
        ("an empty extension", vec![(0, vec![])], None),
        ("a byte after the list", vec![(0, [data(&[a]), vec![0]].concat())], None),
        ("a list that is cut", vec![(0, data(&[a])[..10].to_vec())], None),
        ("the extension twice", vec![(0, data(&[a])), (0, data(&[a]))], None),
        ("another extension twice", vec![(0, data(&[a])), (10, vec![]), (13, vec![]), (10, vec![])], None),
        ("pre_shared_key last", vec![(0, data(&[a])), (41, vec![9])], Some(Some("a.example"))),
        ("pre_shared_key before the end", vec![(41, vec![9]), (0, data(&[a]))], None),
    ];
    for (what, extensions, expected) in rows {
        let bytes = records(&hello(&extensions), 1 << 14);
        let expected = expected.map_or(malformed(None), |sni| named(sni, bytes.len()));
        assert_eq!(read(&bytes), expected, "{what}");
    }
}

#[test]
fn t06_the_outer_name_decides_next_to_encrypted_client_hello_which_is_told() {
    let sni = (0, server_names(&[(0, b"outer.example")]));
    // The outer form, real or GREASE; the inner form, which is one byte; and what is neither.
    for data in [vec![0; 180], vec![1], vec![]] {
        let forms = [0xfe0d, 0xfe0a, 0xfe08, 0xff02, 0xffce].map(|number| (number, data.clone()));
        for extensions in
            forms.iter().flat_map(|ech| [[ech.clone(), sni.clone()], [sni.clone(), ech.clone()]])
        {
            let bytes = records(&hello(&extensions), 1 << 14);
            let Progress::Hello(read) = read(&bytes) else { panic!("{extensions:?}") };
            assert_eq!((read.sni, read.ech), (Name::parse("outer.example").ok(), true));
        }
    }
    let other = records(&hello(&[(0xfe07, vec![1]), sni]), 1 << 14);
    assert_eq!(read(&other), named(Some("outer.example"), other.len()), "another extension");
}

#[test]
fn a_hello_goes_with_http1_if_it_offers_that_or_negotiates_nothing() {
    let sni = (0, server_names(&[(0, b"a.example")]));
    let protocols = |names: &[&[u8]]| {
        vector16(&names.iter().flat_map(|name| [&[name.len() as u8], *name].concat()).collect::<Vec<u8>>())
    };
    let rows: &[(&str, Option<Vec<u8>>, bool)] = &[
        ("none", None, true),
        ("http/1.1", Some(protocols(&[b"http/1.1"])), true),
        ("both", Some(protocols(&[b"h2", b"http/1.1"])), true),
        ("h2", Some(protocols(&[b"h2"])), false),
        ("http/1.0", Some(protocols(&[b"http/1.0"])), false),
        ("another case", Some(protocols(&[b"HTTP/1.1"])), false),
        ("an empty list", Some(protocols(&[])), false),
        ("cut short", Some(vec![0, 9, 8, b'h']), false),
    ];
    for (what, data, want) in rows {
        let alpn = data.iter().map(|data| (16, data.clone()));
        let extensions: Vec<_> = std::iter::once(sni.clone()).chain(alpn).collect();
        let bytes = records(&hello(&extensions), 1 << 14);
        let Progress::Hello(read) = read(&bytes) else { panic!("{what}") };
        assert_eq!(read.http1, *want, "{what}");
    }
}

#[test]
fn every_length_fits_exactly() {
    let random = [[3, 3].as_slice(), &[7; 32]].concat();
    let suites: &[u8] = &[0, 2, 0x13, 1];
    let rows: &[(&str, Vec<u8>, bool)] = &[
        ("no extensions at all, as before TLS 1.3", prefix(), true),
        ("extensions of length zero", [&prefix()[..], &[0, 0]].concat(), true),
        ("an empty body", vec![], false),
        ("half a length of extensions", [&prefix()[..], &[0]].concat(), false),
        ("extensions longer than the hello", [&prefix()[..], &[0, 4, 0, 10, 0]].concat(), false),
        ("extensions shorter than the hello", [&prefix()[..], &[0, 4, 0, 10, 0, 0, 9]].concat(), false),
        ("an extension longer than the list", [&prefix()[..], &[0, 4, 0, 10, 0, 1]].concat(), false),
        ("three bytes of an extension", [&prefix()[..], &[0, 3, 0, 10, 0]].concat(), false),
        ("a session id of 32", [&random[..], &[32], &[1; 32], suites, &[1, 0]].concat(), true),
        ("a session id of 33", [&random[..], &[33], &[1; 33], suites, &[1, 0]].concat(), false),
        ("no cipher suites", [&random[..], &[0], &[0, 0], &[1, 0]].concat(), false),
        ("one and a half cipher suites", [&random[..], &[0], &[0, 3, 1, 2, 3], &[1, 0]].concat(), false),
        ("no compression methods", [&random[..], &[0], suites, &[0]].concat(), false),
        ("compression without the null method", [&random[..], &[0], suites, &[1, 1]].concat(), false),
        ("old compression next to it", [&random[..], &[0], suites, &[2, 1, 0]].concat(), true),
    ];
    for (what, body, good) in rows {
        let bytes = records(&message(body), 1 << 14);
        let expected = if *good { named(None, bytes.len()) } else { malformed(None) };
        assert_eq!(read(&bytes), expected, "{what}");
    }
}

#[test]
fn a_hello_that_is_cut_short_anywhere_is_malformed() {
    let whole = unwrap_records(&naming(b"a.example"));
    let body = &whole[HANDSHAKE_HEADER..];
    // Cut right before its extensions, it is a complete old hello without a name.
    for length in (0..body.len()).filter(|length| *length != prefix().len()) {
        assert_eq!(read(&records(&message(&body[..length]), 1 << 14)), malformed(None), "{length}");
    }
}
