"""What a sealer does with one envelope, as functions over a keyring and the names of local context pairs."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, BinaryIO, Final, NamedTuple, TypeVar, cast

from sealwax._core import context as ctx
from sealwax._core import envelope, files, validate
from sealwax._core.foreign.rules import BEGINNING_BYTES, SCRIPT_BEGINNING_BYTES, ForeignRules, begins_message
from sealwax._core.format import header as hdr
from sealwax._core.format import payload, random_access, stream
from sealwax._core.format.header import Header
from sealwax._core.format.io import BinarySource, SeekableSource, one_slot_only, write_all
from sealwax._core.format.witness import Witness
from sealwax._core.keyring import SUITE_COBBLESTONE_256, DataKey, Keyring, WrappedKey, kept_by_rewrap
from sealwax._core.rewrap import Rewrap
from sealwax._core.sources import AnyPath, AnySource, BytesLike
from sealwax.errors import NotAnEnvelopeError

if TYPE_CHECKING:
    from sealwax._core.foreign.s3ec.fields import ObjectFields
    from sealwax._core.messages import MessageOpener
    from sealwax._core.objects import ObjectOpener
    from sealwax._core.scripts import ScriptOpener

T = TypeVar("T")

ToBind = Mapping[str, str] | ctx.NoContext
Sink = BinaryIO | files.WholeFile
# What KMS sees of a context, and what stays local.
Split = tuple[Mapping[str, str], Mapping[str, str]]

_READ_AHEAD_BYTES: Final = 1 << 16


@dataclass(frozen=True, slots=True)
class Binding:
    """A keyring, and the names of the context pairs that it never sees."""

    keyring: Keyring
    local_names: frozenset[str]
    foreign: ForeignRules = field(default_factory=ForeignRules)

    def split(self, context: ToBind) -> Split:
        """Split the context of a new envelope."""
        if isinstance(context, ctx.AcceptStoredContext):
            raise TypeError("there is no stored context to accept when encrypting")
        return ctx.split(ctx.as_pairs(context), self.local_names)

    def match(self, header: Header, expected: ctx.ExpectedContext) -> Split:
        """Return the context of an existing envelope, once the expected one fits."""
        stored = ctx.decode(header.preamble.kms_context)
        return stored, ctx.match(expected, stored, self.local_names, header.preamble.local_pairs)

    @property
    def messages(self) -> MessageOpener:
        """What opens messages of the AWS Encryption SDK."""
        from sealwax._core.messages import MessageOpener

        return MessageOpener(self.keyring, self.foreign)

    @property
    def objects(self) -> ObjectOpener:
        """What opens objects of the S3 Encryption Client."""
        from sealwax._core.objects import ObjectOpener

        return ObjectOpener(self.keyring, self.foreign)

    @property
    def scripts(self) -> ScriptOpener:
        """What opens files of scripts that encrypt."""
        from sealwax._core.scripts import ScriptOpener

        return ScriptOpener(self.keyring, self.foreign)


class Begun(NamedTuple):
    """A new envelope whose payload is still to come.

    Attributes:
        encryptor: for the payload.
        header: returns the header's bytes for a kind and a number of slots.
        wrapped_keys: what the header stores.
        witness: takes in the plaintext, if it was asked for.
    """

    encryptor: payload.Encryptor
    header: Callable[[int, int], bytes]
    wrapped_keys: tuple[WrappedKey, ...]
    witness: Witness | None


def begin(keyring: Keyring, split: Split, plaintext_bytes: int | None, *, witness: bool = False) -> Begun:
    """Take a data key for one new envelope."""
    kms, local = split
    kms_bytes, local_bytes = ctx.encode(kms), ctx.encode(local)
    ctx.check_new_keys(kms, local)
    # From the kernel each time, as is the salt: a generator in memory repeats itself in a restored snapshot of the
    # process, and a cached data key would then see the same key and nonce twice.
    envelope_id = os.urandom(hdr.ENVELOPE_ID_BYTES)
    info = payload.info(SUITE_COBBLESTONE_256, envelope_id, kms_bytes, local_bytes)

    def use(data_key: DataKey, wrapped_keys: tuple[WrappedKey, ...]) -> Begun:
        def header(kind: int, slot_count: int) -> bytes:
            return hdr.new_header(envelope_id, kms_bytes, len(local), tuple(wrapped_keys), slot_count, kind)

        own = Witness(data_key, envelope_id, info) if witness else None
        return Begun(payload.Encryptor(data_key, info), header, wrapped_keys, own)

    return keyring.generate(kms, use, plaintext_bytes=plaintext_bytes)


def unwrap(binding: Binding, header: Header, expected: ctx.ExpectedContext, use: Callable[[DataKey, bytes], T]) -> T:
    """Lend the data key of ``header`` and the payload's info to ``use``, once the expected context fits."""
    preamble = header.preamble
    kms, local = binding.match(header, expected)
    info = payload.info(preamble.suite, preamble.envelope_id, preamble.kms_context, ctx.encode(local))
    return binding.keyring.unwrap(header.slot.wrapped_keys, kms, lambda data_key: use(data_key, info))


