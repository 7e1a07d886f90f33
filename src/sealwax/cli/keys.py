"""sealwax keys: the KMS keys there are."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import click

from sealwax.cli import PARTLY_DONE, console, options
from sealwax.context import printable

if TYPE_CHECKING:
    from sealwax.kms.listing import LastUse, ListedKey, Rotation, Unseen

_MANAGERS: Final = {"AWS": "AWS managed", "CUSTOMER": "customer managed"}
_ORIGINS: Final = {
    "AWS_KMS": "KMS",
    "EXTERNAL": "external",
    "AWS_CLOUDHSM": "CloudHSM",
    "EXTERNAL_KEY_STORE": "external key store",
}
_COLUMNS: Final = ("ID", "ALIASES", "MANAGER", "ORIGIN", "STATE", "MULTI-REGION", "ROTATION", "LAST USE")
_NOT_SEEN: Final = "?"


@click.group()
def keys() -> None:
    """The KMS keys of an account."""


@keys.command("list")
@click.option(
    "--region",
    "regions",
    multiple=True,
    metavar="REGION",
    help="An AWS Region to look in; repeatable. Else the one that the environment or the profile sets.",
)
@options.account
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line, one for each key.")
@options.loudness
def list_command(aws: options.Aws, regions: tuple[str, ...], as_json: bool) -> int:
    """List KMS keys: what each is, how it stands and when it was last used.

    It works with the rights there are. The caller needs kms:ListKeys or kms:ListAliases; kms:DescribeKey,
    kms:GetKeyRotationStatus and kms:GetKeyLastUsage each show more. What could not be seen is a ? in the table, null
    and a name in "not_seen" in JSON, and is said on standard error.
    """
    from sealwax.kms.listing import list_keys

    # With one Region more there is none to begin with, and the first serves as well as any.
    found = list_keys(replace(aws, region=regions[0] if regions else None).session(), regions)
    if as_json:
        for key in found.keys:
            console.print_json(_as_dict(key))
    else:
        several = len({key.region for key in found.keys}) > 1
        rows = [((key.region,) if several else ()) + _row(key) for key in found.keys]
        _print_table((("REGION",) if several else ()) + _COLUMNS, rows)
    for unseen in found.unseen:
        console.tell(_why(unseen))
    return PARTLY_DONE if found.unlisted else 0


def _as_dict(key: ListedKey) -> dict[str, Any]:
    return {
        name: {inner: _as_text(part) for inner, part in value.items()} if isinstance(value, dict) else value
        for name, value in asdict(key).items()
    }


def _as_text(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value


def _row(key: ListedKey) -> tuple[str, ...]:
    aliases = _NOT_SEEN if key.aliases is None else ", ".join(key.aliases) or "-"
    return (
        key.key_id,
        printable(aliases),
        _NOT_SEEN if key.manager is None else _MANAGERS.get(key.manager, key.manager),
        _NOT_SEEN if key.origin is None else _ORIGINS.get(key.origin, key.origin),
        key.state or _NOT_SEEN,
        key.multi_region or _NOT_SEEN,
        _NOT_SEEN if key.rotation is None else _rotation(key.rotation),
        _NOT_SEEN if key.last_use is None else _last_use(key.last_use),
    )


def _rotation(rotation: Rotation) -> str:
    if not rotation.possible:
        return "not possible"
    if not rotation.enabled:
        return "off"
    return "on" if rotation.period_days is None else f"on, every {rotation.period_days} days"


def _last_use(use: LastUse) -> str:
    if use.time is not None:
        return f"{use.time:%Y-%m-%d} {use.operation}"
    if use.tracked_since is None:
        return _NOT_SEEN
    # KMS has not recorded uses for ever: of an older key it cannot say "never".
    if use.created is not None and use.created >= use.tracked_since:
        return "never"
    return f"none since {use.tracked_since:%Y-%m-%d}"


def _why(unseen: Unseen) -> str:
    keys = {0: "", 1: " for one key"}.get(unseen.keys, f" for {unseen.keys} keys; the first")
    return f"not seen{keys}: {unseen.error}"


def _print_table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    if not sys.stdout.isatty():
        widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
        for row in (head, *rows):
            console.put("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*head, box=None, pad_edge=False)
    for row in rows:
        table.add_row(*(Text(text) for text in row))
    Console().print(table)
