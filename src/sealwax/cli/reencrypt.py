"""sealwax reencrypt"""

from __future__ import annotations

from typing import Any

import click

from sealwax.cli import jobs, options, places
from sealwax.cli.work import Work, on


@click.command()
@options.targets("A KMS key to encrypt under; repeatable.")
@options.keys
@options.context(stored=True)
@on("envelope", output="Leave the envelope, and write the new one here.")
@options.loudness
def reencrypt(targets: tuple[str, ...], work: Work, keys: options.Keys, template: options.ContextTemplate) -> int:
    """Encrypt envelopes anew under a new data key, in place: for a data key that somebody may know.

    To move to another KMS key, rewrap does without reading the data. -k names the KMS keys that may open them now; the
    caller needs kms:Decrypt on one, and kms:GenerateDataKey on the key of --to. Old copies still open with the old
    data key. An envelope with a detached header becomes a whole one, where -o says.

    With --to as key ARNs that are not those of -k, an interrupted run can be repeated: what is under the new keys
    already is passed over.
    """
    if work.detached is not None and work.output is None:
        raise click.UsageError("--detached goes with -o: a payload and its header are not replaced in place")
    sealer = keys.to_reencrypt(work.headers, targets)

    def do(job: jobs.Job) -> str:
        expected = template.to_expect(job.relpath)
        jobs.refuse_output(job, work.detached, "header")

        def again(source: Any, sink: Any) -> None:
            sealer.reencrypt(source, context=expected, output=sink, header=places.opened(work.detached))

        def in_place() -> None:
            if places.is_s3(job.source):
                places.store_of(job.source).replace(job.source, again)
            else:
                sealer.reencrypt(job.source, context=expected)

        if job.output is None and not work.armor:
            return "re-encrypted" if jobs.once(job, targets, in_place) else "re-encrypted before, as it says itself"
        with jobs.rewritten(work, job) as (source, sink):
            again(source.binary, sink)
        return "re-encrypted"

    return jobs.run(work, jobs.collect(work, output_name=None, skip=work.no_envelope), do)
