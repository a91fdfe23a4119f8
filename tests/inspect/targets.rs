//! The target of an inspected tunnel proves its name before the client gets its `200`: otherwise there is a `502`, no leaf, and no byte
//! of the client goes to it.

use std::io::Write as _;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, KeyUsagePurpose, date_time_ymd};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ProducesTickets, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
use serde_json::json;

use crate::support::{Authority, Egressd, Origin, Wire, client_hello, config, directory, until, write};
use crate::world::{HOST, Site, World, get};

/// The settings of a target: what it shows, and its key.
fn server(chain: Vec<CertificateDer<'static>>, key: &[u8]) -> Arc<ServerConfig> {
    let key = PrivateKeyDer::try_from(key.to_vec()).expect("a key");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider knows them")
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .expect("the key is the certificate's");
    Arc::new(config)
}

/// A root, an intermediate that it signed, and a leaf of that one with changed parameters.
struct Chain {
    root: String,
    intermediate: CertificateDer<'static>,
    leaf: CertificateDer<'static>,
    key: Vec<u8>,
}

impl Chain {
    fn of(names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Self {
        let authority = || {
            let mut params = CertificateParams::default();
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
            (params, KeyPair::generate().expect("a key"))
        };
        let ((root, root_key), (mut middle, middle_key)) = (authority(), authority());
        middle.distinguished_name.push(rcgen::DnType::CommonName, "an intermediate");
        let own = root.self_signed(&root_key).expect("a root");
        let issuer = Issuer::new(root, root_key);
        let intermediate = middle.signed_by(&middle_key, &issuer).expect("an intermediate").der().clone();
        let issuer = Issuer::new(middle, middle_key);
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("names");
        change(&mut params);
        let key = KeyPair::generate().expect("a key");
        let leaf = params.signed_by(&key, &issuer).expect("a leaf").der().clone();
        Chain { root: own.pem(), intermediate, leaf, key: key.serialize_der() }
    }

    fn server(&self) -> Arc<ServerConfig> {
        server(vec![self.leaf.clone(), self.intermediate.clone()], &self.key)
    }
}

/// An egressd that trusts `roots` for targets and inspects `host`.
fn egressd(roots: &str, host: &str, port: u16, more: &str) -> (Egressd, Authority) {
    let inspection = Authority::new();
    let directory = directory();
    write(&directory.path().join("roots.pem"), roots);
    write(&directory.path().join("ca.crt"), inspection.pem());
    write(&directory.path().join("ca.key"), inspection.key_pem());
    let text = config(&[&format!("{{to: \"https://{host}:{port}\", inspect: true}}")])
        + &format!(
            "certificates: {{roots: roots.pem}}\ninspection: {{certificate: ca.crt, key: ca.key}}\n\
             dns: {{hosts: {{{host}: [127.0.0.1]}}}}\n{more}"
        );
    (Egressd::start_in(directory, &text), inspection)
}

/// The client sends its hello with its CONNECT, and gets this instead of a 200.
fn is_refused(proxy: &Egressd, host: &str, origin: &Origin, reason: &str) -> String {
    let authority = format!("{host}:{}", origin.port());
    let hello = client_hello(Some(host));
    let head = format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n");
    let refused = proxy.refuses([head.as_bytes(), &hello].concat(), 502, reason);
    refused.record.assert_has(&json!({
        "method": "CONNECT", "target": authority, "sni": null, "tunnel": null, "upstream": origin.address().to_string(),
    }));
    // Its random begins after the headers of record and message, and the version.
    let random = &hello[11..43];
    let seen = origin.wait_ended(origin.seen().len() - 1);
    assert!(
        !seen.bytes.windows(32).any(|window| window == random),
        "a byte of the client went to the target"
    );
    refused.reply.body
}

fn minted(proxy: &Egressd) -> u64 {
    proxy.metrics().count("egressd_leaf_certificates_total", &[])
}

#[test]
fn a_target_with_a_bad_certificate_is_a_502_without_a_leaf_and_without_a_byte_of_the_client() {
    let weak = |file: &str| {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/inspect/weak").join(file);
        std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    };
    let pem = |file: &str| CertificateDer::from_pem_slice(&weak(file)).expect("a certificate");
    let key = PrivateKeyDer::from_pem_slice(&weak("leaf.key")).expect("a key");
    let key = key.secret_der().to_vec();
    let text = |file: &str| String::from_utf8(weak(file)).expect("PEM");
    let good = Chain::of(&[HOST], |_| {});
    let wrong_name = Chain::of(&["b.test"], |_| {});
    let no_name = Chain::of(&[], |params| {
        params.distinguished_name.push(rcgen::DnType::CommonName, HOST);
    });
    let too_deep = Chain::of(&["*.test"], |_| {});
    let expired = Chain::of(&[HOST], |params| params.not_after = date_time_ymd(2020, 1, 1));
    let not_yet = Chain::of(&[HOST], |params| params.not_before = date_time_ymd(3000, 1, 1));
    let for_clients = Chain::of(&[HOST], |params| {
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    });
    let is_authority = Chain::of(&[HOST], |params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained));
    let stranger = Authority::new().pem().to_owned();
    let rows: Vec<(&str, &str, String, Arc<ServerConfig>, &str)> = vec![
        ("another name", HOST, wrong_name.root.clone(), wrong_name.server(), "b.test"),
        ("a common name alone", HOST, no_name.root.clone(), no_name.server(), ""),
        ("a wildcard two labels up", "x.a.test", too_deep.root.clone(), too_deep.server(), ""),
        ("expired", HOST, expired.root.clone(), expired.server(), "expired"),
        ("not yet valid", HOST, not_yet.root.clone(), not_yet.server(), "not valid yet"),
        ("for clients", HOST, for_clients.root.clone(), for_clients.server(), ""),
        ("an authority's own", HOST, is_authority.root.clone(), is_authority.server(), ""),
        ("an unknown authority", HOST, stranger, good.server(), ""),
        ("no intermediate", HOST, good.root.clone(), server(vec![good.leaf.clone()], &good.key), ""),
        ("self-signed", HOST, good.root.clone(), self_signed(), ""),
        ("SHA-1", HOST, text("ca.pem"), server(vec![pem("sha1-leaf.pem")], &key), ""),
        ("RSA of 1024 bits", HOST, text("rsa1024-ca.pem"), server(vec![pem("rsa1024-leaf.pem")], &key), ""),
    ];
    for (what, host, roots, server, told) in rows {
        let site = Site::start(server, |_| b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_vec());
        let (proxy, _) = egressd(&roots, host, site.port(), "");
        let body = is_refused(&proxy, host, site.origin(), "certificate_invalid");
        assert!(body.contains(told) && body.contains("certificate"), "{what}: {body}");
        assert_eq!(minted(&proxy), 0, "{what}");
        assert_eq!(site.got().len(), 0, "{what}");
        proxy.says("certificate_invalid");
    }
    // The same files with the good digest, so that the rows above fail for the reason that they name.
    for (what, roots, server) in [
        ("the chain", good.root.clone(), good.server()),
        ("SHA-256", text("ca.pem"), server(vec![pem("sha256-leaf.pem")], &key)),
    ] {
        let site = Site::start(server, |_| b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_vec());
        let (proxy, inspection) = egressd(&roots, HOST, site.port(), "");
        let mut wire =
            Wire::through(inspection.client(HOST, proxy.tunnel(&format!("{HOST}:{}", site.port()))));
        wire.send(get(site.port(), "/"));
        assert_eq!(wire.read_reply().status, 200, "{what}");
        assert_eq!(minted(&proxy), 1, "{what}");
    }
}

