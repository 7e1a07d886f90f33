"""From the files and folders on the command line to single jobs: one source, one output, one fate each."""

from __future__ import annotations

import contextlib
import functools
import os
import stat
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import click

from sealwax._core import disk, files
from sealwax.cli import console, locations, outcomes
from sealwax.cli.outcomes import LeftAloneError
from sealwax.cli.work import STREAM, Work
from sealwax.errors import FileError
from sealwax.stores._store import is_missing_location


@dataclass(frozen=True, slots=True)
class Job:
    """One thing to do.

    ``source`` and ``output`` are paths, or "-" for a stream; ``output`` is None where the verb has none, or works in
    place. ``relpath`` is the plaintext file's path below the folder that was named, with "/" between its parts; None
    for a stream. ``root`` is the folder that the source was found in, and ``into`` the one that the output goes below:
    from there on no link is followed. ``problem`` is why it cannot be begun. ``below`` says whether it was met in a
    folder or below a prefix, and not named. ``size`` is that of an object, where it was listed.
    """

    source: str
    output: str | None
    relpath: str | None
    root: str | None = None
    into: str | None = None
    problem: FileError | None = None
    below: bool = False
    size: int | None = None


def collect(work: Work, *, output_name: Callable[[str], str] | None) -> Iterator[Job]:
    """Yield a job for each source, and for each file below a folder. The first comes after every check.

    Args:
        output_name: from the source's name to the output's; None where nothing is written without -o.

    Raises:
        click.UsageError: the sources and the output do not go together.
    """
    sources, output = work.sources, work.output
    if not sources:
        if sys.stdin is None:
            raise click.UsageError("standard input is closed: name a file")
        if sys.stdin.isatty():
            raise click.UsageError("name a file, or - for standard input")
        sources = (STREAM,)
    if sources.count(STREAM) > 1 or (work.writes and STREAM in sources and len(sources) > 1):
        raise click.UsageError("standard input goes alone")
    folders = [source for source in sources if source != STREAM and (os.path.isdir(source) or locations.is_s3(source))]
    header = () if work.detached is None or not work.of_envelopes else (work.detached,)
    for name in (*sources, *header):
        if name not in folders:
            console.claim(name)
    if not work.recursive:
        for source in folders:
            if not locations.is_s3(source):
                raise click.UsageError(f"'{console.shown(source)}' is a folder; -r takes what is in it")
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
        raise click.UsageError("several outputs do not go into one stream; name a folder with -o")
    if STREAM in sources and into_folder:
        raise click.UsageError("standard input has no name to be stored under; name a file with -o")
    named = {
        source: _named(work, source, into_folder, output_name)
        for source in sources
        if source != STREAM and source not in folders
    }
    roots = [locations.real(source) for source in folders if not locations.is_s3(source)]
    for source in sources:
        if source == STREAM:
            yield Job(STREAM, (output or STREAM) if work.writes else None, None)
        elif source in named:
            yield named[source]
        else:
            anything = meant = False
            for found in _walk_s3(work, source) if locations.is_s3(source) else _walk(work, source, roots):
                anything = True
                if found is not None:
                    meant = True
                    path, below, size = found
                    if isinstance(below, FileError):
                        yield Job(path, None, None, problem=below, below=not is_missing_location(below))
                    else:
                        job = _job(work, path, below, source, into_folder, output_name)
                        yield replace(job, below=True, size=size)
            if not meant and (work.of_envelopes or (locations.is_s3(source) and not anything)):
                yield Job(source, None, None, problem=_nothing_in(work, source, anything))


def _nothing_in(work: Work, source: str, anything: bool) -> FileError:
    if locations.is_s3(source) and not anything:
        return FileError("no object is below this prefix; see that it is the one that is meant")
    return FileError(
        f"no envelope was found: nothing in it has a name that ends with '{work.suffix}'; see that it is the place "
        "that is meant, or say with --suffix how their names end"
    )


def _named(work: Work, source: str, into_folder: bool, output_name: Callable[[str], str] | None) -> Job:
    if not locations.is_s3(source):
        try:
            os.stat(source)
        except OSError as error:  # before its name is judged
            why = f"opening '{console.shown(source)}' failed: {disk.reason(error)}"
            return Job(source, None, None, problem=FileError(why))
    return _job(work, source, os.path.basename(source), None, into_folder, output_name)


def _job(
    work: Work,
    source: str,
    relpath: str,
    root: str | None,
    into_folder: bool,
    output_name: Callable[[str], str] | None,
) -> Job:
    if work.lab is not None and not locations.is_s3(source) and _is_in(work.lab, source):
        problem = FileError("it is a file of the lab in use, whose keys would be sealed under themselves")
        return Job(source, None, None, problem=problem)
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
    return Job(source, written, plain, root, into)


def _is_in(folder: str, file: str) -> bool:
    return os.path.dirname(locations.real(file)) == locations.real(folder)


