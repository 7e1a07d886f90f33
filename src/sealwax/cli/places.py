"""Places that are named on the command line: paths, and objects of S3.

S3 is AWS's, or what AWS_ENDPOINT_URL_S3 names, also where KMS is the lab or at another endpoint.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Final, overload

import click

from sealwax.cli import console, sessions
from sealwax.envelope import Inspection
from sealwax.envelope import inspect as look
from sealwax.errors import FileError
from sealwax.keyring import PROVIDER_AWS_KMS
from sealwax.stores import S3_SCHEME, Entry, Store

if TYPE_CHECKING:
    from sealwax.aws import OwnSession
    from sealwax.stores.s3 import ObjectReader, ObjectWriter, Service

# What tells a later run which file an object was made of.
SOURCE_TIME: Final = "sealwax-source-time"

# As --profile and --region name them; set by the options.
profile: str | None = None
region: str | None = None
_services: dict[OwnSession, Service] = {}


def service() -> Service:
    """Return S3, as the options and the environment set it up: one for each session."""
    from sealwax.stores.s3 import Service

    session = sessions.session(profile, region)
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


def made_of(name: str, source_time: int) -> bool:
    """Whether an object is there that an earlier run has made of a file with that modification time."""
    from sealwax.errors import StoreError
    from sealwax.stores.s3 import parse

    try:
        answer = service().call("head_object", "reading", parse(name))
    except StoreError as error:
        if error.code in ("404", "NoSuchKey"):
            return False
        raise
    found: str | None = answer["Metadata"].get(SOURCE_TIME)
    return found == str(source_time)


def store_of(name: str) -> Store:
    """Return the store that an object is in."""
    from sealwax.stores.s3 import S3Store

    return S3Store(name, service=service())


def walk(prefix: str, skip: Callable[[str], str | None]) -> Iterator[tuple[str, str] | FileError]:
    """Yield the names of the objects below a prefix, with their paths below its last ``/``."""
    folder = prefix[: prefix.rindex("/") + 1] if "/" in prefix.removeprefix(S3_SCHEME) else f"{prefix}/"
    for entry in store_of(prefix).list():
        if not isinstance(entry, Entry):
            yield FileError(str(entry))
            continue
        relpath = entry.name[len(folder) :]
        reason = skip(relpath.rpartition("/")[2]) if not entry.name.endswith("/") else "it stands for a folder"
        if reason is not None:
            console.tell(f"{console.shown(entry.name)}: skipped, {reason}")
        elif "\0" in relpath or any(part in ("", ".", "..") for part in relpath.split("/")):
            yield FileError(f"'{console.shown(entry.name)}' has no place in a folder; name it by itself")
        else:
            yield entry.name, relpath


def says_it_is_under(name: str, targets: Sequence[str]) -> bool:
    """Whether an envelope says that it is wrapped under these very keys, which is a claim and no proof."""
    found = inspect(name)
    arns = {key.key_arn for key in found.wrapped_keys if key.provider == PROVIDER_AWS_KMS}
    return found.header.finished and arns == set(targets)


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
