//! The authorities that TLS to a target or a parent trusts: certificates from a PEM file. Not here: reading the file, and
//! the system's own store, which [`super::client`] finds.

use std::fmt;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use super::files::{CERTIFICATE, in_der};

/// A set of trusted authorities.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Roots {
    /// Those of the operating system.
    System,
    /// Those of a PEM file.
    Authorities(Authorities),
}

/// The certificates of a PEM file: at least one, and each can be a trust anchor.
#[derive(Clone, PartialEq, Eq)]
pub struct Authorities(Arc<[CertificateDer<'static>]>);

impl Authorities {
    /// In the order of the file.
    pub fn iter(&self) -> impl Iterator<Item = &CertificateDer<'static>> {
        self.0.iter()
    }

    /// Reads a PEM file. What is valid and probably a mistake is reported to `doubt`.
    ///
    /// # Errors
    /// What is wrong with the file.
    pub fn parse(pem: &[u8], mut doubt: impl FnMut(String)) -> Result<Self, String> {
        let mut certificates: Vec<CertificateDer<'static>> = Vec::new();
        let mut store = RootCertStore::empty();
        for (number, certificate) in (1..).zip(CertificateDer::pem_slice_iter(pem)) {
            let certificate = certificate.map_err(|_| {
                format!("what begins as certificate {number} is not valid PEM: is the file cut off?")
            })?;
            store.add(certificate.clone()).map_err(|_| {
                format!("certificate {number} cannot be used as an authority: it is malformed")
            })?;
            // X.509 v1 cannot say whether it is an authority's, and there are old roots of that version.
            if let Ok((_, read)) = X509Certificate::from_der(&certificate)
                && read.version.0 >= 2
                && !read.is_ca()
            {
                doubt(format!(
                    "certificate {number} is not that of an authority: nothing that it signed will be trusted"
                ));
            }
            certificates.push(certificate);
        }
        match certificates.is_empty() {
            true => Err(match in_der(pem, CERTIFICATE) {
                Some(instead) => format!("the file holds no certificate in PEM form{instead}"),
                None => "the file holds no certificate in PEM form (-----BEGIN CERTIFICATE-----)".to_owned(),
            }),
            false => Ok(Authorities(certificates.into())),
        }
    }
}

impl fmt::Debug for Authorities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Authorities({} certificates)", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(pem: &str) -> (Result<usize, String>, Vec<String>) {
        let mut doubts = Vec::new();
        let parsed = Authorities::parse(pem.as_bytes(), |text| doubts.push(text));
        (parsed.map(|authorities| authorities.iter().count()), doubts)
    }

    #[test]
    fn authorities_are_the_certificates_of_a_pem_file() {
        let of = |is_ca| {
            let mut params = rcgen::CertificateParams::new(["a.test".to_owned()]).expect("a name");
            params.is_ca = is_ca;
            let key = rcgen::KeyPair::generate().expect("a key");
            (params.self_signed(&key).expect("a certificate").pem(), key.serialize_pem())
        };
        let (ca, key) = of(rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained));
        let (leaf, _) = of(rcgen::IsCa::ExplicitNoCa);
        assert_eq!(parse(&format!("# a comment\n{ca}{ca}")), (Ok(2), vec![]));
        assert_eq!(parse(&format!("{key}{ca}")), (Ok(1), vec![]), "other sections are ignored");
        let (parsed, doubts) = parse(&format!("{ca}{leaf}"));
        assert_eq!(parsed, Ok(2));
        assert_eq!(
            doubts,
            ["certificate 2 is not that of an authority: nothing that it signed will be trusted"]
        );
        let none = "the file holds no certificate in PEM form (-----BEGIN CERTIFICATE-----)";
        assert_eq!(parse(&key).0, Err(none.to_owned()));
        assert_eq!(parse("not PEM at all").0, Err(none.to_owned()));
        let cut = ca.get(..ca.len() / 2).expect("ASCII");
        let error = "what begins as certificate 1 is not valid PEM: is the file cut off?";
        assert_eq!(parse(cut).0, Err(error.to_owned()));
        let der = CertificateDer::from_pem_slice(ca.as_bytes()).expect("PEM");
        let error = "the file holds no certificate in PEM form: it may be DER, which `openssl x509 -inform der -in FILE -out NEW` \
                     converts";
        assert_eq!(Authorities::parse(&der, |_| {}), Err(error.to_owned()));
        let junk = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let error = "certificate 1 cannot be used as an authority: it is malformed";
        assert_eq!(parse(junk).0, Err(error.to_owned()));
    }
}
