"""sealwax keys rotate, and sealwax keys rotations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from sealwax.cli import console, options
from sealwax.cli.keys import formatting
from sealwax.cli.kms import Aws, named
from sealwax.cli.state import current

if TYPE_CHECKING:
    from sealwax.kms._lifecycle import KeyMaterial, Rotations

_HOW: Final = {"AUTOMATIC": "automatic", "ON_DEMAND": "on demand"}
_COLUMNS: Final = ("SINCE", "HOW", "STATE", "MATERIAL")


@click.command()
@click.argument("key")
@click.option(
    "--every",
    "days",
    type=click.IntRange(90, 2560),
    metavar="DAYS",
    help="Let KMS rotate the key automatically at this interval.",
)
@click.option("--now", is_flag=True, help="Rotate the key once, now. KMS allows 25 such rotations per key.")
@click.option("--apply", is_flag=True, help="Change the key; without it, only report what would be done.")
@options.aws
@options.as_json
@options.loudness
def rotate(aws: Aws, key: str, days: int | None, now: bool, apply: bool, as_json: bool) -> None:
    """Give a KMS key new key material. Its ARN stays the same, and existing envelopes still open.

    Nothing is changed without --apply. Envelopes stay under the material that they were wrapped with until they are
    re-wrapped. `sealwax keys rotations` shows a key's rotations. The caller needs kms:DescribeKey,
    kms:GetKeyRotationStatus and kms:ListKeyRotations; with --apply, also kms:EnableKeyRotation for --every, and
    kms:RotateKeyOnDemand for --now.
    """
    from sealwax.kms._lifecycle import KeyLife

    if (days is None) != now:
        raise click.UsageError("give either --every DAYS or --now; `sealwax keys rotations` shows past rotations")
    life = KeyLife(key, aws.session())
    life.check_rotation(now=now)
    if apply and days is not None:
        life.rotate_every(days)
    elif apply:
        life.rotate_now()
    history = life.rotations()
    if as_json:
        console.print_json({**formatting.as_plain(history), "dry_run": not apply})
    elif not current().quiet:
        _print(history, key)
    if not apply:
        what = "rotate now" if now else f"rotate every {days} days"
        console.info(f"dry run: the key would {what}; nothing was changed")
        console.info(f"next: {console.next_command('--apply')}")
    elif now:
        console.info("rotation started; it takes KMS about a minute, then `sealwax keys rotations` shows it")


@click.command()
@click.argument("key")
@options.aws
@options.as_json
@options.loudness
def rotations(aws: Aws, key: str, as_json: bool) -> None:
    """Show how a KMS key is rotated, and list its key materials.

    `sealwax inspect` shows the material IDs of an envelope. The caller needs kms:DescribeKey, kms:GetKeyRotationStatus
    and kms:ListKeyRotations.
    """
    from sealwax.kms._lifecycle import KeyLife

    history = KeyLife(key, aws.session()).rotations()
    if as_json:
        console.print_json(formatting.as_plain(history))
    else:
        _print(history, key)


def _print(history: Rotations, typed: str) -> None:
    console.print(console.facts([("key", named(history.arn, typed)), ("rotation", _status(history))]))
    console.print_table(_COLUMNS, [_row(material) for material in history.materials])


def _status(history: Rotations) -> str:
    if history.enabled:
        next_rotation = f", next on {history.next_rotation:%Y-%m-%d}" if history.next_rotation else ""
        status = f"every {history.period_days} days{next_rotation}" if history.period_days else "on"
    else:
        status = "not automatic"
    if history.on_demand_since:
        status += f"; one on demand in progress since {history.on_demand_since:%Y-%m-%d %H:%M} UTC"
    on_demand = sum(material.how == "ON_DEMAND" for material in history.materials)
    return f"{status}; {on_demand} of 25 on-demand rotations used" if on_demand else status


def _row(material: KeyMaterial) -> tuple[str, ...]:
    state = (material.state or formatting.NOT_SEEN).lower().replace("_", " ")
    if material.expires:
        state += f", expires on {material.expires:%Y-%m-%d}"
    return (
        f"{material.since:%Y-%m-%d}" if material.since else "-",
        _HOW.get(material.how, material.how) if material.how else "-",
        state,
        material.material_id or formatting.NOT_SEEN,
    )
