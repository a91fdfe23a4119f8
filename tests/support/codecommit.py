"""A Git server that decides as CodeCommit does: one host name for all accounts, and the credentials choose the account.

    codecommit.py SETTINGS.json        serves until it is ended

`https://git-codecommit.REGION.amazonaws.com/v1/repos/NAME` is a repository of the account whose credentials come with the request: the
folder ACCOUNT/NAME below `place`. It takes both kinds of credentials of CodeCommit, as HTTP Basic:

- a user that IAM has made, `NAME-at-ACCOUNT`, with its password;
- an access key, `AKID` or `AKID%TOKEN`, with a signature by SigV4 of the method GIT, the path and the host, as git-remote-codecommit and
  the AWS CLI's credential helper make it. It holds for 15 minutes, in the region of the host.

It stores large files (Git LFS), too, below ACCOUNT/NAME.lfs, which CodeCommit does not.

No credentials are 401, and wrong ones 403. So is what the user may not do: `may` has GitPull, GitPush or both. What it lets through goes to
git's own server, `git http-backend`. Each request is two lines in `place`/requests: when its head was read, and when it ended, with what
came of the body, even if the client went away.

The settings: address, port, certificate, key, place, and accounts: {ACCOUNT: {users: {USER: {password, may}}, keys: {AKID: {secret, token,
may}}}}. `hosts` are the names that it serves; another is 421.
"""

import base64
import datetime
import hashlib
import hmac
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import threading

import over_tls

HOST = re.compile(r"git-codecommit(?:-fips)?\.([a-z0-9-]+)\.amazonaws\.com(?::\d+)?")
PATH = re.compile(r"/v1/repos/([A-Za-z0-9._-]{1,100})/(info/refs|git-upload-pack|git-receive-pack|git-upload-archive)")
LFS = re.compile(r"/v1/repos/([A-Za-z0-9._-]{1,100}?)(?:\.git)?/info/lfs/(objects/batch|objects/([0-9a-f]{64})|locks|locks/verify)")
SIGNED = re.compile(r"(\d{8}T\d{6})Z([0-9a-f]{64})")
LIFETIME = datetime.timedelta(minutes=15)
PIECE = 1 << 18


def signature(secret, region, host, path, timestamp):
    """What the holder of this secret writes after the timestamp. The path is that of the repository, and the host has no port."""
    scope = f"{timestamp[:8]}/{region}/codecommit/aws4_request"
    canonical = f"GIT\n{path}\n\nhost:{host}\n\nhost\n"
    text = f"AWS4-HMAC-SHA256\n{timestamp}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    key = f"AWS4{secret}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    return hmac.new(key, text.encode(), "sha256").hexdigest()


class Refused(Exception):
    """A status, and why."""


class CodeCommit(over_tls.Server):
    def __init__(self, settings):
        super().__init__(settings, Conversation)
        self.accounts, self.hosts, self.numbers = settings["accounts"], settings["hosts"], itertools.count(1)
        # What git's server says of its own accord; a test that fails shows it.
        self.errors = open(self.place / "stderr", "ab")
        backend = subprocess.run(["git", "--exec-path"], check=True, capture_output=True, text=True).stdout.strip()
        self.backend = f"{backend}/git-http-backend"

    def account(self, region, host, path, credentials):
        """The account of these credentials, the user and what it may do."""
        user, _, password = credentials.partition(":")
        key, _, token = user.partition("%")
        for account, has in self.accounts.items():
            if known := has.get("users", {}).get(user):
                if hmac.compare_digest(known["password"], password):
                    return account, user, known["may"]
                raise Refused(403, "the password is wrong")
            if known := has.get("keys", {}).get(key):
                self.check(known, region, host, path, password)
                if (known.get("token") or "") != token:
                    raise Refused(403, "the token is not the key's")
                return account, key, known["may"]
        raise Refused(403, "there is no such user")

    @staticmethod
    def check(known, region, host, path, password):
        found = SIGNED.fullmatch(password)
        if not found:
            raise Refused(403, "that is no signature")
        timestamp, sent = found.groups()
        then = datetime.datetime.strptime(timestamp, "%Y%m%dT%H%M%S").replace(tzinfo=datetime.timezone.utc)
        if abs(datetime.datetime.now(datetime.timezone.utc) - then) > LIFETIME:
            raise Refused(403, "the signature has expired")
        if not hmac.compare_digest(sent, signature(known["secret"], region, host, path, timestamp)):
            raise Refused(403, "the signature is wrong")


