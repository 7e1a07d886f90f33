"""What a person is told, and how.

- Data goes to standard output, everything else to standard error.
- An error is one sentence: what failed, where, why, what to do. A success with a file says so in one line.
- ``-q`` leaves errors only. Progress is shown on a terminal only, and only when there is something to wait for.
- Text from outside is text: control and direction characters are escaped, and nothing in it is markup.
- Telling is no part of the work: a terminal that takes nothing, or a bar that fails, ends no run.
"""

from __future__ import annotations

import contextlib
import contextvars
import io
import json
import os
import stat
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import ModuleType
from typing import IO, TYPE_CHECKING, Any, ClassVar, Final, NoReturn

import click

from sealwax._core import disk, trusted
from sealwax._core.context import printable
from sealwax.errors import FileError, NotAnEnvelopeError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

quiet = False
verbose = False

# Less than this is done before a bar could be read.
PROGRESS_FROM_BYTES: Final = 64 << 20
_REDRAW_SECONDS: Final = 0.1
# For each of rich's consoles: none of what it prints is markup, an emoji's name, or a number to be colored.
_AS_IT_IS: Final[Mapping[str, Any]] = {"markup": False, "emoji": False, "highlight": False}


_held: contextvars.ContextVar[list[str] | None] = contextvars.ContextVar("sealwax_held", default=None)


@contextlib.contextmanager
def held(into: list[str] | None) -> Iterator[None]:
    """Keep what is said inside, for :func:`explain` to print when its turn comes; None: it is said at once."""
    token = _held.set(into)
    try:
        yield
    finally:
        _held.reset(token)


def say(text: str) -> None:
    """Say something that must be heard."""
    explain(f"sealwax: {text}")


def explain(text: str) -> None:
    """Print to standard error what is no sentence of ours: a usage, a traceback."""
    if (held := _held.get()) is not None:
        held.append(text)
        return
    try:
        click.echo(lines(text), err=True)
    except OSError:
        # Nobody can read it; the exit status still says what became of the work.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


def tell(text: str) -> None:
    """Say something that -q silences."""
    if not quiet:
        say(text)


def lines(text: str) -> str:
    """Return a text with its lines kept, and characters that control a terminal or the direction as escapes."""
    return "\n".join(map(printable, text.split("\n")))


def complain(error: Exception, about: str | None = None) -> None:
    """Print what failed, on which file, and the option that helps if there is one."""
    message = f"{error}{_option_for(error)}"
    say(f"{shown(about)}: {message}" if about else message)


