"""The options of `sealwax records`: the key store, its KMS key and the scope; and databases that are named by URL."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Final

import click
from click.core import ParameterSource

from sealwax._text import printable
from sealwax.cli import layers, options
from sealwax.cli.kms import Aws, Keys
from sealwax.cli.options import Command, ContextTemplate
from sealwax.cli.state import current
from sealwax.errors import ContextError, KeyStoreError

if TYPE_CHECKING:
    from sqlalchemy.engine import URL

    from sealwax.records import Records, SqlKeys

VARIABLE: Final = "SEALWAX_STORE"


def store(command: Command) -> Command:
    """Add --store; the command gets ``store``, a key store that is not connected yet. Above ``kms``, if both are used.

    --no-settings comes with it, or with ``kms``.
    """
    has_settings = any(each.name == "no_settings" for each in getattr(command, "__click_params__", ()))

    @click.option(
        "--store",
        "store",
        metavar="URL",
        envvar=VARIABLE,
        callback=_store_url,
        help="The database with the key store: a SQLAlchemy URL without a password. Default: SEALWAX_STORE, or the "
        "settings.",
    )
    @click.pass_context
    @functools.wraps(command)
    def wrapped(context: click.Context, /, *args: object, store: URL, **kwargs: object) -> object:
        if "lab" not in context.params:  # else `options.account` says it
            layers.announce_command(context, None)
        return command(*args, store=open_store(store, creating=context.command.name == "create-table"), **kwargs)

    return wrapped if has_settings else options.no_settings(wrapped)


def kms(command: Command) -> Command:
    """Add -k and the options that select a KMS; the command gets ``keys``, whose ``of_records`` is the keyring."""

    @click.option(
        "-k",
        "--key",
        "names",
        multiple=True,
        metavar="KEY",
        help="A KMS key of the records: key ID, key ARN, alias/NAME or alias ARN; repeatable. Default: SEALWAX_KEY, "
        "or the settings.",
    )
    @options.aws
    @functools.wraps(command)
    def wrapped(*args: object, names: tuple[str, ...], aws: Aws, **kwargs: object) -> object:
        return command(*args, keys=Keys(names or layers.default_keys(), aws, (), current().settings), **kwargs)

    return wrapped


def scope(*, required: bool, local: bool = False) -> Callable[[Command], Command]:
    """Add the options that give a scope; the command gets ``scope``.

    Neither SEALWAX_CONTEXT nor the settings add to it: they are about files, and one pair more is another scope.

    Args:
        required: whether there must be a pair.
        local: whether to add --local-context; the command gets ``local_scope``, the names of local pairs.
    """

    def decorate(command: Command) -> Command:
        @click.option(
            "-c",
            "--context",
            "pairs",
            multiple=True,
            metavar="NAME=VALUE",
            help="A pair of the scope; repeatable. Write {{name}} for a literal {name}.",
        )
        @click.option(
            "--context-file",
            metavar="FILE.json",
            type=click.Path(exists=True, dir_okay=False),
            help="A file with more pairs of the scope: a JSON object of strings.",
        )
        @functools.wraps(command)
        def wrapped(*args: object, pairs: tuple[str, ...], context_file: str | None, **kwargs: object) -> object:
            typed = options.typed_pairs(pairs, context_file)
            found = ContextTemplate(typed, typed=typed).without_file()
            if reserved := next((name for name in found if name.casefold() == "sealwax-use"), None):
                raise ContextError(
                    f"'{printable(reserved)}' cannot be a pair of a scope: it is reserved for what a key is for"
                )
            if required and not found:
                raise click.UsageError("name the scope, pair by pair, with -c NAME=VALUE")
            return command(*args, scope=found, **kwargs)

        if not local:
            return wrapped
        return click.option(
            "--local-context",
            "local_scope",
            multiple=True,
            metavar="NAME",
            help="The name of a pair of the scope that binds records, but is not sent to KMS; repeatable.",
        )(wrapped)

    return decorate


@contextlib.contextmanager
def opened(store: SqlKeys, keys: Keys, scope: Mapping[str, str], local_scope: Sequence[str] = ()) -> Iterator[Records]:
    """Yield the ``Records`` of a scope, and wipe its keys afterwards."""
    from sealwax.records import Records

    with Records(keys.of_records(), store, scope=scope, local_scope=local_scope) as records:
        yield records


def open_store(url: URL, *, creating: bool = False, other: bool = False) -> SqlKeys:
    """Return the key store in a database; nothing connects to it yet.

    Args:
        other: whether it is another one than that of --store, which nobody would create now.
        creating: whether a SQLite file that does not exist is created; else a mistyped name would be an empty store.

    Raises:
        KeyStoreError: there is no such SQLite file.
    """
    from sealwax.records import SqlKeys
    from sealwax.records._url import missing_file

    if not creating and (path := missing_file(url)):
        hint = "" if other else ", or create it with `sealwax records create-table`"
        raise KeyStoreError(f"the key store '{printable(path)}' does not exist; correct the URL{hint}")
    return SqlKeys(url)


def parsed_url(text: str, source: str, *, folder: str = "") -> URL:
    """Return ``parse_url`` of what was typed.

    Raises:
        click.UsageError: it is not such a URL.
        KeyStoreError: SQLAlchemy or the driver is not installed.
    """
    from sealwax.records._url import parse_url

    try:
        return parse_url(text, source, folder=folder)
    except ValueError as error:
        raise click.UsageError(str(error)) from None


def _store_url(context: click.Context, param: click.Parameter, text: str | None) -> URL | None:
    if context.resilient_parsing:  # a shell that completes a command
        return None
    if text is None:
        raise click.UsageError(f"name the key store with --store or in {VARIABLE}")
    by = context.get_parameter_source(str(param.name))
    settings = current().settings
    if by is ParameterSource.DEFAULT_MAP and settings is not None:
        source = f"'store' in '{printable(settings.path)}'"
        return parsed_url(text, source, folder=os.path.dirname(settings.path))
    return parsed_url(text, VARIABLE if by is ParameterSource.ENVIRONMENT else "--store")
