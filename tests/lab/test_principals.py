"""Users, roles, access keys and signatures: who is served, and as whom."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials

from sealwax.errors import LabError, PolicyError
from sealwax.lab import Lab, Server
from sealwax.lab._wire import HttpRequest
from tests.lab.conftest import Clock, client
from tests.lab.refusal import refused

EVERYTHING = {"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "kms:*", "Resource": "*"}}


def remote(server: Server, service: str, access_key: str, secret: str, token: str | None = None) -> Any:
    return boto3.client(  # type: ignore[call-overload]
        service,
        endpoint_url=server.url,
        region_name="us-east-1",
        aws_access_key_id=access_key,
        aws_secret_access_key=secret,
        aws_session_token=token,
        config=Config(retries={"total_max_attempts": 1}),
    )


def test_before_the_first_principal_any_key_is_the_root(server: Server) -> None:
    who = remote(server, "sts", "AKIAANY", "thing").get_caller_identity()
    assert (who["Account"], who["Arn"]) == ("111122223333", "arn:aws:iam::111122223333:root")


def test_afterwards_only_known_keys_are_served(lab: Lab, server: Server) -> None:
    added = lab.add_principal("alice", policy=EVERYTHING)
    assert added["Arn"] == "arn:aws:iam::111122223333:user/alice"
    kms = remote(server, "kms", added["AccessKeyId"], added["SecretAccessKey"])
    assert kms.create_key()["KeyMetadata"]["Enabled"]
    with refused("UnrecognizedClientException") as refusal:
        remote(server, "kms", "AKIAANY", "thing").list_keys()
    assert refusal.message == "The security token included in the request is invalid."
    with refused("InvalidClientTokenId") as refusal:
        remote(server, "sts", "AKIAANY", "thing").get_caller_identity()
    assert refusal.status == 403


def test_a_wrong_secret_is_noticed(lab: Lab, server: Server) -> None:
    added = lab.add_principal("alice", policy=EVERYTHING)
    with refused("InvalidSignatureException") as refusal:
        remote(server, "kms", added["AccessKeyId"], "wrong").list_keys()
    assert refusal.message.startswith("The request signature we calculated does not match")
    with refused("SignatureDoesNotMatch"):
        remote(server, "sts", added["AccessKeyId"], "wrong").get_caller_identity()


def test_a_user_acts_with_his_own_policy(lab: Lab) -> None:
    key = lab.create_key()["KeyId"]
    lab.add_principal("alice", policy=EVERYTHING)
    lab.add_principal("bob")
    assert client(lab.session(principal="alice")).encrypt(KeyId=key, Plaintext=b"x")
    with refused("AccessDeniedException") as refusal:
        client(lab.session(principal="bob")).encrypt(KeyId=key, Plaintext=b"x")
    assert refusal.message == (
        "User: arn:aws:iam::111122223333:user/bob is not authorized to perform: kms:Encrypt on resource: "
        f"arn:aws:kms:us-east-1:111122223333:key/{key} because no identity-based policy allows the kms:Encrypt action"
    )


def test_the_folder_s_owner_stays_the_root(lab: Lab) -> None:
    lab.add_principal("bob")
    assert client(lab.session()).create_key()
    assert lab.session().client("sts").get_caller_identity()["Arn"] == "arn:aws:iam::111122223333:root"
    other = lab.session(account="444455556666")
    assert client(other).create_key()["KeyMetadata"]["AWSAccountId"] == "444455556666"


def test_a_role_is_assumed(lab: Lab, server: Server, clock: Clock) -> None:
    lab.add_principal("worker", role=True, policy=EVERYTHING)
    bob = lab.add_principal("bob")
    sts = remote(server, "sts", bob["AccessKeyId"], bob["SecretAccessKey"])
    role = "arn:aws:iam::111122223333:role/worker"
    taken = sts.assume_role(RoleArn=role, RoleSessionName="night-job")
    assert taken["AssumedRoleUser"]["Arn"] == "arn:aws:sts::111122223333:assumed-role/worker/night-job"
    given = taken["Credentials"]
    kms = remote(server, "kms", given["AccessKeyId"], given["SecretAccessKey"], given["SessionToken"])
    assert kms.create_key()["KeyMetadata"]["Enabled"]
    assert taken["Credentials"]["Expiration"] == datetime.fromtimestamp(clock.now + 3600, UTC)
    with refused("UnrecognizedClientException"):
        remote(server, "kms", given["AccessKeyId"], given["SecretAccessKey"], "another token").list_keys()
    with refused("UnrecognizedClientException"):
        remote(server, "kms", given["AccessKeyId"], given["SecretAccessKey"]).list_keys()
    clock.now += 3601
    with refused("ExpiredTokenException"):
        kms.list_keys()


def test_a_role_can_be_acted_as_in_process(lab: Lab) -> None:
    lab.add_principal("worker", role=True, policy=EVERYTHING)
    session = lab.session(principal="worker")
    assert client(session).create_key()
    assert (
        session.client("sts").get_caller_identity()["Arn"].startswith("arn:aws:sts::111122223333:assumed-role/worker/")
    )


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ({"RoleArn": "arn:aws:iam::111122223333:role/missing", "RoleSessionName": "abc"}, "AccessDenied"),
        ({"RoleArn": "arn:aws:iam::444455556666:role/theirs", "RoleSessionName": "abc"}, "AccessDenied"),
        ({"RoleArn": "arn:aws:iam::111122223333:role/worker", "RoleSessionName": "a b"}, "ValidationError"),
        (
            {"RoleArn": "arn:aws:iam::111122223333:role/worker", "RoleSessionName": "abc", "DurationSeconds": 43201},
            "ValidationError",
        ),
        (
            {"RoleArn": "arn:aws:iam::111122223333:role/worker", "RoleSessionName": "abc", "Policy": "{}"},
            "ValidationError",
        ),
    ],
)
def test_roles_that_are_not_given(lab: Lab, arguments: dict[str, Any], code: str) -> None:
    lab.add_principal("worker", role=True)
    lab.add_principal("theirs", role=True, account="444455556666")
    with refused(code):
        lab.session().client("sts").assume_role(**arguments)


@pytest.mark.parametrize("duration", ["9" * 5000, "%C2%B2", "-1", ""])
def test_a_duration_that_is_no_number_is_refused(lab: Lab, duration: str) -> None:
    headers = {
        "content-type": "application/x-www-form-urlencoded",
        "authorization": "AWS4-HMAC-SHA256 Credential=A/20270101/us-east-1/sts/aws4_request, SignedHeaders=host, "
        "Signature=00",
    }
    role = "arn:aws:iam::111122223333:role/worker"
    form = f"Action=AssumeRole&RoleArn={role}&RoleSessionName=abc&DurationSeconds={duration}".encode()
    answer = lab._gateway.handle(HttpRequest("POST", "/", headers, form, "127.0.0.1", secure=True))
    assert b"<Code>ValidationError</Code>" in answer.body


def test_principals_that_cannot_be(lab: Lab) -> None:
    lab.add_principal("alice")
    with pytest.raises(LabError, match="already exists"):
        lab.add_principal("alice")
    with pytest.raises(LabError, match="is not a valid name"):
        lab.add_principal("a b")
    with pytest.raises(LabError, match="twelve digits"):
        lab.add_principal("bob", account="1")
    with pytest.raises(PolicyError):
        lab.add_principal("bob", policy={"Statement": []})
    with pytest.raises(LabError, match="the lab has no principal 'bob'"):
        lab.session(principal="bob")
    lab.add_principal("alice", account="444455556666")
    with pytest.raises(LabError, match="several principals"):
        lab.session(principal="alice")


def test_secrets_are_not_shown(lab: Lab) -> None:
    secret = lab.add_principal("alice")["SecretAccessKey"]
    key = lab._principals.key_of("111122223333", lab._principals.named("alice"))
    assert key.secret == secret
    assert secret not in repr(key)
    assert secret.encode() not in b"".join(file.read_bytes() for file in lab.path.iterdir())


class Signed:
    """A request signed by botocore's own signer, to be spoilt."""

    def __init__(self, lab: Lab, at: datetime | None = None, monkeypatch: pytest.MonkeyPatch | None = None) -> None:
        added = lab.add_principal("alice", policy=EVERYTHING)
        signer = SigV4Auth(Credentials(added["AccessKeyId"], added["SecretAccessKey"]), "kms", "us-east-1")
        request = AWSRequest(
            "POST",
            "https://kms.us-east-1.amazonaws.com/",
            headers={"X-Amz-Target": "TrentService.ListKeys", "Content-Type": "application/x-amz-json-1.1"},
            data=b'{"Limit": 5}',
        )
        if at is not None and monkeypatch is not None:
            monkeypatch.setattr("botocore.auth.get_current_datetime", lambda: at)
        signer.add_auth(request)
        self.headers = {name.lower(): value for name, value in request.headers.items()}
        self.headers["host"] = "kms.us-east-1.amazonaws.com"
        self.body = b'{"Limit": 5}'
        self.target = "/"
        self.method = "POST"

    def send(self, lab: Lab) -> dict[str, Any]:
        request = HttpRequest(self.method, self.target, self.headers, self.body, "127.0.0.1", secure=True)
        answer: dict[str, Any] = json.loads(lab._gateway.handle(request).body)
        return answer


