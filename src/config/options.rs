//! The keys of rule options in the file: a row for each option of [`crate::rules::RuleOptions`], with its description in the
//! schema and how it is read, for a rule, for an allow file and for a rule set alike.
//!
//! Not here: what the options mean ([`crate::rules::RuleOptions`]), and the rules themselves ([`super::policies`]).

use ipnet::IpNet;
use jiff::Timestamp;
#[cfg(test)]
use schemars::JsonSchema;
use serde::Deserialize;

use super::finding::{Position, Report};
use super::keys::{self, Key, List, items, networks, value};
use super::named_files::NamedFiles;
use super::requests::{EntryFile, HeadersFile, credentials_position, headers, requests};
use super::values::{AccountNumber, Budget, FilePath, Label, Line, Moment, Network, Region, Size};
use crate::rules::{Ech, Misplaced, RuleOptions, Scheme, Schemes, UploadBudget, lint};
use crate::words::quote::quoted;

/// How a client makes the request.
#[derive(Clone, Copy, Debug, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(rename_all = "lowercase")]
#[cfg_attr(test, schemars(rename = "Scheme"))]
pub(super) enum SchemeFile {
    /// CONNECT with TLS inside, whose SNI equals the host.
    Https,
    /// A plain HTTP request in absolute form.
    Http,
    /// CONNECT with an opaque tunnel: the content is not inspected.
    Tcp,
}

/// What becomes of a ClientHello with encrypted_client_hello.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(rename_all = "lowercase")]
#[cfg_attr(test, schemars(rename = "Ech"))]
pub(super) enum EchFile {
    /// Its outer name is compared, and it passes.
    Allow,
    /// It is refused with `ech_not_allowed`.
    Deny,
}

/// What all forms can do.
macro_rules! common {
    ($($key:ident: $read:expr,)*) => {
        /// The options that were written for `schemes`, and what they imply.
        pub(super) fn options(
            &self,
            schemes: Schemes,
            report: &Report<'_>,
            files: &mut NamedFiles<'_>,
        ) -> RuleOptions {
            let mut options = RuleOptions { $($key: $read(&self.$key, report, files),)* };
            imply(&mut options, schemes, &self.inspect, &self.verify_certificate, report);
            one_authorization(&options, &self.requests, report);
            options
        }

        /// The entries of `requests`, as typed.
        pub(super) fn requests(&self) -> &List<EntryFile> {
            &self.requests
        }

        /// Reports what is wrong with the options of rules for `schemes`.
        pub(super) fn check(&self, schemes: Schemes, report: &Report<'_>) {
            of_https(&self.verify_certificate, "verify_certificate", true, schemes, report);
            of_https(&self.ech, "ech", EchFile::Deny, schemes, report);
            not_in_clear(&self.inspect, schemes, report);
        }
    };
}

