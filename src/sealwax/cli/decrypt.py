"""sealwax decrypt"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from dataclasses import replace

import click

from sealwax._core import context as ctx
from sealwax._core.envelope import inspect
from sealwax._core.format.io import write_all
from sealwax._core.format.stream import StreamReader
from sealwax.cli import console, contents, jobs, locations, options, outcomes, running
from sealwax.cli.work import Work, on
from sealwax.errors import FileError


def _bounds(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[int, int] | None:
    if value is None:
        return None
    match = re.fullmatch(r"([0-9]{0,18}):([0-9]{0,18})", value)
    if not match or value == ":":
        raise click.BadParameter(f"'{value}' is not START:END in bytes, of which one may be left out", ctx, param)
    start, end = int(match[1] or 0), int(match[2] or sys.maxsize)
    if end < start:
        raise click.BadParameter(f"'{value}' ends before it starts", ctx, param)
    return start, end


@click.command()
@options.keys
@options.context(stored=True)
@on("envelope", output="The plaintext's file, a folder, or - for standard output.", update=True)
@click.option(
    "--range",
    "bounds",
    metavar="START:END",
    callback=_bounds,
    help="Only these bytes of the plaintext, END not included; a START beyond its end is an error.",
)
@options.loudness
def decrypt(work: Work, keys: options.Keys, template: options.ContextTemplate, bounds: tuple[int, int] | None) -> int:
    """Decrypt envelopes, or a range of one.

    FILE.swx is decrypted to FILE beside it, or to where -o says; - is standard input. Only authenticated data is
    written. -k names the KMS keys that may open it; the caller needs kms:Decrypt on one.

    With -r or several envelopes, what an earlier run has done is passed over: a file of the size that the envelope
    says, with the envelope's time. What else is there is named, counted and left alone.
    """
    if bounds is not None and work.update:
        raise click.UsageError("--update and --range exclude each other: a part is never up to date")
    sealer = keys.to_decrypt(work.headers)

    def output_name(name: str) -> str:
        if not name.endswith(work.suffix):
            raise click.UsageError(
                f"'{console.shown(name)}' does not end with '{work.suffix}': name the output with -o"
            )
        return work.plain_name(name)

    def state(job: jobs.Job, source: contents.Source, expected: ctx.ExpectedContext) -> outcomes.State:
        made_of = contents.origin(source)
        if made_of is None or job.output is None or not work.judges(job.output):
            return outcomes.State.ABSENT
        if bounds is not None:
            return outcomes.of_range(job.output)
        if work.detached is None:
            found = inspect(source.binary)
            source.file.seek(0)
        else:
            found = replace(locations.inspect(work.detached), payload_bytes=made_of.size)
        ctx.match(expected, found.context, keys.local_context, found.header.preamble.local_pairs)
        if found.plaintext_bytes is None:
            return outcomes.State.ABSENT  # nor can there be any: opening it says why
        return outcomes.of_plaintext(job.output, made_of, found.plaintext_bytes, update=work.update)

    def do(job: jobs.Job) -> str:
        expected = template.to_expect(job.relpath)
        jobs.refuse_output(job, work.detached, "header")
        with contents.Source(job, armor=work.armor) as source:
            there = state(job, source, expected)
            if there is outcomes.State.DONE:
                return "decrypted before"
            if bounds is not None and not source.file.seekable():
                raise click.UsageError("--range needs a file; a stream can only be read from its start")
            force = work.force or there is outcomes.State.OUTDATED
            # The envelope is opened before the output is: a wrong key or context leaves no trace at all.
            plaintext = None if work.detached or bounds is not None else contents.plaintext_of(sealer, source, expected)
            if plaintext is not None:
                with contents.Output(job, source, force=force) as sink:
                    write_all(sink, plaintext)
                return "decrypted"
            with (
                sealer.open_stream(source.binary, context=expected, header=locations.opened(work.detached))
                if bounds is None
                else sealer.open(source.binary, context=expected, header=locations.opened(work.detached)) as reader
            ):
                read: Callable[[memoryview], int] = reader.readinto
                size = source.size
                if bounds is not None:
                    size = _size_of(bounds, reader.seek(0, os.SEEK_END), job.source)
                    reader.seek(bounds[0])
                    read = _limited(reader.readinto, size)
                with (
                    contents.Output(job, source, force=force, whole=bounds is None) as sink,
                    console.progress(job.source, size) as progress,
                ):
                    if isinstance(reader, StreamReader):
                        reader.drain(lambda data: write_all(sink, data), lambda data: contents.moved(progress, data))
                    else:
                        contents.pump(read, lambda data: write_all(sink, data), progress)
        return "decrypted"

    found = jobs.collect(
        work,
        output_name=output_name if work.output is None or work.recursive else work.plain_name,
    )
    # A part is not told from another part, so what is there is never passed over.
    again = running.SAME_AGAIN if bounds is None else "run it again with --force"
    return running.run(work, found, do, again=again)


def _size_of(bounds: tuple[int, int], size: int, name: str) -> int:
    """Return how many bytes of a plaintext of ``size`` bytes a range has; tell where it ends beyond them.

    Raises:
        FileError: it begins beyond them.
    """
    start, end = bounds
    has = f"the plaintext has {size} byte{'' if size == 1 else 's'}"
    if start > size:
        raise FileError(f"the range begins at byte {start}, but {has}: nothing was written")
    if size < end != sys.maxsize:
        console.tell(f"{console.shown(name)}: the range ends at byte {end}, but {has}: it is cut off there")
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
