use super::*;
use crate::words::git::{ObjectFormat, ObjectId, RefName};

fn repository(path: &str) -> Repository {
    Repository::new(path, true).unwrap()
}

fn change(kind: Change, name: &str) -> RefChange {
    let id = |digit: &str| ObjectId::read(digit.repeat(40).as_bytes(), ObjectFormat::Sha1).unwrap();
    let (old, new) = match kind {
        Change::Create => ("0", "2"),
        Change::Update => ("1", "2"),
        Change::Delete => ("1", "0"),
    };
    RefChange::new(RefName::new(name.as_bytes()).unwrap(), id(old), id(new)).unwrap()
}

fn rule(operations: &[Operation], repositories: &[&str], refs: &[&str]) -> GitRule {
    let mut rule = GitRule::new(operations);
    rule.repositories = (!repositories.is_empty())
        .then(|| repositories.iter().map(|text| RepositoryPattern::parse(text).unwrap()).collect());
    rule.refs =
        (!refs.is_empty()).then(|| refs.iter().map(|text| RefPattern::parse(text).unwrap()).collect());
    rule
}

#[test]
fn a_pattern_of_repositories_knows_no_suffix() {
    let rows = [
        ("/v1/repos/x", "/v1/repos/x", true),
        ("/v1/repos/x", "/v1/repos/x.git", true),
        ("/v1/repos/x.git", "/v1/repos/x", true),
        ("/v1/repos/x.git/", "/v1/repos/x.git", true),
        ("/v1/repos/x/", "/v1/repos/x", true),
        ("/v1/repos/x", "/v1/repos/x.git.git", false),
        ("/v1/repos/x", "/v1/repos/X", false),
        ("/v1/repos/x", "/v1/repos/xy", false),
        ("/v1/repos/x", "/v1/repos/x/y", false),
        ("/v1/repos/infra-*", "/v1/repos/infra-a.git", true),
        ("/v1/repos/infra-*", "/v1/repos/infra-", false),
        ("/v1/repos/infra-*.git", "/v1/repos/infra-a", true),
        ("/group/*", "/group/a/b", false),
        ("/group/**", "/group/a/b.git", true),
        ("/group/**", "/group", false),
        ("/group/**", "/grouped/a", false),
        ("/a%c3%a9", "/a%C3%A9", true),
        ("/a%20bc", "/a%20bc", true),
    ];
    for (pattern, path, want) in rows {
        assert_eq!(
            RepositoryPattern::parse(pattern).unwrap().matches(&repository(path)),
            want,
            "{pattern} {path}"
        );
    }
    for bad in ["x", "", "/a//b", "/a/../b", "/a?b", "/**/a", "/%61"] {
        assert!(RepositoryPattern::parse(bad).is_err(), "{bad}");
    }
}

