"""Strings of a policy that can hold wildcards and policy variables.

Version 2012-10-17 of the policy language knows ``${name}``, ``${name, 'default'}`` and the three escapes ``${*}``,
``${?}`` and ``${$}``. The value of a variable is always literal: a ``*`` in the value of a tag is not a wildcard.
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


Token = str | Wild  # a str is literal and never empty


@dataclass(frozen=True, slots=True)
class Variable:
    """A policy variable.

    Attributes:
        name: the condition key that it stands for.
        default: its value if the request does not have that key.
    """

    name: str
    default: str | None


_VARIABLE: Final = re.compile(r"([A-Za-z0-9][^\s,'{}$*?]*(?::[^,'{}$*?]*)?)(?:\s*,\s*'([^'{}]*)')?\Z")


@dataclass(frozen=True, slots=True)
class Pattern:
    """A string of a policy, parsed for comparison.

    Attributes:
        text: the string as written.
        parts: its literal pieces, wildcards and variables.
        has_variables: whether it has variables.
    """

    text: str
    parts: tuple[Token | Variable, ...] = field(repr=False)
    has_variables: bool = False

    def resolve(self, lookup: Lookup) -> tuple[Token, ...] | None:
        """Return the tokens with every variable replaced, or None if a variable has no value.

        Args:
            lookup: returns the value of a condition key, or None.

        Returns:
            Literal pieces and wildcards, or None.
        """
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
    """Return a string of a policy for a message: printable, and shortened if long."""
    plain = "".join(c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in text)
    return plain if len(plain) <= 120 else f"{plain[:117]}..."


def parse(text: str, *, wildcards: bool, variables: bool) -> Pattern:
    """Parse a string of a policy.

    Args:
        text: the string as written.
        wildcards: whether ``*`` and ``?`` are wildcards here.
        variables: whether ``${...}`` is a variable here.

    Raises:
        PolicyError: a ``${`` does not start a valid variable.
    """
    parts: list[Token | Variable] = []
    at = 0
    while at < len(text):
        part: Token | Variable
        if variables and text.startswith("${", at):
            end = text.find("}", at)
            if end < 0:
                raise PolicyError(f"'{shown(text)}' has a policy variable without a closing brace")
            part = _variable(text[at + 2 : end])
            at = end + 1
        else:
            part = Wild(text[at]) if wildcards and text[at] in "*?" else text[at]
            at += 1
        if isinstance(part, str) and parts and isinstance(parts[-1], str):
            parts[-1] += part
        else:
            parts.append(part)
    return Pattern(text, tuple(parts), any(isinstance(part, Variable) for part in parts))


def _variable(inside: str) -> Token | Variable:
    if inside in ("*", "?", "$"):
        return inside
    match = _VARIABLE.match(inside)
    if match is None:
        raise PolicyError(f"'${{{shown(inside)}}}' is not a policy variable")
    return Variable(match[1].strip().lower(), match[2])


def glob(pattern: Sequence[Token], text: str) -> bool:
    """Tell whether the whole text matches the pattern.

    It backtracks only to the last ``*``, so that hostile patterns cost quadratic time at most.
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
    """Return the six parts of an ARN pattern, or None if there are fewer."""
    components: list[list[Token]] = [[]]
    for token in tokens:
        if isinstance(token, Wild):
            components[-1].append(token)
            continue
        first, *others = token.split(":", 6 - len(components))
        components[-1] += [first] if first else []
        components += [[other] if other else [] for other in others]
    return components if len(components) == 6 else None


def glob_arn(pattern: Sequence[Token], text: str) -> bool:
    """Tell whether an ARN matches the pattern, part by part."""
    ours = split_arn(pattern)
    theirs = text.split(":", 5)
    if ours is None or len(theirs) != 6:
        return False
    return all(glob(part, other) for part, other in zip(ours, theirs, strict=True))
