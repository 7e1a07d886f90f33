"""Files: read with typed errors, written whole or not at all, and changed in place without a moment of danger.

Every change that sealwax makes to a file system is made here.
"""

from sealwax._core.files.copying import COPY_BYTES, copy_between, copy_rest, use_input
from sealwax._core.files.folders import folder_of, walk
from sealwax._core.files.locked import LOCK_SECONDS, LockedFile
from sealwax._core.files.reading import InputFile, beginning, reported
from sealwax._core.files.whole import WholeFile, commit_all, is_special, refuse_existing
from sealwax._core.sources import AnyPath

__all__ = [
    "COPY_BYTES",
    "LOCK_SECONDS",
    "AnyPath",
    "InputFile",
    "LockedFile",
    "WholeFile",
    "beginning",
    "commit_all",
    "copy_between",
    "copy_rest",
    "folder_of",
    "is_special",
    "refuse_existing",
    "reported",
    "use_input",
    "walk",
]
