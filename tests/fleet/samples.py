"""Reports of fleets that nobody ran."""

from __future__ import annotations

from sealwax._core.staleness import Wanted, WantedKey
from sealwax.fleet import Contexts, FleetReport, Settings, State

OLD, NEW, OTHER = (f"arn:aws:kms:eu-west-1:111122223333:key/{at}" for at in ("old", "new", "other"))


def report(
    verb: str = "run",
    *,
    sources: tuple[str, ...] = (OLD,),
    reencrypt: bool = False,
    also: tuple[str, ...] = (),
    **more: object,
) -> FleetReport:
    """Return a report in which all 1,234 envelopes are done, but for what is given."""
    settings = Settings(sources, Wanted((WantedKey(NEW),)), Contexts((), True), reencrypt=reencrypt, also=also)
    facts: dict[str, object] = {
        "locations": ("/data",),
        "states": {State.REWRAPPED: (1234, 0)},
        "reasons": {},
        "missing_regions": {},
        "wrapped": 0,
        "planned_calls": 0,
        "kms_calls": 0,
        "rate": 1000.0,
        "contexts": 0,
        "frequent": (),
        "before": (),
        "after": ((NEW, "", 1234),),
        "problems": (),
        "rewrapped": 0,
        "aliases": {NEW: ("alias/new",), OLD: ("alias/old",)},
    }
    return FleetReport(verb, settings, **facts | more)  # type: ignore[arg-type]
