"""The page in a real browser: it filters, copies, fits a phone's screen, and neither asks nor runs anything else."""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Final

import pytest

from sealwax.audit import run
from sealwax.audit._report import Access, Audit
from sealwax.audit._reports import groups, render
from tests.audit import many
from tests.audit.samples import ATTACKS, AUDITS, CLEAN, HOSTILE, ORDINARY, key, role
from tests.browser import Browser, open_browser

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with open_browser(tmp_path_factory.mktemp("chromium")) as browser:
        yield browser


@pytest.fixture
def browser(chromium: Browser) -> Browser:
    chromium.requests.clear()
    chromium.complaints.clear()
    chromium.resize(1280, 900)
    return chromium


def _open(browser: Browser, audit: Audit, tmp_path: Path) -> Path:
    page = tmp_path / "audit.html"
    page.write_text(render(audit, "html"), encoding="utf-8")
    browser.open(page)
    return page


VISIBLE: Final = "[...document.querySelectorAll('#findings .resources > li')].filter((one) => one.offsetHeight > 0)"
SHOWN: Final = f"{VISIBLE}.map((one) => one.closest('article').dataset.rule)"


def _set(browser: Browser, name: str, value: str) -> None:
    browser.run(
        f"(() => {{ const one = document.querySelector('[name={name}]'); one.value = {json.dumps(value)};"
        " one.dispatchEvent(new Event('input', {bubbles: true})); })()"
    )


@pytest.mark.parametrize("audit", AUDITS.values(), ids=AUDITS)
@pytest.mark.parametrize("width", [1280, 360])
def test_a_page_asks_nobody_complains_of_nothing_and_fits(
    browser: Browser, audit: Audit, width: int, tmp_path: Path
) -> None:
    browser.resize(width, 800)
    page = _open(browser, audit, tmp_path)
    assert browser.requests == [page.as_uri()]
    assert browser.complaints == []
    assert browser.run("document.documentElement.scrollWidth") <= width
    assert browser.run("document.title") == f"sealwax audit: {audit.verdict}"
    assert browser.run(f"{VISIBLE}.length") == len(audit.findings)


def test_the_content_security_policy_would_stop_what_escaping_missed(browser: Browser, tmp_path: Path) -> None:
    page = tmp_path / "broken.html"
    attack = (
        "<script>document.title='owned'</script><img src='http://127.0.0.1:9/x' onerror=\"document.title='owned'\">"
    )
    page.write_text(render(CLEAN, "html").replace("</main>", f"{attack}</main>"), encoding="utf-8")
    browser.open(page)
    assert browser.run("document.title") == "sealwax audit: No findings"
    # And the test sees what it looks for: the refusals are complaints.
    assert len(browser.complaints) >= 2
    assert all("Content Security Policy" in one for one in browser.complaints)


def test_the_filters_narrow_alone_and_together(browser: Browser, tmp_path: Path) -> None:
    _open(browser, ORDINARY, tmp_path)
    every = [finding.rule for finding in ORDINARY.findings]
    assert browser.run(SHOWN) == every
    assert browser.run("document.getElementById('shown').textContent") == "4 of 4 findings"
    _set(browser, "severity", "4")
    assert browser.run(SHOWN) == every[:2]
    assert browser.run("document.getElementById('shown').textContent") == "2 of 4 findings"
    _set(browser, "resource", role("batch"))
    assert browser.run(SHOWN) == [every[1]]
    _set(browser, "rule", every[0])
    assert browser.run(SHOWN) == []
    browser.run("document.querySelector('button[type=reset]').click()")
    assert browser.run(f"new Promise((done) => setTimeout(() => done({SHOWN})))") == every
    _set(browser, "text", "MATERIAL ever")
    assert browser.run(SHOWN) == ["rotation-off"]
    _set(browser, "text", "PR.DS-01")
    assert browser.run(SHOWN) == every[:2]
    assert browser.complaints == []


def test_hostile_names_are_text_everywhere(browser: Browser, tmp_path: Path) -> None:
    _open(browser, HOSTILE, tmp_path)
    titles = browser.run(
        "[...document.querySelectorAll('#findings h3')].map((one) => one.lastChild.textContent.trim())"
    )
    assert titles[0] == "\\u202egnp.exe\\u2066"  # the first critical one
    assert ATTACKS[0] in titles
    assert ATTACKS[1] in titles
    assert len(titles) == len(ATTACKS)
    assert browser.run("document.querySelectorAll('script').length") == 1
    foreign = "img, iframe, object, embed, link, base, a:not([href^='#']), [onerror], [style]"
    assert browser.run(f"document.querySelectorAll({json.dumps(foreign)}).length") == 0
    # A resource with a quote in it can be chosen, and is the one that is found.
    _set(browser, "resource", f"arn:aws:kms:eu-west-1:111122223333:key/{ATTACKS[1]}")
    assert browser.run(f"{VISIBLE}.length") == 1


