//! The target of a request: host, port, scheme, and every way to write one so that it is read as another one.

use super::super::case::{Case, Expect, Harm, Step, case, connect, connect_to, get};
use super::super::catalogue::PTR;
use super::super::hello::{OK, naming, real};

pub(super) fn cases() -> Vec<Case> {
    [schemes_and_ports(), spellings(), addresses_as_hosts(), look_alikes(), lookups()].concat()
}

fn bad(row: u8, what: impl Into<String>, bytes: impl AsRef<[u8]>) -> Case {
    case(row, what).send(bytes).refused(400, "bad_target")
}

fn denied(row: u8, what: impl Into<String>, bytes: impl AsRef<[u8]>) -> Case {
    case(row, what).send(bytes).refused(403, "host_not_allowed")
}

fn schemes_and_ports() -> Vec<Case> {
    let port = |row, what, bytes: Vec<u8>| case(row, what).send(bytes).refused(403, "port_not_allowed");
    let scheme = |what, bytes: Vec<u8>| case(17, what).send(bytes).refused(403, "scheme_not_allowed");
    let mut cases = vec![
        case(16, "CONNECT to the port of plain HTTP")
            .send(connect_to("{OK}:{WEB}"))
            .then(Step::Established)
            .send(real(OK))
            .expect(Expect::Alert(49, "scheme_not_allowed")),
        case(16, "plain HTTP to the port of TLS")
            .send(get("http://{OK}:{TLS}/", ""))
            .refused(403, "scheme_not_allowed"),
        case(16, "GET of an https URI")
            .send(get("https://{OK}:{TLS}/", ""))
            .refused(403, "scheme_not_allowed"),
        scheme("urn:", get("urn:x:y", "")),
        scheme("ftp:", get("ftp://{OK}/", "")),
        scheme("gopher:", get("gopher://{OK}:{WEB}/", "")),
        scheme("wais:", get("wais://{OK}:{WEB}/", "")),
        scheme("file:", get("file:///etc/passwd", "")),
        scheme("ws:", get("ws://{OK}:{WEB}/", "")),
        scheme("http with more behind it", get("http2://{OK}:{WEB}/", "")),
        bad(17, "http: without its slashes", get("http:{OK}:{WEB}/", "")),
        bad(17, "an https URI for CONNECT", "CONNECT https://{OK}:{TLS} HTTP/1.1\r\nHost: {OK}\r\n\r\n"),
        bad(18, "the allowed host as user", connect_to("{OK}@{EVIL}:{TLS}")),
        bad(18, "host and port as user", connect_to("{OK}:{TLS}@{EVIL}:{TLS}")),
        bad(18, "a user of the allowed host", connect_to("user@{OK}:{TLS}")),
        bad(18, "in a URI", get("http://{OK}@{EVIL}:{WEB}/", "")),
        bad(18, "with a password in a URI", get("http://user:pw@{OK}:{WEB}/", "")),
        bad(18, "behind a backslash", get("http://{EVIL}:{WEB}\\@{OK}:{WEB}/", "")),
        port(20, "SSH's port", connect_to("{OK}:{OTHER}")),
        port(20, "SMTP's port", connect_to("{OK}:25")),
        port(20, "plain HTTP to another port", get("http://{OK}:{OTHER}/", "")),
    ];
    for spelling in [
        "0",
        "65536",
        "00{TLS}",
        "+{TLS}",
        "{TLS}x",
        "4294967739",
        "-1",
        "0x1bb",
        "4e2",
        "",
        "{TLS}.0",
        "18446744073709552059",
    ] {
        cases.push(bad(
            19,
            format!("CONNECT to port '{spelling}'"),
            connect_to(format!("{{OK}}:{spelling}")),
        ));
    }
    cases.push(bad(19, "a port that is a colon", connect_to("{OK}::{TLS}")));
    cases.push(bad(19, "no port", "CONNECT {OK} HTTP/1.1\r\nHost: {OK}\r\n\r\n"));
    for spelling in ["00{WEB}", "+{WEB}", "{WEB}x", "65536", "4294967376", ""] {
        cases.push(bad(
            19,
            format!("a URI with port '{spelling}'"),
            get(format!("http://{{OK}}:{spelling}/"), ""),
        ));
    }
    cases
}

