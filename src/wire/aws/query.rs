//! Credentials in the query: presigned URLs. Servers decode names, and some take them in any case, so a name that is one of these
//! only then is refused, and so is one that is there twice.

use super::scope::{Algorithm, Signature, region_set};
use crate::wire::query::decoded;
use crate::words::aws::{AwsRequest, CredentialsError};

/// The parameters of a presigned URL.
const PRESIGNED: [&str; 8] = [
    "X-Amz-Algorithm",
    "X-Amz-Credential",
    "X-Amz-Date",
    "X-Amz-Expires",
    "X-Amz-SignedHeaders",
    "X-Amz-Signature",
    "X-Amz-Security-Token",
    "X-Amz-Region-Set",
];

/// Of signature version 2.
const OLD: [&str; 3] = ["awsaccesskeyid", "signature", "signatureversion"];

/// Tokens that servers take in place of an Authorization (RFC 6750 §2.3).
const TOKENS: [&str; 2] = ["access_token", "authorization"];

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
                if PRESIGNED.get(at) != Some(&name) {
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

#[derive(PartialEq, Eq)]
enum Kind {
    Presigned(usize),
    Old,
    Token,
    Other,
}

fn kind(name: &str) -> Kind {
    let name = name.trim().to_lowercase();
    if let Some(at) = PRESIGNED.iter().position(|known| known.to_ascii_lowercase() == name) {
        return Kind::Presigned(at);
    }
    if OLD.contains(&&*name) {
        Kind::Old
    } else if TOKENS.contains(&&*name) {
        Kind::Token
    } else {
        Kind::Other
    }
}

impl Presigned {
    pub(super) fn read(&self, region_fields: &[&[u8]]) -> Result<AwsRequest, CredentialsError> {
        let [algorithm, credential, date, expires, signed, signature, _, regions] =
            [0, 1, 2, 3, 4, 5, 6, 7].map(|at| self.0.get(at).and_then(Option::as_deref));
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
