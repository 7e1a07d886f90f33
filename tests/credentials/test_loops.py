"""Whatever goes over many things asks once for credentials that are not to be had, and takes those that come later."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.awsrequest import AWSResponse
from botocore.compat import HTTPHeaders

import sealwax
from sealwax import cli, fleet
from sealwax._aws.signin import CredentialProcess
from sealwax.audit._collect.client import Collector
from sealwax.lab import Lab
from sealwax.prove import prove
from sealwax.stores.s3 import ObjectReader, Service
from tests.credentials.endpoint import Answer, Endpoint, json_error, xml_error
from tests.credentials.test_sources import GIVEN, ID, KEY, OF_ROLE, ROLE, SECRET, STATIC, TOKEN
from tests.fakes import timed_cache

CONTEXT = {"a": "b"}
MADE = Answer(200, json.dumps({"KeyId": KEY, "Plaintext": "A" * 43 + "=", "CiphertextBlob": "QUJD"}).encode())


def program(settings: Path, script: str) -> Path:
    """Let a script, which notes that it ran, be the default profile's credential_process; return the notes."""
    path = settings / "program"
    path.write_text(f"#!/bin/sh\necho ran >> {settings}/ran\n{script}\n")
    path.chmod(0o700)
    (settings / "config").write_text(f"[default]\ncredential_process = {path}\n")
    (settings / "ran").write_text("")
    return settings / "ran"


def runs(notes: Path) -> int:
    return len(notes.read_text().splitlines())


@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize("handed_in", [False, True])
def test_a_batch_asks_once_and_each_value_has_its_error(settings: Path, threads: int, handed_in: bool) -> None:
    notes = program(settings, "sleep 0.3; exit 1")
    session = boto3.Session() if handed_in else None
    sealer = sealwax.Sealer(sealwax.KmsKeyring(KEY, session=session))
    found = list(sealer.encrypt_many([(b"x", CONTEXT)] * 50, threads=threads, return_exceptions=True))
    assert [type(one) for one in found] == [sealwax.CredentialsError] * 50
    assert len({id(one) for one in found}) == 50  # one that is raised changes
    assert runs(notes) == 1
    # And another batch asks again: what was missing may have come.
    assert len(list(sealer.encrypt_many([(b"x", CONTEXT)] * 3, threads=threads, return_exceptions=True))) == 3
    assert runs(notes) == 2
    with pytest.raises(sealwax.CredentialsError):
        list(sealer.encrypt_many([(b"x", CONTEXT)] * 3, threads=threads))


def test_regions_are_not_asked_one_after_the_other(settings: Path) -> None:
    notes = program(settings, "exit 1")
    key = "arn:aws:kms:us-east-1:111122223333:key/mrk-1234abcd12ab34cd56ef1234567890ab"
    for hedge_after in (None, 5.0):
        (settings / "ran").write_text("")
        keyring = sealwax.MultiRegionKeyring(
            key, regions=["us-east-1", "eu-west-1", "eu-central-1"], hedge_after=hedge_after
        )
        with pytest.raises(sealwax.CredentialsError, match="credential_process"):
            sealwax.Sealer(keyring).encrypt(b"x", context=CONTEXT)
        assert runs(notes) == 1


class _Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> tuple[float, float]:
        return self.now, self.now


@pytest.mark.parametrize(
    ("answer", "served"),
    [
        (xml_error("AccessDenied", "no", 403), False),
        (xml_error("ExpiredToken", "no", 403), False),
        (xml_error("Throttling", "slowly", 400), True),
        (xml_error("InternalFailure", "oh", 500), True),
    ],
)
def test_an_old_data_key_is_served_while_sts_is_away_and_not_once_it_refuses(
    settings: Path, endpoint: Endpoint, answer: Answer, served: bool
) -> None:
    (settings / "config").write_text(OF_ROLE)
    endpoint.answer = lambda asked: MADE if asked.operation.startswith("kms:") else answer
    with_credentials, without = sealwax.KmsKeyring(KEY, session=boto3.Session(ID, SECRET)), sealwax.KmsKeyring(KEY)
    inner: list[sealwax.KmsKeyring] = [with_credentials]

    class Switched:
        def generate(self, *args: Any, **kwargs: Any) -> Any:
            return inner[0].generate(*args, **kwargs)

        unwrap = rewrap = generate

    clock = _Clock()
    with timed_cache(Switched(), max_age=60, serve_stale_for=600, clocks=clock) as keyring:
        sealer = sealwax.Sealer(keyring)
        sealer.encrypt(b"x", context=CONTEXT)
        inner[0] = without
        clock.now = 61.0
        if served:
            with pytest.warns(sealwax.CacheWarning, match="STS"):
                sealer.encrypt(b"x", context=CONTEXT)
        else:
            with pytest.raises(sealwax.CredentialsError, match="STS"):
                sealer.encrypt(b"x", context=CONTEXT)


