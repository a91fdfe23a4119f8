//! Made-up hosts of GitLab Omnibus: a whole one, and others that lack one thing each.

use std::fs;
use std::io;
use std::path::Path;

use tempfile::TempDir;

use super::{GitLab, Lookup, inspection_root};
use crate::commands::doctor::finding::{Finding, FindingState};
use crate::commands::env::{Exceptions, ProxyUrl, Settings};
use crate::words::target::Host;

const VIA: &str = "http://egressd.example.internal:3128";
const MIRROR: &str = "git-codecommit.ap-northeast-1.amazonaws.com";
const GITLAB_RB: &str = "external_url 'https://gitlab.example.com'\n\
    # external_url 'https://old.example.com'\n\
    gitlab_rails['repositories_storages'] = { 'default' => { 'gitaly_address' => 'tcp://gitaly.example.internal:8075' } }\n";

struct Omnibus {
    files: TempDir,
    settings: Settings,
}

impl Omnibus {
    /// A host where nothing is missing.
    fn whole() -> Self {
        let proxy = ProxyUrl::parse(VIA, None).expect("a URL");
        let own =
            ["gitlab.example.com".to_owned(), "gitaly.example.internal".to_owned(), "10.20.0.9".to_owned()];
        let exceptions = Exceptions::new(&proxy.host, &own).expect("entries");
        let host = Omnibus {
            files: tempfile::tempdir().expect("a directory"),
            settings: Settings { proxy, exceptions, trust: None },
        };
        let list = host.settings.exceptions.list();
        for part in ["gitaly", "gitlab-rails", "gitlab-workhorse"] {
            for (name, value) in [("http_proxy", VIA), ("https_proxy", VIA), ("no_proxy", &list)] {
                host.set(part, name, value);
            }
        }
        host.write("etc/gitlab/gitlab.rb", GITLAB_RB);
        let root = certificate("egressd inspection root");
        host.write("root.crt", &root);
        host.write("etc/gitlab/trusted-certs/egressd-inspection.crt", &root);
        host.write("opt/gitlab/embedded/ssl/certs/cacert.pem", &certificate("another"));
        host.write("opt/gitlab/embedded/ssl/certs/0123abcd.0", &root);
        host
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.files.path().join(path);
        fs::create_dir_all(path.parent().expect("under the root")).expect("a directory");
        fs::write(path, text).expect("a file");
    }

    fn remove(&self, path: &str) {
        let path = self.files.path().join(path);
        if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }.expect("it was there");
    }

    fn set(&self, part: &str, name: &str, value: &str) {
        self.write(&format!("opt/gitlab/etc/{part}/env/{name}"), value);
    }

    fn unset(&self, part: &str, name: &str) {
        self.remove(&format!("opt/gitlab/etc/{part}/env/{name}"));
    }

    /// `no_proxy` of a part without this entry.
    fn forget(&self, part: &str, entry: &str) {
        let list = self.settings.exceptions.list();
        let kept: Vec<&str> = list.split(',').filter(|one| *one != entry).collect();
        assert!(kept.len() < list.split(',').count(), "{entry} is in {list}");
        self.set(part, "no_proxy", &kept.join(","));
    }

    fn examined(&self, look_up: impl Fn(&str) -> Lookup) -> (bool, Vec<Finding>) {
        let gitlab = GitLab {
            root: self.files.path().to_owned(),
            settings: self.settings.clone(),
            mirror: Host::parse(MIRROR).expect("a name"),
            inspection_root: Some(
                inspection_root(&self.files.path().join("root.crt")).expect("a certificate"),
            ),
        };
        let mut findings = Vec::new();
        let fine = gitlab.examine(look_up, |finding| findings.push(finding.clone()));
        (fine, findings)
    }
}

fn certificate(name: &str) -> String {
    let mut terms = rcgen::CertificateParams::new(Vec::new()).expect("no names");
    terms.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    terms.distinguished_name.push(rcgen::DnType::CommonName, name);
    terms.self_signed(&rcgen::KeyPair::generate().expect("a key")).expect("a certificate").pem()
}

