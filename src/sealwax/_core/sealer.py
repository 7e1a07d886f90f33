"""Sealer: the public facade over ``operations``, ``rewrap`` and ``batch``.

It is longer than 500 lines since most of it is the reference that ``help(sealwax.Sealer)`` shows.
"""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, BinaryIO, Final, Literal, TypedDict, TypeVar, cast, overload

from sealwax._core import files, operations, validate, watch
from sealwax._core.context import ExpectedContext, NoContext, is_reserved
from sealwax._core.foreign.rules import ForeignRules
from sealwax._core.format import header as hdr
from sealwax._core.format import payload
from sealwax._core.format.header import Header
from sealwax._core.format.stream import StreamReader, StreamWriter
from sealwax._core.keyring import Keyring, NotReadyError, SupportsReady, WrappedKey
from sealwax._core.rewrap import Rewrap, replace_file, rewrap_file, rewrap_stream, rewrap_value
from sealwax._core.small import SmallValues
from sealwax._core.sources import AnyPath, AnySource, BytesLike
from sealwax.errors import SealwaxError
from sealwax.events import KmsStats

if TYPE_CHECKING:
    from sealwax._core.aio import AsyncFile

C = TypeVar("C")

_SMALL_BYTES: Final = 1 << 16


class _State(TypedDict):
    keyring: Keyring
    local_context: Collection[str]
    allow_legacy: Collection[str]
    unstored_context: Collection[str]