def test_a_fleet_in_s3_is_planned_and_verified_with_credentials_or_not_at_all(settings: Path, tmp_path: Path) -> None:
    """A store whose objects cannot be read for want of them has no unreadable objects."""

    class Store:
        location = "s3://bucket/"

        def __init__(self, _: str = "") -> None:
            self.service = Service()

        def list(self) -> object:
            return (sealwax.stores.Entry(f"s3://bucket/{n:02}.swx", 1, "e", 0.0) for n in range(50))

        def inspect(self, name: str) -> object:
            return ObjectReader(name, service=self.service)

    with Lab(tmp_path / "lab") as lab:
        arn, to = lab.create_key()["Arn"], lab.create_key()["Arn"]
        session = lab.session()
        session.client("kms")
        notes = program(settings, "sleep 0.3; exit 1")
        with pytest.raises(sealwax.CredentialsError, match="credential_process"):
            fleet.plan(
                tmp_path / "plan",
                ["s3://bucket/"],
                sources=[arn],
                to=[to],
                contexts=fleet.Contexts(accept_stored=True),
                open_location=Store,  # type: ignore[arg-type]
                session=session,
            )
        assert not (tmp_path / "plan").exists()
    assert runs(notes) == 1


@pytest.mark.parametrize(
    "command",
    [
        ["encrypt", "-c", "a=b"],
        ["decrypt", "-c", "a=b"],
        ["verify", "-c", "a=b"],
        ["rewrap", "--to", KEY, "-c", "a=b"],
        ["reencrypt", "--to", KEY, "-c", "a=b"],
    ],
)
def test_every_verb_over_a_prefix_of_s3(settings: Path, capfd: pytest.CaptureFixture[str], command: list[str]) -> None:
    notes = program(settings, "exit 1")
    capfd.readouterr()
    verb, *rest = command
    output = ["-o", str(settings / "out")] if verb in ("encrypt", "decrypt") else []
    status = cli.run([verb, "-r", "-k", KEY, *rest, *output, "s3://bucket/prefix/"])
    err = capfd.readouterr().err
    assert status == 7, err
    assert err.count("the credential_process of AWS profile 'default'") == 1
    assert runs(notes) == 1


NO_SETTINGS_FOR_S3: dict[str, tuple[dict[str, str], str]] = {
    "an endpoint that is no URL": ({"AWS_ENDPOINT_URL_S3": "nonsense"}, "AWS_ENDPOINT_URL_S3"),
    "a CA bundle that is not there": (
        {"AWS_CA_BUNDLE": "/none/ca.pem", "AWS_ENDPOINT_URL_S3": "https://127.0.0.1:9"},
        "the CA bundle '/none/ca.pem' does not exist",
    ),
    "a proxy that cannot be read": ({"HTTP_PROXY": "http://bad host:99999"}, "HTTP_PROXY"),
}


