"""``python -m benchmarks.bench_esdk``: messages of the AWS Encryption SDK, against the SDK itself, in processor time.

Suite 0478 (key commitment, no signature) and frames of 4 KiB on both sides, each under its own keyring that wraps the
data key in the process. *2 GiB* is a process that writes one and reads it back, and how much more memory it takes than
with nothing to do.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from aws_encryption_sdk.identifiers import Algorithm
from tests.fakes import FakeKeyring

import sealwax
from benchmarks.measure import Row, against, line_of, machine, table
from benchmarks.peers import CONTEXT, MIB, AwsEncryptionSdk, Sink
from sealwax._core.messages import MessageSealer

_SDK: Final = "aws-encryption-sdk"
_SIZES: Final = {"1 KiB": (1 << 10, 1.3), "64 MiB": (64 * MIB, 2.0)}
_LARGE_MIB: Final = 2048
_MOST_BYTES: Final = 32 * MIB


def rows(folder: Path) -> Iterator[Row]:
    keyring = FakeKeyring()
    sealer, writer = sealwax.Sealer(keyring), MessageSealer(keyring)
    theirs = AwsEncryptionSdk(Algorithm.AES_256_GCM_HKDF_SHA512_COMMIT_KEY)
    for label, (size, aim) in _SIZES.items():
        value = os.urandom(size)
        sealed, sealed_by_them = writer.encrypt(value, context=CONTEXT), theirs.encrypt(value)
        assert sealer.decrypt(sealed, context=CONTEXT) == value
        yield from against(
            f"ESDK, encrypt, {label}, CPU",
            lambda value=value: writer.encrypt(value, context=CONTEXT),
            {_SDK: lambda value=value: theirs.encrypt(value)},
            size=size,
            at_least={_SDK: aim},
            clock=time.process_time,
        )
        yield from against(
            f"ESDK, decrypt, {label}, CPU",
            lambda sealed=sealed: sealer.decrypt(sealed, context=CONTEXT),
            {_SDK: lambda sealed=sealed_by_them: theirs.decrypt(sealed)},
            size=size,
            at_least={_SDK: aim},
            clock=time.process_time,
        )
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.bench_esdk", str(folder / "large.esdk")],
        check=True,
        capture_output=True,
        text=True,
    )
    more = int(done.stdout)
    yield Row("ESDK, 2 GiB there and back, memory", more, aim="< 32 MiB", met=more < _MOST_BYTES, unit="B")


def _there_and_back(path: Path) -> int:
    """Write a large message and read it; return how much more memory this process has had than before."""
    keyring, block, sink, before = FakeKeyring(), os.urandom(MIB), Sink(), _peak()
    try:
        with path.open("wb") as file, MessageSealer(keyring).open(file, context=CONTEXT) as writer:
            for _ in range(_LARGE_MIB):
                writer.write(block)
        with sealwax.Sealer(keyring).open_stream(path, context=CONTEXT) as reader:
            reader.write_to(sink)
    finally:
        path.unlink(missing_ok=True)
    assert sink.size == _LARGE_MIB * MIB
    return _peak() - before


def _peak() -> int:
    if sys.platform == "linux":
        # Its own: ru_maxrss begins with the peak of the process that started this one.
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM:"))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def main() -> None:
    if len(sys.argv) > 1:
        print(_there_and_back(Path(sys.argv[1])))
        return
    print(machine(), flush=True)
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as folder:
        found = []
        for row in rows(Path(folder)):
            print(f"measured: {' '.join(line_of(row))}", file=sys.stderr)
            found.append(row)
    print(table(found))


if __name__ == "__main__":
    main()
