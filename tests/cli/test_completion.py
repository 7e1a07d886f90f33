"""The completion scripts: bash's is run, the others are held against what their shells need to find."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sealwax.cli import VERBS, run

# Loads the script, asks it as bash would, and prints what it offers.
_ASK = """
eval "$(sealwax completion bash 2>/dev/null)"
complete -p sealwax
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
_sealwax_completion sealwax 2>/dev/null
printf '%s\\n' "${COMPREPLY[@]}"
"""


def ask_bash(*words: str) -> tuple[str, list[str]]:
    done = subprocess.run(
        ["bash", "--norc", "-c", _ASK, "bash", *words],
        env=os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=True,
    )
    registered, *offers = done.stdout.splitlines()
    return registered, [offer for offer in offers if offer]


def test_bash_completes_verbs() -> None:
    registered, offers = ask_bash("sealwax", "")
    assert registered == "complete -o nosort -F _sealwax_completion sealwax"
    assert offers == list(VERBS)
    assert ask_bash("sealwax", "de")[1] == ["decrypt"]
    assert ask_bash("sealwax", "nonsense")[1] == []


def test_bash_completes_options_and_their_values() -> None:
    assert {"--context", "--context-file"} <= set(ask_bash("sealwax", "encrypt", "--cont")[1])
    assert ask_bash("sealwax", "rewrap", "--accept")[1] == ["--accept-stored-context"]
    assert ask_bash("sealwax", "keys", "list", "--js")[1] == ["--json"]
    assert ask_bash("sealwax", "completion", "")[1] == ["bash", "zsh", "fish"]


@pytest.mark.parametrize(
    ("shell", "parts"),
    [
        ("bash", ["_SEALWAX_COMPLETE=bash_complete", "complete -o nosort -F _sealwax_completion sealwax"]),
        ("zsh", ["#compdef sealwax", "_SEALWAX_COMPLETE=zsh_complete", "compdef _sealwax_completion sealwax"]),
        ("fish", ["_SEALWAX_COMPLETE=fish_complete", "complete --no-files --command sealwax"]),
    ],
)
def test_scripts(shell: str, parts: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["completion", shell]) == 0
    out, err = capsys.readouterr()
    assert all(part in out for part in parts)
    # The script alone goes to standard output: it is meant to be written to a file.
    assert err.startswith(f"sealwax: to install it: sealwax completion {shell} > ")


def test_help_says_how_to_install(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["completion", "--help"]) == 0
    out = capsys.readouterr().out
    assert all(f"sealwax completion {shell} > " in out for shell in ("bash", "zsh", "fish"))


def test_another_shell_is_a_usage_error() -> None:
    assert run(["completion", "tcsh"]) == 2


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_the_program_answers_the_other_shells(shell: str) -> None:
    words = {"COMP_WORDS": "sealwax rew", "COMP_CWORD": "1" if shell == "zsh" else "rew"}
    done = subprocess.run(
        [Path(sys.executable).parent / "sealwax"],
        env=os.environ | words | {"_SEALWAX_COMPLETE": f"{shell}_complete"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "rewrap" in done.stdout
