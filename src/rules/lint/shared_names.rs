//! Patterns under which anyone can get names, what they reach, and what to write instead.
//!
//! There are two sources. The first is the private section of the Public Suffix List
//! (<https://publicsuffix.org/list/>), where companies list the domains under which their customers get names. The
//! second is a short table of our own, for domains above those (`*.amazonaws.com`), which the list does not cover, and
//! for better advice. A table goes out of date; there is no warning for what it does not know.

use std::fmt;

use super::super::label_pattern::{self, literal_suffix};
use super::super::public_suffix;

/// A company's domain, and where under it its customers get names.
struct Domain {
    name: &'static str,
    /// "other … customers".
    whose: &'static str,
    /// What to write instead of everything under it.
    instead: &'static str,
    /// Other domains of the same services, which a pattern for this one does not cover.
    misses: &'static [&'static str],
    /// Suffixes under which a customer chooses or is given a name, and what these names are for. A `*` is one label or
    /// a part of it, such as a region.
    gives: &'static [(&'static str, &'static str)],
}

const AWS: &str = "the service's own names, as in `git-codecommit.*.amazonaws.com` for CodeCommit, preferably with the region";
const AWS_CHINA: &str = "the service's own names with the region, as in `ecr.cn-north-1.amazonaws.com.cn`";
const AZURE: &str = "the names that are yours, as in `ACCOUNT.blob.core.windows.net`";
const YOURS: &str = "the names that are yours";

/// Sorted by name. Reason for each suffix: a customer's resource gets a public name under it, as the provider
/// documents.
const DOMAINS: &[Domain] = &[
    Domain {
        name: "amazonaws.com",
        whose: "AWS",
        instead: AWS,
        misses: &["api.aws", "on.aws", "amazonaws.com.cn"],
        gives: &[
            // Bucket names can be chosen freely, and are global.
            ("s3.amazonaws.com", "S3 buckets"),
            ("s3.*.amazonaws.com", "S3 buckets"),
            ("s3-*.amazonaws.com", "S3 buckets"),
            ("s3.dualstack.*.amazonaws.com", "S3 buckets"),
            ("s3-website.*.amazonaws.com", "S3 buckets"),
            ("s3-accesspoint.*.amazonaws.com", "S3 buckets"),
            // `ec2-203-0-113-9.REGION.compute`: every customer who rents an instance has one. us-east-1 is called
            // compute-1.
            ("*.compute.amazonaws.com", "EC2 instances"),
            ("compute-1.amazonaws.com", "EC2 instances"),
            // Application and classic load balancers, then network load balancers.
            ("*.elb.amazonaws.com", "load balancers"),
            ("elb.*.amazonaws.com", "load balancers"),
            ("execute-api.*.amazonaws.com", "API Gateway"),
            ("*.rds.amazonaws.com", "RDS databases"),
        ],
    },
    Domain {
        name: "amazonaws.com.cn",
        whose: "AWS",
        instead: AWS_CHINA,
        misses: &["amazonaws.com", "api.aws"],
        gives: &[
            ("s3.*.amazonaws.com.cn", "S3 buckets"),
            ("*.compute.amazonaws.com.cn", "EC2 instances"),
            ("*.elb.amazonaws.com.cn", "load balancers"),
            ("elb.*.amazonaws.com.cn", "load balancers"),
            ("execute-api.*.amazonaws.com.cn", "API Gateway"),
        ],
    },
    Domain {
        name: "appspot.com",
        whose: "Google Cloud",
        instead: YOURS,
        misses: &[],
        gives: &[("appspot.com", "App Engine")],
    },
    Domain {
        name: "azure.com",
        whose: "Azure",
        instead: "the service's own names, as in `management.azure.com`",
        misses: &["azure.net", "windows.net", "microsoftonline.com"],
        gives: &[("*.cloudapp.azure.com", "virtual machines")],
    },
    Domain {
        name: "azurewebsites.net",
        whose: "Azure",
        instead: YOURS,
        misses: &[],
        gives: &[("azurewebsites.net", "App Service and Functions")],
    },
    Domain {
        name: "cloudfront.net",
        whose: "AWS",
        instead: "the distribution's name, as in `d111111abcdef8.cloudfront.net`, or the name in front of it",
        misses: &[],
        // Names are random, so nobody recognises another customer's name in a log.
        gives: &[("cloudfront.net", "CloudFront distributions, each in front of any origin")],
    },
    Domain {
        name: "elasticbeanstalk.com",
        whose: "AWS",
        instead: YOURS,
        misses: &[],
        gives: &[
            ("elasticbeanstalk.com", "Elastic Beanstalk"),
            ("*.elasticbeanstalk.com", "Elastic Beanstalk"),
        ],
    },
    Domain {
        name: "github.io",
        whose: "GitHub",
        instead: "the account's name, as in `ACCOUNT.github.io`",
        misses: &[],
        gives: &[("github.io", "GitHub Pages")],
    },
    Domain {
        name: "githubusercontent.com",
        whose: "GitHub",
        // The path shows the owner, and egressd does not see the path.
        instead: "the one host that is needed, as in `objects.githubusercontent.com`; even that one serves every account",
        misses: &["github.com", "ghcr.io"],
        gives: &[("githubusercontent.com", "files of every account")],
    },
    Domain {
        name: "googleapis.com",
        whose: "Google Cloud",
        instead: "the service's own names, as in `pubsub.googleapis.com`",
        misses: &["pkg.dev", "googleusercontent.com"],
        gives: &[("storage.googleapis.com", "storage buckets")],
    },
    Domain {
        name: "herokuapp.com",
        whose: "Heroku",
        instead: "the app's name, as in `APP.herokuapp.com`",
        misses: &[],
        gives: &[("herokuapp.com", "apps")],
    },
    Domain {
        name: "on.aws",
        whose: "AWS",
        instead: YOURS,
        misses: &["amazonaws.com", "api.aws"],
        gives: &[("lambda-url.*.on.aws", "Lambda function URLs")],
    },
    Domain {
        name: "run.app",
        whose: "Google Cloud",
        instead: YOURS,
        misses: &[],
        gives: &[("run.app", "Cloud Run"), ("*.run.app", "Cloud Run")],
    },
    Domain {
        name: "windows.net",
        whose: "Azure",
        instead: AZURE,
        misses: &["azure.com", "azure.net", "azurewebsites.net"],
        gives: &[
            ("blob.core.windows.net", "storage accounts"),
            ("*.core.windows.net", "storage accounts"),
            ("database.windows.net", "SQL databases"),
            ("servicebus.windows.net", "Service Bus"),
        ],
    },
];

