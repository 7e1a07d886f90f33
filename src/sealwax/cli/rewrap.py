"""sealwax rewrap"""

from __future__ import annotations

from dataclasses import replace

import click

from sealwax.cli import jobs, options, places
from sealwax.cli.work import STREAM, Work, on
from sealwax.rewrapping import rewrap_file


@click.command()
@options.targets("A new KMS key; repeatable: the new set.")
@options.keys
@options.context(stored=True)
@on("envelope", output="Leave the envelope, and write the re-wrapped one here.")
@click.option("--verify", is_flag=True, help="First see that the data key belongs to the payload; needs kms:Decrypt.")
@options.loudness
def rewrap(
    targets: tuple[str, ...], work: Work, keys: options.Keys, template: options.ContextTemplate, verify: bool
) -> int:
    """Move envelopes to another KMS key, in place; the data is not touched and the data key not seen.

    -k names the KMS keys they may be under now. The caller needs kms:ReEncryptFrom on the old key and kms:ReEncryptTo
    on the new one. This is no revocation: an old copy of an envelope still opens with the old key.

    With --to as key ARNs, an interrupted run can be repeated: what is under the new keys already is passed over.
    """
    body: str | None = None
    if work.detached:
        body = next(iter(work.sources), None)
        if verify and body in (None, STREAM):
            raise click.UsageError("--verify needs the payload of a detached header: name its file")
        work = replace(work, sources=work.headers)
    sealer = keys.to_decrypt(work.sources)

    def do(job: jobs.Job) -> str:
        expected = template.to_expect(job.relpath)
        jobs.refuse_output(job, body, "payload")

        def in_place() -> None:
            rewrapper = sealer.rewrapper(to=targets, context=expected, verify=verify, body=places.opened(body))
            if places.is_s3(job.source):
                places.store_of(job.source).rewrap(job.source, rewrapper)
            else:
                rewrap_file(job.source, rewrapper)

        if job.output is None and not work.armor:
            # With --verify, what says that it is done has to show it.
            if jobs.once(job, () if verify else targets, in_place):
                return "re-wrapped"
            return "re-wrapped before, as it says itself"
        with jobs.rewritten(work, job) as (source, sink):
            sealer.rewrap(
                source.binary, to=targets, context=expected, output=sink, verify=verify, body=places.opened(body)
            )
        return "re-wrapped"

    return jobs.run(work, jobs.collect(work, output_name=None, skip=work.no_envelope), do)
