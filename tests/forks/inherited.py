"""``python -m tests.forks.inherited CASE``: one thing that lives over a fork, and what becomes of it in the child."""

from __future__ import annotations

import contextlib
import ctypes
import datetime
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import boto3
from botocore.config import Config
from botocore.credentials import RefreshableCredentials
from botocore.session import get_session

import sealwax
from sealwax import events
from sealwax.lab import Lab
from sealwax.stores import s3
from tests.forks.forking import in_child
from tests.forks.servers import SECRET

CONTEXT: Final = {"purpose": "forks"}


def ports(client: Any) -> list[int]:
    """The local ports of the connections that a client keeps."""
    manager = client._endpoint.http_session._manager
    pools = [manager.pools[key] for key in manager.pools.keys()]  # noqa: SIM118  it cannot be iterated
    return [
        connection.sock.getsockname()[1]
        for pool in pools
        for connection in pool.pool.queue
        if connection is not None and connection.sock is not None
    ]


def seal_and_open(sealer: sealwax.Sealer) -> str:
    return sealer.decrypt(sealer.encrypt(b"a value", context=CONTEXT), context=CONTEXT).decode()


def connections(client: Any, handed_in: Any = None, *, fork: Callable[[], int] = os.fork) -> dict[str, Any]:
    """Seal with a client before a fork, and in both processes after it; tell whose connections were used."""
    sealer = sealwax.Sealer(sealwax.KmsKeyring("alias/demo", client=handed_in or client))
    seal_and_open(sealer)
    before = ports(client)
    assert before

    def work(told: dict[str, Any]) -> None:
        told["text"] = seal_and_open(sealer)
        told["shared"] = sorted(set(before) & set(ports(client)))
        told["own"] = len(ports(client))
        # The descriptors that the child was given are closed, so that the parent's end is an end for the server.
        told["descriptors"] = len(os.listdir("/proc/self/fd"))

    descriptors = len(os.listdir("/proc/self/fd"))
    told = in_child(work, fork=fork)
    # The parent goes on over the connection that it had.
    told["parent"] = seal_and_open(sealer)
    told["kept"] = before == ports(client)
    told["descriptors"] -= descriptors
    return told


def client() -> dict[str, Any]:
    return connections(boto3.client("kms"))


class Proxy:
    """What instrumentation puts around a client."""

    def __init__(self, client: Any) -> None:
        self._wrapped = client

    def __getattr__(self, name: str) -> Any:
        return getattr(self._wrapped, name)


def proxy() -> dict[str, Any]:
    client = boto3.client("kms")
    return connections(client, Proxy(client))


def adaptive() -> dict[str, Any]:
    """One whose retries have a token bucket, with a lock and a condition."""
    return connections(boto3.client("kms", config=Config(retries={"mode": "adaptive"})))


def in_c() -> dict[str, Any]:
    """A fork that Python is not told about, as servers written in C make it."""
    return connections(boto3.client("kms"), fork=ctypes.PyDLL(None).fork)


def cache_in_c() -> dict[str, Any]:
    """A cached data key is not used by two processes: its bounds are those of one."""
    cache = sealwax.CachingKeyring(sealwax.KmsKeyring("alias/demo", client=boto3.client("kms")), max_age=60)

    def wrapped() -> str:
        return cache.generate(CONTEXT, lambda _, keys: keys[0].ciphertext.hex(), plaintext_bytes=1)

    before = wrapped()
    # A fork that the interpreter is not told about copies its lock as it stands: no other thread may want it just then.
    time.sleep(0.5)
    told = in_child(lambda told: told.update(same=wrapped() == before), fork=ctypes.PyDLL(None).fork)
    return told | {"parent": wrapped() == before}


def handed_in_later(*, met: bool) -> dict[str, Any]:
    """A client that the child hands in, used before the fork: by a keyring that is gone, or by the program alone."""
    client: Any = boto3.client("kms")
    storage = boto3.client("s3")
    if met:
        seal_and_open(sealwax.Sealer(sealwax.KmsKeyring("alias/demo", client=client)))
    client.list_keys()
    storage.list_buckets()
    before = ports(client) + ports(storage)
    # As a thread that renews them holds it.
    credentials: Any = RefreshableCredentials.create_from_metadata(_metadata(), _metadata, "test")
    client._request_signer._credentials = credentials
    credentials._refresh_lock.acquire()

    class Session:
        region_name = "us-east-1"

        def client(self, *_: Any, **__: Any) -> Any:
            return storage

    def work(told: dict[str, Any]) -> None:
        told["text"] = seal_and_open(sealwax.Sealer(sealwax.KmsKeyring("alias/demo", client=client)))
        assert list(s3.S3Store("s3://bucket/", Session()).list()) == []
        told["shared"] = sorted(set(before) & set(ports(client) + ports(storage)))

    return in_child(work)