/// CodeCommit is at a public address, and Gitaly inside.
fn usual(name: &str) -> Lookup {
    let address = match name {
        MIRROR => "52.119.196.66",
        "gitaly.example.internal" => "10.20.0.9",
        other => panic!("nobody asks for {other}"),
    };
    Lookup::Addresses(vec![address.parse().expect("an address")])
}

fn mirror_is(answer: impl Fn() -> Lookup) -> impl Fn(&str) -> Lookup {
    move |name| if name == MIRROR { answer() } else { usual(name) }
}

#[test]
fn a_whole_host_has_nothing_wrong() {
    let (fine, findings) = Omnibus::whole().examined(usual);
    assert!(fine, "{findings:#?}");
    let seen: Vec<_> = findings.iter().map(|finding| (finding.what, finding.state)).collect();
    let ok = FindingState::Fine;
    assert_eq!(seen, [("gitaly", ok), ("rails", ok), ("workhorse", ok), ("resolves", ok), ("trusted", ok)]);
}

/// What is taken away from a whole host, the line that tells of it, and what that line must say.
type Case = (&'static str, fn(&Omnibus), &'static str, &'static [&'static str]);

const MISSING: &[Case] = &[
    (
        "https_proxy of Gitaly",
        |host| host.unset("gitaly", "https_proxy"),
        "gitaly",
        &[
            "https_proxy is not set",
            "gitaly['env']",
            "'https_proxy' => 'http://egressd.example.internal:3128'",
            "reconfigure",
        ],
    ),
    (
        "lower case in Gitaly",
        |host| {
            host.unset("gitaly", "http_proxy");
            host.set("gitaly", "HTTP_PROXY", VIA);
        },
        "gitaly",
        &["http_proxy is set in capitals alone", "'http_proxy' => "],
    ),
    (
        "every variable of Rails",
        |host| {
            host.remove("opt/gitlab/etc/gitlab-rails/env");
            host.set("gitlab-rails", "RAILS_ENV", "production");
        },
        "rails",
        &[
            "http_proxy is not set; https_proxy is not set; no_proxy is not set",
            "gitlab_rails['env']",
            ",gitlab.example.com,gitaly.example.internal,10.20.0.9'",
        ],
    ),
    (
        "every variable of Workhorse",
        |host| {
            host.remove("opt/gitlab/etc/gitlab-workhorse/env");
            host.set("gitlab-workhorse", "HOME", "/");
        },
        "workhorse",
        &["https_proxy is not set", "gitlab_workhorse['env']"],
    ),
    (
        "the same proxy in Sidekiq's own environment",
        |host| {
            host.set("sidekiq", "http_proxy", VIA);
            host.set("sidekiq", "https_proxy", "http://gitlab:hunter2@squid.example.internal:3128");
            host.set("sidekiq", "no_proxy", &host.settings.exceptions.list());
        },
        "sidekiq",
        &["https_proxy leads to http://…@squid.example.internal:3128", "sidekiq['env']"],
    ),
    (
        "http:// in the URL",
        |host| host.set("gitaly", "https_proxy", "egressd.example.internal:3128\n"),
        "gitaly",
        &["https_proxy is egressd.example.internal:3128, without http://"],
    ),
    (
        "the proxy's scheme",
        |host| host.set("gitlab-rails", "https_proxy", "https://egressd.example.internal:3128"),
        "rails",
        &["https_proxy leads to https://egressd.example.internal:3128"],
    ),
    (
        "the proxy in the letter case that Go reads first",
        |host| host.set("gitaly", "HTTPS_PROXY", "http://squid.example.internal:3128"),
        "gitaly",
        &[
            "HTTPS_PROXY leads to http://squid.example.internal:3128",
            "'https_proxy' => 'http://egressd.example.internal:3128', 'HTTPS_PROXY' => 'http://egressd.example.internal:3128'",
        ],
    ),
    (
        "no_proxy",
        |host| host.unset("gitlab-workhorse", "no_proxy"),
        "workhorse",
        &["no_proxy is not set", "'no_proxy' => 'localhost,", "'NO_PROXY' => 'localhost,"],
    ),
    (
        "what the right no_proxy has in a stale NO_PROXY",
        |host| host.set("gitlab-workhorse", "NO_PROXY", "localhost,127.0.0.1,169.254.169.254"),
        "workhorse",
        &[
            "NO_PROXY does not name gitlab.example.com and gitaly.example.internal and 10.20.0.9: ",
            ",10.20.0.9', 'NO_PROXY' => 'localhost,",
        ],
    ),
    (
        "the same in both letter cases",
        |host| {
            for name in ["no_proxy", "NO_PROXY"] {
                host.set("gitlab-rails", name, "localhost,127.0.0.1,gitlab.example.com,10.0.0.0/8");
            }
        },
        "rails",
        &[
            "no_proxy and NO_PROXY do not name 169.254.169.254 and gitaly.example.internal: ",
            "'no_proxy' => 'localhost,127.0.0.1,gitlab.example.com,10.0.0.0/8,169.254.169.254,gitaly.example.internal', 'NO_PROXY'",
        ],
    ),
    (
        "the way of the mirror through the proxy",
        |host| {
            let list = host.settings.exceptions.list();
            host.set("gitaly", "NO_PROXY", &format!("{list},.amazonaws.com"));
        },
        "gitaly",
        &[
            "NO_PROXY names the mirror's host git-codecommit.ap-northeast-1.amazonaws.com, which so goes out without",
            "'NO_PROXY' => 'localhost,",
            ",10.20.0.9', then gitlab-ctl reconfigure",
        ],
    ),
    (
        "GitLab's own host in no_proxy",
        |host| host.forget("gitaly", "gitlab.example.com"),
        "gitaly",
        &["no_proxy does not name gitlab.example.com: ", ",gitlab.example.com'"],
    ),
    (
        "Gitaly's address in no_proxy",
        |host| host.forget("gitlab-workhorse", "10.20.0.9"),
        "workhorse",
        &["no_proxy does not name 10.20.0.9: "],
    ),
    (
        "the metadata endpoint in no_proxy",
        |host| host.forget("gitlab-rails", "169.254.169.254"),
        "rails",
        &["no_proxy does not name 169.254.169.254: "],
    ),
    (
        "the root of inspection",
        |host| host.remove("etc/gitlab/trusted-certs"),
        "trusted",
        &[
            "does not have the root of inspection",
            "install -m 644 ",
            "root.crt /etc/gitlab/trusted-certs/egressd-inspection.crt",
            "gitlab-ctl reconfigure",
        ],
    ),
    (
        "reconfigure after the root was given",
        |host| host.remove("opt/gitlab/embedded/ssl/certs/0123abcd.0"),
        "trusted",
        &["is there, but not in ", "gitlab-ctl reconfigure"],
    ),
    (
        "one file for each certificate",
        |host| {
            let both = fs::read_to_string(host.files.path().join("root.crt")).expect("written")
                + &certificate("another");
            host.write("etc/gitlab/trusted-certs/egressd-inspection.crt", &both);
        },
        "trusted",
        &["holds 2 certificates", "split it"],
    ),
    (
        "a setting in a file that Gitaly's git reads",
        |host| host.write("etc/gitconfig", "[http]\n\tproxySSLCert = /etc/gitlab/client.crt\n"),
        "gitconfig",
        &["proxySSLCert = /etc/gitlab/client.crt", "gitaly['configuration']"],
    ),
];

