"""What somebody else may have done to a file: for tests that run as root, and for those that do not."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

STRANGER: Final = 65534


def give_away(path: Path) -> None:
    """Make a file or folder somebody else's: with root's rights by its owner, without them by its mode."""
    if os.geteuid() == 0:
        os.chown(path, STRANGER, STRANGER)
    else:
        path.chmod(path.stat().st_mode | 0o002)


def _open_to_all(path: Path) -> None:
    path.chmod(0o606)


def _read_only_of_another(path: Path) -> None:
    path.chmod(0o444)
    give_away(path)


def _pipe(path: Path) -> None:
    path.unlink(missing_ok=True)
    os.mkfifo(path)


def _folder(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.mkdir()


def _link_of_another(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")
    if os.geteuid() == 0:
        os.chown(path, STRANGER, STRANGER, follow_symlinks=False)
    else:
        give_away(path.with_name("elsewhere"))


def _open_folder(path: Path) -> None:
    path.parent.chmod(0o777)


def _folder_of_another(path: Path) -> None:
    give_away(path.parent)


def _hard_link(path: Path) -> None:
    os.link(path, path.with_name("other name"))
    path.parent.chmod(0o1777)


#: By which a file in a folder of its own becomes one that is not to be believed.
PLANTED: Final[dict[str, Callable[[Path], None]]] = {
    "open to all": _open_to_all,
    "of another": give_away,
    "read-only, of another": _read_only_of_another,
    "a pipe": _pipe,
    "a folder": _folder,
    "a link of another": _link_of_another,
    "in an open folder": _open_folder,
    "in a folder of another": _folder_of_another,
    "a hard link in a folder for all": _hard_link,
}
