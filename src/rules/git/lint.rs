//! What is valid in a rule about Git, and unwise: what it forgets, and by which ways what it refuses may go out.

use super::super::aws::AwsRule;
use super::super::entry_place::{EntryKey, EntryPlace};
use super::super::pattern::HostPattern;
use super::GitRule;
use crate::words::aws::codecommit_region;
use crate::words::git::{Change, Operation};
use crate::words::target::Host;

/// Where what a rule about Git refuses may go out, if another rule opens it unseen.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Door {
    /// The host.
    pub host: String,
    /// The port.
    pub port: u16,
    /// What is there.
    pub what: &'static str,
}

/// Where CodeCommit is, to find out what a pattern with a `*` reaches. One that is missing costs a warning.
const REGIONS: [&str; 32] = [
    "af-south-1",
    "ap-east-1",
    "ap-northeast-1",
    "ap-northeast-2",
    "ap-northeast-3",
    "ap-south-1",
    "ap-south-2",
    "ap-southeast-1",
    "ap-southeast-2",
    "ap-southeast-3",
    "ap-southeast-4",
    "ca-central-1",
    "ca-west-1",
    "cn-north-1",
    "cn-northwest-1",
    "eu-central-1",
    "eu-central-2",
    "eu-north-1",
    "eu-south-1",
    "eu-south-2",
    "eu-west-1",
    "eu-west-2",
    "eu-west-3",
    "il-central-1",
    "me-central-1",
    "me-south-1",
    "sa-east-1",
    "us-east-1",
    "us-east-2",
    "us-gov-east-1",
    "us-gov-west-1",
    "us-west-1",
];

/// Hosts of well-known services by which repositories change without Git over HTTPS: the host of Git, the other host, its port,
/// and what it is.
const DOORS: [(&str, &str, u16, &str); 8] = [
    ("github.com", "api.github.com", 443, "GitHub's API, which writes files and refs"),
    ("github.com", "uploads.github.com", 443, "where GitHub takes files of releases"),
    ("github.com", "ssh.github.com", 443, "Git over SSH"),
    ("github.com", "lfs.github.com", 443, "where GitHub's LFS is"),
    ("github.com", "github-cloud.s3.amazonaws.com", 443, "where GitHub's LFS keeps objects"),
    ("gitlab.com", "altssh.gitlab.com", 443, "Git over SSH"),
    ("bitbucket.org", "api.bitbucket.org", 443, "Bitbucket's API, which writes files"),
    ("bitbucket.org", "altssh.bitbucket.org", 443, "Git over SSH"),
];

/// Warnings about one entry of a rule for `host`: what of it does what was probably not meant, and what to write instead.
pub fn doubts(rule: &GitRule, aws: Option<&AwsRule>, host: &HostPattern) -> Vec<(EntryPlace, String)> {
    let mut doubts = Vec::new();
    let mut doubt = |place: EntryPlace, text: String| doubts.push((place, text));
    let pushes = rule.allows(Operation::Push);
    if pushes && !rule.changes.contains(&Change::Delete) {
        doubt(
            EntryPlace::Key(EntryKey::RefChanges),
            "GitLab deletes merged branches on a mirror, ten in a push, and the mirror's update fails if one is refused: write \
             `ref_changes: [create, update, delete]`, or set the mirror to keep divergent refs"
                .to_owned(),
        );
    }
    if !pushes && rule.refs.is_some() {
        doubt(
            EntryPlace::Key(EntryKey::Refs),
            "`refs` is about pushes, and this entry allows none: write `push` under `git`, or leave it out"
                .to_owned(),
        );
    }
    let regions = regions_of(host);
    if regions.is_empty() {
        return doubts;
    }
    if aws.is_none_or(|aws| aws.accounts.is_none()) {
        let does = if pushes { "pushed to" } else { "read" };
        let text = format!(
            "the host is that of every account: with its credentials any account's repository is {does}: write `aws: {{accounts: \
             [\"123456789012\"]}}`"
        );
        doubt(EntryPlace::Key(EntryKey::Accounts), text);
    }
    for (number, pattern) in rule.repositories.iter().flatten().enumerate() {
        let (text, place) = (pattern.as_str(), EntryPlace::Item(EntryKey::Repositories, number));
        if text.ends_with(".git") {
            let name = text.strip_suffix(".git").unwrap_or(text);
            doubt(place, format!("CodeCommit has no repository whose name ends with `.git`: write `{name}`"));
        }
        if !text.starts_with("/v1/repos/") {
            doubt(place, format!("`{text}` is no repository of CodeCommit: they are at `/v1/repos/NAME`"));
        }
    }
    doubts
}