def test_what_botocore_signs_is_right(lab: Lab) -> None:
    assert Signed(lab).send(lab) == {"Keys": [], "Truncated": False}


SPOILERS: dict[str, Callable[[Signed], object]] = {
    "body": lambda signed: setattr(signed, "body", b'{"Limit": 6}'),
    "host": lambda signed: signed.headers.update(host="kms.eu-west-1.amazonaws.com"),
    "operation": lambda signed: signed.headers.update({"x-amz-target": "TrentService.CreateKey"}),
    "query": lambda signed: setattr(signed, "target", "/?a=b"),
    "path": lambda signed: setattr(signed, "target", "/a"),
    "method": lambda signed: setattr(signed, "method", "PUT"),
    "region": lambda signed: signed.headers.update(
        authorization=signed.headers["authorization"].replace("us-east-1", "eu-west-1")
    ),
    "unsigned header": lambda signed: signed.headers.update({"x-amz-more": "1"}),
    "signature": lambda signed: signed.headers.update(
        authorization=signed.headers["authorization"].rpartition("=")[0] + "=" + "0" * 64
    ),
    "unsigned host": lambda signed: signed.headers.update(
        authorization=signed.headers["authorization"].replace("content-type;host;", "content-type;")
    ),
}


@pytest.mark.parametrize("part", sorted(SPOILERS))
def test_what_was_changed_after_signing_is_refused(lab: Lab, part: str) -> None:
    signed = Signed(lab)
    SPOILERS[part](signed)
    assert signed.send(lab)["__type"] == "InvalidSignatureException"


