"""The pages are in American English, and without phrases that native engineers do not write."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pytest

from tests.docs.blocks import PAGES, ROOT

_PHRASES: Final = re.compile(
    r"""\b(
    in\ vain | mend(s|ed|ing)? | anew | so\ long\ as | done\ without | sees?\ to\ it | any\ more | goes\ on | gone\ on
    | is\ told\ (by|of) | are\ told\ (by|of) | as\ ever | to\ who | (is|are)\ no\ (proper|multi)
    | behaviour | colours? | cancel{2}(ed|ing) | favour\w* | licences? | organis\w+ | recognis\w+ | judgement | whilst
    | behavioural | serialis\w+ | normalis\w+ | centre | catalogue | artefacts? | grey | time-outs? | e-mails? | set-up
    )\b""",
    re.IGNORECASE | re.VERBOSE,
)


def phrases(text: str) -> list[str]:
    return [f"{text.count(chr(10), 0, match.start()) + 1}: {match[0]}" for match in _PHRASES.finditer(text)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_a_page_has_no_words_of_another_language(page: Path) -> None:
    assert phrases(page.read_text(encoding="utf-8")) == []


def test_such_words_are_found() -> None:
    assert phrases("a\nlookup in vain, and it cannot be opened any more") == ["2: in vain", "2: any more"]
    assert phrases("The color is gray, and lookups that failed are listed; an envelope no longer opens.") == []
