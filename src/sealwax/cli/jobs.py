"""Turns the files and folders on the command line into jobs with one source and one output each."""

from __future__ import annotations

import contextlib
import functools
import os
import stat
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import click

from sealwax._core import disk, files
from sealwax.cli import console, locations, outcomes
from sealwax.cli.outcomes import LeftAloneError
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
        size: that of an object, if it was listed.
    """

    source: str
    output: str | None
    relpath: str | None
    root: str | None = None
    into: str | None = None
    problem: FileError | None = None
    below: bool = False
    size: int | None = None


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
    roots = [locations.real(source) for source in folders if not locations.is_s3(source)]
    for source in sources:
        if source == STREAM:
            yield FileJob(STREAM, (work.output or STREAM) if work.writes else None, None)
        elif source in named:
            yield named[source]
        else:
            anything = meant = False
            for entry in _walk_s3(work, source) if locations.is_s3(source) else _walk(work, source, roots):
                anything = True
                if entry is not None:
                    meant = True
                    path, below, size = entry
                    if isinstance(below, FileError):
                        yield FileJob(path, None, None, problem=below, below=not is_missing_location(below))
                    else:
                        job = _job(work, path, below, source, into_folder, output_name)
                        yield replace(job, below=True, size=size)
            if not meant and (work.of_envelopes or (locations.is_s3(source) and not anything)):
                yield FileJob(source, None, None, problem=_nothing_in(work, source, anything))


def _checked(work: Work) -> tuple[Sequence[str], list[str], bool]:
    """Return the sources, those of them that are folders or prefixes to take whole, and whether -o is a folder."""
    sources, output = work.sources, work.output
    if not sources:
        if sys.stdin is None:
            raise click.UsageError("standard input is closed; name a file")
        if sys.stdin.isatty():
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


def _nothing_in(work: Work, source: str, anything: bool) -> FileError:
    if locations.is_s3(source) and not anything:
        return FileError("there are no objects below this prefix; check the name")
    return FileError(
        f"no envelopes found: no name ends with '{work.suffix}'; check the place, or name another suffix with --suffix"
    )


def _named(work: Work, source: str, into_folder: bool, output_name: Callable[[str], str] | None) -> FileJob:
    if not locations.is_s3(source):
        try:
            os.stat(source)
        except OSError as error:  # before its name is checked
            why = f"opening '{console.shown(source)}' failed: {disk.reason(error)}"
            return FileJob(source, None, None, problem=FileError(why))
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


Found = tuple[str, str | FileError, int | None] | None
"""A file, its path below the folder that was named or the error, and an object's size; None for a skipped file."""


def _skip(path: str, reason: str) -> Found:
    console.info(f"{console.shown(path)}: skipped, {reason}")
    return None


def _walk_s3(work: Work, prefix: str) -> Iterator[Found]:
    for entry in locations.walk(prefix):
        if isinstance(entry, FileError):  # the rest, or all of it, could not be listed
            yield prefix, entry, None
            continue
        name, relpath, size = entry
        if name.endswith("/"):
            if size and not work.of_envelopes:
                yield (
                    name,
                    LeftAloneError(
                        outcomes.IN_THE_WAY,
                        "its name ends with '/', but it holds data; copy it to another name",
                    ),
                    None,
                )
            else:
                yield _skip(name, "it stands for a folder")
        elif (reason := work.reason_to_skip(relpath.rpartition("/")[2])) is not None:
            yield _by_name(work, name, reason)
        elif "\0" in relpath or any(part in ("", ".", "..") for part in relpath.split("/")):
            yield (
                name,
                LeftAloneError(
                    outcomes.IN_THE_WAY, "its name is not a valid path in a folder; name it on the command line"
                ),
                None,
            )
        else:
            yield name, relpath, size


def _by_name(work: Work, path: str, reason: str) -> Found:
    """Skip a file because of its name, but report a plaintext that is named like an envelope."""
    if not work.of_envelopes:
        try:
            if not locations.begins_as_envelope(path):
                why = f"{reason}, but it is not an envelope, so it was not encrypted; rename it"
                return path, LeftAloneError(outcomes.IN_THE_WAY, why), None
        except FileError as error:
            return path, error, None
    return _skip(path, reason)


def _walk(work: Work, folder: str, roots: list[str]) -> Iterator[Found]:
    """Yield what is below a folder, in order. Links are not followed. ``roots`` are all folders of the run."""
    failed: list[tuple[str, FileError, None]] = []

    def fail(what: str, error: OSError) -> None:
        name = str(error.filename)
        failed.append((folder, FileError(f"{what} '{console.shown(name)}' failed: {disk.reason(error)}"), None))

    for parent, folders, names in files.walk(folder, functools.partial(fail, "reading the folder")):
        if work.lab is not None and _is_same(parent, work.lab):
            # Its keys would be encrypted under themselves. And reading its database as a file, then closing it, would
            # drop the locks that this process holds on it.
            yield _skip(parent, "it is the lab in use")
            folders.clear()
            continue
        folders.sort()
        for name in folders:
            if os.path.islink(path := os.path.join(parent, name)):
                yield _link(work, path, roots)
        for name in sorted(names):
            path = os.path.join(parent, name)
            try:
                mode = os.lstat(path).st_mode
            except OSError as gone:  # deleted meanwhile, or in a folder without search permission
                fail("reading", gone)
                continue
            reason = work.reason_to_skip(name)
            if not stat.S_ISREG(mode) and not stat.S_ISLNK(mode):
                yield _skip(path, "it is not a regular file")
            elif reason is not None and not (stat.S_ISLNK(mode) and not os.path.isfile(path)):
                yield _by_name(work, path, reason)
            elif stat.S_ISLNK(mode):
                yield _link(work, path, roots)
            else:
                relpath = os.path.relpath(path, folder)
                yield os.path.join(folder, relpath), relpath.replace(os.sep, "/"), None
    yield from failed


def _is_same(path: str, other: str) -> bool:
    # By device and inode: resolving each folder's canonical name would read all those above it each time.
    try:
        return os.path.samefile(path, other)
    except OSError:
        return False


def _link(work: Work, path: str, roots: list[str]) -> Found:
    """Report a link as not followed, or skip it if this run takes its target anyway."""
    target = os.path.realpath(path)
    is_folder = os.path.isdir(target)
    if not os.path.exists(target):
        return path, LeftAloneError(outcomes.LINK, "it is a link that leads nowhere; remove it"), None
    inside = any(target == root or target.startswith(os.path.join(root, "")) for root in roots)
    in_lab = work.lab is not None and f"{target}/".startswith(f"{locations.real(work.lab)}/")
    if (
        inside
        and not in_lab
        and (is_folder or (os.path.isfile(target) and not work.reason_to_skip(os.path.basename(target))))
    ):
        return _skip(path, "it is a link, and its target is part of this run")
    if is_folder:
        why = "it is a link to a folder, and -r does not follow links; name it on the command line, with -r"
    else:
        why = "it is a link, and -r does not follow links; name it on the command line"
    return path, LeftAloneError(outcomes.LINK, why), None


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
