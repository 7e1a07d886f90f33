"""The journal of a plan: its objects with their states, what a scan counted, and what runs have done.

It holds no key bytes: names, states, hashes of wrapped keys, stored contexts, wrapped keys from KMS that several
envelopes share, and those that objects of other formats had. A commit survives the death of the process. Losing power
may lose the last commits; the next run then finds those objects done. What a run notes of other formats is nowhere
else, so each commit of such a plan survives that too.
"""

from __future__ import annotations

import functools
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from sealwax._core.foreign.rules import FAMILIES
from sealwax._core.format import header as hdr
from sealwax._core.keyring import WrappedKey
from sealwax._core.lru import LruMap
from sealwax._core.moved import WITNESS_BYTES, Moved
from sealwax._core.staleness import WantedKey
from sealwax._text import of_many
from sealwax.errors import HeaderError
from sealwax.fleet._client_objects import WORDS, hash_of
from sealwax.fleet._database import PlanDatabase
from sealwax.fleet._shard import Item, Keys, RunResult, ScanResult
from sealwax.fleet._state import State
from sealwax.stores import Entry

_PAGE: Final = 256
_MAX_KEYSETS: Final = 4096
_MAX_SCANS: Final = 1 << 60
_MAX_REASONS: Final = 10_000  # files may be unreadable for any number of reasons
EXAMPLES: Final = 3
_MAX_USAGE: Final = 1000  # files may claim any number of keys
_NOT_LISTED: Final = "its location could not be listed completely, and it was not in the part that could"
_COUNTS: Final = ("units", "wrapped", "contexts", "regions", State.UNLISTED)
_ADD: Final = "ON CONFLICT DO UPDATE SET objects = objects + excluded.objects"
_ADD_UNITS: Final = f"INSERT INTO units VALUES (?,?,?) {_ADD}"  # noqa: S608
_ADD_CONTEXTS: Final = f"INSERT INTO contexts VALUES (?,?) {_ADD}"  # noqa: S608
_ADD_REGIONS: Final = f"INSERT INTO regions VALUES (?,?) {_ADD}"  # noqa: S608
# What a run still has to do.
TO_DO: Final = (State.STALE, State.REFUSED, State.FAILED, State.LEFT)


