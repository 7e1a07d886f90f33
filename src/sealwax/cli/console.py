"""What a person is told, and how.

- Data goes to standard output, everything else to standard error.
- An error is one sentence: what failed, where, why, what to do. A success with a file says so in one line.
- ``-q`` leaves errors only. Progress is shown on a terminal only, and only when there is something to wait for.
- Names from outside are shown with control and direction characters escaped.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import IO, TYPE_CHECKING, Any, ClassVar, Final, NoReturn

import click

from sealwax import trusted
from sealwax.context import printable
from sealwax.errors import FileError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

quiet = False
verbose = False

# Less than this is done before a bar could be read.
_PROGRESS_FROM_BYTES: Final = 64 << 20


def say(text: str) -> None:
    """Say something that must be heard."""
    click.echo(f"sealwax: {text}", err=True)


def tell(text: str) -> None:
    """Say something that -q silences."""
    if not quiet:
        click.echo(f"sealwax: {text}", err=True)


def complain(error: Exception, about: str | None = None) -> None:
    """Say what failed, and on which file."""
    say(f"{shown(about)}: {error}" if about else str(error))


def shown(name: str) -> str:
    """Return the name of a file as it is shown."""
    return "standard input" if name == "-" else printable(os.fsdecode(name))


class _NoOutput(click.ClickException):
    """Standard output takes nothing more: the end of the run, whatever the jobs are."""

    def show(self, file: IO[Any] | None = None) -> None:  # noqa: ARG002  click's signature
        say(self.message)


def put(text: str) -> None:
    """Print to standard output.

    Raises:
        click.ClickException: it cannot be written to.
    """
    try:
        with StandardOutput.reported():
            StandardOutput.descriptor()
            # None leaves it to click: colours for a terminal only. https://no-color.org/
            click.echo(text, color=False if os.environ.get("NO_COLOR") else None)
    except FileError as error:
        drop_output()
        raise _NoOutput(str(error)) from None


def print_json(value: Mapping[str, Any]) -> None:
    """Print one object on one line."""
    put(json.dumps(value))


def print_table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    """Print rows below a head: in plain columns, and as wide as it needs where nobody looks."""
    if not sys.stdout.isatty():
        widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
        for row in (head, *rows):
            put("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*head, box=None, pad_edge=False)
    for row in rows:
        table.add_row(*(Text(text) for text in row))
    Console().print(table)


def drop_output() -> None:
    """Keep the interpreter's last flush of standard output from failing once more."""
    if sys.stdout is not None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


class _StandardStream(io.FileIO):
    """A standard stream, unbuffered, whose failures are :class:`~sealwax.FileError`; it is never closed."""

    name_: ClassVar[str]
    doing: ClassVar[str]

    @classmethod
    @contextlib.contextmanager
    def reported(cls) -> Iterator[None]:
        try:
            yield
        except BrokenPipeError:
            raise
        except OSError as error:
            raise FileError(f"{cls.doing} {cls.name_} failed: {error.strerror or error}") from error

    @classmethod
    def descriptor(cls) -> int:
        stream = sys.stdin if cls.doing == "reading" else sys.stdout
        if stream is None:
            raise FileError(f"{cls.name_} is closed")
        return stream.fileno()


class _Reserved(io.TextIOBase):
    """What ``sys.stdin`` is while standard input is kept for the data: it can be asked about, and not be read."""

    def fileno(self) -> int:
        return 0

    def isatty(self) -> bool:
        return os.isatty(0)

    def read(self, _size: int | None = -1, /) -> NoReturn:
        raise OSError("standard input is data, and nothing else may read it")

    def readline(self, _size: int = -1, /) -> NoReturn:  # type: ignore[override]  # of bytes, say the stubs of its base
        self.read()


class StandardInput(_StandardStream):
    name_ = "standard input"
    doing = "reading"

    @classmethod
    def reserve(cls) -> None:
        """Keep standard input for the data, of which what another program or library reads would be missing.

        Descriptor 0 stays as it is, since /dev/stdin means it, and is closed in every program that is started without
        a standard input of its own.
        """
        if sys.stdin is not None:
            os.set_inheritable(0, False)
            sys.stdin = _Reserved()

    def __init__(self) -> None:
        with self.reported():
            super().__init__(self.descriptor(), "rb", closefd=False)

    def read(self, size: int | None = -1, /) -> bytes:
        with self.reported():
            return super().read(size)

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        with self.reported():
            return super().readinto(buffer)


class StandardOutput(_StandardStream):
    name_ = "standard output"
    doing = "writing"

    def __init__(self) -> None:
        with self.reported():
            super().__init__(self.descriptor(), "wb", closefd=False)

    def write(self, data: ReadableBuffer, /) -> int:
        with self.reported():
            return super().write(data)


def read_text(path: str, kind: trusted.Kind, most: int) -> str:
    """Return the text of a small file that decides something, of at most ``most`` bytes.

    Raises:
        FileError: it cannot be read.
        SealwaxError: of the kind's class: somebody else can have written it.
        click.UsageError: it is larger, or not text.
    """
    try:
        with trusted.open_file(path, kind) as file:
            data = file.read(most + 1)
    except OSError as error:
        raise FileError(f"reading '{printable(path)}' failed: {error.strerror or error}") from error
    if len(data) > most:
        raise click.UsageError(f"'{printable(path)}' is too large to be one: it has more than {most:,} bytes")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise click.UsageError(f"'{printable(path)}' is not UTF-8") from None


def refuse_terminal() -> None:
    """Refuse to write binary data to a terminal.

    Raises:
        click.UsageError: standard output is one.
    """
    if sys.stdout is not None and sys.stdout.isatty():
        raise click.UsageError("the output is binary, and standard output is a terminal: name a file with -o")


@contextlib.contextmanager
def progress(name: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """Lend a function that is told how many more bytes are done, and shows it where it is worth it.

    Where the total is not known, that is once much is done.
    """
    if quiet or not sys.stderr.isatty() or (total is not None and total < _PROGRESS_FROM_BYTES):
        yield lambda _: None
        return
    done = 0
    advance: Callable[[int], None] | None = None
    with contextlib.ExitStack() as stack:

        def more(size: int) -> None:
            nonlocal done, advance
            done += size
            if advance is not None:
                advance(size)
            elif total is not None or done >= _PROGRESS_FROM_BYTES:
                advance = stack.enter_context(_bar(name, total))
                advance(done)

        yield more


@contextlib.contextmanager
def _bar(name: str, total: int | None) -> Iterator[Callable[[int], None]]:
    from rich import progress as bars
    from rich.console import Console

    columns = (
        bars.TextColumn("{task.description}"),
        bars.BarColumn(),
        bars.DownloadColumn(binary_units=True),
        bars.TransferSpeedColumn(),
        bars.TimeRemainingColumn(),
    )
    with bars.Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(shown(name), total=total)
        yield lambda size: bar.advance(task, size)
