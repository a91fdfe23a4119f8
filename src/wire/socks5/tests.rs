use proptest::prelude::*;

use super::*;

fn asked(command: Command, target: &str) -> Parsed<Asked> {
    Parsed::Message(Asked { command, target: Ok(Target::connect(target).expect(target)) }, 0)
}

/// The same with the length left out, which the rows below do not repeat.
fn shape(parsed: Parsed<Asked>) -> Parsed<Asked> {
    match parsed {
        Parsed::Message(asked, _) => Parsed::Message(asked, 0),
        other => other,
    }
}

fn by_name(name: &[u8], port: u16) -> Vec<u8> {
    [&[5, 1, 0, 3, u8::try_from(name.len()).expect("a byte")], name, &port.to_be_bytes()].concat()
}

#[test]
fn a_request_is_read_as_rfc_1928_writes_it() {
    let rows: Vec<(Vec<u8>, Parsed<Asked>)> = vec![
        (vec![5, 1, 0, 1, 192, 0, 2, 9, 1, 187], asked(Command::Connect, "192.0.2.9:443")),
        (by_name(b"Git.Example", 443), asked(Command::Connect, "git.example:443")),
        (by_name(b"git.example.", 22), asked(Command::Connect, "git.example:22")),
        (by_name(b"192.0.2.9", 22), asked(Command::Connect, "192.0.2.9:22")),
        (
            [&[5, 1, 0, 4][..], &[0x20, 1, 0xd, 0xb8], &[0; 11], &[7, 0, 80]].concat(),
            asked(Command::Connect, "[2001:db8::7]:80"),
        ),
        (vec![5, 2, 0, 1, 192, 0, 2, 9, 1, 187], asked(Command::Bind, "192.0.2.9:443")),
        (vec![5, 3, 0, 1, 192, 0, 2, 9, 0, 53], asked(Command::UdpAssociate, "192.0.2.9:53")),
        (vec![5, 0, 0, 1, 192, 0, 2, 9, 0, 53], asked(Command::Unknown(0), "192.0.2.9:53")),
        (vec![5, 1, 0, 2, 9, 9, 9, 9, 9, 9], Parsed::AddressType),
        (vec![5, 1, 0, 0], Parsed::AddressType),
        (vec![4], Parsed::Malformed("the request does not begin with the version of SOCKS5")),
        (vec![5, 1, 1], Parsed::Malformed("the reserved byte of the request is not zero")),
        (vec![], Parsed::NeedMore(4)),
        (vec![5, 1, 0], Parsed::NeedMore(4)),
        (vec![5, 1, 0, 1], Parsed::NeedMore(10)),
        (vec![5, 1, 0, 4], Parsed::NeedMore(22)),
        (vec![5, 1, 0, 3], Parsed::NeedMore(7)),
        (vec![5, 1, 0, 3, 4, b'a'], Parsed::NeedMore(11)),
    ];
    for (bytes, want) in rows {
        assert_eq!(shape(request(&bytes)), want, "{bytes:?}");
    }
}

#[test]
fn a_target_that_is_none_is_told_with_its_bytes() {
    let long = [b"a".repeat(63), b"b".repeat(63), b"c".repeat(63), b"d".repeat(63)].join(&b'.');
    let rows: [(&[u8], u16, TargetError, &[u8]); 12] = [
        (b"", 443, TargetError::EmptyHost, b":443"),
        (b"a.example", 0, TargetError::Port, b"a.example:0"),
        (b"a\0.example", 443, TargetError::Character, b"a\0.example:443"),
        (b"a.example\r\n", 443, TargetError::Character, b"a.example\r\n:443"),
        (b"\xffa.example", 443, TargetError::Character, b"\xffa.example:443"),
        (b"a.example..", 443, TargetError::EmptyLabel, b"a.example..:443"),
        (b"0x7f.1", 443, TargetError::IpSpelling, b"0x7f.1:443"),
        (b"127.1", 443, TargetError::IpSpelling, b"127.1:443"),
        (b"u@a.example", 443, TargetError::UserInfo, b"u@a.example:443"),
        (b"::1", 443, TargetError::Brackets, b"::1:443"),
        // A second spelling of an address, which has a kind of its own.
        (b"[::1]", 443, TargetError::Character, b"[::1]:443"),
        (&long, 443, TargetError::NameTooLong, &[long.as_slice(), b":443"].concat()),
    ];
    assert_eq!(long.len(), 255, "the longest that fits");
    for (name, port, error, raw) in rows {
        let bytes = by_name(name, port);
        let Parsed::Message(Asked { target, .. }, length) = request(&bytes) else { panic!("{bytes:?}") };
        assert_eq!(target, Err(Unfit { error, raw: raw.into() }), "{}", name.escape_ascii());
        assert_eq!(length, bytes.len());
    }
}

