"""The command line's ``--context-file``."""

from __future__ import annotations

import json
import tempfile
from typing import Final

import click

from sealwax._core import context as ctx
from sealwax.cli import options
from sealwax.errors import ContextError


@click.command()
@options.context(stored=False)
def _command(template: options.ContextTemplate) -> options.ContextTemplate:
    return template


_FILE: Final = tempfile.NamedTemporaryFile(suffix=".json")  # noqa: SIM115  for as long as the process lives


def check(data: bytes) -> None:
    _FILE.seek(0)
    _FILE.write(data)
    _FILE.truncate()
    _FILE.flush()
    try:
        template = _command.main(["--context-file", _FILE.name], standalone_mode=False)
    except click.UsageError:
        return
    assert template.pairs == json.loads(data.decode("utf-8-sig")), "the pairs are those that any reader of JSON finds"
    try:
        filled = template.to_bind("folder/name")
        assert ctx.decode(ctx.encode(ctx.as_pairs(filled))) == filled
    except ContextError:
        return
