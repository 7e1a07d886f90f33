"""The pages of a fleet and of a proof in a real browser: they fit, load nothing, copy what can be pasted, and print."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import pytest

from sealwax._report import Provenance, Verdict
from sealwax.fleet import Checked, ProblemKind, State, _page
from sealwax.prove import CheckResult, Evidence, ProofReport
from sealwax.prove import _page as _proof_page
from tests.browser import Browser, open_browser
from tests.fleet.samples import NEW, OLD, report

pytestmark = pytest.mark.browser

ATTACK: Final = (
    "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">\u202e" + "x" * 300
)
TIME: Final = datetime(2026, 11, 30, 9, 21, 5, tzinfo=UTC)
COMMAND: Final = "sealwax fleet run 'a plan' --apply"
MADE: Final = Provenance(
    TIME, "sealwax fleet verify 'a plan'", f"arn:aws:iam::111122223333:role/{'r' * 64}", "111122223333", ("eu-west-1",)
)


def _fleet() -> str:
    found = report(
        "verify",
        states={State.REWRAPPED: (1217, 0), State.FAILED: (17, 0), State.DAMAGED: (1, 0)},
        before=((OLD, "ab" * 32, 1234),),
        after=((NEW, "", 1217), (OLD, "ab" * 32, 17)),
        contexts=1,
        frequent=(({ATTACK: ATTACK}, 1234),),
        kinds=(ProblemKind(State.FAILED, ATTACK, 17, (ATTACK, "a.swx", ATTACK)),),
        locations=(ATTACK,),
        aliases={NEW: ("alias/new",), OLD: (f"alias/{'o' * 250}",)},
        checked=Checked(changed=(ATTACK,)),
    )
    return _page.as_html(found, Verdict("bad", f"It failed: {ATTACK}", "run again", COMMAND), MADE)


def _proof() -> str:
    evidence = tuple(
        Evidence("GenerateDataKeyWithoutPlaintext", ATTACK if at else None, "1" * 36, TIME, "eu-west-1")
        for at in range(2)
    )
    checks = tuple(
        CheckResult(f"check-{outcome[0]}", "it holds", outcome, ATTACK, (), evidence)
        for outcome in ("passed", "not shown", "failed")
    )
    found = ProofReport(ATTACK, NEW, checks, 6)
    return _proof_page.as_html(found, Verdict("bad", f"It failed: {ATTACK}", "", COMMAND), MADE)


PAGES: Final = {"fleet": _fleet, "proof": _proof}


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with open_browser(tmp_path_factory.mktemp("chromium")) as browser:
        yield browser


@pytest.fixture(params=PAGES)
def opened(request: pytest.FixtureRequest, chromium: Browser, tmp_path: Path) -> Browser:
    chromium.requests.clear()
    chromium.complaints.clear()
    page = tmp_path / "page.html"
    page.write_text(PAGES[request.param](), encoding="utf-8")
    chromium.resize(1440, 900)
    chromium.open(page)
    assert chromium.requests == [page.as_uri()]
    return chromium


def test_pages_fit_and_nothing_foreign_runs(opened: Browser) -> None:
    for width in (1440, 390):
        opened.resize(width, 800)
        assert opened.run("document.documentElement.scrollWidth") <= width
    assert opened.run("document.title") != "owned"
    assert opened.run("document.querySelectorAll('img, [onerror], [style], a').length") == 0
    assert opened.run("document.querySelectorAll('script').length") == 1
    assert opened.complaints == []


def test_copy_copies_the_next_command_as_it_is(opened: Browser) -> None:
    opened.run("document.querySelector('header .copy').click()")
    opened.run("new Promise((done) => setTimeout(done))")
    selected = opened.run("getSelection().toString()")
    assert opened.run("document.querySelector('header .copy').textContent") in ("Copied", "Selected")
    assert opened.run("document.querySelector('header pre').textContent") == COMMAND
    assert selected in ("", COMMAND)


def test_what_failed_comes_first_and_is_red(opened: Browser) -> None:
    color = "getComputedStyle(document.querySelector({})).color"
    assert opened.run(color.format("'.bad .mark'")) == "rgb(163, 18, 63)"
    assert opened.run("document.querySelector('.counts li').className") == "bad"


def test_what_is_folded_is_on_paper(opened: Browser) -> None:
    opened.run("dispatchEvent(new Event('beforeprint'))")
    assert opened.run("[...document.querySelectorAll('details')].every((one) => one.open)") is True
    assert len(opened.send("Page.printToPDF")["data"]) > 1000


def test_a_state_is_not_broken_within_a_word(chromium: Browser, tmp_path: Path) -> None:
    names = ("/tmp/a.swx", "/tmp/b.swx", "/tmp/c.swx")
    kinds = (ProblemKind(State.REFUSED, "a reason of many words " * 9, 30, names),)
    found = report("plan", states={State.REFUSED: (30, 0)}, kinds=kinds)
    page = tmp_path / "page.html"
    page.write_text(_page.as_html(found, Verdict("bad", "None can be re-wrapped"), MADE), encoding="utf-8")
    chromium.resize(1440, 900)
    chromium.open(page)
    for cell, text in (("td[data-name=State]", "refused"), ("td[data-name=Object] code", names[0])):
        chromium.run(f"let cell = document.querySelector('{cell}'), range = document.createRange()")
        chromium.run("range.selectNodeContents(cell)")
        assert chromium.run("cell.textContent") == text
        assert chromium.run("range.getClientRects().length") == 1, "it is on one line"
        chromium.open(page)
