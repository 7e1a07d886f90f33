"""CloudTrail events of KMS, out of the files that a trail writes and out of what LookupEvents answers.

Sources: "CloudTrail record contents" and "CloudTrail userIdentity element" in the CloudTrail User Guide, "Logging AWS
KMS API calls with AWS CloudTrail" in the KMS Developer Guide.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final

from sealwax import trusted
from sealwax.audit.facts import EventFacts, Facts
from sealwax.context import printable
from sealwax.errors import FactsError

_KIND: Final = trusted.Kind("the events file", FactsError)
MAX_BYTES: Final = 512 << 20  # unpacked
MAX_EVENTS: Final = 2_000_000
# Where Regions' names show it.
_PARTITIONS: Final = {"cn-": "aws-cn", "us-gov-": "aws-us-gov", "us-iso-": "aws-iso", "us-isob-": "aws-iso-b"}
#: The action that asks for them where no file has them.
LOOKUP: Final = "cloudtrail:LookupEvents"
_GZIP: Final = b"\x1f\x8b"


def read(path: str, *, max_bytes: int = MAX_BYTES) -> tuple[EventFacts, ...]:
    """Read the events of KMS from a file, oldest first.

    The file is JSON with Records or Events, or a list, or has a JSON record a line; or it is that packed by gzip.

    Args:
        max_bytes: how large it may be when unpacked.

    Raises:
        FactsError: it is no such file, or too large; or somebody else can have written it.
        OSError: it cannot be read.
    """
    with trusted.open_file(path, _KIND) as file:
        packed = file.read(2) == _GZIP
        file.seek(0)
        try:
            with gzip.GzipFile(fileobj=file) as unpacked:
                data = unpacked.read(max_bytes + 1) if packed else file.read(max_bytes + 1)
        except (EOFError, zlib.error, gzip.BadGzipFile):
            raise FactsError(f"'{printable(path)}' is a damaged gzip file") from None
    if len(data) > max_bytes:
        raise FactsError(f"'{printable(path)}' is larger than {max_bytes} bytes: give fewer days of events")
    return load(data, path)


def load(data: bytes, name: str, *, max_events: int = MAX_EVENTS) -> tuple[EventFacts, ...]:
    """Read the events of KMS, oldest first.

    Args:
        name: the file's, for errors.
        max_events: how many there may be, those of other services among them.

    Raises:
        FactsError: these are no events.
    """
    found: dict[str, EventFacts] = {}
    for number, record in enumerate(_records(data, name), 1):
        if number > max_events:
            raise FactsError(f"'{printable(name)}' has more than {max_events} events: give fewer days")
        try:
            event = event_of(record)
        except ValueError as error:
            raise FactsError(f"event {number} of '{printable(name)}' is no CloudTrail event: {error}") from None
        if event is not None:
            found[event.id] = event
    return tuple(sorted(found.values(), key=lambda one: (one.time, one.id)))


def _records(data: bytes, name: str) -> Iterator[Any]:
    try:
        whole = json.loads(data)
    except (ValueError, RecursionError):
        lines = [line for line in data.splitlines() if line.strip()]
        for number, line in enumerate(lines, 1):
            try:
                record = json.loads(line)
            except (ValueError, RecursionError):
                where = f"line {number} is not JSON" if len(lines) > 1 else "it is not JSON"
                raise FactsError(f"'{printable(name)}' holds no CloudTrail events: {where}") from None
            yield from _unfold(record)
        if not lines:
            raise FactsError(f"'{printable(name)}' is empty, so it holds no CloudTrail events") from None
    else:
        yield from whole if isinstance(whole, list) else _unfold(whole)


def _unfold(record: Any) -> Iterator[Any]:
    if isinstance(record, dict):
        for member in ("Records", "Events"):
            if isinstance(record.get(member), list):
                yield from record[member]
                return
    yield record


def put_into(facts: Facts, events: tuple[EventFacts, ...]) -> Facts:
    """Return facts with these events instead of those that CloudTrail was, or was not, asked for."""
    missed = tuple(one for one in facts.not_looked_at if one.what != LOOKUP)
    return replace(facts, events=events, not_looked_at=missed)


def event_of(record: Any) -> EventFacts | None:
    """Return an event as facts; None where it is none of KMS.

    Args:
        record: a CloudTrail record, or an entry of LookupEvents, which holds one as text.

    Raises:
        ValueError: it is neither.
    """
    if isinstance(record, dict) and isinstance(record.get("CloudTrailEvent"), str):
        try:
            record = json.loads(record["CloudTrailEvent"])
        except (ValueError, RecursionError):
            raise ValueError("its CloudTrailEvent is not JSON") from None
    if not isinstance(record, dict) or not isinstance(record.get("eventSource"), str):
        raise ValueError("it has no eventSource")
    if record["eventSource"] != "kms.amazonaws.com":
        return None
    identity = _object(record, "userIdentity")
    request = _object(record, "requestParameters")
    via = _text(identity, "invokedBy")
    region = _text(record, "awsRegion")
    principal, account = _caller(identity, region)
    return EventFacts(
        _required(record, "eventID"),
        _time(_required(record, "eventTime")),
        _required(record, "eventName"),
        principal or via,
        account,
        region,
        _keys(record, request),
        _context(request),
        _text(record, "errorCode"),
        via,
    )


def _caller(identity: Mapping[str, Any], region: str) -> tuple[str, str]:
    """Return the ARN and account of the caller: for a session its role, for one of another account that account."""
    issuer = _object(_object(identity, "sessionContext"), "sessionIssuer")
    account = _text(identity, "accountId") or _text(issuer, "accountId")
    arn = _text(identity, "arn")
    if _text(identity, "type") == "AssumedRole":
        arn = _text(issuer, "arn") or arn
    if not arn and account:
        partition = next((name for start, name in _PARTITIONS.items() if region.startswith(start)), "aws")
        arn = f"arn:{partition}:iam::{account}:root"
    return arn, account


def _keys(record: Mapping[str, Any], request: Mapping[str, Any]) -> tuple[str, ...]:
    listed = record.get("resources")
    found = [_text(one, "ARN") for one in listed if isinstance(one, dict)] if isinstance(listed, list) else []
    named = _text(request, "keyId")
    return tuple(dict.fromkeys(one for one in (*found, *([] if found else [named])) if ":key/" in one))


def _context(request: Mapping[str, Any]) -> Mapping[str, str] | None:
    # ReEncrypt has two; what is read is what the data was sealed under.
    for name in ("encryptionContext", "sourceEncryptionContext"):
        given = request.get(name)
        if isinstance(given, dict):
            if not all(isinstance(value, str) and _whole(key + value) for key, value in given.items()):
                raise ValueError("its encryption context is not one of texts")
            return given
    return None


def _object(record: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    given = record.get(name)
    if given is not None and not isinstance(given, dict):
        raise ValueError(f"its {name} is no object")
    return given or {}


def _text(record: Mapping[str, Any], name: str) -> str:
    given = record.get(name)
    if given is not None and not (isinstance(given, str) and len(given) <= 2048 and _whole(given)):
        raise ValueError(f"its {name} is no text, or a too long one")
    return given or ""


def _whole(text: str) -> bool:
    return not any("\ud800" <= one <= "\udfff" for one in text)


def _required(record: Mapping[str, Any], name: str) -> str:
    found = _text(record, name)
    if not found:
        raise ValueError(f"it has no {name}")
    return found


def _time(text: str) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError("its eventTime is no time of ISO 8601") from None
    found = found if found.tzinfo else found.replace(tzinfo=UTC)
    if not 1970 <= found.year <= 2999:
        raise ValueError("its eventTime is no time that a key can have seen")
    return found