#[test]
fn each_thing_that_is_missing_is_told_with_the_line_to_write() {
    assert!(MISSING.len() >= 11);
    for (thing, take_away, what, words) in MISSING {
        let host = Omnibus::whole();
        take_away(&host);
        let (fine, findings) = host.examined(usual);
        let wrong: Vec<&Finding> =
            findings.iter().filter(|finding| finding.state != FindingState::Fine).collect();
        assert!(!fine && wrong.len() == 1, "{thing}: {findings:#?}");
        assert_eq!((wrong[0].what, wrong[0].state), (*what, FindingState::Wrong), "{thing}");
        for word in *words {
            assert!(wrong[0].text.contains(word), "{thing}: {word:?} is not in {}", wrong[0].text);
        }
        assert!(!wrong[0].text.contains("hunter2"), "{thing}: a password is shown");
    }
}

#[test]
fn what_gitlab_rb_says_and_the_parts_do_not_have_wants_a_reconfigure() {
    let host = Omnibus::whole();
    host.unset("gitaly", "https_proxy");
    host.write(
        "etc/gitlab/gitlab.rb",
        &(GITLAB_RB.to_owned() + "gitaly[\"env\"] = { 'https_proxy' => '…' }\n"),
    );
    let (_, findings) = host.examined(usual);
    assert!(findings[0].text.ends_with("was gitlab-ctl reconfigure run?)"), "{findings:#?}");
}

