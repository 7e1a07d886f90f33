"""sealwax rewrap"""

from __future__ import annotations

from dataclasses import replace

import click

from sealwax._core import context as ctx
from sealwax._core.envelope import inspect, read_full
from sealwax._core.format.payload import HEAD_BYTES
from sealwax._core.keyring import PROVIDER_AWS_KMS
from sealwax._core.rewrap import Rewrap, rewrap_file
from sealwax._text import printable
from sealwax.cli import acls, client_objects, contents, dry, jobs, locations, objects, options, outcomes, running
from sealwax.cli.kms import Keys
from sealwax.cli.sealing import Sealing
from sealwax.cli.turns import Fields
from sealwax.cli.work import STREAM, Work, on
from sealwax.errors import NotAnEnvelopeError


@click.command()
@options.targets("A new KMS key; repeatable for a set of keys.")
@options.keys
@options.context(stored=True)
@on("envelope", output="Keep the envelope, and write the re-wrapped one to this file or folder.", dry_run=True)
@click.option("--verify", is_flag=True, help="First check that the data key opens the payload; needs kms:Decrypt.")
@objects.options(writes=True, in_place=True)
@options.loudness
def rewrap(targets: tuple[str, ...], work: Work, keys: Keys, template: options.ContextTemplate, verify: bool) -> int:
    """Move envelopes to another KMS key, in place, without touching the data.

    KMS re-encrypts the data key and does not reveal it. -k names the KMS keys that the envelopes may be under now. The
    caller needs kms:ReEncryptFrom on the old key and kms:ReEncryptTo on the new one. This does not revoke access: an
    old copy of an envelope still opens with the old key.

    Objects of the S3 Encryption Client are re-wrapped in place too; for -r, their names need --suffix ''. Messages of
    the AWS Encryption SDK cannot be; see sealwax migrate.

    An interrupted run can be repeated if --to names key ARNs: envelopes that are already under the new keys are
    skipped.
    """
    body: str | None = None
    if work.detached:
        body = next(iter(work.sources), None)
        if verify and body in (None, STREAM):
            raise click.UsageError("--verify needs the payload; name its file too")
        work = replace(work, sources=work.headers)
    sealing = Sealing(work, keys, template, lambda keys: keys.to_decrypt(work.sources), named=body)
    under = outcomes.Under(targets)

    def do(job: jobs.FileJob) -> str | Fields:
        keys, template, sealer = sealing.of(job)
        expected = template.to_expect(job.relpath)
        jobs.refuse_output(job, body, "payload")

        def rewrapper() -> Rewrap:
            return sealer.rewrapper(to=targets, context=expected, verify=verify, body=locations.opened(body))

        noting: list[client_objects.Noting] = []
        allowed: list[str] = []

        def in_place() -> None:
            if locations.is_s3(job.source):
                noting.append(client_objects.Noting(rewrapper()))
                allowed.append(acls.look(job.source))
                locations.store_of(job.source).rewrap(job.source, noting[0])
            else:
                with jobs.folder_of(job) as folder:
                    rewrap_file(job.source, rewrapper(), folder)

        def claimed() -> frozenset[str] | None:
            # With --verify, the claim of a header is not enough; some formats claim nothing.
            return frozenset() if verify or (noting and noting[0].met) else under.known

        def copied() -> None:
            with contents.rewritten(work, job) as (source, sink):
                sealer.rewrap(
                    source.binary, to=targets, context=expected, output=sink, verify=verify, body=locations.opened(body)
                )

        def state(source: contents.Source, _: outcomes.Origin) -> outcomes.OutputState:
            inspection = inspect(source.binary)
            ctx.match(expected, inspection.context, keys.local_context, None)

            def head() -> bytes:
                source.file.seek(inspection.header.preamble.payload_offset)
                return read_full(source.binary, HEAD_BYTES)

            def ask() -> list[str]:
                wrapped = rewrapper()(inspection.header, head)
                return [key.key_arn for key in wrapped if key.provider == PROVIDER_AWS_KMS]

            assert job.output is not None
            return outcomes.of_rewrapped(job.output, inspection, lambda: under.arns(ask), targets, armor=work.armor)

        def checked() -> None:
            with contents.Source(job, armor=work.armor) as source:
                try:
                    inspection = inspect(source.binary)
                except NotAnEnvelopeError as error:
                    if job.output is not None:
                        raise
                    client_objects.check(source, rewrapper(), error)
                    return
                ctx.match(expected, inspection.context, keys.local_context, None)
                dry.check_rewritten(work, job, source, inspection.header, keys, replaces=work.armor)

        done = "would be re-wrapped" if work.dry_run else "re-wrapped"
        if job.output is None:
            act = checked if work.dry_run else copied if work.armor else in_place
            done_now = contents.once(job, claimed, act, armor=work.armor)
            if work.dry_run:
                allowed.append(acls.look(job.source))
            if noting and noting[0].already:
                return f"already under {printable(targets[0])}, according to KMS"
            if not done_now:
                return "already re-wrapped, according to its header"
            return acls.noted(done, "".join(allowed), done=not work.dry_run)
        if contents.done_before(work, job, state):
            return "already re-wrapped, according to its header"
        (checked if work.dry_run else copied)()
        return done

    again = running.SAME_AGAIN
    if work.output is None and verify:
        again = "add the new keys with -k and run it again; finished envelopes are re-wrapped once more"
    elif work.output is None and under.known is None:
        again = "name the keys of --to by their ARNs and run it again to resume"
    return running.run(work, sealing.announced(jobs.collect(work, output_name=None)), do, again=again)
