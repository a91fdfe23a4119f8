//! `aws` of an entry of `requests`: whose credentials may come, for which services, where.
//!
//! It bounds who signs, not where data lands: a service whose resources may be shared lets our key write to another's. Nor is a
//! signature checked here: AWS does that. Not here: where a request carries its credentials
//! ([`wire::aws`](crate::wire::aws)).

mod lint;

pub use self::lint::doubts;
use crate::words::aws::{AccessKeyId, Account, AwsRequest, Regions, Signer};

/// What an entry says about AWS. A key that is left out fits any request that has credentials.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct AwsRule {
    /// Accounts whose credentials may come.
    pub accounts: Option<Box<[Account]>>,
    /// Services, by the name that signatures have: `codecommit`, `s3`.
    pub services: Option<Box<[Box<str>]>>,
    /// Regions.
    pub regions: Option<Box<[Box<str>]>>,
    key_accounts: Box<[(AccessKeyId, Account)]>,
}

/// Why a request does not fit: the refusal's reason is `account_not_allowed`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AwsObjection {
    /// What does not fit.
    pub misfit: AwsMisfit,
    /// What is so, and what to write.
    pub text: String,
}

/// What of an entry does not fit; the nearest first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum AwsMisfit {
    /// The region.
    Region,
    /// The service.
    Service,
    /// The account.
    Account,
}

impl AwsRule {
    /// Says of which accounts keys of the old form are, whose ids do not.
    ///
    /// # Errors
    /// A key whose id contains another account, and why that is wrong: which of the two would be true?
    pub fn with_key_accounts(
        mut self,
        keys: Vec<(AccessKeyId, Account)>,
    ) -> Result<Self, (AccessKeyId, String)> {
        for (key, account) in &keys {
            if let Some(own) = key.account()
                && own != *account
            {
                let text = format!("the id {key} contains the account {own}: take it out of `key_accounts`");
                return Err((*key, text));
            }
        }
        self.key_accounts = keys.into();
        Ok(self)
    }

    /// The keys of the old form, with their accounts.
    pub fn key_accounts(&self) -> &[(AccessKeyId, Account)] {
        &self.key_accounts
    }

    /// The account whose credentials a request carries; `None` if a key's id does not tell and `key_accounts` does not.
    pub fn account_of(&self, request: &AwsRequest) -> Option<Account> {
        match &request.signer {
            Signer::GitUser { account, .. } => Some(*account),
            Signer::Key(key) => {
                let named = self.key_accounts.iter().find(|(id, _)| id == key).map(|(_, account)| *account);
                key.account().or(named)
            }
        }
    }

    /// Whether a request fits: its account, if that is known.
    ///
    /// # Errors
    /// What does not fit.
    pub fn may(&self, request: &AwsRequest) -> Result<Option<Account>, AwsObjection> {
        let account = self.account_of(request);
        if let Some(accounts) = &self.accounts
            && !account.is_some_and(|account| accounts.contains(&account))
        {
            return Err(AwsObjection {
                misfit: AwsMisfit::Account,
                text: other_account(request, account, accounts),
            });
        }
        if let Some(services) = &self.services
            && !services.contains(&request.service)
        {
            let text =
                format!("the signature is for the service {}: write it under `services`", request.service);
            return Err(AwsObjection { misfit: AwsMisfit::Service, text });
        }
        if let Some(regions) = &self.regions
            && !within(&request.regions, regions)
        {
            let text = match &request.regions {
                Regions::One(region) => {
                    format!("the signature is for the region {region}: write it under `regions`")
                }
                Regions::Set(_) => {
                    format!(
                        "the signature is for the regions {}: each must stand under `regions`, and `*` fits none",
                        request.regions
                    )
                }
                Regions::Unknown => "the host names no region: leave out `regions`".to_owned(),
            };
            return Err(AwsObjection { misfit: AwsMisfit::Region, text });
        }
        Ok(account)
    }
}

/// The most examples of one rule.
const MOST: usize = 256;

