"""sealwax fleet: rotate the keys of many envelopes."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import math
import os
import re
import signal
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

import click

from sealwax._core import files
from sealwax._core.context import printable
from sealwax._core.format.io import write_all
from sealwax.cli import PARTLY_DONE, console, options, sessions
from sealwax.errors import FileError

if TYPE_CHECKING:
    from sealwax._aws.session import Session
    from sealwax.fleet import FleetReport
    from sealwax.fleet.spark import Spark
    from sealwax.stores import Store

_FAILED: Final = 1
_PAYLOAD_STATUS: Final = 5
_CONTEXT_STATUS: Final = 6
_HIDDEN: Final = ("unreadable", "damaged", "unlisted")
_LINKS: Final = ("link",)


class _HowMany(click.ParamType):  # type: ignore[type-arg]
    """A number, or "all", which is None."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | None:
        if value == "all":
            return -1
        if not re.fullmatch(r"[0-9]{1,9}", str(value)):
            self.fail(f"'{printable(str(value))}' is neither a number nor 'all'", param, ctx)
        return int(value)


class _Finite(click.FloatRange):
    """A number in a range: NaN is in every one, since it is not outside."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number: float = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"'{printable(str(value))}' is no number to count with", param, ctx)
        return number


def opening(aws: options.Aws) -> Callable[[str], Store]:
    """Return what opens places: S3 as the profile and Region say, and never in the lab or at KMS's endpoint."""
    from sealwax.stores import open_store

    def opened(where: str) -> Store:
        return open_store(where, sessions.session(aws.profile, aws.region) if "://" in where else None)

    return opened


def _or_all(number: int) -> int | None:
    return None if number < 0 else number


_plan_file = click.argument("plan_file", metavar="PLAN", type=click.Path())
_as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
_html = click.option("--html", metavar="FILE", type=click.Path(), help="Write the report as a web page too.")
_workers = options.workers("How many objects at a time.")
_engine = click.option(
    "--engine",
    type=click.Choice(("threads", "spark")),
    default="threads",
    show_default=True,
    help="Work here, or on Spark: by spark-submit on its cluster, else on this machine's cores.",
)


@click.group()
def fleet() -> None:
    """Rotate the keys of many envelopes: plan, run, verify. The data is not touched, but by plan --reencrypt."""


