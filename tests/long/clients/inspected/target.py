"""The server that the clients of tests/long/inspected_clients want to reach: HTTP/1.1 over TLS, and as much of each protocol as its
client needs. It writes down each request: method, path, status, and the size and SHA-256 of the body.

Files are in `www`, by their paths. What is not a file is Git (`/ok/git/`), npm's and cargo's publishing, Git LFS, S3 with its uploads
in parts, and a registry of container images (`/v2/`).
"""

import dataclasses
import hashlib
import http.server
import json
import os
import re
import shutil
import socket
import ssl
import subprocess
import tempfile
import threading
import urllib.parse


@dataclasses.dataclass
class Asked:
    method: str
    path: str
    size: int
    sha256: str


class Target(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, place, address, host, certificate, key):
        self.place, self.asked, self.parts = place, [], {}
        (place / "www").mkdir(exist_ok=True)
        (place / "blobs").mkdir(exist_ok=True)
        super().__init__((address, 0), Conversation)
        self.url = f"https://{host}:{self.server_address[1]}"
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        # The handshake runs in the connection's thread.
        self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def write(self, path, content):
        place = self.place / "www" / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content if isinstance(content, bytes) else content.encode())
        return place

    def handle_error(self, request, client_address):
        """A client that goes away is no error; what a test needs it asks for."""


