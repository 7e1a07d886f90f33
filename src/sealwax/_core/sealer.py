"""Sealer: encrypt, decrypt, open, verify and re-wrap one object at a time."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO, Final, Literal, TypeVar, cast, overload

from sealwax import events
from sealwax._core import context as ctx
from sealwax._core import envelope, files, validate
from sealwax._core.envelope import AnySource, BytesLike
from sealwax._core.format import header as hdr
from sealwax._core.format import payload, random_access, stream
from sealwax._core.format.header import Header
from sealwax._core.format.io import write_all
from sealwax._core.format.witness import Witness
from sealwax._core.keyring import SUITE_COBBLESTONE_256, DataKey, Keyring, NotReadyError, WrappedKey, kept_by_rewrap
from sealwax._core.rewrap import Rewrap, replace_file, rewrap_file, rewrap_stream, rewrap_value
from sealwax._core.small import SmallValues
from sealwax.errors import SealwaxError

if TYPE_CHECKING:
    from sealwax._core import aio

T = TypeVar("T")

_READ_AHEAD_BYTES: Final = 1 << 16
_SMALL_BYTES: Final = 1 << 16


class Sealer:
    """Seals things under data keys of ``keyring``. One object serves a whole program, from any number of threads.

    Args:
        keyring: where data keys come from; usually :class:`~sealwax.KmsKeyring`.
        local_context: names of context pairs that are neither stored nor sent to KMS, but bind the data all the same.

    The context of every call is the whole map that the data is bound to: a mapping of str to str, or
    :data:`~sealwax.NO_CONTEXT`. Reading and re-wrapping also take :class:`~sealwax.AcceptStoredContext`.

    It can be pickled where its keyring can. A worker process keeps what it gets: each unpickled sealer makes its own
    clients, and begins with an empty cache.

    IAM actions: those of the keyring's method that is named with each method.
    """

    def __init__(self, keyring: Keyring, *, local_context: Collection[str] = ()) -> None:
        self._keyring = validate.keyring(keyring)
        self._local_names = frozenset(validate.texts("local_context", local_context, "names of context pairs"))
        # A cache has this method. What stands before one and passes it on does not: it is to be asked itself.
        ready = getattr(type(keyring), "ready", None)
        held = None if ready is None else ready(keyring)
        # What does small values in few steps, and what does all that needs no waiting.
        self._small = None if held is None else SmallValues(held, self._local_names)
        self._at_once = None if held is None or held is keyring else Sealer(held, local_context=self._local_names)

    def __getstate__(self) -> dict[str, Any]:
        return {"keyring": self._keyring, "local_context": self._local_names}

    def __setstate__(self, state: dict[str, Any]) -> None:
        Sealer.__init__(self, **state)

    def __repr__(self) -> str:
        return f"Sealer({self._keyring!r})"

    def stats(self) -> events.KmsStats:
        """Return the KMS calls that the keyring has made and a cache has saved, and what they cost. No IAM action."""
        return events.kms_stats(self._keyring)

    # --- encrypting

    def encrypt(self, plaintext: BytesLike, *, context: Mapping[str, str] | ctx.NoContext) -> bytes:
        """Return an envelope that holds a value. Uses the keyring's ``generate`` (kms:GenerateDataKey).

        Raises:
            ContextError: the context is empty or cannot be stored.
            KmsError: no data key could be had.
            TypeError: ``plaintext`` is no bytes-like object; encode text, and use :meth:`open` for files.
        """
        if self._small is not None and (sealed := self._small.encrypt(plaintext, context)) is not None:
            return sealed
        if not isinstance(plaintext, BytesLike):
            raise TypeError(f"encrypt takes bytes, bytearray or memoryview, not {type(plaintext).__name__}")
        encryptor, header = self._begin(context, memoryview(plaintext).nbytes)
        return payload.encrypt(encryptor, header(hdr.ATTACHED, 1), plaintext)

    def encrypt_detached(
        self, plaintext: BytesLike, *, context: Mapping[str, str] | ctx.NoContext
    ) -> tuple[bytes, bytes]:
        """Return a value's detached header and its payload, to be stored apart; otherwise as :meth:`encrypt`."""
        if not isinstance(plaintext, BytesLike):
            raise TypeError(f"encrypt_detached takes bytes, bytearray or memoryview, not {type(plaintext).__name__}")
        encryptor, header = self._begin(context, memoryview(plaintext).nbytes)
        return header(hdr.DETACHED, 1), payload.encrypt(encryptor, b"", plaintext)

    def _begin(
        self, context: Mapping[str, str] | ctx.NoContext, plaintext_bytes: int | None
    ) -> tuple[payload.Encryptor, Callable[[int, int], bytes]]:
        """Take a data key for one new envelope; return its encryptor, and its header by kind and number of slots."""
        if isinstance(context, ctx.AcceptStoredContext):
            raise TypeError("there is no stored context to accept when encrypting")
        return self._begin_with(*ctx.split(ctx.as_pairs(context), self._local_names), plaintext_bytes)

    def _begin_with(
        self,
        kms: Mapping[str, str],
        local: Mapping[str, str],
        plaintext_bytes: int | None,
        also: Callable[[DataKey, tuple[WrappedKey, ...], bytes, bytes], None] | None = None,
    ) -> tuple[payload.Encryptor, Callable[[int, int], bytes]]:
        """As :meth:`_begin`, with the context split already; ``also`` is lent the data key too.

        Args:
            also: called with the data key, its wrapped forms, the envelope's id and the payload's info.
        """
        ctx.check_kms_keys(kms)
        kms_bytes, local_bytes = ctx.encode(kms), ctx.encode(local)
        # From the kernel each time, as the salt is: a generator in memory repeats itself in a restored snapshot of the
        # process, and a cached data key would meet the same key and nonce twice.
        envelope_id = os.urandom(hdr.ENVELOPE_ID_BYTES)
        info = payload.info(SUITE_COBBLESTONE_256, envelope_id, kms_bytes, local_bytes)

        def use(
            data_key: DataKey, wrapped_keys: tuple[WrappedKey, ...]
        ) -> tuple[payload.Encryptor, Callable[[int, int], bytes]]:
            def header(kind: int, slot_count: int) -> bytes:
                return hdr.new_header(envelope_id, kms_bytes, len(local), tuple(wrapped_keys), slot_count, kind)

            if also is not None:
                also(data_key, wrapped_keys, envelope_id, info)
            return payload.encryptor(data_key, info), header

        return self._keyring.generate(kms, use, plaintext_bytes=plaintext_bytes)

    # --- decrypting

    def decrypt(self, sealed: BytesLike, *, context: ctx.ExpectedContext, header: AnySource | None = None) -> bytes:
        """Return the plaintext of an envelope in memory. Uses the keyring's ``unwrap`` (kms:Decrypt).

        Args:
            sealed: the envelope; the payload alone where ``header`` is given.
            header: the detached header: a value, a path or a file object.

        Raises:
            ContextError: the context is not the one the data was encrypted with.
            HeaderError: it is no envelope, or its header is damaged.
            KmsError: the data key could not be opened.
            PayloadError: the payload does not authenticate.
            TypeError: ``sealed`` is no bytes-like object; use :meth:`open` for files, and ``dearmor`` for text.
        """
        if self._small is not None and header is None:
            plaintext = self._small.decrypt(sealed, context)
            if plaintext is not None:
                return plaintext
        if not isinstance(sealed, BytesLike):
            raise TypeError(f"decrypt takes bytes, bytearray or memoryview, not {type(sealed).__name__}")
        found, offset = envelope.find_header(header, lambda: envelope.header_of_value(sealed))
        with memoryview(sealed).cast("B") as view:
            body = view[offset:]
            payload.plaintext_size(len(body))  # a size that no payload has needs no KMS call
            decryptor = self._unwrap(
                found, context, lambda key, info: payload.decryptor(key, info, body[: payload.HEAD_BYTES])
            )
            return payload.decrypt(decryptor, body[payload.HEAD_BYTES :])

    def _unwrap(self, header: Header, expected: ctx.ExpectedContext, use: Callable[[DataKey, bytes], T]) -> T:
        """Lend the data key of ``header`` and the payload's info to ``use``, once the context is known to fit."""
        preamble = header.preamble
        stored, local = self._split_of(header, expected)
        info = payload.info(preamble.suite, preamble.envelope_id, preamble.kms_context, ctx.encode(local))
        return self._keyring.unwrap(header.slot.wrapped_keys, stored, lambda data_key: use(data_key, info))

    def _split_of(self, header: Header, expected: ctx.ExpectedContext) -> tuple[dict[str, str], dict[str, str]]:
        """Return an envelope's KMS context and local context, once what is expected fits."""
        stored = ctx.decode(header.preamble.kms_context)
        return stored, dict(ctx.match(expected, stored, self._local_names, header.preamble.local_pairs))

    # --- files and streams

    @overload
    def open(
        self,
        file: files.AnyPath | BinaryIO,
        mode: Literal["rb"] = "rb",
        *,
        context: ctx.ExpectedContext,
        header: AnySource | None = None,
    ) -> io.BufferedReader: ...

    @overload
    def open(
        self,
        file: files.AnyPath | BinaryIO,
        mode: Literal["wb", "xb"],
        *,
        context: Mapping[str, str] | ctx.NoContext,
        header: files.AnyPath | BinaryIO | None = None,
    ) -> stream.StreamWriter: ...

    def open(
        self,
        file: files.AnyPath | BinaryIO,
        mode: Literal["rb", "wb", "xb"] = "rb",
        *,
        context: ctx.ExpectedContext,
        header: AnySource | None = None,
    ) -> io.BufferedReader | stream.StreamWriter:
        """Open an envelope as a binary file of its plaintext.

        Args:
            file: a path, or a binary file object, which is used from where it stands and is not closed.
            mode: ``"rb"`` reads, anywhere in a seekable file and front to back in a pipe; ``"wb"`` writes, and
                replaces a file; ``"xb"`` writes where no file is yet.
            header: where the detached header is, or goes; ``file`` is the payload alone then.

        Reading returns authenticated plaintext only. A ``with`` block may be left early; what was not read then was not
        looked at. Reading to the end has authenticated the whole.

        Writing puts a path's file in place, whole, on ``close`` or at the end of ``with``; an exception in the block
        leaves what was there before. To a file object, the envelope is left without its end, and never opens.

        Reading uses the keyring's ``unwrap`` (kms:Decrypt), writing its ``generate`` (kms:GenerateDataKey).

        Raises:
            ContextError, KmsError: as for :meth:`encrypt` and :meth:`decrypt`.
            FileError: the file cannot be opened.
            HeaderError, PayloadError: reading, as for :meth:`decrypt`.
        """
        return self._open(file, mode, context, header)

    def _open(
        self, file: files.AnyPath | BinaryIO, mode: str, context: ctx.ExpectedContext, header: AnySource | None
    ) -> io.BufferedReader | stream.StreamWriter:
        if mode == "rb":
            return self._open_for_reading(file, context, header)
        if mode in ("wb", "xb"):
            if isinstance(header, BytesLike):
                raise TypeError("header is a path or a binary file object when writing")
            to_bind = cast("Mapping[str, str] | ctx.NoContext", context)
            return self._open_for_writing(file, to_bind, header, overwrite=mode == "wb")
        raise ValueError("mode is 'rb', 'wb' or 'xb'")

    def _open_for_writing(
        self,
        file: files.AnyPath | BinaryIO,
        context: Mapping[str, str] | ctx.NoContext,
        header: files.AnyPath | BinaryIO | None,
        overwrite: bool,
    ) -> stream.StreamWriter:
        with contextlib.ExitStack() as undo:
            # The places first: a folder that cannot be written to is found before KMS is asked.
            places: list[files.WholeFile] = []

            def sink(place: files.AnyPath | BinaryIO) -> files.WholeFile | BinaryIO:
                if not isinstance(place, str | os.PathLike):
                    return validate.file(place, "write")
                whole = files.WholeFile(place, overwrite=overwrite)
                undo.callback(whole.discard)
                places.append(whole)
                return whole

            body = sink(file)
            head = None if header is None else sink(header)
            if len({place.path for place in places}) < len(places):
                raise ValueError("the payload and its detached header go to two files, not to one")
            encryptor, header_bytes = self._begin(context, None)

            def start(large: bool) -> bytes:
                if head is None:
                    return _attached(header_bytes, body, large)
                write_all(head, header_bytes(hdr.DETACHED, 1))
                return b""

            def finish(complete: bool) -> None:
                with contextlib.ExitStack() as rest:
                    for place in places:
                        rest.callback(place.discard)
                    if complete:
                        files.commit_all(places)

            writer = stream.StreamWriter(body, encryptor, start, finish)
            undo.pop_all()
            return writer

    def _open_for_reading(
        self, file: files.AnyPath | BinaryIO, context: ctx.ExpectedContext, header: AnySource | None
    ) -> io.BufferedReader:
        def open_file(file: Any, on_close: Callable[[], None] | None) -> io.RawIOBase:
            if not envelope.is_seekable(file):
                return self._stream_reader(file, context, header, on_close)
            start = file.tell()
            found, offset = envelope.find_header(header, lambda: envelope.header_of_file(file, start))
            size = file.seek(0, os.SEEK_END) - start - offset
            payload.plaintext_size(size)  # a size that no payload has needs no KMS call
            return self._unwrap(
                found,
                context,
                lambda key, info: random_access.RandomAccessReader(file, start + offset, size, key, info, on_close),
            )

        return io.BufferedReader(files.opened(file, open_file), _READ_AHEAD_BYTES)

    def _stream_reader(
        self,
        file: Any,
        context: ctx.ExpectedContext,
        header: AnySource | None,
        on_close: Callable[[], None] | None,
    ) -> stream.StreamReader:
        found, _ = envelope.find_header(header, lambda: envelope.header_of_stream(file))
        return self._reader_after(found, file, context, on_close)

    def _reader_after(
        self,
        found: Header,
        file: Any,
        context: ctx.ExpectedContext,
        on_close: Callable[[], None] | None,
        also: Callable[[DataKey, bytes], None] | None = None,
    ) -> stream.StreamReader:
        """Return a reader of the payload that follows a header; ``also`` is lent the data key that fits it."""
        head = envelope.read_full(file, payload.HEAD_BYTES)
        if len(head) < payload.HEAD_BYTES:
            payload.plaintext_size(len(head))  # no payload is that short, and KMS need not be asked

        def use(data_key: DataKey, info: bytes) -> payload.Decryptor:
            decryptor = payload.decryptor(data_key, info, head)
            if also is not None:
                also(data_key, info)
            return decryptor

        return stream.StreamReader(file, self._unwrap(found, context, use), on_close)

    def open_stream(
        self, file: files.AnyPath | BinaryIO, *, context: ctx.ExpectedContext, header: AnySource | None = None
    ) -> stream.StreamReader:
        """Open an envelope for one pass front to back, the fastest way; otherwise as ``open(file, "rb")``.

        What comes back has ``write_to(sink)`` besides, which is faster than reading and writing.
        """
        return files.opened(file, lambda opened, on_close: self._stream_reader(opened, context, header, on_close))

    def verify(self, source: AnySource, *, context: ctx.ExpectedContext, header: AnySource | None = None) -> int:
        """Authenticate a whole envelope and write nothing; return the size of its plaintext in bytes.

        Uses the keyring's ``unwrap`` (kms:Decrypt).

        Raises:
            ContextError, FileError, HeaderError, KmsError, PayloadError: as for :meth:`open`.
        """
        if isinstance(source, BytesLike):
            source = io.BytesIO(source)
        with self.open_stream(source, context=context, header=header) as reader:
            return reader.drain()

    # --- asyncio, and many at a time. Both are imported when they are used: asyncio takes longer than all the rest.

    async def encrypt_async(self, plaintext: BytesLike, *, context: Mapping[str, str] | ctx.NoContext) -> bytes:
        """As :meth:`encrypt`; the event loop waits for nothing."""
        if self._at_once is not None and _is_small(plaintext, payload.GROUP_BYTES):
            with contextlib.suppress(NotReadyError):
                return self._at_once.encrypt(plaintext, context=context)
        from sealwax._core import aio

        return await aio.in_thread(self.encrypt, plaintext, context=context)

    async def decrypt_async(
        self, sealed: BytesLike, *, context: ctx.ExpectedContext, header: AnySource | None = None
    ) -> bytes:
        """As :meth:`decrypt`; the event loop waits for nothing."""
        if self._at_once is not None and header is None and _is_small(sealed, payload.GROUP_BYTES):
            with contextlib.suppress(NotReadyError):
                return self._at_once.decrypt(sealed, context=context)
        from sealwax._core import aio

        return await aio.in_thread(self.decrypt, sealed, context=context, header=header)

    def open_async(
        self,
        file: files.AnyPath | BinaryIO,
        mode: Literal["rb", "wb", "xb"] = "rb",
        *,
        context: ctx.ExpectedContext,
        header: AnySource | None = None,
    ) -> aio.AsyncFile:
        """As :meth:`open`, for ``async with``: every method of the file is a coroutine."""
        from sealwax._core import aio

        return aio.AsyncFile(lambda: self._open(file, mode, context, header))

    def encrypt_many(
        self,
        items: Iterable[tuple[BytesLike, Mapping[str, str] | ctx.NoContext]],
        *,
        threads: int | None = None,
        stop_on_error: bool = False,
    ) -> Iterator[bytes | SealwaxError]:
        """Encrypt pairs of plaintext and context; yield each envelope, in order, or the error of that one pair.

        A bounded number of pairs is taken ahead of what is yielded.

        Args:
            threads: how many threads work on large values and wait for KMS: 1 to 1000, by default 4 more than there are
                processors.
            stop_on_error: raise the first error instead.

        Raises:
            TypeError, ValueError: ``threads`` is no such number, or an item is no pair.
        """
        return self._many(items, Sealer.encrypt, threads, stop_on_error)

    def decrypt_many(
        self,
        items: Iterable[tuple[BytesLike, ctx.ExpectedContext]],
        *,
        threads: int | None = None,
        stop_on_error: bool = False,
    ) -> Iterator[bytes | SealwaxError]:
        """Decrypt pairs of envelope and context; otherwise as :meth:`encrypt_many`."""
        return self._many(items, Sealer.decrypt, threads, stop_on_error)

    def _many(
        self, items: Iterable[tuple[BytesLike, Any]], method: Any, threads: int | None, stop_on_error: bool
    ) -> Iterator[bytes | SealwaxError]:
        from sealwax._core import batch

        if threads is not None:
            validate.whole("threads", threads, 1, batch.MOST_THREADS)
        validate.many("items", items, "pairs of bytes and context")

        def pairs() -> Iterator[tuple[BytesLike, Any]]:
            item: Any
            for item in items:
                if not isinstance(item, tuple | list) or len(item) != 2:
                    raise TypeError("each item is a pair of bytes and context")
                yield item[0], item[1]

        def at_once(item: tuple[BytesLike, Any]) -> bytes | None:
            # To hand a small value to a thread takes longer than to encrypt it.
            if self._at_once is not None and _is_small(item[0], _SMALL_BYTES):
                try:
                    return cast("bytes", method(self._at_once, item[0], context=item[1]))
                except NotReadyError:
                    pass
            return None

        def work(item: tuple[BytesLike, Any]) -> bytes:
            return cast("bytes", method(self, item[0], context=item[1]))

        return batch.run(pairs(), at_once, work, threads=threads, stop_on_error=stop_on_error)

    # --- re-wrapping

    @overload
    def rewrap(
        self,
        source: BytesLike,
        *,
        to: str | Sequence[str],
        context: ctx.ExpectedContext,
        verify: bool = False,
        body: AnySource | None = None,
    ) -> bytes: ...

    @overload
    def rewrap(
        self,
        source: files.AnyPath | BinaryIO,
        *,
        to: str | Sequence[str],
        context: ctx.ExpectedContext,
        output: files.AnyPath | BinaryIO | None = None,
        verify: bool = False,
        body: AnySource | None = None,
    ) -> None: ...

    def rewrap(
        self,
        source: AnySource,
        *,
        to: str | Sequence[str],
        context: ctx.ExpectedContext,
        output: files.AnyPath | BinaryIO | None = None,
        verify: bool = False,
        body: AnySource | None = None,
    ) -> bytes | None:
        """Wrap the same data key under other KMS keys. The payload is not touched, the data key not seen.

        Uses the keyring's ``rewrap`` (kms:ReEncryptFrom on the old key, kms:ReEncryptTo on the new ones), and with
        ``verify`` its ``unwrap`` (kms:Decrypt).

        This is no revocation: who had the data key, or keeps an old copy of the envelope, still has it.

        Args:
            source: a value (a new one is returned), a path (changed in place), or a binary file object.
            to: the complete new set of KMS keys. The old keys are the keyring's allow-list.
            context: what every pair of the stored context must be; local pairs are needed with ``verify`` only.
            output: where the re-wrapped envelope goes instead; needed for a file object.
            verify: open the data key first, and see that it belongs to the payload and the whole context.
            body: the payload of a detached header, for ``verify``.

        Raises:
            RewrapConflictError: the file was replaced meanwhile, or its slots contradict each other.
            ContextError, FileError, HeaderError, KmsError: as for :meth:`open`, or another program has had the file
                locked for 10 seconds; nothing was changed, or the file opens with the old or the new key.
            CommitmentError: with ``verify``, the wrapped key does not belong to the payload.
        """
        rewrap = self.rewrapper(to=to, context=context, verify=verify, body=body)
        if isinstance(source, BytesLike):
            return rewrap_value(source, rewrap)
        if output is not None:
            files.copied(source, output, lambda from_, sink: rewrap_stream(from_, sink, rewrap))
        elif isinstance(source, str | os.PathLike):
            rewrap_file(source, rewrap)
        else:
            raise TypeError("a file object is not changed in place: pass output=")
        return None

    def rewrapper(
        self,
        *,
        to: str | Sequence[str],
        context: ctx.ExpectedContext,
        verify: bool = False,
        body: AnySource | None = None,
    ) -> Rewrap:
        """Return what :meth:`rewrap` does to one header, for the ``rewrap`` of a store (:mod:`sealwax.stores`)."""
        targets = [to] if isinstance(to, str) else validate.texts("to", to, "key names")

        def rewrap(header: Header, head: Callable[[], bytes]) -> tuple[WrappedKey, ...]:
            if verify:
                begins = head() if header.preamble.kind == hdr.ATTACHED else envelope.head_of(body)
                self._unwrap(header, context, lambda key, info: payload.decryptor(key, info, begins))
            stored = ctx.decode(header.preamble.kms_context)
            ctx.match(context, stored, self._local_names, None)
            rewrapped = self._keyring.rewrap(header.slot.wrapped_keys, stored, targets)
            return rewrapped + kept_by_rewrap(header.slot.wrapped_keys)

        return rewrap

    # --- re-encrypting

    @overload
    def reencrypt(
        self, source: BytesLike, *, context: ctx.ExpectedContext, header: AnySource | None = None
    ) -> bytes: ...

    @overload
    def reencrypt(
        self,
        source: files.AnyPath | BinaryIO,
        *,
        context: ctx.ExpectedContext,
        output: files.AnyPath | BinaryIO | None = None,
        header: AnySource | None = None,
    ) -> None: ...

    def reencrypt(
        self,
        source: AnySource,
        *,
        context: ctx.ExpectedContext,
        output: files.AnyPath | BinaryIO | None = None,
        header: AnySource | None = None,
    ) -> bytes | None:
        """Encrypt the same plaintext anew: under a new data key, with a new envelope id, bound to the same context.

        For a data key that may be known to somebody; a new KMS key alone is :meth:`rewrap`'s to bring, at no cost. The
        new data key is under the keyring's own keys; what may open the old one is its allow-list (``decrypt_with``).
        Old copies of the envelope still open with the old data key.

        Uses the keyring's ``unwrap`` (kms:Decrypt) and ``generate`` (kms:GenerateDataKey). Takes little memory,
        whatever the size, but for a value.

        Args:
            source: a value (a new one is returned), a path (replaced, whole or not at all), or a binary file object.
            context: the whole map, as for :meth:`open`; which of its pairs are stored stays as it is.
            output: where the new envelope goes instead; needed for a file object.
            header: the detached header of ``source``. The new envelope is whole, and goes to ``output``.

        Raises:
            RewrapConflictError: the file was changed by somebody else meanwhile; it was left alone.
            ContextError, FileError, HeaderError, KmsError, PayloadError: as for :meth:`open`; nothing was changed. To
                a file object, the envelope is left without its end, and never opens.
        """
        if isinstance(source, BytesLike):
            plaintext = self.decrypt(source, context=context, header=header)
            found, _ = envelope.find_header(header, lambda: envelope.header_of_value(source))
            encryptor, new = self._begin_with(*self._split_of(found, context), len(plaintext))
            return payload.encrypt(encryptor, new(hdr.ATTACHED, 1), plaintext)

        again = self.reencryptor(lambda _: context, header=header)
        if output is not None:
            files.copied(source, output, again)
        elif header is not None or not isinstance(source, str | os.PathLike):
            raise TypeError("a file object, or a payload whose header is detached, is not replaced: pass output=")
        else:
            replace_file(source, again)
        return None

    def reencryptor(
        self,
        expect: Callable[[Header], ctx.ExpectedContext],
        *,
        header: AnySource | None = None,
        on_written: Callable[[bytes, tuple[WrappedKey, ...]], None] | None = None,
    ) -> Callable[[BinaryIO, BinaryIO | files.WholeFile], None]:
        """Return what :meth:`reencrypt` does to one envelope, for the ``replace`` of a store (:mod:`sealwax.stores`).

        Args:
            expect: returns the context that is expected of the header that was found, or raises.
            header: as for :meth:`reencrypt`.
            on_written: called with the new envelope's witness (see :meth:`witness`) and its wrapped keys, once all of
                it is written and before it is in its place.
        """

        def again(source: BinaryIO, sink: BinaryIO | files.WholeFile) -> None:
            found = envelope.header_of_stream(source) if header is None else envelope.inspect(header).header
            expected = expect(found)
            envelope.refuse_kind(found, hdr.ATTACHED if header is None else hdr.DETACHED)
            made: list[tuple[Witness, tuple[WrappedKey, ...]]] = []

            def observe(data_key: DataKey, wrapped_keys: tuple[WrappedKey, ...], new_id: bytes, info: bytes) -> None:
                made[:] = [(Witness(data_key, new_id, info), wrapped_keys)]

            with self._reader_after(found, source, expected, None) as reader:
                encryptor, new = self._begin_with(
                    *self._split_of(found, expected), None, None if on_written is None else observe
                )
                with stream.StreamWriter(sink, encryptor, lambda large: _attached(new, sink, large)) as writer:
                    reader.drain(writer.write, *(witness.update for witness, _ in made))
            if on_written is not None:
                ((witness, wrapped_keys),) = made
                on_written(witness.finish(), wrapped_keys)

        return again

    def witness(self, source: BinaryIO, expect: Callable[[Header], ctx.ExpectedContext]) -> bytes:
        """Return what tells an envelope's plaintext from others, once all of it has been authenticated: 48 bytes.

        Only who has the data key can make it, and it tells nobody else anything. Uses the
        keyring's ``unwrap`` (kms:Decrypt).

        Args:
            source: a binary file object, read from where it stands.
            expect: as for :meth:`reencryptor`.

        Raises:
            ContextError, HeaderError, KmsError, PayloadError: as for :meth:`open`.
        """
        found = envelope.header_of_stream(source)
        expected = expect(found)
        envelope.refuse_kind(found, hdr.ATTACHED)
        made: list[Witness] = []

        def observe(data_key: DataKey, info: bytes) -> None:
            made[:] = [Witness(data_key, found.preamble.envelope_id, info)]

        with self._reader_after(found, source, expected, None, observe) as reader:
            reader.drain(made[0].update)
        return made[0].finish()


def _is_small(value: object, most: int) -> bool:
    return isinstance(value, BytesLike) and len(value) <= most


def _attached(header: Callable[[int, int], bytes], sink: object, large: bool) -> bytes:
    """Return a whole envelope's header: what is only ever replaced whole, as an object of S3, has one slot."""
    return header(hdr.ATTACHED, 2 if large and not getattr(sink, "one_slot", False) else 1)
