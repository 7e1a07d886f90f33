"""sealwax reencrypt"""

from __future__ import annotations

from typing import Any

import click

from sealwax._core import context as ctx
from sealwax._core.envelope import inspect
from sealwax._core.rewrap import replace_file
from sealwax.cli import contents, jobs, locations, options, outcomes, running
from sealwax.cli.work import Work, on
from sealwax.errors import CredentialsError, KmsError


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

    Where the keys of --to are not those of -k, an interrupted run can be repeated: what is under the new keys already
    is passed over.
    """
    if work.detached is not None and work.output is None:
        raise click.UsageError("--detached goes with -o: a payload and its header are not replaced in place")
    sealer, keyring = keys.to_reencrypt(work.headers, targets)
    under = outcomes.Under(targets)

    def do(job: jobs.Job) -> str:
        expected = template.to_expect(job.relpath)
        jobs.refuse_output(job, work.detached, "header")

        def again(source: Any, sink: Any) -> None:
            sealer.reencrypt(source, context=expected, output=sink, header=locations.opened(work.detached))

        def in_place() -> None:
            if locations.is_s3(job.source):
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

        def state(source: contents.Source, made_of: outcomes.Origin) -> outcomes.State:
            found = inspect(source.binary)
            preamble = found.header.preamble
            ctx.match(expected, found.context, keys.local_context, preamble.local_pairs)
            if found.plaintext_bytes is None:
                return outcomes.State.ABSENT  # nor can there be any: opening it says why
            wanted = outcomes.Wanted(
                preamble.kms_context,
                preamble.local_pairs,
                lambda: under.arns_of(keyring, found.context),
                targets,
                open=None,
            )
            assert job.output is not None
            size = found.plaintext_bytes
            return outcomes.of_envelope(job.output, made_of, wanted, source.binary, size, armor=work.armor)

        if job.output is None:
            done_now = contents.once(job, claimed, copied if work.armor else in_place, armor=work.armor)
            return "re-encrypted" if done_now else "re-encrypted before, as it says itself"
        if contents.done_before(work, job, state):
            return "re-encrypted before"
        copied()
        return "re-encrypted"

    return running.run(work, jobs.collect(work, output_name=None), do, again=running.SAME_AGAIN)
