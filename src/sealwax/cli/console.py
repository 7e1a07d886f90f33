"""What a person is told, and how.

- Data goes to standard output, everything else to standard error.
- An error is one sentence: what failed, where, why, what to do. A success with a file says so in one line.
- ``-q`` leaves errors only. Progress is shown on a terminal only, and only when there is something to wait for.
- Names from outside are shown with control and direction characters escaped.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import click

from sealwax.context import printable

quiet = False
verbose = False

# Less than this is done before a bar could be read.
_PROGRESS_FROM_BYTES: Final = 64 << 20


def say(text: str) -> None:
    """Say something that must be heard."""
    click.echo(f"sealwax: {text}", err=True)


def tell(text: str) -> None:
    """Say something that -q silences."""
    if not quiet:
        click.echo(f"sealwax: {text}", err=True)


def complain(error: Exception, about: str | None = None) -> None:
    """Say what failed, and on which file."""
    say(f"{shown(about)}: {error}" if about else str(error))


def shown(name: str) -> str:
    """Return the name of a file as it is shown."""
    return "standard input" if name == "-" else printable(os.fsdecode(name))


def print_json(value: Mapping[str, Any]) -> None:
    """Print one object on one line."""
    click.echo(json.dumps(value))


def refuse_terminal() -> None:
    """Refuse to write binary data to a terminal.

    Raises:
        click.UsageError: standard output is one.
    """
    if sys.stdout.isatty():
        raise click.UsageError("the output is binary, and standard output is a terminal: name a file with -o")


@contextlib.contextmanager
def progress(name: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """Lend a function that is told how many more bytes are done, and shows it where it is worth it."""
    if quiet or not sys.stderr.isatty() or (total is not None and total < _PROGRESS_FROM_BYTES):
        yield lambda _: None
        return
    from rich import progress as bars
    from rich.console import Console

    columns = (
        bars.TextColumn("{task.description}"),
        bars.BarColumn(),
        bars.DownloadColumn(binary_units=True),
        bars.TransferSpeedColumn(),
        bars.TimeRemainingColumn(),
    )
    with bars.Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(shown(name), total=total)
        yield lambda size: bar.advance(task, size)
