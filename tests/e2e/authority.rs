//! What egressd signs, as other implementations of TLS see it: each accepts the leaf of a host that the authority may sign for, and
//! refuses what somebody else signs with the stolen key: for a host outside the name constraints, and for an address.
//!
//! The clients connect to a server of the test; whole inspected tunnels are in [`crate::inspected`].

use std::fs;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use egressd::transport::tls::PemFile;
use egressd::transport::tls::mint::{Authority, Minter};
use egressd::words::target::Name;
use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, date_time_ymd,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use tempfile::TempDir;

use crate::compiled;
use crate::support::{Origin, any_port, directory, run, write};
use crate::tool::{Ran, tool};

/// The host that is permitted, one that is not, and an address.
const HOST: &str = "git.example.com";
const OUTSIDE: &str = "git.example.org";
const ADDRESS: &str = "127.0.0.1";

/// An authority by its files: `root.crt`, `authority.crt`, `authority.key`.
struct Files {
    directory: PathBuf,
}

impl Files {
    /// As `egressd ca new` makes it.
    fn new(parent: &Path, more: &[&str]) -> Self {
        let directory = parent.join(format!("ca{}", more.len()));
        let out = directory.to_str().expect("ASCII");
        let made = run(&[&["ca", "new", "--permit", HOST, "--out", out], more].concat());
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        Files { directory }
    }

    /// The next one, under the same root.
    fn next(&self) -> Self {
        let (root, out) = (self.directory.to_str().expect("ASCII"), self.directory.join("next"));
        let made =
            run(&["ca", "new", "--permit", HOST, "--root", root, "--out", out.to_str().expect("ASCII")]);
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        fs::copy(self.root(), out.join("root.crt")).expect("copied");
        Files { directory: out }
    }

    /// One that may sign for everything: what it signs in the same way is accepted, so that a refusal is due to the constraints.
    fn without_constraints(parent: &Path) -> Self {
        let directory = parent.join("free");
        fs::create_dir(&directory).expect("new");
        let of = |name: &str, below: u8| {
            let mut params = CertificateParams::default();
            params.distinguished_name = DistinguishedName::new();
            params.distinguished_name.push(DnType::CommonName, name);
            params.not_before = date_time_ymd(2020, 1, 1);
            params.not_after = date_time_ymd(2049, 1, 1);
            params.is_ca = IsCa::Ca(BasicConstraints::Constrained(below));
            params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
            params.use_authority_key_identifier_extension = true;
            params
        };
        let (root, root_key) = (of("a free root", 1), KeyPair::generate().expect("a key"));
        let key = KeyPair::generate().expect("a key");
        write(&directory.join("root.crt"), root.self_signed(&root_key).expect("a certificate").pem());
        let own =
            of("a free authority", 0).signed_by(&key, &Issuer::new(root, root_key)).expect("a certificate");
        write(&directory.join("authority.crt"), own.pem());
        write(&directory.join("authority.key"), key.serialize_pem());
        Files { directory }
    }

    fn root(&self) -> PathBuf {
        self.directory.join("root.crt")
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.directory.join(name)).expect("made before")
    }

    /// What egressd shows for `HOST`.
    fn leaf(&self) -> Arc<ServerConfig> {
        let file = |name: &str| PemFile { path: PathBuf::from(name), bytes: self.read(name).into_bytes() };
        let loaded = Authority::from_pem(&file("authority.crt"), &file("authority.key"), Timestamp::now());
        let loaded = loaded.unwrap_or_else(|problems| panic!("{problems:?}"));
        let minter = Minter::new(loaded.authority, Duration::from_secs(86_400)).expect("a key");
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let name = Name::parse(HOST).expect("a name");
        runtime.block_on(minter.leaf(&name, IpAddr::V4(Ipv4Addr::LOCALHOST))).expect("permitted").config
    }

    /// What somebody else with the key signs, with all that clients want to see in it.
    fn forged(&self, host: &str) -> Arc<ServerConfig> {
        let own = KeyPair::from_pem(&self.read("authority.key")).expect("a key");
        let issuer = Issuer::from_ca_cert_pem(&self.read("authority.crt"), own).expect("a certificate");
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new([host.to_owned()]).expect("a host");
        params.distinguished_name = DistinguishedName::new();
        params.not_before = date_time_ymd(2026, 1, 1);
        params.not_after = date_time_ymd(2028, 1, 1);
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let leaf = params.signed_by(&key, &issuer).expect("a certificate");
        let above = CertificateDer::from_pem_slice(self.read("authority.crt").as_bytes()).expect("PEM");
        let key = PrivateKeyDer::try_from(key.serialize_der()).expect("PKCS #8");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the provider knows them")
            .with_no_client_auth()
            .with_single_cert(vec![leaf.der().clone(), above], key);
        Arc::new(config.expect("they fit"))
    }
}

