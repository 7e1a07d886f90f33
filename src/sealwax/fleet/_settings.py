"""Which envelopes of a fleet to work on, and how they are to be wrapped. Plain data, pickled and stored in plans."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

from sealwax._core import validate
from sealwax._core.context import BRACED, placed, placeholders
from sealwax._core.foreign.rules import LEGACY, ForeignRules
from sealwax._core.keyring import WrappedKey
from sealwax._core.staleness import Wanted, WantedKey
from sealwax._text import printable
from sealwax.kms import _allowlist, _names

# In a pattern: a star, an escaped star, and an object's own name.
_TOKENS: Final = re.compile(rf"(\\\*|\*|{BRACED.pattern})")


@dataclass(frozen=True, slots=True)
class Contexts:
    """Which stored contexts to accept.

    Args:
        pairs: names and patterns of values, as a Mapping or as pairs. An envelope must store each name, with a value
            that matches. ``*`` matches any text and ``\\*`` a star; ``{relpath}`` and ``{name}`` are the object's path
            below its location and the last part of it, without ``suffix``; ``{{name}}`` is the text ``{name}``.
        accept_stored: whether an envelope may store other pairs too. If not, and ``pairs`` is empty, only envelopes
            without a context are accepted.
        suffix: what ``{relpath}`` and ``{name}`` leave off the end of an object's name. It does not select objects.

    Raises:
        ContextError: a pattern has another word in braces.
        TypeError: ``pairs``, a name or a pattern has the wrong type.
        ValueError: a name has two patterns.

    Example:
        >>> Contexts({"purpose": "backup", "path": "{relpath}"})
    """

    # Always a tuple of pairs in an instance.
    pairs: Iterable[tuple[str, str]] | Mapping[str, str] = ()
    accept_stored: bool = False
    suffix: str = ".swx"

    def __post_init__(self) -> None:
        object.__setattr__(self, "pairs", _as_pairs(self.pairs))
        for _, pattern in self._pairs:
            placeholders(pattern)

    @property
    def _pairs(self) -> tuple[tuple[str, str], ...]:
        return cast("tuple[tuple[str, str], ...]", self.pairs)

    @property
    def by_name(self) -> bool:
        """Whether acceptance depends on the name of an object."""
        return any("{" in pattern for _, pattern in self._pairs)

    def refusal(self, stored: Mapping[str, str], relpath: str) -> str | None:
        """Check a stored context.

        Args:
            stored: the context.
            relpath: the object's path below its location.

        Returns:
            Why it is not accepted, without values; None if it is accepted.
        """
        relpath = relpath.removesuffix(self.suffix)
        wanted = dict(self._pairs)
        if not self.accept_stored:
            extra = sorted(name for name in stored if name not in wanted)
            if extra:
                return f"its stored context has an extra name '{printable(extra[0])}'"
        for name, pattern in self._pairs:
            if name not in stored:
                return f"its stored context lacks '{printable(name)}'"
            own = relpath if "{" in pattern else ""
            if not _compiled(pattern, own).fullmatch(stored[name]):
                return f"its stored context has a different value of '{printable(name)}'"
        return None


def _as_pairs(pairs: Iterable[tuple[str, str]] | Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    what = "names and patterns"
    items: Iterable[object] = pairs.items() if isinstance(pairs, Mapping) else validate.many("pairs", pairs, what)
    patterns: dict[str, str] = {}
    for pair in items:
        if not isinstance(pair, list | tuple) or list(map(type, pair)) != [str, str]:
            raise TypeError("pairs must be a Mapping of str to str, or a sequence of pairs of str")
        name, pattern = pair
        if patterns.setdefault(name, pattern) != pattern:
            raise ValueError(f"pairs has two patterns for '{printable(name)}'")
    return tuple(patterns.items())


@functools.lru_cache(maxsize=1024)
def _compiled(pattern: str, relpath: str) -> re.Pattern[str]:
    texts = [""]
    for part in _TOKENS.split(pattern):
        if part == "*":
            texts.append("")
        else:
            text = "*" if part == r"\*" else placed(part, relpath) if BRACED.fullmatch(part) else part
            texts[-1] += re.escape(text)
    if len(texts) == 1:
        return re.compile(texts[0], re.DOTALL)
    first, *between, last = texts
    # Atomic groups: otherwise a hostile value would be tried in every possible way.
    return re.compile(f"{first}{''.join(f'(?>.*?{text})' for text in between)}.*{last}", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Move:
    """How files of other formats become envelopes: each keeps its place, and its envelope gets its name and a suffix.

    Args:
        into: the folder or ``s3://`` prefix to write the envelopes below; by default, each next to its source.
        allow_legacy: the names of formats to read although they do not commit to their data key, such as
            ``"esdk-0178"``, ``"s3ec-v2"`` and ``"envkms01"``.
        drop_signature: whether to move signed messages too: their signature is verified, and the envelope has none.

    Raises:
        ValueError: a name of ``allow_legacy`` is unknown, or ``into`` is empty.
        TypeError: an argument has the wrong type.

    Example:
        >>> Move(into="s3://vault/moved/", allow_legacy=["envkms01"])
    """

    into: str | None = None
    # Always a tuple in an instance.
    allow_legacy: Sequence[str] = ()
    drop_signature: bool = False

    def __post_init__(self) -> None:
        names = tuple(dict.fromkeys(validate.texts("allow_legacy", self.allow_legacy, "names of formats")))
        if unknown := [name for name in names if name not in LEGACY]:
            raise ValueError(f"allow_legacy takes {', '.join(LEGACY)}, not {unknown[0]!r}")
        if self.into is not None:
            validate.kind("into", self.into, str)
            if not self.into:
                raise ValueError("into must be a folder or an s3:// prefix, not an empty name")
        validate.kind("drop_signature", self.drop_signature, bool)
        object.__setattr__(self, "allow_legacy", names)

    @property
    def _rules(self) -> ForeignRules:
        return ForeignRules(frozenset(self.allow_legacy))


@dataclass(frozen=True, slots=True)
class Settings:
    """How the envelopes of a fleet are to be wrapped. ``fleet.status(plan).settings`` returns a plan's.

    Args:
        sources: the key ARNs that envelopes may be wrapped under now: an allow-list, to which no file adds.
        wanted: the keys to wrap them under.
        contexts: which envelopes to work on.
        add_regions: whether to add a wanted key in a Region in which no source key has wrapped an envelope, by opening
            its data key (kms:Decrypt) and wrapping it there (kms:Encrypt).
        reencrypt: whether to encrypt the data again, under new data keys. A data key that was wrapped before
            ``wanted.wrapped_since`` is old then.
        also: which other formats the plan is about: ``"s3ec"``, objects of the S3 Encryption Client, ``"esdk"``,
            messages of the AWS Encryption SDK, and ``"envkms01"``.
        move: how to move them into envelopes; None: objects of the S3 Encryption Client are re-wrapped, and the others
            only counted.
    """

    sources: tuple[str, ...]
    wanted: Wanted
    contexts: Contexts
    add_regions: bool = False
    reencrypt: bool = False
    also: tuple[str, ...] = ()
    move: Move | None = None

    def _attempts(self, wrapped_keys: tuple[WrappedKey, ...]) -> list[_allowlist.Attempt]:
        """Return the wrapped keys that may be sent to KMS, in the order of the allow-list."""
        return _allowlist.attempts(_entries(self.sources), wrapped_keys, lambda: "")

    def as_dict(self) -> dict[str, object]:
        """Return plain data for JSON.

        Returns:
            What ``from_dict`` accepts.
        """
        return {
            "sources": list(self.sources),
            "wanted": [
                {"arn": key.arn, "material_id": key.material_id.hex(), "rotated_at": key.rotated_at}
                for key in self.wanted.keys
            ],
            "wrapped_since": self.wanted.wrapped_since,
            "contexts": [list(pair) for pair in self.contexts._pairs],
            "accept_stored": self.contexts.accept_stored,
            "suffix": self.contexts.suffix,
            "add_regions": self.add_regions,
            "reencrypt": self.reencrypt,
            "also": list(self.also),
            "move": None
            if self.move is None
            else {
                "into": self.move.into,
                "allow_legacy": list(self.move.allow_legacy),
                "drop_signature": self.move.drop_signature,
            },
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Settings:
        """Read what ``as_dict`` returned.

        Args:
            data: the plain data.

        Returns:
            The settings.

        Raises:
            ValueError, TypeError, KeyError: the data is not valid.
        """
        keys = tuple(
            WantedKey(str(key["arn"]), bytes.fromhex(key["material_id"]), int(key["rotated_at"]))
            for key in data["wanted"]
        )
        sources = tuple(str(source) for source in data["sources"])
        if not keys or None in map(_names.parse_arn, (*sources, *(key.arn for key in keys))):
            raise ValueError("not key ARNs")
        return cls(
            sources,
            Wanted(keys, int(data["wrapped_since"])),
            Contexts(
                tuple((str(name), str(value)) for name, value in data["contexts"]),
                bool(data["accept_stored"]),
                str(data["suffix"]),
            ),
            bool(data["add_regions"]),
            bool(data["reencrypt"]),
            # Plans of earlier builds are about envelopes only.
            tuple(str(name) for name in data.get("also", ())),
            None if data.get("move") is None else Move(**data["move"]),
        )


@functools.lru_cache(maxsize=16)
def _entries(sources: tuple[str, ...]) -> tuple[_names.KeyName, ...]:
    return tuple(_names.parse(source) for source in sources)
