//! Which rules cannot have which options about requests.

use http::HeaderName;
use http::header::AUTHORIZATION;

use super::options::RuleOptions;
use super::pattern::HostPattern;
use super::rule::{Scheme, Schemes};

/// A key that a rule cannot have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Misplaced {
    /// `inspect`, or what implies it.
    Inspect,
    /// `requests`.
    Requests,
    /// `headers`.
    Headers,
    /// `credentials_file` of an entry of `requests`.
    CredentialsFile,
    /// `set_files` of `headers`.
    SetFiles,
}

impl RuleOptions {
    /// The first key that a rule for `host` by `schemes` cannot have, and why, with what to write instead.
    pub fn misplaced(&self, host: &HostPattern, schemes: Schemes) -> Option<(Misplaced, &'static str)> {
        let RuleOptions { inspect, requests, headers, .. } = self;
        let key = match (requests, headers, inspect) {
            (Some(_), _, _) => Misplaced::Requests,
            (None, Some(_), _) => Misplaced::Headers,
            (None, None, true) => Misplaced::Inspect,
            (None, None, false) => return None,
        };
        if schemes.contains(Scheme::Tcp) {
            let text = match key {
                Misplaced::Requests => {
                    "`requests` needs an https or http rule: nothing looks into a tcp tunnel"
                }
                Misplaced::Headers => {
                    "`headers` needs an https or http rule: nothing looks into a tcp tunnel"
                }
                _ => "`inspect` needs an https rule: nothing looks into a tcp tunnel",
            };
            return Some((key, text));
        }
        let is_address = matches!(host, HostPattern::Address(_) | HostPattern::Network(_));
        if is_address && *inspect && schemes.contains(Scheme::Https) {
            let text = "a tunnel to an address cannot be inspected: the certificate that clients see is for one name; \
                        write the host's name";
            return Some((key, text));
        }
        let judges = requests.iter().flat_map(|requests| requests.entries()).any(|entry| entry.aws.is_some());
        let set = headers.iter().flat_map(|headers| headers.set.iter().map(|field| &field.name));
        let removed = headers.iter().flat_map(|headers| headers.remove.iter());
        let signs = |name: &HeaderName| *name == AUTHORIZATION || name.as_str().starts_with("x-amz-");
        if judges && set.chain(removed).any(signs) {
            let text = "`headers` changes a field by which AWS knows the account, and `aws` judges what the client sent: write \
                        `credentials_file` on the entry, or take the field out of `headers`";
            return Some((Misplaced::Headers, text));
        }
        if !schemes.contains(Scheme::Http) {
            return None;
        }
        let mut entries = requests.iter().flat_map(|requests| requests.entries());
        if entries.any(|entry| entry.credentials.is_some()) {
            let text =
                "`credentials_file` needs an https rule: over http, the password would be sent in clear text";
            return Some((Misplaced::CredentialsFile, text));
        }
        let mut fields = headers.iter().flat_map(|headers| &headers.set);
        if fields.any(|field| field.file.is_some()) {
            let text =
                "`set_files` needs an https rule: over http, what a file keeps would be sent in clear text";
            return Some((Misplaced::SetFiles, text));
        }
        None
    }
}
