//! Tunnels through parents with scripted answers, over real sockets.

use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::config::load_bytes;

/// The parent of a configuration with these keys under `upstream_proxy`, with `ca` as the content of every file but
/// the credentials.
fn parent(keys: &str, ca: &str) -> Parent {
    let read = |path: &std::path::Path| match path.ends_with("parent.cred") {
        true => Ok(b"egressd:s3cret\n".to_vec()),
        false => Ok(ca.as_bytes().to_vec()),
    };
    let text = format!("policies: []\nupstream_proxy: {{{keys}}}\n");
    let config =
        load_bytes("test.yaml", text.as_bytes(), read).unwrap_or_else(|told| panic!("{told:?}")).config;
    Parent::new(&config.upstream_proxy.unwrap(), &config.certificates.roots).unwrap()
}

async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let connecting = TcpSocket::new_v4().unwrap().connect(listener.local_addr().unwrap());
    let (near, far) = tokio::join!(connecting, listener.accept());
    (near.unwrap(), far.unwrap().0)
}

fn target() -> Target {
    Target::connect("a.example.com:8443").unwrap()
}

/// Reads a request's head, sends the pieces one by one, and returns the request.
fn answering(mut far: TcpStream, pieces: Vec<Vec<u8>>) -> JoinHandle<String> {
    tokio::spawn(async move {
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            request.push(far.read_u8().await.unwrap());
        }
        far.set_nodelay(true).unwrap();
        for piece in pieces {
            far.write_all(&piece).await.unwrap();
            // So that it arrives alone. The outcome is the same where it does not.
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        far.shutdown().await.unwrap();
        String::from_utf8(request).unwrap()
    })
}

/// The result for an answer, what is left in the connection after it, and the request.
async fn asked(parent: &Parent, pieces: Vec<Vec<u8>>) -> (Result<(), ParentError>, Vec<u8>, String) {
    let (near, far) = pair().await;
    let parent_side = answering(far, pieces);
    let mut stream = UpstreamStream::Bare(near);
    let result = parent.connect(&mut stream, &target()).await;
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.unwrap();
    (result, rest, parent_side.await.unwrap())
}

const PLAIN: &str = "url: \"http://proxy.corp:3128\"";
const OK: &str = "HTTP/1.1 200 Connection established\r\nVia: 1.1 parent\r\n\r\n";

#[tokio::test]
async fn a_tunnel_is_asked_for_with_the_credentials_and_nothing_else() {
    let (result, _, request) = asked(&parent(PLAIN, ""), vec![OK.into()]).await;
    assert_eq!(result, Ok(()));
    assert_eq!(request, "CONNECT a.example.com:8443 HTTP/1.1\r\nHost: a.example.com:8443\r\n\r\n");
    let with = parent(&format!("{PLAIN}, credentials_file: parent.cred"), "");
    let (_, _, request) = asked(&with, vec![OK.into()]).await;
    assert_eq!(
        request,
        "CONNECT a.example.com:8443 HTTP/1.1\r\nHost: a.example.com:8443\r\n\
         Proxy-Authorization: Basic ZWdyZXNzZDpzM2NyZXQ=\r\n\r\n"
    );
}

/// Sends this and then waits, as a server does that expects another protocol.
async fn asked_of_one_that_waits(answer: &[u8]) -> Result<(), ParentError> {
    let (near, mut far) = pair().await;
    far.write_all(answer).await.unwrap();
    let parent = parent(PLAIN, "");
    let mut stream = UpstreamStream::Bare(near);
    let asked = tokio::time::timeout(Duration::from_secs(10), parent.connect(&mut stream, &target())).await;
    asked.unwrap_or_else(|_| panic!("{:?}: waits for more", String::from_utf8_lossy(answer)))
}

