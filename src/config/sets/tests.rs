//! What is promised of every set that is shipped, and what an entry that names one says if it is wrong.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use proptest::prelude::*;
use sha2::{Digest, Sha256};

use super::shipped::parse;
use super::{Parameter, RuleSet, find, names, versions};
use crate::config::{self, Loaded};
use crate::rules::{HostPattern, RuleText, Scheme};
use crate::words::client::Client;
use crate::words::target::Target;

/// SHA-256 of each version that was ever shipped. A line here never changes: who names a version relies on its hosts. A
/// set with other hosts is another version, and another line.
const HASHES: &[(&str, &str)] = &[
    ("alpine@2026-11", "f4ec1b399bea796823f8b4ba105d1e1d68fc1d1836cdda9fad1c0e8185303a06"),
    ("aws-codecommit@2026-11", "5368bfb56753f1fd4968d04c06d801d0d078aa3caf28aa13d7f33900235524c2"),
    ("aws-ecr@2026-11", "9afb9593eed46354a328a8607325d3951b903c255473a043f31f56bfaba6dbbd"),
    ("aws-sts@2026-11", "e10d6bccde2d4f252e19877ec11ff4bbc77fdbda87767e77dc61b9f1440eb0b9"),
    ("crates@2026-11", "b155f7aba7dc7b095729d7686e29e3f1f19c3971f4ed06fee25b30aa1ee07f0d"),
    ("debian@2026-11", "80d39e97eb31bfd98f11f0f70fc249774ecb78f22ccb1af8b7f68411a1c87557"),
    ("docker-hub@2026-11", "17da355d03f68b1c5b15b81dc7647cf0ca316568469e0a558bc3c6d41be46171"),
    ("ghcr@2026-11", "f662ff0ddb8fcaa1117282823a47d020a3d60551aeb379675524c8022ac150b3"),
    ("github-git@2026-11", "caadf0a7d24bb15d6926ade371351477f117c718020ea03ce8ded7731b797bff"),
    ("gitlab-com@2026-11", "c926d32db8982ec40f58a093a0cf6a329ef91c668537e830881cc566fea9f5bd"),
    ("gitlab-duo@2026-11", "c107dd58820f828e77538152572228ef0e01cea025a9a255588f28d52cdf4ab5"),
    ("go-modules@2026-11", "653d12af952eb455b1801fd7c6e621f8cb4ad4b67b9150233d9ca0564f571fb1"),
    ("maven-central@2026-11", "71528e05a82c32cd7db5fd007d1aa55f3075eca111ef79da7d1508d8da3e5402"),
    ("npm@2026-11", "f4dd97974fbdba64cc86709fbfd821466af3de2e226f2322243d940c6607a208"),
    ("pypi@2026-11", "9a4e6646d72dda0f25a5ac7b1c962d80138a7e43965560620ff072af5394f95f"),
    ("quay@2026-11", "b63c76ff96314f137ec3042ca99a39fa523ea602b6f5781d8627412bc2001b13"),
    ("rubygems@2026-11", "405acd3e52ef19bd341fd4e88748b81cba5e580f2aeef01515a7cf6f66b08694"),
    ("ubuntu@2026-11", "97babd71b06256000a74003ae894eea4bcb50dcf66ff698574598217c92b5bd5"),
];

fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/config/sets/data")
}

fn all() -> Vec<RuleSet> {
    let of =
        |name| versions(name).into_iter().map(move |version| find(name, version).expect("it can be read"));
    names().into_iter().flat_map(of).collect()
}

#[test]
fn a_version_never_changes_and_none_is_lost() {
    let told: Vec<(String, String)> = all()
        .iter()
        .map(|set| {
            let text =
                std::fs::read(data().join(set.name).join(format!("{}.txt", set.version))).expect("readable");
            let hash: String = Sha256::digest(&text).iter().map(|byte| format!("{byte:02x}")).collect();
            (set.id(), hash)
        })
        .collect();
    let want: Vec<(String, String)> =
        HASHES.iter().map(|(id, hash)| ((*id).to_owned(), (*hash).to_owned())).collect();
    assert_eq!(told, want);
}

