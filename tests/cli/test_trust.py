"""A context is given by the caller, and by no file that others write."""

from __future__ import annotations

import json
from pathlib import Path

from tests.cli.conftest import K
from tests.cli.shell import Shell


def test_a_context_file_of_others_is_refused(shell: Shell, sealed: bytes, tmp_path: Path) -> None:
    assert sealed
    path = tmp_path / "mine" / "context.json"
    path.parent.mkdir()
    path.write_text(json.dumps({"purpose": "backup"}))
    decrypt = ("decrypt", *K, "--context-file", str(path), "-o", "b.bin", "a.swx")
    shell.sealwax(*decrypt).succeeded()
    path.chmod(0o606)
    shell.sealwax(*decrypt, "--force").failed(1, f"the context file '{path}' is refused")


def test_a_context_that_a_program_prints_is_taken(shell: Shell, sealed: bytes) -> None:
    assert sealed
    given = """<(echo '{"purpose": "backup"}')"""
    shell.bash(f"sealwax decrypt -k alias/demo --context-file {given} -o b.bin a.swx && cmp a.bin b.bin").succeeded()
