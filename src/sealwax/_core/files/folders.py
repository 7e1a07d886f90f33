"""Folders: opened one in the other so that no link is followed, made, and walked at any depth."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterator
from typing import Final

from sealwax._core.files.reading import reported
from sealwax._core.sources import AnyPath
from sealwax._text import printable
from sealwax.errors import FileError

# Enough to open files inside, without the permission to list the folder where the system allows that.
FOLDER: Final = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_CLOEXEC


# A class and not a generator: a fleet enters it for each folder.
class _Folder:
    __slots__ = ("_folder", "_make", "_path", "_root")

    def __init__(self, path: str, root: str, make: bool) -> None:
        self._path = path
        self._root = root
        self._make = make
        self._folder: int | None = None

    def __enter__(self) -> int:
        path, root = self._path, self._root
        below = os.path.join(root, "")
        *parts, last = path[len(below) :].split(os.sep)
        if not path.startswith(below) or not last or ".." in (*parts, last) or "\0" in path:
            raise FileError(f"'{printable(path)}' is not in '{printable(root)}'; it was left alone")
        try:
            with reported("creating the folder", os.path.dirname(path)) if self._make else reported("opening", path):
                return self._enter(parts)
        except BaseException:
            self._close()
            raise

    def _enter(self, parts: list[str]) -> int:
        if self._make:
            _make_folders(self._root)
        folder = self._folder = os.open(self._root, FOLDER)
        for part in filter(None, parts):
            if self._make:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(part, dir_fd=folder)
            try:
                self._folder = os.open(part, FOLDER | os.O_NOFOLLOW, dir_fd=folder)
            except OSError as error:
                if error.errno == errno.ELOOP or exists(part, folder, stat.S_ISLNK):
                    raise FileError(
                        f"'{printable(self._path)}' is reached through a symbolic link; it was left alone"
                    ) from error
                raise
            os.close(folder)
            folder = self._folder
        return folder

    def _close(self) -> None:
        folder, self._folder = self._folder, None
        if folder is not None:
            os.close(folder)

    def __exit__(self, *_: object) -> None:
        self._close()


def folder_of(path: str, root: str, *, make: bool = False) -> contextlib.AbstractContextManager[int]:
    """Hold open the folder of a file somewhere below ``root`` that no link leads through.

    What was a folder in a listing may be a link now, or become one at any moment. So each folder is opened inside the
    one before it, and what is opened is what was checked. ``root`` itself may be a link.

    Args:
        path: the file: ``root``, and a path below it.
        make: whether to create missing folders.

    Raises, when it is entered:
        FileError: a folder cannot be opened or created, is reached through a link, or is not below ``root``.
    """
    return _Folder(path, root, make)


def walk(
    folder: str, on_error: Callable[[OSError], None] = lambda _: None
) -> Iterator[tuple[str, list[str], list[str]]]:
    """Yield each folder at and below ``folder``, the names of its folders, and the names of everything else in it.

    Like ``os.walk``, at any depth: links to folders are listed as folders and not followed, and the caller may change
    the list of folders.

    Args:
        on_error: called if a folder cannot be read; the walk goes on.
    """
    waiting = [folder]
    while waiting:
        parent = waiting.pop()
        folders: list[str] = []
        names: list[str] = []
        try:
            with os.scandir(parent) as entries:
                for entry in entries:
                    (folders if _is_folder(entry) else names).append(entry.name)
        except OSError as error:
            on_error(error)
            continue
        yield parent, folders, names
        paths = [os.path.join(parent, name) for name in folders]
        waiting += [path for path in reversed(paths) if not os.path.islink(path)]


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _make_folders(folder: str) -> None:
    """Create a folder and its missing parents, at any depth; os.makedirs is recursive."""
    missing = []
    parent = folder
    while parent and not os.path.isdir(parent):
        missing.append(parent)
        parent = os.path.dirname(parent)
    for path in reversed(missing):
        try:
            os.mkdir(path)
        except FileExistsError:  # another program has just created it
            if not os.path.isdir(path):
                raise


def exists(path: AnyPath, folder: int | None, is_kind: Callable[[int], bool] = lambda _: True) -> bool:
    """Whether something of this kind is there; a link is looked at, not followed."""
    try:
        return is_kind(os.stat(path, dir_fd=folder, follow_symlinks=False).st_mode)
    except OSError:
        return False
