"""No command makes a data key whose context has `sealwax-use`, nor re-encrypts what has one."""

from __future__ import annotations

from pathlib import Path

import pytest

import sealwax
from sealwax import fleet
from sealwax.fleet import State
from sealwax.records import MemoryKeys, Records
from tests.cli.conftest import K, Keys, Run

USE = ("-c", "Sealwax-Use=records-data")
SAYS = "'sealwax-use' is reserved for the data keys of records; use another name in the context"
GUARDS = "the envelope is a data key of records ('sealwax-use' is in its context)"


def row(keys: Keys) -> bytes:
    """Return the blob of a key row under alias/demo."""
    store = MemoryKeys()
    with Records(sealwax.KmsKeyring(keys.demo, session=keys.lab.session()), store, scope={"app": "shop"}) as records:
        records.ensure()
    return next(store.list()).blob


@pytest.mark.parametrize(
    "more",
    [(), ("--dry-run",), ("--share-key",), ("-o", "out.swx"), ("--armor",), ("--local-context", "Sealwax-Use")],
)
def test_encrypt(here: Path, run: Run, keys: Keys, capfd: pytest.CaptureFixture[str], more: tuple[str, ...]) -> None:
    (here / "a.txt").write_text("secret")
    before = keys.calls()
    assert run("encrypt", *K, *USE, "-c", "purpose=x", *more, "a.txt") == 6
    assert SAYS in capfd.readouterr().err
    assert keys.calls() == before
    assert [path.name for path in here.iterdir()] == ["a.txt"]


@pytest.mark.parametrize("more", [(), ("--dry-run",), ("-o", "out.swx"), ("-o", "out.swx", "--dry-run")])
def test_reencrypt(here: Path, run: Run, keys: Keys, capfd: pytest.CaptureFixture[str], more: tuple[str, ...]) -> None:
    path = here / "row.swx"
    path.write_bytes(blob := row(keys))
    before = keys.calls()
    assert run("reencrypt", *K, "--to", keys.demo2, "--accept-stored-context", *more, "row.swx") == 6
    assert GUARDS in capfd.readouterr().err
    assert keys.calls() == before
    assert [path.name for path in here.iterdir()] == ["row.swx"]
    assert path.read_bytes() == blob


def test_edit(
    here: Path, run: Run, keys: Keys, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / "row.swx").write_bytes(row(keys))
    monkeypatch.setenv("EDITOR", "false")
    before = keys.calls()
    assert run("edit", *K, "--accept-stored-context", "row.swx") == 6
    assert GUARDS in capfd.readouterr().err
    assert keys.calls() == before


def test_prove(here: Path, run: Run, keys: Keys, capfd: pytest.CaptureFixture[str]) -> None:
    before = keys.calls()
    assert run("prove", *K, *USE) == 6
    assert SAYS in capfd.readouterr().err
    assert keys.calls() == before
    assert not list(here.iterdir())


def test_a_row_is_read_verified_and_re_wrapped(here: Path, run: Run, keys: Keys) -> None:
    path = here / "row.swx"
    path.write_bytes(row(keys))
    pairs = ("-c", "app=shop", "-c", "sealwax-use=records-data")
    assert run("inspect", "row.swx") == 0
    assert run("verify", *K, *pairs, "row.swx") == 0
    assert run("rewrap", *K, "--to", keys.demo2, *pairs, "row.swx") == 0
    assert [key.key_arn for key in sealwax.inspect(path).wrapped_keys] == [keys.demo2]


def test_a_fleet_refuses_to_re_encrypt_it_and_re_wraps_it(here: Path, keys: Keys) -> None:
    (here / "row.swx").write_bytes(blob := row(keys))
    session = keys.lab.session()
    contexts = fleet.Contexts((("app", "shop"), ("sealwax-use", "records-data")))
    for reencrypt, state in ((True, State.REFUSED), (False, State.REWRAPPED)):
        plan = here.parent / f"{state.value}.plan"
        fleet.plan(
            plan,
            [str(here)],
            sources=[keys.demo],
            to=[keys.demo2],
            contexts=contexts,
            reencrypt=reencrypt,
            session=session,
        )
        report = fleet.run(plan, session=session)
        assert {each: count for each, (count, _) in report.states.items() if count} == {state: 1}
        assert ((here / "row.swx").read_bytes() == blob) is reencrypt
        if reencrypt:
            assert [reason.startswith(GUARDS) for _, _, reason in fleet.problems(plan)] == [True]


def test_encrypt_again_beside_a_row(here: Path, run: Run, keys: Keys, capfd: pytest.CaptureFixture[str]) -> None:
    """What is there already is compared with what would be written, which may ask KMS what an alias stands for."""
    (here / "a").mkdir()
    (here / "a" / "empty").write_bytes(b"")
    (here / "a" / "empty.swx").write_bytes(row(keys))
    before = keys.calls()
    assert run("encrypt", "-r", *K, "-c", "app=shop", "-c", "sealwax-use=records-data", "a") == 6
    assert SAYS in capfd.readouterr().err
    assert keys.calls() == before