class Commands:
    """Reads the commands of a push as its bytes pass, and counts what follows them."""

    def __init__(self, of_push):
        self.waiting, self.commands, self.ended, self.body, self.after = b"", [], not of_push, 0, 0

    def take(self, piece):
        self.body += len(piece)
        if self.ended:
            self.after += len(piece)
            return
        self.waiting += piece
        while not self.ended and len(self.waiting) >= 4:
            length = int(self.waiting[:4], 16) if re.fullmatch(rb"[0-9A-Fa-f]{4}", self.waiting[:4]) else 0
            if length < 4:
                self.ended, self.after = True, len(self.waiting) - 4
            elif len(self.waiting) < length:
                return
            else:
                line = self.waiting[4:length].partition(b"\0")[0].rstrip(b"\n").decode("utf-8", "replace")
                self.waiting = self.waiting[length:]
                if not line.startswith("shallow "):
                    self.commands.append(line)


class Conversation(over_tls.Conversation):
    def serve(self):
        path, _, query = self.path.partition("?")
        pushes = path.endswith("/git-receive-pack")
        number, reads = next(self.server.numbers), Commands(pushes)
        line = {"number": number, "method": self.command, "path": path, "query": query, "peer": "%s:%d" % self.client_address[:2],
                "fields": {name.lower(): value for name, value in self.headers.items() if name.lower() != "authorization"}}  # fmt: skip
        status = None
        try:
            line |= self.judge(path, query)
            self.server.tell(event="head", status=None, **line)
            status = self.large_files(line, path, reads) if "/info/lfs/" in path else self.backend(line, path, query, reads)
        except Refused as refused:
            status, why = refused.args
            self.server.tell(event="head", status=status, why=why, **line)
            for piece in self.pieces():
                reads.take(piece)
            self.answer(status, f"{why}\n".encode())
        finally:
            told = {"commands": reads.commands, "pack": reads.after} if pushes else {}
            self.server.tell(event="end", status=status, body=reads.body, **told, **line)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = do_PROPFIND = do_MKCOL = do_LOCK = do_MOVE = serve

    def judge(self, path, query):
        host = self.headers.get("Host", "")
        region = HOST.fullmatch(host)
        if not region or host.split(":")[0] not in self.server.hosts:
            raise Refused(421, "that host is not here")
        scheme, _, text = self.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "basic":
            raise Refused(401, "credentials are missing")
        credentials = base64.b64decode(text.encode()).decode()
        found = PATH.fullmatch(path) or LFS.fullmatch(path)
        repository = f"/v1/repos/{found[1]}" if found else path
        account, user, may = self.server.account(region[1], host.split(":")[0], repository, credentials)
        pushes = path.endswith("/git-receive-pack") or "service=git-receive-pack" in query or self.command == "PUT"
        wants, self.may = "GitPush" if pushes else "GitPull", may
        if wants not in may:
            raise Refused(403, f"{user} may not {wants}")
        if not found or not (self.server.place / account / found[1]).is_dir():
            raise Refused(404, "there is no such repository")
        return {"account": account, "user": user, "repository": repository, "does": wants}

    def pieces(self):
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            while size := int(self.rfile.readline().split(b";")[0], 16):
                while size > 0:
                    piece = self.rfile.read(min(size, PIECE))
                    if not piece:
                        raise ConnectionError("the body ends too early")
                    size -= len(piece)
                    yield piece
                self.rfile.readline()
            while self.rfile.readline().strip():
                pass
            return
        size = int(self.headers.get("Content-Length", 0))
        while size > 0:
            piece = self.rfile.read(min(size, PIECE))
            if not piece:
                raise ConnectionError("the body ends too early")
            size -= len(piece)
            yield piece

    def backend(self, line, path, query, reads):
        name = PATH.fullmatch(path)
        environment = {
            "PATH": os.environ["PATH"], "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1", "GIT_HTTP_EXPORT_ALL": "1",
            "GIT_PROJECT_ROOT": str(self.server.place / line["account"]), "PATH_INFO": f"/{name[1]}/{name[2]}", "REMOTE_USER": line["user"],
            "REMOTE_ADDR": self.client_address[0], "REQUEST_METHOD": self.command, "QUERY_STRING": query,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""), "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
        }  # fmt: skip
        if length := self.headers.get("Content-Length"):
            environment["CONTENT_LENGTH"] = length
        git = subprocess.Popen(
            [self.server.backend], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.server.errors, env=environment
        )
        failed = []

        def feed():
            # To the end of the body, although git may have ended before: the next request follows it.
            try:
                for piece in self.pieces():
                    reads.take(piece)
                    try:
                        git.stdin.write(piece)
                    except (BrokenPipeError, ValueError):
                        pass
            except (OSError, ValueError) as error:
                failed.append(error)
            finally:
                try:
                    git.stdin.close()
                except BrokenPipeError:
                    pass

        feeder = threading.Thread(target=feed)
        feeder.start()
        try:
            return self.relay(git.stdout)
        finally:
            git.stdout.close()
            feeder.join()
            git.wait()
            if failed:
                self.close_connection = True

    def relay(self, stdout):
        status, fields = 200, []
        while text := stdout.readline().strip().decode():
            name, _, value = text.partition(": ")
            if name == "Status":
                status = int(value.split()[0])
            else:
                fields.append((name, value))
        self.send_response(status)
        for name, value in fields:
            self.send_header(name, value)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        while piece := stdout.read1(PIECE):
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            self.wfile.flush()
        self.wfile.write(b"0\r\n\r\n")
        self.wfile.flush()
        return status

    def large_files(self, line, path, reads):
        name, what, oid = LFS.fullmatch(path).groups()
        place = self.server.place / line["account"] / f"{name}.lfs"
        place.mkdir(exist_ok=True)
        body = bytearray()
        for piece in self.pieces():
            reads.take(piece)
            body += piece
        if oid and self.command == "PUT":
            if hashlib.sha256(body).hexdigest() != oid:
                raise Refused(422, "other bytes")
            (place / oid).write_bytes(body)
            return self.answer(200, b"")
        if oid:
            if not (place / oid).exists():
                raise Refused(404, "there is no such object")
            return self.answer(200, (place / oid).read_bytes(), "application/octet-stream")
        if what != "objects/batch":
            answer = {"locks": [], "ours": [], "theirs": []}
        else:
            asked, base = json.loads(body), f"https://{self.headers['Host']}{path.removesuffix('/batch')}"
            if asked["operation"] == "upload" and "GitPush" not in self.may:
                raise Refused(403, "that user may not upload")
            objects, fields = [], {"Authorization": self.headers["Authorization"]}
            for thing in asked["objects"]:
                wanted = not (place / thing["oid"]).exists() if asked["operation"] == "upload" else True
                action = {asked["operation"]: {"href": f"{base}/{thing['oid']}", "header": fields}}
                objects.append({**thing, "authenticated": True, **({"actions": action} if wanted else {})})
            answer = {"transfer": "basic", "objects": objects}
        return self.answer(200, json.dumps(answer).encode(), "application/vnd.git-lfs+json")

    def answer(self, status, body, kind="text/plain"):
        self.send_response(status)
        if status == 401:
            self.send_header("WWW-Authenticate", 'Basic realm="git-codecommit"')
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()
        return status


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    with open(sys.argv[1], encoding="utf-8") as text:
        server = CodeCommit(json.load(text))
    (server.place / "port").write_text(str(server.server_address[1]))
    server.serve_forever()
