"""What an inspected tunnel costs, beside Squid's ssl_bump and HAProxy between two TLS connections.

tests/long/side_by_side runs it. The load comes from benches/load_inside.rs, which has both ends. All three proxies verify the same
target, show certificates of the same authority, made by `egressd ca new`, and use X25519. Squid is the one with OpenSSL: its package
cannot be installed beside squid, so it is unpacked into a folder. HAProxy has no CONNECT: its clients connect directly, and it has one
certificate, for the target's name. It stands here twice. In "bridge" it reads HTTP as egressd does, with a list of paths and methods, and
its log; in "bytes" it knows nothing of HTTP, has no list and no log, and only decrypts and encrypts.

A small request costs less than what surrounds it: each waits for the client's and for the target's thread to be woken, and waking a
thread on another CPU is an interrupt that costs the one who sends it. On a virtual machine that is up to 20 us for each of both,
by either side, and whether it is sent is the scheduler's choice: it changes from run to run. So these requests are measured with
everything on one CPU, where nobody sends any; and once more as the scheduler likes, in a row that no budget looks at.
"""

import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

NAME = "inside.bench.test"
PORT = 443

EGRESSD = f"""
listeners: [{{name: proxy, address: 127.0.0.1:13128}}]
admin: {{address: 127.0.0.1:19180}}
certificates: {{roots: target-ca.crt}}
inspection: {{certificate: ca/authority.crt, key: ca/authority.key}}
policies:
  - name: bench
    private: [127.0.0.0/8]
    allow: [{{to: "https://{NAME}", requests: [{{methods: [GET, POST], paths: [/small, "/bulk/**"]}}]}}]
dns: {{hosts: {{{NAME}: [127.0.0.1]}}}}
limits: {{tunnels: 9000, tunnels_per_client: 9000, requests_per_second_per_client: 1000000}}
"""

SQUID = """
http_port 127.0.0.1:13130 ssl-bump tls-cert={work}/ca/authority.crt tls-key={work}/ca/authority.key generate-host-certificates=on
sslcrtd_program {squid}/usr/lib/squid/security_file_certgen -s {work}/bump.run/db -M 4MB
sslcrtd_children 2 startup=1
tls_outgoing_options cafile={work}/target-ca.crt
hosts_file {work}/hosts
acl localnet src 127.0.0.0/8
acl SSL_ports port 443
acl whitelist dstdomain .bench.test
acl paths urlpath_regex ^/small$ ^/bulk/
acl methods method GET POST CONNECT
acl connects method CONNECT
acl step1 at_step SslBump1
ssl_bump peek step1
ssl_bump bump all
http_access deny CONNECT !SSL_ports
http_access deny !methods
http_access allow localnet whitelist connects
http_access allow localnet whitelist paths
http_access deny all
logformat deployment %{{%Y/%m/%d %H:%M:%S}}tl| %>a %Ss/%03>Hs %<st %rm %ru %[un %Sh/%<a %mt
acl hasRequest has request
access_log none !hasRequest
access_log stdio:{work}/bump.run/access.log deployment
cache deny all
cache_log {work}/bump.run/cache.log
pid_filename {work}/bump.run/squid.pid
coredump_dir {work}/bump.run
visible_hostname unknown
forwarded_for off
request_header_access User-Agent deny all
request_header_access Referer deny all
request_header_access X-Forwarded-For deny all
request_header_access Via deny all
request_header_access Cache-Control deny all
"""

HAPROXY = """
global
    maxconn 4000
    {log}
defaults
    mode {mode}
    {option}
    timeout connect 10s
    timeout client 1h
    timeout server 1h
listen tunnel
    bind 127.0.0.1:{port} ssl crt {work}/bridge.pem alpn http/1.1
    {rules}
    server target 127.0.0.1:{target} ssl verify required ca-file {work}/target-ca.crt sni str({name}) verifyhost {name} alpn http/1.1
"""

RULES = """acl paths path /small
    acl paths path_beg /bulk/
    acl methods method GET POST
    http-request deny unless paths methods
    http-reuse never
    log global"""


