"""What still needs a KMS key, for use before the key is disabled."""

from __future__ import annotations

import functools
import itertools
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, runtime_checkable

from sealwax._core.keyring import PROVIDER_AWS_KMS
from sealwax._foreign import ForeignFormat
from sealwax._text import printable
from sealwax.errors import ConfigurationError, CredentialsError, NotAnEnvelopeError, SealwaxError
from sealwax.fleet import _client_objects, _rotation
from sealwax.fleet._asked import Ask, each_once
from sealwax.fleet._planfile import is_plan
from sealwax.fleet._threads import WORKERS, batches, entries_of, parallel
from sealwax.kms import _names
from sealwax.kms._names import KeyName
from sealwax.stores import Entry, Store, open_store
from sealwax.stores._files import FileStore
from sealwax.stores._store import S3_SCHEME, SHREDDED

ENVELOPE: Final = "sealwax"
AT_REST: Final = "sse-kms"
_BATCH: Final = 64
_SHOWN: Final = 5
_AWS_MANAGED: Final = "alias/aws/"


@runtime_checkable
class HasVersions(Protocol):
    """A store that may keep old versions of its objects."""

    def old_versions(self) -> Store:
        """Return the store of these versions."""
        ...


@dataclass(frozen=True, slots=True)
class User:
    """An object that needs the key.

    Attributes:
        name: the object's name.
        format: ``"sealwax"``; ``"sse-kms"`` if S3 itself encrypts it with the key; or as ``_core.recognize`` names it.
        what: what it is, in a sentence; "" for an envelope.
        keys: the names by which it refers to the key: its ARN, that of another Region, its id.
    """

    name: str
    format: str
    what: str
    keys: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Usage:
    """The result of a scan.

    Attributes:
        objects: how many were examined.
        under: how many of them need the key: envelopes, and what other programs have encrypted under it.
        examples: the first few of them.
        unknown: how many may need it: they could not be read, have a damaged header, or do not name their key. An empty
            location counts as one.
        unnamed: how many of these were read, but do not name their key.
        reasons: why, for the first few.
        formats: how many objects have each format other than sealwax's own binary one.
        elsewhere: how many of those are under other keys only, as they or KMS say.
        unrecognized: how many objects have no known format; whether they need the key cannot be known.
    """

    objects: int
    under: int
    examples: tuple[User, ...]
    unknown: int
    unnamed: int
    reasons: tuple[str, ...]
    formats: Mapping[str, int]
    elsewhere: int
    unrecognized: int

    @property
    def clear(self) -> bool:
        """Whether nothing is known to need the key, and everything with a known format names its keys."""
        return not (self.under or self.unknown)


@dataclass(frozen=True, slots=True)
class _Claim:
    """What an object says about the keys that it needs.

    Attributes:
        format, what, keys: as in ``User``.
        complete: whether ``keys`` are all of them.
        everywhere: whether the same key in another Region counts.
    """

    format: str
    what: str
    keys: tuple[str, ...]
    complete: bool
    everywhere: bool


@dataclass(frozen=True, slots=True)
class _Examined:
    """What one object says.

    Attributes:
        format: the recognized format, if it is not a binary envelope; else "".
        is_known: whether it has a known format or is empty.
        user: set if it needs the key.
        doubt: why it may need the key.
        was_read: whether it could be read.
    """

    name: str
    format: str = ""
    is_known: bool = True
    user: User | None = None
    doubt: str = ""
    was_read: bool = True


def locations_of(names: Sequence[str]) -> tuple[str, ...]:
    """Return locations, with the locations of a plan in place of its file.

    Raises:
        PlanError: a plan cannot be read.
    """
    return tuple(
        location for name in names for location in (_rotation.status(name).locations if is_plan(name) else (name,))
    )