/// The mirror's host, as Rails treats what it finds; the second value: with no variable in Rails.
#[test]
fn the_mirrors_host_is_judged_as_rails_does() {
    use FindingState::{Fine, Open, Wrong};
    let unknown = || Lookup::Failed(io::Error::other("no such name"));
    let inside = || Lookup::Addresses(vec!["52.119.196.66".parse().unwrap(), "10.30.8.4".parse().unwrap()]);
    let cases: [(&dyn Fn() -> Lookup, bool, FindingState, &str); 6] = [
        (&unknown, true, Fine, "which Rails accepts"),
        (&unknown, false, Wrong, "no such name"),
        (&|| Lookup::Late, true, Wrong, "within 15 s"),
        (&|| Lookup::Late, false, Wrong, "within 15 s"),
        (&inside, true, Open, "is at 10.30.8.4 here"),
        (&inside, false, Open, "Outbound requests"),
    ];
    for (answer, has_a_proxy, state, words) in cases {
        let host = Omnibus::whole();
        if !has_a_proxy {
            host.unset("gitlab-rails", "http_proxy");
            host.unset("gitlab-rails", "https_proxy");
        }
        let (_, findings) = host.examined(mirror_is(answer));
        let found = findings.iter().find(|finding| finding.what == "resolves").expect("a line");
        assert_eq!(found.state, state, "{found}");
        assert!(found.text.contains(words), "{found}");
    }
}

#[test]
fn a_host_of_one_part_alone_is_examined_for_that_part() {
    let host = Omnibus::whole();
    host.remove("opt/gitlab/etc/gitlab-rails");
    host.remove("opt/gitlab/etc/gitlab-workhorse");
    host.write("etc/gitlab/gitlab.rb", "gitlab_rails['internal_api_url'] = 'https://gitlab.example.com'\n");
    host.set("registry", "SSL_CERT_DIR", "/opt/gitlab/embedded/ssl/certs/");
    let (fine, findings) = host.examined(usual);
    let seen: Vec<_> = findings.iter().map(|finding| (finding.what, finding.state)).collect();
    use FindingState::{Fine, Open};
    let want = |gitaly| [("gitaly", gitaly), ("registry", Open), ("resolves", Open), ("trusted", Fine)];
    assert_eq!((fine, &*seen), (true, &want(Fine)[..]), "{findings:#?}");
    host.forget("gitaly", "gitlab.example.com");
    assert!(!host.examined(usual).0, "the host of internal_api_url is GitLab's own");
    // Without the file, or with one that says nothing, nobody knows what belongs into no_proxy.
    host.set("gitaly", "no_proxy", &host.settings.exceptions.list());
    for (text, words) in [
        (
            Some("external_url ENV['URL']\n"),
            "own host is not known: /etc/gitlab/gitlab.rb has no external_url",
        ),
        (None, "is not known: there is no "),
    ] {
        match text {
            Some(text) => host.write("etc/gitlab/gitlab.rb", text),
            None => host.remove("etc/gitlab/gitlab.rb"),
        }
        let (fine, findings) = host.examined(usual);
        let seen: Vec<_> = findings.iter().map(|finding| (finding.what, finding.state)).collect();
        assert_eq!((fine, &*seen), (true, &want(Open)[..]), "{findings:#?}");
        assert!(findings[0].text.contains(words), "{findings:#?}");
    }
    host.remove("opt/gitlab/etc");
    let (fine, findings) = host.examined(usual);
    assert!(
        !fine && findings.len() == 1 && findings[0].text.contains("no host of GitLab Omnibus"),
        "{findings:#?}"
    );
}