#[test]
fn every_file_is_shipped() {
    let mut files: Vec<String> = Vec::new();
    for folder in std::fs::read_dir(data()).expect("readable").map(|entry| entry.expect("readable").path()) {
        let name = folder.file_name().and_then(|name| name.to_str()).expect("a name").to_owned();
        for file in std::fs::read_dir(&folder).expect("readable").map(|entry| entry.expect("readable").path())
        {
            files
                .push(format!("{name}@{}", file.file_stem().and_then(|stem| stem.to_str()).expect("a name")));
        }
    }
    files.sort();
    let mut shipped: Vec<String> = all().iter().map(RuleSet::id).collect();
    shipped.sort();
    assert_eq!(files, shipped);
    assert!(names().is_sorted());
}

#[test]
fn every_set_says_what_it_is_and_where_its_hosts_come_from() {
    for set in all() {
        let id = set.id();
        assert!(!set.title.is_empty() && set.title.len() < 60, "{id}");
        assert!(set.date.starts_with(set.version), "{id}: a version is the month of its date");
        let mut hosts = BTreeSet::new();
        for rule in &set.rules {
            assert!(
                rule.page.starts_with("https://") && rule.page.len() > "https://".len(),
                "{id}:{}",
                rule.line
            );
            assert!(hosts.insert(rule.rule), "{id}:{}: twice", rule.line);
        }
        // Each parameter is used, and nothing else is in braces.
        let used: BTreeSet<&str> = set
            .rules
            .iter()
            .flat_map(|rule| rule.rule.split('{').skip(1))
            .filter_map(|rest| rest.split('}').next())
            .collect();
        let declared: BTreeSet<&str> = set.parameters.iter().map(|parameter| parameter.key()).collect();
        assert_eq!(used, declared, "{id}");
    }
}

/// Hosts where anyone can have a bucket, an account's site or a machine, so that a rule for the host is one for them.
const ANYBODYS: [&str; 9] = [
    "s3.amazonaws.com",
    "storage.googleapis.com",
    "blob.core.windows.net",
    "r2.cloudflarestorage.com",
    "cloudfront.net",
    "github.io",
    "herokuapp.com",
    "digitaloceanspaces.com",
    "elb.amazonaws.com",
];

#[test]
fn every_host_is_exact_and_what_is_anybodys_says_so() {
    for set in all() {
        for rule in &set.rules {
            let at = format!("{}:{} {}", set.id(), rule.line, rule.rule);
            let text = filled(rule.rule);
            let parsed = RuleText::parse(&text).unwrap_or_else(|error| panic!("{at}: {error}"));
            let HostPattern::Exact(name) = &parsed.host else { panic!("{at}: not one host") };
            assert!(parsed.scheme != Some(Scheme::Tcp) && parsed.ports.is_none(), "{at}");
            assert!(!ANYBODYS.contains(&name.as_str()), "{at}: everybody's buckets");
            let is_bucket = name.as_str().contains(".s3.")
                || ANYBODYS.iter().any(|anybodys| name.as_str().ends_with(&format!(".{anybodys}")));
            assert_eq!(rule.storage, is_bucket, "{at}");
            if rule.storage {
                assert!(set.notes.iter().any(|note| note.contains("bucket")), "{at}: no note says so");
            }
        }
    }
}

fn filled(rule: &str) -> String {
    rule.replace("{region}", "eu-west-1").replace("{account}", "123456789012")
}

fn load(text: &str) -> Result<Loaded, Vec<String>> {
    let read = |path: &Path| match path.to_str() {
        Some("f") => Ok(b"user:s3cret\n".to_vec()),
        _ => Ok(b"listed.example\n".to_vec()),
    };
    config::load_str("c.yaml", text, read)
        .map_err(|findings| findings.iter().map(ToString::to_string).collect())
}

/// A policy with this under `allow`.
fn allowing(entries: &str) -> String {
    format!("policies:\n  - name: p\n    allow:\n{entries}")
}

/// The errors of an entry, from the third column of the fourth line on.
fn errors(entry: &str) -> Vec<String> {
    load(&allowing(&format!("      - {{{entry}}}\n"))).expect_err(entry)
}

