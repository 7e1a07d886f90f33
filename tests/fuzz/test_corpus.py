"""The kept corpus, and changed copies of each input, through the fuzzers' own checks; the same every time."""

from __future__ import annotations

import importlib
import random
import tracemalloc
from collections.abc import Callable
from typing import Final

import pytest

from fuzz import CORPUS, TARGETS

# What the corpus holds; fewer inputs mean that somebody has lost some.
AT_LEAST: Final = {
    "header": 73,
    "payload": 70,
    "armor": 13,
    "context": 18,
    "context_file": 13,
    "foreign": 39,
    "record": 45,
    "key_row": 34,
    "esdk": 44,
    "s3ec": 16,
    "scripts": 12,
}
CHANGED_COPIES: Final = 10
# The payload's readers take 2 MiB of buffers each, whatever they read; nothing else comes near.
MOST_BYTES: Final = 16 << 20


def _inputs(target: str) -> list[bytes]:
    return [path.read_bytes() for path in sorted((CORPUS / target).iterdir())]


def _changed(data: bytes, others: list[bytes], chance: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        at = chance.randint(0, len(changed))
        match chance.randrange(6):
            case 0:
                changed[at : at + 1] = bytes([chance.randrange(256)])
            case 1:
                del changed[at : at + chance.randint(1, 64)]
            case 2:
                changed[at:at] = chance.randbytes(chance.randint(1, 8))
            case 3:
                changed[at : at + 2] = chance.choice((b"\0\0", b"\xff\xff", b"\0\1", b"\x7f\xff"))
            case 4:
                other = chance.choice(others)
                start = chance.randint(0, len(other))
                changed[at : at + 64] = other[start : start + 64]
            case 5:
                del changed[at:]
    return bytes(changed)


@pytest.mark.parametrize("target", TARGETS)
def test_corpus_and_changed_copies_keep_the_rules(target: str) -> None:
    check: Callable[[bytes], None] = importlib.import_module(f"fuzz.{target}").check
    inputs = _inputs(target)
    assert len(inputs) >= AT_LEAST[target]
    chance = random.Random(target)
    ran = 0
    tracemalloc.start()
    try:
        for data in inputs:
            check(data)
            for _ in range(CHANGED_COPIES):
                check(_changed(data, inputs, chance))
            ran += 1 + CHANGED_COPIES
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert ran == len(inputs) * (1 + CHANGED_COPIES)
    assert most < MOST_BYTES


def test_corpus_is_small_and_complete() -> None:
    assert {folder.name for folder in CORPUS.iterdir()} == set(TARGETS)
    sizes = [path.stat().st_size for target in TARGETS for path in (CORPUS / target).iterdir()]
    assert max(sizes) < 64 << 10
    assert sum(sizes) < 1 << 20


@pytest.mark.parametrize("target", TARGETS)
def test_a_check_finds_a_broken_reader(target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rules are no empty words: each check fails when its reader lets another error escape."""
    module = importlib.import_module(f"fuzz.{target}")

    def broken(*_: object, **__: object) -> None:
        raise IndexError

    reader = {
        "header": "sealwax._core.format.header.read_header",
        "payload": "sealwax._core.format.payload.Decryptor",
        "armor": "fuzz.armor.dearmor",
        "context": "sealwax._core.context.decode",
        "context_file": "sealwax.cli.options._read_context_file",
        "foreign": "sealwax._core.recognize.esdk.recognize",
        "record": "fuzz.record.from_text",
        "key_row": "sealwax._core.format.payload.Decryptor",
        "esdk": "sealwax._core.foreign.esdk.whole.decrypt_body",
        "s3ec": "fuzz.s3ec.object_fields",
        "scripts": "fuzz.scripts.read_header",
    }[target]
    monkeypatch.setattr(reader, broken)
    with pytest.raises(IndexError):
        all(module.check(data) is None for data in _inputs(target))