# --- values


def decrypt(binding: Binding, sealed: BytesLike, expected: ctx.ExpectedContext, detached: AnySource | None) -> bytes:
    with memoryview(sealed).cast("B") as view:
        if detached is None and begins_message(bytes(view[:BEGINNING_BYTES])):
            return binding.messages.decrypt(sealed, expected)
        if detached is None and binding.foreign.begins_script(bytes(view[:SCRIPT_BEGINNING_BYTES])):
            return binding.scripts.decrypt(sealed, expected)
        header, offset = envelope.find_header(detached, lambda: envelope.header_of_value(sealed))
        body = view[offset:]
        payload.plaintext_size(len(body))  # an impossible size needs no KMS call
        head = body[: payload.HEAD_BYTES]
        decryptor = unwrap(binding, header, expected, lambda key, info: payload.Decryptor(key, info, head))
        return payload.decrypt(decryptor, body[payload.HEAD_BYTES :])


# --- files and streams


def open_for_writing(
    binding: Binding,
    file: AnyPath | BinaryIO,
    context: ToBind,
    detached: AnyPath | BinaryIO | None,
    *,
    overwrite: bool,
) -> stream.StreamWriter:
    with contextlib.ExitStack() as undo:
        # The files first: a folder that cannot be written to is found before KMS is asked.
        wholes: list[files.WholeFile] = []

        def sink(place: AnyPath | BinaryIO) -> Sink:
            if not isinstance(place, str | os.PathLike):
                return validate.file(place, "write")
            whole = files.WholeFile(place, overwrite=overwrite)
            undo.callback(whole.discard)
            wholes.append(whole)
            return whole

        body = sink(file)
        head = None if detached is None else sink(detached)
        if len({whole.path for whole in wholes}) < len(wholes):
            raise ValueError("the payload and its detached header must go to two files, not to the same one")
        begun = begin(binding.keyring, binding.split(context), None)

        def start(large: bool) -> bytes:
            if head is None:
                return _attached(begun, body, large)
            write_all(head, begun.header(hdr.DETACHED, 1))
            return b""

        def finish(complete: bool) -> None:
            with contextlib.ExitStack() as rest:
                for whole in wholes:
                    rest.callback(whole.discard)
                if complete:
                    files.commit_all(wholes)

        writer = stream.StreamWriter(body, begun.encryptor, start, finish)
        undo.pop_all()
        return writer


def _attached(begun: Begun, sink: object, large: bool) -> bytes:
    return begun.header(hdr.ATTACHED, 2 if large and not one_slot_only(sink) else 1)


def open_for_reading(
    binding: Binding, file: AnyPath | BinaryIO, expected: ctx.ExpectedContext, detached: AnySource | None
) -> io.BufferedReader:
    def open_raw(opened: BinaryIO, on_close: Callable[[], None] | None) -> io.RawIOBase:
        if not envelope.is_seekable(opened):
            return stream_reader(binding, opened, expected, detached, on_close)
        start = opened.tell()
        try:
            header, offset = envelope.find_header(detached, lambda: envelope.header_of_file(opened, start))
            if detached is None:
                envelope.refuse_claims(opened)
        except NotAnEnvelopeError as error:
            if detached is None and _is_object(error, opened):
                return binding.objects.stream(opened, expected, on_close, start)
            if detached is None and _is_script(binding, error):
                return binding.scripts.stream(opened, expected, on_close, start)
            if detached is not None or not _is_message(error, opened, start):
                raise
            return binding.messages.at_any_position(opened, expected, on_close, start)
        size = opened.seek(0, os.SEEK_END) - start - offset
        payload.plaintext_size(size)  # an impossible size needs no KMS call
        source = cast("SeekableSource", opened)

        def use(data_key: DataKey, info: bytes) -> io.RawIOBase:
            return random_access.RandomAccessReader(source, start + offset, size, data_key, info, on_close)

        return unwrap(binding, header, expected, use)

    return io.BufferedReader(files.use_input(file, open_raw), _READ_AHEAD_BYTES)


