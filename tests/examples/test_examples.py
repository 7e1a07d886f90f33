"""The examples work as their README says, typed into a copy of their folder, with PostgreSQL and the lab."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import pytest
import sqlalchemy as sa

from tests.docs.blocks import ROOT, bare_environment, blocks_of

EXAMPLES: Final = ROOT / "examples"
# What stands for blocks that do not run as typed. Servers end with the shell, or with the next one.
SERVE: Final = """
[ -z "${server-}" ] || { kill $server; wait $server || true; }
trap 'kill $server' EXIT
"""
WAIT: Final = "until curl -sf -o answer http://127.0.0.1:$PORT/%s; do kill -0 $server; sleep 0.1; done\n"
GUNICORN: Final = "gunicorn --worker-class asgi --bind 127.0.0.1:$PORT --log-level warning shop.app:app &\nserver=$!\n"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def create_database(server: str, name: str) -> str:
    """Return the URL of an empty database."""
    engine = sa.create_engine(server, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    engine.dispose()
    return sa.make_url(server).set(database=name).render_as_string()


def script_of(page: Path, instead: Mapping[str, str]) -> tuple[str, Counter[str]]:
    """Return the script of a README, and how many blocks ran or why they did not."""
    lines, counts = ["set -eux"], Counter[str]()
    for block in blocks_of(page):
        counts[block.not_run or block.language] += 1
        if block.not_run:
            kept = [line for line in block.text.splitlines() if line.startswith("export SHOP_KMS_KEYS")]
            lines += [*kept, instead.get(block.not_run, "")]
        elif block.language == "sh":
            lines.append(block.text)
    return "\n".join(lines), counts


def run(script: str, folder: Path, needs: Mapping[str, str]) -> str:
    home = folder.with_name("home")
    home.mkdir()
    with subprocess.Popen(
        ["sh", "-c", script],
        cwd=folder,
        env=bare_environment(home, needs),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            shown, _ = process.communicate(timeout=300)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGTERM)
            raise
    assert process.returncode == 0, shown
    return shown


def copy_of(example: str, folder: Path) -> Path:
    ignored = shutil.ignore_patterns("__pycache__", ".*", "lab")
    return Path(shutil.copytree(EXAMPLES / example, folder / example, ignore=ignored))


def test_the_shop_does_what_its_readme_says(postgresql: str, tmp_path: Path) -> None:
    folder = copy_of("fastapi-shop", tmp_path)
    script, counts = script_of(
        folder / "README.md",
        {
            "serves until Ctrl-C": SERVE + GUNICORN + WAIT % "health",
            "the port is yours": "export SHOP=http://127.0.0.1:$PORT",
        },
    )
    assert counts == {
        "sh": 7,
        "installs from the network": 1,
        "the database is yours": 2,
        "the port is yours": 1,
        "serves until Ctrl-C": 2,
    }
    url = create_database(postgresql, "shop")
    needs = {
        "DATABASE_URL": url,
        "TEST_DATABASE_URL": create_database(postgresql, "shop_test"),
        "SHOP_ADMIN_TOKEN": "of the test",
        "PORT": str(free_port()),
    }
    shown = run(script, folder, needs)
    assert '"email":"ada@example.com","address":null,"notes":"prefers letters"' in shown
    assert '{"database":"ok","kms":"ok"}' in shown
    assert '{"customers":1,"data_keys":3}' in shown
    assert "7 passed" in shown
    engine = sa.create_engine(url)
    with engine.connect() as connection:
        states = connection.exec_driver_sql("SELECT state FROM sealwax_keys").scalars().all()
        assert connection.exec_driver_sql("SELECT count(*) FROM customers").scalar() == 0
    engine.dispose()
    assert set(states) == {"shredded"}
    subprocess.run(
        [sys.executable, "-m", "alembic", "check"], cwd=folder, env=bare_environment(tmp_path, needs), check=True
    )


def test_the_clinic_does_what_its_readme_says(postgresql: str, tmp_path: Path) -> None:
    folder = copy_of("django-clinic", tmp_path)
    script, counts = script_of(folder / "README.md", {})
    assert counts == {"sh": 5, "installs from the network": 1, "serves until Ctrl-C": 1}
    url = sa.make_url(create_database(postgresql, "clinic"))
    needs = {"PGHOST": str(url.query["host"]), "PGUSER": str(url.username)}
    shown = run(script, folder, needs)
    assert "[('Ada Lovelace', datetime.date(1815, 12, 10))]" in shown
    assert "north: data keys destroyed: 3, patients deleted: 1" in shown
    assert "clinic_patient.notes: 1 record resealed" in shown
    assert "Ran 5 tests" in shown
    check = [sys.executable, "manage.py", "makemigrations", "--check"]
    subprocess.run(check, cwd=folder, env=bare_environment(tmp_path, needs), check=True)


@pytest.mark.parametrize("example", sorted(path.parent.name for path in EXAMPLES.glob("*/README.md")))
def test_a_readme_names_files_that_are_there(example: str) -> None:
    text = (EXAMPLES / example / "README.md").read_text()
    targets = [part.split(")")[0].split("#")[0] for part in text.split("](")[1:]]
    assert len(targets) >= 5
    assert [target for target in targets if not (EXAMPLES / example / target).exists()] == []
