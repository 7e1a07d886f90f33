"""``python -m benchmarks [--write]``: run everything, print the table, and write the pages that have figures of it.

See the package's docstring for what is compared.
"""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import boto3
from tests.fakes import ALPHA, BETA, FakeKeyring

import sealwax
from benchmarks import (
    bench_audit,
    bench_esdk,
    bench_fleet,
    bench_models,
    bench_records,
    bench_s3ec,
    bench_workers,
    report,
)
from benchmarks.bench_cached import cached
from benchmarks.measure import Row, against, cpu_of_programs, line_of, machine, seconds, table
from benchmarks.peers import CONTEXT, MIB, Peer, Sink, all_peers, caching_peers
from sealwax.lab import Lab

_BIN: Final = Path(sys.executable).parent
_SEALWAX: Final = str(_BIN / "sealwax")
_STREAM_MIB: Final = 256
_FILE_MIB: Final = 1024
_LARGE_MIB: Final = 4096
_SIZES: Final = {"1 KiB": 1 << 10, "1 MiB": MIB, "64 MiB": 64 * MIB}
_STREAM_AIMS: Final = {"Cobblestone": 0.7, "aws-encryption-sdk unsigned": 20, "aws-encryption-sdk default": 20}
# At most 1.4 times what the client alone takes.
_START_AIM: Final = 0.71
_VALUE_AIMS: Final = {"aws-encryption-sdk unsigned": 8, "aws-encryption-sdk default": 8}


class Ours:
    """sealwax, with a keyring that wraps data keys in the process."""

    def __init__(self) -> None:
        self._sealer = sealwax.Sealer(FakeKeyring())

    def encrypt(self, value: bytes) -> bytes:
        return self._sealer.encrypt(value, context=CONTEXT)

    def decrypt(self, sealed: bytes) -> bytes:
        return self._sealer.decrypt(sealed, context=CONTEXT)

    def encrypt_stream(self, block: bytes, count: int) -> None:
        with self._sealer.open(Sink(), "wb", context=CONTEXT) as writer:
            for _ in range(count):
                writer.write(block)

    def decrypt_stream(self, sealed: bytes) -> None:
        with self._sealer.open_stream(io.BytesIO(sealed), context=CONTEXT) as reader:
            reader.write_to(Sink())

    def seal_stream(self, block: bytes, count: int) -> bytes:
        return self.encrypt(block * count)


def in_memory(peers: dict[str, Peer]) -> Iterator[Row]:
    ours = Ours()
    block = os.urandom(MIB)
    yield from against(
        f"encrypt, {_STREAM_MIB} MiB streamed",
        lambda: ours.encrypt_stream(block, _STREAM_MIB),
        {name: (lambda peer=peer: peer.encrypt_stream(block, _STREAM_MIB)) for name, peer in peers.items()},
        size=_STREAM_MIB * MIB,
        at_least=_STREAM_AIMS,
    )
    sealed = {name: peer.seal_stream(block, _STREAM_MIB) for name, peer in {"ours": ours, **peers}.items()}
    yield from against(
        f"decrypt, {_STREAM_MIB} MiB streamed",
        lambda: ours.decrypt_stream(sealed["ours"]),
        {name: (lambda peer=peer, name=name: peer.decrypt_stream(sealed[name])) for name, peer in peers.items()},
        size=_STREAM_MIB * MIB,
        at_least={"Cobblestone": 0.5},
    )
    for label, size in _SIZES.items():
        value = os.urandom(size)
        yield from against(
            f"encrypt, {label} value",
            lambda value=value: ours.encrypt(value),
            {name: (lambda peer=peer, value=value: peer.encrypt(value)) for name, peer in peers.items()},
            size=size,
            at_least=_VALUE_AIMS,
        )
        sealed = {name: peer.encrypt(value) for name, peer in {"ours": ours, **peers}.items()}
        assert ours.decrypt(sealed["ours"]) == value
        yield from against(
            f"decrypt, {label} value",
            lambda sealed=sealed: ours.decrypt(sealed["ours"]),
            {name: (lambda p=peer, s=sealed[name]: p.decrypt(s)) for name, peer in peers.items()},
            size=size,
        )


