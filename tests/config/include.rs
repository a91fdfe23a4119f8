//! Files of policies that a configuration includes: split over files, policies mean what they mean in one file.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};

use egressd::config::{self, Finding, Loaded, ReadFiles};
use egressd::words::client::Client;
use egressd::words::target::Target;
use jiff::Timestamp;
use proptest::prelude::*;
use tempfile::TempDir;

/// Files in memory, by their whole paths.
#[derive(Default)]
struct Memory(BTreeMap<PathBuf, String>);

impl Memory {
    fn of(files: &[(&str, &str)]) -> Self {
        Memory(files.iter().map(|(path, text)| (PathBuf::from(path), (*text).to_owned())).collect())
    }

    fn load(&self) -> Result<Loaded, Vec<Finding>> {
        config::load_by(Some(Path::new("egressd.yaml")), self)
    }

    /// Warnings or errors, one a line.
    fn told(&self) -> Vec<String> {
        let findings = self.load().map_or_else(|findings| findings, |loaded| loaded.warnings);
        findings.iter().map(ToString::to_string).collect()
    }
}

impl ReadFiles for Memory {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let text = self.0.get(path).ok_or(io::ErrorKind::NotFound)?;
        Ok(text.clone().into_bytes())
    }

    fn names(&self, folder: &Path) -> io::Result<Vec<OsString>> {
        let folder = if folder == Path::new(".") { Path::new("") } else { folder };
        let below = self.0.keys().filter_map(|path| path.strip_prefix(folder).ok()?.iter().next());
        let names: BTreeSet<&OsStr> = below.collect();
        match names.is_empty() {
            true => Err(io::ErrorKind::NotFound.into()),
            false => Ok(names.into_iter().map(ToOwned::to_owned).collect()),
        }
    }
}

/// A policy of its own clients on one line, with rules that are right, wrong and doubtful, and files that are there or not.
fn policy() -> impl Strategy<Value = String> {
    let rule = prop_oneof![
        4 => Just("a.example"),
        2 => Just("\"*.example\""),
        2 => Just("{to: http://b.example:8080, upload_limit: 1KiB}"),
        1 => Just("{to: c.example, expires: 2020-01-01, owner: me}"),
        1 => Just("\"*.amazonaws.com\""),
        1 => Just("\"*\""),
        1 => Just("{too: d.example}"),
        1 => Just("a.example:99999"),
    ];
    let rest = prop_oneof![
        5 => Just(""),
        2 => Just(", allow_files: [list]"),
        1 => Just(", deny_files: [gone]"),
        1 => Just(", mode: report"),
        1 => Just(", mode: off"),
        1 => Just(", denny: []"),
        1 => Just(", private: [10.0.0.0/8]"),
    ];
    let deny = prop_oneof![3 => Just("[]"), 1 => Just("[a.example]"), 1 => Just("[http://b.example]")];
    (prop::collection::vec(rule, 0..4), rest, deny)
        .prop_map(|(rules, rest, deny)| format!("allow: [{}], deny: {deny}{rest}", rules.join(", ")))
}

/// The policies from `from` to `to` on the lines that they have in one file.
fn file(policies: &[String], from: usize, to: usize) -> String {
    let line = |number: usize| match policies.get(number).filter(|_| (from..to).contains(&number)) {
        Some(policy) => {
            format!("  - {{name: p{number}, clients: {{networks: [10.{number}.0.0/16]}}, {policy}}}\n")
        }
        None => "#\n".to_owned(),
    };
    let list = if from == to { "policies: []\n" } else { "policies:\n" };
    std::iter::once(list.to_owned()).chain((0..policies.len()).map(line)).collect()
}

/// As if everything stood in one file.
fn in_one_file(text: &str) -> String {
    text.replace("policies.d/0.yaml", "egressd.yaml")
        .replace("policies.d/1.yaml", "egressd.yaml")
        .replace("policies.d/2.yaml", "egressd.yaml")
        .replace("policies.d/3.yaml", "egressd.yaml")
        // Paths are relative to the file, and the messages say so.
        .replace("policies.d/", "")
        .replace("the directory of the file that names it", "the configuration's directory")
}

