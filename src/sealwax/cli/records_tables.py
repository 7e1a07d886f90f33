"""sealwax records reseal, stale and verify: the verbs that read the tables of an application."""

from __future__ import annotations

from typing import Final

import click

COMMANDS: Final[tuple[click.Command, ...]] = ()