/// What Gitaly's name leads to, its address in `no_proxy`, and what is said.
type Unknown = (fn() -> Lookup, Option<&'static str>, &'static str);

/// Where Gitaly is decides what belongs into `no_proxy` of its clients.
#[test]
fn where_gitalys_address_is_not_known_its_clients_are_not_called_right() {
    let unknown = |answer: fn() -> Lookup| {
        move |name: &str| if name == "gitaly.example.internal" { answer() } else { usual(name) }
    };
    let failed: fn() -> Lookup = || Lookup::Failed(io::Error::other("no such name"));
    let cases: [Unknown; 4] = [
        (failed, None, "gitaly.example.internal could not be looked up here (no such name)"),
        (
            || Lookup::Late,
            None,
            "gitaly.example.internal could not be looked up here (no answer within 15 s)",
        ),
        (
            failed,
            Some("'gitaly_address' => \"tcp://#{gitaly}:8075\""),
            "gitlab.rb computes it in `'gitaly_address'",
        ),
        (failed, Some("'gitaly_address' => gitaly"), "gitlab.rb computes it in "),
    ];
    for (answer, line, words) in cases {
        let host = Omnibus::whole();
        if let Some(line) = line {
            host.write(
                "etc/gitlab/gitlab.rb",
                &format!("external_url 'https://gitlab.example.com'\n{line}\n"),
            );
        }
        let (fine, findings) = host.examined(unknown(answer));
        use FindingState::{Fine, Open};
        let seen: Vec<_> = findings.iter().map(|finding| finding.state).collect();
        assert_eq!((fine, &*seen), (true, &[Fine, Open, Open, Fine, Fine][..]), "{findings:#?}");
        for finding in findings.get(1..3).expect("rails and workhorse") {
            assert!(finding.text.contains("Gitaly's address is not known"), "{finding}");
            assert!(finding.text.contains(words), "{words}: {finding}");
        }
    }
}

/// Each file and directory that is read, made unreadable, for root too: a symbolic link to itself.
#[test]
fn what_cannot_be_read_is_neither_right_nor_missing() {
    let mut paths: Vec<String> = [
        "etc/gitlab/gitlab.rb",
        "etc/gitlab/trusted-certs",
        "etc/gitlab/trusted-certs/egressd-inspection.crt",
        "opt/gitlab/embedded/ssl/certs",
        "opt/gitlab/embedded/ssl/certs/0123abcd.0",
        "opt/gitlab/etc",
        "etc/gitconfig",
    ]
    .map(str::to_owned)
    .into();
    for part in ["gitaly", "gitlab-rails", "gitlab-workhorse"] {
        paths.push(format!("opt/gitlab/etc/{part}/env"));
        for name in ["http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"] {
            paths.push(format!("opt/gitlab/etc/{part}/env/{name}"));
        }
    }
    for path in paths {
        let host = Omnibus::whole();
        let place = host.files.path().join(&path);
        if place.exists() {
            host.remove(&path);
        }
        std::os::unix::fs::symlink(&place, &place).expect("a link");
        let (fine, findings) = host.examined(usual);
        let open = findings.iter().filter(|finding| finding.state == FindingState::Open);
        let told: Vec<&Finding> = open.filter(|found| found.text.contains(" could not be read (")).collect();
        assert!(fine && !told.is_empty(), "{path}: {findings:#?}");
        assert!(!findings.iter().any(|finding| finding.text.contains("not set")), "{path}: {findings:#?}");
        assert!(
            told.iter()
                .all(|found| found.text.contains("is not known") || found.text.contains("are not known"))
        );
    }
}

#[test]
fn a_file_that_is_not_the_root_alone_is_refused() {
    let host = Omnibus::whole();
    let told = |path: &Path| inspection_root(path).expect_err("refused");
    assert!(told(&host.files.path().join("none")).contains("there is no such file"));
    host.write("root.crt", &(certificate("one") + &certificate("two")));
    assert!(told(&host.files.path().join("root.crt")).contains("the root alone"));
}
