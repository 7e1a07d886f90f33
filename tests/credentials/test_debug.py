"""-v and --debug with every kind of credentials, and data keys that go over the wire: no secret in any form."""

from __future__ import annotations

import base64
import json
import logging
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest

from sealwax import cli
from sealwax._aws.debuglog import WITHHELD, DebugLog
from tests.credentials.endpoint import Answer, Asked, Endpoint
from tests.credentials.test_sources import (
    CONTAINER,
    GIVEN,
    ID,
    KEY,
    LATER,
    OF_ROLE,
    REFUSALS,
    SECRET,
    SIGNED_IN,
    SSO,
    SSO_SESSION,
    STATIC,
    TOKEN,
    WEB,
    Source,
    put,
)

PLAINTEXT, BLOB = os.urandom(32), os.urandom(184)
IN_XML = (
    f"<Credentials><AccessKeyId>{ID}</AccessKeyId><SecretAccessKey>{SECRET}</SecretAccessKey>"
    f"<SessionToken>{TOKEN}</SessionToken><Expiration>{LATER}</Expiration></Credentials>"
)
IN_JSON = {"AccessKeyId": ID, "SecretAccessKey": SECRET, "Token": TOKEN, "Expiration": LATER}
OF_SSO = {"accessKeyId": ID, "secretAccessKey": SECRET, "sessionToken": TOKEN, "expiration": 4_102_444_800_000}


def _answer(asked: Asked) -> Answer:
    """What each service gives to whoever asks it."""
    if asked.operation.startswith("kms:"):
        given = {"Plaintext": base64.b64encode(PLAINTEXT).decode(), "CiphertextBlob": base64.b64encode(BLOB).decode()}
        headers = (("Content-Type", "application/x-amz-json-1.1"), ("x-amzn-RequestId", "11111111-2222"))
        return Answer(body=json.dumps({"KeyId": KEY, **given}).encode(), headers=headers)
    if asked.operation.startswith("sts:"):
        name = asked.operation.partition(":")[2]
        body = f"<{name}Response><{name}Result>{IN_XML}</{name}Result></{name}Response>"
        return Answer(body=body.encode(), headers=(("Content-Type", "text/xml"),))
    if asked.operation == "/federation/credentials":
        return Answer(body=json.dumps({"roleCredentials": OF_SSO}).encode())
    return Answer(body=json.dumps(IN_JSON).encode())


