//! The first bytes in a tunnel: the ClientHello, and what pretends to be one.

use super::super::case::{Case, Expect, Harm, Step, case, connect};
use super::super::hello::{self, ECH, OK, naming, records, server_names, sni};

const MISMATCH: Expect = Expect::Alert(112, "sni_mismatch");
const NO_SNI: Expect = Expect::Alert(112, "no_sni");
const MALFORMED: Expect = Expect::Alert(50, "client_hello_malformed");
const NOT_TLS: Expect = Expect::Close("not_tls");

pub(super) fn cases() -> Vec<Case> {
    [names_in_the_hello(), pieces(), second_hellos(), no_hello(), early_data()].concat()
}

/// An encrypted_client_hello extension of the outer kind; GREASE looks the same (RFC 9849 §6.2).
fn ech() -> (u16, Vec<u8>) {
    (ECH, [&[0, 0, 1, 0, 1, 7][..], &hello::vector16(&[9; 32]), &hello::vector16(&[5; 144])].concat())
}

fn names_in_the_hello() -> Vec<Case> {
    let ok = |what, bytes: Vec<u8>, expect| (what, bytes, expect);
    let rows: Vec<(u8, &str, Vec<u8>, Expect)> = [
        (1, ok("a stranger's name under the same pattern", naming(b"x.s3.amazonaws.com"), MISMATCH)),
        (1, ok("a name that no rule lists", naming(b"evil.test"), MISMATCH)),
        (1, ok("the host with more behind it", naming(format!("{OK}.evil.test").as_bytes()), MISMATCH)),
        (1, ok("the host with more before it", naming(format!("x.{OK}").as_bytes()), MISMATCH)),
        (
            6,
            ok(
                "a name that is not the host beside ECH",
                hello::with(vec![sni("evil.test"), ech()]),
                MISMATCH,
            ),
        ),
        (6, ok("ECH and no outer name", hello::with(vec![ech()]), NO_SNI)),
        (7, ok("no server name", hello::with(vec![]), NO_SNI)),
        (
            7,
            ok(
                "no extensions at all, as before TLS 1.2",
                records(&hello::message(&hello::prefix()), 1 << 14),
                NO_SNI,
            ),
        ),
        (7, ok("an empty list of names", hello::with(vec![(0, vec![0, 0])]), MALFORMED)),
        (7, ok("an empty name", naming(b""), MALFORMED)),
        (8, ok("two trailing dots", naming(format!("{OK}..").as_bytes()), MALFORMED)),
        (8, ok("a dot alone", naming(b"."), MALFORMED)),
        (8, ok("a dot behind an address", naming(b"52.119.196.1."), MALFORMED)),
        (8, ok("a dot behind another name", naming(b"evil.test."), MISMATCH)),
        (8, ok("an address", naming(b"52.119.196.1"), MALFORMED)),
        (8, ok("an IPv6 address", naming(b"::1"), MALFORMED)),
        (8, ok("a NUL behind the host", naming(format!("{OK}\0.evil.test").as_bytes()), MALFORMED)),
        (8, ok("a NUL before the host", naming(format!("evil.test\0.{OK}").as_bytes()), MALFORMED)),
        (8, ok("a port", naming(format!("{OK}:443").as_bytes()), MALFORMED)),
        (8, ok("a space", naming(format!("{OK} ").as_bytes()), MALFORMED)),
        (
            8,
            ok(
                "a Cyrillic letter",
                naming("git-codecommit.us-east-1.\u{430}mazonaws.com".as_bytes()),
                MALFORMED,
            ),
        ),
        (
            8,
            ok(
                "two names, the host first",
                hello::with(vec![(0, server_names(&[(0, OK.as_bytes()), (0, b"evil.test")]))]),
                MALFORMED,
            ),
        ),
        (
            8,
            ok(
                "two names, the host last",
                hello::with(vec![(0, server_names(&[(0, b"evil.test"), (0, OK.as_bytes())]))]),
                MALFORMED,
            ),
        ),
        (8, ok("the extension twice", hello::with(vec![sni(OK), sni("evil.test")]), MALFORMED)),
        (
            8,
            ok(
                "a name of another type",
                hello::with(vec![(0, server_names(&[(1, OK.as_bytes())]))]),
                MALFORMED,
            ),
        ),
        (
            8,
            ok(
                "bytes behind the list",
                hello::with(vec![(0, [server_names(&[(0, OK.as_bytes())]), vec![0]].concat())]),
                MALFORMED,
            ),
        ),
    ]
    .into_iter()
    .map(|(row, (what, bytes, expect))| (row, what, bytes, expect))
    .collect();
    let mut cases: Vec<Case> = rows
        .into_iter()
        .map(|(row, what, bytes, expect)| case(row, what).tunnel(OK, bytes).expect(expect))
        .collect();
    cases.push(
        case(2, "another Host inside TLS")
            .send(connect(OK))
            .then(Step::Established)
            .then(Step::Tls(OK, b"GET / HTTP/1.1\r\nHost: other.test\r\n\r\n".to_vec()))
            .expect(Expect::Flows)
            .harm(Harm::Inside(b"Host: other.test".to_vec()))
            .unstoppable(),
    );
    cases.push(
        case(6, "the host beside ECH, which may be GREASE")
            .tunnel(OK, hello::with(vec![sni(OK), ech()]))
            .passes(Expect::Flows),
    );
    cases.push(
        case(8, "one trailing dot").tunnel(OK, naming(format!("{OK}.").as_bytes())).passes(Expect::Flows),
    );
    cases.push(
        case(8, "upper case").tunnel(OK, naming(OK.to_ascii_uppercase().as_bytes())).passes(Expect::Flows),
    );
    cases
}

