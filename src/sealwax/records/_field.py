"""One field of one scope: seals and opens its records."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from itertools import chain, islice, repeat
from os import urandom
from struct import Struct
from time import monotonic
from typing import Final, NoReturn, Protocol

from cryptography.exceptions import InvalidTag

from sealwax._core import fork_locks
from sealwax._core.format import payload
from sealwax._core.format.io import refuse_copies
from sealwax.errors import KeyNotLoadedError, NotARecordError, RecordTamperedError, SealwaxError
from sealwax.records import _form, _rows, _values
from sealwax.records._form import CIPHERTEXT_AT, HEAD_BYTES, MAGIC, MAX_PLAINTEXT_BYTES
from sealwax.records._held import Held
from sealwax.records._keys import KEY_ID_BYTES, PREFIX_BYTES, SUFFIX_BYTES, FieldKey
from sealwax.records._ring import Ring
from sealwax.records._rows import Row, RowType
from sealwax.records._values import Value

# How many records share a prefix.
_RECORDS_A_PREFIX: Final = 65_536
# How long a record key is used before its ring is asked again, and for which part of its data key's age at most; so a
# ring knows whether it is in use, well before the time to fetch the data key again.
_ASK_SECONDS: Final = 300.0
_ASK_IN_AGE: Final = 0.25
# How many records are sealed or opened between looks at the clocks: some milliseconds.
_BLOCK: Final = 4096

_Encrypt = Callable[[bytes, bytes, bytes], bytes]
_Clock = Callable[[], float]
# What seals: the cipher's function, a function that returns the first 29 bytes of a record until the prefix is used up
# and then raises StopIteration, and until when both may be used, by the monotonic clock and by the time of day. With
# the clocks in it, which takes less than to find them elsewhere.
_Sealing = tuple[_Encrypt, Callable[[], bytes], _Clock, float, _Clock, float]
# What opens: the cipher's function, and until when it may be used.
_Opening = tuple[_Encrypt, _Clock, float, _Clock, float]
# The key of this field under one data key, and until when it may be used.
_Keyed = tuple[FieldKey, float, float]


def _no_key(*_: object) -> NoReturn:
    raise AssertionError("no record key")


_NEVER: Final = float("-inf")
_NOTHING: Final[_Sealing] = (_no_key, iter(()).__next__, monotonic, _NEVER, monotonic, _NEVER)
_NOT_KEYED: Final = (None, _NEVER, _NEVER)
_NOT_OPENED: Final[_Opening] = (_no_key, monotonic, _NEVER, monotonic, _NEVER)
_SUFFIX: Final = Struct(f"{SUFFIX_BYTES}s")
# Where the parts of a record are, and the value behind its type. A slice that is there already is faster.
_HEAD: Final = slice(HEAD_BYTES)
_SUFFIX_AT: Final = slice(HEAD_BYTES, CIPHERTEXT_AT)
_SEALED_AT: Final = slice(CIPHERTEXT_AT, None)
_VALUE: Final = slice(1, None)


class FieldSettings(Protocol):
    """What the fields of one ``Records`` share."""

    @property
    def monotonic(self) -> Callable[[], float]: ...

    @property
    def wall(self) -> Callable[[], float]: ...

    def note_record_key(self, field: Field, head: bytes) -> None: ...


class Field:
    """Seals and opens the records of one field, of one scope; ``Records.field`` makes it.

    Any number of threads use it at once. It holds keys, so it cannot be copied or pickled.

    Example:
        >>> card = records.field("users.card", row=int, tenant="acme")
        >>> sealed = card.seal(b"4111 1111 1111 1111", row=7)
        >>> card.open(sealed, row=7)
        b'4111 1111 1111 1111'
    """

    __slots__ = (
        "__weakref__",
        "_clock",
        "_encode_row",
        "_int_starts",
        "_keys",
        "_local",
        "_name",
        "_opening",
        "_records",
        "_ring",
        "_sealing",
        "_wall",
    )
    __copy__ = __deepcopy__ = __reduce__ = __reduce_ex__ = refuse_copies

    def __init__(self, records: FieldSettings, ring: Ring, local: bytes, name: str, row: RowType) -> None:
        self._records = records
        self._ring = ring
        self._local = local
        self._name = name
        self._encode_row = _rows.encoder(row)
        self._int_starts = _rows.INT_STARTS if row is int else ()
        self._clock: _Clock = records.monotonic
        self._wall: _Clock = records.wall
        self._sealing = _NOTHING
        self._opening: dict[bytes, _Opening] = {}
        self._keys: dict[bytes, _Keyed] = {}
        ring.listen(self)

    def __repr__(self) -> str:
        return f"<Field {self._name!r} of {self._ring.named()}>"

    def seal(self, value: Value, *, row: Row | _rows.Unbound) -> bytes:
        """Seal a value.

        The first call for a scope waits for the key store and KMS; so may a later one, if its data key has grown old
        while nobody used it. In a running event loop such a call raises ``KeyNotLoadedError`` instead.

        Args:
            value: bytes, str, int, bool, Decimal, date, datetime with a time zone, UUID, or JSON (dict, list, float);
                at most 1 MiB. Its type comes back.
            row: what the record is bound to beside field and scope: the primary key, of the type that the field
                declares.

        Returns:
            The record: at least 58 bytes.

        Raises:
            ShreddedError: the scope was shredded.
            KeyNotLoadedError: see above.
            KeyStoreError, KmsError, KeyRowError: there is no data key to seal under.
            TypeError, ValueError: the value or the row is of another type, or too large.

        IAM: kms:GenerateDataKey for a new scope, else kms:Decrypt.
        """
        plaintext = b"\1" + value if type(value) is bytes else _values.encode(value)
        if len(plaintext) > MAX_PLAINTEXT_BYTES:
            raise _too_large(plaintext)
        if type(row) is int and row >= 0:
            try:
                start, size = self._int_starts[row.bit_length()]
                bound = start + row.to_bytes(size)
            except IndexError:
                bound = self._encode_row(row)
        else:
            bound = self._encode_row(row)
        encrypt, ticket, clock, until, wall, until_wall = self._sealing
        try:
            if clock() > until or wall() > until_wall:
                raise StopIteration
            head = ticket()
        except StopIteration:
            del encrypt  # what keeps an error keeps the variables of its frames
            encrypt, head = self._start_prefix()
        suffix = urandom(12)
        return head + suffix + encrypt(suffix, plaintext, bound)

    def open(self, record: bytes | bytearray | memoryview | str, *, row: Row | _rows.Unbound) -> Value:
        """Open a record.

        Args:
            record: what ``seal`` or ``seal_text`` returned.
            row: as for ``seal``.

        Returns:
            The value, with its type.

        Raises:
            NotARecordError: it does not have the form of a record.
            RecordTamperedError: it was altered, or belongs to another row, field or local scope.
            UnreadableValueError: it holds a value that this release cannot read.
            UnknownKeyError: no data key of this scope made it.
            ShreddedError: the scope was shredded.
            KeyNotLoadedError: see ``seal``.
            KeyStoreError, KmsError, KeyRowError: the data key cannot be loaded.
            TypeError: the record or the row is of another type.

        IAM: kms:Decrypt.
        """
        if type(record) is not bytes:
            try:
                record = _form.from_text(record) if type(record) is str else _form.parse(record).binary
            except (NotARecordError, TypeError) as error:
                del record  # it may be plaintext, and what keeps an error keeps the variables of its frames
                raise error.with_traceback(None)  # noqa: B904  the same
        if type(row) is int and row >= 0:
            try:
                start, size = self._int_starts[row.bit_length()]
                bound = start + row.to_bytes(size)
            except IndexError:
                bound = self._encode_row(row)
        else:
            bound = self._encode_row(row)
        decrypt, clock, until, wall, until_wall = self._opening.get(record[_HEAD], _NOT_OPENED)
        if clock() > until or wall() > until_wall:
            del decrypt  # what keeps an error keeps the variables of its frames
            try:
                _form.check(record)
            except NotARecordError as error:
                del record
                raise error.with_traceback(None)  # noqa: B904  the same
            decrypt = self._start_opening(record[_HEAD])
        try:
            plaintext = decrypt(record[_SUFFIX_AT], record[_SEALED_AT], bound)
        except (InvalidTag, ValueError):
            del decrypt
            raise self._tampered(record) from None
        if plaintext and plaintext[0] == 1:
            return plaintext[_VALUE]
        del decrypt
        return _values.decode(plaintext)

    def seal_text(self, value: Value, *, row: Row | _rows.Unbound) -> str:
        """Seal a value for a column of text; as ``seal``.

        Args:
            value, row: as for ``seal``.

        Returns:
            The record as text: ``swr1.`` and base64url.
        """
        return _form.to_text(self.seal(value, row=row))

    def seal_many(self, values: Sequence[Value], *, rows: Sequence[Row] | _rows.Unbound) -> list[bytes]:
        """Seal many values, each bound to the row at its position; as ``seal``, and faster.

        Args:
            values: as for ``seal``.
            rows: as many rows as values, or ``UNBOUND``.

        Returns:
            The records, in the order of the values.

        Raises:
            ValueError: there are not as many rows as values.
        """
        bounds = self._bounds(rows, len(values), "values")
        encode = _values.encode
        plaintexts = [b"\1" + value if type(value) is bytes else encode(value) for value in values]
        if max(map(len, plaintexts), default=0) > MAX_PLAINTEXT_BYTES:
            raise _too_large(max(plaintexts, key=len))
        records: list[bytes] = []
        while len(records) < len(plaintexts):
            encrypt, heads = self._take_tickets(min(_BLOCK, len(plaintexts) - len(records)))
            part = slice(len(records), len(records) + len(heads))
            # From the kernel for this block alone. If a snapshot is restored here, the same values are sealed again.
            suffixes = list(chain.from_iterable(_SUFFIX.iter_unpack(urandom(SUFFIX_BYTES * len(heads)))))
            sealed = map(encrypt, suffixes, plaintexts[part], bounds[part])
            records += map(b"".join, zip(heads, suffixes, sealed, strict=True))
        return records

    def open_many(
        self, records: Sequence[bytes | bytearray | memoryview | str], *, rows: Sequence[Row] | _rows.Unbound
    ) -> list[Value]:
        """Open many records, each bound to the row at its position; as ``open``, and faster.

        Args:
            records: as for ``open``.
            rows: as many rows as records, or ``UNBOUND``.

        Returns:
            The values, in the order of the records.

        Raises:
            ValueError: there are not as many rows as records.
        """
        bounds = self._bounds(rows, len(records), "records")
        parse, decode = _form.parse, _values.decode
        binaries = [record if type(record) is bytes else parse(record).binary for record in records]
        values: list[Value] = []
        try:
            for begin in range(0, len(binaries), _BLOCK):
                block = binaries[begin : begin + _BLOCK]
                plaintexts = self._open_block(block, bounds[begin : begin + _BLOCK], begin)
                values += [data[_VALUE] if data and data[0] == 1 else decode(data) for data in plaintexts]
        except SealwaxError:
            # Tools that collect errors take the variables of each frame.
            plaintexts = []
            values.clear()
            raise
        return values

    def _bounds(self, rows: Sequence[Row] | _rows.Unbound, count: int, what: str) -> list[bytes]:
        """Encode the row of each of some values or records."""
        encode, starts = self._encode_row, self._int_starts
        if isinstance(rows, _rows.Unbound):
            return [encode(rows)] * count
        if len(rows) != count:
            raise ValueError(f"there are {count} {what} and {len(rows)} rows; each needs its own row")
        try:
            return [
                (start := starts[row.bit_length()])[0] + row.to_bytes(start[1])
                if type(row) is int and row >= 0
                else encode(row)
                for row in rows
            ]
        except IndexError:
            return list(map(encode, rows))

    def _take_tickets(self, most: int) -> tuple[_Encrypt, list[bytes]]:
        """Return what seals, and the first bytes of some records: as many as the prefix has left, and at least one."""
        encrypt, ticket, clock, until, wall, until_wall = self._sealing
        if clock() <= until and wall() <= until_wall:
            heads = list(islice(iter(ticket, b""), most))
            if heads:
                return encrypt, heads
        del encrypt
        encrypt, head = self._start_prefix()
        return encrypt, [head]

    def _open_block(self, block: Sequence[bytes], bounds: Sequence[bytes], begin: int) -> list[bytes]:
        sizes = set(map(len, block))
        for record in block if min(sizes) < _form.MIN_BYTES or max(sizes) > _form.MAX_BYTES else ():
            _form.check(record)
        # What begins the first and the last of them in order begins all of them.
        heads = [min(block)[_HEAD], max(block)[_HEAD]]
        heads = heads[:1] if heads[0] == heads[1] else [record[_HEAD] for record in block]
        decrypts = {head: self._opener(head) for head in dict.fromkeys(heads)}
        each = map(decrypts.__getitem__, heads) if len(heads) > 1 else repeat(decrypts[heads[0]])
        plaintexts: list[bytes] = []
        try:
            for decrypt, record, bound in zip(each, block, bounds, strict=False):
                plaintexts.append(decrypt(record[_SUFFIX_AT], record[_SEALED_AT], bound))
        except (InvalidTag, ValueError):
            decrypts.clear()
            del each, decrypt
            number = len(plaintexts)
            plaintexts.clear()
            raise self._tampered(block[number], f" at position {begin + number}") from None
        return plaintexts

    # --- the slow way

    def _start_prefix(self) -> tuple[_Encrypt, bytes]:
        fork_locks.notice()
        taken: list[tuple[_Encrypt, bytes]] = []

        def use(held: Held, until: float) -> None:
            key, until, until_wall = self._keyed(held, until)
            prefix = urandom(PREFIX_BYTES)
            encrypt = key.record_key(prefix).encrypt
            head = MAGIC + held.row.key_id + prefix
            ticket = repeat(head, _RECORDS_A_PREFIX - 1).__next__
            self._sealing = encrypt, ticket, self._clock, until, self._wall, until_wall
            taken.append((encrypt, head))

        if not self._ring.with_newest(use, wait=_may_wait()):
            raise self._not_loaded(())
        return taken[0]

    def _opener(self, head: bytes) -> _Encrypt:
        """Return what opens the records that begin with ``head``."""
        opened = self._opening.get(head)
        if opened is not None:
            decrypt, clock, until, wall, until_wall = opened
            if clock() <= until and wall() <= until_wall:
                return decrypt
            del decrypt
        del opened
        _form.check_start(head)
        return self._start_opening(head)

    def _start_opening(self, head: bytes) -> _Encrypt:
        """Derive the record key of the records that begin with ``head``."""
        key_id = head[1:-PREFIX_BYTES]
        # Before the key is read: what drops the key replaces this dictionary afterward, so that nothing is added to the
        # new one under a key that was dropped.
        opening = self._opening
        key, until, until_wall = self._keys.get(key_id, _NOT_KEYED)
        if key is None or self._clock() > until or self._wall() > until_wall:
            key = None
            key, until, until_wall = self._ask(key_id)
        decrypt = key.record_key(head[-PREFIX_BYTES:]).decrypt
        opening[head] = decrypt, self._clock, until, self._wall, until_wall
        self._records.note_record_key(self, head)
        return decrypt

    def _ask(self, key_id: bytes) -> _Keyed:
        """Return the key of this field under one data key, from its ring."""
        fork_locks.notice()
        found: list[_Keyed] = []
        if not self._ring.with_key(
            key_id, lambda held, until: found.append(self._keyed(held, until)), wait=_may_wait()
        ):
            raise self._not_loaded((key_id,))
        return found[0]

    def _keyed(self, held: Held, until: float) -> _Keyed:
        """Return the key of this field under a data key; the ring's lock is held."""
        keyed = self._keys.get(held.row.key_id)
        key = keyed[0] if keyed else FieldKey(held.key, self._ring.scope_bytes, self._local, self._name)
        # The ring tells the end by one clock. By the other the key is as old, or its ring does not use it.
        until_wall = until - held.monotonic + held.wall
        ask_after = min(_ASK_SECONDS, held.age_limit * _ASK_IN_AGE)
        keyed = self._keys[held.row.key_id] = key, min(until, self._clock() + ask_after), until_wall
        return keyed

    def forget(self, key_ids: frozenset[bytes] | None) -> None:
        """Drop the keys under some data keys; the ring calls this, under its lock.

        Args:
            key_ids: the data keys; None drops only what seals.
        """
        if key_ids == frozenset():
            return
        self._sealing = _NOTHING
        if key_ids:
            for key_id in key_ids:
                self._keys.pop(key_id, None)
            opening = self._opening
            self._opening = {
                head: key for head, key in list(opening.items()) if head[1 : 1 + KEY_ID_BYTES] not in key_ids
            }
            opening.clear()  # the frame of an error may keep it
            payload.leave_no_registers()

    def holds(self, head: bytes) -> bool:
        """Whether it holds this record key; ``Records`` asks.

        Args:
            head: as for ``drop``.
        """
        return head in self._opening

    def drop(self, head: bytes) -> None:
        """Drop one record key; ``Records`` calls this.

        Args:
            head: the first bytes of the records under it.
        """
        self._opening.pop(head, None)

    def _not_loaded(self, key_ids: tuple[bytes, ...]) -> KeyNotLoadedError:
        return KeyNotLoadedError(
            f"the data key of the scope {self._ring.named()} is not loaded, and loading it would block the event loop; "
            "await records.ensure_async() or records.preload() first",
            self._ring.scope,
            key_ids,
        )

    def _tampered(self, record: bytes, where: str = "") -> Exception:
        _form.check(record)  # it may not even be one
        return RecordTamperedError(
            f"the record of '{self._name}'{where} does not authenticate: it was altered, or was sealed for another "
            "row, field or local scope; nothing was released"
        )


def _may_wait() -> bool:
    return asyncio._get_running_loop() is None


def _too_large(plaintext: bytes) -> ValueError:
    return ValueError(
        f"the value has {len(plaintext) - 1:,} bytes, and a record holds at most {MAX_PLAINTEXT_BYTES - 1:,}; encrypt "
        "it with a Sealer"
    )
