"""A fake KMS that writes down every data key it gives out or is given: run as a program of its own.

The name of a key says how the server behaves for it: ``alias/denied`` refuses, ``alias/chunked`` answers in chunks of 7
bytes, ``alias/cut`` ends every other answer in the middle of the key.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import ssl
import sys
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

WRAPPING_KEY = AESGCM(bytes(32))


def arn(name: str, region: str) -> str:
    if name.startswith("arn:"):
        return name
    return f"arn:aws:kms:{region}:111122223333:key/{uuid.uuid5(uuid.NAMESPACE_URL, name)}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    record: Path
    to_cut: bool = True

    def log_message(self, *_: object) -> None:
        pass

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        claimed = self.headers.get("X-Amz-Content-SHA256")
        assert claimed in (None, hashlib.sha256(body).hexdigest())
        request: dict[str, Any] = json.loads(body)
        region = self.headers["Authorization"].split("/")[2]
        operation = self.headers["X-Amz-Target"].partition(".")[2]
        if operation == "ReEncrypt":
            self.re_encrypt(request, region)
            return
        key = arn(request["KeyId"], region)
        if request["KeyId"] == "alias/denied":
            self.answer(400, {"__type": "AccessDeniedException", "message": "not for you"}, "")
            return
        bound = json.dumps([key, sorted(request.get("EncryptionContext", {}).items())]).encode()
        answer: dict[str, Any] = {"KeyId": key}
        if operation == "Decrypt":
            blob = base64.b64decode(request["CiphertextBlob"])
            try:
                data_key = WRAPPING_KEY.decrypt(blob[:12], blob[12:60], bound)
            except InvalidTag:
                self.answer(400, {"__type": "IncorrectKeyException", "message": "another key's"}, "")
                return
        else:
            data_key = base64.b64decode(request["Plaintext"]) if operation == "Encrypt" else os.urandom(32)
            nonce = os.urandom(12)
            blob = nonce + WRAPPING_KEY.encrypt(nonce, data_key, bound)
            answer["CiphertextBlob"] = base64.b64encode(blob).decode()
        if operation != "Encrypt":
            answer["Plaintext"] = base64.b64encode(data_key).decode()
        with self.record.open("a") as file:
            file.write(f"{operation} {data_key.hex()}\n")
        self.answer(200, answer, request["KeyId"])

    def re_encrypt(self, request: dict[str, Any], region: str) -> None:
        """Answer with the same data key under another key; it is not given out, and so not written down."""
        keys = [arn(request[name], region) for name in ("SourceKeyId", "DestinationKeyId")]
        contexts = [request.get(f"{name}EncryptionContext", {}) for name in ("Source", "Destination")]
        source, destination = (
            json.dumps([key, sorted(context.items())]).encode() for key, context in zip(keys, contexts, strict=True)
        )
        blob, nonce = base64.b64decode(request["CiphertextBlob"]), os.urandom(12)
        new = nonce + WRAPPING_KEY.encrypt(nonce, WRAPPING_KEY.decrypt(blob[:12], blob[12:60], source), destination)
        answer = {"KeyId": keys[1], "SourceKeyId": keys[0], "CiphertextBlob": base64.b64encode(new).decode()}
        self.answer(200, answer, request["DestinationKeyId"])

    def answer(self, status: int, answer: dict[str, Any], key: str) -> None:
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("x-amzn-RequestId", str(uuid.uuid4()))
        self.send_header("Content-Type", "application/x-amz-json-1.1")
        if key == "alias/chunked":
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for at in range(0, len(body), 7):
                part = body[at : at + 7]
                self.wfile.write(b"%x\r\n%b\r\n" % (len(part), part))
            self.wfile.write(b"0\r\n\r\n")
            return
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        to_cut = key == "alias/cut" and Handler.to_cut
        if key == "alias/cut":
            Handler.to_cut = not to_cut
        if to_cut:
            self.wfile.write(body[: body.rindex(b'"') - 4])
            self.close_connection = True
            return
        self.wfile.write(body)


def main() -> None:
    record, certificate = Path(sys.argv[1]), sys.argv[2:]
    Handler.record = record
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    print(server.server_port, flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