#[test]
fn a_pattern_of_refs_is_a_ref() {
    let rows = [
        ("refs/heads/main", "refs/heads/main", true),
        ("refs/heads/main", "refs/heads/main2", false),
        ("refs/heads/main", "refs/heads/main/x", false),
        ("refs/heads/main", "refs/heads/Main", false),
        ("refs/heads/*", "refs/heads/a", true),
        ("refs/heads/*", "refs/heads/a/b", false),
        ("refs/heads/release-*", "refs/heads/release-1", true),
        ("refs/heads/release-*", "refs/heads/release-", false),
        ("refs/heads/*-x-*", "refs/heads/a-x-b", true),
        ("refs/heads/*-x-*", "refs/heads/-x-b", false),
        ("refs/heads/*-x-*", "refs/heads/a-x-x-", true),
        ("refs/heads/*a*a", "refs/heads/1a2a", true),
        ("refs/heads/*a*a", "refs/heads/aaaa", true),
        ("refs/heads/*a*a", "refs/heads/aaa", false),
        ("refs/heads/*本", "refs/heads/日本", true),
        ("refs/heads/*", "refs/heads/日", true),
        ("refs/tags/**", "refs/tags/a", true),
        ("refs/tags/**", "refs/tags/a/b", true),
        ("refs/tags/**", "refs/tagged/a", false),
        ("refs/**", "refs/heads/a", true),
        ("refs/*/main", "refs/heads/main", true),
        ("refs/*/main", "refs/heads/x/main", false),
        ("refs/*/x/**", "refs/heads/x/y", true),
        ("refs/*/x/**", "refs/heads/x", false),
    ];
    for (pattern, name, want) in rows {
        let name = RefName::new(name.as_bytes()).unwrap();
        assert_eq!(RefPattern::parse(pattern).unwrap().matches(&name), want, "{pattern} {name}");
    }
    let wrong = [
        (
            "main",
            "no ref has a name that does not begin with `refs/`; write `refs/heads/main` for a branch, `refs/tags/main` for a tag",
        ),
        (
            "HEAD",
            "no ref has a name that does not begin with `refs/`; HEAD is no ref of a push: write the branch that it stands for",
        ),
        ("**", "every ref is written `refs/**`, every branch `refs/heads/**`; without `refs` any may change"),
        ("*", "every ref is written `refs/**`, every branch `refs/heads/**`; without `refs` any may change"),
        (
            "refs/**/x",
            "`**` stands alone at the end, as in `refs/tags/**`; within a name write `*`, which is for one part",
        ),
        (
            "refs/heads/a**",
            "`**` stands alone at the end, as in `refs/tags/**`; within a name write `*`, which is for one part",
        ),
        ("refs/heads/", "no ref has a `/` too many"),
        ("refs/heads/*.lock", "no ref has a part that ends with `.lock`"),
        ("refs/heads/a b", "no ref has a space or a control character"),
        ("refs/heads/a?", "no ref has one of the characters `~^:?*[\\`"),
        ("+refs/heads/a", "no ref has a name that does not begin with `refs/`"),
    ];
    for (text, want) in wrong {
        assert_eq!(
            RefPattern::parse(text).map_err(|error| error.to_string()),
            Err(want.to_owned()),
            "{text}"
        );
    }
}

#[test]
fn an_operation_must_be_allowed_for_the_repository() {
    use GitMisfit::{Operation as O, Repository as R};
    use Operation::{Fetch, List, Push};
    let list = rule(&[List], &["/x"], &[]);
    let fetch = rule(&[Fetch], &["/x"], &[]);
    let push = rule(&[Push], &["/x"], &[]);
    let rows = [
        (Asks::Discovery(Service::UploadPack), [Ok(()), Ok(()), Ok(())]),
        (Asks::Discovery(Service::UploadArchive), [Ok(()), Ok(()), Ok(())]),
        (Asks::Discovery(Service::ReceivePack), [Err(O), Err(O), Ok(())]),
        // The body says whether it lists or fetches.
        (Asks::Rpc(Service::UploadPack), [Ok(()), Ok(()), Ok(())]),
        (Asks::Rpc(Service::ReceivePack), [Err(O), Err(O), Ok(())]),
        (Asks::Rpc(Service::UploadArchive), [Err(O), Ok(()), Err(O)]),
        (Asks::Lfs(Lfs::Batch), [Err(O), Ok(()), Ok(())]),
        (Asks::Lfs(Lfs::Download), [Err(O), Ok(()), Err(O)]),
        (Asks::Lfs(Lfs::Upload), [Err(O), Err(O), Ok(())]),
        (Asks::Lfs(Lfs::Locks), [Err(O), Err(O), Ok(())]),
    ];
    for (asks, want) in rows {
        let told = [&list, &fetch, &push].map(|rule| {
            let other = rule.may(&GitRequest { repository: repository("/y"), asks });
            assert_eq!(other.map_err(|objection| objection.misfit), Err(R), "{asks:?}");
            let told = rule.may(&GitRequest { repository: repository("/x.git"), asks });
            told.map_err(|objection| objection.misfit)
        });
        assert_eq!(told, want, "{asks:?}");
    }
    let x = repository("/x");
    let told = |rule: &GitRule, operation| rule.may_do(&x, operation).map_err(|objection| objection.text);
    let text = |word: &str| Err(format!("{word} is not allowed for `/x`: write `{word}` under `git`"));
    assert_eq!(
        [told(&list, List), told(&list, Fetch), told(&list, Push)],
        [Ok(()), text("fetch"), text("push")]
    );
    assert_eq!([told(&fetch, List), told(&fetch, Fetch), told(&fetch, Push)], [Ok(()), Ok(()), text("push")]);
    assert_eq!([told(&push, List), told(&push, Fetch), told(&push, Push)], [Ok(()), text("fetch"), Ok(())]);
    assert!(told(&rule(&[], &[], &[]), List).is_err(), "nothing is allowed by nothing");
    assert!(fetch.fixes_reads() && list.fixes_reads() && !push.fixes_reads());
}

