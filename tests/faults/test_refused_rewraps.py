"""A re-wrap that is refused changes nothing at all; one that is not begins with the slot that KMS did not open."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

import sealwax
from sealwax._core.envelope import inspect as inspect_envelope
from sealwax._core.format.header import Slot
from sealwax._core.keyring import WrappedKey
from sealwax.stores._files import FileStore
from tests.fakes import ALPHA, BETA, FOREIGN, GAMMA, FakeKeyring
from tests.faults.unfinished import CONTEXT, PLAINTEXT, envelope, under

OTHER_DATA_KEY = bytes(32)


class Answering(FakeKeyring):
    """A keyring whose KMS answers each re-wrap from some keys with an error."""

    def __init__(self, error: BaseException, *refused: str) -> None:
        super().__init__(ALPHA, allowed=[ALPHA, BETA])
        self._error, self._refused = error, refused

    def rewrap(
        self, wrapped_keys: Sequence[WrappedKey], context: Mapping[str, str], to: Sequence[str]
    ) -> tuple[WrappedKey, ...]:
        if any(key.key_arn in self._refused for key in wrapped_keys):
            self.calls.append("refused")
            raise self._error
        return super().rewrap(wrapped_keys, context, to)


def _allowed(*keys: str) -> FakeKeyring:
    return FakeKeyring(ALPHA, allowed=keys)


BOTH = (ALPHA, BETA)
DENIED = sealwax.AccessDeniedError("denied", code="AccessDeniedException")
REFUSALS: dict[str, tuple[Callable[[], FakeKeyring], dict[str, Any], type[BaseException]]] = {
    "another context": (lambda: _allowed(*BOTH), {"context": {"purpose": "TYPO"}}, sealwax.ContextError),
    "no context": (lambda: _allowed(*BOTH), {"context": {}}, sealwax.ContextError),
    "another context, verified": (
        lambda: _allowed(*BOTH),
        {"context": {"purpose": "TYPO"}, "verify": True},
        sealwax.ContextError,
    ),
    "keys that are not allowed": (lambda: _allowed(GAMMA), {}, sealwax.KeyNotAllowedError),
    "keys that are not allowed, verified": (lambda: _allowed(GAMMA), {"verify": True}, sealwax.KeyNotAllowedError),
    "denied by KMS": (lambda: Answering(DENIED, *BOTH), {}, sealwax.AccessDeniedError),
    "no network": (
        lambda: Answering(sealwax.UnavailableError("down", retryable=True), *BOTH),
        {},
        sealwax.UnavailableError,
    ),
    "Ctrl-C": (lambda: Answering(KeyboardInterrupt(), *BOTH), {}, KeyboardInterrupt),
    "a target twice": (lambda: _allowed(*BOTH), {"to": [GAMMA, GAMMA]}, sealwax.DamagedHeaderError),
    "too many targets": (
        lambda: _allowed(*BOTH),
        {"to": [f"{GAMMA[:-2]}{number:02}" for number in range(17)]},
        sealwax.DamagedHeaderError,
    ),
}
NEWER, OLDER = Slot(2, (under(BETA),)), Slot(1, (under(ALPHA),))
LAYOUTS = {
    "the first is newer": (NEWER, OLDER),
    "the second is newer": (OLDER, NEWER),
    "the first is torn": (None, OLDER),
    "the second is torn": (NEWER, None),
    "finished": (NEWER, NEWER),
}


def _state(path: Path) -> tuple[Any, ...]:
    status = path.stat()
    return (
        path.read_bytes(),
        *(status.st_ino, status.st_mode, status.st_nlink, status.st_mtime_ns, status.st_ctime_ns),
    )


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("why", REFUSALS)
def test_a_refusal_changes_nothing(why: str, layout: str, tmp_path: Path) -> None:
    folder = tmp_path / "place"
    folder.mkdir()
    path, output = folder / "file.swx", tmp_path / "output.swx"
    data = envelope(*LAYOUTS[layout])
    path.write_bytes(data)
    os.link(path, tmp_path / "other name")
    make, given, error = REFUSALS[why]
    settings = {"to": GAMMA, "context": CONTEXT} | given
    sealer = sealwax.Sealer(make())
    before = _state(path)
    rewraps: list[Callable[[], object]] = [
        lambda: sealer.rewrap(path, **settings),
        lambda: sealer.rewrap(path, output=output, **settings),
        lambda: sealer.rewrap(data, **settings),
        lambda: sealer.rewrap(io.BytesIO(data), output=io.BytesIO(), **settings),
        lambda: FileStore(folder).rewrap(str(path), sealer.rewrapper(**settings)),
        lambda: FileStore(path).rewrap(str(path), sealer.rewrapper(**settings)),
    ]
    for rewrap in rewraps:
        with pytest.raises(error):
            rewrap()
    assert _state(path) == before
    assert sorted(os.listdir(tmp_path)) == ["other name", "place"]
    assert os.listdir(folder) == ["file.swx"]


@pytest.mark.parametrize("layout", ["the first is newer", "the second is newer"])
@pytest.mark.parametrize("why", ["another context", "keys that are not allowed", "denied by KMS", "Ctrl-C"])
def test_a_refused_re_encryption_changes_nothing(why: str, layout: str, tmp_path: Path) -> None:
    class Unwrapping(FakeKeyring):
        def unwrap(self, *_: Any) -> Any:
            raise {"denied by KMS": DENIED, "Ctrl-C": KeyboardInterrupt()}[why]

    path = tmp_path / "file.swx"
    path.write_bytes(envelope(*LAYOUTS[layout]))
    before = _state(path)
    make, given, error = REFUSALS[why]
    sealer = sealwax.Sealer(Unwrapping() if why in ("denied by KMS", "Ctrl-C") else make())
    with pytest.raises(error):
        sealer.reencrypt(path, **({"context": CONTEXT} | given))
    assert _state(path) == before
    assert os.listdir(tmp_path) == ["file.swx"]


UNUSABLE: dict[str, tuple[Callable[[], FakeKeyring], Slot, bool]] = {
    "its key is not allowed": (lambda: _allowed(ALPHA), Slot(2, (under(FOREIGN),)), False),
    "its key is disabled": (lambda: Answering(sealwax.KeyStateError("disabled"), BETA), NEWER, False),
    "KMS refuses it": (
        lambda: Answering(sealwax.WrappedKeyRefusedError("refused"), BETA),
        Slot(2, (WrappedKey(BETA, b"no wrapped key at all", b"", 0),)),
        False,
    ),
    "it holds another data key": (lambda: _allowed(*BOTH), Slot(2, (under(BETA, OTHER_DATA_KEY),)), True),
}


@pytest.mark.parametrize("first", [True, False], ids=["the first is newer", "the second is newer"])
@pytest.mark.parametrize("why", UNUSABLE)
def test_where_the_newer_slot_cannot_be_used_the_older_one_can(why: str, first: bool, tmp_path: Path) -> None:
    make, newer, verify = UNUSABLE[why]
    data = envelope(newer, OLDER) if first else envelope(OLDER, newer)
    path, output = tmp_path / "file.swx", tmp_path / "output.swx"
    path.write_bytes(data)
    settings: dict[str, Any] = {"to": GAMMA, "context": CONTEXT, "verify": verify}
    sealer = sealwax.Sealer(make())
    value = sealer.rewrap(data, **settings)
    sealer.rewrap(path, output=output, **settings)
    sealer.rewrap(path, **settings)
    for made in (value, output, path):
        found = inspect_envelope(made)
        assert found.header.finished
        assert [key.key_arn for key in found.wrapped_keys] == [GAMMA]
        whole = made if isinstance(made, bytes) else made.read_bytes()
        assert sealwax.Sealer(FakeKeyring(GAMMA)).decrypt(whole, context=CONTEXT) == PLAINTEXT
    assert inspect_envelope(path).header.slot.sequence == 3


@pytest.mark.parametrize(("newer", "first_to_go"), [(BETA, 1), (FOREIGN, 0)])
def test_the_slot_that_kms_opened_is_the_last_to_go(
    newer: str, first_to_go: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file.swx"
    path.write_bytes(envelope(Slot(2, (under(newer),)), OLDER))
    preamble = inspect_envelope(path).header.preamble
    written: list[int] = []
    real = os.pwrite

    def pwrite(descriptor: int, data: bytes, offset: int) -> int:
        written.append((offset - preamble.slot_offset) // preamble.slot_size)
        return real(descriptor, data, offset)

    monkeypatch.setattr(os, "pwrite", pwrite)
    sealwax.Sealer(_allowed(*BOTH)).rewrap(path, to=GAMMA, context=CONTEXT)
    assert written == [first_to_go, 1 - first_to_go]


def test_what_heals_is_waited_for_and_not_gone_around() -> None:
    """KMS was not to be had for the newer slot: it may be in a moment, and the older one is not asked for instead."""
    keyring = Answering(sealwax.ThrottledError("slow down", retryable=True), BETA)
    with pytest.raises(sealwax.ThrottledError):
        sealwax.Sealer(keyring).rewrap(envelope(NEWER, OLDER), to=GAMMA, context=CONTEXT)
    assert keyring.calls == ["refused"]
    # Nor is it told that the newer one is not allowed, where the older one could not be had for a moment.
    keyring = Answering(sealwax.ThrottledError("slow down", retryable=True), ALPHA)
    with pytest.raises(sealwax.ThrottledError):
        sealwax.Sealer(keyring).rewrap(envelope(Slot(2, (under(FOREIGN),)), OLDER), to=GAMMA, context=CONTEXT)
