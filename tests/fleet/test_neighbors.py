"""What a scan remembers of the envelope before: nothing that changes what it says of the next one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import settings as bounded
from hypothesis import strategies as st

import sealwax
from sealwax._core.context import encode
from sealwax._core.envelope import Inspection
from sealwax._core.format import header as hdr
from sealwax._core.format.header import Header, Preamble, Slot
from sealwax._core.keyring import WrappedKey
from sealwax._core.staleness import Wanted, WantedKey
from sealwax.fleet import _shard
from sealwax.fleet._settings import Contexts, Settings
from sealwax.fleet._shard import Item
from sealwax.fleet._state import State
from sealwax.stores import Store
from sealwax.stores._store import relative
from tests.fakes import ALPHA, BETA, GAMMA


@dataclass
class Holding:
    """A store of these headers, by their names."""

    headers: dict[str, Header]
    location: str = "/place"

    def inspect(self, name: str) -> Inspection:
        if name.endswith("broken"):
            raise sealwax.DamagedHeaderError("on purpose")
        return Inspection(self.headers[name], 100)


def header(
    arn: str = ALPHA,
    blob: bytes = b"1",
    name: str = "a",
    kind: int = hdr.ATTACHED,
    local: int = 0,
    sequences: tuple[int, ...] = (1,),
    envelope_id: bytes = bytes(16),
) -> Header:
    preamble = Preamble(kind, len(sequences), 4096, 4096, envelope_id, local, encode({"name": name}))
    keys = (WrappedKey(arn, blob, b"", 100),)
    return Header(preamble, tuple(Slot(sequence, keys) for sequence in sequences))


SETTINGS = [
    Settings((ALPHA, GAMMA), Wanted((WantedKey(BETA),)), contexts, reencrypt=reencrypt)
    for contexts in (
        Contexts((("name", "a"),)),
        Contexts((("name", "{name}"),)),
        Contexts((("name", "*"),)),
        Contexts((), accept_stored=True),
    )
    for reencrypt in (False, True)
]
HEADERS = st.builds(
    header,
    arn=st.sampled_from([ALPHA, BETA, GAMMA]),
    blob=st.sampled_from([b"1", b"2"]),
    name=st.sampled_from(["a", "b"]),
    kind=st.sampled_from([hdr.ATTACHED, hdr.DETACHED]),
    local=st.sampled_from([0, 1]),
    sequences=st.sampled_from([(1,), (1, 1), (1, 2)]),
    envelope_id=st.binary(min_size=16, max_size=16),
)


def told(headers: list[Header], settings: Settings, names: list[str]) -> list[_shard.ScanResult]:
    items = [Item(number, name) for number, name in enumerate(names)]
    store: Any = Holding(dict(zip(names, headers, strict=True)))
    return list(_shard.scan(items, settings, cast("Store", store)))


@bounded(max_examples=150)
@given(
    found=st.lists(st.tuples(HEADERS, st.integers(1, 3)), min_size=1, max_size=6), settings=st.sampled_from(SETTINGS)
)
def test_each_is_told_as_if_it_were_alone(found: list[tuple[Header, int]], settings: Settings) -> None:
    headers = [
        replace(each, preamble=replace(each.preamble, envelope_id=bytes([at]) * 16))
        for each, times in found
        for at in range(times)
    ]
    names = [f"/place/{at}/{'ab'[at % 2]}.swx" for at in range(len(headers))]
    alone = [
        _shard.scan_result_of(Item(number, name), each, settings, relative(name, "/place"))
        for number, (name, each) in enumerate(zip(names, headers, strict=True))
    ]
    assert told(headers, settings, names) == alone


@pytest.mark.parametrize(
    "other",
    [
        header(blob=b"2"),
        header(arn=GAMMA),
        header(name="b"),
        header(kind=hdr.DETACHED),
        header(local=1),
        header(sequences=(1, 2)),
    ],
)
@pytest.mark.parametrize("settings", SETTINGS)
def test_what_differs_in_one_thing_is_told_apart(other: Header, settings: Settings) -> None:
    names = ["/place/a.swx", "/place/x/b.swx"]
    _, second = told([header(), other], settings, names)
    assert second == _shard.scan_result_of(Item(1, names[1]), other, settings, "x/b.swx")


def test_what_is_broken_in_between_changes_nothing() -> None:
    names = ["/place/1", "/place/broken", "/place/2"]
    first, broken, second = told([header()] * 3, SETTINGS[0], names)
    assert (first.state, broken.state, second.state) == (State.STALE, State.DAMAGED, State.STALE)
    assert (second.number, second.name) == (2, "/place/2")