def test_a_fix_is_copied(browser: Browser, tmp_path: Path) -> None:
    page = _open(browser, ORDINARY, tmp_path)
    browser.send("Browser.grantPermissions", permissions=["clipboardReadWrite", "clipboardSanitizedWrite"])
    browser.send("Page.bringToFront")
    browser.run("document.querySelector('#findings button.copy').click()")
    words = browser.run(
        "new Promise((done) => { const look = () => { const said = document.querySelector('button.copy').textContent;"
        " said === 'Copy' ? setTimeout(look, 20) : done(said); }; look(); })"
    )
    assert words == "Copied"
    assert browser.run("navigator.clipboard.readText()") == ORDINARY.findings[0].fix.blocks[0].text
    assert browser.requests == [page.as_uri()]


def test_the_picture_says_who_can_use_which_key(browser: Browser, tmp_path: Path) -> None:
    _open(browser, ORDINARY, tmp_path)
    uses = sum(len(one.uses) for one in ORDINARY.access)
    assert browser.run("document.querySelectorAll('svg text.on').length") == uses
    letters = browser.run("[...document.querySelectorAll('svg g.row')].map((one) => one.textContent)")
    assert letters[0].startswith("everyone*ADEG")
    assert browser.run("document.querySelectorAll('section table td[data-name=By]').length") == len(ORDINARY.access)


def test_a_picture_of_very_many_is_cut_and_says_so(browser: Browser, tmp_path: Path) -> None:
    access = tuple(
        Access(key(number), role(f"r{other}"), ("decrypt",), ("x",)) for number in range(40) for other in range(80)
    )
    _open(browser, replace(ORDINARY, access=access), tmp_path)
    assert browser.run("document.querySelectorAll('svg text.on').length") == 24 * 60
    assert "the first 24 of 40 keys and the 60 of 80 principals" in browser.run("document.body.innerText")
    assert browser.run("document.querySelectorAll('td[data-name=By]').length") == len(access)


