"""sealwax keys: the KMS keys there are, their rotation and their end."""

from __future__ import annotations

import click

from sealwax.cli.keys.listing import list_command
from sealwax.cli.keys.retiring import retire
from sealwax.cli.keys.rotating import rotate, rotations


@click.group()
def keys() -> None:
    """The KMS keys of an account, and what becomes of them."""


for _command in (list_command, rotate, rotations, retire):
    keys.add_command(_command)
