"""The types of the options of sealwax fleet."""

from __future__ import annotations

import math
import re

import click

from sealwax._core.foreign.rules import FAMILIES
from sealwax._text import printable


class HowMany(click.ParamType):  # type: ignore[type-arg]
    """A number, or "all", which is -1."""

    name = "number"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int | None:
        if value == "all":
            return -1
        if not re.fullmatch(r"[0-9]{1,9}", str(value)):
            self.fail(f"'{printable(str(value))}' is neither a number nor 'all'", param, ctx)
        return int(str(value))


class Formats(click.ParamType):  # type: ignore[type-arg]
    """Names of formats, with commas between them."""

    name = "formats"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        names = tuple(str(value).split(","))
        for name in names:
            if name not in FAMILIES:
                self.fail(f"'{printable(name)}' is not one of {', '.join(FAMILIES)}", param, ctx)
        return names


class Finite(click.FloatRange):
    """A number in a range. click accepts NaN, since it is not outside of any range."""

    def convert(self, value: float, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number: float = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"'{printable(str(value))}' is not a finite number", param, ctx)
        return number
