"""The report of plan, run, status and verify: figures, as plain data and as text."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from sealwax._core import context as ctx
from sealwax._text import printable
from sealwax.errors import ContextError
from sealwax.events import USD_PER_CALL
from sealwax.fleet import _moving
from sealwax.fleet._client_objects import WORDS
from sealwax.fleet._journal import TO_DO, Journal, Problem, ProblemKind
from sealwax.fleet._settings import Settings
from sealwax.fleet._state import State
from sealwax.stores._store import S3_SCHEME, split_s3

LISTED: Final = 20
UNKNOWN: Final = "unknown"
_NAMES: Final = 13
# The states of single objects that are listed: neither done nor to do. Skipped and foreign objects come last: they
# would leave no room for what is wrong.
_UNDONE: Final = (State.FAILED, State.REFUSED, State.LEFT)
_UNSEEN: Final = (State.DAMAGED, State.UNREADABLE, State.UNLISTED, State.LINK)
_PASSED_OVER: Final = (State.SKIPPED, State.FOREIGN)
WRONG: Final = (*_UNDONE, *_UNSEEN)
PROBLEMS: Final = (*WRONG, *_PASSED_OVER)

Usage = tuple[tuple[str, str, int], ...]
"""Key ARNs, key material ids in hex, and how many objects are under them."""


@dataclass(frozen=True, slots=True)
class Checked:
    """What verify has checked, besides every header.

    Attributes:
        digests: how many payloads match the digest in the plan.
        changed: the names of those that do not.
        replaced: how many envelopes were replaced by others since the plan, and so not compared.
        decrypted: how many envelopes were decrypted completely.
        undecrypted: names of those that could not be decrypted, each with the reason.
        unread: names of objects that could not be read after their headers, each with the reason.
        elsewhere: how many envelopes of the sample were not decrypted since they have a local context, or a payload
            stored elsewhere, which only their readers know.
        gone: how many objects of the plan no longer exist.
        leftovers: names of temporary files of killed processes in the folders.
        moved: how many files of other formats hold the same as their envelopes.
        cbc: how many objects of the sample were not decrypted since they are in AES-CBC, which is not read.
        compared: how many files of other formats were compared with their envelopes.
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
    moved: int = 0
    cbc: int = 0
    compared: int = 0


