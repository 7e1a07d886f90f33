"""The trail: a CloudTrail record for each call and account, in AWS's format, and the last use of each key.

It is a file of its own, written without waiting for the disk: it survives a crash of the process, and a power failure
may lose its last second, but never a key. Key material, plaintext and ciphertext are not in it.
"""

from __future__ import annotations

import json
import sqlite3
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sealwax.lab._apierror import ApiError
from sealwax.lab._database import Database
from sealwax.lab._model import Answer, CallerIdentity, KeyRecord, Members

KMS_SOURCE, STS_SOURCE = "kms.amazonaws.com", "sts.amazonaws.com"
_KEPT_SECONDS = 90 * 86400
# Anyone can send requests to a server, so the oldest events make room for new ones.
MAX_EVENTS = 100_000
MAX_BYTES = 256 << 20
_SWEEP_EVERY = 256
# As in CloudTrail, long texts are cut, and parameters that are too large are left out.
_MAX_RECORD_CHARACTERS = 64 << 10
_MAX_TEXT = 1024
_BATCH = 500
_LARGEST_NUMBER = (1 << 63) - 1
_SECRET = frozenset({"Plaintext", "CiphertextBlob", "ImportToken", "EncryptedKeyMaterial", "PublicKey"})
_UNRECORDED = frozenset({"GrantToken", "GrantTokens", "Recipient"})


@dataclass(frozen=True, slots=True)
class LastUsage:
    operation: str
    time: float
    event_id: str
    request_id: str


@dataclass(frozen=True, slots=True)
class Event:
    """One event of the trail.

    Attributes:
        text: CloudTrail's record as JSON text.
        time: the time in Unix seconds.
        username: the user, the session of a role, or ``root``.
        reason: why the call was allowed or denied; None if that was not decided.
    """

    text: str
    time: float
    username: str
    reason: str | None

    @property
    def record(self) -> Mapping[str, Any]:
        """CloudTrail's record, decoded at each access to save memory."""
        record: Mapping[str, Any] = json.loads(self.text)
        return record


@dataclass(frozen=True, slots=True)
class TrailEntry:
    """A call to record. Secrets in ``members`` and ``answer`` are left out of the record."""

    source: str
    name: str
    caller: CallerIdentity
    region: str
    source_ip: str
    user_agent: str
    request_id: str
    time: float
    read_only: bool
    members: Members
    answer: Answer | None
    error: ApiError | None
    resources: Sequence[KeyRecord]
    reason: str | None
    uses_key: bool


class Trail:
    """The events of a lab: the latest 100,000 of the last 90 days.

    Example:
        ``[event.record["eventName"] for event in lab.trail.events()]``
    """

    def __init__(
        self, database: Database, now: float, *, max_events: int = MAX_EVENTS, max_bytes: int = MAX_BYTES
    ) -> None:
        self._database = database
        self._max_events = max_events
        self._max_bytes = max_bytes
        self._since_swept = 0
        with database.writing() as connection:
            self._sweep(connection, now)

    def _sweep(self, connection: sqlite3.Connection, now: float) -> None:
        """Remove events that are too old or too many."""
        connection.execute("DELETE FROM events WHERE time < ?", (now - _KEPT_SECONDS,))
        connection.execute(
            "DELETE FROM events WHERE number <= (SELECT max(number) FROM events) - ?", (self._max_events,)
        )
        page_size, pages, unused = (
            connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_size", "page_count", "freelist_count")
        )
        if (pages - unused) * page_size > self._max_bytes:
            connection.execute(
                "DELETE FROM events WHERE number <= (SELECT (min(number) + max(number)) / 2 FROM events)"
            )

    def _append(self, entry: TrailEntry) -> None:
        """Record a call: for the caller's account, and for each other account that owns a key in it."""
        accounts = list(dict.fromkeys((entry.caller.account, *(key.account for key in entry.resources))))
        shared = str(uuid.uuid4()) if len(accounts) > 1 else None
        with self._database.writing() as connection:
            self._since_swept += 1
            if self._since_swept >= _SWEEP_EVERY:
                self._since_swept = 0
                self._sweep(connection, entry.time)
            for account in accounts:
                event_id = str(uuid.uuid4())
                record = _bounded(_record(entry, account, event_id, shared))
                connection.execute(
                    "INSERT INTO events (event_id, account, region, time, username, record, reason) "
                    "VALUES (?, ?, ?, ?, ?, ?, ?)",
                    (
                        event_id,
                        account,
                        entry.region,
                        entry.time,
                        _username(entry.caller),
                        record,
                        entry.reason and entry.reason[: 4 * _MAX_TEXT],
                    ),
                )
                if entry.uses_key and entry.error is None:
                    connection.executemany(
                        "INSERT OR REPLACE INTO last_usage VALUES (?, ?, ?, ?, ?, ?, ?)",
                        [
                            (account, key.region, key.key_id, entry.name, entry.time, event_id, entry.request_id)
                            for key in entry.resources
                            if key.account == account
                        ],
                    )

    def _last_usage(self, key: KeyRecord) -> LastUsage | None:
        with self._database.reading() as connection:
            row = connection.execute(
                "SELECT operation, time, event_id, request_id FROM last_usage "
                "WHERE account=? AND region=? AND key_id=?",
                (key.account, key.region, key.key_id),
            ).fetchone()
            return LastUsage(*row) if row else None

    def events(self, *, account: str | None = None, region: str | None = None) -> list[Event]:
        """Return the events, oldest first.

        Args:
            account: only the events of this account.
            region: only the events of this Region.

        Returns:
            The events.
        """
        with self._database.reading() as connection:
            rows = connection.execute(
                "SELECT record, time, username, reason FROM events "
                "WHERE (? IS NULL OR account=?) AND (? IS NULL OR region=?) ORDER BY number",
                (account, account, region, region),
            )
            return [Event(*row) for row in rows]

    def latest(self, *, account: str, region: str) -> Iterator[Event]:
        """Yield the events of an account in a Region, latest first, reading them in batches.

        Args:
            account: the account.
            region: the Region.
        """
        before = _LARGEST_NUMBER
        while True:
            with self._database.reading() as connection:
                rows = connection.execute(
                    "SELECT number, record, time, username, reason FROM events "
                    "WHERE number < ? AND account=? AND region=? ORDER BY number DESC LIMIT ?",
                    (before, account, region, _BATCH),
                ).fetchall()
            for _, *columns in rows:
                yield Event(*columns)
            if not rows:
                return
            before = rows[-1][0]


