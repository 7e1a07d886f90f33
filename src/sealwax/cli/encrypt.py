"""sealwax encrypt"""

from __future__ import annotations

import functools
import shlex
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, BinaryIO

import click

from sealwax._core import context as ctx
from sealwax._core.context import NoContext
from sealwax._core.foreign.esdk import writing
from sealwax._core.format.io import write_all
from sealwax._core.messages import MessageSealer
from sealwax._text import printable
from sealwax.cli import console, contents, dry, jobs, locations, objects, options, outcomes, running, turns, verbs
from sealwax.cli.kms import Keys, sized
from sealwax.cli.sealing import Sealing
from sealwax.cli.work import MESSAGE_SUFFIX, Work, on
from sealwax.errors import SettingsError

if TYPE_CHECKING:
    from sealwax._core.format.stream import StreamWriter
    from sealwax._core.keyring import Keyring
    from sealwax._core.sealer import Sealer


@click.command()
@options.keys
@options.context(stored=False)
@on("file", output="Write the envelope to this file or folder, or - for standard output.", update=True, dry_run=True)
@click.option(
    "--share-key",
    is_flag=True,
    help="Use one data key for all files with the same KMS context: fewer KMS calls, but one key opens them all.",
)
@click.option(
    "--as",
    "form",
    type=verbs.Choice(["esdk"]),
    metavar="esdk",
    help="Write messages of the AWS Encryption SDK, for programs that read them; with --armor, in base64.",
)
@objects.options(writes=True)
@options.loudness
def encrypt(work: Work, keys: Keys, template: options.ContextTemplate, share_key: bool, form: str | None) -> int:
    """Encrypt files, folders or a stream under a KMS key.

    FILE is encrypted to FILE.swx next to it, or to the output of -o; - is standard input. The caller needs
    kms:GenerateDataKey on the first key, and kms:Encrypt on the others.

    With -r or several files, outputs that an earlier run has finished are skipped: complete envelopes of the same,
    unchanged files, under these keys and with this context. Other existing files are reported and left alone.

    With --as esdk, FILE is encrypted to FILE.esdk, a message of the AWS Encryption SDK (suite 0478: key commitment,
    no signature). It cannot be re-wrapped: to change its KMS key, encrypt the data again.
    """
    if form is not None:
        work = _for_messages(work, keys)
    if work.armor and work.detached:
        raise click.UsageError("use --armor or --detached, not both: a detached payload has no text form")
    if work.output is None and [locations.is_s3(source) for source in work.sources] == [False, True]:  # as cp has it
        named = console.shown(work.sources[1])
        raise click.UsageError(f"each name is an input, '{named}' too; to write there, use -o {named}")
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
        of_output = outcomes.of_message
        if form is None:
            of_output = functools.partial(outcomes.of_envelope, detached=work.detached)
        kms, local = ctx.split(ctx.as_pairs(context), keys.local_context)
        intended = outcomes.Intended(
            ctx.encode(kms),
            len(local),
            lambda: under.arns_of(keyring, kms),
            keys.names,
            lambda file: sealer.open(file, context=context, header=locations.opened(work.detached)),
        )
        return of_output(
            job.output,
            origin,
            intended,
            source.binary,
            origin.size,
            armor=work.armor,
            update=work.update,
        )

    def opened(
        sealer: Sealer,
        keyring: Keyring,
        sink: BinaryIO,
        context: Mapping[str, str] | NoContext,
        header: BinaryIO | None,
    ) -> StreamWriter:
        if form is not None:
            return MessageSealer(keyring).open(sink, context=context)
        return sealer.open(sink, "wb", context=context, header=header)

    def do(job: jobs.FileJob) -> turns.Result:
        keys, template, (sealer, keyring, _) = sealing.of(job)
        if share_key:
            _refuse_pairs_of_files(template, keys)
        if form is not None and keys.local_context:  # of a rule of the settings
            raise SettingsError(
                "a message of the AWS Encryption SDK has no local pairs, and the settings file names some"
            )
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
                if form is not None:
                    writing.encoded(kms)
                for name in (job.output, work.detached):
                    dry.check_output(job, source, name, force=force)
                return "would be encrypted"
            encrypted_as = contents.encrypted_as(source)
            place = contents.Output(
                job, source, force=force, armor=work.armor, detached=work.detached, in_base64=form is not None
            )
            with place as sink:
                if work.detached is None and (plaintext := source.whole()) is not None:
                    sealed = sealer if form is None else MessageSealer(keyring)
                    write_all(sink, sealed.encrypt(plaintext, context=context))
                else:
                    shares = share_key and source.size is not None
                    own = sized(keyring, source.size or 0) if shares else keyring
                    with (
                        opened(keys.sealer(own) if shares else sealer, own, sink, context, place.header) as writer,
                        console.progress(job.source, source.size) as progress,
                    ):
                        contents.copy(source.readinto, writer.write, progress)
        note = {"note": f"this is already {encrypted_as}; encrypting it again"} if encrypted_as else {}
        return {"outcome": "encrypted", **note}

    todo = jobs.collect(work, output_name=lambda name: name + work.suffix)
    return running.run(work, sealing.announced(todo), do, again=running.SAME_AGAIN)


def _for_messages(work: Work, keys: Keys) -> Work:
    """Refuse what messages of the AWS Encryption SDK do not have; return the work with their suffix."""
    if work.detached is not None:
        raise click.UsageError("use --as esdk or --detached, not both: a message of the AWS Encryption SDK is one file")
    if keys.local_context:
        raise click.UsageError(
            "use --as esdk or --local-context, not both: a message of the AWS Encryption SDK has no local pairs"
        )
    return replace(work, suffix=MESSAGE_SUFFIX) if work.suffix == options.SUFFIX else work


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
