//! What `git` and `aws` of an entry let through, by docs/configuration.md: the requests are read as serving reads them.

use std::path::Path;

use egressd::config;
use egressd::rules::git::Judged;
use egressd::rules::{
    Denial, HttpRequest, OptionValue, Permit, Policies, Recognised, Requests, Shift, Upgrade,
};
use egressd::wire::aws;
use egressd::wire::git::{PushReader, classify_for};
use egressd::words::git::{Asks, Content, GitAsk, Operation, Service};
use egressd::words::outcome::{Decision, Reason};
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use crate::{ask, client, now};

const HOST: &str = "git-codecommit.eu-central-1.amazonaws.com";
/// Of 609629065308.
const KEY: &str = "ASIAY34FZKBOKMUTVV7A";
/// Of the old form.
const OLD_KEY: &str = "AKIAIOSFODNN7EXAMPLE";

fn policies(entries: &str, more: &str) -> Policies {
    let inspection = "inspection: {certificate: authority.crt, key: authority.key}";
    let text = format!(
        "{inspection}\npolicies: [{{name: p, allow: [{{to: {HOST}, requests: [{entries}]}}]{more}}}]"
    );
    let read = |path: &Path| {
        let file: &[u8] = match path.file_name().and_then(|name| name.to_str()) {
            Some("authority.crt") => include_bytes!("../lint/files/authority-free.crt"),
            Some("authority.key") => include_bytes!("../lint/files/authority.key"),
            _ => b"mirror-at-123456789012:s3cret\n",
        };
        Ok(file.to_vec())
    };
    config::load_str("c.yaml", &text, read)
        .unwrap_or_else(|findings| panic!("{text}: {findings:?}"))
        .config
        .policies
}

/// What a client does: `discover fetch /x`, `list /x`, `fetch /x`, `push /x: create refs/heads/a, delete refs/heads/b`, `batch /x`,
/// `GET /x`; after ` by ` whose credentials it has.
struct Asked {
    method: &'static str,
    path: String,
    query: Option<String>,
    recognised: Recognised,
}

impl Asked {
    fn new(text: &str) -> Self {
        let (text, by) = match text.split_once(" by ") {
            Some((text, by)) => (text, Some(by)),
            None => (text, None),
        };
        let (what, rest) = text.split_once(' ').unwrap_or_else(|| panic!("{text}"));
        let (path, changes) = rest.split_once(": ").unwrap_or((rest, ""));
        let (method, path, query, content) = match what {
            "discover" => {
                let (service, path) = path.split_once(' ').unwrap_or_else(|| panic!("{text}"));
                let query = format!("service=git-{service}");
                ("GET", format!("{path}/info/refs"), Some(query), Content::Unread)
            }
            "list" => ("POST", format!("{path}/git-upload-pack"), None, Content::Does(Operation::List)),
            "fetch" => ("POST", format!("{path}/git-upload-pack"), None, Content::Does(Operation::Fetch)),
            "push" => ("POST", format!("{path}/git-receive-pack"), None, changed(changes)),
            "batch" => ("POST", format!("{path}/info/lfs/objects/batch"), None, Content::Unread),
            "GET" => ("GET", path.to_owned(), None, Content::Unread),
            other => panic!("{other}"),
        };
        let git = classify_for(HOST, method, &path, query.as_deref())
            .map(|request| GitAsk { request, content })
            .map_err(|why| why.to_string().into());
        let fields = by.map(|by| match by.split_once(' ') {
            // A signature: the key, the service, the region.
            Some((key, scope)) => {
                let (service, region) = scope.split_once(' ').unwrap_or_else(|| panic!("{scope}"));
                let signature = "0".repeat(64);
                format!(
                    "AWS4-HMAC-SHA256 Credential={key}/20261130/{region}/{service}/aws4_request, SignedHeaders=host, Signature={signature}"
                )
            }
            None => format!("Basic {}", base64(&format!("{by}:password"))),
        });
        let fields = fields.iter().map(|value| ("authorization", value.as_bytes()));
        let aws = aws::read(HOST, query.as_deref(), fields);
        Asked { method, path, query, recognised: Recognised { git, aws, judged: Judged::default() } }
    }