proptest! {
    #[test]
    fn policies_mean_the_same_however_they_are_split(
        policies in prop::collection::vec(policy(), 1..7),
        cuts in prop::collection::vec(0..7_usize, 1..4),
    ) {
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(policies.len())).collect();
        cuts.sort_unstable();
        cuts.push(policies.len());
        let list = "listed.example\nlisted.example\n";
        let whole = Memory::of(&[("egressd.yaml", &file(&policies, 0, policies.len())), ("list", list)]);
        let main = format!("{}include: [policies.d/*.yaml]\n", file(&policies, 0, cuts[0]));
        let mut split = Memory::of(&[("egressd.yaml", &main), ("policies.d/list", list)]);
        if cuts[0] > 0 {
            split.0.insert("list".into(), list.to_owned());
        }
        for (number, between) in cuts.windows(2).enumerate() {
            split.0.insert(format!("policies.d/{number}.yaml").into(), file(&policies, between[0], between[1]));
        }
        // A file without policies is told of, which one file has nothing for.
        let about_files = |told: &String| !told.contains("the file has no policies");
        let told: Vec<String> = split.told().into_iter().filter(about_files).map(|told| in_one_file(&told)).collect();
        let (mut got, mut want) = (told, whole.told());
        for told in [&mut got, &mut want] {
            told.sort();
            told.dedup();
        }
        prop_assert_eq!(got, want);
        let (Ok(split), Ok(whole)) = (split.load(), whole.load()) else { return Ok(()) };
        for number in 0..policies.len() + 1 {
            let client = Client::direct(format!("10.{number}.0.1:5").parse().expect("an address"));
            for target in [
                Target::connect("a.example:443"),
                Target::connect("x.example:443"),
                Target::connect("c.example:443"),
                Target::connect("listed.example:443"),
                Target::http("b.example:8080"),
                Target::http("b.example"),
            ] {
                let target = target.expect("a target");
                let decided = |loaded: &Loaded| {
                    format!("{:?}", loaded.config.policies.decide(&target, &client, Timestamp::UNIX_EPOCH))
                };
                prop_assert_eq!(in_one_file(&decided(&split)), decided(&whole), "{}", target);
            }
        }
    }
}

#[test]
fn files_for_the_same_clients_are_an_error_that_names_both() {
    let both = "[{address: '127.0.0.1:1', basic_auth: {users_file: users}, tls: {certificate: c, key: k, client_ca: a}}]";
    // The clients of the two, what listeners ask for, and whether they are an error.
    let rows = [
        ("networks: [10.0.0.0/8]", "networks: [10.1.0.0/16]", "", true),
        ("networks: [10.0.0.0/9]", "networks: [10.128.0.0/9]", "", false),
        ("networks: [10.0.0.0/8]", "networks: ['fd00::/8']", "", false),
        ("networks: [10.0.0.0/8]", "identities: ['user:a']", "", true),
        ("identities: ['user:a']", "identities: ['user:b', 'user:a']", "", true),
        ("identities: ['user:a']", "identities: ['user:b']", "", false),
        ("identities: ['dns:a.corp']", "identities: ['dns:b.corp']", "", false),
        ("identities: ['cn:a']", "identities: ['dns:a.corp']", "", true),
        ("identities: ['spiffe://corp/a']", "identities: ['cn:a']", "", true),
        ("identities: ['user:a']", "identities: ['cn:a']", "", false),
        ("identities: ['user:a']", "identities: ['cn:a']", both, true),
        (
            "identities: ['user:a'], networks: [10.0.0.0/9]",
            "identities: ['cn:a'], networks: [10.128.0.0/9]",
            both,
            false,
        ),
        ("vpc_endpoints: [vpce-0a]", "vpc_endpoints: [vpce-0b]", "", false),
        ("vpc_endpoints: [vpce-0a]", "vpc_endpoints: [vpce-0b, vpce-0a]", "", true),
        ("vpc_endpoints: [vpce-0a]", "networks: [10.0.0.0/8]", "", true),
        ("listeners: [a]", "listeners: [b]", "", false),
        ("listeners: [a]", "listeners: [b, a]", "", true),
        ("listeners: [a]", "networks: [10.0.0.0/8]", "", true),
        (
            "vpc_endpoints: [vpce-0a], identities: ['user:a']",
            "vpc_endpoints: [vpce-0a], identities: ['user:b']",
            "",
            false,
        ),
    ];
    let policy = |name: &str, clients: &str| {
        format!("policies:\n  - {{name: {name}, clients: {{{clients}}}, allow: [a.example]}}\n")
    };
    for (one, other, listeners, overlap) in rows {
        let listeners =
            if listeners.is_empty() { String::new() } else { format!("listeners: {listeners}\n") };
        let overlaps = |memory: &Memory| -> Vec<String> {
            memory.told().into_iter().filter(|told| told.contains("overlap")).collect()
        };
        let include = format!("{listeners}include: ['*.d/*']\n");
        let two = [
            ("egressd.yaml", &*include),
            ("x.d/b.yaml", &policy("b", one)),
            ("x.d/a.yaml", &policy("a", other)),
        ];
        // The rows are symmetric, and so is where the two stand.
        let want =
            "x.d/b.yaml:2:24: error: the clients of the policy `b` overlap those of `a` in x.d/a.yaml:2:12, ";
        let told = overlaps(&Memory::of(&two));
        assert_eq!(told.len(), usize::from(overlap), "{one} | {other}: {told:?}");
        assert!(told.iter().all(|told| told.starts_with(want)), "{told:?}");
        let with_main = format!("{}{include}", policy("b", one));
        let told =
            overlaps(&Memory::of(&[("egressd.yaml", &with_main), ("x.d/a.yaml", &policy("a", other))]));
        assert_eq!(told.len(), usize::from(overlap), "{one} | {other}: {told:?}");
        assert!(told.iter().all(|told| told.starts_with("x.d/a.yaml:2:24: error: ")), "{told:?}");
        // In one file, the first decides, as always.
        let second = policy("a", other).replace("policies:\n", "");
        let one_file = format!("{}{second}{listeners}", policy("b", one));
        assert_eq!(overlaps(&Memory::of(&[("egressd.yaml", &one_file)])), [""; 0]);
    }
}