/// Every set loads as its own entry says, without a doubt of the lint, and allows each of its hosts, with its line as the source.
#[test]
fn every_entry_that_is_offered_can_be_pasted() {
    for set in all() {
        let entry: String = set.entry().iter().map(|line| format!("      {line}\n")).collect();
        let loaded = load(&allowing(&entry)).unwrap_or_else(|told| panic!("{}: {told:#?}", set.id()));
        let doubts = loaded.warnings.iter().filter(|doubt| !doubt.text.contains("more than a year old"));
        assert_eq!(doubts.map(ToString::to_string).collect::<Vec<_>>(), [""; 0], "{}", set.id());
        let client = Client::direct("127.0.0.1:5".parse().expect("an address"));
        for rule in &set.rules {
            let text = filled(rule.rule);
            let target = match text.strip_prefix("http://") {
                Some(host) => Target::http(host),
                None => Target::connect(&format!("{}:443", text.trim_start_matches("https://"))),
            };
            let decided =
                loaded.config.policies.decide(&target.expect("a target"), &client, Timestamp::UNIX_EPOCH);
            let by = decided.unwrap_or_else(|denial| panic!("{text}: {denial:?}")).rule.expect("a rule");
            assert_eq!(by.source.to_string(), format!("set:{}:{}", set.id(), rule.line));
            assert_eq!((&*by.text, &*by.label), (&*text, &*text));
        }
        assert_eq!(loaded.config.policies.rules().count(), set.rules.len());
    }
}

#[test]
fn a_wrong_entry_says_what_to_write() {
    let newest = versions("npm").last().copied().expect("a version");
    let rows = [
        (
            "set: npn, version: 2026-11".to_owned(),
            "c.yaml:4:15: error: there is no rule set `npn`; did you mean npm?",
        ),
        (
            "set: nothing-like-it, version: 2026-11".to_owned(),
            "c.yaml:4:15: error: there is no rule set `nothing-like-it`; `egressd sets` lists",
        ),
        (
            "set: npm@2026-11".to_owned(),
            "c.yaml:4:15: error: `npm@2026-11` names the version, too, which has a key of its own: write `set: npm` and \
             `version: 2026-11`",
        ),
        (
            "set: 'for-tests:2024-01', version: 2025-06".to_owned(),
            "c.yaml:4:15: error: `for-tests:2024-01` names the version, too, which has a key of its own: write `set: \
             for-tests` and `version: 2024-01`",
        ),
        (
            "set: for-tests/9".to_owned(),
            "c.yaml:4:15: error: `for-tests/9` names the version, too, which has a key of its own: write `set: for-tests` \
             and `version: 2025-06`",
        ),
        (
            "set: for-tests".to_owned(),
            "c.yaml:4:9: error: `version` is missing: write `version: 2025-06`, the newest of the set `for-tests`",
        ),
        (
            "set: for-tests, version: 2025-05".to_owned(),
            "c.yaml:4:35: error: the set `for-tests` has no version `2025-05`: write 2024-01 or 2025-06",
        ),
        (
            format!("set: npm, version: {newest}, region: eu-west-1"),
            "c.yaml:4:46: error: the set `npm` has no `region`: remove it",
        ),
        (
            "set: aws-sts, version: 2026-11".to_owned(),
            "c.yaml:4:9: error: the set `aws-sts` needs its `region`: write `region: eu-west-1`",
        ),
        (
            "set: aws-sts, version: 2026-11, region: eu-west".to_owned(),
            "c.yaml:4:50: error: `region`: `eu-west` is not a region of AWS",
        ),
        (
            "set: aws-sts, version: 2026-11, region: '*'".to_owned(),
            "c.yaml:4:50: error: `region`: `*` is not a region of AWS",
        ),
        (
            "set: aws-sts, version: 2026-11, region: eu-west-1.evil.example".to_owned(),
            "c.yaml:4:50: error: `region`: `eu-west-1.evil.example` is not a region of AWS",
        ),
        (
            "set: aws-sts, version: 2026-11, region: cn-north-1".to_owned(),
            "c.yaml:4:50: error: `region`: `cn-north-1` is a region whose hosts have other names",
        ),
        (
            "set: aws-sts, version: 2026-11, region: [eu-west-1]".to_owned(),
            "c.yaml:4:50: error: `region`: this is a list: write a region of AWS",
        ),
        (
            "set: aws-ecr, version: 2026-11, region: eu-west-1, account: 1234".to_owned(),
            "c.yaml:4:70: error: `account`: `1234` is not an account",
        ),
        (
            "set: aws-ecr, version: 2026-11, region: eu-west-1".to_owned(),
            "c.yaml:4:9: error: the set `aws-ecr` needs its `account`: write `account: \"123456789012\"`",
        ),
        (format!("set: npm, version: {newest}, to: a.example"), "c.yaml:4:38: error: unknown key `to`"),
        (
            format!("sett: npm, version: {newest}"),
            "c.yaml:4:10: error: unknown key `sett`; did you mean `set`?",
        ),
        (
            format!("set: npm, versoin: {newest}"),
            "c.yaml:4:20: error: unknown key `versoin`; did you mean `version`?",
        ),
        (
            format!("set: debian, version: {newest}, requests: [{{credentials_file: f}}]"),
            "c.yaml:4:71: error: `credentials_file` needs an https rule",
        ),
        (
            format!("set: ubuntu, version: {newest}, verify_certificate: true"),
            "c.yaml:4:61: error: `verify_certificate` needs an https rule",
        ),
    ];
    for (entry, want) in rows {
        let told = errors(&entry);
        assert!(told.iter().any(|told| told.starts_with(want)), "{entry}: wanted {want}, told {told:#?}");
    }
}

