"""The manual pages are what the program says, read well, and are in the wheel."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Final

import pytest

from tests.docs.blocks import ROOT

FOLDER: Final = ROOT / "docs/man"
PAGES: Final = sorted(FOLDER.iterdir())
# Of all that roff knows: more would need a look at how mandoc and old versions of man show it.
_REQUESTS: Final = {'\\"', "TH", "SH", "SS", "TP", "PP", "nf", "fi", "nh", "ad"}


def test_the_manual_pages_are_what_the_program_says() -> None:
    # A process of its own: the terminal of this one must not matter.
    program = (
        "import sys; sys.path.insert(0, 'docs'); import json, make_man_pages as m; json.dump(m.pages(), sys.stdout)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    pages = json.loads(done.stdout)
    assert {path.name for path in PAGES} == set(pages), "run: python docs/make_man_pages.py"
    for path in PAGES:
        assert path.read_text(encoding="utf-8") == pages[path.name], "run: python docs/make_man_pages.py"
    assert len(pages) > 30
    assert {"sealwax.1", "sealwax-encrypt.1", "sealwax-fleet-plan.1", "sealwax-lab-principal-add.1"} <= set(pages)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_no_text_is_taken_for_a_request(path: Path) -> None:
    text = path.read_text(encoding="ascii")
    for line in text.splitlines():
        assert line, "an empty line is a gap in a page"
        assert not line.startswith("'")
        if line.startswith("."):
            assert re.match(r"\.(\\\"|[A-Za-z]+)", line)[1] in _REQUESTS, line  # type: ignore[index]
        unescaped = re.sub(r"\\(e|-|&|:|f[BIR]|\((aq|ga|ha|ti))", "", line.removeprefix('.\\"'))
        assert "\\" not in unescaped, line
        assert "`" not in unescaped, line
        if not line.startswith((".TH", '.\\"')):
            assert "-" not in unescaped, "a bare hyphen may be shown as another character"
    sections = re.findall(r"^\.SH (.*)$", text, re.MULTILINE)
    assert sections[:3] == ["NAME", "SYNOPSIS", "DESCRIPTION"]
    assert sections[-1] == "SEE ALSO"
    for name in re.findall(r"\\fB([a-z\\-]+)\\fR\(1\)", text):
        assert (FOLDER / name.replace("\\", "")).with_suffix(".1").is_file()


@pytest.mark.skipif(shutil.which("groff") is None, reason="there is no groff")
def test_groff_has_nothing_to_warn_of() -> None:
    done = subprocess.run(["groff", "-ww", "-z", "-man", "-Tutf8", *PAGES], capture_output=True, text=True, check=True)
    assert done.stderr == ""


def test_the_wheel_installs_them_where_man_looks() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    wheel = settings["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert wheel["shared-data"]["docs/man"] == "share/man/man1"
