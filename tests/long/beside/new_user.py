"""A new user: follows README.md, docs/install.md and docs/gitlab.md word for word on an empty Debian, until a mirror pushes.

    new_user.py VERSION        its own folder has the pages, codecommit.py and over_tls.py; the package, the binary, and config of a checkout

Every command, every file and every name is read from the pages, and what a command prints must be what the page shows. Where a page
leaves a word to its reader (VERSION, EGRESSD, USER, REPO), that word alone is replaced. tests/long/vm runs this as root, on a machine of its own
without a network. Afterwards it does what docs/install.md says of sockets, of low ports and of doing without a package. What the pages take for granted is made of network namespaces: the machine of GitLab, which can reach this one alone; and
the world with CodeCommit, at a public address that exists there alone.
"""

import json
import os
import pathlib
import re
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
VERSION = sys.argv[1]
# As the pages have them: a network of GitLab's, and in it GitLab's own machine and this one.
MACHINE, GITLAB = "10.20.0.4", "10.20.0.9"
# An address of AWS; this machine has no route to the real one.
GATEWAY, CODECOMMIT = "52.119.186.1", "52.119.186.57"
ACCOUNT, USER, PASSWORD, REPO = "111122223333", "mirror-at-111122223333", "correct-horse/battery=", "MyDemoRepo"
BEGUN = time.monotonic()


def fail(text):
    raise SystemExit(f"new_user: {text}")


def told(text):
    print(f"a new user, after {time.monotonic() - BEGUN:.1f} s: {text}", flush=True)


def run(command, expected=0, **more):
    """What a command prints, on both channels as a terminal shows it."""
    ran = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **more)
    if ran.returncode != expected:
        fail(f"{command}: status {ran.returncode}, not {expected}:\n{ran.stdout}")
    return ran.stdout


def page(name):
    return (HERE / name).read_text(encoding="utf-8")


def section(text, heading):
    """What stands below a heading, to the next one."""
    found = re.search(rf"^#+ {re.escape(heading)}$\n(.*?)(?=^#+ |\Z)", text, re.M | re.S)
    return found[1] if found else fail(f"there is no section {heading!r}")


def blocks(text):
    return re.findall(r"^```(\w+)\n(.*?)^```$", text, re.M | re.S)


def steps(console):
    """The commands of a console, each with what the page shows that it prints."""
    found = []
    for line in console.splitlines():
        if line.startswith("$ "):
            command, _, remark = line[2:].partition("   #")
            found.append((command.strip(), remark.strip(), []))
        else:
            found[-1][2].append(line)
    return found


# --- what the pages take for granted --------------------------------------------------------------------------------------

def append(file, text):
    with open(file, "a", encoding="utf-8") as opened:
        opened.write(text)


def networks(host):
    for name, here, there in (("gitlab", MACHINE, GITLAB), ("world", GATEWAY, CODECOMMIT)):
        run(["ip", "netns", "add", name])
        run(["ip", "link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", name])
        run(["ip", "address", "add", f"{here}/24", "dev", name])
        run(["ip", "link", "set", name, "up"])
        for command in (["address", "add", f"{there}/24", "dev", "eth0"], ["link", "set", "eth0", "up"], ["link", "set", "lo", "up"]):
            run(["ip", "-n", name, *command])
    append("/etc/hosts", f"127.0.1.1 {os.uname().nodename}\n{CODECOMMIT} {host}\n")
    # GitLab's machine knows its own name and egressd's, and cannot look up any other.
    names = pathlib.Path("/etc/netns/gitlab")
    names.mkdir(parents=True)
    (names / "hosts").write_text(f"127.0.0.1 localhost\n{MACHINE} egressd.example.internal\n")
    (names / "resolv.conf").write_text("")


def codecommit(host):
    """The world: an authority that everybody trusts, and a Git server with its certificate."""
    place = pathlib.Path("/srv/codecommit")
    repository = place / ACCOUNT / REPO
    run(["git", "init", "--quiet", "--bare", str(repository)])
    run(["git", "-C", str(repository), "config", "http.receivepack", "true"])
    make = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    root, key = "/usr/local/share/ca-certificates/world.crt", str(place / "root.key")
    run([*make, "-subj", "/CN=An authority of the world", "-keyout", key, "-out", root])
    run([*make, "-subj", f"/CN={host}", "-addext", f"subjectAltName=DNS:{host}", "-addext", "basicConstraints=CA:FALSE", "-CA", root, "-CAkey", key,
         "-keyout", str(place / "key.pem"), "-out", str(place / "chain.pem")])  # fmt: skip
    run(["update-ca-certificates"])
    users = {USER: {"password": PASSWORD, "may": ["GitPull", "GitPush"]}}
    (place / "settings.json").write_text(json.dumps({
        "address": CODECOMMIT, "port": 443, "certificate": str(place / "chain.pem"), "key": str(place / "key.pem"), "place": str(place),
        "accounts": {ACCOUNT: {"users": users, "keys": {}}}, "hosts": [host],
    }))  # fmt: skip
    run(["systemd-run", "--quiet", "--unit", "codecommit", "ip", "netns", "exec", "world", "python3", str(HERE / "codecommit.py"), str(place / "settings.json")])
    for _ in range(300):
        if (place / "port").exists():
            return repository
        time.sleep(0.1)
    fail(f"waited 30 s for the Git server: {run(['journalctl', '--no-pager', '--unit', 'codecommit'])}")