fn self_signed() -> Arc<ServerConfig> {
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new([HOST.to_owned()]).expect("a name");
    let certificate = params.self_signed(&key).expect("a certificate");
    server(vec![certificate.der().clone()], &key.serialize_der())
}

#[test]
fn a_target_that_does_not_speak_tls_is_a_502() {
    let world = World::new();
    for origin in
        [Origin::saying("SSH-2.0-OpenSSH_9.2\r\n"), Origin::saying("HTTP/1.1 400 Bad Request\r\n\r\n")]
    {
        let proxy = world.start(&World::config(origin.port(), ""));
        is_refused(&proxy, HOST, &origin, "upstream_not_tls");
        assert_eq!(minted(&proxy), 0);
    }
}

#[test]
fn a_target_that_is_silent_is_given_up_at_the_connect_timeout() {
    let world = World::new();
    let origin = Origin::silent();
    let proxy = world.start(&(World::config(origin.port(), "") + "tunnel: {connect_timeout: 300ms}\n"));
    is_refused(&proxy, HOST, &origin, "upstream_not_tls");
}

/// A target that asks for a certificate of its client.
fn demanding(
    world: &World,
    version: &'static rustls::SupportedProtocolVersion,
    optional: bool,
) -> Arc<ServerConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(world.targets.der().clone()).expect("well-formed");
    let issued = world.targets.issue(&[HOST]);
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
    let verifier = if optional { verifier.allow_unauthenticated() } else { verifier };
    let certificate = CertificateDer::from_pem_slice(issued.pem.as_bytes()).expect("a certificate");
    let key = PrivateKeyDer::from_pem_slice(issued.key_pem.as_bytes()).expect("a key");
    let config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .expect("the provider knows it")
        .with_client_cert_verifier(verifier.build().expect("roots"))
        .with_single_cert(vec![certificate], key)
        .expect("the key is the certificate's");
    Arc::new(config)
}

