"""Places that are named on the command line: paths and S3 objects.

S3 is at AWS or at AWS_ENDPOINT_URL_S3, even if KMS is the lab or at another endpoint.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, BinaryIO, Final, overload

import click

from sealwax._core import files
from sealwax._core.disk import SQLITE_MAGIC
from sealwax._core.envelope import Inspection, read_full
from sealwax._core.envelope import inspect as look
from sealwax._core.envelope import inspect_detached as look_at_header
from sealwax._core.foreign.base64_text import MAX_TEXT_BYTES, begins_in_base64, message_in_base64
from sealwax._core.foreign.rules import begins_message
from sealwax._core.format.armor import PREFIX, dearmor
from sealwax._core.format.header import MAGIC
from sealwax.cli import console
from sealwax.cli.state import current
from sealwax.errors import FileError, NotAnEnvelopeError
from sealwax.stores._store import S3_SCHEME, Entry, Store, check_path, real_name, split_s3

if TYPE_CHECKING:
    from sealwax.stores.s3 import ObjectReader, ObjectWriter, Service
    from sealwax.stores.s3._acls import Acls

# The metadata that tells a later run which version of a file an object was made from.
SOURCE_TIME: Final = "sealwax-source-time"
_TIME: Final = re.compile("-?[0-9]{1,20}")


def service() -> Service:
    """Return S3 as the options and the environment set it up."""
    state = current()
    return state.sessions.s3(state.profile, state.region, requester_pays=state.requester_pays)


def acls() -> Acls:
    """Return what tells of the ACLs of objects there."""
    return current().sessions.acls(service())


def is_s3(name: str) -> bool:
    return name.startswith(S3_SCHEME)


def refuse_mistyped(*names: str | None) -> None:
    """Refuse names that were meant for S3, and would be paths."""
    for name in names:
        if name is not None:
            try:
                check_path(name)
            except ValueError as error:
                raise click.UsageError(str(error)) from None


def refuse_mistyped_sources(*names: str) -> None:
    """Refuse the same of sources, but for what is there: ``*`` may have stood for ``S3: notes.txt``."""
    refuse_mistyped(*(name for name in names if not os.path.lexists(name)))


def is_prefix(name: str) -> bool:
    """Whether a name means many objects instead of one."""
    return is_s3(name) and (name.endswith("/") or not split_s3(name)[1])


def real(name: str) -> str:
    """Return the canonical name of a place."""
    return real_name(name)


@overload
def opened(name: str) -> str | ObjectReader: ...


@overload
def opened(name: None) -> None: ...


def opened(name: str | None) -> str | ObjectReader | None:
    """Return a path as it is, and an object open for reading."""
    if name is None or not is_s3(name):
        return name
    from sealwax.stores.s3 import ObjectReader

    return ObjectReader(name, service=service())


def writer(name: str, *, force: bool, size: int | None, source_time: int | None) -> ObjectWriter:
    """Return a writer for an object, which appears whole or not at all."""
    from sealwax.stores.s3 import ObjectWriter

    settings = current().new_objects | ({} if source_time is None else {"Metadata": {SOURCE_TIME: str(source_time)}})
    # Envelopes, and more so messages in frames, are a little larger than the plaintext: the parts have to be enough.
    expected = None if size is None else size + size // 100 + (1 << 20)
    return ObjectWriter(name, service=service(), overwrite=force, size=expected, settings=settings)


def there(name: str) -> tuple[int, int | None, int] | None:
    """Return an object's size, the modification time it records of its source, and when it was written.

    Both times are in nanoseconds. None if there is no object.
    """
    from sealwax.errors import StoreError
    from sealwax.stores.s3._service import parse

    try:
        answer = service().call("head_object", "reading", parse(name))
    except StoreError as error:
        if error.code in ("404", "NoSuchKey"):
            return None
        raise
    source_time = answer["Metadata"].get(SOURCE_TIME, "")
    # S3 reports whole seconds: it was written before the next one.
    written = (int(answer["LastModified"].timestamp()) + 1) * 10**9
    return answer["ContentLength"], int(source_time) if _TIME.fullmatch(source_time) else None, written


def store_of(name: str) -> Store:
    """Return the store that an object is in."""
    from sealwax.stores.s3 import S3Store

    return S3Store(name, service=service())


def walk(prefix: str) -> Iterator[tuple[str, str, int] | FileError]:
    """Yield the objects below a prefix: their names, their paths below its last ``/``, and their sizes.

    If listing fails, the last item is the error.
    """
    bucket, key = split_s3(prefix)
    folder = f"{S3_SCHEME}{bucket}/{key[: key.rfind('/') + 1]}"
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


def inspect_detached(name: str) -> Inspection:
    return look_at_header(opened(name))


def refuse_prefix(name: str) -> None:
    """Refuse a name that means many objects."""
    if is_prefix(name):
        raise click.UsageError(f"'{console.shown(name)}' is a prefix; use -r to process the objects below it")


def refuse_text_in_place(name: str) -> None:
    """Refuse to replace an object in the text form: nothing would detect a concurrent change."""
    if is_s3(name):
        raise FileError("objects in the text form cannot be changed in place; write a new one with -o")


def text_form(file: BinaryIO | io.RawIOBase) -> bytes:
    """Return the bytes of an envelope in the text form, or of a message of the AWS Encryption SDK in base64."""
    data = read_full(file, MAX_TEXT_BYTES + 1)
    if len(data) > MAX_TEXT_BYTES:
        raise NotAnEnvelopeError(f"it has more than {MAX_TEXT_BYTES} bytes, too many for the text form")
    if not data.startswith(PREFIX.encode()):
        if (message := message_in_base64(data)) is not None:
            return message
        if begins_in_base64(data.lstrip()):
            raise NotAnEnvelopeError(
                "this begins like a message of the AWS Encryption SDK in base64, but is not valid base64: it is cut "
                "off, or holds other characters"
            )
    try:
        return dearmor(data.decode("ascii").removesuffix("\n"))
    except UnicodeDecodeError:
        raise NotAnEnvelopeError("this is not an envelope in the text form: it is not text") from None


def begins_as_envelope(name: str) -> bool:
    """Whether a file or object begins as an envelope or a message does, in bytes or as text; links are followed."""
    place = opened(name)
    with files.InputFile(place, regular=True) if isinstance(place, str) else place as file:
        return _is_sealed(read_full(file, len(MAGIC)))


def refuse_data(path: str, option: str) -> None:
    """Refuse to overwrite data or keys, even with --force, with what can be made again.

    Args:
        path: where it is to be written.
        option: the option that named it.

    Raises:
        FileError: what is there cannot be read.
        UsageError: an envelope, a message or a database is there, such as a plan or a lab.
    """
    if not os.path.isfile(path):
        return
    with files.InputFile(path, regular=True) as file:
        beginning = read_full(file, len(SQLITE_MAGIC))
    is_database = beginning == SQLITE_MAGIC
    if is_database or _is_sealed(beginning):
        kind = "a database, such as a plan or a lab" if is_database else "encrypted data"
        raise click.UsageError(f"{option} would overwrite '{console.shown(path)}', which is {kind}; name another file")


def _is_sealed(beginning: bytes) -> bool:
    return beginning.startswith((MAGIC, PREFIX.encode())) or is_message(beginning)


def is_message(beginning: bytes) -> bool:
    """Whether a message of the AWS Encryption SDK begins like this, in bytes or in base64.

    Args:
        beginning: at least 8 of its first bytes, or all of them.
    """
    return begins_message(beginning) or begins_in_base64(beginning)