def download():
    """Where Debian's squid-openssl is, as a variable; nothing where it cannot be had. The proxies' network reaches no mirror."""
    if "SQUID_OPENSSL_DEB" in os.environ:
        return {"SQUID_OPENSSL_DEB": os.path.abspath(os.environ["SQUID_OPENSSL_DEB"])}
    folder = pathlib.Path(tempfile.mkdtemp(prefix="egressd-squid."))
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    subprocess.run(["apt-get", "download", "squid-openssl"], cwd=folder, check=False, **quiet)
    for package in folder.glob("squid-openssl_*.deb"):
        return {"SQUID_OPENSSL_DEB": str(package), "SQUID_OPENSSL_MADE": str(folder)}
    folder.rmdir()
    return {}


def unpack_squid(folder):
    """The folder with squid-openssl, or None."""
    if "SQUID_OPENSSL_DEB" not in os.environ:
        print("squid-openssl cannot be downloaded, so nothing is compared with it", file=sys.stderr)
        return None
    made = folder / "squid"
    made.mkdir()
    subprocess.run(["dpkg-deb", "-x", os.environ["SQUID_OPENSSL_DEB"], made], check=True)
    shutil.rmtree(os.environ.get("SQUID_OPENSSL_MADE", ""), ignore_errors=True)
    return made