def _metadata() -> dict[str, str]:
    """Credentials that are always due."""
    due = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=300)
    return {"access_key": "AKIDEXAMPLE", "secret_key": SECRET, "token": "token", "expiry_time": due.isoformat()}


class CachingSession:
    """A session that hands out one client for ever."""

    def __init__(self) -> None:
        self.kms, self.s3 = boto3.client("kms"), boto3.client("s3")
        self.region_name = self.kms.meta.region_name

    def client(self, service_name: Any, **_: Any) -> Any:
        return self.kms if service_name == "kms" else self.s3


def caching_session() -> dict[str, Any]:
    session = CachingSession()
    sealer = sealwax.Sealer(sealwax.KmsKeyring("alias/demo", session=session))
    service = s3.Service(session)
    store = s3.S3Store("s3://bucket/", service=service)
    seal_and_open(sealer)
    assert list(store.list()) == []
    before = ports(session.kms) + ports(session.s3)

    def work(told: dict[str, Any]) -> None:
        told["text"] = seal_and_open(sealer)
        assert list(store.list()) == []
        told["shared"] = sorted(set(before) & set(ports(session.kms) + ports(session.s3)))

    return in_child(work)


class Foreign:
    """A client that is not botocore's, and connects as it likes; no more of one than is asked for."""

    def __init__(self, real: Any) -> None:
        self.meta = real.meta
        self.generate_data_key = real.generate_data_key
        self.decrypt = real.decrypt


def foreign() -> dict[str, Any]:
    sealer = sealwax.Sealer(sealwax.KmsKeyring("alias/demo", client=Foreign(boto3.client("kms"))))  # type: ignore[arg-type]
    seal_and_open(sealer)
    told = in_child(lambda told: told.update(text=seal_and_open(sealer)))
    return told | {"parent": seal_and_open(sealer)}


def foreign_session() -> dict[str, Any]:
    class Session:
        region_name = "us-east-1"
        made = Foreign(boto3.client("kms"))

        def client(self, *_: Any, **__: Any) -> Any:
            return self.made

    sealer = sealwax.Sealer(sealwax.KmsKeyring("alias/demo", session=Session()))
    seal_and_open(sealer)
    return in_child(lambda told: told.update(text=seal_and_open(sealer)))


def refreshing(*, handed_in: str) -> dict[str, Any]:
    """Credentials that one thread is renewing at the moment of the fork, through a client in a closure."""
    core = get_session()
    sts = boto3.client("kms")
    begun, go_on = threading.Event(), threading.Event()
    turns: Iterator[int] = iter(range(1000))
    parent = os.getpid()

    def refresh() -> dict[str, str]:
        sts.list_keys()
        if next(turns) == 1 and os.getpid() == parent:
            begun.set()
            go_on.wait()
        return _metadata()

    core._credentials = RefreshableCredentials.create_from_metadata(refresh(), refresh, "test")  # type: ignore[attr-defined]
    session = boto3.Session(botocore_session=core)
    keyring = (
        sealwax.KmsKeyring("alias/demo", client=session.client("kms"))
        if handed_in == "client"
        else sealwax.KmsKeyring("alias/demo", session=session)
    )
    sealer = sealwax.Sealer(keyring)
    thread = threading.Thread(target=seal_and_open, args=(sealer,))
    thread.start()
    begun.wait()
    before = ports(sts)

    def work(told: dict[str, Any]) -> None:
        told["text"] = seal_and_open(sealer)
        told["shared"] = sorted(set(before) & set(ports(sts)))

    told = in_child(work, meanwhile=go_on.set)
    thread.join()
    return told | {"parent": seal_and_open(sealer)}


def waiting_for_a_flight() -> dict[str, Any]:
    """A cache whose threads wait for one call, the maker of which does not exist in the child."""
    begun, go_on = threading.Event(), threading.Event()
    parent = os.getpid()

    def watch(event: Any) -> None:
        if isinstance(event, events.KmsCall) and os.getpid() == parent:
            begun.set()
            go_on.wait()

    keyring = sealwax.KmsKeyring("alias/demo", session=boto3.Session(), on_event=watch)
    sealer = sealwax.Sealer(sealwax.CachingKeyring(keyring, max_age=60))
    threads = [threading.Thread(target=sealer.encrypt, args=(b"x",), kwargs={"context": CONTEXT}) for _ in range(3)]
    for thread in threads:
        thread.start()
    begun.wait()
    told = in_child(lambda told: told.update(text=seal_and_open(sealer)), meanwhile=go_on.set)
    for thread in threads:
        thread.join()
    return told | {"parent": seal_and_open(sealer)}