@fleet.command("plan")
@click.argument("where", nargs=-1, required=True, metavar="WHERE...")
@click.option(
    "--from",
    "sources",
    multiple=True,
    required=True,
    metavar="KEY",
    help="A KMS key that envelopes may be under now; repeatable.",
)
@click.option(
    "--to", "targets", multiple=True, required=True, metavar="KEY", help="A wanted KMS key; repeatable: the new set."
)
@click.option("-o", "--output", "plan_file", required=True, metavar="PLAN", type=click.Path(), help="The plan file.")
@options.context(stored=True)
@click.option(
    "--suffix",
    default=".swx",
    show_default=True,
    help="What {relpath} and {name} leave off; it does not select objects.",
)
@click.option(
    "--older-than", type=options.Duration(), metavar="TIME", help="Re-wrap what was wrapped longer ago, as 365d."
)
@click.option("--add-region", is_flag=True, help="Add wanted Regions that are missing: kms:Decrypt and kms:Encrypt.")
@click.option(
    "--reencrypt", is_flag=True, help="Encrypt the data anew, under new data keys: for ones that somebody may know."
)
@click.option(
    "--digest", type=_HowMany(), default=0, metavar="N|all", help="Read so many payloads, for verify to compare."
)
@click.option("--rate", type=_Finite(0, min_open=True), default=1000, show_default=True, help="KMS calls a second.")
@_workers
@_engine
@options.force
@_as_json
@_html
@options.aws
@options.loudness
def plan_command(
    where: tuple[str, ...],
    sources: tuple[str, ...],
    targets: tuple[str, ...],
    plan_file: str,
    template: options.ContextTemplate,
    suffix: str,
    older_than: float | None,
    add_region: bool,
    reencrypt: bool,
    digest: int,
    rate: float,
    workers: int,
    engine: str,
    force: bool,
    as_json: bool,
    html: str | None,
    aws: options.Aws,
) -> int:
    """Look at every header below WHERE, and write a plan: what is stale, and what it takes. Nothing else is changed.

    -c gives what every envelope's stored context must be; * in a value stands for any text. What does not fit is
    skipped. --from is the allow-list: no key is trusted because an envelope names it. For new material of the same key,
    name the key with both --from and --to.

    With --reencrypt all that is meant is stale, whatever it is wrapped under: a run reads it, encrypts it under a data
    key of its own, and replaces it. It needs kms:Decrypt on the keys --from and kms:GenerateDataKey on those --to.
    """
    from sealwax import fleet as library

    options.refuse_too_many(targets, "--to")
    if not (template.pairs or template.none or template.accept_stored):
        raise click.UsageError(
            "say which envelopes are meant: -c NAME=VALUE (* is any text), --accept-stored-context or --no-context"
        )
    if reencrypt and (older_than is not None or add_region or digest):
        raise click.UsageError(
            "--reencrypt takes everything, in every Region, and its run takes the digests: "
            "leave --older-than, --add-region and --digest away"
        )
    if os.path.exists(plan_file) and not force:
        shown = printable(plan_file)
        raise FileError(f"writing the plan '{shown}' failed: it already exists; use --force to overwrite")
    with console.counting("looking") as on_progress:
        report = library.plan(
            plan_file,
            where,
            sources=sources,
            to=targets,
            contexts=library.Contexts(tuple(template.pairs.items()), template.accept_stored, suffix),
            older_than=older_than,
            add_regions=add_region,
            reencrypt=reencrypt,
            session=aws.session(),
            open_location=opening(aws),
            digests=_or_all(digest),
            rate=rate,
            workers=workers,
            engine=_spark(engine, where, aws, rate, None),
            overwrite=force,
            on_progress=on_progress,
        )
    _show(report, as_json, html)
    if report.missing_regions and not add_region:
        console.tell("--add-region adds wrapped keys of the missing Regions (kms:Decrypt and kms:Encrypt)")
    return _ends(report)


@fleet.command("run")
@_plan_file
@click.option("--apply", is_flag=True, help="Do it; without, only say what would be done.")
@click.option("--stale", is_flag=True, help="First look at every header again, and at the keys: for a scheduler.")
@click.option("--rate", type=_Finite(0, min_open=True), help="KMS calls a second; else the plan's.")
@click.option("--max-duration", type=options.Duration(), metavar="TIME", help="Stop after this time, as 50m.")
@click.option(
    "--max-error-rate",
    type=_Finite(0, 1),
    default=0.1,
    show_default=True,
    help="Stop when more than this part of the last hundred objects has failed.",
)
@_workers
@_engine
@click.option(
    "--results", metavar="DIR", help="With --engine spark: where Parquet files say what became of every object."
)
@_as_json
@_html
@options.aws
@options.loudness
def run_command(
    plan_file: str,
    apply: bool,
    stale: bool,
    rate: float | None,
    max_duration: float | None,
    max_error_rate: float,
    workers: int,
    engine: str,
    results: str | None,
    as_json: bool,
    html: str | None,
    aws: options.Aws,
) -> int:
    """Re-wrap what the plan found stale. Stopped or killed at any moment, it goes on when it is run again.

    The caller needs kms:ReEncryptFrom on the old keys and kms:ReEncryptTo on the new ones. A plan that was made with
    --reencrypt is carried out as it says.
    """
    from sealwax import fleet as library

    if not apply:
        if stale:
            raise click.UsageError("--stale changes the plan, and goes with --apply")
        report = library.status(plan_file)
        _show(report, as_json, html)
        console.tell(f"{report.stale:,} would be {_words(report)[1]}; nothing was changed without --apply")
        return _ends(report)
    if results and engine != "spark":
        raise click.UsageError("--results goes with --engine spark")
    session = aws.session()
    planned = library.status(plan_file)
    made = _spark(engine, planned.locations, aws, rate or planned.rate, results)
    notes: tuple[str, ...] = ()
    if stale:
        # A signal ends it at once: a scan that is interrupted has not been.
        with console.counting("looking") as on_progress:
            notes = library.refresh(
                plan_file,
                session=session,
                open_location=opening(aws),
                workers=workers,
                engine=made,
                on_progress=on_progress,
            )
    with _stopping() as stopped, console.counting(_words(planned)[0]) as on_progress:
        report = library.run(
            plan_file,
            session=session,
            open_location=opening(aws),
            rate=rate,
            workers=workers,
            engine=made,
            max_error_rate=max_error_rate,
            max_duration=max_duration,
            stop=stopped,
            on_progress=on_progress,
        )
    report = dataclasses.replace(report, notes=notes)
    _show(report, as_json, html)
    status = _ends(report)
    if report.stale:
        because = f", since {report.ended}" if report.ended else ""
        console.say(f"{report.stale:,} envelopes are still stale{because}; run the same command again to resume")
        return PARTLY_DONE
    return status