class _Tally:
    """The counts of one search. Locations may overlap: an object counts once."""

    def __init__(self, *, overlapping: bool) -> None:
        self.objects = self.under = self.unknown = self.unnamed = self.elsewhere = self.unrecognized = 0
        self.examples: list[User] = []
        self.reasons: list[str] = []
        self.formats: Counter[str] = Counter()
        self._seen: set[str] | None = set() if overlapping else None

    def doubt(self, reason: str) -> None:
        """Count something that may need the key."""
        self.unknown += 1
        if len(self.reasons) < _SHOWN:
            self.reasons.append(reason)

    def add(self, examined: _Examined) -> None:
        """Count an object."""
        if self._seen is not None:
            if examined.name in self._seen:
                return
            self._seen.add(examined.name)
        self.objects += 1
        self.unrecognized += not examined.is_known
        if examined.format:
            self.formats[examined.format] += 1
        if examined.user is not None:
            self.under += 1
            self.examples += [examined.user] if self.under <= _SHOWN else []
        elif examined.doubt:
            self.doubt(f"{examined.name}: {examined.doubt}")
            self.unnamed += examined.was_read
        elif examined.format not in ("", SHREDDED):
            self.elsewhere += 1

    def usage(self) -> Usage:
        """Return the result."""
        return Usage(
            self.objects,
            self.under,
            tuple(self.examples),
            self.unknown,
            self.unnamed,
            tuple(self.reasons),
            dict(self.formats.most_common()),
            self.elsewhere,
            self.unrecognized,
        )


def find_users(
    locations: Sequence[str],
    arn: str,
    *,
    everywhere: bool = False,
    ask: Ask | None = None,
    versions: bool = False,
    open_location: Callable[[str], Store] = open_store,
    workers: int = WORKERS,
) -> Usage:
    """Find what needs a key, by headers and other formats. KMS is not called, and nothing is changed.

    Args:
        locations: where to look. Every object counts, whatever its name; in folders also temporary files of killed
            processes.
        arn: the key's ARN.
        everywhere: whether the same key in other Regions counts for envelopes, as for the primary of a multi-Region
            key. For other formats it always does, since they do not say which Region their readers use.
        ask: asks KMS whether the key wrapped a data key, for objects that do not say so, once for each wrapped key;
            None: they may need the key.
        versions: whether to look at old versions of S3 objects too.

    Raises:
        ConfigurationError: it is not a key ARN.
        FileError: a location cannot be listed.
        CredentialsError: there are no credentials, so nothing can be read.
    """
    key = _names.parse_arn(arn)
    if key is None:
        raise ConfigurationError(f"'{printable(arn[:200])}' is not a key ARN", key=arn[:200])
    tally = _Tally(overlapping=len(locations) > 1)
    ask = None if ask is None else each_once(ask)
    roots = tuple(os.path.realpath(location) for location in locations if not location.startswith(S3_SCHEME))
    for location in locations:
        store = open_location(location)
        stores: list[Store] = [store]
        if versions and location.startswith(S3_SCHEME):
            if isinstance(store, HasVersions):
                stores.append(store.old_versions())
            else:
                tally.doubt(f"{location}: an S3 Inventory does not show old versions; scan the bucket itself")
        empty, unknown = True, tally.unknown
        for each in stores:
            parts = batches(_all_of(each, roots, tally.doubt), _BATCH)
            examine = functools.partial(_examine, each, key, everywhere, ask)
            for examined in itertools.chain.from_iterable(parallel(parts, examine, workers)):
                empty = False
                tally.add(examined)
        if empty and unknown == tally.unknown:
            # Probably mistyped or not mounted, so it must not clear a key.
            tally.doubt(f"{location}: nothing is there; check its name, and that it is mounted")
    return tally.usage()


def _all_of(store: Store, roots: Sequence[str], unlisted: Callable[[str], None]) -> Iterator[Entry]:
    """Yield a store's objects, and temporary files of killed processes: one may be all that is left of an envelope.

    A link out of all locations is not followed, and counts as not examined.
    """
    yield from entries_of(store, unlisted)
    if isinstance(store, FileStore):
        yield from store.leftovers(0)
        for link, target in store.links_out(roots):
            unlisted(f"{link}: it is a link to '{target}', which is not scanned; add that location")


