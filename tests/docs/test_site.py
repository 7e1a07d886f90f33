"""The site builds without a complaint, has everything, loads nothing from elsewhere, and its search finds things."""

from __future__ import annotations

import fcntl
import functools
import http.server
import importlib
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType
from typing import Any, Final
from urllib.parse import unquote, urlsplit

import pytest

from tests.browser import Browser, open_browser
from tests.docs.blocks import ROOT
from tests.unit.fronts import FRONTS, names_of

ZENSICAL: Final = ROOT / ".venv-docs/bin/zensical"
PHONE: Final = (390, 844)
DESK: Final = (1440, 900)


@pytest.fixture(scope="module")
def maker() -> Iterator[Any]:
    sys.path.insert(0, str(ROOT / "docs"))
    try:
        yield importlib.import_module("make_site")
    finally:
        sys.path.remove(str(ROOT / "docs"))


@pytest.fixture(scope="module")
def site(maker: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built once for all processes of this run, without Internet access."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "site-build"
    folder.mkdir(exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        log = folder / "log"
        if not log.exists():
            maker.main(folder)
            command = [str(ZENSICAL), "build", "--strict", "--config-file", str(folder / "site.toml")]
            nowhere = {f"{kind}_proxy": "http://127.0.0.1:9" for kind in ("http", "https", "all")}
            done = subprocess.run(
                command, cwd=folder, env=os.environ | nowhere | {"NO_COLOR": "1"}, capture_output=True, text=True
            )
            log.write_text(f"{done.returncode}\n{done.stdout}{done.stderr}")
    assert log.read_text().startswith("0\n"), log.read_text()
    return folder / "site"


class Page(HTMLParser):
    """What a page links to, loads and defines."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.ids: set[str] = set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        if "id" in values:
            self.ids.add(values["id"])
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        elif tag == "link" and values.get("rel") not in ("canonical", "prev", "next"):
            self.loads.append(values["href"])
        elif "src" in values:
            self.loads.append(values["src"])


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Page]:
    return {path: Page(path) for path in site.rglob("*.html") if path.name != "404.html"}


def test_the_builder_has_nothing_to_complain_of(site: Path) -> None:
    log = (site.parent / "log").read_text()
    assert "No issues found" in log
    assert not re.search("warning|error|griffe", log, re.IGNORECASE), log


def test_every_page_is_there_with_a_title_of_its_own(site: Path, pages: dict[Path, Page], maker: Any) -> None:
    sources = [path for path in (ROOT / "docs").rglob("*.md") if path.suffix == ".md"]
    for source in sources:
        place = Path(maker.place_of(source))
        html = site / (place.parent if place.stem == "index" else place.with_suffix("")) / "index.html"
        assert html in pages, source
    assert len(pages) == len(sources) + len(FRONTS) + len(["CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"])
    titles = [re.findall("<title>(.*?)</title>", path.read_text(encoding="utf-8")) for path in pages]
    assert len({title for (title,) in titles}) == len(pages)


def test_every_link_leads_somewhere(pages: dict[Path, Page]) -> None:
    counted = 0
    for path, page in pages.items():
        for link in {*page.links, *page.loads}:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            counted += 1
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            assert target.exists(), f"{path}: {link}"
            if parts.fragment and target in pages:
                assert unquote(parts.fragment) in pages[target].ids, f"{path}: {link}"
    assert counted > 5000


def test_nothing_is_loaded_from_elsewhere(site: Path, pages: dict[Path, Page]) -> None:
    for path, page in pages.items():
        assert not [name for name in page.loads if urlsplit(name).netloc], path
    styles = list(site.rglob("*.css"))
    assert styles
    for style in styles:
        assert not re.findall(r"(?:url\(|@import)[\"' ]*(?:https?:)?//", style.read_text(encoding="utf-8")), style


def test_every_mark_of_markdown_became_what_it_means(pages: dict[Path, Page]) -> None:
    for path in pages:
        text = re.sub(r"<(pre|code|script)\b.*?</\1>", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
        for mark in ("```", ":::", "not run:", "<p>- ", "<p>| ", "``", "]("):
            assert mark not in text, (path, mark)


def test_every_public_name_has_an_entry(site: Path, pages: dict[Path, Page], maker: Any) -> None:
    assert set(maker.FRONTS) == set(FRONTS)
    index = (ROOT / "docs/reference/api.md").read_text("utf-8")
    assert re.findall(r"^\| `(sealwax[\w.]*)` \| \S", index, re.MULTILINE) == list(maker.FRONTS)
    entries = {front: pages[site / f"reference/api/{front}/index.html"] for front in FRONTS}
    everywhere = {identity for page in entries.values() for identity in page.ids}
    names = 0
    for front, page in entries.items():
        for name in names_of(front):
            names += 1
            linked = {urlsplit(link).fragment for link in page.links} & everywhere
            assert f"{front}.{name}" in page.ids or any(each.endswith(f".{name}") for each in linked), (front, name)
    assert names > 300


def test_no_page_shows_the_marks_of_docstrings(site: Path) -> None:
    pages = list((site / "reference/api").rglob("index.html"))
    assert len(pages) > 20
    for page in pages:
        assert re.findall(r".{0,30}::</p>|``|:(?:class|func|meth|mod):", page.read_text("utf-8")) == [], page


def test_a_module_without_a_list_of_its_public_names_is_named(maker: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("front")
    monkeypatch.setitem(sys.modules, "front", module)
    with pytest.raises(SystemExit, match=r"front has no __all__: a public module lists"):
        maker.public_names("front")
    module.__dict__["__all__"] = ["missing"]
    with pytest.raises(SystemExit, match=r"front does not have missing, which its __all__ names"):
        maker.public_names("front")


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    """A plain server of files."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=site)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with open_browser(tmp_path_factory.mktemp("chromium")) as browser:
        yield browser


_SEARCH: Final = """(async () => {
    const until = async look => {
        for (let i = 0; i < 600; i++) {
            const got = look();
            if (got) return got;
            await new Promise(done => setTimeout(done, 50));
        }
    };
    (await until(() => document.querySelector(".md-search__button"))).click();
    const shadows = () => [...document.querySelectorAll("*")].map(element => element.shadowRoot);
    const root = await until(() => shadows().find(shadow => shadow?.querySelector("input")));
    const input = root.querySelector("input");
    input.value = WORDS;
    input.dispatchEvent(new Event("input", {bubbles: true}));
    const links = await until(() => { const all = [...root.querySelectorAll("a")]; return all.length ? all : null; });
    return links.slice(0, 3).map(link => new URL(link.href).pathname + new URL(link.href).hash);
})()"""


@pytest.mark.browser
@pytest.mark.parametrize(
    ("words", "first"),
    [
        ("AccessDenied", "reference/errors/#accessdeniederror"),
        ("rotate bucket", "how-to/rotation/"),
        ("SQLAlchemy", "how-to/sqlalchemy/"),
        ("payload does not authenticate", "reference/errors/"),
        ("ThrottlingException", "reference/errors/#throttlederror"),
        ("erase tenant", "how-to/erase-a-tenant/"),
        ("rotate the key of a bucket", "how-to/rotation/"),
        ("my role gets AccessDenied", "how-to/access-denied/"),
        ("move off the Encryption SDK", "how-to/from-encryption-sdk/"),
        ("test without AWS", "how-to/testing/"),
        ("run in Lambda", "how-to/in-production/"),
        ("Kubernetes", "how-to/in-production/"),
        ("run in cron", "how-to/in-production/"),
        ("Airflow", "how-to/in-production/"),
        ("CI", "how-to/ci/"),
    ],
)
def test_the_search_finds_it_on_the_first_try(words: str, first: str, address: str, browser: Browser) -> None:
    browser.resize(*DESK)
    browser.visit(address)
    found = browser.run(_SEARCH.replace("WORDS", json.dumps(words)))
    assert found[0].lstrip("/").startswith(first), found


@pytest.mark.browser
def test_pages_fit_a_phone_and_a_desk_and_are_dark_when_asked(address: str, browser: Browser) -> None:
    places = ("", "reference/iam/", "explanation/side-by-side/")
    for size in (PHONE, DESK):
        browser.resize(*size)
        for place in places:
            browser.visit(address + place)
            root = "document.documentElement"
            assert browser.run(f"{root}.scrollWidth - {root}.clientWidth") <= 0, place
    lights = {}
    for scheme in ("light", "dark"):
        browser.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        browser.visit(address)
        color = browser.run("getComputedStyle(document.body).backgroundColor")
        lights[scheme] = sum(map(int, re.findall(r"\d+", color)[:3]))
    assert lights["dark"] < 150 < 600 < lights["light"]


# Words that leave the picture, or cross the border of a box.
_STRAY: Final = """(() => {
    const inside = (a, b) => a.left >= b.left && a.right <= b.right && a.top >= b.top && a.bottom <= b.bottom;
    const apart = (a, b) => a.right < b.left || a.left > b.right || a.bottom < b.top || a.top > b.bottom;
    const boxes = [...document.querySelectorAll("rect")].map(rect => rect.getBoundingClientRect());
    const words = [...document.querySelectorAll("text")];
    if (words.length < 15) return ["there are hardly any words"];
    return words.filter(text => {
        const at = text.getBoundingClientRect();
        return !inside(at, boxes[0]) || boxes.some(box => !inside(at, box) && !apart(at, box));
    }).map(text => text.textContent);
})()"""


@pytest.mark.browser
def test_the_words_of_the_pictures_are_in_their_boxes(browser: Browser) -> None:
    pictures = sorted((ROOT / "docs/pictures").glob("*.svg"))
    assert len(pictures) == 4
    browser.resize(*DESK)
    for picture in pictures:
        browser.open(picture)
        assert browser.run(_STRAY) == [], picture


def test_the_pictures_are_drawn_by_their_source_and_shown(tmp_path: Path) -> None:
    script = f"import sys; sys.path.insert(0, 'docs'); import make_pictures as m; m.main(m.Path({str(tmp_path)!r}))"
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True)
    drawn = {path.name: path.read_text("utf-8") for path in tmp_path.iterdir()}
    kept = {path.name: path.read_text("utf-8") for path in (ROOT / "docs/pictures").glob("*.svg")}
    assert drawn == kept, "run: .venv/bin/python docs/make_pictures.py"
    pages = "".join(path.read_text("utf-8") for path in (ROOT / "docs").rglob("*.md"))
    for name, text in kept.items():
        assert re.search(rf"!\[[^\]]{{30,}}\]\(\.\./pictures/{re.escape(name)}\)", pages), name
        assert re.findall(r"https?://[^\"]*", text) == ["http://www.w3.org/2000/svg"], "nothing from elsewhere"


@pytest.mark.browser
def test_a_browser_asks_nobody_else(address: str, browser: Browser) -> None:
    browser.requests.clear()
    browser.visit(address + "reference/errors/")
    browser.run(_SEARCH.replace("WORDS", '"key"'))
    asked = [url for url in browser.requests if not url.startswith("data:")]
    assert len(asked) > 3
    assert [url for url in asked if not url.startswith(address)] == []
    assert browser.complaints == []
