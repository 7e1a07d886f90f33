"""sealwax decrypt"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable

import click

from sealwax.cli import console, jobs, options, places
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
@options.sources
@options.keys
@options.context(stored=True)
@click.option("-o", "--output", metavar="PATH", help="The plaintext's file, a folder, or - for standard output.")
@options.recursive
@options.suffix
@click.option(
    "--range",
    "bounds",
    metavar="START:END",
    callback=_bounds,
    help="Only these bytes of the plaintext; END is not included.",
)
@options.armor
@options.detached
@options.force
@options.as_json
@options.loudness
def decrypt(
    sources: tuple[str, ...],
    keys: options.Keys,
    template: options.ContextTemplate,
    output: str | None,
    recursive: bool,
    suffix: str,
    bounds: tuple[int, int] | None,
    armor: bool,
    detached: str | None,
    force: bool,
    as_json: bool,
) -> int:
    """Decrypt envelopes, or a range of one.

    FILE.swx is decrypted to FILE beside it, or to where -o says; - is standard input. Only authenticated data is
    written. -k names the KMS keys that may open it; the caller needs kms:Decrypt on one.
    """
    jobs.check_detached(detached, sources)
    sealer = keys.to_decrypt(sources if detached is None else (detached,))

    def output_name(name: str) -> str:
        if not name.endswith(suffix):
            raise click.UsageError(f"'{console.shown(name)}' does not end with '{suffix}': name the output with -o")
        return name.removesuffix(suffix)

    def do(job: jobs.Job) -> str:
        expected = template.to_expect(job.relpath)
        jobs.refuse_output(job, detached, "header")
        with jobs.Source(job.source, armor=armor) as source:
            if recursive and not force and jobs.done_before(job, source):
                return "decrypted before"
            if bounds is not None and not source.file.seekable():
                raise click.UsageError("--range needs a file; a stream can only be read from its start")
            # The envelope is opened before the output is: a wrong key or context leaves no trace at all.
            with (
                sealer.read_once(source.binary, context=expected, header=places.opened(detached))
                if bounds is None
                else sealer.open(source.binary, context=expected, header=places.opened(detached)) as reader,
                jobs.Output(job, source, force=force) as sink,
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
        sources,
        recursive=recursive,
        output=output,
        plain_name=lambda name: name.removesuffix(suffix),
        output_name=output_name if output is None or recursive else lambda name: name.removesuffix(suffix),
        skip=jobs.with_suffix(suffix),
    )
    return jobs.run(found, do, as_json=as_json)


def _limited(readinto: Callable[[memoryview], int], limit: int) -> Callable[[memoryview], int]:
    """Return a readinto that ends after ``limit`` bytes."""
    left = limit

    def read(view: memoryview) -> int:
        nonlocal left
        size = readinto(view[:left])
        left -= size
        return size

    return read
