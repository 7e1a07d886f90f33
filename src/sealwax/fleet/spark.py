"""Rotation of a fleet on Spark: an engine for ``fleet.plan`` and ``fleet.run``, and two jobs over DataFrames.

``scan`` reads headers and ``rewrap`` re-wraps. Spark repeats a failed task; what the task had done is fresh by then, so
it is left alone and costs no KMS call. A partition makes one kms:ReEncrypt for each distinct wrapped key in it. If
``rewrap`` gets what ``scan`` returned, it brings envelopes that share a wrapped key into one partition.

The rate is divided by the number of tasks that can run at once, so all of them together keep to it.

Needs the extra ``spark`` (PySpark 3.5 or 4; not Spark Connect) and Java 17. The executors' role needs
kms:ReEncryptFrom on the old keys and kms:ReEncryptTo on the new ones, and access to the location.

Example:
    >>> job = spark.Job("s3://archive/", settings, rate=5000)
    >>> names = session.read.parquet(inventory).selectExpr("concat('s3://', bucket, '/', key) AS name")
    >>> rows = spark.scan(names, job)
    >>> spark.rewrap(rows.where("state = 'stale'"), job).write.parquet("s3a://reports/rotation")
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import sys
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Final

from sealwax._aws.session import Session
from sealwax._text import printable
from sealwax.errors import CredentialsError, EngineError
from sealwax.fleet import _shard
from sealwax.fleet._kms_calls import Rewrapper
from sealwax.fleet._settings import Settings
from sealwax.fleet._shard import Item, RunResult, ScanResult
from sealwax.fleet._state import State
from sealwax.fleet._threads import Health, batches, entries_of
from sealwax.kms import RateLimit
from sealwax.stores import Entry, Store, open_store
from sealwax.stores._store import is_key_store

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

_NAMES: Final = "number long, name binary"
_KEYS: Final = "array<struct<arn:string,material:string>>"
_UNITS: Final = "array<struct<unit:binary,calls:long>>"
_FOUND: Final = (
    "number long, name string, state string, reason string, reasons array<string>, missing_regions array<string>, "
    "envelope_id binary, keys " + _KEYS + ", hashes array<binary>, context binary, "
    "units " + _UNITS + ", format string"
)
_RESULT: Final = (
    "number long, name string, state string, reason string, keys " + _KEYS + ", "
    "kms_error boolean, no_credentials boolean, format string, buried boolean, kms_calls long"
)


__all__ = ["Job", "Spark", "open_session", "rewrap", "scan"]


@dataclass(frozen=True, slots=True)
class Job:
    """What executors need to know. It is pickled, with the functions in it.

    Args:
        location: the location that contains all names.
        settings: how to wrap envelopes: a plan's settings, or new ones.
        rate: KMS requests per second, of all tasks together.
        open_location: opens the location on an executor, by default with the executor's own AWS credentials.
        session: makes the boto3 Session for KMS on an executor; an ordinary one by default.
        max_error_rate: a task stops when more than this fraction of its last hundred objects failed.
        until: stop after this time, in Unix seconds; None: never.
        remembered: how many new wrapped keys a task keeps for further envelopes with the same old one; each takes less
            than a kilobyte.
    """

    location: str
    settings: Settings
    rate: float = 1000.0
    open_location: Callable[[str], Store] = open_store
    session: Callable[[], Session] | None = None
    max_error_rate: float = 1.0
    until: float | None = None
    remembered: int = 1 << 16  # by default, a plan's partitions have fewer objects


def scan(names: DataFrame, job: Job) -> DataFrame:
    """Read the header of each object.

    Args:
        names: a DataFrame with a column ``name``, of strings, or of bytes for file names that are not text. A column
            ``number`` is returned with each object; others are dropped.
        job: what executors need to know.

    Returns:
        A row for each object: ``name``, ``state`` (``'stale'``, ``'fresh'``, ...), ``reason``, ``keys`` and more.
    """
    return _over(names, functools.partial(_scan_part, job), _FOUND)


def rewrap(names: DataFrame, job: Job) -> DataFrame:
    """Re-wrap objects.

    As usual with Spark, it happens when the result is used, and again when the result is used again, which then finds
    nothing to do. So write the result somewhere, and read that.

    Args:
        names: as for ``scan``, or what ``scan`` returned.
        job: what executors need to know.

    Returns:
        A row for each object: ``name``, ``state`` (``'rewrapped'``, ``'failed'``, ...), ``reason``, ``kms_calls`` and
        more.
    """
    partitions = names.rdd.getNumPartitions()
    if "units" in names.columns:
        # Objects without a call to share, such as fresh ones, are spread by their names.
        unit = "coalesce(get(units, 0).unit, cast(name AS binary)) AS unit"
        names = names.selectExpr("number", "name", unit).repartition(partitions, "unit")
        # Next to each other, they share a call however many others the partition has.
        names = names.sortWithinPartitions("unit")
    rate = job.rate / _tasks_at_once(names.sparkSession, partitions)
    return _over(names, functools.partial(_rewrap_part, job, rate), _RESULT)


def _tasks_at_once(session: SparkSession, partitions: int) -> int:
    """Return how many tasks of this many partitions can run at the same time, at most."""
    context = session.sparkContext
    conf = context.getConf()
    cores = int(conf.get("spark.executor.cores", "0") or 0)
    # The default may be set below the number of cores, or be read before all executors have started.
    slots = max(context.defaultParallelism, cores * int(conf.get("spark.executor.instances", "0") or 0))
    if conf.get("spark.dynamicAllocation.enabled", "false") == "true":
        # Any number of executors, unless limited; how many tasks each takes is not always known either.
        slots = cores * int(conf.get("spark.dynamicAllocation.maxExecutors", "0") or 0) or partitions
    return max(1, min(partitions, slots))


# --- on an executor


def _scan_part(job: Job, rows: Iterable[Any]) -> Iterator[tuple[Any, ...]]:
    for result in _shard.scan(_items(rows), job.settings, job.open_location(job.location)):
        yield _row(result)


def _rewrap_part(job: Job, rate: float, rows: Iterable[Any]) -> Iterator[tuple[Any, ...]]:
    store = job.open_location(job.location)
    rewrapper = Rewrapper(
        job.settings.sources,
        session=None if job.session is None else job.session(),
        limit=RateLimit(rate),
        remembered=job.remembered,
    )
    health = Health(job.max_error_rate, None, lambda: job.until is not None and time.time() > job.until)
    counted = 0
    for result in _shard.rewrap(_items(rows), job.settings, store, rewrapper, health.over):
        health.saw(result)
        calls, counted = rewrapper.calls - counted, rewrapper.calls
        yield (*_row(result), calls)


def _over(names: DataFrame, work: Callable[[Iterable[Any]], Iterator[tuple[Any, ...]]], schema: str) -> DataFrame:
    number = "number" if "number" in names.columns else "0L AS number"
    rows = names.selectExpr(number, "name").rdd.mapPartitions(work)
    return names.sparkSession.createDataFrame(rows, schema, verifySchema=False)


def _items(rows: Iterable[Any]) -> Iterator[Item]:
    for number, name in rows:
        yield Item(number, name if isinstance(name, str) else os.fsdecode(bytes(name)))


def _row(result: ScanResult | RunResult) -> tuple[Any, ...]:
    # A name that is not text is only for display; the number identifies the object.
    shown = result.name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    values = {field.name: getattr(result, field.name) for field in fields(result)}
    values |= {"name": shown, "state": result.state.value}
    return tuple(list(value) if isinstance(value, tuple) else value for value in values.values())


# --- the engine


class Spark:
    """An engine that works on a plan's objects with Spark. The plan file stays with the driver.

    Args:
        session: the Spark session; see ``open_session``.
        locations: the plan's locations, in its order.
        results: a folder or URL for Spark to write to: each run adds a folder of Parquet files with the result for
            every object. None: results are in the plan only.
        rate, open_location: as for ``Job``.
        kms_session: as ``session`` of ``Job``.
        partitions: how many parts to divide the objects into; by default 4 for each core.
        rows: the most objects in one Spark job. Between jobs the plan is written, and a run can be stopped.

    Raises:
        EngineError: a location is a key store.

    Example:
        >>> engine = spark.Spark(spark.open_session(), ["s3://archive/"], rate=5000)
        >>> fleet.run("rotation.plan", engine=engine)
    """

    def __init__(
        self,
        session: SparkSession,
        locations: Sequence[str],
        *,
        results: str | None = None,
        rate: float = 1000.0,
        open_location: Callable[[str], Store] = open_store,
        kms_session: Callable[[], Session] | None = None,
        partitions: int | None = None,
        rows: int = 200_000,
    ) -> None:
        if any(map(is_key_store, locations)):
            raise EngineError("Spark does not work on key stores; run this plan with threads, on one machine")
        self._session = session
        self._locations = tuple(locations)
        self._results = results
        self._rate = rate
        self._open_location = open_location
        self._kms_session = kms_session
        self._partitions = partitions or 4 * session.sparkContext.defaultParallelism
        self._rows = rows
        self._jobs = itertools.count()
        self._run = time.strftime("%Y%m%dT%H%M%SZ-", time.gmtime()) + os.urandom(4).hex()

    def _scan(
        self,
        place: int,
        store: Store,
        settings: Settings,
        unlisted: Callable[[str], None],
        own: Collection[str],
    ) -> Iterator[tuple[list[Entry], list[ScanResult]]]:
        """The driver lists, and executors read headers.

        Raises:
            CredentialsError: an executor has no credentials.
            EngineError: Spark gave up on the job.
        """
        for entries in batches(entries_of(store, unlisted, own), self._rows):
            names = self._frame(Item(at, entry.name) for at, entry in enumerate(entries))
            results: dict[int, ScanResult] = {}
            with _reported():
                for row in scan(names, self._job(place, settings)).collect():
                    results[row.number] = _scan_result(row, entries[row.number].name)
            yield entries, [results[at] for at in range(len(entries))]

    def _rewrap(
        self,
        parts: Iterable[tuple[int, list[Item]]],
        stores: Sequence[Store],  # noqa: ARG002  executors open their own
        settings: Settings,
        rewrapper: Rewrapper,
        health: Health,
    ) -> Iterator[list[RunResult]]:
        """Executors re-wrap.

        Raises:
            EngineError: Spark gave up on the job. Another run continues.
        """
        for place, pages in itertools.groupby(parts, lambda part: part[0]):
            for items in batches((item for _, page in pages for item in page), self._rows):
                if health.over():
                    return
                job = self._job(place, settings, health)
                results = rewrap(self._frame(items), job)
                names = {item.number: item.name for item in items}
                done: list[RunResult] = []
                with _reported():
                    if self._results is not None:
                        path = f"{self._results.rstrip('/')}/{self._run}-{next(self._jobs):04}"
                        results.write.parquet(path)
                        results = self._session.read.parquet(path)
                    for row in results.collect():
                        rewrapper.calls += row.kms_calls
                        done.append(_run_result(row, names[row.number]))
                for result in done:
                    health.saw(result)
                yield done

    def _frame(self, items: Iterable[Item]) -> DataFrame:
        rows = [(item.number, os.fsencode(item.name)) for item in items]
        return self._session.createDataFrame(rows, _NAMES, verifySchema=False).repartition(self._partitions)

    def _job(self, place: int, settings: Settings, health: Health | None = None) -> Job:
        until = None if health is None or health.until is None else time.time() + health.until - time.monotonic()
        return Job(
            self._locations[place],
            settings,
            self._rate,
            self._open_location,
            self._kms_session,
            1.0 if health is None else health.max_error_rate,
            until,
        )


def _scan_result(row: Any, name: str) -> ScanResult:
    return ScanResult(
        row.number,
        name,
        State(row.state),
        row.reason,
        tuple(row.reasons),
        tuple(row.missing_regions),
        bytes(row.envelope_id),
        tuple((key.arn, key.material) for key in row["keys"]),
        tuple(map(bytes, row.hashes)),
        bytes(row.context),
        tuple((bytes(unit.unit), unit.calls) for unit in row.units),
        row.format,
    )


def _run_result(row: Any, name: str) -> RunResult:
    keys = tuple((key.arn, key.material) for key in row["keys"])
    state, of_kms = State(row.state), (row.kms_error, row.no_credentials)
    return RunResult(row.number, name, state, row.reason, keys, *of_kms, row.format, row.buried)


@contextlib.contextmanager
def _reported() -> Iterator[None]:
    from py4j.protocol import Py4JError
    from pyspark.errors import PySparkException

    try:
        yield
    except (Py4JError, PySparkException) as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        _, signed_out, why = str(error).partition(f"{CredentialsError.__name__}: ")
        if signed_out:
            raise CredentialsError(printable(why.splitlines()[0])) from None
        said = next((line for line in reversed(lines) if "Error" in line and not line.startswith("at ")), lines[0])
        raise EngineError(
            f"Spark gave up on the job: {printable(said[:500]).rstrip('.')}. Run it again to resume."
        ) from error


def open_session(name: str = "sealwax fleet") -> SparkSession:
    """Return the current Spark session, the one that ``spark-submit`` set up, or a new one on this machine's cores.

    Args:
        name: the name of the Spark application.

    Returns:
        The session.

    Raises:
        EngineError: PySpark is not installed, or Spark does not start.
    """
    try:
        from pyspark.sql import SparkSession
    except ImportError as error:
        raise EngineError(f"Spark needs {error.name}; install it with \"pip install 'sealwax[spark]'\"") from None
    builder = SparkSession.builder.appName(name)
    if "PYSPARK_GATEWAY_PORT" not in os.environ:
        # Not started by spark-submit: local, with this Python, and with retries of failed tasks as on a cluster.
        os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
        builder = builder.master("local[*, 4]").config("spark.ui.enabled", "false")
    try:
        return builder.getOrCreate()
    except Exception as error:
        raise EngineError(
            "Spark does not start; it needs Java 17 or 21, in JAVA_HOME or on the PATH "
            f"({type(error).__name__}: {printable(str(error)[:200])})"
        ) from error
