"""CloudTrail events of KMS, from the files that a trail writes and from responses of LookupEvents.

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
from typing import Final

from sealwax._aws.partitions import partition_of
from sealwax._core import trusted
from sealwax._core.files import reported
from sealwax._text import printable
from sealwax.audit._facts import EventFacts, Facts
from sealwax.errors import FactsError

_KIND: Final = trusted.Kind("the events file", FactsError)
MAX_BYTES: Final = 512 << 20  # uncompressed
MAX_EVENTS: Final = 1_000_000
# CloudTrail limits an event to 256 KiB.
_MAX_CHARACTERS: Final = 1 << 20
# For the ids and contexts of all events; the rest repeats in many of them.
_MAX_KEPT_CHARACTERS: Final = 128 << 20
_READ_CHARACTERS: Final = 1 << 16
#: The action that looks up events if no file is given.
LOOKUP: Final = "cloudtrail:LookupEvents"
_INTERNAL: Final = "AWS Internal"  # how CloudTrail shows a service that it does not name
_GZIP: Final = b"\x1f\x8b"
_SPACE: Final = re.compile(r"[ \t\r\n]+")
_TOO_LARGE: Final = f"is not JSON, or has an entry with more than {_MAX_CHARACTERS:,} characters"
_DECODER: Final = json.JSONDecoder()


def read_events(path: str, *, max_bytes: int = MAX_BYTES) -> tuple[EventFacts, ...]:
    """Read KMS events from a file that a trail wrote.

    The file is JSON with Records or Events, a JSON list, or has a JSON record per line. It may be compressed by gzip.

    Args:
        path: the path of the file.
        max_bytes: the largest uncompressed size.

    Returns:
        The events, oldest first, for ``with_events``.

    Raises:
        FactsError: it is not such a file, it is too large, or other users can write it.
        FileError: it cannot be read.
    """
    with reported(f"reading {_KIND.name}", path), trusted.open_file(path, _KIND) as file:
        # A pipe cannot be read from the start again, so this only peeks.
        if file.peek(len(_GZIP))[: len(_GZIP)] != _GZIP:
            return _read(file, path, max_bytes, MAX_EVENTS)
        try:
            with gzip.GzipFile(fileobj=file) as unpacked:
                return _read(unpacked, path, max_bytes, MAX_EVENTS)
        except (EOFError, zlib.error, gzip.BadGzipFile):
            raise FactsError(f"'{printable(path)}' is a damaged gzip file") from None


def load(data: bytes, name: str, *, max_events: int = MAX_EVENTS) -> tuple[EventFacts, ...]:
    """Parse KMS events, oldest first.

    Args:
        name: the name of the file in errors.
        max_events: the largest number of events, including those of other services.

    Raises:
        FactsError: the data has no CloudTrail events.
    """
    return _read(io.BufferedReader(io.BytesIO(data)), name, MAX_BYTES, max_events)


def _read(
    stream: io.BufferedReader | gzip.GzipFile, name: str, max_bytes: int, max_events: int
) -> tuple[EventFacts, ...]:
    """Return the events. They are decoded one by one, because a small compressed file can hold any number of them."""
    events: dict[str, EventFacts] = {}
    kept = 0
    values = _Values(stream, max_bytes)
    try:
        for number, record in enumerate(_records(values), 1):
            if number > max_events:
                raise FactsError(f"'{printable(name)}' has more than {max_events:,} events; give fewer days")
            try:
                event = event_of(record)
            except ValueError as error:
                raise FactsError(f"event {number} of '{printable(name)}' is not a CloudTrail event: {error}") from None
            if event is not None and event.id not in events:
                kept += len(event.id) + sum(len(key) + len(value) for key, value in (event.context or {}).items())
                if kept > _MAX_KEPT_CHARACTERS:
                    raise FactsError(f"the events of '{printable(name)}' are too large together; give fewer days")
                events[event.id] = event
    except _TooLargeError:
        raise FactsError(f"'{printable(name)}' is larger than {max_bytes} bytes; give fewer days of events") from None
    except _UnreadableFileError as error:
        raise FactsError(f"'{printable(name)}' has no CloudTrail events: {error}") from None
    if values.empty:
        raise FactsError(f"'{printable(name)}' is empty, so it has no CloudTrail events")
    return tuple(sorted(events.values(), key=lambda event: (event.time, event.id)))


class _TooLargeError(Exception):
    pass


class _UnreadableFileError(Exception):
    """Why the file cannot be read."""


class _Values:
    """The JSON values of a file, one at a time in memory.

    Attributes:
        empty: whether only white space was read so far.
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
        """Read at least as much as the buffer holds; return whether there was more."""
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

    def failure(self, why: str) -> _UnreadableFileError:
        """Return an error about the current line."""
        line = self._line + self._buffer.count("\n", 0, self._at)
        return _UnreadableFileError(f"line {line} {why}" if line > 1 else f"it {why}")

    def peek(self) -> str:
        """Return the next character that is not white space; empty at the end."""
        while True:
            space = _SPACE.match(self._buffer, self._at)
            self._at = space.end() if space is not None else self._at
            if self._at < len(self._buffer):
                self.empty = False
                return self._buffer[self._at]
            if not self._more():
                return ""

    def take(self, wanted: str) -> str:
        """Take the next character that is not white space, which must be one of those wanted."""
        character = self.peek()
        if not character or character not in wanted:
            raise self.failure("is not JSON")
        self._at += 1
        return character

    def value(self) -> object:
        """Take one value, of at most the size of an event."""
        self.peek()
        while True:
            try:
                value: object
                value, end = _DECODER.raw_decode(self._buffer, self._at)
            except json.JSONDecodeError:
                if len(self._buffer) - self._at > _MAX_CHARACTERS:
                    raise self.failure(_TOO_LARGE) from None
                if not self._more():
                    raise self.failure("is not JSON") from None
            except (ValueError, RecursionError):
                raise self.failure("is not JSON") from None
            else:
                # A number may continue after the buffer.
                if end < len(self._buffer) or not self._more():
                    self.taken += end - self._at
                    self._at = end
                    return value

    def items(self) -> Iterator[object]:
        """Take a list, item by item."""
        self.take("[")
        if self.peek() == "]":
            self.take("]")
            return
        while True:
            yield self.value()
            if self.take(",]") == "]":
                return


