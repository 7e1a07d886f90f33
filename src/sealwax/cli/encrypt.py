"""sealwax encrypt"""

from __future__ import annotations

from collections.abc import Mapping

import click

from sealwax._core import context as ctx
from sealwax._core.context import NoContext
from sealwax._core.format.io import write_all
from sealwax.cli import console, contents, jobs, locations, options, outcomes, running
from sealwax.cli.work import Work, on


@click.command()
@options.keys
@options.context(stored=False)
@on("file", output="The envelope's file, a folder, or - for standard output.", update=True)
@options.loudness
def encrypt(work: Work, keys: options.Keys, template: options.ContextTemplate) -> int:
    """Encrypt files, folders or a stream under a KMS key.

    FILE is encrypted to FILE.swx beside it, or to where -o says; - is standard input. The caller needs
    kms:GenerateDataKey on the key.

    With -r or several files, what an earlier run has done is passed over: the whole envelope of the same file,
    unchanged since, under these keys and with this context. What else is there is named, counted and left alone.
    """
    if work.armor and work.detached:
        raise click.UsageError("--armor and --detached exclude each other: a payload apart is no text")
    sealer, keyring = keys.to_encrypt()
    under = outcomes.Under(keys.names)

    def state(job: jobs.Job, source: contents.Source, context: Mapping[str, str] | NoContext) -> outcomes.State:
        made_of = contents.origin(source)
        if made_of is None or job.output is None or not work.judges(job.output):
            return outcomes.State.ABSENT
        kms, local = ctx.split(ctx.as_pairs(context), keys.local_context)
        wanted = outcomes.Wanted(
            ctx.encode(kms),
            len(local),
            lambda: under.arns_of(keyring, kms),
            keys.names,
            lambda file: sealer.open(file, context=context, header=locations.opened(work.detached)),
        )
        return outcomes.of_envelope(
            job.output,
            made_of,
            wanted,
            source.binary,
            made_of.size,
            armor=work.armor,
            detached=work.detached,
            update=work.update,
        )

    def do(job: jobs.Job) -> str:
        context = template.to_bind(job.relpath)
        with contents.Source(job) as source:
            there = state(job, source, context)
            if there is outcomes.State.DONE:
                return "encrypted before"
            if contents.is_envelope(source):
                console.tell(f"{console.shown(job.source)}: it is an envelope already, and is encrypted once more")
            force = work.force or there is outcomes.State.OUTDATED
            place = contents.Output(job, source, force=force, armor=work.armor, detached=work.detached)
            with place as sink:
                if work.detached is None and (plaintext := source.whole()) is not None:
                    write_all(sink, sealer.encrypt(plaintext, context=context))
                else:
                    with (
                        sealer.open(sink, "wb", context=context, header=place.header) as writer,
                        console.progress(job.source, source.size) as progress,
                    ):
                        contents.pump(source.readinto, writer.write, progress)
        return "encrypted"

    found = jobs.collect(work, output_name=lambda name: name + work.suffix)
    return running.run(work, found, do, again=running.SAME_AGAIN)
