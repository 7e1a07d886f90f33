"""Which of the files below a folder or prefix a run takes: --include and --exclude, by the rules of rsync.

The rules are tried in the order in which they were typed, and the first one that matches decides; what none matches is
taken. An excluded folder is not entered, so nothing below it is taken.

==============  =====================================================================================
``*.log``       any file or folder of such a name, at any depth; ``*``, ``?`` and ``[a-z]`` match no /
``/cache``      one directly in the folder that was named
``a/b``         b in a folder a, at any depth
``a/**/b``      ``**`` matches any characters, also /
``build/``      a folder, not a file
``build/***``   a folder and everything in it
==============  =====================================================================================
"""

from __future__ import annotations

import functools
import operator
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import click

from sealwax._text import printable
from sealwax.cli.options import Command

_TYPED: Final = "sealwax.cli.filters"
_LONGEST: Final = 4096
_CLASS: Final = re.compile(r"([!^]?)(\]?[^\]]*)\]", re.DOTALL)


# One step of a pattern: what one character has to be, and whether it may be there any number of times.
_Step = tuple[Callable[[str], bool], bool]


@dataclass(frozen=True)
class PathRule:
    """One --include or --exclude."""

    include: bool
    pattern: str

    @cached_property
    def _steps(self) -> list[_Step]:
        return list(_steps(self.pattern.removesuffix("/***").strip("/")))

    def matches(self, path: str, *, folder: bool) -> bool:
        """Whether it is about this path below the folder that was named."""
        text = self.pattern
        if text.endswith("/***"):
            parts = path.split("/")
            above = ("/".join(parts[:count]) for count in range(1, len(parts)))
            return (folder and self._ends(path)) or any(map(self._ends, above))
        return (folder or not text.endswith("/")) and self._ends(path)

    def _ends(self, path: str) -> bool:
        """Whether the path, or its end after some /, is what the pattern says."""
        text = self.pattern.removesuffix("/***").removesuffix("/")
        if text.startswith("/"):
            return _fits(self._steps, path)
        if "/" not in text and "**" not in text:
            return _fits(self._steps, path.rpartition("/")[2])
        return any(_fits(self._steps, path[at:]) for at in (0, *(match.end() for match in re.finditer("/", path))))


def _fits(steps: Sequence[_Step], text: str) -> bool:
    """Whether a text is what the steps say.

    All ways are followed at the same time: with a regular expression, a few stars and a long name take forever.
    """

    def onward(at: Iterable[int]) -> set[int]:
        """Return the places, and those behind steps that may be left out."""
        places: set[int] = set()
        for place in at:
            while place not in places:
                places.add(place)
                if place < len(steps) and steps[place][1]:
                    place += 1
        return places

    places = onward([0])
    for character in text:
        going = [place for place in places if place < len(steps) and steps[place][0](character)]
        places = onward(place if steps[place][1] else place + 1 for place in going)
    return len(steps) in places


def _steps(glob: str) -> Iterator[_Step]:
    at = 0
    while at < len(glob):
        mark = glob[at]
        at += 1
        if mark == "*":
            after = len(glob) - len(glob[at:].lstrip("*"))
            yield (_not_slash if after == at else _any), True
            at = after
        elif mark == "?":
            yield _not_slash, False
        elif mark == "[" and (found := _CLASS.match(glob, at)):
            yield _class(found[1], found[2]), False
            at = found.end()
        else:
            if mark == "\\" and at < len(glob):
                mark = glob[at]
                at += 1
            yield functools.partial(operator.eq, mark), False


def _any(_: str) -> bool:
    return True


def _not_slash(character: str) -> bool:
    return character != "/"


def _class(negation: str, members: str) -> Callable[[str], bool]:
    """Return what the characters between brackets match, of which there are single ones and ranges."""
    ranges = [(match[0][0], match[0][-1]) for match in re.finditer("(?s:.-.|.)", members)]

    def matches(character: str) -> bool:
        inside = any(first <= character <= last for first, last in ranges)
        return character != "/" and inside != bool(negation)

    return matches


@dataclass(frozen=True, slots=True)
class Filters:
    """What was typed of --include and --exclude, in its order."""

    rules: Sequence[PathRule] = ()

    def exclude(self, path: str, *, folder: bool = False) -> bool:
        """Whether a file or folder is excluded by its own path; see ``exclude_below``."""
        return not next((rule.include for rule in self.rules if rule.matches(path, folder=folder)), True)

    def exclude_below(self, path: str) -> bool:
        """Whether a file is excluded by its path, or by a folder that it is in."""
        if not self.rules:
            return False
        parts = path.split("/")
        above = ("/".join(parts[:count]) for count in range(1, len(parts)))
        return any(self.exclude(folder, folder=True) for folder in above) or self.exclude(path)


class _InOrder(click.Option):
    """An option that notes where it was typed among others of its kind."""

    def add_to_parser(self, parser: Any, ctx: click.Context) -> None:
        super().add_to_parser(parser, ctx)
        option = parser._long_opt[self.opts[0]]
        process = option.process

        def noting(value: Any, state: Any) -> None:
            ctx.meta.setdefault(_TYPED, []).append((self.name, value))
            process(value, state)

        option.process = noting


def add(command: Command) -> Command:
    """Add --include and --exclude; ``typed`` has their values."""
    for name, help_ in (
        ("exclude", "With -r: skip files and folders that match a pattern such as '*.tmp' or '/cache/'; repeatable."),
        ("include", "With -r: keep files and folders that match, even if a later --exclude matches them; repeatable."),
    ):
        command = click.option(
            f"--{name}", name, multiple=True, metavar="PATTERN", cls=_InOrder, expose_value=False, help=help_
        )(command)
    return command


def typed(context: click.Context, *, recursive: bool) -> Filters:
    """Return the filters of a command line.

    Raises:
        click.UsageError: a pattern cannot match, or an option would have no effect.
    """
    rules = [PathRule(name == "include", pattern) for name, pattern in context.meta.get(_TYPED, ())]
    for rule in rules:
        _check(rule, recursive)
    if rules and rules[-1].include:
        raise click.UsageError(
            f"--include '{printable(rules[-1].pattern)}' has no effect: no --exclude comes after it; to process only "
            "what it matches, add --include '*/', to enter folders, and --exclude '*' at the end"
        )
    return Filters(tuple(rules))


def _check(rule: PathRule, recursive: bool) -> None:
    option = f"--{'include' if rule.include else 'exclude'}"
    if not rule.pattern.strip("/"):
        raise click.UsageError(f"{option} needs a pattern, such as '*.tmp'")
    if len(rule.pattern) > _LONGEST:
        raise click.UsageError(f"the pattern of {option} is longer than {_LONGEST:,} characters")
    if not recursive:
        raise click.UsageError(f"{option} needs -r: files that are named are always processed")