/// How a hello may be split.
fn pieces() -> Vec<Case> {
    let in_tunnel = |row, what| case(row, what).send(connect(OK)).then(Step::Established);
    let message = hello::hello(&[sni(OK), (13, vec![0, 2, 4, 3])]);
    let evil = hello::hello(&[sni("evil.test"), (13, vec![0, 2, 4, 3])]);
    let long = hello::real(OK);
    let mut with_empty = records(&message[..40], 40);
    with_empty.extend([22, 3, 1, 0, 0]);
    with_empty.extend(records(&message[40..], 1 << 14));
    let mut two_messages = message.clone();
    two_messages.extend_from_slice(&evil);
    vec![
        in_tunnel(9, "post-quantum, one byte a segment")
            .trickle(hello::post_quantum(), 1)
            .passes(Expect::Flows),
        in_tunnel(9, "another name, one byte a segment").trickle(naming(b"evil.test"), 1).expect(MISMATCH),
        in_tunnel(9, "cut one byte before its end")
            .send(&long[..long.len() - 1])
            .then(Step::Fin)
            .expect(MALFORMED),
        in_tunnel(9, "another name behind 8 KiB of other extensions")
            .send(hello::with(vec![(21, vec![0; 8192]), sni("evil.test")]))
            .expect(MISMATCH),
        in_tunnel(10, "in records of 20 bytes").send(records(&message, 20)).passes(Expect::Flows),
        in_tunnel(10, "another name, in records of 20 bytes").send(records(&evil, 20)).expect(MISMATCH),
        in_tunnel(10, "another name, in records of one byte").send(records(&evil, 1)).expect(MALFORMED),
        in_tunnel(10, "an empty record in between").send(with_empty).expect(MALFORMED),
        in_tunnel(10, "a thousand records of one byte, and no end")
            .send(records(&[&[1, 0, 60, 0][..], &[3; 2000]].concat(), 1))
            .expect(MALFORMED),
        in_tunnel(10, "a message of 16 MB")
            .send(records(&[1, 255, 255, 255, 3, 3], 1 << 14))
            .expect(MALFORMED),
        in_tunnel(10, "a record of 64 KB")
            .send([&[22, 3, 1, 255, 255][..], &message].concat())
            .expect(MALFORMED),
        in_tunnel(10, "a second hello in the same record")
            .send(records(&two_messages, 1 << 14))
            .expect(MALFORMED),
        in_tunnel(10, "a record of another kind in between")
            .send(
                [records(&message[..40], 40), vec![21, 3, 1, 0, 2, 1, 0], records(&message[40..], 1 << 14)]
                    .concat(),
            )
            .expect(MALFORMED),
        in_tunnel(10, "a message of another kind")
            .send(records(&[&[2][..], &message[1..]].concat(), 1 << 14))
            .expect(MALFORMED),
    ]
}

