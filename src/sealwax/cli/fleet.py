"""sealwax fleet: rotate the keys of many envelopes."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import click

from sealwax._core import files
from sealwax._core.foreign.rules import LEGACY
from sealwax._text import printable
from sealwax.cli import PARTLY_DONE, acls, console, fleet_reports, fleet_warnings, options
from sealwax.cli.console import counted
from sealwax.cli.fleet_types import Finite, Formats, HowMany
from sealwax.cli.kms import Aws, refuse_too_many
from sealwax.cli.kms_watch import KmsWatch
from sealwax.cli.locations import is_s3, refuse_mistyped_sources
from sealwax.cli.reporting import Reports, provenance, reports

if TYPE_CHECKING:
    from sealwax._aws.session import Session
    from sealwax._report import Provenance
    from sealwax.fleet import FleetReport, Move
    from sealwax.fleet.spark import Spark
    from sealwax.stores import Store


def opening(aws: Aws) -> Callable[[str], Store]:
    """Return what opens places: S3 by profile and Region, never in the lab or at KMS's endpoint."""
    from sealwax.stores import open_store

    def opened(where: str) -> Store:
        with _usage():
            return open_store(where, aws.sessions.open(aws.profile, aws.region) if is_s3(where) else None)

    return opened


@contextlib.contextmanager
def _usage() -> Iterator[None]:
    """Report a place whose name is refused as a mistake in typing."""
    try:
        yield
    except ValueError as error:
        raise click.UsageError(str(error)) from None


def _move(
    also: object, move: bool, into: str | None, legacy: tuple[str, ...], drop_signature: bool, suffix: str
) -> Move | None:
    """Return how to move, as the options say."""
    from sealwax.fleet import Move

    if not move:
        if into is not None or legacy or drop_signature:
            raise click.UsageError("--into, --allow-legacy and --drop-signature require --move")
        return None
    if not also:
        raise click.UsageError("--move requires --also, which names the formats that become envelopes")
    if not suffix:
        raise click.UsageError("--move requires a --suffix: an envelope has the name of its original, and the suffix")
    if into is not None:
        options.refuse_into(into)
    return Move(into, legacy, drop_signature)


def _refuse_places(where: Sequence[str], *, reencrypt: bool) -> None:
    """Refuse URLs with passwords, and key stores where their data would be re-encrypted."""
    from sealwax.fleet._planning import absolute
    from sealwax.stores._store import KEY_STORE_PREFIX, NO_REENCRYPTION, is_key_store

    with _usage():
        absolute(where)
        refuse_mistyped_sources(*(place for place in where if not place.startswith(KEY_STORE_PREFIX)))
        if reencrypt and any(map(is_key_store, where)):
            raise click.UsageError(
                f"--reencrypt does not work on a key store: {NO_REENCRYPTION}; make new data keys with "
                "`sealwax records roll`"
            )


def _or_all(number: int) -> int | None:
    return None if number < 0 else number


_plan_file = click.argument("plan_file", metavar="PLAN", type=click.Path())
_reports = reports(*fleet_reports.FORMS, add_force=True)
_workers = options.workers("Process up to this many objects at a time.")
_engine = click.option(
    "--engine",
    type=click.Choice(("threads", "spark")),
    default="threads",
    show_default=True,
    help="Work in threads, or on Spark: on its cluster if started by spark-submit, else on this machine.",
)