def _as_bytes(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")


def _as_name(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


Problem = tuple[str, State, str]
"""An object's name, its state, and the reason."""


@dataclass(frozen=True, slots=True)
class ProblemKind:
    """Objects in one state for the same reason.

    Attributes:
        state: their state.
        reason: the reason; without what differs between several objects.
        objects: how many there are.
        examples: the names of the first ones: all of them, or three of more than four.
    """

    state: State
    reason: str
    objects: int
    examples: tuple[str, ...] = ()


def _with_few_examples(kind: ProblemKind) -> ProblemKind:
    """Return a kind with three examples, or four if these are all: "and 1 more" is no shorter than its name."""
    return replace(kind, examples=kind.examples if kind.objects <= EXAMPLES + 1 else kind.examples[:EXAMPLES])


def by_use(counts: Mapping[tuple[str, str], int]) -> list[tuple[str, str, int]]:
    """Return key ARNs, material ids and the number of objects under them, the most used first."""
    rows = [(arn, material, objects) for (arn, material), objects in counts.items()]
    return sorted(rows, key=lambda row: (-row[2], row))


class Journal(PlanDatabase):
    """An open plan file; as ``PlanDatabase``."""

    @functools.cached_property
    def _keysets(self) -> LruMap[Keys, int]:
        """Numbers of key sets that were stored last."""
        return LruMap(_MAX_KEYSETS)

    # --- scanning

    def begin_scan(self) -> int:
        """Delete the counts of the last scan; return the number of this one. Call it inside ``writing``."""
        with self.writing() as connection:
            for table in _COUNTS:
                connection.execute(f"DELETE FROM {table}")  # noqa: S608  one of ours
            connection.execute("DELETE FROM items WHERE state = ?", (State.LINK,))
            ((last,),) = self._rows("i", "SELECT coalesce(max(scan), 0) FROM items")
            if not 0 <= last < _MAX_SCANS:
                raise self.damaged(ValueError("the number of the last scan is not valid"))
            return int(last) + 1

    def already_seen(self, scan: int, place: int, names: Iterable[str]) -> set[str]:
        """Return which of these names this scan has seen in an earlier location: locations may overlap."""
        query = "SELECT 1 FROM items WHERE place = ? AND name = ? AND scan = ?"
        return {
            name
            for name in names
            if any(self._rows("i", query, earlier, _as_bytes(name), scan) for earlier in range(place))
        }

    def record(self, scan: int, place: int, batch: Sequence[tuple[Entry, ScanResult]]) -> None:
        """Record what a scan says about some objects."""
        units: Counter[tuple[bytes, int]] = Counter()
        contexts: Counter[bytes] = Counter()
        regions: Counter[str] = Counter()
        wrapped: set[bytes] = set()
        rows = []
        for entry, scanned in batch:
            rows.append(
                (
                    place,
                    _as_bytes(scanned.name),
                    entry.size,
                    scanned.state,
                    scanned.reason,
                    scanned.format or " ".join(scanned.reasons),  # only foreign objects have a format, and no reasons
                    scanned.envelope_id,
                    self._keyset(scanned.keys),
                    scan,
                )
            )
            if scanned.context:
                contexts[scanned.context] += 1
            regions.update(scanned.missing_regions)
            wrapped.update(scanned.hashes)
            units.update(scanned.units)
        with self.writing() as connection:
            connection.executemany(
                "INSERT INTO items (place, name, size, state, reason, reasons, envelope, keyset, scan)"
                " VALUES (?,?,?,?,?,?,?,?,?)"
                " ON CONFLICT (place, name) DO UPDATE SET size = excluded.size, reason = excluded.reason,"
                " reasons = excluded.reasons, keyset = excluded.keyset, scan = excluded.scan,"
                # What a run has re-wrapped is fresh now, but stays recorded as re-wrapped.
                " state = CASE WHEN state = 'rewrapped' AND excluded.state = 'fresh' AND envelope = excluded.envelope"
                " THEN state ELSE excluded.state END,"
                " envelope = excluded.envelope",
                rows,
            )
            connection.executemany("INSERT OR IGNORE INTO wrapped VALUES (?)", ((key_hash,) for key_hash in wrapped))
            connection.executemany(_ADD_UNITS, ((unit, calls, n) for (unit, calls), n in units.items()))
            connection.executemany(_ADD_CONTEXTS, contexts.items())
            connection.executemany(_ADD_REGIONS, regions.items())

    def record_unlisted(self, message: str) -> None:
        """Record that part of a location could not be listed."""
        with self.writing() as connection:
            connection.execute("INSERT INTO unlisted VALUES (?)", (message,))

    def end_scan(self, scan: int, incomplete: Iterable[int]) -> int:
        """Delete objects that this scan has not seen; return how many.

        Args:
            incomplete: the locations that could not be listed completely. Objects not seen there may still exist: they
                are kept, with their digests, as unreadable.
        """
        with self.writing() as connection:
            connection.executemany(
                "UPDATE items SET scan = ?, state = ?, reason = ? WHERE place = ? AND scan <> ?",
                ((scan, State.UNREADABLE, _NOT_LISTED, place, scan) for place in incomplete),
            )
            return connection.execute("DELETE FROM items WHERE scan <> ?", (scan,)).rowcount

    # --- reading

    def items(self, states: Sequence[State], place: int) -> Iterator[list[Item]]:
        """Yield the objects of a location in some states, a page at a time. States may change meanwhile."""
        last = 0
        marks = ",".join("?" * len(states))
        while rows := self._rows(
            "ibit",
            f"SELECT number, name, size, reasons FROM items WHERE number > ? AND place = ? AND state IN ({marks})"  # noqa: S608
            " ORDER BY number LIMIT ?",
            last,
            place,
            *states,
            _PAGE,
        ):
            last = rows[-1][0]
            # No byte of an object of another format is read for its re-wrap, so its size is of no use.
            yield [
                Item(number, _as_name(name), None if reasons in WORDS else size) for number, name, size, reasons in rows
            ]

    def sample(self, states: Sequence[State], size: int) -> list[tuple[int, Item]]:
        """Return random objects in some states, each with the number of its location."""
        marks = ",".join("?" * len(states))
        rows = self._rows(
            "iib",
            f"SELECT place, number, name FROM items WHERE state IN ({marks}) ORDER BY random() LIMIT ?",  # noqa: S608
            *states,
            size,
        )
        return [(place, Item(number, _as_name(name))) for place, number, name in rows]

    def listed(self, states: Iterable[State], limit: int) -> list[Problem]:
        """Return names, states and reasons of objects in some states, in scan order."""
        states = tuple(states)
        marks = ",".join("?" * len(states))
        rows = self._rows(
            "bst",
            f"SELECT name, state, reason FROM items WHERE state IN ({marks}) ORDER BY number LIMIT ?",  # noqa: S608
            *states,
            limit,
        )
        problems = [(_as_name(name), State(state), reason) for name, state, reason in rows]
        if State.UNLISTED in states:
            problems += [
                ("", State.UNLISTED, text) for (text,) in self._rows("t", "SELECT message FROM unlisted LIMIT ?", limit)
            ]
        return problems

    def kinds(self, states: Iterable[State]) -> list[ProblemKind]:
        """Return the kinds of objects in some states, frequent ones first."""
        states = tuple(states)
        marks = ",".join("?" * len(states))
        # With min(), SQLite takes the name from the row that has it.
        rows = self._rows(
            "stiib",
            f"SELECT state, reason, count(*) AS objects, min(number) AS first, name FROM items WHERE state IN ({marks})"  # noqa: S608
            " GROUP BY state, reason ORDER BY objects DESC, first LIMIT ?",
            *states,
            _MAX_REASONS,
        )
        kinds: dict[tuple[State, str], ProblemKind] = {}
        for state, reason, objects, _, name in rows:
            same = State(state), of_many(reason, numbers=False)
            before = kinds.get(same)
            if before is None:
                examples = [name]
                if objects > 1:
                    query = "SELECT name FROM items WHERE state = ? AND reason = ? ORDER BY number LIMIT ?"
                    examples = [found for (found,) in self._rows("b", query, state, reason, EXAMPLES + 1)]
                kinds[same] = ProblemKind(State(state), reason, objects, tuple(map(_as_name, examples)))
            else:
                text = of_many(reason)
                kinds[same] = ProblemKind(
                    before.state,
                    text if of_many(before.reason) == text else same[1],
                    before.objects + objects,
                    (*before.examples, _as_name(name))[: EXAMPLES + 1],
                )
        unlisted = self.listed([State.UNLISTED], _MAX_REASONS) if State.UNLISTED in states else []
        every = [*kinds.values(), *(ProblemKind(state, reason, 1) for _, state, reason in unlisted)]
        return sorted(map(_with_few_examples, every), key=lambda kind: -kind.objects)

    def states(self) -> dict[State, tuple[int, int]]:
        """Return how many objects there are in each state, and their bytes."""
        rows = self._rows("sii", "SELECT state, count(*), sum(size) FROM items GROUP BY state")
        states = {State(state): (count, size) for state, count, size in rows}
        ((unlisted,),) = self._rows("i", "SELECT count(*) FROM unlisted")
        return states | ({State.UNLISTED: (unlisted, 0)} if unlisted else {})

    def reasons(self) -> dict[str, int]:
        """Return how many objects are stale for each reason, of those whose context was given."""
        counts: Counter[str] = Counter()
        query = "SELECT reasons, count(*) FROM items WHERE reasons <> '' AND state NOT IN (?, ?) GROUP BY reasons"
        for text, count in self._rows("ti", query, State.SKIPPED, State.FOREIGN):
            for reason in text.split():
                counts[reason] += count
        return dict(counts)

    def formats(self) -> dict[str, int]:
        """Return how many foreign objects have each format, the most frequent first; "", for no known format, last."""
        query = (
            "SELECT reasons, count(*) AS n FROM items WHERE state = ? GROUP BY reasons"
            " ORDER BY reasons = '', n DESC, reasons"
        )
        return dict(self._rows("ti", query, State.FOREIGN))

    def usage(self, states: Sequence[State] | None = None, *, staying: bool = True) -> list[tuple[str, str, int]]:
        """Return key ARNs, material ids in hex and how many objects are under them, the most used first.

        Args:
            staying: whether to count files of other formats, which stay as they are when they are moved.
        """
        counts: Counter[tuple[str, str]] = Counter()
        where = "" if states is None else f"WHERE state IN ({','.join('?' * len(states))})"
        if not staying:
            where += "".join(f" AND reasons NOT GLOB '{name}*'" for name in FAMILIES)
        query = f"SELECT keys, count(*) FROM items JOIN keysets USING (keyset) {where} GROUP BY keyset"  # noqa: S608
        for text, count in self._rows("ti", query, *states or ()):
            for arn, material in self._keys_of(text):
                counts[arn, material] += count
        return by_use(counts)[:_MAX_USAGE]

    def keys(self) -> list[str]:
        """Return the ARNs of all keys that objects are under, sorted."""
        query = "SELECT keys FROM keysets WHERE keyset IN (SELECT keyset FROM items)"
        return sorted({arn for (text,) in self._rows("t", query) for arn, _ in self._keys_of(text)})

    def _keys_of(self, text: str) -> list[tuple[str, str]]:
        try:
            keys = [(arn, material) for arn, material in json.loads(text)]
            if not all(isinstance(part, str) for key in keys for part in key):
                raise ValueError("not a list of keys")
        except (ValueError, TypeError, RecursionError) as error:
            raise self.damaged(error) from None
        return keys

    def _keyset(self, keys: Keys) -> int | None:
        """Return the number of this set of keys and materials; None for the empty set."""
        if not keys:
            return None
        number = self._keysets.get(keys)
        if number is None:
            text = json.dumps(sorted(keys))
            with self.writing() as connection:
                connection.execute("INSERT OR IGNORE INTO keysets (keys) VALUES (?)", (text,))
                (number,) = connection.execute("SELECT keyset FROM keysets WHERE keys = ?", (text,)).fetchone()
            self._keysets[keys] = number
        return number

    def contexts(self, limit: int) -> tuple[int, list[tuple[bytes, int]]]:
        """Return how many distinct contexts there are, and the most frequent ones."""
        ((count,),) = self._rows("i", "SELECT count(*) FROM contexts")
        return count, self._rows(
            "bi", "SELECT context, objects FROM contexts ORDER BY objects DESC, context LIMIT ?", limit
        )

    def missing_regions(self) -> dict[str, int]:
        """Return how many envelopes lack a wrapped key of each wanted Region."""
        return dict(self._rows("ti", "SELECT region, objects FROM regions ORDER BY region"))

    def wrapped(self) -> int:
        """Return how many distinct wrapped keys there are."""
        return int(self._rows("i", "SELECT count(*) FROM wrapped")[0][0])

    def calls(self) -> int:
        """Return how many KMS calls the last scan found necessary."""
        return int(self._rows("i", "SELECT coalesce(sum(calls), 0) FROM units")[0][0])

    # --- digests: each is an envelope's id followed by the SHA-256 of its payload

    def digested(self, size: int | None) -> Iterator[tuple[int, Item, bytes]]:
        """Yield location, object and digest, for ``size`` random objects that have one, or for all."""
        last = 0
        # The report counts those that the last scan could not read as unreadable.
        query = (
            "SELECT number, place, name, digest FROM items"
            " WHERE digest IS NOT NULL AND state <> 'unreadable' AND number > ?"
        )
        if size is not None:
            rows = self._rows("iibb", f"{query} ORDER BY random() LIMIT ?", last, size)
            yield from ((place, Item(number, _as_name(name)), digest) for number, place, name, digest in rows)
            return
        while rows := self._rows("iibb", f"{query} ORDER BY number LIMIT ?", last, _PAGE):
            last = rows[-1][0]
            yield from ((place, Item(number, _as_name(name)), digest) for number, place, name, digest in rows)

    def digests(self) -> int:
        """Return how many objects have a digest."""
        return int(self._rows("i", "SELECT count(*) FROM items WHERE digest IS NOT NULL")[0][0])

    def set_digests(self, digests: Iterable[tuple[int, bytes]]) -> None:
        """Record digests of objects."""
        with self.writing() as connection:
            connection.executemany(
                "UPDATE items SET digest = ? WHERE number = ?", ((digest, number) for number, digest in digests)
            )

    # --- re-encryption, as _reencrypt.Memory; a witness is stored in place of a digest

    def set_old(self, marks: Iterable[bytes]) -> None:
        """Record the marks of envelopes with old data keys."""
        with self.writing() as connection:
            connection.executemany("INSERT OR IGNORE INTO old VALUES (?)", ((mark,) for mark in marks))

    def is_old(self, marks: Iterable[bytes]) -> bool:
        """Whether any of these marks is that of an old envelope."""
        return any(self._rows("i", "SELECT 1 FROM old WHERE mark = ?", mark) for mark in marks)

    def witness(self, number: int) -> bytes:
        """Return the witness of an object, or b""."""
        rows = self._rows("b", "SELECT digest FROM items WHERE number = ? AND digest IS NOT NULL", number)
        return rows[0][0] if rows else b""

    def set_witness(self, number: int, witness: bytes) -> None:
        """Record the witness of an object."""
        self.set_digests([(number, witness)])

    def number_of(self, place: int, name: str) -> int:
        """Return an object's number; 0 if the plan does not have it."""
        rows = self._rows("i", "SELECT number FROM items WHERE place = ? AND name = ?", place, _as_bytes(name))
        return int(rows[0][0]) if rows else 0

    # --- objects of the S3 Encryption Client, as _kms_calls.BlobStore

    def note_blob(self, name: str, key: WantedKey, old: bytes, new: bytes) -> None:
        """Record the wrapped key that an object has, before it gets a new one, which is under a key."""
        row = (_as_bytes(name), hash_of(new), key.arn, key.material_id, old)
        with self.writing() as connection:
            connection.execute("INSERT OR IGNORE INTO blobs VALUES (?,?,?,?,?)", row)

    def has_written(self, name: str, key: WantedKey, hashes: Iterable[bytes]) -> bool:
        """Whether a run gave an object the wrapped key with one of these hashes, under a key and its material."""
        query = "SELECT 1 FROM blobs WHERE name = ? AND new = ? AND key = ? AND material = ?"
        return any(self._rows("i", query, _as_bytes(name), each, key.arn, key.material_id) for each in hashes)

    def keep_blobs(self, old: Journal) -> None:
        """Take over the wrapped keys that another plan has recorded.

        What its runs have left or failed at does not count as written here, since this plan does not know why: KMS is
        asked.
        """
        last: tuple[bytes, bytes, str, bytes] = (b"", b"", "", b"")
        query = (
            "SELECT name, new, key, material, old FROM blobs WHERE (name, new, key, material) > (?, ?, ?, ?)"
            " ORDER BY name, new, key, material LIMIT ?"
        )
        while rows := old._rows("bbtbb", query, *last, _PAGE):
            last = rows[-1][:4]
            with self.writing() as connection:
                connection.executemany("INSERT INTO blobs VALUES (?,?,?,?,?)", rows)
        number = 0
        query = "SELECT number, name FROM items WHERE number > ? AND state IN (?, ?) ORDER BY number LIMIT ?"
        while rows := old._rows("ib", query, number, State.LEFT, State.FAILED, _PAGE):
            number = rows[-1][0]
            with self.writing() as connection:
                connection.executemany(
                    "UPDATE blobs SET key = 'unfinished ' || key WHERE name = ?", [(name,) for _, name in rows]
                )

    def unfinished(self, place: int, name: str) -> tuple[State, str] | None:
        """Return the state and the reason of an object that a run has left or failed at; None of any other."""
        query = "SELECT state, reason FROM items WHERE place = ? AND name = ? AND state IN (?, ?)"
        rows = self._rows("st", query, place, _as_bytes(name), State.LEFT, State.FAILED)
        return (State(rows[0][0]), rows[0][1]) if rows else None

    # --- files of other formats that become envelopes, by their real names

    def find_move(self, source: str, target: str) -> Moved | None:
        """Return what is known of a file that a run has moved to a target, or was about to."""
        query = "SELECT mark, witness, removed FROM moves WHERE source = ? AND target = ?"
        rows = self._rows("tti", query, _as_bytes(source), _as_bytes(target))
        if not rows:
            return None
        mark, witness, removed = rows[0]
        try:
            if len(bytes.fromhex(witness)) != WITNESS_BYTES:
                raise ValueError("a witness has the wrong length")
        except ValueError as error:
            raise self.damaged(error) from None
        return Moved(source, target, mark, witness, bool(removed))

    def note_move(self, moved: Moved) -> None:
        """Record a move, before the envelope is in its place."""
        row = (_as_bytes(moved.source), _as_bytes(moved.target), moved.mark, moved.witness, moved.removed)
        with self.writing() as connection:
            connection.execute("INSERT OR REPLACE INTO moves VALUES (?,?,?,?,?)", row)

    def moves(self) -> Iterator[list[Moved]]:
        """Yield all that is known of moves, a page at a time."""
        last: tuple[bytes, bytes] = (b"", b"")
        while rows := self._rows(
            "bbtti", "SELECT * FROM moves WHERE (source, target) > (?, ?) ORDER BY source, target LIMIT ?", *last, _PAGE
        ):
            last = rows[-1][:2]
            yield [Moved(_as_name(row[0]), _as_name(row[1]), row[2], row[3], bool(row[4])) for row in rows]

    def to_move(self) -> dict[str, tuple[int, int]]:
        """Return how many objects of each format are still to be moved, and their bytes, in a plan that moves."""
        families = " OR ".join(f"reasons GLOB '{name}*'" for name in FAMILIES)
        query = (
            "SELECT reasons, count(*), coalesce(sum(size), 0) FROM items"  # noqa: S608
            f" WHERE state IN (?, ?, ?) AND ({families}) GROUP BY reasons ORDER BY reasons"
        )
        rows = self._rows("tii", query, State.STALE, State.FAILED, State.LEFT)
        return {name: (count, size) for name, count, size in rows}

    # --- running

    def record_results(self, results: Iterable[RunResult]) -> None:
        """Record what a run did with objects."""
        with self.writing() as connection:
            connection.executemany(
                "UPDATE items SET state = ?, reason = ?, keyset = coalesce(?, keyset),"
                " reasons = CASE ? WHEN 'foreign' THEN ? ELSE reasons END WHERE number = ?",
                [
                    (
                        result.state,
                        result.reason,
                        self._keyset(result.keys),
                        result.state,
                        result.format,
                        result.number,
                    )
                    for result in results
                ],
            )

    def get(self, unit: bytes) -> WrappedKey | None:
        """Return the wrapped key that was stored for a unit of KMS calls; as ``AnswerStore``."""
        rows = self._rows("tbbi", "SELECT arn, ciphertext, material, wrapped_at FROM answers WHERE unit = ?", unit)
        if not rows:
            return None
        answer = WrappedKey(*rows[0])
        try:
            hdr.check_wrapped_key(answer)
        except HeaderError as error:
            raise self.damaged(error) from None
        return answer

    def put(self, unit: bytes, answer: WrappedKey) -> None:
        """Store a wrapped key that more envelopes share, at once: losing it would cost another call."""
        with self.writing() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO answers SELECT ?,?,?,?,? WHERE EXISTS"
                " (SELECT 1 FROM units WHERE unit = ? AND objects > 1)",
                (unit, answer.key_arn, answer.ciphertext, answer.key_material_id, answer.wrapped_at, unit),
            )

    def forget_answers(self) -> None:
        """Delete the stored wrapped keys."""
        with self.writing() as connection:
            connection.execute("DELETE FROM answers")
