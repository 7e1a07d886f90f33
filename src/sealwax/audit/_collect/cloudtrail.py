"""CloudTrail events of KMS, out of the files that a trail writes and out of what LookupEvents answers.

Sources: "CloudTrail record contents" and "CloudTrail userIdentity element" in the CloudTrail User Guide, "Logging AWS
KMS API calls with AWS CloudTrail" in the KMS Developer Guide.
"""

from __future__ import annotations

import codecs
import gzip
import io
import json
import re
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final

from sealwax._aws.partitions import partition_of
from sealwax._core import trusted
from sealwax._core.context import printable
from sealwax.audit._facts import EventFacts, Facts
from sealwax.errors import FactsError

_KIND: Final = trusted.Kind("the events file", FactsError)
MAX_BYTES: Final = 512 << 20  # unpacked
MAX_EVENTS: Final = 1_000_000
# CloudTrail's own have at most 256 KiB.
_MOST_CHARACTERS: Final = 1 << 20
# Of what is kept of all events: their ids and contexts, since all else is much the same in many.
_MOST_KEPT_CHARACTERS: Final = 128 << 20
_READ_CHARACTERS: Final = 1 << 16
# Where Regions' names show it.
#: The action that asks for them where no file has them.
LOOKUP: Final = "cloudtrail:LookupEvents"
_INTERNAL: Final = "AWS Internal"  # CloudTrail's word for a service that it does not name
_GZIP: Final = b"\x1f\x8b"
_SPACE: Final = re.compile(r"[ \t\r\n]+")
_TOO_LARGE: Final = f"is not JSON, or has an entry of more than {_MOST_CHARACTERS:,} characters"
_DECODER: Final = json.JSONDecoder()


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
        # Peeked at, since a pipe cannot be read from its beginning again.
        if file.peek(len(_GZIP))[: len(_GZIP)] != _GZIP:
            return _read(file, path, max_bytes, MAX_EVENTS)
        try:
            with gzip.GzipFile(fileobj=file) as unpacked:
                return _read(unpacked, path, max_bytes, MAX_EVENTS)
        except (EOFError, zlib.error, gzip.BadGzipFile):
            raise FactsError(f"'{printable(path)}' is a damaged gzip file") from None


def load(data: bytes, name: str, *, max_events: int = MAX_EVENTS) -> tuple[EventFacts, ...]:
    """Read the events of KMS, oldest first.

    Args:
        name: the file's, for errors.
        max_events: how many there may be, those of other services among them.

    Raises:
        FactsError: these are no events.
    """
    return _read(io.BufferedReader(io.BytesIO(data)), name, MAX_BYTES, max_events)


def _read(
    stream: io.BufferedReader | gzip.GzipFile, name: str, max_bytes: int, max_events: int
) -> tuple[EventFacts, ...]:
    """Return the events, of which one at a time is decoded: a small packed file may hold any number of them."""
    found: dict[str, EventFacts] = {}
    kept = 0
    values = _Values(stream, max_bytes)
    try:
        for number, record in enumerate(_records(values), 1):
            if number > max_events:
                raise FactsError(f"'{printable(name)}' has more than {max_events:,} events: give fewer days")
            try:
                event = event_of(record)
            except ValueError as error:
                raise FactsError(f"event {number} of '{printable(name)}' is no CloudTrail event: {error}") from None
            if event is not None and event.id not in found:
                kept += len(event.id) + sum(len(key) + len(value) for key, value in (event.context or {}).items())
                if kept > _MOST_KEPT_CHARACTERS:
                    raise FactsError(f"the events of '{printable(name)}' are too large together: give fewer days")
                found[event.id] = event
    except _TooLargeError:
        raise FactsError(f"'{printable(name)}' is larger than {max_bytes} bytes: give fewer days of events") from None
    except _NotReadError as error:
        raise FactsError(f"'{printable(name)}' holds no CloudTrail events: {error}") from None
    if values.empty:
        raise FactsError(f"'{printable(name)}' is empty, so it holds no CloudTrail events")
    return tuple(sorted(found.values(), key=lambda one: (one.time, one.id)))


class _TooLargeError(Exception):
    pass


class _NotReadError(Exception):
    """Why what is there cannot be read."""