def _is_message(error: NotAnEnvelopeError, file: BinaryIO, start: int) -> bool:
    """Whether a seekable file is a message of the AWS Encryption SDK, and its metadata does not say otherwise."""
    if error.foreign is None or not error.foreign.format.startswith("esdk"):
        return False
    file.seek(start)
    return begins_message(envelope.read_full(file, BEGINNING_BYTES))


def _is_object(error: NotAnEnvelopeError, file: object) -> bool:
    if error.foreign is None and not hasattr(file, "instructions"):
        return False
    from sealwax._core.objects import is_object

    return is_object(error, file)


def _is_script(binding: Binding, error: NotAnEnvelopeError) -> bool:
    if error.foreign is None:
        return False
    from sealwax._core.scripts import is_script

    return is_script(error, binding.foreign)


def stream_reader(
    binding: Binding,
    file: BinaryIO,
    expected: ctx.ExpectedContext,
    detached: AnySource | None,
    on_close: Callable[[], None] | None,
) -> stream.StreamReader:
    """Return a reader of the payload that begins where ``file`` is, or after the header there."""
    first = b""
    if detached is None and not envelope.is_seekable(file):
        first = envelope.read_full(file, BEGINNING_BYTES)
        if begins_message(first):
            return binding.messages.spooled(file, expected, on_close, first)
        if binding.foreign.begins_script(first):
            return binding.scripts.spooled(file, expected, on_close, first)
    start = file.tell() if envelope.is_seekable(file) else 0
    try:
        header, _ = envelope.find_header(detached, lambda: envelope.header_of_stream(file, first))
        if detached is None:
            envelope.refuse_claims(file)
    except NotAnEnvelopeError as error:
        if detached is not None or not envelope.is_seekable(file):
            raise
        if _is_object(error, file):
            return binding.objects.stream(file, expected, on_close, start)
        if _is_script(binding, error):
            return binding.scripts.stream(file, expected, on_close, start)
        if not _is_message(error, file, start):
            raise
        return binding.messages.stream(file, expected, on_close, start)
    return _reader_after(binding, header, file, expected, on_close)[0]


def _reader_after(
    binding: Binding,
    header: Header,
    file: BinaryIO,
    expected: ctx.ExpectedContext,
    on_close: Callable[[], None] | None = None,
    *,
    witness: bool = False,
) -> tuple[stream.StreamReader, Witness | None]:
    """Return a reader of the payload after a header and, if asked for, a witness under the same data key."""
    head = envelope.read_full(file, payload.HEAD_BYTES)
    if len(head) < payload.HEAD_BYTES:
        payload.plaintext_size(len(head))  # no payload is that short

    def use(data_key: DataKey, info: bytes) -> tuple[payload.Decryptor, Witness | None]:
        decryptor = payload.Decryptor(data_key, info, head)
        return decryptor, Witness(data_key, header.preamble.envelope_id, info) if witness else None

    decryptor, own = unwrap(binding, header, expected, use)
    return stream.StreamReader(cast("BinarySource", file), decryptor, on_close), own


# --- re-wrapping and re-encrypting


def rewrapper(
    binding: Binding,
    targets: Sequence[str],
    expected: ctx.ExpectedContext,
    *,
    verify: bool,
    body: AnySource | None,
) -> Rewrap:
    """Return the function that re-wraps one header under ``targets``; see ``Sealer.rewrapper``."""
    return _Rewrapper(binding, targets, expected, verify, body)