Found = tuple[str, str | FileError, int | None] | None
"""A file, its path below the folder that was named or what is wrong with it, and the size of an object.

None for what is passed over.
"""


def _passed_over(path: str, reason: str) -> Found:
    console.tell(f"{console.shown(path)}: skipped, {reason}")
    return None


def _walk_s3(work: Work, prefix: str) -> Iterator[Found]:
    for found in locations.walk(prefix):
        if isinstance(found, FileError):  # the rest, or all of it, could not be listed
            yield prefix, found, None
            continue
        name, relpath, size = found
        if name.endswith("/"):
            if size and not work.of_envelopes:
                yield (
                    name,
                    LeftAloneError(
                        outcomes.IN_THE_WAY,
                        "its name ends with '/', as a folder's, and it holds data: copy it to another name",
                    ),
                    None,
                )
            else:
                yield _passed_over(name, "it stands for a folder")
        elif (reason := work.not_meant(relpath.rpartition("/")[2])) is not None:
            yield _skipped(work, name, reason)
        elif "\0" in relpath or any(part in ("", ".", "..") for part in relpath.split("/")):
            yield name, LeftAloneError(outcomes.IN_THE_WAY, "it has no place in a folder; name it by itself"), None
        else:
            yield name, relpath, size


def _skipped(work: Work, path: str, reason: str) -> Found:
    """Pass over a file for its name, but no plaintext that is called an envelope."""
    if not work.of_envelopes:
        try:
            if not outcomes.begins_as_envelope(path):
                why = f"{reason}, but it is no envelope, and has not been encrypted: rename it"
                return path, LeftAloneError(outcomes.IN_THE_WAY, why), None
        except FileError as error:
            return path, error, None
    return _passed_over(path, reason)


def _walk(work: Work, folder: str, roots: list[str]) -> Iterator[Found]:
    """Look at what is below a folder, in order. No link is followed: what is behind one is in a folder of its own.

    Args:
        roots: all folders of this run, by their real names.
    """
    failed: list[tuple[str, FileError, None]] = []

    def fail(what: str, error: OSError) -> None:
        name = str(error.filename)
        failed.append((folder, FileError(f"{what} '{console.shown(name)}' failed: {disk.reason(error)}"), None))

    for parent, folders, names in files.walk(folder, functools.partial(fail, "reading the folder")):
        if work.lab is not None and _is_same(parent, work.lab):
            # Its keys would be sealed under themselves. And to close its database, once it has been read as a file,
            # would take away the locks that this process holds on it.
            yield _passed_over(parent, "it is the lab in use")
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
            except OSError as gone:  # meanwhile, or in a folder whose files are not to be looked at
                fail("reading", gone)
                continue
            reason = work.not_meant(name)
            if not stat.S_ISREG(mode) and not stat.S_ISLNK(mode):
                yield _passed_over(path, "it is no regular file")
            elif reason is not None and not (stat.S_ISLNK(mode) and not os.path.isfile(path)):
                yield _skipped(work, path, reason)
            elif stat.S_ISLNK(mode):
                yield _link(work, path, roots)
            else:
                relpath = os.path.relpath(path, folder)
                yield os.path.join(folder, relpath), relpath.replace(os.sep, "/"), None
    yield from failed


def _is_same(path: str, other: str) -> bool:
    # By what they are: to find the real name of each folder would look at all those above it, each time.
    try:
        return os.path.samefile(path, other)
    except OSError:
        return False


def _link(work: Work, path: str, roots: list[str]) -> Found:
    """Say of a link that it was not followed; or pass over it, where this run takes what it leads to anyway."""
    target = os.path.realpath(path)
    is_folder = os.path.isdir(target)
    if not os.path.exists(target):
        return path, LeftAloneError(outcomes.LINK, "it is a link that leads nowhere: remove it"), None
    inside = any(target == root or target.startswith(os.path.join(root, "")) for root in roots)
    in_lab = work.lab is not None and f"{target}/".startswith(f"{locations.real(work.lab)}/")
    if (
        inside
        and not in_lab
        and (is_folder or (os.path.isfile(target) and not work.not_meant(os.path.basename(target))))
    ):
        return _passed_over(path, "it is a link to what this run takes by its own name")
    if is_folder:
        why = "it is a link to a folder, and -r follows none: name it by itself, with -r"
    else:
        why = "it is a link, and -r follows none: name it by itself"
    return path, LeftAloneError(outcomes.LINK, why), None


def refuse_output(job: Job, taken: str | None, what: str) -> None:
    """Refuse to write a job's output over another file that it needs.

    Raises:
        FileError: they are one file.
    """
    if taken is not None and job.output is not None and locations.real(job.output) == locations.real(taken):
        raise FileError(f"the output is the {what}; name another file with -o")


@contextlib.contextmanager
def folder_of(job: Job) -> Iterator[int | None]:
    """Hold the folder of a job's source open, reached by no link below where it was found; None where it was named."""
    if job.root is None:
        yield None
    else:
        with files.folder_of(job.source, job.root) as folder:
            yield folder
