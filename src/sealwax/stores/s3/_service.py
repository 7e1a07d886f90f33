"""Names of objects, and the one place from which S3 is asked."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, TypeVar

import botocore.exceptions as foreign
from botocore.config import Config

from sealwax._aws import refusals
from sealwax._aws.session import MOST_CONNECTIONS, Opening, open_session, pack_session
from sealwax._core import fork_locks, pickling
from sealwax._core.context import printable
from sealwax.errors import SealwaxError, StoreError
from sealwax.stores import NO_NAME, S3_SCHEME
from sealwax.stores.s3 import _responses

if TYPE_CHECKING:
    from sealwax._aws.session import Session

T = TypeVar("T")

# What S3 says when a condition on the object that stands there does not hold.
UNMET: Final = frozenset({"PreconditionFailed", "412"})
# ... and when it is another one, or gone, or shorter than it was.
CHANGED: Final = UNMET | {"NoSuchKey", "NoSuchVersion", "404", "InvalidRange", "416"}
# ... and when another write of the object is under way, so that it cannot tell yet.
CONFLICT: Final = frozenset({"ConditionalRequestConflict", "OperationAborted", "409"})
MAX_KEY_BYTES: Final = 1024
# What S3's answers always have. A proxy's page that wants a login is a 200 too, and what was put there went nowhere.
_ALWAYS: Final[dict[str, dict[str, type]]] = {
    "get_object": {"ETag": str, "LastModified": datetime, "ContentLength": int},
    "head_object": {"ETag": str, "LastModified": datetime, "ContentLength": int},
    "put_object": {"ETag": str},
    "create_multipart_upload": {"UploadId": str},
    "upload_part": {"ETag": str},
    "upload_part_copy": {"CopyPartResult": dict},
    "complete_multipart_upload": {"ETag": str},
    "abort_multipart_upload": {},
    "get_object_tagging": {"TagSet": list},
}
# Those that take a condition.
_WRITES: Final = ("put_object", "complete_multipart_upload")
_PAGE: Final[dict[str, type]] = {"IsTruncated": bool}
_LISTED: Final[dict[str, type]] = {"Key": str, "Size": int, "ETag": str, "LastModified": datetime}
_PART: Final[dict[str, type]] = {"ETag": str}
_TAG: Final[dict[str, type]] = {"Key": str, "Value": str}
# How often is AWS_MAX_ATTEMPTS to say; botocore repeats what S3 asks to repeat.
_CONFIG: Final = Config(
    connect_timeout=5,
    read_timeout=60,
    retries={"mode": "standard"},
    max_pool_connections=MOST_CONNECTIONS,
    user_agent_extra="sealwax",
)


@dataclass(frozen=True, slots=True)
class ObjectName:
    """A bucket, and a key in it: any characters at all, as they are. In a URL's sense nothing is quoted."""

    bucket: str
    key: str

    def __str__(self) -> str:
        return f"{S3_SCHEME}{self.bucket}/{self.key}"


def parse(name: str, *, prefix: bool = False) -> ObjectName:
    """Return the bucket and key of ``s3://bucket/key``.

    Args:
        prefix: whether the key may be empty.

    Raises:
        StoreError: it is no such name.
    """
    bucket, _, key = name.removeprefix(S3_SCHEME).partition("/")
    try:
        size = len(key.encode())
    except UnicodeEncodeError:
        raise StoreError(f"'{printable(name)}' is no name of an object: a key is UTF-8", code=NO_NAME) from None
    if bucket.startswith("arn:"):
        raise StoreError(
            f"'{printable(name)}' is no name of an object: an access point is named by its alias, as in "
            "s3://NAME-METADATA-s3alias/key",
            code=NO_NAME,
        )
    if not name.startswith(S3_SCHEME) or not bucket or (not key and not prefix):
        raise StoreError(f"'{printable(name)}' is no name of an object: one looks like s3://bucket/key", code=NO_NAME)
    if size > MAX_KEY_BYTES:
        raise StoreError(
            f"'{printable(name[:80])}...' is no name of an object: its key has more than 1024 bytes", code=NO_NAME
        )
    # Clients take the dots for steps in a path, and the signature no longer fits.
    if any(part in (".", "..") for part in key.split("/")):
        raise StoreError(f"'{printable(name)}' cannot be asked for: a part of its key is '.' or '..'")
    return ObjectName(bucket, key)


