//! What is valid in a rule about Git, and unwise: what it forgets, and which other rules undo it.

use super::super::aws::AwsRule;
use super::super::pattern::HostPattern;
use super::super::rule::Ports;
use super::GitRule;
use crate::words::aws::codecommit_region;
use crate::words::git::{Change, Operation};
use crate::words::target::{Host, Port};

/// A rule beside one about Git, in the same policy. Only one that does not judge requests can undo it.
#[derive(Clone, Copy, Debug)]
pub struct Beside<'r> {
    /// Its hosts.
    pub host: &'r HostPattern,
    /// Its ports, the default of its scheme included.
    pub ports: Ports,
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

/// Warnings about one entry of a rule for `host`: what it does that was probably not meant, and what to write instead.
pub fn doubts(rule: &GitRule, aws: Option<&AwsRule>, host: &HostPattern) -> Vec<String> {
    let mut doubts = Vec::new();
    let pushes = rule.allows(Operation::Push);
    if pushes && !rule.changes.contains(&Change::Delete) {
        doubts.push(
            "GitLab deletes merged branches on a mirror, ten in a push, and one that is refused ends it: write `ref_changes: \
             [create, update, delete]`, or set the mirror to keep divergent refs"
                .to_owned(),
        );
    }
    if !pushes && rule.refs.is_some() {
        doubts.push(
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
        doubts.push(format!(
            "the host is that of every account: with its credentials any account's repository is {does}: write `aws: {{accounts: \
             [\"123456789012\"]}}`"
        ));
    }
    for pattern in rule.repositories.iter().flatten() {
        let text = pattern.as_str();
        if text.ends_with(".git") {
            let name = text.strip_suffix(".git").unwrap_or(text);
            doubts.push(format!("CodeCommit has no repository whose name ends with `.git`: write `{name}`"));
        }
        if !text.starts_with("/v1/repos/") {
            doubts.push(format!("`{text}` is no repository of CodeCommit: they are at `/v1/repos/NAME`"));
        }
    }
    doubts
}

/// Why `beside` undoes a rule about Git for `git`: what it lets through past it. `None`: it does not, as far as is known.
pub fn undone_by(git: &HostPattern, beside: Beside<'_>) -> Option<String> {
    let reaches = |host: &str, port: u16| {
        let (host, port) = (Host::parse(host).ok()?, Port::new(port)?);
        (beside.host.matches(&host) && beside.ports.contains(port)).then_some(())
    };
    for (region, suffix) in regions_of(git).iter().map(|region| (region, suffix(region))) {
        let doors = [
            (
                format!("codecommit.{region}.{suffix}"),
                443,
                "CodeCommit's API, whose PutFile and CreateCommit write without Git",
            ),
            (
                format!("codecommit-fips.{region}.{suffix}"),
                443,
                "CodeCommit's API, whose PutFile and CreateCommit write without Git",
            ),
            (format!("git-codecommit.{region}.{suffix}"), 22, "Git over SSH, which nothing looks into"),
            (format!("git-codecommit-fips.{region}.{suffix}"), 22, "Git over SSH, which nothing looks into"),
            (
                format!("sts.{region}.{suffix}"),
                443,
                "STS, by which a key gets credentials of another account",
            ),
            ("sts.amazonaws.com".to_owned(), 443, "STS, by which a key gets credentials of another account"),
        ];
        if let Some((host, port, what)) = doors.iter().find(|(host, port, _)| reaches(host, *port).is_some())
        {
            return Some(past(host, *port, what));
        }
    }
    let HostPattern::Exact(name) = git else { return None };
    if reaches(name.as_str(), 22).is_some() {
        return Some(past(name.as_str(), 22, "Git over SSH, which nothing looks into"));
    }
    let mut doors = DOORS.iter().filter(|(host, ..)| *host == name.as_str());
    doors
        .find(|(_, host, port, _)| reaches(host, *port).is_some())
        .map(|(_, host, port, what)| past(host, *port, what))
}

fn past(host: &str, port: u16, what: &str) -> String {
    format!("it also opens {host}:{port}, {what}: what the rule about Git refuses goes out there")
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
    use crate::words::aws::Account;

    const CODECOMMIT: &str = "git-codecommit.eu-central-1.amazonaws.com";

    fn host(text: &str) -> HostPattern {
        HostPattern::parse(text).unwrap()
    }

    fn told(rule: &GitRule, aws: Option<&AwsRule>, at: &str) -> Vec<String> {
        doubts(rule, aws, &host(at))
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
    fn rules_that_undo_one_about_git_are_told() {
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
            let undone = undone_by(&host(git), Beside { host: &host(other), ports: ports(at) });
            let undone = undone.as_deref();
            match want {
                None => assert_eq!(undone, None, "{git} {other}:{at}"),
                Some(door) => {
                    assert!(undone.is_some_and(|text| text.contains(door)), "{git} {other}:{at} {undone:?}")
                }
            }
        }
    }
}
