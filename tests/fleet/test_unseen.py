"""What a scan could not see, or did not find: it is counted, named and kept, and never called done."""

from __future__ import annotations

import json
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import pytest

import sealwax
from sealwax import fleet
from sealwax.fleet import aws_lambda
from sealwax.lab import Server
from sealwax.stores import Entry
from tests.cli.shell import unprivileged
from tests.fleet.fleets import ACME, Keys, Wrapping, plan, run, seal
from tests.fleet.test_aws_lambda import ROTATED, Invocation, fleet_of


class BreaksOff(Wrapping):
    """Its listing ends after the first object, as S3's does when it does not answer."""

    def list(self) -> Iterator[Entry | sealwax.SealwaxError]:
        yield next(iter(super().list()))
        raise sealwax.StoreError("listing failed: S3 asks to slow down", code="SlowDown", retryable=True)


def test_what_a_listing_has_left_out_is_kept_with_its_digest(keys: Keys, folder: Path, path: Path) -> None:
    """Else the next verification would have nothing to compare, and call that well."""
    for name in ("a.swx", "b.swx"):
        seal(keys, folder / name, b"value", keys.new)
    seal(keys, folder / "c.swx")
    planned = plan(keys, folder, path, sources=[keys.one, keys.new], to=[keys.new], digests=None)
    assert planned.digests == 1
    assert run(keys, path).done
    proven = fleet.verify(path, open_location=BreaksOff.around)
    assert proven.checked is not None
    assert (proven.done, proven.hidden, proven.checked.gone, proven.count("unlisted")) == (False, 3, 0, 1)
    assert ("", "unlisted", "listing failed: S3 asks to slow down") in proven.problems
    proven = fleet.verify(path)
    assert (proven.done, proven.digests, proven.checked and proven.checked.digests) == (True, 1, 1)
    data = bytearray((folder / "c.swx").read_bytes())
    data[-1] ^= 1
    (folder / "c.swx").write_bytes(data)
    fleet.verify(path, open_location=BreaksOff.around)
    changed = fleet.verify(path)
    assert changed.checked is not None
    assert changed.checked.changed == (str(folder / "c.swx"),)


def test_one_place_that_cannot_be_listed_does_not_hold_up_another(keys: Keys, folder: Path, path: Path) -> None:
    other = folder.with_name("other")
    other.mkdir()
    for place in (folder, other):
        for name in ("a.swx", "b.swx"):
            seal(keys, place / name)

    def opened(where: str) -> Any:
        return BreaksOff.around(where) if where == str(folder) else Wrapping.around(where)

    settings: dict[str, Any] = {
        "sources": keys.old,
        "to": [keys.new],
        "contexts": fleet.Contexts(tuple(ACME.items())),
        "session": keys.lab.session(),
        "open_location": opened,
    }
    planned = fleet.plan(path, [str(folder), str(other)], **settings)
    assert (planned.stale, planned.hidden, planned.done, planned.empty) == (3, 1, False, ())
    done = run(keys, path, open_location=opened)
    assert (done.rewrapped, done.stale, done.done) == (3, 0, False)


def test_a_bucket_that_is_not_there_makes_no_plan(keys: Keys, folder: Path, path: Path) -> None:
    for code in ("NoSuchBucket", "ParamValidationError"):

        class Nowhere(Wrapping):
            def list(self, code: str = code) -> Iterator[Entry | sealwax.SealwaxError]:
                raise sealwax.StoreError("listing failed: there is no such bucket", code=code)

        with pytest.raises(sealwax.StoreError, match="no such bucket"):
            plan(keys, folder, path, open_location=Nowhere.around)
        assert not path.exists()


