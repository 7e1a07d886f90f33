"""Every block that is marked as runnable runs, in order, in an empty folder for each page."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Final

import pytest

import sealwax
from sealwax import fleet
from tests.docs.blocks import PAGES, ROOT, Block, bare_environment, blocks_of, run
from tests.s3 import StrictS3

RUNNABLE: Final = {page.relative_to(ROOT).as_posix(): [b for b in blocks_of(page) if b.action] for page in PAGES}


def kinds(page: str) -> Counter[str]:
    return Counter(f"{block.language} {block.action.partition('=')[0]}" for block in RUNNABLE[page])


def test_as_many_blocks_are_run_as_the_pages_show() -> None:
    # A page that loses a mark, or gets one nobody counted, fails here: what is not counted may not have run.
    assert {page: dict(kinds(page)) for page in RUNNABLE if RUNNABLE[page] and page != "docs/lab.md"} == {
        "README.md": {"sh run": 1, "python run": 1},
        "docs/async.md": {"python run": 1},
        "docs/audit.md": {"sh run": 1},
        "docs/automatic-rotation.md": {"sh run": 1},
        "docs/caching.md": {"python run": 1},
        "docs/concepts.md": {"python run": 2},
        "docs/open-without-sealwax.md": {"python file": 1, "sh run": 1},
        "docs/policies.md": {"sh run": 4},
        "docs/regions.md": {"python run": 2},
        "docs/rotation.md": {"sh run": 2, "python run": 1},
        "docs/s3.md": {"sh run": 1, "python run": 1},
        "docs/throttling.md": {"python run": 2},
        "docs/verification.md": {"sh run": 1},
    }


def blocks(page: str, language: str) -> list[Block]:
    return [block for block in RUNNABLE[page] if block.language == language]


def test_the_commands_of_the_readme_need_no_aws(tmp_path: Path) -> None:
    for block in blocks("README.md", "sh"):
        run(block, tmp_path, bare_environment())
    assert (tmp_path / "b.txt").read_text() == "the crown jewels\n"


def test_a_key_is_proven_as_the_page_shows(tmp_path: Path) -> None:
    for block in blocks("docs/verification.md", "sh"):
        run(block, tmp_path, bare_environment())


def test_an_account_is_audited_as_the_page_shows(tmp_path: Path) -> None:
    for block in blocks("docs/audit.md", "sh"):
        run(block, tmp_path, bare_environment())
    assert "rotation-off" in (tmp_path / "audit.html").read_text("utf-8")


def test_the_commands_of_a_rotation_need_no_aws(tmp_path: Path) -> None:
    for block in blocks("docs/rotation.md", "sh"):
        run(block, tmp_path, bare_environment())
        found = [sealwax.inspect(path) for path in sorted((tmp_path / "backups.swx").iterdir())]
        assert len(found) == 3
        assert len({each.wrapped_keys[0].key_arn for each in found}) == 1


def test_the_command_of_a_scheduler_can_be_repeated(tmp_path: Path) -> None:
    for block in blocks("docs/automatic-rotation.md", "sh"):
        run(block, tmp_path, bare_environment())
    done = fleet.status(tmp_path / "rotation.plan").as_dict()
    assert (done["objects"], done["fresh"], done["kms_calls"]) == (1, 1, 1)


def test_what_the_page_about_s3_shows(tmp_path: Path, environment: dict[str, str]) -> None:
    with StrictS3() as server:
        client = server.bucket("vault")
        for block in blocks("docs/s3.md", "sh"):
            run(block, tmp_path, bare_environment(**server.environment))
        found = [each["Key"] for each in client.list_objects_v2(Bucket="vault")["Contents"]]
        assert found == ["a.swx", "tree.tar.swx", "tree/one.swx", "tree/two.swx"]
        client = server.bucket("vault")
        for block in blocks("docs/s3.md", "python"):
            run(block, tmp_path, {**environment, "AWS_ENDPOINT_URL_S3": server.url})
        assert "UploadPartCopy" in server.operations


@pytest.mark.parametrize(
    "page",
    [
        "README.md",
        "docs/async.md",
        "docs/caching.md",
        "docs/concepts.md",
        "docs/regions.md",
        "docs/rotation.md",
        "docs/throttling.md",
    ],
)
def test_the_programs_of_a_page_run(page: str, tmp_path: Path, environment: dict[str, str]) -> None:
    for block in blocks(page, "python"):
        run(block, tmp_path, environment)


def test_the_program_without_sealwax_opens_what_sealwax_sealed(
    tmp_path: Path, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    data = bytes(range(256)) * 5000 + b"and a last chunk that is not full"
    Path("backup.tar").write_bytes(data)
    Path("record.plain").write_bytes(b"")
    sealer = sealwax.Sealer(sealwax.KmsKeyring("alias/demo"), local_context=("id",))
    with sealer.open("backup.tar.swx", "wb", context={"purpose": "backup"}) as file:
        file.write(data)
    assert len(sealwax.inspect("backup.tar.swx").header.slots) == 2
    Path("record.swx").write_bytes(sealer.encrypt(b"", context={"table": "users", "id": "7"}))
    for block in RUNNABLE["docs/open-without-sealwax.md"]:
        run(block, tmp_path, environment)
    assert Path("restored.tar").read_bytes() == data
    assert "sealwax" not in (tmp_path / "unseal.py").read_text().split("import argparse")[1].split("def encode")[0]
