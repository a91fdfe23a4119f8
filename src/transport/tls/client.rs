//! TLS as a client: which authorities are trusted for a target or a parent, and the handshake's settings.
//!
//! TLS 1.2 and 1.3 by rustls on aws-lc-rs. The configuration names the trusted authorities; otherwise it is the system's
//! store, which is read only where it is needed: an egressd that verifies nothing needs no certificates in its image.
//! Left out: revocation lists and OCSP of upstreams, and client certificates of our own for targets (one that demands one in
//! TLS 1.2 ends the handshake). Only `doctor` shows one, to the proxy.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use rustls::client::WebPkiServerVerifier;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::sign::SingleCertAndKey;
use rustls::{ClientConfig, RootCertStore, version};

use crate::transport::tls::authorities::{Authorities, Roots};
use crate::transport::tls::files::{FileProblem, PemFile, TlsPem};
use crate::transport::tls::provider::provider;
use crate::transport::tls::sentences::{self, Holder};
use crate::transport::tls::server::read_own;
use crate::transport::tls::verified::Verifier;
use crate::words::target::Host;

/// Where systems keep their store as one PEM file, the most common place first.
const SYSTEM_STORES: [&str; 4] = [
    // Debian, Ubuntu, Alpine, Arch, distroless images.
    "/etc/ssl/certs/ca-certificates.crt",
    // Fedora, RHEL, Amazon Linux.
    "/etc/pki/tls/certs/ca-bundle.crt",
    // SUSE.
    "/etc/ssl/ca-bundle.pem",
    // Alpine without the bundle, and the BSDs' place.
    "/etc/ssl/cert.pem",
];
/// OpenSSL's variable, which can name another file.
const STORE_VARIABLE: &str = "SSL_CERT_FILE";

/// There are no trusted authorities, or TLS cannot be set up.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TrustError {
    /// None of the files exists.
    #[error(
        "the system has no store of certificate authorities ({0}): install ca-certificates, or name a PEM file in \
         `certificates.roots`"
    )]
    NoStore(String),
    /// A store that cannot be used.
    #[error("the system's certificate authorities in {}: {why}", path.display())]
    Store {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// rustls refuses the settings: a bug in egressd.
    #[error("TLS cannot be set up: {0}")]
    Settings(String),
}

/// Settings that trust `authorities` or, where there are none, `roots`.
///
/// # Errors
/// [`TrustError`].
pub fn client_config(authorities: Option<&Authorities>, roots: &Roots) -> Result<ClientConfig, TrustError> {
    settings(match authorities {
        Some(authorities) => store_of(authorities.iter().cloned()),
        None => store_in(roots)?,
    })
}

/// Settings that trust `roots`, and do not verify a chain again that they found good.
///
/// # Errors
/// [`TrustError`].
pub(super) fn remembering(roots: &Roots) -> Result<ClientConfig, TrustError> {
    let store = store_in(roots)?;
    let remembers = match store.is_empty() {
        // It accepts nothing.
        true => None,
        false => {
            Some(WebPkiServerVerifier::builder_with_provider(Arc::new(store.clone()), provider()).build())
        }
    };
    let mut config = settings(store)?;
    if let Some(verifier) = remembers {
        let verifier = verifier.map_err(|error| TrustError::Settings(error.to_string()))?;
        // What verifies is still rustls' own: it is asked once for each chain and name.
        config.dangerous().set_certificate_verifier(Arc::new(Verifier::new(verifier)));
    }
    Ok(config)
}

/// Settings that trust no authority: for a handshake that is not meant to complete.
///
/// # Errors
/// [`TrustError::Settings`].
pub fn trusting_nobody() -> Result<ClientConfig, TrustError> {
    settings(RootCertStore::empty())
}

fn settings(store: RootCertStore) -> Result<ClientConfig, TrustError> {
    ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&version::TLS13, &version::TLS12])
        .map(|builder| builder.with_root_certificates(store).with_no_client_auth())
        .map_err(|error| TrustError::Settings(sentences::of_error(&error, Holder::Server)))
}

