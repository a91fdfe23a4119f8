//! Handshakes with the settings of a leaf, by rustls as the client.

use std::sync::{Arc, Mutex};

use rustls::client::{ClientSessionStore, Resumption, Tls12ClientSessionValue, Tls13ClientSessionValue};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, HandshakeKind, NamedGroup, RootCertStore, SupportedProtocolVersion};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::*;

/// A client that keeps the last session it got, and offers it to every server, whatever the name is.
#[derive(Debug, Default)]
struct OneSession {
    tls12: Mutex<Option<Tls12ClientSessionValue>>,
    tls13: Mutex<Vec<Tls13ClientSessionValue>>,
}

impl ClientSessionStore for OneSession {
    fn set_kx_hint(&self, _: ServerName<'static>, _: NamedGroup) {}

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        None
    }

    fn set_tls12_session(&self, _: ServerName<'static>, value: Tls12ClientSessionValue) {
        *self.tls12.lock().unwrap() = Some(value);
    }

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.tls12.lock().unwrap().clone()
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {}

    fn insert_tls13_ticket(&self, _: ServerName<'static>, value: Tls13ClientSessionValue) {
        self.tls13.lock().unwrap().push(value);
    }

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.tls13.lock().unwrap().pop()
    }
}

fn client(root: &str, version: &'static SupportedProtocolVersion) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(root.as_bytes()).unwrap()).unwrap();
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config.resumption = Resumption::store(Arc::new(OneSession::default()));
    Arc::new(config)
}

/// One handshake as `asked`, and one byte from the server, which comes after its tickets.
async fn shake(client: &Arc<ClientConfig>, leaf: &Leaf, asked: &str) -> Result<HandshakeKind, String> {
    let (near, far) = tokio::io::duplex(1 << 16);
    let acceptor = TlsAcceptor::from(Arc::clone(&leaf.config));
    let server = tokio::spawn(async move {
        let mut stream = acceptor.accept(far).await?;
        stream.write_all(b"x").await?;
        stream.shutdown().await
    });
    let asked = ServerName::try_from(asked.to_owned()).unwrap();
    let connecting = TlsConnector::from(Arc::clone(client)).connect(asked, near);
    let mut stream = Box::pin(connecting).await.map_err(|error| error.to_string())?;
    stream.read_u8().await.map_err(|error| error.to_string())?;
    server.await.unwrap().map_err(|error| error.to_string())?;
    let session = stream.get_ref().1;
    assert_eq!(session.alpn_protocol(), Some(&b"http/1.1"[..]));
    Ok(session.handshake_kind().unwrap())
}

#[tokio::test]
async fn a_leaf_is_accepted_for_its_name_and_shown_for_no_other() {
    let made = authority(&["example.com"]);
    let minter = minter(&made);
    let leaf = minter.leaf(&name("git.example.com"), CLIENT).await.unwrap();
    assert_eq!(leaf.config.max_early_data_size, 0);
    for version in [&TLS12, &TLS13] {
        let client = client(&made.root, version);
        assert_eq!(shake(&client, &leaf, "git.example.com").await, Ok(HandshakeKind::Full));
        for other in ["www.example.com", "example.com", "a.git.example.com", "203.0.113.9"] {
            // rustls asks the server for no name where it wants an address.
            let refused = shake(&client, &leaf, other).await.unwrap_err();
            assert!(refused.contains("AccessDenied"), "{other}: {refused}");
        }
    }
}

#[tokio::test]
async fn a_session_is_resumed_for_its_name_and_for_no_other() {
    let made = authority(&["example.com"]);
    let (minter, other_authority) = (minter(&made), minter(&made));
    let leaf = async |minter: &Minter, host: &str| minter.leaf(&name(host), CLIENT).await.unwrap();
    let (git, www) = (leaf(&minter, "git.example.com").await, leaf(&minter, "www.example.com").await);
    for version in [&TLS12, &TLS13] {
        let client = client(&made.root, version);
        assert_eq!(shake(&client, &git, "git.example.com").await, Ok(HandshakeKind::Full));
        assert_eq!(shake(&client, &git, "git.example.com").await, Ok(HandshakeKind::Resumed));
        // It offers the session of the other name.
        assert_eq!(shake(&client, &www, "www.example.com").await, Ok(HandshakeKind::Full));
        assert_eq!(shake(&client, &www, "www.example.com").await, Ok(HandshakeKind::Resumed));
        // What another authority gave, or this one before a restart, is worth nothing.
        let after = leaf(&other_authority, "www.example.com").await;
        assert_eq!(shake(&client, &after, "www.example.com").await, Ok(HandshakeKind::Full));
    }
}

#[test]
fn a_ticket_is_readable_for_its_name_alone() {
    let all = Ticketer::new().unwrap();
    let of = |text: &str| TicketsOfOneName { name: name(text), all: Arc::clone(&all) };
    let ticket = of("a.example").encrypt(b"a session").unwrap();
    assert_eq!(of("a.example").decrypt(&ticket), Some(b"a session".to_vec()));
    for other in ["b.example", "a.example.com", "a.exampl", "x.a.example"] {
        assert_eq!(of(other).decrypt(&ticket), None, "{other}");
    }
    let mut changed = ticket;
    *changed.last_mut().unwrap() ^= 1;
    assert_eq!(of("a.example").decrypt(&changed), None);
}