/// After a HelloRetryRequest the client sends a second hello.
fn second_hellos() -> Vec<Case> {
    let host = "retry.amazonaws.com";
    let again = |what, bytes: Vec<u8>, expect| {
        case(11, what)
            .tunnel(host, naming(host.as_bytes()))
            .then(Step::Heard)
            .send([bytes, b"EXFIL".to_vec()].concat())
            .expect(expect)
            .harm(Harm::Bytes(b"EXFIL".to_vec()))
    };
    let ccs = [20, 3, 3, 0, 1, 1];
    let zero_rtt = [23, 3, 3, 0, 4, 1, 2, 3, 4];
    vec![
        again("another name", naming(b"evil.test"), MISMATCH),
        again("no name", hello::with(vec![]), NO_SNI),
        again("another name behind change_cipher_spec", [&ccs[..], &naming(b"evil.test")].concat(), MISMATCH),
        again("another name behind early data", [&zero_rtt[..], &naming(b"evil.test")].concat(), MISMATCH),
        again("no hello but a finished handshake", vec![22, 3, 3, 0, 4, 20, 0, 0, 0], MALFORMED),
    ]
}

/// Bytes that are not a hello.
fn no_hello() -> Vec<Case> {
    let in_tunnel = |row, what, bytes: &[u8], expect| case(row, what).tunnel(OK, bytes).expect(expect);
    let sslv2 = [&[0x80, 0x2e, 1, 3, 1, 0, 0x15, 0, 0, 0, 0x10][..], &[7; 37]].concat();
    let mut sslv2_name = vec![0x80, 0x40, 1, 3, 3];
    sslv2_name.extend_from_slice(&naming(OK.as_bytes()));
    let mimic = "mimic.amazonaws.com";
    vec![
        in_tunnel(12, "an SSLv2 hello", &sslv2, NOT_TLS),
        in_tunnel(12, "an SSLv2 header before a TLS hello", &sslv2_name, NOT_TLS),
        in_tunnel(13, "SSH", b"SSH-2.0-OpenSSH_9.2\r\n", NOT_TLS),
        in_tunnel(13, "HTTP", b"GET / HTTP/1.1\r\nHost: {OK}\r\n\r\n", NOT_TLS),
        in_tunnel(13, "a record of application data", &[23, 3, 3, 0, 5, 1, 2, 3, 4, 5], NOT_TLS),
        in_tunnel(13, "an alert", &[21, 3, 3, 0, 2, 1, 0], NOT_TLS),
        in_tunnel(
            13,
            "a line end before the hello",
            &[b"\r\n".to_vec(), naming(OK.as_bytes())].concat(),
            NOT_TLS,
        ),
        in_tunnel(13, "a TLS record of version 9", &[22, 9, 9, 0, 5, 1, 0, 0, 1, 0], NOT_TLS),
        case(14, "silence")
            .send(connect(OK))
            .then(Step::Established)
            .expect(Expect::Close("client_hello_timeout")),
        case(14, "half a hello")
            .tunnel(OK, &naming(OK.as_bytes())[..50])
            .expect(Expect::Close("client_hello_timeout")),
        case(14, "a server that speaks first")
            .send(connect("serverfirst.amazonaws.com"))
            .then(Step::Established)
            .expect(Expect::Close("client_hello_timeout"))
            .harm(Harm::Told(b"SSH-2.0-server".to_vec())),
        case(15, "a hello to a server that then speaks something else")
            .tunnel(mimic, [naming(mimic.as_bytes()), b"EXFIL".to_vec()].concat())
            .expect(Expect::Alert(49, "upstream_not_tls"))
            .harm(Harm::Bytes(b"EXFIL".to_vec())),
        case(15, "the same, what the server says")
            .tunnel(mimic, naming(mimic.as_bytes()))
            .expect(Expect::Alert(49, "upstream_not_tls"))
            .harm(Harm::Told(b"SSH-2.0-mimic".to_vec())),
    ]
}

/// CONNECT and hello in one segment.
fn early_data() -> Vec<Case> {
    let right = hello::real(OK);
    let cut = right.len() / 2;
    let with = |host: &str, bytes: &[u8]| [connect(host), bytes.to_vec()].concat();
    vec![
        case(54, "another name in the segment of CONNECT")
            .send(with(OK, &naming(b"evil.test")))
            .then(Step::Established)
            .expect(MISMATCH),
        case(54, "no TLS in the segment of CONNECT")
            .send(with(OK, b"SSH-2.0-OpenSSH_9.2\r\n"))
            .then(Step::Established)
            .expect(NOT_TLS),
        case(54, "a hello behind a CONNECT that is denied")
            .send(with("{EVIL}", &naming(b"evil.test")))
            .refused(403, "host_not_allowed"),
        case(54, "the right hello in the segment of CONNECT")
            .send(with(OK, &right))
            .then(Step::Established)
            .passes(Expect::Flows),
        case(54, "half of it in the segment of CONNECT")
            .send(with(OK, &right[..cut]))
            .then(Step::Established)
            .send(&right[cut..])
            .passes(Expect::Flows),
    ]
}
