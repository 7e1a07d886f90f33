"""The figures of README.md are those of the page about speed, and both are written by the run that measured them."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Final

import pytest
from benchmarks import report
from benchmarks.measure import Row

from tests.docs.blocks import ROOT

PAGE: Final = ROOT / "docs/explanation/speed.md"
README: Final = ROOT / "README.md"
MACHINE: Final = "Python 3.12.1, sealwax 9.8.7\n64 x Abacus, load before the run 0.0, 0.0, 0.0"
SDK: Final = "aws-encryption-sdk"
ROWS: Final = (
    Row("encrypt, 1 KiB value, key cached", 11e-6, f"{SDK} caching, unsigned", 99e-6),
    Row("encrypt, 1 KiB value, key cached", 11e-6, "tink", 2e-6),
    Row("encrypt, 256 MiB streamed", 0.05, f"{SDK} unsigned", 5.0, 256 << 20),
    Row("encrypt, 256 MiB streamed", 0.05, "tink", 0.1, 256 << 20),
    Row("decrypt, 256 MiB streamed", 0.1, f"{SDK} unsigned", 5.0, 256 << 20),
    Row("decrypt, 256 MiB streamed", 0.1, "tink", 0.1, 256 << 20),
    Row("records: open, 256 B", 4e-6, "Tink", 3e-6),
    Row("re-wrap, one file of 16 MiB", 2e-3, f"{SDK}, again", 0.2),
    Row("S3EC, 100 x 1 MiB to another key, KMS calls", 100, "S3 client, get and put", 200, unit="n"),
    Row("ESDK, 2 GiB there and back, memory", 4 << 20, unit="B"),
    Row("import sealwax", 0.07, "import boto3", 0.15),
)


def tables(text: str) -> dict[str, str]:
    """Return what is between the marks of a page."""
    return dict(re.findall(r"<!-- measured: (\w+) -->\n(.*?)<!-- end of \1 -->", text, re.DOTALL))


def prose(text: str) -> str:
    return re.sub(r"(<!-- measured: (\w+) -->\n).*?(?=<!-- end of \2 -->)", r"\1", text, flags=re.DOTALL)


@pytest.fixture
def written(tmp_path: Path) -> tuple[str, str]:
    page, readme = (Path(shutil.copy(path, tmp_path)) for path in (PAGE, README))
    for _ in range(2):  # what a run wrote, the next one replaces
        report.write(ROWS, MACHINE, page, readme)
    return page.read_text("utf-8"), readme.read_text("utf-8")


def test_a_run_writes_each_row_once(written: tuple[str, str]) -> None:
    page, readme = written
    found = tables(page)
    assert "sealwax 9.8.7" in found.pop("machine")
    assert all(text.count("\n| ") > 1 for text in found.values())
    for what in {row.what for row in ROWS}:
        assert [text.count(f"\n| {what} |") for text in found.values()].count(1) == 1, what
    assert f"| 11.0 µs | {SDK} caching, unsigned 99.0 µs (9.00); tink 2.0 µs (0.18) |" in found["values"]
    assert "| open a column's value of 256 bytes | 4.0 µs | - | 3.0 µs |" in readme


def test_what_is_not_measured_is_left_alone(written: tuple[str, str]) -> None:
    for path, text in zip((PAGE, README), written, strict=True):
        assert prose(path.read_text("utf-8")) == prose(text)


def test_a_row_that_no_part_has_and_a_page_without_marks_are_refused(tmp_path: Path) -> None:
    page, readme = (Path(shutil.copy(path, tmp_path)) for path in (PAGE, README))
    with pytest.raises(ValueError, match="'juggle' belongs to no part"):
        report.write([*ROWS, Row("juggle", 1.0)], MACHINE, page, readme)
    page.write_text(page.read_text("utf-8").replace("<!-- end of s3 -->", ""), encoding="utf-8")
    with pytest.raises(ValueError, match=r"speed\.md lacks the marks of 's3'"):
        report.write(ROWS, MACHINE, page, readme)


def test_the_figures_of_the_readme_are_those_of_the_page() -> None:
    page, (five,) = PAGE.read_text("utf-8"), tables(README.read_text("utf-8")).values()
    rows = re.findall(r"^\| (\w.*?) \| (.+?) \| (.+?) \| (.+?) \|$", five, re.MULTILINE)
    assert len(rows) == 5
    for says, ours, *theirs in rows:
        assert f"| {ours} |" in page, says
        for figure in theirs:
            assert figure == "-" or f" {figure} (" in page, (says, figure)
    parts = tables(page)
    assert len(parts) == 8
    assert {name for name, text in parts.items() if text.count("\n| ") > 1} | {"machine"} == set(parts)