def _examine(store: Store, key: KeyName, everywhere: bool, ask: Ask | None, entries: list[Entry]) -> list[_Examined]:
    return [_examine_one(store, key, everywhere, ask, entry) for entry in entries]


def _ask_of(store: Store, name: str, error: NotAnEnvelopeError, key: KeyName, ask: Ask | None) -> _Examined | None:
    """Return what KMS says of an object of the S3 Encryption Client; None if it has to be told otherwise."""
    foreign = error.foreign
    if ask is None or foreign is None or not foreign.format.startswith("s3ec") or foreign.others:
        return None
    try:
        wrapped = _client_objects.wrapped_of(store, name, error)
        if wrapped is None or not ask(*wrapped):
            return _Examined(name, foreign.format)
    except CredentialsError:
        raise
    except SealwaxError as refusal:
        return _Examined(name, foreign.format, doubt=f"{foreign}; KMS did not tell: {refusal}")
    return _Examined(name, foreign.format, user=User(name, foreign.format, f"it is {foreign.title}", (key.text,)))


def _examine_one(store: Store, key: KeyName, everywhere: bool, ask: Ask | None, entry: Entry) -> _Examined:
    claims: list[_Claim] = []
    foreign: ForeignFormat | None
    try:
        inspection = store.inspect(entry.name)
        # After an interrupted re-wrap, of both slots: only the earlier keys may still open it.
        keys = inspection.header.all_wrapped_keys
        arns = tuple(dict.fromkeys(key.key_arn for key in keys if key.provider == PROVIDER_AWS_KMS))
        claims.append(_Claim(ENVELOPE, "", arns, complete=True, everywhere=everywhere))
        foreign, at_rest, name, is_known = inspection.foreign, inspection.at_rest, "", True
    except NotAnEnvelopeError as error:
        foreign, at_rest = error.foreign, error.at_rest
        told = _ask_of(store, entry.name, error, key, ask)
        if told is not None and (told.user or told.doubt or not at_rest):
            return told
        if told is not None:
            foreign = None  # it is under another key, and may still be encrypted at rest under this one
        name, is_known = ("", not entry.size) if error.foreign is None else (error.foreign.format, True)
    except CredentialsError:
        raise
    except SealwaxError as error:
        return _Examined(entry.name, doubt=str(error), was_read=False)
    if foreign is not None:
        # It does not say which Region of a multi-Region key its readers use.
        claims.append(_Claim(foreign.format, str(foreign), foreign.keys, foreign.complete, everywhere=True))
    if at_rest:
        what = "S3 itself encrypts it with the key (SSE-KMS)"
        claims.append(_Claim(AT_REST, what, (at_rest,), complete=True, everywhere=everywhere))
    doubt = ""
    for claim in claims:
        means = {named: _means(named, key, claim.everywhere) for named in claim.keys}
        if its := tuple(named for named, is_it in means.items() if is_it):
            return _Examined(entry.name, name, is_known, User(entry.name, claim.format, claim.what, its))
        if not claim.complete or None in means.values():
            doubt = doubt or _doubt(claim, [named for named, is_it in means.items() if is_it is None])
    return _Examined(entry.name, name, is_known, doubt=doubt)


def _doubt(claim: _Claim, unclear: Sequence[str]) -> str:
    """Return why an object may need the key."""
    what = claim.what or "it is an envelope"
    if not unclear:
        return what
    return f"{what}; '{printable(unclear[0][:200])}' may be this key" if claim.complete else what


def _means(claim: str, key: KeyName, everywhere: bool) -> bool | None:
    """Return whether a key name means this key; None if it may: an alias may have been moved."""
    try:
        named = _names.parse(claim.strip().partition("+")[0])  # old versions of sops append a role
    except ConfigurationError:
        return None
    if named.account is not None and (named.partition, named.account) != (key.partition, key.account):
        return False
    in_other_region = named.region not in (None, key.region)
    if named.key_id is not None:
        same = named.key_id.lower() == str(key.key_id).lower()
        return same and (everywhere or not in_other_region)
    if (in_other_region and not (everywhere and key.multi_region)) or str(named.alias).startswith(_AWS_MANAGED):
        return False
    return None