@click.group()
def fleet() -> None:
    """Rotate the keys of many envelopes: plan, run, verify. The data is not touched, except by plan --reencrypt."""


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
    "--to",
    "targets",
    multiple=True,
    required=True,
    metavar="KEY",
    help="A KMS key that envelopes should be under; repeatable.",
)
@click.option(
    "-o", "--output", "plan_file", required=True, metavar="PLAN", type=click.Path(), help="The plan to write."
)
@options.context(stored=True)
@click.option(
    "--suffix",
    default=".swx",
    show_default=True,
    help="The suffix that {relpath} and {name} omit; it does not select objects.",
)
@click.option(
    "--older-than",
    type=options.Duration(),
    metavar="TIME",
    help="Also re-wrap envelopes wrapped longer ago than this, such as 365d.",
)
@click.option("--add-region", is_flag=True, help="Also add missing Regions (kms:Decrypt and kms:Encrypt).")
@click.option(
    "--reencrypt", is_flag=True, help="Encrypt the data again under new data keys, in case the old ones have leaked."
)
@click.option(
    "--also",
    type=Formats(),
    multiple=True,
    metavar="FORMAT,...",
    help="Also re-wrap objects of the S3 Encryption Client (s3ec); KMS is asked for each, since they do not name their "
    "key. Also count messages of the AWS Encryption SDK (esdk) and ENVKMS01 files (envkms01), which can only be moved.",
)
@click.option(
    "--move", is_flag=True, help="Make an envelope NAME.swx of each object of the formats of --also; NAME stays."
)
@click.option("--into", metavar="PLACE", help="With --move: write these envelopes below this folder or prefix.")
@click.option(
    "--allow-legacy",
    "legacy",
    multiple=True,
    type=click.Choice(LEGACY),
    metavar="NAME",
    help="With --move: also read this format, which does not commit to its data key, such as s3ec-v2; repeatable.",
)
@click.option(
    "--drop-signature",
    is_flag=True,
    help="With --move: also move signed messages: their signature is verified, and the envelope has none.",
)
@click.option(
    "--digest",
    type=HowMany(),
    default=0,
    metavar="N|all",
    help="Record the digests of this many payloads, for verify.",
)
@click.option("--rate", type=Finite(0, min_open=True), default=1000, show_default=True, help="KMS calls per second.")
@_workers
@_engine
@options.force
@options.as_json
@reports(*fleet_reports.FORMS)
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
    also: tuple[tuple[str, ...], ...],
    move: bool,
    into: str | None,
    legacy: tuple[str, ...],
    drop_signature: bool,
    digest: int,
    rate: float,
    workers: int,
    engine: str,
    force: bool,
    as_json: bool,
    reports: Reports,
    aws: Aws,
) -> int:
    """Plan a rotation: find which envelopes are stale, and what it takes to re-wrap them.

    WHERE is a folder, a file, an s3:// prefix, or sql+URL, a key store of records without its password. Every header
    there is read, and the plan is written; nothing else is changed. -c gives the context that
    envelopes must have; * in a value stands for any text. Envelopes with another context are skipped. Only the keys of
    --from are trusted, not those that an envelope names. To move envelopes to new material of the same key, give that
    key with both --from and --to.

    With --move, a run decrypts what other programs encrypted, and encrypts it as envelopes. That needs kms:Decrypt on
    the keys of --from, and kms:GenerateDataKey on the keys of --to. `sealwax migrate --remove --journal PLAN` removes
    the originals afterwards.

    With --reencrypt, all of these envelopes count as stale, whatever they are wrapped under: a run decrypts each,
    encrypts it under a new data key, and replaces it. That needs kms:Decrypt on the keys of --from, and
    kms:GenerateDataKey on the keys of --to.
    """
    from sealwax import fleet as library

    refuse_too_many(targets, "--to")
    template.refuse_rules()
    if not (template.pairs or template.none or template.accept_stored):
        raise click.UsageError(
            "select envelopes with -c NAME=VALUE (* stands for any text), --accept-stored-context or --no-context"
        )
    if reencrypt and (older_than is not None or add_region or digest):
        raise click.UsageError(
            "--reencrypt includes what --older-than, --add-region and --digest ask for; remove those options"
        )
    if reencrypt and also:
        raise click.UsageError("--reencrypt works on envelopes only; remove --also")
    moving = _move(also, move, into, legacy, drop_signature, suffix)
    _refuse_places(where, reencrypt=reencrypt)
    reports.refuse(plan_file, "the plan")
    if not force:
        with console.overwriting(plan_file):
            files.refuse_existing(plan_file)
    session = aws.session()
    with console.counting("scanning") as on_progress:
        report = library.plan(
            plan_file,
            where,
            sources=sources,
            to=targets,
            contexts=library.Contexts(tuple(template.pairs.items()), template.accept_stored, suffix),
            older_than=older_than,
            add_regions=add_region,
            reencrypt=reencrypt,
            also=[name for names in also for name in names],
            move=moving,
            session=session,
            open_location=opening(aws),
            digests=_or_all(digest),
            rate=rate,
            workers=workers,
            engine=_spark(engine, where, aws, rate, None),
            overwrite=force,
            on_progress=on_progress,
        )
    status = fleet_warnings.of_objects(report)
    _show(report, plan_file, as_json, reports, aws, session)
    acls.warn_of_places(map(opening(aws), where))
    return status


