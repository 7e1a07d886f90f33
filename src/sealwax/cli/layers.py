"""What counts: an option over an environment variable, and that over the settings file.

Of keys, the nearest are used and no others. Pairs of the context and the names of local ones add up; of pairs with the
same name, the nearest counts.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from typing import Final

import click
from click.core import ParameterSource

from sealwax._core import context as ctx
from sealwax._text import printable
from sealwax.cli import console, locations
from sealwax.cli.settingsfile import Layer, SettingsFile
from sealwax.cli.state import current
from sealwax.errors import ContextError

CONTEXT_VARIABLE: Final = "SEALWAX_CONTEXT"
KEY_VARIABLE: Final = "SEALWAX_KEY"
REGION_VARIABLE: Final = "AWS_DEFAULT_REGION"
# Those that give AWS an identity; the settings file's profile must not replace it.
IDENTITY_VARIABLES: Final = (
    "AWS_PROFILE",
    "AWS_DEFAULT_PROFILE",
    "AWS_ACCESS_KEY_ID",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
)


def identity_variable() -> str | None:
    """Return the variable that gives AWS an identity; None if none does."""
    return next((name for name in IDENTITY_VARIABLES if os.environ.get(name)), None)


def of_runs(settings: SettingsFile) -> dict[str, object]:
    """Return what settings bring to a whole run, by parameter, as far as no variable counts."""
    region = None if os.environ.get(REGION_VARIABLE) else settings.region
    profile = None if identity_variable() else settings.profile
    found = {
        "region": region,
        "profile": profile,
        "suffix": settings.suffix,
        "workers": settings.workers,
        "store": settings.store,
    }
    return {name: value for name, value in found.items() if value is not None}


def of_runs_used(context: click.Context, lab: str | None) -> dict[str, object]:
    """Return what the settings bring to the run of a command, by name, unless it was typed."""
    found = {
        name: value
        for name, value in (context.default_map or {}).items()
        if context.get_parameter_source(name) is ParameterSource.DEFAULT_MAP
        or (name == "region" and context.params.get("regions") == ())
    }
    if lab is not None:
        found.pop("profile", None)
    return found


def named_keys() -> tuple[str, ...]:
    """Return the key of SEALWAX_KEY, if there is one."""
    return tuple(name for name in (os.environ.get(KEY_VARIABLE),) if name)


def default_keys() -> tuple[str, ...]:
    """Return the keys of a command without -k that is not about files: of the variable, or the top of the file."""
    settings = current().settings
    return named_keys() or (() if settings is None else settings.top.keys)


def context_variable() -> dict[str, str]:
    """Return the pairs of SEALWAX_CONTEXT: NAME=VALUE,NAME=VALUE as the AWS CLI has them, or a JSON object."""
    text = os.environ.get(CONTEXT_VARIABLE, "")
    pairs = _of_json(text) if text.lstrip().startswith("{") else _of_list(text)
    found: dict[str, str] = {}
    for name, value in pairs:
        if found.setdefault(name, value) != value:
            raise _wrong(f"has the name '{printable(name)}' twice, with different values")
        try:
            ctx.placeholders(value)
        except ContextError as error:
            raise _wrong(f"has a value of '{printable(name)}' that cannot be used: {error}") from None
    return found


def _of_json(text: str) -> list[tuple[str, str]]:
    try:
        pairs: object = json.loads(text, object_pairs_hook=list)
    except (ValueError, RecursionError):
        pairs = None
    if not isinstance(pairs, list) or not all(isinstance(p, tuple) and p[0] and isinstance(p[1], str) for p in pairs):
        raise _wrong("begins with '{', but is not a JSON object of strings")
    return pairs


def _of_list(text: str) -> list[tuple[str, str]]:
    if not text:
        return []
    pairs = [pair.partition("=") for pair in text.split(",")]
    if any(character.isspace() for character in text) or not all(name and equals for name, equals, _ in pairs):
        raise _wrong(
            "is not NAME=VALUE,NAME=VALUE without spaces; if a value has commas or spaces, write a JSON object: "
            '{"NAME": "VALUE"}'
        )
    return [(name, value) for name, _, value in pairs]


def _wrong(why: str) -> click.UsageError:
    return click.UsageError(f"{CONTEXT_VARIABLE} {why}")


def announce(
    settings: SettingsFile,
    layers: tuple[Layer, ...],
    run: Mapping[str, object],
    keys: Iterable[str],
    context: Iterable[str],
) -> None:
    """Say what settings brought, on one line; nothing if they brought nothing.

    Args:
        run: what they brought to the whole run, by name.
        keys: the keys that are theirs.
        context: the names of the pairs that are theirs.
    """
    lists = {"key": ", ".join(keys), "context": ", ".join(context)}
    brought = [f"{name} {value}" for name, value in {**lists, **run}.items() if value]
    if brought:
        rule = "".join(f", {layer.shown}" for layer in layers if layer.number)
        console.info(printable(f"settings from {settings.path}{rule}: {'; '.join(brought)}"))


def announce_command(context: click.Context, lab: str | None) -> None:
    """Say what the settings bring to a command; the verbs that seal or open files say it themselves (``sealing``)."""
    settings, params = current().settings, context.params
    if settings is None or "key_names" in params:
        return
    run = of_runs_used(context, lab)
    if "recursive" in params and not (params["ask_kms"] or any(map(locations.is_s3, params["sources"]))):
        run = {}  # inspect calls nobody
    typed_keys = params.get("names", ()) or params.get("everything") or params.get("facts_file")
    keys = settings.top.keys if "names" in params and not typed_keys and not named_keys() else ()
    pairs: set[str] = set()
    if context.command.name in ("prove", "plan") and not (params["no_context"] or params.get("accept_stored_context")):
        typed = {pair.partition("=")[0] for pair in params["pairs"]}
        pairs = settings.top.context.keys() - typed - context_variable().keys() - {*settings.top.local_context}
    announce(settings, (settings.top,), run, keys, sorted(pairs))