fn spellings() -> Vec<Case> {
    let label = "a".repeat(64);
    let long = format!("{0}.{0}.{0}.{1}.amazonaws.com", "a".repeat(63), "a".repeat(49));
    let mut cases = vec![
        case(25, "one dot behind the host").tunnel("{OK}.", naming(OK.as_bytes())).passes(Expect::Flows),
        bad(25, "two dots behind the host", connect("{OK}..")),
        bad(25, "a dot before the host", connect(".{OK}")),
        bad(25, "an empty label", connect("git-codecommit..amazonaws.com")),
        denied(25, "a dot behind a name that is not listed", connect("{EVIL}.")),
        bad(26, "the host in brackets", connect_to("[{OK}]:{TLS}")),
        bad(26, "a name that is not listed, in brackets", connect_to("[{EVIL}]:{TLS}")),
        bad(26, "an IPv4 address in brackets", connect_to("[127.0.0.1]:{TLS}")),
        bad(26, "a bracket that is not closed", connect_to("[::1:{TLS}")),
        bad(26, "something behind the bracket", connect_to("[::1]{OK}:{TLS}")),
        bad(26, "in a URI", get("http://[{OK}]:{WEB}/", "")),
        case(27, "a NUL before the allowed end")
            .send(connect("{EVIL}\0.amazonaws.com"))
            .refused(400, "bad_request"),
        case(27, "a tab before the allowed end")
            .send(connect("{EVIL}\t.amazonaws.com"))
            .refused(400, "bad_target"),
        case(27, "a space before the allowed end")
            .send(connect("{EVIL} .amazonaws.com"))
            .refused(400, "bad_request"),
    ];
    for odd in [
        "%00", "%2e", "%23", "\\", "/", "?", "#", ";", ",", "&", "\"", "*", "$(id)", "`id`", "{", "|", "'",
        "^",
    ] {
        cases.push(bad(
            27,
            format!("'{odd}' before the allowed end"),
            connect(format!("{{EVIL}}{odd}.amazonaws.com")),
        ));
    }
    cases.push(bad(27, "a letter of the host as %61", connect("git-codecommit.us-east-1.%61mazonaws.com")));
    cases.push(bad(27, "a fragment", get("http://{OK}:{WEB}/#x", "")));
    cases.push(bad(27, "the dot of a URI's host as %2e", get("http://{EVIL}%2eamazonaws.com:{WEB}/", "")));
    for (what, host) in [
        ("a Cyrillic letter", "git-codecommit.us-east-1.\u{430}mazonaws.com"),
        ("an ideographic full stop", "{EVIL}\u{3002}amazonaws.com"),
        ("a fullwidth letter", "git-codecommit.us-east-1.\u{ff41}mazonaws.com"),
        ("a soft hyphen", "git-codecommit.us-east-1.ama\u{ad}zonaws.com"),
        ("a zero-width space", "{EVIL}\u{200b}.amazonaws.com"),
    ] {
        cases.push(bad(28, what, connect(host)));
    }
    cases.push(bad(
        28,
        "a byte that is no UTF-8",
        [&b"CONNECT a\x80.amazonaws.com:{TLS} HTTP/1.1\r\nHost: {OK}\r\n\r\n"[..]].concat(),
    ));
    cases.push(denied(
        28,
        "the homograph as an A-label",
        connect("git-codecommit.us-east-1.xn--mazonaws-66g.com"),
    ));
    cases.extend([
        bad(29, "a label of 64 bytes", connect(format!("{label}.amazonaws.com"))),
        bad(29, "a name of 255 bytes", connect(long)),
        bad(29, "a name of 8 KB", connect(format!("{}amazonaws.com", "a.".repeat(4096)))),
        bad(29, "a hyphen at the end of a label", connect("a-.amazonaws.com")),
        case(29, "an underscore")
            .tunnel("_x.amazonaws.com", naming(b"_x.amazonaws.com"))
            .passes(Expect::Flows),
        case(29, "a label of 63 bytes")
            .tunnel(
                &format!("{}.amazonaws.com", "a".repeat(63)),
                naming(format!("{}.amazonaws.com", "a".repeat(63)).as_bytes()),
            )
            .passes(Expect::Flows),
    ]);
    cases
}

