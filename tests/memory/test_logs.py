"""No data key is in the DEBUG logs of any logger, nor in botocore.history, in answers and in requests."""

from __future__ import annotations

import base64
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.history import BaseHistoryHandler, get_global_history_recorder

import sealwax
from sealwax.kms import _hygiene
from sealwax.lab import Lab
from sealwax.prove._scan import count
from tests.memory.conftest import Kms
from tests.memory.program import CONTEXT, KEYS


class Recorder(BaseHistoryHandler):
    def __init__(self) -> None:
        self.text = ""

    def emit(self, event_type: str, payload: Any, source: str) -> None:
        self.text += f"{source} {event_type} {payload!r}\n"
        if isinstance(payload, dict):
            for value in payload.values():
                if isinstance(value, bytes | bytearray):
                    self.text += value.hex() + "\n"


@pytest.fixture
def history() -> Iterator[Recorder]:
    recorder: Any = get_global_history_recorder()
    handler = Recorder()
    handlers, recorder._handlers = recorder._handlers, [handler]
    recorder.enable()
    yield handler
    recorder.disable()
    recorder._handlers = handlers


@pytest.fixture
def environment(kms: Kms, monkeypatch: pytest.MonkeyPatch) -> Kms:
    for name, value in kms.environment().items():
        monkeypatch.setenv(name, value)
    return kms


def use_all() -> None:
    sealer = sealwax.Sealer(sealwax.KmsKeyring(KEYS))
    sealed = sealer.encrypt(b"text", context=CONTEXT)
    assert sealer.decrypt(sealed, context=CONTEXT) == b"text"


def test_no_key_is_logged_or_recorded(environment: Kms, history: Recorder, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    use_all()
    # They are on, and show the very places.
    assert "Response body" in caplog.text
    assert '"Plaintext": "redacted/by/sealwax' in caplog.text
    assert "CanonicalRequest" in caplog.text
    for event in ("API_CALL", "HTTP_REQUEST", "HTTP_RESPONSE", "PARSED_RESPONSE"):
        assert event in history.text
    keys = environment.data_keys()
    assert count(caplog.text.encode() + history.text.encode(), keys) == {}
    assert not any(repr(key)[2:20] in caplog.text + history.text for key in keys)


def test_they_would_be_found(
    environment: Kms, history: Recorder, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_hygiene, "attach", lambda _: None)
    monkeypatch.setattr(_hygiene.Exchange, "stand_in", lambda self: bytes(self._secret))
    monkeypatch.setattr(_hygiene.Exchange, "check_sent", lambda _: None)
    caplog.set_level(logging.DEBUG)
    use_all()
    for text in (caplog.text, history.text):
        assert count(text.encode(), environment.data_keys())["base64"] > 0


def test_without_the_connections_the_logs_still_hold_nothing(
    environment: Kms, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_hygiene, "_attach_to_connections", lambda _: None)
    caplog.set_level(logging.DEBUG)
    use_all()
    assert '"Plaintext": "redacted/by/sealwax' in caplog.text
    assert count(caplog.text.encode(), environment.data_keys()) == {}


def test_the_lab_in_process(tmp_path: Path, history: Recorder, caplog: pytest.LogCaptureFixture) -> None:
    """No connection is there to read from: nothing is logged, and botocore.history alone sees the bare answers.

    It records an answer before it tells anybody of it; the threat model says so. These are keys of the lab's.
    """
    with Lab(tmp_path / "lab") as lab:
        keys = [lab.create_key()["Arn"], lab.create_key()["Arn"]]
        sealer = sealwax.Sealer(sealwax.KmsKeyring(keys, session=lab.session()))
        caplog.set_level(logging.DEBUG)
        sealed = sealer.encrypt(b"text", context=CONTEXT)
        assert sealer.decrypt(sealed, context=CONTEXT) == b"text"
        wrapped = sealwax.inspect(sealed).wrapped_keys
        assert len(wrapped) == 2
        blob = base64.b64encode(wrapped[1].ciphertext).decode()
        key = bytes(lab.call("Decrypt", CiphertextBlob=blob, EncryptionContext=CONTEXT)["Plaintext"])
    assert '"Plaintext":"redacted/by/sealwax' in caplog.text
    assert count(caplog.text.encode(), [key]) == {}
    seen = [line for line in history.text.splitlines() if count(line.encode(), [key])]
    assert [line.split()[1] for line in seen] == ["HTTP_RESPONSE", "HTTP_RESPONSE"]
    assert "PARSED_RESPONSE" in history.text
    assert "HTTP_REQUEST" in history.text
