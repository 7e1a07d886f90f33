"""Writes ``made-VERSION/``: one file of every kind that sealwax keeps for its users, as this release writes it.

``python -m tests.kept.make`` from the project's folder, once for each release; what it wrote is frozen. ``made/`` is
older than the first release. What users have on their disks is opened by every later release, or refused by its own
sentence: test_kept.py. Plans and journals keep the full names of their places, below /srv/kept.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import sealwax
from sealwax import KmsKeyring, Records, __version__
from sealwax.lab import Lab
from sealwax.records import SqlKeys

HERE = Path(__file__).parent
MADE = HERE / "made"  # older than the first release
FOLDER = Path("/srv/kept")
SEALWAX = str(Path(sys.executable).with_name("sealwax"))
CONTEXT = ("-c", "purpose=kept")
PASSPHRASE = "kept for later"
SCOPE = {"app": "kept"}
SETTING = b"password=prod\n"
LARGE = bytes(range(256)) * 4096  # 1 MiB, from which on a file has two slots


def run(*arguments: str, folder: str = ".", **environment: str) -> str:
    done = subprocess.run(
        [SEALWAX, *arguments],
        cwd=folder,
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
    inspection = sealwax.inspect("large.swx")
    assert isinstance(inspection, sealwax.Inspection)
    header = inspection.header
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
    make_shop(old)
    make_records(old)
    make_moves(old, new)
    for done_with in write:
        Path(done_with).unlink()
    Path("made.json").write_text(json.dumps({"old": old, "new": new}, indent=1) + "\n")


def make_shop(key: str) -> None:
    """A folder with settings, and an envelope that was made as they say."""
    Path("shop/prod").mkdir(parents=True)
    Path("shop/sealwax.toml").write_text(
        f'key = "{key}"\ncontext = {{ project = "shop" }}\nlocal_context = ["row"]\n\n'
        '[[rule]]\npath = "prod/**"\ncontext = { env = "prod", file = "{relpath}", row = "7" }\n'
    )
    Path("shop/prod/db.env").write_bytes(SETTING)
    run("encrypt", "prod/db.env", folder="shop", SEALWAX_LAB=str(FOLDER / "lab"))
    Path("shop/prod/db.env").unlink()


def make_records(key: str) -> None:
    """A key store with two generations of one scope, and a scope that was shredded; and what was sealed and indexed."""
    store = SqlKeys("sqlite:///keys.db")
    store.create_table()
    values = {}
    with Lab("lab") as lab, Records(KmsKeyring(key, session=lab.session()), store, scope=SCOPE) as records:
        field = records.field("users.card", row=int, tenant="acme")
        values["first"] = field.seal(b"of the first key", row=1).hex()
        records.roll(tenant="acme")
        values["second"] = field.seal(b"of the second key", row=2).hex()
        values["shredded"] = records.field("users.card", row=int, tenant="gone").seal(b"gone", row=3).hex()
        records.shred(tenant="gone")
        values["index"] = records.index("users.email", bits=32, tenant="acme").of("ada@example.com").hex()
    Path("records.json").write_text(json.dumps(values, indent=1) + "\n")


def make_moves(old: str, new: str) -> None:
    """Messages of other programs in three folders: planned, moved by a plan, and migrated with a journal."""
    for folder in ("planned", "moved", "migrated"):
        Path(folder).mkdir()
        for name in ("one", "two"):
            run("encrypt", "--as", "esdk", "-k", old, *CONTEXT, "-o", f"{folder}/{name}.esdk", "small")
        run("encrypt", "-k", old, *CONTEXT, "-o", f"{folder}/three.swx", "small")
    meant = ("--also", "esdk", "--move", "--from", old, "--to", new, *CONTEXT)
    run("fleet", "plan", *meant, "-o", "move.plan", "planned")
    run("fleet", "plan", *meant, "-o", "moved.plan", "moved")
    run("fleet", "run", "--apply", "moved.plan")
    run("migrate", "-r", "-k", old, "--to", new, *CONTEXT, "--journal", "migrate.journal", "migrated")


if __name__ == "__main__":
    FOLDER.mkdir()
    os.chdir(FOLDER)
    make()
    shutil.copytree(FOLDER, HERE / f"made-{__version__}")
