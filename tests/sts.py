"""A Security Token Service that gives roles to whoever sends the right MFA code, and keeps what it was sent."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final, Self
from urllib.parse import parse_qsl

CODE: Final = "123456"
ROLE: Final = "arn:aws:iam::111122223333:role/backup"
SERIAL: Final = "arn:aws:iam::111122223333:mfa/alice"
#: The secret keys of the profile and of the role, and the role's session token.
SECRETS: Final = ("s3cr3t/of+the/profile", "s3cr3t/of+the/role", "t0ken/of+the/role==")
#: AWS settings with a profile ``mfa``, whose role asks for a code.
CONFIG: Final = f"""
[profile base]
aws_access_key_id = AKIDEXAMPLE
aws_secret_access_key = {SECRETS[0]}
[profile mfa]
region = us-east-1
role_arn = {ROLE}
source_profile = base
mfa_serial = {SERIAL}
"""


@dataclass
class MfaSts:
    """A server; use it with ``with``.

    Attributes:
        asked: the forms of the requests that came in.
    """

    asked: list[dict[str, str]] = field(default_factory=list)

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
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def environment(self, config: str) -> dict[str, str]:
        """What a program needs to find it.

        Args:
            config: the path of a file that holds :data:`CONFIG`.
        """
        return {"AWS_CONFIG_FILE": config, "AWS_ENDPOINT_URL_STS": self.url, "AWS_MAX_ATTEMPTS": "1"}

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        asked = self.asked

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                form = dict(parse_qsl(self.rfile.read(int(self.headers["Content-Length"])).decode()))
                asked.append(form)
                right = form.get("TokenCode") == CODE
                body = (_given() if right else _REFUSED).encode()
                self.send_response(200 if right else 403)
                self.send_header("Content-Type", "text/xml")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        return Handler


_REFUSED: Final = (
    "<ErrorResponse><Error><Code>AccessDenied</Code><Message>MultiFactorAuthentication failed with invalid MFA one "
    "time pass code. </Message></Error></ErrorResponse>"
)


def _given() -> str:
    until = (datetime.now(UTC) + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    return (
        "<AssumeRoleResponse><AssumeRoleResult><Credentials><AccessKeyId>ASIAEXAMPLE</AccessKeyId>"
        f"<SecretAccessKey>{SECRETS[1]}</SecretAccessKey><SessionToken>{SECRETS[2]}</SessionToken>"
        f"<Expiration>{until}</Expiration></Credentials><AssumedRoleUser>"
        "<AssumedRoleId>AROAEXAMPLE:s</AssumedRoleId><Arn>arn:aws:sts::111122223333:assumed-role/backup/s</Arn>"
        "</AssumedRoleUser></AssumeRoleResult></AssumeRoleResponse>"
    )
