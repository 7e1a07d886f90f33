"""What plan, run, status and verify say: figures, as plain data and as text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from sealwax._core import context as ctx
from sealwax._core.context import printable
from sealwax.errors import ContextError
from sealwax.fleet import _shard
from sealwax.fleet._journal import TO_DO, Journal
from sealwax.fleet._settings import Settings

# https://aws.amazon.com/kms/pricing/: beyond the free tier, in USD.
_PRICE_OF_10_000: Final = 0.03
LISTED: Final = 20
UNKNOWN: Final = "unknown"
_NAMES: Final = 13
# What is said of single objects: neither done nor to do. Files that are no envelopes, or not meant, come last: they
# would leave no room for what is wrong.
_UNDONE: Final = (_shard.FAILED, _shard.REFUSED, _shard.LEFT)
_UNSEEN: Final = (_shard.DAMAGED, _shard.UNREADABLE, "unlisted", _shard.LINK)
_PASSED_OVER: Final = (_shard.SKIPPED, _shard.FOREIGN)
WRONG: Final = (*_UNDONE, *_UNSEEN)
PROBLEMS: Final = (*WRONG, *_PASSED_OVER)

Usage = tuple[tuple[str, str, int], ...]


@dataclass(frozen=True, slots=True)
class Checked:
    """What verify has looked at, besides every header.

    Attributes:
        digests: payloads whose digest is what the plan has recorded.
        changed: names of those whose digest is another one.
        replaced: envelopes that somebody has replaced by others since the plan, so that there is nothing to compare.
        decrypted: envelopes that were decrypted, whole.
        undecrypted: pairs of a name and why it could not be decrypted.
        unread: pairs of a name and why nothing could be read there, after its header was.
        elsewhere: envelopes of the sample that have a local context or a payload that is stored elsewhere, which only
            their readers know; not decrypted.
        gone: objects of the plan that are no longer there, and were not looked at.
        leftovers: names of files that killed processes were writing in the folders.
    """

    digests: int = 0
    changed: tuple[str, ...] = ()
    replaced: int = 0
    decrypted: int = 0
    undecrypted: tuple[tuple[str, str], ...] = ()
    unread: tuple[tuple[str, str], ...] = ()
    elsewhere: int = 0
    gone: int = 0
    leftovers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Report:
    """Figures of a fleet at one time.

    Attributes:
        verb: ``"plan"``, ``"run"``, ``"status"`` or ``"verify"``.
        where: the places.
        states: how many objects are in each state, and their bytes.
        reasons: for how many envelopes each reason to be stale was found, at the last scan.
        formats: how many of the foreign objects have each format, as ``_core.recognize`` names it; "" stands for those
            of no format that is known.
        missing_regions: for how many envelopes a wanted Region was missing then.
        wrapped: how many distinct wrapped keys there were then.
        planned_calls: how many KMS calls were needed then.
        kms_calls: those of a plan are needed, those of a run and a verification were made; of a status, made so far.
        rate: the requests a second that times are told for.
        contexts: how many distinct stored contexts there were.
        frequent: the most frequent ones, and how many envelopes have each.
        before, after: key ARNs, material ids in hex, and how many envelopes are under them: at the plan, and now; for a
            plan, now and when it has been run.
        problems: the first objects that are neither done nor to do: name, state, reason; first what is wrong.
        ended: why a run ended before its time; "" where it did not.
        rewrapped, reencrypted: by this run; of the others, by all so far.
        notes: what else there is to know.
        checked: of a verification.
        digests: of how many payloads the plan has a digest.
        empty: the places in which the last scan found no envelope, though it could look everywhere: they are mistyped,
            or not mounted, more likely than not.
    """

    verb: str
    settings: Settings
    where: tuple[str, ...]
    states: Mapping[str, tuple[int, int]]
    reasons: Mapping[str, int]
    missing_regions: Mapping[str, int]
    wrapped: int
    planned_calls: int
    kms_calls: int
    rate: float
    contexts: int
    frequent: tuple[tuple[Mapping[str, str], int], ...]
    before: Usage
    after: Usage
    problems: tuple[tuple[str, str, str], ...]
    rewrapped: int
    reencrypted: int = 0
    ended: str = ""
    notes: tuple[str, ...] = ()
    checked: Checked | None = None
    digests: int = 0
    empty: tuple[str, ...] = ()
    formats: Mapping[str, int] = field(default_factory=dict)

    def count(self, *states: str) -> int:
        """Return how many objects are in any of these states."""
        return sum(self.states.get(state, (0, 0))[0] for state in states)

    @property
    def objects(self) -> int:
        return self.count(*(state for state in self.states if state not in ("unlisted", _shard.LINK)))

    @property
    def stale(self) -> int:
        """Envelopes that are still to be re-wrapped, those that failed included."""
        return self.count(*TO_DO)

    @property
    def fresh(self) -> int:
        return self.count(_shard.FRESH, _shard.REWRAPPED, _shard.REENCRYPTED)

    @property
    def failed(self) -> int:
        return self.count(_shard.FAILED, _shard.REFUSED)

    @property
    def hidden(self) -> int:
        """What could not be looked at, or whose header is damaged: it may be stale or changed."""
        unread = 0 if self.checked is None else len(self.checked.unread)
        return self.count(_shard.UNREADABLE, _shard.DAMAGED, "unlisted") + unread

    @property
    def links(self) -> int:
        """Links that lead out of the places; what is behind them was not looked at."""
        return self.count(_shard.LINK)

    @property
    def nothing(self) -> bool:
        """Whether no place has an envelope in it."""
        return len(self.empty) == len(self.where)

    @property
    def blind(self) -> bool:
        """Whether the material of a wanted key could not be seen, so that nothing tells what is under an old one."""
        return bool(self.notes) and not all(key.material_id for key in self.settings.wanted.keys)

    @property
    def missed(self) -> bool:
        """Whether there are envelopes, and each was skipped for its context: it was mistyped, more likely than not."""
        return bool(self.count(_shard.SKIPPED)) and not (self.fresh or self.stale)

    @property
    def done(self) -> bool:
        """Whether every place has envelopes, nothing is stale, all was looked at, and what was checked is right."""
        checked = self.checked or Checked()
        failed = checked.changed or checked.undecrypted
        unseen = self.hidden or self.links or self.blind
        return not (self.stale or unseen or failed or self.empty or self.missed)

    @property
    def to_move(self) -> int:
        """The bytes that re-encryption has still to read, and to write again; a re-wrap moves no payload."""
        return sum(self.states.get(state, (0, 0))[1] for state in TO_DO) if self.settings.reencrypt else 0

    @property
    def seconds(self) -> float:
        """How long the planned calls take at the rate."""
        return self.planned_calls / self.rate

    @property
    def cost(self) -> float:
        """What the planned calls cost, in USD."""
        return self.planned_calls * _PRICE_OF_10_000 / 10_000

    def as_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        checked = self.checked
        return {
            "verb": self.verb,
            "mode": "reencrypt" if self.settings.reencrypt else "rewrap",
            "where": list(self.where),
            "empty": list(self.empty),
            "from": list(self.settings.sources),
            "to": [key.arn for key in self.settings.wanted.keys],
            "objects": self.objects,
            "bytes": sum(size for _, size in self.states.values()),
            "stale": self.stale,
            "stale_because": dict(self.reasons),
            "fresh": self.fresh,
            "rewrapped": self.rewrapped,
            "reencrypted": self.reencrypted,
            "failed": self.failed,
            "left": self.count(_shard.LEFT),
            "skipped": self.count(_shard.SKIPPED),
            "foreign": self.count(_shard.FOREIGN),
            "formats": {name or UNKNOWN: count for name, count in self.formats.items()},
            "damaged": self.count(_shard.DAMAGED),
            "unreadable": self.count(_shard.UNREADABLE, "unlisted"),
            "unlisted": self.count("unlisted"),
            "links": self.links,
            "missing_regions": dict(self.missing_regions),
            "wrapped_keys": self.wrapped,
            "contexts": self.contexts,
            "kms_calls": self.kms_calls,
            "kms_calls_planned": self.planned_calls,
            "bytes_to_move": self.to_move,
            "cost_usd": round(self.cost, 6),
            "seconds": round(self.seconds, 3),
            "rate": self.rate,
            "keys_before": [_usage(row) for row in self.before],
            "keys_after": [_usage(row) for row in self.after],
            "problems": [{"name": name, "state": state, "reason": reason} for name, state, reason in self.problems],
            "ended": self.ended or None,
            "digests_recorded": self.digests,
            "done": self.done,
        } | (
            {}
            if checked is None
            else {
                "digests_unchanged": checked.digests,
                "digests_changed": list(checked.changed),
                "replaced": checked.replaced,
                "decrypted": checked.decrypted,
                "not_decrypted": [{"name": name, "reason": reason} for name, reason in checked.undecrypted],
                "not_read": [{"name": name, "reason": reason} for name, reason in checked.unread],
                "not_decryptable_here": checked.elsewhere,
                "gone": checked.gone,
                "leftovers": list(checked.leftovers),
            }
        )


def _usage(row: tuple[str, str, int]) -> dict[str, Any]:
    arn, material, objects = row
    return {"key_arn": arn, "key_material_id": material or None, "objects": objects}


def of_journal(verb: str, journal: Journal, **more: Any) -> Report:
    """Return the figures that stand in a plan file.

    Args:
        more: attributes of :class:`Report` that are not read from it.

    Raises:
        PlanError: the plan is damaged.
    """
    try:
        contexts, frequent = journal.contexts(LISTED)
        states = journal.states()
        usage: Usage = tuple(journal.usage())
        before: Usage = tuple((arn, material, objects) for arn, material, objects in journal.fact("before"))
        facts: dict[str, Any] = {
            "kms_calls": journal.fact("kms_calls"),
            "rewrapped": states.get(_shard.REWRAPPED, (0, 0))[0],
            "reencrypted": states.get(_shard.REENCRYPTED, (0, 0))[0],
            "before": before,
            "after": usage,
        }
        empty = journal.fact("empty")
        where: tuple[str, ...] = tuple(journal.fact("where"))
        return Report(
            verb=verb,
            settings=journal.settings(),
            where=where,
            empty=tuple(place for number, place in enumerate(where) if number in empty),
            states=states,
            reasons=journal.reasons(),
            formats=journal.formats(),
            missing_regions=journal.missing_regions(),
            wrapped=journal.wrapped(),
            planned_calls=journal.calls(),
            rate=journal.fact("rate"),
            contexts=contexts,
            frequent=tuple((ctx.decode(bytes(encoded)), objects) for encoded, objects in frequent),
            problems=_first_problems(journal),
            digests=journal.digests(),
            **facts | more,
        )
    except (ValueError, TypeError, KeyError, ContextError) as error:
        raise journal.damaged(error) from None


def _first_problems(journal: Journal) -> tuple[tuple[str, str, str], ...]:
    wrong = journal.listed(_UNDONE, LISTED) + journal.listed(_UNSEEN, LISTED)
    return (*wrong, *journal.listed(_PASSED_OVER, max(0, LISTED - len(wrong))))


def as_text(report: Report) -> str:
    """Return the report for a person to read."""
    doing = f"{report.verb} of re-encryption" if report.settings.reencrypt else report.verb
    lines = [f"{doing} of {', '.join(printable(place) for place in report.where)}"]

    def say(name: str, text: str) -> None:
        lines.append(f"  {name:<{_NAMES}}{text}")

    size = sum(size for _, size in report.states.values())
    say("objects", f"{report.objects:,} ({size:,} bytes)")
    because = ", ".join(f"{reason} {count:,}" for reason, count in report.reasons.items())
    say("stale", f"{report.stale:,}" + (f" (at the last scan: {because})" if because else ""))
    say("fresh", f"{report.fresh:,}")
    if report.verb != "plan" and report.settings.reencrypt:
        say("re-encrypted", f"{report.reencrypted:,}")
    elif report.verb != "plan":
        say("re-wrapped", f"{report.rewrapped:,}")
    for name, states in (
        ("failed", (_shard.FAILED, _shard.REFUSED)),
        ("left", (_shard.LEFT,)),
        ("skipped", (_shard.SKIPPED,)),
        ("foreign", (_shard.FOREIGN,)),
        ("damaged", (_shard.DAMAGED,)),
        ("unreadable", (_shard.UNREADABLE, "unlisted")),
        ("links", (_shard.LINK,)),
    ):
        if report.count(*states):
            formats = f": {listed(report.formats)}" if name == "foreign" else ""
            say(name, f"{report.count(*states):,}{formats}")
    for region, count in report.missing_regions.items():
        say("Region", f"no key of {region} has wrapped {count:,} of them")
    say("contexts", f"{report.contexts:,} distinct")
    for context, count in report.frequent[:5]:
        shown = ", ".join(f"{printable(name)}={printable(value)}" for name, value in context.items())
        say("", f"{count:>9,}  {shown or 'none'}")
    for arn, material, count in report.before if report.verb == "plan" else report.after:
        say("key", f"{count:>9,}  {printable(arn)}" + (f" material {material[:12]}" if material else ""))
    if report.verb == "plan":
        say("KMS calls", f"{report.planned_calls:,}; there are {report.wrapped:,} distinct wrapped keys in all")
        if report.settings.reencrypt:
            more = ", kms:Encrypt" if len(report.settings.wanted.keys) > 1 else ""
            say("", f"kms:Decrypt on the keys --from, kms:GenerateDataKey{more} on those --to, for each envelope")
            say("to move", f"{report.to_move:,} bytes to read, and as many to write")
        say("cost", f"{report.cost:.4f} USD, {_duration(report.seconds)} at {report.rate:g} calls a second")
    else:
        say("KMS calls", f"{report.kms_calls:,}")
    if report.checked is not None:
        _say_checked(report, report.checked, say)
    for name, state, reason in report.problems:
        lines.append(f"  {state}: {printable(name)}{': ' if name and reason else ''}{reason}")
    lines += [f"  {note}" for note in report.notes]
    return "\n".join(lines)


def listed(formats: Mapping[str, int]) -> str:
    """Return how many objects there are of each format, for a person to read."""
    return ", ".join(f"{count:,} {printable(name) or UNKNOWN}" for name, count in formats.items())


def _say_checked(report: Report, checked: Checked, say: Any) -> None:
    if report.digests:
        say(
            "plaintexts" if report.settings.reencrypt else "payloads",
            f"{checked.digests:,} unchanged, {len(checked.changed):,} changed, {checked.replaced:,} replaced, "
            f"of {report.digests:,} that the plan knows",
        )
    elif report.settings.reencrypt:
        say("plaintexts", "not compared: no run of this plan has re-encrypted what is there")
    else:
        say("payloads", "not compared: the plan has no digests (--digest) of what is there")
    if checked.gone:
        say("gone", f"{checked.gone:,} objects of the plan are no longer there; they were not looked at")
    if checked.leftovers:
        say(
            "leftovers", f"{len(checked.leftovers):,} files that killed processes were writing; look, then remove them:"
        )
    for name in checked.leftovers[:LISTED]:
        say("", printable(name))
    for name in checked.changed[:LISTED]:
        say("changed", printable(name))
    for name, why in checked.unread[:LISTED]:
        say("not read", f"{printable(name)}: {why}")
    if checked.decrypted or checked.undecrypted or checked.elsewhere:
        say("decrypted", f"{checked.decrypted:,}, {len(checked.undecrypted):,} could not be")
        if checked.elsewhere:
            say("", f"{checked.elsewhere:,} have a local context, or a payload elsewhere")
    for name, why in checked.undecrypted[:LISTED]:
        say("", f"{printable(name)}: {why}")


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 3600 else f"{seconds / 3600:.1f} h"
