"""``python -m tests.extras DIST [EXTRA ...]``: what a wheel installs with each extra, where nothing else is.

Each extra gets an environment of its own, from the package index, with the versions in requirements/test.txt. There its
front does its work; where the extra is missing, one sentence says what to install. "none" is the package alone.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]

_STORE: Final = "from sealwax.records import SqlKeys\n"
# What each extra is for, as a user of it would begin.
PROBES: Final = {
    "none": "import sealwax.cli; assert sealwax.cli.run(['--version']) == 0",
    "inventory": "import sealwax.stores.s3; from pyarrow import compute, parquet",
    "otel": "import sealwax.otel; sealwax.otel.Telemetry()",
    "spark": "import sealwax.fleet.spark; from pyspark.sql import SparkSession",
    "django": (
        "import django\nfrom django.conf import settings\n"
        "settings.configure(INSTALLED_APPS=['sealwax.django'],"
        " DATABASES={'default': {'ENGINE': 'django.db.backends.sqlite3', 'NAME': 'app.db'}},"
        " SEALWAX={'KMS_KEY': 'alias/app', 'SCOPE': {'app': 'app'}})\n"
        "django.setup()\nfrom django.core.management import call_command\n"
        "call_command('check')\ncall_command('migrate', verbosity=0)"
    ),
    "sql": _STORE + "SqlKeys('sqlite:///keys.db').create_table()",
    "postgresql": _STORE + "SqlKeys('postgresql+psycopg://localhost/app')",
    "mysql": _STORE + "SqlKeys('mysql+pymysql://localhost/app')",
    "sqlalchemy": "import greenlet\nfrom sealwax.sqlalchemy import Sealed, sealed\nsealed(str, row='id')",
}
# And what says that it is missing.
MISSING: Final = {
    "import sealwax.otel": "sealwax[otel]",
    "import sealwax.django": "sealwax[django]",
    "import sealwax.sqlalchemy": "sealwax[sqlalchemy]",
    "import sealwax.records.tables": "sealwax[sql]",
    PROBES["sql"]: "sealwax[sql]",
    PROBES["postgresql"]: "sealwax[postgresql]",
    PROBES["mysql"]: "sealwax[mysql]",
}


def constraints() -> str:
    """Return the pins of requirements/test.txt without their hashes, which pip would then demand of the wheel too."""
    text = (ROOT / "requirements/test.txt").read_text(encoding="utf-8")
    pins = re.findall(r"^([a-z0-9-]+)(?:\[[a-z,-]+\])?(==[^\\\n]+)", text, re.MULTILINE)
    return "".join(f"{name}{version.strip()}\n" for name, version in pins)


def bare(folder: Path, wheel: Path, extra: str = "none") -> Path:
    """Make an environment with the wheel and one extra, and return its Python."""
    venv.create(folder, with_pip=False)
    python, pins = folder / "bin/python", folder / "constraints.txt"
    pins.write_text(constraints(), encoding="utf-8")
    pip = [sys.executable, "-m", "pip", "--python", str(python), "--disable-pip-version-check"]
    asked = str(wheel) if extra == "none" else f"{wheel}[{extra}]"
    subprocess.run([*pip, "install", "--quiet", "--constraint", str(pins), asked], check=True)
    subprocess.run([*pip, "check"], check=True, stdout=subprocess.DEVNULL)
    return python


def run(python: Path, code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.defpath, "HOME": str(folder)}
    return subprocess.run(
        [python, "-I", "-W", "error", "-c", code], cwd=folder, env=environment, capture_output=True, text=True
    )


def mistakes(extra: str, wheel: Path) -> list[str]:
    """Return what goes wrong with an extra, in sentences."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        python = bare(folder / "venv", wheel, extra)
        done = run(python, PROBES[extra], folder)
        found = [f"{extra}: {done.stderr.strip()}"] if done.returncode else []
        for code, said in MISSING.items() if extra == "none" else ():
            last = (run(python, code, folder).stderr.strip().splitlines() or [""])[-1]
            if f"pip install '{said}" not in last and f"'{said}'" not in last:
                found.append(f"{code!r} without an extra does not say how to install '{said}': {last}")
    return found


def main(dist: Path, extras: list[str]) -> list[str]:
    (wheel,) = dist.resolve().glob("*.whl")
    found = []
    for extra in extras or PROBES:
        wrong = mistakes(extra, wheel)
        print(f"{extra}: {'failed' if wrong else 'ok'}", flush=True)
        found += wrong
    return found


if __name__ == "__main__":
    sys.exit("\n".join(main(Path(sys.argv[1]), sys.argv[2:])) or None)
