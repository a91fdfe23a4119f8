//! The words of AWS: accounts, access key ids, and by whose credentials a request is signed.
//!
//! A value of these types was checked when it was made. Not here: where a request carries them
//! ([`wire::aws`](crate::wire::aws)), and whose may pass ([`rules::aws`](crate::rules::aws)).

mod credentials_error;

use std::fmt;

pub use self::credentials_error::CredentialsError;

/// An account: twelve digits, zeros in front included.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Account([u8; 12]);

/// The id of an access key: `AKIA` (long-lived) or `ASIA` (of a session), and sixteen characters.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AccessKeyId([u8; 20]);

/// Whose credentials a request carries.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Signer {
    /// An access key.
    Key(AccessKeyId),
    /// The Git credentials of an IAM user, `NAME-at-ACCOUNT`. AWS makes this name, and no one chooses it.
    GitUser {
        /// All of it.
        user: Box<str>,
        /// The account at its end.
        account: Account,
    },
}

/// Where a signature holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Regions {
    /// In one region.
    One(Box<str>),
    /// In each of these, as SigV4A writes them; a `*` may stand in any.
    Set(Box<[Box<str>]>),
    /// Not known: Git credentials at a host that names no region.
    Unknown,
}

/// What a request says of itself to AWS. Whether it is true, AWS finds out: it checks the signature or the password.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AwsRequest {
    /// Whose credentials it carries.
    pub signer: Signer,
    /// The service that they are for.
    pub service: Box<str>,
    /// Where they hold.
    pub regions: Regions,
    /// The fields that the signature covers, in lower case. These must not be touched. Empty for Basic.
    pub signed_fields: Box<[Box<str>]>,
}

impl Account {
    /// Reads twelve digits.
    pub fn new(text: &str) -> Option<Self> {
        let digits: [u8; 12] = text.as_bytes().try_into().ok()?;
        digits.iter().all(u8::is_ascii_digit).then_some(Account(digits))
    }

