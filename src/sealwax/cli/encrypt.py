"""sealwax encrypt"""

from __future__ import annotations

import shlex
from collections.abc import Mapping

import click

from sealwax._core import context as ctx
from sealwax._core.context import NoContext
from sealwax._core.format.io import write_all
from sealwax._text import printable
from sealwax.cli import console, contents, dry, jobs, locations, objects, options, outcomes, running, turns
from sealwax.cli.kms import Keys
from sealwax.cli.sealing import Sealing
from sealwax.cli.work import Work, on
from sealwax.errors import SettingsError


@click.command()
@options.keys
@options.context(stored=False)
@on("file", output="Write the envelope to this file or folder, or - for standard output.", update=True, dry_run=True)
@click.option(
    "--share-key",
    is_flag=True,
    help="Use one data key for all files with the same KMS context: fewer KMS calls, but one key opens them all.",
)
@objects.options(writes=True)
@options.loudness
def encrypt(work: Work, keys: Keys, template: options.ContextTemplate, share_key: bool) -> int:
    """Encrypt files, folders or a stream under a KMS key.

    FILE is encrypted to FILE.swx next to it, or to the output of -o; - is standard input. The caller needs
    kms:GenerateDataKey on the first key, and kms:Encrypt on the others.

    With -r or several files, outputs that an earlier run has finished are skipped: complete envelopes of the same,
    unchanged files, under these keys and with this context. Other existing files are reported and left alone.
    """
    if work.armor and work.detached:
        raise click.UsageError("use --armor or --detached, not both: a detached payload has no text form")
    sealing = Sealing(
        work,
        keys,
        template,
        lambda keys: (*keys.to_encrypt(share_key=share_key), outcomes.Under(keys.names)),
    )

    def state(
        job: jobs.FileJob, source: contents.Source, context: Mapping[str, str] | NoContext
    ) -> outcomes.OutputState:
        keys, _, (sealer, keyring, under) = sealing.of(job)
        origin = contents.origin(source)
        if origin is None or job.output is None or not work.checks_output(job.output):
            return outcomes.OutputState.ABSENT
        kms, local = ctx.split(ctx.as_pairs(context), keys.local_context)
        intended = outcomes.Intended(
            ctx.encode(kms),
            len(local),
            lambda: under.arns_of(keyring, kms),
            keys.names,
            lambda file: sealer.open(file, context=context, header=locations.opened(work.detached)),
        )
        return outcomes.of_envelope(
            job.output,
            origin,
            intended,
            source.binary,
            origin.size,
            armor=work.armor,
            detached=work.detached,
            update=work.update,
        )

    def do(job: jobs.FileJob) -> turns.Result:
        keys, template, (sealer, keyring, _) = sealing.of(job)
        if share_key:
            _refuse_pairs_of_files(template, keys)
        context = template.to_bind(job.relpath)
        with contents.Source(job) as source:
            there = state(job, source, context)
            if there is outcomes.OutputState.DONE:
                return "already encrypted"
            force = work.force or there is outcomes.OutputState.OUTDATED
            if work.dry_run:
                kms, local = ctx.split(ctx.as_pairs(context), keys.local_context)
                ctx.encode(kms)
                ctx.check_new_keys(kms, local)
                for name in (job.output, work.detached):
                    dry.check_output(job, source, name, force=force)
                return "would be encrypted"
            twice = contents.is_envelope(source)
            place = contents.Output(job, source, force=force, armor=work.armor, detached=work.detached)
            with place as sink:
                if work.detached is None and (plaintext := source.whole()) is not None:
                    write_all(sink, sealer.encrypt(plaintext, context=context))
                else:
                    shares = share_key and source.size is not None
                    of_stream = keys.to_encrypt_sized(keyring, source.size or 0) if shares else sealer
                    with (
                        of_stream.open(sink, "wb", context=context, header=place.header) as writer,
                        console.progress(job.source, source.size) as progress,
                    ):
                        contents.copy(source.readinto, writer.write, progress)
        note = {"note": "this is already an envelope; encrypting it again"} if twice else {}
        return {"outcome": "encrypted", **note}

    todo = jobs.collect(work, output_name=lambda name: name + work.suffix)
    return running.run(work, sealing.announced(todo), do, again=running.SAME_AGAIN)


def _refuse_pairs_of_files(template: options.ContextTemplate, keys: Keys) -> None:
    """Refuse pairs that differ from file to file and are sent to KMS: each would need a data key of its own."""
    for name, value in template.pairs.items():
        if name not in keys.local_context and any(mark in ctx.PLACEHOLDERS for mark in ctx.placeholders(value)):
            shown = printable(name)
            why = (
                f"with --share-key, '{shown}' must not differ between files, as '{printable(value)}' does; add "
                f"--local-context {shlex.quote(shown)}, which keeps each file bound to it without sending it to KMS"
            )
            # Other files, under another rule, may have been encrypted.
            by_rule = keys.settings is not None and keys.settings.rules
            raise SettingsError(why) if by_rule else click.UsageError(why)
