"""Write build/pages and build/site.toml, from which `make docs` builds the site: python docs/make_site.py

The pages are the files of docs/, with what GitHub and the builder of the site disagree about settled: a README.md is
the index of its folder, the marks of code blocks (CONTRIBUTING.md) are left out, and a link to a file that the site
does not have leads to the repository, or nowhere if that is not known. The navigation is what the README.md of each
section lists. The reference of the API is made here: one page for each public module, into which the builder writes
the docstrings.
"""

from __future__ import annotations

import importlib
import inspect
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
SECTIONS = ("start", "tutorials", "how-to", "explanation", "reference")
FRONTS = (
    "sealwax",
    "sealwax.errors",
    "sealwax.events",
    "sealwax.otel",
    "sealwax.kms",
    "sealwax.stores",
    "sealwax.stores.key_rows",
    "sealwax.stores.s3",
    "sealwax.records",
    "sealwax.records.moving",
    "sealwax.records.tables",
    "sealwax.records.testing",
    "sealwax.sqlalchemy",
    "sealwax.django",
    "sealwax.django.admin",
    "sealwax.fleet",
    "sealwax.fleet.spark",
    "sealwax.fleet.aws_lambda",
    "sealwax.policy",
    "sealwax.audit",
    "sealwax.prove",
    "sealwax.lab",
    "sealwax.lab.pytest_plugin",
)
# The files outside of docs/ that the site has too, and where.
_ALSO = {name: f"project/{name.lower()}" for name in ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")}
# What users do not search for, and would find first: the decisions, whose list has their titles, and the changelog.
_UNSEARCHED = "---\nsearch:\n  exclude: true\n---\n\n"
_KINDS = (".css", ".json", ".md", ".png", ".svg")
_FENCE = re.compile(r"^```(\w+) (?:not run: .*|file=(\S+))$", re.MULTILINE)
_LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s#]+)(#[^)\s]*)?\)")
# What is before an indented block, in reStructuredText; in Markdown, the indent is enough.
_LITERAL = re.compile(r"^(.*)::$", re.MULTILINE)
_CODE = re.compile(r"(^```.*?^```$|`[^`\n]+`(?!\]))", re.MULTILINE | re.DOTALL)


def place_of(path: Path) -> str | None:
    """Return the page that a file of the repository becomes, or None if the site does not have it."""
    name = path.relative_to(ROOT).as_posix()
    if name in _ALSO:
        return _ALSO[name]
    if path.is_dir():
        path /= "README.md"
    if not path.is_relative_to(DOCS) or not path.exists() or path.suffix not in _KINDS:
        return None
    place = path.relative_to(DOCS)
    return (place.with_name("index.md") if path.name == "README.md" else place).as_posix()


def staged(path: Path) -> str:
    """Return the text of a page as the site's builder reads it."""
    here = place_of(path)
    assert here is not None, path

    def link(match: re.Match[str]) -> str:
        picture, words, target, anchor = match[1], match[2], match[3], match[4] or ""
        if re.match(r"[a-z]+:", target):
            return match[0]
        file = Path(os.path.normpath(path.parent / target))
        if file.is_relative_to(DOCS / "reference/api"):
            return match[0]
        if not file.exists():
            raise SystemExit(f"{path.relative_to(ROOT)} links to {target}, which does not exist")
        place = place_of(file)
        if place is not None:
            return f"{picture}[{words}]({os.path.relpath(place, Path(here).parent)}{anchor})"
        home = repository()
        return f"[{words}]({home}/blob/main/{file.relative_to(ROOT).as_posix()}{anchor})" if home else words

    text = path.read_text("utf-8")
    if path == DOCS / "reference/api.md":  # on GitHub, the modules have no pages
        text = re.sub(r"^\| `(sealwax[\w.]*)` \|", r"| [`\1`](api/\1.md) |", text, flags=re.MULTILINE)
    text = _FENCE.sub(lambda match: f"```{match[1]}" + (f' title="{match[2]}"' if match[2] else ""), text)
    parts = _CODE.split(text)
    head = _UNSEARCHED if (path.parent.name == "decisions" and path.name != "README.md") or path.parent == ROOT else ""
    return head + "".join(part if number % 2 else _LINK.sub(link, part) for number, part in enumerate(parts))


def repository() -> str:
    """Return the URL of the repository, which GitHub tells the workflows that run there."""
    server, name = os.environ.get("GITHUB_SERVER_URL"), os.environ.get("GITHUB_REPOSITORY")
    return f"{server}/{name}" if server and name else ""


def public_names(front: str) -> list[str]:
    """Return the public names of a module, classes and functions apart.

    Raises:
        SystemExit: the module does not say which they are, or names one that it does not have.
    """
    module = importlib.import_module(front)
    names: list[str] | None = getattr(module, "__all__", None)
    if names is None:
        raise SystemExit(f"{front} has no __all__: a public module lists its public names there")
    if missing := [name for name in names if not hasattr(module, name)]:
        raise SystemExit(f"{front} does not have {', '.join(missing)}, which its __all__ names")
    return sorted(names, key=lambda name: (name.casefold(), name))


def api_pages() -> Iterator[tuple[str, str]]:
    """Yield the name of each page of the API and its text, in which the builder writes what the docstrings say."""
    shown: dict[tuple[str, int], str] = {}
    for front in FRONTS:
        module = importlib.import_module(front)
        doc = inspect.cleandoc(module.__doc__ or "").replace("``", "`")
        doc = _LITERAL.sub(lambda match: f"{match[1]}:" if match[1] else "", doc)
        lines = [f"# {front}", "", doc, ""]
        again: list[str] = []
        for name in public_names(front):
            first = shown.setdefault((name, id(getattr(module, name))), front)
            if first == front:
                lines += [f"::: {front}.{name}", ""]
            else:
                again.append(f"- [`{name}`]({first}.md#{first}.{name})")
        if again:
            lines += ["These names are described where they are imported from first:", "", *again, ""]
        yield f"{front}.md", "\n".join(lines)


def navigation() -> Iterator[str]:
    """Yield the lines of the navigation: a tab for each section, with the groups and pages that its README.md lists."""
    yield '[{ "Home" = "index.md" }'
    for section in (name for name in SECTIONS if (DOCS / name).exists()):
        text = staged(DOCS / section / "README.md")
        title, *groups = re.split(r"^##? (.*)$", text, flags=re.MULTILINE)[1:]
        yield f', {{ {json.dumps(title)} = ["{section}/index.md"'
        for heading, body in zip(["", *groups[1::2]], groups[::2], strict=True):
            pages = "".join(map(nav_entry(section), re.findall(r"^- \[(.*?)\]\((\S+?)\):", body, re.MULTILINE)))
            yield f", {{ {json.dumps(heading)} = [{pages.removeprefix(', ')}] }}" if heading else pages
        yield "] }"
    yield "]"


def nav_entry(section: str) -> Callable[[tuple[str, str]], str]:
    """Return what makes the entry of a page that a section lists."""

    def entry(listed: tuple[str, str]) -> str:
        title, page = listed[0].replace("`", ""), os.path.normpath(f"{section}/{listed[1]}")
        if page != "reference/api.md":
            return f", {{ {json.dumps(title)} = {json.dumps(page)} }}"
        below = "".join(f', {{ "{front}" = "reference/api/{front}.md" }}' for front in FRONTS)
        return f', {{ "API" = ["{page}"{below}] }}'

    return entry


def main(build: Path = ROOT / "build") -> None:
    """Write pages/ and site.toml into a folder."""
    pages = build / "pages"
    shutil.rmtree(pages, ignore_errors=True)
    for path in [*filter(Path.is_file, DOCS.rglob("*")), *(ROOT / name for name in _ALSO)]:
        if (place := place_of(path)) is None:
            continue
        (pages / place).parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".md":
            (pages / place).write_text(staged(path), encoding="utf-8")
        else:
            shutil.copyfile(path, pages / place)
    (pages / "reference/api").mkdir()
    for name, text in api_pages():
        (pages / "reference/api" / name).write_text(text, encoding="utf-8")
    settings = (DOCS / "site.toml").read_text("utf-8").replace('"../', f'"{os.path.relpath(ROOT, build)}/')
    named = settings.replace("\n[project]\n", f"\n[project]\nnav = {''.join(navigation())}\n")
    (build / "site.toml").write_text(named, encoding="utf-8")


if __name__ == "__main__":
    main()
