"""What still needs a KMS key: asked before the key is taken away."""

from __future__ import annotations

import functools
import itertools
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from sealwax._core.context import printable
from sealwax._core.keyring import PROVIDER_AWS_KMS
from sealwax._core.recognize import Foreign
from sealwax.errors import ConfigurationError, CredentialsError, NotAnEnvelopeError, SealwaxError
from sealwax.fleet import _rotation
from sealwax.fleet._planfile import is_plan
from sealwax.fleet._threads import WORKERS, batches, entries_of, parallel
from sealwax.kms import _names
from sealwax.kms._names import KeyName
from sealwax.stores import Entry, Store, open_store
from sealwax.stores._files import FileStore
from sealwax.stores._store import S3_SCHEME

ENVELOPE: Final = "sealwax"
AT_REST: Final = "sse-kms"
_BATCH: Final = 64
_SHOWN: Final = 5
_AWS_MANAGED: Final = "alias/aws/"


@dataclass(frozen=True, slots=True)
class User:
    """An object that needs the key.

    Attributes:
        name: the object's.
        format: ``"sealwax"``, as ``_core.recognize`` names it, or ``"sse-kms"``: S3 itself keeps it under the key.
        what: what it is, in a sentence; "" for an envelope.
        keys: what it names of the key: its ARN, another Region's, its id.
    """

    name: str
    format: str
    what: str
    keys: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Usage:
    """What a scan found.

    Attributes:
        objects: how many were looked at.
        under: how many of them need the key: envelopes, and what other programs have sealed under it.
        examples: the first few of them.
        unknown: how many may need it: they could not be looked at, have a damaged header, or do not tell their key. A
            place that is empty counts as one.
        untold: how many of these were looked at, and do not tell their key.
        reasons: why, for the first few.
        formats: how many objects have each format that is not sealwax's own binary one.
        elsewhere: how many of those name other keys only.
        unrecognized: how many objects have no format that is known; nobody can tell whether they need the key.
    """

    objects: int
    under: int
    examples: tuple[User, ...]
    unknown: int
    untold: int
    reasons: tuple[str, ...]
    formats: Mapping[str, int]
    elsewhere: int
    unrecognized: int

    @property
    def clear(self) -> bool:
        """Whether nothing is known to be under the key, and everything that has a format tells its keys."""
        return not (self.under or self.unknown)


@dataclass(frozen=True, slots=True)
class _Claim:
    """What an object says of the keys that it needs.

    Attributes:
        what: what it is, in a sentence; "" for an envelope.
        told: whether ``keys`` are all of them.
        everywhere: whether the same key in another Region counts.
    """

    format: str
    what: str
    keys: tuple[str, ...]
    told: bool
    everywhere: bool


@dataclass(frozen=True, slots=True)
class _Looked:
    """What was seen of one object.

    Attributes:
        format: of what is no binary envelope and was recognized; else "".
        is_known: whether that, or an envelope, or nothing at all.
        user: set where it needs the key.
        doubt: why it may need it.
        was_read: whether the doubt is not that it could not be looked at.
    """

    name: str
    format: str = ""
    is_known: bool = True
    user: User | None = None
    doubt: str = ""
    was_read: bool = True


def places_of(where: Sequence[str]) -> tuple[str, ...]:
    """Return places, each plan's places in the place of its file.

    Raises:
        PlanError: a plan cannot be read.
    """
    return tuple(place for one in where for place in (_rotation.status(one).where if is_plan(one) else (one,)))


def find_users(
    where: Sequence[str],
    arn: str,
    *,
    everywhere: bool = False,
    open_place: Callable[[str], Store] = open_store,
    workers: int = WORKERS,
) -> Usage:
    """Look for what needs a key, by headers and by what else tells. No KMS call is made, and nothing is changed.

    Args:
        where: the places. Every object in them is looked at, whatever its name; in folders also what killed processes
            were writing.
        arn: the key's ARN.
        everywhere: whether the same key in other Regions counts for envelopes, as for the primary of a multi-Region
            key. For other formats it always does: which of them their readers use is not told.

    Raises:
        ConfigurationError: that is no key ARN.
        FileError: a place cannot be listed.
        CredentialsError: nobody is signed in, so that nothing can be looked at.
    """
    key = _names.parse_arn(arn)
    if key is None:
        raise ConfigurationError(f"'{printable(arn[:200])}' is no key ARN", key=arn[:200])
    objects = under = unknown = untold = elsewhere = unrecognized = 0
    examples: list[User] = []
    reasons: list[str] = []
    formats: Counter[str] = Counter()
    seen: set[str] = set()
    roots = tuple(os.path.realpath(place) for place in where if not place.startswith(S3_SCHEME))

    def doubt(reason: str) -> None:
        nonlocal unknown
        unknown += 1
        reasons.append(reason)

    for place in where:
        store = open_place(place)
        empty, told = True, unknown
        parts = batches(_all_of(store, roots, doubt), _BATCH)
        for looked in itertools.chain.from_iterable(
            parallel(parts, functools.partial(_look, store, key, everywhere), workers)
        ):
            empty = False
            if len(where) > 1:
                if looked.name in seen:
                    continue
                seen.add(looked.name)  # places may overlap
            objects += 1
            unrecognized += not looked.is_known
            if looked.format:
                formats[looked.format] += 1
            if looked.user is not None:
                under += 1
                examples += [looked.user] if under <= _SHOWN else []
            elif looked.doubt:
                doubt(f"{looked.name}: {looked.doubt}")
                untold += looked.was_read
            elif looked.format:
                elsewhere += 1
        if empty and told == unknown:
            # Mistyped, or not mounted, more likely than not; it must not clear a key.
            doubt(f"{place}: nothing is there; is it the right place, and mounted?")
    counts = dict(formats.most_common())
    return Usage(
        objects,
        under,
        tuple(examples),
        unknown,
        untold,
        tuple(reasons[:_SHOWN]),
        counts,
        elsewhere,
        unrecognized,
    )