#[test]
fn options_beside_a_set_are_those_of_each_rule() {
    let entry = "set: for-tests, version: 2025-06, name: n, owner: me, ticket: T-1, expires: 2099-01-01, private: [10.0.0.0/8], \
                 upload_limit: 1KiB, upload_budget: 1MiB/1h";
    let loaded = load(&allowing(&format!("      - {{{entry}}}\n"))).expect("it loads");
    let rules: Vec<String> = loaded
        .config
        .policies
        .rules()
        .map(|rule| {
            format!(
                "{} {} {}",
                rule.text(),
                rule.label(),
                rule.options().map(|options| options.to_yaml()).unwrap_or_default()
            )
        })
        .collect();
    assert_eq!(rules.len(), 2);
    for (rule, text) in rules.iter().zip(["a.example n", "http://c.example n"]) {
        assert!(rule.starts_with(text), "{rule}");
        for option in [
            "owner",
            "ticket",
            "expires",
            "private: [\"10.0.0.0/8\"]",
            "upload_limit: 1KiB",
            "upload_budget: 1MiB/1h",
        ] {
            assert!(rule.contains(option), "{rule}");
        }
    }
}

/// What a person writes comes before a set's rule for the same host, wherever it stands, and `deny` before both.
#[test]
fn own_rules_come_first_and_deny_wins() {
    let set = "      - {set: for-tests, version: 2025-06}\n";
    let own = "      - {to: a.example, upload_limit: 1KiB}\n";
    let client = Client::direct("127.0.0.1:5".parse().expect("an address"));
    let target = Target::connect("a.example:443").expect("a target");
    for entries in [format!("{set}{own}"), format!("{own}{set}")] {
        let loaded = load(&allowing(&entries)).expect("it loads");
        let permit = loaded.config.policies.decide(&target, &client, Timestamp::UNIX_EPOCH).expect("allowed");
        assert_eq!(permit.upload_limit, Some(1024), "{entries}");
    }
    // A finding about a rule of a set stands where the entry is.
    let loaded = load(&allowing(&format!("{set}{own}    allow_files: [list]\n    deny: [a.example]\n")))
        .expect("it loads");
    let told: Vec<String> = loaded.warnings.iter().map(ToString::to_string).collect();
    assert!(
        told.iter().any(|told| told.starts_with("c.yaml:4:9: warning: `a.example` allows nothing: ")),
        "{told:#?}"
    );
    let client = loaded.config.policies.decide(&target, &client, Timestamp::UNIX_EPOCH);
    assert!(client.is_err());
}

