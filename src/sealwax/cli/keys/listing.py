"""sealwax keys list."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import click

from sealwax._text import printable
from sealwax.cli import PARTLY_DONE, console, options
from sealwax.cli.console import counted
from sealwax.cli.keys import formatting
from sealwax.cli.kms import Aws

if TYPE_CHECKING:
    from sealwax.kms._listing import ListedKey, Rotation, Unseen

_MANAGERS: Final = {"AWS": "AWS managed", "CUSTOMER": "customer managed"}
_ORIGINS: Final = {
    "AWS_KMS": "KMS",
    "EXTERNAL": "external",
    "AWS_CLOUDHSM": "CloudHSM",
    "EXTERNAL_KEY_STORE": "external key store",
}
_COLUMNS: Final = ("ALIASES", "MANAGER", "ORIGIN", "STATE", "MULTI-REGION", "ROTATION", "LAST USE")
# In a narrow terminal, a column with nothing but this is left out.
_USUAL: Final = {"MANAGER": "customer managed", "ORIGIN": "KMS", "MULTI-REGION": "no"}


@click.command("list")
@click.option(
    "--region",
    "regions",
    multiple=True,
    metavar="REGION",
    help="An AWS Region to list; repeatable. Default: that of the environment or profile.",
)
@options.account
@click.option("--wide", is_flag=True, help="Show key ARNs instead of key IDs; lines may be wider than the terminal.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per key, one per line.")
@options.loudness
def list_command(aws: Aws, regions: tuple[str, ...], wide: bool, as_json: bool) -> int:
    """List KMS keys with their kind, state and last use.

    The caller needs kms:ListKeys or kms:ListAliases; kms:DescribeKey, kms:GetKeyRotationStatus and kms:GetKeyLastUsage
    each show more. Fields that cannot be read are ? in the table; in JSON they are null and listed in "not_seen".
    Standard error says why.
    """
    from sealwax.kms._listing import list_keys

    # The session needs some Region, and the first serves as well as any.
    listing = list_keys(replace(aws, region=regions[0] if regions else aws.region).session(), regions)
    if as_json:
        for key in listing.keys:
            console.print_json(formatting.as_plain(key))
    else:
        _print(listing.keys, wide)
    for unseen in listing.unseen:
        console.info(_why(unseen))
    if not listing.unlisted:
        return 0
    console.warn(f"the keys of {', '.join(listing.unlisted)} could not be listed (exit status {PARTLY_DONE})")
    return PARTLY_DONE


def _print(keys: Sequence[ListedKey], wide: bool) -> None:
    if wide:
        # A table would break the ARNs to fit them into the terminal, and nobody could copy them.
        rows = [(printable(key.arn or formatting.NOT_SEEN), *_row(key)) for key in keys]
        console.print_columns(("ARN", *_COLUMNS), rows)
        return
    several = len({key.region for key in keys}) > 1
    head = (("REGION",) if several else ()) + ("ID", *_COLUMNS)
    rows = [((key.region,) if several else ()) + (key.key_id, *_row(key)) for key in keys]
    if rows and not console.fits(head, rows):
        told = [name for name, *values in zip(head, *rows, strict=True) if set(values) != {_USUAL.get(name)}]
        rows = [tuple(value for name, value in zip(head, row, strict=True) if name in told) for row in rows]
        head = tuple(told)
    console.print_table(head, rows)


def _row(key: ListedKey) -> tuple[str, ...]:
    aliases = formatting.NOT_SEEN if key.aliases is None else ", ".join(key.aliases) or "-"
    return (
        printable(aliases),
        formatting.NOT_SEEN if key.manager is None else _MANAGERS.get(key.manager, key.manager),
        formatting.NOT_SEEN if key.origin is None else _ORIGINS.get(key.origin, key.origin),
        key.state or formatting.NOT_SEEN,
        key.multi_region or formatting.NOT_SEEN,
        formatting.NOT_SEEN if key.rotation is None else _rotation(key.rotation),
        formatting.NOT_SEEN if key.last_use is None else formatting.last_use(key.last_use),
    )


def _rotation(rotation: Rotation) -> str:
    if not rotation.possible:
        return "not possible"
    if not rotation.enabled:
        return "off"
    return "on" if rotation.period_days is None else f"on, every {rotation.period_days} days"


def _why(unseen: Unseen) -> str:
    keys = f" of {counted(unseen.keys, 'key')}" if unseen.keys else ""
    return f"details{keys} are missing{'; the first error' if unseen.keys > 1 else ''}: {unseen.error}"