@fleet.command("run")
@_plan_file
@click.option("--apply", is_flag=True, help="Change the envelopes; without it, only report what would be done.")
@click.option("--stale", is_flag=True, help="First read every header and look up the keys again: for scheduled runs.")
@click.option("--rate", type=Finite(0, min_open=True), help="KMS calls per second. Default: the plan's.")
@click.option("--max-duration", type=options.Duration(), metavar="TIME", help="Stop after this time, such as 50m.")
@click.option(
    "--max-error-rate",
    type=Finite(0, 1),
    default=0.1,
    show_default=True,
    help="Stop if more than this fraction of the last hundred objects failed.",
)
@_workers
@_engine
@click.option(
    "--results", metavar="DIR", help="With --engine spark: write the outcome of every object to Parquet files here."
)
@options.as_json
@_reports
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
    reports: Reports,
    aws: Aws,
) -> int:
    """Re-wrap what the plan found stale. It can be stopped or killed at any time; run it again to resume.

    The caller needs kms:ReEncryptFrom on the old keys and kms:ReEncryptTo on the new ones. If the plan was made with
    --reencrypt, the envelopes are re-encrypted instead; that needs kms:Decrypt and kms:GenerateDataKey. So do the moves
    of a plan that was made with --move.
    """
    from sealwax import fleet as library

    reports.refuse(plan_file, "the plan")
    if not apply:
        if stale:
            raise click.UsageError("--stale requires --apply, because it changes the plan")
        report = dataclasses.replace(library.status(plan_file), verb="run", dry_run=True)
        status = fleet_warnings.of_objects(report)
        _show(report, plan_file, as_json, reports, aws, None)
        return status
    if results and engine != "spark":
        raise click.UsageError("--results requires --engine spark")
    session = aws.session()
    planned = library.status(plan_file)
    spark_engine = _spark(engine, planned.locations, aws, rate or planned.rate, results)
    notes: tuple[str, ...] = ()
    if stale:
        # A signal ends it at once: an interrupted scan changes nothing.
        with console.counting("scanning") as on_progress:
            notes = library.refresh(
                plan_file,
                session=session,
                open_location=opening(aws),
                workers=workers,
                engine=spark_engine,
                on_progress=on_progress,
            )
    doing = "re-encrypting" if planned.settings.reencrypt else "moving" if planned.settings.move else "re-wrapping"
    watch = KmsWatch()
    watch.begin()
    with _stopping() as stopped, console.counting(doing) as on_progress:
        report = library.run(
            plan_file,
            session=session,
            open_location=opening(aws),
            rate=rate,
            workers=workers,
            engine=spark_engine,
            max_error_rate=max_error_rate,
            max_duration=max_duration,
            stop=stopped,
            on_progress=on_progress,
            on_event=watch,
        )
    report = dataclasses.replace(report, notes=notes)
    status = fleet_warnings.of_objects(report)
    if report.stale:
        because = f", because {report.ended}" if report.ended else ""
        left = counted(report.stale, fleet_reports.noun(report))
        console.warn(f"still stale: {left}{because}; run the same command again to resume")
        status = PARTLY_DONE
    _show(report, plan_file, as_json, reports, aws, session)
    return status


