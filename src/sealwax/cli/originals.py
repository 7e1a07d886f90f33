"""What a source that is moved can be told by, and its removal if it is still the same."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from collections.abc import Iterator

from sealwax._core import files, moved
from sealwax._core.foreign.s3ec.fields import INSTRUCTION_SUFFIX, MAX_INSTRUCTION_BYTES
from sealwax.cli import contents, jobs, locations, outcomes
from sealwax.cli.jobs import FileJob
from sealwax.cli.outcomes import LeftAloneError
from sealwax.errors import StoreError


def mark_of(source: contents.Source) -> str:
    """Return what an open source can be told by."""
    return moved.mark_of(source.binary) if source.status is None else moved.mark_of_file(source.status)


def remove(job: FileJob, source: contents.Source) -> None:
    """Remove a source that was compared, unless it has changed since it was opened.

    Raises:
        FileError: it cannot be removed.
        LeftAloneError: it has changed, or is a link.
    """
    if source.status is not None:
        _remove_file(job, source.status)
        return
    from sealwax.stores.s3 import ObjectReader

    assert isinstance(source.file, ObjectReader)
    _remove_object(job, source.file.etag, source.file.version_id)
    instructions = source.file.instructions()
    if instructions is not None and not remove_instructions(job.source + INSTRUCTION_SUFFIX, _digest(instructions)):
        raise LeftAloneError(
            outcomes.CHANGED,
            "it was removed; its instruction file has changed while it was compared, and was left: look at it, and "
            "delete it yourself",
        )


def remove_instructions(name: str, digest: str) -> bool:
    """Remove the instruction file of an object that was removed, if it is still the same; return whether it is gone."""
    from sealwax.stores.s3 import ObjectReader

    try:
        with ObjectReader(name, service=locations.service()) as file:
            if _digest(file.read(MAX_INSTRUCTION_BYTES + 1)) != digest:
                return False
            _remove_object(FileJob(name, None, None), file.etag, file.version_id)
    except StoreError:
        if locations.there(name) is not None:
            raise
    return True


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _remove_file(job: FileJob, status: os.stat_result) -> None:
    with _open_folder(job) as folder, files.reported("removing", job.source):
        name = os.path.basename(job.source)
        now = os.stat(name, dir_fd=folder, follow_symlinks=False)
        if stat.S_ISLNK(now.st_mode):
            raise LeftAloneError(outcomes.LINK, "it is a link; name the file that it leads to, to remove that")
        if (now.st_dev, moved.mark_of_file(now)) != (status.st_dev, moved.mark_of_file(status)):
            raise _changed()
        os.unlink(name, dir_fd=folder)


@contextlib.contextmanager
def _open_folder(job: FileJob) -> Iterator[int]:
    with jobs.folder_of(job) as folder:
        if folder is not None:
            yield folder
            return
    with files.reported("opening", job.source):
        own = os.open(os.path.dirname(job.source) or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield own
    finally:
        os.close(own)


def _remove_object(job: FileJob, etag: str | None, version_id: str | None) -> None:
    from sealwax.stores.s3._service import UNMET, parse

    service, name = locations.service(), parse(job.source)
    try:
        now = service.call("head_object", "removing", name)
        if etag is not None and (now["ETag"], now.get("VersionId")) != (etag, version_id):
            raise _changed()
        service.call("delete_object", "removing", name, IfMatch=now["ETag"])
    except StoreError as error:
        if error.code in UNMET:
            raise _changed() from None
        raise


def _changed() -> LeftAloneError:
    return LeftAloneError(outcomes.CHANGED, "it has changed while it was compared, and was left alone; run it again")
