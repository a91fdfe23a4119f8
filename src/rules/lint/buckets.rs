//! Hosts where everybody's buckets are, told apart by the path alone: who may reach the host may write to anyone's bucket.
//!
//! A table goes out of date; there is no warning for what it does not know. Not here: names of single customers under a domain
//! ([`shared_names`](super::shared_names)).

use std::fmt;

use super::super::label_pattern;
use super::super::options::RuleOptions;
use super::shared_names::may_meet;

/// A host, with a `*` for a part of a label, whose buckets they are, and the name of one bucket's own host if there is one.
type Host = (&'static str, &'static str, Option<&'static str>);

/// As the providers document them: endpoints that take the bucket in the path.
#[rustfmt::skip]
const HOSTS: &[Host] = &[
    ("s3.amazonaws.com", "S3", Some("BUCKET.s3.REGION.amazonaws.com")),
    ("s3.*.amazonaws.com", "S3", Some("BUCKET.s3.REGION.amazonaws.com")),
    ("s3-*.amazonaws.com", "S3", Some("BUCKET.s3.REGION.amazonaws.com")),
    ("s3-*.*.amazonaws.com", "S3", Some("BUCKET.s3.REGION.amazonaws.com")),
    ("s3.dualstack.*.amazonaws.com", "S3", Some("BUCKET.s3.dualstack.REGION.amazonaws.com")),
    ("s3-fips.dualstack.*.amazonaws.com", "S3", Some("BUCKET.s3-fips.dualstack.REGION.amazonaws.com")),
    ("s3.*.amazonaws.com.cn", "S3", Some("BUCKET.s3.REGION.amazonaws.com.cn")),
    ("s3.*.api.aws", "S3", Some("BUCKET.s3.REGION.api.aws")),
    ("storage.googleapis.com", "Google Cloud Storage", Some("BUCKET.storage.googleapis.com")),
    ("storage.*.rep.googleapis.com", "Google Cloud Storage", None),
    ("storage-*.googleapis.com", "Google Cloud Storage", Some("BUCKET.storage.googleapis.com")),
    ("storage.mtls.googleapis.com", "Google Cloud Storage", None),
    ("commondatastorage.googleapis.com", "Google Cloud Storage", Some("BUCKET.commondatastorage.googleapis.com")),
    ("storage.cloud.google.com", "Google Cloud Storage", None),
    ("firebasestorage.googleapis.com", "Firebase", None),
    ("www.googleapis.com", "Google Cloud Storage, Drive and more", None),
    ("blob.core.windows.net", "Azure", Some("ACCOUNT.blob.core.windows.net")),
    ("r2.cloudflarestorage.com", "R2", Some("ACCOUNT.r2.cloudflarestorage.com")),
    ("*.digitaloceanspaces.com", "DigitalOcean Spaces", Some("BUCKET.REGION.digitaloceanspaces.com")),
    ("s3.*.backblazeb2.com", "Backblaze B2", Some("BUCKET.s3.REGION.backblazeb2.com")),
    ("f*.backblazeb2.com", "Backblaze B2", None),
    ("s3.wasabisys.com", "Wasabi", Some("BUCKET.s3.wasabisys.com")),
    ("s3.*.wasabisys.com", "Wasabi", Some("BUCKET.s3.REGION.wasabisys.com")),
    ("*.linodeobjects.com", "Linode", Some("BUCKET.REGION.linodeobjects.com")),
    ("*.vultrobjects.com", "Vultr", Some("BUCKET.REGION.vultrobjects.com")),
    ("*.your-objectstorage.com", "Hetzner", Some("BUCKET.REGION.your-objectstorage.com")),
    ("s3.*.scw.cloud", "Scaleway", Some("BUCKET.s3.REGION.scw.cloud")),
    ("s3.*.io.cloud.ovh.net", "OVHcloud", Some("BUCKET.s3.REGION.io.cloud.ovh.net")),
    ("s3.*.perf.cloud.ovh.net", "OVHcloud", Some("BUCKET.s3.REGION.perf.cloud.ovh.net")),
    ("sos-*.exo.io", "Exoscale", Some("BUCKET.sos-ZONE.exo.io")),
    ("s3.*.cloud-object-storage.appdomain.cloud", "IBM", Some("BUCKET.s3.REGION.cloud-object-storage.appdomain.cloud")),
    ("objectstorage.*.oraclecloud.com", "Oracle", None),
    ("oss-*.aliyuncs.com", "Alibaba OSS", Some("BUCKET.oss-REGION.aliyuncs.com")),
    ("cos.*.myqcloud.com", "Tencent COS", Some("BUCKET.cos.REGION.myqcloud.com")),
    ("obs.*.myhuaweicloud.com", "Huawei OBS", Some("BUCKET.obs.REGION.myhuaweicloud.com")),
    ("storage.yandexcloud.net", "Yandex", Some("BUCKET.storage.yandexcloud.net")),
    ("gateway.storjshare.io", "Storj", Some("BUCKET.gateway.storjshare.io")),
    ("s3.filebase.com", "Filebase", Some("BUCKET.s3.filebase.com")),
];

/// What is found, as the end of a sentence that begins with the rule.
#[derive(Debug)]
pub(super) struct Everybodys {
    whose: &'static str,
    own: Option<&'static str>,
}

/// Whether the host, or some host of a pattern, is one where everybody's buckets are, and nothing in the options says which.
pub(super) fn of_everybody(host: &str, options: Option<&RuleOptions>) -> Option<Everybodys> {
    let known = |(pattern, ..): &&Host| match host.contains('*') {
        true => may_meet(pattern, host),
        false => *pattern == host || label_pattern::matches(pattern, host),
    };
    let (_, whose, own) = HOSTS.iter().find(known)?;
    (!options.is_some_and(names_whose)).then_some(Everybodys { whose, own: *own })
}

/// Whether each request must be for a path or come from an account that the rule names.
fn names_whose(options: &RuleOptions) -> bool {
    let in_requests = options.requests.as_ref().is_some_and(|requests| {
        requests.entries().iter().all(|entry| {
            let paths =
                entry.paths.as_ref().is_some_and(|paths| paths.iter().all(|path| path.as_str() != "/**"));
            paths || entry.aws.as_ref().is_some_and(|aws| aws.accounts.is_some())
        })
    });
    // Google then refuses what belongs to others.
    let by_header = options.headers.as_ref().is_some_and(|headers| {
        headers.set.iter().any(|field| field.name.as_str() == "x-goog-allowed-resources")
    });
    in_requests || by_header
}

impl fmt::Display for Everybodys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "is where everybody's buckets are ({}), and the path alone says whose: anyone can have one there to take data out \
             by; write ",
            self.whose
        )?;
        if let Some(own) = self.own {
            write!(f, "the host of your own, as in `{own}`, or ")?;
        }
        f.write_str("which paths may be asked for: `requests: [{paths: [\"/BUCKET/**\"]}]`")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::HostPattern;

    #[test]
    fn the_hosts_of_everybodys_buckets_are_known_and_those_of_one_bucket_are_not() {
        let rows = [
            ("s3.amazonaws.com", true),
            ("s3.eu-central-1.amazonaws.com", true),
            ("s3-eu-west-1.amazonaws.com", true),
            ("s3-fips.us-east-1.amazonaws.com", true),
            ("s3.dualstack.eu-west-1.amazonaws.com", true),
            ("s3.*.amazonaws.com", true),
            ("storage.googleapis.com", true),
            ("fra1.digitaloceanspaces.com", true),
            ("f003.backblazeb2.com", true),
            ("bucket.s3.amazonaws.com", false),
            ("bucket.s3.eu-central-1.amazonaws.com", false),
            ("git-codecommit.eu-central-1.amazonaws.com", false),
            ("git-codecommit.*.amazonaws.com", false),
            ("ec2-*.amazonaws.com", false),
            ("account.blob.core.windows.net", false),
            ("bucket.fra1.digitaloceanspaces.com", false),
            ("bucket.storage.googleapis.com", false),
            ("pubsub.googleapis.com", false),
        ];
        for (host, want) in rows {
            assert_eq!(of_everybody(host, None).is_some(), want, "{host}");
        }
        for (pattern, _, own) in HOSTS {
            let text = pattern.replace('*', "x1");
            assert!(HostPattern::parse(&text).is_ok(), "{pattern}");
            assert!(of_everybody(&text, None).is_some(), "{pattern}");
            let own = own.map(|own| own.to_ascii_lowercase());
            assert!(
                own.is_none_or(|own| of_everybody(&own, None).is_none()),
                "{pattern}: its advice is warned of"
            );
        }
    }
}
