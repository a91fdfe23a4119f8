//! SOCKS5 as an attacker speaks it: malformed in every field, without the password, with the commands that are not served.

use std::time::Duration;

use serde_json::json;

use crate::support::socks::{GRANTED, answer, greeting, login, request};
use crate::support::{Egressd, End, Origin, config, directory, write};

fn speaking(text: &str, keys: &str) -> String {
    let bare = "{name: proxy, address: 127.0.0.1:0}";
    assert!(text.contains(bare), "the listener of `config` looks otherwise now");
    text.replace(bare, &format!("{{name: proxy, address: 127.0.0.1:0, protocols: [http, socks5]{keys}}}"))
}

/// A request for a name of these bytes.
fn by_name(name: &[u8], port: u16) -> Vec<u8> {
    [&[5, 1, 0, 3, u8::try_from(name.len()).expect("at most 255")], name, &port.to_be_bytes()].concat()
}

#[test]
fn t90_every_malformed_field_is_refused_and_nothing_reaches_a_target() {
    let origin = Origin::echo();
    let port = origin.port();
    let text = config(&[&format!("tcp://*.ok.test:{port}"), &format!("tcp://{}", origin.address())]);
    let proxy = Egressd::start(&speaking(&(text + "dns: {hosts: {a.ok.test: [127.0.0.1]}}\n"), ""));
    let longest =
        [b"a".repeat(63), b"b".repeat(63), b"c".repeat(63), b"d".repeat(55), b"ok.test".to_vec()].join(&b'.');
    assert_eq!(longest.len(), 255);
    let v4 = |head: &[u8]| [head, &[127, 0, 0, 1], &port.to_be_bytes()].concat();
    // What comes after the greeting, the code of the answer, and the reason.
    let rows: Vec<(&str, Vec<u8>, u8, &str)> = vec![
        ("the version of the request", v4(&[4, 1, 0, 1]), 1, "bad_request"),
        ("the reserved byte", v4(&[5, 1, 7, 1]), 1, "bad_request"),
        ("a kind of address of which there is none", v4(&[5, 1, 0, 2]), 8, "bad_target"),
        ("BIND", v4(&[5, 2, 0, 1]), 7, "method_not_allowed"),
        ("UDP ASSOCIATE", v4(&[5, 3, 0, 1]), 7, "method_not_allowed"),
        ("no command", v4(&[5, 0, 0, 1]), 7, "method_not_allowed"),
        ("a command of Tor", v4(&[5, 0xf0, 0, 1]), 7, "method_not_allowed"),
        ("port 0", by_name(b"a.ok.test", 0), 1, "bad_target"),
        ("an empty name", by_name(b"", port), 1, "bad_target"),
        ("a name of 255 bytes", by_name(&longest, port), 1, "bad_target"),
        ("a NUL", by_name(b"evil.test\0.ok.test", port), 1, "bad_target"),
        ("an escape", by_name(b"%61.ok.test", port), 1, "bad_target"),
        ("a line end", by_name(b"a.ok.test\r\nX: y", port), 1, "bad_target"),
        ("a port in the name", by_name(b"a.ok.test:443", port), 1, "bad_target"),
        ("a user in the name", by_name(b"a.ok.test@evil.test", port), 1, "bad_target"),
        ("an address in brackets", by_name(b"[::1]", port), 1, "bad_target"),
        ("an address by another spelling", by_name(b"2130706433", port), 1, "bad_target"),
        ("two dots", by_name(b"a.ok.test..", port), 1, "bad_target"),
        ("letters that look alike", by_name("а.ok.test".as_bytes(), port), 1, "bad_target"),
        ("bytes of no charset", by_name(b"\xff\xfe.ok.test", port), 1, "bad_target"),
        (
            "a mapped address",
            [&[5, 1, 0, 4][..], &[0; 10], &[255, 255, 127, 0, 0, 2], &port.to_be_bytes()].concat(),
            2,
            "host_not_allowed",
        ),
    ];
    for (what, bytes, code, reason) in rows {
        let mut wire = proxy.connect();
        wire.send(greeting(&[0]));
        assert_eq!(wire.read_exact(2), [5, 0], "{what}");
        let before = proxy.records().len();
        wire.send(&bytes);
        assert_eq!(wire.read_to_end(), (answer(code), End::Fin), "{what}");
        crate::support::until(what, || (proxy.records().len() > before).then_some(()));
        let records = proxy.records();
        let record = records.last().expect("the last one");
        record
            .assert_has(&json!({"event": "deny", "reason": reason, "protocol": "socks5", "upstream": null}));
    }
    // Before the request.
    let rows: [(&str, &[u8], &[u8]); 4] = [
        ("no method", &[5, 0], &[5, 0xff]),
        ("methods of others alone", &[5, 2, 1, 0x80], &[5, 0xff]),
        ("version 4", b"\x04\x01\x01\xbb\x7f\0\0\x01\0", &[0, 0x5b, 0, 0, 0, 0, 0, 0]),
        ("version 4a", b"\x04\x01\x01\xbb\0\0\0\x01\0a.ok.test\0", &[0, 0x5b, 0, 0, 0, 0, 0, 0]),
    ];
    for (what, bytes, want) in rows {
        let mut wire = proxy.connect();
        wire.send(bytes);
        assert_eq!(wire.read_to_end(), (want.to_vec(), End::Fin), "{what}");
    }
    assert_eq!(origin.seen().len(), 0, "nothing reached the target");
    // The same name, well-formed, is served: the rows above are refused for their form.
    let mut wire = proxy.connect();
    wire.send([greeting(&[0]), by_name(b"A.ok.test.", port)].concat());
    assert_eq!(wire.read_exact(12), [&[5, 0][..], &GRANTED].concat());
}