@fleet.command("status")
@_plan_file
@click.option("--list", "as_list", is_flag=True, help="List every object that is neither done nor pending, and why.")
@options.as_json
@_reports
@options.loudness
def status_command(plan_file: str, as_list: bool, as_json: bool, reports: Reports) -> int:
    """Show the state of a plan, without looking at the objects."""
    from sealwax import fleet as library

    if as_list and reports:
        raise click.UsageError("use --list or --report, not both")
    reports.refuse(plan_file, "the plan")
    if as_list:
        for name, state, reason in library.problems(plan_file):
            if as_json:
                console.print_json({"name": name, "state": state, "reason": reason})
            else:
                shown = fleet_reports.in_commands(reason)
                console.print(f"{state}: {printable(name)}{': ' if name and reason else ''}{shown}")
        return 0
    _show(library.status(plan_file), plan_file, as_json, reports, None, None)
    return 0


@fleet.command("verify")
@_plan_file
@click.option(
    "--digest",
    type=HowMany(),
    default="all",
    metavar="N|all",
    show_default=True,
    help="Compare the digests of this many payloads.",
)
@click.option("--decrypt", type=click.IntRange(0), default=0, metavar="N", help="Decrypt this many, chosen at random.")
@_workers
@options.as_json
@_reports
@options.aws
@options.loudness
def verify_command(
    plan_file: str, digest: int, decrypt: int, workers: int, as_json: bool, reports: Reports, aws: Aws
) -> int:
    """Check that nothing is stale and that no payload has changed.

    Every header is read again. --decrypt needs kms:Decrypt on the new keys; without it, KMS is not called. Re-encrypted
    envelopes are decrypted to compare them: all, or as many as --digest says. So are objects that were moved, and their
    envelopes; that needs kms:Decrypt on the old keys and on the new ones.
    """
    from sealwax import fleet as library

    reports.refuse(plan_file, "the plan")
    settings = library.status(plan_file).settings
    opens = decrypt or (digest and (settings.reencrypt or settings.move))
    session = aws.session() if opens else None
    with console.counting("scanning") as on_progress:
        report = library.verify(
            plan_file,
            session=session,
            open_location=opening(aws),
            digests=_or_all(digest),
            decrypt=decrypt,
            workers=workers,
            on_progress=on_progress,
        )
    status = fleet_warnings.of_verification(report, decrypt)
    _show(report, plan_file, as_json, reports, aws, session)
    return status


def _spark(engine: str, where: Sequence[str], aws: Aws, rate: float, results: str | None) -> Spark | None:
    """Return the engine of that name; None for threads."""
    if engine != "spark":
        return None
    from sealwax.fleet import spark
    from sealwax.fleet._planning import absolute

    # Executors use their own AWS credentials; the driver's are not passed on.
    remote = dataclasses.replace(aws, lab=aws.lab and os.path.abspath(aws.lab))
    if results is not None and "://" not in results:
        # Spark would resolve it in the working folder of its Java process.
        results = os.path.abspath(results)
    return spark.Spark(
        spark.open_session(),
        absolute(where),
        results=results,
        rate=rate,
        open_location=functools.partial(_open_on_executor, aws),
        kms_session=remote.session,
    )


def _open_on_executor(aws: Aws, where: str) -> Store:
    return opening(aws)(where)


def _show(
    report: FleetReport, plan_file: str, as_json: bool, reports: Reports, aws: Aws | None, session: Session | None
) -> None:
    """Print a report and write those of --report; without ``aws``, nobody is asked who makes them."""

    def made() -> Provenance:
        caller = None if aws else ""
        return provenance(aws or Aws(), fleet_reports.regions(report), session=session, caller=caller)

    fleet_reports.show(report, plan_file, as_json, reports, made)


@contextlib.contextmanager
def _stopping() -> Iterator[Callable[[], bool]]:
    """Yield what returns True after Ctrl-C or SIGTERM. Work in progress is finished; a second signal ends it."""
    stopped = False

    def stop(signal_number: int, _: object) -> None:
        nonlocal stopped
        if stopped:
            console.leave_at_once(signal_number, None)  # a killed run can be resumed
        stopped = True
        console.info("finishing the objects in progress; press Ctrl-C again to stop at once")

    with console.on_signals((signal.SIGINT, signal.SIGTERM), stop):
        yield lambda: stopped
