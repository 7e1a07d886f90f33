"""The files that a verb works on, and the options that select them."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import click

from sealwax.cli import filters, locations, options
from sealwax.cli.kms import Keys
from sealwax.cli.state import current

STREAM: Final = "-"
MESSAGE_SUFFIX: Final = ".esdk"
_WORKERS: Final = "Process up to this many files at once while they wait for KMS, S3 or the disk."


@dataclass(frozen=True, slots=True)
class Work:
    """The files that a verb works on, and how.

    Attributes:
        sources: files, folders, objects, prefixes, or "-" for standard input.
        output: the -o option: a file, a folder, "-", or None to write next to the source.
        writes: whether the verb writes anything.
        of_envelopes: whether the sources are envelopes.
        of_messages: whether they may also be messages of the AWS Encryption SDK, which have a suffix of their own.
        update: whether an output is replaced if its source has changed since.
        lab: the folder of the lab in use, whose files are skipped.
        workers: how many files may be in progress at a time.
        filters: which files below a folder are taken.
        follow_links: whether links below a folder are followed.
        dry_run: whether to tell what would be done, and write nothing.
        keys: how the verb reaches KMS; None if it does not.
    """

    sources: Sequence[str]
    output: str | None
    recursive: bool
    suffix: str
    armor: bool
    detached: str | None
    force: bool
    as_json: bool
    writes: bool
    of_envelopes: bool
    of_messages: bool = False
    update: bool = False
    lab: str | None = None
    workers: int = 1
    filters: filters.Filters = field(default_factory=filters.Filters)
    follow_links: bool = False
    dry_run: bool = False
    keys: Keys | None = None

    @property
    def several(self) -> bool:
        """Whether it is a run over several files, which counts them, and not one file."""
        return self.recursive or len(self.sources) > 1

    @property
    def headers(self) -> Sequence[str]:
        """The files with the envelopes' headers: the sources, or the detached header."""
        return self.sources if self.detached is None else (self.detached,)

    @property
    def suffixes(self) -> tuple[str, ...]:
        """How the names of envelopes end. Whoever names a suffix means only that one."""
        both = self.of_messages and self.suffix == options.SUFFIX
        return (self.suffix, MESSAGE_SUFFIX) if both else (self.suffix,)

    @property
    def shown_suffixes(self) -> str:
        return " or ".join(f"'{suffix}'" for suffix in self.suffixes)

    def plain_name(self, name: str) -> str:
        """Return the plaintext file's name for an envelope's."""
        return next((name.removesuffix(suffix) for suffix in self.suffixes if name.endswith(suffix)), name)

    def reason_to_skip(self, name: str) -> str | None:
        """Return why a file in a folder is skipped because of its name; None if it is not."""
        if name.endswith(self.suffixes) == self.of_envelopes:
            return None
        return f"its name {'does not end' if self.of_envelopes else 'ends'} with {self.shown_suffixes}"

    def checks_output(self, output: str | None) -> bool:
        """Whether to check first what is at an output's place: of several files, some may be done already."""
        if output in (None, STREAM) or self.force:
            return False
        return self.update or self.several


def on(
    what: str,
    *,
    output: str | None,
    update: bool = False,
    workers: bool = True,
    dry_run: bool = False,
    into: bool = False,
    messages: bool = False,
) -> Callable[[options.Command], options.Command]:
    """Add the sources and the options that select files; the command gets ``work``.

    Args:
        what: ``"file"`` or ``"envelope"``: what -r selects.
        output: the help of -o; None for a verb that writes nothing.
        update: whether there is --update.
        dry_run: whether there is --dry-run.
        into: whether the output is named with --into, is always a folder or prefix, and nothing is overwritten; the
            envelopes are then whole and binary.
        messages: whether an envelope may also be a message of the AWS Encryption SDK.
    """
    added = [*_sources(what, output, update=update, dry_run=dry_run, into=into), *_selecting(workers, into)]

    def decorate(command: options.Command) -> options.Command:
        @click.pass_context
        @functools.wraps(command)
        def wrapped(context: click.Context, /, *args: object, **typed: Any) -> object:
            mine: dict[str, Any] = {name: typed.pop(name) for name in _FIELDS if name in typed}
            keys: Keys | None = typed.get("keys")
            work = Work(
                **({"output": None, "force": False, "armor": False, "detached": None} | mine),
                writes=output is not None,
                of_envelopes=what == "envelope",
                of_messages=messages,
                lab=None if keys is None else keys.aws.lab,
                filters=filters.typed(context, recursive=mine["recursive"]),
                keys=keys,
            )
            if into:
                current().elsewhere = "--into"
            _check(work)
            return command(*args, work=work, **typed)

        whole: options.Command = wrapped
        for add in reversed(added):
            whole = add(whole)
        return whole

    return decorate


