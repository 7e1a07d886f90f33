"""A fleet of files: headers planned and objects re-wrapped, against what bounds them and against encrypting again."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from aws_encryption_sdk.identifiers import Algorithm

import sealwax
from benchmarks.measure import Row
from benchmarks.peers import CONTEXT, MIB, AwsEncryptionSdk
from sealwax import fleet, rewrapping
from sealwax.lab import Lab

_HEADERS: Final = 10_000
_SMALL: Final = 1_000
_LARGE: Final = 64
_ROUNDS: Final = 3
_CONTEXTS: Final = fleet.Contexts(tuple(CONTEXT.items()))


def rows(folder: Path) -> Iterator[Row]:
    with Lab(folder / "fleet-lab") as lab:
        keys = [lab.create_key()["Arn"] for _ in range(2)]
        session = lab.session()
        sealers = [sealwax.Sealer(sealwax.KmsKeyring(key, session=session)) for key in keys]
        plan = folder / "plan"

        def look(place: Path, source: str, target: str) -> fleet.Report:
            return fleet.plan(
                plan, [str(place)], sources=[source], to=[target], contexts=_CONTEXTS, session=session, overwrite=True
            )

        many = folder / "many"
        sealed = sealers[0].encrypt(b"a small value", context=CONTEXT)
        for at in range(_HEADERS):
            path = many / f"{at // 1000}" / f"{at}.swx"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(sealed)
        files = [path for path in many.rglob("*") if path.is_file()]

        def inspect_all() -> None:
            for path in files:
                sealwax.inspect(path)

        planned = _median(lambda: look(many, *keys))
        inspected = _median(inspect_all)
        yield Row("plan, one header of 10,000", planned / _HEADERS, "sealwax.inspect", inspected / _HEADERS)

        small = folder / "small"
        small.mkdir()
        for at in range(_SMALL):
            (small / f"{at}.swx").write_bytes(sealers[0].encrypt(b"a small value", context=CONTEXT))
        turned = [keys[0], keys[1]]

        def rotate(place: Path) -> float:
            look(place, *turned)
            start = time.perf_counter()
            assert fleet.run(plan, session=session).stale == 0
            took = time.perf_counter() - start
            turned.reverse()
            return took

        took = statistics.median(rotate(small) for _ in range(_ROUNDS)) / _SMALL
        client = session.client("kms")
        blob = sealwax.inspect(small / "0.swx").wrapped_keys[0].ciphertext

        def re_encrypt() -> None:
            for _ in range(200):
                client.re_encrypt(
                    CiphertextBlob=blob,
                    SourceEncryptionContext=CONTEXT,
                    DestinationEncryptionContext=CONTEXT,
                    DestinationKeyId=keys[0],
                )

        def write() -> None:
            for path in small.iterdir():
                rewrapping.rewrap_file(path, lambda header, _: header.slot.wrapped_keys)

        yield Row("re-wrap, one small file of 1,000", took, "the lab's ReEncrypt alone", _median(re_encrypt) / 200)
        yield Row("re-wrap, one small file of 1,000", took, "the file's writing alone", _median(write) / _SMALL)

        large = folder / "large"
        large.mkdir()
        block = os.urandom(16 * MIB)
        peer = AwsEncryptionSdk(Algorithm.AES_256_GCM_HKDF_SHA512_COMMIT_KEY)
        theirs = []
        for at in range(_LARGE):
            with sealers[0].open(large / f"{at}.swx", "wb", context=CONTEXT) as file:
                file.write(block)
        for at in range(4):
            path = folder / f"{at}.esdk"
            path.write_bytes(peer.encrypt(block))
            theirs.append(path)

        def again() -> None:
            for path in theirs:
                path.write_bytes(peer.encrypt(peer.decrypt(path.read_bytes())))

        turned = list(keys)
        took = statistics.median(rotate(large) for _ in range(_ROUNDS)) / _LARGE
        yield Row("re-wrap, one file of 16 MiB", took, "aws-encryption-sdk, again", _median(again) / len(theirs))


def _median(do: Callable[[], object]) -> float:
    times = []
    for _ in range(_ROUNDS):
        start = time.perf_counter()
        do()
        times.append(time.perf_counter() - start)
    return statistics.median(times)