@dataclass(frozen=True, slots=True)
class FleetReport:
    """The figures of a fleet at one time. ``str()`` returns them as text.

    Attributes:
        verb: ``"plan"``, ``"run"``, ``"status"`` or ``"verify"``.
        settings: the plan's settings.
        locations: the plan's locations.
        states: how many objects are in each state, and their bytes.
        reasons: how many envelopes were stale for each reason at the last scan.
        missing_regions: how many envelopes lacked a wrapped key of each wanted Region at the last scan.
        wrapped: how many distinct wrapped keys there were at the last scan.
        planned_calls: how many KMS calls were necessary at the last scan.
        kms_calls: how many KMS calls a plan needs, or a run or verification made; for a status, those made so far.
        rate: the requests per second that ``seconds`` is for.
        contexts: how many distinct stored contexts there are.
        frequent: the most frequent contexts, each with the number of envelopes.
        before: how many envelopes were under each key when planned.
        after: how many are now; for a plan, how many will be after a run.
        problems: objects that are neither done nor still to be done, each with its name, state and reason; not all
            if there are many, and the worst first.
        rewrapped: how many this run re-wrapped; for others, how many were so far.
        reencrypted: likewise, re-encrypted.
        ended: why a run ended early; "" if it did not.
        notes: what KMS did not show of the wanted keys.
        checked: what a verification checked.
        digests: the number of payloads of which the plan has a digest.
        empty: the locations without an envelope, although all of them could be read. They are probably mistyped or not
            mounted.
        formats: how many foreign objects have each format; "" stands for no known format.
        aliases: the aliases by which keys were named when the plan was made, by key ARN.
        dry_run: whether this is what a run would do, and nothing was written.
        moved: how many files of other formats this run made envelopes of; for others, how many were so far.
        moves: how many of each format are still to be moved, and their bytes.
        unbound: how many objects of the S3 Encryption Client that the plan found are bound to no context of their own.
        originals: where the files are that were moved, by location: of an S3 Inventory, the bucket that it lists.
        kinds: all objects that are neither done nor to do by kind: first what is wrong, the most frequent first.
    """

    verb: str
    settings: Settings
    locations: tuple[str, ...]
    states: Mapping[State, tuple[int, int]]
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
    problems: tuple[Problem, ...]
    rewrapped: int
    reencrypted: int = 0
    ended: str = ""
    notes: tuple[str, ...] = ()
    checked: Checked | None = None
    digests: int = 0
    empty: tuple[str, ...] = ()
    formats: Mapping[str, int] = field(default_factory=dict)
    aliases: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    dry_run: bool = False
    kinds: tuple[ProblemKind, ...] = ()
    moved: int = 0
    moves: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    originals: tuple[str, ...] = ()
    unbound: int = 0

    def count(self, *states: str) -> int:
        """Count the objects in some states.

        Args:
            states: members of ``State``, or their names in lower case.

        Returns:
            How many objects are in any of them.
        """
        return sum(self.states.get(State(state), (0, 0))[0] for state in states)

    @property
    def objects(self) -> int:
        """All objects that were listed."""
        return self.count(*(state for state in self.states if state not in (State.UNLISTED, State.LINK)))

    @property
    def stale(self) -> int:
        """Envelopes that still have to be re-wrapped, including those that failed."""
        return self.count(*TO_DO)

    @property
    def fresh(self) -> int:
        """Envelopes that are wrapped as wanted."""
        return self.count(State.FRESH, State.REWRAPPED, State.REENCRYPTED)

    @property
    def failed(self) -> int:
        """Stale envelopes that could not be re-wrapped, or must not be."""
        return self.count(State.FAILED, State.REFUSED)

    @property
    def hidden(self) -> int:
        """What could not be read or has a damaged header: it may be stale or changed."""
        unread = 0 if self.checked is None else len(self.checked.unread)
        return self.count(State.UNREADABLE, State.DAMAGED, State.UNLISTED) + unread

    @property
    def links(self) -> int:
        """Links out of the locations, which are not followed."""
        return self.count(State.LINK)

    @property
    def nothing(self) -> bool:
        """Whether no location has an envelope."""
        return len(self.empty) == len(self.locations)

    @property
    def blind(self) -> bool:
        """Whether KMS did not show the material of a wanted key, so that old material cannot be noticed."""
        return bool(self.notes) and not all(key.material_id for key in self.settings.wanted.keys)

    @property
    def remarks(self) -> tuple[str, ...]:
        """The notes, and the warning of objects that share a context."""
        if not self.unbound:
            return self.notes
        warning = (
            f"{self.unbound:,} object{' is' if self.unbound == 1 else 's are'} of the S3 Encryption Client and bound "
            "to no context of their own: whoever may change their metadata can give one the wrapped key of another, "
            "and the re-wrap would move it too"
        )
        return (*self.notes, warning)

    @property
    def missed(self) -> bool:
        """Whether all envelopes were skipped because of their context, which was probably mistyped."""
        return bool(self.count(State.SKIPPED)) and not (self.fresh or self.stale or self.count(State.MOVED))

    @property
    def done(self) -> bool:
        """Whether every location has envelopes, all were read, none is stale, and all checks passed."""
        checked = self.checked or Checked()
        failed = checked.changed or checked.undecrypted
        unseen = self.hidden or self.links or self.blind
        return not (self.stale or unseen or failed or self.empty or self.missed)

    @property
    def objects_to_move(self) -> int:
        """How many files of other formats still have to be moved."""
        return sum(objects for objects, _ in self.moves.values())

    @property
    def to_move(self) -> int:
        """The bytes that still have to be read and written; a re-wrap moves no payload."""
        if not self.settings.reencrypt:
            return sum(size for _, size in self.moves.values())
        return sum(self.states.get(state, (0, 0))[1] for state in TO_DO)

    @property
    def seconds(self) -> float:
        """How many seconds the planned calls take at the rate."""
        return self.planned_calls / self.rate

    @property
    def cost(self) -> float:
        """What the planned calls cost, in USD."""
        return self.planned_calls * USD_PER_CALL

    def __str__(self) -> str:
        return as_text(self)

    def as_dict(self) -> dict[str, Any]:
        """Return plain data for JSON.

        Returns:
            What ``sealwax fleet ... --json`` prints.
        """
        checked = self.checked
        return {
            "verb": self.verb,
            "dry_run": self.dry_run,
            "mode": "reencrypt" if self.settings.reencrypt else "rewrap",
            "locations": list(self.locations),
            "empty": list(self.empty),
            "from": list(self.settings.sources),
            "to": [key.arn for key in self.settings.wanted.keys],
            "aliases": {arn: list(names) for arn, names in self.aliases.items()},
            "objects": self.objects,
            "bytes": sum(size for _, size in self.states.values()),
            "stale": self.stale,
            "stale_because": dict(self.reasons),
            "fresh": self.fresh,
            "rewrapped": self.rewrapped,
            "reencrypted": self.reencrypted,
            "moved": self.moved,
            "objects_to_move": self.objects_to_move,
            "to_move": {name: {"objects": objects, "bytes": size} for name, (objects, size) in self.moves.items()},
            "failed": self.failed,
            "left": self.count(State.LEFT),
            "skipped": self.count(State.SKIPPED),
            "foreign": self.count(State.FOREIGN),
            "formats": {name or UNKNOWN: count for name, count in self.formats.items()},
            "damaged": self.count(State.DAMAGED),
            "unreadable": self.count(State.UNREADABLE, State.UNLISTED),
            "unlisted": self.count(State.UNLISTED),
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
                "in_aes_cbc": checked.cbc,
                "gone": checked.gone,
                "leftovers": list(checked.leftovers),
                "moved_compared": checked.compared,
                "moved_unchanged": checked.moved,
            }
        )


