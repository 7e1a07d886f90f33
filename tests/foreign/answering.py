"""A KMS that answers every Decrypt with one data key, for messages whose data keys are published."""

from __future__ import annotations

import base64
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

import boto3


class Answering:
    """Serves while it is open.

    Attributes:
        data_key: what it answers with, whatever it is asked to decrypt.
        calls: how many requests came.
    """

    def __init__(self) -> None:
        self.data_key = b""
        self.calls = 0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                outer.calls += 1
                assert self.headers["X-Amz-Target"] == "TrentService.Decrypt"
                asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                secret = base64.b64encode(outer.data_key).decode()
                said = {"KeyId": asked["KeyId"], "Plaintext": secret, "EncryptionAlgorithm": "SYMMETRIC_DEFAULT"}
                body = json.dumps(said).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/x-amz-json-1.1")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever)

    def session(self) -> boto3.Session:
        return boto3.Session(aws_access_key_id="any", aws_secret_access_key="thing", region_name="us-west-2")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
