"""What the servers of other services have in common: HTTP/1.1 over TLS, a thread for each connection, and a line for each request."""

import http.server
import json
import pathlib
import socket
import ssl
import threading


class Server(http.server.ThreadingHTTPServer):
    """The settings: address, port, certificate, key, and place, the folder of `requests`."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, settings, conversation):
        self.settings, self.place = settings, pathlib.Path(settings["place"])
        self.lock, self.log = threading.Lock(), open(self.place / "requests", "a", encoding="ascii", buffering=1)
        super().__init__((settings["address"], settings["port"]), conversation)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(settings["certificate"], settings["key"])
        # The handshake runs in the connection's thread.
        self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)

    def tell(self, **line):
        with self.lock:
            self.log.write(json.dumps(line) + "\n")

    def handle_error(self, request, client_address):
        """A client that goes away is no error; what a test needs it asks for."""


class Conversation(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1

    def setup(self):
        super().setup()
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def log_message(self, *_):
        pass

    def handle_expect_100(self):
        self.send_response_only(100)
        self.end_headers()
        self.wfile.flush()
        return True
