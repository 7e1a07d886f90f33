"""sealwax verify"""

from __future__ import annotations

import click

from sealwax.cli import console, contents, jobs, locations, objects, options, running, turns
from sealwax.cli.kms import Keys
from sealwax.cli.sealing import Sealing
from sealwax.cli.work import Work, on


@click.command()
@options.keys
@options.foreign
@options.context(stored=True)
@on("envelope", output=None, messages=True)
@objects.options(writes=False)
@options.loudness
def verify(work: Work, keys: Keys, template: options.ContextTemplate) -> int:
    """Check that envelopes are authentic, without writing anything.

    Every byte is authenticated. -k names the KMS keys that may decrypt; the caller needs kms:Decrypt on one of them.
    """
    sealing = Sealing(work, keys, template, lambda keys: keys.to_decrypt(work.headers))

    def do(job: jobs.FileJob) -> turns.Fields:
        _, template, sealer = sealing.of(job)
        expected = template.to_expect(job.relpath)
        with contents.Source(job, armor=work.armor) as source:
            plaintext = None if work.detached else contents.plaintext_of(sealer, source, expected)
            if plaintext is not None:
                size = len(plaintext)
            else:
                with (
                    sealer.open_stream(
                        source.binary, context=expected, header=locations.opened(work.detached)
                    ) as reader,
                    console.progress(job.source, source.size) as progress,
                ):
                    reader.drain(lambda data: contents.progressed(progress, data))
                    size = reader.tell()
        return {"outcome": f"authentic, {size} bytes", "plaintext_bytes": size}

    todo = sealing.announced(jobs.collect(work, output_name=None))
    return running.run(work, todo, do, again="verify again")
