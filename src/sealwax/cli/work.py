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


@dataclass(frozen=True, slots=True)
class Work:
    """What a verb is to work on.

    Attributes:
        sources: files, folders, objects, prefixes, or "-" for standard input.
        output: the -o option: a file, a folder, "-", or None for beside the source.
        writes: whether the verb writes anything.
        lab: the folder of the lab in use, whose files are left alone.
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
    lab: str | None = None

    @property
    def headers(self) -> Sequence[str]:
        """Where the envelopes' headers are: in the sources, or apart."""
        return self.sources if self.detached is None else (self.detached,)

    def plain_name(self, name: str) -> str:
        """Return the name of the plaintext's file, from an envelope's."""
        return name.removesuffix(self.suffix)

    def no_envelope(self, name: str) -> str | None:
        """Return why a file in a folder is not meant, where envelopes are; None where it is."""
        return None if name.endswith(self.suffix) else f"its name does not end with '{self.suffix}'"

    def no_plaintext(self, name: str) -> str | None:
        """Return why a file in a folder is not meant, where envelopes are not; None where it is."""
        return f"its name ends with '{self.suffix}'" if name.endswith(self.suffix) else None


def on(what: str, *, output: str | None) -> Callable[[options.Command], options.Command]:
    """Add the sources and the options that say what becomes of them; the command gets ``work``.

    Args:
        what: what -r takes: ``"file"`` or ``"envelope"``.
        output: what -o is, for its help; None for a verb that writes nothing.
    """
    writing = [
        click.option("-o", "--output", metavar="PATH", help=output),
        options.force,
    ]
    added = [
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
            **kwargs: Any,
        ) -> Any:
            to = kwargs.pop("output", None)
            _check(sources, to, detached)
            lab = None if keys is None else keys.aws.lab
            work = Work(sources, to, recursive, suffix, armor, detached, force, as_json, output is not None, lab)
            return command(*args, work=work, **({} if keys is None else {"keys": keys}), **kwargs)

        return functools.reduce(lambda inner, add: add(inner), reversed(added), wrapped)

    return decorate


def _check(sources: Sequence[str], output: str | None, detached: str | None) -> None:
    if output == "":
        raise click.UsageError("-o names a file or a folder, and was given an empty name")
    if detached is None:
        return
    if detached in ("", STREAM):
        raise click.UsageError("--detached names a file")
    if len(sources) > 1 or any(os.path.isdir(source) for source in sources):
        raise click.UsageError("--detached goes with one file")
