"""sealwax inspect"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import click

from sealwax._core import context as ctx
from sealwax._core.envelope import Inspection
from sealwax._core.envelope import inspect as look
from sealwax._core.staleness import Wanted, WantedKey, region_of, staleness_of
from sealwax.cli import PARTLY_DONE, console, contents, jobs, locations, options, running
from sealwax.cli.work import Work, on


@click.command()
@on("envelope", output=None, workers=False)
@click.option(
    "--to",
    "targets",
    multiple=True,
    metavar="KEY",
    help="A wanted key ARN; repeatable: say whether it is stale.",
)
@click.option(
    "--older-than", type=options.Duration(), metavar="TIME", help="With --to: stale after this time, as 365d."
)
@click.option(
    "--ask-kms",
    is_flag=True,
    help="With --to: look keys up (kms:DescribeKey, kms:ListKeyRotations), for aliases and for old key material.",
)
@options.aws
@options.loudness
def inspect(work: Work, targets: tuple[str, ...], older_than: float | None, ask_kms: bool, aws: options.Aws) -> int:
    """Show what an envelope says of itself, without KMS. Nothing of it is authenticated; verify does that.

    With --to it says whether the envelope is stale, as `sealwax fleet` sees it.
    """

    def do(job: jobs.Job) -> dict[str, Any]:
        with contents.Source(job, armor=work.armor) as source:
            found = (
                look(source.binary)
                if work.detached is None
                else replace(locations.inspect(work.detached), payload_bytes=source.size)
            )
        facts = {"path": job.source, **found.as_dict()}
        verdict = staleness_of(found.header, wanted) if wanted is not None else None
        if verdict is not None:
            facts |= {"stale": verdict.stale, "stale_because": list(verdict.reasons)}
            facts |= {"missing_regions": list(verdict.missing_regions)}
        if not work.as_json:
            console.put(_described(job.source, found) + ("" if verdict is None else f"\n  stale      {verdict}"))
        return facts

    if not targets and (older_than is not None or ask_kms):
        raise click.UsageError("--older-than and --ask-kms go with --to")
    wanted, blind = _wanted(targets, older_than, aws if ask_kms else None) if targets else (None, False)
    status = running.run(work, jobs.collect(work, output_name=None), do)
    return PARTLY_DONE if blind and not status else status


def _wanted(targets: tuple[str, ...], older_than: float | None, aws: options.Aws | None) -> tuple[Wanted, bool]:
    """Return what is wanted, and whether a key's material could not be seen, so that an answer is no whole one."""
    since = 0 if older_than is None else int(time.time() - older_than)
    if aws is not None:
        from sealwax._aws.session import Clients
        from sealwax.kms._describe import describe

        clients = Clients(aws.session())
        found = [describe(target, clients) for target in targets]
        blind = any(key.unseen and not key.material_id for key in found)
        for error in (error for key in found for error in key.unseen):
            (console.say if blind else console.tell)(f"old key material cannot be told for sure: {error}")
        return Wanted(tuple(WantedKey(key.arn, key.material_id, key.rotated_at) for key in found), since), blind
    for target in targets:
        if ":key/" not in target or not region_of(target):
            raise click.UsageError(f"'{ctx.printable(target)}' is no key ARN; --ask-kms looks up other names")
    return Wanted(tuple(WantedKey(target) for target in targets), since), False


def _size(facts: dict[str, Any]) -> str:
    if facts["plaintext_bytes"] is not None:
        return f"{facts['plaintext_bytes']} bytes"
    if facts["payload_bytes"] is not None:
        return f"not known: the payload is cut off, none has {facts['payload_bytes']} bytes"
    return "not known: the payload is elsewhere; name it, and this with --detached"


def _described(path: str, found: Inspection) -> str:
    facts = found.as_dict()
    lines = [
        console.shown(path),
        f"  envelope   {facts['envelope_id']}, {facts['kind']}, version {facts['version']}, {facts['suite']}",
        f"  plaintext  {_size(facts)}",
        f"  slots      {facts['slots']}, sequence {facts['sequence']}"
        + ("" if facts["finished"] else ", unfinished: a re-wrap was interrupted; repeat it"),
    ]
    if found.foreign is not None:
        lines.append(f"  metadata   a contradiction: it is an envelope, and its metadata say: {found.foreign}")
    for name, value in facts["context"].items():
        lines.append(f"  context    {ctx.printable(name)}={ctx.printable(value)}")
    if not facts["context"]:
        lines.append("  context    none is stored")
    if facts["local_pairs"]:
        lines.append(f"  context    and {facts['local_pairs']} local, not stored")
    for key in facts["wrapped_keys"]:
        lines.append(f"  key        {ctx.printable(key['key_arn'])}")
        if key["key_material_id"]:
            lines.append(f"             material {key['key_material_id']}")
        if key["wrapped_at"]:
            lines.append(f"             wrapped {key['wrapped_at']}")
    return "\n".join(lines)
