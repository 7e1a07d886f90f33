"""``python -m tests.forks.children ROUNDS CHILDREN``: a program whose threads seal while it forks children that seal.

What a process seals goes to a file, which the parent reads at the end: with clients of their own, each value must open
and be the one that was sealed. A child that does not end by itself is killed by its own alarm, and counts as hung.
"""

from __future__ import annotations

import collections
import json
import os
import signal
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import boto3
from botocore.credentials import Credentials, RefreshableCredentials
from botocore.session import get_session
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import sealwax
from sealwax import otel
from sealwax.stores import s3
from tests.forks.forking import ALARM_SECONDS
from tests.forks.servers import FAR, NEAR

VALUES_EACH: Final = 2
THREADS: Final = 3


def refreshing_session() -> boto3.Session:
    """A session whose credentials are always due, so that some thread is refreshing them at any moment."""
    core = get_session()
    found = core.get_credentials()
    assert isinstance(found, Credentials)

    def refresh() -> dict[str, Any]:
        return {
            "access_key": found.access_key,
            "secret_key": found.secret_key,
            "token": "token",
            # Within the time in which botocore makes everybody wait for new ones.
            "expiry_time": "2999-01-01T00:00:00Z" if os.getpid() != PARENT else _soon(),
        }

    core._credentials = RefreshableCredentials.create_from_metadata(refresh(), refresh, "test")  # type: ignore[attr-defined]
    return boto3.Session(botocore_session=core)


def _soon() -> str:
    import datetime

    return (datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=300)).isoformat()


PARENT: Final = os.getpid()


class Kinds:
    """Sealers over everything that can live over a fork."""

    def __init__(self) -> None:
        key = os.environ["MULTI_REGION_KEY"]
        client = boto3.client("kms")
        session = boto3.Session()
        refreshing = refreshing_session()
        tracing, metering = TracerProvider(), MeterProvider([InMemoryMetricReader()])
        tracing.add_span_processor(SimpleSpanProcessor(InMemorySpanExporter()))
        telemetry = otel.Telemetry(tracer_provider=tracing, meter_provider=metering)
        limit = sealwax.RateLimit(1000)
        cache = sealwax.CachingKeyring(
            sealwax.KmsKeyring("alias/demo", client=client), max_age=60, max_messages=2, on_event=telemetry
        )
        telemetry.observe(cache)
        self.sealers = {
            "client": sealwax.Sealer(sealwax.KmsKeyring("alias/demo", client=client, limit=limit)),
            "the same client": sealwax.Sealer(sealwax.KmsKeyring("alias/demo", client=client, on_event=telemetry)),
            "cache": sealwax.Sealer(cache, local_context=("value",)),
            "session": sealwax.Sealer(sealwax.KmsKeyring("alias/demo", session=session, on_event=telemetry)),
            "refreshing": sealwax.Sealer(sealwax.KmsKeyring("alias/demo", session=refreshing)),
            "Regions": sealwax.Sealer(
                sealwax.MultiRegionKeyring(key, regions=[NEAR, FAR], session=session, limit=limit)
            ),
        }
        self.s3 = s3.Service(session)


def seal(kinds: Kinds, who: str, tell: Callable[..., None]) -> None:
    """Seal a value with each sealer, and open it again; and one object in S3."""
    for n in range(VALUES_EACH):
        for kind, sealer in kinds.sealers.items():
            context = {"kind": kind, "who": who, "value": str(n)}
            text = json.dumps(context).encode()
            try:
                sealed = sealer.encrypt(text, context=context)
                tell(kind, context, sealed.hex())
                if sealer.decrypt(sealed, context=context) != text:
                    raise AssertionError("another value")
            except Exception as error:
                tell("error", context, f"{type(error).__name__}: {error}")
    try:
        name, context = f"s3://bucket/{who}", {"who": who}
        sealer = kinds.sealers["client"]
        with s3.ObjectWriter(name, service=kinds.s3) as writer, sealer.open(writer, "wb", context=context) as file:
            file.write(who.encode())
        tell("object", context, name)
        with s3.ObjectReader(name, service=kinds.s3) as reader, sealer.open(reader, context=context) as plain:
            assert plain.read() == who.encode()
    except Exception as error:
        tell("error", context, f"{type(error).__name__}: {error}")


def child(kinds: Kinds, who: str, folder: Path, generations: int) -> int:
    """Fork a child that seals, and forks one itself; return its process id."""
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(ALARM_SECONDS)
        with (folder / who).open("w") as file:
            seal(kinds, who, lambda *line: print(json.dumps(line), file=file))
        status = 0
        if generations:
            status = os.waitstatus_to_exitcode(os.waitpid(child(kinds, f"{who}-child", folder, 0), 0)[1])
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status & 0xFF)


def main(rounds: int, children: int) -> None:
    kinds = Kinds()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        seal(kinds, "parent-first", lambda *_: None)
        over = threading.Event()

        def work(number: int) -> None:
            with (folder / f"parent-{number}").open("w") as file:
                turn = 0
                while not over.is_set():
                    turn += 1
                    seal(kinds, f"parent-{number}-{turn}", lambda *line: print(json.dumps(line), file=file))

        threads = [threading.Thread(target=work, args=(n,)) for n in range(THREADS)]
        for thread in threads:
            thread.start()
        statuses: list[int] = []
        for turn in range(rounds):
            pids = [child(kinds, f"child-{turn}-{n}", folder, int(n == 0)) for n in range(children)]
            statuses += [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
        over.set()
        for thread in threads:
            thread.join(ALARM_SECONDS)
        counts: collections.Counter[str] = collections.Counter()
        errors: list[str] = []
        lost: list[str] = []
        fresh = sealwax.Sealer(
            sealwax.KmsKeyring(
                "alias/demo",
                decrypt_with=["alias/demo", os.environ["MULTI_REGION_KEY"]],
                session=boto3.Session(),
            )
        )
        cached = sealwax.Sealer(
            sealwax.CachingKeyring(sealwax.KmsKeyring("alias/demo", session=boto3.Session()), max_age=60),
            local_context=("value",),
        )
        service = s3.Service(boto3.Session())
        for path in sorted(folder.iterdir()):
            for line in path.read_text().splitlines():
                kind, context, sealed = json.loads(line)
                counts[kind] += 1
                if kind == "error":
                    errors.append(f"{path.name}: {context} {sealed}")
                    continue
                sealer = cached if kind == "cache" else fresh
                try:
                    if kind == "object":
                        with s3.ObjectReader(sealed, service=service) as place:
                            text = sealer.decrypt(place.read(), context=context)
                        same = text == context["who"].encode()
                    else:
                        same = sealer.decrypt(bytes.fromhex(sealed), context=context) == json.dumps(context).encode()
                    if not same:
                        lost.append(f"{path.name}: {kind}: another value")
                except sealwax.SealwaxError as error:
                    lost.append(f"{path.name}: {kind}: {error}")
        print(
            json.dumps(
                {
                    "statuses": statuses,
                    "threads": sum(thread.is_alive() for thread in threads),
                    "counts": counts,
                    "errors": errors,
                    "lost": lost,
                }
            ),
            flush=True,
        )
        os._exit(0)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