/// What a pattern reaches, as the end of a sentence that begins with the pattern.
#[derive(Debug)]
pub(super) enum Strangers {
    /// By the table.
    Listed {
        whose: &'static str,
        /// What the names are for, each with a suffix.
        reached: Vec<(&'static str, &'static str)>,
        instead: String,
        misses: &'static [&'static str],
    },
    /// By the Public Suffix List.
    Suffix(String),
}

/// Who can get names under `base`.
pub(super) fn under(base: &str) -> Option<Strangers> {
    let domain = domain_of(base);
    let reached =
        domain.map(|domain| reached_by(domain, |suffix| base_reaches(base, suffix))).unwrap_or_default();
    if let Some(domain) = domain
        && !reached.is_empty()
    {
        // Only regions are between `base` and the customers' names.
        let itself = domain.name != base
            && reached.iter().any(|(suffix, _)| {
                let beyond = suffix.split('.').count().saturating_sub(base.split('.').count());
                suffix.split('.').take(beyond).all(|label| label == "*")
            });
        let instead =
            if itself { format!("{YOURS}, as in `NAME.{base}`") } else { domain.instead.to_owned() };
        let misses = if domain.name == base { domain.misses } else { &[] };
        return Some(Strangers::Listed { whose: domain.whose, reached, instead, misses });
    }
    private_suffix(base).map(|_| Strangers::Suffix(base.to_owned()))
}

/// Who can get names that a pattern with a `*` inside matches: those who can choose the text for the `*`.
pub(super) fn labels(pattern: &str) -> Option<Strangers> {
    let base = literal_suffix(pattern);
    if let Some(domain) = domain_of(base) {
        let reached = reached_by(domain, |suffix| pattern_reaches(pattern, suffix));
        if !reached.is_empty() {
            let instead = format!("{YOURS}, without a `*` where others can choose");
            return Some(Strangers::Listed { whose: domain.whose, reached, instead, misses: &[] });
        }
    }
    let given = private_suffix(base)?;
    let chosen = pattern.split('.').count().checked_sub(base.split('.').count() + given)?;
    let open = pattern.split('.').take(chosen).any(|label| label.contains('*'));
    open.then(|| Strangers::Suffix(base.to_owned()))
}

