"""Checks of what a data key leaves behind: another process uses one, and is searched from outside.

The searched process has had its key and should have forgotten it; this one asks KMS for the same key afterwards, to
know what to look for. The key is a sample's, and protects nothing.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from typing import IO, Any, Final

from sealwax import errors
from sealwax._core import envelope
from sealwax._core.format import payload
from sealwax._core.keyring import DataKey, wipe
from sealwax.prove import _scan
from sealwax.prove._envelopes import derive
from sealwax.prove._proof import Failed, NotShown, Proof, check, pairs
from sealwax.prove._requests import decrypt

_SAMPLE: Final = "This sample of sealwax prove is no secret."
_SECONDS: Final = 120.0
# Each is in botocore's DEBUG log of a call, where the key would stand.
_LOGGED: Final = (b"Response body", b"CiphertextBlob")


@dataclass(frozen=True, slots=True)
class Traces:
    """What the search found.

    Attributes:
        in_memory: hits by kind; a sentence where memory could not be searched, or not all of it and nothing was found.
        in_logs: hits by kind.
        log_bytes: how much was logged.
        logged: whether the log shows the places where a key would stand.
    """

    in_memory: Counter[str] | str
    in_logs: Counter[str]
    log_bytes: int
    logged: bool


def _traces(proof: Proof) -> Traces:
    if proof.traces is None:
        try:
            proof.traces = _search(proof)
        except (Failed, NotShown, errors.SealwaxError) as error:
            proof.traces = error
        except OSError as error:
            proof.traces = NotShown(f"the process to search could not be run: {error.strerror or error}")
    if isinstance(proof.traces, Exception):
        raise proof.traces
    assert isinstance(proof.traces, Traces)
    return proof.traces


def _search(proof: Proof) -> Traces:
    helper = proof.options.helper
    if helper is None:
        raise NotShown("no process to search was given")
    mark = os.urandom(32)
    task = {"key": proof.key, "context": proof.context, "sample": _SAMPLE, "mark": mark.hex()}
    with tempfile.TemporaryFile() as log:
        settings = {**os.environ, "AWS_DEFAULT_REGION": proof.region, **helper.environment}
        environment = {name: value for name, value in settings.items() if value is not None}
        with subprocess.Popen(  # noqa: S603  the caller's own program
            helper.command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log
        ) as process:
            assert process.stdin is not None
            try:
                answer = _ask(process, json.dumps(task).encode())
                for call in answer.get("calls", ()):
                    proof.keep(call["operation"], call["error"], call["request_id"], call["region"])
                if "sealed" not in answer:
                    raise NotShown(f"the searched process could not use the key: {answer.get('error', 'it ended')}")
                secrets = _secrets(proof, bytes.fromhex(answer["sealed"]))
                try:
                    in_memory = _in_memory(process.pid, secrets, mark)
                    log.seek(0)
                    text = log.read()
                    in_logs = _scan.count(text, secrets)
                finally:
                    for secret in secrets:
                        wipe(secret)
            finally:
                process.kill()
                # What it has not read is still to be written, and it reads no more.
                with contextlib.suppress(OSError):
                    process.stdin.close()
    return Traces(in_memory, in_logs, len(text), all(word in text for word in _LOGGED))


def _ask(process: subprocess.Popen[bytes], task: bytes) -> dict[str, Any]:
    import threading

    stdin, stdout = process.stdin, process.stdout
    assert stdin is not None
    assert stdout is not None
    # One that hangs is ended, and its line then is empty.
    overdue = threading.Timer(_SECONDS, process.kill)
    # Whoever is told to stop meanwhile does not wait for it.
    overdue.daemon = True
    try:
        overdue.start()
        return _converse(stdin, stdout, task)
    finally:
        overdue.cancel()


def _converse(stdin: IO[bytes], stdout: IO[bytes], task: bytes) -> dict[str, Any]:
    try:
        # Past the buffer, which would be flushed once more into the pipe of a process that has ended.
        os.write(stdin.fileno(), task + b"\n")
        answer = json.loads(stdout.readline() or b"{}")
    except (OSError, ValueError):
        return {}
    return answer if isinstance(answer, dict) else {}


def _secrets(proof: Proof, sealed: bytes) -> list[bytearray]:
    """Return the envelope's data key, payload key and base nonce, for the caller to wipe."""
    header = envelope.header_of_value(sealed)
    _, plaintext = proof.ask_for_key(
        "decrypt",
        "opening the data key",
        CiphertextBlob=header.slot.wrapped_keys[0].ciphertext,
        **pairs("EncryptionContext", proof.context),
    )
    head = sealed[header.preamble.payload_offset :][: payload.HEAD_BYTES]
    with DataKey(plaintext) as data_key:
        key, nonce, commitment = derive(data_key, header, head)
        if commitment != head[payload.SALT_BYTES :]:
            wipe(key)
            raise Failed("the searched process used another data key than KMS gives for its envelope")
        return [bytearray(data_key.buffer), key, bytearray(nonce)]


def _in_memory(pid: int, secrets: list[bytearray], mark: bytes) -> Counter[str] | str:
    if sys.platform != "linux":
        return "another process's memory can be read on Linux only"
    hits: Counter[str] = Counter()
    found = unread = 0
    try:
        for data, missing in _scan.memory(pid):
            hits += _scan.count(data, secrets)
            found += data.count(mark)
            unread += missing
    except OSError as error:
        return f"this process may not read another one's memory: {error.strerror}"
    if hits:
        return hits
    if not found:
        return "the search did not find what was put there to be found"
    return f"{unread} bytes of the process's memory could not be read" if unread else hits


def _told(hits: Counter[str]) -> str:
    return ", ".join(f"{times} in {kind}" for kind, times in sorted(hits.items()))


@check(
    "memory",
    "after use, the data key and the keys made from it are gone from memory",
    needs=[decrypt],
    requests=lambda proof: 0 if proof.options.helper is None else 3,
)
def memory(proof: Proof) -> str:
    traces = _traces(proof)
    if isinstance(traces.in_memory, str):
        raise NotShown(traces.in_memory)
    if traces.in_memory:
        raise Failed(f"halves of keys are in the memory of a process that has used them: {_told(traces.in_memory)}")
    return "no copy in a process that had used them, raw, hex or base64; a mark put there was found"


@check("debug-logs", "no key is in the logs, with every logger at DEBUG", needs=[decrypt])
def debug_logs(proof: Proof) -> str:
    traces = _traces(proof)
    if not traces.logged:
        raise NotShown("the searched process did not log the places where a key would stand")
    if traces.in_logs:
        raise Failed(f"halves of keys are in the DEBUG logs: {_told(traces.in_logs)}")
    return f"no copy in {traces.log_bytes} bytes of DEBUG logs"