#[test]
fn each_change_of_a_push_must_fit() {
    use Change::{Create, Delete, Update};
    let rule = rule(&[Operation::Push], &[], &["refs/heads/main", "refs/tags/**"]);
    let (main, tag, other) =
        (change(Update, "refs/heads/main"), change(Create, "refs/tags/v1"), change(Create, "refs/heads/x"));
    let gone = change(Delete, "refs/tags/v0");
    assert_eq!(rule.may_push([&main, &tag]), Ok(()));
    assert_eq!(rule.may_push([]), Ok(()));
    for order in [[&main, &other, &tag], [&other, &tag, &main], [&tag, &main, &other]] {
        let objection = rule.may_push(order).unwrap_err();
        let text = "create of `refs/heads/x` is not allowed: write the ref under `refs`";
        assert_eq!((objection.misfit.reason(), objection.text.as_str()), (Reason::RefNotAllowed, text));
    }
    let objection = rule.may_push([&main, &gone]).unwrap_err();
    let text = "delete of `refs/tags/v0` is not allowed: write `delete` under `ref_changes`";
    assert_eq!((objection.misfit, objection.text.as_str()), (GitMisfit::Change, text));
    let all = GitRule { changes: Change::ALL.into(), ..rule.clone() };
    assert_eq!(all.may_push([&main, &gone]), Ok(()));
    let create = GitRule { changes: [Create].into(), ..rule };
    assert_eq!(create.may_push([&tag]), Ok(()));
    assert_eq!(create.may_push([&tag, &main]).unwrap_err().misfit, GitMisfit::Change);
    assert!(GitRule::new(&[Operation::Push]).may_push([&main, &other]).is_ok());
}

#[test]
fn large_files_are_uploaded_only_where_every_branch_may_change() {
    let asking = |lfs, content| GitAsk {
        request: GitRequest { repository: repository("/own"), asks: Asks::Lfs(lfs) },
        content,
    };
    let uploads = [asking(Lfs::Batch, Content::Does(Operation::Push)), asking(Lfs::Upload, Content::Unread)];
    let harmless = [
        asking(Lfs::Batch, Content::Does(Operation::Fetch)),
        asking(Lfs::Download, Content::Unread),
        asking(Lfs::Locks, Content::Unread),
        // What it does is in its body.
        asking(Lfs::Batch, Content::Unread),
    ];
    let both = [Operation::Fetch, Operation::Push];
    for (refs, changes, want) in [
        (&[][..], &Change::ALL[..], Ok(())),
        (&["refs/heads/**", "refs/tags/**"], &[Change::Create, Change::Update], Ok(())),
        (&["refs/**"], &[Change::Update], Ok(())),
        (&["refs/heads/main"], &Change::ALL, Err(GitMisfit::Ref)),
        (&["refs/heads/*"], &Change::ALL, Err(GitMisfit::Ref)),
        (&["refs/tags/**"], &Change::ALL, Err(GitMisfit::Ref)),
        (&["refs/heads/release/**"], &Change::ALL, Err(GitMisfit::Ref)),
        (&["refs/heads/**"], &[Change::Delete], Err(GitMisfit::Change)),
    ] {
        let rule = GitRule { changes: changes.into(), ..rule(&both, &["/own"], refs) };
        for ask in &uploads {
            let told = rule.fits(ask).map_err(|objection| objection.misfit);
            assert_eq!(told, want, "{refs:?} {changes:?} {ask:?}");
        }
        for ask in &harmless {
            assert_eq!(rule.fits(ask), Ok(()), "{refs:?} {ask:?}");
        }
    }
    for ask in &uploads {
        let told = rule(&[Operation::Fetch], &[], &[]).fits(ask).map_err(|objection| objection.misfit);
        assert_eq!(told, Err(GitMisfit::Operation));
        let told = rule(&both, &["/other"], &[]).fits(ask).map_err(|objection| objection.misfit);
        assert_eq!(told, Err(GitMisfit::Repository));
    }
}
