"""Turns the files and folders on the command line into jobs with one source and one output each."""

from __future__ import annotations

import contextlib
import functools
import os
import stat
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

import click

from sealwax._core import disk, files
from sealwax.cli import console, locations, outcomes
from sealwax.cli.outcomes import LeftAloneError
from sealwax.cli.state import current
from sealwax.cli.work import STREAM, Work
from sealwax.errors import FileError
from sealwax.stores._store import is_missing_location


@dataclass(frozen=True, slots=True)
class FileJob:
    """One file, object or stream to work on.

    Attributes:
        source: a path, or "-" for a stream.
        output: likewise; None if the verb has none, or works in place.
        relpath: the plaintext file's path below the folder that was named, with "/" as separator; None for a stream.
        root: the folder that the source was found in; below it no link is followed.
        into: the folder that the output goes below; likewise.
        problem: why the job cannot start.
        below: whether it was found in a folder or below a prefix, not named.
        size: in bytes, if a listing told it.
        skipped: why nothing is done with it; None for all that a run works on.
    """

    source: str
    output: str | None
    relpath: str | None
    root: str | None = None
    into: str | None = None
    problem: FileError | None = None
    below: bool = False
    size: int | None = None
    skipped: Skip | None = None


@dataclass(frozen=True, slots=True)
class Skip:
    """Why a file is skipped.

    Attributes:
        counted: as the summary counts it.
        reason: a clause about one file.
    """

    counted: str
    reason: str


_EXCLUDED: Final = Skip("excluded", "excluded by --exclude")
_IRREGULAR: Final = Skip("not a regular file", "it is not a regular file")
INSTRUCTIONS: Final = Skip("a file of instructions", "it is the instruction file of another object")
_WITHIN: Final = Skip("a link within the run", "it is a link, and its target is part of this run")
_LAB: Final = Skip("the lab in use", "it is the lab in use")
_MARKER: Final = Skip("a marker of a folder", "it stands for a folder")


@dataclass(frozen=True, slots=True)
class _Found:
    """A file or object below a folder or prefix that was named.

    Attributes:
        relpath: its path below that; "" for what is not taken.
        followed: whether a link leads to it.
    """

    path: str
    relpath: str = ""
    size: int | None = None
    problem: FileError | None = None
    skipped: Skip | None = None
    followed: bool = False


def collect(work: Work, *, output_name: Callable[[str], str] | None) -> Iterator[FileJob]:
    """Yield a job for each source, and for each file below a folder. The first comes after every check.

    ``output_name`` returns the output's name for a source's; it is None if nothing is written without -o.
    """
    sources, folders, into_folder = _checked(work)
    named = {
        source: _named(work, source, into_folder, output_name)
        for source in sources
        if source != STREAM and source not in folders
    }
    for source in sources:
        if source == STREAM:
            yield FileJob(STREAM, (work.output or STREAM) if work.writes else None, None)
        elif source in named:
            yield named[source]
        else:
            entries = _walk_s3(work, source) if locations.is_s3(source) else Walk(work, source, folders).found()
            yield from _below(work, source, entries, into_folder, output_name)


def _below(
    work: Work, source: str, entries: Iterator[_Found], into_folder: bool, output_name: Callable[[str], str] | None
) -> Iterator[FileJob]:
    """Yield a job for each file below a folder or prefix, and an error if there is nothing to work on."""
    anything = meant = False
    excluded = 0
    for entry in entries:
        anything = True
        meant = meant or entry.skipped is None
        excluded += entry.skipped is _EXCLUDED
        if entry.skipped is not None:
            yield FileJob(entry.path, None, None, below=True, skipped=entry.skipped)
        elif entry.problem is not None:
            known = not is_missing_location(entry.problem)
            yield FileJob(entry.path, None, None, problem=entry.problem, below=known)
        else:
            job = _job(work, entry.path, entry.relpath, source, into_folder, output_name)
            if entry.followed:  # as if it had been named
                job = replace(job, root=None, into=None if work.output is None else job.into)
            yield replace(job, below=True, size=entry.size)
    if not meant and (work.of_envelopes or (locations.is_s3(source) and not anything)):
        yield FileJob(source, None, None, problem=_nothing_in(work, source, anything, excluded))


