//! What a signature of version 4 says of itself: the key, the scope, and the fields that it covers
//! (IAM User Guide, "Elements of an AWS API request signature").

use crate::words::aws::{AccessKeyId, AwsRequest, CredentialsError, Regions, Signer};

/// How a request is signed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Algorithm {
    SigV4,
    /// With an asymmetric key, for several regions.
    SigV4A,
}

/// A signature, its parts read.
#[derive(Debug)]
pub(super) struct Signature<'r> {
    key: AccessKeyId,
    /// `None` for SigV4A.
    region: Option<&'r str>,
    service: &'r str,
    signed: Vec<&'r str>,
}

impl Algorithm {
    pub(super) fn named(name: &str) -> Option<Self> {
        match name {
            "AWS4-HMAC-SHA256" => Some(Algorithm::SigV4),
            "AWS4-ECDSA-P256-SHA256" => Some(Algorithm::SigV4A),
            _ => None,
        }
    }
}

impl<'r> Signature<'r> {
    pub(super) fn read(
        algorithm: Algorithm,
        credential: &'r str,
        signed: &'r str,
        signature: &str,
    ) -> Result<Self, CredentialsError> {
        let malformed = |why| Err(CredentialsError::Malformed(why));
        let parts: Vec<&str> = credential.split('/').collect();
        let (id, date, region, service, end) = match (algorithm, &*parts) {
            (Algorithm::SigV4, [id, date, region, service, end]) => {
                (*id, *date, Some(*region), *service, *end)
            }
            (Algorithm::SigV4A, [id, date, service, end]) => (*id, *date, None, *service, *end),
            _ => {
                return malformed(
                    "a Credential that is not KEY/DATE/REGION/SERVICE/aws4_request, for SigV4A without REGION",
                );
            }
        };
        let Some(key) = AccessKeyId::new(id) else {
            return malformed("an access key id that is not AKIA or ASIA and sixteen characters of base32");
        };
        if date.len() != 8 || !date.bytes().all(|byte| byte.is_ascii_digit()) || end != "aws4_request" {
            return malformed(
                "a Credential whose date is not eight digits, or that does not end with aws4_request",
            );
        }
        if !is_name(service) || !region.is_none_or(is_name) {
            return malformed(
                "a Credential whose region or service has other characters than letters, digits and -",
            );
        }
        let hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        let length = match algorithm {
            Algorithm::SigV4 => signature.len() == 64,
            // DER of two numbers of at most 33 bytes.
            Algorithm::SigV4A => (16..=144).contains(&signature.len()) && signature.len().is_multiple_of(2),
        };
        if !length || !signature.bytes().all(hex) {
            return malformed("a Signature that is not hexadecimal digits in lower case");
        }
        let signed: Vec<&str> = signed.split(';').collect();
        let is_field = |name: &&str| {
            !name.is_empty()
                && name.bytes().all(|b| matches!(b, b'-' | b'_' | b'.' | b'0'..=b'9' | b'a'..=b'z'))
        };
        // AWS wants them sorted: so none is there twice.
        if !signed.iter().all(is_field) || !signed.is_sorted_by(|one, next| one < next) {
            return malformed("SignedHeaders that are not names in lower case, sorted, once each");
        }
        if !signed.contains(&"host") {
            return malformed("SignedHeaders without `host`");
        }
        Ok(Signature { key, region, service, signed })
    }

    /// Whether it covers the field with this name, in lower case.
    pub(super) fn covers(&self, name: &str) -> bool {
        self.signed.contains(&name)
    }

    /// What it says, with the regions of SigV4A.
    pub(super) fn request(&self, set: Option<Box<[Box<str>]>>) -> Result<AwsRequest, CredentialsError> {
        let regions = match (self.region, set) {
            (Some(region), None) => Regions::One(region.into()),
            (None, Some(set)) => Regions::Set(set),
            _ => return Err(CredentialsError::Malformed("regions in the scope and beside it")),
        };
        Ok(AwsRequest {
            signer: Signer::Key(self.key),
            service: self.service.into(),
            regions,
            signed_fields: self.signed.iter().map(|name| Box::from(*name)).collect(),
        })
    }
}

/// The name of a region or a service.
pub(super) fn is_name(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|byte| byte == b'-' || byte.is_ascii_alphanumeric())
}

/// `us-east-1,eu-*` or `*`.
pub(super) fn region_set(text: &str) -> Option<Box<[Box<str>]>> {
    let regions: Vec<&str> = text.split(',').map(|region| region.trim_matches(' ')).collect();
    let is_region = |region: &&str| {
        (1..=64).contains(&region.len())
            && region.bytes().all(|b| matches!(b, b'-' | b'*') || b.is_ascii_alphanumeric())
    };
    regions.iter().all(is_region).then(|| regions.into_iter().map(Box::from).collect())
}
