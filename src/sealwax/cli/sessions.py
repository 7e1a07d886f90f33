"""The AWS sessions of one run: whoever is asked for an MFA code is asked once, for KMS, S3 and all else."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from sealwax.errors import SealwaxError

if TYPE_CHECKING:
    from sealwax._aws.session import OwnSession

_lock = threading.Lock()
_opened: dict[tuple[str | None, str | None], OwnSession] = {}
_first: dict[str | None, OwnSession | SealwaxError] = {}


def forget() -> None:
    """Begin another run."""
    _opened.clear()
    _first.clear()


def session(profile: str | None, region: str | None) -> OwnSession:
    """Return the session of a profile in a Region, with the credentials of all other sessions of that profile.

    A code is asked for here, before there is a bar of progress to ask into, or a thread that nobody can interrupt.

    Raises:
        KmsError: there is no such profile, nobody to ask for a code, or AWS does not take it; again for each call.
    """
    from sealwax._aws.session import OwnSession

    with _lock:
        found = _opened.get((profile, region))
        if found is not None:
            return found
        first = _first.get(profile)
        if isinstance(first, SealwaxError):
            raise first
        try:
            found = OwnSession(profile, region, first)
            found.sign_in()
        except SealwaxError as error:
            _first[profile] = error
            raise
        _first.setdefault(profile, found)
        _opened[(profile, region)] = found
        return found