# --- who follows the pages ------------------------------------------------------------------------------------------------

def as_admin(command):
    """A user who may use sudo, in the folder with the package."""
    return run(["runuser", "-u", "admin", "--", "bash", "-c", command], cwd="/home/admin")


def on_gitlab(command, expected=0):
    return run(["ip", "netns", "exec", "gitlab", "bash", "-c", command], expected, env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"})


def shown(command, remark, lines, said):
    """Is what a command said what the page shows, or what its remark promises?"""
    if remark.startswith("says nothing"):
        lines = []
    status = re.search(r'Status: "(configuration [0-9a-f]{12} is in force)"', remark)
    if status:
        if status[1] not in said:
            fail(f"{command}: the page says {status[1]!r}:\n{said}")
    elif "\n".join(lines) != said.rstrip("\n"):
        fail(f"{command}: the page shows {lines}:\n{said}")


def installs(deb):
    run(["useradd", "--create-home", "admin"])
    pathlib.Path("/etc/sudoers.d/admin").write_text("admin ALL=(ALL) NOPASSWD: ALL\n")
    run(["cp", "--recursive", str(deb), *map(str, HERE.glob("egressd-*-linux-*")), str(HERE / "config"), "/home/admin"])
    packaged, written, started, asked = blocks(section(page("install.md"), "Debian and Ubuntu"))
    if [language for language, _ in (packaged, written, started, asked)] != ["sh", "yaml", "console", "console"]:
        fail("docs/install.md has other blocks than it had")

    for command in packaged[1].replace("VERSION", VERSION).splitlines():
        said = as_admin(command)
    if "active (running)" not in said:
        fail(f"it does not run:\n{said}")
    told("the package is installed, and egressd runs")

    pathlib.Path("/etc/egressd/egressd.yaml").write_text(written[1], encoding="utf-8")
    for command, remark, lines in steps(started[1]):
        shown(command, remark, lines, as_admin(command))
    told("the list is written and in force")
    for command, remark, lines in steps(asked[1]):
        shown(command, remark, lines, on_gitlab(command.replace("EGRESSD", MACHINE), 56 if "403" in lines else 0))
    told("one request passes, and another is refused")


def variables(text, name):
    """What Ruby makes of a hash with this name."""
    hashed = re.search(rf"^{re.escape(name)} = \{{$\n(.*?)^\}}$", text, re.M | re.S)
    found = dict(re.findall(r"""["'](\w+)["'] => ["'](.*?)["']""", hashed[1])) if hashed else {}
    return found or fail(f"no {name} in:\n{text}")


def push(repository, url, gitaly, mirrored):
    """As Gitaly does: git with these variables and no others, and the credentials in a field."""
    environment = " ".join(f"{name}='{value}'" for name, value in gitaly.items())
    field = f"Authorization: Basic $(printf %s '{USER}:{PASSWORD}' | base64 -w0)"
    on_gitlab(f"cd {repository} && env -i PATH=\"$PATH\" {environment} git -c http.extraHeader=\"{field}\" push --quiet --mirror {url}")
    refs = ["for-each-ref", "--format=%(refname) %(objectname)"]
    ours, theirs = (run(["git", "-c", "safe.directory=*", "-C", str(place), *refs]) for place in (repository, mirrored))
    if not ours or ours != theirs:
        fail(f"the mirror has other refs:\n{theirs}\nand not\n{ours}")


def commits(repository, subject):
    who = ["-c", "user.name=A", "-c", "user.email=a@example.com"]
    run(["git", "-C", str(repository), *who, "commit", "--quiet", "--allow-empty", "--message", subject])


def mirrors(mirrored):
    gitlab = page("gitlab.md")
    url = re.search(r"`(https://USER@\S+/REPO)`", section(gitlab, "The mirror"))[1].replace("USER@", "").replace("REPO", REPO)
    repository = pathlib.Path("/srv/gitlab")
    run(["git", "init", "--quiet", "--initial-branch=main", str(repository)])
    commits(repository, "the first")
    run(["git", "-C", str(repository), "tag", "v1"])

    on_gitlab(f"git -c http.lowSpeedTime=5 ls-remote {url} 2>/dev/null", 128)  # no way out but egressd
    command = next(text for language, text in blocks(gitlab) if language == "console" and "--for gitlab-rb" in text)
    printed = as_admin(steps(command)[0][0])
    if printed.strip() != blocks(gitlab)[1][1].strip():
        fail(f"docs/gitlab.md does not show what `egressd env` prints:\n{printed}")
    push(repository, url, variables(printed, "egressd"), mirrored)
    told("the mirror works, with the variables that `egressd env` prints")

    commits(repository, "the second")
    push(repository, url, variables(page("README.md"), "gitaly['env']"), mirrored)
    told("and with those that README.md shows")
    for command in section(gitlab, "Try it").split("```sh\n")[1].split("```")[0].splitlines():
        refused = "google" in command
        said = on_gitlab(command, 56 if refused else 0)
        if ("403" if refused else "200") not in said.split():
            fail(f"{command}:\n{said}")


def is_recorded():
    # A record is written when its tunnel has ended, which may be after git.
    for _ in range(100):
        with open("/var/log/egressd/access.log", encoding="utf-8") as lines:
            records = [json.loads(line) for line in lines]
        pushes = [r for r in records if r["event"] == "close" and (r["user_agent"] or "").startswith("git/")]
        if len(pushes) >= 2:
            break
        time.sleep(0.1)
    if len(pushes) < 2 or any((r["client"].split(":")[0], r["upstream"]) != (GITLAB, f"{CODECOMMIT}:443") for r in pushes):
        fail(f"the log has other records: {records}")
    told(f"{len(pushes)} tunnels of git are in the log, with both their ends")


# --- what the page says of the rest ---------------------------------------------------------------------------------------

def edit(unit, settings):
    """`systemctl edit`, without an editor."""
    folder = pathlib.Path("/etc/systemd/system", f"{unit}.d")
    folder.mkdir(exist_ok=True)
    (folder / "override.conf").write_text(settings, encoding="utf-8")
    run(["systemctl", "daemon-reload"])


def listens_elsewhere(before, after):
    file = pathlib.Path("/etc/egressd/egressd.yaml")
    text = file.read_text(encoding="utf-8")
    if f"address: {before}\n" not in text:
        fail(f"{file} does not listen on {before}")
    file.write_text(text.replace(f"address: {before}\n", f"address: {after}\n"), encoding="utf-8")


def passes(address, host):
    said = on_gitlab(f"curl -sS -o /dev/null -w '%{{http_connect}}' -x http://{address} https://{host}/")
    if said != "200":
        fail(f"through {address}: {said}")


def held_by(address, program):
    listening = run(["ss", "--no-header", "--listening", "--tcp", "--numeric", "--processes", f"src {address}"])
    if f'"{program}"' not in listening:
        fail(f"{address} is not {program}'s: {listening}")


def sockets(host):
    listen, handed, moved = blocks(section(page("install.md"), "Restart without refusing anybody"))
    edit("egressd.socket", listen[1])
    for command in handed[1].splitlines():
        as_admin(command)
    passes(f"{MACHINE}:3128", host)
    held_by("0.0.0.0:3128", "systemd")
    edit("egressd.socket", listen[1].replace("0.0.0.0:", f"{MACHINE}:"))
    listens_elsewhere("0.0.0.0:3128", f"{MACHINE}:3128")
    for command in moved[1].splitlines():
        as_admin(command)
    passes(f"{MACHINE}:3128", host)
    held_by(f"{MACHINE}:3128", "systemd")
    told("systemd holds the sockets, on another address too")


def a_low_port(host):
    run(["systemctl", "disable", "--quiet", "--now", "egressd.socket", "egressd-admin.socket", "egressd.service"])
    edit("egressd.service", blocks(section(page("install.md"), "Ports below 1024"))[0][1])
    listens_elsewhere(f"{MACHINE}:3128", f"{MACHINE}:80")
    as_admin("sudo systemctl enable --quiet --now egressd.service")
    passes(f"{MACHINE}:80", host)
    held_by(f"{MACHINE}:80", "egressd")
    told("it listens on port 80")


def without_a_package():
    """From the binary of a release and a checkout, after the package has gone."""
    run(["dpkg", "--purge", "egressd"])
    for unit in ("egressd.socket", "egressd.service"):
        run(["rm", "-r", f"/etc/systemd/system/{unit}.d"])
    for command in blocks(section(page("install.md"), "Without a package"))[0][1].replace("VERSION", VERSION).splitlines():
        as_admin(command)
    if "is in force" not in as_admin("systemctl status egressd"):
        fail("it does not run without a package")
    held_by("127.0.0.1:3128", "egressd")
    run(["systemctl", "disable", "--quiet", "--now", "egressd"])
    made = ["/usr/bin/egressd", "/usr/lib/sysusers.d/egressd.conf", "/etc/egressd", "/etc/logrotate.d/egressd", "/var/log/egressd"]
    made += [f"/etc/systemd/system/{unit}" for unit in ("egressd.service", "egressd.socket", "egressd-admin.socket")]
    run(["rm", "-r", *made])
    run(["systemctl", "daemon-reload"])
    told("it runs without a package, too")


if __name__ == "__main__":
    listed = next(text for language, text in blocks(section(page("install.md"), "Debian and Ubuntu")) if language == "yaml")
    target = re.search(r"^ *- (git-codecommit\.\S+)$", listed, re.M)[1]
    networks(target)
    there = codecommit(target)
    told("the empty machine is there")
    installs(next(HERE.glob("egressd_*.deb")))
    mirrors(there)
    is_recorded()
    sockets(target)
    a_low_port(target)
    without_a_package()