# Of ``Work``, those that are options or arguments.
_FIELDS: Final = (
    *("sources", "output", "force", "update", "dry_run", "recursive", "suffix", "armor", "detached", "workers"),
    *("follow_links", "as_json"),
)
_Add = Callable[[options.Command], options.Command]


def _sources(what: str, output: str | None, *, update: bool, dry_run: bool, into: bool) -> list[_Add]:
    stream = "" if into else "|-"
    added: list[_Add] = [
        click.argument(
            "sources",
            nargs=-1,
            metavar=f"[FILE|FOLDER|s3://...{stream}]...",
            type=click.Path(allow_dash=True, readable=False),
        )
    ]
    if into:
        added.append(click.option("--into", "output", metavar="PLACE", help=output))
    elif output is not None:
        added += [click.option("-o", "--output", metavar="PATH", help=output), options.force]
    if update:
        what_ = "Write missing outputs, and overwrite those whose source has changed since; keep all others."
        added.append(click.option("--update", is_flag=True, help=what_))
    if dry_run:
        what_ = "Print what would be done with each file, and write nothing."
        added.append(click.option("--dry-run", is_flag=True, help=what_))
    elsewhere = f"; {'--into' if into else '-o'} names another one for the outputs" if output else ""
    return [
        *added,
        click.option(
            "-r", "--recursive", is_flag=True, help=f"Process every {what} in a folder or below a prefix{elsewhere}."
        ),
    ]


def _selecting(workers: bool, into: bool) -> list[_Add]:
    forms = [
        click.option("--armor", is_flag=True, help="Read or write the envelope as text, on one line."),
        click.option(
            "--detached", metavar="HEADER", help="Keep the header in this file; the other file has only the payload."
        ),
    ]
    return [
        filters.add,
        click.option(
            "--follow-links",
            is_flag=True,
            help="With -r: follow symbolic links, even out of the folder. Without it, links are reported, not "
            "followed.",
        ),
        options.suffix,
        *([] if into else forms),
        *([options.workers(_WORKERS)] if workers else []),
        click.option(
            "--json",
            "as_json",
            is_flag=True,
            help="Print a JSON object per file, and a summary if there are several files.",
        ),
    ]


def _check(work: Work) -> None:
    locations.refuse_mistyped_sources(*work.sources)
    locations.refuse_mistyped(work.output, work.detached)
    streams = work.output == STREAM or not work.sources or STREAM in work.sources
    if work.output == "":
        raise click.UsageError(f"{current().elsewhere} is empty; name a file or a folder")
    if work.follow_links and not work.recursive:
        raise click.UsageError("--follow-links needs -r: links that are named are always followed")
    if work.update and work.force:
        raise click.UsageError("use --update or --force, not both; --force overwrites everything")
    if work.update and streams:
        raise click.UsageError("--update needs files: a stream has no modification time to compare")
    if work.dry_run and streams:
        raise click.UsageError("--dry-run needs files: it does not read or write streams")
    if work.detached is None:
        return
    if work.detached in ("", STREAM):
        raise click.UsageError("--detached takes the name of a file")
    if work.several or any(os.path.isdir(source) for source in work.sources):
        raise click.UsageError("--detached takes exactly one file, and cannot be combined with -r")