def _usage(row: tuple[str, str, int]) -> dict[str, object]:
    arn, material, objects = row
    return {"key_arn": arn, "key_material_id": material or None, "objects": objects}


def of_journal(verb: str, journal: Journal, **more: Any) -> FleetReport:
    """Return the figures in a plan file.

    Args:
        more: attributes of the report that replace those in the plan.

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
            "rewrapped": states.get(State.REWRAPPED, (0, 0))[0],
            "reencrypted": states.get(State.REENCRYPTED, (0, 0))[0],
            "moved": states.get(State.MOVED, (0, 0))[0],
            "moves": journal.to_move() if journal.settings().move else {},
            "originals": tuple(_originals(journal, *place) for place in enumerate(journal.locations())),
            "before": before,
            "after": usage,
        }
        empty = journal.fact("empty")
        locations = journal.locations()
        return FleetReport(
            verb=verb,
            settings=journal.settings(),
            locations=locations,
            empty=tuple(location for number, location in enumerate(locations) if number in empty),
            states=states,
            reasons=journal.reasons(),
            formats=journal.formats(),
            aliases=journal.aliases(),
            missing_regions=journal.missing_regions(),
            wrapped=journal.wrapped(),
            planned_calls=journal.calls(),
            rate=journal.fact("rate"),
            contexts=contexts,
            frequent=tuple((ctx.decode(bytes(encoded)), objects) for encoded, objects in frequent),
            problems=_first_problems(journal),
            kinds=tuple(kind for states in (_UNDONE, _UNSEEN, _PASSED_OVER) for kind in journal.kinds(states)),
            digests=journal.digests(),
            **facts | more,
        )
    except (ValueError, TypeError, KeyError, ContextError) as error:
        raise journal.damaged(error) from None


def _originals(journal: Journal, place: int, location: str) -> str:
    if not location.startswith(S3_SCHEME):
        return location
    names = (item.name for page in journal.items((State.MOVED,), place) for item in page)
    name = next(names, location)
    return location if name.startswith(location) else f"{S3_SCHEME}{split_s3(name)[0]}/"


def _first_problems(journal: Journal) -> tuple[Problem, ...]:
    wrong = journal.listed(_UNDONE, LISTED) + journal.listed(_UNSEEN, LISTED)
    return (*wrong, *journal.listed(_PASSED_OVER, max(0, LISTED - len(wrong))))


_BECAUSE: Final = {
    "keys": "under other keys",
    "material": "under older key material",
    "age": "wrapped too long ago",
    "unfinished": "in an interrupted re-wrap",
    "data-key": "under old data keys",
    **WORDS,
}


def because(report: FleetReport) -> str:
    """Return why envelopes are stale; "" once a run has changed some of those that the last scan found stale."""
    scanned = report.verb in ("plan", "verify") or not (
        report.rewrapped or report.reencrypted or report.moved or report.failed
    )
    if not scanned or not report.stale:
        return ""
    return ", ".join(f"{count:,} {_BECAUSE.get(reason, reason)}" for reason, count in report.reasons.items())


def named(report: FleetReport, arn: str) -> str:
    """Return a key's ARN after the aliases by which it was named."""
    names = ", ".join(report.aliases.get(arn, ()))
    return f"{names} ({arn})" if names else arn


