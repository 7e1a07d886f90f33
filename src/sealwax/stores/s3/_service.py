"""Names of S3 objects, and the one place that sends requests to S3."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, TypeVar

import botocore.exceptions as foreign
from botocore.config import Config

from sealwax._aws import refusals
from sealwax._aws.session import MOST_CONNECTIONS, OpeningTurns, open_session, pack_session
from sealwax._core import fork_locks, pickling
from sealwax._text import printable
from sealwax.errors import SealwaxError, StoreError
from sealwax.stores._store import INVALID_NAME, S3_SCHEME, is_other_arn, split_s3
from sealwax.stores.s3 import _responses
from sealwax.stores.s3._beside import Beside

if TYPE_CHECKING:
    from sealwax._aws.session import Session

T = TypeVar("T")
Response = dict[str, Any]
"""What botocore returns; _REQUIRED says which of its fields have been checked."""

# What S3 answers if a condition on the existing object does not hold.
UNMET: Final = frozenset({"PreconditionFailed", "412"})
# ... and if it is another object, or gone, or shorter.
CHANGED: Final = UNMET | {"NoSuchKey", "NoSuchVersion", "404", "InvalidRange", "416"}
# ... and if another write of the object is in progress, so that S3 cannot tell yet.
CONFLICT: Final = frozenset({"ConditionalRequestConflict", "OperationAborted", "409"})
# S3's limits: https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html
MAX_KEY_BYTES: Final = 1024
MIN_PART_BYTES: Final = 5 << 20
MAX_PART_BYTES: Final = 5 << 30
MAX_PARTS: Final = 10_000
# How often what S3 asks to repeat is tried, beyond botocore's own retries.
ATTEMPTS: Final = 4
# What S3's responses always have. A proxy's login page is a 200 too, and what was sent to it is lost.
_REQUIRED: Final[dict[str, dict[str, type]]] = {
    "get_object": {"ETag": str, "LastModified": datetime, "ContentLength": int},
    "head_object": {"ETag": str, "LastModified": datetime, "ContentLength": int},
    "put_object": {"ETag": str},
    "create_multipart_upload": {"UploadId": str},
    "upload_part": {"ETag": str},
    "upload_part_copy": {"CopyPartResult": dict},
    "complete_multipart_upload": {"ETag": str},
    "abort_multipart_upload": {},
    "get_object_tagging": {"TagSet": list},
    "copy_object": {"CopyObjectResult": dict},
    "delete_object": {},
    "get_object_acl": {"Owner": dict, "Grants": list},
}
# Operations that accept a condition.
_WRITES: Final = ("put_object", "complete_multipart_upload", "copy_object", "delete_object")
_PAGE: Final[dict[str, type]] = {"IsTruncated": bool}
_LISTED: Final[dict[str, type]] = {"Key": str, "Size": int, "ETag": str, "LastModified": datetime}
_VERSION: Final[dict[str, type]] = {**_LISTED, "VersionId": str, "IsLatest": bool}
_PART: Final[dict[str, type]] = {"ETag": str}
_TAG: Final[dict[str, type]] = {"Key": str, "Value": str}
# botocore retries; AWS_MAX_ATTEMPTS says how often.
_CONFIG: Final = Config(
    connect_timeout=5,
    read_timeout=60,
    retries={"mode": "standard"},
    max_pool_connections=MOST_CONNECTIONS,
    user_agent_extra="sealwax",
)


@dataclass(frozen=True, slots=True)
class ObjectName:
    """The name of an S3 object.

    Attributes:
        bucket: the bucket, or an access point's alias or ARN.
        key: the key, with any characters, none of them quoted.
    """

    bucket: str
    key: str

    def __str__(self) -> str:
        return f"{S3_SCHEME}{self.bucket}/{self.key}"


def parse(name: str, *, prefix: bool = False) -> ObjectName:
    """Return the bucket and key of ``s3://bucket/key``; the bucket may be an access point's alias or ARN.

    Args:
        name: the name.
        prefix: whether the key may be empty.

    Raises:
        StoreError: it is not a valid name.
    """
    bucket, key = split_s3(name)
    shown, why = printable(name), ""
    try:
        if len(key.encode()) > MAX_KEY_BYTES:
            shown, why = f"{printable(name[:80])}...", ": its key has more than 1024 bytes"
    except UnicodeEncodeError:
        why = ": its key is not UTF-8"
    if is_other_arn(bucket):
        why = ": of ARNs, only an access point's can be used, as in s3://arn:aws:s3:REGION:ACCOUNT:accesspoint/NAME/key"
    elif not name.startswith(S3_SCHEME) or not bucket or (not key and not prefix):
        why = ", such as s3://bucket/key"
    if why:
        raise StoreError(f"'{shown}' is not an S3 object name{why}", code=INVALID_NAME)
    # HTTP clients resolve the dots as in a path, and the signature no longer matches.
    if any(part in (".", "..") for part in key.split("/")):
        raise StoreError(f"'{printable(name)}' cannot be requested: a part of its key is '.' or '..'")
    return ObjectName(bucket, key)


def pause(attempt: int) -> None:
    """Wait a little before the next attempt."""
    time.sleep(random.uniform(0, 0.1 * 2**attempt))  # noqa: S311


class Service:
    """S3 through one session, for any number of objects and stores. Safe to use from many threads.

    A forked child opens connections of its own. A pickle holds the session's profile, Region and endpoint.

    Args:
        session: a boto3 Session; an ordinary one by default.
        requester_pays: whether the caller pays for the requests, which a requester-pays bucket demands.

    Raises:
        NotPicklableError: when pickled, if the session holds more than a profile, Region and endpoint.

    Example:
        >>> source = ObjectReader("s3://public-data/a.swx", service=Service(requester_pays=True))
    """

    def __init__(self, session: Session | None = None, *, requester_pays: bool = False) -> None:
        self._session = session
        self._payer = {"RequestPayer": "requester"} if requester_pays else {}
        self._client: Any = None
        self._opening = OpeningTurns()
        # Which of the objects that were just listed have no instruction file.
        self._beside = Beside()
        fork_locks.adopt(session)
        fork_locks.renew_in_children(self)

    def _after_fork(self) -> tuple[()]:
        self._opening = OpeningTurns()
        self._client = None
        return ()

    def __getstate__(self) -> dict[str, object]:
        session = pickling.carried(self._session, pack_session)
        return {"session": session, "requester_pays": bool(self._payer)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        Service.__init__(self, **pickling.arrived(state))

    def client(self) -> Any:
        """Return the boto3 client.

        Raises:
            ConfigurationError: the session cannot make a client.
            StoreError: the session returns a client that the parent process uses too.
            CredentialsError: there are no credentials. The next call looks for them again.
        """
        fork_locks.notice()
        if self._client is not None:
            return self._client
        with self._opening.turn():
            if self._client is None:
                # A new session each time: a session reads settings once, and missing ones may be set later.
                session = open_session() if self._session is None else self._session
                client = refusals.open_client(
                    lambda: session.client("s3", config=_CONFIG), f"opening a client for {S3_SCHEME}"
                )
                if fork_locks.is_shared(client):
                    raise StoreError(f"opening a client for S3 failed: {fork_locks.SHARED}")
                fork_locks.adopt(client)
                self._client = client
            return self._client

    def call(self, operation: str, doing: str, name: ObjectName, **parameters: object) -> Response:
        """Send a request about an object.

        Args:
            operation: boto3's name of the operation.
            doing: what is being done, as the subject of a sentence: ``"reading"``.
            name: the object.
            parameters: the operation's further parameters.

        Returns:
            S3's response. The fields that such a response always has were checked.

        Raises:
            StoreError: S3 refused, or could not be reached.
            CredentialsError: there are no credentials, or S3 does not accept them.
        """
        client = self.client()
        conditional = operation in _WRITES and ("IfMatch" in parameters or "IfNoneMatch" in parameters)
        answer: Response = _ask(
            lambda: getattr(client, operation)(Bucket=name.bucket, Key=name.key, **self._payer, **parameters),
            doing,
            str(name),
            conditional=conditional,
        )
        _check(answer, _REQUIRED[operation], doing, str(name))
        if operation == "upload_part_copy":
            _check(answer["CopyPartResult"], _PART, doing, str(name))
        if operation == "copy_object":
            _check(answer["CopyObjectResult"], _PART, doing, str(name))
        for tag in answer["TagSet"] if operation == "get_object_tagging" else ():
            _check(tag, _TAG, doing, str(name))
        return answer

    def list(self, prefix: ObjectName) -> Iterator[Response]:
        """List the objects whose keys begin with a prefix, sorted by the bytes of their keys.

        Args:
            prefix: the bucket and the prefix, which may be empty.

        Returns:
            An iterator over S3's records, one for each object.

        Raises:
            StoreError, CredentialsError: as for ``call``.
        """
        doing = "listing"
        paginator = self.client().get_paginator("list_objects_v2")
        pages = paginator.paginate(Bucket=prefix.bucket, Prefix=prefix.key, **self._payer)
        remaining = iter(pages)
        more = False
        while (page := _ask(lambda: next(remaining, None), doing, str(prefix))) is not None:
            _check(page, _PAGE, doing, str(prefix))
            for record in page.get("Contents", ()):
                _check(record, _LISTED, doing, str(prefix))
            keys = [record["Key"] for record in page.get("Contents", ())]
            self._beside.note(prefix.bucket, keys, more=page["IsTruncated"])
            yield from page.get("Contents", ())
            more = page["IsTruncated"]
        if more:  # but no token for the rest, which botocore takes for the end
            raise _responses.not_s3(doing, str(prefix))

    def old_versions(self, prefix: ObjectName) -> Iterator[Response]:
        """List the versions of objects that are no longer current.

        Args:
            prefix: the bucket and the prefix, which may be empty.

        Returns:
            An iterator over S3's records, one for each version; delete markers are not among them.

        Raises:
            StoreError, CredentialsError: as for ``call``.
        """
        doing = "listing the versions of"
        pages = (
            self.client()
            .get_paginator("list_object_versions")
            .paginate(Bucket=prefix.bucket, Prefix=prefix.key, **self._payer)
        )
        remaining = iter(pages)
        more = False
        while (page := _ask(lambda: next(remaining, None), doing, str(prefix))) is not None:
            _check(page, _PAGE, doing, str(prefix))
            for record in page.get("Versions", ()):
                _check(record, _VERSION, doing, str(prefix))
                if not record["IsLatest"]:
                    yield record
            more = page["IsTruncated"]
        if more:
            raise _responses.not_s3(doing, str(prefix))

    def newest_versions(self, name: ObjectName, count: int) -> Sequence[str]:
        """Return the ids of an object's newest versions, the newest first. Needs s3:ListBucketVersions.

        Args:
            name: the object.
            count: how many to return at most.

        Returns:
            The ids; fewer than ``count`` if there are fewer.

        Raises:
            StoreError, CredentialsError: as for ``call``.
        """
        doing = "reading the versions of"
        ask = {"Bucket": name.bucket, "Prefix": name.key, "MaxKeys": count, **self._payer}
        page = _ask(lambda: self.client().list_object_versions(**ask), doing, str(name))
        _check(page, _PAGE, doing, str(name))
        for record in page.get("Versions", ()):
            _check(record, _VERSION, doing, str(name))
        return [each["VersionId"] for each in page.get("Versions", ()) if each["Key"] == name.key]

    def ownership(self, name: ObjectName) -> str | None:
        """Return how a bucket decides who owns its objects: ``"BucketOwnerEnforced"`` if they have no ACLs.

        None if the caller pays for the requests: the bucket is another's, who alone may ask this.

        Args:
            name: an object in the bucket.

        Raises:
            StoreError, CredentialsError: as for ``call``.
        """
        if self._payer:
            return None
        doing = "reading the object ownership of"
        answer = _ask(lambda: self.client().get_bucket_ownership_controls(Bucket=name.bucket), doing, str(name))
        _check(answer, {"OwnershipControls": dict}, doing, str(name))
        rules = answer["OwnershipControls"].get("Rules") or [{}]
        return str(rules[0].get("ObjectOwnership"))


def _ask(ask: Callable[[], T], doing: str, name: str, *, conditional: bool = False) -> T:
    """Return what S3 answers; raise our error for one of botocore's, and any other unchanged."""
    try:
        return ask()
    except Exception as error:
        # botocore follows a redirect to another Region, and that one's, without end.
        if not (refusals.is_foreign(error) or isinstance(error, RecursionError)):
            raise
        failure: SealwaxError = _responses.translate(error, doing, name, conditional=conditional)
        is_botocores = isinstance(error, foreign.ClientError | foreign.BotoCoreError)
        if isinstance(failure, StoreError) and (not is_botocores or isinstance(error, foreign.PaginationError)):
            failure = _responses.not_s3(doing, name)
    # Raised outside, so that it is not chained to an error that may hold secrets.
    raise failure


def _check(answer: object, required: dict[str, type], doing: str, name: str) -> None:
    if not isinstance(answer, dict) or not all(isinstance(answer.get(field), kind) for field, kind in required.items()):
        raise _responses.not_s3(doing, name)
