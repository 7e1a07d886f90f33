"""sealwax verify"""

from __future__ import annotations

from typing import Any

import click

from sealwax.cli import console, jobs, options, places


@click.command()
@options.sources
@options.keys
@options.context(stored=True)
@click.option("-r", "--recursive", is_flag=True, help="Take every envelope in a folder.")
@options.suffix
@options.armor
@options.detached
@options.as_json
@options.loudness
def verify(
    sources: tuple[str, ...],
    keys: options.Keys,
    template: options.ContextTemplate,
    recursive: bool,
    suffix: str,
    armor: bool,
    detached: str | None,
    as_json: bool,
) -> int:
    """Authenticate envelopes, every byte of them, and write nothing.

    -k names the KMS keys that may open them; the caller needs kms:Decrypt on one.
    """
    jobs.check_detached(detached, sources)
    sealer = keys.to_decrypt(sources if detached is None else (detached,))

    def do(job: jobs.Job) -> dict[str, Any]:
        expected = template.to_expect(job.relpath)
        with (
            jobs.Source(job.source, armor=armor) as source,
            sealer.read_once(source.binary, context=expected, header=places.opened(detached)) as reader,
            console.progress(job.source, source.size) as progress,
        ):
            jobs.pump(reader.readinto, lambda _: None, progress)
            return {"outcome": f"authentic, {reader.tell()} bytes", "plaintext_bytes": reader.tell()}

    found = jobs.collect(
        sources,
        recursive=recursive,
        output=None,
        plain_name=lambda name: name.removesuffix(suffix),
        output_name=None,
        skip=jobs.with_suffix(suffix),
        writes=False,
    )
    return jobs.run(found, do, as_json=as_json)
