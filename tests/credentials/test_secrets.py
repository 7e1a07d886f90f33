"""No byte of a credential leaves in a message, a representation, an attribute, a chain of errors or a log."""

from __future__ import annotations

import inspect
import json
import logging
import pickle
import traceback
from collections.abc import Callable

import boto3
import botocore.exceptions as foreign
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import sealwax
from sealwax._aws import meanings, origins, refusals, sts
from sealwax._aws.session import open_session
from sealwax.stores.s3 import ObjectReader, Service, _responses
from sealwax.stores.s3._service import parse
from tests.credentials.endpoint import Answer, Asked, Endpoint, json_error, xml_error
from tests.credentials.test_sources import ID, KEY, SECRET, TOKEN, grams

pytestmark = pytest.mark.usefixtures("settings")

CONTROLS = "\n\r\t\0\x1b \x7f\udcff\u202e"
# Of characters of which no word of ours is made.
PARTS = st.text("JQXZ0123456789+/=", min_size=12, max_size=40)


def whole(error: BaseException) -> str:
    """Everything that an error shows, and what it leads to."""
    seen: list[str] = []
    todo: list[BaseException | None] = [error]
    while todo:
        one = todo.pop()
        if one is None:
            continue
        seen += [str(one), repr(one), repr(one.args), repr(vars(one)), "".join(traceback.format_exception(one))]
        seen.append(repr(pickle.loads(pickle.dumps(one))))
        todo += [one.__cause__, one.__context__]
    return "\n".join(seen)


def hides(error: BaseException, *secrets: str) -> None:
    text = whole(error)
    found = [gram for gram in grams(*secrets) if gram in text or repr(gram)[1:-1] in text]
    assert not found, text


def _client_error(code: str, message: str) -> foreign.ClientError:
    return foreign.ClientError(
        {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"RequestId": "r", "HTTPStatusCode": 400}},  # type: ignore[typeddict-item]
        "Decrypt",
    )


def _botocores(text: str) -> list[Exception]:
    found: list[Exception] = []
    for kind in vars(foreign).values():
        if inspect.isclass(kind) and issubclass(kind, foreign.BotoCoreError):
            error = kind.__new__(kind)
            Exception.__init__(error, text)
            error.kwargs = {"error": text, "error_msg": text}
            found.append(error)
    return found


def test_how_much_is_in_the_table() -> None:
    assert len(meanings.CODES) + len(meanings.ISSUER_CODES) + len(_responses.CODES) >= 150
    assert len(_botocores("x")) >= 80


@settings(max_examples=3, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(PARTS, min_size=3, max_size=3, unique=True), st.sampled_from(CONTROLS))
def test_no_error_of_the_tables_repeats_a_secret(
    monkeypatch: pytest.MonkeyPatch, parts: list[str], control: str
) -> None:
    key_id, key, token = (f"{part}{control}{part[::-1]}" for part in parts)
    names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
    for name, value in zip(names, (key_id, key, token), strict=True):
        monkeypatch.setenv(name, value.replace("\0", "\1"))  # no environment holds a zero
    text = f"of '{key_id}' and {key!r}: {token} at https://{key_id}:{key}@example.com/x, b{token!r}"
    secrets = [part for whole_ in parts for part in (whole_, whole_[::-1])]
    cases: list[Exception] = [
        *(
            _client_error(code, text)
            for code in {**meanings.CODES, **meanings.ISSUER_CODES, **_responses.CODES, "New": None}
        ),
        *_botocores(text),
        ValueError(f"Invalid header value b{text!r}"),
        OSError(2, text, text),
    ]
    for case in cases:
        hides(refusals.translate(case, "asking", "alias/x"), *secrets)
        hides(_responses.translate(case, "reading", "s3://bucket/a"), *secrets)
    assert len(cases) >= 230


def _kms(session: object = None) -> sealwax.Sealer:
    return sealwax.Sealer(sealwax.KmsKeyring(KEY, session=session, retries=sealwax.RetryPolicy(attempts=1)))  # type: ignore[arg-type]


def _ways(session: boto3.Session) -> list[Callable[[], object]]:
    return [
        lambda: _kms(session).encrypt(b"x", context={"a": "b"}),
        lambda: sealwax.Sealer(sealwax.KmsKeyring(KEY, client=session.client("kms"))).encrypt(b"x", context={"a": "b"}),
        lambda: ObjectReader("s3://bucket/key", service=Service(session)),
        lambda: list(Service(session).list(parse("s3://bucket/", prefix=True))),
        lambda: sts.whoami(session, "asking STS who the caller is"),
        lambda: sts.assume_role("arn:aws:iam::111122223333:role/x", session, "us-east-1"),
    ]


