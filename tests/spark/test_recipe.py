"""The recipe for Spark of docs/how-to/recipes.md, as it stands there."""

from __future__ import annotations

from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from sealwax import Records
from sealwax.kms import KmsKeyring
from sealwax.lab import Lab
from sealwax.records import SqlKeys
from tests.docs.blocks import ROOT, Block, blocks_of

BLOCKS = list(blocks_of(ROOT / "docs/how-to/recipes.md"))


def one(blocks: list[Block]) -> str:
    (block,) = blocks
    return block.text


@pytest.mark.filterwarnings("ignore:Arrow optimization failed:RuntimeWarning")  # without pandas
def test_executors_open_what_the_application_sealed(spark: SparkSession, tmp_path: Path) -> None:
    lab, store = Lab(tmp_path / "lab"), SqlKeys(f"sqlite:///{tmp_path}/keys.db")
    lab.create_key(alias="app")
    store.create_table()
    scope = {"app": "shop", "env": "prod"}
    with Records(KmsKeyring("alias/app", session=lab.session()), store, scope=scope) as records:
        iban = records.field("message.iban", row=int)
        frame = spark.createDataFrame([(row, iban.seal(f"DE{row}", row=row)) for row in range(100)], ["id", "iban"])
        frame = frame.repartition(4)

    module = one([block for block in BLOCKS if block.file == "sealing.py"])
    module = module.replace('"./lab"', repr(f"{tmp_path}/lab")).replace("///keys.db", f"///{tmp_path}/keys.db")
    (tmp_path / "sealing.py").write_text(module)
    recipe = one([block for block in BLOCKS if block.not_run.startswith("tests/spark")])
    names: dict[str, object] = {"spark": spark, "frame": frame}
    exec(recipe.replace('"sealing.py"', repr(f"{tmp_path}/sealing.py")), names)
    opened = names["opened"]
    assert {(row.id, row.iban) for row in opened.collect()} == {(row, f"DE{row}") for row in range(100)}  # type: ignore[attr-defined]
    moved = frame.selectExpr("id + 1 AS id", "iban").select("id", names["open_iban"]("iban", "id"))  # type: ignore[operator]
    with pytest.raises(Exception, match="RecordTamperedError"):
        moved.collect()
