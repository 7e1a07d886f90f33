"""What the commands of `manage.py` that work on sealed fields have in common with the command line."""

from __future__ import annotations

import argparse
import contextlib
import math
from collections.abc import Sequence
from typing import Any, TextIO, cast

import click
from django.apps import apps
from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError, InterfaceError, connections, models, router

from sealwax._text import printable
from sealwax.cli import console, options, status_of
from sealwax.cli.state import RunState
from sealwax.errors import SealwaxError

_INTERRUPTED = 130


class SealedCommand(BaseCommand):
    """A command on the sealed fields of some models in one database. It prints, and ends, as those of sealwax do."""

    def add_arguments(self, parser: Any) -> None:
        parser.add_argument(
            "models", nargs="*", metavar="app_label[.Model]", help="Only these applications or models. Default: all."
        )
        parser.add_argument("--database", default="default", help='The database with the tables. Default: "default".')
        parser.add_argument("--json", action="store_true", help="Print one JSON object.")

    def work(self, given: Sequence[type[models.Model]], using: str, **options: Any) -> int:
        """Do the work; return the exit status."""
        raise NotImplementedError

    def handle(self, *_: object, **options: Any) -> None:
        using = options.pop("database")
        given = _models(options.pop("models"), using)
        state = RunState(quiet=options["verbosity"] == 0, verbose=options["verbosity"] > 1)
        status = 0
        # Not what Django wraps around them, which adds line ends, and colors for errors: progress is no error.
        out, err = (cast("TextIO", each._out) for each in (self.stdout, self.stderr))
        with (
            click.Context(click.Command(type(self).__module__.rpartition(".")[2]), obj=state),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            try:
                status = self.work(given, using, **options)
            except SealwaxError as error:
                raise CommandError(console.in_commands(str(error)), returncode=status_of(error)) from None
            except (DatabaseError, InterfaceError) as error:
                message = printable(" ".join(str(error).split()))
                raise CommandError(f"the database '{using}' failed: {message}", returncode=1) from None
            except click.ClickException as error:
                raise CommandError(error.format_message(), returncode=error.exit_code) from None
            except KeyboardInterrupt:
                console.warn("interrupted")
                status = _INTERRUPTED
        if status:
            raise SystemExit(status)


def seconds(text: str) -> float:
    """Read a time, such as 2m, as the options of the command line do."""
    try:
        return float(options.Duration().convert(text, None, None))
    except click.UsageError as error:
        raise argparse.ArgumentTypeError(error.message) from None


def rows_per_second(text: str) -> float:
    """Read a rate."""
    try:
        rate = float(text)
    except ValueError:
        rate = 0.0
    if not 0 < rate < math.inf:
        raise argparse.ArgumentTypeError(f"'{printable(text)}' is not a number of rows per second")
    return rate


def _models(names: Sequence[str], using: str) -> list[type[models.Model]]:
    if using not in connections:
        raise CommandError(f"there is no database '{using}' in DATABASES", returncode=2)
    found: list[type[models.Model]] = []
    try:
        for name in names:
            label, _, model = name.partition(".")
            found += [apps.get_model(label, model)] if model else apps.get_app_config(label).get_models()
    except LookupError as error:
        raise CommandError(str(error), returncode=2) from None
    there = [each for each in (found if names else apps.get_models()) if router.allow_migrate_model(using, each)]
    sealed = [each for each in there if any(hasattr(field, "sealing") for field in each._meta.local_concrete_fields)]
    if not sealed:
        raise CommandError("none of these models has sealed fields", returncode=2)
    return sealed
