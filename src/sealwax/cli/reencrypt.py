"""sealwax reencrypt"""

from __future__ import annotations

from typing import BinaryIO

import click

from sealwax._core import context as ctx
from sealwax._core.envelope import inspect
from sealwax._core.format.payload import plaintext_size
from sealwax._core.rewrap import replace_file
from sealwax.cli import acls, contents, dry, jobs, locations, objects, options, outcomes, running
from sealwax.cli.kms import Keys
from sealwax.cli.sealing import Sealing
from sealwax.cli.turns import Fields
from sealwax.cli.work import Work, on
from sealwax.errors import CredentialsError, KmsError


@click.command()
@options.targets("A KMS key to encrypt under; repeatable.")
@options.keys
@options.context(stored=True)
@on("envelope", output="Keep the envelope, and write the new one to this file or folder.", dry_run=True)
@objects.options(writes=True, in_place=True)
@options.loudness
def reencrypt(targets: tuple[str, ...], work: Work, keys: Keys, template: options.ContextTemplate) -> int:
    """Encrypt envelopes again under a new data key, in place, in case the old data key has leaked.

    To move envelopes to another KMS key, use rewrap: it does not read the data. -k names the KMS keys that may decrypt
    now; the caller needs kms:Decrypt on one of them, and kms:GenerateDataKey on the key of --to. Old copies still open
    with the old data key. An envelope with a detached header becomes a single file, the output of -o.

    If the keys of --to differ from those of -k, an interrupted run can be repeated: envelopes that are already under
    the new keys are skipped.
    """
    if work.detached is not None and work.output is None:
        raise click.UsageError("--detached requires -o: a payload and its header cannot be replaced in place")
    sealing = Sealing(work, keys, template, lambda keys: keys.to_reencrypt(work.headers, targets))
    under = outcomes.Under(targets)

    def do(job: jobs.FileJob) -> str | Fields:
        keys, template, (sealer, keyring) = sealing.of(job)
        expected = template.to_expect(job.relpath)
        jobs.refuse_output(job, work.detached, "header")
        allowed: list[str] = []

        def again(source: BinaryIO, sink: BinaryIO) -> None:
            sealer.reencrypt(source, context=expected, output=sink, header=locations.opened(work.detached))

        def in_place() -> None:
            if locations.is_s3(job.source):
                allowed.append(acls.look(job.source))
                locations.store_of(job.source).replace(job.source, again)
            else:
                with jobs.folder_of(job) as folder:
                    replace_file(job.source, again, folder)

        def copied() -> None:
            with contents.rewritten(work, job) as (source, sink):
                again(source.binary, sink)

        def claimed() -> frozenset[str] | None:
            with contents.Source(job, armor=work.armor) as source:
                stored = inspect(source.binary).context
            try:
                return under.arns_of(keyring, stored)
            except CredentialsError:
                raise
            except KmsError:
                return None

        def state(source: contents.Source, origin: outcomes.Origin) -> outcomes.OutputState:
            inspection = inspect(source.binary)
            preamble = inspection.header.preamble
            ctx.match(expected, inspection.context, keys.local_context, preamble.local_pairs)
            if inspection.plaintext_bytes is None:
                return outcomes.OutputState.ABSENT  # there can be no output: opening the envelope reports why
            intended = outcomes.Intended(
                preamble.kms_context,
                preamble.local_pairs,
                lambda: under.arns_of(keyring, inspection.context),
                targets,
                open=None,
            )
            assert job.output is not None
            size = inspection.plaintext_bytes
            return outcomes.of_envelope(job.output, origin, intended, source.binary, size, armor=work.armor)

        def checked() -> None:
            with contents.Source(job, armor=work.armor) as source:
                inspection = (
                    inspect(source.binary) if work.detached is None else locations.inspect_detached(work.detached)
                )
                preamble = inspection.header.preamble
                ctx.match(expected, inspection.context, keys.local_context, preamble.local_pairs)
                ctx.refuse_records(inspection.context)
                if inspection.payload_bytes is not None:
                    plaintext_size(inspection.payload_bytes)  # refuses one that is cut off
                dry.check_rewritten(work, job, source, inspection.header, keys, replaces=True)

        done = "would be re-encrypted" if work.dry_run else "re-encrypted"
        if job.output is None:
            act = checked if work.dry_run else copied if work.armor else in_place
            done_now = contents.once(job, claimed, act, armor=work.armor)
            if work.dry_run:
                allowed.append(acls.look(job.source))
            if not done_now:
                return "already re-encrypted, according to its header"
            return acls.noted(done, "".join(allowed), done=not work.dry_run)
        if contents.done_before(work, job, state):
            return "already re-encrypted"
        (checked if work.dry_run else copied)()
        return done

    return running.run(work, sealing.announced(jobs.collect(work, output_name=None)), do, again=running.SAME_AGAIN)