/// What goes past a rule about Git for `git`, as far as is known, if a rule opens it.
pub fn doors(git: &HostPattern) -> Vec<Door> {
    const API: &str = "CodeCommit's API, whose PutFile and CreateCommit write without Git";
    const SSH: &str = "Git over SSH, which nothing looks into";
    const STS: &str = "STS, by which a key gets credentials of another account";
    let regional = |region: &str| {
        let tail = format!("{region}.{}", suffix(region));
        [
            (format!("codecommit.{tail}"), 443, API),
            (format!("codecommit-fips.{tail}"), 443, API),
            (format!("git-codecommit.{tail}"), 22, SSH),
            (format!("git-codecommit-fips.{tail}"), 22, SSH),
            (format!("sts.{tail}"), 443, STS),
            (format!("sts-fips.{tail}"), 443, STS),
        ]
    };
    let regions = regions_of(git);
    let mut doors: Vec<(String, u16, &str)> = regions.iter().copied().flat_map(regional).collect();
    if !regions.is_empty() {
        doors.push(("sts.amazonaws.com".to_owned(), 443, STS));
    } else if let HostPattern::Exact(name) = git {
        doors.push((name.as_str().to_owned(), 22, SSH));
        let known = DOORS.iter().filter(|(host, ..)| *host == name.as_str());
        doors.extend(known.map(|(_, host, port, what)| ((*host).to_owned(), *port, *what)));
    }
    doors.into_iter().map(|(host, port, what)| Door { host, port, what }).collect()
}

/// In which regions of CodeCommit the pattern reaches hosts for Git.
fn regions_of(host: &HostPattern) -> Vec<&str> {
    if let HostPattern::Exact(name) = host {
        return codecommit_region(name.as_str()).into_iter().collect();
    }
    let reaches = |region: &&str| {
        ["git-codecommit", "git-codecommit-fips"].iter().any(|service| {
            let name = format!("{service}.{region}.{}", suffix(region));
            Host::parse(&name).is_ok_and(|name| host.matches(&name))
        })
    };
    REGIONS.into_iter().filter(reaches).collect()
}

fn suffix(region: &str) -> &'static str {
    if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" }
}

#[cfg(test)]
mod tests {
    use super::super::RepositoryPattern;
    use super::*;
    use crate::rules::rule::Ports;
    use crate::words::aws::Account;
    use crate::words::target::Port;

    const CODECOMMIT: &str = "git-codecommit.eu-central-1.amazonaws.com";

    fn host(text: &str) -> HostPattern {
        HostPattern::parse(text).unwrap()
    }

    fn told(rule: &GitRule, aws: Option<&AwsRule>, at: &str) -> Vec<String> {
        doubts(rule, aws, &host(at)).into_iter().map(|(_, text)| text).collect()
    }