#[tokio::test]
async fn what_cannot_become_an_answer_is_refused_at_once() {
    let rows: [&[u8]; 14] = [
        b"SSH-2.0-OpenSSH_9.9\r\n",
        b"220 mail.corp ESMTP\r\n",
        b"\x16\x03\x03\0\x02",
        b"\x05",
        b"\r\n",
        b"\n",
        b"HTTP/2.0 200 OK\r\n",
        b"HTTP/1.1 200 OK\r\r",
        b"HTTP/1.1 200 OK\r\nVia: 1.1 parent\rX: y\r",
        b"HTTP/1.1 abc\r\n",
        b"HTTP/1.1 200 OK\r\n folded\r\n",
        b"HTTP/1.1 200 OK\r\nX : y\r\n",
        b"HTTP/1.1 200 OK\nnonsense\n",
        b"http/1.1 200 OK\r\n",
    ];
    for answer in rows {
        let error = asked_of_one_that_waits(answer).await.unwrap_err();
        assert_eq!(error, ParentError::bad(MALFORMED), "{:?}", String::from_utf8_lossy(answer));
    }
    for answer in ["HTTP/1.1 200 OK\n\n", "HTTP/1.1 200\r\n\r\n", "HTTP/1.1 204 No Content\nX: y\n\r\n"] {
        assert_eq!(asked_of_one_that_waits(answer.as_bytes()).await, Ok(()), "{answer:?}");
    }
}

#[tokio::test]
async fn every_answer_but_a_2xx_is_a_refusal() {
    let refused = Reason::UpstreamProxyRefused;
    let bad = Reason::UpstreamBadResponse;
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "X: y\r\n".repeat(MAX_FIELDS + 1));
    let long = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "y".repeat(MAX_HEAD));
    let interim = "HTTP/1.1 100 Continue\r\n\r\n".repeat(MAX_INTERIM + 1) + OK;
    let rows: &[(&str, Option<(Reason, &str)>)] = &[
        (OK, None),
        ("HTTP/1.0 200 OK\r\n\r\n", None),
        ("HTTP/1.1 200 OK\n\n", None),
        ("HTTP/1.1 200 OK\nVia: 1.1 parent\n\n", None),
        ("HTTP/1.1 200 OK\r\nVia: 1.1 parent\n\r\n", None),
        ("HTTP/1.1 100 Continue\n\nHTTP/1.1 200 OK\n\n", None),
        ("HTTP/1.1 403 Forbidden\n\nno", Some((refused, "answered 403"))),
        ("HTTP/1.1 299 \r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", None),
        ("HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", None),
        ("HTTP/1.1 403 Forbidden\r\n\r\nno", Some((refused, "answered 403"))),
        ("HTTP/1.1 302 Found\r\nLocation: http://portal/\r\n\r\n", Some((refused, "answered 302"))),
        ("HTTP/1.1 503 Unavailable\r\n\r\n", Some((refused, "answered 503"))),
        ("HTTP/1.1 407 Who\r\n\r\n", Some((refused, "answered 407: it wants credentials"))),
        ("HTTP/1.1 101 Switching\r\n\r\n", Some((bad, "switched to another protocol"))),
        ("SSH-2.0-OpenSSH\r\n\r\n", Some((bad, "did not answer in well-formed HTTP/1"))),
        ("HTTP/1.1 2000 OK\r\n\r\n", Some((bad, "did not answer in well-formed HTTP/1"))),
        ("HTTP/1.1 200 OK\r\n", Some((bad, "closed the connection before it answered"))),
        ("", Some((bad, "closed the connection before it answered"))),
        (&many, Some((bad, "did not answer in well-formed HTTP/1"))),
        (&long, Some((bad, "the head of its answer is longer than 16384 bytes"))),
        (&interim, Some((bad, "sent more than 8 interim answers"))),
    ];
    for (answer, want) in rows {
        let (result, ..) = asked(&parent(PLAIN, ""), vec![(*answer).into()]).await;
        let shown = answer.get(..40).unwrap_or(answer);
        match (result, want) {
            (Ok(()), None) => {}
            (Err(error), Some((reason, detail))) => {
                assert_eq!(error.reason, *reason, "{shown:?}: {error:?}");
                assert!(error.detail.starts_with(detail), "{shown:?}: {error:?}");
            }
            (result, want) => panic!("{shown:?}: {result:?}, not {want:?}"),
        }
    }
    let with = parent(&format!("{PLAIN}, credentials_file: parent.cred"), "");
    let (result, ..) = asked(&with, vec!["HTTP/1.1 407 Who\r\n\r\n".into()]).await;
    assert_eq!(result.unwrap_err().detail, "answered 407: it refuses the credentials in `credentials_file`");
}

