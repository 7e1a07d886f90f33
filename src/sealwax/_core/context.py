"""The encryption context: a map of text to text, bound to the data.

A map has exactly one byte form, which ``encode`` returns; ``decode`` rejects every other::

    u16 pair count || (u16 length || key || u16 length || value)*     big-endian, UTF-8, sorted by the keys' bytes

The caller gives one map. The names that a sealer lists as local stay out of KMS and out of the envelope (the local
context, bound by the payload alone); the rest is the KMS context: stored in the envelope and sent to KMS as
EncryptionContext.
"""

from __future__ import annotations

import functools
import re
import struct
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Final

from sealwax._text import printable
from sealwax.errors import ContextError

MAX_PAIRS: Final = 64
MAX_BYTES: Final = 8192
EMPTY: Final = b"\0\0"

RESERVED: Final = "sealwax-use"
"""The name of the pair that says what the data keys of records are for. No other data key is made with it."""

PLACEHOLDERS: Final = ("{relpath}", "{name}")
# A word in braces is a placeholder, and in two pairs of braces it is the text with one. All other braces are text.
BRACED: Final = re.compile(r"\{\{ *[\w.-]+ *\}\}|\{ *[\w.-]+ *\}")

_U16: Final = struct.Struct(">H")


class NoContext:
    """The type of ``NO_CONTEXT``, which binds data to nothing, explicitly."""

    def __repr__(self) -> str:
        return "sealwax.NO_CONTEXT"


NO_CONTEXT: Final = NoContext()


@dataclass(frozen=True, slots=True)
class AcceptStoredContext:
    """Accept the context that the envelope stores, instead of giving it.

    Args:
        given: pairs that must be stored with exactly these values, and the local pairs.
        where: called with the stored map; an envelope for which it returns False is refused.

    Example:
        >>> sealer.decrypt(sealed, context=AcceptStoredContext({"table": "users"}))
    """

    given: Mapping[str, str] = field(default_factory=dict)
    where: Callable[[Mapping[str, str]], bool] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.given, Mapping):
            raise TypeError(f"AcceptStoredContext takes a mapping of str to str, not {type(self.given).__name__}")


class ContextPatterns(dict[str, str]):
    """A context whose values are patterns for formats whose contexts differ by object; elsewhere they are texts.

    Args:
        patterns: names and patterns.
        refusal: returns why a stored context does not match them, without values; None if it does.
    """

    def __init__(self, patterns: Mapping[str, str], refusal: Callable[[Mapping[str, str]], str | None]) -> None:
        super().__init__(patterns)
        self._refusal = refusal

    def matching(self, stored: Mapping[str, str]) -> Mapping[str, str]:
        """Return the stored context, once it matches.

        Raises:
            ContextError: it does not.
        """
        if (refusal := self._refusal(stored)) is not None:
            raise ContextError(refusal)
        return stored


_NOT_UNICODE: Final = "the context holds text that is not valid Unicode (a lone surrogate)"
_TOO_LARGE: Final = f"the context is larger than {MAX_BYTES} bytes"
_TYPE_ERROR: Final = "a context must be a mapping of str to str, or sealwax.NO_CONTEXT"

ExpectedContext = Mapping[str, str] | NoContext | AcceptStoredContext


def encode(pairs: Mapping[str, str]) -> bytes:
    """Return the canonical bytes of a map.

    Raises:
        ContextError: too many pairs or bytes, an empty key, or text that UTF-8 cannot hold.
        TypeError: a key or a value is not a str.
    """
    if not pairs:
        return EMPTY
    if len(pairs) > MAX_PAIRS:
        raise ContextError(f"the context has {len(pairs)} pairs; at most {MAX_PAIRS} are allowed")
    try:
        items = sorted([(key.encode(), value.encode()) for key, value in pairs.items()])
    except AttributeError:
        raise TypeError(_TYPE_ERROR) from None
    except UnicodeEncodeError:
        raise ContextError(_NOT_UNICODE) from None
    parts = [_U16.pack(len(items))]
    size = 2
    for key, value in items:
        if not key:
            raise ContextError("the context has an empty key")
        size += 4 + len(key) + len(value)
        if size > MAX_BYTES:
            raise ContextError(_TOO_LARGE)
        parts += (_U16.pack(len(key)), key, _U16.pack(len(value)), value)
    return b"".join(parts)