    #[test]
    fn what_a_rule_forgets_is_told() {
        let begins = |doubts: &[String], want: &[&str]| {
            let same = doubts.len() == want.len()
                && doubts.iter().zip(want).all(|(text, start)| text.contains(start));
            assert!(same, "{doubts:?} {want:?}");
        };
        let mut accounts = AwsRule::default();
        accounts.accounts = Some([Account::new("123456789012").unwrap()].into());
        let mut push = GitRule::new(&[Operation::Push]);
        let fetch = GitRule::new(&[Operation::Fetch]);
        begins(&told(&push, None, "git.example.com"), &["write `ref_changes: [create, update, delete]`"]);
        begins(
            &told(&push, None, CODECOMMIT),
            &["delete", "any account's repository is pushed to: write `aws: {accounts"],
        );
        begins(&told(&fetch, None, CODECOMMIT), &["any account's repository is read"]);
        begins(&told(&fetch, None, "git-codecommit.*.amazonaws.com"), &["any account's repository is read"]);
        begins(&told(&fetch, None, "*.amazonaws.com"), &["any account's repository is read"]);
        begins(&told(&fetch, Some(&AwsRule::default()), CODECOMMIT), &["any account's repository is read"]);
        begins(&told(&fetch, Some(&accounts), CODECOMMIT), &[]);
        begins(&told(&fetch, None, "git.example.com"), &[]);
        push.changes = Change::ALL.into();
        let repositories =
            ["/v1/repos/a.git", "/v1/repos/b", "/a/*"].map(|text| RepositoryPattern::parse(text).unwrap());
        push.repositories = Some(repositories.into());
        begins(
            &told(&push, Some(&accounts), CODECOMMIT),
            &["write `/v1/repos/a`", "`/a/*` is no repository of CodeCommit"],
        );
        begins(&told(&push, None, "git.example.com"), &[]);
        let refs = Some([super::super::RefPattern::parse("refs/heads/main").unwrap()].into());
        begins(&told(&GitRule { refs, ..fetch }, Some(&accounts), CODECOMMIT), &["`refs` is about pushes"]);
    }

    #[test]
    fn what_goes_past_a_rule_about_git_is_known() {
        let ports = |text: &str| {
            let (low, high) = text.split_once('-').unwrap_or((text, text));
            Ports { low: Port::parse(low).unwrap(), high: Port::parse(high).unwrap() }
        };
        let rows = [
            (
                CODECOMMIT,
                "codecommit.eu-central-1.amazonaws.com",
                "443",
                Some("codecommit.eu-central-1.amazonaws.com:443"),
            ),
            (CODECOMMIT, "codecommit.us-east-1.amazonaws.com", "443", None),
            (CODECOMMIT, "*.amazonaws.com", "443", Some("codecommit.eu-central-1.amazonaws.com:443")),
            (CODECOMMIT, "sts.amazonaws.com", "443", Some("sts.amazonaws.com:443")),
            (CODECOMMIT, "sts.*.amazonaws.com", "400-500", Some("sts.eu-central-1.amazonaws.com:443")),
            (CODECOMMIT, CODECOMMIT, "22", Some("git-codecommit.eu-central-1.amazonaws.com:22")),
            (CODECOMMIT, CODECOMMIT, "443", None),
            (CODECOMMIT, "s3.eu-central-1.amazonaws.com", "443", None),
            (
                "git-codecommit.*.amazonaws.com",
                "codecommit.eu-west-2.amazonaws.com",
                "443",
                Some("codecommit.eu-west-2.amazonaws.com:443"),
            ),
            (
                "git-codecommit.cn-north-1.amazonaws.com.cn",
                "codecommit.cn-north-1.amazonaws.com.cn",
                "443",
                Some("codecommit.cn-north-1.amazonaws.com.cn:443"),
            ),
            ("git.example.com", "git.example.com", "22", Some("git.example.com:22")),
            ("git.example.com", "*.example.com", "1-65535", Some("git.example.com:22")),
            ("git.example.com", "api.github.com", "443", None),
            ("github.com", "api.github.com", "443", Some("api.github.com:443")),
            ("github.com", "*.github.com", "443", Some("api.github.com:443")),
            ("gitlab.com", "altssh.gitlab.com", "443", Some("altssh.gitlab.com:443")),
        ];
        for (git, other, at, want) in rows {
            let (other_host, ports) = (host(other), ports(at));
            let opened = doors(&host(git)).into_iter().find(|door| {
                let (name, port) = (Host::parse(&door.host).unwrap(), Port::new(door.port).unwrap());
                other_host.matches(&name) && ports.contains(port)
            });
            let undone = opened.map(|door| format!("{}:{}", door.host, door.port));
            let undone = undone.as_deref();
            match want {
                None => assert_eq!(undone, None, "{git} {other}:{at}"),
                Some(door) => {
                    assert_eq!(undone, Some(door), "{git} {other}:{at}")
                }
            }
        }
    }
}