@pytest.mark.parametrize("which", ["aws_access_key_id", "aws_secret_access_key", "aws_session_token"])
@pytest.mark.parametrize("control", ["\n", "\r\n", "\0", " ", "\udcff", "é"])
def test_what_cannot_be_sent_is_not_said(endpoint: Endpoint, which: str, control: str) -> None:
    """Whoever hands a session or a client in: http.client repeats the header that it refuses."""
    endpoint.answer = lambda _: json_error("InvalidSignatureException", "no")
    held = {"aws_access_key_id": ID, "aws_secret_access_key": SECRET, "aws_session_token": TOKEN}
    held[which] += f"{control}{held[which][::-1]}"
    session = boto3.Session(held["aws_access_key_id"], held["aws_secret_access_key"], held["aws_session_token"])
    told = 0
    for act in _ways(session):
        with pytest.raises(sealwax.CredentialsError, match="has a line break, a space or another") as caught:
            act()
        hides(caught.value, ID, SECRET, TOKEN, ID[::-1], SECRET[::-1], TOKEN[::-1])
        told += 1
    assert told == 6


def test_what_a_service_repeats_is_not_said(endpoint: Endpoint) -> None:
    """What is signed and refused comes back with the session token in it, from KMS, STS and S3."""

    def answer(asked: Asked) -> Answer:
        said = f"The canonical string was x-amz-security-token:{asked.headers['X-Amz-Security-Token']}"
        refuse = json_error if asked.operation.startswith("kms:") else xml_error
        return refuse(codes.pop(), said, 403)

    endpoint.answer = answer
    session = boto3.Session(ID, SECRET, TOKEN)
    ways = _ways(session)
    told = 0
    for code in ("SignatureDoesNotMatch", "AccessDenied", "InvalidToken", "Whatever"):
        for act in ways:
            codes = [code] * 9
            with pytest.raises(sealwax.SealwaxError) as caught:
                act()
            hides(caught.value, SECRET, TOKEN)
            told += 1
    assert told == 24


def test_urls_with_passwords(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of an endpoint, a proxy and a container's endpoint, whether they can be read or reached, or not."""
    password = "pass-word/of+the=proxy"
    session = boto3.Session(ID, SECRET)
    rows = [
        ("AWS_ENDPOINT_URL_KMS", f"http://user:{password.replace('/', '-')}@127.0.0.1:9", sealwax.UnavailableError),
        ("AWS_ENDPOINT_URL_KMS", f"ftp://user:{password}@127.0.0.1:9", sealwax.ConfigurationError),
        ("AWS_ENDPOINT_URL_KMS", f"http://user:{password}@[::1", sealwax.ConfigurationError),
        ("HTTP_PROXY", f"http://user:{password}@bad host:99999", sealwax.ConfigurationError),
        ("HTTP_PROXY", f"http://user:{password.replace('/', '-')}@127.0.0.1:9", sealwax.UnavailableError),
    ]
    for name, url, kind in rows:
        monkeypatch.setenv("AWS_ENDPOINT_URL_KMS", "http://kms.example.com")
        monkeypatch.setenv(name, url)
        with pytest.raises(kind) as caught:
            _kms(session).encrypt(b"x", context={"a": "b"})
        hides(caught.value, password)
        hides(caught.value, "user:pass-word")
        monkeypatch.delenv(name)
    with pytest.raises(sealwax.ConfigurationError) as of_option:
        open_session(endpoint_url=f"ftp://user:{password}@example.com")
    hides(of_option.value, password)


def test_nothing_is_logged(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A refresh behind the caller's back fails, and says so in the log of sealwax."""
    caplog.set_level(logging.DEBUG)
    endpoint.answer = lambda _: json_error("AccessDeniedException", f"of {TOKEN} and {SECRET}", 400)
    for name, value in {"AWS_ACCESS_KEY_ID": ID, "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_SESSION_TOKEN": TOKEN}.items():
        monkeypatch.setenv(name, f"{value}\n" if name == "AWS_SESSION_TOKEN" else value)
    cache = sealwax.CachingKeyring(sealwax.KmsKeyring(KEY), max_age=60)
    with pytest.raises(sealwax.CredentialsError):
        sealwax.Sealer(cache).encrypt(b"x", context={"a": "b"})
    monkeypatch.setenv("AWS_SESSION_TOKEN", TOKEN)
    with pytest.raises(sealwax.AccessDeniedError):
        sealwax.Sealer(cache).encrypt(b"x", context={"a": "b"})
    said = json.dumps([record.getMessage() for record in caplog.records if record.name.startswith("sealwax")])
    assert not [gram for gram in grams(ID, SECRET, TOKEN) if gram in said]


# An escaped character, such as \x90, would end in digits that are not the text's.
PRINTABLE = st.characters(categories=("L", "M", "N", "P", "S"))


@settings(max_examples=60, deadline=None)
@given(
    st.text(PRINTABLE, min_size=8, max_size=60),
    st.text(PRINTABLE, max_size=30),
    st.text(PRINTABLE, max_size=30),
    st.integers(0, 20),
)
def test_what_is_spoken_has_no_part_of_a_secret(secret: str, before: str, after: str, cut: int) -> None:
    text = origins.redacted(f"{before}{secret[cut:]}{after}", (secret,))
    assert not [gram for gram in grams(secret) if gram in text and gram not in before + after]


def test_a_url_is_shown_without_its_password_and_query() -> None:
    text = 'Could not connect to the endpoint URL: "https://user:hunter2@kms.test/path?X-Amz-Signature=abcdef&t=12" now'
    assert origins.redacted(text) == ('Could not connect to the endpoint URL: "https://***@kms.test/path?***" now')