#[test]
fn a_target_that_demands_a_client_certificate_is_told_as_such() {
    let world = World::new();
    let wanted = "the target asks for a client certificate";
    // TLS 1.2: it ends the handshake.
    let site = Site::start(demanding(&world, &rustls::version::TLS12, false), |_| Vec::new());
    let proxy = world.egressd(&site, "");
    let body = is_refused(&proxy, HOST, site.origin(), "certificate_invalid");
    assert!(body.contains(wanted), "{body}");
    // TLS 1.3: it ends the connection after it.
    let site = Site::start(demanding(&world, &rustls::version::TLS13, false), |_| Vec::new());
    let proxy = world.egressd(&site, "");
    let mut wire = world.inside(&proxy, site.port());
    wire.send(get(site.port(), "/"));
    let refused = proxy.refused(wire, 502, "upstream_bad_response");
    assert!(refused.reply.body.contains(wanted), "{}", refused.reply.body);
    // One that can do without gets none.
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let answer = |_: &crate::world::Got| b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_vec();
        let site = Site::start(demanding(&world, version, true), answer);
        let proxy = world.egressd(&site, "");
        let mut wire = world.inside(&proxy, site.port());
        wire.send(get(site.port(), "/"));
        assert_eq!(wire.read_reply().status, 200);
    }
}

#[test]
fn a_target_may_agree_to_http1_or_to_nothing_and_one_that_speaks_http2_alone_is_refused() {
    let world = World::new();
    let with = |protocols: &[&str]| {
        let mut config = Arc::unwrap_or_clone(world.targets.issue(&[HOST]).server_config());
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        Site::start(Arc::new(config), |_| b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_vec())
    };
    for protocols in [&["h2", "http/1.1"][..], &["http/1.1"], &[]] {
        let site = with(protocols);
        let proxy = world.egressd(&site, "");
        let mut wire = world.inside(&proxy, site.port());
        wire.send(get(site.port(), "/"));
        assert_eq!(wire.read_reply().status, 200, "{protocols:?}");
    }
    let site = with(&["h2"]);
    let proxy = world.egressd(&site, "");
    is_refused(&proxy, HOST, site.origin(), "certificate_invalid");
}

#[test]
fn the_second_tunnel_resumes_the_targets_session_and_a_reload_of_the_roots_ends_that() {
    let world = World::new();
    let site = world.site();
    let proxy = world.egressd(&site, "");
    let ask = || {
        let mut wire = world.inside(&proxy, site.port());
        wire.send(get(site.port(), "/"));
        assert_eq!(wire.read_reply().status, 200);
        site.got().last().expect("one").resumed
    };
    assert!(!ask());
    assert!(ask() && ask());
    // The same authority, and another one with it.
    let roots = world.targets.pem().to_owned() + Authority::new().pem();
    write(&proxy.file("roots.pem"), roots);
    proxy.signal(rustix::process::Signal::HUP);
    let reloads = |count: usize| {
        until("the reload", || {
            (proxy.stderr().matches("is in force; 0 tunnels").count() == count).then_some(())
        });
    };
    reloads(1);
    assert!(!ask(), "verified by the new roots");
    assert!(ask());
    // Only another one: the session must not stand for a certificate that nobody trusts now.
    write(&proxy.file("roots.pem"), Authority::new().pem());
    proxy.signal(rustix::process::Signal::HUP);
    reloads(2);
    is_refused(&proxy, HOST, site.origin(), "certificate_invalid");
}

/// Tickets with so many bytes behind them.
#[derive(Debug)]
struct Padded {
    tickets: Arc<dyn ProducesTickets>,
    by: usize,
}

impl ProducesTickets for Padded {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        self.tickets.lifetime()
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        let mut ticket = self.tickets.encrypt(plain)?;
        ticket.resize(ticket.len() + self.by, 0);
        Some(ticket)
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        self.tickets.decrypt(ticket.get(..ticket.len().checked_sub(self.by)?)?)
    }
}

