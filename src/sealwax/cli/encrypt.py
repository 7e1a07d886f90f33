"""sealwax encrypt"""

from __future__ import annotations

import click

from sealwax.cli import console, jobs, options
from sealwax.cli.work import Work, on


@click.command()
@options.keys
@options.context(stored=False)
@on("file", output="The envelope's file, a folder, or - for standard output.")
@options.loudness
def encrypt(work: Work, keys: options.Keys, template: options.ContextTemplate) -> int:
    """Encrypt files, folders or a stream under a KMS key.

    FILE is encrypted to FILE.swx beside it, or to where -o says; - is standard input. The caller needs
    kms:GenerateDataKey on the key.
    """
    if work.armor and work.detached:
        raise click.UsageError("--armor and --detached exclude each other: a payload apart is no text")
    sealer = keys.to_encrypt()

    def do(job: jobs.Job) -> str:
        context = template.to_bind(job.relpath)
        with jobs.Source(job.source) as source:
            if work.recursive and not work.force and jobs.done_before(job, source):
                return "encrypted before"
            if jobs.is_envelope(source):
                console.tell(f"{console.shown(job.source)}: it is an envelope already, and is encrypted once more")
            place = jobs.Output(job, source, force=work.force, armor=work.armor, detached=work.detached)
            with (
                place as sink,
                sealer.open(sink, "wb", context=context, header=place.header) as writer,
                console.progress(job.source, source.size) as progress,
            ):
                jobs.pump(source.readinto, writer.write, progress)
        return "encrypted"

    found = jobs.collect(work, output_name=lambda name: name + work.suffix, skip=work.no_plaintext)
    return jobs.run(work, found, do)
