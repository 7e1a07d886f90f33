"""A fleet of files and one in S3, planned and re-wrapped, against what bounds it and against encrypting again."""

from __future__ import annotations

import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from aws_encryption_sdk.identifiers import Algorithm
from tests.fakes import FakeKeyring
from tests.s3 import StrictS3

import sealwax
from benchmarks.measure import Row, seconds
from benchmarks.peers import CONTEXT, MIB, AwsEncryptionSdk
from sealwax import fleet
from sealwax._aws.session import Session
from sealwax._core.rewrap import rewrap_file
from sealwax.lab import Lab
from sealwax.stores import open_store
from sealwax.stores.s3 import ObjectWriter

_HEADERS: Final = 10_000
_SMALL: Final = 1_000
_LARGE: Final = 64
_OBJECTS: Final = 200
_HUGE_MIB: Final = 10 << 10
_ROUNDS: Final = 3
_S3_ROUNDS: Final = 5
_PLAN_AIMS: Final = {"one data key": 0.5, "a data key each": 0.3}
_S3_AIM: Final = 0.65
_CONTEXTS: Final = fleet.Contexts(tuple(CONTEXT.items()))


def rows(folder: Path) -> Iterator[Row]:
    with Lab(folder / "fleet-lab") as lab:
        keys = [lab.create_key()["Arn"] for _ in range(2)]
        session = lab.session()
        sealers = [sealwax.Sealer(sealwax.KmsKeyring(key, session=session)) for key in keys]
        plan = folder / "plan"

        def look(place: Path, source: str, target: str) -> fleet.FleetReport:
            return fleet.plan(
                plan, [str(place)], sources=[source], to=[target], contexts=_CONTEXTS, session=session, overwrite=True
            )

        for which, keyring in (
            ("one data key", sealwax.CachingKeyring(FakeKeyring(keys[0]), max_age=3600)),
            ("a data key each", FakeKeyring(keys[0])),
        ):
            yield _planned(folder / which, which, sealwax.Sealer(keyring), lambda place: look(place, *keys))

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
                rewrap_file(path, lambda header, _: header.slot.wrapped_keys)

        what = "re-wrap, small files of 1,000"
        yield Row(what, took, "the lab's ReEncrypt alone", _median(re_encrypt) / 200, unit="/s")
        yield Row(what, took, "the file's writing alone", _median(write) / _SMALL, unit="/s")

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
        yield from _independent_of_size(keys, session)
        yield from _in_s3(keys, session, plan)


def _planned(place: Path, which: str, sealer: sealwax.Sealer, look: Callable[[Path], object]) -> Row:
    """Return the row for a plan of 10,000 small files."""
    files = [place / f"{at // 1000}" / f"{at}.swx" for at in range(_HEADERS)]
    for path in files:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(sealer.encrypt(b"a small value", context=CONTEXT))

    def inspect_all() -> None:
        for path in files:
            sealwax.inspect(path)

    found = seconds({"ours": lambda: look(place), "alone": inspect_all})
    shutil.rmtree(place)
    ours, alone, aim = found["ours"] / _HEADERS, found["alone"] / _HEADERS, _PLAN_AIMS[which]
    what = f"plan, headers of 10,000, {which}"
    return Row(what, ours, "sealwax.inspect", alone, None, f">= {aim:g}", alone / ours >= aim, unit="/s")


def _independent_of_size(keys: list[str], session: Session) -> Iterator[Row]:
    """Yield a row for a file too large for memory, so on the disk, and so are its fsyncs."""
    sealer = sealwax.Sealer(sealwax.KmsKeyring(keys[0], decrypt_with=keys, session=session))
    block = bytes(MIB)
    with tempfile.TemporaryDirectory(prefix="sealwax-bench-", dir="/var/tmp") as disk:
        paths = {count: Path(disk) / str(count) for count in (1, _HUGE_MIB)}
        for count, path in paths.items():
            with sealer.open(path, "wb", context=CONTEXT) as file:
                for _ in range(count):
                    file.write(block)
        os.sync()
        found = seconds(
            {
                str(count): lambda path=path: sealer.rewrap(path, to=[keys[0]], context=CONTEXT)
                for count, path in paths.items()
            },
            rounds=9,
        )
    small, huge = found["1"], found[str(_HUGE_MIB)]
    yield Row("re-wrap, 10 GiB file on disk", huge, "the same with 1 MiB", small, None, "about 1", small / huge > 0.8)


def _in_s3(keys: list[str], session: Session, plan: Path) -> Iterator[Row]:
    """Yield rows for objects in moto's server, which runs in this process and bounds them."""
    sealer = sealwax.Sealer(sealwax.KmsKeyring(keys[0], session=session))
    turned = list(keys)
    with StrictS3() as server:
        client = server.bucket()

        def rotate(where: str) -> float:
            here: dict[str, Any] = {
                "open_location": lambda place: open_store(place, server.session()),
                "session": session,
            }
            fleet.plan(plan, [where], sources=turned[:1], to=turned[1:], contexts=_CONTEXTS, overwrite=True, **here)
            server.forget()
            start = time.perf_counter()
            assert fleet.run(plan, **here).stale == 0
            took = time.perf_counter() - start
            turned.reverse()
            return took

        names = [f"small/{at}.swx" for at in range(_OBJECTS)]
        for name in names:
            client.put_object(Bucket="bucket", Key=name, Body=sealer.encrypt(b"a small value", context=CONTEXT))

        def there_and_back() -> None:
            for name in names:
                body = client.get_object(Bucket="bucket", Key=name)["Body"].read()
                client.put_object(Bucket="bucket", Key=name, Body=body)

        pairs = [(rotate("s3://bucket/small/"), _timed(there_and_back)) for _ in range(_S3_ROUNDS)]
        took, alone = (statistics.median(times) / _OBJECTS for times in zip(*pairs, strict=True))
        yield Row(
            f"re-wrap, small S3 objects of {_OBJECTS}",
            took,
            "GetObject and PutObject",
            alone,
            None,
            f">= {_S3_AIM:g}",
            alone / took >= _S3_AIM,
            unit="/s",
        )

        with (
            ObjectWriter("s3://bucket/large/100.swx", server.session()) as target,
            sealer.open(target, "wb", context=CONTEXT) as file,
        ):
            for _ in range(100):
                file.write(bytes(MIB))
        turned = list(keys)
        took = rotate("s3://bucket/large/")
        moved = max(server.received, server.sent)
        whole = client.head_object(Bucket="bucket", Key="large/100.swx")["ContentLength"]
        names = ["large/100.swx"]
        again = _median(there_and_back)
        yield Row("re-wrap, 100 MiB S3 object", took, "GetObject and PutObject", again)
        aim = "< 6 MiB"
        yield Row("the same, moved each way", moved, "the whole object", whole, None, aim, moved < 6 * MIB, unit="B")


def _timed(do: Callable[[], object]) -> float:
    start = time.perf_counter()
    do()
    return time.perf_counter() - start


def _median(do: Callable[[], object]) -> float:
    return statistics.median(_timed(do) for _ in range(_ROUNDS))