#[test]
fn a_target_with_very_large_tickets_is_not_resumed() {
    let world = World::new();
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        for (by, resumed) in [(3000, true), (6000, false)] {
            let mut config = demanding(&world, version, true);
            let tickets = rustls::crypto::aws_lc_rs::Ticketer::new().expect("random numbers");
            Arc::get_mut(&mut config).expect("its only owner").ticketer = Arc::new(Padded { tickets, by });
            let site = Site::start(config, |_| b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_vec());
            let proxy = world.egressd(&site, "");
            for again in [false, true] {
                let mut wire = world.inside(&proxy, site.port());
                wire.send(get(site.port(), "/"));
                assert_eq!(wire.read_reply().status, 200);
                let got = site.got().last().expect("one").resumed;
                assert_eq!(got, again && resumed, "{version:?} {by}");
            }
        }
    }
}

#[test]
fn sessions_of_one_host_are_not_offered_for_another_at_the_same_address() {
    let world = World::new();
    let site = Site::ok(&world.targets.issue(&[HOST, "b.test"]));
    let port = site.port();
    let rules = [HOST, "b.test"].map(|host| format!("{{to: \"https://{host}:{port}\", inspect: true}}"));
    let proxy = world.start(&(config(&[&rules[0], &rules[1]]) + &World::rest()));
    let ask = |host: &str| {
        let mut wire = Wire::through(world.inspection.client(host, proxy.tunnel(&format!("{host}:{port}"))));
        wire.send(format!("GET / HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n"));
        assert_eq!(wire.read_reply().status, 200);
        site.got().last().expect("one").resumed
    };
    assert_eq!([ask(HOST), ask("b.test"), ask(HOST), ask("b.test")], [false, false, true, true]);
}

#[test]
fn the_way_may_lead_through_parent_proxies() {
    let world = World::new();
    let site = world.site();
    let port = site.port();
    let parent_authority = Authority::new();
    for https in [false, true] {
        let directory = directory();
        let parent_certificate = parent_authority.issue(&["127.0.0.1"]);
        write(&directory.path().join("parent.crt"), &parent_certificate.pem);
        write(&directory.path().join("parent.key"), &parent_certificate.key_pem);
        let mut text = config(&[&format!("https://{HOST}:{port}")])
            + &format!("dns: {{hosts: {{{HOST}: [127.0.0.1]}}}}\n");
        if https {
            text = text.replace(
                "address: 127.0.0.1:0}]\nadmin",
                "address: 127.0.0.1:0, tls: {certificate: parent.crt, key: parent.key}}]\nadmin",
            );
        }
        let parent = Egressd::start_in(directory, &text);
        let scheme = if https { "https" } else { "http" };
        let upstream = format!(
            "upstream_proxy: {{url: \"{scheme}://{}\"{}}}\n",
            parent.address(),
            if https { ", ca: parent-ca.pem" } else { "" }
        );
        let own = world.directory();
        write(&own.path().join("parent-ca.pem"), parent_authority.pem());
        let proxy = Egressd::start_in(own, &(World::config(port, "") + &upstream));
        let mut wire = world.inside(&proxy, port);
        for path in ["/1", "/2"] {
            wire.send(get(port, path));
            assert_eq!(wire.read_reply().status, 200, "{scheme}");
        }
        let got = site.got();
        let last = got.last().expect("one");
        assert!(
            last.head.starts_with("GET /2 HTTP/1.1\r\n"),
            "origin-form, and not the parent's: {}",
            last.head
        );
        assert_eq!(last.field("proxy-authorization"), None);
        drop(wire);
        parent.record(|record| record["event"] == "close").assert_has(&json!({"sni": HOST}));
    }
}

#[test]
fn a_client_that_leaves_while_the_target_shakes_hands_is_noticed() {
    let world = World::new();
    let origin = Origin::silent();
    let proxy = world.start(&(World::config(origin.port(), "") + "tunnel: {connect_timeout: 1h}\n"));
    let mut wire = proxy.connect();
    let authority = format!("{HOST}:{}", origin.port());
    wire.send(format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n"));
    until("the handshake to begin", || origin.seen().first().filter(|seen| !seen.bytes.is_empty()).map(drop));
    drop(wire);
    origin.wait_ended(0);
    proxy.record(|record| record["reason"] == "client_gone");
}

#[test]
fn a_target_that_ends_the_connection_before_its_200_costs_the_client_no_byte() {
    let world = World::new();
    let origin = Origin::start(crate::support::any_port(), |mut conversation| {
        let mut some = [0; 5];
        std::io::Read::read_exact(&mut conversation, &mut some)?;
        conversation.write_all(&[21, 3, 3, 0, 2, 2, 40])?;
        conversation.finish()?;
        std::io::copy(&mut conversation, &mut std::io::sink()).map(drop)
    });
    let proxy = world.start(&World::config(origin.port(), ""));
    is_refused(&proxy, HOST, &origin, "certificate_invalid");
}
