"""Moving what other programs encrypted into envelopes: what a file is, and what its envelope is bound to."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, BinaryIO, Final, NamedTuple

from sealwax._core import context as ctx
from sealwax._core import envelope, messages, moved, objects
from sealwax._core.foreign.base64_text import MAX_TEXT_BYTES, message_in_base64
from sealwax._core.foreign.esdk.header import read_header as read_message
from sealwax._core.foreign.rules import (
    BEGINNING_BYTES,
    BOTO3_FERNET,
    ENVKMS_MAGIC,
    ForeignRules,
    begins_message,
)
from sealwax._core.foreign.s3ec.fields import claims
from sealwax._core.foreign.s3ec.opening import OpenObject
from sealwax._core.foreign.scripts import read_header as read_script
from sealwax._core.operations import Binding, Split, ToBind
from sealwax._core.scripts import is_script
from sealwax._core.sources import AnyPath
from sealwax.errors import ContextError, NotAnEnvelopeError, UnsupportedEnvelopeError

if TYPE_CHECKING:
    from sealwax._core.sealer import Sealer

# Enough for the first bytes of a message in base64, behind a few blanks.
_BEGINNING_OF_TEXT: Final = 64


@dataclass(frozen=True, slots=True)
class Movable:
    """A file of another format, as it describes itself. None of it is authentic yet.

    Attributes:
        format: ``"esdk-0578"``, ``"s3ec-v3"``, ``"envkms01"`` and so on.
        context: the pairs that it stores and that its caller gave.
        signed: whether it has a signature.
        committing: whether it commits to its data key.
        in_base64: whether it is text that holds a message in base64.
    """

    format: str
    context: Mapping[str, str]
    signed: bool = False
    committing: bool = False
    in_base64: bool = False

    @property
    def notes(self) -> list[str]:
        """What an envelope does not keep of it, or what it lacked."""
        notes = []
        if self.signed:
            notes.append("its signature was verified, and the envelope has none")
        if self.format == BOTO3_FERNET:
            notes.append("it was bound to no context")
        elif not self.committing:
            notes.append(f"its old format, {self.format}, did not commit to a data key")
        if self.in_base64:
            notes.append("it was text in base64, and the envelope is binary")
        return notes


class Original(NamedTuple):
    """An open file of another format.

    Attributes:
        movable: what it says about itself.
        message: what to read: the file itself, or the message that it holds in base64.
    """

    movable: Movable
    message: BinaryIO

    def is_same(
        self, expected: ctx.ExpectedContext, originals: Sealer, sealed: AnyPath | BinaryIO, envelopes: Sealer
    ) -> bool:
        """Return whether an envelope holds what this holds; both are read.

        Args:
            expected: the context that was given for it.
            originals, envelopes: open this, and the envelope ``sealed``.

        Raises:
            SealwaxError: one of them cannot be opened.
        """
        with (
            originals.open_stream(self.message, context=to_read(self.movable, expected)) as left,
            envelopes.open_stream(sealed, context=to_bind(self.movable, expected)) as right,
        ):
            return moved.equal(left, right)


def look(file: BinaryIO, rules: ForeignRules) -> Original | None:
    """Return what a file of another format says about itself; None if it is an envelope.

    Args:
        file: it is seekable, and left at its start.
        rules: what the caller allows; a format that nothing marks is recognized only if it is allowed.

    Raises:
        HeaderError: it is of no format that is read, or its header is damaged.
        TamperedError: no file of its format has that size.
        UnsupportedEnvelopeError: it is too long a text in base64.
    """
    message = _message_of(file)
    try:
        envelope.header_of_file(message, 0)
    except NotAnEnvelopeError as error:
        movable = _movable(error, message, rules)
    else:
        return None
    finally:
        message.seek(0)
    return Original(replace(movable, in_base64=message is not file), message)


def _message_of(file: BinaryIO) -> BinaryIO:
    """Return the file to look at and to read: of a message in base64, the message itself.

    An object of the S3 Encryption Client is what it is, whatever its bytes look like.

    Raises:
        UnsupportedEnvelopeError: it is too long a text.
    """
    if claims(envelope.metadata_of(file)):
        return file
    message = _in_binary(file)
    beside = message is not file and isinstance(file, objects.HasInstructions) and file.instructions() is not None
    return file if beside else message


def _in_binary(file: BinaryIO) -> BinaryIO:
    """Return the message that a file holds as text in base64; the file itself if it holds something else.

    Args:
        file: it is seekable, and left at its start.

    Raises:
        UnsupportedEnvelopeError: it begins like such a text, and is too long for one.
    """
    beginning = b"".join(envelope.read_full(file, _BEGINNING_OF_TEXT).split())
    file.seek(0)
    if message_in_base64(beginning[: len(beginning) & ~3]) is None:
        return file
    text = envelope.read_full(file, MAX_TEXT_BYTES + 1)
    file.seek(0)
    if len(text) > MAX_TEXT_BYTES:
        raise UnsupportedEnvelopeError(
            f"it is text in base64 of more than {MAX_TEXT_BYTES >> 20} MiB, too much to decode at once; decode it first"
        )
    message = message_in_base64(text)
    return file if message is None else io.BytesIO(message)


def _movable(error: NotAnEnvelopeError, file: BinaryIO, rules: ForeignRules) -> Movable:
    if objects.is_object(error, file):
        fields = objects.fields_of(file)
        OpenObject.check(fields, file.seek(0, os.SEEK_END))
        name = fields.legacy_name
        return Movable(name or "s3ec-v3", fields.caller_context, committing=name is None)
    file.seek(0)
    beginning = envelope.read_full(file, len(ENVKMS_MAGIC))
    file.seek(0)
    # A header so damaged that it is not recognized is damaged all the same, and not a plain file.
    known = None if error.foreign is None else error.foreign.format
    if begins_message(beginning[:BEGINNING_BYTES]) and (known is None or known.startswith("esdk")):
        header = read_message(lambda size: envelope.read_full(file, size))
        signed = header.suite.signature is not None
        return Movable(header.suite.name, header.caller_context, signed, header.suite.committing)
    if is_script(error, rules) or (known is None and beginning == ENVKMS_MAGIC):
        script = read_script(lambda size: envelope.read_full(file, size))
        script.check_body(file.seek(0, os.SEEK_END) - script.size)
        return Movable(script.format, script.context)
    raise error


class Refusal(NamedTuple):
    """Why a file is not moved unless the caller allows it.

    Attributes:
        signature: whether a signature would be lost; else its format does not commit to a data key.
        why: a sentence without its end.
    """

    signature: bool
    why: str


def refusal(movable: Movable, rules: ForeignRules, *, drop_signature: bool) -> Refusal | None:
    """Return why a file is not moved although it could be; None if the caller allows it."""
    if movable.signed and not drop_signature:
        why = f"the message is signed ({movable.format}), and an envelope cannot prove who made it"
        return Refusal(True, why)
    if not movable.committing and movable.format not in rules.legacy:
        why = (
            f"its format, {movable.format}, does not commit to a data key: someone who can choose the data key can "
            "make a file that opens differently for two readers"
        )
        return Refusal(False, why)
    return None


def match(movable: Movable, given: ctx.ExpectedContext, rules: ForeignRules) -> None:
    """Compare the given context with the stored one, as opening the file does before KMS is asked.

    Raises:
        ContextError: it does not fit.
    """
    if isinstance(given, ctx.ContextPatterns) and movable.format.startswith("s3ec"):
        given.matching(movable.context)
    elif movable.format.startswith("esdk"):
        messages.match(movable.context, given, rules.unstored)
    elif movable.format != BOTO3_FERNET:
        ctx.match(given, movable.context, (), None)


def to_read(movable: Movable, given: ctx.ExpectedContext) -> ToBind:
    """Return the context to open a file with: exactly that of its envelope, should the file change meanwhile.

    Raises:
        ContextError: as for ``to_bind``.
    """
    return ctx.NO_CONTEXT if movable.format == BOTO3_FERNET else to_bind(movable, given)


def to_bind(movable: Movable, given: ctx.ExpectedContext) -> ToBind:
    """Return the context of the new envelope: that of the file, or the given one if files of its format have none.

    Raises:
        ContextError: the file stores no context, and the given one has no value for a pair.
    """
    if isinstance(given, ctx.ContextPatterns):
        if movable.format.startswith("s3ec"):
            return given.matching(movable.context)
        if movable.format == BOTO3_FERNET:
            raise ContextError(
                "a file of the boto3 guide stores no context, so there is nothing for a pattern to match; give the "
                "value that the envelope is to be bound to"
            )
    if not isinstance(given, ctx.AcceptStoredContext):
        return given
    if movable.format == BOTO3_FERNET and not given.given:
        raise ContextError(
            "a file of the boto3 guide stores no context to accept: give the one that the envelope is to be bound to"
        )
    return {**movable.context, **given.given} or ctx.NO_CONTEXT


def split(binding: Binding, context: ToBind) -> Split:
    """Return the context of a new envelope, split and checked; KMS is not called.

    Raises:
        ContextError: an envelope cannot be bound to it: it has too many pairs or bytes, or reserved names.
    """
    kms, local = binding.split(context)
    try:
        ctx.encode(kms)
        ctx.encode(local)
        ctx.check_new_keys(kms, local)
    except ContextError as error:
        raise ContextError(f"it cannot become an envelope: {error}") from None
    return kms, local