/// Writes each key into all forms. Not `#[serde(flatten)]`: with it the reader does not know which keys exist, and an
/// unknown key would have no position.
macro_rules! options {
    ($($key:ident: $type:ty = $read:expr, $of_a_rule:literal, $of_a_file:literal;)*) => {
        /// A rule with options.
        #[derive(Debug, Deserialize)]
        #[cfg_attr(test, derive(JsonSchema))]
        #[cfg_attr(test, schemars(rename = "Rule", deny_unknown_fields))]
        pub(super) struct FullRuleFile {
            /// `[scheme://]host[:port]`.
            #[cfg_attr(test, schemars(required))]
            pub(super) to: Key<Line>,
            $(#[doc = $of_a_rule] $key: $type,)*
        }

        /// A file of rules with options for all of its lines.
        #[derive(Debug, Deserialize)]
        #[cfg_attr(test, derive(JsonSchema))]
        #[cfg_attr(test, schemars(rename = "AllowFile", deny_unknown_fields))]
        pub(super) struct FullAllowFile {
            /// One rule per line, comments after `#`.
            #[cfg_attr(test, schemars(required))]
            pub(super) file: Key<FilePath>,
            /// What a line without a scheme means. Left out: https.
            pub(super) schemes: List<SchemeFile>,
            $(#[doc = $of_a_file] $key: $type,)*
        }

        /// A rule set with options for all of its lines.
        #[derive(Debug, Deserialize)]
        #[cfg_attr(test, derive(JsonSchema))]
        #[cfg_attr(test, schemars(rename = "Set", deny_unknown_fields))]
        pub(super) struct FullSetFile {
            /// The name of a rule set that is shipped: `egressd sets` lists them.
            #[cfg_attr(test, schemars(required))]
            pub(super) set: Key<Line>,
            /// Its version, which never changes.
            #[cfg_attr(test, schemars(required))]
            pub(super) version: Key<Line>,
            /// The region of AWS, for a set that needs one.
            pub(super) region: Key<Region>,
            /// The account of AWS, for a set that needs one.
            pub(super) account: Key<AccountNumber>,
            $(#[doc = $of_a_file] $key: $type,)*
        }

        impl FullSetFile {
            common!($($key: $read,)*);

            /// Where the key is written that a rule of the set cannot have.
            pub(super) fn position_of(&self, key: Misplaced) -> Option<Position> {
                position_of(key, &self.inspect, &self.requests, &self.headers)
            }
        }

        impl FullRuleFile {
            common!($($key: $read,)*);

            /// Where the key is written that a rule cannot have.
            pub(super) fn position_of(&self, key: Misplaced) -> Option<Position> {
                position_of(key, &self.inspect, &self.requests, &self.headers)
            }
        }

        impl FullAllowFile {
            common!($($key: $read,)*);
        }
    };
}

// The key, how it is read, and its description for a rule and for an allow file.
options! {
    name: Key<Label> = name,
        "Name of the rule, and its `rule` label in metrics. Left out: the rule's text.",
        "Name that is shown for the rule of every line, and its `rule` label in metrics. Left out: the line's text, and \
         the file's base name in metrics.";
    description: Key<Line> = note,
        "Free text, shown together with the rule.",
        "Free text, shown together with the rule.";
    owner: Key<Line> = note,
        "Free text, shown together with the rule.",
        "Free text, shown together with the rule.";
    ticket: Key<Line> = note,
        "Free text, shown together with the rule.",
        "Free text, shown together with the rule.";
    expires: Key<Moment> = expires,
        "The rule stops matching at the start of this date (UTC), or at this RFC 3339 time.",
        "The lines stop matching at the start of this date (UTC), or at this RFC 3339 time.";
    private: List<Network> = of_rule,
        "Non-public networks that this rule may reach.",
        "Non-public networks that the lines may reach.";
    upload_limit: Key<Size> = upload_limit,
        "Maximum of bytes from client to target in one tunnel or request.",
        "Maximum of bytes from client to target in one tunnel or request.";
    upload_budget: Key<Budget> = upload_budget,
        "Maximum of bytes from client to target over a sliding window, for each client and rule.",
        "Maximum of bytes from client to target over a sliding window, for each client and rule.";
    verify_certificate: Key<bool> = switch,
        "egressd makes its own TLS handshake with the target, and requires a valid certificate for the host.",
        "egressd makes its own TLS handshake with the target, and requires a valid certificate for the host.";
    inspect: Key<bool> = switch,
        "egressd opens the TLS of the tunnel, and judges each request in it. Implied by `requests` and `headers`.",
        "egressd opens the TLS of the tunnels, and judges each request in them. Implied by `requests` and `headers`.";
    requests: List<EntryFile> = requests,
        "The requests that may pass: one entry must fit, and of it every key that is set. Left out: any.",
        "The requests that may pass: one entry must fit, and of it every key that is set. Left out: any.";
    headers: Key<HeadersFile> = headers,
        "Fields that are set or removed in each request.",
        "Fields that are set or removed in each request.";
    ech: Key<EchFile> = ech,
        "What becomes of a ClientHello with encrypted_client_hello: allow (default), or deny. Browsers send it to every \
         host.",
        "What becomes of a ClientHello with encrypted_client_hello: allow (default), or deny. Browsers send it to every \
         host.";
}

fn name(key: &Key<Label>, _: &Report<'_>, _: &mut NamedFiles<'_>) -> Option<Box<str>> {
    value(key).map(|label| label.0.clone())
}

fn note(key: &Key<Line>, _: &Report<'_>, _: &mut NamedFiles<'_>) -> Option<Box<str>> {
    value(key).map(|line| line.0.clone())
}

fn expires(key: &Key<Moment>, _: &Report<'_>, _: &mut NamedFiles<'_>) -> Option<Timestamp> {
    value(key).map(|moment| moment.0)
}

fn of_rule(list: &List<Network>, report: &Report<'_>, _: &mut NamedFiles<'_>) -> Vec<IpNet> {
    private(list, report)
}

/// Reads `private` of a rule, of an allow file, or of a whole policy.
pub(super) fn private(list: &List<Network>, report: &Report<'_>) -> Vec<IpNet> {
    let all = networks(list).unwrap_or_default();
    let mut is_told = false;
    for (network, position) in items(list) {
        if network.0.prefix_len() == 0 {
            report.warning(
                position,
                format!(
                    "{} opens every internal address: write only the network that you need",
                    quoted(&network.0.to_string())
                ),
            );
            is_told = true;
        } else if let Some(doubt) = lint::private_network(&network.0) {
            report.warning(position, doubt);
        }
    }
    if let (Some(at), Some((alone, text)), false) = (list, lint::whole_private(&all), is_told) {
        let alone = alone.and_then(|network| keys::position_of(list, &network));
        report.warning(alone.unwrap_or(at.position), text);
    }
    all
}

fn upload_limit(key: &Key<Size>, report: &Report<'_>, _: &mut NamedFiles<'_>) -> Option<u64> {
    if let Some(at) = key
        && at.value.as_ref().is_some_and(|size| size.0 == 0)
    {
        report.error(
            at.position,
            "an `upload_limit` of 0 lets nothing through: write at least 1B, or deny the host",
        );
    }
    value(key).map(|size| size.0)
}

fn upload_budget(key: &Key<Budget>, _: &Report<'_>, _: &mut NamedFiles<'_>) -> Option<UploadBudget> {
    value(key).map(|budget| budget.0)
}

fn switch(key: &Key<bool>, _: &Report<'_>, _: &mut NamedFiles<'_>) -> bool {
    value(key).copied().unwrap_or_default()
}

fn ech(key: &Key<EchFile>, _: &Report<'_>, _: &mut NamedFiles<'_>) -> Ech {
    match value(key) {
        Some(EchFile::Deny) => Ech::Deny,
        Some(EchFile::Allow) | None => Ech::Allow,
    }
}

/// What `requests` and `headers` imply, and what contradicts it.
fn imply(
    options: &mut RuleOptions,
    schemes: Schemes,
    inspect: &Key<bool>,
    verify: &Key<bool>,
    report: &Report<'_>,
) {
    let needs = match (&options.requests, &options.headers) {
        (Some(_), _) => Some("requests"),
        (None, Some(_)) => Some("headers"),
        (None, None) => None,
    };
    if !schemes.contains(Scheme::Https) {
        return;
    }
    if let (Some(key), Some(at), Some(false)) = (needs, inspect, value(inspect)) {
        let text =
            format!("`{key}` needs what is inside the tunnel: write `inspect: true`, or remove `{key}`");
        report.error(at.position, text);
    }
    options.inspect |= needs.is_some();
    if let (true, Some(at), Some(false)) = (options.inspect, verify, value(verify)) {
        report.error(
            at.position,
            "egressd always verifies the target of a tunnel that it inspects, because the client cannot: remove \
             `verify_certificate: false`",
        );
    }
}

/// Both would be sent in the same field.
fn one_authorization(options: &RuleOptions, entries: &List<EntryFile>, report: &Report<'_>) {
    let sets = options.headers.as_ref().is_some_and(|headers| headers.authorizes());
    if let (true, Some(position)) = (sets, credentials_position(entries)) {
        report.error(
            position,
            "`credentials_file` and `Authorization` of `set_files` are sent in the same field: remove one of them",
        );
    }
}

/// Without TLS there is nothing to open.
fn not_in_clear(inspect: &Key<bool>, schemes: Schemes, report: &Report<'_>) {
    if let (Some(at), Some(true), true) = (inspect, value(inspect), schemes == Schemes::from(Scheme::Http)) {
        report.error(
            at.position,
            "`inspect` opens TLS, and the requests of an http rule are read in any case: remove it",
        );
    }
}

fn position_of(
    key: Misplaced,
    inspect: &Key<bool>,
    entries: &List<EntryFile>,
    fields: &Key<HeadersFile>,
) -> Option<Position> {
    match key {
        Misplaced::Inspect => inspect.as_ref().map(|at| at.position),
        Misplaced::Requests => entries.as_ref().map(|at| at.position),
        Misplaced::Headers => fields.as_ref().map(|at| at.position),
        Misplaced::CredentialsFile => credentials_position(entries),
        Misplaced::SetFiles => value(fields)?.set_files.as_ref().map(|at| at.position),
    }
}

/// Only a tunnel of an `https` rule is looked into.
fn of_https<T: Copy + PartialEq>(key: &Key<T>, name: &str, checks: T, schemes: Schemes, report: &Report<'_>) {
    if let Some(at) = key
        && at.value == Some(checks)
        && !schemes.contains(Scheme::Https)
    {
        report.error(at.position, format!("`{name}` needs an https rule: write https://, or remove it"));
    }
}
