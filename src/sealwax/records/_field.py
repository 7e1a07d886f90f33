"""One field of one scope: seals and opens its records."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from os import urandom
from typing import Final, NoReturn, Protocol

from cryptography.exceptions import InvalidTag

from sealwax._core import fork_locks
from sealwax._core.format.io import refuse_copies
from sealwax.errors import KeyNotLoadedError, RecordTamperedError
from sealwax.records import _form, _rows, _values
from sealwax.records._form import CIPHERTEXT_AT, HEAD_BYTES, MAGIC, MAX_PLAINTEXT_BYTES
from sealwax.records._held import Held
from sealwax.records._keys import PREFIX_BYTES, SUFFIX_BYTES, FieldKey
from sealwax.records._ring import Ring
from sealwax.records._rows import INT_STARTS, Row, RowType
from sealwax.records._values import Value

# How many records share a prefix, and for how long: about as many and as long, since threads count for themselves.
_RECORDS_A_PREFIX: Final = 65_536
_PREFIX_SECONDS: Final = 3600.0
# How long a record key is used before its ring is asked again; so a ring knows whether it is in use.
_ASK_SECONDS: Final = 300.0

_Encrypt = Callable[[bytes, bytes, bytes], bytes]
# What seals: the cipher's function, the first 29 bytes of each record, a function that raises StopIteration when the
# prefix is used up, and until when it may be used.
_Sealing = tuple[_Encrypt, bytes, Callable[[], int], float]
# What opens: the cipher's function, and until when it may be used.
_Opening = tuple[_Encrypt, float]


def _no_key(*_: object) -> NoReturn:
    raise AssertionError("no record key")


_NOTHING: Final[_Sealing] = (_no_key, b"", iter(()).__next__, float("-inf"))
_NOT_OPENED: Final[_Opening] = (_no_key, float("-inf"))


class FieldSettings(Protocol):
    """What the fields of one ``Records`` share."""

    @property
    def monotonic(self) -> Callable[[], float]: ...

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
        "_ints",
        "_local",
        "_name",
        "_opening",
        "_records",
        "_ring",
        "_sealing",
    )
    __copy__ = __deepcopy__ = __reduce__ = __reduce_ex__ = refuse_copies

    def __init__(self, records: FieldSettings, ring: Ring, local: bytes, name: str, row: RowType) -> None:
        self._records = records
        self._ring = ring
        self._local = local
        self._name = name
        self._encode_row = _rows.encoder(row)
        self._ints = row is int
        self._clock: Callable[[], float] = records.monotonic
        self._sealing = _NOTHING
        self._opening: dict[bytes, _Opening] = {}
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
        encrypt, head, ticket, until = self._sealing
        if type(value) is bytes:
            plaintext = b"\1" + value
        elif type(value) is str:
            plaintext = b"\2" + value.encode()
        else:
            plaintext = _values.encode(value)
        if len(plaintext) > MAX_PLAINTEXT_BYTES:
            raise _too_large(plaintext)
        if self._ints and type(row) is int and 0 <= row < 1 << 500:
            size = (row.bit_length() >> 3) + 1
            bound = INT_STARTS[size] + row.to_bytes(size, "big")
        else:
            bound = self._encode_row(row)
        try:
            if self._clock() > until:
                raise StopIteration
            ticket()
        except StopIteration:
            encrypt, head, ticket, until = self._start_prefix()
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
            UnknownKeyError: no data key of this scope made it.
            ShreddedError: the scope was shredded.
            KeyNotLoadedError: see ``seal``.
            KeyStoreError, KmsError, KeyRowError: the data key cannot be loaded.
            TypeError: the record or the row is of another type.

        IAM: kms:Decrypt.
        """
        if type(record) is not bytes:
            record = _form.parse(record).binary
        decrypt, until = self._opening.get(record[:HEAD_BYTES], _NOT_OPENED)
        if self._ints and type(row) is int and 0 <= row < 1 << 500:
            size = (row.bit_length() >> 3) + 1
            bound = INT_STARTS[size] + row.to_bytes(size, "big")
        else:
            bound = self._encode_row(row)
        if self._clock() > until:
            decrypt = self._start_opening(record)
        try:
            plaintext = decrypt(record[HEAD_BYTES:CIPHERTEXT_AT], record[CIPHERTEXT_AT:], bound)
        except (InvalidTag, ValueError):
            raise self._tampered(record) from None
        if plaintext[0] == 1:
            return plaintext[1:]
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
        encode_row, encode = self._encode_row, _values.encode
        bounds = [b""] * len(values) if isinstance(rows, _rows.Unbound) else list(map(encode_row, rows))
        if isinstance(rows, _rows.Unbound):
            encode_row(rows)
        if len(bounds) != len(values):
            raise ValueError(f"there are {len(values)} values and {len(bounds)} rows; each value needs its row")
        plaintexts = [b"\1" + value if type(value) is bytes else encode(value) for value in values]
        records: list[bytes] = []
        done = 0
        while done < len(plaintexts):
            encrypt, head, ticket, until = self._sealing
            if self._clock() > until:
                encrypt, head, ticket, until = self._start_prefix()
            part = range(done, min(done + 4096, len(plaintexts)))
            suffixes = urandom(SUFFIX_BYTES * len(part))
            for number, at in zip(part, range(0, len(suffixes), SUFFIX_BYTES), strict=True):
                plaintext = plaintexts[number]
                if len(plaintext) > MAX_PLAINTEXT_BYTES:
                    raise _too_large(plaintext)
                try:
                    ticket()
                except StopIteration:
                    encrypt, head, ticket, until = self._start_prefix()
                suffix = suffixes[at : at + SUFFIX_BYTES]
                records.append(head + suffix + encrypt(suffix, plaintext, bounds[number]))
            done = part.stop
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
        if isinstance(rows, _rows.Unbound):
            return [self.open(record, row=rows) for record in records]
        if len(rows) != len(records):
            raise ValueError(f"there are {len(records)} records and {len(rows)} rows; each record needs its row")
        return [self.open(record, row=row) for record, row in zip(records, rows, strict=True)]

    # --- the slow way

    def _start_prefix(self) -> _Sealing:
        fork_locks.notice()
        state: list[_Sealing] = []

        def use(held: Held, until: float) -> None:
            prefix = urandom(PREFIX_BYTES)
            cipher = self._field_key(held).record_key(prefix)
            until = min(until, self._clock() + _ASK_SECONDS)
            head = MAGIC + held.row.key_id + prefix
            sealing = cipher.encrypt, head, iter(range(_RECORDS_A_PREFIX - 1)).__next__, until
            self._sealing = sealing
            state.append(sealing)

        if not self._ring.with_newest(use, wait=_may_wait()):
            raise self._not_loaded(())
        return state[0]

    def _start_opening(self, record: bytes) -> _Encrypt:
        parts = _form.parse(record)
        fork_locks.notice()
        found: list[_Encrypt] = []

        def use(held: Held, until: float) -> None:
            head = record[:HEAD_BYTES]
            cipher = self._field_key(held).record_key(head[-PREFIX_BYTES:])
            self._opening[head] = cipher.decrypt, min(until, self._clock() + _ASK_SECONDS)
            self._records.note_record_key(self, head)
            found.append(cipher.decrypt)

        if not self._ring.with_key(parts.key_id, use, wait=_may_wait()):
            raise self._not_loaded((parts.key_id,))
        return found[0]

    def _field_key(self, held: Held) -> FieldKey:
        return FieldKey(held.key, self._ring.scope_bytes, self._local, self._name)

    def forget(self, key_ids: frozenset[bytes] | None) -> None:
        """Drop the record keys under some data keys; ``Records`` calls this.

        Args:
            key_ids: the data keys; None drops only what seals.
        """
        self._sealing = _NOTHING
        if key_ids:
            for head in [head for head in self._opening if head[1 : 1 + 16] in key_ids]:
                del self._opening[head]

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

    def _tampered(self, record: bytes) -> Exception:
        _form.parse(record)  # it may not even be one
        return RecordTamperedError(
            f"the record of '{self._name}' does not authenticate: it was altered, or was sealed for another row, field "
            "or local scope; nothing was released"
        )


def _may_wait() -> bool:
    return asyncio._get_running_loop() is None


def _too_large(plaintext: bytes) -> ValueError:
    return ValueError(
        f"the value has {len(plaintext) - 1:,} bytes, and a record holds at most {MAX_PLAINTEXT_BYTES - 1:,}; encrypt "
        "it with a Sealer"
    )