/// Whether a name is under a suffix where customers of one service get theirs.
pub(super) fn is_of_a_customer(name: &str) -> bool {
    let found = public_suffix::find(name);
    let listed = found.section == Some(public_suffix::Section::Private) && found.len < name.len();
    let given_under = |base: &str| {
        let mut given = domain_of(base).into_iter().flat_map(|domain| domain.gives);
        given.any(|(suffix, _)| *suffix == base || label_pattern::matches(suffix, base))
    };
    listed || name.match_indices('.').filter_map(|(dot, _)| name.get(dot + 1..)).any(given_under)
}

fn domain_of(base: &str) -> Option<&'static Domain> {
    let ends = std::iter::once(0).chain(base.match_indices('.').map(|(dot, _)| dot + 1));
    ends.filter_map(|start| base.get(start..))
        .find_map(|name| DOMAINS.binary_search_by_key(&name, |domain| domain.name).ok())
        .and_then(|at| DOMAINS.get(at))
}

/// What the names under the matching suffixes are for, each once.
fn reached_by(domain: &'static Domain, fits: impl Fn(&str) -> bool) -> Vec<(&'static str, &'static str)> {
    let mut reached: Vec<(&str, &str)> = Vec::new();
    for &(suffix, what) in domain.gives.iter().filter(|(suffix, _)| fits(suffix)) {
        if reached.iter().all(|(_, other)| *other != what) {
            reached.push((suffix, what));
        }
    }
    reached
}

/// Whether the names under `base` include names under `suffix` that the operator did not choose. A `base` that is
/// longer than the suffix belongs to one customer.
fn base_reaches(base: &str, suffix: &str) -> bool {
    let (mut base, mut suffix) = (base.rsplit('.'), suffix.rsplit('.'));
    loop {
        match (base.next(), suffix.next()) {
            (None, _) => return true,
            (Some(_), None) => return false,
            (Some(own), Some(given)) if !labels_may_meet(own, given) => return false,
            _ => {}
        }
    }
}

/// The same for a pattern: it must have a `*` where the customer's choice is.
fn pattern_reaches(pattern: &str, suffix: &str) -> bool {
    let mut pattern = pattern.rsplit('.');
    suffix.rsplit('.').all(|given| pattern.next().is_some_and(|own| labels_may_meet(own, given)))
        && pattern.any(|chosen| chosen.contains('*'))
}

/// Whether some name matches both patterns. It never returns false by mistake.
pub(in crate::rules) fn may_meet(one: &str, other: &str) -> bool {
    one.split('.').count() == other.split('.').count()
        && one.split('.').zip(other.split('.')).all(|(one, other)| labels_may_meet(one, other))
}

/// Whether some label matches both: the text before the first `*` and after the last one must agree. Between two stars
/// any text is possible, so this may return true too often, but never false by mistake.
fn labels_may_meet(one: &str, other: &str) -> bool {
    let head = |label: &str| label.find('*').unwrap_or(label.len());
    let tail = |label: &str| label.rfind('*').map_or(label.len(), |star| label.len() - star - 1);
    let (front, back) = (head(one).min(head(other)), tail(one).min(tail(other)));
    // A label without `*` must be long enough for the other label.
    let room = |literal: &str, pattern: &str| literal.contains('*') || literal.len() >= pattern.len();
    match (one.contains('*'), other.contains('*')) {
        (false, false) => one == other,
        _ => {
            one.bytes().take(front).eq(other.bytes().take(front))
                && one.bytes().rev().take(back).eq(other.bytes().rev().take(back))
                && room(one, other)
                && room(other, one)
        }
    }
}

/// Whether the private section of the Public Suffix List has `base` as a suffix (0), or suffixes with one more label
/// (`*.base`: 1).
fn private_suffix(base: &str) -> Option<usize> {
    if base.is_empty() {
        return None;
    }
    // As in `public_suffix`: no name has the label "-".
    let found = public_suffix::find(&format!("-.{base}"));
    let whole = found.section == Some(public_suffix::Section::Private) && found.len >= base.len();
    whole.then(|| usize::from(found.len > base.len()))
}

impl fmt::Display for Strangers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Strangers::Suffix(base) => write!(
                f,
                "matches names under `{base}`, where the Public Suffix List says that anyone can get one: write the \
                 names that are yours, as in `NAME.{base}`"
            ),
            Strangers::Listed { whose, reached, instead, misses } => {
                write!(f, "also matches resources of other {whose} customers: ")?;
                for (at, (suffix, what)) in reached.iter().enumerate() {
                    let comma = if at == 0 { "" } else { ", " };
                    write!(f, "{comma}{what} (`*.{suffix}`)")?;
                }
                write!(f, "; write {instead}")?;
                if !misses.is_empty() {
                    write!(f, ". It does not cover {}", join(misses))?;
                }
                Ok(())
            }
        }
    }
}

