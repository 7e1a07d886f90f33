"""Output and input of the command line.

- Data goes to standard output, everything else to standard error.
- An error is one sentence: what failed, where, why, what to do. A file that succeeds gets one line.
- ``-q`` leaves errors, and on standard output what was asked for: data, ``--json``, and the answers of commands that
  only answer. Progress is shown on a terminal only, and only if there is something to wait for.
- Foreign text stays text: control and direction characters are escaped, and markup in it is not interpreted.
- Messages are not the work: a terminal that accepts nothing, or a progress bar that fails, does not end a run.
"""

from __future__ import annotations

import contextlib
import contextvars
import io
import json
import os
import re
import shlex
import shutil
import signal
import stat
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import FrameType, ModuleType
from typing import IO, TYPE_CHECKING, Any, ClassVar, Final, NoReturn

import click

from sealwax._core import disk, trusted
from sealwax._core.foreign.rules import UNMARKED
from sealwax._text import printable
from sealwax.cli.state import current
from sealwax.errors import FileError, KeyStoreError, NotAnEnvelopeError, RecordError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

    from sealwax._foreign import ForeignFormat

# Anything smaller is done before a bar could be read.
PROGRESS_FROM_BYTES: Final = 64 << 20
# They show no colors, and do not move the cursor.
_PLAIN_TERMINALS: Final = ("dumb", "unknown")
_NARROWEST: Final = 20
_REDRAW_SECONDS: Final = 0.1
# For each of rich's consoles: it interprets no markup and no emoji names, and colors no numbers.
_AS_IT_IS: Final[Mapping[str, Any]] = {"markup": False, "emoji": False, "highlight": False}

_held: contextvars.ContextVar[list[str] | None] = contextvars.ContextVar("sealwax_held", default=None)


@contextlib.contextmanager
def held(into: list[str] | None) -> Iterator[None]:
    """Keep messages in a list instead of printing them, for ``stderr`` to print later; None prints at once."""
    token = _held.set(into)
    try:
        yield
    finally:
        _held.reset(token)


def warn(text: str) -> None:
    """Print an error, or what helps with one; -q does not silence it."""
    stderr(f"sealwax: {text}")


def stderr(text: str) -> None:
    """Print text to standard error without our name in front: a usage, a traceback."""
    if (held := _held.get()) is not None:
        held.append(text)
        return
    try:
        with Bar.aside():
            click.echo(_escaped(text), err=True)
    except OSError:
        # Nobody can read it; the exit status still reports the outcome.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


def info(text: str) -> None:
    """Print a message that -q silences."""
    if not current().quiet:
        warn(text)


def info_once(text: str) -> None:
    """Print a message that -q silences, unless this run has printed it before."""
    said = current().said
    if text not in said:
        said.add(text)
        info(text)


def next_command(*more: str) -> str:
    """Return the command that is running with more options, for pasting."""
    words = list(current().arguments)
    end = words.index("--") if "--" in words else len(words)
    return printable(shlex.join(["sealwax", *words[:end], *more, *words[end:]]))


