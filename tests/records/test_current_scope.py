"""``Records.scope``: the pairs of the work under way, for what sees a value but not its row."""

from __future__ import annotations

import asyncio
import contextlib
import threading

import pytest

from sealwax import Records
from sealwax.records import MemoryKeys
from sealwax.records._current import pairs_of
from tests.fakes import FakeKeyring


def test_blocks_add_and_replace_pairs_and_end() -> None:
    with Records(FakeKeyring(), MemoryKeys(), scope={"app": "shop"}) as records:
        assert pairs_of(records) == {}
        with records.scope(tenant="acme"):
            with records.scope(user="7"):
                assert pairs_of(records) == {"tenant": "acme", "user": "7"}
                with contextlib.suppress(ZeroDivisionError), records.scope(tenant="globex"):
                    assert pairs_of(records) == {"tenant": "globex", "user": "7"}
                    raise ZeroDivisionError
            assert pairs_of(records) == {"tenant": "acme"}
        assert pairs_of(records) == {}
        with pytest.raises(TypeError, match="'tenant' in a scope is a str, not int"):
            records.scope(tenant=7)  # type: ignore[arg-type]


def test_each_records_thread_and_task_has_its_own() -> None:
    with (
        Records(FakeKeyring(), MemoryKeys(), scope={"app": "shop"}) as records,
        Records(FakeKeyring(), MemoryKeys(), scope={"app": "blog"}) as other,
        records.scope(tenant="acme"),
    ):
        assert pairs_of(other) == {}
        seen: list[object] = []
        thread = threading.Thread(target=lambda: seen.append(dict(pairs_of(records))))
        thread.start()
        thread.join()
        assert seen == [{}]

        async def work(tenant: str) -> str:
            with records.scope(tenant=tenant):
                await asyncio.sleep(0)
                return pairs_of(records)["tenant"]

        async def main() -> list[str]:
            return await asyncio.gather(*(work(str(number)) for number in range(5)))

        assert asyncio.run(main()) == list("01234")
        assert pairs_of(records) == {"tenant": "acme"}