def test_a_request_may_be_sent_again_while_its_signature_is_young(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in AWS: a signature stands for a request, and lasts five minutes. The trail has both."""
    signed = Signed(lab)
    assert signed.send(lab) == signed.send(lab) == {"Keys": [], "Truncated": False}
    assert [event.record["eventName"] for event in lab.trail.events()] == ["ListKeys", "ListKeys"]
    now = time.time()
    for seconds, answered in ((290, True), (310, False)):
        monkeypatch.setattr("sealwax.lab._gateway.time.time", lambda: now + seconds)  # noqa: B023
        assert ("Keys" in signed.send(lab)) is answered
    assert "Signature expired" in signed.send(lab)["message"]


@pytest.mark.parametrize(("minutes", "words"), [(-6, "Signature expired"), (6, "Signature not yet current")])
def test_signatures_are_for_now(lab: Lab, monkeypatch: pytest.MonkeyPatch, minutes: int, words: str) -> None:
    signed = Signed(lab, datetime.now(UTC).replace(tzinfo=None) + timedelta(minutes=minutes), monkeypatch)
    answer = signed.send(lab)
    assert answer["__type"] == "InvalidSignatureException"
    assert answer["message"].startswith(words)


@pytest.mark.parametrize("stamp", ["", "yesterday", "20261340T000000Z", "2026-11-24T00:00:00Z", "20261124T000000"])
def test_a_signature_has_a_date(lab: Lab, stamp: str) -> None:
    signed = Signed(lab)
    signed.headers["x-amz-date"] = stamp
    assert signed.send(lab)["__type"] == "IncompleteSignatureException"
