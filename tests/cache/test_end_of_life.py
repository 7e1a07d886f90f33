"""Keys are wiped on close, at exit and in a forked child; a program ends though KMS does not answer."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import snapshot_restore_py

from sealwax import CachingKeyring, DataKey
from tests.cache.test_bounds import CONTEXT, peek
from tests.fakes import FakeKeyring


def test_a_forked_child_starts_anew() -> None:
    inner = FakeKeyring()
    lent: list[DataKey] = []
    cache = CachingKeyring(inner, max_age=60)
    first, _ = cache.generate(CONTEXT, peek, plaintext_bytes=1)
    cache.generate(CONTEXT, lambda key, _: lent.append(key), plaintext_bytes=1)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            with pytest.raises(ValueError, match="wiped"):
                lent[0].buffer  # noqa: B018
            assert cache.generate(CONTEXT, peek, plaintext_bytes=1)[0] != first
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    assert cache.generate(CONTEXT, peek, plaintext_bytes=1)[0] == first
    cache.close()


def test_the_program_ends_with_work_under_way() -> None:
    program = """
        import time
        import sealwax
        from tests.fakes import FakeKeyring, timed_cache

        class Stuck(FakeKeyring):
            stuck = False
            def generate(self, context, use, *, plaintext_bytes=None):
                if self.stuck:
                    print("stuck", flush=True)
                    time.sleep(600)
                return super().generate(context, use, plaintext_bytes=plaintext_bytes)

        now = [0.0, 0.0]
        inner = Stuck()
        cache = timed_cache(inner, max_age=100, clocks=lambda: (now[0], now[1]))
        lent = []
        cache.generate({"a": "b"}, lambda key, _: lent.append(key), plaintext_bytes=1)
        inner.stuck = True
        now[:] = [90.0, 90.0]
        cache.generate({"a": "b"}, lambda key, _: None, plaintext_bytes=1)  # starts a refresh that never ends
        # Exit handlers run last in, first out: this one is to look after the cache's own has run.
        import atexit, sealwax._core.cache.wiping
        atexit.unregister(sealwax._core.cache.wiping.at_exit)

        def look():
            try:
                lent[0].buffer
            except ValueError:
                print("wiped", flush=True)

        atexit.register(look)
        atexit.register(sealwax._core.cache.wiping.at_exit)
        time.sleep(0.3)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["stuck", "wiped"]


def test_no_two_envelopes_share_an_id_though_the_librarys_generator_is_restored() -> None:
    # A restored snapshot repeats what was drawn from memory; two children of one fork have the same memory.
    read_end, write_end = os.pipe()
    import sealwax

    sealer = sealwax.Sealer(CachingKeyring(FakeKeyring(), max_age=60))
    sealer.encrypt(b"x", context=CONTEXT)
    children = []
    for _ in range(2):
        child = os.fork()
        if child == 0:
            sealed = sealer.encrypt(b"x", context=CONTEXT)
            os.write(write_end, sealed[16:32])
            os._exit(0)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0]
    ids = os.read(read_end, 100)
    os.close(read_end)
    os.close(write_end)
    assert len(ids) == 32
    assert ids[:16] != ids[16:]


@pytest.mark.parametrize("registry", [snapshot_restore_py.get_before_snapshot, snapshot_restore_py.get_after_restore])
def test_no_key_goes_into_a_snapshot_of_lambda_or_out_of_one(registry: Callable[[], list[Any]]) -> None:
    lent: list[DataKey] = []
    with CachingKeyring(FakeKeyring(), max_age=60) as cache:
        first, _ = cache.generate(CONTEXT, peek, plaintext_bytes=1)
        cache.generate(CONTEXT, lambda key, _: lent.append(key), plaintext_bytes=1)
        # As Lambda's runtime does.
        for function, arguments, keywords in registry():
            function(*arguments, **keywords)
        with pytest.raises(ValueError, match="wiped"):
            lent[0].buffer  # noqa: B018
        assert cache.generate(CONTEXT, peek, plaintext_bytes=1)[0] != first


def test_the_program_ends_while_a_slow_region_still_owes_its_answer(tmp_path: Path) -> None:
    program = """
        import sys
        import sealwax
        from sealwax.lab import Lab

        lab = Lab(sys.argv[1])
        key = lab.call("CreateKey", region="eu-west-1", MultiRegion=True)["KeyMetadata"]["Arn"]
        lab.call("ReplicateKey", region="eu-west-1", KeyId=key, ReplicaRegion="us-east-1")
        keyring = sealwax.MultiRegionKeyring(
            key, regions=["eu-west-1", "us-east-1"], session=lab.session(), hedge_after=0.05
        )
        sealer = sealwax.Sealer(sealwax.CachingKeyring(keyring, max_age=60))
        sealed = sealer.encrypt(b"x", context={"a": "b"})
        lab.faults.add("eu-west-1", "latency", 2000, operation=None, code=None, seed=1)
        opened = sealer.decrypt(sealed, context={"a": "b"})
        many = sealer.decrypt_many([(sealed, {"a": "b"})] * 1000)
        print(opened, next(many), flush=True)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), str(tmp_path / "lab")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "b'x' b'x'\n", "")
