"""What an audit is told by files is told by the caller: facts, a baseline, events, the answers of a former run."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Final

import pytest

from sealwax.audit import _baseline, _factsfile
from sealwax.audit._collect import cloudtrail
from sealwax.audit._collect.checkpoint import Checkpoint
from sealwax.cli import run
from sealwax.errors import FactsError, SealwaxError
from tests.audit.accounts import clean, key
from tests.planting import PLANTED, give_away

_BASELINE: Final = json.dumps({"format": "sealwax-baseline-1", "accepted": []}).encode()


def _answers(path: str) -> None:
    with Checkpoint(path.removesuffix(".part"), "AWS", timedelta(days=1)):
        pass


READERS: Final[dict[str, tuple[Callable[[str], object], bytes]]] = {
    "facts": (_factsfile.read_facts, _factsfile.dump(clean(key()))),
    "baseline": (_baseline.read_baseline, _BASELINE),
    "events": (cloudtrail.read_events, b"[]"),
    "answers": (_answers, b'{"format":"sealwax-answers-1","account":"111122223333","place":"AWS"}\n'),
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    folder = tmp_path / "mine"
    folder.mkdir()
    return folder / "file.part"


@pytest.mark.parametrize("what", READERS)
@pytest.mark.parametrize("how", PLANTED)
def test_what_others_can_have_written_tells_an_audit_nothing(path: Path, what: str, how: str) -> None:
    read, content = READERS[what]
    path.write_bytes(content)
    read(str(path))
    path.write_bytes(content)
    PLANTED[how](path)
    with pytest.raises(SealwaxError, match=r"is refused: .+; .|symbolic links"):
        read(str(path))


def test_there_were_that_many_readers() -> None:
    assert len(READERS) == 4


def test_it_is_said_on_the_command_line(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    facts, accepted = path.with_name("facts"), path.with_name("accepted")
    facts.write_bytes(READERS["facts"][1])
    accepted.write_bytes(_BASELINE)
    audit = ["audit", "--fail-on", "never", "--facts", str(facts), "--baseline", str(accepted)]
    assert run(audit) == 0
    accepted.chmod(0o666)
    assert run(audit) == 1
    said = capsys.readouterr().err
    assert f"the baseline '{accepted}' is refused: everybody may write to it (mode 0666), so somebody else" in said
    assert said.endswith(f"could have written it; if nobody has changed it, run: chmod go-w '{accepted}'\n")
    accepted.chmod(0o644)
    give_away(facts)
    assert run(audit) == 1
    assert f"the facts file '{facts}' is refused" in capsys.readouterr().err


def test_facts_of_somebody_else_explain_no_policy(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path.write_bytes(READERS["facts"][1])
    principal = "arn:aws:iam::111122223333:role/app"
    asked = ["policy", "explain", principal, "kms:Decrypt", key().arn]
    path.chmod(0o646)
    assert run([*asked, "--facts", str(path)]) == 1
    for option in ("--key-policy", "--identity-policy", "--grants"):
        assert run([*asked, option, str(path), *(["--key-policy", "/dev/null"] if option == "--grants" else [])]) == 1
    assert capsys.readouterr().err.count("is refused") == 4
    with pytest.raises(FactsError, match="is refused"):
        _factsfile.read_facts(str(path))
