"""The options about S3 objects: who pays for the requests, and what a new object gets beside its bytes."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

import click

from sealwax._text import printable
from sealwax.cli import locations
from sealwax.cli.options import Command
from sealwax.cli.state import current
from sealwax.cli.work import Work

if TYPE_CHECKING:
    from sealwax.stores.s3._settings import Sse

# Those that S3's PutObject documents; an object of another service's class is never made by it.
STORAGE_CLASSES: Final = (
    "STANDARD",
    "STANDARD_IA",
    "ONEZONE_IA",
    "INTELLIGENT_TIERING",
    "GLACIER_IR",
    "GLACIER",
    "DEEP_ARCHIVE",
    "REDUCED_REDUNDANCY",
    "EXPRESS_ONEZONE",
)


def options(*, writes: bool, in_place: bool = False) -> Callable[[Command], Command]:
    """Add the options about S3 objects to a verb with ``work.on``, below it.

    Args:
        writes: whether the verb writes new objects.
        in_place: whether it does so with -o only, and otherwise changes its sources.
    """

    def decorate(command: Command) -> Command:
        @functools.wraps(command)
        def wrapped(
            *args: object,
            work: Work,
            requester_pays: bool,
            sse: Sse | None = None,
            sse_kms_key_id: str | None = None,
            storage_class: str | None = None,
            tags: tuple[str, ...] = (),
            **kwargs: object,
        ) -> object:
            state = current()
            given = {"--sse": sse, "--sse-kms-key-id": sse_kms_key_id, "--storage-class": storage_class, "--tag": tags}
            names = [name for name, value in given.items() if value]
            if sse_kms_key_id == "":
                raise click.UsageError("--sse-kms-key-id is empty; name a KMS key")
            if names:
                _refuse_unused(names, work, in_place=in_place)
                state.new_objects = _parameters(sse, sse_kms_key_id, storage_class, tags)
            if requester_pays:
                if not any(map(locations.is_s3, _places(work))):
                    raise click.UsageError("--requester-pays is for S3; name an object with s3://BUCKET/KEY")
                state.requester_pays = True
            return command(*args, work=work, **kwargs)

        whole: Command = wrapped
        for add in reversed([*(_WRITING if writes else ()), _REQUESTER_PAYS]):
            whole = add(whole)
        return whole

    return decorate


_REQUESTER_PAYS: Final = click.option(
    "--requester-pays", is_flag=True, help="S3: agree to pay for the requests; requester-pays buckets require it."
)
_WRITING: Final = (
    click.option(
        "--sse",
        type=click.Choice(["aws:kms", "AES256"]),
        help="S3: how S3 encrypts new objects at rest, on top of sealwax. Default: as the bucket is set.",
    ),
    click.option("--sse-kms-key-id", metavar="KEY", help="S3: the KMS key for --sse aws:kms. Default: the bucket's."),
    click.option(
        "--storage-class",
        type=click.Choice(STORAGE_CLASSES),
        metavar="CLASS",
        help="S3: the storage class of new objects, such as STANDARD_IA.",
    ),
    click.option(
        "--tag", "tags", multiple=True, metavar="NAME=VALUE", help="S3: a tag of new objects; repeatable, up to 10."
    ),
)


def _places(work: Work) -> list[str]:
    return [place for place in (*work.sources, work.output, work.detached) if place is not None]


def _refuse_unused(names: list[str], work: Work, *, in_place: bool) -> None:
    """Refuse options about new objects if none is written."""
    written = [work.output] if work.output is not None else [] if in_place else list(work.sources)
    if work.detached is not None and not work.of_envelopes:
        written.append(work.detached)
    if any(map(locations.is_s3, written)):
        return
    listed = " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))
    if in_place and work.output is None and any(map(locations.is_s3, work.sources)):
        raise click.UsageError(
            f"an object that is changed in place keeps its settings and tags, so {listed} cannot be used; "
            "write a new object with -o"
        )
    raise click.UsageError(f"nothing is written to S3, so {listed} cannot be used; name an object with -o")


def _parameters(
    sse: Sse | None, sse_kms_key_id: str | None, storage_class: str | None, tags: tuple[str, ...]
) -> dict[str, object]:
    """Return S3's parameters for new objects."""
    from sealwax.stores.s3 import _settings

    if sse == "AES256" and sse_kms_key_id:
        raise click.UsageError("--sse-kms-key-id needs --sse aws:kms; with AES256, S3 uses a key of its own")
    named = _tags(tags)
    if named and (defect := _settings.defect_of_tags(named)):
        raise click.UsageError(f"--tag: {defect}")
    return _settings.parameters(sse, sse_kms_key_id, storage_class, named)


def _tags(pairs: tuple[str, ...]) -> Mapping[str, str]:
    tags: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise click.UsageError(f"--tag takes NAME=VALUE, not '{printable(pair)}'")
        if tags.setdefault(name, value) != value:
            raise click.UsageError(f"the tag '{printable(name)}' was given twice, with different values")
    return tags