def counted(number: int, noun: str, plural: str = "") -> str:
    """Return a number with its noun, in the plural unless it is 1."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def _escaped(text: str) -> str:
    """Return a text with control and direction characters escaped, except line feeds."""
    return "\n".join(map(printable, text.split("\n")))


# What to do about a key store, as the library says it, and as it is typed. tests/cli/test_record_hints.py has them all.
_IN_COMMANDS: Final[Mapping[str, str]] = {
    "and the plan does not move": "and the plan does not move; plan again with --move",
    "the plan drops no signatures": "to move it without its signature, plan again with --drop-signature",
    "the plan does not allow that format by name": "to read it, plan again with --allow-legacy and that name",
    "create_table()": "`sealwax records create-table`",
    "reopen()": "`sealwax records reopen`",
    "roll()": "`sealwax records roll`",
    "; a key store that only opens may set read_only=True": "",
    "; if it is this program's own, call ensure() before that transaction begins": "; run the command again once it "
    "has ended",
    "ensure()": "`sealwax records ensure`",
    "Nothing is sealed until repair() puts the key back, or accept() says that the older state is right; keys that are "
    "held still open.": "`sealwax records repair` puts the key back; if the older state is right, run the command "
    "again.",
    "This process still has the row: repair() puts it back": "`sealwax records repair` puts it back from a copy of the "
    "store",
}


_TO_ALLOW: Final = re.compile(r"to read it, allow (\S+) by name")


def in_commands(text: str) -> str:
    """Return what the library says about a key store or a plan, with commands and options in place of its own words."""
    for said, typed in _IN_COMMANDS.items():
        text = text.replace(said, typed)
    return text


def _has_text_form(foreign: ForeignFormat) -> bool:
    is_text = foreign.format.startswith("esdk") and foreign.advice == "decode it first"
    return is_text or foreign.format == "sealwax-text"


def in_options(text: str) -> str:
    """Return what the library says about a format that has to be allowed, with the option that allows it."""
    context = click.get_current_context(silent=True)
    options = [] if context is None else [name for each in context.command.params for name in each.opts]

    def named(allowed: re.Match[str]) -> str:
        option = "--format" if allowed[1] in UNMARKED else "--allow-legacy"
        reading = "to read it, use" if option in options else "decrypt, verify and migrate read it with"
        return f"{reading} {option} {allowed[1]}"

    return _TO_ALLOW.sub(named, text)


def error(error: Exception, about: str | None = None) -> None:
    """Print an error, and the file it is about; the library's message never names an option."""
    foreign = error.foreign if isinstance(error, NotAnEnvelopeError) else None
    message = f"{error}, or use --armor" if foreign is not None and _has_text_form(foreign) else str(error)
    if isinstance(error, KeyStoreError | RecordError):
        message = in_commands(message)
    message = in_options(message)
    warn(f"{shown(about)}: {message}" if about else message)


def shown(name: str) -> str:
    """Return a file's name for messages."""
    return "standard input" if name == "-" else printable(os.fsdecode(name))


class _NoOutput(click.ClickException):
    """Standard output cannot be written to, which ends the run."""

    def show(self, file: IO[Any] | None = None) -> None:  # noqa: ARG002  click's signature
        warn(self.message)


def print(text: str) -> None:  # noqa: A001  read as console.print
    """Print to standard output."""
    try:
        with StandardOutput.reported():
            StandardOutput.stream()
            with Bar.aside():
                click.echo(text, color=colored(sys.stdout))
    except FileError as error:
        drop_output()
        raise _NoOutput(str(error)) from None


def report(text: str) -> None:
    """Print to standard output what a command did, unless -q was given."""
    if not current().quiet:
        print(text)


def colored(stream: IO[Any] | None) -> bool:
    """Whether to write colors to a stream: https://no-color.org/ and https://force-color.org/, or what it is."""
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return stream is not None and stream.isatty() and os.environ.get("TERM") not in _PLAIN_TERMINALS


def draws() -> bool:
    """Whether standard error is a terminal that a bar can be drawn on."""
    return sys.stderr.isatty() and os.environ.get("TERM") not in _PLAIN_TERMINALS


def width() -> int | None:
    """Return how wide the text on standard output may be: COLUMNS, or the terminal's width; None without a terminal."""
    if sys.stdout is None or not sys.stdout.isatty():
        return None
    return max(shutil.get_terminal_size().columns, _NARROWEST)


def print_json(value: Mapping[str, Any]) -> None:
    """Print one object on one line."""
    print(json.dumps(value))


def print_columns(head: tuple[str, ...], rows: Sequence[tuple[str, ...]], *, bold: bool = False) -> None:
    """Print rows below a head, in columns of any width."""
    widths = _widths(head, rows)
    for row in (head, *rows):
        line = "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
        print(click.style(line, bold=True) if bold and row is head else line)


def print_table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    """Print rows below a head; one field below the other where the terminal is too narrow, so that nothing is cut."""
    rows = [tuple(map(printable, row)) for row in rows]
    if fits(head, rows):
        print_columns(head, rows, bold=width() is not None)
        return
    indent = max(map(len, head)) + 2
    names = [name.lower() for name in head]
    print("\n\n".join(facts(list(zip(names, row, strict=True)), indent) for row in rows))


