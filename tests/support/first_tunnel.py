#!/usr/bin/env python3
"""How long egressd takes from its start to its first tunnel.

    tests/support/first_tunnel.py BINARY        starts it 31 times, and prints median, longest and CPU; as root also with a quarter of a CPU

A client tries to connect from the moment at which the program is executed. The time ends when a byte has come back through a tunnel to a
server on this machine. tests/image prints this for the binary of the image.
"""

import contextlib
import os
import pathlib
import socket
import socketserver
import statistics
import subprocess
import sys
import tempfile
import threading
import time

STARTS = 31
PATIENCE = 30  # seconds

CONFIG = """
listeners: [{{name: proxy, address: "127.0.0.1:{proxy}"}}]
admin: {{address: "127.0.0.1:{admin}"}}
policies: [{{name: p, private: [127.0.0.0/8], allow: ["tcp://127.0.0.1:{target}"]}}]
access_log: {{output: {log}}}
shutdown: {{grace_period: 0s}}
"""


class Echo(socketserver.BaseRequestHandler):
    def handle(self):
        while data := self.request.recv(4096):
            self.request.sendall(data)


class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@contextlib.contextmanager
def quarter():
    """A cgroup that may use a quarter of a CPU; version 1 or 2, by what the machine has."""
    name = f"egressd-first-tunnel-{os.getpid()}"
    if os.path.exists("/sys/fs/cgroup/cgroup.controllers"):
        group, settings = pathlib.Path("/sys/fs/cgroup", name), {"cpu.max": "25000 100000"}
        pathlib.Path("/sys/fs/cgroup/cgroup.subtree_control").write_text("+cpu")
    else:
        group, settings = pathlib.Path("/sys/fs/cgroup/cpu", name), {"cpu.cfs_period_us": "100000", "cpu.cfs_quota_us": "25000"}
    group.mkdir()
    try:
        for file, value in settings.items():
            (group / file).write_text(value)
        yield group
    finally:
        group.rmdir()


def first_tunnel(command, proxy, target):
    """Seconds from the start to the first byte that came back, and those of CPU until the program has ended."""
    asked = f"CONNECT 127.0.0.1:{target} HTTP/1.1\r\nHost: 127.0.0.1:{target}\r\n\r\n!".encode()
    begun = time.monotonic()
    started, taken = subprocess.Popen(command, stderr=subprocess.DEVNULL), 0
    try:
        while True:
            try:
                with socket.create_connection(("127.0.0.1", proxy), timeout=PATIENCE) as stream:
                    stream.sendall(asked)
                    got = b""
                    while not got.endswith(b"\r\n\r\n!"):
                        piece = stream.recv(4096)
                        if not piece:
                            raise SystemExit(f"no tunnel: {got!r}")
                        got += piece
                    taken = time.monotonic() - begun
                    break
            except ConnectionRefusedError:
                if started.poll() is not None or time.monotonic() - begun > PATIENCE:
                    raise SystemExit("it does not serve") from None
                time.sleep(0.0002)
    finally:
        started.terminate()
        _, status, spent = os.wait4(started.pid, 0)
        started.returncode = os.waitstatus_to_exitcode(status)
    return taken, spent.ru_utime + spent.ru_stime


def measure(binary, what, group):
    with tempfile.TemporaryDirectory() as place, Server(("127.0.0.1", 0), Echo) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        proxy, target = free_port(), server.server_address[1]
        file = pathlib.Path(place, "egressd.yaml")
        file.write_text(CONFIG.format(proxy=proxy, admin=free_port(), target=target, log=f"{place}/access.log"))
        command = [binary, "run", "--config", str(file)]
        if group:
            # A shell joins the group and becomes the program.
            command = ["sh", "-c", 'echo $$ >"$0/cgroup.procs" && exec "$@"', str(group), *command]
        times, spent = zip(*(first_tunnel(command, proxy, target) for _ in range(STARTS)), strict=True)
        server.shutdown()
    median, longest, cpu = (1000 * seconds for seconds in (statistics.median(times), max(times), statistics.median(spent)))
    print(f"from start to first tunnel, {what}: {median:.0f} ms, at most {longest:.0f} of {STARTS}; {cpu:.0f} ms of CPU with its end", flush=True)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    measure(sys.argv[1], "the whole machine", None)
    if os.getuid() == 0:
        with quarter() as cgroup:
            measure(sys.argv[1], "a quarter of a CPU", cgroup)
