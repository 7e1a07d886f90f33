"""sealwax inspect"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace

import click

from sealwax._core.envelope import Inspection
from sealwax._core.foreign.inspections import MessageInspection, ObjectInspection
from sealwax._core.foreign.s3ec import fields as s3ec
from sealwax._core.inspection import AnyInspection
from sealwax._core.inspection import inspect as look
from sealwax._core.staleness import Staleness, Wanted, WantedKey, staleness_of
from sealwax._text import printable
from sealwax.cli import PARTLY_DONE, console, contents, jobs, locations, objects, options, running, turns
from sealwax.cli.console import counted
from sealwax.cli.kms import Aws, named
from sealwax.cli.work import Work, on
from sealwax.errors import UnsupportedEnvelopeError

_NOT_READ = ("  to read    not with sealwax: nothing authenticates it; re-wrap it, or use the client",)


@click.command()
@on("envelope", output=None, workers=False, messages=True)
@click.option(
    "--to",
    "targets",
    multiple=True,
    metavar="KEY",
    help="A KMS key that the envelope should be under; repeatable. Shows whether it is stale. Needs kms:DescribeKey "
    "unless KEY is a key ARN.",
)
@click.option(
    "--older-than",
    type=options.Duration(),
    metavar="TIME",
    help="With --to: also stale if wrapped longer ago than this, such as 365d.",
)
@click.option(
    "--ask-kms",
    is_flag=True,
    help="With --to: also detect old key material (kms:DescribeKey, kms:ListKeyRotations).",
)
@objects.options(writes=False)
@options.aws
@options.loudness
def inspect(work: Work, targets: tuple[str, ...], older_than: float | None, ask_kms: bool, aws: Aws) -> int:
    """Show an envelope's header, without calling KMS. Nothing is authenticated; use verify for that.

    It also describes messages of the AWS Encryption SDK, and S3 objects of the S3 Encryption Client.

    With --to, also show whether the envelope is stale by the rules of `sealwax fleet`. KMS is called only for
    --ask-kms, and to look up keys of --to that are not named by their ARNs.
    """

    def do(job: jobs.FileJob) -> turns.Fields:
        with contents.Source(job, armor=work.armor) as source:
            inspection: AnyInspection = (
                look(source.binary)
                if work.detached is None
                else replace(locations.inspect_detached(work.detached), payload_bytes=source.size)
            )
        facts = {"path": job.source, **inspection.as_dict()}
        verdict = None if wanted is None else _staleness(inspection, wanted)
        if verdict is not None:
            facts |= {"stale": verdict.stale, "stale_because": list(verdict.reasons)}
            facts |= {"missing_regions": list(verdict.missing_regions)}
        if not work.as_json:
            console.print(_described(job.source, inspection, aliases))
            if verdict is not None:
                console.print(f"  stale      {verdict}")
        return facts

    if not targets and (older_than is not None or ask_kms):
        raise click.UsageError("--older-than and --ask-kms require --to")
    wanted, blind = _wanted(targets, older_than, aws, ask_kms=ask_kms) if targets else (None, False)
    aliases = {} if wanted is None else {key.arn: name for key, name in zip(wanted.keys, targets, strict=True)}
    status = running.run(work, jobs.collect(work, output_name=None), do)
    return PARTLY_DONE if blind and not status else status


def _staleness(inspection: AnyInspection, wanted: Wanted) -> Staleness:
    if isinstance(inspection, Inspection):
        return staleness_of(inspection.header, wanted)
    if isinstance(inspection, MessageInspection):
        raise UnsupportedEnvelopeError(
            "it is a message of the AWS Encryption SDK, which cannot be re-wrapped, so --to says nothing about it; "
            "inspect it without --to"
        )
    raise UnsupportedEnvelopeError(
        "it is an object of the S3 Encryption Client, which does not say which KMS key wraps its data key, so --to "
        "says nothing about it; inspect it without --to"
    )


def _wanted(targets: tuple[str, ...], older_than: float | None, aws: Aws, *, ask_kms: bool) -> tuple[Wanted, bool]:
    """Return what is wanted, and whether a key's material could not be read, so that old material is not detected."""
    since = 0 if older_than is None else int(time.time() - older_than)
    if ask_kms:
        from sealwax._aws.session import Clients
        from sealwax.kms._describe import describe

        clients = Clients(aws.session())
        keys = [describe(target, clients) for target in targets]
        blind = any(key.unseen and not key.material_id for key in keys)
        for error in (error for key in keys for error in key.unseen):
            (console.warn if blind else console.info)(
                f"old key material {'cannot' if blind else 'may not'} be detected: {error}"
            )
        return Wanted(tuple(WantedKey(key.arn, key.material_id, key.rotated_at) for key in keys), since), blind
    return Wanted(tuple(map(WantedKey, aws.key_arns(targets))), since), False


