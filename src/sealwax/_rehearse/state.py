"""What a run has made so far, in a file: whoever kills it, the next run knows what to take away."""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

from sealwax._core import files, locking
from sealwax._core.format.io import write_all
from sealwax._rehearse.plan import RUN_ID, Names
from sealwax._text import printable
from sealwax.errors import FileError

_FILE: Final = "state.json"
_LOCK: Final = "lock"
# In the ARN of a key.
_COLONS: Final = 5


@dataclass
class Run:
    """One run.

    Attributes:
        run: its id.
        account: the id of the account that it is in.
        regions: its two Regions.
        begun: what it has begun to make, in this order; it may exist.
        keys: the ARNs of its keys that are known, by name.
    """

    run: str
    account: str
    regions: tuple[str, str]
    begun: list[str] = field(default_factory=list)
    keys: dict[str, str] = field(default_factory=dict)

    @property
    def names(self) -> Names:
        return Names(self.run)


class Folder:
    """The folder of rehearsals: the state of a run that is not over, and what is written of it. One program uses it.

    Args:
        path: the folder; it is made if it does not exist.

    Raises:
        FileError: it cannot be used, another rehearsal uses it, or its state cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        shown = printable(str(path))
        with files.reported("making the folder", str(path)):
            path.mkdir(mode=0o700, exist_ok=True)
        try:
            self._lock = locking.lock(
                lambda: os.open(path / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), lambda _: True
            )
        except BlockingIOError:
            raise FileError(f"another rehearsal uses the folder '{shown}': wait until it ends") from None
        except OSError as error:
            raise FileError(f"the folder '{shown}' cannot be used: {error.strerror}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._lock)

    def unfinished(self) -> Run | None:
        """Return the run that was not taken away; None if there is none.

        Raises:
            FileError: the state cannot be read.
        """
        path = self.path / _FILE
        with files.reported("reading", str(path)):
            try:
                stored_bytes = path.read_bytes()
            except FileNotFoundError:
                return None
        try:
            return _parsed(json.loads(stored_bytes.decode()))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise FileError(
                f"the state of the last run, '{printable(str(path))}', is damaged: remove it, and find what that run "
                "left by its tag with --clean-up"
            ) from None

    def save(self, run: Run) -> None:
        """Store a run; it is on the disk when this returns."""
        text = json.dumps(
            {"run": run.run, "account": run.account, "regions": run.regions, "begun": run.begun, "keys": run.keys}
        )
        with files.WholeFile(str(self.path / _FILE), overwrite=True, mode=0o600) as file:
            write_all(file, text.encode())

    def work(self, run: Run) -> Path:
        """Return the folder for the files of a run. Nobody else's has the name, so that it may be removed."""
        return self.path / f"work-{run.run}"

    def forget(self) -> None:
        """Remove the state: everything was taken away."""
        with contextlib.suppress(FileNotFoundError), files.reported("removing", str(self.path / _FILE)):
            (self.path / _FILE).unlink()


def _parsed(stored: dict[str, object]) -> Run:
    """Return a stored run.

    Raises:
        Exception: a member is missing, or is not what was stored.
    """
    regions, begun, keys = stored["regions"], stored["begun"], stored["keys"]
    if not (isinstance(regions, list) and isinstance(begun, list) and isinstance(keys, dict)):
        raise TypeError
    near, far = regions
    run, account = stored["run"], stored["account"]
    words = (run, account, near, far, *begun, *keys, *keys.values())
    if not all(isinstance(word, str) and word for word in words):
        raise TypeError
    if not RUN_ID.fullmatch(str(run)):
        raise ValueError
    if not all(arn.startswith("arn:") and arn.count(":") == _COLONS for arn in keys.values()):
        raise ValueError
    return Run(str(run), str(account), (near, far), begun, keys)