fn addresses_as_hosts() -> Vec<Case> {
    let mut cases = Vec::new();
    for spelling in [
        "2130706433",
        "0x7f000001",
        "0x7f.1",
        "0177.0.0.1",
        "127.1",
        "127.0.1",
        "127.0.0.1.",
        "127.0.0.01",
        "127.0.0.0x1",
        "017700000001",
        "0x7f.0x0.0x0.0x1",
        "256.0.0.1",
        "1.2.3.4.5",
        "4294967295",
        "0",
    ] {
        cases.push(bad(30, format!("CONNECT to {spelling}"), connect(spelling)));
    }
    cases.push(bad(30, "2130706433 in a URI", get("http://2130706433:{WEB}/", "")));
    cases.extend([
        denied(31, "an address", connect("{EVILIP}")),
        denied(31, "the address of the allowed host", connect("{OKIP}")),
        denied(31, "an IPv6 address", connect("[2001:4860:4860::8888]")),
        denied(31, "an address in a URI", get("http://{EVILIP}:{WEB}/", "")),
        denied(31, "loopback", connect("127.0.0.1")),
        bad(32, "a zone as a URI writes it", connect("[fe80::1%25eth0]")),
        bad(32, "a zone as a shell writes it", connect("[fe80::1%eth0]")),
        bad(32, "a zone that is a name", connect("[::1%.amazonaws.com]")),
    ]);
    // Another address for the test whether it is looked up, because the earlier one is in a cache.
    for (what, way, address, again) in [
        ("an address with a PTR record that fits", "CONNECT", "127.0.0.9", "127.0.0.10"),
        ("the same in a URI", "GET", "127.0.0.11", "127.0.0.12"),
    ] {
        let bytes = |address: &str| match way {
            "GET" => get(format!("http://{address}:{{WEB}}/"), ""),
            _ => connect(address),
        };
        cases.push(denied(PTR, what, bytes(address)));
        let asked = Harm::Asked("in-addr.arpa".to_owned());
        cases.push(denied(PTR, format!("{what}: is it looked up"), bytes(again)).harm(asked));
    }
    cases.push(denied(PTR, "the same on a port that no rule allows", connect_to("127.0.0.13:{OTHER}")));
    cases
}

fn look_alikes() -> Vec<Case> {
    let strangers = |host: &str| {
        case(23, host)
            .tunnel(host, naming(host.as_bytes()))
            .expect(Expect::Flows)
            .harm(Harm::Elsewhere)
            .unstoppable()
    };
    vec![
        denied(21, "letters before the domain", connect("evilamazonaws.com")),
        denied(21, "the domain before another", connect("amazonaws.com.{EVIL}")),
        denied(21, "the host before another", connect("{OK}.{EVIL}")),
        denied(21, "a hyphen for the dot", connect("x-amazonaws.com")),
        denied(21, "plain, letters before the domain", get("http://evilamazonaws.com:{WEB}/", "")),
        strangers("ec2-203-0-113-9.compute-1.amazonaws.com"),
        strangers("bucket.s3.amazonaws.com"),
        strangers("abc.execute-api.us-east-1.amazonaws.com"),
        denied(24, "the domain itself", connect("amazonaws.com")),
        denied(24, "the domain itself with a dot behind it", connect("amazonaws.com.")),
        denied(24, "the domain above", connect("com")),
    ]
}

fn lookups() -> Vec<Case> {
    let asked = |part: &str| Harm::Asked(part.to_owned());
    vec![
        denied(33, "a single label", connect("kubernetes")).harm(asked("kubernetes")),
        denied(33, "a service's short name", connect("kubernetes.default")).harm(asked("kubernetes")),
        denied(33, "localhost", connect("localhost")),
        case(33, "a name that is not there, to be completed")
            .send(connect("nx.amazonaws.com"))
            .refused(502, "dns_no_such_name")
            .harm(asked("amazonaws.com.cluster.local")),
        denied(66, "a name that is not listed carries data", connect("mfrggzdfmy2tqnzz.{EVIL}"))
            .harm(asked("mfrggzdfmy2tqnzz")),
        denied(66, "the same in a URI", get("http://mfrggzdfmy2tqnzz.{EVIL}:{WEB}/", ""))
            .harm(asked("mfrggzdfmy2tqnzz")),
        bad(66, "a target that is none carries data", connect_to("mfrggzdfmy2tqnzz.{EVIL}"))
            .harm(asked("mfrggzdfmy2tqnzz")),
        case(66, "a name under a wide pattern carries data")
            .send(connect("mfrggzdfmy2tqnzz.amazonaws.com"))
            .then(Step::Established)
            .send(naming(b"mfrggzdfmy2tqnzz.amazonaws.com"))
            .expect(Expect::Flows)
            .harm(asked("mfrggzdfmy2tqnzz"))
            .unstoppable(),
    ]
}
