"""sealwax keys rotate, and sealwax keys rotations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from sealwax._core.context import printable
from sealwax.cli import console, options
from sealwax.cli.keys import formatting

if TYPE_CHECKING:
    from sealwax.kms._lifecycle import KeyMaterial, Rotations

_HOW: Final = {"AUTOMATIC": "by itself", "ON_DEMAND": "on demand"}
_COLUMNS: Final = ("SINCE", "HOW", "STATE", "MATERIAL")

_as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")


@click.command()
@click.argument("key")
@click.option("--every", "days", type=click.IntRange(90, 2560), metavar="DAYS", help="Have KMS rotate it by itself.")
@click.option("--now", is_flag=True, help="Rotate it once, now; KMS allows this 25 times in a key's life.")
@options.aws
@_as_json
@options.loudness
def rotate(aws: options.Aws, key: str, days: int | None, now: bool, as_json: bool) -> None:
    """Give a KMS key new key material; it keeps its ARN, and what it ever wrapped still opens.

    Envelopes stay under the material they were wrapped with. To move them, re-wrap them. See `sealwax keys rotations`
    for how a key stands. --every needs kms:EnableKeyRotation, --now kms:RotateKeyOnDemand; both need kms:DescribeKey,
    kms:GetKeyRotationStatus and kms:ListKeyRotations.
    """
    from sealwax.kms._lifecycle import KeyLife

    if (days is None) != now:
        raise click.UsageError("say --every DAYS or --now; `sealwax keys rotations` shows how a key stands")
    life = KeyLife(key, aws.session())
    if days is not None:
        life.rotate_every(days)
    else:
        life.rotate_now()
        console.tell(
            "the rotation has begun; KMS finishes it within a minute or so, and `sealwax keys rotations` shows it then"
        )
    _print(life.rotations(), as_json)


@click.command()
@click.argument("key")
@options.aws
@_as_json
@options.loudness
def rotations(aws: options.Aws, key: str, as_json: bool) -> None:
    """Show how a KMS key rotates, and every key material it has had.

    The material ids are those that `sealwax inspect` shows of envelopes. The caller needs kms:DescribeKey,
    kms:GetKeyRotationStatus and kms:ListKeyRotations.
    """
    from sealwax.kms._lifecycle import KeyLife

    _print(KeyLife(key, aws.session()).rotations(), as_json)


def _print(found: Rotations, as_json: bool) -> None:
    if as_json:
        console.print_json(formatting.as_plain(found))
        return
    console.put(f"key       {printable(found.arn)}\nrotation  {_status(found)}")
    console.print_table(_COLUMNS, [_row(material) for material in found.materials])


def _status(found: Rotations) -> str:
    if found.enabled:
        next_rotation = f", next on {found.next_rotation:%Y-%m-%d}" if found.next_rotation else ""
        status = f"every {found.period_days} days{next_rotation}" if found.period_days else "on"
    else:
        status = "never by itself"
    if found.on_demand_since:
        status += f"; one on demand is under way since {found.on_demand_since:%Y-%m-%d %H:%M} UTC"
    on_demand = sum(material.how == "ON_DEMAND" for material in found.materials)
    return f"{status}; {on_demand} of 25 on demand used" if on_demand else status


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