class _Values:
    """The JSON values of a file, one after another, of which no more than one is in memory.

    Attributes:
        empty: whether nothing but white space was there so far.
        taken: how many characters of values were taken so far.
    """

    def __init__(self, stream: io.BufferedReader | gzip.GzipFile, max_bytes: int) -> None:
        encoding = json.detect_encoding(stream.peek(4)[:4])
        self._stream = stream
        self._decoder = codecs.getincrementaldecoder(encoding)("surrogatepass")
        self._bytes, self._max_bytes = 0, max_bytes
        self._buffer, self._at, self._line = "", 0, 1
        self.empty = True
        self.taken = 0

    def _more(self) -> bool:
        """Read on, at least as much again as is there; return whether there was more."""
        kept = len(self._buffer) - self._at
        try:
            data = self._stream.read(max(kept, _READ_CHARACTERS))
            text = self._decoder.decode(data, final=not data)
        except UnicodeError:
            raise self.failure("is not JSON") from None
        self._bytes += len(data)
        if self._bytes > self._max_bytes:
            raise _TooLargeError
        self._line += self._buffer.count("\n", 0, self._at)
        self._buffer, self._at = self._buffer[self._at :] + text, 0
        return bool(data)

    def failure(self, why: str) -> _NotReadError:
        """Return the error about the place that was read to."""
        line = self._line + self._buffer.count("\n", 0, self._at)
        return _NotReadError(f"line {line} {why}" if line > 1 else f"it {why}")

    def peek(self) -> str:
        """Return the next character that is no white space; ``""`` at the end."""
        while True:
            found = _SPACE.match(self._buffer, self._at)
            self._at = found.end() if found is not None else self._at
            if self._at < len(self._buffer):
                self.empty = False
                return self._buffer[self._at]
            if not self._more():
                return ""

    def take(self, wanted: str) -> str:
        """Take the next character that is no white space, which is one of those wanted."""
        found = self.peek()
        if not found or found not in wanted:
            raise self.failure("is not JSON")
        self._at += 1
        return found

    def value(self) -> Any:
        """Take one whole value, of at most the size of an event."""
        self.peek()
        while True:
            try:
                value, end = _DECODER.raw_decode(self._buffer, self._at)
            except json.JSONDecodeError:
                if len(self._buffer) - self._at > _MOST_CHARACTERS:
                    raise self.failure(_TOO_LARGE) from None
                if not self._more():
                    raise self.failure("is not JSON") from None
            except (ValueError, RecursionError):
                raise self.failure("is not JSON") from None
            else:
                # A number may go on behind what was read.
                if end < len(self._buffer) or not self._more():
                    self.taken += end - self._at
                    self._at = end
                    return value

    def items(self) -> Iterator[Any]:
        """Take a list, an entry at a time."""
        self.take("[")
        if self.peek() == "]":
            self.take("]")
            return
        while True:
            yield self.value()
            if self.take(",]") == "]":
                return


def _records(values: _Values) -> Iterator[Any]:
    """Yield the records of a file of CloudTrail's, of what LookupEvents answers, of a list, or of lines."""
    while (start := values.peek()) != "":
        if start == "[":
            yield from values.items()
        elif start == "{":
            yield from _unfold(values)
        else:
            yield values.value()


def _unfold(values: _Values) -> Iterator[Any]:
    """Yield what an object lists as Records or Events; the object where it lists none."""
    record: dict[str, Any] | None = {}
    before = values.taken
    values.take("{")
    while values.peek() != "}" or values.taken > before:
        name = values.value()
        values.take(":")
        if name in ("Records", "Events") and values.peek() == "[":
            record = None
            yield from values.items()
        else:
            value = values.value()
            if record is not None:
                record[name] = value
        if record is not None and values.taken - before > _MOST_CHARACTERS:
            raise values.failure(_TOO_LARGE)
        if values.take(",}") == "}":
            break
    else:
        values.take("}")
    if record is not None:
        yield record


def put_into(facts: Facts, events: tuple[EventFacts, ...]) -> Facts:
    """Return facts with these events instead of those that CloudTrail was, or was not, asked for."""
    missed = tuple(one for one in facts.gaps if one.what != LOOKUP)
    return replace(facts, events=events, gaps=missed)


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
    via = _service(record, identity)
    region = _text(record, "awsRegion")
    principal, account = _caller(record, identity, region)
    of_session = _text(identity, "type") == "AssumedRole"
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
        _text(identity, "arn") if of_session else "",
    )


def _service(record: Mapping[str, Any], identity: Mapping[str, Any]) -> str:
    """Return the AWS service that called, or ``""``. The user agent does not count: callers choose theirs."""
    invoked_by, address = _text(identity, "invokedBy"), _text(record, "sourceIPAddress")
    if invoked_by:
        return invoked_by
    if address == _INTERNAL or address.endswith((".amazonaws.com", ".amazonaws.com.cn")):
        return address
    own = _text(record, "eventType") == "AwsServiceEvent" or _text(identity, "type") == "AWSService"
    return _INTERNAL if own else ""


def _caller(record: Mapping[str, Any], identity: Mapping[str, Any], region: str) -> tuple[str, str]:
    """Return the ARN and account of the caller: for a session its role, for one of another account that account.

    The ARN is ``""`` where a caller of the account itself is shown without one: it could be anybody.
    """
    issuer = _object(_object(identity, "sessionContext"), "sessionIssuer")
    account = _text(identity, "accountId") or _text(issuer, "accountId")
    arn = _text(identity, "arn")
    if _text(identity, "type") == "AssumedRole":
        arn = _text(issuer, "arn") or arn
    if not arn and account and account != _text(record, "recipientAccountId"):
        arn = f"arn:{partition_of(region)}:iam::{account}:root"
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
