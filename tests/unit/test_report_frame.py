"""The frame of every page: its verdict, who made it and how, and nothing that runs or loads besides its own."""

from __future__ import annotations

import base64
import hashlib
import re
from datetime import UTC, datetime, timedelta, timezone

import pytest

from sealwax import __version__
from sealwax._report import Provenance, Verdict, page
from sealwax._report.markup import copyable, key, text
from sealwax._report.verdict import zoned

ATTACK = "<script>alert(1)</script>\"'&\u202e\x1b]0;x\x07"
TIME = datetime(2026, 11, 30, 9, 21, 5, tzinfo=UTC)
MADE = Provenance(
    TIME, "sealwax prove -k alias/a", "arn:aws:iam::111122223333:role/ops", "111122223333", ("eu-west-1",)
)


def test_a_page_says_how_it_stands_and_where_it_comes_from() -> None:
    made = page("sealwax prove", Verdict("good", "All is well", "nothing"), MADE, "<p>content</p>")
    for shown in (
        "<title>sealwax prove: All is well</title>",
        "All is well</h1>",
        "<b>Next:</b> nothing",
        "2026-11-30 09:21:05 UTC",
        "arn:aws:iam::111122223333:role/ops",
        ">111122223333<",
        ">eu-west-1<",
        "sealwax prove -k alias/a",
        f">{__version__}<",
        "<p>content</p>",
    ):
        assert shown in made
    assert '<header class="good">' in made
    assert "http" not in made.replace("http-equiv", "")


def test_what_is_foreign_is_text() -> None:
    verdict = Verdict("bad", ATTACK, ATTACK, ATTACK)
    made = page(ATTACK, verdict, Provenance(TIME, ATTACK, ATTACK, ATTACK, (ATTACK,), ATTACK), key(ATTACK, [ATTACK]))
    assert made.count("<script>") == 1
    assert "\u202e" not in made
    assert "\x1b" not in made
    assert made.count(text(ATTACK)) >= 9
    assert "alert(1)</script>" not in copyable(ATTACK)


def test_the_policy_allows_the_one_style_and_the_one_script() -> None:
    made = page("kind", Verdict("bad", "it failed"), MADE, "", style="b {}", script="void 0;")
    allowed = re.findall(r"'sha256-([^']+)'", made)
    parts = [re.search(rf"<{tag}>(.*?)</{tag}>", made, re.DOTALL) for tag in ("style", "script")]
    digests = [base64.b64encode(hashlib.sha256(part[1].encode()).digest()).decode() for part in parts if part]
    assert allowed == digests
    assert len(digests) == 2
    assert "default-src 'none'" in made


def test_what_is_not_known_is_not_made_up() -> None:
    made = page("kind", Verdict("good", "well"), Provenance(TIME), "")
    assert "<dt>Caller</dt><dd>not known</dd>" in made
    assert "<dt>Command" not in made
    assert "Next:" not in made


@pytest.mark.parametrize(
    ("zone", "shown"),
    [
        (UTC, "UTC"),
        (timezone(timedelta(hours=1), "CET"), "CET (UTC+01:00)"),
        (timezone(timedelta(hours=-3, minutes=-30), "NST"), "NST (UTC-03:30)"),
        (timezone(timedelta(hours=5, minutes=45)), "UTC+05:45"),
        (timezone(timedelta(hours=5, minutes=45), "+0545"), "UTC+05:45"),
        (timezone(timedelta(), "GMT"), "UTC"),
    ],
)
def test_times_name_their_zone(zone: timezone, shown: str) -> None:
    assert zoned(datetime(2026, 1, 2, 3, 4, 5, tzinfo=zone)) == f"2026-01-02 03:04:05 {shown}"


def test_a_verdict_ends_a_text() -> None:
    assert Verdict("good", "It is done").lines() == ["It is done."]
    assert Verdict("bad", "It failed", "fix it, then", "sealwax x").lines() == [
        "It failed.",
        "next: fix it, then: sealwax x",
    ]
    assert Verdict("bad", "a\x1bb", "", "c\x1bd").lines() == ["a\\x1bb.", "next: c\\x1bd"]
