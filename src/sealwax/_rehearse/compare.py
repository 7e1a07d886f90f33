"""Sends the same requests to AWS and to the lab, and lists where their answers differ.

Compared are the fields, their types and values, and for refusals the code, the status and the message. Identifiers are
replaced first, and what is random or a time counts by its type and, for bytes, by its length.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from botocore.config import Config
from botocore.exceptions import ClientError

from sealwax._aws import refusals
from sealwax._rehearse.masks import Masks
from sealwax._rehearse.plan import TAG
from sealwax._rehearse.requests import REQUESTS, Asked
from sealwax._rehearse.world import REPLICA, World

# Refusals are answers, so nothing is checked before it is sent; and each answer counts, so nothing is retried.
_CONFIG: Final = Config(
    parameter_validation=False, retries={"total_max_attempts": 1}, connect_timeout=5, read_timeout=20
)
# How long changed states of a key may take to be known everywhere, all together.
_STATE_SECONDS: Final = 60.0
# What is answered for the state before, if there is no answer.
_OF_STATE: Final = frozenset({"DisabledException", "KMSInvalidStateException"})
_PAUSE: Final = 1.0
# Says nothing of AWS's answer: a busy account, or the network.
_TRANSIENT: Final = frozenset(
    {
        "ThrottlingException",
        "KMSInternalException",
        "DependencyTimeoutException",
        "InternalFailure",
        "ServiceUnavailable",
        "ServiceUnavailableException",
        "ConnectTimeoutError",
        "ReadTimeoutError",
        "EndpointConnectionError",
        "ConnectionClosedError",
    }
)
_TRIES: Final = 4
_MISSING: Final = "absent"
# What is encrypted anew each time, and is no answer to a question.
_RANDOM: Final = frozenset({"Plaintext", "CiphertextBlob", "GrantToken", "GrantId", "NextMarker"})

Flat = dict[str, str]


@dataclass(frozen=True, slots=True)
class Difference:
    """A place where the answers of AWS and of the lab differ.

    Attributes:
        request: the name of the request.
        where: the field, or "error", "status" or "message".
        aws: what AWS says there, or "absent".
        lab: what the lab says there, or "absent".
    """

    request: str
    where: str
    aws: str
    lab: str


@dataclass
class Side:
    """AWS, or the lab: its world, and what its answers gave for later requests."""

    world: World
    masks: Masks = field(default_factory=Masks)
    kept: dict[str, Any] = field(default_factory=dict)
    _clients: dict[tuple[str, str, str], Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        run = self.world.run
        self.masks.add(run.run, "<run>")
        for name, arn in run.keys.items():
            self.kept[f"{name}.arn"], self.kept[f"{name}.id"] = arn, arn.rpartition("/")[2]
            self.masks.add(arn, f"<{name}>")
            if name != REPLICA:  # it has the id of its primary key
                self.masks.add(arn.rpartition("/")[2], f"<id of {name}>")
        for name in ("main", "next", "global", "more", "none"):
            alias = run.names.alias(name)
            self.kept[f"{name}.alias"] = alias
            self.kept[f"{name}.alias_arn"] = f"{self.kept['main.arn'].rpartition(':')[0]}:{alias}"
        for name in ("reader", "stranger"):
            self.kept[f"{name}.role"] = self.world.role_arn(name)
            self.masks.add(self.world.role_arn(name), f"<role {name}>")
        self.kept["far"] = self.world.far
        self.kept["tags"] = [{"TagKey": TAG, "TagValue": run.run}]
        caller = self.world.client("sts").get_caller_identity()
        self.masks.add(caller["Arn"], "<caller>")
        self.masks.add(caller["UserId"], "<id of the caller>")

    def answer(self, request: Asked) -> Flat:
        """Send a request; return its answer, flat and without identifiers."""
        region = self.world.run.regions[request.region]
        place = request.service, region, request.who
        if place not in self._clients:
            session = self.world.session(request.who, region)
            self._clients[place] = session.client(request.service, region_name=region, config=_CONFIG)
        parameters = _filled(request.parameters, self.kept)
        try:
            answer = getattr(self._clients[place], request.method)(**parameters)
        except ClientError as error:
            return dict(self._refusal(error))
        except Exception as error:
            if not refusals.is_foreign(error):
                raise
            return {"error": type(error).__name__}
        if request.keep:
            for name, value in answer.items():
                self.kept[f"{request.keep}.{name}"] = value
        status = answer.pop("ResponseMetadata", {}).get("HTTPStatusCode")
        known = bytes(answer["Plaintext"]) if request.operation == "Decrypt" and "Plaintext" in answer else None
        flat = {"status": str(status), **dict(self._flat(answer, ""))}
        if known is not None:
            flat["Plaintext"] = f"{len(known)} bytes {hashlib.sha256(known).hexdigest()[:8]}"
        return flat

    def _refusal(self, error: ClientError) -> Iterator[tuple[str, str]]:
        response: Mapping[str, Any] = error.response
        yield "error", str(response["Error"].get("Code"))
        yield "status", str(response["ResponseMetadata"].get("HTTPStatusCode"))
        yield "message", self._text(str(response["Error"].get("Message")))
        for name, value in response.items():
            if name not in ("Error", "ResponseMetadata", "message", "Message"):
                yield from self._flat(value, name)

    def _text(self, raw: str) -> str:
        return self.masks.text(raw)

    def _flat(self, value: object, where: str) -> Iterator[tuple[str, str]]:
        name = where.rpartition(".")[2].partition("[")[0]
        if isinstance(value, Mapping):
            if not value and where:
                yield where, "empty map"
            for key, inner in value.items():
                yield from self._flat(inner, f"{where}.{key}" if where else str(key))
        elif isinstance(value, list):
            yield where, f"{len(value)} item{'s' * (len(value) != 1)}"
            # AWS promises no order.
            for at, inner in enumerate(sorted(value, key=lambda item: str(sorted(self._flat(item, name))))):
                yield from self._flat(inner, f"{where}[{at}]")
        elif isinstance(value, bytes):
            # The length of a ciphertext is KMS's own affair.
            yield where, f"{len(value)} bytes" if name == "Plaintext" else f"{'some' if value else 'no'} bytes"
        elif isinstance(value, datetime):
            yield where, "a time"
        elif name in _RANDOM:
            yield where, f"a {type(value).__name__}"
        else:
            yield where, f"{type(value).__name__} {self._text(str(value))}"


def compare(aws: Side, lab: Side, on_request: Callable[[int, int], None]) -> list[Difference]:
    """Send all requests to both, one after the other; return the differences.

    Args:
        on_request: called with how many are done, and how many there are.
    """
    found: list[Difference] = []
    patience = _STATE_SECONDS
    for at, request in enumerate(REQUESTS):
        expected = lab.answer(request)
        answer = _settled_answer(aws, request)
        different = differences(request.name, answer, expected)
        while different and request.after_change and patience > 0 and _is_of_state(answer):
            time.sleep(_PAUSE)
            patience -= _PAUSE
            different = differences(request.name, answer := aws.answer(request), expected)
        found += different
        on_request(at + 1, len(REQUESTS))
    return found


def _settled_answer(side: Side, request: Asked) -> Flat:
    """Return an answer; the request is repeated a few times while it meets a busy service or no answer."""
    answer = side.answer(request)
    for tried in range(1, _TRIES):
        if answer.get("error") not in _TRANSIENT:
            break
        time.sleep(_PAUSE * tried)
        answer = side.answer(request)
    return answer


def _is_of_state(answer: Flat) -> bool:
    """Whether an answer may be that of a key's state before a change."""
    return answer.get("error") is None or answer["error"] in _OF_STATE


def differences(request: str, aws: Flat, lab: Flat) -> list[Difference]:
    """Return where two answers differ."""
    places: Sequence[str] = sorted(aws.keys() | lab.keys())
    return [
        Difference(request, place, aws.get(place, _MISSING), lab.get(place, _MISSING))
        for place in places
        if aws.get(place) != lab.get(place)
    ]


def _filled(value: Any, kept: Mapping[str, Any]) -> Any:
    """Return parameters with what they refer to ("$main.arn") in its place."""
    if isinstance(value, str) and value.startswith("$"):
        return kept.get(value[1:], "not known")
    if isinstance(value, Mapping):
        return {key: _filled(inner, kept) for key, inner in value.items()}
    if isinstance(value, list):
        return [_filled(inner, kept) for inner in value]
    return value(kept) if callable(value) else value