def _checked(work: Work) -> tuple[Sequence[str], list[str], bool]:
    """Return the sources, those of them that are folders or prefixes to take whole, and whether -o is a folder."""
    sources, output = work.sources, work.output
    if not sources:
        if sys.stdin is None:
            raise click.UsageError("standard input is closed; name a file")
        # A terminal, or /dev/null as services have it: then a name was forgotten, or a variable is empty.
        if stat.S_ISCHR(os.fstat(0).st_mode):
            raise click.UsageError("name a file, or - for standard input")
        sources = (STREAM,)
    if sources.count(STREAM) > 1 or (work.writes and STREAM in sources and len(sources) > 1):
        raise click.UsageError("- (standard input) cannot be combined with other files")
    folders = [source for source in sources if source != STREAM and (os.path.isdir(source) or locations.is_s3(source))]
    header = () if work.detached is None or not work.of_envelopes else (work.detached,)
    for name in (*sources, *header):
        if name not in folders:
            console.claim(name)
    if not work.recursive:
        for source in folders:
            if not locations.is_s3(source):
                raise click.UsageError(f"'{console.shown(source)}' is a folder; use -r to process the files in it")
            locations.refuse_prefix(source)
        folders = []
    into_folder = output not in (None, STREAM) and (
        bool(folders)
        or len(sources) > 1
        or output.endswith("/")
        or locations.is_prefix(output)
        or os.path.isdir(output)
    )
    if output == STREAM and (folders or len(sources) > 1):
        raise click.UsageError("several files cannot be written to one stream; name a folder with -o")
    if STREAM in sources and into_folder:
        raise click.UsageError("standard input has no file name; name the output file with -o")
    return sources, folders, into_folder


def _nothing_in(work: Work, source: str, anything: bool, excluded: int) -> FileError:
    if locations.is_s3(source) and not anything:
        return FileError("there are no objects below this prefix; check the name")
    if excluded:
        return FileError(f"no envelopes found: --exclude leaves out {excluded:,} of its entries; check the patterns")
    return FileError(
        f"no envelopes found: no name ends with {work.shown_suffixes}; check the place, or name another suffix with "
        "--suffix"
    )


def _named(work: Work, source: str, into_folder: bool, output_name: Callable[[str], str] | None) -> FileJob:
    if not locations.is_s3(source):
        try:
            os.stat(source)
        except OSError as error:  # before its name is checked
            why = f"opening '{console.shown(source)}' failed: {disk.reason(error)}"
            typed_like_cp = len(work.sources) == 2 and source == work.sources[1] and work.output is None
            if typed_like_cp and output_name is not None and isinstance(error, FileNotFoundError):
                why += f"; each name is an input: to write elsewhere, use {current().elsewhere}"
            if work.of_envelopes:
                return FileJob(source, None, None, problem=FileError(why))
            job = _job(work, source, os.path.basename(source), None, into_folder, output_name)
            return replace(job, problem=FileError(why))
    return _job(work, source, os.path.basename(source), None, into_folder, output_name)


def _job(
    work: Work,
    source: str,
    relpath: str,
    root: str | None,
    into_folder: bool,
    output_name: Callable[[str], str] | None,
) -> FileJob:
    if work.lab is not None and not locations.is_s3(source) and _is_in(work.lab, source):
        problem = FileError("it belongs to the lab in use, whose keys would be encrypted under themselves")
        return FileJob(source, None, None, problem=problem)
    parent, slash, name = relpath.rpartition("/")
    plain = parent + slash + work.plain_name(name)
    root = None if locations.is_s3(source) else root
    into = None
    if work.output is None:
        into = root
        written = None if output_name is None else source[: len(source) - len(name)] + output_name(name)
    elif into_folder:
        into = work.output
        written = os.path.join(work.output, parent, (output_name or str)(name))
    else:
        written = work.output
    return FileJob(source, written, plain, root, into)


def _is_in(folder: str, file: str) -> bool:
    return os.path.dirname(locations.real(file)) == locations.real(folder)