@dataclass(frozen=True, slots=True)
class _Rewrapper:
    binding: Binding
    targets: Sequence[str]
    expected: ctx.ExpectedContext
    verify: bool
    body: AnySource | None

    def __call__(self, header: Header, head: Callable[[], bytes]) -> tuple[WrappedKey, ...]:
        if self.verify:
            begins = head() if header.preamble.kind == hdr.ATTACHED else envelope.head_of(self.body)
            unwrap(self.binding, header, self.expected, lambda key, info: payload.Decryptor(key, info, begins))
        stored = ctx.decode(header.preamble.kms_context)
        ctx.match(self.expected, stored, self.binding.local_names, None)
        rewrapped = self.binding.keyring.rewrap(header.slot.wrapped_keys, stored, self.targets)
        return rewrapped + kept_by_rewrap(header.slot.wrapped_keys)

    def fields_before_kms(self, fields: ObjectFields) -> dict[str, str]:
        return self.binding.objects.fields_before_kms(fields, self.expected, self.targets)

    def rewrap_object(self, fields: ObjectFields, file: Callable[[], BinaryIO]) -> dict[str, str]:
        return self.binding.objects.rewrap(fields, file, self.expected, self.targets, verify=self.verify)


def reencrypt_value(
    binding: Binding,
    sealed: BytesLike,
    decrypt: Callable[[], bytes],
    expected: ctx.ExpectedContext,
    detached: AnySource | None,
) -> bytes:
    """Return a new envelope for the plaintext of an old one, bound to the same context."""
    header, _ = envelope.find_header(detached, lambda: envelope.header_of_value(sealed))
    ctx.refuse_records(ctx.decode(header.preamble.kms_context))
    plaintext = decrypt()
    begun = begin(binding.keyring, binding.match(header, expected), len(plaintext))
    return payload.encrypt(begun.encryptor, begun.header(hdr.ATTACHED, 1), plaintext)


def seal_from(
    binding: Binding,
    split: Split,
    reader: stream.StreamReader,
    sink: Sink,
    *takers: Callable[[memoryview], object],
    witness: bool,
) -> tuple[bytes, tuple[WrappedKey, ...]]:
    """Write a new envelope of all that a reader returns.

    Args:
        split: the context to bind it to.
        takers: they also get the plaintext.

    Returns:
        The witness of the plaintext, b"" if it was not asked for, and the wrapped keys.
    """
    begun = begin(binding.keyring, split, None, witness=witness)
    takers = takers if begun.witness is None else (begun.witness.update, *takers)
    with stream.StreamWriter(sink, begun.encryptor, lambda large: _attached(begun, sink, large)) as writer:
        reader.drain(writer.write, *takers)
    return b"" if begun.witness is None else begun.witness.finish(), begun.wrapped_keys


def reencryptor(
    binding: Binding,
    expect: Callable[[Header], ctx.ExpectedContext],
    detached: AnySource | None,
    on_written: Callable[[bytes, tuple[WrappedKey, ...]], None] | None,
) -> Callable[[BinaryIO, Sink], None]:
    """Return the function that re-encrypts one envelope; see ``Sealer.reencryptor``."""

    def reencrypt(source: BinaryIO, sink: Sink) -> None:
        if detached is None:
            header = envelope.header_of_stream(source)
            envelope.refuse_claims(source)
        else:
            header = envelope.inspect_detached(detached).header
        expected = expect(header)
        if detached is None:
            envelope.refuse_kind(header, hdr.ATTACHED)
        ctx.refuse_records(ctx.decode(header.preamble.kms_context))
        reader, _ = _reader_after(binding, header, source, expected)
        with reader:
            written = seal_from(binding, binding.match(header, expected), reader, sink, witness=on_written is not None)
        if on_written is not None:
            on_written(*written)

    return reencrypt


def witness_of(binding: Binding, source: BinaryIO, expect: Callable[[Header], ctx.ExpectedContext]) -> bytes:
    """Return the witness of an envelope's plaintext; see ``Sealer.witness``."""
    header = envelope.header_of_stream(source)
    envelope.refuse_claims(source)
    expected = expect(header)
    envelope.refuse_kind(header, hdr.ATTACHED)
    reader, witness = _reader_after(binding, header, source, expected, witness=True)
    assert witness is not None
    with reader:
        reader.drain(witness.update)
    return witness.finish()