class Sealer:
    """Encrypts, decrypts and re-wraps values, files and streams under data keys of a keyring.

    One sealer serves a whole program, from any number of threads. The context of each call is the whole map that the
    data is bound to: a mapping of str to str, or ``NO_CONTEXT``. Methods that read also take ``AcceptStoredContext``.

    ``decrypt``, ``open``, ``open_stream`` and ``verify``, without ``header``, read envelopes, messages of the AWS
    Encryption SDK, and files of the scripts that ``allow_legacy`` names; from an ``ObjectReader``, also objects of the
    S3 Encryption Client. So do ``decrypt_many`` and the async methods. All other methods take envelopes only.

    A sealer can be pickled if its keyring can. Each unpickled sealer makes its own clients and begins with an empty
    cache. Each method names the method of the keyring that it calls; that method needs the IAM permissions.

    Args:
        keyring: where data keys come from; usually a ``KmsKeyring``.
        local_context: names of context pairs that are neither stored nor sent to KMS, but still bind the data.
        allow_legacy: what may also be read although it does not commit to its data key: ``"esdk-0178"`` for messages
            of the AWS Encryption SDK in that suite, and so on. ``"boto3-fernet"`` reads files of the boto3 guide, which
            nothing marks.
        unstored_context: names of context pairs that a message of the AWS Encryption SDK is bound to without storing
            them.

    Raises:
        TypeError: the keyring or a name is of the wrong type.
        ValueError: a name of ``allow_legacy`` is unknown.

    Example:
        >>> sealer = Sealer(KmsKeyring("alias/payments"))
        >>> sealed = sealer.encrypt(b"4111 1111 1111 1111", context={"table": "users", "id": "123"})
        >>> sealer.decrypt(sealed, context={"table": "users", "id": "123"})
        b'4111 1111 1111 1111'
    """

    def __init__(
        self,
        keyring: Keyring,
        *,
        local_context: Collection[str] = (),
        allow_legacy: Collection[str] = (),
        unstored_context: Collection[str] = (),
    ) -> None:
        names = frozenset(validate.texts("local_context", local_context, "names of context pairs"))
        unstored = frozenset(validate.texts("unstored_context", unstored_context, "names of context pairs"))
        legacy = frozenset(validate.texts("allow_legacy", allow_legacy, "names of what to allow"))
        foreign = ForeignRules(legacy, unstored)
        self._binding = operations.Binding(validate.keyring(keyring), names, foreign)
        # By its type: a wrapper that passes on every attribute must be asked itself.
        held = cast("SupportsReady", keyring)._ready() if issubclass(type(keyring), SupportsReady) else None
        # For small values in few steps, and for everything that needs no waiting.
        self._small = None if held is None or is_reserved(names) else SmallValues(held, names)
        self._at_once = (
            None
            if held is None or held is keyring
            else Sealer(held, local_context=names, allow_legacy=legacy, unstored_context=unstored)
        )

    def __getstate__(self) -> _State:
        return {
            "keyring": self._binding.keyring,
            "local_context": self._binding.local_names,
            "allow_legacy": self._binding.foreign.legacy,
            "unstored_context": self._binding.foreign.unstored,
        }

    def __setstate__(self, state: _State) -> None:
        Sealer.__init__(self, **state)

    def __repr__(self) -> str:
        return f"Sealer({self._binding.keyring!r})"

    def stats(self) -> KmsStats:
        """Count the KMS requests that the keyring has sent and a cache has saved, and what they cost.

        Returns:
            The counts; zeros if the keyring does not count.

        Example:
            >>> sealer.stats().cost_usd
            3e-06
        """
        return watch.kms_stats(self._binding.keyring)

    # --- values

    def encrypt(self, plaintext: BytesLike, *, context: Mapping[str, str] | NoContext) -> bytes:
        """Encrypt a value. Uses the keyring's ``generate`` (kms:GenerateDataKey).

        Args:
            plaintext: the value.
            context: the map to bind it to.

        Returns:
            An envelope.

        Raises:
            ContextError: the context is empty or cannot be stored.
            KmsError: KMS did not return a data key.
            TypeError: ``plaintext`` is not bytes-like. Encode text first, and use ``open`` for files.

        Example:
            >>> sealed = sealer.encrypt(b"secret", context={"table": "users", "id": "123"})
        """
        if self._small is not None and (sealed := self._small.encrypt(plaintext, context)) is not None:
            return sealed
        validate.value("encrypt", plaintext)
        begun = self._begin(plaintext, context)
        return payload.encrypt(begun.encryptor, begun.header(hdr.ATTACHED, 1), plaintext)

    def encrypt_detached(self, plaintext: BytesLike, *, context: Mapping[str, str] | NoContext) -> tuple[bytes, bytes]:
        """Encrypt a value into a header and a payload that are stored separately.

        Args:
            plaintext: the value.
            context: the map to bind it to.

        Returns:
            The detached header, and the payload.

        Raises:
            ContextError, KmsError, TypeError: as for ``encrypt``.

        Example:
            >>> header, body = sealer.encrypt_detached(b"secret", context={"id": "123"})
            >>> sealer.decrypt(body, context={"id": "123"}, header=header)
            b'secret'
        """
        validate.value("encrypt_detached", plaintext)
        begun = self._begin(plaintext, context)
        return begun.header(hdr.DETACHED, 1), payload.encrypt(begun.encryptor, b"", plaintext)

    def _begin(self, plaintext: BytesLike, context: Mapping[str, str] | NoContext) -> operations.Begun:
        binding = self._binding
        return operations.begin(binding.keyring, binding.split(context), memoryview(plaintext).nbytes)

    def decrypt(self, sealed: BytesLike, *, context: ExpectedContext, header: AnySource | None = None) -> bytes:
        """Decrypt an envelope in memory. Uses the keyring's ``unwrap`` (kms:Decrypt).

        Args:
            sealed: the envelope, message or file of a script (see ``Sealer``), or only the payload if ``header`` is
                given.
            context: the map it was encrypted with.
            header: the detached header: a value, a path or a file object.

        Returns:
            The plaintext.

        Raises:
            ContextError: the data was encrypted with another context.
            HeaderError: it is of no format that is read, or its header is damaged.
            UnsupportedEnvelopeError: it does not commit to its data key, and ``allow_legacy`` does not name it. It is a
                HeaderError.
            KmsError: the data key could not be unwrapped.
            PayloadError: the payload does not authenticate.
            TypeError: ``sealed`` is not bytes-like. Use ``open`` for files and ``dearmor`` for text.

        Example:
            >>> sealer.decrypt(sealed, context={"table": "users", "id": "123"})
            b'secret'
        """
        if self._small is not None and header is None:
            plaintext = self._small.decrypt(sealed, context)
            if plaintext is not None:
                return plaintext
        validate.value("decrypt", sealed)
        return operations.decrypt(self._binding, sealed, context, header)

    # --- files and streams

    @overload
    def open(
        self,
        file: AnyPath | BinaryIO,
        mode: Literal["rb"] = "rb",
        *,
        context: ExpectedContext,
        header: AnySource | None = None,
    ) -> io.BufferedReader: ...

    @overload
    def open(
        self,
        file: AnyPath | BinaryIO,
        mode: Literal["wb", "xb"],
        *,
        context: Mapping[str, str] | NoContext,
        header: AnyPath | BinaryIO | None = None,
    ) -> StreamWriter: ...

    def open(
        self,
        file: AnyPath | BinaryIO,
        mode: Literal["rb", "wb", "xb"] = "rb",
        *,
        context: ExpectedContext,
        header: AnySource | None = None,
    ) -> io.BufferedReader | StreamWriter:
        """Open an envelope as a binary file of its plaintext.

        Reading returns only authenticated plaintext, and uses the keyring's ``unwrap`` (kms:Decrypt). Reading to the
        end authenticates all of it; if a ``with`` block ends early, the rest was not checked.

        In other formats (see ``Sealer``) nothing is authentic before the end, so opening reads all of it once before it
        returns; a pipe is copied for that, still encrypted, to a temporary file. Only frames of a message that is not
        signed are authentic one by one, and such a message is read at any position.

        Writing uses the keyring's ``generate`` (kms:GenerateDataKey). The file at a path appears, whole, on ``close``
        or at the end of ``with``; an exception in the block leaves what was there before. In a file object, it leaves
        an envelope without its end, which never opens.

        Args:
            file: a path, or a binary file object, which is used from its current position and not closed.
            mode: ``"rb"`` to read: an envelope in a seekable file at any position, in a pipe front to back. ``"wb"`` to
                write an envelope and replace a file. ``"xb"`` to write a file that must not exist yet.
            context: the map that the data is bound to.
            header: the detached header to read or write; ``file`` is then only the payload.

        Returns:
            A file object of the plaintext.

        Raises:
            ContextError, KmsError: as for ``encrypt`` and ``decrypt``.
            FileError: the file cannot be opened, or a temporary file cannot be written.
            HeaderError, PayloadError: when reading, as for ``decrypt``.
            ValueError: the mode is unknown, or payload and header are one file.

        Example:
            >>> with sealer.open("backup.tar.swx", "wb", context={"purpose": "backup"}) as file:
            ...     file.write(b"...")
        """
        return self._open(file, mode, context, header)

    def _open(
        self, file: AnyPath | BinaryIO, mode: str, context: ExpectedContext, header: AnySource | None
    ) -> io.BufferedReader | StreamWriter:
        if mode == "rb":
            return operations.open_for_reading(self._binding, file, context, header)
        if mode in ("wb", "xb"):
            if isinstance(header, BytesLike):
                raise TypeError("header must be a path or a binary file object when writing")
            to_bind = cast("operations.ToBind", context)
            return operations.open_for_writing(self._binding, file, to_bind, header, overwrite=mode == "wb")
        raise ValueError("mode must be 'rb', 'wb' or 'xb'")

    def open_stream(
        self, file: AnyPath | BinaryIO, *, context: ExpectedContext, header: AnySource | None = None
    ) -> StreamReader:
        """Open an envelope for one pass front to back, which is the fastest way to read it.

        Of other formats (see ``Sealer``) all is authenticated before this returns, as by ``open``.

        Args:
            file: a path, or a binary file object, which is used from its current position and not closed.
            context: the map that the data is bound to.
            header: the detached header; ``file`` is then only the payload.

        Returns:
            A file object of the plaintext. Its ``write_to(sink)`` is faster than reading and writing.

        Raises:
            ContextError, FileError, HeaderError, KmsError, PayloadError: as for ``open``.

        Example:
            >>> with sealer.open_stream("backup.tar.swx", context={"purpose": "backup"}) as reader:
            ...     reader.write_to(sys.stdout.buffer)
        """
        return files.use_input(
            file, lambda opened, on_close: operations.stream_reader(self._binding, opened, context, header, on_close)
        )

    def verify(self, source: AnySource, *, context: ExpectedContext, header: AnySource | None = None) -> int:
        """Authenticate a whole envelope and write nothing. Uses the keyring's ``unwrap`` (kms:Decrypt).

        Args:
            source: a value, a path or a binary file object; an envelope or another format (see ``Sealer``).
            context: the map that the data is bound to.
            header: the detached header; ``source`` is then only the payload.

        Returns:
            The size of the plaintext in bytes.

        Raises:
            ContextError, FileError, HeaderError, KmsError, PayloadError: as for ``open``.

        Example:
            >>> sealer.verify("backup.tar.swx", context={"purpose": "backup"})
            10240
        """
        if isinstance(source, BytesLike):
            source = io.BytesIO(validate.value("verify", source))
        with self.open_stream(source, context=context, header=header) as reader:
            return reader.drain()

    # --- asyncio, and many at a time. Each imports what it needs when used: asyncio takes longer than everything else.

    async def encrypt_async(self, plaintext: BytesLike, *, context: Mapping[str, str] | NoContext) -> bytes:
        """Encrypt a value without blocking the event loop.

        Args:
            plaintext: the value.
            context: the map to bind it to.

        Returns:
            An envelope.

        Raises:
            ContextError, KmsError, TypeError: as for ``encrypt``.

        Example:
            >>> sealed = await sealer.encrypt_async(b"secret", context={"id": "123"})
        """
        if self._at_once is not None and _is_small(plaintext, payload.GROUP_BYTES):
            with contextlib.suppress(NotReadyError):
                return self._at_once.encrypt(plaintext, context=context)
        from sealwax._core import aio

        return await aio.in_thread(self.encrypt, plaintext, context=context)

    async def decrypt_async(
        self, sealed: BytesLike, *, context: ExpectedContext, header: AnySource | None = None
    ) -> bytes:
        """Decrypt an envelope in memory without blocking the event loop.

        Args:
            sealed, context, header: as for ``decrypt``.

        Returns:
            The plaintext.

        Raises:
            ContextError, HeaderError, KmsError, PayloadError, TypeError: as for ``decrypt``.

        Example:
            >>> await sealer.decrypt_async(sealed, context={"id": "123"})
            b'secret'
        """
        if self._at_once is not None and header is None and _is_small(sealed, payload.GROUP_BYTES):
            with contextlib.suppress(NotReadyError):
                return self._at_once.decrypt(sealed, context=context)
        from sealwax._core import aio

        return await aio.in_thread(self.decrypt, sealed, context=context, header=header)

    def open_async(
        self,
        file: AnyPath | BinaryIO,
        mode: Literal["rb", "wb", "xb"] = "rb",
        *,
        context: ExpectedContext,
        header: AnySource | None = None,
    ) -> AsyncFile:
        """Open an envelope for ``async with``: every method of the file is a coroutine.

        Args:
            file, mode, context, header: as for ``open``.

        Returns:
            A file of the plaintext; ``async with`` opens it, and raises what ``open`` raises.

        Example:
            >>> async with sealer.open_async("backup.tar.swx", context={"purpose": "backup"}) as file:
            ...     data = await file.read()
        """
        from sealwax._core import aio

        return aio.AsyncFile(lambda: self._open(file, mode, context, header))

    @overload
    def encrypt_many(
        self,
        items: Iterable[tuple[BytesLike, Mapping[str, str] | NoContext]],
        *,
        threads: int | None = None,
        return_exceptions: Literal[False] = False,
    ) -> Iterator[bytes]: ...

    @overload
    def encrypt_many(
        self,
        items: Iterable[tuple[BytesLike, Mapping[str, str] | NoContext]],
        *,
        threads: int | None = None,
        return_exceptions: bool,
    ) -> Iterator[bytes | SealwaxError]: ...

    def encrypt_many(
        self,
        items: Iterable[tuple[BytesLike, Mapping[str, str] | NoContext]],
        *,
        threads: int | None = None,
        return_exceptions: bool = False,
    ) -> Iterator[bytes | SealwaxError]:
        """Encrypt many values, in order and with bounded memory.

        Args:
            items: pairs of plaintext and context. Only a few are taken ahead of the results.
            threads: how many threads encrypt large values and wait for KMS, 1 to 1000; by default 4 more than there
                are processors.
            return_exceptions: whether to yield the ``SealwaxError`` of an item in its place. By default the first error
                is raised.

        Returns:
            An iterator over the envelopes.

        Raises:
            ContextError, KmsError: as for ``encrypt``.
            TypeError, ValueError: ``threads`` is out of range, or an item is not a pair.

        Example:
            >>> for sealed in sealer.encrypt_many((row.secret, {"id": row.id}) for row in rows):
            ...     store(sealed)
        """
        return self._many(
            items, lambda sealer, value, context: sealer.encrypt(value, context=context), threads, return_exceptions
        )

    @overload
    def decrypt_many(
        self,
        items: Iterable[tuple[BytesLike, ExpectedContext]],
        *,
        threads: int | None = None,
        return_exceptions: Literal[False] = False,
    ) -> Iterator[bytes]: ...

    @overload
    def decrypt_many(
        self, items: Iterable[tuple[BytesLike, ExpectedContext]], *, threads: int | None = None, return_exceptions: bool
    ) -> Iterator[bytes | SealwaxError]: ...

    def decrypt_many(
        self,
        items: Iterable[tuple[BytesLike, ExpectedContext]],
        *,
        threads: int | None = None,
        return_exceptions: bool = False,
    ) -> Iterator[bytes | SealwaxError]:
        """Decrypt many envelopes, in order and with bounded memory.

        Args:
            items: pairs of envelope and context.
            threads, return_exceptions: as for ``encrypt_many``.

        Returns:
            An iterator over the plaintexts.

        Raises:
            ContextError, HeaderError, KmsError, PayloadError: as for ``decrypt``.
            TypeError, ValueError: ``threads`` is out of range, or an item is not a pair.

        Example:
            >>> pairs = ((row.sealed, {"id": row.id}) for row in rows)
            >>> for result in sealer.decrypt_many(pairs, return_exceptions=True):
            ...     print(result if isinstance(result, SealwaxError) else len(result))
        """
        return self._many(
            items, lambda sealer, value, context: sealer.decrypt(value, context=context), threads, return_exceptions
        )

    def _many(
        self,
        items: Iterable[tuple[BytesLike, C]],
        method: Callable[[Sealer, BytesLike, C], bytes],
        threads: int | None,
        return_exceptions: bool,
    ) -> Iterator[bytes | SealwaxError]:
        from sealwax._core import batch

        if threads is not None:
            validate.whole("threads", threads, 1, batch.MOST_THREADS)
        validate.many("items", items, "pairs of bytes and context")
        at_once = self._at_once

        def pairs() -> Iterator[tuple[BytesLike, C]]:
            for item in cast("Iterable[object]", items):
                if not isinstance(item, tuple | list) or len(item) != 2:
                    raise TypeError("each item must be a pair of bytes and context")
                yield item[0], item[1]

        def in_this_thread(item: tuple[BytesLike, C]) -> bytes | None:
            # Handing a small value to a thread takes longer than encrypting it.
            if at_once is not None and _is_small(item[0], _SMALL_BYTES):
                with contextlib.suppress(NotReadyError):
                    return method(at_once, *item)
            return None

        def in_thread(item: tuple[BytesLike, C]) -> bytes:
            return method(self, *item)

        return batch.run(pairs(), in_this_thread, in_thread, threads=threads, return_exceptions=return_exceptions)

    # --- re-wrapping

    @overload
    def rewrap(
        self,
        source: BytesLike,
        *,
        to: str | Sequence[str],
        context: ExpectedContext,
        verify: bool = False,
        body: AnySource | None = None,
    ) -> bytes: ...

    @overload
    def rewrap(
        self,
        source: AnyPath | BinaryIO,
        *,
        to: str | Sequence[str],
        context: ExpectedContext,
        output: AnyPath | BinaryIO | None = None,
        verify: bool = False,
        body: AnySource | None = None,
    ) -> None: ...

    def rewrap(
        self,
        source: AnySource,
        *,
        to: str | Sequence[str],
        context: ExpectedContext,
        output: AnyPath | BinaryIO | None = None,
        verify: bool = False,
        body: AnySource | None = None,
    ) -> bytes | None:
        """Wrap the same data key under other KMS keys. The payload does not change, and the data key is never seen.

        Uses the keyring's ``rewrap`` (kms:ReEncryptFrom on the old key, kms:ReEncryptTo on the new keys), and with
        ``verify`` its ``unwrap`` (kms:Decrypt).

        This does not revoke access: anyone who has the data key, or an old copy of the envelope, can still decrypt it.

        Args:
            source: a value, a path (changed in place), or a binary file object.
            to: the complete new set of KMS keys. The old keys are the keyring's allow-list.
            context: the map that the data is bound to; local pairs are needed only with ``verify``.
            output: where the re-wrapped envelope goes instead; required for a file object.
            verify: whether to unwrap the data key first and check that it fits the payload and the whole context.
            body: the payload of a detached header, for ``verify``.

        Returns:
            The new envelope if ``source`` is a value, otherwise None.

        Raises:
            RewrapConflictError: another program replaced the file during the re-wrap, or its slots contradict each
                other.
            NotAnEnvelopeError: it is of another format.
            ContextError, FileError, HeaderError, KmsError: as for ``open``, or another program held a lock on the file
                for 10 seconds; the file is unchanged, or opens with the old or the new key.
            CommitmentError: with ``verify``, the wrapped key does not belong to the payload.

        Example:
            >>> sealer.rewrap("backup.tar.swx", to="alias/payments-2027", context={"purpose": "backup"})
        """
        rewrap = self.rewrapper(to=to, context=context, verify=verify, body=body)
        if isinstance(source, BytesLike):
            return rewrap_value(validate.value("rewrap", source), rewrap)
        if output is not None:
            files.copy_between(source, output, lambda opened, sink: rewrap_stream(opened, sink, rewrap))
        elif isinstance(source, str | os.PathLike):
            rewrap_file(source, rewrap)
        else:
            raise TypeError("a file object is not changed in place: pass output=")
        return None

    def rewrapper(
        self, *, to: str | Sequence[str], context: ExpectedContext, verify: bool = False, body: AnySource | None = None
    ) -> Rewrap:
        """Make the function that a store's ``rewrap`` calls with each header.

        Args:
            to, context, verify, body: as for ``rewrap``.

        Returns:
            A function of a header, and of a function that reads the first 56 bytes of its payload. It returns the new
            wrapped keys, and raises what ``rewrap`` raises. With it, an ``S3Store`` also re-wraps objects of the S3
            Encryption Client.

        Raises:
            TypeError: ``to`` is neither a key name nor a sequence of them.

        Example:
            >>> rewrap = sealer.rewrapper(to="alias/payments-2027", context={"purpose": "backup"})
            >>> sealwax.stores.open_store("s3://vault/").rewrap("s3://vault/big.swx", rewrap)
        """
        targets = validate.one_or_more("to", to, "a key name", "key names")
        return operations.rewrapper(self._binding, targets, context, verify=verify, body=body)

    # --- re-encrypting

    @overload
    def reencrypt(self, source: BytesLike, *, context: ExpectedContext, header: AnySource | None = None) -> bytes: ...

    @overload
    def reencrypt(
        self,
        source: AnyPath | BinaryIO,
        *,
        context: ExpectedContext,
        output: AnyPath | BinaryIO | None = None,
        header: AnySource | None = None,
    ) -> None: ...

    def reencrypt(
        self,
        source: AnySource,
        *,
        context: ExpectedContext,
        output: AnyPath | BinaryIO | None = None,
        header: AnySource | None = None,
    ) -> bytes | None:
        """Encrypt the same plaintext again: under a new data key, with a new envelope id, bound to the same context.

        Use it if the data key may have leaked. To change only the KMS key, ``rewrap`` is far cheaper. The new data
        key is wrapped under the keyring's own keys; the old one must be on its allow-list (``decrypt_with``). Old
        copies of the envelope still open with the old data key.

        Uses the keyring's ``unwrap`` (kms:Decrypt) and ``generate`` (kms:GenerateDataKey). Except for a value, it takes
        little memory for any size.

        Args:
            source: a value, a path (replaced, whole or not at all), or a binary file object.
            context: the map that the data is bound to; the same pairs stay stored or local.
            output: where the new envelope goes instead; required for a file object.
            header: the detached header of ``source``. The new envelope is whole, and goes to ``output``.

        Returns:
            The new envelope if ``source`` is a value, otherwise None.

        Raises:
            RewrapConflictError: another program changed the file meanwhile; it was left alone.
            NotAnEnvelopeError: it is of another format.
            ContextError, FileError, HeaderError, KmsError, PayloadError: as for ``open``; nothing was changed. A file
                object is left with an envelope without its end, which never opens.

        Example:
            >>> sealer.reencrypt("backup.tar.swx", context={"purpose": "backup"})
        """
        if isinstance(source, BytesLike):
            validate.value("reencrypt", source)

            def decrypt() -> bytes:
                return self.decrypt(source, context=context, header=header)

            return operations.reencrypt_value(self._binding, source, decrypt, context, header)

        reencrypt = operations.reencryptor(self._binding, lambda _: context, header, None)
        if output is not None:
            files.copy_between(source, output, reencrypt)
        elif header is not None or not isinstance(source, str | os.PathLike):
            raise TypeError("a file object, or a payload with a detached header, is not replaced: pass output=")
        else:
            replace_file(source, reencrypt)
        return None

    def reencryptor(
        self,
        expect: Callable[[Header], ExpectedContext],
        *,
        header: AnySource | None = None,
        on_written: Callable[[bytes, tuple[WrappedKey, ...]], None] | None = None,
    ) -> Callable[[BinaryIO, BinaryIO], None]:
        """Make the function that a store's ``replace`` calls with each envelope.

        Args:
            expect: called with the header; returns the expected context, or raises.
            header: as for ``reencrypt``.
            on_written: called with the new envelope's witness (see ``witness``) and its wrapped keys, after it is
                written and before it is in its place.

        Returns:
            A function of a source and a sink. It raises what ``reencrypt`` raises.

        Example:
            >>> reencrypt = sealer.reencryptor(lambda header: {"purpose": "backup"})
            >>> sealwax.stores.open_store("s3://vault/").replace("s3://vault/big.swx", reencrypt)
        """
        return operations.reencryptor(self._binding, expect, header, on_written)

    def witness(self, source: BinaryIO, expect: Callable[[Header], ExpectedContext]) -> bytes:
        """Authenticate a whole envelope and return a keyed digest of it, to recognize the same plaintext later.

        Only those who can unwrap the data key can compute a witness; it reveals nothing to anyone else. Uses the
        keyring's ``unwrap`` (kms:Decrypt).

        Args:
            source: a binary file object, read from its current position.
            expect: as for ``reencryptor``.

        Returns:
            48 bytes.

        Raises:
            NotAnEnvelopeError: it is of another format.
            ContextError, HeaderError, KmsError, PayloadError: as for ``open``.

        Example:
            >>> with open("backup.tar.swx", "rb") as file:
            ...     witness = sealer.witness(file, lambda header: {"purpose": "backup"})
        """
        return operations.witness_of(self._binding, source, expect)


def _is_small(value: object, most: int) -> bool:
    return isinstance(value, BytesLike) and len(value) <= most