@fleet.command("status")
@_plan_file
@click.option("--list", "as_list", is_flag=True, help="List every object that is neither done nor to do, and why.")
@_as_json
@_html
@options.loudness
def status_command(plan_file: str, as_list: bool, as_json: bool, html: str | None) -> int:
    """Show what stands in a plan. Nothing else is looked at."""
    from sealwax import fleet as library

    if as_list:
        for name, state, reason in library.problems(plan_file):
            if as_json:
                console.print_json({"name": name, "state": state, "reason": reason})
            else:
                console.put(f"{state}: {printable(name)}{': ' if name and reason else ''}{reason}")
        return 0
    _show(library.status(plan_file), as_json, html)
    return 0


@fleet.command("verify")
@_plan_file
@click.option(
    "--digest",
    type=_HowMany(),
    default="all",
    metavar="N|all",
    show_default=True,
    help="Compare so many digests.",
)
@click.option("--decrypt", type=click.IntRange(0), default=0, metavar="N", help="Decrypt so many, drawn at random.")
@_workers
@_as_json
@_html
@options.aws
@options.loudness
def verify_command(
    plan_file: str, digest: int, decrypt: int, workers: int, as_json: bool, html: str | None, aws: options.Aws
) -> int:
    """Look at every header again: nothing is stale, and the payloads are what they were.

    With --decrypt the caller needs kms:Decrypt on the new keys; without, no call to KMS is made. What was re-encrypted
    is decrypted to compare it: all of it, or --digest N.
    """
    from sealwax import fleet as library

    opens = decrypt or (digest and library.status(plan_file).settings.reencrypt)
    with console.counting("looking") as on_progress:
        report = library.verify(
            plan_file,
            session=aws.session() if opens else None,
            open_location=opening(aws),
            digests=_or_all(digest),
            decrypt=decrypt,
            workers=workers,
            on_progress=on_progress,
        )
    _show(report, as_json, html)
    checked = report.checked
    assert checked is not None
    if checked.changed or checked.undecrypted:
        console.say(f"{len(checked.changed)} payloads changed, {len(checked.undecrypted)} envelopes do not decrypt")
        return _PAYLOAD_STATUS
    status = _ends(report)
    if report.nothing and checked.gone:
        console.say(
            f"not done: all {checked.gone:,} objects of the plan are gone; see that its places are there as they were"
        )
    if decrypt and checked.elsewhere and not checked.decrypted:
        console.say(f"none of {decrypt:,} was decrypted: {checked.elsewhere:,} need what only their readers know")
        status = PARTLY_DONE
    if report.stale:
        console.say(f"not done: {report.stale:,} are stale; run the plan again, with --stale")
        return PARTLY_DONE
    return status


