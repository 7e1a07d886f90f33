"""The canonical form of a context, as an envelope stores it."""

from __future__ import annotations

from sealwax._core import context as ctx
from sealwax._text import printable
from sealwax.errors import ContextError


def check(data: bytes) -> None:
    try:
        pairs = ctx.decode(data)
    except ContextError:
        return
    assert ctx.encode(pairs) == data, "a context has one form"
    assert len(pairs) <= ctx.MAX_PAIRS
    # Two names that differ in case only are stored locally, and never as KMS context.
    try:
        ctx.check_new_keys(pairs)
    except ContextError:
        assert len({key.casefold() for key in pairs}) < len(pairs) or ctx.is_reserved(pairs)
    expected = pairs or ctx.NO_CONTEXT
    assert ctx.match(expected, pairs, (), 0) == {}
    assert all(printable(text).isprintable() for pair in pairs.items() for text in pair)
