"""sealwax decrypt"""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Final

import click

from sealwax._core import context as ctx
from sealwax._core.foreign.inspections import MessageInspection, ObjectInspection
from sealwax._core.format.header import MAGIC
from sealwax._core.format.io import write_all
from sealwax._core.format.stream import StreamReader
from sealwax._core.inspection import AnyInspection, check_context, inspect
from sealwax.cli import console, contents, jobs, locations, objects, options, outcomes, running
from sealwax.cli.kms import Keys
from sealwax.cli.sealing import Sealing
from sealwax.cli.work import Work, on
from sealwax.errors import FileError, HeaderError, UnsupportedEnvelopeError

_NO_RANGE: Final = (
    "--range reads envelopes, and messages that are framed and not signed: nothing of this one is authentic before its "
    "end; decrypt all of it"
)


def _bounds(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[int, int] | None:
    if value is None:
        return None
    match = re.fullmatch(r"([0-9]{0,18}):([0-9]{0,18})", value)
    if not match or value == ":":
        raise click.BadParameter(
            f"'{value}' is not START:END: two byte offsets, one of which may be omitted", ctx, param
        )
    start, end = int(match[1] or 0), int(match[2] or sys.maxsize)
    if end < start:
        raise click.BadParameter(f"'{value}' ends before it starts", ctx, param)
    return start, end


@click.command()
@options.keys
@options.foreign
@options.context(stored=True)
@on(
    "envelope",
    output="Write the plaintext to this file or folder, or - for standard output.",
    update=True,
    messages=True,
)
@click.option(
    "--range",
    "bounds",
    metavar="START:END",
    callback=_bounds,
    help="Decrypt only these bytes, from START up to but not including END; either may be omitted.",
)
@objects.options(writes=True)
@options.loudness
def decrypt(work: Work, keys: Keys, template: options.ContextTemplate, bounds: tuple[int, int] | None) -> int:
    """Decrypt envelopes, or a range of one.

    FILE.swx or FILE.esdk is decrypted to FILE next to it, or to the output of -o; - is standard input. What is in S3
    needs -o. Only authenticated data is written. -k names the KMS keys that may decrypt; the caller needs kms:Decrypt
    on one of them.

    Also reads messages of the AWS Encryption SDK, objects of the S3 Encryption Client, and files of two scripts.

    To a terminal, only text of up to 1 MiB is written: control characters could change what the terminal does.
    --force writes anything.

    With -r or several envelopes, outputs that an earlier run has finished are skipped: files with the size that the
    envelope states, and with its modification time. Other existing files are reported and left alone.
    """
    if bounds is not None and work.update:
        raise click.UsageError("use --update or --range, not both: a range is never up to date")
    if work.output is None and any(map(locations.is_s3, work.sources)):
        raise click.UsageError("name the output with -o: plaintext is put in S3 only if you name it, as -o s3://...")
    sealing = Sealing(work, keys, template, lambda keys: keys.to_decrypt(work.headers))

    def output_name(name: str) -> str:
        if not name.endswith(work.suffixes):
            raise click.UsageError(
                f"'{console.shown(name)}' does not end with {work.shown_suffixes}; name the output with -o"
            )
        return work.plain_name(name)

    def state(job: jobs.FileJob, source: contents.Source, expected: ctx.ExpectedContext) -> outcomes.OutputState:
        origin = contents.origin(source)
        if origin is None or job.output is None or not work.checks_output(job.output):
            return outcomes.OutputState.ABSENT
        if bounds is not None:
            return outcomes.of_range(job.output)
        if work.detached is None:
            inspection: AnyInspection = inspect(source.binary)
            source.file.seek(0)
        else:
            inspection = replace(locations.inspect_detached(work.detached), payload_bytes=origin.size)
        keys = sealing.of(job)[0]
        check_context(inspection, expected, local=keys.local_context, unstored=keys.unstored_context)
        if inspection.plaintext_bytes is None:
            return outcomes.OutputState.ABSENT  # there can be no output: opening the envelope reports why
        return outcomes.of_plaintext(job.output, origin, inspection.plaintext_bytes, update=work.update)

    def do(job: jobs.FileJob) -> str:
        _, template, sealer = sealing.of(job)
        expected = template.to_expect(job.relpath)
        jobs.refuse_output(job, work.detached, "header")
        with contents.Source(job, armor=work.armor) as source:
            there = state(job, source, expected)
            if there is outcomes.OutputState.DONE:
                return "already decrypted"
            if bounds is not None:
                _check_range(source, detached=work.detached is not None)
            force = work.force or there is outcomes.OutputState.OUTDATED
            # The envelope is opened before the output, so a wrong key or context leaves no trace.
            plaintext = None if work.detached or bounds is not None else contents.plaintext_of(sealer, source, expected)
            if plaintext is not None:
                with contents.Output(job, source, force=force, plaintext=True) as sink:
                    write_all(sink, plaintext)
                return "decrypted"
            with (
                sealer.open_stream(source.binary, context=expected, header=locations.opened(work.detached))
                if bounds is None
                else sealer.open(source.binary, context=expected, header=locations.opened(work.detached)) as reader
            ):
                read: Callable[[memoryview], int] = reader.readinto
                size = source.size
                if bounds is not None and not reader.seekable():
                    raise UnsupportedEnvelopeError(_NO_RANGE)
                if bounds is not None:
                    size = _size_of(bounds, reader.seek(0, os.SEEK_END), job.source)
                    reader.seek(bounds[0])
                    read = _limited(reader.readinto, size)
                with (
                    contents.Output(job, source, force=force, plaintext=True, whole=bounds is None) as sink,
                    console.progress(job.source, size) as progress,
                ):
                    if isinstance(reader, StreamReader):
                        reader.drain(
                            lambda data: write_all(sink, data), lambda data: contents.progressed(progress, data)
                        )
                    else:
                        contents.copy(read, lambda data: write_all(sink, data), progress)
        return "decrypted"

    todo = jobs.collect(
        work,
        output_name=output_name if work.output is None or work.recursive else work.plain_name,
    )
    # Two ranges cannot be told apart, so an existing file is never skipped.
    again = running.SAME_AGAIN if bounds is None else "run it again with --force"
    return running.run(work, sealing.announced(todo), do, again=again)


def _check_range(source: contents.Source, *, detached: bool) -> None:
    """Refuse a range of what can only be read as a whole, before KMS is asked and all of it is read.

    Raises:
        UnsupportedEnvelopeError: nothing of it is authentic before its end.
    """
    if not source.file.seekable():
        raise click.UsageError("--range needs a file; a stream can only be read from its start")
    if detached:
        return
    beginning = source.file.read(len(MAGIC))
    source.file.seek(0)
    if beginning == MAGIC:
        return
    inspection: AnyInspection | None = None
    with contextlib.suppress(HeaderError):  # opening it says more
        inspection = inspect(source.binary)
    source.file.seek(0)
    message = isinstance(inspection, MessageInspection) and (inspection.signed or not inspection.frame_bytes)
    if message or isinstance(inspection, ObjectInspection):
        raise UnsupportedEnvelopeError(_NO_RANGE)


def _size_of(bounds: tuple[int, int], size: int, name: str) -> int:
    """Return how many bytes of a plaintext of ``size`` bytes a range has; say so if it is cut at their end."""
    start, end = bounds
    only = f"the plaintext has only {size} byte{'' if size == 1 else 's'}"
    if start > size:
        raise FileError(f"the range starts at byte {start}, but {only}; nothing was written")
    if size < end != sys.maxsize:
        console.info(f"{console.shown(name)}: the range ends at byte {end}, but {only}; it was cut there")
    return min(end, size) - start


def _limited(readinto: Callable[[memoryview], int], limit: int) -> Callable[[memoryview], int]:
    """Return a readinto that ends after ``limit`` bytes."""
    left = limit

    def read(view: memoryview) -> int:
        nonlocal left
        size = readinto(view[:left])
        left -= size
        return size

    return read
