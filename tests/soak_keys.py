"""``python -m tests.soak_keys [MINUTES]``: keep caches, Regions, batches, tasks and files busy while Regions fail.

Two Regions of a lab run as two processes and are throttled, slowed, cut off, killed and started again. What must hold:
every value that was sealed opens, no worker stands still, and neither threads, descriptors nor memory grow.
"""

from __future__ import annotations

import asyncio
import faulthandler
import gc
import os
import random
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter, deque
from collections.abc import Callable
from pathlib import Path

import sealwax
from sealwax.lab import Lab
from tests.regions.servers import FAR, NEAR, RegionServers

# One operation may take this long at most: its deadline, one time-out beyond it, and a slow machine.
STUCK_SECONDS = 180.0
FAULTS = ("throttle", "latency", "reset", "kill", "suspend", "down")


def resident_kib() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise AssertionError("no VmRSS")


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


class Soak:
    def __init__(self, folder: Path, lab: Lab, servers: RegionServers, key: str) -> None:
        self.folder, self.lab, self.servers = folder, lab, servers
        self.stop = threading.Event()
        self.counts: Counter[str] = Counter()
        self.broken: list[str] = []
        self.alive: dict[str, float] = {}
        keyring = sealwax.MultiRegionKeyring(
            key, regions=[NEAR, FAR], session=servers, hedge_after=0.5, retry_region_after=1.0
        )
        self.cache = sealwax.CachingKeyring(keyring, max_age=2.0, max_messages=500, capacity=50, serve_stale_for=2.0)
        self.sealer = sealwax.Sealer(self.cache, local_context=("id",))
        self.kept: deque[tuple[bytes, dict[str, str], bytes]] = deque(maxlen=2000)

    def context(self, number: int) -> dict[str, str]:
        return {"table": str(number % 20), "id": str(number)}

    def check(self, sealed: bytes, context: dict[str, str], data: bytes) -> None:
        if self.sealer.decrypt(sealed, context=context) != data:
            raise AssertionError("another plaintext came out")

    def values(self, draw: random.Random) -> None:
        number = draw.randrange(10**9)
        data = draw.randbytes(draw.choice([0, 10, 1000, 50_000]))
        context = self.context(number)
        sealed = self.sealer.encrypt(data, context=context)
        self.check(sealed, context, data)
        if len(data) <= 1000:
            self.kept.append((sealed, context, data))

    def older(self, draw: random.Random) -> None:
        if not self.kept:
            time.sleep(0.1)
        else:
            self.check(*self.kept[draw.randrange(len(self.kept))])

    def tasks(self, draw: random.Random) -> None:
        async def one(number: int) -> None:
            sealed = await self.sealer.encrypt_async(b"a", context=self.context(number))
            if await self.sealer.decrypt_async(sealed, context=self.context(number)) != b"a":
                raise AssertionError("another plaintext came out")

        async def main() -> None:
            tasks = [asyncio.ensure_future(one(draw.randrange(10**9))) for _ in range(16)]
            await asyncio.sleep(draw.random() * 0.02)
            tasks[0].cancel()
            outcomes = await asyncio.gather(*tasks, return_exceptions=True)
            for outcome in outcomes[1:]:
                if isinstance(outcome, asyncio.CancelledError):
                    raise AssertionError("a task was cancelled that nobody cancelled")
                if isinstance(outcome, BaseException):
                    raise outcome

        asyncio.run(main())

    def batches(self, draw: random.Random) -> None:
        items = [(draw.randbytes(200), self.context(draw.randrange(10**9))) for _ in range(200)]
        sealed = list(self.sealer.encrypt_many(items))
        contexts = [context for _, context in items]
        opened = list(self.sealer.decrypt_many(zip(sealed, contexts, strict=True)))
        if opened != [data for data, _ in items]:
            raise AssertionError("another plaintext came out")

    def files(self, draw: random.Random) -> None:
        data = draw.randbytes(draw.choice([300_000, 6 << 20]))  # the larger ones take a second thread
        path = self.folder / f"{threading.get_ident()}.swx"
        context = self.context(draw.randrange(10**9))
        with self.sealer.open(path, "wb", context=context) as writer:
            writer.write(data)
        if self.sealer.verify(path, context=context) != len(data):
            raise AssertionError("another plaintext came out")
        with self.sealer.open(path, context=context) as reader:
            reader.seek(100_000)
            if reader.read() != data[100_000:]:
                raise AssertionError("another plaintext came out")

    def worker(self, name: str, work: Callable[[random.Random], None], seed: int) -> None:
        draw = random.Random(seed)
        while not self.stop.is_set():
            self.alive[name] = time.monotonic()
            try:
                work(draw)
                self.counts[name] += 1
            except sealwax.KmsError:
                self.counts["KMS errors"] += 1  # both Regions failed for as long as an operation tries
            except Exception:
                self.broken.append(f"{name}: {traceback.format_exc()}")
                self.stop.set()

    def faults(self, seed: int) -> None:
        draw = random.Random(seed)
        while not self.stop.wait(draw.uniform(0.5, 3)):
            region, kind = draw.choice([NEAR, FAR]), draw.choice(FAULTS)
            self.counts[f"fault {kind}"] += 1
            try:
                if kind == "kill":
                    self.servers.kill(region)
                    self.stop.wait(draw.uniform(0.5, 3))
                    self.servers.start(region)
                elif kind == "suspend":
                    self.servers.suspend(region)
                    self.stop.wait(draw.uniform(0.5, 6))
                    self.servers.resume(region)
                else:
                    amount = {"throttle": 0.3, "latency": 1000, "reset": 0.3, "down": 1.0}[kind]
                    self.lab.faults.add(region, kind, amount, operation=None, code=None, seed=draw.randrange(1000))
                    self.stop.wait(draw.uniform(0.5, 4))
                    self.lab.faults.clear(region, None)
            except Exception:
                self.broken.append(f"faults: {traceback.format_exc()}")
                self.stop.set()

    def run(self, minutes: float, seed: int) -> None:
        threads = [
            threading.Thread(target=self.worker, args=(f"{kind.__name__} {n}", kind, seed + n), name=kind.__name__)
            for n, kind in enumerate(
                [self.values, self.values, self.older, self.older, self.tasks, self.batches, self.files, self.files]
            )
        ]
        threads.append(threading.Thread(target=self.faults, args=(seed,), name="faults"))
        began = time.monotonic()
        for thread in threads:
            thread.start()
        sizes: list[tuple[int, int, int]] = []
        told = began
        while time.monotonic() - began < minutes * 60 and not self.stop.wait(5):
            sizes.append((threading.active_count(), descriptors(), resident_kib()))
            for name, since in self.alive.items():
                if time.monotonic() - since > STUCK_SECONDS:
                    faulthandler.dump_traceback()
                    self.broken.append(f"{name} has stood still for {STUCK_SECONDS:.0f} s")
                    self.stop.set()
            if time.monotonic() - told > 60:
                told = time.monotonic()
                print(
                    f"{told - began:.0f} s: {dict(self.counts)}, (threads, descriptors, KiB): {sizes[-1]}", flush=True
                )
        self.stop.set()
        for thread in threads:
            thread.join(STUCK_SECONDS)
            if thread.is_alive():
                faulthandler.dump_traceback()
                self.broken.append(f"{thread.name} does not end")
        for region in (NEAR, FAR):
            self.lab.faults.clear(region, None)
        for sealed, context, data in self.kept:
            self.check(sealed, context, data)
        self.counts["checked at the end"] = len(self.kept)
        print(f"{time.monotonic() - began:.0f} s: {dict(self.counts)}")
        most = tuple(map(max, zip(*sizes, strict=True)))
        print(f"(threads, descriptors, KiB) first {sizes[0]}, last {sizes[-1]}, most {most}")
        # Threads of pools come and go; what grows by the minute shows in the second half.
        half = len(sizes) // 2
        if half > 12:
            for index, (what, room) in enumerate((("threads", 16), ("descriptors", 64), ("KiB", 48 << 10))):
                early, late = (max(size[index] for size in part) for part in (sizes[:half], sizes[half:]))
                if late > early + room:
                    self.broken.append(f"{what} grew from {early} to {late}")