def fits(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> bool:
    """Whether columns are no wider than the terminal; without one, they may have any width."""
    columns, widths = width(), _widths(head, rows)
    return columns is None or sum(widths) + 2 * (len(widths) - 1) <= columns


def _widths(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> list[int]:
    return [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]


def facts(lines: Sequence[tuple[str, str]], indent: int = 10) -> str:
    """Return named facts, one below the other; on a terminal, none is wider than it if it can be broken."""
    columns = width()

    def folded(text: str) -> str:
        if columns is None:
            return text
        broken = textwrap.wrap(text, max(columns - indent, _NARROWEST), break_long_words=False, break_on_hyphens=False)
        return f"\n{'':<{indent}}".join(broken)

    return "\n".join(f"{name:<{indent}}{folded(text)}" for name, text in lines)


def drop_output() -> None:
    """Keep the interpreter's last flush of standard output from failing again."""
    if sys.stdout is not None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


class _StandardStream(io.FileIO):
    """A standard stream, unbuffered, whose failures are ``FileError``; it is never closed."""

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
    """Replaces ``sys.stdin`` while standard input is reserved for the data: a descriptor without content."""

    def fileno(self) -> int:
        return 0

    def isatty(self) -> bool:
        return os.isatty(0)

    def read(self, _size: int | None = -1, /) -> NoReturn:
        raise OSError("standard input is reserved for the data to encrypt or decrypt")

    def readline(self, _size: int = -1, /) -> NoReturn:  # type: ignore[override]  # of bytes, say the stubs of its base
        self.read()


class StandardInput(_StandardStream):
    name_ = "standard input"
    doing = "reading"

    @classmethod
    def reserve(cls) -> None:
        """Reserve standard input for the data, so that no library or child process reads a part of it.

        Descriptor 0 stays open for /dev/stdin, but child processes do not inherit it.
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


def need(path: str) -> None:
    """Note a small file that the run reads to its end beside its sources, and so must not overwrite."""
    claim(path)
    if path != "-":
        current().needed.add(os.path.realpath(path))


def claim(path: str) -> None:
    """Note that a file is about to be read to its end.

    Standard input and pipes are empty afterwards, and a second reader would take that for empty data.
    """
    descriptor = 0 if path == "-" else trusted.handed_in(path)
    try:
        status = os.stat(path if descriptor is None else descriptor)
    except OSError:
        return  # opening it reports the error
    if descriptor is None and not stat.S_ISFIFO(status.st_mode):
        return
    place = status.st_dev, status.st_ino
    claimed = current().claimed
    if place in claimed:
        raise click.UsageError(f"{shown(path)} was given twice, but can be read only once")
    claimed.add(place)


def read_text(path: str, kind: trusted.Kind, most: int) -> str:
    """Return the text of a small file that must be trustworthy, of at most ``most`` bytes."""
    from sealwax._core.files import reported

    need(path)
    with reported(f"reading {kind.name}", path), trusted.open_file(path, kind) as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise click.UsageError(f"'{printable(path)}' is too large: it has more than {most:,} bytes")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise click.UsageError(f"'{printable(path)}' is not UTF-8") from None


@contextlib.contextmanager
def overwriting(name: str) -> Iterator[None]:
    """Name --force if the output already exists; the library names its arguments."""
    try:
        yield
    except FileError as error:
        if isinstance(error.__cause__, FileExistsError):
            raise FileError(f"'{shown(name)}' already exists; use --force to overwrite it") from error.__cause__
        raise


def leave_at_once(signal_number: int, _: object) -> NoReturn:
    """End the process at once; an exception would wait for threads, and they may wait for AWS."""
    if sys.stderr.isatty():
        sys.stderr.write("\x1b[?25h")  # a progress bar hides the cursor
        sys.stderr.flush()
    os._exit(128 + signal_number)


@contextlib.contextmanager
def on_signals(numbers: Iterable[int], handler: Callable[[int, FrameType | None], object]) -> Iterator[None]:
    """Handle signals inside. Ignored ones stay ignored, as nohup wants."""
    before = {
        number: signal.signal(number, handler) for number in numbers if signal.getsignal(number) != signal.SIG_IGN
    }
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)


# Takes the bytes just done of a file, while a bar is about a whole run; negative ones are taken back.
in_run: contextvars.ContextVar[Callable[[int], None] | None] = contextvars.ContextVar("sealwax_in_run", default=None)


@contextlib.contextmanager
def progress(name: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """Yield a function that takes the number of bytes just done, and draws a bar on a terminal for large data.

    Without a total, the bar appears once much is done. Only the main thread draws. In a run over several files, it is
    the run's bar.
    """
    if (advance := in_run.get()) is not None:
        with _part_of(advance) as part:
            yield part
        return
    in_thread = threading.current_thread() is not threading.main_thread()
    if in_thread or current().quiet or not draws() or (total is not None and total < PROGRESS_FROM_BYTES):
        yield lambda _: None
        return
    done = 0
    bar: Bar | None = None

    def more(size: int) -> None:
        nonlocal done, bar
        done += size
        if bar is None and (total is not None or done >= PROGRESS_FROM_BYTES):
            bar = Bar(shown(name), _byte_columns)
        if bar is not None:
            bar.show(done, total)

    try:
        yield more
    finally:
        if bar is not None:
            bar.close()


@contextlib.contextmanager
def _part_of(advance: Callable[[int], None]) -> Iterator[Callable[[int], None]]:
    """Yield a function for the bytes of one file, which count for themselves only while it is not done."""
    done = 0

    def more(size: int) -> None:
        nonlocal done
        done += size
        advance(size)

    try:
        yield more
    finally:
        advance(-done)


@contextlib.contextmanager
def counting(doing: str) -> Iterator[Callable[[int, int], None]]:
    """Yield a function that takes how many objects are done, of how many, and draws a bar on a terminal."""
    if current().quiet or not draws():
        yield lambda _done, _total: None
        return
    bar = Bar(doing, _count_columns)
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


class Bar:
    """A progress bar on the terminal. If it fails, it disappears and the work goes on.

    It is redrawn by ``show``, not by a thread of its own, in which nothing could catch a failure. Messages are printed
    above it.
    """

    _live: ClassVar[Bar | None] = None
    _lock: ClassVar[threading.RLock] = threading.RLock()

    def __init__(self, description: str, columns: Callable[[ModuleType], tuple[Any, ...]]) -> None:
        self._drawn = 0.0
        self._shown: Any = None
        with self._spared():
            from rich import progress as bars
            from rich.console import Console

            self._shown = bars.Progress(
                *([bars.TextColumn("{task.description}", markup=False)] if description else []),
                *columns(bars),
                console=Console(stderr=True, **_AS_IT_IS),
                transient=True,
                auto_refresh=False,
                redirect_stdout=False,
                redirect_stderr=False,
                expand=not description,
            )
            self._task = self._shown.add_task(description, total=None)
            self._shown.start()
            Bar._live = self

    def show(self, done: float, total: float | None, description: Callable[[], str] | None = None) -> None:
        """Advance the bar, and redraw it if the last time was a while ago.

        Args:
            description: returns a new one.
        """
        with self._spared():
            if self._shown is not None and (now := time.monotonic()) - self._drawn >= _REDRAW_SECONDS:
                self._drawn = now
                text = {} if description is None else {"description": description()}
                self._shown.update(self._task, completed=done, total=total, **text)
                self._shown.refresh()

    def close(self) -> None:
        with self._spared():
            bar, self._shown = self._shown, None
            if bar is not None:
                bar.stop()

    @classmethod
    @contextlib.contextmanager
    def aside(cls) -> Iterator[None]:
        """Keep the bar off the terminal while something is printed."""
        bar = cls._live
        if bar is None:
            yield
            return
        with cls._lock:
            with bar._spared():
                if bar._shown is not None:
                    bar._shown.stop()
            try:
                yield
            finally:
                with bar._spared():
                    if bar._shown is not None:
                        bar._shown.start()

    @contextlib.contextmanager
    def _spared(self) -> Iterator[None]:
        with self._lock:
            try:
                yield
            except Exception:  # of any kind: see the class
                bar, self._shown = self._shown, None
                if bar is not None:
                    with contextlib.suppress(Exception):
                        bar.stop()
            if self._shown is None and Bar._live is self:
                Bar._live = None
