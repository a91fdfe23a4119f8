"""A server that decides as S3 does: who signed, by SigV4 in a field or in the query, and what the bucket grants that account.

    s3.py SETTINGS.json        serves until it is ended

The signature is proven, and so is the body that it covers: a hash of all, or a signature for each chunk (`aws-chunked`), or chunks with
a checksum behind them. A wrong one is 403 or 400. Then the bucket decides: it belongs to an account, and `grants` names others that it lets
in, as a bucket's policy does. It knows objects (PUT, GET, HEAD, DELETE, ranges), lists of them, and uploads in parts.

Each request is a line in `place`/requests when it ended. The settings: address, port, certificate, key, place, region, keys: {AKID:
{account, secret, token}}, buckets: {NAME: {account, grants}}.
"""

import base64
import dataclasses
import datetime
import email.utils
import hashlib
import hmac
import json
import os
import re
import signal
import sys
import urllib.parse
import zlib

import over_tls

AUTHORIZATION = re.compile(r"AWS4-HMAC-SHA256 Credential=([^,/]+)/(\d{8})/([^/]+)/([^/]+)/aws4_request, ?SignedHeaders=([^,]+), ?Signature=([0-9a-f]{64})")
LIFETIME = datetime.timedelta(minutes=15)
EMPTY = hashlib.sha256(b"").hexdigest()
STREAMS = {"STREAMING-AWS4-HMAC-SHA256-PAYLOAD", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER", "STREAMING-UNSIGNED-PAYLOAD-TRAILER"}


def signing_key(secret, scope):
    key = f"AWS4{secret}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key


def signed(key, what, *lines):
    return hmac.new(key, "\n".join([what, *lines]).encode(), "sha256").hexdigest()


def sha256(data):
    return hashlib.sha256(data).hexdigest()


class Refused(Exception):
    """A status, S3's code, and why."""


@dataclasses.dataclass
class Signer:
    access_key: str
    account: str
    key: bytes
    scope: str
    time: str
    signature: str
    payload: str


class S3(over_tls.Server):
    def __init__(self, settings):
        self.objects, self.parts = {}, {}
        super().__init__(settings, Conversation)


class Conversation(over_tls.Conversation):
    def serve(self):
        path, _, self.raw_query = self.path.partition("?")
        self.raw_path, self.read_body = path, False
        line = {"method": self.command, "path": path, "query": self.raw_query, "peer": "%s:%d" % self.client_address[:2]}
        status, why = 500, None
        try:
            signer = self.signer()
            line |= {"access_key": signer.access_key, "account": signer.account, "payload": signer.payload}
            body = self.body(signer)
            line |= {"size": len(body), "sha256": sha256(body)}
            status = self.act(signer, body)
        except Refused as refused:
            status, code, why = refused.args
            if not self.read_body:
                self.pieces()
            text = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{why}</Message></Error>".encode()
            self.answer(status, text, {"Content-Type": "application/xml"})
        finally:
            with self.server.lock:
                self.server.log.write(json.dumps(line | {"status": status, "why": why}) + "\n")

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = serve

    # --- who

    def signer(self):
        self.query = urllib.parse.parse_qsl(self.raw_query, keep_blank_values=True)
        of_query = dict(self.query)
        field = self.headers.get("Authorization")
        if field and "X-Amz-Signature" in of_query:
            raise Refused(400, "InvalidArgument", "two signatures")
        if field:
            found = AUTHORIZATION.fullmatch(field)
            if not found:
                raise Refused(400, "AuthorizationHeaderMalformed", "not a signature of the fourth version")
            access_key, day, region, service, fields, sent = found.groups()
            time, lifetime, payload = self.headers["X-Amz-Date"], LIFETIME, self.headers["X-Amz-Content-SHA256"]
            query, token = self.query, self.headers.get("X-Amz-Security-Token")
        elif "X-Amz-Signature" in of_query:
            access_key, day, region, service, _ = of_query["X-Amz-Credential"].split("/")
            time, lifetime = of_query["X-Amz-Date"], datetime.timedelta(seconds=int(of_query["X-Amz-Expires"]))
            fields, sent, payload = of_query["X-Amz-SignedHeaders"], of_query["X-Amz-Signature"], "UNSIGNED-PAYLOAD"
            query, token = [pair for pair in self.query if pair[0] != "X-Amz-Signature"], of_query.get("X-Amz-Security-Token")
        else:
            raise Refused(403, "AccessDenied", "unsigned")
        known = self.server.settings["keys"].get(access_key)
        if not known or (known.get("token") or None) != token:
            raise Refused(403, "InvalidAccessKeyId", "there is no such key")
        if (region, service) != (self.server.settings["region"], "s3") or not time.startswith(day):
            raise Refused(400, "AuthorizationHeaderMalformed", "the scope is wrong")
        then = datetime.datetime.strptime(time, "%Y%m%dT%H%M%SZ").replace(tzinfo=datetime.timezone.utc)
        age = datetime.datetime.now(datetime.timezone.utc) - then
        if not -LIFETIME < age < lifetime:
            raise Refused(403, "AccessDenied", "the signature has expired")
        names = fields.split(";")
        # What an SDK must sign; a proxy that added one of these would be found out.
        unsigned = [name.lower() for name in self.headers if name.lower().startswith("x-amz-") and name.lower() not in names]
        if "host" not in names or unsigned:
            raise Refused(403, "AccessDenied", f"not signed: {unsigned or 'host'}")
        quote = lambda text: urllib.parse.quote(text, safe="-_.~")  # noqa: E731
        canonical = [
            self.command, urllib.parse.quote(urllib.parse.unquote(self.raw_path), safe="/-_.~"),
            "&".join(sorted(f"{quote(name)}={quote(value)}" for name, value in query)),
            *(f"{name}:{' '.join(','.join(self.headers.get_all(name, [])).split())}" for name in names), "", fields, payload,
        ]  # fmt: skip
        scope = f"{day}/{region}/{service}/aws4_request"
        key = signing_key(known["secret"], scope)
        want = signed(key, "AWS4-HMAC-SHA256", time, scope, sha256("\n".join(canonical).encode()))
        if not hmac.compare_digest(want, sent):
            raise Refused(403, "SignatureDoesNotMatch", "the signature is wrong")
        return Signer(access_key, known["account"], key, scope, time, sent, payload)

    # --- what

    def pieces(self):
        self.read_body = True
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            text = b""
            while size := int(self.rfile.readline().split(b";")[0], 16):
                text += self.rfile.read(size)
                self.rfile.readline()
            while self.rfile.readline().strip():
                pass
            return text
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def body(self, signer):
        text = self.pieces()
        if signer.payload in STREAMS:
            text = self.unchunked(signer, text)
            if str(len(text)) != self.headers["X-Amz-Decoded-Content-Length"]:
                raise Refused(400, "IncompleteBody", "the length is not what was announced")
        elif signer.payload != "UNSIGNED-PAYLOAD" and signer.payload != sha256(text):
            raise Refused(400, "XAmzContentSHA256Mismatch", "the body is not what was signed")
        if checksum := self.headers.get("X-Amz-Checksum-CRC32"):
            self.check_crc32(checksum, text)
        return text

    @staticmethod
    def check_crc32(sent, text):
        if base64.b64encode(zlib.crc32(text).to_bytes(4)).decode() != sent:
            raise Refused(400, "BadDigest", "the checksum is wrong")

    def unchunked(self, signer, text):
        content, before, proven = b"", signer.signature, "-AWS4-" in signer.payload
        while True:
            head, _, text = text.partition(b"\r\n")
            size, _, extension = head.decode().partition(";")
            size = int(size, 16)
            chunk, text = text[:size], text[size:]
            if proven:
                want = signed(signer.key, "AWS4-HMAC-SHA256-PAYLOAD", signer.time, signer.scope, before, EMPTY, sha256(chunk))
                if extension != f"chunk-signature={want}":
                    raise Refused(403, "SignatureDoesNotMatch", "a chunk's signature is wrong")
                before = want
            content += chunk
            if size == 0:
                break
            if text[:2] != b"\r\n":
                raise Refused(400, "IncompleteBody", "a chunk does not end")
            text = text[2:]
        trailers = dict(line.split(":", 1) for line in text.decode().split("\r\n") if line)
        if "TRAILER" in signer.payload:
            if proven:
                covered = "".join(f"{name}:{value}\n" for name, value in trailers.items() if name != "x-amz-trailer-signature")
                want = signed(signer.key, "AWS4-HMAC-SHA256-TRAILER", signer.time, signer.scope, before, sha256(covered.encode()))
                if trailers.get("x-amz-trailer-signature") != want:
                    raise Refused(403, "SignatureDoesNotMatch", "the trailer's signature is wrong")
            if self.headers["X-Amz-Trailer"] not in trailers:
                raise Refused(400, "MalformedTrailerError", "the announced trailer is missing")
            if "x-amz-checksum-crc32" in trailers:
                self.check_crc32(trailers["x-amz-checksum-crc32"], content)
        return content

    def act(self, signer, body):
        bucket, _, name = urllib.parse.unquote(self.raw_path).removeprefix("/").partition("/")
        owns = self.server.settings["buckets"].get(bucket)
        if owns is None:
            raise Refused(404, "NoSuchBucket", "there is no such bucket")
        if signer.account != owns["account"] and signer.account not in owns["grants"]:
            raise Refused(403, "AccessDenied", f"{bucket} does not let {signer.account} in")
        expected = self.headers.get("X-Amz-Expected-Bucket-Owner", owns["account"])
        if expected != owns["account"]:
            raise Refused(403, "AccessDenied", f"{bucket} is not of {expected}")
        query, objects, key = dict(self.query), self.server.objects, (bucket, name)
        etag = {"ETag": f'"{hashlib.md5(body).hexdigest()}"'}
        what = self.command, "uploads" in query, "partNumber" in query, "uploadId" in query
        match what:
            case "POST", True, _, _:
                upload = f"upload-{len(self.server.parts)}"
                self.server.parts[upload] = {}
                text = f"<InitiateMultipartUploadResult><Bucket>{bucket}</Bucket><Key>{name}</Key><UploadId>{upload}</UploadId></InitiateMultipartUploadResult>"
                return self.answer(200, text.encode(), {"Content-Type": "application/xml"})
            case "PUT", _, True, True:
                self.server.parts[query["uploadId"]][int(query["partNumber"])] = body
                return self.answer(200, b"", etag)
            case "POST", _, _, True:
                parts = self.server.parts.pop(query["uploadId"])
                objects[key] = b"".join(parts[number] for number in sorted(parts))
                text = f'<CompleteMultipartUploadResult><Bucket>{bucket}</Bucket><Key>{name}</Key><ETag>"x-{len(parts)}"</ETag></CompleteMultipartUploadResult>'
                return self.answer(200, text.encode(), {"Content-Type": "application/xml"})
            case "PUT", _, _, _:
                objects[key] = body
                return self.answer(200, b"", etag)
            case "DELETE", _, _, _:
                objects.pop(key, None)
                return self.answer(204, b"", {})
            case "GET", _, _, _ if not name:
                found = sorted(of for in_bucket, of in objects if in_bucket == bucket and of.startswith(query.get("prefix", "")))
                text = "".join(f"<Contents><Key>{of}</Key><Size>{len(objects[bucket, of])}</Size></Contents>" for of in found)
                text = f"<ListBucketResult><Name>{bucket}</Name><KeyCount>{len(found)}</KeyCount><IsTruncated>false</IsTruncated>{text}</ListBucketResult>"
                return self.answer(200, text.encode(), {"Content-Type": "application/xml"})
        if key not in objects:
            raise Refused(404, "NoSuchKey", "there is no such object")
        content, fields = objects[key], {"Last-Modified": email.utils.formatdate(usegmt=True), "Accept-Ranges": "bytes"}
        fields["ETag"] = f'"{hashlib.md5(content).hexdigest()}"'
        if of := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
            begin, end = int(of[1]), min(int(of[2] or len(content)), len(content) - 1)
            fields["Content-Range"] = f"bytes {begin}-{end}/{len(content)}"
            return self.answer(206, content[begin : end + 1], fields)
        return self.answer(200, content, fields)

    def answer(self, status, body, fields):
        self.send_response(status)
        for name, value in fields.items():
            self.send_header(name, value)
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
        self.wfile.flush()
        return status


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    with open(sys.argv[1], encoding="utf-8") as text:
        server = S3(json.load(text))
    (server.place / "port").write_text(str(server.server_address[1]))
    server.serve_forever()