def _ends(report: FleetReport) -> int:
    """Say what was not looked at or found, and return the exit status, but for what is stale."""
    if report.missed:
        reasons = [reason for _, state, reason in report.problems if state == "skipped"]
        first = f"; the first: {reasons[0]}" if reasons else ""
        console.say(
            f"all {report.count('skipped'):,} envelopes are skipped, since none has the context that was given{first}; "
            "check -c of the plan, and that WHERE is the place that is meant"
        )
    if report.hidden:
        console.say(f"{report.hidden:,} could not be read or listed, and may be stale{_named(report, _HIDDEN)}")
    if report.links:
        console.say(
            f"{report.links:,} links were not followed: what is behind them was not looked at{_named(report, _LINKS)}"
        )
    if report.blind:
        console.say("what is under old key material cannot be told: " + report.notes[0])
    if report.missed:
        return _CONTEXT_STATUS
    if report.hidden or report.blind:
        return PARTLY_DONE
    if report.nothing:
        return _FAILED
    return PARTLY_DONE if report.links or report.empty else 0


def _named(report: FleetReport, states: Sequence[str]) -> str:
    """Return the first of the objects in these states, and why; -q and --json leave no other sentence of them."""
    for name, state, reason in report.problems:
        if state in states:
            return f"; the first: {printable(name)}{': ' if name and reason else ''}{reason}"
    return ""


def _spark(engine: str, where: Sequence[str], aws: options.Aws, rate: float, results: str | None) -> Spark | None:
    """Return the engine of that name; None for threads, which need no making."""
    if engine != "spark":
        return None
    from sealwax.fleet import spark
    from sealwax.fleet._rotation import absolute

    # Executors take the AWS credentials that are theirs; the driver's are not handed on.
    there = dataclasses.replace(aws, lab=aws.lab and os.path.abspath(aws.lab))
    session = functools.partial(_session_of_executor, there)
    if results is not None and "://" not in results:
        # Spark would look from where its Java stands.
        results = os.path.abspath(results)
    return spark.Spark(
        spark.open_session(),
        absolute(where),
        results=results,
        rate=rate,
        open_location=functools.partial(_open_on_executor, aws),
        kms_session=session,
    )


def _open_on_executor(aws: options.Aws, where: str) -> Store:
    return opening(aws)(where)


def _session_of_executor(aws: options.Aws) -> Session:
    console.quiet = True  # what is to be told has been told by the driver
    return aws.session()


def _words(report: FleetReport) -> tuple[str, str]:
    return ("re-encrypting", "re-encrypted") if report.settings.reencrypt else ("re-wrapping", "re-wrapped")


def _show(report: FleetReport, as_json: bool, html: str | None) -> None:
    for place in report.empty:
        console.say(f"no envelope was found in '{printable(place)}'; see that it is the place that is meant")
    if as_json:
        console.print_json(report.as_dict())
    else:
        console.put(str(report))
    if html is not None:
        from sealwax.fleet._page import as_html

        with files.WholeFile(html, overwrite=True, mode=0o644) as whole:
            write_all(whole, as_html(report).encode("utf-8", "backslashreplace"))


@contextlib.contextmanager
def _stopping() -> Iterator[Callable[[], bool]]:
    """Lend what tells that Ctrl-C or SIGTERM came: the objects under way are finished. A second one does not wait."""
    came = False
    before: dict[int, Any] = {}

    def stop(signal_number: int, _: Any) -> None:
        nonlocal came
        if came:
            console.leave_at_once(signal_number, None)  # what is killed can be resumed
        came = True
        console.say("stopping when the objects under way are done; once more stops at once")

    for number in (int(signal.SIGINT), int(signal.SIGTERM)):
        before[number] = signal.signal(number, stop)
    try:
        yield lambda: came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
