"""sealwax encrypt"""

from __future__ import annotations

import click

from sealwax.cli import console, jobs, options


@click.command()
@options.sources
@options.keys
@options.context(stored=False)
@click.option("-o", "--output", metavar="PATH", help="The envelope's file, a folder, or - for standard output.")
@options.recursive
@options.suffix
@options.armor
@options.detached
@options.force
@options.as_json
@options.loudness
def encrypt(
    sources: tuple[str, ...],
    keys: options.Keys,
    template: options.ContextTemplate,
    output: str | None,
    recursive: bool,
    suffix: str,
    armor: bool,
    detached: str | None,
    force: bool,
    as_json: bool,
) -> int:
    """Encrypt files, folders or a stream under a KMS key.

    FILE is encrypted to FILE.swx beside it, or to where -o says; - is standard input. The caller needs
    kms:GenerateDataKey on the key.
    """
    jobs.check_detached(detached, sources)
    if armor and detached:
        raise click.UsageError("--armor and --detached exclude each other: a payload apart is no text")
    sealer = keys.to_encrypt()

    def do(job: jobs.Job) -> str:
        context = template.to_bind(job.relpath)
        with jobs.Source(job.source) as source:
            if recursive and not force and jobs.done_before(job, source):
                return "encrypted before"
            place = jobs.Output(job, source, force=force, armor=armor, detached=detached)
            with (
                place as sink,
                sealer.open(sink, "wb", context=context, header=place.header) as writer,
                console.progress(job.source, source.size) as progress,
            ):
                jobs.pump(source.readinto, writer.write, progress)
        return "encrypted"

    found = jobs.collect(
        sources,
        recursive=recursive,
        output=output,
        plain_name=str,
        output_name=lambda name: name + suffix,
        lab=keys.aws.lab,
        skip=lambda name: f"its name ends with '{suffix}'" if name.endswith(suffix) else None,
    )
    return jobs.run(found, do, as_json=as_json)
