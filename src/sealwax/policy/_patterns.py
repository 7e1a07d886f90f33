"""Text of a policy that may hold wildcards and policy variables.

Version 2012-10-17 of the policy language knows ``${name}``, ``${name, 'default'}`` and the three escapes ``${*}``,
``${?}`` and ``${$}``. What a variable stands for is always plain text: a ``*`` inside a tag's value is no wildcard.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Final, cast

from sealwax.errors import PolicyError

Lookup = Callable[[str], str | None]


class Wild(Enum):
    """The two wildcards."""

    MANY = "*"
    ONE = "?"


Token = str | Wild  # a str, never empty, stands for itself


@dataclass(frozen=True, slots=True)
class Variable:
    """A policy variable: the name of a condition key, and what to use where the request does not have it."""

    name: str
    default: str | None


_VARIABLE: Final = re.compile(r"([A-Za-z0-9][^\s,'{}$*?]*(?::[^,'{}$*?]*)?)(?:\s*,\s*'([^'{}]*)')?\Z")


@dataclass(frozen=True, slots=True)
class Template:
    """A text of a policy, ready to be compared."""

    text: str
    parts: tuple[Token | Variable, ...] = field(repr=False)
    has_variables: bool = False

    def resolve(self, lookup: Lookup) -> tuple[Token, ...] | None:
        """Return the tokens with every variable replaced, or None when a variable has no value."""
        if not self.has_variables:
            return cast("tuple[Token, ...]", self.parts)
        tokens: list[Token] = []
        for part in self.parts:
            if not isinstance(part, Variable):
                tokens.append(part)
                continue
            value = lookup(part.name)
            if value is None:
                value = part.default
            if value is None:
                return None
            if value:
                tokens.append(value)
        return tuple(tokens)


def shown(text: str) -> str:
    """Return a text of a policy as a message can hold it: printable and not long."""
    plain = "".join(c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in text)
    return plain if len(plain) <= 120 else f"{plain[:117]}..."


def parse(text: str, *, wildcards: bool, variables: bool) -> Template:
    """Read a text.

    Args:
        text: the text as it stands in the policy.
        wildcards: whether ``*`` and ``?`` are wildcards here.
        variables: whether ``${...}`` is a variable here.

    Raises:
        PolicyError: a ``${`` that begins no variable.
    """
    parts: list[Token | Variable] = []
    at = 0
    while at < len(text):
        part: Token | Variable
        if variables and text.startswith("${", at):
            end = text.find("}", at)
            if end < 0:
                raise PolicyError(f"'{shown(text)}' holds a variable that is not closed")
            part = _variable(text[at + 2 : end])
            at = end + 1
        else:
            part = Wild(text[at]) if wildcards and text[at] in "*?" else text[at]
            at += 1
        if isinstance(part, str) and parts and isinstance(parts[-1], str):
            parts[-1] += part
        else:
            parts.append(part)
    return Template(text, tuple(parts), any(isinstance(part, Variable) for part in parts))


def _variable(inside: str) -> Token | Variable:
    if inside in ("*", "?", "$"):
        return inside
    match = _VARIABLE.match(inside)
    if match is None:
        raise PolicyError(f"'${{{shown(inside)}}}' is not a policy variable")
    return Variable(match[1].strip().lower(), match[2])


def glob(pattern: Sequence[Token], text: str) -> bool:
    """Tell whether the whole text fits the pattern.

    Going back only to the last ``*`` keeps this quadratic at worst, whatever the pattern: a policy comes from others.
    """
    at = here = mark = 0
    star = -1
    while here < len(text):
        token = pattern[at] if at < len(pattern) else None
        if token is Wild.MANY:
            if at + 1 == len(pattern):
                return True
            star, mark = at, here
            at += 1
        elif token is Wild.ONE:
            at += 1
            here += 1
        elif token is not None and text.startswith(token, here):
            at += 1
            here += len(token)
        elif star >= 0:
            mark += 1
            at, here = star + 1, mark
        else:
            return False
    return all(token is Wild.MANY for token in pattern[at:])


def split_arn(tokens: Sequence[Token]) -> list[list[Token]] | None:
    """Return the six components of an ARN pattern, or None when there are fewer."""
    components: list[list[Token]] = [[]]
    for each in tokens:
        if isinstance(each, Wild):
            components[-1].append(each)
            continue
        first, *others = each.split(":", 6 - len(components))
        components[-1] += [first] if first else []
        components += [[other] if other else [] for other in others]
    return components if len(components) == 6 else None


def glob_arn(pattern: Sequence[Token], text: str) -> bool:
    """Tell whether an ARN fits the pattern, each of the six components on its own."""
    ours = split_arn(pattern)
    theirs = text.split(":", 5)
    if ours is None or len(theirs) != 6:
        return False
    return all(glob(part, other) for part, other in zip(ours, theirs, strict=True))
