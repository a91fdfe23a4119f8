//! What a person asks of Git, and by whose AWS account: made into what is recognised in the request that git's client would send.

use std::sync::Arc;

use crate::rules::Recognised;
use crate::rules::git::Judged;
use crate::wire::git::classify_for;
use crate::words::aws::{Account, AwsRequest, CredentialsError, Regions, Signer, codecommit_region};
use crate::words::git::{Change, Content, GitAsk, Operation, RefChange, RefName, Service};

/// What is done with a repository.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AskedGit {
    /// What is done.
    pub operation: Operation,
    /// The refs that a push changes, each as `change` says; none: they are not judged.
    pub refs: Vec<RefName>,
    /// What happens to them.
    pub change: Change,
}

/// A request, as git's client would send it.
pub(super) struct GitCall {
    pub(super) method: &'static str,
    pub(super) path: String,
    pub(super) query: Option<&'static str>,
    pub(super) content: Content,
}

impl AskedGit {
    /// Whether it is a push of which no ref is known.
    pub(super) fn names_no_ref(&self) -> bool {
        self.operation == Operation::Push && self.refs.is_empty()
    }

    /// The request that decides, of those that git's client would send for the repository at `path`.
    pub(super) fn call(&self, path: &str) -> GitCall {
        let path = path.strip_suffix('/').unwrap_or(path);
        let (service, content) = match self.operation {
            Operation::List => {
                let query = Some("service=git-upload-pack");
                let path = format!("{path}/info/refs");
                return GitCall { method: "GET", path, query, content: Content::Unread };
            }
            Operation::Fetch => (Service::UploadPack, Content::Does(Operation::Fetch)),
            Operation::Push => {
                let changes: Arc<[RefChange]> =
                    self.refs.iter().filter_map(|name| RefChange::made_up(self.change, name)).collect();
                let content = if changes.is_empty() { Content::Unread } else { Content::Changes(changes) };
                (Service::ReceivePack, content)
            }
        };
        GitCall { method: "POST", path: format!("{path}/{}", service.as_str()), query: None, content }
    }
}

/// What serving would recognise in such a request to `host`, with credentials of `account`.
pub(in crate::commands) fn recognised(
    host: &str,
    (method, path, query): (&str, &str, Option<&str>),
    content: Content,
    account: Option<Account>,
) -> Recognised {
    let git = classify_for(host, method, path, query);
    let git = git.map(|request| GitAsk { request, content }).map_err(|why| why.to_string().into());
    let aws = account.map(|account| signed(host, account)).ok_or(CredentialsError::None);
    Recognised { git, aws, judged: Judged::default() }
}

/// Credentials for the service at `host`, as its name tells: `[X.]SERVICE.REGION.amazonaws.com`.
fn signed(host: &str, account: Account) -> AwsRequest {
    let signer = Signer::GitUser { user: format!("user-at-{account}").into(), account };
    let signed_fields = Box::default();
    if let Some(region) = codecommit_region(host) {
        let regions = Regions::One(region.into());
        return AwsRequest { signer, service: "codecommit".into(), regions, signed_fields };
    }
    let rest = host.strip_suffix(".cn").unwrap_or(host);
    let rest = rest.strip_suffix(".amazonaws.com").unwrap_or_default();
    let rest = rest.strip_suffix(".vpce").unwrap_or(rest);
    let mut labels = rest.rsplit('.');
    let (service, regions) = match (labels.next(), labels.next()) {
        (Some(region), Some(service)) => (service, Regions::One(region.into())),
        (Some(service), None) => (service, Regions::One("us-east-1".into())),
        (None, _) => ("", Regions::Unknown),
    };
    let service = service.strip_suffix("-fips").unwrap_or(service);
    AwsRequest { signer, service: service.into(), regions, signed_fields }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_tells_what_credentials_are_for() {
        let account = Account::new("123456789012").expect("twelve digits");
        let rows = [
            ("git-codecommit.eu-west-1.amazonaws.com", "codecommit eu-west-1"),
            ("s3.eu-west-1.amazonaws.com", "s3 eu-west-1"),
            ("bucket.s3.eu-west-1.amazonaws.com", "s3 eu-west-1"),
            ("sts.amazonaws.com", "sts us-east-1"),
            ("kms-fips.us-east-1.amazonaws.com", "kms us-east-1"),
            ("sqs.cn-north-1.amazonaws.com.cn", "sqs cn-north-1"),
            ("vpce-0a.sqs.us-east-1.vpce.amazonaws.com", "sqs us-east-1"),
        ];
        for (host, want) in rows {
            let AwsRequest { service, regions, .. } = signed(host, account);
            assert_eq!(format!("{service} {regions}"), want, "{host}");
        }
    }
}