def batch() -> dict[str, Any]:
    """Results that the parent's threads work on."""
    sealer = sealwax.Sealer(sealwax.KmsKeyring("alias/demo"))
    results = sealer.encrypt_many([(b"x", CONTEXT)] * 200)
    first = next(results)

    def work(told: dict[str, Any]) -> None:
        told["text"] = seal_and_open(sealer)
        next(results)

    told = in_child(work)
    sealed = [first, *results]
    return told | {"parent": {sealer.decrypt(one, context=CONTEXT).decode() for one in sealed} == {"x"} and len(sealed)}


def upload() -> dict[str, Any]:
    """A large object that the parent is writing: a child neither adds to it nor ends it."""
    sealer = sealwax.Sealer(sealwax.KmsKeyring("alias/demo"))
    writer = s3.ObjectWriter("s3://bucket/large", overwrite=True)
    writer.write(b"1" * (17 << 20))

    def work(told: dict[str, Any]) -> None:
        told["text"] = seal_and_open(sealer)
        told["refused"] = 0
        for spoil in (lambda: writer.write(b"2"), writer.commit):
            try:
                spoil()
            except ValueError:
                told["refused"] += 1
        writer.close()

    told = in_child(work)
    writer.commit()
    with s3.ObjectReader("s3://bucket/large") as reader:
        return told | {"parent": reader.read() == b"1" * (17 << 20)}


def lab_in_the_program() -> dict[str, Any]:
    """The embedded lab, while another thread is inside a transaction of its database."""
    with Lab(Path(os.environ["FOLDER"]) / "another lab") as lab:
        lab.create_key(alias="demo")
        sealer = sealwax.Sealer(sealwax.KmsKeyring("alias/demo", session=lab.session()))
        seal_and_open(sealer)
        begun, go_on = threading.Event(), threading.Event()

        def hold() -> None:
            with lab._state.reading(), lab._log.reading():
                begun.set()
                go_on.wait()

        thread = threading.Thread(target=hold)
        thread.start()
        begun.wait()
        told = in_child(lambda told: told.update(text=seal_and_open(sealer)))
        go_on.set()
        thread.join()
        return told | {"parent": seal_and_open(sealer)}


def shared_limit() -> dict[str, Any]:
    """A limit whose file another process has locked, so that a thread waits inside of it."""
    import fcntl

    path = Path(os.environ["FOLDER"]) / "limit"
    limit = sealwax.RateLimit(100, shared=path)
    sealer = sealwax.Sealer(sealwax.KmsKeyring("alias/demo", limit=limit))
    seal_and_open(sealer)
    with path.open("r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        thread = threading.Thread(target=seal_and_open, args=(sealer,))
        thread.start()
        while descriptors(path) < 2:
            pass

        def work(told: dict[str, Any]) -> None:
            file.close()
            told["open"] = descriptors(path)
            told["text"] = seal_and_open(sealer)

        told = in_child(work, meanwhile=lambda: fcntl.flock(file, fcntl.LOCK_UN))
        thread.join()
    return told | {"parent": seal_and_open(sealer)}


def descriptors(path: Path) -> int:
    """Return how many descriptors of this process are a file's. Others may be closed meanwhile."""
    there, count = path.stat(), 0
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):
            count += os.path.samestat(os.stat(f"/proc/self/fd/{name}"), there)
    return count


CASES: Final[dict[str, Callable[[], dict[str, Any]]]] = {
    "client": client,
    "proxy": proxy,
    "adaptive": adaptive,
    "in C": in_c,
    "cache in C": cache_in_c,
    "met before": lambda: handed_in_later(met=True),
    "met in the child": lambda: handed_in_later(met=False),
    "caching session": caching_session,
    "foreign": foreign,
    "foreign session": foreign_session,
    "refreshing client": lambda: refreshing(handed_in="client"),
    "refreshing session": lambda: refreshing(handed_in="session"),
    "flight": waiting_for_a_flight,
    "batch": batch,
    "upload": upload,
    "lab": lab_in_the_program,
    "shared limit": shared_limit,
}


def main(cases: list[str]) -> None:
    for case in cases:
        print(json.dumps([case, CASES[case]()]), flush=True)
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