impl AwsRule {
    /// Whether every request that `other` lets through is one that `self` lets through. `false`: that is not certain.
    pub(in crate::rules) fn covers(&self, other: &AwsRule) -> bool {
        fn all<T: PartialEq>(own: Option<&[T]>, others: Option<&[T]>) -> bool {
            match (own, others) {
                (None, _) => true,
                (Some(_), None) => false,
                (Some(own), Some(others)) => others.iter().all(|other| own.contains(other)),
            }
        }
        // A key of the old form passes by what is said of it, unless accounts do not matter.
        let keys = || other.key_accounts.iter().all(|key| self.key_accounts.contains(key));
        all(self.accounts.as_deref(), other.accounts.as_deref())
            && (self.accounts.is_none() || keys())
            && all(self.services.as_deref(), other.services.as_deref())
            && all(self.regions.as_deref(), other.regions.as_deref())
    }

    /// Requests that it lets through, and that another lets through by chance alone.
    pub(in crate::rules) fn examples(&self) -> Vec<AwsRequest> {
        let accounts: Vec<Account> = match &self.accounts {
            Some(accounts) => accounts.to_vec(),
            None => Account::new("999999999990").into_iter().collect(),
        };
        let user = |account: Account| Signer::GitUser { user: format!("x-at-{account}").into(), account };
        let keys = self.key_accounts.iter().filter(|(_, account)| accounts.contains(account));
        let signers: Vec<Signer> = accounts
            .iter()
            .map(|account| user(*account))
            .chain(keys.map(|(key, _)| Signer::Key(*key)))
            .collect();
        let names = |names: &Option<Box<[Box<str>]>>| match names {
            Some(names) => names.to_vec(),
            None => vec!["~example~".into()],
        };
        let (services, regions) = (names(&self.services), names(&self.regions));
        let all = signers.iter().flat_map(|signer| {
            let pairs =
                services.iter().flat_map(|service| regions.iter().map(move |region| (service, region)));
            pairs.map(move |(service, region)| AwsRequest {
                signer: signer.clone(),
                service: service.clone(),
                regions: Regions::One(region.clone()),
                signed_fields: Box::default(),
            })
        });
        let mut examples: Vec<AwsRequest> = all.take(MOST).collect();
        // A signature of version 4A may be for all of them.
        if let (Some(first), [_, _, ..]) = (examples.first().cloned(), &*regions) {
            examples.push(AwsRequest { regions: Regions::Set(regions.clone().into()), ..first });
        }
        examples
    }
}

fn within(asked: &Regions, allowed: &[Box<str>]) -> bool {
    match asked {
        Regions::One(region) => allowed.contains(region),
        // A `*` stands in no list: `allowed` has names of regions alone, which is checked where it is read.
        Regions::Set(regions) => {
            regions.iter().all(|region| !region.contains('*') && allowed.contains(region))
        }
        Regions::Unknown => false,
    }
}

