"""--models: the map of fields from the models of an application, in a module of the user's."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from operator import attrgetter
from typing import TYPE_CHECKING

import click

from sealwax._text import printable
from sealwax.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sealwax.records.tables import SealedColumn

# Their messages name what is missing; others may hold whatever the module handles, such as a password.
_TOLD = (ImportError, NameError, AttributeError, KeyError, SyntaxError, ModelError)


def columns_of(given: str) -> Sequence[SealedColumn]:
    """Return the sealed columns of ``MODULE:NAME``, where NAME is the base class of the models, or their metadata.

    Raises:
        click.UsageError: the module cannot be imported, or there is no such name, or no sealed column.
    """
    module, colon, name = given.partition(":")
    shown = f"--models '{printable(given)}'"
    if not module or not colon or not name:
        raise click.UsageError(f"{shown} is not of the form MODULE:NAME, such as shop.models:Base")
    try:
        from sealwax.sqlalchemy import sealed_columns
    except ModuleNotFoundError as error:
        raise click.UsageError(str(error)) from None
    imported = _imported(module, shown)
    try:
        found = attrgetter(name)(imported)
    except AttributeError:
        raise click.UsageError(f"{shown}: the module '{printable(module)}' has no '{printable(name)}'") from None
    try:
        return sealed_columns(getattr(found, "metadata", found))
    except TypeError:
        raise click.UsageError(
            f"{shown} is neither the base class of models nor a MetaData; name that, such as shop.models:Base"
        ) from None
    except (ModelError, ValueError) as error:
        raise click.UsageError(f"{shown}: {printable(str(error))}") from None


def _imported(module: str, shown: str) -> object:
    """Import a module, also from the working directory, as other tools do that take one."""
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        return importlib.import_module(module)
    except (Exception, SystemExit) as error:
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "importlib" not in frame.filename]
        last = frames[-1] if len(frames) > 1 else None
        where = "" if last is None else f" ({os.path.basename(last.filename)}, line {last.lineno})"
        if isinstance(error, ModuleNotFoundError) and error.name in (module, module.partition(".")[0]):
            where = "; run this in the folder that has it, or add that folder to PYTHONPATH"
        what = type(error).__name__ + (f": {error}" if isinstance(error, _TOLD) else "")
        raise click.UsageError(f"{shown} cannot be imported: {printable(what)}{printable(where)}") from None
