//! By whose credentials a request comes to AWS: Git's of CodeCommit, and signatures of the fourth version (SigV4, SigV4A), in a
//! field or in the query.
//!
//! Nothing is verified here: only AWS can. A request that lies about its key gets AWS's 403. What matters is that AWS reads the
//! same credentials as egressd, so they are in one place alone, each part once and in its plain spelling. Which accounts may pass
//! is said by [`rules::aws`](crate::rules::aws).

mod basic;
mod carriers;
mod form;
#[cfg(test)]
mod form_tests;
mod query;
mod scope;
mod signed;
#[cfg(test)]
mod tests;

pub use self::carriers::is_credential;
use self::carriers::{Carrier, carrier};
pub use self::form::{Form, FormCheck, MAX_FORM, check_form, form, too_long};
use self::scope::{Algorithm, Signature, region_set};
pub use self::signed::Signed;
use crate::words::aws::{AwsRequest, CredentialsError};

/// Reads the credentials of a request to `host`, which is a canonical name. `query` is what follows the first `?`, as it was sent;
/// `fields` are all fields of the request.
///
/// # Errors
/// See [`CredentialsError`].
pub fn read<'r>(
    host: &str,
    query: Option<&str>,
    fields: impl Iterator<Item = (&'r str, &'r [u8])>,
) -> Result<AwsRequest, CredentialsError> {
    let (mut authorization, mut cookie, mut regions) = (Vec::new(), false, Vec::new());
    let (mut tokens, mut other) = (0, false);
    for (name, value) in fields {
        match carrier(name) {
            Some(Carrier::Authorization) => authorization.push(value),
            Some(Carrier::Cookie) => cookie = true,
            Some(Carrier::SessionToken) => tokens += 1,
            Some(Carrier::Regions) => regions.push(value),
            // S3 takes uploads whose credentials are parts of the body.
            Some(Carrier::ContentType) if form::has_parts(value) => return Err(CredentialsError::Parts),
            Some(Carrier::ContentType) | None => {}
            Some(Carrier::Other) => other = true,
        }
    }
    let presigned = query::find(query.unwrap_or_default())?;
    let places = authorization.len()
        + [cookie, other, presigned.is_some()].into_iter().map(usize::from).sum::<usize>();
    match (authorization.first(), presigned) {
        _ if places > 1 => Err(CredentialsError::TwoPlaces),
        (_, Some(_)) if tokens > 0 => Err(CredentialsError::TwoPlaces),
        (Some(value), _) => {
            let request = authorized(host, value, &regions)?;
            match (tokens, request.signer.takes_token(), request.is_signed()) {
                (0, ..) | (1, true, true) => Ok(request),
                _ => Err(CredentialsError::Token),
            }
        }
        (None, Some(presigned)) => presigned.read(&regions),
        (None, None) if cookie => Err(CredentialsError::Cookie),
        (None, None) if other || tokens > 0 => Err(CredentialsError::Elsewhere),
        (None, None) => Err(CredentialsError::None),
    }
}

/// The value of `Authorization`.
fn authorized(host: &str, value: &[u8], regions: &[&[u8]]) -> Result<AwsRequest, CredentialsError> {
    let value =
        std::str::from_utf8(value).ok().filter(|value| value.bytes().all(|b| matches!(b, b' '..=b'~')));
    let value = value.ok_or(CredentialsError::Malformed("an Authorization that is not printable ASCII"))?;
    let (scheme, rest) = value.split_once(' ').unwrap_or((value, ""));
    if let Some(algorithm) = Algorithm::named(scheme) {
        let signature = signature(algorithm, rest)?;
        return match algorithm {
            Algorithm::SigV4 => signature.request(None),
            Algorithm::SigV4A => {
                let &[set] = regions else {
                    return Err(CredentialsError::Malformed("SigV4A without one X-Amz-Region-Set"));
                };
                let set = std::str::from_utf8(set).ok().and_then(region_set);
                let set = set.ok_or(CredentialsError::Malformed(
                    "an X-Amz-Region-Set that is not a list of regions",
                ))?;
                if !signature.covers("x-amz-region-set") {
                    return Err(CredentialsError::Malformed("SigV4A that does not sign X-Amz-Region-Set"));
                }
                signature.request(Some(set))
            }
        };
    }
    match scheme.to_ascii_lowercase().as_str() {
        "basic" => basic::read(host, rest),
        "bearer" => Err(CredentialsError::Bearer),
        // S3 and the older services; `AWS3-HTTPS` is of Route 53.
        "aws" | "aws3" | "aws3-https" => Err(CredentialsError::SigV2),
        _ => Err(CredentialsError::OtherScheme),
    }
}

/// `Credential=…, SignedHeaders=…, Signature=…`, each once.
fn signature(algorithm: Algorithm, rest: &str) -> Result<Signature<'_>, CredentialsError> {
    let malformed = CredentialsError::Malformed(
        "a signature that is not Credential, SignedHeaders and Signature, once each",
    );
    let (mut credential, mut signed, mut signature) = (None, None, None);
    for part in rest.split(',') {
        let (name, value) = part.trim_matches(' ').split_once('=').ok_or(malformed)?;
        let place = match name {
            "Credential" => &mut credential,
            "SignedHeaders" => &mut signed,
            "Signature" => &mut signature,
            _ => return Err(malformed),
        };
        if place.replace(value).is_some() {
            return Err(malformed);
        }
    }
    match (credential, signed, signature) {
        (Some(credential), Some(signed), Some(signature)) => {
            Signature::read(algorithm, credential, signed, signature)
        }
        _ => Err(malformed),
    }
}
