"""How many connections many workers make: one each."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from sealwax.errors import StoreError
from sealwax.stores.s3._store import S3Store
from tests.s3 import S3Session

WORKERS = 64  # each has a descriptor at both ends, and macOS gives a process 256
ROUNDS = 3


def test_workers_use_their_connections_again() -> None:
    together = threading.Barrier(WORKERS)
    connections = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            super().setup()
            connections.append(self.client_address)

        def do_GET(self) -> None:
            # Only when all are under way is one answered: so each needs a connection.
            together.wait(timeout=60)
            body = b"<Error><Code>NoSuchKey</Code><Message>gone</Message></Error>"
            self.send_response(404)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        request_queue_size = WORKERS

    with Server(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        store = S3Store("s3://bucket/", S3Session(f"http://127.0.0.1:{server.server_port}"))

        def ask(_: int) -> None:
            with pytest.raises(StoreError, match="s3://bucket/key"):
                store.inspect("s3://bucket/key")

        with ThreadPoolExecutor(WORKERS) as pool:
            for _ in range(ROUNDS):
                list(pool.map(ask, range(WORKERS)))
        server.shutdown()
    assert len(connections) == WORKERS
