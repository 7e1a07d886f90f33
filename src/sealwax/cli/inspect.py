"""sealwax inspect"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace

import click

from sealwax._core.envelope import Inspection
from sealwax._core.envelope import inspect as look
from sealwax._core.staleness import Wanted, WantedKey, staleness_of
from sealwax._text import printable
from sealwax.cli import PARTLY_DONE, console, contents, jobs, locations, objects, options, running, turns
from sealwax.cli.console import counted
from sealwax.cli.kms import Aws, named
from sealwax.cli.work import Work, on


@click.command()
@on("envelope", output=None, workers=False)
@click.option(
    "--to",
    "targets",
    multiple=True,
    metavar="KEY",
    help="A KMS key that the envelope should be under; repeatable. Shows whether it is stale. Needs kms:DescribeKey "
    "unless KEY is a key ARN.",
)
@click.option(
    "--older-than",
    type=options.Duration(),
    metavar="TIME",
    help="With --to: also stale if wrapped longer ago than this, such as 365d.",
)
@click.option(
    "--ask-kms",
    is_flag=True,
    help="With --to: also detect old key material (kms:DescribeKey, kms:ListKeyRotations).",
)
@objects.options(writes=False)
@options.aws
@options.loudness
def inspect(work: Work, targets: tuple[str, ...], older_than: float | None, ask_kms: bool, aws: Aws) -> int:
    """Show an envelope's header, without calling KMS. Nothing is authenticated; use verify for that.

    With --to, also show whether the envelope is stale by the rules of `sealwax fleet`. KMS is called only for
    --ask-kms, and to look up keys of --to that are not named by their ARNs.
    """

    def do(job: jobs.FileJob) -> turns.Fields:
        with contents.Source(job, armor=work.armor) as source:
            inspection = (
                look(source.binary)
                if work.detached is None
                else replace(locations.inspect(work.detached), payload_bytes=source.size)
            )
        facts = {"path": job.source, **inspection.as_dict()}
        verdict = None if wanted is None else staleness_of(inspection.header, wanted)
        if verdict is not None:
            facts |= {"stale": verdict.stale, "stale_because": list(verdict.reasons)}
            facts |= {"missing_regions": list(verdict.missing_regions)}
        if not work.as_json:
            console.print(_described(job.source, inspection, aliases))
            if verdict is not None:
                console.print(f"  stale      {verdict}")
        return facts

    if not targets and (older_than is not None or ask_kms):
        raise click.UsageError("--older-than and --ask-kms require --to")
    wanted, blind = _wanted(targets, older_than, aws, ask_kms=ask_kms) if targets else (None, False)
    aliases = {} if wanted is None else {key.arn: name for key, name in zip(wanted.keys, targets, strict=True)}
    status = running.run(work, jobs.collect(work, output_name=None), do)
    return PARTLY_DONE if blind and not status else status


def _wanted(targets: tuple[str, ...], older_than: float | None, aws: Aws, *, ask_kms: bool) -> tuple[Wanted, bool]:
    """Return what is wanted, and whether a key's material could not be read, so that old material is not detected."""
    since = 0 if older_than is None else int(time.time() - older_than)
    if ask_kms:
        from sealwax._aws.session import Clients
        from sealwax.kms._describe import describe

        clients = Clients(aws.session())
        keys = [describe(target, clients) for target in targets]
        blind = any(key.unseen and not key.material_id for key in keys)
        for error in (error for key in keys for error in key.unseen):
            (console.warn if blind else console.info)(
                f"old key material {'cannot' if blind else 'may not'} be detected: {error}"
            )
        return Wanted(tuple(WantedKey(key.arn, key.material_id, key.rotated_at) for key in keys), since), blind
    return Wanted(tuple(map(WantedKey, aws.key_arns(targets))), since), False


def _size(inspection: Inspection) -> str:
    if inspection.plaintext_bytes is not None:
        return f"{inspection.plaintext_bytes} bytes"
    if inspection.payload_bytes is not None:
        return f"unknown: no payload has {inspection.payload_bytes} bytes, so it is cut off"
    return "unknown: the payload is in another file; name that one, and this with --detached"


def _described(path: str, inspection: Inspection, aliases: Mapping[str, str]) -> str:
    facts = inspection.as_dict()
    lines = [
        console.shown(path),
        f"  envelope   {facts['envelope_id']}, {facts['kind']}, version {facts['version']}, {facts['suite']}",
        f"  plaintext  {_size(inspection)}",
        f"  slots      {facts['slots']}, sequence {facts['sequence']}"
        + ("" if facts["finished"] else ", unfinished: a re-wrap was interrupted; run it again"),
    ]
    if inspection.foreign is not None:
        lines.append(f"  metadata   contradiction: this is an envelope, but its metadata says: {inspection.foreign}")
    for name, value in facts["context"].items():
        lines.append(f"  context    {printable(name)}={printable(value)}")
    if not facts["context"]:
        lines.append("  context    none stored")
    if facts["local_pairs"]:
        lines.append(f"  context    {counted(inspection.header.preamble.local_pairs, 'local pair')}, not stored")
    for key in facts["wrapped_keys"]:
        lines.append(f"  key        {named(key['key_arn'], aliases.get(key['key_arn'], ''))}")
        if key["key_material_id"]:
            lines.append(f"             material {key['key_material_id']}")
        if key["wrapped_at"]:
            lines.append(f"             wrapped {key['wrapped_at']}")
    return "\n".join(lines)
