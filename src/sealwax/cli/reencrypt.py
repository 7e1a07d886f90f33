"""sealwax reencrypt"""

from __future__ import annotations

import dataclasses
from typing import Any

import click

from sealwax.cli import jobs, options, places
from sealwax.errors import KeyNotAllowedError, WrongKeyError


@click.command()
@options.sources
@click.option(
    "--to", "targets", multiple=True, required=True, metavar="KEY", help="A KMS key to encrypt under; repeatable."
)
@options.keys
@options.context(stored=True)
@click.option("-o", "--output", metavar="PATH", help="Leave the envelope, and write the new one here.")
@click.option("-r", "--recursive", is_flag=True, help="Take every envelope in a folder, or below a prefix.")
@options.suffix
@options.armor
@options.detached
@options.force
@options.as_json
@options.loudness
def reencrypt(
    sources: tuple[str, ...],
    targets: tuple[str, ...],
    keys: options.Keys,
    template: options.ContextTemplate,
    output: str | None,
    recursive: bool,
    suffix: str,
    armor: bool,
    detached: str | None,
    force: bool,
    as_json: bool,
) -> int:
    """Encrypt envelopes anew under a new data key, in place: for a data key that somebody may know.

    To move to another KMS key, rewrap does without reading the data. -k names the KMS keys that may open them now; the
    caller needs kms:Decrypt on one, and kms:GenerateDataKey on the key of --to. Old copies still open with the old
    data key. An envelope with a detached header becomes a whole one, where -o says.

    With --to as key ARNs that are not those of -k, an interrupted run can be repeated: what is under the new keys
    already is passed over.
    """
    jobs.check_detached(detached, sources)
    if detached is not None and output is None:
        raise click.UsageError("--detached goes with -o: a payload and its header are not replaced in place")
    sealer = keys.to_reencrypt(sources if detached is None else (detached,), targets)

    def do(job: jobs.Job) -> str:
        expected = template.to_expect(job.relpath)
        jobs.refuse_output(job, detached, "header")

        def again(source: Any, sink: Any) -> None:
            sealer.reencrypt(source, context=expected, output=sink, header=places.opened(detached))

        if job.output is None and not armor:
            try:
                if places.is_s3(job.source):
                    places.store_of(job.source).replace(job.source, again)
                else:
                    sealer.reencrypt(job.source, context=expected)
            except (KeyNotAllowedError, WrongKeyError):
                # What an earlier run has done is under none of the old keys.
                if not places.says_it_is_under(job.source, targets):
                    raise
                return "re-encrypted before, as it says itself"
            return "re-encrypted"
        in_place = job.output is None
        if in_place:
            places.refuse_text_in_place(job.source)
            job = dataclasses.replace(job, output=job.source)
        with (
            jobs.Source(job.source, armor=armor) as source,
            jobs.Output(job, source, force=force or in_place, armor=armor, in_place=in_place) as sink,
        ):
            again(source.binary, sink)
        return "re-encrypted"

    found = jobs.collect(
        sources,
        recursive=recursive,
        output=output,
        plain_name=lambda name: name.removesuffix(suffix),
        output_name=None,
        skip=jobs.with_suffix(suffix),
    )
    return jobs.run(found, do, as_json=as_json)
