//! The authority of a running egressd is replaced: without an outage, and without its leaves where it is another one.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use rustix::process::Signal;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, HandshakeKind, RootCertStore, StreamOwned};

use crate::support::{Egressd, TlsStream, Wire, run, until, write};
use crate::world::{HOST, World, get};

/// An authority of its own, as `egressd ca new` makes it.
fn ca_new(directory: &Path, name: &str) -> PathBuf {
    let out = directory.join(name);
    let made = run(&["ca", "new", "--permit", HOST, "--out", out.to_str().expect("ASCII")]);
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    out
}

/// egressd gets the authority; what it has of another is overwritten, one file after the other.
fn install(authority: &Path, directory: &Path) {
    for (from, to) in [("authority.crt", "ca.crt"), ("authority.key", "ca.key")] {
        write(&directory.join(to), fs::read(authority.join(from)).expect("made before"));
    }
}

/// A client that trusts the roots of these authorities, and keeps sessions.
fn trusting(authorities: &[&Path]) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    for authority in authorities {
        roots
            .add(CertificateDer::from_pem_file(authority.join("root.crt")).expect("PEM"))
            .expect("well-formed");
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider knows them");
    Arc::new(config.with_root_certificates(roots).with_no_client_auth())
}

/// A tunnel with the client's TLS in it.
fn open(proxy: &Egressd, port: u16, client: &Arc<ClientConfig>) -> io::Result<Wire<TlsStream>> {
    let tunnel = proxy.tunnel(&format!("{HOST}:{port}"));
    let name = ServerName::try_from(HOST).expect("a name");
    let conn = ClientConnection::new(Arc::clone(client), name).expect("a client");
    let mut stream = StreamOwned::new(conn, tunnel.into_stream());
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock)?;
    }
    Ok(Wire::through(stream))
}

/// One request in it, which must be answered.
fn ask(wire: &mut Wire<TlsStream>, port: u16) {
    wire.send(get(port, "/"));
    let reply = wire.read_reply();
    assert_eq!(reply.status, 200, "{reply:?}");
}

fn kind(wire: &Wire<TlsStream>) -> Option<HandshakeKind> {
    wire.stream().conn.handshake_kind()
}

fn leaves(proxy: &Egressd, result: &str) -> f64 {
    proxy.metrics().sum("egressd_leaf_certificates_total", &[("result", result)])
}

/// Asks for a reload, and waits until there is something new in force.
fn reload(proxy: &Egressd) {
    let before = proxy.stderr().matches("is in force").count();
    proxy.signal(Signal::HUP);
    until("the reload", || (proxy.stderr().matches("is in force").count() > before).then_some(()));
}

/// Says so when it is dropped.
struct Stop<'s>(&'s AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn an_authority_is_replaced_without_an_outage() {
    let world = World::new();
    let site = world.site();
    let port = site.port();
    let directory = world.directory();
    let (old, new) = (ca_new(directory.path(), "old"), ca_new(directory.path(), "new"));
    install(&old, directory.path());
    let proxy = Egressd::start_in(directory, &World::config(port, ""));

    // First, clients trust both roots.
    let both = trusting(&[&old, &new]);
    let mut kept = open(&proxy, port, &both).expect("the old authority is trusted");
    ask(&mut kept, port);
    assert!(open(&proxy, port, &trusting(&[&new])).is_err(), "the new authority has signed nothing yet");

    let (stop, asked) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        // Also where an assertion fails: the scope waits for its threads.
        let stopping = Stop(&stop);
        let asking = scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let client = trusting(&[&old, &new]);
                let mut stream = open(&proxy, port, &client).expect("both are trusted");
                ask(&mut stream, port);
                asked.fetch_add(1, Ordering::Relaxed);
            }
            asked.load(Ordering::Relaxed)
        });
        let asks_on = || {
            let before = asked.load(Ordering::Relaxed);
            until("another request", || (asked.load(Ordering::Relaxed) > before).then_some(()));
        };
        asks_on();
        // Then egressd gets the new one. While only one of the files is new, they do not fit: the old ones stay.
        install(&new, proxy.directory());
        reload(&proxy);
        let with_new = trusting(&[&new]);
        let mut stream = open(&proxy, port, &with_new).expect("the new authority signs");
        ask(&mut stream, port);
        asks_on();
        drop(stopping);
        assert!(asking.join().expect("no request failed") > 0);
    });

    // What was open goes on. A session that the old authority's leaf began is not resumed.
    ask(&mut kept, port);
    let mut again = open(&proxy, port, &both).expect("the new authority is trusted");
    assert_eq!(kind(&again), Some(HandshakeKind::Full));
    ask(&mut again, port);
    // Last, clients forget the old root: nothing needs it.
    assert!(open(&proxy, port, &trusting(&[&old])).is_err());
    assert!(open(&proxy, port, &trusting(&[&new])).is_ok());
}

#[test]
fn a_reload_that_brings_the_same_authority_keeps_its_leaves_and_sessions() {
    let world = World::new();
    let site = world.site();
    let port = site.port();
    let directory = world.directory();
    let authority = ca_new(directory.path(), "ca");
    install(&authority, directory.path());
    let text = World::config(port, "");
    let proxy = Egressd::start_in(directory, &text);
    let client = trusting(&[&authority]);
    ask(&mut open(&proxy, port, &client).expect("trusted"), port);
    assert_eq!((leaves(&proxy, "minted"), leaves(&proxy, "cached")), (1.0, 0.0));

    write(&proxy.file("egressd.yaml"), format!("{text}tunnel: {{idle_timeout: 30m}}\n"));
    reload(&proxy);
    let mut stream = open(&proxy, port, &client).expect("trusted");
    assert_eq!(kind(&stream), Some(HandshakeKind::Resumed));
    ask(&mut stream, port);
    assert_eq!((leaves(&proxy, "minted"), leaves(&proxy, "cached")), (1.0, 1.0));

    // Another life of leaves is another authority's.
    let shorter = text.replace("key: ca.key}", "key: ca.key, leaf_lifetime: 2h}");
    assert_ne!(shorter, text);
    write(&proxy.file("egressd.yaml"), shorter);
    reload(&proxy);
    let stream = open(&proxy, port, &client).expect("trusted");
    assert_eq!(kind(&stream), Some(HandshakeKind::Full));
    assert_eq!((leaves(&proxy, "minted"), leaves(&proxy, "cached")), (2.0, 1.0));
    let expires = proxy.metrics().sum("egressd_authority_expires_timestamp_seconds", &[]);
    assert!(expires > 1_800_000_000.0, "{expires}");
}
