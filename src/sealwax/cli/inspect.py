"""sealwax inspect"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import click

from sealwax import context as ctx
from sealwax.cli import console, jobs, options
from sealwax.envelope import Inspection
from sealwax.envelope import inspect as look


@click.command()
@options.sources
@click.option("-r", "--recursive", is_flag=True, help="Take every envelope in a folder.")
@options.suffix
@options.armor
@options.detached
@options.as_json
@options.loudness
def inspect(
    sources: tuple[str, ...], recursive: bool, suffix: str, armor: bool, detached: str | None, as_json: bool
) -> int:
    """Show what an envelope says of itself, without KMS. Nothing of it is authenticated; verify does that."""

    def do(job: jobs.Job) -> dict[str, Any]:
        with jobs.Source(job.source, armor=armor) as source:
            found = look(source.binary) if detached is None else replace(look(detached), payload_bytes=source.size)
        if not as_json:
            console.put(_described(job.source, found))
        return {"path": job.source, **found.as_dict()}

    jobs.check_detached(detached, sources)
    found = jobs.collect(
        sources,
        recursive=recursive,
        output=None,
        plain_name=str,
        output_name=None,
        skip=jobs.with_suffix(suffix),
        writes=False,
    )
    return jobs.run(found, do, as_json=as_json)


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
