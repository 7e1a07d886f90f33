"""The engine of Spark, and its two jobs over DataFrames: :func:`scan` reads headers, :func:`rewrap` re-wraps.

::

    job = spark.Job("s3://archive/", settings, rate=5000)
    names = session.read.parquet(inventory).selectExpr("concat('s3://', bucket, '/', key) AS name")
    found = spark.scan(names, job)
    spark.rewrap(found.where("state = 'stale'"), job).write.parquet("s3a://reports/rotation")

Each partition is worked on by the functions of ``fleet._shard``. A task that fails is repeated by Spark; what
it had done is fresh by then and left alone, so that a repetition changes nothing and asks KMS for no more than what was
left. A partition makes one kms:ReEncrypt for each distinct wrapped key in it, and where :func:`rewrap` gets what
:func:`scan` returned, envelopes that share a wrapped key are brought into one partition.

The rate is divided by the number of tasks that can run at once, so that all of them together keep to it.

Needs the extra ``spark`` (PySpark 3.5 or 4; not Spark Connect) and Java 17. The IAM actions are those of
:class:`~sealwax.fleet._kms_calls.Rewrapper`, and those of the place, for the executors' role.
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
from sealwax._core.context import printable
from sealwax.errors import CredentialsError, EngineError
from sealwax.fleet import _shard
from sealwax.fleet._kms_calls import Rewrapper
from sealwax.fleet._settings import Settings
from sealwax.fleet._shard import Found, Item, Result
from sealwax.fleet._threads import Health, batches, entries_of
from sealwax.kms import RateLimit
from sealwax.stores import Entry, Store, open_store

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

__all__ = ["Job", "rewrap", "scan"]

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
    "kms_error boolean, no_credentials boolean, format string, kms_calls long"
)


@dataclass(frozen=True, slots=True)
class Job:
    """What executors need to know. It is pickled, and so are the functions that it names.

    Args:
        where: the place: what every name is below.
        settings: what is to be done; from a plan, or made by hand.
        rate: KMS requests a second, of all tasks together.
        open_place: opens the place on an executor; with the executor's own AWS credentials by default.
        session: makes the session for KMS on an executor; an ordinary boto3 Session by default.
        max_error_rate: a task begins nothing more when more than this part of its last hundred objects has failed.
        until: begin nothing more after this time, in Unix seconds; None: never.
        remembered: how many answers of KMS a task keeps for further envelopes with the same wrapped key; each takes
            less than a kilobyte.
    """

    where: str
    settings: Settings
    rate: float = 1000.0
    open_place: Callable[[str], Store] = open_store
    session: Callable[[], Session] | None = None
    max_error_rate: float = 1.0
    until: float | None = None
    remembered: int = 1 << 16  # by default, a plan's partitions have fewer objects


def scan(names: DataFrame, job: Job) -> DataFrame:
    """Return what each object is, from its header alone: the fields of :class:`~sealwax.fleet._shard.Found`.

    Args:
        names: a column ``name``, of text, or of bytes for names of files that are no text. A column ``number`` comes
            back with each object; others are left out.
    """
    return _over(names, functools.partial(_scan_part, job), _FOUND)


def rewrap(names: DataFrame, job: Job) -> DataFrame:
    """Re-wrap objects, and return what became of each: the fields of :class:`~sealwax.fleet._shard.Result`.

    Like all of Spark's, it happens when the result is asked for, and once more when it is asked for again, which finds
    nothing left to do: write it somewhere, and read that.

    Args:
        names: as for :func:`scan`, or what that returned.
    """
    partitions = names.rdd.getNumPartitions()
    if "units" in names.columns:
        # Where there is no call to share, as for what is fresh, they are spread by their names.
        unit = "coalesce(get(units, 0).unit, cast(name AS binary)) AS unit"
        names = names.selectExpr("number", "name", unit).repartition(partitions, "unit")
        # One after another, they share its answer however many others the partition has.
        names = names.sortWithinPartitions("unit")
    rate = job.rate / at_once(names.sparkSession, partitions)
    return _over(names, functools.partial(_rewrap_part, job, rate), _RESULT)


def at_once(session: SparkSession, partitions: int) -> int:
    """Return how many tasks of so many partitions can run at the same time, at the most."""
    context = session.sparkContext
    conf = context.getConf()
    cores = int(conf.get("spark.executor.cores", "0") or 0)
    # It may be set to less than there are cores, or asked for before all executors are there.
    slots = max(context.defaultParallelism, cores * int(conf.get("spark.executor.instances", "0") or 0))
    if conf.get("spark.dynamicAllocation.enabled", "false") == "true":
        # As many executors as it likes, unless it is told; how many tasks each takes is not always known either.
        slots = cores * int(conf.get("spark.dynamicAllocation.maxExecutors", "0") or 0) or partitions
    return max(1, min(partitions, slots))


# --- on an executor


def _scan_part(job: Job, rows: Iterable[Any]) -> Iterator[tuple[Any, ...]]:
    for found in _shard.scan(_items(rows), job.settings, job.open_place(job.where)):
        yield _row(found)


def _rewrap_part(job: Job, rate: float, rows: Iterable[Any]) -> Iterator[tuple[Any, ...]]:
    store = job.open_place(job.where)
    made = Rewrapper(
        job.settings.sources,
        session=None if job.session is None else job.session(),
        limit=RateLimit(rate),
        remembered=job.remembered,
    )
    health = Health(job.max_error_rate, None, lambda: job.until is not None and time.time() > job.until)
    told = 0
    for result in _shard.rewrap(_items(rows), job.settings, store, made, health.over):
        health.saw(result)
        calls, told = made.calls - told, made.calls
        yield (*_row(result), calls)


def _over(names: DataFrame, work: Callable[[Iterable[Any]], Iterator[tuple[Any, ...]]], schema: str) -> DataFrame:
    number = "number" if "number" in names.columns else "0L AS number"
    rows = names.selectExpr(number, "name").rdd.mapPartitions(work)
    return names.sparkSession.createDataFrame(rows, schema, verifySchema=False)


def _items(rows: Iterable[Any]) -> Iterator[Item]:
    for number, name in rows:
        yield Item(number, name if isinstance(name, str) else os.fsdecode(bytes(name)))


def _row(one: Found | Result) -> tuple[Any, ...]:
    # A name that is no text is shown, and known by its number.
    shown = one.name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    values = {field.name: getattr(one, field.name) for field in fields(one)} | {"name": shown}
    return tuple(list(value) if isinstance(value, tuple) else value for value in values.values())


# --- the engine


class Spark:
    """The engine that has Spark work on a plan's objects. The plan file stays with the driver.

    Args:
        session: Spark's; see :func:`open_session`.
        where: the plan's places, in its order.
        results: a folder or URL that Spark can write to: each run adds a folder of Parquet files with what became of
            every object. None: they are kept in the plan alone.
        rate, open_place, kms_session: as for :class:`Job`.
        partitions: into how many parts the objects are divided.
        rows: how many objects at most are one Spark job; between jobs the plan is written, and a stop is heard.
    """

    def __init__(
        self,
        session: SparkSession,
        where: Sequence[str],
        *,
        results: str | None = None,
        rate: float = 1000.0,
        open_place: Callable[[str], Store] = open_store,
        kms_session: Callable[[], Session] | None = None,
        partitions: int | None = None,
        rows: int = 200_000,
    ) -> None:
        self._session = session
        self._where = tuple(where)
        self._results = results
        self._rate = rate
        self._open_place = open_place
        self._kms_session = kms_session
        self._partitions = partitions or 4 * session.sparkContext.defaultParallelism
        self._rows = rows
        self._jobs = itertools.count()
        self._run = time.strftime("%Y%m%dT%H%M%SZ-", time.gmtime()) + os.urandom(4).hex()

    def look(
        self,
        place: int,
        store: Store,
        fleet: Settings,
        unlisted: Callable[[str], None],
        own: Collection[str],
    ) -> Iterator[tuple[list[Entry], list[Found]]]:
        """See :meth:`~sealwax.fleet._threads.Engine.look`. The driver lists, executors read headers.

        Raises:
            CredentialsError: an executor is not signed in.
            EngineError: Spark gave the job up.
        """
        for entries in batches(entries_of(store, unlisted, own), self._rows):
            names = self._frame(Item(at, entry.name) for at, entry in enumerate(entries))
            found: dict[int, Found] = {}
            with _reported():
                for row in scan(names, self._job(place, fleet)).collect():
                    found[row.number] = _found(row, entries[row.number].name)
            yield entries, [found[at] for at in range(len(entries))]

    def rewrap(
        self,
        parts: Iterable[tuple[int, list[Item]]],
        stores: Sequence[Store],  # noqa: ARG002  executors open their own
        fleet: Settings,
        made: Rewrapper,
        health: Health,
    ) -> Iterator[list[Result]]:
        """See :meth:`~sealwax.fleet._threads.Engine.rewrap`.

        Raises:
            EngineError: Spark gave the job up; what was done is done, and another run goes on.
        """
        for place, pages in itertools.groupby(parts, lambda part: part[0]):
            for items in batches((item for _, page in pages for item in page), self._rows):
                if health.over():
                    return
                job = self._job(place, fleet, health)
                results = rewrap(self._frame(items), job)
                names = {item.number: item.name for item in items}
                done: list[Result] = []
                with _reported():
                    if self._results is not None:
                        path = f"{self._results.rstrip('/')}/{self._run}-{next(self._jobs):04}"
                        results.write.parquet(path)
                        results = self._session.read.parquet(path)
                    for row in results.collect():
                        made.calls += row.kms_calls
                        done.append(_result(row, names[row.number]))
                for result in done:
                    health.saw(result)
                yield done

    def _frame(self, items: Iterable[Item]) -> DataFrame:
        rows = [(item.number, os.fsencode(item.name)) for item in items]
        return self._session.createDataFrame(rows, _NAMES, verifySchema=False).repartition(self._partitions)

    def _job(self, place: int, fleet: Settings, health: Health | None = None) -> Job:
        until = None if health is None or health.until is None else time.time() + health.until - time.monotonic()
        return Job(
            self._where[place],
            fleet,
            self._rate,
            self._open_place,
            self._kms_session,
            1.0 if health is None else health.max_error_rate,
            until,
        )


def _found(row: Any, name: str) -> Found:
    return Found(
        row.number,
        name,
        row.state,
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


def _result(row: Any, name: str) -> Result:
    keys = tuple((key.arn, key.material) for key in row["keys"])
    return Result(row.number, name, row.state, row.reason, keys, row.kms_error, row.no_credentials, row.format)


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
            f"Spark gave the job up: {printable(said[:500]).rstrip('.')}. "
            "What was done is done; run it again for the rest."
        ) from error


def open_session(name: str = "sealwax fleet") -> SparkSession:
    """Return the Spark session there is, the one that ``spark-submit`` set up, or one on this machine's cores.

    Raises:
        EngineError: PySpark is not installed, or Spark does not start.
    """
    try:
        from pyspark.sql import SparkSession
    except ImportError as error:
        raise EngineError(
            f"the engine of Spark needs {error.name}: install it with \"pip install 'sealwax[spark]'\""
        ) from None
    builder = SparkSession.builder.appName(name)
    if "PYSPARK_GATEWAY_PORT" not in os.environ:
        # Not by spark-submit: local, with this Python, and with the repetitions of failed tasks that a cluster has.
        os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
        builder = builder.master("local[*, 4]").config("spark.ui.enabled", "false")
    try:
        return builder.getOrCreate()
    except Exception as error:
        raise EngineError(
            "Spark does not start: it needs Java 17 or 21, in JAVA_HOME or on the PATH "
            f"({type(error).__name__}: {printable(str(error)[:200])})"
        ) from error
