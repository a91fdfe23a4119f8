//! Fields that carry credentials, beside `Authorization`: those that some AWS service reads, or that a program before it may take for
//! such.
//!
//! Names are compared folded: programs that pass fields on as variables make one name of names that differ in such characters.

/// What a field may carry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Carrier {
    /// `Authorization`.
    Authorization,
    /// `Cookie`, and its successor that never was.
    Cookie,
    /// The token of a session, which goes with the signature of its key.
    SessionToken,
    /// The regions of SigV4A.
    Regions,
    /// What says how the body is read.
    ContentType,
    /// Credentials of another kind, or one of the above in another spelling.
    Other,
}

/// Fields that are credentials, or part of them, if a service takes them at all: the signatures of versions 3 and 4 as parameters, and
/// tokens of AWS's single sign-on and of its selling partners.
const OTHERS: [&str; 8] = [
    "xamzalgorithm",
    "xamzcredential",
    "xamzsignature",
    "xamzsignedheaders",
    "xamzaccesstoken",
    "xamzssobearertoken",
    "xamzusertoken",
    "awsaccesskeyid",
];

/// What the field with this name carries.
pub(super) fn carrier(name: &str) -> Option<Carrier> {
    let plain = name.to_ascii_lowercase();
    match &*plain {
        "authorization" => return Some(Carrier::Authorization),
        "cookie" | "cookie2" => return Some(Carrier::Cookie),
        "x-amz-security-token" | "x-amz-s3session-token" => return Some(Carrier::SessionToken),
        "x-amz-region-set" => return Some(Carrier::Regions),
        "content-type" => return Some(Carrier::ContentType),
        _ => {}
    }
    let folded = fold(name);
    // Programs that fold names read it as that.
    if folded == "contenttype" {
        return Some(Carrier::ContentType);
    }
    // Whatever tells of proxies is not sent on. `X-Amzn-Authorization` is that of version 3.
    let is_other = OTHERS.contains(&&*folded)
        || (folded.contains("authorization") && !folded.starts_with("proxy"))
        || ["cookie", "cookie2", "xamzsecuritytoken", "xamzs3sessiontoken", "xamzregionset"]
            .contains(&&*folded);
    is_other.then_some(Carrier::Other)
}

/// Whether a field with this name must not come after the body, where nobody has judged it.
pub fn is_credential(name: &str) -> bool {
    !matches!(carrier(name), None | Some(Carrier::ContentType))
}

/// Its letters and digits, in lower case. Two texts that any program takes for the same name have one fold: `ſ` is an `s` to some.
pub(super) fn fold(name: &str) -> String {
    let upper = name.chars().flat_map(char::to_uppercase);
    upper.flat_map(char::to_lowercase).filter(|c| c.is_alphanumeric()).collect()
}
