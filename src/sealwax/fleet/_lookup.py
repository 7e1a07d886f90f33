"""Looking up the keys of a plan once, so that what an alias points to later changes nothing."""

from __future__ import annotations

import time
from collections.abc import Sequence

from sealwax._aws.session import Clients, Session
from sealwax._core import validate
from sealwax._core.staleness import Wanted, WantedKey
from sealwax.fleet._settings import Contexts, Move, Settings
from sealwax.kms import _names
from sealwax.kms._describe import describe


def settings_of(
    *,
    sources: Sequence[str],
    to: Sequence[str],
    contexts: Contexts,
    older_than: float | None = None,
    add_regions: bool = False,
    reencrypt_since: int | None = None,
    also: Sequence[str] = (),
    move: Move | None = None,
    session: Session | None = None,
) -> tuple[Settings, dict[str, list[str]], tuple[str, ...]]:
    """Look up the keys once; return the settings, the aliases of keys that were named by one, and notes.

    The notes are on what KMS did not show.
    """
    if not sources or not to or isinstance(sources, str) or isinstance(to, str):
        raise ValueError("sources and to must each have at least one key name")
    if older_than is not None:
        validate.number("older_than", older_than, "seconds")
    clients = Clients(session)
    wanted: dict[str, WantedKey] = {}
    aliases: dict[str, list[str]] = {}
    notes: list[str] = []

    def note_alias(arn: str, name: str) -> str:
        if (alias := _names.parse(name).alias) and alias not in aliases.setdefault(arn, []):
            aliases[arn].append(alias)
        return arn

    for name in to:
        key = describe(name, clients)
        note_alias(key.arn, name)
        wanted.setdefault(key.arn, WantedKey(key.arn, key.material_id, key.rotated_at))
        notes += [f"old key material may go unnoticed: {error}" for error in key.unseen]
    # Pinned: what an alias points to later is not what was planned.
    arns = dict.fromkeys(
        name if _names.parse_arn(name) else note_alias(describe(name, clients, rotations=False).arn, name)
        for name in sources
    )
    since = reencrypt_since or (0 if older_than is None else int(time.time() - older_than))
    target = Wanted(tuple(wanted.values()), since)
    settings = Settings(tuple(arns), target, contexts, add_regions, reencrypt_since is not None, tuple(also), move)
    return settings, aliases, tuple(notes)