def main(minutes: float) -> None:
    faulthandler.enable()
    seed = time.time_ns() % 1_000_000
    print(f"seed {seed}", flush=True)
    before = descriptors()
    with tempfile.TemporaryDirectory() as folder, Lab(Path(folder) / "lab") as lab:
        key = lab.call("CreateKey", region=NEAR, MultiRegion=True)["KeyMetadata"]["Arn"]
        lab.call("ReplicateKey", region=NEAR, KeyId=key, ReplicaRegion=FAR)
        servers = RegionServers(lab.path)
        soak = Soak(Path(folder), lab, servers, key)
        try:
            soak.run(minutes, seed)
        finally:
            soak.stop.set()
            servers.close()
        soak.cache.close()
        broken = soak.broken
        del soak, servers
    end = time.monotonic() + 30
    while threading.active_count() > 1 and time.monotonic() < end:
        time.sleep(0.1)
    gc.collect()
    left = [thread.name for thread in threading.enumerate() if thread is not threading.main_thread()]
    if left:
        broken.append(f"threads are left: {left}")
    if descriptors() > before + 8:  # boto3 keeps a few of its own
        broken.append(f"descriptors are left: {descriptors()} after {before}")
    print(f"descriptors before {before}, after {descriptors()}")
    if broken:
        sys.exit("\n".join(broken))
    print("every sealed value opened; nothing stood still, nothing grew")


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 10)