/// Lets `config` show a certificate of our own to servers that ask for one.
///
/// # Errors
/// What is wrong with the files.
pub fn show(config: &mut ClientConfig, certificate: PemFile, key: PemFile) -> Result<(), FileProblem> {
    let pem = TlsPem { certificate, key, client_ca: None, client_crl: None };
    // The server says what it thinks of the dates.
    let (own, _) = read_own(&pem, &provider(), Timestamp::now(), &mut Vec::new())?;
    config.client_auth_cert_resolver = Arc::new(SingleCertAndKey::from(own));
    Ok(())
}

/// The name that a certificate for `host` must have; `None` for a host that no certificate can name.
pub fn server_name(host: &Host) -> Option<ServerName<'static>> {
    match host {
        Host::Name(name) => ServerName::try_from(name.as_str().to_owned()).ok(),
        Host::Address(address) => Some(ServerName::IpAddress((*address).into())),
    }
}

fn store_in(roots: &Roots) -> Result<RootCertStore, TrustError> {
    match roots {
        Roots::Authorities(authorities) => Ok(store_of(authorities.iter().cloned())),
        Roots::System => system_store(std::env::var_os(STORE_VARIABLE).map(PathBuf::from)),
    }
}

fn store_of(certificates: impl IntoIterator<Item = CertificateDer<'static>>) -> RootCertStore {
    let mut store = RootCertStore::empty();
    // Systems keep old certificates that libraries can no longer read. Those of a configured file were already checked.
    store.add_parsable_certificates(certificates);
    store
}

/// The store in `named`, or else the first that exists.
fn system_store(named: Option<PathBuf>) -> Result<RootCertStore, TrustError> {
    let candidates: Vec<PathBuf> = match named {
        Some(path) => vec![path],
        None => SYSTEM_STORES.iter().map(PathBuf::from).collect(),
    };
    let Some(path) = candidates.iter().find(|path| path.exists()) else {
        let looked: Vec<String> = candidates.iter().map(|path| path.display().to_string()).collect();
        return Err(TrustError::NoStore(looked.join(", ")));
    };
    read_store(path).map_err(|why| TrustError::Store { path: path.clone(), why })
}

fn read_store(path: &Path) -> Result<RootCertStore, String> {
    let pem = std::fs::read(path).map_err(|error| error.to_string())?;
    let store = store_of(CertificateDer::pem_slice_iter(&pem).filter_map(Result::ok));
    match store.is_empty() {
        true => Err("holds no certificate that can be used".to_owned()),
        false => Ok(store),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(content: &str) -> Result<usize, TrustError> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("store.pem");
        std::fs::write(&path, content).unwrap();
        system_store(Some(path)).map(|store| store.len())
    }

    #[test]
    fn the_systems_store_is_read_and_what_is_unreadable_in_it_is_ignored() {
        let pem = rcgen::generate_simple_self_signed(["a.test".to_owned()]).unwrap().cert.pem();
        let junk = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert_eq!(named(&format!("# Some Root\n{pem}{junk}{pem}")), Ok(2));
        for useless in ["", "no PEM", junk] {
            let error = named(useless).unwrap_err().to_string();
            assert!(error.ends_with("store.pem: holds no certificate that can be used"), "{error}");
        }
    }

    #[test]
    fn without_a_store_the_error_says_what_to_do() {
        let error = system_store(Some("/nonexistent/store.pem".into())).unwrap_err().to_string();
        assert_eq!(
            error,
            "the system has no store of certificate authorities (/nonexistent/store.pem): install ca-certificates, or \
             name a PEM file in `certificates.roots`"
        );
    }

    #[test]
    fn a_certificate_names_hosts_and_addresses() {
        for host in
            ["a.example.com", "_dmarc.example.com", "xn--bcher-kva.example", "203.0.113.9", "[2001:db8::1]"]
        {
            let name = server_name(&Host::parse(host).unwrap()).unwrap_or_else(|| panic!("{host}"));
            assert_eq!(name.to_str(), host.trim_matches(['[', ']']));
        }
    }
}
