//! Our parser of SOCKS5 and that of another library read the same bytes. What ours takes for a message, the other takes for the same
//! one, of the same length; what ours refuses and the other takes is refused for one of the causes that are named here.

use std::io::Cursor;
use std::net::SocketAddr;

use egressd::wire::socks5::{self, Asked, Command, Login, Parsed};
use egressd::words::target::Host;
use fast_socks5::Socks5Command;
use fast_socks5::server::{PasswordAuthentication, Socks5ServerProtocol};
use fast_socks5::util::target_addr::TargetAddr;
use proptest::prelude::*;

/// The bytes of a client, and nobody who reads the answers.
fn stream(bytes: &[u8]) -> tokio::io::Join<Cursor<Vec<u8>>, tokio::io::Sink> {
    tokio::io::join(Cursor::new(bytes.to_vec()), tokio::io::sink())
}

fn run<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(future)
}

fn their_request(bytes: &[u8]) -> Option<(Command, TargetAddr)> {
    run(async {
        let protocol = Socks5ServerProtocol::skip_auth_this_is_not_rfc_compliant(stream(bytes));
        let (_, command, target) = protocol.read_command().await.ok()?;
        let command = match command {
            Socks5Command::TCPConnect => Command::Connect,
            Socks5Command::TCPBind => Command::Bind,
            Socks5Command::UDPAssociate => Command::UdpAssociate,
        };
        Some((command, target))
    })
}

fn their_login(bytes: &[u8]) -> Option<(String, String)> {
    let all = [&[5, 1, 2], bytes].concat();
    run(async {
        let protocol = Socks5ServerProtocol::start(stream(&all));
        let started = protocol.negotiate_auth(&[PasswordAuthentication]).await.ok()?;
        let (user, password, _) = started.read_username_password().await.ok()?;
        Some((user, password))
    })
}

fn same(host: &Host, port: u16, theirs: &TargetAddr) -> bool {
    match (host, theirs) {
        (Host::Address(address), TargetAddr::Ip(at)) => SocketAddr::new(*address, port) == *at,
        // An address in the place of a name, and a name before it is canonical.
        (host, TargetAddr::Domain(name, at)) => {
            *at == port && name.trim_end_matches('.').eq_ignore_ascii_case(&host.to_string())
        }
        (Host::Name(_), TargetAddr::Ip(_)) => false,
    }
}

/// A byte that is often the right one.
fn byte(right: u8) -> impl Strategy<Value = u8> {
    prop_oneof![20 => Just(right), 1 => any::<u8>()]
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        "[a-zA-Z0-9.-]{0,20}".prop_map(String::into_bytes),
        "([a-z]{1,63}\\.){1,3}[a-z]{1,20}\\.?".prop_map(|name| name
            .into_bytes()
            .into_iter()
            .take(255)
            .collect()),
        "[0-9]{1,3}(\\.[0-9]{1,3}){3}".prop_map(String::into_bytes),
        proptest::collection::vec(any::<u8>(), 0..=255),
    ]
}

fn request() -> impl Strategy<Value = Vec<u8>> {
    let address = prop_oneof![
        proptest::collection::vec(any::<u8>(), 4).prop_map(|octets| [vec![1], octets].concat()),
        proptest::collection::vec(any::<u8>(), 16).prop_map(|octets| [vec![4], octets].concat()),
        name().prop_map(|name| [vec![3, u8::try_from(name.len()).expect("at most 255")], name].concat()),
        proptest::collection::vec(any::<u8>(), 0..20),
    ];
    let head = (byte(5), prop_oneof![20 => Just(1_u8), 5 => 0..=4_u8, 1 => any::<u8>()], byte(0));
    let port = prop_oneof![any::<u16>(), Just(443), Just(0)];
    (head, address, port, proptest::collection::vec(any::<u8>(), 0..8)).prop_map(
        |((version, command, reserved), address, port, rest)| {
            [vec![version, command, reserved], address, port.to_be_bytes().to_vec(), rest].concat()
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn a_request_is_the_same_to_both(bytes in request()) {
        match socks5::request(&bytes) {
            Parsed::Message(Asked { command, target }, length) => {
                let whole = their_request(&bytes[..length]);
                prop_assert_eq!(their_request(&bytes[..length - 1]), None, "it is no shorter");
                match (command, &target) {
                    (Command::Unknown(_), _) => prop_assert_eq!(whole, None),
                    (command, Ok(target)) => {
                        let (theirs, at) = whole.expect("we are the stricter");
                        prop_assert_eq!(theirs, command);
                        prop_assert!(same(&target.host, target.port.get(), &at), "{} {:?}", target, at);
                    }
                    // A port or a name that no CONNECT has.
                    (_, Err(_)) => {}
                }
            }
            Parsed::NeedMore(least) => {
                prop_assert!(least > bytes.len());
                prop_assert_eq!(their_request(&bytes), None);
            }
            // The other library does not look at the reserved byte.
            Parsed::Malformed(why) if why.contains("reserved") => prop_assert!(bytes[2] != 0),
            Parsed::Malformed(_) | Parsed::AddressType => prop_assert_eq!(their_request(&bytes), None),
        }
    }

    #[test]
    fn a_login_is_the_same_to_both(
        version in byte(1),
        user in name(),
        password in name(),
        cut in 0..600_usize,
    ) {
        let field = |field: &[u8]| [&[u8::try_from(field.len()).expect("at most 255")], field].concat();
        let mut bytes = [vec![version], field(&user), field(&password)].concat();
        bytes.truncate(cut.max(1));
        match socks5::login(&bytes) {
            Parsed::Message(Login { user, password }, length) => {
                prop_assert_eq!(length, bytes.len());
                let theirs = their_login(&bytes);
                let texts = (std::str::from_utf8(&user), std::str::from_utf8(&password));
                match texts {
                    (Ok(user), Ok(password)) if !user.is_empty() && !password.is_empty() => {
                        prop_assert_eq!(theirs, Some((user.to_owned(), password.to_owned())));
                    }
                    // Ours judges what is empty or of another charset where it compares passwords.
                    _ => prop_assert_eq!(theirs, None),
                }
            }
            Parsed::NeedMore(_) => prop_assert_eq!(their_login(&bytes), None),
            // The other library does not look at the version.
            Parsed::Malformed(_) => prop_assert!(version != 1),
            Parsed::AddressType => prop_assert!(false, "it has no address"),
        }
    }
}
