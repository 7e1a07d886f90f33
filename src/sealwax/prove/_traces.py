"""Checks for traces of a data key: another process uses one, and its memory and logs are searched from outside.

That process should have wiped its key. This one then decrypts the same key with KMS, to know what to search for. The
key encrypts only a sample.
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
from typing import IO, Final, TypedDict

from sealwax import errors
from sealwax._core import envelope
from sealwax._core.format import payload
from sealwax._core.keyring import DataKey, wipe
from sealwax.prove import _scan
from sealwax.prove._envelopes import derive
from sealwax.prove._proof import Failed, NotShown, Proof, check, pairs
from sealwax.prove._requests import decrypt

_SAMPLE: Final = "This sample of sealwax prove is not a secret."
_SECONDS: Final = 120.0
# These are in botocore's DEBUG log of a call, next to the place where a key would be.
_LOGGED: Final = (b"Response body", b"CiphertextBlob")


@dataclass(frozen=True, slots=True)
class Traces:
    """The results of the search.

    Attributes:
        in_memory: hits by encoding; a sentence if there are none and not all memory could be searched.
        in_logs: hits by encoding.
        log_bytes: the size of the logs.
        logged: whether the logs contain the places where a key would be.
    """

    in_memory: Counter[str] | str
    in_logs: Counter[str]
    log_bytes: int
    logged: bool


class _Request(TypedDict):
    operation: str
    region: str
    error: str | None
    request_id: str | None


class _HelperAnswer(TypedDict, total=False):
    calls: list[_Request]
    sealed: str
    error: str


def _traces(proof: Proof) -> Traces:
    if proof.traces is None:
        try:
            proof.traces = _search(proof)
        except (Failed, NotShown, errors.SealwaxError) as error:
            proof.traces = error
        except OSError as error:
            proof.traces = NotShown(f"the process to search could not be started: {error.strerror or error}")
    if isinstance(proof.traces, Exception):
        raise proof.traces
    assert isinstance(proof.traces, Traces)
    return proof.traces


def _search(proof: Proof) -> Traces:
    helper = proof.options.helper
    if helper is None:
        raise NotShown("this needs a process to search", option="helper")
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
                    proof.record_request(call["operation"], call["error"], call["request_id"], call["region"])
                if "sealed" not in answer:
                    raise NotShown(f"the process to search could not use the key: {answer.get('error', 'it ended')}")
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
                # Closing flushes what the process has not read.
                with contextlib.suppress(OSError):
                    process.stdin.close()
    return Traces(in_memory, in_logs, len(text), all(word in text for word in _LOGGED))


def _ask(process: subprocess.Popen[bytes], task: bytes) -> _HelperAnswer:
    import threading

    stdin, stdout = process.stdin, process.stdout
    assert stdin is not None
    assert stdout is not None
    # A process that hangs is killed; then its line is empty.
    overdue = threading.Timer(_SECONDS, process.kill)
    # Ctrl-C must not wait for it.
    overdue.daemon = True
    try:
        overdue.start()
        return _converse(stdin, stdout, task)
    finally:
        overdue.cancel()


def _converse(stdin: IO[bytes], stdout: IO[bytes], task: bytes) -> _HelperAnswer:
    try:
        # Without the buffer, which would be flushed again into the pipe of a process that has ended.
        os.write(stdin.fileno(), task + b"\n")
        answer: _HelperAnswer | None = json.loads(stdout.readline() or b"{}")
    except (OSError, ValueError):
        return {}
    return answer if isinstance(answer, dict) else {}


def _secrets(proof: Proof, sealed: bytes) -> list[bytearray]:
    """Return the envelope's data key, payload key and base nonce, for the caller to wipe."""
    header = envelope.header_of_value(sealed)
    _, plaintext = proof.ask_for_key(
        "decrypt",
        "decrypting the data key",
        CiphertextBlob=header.slot.wrapped_keys[0].ciphertext,
        **pairs("EncryptionContext", proof.context),
    )
    head = sealed[header.preamble.payload_offset :][: payload.HEAD_BYTES]
    with DataKey(plaintext) as data_key:
        key, nonce, commitment = derive(data_key, header, head)
        if commitment != head[payload.SALT_BYTES :]:
            wipe(key)
            raise Failed("the searched process used a different data key from the one KMS returns for its envelope")
        return [bytearray(data_key.buffer), key, bytearray(nonce)]


def _in_memory(pid: int, secrets: list[bytearray], mark: bytes) -> Counter[str] | str:
    if sys.platform != "linux":
        return "reading another process's memory works on Linux only"
    hits: Counter[str] = Counter()
    marks = unread = 0
    try:
        for data, missing in _scan.memory(pid):
            hits += _scan.count(data, secrets)
            marks += data.count(mark)
            unread += missing
    except OSError as error:
        return f"this process may not read another process's memory: {error.strerror}"
    if hits:
        return hits
    if not marks:
        return "the search did not find the planted marker"
    return f"{unread} bytes of the process's memory could not be read" if unread else hits


def _summary(hits: Counter[str]) -> str:
    return ", ".join(f"{times} in {kind}" for kind, times in sorted(hits.items()))


@check(
    "memory",
    "after use, the data key and the keys derived from it are gone from memory",
    needs=[decrypt],
    requests=lambda proof: 0 if proof.options.helper is None else 3,
)
def memory(proof: Proof) -> str:
    traces = _traces(proof)
    if isinstance(traces.in_memory, str):
        raise NotShown(traces.in_memory)
    if traces.in_memory:
        raise Failed(f"halves of keys are in the memory of a process that used them: {_summary(traces.in_memory)}")
    return "no copy of the keys, raw, hex or base64, in a process that used them; the search found a planted marker"


@check("debug-logs", "no key is in the logs, with all loggers at DEBUG", needs=[decrypt])
def debug_logs(proof: Proof) -> str:
    traces = _traces(proof)
    if not traces.logged:
        raise NotShown("the logs do not contain the places where a key would be")
    if traces.in_logs:
        raise Failed(f"halves of keys are in the DEBUG logs: {_summary(traces.in_logs)}")
    return f"no copy in {traces.log_bytes} bytes of DEBUG logs"
