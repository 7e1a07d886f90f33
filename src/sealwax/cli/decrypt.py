"""sealwax decrypt"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable

import click

from sealwax.cli import console, jobs, options, places
from sealwax.cli.work import Work, on
from sealwax.format.transfer import write_all


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
@on("envelope", output="The plaintext's file, a folder, or - for standard output.")
@click.option(
    "--range",
    "bounds",
    metavar="START:END",
    callback=_bounds,
    help="Only these bytes of the plaintext; END is not included.",
)
@options.loudness
def decrypt(work: Work, keys: options.Keys, template: options.ContextTemplate, bounds: tuple[int, int] | None) -> int:
    """Decrypt envelopes, or a range of one.

    FILE.swx is decrypted to FILE beside it, or to where -o says; - is standard input. Only authenticated data is
    written. -k names the KMS keys that may open it; the caller needs kms:Decrypt on one.
    """
    sealer = keys.to_decrypt(work.headers)

    def output_name(name: str) -> str:
        if not name.endswith(work.suffix):
            raise click.UsageError(
                f"'{console.shown(name)}' does not end with '{work.suffix}': name the output with -o"
            )
        return work.plain_name(name)

    def do(job: jobs.Job) -> str:
        expected = template.to_expect(job.relpath)
        jobs.refuse_output(job, work.detached, "header")
        with jobs.Source(job.source, armor=work.armor) as source:
            if work.recursive and not work.force and jobs.done_before(job, source):
                return "decrypted before"
            if bounds is not None and not source.file.seekable():
                raise click.UsageError("--range needs a file; a stream can only be read from its start")
            # The envelope is opened before the output is: a wrong key or context leaves no trace at all.
            with (
                sealer.read_once(source.binary, context=expected, header=places.opened(work.detached))
                if bounds is None
                else sealer.open(source.binary, context=expected, header=places.opened(work.detached)) as reader,
                jobs.Output(job, source, force=work.force) as sink,
            ):
                read: Callable[[memoryview], int] = reader.readinto
                size = source.size
                if bounds is not None:
                    size = max(0, min(bounds[1], reader.seek(0, os.SEEK_END)) - bounds[0])
                    reader.seek(bounds[0])
                    read = _limited(reader.readinto, size)
                with console.progress(job.source, size) as progress:
                    jobs.pump(read, lambda data: write_all(sink, data), progress)
        return "decrypted"

    found = jobs.collect(
        work,
        output_name=output_name if work.output is None or work.recursive else work.plain_name,
        skip=work.no_envelope,
    )
    return jobs.run(work, found, do)


def _limited(readinto: Callable[[memoryview], int], limit: int) -> Callable[[memoryview], int]:
    """Return a readinto that ends after ``limit`` bytes."""
    left = limit

    def read(view: memoryview) -> int:
        nonlocal left
        size = readinto(view[:left])
        left -= size
        return size

    return read