#[test]
fn a_greeting_tells_the_methods_that_are_known_here() {
    let methods = |no_password, password| Methods { no_password, password };
    let rows: [(&[u8], Parsed<Methods>); 10] = [
        (&[5, 1, 0], Parsed::Message(methods(true, false), 3)),
        (&[5, 2, 0, 2], Parsed::Message(methods(true, true), 4)),
        (&[5, 3, 1, 2, 3, 9], Parsed::Message(methods(false, true), 5)),
        (&[5, 1, 1], Parsed::Message(methods(false, false), 3)),
        (&[], Parsed::NeedMore(2)),
        (&[5], Parsed::NeedMore(2)),
        (&[5, 3, 0], Parsed::NeedMore(5)),
        (&[5, 0, 0], Parsed::Malformed("the client offers no method, not even that of no password")),
        (
            &[4, 1],
            Parsed::Malformed(
                "the client speaks SOCKS4, which has no names: use socks5h:// in the proxy URL",
            ),
        ),
        (b"GET", Parsed::Malformed("the first byte is not the version of SOCKS5")),
    ];
    for (bytes, want) in rows {
        assert_eq!(greeting(bytes), want, "{bytes:?}");
    }
    let all = [&[5, 255][..], &[1; 254], &[2]].concat();
    assert_eq!(greeting(&all), Parsed::Message(methods(false, true), 257));
}

#[test]
fn a_login_has_a_user_and_a_password() {
    let login_of = |user: &[u8], password: &[u8]| Login { user: user.into(), password: password.into() };
    let rows: [(&[u8], Parsed<Login>); 8] = [
        (b"\x01\x01u\x01p", Parsed::Message(login_of(b"u", b"p"), 5)),
        (b"\x01\x01u\x01p\x05\x01", Parsed::Message(login_of(b"u", b"p"), 5)),
        (b"\x01\x00\x00", Parsed::Message(login_of(b"", b""), 3)),
        (b"", Parsed::NeedMore(3)),
        (b"\x01", Parsed::NeedMore(3)),
        (b"\x01\x02u", Parsed::NeedMore(5)),
        (b"\x01\x01u\x02p", Parsed::NeedMore(6)),
        (b"\x05\x01", Parsed::Malformed("the client was asked for a password and sent something else")),
    ];
    for (bytes, want) in rows {
        assert_eq!(login(bytes), want, "{bytes:?}");
    }
    let longest = [&[1, 255][..], &[b'u'; 255], &[255], &[b'p'; 255]].concat();
    assert!(matches!(login(&longest), Parsed::Message(_, LONGEST)));
    assert!(!format!("{:?}", login(b"\x01\x01u\x01p")).contains("117"), "no byte of it is shown");
}

#[test]
fn the_answers_are_those_of_the_rfc() {
    assert_eq!(answer(Code::Succeeded), [5, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    assert_eq!(answer(Code::AddressTypeNotSupported)[..2], [5, 8]);
}

proptest! {
    /// A message means the same however it is split, what follows is not looked at, and what is waited for is never more than there is.
    #[test]
    fn no_shorter_prefix_is_a_message(bytes in proptest::collection::vec(
        prop_oneof![Just(5_u8), Just(1), Just(0), Just(3), Just(4), any::<u8>()], 0..40,
    )) {
        fn check<T: PartialEq + Clone + std::fmt::Debug>(bytes: &[u8], parse: fn(&[u8]) -> Parsed<T>) {
            match parse(bytes) {
                Parsed::Message(_, length) => {
                    let alone = bytes.get(..length).expect("no longer than what is there");
                    assert_eq!(parse(alone), parse(bytes));
                    for cut in 0..length {
                        let part = bytes.get(..cut).expect("no longer");
                        let Parsed::NeedMore(least) = parse(part) else { panic!("{cut} of {bytes:?}") };
                        assert!(cut < least && least <= length, "{cut} of {bytes:?}");
                    }
                }
                Parsed::NeedMore(least) => assert!(bytes.len() < least && least <= LONGEST, "{bytes:?}"),
                Parsed::Malformed(why) => assert!(!why.is_empty()),
                Parsed::AddressType => {}
            }
        }
        check(&bytes, greeting);
        check(&bytes, login);
        check(&bytes, request);
    }
}