@pytest.mark.parametrize("name", NO_SETTINGS_FOR_S3)
def test_settings_that_s3_cannot_be_asked_with_end_the_run(
    settings: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], name: str
) -> None:
    changed, says = NO_SETTINGS_FOR_S3[name]
    for variable, value in (STATIC | changed).items():
        monkeypatch.setenv(variable, value)
    with Lab(settings / "lab") as lab:
        key = lab.create_key()["Arn"]
    plan = ["fleet", "plan", "--lab", str(settings / "lab"), "--from", key, "--to", key, "-c", "a=b"]
    plan += ["-o", str(settings / "plan")]
    for command in (["inspect"], ["inspect", "-r"], ["verify", "-r", "-k", KEY, "-c", "a=b"], plan):
        capfd.readouterr()
        places = (
            ["s3://bucket/a/", "s3://bucket/b/"] if "-r" in command or command is plan else ["s3://b/a", "s3://b/b"]
        )
        assert cli.run([*command, *places]) == 7, command
        err = capfd.readouterr().err
        assert err.count("failed: ") == 1, err
        assert says in err, err
    assert not (settings / "plan").exists()


@pytest.mark.usefixtures("settings")
def test_expired_in_the_middle_the_run_ends_and_what_was_done_is_done(
    folder: Path,
    tmp_path: Path,
    endpoint: Endpoint,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    for name, value in STATIC.items():
        monkeypatch.setenv(name, value)
    left = [3]

    def answer(_: object) -> Answer:
        left[0] -= 1
        return MADE if left[0] >= 0 else json_error("ExpiredTokenException", "expired", 400)

    endpoint.answer = answer
    capfd.readouterr()
    out = str(tmp_path / "out")
    status = cli.run(["encrypt", "-r", "--workers", "1", "-k", KEY, "-c", "a=b", "-o", out, str(folder)])
    err = capfd.readouterr().err
    assert status == 8
    assert len(endpoint.asked) == 4
    assert len(list((tmp_path / "out").iterdir())) == 3
    assert err.count("the AWS credentials have expired") == 1
    assert "the run ends here" in err


# --- what comes later


LATE: dict[str, Callable[[Path, pytest.MonkeyPatch], None]] = {
    "the environment": lambda _, patch: _set(patch),
    "the shared file": lambda settings, _: _write(
        settings / "credentials", f"[default]\naws_access_key_id = {ID}\naws_secret_access_key = {SECRET}\n"
    ),
    "the settings file": lambda settings, _: _write(
        settings / "config", f"[default]\naws_access_key_id = {ID}\naws_secret_access_key = {SECRET}\n"
    ),
    "a program in the settings file": lambda settings, _: _write(
        settings / "config", f"[default]\ncredential_process = /bin/echo '{json.dumps(GIVEN)}'\n"
    ),
}


def _set(patch: pytest.MonkeyPatch) -> None:
    for name, value in STATIC.items():
        patch.setenv(name, value)


def _write(path: Path, text: str) -> None:
    path.write_text(text)


@pytest.mark.parametrize("name", LATE)
def test_credentials_that_come_later_are_taken(
    settings: Path, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """By the same objects: a keyring, one of several Regions, a cache, and S3."""
    endpoint.answer = lambda _: MADE
    keyrings: list[sealwax.Keyring] = [
        sealwax.KmsKeyring(KEY),
        sealwax.MultiRegionKeyring([KEY]),
        sealwax.CachingKeyring(sealwax.KmsKeyring(KEY), max_age=60),
    ]
    if name in ("the environment", "the shared file"):
        # What is handed in reads the settings once.
        keyrings.append(sealwax.KmsKeyring(KEY, session=boto3.Session()))
    service = Service()
    sealers = [sealwax.Sealer(one) for one in keyrings]
    for sealer in sealers:
        for _ in range(2):
            with pytest.raises(sealwax.CredentialsError, match="there are no AWS credentials"):
                sealer.encrypt(b"x", context=CONTEXT)
    with pytest.raises(sealwax.CredentialsError, match="there are no AWS credentials"):
        service.client()
    assert not endpoint.asked
    LATE[name](settings, monkeypatch)
    for sealer in sealers:
        assert sealer.encrypt(b"x", context=CONTEXT)
    assert service.client()
    assert len(endpoint.asked) == len(sealers)


def test_a_token_file_that_comes_later_is_taken(
    settings: Path, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a session that was handed in, too."""
    monkeypatch.setenv("AWS_ROLE_ARN", ROLE)
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(settings / "token"))
    sealer = sealwax.Sealer(sealwax.KmsKeyring(KEY, session=boto3.Session()))
    for _ in range(2):
        with pytest.raises(sealwax.CredentialsError, match="web identity token file"):
            sealer.encrypt(b"x", context=CONTEXT)
    (settings / "token").write_text("a token")
    endpoint.answer = lambda _: xml_error("AccessDenied", "no")
    with pytest.raises(sealwax.CredentialsError, match="STS denied access"):
        sealer.encrypt(b"x", context=CONTEXT)
    assert endpoint.operations() == ["sts:AssumeRoleWithWebIdentity"]


def test_a_program_that_does_not_end_is_killed(settings: Path) -> None:
    program(settings, "exec sleep 600")
    process = CredentialProcess([str(settings / "program")], stdout=-1, stderr=-1)
    with pytest.raises(Exception, match=r"did not finish within 0\.2 s"):
        process.communicate(timeout=0.2)
    with pytest.raises(ProcessLookupError):
        os.kill(process.pid, 0)


# --- what goes over questions


def _refusal(code: str) -> Callable[[object], Answer]:
    answer = Answer(400, json.dumps({"__type": code}).encode(), (("x-amzn-RequestId", "r-1"),))
    return lambda _: answer


def test_an_audit_ends_where_every_other_question_would(endpoint: Endpoint, settings: Path) -> None:
    """But not where one Region, which may not be enabled, knows nobody."""
    rows: list[tuple[str, bool]] = [
        ("ExpiredTokenException", True),
        ("InvalidSignatureException", True),
        ("UnrecognizedClientException", False),
        ("AccessDeniedException", False),
    ]
    client = boto3.Session(ID, SECRET, TOKEN).client("kms")
    for code, ends in rows:
        endpoint.answer = _refusal(code)
        look = Collector(boto3.Session(ID, SECRET), {}, None)
        if ends:
            with pytest.raises(sealwax.CredentialsError):
                look.ask("kms:ListKeys", "*", "us-east-1", object, client.list_keys)
            assert not look.gaps
        else:
            assert look.ask("kms:ListKeys", "*", "us-east-1", object, client.list_keys) is None
            assert len(look.gaps) == 1
    program(settings, "exit 1")
    look = Collector(boto3.Session(), {}, None)
    with pytest.raises(sealwax.CredentialsError, match="credential_process"):
        look.ask("kms:ListKeys", "*", "us-east-1", object, lambda: look.client("kms", "us-east-1"))


def test_a_proof_asks_nothing_more_once_it_is_signed_out(tmp_path: Path) -> None:
    with Lab(tmp_path / "lab") as lab:
        lab.create_key(alias="one")
        left = [14]

        class Session:
            """A session whose credentials expire."""

            region_name = "us-east-1"

            def client(self, *args: Any, **kwargs: Any) -> Any:
                client = lab.session().client(*args, **kwargs)
                client.meta.events.register_first("before-call.kms", self.expire)
                return client

            def expire(self, **_: Any) -> Any:
                left[0] -= 1
                if left[0] >= 0:
                    return None
                answer = {"Error": {"Code": "ExpiredTokenException"}, "ResponseMetadata": {"RequestId": "r-1"}}
                return AWSResponse("", 400, HTTPHeaders(), None), answer

        report = prove("alias/one", CONTEXT, Session())
    asked = -left[0]
    assert asked == 1
    ended = [one for one in report.checks if "credentials have expired" in one.detail]
    skipped = [one for one in report.checks if "found no valid credentials" in one.detail]
    assert len(ended) == 1
    assert skipped
    assert all(one.outcome == "not shown" and one.interrupted for one in skipped)


def test_an_executor_of_spark_that_is_not_signed_in() -> None:
    from pyspark.errors import PythonException

    from sealwax.fleet import spark

    said = "signing in to AWS failed: could not get AWS credentials from a credential_process: it gives none."
    worker = f"Traceback (most recent call last):\n  File x\nsealwax.errors.CredentialsError: {said}\n at org.apache\n"
    with pytest.raises(sealwax.CredentialsError) as caught, spark._reported():
        raise PythonException(worker)
    assert str(caught.value) == said
