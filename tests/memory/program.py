"""A program that uses sealwax, and then waits while its memory is read: ``program.py SCENARIO COUNT DIR [BREAK]``.

BREAK doctors the library in this process: ``all`` takes the whole hygiene out, the others one part of it.
"""

from __future__ import annotations

import io
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import sealwax
from sealwax._core import keyring
from sealwax._core.format import payload
from sealwax._core.rewrap import replace_file
from sealwax.kms import _hygiene

CONTEXT = {"purpose": "scan"}
KEYS = ["alias/one", "alias/two", "alias/three"]
TEXT = b"plaintext is not what is looked for"


def sealer(*keys: str) -> sealwax.Sealer:
    return sealwax.Sealer(sealwax.KmsKeyring(keys or KEYS[:1]))


def encrypt(files: list[Path], *keys: str) -> None:
    tool = sealer(*keys)
    for file in files:
        file.write_bytes(tool.encrypt(TEXT, context=CONTEXT))


def empty(files: list[Path]) -> None:
    tool = sealer()
    for file in files:
        file.write_bytes(tool.encrypt(b"", context=CONTEXT))
        assert tool.decrypt(file.read_bytes(), context=CONTEXT) == b""


def encrypt_cut(files: list[Path]) -> None:
    tool = sealer("alias/cut")
    for file in files:
        try:
            sealed = tool.encrypt(TEXT, context=CONTEXT)
        except sealwax.RequestRefusedError as error:  # plain botocore takes half an answer for an answer
            held.append(error)
            sealed = tool.encrypt(TEXT, context=CONTEXT)
        file.write_bytes(sealed)


def encrypt_chunked(files: list[Path]) -> None:
    encrypt(files, "alias/chunked")


def several(files: list[Path]) -> None:
    encrypt(files, *KEYS)
    for key in KEYS:
        tool = sealwax.Sealer(sealwax.KmsKeyring(KEYS, decrypt_with=[key]))
        for file in files:
            assert tool.decrypt(file.read_bytes(), context=CONTEXT) == TEXT


def second_refused(files: list[Path]) -> None:
    tool = sealer("alias/one", "alias/denied")
    for _ in files:
        try:
            tool.encrypt(TEXT, context=CONTEXT)
        except sealwax.AccessDeniedError as error:
            held.append(error)


def stream(files: list[Path]) -> None:
    tool = sealer()
    for file in files:
        with tool.open(file, "wb", context=CONTEXT) as writer:
            for _ in range(5):
                writer.write(bytes(300_000))
        with tool.open_stream(file, context=CONTEXT) as reader:
            while reader.read(1 << 16):
                pass


def large(files: list[Path]) -> None:
    """Large enough for a second thread, also one that is given up half-way, and one that was altered."""
    os.sched_getaffinity = lambda _: {0, 1}
    tool = sealer()
    for file in files:
        with tool.open(file, "wb", context=CONTEXT) as writer:
            for _ in range(7):
                writer.write(bytes(1 << 20))
        with tool.open_stream(file, context=CONTEXT) as reader:
            reader.read(1 << 20)
        altered = bytearray(file.read_bytes())
        altered[-1_000_000] ^= 1
        file.write_bytes(altered)
        with tool.open_stream(file, context=CONTEXT) as reader:
            try:
                while reader.read(1 << 20):
                    pass
            except sealwax.TamperedError as error:
                held.append(error)


def decrypt(files: list[Path]) -> None:
    tool = sealer()
    for file in files:
        assert tool.decrypt(file.read_bytes(), context=CONTEXT) == TEXT


def random_access(files: list[Path]) -> None:
    tool = sealer()
    for file in files:
        with tool.open(file, context=CONTEXT) as reader:
            reader.seek(10)
            assert reader.read(5) == TEXT[10:15]


def reencrypt(files: list[Path]) -> None:
    """Under new data keys, with a witness of what was read, and once more to compare it."""
    tool = sealer()
    for file in files:
        written: list[bytes] = []
        replace_file(file, tool.reencryptor(lambda _: CONTEXT, on_written=lambda one, _: written.append(one)))  # noqa: B023
        with file.open("rb") as opened:
            assert written == [tool.witness(opened, lambda _: CONTEXT)]