def test_links_between_places_are_no_links_out(keys: Keys, folder: Path, path: Path) -> None:
    """A place may itself be named by a link, and overlap another."""
    other = folder.with_name("other")
    (folder / "sub").mkdir()
    other.mkdir()
    seal(keys, folder / "sub/a.swx")
    seal(keys, other / "b.swx")
    (folder / "to-b.swx").symlink_to(other / "b.swx")
    (folder / "to-other").symlink_to(other)
    (folder / "null").symlink_to("/dev/null")
    named = folder.with_name("named")
    named.symlink_to(other)
    settings: dict[str, Any] = {
        "sources": keys.old,
        "to": [keys.new],
        "contexts": fleet.Contexts(tuple(ACME.items())),
        "session": keys.lab.session(),
        "overwrite": True,
    }

    def links(*places: Path) -> set[str]:
        planned = fleet.plan(path, [str(place) for place in places], **settings)
        found = {name for name, state, _ in planned.problems if state == "link"}
        assert planned.links == len(found)
        assert planned.as_dict()["links"] == len(found)
        assert planned.as_dict()["objects"] == planned.objects
        return {Path(name).name for name in found}

    assert links(folder, named) == set()
    assert links(folder, other, folder / "sub") == set()
    assert links(folder) == {"to-b.swx", "to-other"}
    (folder / "sub/to-c").symlink_to(folder.with_name("c"))
    assert links(folder, folder / "sub", other) == {"to-c"}
    # What was a link and is no more leaves nothing behind; nor is it an object that has gone.
    (folder / "sub/to-c").unlink()
    run(keys, path)
    proven = fleet.verify(path)
    assert proven.checked is not None
    assert (proven.links, proven.checked.gone, proven.done) == (0, 0, True)


def test_what_is_wrong_is_named_before_what_is_no_envelope(keys: Keys, folder: Path, path: Path) -> None:
    for at in range(30):
        (folder / f"-{at:02}").write_bytes(b"no envelope")
    seal(keys, folder / "z.swx")
    (folder / "link").symlink_to(folder.with_name("nothing"))
    planned = plan(keys, folder, path)
    assert planned.problems[0][:2] == (str(folder / "link"), "link")
    assert "which does not exist; remove the link" in planned.problems[0][2]
    assert len(planned.problems) == 20


def test_what_cannot_be_read_is_not_said_to_be_sealed_wrongly(keys: Keys, folder: Path, path: Path) -> None:
    """Status 5 is for data that somebody has changed: of a sample that S3 does not give, nobody can say that."""
    for name in ("a.swx", "b.swx"):
        seal(keys, folder / name, b"value", keys.new)

    class Busy(Wrapping):
        def open(self, name: str) -> BinaryIO:
            if name.endswith("a.swx"):
                raise sealwax.StoreError("reading failed: S3 is busy", retryable=True)
            return self.inner.open(name)

    plan(keys, folder, path)
    proven = fleet.verify(path, session=keys.lab.session(), open_location=Busy.around, decrypt=2)
    assert proven.checked is not None
    assert (proven.checked.undecrypted, proven.checked.decrypted) == ((), 1)
    assert proven.checked.unread == ((str(folder / "a.swx"), "reading failed: S3 is busy"),)
    assert (proven.done, proven.hidden) == (False, 1)


@pytest.fixture
def invoke(
    keys: Keys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Any]:
    """The function's handler, with the lab behind it; it returns the line that it has written."""
    server = Server(keys.lab)
    thread = threading.Thread(target=server.serve)
    thread.start()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for name, value in {
        "AWS_ENDPOINT_URL_KMS": server.url,
        "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)

    def call(environment: dict[str, str]) -> dict[str, Any]:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        try:
            aws_lambda.handler(ROTATED, Invocation())
        finally:
            call.line = json.loads(capsys.readouterr().out)  # type: ignore[attr-defined]
        return call.line  # type: ignore[attr-defined,no-any-return]

    yield call
    server.close()
    thread.join()


def test_the_function_fails_where_nothing_is_found_or_not_all_is_listed(keys: Keys, folder: Path, invoke: Any) -> None:
    environment = fleet_of(keys, folder, 2)
    assert invoke(environment)["done"] is True
    empty = folder.with_name("empty")
    empty.mkdir()
    for where in (str(empty), f"{folder} {empty}"):
        with pytest.raises(sealwax.EngineError, match=r"no envelope was found in '.*/empty'"):
            invoke(environment | {"SEALWAX_LOCATIONS": where})
        assert invoke.line["empty"] == [str(empty)]
    (empty / "note").write_bytes(b"no envelope")
    with pytest.raises(sealwax.EngineError, match="no envelope was found"):
        invoke(environment | {"SEALWAX_LOCATIONS": str(empty)})
    closed = folder / "closed"
    closed.mkdir(mode=0)
    with unprivileged(), pytest.raises(sealwax.EngineError, match=r"could be listed: reading the folder .*Permission"):
        invoke(environment)
    assert invoke.line["Failing"] == 1
    closed.rmdir()
    # A single object fails no invocation, and an alarm tells when it stays so.
    data = bytearray((folder / "0.swx").read_bytes())
    data[20] ^= 1
    (folder / "0.swx").write_bytes(data)
    line = invoke(environment)
    assert (line["damaged"], line["Failing"], line["done"]) == (1, 1, False)
