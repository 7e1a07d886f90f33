"""What a caller gives wrongly is told where it is given, in our own words: every parameter against every odd value."""

from __future__ import annotations

import asyncio
import functools
import io
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import sealwax
from sealwax.kms._keyring import KmsKeyring
from sealwax.lab import Lab
from sealwax.records import MemoryKeys
from tests.fakes import ALPHA, FakeKeyring

CONTEXT = {"purpose": "backup"}
MRK = "arn:aws:kms:us-east-1:111122223333:key/mrk-" + "0" * 32
GAPS = memoryview(b"abcdef")[::2]
NAN, INF = float("nan"), float("inf")
ODD: tuple[Any, ...] = (
    *(None, "5", "", b"5", True, False, -1, 0, 1.5, NAN, INF, -INF, 10**9 + 1, 10**400, -(10**400)),
    *([], {}, [None], object(), object, FakeKeyring),
)
# What may be given, and stays out of the way of other parameters.
NONE, TEXT, ZERO, REAL = [None], ["5"], [0], [1.5]


def _caching(**given: Any) -> object:
    settings: dict[str, Any] = {"keyring": FakeKeyring(), "max_age": 60}
    return sealwax.CachingKeyring(**(settings | given))


def _keyring(**given: Any) -> object:
    return KmsKeyring(**({"key": "alias/demo"} | given))


def _lab(method: str, **given: Any) -> object:
    with Lab("lab") as lab:
        return getattr(lab, method)(**given)


def _regions(**given: Any) -> object:
    return sealwax.MultiRegionKeyring(**({"key": MRK, "regions": ["us-east-1"]} | given))


SEALER = sealwax.Sealer(FakeKeyring())
CACHED = sealwax.Sealer(sealwax.CachingKeyring(FakeKeyring(), max_age=60))
SEALED = SEALER.encrypt(b"value", context=CONTEXT)


def _many(sealer: sealwax.Sealer, items: Any) -> list[bytes]:
    return list(sealer.encrypt_many(items))


async def _open_async(file: Any) -> None:
    async with SEALER.open_async(file, context=CONTEXT):
        pass


