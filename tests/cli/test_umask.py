"""What sealwax saves and reads back passes its own look, whatever the umask was."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def test_what_sealwax_makes_is_believed_whatever_the_umask(tmp_path: Path) -> None:
    """In a process of its own, whose umask is nobody else's."""
    program = """
import os, sys
from datetime import timedelta
import sealwax
from sealwax import fleet
from sealwax.audit._collect.checkpoint import Checkpoint
from sealwax.cli import run
from sealwax.lab import Lab

os.chdir(sys.argv[1])
os.environ.update(SEALWAX_LAB="below/there/lab", AWS_EC2_METADATA_DISABLED="true")
for again, umask in enumerate((0, 0o077)):
    os.umask(umask)
    with Lab("below/there/lab") as lab:
        if not again:
            lab.create_key(alias="demo")
        session = lab.session()
        options = dict(sources=["alias/demo"], to=["alias/demo"], contexts=fleet.Contexts((), True), session=session)
        os.makedirs("data", 0o700, exist_ok=True)
        fleet.plan("rotation.plan", ["data"], overwrite=True, **options)
        fleet.run("rotation.plan", session=session)
    sealwax.RateLimit(5, shared="rate")
    with Checkpoint("facts.json", "AWS", timedelta(1)) as answers:
        answers.begin("111122223333")
    os.rename("facts.json.part", "kept.part")
    audit = ["audit", "-q", "--force", "--fail-on", "never", "--allow-incomplete"]
    assert run([*audit, "--all", "--save-facts", "facts.json"]) == 0
    assert run([*audit, "--facts", "facts.json", "--report", "report.csv"]) == 0
    assert run(["fleet", "status", "rotation.plan", "--report", "page.html", "--force"]) == 0
    saved = {os.stat(name).st_mode & 0o777 for name in ("facts.json", "report.csv", "page.html")}
    assert saved == {0o644 & ~umask}, saved
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    made = [path for path in tmp_path.rglob("*") if path.name != "data"]
    assert {path.name for path in made if path.stat().st_mode & 0o022} == set()
    assert {
        "below",
        "lab",
        "state.db",
        "rotation.plan",
        "rate",
        "kept.part",
        "facts.json",
        "report.csv",
        "page.html",
    } <= {path.name for path in made}
