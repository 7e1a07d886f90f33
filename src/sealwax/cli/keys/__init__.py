"""sealwax keys: lists, rotates and retires KMS keys."""

from __future__ import annotations

import click

from sealwax.cli.keys.listing import list_command
from sealwax.cli.keys.retiring import retire
from sealwax.cli.keys.rotating import rotate, rotations


@click.group()
def keys() -> None:
    """List, rotate and retire KMS keys."""


for _command in (list_command, rotate, rotations, retire):
    keys.add_command(_command)