def files(folder: Path) -> Iterator[Row]:
    sealer = sealwax.Sealer(FakeKeyring(ALPHA, BETA))
    plain, sealed, out = folder / "plain", folder / "sealed", folder / "out"
    block = os.urandom(MIB)
    with plain.open("wb") as file:
        for _ in range(_FILE_MIB):
            file.write(block)
    size = _FILE_MIB * MIB

    def library_encrypt() -> None:
        buffer = memoryview(bytearray(MIB))
        with open(plain, "rb", buffering=0) as file, sealer.open(sealed, "wb", context=CONTEXT) as writer:
            while count := file.readinto(buffer):
                writer.write(buffer[:count])

    def library_decrypt() -> None:
        with sealer.open_stream(sealed, context=CONTEXT) as reader, open(out, "wb", buffering=0) as file:
            reader.write_to(file)

    def one_core(do: Callable[[], None]) -> Callable[[], None]:
        def held() -> None:
            cores = os.sched_getaffinity(0)
            os.sched_setaffinity(0, list(cores)[:1])
            try:
                do()
            finally:
                os.sched_setaffinity(0, cores)

        return held

    yield from _against_cp("encrypt", "library", library_encrypt, sealed, plain, size, aim=0.85)
    yield from _against_cp("encrypt", "library, held to one core", one_core(library_encrypt), sealed, plain, size)
    yield from _against_cp("decrypt", "library", library_decrypt, out, plain, size, aim=0.75)
    yield from _against_cp("decrypt", "library, held to one core", one_core(library_decrypt), out, plain, size)
    lab = folder / "lab"
    with Lab(lab) as opened:
        opened.create_key(alias="bench")
    options = ["--quiet", "--force", "--lab", str(lab), "-k", "alias/bench", "-c", "purpose=bench"]
    encrypt = [_SEALWAX, "encrypt", *options, "-o", str(sealed), str(plain)]
    decrypt = [_SEALWAX, "decrypt", *options, "-o", str(out), str(sealed)]
    yield from _against_cp("encrypt", "command line", lambda: _run(encrypt), sealed, plain, size, aim=0.45)
    yield from _against_cp("decrypt", "command line", lambda: _run(decrypt), out, plain, size, aim=0.4)
    assert subprocess.run(["cmp", plain, out], check=False).returncode == 0
    for path in (plain, sealed, out, folder / "copy"):
        path.unlink()


def _against_cp(
    what: str,
    how: str,
    ours: Callable[[], object],
    written: Path,
    source: Path,
    size: int,
    aim: float | None = None,
) -> list[Row]:
    copy = source.with_name("copy")

    def fresh(do: Callable[[], object], path: Path) -> None:
        # Neither overwrites: what a file is replaced by costs cp less, which need not keep the old one until the end.
        path.unlink(missing_ok=True)
        do()

    return against(
        f"{what}, 1 GiB file to file, {how}",
        lambda: fresh(ours, written),
        {"cp": lambda: fresh(lambda: _run(["cp", str(source), str(copy)]), copy)},
        size=size,
        at_least=None if aim is None else {"cp": aim},
    )


def _run(command: list[str]) -> None:
    # An installed package comes compiled, and is not compiled again at each start.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)