fn other_account(request: &AwsRequest, account: Option<Account>, accounts: &[Account]) -> String {
    let allowed: Vec<&str> = accounts.iter().map(Account::as_str).collect();
    let allowed = allowed.join(", ");
    match (account, request.access_key()) {
        (Some(account), _) => {
            format!("the credentials are of account {account}, and the rule allows {allowed}")
        }
        (None, Some(key)) => format!(
            "the access key id {key} is of the old form, which contains no account: write `key_accounts: {{{key}: \
             \"ACCOUNT\"}}`, or make a new key"
        ),
        (None, None) => "the credentials name no account".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEW: &str = "ASIAY34FZKBOKMUTVV7A"; // of 609629065308
    const OLD: &str = "AKIAIOSFODNN7EXAMPLE";

    fn account(digits: &str) -> Account {
        Account::new(digits).unwrap()
    }

    fn signed(key: &str, service: &str, regions: Regions) -> AwsRequest {
        let signer = Signer::Key(AccessKeyId::new(key).unwrap());
        AwsRequest { signer, service: service.into(), regions, signed_fields: Box::default() }
    }

    fn one(region: &str) -> Regions {
        Regions::One(region.into())
    }

    fn set(regions: &[&str]) -> Regions {
        Regions::Set(regions.iter().map(|region| Box::from(*region)).collect())
    }

    fn rule() -> AwsRule {
        AwsRule {
            accounts: Some([account("609629065308"), account("123456789012")].into()),
            services: Some(["codecommit".into(), "s3".into()].into()),
            regions: Some(["eu-central-1".into(), "us-east-1".into()].into()),
            ..AwsRule::default()
        }
    }

    #[test]
    fn every_key_that_is_there_must_fit() {
        let known = Ok(Some(account("609629065308")));
        let rows = [
            (signed(NEW, "s3", one("eu-central-1")), known),
            (signed(NEW, "s3", set(&["eu-central-1", "us-east-1"])), known),
            (signed(NEW, "sts", one("eu-central-1")), Err(AwsMisfit::Service)),
            (signed(NEW, "S3", one("eu-central-1")), Err(AwsMisfit::Service)),
            (signed(NEW, "s3", one("eu-west-1")), Err(AwsMisfit::Region)),
            (signed(NEW, "s3", set(&["eu-central-1", "eu-west-1"])), Err(AwsMisfit::Region)),
            (signed(NEW, "s3", set(&["*"])), Err(AwsMisfit::Region)),
            (signed(NEW, "s3", set(&["us-*"])), Err(AwsMisfit::Region)),
            (signed(NEW, "s3", Regions::Unknown), Err(AwsMisfit::Region)),
            (signed("ASIAQNZGKIQY56JQ7WML", "s3", one("eu-central-1")), Err(AwsMisfit::Account)),
            (signed(OLD, "s3", one("eu-central-1")), Err(AwsMisfit::Account)),
        ];
        for (request, want) in rows {
            assert_eq!(rule().may(&request).map_err(|objection| objection.misfit), want, "{request:?}");
        }
        // Left out, a key fits whatever has credentials.
        assert_eq!(AwsRule::default().may(&signed(OLD, "x", set(&["*"]))), Ok(None));
        let listed_star = AwsRule { regions: Some(["us-*".into()].into()), ..AwsRule::default() };
        assert!(listed_star.may(&signed(NEW, "s3", set(&["us-*"]))).is_err());
    }

    #[test]
    fn a_key_of_the_old_form_is_of_the_account_that_the_rule_says() {
        let key = |id| AccessKeyId::new(id).unwrap();
        let request = signed(OLD, "s3", one("us-east-1"));
        let text = rule().may(&request).unwrap_err().text;
        assert!(text.contains(&format!("`key_accounts: {{{OLD}: \"ACCOUNT\"}}`")), "{text}");
        let with = |id, digits| rule().with_key_accounts(vec![(key(id), account(digits))]);
        assert_eq!(with(OLD, "123456789012").unwrap().may(&request), Ok(Some(account("123456789012"))));
        assert!(with(OLD, "999999999999").unwrap().may(&request).is_err());
        // What an id says is never said otherwise.
        assert!(with(NEW, "609629065308").is_ok());
        let (named, error) = with(NEW, "123456789012").unwrap_err();
        assert_eq!(named, key(NEW));
        assert!(error.contains("609629065308"), "{error}");
    }

    #[test]
    fn git_credentials_are_of_the_account_in_their_name() {
        let user = |digits: &str| AwsRequest {
            signer: Signer::GitUser {
                user: format!("x-at-123456789012-at-{digits}").into(),
                account: account(digits),
            },
            service: "codecommit".into(),
            regions: one("us-east-1"),
            signed_fields: Box::default(),
        };
        assert_eq!(rule().may(&user("123456789012")), Ok(Some(account("123456789012"))));
        let objection = rule().may(&user("999999999999")).unwrap_err();
        let text =
            "the credentials are of account 999999999999, and the rule allows 609629065308, 123456789012";
        assert_eq!((objection.misfit, objection.text.as_str()), (AwsMisfit::Account, text));
    }
}
