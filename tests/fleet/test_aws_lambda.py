"""The Lambda function, asked by the events that EventBridge sends, with S3 and the lab behind it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

import sealwax
from sealwax.fleet import aws_lambda
from sealwax.stores import open_store
from tests.fleet.fleets import Keys
from tests.foreign import samples
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
BY_SCHEDULER: Final = SCHEDULED | {"source": "aws.scheduler", "detail": "{}"}
PLACE: Final = {"SEALWAX_LOCATIONS": "s3://bucket/p/", "SEALWAX_CONTEXT": '{"tenant": "acme"}'}
KEYS: Final = {"SEALWAX_FROM": "alias/one", "SEALWAX_TO": "alias/new"}


class Invocation:
    """Has so many seconds left, or what a function says."""

    function_name = "rotation"

    def __init__(self, seconds: int | Callable[[], int] = 900) -> None:
        self._seconds = seconds

    def get_remaining_time_in_millis(self) -> int:
        return 1000 * (self._seconds() if callable(self._seconds) else self._seconds)


@pytest.mark.parametrize(
    "event", [ROTATED, OF_TODAY, SCHEDULED, BY_SCHEDULER], ids=["rotated", "today", "scheduled", "scheduler"]
)
def test_an_event_rewraps_what_is_stale_and_again_nothing(keys: Keys, path: Path, event: dict[str, Any]) -> None:
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
                folder=path,
                session=keys.lab.session(),
                open_location=lambda where: open_store(where, server.session()),
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


def fleet_of(keys: Keys, folder: Path, count: int) -> dict[str, str]:
    """Seal some files; return the environment for them."""
    for at in range(count):
        sealed = keys.sealer(keys.one).encrypt(b"value", context={"tenant": "acme"})
        (folder / f"{at}.swx").write_bytes(sealed)
    return PLACE | KEYS | {"SEALWAX_LOCATIONS": str(folder)}


def test_it_ends_before_its_time_and_goes_on_the_next_time(keys: Keys, folder: Path, path: Path) -> None:
    environment = fleet_of(keys, folder, 30)

    def left() -> int:
        return 900 if keys.calls()["ReEncrypt"] < 5 else 59

    # Each of eight workers may have one under way.
    first = aws_lambda.rotate(ROTATED, Invocation(left), environment, folder=path, session=keys.lab.session())
    assert 5 <= first["rewrapped"] <= 13
    assert first["stale"] == 30 - first["rewrapped"]
    assert (first["more"], first["ended"]) == (True, "the time is up")
    then = aws_lambda.rotate(SCHEDULED, Invocation(), environment, folder=path, session=keys.lab.session())
    assert (then["rewrapped"], then["stale"], then["more"]) == (first["stale"], 0, False)
    assert then["ended"] is None
    assert keys.calls()["ReEncrypt"] == 30


def test_headers_that_take_the_whole_time_are_an_error(keys: Keys, folder: Path, path: Path) -> None:
    environment = fleet_of(keys, folder, 3)
    times = iter([900, 59])
    with pytest.raises(sealwax.ConfigurationError, match=r"only 3 headers.*nothing was re-wrapped"):
        aws_lambda.rotate(
            ROTATED, Invocation(lambda: next(times)), environment, folder=path, session=keys.lab.session()
        )
    assert not path.exists()


def test_what_a_killed_invocation_left_is_removed(keys: Keys, folder: Path, path: Path) -> None:
    environment = fleet_of(keys, folder, 1)
    path.mkdir()
    (path / "rotation.plan").write_bytes(b"half of a plan")
    done = aws_lambda.rotate(ROTATED, Invocation(), environment, folder=path, session=keys.lab.session())
    assert done["rewrapped"] == 1
    assert not path.exists()


def test_a_context_that_fits_nothing_is_an_error(keys: Keys, folder: Path, path: Path) -> None:
    environment = fleet_of(keys, folder, 2) | {"SEALWAX_CONTEXT": '{"tennant": "acme"}'}
    with pytest.raises(sealwax.ConfigurationError, match=r"matches none of 2 envelopes; .* extra name"):
        aws_lambda.rotate(ROTATED, Invocation(), environment, folder=path, session=keys.lab.session())
    for file in folder.iterdir():
        file.unlink()
    # An empty place may have been meant.
    done = aws_lambda.rotate(ROTATED, Invocation(), environment, folder=path, session=keys.lab.session())
    assert done["objects"] == 0


def test_a_role_that_may_not_look_at_the_wanted_key_is_an_error(keys: Keys, folder: Path, path: Path) -> None:
    environment = fleet_of(keys, folder, 1) | {"SEALWAX_FROM": keys.one, "SEALWAX_TO": keys.new}

    def as_role(name: str, *denied: str) -> dict[str, Any]:
        statements = [
            {"Effect": "Allow", "Action": "kms:*", "Resource": "*"},
            {"Effect": "Deny", "Action": list(denied), "Resource": "*"},
        ]
        keys.lab.add_principal(name, role=True, policy={"Version": "2012-10-17", "Statement": statements})
        session = keys.lab.session(principal=name)
        return aws_lambda.rotate(ROTATED, Invocation(), environment, folder=path, session=session)

    with pytest.raises(sealwax.ConfigurationError, match=r"does not show the key material of arn:.*kms:DescribeKey"):
        as_role("blind", "kms:DescribeKey")
    assert keys.calls()["ReEncrypt"] == 0
    # What KMS shows of a key of another account: its material, and not when it came.
    done = as_role("foreigner", "kms:ListKeyRotations")
    assert done["rewrapped"] == 1
    (note,) = done["notes"]
    assert "kms:ListKeyRotations" in note


def test_what_fails_is_told_before_what_is_no_envelope(keys: Keys, folder: Path, path: Path) -> None:
    environment = fleet_of(keys, folder, 1)
    for at in range(30):
        (folder / f"-{at}.txt").write_bytes(b"no envelope")
    (folder / "secrets.yaml").write_bytes(samples.sops_yaml(keys.one))
    sealed = keys.sealer(keys.foreign).encrypt(b"value", context={"tenant": "acme"})
    (folder / "z.swx").write_bytes(sealed)
    done = aws_lambda.rotate(ROTATED, Invocation(), environment, folder=path, session=keys.lab.session())
    assert (done["rewrapped"], done["failed"], done["foreign"], done["more"]) == (1, 1, 31, True)
    assert done["formats"] == {"sops": 1, "unknown": 30}
    (problem,) = done["problems"]
    assert problem["name"] == str(folder / "z.swx")
    assert "keys_before" not in done
    assert "keys_after" not in done


@pytest.mark.parametrize(
    ("event", "environment", "seconds", "said"),
    [
        ({"source": "aws.kms", "detail-type": "KMS CMK Deletion"}, PLACE | KEYS, 900, "neither"),
        (ROTATED | {"source": "somebody"}, PLACE | KEYS, 900, "neither"),
        (None, PLACE | KEYS, 900, "neither"),
        (ROTATED | {"detail-type": []}, PLACE | KEYS, 900, "neither"),
        (ROTATED, PLACE, 900, "variable SEALWAX_FROM is missing"),
        (ROTATED, KEYS, 900, "variable SEALWAX_LOCATIONS is missing"),
        (ROTATED, PLACE | KEYS | {"SEALWAX_CONTEXT": ""}, 900, "which envelopes to re-wrap"),
        (ROTATED, PLACE | KEYS | {"SEALWAX_CONTEXT": '{"a": 1}'}, 900, "not a JSON object of strings"),
        (ROTATED, PLACE | KEYS | {"SEALWAX_CONTEXT": "[" * 100_000}, 900, "not a JSON object of strings"),
        (ROTATED, PLACE | KEYS, 59, "longer timeout"),
    ],
)
def test_what_it_refuses(
    event: object, environment: dict[str, str], seconds: int, said: str, keys: Keys, path: Path
) -> None:
    before = keys.calls()
    with pytest.raises(sealwax.ConfigurationError, match=said):
        aws_lambda.rotate(event, Invocation(seconds), environment, folder=path, session=keys.lab.session())
    assert keys.calls() == before
