"""Places that are named on the command line: paths, and objects of S3.

S3 is AWS's, or what AWS_ENDPOINT_URL_S3 names, also where KMS is the lab or at another endpoint.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final, overload

import click

from sealwax._core.envelope import Inspection
from sealwax._core.envelope import inspect as look
from sealwax.cli import console, sessions
from sealwax.errors import FileError
from sealwax.stores._store import S3_SCHEME, Entry, Store

if TYPE_CHECKING:
    from sealwax._aws.session import OwnSession
    from sealwax.stores.s3 import ObjectReader, ObjectWriter, Service

# What tells a later run which file an object was made of.
SOURCE_TIME: Final = "sealwax-source-time"
_TIME: Final = re.compile("-?[0-9]{1,20}")

# As --profile and --region name them; set by the options.
profile: str | None = None
region: str | None = None
_services: dict[OwnSession, Service] = {}
_lock: Final = threading.Lock()


def service() -> Service:
    """Return S3, as the options and the environment set it up: one for each session."""
    from sealwax.stores.s3 import Service

    session = sessions.session(profile, region)
    with _lock:
        if session not in _services:
            _services.clear()
            _services[session] = Service(session)
        return _services[session]


def is_s3(name: str) -> bool:
    return name.startswith(S3_SCHEME)


def is_prefix(name: str) -> bool:
    """Whether a name means many objects, and not one."""
    return is_s3(name) and (name.endswith("/") or "/" not in name.removeprefix(S3_SCHEME))


def real(name: str) -> str:
    """Return the one name of a place that may have several."""
    return name if is_s3(name) else os.path.realpath(name)


@overload
def opened(name: str) -> str | ObjectReader: ...


@overload
def opened(name: None) -> None: ...


def opened(name: str | None) -> str | ObjectReader | None:
    """Return what the library takes for a name: a path, or an object open for reading."""
    if name is None or not is_s3(name):
        return name
    from sealwax.stores.s3 import ObjectReader

    return ObjectReader(name, service=service())


def writer(name: str, *, force: bool, size: int | None, source_time: int | None) -> ObjectWriter:
    """Return an object to be written, whole or not at all."""
    from sealwax.stores.s3 import ObjectWriter

    settings = {} if source_time is None else {"Metadata": {SOURCE_TIME: str(source_time)}}
    # An envelope is a little larger than what is in it; a number of parts that is just enough would not be.
    expected = None if size is None else size + size // 512 + (1 << 20)
    return ObjectWriter(name, service=service(), overwrite=force, size=expected, settings=settings)


def there(name: str) -> tuple[int, int | None, int] | None:
    """Return an object's size, the modification time of the file it says to be made of, and when it was put there.

    Both times are in nanoseconds; None for no object.

    Raises:
        StoreError: S3 does not say.
    """
    from sealwax.errors import StoreError
    from sealwax.stores.s3._service import parse

    try:
        answer = service().call("head_object", "reading", parse(name))
    except StoreError as error:
        if error.code in ("404", "NoSuchKey"):
            return None
        raise
    said = answer["Metadata"].get(SOURCE_TIME, "")
    # S3 tells whole seconds: it was put there before the next one.
    put = (int(answer["LastModified"].timestamp()) + 1) * 10**9
    return answer["ContentLength"], int(said) if _TIME.fullmatch(said) else None, put


def store_of(name: str) -> Store:
    """Return the store that an object is in."""
    from sealwax.stores.s3 import S3Store

    return S3Store(name, service=service())


def walk(prefix: str) -> Iterator[tuple[str, str, int] | FileError]:
    """Yield the objects below a prefix: their names, their paths below its last ``/``, and their sizes.

    Where listing them cannot begin or go on, the last that comes is why.
    """
    folder = prefix[: prefix.rindex("/") + 1] if "/" in prefix.removeprefix(S3_SCHEME) else f"{prefix}/"
    try:
        for entry in store_of(prefix).list():
            if isinstance(entry, Entry):
                yield entry.name, entry.name[len(folder) :], entry.size
            else:
                yield FileError(str(entry))
    except FileError as error:
        yield error


def inspect(name: str) -> Inspection:
    return look(opened(name))


def refuse_prefix(name: str) -> None:
    """Refuse a name that means many objects where one is meant.

    Raises:
        click.UsageError: it does.
    """
    if is_prefix(name):
        raise click.UsageError(f"'{console.shown(name)}' is a prefix; -r takes what is below it")


def refuse_text_in_place(name: str) -> None:
    """Refuse to replace an object by the text form of another envelope: no condition would hold it.

    Raises:
        FileError: it is an object.
    """
    if is_s3(name):
        raise FileError("an object in the text form is not changed in place; write another one with -o")
