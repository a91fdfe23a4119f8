use super::*;
use crate::words::git::Operation;

const OID: &str = "4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393";

fn told(line: &str) -> Result<(String, Asks, Option<Operation>), NotGit> {
    let (method, target) = line.split_once(' ').unwrap();
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    };
    let request = classify(method, path, query, true)?;
    Ok((request.repository.to_string(), request.asks, request.operation()))
}

#[test]
fn what_gits_client_writes_is_told_apart() {
    let rows = [
        (
            "GET /a/x/info/refs?service=git-upload-pack",
            "/a/x",
            Asks::Discovery(Service::UploadPack),
            Some(Operation::List),
        ),
        (
            "GET /a/x.git/info/refs?service=git-receive-pack",
            "/a/x",
            Asks::Discovery(Service::ReceivePack),
            Some(Operation::Push),
        ),
        (
            "GET /x/info/refs?service=git-upload-archive",
            "/x",
            Asks::Discovery(Service::UploadArchive),
            Some(Operation::List),
        ),
        ("POST /x/git-upload-pack", "/x", Asks::Rpc(Service::UploadPack), None),
        ("POST /x.git/git-receive-pack", "/x", Asks::Rpc(Service::ReceivePack), Some(Operation::Push)),
        ("POST /x/git-upload-archive", "/x", Asks::Rpc(Service::UploadArchive), Some(Operation::Fetch)),
        // As git's server does, the end of the path decides.
        (
            "POST /x/git-upload-pack/git-receive-pack",
            "/x/git-upload-pack",
            Asks::Rpc(Service::ReceivePack),
            Some(Operation::Push),
        ),
        ("POST /x/info/refs/git-upload-pack", "/x/info/refs", Asks::Rpc(Service::UploadPack), None),
        ("POST /x.git/info/lfs/objects/batch", "/x", Asks::Lfs(Lfs::Batch), None),
        (
            "GET /x.git/info/lfs/locks?path=a%20b&limit=100",
            "/x",
            Asks::Lfs(Lfs::Locks),
            Some(Operation::Push),
        ),
        ("POST /x.git/info/lfs/locks", "/x", Asks::Lfs(Lfs::Locks), Some(Operation::Push)),
        ("POST /x.git/info/lfs/locks/verify", "/x", Asks::Lfs(Lfs::Locks), Some(Operation::Push)),
        ("POST /x.git/info/lfs/locks/12-ab/unlock", "/x", Asks::Lfs(Lfs::Locks), Some(Operation::Push)),
        ("POST /x.git/info/lfs/verify", "/x", Asks::Lfs(Lfs::Upload), Some(Operation::Push)),
    ];
    for (line, repository, asks, operation) in rows {
        assert_eq!(told(line), Ok((repository.to_owned(), asks, operation)), "{line}");
    }
    for (method, lfs, operation) in
        [("GET", Lfs::Download, Operation::Fetch), ("PUT", Lfs::Upload, Operation::Push)]
    {
        for path in ["info/lfs/objects", "gitlab-lfs/objects"] {
            for end in ["", "/123"] {
                let line = format!("{method} /x.git/{path}/{OID}{end}");
                assert_eq!(told(&line), Ok(("/x".to_owned(), Asks::Lfs(lfs), Some(operation))), "{line}");
            }
        }
    }
}

