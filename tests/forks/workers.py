"""What worker processes run, and find by name; and ``python -m tests.forks.workers METHOD``, which starts them."""

from __future__ import annotations

import json
import multiprocessing
import os
import pickle
import sys
from concurrent.futures import ProcessPoolExecutor
from typing import Any, Final

import boto3

import sealwax
from sealwax import otel
from sealwax.stores import s3
from sealwax.stores._files import FileStore
from tests.forks.servers import FAR, NEAR, SECRET

CONTEXT: Final = {"purpose": "workers"}
EVENTS: Final[list[object]] = []


def watch(event: object) -> None:
    EVENTS.append(event)


def sealers() -> dict[str, sealwax.Sealer]:
    """Sealers with every setting that travels."""
    session = boto3.Session(region_name=NEAR)
    limit = sealwax.RateLimit(500, burst=5)
    retries = sealwax.RetryPolicy(attempts=2, deadline=30)
    keyring = sealwax.KmsKeyring(
        "alias/demo",
        decrypt_with=["alias/demo", sealwax.KeyScope("111122223333", NEAR)],
        session=session,
        max_wrapped_keys_tried=2,
        retries=retries,
        limit=limit,
        on_event=watch,
    )
    return {
        "KMS": sealwax.Sealer(keyring, local_context=("purpose",)),
        "plain": sealwax.Sealer(sealwax.KmsKeyring(os.environ["INDEPENDENT_KEYS"].split(), on_event=otel.Telemetry())),
        "Regions": sealwax.Sealer(
            sealwax.MultiRegionKeyring(
                os.environ["MULTI_REGION_KEY"], regions=[NEAR, FAR], hedge_after=5, session=session, limit=limit
            )
        ),
        "independent": sealwax.Sealer(
            sealwax.MultiRegionKeyring(os.environ["INDEPENDENT_KEYS"].split(), min_wrapped=1, on_event=watch)
        ),
        "cache": sealwax.Sealer(
            sealwax.CachingKeyring(keyring, max_age=60, max_messages=5, capacity=7, serve_stale_for=1, on_event=watch)
        ),
    }


def work(name: str, sealer: sealwax.Sealer, sealed: bytes, store: s3.S3Store, files: FileStore) -> dict[str, Any]:
    """In the worker: open what the parent has sealed, and seal something for it."""
    return {
        "process": os.getpid(),
        "opened": sealer.decrypt(sealed, context=CONTEXT).decode(),
        "sealed": sealer.encrypt(f"{name} in a worker".encode(), context=CONTEXT).hex(),
        "calls": sealer.stats().calls,
        "objects": len(list(store.list())),
        "files": len(list(files.list())),
    }


def main(method: str) -> None:
    made = sealers()
    store = s3.S3Store("s3://bucket/", service=s3.Service(boto3.Session()))
    with s3.ObjectWriter("s3://bucket/one") as writer:
        writer.write(b"an object")
    files = FileStore(os.environ["FOLDER"])
    told: dict[str, Any] = {}
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context(method)) as pool:
        for name, sealer in made.items():
            sealed = sealer.encrypt(name.encode(), context=CONTEXT)
            found = pool.submit(work, name, sealer, sealed, store, files).result(120)
            found["back"] = sealer.decrypt(bytes.fromhex(found.pop("sealed")), context=CONTEXT).decode()
            found["elsewhere"] = found.pop("process") != os.getpid()
            found["secret"] = SECRET.encode() in pickle.dumps(sealer)
            told[name] = found
    print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
