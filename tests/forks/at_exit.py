"""``python -m tests.forks.at_exit FILE``: a program that seals in every way there is while the interpreter ends.

Lines of FILE are the situation and what was sealed, or the error. Exit handlers run last in, first out.
"""

from __future__ import annotations

import atexit
import json
import os
import sys

CONTEXT = {"purpose": "exit"}
LARGE = b"a large file " * (1 << 20)
_told = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)


def tell(situation: str, outcome: bytes) -> None:
    os.write(_told, (json.dumps([situation, outcome.hex()]) + "\n").encode())


def told(situation: str, seal: object) -> None:
    """Note what was sealed, or why it was not."""
    assert callable(seal)
    try:
        tell(situation, seal())
    except BaseException as error:
        os.write(_told, (json.dumps([situation, None, f"{type(error).__name__}: {error}"]) + "\n").encode())


# The exit handlers of sealwax, urllib3 and logging are registered later, so this one runs after them.
atexit.register(lambda: told("registered before", lambda: seal(b"registered before")))
atexit.register(lambda: told("first use", lambda: first_use()))
atexit.register(lambda: tell("keys left", b"%d" % keys_left()))

import asyncio  # noqa: E402
import concurrent.futures  # noqa: E402
import gc  # noqa: E402
import logging.handlers  # noqa: E402
import threading  # noqa: E402
import time  # noqa: E402
import weakref  # noqa: E402
from pathlib import Path  # noqa: E402

import sealwax  # noqa: E402
from sealwax.stores import s3  # noqa: E402

FOLDER = Path(sys.argv[1]).parent


def seal(text: bytes) -> bytes:
    return sealer.encrypt(text, context=CONTEXT)


def keys_left() -> int:
    return sum(bool(key._buffer) for key in gc.get_objects() if type(key) is sealwax.DataKey)


def first_use() -> bytes:
    keyring = sealwax.KmsKeyring("alias/demo", retries=sealwax.RetryPolicy(attempts=2))
    return sealwax.Sealer(sealwax.CachingKeyring(keyring, max_age=60)).encrypt(b"first use", context=CONTEXT)


class SealingHandler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        told("memory handler", lambda: sealer.encrypt(record.getMessage().encode(), context=CONTEXT))


class Dropped:
    pass


cache = sealwax.CachingKeyring(sealwax.KmsKeyring("alias/demo"), max_age=300)
sealer = sealwax.Sealer(cache)
independent = sealwax.Sealer(
    sealwax.CachingKeyring(sealwax.MultiRegionKeyring(os.environ["INDEPENDENT_KEYS"].split()), max_age=300)
)
hedged = sealwax.Sealer(
    sealwax.MultiRegionKeyring(os.environ["MULTI_REGION_KEY"], regions=["us-east-1", "eu-west-1"], hedge_after=0.01)
)
sealed_before = sealer.encrypt(b"before", context=CONTEXT)
assert sealer.decrypt(sealed_before, context=CONTEXT) == b"before"
hedged_before = hedged.encrypt(b"hedged", context=CONTEXT)
service = s3.Service()


def put(name: str) -> bytes:
    with s3.ObjectWriter(name, service=service) as writer, sealer.open(writer, "wb", context=CONTEXT) as file:
        file.write(LARGE)
    return name.encode()


def copy() -> bytes:
    sealer_of_both = sealwax.Sealer(sealwax.KmsKeyring("alias/demo"))
    s3.S3Store("s3://bucket/", service=service).rewrap(
        "s3://bucket/copied", sealer_of_both.rewrapper(to="alias/demo", context=CONTEXT)
    )
    return b"s3://bucket/copied"


def write(name: str) -> bytes:
    with sealer.open(FOLDER / name, "wb", context=CONTEXT) as file:
        file.write(LARGE)
    with sealer.open(FOLDER / name, context=CONTEXT) as reader:
        assert reader.read() == LARGE
    return os.fsencode(FOLDER / name)


async def in_task() -> bytes:
    assert await sealer.decrypt_async(sealed_before, context=CONTEXT) == b"before"
    return await sealer.encrypt_async(b"asyncio", context=CONTEXT)


async def file_in_task() -> bytes:
    async with sealer.open_async(FOLDER / "task.swx", "wb", context=CONTEXT) as file:
        await file.write(LARGE)
    return os.fsencode(FOLDER / "task.swx")


def many() -> bytes:
    _, second = sealer.encrypt_many([(b"one", CONTEXT), (b"many", CONTEXT)])
    assert isinstance(second, bytes)
    return second


def many_back() -> bytes:
    (opened,) = sealer.decrypt_many([(sealed_before, CONTEXT)])
    assert opened == b"before"
    return sealed_before


def open_hedged() -> bytes:
    assert hedged.decrypt(hedged_before, context=CONTEXT) == b"hedged"
    return hedged.encrypt(b"hedged", context=CONTEXT)


def late() -> None:
    """In a thread that the interpreter waits for, when the main thread is over."""
    while threading.main_thread().is_alive():
        time.sleep(0.01)
    told("thread", lambda: sealer.encrypt(b"thread", context=CONTEXT))


def queued() -> None:
    time.sleep(0.3)  # the main thread has come to its end
    told("executor", lambda: sealer.encrypt(b"executor", context=CONTEXT))


put("s3://bucket/copied")
atexit.register(told, "object", lambda: put("s3://bucket/object"))
atexit.register(told, "copied object", copy)
atexit.register(told, "file", lambda: write("file.swx"))
atexit.register(told, "file in a task", lambda: asyncio.run(file_in_task()))
atexit.register(told, "asyncio", lambda: asyncio.run(in_task()))
atexit.register(told, "many", many)
atexit.register(told, "many back", many_back)
atexit.register(told, "independent keys", lambda: independent.encrypt(b"independent keys", context=CONTEXT))
atexit.register(told, "hedged", open_hedged)
atexit.register(
    told,
    "uncached",
    lambda: sealwax.Sealer(sealwax.KmsKeyring("alias/demo")).encrypt(b"uncached", context=CONTEXT),
)
# All of those above run before the cache's own handler does. This makes the cache's run before them.
import sealwax._core.cache.wiping  # noqa: E402

for_exit = getattr(sealwax._core.cache.wiping, "at_exit", None)
if for_exit is not None:
    atexit.unregister(for_exit)
    atexit.register(for_exit)
else:
    atexit.register(cache.close)
atexit.register(told, "registered after", lambda: sealer.encrypt(b"registered after", context=CONTEXT))

handler = logging.handlers.MemoryHandler(1000, flushLevel=logging.CRITICAL, target=SealingHandler())
log = logging.getLogger("sealing")
log.addHandler(handler)
log.propagate = False
log.warning("memory handler")

dropped = Dropped()
weakref.finalize(dropped, told, "finalizer", lambda: sealer.encrypt(b"finalizer", context=CONTEXT))
threading.Thread(target=late).start()
executor = concurrent.futures.ThreadPoolExecutor(1)
executor.submit(queued)
