"""What a fleet is to be brought to, and which envelopes are meant. Plain data: it is pickled, and kept in plans."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, cast

from sealwax._core import validate
from sealwax._core.context import BRACED, placed, placeholders, printable
from sealwax._core.keyring import WrappedKey
from sealwax._core.staleness import Wanted, WantedKey
from sealwax.kms import _allowlist, _names

# In the value of a pattern: any text, a star itself, and an object's own name.
_TOKENS: Final = re.compile(rf"(\\\*|\*|{BRACED.pattern})")


@dataclass(frozen=True, slots=True)
class Contexts:
    """Which stored contexts are accepted.

    Args:
        pairs: names and patterns of values, as a Mapping or as pairs; each must be stored, with a value that fits.
            ``*`` stands for any text, ``\\*`` for a star, ``{relpath}`` and ``{name}`` for the object's own path below
            its place and its last part, without ``suffix``, and ``{{name}}`` for the text ``{name}``.
        accept_stored: whether further pairs may be stored. Without it, a pair that is not named here is refused; an
            envelope without a context is accepted where ``pairs`` is empty, and no other.
        suffix: what an envelope's name ends with.

    Raises:
        ContextError: another word stands in braces.
        TypeError: ``pairs`` is something else, or a name or a pattern is no str.
        ValueError: a name is given twice, with two patterns.
    """

    # A tuple of pairs, once it is made.
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
        """Whether what is accepted depends on the name of an object."""
        return any("{" in pattern for _, pattern in self._pairs)

    def refusal(self, stored: Mapping[str, str], relpath: str) -> str | None:
        """Return why a stored context is not accepted, or None where it is. Values are not told."""
        relpath = relpath.removesuffix(self.suffix)
        wanted = dict(self._pairs)
        if not self.accept_stored:
            extra = sorted(name for name in stored if name not in wanted)
            if extra:
                return f"its stored context has '{printable(extra[0])}', which was not given"
        for name, pattern in self._pairs:
            if name not in stored:
                return f"its stored context lacks '{printable(name)}'"
            own = relpath if "{" in pattern else ""
            if not _compiled(pattern, own).fullmatch(stored[name]):
                return f"its stored context has another '{printable(name)}'"
        return None


def _as_pairs(pairs: Iterable[tuple[str, str]] | Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    what = "names and patterns"
    listed: Iterable[Any] = pairs.items() if isinstance(pairs, Mapping) else validate.many("pairs", pairs, what)
    found: dict[str, str] = {}
    for pair in listed:
        parts: list[object] = list(pair) if isinstance(pair, list | tuple) else []
        if list(map(type, parts)) != [str, str]:
            raise TypeError("pairs is a Mapping of names and patterns, or a sequence of such pairs, all of them str")
        name, pattern = pair
        if found.setdefault(name, pattern) != pattern:
            raise ValueError(f"pairs has the name '{printable(name)}' twice, with two patterns")
    return tuple(found.items())


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
    # Each text is taken where it comes first, for good: a hostile value would else be tried in every possible way.
    return re.compile(f"{first}{''.join(f'(?>.*?{text})' for text in between)}.*{last}", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Settings:
    """What is to become of a fleet.

    Args:
        sources: the key ARNs that envelopes may be under now: the allow-list, which no file adds to.
        wanted: what they are to be under.
        contexts: which envelopes are meant.
        add_regions: whether a wanted key in a Region where no allowed key has wrapped an envelope is added by opening
            the data key here (kms:Decrypt) and wrapping it there (kms:Encrypt).
        reencrypt: whether data is to be encrypted anew, under new data keys (:mod:`sealwax.fleet._reencrypt`). What was
            wrapped before ``wanted.wrapped_since`` has an old data key then.
    """

    sources: tuple[str, ...]
    wanted: Wanted
    contexts: Contexts
    add_regions: bool = False
    reencrypt: bool = False

    def attempts(self, wrapped_keys: tuple[WrappedKey, ...]) -> list[_allowlist.Attempt]:
        """Return the wrapped keys that may be sent to KMS, in the order of the allow-list."""
        return _allowlist.attempts(_entries(self.sources), wrapped_keys, lambda: "")

    def as_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
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
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Settings:
        """Return what :meth:`as_dict` gave.

        Raises:
            ValueError, TypeError, KeyError: it is nothing that it gives.
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
        )


@functools.lru_cache(maxsize=16)
def _entries(sources: tuple[str, ...]) -> tuple[_names.KeyName, ...]:
    return tuple(_names.parse(source) for source in sources)
