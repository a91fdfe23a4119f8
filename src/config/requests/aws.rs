//! What an entry says about AWS: `aws`, and whose the credentials are that are sent in place of the client's.

#[cfg(test)]
use schemars::JsonSchema;
use serde::Deserialize;

use super::super::finding::{Position, Report};
use super::super::keys::{Key, List, items, value};
use super::super::pairs::Pairs;
use super::super::typed::At;
use super::super::values::{AccountNumber, AwsName, KeyId};
use super::lists::{not_empty, once};
use crate::rules::Credentials;
use crate::rules::aws::AwsRule;
use crate::wire;
use crate::words::aws::{AccessKeyId, Account, Signer};

/// By whose credentials a request may come to AWS. One without credentials does not fit.
#[derive(Debug, Default, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[cfg_attr(test, schemars(rename = "Aws", deny_unknown_fields))]
pub(in crate::config) struct AwsFile {
    /// Accounts whose credentials may come, twelve digits in quotes. Left out: any.
    pub(super) accounts: List<AccountNumber>,
    /// Services that credentials may be for, by the name that signatures have: codecommit, s3. Left out: any.
    pub(super) services: List<AwsName>,
    /// Regions that credentials may be for. Left out: any.
    regions: List<AwsName>,
    /// The accounts of access keys of the old form, whose ids do not contain it.
    key_accounts: Key<Pairs<KeyId, AccountNumber>>,
}

/// What the entry says about AWS.
pub(super) fn aws(key: &Key<AwsFile>, report: &Report<'_>) -> Option<AwsRule> {
    let at = key.as_ref()?;
    let AwsFile { accounts, services, regions, key_accounts } = at.value.as_ref()?;
    let names = ["accounts", "services", "regions", "key_accounts"];
    if accounts.is_none() && services.is_none() && regions.is_none() && key_accounts.is_none() {
        if !names.iter().any(|name| report.is_misspelled(at.position, name)) {
            report.error(
                at.position,
                "`aws` names nothing: write `accounts: [\"123456789012\"]`, or remove the key",
            );
        }
        return None;
    }
    let mut rule = AwsRule::default();
    rule.accounts = accounts.as_ref().map(|at| {
        not_empty(at, "accounts", "\"123456789012\"", report);
        accounts_of(accounts, report)
    });
    rule.services = services.as_ref().map(|at| {
        not_empty(at, "services", "codecommit", report);
        names_of(services, "services", report)
    });
    rule.regions = regions.as_ref().map(|at| {
        not_empty(at, "regions", "eu-central-1", report);
        names_of(regions, "regions", report)
    });
    let Some(at) = key_accounts else { return Some(rule) };
    let keys = keys_of(at, report);
    if let (Some(accounts), Some(pairs)) = (&rule.accounts, &at.value) {
        for (key, account) in &pairs.0 {
            if let (Some(KeyId(key)), Some(AccountNumber(of))) = (&key.value, &account.value)
                && !accounts.contains(of)
            {
                let text =
                    format!("{key} is of {of}, which `accounts` does not list, so it never fits: remove one");
                report.warning(account.position, text);
            }
        }
    }
    match rule.clone().with_key_accounts(keys) {
        Ok(rule) => Some(rule),
        Err((wrong, text)) => {
            let pairs = at.value.iter().flat_map(|Pairs(pairs)| pairs);
            let mut keys = pairs.filter(|(key, _)| key.value.as_ref().is_some_and(|key| key.0 == wrong));
            report.error(keys.next().map_or(at.position, |(key, _)| key.position), text);
            Some(rule)
        }
    }
}

fn accounts_of(list: &List<AccountNumber>, report: &Report<'_>) -> Box<[Account]> {
    let mut seen = Vec::new();
    let mut accounts = Vec::new();
    for at in value(list).into_iter().flatten() {
        let Some(account) = account(at, report) else { continue };
        once(&mut seen, account.as_str().into(), "accounts", at.position, report);
        accounts.push(account);
    }
    accounts.into()
}

/// What else reads the file takes digits without quotes for a number, and drops the zeros in front.
fn account(at: &At<AccountNumber>, report: &Report<'_>) -> Option<Account> {
    let AccountNumber(account) = at.value.as_ref()?;
    if at.is_plain() {
        let text = format!(
            "{account} is a number to other readers of YAML, which lose zeros in front: write it in quotes, \"{account}\""
        );
        report.error(at.position, text);
    }
    Some(*account)
}

fn names_of(list: &List<AwsName>, key: &str, report: &Report<'_>) -> Box<[Box<str>]> {
    let mut seen: Vec<Box<str>> = Vec::new();
    for (AwsName(name), position) in items(list) {
        once(&mut seen, name.clone(), key, position, report);
    }
    seen.into()
}

fn keys_of(at: &At<Pairs<KeyId, AccountNumber>>, report: &Report<'_>) -> Vec<(AccessKeyId, Account)> {
    let Some(Pairs(pairs)) = &at.value else { return Vec::new() };
    if pairs.is_empty() {
        report.error(at.position, "`key_accounts` is empty: write KEY: \"ACCOUNT\", or remove the key");
    }
    let keys = pairs.iter().filter_map(|(key, of)| Some((key.value.as_ref()?.0, account(of, report)?)));
    keys.collect()
}

/// Whose the credentials of a file are, as AWS reads them; `None`: not AWS's.
pub(super) fn signer(credentials: &Credentials) -> Option<Signer> {
    let value = credentials.basic();
    let fields = [("authorization", value.as_bytes())];
    // The host says in which region they are used: that is known with the request alone.
    wire::aws::read("", None, fields.into_iter()).ok().map(|request| request.signer)
}

/// `aws` judges what is sent. Reports credentials that it would never let through.
pub(super) fn judge_lent(rule: &AwsRule, credentials: &Credentials, position: Position, report: &Report<'_>) {
    let file = credentials.file();
    let Some(lent) = credentials.lent_to("") else {
        let text = format!(
            "`aws` beside `credentials_file` judges the user in {file}, which is neither NAME-at-ACCOUNT, as IAM makes them for \
             Git, nor an access key id: write such a user, or remove `aws`"
        );
        return report.error(position, text);
    };
    let mut anywhere = rule.clone();
    anywhere.regions = None;
    if let Err(objection) = anywhere.may(&lent) {
        report.error(position, format!("of {file}: {}", objection.text));
    }
}
