//! The server itself, asked without a proxy: it lets through what CodeCommit does, and refuses the rest.

use std::path::Path;
use std::process::Command;

use super::{Account, CodeCommit, HOST, access_key, signature};
use crate::git::User;
use crate::support::{Authority, own_loopback};
use crate::tool::{Ran, here, tool};

/// Two accounts with a repository of one name.
pub(super) struct Scene {
    pub(super) user: User,
    pub(super) server: CodeCommit,
    pub(super) ours: Account,
    pub(super) theirs: Account,
}

impl Scene {
    fn new() -> Self {
        let authority = Authority::new();
        let (ours, theirs) = (Account::new("210987654321", 7), Account::new("000012345678", 7));
        let server = CodeCommit::start(here, &authority, (own_loopback(), 0).into(), &[&ours, &theirs]);
        Scene { user: User::new(&authority), server, ours, theirs }
    }

    fn git(&self, directory: &Path) -> Command {
        let mut git = self.user.git(directory);
        // The name is in no DNS.
        let (host, address) = (HOST, self.server.address());
        git.args(["-c", &format!("http.curloptResolve={host}:{}:{}", address.port(), address.ip())]);
        git
    }

    fn push(&self, source: &Path, credentials: &(String, String), refspec: &str) -> Ran {
        let url = self.server.url(Some(credentials), "mirror");
        Ran::of(self.git(source).args(["push", &url, refspec]))
    }
}

/// Now, as SigV4 writes it.
pub(super) fn now(home: &Path, shift: &str) -> String {
    Ran::ok(tool("date", home).args(["--utc", "--date", shift, "+%Y%m%dT%H%M%S"])).trim().to_owned()
}

#[test]
fn the_credentials_choose_the_account_and_say_what_its_user_may_do() {
    let scene = Scene::new();
    let source = scene.user.repository("source", 1 << 10);
    let (ours, theirs) =
        (scene.server.create(&scene.ours, "mirror"), scene.server.create(&scene.theirs, "mirror"));
    let done = |ran: Ran| assert_eq!(ran.code, Some(0), "{ran:?}");
    let refused = |ran: Ran, status: &str| {
        assert!(ran.code != Some(0) && ran.stderr.contains(status), "{status} {ran:?}");
    };
    done(scene.push(&source, &scene.ours.pusher(), "main"));
    assert_eq!(scene.server.refs(&ours).lines().count(), 1);
    assert_eq!(scene.server.refs(&theirs), "");
    done(scene.push(&source, &scene.theirs.pusher(), "main:theirs"));
    assert!(scene.server.refs(&theirs).ends_with(" refs/heads/theirs\n"));
    assert!(!scene.server.refs(&ours).contains("theirs"));

    refused(scene.push(&source, &scene.ours.puller(), "main:no"), "403");
    let (user, _) = scene.ours.pusher();
    refused(scene.push(&source, &(user, scene.theirs.pusher().1), "main:no"), "403");
    let url = scene.server.url(None, "mirror");
    refused(Ran::of(scene.git(&source).args(["ls-remote", &url])), "could not read Username");
    let listed = Ran::ok(
        scene.git(&source).args(["ls-remote", &scene.server.url(Some(&scene.ours.puller()), "mirror")]),
    );
    assert!(listed.ends_with("\trefs/heads/main\n") && !listed.contains("no"), "{listed}");
    let pushes = scene.server.pushes();
    assert_eq!(pushes.len(), 2, "{pushes:?}");
    let ended = scene.server.seen("end");
    let push = ended.iter().find(|line| line["path"] == "/v1/repos/mirror/git-receive-pack").expect("one");
    assert_eq!(push["account"], "210987654321");
    assert!(push["pack"].as_u64() > Some(1 << 10), "{push}");
    let command = push["commands"][0].as_str().expect("one");
    assert!(command.starts_with(&"0".repeat(40)) && command.ends_with(" refs/heads/main"), "{command}");
}

#[test]
fn a_signature_is_proven() {
    let scene = Scene::new();
    let source = scene.user.repository("source", 1 << 10);
    let ours = scene.server.create(&scene.ours, "mirror");
    let home = scene.user.home();
    let ran = scene.push(&source, &scene.ours.signer("mirror", &now(home, "now")), "main");
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let before = scene.server.refs(&ours);
    let time = now(home, "now");
    let (key, _) = scene.ours.signer("mirror", &time);
    for (what, user, password) in [
        ("of another path", &key, scene.ours.signer("other", &time).1),
        ("of another key", &key, scene.theirs.signer("mirror", &time).1),
        ("too old", &key, scene.ours.signer("mirror", &now(home, "now - 16 minutes")).1),
        ("from the future", &key, scene.ours.signer("mirror", &now(home, "now + 16 minutes")).1),
        ("an unknown key", &access_key("210987654321", 8), scene.ours.signer("mirror", &time).1),
        ("a token that the key has not", &format!("{key}%token"), scene.ours.signer("mirror", &time).1),
        ("no signature", &key, "secret/210987654321+7".to_owned()),
    ] {
        let ran = scene.push(&source, &(user.clone(), password), "main:no");
        assert!(ran.code != Some(0) && ran.stderr.contains("403"), "{what} {ran:?}");
    }
    assert_eq!(scene.server.refs(&ours), before);
}

/// What botocore's SigV4Auth makes of this key and path; and the digits of a key id of the account 609629065308 that was published.
/// In tests/long/git_clients the AWS CLI and git-remote-codecommit sign, and the server proves it.
#[test]
fn signatures_and_key_ids_are_made_as_others_make_them() {
    assert_eq!(&access_key("609629065308", 0)[4..11], "Y34FZKB");
    assert_eq!(
        signature("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "mirror", "20261130T101500"),
        "0f1ac44f2daa7c206365ee536bb4cf3a1340ab2a428db6a28e8daacba83243c5"
    );
}