def _walk_s3(work: Work, prefix: str) -> Iterator[_Found]:
    for entry in locations.walk(prefix):
        if isinstance(entry, FileError):  # the rest, or all of it, could not be listed
            yield _Found(prefix, problem=entry)
            continue
        name, relpath, size = entry
        if work.filters.exclude_below(relpath.removesuffix("/")):
            yield _Found(name, skipped=_EXCLUDED)
        elif name.endswith("/"):
            if size and not work.of_envelopes:
                why = "its name ends with '/', but it holds data; copy it to another name"
                yield _Found(name, problem=LeftAloneError(outcomes.IN_THE_WAY, why))
            else:
                yield _Found(name, skipped=_MARKER)
        elif (reason := work.reason_to_skip(relpath.rpartition("/")[2])) is not None:
            yield _by_name(work, name, reason)
        elif "\0" in relpath or any(part in ("", ".", "..") for part in relpath.split("/")):
            why = "its name is not a valid path in a folder; name it on the command line"
            yield _Found(name, problem=LeftAloneError(outcomes.IN_THE_WAY, why))
        else:
            yield _Found(name, relpath, size)


def _by_name(work: Work, path: str, reason: str) -> _Found:
    """Skip a file because of its name, but report a plaintext that is named like an envelope."""
    if not work.of_envelopes:
        try:
            if not locations.begins_as_envelope(path):
                why = f"{reason}, but it is not an envelope, so it was not encrypted; rename it"
                return _Found(path, problem=LeftAloneError(outcomes.IN_THE_WAY, why))
        except FileError as error:
            return _Found(path, problem=error)
    counted = f"without {work.shown_suffixes}" if work.of_envelopes else "already an envelope"
    return _Found(path, skipped=Skip(counted, reason))