#[test]
fn what_gits_server_would_also_understand_is_refused() {
    let empty = || NotGit::Repository(RepositoryError("a path with a name that is empty"));
    let needless = || NotGit::Repository(RepositoryError("a path that encodes a character which needs none"));
    let rows = [
        ("GET /x/info/refs", NotGit::Dumb),
        ("GET /x/info/refs?", NotGit::Query),
        ("GET /x/info/refs?service=git-receive%2dpack", NotGit::Query),
        ("GET /x/info/refs?s%65rvice=git-upload-pack", NotGit::Query),
        ("GET /x/info/refs?x=1&service=git-upload-pack", NotGit::Query),
        ("GET /x/info/refs?service=git-upload-pack&service=git-receive-pack", NotGit::Query),
        ("GET /x/info/refs?service=git-upload-pack&", NotGit::Query),
        ("GET /x/info/refs?service=git-upload-pack?", NotGit::Query),
        ("GET /x/info/refs?service=git-upload-pack#", NotGit::Query),
        ("GET /x/info/refs?Service=git-upload-pack", NotGit::Query),
        ("GET /x/info/refs?service=upload-pack", NotGit::Query),
        ("GET /x/info/refs?service=", NotGit::Query),
        ("HEAD /x/info/refs?service=git-upload-pack", NotGit::Method),
        ("POST /x/info/refs?service=git-upload-pack", NotGit::Method),
        ("get /x/info/refs?service=git-upload-pack", NotGit::Method),
        ("GET /x/git-upload-pack", NotGit::Method),
        ("PUT /x/git-receive-pack", NotGit::Method),
        ("POST /x/git-receive-pack?", NotGit::Query),
        ("POST /x/git-receive-pack?service=git-upload-pack", NotGit::Query),
        ("POST /x/git-receive%2Dpack", NotGit::Other),
        ("POST /x/%67it-receive-pack", NotGit::Other),
        ("POST /x/git-receive-pack/", NotGit::Other),
        ("POST /x/Git-Receive-Pack", NotGit::Other),
        ("POST /xgit-receive-pack", NotGit::Other),
        ("POST //git-receive-pack", empty()),
        (
            "POST /git-receive-pack",
            NotGit::Repository(RepositoryError("a path that does not begin with `/`")),
        ),
        ("POST /x//git-receive-pack", empty()),
        ("GET /x//info/refs?service=git-upload-pack", empty()),
        ("POST /x%2Egit/git-receive-pack", needless()),
        ("POST /%78/git-receive-pack", needless()),
        ("POST /a/../x/git-receive-pack", NotGit::Repository(RepositoryError("a path with a dot segment"))),
        ("GET /x/HEAD", NotGit::Dumb),
        ("GET /x/objects/info/packs", NotGit::Dumb),
        ("GET /x/objects/pack/pack-1.pack", NotGit::Dumb),
        ("PROPFIND /x/info/refs", NotGit::WebDav),
        ("MKCOL /x/objects/ab/", NotGit::WebDav),
        ("MOVE /x/objects/ab/cd", NotGit::WebDav),
        ("LOCK /x/info/refs", NotGit::WebDav),
        ("PUT /x/objects/ab/cd", NotGit::Dumb),
        ("PUT /x/refs/heads/main", NotGit::Other),
        ("GET /x/info/lfs/objects/batch", NotGit::Method),
        ("POST /x/info/lfs/objects/batch?x", NotGit::Query),
        ("POST /x/info/lfs/objects/batch/", NotGit::Other),
        ("DELETE /x/info/lfs/locks/1", NotGit::WebDav),
        ("POST /x/info/lfs/locks/../objects/batch/unlock", NotGit::Other),
        (
            "POST /x/info/lfs/locks/git-upload-pack",
            NotGit::Repository(RepositoryError("a repository below `/info/lfs`")),
        ),
        (
            "POST /x/info/lfs/git-upload-pack",
            NotGit::Repository(RepositoryError("a repository below `/info/lfs`")),
        ),
        (
            "POST /x/info/lfs/info/lfs/objects/batch",
            NotGit::Repository(RepositoryError("a repository below `/info/lfs`")),
        ),
        ("PUT /x/info/lfs/objects/abc", NotGit::Other),
        ("GET /", NotGit::Other),
        ("GET /x", NotGit::Other),
    ];
    for (line, want) in rows {
        assert_eq!(told(line), Err(want), "{line}");
    }
}

#[test]
fn on_codecommit_a_name_has_no_suffix() {
    let path = "/v1/repos/x.git/git-receive-pack";
    let at = |host| classify_for(host, "POST", path, None).map(|request| request.repository.to_string());
    assert_eq!(at("git.example").as_deref(), Ok("/v1/repos/x"));
    assert_eq!(at("git-codecommit.us-east-1.amazonaws.com").as_deref(), Ok("/v1/repos/x.git"));
    let name = |name: &str| {
        let path = format!("/v1/repos/{name}/git-upload-pack");
        classify_for("git-codecommit.us-east-1.amazonaws.com", "POST", &path, None).is_ok()
    };
    assert!(name("a-B_1.c") && name(&"a".repeat(100)));
    for free in ["a".repeat(101), "%E7%A7%98".to_owned(), "a:b@c=!$".to_owned(), "a/b".to_owned()] {
        assert!(!name(&free), "{free}");
    }
    // git-lfs appends it.
    let lfs = classify_for(
        "git-codecommit.us-east-1.amazonaws.com",
        "POST",
        "/v1/repos/x.git/info/lfs/objects/batch",
        None,
    );
    assert_eq!(lfs.map(|request| request.repository.to_string()).as_deref(), Ok("/v1/repos/x"));
}
