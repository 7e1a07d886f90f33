"""The Lambda function, asked by the events that EventBridge sends, with S3 and the lab behind it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Final

import pytest

import sealwax
from sealwax.fleet import aws_lambda
from sealwax.stores import Store, open_store
from tests.fleet.fleets import Keys
from tests.s3 import StrictS3

KEY: Final = "1234abcd-12ab-34cd-56ef-1234567890ab"
ROTATED: Final[dict[str, Any]] = {
    "version": "0",
    "id": "6a7e8feb-b491-4cf7-a9f1-bf3703467718",
    "detail-type": "KMS CMK Rotation",
    "source": "aws.kms",
    "account": "111122223333",
    "time": "2022-08-10T16:37:50Z",
    "region": "us-west-2",
    "resources": [f"arn:aws:kms:us-west-2:111122223333:key/{KEY}"],
    "detail": {"key-id": KEY},
}
OF_TODAY: Final = ROTATED | {
    "detail": {
        "key-id": KEY,
        "key-origin": "AWS_KMS",
        "rotation-type": "AUTOMATIC",
        "previous-key-material-id": "ab" * 32,
        "current-key-material-id": "cd" * 32,
    }
}
SCHEDULED: Final = ROTATED | {"detail-type": "Scheduled Event", "source": "aws.events", "detail": {}}
PLACE: Final = {"SEALWAX_WHERE": "s3://bucket/p/", "SEALWAX_CONTEXT": '{"tenant": "acme"}'}
KEYS: Final = {"SEALWAX_FROM": "alias/one", "SEALWAX_TO": "alias/new"}


class Invocation:
    def __init__(self, seconds: int = 900) -> None:
        self._seconds = seconds

    def get_remaining_time_in_millis(self) -> int:
        return self._seconds * 1000


@pytest.mark.parametrize("event", [ROTATED, OF_TODAY, SCHEDULED], ids=["rotated", "today", "scheduled"])
def test_an_event_rewraps_what_is_stale_and_again_nothing(keys: Keys, event: dict[str, Any]) -> None:
    with StrictS3() as server:
        client = server.bucket()
        for at in range(3):
            sealed = keys.sealer(keys.one).encrypt(b"value", context={"tenant": "acme"})
            client.put_object(Bucket="bucket", Key=f"p/{at}.swx", Body=sealed)

        def rotate() -> dict[str, Any]:
            return aws_lambda.rotate(
                event,
                Invocation(),
                PLACE | KEYS,
                session=keys.lab.session(),
                open_place=lambda where: open_store(where, server.session()),
            )

        before = keys.calls()
        first = rotate()
        assert (first["rewrapped"], first["stale"], first["more"]) == (3, 0, False)
        assert (keys.calls() - before)["ReEncrypt"] == 3
        again = rotate()
        assert (again["rewrapped"], again["stale"], again["more"]) == (0, 0, False)
        assert (keys.calls() - before)["ReEncrypt"] == 3
        for at in range(3):
            data = client.get_object(Bucket="bucket", Key=f"p/{at}.swx")["Body"].read()
            assert keys.sealer(keys.new).decrypt(data, context={"tenant": "acme"}) == b"value"


def test_it_ends_before_its_time_and_says_that_there_is_more(keys: Keys, folder: Path) -> None:
    (folder / "a.swx").write_bytes(keys.sealer(keys.one).encrypt(b"value", context={"tenant": "acme"}))

    def slow(where: str) -> Store:
        time.sleep(3)
        return open_store(where)

    # All but three seconds of it are kept to end in.
    environment = PLACE | KEYS | {"SEALWAX_WHERE": str(folder)}
    done = aws_lambda.rotate(ROTATED, Invocation(23), environment, session=keys.lab.session(), open_place=slow)
    assert (done["rewrapped"], done["stale"], done["more"]) == (0, 1, True)


@pytest.mark.parametrize(
    ("event", "environment", "seconds", "said"),
    [
        ({"source": "aws.kms", "detail-type": "KMS CMK Deletion"}, PLACE | KEYS, 900, "neither"),
        (ROTATED | {"source": "somebody"}, PLACE | KEYS, 900, "neither"),
        (None, PLACE | KEYS, 900, "neither"),
        (ROTATED | {"detail-type": []}, PLACE | KEYS, 900, "neither"),
        (ROTATED, PLACE, 900, "lacks SEALWAX_FROM"),
        (ROTATED, KEYS, 900, "lacks SEALWAX_WHERE"),
        (ROTATED, PLACE | KEYS | {"SEALWAX_CONTEXT": ""}, 900, "which envelopes are meant"),
        (ROTATED, PLACE | KEYS | {"SEALWAX_CONTEXT": '{"a": 1}'}, 900, "no JSON object of texts"),
        (ROTATED, PLACE | KEYS | {"SEALWAX_CONTEXT": "[" * 100_000}, 900, "no JSON object of texts"),
        (ROTATED, PLACE | KEYS, 10, "longer timeout"),
    ],
)
def test_what_it_refuses(event: object, environment: dict[str, str], seconds: int, said: str, keys: Keys) -> None:
    before = keys.calls()
    with pytest.raises(sealwax.ConfigurationError, match=said):
        aws_lambda.rotate(event, Invocation(seconds), environment, session=keys.lab.session())
    assert keys.calls() == before
