"""What envelopes and the formats of other programs say about themselves. No KMS call is made here."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from io import BytesIO
from typing import BinaryIO, cast

from sealwax._core import context as ctx
from sealwax._core import envelope, files, validate
from sealwax._core.envelope import Inspection
from sealwax._core.foreign.inspections import MessageInspection, ObjectInspection
from sealwax._core.foreign.rules import BEGINNING_BYTES, begins_message
from sealwax._core.sources import AnySource, BytesLike
from sealwax.errors import NotAnEnvelopeError

AnyInspection = Inspection | MessageInspection | ObjectInspection


def inspect(source: AnySource) -> AnyInspection:
    """Describe an envelope, or what the AWS Encryption SDK or the S3 Encryption Client wrote, without any KMS call.

    Nothing it says is authenticated.

    Args:
        source: a path (str or PathLike), a bytes-like value, or a binary file object. A file object that is not
            seekable is read to its end.

    Returns:
        Its context, wrapped keys and sizes: an ``Inspection`` of an envelope, a ``MessageInspection`` of a message of
        the AWS Encryption SDK, an ``ObjectInspection`` of an S3 object of the S3 Encryption Client.

    Raises:
        HeaderError: it is none of these, or its header is damaged.
        FileError: the file cannot be read.

    Example:
        >>> sealwax.inspect("backup.tar.swx").context
        {'purpose': 'backup'}
    """
    if isinstance(source, BytesLike):
        validate.value("inspect", source)
        try:
            return envelope.inspect(source)
        except NotAnEnvelopeError as error:
            return _foreign(error, BytesIO(source), 0)
    if isinstance(source, str | os.PathLike):
        with files.InputFile(source) as file:
            return _of_file(cast("BinaryIO", file), lambda: envelope.inspect_file(file))
    validate.file(source, "read")
    return _of_file(source, lambda: envelope.inspect(source))


def check_context(
    inspection: AnyInspection, expected: ctx.ExpectedContext, *, local: Collection[str], unstored: Collection[str]
) -> None:
    """Compare the stored context with the expected one, as opening it does.

    Args:
        local: names of pairs that an envelope does not store.
        unstored: names of pairs that a message of the AWS Encryption SDK does not store.

    Raises:
        ContextError: it does not fit.
    """
    if isinstance(inspection, Inspection):
        ctx.match(expected, inspection.context, local, inspection.header.preamble.local_pairs)
    elif isinstance(inspection, MessageInspection):
        from sealwax._core import messages

        messages.match(inspection.context, expected, frozenset(unstored))
    else:
        from sealwax._core import objects

        objects.match(inspection.context, expected)


def _of_file(file: BinaryIO, look: Callable[[], Inspection]) -> AnyInspection:
    if not envelope.is_seekable(file):
        return _of_stream(file)
    start = file.tell()
    try:
        return look()
    except NotAnEnvelopeError as error:
        return _foreign(error, file, start)


def _foreign(error: NotAnEnvelopeError, file: BinaryIO, start: int) -> MessageInspection | ObjectInspection:
    """Describe a seekable file that is not an envelope.

    Raises:
        NotAnEnvelopeError: this one, if it is of no format that is read.
    """
    # Programs that meet no other format import nothing of it.
    if error.foreign is not None or hasattr(file, "instructions"):
        from sealwax._core import objects

        if objects.is_object(error, file):
            return objects.inspected(file, file.seek(0, os.SEEK_END) - start)
    file.seek(start)
    is_esdk = error.foreign is not None and error.foreign.format.startswith("esdk")
    if not is_esdk or not begins_message(envelope.read_full(file, BEGINNING_BYTES)):
        raise error
    from sealwax._core import messages

    return messages.inspected(file, start)


def _of_stream(file: BinaryIO) -> AnyInspection:
    first = envelope.read_full(file, BEGINNING_BYTES)
    if not begins_message(first):
        return envelope.inspect_stream(file, first)
    from sealwax._core import messages

    return messages.inspected_stream(file, first)