#[test]
fn t90_a_message_in_single_bytes_is_read_and_one_that_never_ends_is_not_waited_for() {
    let origin = Origin::echo();
    let text = config(&[&format!("tcp://{}", origin.address())]);
    let proxy = Egressd::start(&speaking(&text, ""));
    let mut wire = proxy.connect();
    let all = [greeting(&[1, 0]), request(&origin.address().to_string()), b"x".to_vec()].concat();
    wire.send_in_pieces(all.chunks(1), Duration::from_millis(2));
    assert_eq!(wire.read_exact(13), [&[5, 0][..], &GRANTED, b"x"].concat());
    let proxy = Egressd::start(&(speaking(&text, "") + "limits: {head_timeout: 1s}\n"));
    for (sent, said) in
        [(&[5, 9, 0][..], vec![5, 0xff]), (&[5, 1, 0, 5, 1, 0, 3, 200], [vec![5, 0], answer(1)].concat())]
    {
        let mut wire = proxy.connect();
        wire.send(sent);
        assert_eq!(wire.read_to_end(), (said, End::Fin));
    }
    let late = |records: Vec<crate::support::Record>| {
        records.iter().filter(|r| r["reason"] == "head_timeout").count()
    };
    crate::support::until("both records", || (late(proxy.records()) == 2).then_some(()));
}

#[test]
fn t91_nobody_gets_past_the_password() {
    let origin = Origin::echo();
    let directory = directory();
    let hash = bcrypt::hash("right", 4).expect("a good cost");
    write(&directory.path().join("users"), format!("u:{hash}\n"));
    let text = config(&[&format!("tcp://{}", origin.address())]);
    let proxy = Egressd::start_in(directory, &speaking(&text, ", basic_auth: {users_file: users}"));
    let request = || request(&origin.address().to_string());
    let rows: Vec<(&str, Vec<u8>, Vec<u8>)> = vec![
        ("the request in the place of the password", [greeting(&[2]), request()].concat(), vec![5, 2, 1, 1]),
        ("the request behind an offer of no password", [greeting(&[0]), request()].concat(), vec![5, 0xff]),
        (
            "the request behind a wrong password",
            [greeting(&[2]), login("u", "wrong"), request()].concat(),
            vec![5, 2, 1, 1],
        ),
        ("an empty password", [greeting(&[2]), login("u", ""), request()].concat(), vec![5, 2, 1, 1]),
        ("an empty user", [greeting(&[2]), login("", "right"), request()].concat(), vec![5, 2, 1, 1]),
        (
            "a colon that moves the end of the user",
            [greeting(&[2]), login("u:right", ""), request()].concat(),
            vec![5, 2, 1, 1],
        ),
        (
            "a NUL that ends the password",
            [greeting(&[2]), login("u", "right\0"), request()].concat(),
            vec![5, 2, 1, 1],
        ),
        (
            "another version of the password",
            [greeting(&[2]), b"\x02\x01u\x05right".to_vec(), request()].concat(),
            vec![5, 2, 1, 1],
        ),
        ("a second greeting", [greeting(&[2]), greeting(&[0]), request()].concat(), vec![5, 2, 1, 1]),
    ];
    for (what, sent, said) in rows {
        let mut wire = proxy.connect();
        wire.send(sent);
        let (bytes, end) = wire.read_to_end();
        assert_eq!((bytes, end), (said, End::Fin), "{what}");
    }
    assert_eq!(origin.seen().len(), 0, "nothing reached the target");
    let mut wire = proxy.connect();
    wire.send([greeting(&[0, 2]), login("u", "right"), request()].concat());
    assert_eq!(wire.read_exact(14), [&[5, 2, 1, 0][..], &GRANTED].concat());
}
