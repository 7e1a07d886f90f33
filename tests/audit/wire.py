"""A wire between a program and a live account that counts the requests, and does something at one of them."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final
from urllib.parse import urlsplit

from sealwax.lab import Lab, Server
from tests.audit.live import LAB

_SERVICE: Final = re.compile(r"Credential=[^/]+/\d+/[^/]+/([a-z]+)/aws4_request")


class Wire:
    """What was asked.

    Attributes:
        asked: the service and the operation of each request, as far as the headers show it.
        at: is called with the number of each request, from 1, before it is answered.
    """

    def __init__(self) -> None:
        self.url = ""
        self.asked: list[str] = []
        self.at: Callable[[int], None] = lambda _: None
        self.lock = threading.Lock()


@contextmanager
def wire(lab: Lab, moto: str) -> Iterator[Wire]:
    """Lend a wire to an account whose KMS and STS are the lab, and which has moto for the rest."""
    between = Wire()
    serving = Server(lab)
    servers = {True: urlsplit(serving.url).netloc, False: urlsplit(moto).netloc}

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            found = _SERVICE.search(self.headers.get("Authorization", ""))
            service = found[1] if found else ""
            with between.lock:
                between.asked.append(f"{service}:{self.headers.get('X-Amz-Target', '').rpartition('.')[2]}")
                between.at(len(between.asked))
            with closing(HTTPConnection(servers[service in LAB], timeout=60)) as connection:
                connection.request("POST", self.path, body, dict(self.headers.items()))
                answer = connection.getresponse()
                data = answer.read()
            try:
                self.send_response(answer.status)
                for name, value in answer.getheaders():
                    if name.lower() not in ("content-length", "connection", "transfer-encoding", "server", "date"):
                        self.send_header(name, value)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)
            except OSError:  # who asked is gone
                self.close_connection = True

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  http.server's signature
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    between.url = f"http://127.0.0.1:{server.server_port}"
    threads = [threading.Thread(target=serving.serve), threading.Thread(target=server.serve_forever)]
    for thread in threads:
        thread.start()
    try:
        yield between
    finally:
        server.shutdown()
        server.server_close()
        serving.close()
        for thread in threads:
            thread.join()