def as_text(report: FleetReport) -> str:
    """Return a report as text. Zeros are left out."""
    doing = "dry run" if report.dry_run else report.verb
    lines = [
        f"{doing}{' of re-encryption' * report.settings.reencrypt} of {', '.join(map(printable, report.locations))}"
    ]

    def add(name: str, text: str) -> None:
        lines.append(f"  {name:<{_NAMES}}{text}")

    for arn in report.settings.sources:
        add("from", printable(named(report, arn)))
    for key in report.settings.wanted.keys:
        add("to", printable(named(report, key.arn)))
    _add_states(report, add)
    for region, count in report.missing_regions.items():
        add("Region", f"{count:,} have no wrapped key of {region}")
    if report.contexts:
        add("contexts", f"{report.contexts:,} distinct")
    for context, count in report.frequent[:5]:
        shown = ", ".join(f"{printable(name)}={printable(value)}" for name, value in context.items())
        add("", f"{count:>9,}  {shown or 'none'}")
    for arn, material, count in report.before if report.verb == "plan" else report.after:
        of_material = f" material {material[:12]}" if material else ""
        add("key", f"{count:>9,}  {printable(named(report, arn))}{of_material}")
    _add_calls(report, add)
    if report.checked is not None:
        _add_checked(report, report.checked, add)
    lines += _kinds(report)
    lines += [f"  {note}" for note in report.remarks]
    return "\n".join(lines)


def _kinds(report: FleetReport) -> Iterator[str]:
    """Yield what is neither done nor to do: a line for a single object, and a few lines for several of one kind."""
    for kind in report.kinds[:LISTED]:
        reason = printable(kind.reason)
        if kind.objects == 1:
            name = printable("".join(kind.examples))
            yield f"  {kind.state}: {name}{': ' if name and reason else ''}{reason}"
            continue
        yield f"  {kind.state}: {kind.objects:,} objects{': ' if reason else ''}{reason}"
        yield from (f"    {printable(name)}" for name in kind.examples)
        if kind.objects > len(kind.examples):
            yield f"    and {kind.objects - len(kind.examples):,} more"
    if rest := sum(kind.objects for kind in report.kinds[LISTED:]):
        yield f"  and {rest:,} for other reasons"


def _add_states(report: FleetReport, add: Callable[[str, str], None]) -> None:
    add("objects", f"{report.objects:,} ({sum(size for _, size in report.states.values()):,} bytes)")
    why = because(report)
    for name, count, more in (
        ("stale", report.stale, f" ({why})" if why else ""),
        ("fresh", report.fresh, ""),
        ("re-encrypted", report.reencrypted if report.verb != "plan" else 0, ""),
        ("re-wrapped", report.rewrapped if report.verb != "plan" else 0, ""),
        ("moved", report.moved if report.verb != "plan" else 0, ": each is still there, and has an envelope"),
        ("failed", report.failed, ""),
        ("left", report.count(State.LEFT), " for the next pass"),
        ("skipped", report.count(State.SKIPPED), ""),
        ("foreign", report.count(State.FOREIGN), f": {listed(report.formats)}"),
        ("damaged", report.count(State.DAMAGED), ""),
        ("unreadable", report.count(State.UNREADABLE, State.UNLISTED), ""),
        ("links", report.links, ""),
    ):
        if count:
            add(name, f"{count:,}{more}")


