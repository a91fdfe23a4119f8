"""What boto3 and two clients without it do to S3, each with a key of ours and a key of others: a line of JSON for each act.

    s3.py SETTINGS.json

The settings: endpoint (a URL), region, proxy, root (a file), keys {ours, theirs, session: {id, secret, token}} and buckets {ours, granting,
closed}. All three buckets are there already; `granting` and `closed` are of another account. A line has what was tried, with whose key, and
what came of it: `ok`, or the status, S3's code or the reason in the status line.
"""

import base64
import datetime
import hashlib
import hmac
import http.client
import io
import json
import ssl
import sys
import urllib.parse

import boto3
import botocore
import botocore.config
import botocore.exceptions

LARGE = bytes(range(256)) * 4096 * 12
SMALL = b"small\n"


def main(settings):
    host = urllib.parse.urlsplit(settings["endpoint"])
    buckets = settings["buckets"]
    for whose in ("ours", "session", "theirs", "nobody"):
        client = boto(settings, whose)
        act(whose, "put", lambda: client.put_object(Bucket=buckets["ours"], Key=f"{whose}/small", Body=SMALL))
        act(whose, "get", lambda: same(SMALL, client.get_object(Bucket=buckets["ours"], Key=f"{whose}/small")["Body"].read()))
        if whose == "nobody":
            continue
        # `aws-chunked` with a checksum behind the chunks.
        act(whose, "checksum", lambda: client.put_object(Bucket=buckets["ours"], Key=f"{whose}/checked", Body=io.BytesIO(SMALL), ChecksumAlgorithm="CRC32"))
        act(whose, "parts", lambda: in_parts(client, buckets["ours"], f"{whose}/large"))
        act(whose, "presigned", lambda: presigned(settings, client, host, buckets["ours"], f"{whose}/presigned"))
        act(whose, "two signatures", lambda: two_signatures(settings, client, host, buckets["ours"], f"{whose}/small"))
        for name in ("STREAMING-AWS4-HMAC-SHA256-PAYLOAD", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"):
            act(whose, name, lambda name=name: stream(settings, host, whose, name, f"/{buckets['ours']}/{whose}/streamed"))
    client = boto(settings, "ours")
    # A key of ours, and a bucket of others that lets us in: who signs is bounded, and not where data lands.
    act("ours", "foreign bucket", lambda: client.put_object(Bucket=buckets["granting"], Key="taken", Body=SMALL))
    act("ours", "foreign bucket in parts", lambda: in_parts(client, buckets["granting"], "large"))
    act("ours", "foreign bucket, owner expected", lambda: client.put_object(
        Bucket=buckets["granting"], Key="kept", Body=SMALL, ExpectedBucketOwner=settings["account"]))  # fmt: skip
    act("ours", "closed bucket", lambda: client.put_object(Bucket=buckets["closed"], Key="x", Body=SMALL))
    act("theirs", "their bucket", lambda: boto(settings, "theirs").put_object(Bucket=buckets["closed"], Key="x", Body=SMALL))


def act(whose, what, do):
    told = {"whose": whose, "what": what, "ok": True}
    try:
        do()
    except botocore.exceptions.ClientError as error:
        told |= {"ok": False, "status": error.response["ResponseMetadata"]["HTTPStatusCode"], "code": error.response["Error"]["Code"], "told": str(error)}
    except Failed as failed:
        told |= {"ok": False, "status": failed.args[0], "code": failed.args[1]}
    except Exception as error:  # noqa: BLE001
        told |= {"ok": False, "status": None, "code": repr(error)}
    print(json.dumps(told), flush=True)


def boto(settings, whose):
    unsigned = whose == "nobody"
    config = botocore.config.Config(
        region_name=settings["region"], proxies={"https": settings["proxy"]}, retries={"max_attempts": 0},
        s3={"addressing_style": "path"}, **({"signature_version": botocore.UNSIGNED} if unsigned else {"signature_version": "s3v4"}),
    )  # fmt: skip
    key = {} if unsigned else settings["keys"][whose]
    return boto3.client(
        "s3", endpoint_url=settings["endpoint"], verify=settings["root"], config=config, aws_access_key_id=key.get("id", "x"),
        aws_secret_access_key=key.get("secret", "x"), aws_session_token=key.get("token"),
    )  # fmt: skip


class Failed(Exception):
    """A status, and what it said."""


def same(want, got):
    if want != got:
        raise Failed(None, f"other bytes: {len(got)}")


def in_parts(client, bucket, key):
    parts = boto3.s3.transfer.TransferConfig(multipart_threshold=5 << 20, multipart_chunksize=5 << 20, max_concurrency=2)
    client.upload_fileobj(io.BytesIO(LARGE), bucket, key, Config=parts)
    same(LARGE, client.get_object(Bucket=bucket, Key=key)["Body"].read())


def exchange(settings, host, method, target, fields, body=None):
    """One request through the proxy, on a connection of its own."""
    proxy = urllib.parse.urlsplit(settings["proxy"])
    connection = http.client.HTTPSConnection(proxy.hostname, proxy.port, context=ssl.create_default_context(cafile=settings["root"]))
    connection.set_tunnel(host.hostname, host.port or 443)
    connection.request(method, target, body=body, headers=fields)
    answer = connection.getresponse()
    text = answer.read()
    if answer.status >= 300:
        raise Failed(answer.status, answer.reason if answer.reason.startswith("egressd") else text.decode(errors="replace"))
    return text


def presigned(settings, client, host, bucket, key):
    for method, body in (("put_object", SMALL), ("get_object", None)):
        url = client.generate_presigned_url(method, Params={"Bucket": bucket, "Key": key}, ExpiresIn=300)
        text = exchange(settings, host, method[:3].upper(), url.removeprefix(settings["endpoint"]), {}, body)
    same(SMALL, text)


def two_signatures(settings, client, host, bucket, key):
    url = client.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": key}, ExpiresIn=300)
    exchange(settings, host, "GET", url.removeprefix(settings["endpoint"]), {"Authorization": authorization(
        settings, host, settings["keys"]["ours"], "GET", "/", {"x-amz-content-sha256": "UNSIGNED-PAYLOAD"})[0]})  # fmt: skip


def hmac_of(key, text):
    return hmac.digest(key, text.encode(), "sha256")


def authorization(settings, host, key, method, target, fields):
    """The value of the field, its signature, and what its chunks are signed with."""
    time = fields.setdefault("x-amz-date", datetime.datetime.now(datetime.timezone.utc).strftime("%Y%m%dT%H%M%SZ"))
    if key.get("token"):
        fields["x-amz-security-token"] = key["token"]
    signed = {**fields, "host": host.netloc}
    names = ";".join(sorted(signed))
    lines = [method, target, "", *(f"{name}:{signed[name]}" for name in sorted(signed)), "", names, fields["x-amz-content-sha256"]]
    scope = f"{time[:8]}/{settings['region']}/s3/aws4_request"
    secret = f"AWS4{key['secret']}".encode()
    for part in scope.split("/"):
        secret = hmac_of(secret, part)
    digest = hashlib.sha256("\n".join(lines).encode()).hexdigest()
    signature = hmac_of(secret, "\n".join(["AWS4-HMAC-SHA256", time, scope, digest])).hex()
    value = f"AWS4-HMAC-SHA256 Credential={key['id']}/{scope},SignedHeaders={names},Signature={signature}"
    return value, signature, secret, f"{time}\n{scope}"


def stream(settings, host, whose, name, target):
    """Chunks, each of them signed, as AWS's SDK for Java and MinIO's clients send them."""
    trails, key = name.endswith("TRAILER"), settings["keys"][whose]
    # A refusal closes the connection, and a client that is still sending then may not read it.
    content = LARGE[: 40 << 10 if whose == "theirs" else 3 << 20]
    fields = {"x-amz-content-sha256": name, "x-amz-decoded-content-length": str(len(content)), "content-encoding": "aws-chunked"}
    if trails:
        fields["x-amz-trailer"] = "x-amz-checksum-sha256"
    value, before, secret, when = authorization(settings, host, key, "PUT", target, fields)
    body, empty = b"", hashlib.sha256(b"").hexdigest()
    for begin in range(0, len(content) + 1, 16 << 10):
        chunk = content[begin : begin + (16 << 10)]
        text = f"AWS4-HMAC-SHA256-PAYLOAD\n{when}\n{before}\n{empty}\n{hashlib.sha256(chunk).hexdigest()}"
        before = hmac_of(secret, text).hex()
        body += b"%x;chunk-signature=%s\r\n" % (len(chunk), before.encode()) + chunk + (b"\r\n" if chunk or not trails else b"")
    if trails:
        trailer = "x-amz-checksum-sha256:" + base64.b64encode(hashlib.sha256(content).digest()).decode()
        covered = hashlib.sha256(f"{trailer}\n".encode()).hexdigest()
        last = hmac_of(secret, f"AWS4-HMAC-SHA256-TRAILER\n{when}\n{before}\n{covered}").hex()
        body += f"{trailer}\r\nx-amz-trailer-signature:{last}\r\n\r\n".encode()
    exchange(settings, host, "PUT", target, {**fields, "Authorization": value}, body)


if __name__ == "__main__":
    with open(sys.argv[1], encoding="utf-8") as text:
        main(json.load(text))
