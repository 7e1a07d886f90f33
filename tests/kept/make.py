"""Writes ``made/``: one file of every kind that sealwax keeps for its users. It was run once; ``made/`` is frozen.

``python -m tests.kept.make`` from the project's folder. What users have on their disks is opened by every later
release, or refused by its own sentence: test_kept.py. A plan keeps the full names of its places, below /srv/kept.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from sealwax._core.envelope import inspect

MADE = Path(__file__).with_name("made")
FOLDER = Path("/srv/kept")
SEALWAX = str(Path(sys.executable).with_name("sealwax"))
CONTEXT = ("-c", "purpose=kept")
PASSPHRASE = "kept for later"
LARGE = bytes(range(256)) * 4096  # 1 MiB, from which on a file has two slots


def run(*arguments: str, **environment: str) -> str:
    done = subprocess.run(
        [SEALWAX, *arguments],
        env={"PATH": os.environ["PATH"], "HOME": os.getcwd(), "SEALWAX_LAB": "lab", "LANG": "C.UTF-8"} | environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in (0, 3), done
    return done.stdout.strip()


def make() -> None:
    old, new = (run("lab", "create-key", "--alias", name) for name in ("old", "new"))
    old, new = old.split()[-1], new.split()[-1]
    other = run("lab", "create-key", "--alias", "kept", SEALWAX_LAB="locked", SEALWAX_LAB_PASSPHRASE=PASSPHRASE)
    write = {"small": b"a few words", "empty": b"", "large": LARGE}
    for name, content in write.items():
        Path(name).write_bytes(content)
    for name in write:
        run("encrypt", "-k", old, *CONTEXT, name)
    run("encrypt", "-k", old, "-k", new, *CONTEXT, "-o", "both.swx", "small")
    run("encrypt", "-k", old, *CONTEXT, "-c", "row=7", "--local-context", "row", "-o", "local.swx", "small")
    run("encrypt", "-k", old, "--no-context", "-o", "unbound.swx", "small")
    run("encrypt", "-k", old, *CONTEXT, "--armor", "-o", "text.swx", "small")
    run("encrypt", "-k", old, *CONTEXT, "--detached", "apart.header", "-o", "apart.payload", "small")
    run(
        "encrypt", "-k", other.split()[-1], *CONTEXT, "-o", "locked.swx", "small",
        SEALWAX_LAB="locked", SEALWAX_LAB_PASSPHRASE=PASSPHRASE,
    )  # fmt: skip
    # A re-wrap in place that was killed between its two slots.
    before = Path("large.swx").read_bytes()
    header = inspect("large.swx").header
    shutil.copy("large.swx", "moved.swx")
    run("rewrap", "-k", old, "--to", new, *CONTEXT, "moved.swx")
    at = header.preamble.slot_offset + (1 - header.current) * header.preamble.slot_size
    after = Path("moved.swx").read_bytes()[at : at + header.preamble.slot_size]
    Path("unfinished.header").write_bytes(
        (before[:at] + after + before[at + len(after) :])[: header.preamble.payload_offset]
    )
    Path("moved.swx").unlink()

    Path("fleet").mkdir()
    for number in range(3):
        Path(f"fleet/{number}").write_bytes(b"of a fleet")
    run("encrypt", "-r", "-k", old, *CONTEXT, "fleet")
    for number in range(3):
        Path(f"fleet/{number}").unlink()
    meant = ("--from", old, "--to", new, *CONTEXT)
    run("fleet", "plan", *meant, "--digest", "all", "-o", "rewrap.plan", "fleet")
    run("fleet", "plan", *meant, "--reencrypt", "-o", "reencrypt.plan", "fleet")

    run("audit", "--all", "--save-facts", "facts.json", "--fail-on", "never", "--force")
    report = json.loads(run("audit", "--facts", "facts.json", "--json"))
    accepted = [{"rule": one["rule"], "resource": one["resource"], "reason": "kept"} for one in report["findings"][:1]]
    Path("baseline.json").write_text(json.dumps({"format": "sealwax-baseline-1", "accepted": accepted}, indent=1))
    for done_with in write:
        Path(done_with).unlink()
    Path("made.json").write_text(json.dumps({"old": old, "new": new}, indent=1) + "\n")


if __name__ == "__main__":
    FOLDER.mkdir()
    os.chdir(FOLDER)
    make()
    shutil.copytree(FOLDER, MADE)