def _add_calls(report: FleetReport, add: Callable[[str, str], None]) -> None:
    planned = report.verb == "plan" or report.dry_run
    if not planned and report.kms_calls:
        add("KMS calls", f"{report.kms_calls:,}")
    if not planned or not report.planned_calls:
        return
    add("KMS calls", f"{report.planned_calls:,} needed; {report.wrapped:,} distinct wrapped keys in total")
    if report.settings.reencrypt:
        more = ", kms:Encrypt" if len(report.settings.wanted.keys) > 1 else ""
        add("", f"for each envelope: kms:Decrypt on the old keys, kms:GenerateDataKey{more} on the new ones")
        add("to move", f"{report.to_move:,} bytes to read and to write")
    if objects := report.objects_to_move:
        more = ", kms:Encrypt" if len(report.settings.wanted.keys) > 1 else ""
        add("", f"for each object to move: kms:Decrypt on the old keys, kms:GenerateDataKey{more} on the new ones")
        add("to move", f"{objects:,} object{'s' * (objects != 1)}, {report.to_move:,} bytes to read and to write")
        for name, (number, size) in report.moves.items():
            add("", f"{number:>9,}  {name}, {size:,} bytes{''.join(f'; {note}' for note in _moving.notes_on(name))}")
    cost = f"{report.cost:.4f}" if report.cost >= 0.00005 else "less than 0.0001"
    add("cost", f"{cost} USD, {_duration(report.seconds)} at {report.rate:g} calls per second")


def listed(formats: Mapping[str, int]) -> str:
    """Return the numbers of objects of each format as text."""
    return ", ".join(f"{count:,} {printable(name) or UNKNOWN}" for name, count in formats.items())


def _add_checked(report: FleetReport, checked: Checked, add: Callable[[str, str], None]) -> None:
    if report.digests:
        add(
            "plaintexts" if report.settings.reencrypt else "payloads",
            f"{_nonzero(unchanged=checked.digests, changed=len(checked.changed), replaced=checked.replaced)}, "
            f"of {report.digests:,} digests in the plan",
        )
    elif report.settings.reencrypt:
        add("plaintexts", "not compared: no run of this plan has re-encrypted these objects")
    else:
        add("payloads", "not compared: the plan has no digests of these objects")
    if report.moved:
        same = f"{checked.moved:,}" if checked.moved else "none"
        same += f" of {checked.compared:,} compared" if checked.moved < checked.compared else ""
        add("moved", f"{same} hold the same as their envelopes" if checked.compared else "not compared")
    if checked.gone:
        add("gone", f"{checked.gone:,} of the plan's objects")
    if checked.leftovers:
        add("leftovers", f"{len(checked.leftovers):,} left by killed processes; examine, then remove:")
    _add_first(checked.leftovers, "", add)
    _add_first(checked.changed, "changed", add)
    _add_first([f"{name}: {why}" for name, why in checked.unread], "not read", add)
    if checked.decrypted or checked.undecrypted or checked.elsewhere or checked.cbc:
        failed = f"; failed: {len(checked.undecrypted):,}" if checked.undecrypted else ""
        add("decrypted", f"{checked.decrypted:,}{failed}")
        if checked.elsewhere:
            add("", f"{checked.elsewhere:,} not tried: a local context, or a payload stored elsewhere")
        if checked.cbc:
            add("", f"{checked.cbc:,} not tried: in AES-CBC, which is re-wrapped and not read")
    _add_first([f"{name}: {why}" for name, why in checked.undecrypted], "", add)


def _add_first(lines: Sequence[str], name: str, add: Callable[[str, str], None]) -> None:
    for line in lines[:LISTED]:
        add(name, printable(line))
    if len(lines) > LISTED:
        add(name, f"and {len(lines) - LISTED:,} more")


def _nonzero(**counts: int) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in counts.items() if count) or "none compared"


def _duration(seconds: float) -> str:
    if seconds < 1:
        return "less than 1 s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 3600 else f"{seconds / 3600:.1f} h"