@dataclass(frozen=True)
class Working:
    config: str = ""
    env: dict[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    script: str | None = None
    seen: str = "botocore.credentials: Looking for credentials via: env"


WORKING = {
    "environment": Working(
        env=STATIC | {"AWS_SESSION_TOKEN": TOKEN}, seen="Found credentials in environment variables"
    ),
    "role": Working(OF_ROLE, seen=": STS AssumeRole arn:aws:iam::111122223333:role/backup: ok in "),
    "web identity": Working(env=WEB, files={"token": TOKEN}, seen=": STS AssumeRoleWithWebIdentity arn:"),
    "single sign-on": Working(SSO + SSO_SESSION, files=SIGNED_IN, seen=": SSO GetRoleCredentials: ok in "),
    "process": Working(script=f"echo '{json.dumps(GIVEN)}'"),
    "container": Working(env=CONTAINER | {"AWS_CONTAINER_AUTHORIZATION_TOKEN": TOKEN}, seen="urllib3.connectionpool: "),
}


def forms(secret: bytes) -> set[str]:
    """Return a secret as a log could write it."""
    text = secret.decode("latin-1")
    encoded = base64.b64encode(secret).decode()
    return {
        text, repr(text)[1:-1], repr(secret)[2:-1], repr(bytearray(secret))[12:-2], encoded, quote(encoded, safe=""),
        encoded.rstrip("="), json.dumps(text)[1:-1], base64.urlsafe_b64encode(secret).decode(), secret.hex(),
        secret.hex().upper(), secret.hex(" "), quote(text, safe=""), quote_plus(text), str(list(secret))[1:-1],
    }  # fmt: skip


def leaks(said: str) -> list[str]:
    secrets = (PLAINTEXT, BLOB, SECRET.encode(), TOKEN.encode())
    return [form for secret in secrets for form in forms(secret) if form in said or form[:16] in said]


def signed(said: str) -> list[str]:
    return re.findall(r"Signature=|Credential=|AWS4-HMAC|Bearer", said, re.IGNORECASE)


@pytest.mark.parametrize("name", WORKING)
def test_no_secret_is_shown(
    name: str, settings: Path, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    source = WORKING[name]
    put(
        Source((), source.config, env=source.env, files={**source.files}, script=source.script, answer=_answer),
        settings,
        endpoint,
        monkeypatch,
    )
    monkeypatch.setenv("AWS_ENDPOINT_URL_KMS", endpoint.url)
    plain = settings / "plain"
    plain.write_bytes(b"data")
    out = str(settings / "a.swx")
    told = []
    for option in ("-v", "--debug"):
        assert cli.run(["encrypt", option, "-k", KEY, "-c", "a=s3cret", "--force", "-o", out, str(plain)]) == 0
        told.append(capfd.readouterr().err)
        assert cli.run(["decrypt", option, "-k", KEY, "-c", "a=s3cret", "-o", "-", out]) == 0
        told.append(capfd.readouterr().err)
    assert "kms:Decrypt" in endpoint.operations()
    for said in told:
        assert not leaks(said) + signed(said)
        assert "s3cret" not in said, "the value of a context pair"
    for said, operation in zip(told, ("GenerateDataKey", "Decrypt") * 2, strict=True):
        assert f"sealwax: KMS {operation} {KEY}: ok in " in said
        assert ", us-east-1, request 11111111-2222, context names a\n" in said
    for said in told[2:]:
        assert source.seen in said
        assert f"x-amz-target: TrentService.{'Decrypt' if 'KMS Decrypt' in said else 'GenerateDataKey'}" in said
        assert "botocore.parsers: Response body: [withheld]\n" in said
        assert "botocore.endpoint: Sending http request: [withheld]\n" in said
        assert all(line.startswith("sealwax: ") for line in said.splitlines())


@pytest.mark.parametrize("name", list(REFUSALS)[::3])
def test_no_secret_of_a_refusal_is_shown(
    name: str, settings: Path, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    put(REFUSALS[name], settings, endpoint, monkeypatch)
    plain = settings / "plain"
    plain.write_bytes(b"data")
    assert cli.run(["encrypt", "--debug", "-k", KEY, "-c", "a=b", "-o", str(settings / "out"), str(plain)]) == 7
    said = capfd.readouterr().err
    assert "botocore.credentials: Looking for credentials" in said
    assert not leaks(said)
    # The error repeats what the service says of the request, without secrets.
    assert not signed(said.rstrip().rpartition("\n")[0])


@pytest.mark.parametrize("message", [f"token {TOKEN}", "token %s", "Calculating signature using v4 auth. " + SECRET])
def test_a_message_that_nobody_knows_is_withheld(message: str, capfd: pytest.CaptureFixture[str]) -> None:
    said: list[str] = []
    with DebugLog(said.append):
        logging.getLogger("botocore.new").debug(message, *([TOKEN] if "%" in message else []))
        logging.getLogger("botocore.new").debug("a new %(one)s and %(two)-5d%%", {"one": TOKEN, "two": 2})
        logging.getLogger("botocore.new").warning("failed", exc_info=ValueError(TOKEN))
    logging.getLogger("botocore.new").warning("after the end %s", TOKEN)
    assert said == [
        f"botocore.new: {'token ' if '%' in message else ''}{WITHHELD}",
        f"botocore.new: a new {WITHHELD} and {WITHHELD}%%",
        f"botocore.new: {WITHHELD} (ValueError)",
    ]
    assert capfd.readouterr().err == ""


def loggers() -> list[tuple[int, list[logging.Handler], bool]]:
    found = [logging.getLogger(name) for name in ("botocore", "boto3", "urllib3")]
    return [(logger.level, logger.handlers[:], logger.propagate) for logger in found]


def test_nobody_else_gets_the_log_and_it_is_left_as_it_was(caplog: pytest.LogCaptureFixture) -> None:
    before = loggers()
    with DebugLog(lambda _: None):
        logging.getLogger("botocore.parsers").debug("Response body: %r", TOKEN)
        assert loggers() != before
    assert loggers() == before
    assert caplog.text == ""
    assert cli.run(["inspect", "--debug", "/nonexistent"]) == 1
    assert loggers() == before
