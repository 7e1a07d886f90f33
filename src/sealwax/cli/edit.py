"""sealwax edit"""

from __future__ import annotations

import io
import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO, Final, NoReturn, cast

import click

from sealwax._core import context as ctx
from sealwax._core import envelope, files
from sealwax._core.context import NO_CONTEXT, ExpectedContext, NoContext
from sealwax._core.envelope import Inspection
from sealwax._core.format import header as hdr
from sealwax._core.format.armor import PREFIX
from sealwax._core.format.armor import armor as to_text
from sealwax._core.format.io import write_all
from sealwax._core.keyring import PROVIDER_AWS_KMS, Keyring
from sealwax._core.rewrap import replace_file
from sealwax._core.sealer import Sealer
from sealwax._text import printable
from sealwax.cli import acls, console, editor, locations, options, sealing, status_of
from sealwax.cli.kms import Keys
from sealwax.cli.work import STREAM
from sealwax.errors import (
    DamagedHeaderError,
    FileError,
    KeyNotAllowedError,
    KmsError,
    RewrapConflictError,
    SealwaxError,
)

# Of an envelope with the largest plaintext, in the text form, with the largest header.
_MAX_SEALED_BYTES: Final = (editor.MAX_BYTES + envelope.MAX_HEADER_BYTES + (8 << 20)) * 4 // 3

_TOO_LARGE: Final = (
    f"its plaintext is larger than {editor.MAX_BYTES >> 20} MiB, too large to edit; decrypt it, change it, and "
    "encrypt it again"
)


@click.command()
@click.argument("file", metavar="FILE|s3://...", type=click.Path(readable=False))
@options.keys
@options.context(stored=True)
@options.suffix
@click.option(
    "--allow-disk", is_flag=True, help="If there is no in-memory folder, keep the plaintext on disk while you edit."
)
@options.loudness
def edit(file: str, keys: Keys, template: options.ContextTemplate, suffix: str, allow_disk: bool) -> int:
    """Open the plaintext of an envelope in your editor, and encrypt it again if you changed it.

    The editor is the one that VISUAL or EDITOR names, or vi. The plaintext is in a private folder in memory, which is
    removed at the end. A new envelope, under the same KMS keys and with the same context, replaces the old one, unless
    another program changed the old one meanwhile. -k must name every KMS key that the envelope is under. The caller
    needs kms:Decrypt on one of them, kms:GenerateDataKey on the first, and kms:Encrypt on the others.
    """
    locations.refuse_mistyped_sources(file)
    if file == STREAM or (not locations.is_s3(file) and os.path.isdir(file)):
        raise click.UsageError("edit takes the name of one file")
    locations.refuse_prefix(file)
    command = editor.find_editor()
    keys, template = sealing.of_one(keys, template, file.removesuffix(suffix))
    name = os.path.basename(file).removesuffix(suffix)
    expected = template.to_expect(name)
    try:
        sealed = _Sealed(file, keys, expected)
        plaintext = sealed.open()
        with (
            console.on_signals((signal.SIGQUIT,), _quit),
            editor.PrivateFile(name, plaintext, allow_disk=allow_disk) as private,
        ):
            private.edit(command)
            changed = private.read()
            if changed == plaintext:
                console.info(f"{console.shown(file)}: unchanged")
                return 0
            return _save(sealed, changed, private.path)
    except SealwaxError as error:
        console.error(error, about=file)
        return status_of(error)


def _quit(number: int, _: object) -> NoReturn:
    raise SystemExit(128 + number)


def _save(sealed: _Sealed, plaintext: bytes, path: str) -> int:
    """Replace the envelope; return the exit status.

    If that fails, a person may remove the cause, or copy the plaintext, and try again.
    """
    while True:
        try:
            sealed.replace(plaintext)
        except SealwaxError as error:
            console.error(error, about=sealed.name)
            if not _wants_again(f"the change is not saved; it is in {console.shown(path)} until you answer."):
                console.warn(f"{console.shown(sealed.name)}: the change was discarded")
                return status_of(error)
        else:
            console.info(f"{console.shown(sealed.name)}: changed and encrypted again")
            return 0


def _wants_again(state: str) -> bool:
    """Ask at the terminal whether to try again; without one, the answer is no."""
    if not os.isatty(0) or not sys.stderr.isatty():
        return False
    click.echo(f"sealwax: {state} Try again? [Y/n] ", err=True, nl=False)
    answer = os.read(0, 1024).lower()
    return answer.strip() in (b"", b"y", b"yes") and answer != b""  # the end of the input is no answer


@dataclass(frozen=True, slots=True)
class _Unsealed:
    """What ``_Sealed.open`` found out, and ``_Sealed.replace`` needs."""

    data: bytes
    text_form: bool
    sealer: Sealer
    context: Mapping[str, str] | NoContext


