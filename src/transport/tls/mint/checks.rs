//! What would make clients refuse the leaves of an authority, or its operator regret it: found in its certificates, at load.
//!
//! Errors are what no leaf could be accepted with, whatever the time is. Not here: name constraints
//! ([`super::constraints`]), and whether the key belongs to the certificate.

use jiff::{SignedDuration, Timestamp};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::ParsedExtension;

use super::constraints::Constraints;
use crate::transport::tls::certificates::timestamp;
use crate::transport::tls::files::{FileProblem, PemFile};

/// How long before the end of an authority it is told: clients need the next one before.
const SOON: SignedDuration = SignedDuration::from_hours(30 * 24);
/// Contents of the object identifiers of signatures with SHA-1: RSA (RFC 8017), ECDSA (RFC 3279).
const SHA1: [&[u8]; 2] =
    [&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 5], &[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 1]];
/// Who refuses what many accept.
const STRICT: &str = "strict clients, such as Python 3.13, refuse what it signs";
/// What to do where the certificate is of another kind.
const MAKE_ONE: &str = "`egressd ca new --permit HOST --out DIR` makes one that can be used";

/// Looks at the certificates of `file`, the one that signs first.
///
/// # Errors
/// Everything with which no leaf would be accepted. Otherwise the result is warnings.
pub(super) fn check(
    file: &PemFile,
    read: &[X509Certificate<'_>],
    constraints: &Constraints,
    now: Timestamp,
) -> Result<Vec<FileProblem>, Vec<FileProblem>> {
    let lines: Vec<u32> = file.lines_of("CERTIFICATE").collect();
    let mut found = Found { file, lines, errors: Vec::new(), warnings: Vec::new() };
    for (place, one) in read.iter().enumerate() {
        found.purpose(place, one);
        found.time(place, one, now);
    }
    for (place, pair) in read.windows(2).enumerate() {
        if let [below, above] = pair
            && below.issuer().as_raw() != above.subject().as_raw()
        {
            found.error(
                place + 1,
                format!(
                    "is not the issuer of certificate {}: write each before its issuer, the one that signs first",
                    place + 1
                ),
            );
        }
    }
    found.roots(read);
    found.names(constraints);
    let Found { errors, warnings, .. } = found;
    if errors.is_empty() { Ok(warnings) } else { Err(errors) }
}

/// The subject key identifier.
pub(super) fn key_identifier<'a>(certificate: &X509Certificate<'a>) -> Option<&'a [u8]> {
    certificate.iter_extensions().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::SubjectKeyIdentifier(identifier) => Some(identifier.0),
        _ => None,
    })
}

fn is_root(certificate: &X509Certificate<'_>) -> bool {
    certificate.subject().as_raw() == certificate.issuer().as_raw()
}

struct Found<'f> {
    file: &'f PemFile,
    /// On which each certificate begins.
    lines: Vec<u32>,
    errors: Vec<FileProblem>,
    warnings: Vec<FileProblem>,
}

impl Found<'_> {
    fn at(&self, place: usize, text: &str) -> FileProblem {
        let text = format!("certificate {} {text}", place + 1);
        self.file.problem_at(self.lines.get(place).copied().unwrap_or(1), text)
    }

    fn error(&mut self, place: usize, text: impl AsRef<str>) {
        self.errors.push(self.at(place, text.as_ref()));
    }

    fn warn(&mut self, place: usize, text: impl AsRef<str>) {
        self.warnings.push(self.at(place, text.as_ref()));
    }

    /// Whether it may sign what is below it.
    fn purpose(&mut self, place: usize, one: &X509Certificate<'_>) {
        let basic = one.basic_constraints().ok().flatten();
        match basic.as_ref().map(|basic| basic.value) {
            Some(basic) if basic.ca => {
                // Those below it, up to the first, are authorities, too.
                if basic.path_len_constraint.is_some_and(|most| (most as usize) < place) {
                    self.error(
                        place,
                        "allows fewer authorities below it than there are (pathlen): clients refuse every leaf",
                    );
                }
            }
            _ => self.error(
                place,
                format!("is not that of an authority (CA:TRUE): clients refuse what it signs; {MAKE_ONE}"),
            ),
        }
        match one.key_usage() {
            Ok(Some(usage)) if !usage.value.key_cert_sign() => self.error(
                place,
                format!(
                    "may not sign certificates (its key usage lacks keyCertSign): clients refuse what it signs; \
                     {MAKE_ONE}"
                ),
            ),
            Ok(Some(_)) => {}
            _ => self.warn(place, format!("has no key usage: {STRICT}")),
        }
        if let Ok(Some(usage)) = one.extended_key_usage()
            && !usage.value.server_auth
            && !usage.value.any
        {
            self.error(
                place,
                format!(
                    "may not sign for servers (its extended key usage lacks serverAuth): clients refuse every leaf; \
                     {MAKE_ONE}"
                ),
            );
        }
        if key_identifier(one).is_none() {
            self.warn(place, format!("has no subject key identifier: {STRICT}"));
        }
        if !is_root(one) && SHA1.contains(&one.signature_algorithm.algorithm.as_bytes()) {
            self.warn(place, "is signed with SHA-1: clients refuse it");
        }
    }

    fn time(&mut self, place: usize, one: &X509Certificate<'_>, now: Timestamp) {
        let (from, until) = (timestamp(one.validity().not_before), timestamp(one.validity().not_after));
        if until <= now {
            self.warn(
                place,
                format!(
                    "expired at {until}: every tunnel that a rule inspects is refused; install the next one"
                ),
            );
        } else if from > now {
            self.warn(
                place,
                format!(
                    "is not valid before {from}: until then every tunnel that a rule inspects is refused"
                ),
            );
        } else if until.duration_since(now) <= SOON {
            self.warn(
                place,
                format!(
                    "expires at {until}: make clients trust the next one before, then give it to egressd"
                ),
            );
        }
    }

    fn roots(&mut self, read: &[X509Certificate<'_>]) {
        for (place, _) in read.iter().enumerate().filter(|(_, one)| is_root(one)) {
            match place {
                0 => self.warn(
                    0,
                    "is a root, so the root's key is here: if it is stolen, every client must be changed; use an \
                     authority below the root, and keep the root's key offline",
                ),
                _ => self.warn(place, "is a root: clients have it, or refuse it; remove it here"),
            }
        }
    }

    fn names(&mut self, constraints: &Constraints) {
        if !constraints.limit_names() {
            self.warn(
                0,
                "has no name constraints: with its key anyone can sign for every name; `egressd ca new --permit HOST \
                 --out DIR` makes one that can sign for these hosts alone",
            );
        } else if !constraints.exclude_addresses() {
            self.warn(
                0,
                "does not exclude addresses in its name constraints: OpenSSL, Node and Java accept a certificate for an \
                 address from it; exclude 0.0.0.0/0 and ::/0, as `egressd ca new` does",
            );
        }
    }
}