#[tokio::test]
async fn t54_what_the_target_sends_after_the_200_is_kept_wherever_the_answer_is_cut() {
    for head in [OK, "HTTP/1.1 200 OK\nX: y\n\n"] {
        let said = [head.as_bytes(), b"SSH-2.0-target\r\n\r\nmore"].concat();
        let behind = &said[head.len()..];
        for cut in 1..said.len() {
            let (one, two) = said.split_at(cut);
            let (result, rest, _) = asked(&parent(PLAIN, ""), vec![one.to_vec(), two.to_vec()]).await;
            assert_eq!((result, rest.as_slice()), (Ok(()), behind), "cut at {cut}");
        }
        let pieces = said.iter().map(|byte| vec![*byte]).collect();
        let (result, rest, _) = asked(&parent(PLAIN, ""), pieces).await;
        assert_eq!((result, rest.as_slice()), (Ok(()), behind), "a byte at a time");
    }
}

/// A parent that speaks TLS with a certificate for `name` and sends `pieces`.
async fn tls_parent(name: &str, pieces: &'static [&'static [u8]]) -> (String, TcpStream, JoinHandle<bool>) {
    let own = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(own.signing_key.serialize_der());
    let mut config =
        rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![own.cert.der().clone()], key.into())
            .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let (near, far) = pair().await;
    let serving = tokio::spawn(async move {
        let Ok(mut stream) = TlsAcceptor::from(Arc::new(config)).accept(far).await else { return false };
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            request.push(stream.read_u8().await.unwrap());
        }
        for piece in pieces {
            stream.write_all(piece).await.unwrap();
            stream.flush().await.unwrap();
        }
        let _ = stream.shutdown().await;
        true
    });
    (own.cert.pem(), near, serving)
}

#[tokio::test]
async fn an_https_parent_must_prove_its_name() {
    const PIECES: &[&[u8]] = &[b"HTTP/1.1 200 OK\r\n", b"\r\nearly", b" bytes"];
    let keys = "url: \"https://proxy.corp:3129\", ca: ca.pem";

    let (ca, near, serving) = tls_parent("proxy.corp", PIECES).await;
    let parent_of = parent(keys, &ca);
    let mut stream = parent_of.secure(near).await.unwrap();
    assert_eq!(parent_of.connect(&mut stream, &target()).await, Ok(()));
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.unwrap();
    assert_eq!(rest, b"early bytes");
    assert!(serving.await.unwrap());

    // Another name, and an authority that is not configured.
    let (ca, near, serving) = tls_parent("other.corp", PIECES).await;
    let error = parent(keys, &ca).secure(near).await.unwrap_err();
    assert_eq!(error.reason, Reason::UpstreamBadResponse);
    assert!(error.detail.contains("certificate"), "{error:?}");
    assert!(!serving.await.unwrap(), "it never saw a request or a password");
    let (_, near, _serving) = tls_parent("proxy.corp", PIECES).await;
    assert!(parent(keys, &ca).secure(near).await.is_err());

    // Cleartext where TLS is wanted.
    let (near, mut far) = pair().await;
    far.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
    assert!(parent(keys, &ca).secure(near).await.is_err());
}

#[test]
fn the_password_is_shown_nowhere() {
    let parent = parent(&format!("{PLAIN}, credentials_file: parent.cred"), "");
    let debug = format!("{parent:?} {:?}", parent.authorization());
    assert!(!debug.contains("s3cret") && !debug.contains("ZWdyZXNzZDp"), "{debug}");
}
