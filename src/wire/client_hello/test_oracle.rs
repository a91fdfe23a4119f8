//! Compares our reading with that of rustls, on real hellos and on mutations of them: we may be stricter, never laxer, and
//! never see another name.

use std::io::Cursor;

use proptest::prelude::*;
use rustls::server::Acceptor;

use super::test_samples::*;
use super::*;

/// What rustls sees: an incomplete hello, a hello with or without a name and whether it goes with HTTP/1.1, or an error.
#[derive(Debug, PartialEq)]
enum Seen {
    NeedMore,
    Hello(Option<String>, bool),
    Error(String),
}

fn rustls_reads(bytes: &[u8]) -> Seen {
    let mut acceptor = Acceptor::default();
    let mut left = Cursor::new(bytes);
    loop {
        match acceptor.read_tls(&mut left) {
            Ok(0) => return Seen::NeedMore,
            Ok(_) => {}
            Err(error) => return Seen::Error(error.to_string()),
        }
        match acceptor.accept() {
            Ok(None) => {}
            Ok(Some(accepted)) => {
                // rustls leaves one trailing dot to the server, and refuses two.
                let hello = accepted.client_hello();
                let name = hello.server_name().map(str::to_ascii_lowercase);
                let http1 = hello.alpn().is_none_or(|mut names| names.any(|name| name == b"http/1.1"));
                return Seen::Hello(
                    name.map(|name| name.strip_suffix('.').unwrap_or(&name).to_owned()),
                    http1,
                );
            }
            Err((error, _)) => return Seen::Error(error.to_string()),
        }
    }
}

/// Checks one input; with `strict`, rustls must accept what we accept.
fn compare(bytes: &[u8], strict: bool) {
    let Progress::Hello(ours) = ClientHelloReader::new().read(bytes) else {
        return;
    };
    let sni = ours.sni.map(|name| name.to_string());
    // Only what we would pass on: the bytes after it are not part of the hello.
    match rustls_reads(&bytes[..ours.length]) {
        Seen::Hello(theirs, http1) => assert_eq!((sni, ours.http1), (theirs, http1)),
        Seen::Error(error) => assert!(!strict, "we pass {sni:?}, rustls says {error}"),
        Seen::NeedMore => panic!("we pass {sni:?}, rustls waits for more"),
    }
}

/// Where the extensions of a one-record hello begin.
fn extensions_begin(bytes: &[u8]) -> usize {
    let session = 5 + 4 + 2 + 32;
    let suites = session + 1 + usize::from(bytes[session]);
    let compression = suites + 2 + usize::from(u16::from_be_bytes([bytes[suites], bytes[suites + 1]]));
    compression + 1 + usize::from(bytes[compression])
}

#[test]
fn on_real_hellos_we_agree() {
    for (client, bytes, sni) in real() {
        assert_eq!(rustls_reads(&bytes), Seen::Hello(sni.map(str::to_owned), true), "{client}");
        compare(&bytes, true);
    }
}

#[test]
fn on_odd_names_we_are_never_laxer() {
    for name in [
        &b"A.Example"[..],
        b"a.example.",
        b"A.Example.",
        b"a.example..",
        b".",
        b"192.0.2.1.",
        b"a.example\0",
        b"a..example",
        b"192.0.2.1",
        b"::1",
        b"a_b.example",
        b"_",
        b"x-",
        b"1.a",
        b"a.1",
        b"xn--a",
        b"\xc3\xbc.example",
        &[b'a'; 63],
        &[b'a'; 64],
    ] {
        compare(&naming(name), true);
    }
}

#[test]
fn every_byte_of_every_hello_changed_in_eight_ways_never_shows_another_name() {
    for (_, bytes, _) in real() {
        let extensions = extensions_begin(&bytes);
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut mutated = bytes.clone();
                mutated[at] ^= 1 << bit;
                // Within the extensions rustls reads what we only measure, so there it may refuse more.
                compare(&mutated, at < extensions);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn mutations_never_panic_and_never_show_another_name(
        which in any::<prop::sample::Index>(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0..4_u8, any::<u8>()), 1..6),
    ) {
        let hellos = real();
        let mut bytes = which.get(&hellos).1.clone();
        for (at, kind, byte) in edits {
            let at = at.index(bytes.len());
            match kind {
                0 => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                2 if bytes.len() > 1 => drop(bytes.remove(at)),
                _ => bytes.truncate(at.max(1)),
            }
        }
        compare(&bytes, false);
    }

    /// However many dots end a name: none or one is the name, more are nobody's.
    #[test]
    fn a_name_is_the_same_with_and_without_its_one_trailing_dot(
        name in "[a-zA-Z_][a-zA-Z0-9_]{0,20}(\\.[a-zA-Z0-9_]{1,20}){0,4}\\.[a-zA-Z]{2,9}",
        dots in 0..5_usize,
    ) {
        let bytes = naming(format!("{name}{}", ".".repeat(dots)).as_bytes());
        let seen = match ClientHelloReader::new().read(&bytes) {
            Progress::Hello(hello) => hello.sni.map(|name| name.to_string()),
            _ => None,
        };
        prop_assert_eq!(seen, (dots < 2).then(|| name.to_ascii_lowercase()));
        compare(&bytes, true);
    }

    #[test]
    fn any_message_in_a_hello_never_panics_and_never_shows_another_name(
        body in prop::collection::vec(any::<u8>(), 0..200),
        extensions in prop::collection::vec((prop_oneof![Just(0_u16), any::<u16>()], prop::collection::vec(any::<u8>(), 0..20)), 0..6),
    ) {
        compare(&records(&message(&body), 1 << 14), false);
        compare(&records(&hello(&extensions), 1 << 14), false);
    }
}