def _option_for(error: Exception) -> str:
    """Return what to add to the library's message, which never speaks of options."""
    if isinstance(error.__cause__, FileExistsError):
        return "; use --force to overwrite"
    foreign = error.foreign if isinstance(error, NotAnEnvelopeError) else None
    return " (--armor does)" if foreign is not None and foreign.format == "sealwax-text" else ""


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
            StandardOutput.stream()
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
    rows = [tuple(map(printable, row)) for row in rows]
    if not sys.stdout.isatty():
        widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
        for row in (head, *rows):
            put("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*map(_column, head), box=None, pad_edge=False)
    for row in rows:
        table.add_row(*map(Text, row))
    Console(**_AS_IT_IS).print(table)


def _column(name: str) -> Any:
    from rich.table import Column
    from rich.text import Text

    return Column(Text(name))


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
            raise FileError(f"{cls.doing} {cls.name_} failed: {disk.reason(error)}") from error

    @classmethod
    def stream(cls) -> IO[Any]:
        stream = sys.stdin if cls.doing == "reading" else sys.stdout
        if stream is None:
            raise FileError(f"{cls.name_} is closed")
        return stream

    @classmethod
    def descriptor(cls) -> int:
        return cls.stream().fileno()


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


_claimed: set[tuple[int, int]] = set()


def begin() -> None:
    """Begin another run."""
    _claimed.clear()


def claim(path: str) -> None:
    """Note that something is about to be read to its end.

    Standard input, or a pipe, has then nothing left, and whoever reads it next would take that for empty data.

    Raises:
        click.UsageError: it was given for something else too.
    """
    descriptor = 0 if path == "-" else trusted.handed_in(path)
    try:
        status = os.stat(path if descriptor is None else descriptor)
    except OSError:
        return  # whoever opens it says so
    if descriptor is None and not stat.S_ISFIFO(status.st_mode):
        return
    place = status.st_dev, status.st_ino
    if place in _claimed:
        raise click.UsageError(f"{shown(path)} is given for two things, and can be read once")
    _claimed.add(place)


def read_text(path: str, kind: trusted.Kind, most: int) -> str:
    """Return the text of a small file that decides something, of at most ``most`` bytes.

    Raises:
        FileError: it cannot be read.
        SealwaxError: of the kind's class: somebody else can have written it.
        click.UsageError: it is larger, or not text; or standard input, and given for something else too.
    """
    claim(path)
    try:
        with trusted.open_file(path, kind) as file:
            data = file.read(most + 1)
    except OSError as error:
        raise FileError(f"reading '{printable(path)}' failed: {disk.reason(error)}") from error
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


def leave_at_once(signal_number: int, _: object) -> NoReturn:
    """End the process, as a signal does that nobody handles: an exception would wait for threads, and they for AWS."""
    if sys.stderr.isatty():
        sys.stderr.write("\x1b[?25h")  # a progress bar hides the cursor
        sys.stderr.flush()
    os._exit(128 + signal_number)


@contextlib.contextmanager
def progress(name: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """Lend a function that is told how many more bytes are done, and shows it where it is worth it.

    Where the total is not known, that is once much is done. A bar is the main thread's, which alone prints.
    """
    beside = threading.current_thread() is not threading.main_thread()
    if quiet or beside or not sys.stderr.isatty() or (total is not None and total < PROGRESS_FROM_BYTES):
        yield lambda _: None
        return
    done = 0
    bar: _Bar | None = None

    def more(size: int) -> None:
        nonlocal done, bar
        done += size
        if bar is None and (total is not None or done >= PROGRESS_FROM_BYTES):
            bar = _Bar(shown(name), _byte_columns)
        if bar is not None:
            bar.show(done, total)

    try:
        yield more
    finally:
        if bar is not None:
            bar.close()


@contextlib.contextmanager
def counting(doing: str) -> Iterator[Callable[[int, int], None]]:
    """Lend a function that is told how many objects are done and how many there are, and shows it on a terminal."""
    if quiet or not sys.stderr.isatty():
        yield lambda _done, _total: None
        return
    bar = _Bar(doing, _count_columns)
    try:
        yield lambda done, total: bar.show(done, total or None)
    finally:
        bar.close()


def _byte_columns(bars: ModuleType) -> tuple[Any, ...]:
    return (
        bars.BarColumn(),
        bars.DownloadColumn(binary_units=True),
        bars.TransferSpeedColumn(),
        bars.TimeRemainingColumn(),
    )


def _count_columns(bars: ModuleType) -> tuple[Any, ...]:
    return (
        bars.BarColumn(),
        bars.TextColumn("{task.completed:,.0f}", markup=False),
        bars.TimeElapsedColumn(),
        bars.TimeRemainingColumn(),
    )


class _Bar:
    """A bar on the terminal. Whatever fails in it ends the bar, and the work goes on without.

    It is drawn when it is told of something, and by no thread of its own: nobody could catch what fails there.
    """

    def __init__(self, description: str, columns: Callable[[ModuleType], tuple[Any, ...]]) -> None:
        self._streams = sys.stdout, sys.stderr
        self._drawn = 0.0
        self._shown: Any = None
        with self._spared():
            from rich import progress as bars
            from rich.console import Console

            self._shown = bars.Progress(
                bars.TextColumn("{task.description}", markup=False),
                *columns(bars),
                console=Console(stderr=True, **_AS_IT_IS),
                transient=True,
                auto_refresh=False,
            )
            self._task = self._shown.add_task(description, total=None)
            self._shown.start()

    def show(self, done: int, total: int | None) -> None:
        with self._spared():
            if self._shown is not None:
                self._shown.update(self._task, completed=done, total=total)
                if (now := time.monotonic()) - self._drawn >= _REDRAW_SECONDS:
                    self._drawn = now
                    self._shown.refresh()

    def close(self) -> None:
        with self._spared():
            bar, self._shown = self._shown, None
            if bar is not None:
                bar.stop()

    @contextlib.contextmanager
    def _spared(self) -> Iterator[None]:
        try:
            yield
        except Exception:  # of any kind: see the class
            bar, self._shown = self._shown, None
            if bar is not None:
                with contextlib.suppress(Exception):
                    bar.stop()
            sys.stdout, sys.stderr = self._streams  # which the bar had put others in the place of