class _Sealed:
    """An envelope to edit: a file or an object.

    Args:
        name: its path, or ``s3://bucket/key``.
        keys: those that it may be under.
        expected: the context that it must have.
    """

    def __init__(self, name: str, keys: Keys, expected: ExpectedContext) -> None:
        self.name = name
        self._keys = keys
        self._expected = expected
        self._unsealed: _Unsealed | None = None

    def open(self) -> bytes:
        """Return the plaintext, once it is certain that it can be sealed again under the same keys.

        Raises:
            SealwaxError: it is too large, does not open, or could not be replaced.
        """
        data = self._read()
        text_form = data.startswith(PREFIX.encode())
        if text_form:
            locations.refuse_text_in_place(self.name)
        value = locations.text_form(io.BytesIO(data)) if text_form else data
        inspection = envelope.inspect(value)
        size = inspection.plaintext_bytes
        if size is not None and size > editor.MAX_BYTES:
            raise FileError(_TOO_LARGE)
        if inspection.header.preamble.kind != hdr.ATTACHED:
            raise DamagedHeaderError(
                "this is a detached header, and edit takes whole envelopes; use `sealwax decrypt --detached`, change "
                "the file, and encrypt it again"
            )
        if not inspection.header.finished:
            raise RewrapConflictError("a re-wrap of it was interrupted; run that again, then edit it")
        ctx.refuse_records(inspection.context)
        arns = [key.key_arn for key in inspection.wrapped_keys]
        sealer, keyring = self._keys.to_reencrypt([self.name], arns)
        plaintext = sealer.decrypt(value, context=self._expected)
        self._refuse_other_keys(keyring, inspection)
        local = ctx.match(
            self._expected, inspection.context, self._keys.local_context, inspection.header.preamble.local_pairs
        )
        context = {**inspection.context, **local} or NO_CONTEXT
        sealer.encrypt(b"", context=context)  # a permission that is missing is told before the work, not after it
        self._unsealed = _Unsealed(data, text_form, sealer, context)
        return plaintext

    def _read(self) -> bytes:
        place = locations.opened(self.name)
        if not isinstance(place, str):
            with place as reader:
                return _whole(cast("BinaryIO", reader))
        with files.LockedFile(place) as file:  # which also shows that it can be written to
            return _whole(cast("BinaryIO", file.file))

    def _refuse_other_keys(self, keyring: Keyring, inspection: Inspection) -> None:
        """Refuse an envelope that is also under a key that -k does not name.

        Nothing authenticates the list of wrapped keys: whoever can write the file could add a key of their own, and
        would be able to decrypt what is sealed under the same keys.
        """
        wrapped_keys = inspection.wrapped_keys
        if len(wrapped_keys) == 1:
            return  # it has just opened the envelope
        for key in wrapped_keys:
            if key.key_arn in self._keys.names:
                continue
            why = ""
            if key.provider == PROVIDER_AWS_KMS:
                try:
                    keyring.unwrap([key], inspection.context, lambda _: None)
                    continue
                except KmsError as error:
                    why = "" if isinstance(error, KeyNotAllowedError) else f" ({error})"
            raise KeyNotAllowedError(
                f"it is also under '{printable(key.key_arn)}', and no key of -k is known to be that key{why}; "
                "name every key of the envelope with -k, by its ARN, or move it to other keys with rewrap"
            )

    def replace(self, plaintext: bytes) -> None:
        """Put a new envelope of ``plaintext`` in the place of the old one.

        Raises:
            RewrapConflictError: the old one was changed meanwhile; it was left alone.
            SealwaxError: it cannot be sealed or written; the old one is unchanged.
        """
        unsealed = self._unsealed
        assert unsealed is not None

        def change(source: BinaryIO, sink: Any) -> None:
            if envelope.read_full(source, len(unsealed.data) + 1) != unsealed.data:
                raise RewrapConflictError("it was changed by another program while you edited it; it was left alone")
            if unsealed.text_form:
                text = to_text(unsealed.sealer.encrypt(plaintext, context=unsealed.context))
                write_all(sink, f"{text}\n".encode("ascii"))
            else:
                with unsealed.sealer.open(sink, "wb", context=unsealed.context) as writer:
                    writer.write(plaintext)

        if locations.is_s3(self.name):
            allowed = acls.look(self.name)
            locations.store_of(self.name).replace(self.name, change)
            if (note := acls.note(allowed)) is not None:
                console.info(f"{console.shown(self.name)}: {note}")
        else:
            replace_file(self.name, change)


def _whole(file: BinaryIO) -> bytes:
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    if size > _MAX_SEALED_BYTES:
        raise FileError(_TOO_LARGE)
    return envelope.read_full(file, size)