def _bounded(record: Answer) -> str:
    """A record's JSON, with what callers may have made large cut or left out."""
    cut = {name: value[:_MAX_TEXT] if isinstance(value, str) else value for name, value in record.items()}
    text = json.dumps(cut, separators=(",", ":"))
    if len(text) > _MAX_RECORD_CHARACTERS:
        text = json.dumps(cut | {"requestParameters": None, "responseElements": None}, separators=(",", ":"))
    return text


def _record(entry: TrailEntry, account: str, event_id: str, shared: str | None) -> Answer:
    record: Answer = {
        "eventVersion": "1.11",
        "userIdentity": _identity(entry.caller),
        "eventTime": _iso(entry.time),
        "eventSource": entry.source,
        "eventName": entry.name,
        "awsRegion": entry.region,
        "sourceIPAddress": entry.source_ip,
        "userAgent": entry.user_agent,
    }
    if entry.error is not None:
        # CloudTrail shortens this code only.
        code = entry.error.code
        record["errorCode"] = "AccessDenied" if code == "AccessDeniedException" else code
        record["errorMessage"] = entry.error.message
    record["requestParameters"] = _shown(entry.members) or None
    record["responseElements"] = None if entry.read_only or entry.answer is None else _shown(entry.answer) or None
    if entry.answer is not None:
        materials = {
            _camel(name): entry.answer[name]
            for name in ("KeyMaterialId", "SourceKeyMaterialId", "DestinationKeyMaterialId")
            if name in entry.answer
        }
        if materials:
            record["additionalEventData"] = materials
    record["requestID"] = entry.request_id
    record["eventID"] = event_id
    record["readOnly"] = entry.read_only
    if entry.resources:
        record["resources"] = [
            {"accountId": key.account, "type": "AWS::KMS::Key", "ARN": key.arn} for key in entry.resources
        ]
    record["eventType"] = "AwsApiCall"
    record["managementEvent"] = True
    record["recipientAccountId"] = account
    if shared is not None:
        record["sharedEventID"] = shared
    record["eventCategory"] = "Management"
    return record


def _identity(caller: CallerIdentity) -> Answer:
    principal = caller.principal
    identity: Answer = {
        "type": "Root" if principal is None else "IAMUser" if principal.kind == "user" else "AssumedRole",
        "principalId": caller.user_id,
        "arn": caller.arn,
        "accountId": caller.account,
        "accessKeyId": caller.access_key_id,
    }
    if principal is not None and principal.kind == "user":
        identity["userName"] = principal.name
    elif principal is not None:
        identity["sessionContext"] = {
            "sessionIssuer": {
                "type": "Role",
                "principalId": principal.unique_id,
                "arn": principal.arn,
                "accountId": principal.account,
                "userName": principal.name,
            }
        }
    return identity


def _username(caller: CallerIdentity) -> str:
    if caller.principal is None:
        return "root"
    return caller.session_name or caller.principal.name


def _shown(members: Members) -> Answer:
    shown: Answer = {}
    for name, value in members.items():
        if name in _SECRET or name in _UNRECORDED:
            continue
        if isinstance(value, dict) and "Context" not in name:
            shown[_camel(name)] = _shown(value)
        elif isinstance(value, list):
            shown[_camel(name)] = [_shown(item) if isinstance(item, dict) else item for item in value]
        else:
            shown[_camel(name)] = value
    return shown


def _camel(name: str) -> str:
    return name[:1].lower() + name[1:]


def _iso(time: float) -> str:
    return datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
