"""GETs a page through a proxy as a client does that sends its password only when asked: CONNECT without a password, and after a 407
the same again with it, on the same connection if the 407 keeps it, else on a new one.

Arguments: the target, HOST:PORT. Environment: PROXY, CA. The page goes to stdout; of a refusal, its status line to stderr."""

import base64
import os
import socket
import ssl
import sys
import urllib.parse

target = sys.argv[1]
proxy = urllib.parse.urlsplit(os.environ["PROXY"])


def dial():
    connection = socket.create_connection((proxy.hostname, proxy.port), 30)
    return connection, connection.makefile("rb")


def ask(connection, answers, fields):
    """Sends the CONNECT; returns the answer's status line, and its fields, in lower case. The body is read, too."""
    connection.sendall(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{fields}\r\n".encode())
    line = answers.readline().decode().strip()
    found = {}
    while field := answers.readline().decode().strip():
        name, _, value = field.partition(":")
        found[name.lower()] = value.strip().lower()
    if " 200 " not in f"{line} ":
        answers.read(int(found.get("content-length", 0)))
    return line, found


connection, answers = dial()
line, fields = ask(connection, answers, "")
if " 407 " in line and proxy.username:
    if "close" in fields.get("connection", ""):
        connection.close()
        connection, answers = dial()
    pair = base64.b64encode(f"{proxy.username}:{proxy.password}".encode()).decode()
    line, fields = ask(connection, answers, f"Proxy-Authorization: Basic {pair}\r\n")
if " 200 " not in f"{line} ":
    sys.exit(line)
host = target.rpartition(":")[0]
with ssl.create_default_context(cafile=os.environ["CA"]).wrap_socket(connection, server_hostname=host) as tunnel:
    tunnel.sendall(f"GET /page HTTP/1.0\r\nHost: {host}\r\n\r\n".encode())
    print(tunnel.makefile("rb").read().decode())
