//! The ClientHello: the verdict does not depend on how the bytes are split, and rustls never reads another name than egressd.

use std::io::Cursor;

use egressd::wire::client_hello::{ClientHelloReader, Progress};
use egressd::wire::server_hello::{Answer, ServerHelloReader};
use rustls::server::Acceptor;

/// Checks the first bytes of a tunnel; and once more as if the target had sent them.
pub fn check(bytes: &[u8]) {
    let whole = ClientHelloReader::new().read(bytes);
    let mut reader = ClientHelloReader::new();
    let mut cut = Progress::NeedMore;
    for end in 1..=bytes.len() {
        cut = reader.read(bytes.get(..end).expect("it is within"));
        if cut != Progress::NeedMore {
            break;
        }
    }
    assert_eq!(cut, whole, "byte by byte");
    if let Progress::Hello(hello) = &whole {
        let ours = hello.sni.as_ref().map(ToString::to_string);
        let theirs = rustls_reads(bytes.get(..hello.length).expect("it ends within"));
        // egressd may let pass what rustls refuses: the target will refuse it.
        if let Some(theirs) = theirs {
            assert_eq!(ours, theirs);
        }
    }

    let whole = ServerHelloReader::new().push(bytes);
    let mut reader = ServerHelloReader::new();
    let mut cut = Answer::NeedMore;
    for byte in bytes {
        match reader.push(std::slice::from_ref(byte)) {
            Answer::NeedMore => {}
            // The bytes after it count, too.
            Answer::Retry => cut = Answer::Retry,
            answer => {
                cut = answer;
                break;
            }
        }
    }
    assert_eq!(cut, whole, "byte by byte, as a ServerHello");
}

/// `None`: an error. `Some(None)`: a hello without a name.
fn rustls_reads(bytes: &[u8]) -> Option<Option<String>> {
    let mut acceptor = Acceptor::default();
    let mut left = Cursor::new(bytes);
    loop {
        match acceptor.read_tls(&mut left) {
            Ok(0) => panic!("rustls needs more than the hello"),
            Ok(_) => {}
            Err(_) => return None,
        }
        match acceptor.accept() {
            Ok(None) => {}
            Ok(Some(accepted)) => {
                // egressd takes one trailing dot off; rustls refuses two.
                let name = accepted.client_hello().server_name().map(str::to_ascii_lowercase);
                return Some(name.map(|name| name.strip_suffix('.').unwrap_or(&name).to_owned()));
            }
            Err(_) => return None,
        }
    }
}