class Conversation(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def setup(self):
        super().setup()
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def log_message(self, *_):
        pass

    def serve(self):
        self.where, _, query = self.path.partition("?")
        self.query = urllib.parse.parse_qs(query, keep_blank_values=True)
        with tempfile.TemporaryFile(dir=self.server.place) as self.body:
            self.read_body()
            self.server.asked.append(Asked(self.command, self.path, self.size, self.sha256))
            for pattern, answer in ROUTES:
                if found := re.fullmatch(pattern, f"{self.command} {self.where}"):
                    return answer(self, *found.groups())
            return self.file()

    do_GET = do_HEAD = do_PUT = do_POST = do_PATCH = do_DELETE = serve

    def read_body(self):
        digest, self.size = hashlib.sha256(), 0

        def take(count):
            while count > 0:
                piece = self.rfile.read(min(count, 1 << 20))
                if not piece:
                    raise ConnectionError("the body ends too early")
                count -= len(piece)
                self.size += len(piece)
                digest.update(piece)
                self.body.write(piece)

        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            while size := int(self.rfile.readline().split(b";")[0], 16):
                take(size)
                self.rfile.readline()
            while self.rfile.readline().strip():
                pass
        else:
            take(int(self.headers.get("Content-Length", 0)))
        self.body.seek(0)
        self.sha256 = digest.hexdigest()

    def answer(self, status, fields=None, body=b"", file=None):
        self.send_response(status)
        for name, value in (fields or {}).items():
            self.send_header(name, value)
        length = os.fstat(file.fileno()).st_size if file else len(body)
        if "Content-Length" not in (fields or {}):
            self.send_header("Content-Length", str(length))
        self.end_headers()
        if self.command == "HEAD":
            return
        if file:
            shutil.copyfileobj(file, self.wfile, 1 << 20)
        else:
            self.wfile.write(body)

    def json(self, status, content, kind="application/json"):
        self.answer(status, {"Content-Type": kind}, json.dumps(content).encode())

    def keep(self, name):
        with open(self.server.place / "blobs" / name, "wb") as into:
            shutil.copyfileobj(self.body, into, 1 << 20)

    # --- files

    def file(self):
        place = self.server.place / "www" / self.where.strip("/")
        if place.is_dir():
            place /= "index.html"
        if self.command not in ("GET", "HEAD") or not place.is_file():
            return self.answer(404, {"Content-Type": "text/plain"}, b"no such thing\n")
        kind = {".html": "text/html", ".json": "application/json"}.get(place.suffix, "application/octet-stream")
        fields = {"Content-Type": kind, "ETag": '"one"', "Last-Modified": "Sat, 01 Jan 2022 00:00:00 GMT"}
        with open(place, "rb") as file:
            return self.answer(200, fields, file=file)

    def upload(self):
        self.json(200, {"size": self.size, "sha256": self.sha256})

    # --- git

    def git(self, path):
        environment = {
            "PATH": os.environ["PATH"], "GIT_PROJECT_ROOT": str(self.server.place / "git"), "GIT_HTTP_EXPORT_ALL": "1",
            "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1", "REMOTE_USER": "a", "PATH_INFO": path,
            "QUERY_STRING": self.path.partition("?")[2], "REQUEST_METHOD": self.command, "CONTENT_LENGTH": str(self.size),
            "CONTENT_TYPE": self.headers.get("Content-Type", ""), "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
        }  # fmt: skip
        ran = subprocess.run(["git", "http-backend"], stdin=self.body, env=environment, capture_output=True, check=True)
        head, _, content = ran.stdout.partition(b"\r\n\r\n")
        fields = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
        self.answer(int(fields.pop("Status", "200").split()[0]), fields, content)

    def batch(self):
        asked = json.load(self.body)
        href = f"{self.server.url}/ok/lfs/blobs/"
        objects = [
            {**thing, "actions": {asked["operation"]: {"href": href + thing["oid"]}}}
            for thing in asked["objects"]
        ]
        self.json(200, {"transfer": "basic", "objects": objects}, "application/vnd.git-lfs+json")

    def put_blob(self, oid):
        if oid != self.sha256:
            return self.answer(422)
        self.keep(f"sha256:{oid}")
        return self.answer(200)

    # --- packages

    def npm_publish(self):
        attached = json.load(self.body)["_attachments"]
        self.json(201, {"ok": all(thing["length"] * 4 // 3 <= len(thing["data"]) for thing in attached.values())})

    def cargo_publish(self):
        about = json.loads(self.body.read(int.from_bytes(self.body.read(4), "little")))
        crate = self.body.read(int.from_bytes(self.body.read(4), "little"))
        line = {"name": about["name"], "vers": about["vers"], "deps": [], "features": {}, "yanked": False,
                "cksum": hashlib.sha256(crate).hexdigest()}  # fmt: skip
        name = about["name"]
        self.server.write(f"ok/cargo/index/{name[:2]}/{name[2:4]}/{name}", json.dumps(line) + "\n")
        self.json(200, {"warnings": {"invalid_categories": [], "invalid_badges": [], "other": []}})

    # --- S3

    def s3_begin(self, key):
        if "uploads" in self.query:
            text = f"<Bucket>ok</Bucket><Key>{key}</Key><UploadId>one</UploadId>"
            return self.answer(200, {"Content-Type": "application/xml"}, f"<InitiateMultipartUploadResult>{text}</InitiateMultipartUploadResult>".encode())
        text = f"<Bucket>ok</Bucket><Key>{key}</Key><ETag>one</ETag>"
        return self.answer(200, {"Content-Type": "application/xml"}, f"<CompleteMultipartUploadResult>{text}</CompleteMultipartUploadResult>".encode())

    def s3_put(self, _):
        self.answer(200, {"ETag": f'"{self.sha256}"'})

    # --- container images

    def v2(self):
        self.json(200, {})

    def blob(self, name):
        place = self.server.place / "blobs" / name
        if not place.is_file():
            return self.json(404, {"errors": [{"code": "BLOB_UNKNOWN"}]})
        with open(place, "rb") as file:
            kind = "application/octet-stream"
            if "/manifests/" in self.where:
                kind = "application/vnd.oci.image.manifest.v1+json"
                name = f"sha256:{hashlib.sha256(place.read_bytes()).hexdigest()}"
            return self.answer(200, {"Content-Type": kind, "Docker-Content-Digest": name}, file=file)

    def blob_begin(self, image):
        place = f"/v2/{image}/blobs/uploads/{len(self.server.asked)}"
        self.answer(202, {"Location": place, "Docker-Upload-UUID": place.rsplit("/", 1)[1], "Range": "0-0"})

    def blob_part(self):
        self.keep(f"upload-{self.where.rsplit('/', 1)[1]}")
        self.answer(202, {"Location": self.where, "Range": f"0-{self.size - 1}"})

    def blob_end(self):
        part, (digest,) = self.server.place / "blobs" / f"upload-{self.where.rsplit('/', 1)[1]}", self.query["digest"]
        if f"sha256:{hashlib.sha256(part.read_bytes()).hexdigest()}" != digest:
            return self.json(400, {"errors": [{"code": "DIGEST_INVALID"}]})
        part.rename(part.with_name(digest))
        return self.answer(201, {"Location": self.where, "Docker-Content-Digest": digest})

    def manifest(self, name):
        self.keep(name)
        self.answer(201, {"Docker-Content-Digest": f"sha256:{self.sha256}"})


ROUTES = [
    (r"(?:PUT|POST) /ok/upload", Conversation.upload),
    (r"(?:GET|POST) /ok/git(/.*)", Conversation.git),
    (r"POST /ok/lfs/objects/batch", Conversation.batch),
    (r"PUT /ok/lfs/blobs/([0-9a-f]{64})", Conversation.put_blob),
    (r"GET /ok/lfs/blobs/([0-9a-f]{64})", lambda self, oid: self.blob(f"sha256:{oid}")),
    (r"PUT /ok/npm/[^/]+", Conversation.npm_publish),
    (r"PUT /ok/cargo/index/api/v1/crates/new", Conversation.cargo_publish),
    (r"POST /ok/(s3/.*)", Conversation.s3_begin),
    (r"PUT /ok/(s3/.*)", Conversation.s3_put),
    (r"GET /v2/", Conversation.v2),
    (r"POST /v2/(ok/.*)/blobs/uploads/", Conversation.blob_begin),
    (r"PATCH /v2/ok/.*/blobs/uploads/\d+", Conversation.blob_part),
    (r"PUT /v2/ok/.*/blobs/uploads/\d+", Conversation.blob_end),
    (r"PUT /v2/ok/.*/manifests/([^/]+)", Conversation.manifest),
    (r"(?:GET|HEAD) /v2/ok/.*/(?:blobs|manifests)/([^/]+)", Conversation.blob),
]