# A parameter, and which of the odd values it takes.
PARAMETERS: dict[str, tuple[Callable[[Any], object], list[Any]]] = {
    "CachingKeyring keyring": (lambda v: _caching(keyring=v), []),
    "CachingKeyring max_age": (lambda v: _caching(max_age=v), REAL),
    "CachingKeyring max_messages": (lambda v: _caching(max_messages=v), [10**9 + 1]),
    "CachingKeyring max_bytes": (lambda v: _caching(max_bytes=v), [0, 10**9 + 1]),
    "CachingKeyring capacity": (lambda v: _caching(capacity=v), [10**9 + 1]),
    "CachingKeyring serve_stale_for": (lambda v: _caching(serve_stale_for=v), ZERO + REAL),
    "CachingKeyring on_event": (lambda v: _caching(on_event=v), [None, object, FakeKeyring]),
    "RetryPolicy attempts": (lambda v: sealwax.RetryPolicy(attempts=v), []),
    "RetryPolicy deadline": (lambda v: sealwax.RetryPolicy(deadline=v), REAL),
    "RateLimit rate": (lambda v: sealwax.RateLimit(v), REAL),
    "RateLimit burst": (lambda v: sealwax.RateLimit(5, burst=v), NONE + REAL),
    "RateLimit shared": (lambda v: sealwax.RateLimit(5, shared=v), NONE + TEXT),
    "KmsKeyring key": (lambda v: _keyring(key=v), []),
    "KmsKeyring keys": (lambda v: _keyring(key=[v]), []),
    "KmsKeyring decrypt_with": (lambda v: _keyring(decrypt_with=v), [None, [], {}]),
    "KmsKeyring session": (lambda v: _keyring(session=v), NONE),
    "KmsKeyring client": (lambda v: _keyring(client=v), NONE),
    "KmsKeyring max_wrapped_keys_tried": (lambda v: _keyring(max_wrapped_keys_tried=v), NONE),
    "KmsKeyring retries": (lambda v: _keyring(retries=v), []),
    "KmsKeyring limit": (lambda v: _keyring(limit=v), NONE),
    "KmsKeyring on_event": (lambda v: _keyring(on_event=v), [None, object, FakeKeyring]),
    "MultiRegionKeyring key": (lambda v: _regions(key=v), []),
    "MultiRegionKeyring keys": (lambda v: _regions(key=[v], regions=None), []),
    "MultiRegionKeyring regions": (lambda v: _regions(regions=v), []),
    "MultiRegionKeyring region": (lambda v: _regions(regions=[v]), TEXT),
    "MultiRegionKeyring min_wrapped": (lambda v: _regions(min_wrapped=v), []),
    "MultiRegionKeyring hedge_after": (lambda v: _regions(hedge_after=v), NONE + ZERO + REAL),
    "MultiRegionKeyring retry_region_after": (lambda v: _regions(retry_region_after=v), ZERO + REAL),
    "MultiRegionKeyring retries": (lambda v: _regions(retries=v), []),
    "MultiRegionKeyring limit": (lambda v: _regions(limit=v), NONE),
    "MultiRegionKeyring session": (lambda v: _regions(session=v), NONE),
    "MultiRegionKeyring on_event": (lambda v: _regions(on_event=v), [None, object, FakeKeyring]),
    "KeyScope account": (lambda v: sealwax.KeyScope(v, "us-east-1"), []),
    "KeyScope region": (lambda v: sealwax.KeyScope("111122223333", v), TEXT),
    "KeyScope partition": (lambda v: sealwax.KeyScope("111122223333", "us-east-1", v), NONE),
    "Sealer keyring": (lambda v: sealwax.Sealer(v), []),
    "Sealer local_context": (lambda v: sealwax.Sealer(FakeKeyring(), local_context=v), [[], {}]),
    "Sealer local_context's": (lambda v: sealwax.Sealer(FakeKeyring(), local_context=[v]), [*TEXT, ""]),
    "encrypt": (lambda v: SEALER.encrypt(v, context=CONTEXT), [b"5"]),
    "encrypt context": (lambda v: SEALER.encrypt(b"", context=v), []),
    "encrypt context's value": (lambda v: SEALER.encrypt(b"", context={"a": v}), [*TEXT, ""]),
    "decrypt": (lambda v: SEALER.decrypt(v, context=CONTEXT), []),
    "decrypt context": (lambda v: SEALER.decrypt(SEALED, context=v), []),
    "decrypt context's value": (lambda v: SEALER.decrypt(SEALED, context={"purpose": v}), []),
    "accepted context": (sealwax.AcceptStoredContext, [{}]),
    "decrypt header": (lambda v: SEALER.decrypt(SEALED, context=CONTEXT, header=v), NONE),
    "open": (lambda v: SEALER.open(v, context=CONTEXT), []),
    "open for writing": (lambda v: SEALER.open(v, "wb", context=CONTEXT).abandon(), TEXT),
    "open mode": (lambda v: SEALER.open("missing", v, context=CONTEXT), []),
    "open_stream": (lambda v: SEALER.open_stream(v, context=CONTEXT), []),
    "verify": (lambda v: SEALER.verify(v, context=CONTEXT), []),
    "inspect": (lambda v: sealwax.inspect(v), []),
    "armor": (lambda v: sealwax.armor(v), [b"5"]),
    "dearmor": (lambda v: sealwax.dearmor(v), []),
    "rewrap": (lambda v: SEALER.rewrap(v, to=ALPHA, context=CONTEXT), []),
    "rewrap output": (lambda v: SEALER.rewrap("sealed", to=ALPHA, context=CONTEXT, output=v), NONE + TEXT),
    "rewrap to": (lambda v: sealwax.Sealer(KmsKeyring(ALPHA)).rewrap(SEALED, to=v, context=CONTEXT), []),
    "reencrypt": (lambda v: SEALER.reencrypt(v, context=CONTEXT), []),
    "encrypt_many": (lambda v: _many(SEALER, v), [[], {}]),
    "encrypt_many item": (lambda v: _many(SEALER, [v]), []),
    "encrypt_many item, cached": (lambda v: _many(CACHED, [v]), []),
    "encrypt_many value": (lambda v: _many(CACHED, [(v, CONTEXT)]), [b"5"]),
    # Not when the first result is asked for: in the call.
    "encrypt_many threads": (lambda v: SEALER.encrypt_many([(b"", CONTEXT)], threads=v), NONE),
    "decrypt_many threads": (lambda v: SEALER.decrypt_many([(SEALED, CONTEXT)], threads=v), NONE),
    "encrypt_async": (lambda v: asyncio.run(CACHED.encrypt_async(v, context=CONTEXT)), [b"5"]),
    "decrypt_async": (lambda v: asyncio.run(CACHED.decrypt_async(v, context=CONTEXT)), []),
    "open_async": (lambda v: asyncio.run(_open_async(v)), []),
    "Records scope": (lambda v: sealwax.Records(FakeKeyring(), MemoryKeys(), scope=v), [{}]),
    "Records scope's value": (
        lambda v: sealwax.Records(FakeKeyring(), MemoryKeys(), scope={"a": v}),
        [*TEXT, ""],
    ),
    "lab create_key alias": (lambda v: _lab("create_key", alias=v), NONE + TEXT),
    "lab create_key region": (lambda v: _lab("create_key", region=v), []),
    "lab create_key description": (lambda v: _lab("create_key", description=v), [*TEXT, ""]),
    "lab add_principal": (lambda v: _lab("add_principal", name=v), TEXT),
    "lab add_principal account": (lambda v: _lab("add_principal", name="alice", account=v), []),
}


def _is_taken(value: Any, taken: list[Any]) -> bool:
    return any(type(value) is type(one) and value == one for one in taken)


def _error_of(give: Callable[[Any], object], value: Any) -> Exception | None:
    try:
        give(value)
    except Exception as error:
        return error
    return None


