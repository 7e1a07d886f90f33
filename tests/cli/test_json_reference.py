"""docs/reference/json.md has every member that --json prints."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import click

import sealwax
from sealwax import cli
from tests.cli.shell import ROOT, Shell

PAGE: Final = (ROOT / "docs/reference/json.md").read_text(encoding="utf-8")
# Maps whose members are data: contexts, ARNs, formats, reasons.
_DATA: Final = frozenset(
    [
        "aliases",
        "context",
        "deny",
        "done",
        "formats",
        "left_alone",
        "missing_regions",
        "next_steps",
        "scope",
        "skipped",
        "stale_because",
        "to_move",
        "without_index",
    ]
)
_K: Final = "-k alias/demo -c purpose=p"
# The section of the page, and the commands, in an empty folder whose lab has alias/demo and alias/demo2.
COMMANDS: Final = (
    ("Commands on files", f"encrypt {_K} -o one.swx in/a"),
    ("Commands on files", f"encrypt -r {_K} -o out in"),
    ("Commands on files", f"encrypt -r {_K} -o out in"),
    ("Commands on files", f"verify {_K} one.swx in/a"),
    ("Commands on files", f"decrypt {_K} -o again one.swx"),
    ("Commands on files", f"rewrap {_K} --to alias/demo2 one.swx"),
    ("inspect", "inspect one.swx in/a"),
    ("inspect", "inspect --to alias/demo one.swx"),
    (
        "fleet plan, fleet run, fleet status, fleet verify",
        "fleet plan --from alias/demo --to alias/demo2 -c purpose=p -o plan out",
    ),
    ("fleet plan, fleet run, fleet status, fleet verify", "fleet run plan --apply"),
    ("fleet plan, fleet run, fleet status, fleet verify", "fleet status plan"),
    ("fleet plan, fleet run, fleet status, fleet verify", "fleet verify plan --decrypt 1"),
    ("keys list", "keys list"),
    ("keys rotate, keys rotations", "keys rotations alias/demo"),
    ("keys rotate, keys rotations", "keys rotate alias/demo --every 90"),
    ("keys retire", "keys retire alias/demo --scan plan"),
    ("policy explain", "policy explain arn:aws:iam::111122223333:root kms:Decrypt alias/demo -c purpose=p"),
    ("doctor", "doctor -k alias/demo"),
    ("settings show", "settings show in/a"),
    ("records", "records create-table --store sqlite:///keys.db"),
    ("records", "records ensure -k alias/demo -c app=shop --store sqlite:///keys.db"),
    ("records", "records list --store sqlite:///keys.db"),
    ("records", "records index-bits --rows 1000"),
    ("records", "records shred -c app=shop --confirm app=shop --store sqlite:///keys.db"),
)


def sections() -> dict[str, set[str]]:
    """Return the members that each section names."""
    parts = re.split(r"^## (.*)$", PAGE, flags=re.MULTILINE)[1:]
    return {title: set(re.findall(r"`(\w+)`", text)) for title, text in zip(parts[::2], parts[1::2], strict=True)}


def members(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield name
            if name not in _DATA or isinstance(inner, list):
                yield from members(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from members(inner)


def objects(text: str) -> Iterator[object]:
    decoder, rest = json.JSONDecoder(), text.strip()
    while rest:
        value, end = decoder.raw_decode(rest)
        yield value
        rest = rest[end:].strip()


def commands(command: click.Command, path: str = "") -> Iterator[str]:
    """Yield the commands that have --json."""
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            yield from commands(below, f"{path} {name}".strip())
    elif any("--json" in getattr(option, "opts", ()) for option in command.params):
        yield path


def test_every_member_that_is_printed_is_on_the_page(shell: Shell) -> None:
    (shell.folder / "in").mkdir()
    for name in ("a", "b"):
        (shell.folder / "in" / name).write_text(name)
    listed, printed = sections(), 0
    listed["inspect"] |= listed["Commands on files"]
    for section, command in COMMANDS:
        done = shell.sealwax(*command.split(), "--json")
        found = {name for value in objects(done.out.decode()) for name in members(value)}
        assert found, command
        assert found <= listed[section], (command, found - listed[section])
        printed += len(found)
    assert printed > 200


def test_every_member_on_the_page_is_the_programs() -> None:
    package = Path(sealwax.__file__).parent
    source = "\n".join(path.read_text(encoding="utf-8") for path in package.rglob("*.py"))
    rows = re.findall(r"^\| (`.*?) \|", PAGE, re.MULTILINE) + re.findall(
        r"^\| `[a-z-]+`[^|]* \| (.*) \|$", PAGE, re.MULTILINE
    )
    named = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    assert len(named) > 130
    # Keys of dicts, and attributes of what becomes a dict.
    known = set(re.findall(r'"(\w+)"', source)) | set(re.findall(r"^    (\w+): ", source, re.MULTILINE))
    verbs = {path.split()[-1] for path in commands(cli.root)}
    assert named - known - verbs == set()


def test_every_command_with_json_has_a_section() -> None:
    found = list(commands(cli.root))
    assert len(found) > 35
    for path in found:
        of_records = PAGE.partition("\n## records\n")[2] if path.startswith("records ") else ""
        assert path in PAGE or f"`{path.split()[-1]}`" in of_records, path