#[test]
fn a_name_is_given_once_in_all_files() {
    let policy = |clients: u8| {
        format!("policies: [{{name: p, clients: {{networks: [10.{clients}.0.0/16]}}, allow: [a.example]}}]\n")
    };
    let files = [
        ("egressd.yaml", "include: [policies.d/*.yaml]\n"),
        ("policies.d/a.yaml", &*policy(1)),
        ("policies.d/b.yaml", &*policy(2)),
    ];
    let told = Memory::of(&files).told();
    assert_eq!(
        told,
        [
            "policies.d/b.yaml:1:19: error: another policy is called `p` in policies.d/a.yaml:1:19: write another name"
        ]
    );
}

#[test]
fn paths_are_relative_to_the_file_that_names_them() {
    let files = [
        ("egressd.yaml", "include: [teams/*/egress.yaml]\naccess_log: {output: log}\n"),
        (
            "teams/one/egress.yaml",
            "policies: [{name: one, clients: {networks: [10.1.0.0/16]}, allow_files: [list]}]\n",
        ),
        (
            "teams/two/egress.yaml",
            "policies: [{name: two, clients: {networks: [10.2.0.0/16]}, allow_files: [list]}]\n",
        ),
        ("teams/one/list", "one.example\n"),
        ("teams/two/list", "two.example\n"),
    ];
    let directory = TempDir::new().expect("a directory");
    for (name, text) in files {
        let path = directory.path().join(name);
        std::fs::create_dir_all(path.parent().expect("inside")).expect("made");
        std::fs::write(path, text).expect("written");
    }
    let loaded = config::load(Some(&directory.path().join("egressd.yaml"))).expect("it loads");
    let rules: Vec<String> = loaded
        .config
        .policies
        .rules()
        .map(|rule| format!("{} {}", rule.policy().name(), rule.text()))
        .collect();
    assert_eq!(rules, ["one one.example", "two two.example"]);
    let below = |path: &PathBuf| path.strip_prefix(directory.path()).expect("below").display().to_string();
    assert_eq!(
        loaded.config.files.iter().map(below).collect::<Vec<_>>(),
        [
            "egressd.yaml",
            "teams/one/egress.yaml",
            "teams/two/egress.yaml",
            "teams/one/list",
            "teams/two/list"
        ]
    );
    assert_eq!(loaded.config.access_log.output, config::LogOutput::File(directory.path().join("log")));
}

/// What is in force is known by one hash over all files.
#[test]
fn the_hash_covers_each_included_file_and_its_name() {
    let hash = |included: &[(&str, &str)]| {
        let mut memory = Memory::of(included);
        memory.0.insert("egressd.yaml".into(), "include: [policies.d/*]\n".to_owned());
        memory.load().expect("it loads").config.hash
    };
    let (one, other) =
        ("policies: [{name: p, allow: [a.example]}]\n", "policies: [{name: p, allow: [b.example]}]\n");
    let all = [
        hash(&[("policies.d/a", one)]),
        hash(&[("policies.d/a", other)]),
        hash(&[("policies.d/b", one)]),
        hash(&[("policies.d/a", one), ("policies.d/b", "# nothing\n")]),
    ];
    assert!(all.iter().enumerate().all(|(at, one)| !all[..at].contains(one)));
    assert_eq!(hash(&[("policies.d/a", one)]), all[0]);
}
