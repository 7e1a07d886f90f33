"""sealwax settings"""

from __future__ import annotations

import os

import click

from sealwax._text import printable
from sealwax.cli import console, layers, options, record_store
from sealwax.cli.settingsfile import Layer, SettingsFile
from sealwax.cli.state import current

_DEFAULT = "default"
_AWS = "AWS configuration"
_WITHHELD = "a URL with a password, which is refused"
_COLUMNS = ("SETTING", "VALUE", "FROM")

# What counts, and where it comes from.
_Sourced = tuple[object, str]


@click.group()
def settings() -> None:
    """Show which keys, context and other settings apply, and where they come from.

    Settings are read from sealwax.toml, or from [tool.sealwax] in pyproject.toml; docs/reference/settings.md describes
    them.
    """


@settings.command("show")
@click.argument("path", required=False)
@options.no_settings
@options.as_json
@options.loudness
def show_command(path: str | None, as_json: bool) -> None:
    """Show which settings apply here or to PATH, a file or object, and where each value comes from.

    PATH need not exist. Options of a command, such as -k, take precedence over all of these. {relpath} and {name}
    become each file's path and name.
    """
    if path is not None and os.path.isdir(path):
        raise click.UsageError(
            f"'{console.shown(path)}' is a folder, and rules are for files; name a file in it, which need not exist"
        )
    file = current().settings
    runs = _runs(file)
    found = () if file is None else file.layers(None if path is None else path.removesuffix(str(runs["suffix"][0])))
    rule = next((layer for layer in found if layer.number), None)
    files = _files(file, found)
    if as_json:
        console.print_json(
            {
                "settings": None if file is None else file.path,
                "rule": None if rule is None else {"number": rule.number, "path": [p.text for p in rule.patterns]},
                "key": [_plain(name, origin) for name, (_, origin) in files["key"].items()],
                "context": {name: _plain(*each) for name, each in files["context"].items()},
                "local_context": [_plain(name, origin) for name, (_, origin) in files["local_context"].items()],
                **{name: _plain(*each) for name, each in runs.items()},
            }
        )
        return
    console.print(f"settings  {'none' if file is None else printable(file.path)}")
    if file is not None and file.rules:
        console.print(f"rule      {'none matches' if rule is None else rule.shown}")
    rows = [(name, _shown(key, value), origin) for name, all_ in files.items() for key, (value, origin) in all_.items()]
    if not files["key"]:
        rows.insert(0, ("key", "-", "not set"))
    rows += [(name, "-" if value is None else str(value), origin) for name, (value, origin) in runs.items()]
    console.print_table(_COLUMNS, rows)


def _shown(name: str, value: object) -> str:
    return name if value is None else f"{name}={value}"


def _plain(value: object, origin: str) -> dict[str, object]:
    return {"value": value, "from": origin}


def _files(file: SettingsFile | None, found: tuple[Layer, ...]) -> dict[str, dict[str, _Sourced]]:
    """Return what files are sealed under, by setting and name."""
    origins = [(layer, _origin(file, layer)) for layer in found]
    keys: dict[str, _Sourced] = dict.fromkeys(layers.named_keys(), (None, layers.KEY_VARIABLE))
    for layer, origin in reversed(origins):
        keys = keys or dict.fromkeys(layer.keys, (None, origin))
    context: dict[str, _Sourced] = {
        name: (value, origin) for layer, origin in origins for name, value in layer.context.items()
    }
    context |= {name: (value, layers.CONTEXT_VARIABLE) for name, value in layers.context_variable().items()}
    return {
        "key": keys,
        "context": context,
        "local_context": {name: (None, origin) for layer, origin in reversed(origins) for name in layer.local_context},
    }


def _origin(file: SettingsFile | None, layer: Layer) -> str:
    assert file is not None
    return os.path.basename(file.path) + (f", rule {layer.number}" if layer.number else "")


def _runs(file: SettingsFile | None) -> dict[str, _Sourced]:
    """Return the settings of whole runs."""
    identity, lab = layers.identity_variable(), os.environ.get("SEALWAX_LAB")
    found: dict[str, _Sourced] = {
        "region": (None, _AWS),
        "profile": (None, _AWS),
        "suffix": (options.SUFFIX, _DEFAULT),
        "workers": (options.WORKERS, _DEFAULT),
    }
    if file is not None:
        found |= {name: (value, os.path.basename(file.path)) for name, value in layers.of_runs(file).items()}
    if region := os.environ.get(layers.REGION_VARIABLE):
        found["region"] = region, layers.REGION_VARIABLE
    if store := os.environ.get(record_store.VARIABLE):
        from sealwax.records._url import has_password

        found["store"] = _WITHHELD if has_password(store) else store, record_store.VARIABLE
    if identity is not None:
        # Not the value of a variable with an access key.
        found["profile"] = os.environ[identity] if identity.endswith("PROFILE") else None, identity
    if lab:
        found |= {"profile": (None, "the lab needs none"), "lab": (lab, "SEALWAX_LAB")}
    return found
