"""The files that a verb works on, and the options that select them."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import click

from sealwax.cli import options
from sealwax.cli.kms import Keys

STREAM: Final = "-"
_WORKERS: Final = "Process up to this many files at once while they wait for KMS, S3 or the disk."


@dataclass(frozen=True, slots=True)
class Work:
    """The files that a verb works on, and how.

    Attributes:
        sources: files, folders, objects, prefixes, or "-" for standard input.
        output: the -o option: a file, a folder, "-", or None to write next to the source.
        writes: whether the verb writes anything.
        of_envelopes: whether the sources are envelopes.
        update: whether an output is replaced if its source has changed since.
        lab: the folder of the lab in use, whose files are skipped.
        workers: how many files may be in progress at a time.
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
        """The files with the envelopes' headers: the sources, or the detached header."""
        return self.sources if self.detached is None else (self.detached,)

    def plain_name(self, name: str) -> str:
        """Return the plaintext file's name for an envelope's."""
        return name.removesuffix(self.suffix)

    def reason_to_skip(self, name: str) -> str | None:
        """Return why a file in a folder is skipped because of its name; None if it is not."""
        if name.endswith(self.suffix) == self.of_envelopes:
            return None
        return f"its name {'does not end' if self.of_envelopes else 'ends'} with '{self.suffix}'"

    def checks_output(self, output: str | None) -> bool:
        """Whether to check first what is at an output's place: of several files, some may be done already."""
        if output in (None, STREAM) or self.force:
            return False
        return self.update or self.recursive or len(self.sources) > 1


def on(
    what: str, *, output: str | None, update: bool = False, workers: bool = True
) -> Callable[[options.Command], options.Command]:
    """Add the sources and the options that select files; the command gets ``work``.

    Args:
        what: ``"file"`` or ``"envelope"``: what -r selects.
        output: the help of -o; None for a verb that writes nothing.
        update: whether there is --update.
    """
    writing = [] if output is None else [click.option("-o", "--output", metavar="PATH", help=output), options.force]
    if update:
        writing.append(
            click.option(
                "--update",
                is_flag=True,
                help="Write missing outputs, and overwrite those whose source has changed since; keep all others.",
            )
        )
    added: list[Callable[[options.Command], options.Command]] = [
        click.argument(
            "sources", nargs=-1, metavar="[FILE|FOLDER|S3://...|-]...", type=click.Path(allow_dash=True, readable=False)
        ),
        *writing,
        click.option(
            "-r",
            "--recursive",
            is_flag=True,
            help=f"Process every {what} in a folder or below a prefix{'; with -o, into another' if output else ''}.",
        ),
        options.suffix,
        click.option("--armor", is_flag=True, help="Read or write the envelope as text, on one line."),
        click.option(
            "--detached", metavar="HEADER", help="Keep the header in this file, and only the payload in the other one."
        ),
        *([options.workers(_WORKERS)] if workers else []),
        click.option("--json", "as_json", is_flag=True, help="Print one JSON object per file."),
    ]

    def decorate(command: options.Command) -> options.Command:
        @functools.wraps(command)
        def wrapped(
            *args: object,
            sources: tuple[str, ...],
            recursive: bool,
            suffix: str,
            armor: bool,
            detached: str | None,
            as_json: bool,
            keys: Keys | None = None,
            force: bool = False,
            output: str | None = None,
            update: bool = False,
            workers: int = 1,
            **kwargs: object,
        ) -> object:
            _check(sources, output, detached, recursive)
            if update and force:
                raise click.UsageError("use --update or --force, not both; --force overwrites everything")
            if update and (output == STREAM or not sources or STREAM in sources):
                raise click.UsageError("--update needs files: a stream has no modification time to compare")
            work = Work(
                sources,
                output,
                recursive,
                suffix,
                armor,
                detached,
                force,
                as_json,
                writes=bool(writing),
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
        raise click.UsageError("-o is empty; name a file or a folder")
    if detached is None:
        return
    if detached in ("", STREAM):
        raise click.UsageError("--detached takes the name of a file")
    if len(sources) > 1 or recursive or any(os.path.isdir(source) for source in sources):
        raise click.UsageError("--detached takes exactly one file, and cannot be combined with -r")
