"""The engine of Spark against the engine of threads, with real Spark on this machine; and its jobs over DataFrames."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

import sealwax
from sealwax import errors, fleet
from sealwax.fleet import spark as engine
from sealwax.lab import Lab
from sealwax.lab._trail import MAX_EVENTS
from tests.docs.test_iam_page import ACTIONS, rows_of_fleet
from tests.fleet.fleets import Keys, envelopes, fill, make_keys, marks, payloads, plan, seal_many
from tests.foreign import samples
from tests.spark.local import LabSession, Watched

COUNT = 600
PARTITIONS = 16


@pytest.fixture
def keys(tmp_path: Path) -> Iterator[Keys]:
    with Lab(tmp_path / "lab") as lab:
        yield make_keys(lab)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "data"
    place.mkdir()
    return place


def spark_engine(spark: SparkSession, keys: Keys, folder: Path, **more: Any) -> engine.Spark:
    return engine.Spark(spark, [str(folder)], kms_session=LabSession(str(keys.lab.path)), **{"rate": 1e5, **more})


def test_two_tasks_fail_and_all_ends_as_with_threads(
    spark: SparkSession, keys: Keys, folder: Path, tmp_path: Path
) -> None:
    rotate_with_failures(spark, keys, folder, tmp_path, COUNT)


def rotate_with_failures(spark: SparkSession, keys: Keys, folder: Path, tmp_path: Path, count: int) -> None:
    """Rotate ``count`` files in 16 partitions, two of which fail half-way; the long run does the same with more."""
    distinct = fill(folder, keys, count)
    (folder / "notes.txt").write_text("no envelope")
    (folder / "damaged.swx").write_bytes(next(envelopes(folder)).read_bytes()[:100])
    ours = {"tenant": "acme", "set": "1"}
    (folder / "strangers.swx").write_bytes(keys.sealer(keys.foreign).encrypt(b"", context=ours))
    (folder / "tenants.swx").write_bytes(keys.sealer(keys.one).encrypt(b"", context={"tenant": "other"}))
    (folder / os.fsdecode(b"\xff\xfe.swx")).write_bytes(keys.sealer(keys.one).encrypt(b"", context=ours))
    before = payloads(folder)
    units = {sealwax.inspect(path).wrapped_keys[0].ciphertext: 0 for path in folder.rglob("[0-9]*/*.swx")}
    unit_of = {str(path): sealwax.inspect(path).wrapped_keys[0].ciphertext for path in folder.rglob("[0-9]*/*.swx")}
    assert len(units) == distinct
    log = tmp_path / "log"
    of_spark = spark_engine(
        spark,
        keys,
        folder,
        open_location=Watched(str(log), failing=(3, 7), after=20),
        partitions=PARTITIONS,
        results=str(tmp_path / "results"),
    )

    by_threads = plan(keys, folder, tmp_path / "threads.plan")
    by_spark = plan(keys, folder, tmp_path / "spark.plan", engine=of_spark)
    assert by_spark == by_threads
    assert (by_spark.count("stale"), by_spark.planned_calls) == (count + 1, distinct + 1)

    made = keys.calls()
    done = fleet.run(tmp_path / "spark.plan", engine=of_spark)
    called = keys.calls() - made
    lines = Counter(log.read_text("utf-8", "surrogateescape").splitlines())
    assert {line for line in lines if line.startswith("died")} == {"died 3", "died 7"}
    # Everything stale was written, and nothing twice.
    assert len([line for line in lines if line.startswith("wrote")]) == count + 1
    assert set(lines.values()) == {1}

    # What a repeated task found done is fresh; nothing else differs from the other engine.
    assert (done.count("rewrapped"), done.count("fresh")) == (count + 1 - 40, 40)
    assert payloads(folder) == before
    after = [sealwax.inspect(path).wrapped_keys for path in folder.rglob("[0-9]*/*.swx")]
    assert {tuple(key.key_arn for key in one) for one in after} == {(keys.new,)}
    assert done.problems == by_threads.problems
    assert len(done.problems) == 4

    # A long run is more than one job, each with a folder of its own.
    parquet = [str(job) for job in (tmp_path / "results").iterdir()]
    rows = spark.read.parquet(*parquet).selectExpr("*", "input_file_name() AS part").collect()
    assert Counter(row.state for row in rows) == {"rewrapped": count + 1 - 40, "fresh": 40, "refused": 1}
    assert "\ufffd\ufffd.swx" in {Path(row.name).name for row in rows}
    # One call for each distinct wrapped key of a partition; the first attempts of two made those of what is fresh now.
    pairs = {(row.part, row.state, unit_of[row.name]) for row in rows if row.name in unit_of}
    if len(pairs) < MAX_EVENTS:  # all of them are still in the lab's trail
        assert called == {"ReEncrypt": len(pairs) + 1}
    assert len(pairs) <= distinct * PARTITIONS

    made, stand = keys.calls(), marks(folder)
    again = fleet.run(tmp_path / "spark.plan", engine=of_spark)
    assert (again.kms_calls, again.rewrapped, keys.calls() - made) == (0, 0, Counter())
    assert marks(folder) == stand
    with Lab(keys.lab.path) as lab:
        proven = fleet.verify(tmp_path / "spark.plan", session=lab.session(), decrypt=5)
    assert proven.count("stale") == 0
    assert proven.checked is not None
    assert proven.checked.decrypted == 5


def test_envelopes_that_share_a_wrapped_key_meet_in_one_partition(
    spark: SparkSession, keys: Keys, folder: Path
) -> None:
    distinct = fill(folder, keys, 300)
    settings = plan(keys, folder, folder.parent / "plan").settings
    # They come one after another there: to remember one answer is enough.
    job = engine.Job(str(folder), settings, 1e5, session=LabSession(str(keys.lab.path)), remembered=1)
    names = spark.createDataFrame([(str(path),) for path in envelopes(folder)], "name string").repartition(8)
    made = keys.calls()
    found = engine.scan(names, job)
    assert Counter(row.state for row in found.collect()) == {"stale": 300}
    assert keys.calls() - made == {}
    results = engine.rewrap(found.where("state = 'stale'"), job)
    rows = results.collect()
    assert Counter(row.state for row in rows) == {"rewrapped": 300}
    assert sum(row.kms_calls for row in rows) == distinct
    assert keys.calls() - made == {"ReEncrypt": distinct}
    page = rows_of_fleet()
    assert (page["spark.scan"], page["spark.rewrap"]) == (set(), set(ACTIONS["ReEncrypt"]))
    # Asked for once more, it runs once more, and there is nothing left to do.
    assert Counter(row.state for row in results.collect()) == {"fresh": 300}


def test_what_a_scan_returned_is_taken_whole(spark: SparkSession, keys: Keys, folder: Path) -> None:
    """Also what takes no call: what is fresh, foreign, or stale only since a re-wrap of it was interrupted."""
    fill(folder, keys, 20)
    (folder / "fresh.swx").write_bytes(keys.sealer(keys.new).encrypt(b"", context={"tenant": "acme", "set": "1"}))
    (folder / "notes.txt").write_text("no envelope")
    (folder / "x.esdk").write_bytes(samples.esdk(("aws-kms", keys.one)))
    job = engine.Job(
        str(folder),
        plan(keys, folder, folder.parent / "plan").settings,
        1e5,
        session=LabSession(str(keys.lab.path)),
    )
    there = [(str(path),) for path in folder.rglob("*") if path.is_file()]
    names = spark.createDataFrame(there, "name string").repartition(4)
    found = engine.scan(names, job)
    rows = found.collect()
    assert sorted(len(row.units) for row in rows) == [0, 0, 0, *[1] * 20]
    formats = {"notes.txt": "", "x.esdk": "esdk-v2"}
    assert {Path(row.name).name: row.format for row in rows if row.state == "foreign"} == formats
    results = engine.rewrap(found, job)
    assert results.rdd.getNumPartitions() == 4
    rows = results.collect()
    assert Counter(row.state for row in rows) == {"rewrapped": 20, "fresh": 1, "foreign": 2}
    assert {Path(row.name).name: row.format for row in rows if row.state == "foreign"} == formats


@pytest.mark.parametrize("remembered", [1, 1 << 16])
def test_a_task_remembers_as_many_answers_as_it_is_told(
    spark: SparkSession, keys: Keys, folder: Path, remembered: int
) -> None:
    distinct = fill(folder, keys, 60)
    settings = plan(keys, folder, folder.parent / "plan").settings
    job = engine.Job(str(folder), settings, 1e5, session=LabSession(str(keys.lab.path)), remembered=remembered)
    names = spark.createDataFrame([(str(path),) for path in envelopes(folder)], "name string").coalesce(1)
    rows = engine.rewrap(names, job).collect()
    assert Counter(row.state for row in rows) == {"rewrapped": 60}
    assert (sum(row.kms_calls for row in rows) == distinct) == (remembered > 1)


def test_a_task_that_always_fails_is_an_error_and_leaves_a_plan_that_goes_on(
    spark: SparkSession, keys: Keys, folder: Path, tmp_path: Path
) -> None:
    fill(folder, keys, 60)
    path = tmp_path / "plan"
    plan(keys, folder, path)
    with pytest.raises(errors.EngineError, match=r"Spark gave up on the job: .*on purpose.*Run it again"):
        fleet.run(path, engine=spark_engine(spark, keys, folder, open_location=NoStore(), partitions=2))
    done = fleet.run(path, engine=spark_engine(spark, keys, folder, partitions=2))
    assert (done.stale, done.rewrapped) == (0, 60)


class NoStore:
    """No executor can open the place."""

    def __call__(self, where: str) -> Any:
        raise RuntimeError(f"{where} is not there, on purpose")


def test_a_task_stops_at_its_time_and_at_the_error_rate(
    spark: SparkSession, keys: Keys, folder: Path, tmp_path: Path
) -> None:
    fill(folder, keys, 60)
    settings = plan(keys, folder, tmp_path / "plan").settings
    names = spark.createDataFrame([(str(path),) for path in envelopes(folder)], "name string").coalesce(1)
    session = LabSession(str(keys.lab.path))
    assert engine.rewrap(names, engine.Job(str(folder), settings, 1e5, session=session, until=1.0)).count() == 0
    keys.lab.faults.add("us-east-1", "error", 1.0, operation="ReEncrypt", code="AccessDeniedException", seed=0)
    job = engine.Job(str(folder), settings, 1e5, session=session, max_error_rate=0.1)
    rows = engine.rewrap(names, job).collect()
    assert [row.state for row in rows] == ["failed"] * 20
    assert "access denied" in rows[0].reason


def test_the_rate_is_divided_by_what_can_run_at_once(spark: SparkSession) -> None:
    assert engine._tasks_at_once(spark, 16) == 2
    assert engine._tasks_at_once(spark, 1) == 1
    assert engine._tasks_at_once(spark, 0) == 1


def test_all_tasks_together_keep_to_the_rate(spark: SparkSession, keys: Keys, folder: Path) -> None:
    seal_many(keys, folder, 20)
    settings = plan(keys, folder, folder.parent / "plan").settings
    job = engine.Job(str(folder), settings, rate=4, session=LabSession(str(keys.lab.path)))
    paths = [(str(path),) for path in envelopes(folder)]
    names = spark.createDataFrame(spark.sparkContext.parallelize(paths, 2), "name string")
    assert engine.rewrap(names, job).count() == 20
    times = [event.time for event in keys.lab.trail.events() if event.record["eventName"] == "ReEncrypt"]
    # Ten for each of two tasks, at two a second after the first two: four seconds, less what the first call takes. At
    # four a second for each it would be one and a half.
    assert len(times) == 20
    assert max(times) - min(times) > 2


@dataclass
class Cluster:
    """As much of a session as says how large its cluster is."""

    defaultParallelism: int  # noqa: N815  Spark's name
    settings: dict[str, str]

    @property
    def sparkContext(self) -> Cluster:
        return self

    def getConf(self) -> dict[str, str]:
        return self.settings


@pytest.mark.parametrize(
    ("parallelism", "settings", "slots"),
    [
        (8, {}, 8),
        (200, {}, 64),
        # Told less than there is, or asked before the executors have come.
        (2, {"instances": "10", "cores": "4"}, 40),
        (2, {"instances": "", "cores": "4"}, 2),
        (2, {"dynamic": "true"}, 64),
        (2, {"dynamic": "true", "most": "5", "cores": "4"}, 20),
        (2, {"dynamic": "true", "most": "5"}, 64),
        (2, {"dynamic": "false", "most": "5", "cores": "4"}, 2),
    ],
)
def test_the_rate_is_divided_by_what_a_cluster_may_become(
    parallelism: int, settings: dict[str, str], slots: int
) -> None:
    names = {
        "instances": "spark.executor.instances",
        "cores": "spark.executor.cores",
        "dynamic": "spark.dynamicAllocation.enabled",
        "most": "spark.dynamicAllocation.maxExecutors",
    }
    cluster: Any = Cluster(parallelism, {names[short]: value for short, value in settings.items()})
    assert engine._tasks_at_once(cluster, 64) == slots