/// With the stolen key of the authority, and with that of the root: what names a person, a service or an address is nothing to
/// OpenSSL, even where it is signed for a server.
#[test]
fn openssl_takes_no_mail_address_uri_or_address_under_the_root() {
    let home = directory();
    let (bound, free) = (Files::new(home.path(), &[]), Files::without_constraints(home.path()));
    let verify = |files: &Files, san: &str| -> Ran {
        let path = |name: &str| home.path().join(name);
        write(&path("san"), format!("subjectAltName={san}\nextendedKeyUsage=serverAuth\n"));
        let openssl = |arguments: &[&str], more: &[(&str, PathBuf)]| {
            let mut openssl = tool("openssl", home.path());
            openssl.args(arguments);
            more.iter().for_each(|(option, file)| {
                openssl.arg(option).arg(file);
            });
            Ran::of(&mut openssl)
        };
        let new_key =
            ["req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=x"];
        let made = openssl(&new_key, &[("-keyout", path("leaf.key")), ("-out", path("leaf.csr"))]);
        assert_eq!(made.code, Some(0), "{}", made.stderr);
        let own = |name: &str| files.directory.join(name);
        let signed = openssl(
            &["x509", "-req", "-days", "1", "-CAcreateserial"],
            &[
                ("-in", path("leaf.csr")),
                ("-CA", own("authority.crt")),
                ("-CAkey", own("authority.key")),
                ("-extfile", path("san")),
                ("-out", path("leaf.crt")),
            ],
        );
        assert_eq!(signed.code, Some(0), "{}", signed.stderr);
        let mut verify = tool("openssl", home.path());
        verify.arg("verify").arg("-CAfile").arg(files.root()).arg("-untrusted").arg(own("authority.crt"));
        Ran::of(verify.arg(path("leaf.crt")))
    };
    let permitted = verify(&bound, &format!("DNS:{HOST},DNS:a.{HOST}"));
    assert_eq!(permitted.code, Some(0), "{}", permitted.stderr);
    for san in [
        format!("email:a@{HOST}"),
        "email:a@mail.example".to_owned(),
        format!("URI:https://{HOST}/a"),
        "URI:https://evil.example/".to_owned(),
        "URI:spiffe://corp/gitaly".to_owned(),
        format!("DNS:{HOST},URI:spiffe://corp/gitaly"),
        format!("DNS:{HOST},email:a@b.example"),
        "IP:192.0.2.1".to_owned(),
    ] {
        let refused = verify(&bound, &san);
        assert_ne!(refused.code, Some(0), "{san}: {}", refused.stdout);
        assert!(refused.stderr.contains("subtree violation"), "{san}: {}", refused.stderr);
        let accepted = verify(&free, &san);
        assert_eq!(accepted.code, Some(0), "without constraints, {san}: {}", accepted.stderr);
    }
}

/// Says `ok` to every client that makes the handshake.
fn server(config: Arc<ServerConfig>) -> Origin {
    Origin::start(any_port(), move |conversation| {
        let conn = ServerConnection::new(Arc::clone(&config)).map_err(io::Error::other)?;
        let mut stream = StreamOwned::new(conn, conversation);
        stream.conn.complete_io(&mut stream.sock)?;
        // A client that only shakes hands sends nothing.
        let _ = stream.read(&mut [0; 4096]);
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nok\n")?;
        stream.conn.send_close_notify();
        stream.flush()?;
        stream.sock.finish()
    })
}

/// `shake` makes a handshake with the server at a port, as `host`, trusting one root; its status says whether it was accepted.
fn holds(client: &str, shake: impl Fn(&Path, &str, u16, &Path) -> Ran) {
    let home: TempDir = directory();
    let closed = Files::new(home.path(), &[]);
    let open_root = Files::new(home.path(), &["--open-root"]);
    let free = Files::without_constraints(home.path());
    let next = closed.next();
    let case = |files: &Files, config: Arc<ServerConfig>, host: &str, accepted: bool| {
        let server = server(config);
        let ran = shake(home.path(), host, server.port(), &files.root());
        let told = format!("{client}, {host}, {}: {}{}", files.directory.display(), ran.stdout, ran.stderr);
        assert_eq!(ran.code == Some(0), accepted, "{told}");
    };
    for files in [&closed, &open_root, &free] {
        case(files, files.leaf(), HOST, true);
        let is_free = std::ptr::eq(files, &raw const free);
        case(files, files.forged(HOST), HOST, true);
        case(files, files.forged(OUTSIDE), OUTSIDE, is_free);
        case(files, files.forged(ADDRESS), ADDRESS, is_free);
    }
    // The next authority of the same root.
    case(&next, next.leaf(), HOST, true);
    case(&next, next.forged(OUTSIDE), OUTSIDE, false);
    // The client looks at the name, too.
    case(&closed, closed.forged(HOST), "below.git.example.com", false);
}

#[test]
fn openssl_accepts_what_is_permitted_and_refuses_the_rest() {
    holds("openssl", |home, host, port, root| {
        let mut openssl = tool("openssl", home);
        openssl.args([
            "s_client",
            "-verify_return_error",
            "-x509_strict",
            "-connect",
            &format!("127.0.0.1:{port}"),
        ]);
        openssl.arg("-CAfile").arg(root);
        match host {
            ADDRESS => openssl.args(["-noservername", "-verify_ip", host]),
            _ => openssl.args(["-servername", host, "-verify_hostname", host]),
        };
        Ran::of(&mut openssl)
    });
}

