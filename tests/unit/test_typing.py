"""What type checkers make of the public names: mypy and pyright on a program that uses every one."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import sealwax
import sealwax.django
import sealwax.django.admin
import sealwax.sqlalchemy
from sealwax.records import moving, tables, testing

ROOT = Path(__file__).parents[2]
PROGRAM = ROOT / "tests/typed/uses_everything.py"
# As an installed package: what `py.typed` promises, and nothing of this repository's settings.
MYPY = ("-m", "mypy", "--strict", "--config-file", os.devnull)
# The pyright that comes whole from PyPI; the other one downloads itself from npm when it is first run.
PYRIGHT = ("-m", "basedpyright", "--level", "error", "--pythonpath", sys.executable)


def test_the_program_uses_every_name() -> None:
    tree = ast.parse(PROGRAM.read_text())
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    names |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    fronts = (
        sealwax,
        sealwax.records,
        moving,
        tables,
        testing,
        sealwax.sqlalchemy,
        sealwax.django,
        sealwax.django.admin,
    )
    assert {name for front in fronts for name in front.__all__} - names == set()


@pytest.mark.slow
@pytest.mark.parametrize("checker", [MYPY, PYRIGHT], ids=["mypy", "pyright"])
def test_its_types_are_those(checker: tuple[str, ...], tmp_path: Path) -> None:
    good = tmp_path / "good.py"
    good.write_text(PROGRAM.read_text())
    wrong = tmp_path / "wrong.py"
    wrong.write_text("import sealwax\nnumber: int = sealwax.armor(b'')\n")
    (tmp_path / "pyrightconfig.json").write_text('{"typeCheckingMode": "strict"}')
    environment = os.environ | {"MYPYPATH": str(ROOT / "src"), "MYPY_CACHE_DIR": str(ROOT / ".mypy_cache/typed")}
    for program, succeeds in ((good, True), (wrong, False)):
        done = subprocess.run(
            [sys.executable, *checker, program],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env=environment,
            check=False,
        )
        assert (done.returncode == 0) == succeeds, done.stdout + done.stderr
    assert "wrong.py" in done.stdout