/// The same whether the hosts are written or come from a set: `diff` compares what is opened.
#[test]
fn another_version_is_compared_by_what_it_opens() {
    let diff = |old: &str, new: &str| -> Vec<String> {
        let load = |entries: &str| load(&allowing(entries)).expect(entries).config.policies;
        let mut told = Vec::new();
        crate::commands::diff::rules::compare(&load(old), &load(new), |change| told.push(change.to_string()));
        told
    };
    let version = |version: &str| format!("      - {{set: for-tests, version: {version}}}\n");
    assert_eq!(
        diff(&version("2024-01"), &version("2025-06")),
        [
            "- p: gone: allow `b.example` (set:for-tests@2024-01:5)",
            "+ wider: p: added: allow `http://c.example` (set:for-tests@2025-06:5)"
        ]
    );
    let written = "      - b.example\n      - a.example\n";
    assert_eq!(diff(&version("2024-01"), written), [""; 0]);
    assert_eq!(diff(written, &version("2024-01")), [""; 0]);
}

/// The parameters choose a host of the set's own domain and nothing else, whatever is written.
#[test]
fn a_parameter_widens_nothing() {
    let mut runner = proptest::test_runner::TestRunner::default();
    let text = prop_oneof![
        "[a-z*.:/@?\\[\\]0-9-]{1,16}",
        "\\PC{1,8}",
        "(us|eu|cn|il|x)-(gov-|iso-|isob-)?(east|west|north|central)-[0-9]{1,3}(\\.[a-z]{1,5})?",
    ];
    runner
        .run(&(text, "[0-9*.]{10,13}"), |(region, account)| {
            let entry = format!(
                "      - {{set: aws-ecr, version: 2026-11, region: {region:?}, account: {account:?}}}\n"
            );
            let Ok(loaded) = load(&allowing(&entry)) else { return Ok(()) };
            for rule in loaded.config.policies.rules() {
                let host = rule.canonical_host();
                prop_assert!(matches!(rule.host(), Some(HostPattern::Exact(_))), "{}", host);
                let labels = host.split('.').count();
                prop_assert!(host.ends_with(&format!(".{region}.amazonaws.com")), "{}", host);
                prop_assert!((5..=6).contains(&labels), "{}", host);
            }
            Ok(())
        })
        .expect("no parameter widens a set");
}

#[test]
fn a_set_is_old_after_a_year_and_the_warning_says_what_to_do() {
    let text =
        allowing("      - {set: for-tests, version: 2024-01}\n      - {set: for-tests, version: 2025-06}\n");
    let at = |now: &str| -> Vec<String> {
        let now: Timestamp = now.parse().expect("a time");
        let told = config::warnings_at("c.yaml", &text, now);
        told.into_iter().filter(|told| told.contains("a year old")).collect()
    };
    assert_eq!(at("2025-01-30T00:00:00Z"), [""; 0], "365 days");
    let first = "c.yaml:4:9: warning: the set `for-tests@2024-01` is of 2024-01-31, which is more than a year old: `egressd sets \
                 for-tests 2025-06` shows the newest version, and `egressd diff` what it changes for you";
    assert_eq!(at("2025-01-30T00:00:01Z"), [first]);
    let second = "c.yaml:5:9: warning: the set `for-tests@2025-06` is of 2025-06-01, which is more than a year old: this egressd has \
                  no newer one; a newer egressd may";
    assert_eq!(at("2030-01-01T00:00:00Z"), [first, second]);
}

#[test]
fn a_file_that_is_wrong_is_told_with_its_line() {
    let rows = [
        ("date: 2026-11-30\n\na.example https://a/\n", "n/v.txt: `title`"),
        ("title: t\ndate: 2026-11-30\n", "n/v.txt: `title`"),
        ("title: t\nwhat: x\n", "n/v.txt:2: an unknown key"),
        ("title: t\nparameters: host\n", "n/v.txt:2: an unknown parameter"),
        ("title: t\ndate: 2026-11-30\n\na.example\n", "n/v.txt:4: not a rule and a page"),
        ("title: t\ndate: 2026-11-30\n\na.example https://a/ b\n", "n/v.txt:4: not a rule and a page"),
        ("title: t\ndate: today\n\na.example https://a/\n", "`today` is not a date"),
    ];
    for (text, want) in rows {
        let told = parse("n", "v", text).expect_err(text);
        assert!(told.starts_with(want), "{told}");
    }
    assert_eq!(Parameter::ALL.map(Parameter::key), ["region", "account"]);
}