    fn request(&self) -> HttpRequest<'_> {
        HttpRequest {
            method: self.method,
            path: &self.path,
            query: self.query.as_deref(),
            upgrade: Upgrade::None,
            inspected: true,
            recognised: Some(&self.recognised),
        }
    }
}

fn base64(text: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(text)
}

/// The list that git's client writes.
fn changed(text: &str) -> Content {
    if text.is_empty() {
        return Content::Unread;
    }
    let mut body = Vec::new();
    for (at, command) in text.split(", ").enumerate() {
        let (change, name) = command.split_once(' ').unwrap_or_else(|| panic!("{text}"));
        let (old, new) = match change {
            "create" => ("0", "2"),
            "update" => ("1", "2"),
            "delete" => ("1", "0"),
            other => panic!("{other}"),
        };
        let capabilities = if at == 0 { "\0report-status" } else { "" };
        let line = format!("{} {} {name}{capabilities}", old.repeat(40), new.repeat(40));
        body.extend_from_slice(format!("{:04x}{line}", line.len() + 4).as_bytes());
    }
    body.extend_from_slice(b"0000");
    let mut reader = PushReader::new();
    reader.read(&body).unwrap_or_else(|error| panic!("{text}: {error}"));
    Content::Changes(reader.into_list().changes.into())
}

fn decide(policies: &Policies, asked: &Asked) -> Result<Permit, Denial> {
    let target = ask(&format!("CONNECT {HOST}:443"));
    let permit = policies.decide(&target, &client(), now())?;
    policies.decide_request(permit, &target, &asked.request())
}

/// `1` for the entry that lets it pass, else the reason.
fn verdict(decided: &Result<Permit, Denial>) -> String {
    match decided {
        Ok(permit) if permit.decision == Decision::WouldDeny => {
            format!("would {}", permit.reason.map_or("?", Reason::as_str))
        }
        Ok(permit) => permit.entry.as_ref().map_or("any".to_owned(), |entry| entry.number.to_string()),
        Err(denial) => denial.reason.as_str().to_owned(),
    }
}

const MIRROR: &str = "{git: [push], repositories: [/v1/repos/infra], refs: [refs/heads/main, 'refs/tags/**'], ref_changes: \
                      [create, update, delete], aws: {accounts: ['123456789012'], services: [codecommit], regions: \
                      [eu-central-1]}}";
const PULL: &str =
    "{git: [fetch], repositories: ['/v1/repos/*'], aws: {accounts: ['123456789012', '609629065308']}}";
const ALICE: &str = "alice-at-123456789012";
const FOREIGN: &str = "mallory-at-999999999999";