    /// The twelve digits.
    pub fn as_str(&self) -> &str {
        // Only digits are stored.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl AccessKeyId {
    /// Reads an id.
    pub fn new(text: &str) -> Option<Self> {
        let id: [u8; 20] = text.as_bytes().try_into().ok()?;
        let (prefix, rest) = id.split_at_checked(4)?;
        let known = matches!(prefix, b"AKIA" | b"ASIA");
        (known && rest.iter().all(|byte| five_bits(*byte).is_some())).then_some(AccessKeyId(id))
    }

    /// The id.
    pub fn as_str(&self) -> &str {
        // Only ASCII is stored.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// The account that the id contains. `None`: it is of the old form, whose ids contain none (the first bit after the prefix
    /// is 0), or contains no number of twelve digits, which AWS never makes.
    ///
    /// The sixteen characters are base32, 80 bits: one bit tells the form, the next 40 are the account. AWS documents only its
    /// own `sts:GetAccessKeyInfo` for this.
    pub fn account(&self) -> Option<Account> {
        let first_48 =
            self.0.get(4..14)?.iter().try_fold(0_u64, |bits, byte| Some(bits << 5 | five_bits(*byte)?))? >> 2;
        if first_48 >> 47 == 0 {
            return None;
        }
        Account::new(&format!("{:012}", (first_48 & 0x7fff_ffff_ff80) >> 7))
    }
}

/// One character of base32 (RFC 4648 §6).
fn five_bits(byte: u8) -> Option<u64> {
    match byte {
        b'A'..=b'Z' => Some(u64::from(byte - b'A')),
        b'2'..=b'7' => Some(u64::from(byte - b'2') + 26),
        _ => None,
    }
}

impl Signer {
    /// Whether the token of a session may go with it: of the keys, those of sessions (`ASIA`) alone have one.
    pub fn takes_token(&self) -> bool {
        match self {
            Signer::Key(key) => key.0.starts_with(b"ASIA"),
            Signer::GitUser { .. } => false,
        }
    }
}

impl AwsRequest {
    /// Whether it is signed: Git's credentials are not, though they may be made of a signature.
    pub fn is_signed(&self) -> bool {
        !self.signed_fields.is_empty()
    }

    /// Whether the signature covers the field with this name, in lower case.
    pub fn covers(&self, name: &str) -> bool {
        self.signed_fields.iter().any(|field| &**field == name)
    }

    /// The id of the key; `None` for Git credentials.
    pub fn access_key(&self) -> Option<AccessKeyId> {
        match self.signer {
            Signer::Key(id) => Some(id),
            Signer::GitUser { .. } => None,
        }
    }
}

/// The region of one of CodeCommit's hosts for Git, which is written as a canonical name; `None` for any other host.
///
/// `[vpce-….]git-codecommit[-fips].REGION[.vpce].amazonaws.com[.cn]`: the last `vpce` is that of a VPC endpoint's own name.
pub fn codecommit_region(host: &str) -> Option<&str> {
    let rest = host.strip_suffix(".cn").unwrap_or(host).strip_suffix(".amazonaws.com")?;
    let rest = rest.strip_suffix(".vpce").unwrap_or(rest);
    let (rest, region) = rest.rsplit_once('.')?;
    let (endpoint, service) = match rest.rsplit_once('.') {
        Some((endpoint, service)) => (Some(endpoint), service),
        None => (None, rest),
    };
    let is_service = matches!(service, "git-codecommit" | "git-codecommit-fips");
    let is_endpoint = endpoint.is_none_or(|endpoint| endpoint.starts_with("vpce-"));
    (is_service && is_endpoint && !region.is_empty()).then_some(region)
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for AccessKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for AccessKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Regions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Regions::One(region) => f.write_str(region),
            Regions::Set(regions) => f.write_str(&regions.join(",")),
            Regions::Unknown => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_id_contains_its_account_by_published_pairs() {
        let rows = [
            // "A short note on AWS KEY ID" and those who built on it.
            ("ASIAY34FZKBOKMUTVV7A", Some("609629065308")),
            ("ASIAQNZGKIQY56JQ7WML", Some("029608264753")),
            // Of the old form: AWS's own example, and one whose 40 bits would be a stranger's account.
            ("AKIAIOSFODNN7EXAMPLE", None),
            ("AKIAI44QH8DHBEXAMPLE", None),
            ("AKIAJY34FZKBOKMUTVV7", None),
            // The largest number that 40 bits hold is no account.
            ("AKIA7777777777777777", None),
            // The smallest.
            ("AKIAQAAAAAAAAAAAAAAA", Some("000000000000")),
            ("AKIAQAAAAAAAQAAAAAAA", None),
        ];
        for (id, want) in rows {
            let account = AccessKeyId::new(id).and_then(|id| id.account());
            if id == "AKIAQAAAAAAAQAAAAAAA" {
                // Bits beyond the 48 say nothing.
                assert!(account.is_some());
                continue;
            }
            assert_eq!(account.as_ref().map(Account::as_str), want, "{id}");
        }
    }

    /// Every account number is found again in an id that is made from it, whatever the bits around it are.
    #[test]
    fn every_account_is_found_in_an_id_made_from_it() {
        let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
        let id_of = |account: u64, rest: u64| {
            // 1 bit, 40 bits, 39 bits.
            let bits = 1_u128 << 79 | u128::from(account) << 39 | u128::from(rest & 0x7f_ffff_ffff);
            let text: String =
                (0..16).rev().map(|at| char::from(alphabet[(bits >> (at * 5) & 31) as usize])).collect();
            AccessKeyId::new(&format!("AKIA{text}")).unwrap()
        };
        let mut state = 1_u64;
        for number in (0..2_000).map(|n| n * 499_999_999 % 1_000_000_000_000).chain([0, 1, 999_999_999_999]) {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let id = id_of(number, state >> 20);
            assert_eq!(id.account().unwrap().as_str(), format!("{number:012}"), "{id}");
            assert!(matches!(id.as_str().as_bytes()[4], b'Q'..=b'Z' | b'2'..=b'7'));
        }
        assert_eq!(id_of(1_000_000_000_000, 0).account(), None);
        assert_eq!(id_of((1 << 40) - 1, 0).account(), None);
    }

    #[test]
    fn an_account_has_twelve_digits_and_a_key_id_one_form() {
        for bad in
            ["", "12345678901", "1234567890123", "12345678901a", "１２３４", "-12345678901", "+12345678901"]
        {
            assert_eq!(Account::new(bad), None, "{bad}");
        }
        assert_eq!(Account::new("000000000001").unwrap().to_string(), "000000000001");
        for bad in [
            "AROAQNZGKIQY56JQ7WML",
            "AKIAQNZGKIQY56JQ7WM",
            "AKIAQNZGKIQY56JQ7WMLA",
            "akiaqnzgkiqy56jq7wml",
            "AKIAQNZGKIQY56JQ7WM1",
            "AKIAQNZGKIQY56JQ7WM0",
            "",
        ] {
            assert_eq!(AccessKeyId::new(bad), None, "{bad}");
        }
    }

    #[test]
    fn codecommit_is_known_by_its_hosts() {
        let rows = [
            ("git-codecommit.ap-northeast-1.amazonaws.com", Some("ap-northeast-1")),
            ("git-codecommit-fips.us-gov-west-1.amazonaws.com", Some("us-gov-west-1")),
            ("git-codecommit.cn-north-1.amazonaws.com.cn", Some("cn-north-1")),
            ("vpce-0a1b-2c3d.git-codecommit.us-east-1.vpce.amazonaws.com", Some("us-east-1")),
            ("vpce-0a1b-2c3d-us-east-1a.git-codecommit-fips.us-east-1.vpce.amazonaws.com", Some("us-east-1")),
            ("codecommit.us-east-1.amazonaws.com", None),
            ("x.git-codecommit.us-east-1.amazonaws.com", None),
            ("git-codecommit.us-east-1.amazonaws.com.evil.example", None),
            ("git-codecommit.amazonaws.com", None),
            ("git-codecommit..amazonaws.com", None),
            ("evilgit-codecommit.us-east-1.amazonaws.com", None),
            ("git-codecommit.a.b.amazonaws.com", None),
            ("amazonaws.com", None),
        ];
        for (host, want) in rows {
            assert_eq!(codecommit_region(host), want, "{host}");
        }
    }
}