def prepare(work, egressd, squid):
    """The authorities, the certificates and the configurations."""

    def openssl(*arguments):
        subprocess.run(["openssl", *arguments], check=True, capture_output=True, cwd=work)

    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    openssl("req", "-x509", *key, "-keyout", "target-ca.key", "-out", "target-ca.crt", "-subj", "/CN=target authority", "-days", "7")
    subprocess.run([egressd, "ca", "new", "--permit", NAME, "--out", work / "ca"], check=True, capture_output=True)
    (work / "leaf.ext").write_text(f"subjectAltName = DNS:{NAME}\nextendedKeyUsage = serverAuth\nbasicConstraints = critical,CA:FALSE\n")
    for name, certificate, signer in (("target", "target-ca.crt", "target-ca.key"), ("bridge", "ca/authority.crt", "ca/authority.key")):
        openssl("req", "-new", *key, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={NAME}")
        signed = ["-CA", certificate, "-CAkey", signer, "-CAcreateserial", "-days", "7", "-extfile", "leaf.ext"]
        openssl("x509", "-req", "-in", f"{name}.csr", "-out", f"{name}.crt", *signed)
    parts = ("bridge.crt", "ca/authority.crt", "bridge.key")
    (work / "bridge.pem").write_text("".join((work / part).read_text() for part in parts))
    (work / "hosts").write_text(f"127.0.0.1 {NAME}\n")
    (work / "egressd.yaml").write_text(EGRESSD)
    fixed = {"work": work, "target": PORT, "name": NAME}
    bridge = HAPROXY.format(
        **fixed, mode="http", port=13131, log="log stdout format raw local0", option="option httplog", rules=RULES
    )
    (work / "bridge.cfg").write_text(bridge)
    (work / "bytes.cfg").write_text(HAPROXY.format(**fixed, mode="tcp", port=13133, log="", option="", rules=""))
    if squid:
        (work / "bump.conf").write_text(SQUID.format(work=work, squid=squid))
        home = work / "bump.run"
        home.mkdir()
        subprocess.run([squid / "usr/lib/squid/security_file_certgen", "-c", "-s", home / "db", "-M", "4MB"], check=True, capture_output=True)
        for path in [home, *home.rglob("*")]:
            os.chown(path, 65531, 65531)
    for path in [work / "ca", *(work / "ca").iterdir(), *work.glob("*.key"), work / "bridge.pem"]:
        path.chmod(0o755 if path.is_dir() else 0o644)


def measure(make_proxy, bench, egressd, rounds, work, squid_name):
    """Runs everything, prints it, and returns how many budgets are missed. The caller stops what is left of the proxies."""
    squid = unpack_squid(work)
    prepare(work, egressd, squid)
    proxies = [
        make_proxy("bridge", 65530, 13131, ["haproxy", "-f", work / "bridge.cfg"]),
        make_proxy("bytes", 65533, 13133, ["haproxy", "-f", work / "bytes.cfg"]),
        make_proxy("egressd", 65532, 13128, [egressd, "run", "-c", work / "egressd.yaml"]),
    ]
    if squid:
        command = [squid / "usr/sbin/squid", "-N", "-n", squid_name, "-f", work / "bump.conf"]
        proxies.insert(0, make_proxy("bump", 65531, 13130, command))
    both = ["--name", NAME, "--root", work / "ca/root.crt", "--certificate", work / "target.crt", "--key", work / "target.key"]
    contenders = {
        proxy.name: (proxy, ["--proxy", f"127.0.0.1:{proxy.port}", *both] + ["--direct"] * (proxy.name in ("bridge", "bytes")))
        for proxy in proxies
    }
    names = list(contenders)

    # Memory is measured in new processes: free memory that earlier load has left would hide the cost of a tunnel.
    for number in range(rounds):
        print(f"memory, round {number + 1} of {rounds}", file=sys.stderr)
        for name, (proxy, how) in contenders.items():
            proxy.start(work)
            bench.figures.setdefault(("rest", name), {}).setdefault("kib", []).append(proxy.resident())
            bench.run("idle", name, proxy, how, "idle", "--count", "400")
            proxy.stop()

    everywhere = os.sched_getaffinity(0)
    one = {min(everywhere)}
    works = [
        ("handshakes", ["handshakes", "--count", "500"], everywhere),
        ("requests", ["requests", "--count", "10000"], one),
        ("requests, several CPUs", ["requests", "--count", "10000"], everywhere),
        ("up", ["bulk", "--mib", "1024"], everywhere),
        ("down", ["bulk", "--mib", "1024", "--down"], everywhere),
    ]
    for proxy in proxies:
        proxy.start(work)
    for number in range(rounds):
        print(f"work, round {number + 1} of {rounds}", file=sys.stderr)
        for title, arguments, cpus in works:
            # A different contender begins each time.
            turn = number % len(names)
            for name in names[turn:] + names[:turn]:
                # Debian's Squid 5.7 was seen to break off large uploads, and no budget compares with it.
                if arguments[0] == "bulk" and name == "bump":
                    continue
                proxy, how = contenders[name]
                bench.run(title, name, proxy, how, *arguments, cpus=cpus)
    return report(bench, rounds, names)


def report(bench, rounds, names):
    rows = [
        ("CPU of a new tunnel and a request, us", "handshakes", "cpu_us", 0),
        ("CPU of a request on a kept one, us", "requests", "cpu_us", 1),
        ("the same on several CPUs, us", "requests, several CPUs", "cpu_us", 1),
        ("CPU of 1 GiB up, s", "up", "cpu_s_per_gib", 3),
        ("CPU of 1 GiB down, s", "down", "cpu_s_per_gib", 3),
        ("an idle tunnel, KiB", "idle", "kib", 1),
        ("an idle tunnel, descriptors", "idle", "descriptors", 2),
        ("resident at rest, KiB", "rest", "kib", 0),
    ]
    print(f"{f'inspected, medians of {rounds}':40}" + "".join(f"{name:>12}" for name in names) + "   egressd from-to")
    for title, work, field, digits in rows:
        cells = [
            f"{bench.median(work, name, field):.{digits}f}" if (work, name) in bench.figures else "" for name in names
        ]
        print(f"{title:40}" + "".join(f"{cell:>12}" for cell in cells) + f"   {bench.spread(work, 'egressd', field)}")
    print()
    missed = 0

    def judge(what, figure, budget, unit=""):
        nonlocal missed
        missed += figure > budget
        print(f"{'PASS' if figure <= budget else 'MISS'}  {what:62} {figure:9.2f} of at most {budget:g}{unit}")

    def beside(what, work, field, budgets):
        for other, of, budget in budgets:
            if other in names:
                judge(f"{what}, to {of}", bench.ratio(work, field, "egressd", other), budget)

    bump, bridge = ("bump", "Squid's bump"), ("bridge", "HAProxy's bridge")
    beside("CPU of a new tunnel and a request", "handshakes", "cpu_us", [(*bump, 0.22), (*bridge, 0.90)])
    beside("CPU of a request on a kept one", "requests", "cpu_us", [(*bump, 0.40), (*bridge, 1.0)])
    for way in ("up", "down"):
        beside(f"CPU of 1 GiB {way}", way, "cpu_s_per_gib", [(*bridge, 0.80)])
    judge("an idle inspected tunnel, memory", bench.median("idle", "egressd", "kib"), 40, " KiB")
    judge("an idle inspected tunnel, descriptors", bench.median("idle", "egressd", "descriptors"), 2)
    print()
    print(f"{missed} budgets missed" if missed else "every budget is kept")
    return missed