def start_of_pair(name: str) -> bytes:
    """Return the canonical bytes of one pair, up to the length of its value.

    Raises:
        ContextError: as for ``encode``.
    """
    return encode({name: ""})[:-2]


def encode_pair(start: bytes, value: str) -> bytes:
    """Return the canonical bytes of one pair, quickly: ``start`` is the ``start_of_pair`` of its name.

    Raises:
        ContextError: as for ``encode``.
    """
    try:
        encoded = value.encode()
    except UnicodeEncodeError:
        raise ContextError(_NOT_UNICODE) from None
    size = len(encoded)
    if len(start) + 2 + size > MAX_BYTES:
        raise ContextError(_TOO_LARGE)
    return b"".join((start, _U16.pack(size), encoded))


def decode(data: bytes) -> dict[str, str]:
    """Return the map whose canonical form ``data`` is.

    Raises:
        ContextError: the bytes are not the canonical form of any map.
    """
    return dict(_decoded(data))


# Reading a header decodes its context twice, and many envelopes share one context.
@functools.lru_cache(maxsize=64)
def _decoded(data: bytes) -> dict[str, str]:
    if not 2 <= len(data) <= MAX_BYTES:
        raise ContextError("the stored context has an impossible length")
    (count,) = _U16.unpack_from(data)
    if count > MAX_PAIRS:
        raise ContextError("the stored context has too many pairs")
    pairs: dict[str, str] = {}
    at = 2
    last = b""
    for _ in range(count):
        texts = []
        for _ in range(2):
            start = at + 2
            if start > len(data):
                raise ContextError("the stored context is cut off")
            at = start + _U16.unpack_from(data, at)[0]
            if at > len(data):
                raise ContextError("the stored context is cut off")
            texts.append(data[start:at])
        key, value = texts
        # Keys are never empty, so the empty start value is below every first key.
        if key <= last:
            raise ContextError("the stored context is not in canonical order")
        last = key
        try:
            pairs[key.decode()] = value.decode()
        except UnicodeDecodeError:
            raise ContextError("the stored context is not valid UTF-8") from None
    if at != len(data):
        raise ContextError("bytes follow the stored context")
    return pairs


def check_new_keys(kms: Collection[str], local: Collection[str] = ()) -> None:
    """Check the keys of the context of a new envelope, those that KMS sees and the local ones.

    Raises:
        ContextError: two that KMS sees differ only in case, which grant constraints ignore, or one is reserved.
    """
    folded = {key.casefold() for key in kms}
    if len(folded) != len(kms):
        raise ContextError("two keys of the context differ only in upper and lower case, which KMS grants ignore")
    if RESERVED in folded or is_reserved(local):
        raise ContextError(f"'{RESERVED}' is reserved for the data keys of records; use another name in the context")


def is_reserved(keys: Collection[str]) -> bool:
    """Return whether one of the keys is reserved for the data keys of records."""
    return any(key.casefold() == RESERVED for key in keys)


def refuse_records(stored: Mapping[str, str]) -> None:
    """Refuse to re-encrypt the wrapped data key of records.

    Raises:
        ContextError: the stored context is that of one.
    """
    if is_reserved(stored):
        raise ContextError(
            f"the envelope is a data key of records ('{RESERVED}' is in its context), and re-encrypting it would "
            "destroy what is sealed under it; to move it to another KMS key, re-wrap it"
        )


def as_pairs(context: Mapping[str, str] | NoContext) -> dict[str, str]:
    """Return the caller's map as a dict; to bind nothing, the caller must pass NO_CONTEXT.

    Raises:
        ContextError: an empty map that is not NO_CONTEXT.
        TypeError: not a mapping.
    """
    if isinstance(context, NoContext):
        return {}
    # isinstance(..., Mapping) takes longer than everything else here.
    if type(context) is not dict and not isinstance(context, Mapping):
        raise TypeError(_TYPE_ERROR)
    if not context:
        raise ContextError("the context is empty; bind the data to its place, or pass NO_CONTEXT to bind it to nothing")
    # The AWS SDK takes only a dict.
    return context if type(context) is dict else dict(context)


def refuse_other_types(given: object) -> None:
    """Refuse a context that holds anything but text: it never fits, and its types are why.

    Raises:
        TypeError: it is not a mapping, or a key or a value is not a str.
    """
    if not isinstance(given, Mapping) or not all(
        isinstance(key, str) and isinstance(value, str) for key, value in given.items()
    ):
        raise TypeError(_TYPE_ERROR)