/// "`a`, `b` and `c`".
fn join(names: &[&str]) -> String {
    let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    match names.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, rest)) => format!("{} and {last}", rest.join(", ")),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_each_suffix_is_of_its_domain() {
        assert!(DOMAINS.is_sorted_by_key(|domain| domain.name));
        for domain in DOMAINS {
            assert!(!domain.gives.is_empty(), "{}", domain.name);
            for (suffix, _) in domain.gives {
                assert!(suffix.ends_with(domain.name), "{suffix}");
            }
        }
    }

    #[test]
    fn labels_meet_where_one_label_fits_both() {
        let rows = [
            ("a", "a", true),
            ("a", "b", false),
            ("*", "a", true),
            ("a*", "ab", true),
            ("a*", "a", false),
            ("s3-*", "s3-website", true),
            ("s3-*", "s3", false),
            ("a*", "b*", false),
            ("a*", "*b", true),
            ("*-a", "*-b", false),
        ];
        for (one, other, want) in rows {
            assert_eq!(labels_may_meet(one, other), want, "{one} {other}");
            assert_eq!(labels_may_meet(other, one), want, "{other} {one}");
        }
    }

    #[test]
    fn strangers_are_seen_where_they_choose_the_name() {
        let told = |pattern: &str| {
            let found = match pattern.strip_prefix("*.").filter(|base| !base.contains('*')) {
                Some(base) => under(base),
                None => labels(pattern),
            };
            found.map(|found| found.to_string()).unwrap_or_default()
        };
        let rows = [
            ("*.amazonaws.com", "S3 buckets"),
            ("*.amazonaws.com", "EC2 instances"),
            ("*.amazonaws.com", "load balancers"),
            ("*.amazonaws.com", "API Gateway"),
            (
                "*.amazonaws.com",
                "write the service's own names, as in `git-codecommit.*.amazonaws.com` for CodeCommit",
            ),
            ("*.amazonaws.com", "does not cover `api.aws`, `on.aws` and `amazonaws.com.cn`"),
            ("*.eu-west-1.amazonaws.com", "API Gateway"),
            ("*.s3.amazonaws.com", "as in `NAME.s3.amazonaws.com`"),
            ("*.s3.eu-west-1.amazonaws.com", "S3 buckets"),
            ("*.eu-west-1.compute.amazonaws.com", "EC2 instances"),
            ("ec2-*.eu-west-1.compute.amazonaws.com", "EC2 instances"),
            ("acme-*.s3.amazonaws.com", "S3 buckets"),
            ("*.*.amazonaws.com", "S3 buckets"),
            ("*.amazonaws.com.cn", "load balancers"),
            ("*.on.aws", "Lambda function URLs"),
            ("*.core.windows.net", "storage accounts"),
            ("*.googleapis.com", "storage buckets"),
            ("*.githubusercontent.com", "files of every account"),
            ("*.github.io", "GitHub Pages"),
            ("*.herokuapp.com", "as in `APP.herokuapp.com`"),
            ("*.vercel.app", "Public Suffix List"),
            ("acme-*.vercel.app", "Public Suffix List"),
            ("www.*.vercel.app", "Public Suffix List"),
        ];
        for (pattern, want) in rows {
            assert!(told(pattern).contains(want), "{pattern}: {:?}", told(pattern));
        }
        for name in [
            "d111111abcdef8.cloudfront.net",
            "bucket.s3.eu-west-1.amazonaws.com",
            "ec2-203-0-113-9.eu-west-1.compute.amazonaws.com",
            "acme.github.io",
            "deep.acme.vercel.app",
        ] {
            assert!(is_of_a_customer(name), "{name}");
        }
        for name in ["git-codecommit.eu-west-1.amazonaws.com", "vpn.example.com", "github.io", "vpn.internal"]
        {
            assert!(!is_of_a_customer(name), "{name}");
        }
        let rows = [
            "git-codecommit.*.amazonaws.com",
            "ec2-*.amazonaws.com",
            "*.acme.s3.amazonaws.com",
            "*.acme.github.io",
            "*.example.com",
            "git-*.example.com",
            "*.internal",
        ];
        for pattern in rows {
            assert_eq!(told(pattern), "", "{pattern}");
        }
    }
}
