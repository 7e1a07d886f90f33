"""What the pages say of numbers, names and each other is true."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final
from unittest.mock import Mock

import pytest
from boto3 import Session

from sealwax import Sealer, cli, errors
from sealwax._core import context
from sealwax._core import envelope as envelopes
from sealwax._core.format import header as hdr
from sealwax._core.format import payload
from sealwax._core.keyring import WrappedKey
from sealwax.cli import settingsfile
from sealwax.events import KmsCall
from sealwax.kms import KmsKeyring
from sealwax.kms import _keyring as kms_keyring
from sealwax.lab import Lab
from sealwax.otel import Telemetry
from sealwax.records import _blob as record_blob
from sealwax.records import _form as record_form
from sealwax.records import _rows as record_rows
from sealwax.records import _store as record_store
from tests.docs.blocks import PAGES, ROOT, blocks_of

LIMITS: Final = (ROOT / "docs/reference/limits.md").read_text(encoding="utf-8")
README: Final = (ROOT / "README.md").read_text(encoding="utf-8")
_LINK: Final = re.compile(r"\[[^\]\n]*\]\(([^)\s]+)\)")


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_link_inside_the_project_leads_somewhere(page: Path) -> None:
    for link in _LINK.findall(page.read_text(encoding="utf-8")):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_each_page_is_in_the_list_of_its_section_once() -> None:
    # The lists are the navigation of the site, and of whoever reads on GitHub.
    sections = ("start", "tutorials", "how-to", "explanation", "reference")
    for section in sections:
        folder = ROOT / "docs" / section
        text = (folder / "README.md").read_text(encoding="utf-8")
        listed = re.findall(r"^- \[([^\]]+)\]\(([\w-]+\.md)\): [^\n]+\.$", text, re.MULTILINE)
        titles = {path.name: path.read_text("utf-8").partition("\n")[0] for path in folder.glob("*.md")}
        assert {page: f"# {title}" for title, page in listed} | {"README.md": titles["README.md"]} == titles
        assert len(listed) == len(titles) - 1
        assert f"(docs/{section}/README.md)" in README, "the README leads to every section"
    pages = {path for path in (ROOT / "docs").rglob("*.md") if path.parent.name != "decisions"}
    assert {path.parent.name for path in pages} == {*sections, "docs"}
    assert len(pages) > 50


def test_every_decision_is_in_the_list_and_has_its_three_parts() -> None:
    folder = ROOT / "docs/decisions"
    records = sorted(folder.glob("[0-9]*.md"))
    assert len(records) >= 12
    listed = _LINK.findall((folder / "README.md").read_text(encoding="utf-8"))
    assert listed == [record.name for record in records]
    for record in records:
        text = record.read_text(encoding="utf-8")
        assert text.startswith(f"# {int(record.name[:4])}. ")
        assert re.findall(r"^\*\*(\w+)\.\*\*", text, re.MULTILINE) == ["Context", "Choice", "Price"]


def test_the_command_line_reference_is_what_the_program_says() -> None:
    # A process of its own: the terminal of this one must not matter.
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys; sys.path.insert(0, 'docs'); import make_cli_reference as m; sys.stdout.write(m.page())",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    page = (ROOT / "docs/reference/cli.md").read_text(encoding="utf-8")
    assert page == done.stdout, "run: python docs/make_cli_reference.py"
    for verb in cli.VERBS:
        assert f"## sealwax {verb}\n" in page


def test_the_exit_statuses_of_the_page_are_the_programs() -> None:
    page = (ROOT / "docs/reference/statuses.md").read_text(encoding="utf-8")
    listed = {int(status) for row in re.findall(r"^\| ([\d, ]+) \|", page, re.MULTILINE) for status in row.split(",")}
    named = {int(status) for status in re.findall(r"\b(\d+)\b", (cli.__doc__ or "").partition("Exit status:")[2])}
    assert listed == named == {0, 1, 2, 3, 4, 5, 6, 7, 8, 129, 130, 143}
    assert {status for _, status in cli.STATUS} | {cli.PARTLY_DONE} <= listed
    for kind, words in {
        errors.HeaderError: "not an envelope",
        errors.PayloadError: "payload does not authenticate",
        errors.ContextError: "context is missing or different",
        errors.KmsError: "KMS key cannot be used",
    }.items():
        (row,) = re.findall(rf"^\| (\d+) \|.*{words}", page, re.MULTILINE)
        assert int(row) == dict(cli.STATUS)[kind]


def test_the_limits_are_the_codes() -> None:
    defaults = inspect.signature(KmsKeyring).parameters
    assert defaults["max_wrapped_keys_tried"].default is None  # the constant, or the length of a longer allow-list
    for words, number in {
        "(4,503,599,627,370,495)": payload.MAX_PLAINTEXT_BYTES,
        "64 each": context.MAX_PAIRS,
        "| 8192 |": context.MAX_BYTES,
        "| 16, if they fit": hdr.MAX_WRAPPED_KEYS,
        "into 65,535 bytes": hdr.MAX_SLOT_BYTES,
        "| 6144 bytes |": hdr.MAX_CIPHERTEXT_BYTES,
        "one `rewrap` | 16 |": kms_keyring.MAX_KEYS,
        "| 3, or the allow-list's length if that is more (`max_wrapped_keys_tried`) |": kms_keyring.MAX_ATTEMPTS,
        "| 16,384 bytes |": payload.CHUNK_BYTES,
        "| 64 chunks": payload.GROUP_CHUNKS,
        "chunks, 1,048,576 bytes": payload.GROUP_BYTES,
        "records.md) | 1,048,575 bytes": record_form.MAX_PLAINTEXT_BYTES - 1,
        "a record has 58 bytes more": record_form.MIN_BYTES + 1,
        "items of a tuple | 4096 bytes": record_rows.MAX_ROW_BYTES,
        "Wrapped data key in a key store | 8192 bytes": record_blob.MAX_BLOB_BYTES,
        "| 196,605 bytes |": envelopes.MAX_HEADER_BYTES,
        "| 2048 bytes, one for each data key": hdr.OUTLINED_BYTES,
    }.items():
        assert words in LIMITS
        assert str(number) in words.replace(",", ""), words
    assert payload.MAX_PLAINTEXT_BYTES == 2**52 - 1
    assert record_store.MAX_GENERATION == 2**31 - 1
    assert hdr.MAX_SEQUENCE == 2**32 - 1  # the first slot has 1, so there are 2**32 - 2 re-wraps


def added(size: int, slots: int, kms_context: bytes, blob_size: int) -> int:
    arn = "arn:aws:kms:us-east-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
    assert len(arn) == 75
    wrapped = WrappedKey(arn, bytes(blob_size), bytes(32), 1)
    header = hdr.lay_out(
        envelope_id=bytes(16), kms_context=kms_context, local_pairs=0, wrapped_keys=[wrapped], slot_count=slots
    )
    return len(header.to_bytes()) + payload.payload_size(size) - size


def test_the_sizes_are_computed_right() -> None:
    backup = context.encode({"purpose": "backup"})
    rows = re.findall(r"^\| ([\d,]+) bytes? \| ([\d,]+) \| ([\d,]+) \|$", LIMITS, re.MULTILINE)
    assert len(rows) == 5
    for row in rows:
        size, value, file = (int(text.replace(",", "")) for text in row)
        assert value == added(size, 1, backup, 155)
        assert file == added(size, 2 if size >= hdr.TWO_SLOTS_FROM else 1, backup, 155)
    for size in (0, 16383, 16384, 5_000_000):
        for blob in (155, 184, 500):
            chunks = 16 * (size // 16384 + 1)
            assert added(size, 1, backup, blob) == len(backup) + blob + 226 + chunks
            assert added(size, 2, backup, blob) == 12344 + chunks
    longest = context.encode({"a": "b" * (4056 - 7)})
    assert len(longest) == 4056
    assert added(0, 2, longest, 155) == 12344 + 16
    assert added(0, 2, context.encode({"a": "b" * (4057 - 7)}), 155) > 12344 + 16


def test_the_lab_wraps_as_the_page_says(sealwax_lab: Lab, sealwax_session: Session) -> None:
    sealwax_lab.create_key(alias="demo")
    sealed = Sealer(KmsKeyring("alias/demo", session=sealwax_session)).encrypt(b"", context={"purpose": "backup"})
    assert len(sealed) == 416


def test_the_tests_that_the_threat_model_names_exist() -> None:
    text = (ROOT / "docs/explanation/threat-model.md").read_text(encoding="utf-8")
    names = re.findall(r"`(test_\w+\.py)`", text)
    assert len(names) >= 8
    assert not [name for name in names if not (ROOT / "tests/foreign" / name).exists()]


def test_every_member_of_the_settings_is_in_the_reference() -> None:
    page = (ROOT / "docs/reference/settings.md").read_text(encoding="utf-8")
    members = re.findall(r"^\| `(\w+)` \| [^|]+ \| `-", page, re.MULTILINE)
    assert tuple(members) == settingsfile._OF_FILES + settingsfile._OF_RUNS


def names_in(text: str, pattern: str) -> set[str]:
    return set(re.findall(pattern, text))


def test_every_metric_and_attribute_is_in_the_reference() -> None:
    metrics: dict[str, object] = {}

    class Meter:
        def __getattr__(self, kind: str) -> Callable[..., object]:
            return lambda name, *_, **__: metrics.setdefault(name, Mock())

    telemetry = Telemetry(tracer_provider=(tracers := Mock()), meter_provider=Mock(get_meter=lambda *_, **__: Meter()))
    telemetry(KmsCall("Decrypt", "eu-west-1", "alias/app", 0.1, attempt=2, error="DisabledException", request_id="id"))
    page = (ROOT / "docs/reference/metrics.md").read_text(encoding="utf-8")
    listed, attributes = page.split("## Spans")
    assert names_in(listed, r"(?m)^\| `(sealwax\.[\w.]+)`") == set(metrics)
    span = tracers.get_tracer().start_span
    made = set(span.call_args.kwargs["attributes"]) | {span().set_attribute.call_args.args[0]}
    assert names_in("".join(re.findall(r"(?m)^\| (`.*?) \|", attributes)), r"`([\w.]+)`") == made


def test_the_make_targets_of_the_pages_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^(\w+):", makefile, re.MULTILINE))
    text = README + (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    named = set(re.findall(r"(?:^|`)make (\w+)", text, re.MULTILINE))
    assert named == {
        "bench",
        "coverage",
        "demo",
        "dist",
        "django",
        "docs",
        "extras",
        "fuzz",
        "lowest",
        "mutants",
        "npm",
        "quick",
        "sbom",
        "soak",
        "test",
        "upgrade",
        "wheel",
    }
    assert named <= targets


def test_the_readme_is_short_and_its_picture_small() -> None:
    assert len(README.splitlines()) < 120
    pictures = re.findall(r"!\[[^\]]{30,}\]\((docs/pictures/[\w.]+)\)", README)
    assert pictures == ["docs/pictures/envelope.svg", "docs/pictures/audit.png"]
    screenshot = (ROOT / pictures[1]).read_bytes()
    assert screenshot.startswith(b"\x89PNG")
    assert len(screenshot) < 200_000
    blocks = {block.language: block.text for block in blocks_of(ROOT / "README.md")}
    lines = {language: [line for line in text.splitlines() if line.strip()] for language, text in blocks.items()}
    assert len(lines["sh"]) == 10
    statements = [line for line in lines["python"] if not line.startswith(("#", "import", "from"))]
    assert 15 <= len(statements) <= 20