#[test]
fn who_may_do_what_with_which_repository_is_decided_by_one_entry() {
    let both = format!("{PULL}, {MIRROR}");
    let two = "{git: [push], refs: [refs/heads/a]}, {git: [push], refs: [refs/heads/b]}, {methods: [GET], paths: [/status]}";
    let lent = "{git: [fetch, push], credentials_file: c, aws: {accounts: ['123456789012']}}";
    let signed_only = "{aws: {accounts: ['609629065308'], services: [s3], regions: [us-east-1], key_accounts: \
                       {AKIAIOSFODNN7EXAMPLE: '609629065308'}}}";
    let x = "/v1/repos/infra";
    let rows = [
        (MIRROR, format!("push {x}: update refs/heads/main, create refs/tags/v1 by {ALICE}"), "1"),
        (MIRROR, format!("push {x}: delete refs/tags/v0 by {ALICE}"), "1"),
        (
            MIRROR,
            format!("push {x}: update refs/heads/main, create refs/heads/x by {ALICE}"),
            "ref_not_allowed",
        ),
        (MIRROR, format!("push {x}: update refs/heads/main by {FOREIGN}"), "account_not_allowed"),
        // Whose credentials they are matters more than what they are used for.
        (MIRROR, format!("push /v1/repos/other: update refs/heads/main by {FOREIGN}"), "account_not_allowed"),
        (MIRROR, format!("push /v1/repos/other: update refs/heads/main by {ALICE}"), "git_not_allowed"),
        (MIRROR, format!("push {x}: update refs/heads/main"), "account_not_allowed"),
        (MIRROR, format!("list {x} by {ALICE}"), "1"),
        (MIRROR, format!("fetch {x} by {ALICE}"), "git_not_allowed"),
        (MIRROR, format!("discover upload-pack {x} by {ALICE}"), "1"),
        (MIRROR, format!("discover receive-pack {x} by {ALICE}"), "1"),
        // Git sends its first request without credentials. Nobody is asked for what would be refused with them.
        (MIRROR, format!("discover receive-pack {x}"), "401"),
        (MIRROR, "discover receive-pack /v1/repos/other".to_owned(), "git_not_allowed"),
        (MIRROR, format!("discover receive-pack {x} by {FOREIGN}"), "account_not_allowed"),
        (PULL, format!("discover receive-pack {x}"), "git_not_allowed"),
        (MIRROR, format!("push {x}: update refs/heads/main by {KEY}"), "account_not_allowed"),
        (PULL, format!("fetch {x} by {KEY}"), "1"),
        (PULL, format!("fetch {x} by {OLD_KEY}"), "account_not_allowed"),
        (PULL, format!("fetch {x} by bob"), "account_not_allowed"),
        (PULL, format!("push {x}: update refs/heads/main by {ALICE}"), "git_not_allowed"),
        (PULL, "GET /v1/repos/infra/HEAD by alice-at-123456789012".to_owned(), "git_not_allowed"),
        (&both, format!("fetch {x} by {ALICE}"), "1"),
        (&both, format!("push {x}: update refs/heads/main by {ALICE}"), "2"),
        // A push is let through by one entry, or not at all.
        (two, format!("push {x}: update refs/heads/a"), "1"),
        (two, format!("push {x}: update refs/heads/b"), "2"),
        (two, format!("push {x}: update refs/heads/a, update refs/heads/b"), "ref_not_allowed"),
        (two, "GET /status".to_owned(), "3"),
        (two, "GET /other".to_owned(), "request_not_allowed"),
        // The credentials that are sent are judged, not the client's.
        (lent, format!("push {x}: update refs/heads/main"), "1"),
        (lent, format!("push {x}: update refs/heads/main by {FOREIGN}"), "1"),
        (lent, format!("batch {x}"), "git_not_allowed"),
        ("{git: [fetch, push]}", format!("batch {x}"), "1"),
        (signed_only, format!("GET /b by {KEY} s3 us-east-1"), "1"),
        (signed_only, format!("GET /b by {OLD_KEY} s3 us-east-1"), "1"),
        (signed_only, format!("GET /b by {KEY} sts us-east-1"), "account_not_allowed"),
        (signed_only, format!("GET /b by {KEY} s3 eu-west-1"), "account_not_allowed"),
        (signed_only, "GET /b".to_owned(), "account_not_allowed"),
    ];
    let mut wrong = Vec::new();
    for (entries, text, want) in &rows {
        let asked = Asked::new(text);
        let got = verdict(&decide(&policies(entries, ""), &asked));
        // Git is asked for credentials where this is the reason.
        let reason = if *want == "401" { "account_not_allowed" } else { *want };
        if got != reason {
            wrong.push(format!("{entries}: {text}: {got}, not {want}"));
        }
        let in_report_mode = verdict(&decide(&policies(entries, ", mode: report"), &asked));
        let relaxed = match *want {
            // The target asks for credentials itself.
            "401" => "any".to_owned(),
            want if want.ends_with("_not_allowed") => format!("would {want}"),
            want => want.to_owned(),
        };
        if in_report_mode != relaxed {
            wrong.push(format!("{entries}: {text}: {in_report_mode} in report mode, not {relaxed}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The entry that fits says what holds for the exchange.
#[test]
fn the_entry_that_fits_says_how_the_request_goes_on() {
    let limited = PULL.replace("{git: [fetch]", "{git: [fetch], negotiation_limit: 16KiB");
    let permit = decide(&policies(&limited, ""), &Asked::new(&format!("fetch /v1/repos/x by {ALICE}")));
    let entry = permit.expect("it fits").entry.expect("there is one");
    let git = entry.git.expect("it is about Git");
    assert_eq!((git.negotiation_limit, git.fixes_reads()), (16 << 10, true));
    assert_eq!(entry.account.map(|account| account.to_string()).as_deref(), Some("123456789012"));
    let (asks, none) = (policies(PULL, ""), policies("{methods: [GET]}", ""));
    let asked = |policies: &Policies| {
        let permit =
            policies.decide(&ask(&format!("CONNECT {HOST}:443")), &client(), now()).expect("allowed");
        permit.requests.is_some_and(|requests| requests.asks_git() || requests.asks_aws())
    };
    assert!(asked(&asks) && !asked(&none));
}

/// The advice says what is so and what to write, and the entry that it offers is pasted and asked again.
#[test]
fn a_refusal_says_what_to_write() {
    let rows = [
        (
            MIRROR,
            "push /v1/repos/infra: update refs/heads/main, create refs/heads/x by alice-at-123456789012",
            "create of `refs/heads/x` is not allowed: write the ref under `refs`",
            Some(
                "{git: [push], repositories: [\"/v1/repos/infra\"], refs: [\"refs/heads/main\", \"refs/heads/x\"], ref_changes: [create, update, delete], aws: {accounts: [\"123456789012\"], services: [codecommit], regions: [eu-central-1]}}",
            ),
        ),
        (
            "{git: [push], refs: [refs/heads/main]}",
            "push /v1/repos/infra: delete refs/heads/main",
            "delete of `refs/heads/main` is not allowed: write `delete` under `ref_changes`",
            Some(
                "{git: [push], repositories: [\"/v1/repos/infra\"], refs: [\"refs/heads/main\"], ref_changes: [create, update, delete]}",
            ),
        ),
        (
            PULL,
            "push /v1/repos/infra: update refs/heads/main by alice-at-123456789012",
            "push is not allowed for `/v1/repos/infra`: write `push` under `git`",
            Some(
                "{git: [push], repositories: [\"/v1/repos/infra\"], refs: [\"refs/heads/main\"], aws: {accounts: [\"123456789012\"]}}",
            ),
        ),
        (
            MIRROR,
            "discover receive-pack /v1/repos/other by alice-at-123456789012",
            "push is not allowed for `/v1/repos/other`: write it under `repositories`",
            Some(
                "{git: [push], repositories: [\"/v1/repos/other\"], refs: [\"refs/heads/main\", \"refs/tags/**\"], ref_changes: [create, update, delete], aws: {accounts: [\"123456789012\"], services: [codecommit], regions: [eu-central-1]}}",
            ),
        ),
        (
            PULL,
            "fetch /v1/repos/infra by mallory-at-999999999999",
            "the credentials are of account 999999999999, and the rule allows 123456789012, 609629065308",
            Some("{git: [fetch], repositories: [\"/v1/repos/infra\"], aws: {accounts: [\"999999999999\"]}}"),
        ),
        (
            PULL,
            "fetch /v1/repos/infra by AKIAIOSFODNN7EXAMPLE",
            "the access key id AKIAIOSFODNN7EXAMPLE is of the old form, which contains no account: write `key_accounts: {AKIAIOSFODNN7EXAMPLE: \"ACCOUNT\"}`, or make a new key",
            None,
        ),
        // An entry without `aws` would let everyone's requests pass.
        (
            PULL,
            "fetch /v1/repos/infra",
            "wants credentials of AWS, and the request has no credentials: anyone could have sent it",
            None,
        ),
        // An entry for the path would let any body pass.
        (
            PULL,
            "GET /v1/repos/infra/git-receive-pack by alice-at-123456789012",
            "allows what git's client asks, and this is a method that git's client does not use for this path",
            None,
        ),
        (
            PULL,
            "GET /status by alice-at-123456789012",
            "allows what git's client asks, and this is no request of git's client or of git-lfs",
            Some("{methods: [GET], paths: [\"/status\"], aws: {accounts: [\"123456789012\"]}}"),
        ),
    ];
    for (entries, text, advice, entry) in rows {
        let asked = Asked::new(text);
        let denial = decide(&policies(entries, ""), &asked).expect_err(text);
        let whole = [
            format!("entry 1 of `requests` of `{HOST}`: {advice}"),
            format!("entry 1 of `requests` of `{HOST}` {advice}"),
        ];
        assert!(whole.iter().any(|text| **text == *denial.advice), "{text}: {}", denial.advice);
        assert_eq!(denial.entry.as_deref(), entry, "{text}");
        if let Some(entry) = entry {
            assert_eq!(verdict(&decide(&policies(entry, ""), &asked)), "1", "{text}: {entry}");
            let other = Asked::new(
                &text
                    .replace("/infra", "/infra2")
                    .replace("/status", "/status2")
                    .replace("/other", "/other2"),
            );
            assert!(decide(&policies(entry, ""), &other).is_err(), "{entry}");
        }
    }
}

#[test]
fn the_refs_to_blame_for_a_refused_push_are_told() {
    let text = "push /v1/repos/infra: update refs/heads/main, create refs/heads/x, delete refs/tags/v1";
    let blamed = |entries: &str, text: &str| -> Vec<String> {
        let asked = Asked::new(text);
        let denial = decide(&policies(entries, ""), &asked).expect_err(text);
        let Ok(GitAsk { content: Content::Changes(changes), .. }) = &asked.recognised.git else {
            panic!("{text}")
        };
        changes.iter().filter(|change| denial.blames(change)).map(|change| change.name.to_string()).collect()
    };
    assert_eq!(blamed(MIRROR, &format!("{text} by {ALICE}")), ["refs/heads/x"]);
    let no_delete = MIRROR.replace(", delete]", "]");
    assert_eq!(blamed(&no_delete, &format!("{text} by {ALICE}")), ["refs/heads/x", "refs/tags/v1"]);
    // What is wrong with the push is wrong with each.
    let all = ["refs/heads/main", "refs/heads/x", "refs/tags/v1"];
    assert_eq!(blamed(MIRROR, &format!("{text} by {FOREIGN}")), all);
    assert_eq!(blamed(PULL, &format!("{text} by {ALICE}")), all);
}

fn requests(entries: &str) -> std::sync::Arc<Requests> {
    let policies = policies(entries, "");
    let permit = policies.decide(&ask(&format!("CONNECT {HOST}:443")), &client(), now()).expect("allowed");
    permit.requests.expect("it has some")
}

fn changes(old: &str, new: &str) -> Vec<(Shift, String)> {
    let (old, new) = (requests(old), requests(new));
    OptionValue::Asks(Some(&old)).changes(&OptionValue::Asks(Some(&new)))
}

#[test]
fn a_change_of_an_entry_is_told_as_wider_or_narrower() {
    use Shift::{Narrower, Noted, Unclear, Wider};
    let rows: &[(&str, &str, &[Shift])] = &[
        // What is added comes first, then what is gone.
        // Where pushes are allowed, fetches no longer go out in a fixed form.
        ("{git: [fetch]}", "{git: [fetch, push]}", &[Wider, Unclear]),
        ("{git: [fetch, push]}", "{git: [push]}", &[Noted, Narrower]),
        ("{git: [list]}", "{git: [fetch]}", &[Wider, Noted]),
        ("{git: [fetch], repositories: [/a, /b]}", "{git: [fetch], repositories: [/a]}", &[Noted, Narrower]),
        (
            "{git: [fetch], repositories: ['/a/*']}",
            "{git: [fetch], repositories: ['/a/b*']}",
            &[Noted, Narrower],
        ),
        ("{git: [fetch], repositories: [/a]}", "{git: [fetch]}", &[Wider, Noted]),
        ("{git: [fetch], repositories: [/a]}", "{git: [fetch], repositories: [/a.git]}", &[Noted, Noted]),
        ("{git: [push], refs: [refs/heads/a]}", "{git: [push]}", &[Wider, Noted]),
        (
            "{git: [push], refs: ['refs/heads/**']}",
            "{git: [push], refs: [refs/heads/a, 'refs/heads/b/*']}",
            &[Noted, Narrower],
        ),
        ("{git: [push], refs: ['refs/heads/a*']}", "{git: [push], refs: ['refs/heads/*']}", &[Wider, Noted]),
        ("{git: [push], refs: ['refs/heads/*']}", "{git: [push], refs: ['refs/heads/**']}", &[Wider, Noted]),
        (
            "{git: [push], refs: ['refs/heads/**']}",
            "{git: [push], refs: ['refs/heads/*/**']}",
            &[Noted, Narrower],
        ),
        ("{git: [push]}", "{git: [push], ref_changes: [create, update, delete]}", &[Wider, Noted]),
        ("{git: [push]}", "{git: [push], ref_changes: [create]}", &[Noted, Narrower]),
        // Apart they let no push of both through.
        (
            "{git: [push], refs: [refs/heads/a]}, {git: [push], refs: [refs/heads/b]}",
            "{git: [push], refs: [refs/heads/a, refs/heads/b]}",
            &[Wider, Noted, Noted],
        ),
        (
            "{git: [push], ref_changes: [create]}, {git: [push], ref_changes: [delete]}",
            "{git: [push], ref_changes: [create, delete]}",
            &[Wider, Noted, Noted],
        ),
        ("{git: [fetch]}", "{git: [fetch], negotiation_limit: 2MiB}", &[Wider, Unclear]),
        ("{git: [fetch]}", "{git: [fetch], negotiation_limit: 1KiB}", &[Unclear, Narrower]),
        ("{git: [fetch, push]}", "{git: [fetch]}, {git: [push]}", &[Unclear, Noted, Unclear]),
        ("{git: [fetch]}", "{git: [fetch], aws: {accounts: ['123456789012']}}", &[Noted, Narrower]),
        ("{git: [fetch], aws: {accounts: ['123456789012']}}", "{git: [fetch]}", &[Wider, Noted]),
        (
            "{aws: {accounts: ['123456789012']}}",
            "{aws: {accounts: ['123456789012', '000000000001']}}",
            &[Wider, Noted],
        ),
        ("{aws: {services: [s3]}}", "{aws: {services: [s3], regions: [us-east-1]}}", &[Noted, Narrower]),
        (
            "{aws: {regions: [us-east-1]}}, {aws: {regions: [eu-west-1]}}",
            "{aws: {regions: [us-east-1, eu-west-1]}}",
            &[Wider, Noted, Noted],
        ),
        (
            "{aws: {accounts: ['123456789012']}}",
            "{aws: {accounts: ['123456789012'], key_accounts: {AKIAIOSFODNN7EXAMPLE: '123456789012'}}}",
            &[Wider, Noted],
        ),
        ("{methods: [GET]}", "{methods: [GET], aws: {accounts: ['123456789012']}}", &[Noted, Narrower]),
        ("{git: [fetch]}, {git: [push]}", "{git: [push]}, {git: [fetch]}", &[Unclear]),
        (
            "{git: [fetch], repositories: [/a]}, {git: [fetch]}",
            "{git: [fetch]}, {git: [fetch], repositories: [/a]}",
            &[Noted],
        ),
    ];
    let mut wrong = Vec::new();
    for (old, new, want) in rows {
        let told = changes(old, new);
        let shifts: Vec<Shift> = told.iter().map(|(shift, _)| *shift).collect();
        if shifts != *want {
            wrong.push(format!("{old} → {new}: {told:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The keys of an entry, each written, of few words, so that entries have to do with each other.
fn keys() -> impl Strategy<Value = [String; 6]> {
    let list = |key: &'static str, words: Vec<&'static str>| {
        let some = subsequence(words, 1..3).prop_map(move |some| format!("{key}: [{}]", some.join(", ")));
        prop_oneof![1 => Just(String::new()), 3 => some]
    };
    let git = subsequence(vec!["list", "fetch", "push", "push"], 1..=3).prop_map(|mut git| {
        git.dedup();
        format!("git: [{}]", git.join(", "))
    });
    let http = select(vec!["methods: [GET]", "methods: [GET, POST]", "paths: ['/a/**']", "paths: ['/**']"]);
    let accounts = list("accounts", vec!["'123456789012'", "'609629065308'", "'999999999999'"]);
    let services = list("services", vec!["codecommit", "s3"]);
    let key_accounts = select(vec!["", "key_accounts: {AKIAIOSFODNN7EXAMPLE: '123456789012'}"]);
    let aws = (accounts, services, key_accounts).prop_map(|(accounts, services, keys)| {
        let keys = [accounts, services, keys.to_owned()].into_iter().filter(|key| !key.is_empty());
        keys.collect::<Vec<String>>().join(", ")
    });
    (
        prop_oneof![4 => git, 1 => http.prop_map(str::to_owned)],
        list("repositories", vec!["/a", "/a/b", "'/a/*'", "'/a/**'", "'/*'", "/c.git"]),
        list("refs", vec!["refs/heads/a", "refs/heads/b", "'refs/heads/*'", "'refs/**'", "'refs/heads/a*'"]),
        list("ref_changes", vec!["create", "update", "delete"]),
        prop_oneof![2 => Just(String::new()), 1 => aws],
        select(vec!["", "", "", "credentials_file: c"]).prop_map(str::to_owned),
    )
        .prop_map(|(what, repositories, refs, changes, aws, lent)| {
            [what, repositories, refs, changes, aws, lent]
        })
}

/// As the configuration writes it, without the keys that may not stand beside others.
fn written([what, repositories, refs, changes, aws, lent]: &[String; 6]) -> String {
    let mut keys = vec![what.clone()];
    if what.starts_with("git") {
        keys.extend([repositories.clone(), refs.clone()]);
    }
    if what.contains("push") {
        keys.push(changes.clone());
    }
    // Those of the file are of an account that is allowed.
    let listed = aws.split("key_accounts").next().unwrap_or_default();
    let fits = (!listed.contains("accounts: [") || listed.contains("'123456789012'"))
        && (!listed.contains("services") || listed.contains("codecommit"));
    if fits {
        keys.push(lent.clone());
    }
    if !aws.is_empty() {
        keys.push(format!("aws: {{{aws}}}"));
    }
    keys.retain(|key| !key.is_empty());
    format!("{{{}}}", keys.join(", "))
}

/// Entries, and the same after an edit: of one of them some keys are others, and perhaps one is more or gone.
fn edited() -> impl Strategy<Value = (String, String)> {
    let entries = proptest::collection::vec(keys(), 1..3);
    let edit = proptest::collection::vec(prop::bool::weighted(0.25), 6);
    (entries, keys(), edit, select(vec!["", "more", "gone"])).prop_map(|(old, other, edit, also)| {
        let mut new = old.clone();
        if let Some(last) = new.last_mut() {
            let kept = last.iter_mut().zip(&other).zip(edit).filter(|(_, edit)| *edit);
            kept.for_each(|((key, other), _)| key.clone_from(other));
        }
        match also {
            "more" => new.push(other),
            "gone" if new.len() > 1 => drop(new.remove(0)),
            _ => {}
        }
        let all = |entries: &[[String; 6]]| entries.iter().map(written).collect::<Vec<String>>().join(", ");
        (all(&old), all(&new))
    })
}

fn asked() -> impl Strategy<Value = String> {
    let path = || select(vec!["/a", "/a/b", "/a/b/c", "/c", "/d.git"]);
    let changes = proptest::collection::btree_map(
        select(vec!["a", "b", "ab", "a/b"]),
        select(vec!["create", "update", "delete"]),
        1..3,
    );
    let push = (path(), changes).prop_map(|(path, changes)| {
        let changes: Vec<String> =
            changes.iter().map(|(name, change)| format!("{change} refs/heads/{name}")).collect();
        format!("push {path}: {}", changes.join(", "))
    });
    let other = (
        select(vec!["list", "fetch", "batch", "GET", "discover upload-pack", "discover receive-pack"]),
        path(),
    )
        .prop_map(|(what, path)| format!("{what} {path}"));
    let by = select(vec![
        "",
        " by alice-at-123456789012",
        " by alice-at-123456789012",
        " by alice-at-123456789012",
        " by mallory-at-999999999999",
        " by ASIAY34FZKBOKMUTVV7A",
        " by AKIAIOSFODNN7EXAMPLE",
        " by ASIAY34FZKBOKMUTVV7A s3 eu-central-1",
        " by AKIAIOSFODNN7EXAMPLE sts eu-central-1",
    ]);
    (prop_oneof![2 => push, 1 => other], by).prop_map(|(what, by)| what + by)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// What is told as narrower, or as no change of what passes, lets no request through that was refused before.
    #[test]
    fn a_change_that_is_told_as_narrower_lets_nothing_more_through(
        (old, new) in edited(),
        asked in proptest::collection::vec(asked(), 48),
    ) {
        let (before, after) = (requests(&old), requests(&new));
        let told = OptionValue::Asks(Some(&before)).changes(&OptionValue::Asks(Some(&after)));
        let added: Vec<Shift> = told.iter().filter(|(_, text)| text.starts_with('+')).map(|(shift, _)| *shift).collect();
        let wider = added.iter().any(|shift| matches!(shift, Shift::Wider));
        // Unclear: more may pass, or other credentials are sent.
        let unclear = added.iter().any(|shift| matches!(shift, Shift::Unclear));
        for text in &asked {
            let asked = Asked::new(text);
            let passes = |requests: &Requests| requests.find(HOST, &asked.request()).is_ok();
            prop_assert!(!passes(&after) || passes(&before) || wider || unclear, "{old} → {new}: {text}: {told:?}");
        }
        // The other way round: what is told as wider is.
        let back = OptionValue::Asks(Some(&after)).changes(&OptionValue::Asks(Some(&before)));
        prop_assert_eq!(told.iter().filter(|(shift, _)| *shift == Shift::Wider).count(),
            back.iter().filter(|(shift, _)| *shift == Shift::Narrower).count(), "{} → {}", old, new);
    }
}

/// What discovery asks is known by its query alone.
#[test]
fn what_the_requests_of_these_tests_ask_is_what_git_reads() {
    let asks = |text: &str| Asked::new(text).recognised.git.map(|ask| ask.request.asks);
    assert_eq!(asks("discover receive-pack /v1/repos/x"), Ok(Asks::Discovery(Service::ReceivePack)));
    assert_eq!(asks("fetch /v1/repos/x"), Ok(Asks::Rpc(Service::UploadPack)));
    assert!(asks("GET /x").is_err());
}