class Service:
    """S3 as one session sees it. Safe to use from many threads; a forked child makes its own connections.

    Args:
        session: where the client comes from; None makes an ordinary boto3 Session. Of one, profile, Region and endpoint
            go into a pickle; :class:`~sealwax.NotPicklableError` where it has more.
    """

    def __init__(self, session: Session | None = None) -> None:
        self._session = session
        self._client: Any = None
        self._opening = Opening()
        fork_locks.adopt(session)
        fork_locks.renew_in_children(self)

    def _after_fork(self) -> tuple[()]:
        self._opening = Opening()
        self._client = None
        return ()

    def __getstate__(self) -> dict[str, Any]:
        return {"session": pickling.carried(self._session, pack_session)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        Service.__init__(self, **pickling.arrived(state))

    def client(self) -> Any:
        """Return the client.

        Raises:
            ConfigurationError: the session cannot make one.
            StoreError: the session gives out one that its parent uses too.
            CredentialsError: there are no credentials; the next call looks for them again.
        """
        fork_locks.notice()
        if self._client is not None:
            return self._client
        with self._opening.turn():
            if self._client is None:
                # Another one each time: a session reads the settings once, and what is missing may come.
                session = open_session() if self._session is None else self._session
                client = refusals.made(
                    lambda: session.client("s3", config=_CONFIG), f"opening a client for {S3_SCHEME}"
                )
                if fork_locks.is_shared(client):
                    raise StoreError(f"opening a client for S3 failed: {fork_locks.SHARED}")
                fork_locks.adopt(client)
                self._client = client
            return self._client

    def call(self, operation: str, doing: str, name: ObjectName, **parameters: Any) -> dict[str, Any]:
        """Return S3's answer about an object.

        Args:
            operation: boto3's name of it.
            doing: as the subject of a sentence.

        Raises:
            StoreError: S3 refused, or could not be reached.
            CredentialsError: there are no credentials, or S3 does not accept them.
        """
        client = self.client()
        conditional = operation in _WRITES and ("IfMatch" in parameters or "IfNoneMatch" in parameters)
        answer: dict[str, Any] = _asked(
            lambda: getattr(client, operation)(Bucket=name.bucket, Key=name.key, **parameters),
            doing,
            str(name),
            conditional=conditional,
        )
        _check(answer, _ALWAYS[operation], doing, str(name))
        if operation == "upload_part_copy":
            _check(answer["CopyPartResult"], _PART, doing, str(name))
        for tag in answer["TagSet"] if operation == "get_object_tagging" else ():
            _check(tag, _TAG, doing, str(name))
        return answer

    def list(self, prefix: ObjectName) -> Iterator[dict[str, Any]]:
        """Yield what S3 lists of the objects whose keys begin with a prefix, in the order of their keys' bytes.

        Raises:
            StoreError: as for :meth:`call`.
        """
        doing = "listing"
        pages = self.client().get_paginator("list_objects_v2").paginate(Bucket=prefix.bucket, Prefix=prefix.key)
        turning = iter(pages)
        more = False
        while (page := _asked(lambda: next(turning, None), doing, str(prefix))) is not None:
            _check(page, _PAGE, doing, str(prefix))
            for each in page.get("Contents", ()):
                _check(each, _LISTED, doing, str(prefix))
                yield each
            more = page["IsTruncated"]
        if more:  # and no token to ask for the rest with: botocore takes that for the end
            raise _responses.not_s3(doing, str(prefix))


def _asked(ask: Callable[[], T], doing: str, name: str, *, conditional: bool = False) -> T:
    """Return what S3 answers, or raise our error for one of botocore's; any other as it is."""
    try:
        return ask()
    except Exception as error:
        if not refusals.is_foreign(error):
            raise
        failure: SealwaxError = _responses.translate(error, doing, name, conditional=conditional)
        botocores = isinstance(error, foreign.ClientError | foreign.BotoCoreError)
        if isinstance(failure, StoreError) and (not botocores or isinstance(error, foreign.PaginationError)):
            failure = _responses.not_s3(doing, name)
    # Raised out here, so that it is not chained to what may hold secrets.
    raise failure


def _check(answer: object, always: dict[str, type], doing: str, name: str) -> None:
    if not isinstance(answer, dict) or not all(isinstance(answer.get(field), kind) for field, kind in always.items()):
        raise _responses.not_s3(doing, name)
