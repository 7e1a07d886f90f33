"""Memory that cannot be read is passed over page by page, counted, and never taken for clean."""

from __future__ import annotations

import io
import mmap
import sys

import pytest

from sealwax.lab import Lab
from sealwax.prove import Helper, Options, prove
from sealwax.prove._scan import read
from tests.prove.test_prove import CONTEXT, ROOT

PAGE = mmap.PAGESIZE


class Memory(io.RawIOBase):
    """A memory of some pages, of which a few cannot be read, as /proc/PID/mem has it."""

    def __init__(self, pages: str) -> None:
        self._pages = pages
        self._at = 0

    def seek(self, offset: int, whence: int = 0) -> int:
        assert whence == 0
        self._at = offset
        return offset

    def read(self, size: int = -1) -> bytes:
        end = min(self._at + size, len(self._pages) * PAGE)
        data = b""
        while self._at < end:
            page = self._pages[self._at // PAGE]
            if page == "!":
                break
            take = min(end, (self._at // PAGE + 1) * PAGE) - self._at
            data += page.encode() * take
            self._at += take
        if not data and self._at < end:
            raise OSError(5, "Input/output error")
        return data


@pytest.mark.parametrize(
    ("pages", "seen"),
    [("abc", "abc"), ("!bc", "bc"), ("a!c", "ac"), ("ab!", "ab"), ("!!c!e!", "ce"), ("!", ""), ("", "")],
)
def test_what_comes_after_an_unreadable_page_is_read(pages: str, seen: str) -> None:
    data, unread = read(Memory(pages), 0, len(pages) * PAGE)
    assert data == b"".join(page.encode() * PAGE for page in seen)
    assert unread == pages.count("!") * PAGE


class PageMap(io.RawIOBase):
    """The page map of a memory, as /proc/PID/pagemap has it; ``#`` is a guard page."""

    def __init__(self, pages: str) -> None:
        present, guard = 1 << 63, 1 << 58
        self._entries = b"".join((guard if page == "#" else present).to_bytes(8, sys.byteorder) for page in pages)
        self._at = 0

    def seek(self, offset: int, whence: int = 0) -> int:
        assert whence == 0
        self._at = offset
        return offset

    def read(self, size: int = -1) -> bytes:
        return self._entries[self._at : self._at + size]


@pytest.mark.parametrize(("pages", "seen"), [("a#b", "ab"), ("#", ""), ("#!#c", "c"), ("a!#", "a")])
def test_guard_pages_hold_nothing(pages: str, seen: str) -> None:
    data, unread = read(Memory(pages.replace("#", "!")), 0, len(pages) * PAGE, PageMap(pages))
    assert data == b"".join(page.encode() * PAGE for page in seen)
    assert unread == pages.count("!") * PAGE


def test_a_memory_that_ends_early_is_unread() -> None:
    # As that of a process that has ended.
    assert read(Memory("a"), 0, 3 * PAGE) == (b"a" * PAGE, 2 * PAGE)
    assert read(Memory("a"), 0, 3 * PAGE, PageMap("a")) == (b"a" * PAGE, 2 * PAGE)


@pytest.mark.skipif(sys.platform != "linux", reason="another process's memory is read on Linux only")
@pytest.mark.parametrize(
    ("where", "outcome", "detail"),
    [
        ("hole", "not shown", f"{2 * PAGE} bytes of the process's memory could not be read"),
        ("hole-and-leak", "failed", "halves of keys are in the memory"),
    ],
)
def test_a_process_with_pages_that_nobody_can_read(
    where: str, outcome: str, detail: str, lab: Lab, helper: Helper
) -> None:
    environment = {**helper.environment, "PYTHONPATH": str(ROOT)}
    holed = Helper(environment, (sys.executable, "-m", "tests.prove.leaky", where))
    report = prove("alias/well-set", CONTEXT, lab.session(), Options(helper=holed))
    (result,) = (result for result in report.checks if result.name == "memory")
    assert result.outcome == outcome
    assert detail in result.detail