#[test]
fn gnutls_accepts_what_is_permitted_and_refuses_the_rest() {
    holds("gnutls-cli", |home, host, port, root| {
        let mut gnutls = tool("gnutls-cli", home);
        gnutls.arg(format!("--x509cafile={}", root.display())).arg(format!("--verify-hostname={host}"));
        match host {
            ADDRESS => gnutls.arg("--disable-sni"),
            _ => gnutls.arg(format!("--sni-hostname={host}")),
        };
        Ran::of(gnutls.arg(format!("--port={port}")).arg("127.0.0.1"))
    });
}

#[test]
fn curl_accepts_what_is_permitted_and_refuses_the_rest() {
    holds("curl", |home, host, port, root| {
        let mut curl = tool("curl", home);
        curl.args([
            "--silent",
            "--show-error",
            "--noproxy",
            "*",
            "--resolve",
            &format!("{host}:{port}:127.0.0.1"),
        ]);
        Ran::of(curl.arg("--cacert").arg(root).arg(format!("https://{host}:{port}/")))
    });
}

#[test]
fn strict_python_accepts_what_is_permitted_and_refuses_the_rest() {
    let script = "import socket, ssl, sys\n\
                  host, port, root = sys.argv[1:]\n\
                  context = ssl.create_default_context(cafile=root)\n\
                  context.verify_flags |= ssl.VERIFY_X509_STRICT\n\
                  with socket.create_connection(('127.0.0.1', int(port)), 30) as plain:\n    \
                      with context.wrap_socket(plain, server_hostname=host) as inside:\n        \
                          print(inside.getpeercert())\n";
    holds("Python", |home, host, port, root| {
        Ran::of(tool("python3", home).args(["-c", script, host, &port.to_string()]).arg(root))
    });
}

#[test]
fn node_accepts_what_is_permitted_and_refuses_the_rest() {
    let script = "const [host, port, root] = process.argv.slice(-3);
        const options = {host: '127.0.0.1', port, ca: require('fs').readFileSync(root)};
        if (!require('net').isIP(host)) options.servername = host;
        const socket = require('tls').connect(options, () => { console.log(socket.authorized); process.exit(socket.authorized ? 0 : 1); });
        socket.on('error', (error) => { console.error(String(error)); process.exit(1); });";
    holds("Node", |home, host, port, root| {
        Ran::of(tool("node", home).args(["-e", script, "--", host, &port.to_string()]).arg(root))
    });
}

#[test]
fn java_accepts_what_is_permitted_and_refuses_the_rest() {
    let source = r#"
import java.io.*;
import java.net.*;
import java.nio.file.*;
import java.security.*;
import java.security.cert.*;
import javax.net.ssl.*;

public class Shake {
    public static void main(String[] args) throws Exception {
        KeyStore store = KeyStore.getInstance(KeyStore.getDefaultType());
        store.load(null, null);
        try (InputStream root = Files.newInputStream(Path.of(args[2]))) {
            store.setCertificateEntry("root", CertificateFactory.getInstance("X.509").generateCertificate(root));
        }
        TrustManagerFactory trust = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
        trust.init(store);
        SSLContext context = SSLContext.getInstance("TLS");
        context.init(null, trust.getTrustManagers(), null);
        int port = Integer.parseInt(args[1]);
        SSLSocket socket = (SSLSocket) context.getSocketFactory().createSocket(new Socket("127.0.0.1", port), args[0], port, true);
        SSLParameters parameters = socket.getSSLParameters();
        parameters.setEndpointIdentificationAlgorithm("HTTPS");
        socket.setSSLParameters(parameters);
        socket.startHandshake();
        System.out.println(socket.getSession().getPeerCertificates().length);
    }
}
"#;
    let built = directory();
    write(&built.path().join("Shake.java"), source);
    compiled::java(&built.path().join("Shake.java"), built.path());
    holds("Java", |home, host, port, root| {
        let mut java = tool("java", home);
        java.args(compiled::class(built.path(), "Shake"));
        Ran::of(java.args([host, &port.to_string()]).arg(root))
    });
}

#[test]
fn go_accepts_what_is_permitted_and_refuses_the_rest() {
    let source = r#"package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
)

func main() {
	pem, err := os.ReadFile(os.Args[3])
	if err != nil {
		panic(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	conn, err := tls.Dial("tcp", "127.0.0.1:"+os.Args[2], &tls.Config{RootCAs: roots, ServerName: os.Args[1]})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println(len(conn.ConnectionState().VerifiedChains))
}
"#;
    let built = directory();
    write(&built.path().join("shake.go"), source);
    let program = compiled::go(&built.path().join("shake.go"), built.path());
    holds("Go", |home, host, port, root| {
        Ran::of(tool(&program, home).args([host, &port.to_string()]).arg(root))
    });
}