def _size(inspection: Inspection) -> str:
    if inspection.plaintext_bytes is not None:
        return f"{inspection.plaintext_bytes} bytes"
    if inspection.payload_bytes is not None:
        return f"unknown: no payload has {inspection.payload_bytes} bytes, so it is cut off"
    return "unknown: the payload is in another file; name that one, and this with --detached"


def _described(path: str, inspection: AnyInspection, aliases: Mapping[str, str]) -> str:
    if isinstance(inspection, MessageInspection):
        lines = _of_message(inspection)
    elif isinstance(inspection, ObjectInspection):
        lines = _of_object(inspection)
    else:
        lines = _of_envelope(inspection, aliases)
    return "\n".join((console.shown(path), *lines))


def _of_message(inspection: MessageInspection) -> list[str]:
    framed = f"in frames of {inspection.frame_bytes}" if inspection.frame_bytes else "not framed"
    commits = "no key commitment" if inspection.allow_legacy else "key commitment"
    signed = "signed" if inspection.signed else "not signed"
    return [
        f"  message    {inspection.message_id.hex()}, AWS Encryption SDK, version {inspection.format[-1]}",
        f"  suite      {inspection.suite}: {commits}, {signed}",
        f"  plaintext  {_known(inspection.plaintext_bytes)}, {framed}",
        *_allowed(inspection.allow_legacy),
        *_pairs(inspection.context),
        *(f"  key        {named(key.key_arn)}" for key in inspection.wrapped_keys),
        *(f"  key        of provider {printable(name)}, not of AWS KMS" for name in inspection.others),
    ]


def _of_object(inspection: ObjectInspection) -> list[str]:
    place = "instruction file" if inspection.instruction_file else "metadata"
    cipher = {s3ec.COMMITTING: "AES-GCM, key commitment", s3ec.GCM: "AES-GCM, no key commitment", s3ec.CBC: "AES-CBC"}
    (key,) = inspection.wrapped_keys
    return [
        f"  object     S3 Encryption Client, version {inspection.format[-1]}, wrapped key in its {place}",
        f"  cipher     {inspection.cipher}: {cipher[inspection.cipher]}",
        f"  plaintext  {_known(inspection.plaintext_bytes)}",
        *(_NOT_READ if inspection.cipher == s3ec.CBC else _allowed(inspection.allow_legacy)),
        *_pairs(inspection.context),
        f"  key        {named(key.key_arn) if key.key_arn else 'not named in the object'}",
    ]


def _known(size: int | None) -> str:
    return "unknown size" if size is None else f"{size} bytes"


def _allowed(name: str | None) -> list[str]:
    return [] if name is None else [f"  to read    --allow-legacy {name}"]


def _pairs(context: Mapping[str, str]) -> list[str]:
    lines = [f"  context    {printable(name)}={printable(value)}" for name, value in context.items()]
    return lines or ["  context    none stored"]


def _of_envelope(inspection: Inspection, aliases: Mapping[str, str]) -> list[str]:
    facts = inspection.as_dict()
    lines = [
        f"  envelope   {facts['envelope_id']}, {facts['kind']}, version {facts['version']}, {facts['suite']}",
        f"  plaintext  {_size(inspection)}",
        f"  slots      {facts['slots']}, sequence {facts['sequence']}"
        + ("" if facts["finished"] else ", unfinished: a re-wrap was interrupted; run it again"),
    ]
    if inspection.foreign is not None:
        lines.append(f"  metadata   contradiction: this is an envelope, but its metadata says: {inspection.foreign}")
    lines += _pairs(inspection.context)
    if facts["local_pairs"]:
        lines.append(f"  context    {counted(inspection.header.preamble.local_pairs, 'local pair')}, not stored")
    for key in facts["wrapped_keys"]:
        lines.append(f"  key        {named(key['key_arn'], aliases.get(key['key_arn'], ''))}")
        if key["key_material_id"]:
            lines.append(f"             material {key['key_material_id']}")
        if key["wrapped_at"]:
            lines.append(f"             wrapped {key['wrapped_at']}")
    return lines