def placeholders(value: str) -> list[str]:
    """Return the placeholders in the value of a pair that is given for many objects.

    Raises:
        ContextError: one of them is unknown.
    """
    marks = [match[0] for match in BRACED.finditer(value) if not match[0].startswith("{{")]
    unknown = next((mark for mark in marks if mark not in PLACEHOLDERS), None)
    if unknown is not None:
        raise ContextError(
            f"the placeholder '{printable(unknown)}' is unknown: use {' or '.join(PLACEHOLDERS)}, "
            f"or write '{{{printable(unknown)}}}' for the literal text"
        )
    return marks


def placed(mark: str, relpath: str) -> str:
    """Return the text for one match of ``BRACED``, for the object at ``relpath`` below its root."""
    if mark.startswith("{{"):
        return mark[1:-1]
    return {"{relpath}": relpath, "{name}": relpath.rpartition("/")[2]}.get(mark, mark)


def split(pairs: Mapping[str, str], local_names: Collection[str]) -> tuple[Mapping[str, str], Mapping[str, str]]:
    """Split a caller's map into the KMS context and the local context."""
    if not local_names:
        return pairs, {}
    kms = {key: value for key, value in pairs.items() if key not in local_names}
    local = {key: value for key, value in pairs.items() if key in local_names}
    return kms, local


@dataclass(frozen=True, slots=True)
class Wording:
    """How errors of ``match`` speak of what stores a context.

    Attributes:
        what: what it is.
        absent: why it may lack a pair that was given.
        listed: how the reader lists a pair that is not stored.
        look: how to see the values that it stores, as the end of a sentence.
    """

    what: str = "the envelope"
    absent: str = "it was encrypted without it, or as a local pair, whose name must be listed as local to read it"
    listed: str = "local"
    look: str = ""


OF_ENVELOPES: Final = Wording(look="; inspect shows the stored value")


def match(
    expected: ExpectedContext,
    stored: Mapping[str, str],
    local_names: Collection[str],
    local_pairs: int | None,
    wording: Wording = OF_ENVELOPES,
) -> Mapping[str, str]:
    """Compare the stored map with what the caller expects; return the local context.

    Args:
        expected: the context the caller gives, or that the stored one is accepted.
        stored: the map read from the envelope.
        local_names: the names that the reader keeps local. The file never chooses the split.
        local_pairs: how many local pairs the envelope claims to have; None if the payload is not opened.
        wording: how errors speak of it.

    Raises:
        ContextError: a pair is missing, different or unexpected.
    """
    if isinstance(expected, AcceptStoredContext):
        given: Mapping[str, str] = expected.given
        if expected.where is not None and not expected.where(stored):
            raise ContextError("the stored context was refused by the caller's AcceptStoredContext(where=...)")
    else:
        given = as_pairs(expected)
        missing = [key for key in stored if key not in given]
        if missing:
            refuse_other_types(given)
            raise ContextError(
                f"{wording.what} is bound to {_names(missing)}, which the given context lacks; "
                "pass every pair the data was encrypted with"
            )
    different = [key for key in given if key in stored and stored[key] != given[key]]
    if different:
        refuse_other_types(given)
        raise ContextError(
            f"{wording.what} is bound to a different value of {_names(different)} than the one given{wording.look}"
        )
    unstored = {key: value for key, value in given.items() if key not in stored}
    extra = [key for key in unstored if key not in local_names]
    if extra:
        refuse_other_types(given)
        raise ContextError(f"{wording.what} does not store {_names(extra)}; {wording.absent}")
    on_wrong_side = [key for key in stored if key in local_names]
    if on_wrong_side:
        raise ContextError(
            f"{wording.what} stores {_names(on_wrong_side)}, which this reader lists as {wording.listed}"
        )
    if local_pairs is not None and len(unstored) != local_pairs:
        raise ContextError(
            f"the envelope was encrypted with {local_pairs} local context pair{'' if local_pairs == 1 else 's'}, "
            f"{len(unstored)} given"
        )
    return unstored


def _names(keys: Collection[str]) -> str:
    shown = ", ".join(f"'{printable(key)}'" for key in sorted(keys)[:5])
    return shown if len(keys) <= 5 else f"{shown} and {len(keys) - 5} more"
