"""One HTTP endpoint that stands for all that gives credentials, and for KMS: it keeps what it was asked."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self
from urllib.parse import parse_qs


@dataclass(frozen=True)
class Asked:
    """A request.

    Attributes:
        operation: ``kms:Encrypt``, ``sts:AssumeRole``, or the path.
    """

    operation: str
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True)
class Answer:
    status: int = 200
    body: bytes = b"{}"
    headers: tuple[tuple[str, str], ...] = ()


@dataclass
class Endpoint:
    """A server; use it with ``with``.

    Attributes:
        answer: gives the answer to each request.
        asked: what came in.
    """

    answer: Callable[[Asked], Answer] = lambda _: Answer(500)
    asked: list[Asked] = field(default_factory=list)

    def __enter__(self) -> Self:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def place(self) -> str:
        return f"127.0.0.1:{self._server.server_port}"

    @property
    def url(self) -> str:
        return f"http://{self.place}"

    def operations(self) -> list[str]:
        return [one.operation for one in self.asked]

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                form = parse_qs(body.decode("utf-8", "replace"))
                target = self.headers.get("X-Amz-Target", "").replace("TrentService.", "kms:")
                action = f"sts:{form['Action'][0]}" if "Action" in form else ""
                asked = Asked(target or action or self.path.partition("?")[0], dict(self.headers), body)
                endpoint.asked.append(asked)
                answer = endpoint.answer(asked)
                if "Date" in dict(answer.headers):
                    self.send_response_only(answer.status)
                else:
                    self.send_response(answer.status)
                for name, value in answer.headers:
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(answer.body)))
                self.end_headers()
                self.wfile.write(answer.body)

            do_GET = do_PUT = do_HEAD = do_POST  # noqa: N815  the server's names

            def log_message(self, *_: object) -> None:
                pass

        return Handler


def xml_error(code: str, message: str, status: int = 403) -> Answer:
    """An answer of STS or S3 that refuses."""
    body = f"<ErrorResponse><Error><Code>{code}</Code><Message>{message}</Message></Error></ErrorResponse>"
    return Answer(status, body.encode(), (("Content-Type", "text/xml"),))


def json_error(code: str, message: str, status: int = 403) -> Answer:
    """An answer of single sign-on or KMS that refuses."""
    body = f'{{"message": "{message}", "__type": "{code}"}}'
    return Answer(status, body.encode(), (("x-amzn-ErrorType", code), ("Content-Type", "application/json")))