def bad_payload(files: list[Path]) -> None:
    tool = sealer()
    for file in files:
        damaged = bytearray(file.read_bytes())
        damaged[-1] ^= 1
        for use in (
            lambda data: tool.decrypt(data, context=CONTEXT),
            lambda data: tool.open(io.BytesIO(data), context=CONTEXT),
        ):
            try:
                use(damaged)
            except sealwax.TamperedError as error:
                held.append(error)


def cached(files: list[Path], **bounds: Any) -> tuple[sealwax.CachingKeyring, sealwax.Sealer]:
    """Encrypt and decrypt under one data key, and return the cache that holds it, twice."""
    cache = sealwax.CachingKeyring(sealwax.KmsKeyring("alias/one"), **{"max_age": 300} | bounds)
    tool = sealwax.Sealer(cache)
    for file in files:
        file.write_bytes(tool.encrypt(TEXT, context=CONTEXT))
        assert tool.decrypt(file.read_bytes(), context=CONTEXT) == TEXT
    return cache, tool


def cache_evicted(files: list[Path]) -> None:
    cache, tool = cached(files, capacity=2)
    for other in ("one", "two"):
        tool.encrypt(TEXT, context={"another": other})
    assert cache.stats().evictions == 2
    caches.append(cache)


def cache_used_up(files: list[Path]) -> None:
    # Each file has a data key of its own, and the last one's goes when the cache needs one more.
    cache, tool = cached(files, max_messages=1, capacity=1)
    tool.encrypt(TEXT, context=CONTEXT)
    tool.encrypt(TEXT, context={"another": "one"})
    caches.append(cache)


def cache_expired(files: list[Path]) -> None:
    cache, _ = cached(files, max_age=0.5)
    while cache.stats().entries:
        time.sleep(0.1)
    caches.append(cache)


def cache_closed(files: list[Path]) -> None:
    cache, _ = cached(files)
    cache.close()
    caches.append(cache)


def cache_forked(files: list[Path]) -> None:
    cache, _ = cached(files)
    caches.append(cache)
    child = os.fork()
    if child:
        os._exit(os.waitpid(child, 0)[1])


# Caches that are over, and still there.
caches: list[sealwax.CachingKeyring] = []


SCENARIOS: dict[str, Callable[[list[Path]], None]] = {
    "encrypt": encrypt,
    "empty": empty,
    "encrypt_cut": encrypt_cut,
    "encrypt_chunked": encrypt_chunked,
    "several": several,
    "second_refused": second_refused,
    "stream": stream,
    "large": large,
    "decrypt": decrypt,
    "random_access": random_access,
    "reencrypt": reencrypt,
    "bad_payload": bad_payload,
    "cache_evicted": cache_evicted,
    "cache_used_up": cache_used_up,
    "cache_expired": cache_expired,
    "cache_closed": cache_closed,
    "cache_forked": cache_forked,
}
# The cache goes on to hold a data key, which no file is of.
KEEPS_A_KEY = ("cache_evicted", "cache_used_up")
NEEDS_FILES = ("decrypt", "random_access", "reencrypt", "bad_payload")

# A program that keeps an error keeps its traceback's frames, and what their variables hold.
held: list[Exception] = []


unwiped: list[bytearray] = []


def nothing(*_: object, **__: object) -> None:
    pass


def take_out_hygiene() -> None:
    exchange: Any = _hygiene.Exchange
    _hygiene.attach = nothing
    exchange.stand_in = lambda self: bytes(self._secret)
    exchange.check_sent = nothing
    take_out_wipe()


def take_out_wipe() -> None:
    # Kept besides, since what takes the place of a freed buffer is chance.
    for module in (keyring, _hygiene, payload):
        module.wipe = unwiped.append  # type: ignore[attr-defined]


def take_out_registers() -> None:
    payload.leave_no_registers = lambda: None


def main() -> None:
    scenario, count, folder, *broken = sys.argv[1:]
    for name in broken:
        {
            "all": take_out_hygiene,
            "wipe": take_out_wipe,
            "registers": take_out_registers,
        }[name]()
    SCENARIOS[scenario]([Path(folder) / f"{index}.swx" for index in range(int(count))])
    print("done", os.getpid(), flush=True)
    sys.stdin.readline()


if __name__ == "__main__":
    main()
