//! What is valid in a rule about AWS, and unwise: that our key signs does not say where data lands.

use super::AwsRule;
use crate::rules::entry_place::{EntryKey, EntryPlace};

/// Services whose resources other accounts may share with our key, and what is shared, by the names that signatures have. One that is
/// missing costs a warning.
const SHARED: [(&str, &str); 24] = [
    ("s3", "buckets"),
    ("s3express", "buckets"),
    ("s3-outposts", "buckets"),
    ("s3-object-lambda", "access points"),
    ("sqs", "queues"),
    ("sns", "topics"),
    ("kms", "keys"),
    ("secretsmanager", "secrets"),
    ("lambda", "functions"),
    ("ecr", "repositories"),
    ("dynamodb", "tables"),
    ("kinesis", "streams"),
    ("firehose", "streams"),
    ("events", "event buses"),
    ("logs", "log groups"),
    ("glacier", "vaults"),
    ("backup", "vaults"),
    ("ses", "identities"),
    ("es", "domains"),
    ("aoss", "collections"),
    ("execute-api", "APIs"),
    ("glue", "catalogs"),
    ("codeartifact", "repositories"),
    ("iotdata", "topics"),
];

/// Warnings about one entry, each with what of it is meant.
pub fn doubts(rule: &AwsRule) -> Vec<(EntryPlace, String)> {
    let bounds = "`accounts` bounds whose credentials sign, not where data lands";
    let Some(services) = rule.services.as_ref() else {
        let all = rule.accounts.as_ref().map(|_| {
            let text = format!("{bounds}: without `services`, a key of ours may write to what another account shares with it, such as a bucket; \
                     write the services that are needed, such as `services: [codecommit]`");
            (EntryPlace::Key(EntryKey::Accounts), text)
        });
        return all.into_iter().collect();
    };
    let place_of = |name: &str| {
        let number = services.iter().position(|service| **service == *name)?;
        Some(EntryPlace::Item(EntryKey::Services, number))
    };
    let sts = place_of("sts").map(|place| {
        let text = "with STS, a key of ours gets credentials of another account that lets it, and their session name and policy text go out: \
         take `sts` out of `services`, or allow it in an entry whose account's keys may assume no foreign role";
        (place, text.to_owned())
    });
    let shared = SHARED.iter().find_map(|(name, what)| Some((place_of(name)?, name, what)));
    let shared = shared.map(|(place, name, what)| {
        let text = format!(
            "{bounds}: {what} of another account may be open to a key of ours ({name}); write `paths`, or a policy of a VPC endpoint \
             with aws:ResourceAccount, which can tell"
        );
        (place, text)
    });
    sts.into_iter().chain(shared).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words::aws::Account;

    #[test]
    fn that_a_key_is_ours_does_not_say_where_data_lands() {
        let rule = |accounts: bool, services: Option<&[&str]>| {
            let accounts = accounts.then(|| [Account::new("123456789012").unwrap()].into());
            let services = services.map(|all| all.iter().map(|service| Box::from(*service)).collect());
            AwsRule { accounts, services, ..AwsRule::default() }
        };
        type Row<'a> = (bool, Option<&'a [&'a str]>, &'a [&'a str]);
        let rows: [Row<'_>; 7] = [
            (false, None, &[]),
            (true, None, &["without `services`"]),
            (true, Some(&["codecommit"]), &[]),
            (true, Some(&["codecommit", "s3"]), &["buckets of another account"]),
            (true, Some(&["sts"]), &["with STS"]),
            (true, Some(&["sqs", "sts"]), &["with STS", "queues of another account"]),
            (false, Some(&["kms"]), &["keys of another account"]),
        ];
        for (accounts, services, want) in rows {
            let told = doubts(&rule(accounts, services));
            let same = told.len() == want.len()
                && told.iter().zip(want).all(|((_, told), want)| told.contains(want));
            assert!(same, "{services:?}: {told:?}");
        }
    }
}
