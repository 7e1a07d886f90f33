"""What a --dry-run checks instead of writing: what the run would refuse, as far as that is known without KMS."""

from __future__ import annotations

import os

from sealwax._core import files
from sealwax._core.format.header import Header
from sealwax.cli import console, contents, locations
from sealwax.cli.jobs import FileJob
from sealwax.cli.kms import Keys
from sealwax.cli.state import current
from sealwax.cli.work import Work
from sealwax.errors import FileError


def check_output(job: FileJob, source: contents.Source, name: str | None, *, force: bool) -> None:
    """Refuse what could not be written.

    Args:
        name: the output, or the file for a detached header.
        force: whether it may be overwritten.

    Raises:
        FileError: it exists, or its folder cannot be written to.
    """
    if name is None:
        return
    if locations.is_s3(name):
        if name == source.name:
            raise FileError("the output would overwrite the input; name another file with -o")
        there = not force and locations.there(name) is not None
    else:
        there = os.path.lexists(name)
        if source.status is not None and os.path.exists(name) and os.path.samestat(os.stat(name), source.status):
            raise FileError("the output would overwrite the input; name another file with -o")
        if os.path.isdir(name):
            raise FileError(f"'{console.shown(name)}' is a folder; name a file with -o")
        _check_folder(job, name)
    if there and not force and not (not locations.is_s3(name) and files.is_special(name)):
        raise FileError(f"'{console.shown(name)}' already exists; use --force to overwrite it")


def _check_folder(job: FileJob, name: str) -> None:
    """Refuse an output whose folder cannot be written to, or, unless it would be created, does not exist."""
    folder = os.path.dirname(name)
    if job.into is not None:
        if os.path.isdir(folder):
            with files.folder_of(name, job.into):  # refuses links on the way
                pass
        while folder and not os.path.lexists(folder):
            folder = os.path.dirname(folder)
    if not os.path.isdir(folder or "."):
        why = "is not a folder" if os.path.lexists(folder) else "does not exist"
        raise FileError(
            f"the folder of the output, '{console.shown(folder)}', {why}; name another place with {current().elsewhere}"
        )
    _check_access(folder or ".", os.W_OK | os.X_OK)


def check_rewritten(
    work: Work, job: FileJob, source: contents.Source, header: Header, keys: Keys, *, replaces: bool
) -> None:
    """Refuse an envelope that the keys of -k may not open, or whose new form could not be written.

    Args:
        replaces: whether a new file takes its place, which its folder has to allow.
    """
    keys.check_allowed(header)
    if job.output is not None:
        check_output(job, source, job.output, force=work.force)
    elif locations.is_s3(job.source):
        if work.armor:
            locations.refuse_text_in_place(job.source)
    elif replaces:
        _check_access(os.path.dirname(job.source) or ".", os.W_OK | os.X_OK)
    else:
        _check_access(job.source, os.W_OK)


def _check_access(path: str, mode: int) -> None:
    effective = os.access in os.supports_effective_ids
    if not os.access(path, mode, effective_ids=effective):
        raise FileError(f"writing to '{console.shown(path)}' would fail: Permission denied")
