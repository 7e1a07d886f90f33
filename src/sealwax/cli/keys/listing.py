"""sealwax keys list: the KMS keys there are."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

import click

from sealwax._core.context import printable
from sealwax.cli import PARTLY_DONE, console, options
from sealwax.cli.keys import formatting

if TYPE_CHECKING:
    from sealwax.kms._listing import ListedKey, Rotation, Unseen

_MANAGERS: Final = {"AWS": "AWS managed", "CUSTOMER": "customer managed"}
_ORIGINS: Final = {
    "AWS_KMS": "KMS",
    "EXTERNAL": "external",
    "AWS_CLOUDHSM": "CloudHSM",
    "EXTERNAL_KEY_STORE": "external key store",
}
_COLUMNS: Final = ("ID", "ALIASES", "MANAGER", "ORIGIN", "STATE", "MULTI-REGION", "ROTATION", "LAST USE")


@click.command("list")
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
    from sealwax.kms._listing import list_keys

    # With one Region more there is none to begin with, and the first serves as well as any.
    found = list_keys(replace(aws, region=regions[0] if regions else None).session(), regions)
    if as_json:
        for key in found.keys:
            console.print_json(formatting.as_plain(key))
    else:
        several = len({key.region for key in found.keys}) > 1
        rows = [((key.region,) if several else ()) + _row(key) for key in found.keys]
        console.print_table((("REGION",) if several else ()) + _COLUMNS, rows)
    for unseen in found.unseen:
        console.tell(_why(unseen))
    return PARTLY_DONE if found.unlisted else 0


def _row(key: ListedKey) -> tuple[str, ...]:
    aliases = formatting.NOT_SEEN if key.aliases is None else ", ".join(key.aliases) or "-"
    return (
        key.key_id,
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
    keys = {0: "", 1: " for one key"}.get(unseen.keys, f" for {unseen.keys} keys; the first")
    return f"not seen{keys}: {unseen.error}"
