//! Credentials in the query: presigned URLs. Servers decode names, and some take them in any case, so a name that is one of these
//! only then is refused, and so is one that is there twice.

use super::carriers::fold;
use super::scope::{Algorithm, Signature, region_set};
use crate::wire::query::{decoded, decoded_leniently};
use crate::words::aws::{AwsRequest, CredentialsError};

/// The parameters of a presigned URL, and folded.
const PRESIGNED: [(&str, &str); 9] = [
    ("X-Amz-Algorithm", "xamzalgorithm"),
    ("X-Amz-Credential", "xamzcredential"),
    ("X-Amz-Date", "xamzdate"),
    ("X-Amz-Expires", "xamzexpires"),
    ("X-Amz-SignedHeaders", "xamzsignedheaders"),
    ("X-Amz-Signature", "xamzsignature"),
    ("X-Amz-Security-Token", "xamzsecuritytoken"),
    ("X-Amz-Region-Set", "xamzregionset"),
    // Of S3 Express, in place of the security token.
    ("X-Amz-S3session-Token", "xamzs3sessiontoken"),
];

/// Of signature version 2, folded.
const OLD: [&str; 5] =
    ["awsaccesskeyid", "signature", "signatureversion", "signaturemethod", "securitytoken"];

/// Tokens that servers take in place of an Authorization (RFC 6750 §2.3), and those for which STS gives out credentials of any
/// account, whichever key signs; folded.
const TOKENS: [&str; 4] = ["accesstoken", "authorization", "webidentitytoken", "samlassertion"];

/// How often a name may be encoded to be found out.
const DECODED: usize = 3;

/// Parameters of a presigned URL, decoded.
#[derive(Debug, Default)]
pub(super) struct Presigned([Option<String>; PRESIGNED.len()]);

/// Credentials in `query`, if there are any.
pub(super) fn find(query: &str) -> Result<Option<Presigned>, CredentialsError> {
    let mut found: Option<Presigned> = None;
    for pair in query.split('&') {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        // Some servers also separate at `;`.
        for hidden in pair.split(';').skip(1) {
            let name = decoded(hidden.split('=').next().unwrap_or_default());
            if name.is_none_or(|name| kind(&name) != Kind::Other) {
                return Err(CredentialsError::Malformed("a query with credentials after a `;`"));
            }
        }
        let Some(plain) = decoded(name) else {
            return Err(CredentialsError::Malformed("a query with a name that cannot be decoded"));
        };
        match kind(&plain) {
            Kind::Other => {}
            Kind::Old => return Err(CredentialsError::SigV2),
            Kind::Token => return Err(CredentialsError::Bearer),
            Kind::Presigned(at) => {
                if PRESIGNED.get(at).is_none_or(|(spelling, _)| *spelling != name) {
                    return Err(CredentialsError::Malformed("a query with X-Amz-… in another spelling"));
                }
                let value = decoded(value).ok_or(CredentialsError::Malformed(
                    "a query with a value of X-Amz-… that cannot be decoded",
                ))?;
                let place = found.get_or_insert_default().0.get_mut(at);
                if place.is_some_and(|place| place.replace(value).is_some()) {
                    return Err(CredentialsError::Malformed("a query with X-Amz-… twice"));
                }
            }
        }
    }
    Ok(found)
}

/// Whether a name, as it was sent, is that of credentials. `strict`: so is one that cannot be decoded.
pub(super) fn is_credential(name: &str, strict: bool) -> bool {
    match decoded(name) {
        Some(plain) => kind(&plain) != Kind::Other,
        None => strict || kind(&decoded_leniently(name)) != Kind::Other,
    }
}

#[derive(PartialEq, Eq)]
enum Kind {
    Presigned(usize),
    Old,
    Token,
    Other,
}

/// What the parameter is, whose name was decoded once. Some servers decode again.
fn kind(name: &str) -> Kind {
    let mut name = name.to_owned();
    for _ in 0..DECODED {
        let folded = fold(&name);
        if let Some(at) = PRESIGNED.iter().position(|(_, known)| *known == folded) {
            return Kind::Presigned(at);
        }
        if OLD.contains(&&*folded) {
            return Kind::Old;
        }
        if TOKENS.contains(&&*folded) || folded.ends_with("authorization") {
            return Kind::Token;
        }
        if !name.contains('%') {
            break;
        }
        name = decoded_leniently(&name);
    }
    Kind::Other
}

impl Presigned {
    pub(super) fn read(&self, region_fields: &[&[u8]]) -> Result<AwsRequest, CredentialsError> {
        let [algorithm, credential, date, expires, signed, signature, token, regions, session] =
            [0, 1, 2, 3, 4, 5, 6, 7, 8].map(|at| self.0.get(at).and_then(Option::as_deref));
        if token.is_some() && session.is_some() {
            return Err(CredentialsError::Token);
        }
        let (Some(algorithm), Some(credential), Some(_), Some(_), Some(signed), Some(signature)) =
            (algorithm, credential, date, expires, signed, signature)
        else {
            return Err(CredentialsError::Malformed(
                "a presigned query without X-Amz-Algorithm, -Credential, -Date, -Expires, -SignedHeaders or -Signature",
            ));
        };
        let algorithm = Algorithm::named(algorithm)
            .ok_or(CredentialsError::Malformed("an X-Amz-Algorithm that is neither SigV4's nor SigV4A's"))?;
        let signature = Signature::read(algorithm, credential, signed, signature)?;
        if !region_fields.is_empty() {
            return Err(CredentialsError::Malformed("a presigned query with a field X-Amz-Region-Set"));
        }
        match (algorithm, regions) {
            (Algorithm::SigV4, None) => signature.request(None),
            (Algorithm::SigV4A, Some(regions)) => {
                let set = region_set(regions);
                let set = set.ok_or(CredentialsError::Malformed(
                    "an X-Amz-Region-Set that is not a list of regions",
                ))?;
                signature.request(Some(set))
            }
            (Algorithm::SigV4, Some(_)) => Err(CredentialsError::Malformed("SigV4 with an X-Amz-Region-Set")),
            (Algorithm::SigV4A, None) => {
                Err(CredentialsError::Malformed("SigV4A without one X-Amz-Region-Set"))
            }
        }
    }
}