class Walk:
    """Finds what is below a folder.

    Args:
        folder: it may be a link itself.
        folders: all folders and prefixes of the run.
    """

    def __init__(self, work: Work, folder: str, folders: Sequence[str]) -> None:
        self._work = work
        self._folder = folder
        self._roots = [locations.real(root) for root in folders if not locations.is_s3(root)]
        self._output = None if work.output is None or locations.is_s3(work.output) else locations.real(work.output)
        self._failed: list[_Found] = []
        # By device and inode; only if links are followed, which may lead in circles, and to one folder many times.
        self._entered: set[tuple[int, int]] = set()

    def found(self) -> Iterator[_Found]:
        """Yield everything, in order, and then what could not be read."""
        yield from self._in(self._folder, followed=False)
        yield from self._failed

    def _fail(self, what: str, error: OSError) -> None:
        why = f"{what} '{console.shown(str(error.filename))}' failed: {disk.reason(error)}"
        self._failed.append(_Found(self._folder, problem=FileError(why)))

    def _in(self, top: str, *, followed: bool) -> Iterator[_Found]:
        waiting = [(top, followed)]
        while waiting:
            top, followed = waiting.pop()
            linked: list[str] = []
            for parent, folders, names in files.walk(top, functools.partial(self._fail, "reading the folder")):
                if (skipped := self._refused(parent)) is not None:
                    folders.clear()
                    yield skipped
                    continue
                yield from self._folders(parent, folders, linked)
                for name in sorted(names):
                    yield from self._file(os.path.join(parent, name), followed)
            waiting += [(path, True) for path in reversed(linked)]

    def _refused(self, folder: str) -> _Found | None:
        """Return why a folder is not entered."""
        if self._work.lab is not None and _is_same(folder, self._work.lab):
            # Its keys would be encrypted under themselves. And reading its database as a file, then closing it, would
            # drop the locks that this process holds on it.
            return _Found(folder, skipped=_LAB)
        if self._work.follow_links:
            try:
                status = os.stat(folder)
            except OSError:
                return None  # it was read a moment ago
            place = status.st_dev, status.st_ino
            if place in self._entered:
                return _Found(folder, skipped=_WITHIN)
            self._entered.add(place)
        return None

    def _relpath(self, path: str) -> str:
        return os.path.relpath(path, self._folder).replace(os.sep, "/")

    def _folders(self, parent: str, folders: list[str], linked: list[str]) -> Iterator[_Found]:
        """Take out of ``folders`` what is not entered, and add links to follow to ``linked``."""
        folders.sort()
        for name in tuple(folders):
            path = os.path.join(parent, name)
            if self._work.filters.exclude(self._relpath(path), folder=True):
                folders.remove(name)
                yield _Found(path, skipped=_EXCLUDED)
            elif os.path.islink(path):
                found = self._link(path)
                if found is None:
                    linked.append(path)
                else:
                    yield found

    def _file(self, path: str, followed: bool) -> Iterator[_Found]:
        work = self._work
        relpath = self._relpath(path)
        if work.filters.exclude(relpath):
            yield _Found(path, skipped=_EXCLUDED)
            return
        try:
            status = os.lstat(path)
            link = stat.S_ISLNK(status.st_mode)
            if link and work.follow_links and os.path.exists(path):
                status = os.stat(path)
        except OSError as gone:  # deleted meanwhile, or in a folder without search permission
            self._fail("reading", gone)
            return
        reason = work.reason_to_skip(os.path.basename(path))
        if not stat.S_ISREG(status.st_mode) and not stat.S_ISLNK(status.st_mode):
            yield _Found(path, skipped=_IRREGULAR)
        elif reason is not None and not (link and not os.path.isfile(path)):
            yield _by_name(work, path, reason)
        elif link and (found := self._link(path)) is not None:
            yield found
        else:
            place = os.path.join(self._folder, relpath.replace("/", os.sep))
            yield _Found(place, relpath, status.st_size, followed=followed or link)

    def _link(self, path: str) -> _Found | None:
        """Return why a link is not followed: this run takes its target anyway, it leads nowhere, or nobody asked."""
        work = self._work
        target = os.path.realpath(path)
        is_folder = os.path.isdir(target)

        def left(why: str) -> _Found:
            return _Found(path, problem=LeftAloneError(outcomes.LINK, why))

        if not os.path.exists(target):
            return left("it is a link that leads nowhere; remove it")
        if work.follow_links:
            if is_folder and self._output is not None and (_is_below(self._output, target, or_same=True)):
                return left(
                    "it is a link to a folder that holds the output of this run; write elsewhere with "
                    f"{current().elsewhere}"
                )
            return None
        inside = any(_is_below(target, root, or_same=True) for root in self._roots)
        in_lab = work.lab is not None and _is_below(target, locations.real(work.lab), or_same=True)
        taken = is_folder or (os.path.isfile(target) and not work.reason_to_skip(os.path.basename(target)))
        if inside and not in_lab and taken and not self._excludes(target):
            return _Found(path, skipped=_WITHIN)
        kind = "a link to a folder" if is_folder else "a link"
        named = "name it on the command line, with -r" if is_folder else "name it on the command line"
        return left(f"it is {kind}, and -r does not follow links; {named}, or use --follow-links")

    def _excludes(self, target: str) -> bool:
        """Whether the filters exclude what a link leads to, so that this run does not take it by its own name."""
        return (
            all(
                self._work.filters.exclude_below(os.path.relpath(target, root).replace(os.sep, "/"))
                for root in self._roots
                if _is_below(target, root)
            )
            and bool(self._work.filters.rules)
            and target not in self._roots
        )


def _is_below(path: str, folder: str, *, or_same: bool = False) -> bool:
    return (or_same and path == folder) or path.startswith(os.path.join(folder, ""))


def _is_same(path: str, other: str) -> bool:
    # By device and inode: resolving each folder's canonical name would read all those above it each time.
    try:
        return os.path.samefile(path, other)
    except OSError:
        return False


def refuse_needed(output: str, *, plaintext: bool) -> None:
    """Refuse to overwrite a file that the run reads beside its sources: settings, pairs of the context, the lab.

    Plaintext may bring back all but the lab, as from a backup.
    """
    place, state = locations.real(output), current()
    if place in state.of_lab or (place in state.needed and not plaintext):
        raise FileError(
            f"the output would overwrite '{console.shown(output)}', which this run reads; name another with -o"
        )


def refuse_output(job: FileJob, taken: str | None, what: str) -> None:
    """Refuse to overwrite another file that the job needs."""
    if taken is not None and job.output is not None and locations.real(job.output) == locations.real(taken):
        raise FileError(f"the output would overwrite the {what}; name another file with -o")


@contextlib.contextmanager
def folder_of(job: FileJob) -> Iterator[int | None]:
    """Keep the folder of a job's source open, reached without following a link; None for a source that was named."""
    if job.root is None:
        yield None
    else:
        with files.folder_of(job.source, job.root) as folder:
            yield folder
