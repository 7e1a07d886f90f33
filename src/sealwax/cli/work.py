"""What the verbs on files share: what they are to work on, and the options that say so."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import click

from sealwax.cli import options

STREAM: Final = "-"
_WORKERS: Final = "How many files at a time, once a file waits for KMS, S3 or the disk longer than it takes to work on."


@dataclass(frozen=True, slots=True)
class Work:
    """What a verb is to work on.

    Attributes:
        sources: files, folders, objects, prefixes, or "-" for standard input.
        output: the -o option: a file, a folder, "-", or None for beside the source.
        writes: whether the verb writes anything.
        of_envelopes: whether the sources are envelopes.
        update: whether an output is replaced that its source has changed since.
        lab: the folder of the lab in use, whose files are left alone.
        workers: how many files may be under way at a time.
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
    update: bool = False
    lab: str | None = None
    workers: int = 1

    @property
    def headers(self) -> Sequence[str]:
        """Where the envelopes' headers are: in the sources, or apart."""
        return self.sources if self.detached is None else (self.detached,)

    def plain_name(self, name: str) -> str:
        """Return the name of the plaintext's file, from an envelope's."""
        return name.removesuffix(self.suffix)

    def not_meant(self, name: str) -> str | None:
        """Return why a file in a folder is not meant, by its name; None where it is."""
        if name.endswith(self.suffix) == self.of_envelopes:
            return None
        return f"its name {'does not end' if self.of_envelopes else 'ends'} with '{self.suffix}'"

    def judges(self, output: str | None) -> bool:
        """Whether it is asked first what stands at an output's place: of several files, some may be done already."""
        if output in (None, STREAM) or self.force:
            return False
        return self.update or self.recursive or len(self.sources) > 1


def on(
    what: str, *, output: str | None, update: bool = False, workers: bool = True
) -> Callable[[options.Command], options.Command]:
    """Add the sources and the options that say what becomes of them; the command gets ``work``.

    Args:
        what: what -r takes: ``"file"`` or ``"envelope"``.
        output: what -o is, for its help; None for a verb that writes nothing.
        update: whether there is --update.
        workers: whether there is --workers.
    """
    writing = [
        click.option("-o", "--output", metavar="PATH", help=output),
        options.force,
    ]
    if update:
        writing.append(
            click.option(
                "--update",
                is_flag=True,
                help="Do what is not there, and replace what its source has changed since; nothing else.",
            )
        )
    added: list[Callable[[options.Command], options.Command]] = [
        click.argument(
            "sources", nargs=-1, metavar="[FILE|FOLDER|S3://...|-]...", type=click.Path(allow_dash=True, readable=False)
        ),
        *(writing if output is not None else []),
        click.option(
            "-r",
            "--recursive",
            is_flag=True,
            help=f"Take every {what} in a folder, or below a prefix{'; with -o, into another' if output else ''}.",
        ),
        options.suffix,
        click.option("--armor", is_flag=True, help="The envelope is text on one line, not bytes."),
        click.option(
            "--detached", metavar="HEADER", help="The header is a file of its own; the other file is the payload alone."
        ),
        *([options.workers(_WORKERS)] if workers else []),
        click.option("--json", "as_json", is_flag=True, help="Print one JSON object for each file."),
    ]

    def decorate(command: options.Command) -> options.Command:
        @functools.wraps(command)
        def wrapped(
            *args: Any,
            sources: tuple[str, ...],
            recursive: bool,
            suffix: str,
            armor: bool,
            detached: str | None,
            as_json: bool,
            keys: options.Keys | None = None,
            force: bool = False,
            update: bool = False,
            workers: int = 1,
            **kwargs: Any,
        ) -> Any:
            to = kwargs.pop("output", None)
            _check(sources, to, detached, recursive)
            if update and force:
                raise click.UsageError("--update and --force exclude each other: --force replaces everything")
            if update and (to == STREAM or not sources or STREAM in sources):
                raise click.UsageError("--update goes with files: a stream has no time to compare")
            work = Work(
                sources,
                to,
                recursive,
                suffix,
                armor,
                detached,
                force,
                as_json,
                writes=output is not None,
                of_envelopes=what == "envelope",
                update=update,
                lab=None if keys is None else keys.aws.lab,
                workers=workers,
            )
            return command(*args, work=work, **({} if keys is None else {"keys": keys}), **kwargs)

        whole: options.Command = wrapped
        for add in reversed(added):
            whole = add(whole)
        return whole

    return decorate


def _check(sources: Sequence[str], output: str | None, detached: str | None, recursive: bool) -> None:
    if output == "":
        raise click.UsageError("-o names a file or a folder, and was given an empty name")
    if detached is None:
        return
    if detached in ("", STREAM):
        raise click.UsageError("--detached names a file")
    if len(sources) > 1 or recursive or any(os.path.isdir(source) for source in sources):
        raise click.UsageError("--detached goes with one file, and not with -r")
