"""sealwax rewrap"""

from __future__ import annotations

import dataclasses

import click

from sealwax.cli import jobs, options, places
from sealwax.errors import KeyNotAllowedError, WrongKeyError
from sealwax.rewrapping import rewrap_file


@click.command()
@options.sources
@click.option(
    "--to", "targets", multiple=True, required=True, metavar="KEY", help="A new KMS key; repeatable: the new set."
)
@options.keys
@options.context(stored=True)
@click.option("-o", "--output", metavar="PATH", help="Leave the envelope, and write the re-wrapped one here.")
@click.option("-r", "--recursive", is_flag=True, help="Take every envelope in a folder.")
@options.suffix
@click.option("--verify", is_flag=True, help="First see that the data key belongs to the payload; needs kms:Decrypt.")
@options.armor
@options.detached
@options.force
@options.as_json
@options.loudness
def rewrap(
    sources: tuple[str, ...],
    targets: tuple[str, ...],
    keys: options.Keys,
    template: options.ContextTemplate,
    output: str | None,
    recursive: bool,
    suffix: str,
    verify: bool,
    armor: bool,
    detached: str | None,
    force: bool,
    as_json: bool,
) -> int:
    """Move envelopes to another KMS key, in place; the data is not touched and the data key not seen.

    -k names the KMS keys they may be under now. The caller needs kms:ReEncryptFrom on the old key and kms:ReEncryptTo
    on the new one. This is no revocation: an old copy of an envelope still opens with the old key.

    With --to as key ARNs, an interrupted run can be repeated: what is under the new keys already is passed over.
    """
    body: str | None = None
    jobs.check_detached(detached, sources)
    options.refuse_too_many(targets, "--to")
    if detached:
        body = next(iter(sources), None)
        if verify and body in (None, jobs.STREAM):
            raise click.UsageError("--verify needs the payload of a detached header: name its file")
        sources = (detached,)
    sealer = keys.to_decrypt(sources)

    def do(job: jobs.Job) -> str:
        expected = template.to_expect(job.relpath)
        jobs.refuse_output(job, body, "payload")
        if job.output is None and not armor:
            rewrapper = sealer.rewrapper(to=targets, context=expected, verify=verify, body=places.opened(body))
            try:
                if places.is_s3(job.source):
                    places.store_of(job.source).rewrap(job.source, rewrapper)
                else:
                    rewrap_file(job.source, rewrapper)
            except (KeyNotAllowedError, WrongKeyError):
                # What an earlier run has done is under none of the old keys.
                if verify or not places.says_it_is_under(job.source, targets):
                    raise
                return "re-wrapped before, as it says itself"
            return "re-wrapped"
        in_place = job.output is None
        if in_place:
            places.refuse_text_in_place(job.source)
            job = dataclasses.replace(job, output=job.source)
        with (
            jobs.Source(job.source, armor=armor) as source,
            jobs.Output(job, source, force=force or in_place, armor=armor, in_place=in_place) as sink,
        ):
            sealer.rewrap(
                source.binary, to=targets, context=expected, output=sink, verify=verify, body=places.opened(body)
            )
        return "re-wrapped"

    found = jobs.collect(
        sources,
        recursive=recursive,
        output=output,
        plain_name=lambda name: name.removesuffix(suffix),
        output_name=None,
        skip=jobs.with_suffix(suffix),
    )
    return jobs.run(found, do, as_json=as_json)