def independent_of_size(folder: Path) -> Iterator[Row]:
    sealer = sealwax.Sealer(FakeKeyring(ALPHA, BETA))
    block = bytes(MIB)
    paths = {}
    for count in (1, _LARGE_MIB):
        paths[count] = folder / f"zeros-{count}"
        with sealer.open(paths[count], "wb", context=CONTEXT) as writer:
            for _ in range(count):
                writer.write(block)

    def rewrap(count: int) -> None:
        sealer.rewrap(paths[count], to=[ALPHA], context=CONTEXT)

    def read(count: int) -> None:
        with sealer.open(paths[count], context=CONTEXT) as reader:
            reader.seek(count * MIB // 2)
            assert len(reader.read(1 << 16)) == 1 << 16

    for what, do in (("re-wrap, 4 GiB file", rewrap), ("64 KiB out of 4 GiB", read)):
        found = seconds({"large": lambda do=do: do(_LARGE_MIB), "small": lambda do=do: do(1)}, rounds=9)
        ratio = found["small"] / found["large"]
        yield Row(what, found["large"], "the same with 1 MiB", found["small"], None, "about 1", ratio > 0.8)
    for path in paths.values():
        path.unlink()


def starts(folder: Path) -> Iterator[Row]:
    envelope = folder / "envelope.swx"
    envelope.write_bytes(Ours().encrypt(b"hello"))
    python = [sys.executable, "-c"]
    yield from against(
        "import sealwax",
        lambda: _run([*python, "import sealwax"]),
        {
            "import boto3": lambda: _run([*python, "import boto3"]),
            "python -c pass": lambda: _run([*python, "pass"]),
        },
        rounds=9,
    )
    found = seconds({"ours": lambda: _run([_SEALWAX, "inspect", str(envelope)])}, rounds=9)["ours"]
    yield Row("sealwax inspect, cold start", found, aim="< 200 ms", met=found < 0.2)
    lab, tiny = folder / "start-lab", folder / "tiny"
    tiny.write_bytes(b"tiny")
    with Lab(lab) as opened:
        opened.create_key(alias="bench")
    yield from against(
        "encrypt, tiny file, cold start, CPU",
        lambda: _run(
            [_SEALWAX, "encrypt", "-q", "--force", "--lab", str(lab), "-k", "alias/bench", "-c", "a=b", str(tiny)]
        ),
        {"boto3.client('kms')": lambda: _run([*python, "import boto3; boto3.client('kms', region_name='us-east-1')"])},
        at_least={"boto3.client('kms')": _START_AIM},
        rounds=9,
        clock=cpu_of_programs,
    )


def kms_calls(folder: Path) -> Iterator[Row]:
    with Lab(folder / "kms") as lab:
        lab.create_key(alias="bench")
        yield from _kms_call("in the process", lab.session())
        with _served(folder / "kms") as url:
            session = boto3.Session(aws_access_key_id="lab", aws_secret_access_key="lab", region_name="us-east-1")
            client = session.client("kms", endpoint_url=url)
            yield from _kms_call("over HTTP", session, client)


def _kms_call(where: str, session: boto3.Session, client: object = None) -> list[Row]:
    plain = client or session.client("kms")
    keyring = (
        sealwax.KmsKeyring("alias/bench", session=session)
        if client is None
        else sealwax.KmsKeyring("alias/bench", client=session.client("kms", endpoint_url=plain.meta.endpoint_url))
    )
    sealer = sealwax.Sealer(keyring)
    return against(
        f"GenerateDataKey, lab {where}",
        lambda: sealer.encrypt(b"", context=CONTEXT),
        {
            "plain boto3": lambda: plain.generate_data_key(
                KeyId="alias/bench", KeySpec="AES_256", EncryptionContext=CONTEXT
            )
        },
        rounds=15,
    )


@contextmanager
def _served(folder: Path) -> Iterator[str]:
    server = subprocess.Popen(
        [_SEALWAX, "lab", "serve", "--lab", str(folder), "--port", "0"], stdout=subprocess.PIPE, text=True
    )
    try:
        assert server.stdout is not None
        yield server.stdout.readline().split()[-1]
    finally:
        server.terminate()
        server.wait()


def parts(folder: Path) -> Iterator[Iterable[Row]]:
    """Yield all that is measured: the small and quick first, while the machine is as it was found."""
    yield starts(folder)
    yield kms_calls(folder)
    yield bench_workers.rows(folder)
    yield bench_fleet.rows(folder)
    yield bench_audit.rows(folder)
    yield bench_records.rows()
    yield bench_models.rows()
    yield bench_esdk.rows(folder)
    yield bench_s3ec.rows(folder)
    yield cached(caching_peers())
    yield in_memory(all_peers())
    yield independent_of_size(folder)
    yield files(folder)


def main() -> None:
    where = machine()
    print(where, flush=True)
    tmpfs = "/dev/shm" if os.path.isdir("/dev/shm") else None
    folder = Path(tempfile.mkdtemp(prefix="sealwax-bench-", dir=tmpfs))
    rows: list[Row] = []
    try:
        for part in parts(folder):
            for row in part:
                print(f"measured: {' '.join(line_of(row))}", file=sys.stderr)
                rows.append(row)
    finally:
        shutil.rmtree(folder)
    print(table(rows))
    missed = [row for row in rows if row.met is False]
    print(f"{len(rows)} comparisons, {sum(row.aim != '' for row in rows)} with an aim, {len(missed)} missed")
    if "--write" in sys.argv[1:]:
        report.write(rows, where)


if __name__ == "__main__":
    main()
