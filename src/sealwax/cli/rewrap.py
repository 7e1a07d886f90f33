"""sealwax rewrap"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import click

from sealwax.cli import jobs, options
from sealwax.envelope import inspect
from sealwax.errors import KeyNotAllowedError, WrongKeyError
from sealwax.keyring import PROVIDER_AWS_KMS


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
            try:
                sealer.rewrap(job.source, to=targets, context=expected, verify=verify, body=body)
            except (KeyNotAllowedError, WrongKeyError):
                # What an earlier run has done is under none of the old keys.
                if verify or not _says_it_is_under(job.source, targets):
                    raise
                return "re-wrapped before, as it says itself"
            return "re-wrapped"
        in_place = job.output is None
        if in_place:
            job = dataclasses.replace(job, output=job.source)
        with (
            jobs.Source(job.source, armor=armor) as source,
            jobs.Output(job, source, force=force or in_place, armor=armor, in_place=in_place) as sink,
        ):
            sealer.rewrap(source.binary, to=targets, context=expected, output=sink, verify=verify, body=body)
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


def _says_it_is_under(path: str, targets: Sequence[str]) -> bool:
    """Whether the envelope says that it is wrapped under these very keys, which is a claim and no proof."""
    found = inspect(path)
    arns = {key.key_arn for key in found.wrapped_keys if key.provider == PROVIDER_AWS_KMS}
    return found.header.finished and arns == set(targets)