@pytest.mark.parametrize("name", PARAMETERS)
def test_odd_values(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("sealed").write_bytes(SEALED)
    give, taken = PARAMETERS[name]
    refused = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a cache that is dropped
        for value in ODD:
            error = _error_of(give, value)
            what = f"{name} = {type(value)}"
            assert (error is None) == _is_taken(value, taken), f"{what}: {error!r}"
            if error is not None:
                _is_ours(error, what)
                refused += 1
    assert refused == len(ODD) - sum(_is_taken(value, taken) for value in ODD)


def _is_ours(error: Exception, what: str) -> None:
    """A sentence that sealwax wrote, of a class that it promises."""
    assert isinstance(error, TypeError | ValueError | sealwax.SealwaxError), f"{what}: {error!r}"
    last = traceback.extract_tb(error.__traceback__)[-1]
    assert "/sealwax/" in last.filename or "/tests/" in last.filename, f"{what}: {error!r}"
    if not isinstance(error, sealwax.SealwaxError):
        assert (last.line or "").startswith("raise "), f"{what}: Python's own words: {error!r}"
    assert 20 < len(str(error)) < 400, what


def test_the_words() -> None:
    rows: tuple[tuple[Callable[[], object], str], ...] = (
        (lambda: SEALER.encrypt_many([], threads=-1), "threads must be from 1 to 1000, not -1"),
        (lambda: SEALER.encrypt_many([], threads=0), "threads must be from 1 to 1000, not 0"),
        (lambda: _caching(max_age=True), "max_age must be a number of seconds, not bool"),
        (lambda: _caching(max_age=NAN), "max_age must be more than 0 and at most 1e+09 seconds, not nan"),
        (lambda: _caching(capacity=10**400), "capacity must be from 1 to 2147483647, not something far larger"),
        (lambda: _caching(serve_stale_for=-1), "serve_stale_for must be at least 0 and at most 1e+09 seconds, not -1"),
        (lambda: sealwax.Sealer("alias/demo"), r"keyring must be a keyring, such as KmsKeyring\(...\), not str"),  # type: ignore[arg-type]
        (lambda: sealwax.Sealer(KmsKeyring), "not the class KmsKeyring"),  # type: ignore[arg-type]
        (
            lambda: _regions(regions="us-east-1"),
            "regions must be a sequence of the Regions that have a replica, not str",
        ),
        (lambda: _keyring(key=[5]), "key must be a sequence of key names, each a str, not int"),
        (lambda: _keyring(key=5), r"key must be a key name \(str\) or a sequence of key names, not int"),
        (lambda: SEALER.encrypt(GAPS, context=CONTEXT), "encrypt takes a memoryview only if it is contiguous"),
        (lambda: SEALER.decrypt(GAPS, context=CONTEXT), "decrypt takes a memoryview only if it is contiguous"),
        (lambda: SEALER.verify(GAPS, context=CONTEXT), "verify takes a memoryview only if it is contiguous"),
        (lambda: SEALER.reencrypt(GAPS, context=CONTEXT), "reencrypt takes a memoryview only if it is contiguous"),
        (lambda: SEALER.rewrap(GAPS, to=ALPHA, context=CONTEXT), "rewrap takes a memoryview only if it is contiguous"),
        (lambda: sealwax.inspect(GAPS), "inspect takes a memoryview only if it is contiguous: pass bytes"),
        (lambda: sealwax.armor(GAPS), "armor takes a memoryview only if it is contiguous: pass bytes"),
        *(
            (functools.partial(use, io.StringIO("x")), "must be a binary file object, not StringIO, which holds text")
            for use in (
                lambda file: SEALER.open(file, "rb", context=CONTEXT),
                lambda file: SEALER.open(file, "wb", context=CONTEXT),
                lambda file: SEALER.decrypt(b"", context=CONTEXT, header=file),
                lambda file: sealwax.inspect(file),
            )
        ),
        *(
            (functools.partial(use, context={"purpose": 1}), "a context must be a mapping of str to str")
            for use in (
                functools.partial(SEALER.decrypt, SEALED),
                functools.partial(SEALER.verify, SEALED),
                functools.partial(SEALER.reencrypt, SEALED),
                functools.partial(SEALER.rewrap, SEALED, to=ALPHA),
            )
        ),
        (lambda: sealwax.AcceptStoredContext("x"), "AcceptStoredContext takes a mapping of str to str, not str"),  # type: ignore[arg-type]
        (lambda: sealwax.Records(FakeKeyring(), MemoryKeys(), scope="x"), "scope must be a mapping of str to str"),  # type: ignore[arg-type]
    )
    for give, words in rows:
        with pytest.raises((TypeError, ValueError), match=words.replace("+", r"\+")):
            give()


def test_as_many_threads_as_are_asked_for() -> None:
    for threads in (1, 3):
        assert len(list(SEALER.encrypt_many([(b"x", CONTEXT)] * 5, threads=threads))) == 5
