"""What braces mean in a context: a placeholder that is known, one that is refused, or the text itself."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Final

import pytest

import sealwax
from sealwax import fleet
from tests.cli.conftest import K, Keys, Run
from tests.cli.shell import Shell

UNKNOWN: Final = ("{foo}", "x{rel_path}y", "{Name}", "{ name }", "{relpath.stem}", "{0}", "{name}/{foo}", "${HOME}")
LITERAL: Final = {
    "{{name}}": "{name}",
    "{{foo}}": "{foo}",
    "{{{foo}}}": "{{foo}}",
    "{{relpath}}={relpath}": "{relpath}=a.bin",
    '{"a": {"b": {}}}': '{"a": {"b": {}}}',
    '{"a":{"b":{"c":1}}}': '{"a":{"b":{"c":1}}}',
    "{}{{}}{2,3}": "{}{{}}{2,3}",
    "}{name}{": "}a.bin{",
}


@pytest.mark.parametrize("value", UNKNOWN)
@pytest.mark.parametrize("verb", ["encrypt", "decrypt", "verify", "rewrap", "reencrypt", "fleet"])
def test_an_unknown_placeholder_is_refused(
    run: Run, here: Path, keys: Keys, capsys: pytest.CaptureFixture[str], verb: str, value: str
) -> None:
    (here / "a.swx").write_bytes(keys.sealer(keys.demo).encrypt(b"value", context={"n": value}))
    (here / "given.json").write_text(json.dumps({"n": value}))
    to = ("--to", "alias/demo2")
    options = {
        "rewrap": (*K, *to),
        "reencrypt": (*K, *to),
        "fleet": ("plan", "--from", "alias/demo", *to, "-o", "plan"),
    }.get(verb, K)
    before = os.listdir(here)
    for given in (("-c", f"n={value}"), ("--context-file", "given.json")):
        assert run(verb, *options, *given, "a.swx") == 2
        said = " ".join(capsys.readouterr().err.split())
        assert "'n'" in said
        assert "{relpath} or {name}" in said
        assert "{{" in said
        assert os.listdir(here) == before


@pytest.mark.parametrize("value", LITERAL)
def test_other_braces_are_text(run: Run, here: Path, value: str) -> None:
    assert len(LITERAL) == 8
    (here / "a.bin").write_bytes(b"data")
    (here / "given.json").write_text(json.dumps({"n": value}))
    given = (("-c", f"n={value}"), ("--context-file", "given.json"))
    for one in given:
        assert run("encrypt", "--force", *K, *one, "a.bin") == 0
        assert sealwax.inspect(here / "a.bin.swx").context == {"n": LITERAL[value]}
    for one in given:
        assert run("verify", *K, *one, "a.bin.swx") == 0


@pytest.mark.parametrize("value", LITERAL)
def test_a_fleet_takes_braces_as_files_do(value: str) -> None:
    meant = fleet.Contexts((("n", value),))
    assert meant.refusal({"n": LITERAL[value]}, "a.bin.swx") is None
    assert meant.refusal({"n": f"{LITERAL[value]}."}, "a.bin.swx") is not None


@pytest.mark.parametrize("value", UNKNOWN)
def test_a_fleet_refuses_what_files_refuse(value: str) -> None:
    with pytest.raises(sealwax.ContextError, match=r"\{relpath\} or \{name\}"):
        fleet.Contexts((("n", value),))


EXPLAIN: Final = ("explain", "arn:aws:iam::111122223333:user/a", "kms:Decrypt")
KEY: Final = "arn:aws:kms:us-east-1:111122223333:key/0a0a0a0a-0000-4000-8000-00000000000a"
ROLE: Final = "arn:aws:iam::111122223333:role/a"
OF_NO_FILE: Final = {
    "prove": ("prove", *K),
    "key": ("policy", "key", "--admin", ROLE),
    "iam": ("policy", "iam", "decrypt", "-k", KEY),
    "explain": ("policy", *EXPLAIN, KEY),
}


@pytest.mark.parametrize("value", ["{foo}", "{relpath}", "x{name}", "${HOME}"])
@pytest.mark.parametrize("verb", OF_NO_FILE)
def test_where_there_is_no_file_no_brace_is_filled_in(
    run: Run, capsys: pytest.CaptureFixture[str], verb: str, value: str
) -> None:
    assert run(*OF_NO_FILE[verb], "-c", f"n={value}") == 2
    said = " ".join(capsys.readouterr().err.split())
    known = value in ("{relpath}", "x{name}")
    assert f"{{relpath}} {'and' if known else 'or'} {{name}}" in said or (known and "--context-name n" in said)
    assert len(OF_NO_FILE) == 4


@pytest.mark.parametrize("value", ["{{name}}", "{{foo}}", '{"a": {"b": {}}}', "${aws:username}"])
def test_a_policy_is_for_the_context_that_files_are_bound_to(
    run: Run, here: Path, keys: Keys, capsys: pytest.CaptureFixture[str], value: str
) -> None:
    (here / "a.bin").write_bytes(b"data")
    assert run("encrypt", *K, "-c", f"n={value}", "a.bin") == 0
    stored = sealwax.inspect(here / "a.bin.swx").context["n"]
    assert stored == LITERAL.get(value, value)
    capsys.readouterr()
    assert run("policy", "iam", "decrypt", "-k", keys.demo, "-c", f"n={value}") == 0
    (here / "iam.json").write_text(capsys.readouterr().out)
    root = {
        "Effect": "Allow",
        "Principal": {"AWS": "arn:aws:iam::111122223333:root"},
        "Action": "kms:*",
        "Resource": "*",
    }
    (here / "key.json").write_text(json.dumps({"Version": "2012-10-17", "Statement": [root]}))
    asked = (*EXPLAIN, keys.demo, "--key-policy", "key.json", "--identity-policy", "iam.json", "--json")
    for context, allowed in ((("-c", f"n={value}"), True), (("-c", "n=other"), False)):
        run("policy", *asked, *context)
        assert json.loads(capsys.readouterr().out)["allowed"] is allowed


def test_a_star_and_braces_through_a_pipe(shell: Shell) -> None:
    """A stream has no name to put in place of a placeholder, and its braces are written as those of a file."""
    given = (*K, "-c", "v=*{{x}}")
    sealed = shell.sealwax("encrypt", *given, "-", stdin=b"data").succeeded().out
    assert shell.sealwax("decrypt", *given, "-", stdin=sealed).succeeded().out == b"data"
    shell.sealwax("verify", *given, "-", stdin=sealed).succeeded()