def _all_of(store: Store, roots: Sequence[str], unlisted: Callable[[str], None]) -> Iterator[Entry]:
    """Yield a store's objects, and what killed processes were writing: it may be all that is left of an envelope.

    Links are not followed, so one that leads out of all places that are scanned counts as not looked at.
    """
    yield from entries_of(store, unlisted)
    if isinstance(store, FileStore):
        yield from store.leftovers(0)
        for link, there in store.links_out(roots):
            unlisted(f"{link}: it is a link to '{there}', which is not scanned; name that place too")


def _look(store: Store, key: KeyName, everywhere: bool, entries: list[Entry]) -> list[_Looked]:
    return [_look_at(store, key, everywhere, entry) for entry in entries]


def _look_at(store: Store, key: KeyName, everywhere: bool, entry: Entry) -> _Looked:
    claims: list[_Claim] = []
    foreign: Foreign | None
    try:
        found = store.inspect(entry.name)
        # Of an interrupted re-wrap, both: the earlier keys may be the only ones that still open it.
        keys = found.header.all_wrapped_keys
        arns = tuple(dict.fromkeys(each.key_arn for each in keys if each.provider == PROVIDER_AWS_KMS))
        claims.append(_Claim(ENVELOPE, "", arns, told=True, everywhere=everywhere))
        foreign, at_rest, name, is_known = found.foreign, found.at_rest, "", True
    except NotAnEnvelopeError as error:
        foreign, at_rest = error.foreign, error.at_rest
        name, is_known = ("", not entry.size) if foreign is None else (foreign.format, True)
    except CredentialsError:
        raise
    except SealwaxError as error:
        return _Looked(entry.name, doubt=str(error), was_read=False)
    if foreign is not None:
        # Which of a multi-Region key's Regions its readers ask is not told.
        claims.append(_Claim(foreign.format, str(foreign), foreign.keys, foreign.told, everywhere=True))
    if at_rest:
        said = "S3 itself keeps it under the key (SSE-KMS)"
        claims.append(_Claim(AT_REST, said, (at_rest,), told=True, everywhere=everywhere))
    doubt = ""
    for claim in claims:
        means = {named: _means(named, key, claim.everywhere) for named in claim.keys}
        if its := tuple(named for named, is_it in means.items() if is_it):
            return _Looked(entry.name, name, is_known, User(entry.name, claim.format, claim.what, its))
        if not claim.told or None in means.values():
            doubt = doubt or _doubt(claim, [named for named, is_it in means.items() if is_it is None])
    return _Looked(entry.name, name, is_known, doubt=doubt)


def _doubt(claim: _Claim, unclear: Sequence[str]) -> str:
    """Return why an object may need the key."""
    what = claim.what or "it is an envelope"
    if not unclear:
        return what
    return f"{what}; which key '{printable(unclear[0][:200])}' means cannot be told" if claim.told else what


def _means(claim: str, key: KeyName, everywhere: bool) -> bool | None:
    """Return whether a name of a key means this one; None where that cannot be told: an alias may have been moved."""
    try:
        named = _names.parse(claim.strip().partition("+")[0])  # sops once wrote a role behind it
    except ConfigurationError:
        return None
    if named.account is not None and (named.partition, named.account) != (key.partition, key.account):
        return False
    there = named.region not in (None, key.region)
    if named.key_id is not None:
        same = named.key_id.lower() == str(key.key_id).lower()
        return same and (everywhere or not there)
    if (there and not (everywhere and key.multi_region)) or str(named.alias).startswith(_AWS_MANAGED):
        return False
    return None