def test_paper_has_all_but_the_controls(browser: Browser, tmp_path: Path) -> None:
    _open(browser, ORDINARY, tmp_path)
    browser.send("Emulation.setEmulatedMedia", media="print")
    browser.run("dispatchEvent(new Event('beforeprint'))")
    assert browser.run("[...document.querySelectorAll('details')].every((one) => one.open)")
    assert browser.run("[...document.querySelectorAll('button, form')].every((one) => one.offsetHeight === 0)")
    assert browser.run("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert len(base64.b64decode(browser.send("Page.printToPDF")["data"])) > 10_000
    browser.send("Emulation.setEmulatedMedia", media="")


# What every colour of a text stands on, in light and in dark; 4.5 is what WCAG 2.2 asks of small text.
CONTRAST: Final = """(() => {
  const light = (rgb) => { const [r, g, b] = rgb.match(/[0-9.]+/g).map((v) => v / 255)
    .map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const ground = (one) => { for (; one; one = one.parentElement) {
    const colour = getComputedStyle(one).backgroundColor;
    if (colour !== 'rgba(0, 0, 0, 0)') return colour; } return 'rgb(255, 255, 255)'; };
  const bad = [];
  const texts = 'h1, h2, h3, p, td, th, pre, code, summary, label, button, .badge, li b, a';
  for (const one of document.querySelectorAll(texts)) {
    const [x, y] = [light(getComputedStyle(one).color), light(ground(one))].sort((a, b) => b - a);
    const ratio = (x + 0.05) / (y + 0.05);
    if (ratio < 4.5) bad.push(`${one.tagName} ${one.className} ${ratio.toFixed(2)}`);
  }
  return [...new Set(bad)];
})()"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_in_light_and_dark(browser: Browser, scheme: str, tmp_path: Path) -> None:
    browser.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    _open(browser, ORDINARY, tmp_path)
    dark = browser.run("getComputedStyle(document.body).backgroundColor") != "rgb(255, 255, 255)"
    assert dark == (scheme == "dark")
    assert browser.run(CONTRAST) == []
    browser.send("Emulation.setEmulatedMedia", features=[])


def test_all_controls_have_names_and_headings_are_in_order(browser: Browser, tmp_path: Path) -> None:
    _open(browser, ORDINARY, tmp_path)
    nodes = browser.send("Accessibility.getFullAXTree")["nodes"]
    controls = [
        (node["role"]["value"], node.get("name", {}).get("value", ""))
        for node in nodes
        if not node["ignored"] and node["role"]["value"] in ("button", "combobox", "searchbox", "link", "image")
    ]
    assert len(controls) >= 10
    assert [role_ for role_, name in controls if not name.strip()] == []
    levels = browser.run("[...document.querySelectorAll('h1, h2, h3')].map((one) => Number(one.tagName[1]))")
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))


def test_the_policy_names_the_style_and_the_script_and_nothing_else() -> None:
    text = render(ORDINARY, "html")
    found = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)
    assert found is not None
    for kind, name in (("style", "style"), ("script", "script")):
        (source,) = re.findall(rf"<{name}>(.*?)</{name}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}';" in found[1]
    assert "unsafe" not in found[1]
    assert found[1].startswith("default-src 'none';")


def test_the_same_audit_makes_the_same_page() -> None:
    assert render(ORDINARY, "html") == render(ORDINARY, "html")
    later = replace(ORDINARY, time=ORDINARY.time + timedelta(days=1))
    assert render(later, "html").count("2026-11-25 21:00:00 UTC") == 2  # of the facts, and of the page


def _many(browser: Browser, tmp_path: Path) -> Audit:
    audit = run(many.mixed(240))
    assert len(audit.findings) >= 200
    _open(browser, audit, tmp_path)
    return audit


def test_200_findings_are_at_most_30_printed_pages(browser: Browser, tmp_path: Path) -> None:
    audit = _many(browser, tmp_path)
    printed = browser.send("Page.printToPDF", paperWidth=8.27, paperHeight=11.69)["data"]
    pages = len(re.findall(rb"/Type\s*/Page\b(?!s)", base64.b64decode(printed)))
    assert 3 < pages <= 30
    # Each finding is among them, with its statement.
    browser.send("Emulation.setEmulatedMedia", media="print")
    browser.run("dispatchEvent(new Event('beforeprint'))")
    assert browser.run(f"{VISIBLE}.length") == len(audit.findings)
    statements = "[...document.querySelectorAll('.statement pre')].filter((one) => one.offsetHeight > 0).length"
    assert browser.run(statements) == sum(finding.statement is not None for finding in audit.findings)
    browser.send("Emulation.setEmulatedMedia", media="")


def test_a_page_says_each_thing_once_and_in_order(browser: Browser, tmp_path: Path) -> None:
    audit = _many(browser, tmp_path)
    titles = browser.run("[...document.querySelectorAll('article h3')].map((one) => one.lastChild.textContent.trim())")
    assert titles[0] == "the key policy is open to everyone"
    assert len(titles) == len(set(titles)) == len({finding.rule for finding in audit.findings})
    heads = browser.run("[...document.querySelectorAll('h1, h2')].map((one) => one.textContent)")
    assert heads == [
        f"✗ {audit.verdict}",
        *("Critical findings", "Not checked: 50", "Other findings", "Who can use which key", "Standards"),
    ]
    boxes = browser.run("[...document.querySelectorAll('article, .notice')].map((one) => one.className)")
    assert boxes[:3] == ["critical", "notice", "high"]
    sources = browser.run("[...document.querySelectorAll('#standards a')].map((one) => one.textContent)")
    controls = {f"{one.name} {one.control}" for finding in audit.findings for one in finding.standards}
    assert sources == sorted(controls)
    assert len(sources) > 5
    assert browser.run("document.querySelectorAll('a[href^=https]').length") == len(sources)
    assert browser.run("document.querySelector('.resources > li > p').textContent").startswith("alias/team1 arn:aws:")


def test_what_is_copied_is_what_the_fixes_say_to_paste(browser: Browser, tmp_path: Path) -> None:
    audit = _many(browser, tmp_path)
    copied = browser.run("[...document.querySelectorAll('#findings .copyable pre')].map((one) => one.textContent)")
    findings = [finding for same in groups.by_rule(audit.findings) for finding in same.findings]
    shown = [block.text for finding in findings for block in finding.fix.blocks]
    assert copied == shown
    assert browser.run("document.querySelectorAll('#findings button.copy').length") == len(shown) > 200


def test_a_phone_shows_the_verdict_first_and_scrolls_one_way(browser: Browser, tmp_path: Path) -> None:
    browser.resize(390, 844)
    audit = _many(browser, tmp_path)
    assert browser.run("document.documentElement.scrollWidth") <= 390
    assert browser.run("document.querySelector('h1').getBoundingClientRect().bottom") < 844 / 2
    assert browser.run("document.querySelector('.next').getBoundingClientRect().bottom") < 844
    assert audit.verdict.startswith("60 critical, ")