def _records(values: _Values) -> Iterator[object]:
    """Yield the records of a trail's file, a response of LookupEvents, a list, or lines."""
    while (start := values.peek()) != "":
        if start == "[":
            yield from values.items()
        elif start == "{":
            yield from _unfold(values)
        else:
            yield values.value()


def _unfold(values: _Values) -> Iterator[object]:
    """Yield the Records or Events of an object, or the object itself if it has neither."""
    record: dict[object, object] | None = {}
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
        if record is not None and values.taken - before > _MAX_CHARACTERS:
            raise values.failure(_TOO_LARGE)
        if values.take(",}") == "}":
            break
    else:
        values.take("}")
    if record is not None:
        yield record


def with_events(facts: Facts, events: tuple[EventFacts, ...]) -> Facts:
    """Return facts with these events in place of those that were looked up.

    Args:
        facts: the facts.
        events: the events, such as those of ``read_events``.

    Returns:
        New facts, without gaps about events.
    """
    return replace(facts, events=events, gaps=tuple(gap for gap in facts.gaps if gap.what != LOOKUP))


def event_of(record: object) -> EventFacts | None:
    """Return an event as facts, or None for an event of another service.

    Args:
        record: a CloudTrail record, or an entry of LookupEvents, which has one as text.

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


def _service(record: Mapping[str, object], identity: Mapping[str, object]) -> str:
    """Return the AWS service that called, or an empty string. Callers choose their user agent, so it is ignored."""
    invoked_by, address = _text(identity, "invokedBy"), _text(record, "sourceIPAddress")
    if invoked_by:
        return invoked_by
    if address == _INTERNAL or address.endswith((".amazonaws.com", ".amazonaws.com.cn")):
        return address
    own = _text(record, "eventType") == "AwsServiceEvent" or _text(identity, "type") == "AWSService"
    return _INTERNAL if own else ""


def _caller(record: Mapping[str, object], identity: Mapping[str, object], region: str) -> tuple[str, str]:
    """Return the ARN and account of the caller: for a session its role, for a hidden foreign caller its account.

    The ARN is empty if a caller of the account itself is shown without one, because it could be anyone.
    """
    issuer = _object(_object(identity, "sessionContext"), "sessionIssuer")
    account = _text(identity, "accountId") or _text(issuer, "accountId")
    arn = _text(identity, "arn")
    if _text(identity, "type") == "AssumedRole":
        arn = _text(issuer, "arn") or arn
    if not arn and account and account != _text(record, "recipientAccountId"):
        arn = f"arn:{partition_of(region)}:iam::{account}:root"
    return arn, account


def _keys(record: Mapping[str, object], request: Mapping[str, object]) -> tuple[str, ...]:
    resources = record.get("resources")
    arns = (
        [_text(entry, "ARN") for entry in resources if isinstance(entry, dict)] if isinstance(resources, list) else []
    )
    return tuple(dict.fromkeys(arn for arn in arns or [_text(request, "keyId")] if ":key/" in arn))


def _context(request: Mapping[str, object]) -> Mapping[str, str] | None:
    # ReEncrypt has two. The source context is the one that the data was encrypted with.
    for name in ("encryptionContext", "sourceEncryptionContext"):
        given = request.get(name)
        if isinstance(given, dict):
            if not all(isinstance(value, str) and _is_valid(key + value) for key, value in given.items()):
                raise ValueError("its encryption context has a value that is not a string")
            return given
    return None


def _object(record: Mapping[str, object], name: str) -> Mapping[str, object]:
    given = record.get(name)
    if given is not None and not isinstance(given, dict):
        raise ValueError(f"its {name} is not an object")
    return given or {}


def _text(record: Mapping[str, object], name: str) -> str:
    given = record.get(name)
    if given is not None and not (isinstance(given, str) and len(given) <= 2048 and _is_valid(given)):
        raise ValueError(f"its {name} is not a string, or is too long")
    return given or ""


def _is_valid(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _required(record: Mapping[str, object], name: str) -> str:
    text = _text(record, name)
    if not text:
        raise ValueError(f"it has no {name}")
    return text


def _time(text: str) -> datetime:
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError("its eventTime is not an ISO 8601 time") from None
    time = time if time.tzinfo else time.replace(tzinfo=UTC)
    if not 1970 <= time.year <= 2999:
        raise ValueError("its eventTime is not between the years 1970 and 2999")
    return time
